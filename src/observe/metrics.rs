//! Counters as plain atomics, and the Prometheus text format (version 0.0.4) that shows them.
//!
//! A pipeline looks its counters up once, when it is built; counting is one atomic addition. The
//! series of a connector go when the connector goes.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::RwLock;

use super::reconcile::{self, Ears, Reconciled};
use crate::{
    bus::{Backlog, BusHealth, Settlement},
    world::{Skew, Timestamp},
};

/// How an event, or a request that did not become one, was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Durable, by webhook or poll.
    Accepted,
    /// Durable, and found by a poll alone.
    FoundByPoll,
    /// Claimed before.
    Duplicate,
    /// No stream's `when` took it, or the cursor's filter dropped it.
    Unmatched,
    /// A key, revision or `when` could not be evaluated.
    Unnamed,
    /// A signature that does not verify.
    BadSignature,
    /// A body that is no JSON, or too deep, or of a media type that is not taken.
    Undecodable,
    /// A body over its limit.
    TooLarge,
    /// Back-pressure: answered 503.
    Refused,
    /// The tenant had spent its budget: answered 429.
    OverBudget,
    /// Settled: the destination took it.
    Delivered,
    /// Settled: a newer revision was there.
    Superseded,
    /// Settled: in the dead letters.
    Dead,
    /// Appended again from history or the dead letters.
    Replayed,
}

impl Outcome {
    const ALL: [Self; 14] = [
        Self::Accepted,
        Self::FoundByPoll,
        Self::Duplicate,
        Self::Unmatched,
        Self::Unnamed,
        Self::BadSignature,
        Self::Undecodable,
        Self::TooLarge,
        Self::Refused,
        Self::OverBudget,
        Self::Delivered,
        Self::Superseded,
        Self::Dead,
        Self::Replayed,
    ];

    /// The label's value.
    pub fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::FoundByPoll => "found_by_poll",
            Self::Duplicate => "duplicate",
            Self::Unmatched => "unmatched",
            Self::Unnamed => "unnamed",
            Self::BadSignature => "bad_signature",
            Self::Undecodable => "undecodable",
            Self::TooLarge => "too_large",
            Self::Refused => "refused",
            Self::OverBudget => "over_budget",
            Self::Delivered => "delivered",
            Self::Superseded => "superseded",
            Self::Dead => "dead",
            Self::Replayed => "replayed",
        }
    }

    /// The outcome that a label's value names.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.word() == word)
    }
}

/// Upper bounds of the latency histograms, in seconds.
const BUCKETS_S: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0];

/// A histogram of durations over fixed buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One a bucket, and the last for what is longer than all.
    buckets: [AtomicU64; BUCKETS_S.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let at = BUCKETS_S.iter().position(|&bound| seconds <= bound).unwrap_or(BUCKETS_S.len());
        self.buckets[at].fetch_add(1, Relaxed);
        self.sum_us.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    fn write(&self, out: &mut String, name: &str, labels: &str) {
        let separator = if labels.is_empty() { "" } else { "," };
        let mut total = 0;
        for (bucket, bound) in self.buckets.iter().zip(BUCKETS_S) {
            total += bucket.load(Relaxed);
            let _ = writeln!(out, "{name}_bucket{{{labels}{separator}le=\"{bound}\"}} {total}");
        }
        total += self.buckets[BUCKETS_S.len()].load(Relaxed);
        let _ = writeln!(out, "{name}_bucket{{{labels}{separator}le=\"+Inf\"}} {total}");
        let sum = self.sum_us.load(Relaxed) as f64 / 1e6;
        let braces = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let _ = writeln!(out, "{name}_sum{braces} {sum}");
        let _ = writeln!(out, "{name}_count{braces} {total}");
    }
}

/// The counters of one stream.
#[derive(Debug, Default)]
pub struct StreamMetrics {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    /// Replayed events that were delivered, superseded, dead.
    replays: [AtomicU64; 3],
    /// Poll runs that ended well.
    pub polls: AtomicU64,
    /// Poll runs that did not.
    pub polls_failed: AtomicU64,
    /// Requests of polls whose records a rule gave up.
    pub polls_skipped: AtomicU64,
    /// What reconciliations did.
    pub reconciled: Reconciled,
    /// What is heard of its webhooks.
    pub ears: Ears,
    /// The clock of whoever signs its webhooks.
    pub webhook_clock: Skew,
    /// The clock of whoever answers its polls.
    pub poll_clock: Arc<Skew>,
}

impl StreamMetrics {
    /// Counts `count` events.
    pub fn count(&self, outcome: Outcome, count: u64) {
        self.outcomes[outcome as usize].fetch_add(count, Relaxed);
    }

    /// Counts how a replay's copy of an event ended.
    pub fn replay_ended(&self, settlement: &Settlement) {
        let at = match settlement {
            Settlement::Delivered { .. } => 0,
            Settlement::Superseded { .. } => 1,
            Settlement::Dead { .. } => 2,
            Settlement::Retry { .. } | Settlement::Defer { .. } => return,
        };
        self.replays[at].fetch_add(1, Relaxed);
    }

    /// How many were counted.
    pub fn total(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize].load(Relaxed)
    }
}

/// What came of a request with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchResult {
    /// All events were taken.
    Delivered,
    /// Each event had its own result, and some were not taken.
    Partial,
    /// To be tried in halves.
    Split,
    /// To be repeated as it is.
    Retry,
    /// The destination asked to wait, or credentials are being renewed.
    Deferred,
    /// The destination was parked.
    Held,
    /// Refused for good, a single event.
    Rejected,
}

impl BatchResult {
    const ALL: [(Self, &str); 7] = [
        (Self::Delivered, "delivered"),
        (Self::Partial, "partial"),
        (Self::Split, "split"),
        (Self::Retry, "retry"),
        (Self::Deferred, "deferred"),
        (Self::Held, "held"),
        (Self::Rejected, "rejected"),
    ];
}

/// The counters of requests with batches.
#[derive(Debug, Default)]
pub struct BatchMetrics {
    requests: [AtomicU64; BatchResult::ALL.len()],
    events: AtomicU64,
}

impl BatchMetrics {
    /// Counts one request.
    pub fn count(&self, events: u64, result: BatchResult) {
        self.requests[result as usize].fetch_add(1, Relaxed);
        self.events.fetch_add(events, Relaxed);
    }
}

/// The counters of one destination.
#[derive(Debug, Default)]
pub struct DestinationMetrics {
    /// Attempts that delivered.
    pub delivered: AtomicU64,
    /// Attempts that will be repeated.
    pub retried: AtomicU64,
    /// Attempts not made for the time being.
    pub deferred: AtomicU64,
    /// Attempts that were refused for good.
    pub rejected: AtomicU64,
    /// Attempts that the destination answered with "I have a newer state", by a rule.
    pub superseded: AtomicU64,
    /// Attempts that parked the destination.
    pub held: AtomicU64,
    /// Requests that carried several events.
    pub batches: BatchMetrics,
    /// 1 while the destination is parked; what a reload replaces may be, too, until it has ended.
    pub parked: AtomicU64,
    /// Breakers that are not closed: one a tenant.
    pub breakers_open: Arc<AtomicU64>,
    /// How often a breaker opened, those included that opened again after a probe.
    pub breaker_trips: AtomicU64,
    /// Attempts that it takes at once, as found out, over all tenants.
    pub concurrency: Arc<AtomicU64>,
    /// Accepted to delivered.
    pub latency: Histogram,
}

/// The counters of one connector.
#[derive(Debug, Default)]
pub struct ConnectorMetrics {
    streams: RwLock<Named<StreamMetrics>>,
    destinations: RwLock<Named<DestinationMetrics>>,
    /// Times its pipeline was started again after a panic.
    pub restarts: AtomicU64,
}

/// By name. A connector has a few: what a tree's node takes would hold a dozen.
type Named<T> = Vec<(Arc<str>, Arc<T>)>;

fn entry<T: Default>(named: &RwLock<Named<T>>, name: &str) -> Arc<T> {
    let find = |named: &Named<T>| named.binary_search_by(|(known, _)| (**known).cmp(name));
    let known = named.read();
    if let Ok(at) = find(&known) {
        return Arc::clone(&known[at].1);
    }
    drop(known);
    let mut named = named.write();
    let at = find(&named).unwrap_or_else(|at| {
        named.reserve_exact(1);
        named.insert(at, (Arc::from(name), Arc::default()));
        at
    });
    Arc::clone(&named[at].1)
}

impl ConnectorMetrics {
    /// The counters of a stream, made where there are none yet.
    pub fn stream(&self, name: &str) -> Arc<StreamMetrics> {
        entry(&self.streams, name)
    }

    /// The counters of a destination, made where there are none yet.
    pub fn destination(&self, name: &str) -> Arc<DestinationMetrics> {
        entry(&self.destinations, name)
    }
}

/// All counters of the process.
#[derive(Debug, Default)]
pub struct Metrics {
    connectors: RwLock<BTreeMap<Arc<str>, Arc<ConnectorMetrics>>>,
    /// Requests to paths that no connector has.
    pub not_found: AtomicU64,
    /// About what the events take that are being delivered.
    pub in_hand_bytes: Arc<AtomicU64>,
    /// First byte of a webhook to its answer.
    pub acknowledge: Histogram,
    /// Reloads that found nothing wrong.
    pub reloads: AtomicU64,
    /// Reloads in which a file did not compile or a connector did not start.
    pub reloads_failed: AtomicU64,
    /// How long the last one took, in milliseconds.
    pub reload_ms: AtomicU64,
}

/// A label's value with what the text format gives a meaning escaped.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

pub(super) fn header(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

impl Metrics {
    /// The counters of a connector, made where there are none yet.
    pub fn connector(&self, name: &str) -> Arc<ConnectorMetrics> {
        if let Some(known) = self.connectors.read().get(name) {
            return Arc::clone(known);
        }
        Arc::clone(self.connectors.write().entry(Arc::from(name)).or_default())
    }

    /// Drops the series of a connector that is gone.
    pub fn remove(&self, connector: &str) {
        self.connectors.write().remove(connector);
    }

    /// Prometheus text format 0.0.4, with what the bus knows at `now`.
    pub fn render(&self, bus: &BusHealth, backlog: &[Backlog], now: Timestamp) -> String {
        let mut out = String::with_capacity(8 << 10);
        let connectors: Vec<_> = self
            .connectors
            .read()
            .iter()
            .map(|(name, metrics)| (escaped(name), Arc::clone(metrics)))
            .collect();
        write_streams(&mut out, &connectors);
        reconcile::write(&mut out, &|show| each_stream(&connectors, show));
        write_destinations(&mut out, &connectors);
        write_backlog(&mut out, backlog, now);
        write_bus(&mut out, bus);
        let name = "tenon_in_hand_bytes";
        header(&mut out, name, "gauge", "About what the events take that are being delivered.");
        let _ = writeln!(out, "{name} {}", self.in_hand_bytes.load(Relaxed));
        header(
            &mut out,
            "tenon_acknowledge_seconds",
            "histogram",
            "First byte of a webhook to its answer.",
        );
        self.acknowledge.write(&mut out, "tenon_acknowledge_seconds", "");
        header(
            &mut out,
            "tenon_requests_not_found_total",
            "counter",
            "Requests to paths that no connector has.",
        );
        let _ = writeln!(out, "tenon_requests_not_found_total {}", self.not_found.load(Relaxed));
        header(&mut out, "tenon_reloads_total", "counter", "Reloads by result.");
        let _ =
            writeln!(out, "tenon_reloads_total{{result=\"ok\"}} {}", self.reloads.load(Relaxed));
        let _ = writeln!(
            out,
            "tenon_reloads_total{{result=\"failed\"}} {}",
            self.reloads_failed.load(Relaxed)
        );
        let name = "tenon_reload_seconds";
        header(&mut out, name, "gauge", "How long the last reload took.");
        let _ = writeln!(out, "{name} {}", self.reload_ms.load(Relaxed) as f64 / 1e3);
        out
    }
}

type Connectors = [(String, Arc<ConnectorMetrics>)];

fn write_streams(out: &mut String, connectors: &Connectors) {
    let name = "tenon_events_total";
    header(out, name, "counter", "Events by outcome.");
    each_stream(connectors, |labels, stream| {
        for outcome in Outcome::ALL {
            let count = stream.total(outcome);
            if count > 0 && outcome != Outcome::FoundByPoll {
                let _ = writeln!(out, "{name}{{{labels},outcome=\"{}\"}} {count}", outcome.word());
            }
        }
    });
    let name = "tenon_events_found_by_poll_total";
    header(out, name, "counter", "Events of a stream with a webhook that only its poll found.");
    each_stream(connectors, |labels, stream| {
        let count = stream.total(Outcome::FoundByPoll);
        if count > 0 {
            let _ = writeln!(out, "{name}{{{labels}}} {count}");
        }
    });
    let name = "tenon_replay_events_total";
    header(out, name, "counter", "Replayed events by how they ended.");
    each_stream(connectors, |labels, stream| {
        for (outcome, count) in ["delivered", "superseded", "dead"].iter().zip(&stream.replays) {
            let count = count.load(Relaxed);
            if count > 0 {
                let _ = writeln!(out, "{name}{{{labels},outcome=\"{outcome}\"}} {count}");
            }
        }
    });
    let name = "tenon_polls_total";
    header(out, name, "counter", "Poll runs by result.");
    each_stream(connectors, |labels, stream| {
        for (result, count) in [("ok", &stream.polls), ("failed", &stream.polls_failed)] {
            let count = count.load(Relaxed);
            if count > 0 {
                let _ = writeln!(out, "{name}{{{labels},result=\"{result}\"}} {count}");
            }
        }
    });
    let name = "tenon_poll_requests_skipped_total";
    header(out, name, "counter", "Requests of polls whose records a rule of `on` gave up.");
    each_stream(connectors, |labels, stream| {
        let count = stream.polls_skipped.load(Relaxed);
        if count > 0 {
            let _ = writeln!(out, "{name}{{{labels}}} {count}");
        }
    });
    let name = "tenon_connector_restarts_total";
    header(out, name, "counter", "Times a connector was started again after a panic.");
    for (connector, metrics) in connectors {
        let count = metrics.restarts.load(Relaxed);
        if count > 0 {
            let _ = writeln!(out, "{name}{{connector=\"{connector}\"}} {count}");
        }
    }
}

/// Which polls are parked, of all there are: connector, stream, whether it is.
pub fn write_poll_holds(
    out: &mut String,
    polls: impl IntoIterator<Item = (Arc<str>, Arc<str>, bool)>,
) {
    let name = "tenon_poll_held";
    header(out, name, "gauge", "1 while a poll is parked and needs a person.");
    for (connector, stream, is_held) in polls {
        let (connector, stream) = (escaped(&connector), escaped(&stream));
        let labels = format!("connector=\"{connector}\",stream=\"{stream}\"");
        let _ = writeln!(out, "{name}{{{labels}}} {}", u8::from(is_held));
    }
}

/// How long ago the first of the jobs was created that are waited for: connector, stream, seconds.
pub fn write_waiting_jobs(
    out: &mut String,
    jobs: impl IntoIterator<Item = (Arc<str>, Arc<str>, f64)>,
) {
    let name = "tenon_poll_job_waiting_seconds";
    let help = "Since the first job was created of those that a poll waits for or reads.";
    header(out, name, "gauge", help);
    for (connector, stream, seconds) in jobs {
        let (connector, stream) = (escaped(&connector), escaped(&stream));
        let _ = writeln!(out, "{name}{{connector=\"{connector}\",stream=\"{stream}\"}} {seconds}");
    }
}

fn each_stream(connectors: &Connectors, mut show: impl FnMut(&str, &StreamMetrics)) {
    for (connector, metrics) in connectors {
        for (stream, counters) in metrics.streams.read().iter() {
            show(&format!("connector=\"{connector}\",stream=\"{}\"", escaped(stream)), counters);
        }
    }
}

fn each_destination(connectors: &Connectors, mut show: impl FnMut(&str, &DestinationMetrics)) {
    for (connector, metrics) in connectors {
        for (name, counters) in metrics.destinations.read().iter() {
            let labels = format!("connector=\"{connector}\",destination=\"{}\"", escaped(name));
            show(&labels, counters);
        }
    }
}

type Gauge = fn(&DestinationMetrics) -> u64;

fn write_destinations(out: &mut String, connectors: &Connectors) {
    let name = "tenon_attempts_total";
    header(out, name, "counter", "Delivery attempts by result, one for each event.");
    each_destination(connectors, |labels, d| {
        let results = [
            ("delivered", &d.delivered),
            ("retry", &d.retried),
            ("deferred", &d.deferred),
            ("rejected", &d.rejected),
            ("superseded", &d.superseded),
            ("held", &d.held),
        ];
        for (result, count) in results {
            let count = count.load(Relaxed);
            if count > 0 {
                let _ = writeln!(out, "{name}{{{labels},result=\"{result}\"}} {count}");
            }
        }
    });
    let name = "tenon_batch_requests_total";
    header(out, name, "counter", "Requests that carried a batch, by what came of them.");
    each_destination(connectors, |labels, d| {
        for (result, word) in BatchResult::ALL {
            let count = d.batches.requests[result as usize].load(Relaxed);
            if count > 0 {
                let _ = writeln!(out, "{name}{{{labels},result=\"{word}\"}} {count}");
            }
        }
    });
    let name = "tenon_batch_events_total";
    header(out, name, "counter", "Events that batches carried, each as often as it was sent.");
    each_destination(connectors, |labels, d| {
        let count = d.batches.events.load(Relaxed);
        if count > 0 {
            let _ = writeln!(out, "{name}{{{labels}}} {count}");
        }
    });
    let name = "tenon_destination_held";
    header(out, name, "gauge", "1 while a destination is parked and needs a person.");
    each_destination(connectors, |labels, d| {
        let _ = writeln!(out, "{name}{{{labels}}} {}", d.parked.load(Relaxed).min(1));
    });
    let figures: [(&str, &str, &str, Gauge); 3] = [
        (
            "tenon_breakers_open",
            "gauge",
            "Breakers that are not closed; each tenant has one.",
            |d| d.breakers_open.load(Relaxed),
        ),
        ("tenon_breaker_trips_total", "counter", "Times that a breaker opened.", |d| {
            d.breaker_trips.load(Relaxed)
        }),
        ("tenon_concurrency_limit", "gauge", "Attempts at once that a destination gets.", |d| {
            d.concurrency.load(Relaxed)
        }),
    ];
    for (name, kind, help, figure) in figures {
        header(out, name, kind, help);
        each_destination(connectors, |labels, d| {
            let _ = writeln!(out, "{name}{{{labels}}} {}", figure(d));
        });
    }
    let name = "tenon_delivery_seconds";
    header(out, name, "histogram", "Accepted to delivered.");
    each_destination(connectors, |labels, d| {
        if d.delivered.load(Relaxed) > 0 {
            d.latency.write(out, name, labels);
        }
    });
}

fn write_backlog(out: &mut String, backlog: &[Backlog], now: Timestamp) {
    let labels = |b: &Backlog| {
        format!(
            "connector=\"{}\",stream=\"{}\",destination=\"{}\"",
            escaped(&b.lane.connector),
            escaped(&b.lane.stream),
            escaped(&b.lane.destination)
        )
    };
    header(out, "tenon_backlog_events", "gauge", "Events accepted and not settled.");
    for b in backlog {
        let _ = writeln!(out, "tenon_backlog_events{{{}}} {}", labels(b), b.unsettled);
    }
    header(out, "tenon_oldest_pending_seconds", "gauge", "Age of the oldest unsettled event.");
    for b in backlog {
        let age = b.oldest.map_or(0.0, |at| now.since(at).as_secs_f64());
        let _ = writeln!(out, "tenon_oldest_pending_seconds{{{}}} {age}", labels(b));
    }
}

fn write_bus(out: &mut String, bus: &BusHealth) {
    let gauges = [
        ("tenon_bus_accepting", u64::from(bus.refusing.is_none()), "1 while events are accepted."),
        ("tenon_bus_disk_bytes", bus.disk_bytes, "Bytes of journal on disk."),
        ("tenon_bus_disk_limit_bytes", bus.disk_limit_bytes, "The journal's budget."),
        ("tenon_bus_unsettled", bus.unsettled, "Unsettled pairs of event and destination."),
        ("tenon_dedupe_keys", bus.dedupe_keys, "Claims held."),
        ("tenon_dead_letters", bus.dead_letters, "Dead letters kept."),
    ];
    for (name, value, help) in gauges {
        header(out, name, "gauge", help);
        let _ = writeln!(out, "{name} {value}");
    }
    let counters = [
        ("tenon_bus_commits_total", bus.commits, "Group commits."),
        ("tenon_bus_appended_total", bus.appended, "Events appended."),
        ("tenon_bus_quarantined_total", bus.quarantined, "Records that could not be read."),
    ];
    for (name, value, help) in counters {
        header(out, name, "counter", help);
        let _ = writeln!(out, "{name} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_buckets_add_up() {
        let metrics = Metrics::default();
        let connector = metrics.connector("a\"b");
        connector.stream("s").count(Outcome::Accepted, 2);
        let destination = connector.destination("d");
        destination.delivered.fetch_add(1, Relaxed);
        destination.latency.observe(Duration::from_millis(3));
        let text = metrics.render(&BusHealth::default(), &[], Timestamp(0));
        assert!(
            text.contains(
                r#"tenon_events_total{connector="a\"b",stream="s",outcome="accepted"} 2"#
            )
        );
        assert!(text.contains(r#"le="0.0025"} 0"#), "{text}");
        assert!(text.contains(
            r#"tenon_delivery_seconds_bucket{connector="a\"b",destination="d",le="0.005"} 1"#
        ));
        metrics.remove("a\"b");
        assert!(!metrics.render(&BusHealth::default(), &[], Timestamp(0)).contains("a\\\"b"));
    }

    #[test]
    fn every_outcome_has_its_own_word() {
        for outcome in Outcome::ALL {
            assert_eq!(Outcome::from_word(outcome.word()), Some(outcome));
        }
    }
}
