//! The dedupe window: which ids are claimed, and until when.
//!
//! In memory an id takes fourteen bytes of an open-addressed table: its first ten bytes and the
//! second in which its claim ends. Tables are split in shards that grow by an eighth one at a time,
//! so 10 million ids stay below 200 MB and no growth is felt. In sled the ids stand in blocks that
//! expire whole.

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
/// Slots in a chunk of a table: 2 KiB.
const CHUNK: usize = 128;
/// A table that is fuller than this grows: runs of taken slots are some twenty long then.
const FULL: (usize, usize) = (17, 20);

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

/// The beginning of an id. With the shard, which its end decides, that is 86 bits of a SHA-256: of
/// 10 million ids held, one event in 10^19 is mistaken for.
type Tag = [u8; 10];

/// Slots of a table. Tables pass chunks on to each other as they grow: vectors of megabytes that
/// grow one after the other leave holes that nothing fits in.
#[derive(Clone)]
struct Chunk {
    tags: [Tag; CHUNK],
    /// The second in which the claim ends; 0 is a free slot.
    until_s: [u32; CHUNK],
}

const FREE: Chunk = Chunk { tags: [[0; 10]; CHUNK], until_s: [0; CHUNK] };

/// One open-addressed table.
#[derive(Default)]
#[expect(clippy::vec_box, reason = "a chunk moves from table to table as it is")]
struct Shard {
    chunks: Vec<Box<Chunk>>,
    used: usize,
}

/// What a table that is built anew leaves behind, and the next one uses.
#[derive(Default)]
#[expect(clippy::vec_box, reason = "a chunk moves from table to table as it is")]
struct Spare {
    chunks: Vec<Box<Chunk>>,
    live: Vec<(Tag, u32)>,
}

fn tag_of(id: EventId) -> Tag {
    let [tag @ .., _, _, _, _, _, _] = id.0;
    tag
}

impl Shard {
    fn slots(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    fn start(&self, tag: Tag) -> usize {
        let [hash @ .., _, _] = tag;
        ((u128::from(u64::from_be_bytes(hash)) * self.slots() as u128) >> 64) as usize
    }

    /// The slot that holds the id, or the free one where it belongs.
    fn find(&self, tag: Tag) -> Option<(usize, usize)> {
        if self.chunks.is_empty() {
            return None;
        }
        let mut at = self.start(tag);
        loop {
            let (chunk, slot) = (at / CHUNK, at % CHUNK);
            let held = &self.chunks[chunk];
            if held.until_s[slot] == 0 || held.tags[slot] == tag {
                return Some((chunk, slot));
            }
            at += 1;
            if at == self.slots() {
                at = 0;
            }
        }
    }

    fn until(&self, tag: Tag) -> u32 {
        self.find(tag).map_or(0, |(chunk, slot)| self.chunks[chunk].until_s[slot])
    }

    fn insert(&mut self, tag: Tag, until_s: u32, now_s: u32, spare: &mut Spare) {
        if (self.used + 1) * FULL.1 > self.slots() * FULL.0 {
            self.rebuild(now_s, spare);
        }
        if self.put(tag, until_s) {
            self.used += 1;
        }
    }

    /// Whether the slot was free.
    fn put(&mut self, tag: Tag, until_s: u32) -> bool {
        let Some((chunk, slot)) = self.find(tag) else { return false };
        let chunk = &mut self.chunks[chunk];
        chunk.tags[slot] = tag;
        let before = std::mem::replace(&mut chunk.until_s[slot], until_s);
        chunk.until_s[slot] = until_s.max(before);
        before == 0
    }

    /// Drops what has expired and leaves room to grow by an eighth.
    fn rebuild(&mut self, now_s: u32, spare: &mut Spare) {
        for chunk in &self.chunks {
            let held = chunk.tags.iter().copied().zip(chunk.until_s);
            spare.live.extend(held.filter(|(_, until_s)| *until_s > now_s));
        }
        self.used = spare.live.len();
        spare.chunks.append(&mut self.chunks);
        let needed = (self.used + 1) * FULL.1 / FULL.0;
        for _ in 0..(needed + needed / 8).div_ceil(CHUNK) {
            let mut chunk = spare.chunks.pop().unwrap_or_else(|| Box::new(FREE));
            chunk.until_s.fill(0);
            self.chunks.push(chunk);
        }
        // After a table shrank; the next one to grow is about as large.
        spare.chunks.truncate(self.chunks.len());
        let mut live = std::mem::take(&mut spare.live);
        for (tag, until_s) in live.drain(..) {
            self.put(tag, until_s);
        }
        spare.live = live;
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
    spare: Spare,
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
            spare: Spare::default(),
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
        self.shards[Self::shard(id)].until(tag_of(id)) > now_s
    }

    /// Claims an id without noting it in a block: that block was read just now.
    pub fn restore(&mut self, id: EventId, until_s: u32, now_s: u32) {
        if until_s > now_s {
            self.shards[Self::shard(id)].insert(tag_of(id), until_s, now_s, &mut self.spare);
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
        let shard = &mut self.shards[self.next_shard];
        if !shard.chunks.is_empty() {
            shard.rebuild(now_s, &mut self.spare);
        }
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
    fn tables_stay_below_twenty_one_bytes_an_id() {
        let mut claims = Claims::default();
        for n in 0..60_000 {
            claims.restore(id(n), 100, 0);
            if n > 40_000 && n % 5_000 == 0 {
                let slots: usize = claims.shards.iter().map(Shard::slots).sum();
                let spare = claims.spare.chunks.len() * CHUNK + claims.spare.live.capacity();
                let bytes = (slots + spare) * size_of::<Chunk>() / CHUNK;
                assert!(bytes < 21 * n as usize, "{bytes} bytes for {n} ids");
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
