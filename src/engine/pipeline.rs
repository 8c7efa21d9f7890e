//! One event's life after it was acknowledged, top to bottom: take → superseded? → map → schema →
//! limit → attempt → decide → settle.
//!
//! A [`Lane`](crate::event::Lane) has one loop. The loop leases events from the bus, lives each in
//! a future of its own up to the destination's concurrency, and settles them in groups: what was
//! written to a file is synced once for all that came together. Nothing here spawns, so dropping
//! the loop drops everything in hand, and the leases go back to the bus.
//!
//! Each tenant has a [`Bay`] at a destination. What the bay learns (a breaker opened, more attempts at
//! once are possible) steers what the bus hands out, so what cannot be attempted is not in hand.

use std::{collections::VecDeque, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio_util::sync::CancellationToken;

use super::{
    batch,
    bay::{Bay, End},
    destination::DestinationRuntime,
    in_hand::InHand,
    objectives::Objective,
    replay::Ended,
    rollout::{Route, Slot},
    steering::Steering,
    tasks::panic_message,
};
use crate::{
    bus::{Bus, DeadLetter, Delivery, LaneId, LaneOptions, Seq, Settlement, Steer, document_hash},
    deliver::{self, Attempted, Next, Outcome, Sign, Tenants},
    event::{Event, Lane, Record, Replayed},
    map::Env,
    observe::{Outcome as Counted, StreamMetrics},
    plan::{ConnectorPlan, StreamPlan},
    world::{Timestamp, World},
};

/// How long an event waits where neither the destination nor the clock can say.
const PAUSE: Duration = Duration::from_secs(5);

/// So many events are written to a file before others may run.
const AT_ONCE: usize = 256;

/// What one lane's loop works with.
pub struct LaneContext {
    pub lane: Lane,
    pub connector: Arc<ConnectorPlan>,
    pub stream: Arc<StreamPlan>,
    pub destination: Arc<DestinationRuntime>,
    pub bus: Arc<dyn Bus>,
    pub world: World,
    pub metrics: Arc<StreamMetrics>,
    pub tenants: Arc<Tenants>,
    pub in_hand: Arc<InHand>,
    /// `vars` and `secret`.
    pub env: Env,
    /// Who maps and delivers each event: this connector, or a canary of it.
    pub rollout: Arc<Slot>,
    /// What `[slo]` promises, where it does.
    pub objective: Option<Arc<Objective>>,
    /// Who is told how the events of replays end.
    pub replays: Arc<Ended>,
}

impl LaneContext {
    /// An event's way to the destination ended: what that counts for besides the counters. A replay's
    /// copy counts for its replay, and for nothing that was promised: its original did.
    pub(super) fn ended(
        &self,
        settlement: &Settlement,
        replayed: Option<Replayed>,
        took: Duration,
    ) {
        match (replayed, &self.objective, &self.connector.slo) {
            (Some(replayed), _, _) => {
                self.metrics.replay_ended(settlement);
                self.replays.count(replayed.by, settlement);
            }
            (None, Some(objective), Some(plan)) => objective.ended(plan, settlement, took),
            _ => {}
        }
    }
}

/// How one event's time in hand ended.
struct Lived {
    seq: Seq,
    settlement: Settlement,
    received_at: Timestamp,
    replayed: Option<Replayed>,
    /// Whose it was, and how that tenant's events shall be handed out from now on.
    bay: Arc<Bay>,
    steer: Steer,
    /// What it took while it was in hand.
    bytes: usize,
}

/// A leased event that was not begun yet.
struct Waiting {
    delivery: Delivery,
    /// It has spent of its tenant's budget.
    paid: bool,
}

/// Runs a lane until `stop`; then takes no more and lets what is in hand end.
///
/// Most lanes wait most of the time, so a lane that waits is small: what it takes to live events is
/// made when there are some.
pub async fn run(context: Arc<LaneContext>, stop: CancellationToken) {
    if context.destination.plan.batch.is_some() {
        // On the heap: most lanes send single events.
        return Box::pin(batch::lane::run(context, stop)).await;
    }
    let order = context.destination.plan.order;
    let id = context
        .bus
        .open(&context.lane, LaneOptions { order, window: context.destination.window() });
    context.destination.serves(id);
    let mut steering = Steering::default();
    while let Some(taken) = stop.run_until_cancelled(next(&context, id)).await {
        Box::pin(LaneLoop::new(&context, id, taken, &mut steering).run(&stop)).await;
    }
}

/// Leases what is due, once something is and the destination is not parked.
async fn next(context: &LaneContext, id: LaneId) -> Vec<Delivery> {
    context.destination.resumed().await;
    context.in_hand.room().await;
    context.bus.take(id, context.destination.window()).await
}

struct LaneLoop<'a> {
    context: Arc<LaneContext>,
    id: LaneId,
    /// Most events in hand at once.
    window: usize,
    /// Leased, not begun: the rate does not allow it yet.
    waiting: VecDeque<Waiting>,
    in_hand: FuturesUnordered<BoxFuture<'static, Lived>>,
    /// Lived, to be settled with the next group.
    ended: Vec<Lived>,
    /// The group that is being settled, and how many it has: while a file is synced, the next
    /// events are mapped and written.
    settling: Option<(BoxFuture<'static, ()>, usize)>,
    /// When the rate allows the next one.
    not_before: Option<Timestamp>,
    /// How the bus was told to hand out each tenant's events.
    steering: &'a mut Steering,
    /// Bytes of all that is in hand.
    held_bytes: usize,
}

impl<'a> LaneLoop<'a> {
    fn new(
        context: &Arc<LaneContext>,
        id: LaneId,
        taken: Vec<Delivery>,
        steering: &'a mut Steering,
    ) -> Self {
        Self {
            context: Arc::clone(context),
            id,
            window: context.destination.window(),
            waiting: taken.into_iter().map(Waiting::new).collect(),
            in_hand: FuturesUnordered::new(),
            ended: Vec::new(),
            settling: None,
            not_before: None,
            steering,
            held_bytes: 0,
        }
    }

    /// Goes on until nothing is in hand any more, or until `stop`.
    async fn run(mut self, stop: &CancellationToken) {
        while !stop.is_cancelled() && !self.is_idle() {
            self.turn(stop).await;
        }
        self.give_back();
        self.finish().await;
    }

    fn is_idle(&self) -> bool {
        let lives = self.in_hand.len() + self.waiting.len() + self.ended.len();
        lives == 0 && self.settling.is_none()
    }

    /// Waits for the next thing to happen and does it.
    async fn turn(&mut self, stop: &CancellationToken) {
        if self.context.destination.is_held() {
            self.give_back();
        }
        let is_more = self.begin_what_may_begin();
        self.begin_to_settle();
        if self.is_idle() {
            return;
        }
        let context = Arc::clone(&self.context);
        let held = context.destination.is_held();
        let settling = self.settling.as_ref().map_or(0, |(_, events)| *events);
        let room = self.window.saturating_sub(self.in_hand.len() + self.ended.len() + settling);
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            Some(lived) = self.in_hand.next(), if !self.in_hand.is_empty() => {
                self.end(lived);
                while let Some(Some(lived)) = self.in_hand.next().now_or_never() {
                    self.end(lived);
                }
            }
            () = settled(&mut self.settling) => {}
            () = context.destination.resumed(), if held => {}
            () = wait_until(&context.world, self.not_before), if self.not_before.is_some() => {
                self.not_before = None;
            }
            taken = take(&context, self.id, room), if !held && room > 0 && self.waiting.is_empty() => {
                self.waiting.extend(taken.into_iter().map(Waiting::new));
            }
            () = tokio::task::yield_now(), if is_more => {}
        }
        // At once: a lane that has nothing more in hand is to wait as a small one.
        self.begin_to_settle();
    }

    /// Notes that an event's time in hand is over, and steers by what its bay has learned.
    fn end(&mut self, lived: Lived) {
        self.context.in_hand.remove(lived.bytes);
        self.held_bytes -= lived.bytes;
        let now = self.context.world.clock.now();
        self.steering.tell(&*self.context.bus, self.id, &lived.bay, lived.steer, now);
        self.ended.push(lived);
    }

    /// Starts the lives of leased events as far as their tenants' budgets and the rate allow. Whether
    /// there are more that only had to make way for others.
    fn begin_what_may_begin(&mut self) -> bool {
        let context = Arc::clone(&self.context);
        let is_immediate = context.destination.is_immediate();
        for _ in 0..AT_ONCE {
            let (None, Some(waiting)) = (self.not_before, self.waiting.front_mut()) else {
                return false;
            };
            let now = context.world.clock.now();
            let tenant = waiting.delivery.event.tenant.as_deref().filter(|_| !waiting.paid);
            if let Some(due) = tenant.and_then(|it| context.tenants.deliver(it, now).err()) {
                self.put_off(due);
                continue;
            }
            waiting.paid = true;
            if let Err(at) = context.destination.limiter.take(now) {
                self.not_before = Some(at);
                return false;
            }
            let Some(Waiting { delivery, .. }) = self.waiting.pop_front() else { return false };
            let bytes = InHand::cost(&delivery.event);
            context.in_hand.add(bytes);
            self.held_bytes += bytes;
            let mut life = live(Arc::clone(&context), self.id, delivery).boxed();
            // What asks nobody ends at once, and needs no place among those that wait.
            match if is_immediate { (&mut life).now_or_never() } else { None } {
                Some(lived) => self.end(lived),
                None => self.in_hand.push(life),
            }
        }
        !self.waiting.is_empty()
    }

    /// Gives the first of the waiting back, and takes none of its tenant before `due`.
    fn put_off(&mut self, due: Timestamp) {
        let Some(Waiting { delivery, .. }) = self.waiting.pop_front() else { return };
        let context = &self.context;
        let bay = context.destination.bay(delivery.event.tenant.as_deref());
        let now = context.world.clock.now();
        let steer = bay.steer(now);
        let steer = Steer { not_before: steer.not_before.max(Some(due)), ..steer };
        self.steering.tell(&*context.bus, self.id, &bay, steer, now);
        context.bus.settle(self.id, delivery.seq, Settlement::Defer { due });
    }

    /// Settles what has ended, one group after the other.
    fn begin_to_settle(&mut self) {
        if self.settling.is_some() || self.ended.is_empty() {
            return;
        }
        let group = std::mem::take(&mut self.ended);
        let events = group.len();
        let mut settling = settle(Arc::clone(&self.context), self.id, group).boxed();
        // Only a file makes it wait.
        if (&mut settling).now_or_never().is_none() {
            self.settling = Some((settling, events));
        }
    }

    /// Lets what is in hand end.
    async fn finish(&mut self) {
        loop {
            self.begin_to_settle();
            tokio::select! {
                () = settled(&mut self.settling), if self.settling.is_some() => {}
                Some(lived) = self.in_hand.next(), if !self.in_hand.is_empty() => self.end(lived),
                else => return,
            }
        }
    }

    /// Returns what was leased and not begun.
    fn give_back(&mut self) {
        let due = self.context.world.clock.now();
        for Waiting { delivery, .. } in self.waiting.drain(..) {
            self.context.bus.settle(self.id, delivery.seq, Settlement::Defer { due });
        }
    }
}

impl Waiting {
    fn new(delivery: Delivery) -> Self {
        Self { delivery, paid: false }
    }
}

impl Drop for LaneLoop<'_> {
    /// What is dropped is no longer in hand.
    fn drop(&mut self) {
        self.context.in_hand.remove(self.held_bytes);
    }
}

/// Leases more, once there is room for it.
pub(super) async fn take(context: &LaneContext, id: LaneId, room: usize) -> Vec<Delivery> {
    context.in_hand.room().await;
    context.bus.take(id, room).await
}

/// Completes when the group is settled; never, while there is none.
async fn settled(settling: &mut Option<(BoxFuture<'static, ()>, usize)>) {
    match settling {
        Some((group, _)) => group.await,
        None => std::future::pending().await,
    }
    *settling = None;
}

/// Ends the leases of a group. What was delivered is made durable at the destination first.
async fn settle(context: Arc<LaneContext>, lane: LaneId, group: Vec<Lived>) {
    let delivered = group.iter().any(|l| matches!(l.settlement, Settlement::Delivered { .. }));
    let synced = if delivered { context.destination.open.sync().await } else { Ok(()) };
    let now = context.world.clock.now();
    for Lived { seq, mut settlement, received_at, replayed, .. } in group {
        match (&settlement, &synced) {
            (Settlement::Delivered { .. }, Err(error)) => {
                tracing::warn!(lane = %context.lane, error, "delivery could not be synced");
                settlement = Settlement::Defer { due: now.plus(PAUSE) };
            }
            (Settlement::Delivered { .. }, Ok(())) => {
                context.metrics.count(Counted::Delivered, 1);
                if replayed.is_none() {
                    context.destination.metrics.latency.observe(now.since(received_at));
                }
            }
            (Settlement::Superseded { .. }, _) => context.metrics.count(Counted::Superseded, 1),
            (Settlement::Dead { .. }, _) => context.metrics.count(Counted::Dead, 1),
            _ => {}
        }
        context.ended(&settlement, replayed, now.since(received_at));
        context.bus.settle(lane, seq, settlement);
    }
}

pub(super) async fn wait_until(world: &World, at: Option<Timestamp>) {
    if let Some(at) = at {
        world.clock.sleep_until(at).await;
    }
}

/// One event, one lane, one time in hand.
async fn live(context: Arc<LaneContext>, lane: LaneId, delivery: Delivery) -> Lived {
    let (seq, received_at) = (delivery.seq, delivery.event.received_at);
    let bay = context.destination.bay(delivery.event.tenant.as_deref());
    let settlement = match superseded(&context, lane, &delivery) {
        Some(settlement) => settlement,
        None => attempted(&context, &bay, &delivery).await,
    };
    let steer = bay.steer(context.world.clock.now());
    let (bytes, replayed) = (InHand::cost(&delivery.event), delivery.event.replayed);
    Lived { seq, settlement, received_at, replayed, bay, steer, bytes }
}

/// Where a newer revision was delivered before.
pub(super) fn superseded(
    context: &LaneContext,
    lane: LaneId,
    delivery: &Delivery,
) -> Option<Settlement> {
    let order = delivery.event.order?;
    let newest = context.bus.newest(lane, &delivery.event.key)?;
    if order >= newest {
        return None;
    }
    let event = &delivery.event;
    let newer = match event.revision_time() {
        Some(_) => Timestamp(newest).rfc3339(),
        None => newest.to_string(),
    };
    tracing::info!(event = %event.id, lane = %context.lane, revision = event.revision, newer,
        "superseded by a newer revision");
    Some(Settlement::Superseded { by: Some(newest) })
}

/// Map, schema, attempt, decide.
async fn attempted(context: &LaneContext, bay: &Arc<Bay>, delivery: &Delivery) -> Settlement {
    let route = context.rollout.route(&context.lane, &context.destination, &delivery.event);
    let (destination, bay) = (route.destination(&context.destination), &route.bay(bay, delivery));
    let (outcome, document) = outcome(context, &route, bay, delivery).await;
    destination.count(&outcome);
    let now = context.world.clock.now();
    let delivered = matches!(outcome, Outcome::Delivered { .. });
    let jitter = if delivered { 0.0 } else { context.world.entropy.fraction() };
    let Delivery { attempts, first_attempt_at, crowd, .. } = delivery;
    let retry = match outcome {
        Outcome::Retry { .. } => deliver::widened(&destination.plan.retry, *crowd, bay.limit()),
        _ => destination.plan.retry,
    };
    let next = deliver::decide(&retry, *attempts, *first_attempt_at, outcome, now, jitter);
    let next = route.judged(next, delivery.event.received_at, now);
    let mut settlement = carry_out(context, &route, delivery, next, now).await;
    if let Settlement::Delivered { sent, .. } = &mut settlement {
        *sent = document;
    }
    settlement
}

/// Map and schema; an outcome where the event does not get through them. Shadows get a copy.
pub(super) fn prepared(
    context: &LaneContext,
    route: &Route,
    delivery: &Delivery,
) -> Result<Record, Outcome> {
    let event = &delivery.event;
    let prepared = std::panic::catch_unwind(AssertUnwindSafe(|| {
        deliver::prepare(route.stream(&context.stream), route.vars(&context.connector), event)
    }));
    if let Ok(mapped) = &prepared {
        let now = context.world.clock.now();
        context.rollout.copy(route, &context.stream, &context.lane, delivery, mapped, now);
    }
    match prepared {
        Ok(Ok(out)) => Ok(out),
        Ok(Err((reason, message))) => {
            Err(Outcome::Rejected { status: None, reason: reason.into(), message })
        }
        Err(panic) => Err(panicked(panic_message(&*panic))),
    }
}

/// Map, schema, attempt, and the hash of what was attempted. Whatever panics on the way is this event's
/// poison and nobody else's.
async fn outcome(
    context: &LaneContext,
    route: &Route,
    bay: &Arc<Bay>,
    delivery: &Delivery,
) -> (Outcome, Option<u64>) {
    let event = &delivery.event;
    if let Some(refused) = route.refused(context.world.clock.now()) {
        return (refused, None);
    }
    let out = match prepared(context, route, delivery) {
        Ok(out) => out,
        Err(outcome) => return (outcome, None),
    };
    let sent = Some(document_hash(out.bytes()));
    let destination = route.destination(&context.destination);
    if destination.is_immediate() {
        return (route.synced(guarded(context, route, event, &out).await.outcome).await, sent);
    }
    let clock = &context.world.clock;
    let attempt = match bay.enter(|| clock.now()).await {
        Ok(attempt) => attempt,
        Err(until) => {
            let retry_after = Some(Bay::put_off(until, clock.now()));
            return (Outcome::Deferred { message: "left in peace".to_owned(), retry_after }, None);
        }
    };
    let Attempted { outcome, spent_until } = guarded(context, route, event, &out).await;
    let left = attempt.leave(end(&outcome, spent_until), clock.now());
    if let Some(change) = left.change {
        route.tripped(&change, clock.now());
        destination.changed(bay, change).await;
    }
    (outcome, sent)
}

/// An attempt whose panic is an outcome.
async fn guarded(
    context: &LaneContext,
    route: &Route,
    event: &Arc<Event>,
    out: &Record,
) -> Attempted {
    let destination = route.destination(&context.destination);
    let attempt = destination.open.attempt(event, out, route.env(&context.env));
    match AssertUnwindSafe(attempt).catch_unwind().await {
        Ok(attempted) => attempted,
        Err(panic) => panicked(panic_message(&*panic)).into(),
    }
}

/// What an attempt tells of the destination.
pub(super) fn end(outcome: &Outcome, spent_until: Option<Timestamp>) -> End {
    let sign = outcome.sign();
    let too_many = matches!(outcome, Outcome::Retry { status: Some(429), .. });
    End {
        sign,
        tells: sign != Sign::Nothing || too_many,
        refused: sign == Sign::Failing || too_many,
        spent_until,
    }
}

pub(super) fn panicked(message: &str) -> Outcome {
    let message = format!("the engine panicked on this event: {message}");
    Outcome::Rejected { status: None, reason: "panicked".into(), message }
}

/// Does what was decided, as far as it has to be done before the lease ends.
pub(super) async fn carry_out(
    context: &LaneContext,
    route: &Route,
    delivery: &Delivery,
    next: Next,
    now: Timestamp,
) -> Settlement {
    let event = &delivery.event;
    let lane = &context.lane;
    match next {
        Next::Settle { attempts, status } => {
            tracing::debug!(event = %event.id, connector = &*lane.connector, stream = &*lane.stream,
                destination = &*lane.destination, attempt = attempts, "delivered");
            Settlement::Delivered { attempts, status, sent: None }
        }
        Next::Retry { due, attempts, first_attempt_at, error } => {
            tracing::debug!(event = %event.id, connector = &*lane.connector, stream = &*lane.stream,
                destination = &*lane.destination, attempt = attempts, due = due.rfc3339(), error, "will retry");
            Settlement::Retry { due, attempts, first_attempt_at, error }
        }
        Next::Defer { due } => Settlement::Defer { due },
        Next::Supersede => Settlement::Superseded { by: None },
        Next::Hold { message } => {
            context.destination.hold(&message);
            Settlement::Defer { due: now }
        }
        Next::Bury { reason, message, attempts, status } => {
            tracing::error!(event = %event.id, connector = &*lane.connector, stream = &*lane.stream,
                destination = &*lane.destination, attempt = attempts, reason, problem = message,
                variant = route.variant().map(|name| &**name), "dead letter");
            let letter = DeadLetter {
                event: Arc::clone(event),
                destination: Arc::clone(&lane.destination),
                died_at: now,
                reason: reason.clone(),
                message,
                attempts,
                status,
                variant: route.variant().map(Arc::clone),
            };
            match context.bus.bury(letter).await {
                Ok(_) => Settlement::Dead { reason },
                Err(error) => {
                    tracing::error!(event = %event.id, %error, "the dead letter could not be stored");
                    Settlement::Defer { due: now.plus(PAUSE) }
                }
            }
        }
    }
}
