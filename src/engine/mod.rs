//! The engine: runs plans as supervised pipelines. It alone spawns tasks.
//!
//! Start-up, reload and shutdown are lists that read top to bottom: [`Engine::start`],
//! [`Engine::reload`], [`Engine::shutdown`]. An event's life after it was acknowledged is
//! `pipeline.rs`; when polls run is `polls.rs`; what happens when something panics is
//! `connector.rs` for a connector and `tasks.rs` for the rest.

pub mod files;

mod backfill;
mod batch;
mod bay;
mod breakers;
mod claims;
mod connector;
mod destination;
mod in_hand;
mod listing;
mod load;
mod login;
mod objectives;
mod pipeline;
mod places;
mod polls;
mod reconcile;
mod reload;
mod replay;
mod rollout;
mod signal;
mod silence;
mod solo;
mod state;
mod status;
mod steering;
mod tasks;
mod watch;

pub use backfill::{BackfillError, BackfillStatus};
pub use login::Login;
pub use reconcile::ReconcileStatus;
pub use replay::{
    Against, DEFAULT_LIMIT, DEFAULT_RATE, FieldChange, ReplayError, ReplayLane, ReplayOutcomes,
    ReplayReport, ReplayRequest, ReplaySource, ReplayStatus,
};
pub use rollout::{
    CanaryStatus, Counts, FailureReport, FieldReport, FieldSample, FlagChange, FlagStatus,
    HaltStatus, KeptVersion, PinStatus, RollbackRequest, RolledBack, RolloutEntry, RolloutStatus,
    ShadowReport,
};
pub use solo::{Solo, SoloParts};
pub use status::{
    ConnectorStatus, DestinationStatus, JobStatus, PartitionStatus, ReloadReport, SkewStatus,
    Status, StreamStatus, WebhookStatus,
};

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::join_all;
use parking_lot::RwLock;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::{
    load::Loader,
    reload::Running,
    rollout::{Rollouts, Versions},
    tasks::{TaskKind, Tasks, blocking},
};
use crate::{
    auth::{Authenticator, Resealed, Vault},
    bus::{Bus, MemoryBus, embedded::EmbeddedBus, embedded::EmbeddedOptions},
    deliver::Tenants,
    egress::{Egress, EgressConfig},
    event::Lane,
    ingest::{
        poll::{Poller, Told},
        webhook::{WebhookLimits, WebhookObserver, WebhookServer},
    },
    observe::{self, Metrics, Outcome, redact, write_poll_holds, write_waiting_jobs},
    plan::{BusKind, Settings},
    world::{Clock, SystemDisk, Timestamp, Turn, World, skew_text},
};

/// What to run.
pub struct EngineOptions {
    /// Folders and files with connectors.
    pub paths: Vec<PathBuf>,
    /// The runtime's settings.
    pub settings: Settings,
    /// Time, chance and secrets.
    pub world: World,
}

/// Why the engine did not start: one or more lines for a person.
#[derive(Debug)]
pub struct StartError(pub String);

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// What all connectors share.
pub(crate) struct Shared {
    world: World,
    bus: Arc<dyn Bus>,
    egress: Egress,
    auth: Arc<Authenticator>,
    metrics: Arc<Metrics>,
    server: Arc<WebhookServer>,
    tasks: Tasks,
    backfills: backfill::Backfills,
    told: Arc<Told>,
    rollouts: Rollouts,
    tenants: Arc<Tenants>,
    in_hand: Arc<in_hand::InHand>,
    replays: replay::Jobs,
    /// How events of replays end.
    ended: Arc<replay::Ended>,
    objectives: objectives::Objectives,
}

impl Shared {
    /// Whether a lane holds events although no stream names its destination any more.
    fn has_backlog(&self, lane: &Lane) -> bool {
        self.bus.backlog().iter().any(|b| b.lane == *lane && b.unsettled > 0)
    }
}

/// A running engine.
pub struct Engine {
    shared: Arc<Shared>,
    loader: Arc<tokio::sync::Mutex<Loader>>,
    running: RwLock<Running>,
    /// Ends ingest: the webhook server and the watcher.
    stop: CancellationToken,
    /// Ends what was attached (the admin API), after the connectors drained.
    stop_services: CancellationToken,
    listen: SocketAddr,
    started_at: Timestamp,
    shutdown_within: Duration,
}

/// What gives requests their credentials; stored tokens are encrypted under the current key when
/// this returns.
async fn authenticator(
    settings: &Settings,
    world: &World,
    egress: &Egress,
    bus: &Arc<dyn Bus>,
) -> Result<Arc<Authenticator>, StartError> {
    let vault = match settings.token_keys.as_slice() {
        [] => None,
        keys => {
            let (secrets, entropy) = (Arc::clone(&world.secrets), Arc::clone(&world.entropy));
            Some(Vault::open(keys.to_vec(), secrets, entropy).map_err(StartError)?)
        }
    };
    let auth = Authenticator::new(world.clone(), egress.clone(), Arc::clone(bus)).sealed_by(vault);
    let done = auth.reseal().await.map_err(|error| StartError(error.to_string()))?;
    let Resealed { written, plain, locked } = done;
    if written > 0 {
        tracing::info!(written, "stored tokens written anew");
    }
    if plain > 0 {
        tracing::warn!(
            plain,
            "stored tokens are not encrypted: [tokens] of tenon.toml names no key"
        );
    }
    if locked > 0 {
        tracing::error!(locked, "stored tokens do not open with the keys of [tokens]");
    }
    Ok(Arc::new(auth))
}

impl Engine {
    /// Opens the state, binds the webhook address, loads and starts all connectors. A connector
    /// that does not compile or start is a problem of its own and does not stop the others.
    pub async fn start(options: EngineOptions) -> Result<Arc<Self>, StartError> {
        let EngineOptions { paths, settings, world } = options;
        let listener = TcpListener::bind(settings.listen)
            .await
            .map_err(|e| StartError(format!("cannot listen on {}: {e}", settings.listen)))?;
        let listen = listener.local_addr().map_err(|e| StartError(e.to_string()))?;
        let bus = open_bus(&settings, &world).await?;
        let egress = Egress::new(EgressConfig {
            allow: settings.egress.allow.clone(),
            idle_per_host: settings.egress.idle_per_host,
        });
        let auth = authenticator(&settings, &world, &egress, &bus).await?;
        let metrics = Arc::new(Metrics::default());
        let tenants = Arc::new(Tenants::new(settings.tenants.clone()));
        let counted = Arc::clone(&metrics.in_hand_bytes);
        let in_hand = in_hand::InHand::new(settings.max_in_hand_bytes, counted);
        let server = WebhookServer::new(
            Arc::clone(&bus),
            world.clone(),
            egress.clone(),
            webhook_limits(&settings, &tenants),
            Arc::new(Observer { metrics: Arc::clone(&metrics), clock: Arc::clone(&world.clock) }),
        );
        let versions = match settings.bus.kind {
            BusKind::Memory => Versions::default(),
            BusKind::Embedded => Versions::Folder(settings.state.join("versions")),
        };
        let started_at = world.clock.now();
        let tasks = Tasks::default();
        let engine = Arc::new(Self {
            shared: Arc::new(Shared {
                world,
                bus,
                egress,
                auth,
                metrics,
                server,
                tasks,
                backfills: backfill::Backfills::default(),
                told: Arc::default(),
                rollouts: Rollouts::keeping(versions),
                tenants,
                in_hand,
                replays: replay::Jobs::default(),
                ended: Arc::default(),
                objectives: objectives::Objectives::default(),
            }),
            loader: Arc::new(tokio::sync::Mutex::new(Loader::new(paths.clone(), settings.lints))),
            running: RwLock::default(),
            stop: CancellationToken::new(),
            stop_services: CancellationToken::new(),
            listen,
            started_at,
            shutdown_within: settings.shutdown,
        });
        engine.look_back().await;
        engine.reload().await;
        engine.resume_replays();
        let server = Arc::clone(&engine.shared.server);
        let stop = engine.stop.clone();
        engine.shared.tasks.spawn(TaskKind::Service, "webhooks", server.serve(listener, stop));
        let sweep = sweep(engine.shared.egress.clone(), engine.stop.clone());
        engine.shared.tasks.spawn(TaskKind::Background, "idle connections", sweep);
        let tallies = tallies(Arc::clone(&engine), engine.stop.clone());
        engine.shared.tasks.spawn(TaskKind::Background, "objectives and replays", tallies);
        let forget = breakers::forget_old(Arc::clone(&engine), engine.stop.clone());
        engine.shared.tasks.spawn(TaskKind::Background, "old breakers", forget);
        if settings.watch {
            let watch = watch::watch(Arc::clone(&engine), paths, engine.stop.clone());
            engine.shared.tasks.spawn(TaskKind::Background, "file watcher", watch);
        }
        Ok(engine)
    }

    /// What a crash left to be counted, and what has long been of no use.
    async fn look_back(self: &Arc<Self>) {
        let engine = Arc::clone(self);
        let now = engine.shared.world.clock.now();
        engine.shared.objectives.forget(&*engine.shared.bus, now).await;
        // Beside the rest: it may read all of history.
        self.shared.tasks.spawn(TaskKind::Background, "outcomes of replays", async move {
            let counted = engine.shared.ended.recount(&engine.shared.bus, engine.started_at).await;
            if let Err(error) = counted {
                tracing::warn!(%error, "the outcomes of replays lack what a crash took");
            }
        });
    }

    /// Runs a service beside the connectors until the token that it gets is cancelled, which
    /// happens near the end of [`Engine::shutdown`].
    pub fn attach<F>(&self, name: &'static str, service: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.shared.tasks.spawn(TaskKind::Service, name, service(self.stop_services.clone()));
    }

    /// Where webhooks are taken.
    pub fn listen_address(&self) -> SocketAddr {
        self.listen
    }

    /// Whether events are taken, and if not, why.
    pub fn ready(&self) -> Result<(), String> {
        if self.stop.is_cancelled() {
            return Err("shutting down".to_owned());
        }
        if let Some(why) = self.shared.tasks.broken() {
            return Err(why);
        }
        self.shared.bus.health().refusing.map_or(Ok(()), Err)
    }

    /// Un-parks a connector's destination or poll of that name, or all of them, and closes their open
    /// breakers. How many were parked or open. Errors: no such connector, or it has nothing of that name.
    pub async fn resume(&self, connector: &str, name: Option<&str>) -> Result<usize, String> {
        let running = self.running.read().connectors.get(connector).cloned();
        let connector = running.ok_or_else(|| format!("no connector named `{connector}` runs"))?;
        let is = |candidate: &Arc<str>| name.is_none_or(|name| name == &**candidate);
        let destinations = connector.destinations.iter().map(|at| &at.plan.name);
        let streams = connector.polls.iter().map(|poll| &poll.poller.stream.name);
        if let Some(name) = name
            && !destinations.chain(streams).any(is)
        {
            let connector = &connector.plan.name;
            return Err(format!("`{connector}` has no destination or polled stream `{name}`"));
        }
        let mut resumed = 0;
        for destination in connector.destinations.iter().filter(|at| is(&at.plan.name)) {
            resumed +=
                usize::from(destination.resume("a person said so")) + destination.reset().await;
        }
        let polls = connector.polls.iter();
        let polls = polls.filter(|poll| is(&poll.poller.stream.name) && poll.resume()).count();
        Ok(resumed + polls)
    }

    /// The bus.
    pub fn bus(&self) -> &Arc<dyn Bus> {
        &self.shared.bus
    }

    /// What time it is for this engine.
    pub fn now(&self) -> Timestamp {
        self.shared.world.clock.now()
    }

    /// Everything for Prometheus.
    pub fn metrics_text(&self) -> String {
        let bus = &self.shared.bus;
        let mut text = self.shared.metrics.render(&bus.health(), &bus.backlog(), self.now());
        let running = self.running.read();
        let polls = running.connectors.values().flat_map(|connector| &connector.polls);
        let holds = polls.map(|poll| {
            let Poller { connector, stream, .. } = &poll.poller;
            (connector.name.clone(), stream.name.clone(), poll.view().held.is_some())
        });
        write_poll_holds(&mut text, holds);
        let polls = running.connectors.values().flat_map(|connector| &connector.polls);
        let jobs = polls.filter_map(|poll| {
            let Poller { connector, stream, .. } = &poll.poller;
            let age = self.now().since(poll.waiting()?.since);
            Some((connector.name.clone(), stream.name.clone(), age.as_secs_f64()))
        });
        write_waiting_jobs(&mut text, jobs);
        let kept = running.connectors.iter().filter_map(|(name, connector)| {
            let plan = connector.plan.slo.as_deref()?;
            Some((name.to_string(), self.shared.objectives.kept(name, plan, self.now())))
        });
        observe::slo::render(&mut text, &kept.collect::<Vec<_>>());
        text.push_str(&self.rollout_metrics());
        text
    }

    /// Field paths of a stream's raw records that views mask, see [`redact::raw_fields`]; `None`
    /// where no such stream runs.
    pub fn redactions(&self, connector: &str, stream: &str) -> Option<Vec<String>> {
        let running = self.running.read();
        let connector = running.connectors.get(connector)?;
        let stream = connector.plan.streams.iter().find(|s| &*s.name == stream)?;
        Some(redact::raw_fields(stream))
    }

    /// Stops in order under the deadline of the settings. Names who was late; what they had in hand
    /// is in the bus and comes again at the next start.
    pub async fn shutdown(&self) -> Vec<String> {
        tracing::info!("shutting down: ingest");
        self.stop.cancel();
        self.shared.replays.stop();
        // A reload in hand would start connectors behind our back; the next ones see the stop.
        let _no_reload = tokio::time::timeout(self.shutdown_within, self.loader.lock()).await;
        tracing::info!("shutting down: connectors");
        let connectors: Vec<_> = self.running.read().connectors.values().cloned().collect();
        let within = self.shutdown_within.mul_f64(0.7);
        let mut late: Vec<String> = join_all(connectors.iter().map(|connector| async {
            let name = format!("connector {}", connector.plan.name);
            (!connector.drain(within).await).then_some(name)
        }))
        .await
        .into_iter()
        .flatten()
        .collect();
        tracing::info!("shutting down: services");
        self.stop_services.cancel();
        late.extend(self.shared.tasks.finish(self.shutdown_within.mul_f64(0.2)).await);
        tracing::info!("shutting down: bus");
        self.tally().await;
        self.shared.objectives.keep(&*self.shared.bus).await;
        self.shared.ended.close(&*self.shared.bus).await;
        self.shared.bus.close().await;
        tracing::info!(?late, "stopped");
        late
    }
}

impl Engine {
    /// Takes in what pipelines counted.
    async fn tally(&self) {
        let now = self.now();
        {
            let running = self.running.read();
            let promised = running
                .connectors
                .iter()
                .filter_map(|(name, connector)| Some((name, connector.plan.slo.as_deref()?)));
            self.shared.objectives.look(promised, now);
        }
        self.shared.objectives.keep_in_time(&*self.shared.bus, now).await;
    }
}

/// Judges objectives, and keeps how the events of replays end, every few seconds.
async fn tallies(engine: Arc<Engine>, stop: CancellationToken) {
    const EVERY: Duration = Duration::from_secs(5);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        engine.tally().await;
        if let Err(error) = engine.shared.ended.keep(&*engine.shared.bus).await {
            tracing::warn!(%error, "how replayed events ended is not kept yet");
        }
    }
}

/// Closes connections that nobody used for long, also while nothing is sent.
async fn sweep(egress: Egress, stop: CancellationToken) {
    const EVERY: Duration = Duration::from_secs(30);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => egress.close_idle(),
        }
    }
}

async fn open_bus(settings: &Settings, world: &World) -> Result<Arc<dyn Bus>, StartError> {
    match settings.bus.kind {
        BusKind::Memory => Ok(MemoryBus::new(Arc::clone(&world.clock))),
        BusKind::Embedded => {
            let options = EmbeddedOptions {
                folder: settings.state.clone(),
                settings: settings.bus.clone(),
                clock: Arc::clone(&world.clock),
                disk: Arc::new(SystemDisk),
            };
            match blocking(|| EmbeddedBus::open(options)).await {
                Ok(bus) => Ok(bus),
                Err(error) => Err(StartError(error.to_string())),
            }
        }
    }
}

fn webhook_limits(settings: &Settings, tenants: &Arc<Tenants>) -> WebhookLimits {
    let webhook = &settings.webhook;
    WebhookLimits {
        header_timeout: webhook.header_timeout,
        body_timeout: webhook.body_timeout,
        max_header_bytes: webhook.max_header_bytes,
        max_json_depth: webhook.max_json_depth,
        max_connections: webhook.max_connections,
        max_in_flight_bytes: webhook.max_in_flight_bytes,
        tenants: Arc::clone(tenants),
        public_url: settings.public_url.clone(),
    }
}

/// Counts what the webhook server did.
struct Observer {
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
}

impl WebhookObserver for Observer {
    fn counted(&self, connector: &str, stream: &str, outcome: &'static str, count: u64) {
        let Some(outcome) = Outcome::from_word(outcome) else {
            self.metrics.not_found.fetch_add(count, std::sync::atomic::Ordering::Relaxed);
            return;
        };
        let stream = self.metrics.connector(connector).stream(stream);
        stream.count(outcome, count);
        if matches!(outcome, Outcome::Accepted | Outcome::Duplicate) {
            stream.ears.hear(self.clock.now());
        }
    }

    fn signed(
        &self,
        connector: &str,
        stream: &str,
        theirs: Timestamp,
        now: Timestamp,
        refused: bool,
    ) {
        let metrics = self.metrics.connector(connector).stream(stream);
        let skew = &metrics.webhook_clock;
        let turn = if refused { skew.note_refused(theirs, now) } else { skew.note(theirs, now) };
        match turn {
            Some(Turn::Off(millis)) => {
                let (skew_seconds, skew) = (millis / 1000, skew_text(millis));
                tracing::warn!(
                    connector,
                    stream,
                    skew_seconds,
                    "the clock of whoever signs the webhooks is {skew}, or ours is wrong"
                );
            }
            Some(Turn::Right(_)) => {
                tracing::info!(
                    connector,
                    stream,
                    "the clock of whoever signs the webhooks is right"
                );
            }
            None => {}
        }
    }

    fn acknowledged(&self, took: Duration) {
        self.metrics.acknowledge.observe(took);
    }
}
