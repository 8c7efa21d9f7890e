//! The bus without a disk, for tests and as the measure of what durability costs.
//!
//! It keeps every promise of [`Bus`] but one: nothing outlives the process.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;

use super::{
    Accepted, Append, AppendError, Backlog, Bus, BusHealth, Claim, DeadId, DeadLetter, DeadSummary,
    Delivery, Endings, HISTORY_PAGE_EVENTS, HistoryPage, LaneId, LaneOptions, NewEvent, Seq,
    Settlement, Steer, Step, StoreError, TenantBacklog, Trace,
    lanes::{FlowRef, Lanes, key_hash, lane_hash, revision_slot},
    steps, summary,
};
use crate::{
    event::{Event, EventId, Lane},
    world::{BoxFuture, Clock, Timestamp},
};

/// Settled events that are kept for history and trace.
const DEFAULT_HISTORY_EVENTS: usize = 100_000;

/// Claims that have run out are looked for once every so many appended events.
const SWEEP_EVERY_EVENTS: u64 = 65_536;

/// A [`Bus`] that keeps everything in memory.
pub struct MemoryBus {
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
}

/// An event, what happened to it, and in how many lanes it is still unsettled.
struct Stored {
    event: Arc<Event>,
    open_lanes: usize,
    steps: Vec<Step>,
    endings: Vec<(Arc<str>, Settlement, Timestamp)>,
}

#[derive(Default)]
struct Inner {
    lanes: Lanes,
    events: BTreeMap<u64, Stored>,
    by_id: HashMap<EventId, Vec<u64>>,
    /// Settled events in the order in which they settled.
    settled: VecDeque<u64>,
    history_events: usize,
    /// Until when an id is claimed.
    claims: HashMap<EventId, Timestamp>,
    /// The id that was last accepted for a key.
    forever: HashMap<(Arc<str>, Arc<str>, String), EventId>,
    newest: HashMap<u64, i64>,
    state: BTreeMap<String, Vec<u8>>,
    dead: BTreeMap<u64, DeadLetter>,
    last_seq: u64,
    last_dead: u64,
    max_unsettled: u64,
    refuse: Option<String>,
    closed: bool,
    commits: u64,
    appended: u64,
}

impl MemoryBus {
    /// An empty bus on this clock, without a limit.
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let inner = Inner {
            history_events: DEFAULT_HISTORY_EVENTS,
            max_unsettled: u64::MAX,
            ..Inner::default()
        };
        Arc::new(Self { clock, inner: Mutex::new(inner) })
    }

    /// Refuses appends as full while this many (event, lane) pairs are unsettled.
    pub fn limit_unsettled(&self, pairs: u64) {
        self.inner.lock().max_unsettled = pairs;
    }

    /// Keeps at most this many settled events for history and trace; default 100,000.
    pub fn limit_history(&self, events: usize) {
        self.inner.lock().history_events = events;
    }

    /// How many tenants of lanes it knows.
    #[cfg(test)]
    pub fn flows(&self) -> usize {
        self.inner.lock().lanes.len()
    }

    /// Refuses to append, as a broken disk would, until called with `None`.
    pub fn refuse(&self, why: Option<String>) {
        self.inner.lock().refuse = why;
    }
}

impl Inner {
    fn check(&self) -> Result<(), AppendError> {
        if self.closed {
            return Err(AppendError::Closed);
        }
        if let Some(why) = &self.refuse {
            return Err(AppendError::Unavailable(why.clone()));
        }
        Ok(())
    }

    fn append(&mut self, batch: Append, now: Timestamp) -> Result<Vec<Accepted>, AppendError> {
        self.check()?;
        if !batch.events.is_empty() && self.lanes.unsettled() >= self.max_unsettled {
            return Err(AppendError::Full {
                what: format!("{} unsettled events", self.lanes.unsettled()),
                retry_after: Duration::from_secs(1),
            });
        }
        let accepted = batch.events.into_iter().map(|new| self.accept(new, now)).collect();
        for (key, value) in batch.state {
            self.write_state(key, value);
        }
        self.commits += 1;
        Ok(accepted)
    }

    fn accept(&mut self, new: NewEvent, now: Timestamp) -> Accepted {
        if !self.claim(&new, now) {
            return Accepted::Duplicate;
        }
        self.last_seq += 1;
        self.appended += 1;
        let seq = self.last_seq;
        let event = new.event;
        let key = key_hash(&event.key);
        for destination in &event.to {
            let flow = FlowRef {
                connector: &event.connector,
                stream: &event.stream,
                destination,
                tenant: event.tenant.as_deref(),
            };
            if self.lanes.wants_sweep() {
                self.lanes.sweep(&HashSet::new());
                self.lanes.take_given();
            }
            let id = self.lanes.intern(&flow);
            self.lanes.push(id, seq, key, event.record.bytes().len() as u64, None);
        }
        self.by_id.entry(event.id).or_default().push(seq);
        let steps = vec![steps::accepted(&event)];
        let open_lanes = event.to.len();
        self.events.insert(seq, Stored { event, open_lanes, steps, endings: Vec::new() });
        if open_lanes == 0 {
            self.retire(seq);
        }
        if self.appended.is_multiple_of(SWEEP_EVERY_EVENTS) {
            self.claims.retain(|_, until| *until > now);
        }
        Accepted::New(Seq(seq))
    }

    /// Whether the event's id is claimed.
    fn is_claimed(&self, new: &NewEvent, now: Timestamp) -> bool {
        let event = &new.event;
        match new.claim {
            Claim::None => false,
            Claim::Window(_) => self.claims.get(&event.id).is_some_and(|until| *until > now),
            Claim::Forever => {
                let key = (event.connector.clone(), event.stream.clone(), event.key.clone());
                self.forever.get(&key) == Some(&event.id)
            }
        }
    }

    /// Claims the event's id. Whether it was free.
    fn claim(&mut self, new: &NewEvent, now: Timestamp) -> bool {
        let event = &new.event;
        match new.claim {
            Claim::None => true,
            Claim::Window(window) => {
                if self.claims.get(&event.id).is_some_and(|until| *until > now) {
                    return false;
                }
                self.claims.insert(event.id, now.plus(window));
                true
            }
            Claim::Forever => {
                let key = (event.connector.clone(), event.stream.clone(), event.key.clone());
                self.forever.insert(key, event.id) != Some(event.id)
            }
        }
    }

    /// Makes room in history for an event that has settled everywhere.
    fn retire(&mut self, seq: u64) {
        self.settled.push_back(seq);
        while self.settled.len() > self.history_events {
            let Some(oldest) = self.settled.pop_front() else {
                return;
            };
            let Some(stored) = self.events.remove(&oldest) else {
                continue;
            };
            if let Some(seqs) = self.by_id.get_mut(&stored.event.id) {
                seqs.retain(|s| *s != oldest);
                if seqs.is_empty() {
                    self.by_id.remove(&stored.event.id);
                }
            }
        }
    }

    fn write_state(&mut self, key: String, value: Option<Vec<u8>>) {
        match value {
            Some(value) => self.state.insert(key, value),
            None => self.state.remove(&key),
        };
    }

    fn take(&mut self, lane: LaneId, max: usize, now: Timestamp) -> Vec<Delivery> {
        let taken = self.lanes.take(lane, max, now);
        let mut deliveries = Vec::with_capacity(taken.len());
        for taken in taken {
            let Some(stored) = self.events.get(&taken.seq) else {
                continue;
            };
            if let Some(order) = stored.event.order {
                self.lanes.note_order(lane, taken.seq, order);
            }
            deliveries.push(Delivery {
                seq: Seq(taken.seq),
                event: Arc::clone(&stored.event),
                attempts: taken.retried.map_or(0, |r| r.attempts),
                first_attempt_at: taken.retried.map(|r| r.first_attempt_at),
                crowd: taken.crowd,
            });
        }
        deliveries
    }

    fn settle(&mut self, lane: LaneId, seq: Seq, settlement: &Settlement, now: Timestamp) {
        let Some(ended) = self.lanes.settle(lane, seq.0, settlement) else {
            return;
        };
        if let (Settlement::Delivered { .. }, Some(order)) = (settlement, ended.order) {
            let slot = revision_slot(self.lanes.hash(lane).unwrap_or_default(), ended.key);
            let newest = self.newest.entry(slot).or_insert(order);
            *newest = order.max(*newest);
        }
        let (Some(stored), Some(name)) = (self.events.get_mut(&seq.0), self.lanes.name(lane))
        else {
            return;
        };
        let step = steps::settled(&stored.event, settlement, &name.destination, now);
        stored.steps.extend(step);
        if ended.terminal {
            stored.endings.push((Arc::clone(&name.destination), settlement.clone(), now));
            stored.open_lanes = stored.open_lanes.saturating_sub(1);
            if stored.open_lanes == 0 {
                self.retire(seq.0);
            }
        }
    }

    fn bury(&mut self, letter: DeadLetter) -> DeadId {
        let same = |old: &DeadLetter| {
            old.event.id == letter.event.id
                && old.event.connector == letter.event.connector
                && old.destination == letter.destination
        };
        let id = self.dead.iter().find(|(_, old)| same(old)).map_or_else(
            || {
                self.last_dead += 1;
                self.last_dead
            },
            |(id, _)| *id,
        );
        self.dead.insert(id, letter);
        DeadId(id)
    }
}

impl Bus for MemoryBus {
    fn append(&self, batch: Append) -> BoxFuture<'_, Result<Vec<Accepted>, AppendError>> {
        let result = self.inner.lock().append(batch, self.clock.now());
        Box::pin(std::future::ready(result))
    }

    fn known<'a>(&'a self, events: &'a [NewEvent]) -> BoxFuture<'a, Vec<bool>> {
        let (inner, now) = (self.inner.lock(), self.clock.now());
        let known = events.iter().map(|event| inner.is_claimed(event, now)).collect();
        Box::pin(std::future::ready(known))
    }

    fn open(&self, lane: &Lane, options: LaneOptions) -> LaneId {
        self.inner.lock().lanes.open(lane, options)
    }

    fn take(&self, lane: LaneId, max: usize) -> BoxFuture<'_, Vec<Delivery>> {
        Box::pin(async move {
            let Some(notify) = self.inner.lock().lanes.notify(lane) else {
                return std::future::pending().await;
            };
            loop {
                let mut notified = std::pin::pin!(notify.notified());
                notified.as_mut().enable();
                let next_due = {
                    let mut inner = self.inner.lock();
                    let taken = inner.take(lane, max, self.clock.now());
                    if !taken.is_empty() {
                        return taken;
                    }
                    inner.lanes.next_due(lane)
                };
                match next_due {
                    None => notified.await,
                    Some(due) => tokio::select! {
                        () = notified => {}
                        () = self.clock.sleep_until(due) => {}
                    },
                }
            }
        })
    }

    fn hurry(&self, lane: LaneId, tenant: Option<&str>) {
        self.inner.lock().lanes.hurry(lane, tenant);
    }

    fn steer(&self, lane: LaneId, tenant: Option<&str>, steer: Steer) -> bool {
        self.inner.lock().lanes.steer(lane, tenant, steer)
    }

    fn settle(&self, lane: LaneId, seq: Seq, settlement: Settlement) {
        let now = self.clock.now();
        self.inner.lock().settle(lane, seq, &settlement, now);
    }

    fn newest(&self, lane: LaneId, key: &str) -> Option<i64> {
        let inner = self.inner.lock();
        let slot = revision_slot(inner.lanes.hash(lane)?, key_hash(key));
        inner.newest.get(&slot).copied()
    }

    fn newest_of(&self, lane: &Lane, key: &str) -> Option<i64> {
        let slot = revision_slot(lane_hash(lane), key_hash(key));
        self.inner.lock().newest.get(&slot).copied()
    }

    fn backlog(&self) -> Vec<Backlog> {
        let inner = self.inner.lock();
        let received = |seq: u64| inner.events.get(&seq).map(|s| s.event.received_at);
        let fills = inner.lanes.fills().into_iter();
        fills
            .map(|f| Backlog {
                lane: f.lane,
                unsettled: f.unsettled,
                oldest: f.head.and_then(received),
            })
            .collect()
    }

    fn tenant_backlog(&self, tenant: &str) -> TenantBacklog {
        self.inner.lock().lanes.tenant(tenant)
    }

    fn tenants(&self) -> Vec<(Arc<str>, TenantBacklog)> {
        self.inner.lock().lanes.tenants()
    }

    fn bury(&self, letter: DeadLetter) -> BoxFuture<'_, Result<DeadId, StoreError>> {
        let mut inner = self.inner.lock();
        let result = match inner.check() {
            Ok(()) => Ok(inner.bury(letter)),
            Err(error) => Err(StoreError::from(error)),
        };
        Box::pin(std::future::ready(result))
    }

    fn dead_letters(&self) -> Vec<DeadSummary> {
        let inner = self.inner.lock();
        inner.dead.iter().map(|(id, letter)| summary(DeadId(*id), letter)).collect()
    }

    fn dead_letter(&self, id: DeadId) -> Result<Option<DeadLetter>, StoreError> {
        Ok(self.inner.lock().dead.get(&id.0).cloned())
    }

    fn discard(&self, id: DeadId) -> BoxFuture<'_, Result<bool, StoreError>> {
        let mut inner = self.inner.lock();
        let result = match inner.check() {
            Ok(()) => Ok(inner.dead.remove(&id.0).is_some()),
            Err(error) => Err(StoreError::from(error)),
        };
        Box::pin(std::future::ready(result))
    }

    fn discard_if(
        &self,
        id: DeadId,
        died_at: Timestamp,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        let mut inner = self.inner.lock();
        let result = match inner.check() {
            Ok(()) => {
                let meant = inner.dead.get(&id.0).is_some_and(|it| it.died_at == died_at);
                Ok(meant && inner.dead.remove(&id.0).is_some())
            }
            Err(error) => Err(StoreError::from(error)),
        };
        Box::pin(std::future::ready(result))
    }

    fn state(&self, key: &str) -> Option<Vec<u8>> {
        self.inner.lock().state.get(key).cloned()
    }

    fn state_under(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let inner = self.inner.lock();
        let from = inner.state.range(prefix.to_owned()..);
        from.take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    fn state_page(&self, prefix: &str, after: Option<&str>, max: usize) -> Vec<(String, Vec<u8>)> {
        let inner = self.inner.lock();
        let begin = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let from = inner.state.range::<str, _>((begin, Bound::Unbounded));
        let under = from.take_while(|(key, _)| key.starts_with(prefix)).take(max);
        under.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    fn put_state(
        &self,
        key: &str,
        value: Option<Vec<u8>>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let mut inner = self.inner.lock();
        let result = inner.check().map_err(StoreError::from);
        if result.is_ok() {
            inner.write_state(key.to_owned(), value);
        }
        Box::pin(std::future::ready(result))
    }

    fn history(
        &self,
        from: Timestamp,
        to: Timestamp,
        after: Option<Seq>,
    ) -> Result<HistoryPage, StoreError> {
        let inner = self.inner.lock();
        let first = after.map_or(0, |seq| seq.0 + 1);
        let mut page = HistoryPage::default();
        for (seq, stored) in inner.events.range(first..) {
            let at = stored.event.received_at;
            if at < from || at >= to {
                continue;
            }
            if page.events.len() == HISTORY_PAGE_EVENTS {
                page.next = page.events.last().map(|(seq, _)| *seq);
                break;
            }
            page.events.push((Seq(*seq), Arc::clone(&stored.event)));
        }
        Ok(page)
    }

    fn trace(&self, id: EventId) -> Result<Vec<Trace>, StoreError> {
        let inner = self.inner.lock();
        let seqs = inner.by_id.get(&id).map_or(&[][..], Vec::as_slice);
        let traces = seqs.iter().filter_map(|seq| {
            let stored = inner.events.get(seq)?;
            let (event, steps) = (Arc::clone(&stored.event), stored.steps.clone());
            Some(Trace { seq: Seq(*seq), event, steps })
        });
        Ok(traces.collect())
    }

    fn endings(&self, asked: &mut Endings, after: Option<Seq>) -> Result<Option<Seq>, StoreError> {
        if after.is_some() {
            return Ok(None);
        }
        let inner = self.inner.lock();
        for id in asked.ids() {
            for seq in inner.by_id.get(&id).into_iter().flatten() {
                let Some(stored) = inner.events.get(seq) else { continue };
                asked.appended(*seq, id, stored.event.to.iter().map(AsRef::as_ref));
                for (destination, settlement, at) in &stored.endings {
                    asked.settled(*seq, destination, settlement, *at);
                }
            }
        }
        Ok(None)
    }

    fn health(&self) -> BusHealth {
        let inner = self.inner.lock();
        BusHealth {
            refusing: if inner.closed {
                Some("the bus is closed".to_owned())
            } else {
                inner.refuse.clone()
            },
            unsettled: inner.lanes.unsettled(),
            dedupe_keys: (inner.claims.len() + inner.forever.len()) as u64,
            dead_letters: inner.dead.len() as u64,
            commits: inner.commits,
            appended: inner.appended,
            ..BusHealth::default()
        }
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.lock().closed = true;
        Box::pin(std::future::ready(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::ScriptedClock;

    fn event(key: &str, to: &[&str]) -> NewEvent {
        let event = Event {
            id: EventId::derive("shop", "orders", key, "1"),
            connector: "shop".into(),
            stream: "orders".into(),
            key: key.to_owned(),
            revision: "1".to_owned(),
            order: None,
            tenant: None,
            received_at: Timestamp(1),
            origin: crate::event::Origin::Webhook,
            delete: false,
            to: to.iter().map(|d| (*d).into()).collect(),
            record: crate::event::Record::from_value(serde_json::Value::Null),
            with: None,
            traceparent: None,
            replayed: None,
        };
        NewEvent { event: Arc::new(event), claim: Claim::Window(Duration::from_mins(1)) }
    }

    fn batch(events: Vec<NewEvent>) -> Append {
        Append { events, state: Vec::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn limits_and_the_refuse_switch_answer_without_storing() {
        let bus = MemoryBus::new(Arc::new(ScriptedClock::starting_at(Timestamp(1_000))));
        bus.refuse(Some("no disk".to_owned()));
        let refused = bus.append(batch(vec![event("a", &["erp"])])).await;
        assert_eq!(refused, Err(AppendError::Unavailable("no disk".to_owned())));
        bus.refuse(None);
        bus.limit_unsettled(1);
        let first = bus.append(batch(vec![event("a", &["erp"])])).await;
        assert_eq!(first, Ok(vec![Accepted::New(Seq(1))]));
        let full = bus.append(batch(vec![event("b", &["erp"])])).await;
        assert!(matches!(full, Err(AppendError::Full { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn history_is_bounded_and_forgets_the_oldest_settled() {
        let bus = MemoryBus::new(Arc::new(ScriptedClock::starting_at(Timestamp(1_000))));
        bus.limit_history(2);
        let keys = ["a", "b", "c"];
        bus.append(batch(keys.map(|k| event(k, &[])).to_vec())).await.unwrap();
        let page = bus.history(Timestamp(0), Timestamp(10), None).unwrap();
        let seen: Vec<_> = page.events.iter().map(|(_, e)| e.key.as_str()).collect();
        assert_eq!(seen, ["b", "c"]);
        let forgotten = bus.trace(EventId::derive("shop", "orders", "a", "1")).unwrap();
        assert!(forgotten.is_empty());
    }
}
