//! Tokens and requests that are signed here.

use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use http::Request;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use serde_json::{Value, json};
use tenon::{auth::AuthError, world::Timestamp};

use super::rig::{Rig, THEN, der, header, pem, said};
use crate::support::{MockServer, Reply};

fn part(token: &str, at: usize) -> Value {
    let part = token.split('.').nth(at).unwrap();
    serde_json::from_slice(&BASE64URL_NOPAD.decode(part.as_bytes()).unwrap()).unwrap()
}

fn verify(token: &str, algorithm: &'static dyn VerificationAlgorithm, key: &str) {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap();
    UnparsedPublicKey::new(algorithm, der(key)).verify(signed.as_bytes(), &signature).unwrap();
}

fn jwt(algorithm: &str) -> String {
    format!(
        "[vars]\nnumber = 478\n[auth.api]\ntype = \"jwt\"\n[auth.api.jwt]\nalgorithm = \"{algorithm}\"\n\
         key = \"{{{{ secret.KEY }}}}\"\nttl = \"10m\"\nheader = {{ kid = \"k-1\" }}\n\
         [auth.api.jwt.claims]\niss = \"{{{{ secret.APP }}}}\"\ntext = \"478\"\n\
         number = \"{{{{ vars.number }}}}\"\njti = \"{{{{ nonce }}}}\"\nnbf = \"{{{{ timestamp }}}}\"\n\
         data = {{ roles = [\"reader\"] }}\n"
    )
}

#[tokio::test(start_paused = true)]
async fn a_token_says_what_the_file_says_and_478_stays_a_text() {
    let rig = Rig::new(&jwt("HS256"), &[("KEY", "k3y-s3cret"), ("APP", "478")]);
    let request = rig.get("https://api.example/").await;
    let token = header(&request, "authorization").strip_prefix("Bearer ").unwrap();
    assert_eq!(part(token, 0), json!({"alg": "HS256", "typ": "JWT", "kid": "k-1"}));
    let now = THEN.0 / 1_000;
    let claims = part(token, 1);
    let nonce = claims["jti"].as_str().unwrap();
    assert_eq!(nonce.len(), 32);
    assert_eq!(
        claims,
        json!({
            "iss": "478", "text": "478", "number": 478, "jti": nonce, "nbf": now,
            "data": {"roles": ["reader"]}, "iat": now, "exp": now + 600,
        })
    );
    // RFC 7515: HMAC over what stands before the last dot.
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"k3y-s3cret");
    let expected = ring::hmac::sign(&key, signed.as_bytes());
    assert_eq!(signature, BASE64URL_NOPAD.encode(expected.as_ref()));
    // One token until its last fifth begins.
    tokio::time::advance(std::time::Duration::from_secs(479)).await;
    let same = rig.get("https://api.example/").await;
    assert_eq!(header(&same, "authorization"), header(&request, "authorization"));
    tokio::time::advance(std::time::Duration::from_secs(2)).await;
    let other = rig.get("https://api.example/").await;
    assert_ne!(header(&other, "authorization"), header(&request, "authorization"));
}

#[tokio::test(start_paused = true)]
async fn private_keys_are_taken_in_every_usual_form() {
    let one_line = |pem: String| pem.replace('\n', "\\n");
    for (algorithm, key) in [
        ("RS256", pem("PRIVATE KEY", "rsa")),
        ("RS256", pem("RSA PRIVATE KEY", "rsa_pkcs1")),
        ("RS256", one_line(pem("PRIVATE KEY", "rsa"))),
        ("ES256", pem("PRIVATE KEY", "p256")),
        ("ES256", pem("EC PRIVATE KEY", "p256_sec1")),
    ] {
        let rig = Rig::new(&jwt(algorithm), &[("KEY", &key), ("APP", "a")]);
        let request = rig.get("https://api.example/").await;
        let token = header(&request, "authorization").strip_prefix("Bearer ").unwrap();
        match algorithm {
            "RS256" => verify(token, &RSA_PKCS1_2048_8192_SHA256, "rsa_public"),
            _ => verify(token, &ECDSA_P256_SHA256_FIXED, "p256_public"),
        }
        assert_eq!(part(token, 0)["alg"], algorithm);
    }
    // A key of another kind is refused, and not shown.
    for (algorithm, key) in [
        ("RS256", pem("PRIVATE KEY", "p256")),
        ("ES256", pem("PRIVATE KEY", "rsa")),
        ("RS256", "s3cret and no PEM".to_owned()),
    ] {
        let rig = Rig::new(&jwt(algorithm), &[("KEY", &key), ("APP", "a")]);
        let AuthError::Held(message) = rig.failure().await else { panic!("not held") };
        assert!(message.starts_with("auth.api.jwt.key: "), "{message}");
        assert!(!message.contains("s3cret") && !message.contains("MI"), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_assertion_is_a_grant_and_proves_a_client() {
    let server = MockServer::start(|_| Reply::json(json!({"access_token": "t-1"}))).await;
    let tables = format!(
        "[auth.api]\ntype = \"oauth2\"\ngrant = \"jwt_bearer\"\ntoken_url = \"{0}\"\n\
         [auth.api.jwt]\nalgorithm = \"RS256\"\nkey = \"{{{{ secret.RSA }}}}\"\nttl = \"1h\"\n\
         claims = {{ iss = \"bot@project.example\", scope = \"sheets.readonly\" }}\n",
        server.url("/token")
    );
    let rig = Rig::new(&tables, &[("RSA", &pem("PRIVATE KEY", "rsa"))]);
    assert_eq!(header(&rig.get("https://api.example/").await, "authorization"), "Bearer t-1");
    let form = fields(&server.seen()[0].body);
    assert_eq!(form["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
    let assertion = form["assertion"].as_str().unwrap();
    verify(assertion, &RSA_PKCS1_2048_8192_SHA256, "rsa_public");
    let claims = part(assertion, 1);
    assert_eq!(claims["iss"], "bot@project.example");
    assert_eq!(claims["aud"], server.url("/token").as_str());
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 3_600);

    let tables = format!(
        "[auth.api]\ntype = \"oauth2\"\ngrant = \"client_credentials\"\ntoken_url = \"{0}\"\n\
         client_id = \"client-7\"\nclient_auth = \"private_key_jwt\"\nparams = {{ resource = \"r\" }}\n\
         as = {{ header = \"Authorization\", value = \"Zoho-oauthtoken {{{{ token }}}}\" }}\n\
         [auth.api.client_jwt]\nalgorithm = \"ES256\"\nkey = \"{{{{ secret.EC }}}}\"\n",
        server.url("/token")
    );
    let rig = Rig::new(&tables, &[("EC", &pem("PRIVATE KEY", "p256"))]);
    let request = rig.get("https://api.example/").await;
    assert_eq!(header(&request, "authorization"), "Zoho-oauthtoken t-1");
    let form = fields(&server.seen()[1].body);
    assert_eq!(form["grant_type"], "client_credentials");
    assert_eq!(form["client_id"], "client-7");
    assert_eq!(form["resource"], "r");
    assert!(form.get("client_secret").is_none());
    let proof = form["client_assertion"].as_str().unwrap();
    verify(proof, &ECDSA_P256_SHA256_FIXED, "p256_public");
    let claims = part(proof, 1);
    assert_eq!((&claims["iss"], &claims["sub"]), (&json!("client-7"), &json!("client-7")));
    assert_eq!(claims["aud"], server.url("/token").as_str());
    assert_eq!(claims["jti"].as_str().unwrap().len(), 32);
}

fn fields(body: &[u8]) -> Value {
    let pairs = url::form_urlencoded::parse(body).into_owned();
    Value::Object(pairs.map(|(name, value)| (name, Value::String(value))).collect())
}

/// The vectors of AWS's `aws4_testsuite`, its worked example of `ListUsers`, and that of S3's `GET
/// Object`: keys, times and signatures are the published ones.
#[tokio::test(start_paused = true)]
async fn signature_version_4_reproduces_the_published_vectors() {
    let id = "AKIDEXAMPLE";
    let key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    let form = "application/x-www-form-urlencoded";
    let bare = "https://example.amazonaws.com/";
    let list = "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08";
    let vectors: [(&str, &str, &str, &str, &str, &str); 6] = [
        (
            "service",
            "GET",
            bare,
            "",
            "",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            "service",
            "GET",
            "https://example.amazonaws.com/?Param2=value2&Param1=value1",
            "",
            "",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "service",
            "POST",
            bare,
            "",
            "",
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        ),
        (
            "service",
            "POST",
            bare,
            form,
            "Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
        (
            "iam",
            "GET",
            list,
            "application/x-www-form-urlencoded; charset=utf-8",
            "",
            "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
        ),
        (
            "s3",
            "GET",
            "https://examplebucket.s3.amazonaws.com/test.txt",
            "",
            "",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
    ];
    for (service, method, url, kind, body, signature) in vectors {
        let tables = format!(
            "[auth.api]\ntype = \"sigv4\"\naccess_key = \"{{{{ secret.ID }}}}\"\n\
             secret_key = \"{{{{ secret.KEY }}}}\"\nregion = \"us-east-1\"\nservice = \"{service}\"\n"
        );
        let is_s3 = service == "s3";
        let (now, key) = if is_s3 {
            (Timestamp(1_369_353_600_000), "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
        } else {
            (THEN, key)
        };
        let rig = Rig::at(now, &tables, &[("ID", id), ("KEY", key)]);
        let mut request = Request::builder().method(method).uri(url);
        if !kind.is_empty() {
            request = request.header("content-type", kind);
        }
        if is_s3 {
            request = request.header("range", "bytes=0-9");
        }
        // What is no part of the signature changes nothing.
        let request = request.header("user-agent", "tenon");
        let request = request.body(Bytes::copy_from_slice(body.as_bytes())).unwrap();
        let (request, carried) = rig.put_into(request).await.unwrap();
        let authorization = header(&request, "authorization");
        assert!(
            authorization.ends_with(&format!("Signature={signature}")),
            "{url}: {authorization}"
        );
        assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20"));
        assert_eq!(carried.redact(&format!("bad {signature}")), "bad [redacted]");
    }
}

#[tokio::test(start_paused = true)]
async fn temporary_credentials_are_signed_along_and_a_plus_is_a_blank() {
    let tables = "[auth.api]\ntype = \"sigv4\"\naccess_key = \"{{ secret.ID }}\"\n\
                  secret_key = \"{{ secret.KEY }}\"\nsession_token = \"{{ secret.SESSION }}\"\n\
                  region = \"eu-central-1\"\nservice = \"execute-api\"\n";
    let secrets = [("ID", "AKID"), ("KEY", "k3y-s3cret"), ("SESSION", "s3ssion-s3cret")];
    let rig = Rig::new(tables, &secrets);
    let request = rig.get("https://api.example/a%20b/c?q=x+y&empty&b=%7e*").await;
    assert_eq!(request.uri(), "https://api.example/a%20b/c?b=~%2A&empty=&q=x%20y");
    assert_eq!(header(&request, "x-amz-security-token"), "s3ssion-s3cret");
    assert!(request.headers()["x-amz-security-token"].is_sensitive());
    let authorization = header(&request, "authorization");
    assert!(authorization.contains("SignedHeaders=host;x-amz-date;x-amz-security-token,"));
    assert!(!format!("{request:?}").contains("s3cret"));
}

#[tokio::test(start_paused = true)]
async fn a_request_is_signed_over_what_the_file_names() {
    let tables = "[auth.api]\ntype = \"hmac\"\nalgorithm = \"hmac-sha512\"\nencode = \"base64\"\n\
        timestamp = \"ms\"\n\
        signed = \"{{ method }}\\n{{ host }}{{ path }}?{{ sorted_query }}\\n{{ timestamp }}\\n{{ nonce }}\\n{{ body_sha256 }}\\n{{ body }}\\n{{ request.headers['x-app'] }}\"\n\
        key = { secret = \"{{ secret.KEY }}\", strip = \"whsec_\", decode = \"base64\" }\n\
        [auth.api.headers]\nX-Timestamp = \"{{ timestamp }}\"\nX-Nonce = \"{{ nonce }}\"\n\
        Authorization = \"HMAC {{ secret.ID }}:{{ signature }}\"\n\
        [auth.api.query]\nsig = \"{{ signature }}\"\n";
    let rig = Rig::new(tables, &[("KEY", "whsec_azN5LXMzY3JldA=="), ("ID", "478")]);
    let made = || {
        let request =
            Request::post("https://api.example/v1/orders?b=2&a=1").header("x-app", "tenon");
        request.body(Bytes::from_static(b"{\"id\":478}")).unwrap()
    };
    let (request, carried) = rig.put_into(made()).await.unwrap();
    let nonce = header(&request, "x-nonce").to_owned();
    assert_eq!(header(&request, "x-timestamp"), "1440938160000");
    let body_hash = ring::digest::digest(&ring::digest::SHA256, b"{\"id\":478}");
    let signed = format!(
        "POST\napi.example/v1/orders?a=1&b=2\n1440938160000\n{nonce}\n{}\n{{\"id\":478}}\ntenon",
        data_encoding::HEXLOWER.encode(body_hash.as_ref())
    );
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA512, b"k3y-s3cret");
    let signature =
        data_encoding::BASE64.encode(ring::hmac::sign(&key, signed.as_bytes()).as_ref());
    assert_eq!(header(&request, "authorization"), format!("HMAC 478:{signature}"));
    let query: Vec<_> = url::form_urlencoded::parse(request.uri().query().unwrap().as_bytes())
        .into_owned()
        .collect();
    assert_eq!(query[2], ("sig".to_owned(), signature.clone()));
    assert!(!request.headers()["x-timestamp"].is_sensitive());
    assert!(request.headers()["authorization"].is_sensitive());
    assert_eq!(carried.redact(&format!("is not {signature}")), "is not [redacted]");
    // Each request is signed anew.
    let (again, _) = rig.put_into(made()).await.unwrap();
    assert_ne!(header(&again, "x-nonce"), nonce);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_empty_or_does_not_decode_signs_nothing() {
    let tables = "[auth.api]\ntype = \"hmac\"\nsigned = \"{{ body }}\"\n\
        key = { secret = \"{{ secret.KEY }}\", strip = \"p_\", decode = \"hex\" }\n\
        headers = { X-Sig = \"{{ signature }}\" }\n";
    for key in ["p_", "p_zz"] {
        let rig = Rig::new(tables, &[("KEY", key)]);
        let AuthError::Held(message) = rig.failure().await else { panic!("not held") };
        assert!(message.starts_with("auth.api.key.secret: the key "), "{message}");
        assert!(!message.contains(key), "{message}");
    }
}

#[test]
fn what_cannot_work_is_said_when_the_file_is_loaded() {
    let jwt = "[auth.api]\ntype = \"jwt\"\n[auth.api.jwt]\nalgorithm = \"none\"\nkey = \"{{ secret.K }}\"\n\
               claims = { exp = 1 }\n";
    insta::assert_snapshot!(said("api", jwt));
    let hmac = "[auth.api]\ntype = \"hmac\"\nkey = \"{{ secret.K }}\"\nsigned = \"{{ bodi }}\"\n\
                timestamp = \"seconds\"\nencode = \"raw\"\nheaders = { X-Sig = \"{{ signature }}\" }\n";
    insta::assert_snapshot!(said("api", hmac));
    let grant = "[auth.api]\ntype = \"oauth2\"\ngrant = \"jwt_bearer\"\ntoken_url = \"https://l.example/\"\n\
                 refresh_token = \"{{ secret.R }}\"\nclient_auth = \"private_key_jwt\"\n\
                 as = { header = \"X-Token\", value = \"Token\" }\n";
    insta::assert_snapshot!(said("api", grant));
}
