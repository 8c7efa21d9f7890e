//! What the journal's thread knows and a checkpoint writes: the ledger, the claims, the revisions.
//!
//! The same methods apply a record when it was just written and when it is read again after a
//! restart. Applying one twice changes nothing, so a checkpoint may be older than what sled holds.

use hashbrown::{HashMap, HashSet};

use super::{
    claims::{Claims, forever_mark, forever_slot, second_of},
    core::{Core, Newest},
    format::{
        append::StoredClaim,
        checkpoint::{Position, encode_flow, encode_region},
        pairs::{self, BLOCK_PAIRS},
        settlement::Settled,
    },
    index::{POSITION, Shelf, Write},
    ledger::Ledger,
    state::State,
};
use crate::{
    bus::{
        Settlement,
        lanes::{FlowId, Lanes, Retried},
    },
    event::EventId,
    world::Timestamp,
};

/// Blocks are written anew once they hold this many times what is live (and a full block more).
const COMPACT_AT: u64 = 2;

/// Which day since 1970 it is.
pub(super) fn day_of(at: Timestamp) -> u32 {
    u32::try_from(at.0.max(0) / 86_400_000).unwrap_or(u32::MAX)
}

/// How a map of pairs is kept in sled: by appending blocks of what changed, and by writing all of it
/// anew once the blocks are mostly old.
#[derive(Default)]
pub(super) struct PairLog {
    dirty: HashSet<u64>,
    first_block: u32,
    next_block: u32,
    written: u64,
}

impl PairLog {
    /// Takes note of a block that was read at start.
    pub fn restored(&mut self, number: u32, pairs: u64) {
        if self.written == 0 {
            self.first_block = number;
        }
        self.next_block = self.next_block.max(number + 1);
        self.written += pairs;
    }

    /// Notes that the pair under `slot` changed.
    pub fn touch(&mut self, slot: u64) {
        self.dirty.insert(slot);
    }

    /// Writes what changed since the last checkpoint, or everything where most of what was written
    /// is old. `map` is the map as it stands, `pair` a value of it and the day it is from.
    fn write<V>(
        &mut self,
        shelf: Shelf,
        map: &HashMap<u64, V>,
        pair: impl Fn(&V) -> (u64, u32),
        out: &mut Vec<Write>,
    ) {
        let mut by_day: HashMap<u32, Vec<(u64, u64)>> = HashMap::new();
        let mut put = |slot: u64, value: &V| {
            let (value, day) = pair(value);
            by_day.entry(day).or_default().push((slot, value));
        };
        let live = map.len() as u64;
        if self.written > live * COMPACT_AT + BLOCK_PAIRS as u64 {
            for number in self.first_block..self.next_block {
                let key = number.to_be_bytes().to_vec();
                out.push(Write { shelf, key, value: None });
            }
            (self.first_block, self.written) = (self.next_block, 0);
            self.dirty.clear();
            map.iter().for_each(|(slot, value)| put(*slot, value));
        } else {
            let changed = self.dirty.drain().filter_map(|slot| Some((slot, map.get(&slot)?)));
            changed.for_each(|(slot, value)| put(slot, value));
        }
        for (day, pairs) in by_day {
            self.write_blocks(shelf, day, &pairs, out);
        }
    }

    fn write_blocks(&mut self, shelf: Shelf, day: u32, pairs: &[(u64, u64)], out: &mut Vec<Write>) {
        for block in pairs.chunks(BLOCK_PAIRS) {
            let key = self.next_block.to_be_bytes().to_vec();
            out.push(Write { shelf, key, value: Some(pairs::encode(day, block)) });
            self.next_block += 1;
            self.written += block.len() as u64;
        }
    }
}

/// See the module's text.
#[derive(Default)]
pub(super) struct Books {
    pub ledger: Ledger,
    pub claims: Claims,
    /// The last accepted revision of each key that is claimed for ever.
    pub forever: HashMap<u64, u64>,
    pub forever_log: PairLog,
    pub revision_log: PairLog,
    /// Keys of state that changed since the last checkpoint.
    pub dirty_state: HashSet<String>,
    /// The latest time that anybody has told.
    pub now: Timestamp,
}

/// What an event's place in the books takes of it.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub id: EventId,
    pub connector: &'a str,
    pub stream: &'a str,
    pub key: &'a str,
    pub received_at: Timestamp,
    pub claim: StoredClaim,
}

impl Books {
    /// Takes in the claim of an event that is durable in `segment`.
    pub fn accept(&mut self, entry: Entry<'_>, segment: u32) {
        let Entry { id, connector, stream, key, received_at, claim } = entry;
        self.claims.note(id, claim, segment, received_at, second_of(self.now));
        if claim == StoredClaim::Forever {
            let slot = forever_slot(connector, stream, key);
            self.forever.insert(slot, forever_mark(id));
            self.forever_log.touch(slot);
        }
    }

    /// Takes in a durable settlement. Whether its pair was still unsettled.
    pub fn settle(&mut self, flow: u32, settled: &Settled) -> bool {
        if let Some((slot, _)) = settled.revision {
            self.revision_log.touch(slot);
        }
        match settled.settlement {
            Settlement::Retry { due, attempts, first_attempt_at, .. } => {
                self.ledger.retry(settled.seq, flow, Retried { due, attempts, first_attempt_at });
                true
            }
            Settlement::Defer { .. } => true,
            _ => self.ledger.settle(settled.seq, flow),
        }
    }

    /// Everything that changed since the last checkpoint, as changes of sled.
    pub fn checkpoint(&mut self, position: Position, core: &mut Core, state: &State) -> Vec<Write> {
        let mut out = Vec::new();
        for region in self.ledger.take_dirty() {
            let mut entries = self.ledger.region(region).peekable();
            let value = entries.peek().is_some().then(|| encode_region(entries));
            let key = [region.0, region.1].map(u32::to_be_bytes).concat();
            out.push(Write { shelf: Shelf::Unsettled, key, value });
        }
        self.claims.write_blocks(position.segment, &mut out);
        let segments = position.segments.iter().map(|f| f.number).collect();
        self.claims.expire_blocks(second_of(self.now), &segments, &mut out);
        self.forever_log.write(Shelf::Forever, &self.forever, |mark| (*mark, 0), &mut out);
        let newest = |newest: &Newest| (newest.order as u64, newest.day);
        self.revision_log.write(Shelf::Revisions, &core.newest, newest, &mut out);
        for key in self.dirty_state.drain() {
            let value = state.stored(&key);
            out.push(Write { shelf: Shelf::State, key: key.into_bytes(), value });
        }
        self.name_flows(&mut core.lanes, &mut out);
        let value = Some(position.encode());
        out.push(Write { shelf: Shelf::Position, key: POSITION.to_vec(), value });
        out
    }

    /// Writes which flows are new, and forgets those that nobody needs. A number that goes is in no
    /// region any more once this checkpoint is written; whoever gets it is named in the next one.
    fn name_flows(&self, lanes: &mut Lanes, out: &mut Vec<Write>) {
        let gone = if lanes.wants_sweep() { lanes.sweep(&self.ledger.flows()) } else { Vec::new() };
        let key = |number: FlowId| number.0.to_be_bytes().to_vec();
        out.extend(gone.into_iter().map(|it| Write {
            shelf: Shelf::LanesGone,
            key: key(it),
            value: None,
        }));
        for number in lanes.take_given() {
            let name = lanes.flow(number).map(|name| encode_flow(&name));
            if name.is_some() {
                out.push(Write { shelf: Shelf::Lanes, key: key(number), value: name });
            }
        }
    }
}
