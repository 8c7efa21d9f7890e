//! Batches in the whole engine: what is counted, what a hold, a reload and a limit do to them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering::SeqCst},
    },
    time::Duration,
};

use serde_json::{Value, json};

use super::{Stage, connector};
use crate::support::{MockServer, Reply, Seen};

const BATCH: &str = "[destination.sink.batch]\nmax = 3\nwithin = \"1s\"\n";

/// The ids in each request.
fn batches(seen: &[Seen]) -> Vec<Vec<String>> {
    let ids = |one: &Seen| {
        let items = one.json().as_array().cloned().unwrap_or_default();
        items.iter().map(|item| item["id"].as_str().unwrap_or_default().to_owned()).collect()
    };
    seen.iter().map(ids).collect()
}

fn orders(ids: impl IntoIterator<Item = u32>) -> Vec<Value> {
    ids.into_iter().map(|id| json!({ "id": id.to_string() })).collect()
}

fn counted(stage: &Stage, metric: &str, more: &str) -> u64 {
    stage.metric(&format!("{metric}{{connector=\"a\",destination=\"sink\"{more}}}"))
}

#[tokio::test(start_paused = true)]
async fn requests_and_events_are_counted_apart() {
    let sink = MockServer::start(|seen| {
        Reply::status(if seen.text().contains("poison") { 400 } else { 200 })
    })
    .await;
    let stage = Stage::with(&[("a.toml", &connector("a", &sink, BATCH))]).await;
    let mut events = orders(1..=3);
    events.push(json!({ "id": "poison" }));
    events.extend(orders([5]));
    stage.send_all("/a", events).await;
    stage.settled().await;
    let requests = |result: &str| {
        counted(&stage, "tenon_batch_requests_total", &format!(",result=\"{result}\""))
    };
    assert_eq!([requests("delivered"), requests("split"), requests("rejected")], [2, 1, 1]);
    assert_eq!(counted(&stage, "tenon_batch_events_total", ""), 3 + 2 + 1 + 1);
    let attempts =
        |result: &str| counted(&stage, "tenon_attempts_total", &format!(",result=\"{result}\""));
    assert_eq!([attempts("delivered"), attempts("rejected")], [4, 1]);
    assert_eq!(stage.engine.bus().dead_letters().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reload_in_an_outage_leaves_a_batch_as_it_was() {
    let status = Arc::new(AtomicU16::new(503));
    let answer = Arc::clone(&status);
    let sink = MockServer::start(move |_| Reply::status(answer.load(SeqCst))).await;
    let text = connector("a", &sink, BATCH);
    let stage = Stage::with(&[("a.toml", &text)]).await;
    stage.send_all("/a", orders(1..=2)).await;
    stage.until("attempted", |_| !sink.seen().is_empty()).await;
    stage.write("a.toml", &text.replace("timeout = \"5s\"", "timeout = \"6s\""));
    stage.engine.reload().await;
    stage.send_all("/a", orders([3])).await;
    status.store(200, SeqCst);
    stage.settled().await;
    let seen = sink.seen();
    let of_two: Vec<&Seen> = seen.iter().filter(|it| it.text().contains("\"1\"")).collect();
    assert!(of_two.len() > 1);
    let key = |seen: &Seen| seen.header("idempotency-key").map(str::to_owned);
    for one in &of_two {
        assert_eq!(key(one), key(of_two[0]), "{:?}", batches(&seen));
        assert_eq!(one.text(), of_two[0].text());
    }
    assert!(stage.engine.bus().state_under("batch/").is_empty(), "what is settled is forgotten");
}

#[tokio::test(start_paused = true)]
async fn a_held_destination_keeps_batches_and_sends_them_when_it_is_resumed() {
    let status = Arc::new(AtomicU16::new(403));
    let answer = Arc::clone(&status);
    let sink = MockServer::start(move |_| Reply::status(answer.load(SeqCst))).await;
    let stage = Stage::with(&[("a.toml", &connector("a", &sink, BATCH))]).await;
    stage.send_all("/a", orders(1..=7)).await;
    stage.until("held", |e| e.status().connectors[0].state == "held").await;
    let before = sink.seen().len();
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(sink.seen().len(), before, "nothing is sent while it is parked");
    status.store(200, SeqCst);
    stage.engine.resume("a", None).await.unwrap();
    stage.settled().await;
    let mut delivered: Vec<String> = batches(&sink.seen()[before..]).concat();
    delivered.sort();
    assert_eq!(delivered, ["1", "2", "3", "4", "5", "6", "7"]);
}

#[tokio::test(start_paused = true)]
async fn a_rate_counts_requests() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let text = connector("a", &sink, BATCH)
        .replace("timeout = \"5s\"", "timeout = \"5s\"\nrate = \"1/m\"\nconcurrency = 4");
    let stage = Stage::with(&[("a.toml", &text)]).await;
    stage.send_all("/a", orders(1..=9)).await;
    let began = tokio::time::Instant::now();
    stage.settled().await;
    assert_eq!(batches(&sink.seen()).iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 3]);
    let took = began.elapsed();
    assert!((110..130).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn events_of_one_key_go_one_after_the_other() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let text = connector("a", &sink, BATCH)
        .replace("timeout = \"5s\"", "timeout = \"5s\"\norder = \"key\"");
    let stage = Stage::with(&[("a.toml", &text)]).await;
    let state = |n: u32| json!({ "id": "1", "n": n });
    stage.send_all("/a", [state(1), state(2), json!({ "id": "2", "n": 1 }), state(3)]).await;
    stage.settled().await;
    let seen = batches(&sink.seen());
    assert_eq!(seen, [vec!["1", "2"], vec!["1"], vec!["1"]]);
    let order: Vec<Value> = sink.seen().iter().map(|seen| seen.json()[0]["n"].clone()).collect();
    assert_eq!(order, [json!(1), json!(2), json!(3)]);
}

#[tokio::test(start_paused = true)]
async fn one_tenants_dead_endpoint_costs_the_other_nothing() {
    let sink = MockServer::start(|seen| {
        Reply::status(if seen.text().contains("dead") { 503 } else { 200 })
    })
    .await;
    let text = connector("a", &sink, BATCH)
        .replace("key = \"$.id\"", "key = \"$.id\"\ntenant = \"$.shop\"")
        .replace("timeout = \"5s\"", "timeout = \"5s\"\nconcurrency = 2");
    let stage = Stage::with(&[("a.toml", &text)]).await;
    let of = |shop: &'static str, count: u32| {
        (0..count).map(move |n| json!({ "id": format!("{shop}{n}"), "shop": shop }))
    };
    let began = tokio::time::Instant::now();
    stage.send_all("/a", of("dead", 60)).await;
    stage.send_all("/a", of("well", 30)).await;
    let taken = || {
        let of_well = |one: &Seen| one.text().matches("\"id\":\"well").count();
        sink.seen().iter().map(of_well).sum::<usize>()
    };
    stage.until("what can be delivered is", |_| taken() >= 30).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(taken(), 30, "each once");
    let mixed = |one: &Seen| one.text().contains("dead") && one.text().contains("well");
    assert!(!sink.seen().iter().any(mixed));
}
