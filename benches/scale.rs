//! At size: start-up with a million unsettled events, what ten million claims cost, and a poll that is
//! read for each of 200,000 parents.
//!
//! `cargo bench --bench scale -- start`, `-- claims` or `-- partitions` runs one of them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tenon::{
    auth::Authenticator,
    bus::{Append, Bus, Claim, EmbeddedBus, EmbeddedOptions, LaneOptions, NewEvent},
    diagnostic::SourceFile,
    egress::{Answer, Egress, EgressError, ExchangeLimits, Peer, Script},
    event::{Event, EventId, Lane, Origin, Record},
    ingest::poll::{Poller, Source},
    plan::{Settings, Sources, compile_file},
    world::{
        BoxFuture, Clock as _, StaticSecrets, SystemClock, SystemDisk, SystemEntropy, Timestamp,
        World,
    },
};

/// As the daemon has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const UNSETTLED: u64 = 1_000_000;
const CLAIMS: u64 = 10_000_000;
const BATCH: u64 = 1_000;
const PARTITIONS: u64 = 200_000;
/// Of the bench's own child.
const FILL: &str = "fill-claims";

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut arguments = std::env::args().skip_while(|argument| argument != FILL).skip(1);
    if let Some(folder) = arguments.next() {
        return runtime.block_on(fill_claims(folder.as_ref()));
    }
    let only = std::env::args().find(|a| ["start", "claims", "partitions"].contains(&a.as_str()));
    let runs = |name: &str| only.as_deref().is_none_or(|only| only == name);
    if runs("start") {
        runtime.block_on(start());
    }
    if runs("claims") {
        runtime.block_on(claims());
    }
    if runs("partitions") {
        runtime.block_on(partitions());
    }
}

fn open(folder: &std::path::Path) -> Arc<EmbeddedBus> {
    let mut settings = Settings::default().bus;
    settings.max_disk_bytes = 64 << 30;
    EmbeddedBus::open(EmbeddedOptions {
        folder: folder.to_owned(),
        settings,
        clock: Arc::new(SystemClock),
        disk: Arc::new(SystemDisk),
    })
    .expect("the bus opens")
}

fn event(number: u64, now: Timestamp, body: &Bytes, to: &[Arc<str>]) -> NewEvent {
    let key = format!("order_{number}");
    let event = Event {
        id: EventId::derive("bench", "orders", &key, "1"),
        connector: Arc::from("bench"),
        stream: Arc::from("orders"),
        key,
        revision: "1".to_owned(),
        order: None,
        tenant: None,
        received_at: now,
        origin: Origin::Poll,
        delete: false,
        to: to.to_vec(),
        record: Record::from_bytes(body.clone()),
        with: None,
        traceparent: None,
        replayed: None,
    };
    NewEvent { event: Arc::new(event), claim: Claim::Window(Duration::from_hours(168)) }
}

async fn fill(bus: &EmbeddedBus, count: u64, body: &Bytes, to: &[Arc<str>]) -> Duration {
    let began = Instant::now();
    for first in (0..count).step_by(BATCH as usize) {
        let now = SystemClock.now();
        let events = (first..first + BATCH).map(|n| event(n, now, body, to)).collect();
        bus.append(Append { events, state: Vec::new() }).await.expect("appended");
    }
    began.elapsed()
}

/// A million events of 1 KiB that nobody took, and a daemon that was killed.
async fn start() {
    let folder = tempfile::tempdir().unwrap();
    let to = [Arc::from("sink")];
    let body = Bytes::from(format!("{{\"note\":\"{}\"}}", "x".repeat(1_011)));
    let bus = open(folder.path());
    let took = fill(&bus, UNSETTLED, &body, &to).await;
    println!(
        "append {UNSETTLED} events of 1 KiB in batches of {BATCH}: {:.0}/s",
        UNSETTLED as f64 / took.as_secs_f64()
    );
    drop(bus);
    let began = Instant::now();
    let bus = open(folder.path());
    let opened = began.elapsed();
    let lane = Lane {
        connector: Arc::from("bench"),
        stream: Arc::from("orders"),
        destination: Arc::from("sink"),
    };
    let lane = bus.open(&lane, LaneOptions::default());
    let first = bus.take(lane, 1).await;
    println!(
        "open with {} unsettled, without a closing checkpoint: {opened:?}; first event after {:?}; \
         {} MiB resident",
        bus.health().unsettled,
        began.elapsed(),
        resident_kib() / 1024
    );
    assert_eq!(first.len(), 1);
}

/// Ten million claims of events that have no destination, and as many look-ups. They are filled in
/// by a process of its own, and what they cost is read off a second one that opens them, as a daemon
/// does: the first one's memory also holds what came in within seconds and awaits its checkpoint.
async fn claims() {
    let folder = tempfile::tempdir().unwrap();
    let program = std::env::current_exe().unwrap();
    let filled = std::process::Command::new(program).arg(FILL).arg(folder.path()).status().unwrap();
    assert!(filled.success());
    let before = resident_kib();
    let began = Instant::now();
    let bus = open(folder.path());
    println!(
        "open with {} claims: {:?}, {:.0} MiB resident",
        bus.health().dedupe_keys,
        began.elapsed(),
        (resident_kib() - before) as f64 / 1024.0
    );
    // Each is a duplicate: nothing is written, so this is the way in, the hash and the look-up.
    let took = fill(&bus, CLAIMS / 10, &Bytes::from_static(b"{}"), &[]).await;
    println!(
        "{:.0} duplicates/s refused, ids derived and all; {:.0} MiB resident",
        (CLAIMS / 10) as f64 / took.as_secs_f64(),
        (resident_kib() - before) as f64 / 1024.0
    );
}

async fn fill_claims(folder: &std::path::Path) {
    let bus = open(folder);
    let before = resident_kib();
    let took = fill(&bus, CLAIMS, &Bytes::from_static(b"{}"), &[]).await;
    println!(
        "{} claims appended: {:.0} events/s, {:.0} MiB more resident",
        bus.health().dedupe_keys,
        CLAIMS as f64 / took.as_secs_f64(),
        (resident_kib() - before) as f64 / 1024.0
    );
}

/// Answers as an API with so many projects, each with one task.
struct Tracker;

impl Script for Tracker {
    fn answer(
        &self,
        _: &Peer,
        request: http::Request<Bytes>,
        _: ExchangeLimits,
    ) -> BoxFuture<'_, Result<Answer, EgressError>> {
        let uri = request.uri();
        let body = match uri.path().strip_prefix("/projects/") {
            None => {
                let page = uri.query().and_then(|query| query.split("page=").nth(1));
                let page: u64 = page.and_then(|page| page.parse().ok()).unwrap_or(1);
                let first = (page - 1) * BATCH;
                let ids = first..(first + BATCH).min(PARTITIONS);
                let items: Vec<String> =
                    ids.map(|id| format!(r#"{{"id":{id},"name":"project {id}"}}"#)).collect();
                format!("[{}]", items.join(","))
            }
            Some(rest) => {
                let id = rest.split('/').next().unwrap_or_default();
                format!(r#"[{{"id":"{id}","at":1700000000}}]"#)
            }
        };
        let answer = Answer {
            status: http::StatusCode::OK,
            headers: http::HeaderMap::new(),
            body: Bytes::from(body),
        };
        Box::pin(async move { Ok(answer) })
    }
}

/// The connector that reads it.
const TRACKER: &str = r#"
name = "tracker"
[source]
base        = "https://tracker.example"
concurrency = 16
[schedule]
every = "1h"
[stream.projects]
key = "$.id"
to  = []
[stream.projects.poll]
path = "/projects"
page = { by = "page", param = "page", size = 1000 }
[stream.tasks]
key = "$.id"
[stream.tasks.poll]
path = "/projects/{{ each.project.id }}/tasks"
each = { project = "projects" }
[stream.tasks.poll.cursor]
field       = "$.at"
format      = "epoch_s"
start       = "2020-01-01"
start_param = "since"
[destination.log]
type = "stdout"
"#;

struct OneFile(Arc<SourceFile>);

impl Sources for OneFile {
    fn read(&self, _: &std::path::Path) -> Option<Arc<SourceFile>> {
        Some(Arc::clone(&self.0))
    }
}

/// A poll that is read for each of 200,000 parents, on the bus that the daemon has: what a parent and
/// a cursor cost, and what a run does.
async fn partitions() {
    let folder = tempfile::tempdir().unwrap();
    let bus: Arc<dyn Bus> = open(folder.path());
    let world = World {
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy::new()),
        secrets: Arc::new(StaticSecrets::new([])),
    };
    let file = OneFile(Arc::new(SourceFile { path: "t.toml".into(), text: TRACKER.to_owned() }));
    let compiled = compile_file("".as_ref(), "t.toml".as_ref(), &file);
    let plan = compiled.plan.expect("the connector compiles");
    let egress = Egress::scripted(Arc::new(Tracker));
    let auth = Arc::new(Authenticator::new(world.clone(), egress.clone(), Arc::clone(&bus)));
    let poller = |stream: usize| Poller {
        connector: Arc::clone(&plan),
        stream: Arc::clone(&plan.streams[stream]),
        world: world.clone(),
        egress: egress.clone(),
        auth: Arc::clone(&auth),
        bus: Arc::clone(&bus),
        source: Arc::new(Source::new(&[])),
        tenants: Arc::default(),
        skew: Arc::default(),
    };
    let before = resident_kib();
    for (what, stream) in [
        ("parents", 0),
        ("partitions, first run", 1),
        ("partitions, second run", 1),
        ("partitions, third run", 1),
    ] {
        let began = Instant::now();
        let report = poller(stream).run(&|_| {}).await.expect("the run is fine");
        println!(
            "{what}: {} requests, {} accepted in {:.1?}; {} MiB more resident than before all",
            report.requests,
            report.accepted,
            began.elapsed(),
            resident_kib().saturating_sub(before) / 1024
        );
    }
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
