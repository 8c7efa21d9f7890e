//! Bad days against real sockets, with `kill -9` in the middle of each: an outage, a tenant that sends a
//! hundred times its budget, and a storm of ten times what can be delivered. Each prints what the
//! promises of `docs/operations.md` come to, as ratios where two figures of one run can be compared, and
//! ends with a panic where something acknowledged is lost.
//!
//! `TENON_STORM_SECONDS` (default 10) is how long each part's storm lasts; names (`-- tenants`) pick parts.

mod support;

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use support::{Daemon, Server, get, project, read_message, response};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

fn main() {
    let seconds = std::env::var("TENON_STORM_SECONDS").ok().and_then(|text| text.parse().ok());
    let storm = Duration::from_secs(seconds.unwrap_or(10));
    let named: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let runs = |name: &str| named.is_empty() || named.iter().any(|it| it == name);
    if runs("outage") {
        outage(storm);
    }
    if runs("tenants") {
        tenants(storm);
    }
    if runs("flood") {
        flood(storm);
    }
}

/// What arrived, told by the URL: `/in/TENANT/KEY/NUMBER/SENT_US`.
#[derive(Default)]
struct Arrivals {
    numbers: HashSet<u64>,
    repeated: u64,
    /// By key: the last number; and how often one came after a later one, for the first time.
    last: HashMap<String, u64>,
    out_of_order: u64,
    /// By tenant: from sending to arrival, in microseconds.
    waits_us: HashMap<String, Vec<u64>>,
}

impl Arrivals {
    fn note(&mut self, line: &str, now_us: u64) {
        let mut parts = line.split(['/', ' ']).skip_while(|part| *part != "in").skip(1);
        let mut next = || parts.next().unwrap_or_default().to_owned();
        let (tenant, key) = (next(), next());
        let (number, sent_us): (u64, u64) = (next().parse().unwrap(), next().parse().unwrap());
        if !self.numbers.insert(number) {
            self.repeated += 1;
            return;
        }
        let last = self.last.entry(key).or_insert(number);
        self.out_of_order += u64::from(*last > number);
        *last = number.max(*last);
        self.waits_us.entry(tenant).or_default().push(now_us.saturating_sub(sent_us));
    }
}

/// A destination that can be down, and what came to it.
struct Sink {
    server: Server,
    down: Arc<AtomicBool>,
    arrivals: Arc<Mutex<Arrivals>>,
    refused: Arc<AtomicU64>,
}

impl Sink {
    fn start(began: Instant) -> Self {
        let (down, arrivals) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::default()));
        let refused = Arc::new(AtomicU64::new(0));
        let (is_down, noted, counted) =
            (Arc::clone(&down), Arc::clone(&arrivals), Arc::clone(&refused));
        let server = Server::start(move |line| {
            if is_down.load(Relaxed) {
                counted.fetch_add(1, Relaxed);
                return b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".to_vec();
            }
            let arrivals: &Mutex<Arrivals> = &noted;
            arrivals.lock().unwrap().note(line, began.elapsed().as_micros() as u64);
            response(b"")
        });
        Self { server, down, arrivals, refused }
    }

    fn arrived(&self) -> usize {
        self.arrivals.lock().unwrap().numbers.len()
    }

    /// Waits until all of `acked` arrived; those that did not are lost.
    fn all(&self, acked: &HashSet<u64>, within: Duration) -> Duration {
        let began = Instant::now();
        while !acked.is_subset(&self.arrivals.lock().unwrap().numbers) {
            let lost = acked.difference(&self.arrivals.lock().unwrap().numbers).count();
            assert!(began.elapsed() < within, "{lost} acknowledged events did not arrive");
            std::thread::sleep(Duration::from_millis(20));
        }
        began.elapsed()
    }
}

/// What a producer was answered.
#[derive(Default)]
struct Answers {
    acked: HashSet<u64>,
    by_status: HashMap<u16, u64>,
    ack_us: Vec<u64>,
}

impl Answers {
    fn merge(&mut self, other: Self) {
        self.acked.extend(other.acked);
        other.by_status.into_iter().for_each(|(s, n)| *self.by_status.entry(s).or_default() += n);
        self.ack_us.extend(other.ack_us);
    }
}

fn quantile(values: &mut [u64], q: f64) -> Duration {
    values.sort_unstable();
    let at = ((values.len().max(1) - 1) as f64 * q) as usize;
    Duration::from_micros(values.get(at).copied().unwrap_or_default())
}

/// What is sent: for which tenant, how fast (`None`: as fast as the answers come), by how many.
#[derive(Clone)]
struct Load {
    tenant: &'static str,
    rate: Option<u64>,
    connections: u64,
    keys: u64,
    /// The number of the first event.
    from: u64,
}

/// Sends until `stop`. A connection that breaks (the daemon was killed) ends that sender; what it was
/// not answered was not acknowledged.
fn send(
    to: SocketAddr,
    load: Load,
    began: Instant,
    stop: Arc<AtomicBool>,
) -> std::thread::JoinHandle<Answers> {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let next = AtomicU64::new(load.from);
        let senders = (0..load.connections).map(|_| sender(to, &load, began, &stop, &next));
        let all = runtime.block_on(futures_util::future::join_all(senders));
        all.into_iter().fold(Answers::default(), |mut sum, one| {
            sum.merge(one);
            sum
        })
    })
}

async fn sender(
    to: SocketAddr,
    load: &Load,
    began: Instant,
    stop: &AtomicBool,
    next: &AtomicU64,
) -> Answers {
    let mut answers = Answers::default();
    let Ok(mut stream) = TcpStream::connect(to).await else { return answers };
    stream.set_nodelay(true).unwrap();
    let start = Instant::now();
    let mut buffer = vec![0; 16 << 10];
    while !stop.load(Relaxed) {
        let number = next.fetch_add(1, Relaxed);
        if let Some(rate) = load.rate {
            let due = start + Duration::from_secs_f64((number - load.from) as f64 / rate as f64);
            tokio::time::sleep_until(due.into()).await;
        }
        let sent_us = began.elapsed().as_micros();
        let (tenant, key) = (load.tenant, format!("{}-{}", load.tenant, number % load.keys));
        let filling = "x".repeat(800);
        let body = format!(
            r#"{{"tenant":"{tenant}","key":"{key}","n":{number},"sent":{sent_us},"note":"{filling}"}}"#
        );
        let request = format!(
            "POST /storm HTTP/1.1\r\nhost: {to}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let asked = Instant::now();
        if stream.write_all(request.as_bytes()).await.is_err()
            || read_message(&mut stream, &mut buffer).await.is_none()
        {
            return answers;
        }
        let status = std::str::from_utf8(&buffer[9..12]).unwrap().parse().unwrap();
        *answers.by_status.entry(status).or_default() += 1;
        if status == 202 {
            answers.ack_us.push(asked.elapsed().as_micros() as u64);
            answers.acked.insert(number);
        } else {
            // A producer that is told to wait does; a storm is one that waits little.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    answers
}

fn connector(sink: SocketAddr, keys: &str) -> String {
    format!(
        r#"
name = "storm"
version = "1.0.0"
owner = "bench"

[stream.orders]
key = "$.key"
revision = "$.n | string"
tenant = "$.tenant"

[stream.orders.webhook]
path = "/storm"
verify = "none"

[destination.sink]
type = "http"
method = "PUT"
url = "http://{sink}/in/{{{{ out.tenant }}}}/{{{{ out.key }}}}/{{{{ out.n }}}}/{{{{ out.sent }}}}"
concurrency = 64
{keys}
"#
    )
}

/// Starts the daemon with settings of its own.
fn daemon(connectors: &Path, state: &Path, settings: &str) -> Daemon {
    let config = connectors.with_file_name("tenon.toml");
    std::fs::write(&config, settings).unwrap();
    Daemon::start(
        connectors,
        state,
        &["--log-level", "error", "--config", config.to_str().unwrap()],
    )
}

/// The destination is down while 500 events a second come in; the daemon is killed in the middle.
fn outage(storm: Duration) {
    const RATE: u64 = 500;
    let began = Instant::now();
    let sink = Sink::start(began);
    let open = (storm.as_secs() / 10).clamp(1, 30);
    let drain = RATE * 4;
    let keys = format!(
        "order = \"key\"\nrate = \"{drain}/s\"\n[destination.sink.breaker]\nopen = \"{open}s\""
    );
    let (_folder, connectors, state) = project(&connector(sink.server.address, &keys));
    let mut running = daemon(&connectors, &state, "");
    sink.down.store(true, Relaxed);
    let mut answers = Answers::default();
    for part in 0..2u64 {
        let stop = Arc::new(AtomicBool::new(false));
        let load = Load {
            tenant: "t",
            rate: Some(RATE),
            connections: 16,
            keys: 500,
            from: part * 100_000_000,
        };
        let sending = send(running.hooks, load, began, Arc::clone(&stop));
        std::thread::sleep(storm / 2);
        if part == 0 {
            drop(running);
            running = daemon(&connectors, &state, "");
        }
        stop.store(true, Relaxed);
        answers.merge(sending.join().unwrap());
    }
    let (refused, events) = (sink.refused.load(Relaxed), answers.acked.len() as u64);
    sink.down.store(false, Relaxed);
    let took = sink.all(&answers.acked, storm * 4 + Duration::from_mins(1));
    let ideal = events as f64 / drain as f64;
    let arrivals = sink.arrivals.lock().unwrap();
    println!(
        "outage of {storm:?} at {RATE}/s, killed once: {events} events, {refused} requests while it was down \
         = {:.2} % of them (aim 5 %), drained in {took:.1?} = {:.2} x ideal (aim 2), {} out of order, {} repeated",
        refused as f64 * 100.0 / events as f64,
        took.as_secs_f64() / ideal,
        arrivals.out_of_order,
        arrivals.repeated
    );
}

/// One tenant sends a hundred times its budget; another sends as before.
fn tenants(storm: Duration) {
    let began = Instant::now();
    let sink = Sink::start(began);
    let (_folder, connectors, state) = project(&connector(sink.server.address, ""));
    let settings = "[tenant.noisy]\naccept = \"100/s\"\n";
    let mut running = daemon(&connectors, &state, settings);
    let calm = |from| Load { tenant: "calm", rate: Some(100), connections: 4, keys: 1_000, from };
    let noisy = Load {
        tenant: "noisy",
        rate: Some(10_000),
        connections: 256,
        keys: 1_000,
        from: 500_000_000,
    };
    let measured = |loads: Vec<Load>, hooks| {
        let stop = Arc::new(AtomicBool::new(false));
        let sending: Vec<_> =
            loads.into_iter().map(|load| send(hooks, load, began, Arc::clone(&stop))).collect();
        std::thread::sleep(storm);
        stop.store(true, Relaxed);
        let answers: Vec<Answers> = sending.into_iter().map(|it| it.join().unwrap()).collect();
        for answer in &answers {
            sink.all(&answer.acked, Duration::from_mins(1));
        }
        let mut waits = sink.arrivals.lock().unwrap().waits_us.remove("calm").unwrap_or_default();
        (answers, quantile(&mut waits, 0.99), quantile(&mut waits, 0.5))
    };
    // What a new daemon needs once is no part of what either is compared by.
    measured(vec![calm(0)], running.hooks);
    let (_, quiet, quiet_p50) = measured(vec![calm(100_000_000)], running.hooks);
    let (answers, loud, loud_p50) = measured(vec![calm(200_000_000), noisy.clone()], running.hooks);
    println!(
        "a tenant at 100 x its budget: the other's delivery p99 {loud:.1?}, quiet {quiet:.1?} = {:.2} x (aim 1.5), \
         p50 {loud_p50:.1?} and {quiet_p50:.1?}; the noisy one got {:?}",
        loud.as_secs_f64() / quiet.as_secs_f64(),
        answers[1].by_status
    );
    let stop = Arc::new(AtomicBool::new(false));
    let load = Load { from: 800_000_000, ..noisy };
    let sending = send(running.hooks, load, began, Arc::clone(&stop));
    std::thread::sleep(Duration::from_secs(1));
    drop(running);
    running = daemon(&connectors, &state, settings);
    stop.store(true, Relaxed);
    let acked = sending.join().unwrap().acked;
    sink.all(&acked, Duration::from_mins(1));
    println!("killed in the middle of it: all {} acknowledged events arrived", acked.len());
    drop(running);
}

/// Ten times what the destination takes comes in, until the disk budget is spent.
fn flood(storm: Duration) {
    const CAPACITY: u64 = 2_000;
    const BOUND_MIB: u64 = 512;
    let began = Instant::now();
    let sink = Sink::start(began);
    let keys = format!("rate = \"{CAPACITY}/s\"");
    let (_folder, connectors, state) = project(&connector(sink.server.address, &keys));
    let settings = "[bus]\nmax_disk = \"128MiB\"\nsegment = \"16MiB\"\n";
    let mut running = daemon(&connectors, &state, settings);
    let (mut answers, mut most_kib) = (Answers::default(), 0);
    for part in 0..2u64 {
        let stop = Arc::new(AtomicBool::new(false));
        let load = Load {
            tenant: "t",
            rate: Some(CAPACITY * 10),
            connections: 256,
            keys: 1_000_000,
            from: part * 100_000_000,
        };
        let sending = send(running.hooks, load, began, Arc::clone(&stop));
        let until = Instant::now() + storm / 2;
        while Instant::now() < until {
            most_kib = most_kib.max(running.resident_kib());
            std::thread::sleep(Duration::from_millis(100));
        }
        if part == 0 {
            drop(running);
            running = daemon(&connectors, &state, settings);
        }
        stop.store(true, Relaxed);
        answers.merge(sending.join().unwrap());
    }
    let p99 = quantile(&mut answers.ack_us, 0.99);
    let ready = get(running.admin, "GET", "/readyz").map(|(status, _)| status);
    let left = answers.acked.len().saturating_sub(sink.arrived()) as u64 / CAPACITY;
    let took = sink.all(&answers.acked, Duration::from_secs(left * 3 + 60));
    most_kib = most_kib.max(running.resident_kib());
    println!(
        "flood of 10 x capacity for {storm:?}, killed once: answers {:?}, ack p99 {p99:.1?} (aim 250 ms), \
         at most {} MiB resident (bound {BOUND_MIB}), /readyz {ready:?}, drained in {took:.1?}, \
         all {} acknowledged events arrived, {} repeated",
        answers.by_status,
        most_kib / 1024,
        answers.acked.len(),
        sink.arrivals.lock().unwrap().repeated
    );
}
