//! Looking back: events by time, and all that happened to one of them.

use std::{
    collections::{BTreeSet, HashSet},
    io,
    ops::ControlFlow,
    sync::Arc,
};

use parking_lot::Mutex;

use super::{
    format::{
        append::{self, Part},
        claims::BlockKey,
        segment::{FRAME_BYTES, HEADER_BYTES, Kind},
        settlement::{self, Settled},
    },
    index::{Index, Shelf},
    segments::{Segments, place_of, seq_at},
};
use crate::{
    bus::{Endings, HISTORY_PAGE_EVENTS, HistoryPage, Seq, StoreError, Trace, steps},
    event::EventId,
    world::Timestamp,
};

/// Bytes of records in one page at most (and one record more).
const PAGE_BYTES: usize = 16 << 20;

/// Where the last page ended: its last event, and the record that holds it. The next page need not
/// read the segment from its beginning then.
#[derive(Default)]
pub(super) struct Bookmark(Mutex<Option<(u64, u64)>>);

/// The segment went between listing and reading: retention is allowed to.
fn unless_gone(result: io::Result<super::scan::Scan>) -> Result<(), StoreError> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError(error.to_string())),
        _ => Ok(()),
    }
}

/// One page of events received in `from..to`, after `after`.
pub(super) fn page(
    segments: &Segments,
    bookmark: &Bookmark,
    from: Timestamp,
    to: Timestamp,
    after: Option<u64>,
) -> Result<HistoryPage, StoreError> {
    let mut page = HistoryPage::default();
    let mut bytes = 0;
    let mut last_record = 0;
    let first = after.map_or(0, |seq| place_of(seq).0);
    for facts in segments.all() {
        if facts.number < first
            || facts.earliest >= to
            || facts.latest < from
            || page.next.is_some()
        {
            continue;
        }
        let begun = bookmark.0.lock().filter(|(seq, _)| Some(*seq) == after);
        let start = begun.filter(|_| facts.number == first).map_or(HEADER_BYTES, |(_, at)| at);
        unless_gone(segments.scan(facts.number, start, |at, kind, body| {
            if kind != Kind::Append {
                return ControlFlow::Continue(());
            }
            // A record that is no append record was counted when the folder was opened.
            let _ = append::decode(body, |part| {
                let Part::Slot(slot) = part else { return };
                let seq = seq_at(facts.number, at as u32 + (FRAME_BYTES + slot.offset) as u32);
                let received = slot.event.received_at;
                let wanted = received >= from && received < to && after.is_none_or(|a| seq > a);
                if !wanted || page.next.is_some() {
                    return;
                }
                if page.events.len() >= HISTORY_PAGE_EVENTS || bytes > PAGE_BYTES {
                    page.next = page.events.last().map(|(seq, _)| *seq);
                } else {
                    let event = slot.event.to_event();
                    bytes += event.record.bytes().len();
                    page.events.push((Seq(seq), Arc::new(event)));
                    last_record = at;
                }
            });
            if page.next.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }))?;
    }
    *bookmark.0.lock() = page.next.map(|seq| (seq.0, last_record));
    Ok(page)
}

/// The segments in which a dedupe block or, behind the last checkpoint, a look may find the event.
fn candidates(
    segments: &Segments,
    index: &Index,
    checkpointed: u32,
    id: EventId,
) -> Result<BTreeSet<u32>, StoreError> {
    let behind = segments.all().into_iter().map(|f| f.number).filter(|n| *n >= checkpointed);
    let mut found: BTreeSet<u32> = behind.collect();
    let read = index.each(Shelf::Claims, |key, ids| {
        if let Ok(block) = BlockKey::decode(key)
            && ids.as_chunks::<16>().0.contains(&id.0)
        {
            found.insert(block.segment);
        }
        Ok(())
    });
    read.map_err(StoreError)?;
    Ok(found)
}

/// Reads one segment, the first that may matter or the one after `after`, for what became of events.
pub(super) fn endings(
    segments: &Segments,
    asked: &mut Endings,
    after: Option<u64>,
) -> Result<Option<Seq>, StoreError> {
    let Some(first) = asked.first() else { return Ok(None) };
    let from = after.map_or(place_of(first.0).0, |seq| place_of(seq).0 + 1);
    let mut left = segments.all().into_iter().map(|facts| facts.number).filter(|n| *n >= from);
    let Some(number) = left.next() else { return Ok(None) };
    unless_gone(segments.scan(number, HEADER_BYTES, |at, kind, body| {
        // What cannot be read was counted when the folder was opened.
        match kind {
            Kind::Append => {
                let record = at as u32 + FRAME_BYTES as u32;
                let _ = append::decode(body, |part| {
                    let Part::Slot(slot) = part else { return };
                    let seq = seq_at(number, record + slot.offset as u32);
                    asked.appended(seq, slot.event.id, slot.event.to());
                });
            }
            Kind::Settlements => {
                let _ = settlement::decode(body, |settled| {
                    let Settled { seq, at, destination, settlement, .. } = settled;
                    asked.settled(seq, &destination, &settlement, at);
                });
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }))?;
    Ok(left.next().map(|_| Seq(seq_at(number, 0))))
}

/// Everything the journal has of an event.
pub(super) fn trace(
    segments: &Segments,
    index: &Index,
    checkpointed: u32,
    id: EventId,
) -> Result<Vec<Trace>, StoreError> {
    let candidates = candidates(segments, index, checkpointed, id)?;
    let last_candidate = candidates.last().copied();
    let mut traces: Vec<Trace> = Vec::new();
    let mut open: HashSet<(u64, Arc<str>)> = HashSet::new();
    for facts in segments.all() {
        let number = facts.number;
        let may_hold = candidates.contains(&number);
        if !may_hold && open.is_empty() {
            if last_candidate.is_none_or(|last| number > last) {
                break;
            }
            continue;
        }
        unless_gone(segments.scan(number, HEADER_BYTES, |at, kind, body| {
            match kind {
                Kind::Append if may_hold => {
                    let at = at as u32 + FRAME_BYTES as u32;
                    find_event(&mut traces, &mut open, id, number, at, body);
                }
                Kind::Settlements if !traces.is_empty() => {
                    find_steps(&mut traces, &mut open, body);
                }
                _ => {}
            }
            ControlFlow::Continue(())
        }))?;
    }
    Ok(traces)
}

type OpenLanes = HashSet<(u64, Arc<str>)>;

fn find_event(
    traces: &mut Vec<Trace>,
    open: &mut OpenLanes,
    id: EventId,
    segment: u32,
    record: u32,
    body: &[u8],
) {
    // What cannot be read was counted when the folder was opened.
    let _ = append::decode(body, |part| {
        let Part::Slot(slot) = part else { return };
        if slot.event.id != id {
            return;
        }
        let event = slot.event.to_event();
        let seq = seq_at(segment, record + slot.offset as u32);
        open.extend(event.to.iter().map(|d| (seq, Arc::clone(d))));
        let steps = vec![steps::accepted(&event)];
        traces.push(Trace { seq: Seq(seq), event: Arc::new(event), steps });
    });
}

fn find_steps(traces: &mut [Trace], open: &mut OpenLanes, body: &[u8]) {
    let _ = settlement::decode(body, |settled| {
        let Some(trace) = traces.iter_mut().find(|t| t.seq.0 == settled.seq) else {
            return;
        };
        let destination = settled.destination;
        let (event, at) = (&trace.event, settled.at);
        trace.steps.extend(steps::settled(event, &settled.settlement, &destination, at));
        if !matches!(settled.settlement, crate::bus::Settlement::Retry { .. }) {
            open.remove(&(settled.seq, destination));
        }
    });
}
