//! Which leased events share a request, and when it goes. Pure: time is an argument.
//!
//! A batch holds events of one tenant, in the order in which they were accepted; never two states of
//! one thing, where revisions are ordered. It goes when it is full, or when its first event has waited
//! long enough. What was attempted and is to be attempted again as a whole is kept: its events are put
//! together again when they come back, so that they go under the idempotency key that they went under
//! before. Where one of them does not come back, the others join whatever is open.

pub(super) mod lane;
mod stored;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use crate::{
    bus::{Delivery, Seq},
    deliver::Member,
    event::Record,
    plan::BatchPlan,
    world::Timestamp,
};

/// How long at least the events of a kept batch wait for those that have not come back. All are due
/// at the same moment.
const REUNION: Duration = Duration::from_secs(1);
/// After so long without any of its events a kept batch is forgotten: they were settled when nobody
/// could note it.
const FORGOTTEN: Duration = Duration::from_hours(7 * 24);

/// An event that is mapped and waits to be sent.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    pub delivery: Delivery,
    pub out: Record,
}

impl Ready {
    fn bytes(&self) -> usize {
        self.out.bytes().len() + 1
    }

    /// Whether they are states of one thing of which one may replace the other.
    fn rivals(&self, other: &Self) -> bool {
        let (one, other) = (&self.delivery.event, &other.delivery.event);
        (one.order.is_some() || other.order.is_some()) && one.key == other.key
    }

    /// As a destination takes it.
    pub fn member(&self) -> Member {
        Member { event: Arc::clone(&self.delivery.event), out: self.out.clone() }
    }
}

/// Events that go in one request.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    /// At least one, in the order in which they were accepted.
    pub members: Vec<Ready>,
    /// Whether it was kept: attempted before with just these events.
    pub is_kept: bool,
}

impl Batch {
    /// The name of a batch among those that are kept: its first event.
    pub fn id(&self) -> Seq {
        self.members.first().map(|first| first.delivery.seq).unwrap_or_default()
    }

    /// The places of its events.
    pub fn seqs(&self) -> Vec<Seq> {
        self.members.iter().map(|member| member.delivery.seq).collect()
    }

    /// Whose events they are.
    pub fn tenant(&self) -> Option<&String> {
        self.members.first().and_then(|first| first.delivery.event.tenant.as_ref())
    }

    pub fn bytes(&self) -> usize {
        self.members.iter().map(Ready::bytes).sum()
    }

    /// Its first half and its second; it has at least two events.
    pub fn halves(mut self) -> [Self; 2] {
        let rest = self.members.split_off(self.members.len().div_ceil(2));
        [self.members, rest].map(|members| Self { members, is_kept: false })
    }
}

/// A batch that more may join.
#[derive(Debug)]
struct Open {
    since: Timestamp,
    bytes: usize,
    members: Vec<Ready>,
}

/// A batch that is attempted again as it was.
#[derive(Debug)]
struct Kept {
    seqs: Vec<Seq>,
    back: Vec<Ready>,
    /// When the first of them came back.
    since: Option<Timestamp>,
    /// Since when it is kept.
    at: Timestamp,
}

/// Puts the events of one lane together.
pub(super) struct Grouper {
    max: usize,
    max_bytes: usize,
    within: Duration,
    /// By tenant, each in the order in which they were begun.
    open: HashMap<Option<String>, Vec<Open>>,
    /// To go now.
    full: VecDeque<Batch>,
    /// By the first event.
    kept: HashMap<Seq, Kept>,
    kept_in: HashMap<Seq, Seq>,
    /// Kept batches that can no longer be what they were.
    dissolved: Vec<Seq>,
    /// What is open or full.
    events: usize,
    bytes: usize,
    /// Events of kept batches that are back, while others are not.
    back: usize,
}

impl Grouper {
    /// Nothing waits yet; `kept` are the batches of an earlier run.
    pub fn new(plan: &BatchPlan, kept: impl IntoIterator<Item = Vec<Seq>>, now: Timestamp) -> Self {
        let mut grouper = Self {
            max: plan.max.max(1),
            max_bytes: plan.max_bytes,
            within: plan.within,
            open: HashMap::new(),
            full: VecDeque::new(),
            kept: HashMap::new(),
            kept_in: HashMap::new(),
            dissolved: Vec::new(),
            events: 0,
            bytes: 0,
            back: 0,
        };
        kept.into_iter().for_each(|seqs| grouper.keep(seqs, now));
        grouper
    }

    /// Whether no event waits here.
    pub fn is_empty(&self) -> bool {
        self.events == 0 && self.back == 0
    }

    /// Events that wait to be sent. Those that wait for the others of a kept batch are not counted: the
    /// others have to be let in.
    pub fn events(&self) -> usize {
        self.events
    }

    /// Bytes of what the map made of them.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes an event in.
    pub fn add(&mut self, ready: Ready, now: Timestamp) {
        let batch = self.kept_in.get(&ready.delivery.seq).and_then(|id| self.kept.get_mut(id));
        let Some(kept) = batch else { return self.join(ready, now) };
        kept.since.get_or_insert(now);
        kept.back.push(ready);
        self.back += 1;
        if kept.back.len() == kept.seqs.len() {
            self.reunite(self.max, now);
        }
    }

    /// Lets kept batches go whose events are all back, as far as they still fit.
    fn reunite(&mut self, max: usize, now: Timestamp) {
        let is_back = |kept: &Kept| kept.back.len() == kept.seqs.len();
        let back: Vec<Seq> =
            self.kept.iter().filter(|(_, kept)| is_back(kept)).map(|(id, _)| *id).collect();
        for id in back {
            let Some(kept) = self.kept.get_mut(&id) else { continue };
            let bytes: usize = kept.back.iter().map(Ready::bytes).sum();
            if kept.seqs.len() > max || (bytes > self.max_bytes && kept.seqs.len() > 1) {
                self.dissolve(id, now);
                continue;
            }
            kept.since = None;
            let mut members = std::mem::take(&mut kept.back);
            members.sort_by_key(|member| member.delivery.seq);
            self.back -= members.len();
            self.events += members.len();
            self.bytes += bytes;
            self.full.push_back(Batch { members, is_kept: true });
        }
    }

    /// Finds the first open batch that an event fits into, or begins one.
    fn join(&mut self, ready: Ready, now: Timestamp) {
        self.events += 1;
        self.bytes += ready.bytes();
        let tenant = ready.delivery.event.tenant.clone();
        let batches = self.open.entry(tenant).or_default();
        let size = ready.bytes();
        let mut at = 0;
        while let Some(open) = batches.get(at) {
            if open.bytes + size > self.max_bytes {
                let open = batches.remove(at);
                self.full.push_back(open.closed());
            } else if open.members.iter().any(|member| member.rivals(&ready)) {
                at += 1;
            } else {
                break;
            }
        }
        if at == batches.len() {
            batches.push(Open { since: now, bytes: 0, members: Vec::new() });
        }
        let open = &mut batches[at];
        open.bytes += size;
        open.members.push(ready);
        if open.members.len() >= self.max || open.bytes >= self.max_bytes {
            let open = batches.remove(at);
            self.full.push_back(open.closed());
        }
    }

    /// The next batch that is to go, if one is. Those of tenants that `may` not go on filling.
    pub fn next(&mut self, now: Timestamp, may: impl Fn(Option<&String>) -> bool) -> Option<Batch> {
        let first = |full: &VecDeque<Batch>| full.iter().position(|batch| may(batch.tenant()));
        let at = first(&self.full).or_else(|| {
            self.part(now);
            self.close(now, &may);
            first(&self.full)
        });
        let batch = self.full.remove(at?)?;
        self.events -= batch.members.len();
        self.bytes -= batch.bytes();
        Some(batch)
    }

    /// Closes what has waited long enough, the oldest first.
    fn close(&mut self, now: Timestamp, may: &impl Fn(Option<&String>) -> bool) {
        let within = self.within;
        let is_due = |open: &Open| open.since.plus(within) <= now;
        let mut due: Vec<Open> = Vec::new();
        for (_, batches) in self.open.iter_mut().filter(|(tenant, _)| may(tenant.as_ref())) {
            due.extend(batches.extract_if(.., |open| is_due(open)));
        }
        self.open.retain(|_, batches| !batches.is_empty());
        due.sort_by_key(|open| (open.since, open.members[0].delivery.seq));
        self.full.extend(due.into_iter().map(Open::closed));
    }

    /// Gives kept batches up whose events do not all come back.
    fn part(&mut self, now: Timestamp) {
        let patience = self.within.max(REUNION);
        let is_over = |kept: &Kept| match kept.since {
            Some(since) => since.plus(patience) <= now,
            None => kept.at.plus(FORGOTTEN) <= now,
        };
        let over: Vec<Seq> =
            self.kept.iter().filter(|(_, kept)| is_over(kept)).map(|(id, _)| *id).collect();
        for id in over {
            self.dissolve(id, now);
        }
    }

    /// Nothing can be taken in for the time being: who waits for others waits on.
    pub fn postpone(&mut self, now: Timestamp) {
        for kept in self.kept.values_mut().filter(|kept| kept.since.is_some()) {
            kept.since = Some(now);
        }
    }

    /// When [`Grouper::next`] has to be asked again, if nothing is added before.
    pub fn due(&self, may: impl Fn(Option<&String>) -> bool) -> Option<Timestamp> {
        if self.full.iter().any(|batch| may(batch.tenant())) {
            return Some(Timestamp(i64::MIN));
        }
        let patience = self.within.max(REUNION);
        let open = self.open.iter().filter(|(tenant, _)| may(tenant.as_ref()));
        let open = open.flat_map(|(_, open)| open).map(|open| open.since.plus(self.within));
        let kept = self.kept.values().filter_map(|kept| Some(kept.since?.plus(patience)));
        open.chain(kept).min()
    }

    /// Puts a batch in the front: the halves of one that was refused.
    pub fn put_first(&mut self, batch: Batch) {
        self.events += batch.members.len();
        self.bytes += batch.bytes();
        self.full.push_front(batch);
    }

    /// Remembers which events go together from now on.
    pub fn keep(&mut self, seqs: Vec<Seq>, now: Timestamp) {
        let Some(id) = seqs.first().copied() else { return };
        self.kept_in.extend(seqs.iter().map(|seq| (*seq, id)));
        self.kept.insert(id, Kept { seqs, back: Vec::new(), since: None, at: now });
    }

    /// An event will not come back, or not with the others: its batch is kept no longer.
    pub fn leaves(&mut self, seq: Seq, now: Timestamp) {
        if let Some(id) = self.kept_in.get(&seq).copied() {
            self.dissolve(id, now);
        }
    }

    fn dissolve(&mut self, id: Seq, now: Timestamp) {
        let Some(kept) = self.kept.remove(&id) else { return };
        for seq in &kept.seqs {
            self.kept_in.remove(seq);
        }
        self.dissolved.push(id);
        self.back -= kept.back.len();
        for ready in kept.back {
            self.join(ready, now);
        }
    }

    /// The batches that were kept and no longer are, since this was last asked.
    pub fn dissolved(&mut self) -> Vec<Seq> {
        std::mem::take(&mut self.dissolved)
    }

    /// Everything that waits here. What is kept stays so.
    pub fn give_back(&mut self) -> Vec<Delivery> {
        let full = self.full.drain(..).flat_map(|batch| batch.members);
        let open = self.open.drain().flat_map(|(_, open)| open).flat_map(|open| open.members);
        let kept = self.kept.values_mut().flat_map(|kept| {
            kept.since = None;
            std::mem::take(&mut kept.back)
        });
        (self.events, self.bytes, self.back) = (0, 0, 0);
        full.chain(open).chain(kept).map(|ready| ready.delivery).collect()
    }
}

impl Open {
    fn closed(mut self) -> Batch {
        self.members.sort_by_key(|member| member.delivery.seq);
        Batch { members: self.members, is_kept: false }
    }
}

#[cfg(test)]
mod tests;
