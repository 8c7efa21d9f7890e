//! The bus at size: start-up with a million unsettled events, and what ten million claims cost.
//!
//! `cargo bench --bench scale -- start` or `-- claims` runs one of the two.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tenon::{
    bus::{Append, Bus, Claim, EmbeddedBus, EmbeddedOptions, LaneOptions, NewEvent},
    event::{Event, EventId, Lane, Origin, Record},
    plan::Settings,
    world::{Clock as _, SystemClock, SystemDisk, Timestamp},
};

/// As the daemon has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const UNSETTLED: u64 = 1_000_000;
const CLAIMS: u64 = 10_000_000;
const BATCH: u64 = 1_000;
/// Of the bench's own child.
const FILL: &str = "fill-claims";

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut arguments = std::env::args().skip_while(|argument| argument != FILL).skip(1);
    if let Some(folder) = arguments.next() {
        return runtime.block_on(fill_claims(folder.as_ref()));
    }
    let only = std::env::args().find(|a| ["start", "claims"].contains(&a.as_str()));
    if only.as_deref() != Some("claims") {
        runtime.block_on(start());
    }
    if only.as_deref() != Some("start") {
        runtime.block_on(claims());
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

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
