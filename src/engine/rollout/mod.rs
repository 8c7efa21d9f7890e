//! Rollout: trying a change of a connector beside the one that runs, and taking a change back.
//!
//! A *variant* (a shadow or a canary) is a connector whose file names its original with `of`. It takes
//! no events in: each event lives in its original's lane, with the original's id, claim, cursor and
//! idempotency key, and at each attempt the lane asks its [`Slot`] who maps and delivers it. So a share
//! can grow, shrink or be taken back at any moment, and nothing has to be moved.
//!
//! What was decided at run time (flags, halts, pinned versions) is in the [`ledger`]; what is compared
//! in [`report`]; whether a canary does worse in [`judge`].

mod canary;
mod compare;
mod flags;
mod judge;
mod ledger;
mod report;
mod rollback;
mod shadow;
mod share;
mod status;
mod versions;

pub use flags::{FlagChange, FlagStatus};
pub use judge::Counts;
pub use ledger::Entry as RolloutEntry;
pub use report::{FailureReport, FieldReport, FieldSample, ShadowReport};
pub use rollback::{RollbackRequest, RolledBack};
pub use status::{CanaryStatus, HaltStatus, PinStatus, RolloutStatus};
pub use versions::KeptVersion;

pub(super) use ledger::Ledger;
pub(super) use versions::{CompiledFrom, Versions};

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arc_swap::ArcSwapOption;
use parking_lot::{Mutex, RwLock};
use serde_json::Value;

use self::{
    canary::{Canary, InHand},
    judge::{Cause, Ended, Side},
    shadow::{Copied, Shadow},
};
use super::{Engine, Shared, bay::Bay, connector::Connector, destination::DestinationRuntime};
use crate::{
    bus::Delivery,
    deliver::{Change, Next, Outcome},
    event::{Event, Lane, Record},
    map::Env,
    plan::{ConnectorPlan, RolloutMode, StreamPlan},
    world::Timestamp,
};

/// What the engine knows of rollouts.
#[derive(Default)]
pub struct Rollouts {
    slots: RwLock<BTreeMap<Arc<str>, Arc<Slot>>>,
    /// Held by whoever changes what was decided, so that decisions follow each other.
    writing: tokio::sync::Mutex<()>,
    /// Connectors that may run what their files say again, at the next reload.
    unpinned: Mutex<BTreeSet<String>>,
    pub(super) versions: Versions,
    /// When it was last looked for versions of connectors that are gone.
    forgot_at: Mutex<Timestamp>,
}

impl Rollouts {
    /// Keeps versions there.
    pub fn keeping(versions: Versions) -> Self {
        Self { versions, ..Self::default() }
    }

    /// Where a connector's lanes ask; made where there is none yet.
    pub fn slot(&self, connector: &Arc<str>) -> Arc<Slot> {
        if let Some(known) = self.slots.read().get(connector) {
            return Arc::clone(known);
        }
        Arc::clone(self.slots.write().entry(Arc::clone(connector)).or_default())
    }
}

/// The variants of one connector at present, read by its lanes without a lock.
#[derive(Default)]
pub struct Slot(ArcSwapOption<Variants>);

#[derive(Default)]
struct Variants {
    canary: Option<Arc<Canary>>,
    shadows: Vec<Arc<Shadow>>,
}

/// What a connector is beside another one.
#[derive(Clone)]
pub enum Variant {
    Canary(Arc<Canary>),
    Shadow(Arc<Shadow>),
}

impl Variant {
    /// What the mode makes of a connector; nothing where it has no original.
    pub fn of(
        shared: &Shared,
        plan: &Arc<ConnectorPlan>,
        mode: RolloutMode,
        destinations: &[Arc<DestinationRuntime>],
        env: Env,
    ) -> Option<Self> {
        let of = plan.rollout.of.as_ref()?;
        match mode {
            RolloutMode::Canary => {
                let ledger = Ledger::read(&*shared.bus);
                Some(Self::Canary(Canary::new(plan, of, destinations, env, &ledger)))
            }
            RolloutMode::Shadow => Some(Self::Shadow(Shadow::new(plan, &*shared.bus))),
            RolloutMode::Live | RolloutMode::Off => None,
        }
    }
}

/// Who lives an event for one attempt: its own connector, or the canary that has its key.
pub struct Route {
    /// The canary that is judged by this attempt, whoever makes it.
    judged: Option<Arc<Canary>>,
    /// The canary makes it.
    by: Option<InHand>,
}

impl Slot {
    /// Decides for one attempt.
    pub fn route(&self, lane: &Lane, own: &DestinationRuntime, event: &Event) -> Route {
        let variants = self.0.load();
        let canary = variants.as_ref().and_then(|variants| variants.canary.as_ref());
        let matched =
            canary.and_then(|it| Some((it, it.matches(&lane.stream, &lane.destination)?)));
        match matched {
            None => Route { judged: None, by: None },
            Some((canary, stream)) => Route {
                judged: Some(Arc::clone(canary)),
                by: canary.take(event, stream, &own.plan),
            },
        }
    }

    /// The stream and the variables by which a canary would map an event at its next attempt. Only looks.
    pub fn mapped_by(&self, lane: &Lane, event: &Event) -> Option<(Arc<StreamPlan>, Arc<Value>)> {
        let variants = self.0.load();
        let canary = variants.as_ref()?.canary.as_ref()?;
        let stream = canary.matches(&lane.stream, &lane.destination)?;
        canary.has(event).then(|| (Arc::clone(stream), Arc::clone(&canary.plan.vars)))
    }

    /// Gives shadows a copy of an event that its own connector has just mapped: on the first attempt,
    /// and for one of its destinations only.
    pub fn copy(
        &self,
        route: &Route,
        stream: &Arc<StreamPlan>,
        lane: &Lane,
        delivery: &Delivery,
        mapped: &Result<Record, (&'static str, String)>,
        now: Timestamp,
    ) {
        let variants = self.0.load();
        let Some(variants) = variants.as_ref().filter(|it| !it.shadows.is_empty()) else { return };
        let is_first = delivery.attempts == 0 && stream.to.first() == Some(&lane.destination);
        if !is_first || route.by.is_some() {
            return;
        }
        for shadow in &variants.shadows {
            shadow.copy(delivery.seq.0, now, || Copied {
                event: Arc::clone(&delivery.event),
                stream: Arc::clone(stream),
                original: mapped.clone(),
            });
        }
    }
}

impl Route {
    /// The stream whose map and schema are used.
    pub fn stream<'r>(&'r self, own: &'r Arc<StreamPlan>) -> &'r Arc<StreamPlan> {
        self.by.as_ref().map_or(own, |by| &by.stream)
    }

    /// With its original's destination: what goes out together goes to one.
    pub fn together(mut self) -> Self {
        if let Some(by) = &mut self.by {
            by.destination = None;
        }
        self
    }

    /// What expressions see as `vars`.
    pub fn vars<'r>(&'r self, own: &'r ConnectorPlan) -> &'r Arc<Value> {
        self.by.as_ref().map_or(&own.vars, |by| &by.canary.plan.vars)
    }

    /// What expressions of the destination see.
    pub fn env<'r>(&'r self, own: &'r Env) -> &'r Env {
        self.by.as_ref().map_or(own, |by| by.canary.env())
    }

    /// The destination that is asked.
    pub fn destination<'r>(
        &'r self,
        own: &'r Arc<DestinationRuntime>,
    ) -> &'r Arc<DestinationRuntime> {
        self.by.as_ref().and_then(|by| by.destination.as_ref()).unwrap_or(own)
    }

    /// Where breaker and limits of the attempt are.
    pub fn bay(&self, own: &Arc<Bay>, delivery: &Delivery) -> Arc<Bay> {
        let canary = self.by.as_ref().and_then(|by| by.destination.as_ref());
        let tenant = delivery.event.tenant.as_deref();
        canary.map_or_else(|| Arc::clone(own), |canary| canary.bay(tenant))
    }

    /// A breaker that opens for the canary keeps its keys waiting, and too few attempts would come to
    /// judge it by: what there are decide.
    pub fn tripped(&self, change: &Change, now: Timestamp) {
        let by = self.by.as_ref().filter(|by| by.destination.is_some());
        if let (Some(by), Change::Opened(_)) = (by, change) {
            by.canary.tripped(now);
        }
    }

    /// The canary that makes the attempt.
    pub fn variant(&self) -> Option<&Arc<str>> {
        self.by.as_ref().map(|by| &by.canary.plan.name)
    }

    /// What the canary's own rate does not allow yet; the original's is the lane's business.
    pub fn refused(&self, now: Timestamp) -> Option<Outcome> {
        let own = self.by.as_ref()?.destination.as_ref()?;
        let at = own.limiter.take(now).err()?;
        let message = "the canary's rate is spent".to_owned();
        Some(Outcome::Deferred { message, retry_after: Some(at.since(now)) })
    }

    /// What the canary wrote to a file of its own is synced at once: the lane syncs the original's.
    pub async fn synced(&self, outcome: Outcome) -> Outcome {
        let own = self.by.as_ref().and_then(|by| by.destination.as_ref());
        let (Some(own), Outcome::Delivered { .. }) = (own, &outcome) else { return outcome };
        match own.open.sync().await {
            Ok(()) => outcome,
            Err(message) => {
                Outcome::Retry { status: None, message, retry_after: None, limit: None }
            }
        }
    }

    /// Counts the attempt. An event that a canary would bury or hold, and that is stopped by now, goes
    /// on through its original instead.
    pub fn judged(&self, next: Next, received_at: Timestamp, now: Timestamp) -> Next {
        let Some(canary) = &self.judged else { return next };
        let side = if self.by.is_some() { Side::Canary } else { Side::Original };
        let ended = match &next {
            Next::Settle { .. } => Ended::Delivered(now.since(received_at)),
            Next::Retry { .. } => Ended::Failed,
            Next::Bury { .. } => Ended::Dead,
            Next::Hold { message } => {
                // Parking a canary's destination would keep its keys from everybody.
                if side == Side::Canary {
                    canary.stop(now, Cause::Held(message.clone()));
                    return Next::Defer { due: now };
                }
                return next;
            }
            Next::Defer { .. } | Next::Supersede => return next,
        };
        let is_halted = canary.count(now, side, ended);
        match next {
            Next::Bury { .. } if is_halted && side == Side::Canary => Next::Defer { due: now },
            next => next,
        }
    }
}

impl Engine {
    /// Makes the lanes see the variants that run, with what was decided of them.
    pub(super) async fn publish_rollouts(&self) {
        let rollouts = &self.shared.rollouts;
        let _one_at_a_time = rollouts.writing.lock().await;
        let ledger = Ledger::read(&*self.shared.bus);
        self.publish(&ledger);
    }

    /// The same for whoever holds the lock.
    fn publish(&self, ledger: &Ledger) {
        let running: Vec<(Arc<Connector>, Arc<Connector>)> = {
            let all = &self.running.read().connectors;
            let variants = all.values().filter(|connector| connector.variant.is_some());
            let originals = variants.filter_map(|connector| {
                let original = all.get(connector.plan.rollout.of.as_ref()?)?;
                Some((Arc::clone(connector), Arc::clone(original)))
            });
            originals.collect()
        };
        let now = self.shared.world.clock.now();
        let mut by_original: BTreeMap<&str, Variants> = BTreeMap::new();
        for (connector, original) in &running {
            let Some(variant) = &connector.variant else { continue };
            let of = &original.plan.name;
            let variants = by_original.entry(of).or_default();
            match variant {
                Variant::Canary(canary) => {
                    let (share, _) = ledger.share(&connector.plan);
                    let is_halted = ledger.halt(&connector.plan).is_some();
                    canary.set(share, is_halted, original.plan.slo.as_deref());
                    variants.canary.get_or_insert_with(|| Arc::clone(canary));
                }
                Variant::Shadow(shadow) => {
                    shadow.set(&original.plan, now);
                    variants.shadows.push(Arc::clone(shadow));
                }
            }
        }
        let slots: Vec<_> = {
            let mut slots = self.shared.rollouts.slots.write();
            slots.retain(|name, slot| {
                Arc::strong_count(slot) > 1 || by_original.contains_key(&**name)
            });
            let has_any = slots.iter().filter(|(_, slot)| slot.0.load().is_some());
            has_any.map(|(name, slot)| (Arc::clone(name), Arc::clone(slot))).collect()
        };
        for (name, slot) in slots {
            slot.0.store(by_original.remove(&*name).map(Arc::new));
        }
        for (name, variants) in by_original {
            self.shared.rollouts.slot(&Arc::from(name)).0.store(Some(Arc::new(variants)));
        }
    }
}
