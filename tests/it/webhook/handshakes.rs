//! Handshakes: what providers send before, or in place of, events, and what they want to hear.

use std::sync::Arc;

use bytes::Bytes;
use data_encoding::{BASE64, HEXLOWER};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::Full;
use parking_lot::Mutex;
use ring::{hmac, signature::Ed25519KeyPair};
use tenon::{
    egress::{Answer, Egress, EgressConfig, EgressError, ExchangeLimits, Peer, Script},
    world::BoxFuture,
};

use super::rig::{NOW, Reply, Rig, connector_file, hmac_hex, limits, problems_of};

fn rig(preset: &str, more: &str) -> Rig {
    with_egress(preset, more, Egress::new(EgressConfig::default()))
}

fn with_egress(preset: &str, more: &str, egress: Egress) -> Rig {
    let tables = format!(
        "[stream.events]\nkey = \"$.id\"\n\n[stream.events.webhook]\npath = \"/in\"\nverify = \"{preset}\"\n\
         secret = \"{{{{ secret.HOOK }}}}\"\n{more}"
    );
    let rig = Rig::with_egress(&tables, limits(), egress);
    rig.vault.set("TOKEN", "t0ken");
    rig
}

async fn get(rig: &Rig, target: &str) -> Reply {
    ask(rig, Method::GET, target, &[], "").await
}

async fn ask(
    rig: &Rig,
    method: Method,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Reply {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    rig.send(request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()).await
}

const TOKEN: &str = "verify_token = \"{{ secret.TOKEN }}\"\n";

#[tokio::test(start_paused = true)]
async fn meta_hears_its_challenge_for_the_right_token() {
    let rig = rig("meta", TOKEN);
    let target = "/in?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=";
    let reply = get(&rig, &format!("{target}t0ken")).await;
    assert_eq!(reply.line(), "200 1158201444");
    assert_eq!(reply.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(reply.header("x-content-type-options"), "nosniff");
    for wrong in ["", "t0kem", "t0ken%20"] {
        assert_eq!(get(&rig, &format!("{target}{wrong}")).await.status, 401, "{wrong}");
    }
    let reply = get(&rig, "/in?hub.mode=subscribe&hub.challenge=1").await;
    assert_eq!(reply.status, 401);
    // A GET that is no handshake is nothing.
    let reply = get(&rig, "/in?hub.mode=unsubscribe").await;
    assert_eq!((reply.status.as_u16(), reply.header("allow")), (405, "POST"));
    // Nor does a POST get in by looking like one.
    let target = format!("{target}guess");
    assert_eq!(ask(&rig, Method::POST, &target, &[], "{\"id\":1}").await.status, 401);
    assert!(rig.events().is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_its_token_a_handshake_is_never_met() {
    let rig = rig("meta", &TOKEN.replace("TOKEN", "UNSET"));
    let target = "/in?hub.mode=subscribe&hub.challenge=1&hub.verify_token=";
    assert_eq!(get(&rig, target).await.status, 503);
    let file = |verify: &str, more: &str| {
        problems_of(&connector_file(
            "shop",
            &format!(
                "[stream.a]\nkey = \"$.id\"\n[stream.a.webhook]\npath = \"/a\"\nverify = \"{verify}\"\n\
                 secret = \"{{{{ secret.A }}}}\"\n{more}"
            ),
        ))
    };
    assert!(file("meta", "").contains(&"E0503".to_owned()));
    assert!(file("meta", "verify_token = \"\"").contains(&"E0504".to_owned()));
    assert!(file("github", TOKEN).contains(&"E0109".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn graph_hears_its_validation_token() {
    let rig = rig("msgraph", "");
    let target = "/in?validationToken=Validation%3A+Testing+client+application+reachability";
    let headers = [("content-type", "text/plain; charset=utf-8")];
    let reply = ask(&rig, Method::POST, target, &headers, "").await;
    assert_eq!(reply.line(), "200 Validation: Testing client application reachability");
    assert_eq!(reply.header("content-type"), "text/plain; charset=utf-8");
    let long = format!("/in?validationToken={}", "x".repeat(5000));
    assert_eq!(ask(&rig, Method::POST, &long, &[], "").await.status, 401);
}

/// A signed request with this body, as Zoom, Slack and Xero send it.
async fn signed(rig: &Rig, preset: &str, body: &str) -> Reply {
    let seconds = (NOW.0 / 1000).to_string();
    let v0 = format!("v0={}", hmac_hex("s3cret", format!("v0:{seconds}:{body}").as_bytes()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"s3cret");
    let plain = BASE64.encode(hmac::sign(&key, body.as_bytes()).as_ref());
    let headers = match preset {
        "zoom" => vec![("x-zm-request-timestamp", &*seconds), ("x-zm-signature", &*v0)],
        "slack" => vec![("x-slack-request-timestamp", &*seconds), ("x-slack-signature", &*v0)],
        _ => vec![("x-xero-signature", &*plain)],
    };
    ask(rig, Method::POST, "/in", &headers, body).await
}

#[tokio::test(start_paused = true)]
async fn zoom_hears_an_hmac_of_its_token_if_it_signed() {
    let rig = rig("zoom", "");
    let body =
        r#"{"event":"endpoint.url_validation","payload":{"plainToken":"qgg8vlvZRS6UYooatFL8Aw"}}"#;
    let encrypted = hmac_hex("s3cret", b"qgg8vlvZRS6UYooatFL8Aw");
    let expected =
        format!(r#"200 {{"plainToken":"qgg8vlvZRS6UYooatFL8Aw","encryptedToken":"{encrypted}"}}"#);
    assert_eq!(signed(&rig, "zoom", body).await.line(), expected);
    assert_eq!(rig.post_json("/in", body).await.status, 401);
    assert!(rig.events().is_empty());
}

#[tokio::test(start_paused = true)]
async fn slack_hears_its_challenge() {
    let rig = rig("slack", "");
    let body = r#"{"type":"url_verification","challenge":"3eZbrw1aB"}"#;
    assert_eq!(signed(&rig, "slack", body).await.line(), r#"200 {"challenge":"3eZbrw1aB"}"#);
    assert_eq!(rig.post_json("/in", body).await.status, 401);
}

#[tokio::test(start_paused = true)]
async fn xero_hears_200_where_it_signed_and_401_where_it_did_not() {
    let rig = rig("xero", "events = \"$.events[*]\"\n");
    let body =
        r#"{"events":[],"firstEventSequence":0,"lastEventSequence":0,"entropy":"S0m3r4Nd0mt3xt"}"#;
    assert_eq!(signed(&rig, "xero", body).await.line(), "200 ");
    let reply = ask(&rig, Method::POST, "/in", &[("x-xero-signature", "AAAA")], body).await;
    assert_eq!(reply.status, 401);
    assert!(rig.events().is_empty());
    let reply = signed(&rig, "xero", r#"{"events":[{"id":1}]}"#).await;
    assert_eq!((reply.line().as_str(), rig.events().len()), ("200 ", 1));
}

/// The vector that is published for X's handshake.
#[tokio::test(start_paused = true)]
async fn x_hears_an_hmac_of_its_nonce() {
    let rig = rig("x", "");
    rig.vault.set("HOOK", "consumer_secret");
    let reply = get(&rig, "/in?crc_token=challenge&nonce=1").await;
    let expected =
        r#"200 {"response_token":"sha256=sK4UwR/IcShb2OsUbPSWy6d8gFbkFu47TCu+K/nKFsE="}"#;
    assert_eq!(reply.line(), expected);
}

/// X's handshake is not signed: whoever asks chooses what is signed. An event is not signed for him.
#[tokio::test(start_paused = true)]
async fn a_handshake_signs_no_events() {
    let rig = rig("x", "");
    for event in ["{\"id\":1}", "id=1", "[1]", "\"id\"", "", "a b", "===", &"a".repeat(300)] {
        let query: String = url::form_urlencoded::byte_serialize(event.as_bytes()).collect();
        let reply = get(&rig, &format!("/in?crc_token={query}")).await;
        assert!(!reply.status.is_success(), "{event}: {}", reply.line());
    }
}

#[tokio::test(start_paused = true)]
async fn discord_hears_its_pings() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
    let rig = rig("discord", "");
    let public = ring::signature::KeyPair::public_key(&pair);
    rig.vault.set("HOOK", &HEXLOWER.encode(public.as_ref()));
    let seconds = (NOW.0 / 1000).to_string();
    let send = async |body: &str| {
        let signature = pair.sign(format!("{seconds}{body}").as_bytes());
        let signature = HEXLOWER.encode(signature.as_ref());
        let headers = [("x-signature-timestamp", &*seconds), ("x-signature-ed25519", &*signature)];
        ask(&rig, Method::POST, "/in", &headers, body).await
    };
    assert_eq!(send(r#"{"type":1,"id":"i"}"#).await.line(), r#"200 {"type":1}"#);
    assert_eq!(send(r#"{"type":0,"version":1}"#).await.line(), "204 ");
    assert!(rig.events().is_empty());
    let event = send(r#"{"type":1,"id":"e","event":{"type":"APPLICATION_AUTHORIZED"}}"#).await;
    assert_eq!((event.status.as_u16(), rig.events().len()), (204, 1));
    let reply = rig.post_json("/in", r#"{"type":1}"#).await;
    assert_eq!(reply.status, 401);
}

/// Answers with a certificate, and to a confirmation with this status.
struct Amazon {
    status: u16,
    asked: Mutex<Vec<String>>,
}

impl Script for Amazon {
    fn answer(
        &self,
        _peer: &Peer,
        request: Request<Bytes>,
        _limits: ExchangeLimits,
    ) -> BoxFuture<'_, Result<Answer, EgressError>> {
        let url = request.uri().to_string();
        let is_key = url.ends_with("/key.pem");
        self.asked.lock().push(url);
        let status = if is_key { 200 } else { self.status };
        let status = StatusCode::from_u16(status).unwrap();
        let body = include_str!("../fixtures/signer.pem").into();
        Box::pin(async move { Ok(Answer { status, headers: HeaderMap::new(), body }) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscription_of_sns_is_confirmed() {
    let topic = "arn:aws:sns:us-east-1:123456789012:orders";
    let confirm = "https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&Token=t";
    let message = |confirm: &str| {
        let signed = format!(
            "Message\nhello\nMessageId\nm\nSubscribeURL\n{confirm}\nTimestamp\n2023-11-14T22:13:20.000Z\n\
             Token\nt\nTopicArn\n{topic}\nType\nSubscriptionConfirmation\n"
        );
        let pair = include_bytes!("../../../src/ingest/webhook/pair.der");
        let pair = ring::signature::RsaKeyPair::from_pkcs8(pair).unwrap();
        let mut signature = vec![0; pair.public().modulus_len()];
        let random = ring::rand::SystemRandom::new();
        let padding = &ring::signature::RSA_PKCS1_SHA256;
        pair.sign(padding, &random, signed.as_bytes(), &mut signature).unwrap();
        serde_json::json!({
            "Type": "SubscriptionConfirmation", "MessageId": "m", "Token": "t", "TopicArn": topic,
            "Message": "hello", "SubscribeURL": confirm, "Timestamp": "2023-11-14T22:13:20.000Z",
            "SignatureVersion": "2", "Signature": BASE64.encode(&signature),
            "SigningCertURL": "https://sns.us-east-1.amazonaws.com/key.pem",
        })
        .to_string()
    };
    for (status, url, answered, asked) in [
        (200, confirm, 200, 2),
        (500, confirm, 503, 2),
        (200, "https://evil.example/?Action=ConfirmSubscription", 401, 1),
    ] {
        let amazon = Arc::new(Amazon { status, asked: Mutex::default() });
        let rig = with_egress("sns", "", Egress::scripted(amazon.clone()));
        rig.vault.set("HOOK", topic);
        let headers = [("content-type", "text/plain; charset=UTF-8")];
        let reply = rig.post("/in", &headers, message(url)).await;
        assert_eq!(reply.status, answered, "{url}: {}", reply.line());
        assert_eq!(amazon.asked.lock().len(), asked, "{:?}", amazon.asked.lock());
    }
    // Without a signature nothing is fetched but the certificate.
    let amazon = Arc::new(Amazon { status: 200, asked: Mutex::default() });
    let rig = with_egress("sns", "", Egress::scripted(amazon.clone()));
    rig.vault.set("HOOK", topic);
    let forged = message(confirm).replace("hello", "hellp");
    assert_eq!(rig.post_json("/in", &forged).await.status, 401);
    assert_eq!(amazon.asked.lock().len(), 1);
}
