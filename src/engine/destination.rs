//! A destination at work: open, counted, limited, and parked while it needs a person.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use super::Shared;
use crate::{
    deliver::{Destination, Limiter, Outcome},
    egress::Peer,
    observe::DestinationMetrics,
    plan::{ConnectorPlan, DestinationKind, DestinationPlan},
};

/// Events written to a file and not settled: those of the sync that is under way, and those that
/// are written meanwhile.
const FILE_GROUP: usize = 4096;

/// One destination of a running connector, shared by its lanes.
pub struct DestinationRuntime {
    pub plan: Arc<DestinationPlan>,
    pub open: Destination,
    pub limiter: Limiter,
    /// Attempts in flight over all lanes.
    pub permits: Semaphore,
    pub metrics: Arc<DestinationMetrics>,
    /// Why it is parked.
    held: Mutex<Option<Arc<str>>>,
    resumed: Notify,
    /// Its last attempt is to be repeated: said once, when it begins and when it ends.
    failing: AtomicBool,
}

impl DestinationRuntime {
    /// Opens a destination. It is never parked at first: a restart or a new plan may well have
    /// mended what was wrong, and one attempt tells.
    pub fn open(
        shared: &Shared,
        connector: &ConnectorPlan,
        plan: &Arc<DestinationPlan>,
    ) -> Result<Self, String> {
        let open = Destination::open(
            connector,
            Arc::clone(plan),
            shared.world.clone(),
            shared.egress.for_peer(Peer::Destination(Arc::clone(&plan.name))),
            Arc::clone(&shared.auth),
        )?;
        let metrics = shared.metrics.connector(&connector.name).destination(&plan.name);
        metrics.parked.store(0, Relaxed);
        let window = window(plan);
        Ok(Self {
            limiter: Limiter::new(&plan.rate),
            permits: Semaphore::new(window),
            plan: Arc::clone(plan),
            open,
            metrics,
            held: Mutex::default(),
            resumed: Notify::new(),
            failing: AtomicBool::new(false),
        })
    }

    /// Most events one lane has in hand at once.
    pub fn window(&self) -> usize {
        window(&self.plan)
    }

    /// Whether it is parked.
    pub fn is_held(&self) -> bool {
        self.held.lock().is_some()
    }

    /// Why it is parked.
    pub fn held(&self) -> Option<Arc<str>> {
        self.held.lock().clone()
    }

    /// Completes when it is no longer parked.
    pub async fn resumed(&self) {
        // Made before looking: what is resumed after the look completes it.
        let mut resumed = self.resumed.notified();
        while self.is_held() {
            resumed.await;
            resumed = self.resumed.notified();
        }
    }

    /// Parks it, and says so once.
    pub fn hold(&self, connector: &str, message: &str) {
        if self.held.lock().replace(Arc::from(message)).is_some() {
            return;
        }
        self.metrics.parked.store(1, Relaxed);
        let destination = &*self.plan.name;
        tracing::error!(connector, destination, problem = message, "destination held");
    }

    /// Un-parks it. Whether it was parked.
    pub fn resume(&self, connector: &str) -> bool {
        if self.held.lock().take().is_none() {
            return false;
        }
        self.resumed.notify_waiters();
        self.metrics.parked.store(0, Relaxed);
        let destination = &*self.plan.name;
        tracing::info!(connector, destination, "destination resumed");
        true
    }

    /// Counts one outcome of an attempt, and logs where the destination begins to fail and where
    /// it recovers: a line an event would bury the rest of the log while it is down.
    pub fn count(&self, connector: &str, outcome: &Outcome) {
        let destination = &*self.plan.name;
        let counter = match outcome {
            Outcome::Delivered { .. } => {
                if self.failing.load(Relaxed) && self.failing.swap(false, Relaxed) {
                    tracing::info!(connector, destination, "destination recovered");
                }
                &self.metrics.delivered
            }
            Outcome::Retry { message, .. } => {
                if !self.failing.swap(true, Relaxed) {
                    tracing::warn!(
                        connector,
                        destination,
                        problem = message,
                        "destination failing"
                    );
                }
                &self.metrics.retried
            }
            Outcome::Deferred { .. } => &self.metrics.deferred,
            Outcome::Held { .. } => &self.metrics.held,
            Outcome::Rejected { .. } => &self.metrics.rejected,
        };
        counter.fetch_add(1, Relaxed);
    }
}

fn window(plan: &DestinationPlan) -> usize {
    match plan.kind {
        DestinationKind::Http { .. } => plan.concurrency.max(1),
        DestinationKind::File { .. } | DestinationKind::Stdout => FILE_GROUP,
    }
}
