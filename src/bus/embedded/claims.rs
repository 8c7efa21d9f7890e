//! The dedupe window: which ids are claimed, and until when.
//!
//! In memory an id takes sixteen bytes of an open-addressed table: its first twelve bytes (of a
//! SHA-256, so two ids that share them do not occur) and the second in which its claim ends. Tables
//! are split in shards that grow by a quarter one at a time, so 10 million ids stay below 250 MB
//! and no growth is felt. In sled the ids stand in blocks that expire whole.

use std::collections::BTreeSet;

use hashbrown::{HashMap, HashSet};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{
    format::{
        append::StoredClaim,
        claims::{BLOCK_IDS, BlockKey, encode},
    },
    index::{Shelf, Write},
};
use crate::{event::EventId, world::Timestamp};

const SHARDS: usize = 64;
const SMALLEST_SLOTS: usize = 16;

/// The end of claims in a block is rounded up by a sixteenth of their window, at most an hour.
const LONGEST_STEP_S: u32 = 3_600;

/// Seconds since 1970, rounded down.
pub(super) fn second_of(at: Timestamp) -> u32 {
    u32::try_from(at.0.max(0) / 1_000).unwrap_or(u32::MAX)
}

/// Seconds since 1970, rounded up; at least 1, since 0 stands for no claim.
pub(super) fn second_after(at: Timestamp) -> u32 {
    u32::try_from((at.0.max(1) as u64).div_ceil(1_000)).unwrap_or(u32::MAX)
}

/// Where the last accepted revision of a key that is claimed for ever is kept.
pub(super) fn forever_slot(connector: &str, stream: &str, key: &str) -> u64 {
    let connector = xxh3_64(connector.as_bytes());
    let stream = xxh3_64_with_seed(stream.as_bytes(), connector);
    xxh3_64_with_seed(key.as_bytes(), stream)
}

/// What stands for a revision under its slot: the beginning of the event's id.
pub(super) fn forever_mark(id: EventId) -> u64 {
    let [first, _] = id.0.as_chunks::<8>().0 else { return 0 };
    u64::from_le_bytes(*first)
}

/// One table: an id's 96 bits above, the second in which its claim ends below; 0 is free.
#[derive(Default)]
struct Shard {
    slots: Vec<u128>,
    used: usize,
}

fn bits_of(id: EventId) -> u128 {
    u128::from_be_bytes(id.0) >> 32
}

impl Shard {
    fn start(&self, bits: u128) -> usize {
        let hash = (bits >> 32) as u64;
        ((u128::from(hash) * self.slots.len() as u128) >> 64) as usize
    }

    /// The slot that holds the id, or the free one where it belongs.
    fn find(&self, bits: u128) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let mut at = self.start(bits);
        while self.slots[at] != 0 && self.slots[at] >> 32 != bits {
            at += 1;
            if at == self.slots.len() {
                at = 0;
            }
        }
        Some(at)
    }

    fn until(&self, bits: u128) -> u32 {
        self.find(bits).map_or(0, |at| self.slots[at] as u32)
    }

    fn insert(&mut self, bits: u128, until_s: u32, now_s: u32) {
        if self.used * 5 >= self.slots.len() * 4 {
            self.rebuild(now_s);
        }
        let Some(at) = self.find(bits) else { return };
        self.used += usize::from(self.slots[at] == 0);
        let until_s = until_s.max(self.slots[at] as u32);
        self.slots[at] = bits << 32 | u128::from(until_s);
    }

    /// Drops what has expired and leaves room to grow by a quarter.
    fn rebuild(&mut self, now_s: u32) {
        let live = |slot: &&u128| **slot as u32 > now_s;
        let count = self.slots.iter().filter(live).count();
        let size = (count * 25 / 16).max(SMALLEST_SLOTS);
        let before = std::mem::replace(&mut self.slots, vec![0; size]);
        self.used = count;
        for slot in before.iter().filter(live) {
            if let Some(at) = self.find(slot >> 32) {
                self.slots[at] = *slot;
            }
        }
    }
}

/// A block that is still being filled.
struct OpenBlock {
    number: u32,
    ids: Vec<EventId>,
    dirty: bool,
}

/// The dedupe window and the blocks it is kept in.
pub(super) struct Claims {
    shards: Vec<Shard>,
    open: HashMap<(u32, u32), OpenBlock>,
    /// The blocks that stand in sled, in order of expiry.
    stored: BTreeSet<BlockKey>,
    full: Vec<(BlockKey, Vec<EventId>)>,
    next_shard: usize,
}

impl Default for Claims {
    fn default() -> Self {
        let shards = std::iter::repeat_with(Shard::default).take(SHARDS).collect();
        Self {
            shards,
            open: HashMap::new(),
            stored: BTreeSet::new(),
            full: Vec::new(),
            next_shard: 0,
        }
    }
}

impl Claims {
    fn shard(id: EventId) -> usize {
        usize::from(id.0[15]) % SHARDS
    }

    /// Whether the id is claimed at `now_s`.
    pub fn holds(&self, id: EventId, now_s: u32) -> bool {
        self.shards[Self::shard(id)].until(bits_of(id)) > now_s
    }

    /// Claims an id without noting it in a block: that block was read just now.
    pub fn restore(&mut self, id: EventId, until_s: u32, now_s: u32) {
        if until_s > now_s {
            self.shards[Self::shard(id)].insert(bits_of(id), until_s, now_s);
        }
    }

    /// Takes note of a block that stands in sled. One of a segment that may still get events, from
    /// `segment` on, is gone on behind instead of written over.
    pub fn stored(&mut self, key: BlockKey, segment: u32) {
        self.stored.insert(key);
        if key.segment < segment {
            return;
        }
        let block = self.open.entry((key.until_s, key.segment)).or_insert_with(|| OpenBlock {
            number: 0,
            ids: Vec::new(),
            dirty: false,
        });
        block.number = block.number.max(key.number + 1);
    }

    /// Claims an accepted event's id and notes in which segment it is.
    pub fn note(
        &mut self,
        id: EventId,
        claim: StoredClaim,
        segment: u32,
        received_at: Timestamp,
        now_s: u32,
    ) {
        let mut block_until_s = 0;
        if let StoredClaim::Until(until_s) = claim {
            self.restore(id, until_s, now_s);
            let window_s = until_s.saturating_sub(second_of(received_at));
            let step = (window_s / 16).clamp(1, LONGEST_STEP_S);
            block_until_s = until_s.div_ceil(step).saturating_mul(step);
        }
        let block = self.open.entry((block_until_s, segment)).or_insert_with(|| OpenBlock {
            number: 0,
            ids: Vec::new(),
            dirty: false,
        });
        block.ids.push(id);
        block.dirty = true;
        if block.ids.len() == BLOCK_IDS {
            let key = BlockKey { until_s: block_until_s, segment, number: block.number };
            self.full.push((key, std::mem::take(&mut block.ids)));
            block.number += 1;
            block.dirty = false;
        }
    }

    /// The blocks that changed, for a checkpoint while `segment` is written.
    pub fn write_blocks(&mut self, segment: u32, out: &mut Vec<Write>) {
        let stored = &mut self.stored;
        let mut put = |key: BlockKey, ids: &[EventId]| {
            stored.insert(key);
            out.push(Write { shelf: Shelf::Claims, key: key.encode(), value: Some(encode(ids)) });
        };
        for (key, ids) in self.full.drain(..) {
            put(key, &ids);
        }
        for ((until_s, of), block) in &mut self.open {
            if std::mem::take(&mut block.dirty) {
                put(BlockKey { until_s: *until_s, segment: *of, number: block.number }, &block.ids);
            }
        }
        self.open.retain(|(_, of), _| *of >= segment);
    }

    /// Removes the blocks whose claims have ended and whose segments are not among `segments`.
    pub fn expire_blocks(&mut self, now_s: u32, segments: &HashSet<u32>, out: &mut Vec<Write>) {
        let ended = self.stored.iter().take_while(|key| key.until_s < now_s);
        let gone = ended.filter(|key| !segments.contains(&key.segment)).copied();
        for key in gone.collect::<Vec<_>>() {
            self.stored.remove(&key);
            out.push(Write { shelf: Shelf::Claims, key: key.encode(), value: None });
        }
    }

    /// Drops what has expired from one shard after the other; called now and then.
    pub fn sweep(&mut self, now_s: u32) {
        self.shards[self.next_shard].rebuild(now_s);
        self.next_shard = (self.next_shard + 1) % SHARDS;
    }

    /// Ids held, those included that expired since the last sweep.
    pub fn len(&self) -> u64 {
        self.shards.iter().map(|s| s.used as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> EventId {
        EventId::derive("shop", "orders", &n.to_string(), "1")
    }

    #[test]
    fn ids_are_held_until_their_second_and_expired_ones_make_room() {
        let mut claims = Claims::default();
        for n in 0..10_000 {
            claims.restore(id(n), 100 + n % 2 * 100, 0);
        }
        assert_eq!(claims.len(), 10_000);
        assert!((0..10_000).all(|n| claims.holds(id(n), 99)));
        assert!(!claims.holds(id(10_000), 0));
        assert!(!claims.holds(id(4), 100) && claims.holds(id(5), 199));
        for _ in 0..SHARDS {
            claims.sweep(150);
        }
        assert_eq!(claims.len(), 5_000);
        claims.restore(id(4), 300, 150);
        assert!(claims.holds(id(4), 299) && claims.holds(id(5), 199));
    }

    #[test]
    fn tables_stay_below_thirty_bytes_an_id() {
        let mut claims = Claims::default();
        for n in 0..60_000 {
            claims.restore(id(n), 100, 0);
            if n > 20_000 && n % 5_000 == 0 {
                let bytes: usize = claims.shards.iter().map(|s| s.slots.capacity() * 16).sum();
                assert!(bytes < 30 * n as usize, "{bytes} bytes for {n} ids");
            }
        }
    }

    #[test]
    fn blocks_are_written_once_full_and_again_while_open() {
        let mut claims = Claims::default();
        let at = Timestamp(1_000_000);
        for n in 0..=(BLOCK_IDS as u32) {
            claims.note(id(n), StoredClaim::Until(1_100), 3, at, 1_000);
        }
        let mut writes = Vec::new();
        claims.write_blocks(3, &mut writes);
        assert_eq!(writes.len(), 2);
        writes.clear();
        claims.write_blocks(3, &mut writes);
        assert!(writes.is_empty());
        claims.note(id(9_999), StoredClaim::None, 3, at, 1_000);
        claims.write_blocks(4, &mut writes);
        assert_eq!(BlockKey::decode(&writes[0].key).unwrap().until_s, 0);
        assert!(claims.open.is_empty());
        writes.clear();
        claims.expire_blocks(5_000, &HashSet::from_iter([3]), &mut writes);
        assert!(writes.is_empty(), "a trace still finds the segment by its blocks");
        claims.expire_blocks(1_000, &HashSet::new(), &mut writes);
        assert_eq!(writes.len(), 1, "what is claimed stays");
        claims.expire_blocks(5_000, &HashSet::new(), &mut writes);
        assert_eq!(writes.len(), 3);
    }
}
