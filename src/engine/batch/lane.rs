//! A lane whose events go in batches: take → superseded? → budget → map → schema → together → limit →
//! attempt → decide → settle.
//!
//! As in `pipeline.rs` one loop has everything in hand, and nothing here spawns. What is mapped waits
//! in a [`Grouper`]; each request is a future of its own, which settles its events when it is over.
//! While a tenant has as many requests under way as its bay allows, its next batch goes on filling.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use hashbrown::{HashMap, hash_map::Entry};
use tokio_util::sync::CancellationToken;

use super::{Batch, Grouper, Ready, stored};
use crate::{
    bus::{Delivery, LaneId, LaneOptions, Seq, Settlement, Steer, Window, document_hash},
    deliver::{self, AttemptedBatch, BatchOutcome, Member, Next, Outcome},
    engine::{
        bay::Bay,
        in_hand::InHand,
        pipeline::{LaneContext, carry_out, end, panicked, prepared, superseded, take, wait_until},
        rollout::Route,
        steering::Steering,
        tasks::panic_message,
    },
    observe::Outcome as Counted,
    plan::BatchPlan,
    world::Timestamp,
};

/// Leased at a time: what is mapped is counted in bytes, what is leased and not mapped is not.
const TAKEN_AT_ONCE: usize = 256;
/// Leased by one lane at most, whatever its batches may hold.
const MOST_IN_HAND: usize = 65_536;

/// A request that is over.
struct Sent {
    /// Whose it was.
    tenant: Option<String>,
    after: After,
    /// What its events took while they were in hand.
    bytes: usize,
}

/// What it leaves to do.
enum After {
    /// Its events are settled, or due again by themselves.
    Over { kept: Option<Seq> },
    /// Its events are due again, together.
    Together(Vec<Seq>),
    /// It is to be tried in halves.
    Halves(Batch),
}

/// Runs a lane until `stop`; then takes no more and lets what is in hand end.
pub async fn run(context: Arc<LaneContext>, stop: CancellationToken) {
    let destination = Arc::clone(&context.destination);
    let Some(plan) = &destination.plan.batch else { return };
    let window = plan.max.saturating_mul(destination.plan.concurrency.max(1)).min(MOST_IN_HAND);
    let options = LaneOptions { order: destination.plan.order, window };
    let id = context.bus.open(&context.lane, options);
    destination.serves(id);
    let kept = context.bus.state_under(&stored::prefix(&context.lane));
    let kept = kept.iter().filter_map(|(_, value)| stored::decode(value));
    let mut grouper = Grouper::new(plan, kept, context.world.clock.now());
    let mut steering = Steering::default();
    while let Some(taken) = stop.run_until_cancelled(next(&context, id)).await {
        Box::pin(Loop::new(&context, id, plan, &mut grouper, &mut steering).run(taken, &stop))
            .await;
    }
}

/// Leases what is due, once something is and the destination is not parked.
async fn next(context: &LaneContext, id: LaneId) -> Vec<Delivery> {
    context.destination.resumed().await;
    take(context, id, TAKEN_AT_ONCE).await
}

struct Loop<'a> {
    context: Arc<LaneContext>,
    id: LaneId,
    /// Events of one batch at most.
    max: usize,
    /// Requests at once.
    requests: usize,
    /// Events and bytes of them that may wait to be sent.
    room_events: usize,
    room_bytes: usize,
    grouper: &'a mut Grouper,
    /// To be sent once the rate allows it.
    waiting: Option<Batch>,
    not_before: Option<Timestamp>,
    in_hand: FuturesUnordered<BoxFuture<'static, Sent>>,
    /// Requests under way, by tenant.
    under_way: HashMap<Option<String>, usize>,
    /// The weights of those tenants together.
    weights: u64,
    /// How the bus was told to hand out each tenant's events.
    steering: &'a mut Steering,
    /// Bytes of all that is in hand.
    held_bytes: usize,
}

impl<'a> Loop<'a> {
    fn new(
        context: &Arc<LaneContext>,
        id: LaneId,
        plan: &BatchPlan,
        grouper: &'a mut Grouper,
        steering: &'a mut Steering,
    ) -> Self {
        let requests = context.destination.plan.concurrency.max(1);
        Self {
            context: Arc::clone(context),
            id,
            max: plan.max,
            requests,
            room_events: plan.max.saturating_mul(requests).min(MOST_IN_HAND),
            room_bytes: plan.max_bytes.saturating_mul(requests),
            grouper,
            waiting: None,
            not_before: None,
            in_hand: FuturesUnordered::new(),
            under_way: HashMap::new(),
            weights: 0,
            steering,
            held_bytes: 0,
        }
    }

    /// Goes on until nothing is in hand any more, or until `stop`.
    async fn run(mut self, taken: Vec<Delivery>, stop: &CancellationToken) {
        self.take_in(taken);
        while !stop.is_cancelled() && !self.is_idle() {
            self.turn(stop).await;
        }
        self.give_back();
        while let Some(sent) = self.in_hand.next().await {
            self.follow(sent);
        }
        self.give_back();
        self.forget_dissolved().await;
    }

    fn is_idle(&self) -> bool {
        self.grouper.is_empty() && self.waiting.is_none() && self.in_hand.is_empty()
    }

    /// Waits for the next thing to happen and does it.
    async fn turn(&mut self, stop: &CancellationToken) {
        let context = Arc::clone(&self.context);
        let held = context.destination.is_held();
        if held {
            self.give_back();
        } else {
            self.begin_what_may_begin();
        }
        self.forget_dissolved().await;
        let room = self.room();
        if room == 0 {
            self.grouper.postpone(context.world.clock.now());
        }
        let due = if held { None } else { self.due() };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            Some(sent) = self.in_hand.next(), if !self.in_hand.is_empty() => self.follow(sent),
            () = context.destination.resumed(), if held => {}
            () = wait_until(&context.world, due), if due.is_some() => self.not_before = None,
            taken = take(&context, self.id, room), if !held && room > 0 => self.take_in(taken),
        }
    }

    /// How many more events may be leased.
    fn room(&self) -> usize {
        if self.grouper.bytes() >= self.room_bytes || self.waiting.is_some() {
            return 0;
        }
        self.room_events.saturating_sub(self.grouper.events()).min(TAKEN_AT_ONCE)
    }

    /// When a request may begin that could not now.
    fn due(&self) -> Option<Timestamp> {
        if self.in_hand.len() >= self.requests {
            return None;
        }
        if self.waiting.is_some() {
            return self.not_before;
        }
        self.grouper.due(|tenant| self.may(tenant))
    }

    /// Whether a tenant may have one more request under way: so many as its bay allows, and as leave
    /// some to others.
    fn may(&self, tenant: Option<&String>) -> bool {
        let under_way = match tenant {
            None => self.under_way.get(&None),
            Some(tenant) => self.under_way.get(&Some(tenant.clone())),
        };
        under_way.is_none_or(|requests| {
            let destination = &self.context.destination;
            let most = destination.bay(tenant.map(String::as_str)).limit();
            let steer = Steer { most, weight: self.weight(tenant), not_before: None };
            let (taken, alone) = (self.in_hand.len(), destination.is_alone());
            Window { places: self.requests, taken, weights: self.weights, alone }
                .admits(*requests, &steer)
        })
    }

    fn weight(&self, tenant: Option<&String>) -> u32 {
        tenant.map_or(1, |tenant| self.context.tenants.weight(tenant))
    }

    /// A request of a tenant is under way.
    fn begins(&mut self, tenant: Option<&String>) {
        let weight = self.weight(tenant);
        let requests = self.under_way.entry(tenant.cloned()).or_default();
        self.weights += if *requests == 0 { u64::from(weight) } else { 0 };
        *requests += 1;
    }

    /// It is over.
    fn ends(&mut self, tenant: Option<String>) {
        let weight = self.weight(tenant.as_ref());
        let Entry::Occupied(mut requests) = self.under_way.entry(tenant) else { return };
        *requests.get_mut() -= 1;
        if *requests.get() == 0 {
            requests.remove();
            self.weights -= u64::from(weight);
        }
    }

    /// Tells the bus how to hand out a tenant's events from now on: as many as its requests hold.
    fn steer(&mut self, bay: &Bay, not_before: Option<Timestamp>) {
        let now = self.context.world.clock.now();
        let steer = bay.steer(now);
        let most = steer.most.saturating_mul(self.max);
        let steer = Steer { most, not_before: steer.not_before.max(not_before), ..steer };
        self.steering.tell(&*self.context.bus, self.id, bay, steer, now);
    }

    /// Maps what was leased and puts it together. What cannot be sent is settled at once, by itself.
    fn take_in(&mut self, taken: Vec<Delivery>) {
        let context = Arc::clone(&self.context);
        let now = context.world.clock.now();
        for delivery in taken {
            let bytes = InHand::cost(&delivery.event);
            context.in_hand.add(bytes);
            self.held_bytes += bytes;
            let tenant = delivery.event.tenant.as_deref();
            if let Some(due) = tenant.and_then(|it| context.tenants.deliver(it, now).err()) {
                let bay = context.destination.bay(tenant);
                self.steer(&bay, Some(due));
                self.return_to_bus(&delivery, due);
                continue;
            }
            if let Some(settlement) = superseded(&context, self.id, &delivery) {
                let event = &delivery.event;
                context.ended(&settlement, event.replayed, now.since(event.received_at));
                context.metrics.count(Counted::Superseded, 1);
                self.grouper.leaves(delivery.seq, now);
                context.bus.settle(self.id, delivery.seq, settlement);
                self.free(bytes);
                continue;
            }
            let unfit = match prepared(&context, &route(&context, &delivery), &delivery) {
                Ok(out) => {
                    self.grouper.add(Ready { delivery, out }, now);
                    continue;
                }
                Err(outcome) => {
                    context.destination.count(&outcome);
                    let retry = &context.destination.plan.retry;
                    deliver::decide(retry, delivery.attempts, None, outcome, now, 0.0)
                }
            };
            self.grouper.leaves(delivery.seq, now);
            let (context, id) = (Arc::clone(&context), self.id);
            let tenant = delivery.event.tenant.clone();
            self.begins(tenant.as_ref());
            let ended = async move {
                settle(&context, id, vec![Decided { delivery, next: unfit, sent: None }], now)
                    .await;
                Sent { tenant, after: After::Over { kept: None }, bytes }
            };
            self.in_hand.push(ended.boxed());
        }
    }

    /// Sends batches that are to go, as far as concurrency and rate allow.
    fn begin_what_may_begin(&mut self) {
        while self.in_hand.len() < self.requests {
            let now = self.context.world.clock.now();
            if self.not_before.is_some_and(|at| at > now) {
                return;
            }
            let batch = self.waiting.take().or_else(|| self.next_batch(now));
            let Some(batch) = batch else { return };
            match self.context.destination.limiter.take(now) {
                Ok(()) => {
                    self.begins(batch.tenant());
                    let attempt = attempt(Arc::clone(&self.context), self.id, batch);
                    self.in_hand.push(attempt.boxed());
                }
                Err(at) => {
                    self.not_before = Some(at);
                    self.waiting = Some(batch);
                }
            }
        }
    }

    fn next_batch(&mut self, now: Timestamp) -> Option<Batch> {
        // The names of those that may not: few, and asked for each batch.
        let busy: Vec<Option<String>> =
            self.under_way.keys().filter(|tenant| !self.may(tenant.as_ref())).cloned().collect();
        self.grouper.next(now, |tenant| !busy.iter().any(|busy| busy.as_ref() == tenant))
    }

    fn follow(&mut self, sent: Sent) {
        let Sent { tenant, after, bytes } = sent;
        let now = self.context.world.clock.now();
        let bay = self.context.destination.bay(tenant.as_deref());
        self.steer(&bay, None);
        self.ends(tenant);
        match after {
            After::Halves(batch) => {
                self.grouper.leaves(batch.id(), now);
                let [first, second] = batch.halves();
                self.grouper.put_first(second);
                self.grouper.put_first(first);
                return;
            }
            After::Over { kept: None } => {}
            After::Over { kept: Some(id) } => self.grouper.leaves(id, now),
            After::Together(seqs) => self.grouper.keep(seqs, now),
        }
        self.free(bytes);
    }

    fn free(&mut self, bytes: usize) {
        self.context.in_hand.remove(bytes);
        self.held_bytes -= bytes;
    }

    fn return_to_bus(&mut self, delivery: &Delivery, due: Timestamp) {
        self.context.bus.settle(self.id, delivery.seq, Settlement::Defer { due });
        self.free(InHand::cost(&delivery.event));
    }

    /// Removes from the state what no longer is to go together.
    async fn forget_dissolved(&mut self) {
        for id in self.grouper.dissolved() {
            let key = stored::key(&self.context.lane, id);
            if let Err(error) = self.context.bus.put_state(&key, None).await {
                tracing::warn!(lane = %self.context.lane, %error, "a batch could not be forgotten");
            }
        }
    }

    /// Returns what was leased and not sent.
    fn give_back(&mut self) {
        let due = self.context.world.clock.now();
        let waiting = self.waiting.take().into_iter().flat_map(|batch| batch.members);
        let waiting = waiting.map(|member| member.delivery).collect::<Vec<_>>();
        for delivery in waiting.into_iter().chain(self.grouper.give_back()) {
            self.return_to_bus(&delivery, due);
        }
    }
}

impl Drop for Loop<'_> {
    /// What is dropped is no longer in hand.
    fn drop(&mut self) {
        self.context.in_hand.remove(self.held_bytes);
    }
}

/// One request with a batch, and what becomes of its events.
async fn attempt(context: Arc<LaneContext>, lane: LaneId, batch: Batch) -> Sent {
    let tenant = batch.tenant().cloned();
    let bytes = batch.members.iter().map(|member| InHand::cost(&member.delivery.event)).sum();
    let bay = context.destination.bay(tenant.as_deref());
    let outcome = request(&context, &bay, &batch).await;
    let after = match outcome {
        BatchOutcome::Split { status, message } => {
            let (lane, events) = (&context.lane, batch.members.len());
            tracing::debug!(%lane, events, status, message, "a batch is tried in halves");
            After::Halves(batch)
        }
        BatchOutcome::Whole(outcome) if gives_up(&context, &batch, &outcome) => {
            After::Halves(batch)
        }
        BatchOutcome::Whole(outcome) => {
            let outcomes = vec![outcome; batch.members.len()];
            conclude(&context, lane, &bay, batch, outcomes, true).await
        }
        BatchOutcome::Each(outcomes) => {
            conclude(&context, lane, &bay, batch, outcomes, false).await
        }
    };
    Sent { tenant, after, bytes }
}

/// Whether a rule would now settle events that repetitions did not help. An answer to several of them
/// says that of none: they are asked about in halves.
fn gives_up(context: &LaneContext, batch: &Batch, outcome: &Outcome) -> bool {
    if batch.members.len() < 2 || !matches!(outcome, Outcome::Retry { limit: Some(_), .. }) {
        return false;
    }
    let now = context.world.clock.now();
    let retry = &context.destination.plan.retry;
    batch.members.iter().any(|Ready { delivery, .. }| {
        let (attempts, first) = (delivery.attempts, delivery.first_attempt_at);
        let next = deliver::decide(retry, attempts, first, outcome.clone(), now, 0.0);
        matches!(next, Next::Settle { .. } | Next::Supersede)
    })
}

/// Sends a batch as soon as its tenant's bay and the destination have room. A panic is an outcome.
async fn request(context: &LaneContext, bay: &Arc<Bay>, batch: &Batch) -> BatchOutcome {
    let deferred = |message: &str, retry_after| {
        BatchOutcome::Whole(Outcome::Deferred { message: message.to_owned(), retry_after })
    };
    let clock = &context.world.clock;
    let attempt = match bay.enter(|| clock.now()).await {
        Ok(attempt) => attempt,
        Err(until) => {
            let outcome = deferred("left in peace", Some(Bay::put_off(until, clock.now())));
            context.destination.count_batch(batch.members.len(), &outcome);
            return outcome;
        }
    };
    let members: Vec<Member> = batch.members.iter().map(Ready::member).collect();
    let sent = context.destination.open.attempt_batch(&members, &context.env);
    let AttemptedBatch { outcome, spent_until } = match AssertUnwindSafe(sent).catch_unwind().await
    {
        Ok(attempted) => attempted,
        Err(panic) => BatchOutcome::of(members.len(), panicked(panic_message(&*panic))).into(),
    };
    let left = attempt.leave(end(&outcome.overall(), spent_until), clock.now());
    if let Some(change) = left.change {
        context.destination.changed(bay, change).await;
    }
    context.destination.count_batch(members.len(), &outcome);
    outcome
}

/// Decides for each event and settles it. `is_whole`: all of them share the outcome, and stay together
/// where it is to be repeated.
async fn conclude(
    context: &LaneContext,
    lane: LaneId,
    bay: &Bay,
    batch: Batch,
    outcomes: Vec<Outcome>,
    is_whole: bool,
) -> After {
    let now = context.world.clock.now();
    let jitter = context.world.entropy.fraction();
    let plan = &context.destination.plan;
    let at_once = bay.limit().saturating_mul(plan.batch.as_ref().map_or(1, |batch| batch.max));
    let (id, is_kept, seqs) = (batch.id(), batch.is_kept, batch.seqs());
    let decided = batch.members.into_iter().zip(outcomes).map(|(member, outcome)| {
        let Delivery { attempts, first_attempt_at, crowd, .. } = member.delivery;
        let retry = deliver::widened(&plan.retry, crowd, at_once);
        let next = deliver::decide(&retry, attempts, first_attempt_at, outcome, now, jitter);
        Decided { delivery: member.delivery, next, sent: Some(document_hash(member.out.bytes())) }
    });
    let mut decided: Vec<Decided> = decided.collect();
    let together = is_whole && meet(&mut decided);
    if together && !is_kept {
        let key = stored::key(&context.lane, id);
        if let Err(error) = context.bus.put_state(&key, Some(stored::encode(&seqs))).await {
            let lane = &context.lane;
            tracing::warn!(%lane, %error, "a batch is remembered in memory only");
        }
    }
    let is_put_off = |next: &Next| matches!(next, Next::Defer { .. } | Next::Hold { .. });
    let waits = is_whole && decided.iter().all(|it| is_put_off(&it.next));
    settle(context, lane, decided, now).await;
    match (together, is_kept) {
        (true, _) => After::Together(seqs),
        (false, true) if waits => After::Together(seqs),
        (false, true) => After::Over { kept: Some(id) },
        (false, false) => After::Over { kept: None },
    }
}

/// Lets events that are all attempted again be due at one moment, the latest. Whether they are.
fn meet(decided: &mut [Decided]) -> bool {
    let due = decided.iter().map(|it| match &it.next {
        Next::Retry { due, .. } => Some(*due),
        _ => None,
    });
    let Some(latest) = due.collect::<Option<Vec<_>>>().and_then(|due| due.into_iter().max()) else {
        return false;
    };
    for Decided { next, .. } in decided {
        if let Next::Retry { due, .. } = next {
            *due = latest;
        }
    }
    true
}

/// Who maps an event. A canary's keys go out with the others, so to its original's destination.
fn route(context: &LaneContext, delivery: &Delivery) -> Route {
    context.rollout.route(&context.lane, &context.destination, &delivery.event).together()
}

/// What becomes of one event of a batch.
struct Decided {
    delivery: Delivery,
    next: Next,
    /// The hash of the document that was sent.
    sent: Option<u64>,
}

/// Does what was decided and ends the leases. What takes batches has nothing to sync.
async fn settle(context: &LaneContext, lane: LaneId, decided: Vec<Decided>, now: Timestamp) {
    for Decided { delivery, next, sent: document } in decided {
        let route = route(context, &delivery);
        let next = route.judged(next, delivery.event.received_at, now);
        let mut settlement = carry_out(context, &route, &delivery, next, now).await;
        let (replayed, took) = (delivery.event.replayed, now.since(delivery.event.received_at));
        if let Settlement::Delivered { sent, .. } = &mut settlement {
            *sent = document;
        }
        context.ended(&settlement, replayed, took);
        match &settlement {
            Settlement::Delivered { .. } => {
                context.metrics.count(Counted::Delivered, 1);
                if replayed.is_none() {
                    context.destination.metrics.latency.observe(took);
                }
            }
            Settlement::Superseded { .. } => context.metrics.count(Counted::Superseded, 1),
            Settlement::Dead { .. } => context.metrics.count(Counted::Dead, 1),
            Settlement::Retry { .. } | Settlement::Defer { .. } => {}
        }
        context.bus.settle(lane, delivery.seq, settlement);
    }
}
