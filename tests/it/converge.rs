//! Notify and reconcile: whatever webhooks lose, repeat, hold back or date wrongly, the destination ends
//! in exactly the state of the source. Time is virtual, chance is seeded, and the daemon is killed in
//! the middle.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::Full;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tenon::{
    bus::{Bus, EmbeddedBus, EmbeddedOptions, MemoryBus},
    diagnostic::{SourceFile, render_human},
    egress::{Answer, Egress, EgressError, ExchangeLimits, Peer, Script},
    engine::{Solo, SoloParts},
    ingest::webhook::WebhookObserver,
    plan::{BusSettings, ConnectorPlan, Settings, Sources, compile_file},
    world::{
        BoxFuture, Clock, Entropy as _, ScriptedClock, ScriptedEntropy, StaticSecrets, SystemDisk,
        Timestamp, World,
    },
};

use crate::webhook::rig::hmac_hex;

/// 2026-11-22T10:00:00Z.
const START: Timestamp = Timestamp(1_795_341_600_000);
const MINUTE: Duration = Duration::from_mins(1);
/// So many things, which are made and changed so many times.
const THINGS: u64 = 12;
const CHANGES: u64 = 60;
const PAGE: usize = 5;
/// How long the list takes to show every seventh change: the poll passes it over.
const INDEX_LAG: Duration = Duration::from_mins(45);

const CONNECTOR: &str = r#"
name    = "shop"
version = "1.0.0"
owner   = "tests"

[source]
base = "https://shop.example"

[schedule]
every = "15m"

[schedule.reconcile]
every  = "24h"
window = "6d"

[verify.shop]
algorithm = "hmac-sha256"
signed    = "{{ timestamp }}.{{ body }}"
signature = { header = "X-Signature" }
timestamp = { header = "X-Time", past = "TOLERANCE", future = "TOLERANCE" }

[stream.orders]
key      = "$.id"
revision = "$.updated_at | timestamp"

[stream.orders.webhook]
path   = "/orders"
verify = "shop"
secret = "{{ secret.HOOK }}"

[stream.orders.poll]
path    = "/orders"
records = "$.orders[*]"
page    = { by = "page", param = "page", size = 5 }

[stream.orders.poll.cursor]
field       = "$.updated_at"
sorted      = "asc"
start       = "2026-11-20"
start_param = "since"

[destination.erp]
type        = "http"
method      = "PUT"
url         = "https://erp.example/orders/{{ out.id }}"
order       = "key"
concurrency = 4

[destination.erp.retry]
attempts = 30
from     = "1s"
to       = "1m"
within   = "12h"
"#;

struct One(Arc<SourceFile>);

impl Sources for One {
    fn read(&self, path: &Path) -> Option<Arc<SourceFile>> {
        (path == self.0.path).then(|| Arc::clone(&self.0))
    }
}

fn plan(tolerance: &str) -> ConnectorPlan {
    let path = Path::new("shop.toml");
    let text = CONNECTOR.replace("TOLERANCE", tolerance);
    let file = Arc::new(SourceFile { path: path.to_owned(), text });
    let compiled = compile_file(Path::new(""), path, &One(file));
    let said = render_human(&compiled.diagnostics, false);
    Arc::unwrap_or_clone(compiled.plan.unwrap_or_else(|| panic!("{said}")))
}

/// A thing as the source has it, and since when its list shows it.
struct Thing {
    record: Value,
    updated_at: Timestamp,
    listed_from: Timestamp,
}

/// The source, the destination, and what lies between them and the daemon.
struct Peers {
    clock: Arc<dyn Clock>,
    /// The source's clock less ours.
    skew_ms: i64,
    chance: ScriptedEntropy,
    source: Mutex<BTreeMap<String, Thing>>,
    destination: Mutex<BTreeMap<String, Value>>,
}

impl Peers {
    /// By the source's clock.
    fn theirs(&self) -> Timestamp {
        Timestamp(self.clock.now().0 + self.skew_ms)
    }

    fn dice(&self, sides: u64) -> u64 {
        self.chance.next_u64() % sides
    }

    /// Makes or changes a thing; what a webhook would say of it.
    fn change(&self, number: u64) -> Value {
        let id = format!("o{}", self.dice(THINGS));
        let now = self.theirs();
        // No two states of anything have one time.
        let updated_at = Timestamp(now.0 + i64::try_from(number % 1000).unwrap());
        let record = json!({ "id": id, "updated_at": updated_at.rfc3339(), "number": number });
        let lag = if number.is_multiple_of(7) { INDEX_LAG } else { Duration::ZERO };
        let listed_from = updated_at.plus(lag);
        let thing = Thing { record: record.clone(), updated_at, listed_from };
        self.source.lock().insert(id, thing);
        record
    }

    /// The list of what changed since, the oldest first.
    fn list(&self, query: &str) -> Value {
        let param = |name: &str| {
            let pairs = url::form_urlencoded::parse(query.as_bytes());
            pairs.into_iter().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
        };
        let since = Timestamp::parse_rfc3339(&param("since").expect("a cursor is sent")).unwrap();
        let page: usize = param("page").map_or(1, |page| page.parse().unwrap());
        let (source, now) = (self.source.lock(), self.theirs());
        let mut shown: Vec<&Thing> = source
            .values()
            .filter(|thing| thing.updated_at >= since && thing.listed_from <= now)
            .collect();
        shown.sort_by_key(|thing| thing.updated_at);
        let orders: Vec<&Value> =
            shown.iter().skip((page - 1) * PAGE).take(PAGE).map(|thing| &thing.record).collect();
        json!({ "orders": orders })
    }

    /// What the source has, and what the destination was given.
    fn states(&self) -> (BTreeMap<String, Value>, BTreeMap<String, Value>) {
        let source = self.source.lock();
        let source = source.iter().map(|(id, thing)| (id.clone(), thing.record.clone())).collect();
        (source, self.destination.lock().clone())
    }
}

fn answer(status: u16, body: &Value) -> Answer {
    let status = StatusCode::from_u16(status).unwrap();
    Answer { status, headers: HeaderMap::new(), body: body.to_string().into() }
}

impl Script for Peers {
    fn answer(
        &self,
        peer: &Peer,
        request: Request<Bytes>,
        _limits: ExchangeLimits,
    ) -> BoxFuture<'_, Result<Answer, EgressError>> {
        let is_source = matches!(peer, Peer::Source(_));
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(self.dice(400))).await;
            if is_source {
                let query = request.uri().query().unwrap_or_default();
                let is_down = self.dice(8) == 0;
                return Ok(if is_down {
                    answer(503, &json!("later"))
                } else {
                    answer(200, &self.list(query))
                });
            }
            assert_eq!(request.method(), Method::PUT);
            let fate = self.dice(6);
            if fate == 0 {
                return Ok(answer(503, &json!("later")));
            }
            let record: Value = serde_json::from_slice(request.body()).unwrap();
            let id = record["id"].as_str().unwrap().to_owned();
            assert!(request.uri().path().ends_with(&id), "{}", request.uri());
            self.destination.lock().insert(id, record);
            // Taken, and the answer is lost on its way back.
            if fate == 1 {
                Err(EgressError::Broken("reset".to_owned()))
            } else {
                Ok(answer(200, &json!({})))
            }
        })
    }
}

/// Counts how webhooks ended.
#[derive(Default)]
struct Ends {
    taken: AtomicU64,
    refused: AtomicU64,
}

impl WebhookObserver for Ends {
    fn counted(&self, _: &str, _: &str, outcome: &'static str, count: u64) {
        let counter = match outcome {
            "accepted" | "duplicate" => &self.taken,
            _ => &self.refused,
        };
        counter.fetch_add(count, SeqCst);
    }

    fn acknowledged(&self, _: Duration) {}
}

/// Where events are durable, through deaths of the daemon.
enum Store {
    Memory(Arc<MemoryBus>),
    Disk { folder: tempfile::TempDir, bus: Option<Arc<EmbeddedBus>> },
}

impl Store {
    fn open(&mut self, clock: &Arc<dyn Clock>) -> Arc<dyn Bus> {
        match self {
            Self::Memory(bus) => Arc::clone(bus) as _,
            Self::Disk { folder, bus } => {
                // The one before goes without a word: nothing is flushed, nothing is written.
                drop(bus.take());
                let opened = EmbeddedBus::open(EmbeddedOptions {
                    folder: folder.path().join("state"),
                    settings: BusSettings { segment_bytes: 1 << 20, ..Settings::default().bus },
                    clock: Arc::clone(clock),
                    disk: Arc::new(SystemDisk),
                })
                .expect("the folder opens");
                *bus = Some(Arc::clone(&opened));
                opened
            }
        }
    }
}

/// A daemon with what it runs on.
struct Run {
    plan: ConnectorPlan,
    world: World,
    peers: Arc<Peers>,
    ends: Arc<Ends>,
    store: Store,
    bus: Option<Arc<dyn Bus>>,
    solo: Option<Solo>,
    /// Webhooks on their way, by when they come.
    underway: Vec<(Timestamp, Timestamp, Value)>,
}

impl Run {
    fn new(seed: u64, skew: i64, tolerance: &str, on_disk: bool) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(ScriptedClock::starting_at(START));
        let peers = Arc::new(Peers {
            clock: Arc::clone(&clock),
            skew_ms: skew * 60_000,
            chance: ScriptedEntropy::seeded(seed),
            source: Mutex::default(),
            destination: Mutex::default(),
        });
        let world = World {
            clock: Arc::clone(&clock),
            entropy: Arc::new(ScriptedEntropy::seeded(!seed)),
            secrets: Arc::new(StaticSecrets::new([("HOOK", "s3cret")])),
        };
        let store = if on_disk {
            Store::Disk { folder: tempfile::tempdir().unwrap(), bus: None }
        } else {
            Store::Memory(MemoryBus::new(clock))
        };
        let (ends, underway) = (Arc::default(), Vec::new());
        let plan = plan(tolerance);
        Self { plan, world, peers, ends, store, bus: None, solo: None, underway }
    }

    /// Kills the daemon, if there is one, and starts it on what it has left behind.
    async fn start(&mut self) {
        if let Some(solo) = self.solo.take() {
            solo.kill().await;
        }
        self.bus = None;
        let bus = self.store.open(&self.world.clock);
        let parts = SoloParts {
            world: self.world.clone(),
            bus: Arc::clone(&bus),
            egress: Egress::scripted(Arc::clone(&self.peers) as _),
            observer: Arc::clone(&self.ends) as _,
        };
        self.bus = Some(bus);
        self.solo = Some(Solo::start(&self.plan, parts).expect("it starts"));
    }

    fn solo(&self) -> &Solo {
        self.solo.as_ref().expect("it runs")
    }

    fn bus(&self) -> &Arc<dyn Bus> {
        self.bus.as_ref().expect("it runs")
    }

    /// A change of the source, and what becomes of its webhook: every second is lost, every third
    /// comes twice, a fifth comes after later ones.
    fn change(&mut self, number: u64) {
        let record = self.peers.change(number);
        if number.is_multiple_of(2) {
            return;
        }
        let (now, signed_at) = (self.world.clock.now(), self.peers.theirs());
        let late = if number.is_multiple_of(5) {
            MINUTE * (20 + self.peers.dice(60) as u32)
        } else {
            MINUTE / 60
        };
        self.underway.push((now.plus(late), signed_at, record.clone()));
        if number.is_multiple_of(3) {
            let again = now.plus(late + MINUTE * self.peers.dice(30) as u32);
            self.underway.push((again, signed_at, record));
        }
    }

    /// Posts the webhooks that are due. A producer that gets no 2xx gives up.
    async fn post_due(&mut self) {
        let now = self.world.clock.now();
        let (due, later) = self.underway.drain(..).partition(|(at, _, _)| *at <= now);
        self.underway = later;
        let mut due: Vec<(Timestamp, Timestamp, Value)> = due;
        due.sort_by_key(|(at, _, _)| *at);
        for (at, signed_at, record) in due {
            // Signed when it is sent, by the clock of the source.
            let sent_at = signed_at.plus(at.since(Timestamp(signed_at.0 - self.peers.skew_ms)));
            let (time, body) = ((sent_at.0 / 1000).to_string(), record.to_string());
            let signature = hmac_hex("s3cret", format!("{time}.{body}").as_bytes());
            let request = Request::post("/orders")
                .header("content-type", "application/json")
                .header("x-time", time)
                .header("x-signature", signature)
                .body(Full::new(Bytes::from(body)))
                .unwrap();
            self.solo().webhook(request).await;
        }
    }

    /// Lets so much time pass, with a poll whenever one is due.
    async fn pass(&mut self, time: Duration, next_poll: &mut Timestamp) {
        let until = self.world.clock.now().plus(time);
        while self.world.clock.now() < until {
            tokio::time::sleep(MINUTE / 2).await;
            self.post_due().await;
            if self.world.clock.now() >= *next_poll {
                *next_poll = self.world.clock.now().plus(MINUTE * 15);
                // One that fails goes on at its cursor the next time.
                let _ = self.solo().poll("orders").await.expect("it polls");
            }
        }
    }

    /// Runs until one ends well.
    async fn reconciled(&self) -> u64 {
        for _ in 0..100 {
            if let Some(Ok(report)) = self.solo().reconcile("orders").await {
                return report.accepted;
            }
            tokio::time::sleep(MINUTE).await;
        }
        panic!("no reconciliation ends well");
    }

    async fn settled(&self) {
        for _ in 0..5_000 {
            if self.bus().health().unsettled == 0 {
                return;
            }
            tokio::time::sleep(MINUTE / 4).await;
        }
        panic!("never settled: {:?}", self.bus().backlog());
    }
}

/// The whole story under one seed. What only the reconciliation found, and how many webhooks were taken.
async fn check(seed: u64, skew: i64, tolerance: &str, on_disk: bool) -> (u64, u64) {
    let story =
        format!("seed {seed}, clock {skew} minutes off, tolerance {tolerance}, disk {on_disk}");
    eprintln!("{story}");
    let mut run = Run::new(seed, skew, tolerance, on_disk);
    run.start().await;
    let mut next_poll = START;
    for number in 1..=CHANGES {
        run.change(number);
        let minutes = 1 + run.peers.dice(20) as u32;
        run.pass(MINUTE * minutes, &mut next_poll).await;
        if number == CHANGES / 2 {
            // With a poll in hand, and whatever is on its way to the destination.
            let dying = run.solo().poll("orders");
            let _ = tokio::time::timeout(Duration::from_millis(300), dying).await;
            run.start().await;
        }
    }
    run.pass(MINUTE * 120, &mut next_poll).await;
    assert!(run.underway.is_empty(), "{story}");
    let found = run.reconciled().await;
    run.settled().await;
    let (source, destination) = run.peers.states();
    assert_eq!(destination, source, "{story}");
    assert!(run.bus().dead_letters().is_empty(), "{story}");
    // What is known stays known.
    assert_eq!(run.reconciled().await, 0, "{story}");
    assert!(run.bus().state_under("reconcile/").is_empty(), "{story}");
    (found, run.ends.taken.load(SeqCst))
}

#[tokio::test(start_paused = true)]
async fn lost_doubled_late_and_misdated_webhooks_end_in_the_state_of_the_source() {
    let mut only_by_reconciliation = 0;
    for seed in 1..=4 {
        for skew in [-10, 0, 10] {
            let (found, taken) = check(seed, skew, "15m", false).await;
            only_by_reconciliation += found;
            assert!(taken > CHANGES / 4, "seed {seed}: {taken} webhooks were taken");
        }
    }
    // Else nothing here would need one.
    assert!(only_by_reconciliation > 0);
}

#[tokio::test(start_paused = true)]
async fn where_the_clock_has_every_webhook_refused_the_polls_bring_it_all() {
    for (seed, skew) in [(11, -10), (12, 10)] {
        let (_, taken) = check(seed, skew, "5m", false).await;
        assert_eq!(taken, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_on_the_embedded_bus_that_dies_without_a_word() {
    for (seed, skew) in [(21, -10), (22, 10)] {
        check(seed, skew, "15m", true).await;
    }
}
