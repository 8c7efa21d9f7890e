//! CONTRACT (to be replaced by run.rs, request.rs, page.rs, cursor.rs, schedule.rs ...).

use std::sync::Arc;

use crate::{auth::Authenticator, bus::Bus, deliver::Limiter, egress::Egress, plan::{ConnectorPlan, SchedulePlan, StreamPlan}, world::{Timestamp, World}};

/// What a poll works with.
#[derive(Clone)]
pub struct Poller {
    pub connector: Arc<ConnectorPlan>,
    pub stream: Arc<StreamPlan>,
    pub world: World,
    pub egress: Egress,
    pub auth: Arc<Authenticator>,
    pub bus: Arc<dyn Bus>,
    /// The source's rate, shared by its streams.
    pub limiter: Arc<Limiter>,
}

/// What one run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PollReport {
    pub requests: u64,
    pub pages: u64,
    /// Raw items, before any filter.
    pub items: u64,
    pub accepted: u64,
    pub duplicates: u64,
    /// `when` said no, or older than the cursor under `filter`.
    pub filtered: u64,
    /// Records without a key etc.: counted, logged, never silently dropped.
    pub unnamed: u64,
}

/// Why a run ended before its end. The cursor stands where the last durable page left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PollFailure {
    /// Come back then (429, 5xx, network, bus full), not sooner.
    Later { message: String, retry_after: Option<std::time::Duration> },
    /// 401 after a refresh, 403, invalid_grant, unset secret: parked until a reload or resume, alert.
    Held(String),
    /// The API answered what the connector does not expect (records path missing: lists the keys present; repeated page; other 4xx).
    Failed(String),
}

impl Poller {
    /// One run: from the cursor to the end of what there is now. Pages are appended as they come, the
    /// cursor with them; cancel-safe in that nothing durable is wrong when the future is dropped.
    /// `progress` is called after each page.
    pub async fn run(&self, _progress: &(dyn Fn(&PollReport) + Send + Sync)) -> Result<PollReport, (PollReport, PollFailure)> { unimplemented!() }

    /// For `tenon try`: the first page's records, decoded, nothing appended, no cursor moved.
    pub async fn sample(&self, _max: usize) -> Result<Vec<Arc<serde_json::Value>>, PollFailure> { unimplemented!() }
}

/// When the next run is due, from when the last one began; `None` last = now-ish spread by jitter. `fraction` in [0,1).
/// Cron: DST gap fires once right after the gap, fold once.
pub fn next_run(_plan: &SchedulePlan, _last: Option<Timestamp>, _now: Timestamp, _fraction: f64) -> Timestamp { unimplemented!() }
