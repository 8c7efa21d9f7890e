//! The whole engine on the memory bus, with a paused clock and scripted peers: what each outcome
//! does to an event, what a reload and a shutdown do to events in hand, and who is not touched.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tenon::{
    engine::{ConnectorStatus, Engine, EngineOptions},
    plan::{BusKind, Settings},
    world::{ScriptedClock, ScriptedEntropy, Secret, Secrets, Timestamp, World},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{MockServer, Reply, Seen};

mod batches;

/// 2026-11-22T10:00:00Z.
pub const START: Timestamp = Timestamp(1_795_341_600_000);

/// A running engine on a folder of its own.
pub struct Stage {
    pub folder: tempfile::TempDir,
    pub engine: Arc<Engine>,
}

/// Secrets that can be set while the engine runs. Reading `BOOM` panics.
#[derive(Default)]
pub struct Vault(Mutex<BTreeMap<String, String>>);

impl Vault {
    pub fn set(&self, name: &str, value: &str) {
        self.0.lock().unwrap().insert(name.to_owned(), value.to_owned());
    }
}

impl Secrets for Vault {
    fn get(&self, name: &str) -> Option<Secret> {
        self.0.lock().unwrap().get(name).map(|value| {
            assert_ne!(value, "boom", "scripted panic");
            Secret::new(value.clone())
        })
    }
}

impl Stage {
    pub async fn with(files: &[(&str, &str)]) -> Self {
        Self::with_secrets(files, Arc::new(Vault::default())).await
    }

    async fn with_secrets(files: &[(&str, &str)], secrets: Arc<dyn Secrets>) -> Self {
        Self::set(files, secrets, |_| {}).await
    }

    /// With settings of its own.
    pub async fn set(
        files: &[(&str, &str)],
        secrets: Arc<dyn Secrets>,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let mut settings = Settings {
            listen: "127.0.0.1:0".parse().unwrap(),
            watch: false,
            shutdown: Duration::from_secs(20),
            ..Settings::default()
        };
        settings.bus.kind = BusKind::Memory;
        settings.egress.allow = vec!["127.0.0.0/8".parse().unwrap()];
        change(&mut settings);
        let engine = Engine::start(EngineOptions {
            paths: vec![folder.path().to_owned()],
            settings,
            world: World {
                clock: Arc::new(ScriptedClock::starting_at(START)),
                entropy: Arc::new(ScriptedEntropy::seeded(7)),
                secrets,
            },
        })
        .await
        .unwrap();
        Self { folder, engine }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file as an editor does: beside it, then renamed over it.
    pub fn write(&self, name: &str, text: &str) {
        let beside = self.path(&format!(".{name}.new"));
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(beside, self.path(name)).unwrap();
    }

    /// Sends one event and gives the status and the event's id.
    pub async fn send(&self, path: &str, event: Value) -> (u16, String) {
        let body = event.to_string();
        let to = self.engine.listen_address();
        let mut stream = TcpStream::connect(to).await.unwrap();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        (status, body["id"].as_str().unwrap_or_default().to_owned())
    }

    /// Sends events that must all be taken; their ids.
    pub async fn send_all(
        &self,
        path: &str,
        events: impl IntoIterator<Item = Value>,
    ) -> Vec<String> {
        let mut ids = Vec::new();
        for event in events {
            let (status, id) = self.send(path, event).await;
            assert_eq!(status, 202);
            ids.push(id);
        }
        ids
    }

    /// Lets virtual time pass until `done`, up to two hours of it.
    pub async fn until(&self, what: &str, done: impl Fn(&Engine) -> bool) {
        for _ in 0..72_000 {
            if done(&self.engine) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("never: {what}\n{:#?}", self.engine.status());
    }

    pub async fn settled(&self) {
        self.until("all settled", |e| e.status().unsettled == 0).await;
    }

    pub fn connector(&self, name: &str) -> ConnectorStatus {
        let found = self.engine.status().connectors.into_iter().find(|c| c.name == name);
        found.unwrap_or_else(|| panic!("no {name} in {:#?}", self.engine.status()))
    }

    pub fn metric(&self, series: &str) -> u64 {
        let text = self.engine.metrics_text();
        let line = text.lines().find_map(|l| l.strip_prefix(series)?.trim().parse().ok());
        line.unwrap_or(0)
    }
}

/// A connector that takes webhooks and delivers to `sink`, with more TOML behind it.
pub fn connector(name: &str, sink: &MockServer, more: &str) -> String {
    let url = sink.url("/in");
    format!(
        r#"
name = "{name}"
version = "1.0.0"
owner = "tests"

[stream.orders]
key = "$.id"

[stream.orders.webhook]
path = "/{name}"
verify = "none"

[destination.sink]
type = "http"
url = "{url}"
timeout = "5s"

[destination.sink.retry]
attempts = 4
from = "1s"
to = "10s"
within = "1h"
{more}
"#
    )
}

fn ids(seen: &[Seen]) -> Vec<String> {
    seen.iter().map(|s| s.json()["id"].as_str().unwrap().to_owned()).collect()
}

pub fn keys(seen: &[Seen]) -> Vec<String> {
    seen.iter().map(|s| s.header("idempotency-key").unwrap().to_owned()).collect()
}

/// One event against a destination that answers by script: how many requests it took, and how
/// often it was delivered and died.
async fn check(script: Vec<Reply>, requests: usize, delivered: u64, dead: &[&str]) {
    let sink = MockServer::scripted(script).await;
    let stage = Stage::with(&[("a.toml", &connector("a", &sink, ""))]).await;
    stage.send_all("/a", [json!({"id": "1"})]).await;
    stage.settled().await;
    let seen = sink.seen();
    assert_eq!(seen.len(), requests);
    let mut keys = keys(&seen);
    keys.dedup();
    assert_eq!(keys.len(), 1, "one idempotency key over all attempts");
    let outcome = |o: &str| {
        format!("tenon_events_total{{connector=\"a\",stream=\"orders\",outcome=\"{o}\"}}")
    };
    assert_eq!(stage.metric(&outcome("delivered")), delivered);
    let reasons: Vec<_> = stage.engine.bus().dead_letters().into_iter().map(|d| d.reason).collect();
    assert_eq!(reasons, dead);
}

#[tokio::test(start_paused = true)]
async fn a_delivery_is_one_request() {
    check(vec![Reply::status(200)], 1, 1, &[]).await;
}

#[tokio::test(start_paused = true)]
async fn server_errors_are_retried() {
    check(vec![Reply::status(503), Reply::status(500), Reply::status(204)], 3, 1, &[]).await;
}

#[tokio::test(start_paused = true)]
async fn a_reset_and_a_lost_answer_are_retried_under_the_same_key() {
    check(vec![Reply::reset(), Reply::status(200).close(), Reply::status(200)], 2, 1, &[]).await;
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_never_answers_is_timed_out_and_retried() {
    check(vec![Reply::hang(), Reply::status(200)], 2, 1, &[]).await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_for_good_is_a_dead_letter_at_once() {
    check(vec![Reply::status(422)], 1, 0, &["rejected"]).await;
}

#[tokio::test(start_paused = true)]
async fn attempts_are_finite() {
    check((0..9).map(|_| Reply::status(503)).collect(), 4, 0, &["attempts_spent"]).await;
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_honoured() {
    let sink =
        MockServer::scripted([Reply::status(429).header("retry-after", "120"), Reply::status(200)])
            .await;
    let stage = Stage::with(&[("a.toml", &connector("a", &sink, ""))]).await;
    stage.send_all("/a", [json!({"id": "1"})]).await;
    let began = tokio::time::Instant::now();
    stage.settled().await;
    let waited = began.elapsed();
    assert!(waited >= Duration::from_secs(119), "came back after {waited:?}");
    assert_eq!(sink.seen().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refused_credential_holds_the_destination_and_drops_nothing() {
    let open = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&open);
    let sink =
        MockServer::start(move |_| Reply::status(if gate.load(SeqCst) { 200 } else { 403 })).await;
    let stage = Stage::with(&[("a.toml", &connector("a", &sink, ""))]).await;
    stage.send_all("/a", (0..5).map(|n| json!({"id": n.to_string()}))).await;
    stage.until("held", |e| e.status().connectors[0].state == "held").await;
    let before = sink.seen().len();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(sink.seen().len(), before, "a held destination is left alone");
    assert_eq!(stage.connector("a").destinations[0].backlog, 5);

    open.store(true, SeqCst);
    assert_eq!(stage.engine.resume("a", Some("sink")).await, Ok(1));
    stage.settled().await;
    assert_eq!(stage.connector("a").state, "running");
    assert!(stage.engine.bus().dead_letters().is_empty());
}

const MAPPED: &str = r#"
[stream.orders.map]
id = "$.id"
total = "$.total | decimal"
"#;

#[tokio::test(start_paused = true)]
async fn a_poison_event_is_a_dead_letter_that_says_why_and_stops_no_other() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let stage = Stage::with(&[("a.toml", &connector("a", &sink, MAPPED))]).await;
    let events = [("1", json!("1.50")), ("2", json!("a lot")), ("3", json!("2.50"))];
    let events = events.map(|(id, total)| json!({"id": id, "total": total}));
    stage.send_all("/a", events).await;
    stage.settled().await;
    let mut delivered = ids(&sink.seen());
    delivered.sort();
    assert_eq!(delivered, ["1", "3"]);
    let bus = stage.engine.bus();
    let dead = bus.dead_letters();
    assert_eq!(dead.len(), 1);
    let letter = bus.dead_letter(dead[0].id).unwrap().unwrap();
    assert_eq!(letter.reason, "map_failed");
    for told in ["total", "$.total", "a.toml:"] {
        assert!(letter.message.contains(told), "{told} is missing from: {}", letter.message);
    }
    assert!(!letter.message.contains("a lot"), "values stay out of messages: {}", letter.message);
}

#[tokio::test(start_paused = true)]
async fn trap_16_a_dead_letter_is_replayed_through_the_mended_map_under_its_old_key() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let stage = Stage::with(&[("a.toml", &connector("a", &sink, MAPPED))]).await;
    let sent = stage.send_all("/a", [json!({"id": "1", "total": {"amount": "7.10"}})]).await;
    stage.settled().await;
    let dead = stage.engine.bus().dead_letters();
    assert_eq!((dead.len(), sink.seen().len()), (1, 0));

    let mended = MAPPED.replace("$.total |", "$.total.amount |");
    stage.write("a.toml", &connector("a", &sink, &mended));
    let report = stage.engine.reload().await;
    assert_eq!((report.changed, report.failed), (vec!["a".to_owned()], vec![]));
    let id = stage.engine.replay_dead(dead[0].id).await.unwrap();
    stage.settled().await;
    assert_eq!(id.to_string(), sent[0]);
    let seen = sink.seen();
    assert_eq!(seen[0].json(), json!({"id": "1", "total": "7.10"}));
    assert_eq!(keys(&seen)[0], tenon::event::idempotency_key(id, "sink"));
    assert!(stage.engine.bus().dead_letters().is_empty());
}

#[tokio::test(start_paused = true)]
async fn order_by_key_keeps_a_key_in_line_while_others_go_on() {
    let failures = AtomicUsize::new(0);
    let sink = MockServer::start(move |seen| {
        let fails = seen.json()["id"] == "a" && failures.fetch_add(1, SeqCst) < 2;
        Reply::status(if fails { 503 } else { 200 })
    })
    .await;
    let text = connector("a", &sink, "").replace("timeout =", "order = \"key\"\ntimeout =");
    let stage = Stage::with(&[("a.toml", &text)]).await;
    let event = |id: &str, n: u32| json!({"id": id, "n": n});
    stage.send_all("/a", [event("a", 1), event("a", 2), event("b", 1), event("a", 3)]).await;
    stage.settled().await;
    let seen = sink.seen();
    let of = |id: &str| -> Vec<u64> {
        let mine = seen.iter().map(Seen::json).filter(|e| e["id"] == id);
        mine.map(|e| e["n"].as_u64().unwrap()).collect()
    };
    assert_eq!(of("a"), [1, 1, 1, 2, 3]);
    assert_eq!(of("b"), [1]);
    let first_b = seen.iter().position(|s| s.json()["id"] == "b").unwrap();
    assert!(first_b < 3, "key b waited for key a");
}

#[tokio::test(start_paused = true)]
async fn an_older_revision_is_superseded_and_counted() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let text = connector("a", &sink, "")
        .replace("key = \"$.id\"", "key = \"$.id\"\nrevision = \"$.n | integer\"");
    let stage = Stage::with(&[("a.toml", &text)]).await;
    for n in [5, 3, 7] {
        stage.send_all("/a", [json!({"id": "x", "n": n})]).await;
        stage.settled().await;
    }
    let delivered: Vec<_> = sink.seen().iter().map(|s| s.json()["n"].clone()).collect();
    assert_eq!(delivered, [5, 7]);
    let series = r#"tenon_events_total{connector="a",stream="orders",outcome="superseded"}"#;
    assert_eq!(stage.metric(series), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dead_destination_stops_neither_its_sibling_nor_another_connector() {
    let down = MockServer::start(|_| Reply::hang()).await;
    let up = MockServer::start(|_| Reply::status(200)).await;
    let second =
        format!("[destination.second]\ntype = \"http\"\nurl = \"{}\"\n", up.url("/second"));
    let a = connector("a", &down, &second)
        .replace("key = \"$.id\"", "key = \"$.id\"\nto = [\"sink\", \"second\"]");
    let stage = Stage::with(&[("a.toml", &a), ("b.toml", &connector("b", &up, ""))]).await;
    stage.send_all("/a", (0..30).map(|n| json!({"id": n.to_string()}))).await;
    stage.send_all("/b", (0..30).map(|n| json!({"id": n.to_string()}))).await;
    let began = tokio::time::Instant::now();
    up.wait_for(60).await;
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!(stage.connector("a").destinations.iter().map(|d| d.backlog).sum::<u64>(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_bad_edit_keeps_the_predecessor_and_touches_nobody() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let good = connector("a", &sink, "");
    let stage = Stage::with(&[("a.toml", &good), ("b.toml", &connector("b", &sink, ""))]).await;
    stage.write("a.toml", &good.replace("key =", "kye ="));
    let report = stage.engine.reload().await;
    assert_eq!(report.unchanged, 1);
    assert_eq!(report.failed.len(), 1);
    let told = report.diagnostics.join("\n");
    assert!(told.contains("kye") && told.contains("did you mean `key`"), "{told}");
    assert_eq!(stage.connector("a").state, "outdated");
    stage.send_all("/a", [json!({"id": "1"})]).await;
    stage.settled().await;
    assert_eq!(sink.seen().len(), 1);

    stage.write("a.toml", &good);
    let report = stage.engine.reload().await;
    assert_eq!((report.unchanged, report.failed.len()), (2, 0));
    assert_eq!(report.generations, BTreeMap::new(), "none was touched");
    assert_eq!(stage.connector("a").state, "running");
    assert_eq!((stage.connector("a").generation, stage.connector("b").generation), (1, 1));

    stage.write("a.toml", &good.replace("1.0.0", "1.0.1"));
    let report = stage.engine.reload().await;
    assert_eq!(report.generations, BTreeMap::from([("a".into(), 2)]));
}

#[tokio::test(start_paused = true)]
async fn who_lost_a_dispute_runs_once_the_winner_is_gone() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let stage = Stage::with(&[("a.toml", &connector("a", &sink, ""))]).await;
    let rival = connector("b", &sink, "").replace("path = \"/b\"", "path = \"/a\"");
    stage.write("b.toml", &rival);
    for _ in 0..2 {
        let report = stage.engine.reload().await;
        assert_eq!((report.unchanged, report.failed.len()), (1, 1), "{report:?}");
    }
    stage.send_all("/a", [json!({"id": "1"})]).await;
    stage.settled().await;

    std::fs::remove_file(stage.path("a.toml")).unwrap();
    let report = stage.engine.reload().await;
    assert_eq!((report.added, report.removed), (vec!["b".to_owned()], vec!["a".to_owned()]));
    stage.send_all("/a", [json!({"id": "1"})]).await;
    stage.settled().await;
    assert_eq!(sink.seen().len(), 2);
    let report = stage.engine.reload().await;
    assert_eq!((report.unchanged, report.failed.len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_broken_file_keeps_what_ran_until_it_goes_or_says_another_name() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    for goes in [true, false] {
        let stage = Stage::with(&[("a.toml", &connector("a", &sink, ""))]).await;
        for text in ["name = [", "name =", "name = \"c\"\nkye = 1"] {
            stage.write("a.toml", text);
            for _ in 0..2 {
                let report = stage.engine.reload().await;
                assert_eq!((report.removed.len(), report.failed.len()), (0, 1), "{text}");
                assert_eq!(report.unchanged, 0, "{text}");
            }
            assert_eq!(stage.connector("a").state, "outdated", "{text}");
        }
        if goes {
            std::fs::remove_file(stage.path("a.toml")).unwrap();
        } else {
            stage.write("a.toml", &connector("c", &sink, ""));
        }
        let report = stage.engine.reload().await;
        assert_eq!(report.removed, ["a"]);
        assert_eq!(report.added.len(), usize::from(!goes));
        assert_eq!(stage.send("/a", json!({"id": "2"})).await.0, 404);
    }
}

#[tokio::test(start_paused = true)]
async fn a_denied_lint_is_an_error_and_any_other_a_line_in_the_report() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let good = connector("a", &sink, "[lints]\nmissing_owner = \"deny\"");
    let stage = Stage::with(&[("a.toml", &good)]).await;
    assert_eq!(stage.connector("a").state, "running");

    let unused = format!("{good}[vars]\nx = 1\n");
    stage.write("a.toml", &unused);
    let report = stage.engine.reload().await;
    assert_eq!((report.changed.len(), report.failed.len()), (1, 0));
    let told = report.diagnostics.join("\n");
    assert!(told.contains("variable `x` is never used"), "{told}");
    assert!(!told.contains("notice"), "those are for `check`: {told}");

    stage.write("a.toml", &good.replace("owner = \"tests\"", ""));
    let report = stage.engine.reload().await;
    assert_eq!((report.changed.len(), report.failed.len()), (0, 1));
    assert!(report.diagnostics.join("\n").contains("nobody owns this connector"));
    assert_eq!(stage.connector("a").state, "outdated");
}

#[tokio::test(start_paused = true)]
async fn a_removed_connector_leaves_its_backlog_until_it_comes_back() {
    let sink = MockServer::scripted([Reply::status(503), Reply::status(200)]).await;
    let text = connector("a", &sink, "");
    let stage = Stage::with(&[("a.toml", &text)]).await;
    stage.send_all("/a", [json!({"id": "1"})]).await;
    sink.wait_for(1).await;
    std::fs::rename(stage.path("a.toml"), stage.path("a.off")).unwrap();
    let report = stage.engine.reload().await;
    assert_eq!(report.removed, ["a"]);
    assert_eq!(stage.send("/a", json!({"id": "2"})).await.0, 404);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(sink.seen().len(), 1);
    assert_eq!(stage.connector("a").state, "removed");

    stage.write("moved.toml", &text);
    assert_eq!(stage.engine.reload().await.added, ["a"]);
    stage.settled().await;
    assert_eq!(sink.seen().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn reloads_under_load_lose_nothing_and_a_hanging_destination_does_not_hang_them() {
    let calls = AtomicUsize::new(0);
    let sink = MockServer::start(move |_| match calls.fetch_add(1, SeqCst) % 5 {
        0 => Reply::hang(),
        1 => Reply::status(503),
        _ => Reply::status(200).delay(Duration::from_millis(200)),
    })
    .await;
    let text = |version: u32| {
        connector("a", &sink, "")
            .replace("1.0.0", &format!("1.0.{version}"))
            .replace("attempts = 4", "attempts = 100")
    };
    let stage = Stage::with(&[("a.toml", &text(0))]).await;
    let mut sent = Vec::new();
    for version in 1..=6 {
        for n in 0..10 {
            let id = format!("{version}-{n}");
            stage.send_all("/a", [json!({"id": id})]).await;
            sent.push(id);
        }
        stage.write("a.toml", &text(version));
        let began = tokio::time::Instant::now();
        let report = stage.engine.reload().await;
        assert_eq!(report.changed, ["a"]);
        assert!(began.elapsed() < Duration::from_secs(7), "hung for {:?}", began.elapsed());
    }
    stage.settled().await;
    let seen = sink.seen();
    for id in &sent {
        let mine: Vec<_> = seen.iter().filter(|s| s.json()["id"] == **id).cloned().collect();
        assert!(!mine.is_empty(), "{id} was lost");
        let mut keys = keys(&mine);
        keys.dedup();
        assert_eq!(keys.len(), 1, "{id} went out under several keys");
    }
    assert!(stage.engine.bus().dead_letters().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_unset_secret_stops_its_connector_alone() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let signed = connector("a", &sink, "")
        .replace("verify = \"none\"", "verify = \"github\"\nsecret = \"{{ secret.HOOK }}\"");
    let vault = Arc::new(Vault::default());
    let files = [("a.toml", signed.as_str()), ("b.toml", &connector("b", &sink, ""))];
    let stage = Stage::with_secrets(&files, Arc::clone(&vault) as Arc<dyn Secrets>).await;
    let a = stage.connector("a");
    assert_eq!(a.state, "failed");
    assert!(a.problem.unwrap().contains("HOOK"));
    assert_eq!(stage.connector("b").state, "running");
    stage.send_all("/b", [json!({"id": "1"})]).await;

    vault.0.lock().unwrap().insert("HOOK".to_owned(), "s3cret".to_owned());
    assert_eq!(stage.engine.reload().await.added, ["a"]);
    assert_eq!(stage.connector("a").state, "running");
}

#[tokio::test(start_paused = true)]
async fn a_panic_restarts_one_connector_until_it_is_quarantined() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let polled = format!(
        r#"
[source]
base = "{}"

[schedule]
every = "1s"

[auth.api]
type = "bearer"
token = "{{{{ secret.BOOM }}}}"

[stream.polled]
key = "$.id"

[stream.polled.poll]
path = "/records"
auth = "api"
"#,
        sink.url("")
    );
    let vault = Arc::new(Vault::default());
    vault.0.lock().unwrap().insert("BOOM".to_owned(), "fine".to_owned());
    let files = [("a.toml", connector("a", &sink, &polled)), ("b.toml", connector("b", &sink, ""))];
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    let stage = Stage::with_secrets(&files, Arc::clone(&vault) as Arc<dyn Secrets>).await;
    vault.0.lock().unwrap().insert("BOOM".to_owned(), "boom".to_owned());
    stage
        .until("quarantined", |e| e.status().connectors.iter().any(|c| c.state == "quarantined"))
        .await;
    assert_eq!(stage.metric(r#"tenon_connector_restarts_total{connector="a"}"#), 5);
    assert_eq!(stage.connector("b").state, "running");
    stage.send_all("/b", [json!({"id": "after"})]).await;
    stage.until("b delivers", |_| sink.seen().iter().any(|s| s.text().contains("after"))).await;

    // A reload is the way out, although no file changed.
    vault.0.clear_poison();
    vault.0.lock().unwrap().insert("BOOM".to_owned(), "fine".to_owned());
    let report = stage.engine.reload().await;
    assert_eq!((report.changed, report.unchanged), (vec!["a".to_owned()], 1));
    assert_eq!(stage.connector("a").state, "running");
    assert_eq!(stage.engine.reload().await.unchanged, 2);
}

#[tokio::test(start_paused = true)]
async fn a_job_is_waited_for_through_a_change_of_its_connector() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let is_done = Arc::new(AtomicBool::new(false));
    let done = Arc::clone(&is_done);
    let api = MockServer::start(move |seen| match (seen.method.as_str(), seen.path()) {
        ("POST", _) => Reply::json(json!({ "id": "j1" })),
        (_, "/jobs/j1") => Reply::json(json!({ "done": done.load(SeqCst) })),
        _ => Reply::json(json!([{ "id": "1" }, { "id": "2" }])),
    })
    .await;
    let polled = format!(
        r#"
[source]
base = "{}"

[schedule]
cron = "0 11 * * *"

[stream.orders.poll]
method = "POST"
path = "/jobs"

[stream.orders.poll.job]
path = "/jobs/{{{{ job.id }}}}"
done = "{{{{ response.body.done }}}}"
download = "/results/{{{{ job.id }}}}"
within = "5h"
"#,
        api.url("")
    );
    let text = connector("a", &sink, &polled);
    let stage = Stage::with(&[("a.toml", &text)]).await;
    let job = |engine: &Engine| engine.status().connectors[0].streams[0].job.clone();
    stage.until("it waits for a job", |engine| job(engine).is_some()).await;
    let waits = job(&stage.engine).unwrap();
    assert_eq!(waits.count, 1);
    assert_eq!((waits.since.0 - START.0) / 60_000, 60, "at eleven");
    stage.write("a.toml", &text.replace("owner = \"tests\"", "owner = \"others\""));
    assert_eq!(stage.engine.reload().await.changed, ["a"]);
    is_done.store(true, SeqCst);
    // Not tomorrow at eleven.
    stage.until("the result is read", |_| sink.seen().len() == 2).await;
    assert_eq!(job(&stage.engine), None);
    assert_eq!(api.seen().iter().filter(|seen| seen.method == "POST").count(), 1);
    let next = stage.connector("a").streams[0].next_poll.unwrap();
    assert_eq!((next.0 - START.0) / 3_600_000, 25, "the schedule goes on");
}

#[tokio::test(start_paused = true)]
async fn the_same_revision_by_webhook_and_by_poll_is_one_event() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let api = MockServer::start(|_| {
        Reply::json(json!([{"id": "1", "n": 1}, {"n": 2, "id": "2"}, {"id": "3", "n": 3}]))
    })
    .await;
    let polled = format!(
        "[source]\nbase = \"{}\"\n[schedule]\nevery = \"1h\"\n[stream.orders.poll]\npath = \"/all\"\n",
        api.url("")
    );
    let text = connector("a", &sink, &polled)
        .replace("key = \"$.id\"", "key = \"$.id\"\nrevision = \"$.n | integer\"");
    let stage = Stage::with(&[("a.toml", &text)]).await;
    stage.until("polled", |e| e.status().connectors[0].streams[0].last_poll.is_some()).await;
    stage.send_all("/a", [json!({"id": "2", "n": 2}), json!({"id": "4", "n": 4})]).await;
    stage.settled().await;
    let mut delivered = ids(&sink.seen());
    delivered.sort();
    assert_eq!(delivered, ["1", "2", "3", "4"]);
    let counted = |outcome: &str| {
        let labels = r#"connector="a",stream="orders""#;
        stage.metric(&format!("tenon_events_total{{{labels},outcome=\"{outcome}\"}}"))
    };
    assert_eq!((counted("accepted"), counted("duplicate")), (4, 1));
    let found = r#"tenon_events_found_by_poll_total{connector="a",stream="orders"}"#;
    assert_eq!(stage.metric(found), 3);
}

#[tokio::test(start_paused = true)]
async fn a_held_poll_has_a_gauge() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let api = MockServer::scripted([Reply::status(403), Reply::json(json!([{"id": "1"}]))]).await;
    let polled = format!(
        "[source]\nbase = \"{}\"\n[schedule]\nevery = \"1h\"\n[stream.orders.poll]\npath = \"/all\"\n",
        api.url("")
    );
    let stage = Stage::with(&[("a.toml", &connector("a", &sink, &polled))]).await;
    let gauge = r#"tenon_poll_held{connector="a",stream="orders"}"#;
    stage.until("held", |e| e.status().connectors[0].streams[0].held.is_some()).await;
    assert_eq!(stage.metric(gauge), 1);
    stage.engine.resume("a", None).await.unwrap();
    stage.until("polled", |e| e.status().connectors[0].streams[0].last_poll.is_some()).await;
    stage.settled().await;
    assert_eq!(stage.metric(gauge), 0);
    assert!(stage.engine.metrics_text().contains(&format!("{gauge} 0")));
}

#[tokio::test(start_paused = true)]
async fn shutdown_keeps_its_deadline_and_names_who_is_late() {
    let sink = MockServer::start(|_| Reply::hang()).await;
    let slow = connector("slow", &sink, "").replace("timeout = \"5s\"", "timeout = \"10m\"");
    let stage = Stage::with(&[("a.toml", &slow), ("b.toml", &connector("quick", &sink, ""))]).await;
    stage.send_all("/slow", [json!({"id": "1"})]).await;
    sink.wait_for(1).await;
    let began = tokio::time::Instant::now();
    let late = stage.engine.shutdown().await;
    assert!(began.elapsed() <= Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(late, ["connector slow"]);
    assert!(stage.engine.ready().is_err());
}
