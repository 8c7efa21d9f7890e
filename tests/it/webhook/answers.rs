//! What a producer is answered.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use tenon::{ingest::webhook::Routes, world::Timestamp};

use super::rig::{
    NOW, ORDER, ORDERS, Rig, SIGNED_ORDERS, connector_file, hmac_hex, limits, plan_of,
};

#[tokio::test(start_paused = true)]
async fn an_event_is_answered_with_its_id_once_the_bus_has_it() {
    let rig = Rig::new(ORDERS);
    let reply = rig.post_json("/orders", ORDER).await;
    let events = rig.events();
    assert_eq!(events.len(), 1);
    let event = &events[0];
    assert_eq!(reply.line(), format!("202 {{\"id\":\"{}\"}}", event.id));
    assert_eq!(reply.header("content-type"), "application/json");
    assert_eq!(event.record.bytes(), ORDER.as_bytes());
    assert_eq!((&*event.connector, &*event.stream), ("shop", "orders"));
    assert_eq!((event.key.as_str(), event.revision.as_str()), ("1001", "2026-11-20T09:00:00Z"));
    assert_eq!(event.order, Timestamp::parse_rfc3339("2026-11-20T09:00:00Z").map(|at| at.0));
    assert_eq!(event.received_at, NOW);
    insta::assert_snapshot!(rig.counted(), @r"
    acknowledged 1
    shop/orders accepted 1
    ");
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_gets_the_same_answer() {
    let rig = Rig::new(ORDERS);
    let first = rig.post_json("/orders", ORDER).await;
    let again =
        rig.post_json("/orders", r#"{"updated_at":"2026-11-20T09:00:00Z","id":1001}"#).await;
    assert_eq!(first.line(), again.line());
    let newer =
        rig.post_json("/orders", r#"{"updated_at":"2026-11-20T09:00:01Z","id":1001}"#).await;
    assert_ne!(first.id(), newer.id());
    assert_eq!(rig.events().len(), 2);
    insta::assert_snapshot!(rig.counted(), @r"
    acknowledged 3
    shop/orders accepted 2
    shop/orders duplicate 1
    ");
}

#[tokio::test]
async fn copies_that_arrive_at_once_are_one_event() {
    let rig = std::sync::Arc::new(Rig::new(ORDERS));
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let rig = rig.clone();
        requests.spawn(async move { rig.post_json("/orders", ORDER).await.line() });
    }
    let mut answers = requests.join_all().await;
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(rig.events().len(), 1);
}

/// Field trap 6: a claim that is made before verification lets a forged request swallow the
/// genuine one.
#[tokio::test]
async fn trap_6_a_forged_request_claims_nothing() {
    let rig = Rig::new(SIGNED_ORDERS);
    let forged = format!("sha256={}", hmac_hex("guess", ORDER.as_bytes()));
    let genuine = format!("sha256={}", hmac_hex("s3cret", ORDER.as_bytes()));
    let refused = rig.post("/orders", &[("x-hub-signature-256", &forged)], ORDER).await;
    assert_eq!(refused.line(), r#"401 {"error":"bad_signature"}"#);
    assert_eq!(rig.post("/orders", &[], ORDER).await.line(), refused.line());
    assert!(rig.events().is_empty());
    let accepted = rig.post("/orders", &[("x-hub-signature-256", &genuine)], ORDER).await;
    assert_eq!(accepted.status, 202);
    insta::assert_snapshot!(rig.counted(), @r"
    acknowledged 1
    shop/orders accepted 1
    shop/orders bad_signature 2
    ");
}

/// Field trap 7: a route whose secret is missing lets nobody in, and everybody again once it is
/// there.
#[tokio::test(start_paused = true)]
async fn trap_7_without_a_secret_nobody_gets_in() {
    let rig = Rig::new(&SIGNED_ORDERS.replace("HOOK", "LATER"));
    let of_empty = format!("sha256={}", hmac_hex("", ORDER.as_bytes()));
    for _ in 0..2 {
        let reply = rig.post("/orders", &[("x-hub-signature-256", &of_empty)], ORDER).await;
        assert_eq!(reply.line(), r#"503 {"error":"unavailable"}"#);
        assert_eq!(reply.header("retry-after"), "5");
    }
    assert!(rig.events().is_empty());
    rig.vault.set("LATER", "now");
    let genuine = format!("sha256={}", hmac_hex("now", ORDER.as_bytes()));
    let reply = rig.post("/orders", &[("x-hub-signature-256", &genuine)], ORDER).await;
    assert_eq!(reply.status, 202);
}

#[tokio::test(start_paused = true)]
async fn a_rotated_secret_needs_no_reload() {
    let rig = Rig::new(SIGNED_ORDERS);
    let signed = |secret| format!("sha256={}", hmac_hex(secret, ORDER.as_bytes()));
    let (old, new) = (signed("s3cret"), signed("rotated"));
    assert_eq!(rig.post("/orders", &[("x-hub-signature-256", &old)], ORDER).await.status, 202);
    rig.vault.set("HOOK", "rotated");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(rig.post("/orders", &[("x-hub-signature-256", &old)], ORDER).await.status, 401);
    assert_eq!(rig.post("/orders", &[("x-hub-signature-256", &new)], ORDER).await.status, 202);
}

/// Field trap 8: the old secret works as long as the file says, to the instant, and a new one that
/// is not set yet keeps nobody out.
#[tokio::test(start_paused = true)]
async fn trap_8_secrets_overlap_as_long_as_the_file_says() {
    let rig = Rig::new(&SIGNED_ORDERS.replace(
        "secret = \"{{ secret.HOOK }}\"",
        "secrets = [\"{{ secret.NEXT }}\", { value = \"{{ secret.HOOK }}\", not_after = 2023-11-14T22:13:30Z }]",
    ));
    let signed = |secret| format!("sha256={}", hmac_hex(secret, ORDER.as_bytes()));
    let (old, new) = (signed("s3cret"), signed("next"));
    assert_eq!(rig.post("/orders", &[("x-hub-signature-256", &old)], ORDER).await.status, 202);
    rig.vault.set("NEXT", "next");
    tokio::time::advance(Duration::from_secs(10)).await;
    for signature in [&old, &new] {
        let reply = rig.post("/orders", &[("x-hub-signature-256", signature)], ORDER).await;
        assert_eq!(reply.status, 202);
    }
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(rig.post("/orders", &[("x-hub-signature-256", &old)], ORDER).await.status, 401);
    assert_eq!(rig.post("/orders", &[("x-hub-signature-256", &new)], ORDER).await.status, 202);
}

#[tokio::test]
async fn requests_that_no_stream_takes_are_told_so() {
    let rig = Rig::new(ORDERS);
    for path in ["/", "/order", "/orders/", "/orders/1", "//orders", "/Orders"] {
        assert_eq!(rig.post_json(path, ORDER).await.line(), r#"404 {"error":"not_found"}"#);
    }
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::OPTIONS] {
        let request = Request::builder().method(method).uri("/orders");
        let reply = rig.send(request.body(Full::new(Bytes::new())).unwrap()).await;
        assert_eq!(reply.line(), r#"405 {"error":"method_not_allowed"}"#);
        assert_eq!(reply.header("allow"), "POST");
    }
    assert_eq!(rig.post_json("/orders?from=shop", ORDER).await.status, 202);
}

#[tokio::test]
async fn a_bus_that_takes_nothing_is_no_acknowledgement() {
    let rig = Rig::new(ORDERS);
    rig.bus.refuse(Some("read-only file system /var/lib/tenon".to_owned()));
    let reply = rig.post_json("/orders", ORDER).await;
    assert_eq!(reply.line(), r#"503 {"error":"unavailable"}"#);
    assert_ne!(reply.header("retry-after"), "");
    rig.bus.refuse(None);
    rig.bus.limit_unsettled(0);
    let reply = rig.post_json("/orders", ORDER).await;
    assert_eq!(reply.line(), r#"503 {"error":"unavailable"}"#);
    assert_ne!(reply.header("retry-after"), "");
    rig.bus.limit_unsettled(u64::MAX);
    assert_eq!(rig.post_json("/orders", ORDER).await.status, 202);
    insta::assert_snapshot!(rig.counted(), @r"
    acknowledged 1
    shop/orders accepted 1
    shop/orders refused 2
    ");
}

const BATCH: &str = r#"
[stream.contacts]
key      = "$.objectId"
revision = "$.eventId"
when     = "{{ record.kind == 'contact' }}"

[stream.contacts.webhook]
path   = "/batch"
verify = "none"
events = "$.events[*]"
"#;

#[tokio::test]
async fn a_split_body_is_taken_whole_or_not_at_all() {
    let rig = Rig::new(BATCH);
    let body = r#"{"events":[
        {"objectId":1,"eventId":7,"kind":"contact"},
        {"objectId":2,"eventId":7,"kind":"deal"},
        {"objectId":2,"eventId":8,"kind":"contact"}]}"#;
    let reply = rig.post_json("/batch", body).await;
    let ids: Vec<_> = rig.events().iter().map(|event| event.id.to_string()).collect();
    assert_eq!(reply.status, 202);
    assert_eq!(reply.json(), serde_json::json!({ "ids": ids }));
    assert_eq!(ids.len(), 2);

    let body = r#"{"events":[
        {"objectId":3,"eventId":9,"kind":"contact"},
        {"eventId":10,"kind":"contact"}]}"#;
    let reply = rig.post_json("/batch", body).await;
    assert_eq!(reply.line(), r#"400 {"error":"unnamed_event"}"#);
    assert_eq!(rig.events().len(), 2);

    let reply = rig.post_json("/batch", r#"{"events":[]}"#).await;
    assert_eq!(reply.line(), r#"202 {"ids":[]}"#);
    insta::assert_snapshot!(rig.counted(), @r"
    acknowledged 2
    shop/contacts accepted 2
    shop/contacts unmatched 2
    shop/contacts unnamed 1
    ");
}

const SHARED: &str = r#"
[stream.opened]
key  = "$.id"
when = "{{ request.headers['x-topic'] == 'opened' }}"
with = { topic = "{{ request.headers['x-topic'] }}", via = "{{ request.query.via }}" }

[stream.opened.webhook]
path   = "/topics"
verify = "none"

[stream.closed]
key  = "$.id"
when = "{{ request.headers['x-topic'] in ['closed', 'both'] }}"

[stream.closed.webhook]
path   = "/topics"
verify = "none"
"#;

#[tokio::test]
async fn streams_of_one_path_share_it_by_their_when() {
    let rig = Rig::new(SHARED);
    let topic = |topic| [("x-topic", topic)];
    let opened = rig.post("/topics?via=test", &topic("opened"), r#"{"id":1}"#).await;
    let closed = rig.post("/topics", &topic("closed"), r#"{"id":1}"#).await;
    assert_ne!(opened.id(), closed.id());
    let none = rig.post("/topics", &topic("renamed"), r#"{"id":1}"#).await;
    assert_eq!(none.line(), r#"202 {"ids":[]}"#);
    let events = rig.events();
    let streams: Vec<_> = events.iter().map(|event| &*event.stream).collect();
    assert_eq!(streams, ["opened", "closed"]);
    let with = events[0].with.as_ref().unwrap().value();
    insta::assert_snapshot!(with, @r#"{"topic":"opened","via":"test"}"#);
    insta::assert_snapshot!(rig.counted(), @r"
    acknowledged 3
    shop/ unmatched 1
    shop/closed accepted 1
    shop/opened accepted 1
    ");
}

#[tokio::test]
async fn a_reply_of_the_author_replaces_the_id() {
    let rig = Rig::new(&format!("{ORDERS}\nreply = {{ status = 200, body = \"ok\" }}\n"));
    let reply = rig.post_json("/orders", ORDER).await;
    assert_eq!(reply.line(), "200 ok");
    assert_eq!(rig.events().len(), 1);
    assert_eq!(rig.post_json("/orders", ORDER).await.line(), "200 ok");
}

const SLACK: &str = r#"
[stream.messages]
key = "$.event_id"

[stream.messages.webhook]
path   = "/slack"
verify = "slack"
secret = "{{ secret.HOOK }}"
"#;

#[tokio::test]
async fn a_challenge_is_answered_after_verification_only() {
    let rig = Rig::new(SLACK);
    let body = r#"{"type":"url_verification","challenge":"3eZbrw1aB"}"#;
    let signature =
        |secret| format!("v0={}", hmac_hex(secret, format!("v0:1700000000:{body}").as_bytes()));
    let good = signature("s3cret");
    let stamp = ("x-slack-request-timestamp", "1700000000");
    let reply = rig.post("/slack", &[stamp, ("x-slack-signature", &good)], body).await;
    assert_eq!(reply.line(), r#"200 {"challenge":"3eZbrw1aB"}"#);
    let bad = signature("guess");
    let reply = rig.post("/slack", &[stamp, ("x-slack-signature", &bad)], body).await;
    assert_eq!(reply.status, 401);
    assert!(rig.events().is_empty());
}

#[tokio::test]
async fn basic_credentials_are_asked_for() {
    let rig = Rig::new(
        r#"
[stream.events]
key = "$.id"

[stream.events.webhook]
path   = "/basic"
verify = "basic"
user   = "shop"
secret = "{{ secret.HOOK }}"
"#,
    );
    let reply = rig.post("/basic", &[], r#"{"id":1}"#).await;
    assert_eq!(reply.status, 401);
    assert!(reply.header("www-authenticate").starts_with("Basic realm="));
    // shop:s3cret
    let headers = [("authorization", "Basic c2hvcDpzM2NyZXQ=")];
    assert_eq!(rig.post("/basic", &headers, r#"{"id":1}"#).await.status, 202);
}

#[tokio::test]
async fn only_a_valid_traceparent_goes_with_the_event() {
    let rig = Rig::new(ORDERS);
    let valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let zero = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
    for (id, text) in [valid, zero, "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", "x"]
        .into_iter()
        .enumerate()
    {
        let body = format!(r#"{{"id":{id},"updated_at":"2026-11-20T09:00:00Z"}}"#);
        rig.post("/orders", &[("traceparent", text)], body).await;
    }
    let kept: Vec<_> = rig.events().iter().map(|event| event.traceparent.clone()).collect();
    assert_eq!(kept, [Some(valid.to_owned()), None, None, None]);
}

#[tokio::test]
async fn routes_are_swapped_whole() {
    let rig = Rig::new(ORDERS);
    let moved = plan_of(&connector_file("shop", &ORDERS.replace("\"/orders\"", "\"/moved\"")));
    rig.server.set_routes(Routes::build(&[moved]).ok().unwrap());
    assert_eq!(rig.post_json("/orders", ORDER).await.status, 404);
    assert_eq!(rig.post_json("/moved", ORDER).await.status, 202);
}

#[test]
fn one_path_belongs_to_one_connector() {
    let [a, b] = ["a", "b"].map(|name| plan_of(&connector_file(name, ORDERS)));
    let problems = Routes::build(&[a, b]).err().unwrap();
    insta::assert_snapshot!(problems.join("\n"), @"webhook path `/orders` is claimed by the connectors `a` and `b`");
}

/// Bodies never carry what went wrong inside.
#[tokio::test]
async fn refusals_have_fixed_bodies() {
    let rig = Rig::with_limits(SIGNED_ORDERS, limits());
    let body = r#"{"id":{"secret":"s3cret"}}"#;
    let signature = format!("sha256={}", hmac_hex("s3cret", body.as_bytes()));
    let reply = rig.post("/orders", &[("x-hub-signature-256", &signature)], body).await;
    assert_eq!(reply.line(), r#"400 {"error":"unnamed_event"}"#);
}
