//! `login`: a session's token from a request of the file's own making.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use serde_json::json;
use tenon::auth::AuthError;
use tokio::task::JoinSet;

use super::rig::{Rig, header, pem, said};
use crate::support::{MockServer, Reply, walk::Walk};

fn session(server: &MockServer, more: &str) -> String {
    format!(
        "[source]\nbase = \"{}\"\n[auth.api]\ntype = \"login\"\ntoken = \"$.data.token\"\n{more}\n\
         [auth.api.request]\npath = \"/sessions\"\nquery = {{ v = \"{{{{ nonce }}}}\" }}\n\
         headers = {{ X-App = \"tenon\" }}\n\
         [auth.api.request.body]\nuser = \"478\"\npassword = \"{{{{ secret.PASSWORD }}}}\"\n",
        server.url("/v2")
    )
}

/// Tokens `t1`, `t2`, …
async fn issuer() -> MockServer {
    let mut issued = 0;
    MockServer::start(move |_| {
        issued += 1;
        Reply::json(json!({"data": {"token": format!("t{issued}-s3ssion"), "life": 600}}))
            .with_status(201)
    })
    .await
}

const SECRETS: &[(&str, &str)] = &[("PASSWORD", "p4ss-s3cret"), ("KEY", "k3y-s3cret")];

#[tokio::test(start_paused = true)]
async fn a_login_is_asked_for_once_and_again_at_80_percent() {
    let server = issuer().await;
    let rig = Rig::new(&session(&server, "ttl = \"$.data.life\""), SECRETS);
    let request = rig.get("https://api.example/").await;
    assert_eq!(header(&request, "authorization"), "Bearer t1-s3ssion");
    let seen = &server.seen()[0];
    assert_eq!((seen.method.as_str(), seen.path()), ("POST", "/v2/sessions"));
    assert_eq!(seen.param("v").unwrap().len(), 32);
    assert_eq!(seen.header("x-app"), Some("tenon"));
    assert_eq!(seen.text(), r#"{"user":"478","password":"p4ss-s3cret"}"#);
    tokio::time::advance(Duration::from_secs(479)).await;
    rig.get("https://api.example/").await;
    assert_eq!(server.seen().len(), 1);
    tokio::time::advance(Duration::from_secs(2)).await;
    let request = rig.get("https://api.example/").await;
    assert_eq!(header(&request, "authorization"), "Bearer t2-s3ssion");
}

#[tokio::test(start_paused = true)]
async fn trap_9_many_logins_at_once_are_one_request() {
    let server = issuer().await;
    let rig = std::sync::Arc::new(Rig::new(&session(&server, ""), SECRETS));
    let mut all = JoinSet::new();
    for _ in 0..50 {
        let rig = rig.clone();
        all.spawn(async move {
            header(&rig.get("https://api.example/").await, "authorization").to_owned()
        });
    }
    while let Some(token) = all.join_next().await {
        assert_eq!(token.unwrap(), "Bearer t1-s3ssion");
    }
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_goes_where_the_file_says() {
    for (place, check) in [
        ("as = { header = \"X-Session\" }", "x-session: t1-s3ssion"),
        (
            "as = { header = \"Authorization\", value = \"Splunk {{ token }}\" }",
            "authorization: Splunk t1-s3ssion",
        ),
        ("as = { cookie = \"SID\" }", "cookie: a=b; SID=t1-s3ssion"),
        ("as = { query = \"sid\" }", "?q=1&sid=t1%2Ds3ssion"),
    ] {
        let server = issuer().await;
        let rig = Rig::new(&session(&server, place), SECRETS);
        let request = Request::get("https://api.example/?q=1").header("cookie", "a=b");
        let (request, carried) = rig.put_into(request.body(Bytes::new()).unwrap()).await.unwrap();
        let text = match check.split_once(": ") {
            Some((name, _)) => format!("{name}: {}", header(&request, name)),
            None => format!("?{}", request.uri().query().unwrap()),
        };
        assert_eq!(text, check);
        assert_eq!(carried.redact("no session t1-s3ssion"), "no session [redacted]");
    }
}

/// A GitHub App: a token that is signed here asks for one that is not.
#[tokio::test(start_paused = true)]
async fn a_login_may_itself_be_authenticated() {
    let mut asked = 0;
    let server = MockServer::start(move |_| {
        asked += 1;
        match asked {
            // The first signed token came too early for the peer's clock.
            1 => Reply::status(401),
            _ => Reply::json(json!({"token": "ghs-1", "expires_at": "2015-08-30T13:36:00Z"})),
        }
    })
    .await;
    let tables = format!(
        "[auth.api]\ntype = \"login\"\ntoken = \"$.token\"\nttl = \"$.expires_at\"\n\
         request = {{ path = \"{}\", auth = \"app\", method = \"POST\" }}\n\
         [auth.app]\ntype = \"jwt\"\n[auth.app.jwt]\nalgorithm = \"RS256\"\n\
         key = \"{{{{ secret.RSA }}}}\"\nclaims = {{ iss = \"123\" }}\n",
        server.url("/app/installations/7/access_tokens")
    );
    let rig = Rig::new(&tables, &[("RSA", &pem("PRIVATE KEY", "rsa"))]);
    assert_eq!(header(&rig.get("https://api.example/").await, "authorization"), "Bearer ghs-1");
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|it| it.header("authorization").unwrap().starts_with("Bearer eyJ")));
    // 80 % of the hour that the answer names.
    tokio::time::advance(Duration::from_secs(2_878)).await;
    rig.get("https://api.example/").await;
    assert_eq!(server.seen().len(), 2);
    tokio::time::advance(Duration::from_secs(3)).await;
    rig.get("https://api.example/").await;
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_401_logs_in_once_more() {
    let server = issuer().await;
    let rig = Rig::new(&session(&server, ""), SECRETS);
    let made = || Request::get("https://api.example/").body(Bytes::new()).unwrap();
    let (_, first) = rig.put_into(made()).await.unwrap();
    assert!(rig.refused(&first));
    let (request, _) = rig.put_into(made()).await.unwrap();
    assert_eq!(header(&request, "authorization"), "Bearer t2-s3ssion");
    // Somebody else's old token is no reason to ask again.
    rig.refused(&first);
    rig.put_into(made()).await.unwrap();
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_goes_wrong_is_said_without_what_was_sent_or_granted() {
    let echo = |status: u16| {
        Reply::json(json!({
            "error": "no p4ss-s3cret\nhere", "token": "t0ken-s3cret", "data": {"sid": "s1d-s3cret"},
        }))
        .with_status(status)
    };
    for (status, held) in [(401, true), (422, true), (503, false), (200, true)] {
        let server = MockServer::start(move |_| echo(status)).await;
        let rig = Rig::new(&session(&server, ""), SECRETS);
        let error = rig.failure().await;
        assert_eq!(matches!(error, AuthError::Held(_)), held, "{error}");
        let message = format!("{error} {error:?}");
        assert!(!message.contains("s3cret"), "{message}");
        let expected = match status {
            200 => "login: no `$.data.token` in the answer, whose keys are [\"error\", \"token\", \"data\"]".to_owned(),
            _ => format!("login: {}", http::StatusCode::from_u16(status).unwrap()),
        };
        assert!(message.starts_with(&expected), "{message}");
    }
}

/// A peer that repeats the token that it was shown: neither the failure nor what is kept has it.
#[tokio::test(start_paused = true)]
async fn a_token_that_an_api_repeats_is_in_no_message() {
    for status in [200, 401, 403, 404] {
        let server = MockServer::start(move |seen| {
            if seen.path() == "/login" {
                return Reply::json(json!({"token": "t0ken-fr3sh", "user": "x"}));
            }
            let shown = seen.header("authorization").unwrap_or_default().to_owned();
            Reply::text(status, &format!("I was shown {shown} and {}", &shown[7..]))
        })
        .await;
        let walk = Walk::new(
            &server,
            "auth = \"api\"\n[auth.api]\ntype = \"login\"\ntoken = \"$.token\"\n\
             request = { path = \"/login\", form = { k = \"{{ secret.KEY }}\" } }\n\
             [stream.orders.poll]\npath = \"/orders\"\n",
        );
        let failure = format!("{:?}", walk.failure().await);
        assert!(!failure.contains("fr3sh"), "{failure}");
    }
}

#[test]
fn a_login_that_cannot_work_is_said_when_the_file_is_loaded() {
    let tables = "[auth.api]\ntype = \"login\"\ntoken = \"$.token\"\nttl = \"soon\"\n\
        as = { header = \"X\", query = \"y\" }\n\
        request = { path = \"/login\", method = \"GET\", body = { a = \"{{ record.id }}\" }, auth = \"other\" }\n\
        [auth.other]\ntype = \"login\"\ntoken = \"$.t\"\nrequest = { path = \"https://l.example/\" }\n";
    insta::assert_snapshot!(said("api", tables));
}
