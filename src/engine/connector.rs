//! One running connector: its parts, and the supervisor that restarts them when one panics.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    Shared, backfill,
    destination::DestinationRuntime,
    pipeline::{self, LaneContext},
    polls::PollRuntime,
    reconcile::ReconcileRuntime,
    rollout::Variant,
    signal::Signal,
    silence::Silence,
    tasks::{TaskKind, panic_message},
};
use crate::{
    egress::Peer,
    event::Lane,
    ingest::poll::{Poller, Source},
    map::Env,
    observe::StreamMetrics,
    plan::{ConnectorPlan, DestinationKind, RolloutMode},
    world::Timestamp,
};

/// So many panics within [`CRASH_WINDOW`] are a crash loop.
const CRASHES: usize = 5;
/// See [`CRASHES`].
const CRASH_WINDOW: Duration = Duration::from_mins(5);
/// The first wait before a restart; it doubles up to the second.
const RESTART: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// How a connector is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// All parts run.
    Running,
    /// A part panicked; it starts again soon.
    Restarting(String),
    /// It panicked too often; it starts again at a reload.
    Quarantined(String),
}

/// A connector at work, or built and ready to.
pub struct Connector {
    pub plan: Arc<ConnectorPlan>,
    /// Counts the plans of this name since the engine started.
    pub generation: u64,
    /// How it runs: as its file or a flag says.
    pub mode: RolloutMode,
    /// What it is beside its original.
    pub variant: Option<Variant>,
    pub destinations: Box<[Arc<DestinationRuntime>]>,
    pub polls: Box<[Arc<PollRuntime>]>,
    pub reconciles: Box<[Arc<ReconcileRuntime>]>,
    health: Mutex<Health>,
    /// Take no more.
    stop: CancellationToken,
    /// Drop what is in hand.
    kill: Signal,
    ended: Signal,
}

impl Connector {
    /// Opens destinations and readies polls. Nothing runs, nothing is dialled. What delivers nothing
    /// needs neither destinations nor secrets. `original` is a canary's.
    pub fn build(
        shared: &Shared,
        plan: &Arc<ConnectorPlan>,
        generation: u64,
        mode: RolloutMode,
        original: Option<&ConnectorPlan>,
    ) -> Result<Arc<Self>, String> {
        let destinations = match mode {
            RolloutMode::Live | RolloutMode::Canary => destinations(shared, plan, original)?,
            RolloutMode::Shadow | RolloutMode::Off => Box::default(),
        };
        let polls = if mode == RolloutMode::Live { polls(shared, plan) } else { Box::default() };
        let reconciles = polls.iter().filter_map(|poll| reconciles(poll)).collect();
        let env = environment(shared, plan);
        Ok(Arc::new(Self {
            plan: Arc::clone(plan),
            generation,
            mode,
            variant: Variant::of(shared, plan, mode, &destinations, env),
            destinations,
            polls,
            reconciles,
            health: Mutex::new(Health::Running),
            stop: CancellationToken::new(),
            kill: Signal::new(),
            ended: Signal::new(),
        }))
    }

    /// How it is.
    pub fn health(&self) -> Health {
        self.health.lock().clone()
    }

    /// Whether it panicked too often to be started again by itself.
    pub fn is_quarantined(&self) -> bool {
        matches!(*self.health.lock(), Health::Quarantined(_))
    }

    /// Starts its parts under a supervisor.
    pub fn start(self: &Arc<Self>, shared: &Arc<Shared>) {
        let name = format!("connector {}", self.plan.name);
        let supervisor = Arc::clone(self).supervise(Arc::clone(shared));
        shared.tasks.spawn(TaskKind::Supervisor, name, supervisor);
        // What is off goes on where it was once it is on again.
        if self.mode == RolloutMode::Live {
            backfill::resume(shared, self);
        }
    }

    /// Is cancelled once it takes no more.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stop
    }

    /// Takes no more events; lets attempts in hand end for `within`, then drops them: they belong
    /// to the bus and come again. Whether all ended by themselves.
    pub async fn drain(&self, within: Duration) -> bool {
        self.stop.cancel();
        if tokio::time::timeout(within, self.ended.given()).await.is_ok() {
            return true;
        }
        self.kill.give();
        self.ended.given().await;
        false
    }

    async fn supervise(self: Arc<Self>, shared: Arc<Shared>) {
        let _ended = self.ended.on_drop();
        let mut crashes: Vec<Timestamp> = Vec::new();
        loop {
            let Some(panic) = self.run_parts(&shared).await else {
                return;
            };
            let now = shared.world.clock.now();
            crashes.retain(|at| now.since(*at) < CRASH_WINDOW);
            crashes.push(now);
            let connector = &*self.plan.name;
            shared
                .metrics
                .connector(connector)
                .restarts
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if crashes.len() >= CRASHES {
                tracing::error!(connector, panic, "quarantined after repeated panics");
                *self.health.lock() = Health::Quarantined(panic);
                self.stop.cancelled().await;
                return;
            }
            let (from, to) = RESTART;
            let wait = from.saturating_mul(1 << (crashes.len() - 1)).min(to);
            tracing::error!(connector, panic, ?wait, "panicked, will restart");
            *self.health.lock() = Health::Restarting(panic);
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            *self.health.lock() = Health::Running;
        }
    }

    /// Runs all parts until they were stopped (`None`) or one panicked (its message).
    async fn run_parts(&self, shared: &Arc<Shared>) -> Option<String> {
        let mut parts = JoinSet::new();
        for context in self.lanes(shared) {
            parts.spawn(pipeline::run(context, self.stop.clone()));
        }
        match &self.variant {
            Some(Variant::Canary(canary)) => {
                parts.spawn(Arc::clone(canary).keep(Arc::clone(shared), self.stop.clone()));
            }
            Some(Variant::Shadow(shadow)) => {
                parts.spawn(Arc::clone(shadow).run(Arc::clone(shared), self.stop.clone()));
            }
            None => {}
        }
        for poll in &self.polls {
            parts.spawn(Arc::clone(poll).run(self.stop.clone()));
            if let Some(silence) = poll.silence() {
                parts.spawn(Arc::clone(silence).run(self.stop.clone()));
            }
        }
        for reconcile in &self.reconciles {
            parts.spawn(Arc::clone(reconcile).run(self.stop.clone()));
        }
        if parts.is_empty() {
            self.stop.cancelled().await;
        }
        loop {
            tokio::select! {
                ended = parts.join_next() => match ended {
                    None => return None,
                    Some(Ok(())) => {}
                    Some(Err(error)) => {
                        parts.shutdown().await;
                        return Some(error.try_into_panic().map_or_else(
                            |error| error.to_string(),
                            |panic| panic_message(&*panic).to_owned(),
                        ));
                    }
                },
                () = self.kill.given() => {
                    parts.shutdown().await;
                    return None;
                }
            }
        }
    }

    /// Every lane that may hold events: each stream with each of its destinations.
    fn lanes(&self, shared: &Arc<Shared>) -> Vec<Arc<LaneContext>> {
        if self.mode != RolloutMode::Live {
            return Vec::new();
        }
        let rollout = shared.rollouts.slot(&self.plan.name);
        let metrics = shared.metrics.connector(&self.plan.name);
        let env = environment(shared, &self.plan);
        let promised = self.plan.slo.as_ref();
        let objective = promised.map(|_| shared.objectives.of(&*shared.bus, &self.plan.name));
        let mut lanes = Vec::new();
        for stream in &self.plan.streams {
            for destination in &self.destinations {
                let name = &destination.plan.name;
                let lane = Lane {
                    connector: Arc::clone(&self.plan.name),
                    stream: Arc::clone(&stream.name),
                    destination: Arc::clone(name),
                };
                if !stream.to.contains(name) && !shared.has_backlog(&lane) {
                    continue;
                }
                lanes.push(Arc::new(LaneContext {
                    lane,
                    connector: Arc::clone(&self.plan),
                    stream: Arc::clone(stream),
                    destination: Arc::clone(destination),
                    bus: Arc::clone(&shared.bus),
                    world: shared.world.clone(),
                    metrics: metrics.stream(&stream.name),
                    tenants: Arc::clone(&shared.tenants),
                    in_hand: Arc::clone(&shared.in_hand),
                    env: env.clone(),
                    rollout: Arc::clone(&rollout),
                    objective: objective.clone(),
                    replays: Arc::clone(&shared.ended),
                }));
            }
        }
        lanes
    }
}

/// The destinations of a connector that delivers, open.
fn destinations(
    shared: &Shared,
    plan: &ConnectorPlan,
    original: Option<&ConnectorPlan>,
) -> Result<Box<[Arc<DestinationRuntime>]>, String> {
    let unset: Vec<&str> = plan
        .secrets_used
        .iter()
        .map(String::as_str)
        .filter(|name| shared.world.secrets.get(name).is_none())
        .collect();
    if !unset.is_empty() {
        return Err(format!(
            "unset secrets: {}; set them in the environment or in the secrets folder and reload",
            unset.join(", ")
        ));
    }
    let is_shared = |name: &str, own: &DestinationKind| {
        let other = original.and_then(|original| original.destinations.get(name));
        other.is_some_and(|other| own.is_same_sink(&other.kind))
    };
    let own = plan.destinations.iter().filter(|(name, own)| !is_shared(name, &own.kind));
    own.map(|(name, destination)| {
        let open = DestinationRuntime::open(shared, plan, destination);
        open.map(Arc::new).map_err(|error| format!("destination {name}: {error}"))
    })
    .collect()
}

/// What every expression of a connector may see: its variables and secrets.
pub fn environment(shared: &Shared, plan: &ConnectorPlan) -> Env {
    Env::new()
        .with("vars", Arc::clone(&plan.vars))
        .with_secrets(Arc::clone(&shared.world.secrets), Arc::clone(&plan.secret_names))
}

/// The polls of a connector that have a schedule. They share the source's rate.
fn polls(shared: &Shared, plan: &Arc<ConnectorPlan>) -> Box<[Arc<PollRuntime>]> {
    let mut waiting = pollers(shared, plan);
    let mut polls: Vec<Arc<PollRuntime>> = Vec::with_capacity(waiting.len());
    // Parents first; that there is no circle was checked when the file was loaded.
    while !waiting.is_empty() {
        let is_ready = |poller: &Poller, waiting: &[Poller]| {
            let parents = poller.parents();
            !waiting.iter().any(|other| parents.contains(&other.stream.name))
        };
        let Some(at) = (0..waiting.len()).find(|at| is_ready(&waiting[*at], &waiting)) else {
            break;
        };
        let poller = waiting.remove(at);
        let Some(schedule) = poller.stream.schedule.clone() else { continue };
        let names = poller.parents();
        let parents = polls.iter().filter(|poll| names.contains(&poll.poller.stream.name));
        let parents = parents.map(Arc::clone).collect();
        let metrics = shared.metrics.connector(&plan.name).stream(&poller.stream.name);
        let silence = silence(&poller, &metrics);
        polls.push(Arc::new(PollRuntime::new(poller, schedule, metrics, parents, silence)));
    }
    polls.into()
}

/// Who watches over a stream's webhooks, where the file says after how long they are missing.
fn silence(poller: &Poller, metrics: &Arc<StreamMetrics>) -> Option<Arc<Silence>> {
    let plan = poller.stream.reconcile.as_ref()?.silence?;
    let stream = (&poller.connector.name, &poller.stream.name);
    Some(Arc::new(Silence::new(stream, plan, &poller.bus, &poller.world, metrics)))
}

/// What reads again what a poll has passed.
fn reconciles(poll: &PollRuntime) -> Option<Arc<ReconcileRuntime>> {
    let plan = poll.poller.stream.reconcile.as_ref()?.again.clone()?;
    let metrics = Arc::clone(&poll.metrics);
    Some(Arc::new(ReconcileRuntime::new(poll.poller.clone(), plan, metrics)))
}

/// What runs the polls of a connector, one a stream that has one, scheduled or not.
pub fn pollers(shared: &Shared, plan: &Arc<ConnectorPlan>) -> Vec<Poller> {
    let metrics = shared.metrics.connector(&plan.name);
    let mut source: Option<Arc<Source>> = None;
    let mut pollers = Vec::new();
    for stream in &plan.streams {
        let Some(poll) = &stream.poll else {
            continue;
        };
        let made = || Arc::new(Source::new(&poll.rate).hearing(&shared.told));
        let source = source.get_or_insert_with(made);
        pollers.push(Poller {
            connector: Arc::clone(plan),
            stream: Arc::clone(stream),
            world: shared.world.clone(),
            egress: shared.egress.for_peer(Peer::Source(Arc::clone(&stream.name))),
            auth: Arc::clone(&shared.auth),
            bus: Arc::clone(&shared.bus),
            source: Arc::clone(source),
            tenants: Arc::clone(&shared.tenants),
            skew: Arc::clone(&metrics.stream(&stream.name).poll_clock),
        });
    }
    pollers
}
