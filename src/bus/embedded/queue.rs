//! What waits for the journal's thread, and how that thread waits for work.
//!
//! An append wakes the thread at once, or, while the thread waits for [company](super::company), the
//! last one that it waits for. Settlements wait for the next append, at most [`SETTLE_WITHIN`]: they
//! ride along.

use std::{
    ops::Range,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::{
    company::LINGER,
    format::{append::StoredClaim, settlement::Settled},
};
use crate::{
    bus::{Accepted, AppendError, DeadId, DeadLetter, StateWrites, StoreError},
    event::Event,
    world::Timestamp,
};

/// How long a settlement waits for company.
const SETTLE_WITHIN: Duration = Duration::from_millis(20);

/// Settlements that are written without waiting for company.
const SETTLEMENTS_AT_ONCE: usize = 4_096;

/// Bytes of appends that may wait.
pub(super) const QUEUE_BYTES: usize = 64 << 20;

/// An event on its way into the journal.
pub(super) struct Pending {
    pub event: Arc<Event>,
    pub claim: StoredClaim,
    /// Its slot within [`AppendOp::slots`].
    pub slot: Range<usize>,
    /// Where its slot stands in the group; `None` for a duplicate.
    pub at: Option<u32>,
}

/// A batch that waits to become durable.
pub(super) struct AppendOp {
    pub events: Vec<Pending>,
    /// All slots, encoded.
    pub slots: Vec<u8>,
    pub state: StateWrites,
    pub now: Timestamp,
    /// Nobody waits where state is carried over from a segment that goes.
    pub reply: Option<oneshot::Sender<Answer>>,
}

/// What came of an append, and what it was made of: memory goes back to the threads that it came from,
/// since freeing it is the dearer the further it went.
pub(super) struct Answer {
    pub result: Result<Vec<Accepted>, AppendError>,
    _spent: (Vec<u8>, Vec<Pending>),
}

impl AppendOp {
    /// Answers, and gives back what it was made of.
    pub fn answer(&mut self, result: Result<Vec<Accepted>, AppendError>) {
        if let Some(reply) = self.reply.take() {
            let spent = (std::mem::take(&mut self.slots), std::mem::take(&mut self.events));
            // The asker may have gone; what is durable stays so.
            drop(reply.send(Answer { result, _spent: spent }));
        }
    }

    pub fn bytes(&self) -> usize {
        let state = self.state.iter().map(|(k, v)| k.len() + v.as_ref().map_or(0, Vec::len) + 16);
        self.slots.len() + state.sum::<usize>() + 32
    }
}

/// A settlement that waits to be journalled.
pub(super) struct SettleOp {
    /// The number of the pair's flow.
    pub flow: u32,
    pub settled: Settled,
}

/// Something that the journal's thread does.
pub(super) enum Op {
    Append(AppendOp),
    Bury {
        letter: DeadLetter,
        reply: oneshot::Sender<Result<DeadId, StoreError>>,
    },
    Discard {
        id: DeadId,
        /// Only the letter that died then.
        died_at: Option<Timestamp>,
        now: Timestamp,
        reply: oneshot::Sender<Result<bool, StoreError>>,
    },
    /// Answers once all before it is written.
    Flush(mpsc::Sender<()>),
    /// Whether each is claimed; `true` asks for the newest revision of its key.
    Known {
        events: Vec<(Arc<Event>, bool)>,
        now: Timestamp,
        reply: oneshot::Sender<Vec<bool>>,
    },
}

/// How the journal's thread ends.
pub(super) enum Stop {
    /// After what waits is written and a checkpoint is made.
    Close(oneshot::Sender<()>),
    /// At once: the bus was dropped.
    Abandon,
}

/// What the thread got.
#[derive(Default)]
pub(super) struct Work {
    pub ops: Vec<Op>,
    pub settlements: Vec<SettleOp>,
    pub stop: Option<Stop>,
}

#[derive(Default)]
struct Waiting {
    work: Work,
    bytes: usize,
    settle_by: Option<Instant>,
    nudged: bool,
    closed: bool,
    /// From so many operations on an append wakes the thread.
    wake_from: usize,
}

/// See the module's text.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

/// Why an operation was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotQueued {
    Closed,
    Full,
}

impl Queue {
    pub fn push(&self, op: Op) -> Result<(), NotQueued> {
        let bytes = if let Op::Append(op) = &op { op.bytes() } else { 0 };
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Err(NotQueued::Closed);
        }
        if waiting.bytes > 0 && waiting.bytes + bytes > QUEUE_BYTES {
            return Err(NotQueued::Full);
        }
        waiting.bytes += bytes;
        waiting.work.ops.push(op);
        let enough = waiting.work.ops.len() >= waiting.wake_from;
        drop(waiting);
        if enough {
            self.wake.notify_one();
        }
        Ok(())
    }

    pub fn settle(&self, op: SettleOp) {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return;
        }
        waiting.work.settlements.push(op);
        let first = waiting.settle_by.is_none();
        if first {
            waiting.settle_by = Some(Instant::now() + SETTLE_WITHIN);
        }
        let many = waiting.work.settlements.len() >= SETTLEMENTS_AT_ONCE;
        drop(waiting);
        if first || many {
            self.wake.notify_one();
        }
    }

    /// Lets the thread look around without work.
    pub fn nudge(&self) {
        self.waiting.lock().nudged = true;
        self.wake.notify_one();
    }

    /// Ends the thread. Does nothing where it is ending already.
    pub fn stop(&self, stop: Stop) {
        let mut waiting = self.waiting.lock();
        if !waiting.closed {
            waiting.closed = true;
            waiting.work.stop = Some(stop);
        }
        drop(waiting);
        self.wake.notify_one();
    }

    /// Refuses from now on and lets go of what waits: the thread is gone.
    pub fn shut(&self) {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        waiting.work = Work::default();
    }

    /// Waits for work, at most until `deadline`, and for `wanted` operations, at most for [`LINGER`].
    pub fn collect(&self, deadline: Instant, wanted: usize) -> Work {
        let mut waiting = self.waiting.lock();
        let linger_until = (wanted > 1).then(|| Instant::now() + LINGER);
        loop {
            let now = Instant::now();
            let lingers = linger_until.filter(|until| *until > now);
            let wanted = if lingers.is_some() { wanted } else { 1 };
            let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
            let settlements =
                waiting.work.settlements.len() >= SETTLEMENTS_AT_ONCE || due(waiting.settle_by);
            let ready = waiting.work.ops.len() >= wanted || waiting.work.stop.is_some();
            if ready || settlements || waiting.nudged || deadline <= now {
                break;
            }
            let until = waiting.settle_by.map_or(deadline, |by| by.min(deadline));
            waiting.wake_from = wanted;
            self.wake.wait_until(&mut waiting, lingers.map_or(until, |by| by.min(until)));
        }
        waiting.nudged = false;
        waiting.bytes = 0;
        waiting.settle_by = None;
        std::mem::take(&mut waiting.work)
    }
}
