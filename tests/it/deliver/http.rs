//! The HTTP destination: what one event looks like on the wire, and what comes of it.

use std::time::Duration;

use http::Method;
use serde_json::json;
use tenon::{
    deliver::{Destination, Outcome},
    egress::{Egress, EgressConfig},
    event::{Record, idempotency_key},
    map::Tree,
    plan::AuthKind,
};

use super::parts::{HttpSettings, Shop, event, expr, raw};
use crate::support::{MockServer, Reply};

async fn attempt(shop: &Shop, destination: &Destination) -> Outcome {
    let event = event("1001", r#"{"id":1001}"#);
    destination.attempt(&event, &raw(&event), &shop.env()).await.outcome
}

#[tokio::test]
async fn a_record_goes_byte_for_byte_and_says_which_event_it_is() {
    let server = MockServer::scripted([Reply::text(202, "")]).await;
    let shop = Shop::new();
    let destination = shop.destination(HttpSettings::post(server.url("/in"))).unwrap();
    let event = event("1001", "{\"big\": 9007199254740993, \"a\":1,\n\"a\":2}");
    let outcome = destination.attempt(&event, &raw(&event), &shop.env()).await.outcome;
    assert_eq!(outcome, Outcome::Delivered { status: Some(202) });
    destination.sync().await.unwrap();
    let seen = &server.seen()[0];
    assert_eq!((&*seen.method, &*seen.target), ("POST", "/in"));
    assert_eq!(seen.text(), "{\"big\": 9007199254740993, \"a\":1,\n\"a\":2}");
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(seen.header("idempotency-key"), Some(&*idempotency_key(event.id, "erp")));
    assert_eq!(seen.header("x-tenon-event"), Some(&*event.id.to_string()));
    assert_eq!(seen.header("traceparent"), event.traceparent.as_deref());
}

#[tokio::test]
async fn templates_see_out_event_vars_and_secrets() {
    let server = MockServer::start(|_| Reply::text(200, "")).await;
    let shop = Shop::new();
    let body = Tree::Table(vec![
        ("order".to_owned(), Tree::Leaf(expr("{{ out }}"))),
        ("gone".to_owned(), Tree::Leaf(expr("{{ event.delete }}"))),
        ("who".to_owned(), Tree::Leaf(expr("{{ event.tenant }}/{{ vars.shop }}"))),
        ("key".to_owned(), Tree::Array(vec![Tree::Leaf(expr("{{ secret.TOKEN }}"))])),
        ("n".to_owned(), Tree::Constant(Box::new(json!(1)))),
    ]);
    let settings = HttpSettings {
        method: Method::PUT,
        url: server.url("/{{ vars.shop }}/orders/{{ out.id | urlencode }}?s={{ event.stream }}"),
        headers: vec![
            ("X-Shop", "{{ vars.shop }}"),
            ("X-Received", "{{ event.received_at }}"),
            ("X-Key", "Key {{ secret.TOKEN }}"),
            ("Content-Type", "application/vnd.acme+json"),
            ("Idempotency-Key", "{{ event.key }}-{{ event.revision }}"),
        ],
        body: Some(body),
        ..HttpSettings::post(String::new())
    };
    let destination = shop.destination(settings).unwrap();
    let out = Record::from_value(json!({"id": "a/b c", "total": "129.90"}));
    let event = event("1001", "{}");
    let outcome = destination.attempt(&event, &out, &shop.env()).await.outcome;
    assert_eq!(outcome, Outcome::Delivered { status: Some(200) });
    let seen = &server.seen()[0];
    assert_eq!((&*seen.method, &*seen.target), ("PUT", "/acme/orders/a%2Fb%20c?s=orders"));
    assert_eq!(seen.header("x-shop"), Some("acme"));
    assert_eq!(seen.header("x-received"), Some("2026-11-22T10:13:20.000Z"));
    assert_eq!(seen.header("x-key"), Some("Key t0k3n-s3cret"));
    assert_eq!(seen.header("content-type"), Some("application/vnd.acme+json"));
    assert_eq!(seen.header("idempotency-key"), Some("1001-7"));
    assert_eq!(
        seen.json(),
        json!({
            "order": {"id": "a/b c", "total": "129.90"}, "gone": false, "who": "acme/acme",
            "key": ["t0k3n-s3cret"], "n": 1,
        })
    );
}

#[tokio::test]
async fn what_only_asks_or_removes_has_no_body_unless_one_is_written() {
    let server = MockServer::start(|_| Reply::text(200, "")).await;
    let shop = Shop::new();
    for (method, body, sent) in [
        (Method::DELETE, None, ""),
        (Method::GET, None, ""),
        (Method::DELETE, Some(Tree::Leaf(expr("{{ out.id }}"))), "1001"),
        (Method::PATCH, None, r#"{"id":1001}"#),
    ] {
        let settings =
            HttpSettings { method, body, ..HttpSettings::post(server.url("/orders/{{ out.id }}")) };
        let destination = shop.destination(settings).unwrap();
        assert_eq!(attempt(&shop, &destination).await, Outcome::Delivered { status: Some(200) });
        let seen = server.seen().pop().unwrap();
        assert_eq!((&*seen.target, &*seen.text()), ("/orders/1001", sent), "{}", seen.method);
        assert_eq!(seen.header("content-type").is_some(), !sent.is_empty());
    }
}

#[tokio::test]
async fn what_the_peer_says_decides() {
    let server = MockServer::scripted([
        Reply::text(503, "busy").header("retry-after", "30"),
        Reply::text(422, "{\"error\":\n \"no such customer\"}"),
        Reply::text(403, "key t0k3n-s3cret is not yours"),
        Reply::text(307, "").header("location", "/elsewhere"),
        Reply::text(200, &"x".repeat(100_000)),
        Reply::text(500, &"x".repeat(100_000)),
        Reply::text(200, "?").header("content-encoding", "gzip"),
        Reply::reset(),
    ])
    .await;
    let shop = Shop::new();
    let headers = vec![("X-Key", "{{ secret.TOKEN }}")];
    let settings = HttpSettings { headers, ..HttpSettings::post(server.url("/")) };
    let destination = shop.destination(settings).unwrap();
    let next = async || attempt(&shop, &destination).await;
    assert_eq!(
        next().await,
        Outcome::Retry {
            status: Some(503),
            message: "503 Service Unavailable: busy".to_owned(),
            retry_after: Some(Duration::from_secs(30)),
            limit: None,
        }
    );
    assert_eq!(
        next().await,
        Outcome::Rejected {
            status: Some(422),
            reason: "rejected".into(),
            message: r#"422 Unprocessable Entity: {"error": "no such customer"}"#.to_owned(),
        }
    );
    let message = "403 Forbidden: key [redacted] is not yours".to_owned();
    assert_eq!(next().await, Outcome::Held { status: Some(403), message });
    assert!(matches!(next().await, Outcome::Rejected { status: Some(307), .. }));
    // The status is the answer, whatever comes behind it.
    assert_eq!(next().await, Outcome::Delivered { status: Some(200) });
    assert!(matches!(next().await, Outcome::Retry { status: Some(500), .. }));
    assert_eq!(next().await, Outcome::Delivered { status: Some(200) });
    assert!(matches!(next().await, Outcome::Retry { status: None, .. }));
    assert_eq!(server.seen().len(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_hangs_is_retried_after_the_timeout() {
    let server = MockServer::start(|_| Reply::hang()).await;
    let shop = Shop::new();
    let destination = shop.destination(HttpSettings::post(server.url("/"))).unwrap();
    let outcome = attempt(&shop, &destination).await;
    let message = "timed out".to_owned();
    assert_eq!(outcome, Outcome::Retry { status: None, message, retry_after: None, limit: None });
}

#[tokio::test]
async fn a_template_that_fails_names_its_place_and_no_value() {
    let shop = Shop::new();
    let url = "http://127.0.0.1:1/{{ out.customer.id }}".to_owned();
    let destination = shop.destination(HttpSettings::post(url)).unwrap();
    let Outcome::Rejected { status: None, reason, message } = attempt(&shop, &destination).await
    else {
        panic!("the record has no customer");
    };
    assert_eq!(reason, "template_failed");
    assert!(message.contains("destination.erp") && message.contains("shop.toml:7"), "{message}");
    let url = "http://127.0.0.1:1/{{ out.id }} {{ out.id }}".to_owned();
    let destination = shop.destination(HttpSettings::post(url)).unwrap();
    let outcome = attempt(&shop, &destination).await;
    let Outcome::Rejected { message, .. } = outcome else {
        panic!("a URL has no blanks: {outcome:?}");
    };
    assert!(message.contains("urlencode") && !message.contains("1001"), "{message}");
}

#[tokio::test]
async fn an_unset_secret_holds_and_names_it() {
    let shop = Shop::new();
    let headers = vec![("X-Key", "{{ secret.MISSING }}")];
    let url = "http://127.0.0.1:1/".to_owned();
    let unset = HttpSettings { headers, ..HttpSettings::post(url.clone()) };
    let auth = Some(AuthKind::Bearer { token: expr("{{ secret.MISSING }}") });
    let unset_auth = HttpSettings { auth, ..HttpSettings::post(url) };
    for settings in [unset, unset_auth] {
        let destination = shop.destination(settings).unwrap();
        let outcome = attempt(&shop, &destination).await;
        let Outcome::Held { status: None, message } = outcome else { panic!("{outcome:?}") };
        assert!(message.contains("MISSING"), "{message}");
    }
}

#[tokio::test]
async fn a_private_address_holds_and_says_how_to_allow_it() {
    let server = MockServer::scripted([]).await;
    let shop = Shop { egress: Egress::new(EgressConfig::default()), ..Shop::new() };
    let destination = shop.destination(HttpSettings::post(server.url("/"))).unwrap();
    let outcome = attempt(&shop, &destination).await;
    let Outcome::Held { message, .. } = outcome else { panic!("{outcome:?}") };
    assert!(message.contains("--allow-egress 127.0.0.1/32"), "{message}");
    assert_eq!(server.seen(), []);
}

#[tokio::test]
async fn settings_that_cannot_work_are_said_when_it_is_opened() {
    let shop = Shop::new();
    let opened = |url: &str, headers| {
        let settings = HttpSettings { headers, ..HttpSettings::post(url.to_owned()) };
        shop.destination(settings).err().unwrap_or_default()
    };
    let fine = "http://erp.example/";
    assert_eq!(opened(fine, vec![]), "");
    assert!(opened("http://", vec![]).contains("url"));
    assert!(opened(fine, vec![("Content-Length", "5")]).contains("content-length"));
    assert!(opened(fine, vec![("a b", "5")]).contains("a b"));
    assert!(opened(fine, vec![("x", "a\nb")]).contains("`x`"));
}

#[tokio::test]
async fn trap_15_keys_differ_between_destinations_and_stay_between_attempts() {
    let server = MockServer::start(|_| Reply::text(500, "")).await;
    let shop = Shop::new();
    let mut keys = Vec::new();
    for name in ["erp", "crm"] {
        let settings = HttpSettings { name, ..HttpSettings::post(server.url("/")) };
        // Opened anew, as after a restart.
        for _ in 0..2 {
            let again = HttpSettings { name, ..HttpSettings::post(server.url("/")) };
            attempt(&shop, &shop.destination(again).unwrap()).await;
        }
        attempt(&shop, &shop.destination(settings).unwrap()).await;
        let seen = server.seen();
        let of = |n: usize| seen[n].header("idempotency-key").unwrap().to_owned();
        let last = seen.len() - 1;
        assert!(of(last) == of(last - 1) && of(last) == of(last - 2));
        keys.push(of(last));
    }
    assert_ne!(keys[0], keys[1]);
}

#[tokio::test]
async fn trap_17_destinations_share_connections() {
    let server = MockServer::start(|_| Reply::text(200, "")).await;
    let shop = Shop::new();
    for name in ["one", "two", "three"] {
        let settings = HttpSettings { name, ..HttpSettings::post(server.url("/")) };
        let destination = shop.destination(settings).unwrap();
        attempt(&shop, &destination).await;
        attempt(&shop, &destination).await;
    }
    assert!(server.seen().iter().all(|seen| seen.connection == 0));
}
