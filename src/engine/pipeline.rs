//! One event's life after it was acknowledged, top to bottom: take → superseded? → map → schema →
//! limit → attempt → decide → settle.
//!
//! A [`Lane`](crate::event::Lane) has one loop. The loop leases events from the bus, lives each in
//! a future of its own up to the destination's concurrency, and settles them in groups: what was
//! written to a file is synced once for all that came together. Nothing here spawns, so dropping
//! the loop drops everything in hand, and the leases go back to the bus.

use std::{collections::VecDeque, panic::AssertUnwindSafe, sync::Arc};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio_util::sync::CancellationToken;

use super::{destination::DestinationRuntime, tasks::panic_message};
use crate::{
    bus::{Bus, DeadLetter, Delivery, LaneId, LaneOptions, Seq, Settlement},
    deliver::{self, Next, Outcome},
    event::Lane,
    map::Env,
    observe::{Outcome as Counted, StreamMetrics},
    plan::{ConnectorPlan, Order, StreamPlan},
    world::{Timestamp, World},
};

/// How long an event waits where neither the destination nor the clock can say.
const PAUSE: std::time::Duration = std::time::Duration::from_secs(5);

/// What one lane's loop works with.
pub struct LaneContext {
    pub lane: Lane,
    pub connector: Arc<ConnectorPlan>,
    pub stream: Arc<StreamPlan>,
    pub destination: Arc<DestinationRuntime>,
    pub bus: Arc<dyn Bus>,
    pub world: World,
    pub metrics: Arc<StreamMetrics>,
    /// `vars` and `secret`.
    pub env: Env,
}

/// How one event's time in hand ended.
struct Lived {
    seq: Seq,
    settlement: Settlement,
    received_at: Timestamp,
}

/// Runs a lane until `stop`; then takes no more and lets what is in hand end.
///
/// Most lanes wait most of the time, so a lane that waits is small: what it takes to live events is
/// made when there are some.
pub async fn run(context: Arc<LaneContext>, stop: CancellationToken) {
    let by_key = context.destination.plan.order == Order::Key;
    let id = context.bus.open(&context.lane, LaneOptions { by_key });
    while let Some(taken) = stop.run_until_cancelled(next(&context, id)).await {
        Box::pin(LaneLoop::new(&context, id, taken).run(&stop)).await;
    }
}

/// Leases what is due, once something is and the destination is not parked.
async fn next(context: &LaneContext, id: LaneId) -> Vec<Delivery> {
    context.destination.resumed().await;
    context.bus.take(id, context.destination.window()).await
}

struct LaneLoop {
    context: Arc<LaneContext>,
    id: LaneId,
    /// Most events in hand at once.
    window: usize,
    /// Leased, not begun: the rate does not allow it yet.
    waiting: VecDeque<Delivery>,
    in_hand: FuturesUnordered<BoxFuture<'static, Lived>>,
    /// Lived, to be settled with the next group.
    ended: Vec<Lived>,
    /// The group that is being settled, and how many it has: while a file is synced, the next
    /// events are mapped and written.
    settling: Option<(BoxFuture<'static, ()>, usize)>,
    /// When the rate allows the next one.
    not_before: Option<Timestamp>,
}

impl LaneLoop {
    fn new(context: &Arc<LaneContext>, id: LaneId, taken: Vec<Delivery>) -> Self {
        Self {
            context: Arc::clone(context),
            id,
            window: context.destination.window(),
            waiting: taken.into(),
            in_hand: FuturesUnordered::new(),
            ended: Vec::new(),
            settling: None,
            not_before: None,
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
        self.begin_what_may_begin();
        let context = Arc::clone(&self.context);
        let held = context.destination.is_held();
        let settling = self.settling.as_ref().map_or(0, |(_, events)| *events);
        let room = self.window.saturating_sub(self.in_hand.len() + self.ended.len() + settling);
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            Some(lived) = self.in_hand.next(), if !self.in_hand.is_empty() => {
                self.ended.push(lived);
                while let Some(Some(lived)) = self.in_hand.next().now_or_never() {
                    self.ended.push(lived);
                }
                self.begin_to_settle();
            }
            () = settled(&mut self.settling) => self.begin_to_settle(),
            () = context.destination.resumed(), if held => {}
            () = wait_until(&context.world, self.not_before), if self.not_before.is_some() => {
                self.not_before = None;
            }
            taken = context.bus.take(self.id, room),
                if !held && room > 0 && self.waiting.is_empty() => self.waiting.extend(taken),
        }
    }

    /// Starts the lives of leased events as far as the rate allows.
    fn begin_what_may_begin(&mut self) {
        while self.not_before.is_none() && !self.waiting.is_empty() {
            match self.context.destination.limiter.take(self.context.world.clock.now()) {
                Ok(()) => {
                    let Some(delivery) = self.waiting.pop_front() else {
                        return;
                    };
                    let context = Arc::clone(&self.context);
                    self.in_hand.push(live(context, self.id, delivery).boxed());
                }
                Err(at) => self.not_before = Some(at),
            }
        }
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
                Some(lived) = self.in_hand.next(), if !self.in_hand.is_empty() => {
                    self.ended.push(lived);
                }
                else => return,
            }
        }
    }

    /// Returns what was leased and not begun.
    fn give_back(&mut self) {
        let due = self.context.world.clock.now();
        for delivery in self.waiting.drain(..) {
            self.context.bus.settle(self.id, delivery.seq, Settlement::Defer { due });
        }
    }
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
    for Lived { seq, mut settlement, received_at } in group {
        match (&settlement, &synced) {
            (Settlement::Delivered { .. }, Err(error)) => {
                tracing::warn!(lane = %context.lane, error, "delivery could not be synced");
                settlement = Settlement::Defer { due: now.plus(PAUSE) };
            }
            (Settlement::Delivered { .. }, Ok(())) => {
                context.metrics.count(Counted::Delivered, 1);
                context.destination.metrics.latency.observe(now.since(received_at));
            }
            (Settlement::Superseded, _) => context.metrics.count(Counted::Superseded, 1),
            (Settlement::Dead { .. }, _) => context.metrics.count(Counted::Dead, 1),
            _ => {}
        }
        context.bus.settle(lane, seq, settlement);
    }
}

async fn wait_until(world: &World, at: Option<Timestamp>) {
    if let Some(at) = at {
        world.clock.sleep_until(at).await;
    }
}

/// One event, one lane, one time in hand.
async fn live(context: Arc<LaneContext>, lane: LaneId, delivery: Delivery) -> Lived {
    let Delivery { seq, event, attempts, first_attempt_at } = &delivery;
    let received_at = event.received_at;
    let newest = event.order.and_then(|_| context.bus.newest(lane, &event.key));
    if let (Some(newest), Some(order)) = (newest, event.order)
        && order < newest
    {
        tracing::info!(event = %event.id, lane = %context.lane, "superseded by a newer revision");
        return Lived { seq: *seq, settlement: Settlement::Superseded, received_at };
    }
    let outcome = outcome(&context, &delivery).await;
    context.destination.count(&context.lane.connector, &outcome);
    let now = context.world.clock.now();
    let delivered = matches!(outcome, Outcome::Delivered { .. });
    let jitter = if delivered { 0.0 } else { context.world.entropy.fraction() };
    let retry = &context.destination.plan.retry;
    let next = deliver::decide(retry, *attempts, *first_attempt_at, outcome, now, jitter);
    let settlement = carry_out(&context, &delivery, next, now).await;
    Lived { seq: *seq, settlement, received_at }
}

/// Map, schema, attempt. Whatever panics on the way is this event's poison and nobody else's.
async fn outcome(context: &LaneContext, delivery: &Delivery) -> Outcome {
    let event = &delivery.event;
    let prepared = std::panic::catch_unwind(AssertUnwindSafe(|| {
        deliver::prepare(&context.stream, &context.connector.vars, event)
    }));
    let out = match prepared {
        Ok(Ok(out)) => out,
        Ok(Err((reason, message))) => {
            return Outcome::Rejected { status: None, reason, message };
        }
        Err(panic) => return panicked(panic_message(&*panic)),
    };
    let Ok(_permit) = context.destination.permits.acquire().await else {
        return Outcome::Deferred { message: "shutting down".to_owned(), retry_after: None };
    };
    let attempt = context.destination.open.attempt(event, &out, &context.env);
    match AssertUnwindSafe(attempt).catch_unwind().await {
        Ok(outcome) => outcome,
        Err(panic) => panicked(panic_message(&*panic)),
    }
}

fn panicked(message: &str) -> Outcome {
    let message = format!("the engine panicked on this event: {message}");
    Outcome::Rejected { status: None, reason: "panicked", message }
}

/// Does what was decided, as far as it has to be done before the lease ends.
async fn carry_out(
    context: &LaneContext,
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
            Settlement::Delivered { attempts, status }
        }
        Next::Retry { due, attempts, first_attempt_at, error } => {
            tracing::debug!(event = %event.id, connector = &*lane.connector, stream = &*lane.stream,
                destination = &*lane.destination, attempt = attempts, due = due.rfc3339(), error, "will retry");
            Settlement::Retry { due, attempts, first_attempt_at, error }
        }
        Next::Defer { due } => Settlement::Defer { due },
        Next::Hold { message } => {
            context.destination.hold(&lane.connector, &message);
            Settlement::Defer { due: now }
        }
        Next::Bury { reason, message, attempts, status } => {
            tracing::error!(event = %event.id, connector = &*lane.connector, stream = &*lane.stream,
                destination = &*lane.destination, attempt = attempts, reason, problem = message, "dead letter");
            let letter = DeadLetter {
                event: Arc::clone(event),
                destination: Arc::clone(&lane.destination),
                died_at: now,
                reason: reason.clone(),
                message,
                attempts,
                status,
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
