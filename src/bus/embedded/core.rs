//! What takers and settlers touch, under one lock: lanes, recent bodies, newest revisions.

use std::{collections::VecDeque, sync::Arc};

use hashbrown::HashMap;

use crate::{bus::lanes::Lanes, event::Event};

/// What a body costs beside its text: the event's other parts, and its layout.
const EVENT_OVERHEAD_BYTES: usize = 512;
const LAID_OUT_FACTOR: usize = 2;

/// Recently appended events, so that the fast path does not read back what it just wrote.
///
/// An event that joins a long queue is not taken: it would be gone before its turn, after it pushed
/// out those before it. Beyond the limit the oldest go first, so that what nobody takes does not stay.
#[derive(Default)]
pub(super) struct Cache {
    events: HashMap<u64, Arc<Event>>,
    order: VecDeque<u64>,
    bytes: usize,
    limit_bytes: usize,
}

fn cost(event: &Event) -> usize {
    EVENT_OVERHEAD_BYTES + event.record.bytes().len() * LAID_OUT_FACTOR
}

impl Cache {
    pub fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, ..Self::default() }
    }

    pub fn get(&self, seq: u64) -> Option<&Arc<Event>> {
        self.events.get(&seq)
    }

    /// Takes an event unless even in the shortest of its queues `before_bytes` of records wait, and
    /// laid out would take more than half of the limit.
    pub fn offer(&mut self, seq: u64, event: &Arc<Event>, before_bytes: u64) {
        if before_bytes as usize > self.limit_bytes / 2 / LAID_OUT_FACTOR {
            return;
        }
        self.bytes += cost(event);
        self.events.insert(seq, Arc::clone(event));
        self.order.push_back(seq);
        while self.bytes > self.limit_bytes
            && let Some(oldest) = self.order.pop_front()
        {
            self.forget(oldest);
        }
        // Events that settled out of order leave their number behind; it goes here at the latest.
        if self.order.len() > 2 * self.events.len() + 1_024 {
            let events = &self.events;
            self.order.retain(|seq| events.contains_key(seq));
        }
    }

    fn forget(&mut self, seq: u64) {
        if let Some(event) = self.events.remove(&seq) {
            self.bytes -= cost(&event);
        }
    }

    /// Forgets an event that settled, if this lane was its only one.
    pub fn settled(&mut self, seq: u64) {
        if self.events.get(&seq).is_some_and(|e| e.to.len() == 1) {
            self.forget(seq);
        }
    }
}

/// The newest delivered order of a key in a lane, and the day since 1970 on which it was delivered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Newest {
    pub order: i64,
    pub day: u32,
}

/// See the module's text.
#[derive(Default)]
pub(super) struct Core {
    pub lanes: Lanes,
    pub cache: Cache,
    pub newest: HashMap<u64, Newest>,
}

impl Core {
    /// Raises the newest revision under `slot`. What it is then.
    pub fn raise(&mut self, slot: u64, order: i64, day: u32) {
        let newest = self.newest.entry(slot).or_insert(Newest { order, day });
        *newest = Newest { order: order.max(newest.order), day };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bus::embedded::format::arbitrary, event::Record};
    use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};

    #[test]
    fn the_cache_stays_within_its_bytes_and_forgets_the_oldest() {
        let mut runner = TestRunner::deterministic();
        let mut event = arbitrary::event().new_tree(&mut runner).unwrap().current();
        event.record = Record::from_bytes(vec![b'1'; 100].into());
        event.to = vec!["erp".into()];
        let event = Arc::new(event);
        let mut cache = Cache::new(cost(&event) * 3);
        (1..=5).for_each(|seq| cache.offer(seq, &event, 0));
        let kept: Vec<bool> = (1..=5).map(|seq| cache.get(seq).is_some()).collect();
        assert_eq!(kept, [false, false, true, true, true]);
        cache.offer(6, &event, cost(&event) as u64 * 3);
        assert!(cache.get(6).is_none(), "behind what takes more than half of the limit");
        cache.settled(4);
        assert!(cache.get(4).is_none());
        assert_eq!(cache.bytes, cost(&event) * 2);
    }
}
