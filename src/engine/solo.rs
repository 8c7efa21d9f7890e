//! One connector by itself, on parts that somebody else made: no listener, no files, no schedule.
//!
//! Everything between the edge and the destinations is what [`Engine`](super::Engine) runs, so a
//! test that passes here says something about the daemon. What is left out is what would make two
//! runs differ: sockets, and polls that begin by themselves.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;

use super::{
    Shared,
    connector::{Connector, pollers},
    in_hand::InHand,
    tasks::Tasks,
    webhook_limits,
};
use crate::{
    auth::Authenticator,
    bus::Bus,
    deliver::Tenants,
    egress::{Egress, Peer},
    ingest::{
        poll::{
            Pass, PollFailure, PollReport, Poller, Source, reconciliation, reconciliation_range,
        },
        webhook::{WebhookObserver, WebhookServer},
    },
    observe::Metrics,
    plan::{ConnectorPlan, RolloutMode, Settings, StreamPlan},
    world::World,
};

/// What a connector runs on.
#[derive(Clone)]
pub struct SoloParts {
    /// Time, chance and secrets.
    pub world: World,
    /// Outlives the connector: what is in it is there at the next start.
    pub bus: Arc<dyn Bus>,
    /// Who answers polls, token requests and deliveries.
    pub egress: Egress,
    /// Hears what happened to webhooks.
    pub observer: Arc<dyn WebhookObserver>,
}

/// A connector at work.
pub struct Solo {
    connector: Arc<Connector>,
    server: Arc<WebhookServer>,
    pollers: BTreeMap<Arc<str>, Poller>,
}

impl Solo {
    /// Starts the connector: its lanes deliver, its endpoints take webhooks, and its polls run when
    /// told to. Needs a tokio runtime. Errors: a destination that does not open, an unset secret.
    pub fn start(plan: &ConnectorPlan, parts: SoloParts) -> Result<Self, String> {
        let SoloParts { world, bus, egress, observer } = parts;
        let plan = Arc::new(unscheduled(plan));
        let issuer = egress.for_peer(Peer::Issuer);
        let auth = Arc::new(Authenticator::new(world.clone(), issuer, Arc::clone(&bus)));
        let settings = Settings::default();
        let tenants = Arc::new(Tenants::default());
        let limits = webhook_limits(&settings, &tenants);
        let server = WebhookServer::new(
            Arc::clone(&bus),
            world.clone(),
            egress.for_peer(Peer::Keys),
            limits,
            observer,
        );
        let metrics = Arc::new(Metrics::default());
        let tasks = Tasks::default();
        let backfills = super::backfill::Backfills::default();
        let told = Arc::default();
        let in_hand = InHand::new(settings.max_in_hand_bytes, Arc::clone(&metrics.in_hand_bytes));
        let shared = Shared {
            world,
            bus,
            egress,
            auth,
            metrics,
            server,
            tasks,
            backfills,
            told,
            tenants,
            in_hand,
            replays: super::replay::Jobs::default(),
            ended: Arc::default(),
            objectives: super::objectives::Objectives::default(),
            rollouts: super::rollout::Rollouts::default(),
        };
        // A test shows what the file does, wherever it is tried first.
        let connector = Connector::build(&shared, &plan, 1, RolloutMode::Live, None)?;
        let routes = shared.server.change_routes(&[], &[Arc::clone(&plan)]);
        routes.map_err(|conflicts| conflicts.join("; "))?;
        let mut pollers = pollers(&shared, &plan);
        // Its peers answer one request after the other.
        let rates = pollers.first().and_then(|poller| poller.stream.poll.as_deref());
        let rates = rates.map(|poll| poll.rate.as_slice()).unwrap_or_default();
        let source = Arc::new(Source::new(rates).in_order());
        for poller in &mut pollers {
            poller.source = Arc::clone(&source);
        }
        let shared = Arc::new(shared);
        connector.start(&shared);
        Ok(Self {
            connector,
            server: Arc::clone(&shared.server),
            pollers: pollers.into_iter().map(|p| (Arc::clone(&p.stream.name), p)).collect(),
        })
    }

    /// Takes a webhook in, as the server would that had read it.
    pub async fn webhook(&self, request: Request<Full<Bytes>>) -> Response<Full<Bytes>> {
        self.server.handle(request, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Runs a stream's poll once, now. `None`: the stream does not poll.
    pub async fn poll(
        &self,
        stream: &str,
    ) -> Option<Result<PollReport, (PollReport, PollFailure)>> {
        let poller = self.pollers.get(stream)?;
        if let Err(ended) = self.read_parents(poller).await {
            return Some(Err(ended));
        }
        Some(poller.run(&|_| {}).await)
    }

    /// Reads again what a stream's poll has passed, once, now, as `[schedule.reconcile]` says how far
    /// back. `None`: the stream has nothing to read again.
    pub async fn reconcile(
        &self,
        stream: &str,
    ) -> Option<Result<PollReport, (PollReport, PollFailure)>> {
        let live = self.pollers.get(stream)?;
        let reach = live.stream.reconcile.as_ref()?.again.as_ref()?.reach;
        let now = live.world.clock.now();
        let range = reconciliation_range(live, reach, now)?;
        let failed = |problem| (PollReport::default(), PollFailure::Failed(problem));
        let (poller, aside) = match reconciliation(live, &range, now) {
            Ok(found) => found,
            Err(problem) => return Some(Err(failed(problem))),
        };
        let ended = poller.run_as(Pass::Again, &|_| {}).await;
        match (ended, aside.clear().await) {
            (Ok(_), Err(error)) => Some(Err(failed(error.to_string()))),
            (ended, _) => Some(ended),
        }
    }

    /// Parents that were never read are due before their children.
    async fn read_parents(&self, poller: &Poller) -> Result<(), (PollReport, PollFailure)> {
        for name in poller.parents() {
            let Some(parent) = self.pollers.get(&name) else { continue };
            if parent.journey().is_none_or(|journey| journey.finished.is_none()) {
                Box::pin(self.read_parents(parent)).await?;
                parent.run(&|_| {}).await?;
            }
        }
        Ok(())
    }

    /// The destinations that are parked, and why.
    pub fn held(&self) -> Vec<(Arc<str>, Arc<str>)> {
        let all = self.connector.destinations.iter();
        all.filter_map(|at| Some((Arc::clone(&at.plan.name), at.held()?))).collect()
    }

    /// Ends it as a killed process ends: what was in hand is dropped, the bus keeps what it has.
    pub async fn kill(self) {
        self.connector.drain(Duration::ZERO).await;
    }
}

fn unscheduled(plan: &ConnectorPlan) -> ConnectorPlan {
    let stream =
        |stream: &Arc<StreamPlan>| Arc::new(StreamPlan { schedule: None, ..(**stream).clone() });
    ConnectorPlan { streams: plan.streams.iter().map(stream).collect(), ..plan.clone() }
}
