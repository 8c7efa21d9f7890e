//! What the benches share: a producer, a sink and a paged API that cost little themselves, and the
//! real program in a process of its own, whose processor time and memory the kernel tells.
#![allow(dead_code)] // Each bench uses its part.

use std::{
    net::{SocketAddr, TcpListener as StdListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// The secret that [`fire`] signs with; give it to the daemon as `BENCH_HOOK`.
pub const SECRET: &str = "bench-secret";

/// What a load run measured.
#[derive(Debug)]
pub struct Fired {
    pub took: Duration,
    pub per_second: f64,
    pub p50: Duration,
    pub p99: Duration,
}

/// Sends `count` events of about 1 KiB over `connections`, each signed as GitHub signs, each
/// connection waiting for its answer. Event numbers begin at `from`.
pub fn fire(to: SocketAddr, path: &str, from: u64, count: u64, connections: u64) -> Fired {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let next = Arc::new(AtomicU64::new(from));
    let end = from + count;
    let began = Instant::now();
    let mut latencies: Vec<Duration> = runtime.block_on(async {
        let connections =
            (0..connections).map(|_| send_all(to, path.to_owned(), Arc::clone(&next), end));
        futures_util::future::join_all(connections).await.into_iter().flatten().collect()
    });
    let took = began.elapsed();
    latencies.sort_unstable();
    let at = |q: f64| latencies[((latencies.len() - 1) as f64 * q) as usize];
    let per_second = count as f64 / took.as_secs_f64();
    Fired { took, per_second, p50: at(0.50), p99: at(0.99) }
}

async fn send_all(to: SocketAddr, path: String, next: Arc<AtomicU64>, end: u64) -> Vec<Duration> {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut latencies = Vec::new();
    let mut answer = vec![0; 16 << 10];
    loop {
        let number = next.fetch_add(1, Relaxed);
        if number >= end {
            return latencies;
        }
        let body = event(number);
        let signature = data_encoding::HEXLOWER.encode(ring::hmac::sign(&key, &body).as_ref());
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nhost: {to}\r\ncontent-type: application/json\r\n\
             x-hub-signature-256: sha256={signature}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(&body);
        let began = Instant::now();
        stream.write_all(&request).await.unwrap();
        read_message(&mut stream, &mut answer).await.expect("an answer");
        latencies.push(began.elapsed());
        assert!(answer.starts_with(b"HTTP/1.1 20"), "{}", String::from_utf8_lossy(&answer[..64]));
    }
}

/// An order of 1 KiB.
pub fn event(number: u64) -> Vec<u8> {
    let mut body = format!(
        r##"{{"id":"evt_{number}","updated_at":{},"name":"#{number}","created_at":"2026-11-22T10:00:00Z","financial_status":"paid","currency":"EUR","total_price":"129.90","customer":{{"email":"buyer{number}@shop.example","first_name":"Ada","last_name":"Lovelace"}},"line_items":[{{"sku":"SKU-1","quantity":2,"price":"49.95"}},{{"sku":"SKU-2","quantity":1,"price":"30.00"}}],"shipping":{{"street":"1 Main Street","city":"Berlin","zip":"10115","country":"DE"}},"note":""##,
        1_700_000_000 + number
    )
    .into_bytes();
    body.resize(1022, b'x');
    body.extend_from_slice(b"\"}");
    body
}

/// Reads one HTTP/1.1 message with a `Content-Length` into `buffer`; its length, `None` at the end.
pub async fn read_message(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<usize> {
    let mut filled = 0;
    loop {
        if filled == buffer.len() {
            buffer.resize(filled * 2, 0);
        }
        match stream.read(&mut buffer[filled..]).await.ok()? {
            0 => return None,
            n => filled += n,
        }
        let Some(head) = find(&buffer[..filled], b"\r\n\r\n") else { continue };
        if filled >= head + 4 + content_length(&buffer[..head]) {
            return Some(filled);
        }
    }
}

fn content_length(head: &[u8]) -> usize {
    let text = std::str::from_utf8(head).unwrap().to_ascii_lowercase();
    let value = text.split("content-length:").nth(1).map(|v| v.split('\r').next().unwrap().trim());
    value.map_or(0, |v| v.parse().unwrap())
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

/// A server on a thread of its own that answers every request with what `answer` makes of its first
/// line.
pub struct Server {
    pub address: SocketAddr,
    pub requests: Arc<AtomicU64>,
}

impl Server {
    pub fn start(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&requests);
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(accept(listener, counter, Arc::new(answer)));
        });
        Self { address, requests }
    }

    /// Takes everything.
    pub fn sink() -> Self {
        Self::start(|_| response(b""))
    }

    /// Waits until `count` requests came.
    pub fn wait_for(&self, count: u64) {
        while self.requests.load(Relaxed) < count {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

type Answer = Arc<dyn Fn(&str) -> Vec<u8> + Send + Sync>;

async fn accept(listener: StdListener, counter: Arc<AtomicU64>, answer: Answer) {
    let listener = TcpListener::from_std(listener).unwrap();
    let local = tokio::task::LocalSet::new();
    let serve = async {
        loop {
            let Ok((stream, _)) = listener.accept().await else { return };
            tokio::task::spawn_local(converse(stream, Arc::clone(&counter), Arc::clone(&answer)));
        }
    };
    local.run_until(serve).await;
}

async fn converse(mut stream: TcpStream, counter: Arc<AtomicU64>, answer: Answer) {
    stream.set_nodelay(true).unwrap();
    let mut request = vec![0; 16 << 10];
    while read_message(&mut stream, &mut request).await.is_some() {
        let line = request.split(|b| *b == b'\r').next().unwrap_or(&[]);
        let line = String::from_utf8_lossy(line).into_owned();
        counter.fetch_add(1, Relaxed);
        if stream.write_all(&answer(&line)).await.is_err() {
            return;
        }
    }
}

/// A 200 with a JSON body.
pub fn response(body: &[u8]) -> Vec<u8> {
    let mut all = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    all.extend_from_slice(body);
    all
}

/// Processor time of a process so far.
pub fn cpu_of(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // Fields 14 and 15 of proc(5), in ticks of 10 ms.
    let ticks = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// The real program, killed when dropped.
pub struct Daemon {
    child: Child,
    pub hooks: SocketAddr,
    pub admin: SocketAddr,
    /// From start to ready.
    pub started_in: Duration,
}

impl Daemon {
    /// Starts `tenon run` on a folder and waits until it is ready.
    pub fn start(connectors: &Path, state: &Path, flags: &[&str]) -> Self {
        let (hooks, admin) = (free_address(), free_address());
        let log = std::fs::File::create(state.with_extension("log")).unwrap();
        let began = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_tenon"))
            .arg("run")
            .arg(connectors)
            .args(["--state".as_ref(), state.as_os_str()])
            .args(["--listen", &hooks.to_string(), "--admin", &admin.to_string()])
            .args(["--allow-egress", "127.0.0.0/8"])
            .args(flags)
            .env("BENCH_HOOK", SECRET)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut daemon = Self { child, hooks, admin, started_in: Duration::ZERO };
        while get(admin, "GET", "/readyz").is_none_or(|(status, _)| status != 200) {
            assert!(daemon.child.try_wait().unwrap().is_none(), "the daemon ended; see its log");
            assert!(began.elapsed() < Duration::from_mins(5), "not ready after five minutes");
            std::thread::sleep(Duration::from_millis(5));
        }
        daemon.started_in = began.elapsed();
        daemon
    }

    /// Processor time so far.
    pub fn cpu(&self) -> Duration {
        cpu_of(self.child.id())
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// One request to the admin API: status and body.
    pub fn admin(&self, method: &str, path: &str) -> (u16, String) {
        get(self.admin, method, path).expect("an answer from the admin API")
    }

    /// Ends it as an operator would and waits.
    pub fn stop(mut self) {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One HTTP exchange on a connection of its own.
pub fn get(to: SocketAddr, method: &str, path: &str) -> Option<(u16, String)> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(to).ok()?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1)?.parse().ok()?;
    let body = text.split_once("\r\n\r\n")?.1.to_owned();
    Some((status, body))
}

fn free_address() -> SocketAddr {
    StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The eight-field connector that the benches run: webhook in, one HTTP request an event out.
pub fn orders_connector(sink: SocketAddr) -> String {
    format!(
        r#"
name = "bench"
version = "1.0.0"
owner = "bench"

[stream.orders]
key = "$.id"
revision = "$.updated_at | integer"

[stream.orders.webhook]
path = "/orders"
verify = "github"
secret = "{{{{ secret.BENCH_HOOK }}}}"

{MAP}

[destination.sink]
type = "http"
url = "http://{sink}/in"
concurrency = 64
"#
    )
}

/// Eight fields: templates, conversions, a lookup, an array.
pub const MAP: &str = r#"
[stream.orders.map]
id = "shop:{{ record.id }}"
number = "$.name"
placed_at = "$.created_at | timestamp"
status = "$.financial_status | lookup('status')"
currency = "$.currency"
total = "$.total_price | decimal"
customer.email = "$.customer.email | optional"
lines = "$.line_items[*] | apply('line')"

[map.line]
sku = "$.sku"
quantity = "$.quantity"
price = "$.price | decimal"

[lookup.status]
paid = "settled"
pending = "open"
"#;

/// A folder with one connector in it, and where its state goes.
pub fn project(connector: &str) -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let connectors = folder.path().join("connectors");
    std::fs::create_dir(&connectors).unwrap();
    std::fs::write(connectors.join("bench.toml"), connector).unwrap();
    let state = folder.path().join("state");
    (folder, connectors, state)
}
