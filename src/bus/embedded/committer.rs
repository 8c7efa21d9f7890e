//! The journal's thread: collect what waits, check claims, write once, sync once, answer all.
//!
//! Claims are checked before the write and taken after the sync, by this thread alone, so claim and
//! journal are one step; a duplicate of something in the same group is answered after the sync like
//! the thing itself. Nothing is answered, and nothing shows in a lane, before it is durable.

use std::{
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Sender, SyncSender},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use hashbrown::{HashMap, HashSet};

use super::{
    Shared,
    books::{Books, Entry},
    claims::{forever_mark, forever_slot, second_of},
    company::Company,
    format::{
        append::{self, StoredClaim},
        segment::{Kind, begin_frame, end_frame, seal_frames},
        settlement,
    },
    journal::{Journal, Place},
    keeper::Job,
    letters::{self, LetterOp},
    queue::{AppendOp, Op, Pending, SettleOp, Stop, Work},
    segments::{new_facts, note_event, note_settlement, seq_at},
};
use crate::{
    bus::{
        Accepted, AppendError, Seq,
        lanes::{FlowRef, key_hash},
    },
    event::EventId,
    world::Timestamp,
};

/// Bytes of appends that are written together at most.
const GROUP_BYTES: usize = 8 << 20;

/// Settlements in one record at most, so that damage to one costs few.
const SETTLEMENTS_A_RECORD: usize = 256;

/// When to come back where the disk budget is spent.
const FULL_RETRY_AFTER: Duration = Duration::from_secs(2);

/// How the keeper's thread is reached; dropping it ends that thread.
pub(super) struct KeeperLink {
    pub jobs: SyncSender<Job>,
    /// Dropped to end a checkpoint that sled keeps refusing.
    pub gone: Sender<()>,
    pub thread: JoinHandle<()>,
}

/// See the module's text.
pub(super) struct Committer {
    pub(super) shared: Arc<Shared>,
    pub(super) journal: Journal,
    pub(super) letters: Journal,
    pub(super) books: Books,
    pub(super) keeper: Option<KeeperLink>,
    /// The frames of the group at hand.
    group: Vec<u8>,
    /// Settlements that the disk refused; they go with the next group.
    carried: Vec<SettleOp>,
    group_ids: HashSet<EventId>,
    group_forever: HashMap<u64, u64>,
    pub(super) upkeep: super::upkeep::Upkeep,
    company: Company,
}

impl Committer {
    pub fn new(
        shared: Arc<Shared>,
        journal: Journal,
        letters: Journal,
        books: Books,
        keeper: KeeperLink,
    ) -> Self {
        Self {
            shared,
            journal,
            letters,
            books,
            keeper: Some(keeper),
            group: Vec::new(),
            carried: Vec::new(),
            group_ids: HashSet::new(),
            group_forever: HashMap::new(),
            upkeep: super::upkeep::Upkeep::default(),
            company: Company::new(),
        }
    }

    /// Works until the queue says stop.
    pub fn run(mut self) {
        self.keep_up();
        loop {
            let wanted = self.company.wanted();
            let Work { ops, settlements, stop } = self.shared.queue.collect(self.wake_at(), wanted);
            self.company.came(ops.len());
            if matches!(stop, Some(Stop::Abandon)) {
                return;
            }
            self.work(ops, settlements);
            if let Some(Stop::Close(done)) = stop {
                self.close();
                // Whoever asked for the end may no longer wait for it.
                let _ = done.send(());
                return;
            }
            self.keep_up();
        }
    }

    fn work(&mut self, ops: Vec<Op>, settlements: Vec<SettleOp>) {
        self.carried.extend(settlements);
        let (mut group, mut bytes) = (Vec::new(), 0);
        let (mut letter_ops, mut flushed, mut asked) = (Vec::new(), Vec::new(), Vec::new());
        for op in ops {
            match op {
                Op::Append(op) => {
                    let more = op.bytes();
                    if bytes + more > GROUP_BYTES && !group.is_empty() {
                        self.commit(std::mem::take(&mut group));
                        bytes = 0;
                    }
                    bytes += more;
                    group.push(op);
                }
                Op::Bury { letter, reply } => letter_ops.push(LetterOp::Bury { letter, reply }),
                Op::Discard { id, died_at, now, reply } => {
                    letter_ops.push(LetterOp::Discard { id, died_at, now, reply });
                }
                Op::Flush(done) => flushed.push(done),
                Op::Known { events, now, reply } => asked.push((events, now, reply)),
            }
        }
        if !group.is_empty() || !self.carried.is_empty() {
            self.commit(group);
        }
        if !letter_ops.is_empty() {
            letters::commit(&mut self.letters, &self.shared.letters, letter_ops);
        }
        for done in flushed {
            let _ = done.send(());
        }
        for (events, now, reply) in asked {
            let known = events.iter().map(|(event, forever)| self.knows(event, *forever, now));
            // Whoever asked may have gone.
            drop(reply.send(known.collect()));
        }
    }

    /// Whether an event would be a duplicate.
    fn knows(&self, event: &crate::event::Event, forever: bool, now: Timestamp) -> bool {
        if !forever {
            return self.books.claims.holds(event.id, second_of(now));
        }
        let slot = forever_slot(&event.connector, &event.stream, &event.key);
        self.books.forever.get(&slot) == Some(&forever_mark(event.id))
    }

    /// Makes appends, and the settlements that wait, durable as one group, and answers.
    pub(super) fn commit(&mut self, mut appends: Vec<AppendOp>) {
        self.refuse_over_budget(&mut appends);
        self.group.clear();
        self.group.shrink_to(2 * GROUP_BYTES);
        self.decide(&mut appends);
        self.encode(&mut appends);
        if self.group.is_empty() {
            let nowhere = Place { segment: 0, offset: 0, salt: 0 };
            return answer(appends, nowhere);
        }
        match self.write() {
            Ok(place) => {
                self.publish(place, &appends);
                self.publish_state(place.segment, &mut appends);
                self.publish_settlements();
                self.shared.figures.commits.fetch_add(1, Ordering::Relaxed);
                self.upkeep.written(self.group.len());
                self.tell_refusal();
                answer(appends, place);
            }
            Err(why) => {
                self.tell_refusal();
                for mut op in appends {
                    op.answer(Err(AppendError::Unavailable(why.clone())));
                }
            }
        }
    }

    /// Answers events at once while what must be kept fills the disk budget. State is taken.
    fn refuse_over_budget(&mut self, appends: &mut Vec<AppendOp>) {
        let more: usize = appends.iter().map(AppendOp::bytes).sum();
        let Some(what) = self.over_budget(more as u64) else {
            return;
        };
        self.tell_refusal();
        appends.retain_mut(|op| {
            let refused = !op.events.is_empty();
            if refused {
                let (what, retry_after) = (what.clone(), FULL_RETRY_AFTER);
                op.answer(Err(AppendError::Full { what, retry_after }));
            }
            !refused
        });
    }

    /// Finds the duplicates: claimed before, or earlier in this group.
    fn decide(&mut self, appends: &mut [AppendOp]) {
        self.group_ids.clear();
        self.group_forever.clear();
        for op in appends {
            self.books.now = self.books.now.max(op.now);
            let now_s = second_of(op.now);
            for pending in &mut op.events {
                let event = &pending.event;
                let free = match pending.claim {
                    StoredClaim::None => true,
                    StoredClaim::Until(_) => {
                        !self.books.claims.holds(event.id, now_s) && self.group_ids.insert(event.id)
                    }
                    StoredClaim::Forever => {
                        let slot = forever_slot(&event.connector, &event.stream, &event.key);
                        let mark = forever_mark(event.id);
                        let before = self.group_forever.insert(slot, mark);
                        before.or_else(|| self.books.forever.get(&slot).copied()) != Some(mark)
                    }
                };
                pending.at = free.then_some(0);
            }
        }
    }

    /// Writes the group's frames: one record an append, and the settlements.
    fn encode(&mut self, appends: &mut [AppendOp]) {
        let group = &mut self.group;
        for op in appends {
            let new = op.events.iter().filter(|p| p.at.is_some()).count();
            if new == 0 && op.state.is_empty() {
                continue;
            }
            let frame = begin_frame(group, Kind::Append);
            append::put_head(group, new, op.state.len());
            for Pending { slot, at, .. } in &mut op.events {
                if let Some(at) = at {
                    *at = group.len() as u32;
                    group.extend_from_slice(&op.slots[slot.clone()]);
                }
            }
            for (key, value) in &op.state {
                append::put_state(group, key, value.as_deref());
            }
            end_frame(group, frame);
        }
        for record in self.carried.chunks(SETTLEMENTS_A_RECORD) {
            let frame = begin_frame(group, Kind::Settlements);
            for op in record {
                settlement::encode(&op.settled, group);
            }
            end_frame(group, frame);
        }
    }

    fn write(&mut self) -> Result<Place, String> {
        let place = self.journal.reserve(self.group.len(), self.books.now)?;
        seal_frames(&mut self.group, place.salt);
        self.journal.write(&self.group)?;
        Ok(place)
    }

    /// Shows durable events to the lanes and takes their claims.
    fn publish(&mut self, place: Place, appends: &[AppendOp]) {
        let segments = &self.shared.segments;
        let mut facts = segments.get(place.segment).unwrap_or_else(|| new_facts(place.segment));
        let mut appended = 0;
        let mut core = self.shared.core.lock();
        for Pending { event, claim, slot, at } in appends.iter().flat_map(|op| &op.events) {
            let Some(at) = at else { continue };
            let seq = seq_at(place.segment, place.offset + at);
            let (connector, stream, key) = (&*event.connector, &*event.stream, &*event.key);
            let received_at = event.received_at;
            let entry = Entry { id: event.id, connector, stream, key, received_at, claim: *claim };
            self.books.accept(entry, place.segment);
            note_event(&mut facts, received_at);
            appended += 1;
            if event.to.is_empty() {
                continue;
            }
            let key = key_hash(key);
            let mut least_before = u64::MAX;
            for destination in &event.to {
                let tenant = event.tenant.as_deref();
                let flow = core.lanes.intern(&FlowRef { connector, stream, destination, tenant });
                least_before = least_before.min(core.lanes.bytes(flow));
                core.lanes.push(flow, seq, key, slot.len() as u64, None);
                self.books.ledger.add(seq, flow.0, key);
            }
            core.cache.offer(seq, event, least_before);
        }
        drop(core);
        for op in &self.carried {
            note_settlement(&mut facts, op.settled.at);
        }
        facts.len_bytes = place.offset + self.group.len() as u32;
        segments.put(facts);
        let held = self.books.claims.len() + self.books.forever.len() as u64;
        self.shared.figures.dedupe_keys.store(held, Ordering::Relaxed);
        self.shared.figures.appended.fetch_add(appended, Ordering::Relaxed);
    }

    fn publish_state(&mut self, segment: u32, appends: &mut [AppendOp]) {
        let writes = appends.iter_mut().flat_map(|op| op.state.drain(..));
        let mut writes = writes.peekable();
        if writes.peek().is_none() {
            return;
        }
        let mut state = self.shared.state.write();
        for (key, value) in writes {
            self.books.dirty_state.insert(key.clone());
            state.put(key, value, segment);
        }
    }

    fn publish_settlements(&mut self) {
        for op in self.carried.drain(..) {
            self.books.now = self.books.now.max(op.settled.at);
            self.books.settle(op.flow, &op.settled);
        }
    }

    /// Carries state over from a segment that is to be removed. Whether it worked.
    pub(super) fn carry_state(&mut self, segment: u32) -> bool {
        let state = self.shared.state.read().last_written_in(segment);
        if !state.is_empty() {
            let now = self.books.now;
            let op = AppendOp { events: Vec::new(), slots: Vec::new(), state, now, reply: None };
            self.commit(vec![op]);
        }
        self.shared.state.read().last_written_in(segment).is_empty()
    }

    /// The time that is known here: the clock's, or what an asker brought if that is later.
    pub(super) fn tell_time(&mut self) -> Timestamp {
        self.books.now = self.books.now.max(self.shared.clock.now());
        self.books.now
    }

    pub(super) fn settlements_wait(&self) -> bool {
        !self.carried.is_empty()
    }

    /// When to look around without being woken.
    fn wake_at(&self) -> Instant {
        let probe = self.journal.probe_at();
        probe.map_or(self.upkeep.wake_at(), |probe| probe.min(self.upkeep.wake_at()))
    }
}

fn answer(appends: Vec<AppendOp>, place: Place) {
    for mut op in appends {
        let each = op.events.iter().map(|pending| match pending.at {
            Some(at) => Accepted::New(Seq(seq_at(place.segment, place.offset + at))),
            None => Accepted::Duplicate,
        });
        let accepted = each.collect();
        op.answer(Ok(accepted));
    }
}

impl Drop for Committer {
    /// However this thread ends, nobody may wait for it any longer.
    fn drop(&mut self) {
        self.shared.queue.shut();
        if let Some(KeeperLink { jobs, gone, thread }) = self.keeper.take() {
            drop((jobs, gone));
            if thread.join().is_err() {
                tracing::error!("the thread that writes checkpoints panicked");
            }
        }
    }
}
