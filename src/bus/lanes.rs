//! Queueing, shared by all buses: which event of a lane is due, leased, delayed or behind another,
//! and whose turn it is.
//!
//! A lane has a *flow* for each tenant; checkpoints name flows by number. Tenants come and go: a flow
//! that has nothing and was told nothing is [forgotten](Lanes::sweep), and its number given again.
//! Nothing here waits, reads a clock or touches a disk: time is an argument, and the caller holds the lock. An unsettled entry
//! costs sixteen bytes (its place and its key's hash); attempts and due times are kept out of line,
//! only for what has been retried.

mod flow;
mod queue;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use hashbrown::{Equivalent, HashMap, HashSet};
use tokio::sync::Notify;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

pub(crate) use self::flow::Window;
use self::{flow::Entry, queue::Queue};
use super::{LaneId, LaneOptions, Settlement, Steer, TenantBacklog};
use crate::{event::Lane, world::Timestamp};

/// Up to so many flows none is forgotten.
const SWEEP_FROM: usize = if cfg!(test) { 4 } else { 1_024 };

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

/// A flow's number: what checkpoints call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FlowId(pub u32);

/// A flow's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct FlowName {
    pub lane: Lane,
    pub tenant: Option<Arc<str>>,
}

/// A flow's name without owning it, for look-ups on the hot path. Hashes as [`FlowName`] does.
#[derive(Clone, Copy, Hash)]
pub(super) struct FlowRef<'a> {
    pub connector: &'a str,
    pub stream: &'a str,
    pub destination: &'a str,
    pub tenant: Option<&'a str>,
}

impl Equivalent<FlowName> for FlowRef<'_> {
    fn equivalent(&self, name: &FlowName) -> bool {
        *self.connector == *name.lane.connector
            && *self.stream == *name.lane.stream
            && *self.destination == *name.lane.destination
            && self.tenant == name.tenant.as_deref()
    }
}

impl From<&FlowRef<'_>> for FlowName {
    fn from(flow: &FlowRef<'_>) -> Self {
        let lane = Lane {
            connector: flow.connector.into(),
            stream: flow.stream.into(),
            destination: flow.destination.into(),
        };
        Self { lane, tenant: flow.tenant.map(Arc::from) }
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
    /// How many of the flow's entries wait for their time.
    pub crowd: usize,
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
    /// The number of the entry's flow.
    pub flow: u32,
}

/// How full a lane is, in places rather than times.
pub(super) struct Fill {
    pub lane: Lane,
    pub unsettled: u64,
    pub head: Option<u64>,
}

/// Where a flow is: the lane, and the place within it.
#[derive(Clone, Copy)]
struct At {
    queue: u32,
    flow: u32,
}

/// All lanes of a bus.
#[derive(Default)]
pub(super) struct Lanes {
    queues: Vec<Queue>,
    ids: HashMap<Lane, LaneId>,
    /// By [`FlowId`]; none where the flow was forgotten.
    flows: Vec<Option<At>>,
    numbers: HashMap<FlowName, FlowId>,
    /// Numbers of forgotten flows.
    free: Vec<FlowId>,
    /// Numbers that were given since this was last asked.
    given: Vec<FlowId>,
    /// How many flows the last sweep left.
    kept: usize,
    tenants: HashMap<Arc<str>, Vec<At>>,
    unsettled: u64,
}

impl Lanes {
    /// The flow's number; it gets one where it has none.
    pub fn intern(&mut self, flow: &FlowRef<'_>) -> FlowId {
        if let Some(id) = self.numbers.get(flow) {
            return *id;
        }
        let name = FlowName::from(flow);
        let number = self.free.pop().unwrap_or(FlowId(self.flows.len() as u32));
        self.given.push(number);
        self.put(number, name);
        number
    }

    /// Gives a flow the number that it had before a restart; numbers come in order.
    pub fn restore(&mut self, number: FlowId, name: FlowName) {
        self.free.extend((self.flows.len() as u32..number.0).map(FlowId));
        self.put(number, name);
    }

    fn put(&mut self, number: FlowId, name: FlowName) {
        let queue = self.lane(&name.lane);
        let flow = self.queues[queue.0 as usize].add(number.0, name.tenant.clone());
        let at = At { queue: queue.0, flow };
        let place = number.0 as usize;
        self.flows.resize(self.flows.len().max(place + 1), None);
        self.flows[place] = Some(at);
        if let Some(tenant) = &name.tenant {
            self.tenants.entry(Arc::clone(tenant)).or_default().push(at);
        }
        self.numbers.insert(name, number);
    }

    /// Whether there are so many flows that it is worth to look for those that nobody needs: twice
    /// those that were needed when it was last looked, so that a flow costs one look or two.
    pub fn wants_sweep(&self) -> bool {
        self.numbers.len() > SWEEP_FROM.max(2 * self.kept)
    }

    /// Forgets the flows that have nothing, were told nothing, and whose numbers are not in `named`;
    /// says which. Their numbers are given to others from now on.
    pub fn sweep(&mut self, named: &HashSet<u32>) -> Vec<FlowId> {
        let Self { queues, flows, numbers, tenants, .. } = self;
        let mut gone = Vec::new();
        numbers.retain(|name, number| {
            let Some(at) = flows[number.0 as usize] else { return false };
            if named.contains(&number.0) || !queues[at.queue as usize].forget(at.flow) {
                return true;
            }
            flows[number.0 as usize] = None;
            if let Some(tenant) = &name.tenant
                && let Some(all) = tenants.get_mut(tenant)
            {
                all.retain(|other| (other.queue, other.flow) != (at.queue, at.flow));
                if all.is_empty() {
                    tenants.remove(tenant);
                }
            }
            gone.push(*number);
            false
        });
        numbers.shrink_to_fit();
        tenants.shrink_to_fit();
        self.kept = self.numbers.len();
        self.free.extend(&gone);
        gone
    }

    /// The numbers that were given since this was last asked.
    pub fn take_given(&mut self) -> Vec<FlowId> {
        std::mem::take(&mut self.given)
    }

    fn lane(&mut self, lane: &Lane) -> LaneId {
        if let Some(id) = self.ids.get(lane) {
            return *id;
        }
        let id = LaneId(self.queues.len() as u32);
        self.queues.push(Queue::new(lane.clone()));
        self.ids.insert(lane.clone(), id);
        id
    }

    /// Opens a lane: gives back the leases of whoever held it before.
    pub fn open(&mut self, lane: &Lane, options: LaneOptions) -> LaneId {
        let id = self.lane(lane);
        let queue = &mut self.queues[id.0 as usize];
        queue.reopen(options);
        queue.notify.notify_waiters();
        id
    }

    fn queue(&mut self, id: LaneId) -> Option<&mut Queue> {
        self.queues.get_mut(id.0 as usize)
    }

    /// The lane's name; `None` for an id that this bus did not give.
    pub fn name(&self, id: LaneId) -> Option<&Lane> {
        Some(&self.queues.get(id.0 as usize)?.lane)
    }

    /// The stable hash of the lane's name.
    pub fn hash(&self, id: LaneId) -> Option<u64> {
        Some(self.queues.get(id.0 as usize)?.hash)
    }

    /// What a flow is called; `None` for a number that was not given.
    pub fn flow(&self, id: FlowId) -> Option<FlowName> {
        let at = self.at(id)?;
        let queue = &self.queues[at.queue as usize];
        let tenant = queue.flows[at.flow as usize].tenant.clone();
        Some(FlowName { lane: queue.lane.clone(), tenant })
    }

    /// Whether there is a flow of that number.
    pub fn has(&self, id: FlowId) -> bool {
        self.at(id).is_some()
    }

    fn at(&self, id: FlowId) -> Option<At> {
        self.flows.get(id.0 as usize).copied().flatten()
    }

    /// Where a tenant's flow in a lane is.
    fn of_tenant(&self, id: LaneId, tenant: Option<&str>) -> Option<At> {
        let Lane { connector, stream, destination } = &self.queues.get(id.0 as usize)?.lane;
        let number = self.numbers.get(&FlowRef { connector, stream, destination, tenant })?;
        self.at(*number)
    }

    /// How many flows there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// What a taker of the lane waits on.
    pub fn notify(&self, id: LaneId) -> Option<Arc<Notify>> {
        Some(Arc::clone(&self.queues.get(id.0 as usize)?.notify))
    }

    /// Adds an entry whose record takes so many bytes, due at once or, where it was retried before,
    /// at its due time. A number that was not given is passed over.
    pub fn push(&mut self, id: FlowId, seq: u64, key: u64, bytes: u64, retried: Option<Retried>) {
        let Some(At { queue, flow }) = self.at(id) else { return };
        let queue = &mut self.queues[queue as usize];
        queue.push(flow, Entry { seq, key }, bytes, retried);
        self.unsettled += 1;
        queue.notify.notify_waiters();
    }

    /// What the records of a flow's entries take in the journal, about.
    pub fn bytes(&self, id: FlowId) -> u64 {
        self.at(id).map_or(0, |at| self.queues[at.queue as usize].bytes(at.flow))
    }

    /// Leases up to `max` due entries, the tenants in turn.
    pub fn take(&mut self, id: LaneId, max: usize, now: Timestamp) -> Vec<Taken> {
        self.queue(id).map(|queue| queue.take(max, now)).unwrap_or_default()
    }

    /// When the lane has something to hand out that it has not now.
    pub fn next_due(&self, id: LaneId) -> Option<Timestamp> {
        self.queues.get(id.0 as usize)?.next_due()
    }

    /// Changes how a tenant's events in a lane are handed out. Whether there is such a tenant.
    pub fn steer(&mut self, id: LaneId, tenant: Option<&str>, steer: Steer) -> bool {
        let at = self.of_tenant(id, tenant);
        if let Some(at) = at {
            self.queues[at.queue as usize].steer(at.flow, steer);
        }
        at.is_some()
    }

    /// Lets what of a tenant's events in a lane waits for its time be due now.
    pub fn hurry(&mut self, id: LaneId, tenant: Option<&str>) {
        if let Some(at) = self.of_tenant(id, tenant) {
            self.queues[at.queue as usize].hurry(at.flow);
        }
    }

    /// Notes the order of a leased event, so that its delivery can raise the newest revision.
    pub fn note_order(&mut self, id: LaneId, seq: u64, order: i64) {
        if let Some(queue) = self.queue(id) {
            queue.note_order(seq, order);
        }
    }

    /// Undoes leases that nobody got to see.
    pub fn give_back(&mut self, id: LaneId, seqs: impl Iterator<Item = u64>) {
        if let Some(queue) = self.queue(id) {
            queue.give_back(seqs);
        }
    }

    /// Ends a lease. `None` where there is none: settled before, or never leased.
    pub fn settle(&mut self, id: LaneId, seq: u64, settlement: &Settlement) -> Option<Ended> {
        let ended = self.queue(id)?.settle(seq, settlement)?;
        self.unsettled -= u64::from(ended.terminal);
        Some(ended)
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

    /// What a tenant has in all lanes.
    pub fn tenant(&self, tenant: &str) -> TenantBacklog {
        let flows = self.tenants.get(tenant).map_or(&[][..], Vec::as_slice);
        flows.iter().fold(TenantBacklog::default(), |sum, at| {
            let flow = &self.queues[at.queue as usize].flows[at.flow as usize];
            TenantBacklog { events: sum.events + flow.unsettled, bytes: sum.bytes + flow.bytes }
        })
    }

    /// What each tenant has in all lanes, of those that have anything.
    pub fn tenants(&self) -> Vec<(Arc<str>, TenantBacklog)> {
        let all = self.tenants.keys().map(|name| (Arc::clone(name), self.tenant(name)));
        all.filter(|(_, backlog)| backlog.events > 0).collect()
    }
}
