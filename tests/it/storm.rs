//! Bad days on a virtual clock: what an outage, a noisy tenant, and credentials that were withdrawn do
//! to requests, to other tenants, to the order of events, and to what is lost (nothing).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tenon::{
    bus::{Append, conformance::claimed},
    event::{Event, EventId, Origin, Record, ReplayId, Replayed},
    plan::{Rate, TenantBudget},
    world::Timestamp,
};

use crate::{
    engine::{Stage, Vault},
    support::{MockServer, Reply},
};

/// A connector whose events name their tenant, with these keys of its destination.
fn connector(sink: &MockServer, keys: &str) -> String {
    let url = sink.url("/in");
    format!(
        r#"
name = "a"
version = "1.0.0"
owner = "tests"

[stream.orders]
key = "$.key"
revision = "$.n | integer"
tenant = "{{{{ record.tenant | default('t') }}}}"

[stream.orders.webhook]
path = "/a"
verify = "none"

[destination.sink]
type = "http"
url = "{url}"
{keys}
"#
    )
}

async fn stage(sink: &MockServer, keys: &str) -> Stage {
    Stage::set(&[("a.toml", &connector(sink, keys))], Arc::new(Vault::default()), |_| {}).await
}

/// An event as a webhook would have brought it, without the socket.
fn event(stage: &Stage, tenant: &str, key: &str, n: u64) -> Event {
    let record = json!({"tenant": tenant, "key": key, "n": n}).to_string();
    Event {
        id: EventId::derive("a", "orders", key, &n.to_string()),
        connector: "a".into(),
        stream: "orders".into(),
        key: key.to_owned(),
        revision: n.to_string(),
        order: Some(n as i64),
        tenant: Some(tenant.to_owned()),
        received_at: stage.engine.now(),
        origin: Origin::Webhook,
        delete: false,
        to: vec!["sink".into()],
        record: Record::from_bytes(record.into_bytes().into()),
        with: None,
        traceparent: None,
        replayed: None,
    }
}

async fn append(stage: &Stage, events: Vec<Event>) {
    let events = events.into_iter().map(claimed).collect();
    stage.engine.bus().append(Append { events, state: Vec::new() }).await.unwrap();
}

async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}

/// Ten minutes of an outage at ten events a second, over a hundred keys in order.
#[tokio::test(start_paused = true)]
async fn an_outage_makes_no_storm_of_attempts_and_drains_in_order() {
    let up = Arc::new(AtomicBool::new(true));
    let (asked, delivered) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let sink = {
        let (up, asked, delivered) = (Arc::clone(&up), Arc::clone(&asked), Arc::clone(&delivered));
        MockServer::start(move |seen| {
            asked.fetch_add(1, SeqCst);
            if !up.load(SeqCst) {
                return Reply::status(503);
            }
            let event = seen.json();
            let key = event["key"].as_str().unwrap().to_owned();
            delivered.lock().unwrap().push((key, event["n"].as_u64().unwrap()));
            Reply::status(200)
        })
        .await
    };
    let stage = stage(&sink, "order = \"key\"\nrate = \"50/s\"").await;
    let total = 10 * 600;
    let mut sent = 0;
    let mut send_second = async |stage: &Stage| {
        let events = (sent..sent + 10).map(|n| event(stage, "t", &format!("k{}", n % 100), n));
        append(stage, events.collect()).await;
        sent += 10;
        seconds(1).await;
    };
    up.store(false, SeqCst);
    for _ in 0..600 {
        send_second(&stage).await;
    }
    let during = asked.load(SeqCst);
    assert!(during * 20 <= total, "{during} requests for {total} events while it was down");
    let text = stage.connector("a").destinations[0].breaker.clone().unwrap_or_default();
    assert!(text.contains("open"), "status says so: {text:?}");

    up.store(true, SeqCst);
    let began = tokio::time::Instant::now();
    stage.settled().await;
    let ideal = Duration::from_secs(total as u64 / 50);
    assert!(began.elapsed() <= ideal * 2, "drained in {:?}, ideal {ideal:?}", began.elapsed());
    let delivered = delivered.lock().unwrap().clone();
    let mut last = BTreeMap::new();
    for (key, n) in &delivered {
        assert!(
            last.insert(key.clone(), *n).is_none_or(|before| before < *n),
            "{key} out of order"
        );
    }
    let all: BTreeSet<u64> = delivered.iter().map(|(_, n)| *n).collect();
    assert_eq!(all.len(), total, "nothing is lost");
    assert!(stage.engine.bus().dead_letters().is_empty());
    assert!(stage.metric(r#"tenon_breaker_trips_total{connector="a",destination="sink"}"#) > 5);
    assert_eq!(stage.metric(BREAKERS_OPEN), 0);
    assert!(breakers(&stage).is_empty(), "what is closed is not stored");
}

const BREAKERS_OPEN: &str = r#"tenon_breakers_open{connector="a",destination="sink"}"#;

/// The breakers that are stored.
fn breakers(stage: &Stage) -> Vec<String> {
    stage.engine.bus().state_under("breaker/").into_iter().map(|(key, _)| key).collect()
}

/// Connectors and destinations that are gone, and tenants that have not come for long.
#[tokio::test(start_paused = true)]
async fn a_reload_forgets_breakers_that_are_of_no_use() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let stage = stage(&sink, "").await;
    let now = stage.engine.now().0;
    let day = 24 * 3_600_000;
    let stored = [
        ("breaker/a/sink", now + 30_000),
        ("breaker/a/sink/of/late", now - day),
        ("breaker/a/sink/old", now - day - 1),
        ("breaker/a/other/late", now),
        ("breaker/gone/sink", now),
    ];
    for (key, until) in stored {
        let value = json!({"until": Timestamp(until), "trips": 1}).to_string().into_bytes();
        stage.engine.bus().put_state(key, Some(value)).await.unwrap();
    }
    stage.write("broken.toml", "name = ");
    stage.engine.reload().await;
    assert_eq!(breakers(&stage), ["breaker/a/sink", "breaker/a/sink/of/late", "breaker/gone/sink"]);
    stage.write("broken.toml", &connector(&sink, "").replace("\"a\"", "\"b\"").replace("/a", "/b"));
    let report = stage.engine.reload().await;
    assert_eq!(report.failed, Vec::<String>::new());
    assert_eq!(breakers(&stage), ["breaker/a/sink", "breaker/a/sink/of/late"]);
}

#[tokio::test(start_paused = true)]
async fn the_breaker_of_a_tenant_that_does_not_come_back_is_forgotten() {
    let sink = MockServer::start(|_| Reply::status(503)).await;
    let retry = "[destination.sink.retry]\nattempts = 3\nfrom = \"1s\"\nto = \"5s\"";
    let stage = stage(&sink, retry).await;
    append(&stage, (0..40).map(|n| event(&stage, "t", &format!("k{n}"), n)).collect()).await;
    stage.settled().await;
    assert_eq!(
        (breakers(&stage), stage.metric(BREAKERS_OPEN)),
        (vec!["breaker/a/sink/t".into()], 1)
    );
    seconds(20 * 3_600).await;
    assert_eq!(breakers(&stage).len(), 1);
    seconds(6 * 3_600).await;
    assert_eq!((breakers(&stage).len(), stage.metric(BREAKERS_OPEN)), (0, 0));
}

/// The answer's time for each of a tenant's events, in milliseconds, at the 99th percentile.
fn p99(waits: &mut [u128]) -> u128 {
    waits.sort_unstable();
    waits[waits.len() * 99 / 100]
}

/// One tenant's endpoint hangs, and it sends a hundred times as much: the other does not notice.
#[tokio::test(start_paused = true)]
async fn a_tenant_with_a_dead_endpoint_leaves_the_others_latency_where_it_was() {
    let began = tokio::time::Instant::now();
    let arrived = Arc::new(Mutex::new(Vec::new()));
    let sink = {
        let arrived = Arc::clone(&arrived);
        MockServer::start(move |seen| {
            let event = seen.json();
            if event["tenant"] == "dead" {
                return Reply::hang();
            }
            let sent_ms = u128::from(event["n"].as_u64().unwrap());
            arrived.lock().unwrap().push(began.elapsed().as_millis() - sent_ms);
            Reply::status(200).delay(Duration::from_millis(20))
        })
        .await
    };
    let stage = stage(&sink, "timeout = \"10s\"\nconcurrency = 16").await;
    let quiet = async |round: u64| {
        for n in 0..200 {
            let ms = began.elapsed().as_millis() as u64;
            append(&stage, vec![event(&stage, "quiet", &format!("q{round}-{n}"), ms)]).await;
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        std::mem::take(&mut *arrived.lock().unwrap())
    };
    let mut before = quiet(0).await;
    let storm = (0..5_000).map(|n| event(&stage, "dead", &format!("d{n}"), n)).collect();
    append(&stage, storm).await;
    let mut during = quiet(1).await;
    assert_eq!((before.len(), during.len()), (200, 200));
    let (before, during) = (p99(&mut before), p99(&mut during));
    assert!(during <= (before * 3 / 2).max(before + 25), "p99 {during} ms, quiet {before} ms");
    let dead = sink.seen().iter().filter(|seen| seen.json()["tenant"] == "dead").count();
    assert!((1..50).contains(&dead), "{dead} attempts at what does not answer");
}

/// A second stream to the same destination.
async fn two_streams(sink: &MockServer, keys: &str) -> Stage {
    let stream = r#"
[stream.returns]
key = "$.key"
revision = "$.n | integer"
tenant = "{{ record.tenant }}"

[stream.returns.webhook]
path = "/returns"
verify = "none"

[destination.sink]"#;
    let text = connector(sink, keys).replace("[destination.sink]", stream);
    Stage::set(&[("a.toml", &text)], Arc::new(Vault::default()), |_| {}).await
}

/// An event of the second stream.
fn of_returns(stage: &Stage, tenant: &str, n: u64) -> Event {
    Event {
        stream: "returns".into(),
        id: EventId::derive("a", "returns", &format!("r{n}"), "1"),
        ..event(stage, tenant, &format!("r{n}"), 1)
    }
}

/// The same where each has a stream of its own: the places of a destination are shared over its lanes.
#[tokio::test(start_paused = true)]
async fn a_tenant_that_hangs_in_one_stream_leaves_places_to_others_in_another() {
    let hangs = Arc::new(AtomicBool::new(false));
    let delivered = Arc::new(AtomicUsize::new(0));
    let sink = {
        let (hangs, delivered) = (Arc::clone(&hangs), Arc::clone(&delivered));
        MockServer::start(move |seen| {
            let dead = seen.json()["tenant"] == "dead";
            if dead && hangs.load(SeqCst) {
                return Reply::hang();
            }
            delivered.fetch_add(usize::from(!dead), SeqCst);
            Reply::status(200).delay(Duration::from_millis(20))
        })
        .await
    };
    let stage = two_streams(&sink, "timeout = \"1h\"\nconcurrency = 16").await;
    let quiet = |n: u64| of_returns(&stage, "quiet", n);
    let dead = |n: u64| event(&stage, "dead", &format!("d{n}"), 1);
    append(&stage, (0..100).map(quiet).collect()).await;
    // It answers for as long as it takes to have as many attempts at once as there are places.
    append(&stage, (0..1_000).map(dead).collect()).await;
    stage.settled().await;
    hangs.store(true, SeqCst);
    append(&stage, (1_000..2_000).map(dead).collect()).await;
    seconds(1).await;
    for n in 100..200 {
        append(&stage, vec![quiet(n)]).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    append(&stage, (200..1_000).map(quiet).collect()).await;
    let began = tokio::time::Instant::now();
    stage.until("the other's are delivered", |_| delivered.load(SeqCst) == 1_000).await;
    assert!(began.elapsed() < Duration::from_mins(1), "in {:?}", began.elapsed());
    let hang = sink.seen().iter().filter(|seen| seen.json()["tenant"] == "dead").count() - 1_000;
    assert!((8..16).contains(&hang), "{hang} places of 16");
}

/// With one place nothing can be kept free; whoever waits for it is next all the same, also where the
/// other's stream has the next event at hand.
#[tokio::test(start_paused = true)]
async fn whoever_waits_for_the_only_place_is_next() {
    for quiet in ["quiet", "busy"] {
        let sink = MockServer::start(|_| Reply::status(200).delay(Duration::from_millis(20))).await;
        let stage = two_streams(&sink, "concurrency = 1").await;
        append(&stage, vec![of_returns(&stage, quiet, 0)]).await;
        append(&stage, (0..1_000).map(|n| event(&stage, "busy", &format!("b{n}"), 1)).collect())
            .await;
        seconds(2).await;
        let began = tokio::time::Instant::now();
        append(&stage, (1..11).map(|n| of_returns(&stage, quiet, n)).collect()).await;
        let done = |engine: &tenon::engine::Engine| {
            let backlog = engine.bus().backlog();
            backlog.iter().all(|it| &*it.lane.stream != "returns" || it.unsettled == 0)
        };
        stage.until("the few are delivered", done).await;
        assert!(began.elapsed() < Duration::from_secs(2), "{quiet}: in {:?}", began.elapsed());
    }
}

/// The same where events go in batches: a lane has requests left for others.
#[tokio::test(start_paused = true)]
async fn a_tenant_whose_batches_hang_leaves_requests_to_others() {
    let hangs = Arc::new(AtomicBool::new(false));
    let sink = {
        let hangs = Arc::clone(&hangs);
        MockServer::start(move |seen| {
            if hangs.load(SeqCst) && seen.text().contains("dead") {
                return Reply::hang();
            }
            Reply::status(200).delay(Duration::from_millis(20))
        })
        .await
    };
    let keys = "timeout = \"1h\"\nconcurrency = 16\n\n[destination.sink.batch]\nmax = 10\nwithin = \"10ms\"";
    let stage = stage(&sink, keys).await;
    let of = |tenant: &'static str, numbers: std::ops::Range<u64>| {
        numbers.map(move |n| (tenant, n)).collect::<Vec<_>>()
    };
    let send = async |events: Vec<(&str, u64)>| {
        let new = |(tenant, n): (&str, u64)| event(&stage, tenant, &format!("{tenant}{n}"), 1);
        append(&stage, events.into_iter().map(new).collect()).await;
    };
    send(of("quiet", 0..10)).await;
    send(of("dead", 0..2_000)).await;
    stage.settled().await;
    hangs.store(true, SeqCst);
    // One by one, so that each is a batch by itself.
    for n in 2_000..2_100 {
        send(of("dead", n..n + 1)).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let began = tokio::time::Instant::now();
    send(of("quiet", 10..100)).await;
    let delivered =
        |engine: &tenon::engine::Engine| engine.bus().tenant_backlog("quiet").events == 0;
    stage.until("the other's are delivered", delivered).await;
    assert!(began.elapsed() < Duration::from_secs(10), "in {:?}", began.elapsed());
    assert!(stage.engine.bus().tenant_backlog("dead").events == 100);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_over_its_budget_gets_429_and_what_was_accepted_arrives() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let rate = |count| vec![Rate { count, per: Duration::from_secs(1) }];
    let files = [("a.toml", connector(&sink, ""))];
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    let stage = Stage::set(&files, Arc::new(Vault::default()), |settings| {
        let budget = TenantBudget { accept: rate(5), deliver: rate(2), ..TenantBudget::default() };
        settings.tenants.named.insert("noisy".to_owned(), budget);
    })
    .await;
    let mut answers = BTreeMap::new();
    for n in 0..50 {
        let of = |tenant: &str| json!({"tenant": tenant, "key": format!("{tenant}{n}"), "n": n});
        *answers.entry(stage.send("/a", of("noisy")).await.0).or_insert(0) += 1;
        assert_eq!(stage.send("/a", of("calm")).await.0, 202);
    }
    assert_eq!(answers.get(&202), Some(&5), "{answers:?}");
    assert_eq!(answers.get(&429), Some(&45), "{answers:?}");
    let began = tokio::time::Instant::now();
    stage.until("calm is served", |_| sink.seen().len() >= 50).await;
    assert!(began.elapsed() < Duration::from_secs(1), "the other is not slowed down");
    stage.settled().await;
    let noisy = sink.seen().iter().filter(|s| s.json()["tenant"] == "noisy").count();
    assert_eq!(noisy, 5);
    assert!(began.elapsed() >= Duration::from_secs(1), "it is delivered at its own rate");
    let refused = r#"tenon_events_total{connector="a",stream="orders",outcome="over_budget"}"#;
    assert_eq!(stage.metric(refused), 45);
}

#[tokio::test(start_paused = true)]
async fn a_backlog_budget_refuses_until_it_is_drained() {
    let up = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&up);
    let sink =
        MockServer::start(move |_| Reply::status(if gate.load(SeqCst) { 200 } else { 503 })).await;
    let files = [("a.toml", connector(&sink, ""))];
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    let stage = Stage::set(&files, Arc::new(Vault::default()), |settings| {
        settings.tenants.default.backlog = Some(3);
    })
    .await;
    let send = async |n: u64| stage.send("/a", json!({"key": n.to_string(), "n": n})).await.0;
    let mut answers: Vec<u16> = Vec::new();
    for n in 0..5 {
        answers.push(send(n).await);
    }
    assert_eq!(answers, [202, 202, 202, 429, 429]);
    up.store(true, SeqCst);
    stage.settled().await;
    assert_eq!(send(9).await, 202);
}

/// 403 parks a destination; a changed secret is what mends it.
#[tokio::test(start_paused = true)]
async fn a_held_destination_goes_on_when_its_secret_changes() {
    let sink = MockServer::start(|seen| {
        let good = seen.header("authorization") == Some("Bearer new");
        Reply::status(if good { 200 } else { 403 })
    })
    .await;
    let text = connector(&sink, "auth = \"sink\"")
        + "[auth.sink]\ntype = \"bearer\"\ntoken = \"{{ secret.TOKEN }}\"\n";
    let vault = Arc::new(Vault::default());
    vault.set("TOKEN", "old");
    let stage = Stage::set(&[("a.toml", &text)], vault.clone(), |_| {}).await;
    append(&stage, vec![event(&stage, "t", "k", 1)]).await;
    stage.until("held", |e| e.status().connectors[0].state == "held").await;
    seconds(3_600).await;
    assert_eq!(sink.seen().len(), 1);
    vault.set("TOKEN", "new");
    stage.settled().await;
    assert_eq!(stage.connector("a").state, "running");
    assert!(stage.engine.bus().dead_letters().is_empty());
}

/// What is refused went with the secret that was there when it was sent.
#[tokio::test(start_paused = true)]
async fn a_secret_that_changes_under_a_request_does_not_park_for_good() {
    let vault = Arc::new(Vault::default());
    vault.set("TOKEN", "old");
    let rotated = Arc::clone(&vault);
    let sink = MockServer::start(move |seen| {
        let good = seen.header("authorization") == Some("Bearer new");
        rotated.set("TOKEN", "new");
        Reply::status(if good { 200 } else { 403 })
    })
    .await;
    let text = connector(&sink, "auth = \"sink\"")
        + "[auth.sink]\ntype = \"bearer\"\ntoken = \"{{ secret.TOKEN }}\"\n";
    let stage = Stage::set(&[("a.toml", &text)], vault, |_| {}).await;
    append(&stage, vec![event(&stage, "t", "k", 1)]).await;
    stage.settled().await;
    assert_eq!(sink.seen().len(), 2);
    assert_eq!(stage.connector("a").state, "running");
}

#[tokio::test(start_paused = true)]
async fn a_breaker_stays_open_over_a_reload_and_resume_closes_it() {
    let up = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&up);
    let sink =
        MockServer::start(move |_| Reply::status(if gate.load(SeqCst) { 200 } else { 500 })).await;
    let keys = "breaker = { of = 5, within = \"1m\", open = \"1h\" }";
    let stage = stage(&sink, keys).await;
    append(&stage, (0..40).map(|n| event(&stage, "t", &format!("k{n}"), n)).collect()).await;
    let is_open = |stage: &Stage| stage.connector("a").destinations[0].breaker.is_some();
    stage.until("open", |e| e.status().connectors[0].destinations[0].breaker.is_some()).await;
    let before = sink.seen().len();
    let changed = connector(&sink, &format!("{keys}\nconcurrency = 8"));
    stage.write("a.toml", &changed);
    assert_eq!(stage.engine.reload().await.changed, ["a"]);
    seconds(600).await;
    assert_eq!(sink.seen().len(), before, "a reload is no reason to ask again");
    up.store(true, SeqCst);
    assert_eq!(stage.engine.resume("a", None).await, Ok(1));
    assert!(!is_open(&stage));
    let began = tokio::time::Instant::now();
    stage.settled().await;
    let took = began.elapsed();
    assert!(took <= Duration::from_mins(1), "{took:?}: what waited for the breaker goes on now");
}

/// What its breaker learns while the old plan drains is not told twice, nor taken back twice.
#[tokio::test(start_paused = true)]
async fn breakers_that_change_while_a_reload_waits_are_counted_once() {
    let up = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&up);
    let sink = MockServer::start(move |_| {
        let reply = Reply::status(if gate.load(SeqCst) { 200 } else { 500 });
        reply.delay(Duration::from_secs(5))
    })
    .await;
    let keys = "breaker = { of = 5, within = \"10m\", open = \"10s\", probes = 1 }";
    let stage = stage(&sink, keys).await;
    append(&stage, (0..40).map(|n| event(&stage, "t", &format!("k{n}"), n)).collect()).await;
    stage.until("open", |e| e.status().connectors[0].destinations[0].breaker.is_some()).await;
    assert_eq!(stage.metric(BREAKERS_OPEN), 1);
    let before = sink.seen().len();
    up.store(true, SeqCst);
    stage.until("a probe is under way", |_| sink.seen().len() > before).await;
    stage.write("a.toml", &connector(&sink, &format!("{keys}\nconcurrency = 8")));
    assert_eq!(stage.engine.reload().await.changed, ["a"]);
    stage.settled().await;
    assert_eq!((breakers(&stage).len(), stage.metric(BREAKERS_OPEN)), (0, 0));
}

/// A refusal that comes while a reload waits parks what is on its way out, not what follows it.
#[tokio::test(start_paused = true)]
async fn a_refusal_while_a_reload_waits_leaves_nothing_parked() {
    let refusals = AtomicUsize::new(0);
    let sink = MockServer::start(move |_| {
        let reply = Reply::status(if refusals.fetch_add(1, SeqCst) == 0 { 403 } else { 200 });
        reply.delay(Duration::from_secs(5))
    })
    .await;
    let stage = stage(&sink, "").await;
    append(&stage, vec![event(&stage, "t", "k", 1)]).await;
    stage.until("it is asked", |_| sink.seen().len() == 1).await;
    stage.write("a.toml", &connector(&sink, "concurrency = 8"));
    assert_eq!(stage.engine.reload().await.changed, ["a"]);
    stage.settled().await;
    let held = r#"tenon_destination_held{connector="a",destination="sink"}"#;
    assert_eq!((sink.seen().len(), stage.metric(held)), (2, 0));
}

/// What is resumed is handed out as far as it was: a tenant that hangs takes no more of its lane.
#[tokio::test(start_paused = true)]
async fn a_resume_lets_nobody_have_more_in_hand_than_before() {
    for batch in ["", "[destination.sink.batch]\nmax = 2\nwithin = \"10ms\""] {
        let sink = MockServer::start(|seen| {
            if seen.text().contains("hang") { Reply::hang() } else { Reply::status(200) }
        })
        .await;
        let stage = stage(&sink, &format!("timeout = \"1h\"\nconcurrency = 64\n{batch}")).await;
        append(&stage, vec![event(&stage, "t", "k", 1)]).await;
        stage.settled().await;
        append(&stage, (0..50).map(|n| event(&stage, "t", &format!("hang{n}"), 1)).collect()).await;
        seconds(1).await;
        let in_hand = || {
            let text = stage.engine.metrics_text();
            let line = text.lines().find(|line| line.starts_with("tenon_in_hand_bytes "));
            line.unwrap().rsplit(' ').next().unwrap().parse::<u64>().unwrap()
        };
        let before = in_hand();
        assert!(before > 0);
        assert_eq!(stage.engine.resume("a", None).await, Ok(0));
        seconds(1).await;
        assert_eq!(in_hand(), before);
    }
}

/// What a batch leaves out because something newer was delivered counts for its replay all the same.
#[tokio::test(start_paused = true)]
async fn a_copy_that_is_superseded_before_its_batch_counts_for_its_replay() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let stage = stage(&sink, "[destination.sink.batch]\nmax = 3\nwithin = \"1s\"").await;
    append(&stage, vec![event(&stage, "t", "k", 2)]).await;
    stage.settled().await;
    let replayed = Some(Replayed { by: ReplayId::new(stage.engine.now(), 1), keys: None });
    append(&stage, vec![Event { replayed, ..event(&stage, "t", "k", 1) }]).await;
    stage.settled().await;
    assert_eq!(sink.seen().len(), 1);
    let series = r#"tenon_replay_events_total{connector="a",stream="orders",outcome="superseded"}"#;
    assert_eq!(stage.metric(series), 1);
}

/// Every event waits for the one before it, whatever its key, also while that one fails.
#[tokio::test(start_paused = true)]
async fn strict_order_holds_over_retries() {
    let failures = AtomicUsize::new(0);
    let sink = MockServer::start(move |seen| {
        let fails = seen.json()["n"] == 2 && failures.fetch_add(1, SeqCst) < 3;
        Reply::status(if fails { 503 } else { 200 })
    })
    .await;
    let stage = stage(&sink, "order = \"strict\"").await;
    append(&stage, (0..6).map(|n| event(&stage, "t", &format!("k{n}"), n)).collect()).await;
    stage.settled().await;
    let seen: Vec<Value> = sink.seen().iter().map(|s| s.json()["n"].clone()).collect();
    assert_eq!(seen, [0, 1, 2, 2, 2, 2, 3, 4, 5]);
}

/// 429 with Retry-After, and a spent `RateLimit`, are an agreement that is kept.
#[tokio::test(start_paused = true)]
async fn a_destination_that_asks_for_peace_gets_it() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let times = Arc::clone(&asked);
    let began = tokio::time::Instant::now();
    let sink = MockServer::start(move |_| {
        let mut times = times.lock().unwrap();
        times.push(began.elapsed().as_secs());
        match times.len() {
            3 => Reply::status(429).header("retry-after", "60"),
            6 => Reply::status(200)
                .header("ratelimit-remaining", "0")
                .header("ratelimit-reset", "100"),
            _ => Reply::status(200),
        }
    })
    .await;
    let stage = stage(&sink, "concurrency = 1").await;
    append(&stage, (0..10).map(|n| event(&stage, "t", &format!("k{n}"), n)).collect()).await;
    stage.settled().await;
    let asked = asked.lock().unwrap().clone();
    let pauses: Vec<u64> =
        asked.windows(2).map(|pair| pair[1] - pair[0]).filter(|pause| *pause > 5).collect();
    assert_eq!(pauses.len(), 2, "{asked:?}");
    assert!((60..80).contains(&pauses[0]) && (100..130).contains(&pauses[1]), "{asked:?}");
}

/// A destination that slows down gets fewer attempts at once.
#[tokio::test(start_paused = true)]
async fn attempts_at_once_follow_what_the_destination_can_do() {
    let most = Arc::new(AtomicUsize::new(0));
    let noted = Arc::clone(&most);
    let mut busy_until: Vec<tokio::time::Instant> = Vec::new();
    let took = Duration::from_millis(100);
    let limited = MockServer::start(move |_| {
        let now = tokio::time::Instant::now();
        busy_until.retain(|until| *until > now);
        // More than eight at once are too many for it.
        if busy_until.len() >= 8 {
            return Reply::status(503);
        }
        busy_until.push(now + took);
        noted.fetch_max(busy_until.len(), SeqCst);
        Reply::status(200).delay(took)
    })
    .await;
    let keys = "concurrency = 64\nbreaker = { enabled = false }";
    let stage = stage(&limited, keys).await;
    append(&stage, (0..2_000).map(|n| event(&stage, "t", &format!("k{n}"), n)).collect()).await;
    stage.settled().await;
    let refused = limited.seen().len() - 2_000;
    assert!(refused < 400, "{refused} refusals of 2,000: it is found out what it takes");
    assert!(most.load(SeqCst) >= 8, "and that is used");
}

/// That a breaker closed once is no reason to forget, ever after, how long a repetition waits.
#[tokio::test(start_paused = true)]
async fn a_breaker_that_closed_long_ago_hurries_nothing_any_more() {
    let up = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&up);
    let sink = MockServer::start(move |seen| {
        let fails = !gate.load(SeqCst) || seen.json()["key"] == "poison";
        Reply::status(if fails { 503 } else { 200 })
    })
    .await;
    let keys = "breaker = { of = 5, open = \"10s\" }\n[destination.sink.retry]\n\
                attempts = 20\nfrom = \"1h\"\nto = \"1h\"\nwithin = \"7d\"";
    let stage = stage(&sink, keys).await;
    append(&stage, (0..20).map(|n| event(&stage, "t", &format!("k{n}"), n)).collect()).await;
    seconds(5).await;
    up.store(true, SeqCst);
    stage.settled().await;
    let attempts = || sink.seen().iter().filter(|s| s.json()["key"] == "poison").count();
    append(&stage, vec![event(&stage, "t", "poison", 99)]).await;
    for n in 100..160 {
        append(&stage, vec![event(&stage, "t", &format!("k{n}"), n)]).await;
        seconds(1).await;
    }
    assert!(attempts() < 5, "{} attempts in a minute that should take hours", attempts());
}
