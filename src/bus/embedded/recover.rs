//! Opening a journal that may have been left in the middle of anything.
//!
//! What a checkpoint has is taken from sled; only records behind its position are read. A torn tail
//! is cut, a bad record in the middle set aside, and both are said. The predecessor's length in a
//! segment's header is obeyed: what stands beyond was never acknowledged.

use std::{io, ops::ControlFlow, ops::Range, sync::Arc};

use hashbrown::HashMap;

use super::{
    books::{Books, Entry, day_of},
    claims::second_of,
    core::{Cache, Core},
    format::{
        append::{self, Part, Slot},
        checkpoint::{self, Position, SegmentFacts},
        claims::{self, BlockKey},
        pairs,
        segment::{FRAME_BYTES, HEADER_BYTES, Kind, Tail, begin_frame, end_frame, seal_frames},
        settlement::{self, Settled},
    },
    index::{self, Index, POSITION, Shelf},
    letters::{self, Letters},
    quarantine::Quarantine,
    scan::scan,
    segments::{Opened, Segments, new_facts, note_event, note_settlement, seq_at},
    state::State,
};
use crate::{
    bus::lanes::{FlowId, FlowRef, key_hash},
    world::Timestamp,
};

/// What the events' journal came to.
pub(super) struct Recovered {
    pub books: Books,
    pub core: Core,
    pub state: State,
    pub next_number: u32,
    pub tail: Option<Tail>,
    /// The segment of the checkpoint that was read.
    pub checkpointed: u32,
}

/// A segment that is there, and up to where it counts.
struct Present {
    number: u32,
    opened: Opened,
    limit: u64,
}

/// The segments of a journal in order, and the number of the next. Without a quarantine nothing is
/// changed on disk, here and below.
fn find(segments: &Segments, quarantine: Option<&Quarantine>) -> io::Result<(Vec<Present>, u32)> {
    let numbers = segments.on_disk()?;
    let next_number = numbers.last().map_or(1, |n| n + 1);
    let mut present: Vec<Present> = Vec::new();
    let mut limits: HashMap<u32, u64> = HashMap::new();
    for number in numbers {
        match segments.open(number) {
            Ok(opened) => {
                if let Some(tail) = opened.header.previous {
                    let limit = limits.entry(tail.segment).or_insert(u64::MAX);
                    *limit = (*limit).min(u64::from(tail.len_bytes));
                }
                present.push(Present { number, opened, limit: u64::MAX });
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                if let Some(quarantine) = quarantine {
                    set_file_aside(segments, quarantine, number)?;
                }
            }
            Err(error) => return Err(error),
        }
    }
    for segment in &mut present {
        segment.limit = limits.get(&segment.number).copied().unwrap_or(u64::MAX);
    }
    Ok((present, next_number))
}

/// A file without a header: nothing, where a crash came before its first byte, or damage.
fn set_file_aside(segments: &Segments, quarantine: &Quarantine, number: u32) -> io::Result<()> {
    let file = segments.disk.open(&segments.path(number))?;
    let found = scan(&*file, 0, 0, u64::MAX, |_, _, _| ControlFlow::Break(()))?;
    if found.torn.is_some() || !found.bad.is_empty() {
        quarantine.keep(&name_of(segments, number), &*file, 0..file.len_bytes()?);
    }
    segments.disk.remove(&segments.path(number))
}

fn name_of(segments: &Segments, number: u32) -> String {
    let folder = segments.folder.file_name().unwrap_or_default().to_string_lossy();
    format!("{folder}-{number}")
}

/// Reads a segment's records from `from` on and mends what is damaged. Where the segment ends.
fn read_segment(
    segments: &Segments,
    quarantine: Option<&Quarantine>,
    present: &Present,
    from: u64,
    mut each: impl FnMut(u64, Kind, &[u8]) -> bool,
) -> io::Result<u32> {
    let Present { number, opened, limit } = present;
    let name = name_of(segments, *number);
    let found = scan(&*opened.file, opened.header.salt, from, *limit, |at, kind, body| {
        if !each(at, kind, body)
            && let Some(quarantine) = quarantine
        {
            quarantine.note(&format!("{name}, an unknown record at {at}"));
        }
        ControlFlow::Continue(())
    })?;
    let length = opened.file.len_bytes()?;
    let end = found.end.min(length);
    let Some(quarantine) = quarantine else {
        return Ok(end as u32);
    };
    for bad in found.bad {
        quarantine.keep(&name, &*opened.file, bad.clone());
        cover(opened, bad);
    }
    if let Some(torn) = found.torn {
        tracing::warn!(segment = number, at = torn.start, "a torn tail was cut off");
        quarantine.keep(&name, &*opened.file, torn);
    }
    if length > end
        && let Err(error) = opened.file.truncate(end)
    {
        tracing::debug!(segment = number, %error, "a segment was not cut");
    }
    Ok(end as u32)
}

/// Mends every segment of a journal, whatever a checkpoint says.
pub(super) fn mend(segments: &Segments, quarantine: &Quarantine) -> io::Result<()> {
    let (present, _) = find(segments, Some(quarantine))?;
    for segment in &present {
        read_segment(segments, Some(quarantine), segment, HEADER_BYTES, |_, _, _| true)?;
    }
    Ok(())
}

/// Puts a frame over damage, so that the next reader need not look for the next record again.
fn cover(opened: &Opened, bad: Range<u64>) {
    let length = (bad.end - bad.start) as usize;
    if length <= FRAME_BYTES {
        return;
    }
    let mut frame = Vec::with_capacity(length);
    let start = begin_frame(&mut frame, Kind::Quarantined);
    frame.resize(length, 0);
    end_frame(&mut frame, start);
    seal_frames(&mut frame, opened.header.salt);
    let covered = opened.file.write_at(&frame, bad.start).and_then(|()| opened.file.sync());
    if let Err(error) = covered {
        tracing::debug!(%error, "damage was not covered");
    }
}

/// Opens the dead letters' journal.
pub(super) fn letters(
    segments: &Segments,
    quarantine: &Quarantine,
) -> io::Result<(Letters, u32, Option<Tail>)> {
    let (present, next_number) = find(segments, Some(quarantine))?;
    let mut letters = Letters::default();
    let mut tail = None;
    for segment in &present {
        let number = segment.number;
        let end =
            read_segment(segments, Some(quarantine), segment, HEADER_BYTES, |at, kind, body| {
                letters::replay(&mut letters, number, at, kind, body)
            })?;
        segments.put(SegmentFacts { len_bytes: end, ..new_facts(number) });
        tail = Some(Tail { segment: number, len_bytes: end });
    }
    Ok((letters, next_number, tail))
}

/// What a checkpoint holds.
#[derive(Default)]
struct Loaded {
    books: Books,
    core: Core,
    state: State,
    position: Position,
}

/// Reads the checkpoint. An error means that sled cannot be used.
fn load(index: &Index, now: Timestamp) -> Result<Loaded, String> {
    let mut loaded = Loaded::default();
    let Some(position) = index.get(Shelf::Position, POSITION)? else {
        return Ok(loaded);
    };
    let bad = |what: &'static str| move |_| format!("{what} in sled cannot be read");
    loaded.position = Position::decode(&position).map_err(bad("the position"))?;
    let Loaded { books, core, state, position } = &mut loaded;
    books.now = now;
    let now_s = second_of(now);
    index.each(Shelf::Lanes, |key, value| {
        let number = key.first_chunk().map(|key| FlowId(u32::from_be_bytes(*key)));
        let number = number.ok_or_else(|| "a lane has no number".to_owned())?;
        core.lanes.restore(number, checkpoint::decode_flow(value).map_err(bad("a lane"))?);
        Ok(())
    })?;
    index.each(Shelf::Unsettled, |key, value| {
        let segment = key.first_chunk().map(|k| u32::from_be_bytes(*k));
        let segment = segment.ok_or_else(|| "a region has no name".to_owned())?;
        checkpoint::decode_region(value, |entry| {
            if core.lanes.has(FlowId(entry.flow)) {
                let seq = seq_at(segment, entry.offset);
                books.ledger.add(seq, entry.flow, entry.key);
                if let Some(retried) = entry.retried {
                    books.ledger.retry(seq, entry.flow, retried);
                }
            }
        })
        .map_err(bad("a region"))
    })?;
    books.ledger.take_dirty();
    index.each(Shelf::Claims, |key, value| {
        let block = BlockKey::decode(key).map_err(bad("a dedupe block's name"))?;
        books.claims.stored(block, position.segment);
        if block.until_s > now_s {
            let ids = claims::decode(value).map_err(bad("a dedupe block"))?;
            ids.for_each(|id| books.claims.restore(id, block.until_s, now_s));
        }
        Ok(())
    })?;
    load_pairs(index, Shelf::Forever, &mut |number, slot, mark, _| {
        books.forever.insert(slot, mark);
        books.forever_log.restored(number, 1);
    })?;
    load_pairs(index, Shelf::Revisions, &mut |number, slot, order, day| {
        core.raise(slot, order as i64, day);
        books.revision_log.restored(number, 1);
    })?;
    index.each(Shelf::State, |key, value| {
        state.restore(key, value).map_err(bad("a value of state"))
    })?;
    Ok(loaded)
}

fn load_pairs(
    index: &Index,
    shelf: Shelf,
    each: &mut dyn FnMut(u32, u64, u64, u32),
) -> Result<(), String> {
    index.each(shelf, |key, value| {
        let number: [u8; 4] = key.try_into().map_err(|_| "a block has no name".to_owned())?;
        let number = u32::from_be_bytes(number);
        pairs::decode(value, |day, slot, value| each(number, slot, value, day))
            .map(drop)
            .map_err(|_| "a block of pairs in sled cannot be read".to_owned())
    })
}

/// Opens the events' journal on top of the checkpoint and mends it. An error of the outer kind is
/// the disk's; the inner says that sled has to be built anew.
pub(super) fn events(
    segments: &Arc<Segments>,
    quarantine: &Quarantine,
    index: &Index,
    now: Timestamp,
    cache_bytes: usize,
) -> io::Result<Result<Recovered, String>> {
    let mut recovered = read(segments, Some(quarantine), index, now)?;
    if let Ok(recovered) = &mut recovered {
        recovered.core.cache = Cache::new(cache_bytes);
    }
    Ok(recovered)
}

/// [`events`] that changes nothing on disk.
pub(super) fn look(
    segments: &Arc<Segments>,
    index: &Index,
    now: Timestamp,
) -> io::Result<Result<Recovered, String>> {
    read(segments, None, index, now)
}

fn read(
    segments: &Segments,
    quarantine: Option<&Quarantine>,
    index: &Index,
    now: Timestamp,
) -> io::Result<Result<Recovered, String>> {
    let mut loaded = match index::caught(|| load(index, now)) {
        Ok(loaded) => loaded,
        Err(why) => return Ok(Err(why)),
    };
    loaded.books.now = now;
    let (present, next_number) = find(segments, quarantine)?;
    let mut tail = None;
    for segment in &present {
        let facts = replay_segment(segments, quarantine, segment, &mut loaded)?;
        segments.put(facts);
        tail = Some(Tail { segment: segment.number, len_bytes: facts.len_bytes });
    }
    forget_missing(&mut loaded.books, segments, quarantine);
    let Loaded { books, mut core, state, position } = loaded;
    for region in books.ledger.regions() {
        let mean = segments.get(region.0).map_or(0, |facts| facts.mean_bytes());
        for entry in books.ledger.region(region) {
            let seq = seq_at(region.0, entry.offset);
            core.lanes.push(FlowId(entry.flow), seq, entry.key, mean, entry.retried);
        }
    }
    let checkpointed = position.segment;
    // A number that a removed segment had must not come again: its dedupe blocks may still stand.
    let next_number = next_number.max(position.segment + 1);
    Ok(Ok(Recovered { books, core, state, next_number, tail, checkpointed }))
}

/// Applies what stands behind the checkpoint in one segment.
fn replay_segment(
    segments: &Segments,
    quarantine: Option<&Quarantine>,
    present: &Present,
    loaded: &mut Loaded,
) -> io::Result<SegmentFacts> {
    let number = present.number;
    let known = loaded.position.segments.iter().find(|f| f.number == number).copied();
    let mut facts = known.unwrap_or_else(|| new_facts(number));
    if known.is_some() && number < loaded.position.segment {
        return Ok(facts);
    }
    let from = match known {
        Some(_) if number == loaded.position.segment => u64::from(loaded.position.offset),
        _ => HEADER_BYTES,
    };
    let end = read_segment(segments, quarantine, present, from, |at, kind, body| {
        apply(loaded, &mut facts, at, kind, body)
    })?;
    facts.len_bytes = end;
    Ok(facts)
}

/// Applies one record. Whether it was understood.
fn apply(loaded: &mut Loaded, facts: &mut SegmentFacts, at: u64, kind: Kind, body: &[u8]) -> bool {
    match kind {
        Kind::Append => append::decode(body, |part| match part {
            Part::Slot(slot) => apply_event(loaded, facts, at, slot),
            Part::State((key, value)) => {
                loaded.books.dirty_state.insert(key.to_owned());
                loaded.state.put(key.to_owned(), value.map(<[u8]>::to_vec), facts.number);
            }
        })
        .is_ok(),
        Kind::Settlements => settlement::decode(body, |settled| {
            note_settlement(facts, settled.at);
            apply_settlement(loaded, &settled);
        })
        .is_ok(),
        Kind::Quarantined => true,
        Kind::Letter | Kind::Discard => false,
    }
}

fn apply_event(loaded: &mut Loaded, facts: &mut SegmentFacts, at: u64, slot: Slot<'_>) {
    let event = slot.event;
    let seq = seq_at(facts.number, at as u32 + (FRAME_BYTES + slot.offset) as u32);
    note_event(facts, event.received_at);
    let (connector, stream, key) = (event.connector, event.stream, event.key);
    let entry = Entry {
        id: event.id,
        connector,
        stream,
        key,
        received_at: event.received_at,
        claim: slot.claim,
    };
    loaded.books.accept(entry, facts.number);
    for destination in event.to() {
        // A checkpoint that was being written may have the pair, from before flows had tenants under
        // another number. Twice in one lane it would be leased twice and settled once.
        let lanes = &loaded.core.lanes;
        let is_it =
            |flow| lanes.flow(FlowId(flow)).is_some_and(|it| *it.lane.destination == *destination);
        if loaded.books.ledger.flows_at(seq).any(is_it) {
            continue;
        }
        let tenant = event.tenant;
        let flow = loaded.core.lanes.intern(&FlowRef { connector, stream, destination, tenant });
        loaded.books.ledger.add(seq, flow.0, key_hash(key));
    }
}

fn apply_settlement(loaded: &mut Loaded, settled: &Settled) {
    if let Some((slot, order)) = settled.revision {
        loaded.core.raise(slot, order, day_of(settled.at));
    }
    let Loaded { books, core, .. } = loaded;
    let named = |flow: &u32| {
        let name = core.lanes.flow(FlowId(*flow));
        name.is_some_and(|name| name.lane.destination == settled.destination)
    };
    let flow = books.ledger.flows_at(settled.seq).find(named);
    books.settle(flow.unwrap_or(u32::MAX), settled);
}

/// Lets go of entries whose segment is gone, which only damage can bring about.
fn forget_missing(books: &mut Books, segments: &Segments, quarantine: Option<&Quarantine>) {
    let missing: Vec<u32> =
        books.ledger.live_segments().filter(|n| segments.get(*n).is_none()).collect();
    for number in missing {
        let lost = books.ledger.forget_segment(number);
        if let Some(quarantine) = quarantine {
            quarantine.note(&format!("segment {number} is gone with {lost} unsettled events"));
        }
    }
}

#[cfg(test)]
mod tests;
