//! A batch over HTTP: what one request with several events looks like on the wire.

use std::time::Duration;

use http::Method;
use serde_json::json;
use tenon::{
    deliver::{BatchOutcome, Member, Outcome},
    event::{Event, ReplayId, Replayed, batch_key, idempotency_key},
    map::{Env, Tree},
    plan::{AuthKind, BatchPlan},
};

use super::parts::{HttpSettings, Shop, batch_expr, event, raw};
use crate::support::{MockServer, Reply};

fn settings(url: String, body: Option<&str>) -> HttpSettings {
    let plan =
        BatchPlan { max: 10, within: Duration::from_secs(1), max_bytes: 1 << 20, results: None };
    let body =
        body.map(|text| Tree::Table(vec![("items".to_owned(), Tree::Leaf(batch_expr(text)))]));
    HttpSettings { batch: Some(plan), body, ..HttpSettings::post(url) }
}

fn members(records: &[&str]) -> Vec<Member> {
    let one = |(number, record): (usize, &&str)| {
        let event = event(&number.to_string(), record);
        Member { out: raw(&event), event }
    };
    records.iter().enumerate().map(one).collect()
}

#[tokio::test]
async fn records_go_byte_for_byte_in_one_list_under_the_key_of_all_of_them() {
    let server = MockServer::start(|_| Reply::status(202)).await;
    let shop = Shop::new();
    let members = members(&["{\"big\": 9007199254740993.0}", "[1, 2]", "3"]);
    let list = "[{\"big\": 9007199254740993.0},[1, 2],3]";
    // In a template blanks between values go; digits stay.
    let within = "{\"items\":[{\"big\":9007199254740993.0},[1,2],3]}";
    for (body, sent) in [(None, list), (Some("{{ batch }}"), within)] {
        let destination = shop.destination(settings(server.url("/in"), body)).unwrap();
        let outcome = destination.attempt_batch(&members, &shop.env()).await.outcome;
        let delivered = Outcome::Delivered { status: Some(202) };
        assert_eq!(outcome, BatchOutcome::Whole(delivered));
        let seen = server.seen().pop().unwrap();
        assert_eq!(seen.text(), sent);
        let key = batch_key(members.iter().map(|member| &*member.event), "erp");
        assert_eq!(seen.header("idempotency-key"), Some(&*key));
        assert_eq!(seen.header("x-tenon-event"), None);
        assert_eq!(seen.header("traceparent"), None);
        assert_eq!(seen.header("content-type"), Some("application/json"));
    }
}

#[test]
fn the_key_follows_from_the_events_and_their_order_and_of_one_it_is_its_own() {
    let members = members(&["1", "2", "3"]);
    let ids: Vec<&Event> = members.iter().map(|member| &*member.event).collect();
    let key = |ids: &[&Event], name| batch_key(ids.iter().copied(), name);
    assert_eq!(key(&ids[..1], "erp"), idempotency_key(ids[0].id, "erp"));
    assert_eq!(key(&ids, "erp"), key(&ids, "erp"));
    let reversed: Vec<_> = ids.iter().rev().copied().collect();
    for other in [key(&reversed, "erp"), key(&ids[..2], "erp"), key(&ids, "crm")] {
        assert_ne!(key(&ids, "erp"), other);
    }
    // A replay that was asked for new keys has its own, for one event and for many.
    let by = ReplayId::new(tenon::world::Timestamp(1), 1);
    let mut again = Event::clone(ids[1]);
    again.replayed = Some(Replayed { by, keys: Some(by) });
    assert_eq!(key(&[&again], "erp"), again.idempotency_key("erp"));
    assert_ne!(key(&[ids[0], &again, ids[2]], "erp"), key(&ids, "erp"));
}

#[tokio::test]
async fn a_refused_batch_is_to_be_split_and_a_refused_event_is_not() {
    let server = MockServer::start(|_| Reply::text(400, "the second one")).await;
    let shop = Shop::new();
    let destination = shop.destination(settings(server.url("/"), None)).unwrap();
    let outcome = destination.attempt_batch(&members(&["1", "2"]), &shop.env()).await.outcome;
    let message = "400 Bad Request: the second one".to_owned();
    assert_eq!(outcome, BatchOutcome::Split { status: Some(400), message: message.clone() });
    let outcome = destination.attempt_batch(&members(&["1"]), &shop.env()).await.outcome;
    let rejected = Outcome::Rejected { status: Some(400), reason: "rejected".into(), message };
    assert_eq!(outcome, BatchOutcome::Whole(rejected));
}

#[tokio::test]
async fn no_answer_and_an_unset_secret_concern_all_of_them() {
    let server = MockServer::scripted([Reply::reset()]).await;
    let shop = Shop::new();
    let destination = shop.destination(settings(server.url("/"), None)).unwrap();
    let outcome = destination.attempt_batch(&members(&["1", "2"]), &shop.env()).await.outcome;
    assert!(
        matches!(outcome, BatchOutcome::Whole(Outcome::Retry { status: None, .. })),
        "{outcome:?}"
    );
    let auth = AuthKind::Bearer { token: super::parts::expr("{{ secret.UNSET }}") };
    let settings = HttpSettings { auth: Some(auth), ..settings(server.url("/"), None) };
    let destination = shop.destination(settings).unwrap();
    let outcome = destination.attempt_batch(&members(&["1", "2"]), &shop.env()).await.outcome;
    assert!(matches!(outcome, BatchOutcome::Whole(Outcome::Held { .. })), "{outcome:?}");
}

#[tokio::test]
async fn the_preview_is_the_request_of_a_batch_of_one() {
    let shop = Shop::new();
    let url = "https://erp.example/in".to_owned();
    let settings = HttpSettings { method: Method::PUT, ..settings(url, Some("{{ batch }}")) };
    let destination = shop.destination(settings).unwrap();
    let event = event("1001", r#"{"id":1001}"#);
    let env: Env = shop.env();
    let request = destination.preview(&event, &raw(&event), &env).await.unwrap().unwrap();
    let body: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
    assert_eq!(body, json!({"items": [{"id": 1001}]}));
    let key = idempotency_key(event.id, "erp");
    assert_eq!(request.headers()["idempotency-key"], *key);
}
