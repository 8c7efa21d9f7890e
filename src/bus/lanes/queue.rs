//! One lane's entries: which is due, leased, delayed, or behind another of its key.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    sync::Arc,
};

use hashbrown::{HashMap, HashSet};
use tokio::sync::Notify;

use super::{
    Ended, Retried, Taken,
    flow::{Entry, Flow, Window},
    lane_hash,
};
use crate::{
    bus::{LaneOptions, Settlement, Steer},
    event::Lane,
    plan::Order,
    world::Timestamp,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Delayed {
    due: Timestamp,
    seq: u64,
    key: u64,
    flow: u32,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    key: u64,
    flow: u32,
    order: Option<i64>,
}

/// An entry that waits for the one before it.
#[derive(Clone, Copy, Debug)]
struct Behind {
    entry: Entry,
    flow: u32,
}

/// See the module's text.
pub(super) struct Queue {
    pub lane: Lane,
    pub hash: u64,
    pub notify: Arc<Notify>,
    options: LaneOptions,
    /// All entries, wherever they are below.
    pub unsettled: u64,
    pub flows: Vec<Flow>,
    /// Places in `flows` whose flow was forgotten.
    free: Vec<u32>,
    /// Flows that have something ready, in turn.
    ring: VecDeque<u32>,
    /// What the first of the ring got in its turn so far.
    given: u32,
    /// The weights of all active flows together.
    weights: u64,
    /// Paused flows that have something ready, and until when. One that was steered since is looked at
    /// in vain.
    resting: BinaryHeap<Reverse<(Timestamp, u32)>>,
    delayed: BinaryHeap<Reverse<Delayed>>,
    leased: HashMap<u64, Lease>,
    retried: HashMap<u64, Retried>,
    /// Where order counts: chains with an entry in `ready`, `delayed` or `leased`.
    busy: HashSet<u64>,
    /// Where order counts: entries that wait for the one before them in their chain.
    behind: HashMap<u64, VecDeque<Behind>>,
    /// Leases that a reopening gave back; their former holder may still settle them.
    returned: HashMap<u64, Lease>,
    /// Entries settled by a former holder while they were in `ready` or `delayed`, to be skipped there.
    gone: HashSet<u64>,
}

impl Queue {
    pub fn new(lane: Lane) -> Self {
        Self {
            hash: lane_hash(&lane),
            lane,
            notify: Arc::new(Notify::new()),
            options: LaneOptions::default(),
            unsettled: 0,
            flows: Vec::new(),
            free: Vec::new(),
            ring: VecDeque::new(),
            given: 0,
            weights: 0,
            resting: BinaryHeap::new(),
            delayed: BinaryHeap::new(),
            leased: HashMap::new(),
            retried: HashMap::new(),
            busy: HashSet::new(),
            behind: HashMap::new(),
            returned: HashMap::new(),
            gone: HashSet::new(),
        }
    }

    fn flow(&mut self, flow: u32) -> &mut Flow {
        &mut self.flows[flow as usize]
    }

    /// Adds a flow. Where it is.
    pub fn add(&mut self, number: u32, tenant: Option<Arc<str>>) -> u32 {
        let flow = Flow::new(number, tenant);
        if let Some(place) = self.free.pop() {
            self.flows[place as usize] = flow;
            return place;
        }
        self.flows.push(flow);
        self.flows.len() as u32 - 1
    }

    /// Forgets a flow where nothing would be another way without it; its place is given again. Whether
    /// it did. The only one that there ever was stays: while it does, nothing is kept free for others.
    pub fn forget(&mut self, flow: u32) -> bool {
        let can_go = self.flows.len() > 1 && self.flows[flow as usize].is_plain();
        if can_go {
            self.flows[flow as usize] = Flow::new(u32::MAX, None);
            self.free.push(flow);
        }
        can_go
    }

    /// What waits for what: nothing, the events of a key, or all.
    fn chain(&self, key: u64) -> Option<u64> {
        match self.options.order {
            Order::None => None,
            Order::Key => Some(key),
            Order::Strict => Some(0),
        }
    }

    /// Adds an entry of so many bytes, due at once or, where it was retried before, at its due time.
    pub fn push(&mut self, flow: u32, entry: Entry, bytes: u64, retried: Option<Retried>) {
        if let Some(retried) = retried {
            self.retried.insert(entry.seq, retried);
        }
        self.unsettled += 1;
        let of = self.flow(flow);
        of.unsettled += 1;
        of.bytes += bytes;
        self.place(flow, entry, retried.map(|r| r.due));
    }

    /// What the records of a flow's entries take, about.
    pub fn bytes(&self, flow: u32) -> u64 {
        self.flows[flow as usize].bytes
    }

    /// Puts an entry where it belongs: behind the head of its chain, into the heap, or among the ready.
    fn place(&mut self, flow: u32, entry: Entry, due: Option<Timestamp>) {
        if let Some(chain) = self.chain(entry.key)
            && !self.busy.insert(chain)
        {
            self.behind.entry(chain).or_default().push_back(Behind { entry, flow });
        } else {
            self.enqueue(flow, entry, due);
        }
    }

    fn enqueue(&mut self, flow: u32, entry: Entry, due: Option<Timestamp>) {
        if let Some(due) = due {
            let Entry { seq, key } = entry;
            self.delayed.push(Reverse(Delayed { due, seq, key, flow }));
            self.flow(flow).delayed += 1;
        } else {
            self.flow(flow).ready.push_back(entry);
            self.line_up(flow);
        }
    }

    /// Gives a flow with something ready its place in the ring.
    fn line_up(&mut self, flow: u32) {
        let of = self.flow(flow);
        if !of.in_turn && !of.ready.is_empty() {
            of.in_turn = true;
            self.ring.push_back(flow);
            self.weigh(flow);
        }
    }

    /// Takes into the sum of weights whether a flow is active, and what it weighs. To be called where
    /// either may have changed: a sum over all flows for each lease would be their square.
    fn weigh(&mut self, flow: u32) {
        let of = &mut self.flows[flow as usize];
        let weight = if of.is_active() { of.steer.weight } else { 0 };
        self.weights = self.weights + u64::from(weight) - u64::from(of.weighed);
        of.weighed = weight;
    }

    /// Lets the next entry of a chain go on after the one before it ended.
    fn release(&mut self, key: u64) {
        let Some(chain) = self.chain(key) else {
            return;
        };
        let next = self.behind.get_mut(&chain).and_then(VecDeque::pop_front);
        let Some(Behind { entry, flow }) = next else {
            self.behind.remove(&chain);
            self.busy.remove(&chain);
            return;
        };
        let due = self.retried.get(&entry.seq).map(|r| r.due);
        self.enqueue(flow, entry, due);
    }

    /// Gives back all leases and sorts every entry anew under `options`.
    pub fn reopen(&mut self, options: LaneOptions) {
        let changed = options.order != self.options.order;
        self.options = options;
        for flow in 0..self.flows.len() as u32 {
            self.flow(flow).steer = Steer::default();
            self.weigh(flow);
            self.line_up(flow);
        }
        if !changed && self.leased.is_empty() {
            return;
        }
        let mut all: Vec<(u32, Entry, Option<Timestamp>)> = Vec::new();
        for (seq, lease) in std::mem::take(&mut self.leased) {
            self.returned.insert(seq, lease);
            all.push((lease.flow, Entry { seq, key: lease.key }, None));
        }
        let gone = std::mem::take(&mut self.gone);
        for (flow, of) in self.flows.iter_mut().enumerate() {
            let ready = std::mem::take(&mut of.ready).into_iter();
            all.extend(
                ready.filter(|e| !gone.contains(&e.seq)).map(|entry| (flow as u32, entry, None)),
            );
            (of.leased, of.delayed, of.in_turn) = (0, 0, false);
            (of.weighed, of.rests) = (0, None);
        }
        self.weights = 0;
        let delayed = std::mem::take(&mut self.delayed).into_iter();
        let delayed = delayed.filter(|Reverse(delayed)| !gone.contains(&delayed.seq));
        all.extend(
            delayed.map(|Reverse(Delayed { due, seq, key, flow })| {
                (flow, Entry { seq, key }, Some(due))
            }),
        );
        let behind = std::mem::take(&mut self.behind).into_values().flatten();
        all.extend(behind.map(|Behind { entry, flow }| (flow, entry, None)));
        all.sort_unstable_by_key(|(_, entry, _)| entry.seq);
        self.busy.clear();
        self.ring.clear();
        self.resting.clear();
        self.given = 0;
        for (flow, entry, due) in all {
            self.place(flow, entry, due);
        }
    }

    /// Lets what is due by now stand among the ready, before what never failed.
    fn wake(&mut self, now: Timestamp) {
        let mut due = Vec::new();
        while let Some(Reverse(delayed)) = self.delayed.peek()
            && delayed.due <= now
        {
            due.extend(self.delayed.pop());
        }
        for Reverse(Delayed { seq, key, flow, .. }) in due.into_iter().rev() {
            let of = self.flow(flow);
            of.delayed -= 1;
            of.ready.push_front(Entry { seq, key });
            self.line_up(flow);
        }
        while let Some(Reverse((until, flow))) = self.resting.peek().copied()
            && until <= now
        {
            self.resting.pop();
            self.flow(flow).rests.take_if(|rests| *rests == until);
            self.line_up(flow);
        }
    }

    /// Leases up to `max` due entries, the tenants in turn.
    pub fn take(&mut self, max: usize, now: Timestamp) -> Vec<Taken> {
        self.wake(now);
        let mut taken = Vec::new();
        let mut in_vain = 0;
        while taken.len() < max && in_vain < self.ring.len() {
            let Some(&flow) = self.ring.front() else { break };
            let of = &mut self.flows[flow as usize];
            while of.ready.front().is_some_and(|e| self.gone.remove(&e.seq)) {
                of.ready.pop_front();
            }
            let rests = of.paused(now);
            if of.ready.is_empty() || rests.is_some() {
                of.in_turn = false;
                self.ring.pop_front();
                self.given = 0;
                self.weigh(flow);
                self.rest(flow, rests);
                continue;
            }
            if !self
                .window()
                .admits(self.flows[flow as usize].leased, &self.flows[flow as usize].steer)
            {
                self.ring.rotate_left(1);
                (self.given, in_vain) = (0, in_vain + 1);
                continue;
            }
            in_vain = 0;
            taken.extend(self.lease_next(flow));
            self.given += 1;
            if self.given >= self.flows[flow as usize].steer.weight {
                self.ring.rotate_left(1);
                self.given = 0;
            }
        }
        taken
    }

    /// Lets a paused flow come again at that time. It stands there once, however often it is looked at.
    fn rest(&mut self, flow: u32, until: Option<Timestamp>) {
        let of = &mut self.flows[flow as usize];
        if let Some(until) = until
            && !of.ready.is_empty()
            && of.rests != Some(until)
        {
            of.rests = Some(until);
            self.resting.push(Reverse((until, flow)));
        }
    }

    fn lease_next(&mut self, flow: u32) -> Option<Taken> {
        let of = self.flow(flow);
        let Entry { seq, key } = of.ready.pop_front()?;
        of.leased += 1;
        let crowd = of.delayed;
        self.leased.insert(seq, Lease { key, flow, order: None });
        if !self.returned.is_empty() {
            self.returned.remove(&seq);
        }
        let retried = if self.retried.is_empty() { None } else { self.retried.get(&seq).copied() };
        Some(Taken { seq, retried, crowd })
    }

    fn window(&self) -> Window {
        let places = self.options.window;
        let alone = self.flows.len() == 1;
        if alone || places == 0 {
            return Window { places, taken: 0, weights: 1, alone };
        }
        Window { places, taken: self.leased.len(), weights: self.weights, alone }
    }

    /// When something is due that is not now, without anybody settling anything.
    pub fn next_due(&self) -> Option<Timestamp> {
        let delayed = self.delayed.peek().map(|Reverse(delayed)| delayed.due);
        let resting = self.resting.peek().map(|Reverse((until, _))| *until);
        [delayed, resting].into_iter().flatten().min()
    }

    /// Changes how a flow is handed out.
    pub fn steer(&mut self, flow: u32, steer: Steer) {
        self.flow(flow).steer = steer;
        self.weigh(flow);
        self.line_up(flow);
        self.notify.notify_waiters();
    }

    /// Lets what of a flow waits for its time be due now, the oldest first.
    pub fn hurry(&mut self, flow: u32) {
        let all = std::mem::take(&mut self.delayed).into_vec();
        let (mine, others): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|Reverse(delayed)| delayed.flow == flow);
        self.delayed = others.into();
        let mut mine: Vec<Delayed> = mine.into_iter().map(|Reverse(delayed)| delayed).collect();
        mine.sort_unstable_by_key(|delayed| Reverse(delayed.seq));
        let of = self.flow(flow);
        of.delayed = 0;
        for Delayed { seq, key, .. } in mine {
            of.ready.push_front(Entry { seq, key });
        }
        self.line_up(flow);
        self.notify.notify_waiters();
    }

    /// Notes the order of a leased event, so that its delivery can raise the newest revision.
    pub fn note_order(&mut self, seq: u64, order: i64) {
        if let Some(lease) = self.leased.get_mut(&seq) {
            lease.order = Some(order);
        }
    }

    /// Undoes leases that nobody got to see.
    pub fn give_back(&mut self, seqs: impl Iterator<Item = u64>) {
        for seq in seqs {
            if let Some(Lease { key, flow, .. }) = self.leased.remove(&seq) {
                let of = self.flow(flow);
                of.leased -= 1;
                of.ready.push_front(Entry { seq, key });
                self.weigh(flow);
                self.line_up(flow);
            }
        }
        self.notify.notify_waiters();
    }

    /// Ends a lease. `None` where there is none: settled before, or never leased.
    pub fn settle(&mut self, seq: u64, settlement: &Settlement) -> Option<Ended> {
        let again = match settlement {
            Settlement::Retry { due, .. } | Settlement::Defer { due } => Some(*due),
            _ => None,
        };
        let terminal = again.is_none();
        let Some(Lease { key, flow, order }) = self.leased.remove(&seq) else {
            // The former holder of a lane settles what a reopening took from it. That it was
            // delivered is true all the same; that it shall be tried again is known already.
            let lease = terminal.then(|| self.returned.remove(&seq))??;
            let Lease { key, flow, order } = lease;
            self.take_out(seq, key, flow);
            return Some(Ended { terminal, key, order, flow: self.flow(flow).number });
        };
        self.flow(flow).leased -= 1;
        self.weigh(flow);
        if let Settlement::Retry { due, attempts, first_attempt_at, .. } = settlement {
            let (due, attempts, first_attempt_at) = (*due, *attempts, *first_attempt_at);
            self.retried.insert(seq, Retried { due, attempts, first_attempt_at });
        }
        match again {
            Some(due) => self.enqueue(flow, Entry { seq, key }, Some(due)),
            None => self.finish(seq, key, flow),
        }
        self.notify.notify_waiters();
        Some(Ended { terminal, key, order, flow: self.flow(flow).number })
    }

    /// Ends the entry for good.
    fn finish(&mut self, seq: u64, key: u64, flow: u32) {
        self.unsettled -= 1;
        self.flow(flow).end_one();
        if !self.retried.is_empty() {
            self.retried.remove(&seq);
        }
        self.release(key);
    }

    /// Ends an entry that is not leased: it is in `ready` or `delayed`, or behind the head of its chain.
    fn take_out(&mut self, seq: u64, key: u64, flow: u32) {
        let chain = self.chain(key);
        let behind = chain.and_then(|chain| self.behind.get_mut(&chain)).is_some_and(|behind| {
            let before = behind.len();
            behind.retain(|waits| waits.entry.seq != seq);
            before != behind.len()
        });
        if behind {
            self.unsettled -= 1;
            self.flow(flow).end_one();
            self.retried.remove(&seq);
        } else {
            self.gone.insert(seq);
            self.finish(seq, key, flow);
        }
    }

    /// The entry that is probably the oldest: the least of those at the front.
    pub fn head(&self) -> Option<u64> {
        let ready = self.flows.iter().filter_map(|flow| flow.ready.front()).map(|e| e.seq).min();
        let delayed = self.delayed.peek().map(|Reverse(d)| d.seq);
        let leased = self.leased.keys().copied().min();
        [ready, delayed, leased].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(0);

    fn queue(tenants: u32, window: usize) -> Queue {
        let name = || Arc::from("a");
        let lane = Lane { connector: name(), stream: name(), destination: name() };
        let mut queue = Queue::new(lane);
        queue.reopen(LaneOptions { order: Order::None, window });
        queue
            .flows
            .extend((0..tenants).map(|flow| Flow::new(flow, Some(Arc::from(format!("{flow}"))))));
        queue
    }

    fn push(queue: &mut Queue, flow: u32, seq: u64) {
        queue.push(flow, Entry { seq, key: seq }, 1, None);
    }

    /// The sum that is kept is the sum there is, whatever happened.
    #[test]
    fn the_weights_are_those_of_the_active_flows() {
        let mut queue = queue(7, 16);
        let mut held: Vec<u64> = Vec::new();
        for step in 0..4_000u64 {
            let flow = (step * 5 % 7) as u32;
            match step % 9 {
                0..=3 => push(&mut queue, flow, step + 1),
                4 => held.extend(queue.take(5, Timestamp(step as i64)).iter().map(|t| t.seq)),
                5 => {
                    let (most, weight) = (1 + (step % 3) as usize, 1 + flow);
                    let not_before = (step % 2 == 0).then_some(Timestamp(step as i64 + 20));
                    queue.steer(flow, Steer { not_before, most, weight });
                }
                other => {
                    let Some(seq) = held.pop() else { continue };
                    let due = Timestamp(step as i64 + 3);
                    let done = Settlement::Dead { reason: "no".to_owned() };
                    match other {
                        6 => queue.give_back([seq].into_iter()),
                        7 => assert!(queue.settle(seq, &Settlement::Defer { due }).is_some()),
                        _ => assert!(queue.settle(seq, &done).is_some()),
                    }
                }
            }
            if step % 1_000 == 999 {
                held.clear();
                let order = if step < 2_000 { Order::Key } else { Order::None };
                queue.reopen(LaneOptions { order, window: 16 });
            }
            let active = queue.flows.iter().filter(|flow| flow.is_active());
            let sum: u64 = active.map(|flow| u64::from(flow.steer.weight)).sum();
            assert_eq!(queue.weights, sum, "after step {step}");
        }
    }

    /// An event's former holder may settle it while it waits for its next attempt.
    #[test]
    fn what_was_settled_while_it_waited_does_not_come_back_with_a_reopening() {
        let mut queue = queue(1, 4);
        for seq in [1, 2] {
            queue.push(0, Entry { seq, key: 7 }, 1, None);
        }
        let done = Settlement::Dead { reason: "no".to_owned() };
        let due = Timestamp(10);
        let (first_attempt_at, error) = (NOW, String::new());
        let retry = Settlement::Retry { due, attempts: 1, first_attempt_at, error };
        assert_eq!(queue.take(4, NOW).len(), 2);
        queue.settle(2, &retry);
        assert_eq!(queue.take(4, due).len(), 1);
        queue.reopen(LaneOptions { order: Order::Key, window: 4 });
        for seq in [1, 2] {
            assert!(queue.settle(seq, &done).is_some_and(|ended| ended.terminal));
        }
        queue.reopen(LaneOptions { order: Order::None, window: 4 });
        assert_eq!((queue.take(4, due).len(), queue.unsettled), (0, 0));
    }

    #[test]
    fn a_paused_flow_rests_in_one_place_however_much_comes_in() {
        let mut queue = queue(2, 4);
        let until = Some(Timestamp(1_000));
        queue.steer(0, Steer { not_before: until, ..Steer::default() });
        for seq in 1..=100 {
            push(&mut queue, 0, seq);
            assert!(queue.take(4, NOW).is_empty());
        }
        assert_eq!(queue.resting.len(), 1);
        assert_eq!(queue.next_due(), until);
        assert_eq!(queue.take(1, Timestamp(1_000)).len(), 1);
        queue.steer(0, Steer { not_before: until, ..Steer::default() });
        assert!(queue.take(1, NOW).is_empty());
        assert_eq!(queue.next_due(), until, "it rests again");
    }
}
