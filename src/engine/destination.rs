//! A destination at work: open, counted, limited, and parked while it needs a person.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use xxhash_rust::xxh3::Xxh3;

use super::{Shared, bay::Bay, breakers, places::Places};
use crate::{
    bus::{Bus, LaneId, Steer},
    deliver::{
        Adaptive, BatchOutcome, Change, Destination, Limiter, Outcome, StoredBreaker, Tenants,
    },
    egress::Peer,
    observe::{BatchResult, DestinationMetrics},
    plan::{ConnectorPlan, DestinationKind, DestinationPlan},
    world::{Timestamp, World},
};

/// How often a parked destination looks whether somebody changed a credential.
const LOOK_AT_SECRETS: Duration = Duration::from_secs(5);

/// Events written to a file and not settled: those of the sync that is under way, and those that
/// are written meanwhile.
const FILE_GROUP: usize = 4096;

/// So many tenants' bays are kept. Beyond it those go that have nothing to remember: names come from
/// payloads, and memory must not.
const BAYS: usize = 4096;

/// One destination of a running connector, shared by its lanes.
pub struct DestinationRuntime {
    connector: Arc<str>,
    pub plan: Arc<DestinationPlan>,
    pub open: Destination,
    pub limiter: Limiter,
    /// Attempts in flight over all lanes.
    places: Arc<Places>,
    pub metrics: Arc<DestinationMetrics>,
    /// That it is parked.
    held: Mutex<Option<Held>>,
    resumed: Notify,
    /// Its last attempt is to be repeated: said once, when it begins and when it ends.
    failing: AtomicBool,
    /// The bay of what has no tenant, which is most; made when it is needed.
    common: OnceLock<Arc<Bay>>,
    bays: RwLock<HashMap<Arc<str>, Arc<Bay>>>,
    /// Who was told how to hand out events.
    lanes: Mutex<Vec<LaneId>>,
    bus: Arc<dyn Bus>,
    world: World,
    tenants: Arc<Tenants>,
    /// The secrets of its connector, by the name that is looked up.
    secrets: Vec<String>,
    /// What they were when it was opened or last un-parked: attempts since then may have gone with those.
    secrets_then: AtomicU64,
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
        let window = window(plan);
        let runtime = Self {
            connector: Arc::clone(&connector.name),
            common: OnceLock::new(),
            bays: RwLock::default(),
            lanes: Mutex::default(),
            bus: Arc::clone(&shared.bus),
            world: shared.world.clone(),
            tenants: Arc::clone(&shared.tenants),
            secrets: connector.secrets_used.clone(),
            secrets_then: AtomicU64::new(0),
            limiter: Limiter::new(&plan.rate),
            places: Arc::new(Places::new(
                window,
                Arc::clone(&metrics.concurrency),
                Arc::clone(&metrics.breakers_open),
            )),
            plan: Arc::clone(plan),
            open,
            metrics,
            held: Mutex::default(),
            resumed: Notify::new(),
            failing: AtomicBool::new(false),
        };
        // One that is open shows before anything is attempted.
        if runtime.stored(None).is_some() {
            runtime.bay(None);
        }
        runtime.secrets_then.store(runtime.fingerprint(), Relaxed);
        Ok(runtime)
    }

    /// Notes a lane that hands out its events.
    pub fn serves(&self, lane: LaneId) {
        let mut lanes = self.lanes.lock();
        if !lanes.contains(&lane) {
            lanes.push(lane);
        }
    }

    /// Most events one lane has in hand at once.
    pub fn window(&self) -> usize {
        window(&self.plan)
    }

    /// Whether only one tenant was ever here: nothing is kept free for others.
    pub fn is_alone(&self) -> bool {
        self.places.is_alone()
    }

    /// Whether it is parked.
    pub fn is_held(&self) -> bool {
        self.held.lock().is_some()
    }

    /// Why it is parked.
    pub fn held(&self) -> Option<Arc<str>> {
        self.held.lock().as_ref().map(|held| Arc::clone(&held.message))
    }

    /// Completes when it is no longer parked. A changed secret of its connector un-parks it: that is what
    /// a refusal asks for.
    pub async fn resumed(&self) {
        if self.is_held() {
            // On the heap: a lane that waits for events is to be small.
            Box::pin(self.wait_for_resume()).await;
        }
    }

    async fn wait_for_resume(&self) {
        loop {
            // Made before looking: what is resumed after the look completes it.
            let resumed = self.resumed.notified();
            if !self.is_held() {
                return;
            }
            if tokio::time::timeout(LOOK_AT_SECRETS, resumed).await.is_err() {
                let changed = self
                    .held
                    .lock()
                    .as_ref()
                    .is_some_and(|held| held.secrets != self.fingerprint());
                if changed {
                    self.resume("a secret was changed");
                }
            }
        }
    }

    /// What its secrets are, without them.
    fn fingerprint(&self) -> u64 {
        let mut hash = Xxh3::new();
        for name in &self.secrets {
            let secret = self.world.secrets.get(name);
            let text = secret.as_ref().map_or("", |secret| secret.expose());
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
        hash.digest()
    }

    /// The bay of a tenant, made where there is none yet, with its breaker as it was stored.
    pub fn bay(&self, tenant: Option<&str>) -> Arc<Bay> {
        let Some(tenant) = tenant else {
            return Arc::clone(self.common.get_or_init(|| self.new_bay(None)));
        };
        if let Some(bay) = self.bays.read().get(tenant) {
            return Arc::clone(bay);
        }
        let mut bays = self.bays.write();
        if let Some(bay) = bays.get(tenant) {
            return Arc::clone(bay);
        }
        let tenant: Arc<str> = Arc::from(tenant);
        let bay = self.new_bay(Some(Arc::clone(&tenant)));
        if bays.len() >= BAYS && bays.len().is_power_of_two() {
            let now = self.world.clock.now();
            bays.retain(|_, bay| Arc::strong_count(bay) > 1 || !bay.is_plain(now));
        }
        bays.insert(tenant, Arc::clone(&bay));
        bay
    }

    /// Forgets bays of tenants whose breaker has long been open without anybody asking.
    pub fn forget_old(&self, now: Timestamp) {
        let is_old = |bay: &Arc<Bay>| {
            Arc::strong_count(bay) == 1 && bay.stored().is_some_and(|stored| stored.is_old(now))
        };
        self.bays.write().retain(|_, bay| !is_old(bay));
    }

    fn stored(&self, tenant: Option<&str>) -> Option<StoredBreaker> {
        self.plan.breaker?;
        let key = breakers::key(&self.connector, &self.plan.name, tenant);
        let stored: StoredBreaker = serde_json::from_slice(&self.bus.state(&key)?).ok()?;
        (!stored.is_old(self.world.clock.now())).then_some(stored)
    }

    fn new_bay(&self, tenant: Option<Arc<str>>) -> Arc<Bay> {
        let stored = self.stored(tenant.as_deref());
        let weight = tenant.as_deref().map_or(1, |tenant| self.tenants.weight(tenant));
        let adaptive = adaptive(&self.plan);
        Arc::new(Bay::new(
            tenant,
            weight,
            self.plan.breaker,
            adaptive,
            stored,
            Arc::clone(&self.places),
        ))
    }

    /// All bays that there are.
    pub fn all_bays(&self) -> Vec<Arc<Bay>> {
        let bays = self.bays.read();
        self.common.get().into_iter().chain(bays.values()).map(Arc::clone).collect()
    }

    /// Says that a bay's breaker opened or closed, and makes it durable: a restart is no reason to ask
    /// a dead peer again.
    pub async fn changed(&self, bay: &Bay, change: Change) {
        let (connector, destination) = (&*self.connector, &*self.plan.name);
        let tenant = bay.tenant.as_deref();
        match change {
            Change::Opened(until) => {
                let until = until.rfc3339();
                if bay.stored().is_some_and(|stored| stored.trips == 1) {
                    tracing::warn!(connector, destination, tenant, until, "breaker opened");
                } else {
                    tracing::debug!(connector, destination, tenant, until, "breaker stays open");
                }
                self.metrics.breaker_trips.fetch_add(1, Relaxed);
            }
            Change::Closed => {
                tracing::info!(connector, destination, tenant, "breaker closed");
            }
        }
        self.store(bay).await;
    }

    async fn store(&self, bay: &Bay) {
        let key = breakers::key(&self.connector, &self.plan.name, bay.tenant.as_deref());
        let value = bay.stored().and_then(|stored| serde_json::to_vec(&stored).ok());
        if let Err(error) = self.bus.put_state(&key, value).await {
            tracing::warn!(key, %error, "the breaker's state is not durable");
        }
    }

    /// Closes its open breakers because a person says that it is well. How many were open.
    pub async fn reset(&self) -> usize {
        let mut reset = 0;
        for bay in self.all_bays() {
            if bay.reset() {
                reset += 1;
                self.changed(&bay, Change::Closed).await;
            }
            // The lanes would learn of it from the next attempt, and make none before the old time.
            // They tell only what changed since they told it, so it has to be what they would.
            let steer = bay.steer(self.world.clock.now());
            let a_request = self.plan.batch.as_ref().map_or(1, |batch| batch.max);
            let steer = Steer { most: steer.most.saturating_mul(a_request), ..steer };
            for lane in self.lanes.lock().iter() {
                self.bus.steer(*lane, bay.tenant.as_deref(), steer);
                self.bus.hurry(*lane, bay.tenant.as_deref());
            }
        }
        reset
    }

    /// What its breakers are, in words; `None` where all are closed.
    pub fn breakers(&self, now: Timestamp) -> Option<String> {
        let bays = self.all_bays();
        let open: Vec<_> = bays.iter().filter(|bay| bay.breaker(now).0 != "closed").collect();
        let said = |bay: &Bay| match bay.breaker(now) {
            (_, Some(until)) => format!("open until {}", until.rfc3339()),
            _ => "half open".to_owned(),
        };
        match open.as_slice() {
            [] => None,
            [only] => Some(match &only.tenant {
                None => said(only),
                Some(tenant) => format!("{} for tenant {tenant}", said(only)),
            }),
            several => Some(format!("open for {} tenants", several.len())),
        }
    }

    /// Whether an attempt asks nobody, so that it ends at once.
    pub fn is_immediate(&self) -> bool {
        matches!(self.plan.kind, DestinationKind::File { .. })
    }

    /// Parks it, and says so once.
    pub fn hold(&self, message: &str) {
        // What was refused went with the secrets of then: they may have been changed since.
        let (connector, secrets) = (&*self.connector, self.secrets_then.load(Relaxed));
        let held = Held { message: Arc::from(message), secrets };
        if self.held.lock().replace(held).is_some() {
            return;
        }
        self.metrics.parked.fetch_add(1, Relaxed);
        let destination = &*self.plan.name;
        tracing::error!(connector, destination, problem = message, "destination held");
    }

    /// Un-parks it, because of `why`. Whether it was parked.
    pub fn resume(&self, why: &str) -> bool {
        let connector = &*self.connector;
        if self.held.lock().take().is_none() {
            return false;
        }
        self.secrets_then.store(self.fingerprint(), Relaxed);
        self.resumed.notify_waiters();
        self.metrics.parked.fetch_sub(1, Relaxed);
        let destination = &*self.plan.name;
        tracing::info!(connector, destination, why, "destination resumed");
        true
    }

    /// Counts one outcome of an attempt, and logs where the destination begins to fail and where
    /// it recovers: a line an event would bury the rest of the log while it is down.
    pub fn count(&self, outcome: &Outcome) {
        let connector = &*self.connector;
        let destination = &*self.plan.name;
        match outcome {
            Outcome::Delivered { .. }
                if self.failing.load(Relaxed) && self.failing.swap(false, Relaxed) =>
            {
                tracing::info!(connector, destination, "destination recovered");
            }
            Outcome::Retry { message, .. } if !self.failing.swap(true, Relaxed) => {
                tracing::warn!(connector, destination, problem = message, "destination failing");
            }
            _ => {}
        }
        self.counter(outcome).fetch_add(1, Relaxed);
    }

    fn counter(&self, outcome: &Outcome) -> &AtomicU64 {
        match outcome {
            Outcome::Delivered { .. } => &self.metrics.delivered,
            Outcome::Retry { .. } => &self.metrics.retried,
            Outcome::Deferred { .. } => &self.metrics.deferred,
            Outcome::Held { .. } => &self.metrics.held,
            Outcome::Rejected { .. } => &self.metrics.rejected,
            Outcome::Superseded { .. } => &self.metrics.superseded,
        }
    }
}

impl DestinationRuntime {
    /// Counts one request with a batch, and an attempt for each of its events. Of a batch that is to be
    /// tried in halves no event was attempted yet. The destination fails where no event of it was taken.
    pub fn count_batch(&self, events: usize, outcome: &BatchOutcome) {
        self.metrics.batches.count(events as u64, batch_result(outcome));
        match outcome {
            BatchOutcome::Split { .. } => {}
            BatchOutcome::Whole(outcome) => {
                self.count(outcome);
                self.counter(outcome).fetch_add(events as u64 - 1, Relaxed);
            }
            BatchOutcome::Each(outcomes) => {
                let is_taken = |outcome: &&Outcome| matches!(outcome, Outcome::Delivered { .. });
                let taken = outcomes.iter().position(|outcome| is_taken(&outcome)).unwrap_or(0);
                for (at, outcome) in outcomes.iter().enumerate() {
                    if at == taken {
                        self.count(outcome);
                    } else {
                        self.counter(outcome).fetch_add(1, Relaxed);
                    }
                }
            }
        }
    }
}

impl Drop for DestinationRuntime {
    fn drop(&mut self) {
        self.metrics.parked.fetch_sub(u64::from(self.is_held()), Relaxed);
    }
}

/// The word under which a batch's request is counted.
fn batch_result(outcome: &BatchOutcome) -> BatchResult {
    match outcome {
        BatchOutcome::Split { .. } => BatchResult::Split,
        BatchOutcome::Each(outcomes) => {
            let taken = |outcome: &Outcome| matches!(outcome, Outcome::Delivered { .. });
            if outcomes.iter().all(taken) { BatchResult::Delivered } else { BatchResult::Partial }
        }
        BatchOutcome::Whole(outcome) => match outcome {
            Outcome::Delivered { .. } => BatchResult::Delivered,
            Outcome::Retry { .. } => BatchResult::Retry,
            Outcome::Deferred { .. } => BatchResult::Deferred,
            Outcome::Held { .. } => BatchResult::Held,
            Outcome::Rejected { .. } | Outcome::Superseded { .. } => BatchResult::Rejected,
        },
    }
}

/// Why a destination is parked, and what its secrets were then.
struct Held {
    message: Arc<str>,
    secrets: u64,
}

/// Only a peer has a pace of its own.
fn adaptive(plan: &DestinationPlan) -> Adaptive {
    match plan.kind {
        DestinationKind::Http { .. } => Adaptive::new(window(plan)),
        DestinationKind::File { .. } | DestinationKind::Stdout => Adaptive::fixed(window(plan)),
    }
}

fn window(plan: &DestinationPlan) -> usize {
    match plan.kind {
        DestinationKind::Http { .. } => plan.concurrency.max(1),
        DestinationKind::File { .. } | DestinationKind::Stdout => FILE_GROUP,
    }
}
