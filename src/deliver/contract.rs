//! CONTRACT (to be replaced by decide.rs, rate.rs, http.rs, file.rs, stdout.rs, prepare.rs ...).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{auth::Authenticator, egress::Egress, event::Event, map::Env, plan::{ConnectorPlan, DestinationPlan, RetryPlan, StreamPlan}, world::{Timestamp, World}};

/// What a destination said, or did not say. A peer's failure is an outcome, not an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Delivered { status: Option<u16> },
    /// 408, 425, 429, 5xx, network, timeout, DNS: counts as an attempt.
    Retry { status: Option<u16>, message: String, retry_after: Option<Duration> },
    /// Not attempted: rate spent, token being refreshed.
    Deferred { message: String, retry_after: Option<Duration> },
    /// 401 (after one refresh), 403, 410, invalid_grant, an unset secret, refused address.
    Held { status: Option<u16>, message: String },
    /// Other 4xx, or a template that fails.
    Rejected { status: Option<u16>, reason: &'static str, message: String },
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    Settle { attempts: u32, status: Option<u16> },
    Retry { due: Timestamp, attempts: u32, first_attempt_at: Timestamp, error: String },
    Defer { due: Timestamp },
    /// Park the whole destination; this event keeps its count.
    Hold { message: String },
    Bury { reason: String, message: String, attempts: u32, status: Option<u16> },
}

/// Pure. `jitter` is uniform in [0,1). Full jitter (Brooker, "Exponential Backoff and Jitter", AWS 2015), upward from max(backoff floor, Retry-After).
pub fn decide(_plan: &RetryPlan, _attempts_before: u32, _first_attempt_at: Option<Timestamp>, _outcome: Outcome, _now: Timestamp, _jitter: f64) -> Next { unimplemented!() }

/// What goes to the destination: the mapped record, or the raw bytes where nothing is mapped.
#[derive(Clone, Debug)]
pub enum Output {
    Raw { bytes: Bytes, event: Arc<Event> },
    Mapped(Arc<serde_json::Value>),
}

/// `record` → map → schema. Err = dead letter (reason `map_failed` | `schema_failed`, message for a person).
pub fn prepare(_stream: &StreamPlan, _vars: &Arc<serde_json::Value>, _event: &Arc<Event>) -> Result<Output, (&'static str, String)> { unimplemented!() }

/// A destination, open. One per connector and destination name; kept over a reload if its plan did not change.
pub struct Destination { _private: () }

impl Destination {
    /// Opens files, compiles nothing, dials nothing.
    pub fn open(_connector: &ConnectorPlan, _plan: Arc<DestinationPlan>, _world: World, _egress: Egress, _auth: Arc<Authenticator>) -> Result<Self, String> { unimplemented!() }
    /// One attempt, bounded by the destination's timeout. Never retries inside, but for one token refresh after a 401, with the same idempotency key.
    /// `env` has `vars`, `secret`; `out` and `event` are bound here.
    pub async fn attempt(&self, _event: &Arc<Event>, _out: &Output, _env: &Env) -> Outcome { unimplemented!() }
    /// Makes what was written durable (files): called before a group of deliveries is settled.
    pub async fn sync(&self) -> Result<(), String> { unimplemented!() }
}

/// Token buckets over several windows at once, on the world's clock. Shared by reference.
pub struct Limiter { _private: () }

impl Limiter {
    pub fn new(_rates: &[crate::plan::Rate]) -> Self { unimplemented!() }
    /// Takes one, or says when one will be there.
    pub fn take(&self, _now: Timestamp) -> Result<(), Timestamp> { unimplemented!() }
}
