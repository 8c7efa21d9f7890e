//! Queueing, shared by all buses: which event of a lane is due, leased, delayed or behind another.
//!
//! Nothing here waits, reads a clock or touches a disk: time is an argument, and the caller holds
//! the lock. An unsettled entry costs sixteen bytes (its place and its key's hash); attempts and due
//! times are kept out of line, only for what has been retried.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    sync::Arc,
};

use hashbrown::{Equivalent, HashMap, HashSet};
use tokio::sync::Notify;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{LaneId, LaneOptions, Settlement};
use crate::{event::Lane, world::Timestamp};

/// The hash that stands for a key. Two keys that share one are merely kept in order together.
pub(super) fn key_hash(key: &str) -> u64 {
    xxh3_64(key.as_bytes())
}

/// The hash that stands for a lane's name, the same after every restart.
pub(super) fn lane_hash(lane: &Lane) -> u64 {
    let connector = xxh3_64(lane.connector.as_bytes());
    let stream = xxh3_64_with_seed(lane.stream.as_bytes(), connector);
    xxh3_64_with_seed(lane.destination.as_bytes(), stream)
}

/// Where the newest revision of a key in a lane is kept.
pub(super) fn revision_slot(lane: u64, key: u64) -> u64 {
    xxh3_64_with_seed(&key.to_le_bytes(), lane)
}

/// A lane's name without owning it, for look-ups on the hot path. Hashes as [`Lane`] does.
#[derive(Hash)]
pub(super) struct LaneRef<'a> {
    pub connector: &'a str,
    pub stream: &'a str,
    pub destination: &'a str,
}

impl Equivalent<Lane> for LaneRef<'_> {
    fn equivalent(&self, lane: &Lane) -> bool {
        *self.connector == *lane.connector
            && *self.stream == *lane.stream
            && *self.destination == *lane.destination
    }
}

impl From<&LaneRef<'_>> for Lane {
    fn from(lane: &LaneRef<'_>) -> Self {
        Self {
            connector: lane.connector.into(),
            stream: lane.stream.into(),
            destination: lane.destination.into(),
        }
    }
}

/// What is remembered of an entry whose attempts have failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retried {
    pub due: Timestamp,
    pub attempts: u32,
    pub first_attempt_at: Timestamp,
}

/// A lease just given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub seq: u64,
    pub retried: Option<Retried>,
}

/// What a settlement ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// Whether the entry is gone for good.
    pub terminal: bool,
    /// The key's hash.
    pub key: u64,
    /// The event's order, where the taker noted one.
    pub order: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    seq: u64,
    key: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Delayed {
    due: Timestamp,
    seq: u64,
    key: u64,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    key: u64,
    order: Option<i64>,
}

/// One lane's entries.
struct Queue {
    lane: Lane,
    hash: u64,
    notify: Arc<Notify>,
    by_key: bool,
    /// All entries, wherever they are below.
    unsettled: u64,
    ready: VecDeque<Entry>,
    delayed: BinaryHeap<Reverse<Delayed>>,
    leased: HashMap<u64, Lease>,
    retried: HashMap<u64, Retried>,
    /// By key only: keys with an entry in `ready`, `delayed` or `leased`.
    busy: HashSet<u64>,
    /// By key only: entries that wait for the one before them of the same key.
    behind: HashMap<u64, VecDeque<u64>>,
    /// Leases that a reopening gave back; their former holder may still settle them.
    returned: HashMap<u64, Lease>,
    /// Entries settled by a former holder while they were in `ready`, to be skipped there.
    gone: HashSet<u64>,
}

impl Queue {
    fn new(lane: Lane) -> Self {
        Self {
            hash: lane_hash(&lane),
            lane,
            notify: Arc::new(Notify::new()),
            by_key: false,
            unsettled: 0,
            ready: VecDeque::new(),
            delayed: BinaryHeap::new(),
            leased: HashMap::new(),
            retried: HashMap::new(),
            busy: HashSet::new(),
            behind: HashMap::new(),
            returned: HashMap::new(),
            gone: HashSet::new(),
        }
    }

    /// Puts an entry where it belongs: behind its key's head, into the heap, or among the ready.
    fn place(&mut self, entry: Entry, due: Option<Timestamp>) {
        if self.by_key && !self.busy.insert(entry.key) {
            self.behind.entry(entry.key).or_default().push_back(entry.seq);
        } else {
            self.enqueue(entry, due);
        }
    }

    fn enqueue(&mut self, entry: Entry, due: Option<Timestamp>) {
        match due {
            Some(due) => {
                self.delayed.push(Reverse(Delayed { due, seq: entry.seq, key: entry.key }));
            }
            None => self.ready.push_back(entry),
        }
    }

    /// Lets the next entry of `key` go on after the one before it ended.
    fn release(&mut self, key: u64) {
        if !self.by_key {
            return;
        }
        let next = self.behind.get_mut(&key).and_then(VecDeque::pop_front);
        let Some(seq) = next else {
            self.behind.remove(&key);
            self.busy.remove(&key);
            return;
        };
        let due = self.retried.get(&seq).map(|r| r.due);
        self.enqueue(Entry { seq, key }, due);
    }

    /// Gives back all leases and sorts every entry anew under `options`.
    fn reopen(&mut self, options: LaneOptions) {
        let changed = options.by_key != self.by_key;
        self.by_key = options.by_key;
        if !changed && self.leased.is_empty() {
            return;
        }
        let mut all: Vec<(Entry, Option<Timestamp>)> = Vec::new();
        for (seq, lease) in std::mem::take(&mut self.leased) {
            self.returned.insert(seq, lease);
            all.push((Entry { seq, key: lease.key }, None));
        }
        let gone = std::mem::take(&mut self.gone);
        let ready = std::mem::take(&mut self.ready);
        all.extend(ready.into_iter().filter(|e| !gone.contains(&e.seq)).map(|e| (e, None)));
        all.extend(
            std::mem::take(&mut self.delayed)
                .into_iter()
                .map(|Reverse(d)| (Entry { seq: d.seq, key: d.key }, Some(d.due))),
        );
        for (key, behind) in std::mem::take(&mut self.behind) {
            all.extend(behind.into_iter().map(|seq| (Entry { seq, key }, None)));
        }
        all.sort_unstable_by_key(|(entry, _)| entry.seq);
        self.busy.clear();
        for (entry, due) in all {
            self.place(entry, due);
        }
    }

    fn next_due_entry(&mut self, now: Timestamp) -> Option<Entry> {
        if self.delayed.peek().is_some_and(|Reverse(d)| d.due <= now) {
            let Reverse(delayed) = self.delayed.pop()?;
            return Some(Entry { seq: delayed.seq, key: delayed.key });
        }
        while let Some(entry) = self.ready.pop_front() {
            if self.gone.is_empty() || !self.gone.remove(&entry.seq) {
                return Some(entry);
            }
        }
        None
    }

    /// Ends the entry for good.
    fn finish(&mut self, seq: u64, key: u64) {
        self.unsettled -= 1;
        if !self.retried.is_empty() {
            self.retried.remove(&seq);
        }
        self.release(key);
    }

    /// The entry that is probably the oldest: the least of those at the front.
    fn head(&self) -> Option<u64> {
        let ready = self.ready.front().map(|e| e.seq);
        let delayed = self.delayed.peek().map(|Reverse(d)| d.seq);
        let leased = self.leased.keys().copied().min();
        [ready, delayed, leased].into_iter().flatten().min()
    }
}

/// How full a lane is, in places rather than times.
pub(super) struct Fill {
    pub lane: Lane,
    pub unsettled: u64,
    pub head: Option<u64>,
}

/// All lanes of a bus.
#[derive(Default)]
pub(super) struct Lanes {
    queues: Vec<Queue>,
    ids: HashMap<Lane, LaneId>,
    unsettled: u64,
}

impl Lanes {
    /// The lane's id; it gets one where it has none.
    pub fn intern(&mut self, lane: &LaneRef<'_>) -> LaneId {
        if let Some(id) = self.ids.get(lane) {
            return *id;
        }
        self.add(Lane::from(lane))
    }

    fn add(&mut self, lane: Lane) -> LaneId {
        let id = LaneId(self.queues.len() as u32);
        self.queues.push(Queue::new(lane.clone()));
        self.ids.insert(lane, id);
        id
    }

    /// Opens a lane: gives back the leases of whoever held it before.
    pub fn open(&mut self, lane: &Lane, options: LaneOptions) -> LaneId {
        let known = self.ids.get(lane).copied();
        let id = known.unwrap_or_else(|| self.add(lane.clone()));
        let queue = &mut self.queues[id.0 as usize];
        queue.reopen(options);
        queue.notify.notify_waiters();
        id
    }

    /// The lane's name; `None` for an id that this bus did not give.
    pub fn name(&self, id: LaneId) -> Option<&Lane> {
        Some(&self.queues.get(id.0 as usize)?.lane)
    }

    /// The stable hash of the lane's name.
    pub fn hash(&self, id: LaneId) -> Option<u64> {
        Some(self.queues.get(id.0 as usize)?.hash)
    }

    /// How many lanes there are; ids are `0..len`.
    pub fn len(&self) -> usize {
        self.queues.len()
    }

    /// What a taker of the lane waits on.
    pub fn notify(&self, id: LaneId) -> Option<Arc<Notify>> {
        Some(Arc::clone(&self.queues.get(id.0 as usize)?.notify))
    }

    /// Adds an entry, due at once or, where it was retried before, at its due time.
    pub fn push(&mut self, id: LaneId, seq: u64, key: u64, retried: Option<Retried>) {
        let queue = &mut self.queues[id.0 as usize];
        if let Some(retried) = retried {
            queue.retried.insert(seq, retried);
        }
        queue.unsettled += 1;
        self.unsettled += 1;
        queue.place(Entry { seq, key }, retried.map(|r| r.due));
        queue.notify.notify_waiters();
    }

    /// Leases up to `max` due entries.
    pub fn take(&mut self, id: LaneId, max: usize, now: Timestamp) -> Vec<Taken> {
        let Some(queue) = self.queues.get_mut(id.0 as usize) else {
            return Vec::new();
        };
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some(entry) = queue.next_due_entry(now)
        {
            queue.leased.insert(entry.seq, Lease { key: entry.key, order: None });
            if !queue.returned.is_empty() {
                queue.returned.remove(&entry.seq);
            }
            let retried = if queue.retried.is_empty() {
                None
            } else {
                queue.retried.get(&entry.seq).copied()
            };
            taken.push(Taken { seq: entry.seq, retried });
        }
        taken
    }

    /// When the first delayed entry of the lane is due.
    pub fn next_due(&self, id: LaneId) -> Option<Timestamp> {
        self.queues.get(id.0 as usize)?.delayed.peek().map(|Reverse(d)| d.due)
    }

    /// Notes the order of a leased event, so that its delivery can raise the newest revision.
    pub fn note_order(&mut self, id: LaneId, seq: u64, order: i64) {
        if let Some(lease) = self.queues.get_mut(id.0 as usize).and_then(|q| q.leased.get_mut(&seq))
        {
            lease.order = Some(order);
        }
    }

    /// Undoes leases that nobody got to see.
    pub fn give_back(&mut self, id: LaneId, seqs: impl Iterator<Item = u64>) {
        let Some(queue) = self.queues.get_mut(id.0 as usize) else {
            return;
        };
        for seq in seqs {
            if let Some(lease) = queue.leased.remove(&seq) {
                queue.ready.push_front(Entry { seq, key: lease.key });
            }
        }
        queue.notify.notify_waiters();
    }

    /// Ends a lease. `None` where there is none: settled before, or never leased.
    pub fn settle(&mut self, id: LaneId, seq: u64, settlement: &Settlement) -> Option<Ended> {
        let queue = self.queues.get_mut(id.0 as usize)?;
        let again = match settlement {
            Settlement::Retry { due, .. } | Settlement::Defer { due } => Some(*due),
            _ => None,
        };
        let Some(lease) = queue.leased.remove(&seq) else {
            // The former holder of a lane settles what a reopening took from it. That it was
            // delivered is true all the same; that it shall be tried again is known already.
            let lease = again.is_none().then(|| queue.returned.remove(&seq))??;
            self.unsettled -= 1;
            queue.take_out(seq, lease.key);
            return Some(Ended { terminal: true, key: lease.key, order: lease.order });
        };
        let Lease { key, order } = lease;
        if let Settlement::Retry { due, attempts, first_attempt_at, .. } = settlement {
            let (due, attempts, first_attempt_at) = (*due, *attempts, *first_attempt_at);
            queue.retried.insert(seq, Retried { due, attempts, first_attempt_at });
        }
        if let Some(due) = again {
            queue.enqueue(Entry { seq, key }, Some(due));
        } else {
            self.unsettled -= 1;
            queue.finish(seq, key);
        }
        queue.notify.notify_waiters();
        Some(Ended { terminal: again.is_none(), key, order })
    }

    /// Unsettled entries of all lanes.
    pub fn unsettled(&self) -> u64 {
        self.unsettled
    }

    /// How full each lane is.
    pub fn fills(&self) -> Vec<Fill> {
        self.queues
            .iter()
            .map(|q| Fill { lane: q.lane.clone(), unsettled: q.unsettled, head: q.head() })
            .collect()
    }
}

impl Queue {
    /// Ends an entry that is not leased: it is in `ready`, or behind its key's head.
    fn take_out(&mut self, seq: u64, key: u64) {
        let behind = self.behind.get_mut(&key).map(|b| {
            let before = b.len();
            b.retain(|s| *s != seq);
            before != b.len()
        });
        if behind == Some(true) {
            self.unsettled -= 1;
            self.retried.remove(&seq);
        } else {
            self.gone.insert(seq);
            self.finish(seq, key);
        }
    }
}
