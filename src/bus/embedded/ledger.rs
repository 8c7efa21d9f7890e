//! What is unsettled, by place in the journal: the durable side of the lanes.
//!
//! The lanes know what is due; the ledger knows what a checkpoint has to write and which segments
//! are still needed. It is kept by mebibytes of a segment (regions), so that a checkpoint writes
//! only the regions that changed. An entry costs sixteen bytes.

use std::collections::BTreeMap;

use hashbrown::{HashMap, HashSet};

use super::{
    format::checkpoint::Unsettled,
    segments::{place_of, seq_at},
};
use crate::bus::lanes::Retried;

const REGION_BITS: u32 = 20;

/// The flow of an entry that is settled.
const GONE: u32 = u32::MAX;

/// A region's name: segment, then mebibyte.
pub(super) type RegionKey = (u32, u32);

#[derive(Clone, Copy)]
struct Entry {
    offset: u32,
    flow: u32,
    key: u64,
}

#[derive(Default)]
struct Region {
    /// Sorted by offset.
    entries: Vec<Entry>,
    live: usize,
}

/// See the module's text.
#[derive(Default)]
pub(super) struct Ledger {
    regions: BTreeMap<RegionKey, Region>,
    live: HashMap<u32, u64>,
    retried: HashMap<(u64, u32), Retried>,
    dirty: HashSet<RegionKey>,
}

fn region_of(seq: u64) -> (RegionKey, u32) {
    let (segment, offset) = place_of(seq);
    ((segment, offset >> REGION_BITS), offset)
}

impl Ledger {
    /// Adds a pair; adding it twice changes nothing.
    pub fn add(&mut self, seq: u64, flow: u32, key: u64) {
        let (region_key, offset) = region_of(seq);
        let region = self.regions.entry(region_key).or_default();
        let entry = Entry { offset, flow, key };
        match region.entries.last() {
            Some(last) if last.offset >= offset => {
                let from = region.entries.partition_point(|e| e.offset < offset);
                let same = region.entries[from..].iter().take_while(|e| e.offset == offset);
                if same.clone().any(|e| e.flow == flow) {
                    return;
                }
                let to = from + same.count();
                region.entries.insert(to, entry);
            }
            _ => region.entries.push(entry),
        }
        region.live += 1;
        *self.live.entry(region_key.0).or_default() += 1;
        self.dirty.insert(region_key);
    }

    /// Ends a pair. Whether it was there.
    pub fn settle(&mut self, seq: u64, flow: u32) -> bool {
        let (region_key, offset) = region_of(seq);
        let Some(region) = self.regions.get_mut(&region_key) else {
            return false;
        };
        let from = region.entries.partition_point(|e| e.offset < offset);
        let mut same = region.entries[from..].iter_mut().take_while(|e| e.offset == offset);
        let Some(entry) = same.find(|e| e.flow == flow && flow != GONE) else {
            return false;
        };
        entry.flow = GONE;
        region.live -= 1;
        if region.live == 0 {
            self.regions.remove(&region_key);
        }
        if let Some(live) = self.live.get_mut(&region_key.0) {
            *live -= 1;
            if *live == 0 {
                self.live.remove(&region_key.0);
            }
        }
        self.retried.remove(&(seq, flow));
        self.dirty.insert(region_key);
        true
    }

    /// Notes a failed attempt of a pair that is there.
    pub fn retry(&mut self, seq: u64, flow: u32, retried: Retried) {
        if self.flows_at(seq).any(|l| l == flow) {
            self.retried.insert((seq, flow), retried);
            self.dirty.insert(region_of(seq).0);
        }
    }

    /// The flows in which the event at `seq` is unsettled.
    pub fn flows_at(&self, seq: u64) -> impl Iterator<Item = u32> {
        let (region_key, offset) = region_of(seq);
        let entries = self.regions.get(&region_key).map_or(&[][..], |r| &r.entries);
        let from = entries.partition_point(|e| e.offset < offset);
        let same = entries[from..].iter().take_while(move |e| e.offset == offset);
        same.filter(|e| e.flow != GONE).map(|e| e.flow)
    }

    /// Unsettled pairs of a segment.
    pub fn live(&self, segment: u32) -> u64 {
        self.live.get(&segment).copied().unwrap_or_default()
    }

    /// Segments with unsettled pairs.
    pub fn live_segments(&self) -> impl Iterator<Item = u32> {
        self.live.keys().copied()
    }

    /// Forgets a segment that is no longer there. How many unsettled pairs it had.
    pub fn forget_segment(&mut self, segment: u32) -> u64 {
        let keys: Vec<RegionKey> =
            self.regions.range((segment, 0)..=(segment, u32::MAX)).map(|(k, _)| *k).collect();
        for key in keys {
            self.regions.remove(&key);
            self.dirty.insert(key);
        }
        self.retried.retain(|(seq, _), _| place_of(*seq).0 != segment);
        self.live.remove(&segment).unwrap_or_default()
    }

    /// The pairs of a region, as a checkpoint keeps them. Empty where the region is settled.
    pub fn region(&self, key: RegionKey) -> impl Iterator<Item = Unsettled> {
        let entries = self.regions.get(&key).map_or(&[][..], |r| &r.entries);
        entries.iter().filter(|e| e.flow != GONE).map(move |e| Unsettled {
            offset: e.offset,
            flow: e.flow,
            key: e.key,
            retried: if self.retried.is_empty() {
                None
            } else {
                self.retried.get(&(seq_at(key.0, e.offset), e.flow)).copied()
            },
        })
    }

    /// All regions with unsettled pairs, in order.
    pub fn regions(&self) -> impl Iterator<Item = RegionKey> {
        self.regions.keys().copied()
    }

    /// The flows of all pairs, also of those that the lanes know to be settled and the journal not yet.
    pub fn flows(&self) -> HashSet<u32> {
        let entries = self.regions.values().flat_map(|region| &region.entries);
        entries.map(|entry| entry.flow).filter(|flow| *flow != GONE).collect()
    }

    /// The regions that changed since this was last asked.
    pub fn take_dirty(&mut self) -> HashSet<RegionKey> {
        std::mem::take(&mut self.dirty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_settle_one_by_one_and_regions_go_with_the_last() {
        let mut ledger = Ledger::default();
        let seq = seq_at(3, 200);
        ledger.add(seq, 0, 7);
        ledger.add(seq, 1, 7);
        ledger.add(seq, 1, 7);
        ledger.add(seq_at(3, 100), 0, 5);
        assert_eq!(ledger.live(3), 3);
        assert!(ledger.settle(seq, 1));
        assert!(!ledger.settle(seq, 1));
        // What a settlement that is read again names where its pair is not there any more.
        assert!(!ledger.settle(seq, u32::MAX));
        assert_eq!(ledger.flows_at(seq).collect::<Vec<_>>(), [0]);
        assert_eq!(ledger.take_dirty().len(), 1);
        assert!(ledger.settle(seq, 0) && ledger.settle(seq_at(3, 100), 0));
        assert_eq!(ledger.live(3), 0);
        assert_eq!(ledger.regions().count(), 0);
        assert_eq!(ledger.take_dirty().len(), 1);
    }
}
