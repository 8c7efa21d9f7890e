//! kill -9 in a loop under load: what was acknowledged is delivered, no event ever goes out under
//! two idempotency keys, and a cursor never passed a record that was not delivered.
//!
//! `TENON_CRASH_ROUNDS` and `TENON_CRASH_SEED` make it longer or repeat a run.

#[path = "it/support/mod.rs"]
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use support::{MockServer, Reply, Seen};

const SECRET: &str = "crash-test-secret";
const PRODUCERS: u64 = 4;
/// Records that the polled source has in the end.
const RECORDS: u64 = 3_000;

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    let seed = number("TENON_CRASH_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let rounds = number("TENON_CRASH_ROUNDS").unwrap_or(8);
    eprintln!("TENON_CRASH_SEED={seed} TENON_CRASH_ROUNDS={rounds}");
    let mut chance = Chance(seed);

    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let sink = Arc::new(Sink::default());
    let grown = Arc::new(AtomicU64::new(0));
    let (sink_server, api_server) = runtime.block_on(async {
        let taker = Arc::clone(&sink);
        let mut fate = Chance(seed ^ 1);
        let sink = MockServer::start(move |seen| taker.take(seen, fate.below(100))).await;
        let records = Arc::clone(&grown);
        let api = MockServer::start(move |seen| page(seen, records.load(SeqCst))).await;
        (sink, api)
    });
    let hooks = free_address();
    let connectors = folder.path().join("connectors");
    std::fs::create_dir(&connectors).unwrap();
    let text = connector(&api_server.url(""), &sink_server.url("/in"));
    std::fs::write(connectors.join("crash.toml"), text).unwrap();
    let state = folder.path().join("state");

    let producers = Arc::new(Producers::default());
    let threads: Vec<_> = (0..PRODUCERS)
        .map(|n| {
            let producers = Arc::clone(&producers);
            std::thread::spawn(move || producers.run(n, hooks))
        })
        .collect();

    for round in 0..rounds {
        let mut daemon = Daemon::start(&connectors, &state, hooks);
        let life = Duration::from_millis(300 + chance.below(900));
        let growing = Instant::now();
        while growing.elapsed() < life {
            let share = RECORDS * (round + 1) / rounds;
            grown.store((grown.load(SeqCst) + 20).min(share), SeqCst);
            std::thread::sleep(Duration::from_millis(20));
        }
        daemon.kill();
    }
    grown.store(RECORDS, SeqCst);

    let _last = Daemon::start(&connectors, &state, hooks);
    std::thread::sleep(Duration::from_millis(500));
    producers.stop.store(true, SeqCst);
    for thread in threads {
        thread.join().unwrap();
    }
    let acknowledged = producers.acknowledged.lock().unwrap().clone();
    let polled: BTreeSet<String> = (1..=RECORDS).map(|n| format!("rec_{n}")).collect();
    let complete = wait(Duration::from_secs(60), || {
        let taken = sink.taken.lock().unwrap();
        acknowledged.keys().chain(&polled).all(|id| taken.contains_key(id))
    });
    let taken = sink.taken.lock().unwrap();
    let lost: Vec<_> = acknowledged.keys().filter(|id| !taken.contains_key(*id)).collect();
    assert!(lost.is_empty(), "acknowledged and lost, seed {seed}: {lost:?}");
    let skipped: Vec<_> = polled.iter().filter(|id| !taken.contains_key(*id)).collect();
    assert!(skipped.is_empty(), "the cursor passed, seed {seed}: {skipped:?}");
    assert!(complete);
    assert!(acknowledged.len() > 100, "too little load to mean anything: {}", acknowledged.len());
    for (id, copies) in taken.iter() {
        assert_eq!(copies.keys.len(), 1, "{id} went out under {:?}, seed {seed}", copies.keys);
        if let Some(event) = acknowledged.get(id) {
            assert_eq!(copies.events, BTreeSet::from([event.clone()]), "{id}, seed {seed}");
        }
    }
    eprintln!(
        "{} acknowledged, {} polled, {} deliveries, {} of them repeats",
        acknowledged.len(),
        RECORDS,
        taken.values().map(|c| c.count).sum::<u64>(),
        taken.values().map(|c| c.count - 1).sum::<u64>(),
    );
}

/// A canary whose map fails is killed at any moment of its life: while it buries, halts, and is
/// redelivered from. Each round it is another file, so that it runs and halts anew.
#[test]
fn what_a_canary_held_reaches_the_original_whatever_kill_9_cuts() {
    let seed = number("TENON_CRASH_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let rounds = number("TENON_CRASH_ROUNDS").unwrap_or(6);
    eprintln!("TENON_CRASH_SEED={seed} TENON_CRASH_ROUNDS={rounds}");
    let mut chance = Chance(seed ^ 2);
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let sink = Arc::new(Sink::default());
    let sink_server = runtime.block_on(async {
        let taker = Arc::clone(&sink);
        let mut fate = Chance(seed ^ 1);
        MockServer::start(move |seen| taker.take(seen, fate.below(100))).await
    });
    let hooks = free_address();
    let connectors = folder.path().join("connectors");
    std::fs::create_dir(&connectors).unwrap();
    let polled = connector("http://127.0.0.1:9", &sink_server.url("/in"));
    let begin = polled.find("[stream.records]").unwrap();
    let text = [&polled[..begin], &polled[polled.find("[destination.sink]").unwrap()..]].concat();
    std::fs::write(connectors.join("crash.toml"), &text).unwrap();
    let canary = |round: u64| {
        let text = text.replace("name = \"crash\"", "name = \"crash-next\"");
        let map = format!("[stream.orders.map]\nround = {round}\nid = \"$.nowhere\"\n");
        let rollout = "[rollout]\nmode = \"canary\"\nof = \"crash\"\nshare = \"50%\"\n";
        std::fs::write(
            connectors.join("next.toml"),
            format!("{text}\n{map}\n{rollout}\n[rollout.halt]\nof = 5\n"),
        )
        .unwrap();
    };
    let state = folder.path().join("state");
    let producers = Arc::new(Producers::default());
    let threads: Vec<_> = (0..PRODUCERS)
        .map(|n| {
            let producers = Arc::clone(&producers);
            std::thread::spawn(move || producers.run(n, hooks))
        })
        .collect();
    for round in 0..rounds {
        canary(round);
        let mut daemon = Daemon::start(&connectors, &state, hooks);
        std::thread::sleep(Duration::from_millis(150 + chance.below(500)));
        daemon.kill();
    }
    canary(rounds);
    let _last = Daemon::start(&connectors, &state, hooks);
    let enough = || producers.acknowledged.lock().unwrap().len() > 100;
    assert!(wait(Duration::from_secs(30), enough), "too little load to mean anything");
    std::thread::sleep(Duration::from_millis(500));
    producers.stop.store(true, SeqCst);
    for thread in threads {
        thread.join().unwrap();
    }
    let acknowledged = producers.acknowledged.lock().unwrap().clone();
    wait(Duration::from_secs(60), || {
        let taken = sink.taken.lock().unwrap();
        acknowledged.keys().all(|id| taken.contains_key(id))
    });
    let taken = sink.taken.lock().unwrap();
    let lost: Vec<_> = acknowledged.keys().filter(|id| !taken.contains_key(*id)).collect();
    assert!(lost.is_empty(), "held by the canary and lost, seed {seed}: {lost:?}");
    for (id, copies) in taken.iter() {
        assert_eq!(copies.keys.len(), 1, "{id} went out under {:?}, seed {seed}", copies.keys);
    }
    let log = std::fs::read_to_string(state.with_extension("log")).unwrap();
    let halts = log.matches("canary halted").count();
    assert!(halts > 0, "the canary never halted");
    eprintln!("{} acknowledged, {halts} halts in {} lives", acknowledged.len(), rounds + 1);
}

fn connector(api: &str, sink: &str) -> String {
    format!(
        r#"
name = "crash"
version = "1.0.0"
owner = "tests"

[source]
base = "{api}"

[schedule]
every = "1s"

[stream.orders]
key = "$.id"

[stream.orders.webhook]
path = "/orders"
verify = "github"
secret = "{{{{ secret.CRASH_HOOK }}}}"

[stream.records]
key = "$.id"
revision = "$.seq | integer"

[stream.records.poll]
path = "/records"
records = "$.records"

[stream.records.poll.cursor]
field = "$.seq"
format = "integer"
sorted = "asc"
start = "0"
start_param = "since"

[destination.sink]
type = "http"
url = "{sink}"

[destination.sink.retry]
attempts = 1000
from = "20ms"
to = "200ms"
"#
    )
}

/// The records from `since` on, at most 500, in order.
fn page(seen: &Seen, grown: u64) -> Reply {
    let since: u64 = seen.param("since").and_then(|s| s.parse().ok()).unwrap_or(0);
    let records: Vec<_> = (since.max(1)..=grown)
        .take(500)
        .map(|n| serde_json::json!({ "id": format!("rec_{n}"), "seq": n }))
        .collect();
    Reply::json(serde_json::json!({ "records": records }))
}

/// What arrived, by the thing's id.
#[derive(Default)]
struct Sink {
    taken: Mutex<BTreeMap<String, Copies>>,
}

#[derive(Default)]
struct Copies {
    count: u64,
    keys: BTreeSet<String>,
    events: BTreeSet<String>,
}

impl Sink {
    /// Some are refused, some taken and the answer lost, most taken.
    fn take(&self, seen: &Seen, fate: u64) -> Reply {
        if fate < 8 {
            return Reply::status(503);
        }
        let id = seen.json()["id"].as_str().unwrap().to_owned();
        let header = |name| seen.header(name).unwrap().to_owned();
        let mut taken = self.taken.lock().unwrap();
        let copies = taken.entry(id).or_default();
        copies.count += 1;
        copies.keys.insert(header("idempotency-key"));
        copies.events.insert(header("x-tenon-event"));
        if fate < 12 { Reply::reset() } else { Reply::status(200) }
    }
}

/// Producers that send until they were answered.
#[derive(Default)]
struct Producers {
    stop: AtomicBool,
    /// The thing's id, and the event id it was answered.
    acknowledged: Mutex<BTreeMap<String, String>>,
}

impl Producers {
    fn run(&self, producer: u64, hooks: SocketAddr) {
        let mut connection = None;
        let mut number = 0;
        while !self.stop.load(SeqCst) {
            let id = format!("p{producer}_{number}");
            let body = format!(r#"{{"id":"{id}","total":"12.50"}}"#);
            match send(&mut connection, hooks, &body) {
                Some((202, answer)) => {
                    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
                    let event = answer["id"].as_str().unwrap().to_owned();
                    self.acknowledged.lock().unwrap().insert(id, event);
                    number += 1;
                    std::thread::sleep(Duration::from_millis(1));
                }
                // Down, or going down: the same bytes again.
                Some((503, _)) | None => {
                    connection = None;
                    std::thread::sleep(Duration::from_millis(10));
                }
                Some((404, _)) => std::thread::sleep(Duration::from_millis(10)),
                Some((status, answer)) => panic!("answered {status}: {answer}"),
            }
        }
    }
}

fn send(connection: &mut Option<TcpStream>, to: SocketAddr, body: &str) -> Option<(u16, String)> {
    if connection.is_none() {
        let stream = TcpStream::connect(to).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        stream.set_nodelay(true).ok()?;
        *connection = Some(stream);
    }
    let stream = connection.as_mut()?;
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature =
        data_encoding::HEXLOWER.encode(ring::hmac::sign(&key, body.as_bytes()).as_ref());
    let request = format!(
        "POST /orders HTTP/1.1\r\nhost: {to}\r\ncontent-type: application/json\r\n\
         x-hub-signature-256: sha256={signature}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&answer).to_lowercase();
        if let Some(head) = text.find("\r\n\r\n") {
            let length = text.split("content-length: ").nth(1)?.split("\r\n").next()?;
            let end = head + 4 + length.trim().parse::<usize>().ok()?;
            if answer.len() >= end {
                let status = text.split(' ').nth(1)?.parse().ok()?;
                return Some((
                    status,
                    String::from_utf8_lossy(&answer[head + 4..end]).into_owned(),
                ));
            }
        }
        match stream.read(&mut part).ok()? {
            0 => return None,
            n => answer.extend_from_slice(&part[..n]),
        }
    }
}

/// The real program in a process of its own, killed hard when dropped.
struct Daemon(Child);

impl Daemon {
    fn start(connectors: &Path, state: &Path, hooks: SocketAddr) -> Self {
        let log: PathBuf = state.with_extension("log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_tenon"))
            .arg("run")
            .arg(connectors)
            .args(["--state".as_ref(), state.as_os_str()])
            .args(["--listen", &hooks.to_string(), "--admin", "127.0.0.1:0"])
            .args(["--allow-egress", "127.0.0.0/8"])
            .env("CRASH_HOOK", SECRET)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self(child)
    }

    fn kill(&mut self) {
        assert!(self.0.try_wait().unwrap().is_none(), "the daemon ended by itself");
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An address that was free a moment ago.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Looks every 50 ms until `done` or `at_most` has passed.
fn wait(at_most: Duration, done: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    while began.elapsed() < at_most {
        if done() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    done()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// splitmix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}
