//! Credentials: what a request carries, and when a token endpoint is asked.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use data_encoding::BASE64;
use http::Request;
use serde_json::{Value, json};
use tenon::{
    auth::{AuthError, Carried},
    bus::Bus,
    deliver::Outcome,
    plan::{AuthKind, AuthPlan, ClientAuth, Grant},
};
use tokio::{sync::Notify, task::JoinSet};

use super::parts::{HttpSettings, Shop, event, expr, get, oauth2, raw};
use crate::support::{MockServer, Reply, Seen};

fn plan(kind: AuthKind) -> AuthPlan {
    AuthPlan::new("erp", kind)
}

async fn apply(shop: &Shop, plan: &AuthPlan) -> Result<(Request<Bytes>, Carried), AuthError> {
    let mut request = get("https://erp.example/orders?a=b");
    let carried = shop.auth.apply("shop", plan, &shop.env(), &mut request).await?;
    Ok((request, carried))
}

/// The bearer token that a request would carry.
async fn token(shop: &Shop, plan: &AuthPlan) -> Result<String, AuthError> {
    let (request, _) = apply(shop, plan).await?;
    let value = request.headers()["authorization"].to_str().unwrap();
    Ok(value.strip_prefix("Bearer ").unwrap().to_owned())
}

fn form(seen: &Seen) -> Value {
    let pairs = url::form_urlencoded::parse(&seen.body).into_owned();
    Value::Object(pairs.map(|(name, value)| (name, Value::String(value))).collect())
}

/// Tokens `a1`, `a2`, …, each for so many seconds, with refresh tokens `r1`, `r2`, … if they rotate.
async fn issuer(expires_in: Value, rotates: bool) -> MockServer {
    let mut issued = 0;
    MockServer::start(move |_| {
        issued += 1;
        let mut answer = json!({"access_token": format!("a{issued}"), "expires_in": expires_in});
        if rotates {
            answer["refresh_token"] = format!("r{issued}").into();
        }
        Reply::json(answer)
    })
    .await
}

fn client_credentials(server: &MockServer) -> AuthPlan {
    plan(oauth2(server.url("/token"), Grant::ClientCredentials, ClientAuth::Basic))
}

fn refreshing(server: &MockServer) -> AuthPlan {
    let grant = Grant::RefreshToken { refresh_token: expr("{{ secret.FIRST }}") };
    plan(oauth2(server.url("/token"), grant, ClientAuth::Body))
}

async fn pass(seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

#[tokio::test]
async fn fixed_credentials_go_where_they_belong() {
    let shop = Shop::new();
    let secret = || expr("{{ secret.TOKEN }}");
    let (request, carried) =
        apply(&shop, &plan(AuthKind::Bearer { token: secret() })).await.unwrap();
    assert_eq!(request.headers()["authorization"], "Bearer t0k3n-s3cret");
    assert!(request.headers()["authorization"].is_sensitive());
    assert_eq!(carried.redact("bad token t0k3n-s3cret!"), "bad token [redacted]!");
    assert!(!format!("{carried:?}{request:?}").contains("s3cret"));

    let basic = AuthKind::Basic { user: expr("{{ secret.ID }}"), password: secret() };
    let (request, _) = apply(&shop, &plan(basic)).await.unwrap();
    let expected = format!("Basic {}", BASE64.encode(b"the-client:t0k3n-s3cret"));
    assert_eq!(request.headers()["authorization"], expected);

    let value = expr("Token {{ secret.TOKEN }}");
    let header = AuthKind::Header { name: "X-Api-Key".to_owned(), value };
    let (request, carried) = apply(&shop, &plan(header)).await.unwrap();
    assert_eq!(request.headers()["x-api-key"], "Token t0k3n-s3cret");
    assert_eq!(carried.redact("t0k3n-s3cret"), "[redacted]");

    let query = AuthKind::Query { name: "api key".to_owned(), value: expr("a&{{ secret.TOKEN }}") };
    let (request, carried) = apply(&shop, &plan(query)).await.unwrap();
    assert_eq!(request.uri(), "https://erp.example/orders?a=b&api%20key=a%26t0k3n%2Ds3cret");
    assert!(!shop.auth.refused("shop", &plan(AuthKind::Bearer { token: secret() }), &carried));
}

#[tokio::test(start_paused = true)]
async fn client_credentials_are_asked_for_once_and_again_at_80_percent() {
    let server = issuer(json!(100), false).await;
    let shop = Shop::new();
    let plan = client_credentials(&server);
    for _ in 0..3 {
        assert_eq!(token(&shop, &plan).await.unwrap(), "a1");
    }
    let seen = &server.seen()[0];
    let pair = BASE64.encode(b"the-client:cl1ent%2Bs3cret");
    assert_eq!(seen.header("authorization"), Some(&*format!("Basic {pair}")));
    assert_eq!(seen.header("accept"), Some("application/json"));
    assert_eq!(
        form(seen),
        json!({
            "grant_type": "client_credentials",
            "scope": "orders.read orders.write",
            "audience": "erp-acme",
        })
    );
    pass(79).await;
    assert_eq!(token(&shop, &plan).await.unwrap(), "a1");
    pass(1).await;
    assert_eq!(token(&shop, &plan).await.unwrap(), "a2");
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_life_may_be_a_text_or_missing() {
    let (text, missing) = (issuer(json!("100"), false).await, issuer(Value::Null, false).await);
    let shop = Shop::new();
    assert_eq!(token(&shop, &client_credentials(&text)).await.unwrap(), "a1");
    pass(81).await;
    assert_eq!(token(&shop, &client_credentials(&text)).await.unwrap(), "a2");
    assert_eq!(token(&shop, &client_credentials(&missing)).await.unwrap(), "a1");
    pass(2879).await;
    assert_eq!(token(&shop, &client_credentials(&missing)).await.unwrap(), "a1");
    pass(2).await;
    assert_eq!(token(&shop, &client_credentials(&missing)).await.unwrap(), "a2");
}

#[tokio::test]
async fn trap_9_many_at_once_cause_one_request() {
    let server = issuer(json!(3600), true).await;
    let shop = Arc::new(Shop::new());
    let plan = Arc::new(refreshing(&server));
    let mut all = JoinSet::new();
    for _ in 0..50 {
        let (shop, plan) = (shop.clone(), plan.clone());
        all.spawn(async move { token(&shop, &plan).await.unwrap() });
    }
    while let Some(token) = all.join_next().await {
        assert_eq!(token.unwrap(), "a1");
    }
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn many_at_once_share_one_failure() {
    for reply in [
        Reply::json(json!({"error": "invalid_client"})).with_status(401),
        Reply::text(503, "down").header("retry-after", "20"),
    ] {
        let server = MockServer::start(move |_| reply.clone()).await;
        let shop = Arc::new(Shop::new());
        let plan = Arc::new(client_credentials(&server));
        let mut all = JoinSet::new();
        for _ in 0..50 {
            let (shop, plan) = (shop.clone(), plan.clone());
            all.spawn(async move { token(&shop, &plan).await.unwrap_err() });
        }
        all.join_all().await;
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn others_go_on_with_the_old_token_while_one_refreshes() {
    let gate = Arc::new(Notify::new());
    let (opens, mut issued) = (gate.clone(), 0);
    let server = MockServer::start(move |_| {
        issued += 1;
        let reply = Reply::json(json!({"access_token": format!("a{issued}"), "expires_in": 1000}));
        if issued == 2 { reply.gate(&opens) } else { reply }
    })
    .await;
    let shop = Shop::new();
    let plan = client_credentials(&server);
    assert_eq!(token(&shop, &plan).await.unwrap(), "a1");
    pass(801).await;
    let refreshing = token(&shop, &plan);
    let others = async {
        server.wait_for(2).await;
        for _ in 0..10 {
            assert_eq!(token(&shop, &plan).await.unwrap(), "a1");
        }
        gate.notify_one();
    };
    let (refreshed, ()) = tokio::join!(refreshing, others);
    assert_eq!(refreshed.unwrap(), "a2");
    assert_eq!(token(&shop, &plan).await.unwrap(), "a2");
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_valid_token_outlives_a_failing_endpoint_which_is_left_in_peace() {
    let mut asked = 0;
    let server = MockServer::start(move |_| {
        asked += 1;
        if asked == 1 {
            Reply::json(json!({"access_token": "a1", "expires_in": 1000}))
        } else {
            Reply::text(500, "")
        }
    })
    .await;
    let shop = Shop::new();
    let plan = client_credentials(&server);
    token(&shop, &plan).await.unwrap();
    pass(800).await;
    for _ in 0..20 {
        assert_eq!(token(&shop, &plan).await.unwrap(), "a1");
    }
    assert_eq!(server.seen().len(), 2);
    pass(200).await;
    let AuthError::Later { message, retry_after } = token(&shop, &plan).await.unwrap_err() else {
        panic!("500 passes");
    };
    assert_eq!(message, "token endpoint: 500 Internal Server Error");
    assert_eq!(retry_after, Some(Duration::from_secs(2)));
    assert!(matches!(token(&shop, &plan).await, Err(AuthError::Later { .. })));
    assert_eq!(server.seen().len(), 3);
    pass(2).await;
    assert!(matches!(token(&shop, &plan).await, Err(AuthError::Later { .. })));
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_rotated_refresh_token_is_stored_and_used_next() {
    let server = issuer(json!(100), true).await;
    let shop = Shop::new();
    let plan = refreshing(&server);
    assert_eq!(token(&shop, &plan).await.unwrap(), "a1");
    assert!(shop.bus.state("auth/shop/erp").unwrap().ends_with(b"\"r1\"}"));
    pass(101).await;
    assert_eq!(token(&shop, &plan).await.unwrap(), "a2");
    // As after a restart: nothing is cached, the state is there.
    shop.auth.forget("shop");
    assert_eq!(token(&shop, &plan).await.unwrap(), "a3");
    let used: Vec<_> =
        server.seen().iter().map(|seen| form(seen)["refresh_token"].clone()).collect();
    assert_eq!(used, ["r0", "r1", "r2"]);
    let first = form(&server.seen()[0]);
    assert_eq!(
        (&first["grant_type"], &first["client_id"]),
        (&json!("refresh_token"), &json!("the-client"))
    );
    assert_eq!(first["client_secret"], "cl1ent+s3cret");
}

#[tokio::test(start_paused = true)]
async fn an_access_token_is_not_used_before_its_refresh_token_is_stored() {
    let server = issuer(json!(1000), true).await;
    let shop = Shop::new();
    let plan = refreshing(&server);
    shop.bus.refuse(Some("disk full".to_owned()));
    let AuthError::Later { message, .. } = token(&shop, &plan).await.unwrap_err() else {
        panic!("a full disk passes");
    };
    assert!(message.contains("disk full") && !message.contains("r1"), "{message}");
    shop.bus.refuse(None);
    pass(10).await;
    // The server takes only the newest: it was kept in memory.
    assert_eq!(token(&shop, &plan).await.unwrap(), "a2");
    assert_eq!(form(&server.seen()[1])["refresh_token"], "r1");
    assert!(shop.bus.state("auth/shop/erp").unwrap().ends_with(b"\"r2\"}"));
}

#[tokio::test]
async fn a_refresh_token_configured_anew_replaces_the_stored_one() {
    let server = issuer(json!(100), true).await;
    let shop = Shop::new();
    token(&shop, &refreshing(&server)).await.unwrap();
    let grant = Grant::RefreshToken { refresh_token: expr("{{ secret.TOKEN }}") };
    let renewed = plan(oauth2(server.url("/token"), grant, ClientAuth::Body));
    token(&shop, &renewed).await.unwrap();
    assert_eq!(form(&server.seen()[1])["refresh_token"], "t0k3n-s3cret");
}

#[tokio::test]
async fn what_only_a_person_can_mend_is_held_and_shows_no_secret() {
    for (reply, expected) in [
        (
            Reply::json(json!({
                "error": "invalid_grant",
                "error_description": "token r0-and cl1ent+s3cret is\nrevoked",
            }))
            .with_status(400),
            "token endpoint: 400 Bad Request: invalid_grant: token r0-and [redacted] is revoked",
        ),
        (
            Reply::json(json!({"error": "bad_refresh_token"})),
            "token endpoint: 200 OK: bad_refresh_token",
        ),
        (
            Reply::json(json!({"accessToken": "x", "ttl": 5})),
            "token endpoint: no `access_token` in the answer, whose keys are [\"accessToken\", \"ttl\"]",
        ),
        (Reply::text(404, "<html>"), "token endpoint: 404 Not Found"),
        (Reply::text(302, ""), "token endpoint: 302 Found"),
    ] {
        let server = MockServer::scripted([reply]).await;
        let shop = Shop::new();
        let error = token(&shop, &client_credentials(&server)).await.unwrap_err();
        assert_eq!(error, AuthError::Held(expected.to_owned()));
    }
}

#[tokio::test]
async fn what_passes_is_tried_later() {
    for reply in [
        Reply::text(429, ""),
        Reply::text(503, ""),
        Reply::json(json!({"error": "temporarily_unavailable"})).with_status(400),
        Reply::reset(),
    ] {
        let server = MockServer::scripted([reply]).await;
        let shop = Shop::new();
        let error = token(&shop, &client_credentials(&server)).await.unwrap_err();
        assert!(matches!(error, AuthError::Later { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn only_the_refused_token_is_forgotten() {
    let server = issuer(json!(3600), false).await;
    let shop = Shop::new();
    let plan = client_credentials(&server);
    let (_, first) = apply(&shop, &plan).await.unwrap();
    let (_, same) = apply(&shop, &plan).await.unwrap();
    assert!(shop.auth.refused("shop", &plan, &first));
    assert_eq!(token(&shop, &plan).await.unwrap(), "a2");
    // The second request with the old token comes back late: the new one stays.
    assert!(shop.auth.refused("shop", &plan, &same));
    assert_eq!(token(&shop, &plan).await.unwrap(), "a2");
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_401_is_answered_by_one_resend_with_a_new_token_and_the_same_key() {
    let tokens = issuer(json!(3600), false).await;
    let erp = MockServer::start(|seen| match seen.header("authorization") {
        Some("Bearer a1") => Reply::text(401, "expired"),
        _ => Reply::text(200, ""),
    })
    .await;
    let shop = Shop::new();
    let auth = Some(client_credentials(&tokens).kind);
    let settings = HttpSettings { auth, ..HttpSettings::post(erp.url("/")) };
    let destination = shop.destination(settings).unwrap();
    let event = event("1001", "{}");
    let outcome = destination.attempt(&event, &raw(&event), &shop.env()).await.outcome;
    assert_eq!(outcome, Outcome::Delivered { status: Some(200) });
    let seen = erp.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].header("idempotency-key"), seen[1].header("idempotency-key"));
    assert_eq!(seen[1].header("authorization"), Some("Bearer a2"));
}

#[tokio::test]
async fn a_401_that_stays_holds_after_one_resend() {
    let tokens = issuer(json!(3600), false).await;
    let erp = MockServer::start(|seen| {
        Reply::text(401, &format!("no: {}", seen.header("authorization").unwrap()))
    })
    .await;
    let shop = Shop::new();
    let fetched = client_credentials(&tokens).kind;
    let configured = AuthKind::Bearer { token: expr("{{ secret.TOKEN }}") };
    for (auth, requests) in [(fetched, 2), (configured, 1)] {
        let before = erp.seen().len();
        let settings = HttpSettings { auth: Some(auth), ..HttpSettings::post(erp.url("/")) };
        let destination = shop.destination(settings).unwrap();
        let event = event("1001", "{}");
        let outcome = destination.attempt(&event, &raw(&event), &shop.env()).await.outcome;
        let Outcome::Held { status: Some(401), message } = outcome else { panic!("{outcome:?}") };
        assert!(!message.contains("s3cret"), "{message}");
        assert_eq!(erp.seen().len() - before, requests);
    }
}

#[tokio::test]
async fn a_token_endpoint_that_is_down_defers_and_a_refusal_holds() {
    let event = event("1001", "{}");
    for (reply, held) in [
        (Reply::text(503, "").header("retry-after", "30"), false),
        (Reply::json(json!({"error": "invalid_grant"})).with_status(400), true),
    ] {
        let tokens = MockServer::scripted([reply]).await;
        let shop = Shop::new();
        let auth = Some(client_credentials(&tokens).kind);
        let settings =
            HttpSettings { auth, ..HttpSettings::post("http://127.0.0.1:1/".to_owned()) };
        let destination = shop.destination(settings).unwrap();
        let outcome = destination.attempt(&event, &raw(&event), &shop.env()).await.outcome;
        match outcome {
            Outcome::Deferred { retry_after, .. } if !held => {
                assert_eq!(retry_after, Some(Duration::from_secs(30)));
            }
            Outcome::Held { status: None, .. } if held => {}
            other => panic!("{other:?}"),
        }
    }
}
