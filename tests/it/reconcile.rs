//! Reconciliations, the silence of webhooks and wrong clocks, in a whole engine with a paused clock; and
//! what of it survives a restart.

use std::{
    io,
    path::Path,
    slice::from_ref,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tenon::{
    bus::Bus as _,
    diagnostic::{Severity, SourceFile, render_human},
    engine::{Engine, EngineOptions, ReconcileStatus, StreamStatus},
    ingest::poll::{
        Pass, Poller, Range, reconciliation, reconciliation_range, reconciliation_rest,
    },
    plan::{BusKind, Reach, Settings, Sources, compile_file},
    world::{Clock, ScriptedClock, ScriptedEntropy, StaticSecrets, SystemClock, Timestamp, World},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    support::{MockServer, Reply, Seen, walk::Walk},
    webhook::rig::hmac_hex,
};

/// 2026-11-22T10:00:00Z.
const START: Timestamp = Timestamp(1_795_341_600_000);
const HOUR: Duration = Duration::from_hours(1);
const MINUTE: Duration = Duration::from_mins(1);

/// Log lines as they are written.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Keeps what this thread logs from now on.
    fn keep(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_max_level(tracing::Level::INFO)
            .with_writer(move || log.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    /// Lines whose message begins so.
    fn lines(&self, message: &str) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().clone()).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let begins =
            |line: &Value| line["message"].as_str().is_some_and(|m| m.starts_with(message));
        lines.filter(begins).collect()
    }
}

/// An API whose records are listed by when they changed, in seconds.
#[derive(Clone, Default)]
struct Api(Arc<Mutex<Vec<(String, i64)>>>);

impl Api {
    fn add(&self, id: &str, at: Timestamp) {
        self.0.lock().push((id.to_owned(), at.0 / 1000));
    }

    fn reply(&self, seen: &Seen) -> Reply {
        let number = |name: &str| seen.param(name).map(|text| text.parse::<i64>().unwrap());
        let (since, until) = (number("since").unwrap_or(0), number("until").unwrap_or(i64::MAX));
        let mut records = self.0.lock().clone();
        records.retain(|(_, at)| (since..=until).contains(at));
        records.sort_by_key(|(_, at)| *at);
        let records: Vec<Value> =
            records.into_iter().map(|(id, at)| json!({ "id": id, "at": at })).collect();
        Reply::json(records)
    }

    async fn serve(&self) -> MockServer {
        let api = self.clone();
        MockServer::start(move |seen| api.reply(seen)).await
    }
}

/// A connector `shop` with a stream `orders` of that API.
fn connector(api: &MockServer, sink: &MockServer, reconcile: &str, more: &str) -> String {
    text(&api.url(""), &sink.url("/in"), reconcile, more)
}

fn text(api: &str, sink: &str, reconcile: &str, more: &str) -> String {
    format!(
        r#"
name = "shop"
version = "1.0.0"
owner = "tests"

[source]
base = "{api}"

[schedule]
every = "1h"
jitter = "0%"

[schedule.reconcile]
{reconcile}

[stream.orders]
key = "$.id"
revision = "$.at | integer"

[stream.orders.poll]
path = "/orders"

[stream.orders.poll.cursor]
field = "$.at"
format = "epoch_s"
start = "2026-11-10"
start_param = "since"

[destination.sink]
type = "http"
url = "{sink}"
{more}
"#
    )
}

const WEBHOOK: &str = "[stream.orders.webhook]\npath = \"/orders\"\nverify = \"none\"\n";

struct Stage {
    folder: tempfile::TempDir,
    clock: Arc<dyn Clock>,
    engine: Arc<Engine>,
}

impl Stage {
    async fn with(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("shop.toml"), text).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(ScriptedClock::starting_at(START));
        let mut settings = Settings {
            listen: "127.0.0.1:0".parse().unwrap(),
            watch: false,
            ..Settings::default()
        };
        settings.bus.kind = BusKind::Memory;
        settings.egress.allow = vec!["127.0.0.0/8".parse().unwrap()];
        let world = World {
            clock: Arc::clone(&clock),
            entropy: Arc::new(ScriptedEntropy::seeded(7)),
            secrets: Arc::new(StaticSecrets::new([("HOOK", "s3cret")])),
        };
        let paths = vec![folder.path().to_owned()];
        let engine = Engine::start(EngineOptions { paths, settings, world }).await.unwrap();
        Self { folder, clock, engine }
    }

    /// Lets so much virtual time pass.
    async fn pass(&self, time: Duration) {
        let until = self.clock.now().plus(time);
        while self.clock.now() < until {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Posts a body; status and answer.
    async fn post(&self, headers: &str, body: &str) -> (u16, String) {
        let to = self.engine.listen_address();
        let mut stream = TcpStream::connect(to).await.unwrap();
        let request = format!(
            "POST /orders HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n{headers}\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split("\r\n\r\n").nth(1).unwrap().to_owned())
    }

    async fn webhook(&self, id: &str, at: Timestamp) {
        let body = json!({ "id": id, "at": at.0 / 1000 }).to_string();
        assert_eq!(self.post("", &body).await.0, 202);
    }

    fn stream(&self) -> StreamStatus {
        self.engine.status().connectors[0].streams[0].clone()
    }

    fn reconcile(&self) -> ReconcileStatus {
        self.stream().reconcile.expect("it reconciles")
    }

    /// The value of a series of the stream; `None` where there is none.
    fn metric(&self, name: &str, more: &str) -> Option<f64> {
        let series = format!("{name}{{connector=\"shop\",stream=\"orders\"{more}}} ");
        let text = self.engine.metrics_text();
        text.lines().find_map(|line| line.strip_prefix(series.as_str())?.parse().ok())
    }
}

fn delivered(sink: &MockServer) -> Vec<String> {
    let ids = sink.seen().into_iter().map(|seen| seen.json()["id"].as_str().unwrap().to_owned());
    let mut ids: Vec<String> = ids.collect();
    ids.sort();
    ids
}

#[tokio::test(start_paused = true)]
async fn what_neither_a_webhook_nor_the_poll_brought_is_found() {
    let log = Log::default();
    let _kept = log.keep();
    let api = Api::default();
    for day in 1..=8 {
        api.add(&format!("{day} days old"), START.minus(HOUR * 24 * day));
    }
    api.add("new", START.minus(MINUTE));
    let (server, sink) = (api.serve().await, MockServer::start(|_| Reply::status(200)).await);
    let text = connector(&server, &sink, "every = \"24h\"\njitter = \"0%\"\nwindow = \"6d\"", "");
    let stage = Stage::with(&text).await;
    stage.pass(MINUTE).await;
    assert_eq!(delivered(&sink).len(), 9);
    let planned = stage.reconcile();
    assert_eq!((planned.state.as_str(), planned.next), ("waiting", Some(START.plus(HOUR * 24))));

    // It shows in the list after the poll has passed its time.
    api.add("late", START.minus(HOUR * 2));
    stage.pass(HOUR * 23).await;
    assert_eq!(delivered(&sink).len(), 9, "the poll does not see it");
    stage.pass(HOUR * 2).await;
    let done = stage.reconcile();
    assert_eq!((done.state.as_str(), &done.problem), ("done", &None), "{done:?}");
    // Those of five days, and neither of the two at the ends: the oldest is out of the window, the
    // newest is where the live cursor stands.
    assert_eq!((done.found, done.known), (1, 5), "{done:?}");
    assert_eq!(done.began_at, Some(START.plus(HOUR * 24)));
    assert!(delivered(&sink).contains(&"late".to_owned()));
    let since: Vec<i64> =
        server.seen().iter().map(|seen| seen.param("since").unwrap().parse().unwrap()).collect();
    let from = (START.0 / 1000) + 86_400 - 6 * 86_400;
    assert!(since.contains(&from), "{since:?}");
    // Beside the live cursor.
    assert_eq!(stage.stream().cursor.as_deref(), Some("2026-11-22T09:59:00Z"));

    stage.pass(HOUR * 24).await;
    let again = stage.reconcile();
    assert_eq!((again.state.as_str(), again.found), ("done", 0), "{again:?}");
    assert_eq!(stage.metric("tenon_reconcile_runs_total", ",result=\"ok\""), Some(2.0));
    assert_eq!(stage.metric("tenon_reconcile_found_total", ""), Some(1.0));
    let (known, read) = (done.known + again.known, done.read + again.read);
    assert_eq!(stage.metric("tenon_reconcile_known_total", ""), Some(known as f64));
    assert_eq!(stage.metric("tenon_reconcile_read_total", ""), Some(read as f64));
    assert_eq!(stage.metric("tenon_events_found_by_poll_total", ""), None, "it has no webhook");
    let lines = log.lines("reconciliation done");
    let found: Vec<_> = lines.iter().map(|line| line["found"].as_u64().unwrap()).collect();
    assert_eq!(found, [1, 0]);
    assert!(stage.engine.bus().state_under("reconcile/").is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_found_is_a_parent_too() {
    let api = Api::default();
    for day in 1..=4 {
        api.add(&format!("{day}"), START.minus(HOUR * 24 * day));
    }
    let orders = api.clone();
    let server = MockServer::start(move |seen| match seen.path() {
        "/orders" => orders.reply(seen),
        path => Reply::json(json!([{ "id": path }])),
    })
    .await;
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let reconcile = "every = \"24h\"\njitter = \"0%\"\nwindow = \"6d\"";
    let children = "[stream.lines]\nkey = \"$.id\"\n[stream.lines.poll]\n\
                    path = \"/orders/{{ each.order.id }}/lines\"\neach = { order = \"orders\" }\n";
    let text = connector(&server, &sink, reconcile, children)
        .replace("[schedule.reconcile]", "[stream.orders.schedule.reconcile]")
        .replace("[stream.orders]\n", "[stream.orders]\nto = []\n");
    let stage = Stage::with(&text).await;
    stage.pass(MINUTE).await;
    assert_eq!(delivered(&sink).len(), 4);
    api.add("late", START.minus(HOUR * 30));
    stage.pass(HOUR * 23).await;
    assert_eq!(delivered(&sink).len(), 4, "the poll does not see it");
    stage.pass(HOUR * 3).await;
    let done = stage.reconcile();
    assert_eq!((done.state.as_str(), done.found), ("done", 1), "{done:?}");
    assert!(delivered(&sink).contains(&"/orders/late/lines".to_owned()));
    stage.pass(HOUR * 24).await;
    assert_eq!(stage.reconcile().found, 0, "it is known by then");
}

#[tokio::test(start_paused = true)]
async fn what_is_durable_is_counted_though_the_reconciliation_is_not_over() {
    let hangs = Arc::new(AtomicBool::new(false));
    let is_hanging = Arc::clone(&hangs);
    let server = MockServer::start(move |seen| match seen.param("page").as_deref() {
        Some("1") => Reply::json(json!([{ "id": "a", "at": 1 }, { "id": "b", "at": 1 }])),
        _ if is_hanging.load(SeqCst) => Reply::hang(),
        _ => Reply::json(json!([{ "id": "c", "at": 1 }])),
    })
    .await;
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let all = connector(&server, &sink, "every = \"30m\"\njitter = \"0%\"", "");
    let cursor =
        all.find("[stream.orders.poll.cursor]").unwrap()..all.find("[destination").unwrap();
    let page = "page = { by = \"page\", param = \"page\", size = 2 }\n";
    let text = format!("{}{page}{}", &all[..cursor.start], &all[cursor.end..]);
    let stage = Stage::with(&text).await;
    stage.pass(MINUTE).await;
    assert_eq!(stage.metric("tenon_reconcile_read_total", ""), None);
    hangs.store(true, SeqCst);
    stage.pass(MINUTE * 29 + Duration::from_secs(5)).await;
    let running = stage.reconcile();
    assert_eq!((running.state.as_str(), running.read, running.known), ("running", 2, 2));
    for (name, count) in [("read", 2.0), ("known", 2.0), ("found", 0.0)] {
        let name = format!("tenon_reconcile_{name}_total");
        assert_eq!(stage.metric(&name, ""), Some(count), "{name}");
    }
    assert_eq!(stage.metric("tenon_reconcile_runs_total", ",result=\"ok\""), None);
    // What was counted is not counted again.
    hangs.store(false, SeqCst);
    stage.pass(MINUTE * 5).await;
    let done = stage.reconcile();
    assert_eq!((done.state.as_str(), done.read), ("done", 3), "{done:?}");
    assert_eq!(stage.metric("tenon_reconcile_read_total", ""), Some(3.0));
}

/// A parent that a reconciliation reads before the live poll does, and stores after it. What is
/// remembered then. `read` are the answers in the order of the requests; the reconciliation stands still at
/// its last one.
async fn overtaken(tables: &str, again: &[Value], live: &[Value]) -> Option<Value> {
    let gate = Arc::new(tokio::sync::Notify::new());
    let last = Reply::json(again[again.len() - 1].clone()).gate(&gate);
    let first = again[..again.len() - 1].iter().cloned().map(Reply::json);
    let replies = first.chain([last]).chain(live.iter().cloned().map(Reply::json));
    let server = MockServer::scripted(replies).await;
    let walk = Walk::new(
        &server,
        &format!(
            "[stream.orders]\nkey = \"$.id\"\nto = []\n{tables}\
             [stream.lines]\nkey = \"$.id\"\n[stream.lines.poll]\n\
             path = \"/{{{{ each.order.name }}}}\"\neach = {{ order = \"orders\" }}\n"
        ),
    );
    let poller = walk.poller("orders");
    let (beside, _) = reconciliation(&poller, &Range::default(), START).unwrap();
    let ahead = async {
        server.wait_for(again.len()).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        poller.run(&|_| {}).await.unwrap();
        gate.notify_one();
    };
    let (report, ()) = tokio::join!(beside.run_as(Pass::Again, &|_| {}), ahead);
    let stored = walk.bus.state("parent/shop/orders/1");
    let stored = stored.map(|bytes| serde_json::from_slice::<Value>(&bytes).unwrap());
    assert_eq!(report.unwrap().accepted, 0, "{stored:?}");
    stored.map(|stored| stored["record"]["name"].clone())
}

#[tokio::test(start_paused = true)]
async fn an_older_parent_does_not_take_the_place_of_a_newer_one() {
    let order = |revision: u64, name: &str| json!({ "id": 1, "v": revision, "name": name });
    let by_revision = "revision = \"$.v | integer\"\n[stream.orders.poll]\npath = \"/orders\"\n";
    let (old, new) = (json!([order(1, "old")]), json!([order(2, "new")]));
    let stored = overtaken(by_revision, from_ref(&old), from_ref(&new)).await;
    assert_eq!(stored, Some(json!("new")));
    // By when it was listed.
    let details = "[stream.orders.poll]\npath = \"/orders\"\n\
                   detail = { path = \"/orders/{{ record.id }}\" }\n";
    let stored =
        overtaken(details, &[old.clone(), old[0].clone()], &[new.clone(), new[0].clone()]).await;
    assert_eq!(stored, Some(json!("new")));
    // What was not there yet is not forgotten.
    let stored = overtaken(by_revision, &[json!([])], &[new]).await;
    assert_eq!(stored, Some(json!("new")));
}

#[tokio::test(start_paused = true)]
async fn of_a_record_that_a_page_lists_several_times_the_newest_revision_is_the_parent() {
    let order = |revision: u64| json!({ "id": 1, "v": revision, "name": format!("v{revision}") });
    let server = MockServer::scripted([Reply::json([1, 3, 2].map(order))]).await;
    let walk = Walk::new(
        &server,
        "[stream.orders]\nkey = \"$.id\"\nrevision = \"$.v | integer\"\nto = []\n\
         [stream.orders.poll]\npath = \"/orders\"\n\
         [stream.lines]\nkey = \"$.id\"\n[stream.lines.poll]\n\
         path = \"/{{ each.order.name }}\"\neach = { order = \"orders\" }\n",
    );
    walk.poller("orders").run(&|_| {}).await.unwrap();
    let stored = walk.bus.state("parent/shop/orders/1").unwrap();
    let stored: Value = serde_json::from_slice(&stored).unwrap();
    assert_eq!(stored["record"]["name"], "v3");
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_was_removed_meanwhile_does_not_come_back() {
    let order = |gone: bool| json!({ "id": 1, "v": u8::from(gone), "gone": gone, "name": "x" });
    let delete = "delete = \"{{ record.gone }}\"\nrevision = \"$.v | integer\"\n\
                  [stream.orders.poll]\npath = \"/orders\"\n\
                  detail = { path = \"/orders/{{ record.id }}\" }\n";
    let (there, gone) =
        ([json!([order(false)]), order(false)], [json!([order(true)]), order(true)]);
    // There was nothing to remove, and yet it is gone.
    assert_eq!(overtaken(delete, &there, &gone).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_is_no_longer_listed_does_not_come_back() {
    let order = json!({ "id": 1, "v": 1, "name": "x" });
    let gate = Arc::new(tokio::sync::Notify::new());
    let listed = || Reply::json(json!([order]));
    let replies =
        [listed(), listed(), Reply::json(order.clone()).gate(&gate), Reply::json(json!([]))];
    let server = MockServer::scripted(replies).await;
    let by_list = "revision = \"$.v | integer\"\n[stream.orders.poll]\npath = \"/orders\"\n";
    let lines = "[stream.lines]\nkey = \"$.id\"\n[stream.lines.poll]\n\
                 path = \"/{{ each.order.name }}\"\neach = { order = \"orders\" }\n";
    let detail = "detail = { path = \"/orders/{{ record.id }}\" }\n";
    let walk = |detail: &str| {
        let tables = format!("[stream.orders]\nkey = \"$.id\"\nto = []\n{by_list}{detail}{lines}");
        Walk::new(&server, &tables)
    };
    let (plain, detailed) = (walk(""), walk(detail));
    let live = plain.poller("orders");
    live.run(&|_| {}).await.unwrap();
    let again = Poller {
        bus: Arc::clone(&live.bus),
        source: Arc::clone(&live.source),
        ..detailed.poller("orders")
    };
    let (beside, _) = reconciliation(&again, &Range::default(), START).unwrap();
    let ahead = async {
        server.wait_for(3).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        live.run(&|_| {}).await.unwrap();
        gate.notify_one();
    };
    let (report, ()) = tokio::join!(beside.run_as(Pass::Again, &|_| {}), ahead);
    assert_eq!(report.unwrap().accepted, 0);
    assert_eq!(plain.bus.state("parent/shop/orders/1"), None);
}

#[tokio::test(start_paused = true)]
async fn webhooks_that_bring_everything_leave_nothing_to_find() {
    let api = Api::default();
    let (server, sink) = (api.serve().await, MockServer::start(|_| Reply::status(200)).await);
    let reconcile = "every = \"6h\"\nwindow = \"6d\"\nsilence = \"3h\"";
    let stage = Stage::with(&connector(&server, &sink, reconcile, WEBHOOK)).await;
    for number in 0..26 {
        let id = format!("o{number}");
        stage.webhook(&id, stage.clock.now()).await;
        api.add(&id, stage.clock.now());
        stage.pass(MINUTE * 29).await;
    }
    assert_eq!(delivered(&sink).len(), 26);
    assert_eq!(stage.metric("tenon_events_found_by_poll_total", ""), None);
    let done = stage.reconcile();
    assert_eq!((done.state.as_str(), done.found), ("done", 0), "{done:?}");
    assert!(done.known > 10, "{done:?}");
    assert_eq!(stage.metric("tenon_reconcile_found_total", ""), Some(0.0));
    assert_eq!(stage.metric("tenon_webhook_silent", ""), Some(0.0));
    // Nor is a silence an alert in which nothing happens.
    stage.pass(HOUR * 12).await;
    assert_eq!(stage.metric("tenon_webhook_silent", ""), Some(0.0));
    let webhooks = stage.stream().webhooks.unwrap();
    assert_eq!((webhooks.silent, webhooks.missed, webhooks.missed_since), (false, 0, None));
}

#[tokio::test(start_paused = true)]
async fn missing_webhooks_are_an_alert_and_are_polled_for_until_one_comes() {
    let log = Log::default();
    let _kept = log.keep();
    let api = Api::default();
    let (server, sink) = (api.serve().await, MockServer::start(|_| Reply::status(200)).await);
    let reconcile = "silence = \"170m\"\nfaster = \"5m\"";
    let stage = Stage::with(&connector(&server, &sink, reconcile, WEBHOOK)).await;
    stage.webhook("o0", stage.clock.now()).await;
    api.add("o0", stage.clock.now());
    let missing = "webhooks are missing";
    // From here on nothing is sent.
    stage.pass(MINUTE * 30).await;
    for number in 1..=9 {
        api.add(&format!("o{number}"), stage.clock.now());
        stage.pass(MINUTE * 20).await;
    }
    // After 3 h 30 min: a poll found the first an hour after the start, so it is missing for 2 h 30 min.
    assert_eq!(stage.metric("tenon_webhook_silent", ""), Some(0.0));
    assert!(log.lines(missing).is_empty());
    stage.pass(MINUTE * 35).await;
    assert_eq!(stage.metric("tenon_webhook_silent", ""), Some(1.0));
    let webhooks = stage.stream().webhooks.unwrap();
    assert!(webhooks.silent && webhooks.missed == 9, "{webhooks:?}");
    assert_eq!(webhooks.last, Some(START));
    assert_eq!(stage.metric("tenon_webhook_missed_events", ""), Some(9.0));
    let alerts = log.lines(missing);
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    // The ninth was found by the first poll after that.
    assert_eq!((&alerts[0]["level"], &alerts[0]["missed"]), (&json!("ERROR"), &json!(8)));
    assert_eq!(alerts[0]["last_webhook"], json!(START.rfc3339()));

    // Every five minutes instead of every hour.
    let before = server.seen().len();
    stage.pass(HOUR).await;
    let polls = server.seen().len() - before;
    assert!((11..=13).contains(&polls), "{polls} polls in an hour");
    assert_eq!(log.lines(missing).len(), 1, "it is said once");

    stage.webhook("o99", stage.clock.now()).await;
    stage.pass(Duration::from_secs(1)).await;
    assert_eq!(stage.metric("tenon_webhook_silent", ""), Some(0.0));
    assert_eq!(log.lines("webhooks are back").len(), 1);
    let before = server.seen().len();
    stage.pass(HOUR).await;
    let polls = server.seen().len() - before;
    assert!(polls <= 1, "{polls} polls in an hour");
    assert_eq!(stage.metric("tenon_events_found_by_poll_total", ""), Some(9.0));
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_comes_while_the_poll_still_runs_is_heard() {
    let (mut runs, mut refused) = (0, false);
    let server = MockServer::start(move |seen| {
        if seen.param("page").as_deref() == Some("1") {
            runs += 1;
            let (id, at) = if runs == 1 { ("o0", START) } else { ("o1", START.plus(MINUTE * 30)) };
            return Reply::json(json!([{ "id": id, "at": at.0 / 1000 }]));
        }
        // The end of the second run is late.
        if runs == 2 && !std::mem::replace(&mut refused, true) {
            return Reply::text(429, "").header("retry-after", "50");
        }
        Reply::json(json!([]))
    })
    .await;
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let text = connector(&server, &sink, "silence = \"3h\"", WEBHOOK);
    let pages = "path = \"/orders\"\npage = { by = \"page\", param = \"page\", size = 1 }";
    let stage = Stage::with(&text.replacen("path = \"/orders\"", pages, 1)).await;
    stage.pass(HOUR + Duration::from_secs(20)).await;
    assert_eq!(delivered(&sink), ["o0", "o1"]);
    stage.webhook("o1", START.plus(MINUTE * 30)).await;
    // A quiet night follows.
    stage.pass(HOUR * 5).await;
    let webhooks = stage.stream().webhooks.unwrap();
    assert_eq!((webhooks.silent, webhooks.missed_since), (false, None), "{webhooks:?}");
    assert_eq!(stage.metric("tenon_webhook_silent", ""), Some(0.0));
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_is_refused_hides_no_silence() {
    let api = Api::default();
    let (server, sink) = (api.serve().await, MockServer::start(|_| Reply::status(200)).await);
    let text = connector(&server, &sink, "silence = \"3h\"", WEBHOOK);
    let stage = Stage::with(&text).await;
    stage.pass(MINUTE).await;
    assert_eq!(stage.metric("tenon_webhook_silent", ""), Some(0.0));
    let write = |name: &str, text: String| {
        std::fs::write(stage.folder.path().join(name), text).unwrap();
    };
    write("shop.toml", text.replace("1.0.0", "1.0.1"));
    write("other.toml", text.replace("name = \"shop\"", "name = \"other\""));
    let report = stage.engine.reload().await;
    assert!(!report.failed.is_empty(), "{report:?}");
    stage.pass(MINUTE).await;
    assert_eq!(stage.metric("tenon_webhook_silent", ""), Some(0.0), "{report:?}");
}

const SIGNED: &str = r#"
[stream.orders.webhook]
path = "/orders"
verify = "shop"
secret = "{{ secret.HOOK }}"

[verify.shop]
algorithm = "hmac-sha256"
signed    = "{{ timestamp }}.{{ body }}"
signature = { header = "X-Signature" }
timestamp = { header = "X-Time", past = "5m", future = "1m" }
"#;

/// Posts an event that was signed so long after now; the status and what was answered.
async fn post_signed(stage: &Stage, number: u64, offset_s: i64, secret: &str) -> (u16, String) {
    let time = stage.clock.now().0 / 1000 + offset_s;
    let body = json!({ "id": format!("o{number}"), "at": number }).to_string();
    let signature = hmac_hex(secret, format!("{time}.{body}").as_bytes());
    stage.post(&format!("x-time: {time}\r\nx-signature: {signature}\r\n"), &body).await
}

/// What the log says of the refusals of a clock that is so far off.
async fn refusals(offset_s: i64) -> Vec<String> {
    let log = Log::default();
    let _kept = log.keep();
    let api = Api::default();
    let (server, sink) = (api.serve().await, MockServer::start(|_| Reply::status(200)).await);
    let reconcile = "every = \"24h\"\nwindow = \"6d\"";
    let stage = Stage::with(&connector(&server, &sink, reconcile, SIGNED)).await;
    // A stranger's time moves nothing.
    let refused = (401, "{\"error\":\"bad_signature\"}".to_owned());
    for _ in 0..5 {
        assert_eq!(post_signed(&stage, 1, 86_400, "other").await, refused);
    }
    assert_eq!(stage.metric("tenon_clock_skew_seconds", ",from=\"webhook\""), None);
    for number in 1..=3 {
        stage.pass(Duration::from_secs(10)).await;
        assert_eq!(post_signed(&stage, number, offset_s, "s3cret").await, refused);
    }
    let told = stage.metric("tenon_clock_skew_seconds", ",from=\"webhook\"").unwrap();
    assert!((told - offset_s as f64).abs() <= 1.0, "{told}");
    let clock = stage.stream().clocks.into_iter().find(|clock| clock.from == "webhook").unwrap();
    assert!(clock.off, "{clock:?}");
    let warned = log.lines("the clock of whoever signs the webhooks");
    assert_eq!(warned.len(), 1, "it is said once");
    // A clock that is right is believed, and in time shows as such.
    for number in 4..=20 {
        assert_eq!(post_signed(&stage, number, 0, "s3cret").await.0, 202);
    }
    let clock = stage.stream().clocks.into_iter().find(|clock| clock.from == "webhook").unwrap();
    assert!(!clock.off && clock.millis.abs() <= 1000, "{clock:?}");
    assert_eq!(log.lines("the clock of whoever signs the webhooks is right").len(), 1);
    let details = log.lines("webhook refused").into_iter();
    details.map(|line| line["detail"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_refused_timestamp_says_how_wrong_the_clock_is() {
    let details = refusals(-600).await;
    assert_eq!(
        details[0],
        "timestamp_too_new: its time is 1d ahead of ours and its signature is not right either"
    );
    let genuine = "timestamp_too_old: its time is 10m behind ours and its signature is right: a \
                   clock is wrong, or it was held back or sent again";
    // Seconds are cut, so it may be a second more.
    assert_eq!(details[5].replace("10m 1s", "10m"), genuine);
    let details = refusals(600).await;
    assert!(details[5].starts_with("timestamp_too_new: its time is "), "{details:?}");
    assert!(details[5].contains("ahead of ours and its signature is right"), "{details:?}");
}

#[tokio::test(start_paused = true)]
async fn the_clock_of_a_source_is_seen_in_its_answers() {
    let log = Log::default();
    let _kept = log.keep();
    let server = MockServer::start(|_| {
        // Ten minutes and some behind, whenever it is asked.
        Reply::json(json!([])).header("date", "Sun, 22 Nov 2026 09:50:00 GMT")
    })
    .await;
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let reconcile = "every = \"24h\"\nwindow = \"6d\"";
    let text = connector(&server, &sink, reconcile, "").replace("\"1h\"", "\"1s\"");
    let stage = Stage::with(&text).await;
    stage.pass(Duration::from_secs(10)).await;
    let told = stage.metric("tenon_clock_skew_seconds", ",from=\"poll\"").unwrap();
    assert!((-615.0..=-595.0).contains(&told), "{told}");
    assert_eq!(log.lines("the source's clock is").len(), 1);
    assert!(stage.stream().clocks.iter().any(|clock| clock.from == "poll" && clock.off));
}

#[tokio::test(start_paused = true)]
async fn what_grows_too_old_while_it_waits_is_left_out() {
    let api = Api::default();
    api.add("new", START.minus(MINUTE));
    api.add("old", START.minus(HOUR * 48));
    let server = api.serve().await;
    let walk = Walk::new(
        &server,
        "[stream.orders]\nkey = \"$.id\"\nrevision = \"$.at\"\n\
         [stream.orders.poll]\npath = \"/orders\"\n\
         [stream.orders.poll.cursor]\nfield = \"$.at\"\nformat = \"epoch_s\"\n\
         start = \"2026-11-10\"\nstart_param = \"since\"",
    );
    let (live, week) = (walk.poller("orders"), Reach::Window(HOUR * 24 * 6));
    assert_eq!(reconciliation_range(&live, week, START), None, "the poll has passed nothing yet");
    walk.fine().await;
    let range = reconciliation_range(&live, week, START).expect("there is something");
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        (&range.from, &range.until),
        (&text("2026-11-16T10:00:00Z"), &text("2026-11-22T09:58:59Z"))
    );
    let rest = |reach, later| reconciliation_rest(&live, reach, &range, START.plus(later));
    assert_eq!(rest(week, MINUTE * 30), None, "claims last an hour longer");
    // Nothing of it is read yet, so nothing is to be remembered.
    let left = Range { from: text("2026-11-16T15:00:00Z"), ..range.clone() };
    assert_eq!(rest(week, HOUR * 5), Some((left.clone(), true)));
    assert_eq!(rest(Reach::Full, HOUR * 5), None, "with a start that does not move");
    // Once all of it was read there is a place, and it lies within what is left.
    let (poller, aside) = reconciliation(&live, &range, START).unwrap();
    assert_eq!(poller.run(&|_| {}).await.unwrap().duplicates, 1);
    assert_eq!(rest(week, HOUR * 5), Some((left, false)));
    aside.clear().await.unwrap();
    assert!(walk.bus.state_under("reconcile/").is_empty());
}

async fn daemon(folder: &Path) -> Arc<Engine> {
    let mut settings = Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        watch: false,
        state: folder.join("state"),
        shutdown: Duration::from_secs(10),
        ..Settings::default()
    };
    settings.egress.allow = vec!["127.0.0.0/8".parse().unwrap()];
    let world = World {
        clock: Arc::new(SystemClock),
        entropy: Arc::new(ScriptedEntropy::seeded(7)),
        secrets: Arc::new(StaticSecrets::new([("KEY", "s3cret")])),
    };
    let paths = vec![folder.join("connectors")];
    Engine::start(EngineOptions { paths, settings, world }).await.expect("it starts")
}

fn status_of(engine: &Engine) -> ReconcileStatus {
    engine.status().connectors[0].streams[0].reconcile.clone().expect("it reconciles")
}

/// Waits for something that the engine does by itself.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..500 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not so within ten seconds: {what}");
}

#[tokio::test]
async fn a_reconciliation_goes_on_after_a_restart_where_it_was() {
    const DAY_S: i64 = 86_400;
    let now_s = SystemClock.now().0 / 1000;
    let (api, hangs) = (Api::default(), Arc::new(AtomicBool::new(false)));
    for day in 0..6 {
        api.add(&format!("d{day}"), Timestamp((now_s - day * DAY_S - 600) * 1000));
    }
    let (answers, gate) = (api.clone(), Arc::clone(&hangs));
    // From two days ago on nothing is answered while it hangs.
    let server = MockServer::start(move |seen| {
        let since: i64 = seen.param("since").unwrap().parse().unwrap();
        let is_recent = since > now_s - 2 * DAY_S && since < now_s - 1200;
        if is_recent && gate.load(SeqCst) { Reply::hang() } else { answers.reply(seen) }
    })
    .await;
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("connectors")).unwrap();
    let reconcile = "every = \"2s\"\njitter = \"0%\"\nwindow = \"6d\"";
    let text = connector(&server, &sink, reconcile, "")
        .replace("\"2026-11-10\"", "\"-10d\"")
        .replace("start_param =", "end_param = \"until\"\nwindow = \"12h\"\nstart_param =");
    std::fs::write(folder.path().join("connectors/shop.toml"), text).unwrap();
    let first = daemon(folder.path()).await;
    until("the poll is done", || delivered(&sink).len() == 6).await;
    until("one is done", || status_of(&first).state == "done").await;
    hangs.store(true, SeqCst);
    let is_half_way = |status: &ReconcileStatus| status.state == "running" && status.known >= 3;
    until("one is half way", || is_half_way(&status_of(&first))).await;
    first.shutdown().await;
    drop(first);

    hangs.store(false, SeqCst);
    let asked = server.seen().len();
    let second = daemon(folder.path()).await;
    until("it is done", || server.seen().len() >= asked + 3 && status_of(&second).state == "done")
        .await;
    let since = |seen: &Seen| seen.param("since").unwrap().parse::<i64>().unwrap();
    let oldest = server.seen()[asked..].iter().take(3).map(since).min().unwrap();
    assert!(oldest > now_s - 4 * DAY_S, "it began anew: {} days back", (now_s - oldest) / DAY_S);
    second.shutdown().await;
    assert_eq!(delivered(&sink).len(), 6, "nothing comes twice");
}

struct One(Arc<SourceFile>);

impl Sources for One {
    fn read(&self, path: &Path) -> Option<Arc<SourceFile>> {
        (path == self.0.path).then(|| Arc::clone(&self.0))
    }
}

/// What is said of a connector, an edit of [`text`].
fn said(reconcile: &str, edit: (&str, &str), more: &str) -> String {
    let text = text("https://shop.example", "https://erp.example", reconcile, more);
    assert!(text.contains(edit.0), "{edit:?}");
    let path = Path::new("shop.toml");
    let text = text.replacen(edit.0, edit.1, 1);
    let file = Arc::new(SourceFile { path: path.to_owned(), text });
    let compiled = compile_file(Path::new(""), path, &One(file));
    let wrong = compiled.diagnostics.into_iter().filter(|found| found.severity == Severity::Error);
    render_human(&wrong.collect::<Vec<_>>(), false)
}

#[test]
fn what_cannot_be_reconciled_is_said_with_a_way_out() {
    let none = ("[source]", "[source]");
    let key = "revision = \"$.at | integer\"";
    for (reconcile, edit, more, expected) in [
        ("every = \"24h\"\nwindow = \"6d\"", none, "", vec![]),
        (
            "every = \"24h\"\nwindow = \"7d\"",
            none,
            "",
            vec!["E0815", "claims end after 7d", "dedupe = \"8d\", or window = \"6d\""],
        ),
        ("cron = \"30 2 * * *\"\nwindow = \"7d\"", (key, "dedupe = \"169h\""), "", vec![]),
        (
            "every = \"24h\"\nwindow = \"7d\"",
            (key, "dedupe = \"168h30m\""),
            "",
            vec!["E0815", "claims end after this"],
        ),
        (
            "every = \"24h\"\nwindow = \"full\"",
            none,
            "",
            vec!["E0815", "it has no end", "dedupe = \"forever\""],
        ),
        ("every = \"24h\"\nwindow = \"full\"", (key, "dedupe = \"forever\""), "", vec![]),
        // A start that moves along is an end.
        ("every = \"24h\"\nwindow = \"full\"", ("2026-11-10", "-6d"), "", vec![]),
        (
            "every = \"24h\"\nwindow = \"full\"",
            ("2026-11-10", "-30d"),
            "",
            vec!["E0815", "dedupe = \"31d\""],
        ),
        (
            "every = \"24h\"\nwindow = \"6d\"",
            ("epoch_s\"\nstart = \"2026-11-10\"", "integer\"\nstart = \"0\""),
            "",
            vec!["E0815", "window = \"full\""],
        ),
        ("every = \"24h\"", none, "", vec!["E0815", "does not say how far back"]),
        ("window = \"6d\"", none, "", vec!["E0109", "nothing says when to read again"]),
        ("", none, "", vec!["E0815", "the reconciliation says nothing"]),
        ("every = \"24h\"\ncron = \"30 2 * * *\"\nwindow = \"6d\"", none, "", vec!["E0108"]),
        ("silence = \"3h\"", none, WEBHOOK, vec![]),
        ("silence = \"3h\"", none, "", vec!["E0109", "no stream both polls and takes webhooks"]),
        ("faster = \"5m\"", none, WEBHOOK, vec!["E0109", "add silence = \"3h\""]),
        (
            "silence = \"3h\"\nfaster = \"2h\"",
            none,
            WEBHOOK,
            vec!["E0815", "the poll runs every 1h"],
        ),
        ("silense = \"3h\"", none, WEBHOOK, vec!["E0103", "did you mean `silence`"]),
        // A stream that has no webhook cannot be silent; the file's silence is for the other one.
        (
            "silence = \"3h\"",
            none,
            "[stream.orders.webhook]\npath = \"/orders\"\nverify = \"none\"\n\
             [stream.refunds]\nlike = \"orders\"\n[stream.refunds.schedule.reconcile]\nsilence = \"1h\"\n\
             [stream.refunds.webhook]\npath = \"/refunds\"\n",
            vec![],
        ),
        (
            "silence = \"3h\"",
            none,
            "[stream.orders.webhook]\npath = \"/orders\"\nverify = \"none\"\n\
             [stream.refunds]\nkey = \"$.id\"\n[stream.refunds.poll]\npath = \"/refunds\"\n\
             [stream.refunds.schedule.reconcile]\nsilence = \"1h\"\n",
            vec!["E0109", "stream `refunds` takes no webhooks"],
        ),
        (
            "every = \"24h\"\nwindow = \"6d\"",
            none,
            "[stream.hooks]\nkey = \"$.id\"\n[stream.hooks.webhook]\npath = \"/hooks\"\nverify = \"none\"\n\
             [stream.hooks.schedule.reconcile]\nevery = \"1h\"\n",
            vec!["E0109", "stream `hooks` has nothing to read again"],
        ),
    ] {
        let said = said(reconcile, edit, more);
        if expected.is_empty() {
            assert_eq!(said, "", "{reconcile}\n{more}");
        }
        for part in expected {
            assert!(said.contains(part), "{reconcile}\n{edit:?}\n`{part}` is not in\n{said}");
        }
    }
}
