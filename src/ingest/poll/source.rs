//! What the polls of one source share: its rate, and how much of it is under way at once.
//!
//! A series of pages is a lane: it asks for one page after the other. A page that is asked for ahead of
//! its turn needs a lane that is free, of the source's `concurrency`, and room for its answer. So pages
//! that are fetched ahead never make more requests at once than the file allows, whether that is for one
//! long series, for many partitions, or for several streams; and a series that only asks for its next page
//! never waits for a lane.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;

use crate::{deliver::Limiter, plan::Rate};

use super::{parents::Gone, told::Told};

/// What answers that came ahead of their turn, or are on their way, may take.
const AHEAD_BYTES: usize = 32 << 20;

/// See the module.
#[derive(Debug)]
pub struct Source {
    /// The source's rate.
    pub(super) limiter: Limiter,
    /// What others heard of the budget.
    pub(super) told: Arc<Told>,
    /// Series of pages that are being read, and requests ahead of their turn.
    lanes: AtomicUsize,
    /// What is kept for answers ahead of their turn.
    ahead_bytes: AtomicUsize,
    /// Whether pages may be asked for ahead of their turn.
    looks_ahead: bool,
    /// Of the streams whose records are parents, while runs over them are under way.
    parents: Mutex<HashMap<Arc<str>, Weak<Gone>>>,
}

impl Source {
    /// A source that allows so much.
    pub fn new(rates: &[Rate]) -> Self {
        Self {
            limiter: Limiter::new(rates),
            told: Arc::default(),
            lanes: AtomicUsize::new(0),
            ahead_bytes: AtomicUsize::new(0),
            looks_ahead: true,
            parents: Mutex::default(),
        }
    }

    /// The same, where others hear what APIs say of their budgets, too.
    #[must_use]
    pub fn hearing(self, told: &Arc<Told>) -> Self {
        Self { told: Arc::clone(told), ..self }
    }

    /// The same, asked for one page after the other: where answers are given in order, to whoever asks.
    #[must_use]
    pub fn in_order(self) -> Self {
        Self { looks_ahead: false, ..self }
    }

    /// What the runs over a stream share that write the live poll's parents.
    pub(super) fn parents_of(&self, stream: &Arc<str>) -> Arc<Gone> {
        let mut parents = self.parents.lock();
        let known = parents.get(stream).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let new = Arc::<Gone>::default();
            parents.insert(Arc::clone(stream), Arc::downgrade(&new));
            new
        })
    }

    /// A lane for what has to be asked.
    pub(super) fn lane(self: &Arc<Self>) -> Lane {
        self.lanes.fetch_add(1, Relaxed);
        Lane(Arc::clone(self))
    }

    /// A lane for what may be needed, if one of so many is free.
    pub(super) fn free_lane(self: &Arc<Self>, of: usize) -> Option<Lane> {
        let taken = |lanes| (self.looks_ahead && lanes < of).then_some(lanes + 1);
        self.lanes.fetch_update(Relaxed, Relaxed, taken).ok()?;
        Some(Lane(Arc::clone(self)))
    }

    /// How many are taken.
    pub(super) fn lanes(&self) -> usize {
        self.lanes.load(Relaxed)
    }

    /// Room for an answer that comes ahead of its turn, if there is so much.
    pub(super) fn room(self: &Arc<Self>, bytes: usize) -> Option<Room> {
        let taken = |held: usize| held.checked_add(bytes).filter(|held| *held <= AHEAD_BYTES);
        self.ahead_bytes.fetch_update(Relaxed, Relaxed, taken).ok()?;
        Some(Room { source: Arc::clone(self), bytes })
    }
}

/// A lane that is taken until this is dropped.
#[derive(Debug)]
pub(super) struct Lane(Arc<Source>);

impl Drop for Lane {
    fn drop(&mut self) {
        self.0.lanes.fetch_sub(1, Relaxed);
    }
}

/// Room that is taken until this is dropped.
#[derive(Debug)]
pub(super) struct Room {
    source: Arc<Source>,
    bytes: usize,
}

impl Room {
    /// The longest answer that it is for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives back what the answer does not need.
    pub fn shrink(&mut self, to: usize) {
        let surplus = self.bytes.saturating_sub(to);
        self.bytes -= surplus;
        self.source.ahead_bytes.fetch_sub(surplus, Relaxed);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_free_where_no_more_than_so_many_are_taken() {
        let source = Arc::new(Source::new(&[]));
        let series = [source.lane(), source.lane()];
        assert!(source.free_lane(2).is_none());
        let ahead = source.free_lane(3);
        assert!(ahead.is_some() && source.free_lane(3).is_none());
        // What has to be asked waits for nobody.
        let another = source.lane();
        assert_eq!(source.lanes(), 4);
        drop((series, ahead, another));
        assert_eq!(source.lanes(), 0);
        assert!(Arc::new(Source::new(&[]).in_order()).free_lane(8).is_none());
    }

    #[test]
    fn room_is_given_back() {
        let source = Arc::new(Source::new(&[]));
        let mut first = source.room(AHEAD_BYTES).unwrap();
        assert!(source.room(1).is_none());
        first.shrink(10);
        first.shrink(20);
        assert_eq!(first.bytes(), 10);
        assert!(source.room(AHEAD_BYTES - 9).is_none());
        let second = source.room(AHEAD_BYTES - 10).unwrap();
        drop((first, second));
        assert_eq!(source.ahead_bytes.load(Relaxed), 0);
    }
}
