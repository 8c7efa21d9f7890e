//! Shadows, canaries, flags and rollbacks over the whole engine: what a variant sees, what it cannot
//! touch, who gets the events when it fails, and what a restart remembers.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering::SeqCst},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tenon::{
    engine::{
        ConnectorStatus, Engine, EngineOptions, FlagChange, ReplayRequest, RollbackRequest,
        RolloutStatus,
    },
    plan::{BusKind, Settings},
    world::{FolderSecrets, ScriptedClock, ScriptedEntropy, SystemClock, Timestamp, World},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{MockServer, Reply, Seen, damage};

/// 2026-11-22T10:00:00Z.
const START: Timestamp = Timestamp(1_795_341_600_000);

/// A running engine on a folder of its own.
struct Stage {
    folder: tempfile::TempDir,
    kind: BusKind,
    engine: Arc<Engine>,
}

impl Stage {
    /// On the memory bus, with tokio's clock.
    async fn with(files: &[(&str, &str)]) -> Self {
        Self::on(BusKind::Memory, files).await
    }

    /// On a bus that a restart remembers, with the real clock.
    async fn durable(files: &[(&str, &str)]) -> Self {
        Self::on(BusKind::Embedded, files).await
    }

    async fn on(kind: BusKind, files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("connectors")).unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join("connectors").join(name), text).unwrap();
        }
        let engine = start(&folder, kind).await;
        Self { folder, kind, engine }
    }

    /// Stops in order and starts anew over the same state.
    async fn restart(self) -> Self {
        let late = self.engine.shutdown().await;
        assert_eq!(late, [""; 0]);
        let Self { folder, kind, engine } = self;
        drop(engine);
        let engine = start(&folder, kind).await;
        Self { folder, kind, engine }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("connectors").join(name)
    }

    async fn write(&self, name: &str, text: &str) -> tenon::engine::ReloadReport {
        let beside = self.path(&format!(".{name}.new"));
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(beside, self.path(name)).unwrap();
        self.engine.reload().await
    }

    async fn send(&self, path: &str, event: &Value) -> u16 {
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
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Orders of these numbers, all taken.
    async fn orders(&self, numbers: impl IntoIterator<Item = u32>) {
        for n in numbers {
            assert_eq!(self.send("/shop", &order(n)).await, 202, "order {n}");
        }
    }

    async fn until(&self, what: &str, done: impl Fn(&Engine) -> bool) {
        for _ in 0..36_000 {
            if done(&self.engine) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("never: {what}\n{:#?}", self.engine.status());
    }

    async fn settled(&self) {
        self.until("all settled", |e| e.status().unsettled == 0).await;
    }

    fn connector(&self, name: &str) -> ConnectorStatus {
        let found = self.engine.status().connectors.into_iter().find(|c| c.name == name);
        found.unwrap_or_else(|| panic!("no {name} in {:#?}", self.engine.status()))
    }

    fn rollout(&self, name: &str) -> RolloutStatus {
        self.engine.rollouts(Some(name)).pop().unwrap_or_else(|| panic!("no rollout {name}"))
    }

    fn metric(&self, series: &str) -> String {
        let text = self.engine.metrics_text();
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.unwrap_or_default().trim().to_owned()
    }

    async fn flag(&self, flag: &str, value: Option<&str>) -> Result<(), String> {
        let change = FlagChange {
            flag: flag.to_owned(),
            value: value.map(str::to_owned),
            by: "ada".to_owned(),
            why: Some("a test".to_owned()),
        };
        self.engine.change_flag(&change).await.map(drop)
    }

    async fn rollback(&self, to: Option<&str>, undo: bool) -> Result<String, String> {
        let request = RollbackRequest {
            connector: "shop".to_owned(),
            to: to.map(str::to_owned),
            undo,
            by: "ada".to_owned(),
            why: None,
        };
        self.engine.rollback(&request).await.map(|done| done.version)
    }
}

async fn start(folder: &tempfile::TempDir, kind: BusKind) -> Arc<Engine> {
    let mut settings = Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        watch: false,
        state: folder.path().join("state"),
        shutdown: Duration::from_secs(20),
        ..Settings::default()
    };
    settings.bus.kind = kind;
    settings.egress.allow = vec!["127.0.0.0/8".parse().unwrap()];
    Engine::start(EngineOptions {
        paths: vec![folder.path().join("connectors")],
        settings,
        world: World {
            clock: match kind {
                BusKind::Memory => Arc::new(ScriptedClock::starting_at(START)),
                BusKind::Embedded => Arc::new(SystemClock),
            },
            entropy: Arc::new(ScriptedEntropy::seeded(7)),
            secrets: Arc::new(FolderSecrets::new(None)),
        },
    })
    .await
    .unwrap()
}

fn order(n: u32) -> Value {
    json!({"id": n.to_string(), "total": {"amount": format!("{n}.50")}})
}

/// A connector of orders. `head` stands before its tables, `map` in its map.
fn file(name: &str, version: &str, sink: &MockServer, head: &str, map: &str) -> String {
    let url = sink.url("/in");
    format!(
        r#"
name = "{name}"
version = "{version}"
owner = "tests"
{head}

[stream.orders]
key = "$.id"

[stream.orders.webhook]
path = "/shop"
verify = "none"

[stream.orders.map]
id = "$.id"
{map}

[destination.sink]
type = "http"
url = "{url}"

[destination.sink.retry]
attempts = 4
from = "50ms"
to = "1s"
"#
    )
}

const TOTAL: &str = "total = \"$.total.amount | decimal\"";
const WRONG: &str = "total = \"$.totals.amount | decimal\"";
const SHADOW: &str = "[rollout]\nmode = \"shadow\"\nof = \"shop\"";

fn canary(share: &str) -> String {
    format!(
        "[rollout]\nmode = \"canary\"\nof = \"shop\"\nshare = \"{share}\"\n[rollout.halt]\nof = 5"
    )
}

/// The two files of an original and its variant.
fn pair(sink: &MockServer, head: &str, map: &str) -> [(&'static str, String); 2] {
    let original = format!("{TOTAL}\nby = \"original\"");
    let variant = format!("{map}\nby = \"next\"");
    [
        ("shop.toml", file("shop", "1.0.0", sink, "", &original)),
        ("next.toml", file("shop-next", "1.1.0", sink, head, &variant)),
    ]
}

fn refs<'f>(files: &'f [(&'static str, String); 2]) -> [(&'static str, &'f str); 2] {
    [(files[0].0, &files[0].1), (files[1].0, &files[1].1)]
}

/// The ids that each side delivered.
fn sides(seen: &[Seen]) -> (BTreeSet<String>, BTreeSet<String>) {
    let of = |side: &str| {
        let documents = seen.iter().map(Seen::json).filter(|document| document["by"] == side);
        documents.map(|document| document["id"].as_str().unwrap().to_owned()).collect()
    };
    (of("original"), of("next"))
}

#[tokio::test(start_paused = true)]
async fn a_shadow_with_a_wrong_map_shows_the_field_and_delivers_nothing() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let map = "total = \"$.total.amount | decimal(1)\"\nlines = []\n[stream.orders.map.when]\nat = \"now\"";
    let files = pair(&sink, SHADOW, "");
    let variant = files[1].1.replace("by = \"next\"", &format!("by = \"original\"\n{map}"));
    let stage = Stage::with(&[("shop.toml", &files[0].1), ("next.toml", &variant)]).await;
    stage.orders(1..=30).await;
    stage.settled().await;
    let of = |stage: &Stage| stage.rollout("shop-next").shadow.unwrap();
    stage
        .until("all compared", |e| {
            let rollout = e.rollouts(Some("shop-next")).pop().unwrap();
            rollout.shadow.unwrap().compared == 30
        })
        .await;
    let report = of(&stage);
    assert_eq!((report.same, report.differing, report.failing), (0, 30, 0));
    let fields: Vec<_> = report.fields.iter().map(|f| (&*f.field, f.changed, f.added)).collect();
    assert_eq!(fields, [("total", 30, 0), ("lines", 0, 30), ("when", 0, 30)]);
    assert_eq!(sink.seen().len(), 30, "the original's requests and no other");
    assert!(sink.seen().iter().all(|seen| seen.json()["by"] == "original"));
    assert_eq!(stage.connector("shop-next").state, "running");
    assert_eq!(stage.connector("shop-next").destinations, []);
    let compared =
        "tenon_rollout_compared_total{connector=\"shop-next\",of=\"shop\",result=\"differing\"}";
    assert_eq!(stage.metric(compared), "30");
}

#[tokio::test(start_paused = true)]
async fn a_shadow_shows_samples_and_forgets_them_when_its_file_changes() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let files = pair(&sink, SHADOW, "total = \"$.total.amount\"");
    let same = files[1].1.replace("by = \"next\"", "by = \"original\"");
    let differs = same.replace("$.total.amount", "EUR {{ record.total.amount }}");
    let stage = Stage::with(&[("shop.toml", &files[0].1), ("next.toml", &differs)]).await;
    stage.orders([7]).await;
    stage.settled().await;
    let compared = |e: &Engine, events: u64| {
        e.rollouts(Some("shop-next")).pop().unwrap().shadow.unwrap().compared == events
    };
    stage.until("compared", |e| compared(e, 1)).await;
    let report = stage.rollout("shop-next").shadow.unwrap();
    let sample = &report.fields[0].samples[0];
    assert_eq!(report.fields[0].field, "total");
    assert_eq!(sample.original.as_deref(), Some("\"7.50\""));
    assert_eq!(sample.shadow.as_deref(), Some("\"EUR 7.50\""));
    assert!(sample.event.starts_with("evt_"));

    stage.write("next.toml", &same).await;
    assert_eq!(stage.rollout("shop-next").shadow.unwrap().compared, 0);
    stage.orders([8]).await;
    stage.settled().await;
    stage.until("compared", |e| compared(e, 1)).await;
    assert_eq!(stage.rollout("shop-next").shadow.unwrap().same, 1);
}

#[tokio::test(start_paused = true)]
async fn a_shadow_that_fails_or_cannot_keep_up_leaves_the_original_alone() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let files = pair(&sink, SHADOW, WRONG);
    let stage = Stage::with(&refs(&files)).await;
    stage.orders(1..=300).await;
    stage.settled().await;
    assert_eq!(sink.seen().len(), 300);
    assert!(stage.engine.bus().dead_letters().is_empty());
    let told = |e: &Engine| {
        let report = e.rollouts(Some("shop-next")).pop().unwrap().shadow.unwrap();
        report.compared + report.left_out
    };
    stage.until("all looked at", |e| told(e) == 300).await;
    let report = stage.rollout("shop-next").shadow.unwrap();
    assert_eq!(report.failing, report.compared);
    assert!(report.left_out > 0, "no more than are compared in a second: {report:?}");
    let failure = &report.failures[0];
    assert!(failure.message.contains("$.totals.amount") && failure.message.contains("next.toml:"));
}

#[tokio::test(start_paused = true)]
async fn a_canary_has_its_share_of_the_keys_under_the_same_idempotency_keys() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let files = pair(&sink, &canary("30%"), TOTAL);
    let stage = Stage::with(&refs(&files)).await;
    stage.orders(1..=100).await;
    stage.settled().await;
    let seen = sink.seen();
    let (original, next) = sides(&seen);
    assert_eq!(original.len() + next.len(), 100);
    assert!((15..45).contains(&next.len()), "{} of 100", next.len());
    let twice: BTreeSet<_> = seen.iter().map(|s| s.header("idempotency-key")).collect();
    assert_eq!(twice.len(), 100);

    // A dry run maps each event by the side that would deliver it.
    let wanted = ReplayRequest { connector: Some("shop".to_owned()), ..ReplayRequest::default() };
    let report = stage.engine.preview_replay(wanted, None, &|_| {}).await.unwrap();
    let lane = &report.lanes[0];
    assert_eq!((lane.events, lane.same, lane.differs), (100, 100, 0));

    // A share that grows takes keys and gives none back.
    stage.flag("shop.share", Some("60%")).await.unwrap();
    let again = |n: u32| json!({"id": n.to_string(), "n": 2, "total": {"amount": "1"}});
    for n in 1..=100 {
        stage.send("/shop", &again(n)).await;
    }
    stage.settled().await;
    let (_, grown) = sides(&sink.seen()[100..]);
    assert!(grown.is_superset(&next) && grown.len() > next.len());
    let rollout = stage.rollout("shop-next").canary.unwrap();
    assert_eq!((&*rollout.share, rollout.share_by_flag, rollout.halted), ("60%", true, None));
    assert_eq!(rollout.canary.attempts as usize, next.len() + grown.len());
    let state = stage.connector("shop-next");
    assert_eq!((state.state.as_str(), state.destinations.len()), ("running", 1));

    // And none at all.
    stage.flag("shop-next.mode", Some("off")).await.unwrap();
    let before = sink.seen().len();
    for n in 1..=20 {
        stage.send("/shop", &json!({"id": n.to_string(), "n": 3, "total": {"amount": "1"}})).await;
    }
    stage.settled().await;
    assert_eq!(sides(&sink.seen()[before..]).1.len(), 0);
    assert_eq!(stage.connector("shop-next").state, "off");
}

#[tokio::test(start_paused = true)]
async fn a_canary_with_a_failing_map_halts_and_its_keys_go_through_the_original() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let files = pair(&sink, &canary("50%"), WRONG);
    let stage = Stage::with(&refs(&files)).await;
    stage.orders(1..=60).await;
    stage.settled().await;
    stage.until("redelivered", |e| e.bus().dead_letters().is_empty()).await;
    stage.settled().await;
    let (original, next) = sides(&sink.seen());
    assert_eq!((original.len(), next.len()), (60, 0), "every order arrived, and once");
    assert_eq!(sink.seen().len(), 60);
    let keys: BTreeSet<_> =
        sink.seen().iter().map(|s| s.header("idempotency-key").unwrap().to_owned()).collect();
    assert_eq!(keys.len(), 60);

    let canary = stage.rollout("shop-next").canary.unwrap();
    let halt = canary.halted.unwrap();
    assert!(halt.why.contains("5 of its 5 attempts"), "{}", halt.why);
    let status = stage.connector("shop-next");
    assert_eq!((status.state.as_str(), status.problem), ("halted", Some(halt.why)));
    assert_eq!(stage.metric("tenon_rollout_halted{connector=\"shop-next\",of=\"shop\"}"), "1");
    let log = stage.engine.rollout_log();
    assert_eq!((&*log[0].what, &*log[0].by), ("halt", "tenon"));

    // It stays so over a reload of the same file, and goes on with another one.
    stage.engine.reload().await;
    assert_eq!(stage.connector("shop-next").state, "halted");
    stage.write("next.toml", &files[1].1.replace(WRONG, TOTAL)).await;
    assert_eq!(stage.connector("shop-next").state, "running");
    stage.orders(101..=160).await;
    stage.settled().await;
    assert!(sides(&sink.seen()).1.len() > 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_cannot_be_read_keeps_no_other_from_being_redelivered() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let files = pair(&sink, &canary("100%"), WRONG);
    let stage = Stage::durable(&refs(&files)).await;
    stage.orders(1..=3).await;
    stage.until("buried", |e| e.bus().dead_letters().len() == 3).await;
    let oldest = stage.engine.bus().dead_letters()[0].id;
    let order = stage.engine.bus().dead_letter(oldest).unwrap().unwrap().event.key.clone();
    damage(&stage.folder.path().join("state/dead"), &format!("{order}.50"));
    assert!(stage.engine.bus().dead_letter(oldest).is_err(), "it is damaged");
    stage.orders(4..=6).await;
    stage.until("redelivered", |e| e.bus().dead_letters().len() == 1).await;
    stage.settled().await;
    let mut others: BTreeSet<_> = (1..=6).map(|n: u32| n.to_string()).collect();
    others.remove(&*order);
    assert_eq!(sides(&sink.seen()), (others, BTreeSet::new()));
    assert_eq!(stage.engine.bus().dead_letters()[0].id, oldest);
}

#[tokio::test(start_paused = true)]
async fn what_a_canary_was_retrying_goes_on_through_the_original() {
    let broken = MockServer::start(|_| Reply::status(503)).await;
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let files = pair(&sink, &canary("50%"), TOTAL);
    let next = files[1].1.replace(&sink.url("/in"), &broken.url("/in"));
    // A variant takes nothing in: it needs no way in either.
    let webhook = "[stream.orders.webhook]\npath = \"/shop\"\nverify = \"none\"\n";
    let next = next.replace(webhook, "");
    let stage = Stage::with(&[("shop.toml", &files[0].1), ("next.toml", &next)]).await;
    stage.orders(1..=40).await;
    stage.settled().await;
    stage.until("redelivered", |e| e.bus().dead_letters().is_empty()).await;
    stage.settled().await;
    assert_eq!(sides(&sink.seen()).0.len(), 40);
    assert!(!broken.seen().is_empty());
    assert_eq!(stage.connector("shop-next").state, "halted");
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_down_for_both_halts_nothing() {
    let status = Arc::new(AtomicU16::new(503));
    let answer = Arc::clone(&status);
    let sink = MockServer::start(move |_| Reply::status(answer.load(SeqCst))).await;
    let [(_, shop), (_, next)] = pair(&sink, &canary("50%"), TOTAL);
    let patient = |text: &str| text.replace("attempts = 4", "attempts = 400");
    let stage =
        Stage::with(&[("shop.toml", &patient(&shop)), ("next.toml", &patient(&next))]).await;
    stage.orders(1..=40).await;
    let attempts = |e: &Engine| {
        let canary = e.rollouts(Some("shop-next")).pop().unwrap().canary.unwrap();
        canary.canary.attempts.min(canary.original.attempts)
    };
    stage.until("both failed often", |e| attempts(e) > 15).await;
    assert_eq!(stage.connector("shop-next").state, "running");
    status.store(200, SeqCst);
    stage.settled().await;
    assert!(stage.engine.bus().dead_letters().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_canary_whose_credentials_are_refused_halts_at_once_and_parks_nobody() {
    let refusing = MockServer::start(|_| Reply::status(403)).await;
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let files = pair(&sink, &canary("100%"), TOTAL);
    let next = files[1].1.replace(&sink.url("/in"), &refusing.url("/in"));
    let stage = Stage::with(&[("shop.toml", &files[0].1), ("next.toml", &next)]).await;
    stage.orders(1..=3).await;
    stage.settled().await;
    assert_eq!(sides(&sink.seen()).0.len(), 3);
    let status = stage.connector("shop-next");
    assert_eq!(status.state, "halted");
    assert!(status.problem.unwrap().contains("403"));
    assert_eq!(status.destinations[0].held, None);

    // Setting a flag lets it go on.
    stage.flag("shop-next.share", Some("0%")).await.unwrap();
    stage.until("on", |e| e.status().connectors.iter().all(|c| c.state == "running")).await;
    stage.orders(4..=6).await;
    stage.settled().await;
    assert_eq!(sides(&sink.seen()).0.len(), 6);
}

#[tokio::test(start_paused = true)]
async fn off_answers_404_and_keeps_the_backlog() {
    let status = Arc::new(AtomicU16::new(503));
    let answer = Arc::clone(&status);
    let sink = MockServer::start(move |_| Reply::status(answer.load(SeqCst))).await;
    let text = file("shop", "1.0.0", &sink, "", TOTAL).replace("attempts = 4", "attempts = 400");
    let stage = Stage::with(&[("shop.toml", &text)]).await;
    stage.orders(1..=3).await;
    stage.flag("shop.mode", Some("off")).await.unwrap();
    assert_eq!(stage.send("/shop", &order(4)).await, 404);
    let shown = stage.connector("shop");
    assert_eq!(shown.state, "off");
    assert!(shown.rollout.unwrap().mode_by_flag);
    let before = sink.seen().len();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((sink.seen().len(), stage.engine.status().unsettled), (before, 3));
    status.store(200, SeqCst);
    stage.flag("shop.mode", None).await.unwrap();
    stage.orders([4]).await;
    stage.settled().await;
    assert_eq!(stage.connector("shop").state, "running");
    let log = stage.engine.rollout_log();
    let told: Vec<_> = log.iter().map(|e| (&*e.what, e.from.as_deref(), e.to.as_deref())).collect();
    assert_eq!(told, [("mode", Some("off"), None), ("mode", Some("live"), Some("off"))]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_flagged_is_said() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let files = pair(&sink, SHADOW, TOTAL);
    let stage = Stage::with(&refs(&files)).await;
    for (flag, value, told) in [
        ("shop.halt", Some("1"), "expected NAME.share or NAME.mode"),
        ("crm.share", Some("1%"), "no connector named `crm` runs"),
        ("shop-next.share", Some("a lot"), "expected a percentage such as 25%"),
        ("shop-next.share", Some("0.5"), "write 50%"),
        ("shop-next.mode", Some("live"), "expected one of `shadow`, `canary`, `off`"),
        ("shop.mode", Some("shadow"), "expected one of `live`, `off`"),
        ("shop-next.mode", None, "is not set"),
    ] {
        let said = stage.flag(flag, value).await.unwrap_err();
        assert!(said.contains(told), "{flag}: {said}");
    }
    // One canary at a time, whatever the files say.
    let other = files[1].1.replace("shop-next", "shop-other");
    stage.write("other.toml", &other).await;
    stage.flag("shop-other.mode", Some("canary")).await.unwrap();
    let said = stage.flag("shop-next.mode", Some("canary")).await.unwrap_err();
    assert!(said.contains("`shop-other` is `shop`'s canary already"), "{said}");
    let said = stage.flag("shop.mode", Some("canary")).await.unwrap_err();
    assert!(said.contains("whose file has no `of`"), "{said}");
    stage.flag("shop-other.mode", Some("off")).await.unwrap();
    std::fs::remove_file(stage.path("other.toml")).unwrap();
    stage.engine.reload().await;
    // What is left behind can be taken away.
    stage.flag("shop-other.mode", None).await.unwrap();
    assert!(stage.engine.flags().iter().all(|flag| !flag.flag.starts_with("shop-other")));
    // The original's name stands for its only variant; a shadow becomes a canary while it runs.
    stage.flag("shop.share", Some("100%")).await.unwrap();
    stage.flag("shop-next.mode", Some("canary")).await.unwrap();
    stage.orders(1..=5).await;
    stage.settled().await;
    assert_eq!(sides(&sink.seen()).1.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_of_connectors_that_are_long_gone_are_removed_but_for_what_is_pinned() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let shop = file("shop", "1.0.0", &sink, "", TOTAL);
    let other = |name: &str| {
        file(name, "1.0.0", &sink, "", TOTAL).replace("\"/shop\"", &format!("\"/{name}\""))
    };
    let (crm, erp) = (other("crm"), other("erp"));
    let stage =
        Stage::durable(&[("shop.toml", &shop), ("crm.toml", &crm), ("erp.toml", &erp)]).await;
    let versions = stage.folder.path().join("state/versions");
    let first = versions.join("shop");
    let kept = || std::fs::read_dir(&first).map_or(0, Iterator::count);
    stage.until("the first is kept", |_| kept() == 1).await;
    stage.write("shop.toml", &shop.replace("1.0.0", "1.1.0")).await;
    stage.until("the second is kept", |_| kept() == 2).await;
    stage.rollback(None, false).await.unwrap();
    for name in ["shop.toml", "crm.toml"] {
        std::fs::remove_file(stage.path(name)).unwrap();
    }
    // Nobody waits 90 days: the marks say that they are over. One is there again.
    for name in ["shop", "crm", "erp"] {
        std::fs::write(versions.join(name).join("gone"), "1000").unwrap();
    }
    let stage = stage.restart().await;
    stage.until("looked at", |_| !versions.join("crm").exists()).await;
    stage.until("not gone", |_| !versions.join("erp/gone").exists()).await;
    assert!(versions.join("erp").exists());
    assert_eq!(kept(), 2, "what it is rolled back to is there for when its file is");
    assert_eq!(stage.engine.shutdown().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_that_came_back_is_gone_only_since_it_went_again() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let shop = file("shop", "1.0.0", &sink, "", TOTAL);
    let stage = Stage::durable(&[("shop.toml", &shop)]).await;
    let folder = stage.folder.path().join("state/versions/shop");
    stage.until("it is kept", |_| folder.exists()).await;
    std::fs::remove_file(stage.path("shop.toml")).unwrap();
    stage.engine.reload().await;
    // It was looked at while the file was away, and is not again before it has run for months.
    std::fs::write(folder.join("gone"), "1000").unwrap();
    stage.write("shop.toml", &shop).await;
    stage.until("it is back", |_| !folder.join("gone").exists()).await;
    // Whoever misses it on the day it goes can still roll it back.
    std::fs::remove_file(stage.path("shop.toml")).unwrap();
    let stage = stage.restart().await;
    stage.until("noted since when", |_| folder.join("gone").exists()).await;
    assert_eq!(stage.engine.shutdown().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_remembers_flags_halts_and_reports() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let files = pair(&sink, &canary("100%"), WRONG);
    let shadow = file("shop-shadow", "1.1.0", &sink, SHADOW, "");
    let mut given = refs(&files).to_vec();
    given.push(("shadow.toml", &shadow));
    let stage = Stage::durable(&given).await;
    stage.orders(1..=10).await;
    stage.until("halted", |e| e.rollout_log().iter().any(|entry| entry.what == "halt")).await;
    stage.until("redelivered", |e| e.bus().dead_letters().is_empty()).await;
    stage.settled().await;
    stage.orders(11..=20).await;
    stage.settled().await;
    let compared = |e: &Engine| e.rollouts(Some("shop-shadow"))[0].shadow.clone().unwrap().compared;
    stage.until("compared", |e| compared(e) >= 10).await;
    let before = compared(&stage.engine);

    let stage = stage.restart().await;
    assert_eq!(stage.connector("shop-next").state, "halted");
    assert_eq!(compared(&stage.engine), before);
    stage.orders(21..=25).await;
    stage.settled().await;
    assert_eq!(sides(&sink.seen()).0.len(), 25);

    stage.flag("shop-next.share", Some("7.5%")).await.unwrap();
    stage.flag("shop-shadow.mode", Some("off")).await.unwrap();
    let stage = stage.restart().await;
    let canary = stage.rollout("shop-next").canary.unwrap();
    assert_eq!((&*canary.share, canary.share_by_flag, canary.halted), ("7.5%", true, None));
    assert_eq!(stage.connector("shop-shadow").state, "off");
    let by: Vec<_> = stage.engine.rollout_log().into_iter().map(|entry| entry.by).collect();
    assert_eq!(by, ["ada", "ada", "tenon"]);
    assert!(stage.engine.shutdown().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_runs_the_kept_version_until_the_file_changes() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let version =
        |version: &str| file("shop", version, &sink, "", &format!("{TOTAL}\nby = \"{version}\""));
    let stage = Stage::durable(&[("shop.toml", &version("1.0.0"))]).await;
    let told = stage.rollback(None, false).await.unwrap_err();
    assert!(told.contains("no earlier version of `shop` is kept"), "{told}");
    stage.write("shop.toml", &version("1.1.0")).await;
    assert_eq!(stage.rollback(None, false).await.as_deref(), Ok("1.0.0"));
    let by = |n: u32| {
        let id = n.to_string();
        let found = sink.seen().iter().map(Seen::json).find(|it| it["id"] == *id).unwrap();
        found["by"].as_str().unwrap().to_owned()
    };
    stage.orders([1]).await;
    stage.settled().await;
    assert_eq!(by(1), "1.0.0");
    let rollout = stage.connector("shop").rollout.unwrap();
    assert_eq!(
        (&*rollout.pinned.clone().unwrap().version, &*rollout.pinned.unwrap().by),
        ("1.0.0", "ada")
    );

    // A restart, a file that does not compile, and one that says the same change nothing.
    let stage = stage.restart().await;
    stage.write("shop.toml", "name = \"shop\"\nkye = 1").await;
    let report = stage.write("shop.toml", &format!("# mended\n{}", version("1.1.0"))).await;
    assert_eq!((report.unchanged, report.rolled_back), (1, vec!["shop".to_owned()]));
    stage.orders([2]).await;
    stage.settled().await;
    assert_eq!(by(2), "1.0.0");
    let kept = stage.engine.versions("shop").await;
    let kept: Vec<_> = kept.iter().map(|it| (it.number, it.is_running, it.is_file)).collect();
    assert_eq!(kept, [(2, false, true), (1, true, false)]);

    // Undone, and done again by its number.
    assert_eq!(stage.rollback(None, true).await.as_deref(), Ok("1.1.0"));
    let told = stage.rollback(None, true).await.unwrap_err();
    assert!(told.contains("nothing to undo"), "{told}");
    let told = stage.rollback(Some("3.0.0"), false).await.unwrap_err();
    assert!(told.contains("there are: 1.1.0 (#2), 1.0.0 (#1)"), "{told}");
    assert_eq!(stage.rollback(Some("#1"), false).await.as_deref(), Ok("1.0.0"));

    // Another file is another matter.
    let report = stage.write("shop.toml", &version("1.2.0")).await;
    assert_eq!((report.changed, report.rolled_back), (vec!["shop".to_owned()], vec![]));
    stage.orders([3]).await;
    stage.settled().await;
    assert_eq!(by(3), "1.2.0");
    assert_eq!(stage.engine.versions("shop").await.len(), 3);
    let log = stage.engine.rollout_log();
    assert_eq!((log[0].why.as_deref(), &*log[0].by), (Some("the file changed"), "tenon"));
    assert!(stage.engine.shutdown().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_of_an_instance_has_the_connector_that_it_used() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let base = |by: &str| {
        file(
            "base",
            "1.0.0",
            &sink,
            "[vars]\nshop = { doc = \"which\" }",
            &format!("by = \"{by}\""),
        )
    };
    let instance = "use = \"base.toml\"\nname = \"shop\"\n[vars]\nshop = \"acme\"\n";
    let stage = Stage::durable(&[("base.toml", &base("old")), ("shop.toml", instance)]).await;
    let report = stage.write("base.toml", &base("new")).await;
    assert_eq!(report.changed, ["shop"]);
    stage.rollback(None, false).await.unwrap();
    stage.orders([1]).await;
    stage.settled().await;
    assert_eq!(sink.seen()[0].json()["by"], "old");
    assert!(stage.engine.shutdown().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_variant_claims_no_path_and_without_its_original_it_does_not_load() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let files = pair(&sink, SHADOW, TOTAL);
    let stage = Stage::with(&refs(&files)).await;
    assert_eq!(stage.engine.status().connectors.len(), 2);
    // A variant that does not compile is no rival for the path either.
    let broken = files[1].1.replace("key =", "kye =");
    let report = stage.write("next.toml", &broken).await;
    assert_eq!(report.failed.len(), 1);
    assert_eq!(stage.send("/shop", &order(1)).await, 202);
    // Nor is one that does not say whose events it wants.
    let report = stage.write("next.toml", &files[1].1.replace("of = \"shop\"", "")).await;
    assert_eq!((report.failed.len(), report.unchanged), (1, 1), "{:?}", report.diagnostics);
    let lost = files[1].1.replace("of = \"shop\"", "of = \"shopp\"");
    let report = stage.write("next.toml", &lost).await;
    let told = report.diagnostics.join("\n");
    assert!(told.contains("E1202") && told.contains("did you mean `shop`?"), "{told}");
    assert_eq!(stage.connector("shop").state, "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_claims_a_path_that_a_kept_version_serves_waits_alone() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let at = |name: &str, version: &str, path: &str| {
        file(name, version, &sink, "", &format!("{TOTAL}\nby = \"{name} {version}\""))
            .replace("\"/shop\"", path)
    };
    let stage = Stage::durable(&[("shop.toml", &at("shop", "1.0.0", "\"/shop\""))]).await;
    stage.write("shop.toml", &at("shop", "1.1.0", "\"/moved\"")).await;
    assert_eq!(stage.rollback(None, false).await.as_deref(), Ok("1.0.0"));
    // Its file serves another path, so nothing is wrong between the files.
    std::fs::write(stage.path("rival.toml"), at("rival", "1.0.0", "\"/shop\"")).unwrap();
    let report = stage.write("crm.toml", &at("crm", "1.0.0", "\"/crm\"")).await;
    assert_eq!(report.added, ["crm"], "{report:?}");
    assert_eq!(report.failed.len(), 1, "{report:?}");
    assert!(report.diagnostics[0].contains("rival.toml: `/shop` is served by version 1.0.0"));

    let stage = stage.restart().await;
    assert_eq!(stage.connector("crm").state, "running");
    stage.orders([1]).await;
    stage.settled().await;
    assert_eq!(sink.seen()[0].json()["by"], "shop 1.0.0");
    // Once the path is free it is taken, although no file changed.
    stage.rollback(None, true).await.unwrap();
    stage.orders([2]).await;
    stage.settled().await;
    assert_eq!(sink.seen()[1].json()["by"], "rival 1.0.0");
    assert!(stage.engine.shutdown().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_redacted_is_not_shown_under_another_name_either() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let files = pair(&sink, SHADOW, "contact = \"to {{ record.total.amount }}\"");
    let redacted =
        |text: &str| text.replace("key = \"$.id\"", "key = \"$.id\"\nredact = [\"total\"]");
    let stage =
        Stage::with(&[("shop.toml", &redacted(&files[0].1)), ("next.toml", &files[1].1)]).await;
    stage.orders([1234]).await;
    stage.settled().await;
    let report = |e: &Engine| e.rollouts(Some("shop-next")).pop().unwrap().shadow.unwrap();
    stage.until("compared", |e| report(e).compared == 1).await;
    let report = report(&stage.engine);
    let contact = report.fields.iter().find(|field| field.field == "contact").unwrap();
    assert_eq!(contact.samples[0].shadow.as_deref(), Some("\"[redacted]\""));
    let text = serde_json::to_string(&report).unwrap();
    assert!(!text.contains("1234.50"), "{text}");
}
