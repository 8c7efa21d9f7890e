//! A shadow at work: it gets a copy of each of its original's events once the original mapped it,
//! maps and validates it itself, and notes what differs. It has no destination.
//!
//! Its map runs in a task of its own, behind a short queue that the original's lanes never wait for:
//! what does not fit, or comes faster than [`PER_SECOND`], is left out and counted. So neither a slow
//! map nor one that panics touches the original.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    super::{Shared, tasks::panic_message},
    ledger::hex,
    report::{Pair, ShadowReport},
};
use crate::{
    bus::Bus,
    deliver::{self, Limiter},
    event::{Event, Record},
    observe::fields::Masks,
    plan::{ConnectorPlan, Rate, StreamPlan},
    world::{Timestamp, World},
};

/// Copies that wait at most.
const QUEUE: usize = 64;
/// Events compared in a second at most.
const PER_SECOND: u32 = 200;
/// The report is stored so often while it changes.
const STORE_EVERY: Duration = Duration::from_secs(10);
/// Places of events that were copied lately are remembered in so many slots.
const RECENT: usize = 1_024;

/// An event, and what the original made of it.
pub struct Copied {
    pub event: Arc<Event>,
    pub stream: Arc<StreamPlan>,
    pub original: Result<Record, (&'static str, String)>,
}

/// See the module's text.
pub struct Shadow {
    plan: Arc<ConnectorPlan>,
    copies: mpsc::Sender<Copied>,
    inbox: tokio::sync::Mutex<mpsc::Receiver<Copied>>,
    limiter: Limiter,
    /// An event that is deferred comes by again and again.
    recent: Box<[AtomicU64]>,
    left_out: AtomicU64,
    report: Mutex<ShadowReport>,
}

impl Shadow {
    /// Goes on with the report of the same two contents, where there is one.
    pub fn new(plan: &Arc<ConnectorPlan>, bus: &dyn Bus) -> Arc<Self> {
        let (copies, inbox) = mpsc::channel(QUEUE);
        let stored = bus.state(&key(plan)).and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Arc::new(Self {
            plan: Arc::clone(plan),
            copies,
            inbox: tokio::sync::Mutex::new(inbox),
            limiter: Limiter::new(&[Rate { count: PER_SECOND, per: Duration::from_secs(1) }]),
            recent: (0..RECENT).map(|_| AtomicU64::new(u64::MAX)).collect(),
            left_out: AtomicU64::new(0),
            report: Mutex::new(stored.unwrap_or_default()),
        })
    }

    /// Says what it is compared with. Another content of either begins a report anew.
    pub fn set(&self, original: &ConnectorPlan, now: Timestamp) {
        let contents = (hex(self.plan.content), hex(original.content));
        let mut report = self.report.lock();
        if report.contents != contents {
            *report = ShadowReport::new(now, contents);
            self.left_out.store(0, Relaxed);
        }
    }

    /// Takes a copy, unless there are too many. Waits for nothing.
    pub fn copy(&self, seq: u64, now: Timestamp, copied: impl FnOnce() -> Copied) {
        let slot = &self.recent[seq as usize % RECENT];
        if slot.swap(seq, Relaxed) == seq {
            return;
        }
        let has_room = self.copies.capacity() > 0 && self.limiter.take(now).is_ok();
        if !has_room || self.copies.try_send(copied()).is_err() {
            self.left_out.fetch_add(1, Relaxed);
        }
    }

    /// What it found so far.
    pub fn report(&self) -> ShadowReport {
        let mut report = self.report.lock().clone();
        report.left_out += self.left_out.load(Relaxed);
        report
    }

    /// Compares copies until `stop`.
    pub async fn run(self: Arc<Self>, shared: Arc<Shared>, stop: CancellationToken) {
        let mut inbox = self.inbox.lock().await;
        let mut store_at: Option<Timestamp> = None;
        let World { clock, .. } = &shared.world;
        loop {
            let due = async {
                match store_at {
                    Some(at) => clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = due => {
                    self.store(&shared).await;
                    store_at = None;
                }
                Some(copied) = inbox.recv() => {
                    self.compare(&copied, clock.now());
                    store_at = store_at.or_else(|| Some(clock.now().plus(STORE_EVERY)));
                    // A long queue must not keep others from running.
                    tokio::task::yield_now().await;
                }
            }
        }
        if store_at.is_some() {
            self.store(&shared).await;
        }
    }

    fn compare(&self, copied: &Copied, now: Timestamp) {
        let Copied { event, stream, original } = copied;
        let Some(own) = self.plan.streams.iter().find(|own| own.name == stream.name) else {
            return;
        };
        let mapped = std::panic::catch_unwind(AssertUnwindSafe(|| {
            deliver::prepare(own, &self.plan.vars, event)
        }));
        let mapped = mapped.unwrap_or_else(|panic| {
            Err(("panicked", format!("the map panicked: {}", panic_message(&*panic))))
        });
        let redact = [stream.redact.as_slice(), own.redact.as_slice()].concat();
        self.report.lock().add(&Pair {
            stream: &stream.name,
            event: event.id.to_string(),
            original: as_pair(original),
            shadow: as_pair(&mapped),
            redact: &redact,
            masks: &|| Masks::of([&**stream, &**own], event.record.value()),
            at: now,
        });
    }

    async fn store(&self, shared: &Shared) {
        let report = serde_json::to_vec(&self.report()).ok();
        if let Err(error) = shared.bus.put_state(&key(&self.plan), report).await {
            let connector = &*self.plan.name;
            tracing::warn!(connector, %error, "the report of a shadow is not durable");
        }
    }
}

fn as_pair<'m>(
    mapped: &'m Result<Record, (&'static str, String)>,
) -> Result<&'m Value, (&'m str, &'m str)> {
    match mapped {
        Ok(record) => Ok(record.value()),
        Err((reason, message)) => Err((reason, message)),
    }
}

fn key(plan: &ConnectorPlan) -> String {
    format!("rollout/shadow/{}", plan.name)
}
