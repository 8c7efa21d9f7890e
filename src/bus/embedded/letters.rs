//! Dead letters: a journal of their own, so that they outlive history, and an index in memory.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{
    format::{
        letter,
        segment::{
            FRAME_BYTES, FrameHead, HEADER_BYTES, Kind, begin_frame, end_frame, seal_frames,
        },
    },
    journal::Journal,
    segments::{Segments, damaged},
};
use crate::{
    bus::{DeadId, DeadLetter, DeadSummary, StoreError, summary},
    event::EventId,
    world::Timestamp,
};

/// Segments of this journal are small: dead letters are few and stay long.
pub(super) const SEGMENT_BYTES: u64 = 4 << 20;

struct Kept {
    summary: DeadSummary,
    segment: u32,
    offset: u32,
}

/// Which letters there are and where.
#[derive(Default)]
pub(super) struct Letters {
    by_id: BTreeMap<u64, Kept>,
    by_event: HashMap<(EventId, Arc<str>), u64>,
    last_id: u64,
}

impl Letters {
    /// Takes in a durable letter.
    pub fn put(&mut self, id: DeadId, letter: &DeadLetter, segment: u32, offset: u32) {
        self.last_id = self.last_id.max(id.0);
        self.by_event.insert((letter.event.id, Arc::clone(&letter.destination)), id.0);
        self.by_id.insert(id.0, Kept { summary: summary(id, letter), segment, offset });
    }

    /// Takes in a durable discard.
    pub fn remove(&mut self, id: DeadId) -> bool {
        let Some(kept) = self.by_id.remove(&id.0) else {
            return false;
        };
        self.by_event.remove(&(kept.summary.event, kept.summary.lane.destination));
        true
    }

    pub fn len(&self) -> u64 {
        self.by_id.len() as u64
    }

    pub fn summaries(&self) -> Vec<DeadSummary> {
        self.by_id.values().map(|k| k.summary.clone()).collect()
    }

    fn expire(&mut self, before: Timestamp) {
        let old = self.by_id.values().filter(|k| k.summary.died_at < before);
        for id in old.map(|k| k.summary.id).collect::<Vec<_>>() {
            self.remove(id);
        }
    }
}

/// One request for the journal's thread.
pub(super) enum LetterOp {
    Bury {
        letter: DeadLetter,
        reply: oneshot::Sender<Result<DeadId, StoreError>>,
    },
    Discard {
        id: DeadId,
        /// Only the letter that died then; one that replaced it stays.
        died_at: Option<Timestamp>,
        now: Timestamp,
        reply: oneshot::Sender<Result<bool, StoreError>>,
    },
}

/// What a request comes to, once its frames are durable.
enum Outcome {
    Buried {
        id: DeadId,
        letter: DeadLetter,
        at: u32,
        reply: oneshot::Sender<Result<DeadId, StoreError>>,
    },
    Discarded {
        id: DeadId,
        /// Whether it is the letter that was meant.
        meant: bool,
        reply: oneshot::Sender<Result<bool, StoreError>>,
    },
}

/// Writes what was asked as one group, and answers.
pub(super) fn commit(journal: &mut Journal, letters: &Mutex<Letters>, ops: Vec<LetterOp>) {
    let mut frames = Vec::new();
    let mut now = Timestamp::default();
    let outcomes = encode(&letters.lock(), ops, &mut frames, &mut now);
    if frames.is_empty() {
        answer_all(&mut letters.lock(), outcomes, None, &Ok(()));
        return;
    }
    let written = journal.reserve(frames.len(), now).and_then(|place| {
        seal_frames(&mut frames, place.salt);
        journal.write(&frames)?;
        Ok(place)
    });
    let segments = journal.segments();
    if let Ok(place) = &written
        && let Some(mut facts) = segments.get(place.segment)
    {
        facts.len_bytes = place.offset + frames.len() as u32;
        segments.put(facts);
    }
    let place = written.as_ref().ok().map(|p| (p.segment, p.offset));
    let result = written.map(drop).map_err(|why| StoreError(format!("dead letters: {why}")));
    answer_all(&mut letters.lock(), outcomes, place, &result);
}

fn encode(
    letters: &Letters,
    ops: Vec<LetterOp>,
    frames: &mut Vec<u8>,
    now: &mut Timestamp,
) -> Vec<Outcome> {
    let mut last_id = letters.last_id;
    let mut in_group: HashMap<(EventId, Arc<str>), u64> = HashMap::new();
    let each = |op| match op {
        LetterOp::Bury { letter, reply } => {
            *now = letter.died_at.max(*now);
            let name = (letter.event.id, Arc::clone(&letter.destination));
            let known = letters.by_event.get(&name).copied();
            let id = *in_group.entry(name).or_insert_with(|| {
                known.unwrap_or_else(|| {
                    last_id += 1;
                    last_id
                })
            });
            let at = begin_frame(frames, Kind::Letter);
            letter::encode(DeadId(id), &letter, frames);
            end_frame(frames, at);
            Outcome::Buried { id: DeadId(id), letter, at: at as u32, reply }
        }
        LetterOp::Discard { id, died_at, now: asked, reply } => {
            *now = asked.max(*now);
            let buried_just_now = in_group.values().any(|g| *g == id.0);
            let kept = letters.by_id.get(&id.0).map(|kept| kept.summary.died_at);
            let meant = died_at.is_none_or(|at| !buried_just_now && kept == Some(at));
            if meant && (kept.is_some() || buried_just_now) {
                let at = begin_frame(frames, Kind::Discard);
                letter::encode_discard(id, frames);
                end_frame(frames, at);
            }
            Outcome::Discarded { id, meant, reply }
        }
    };
    ops.into_iter().map(each).collect()
}

fn answer_all(
    letters: &mut Letters,
    outcomes: Vec<Outcome>,
    place: Option<(u32, u32)>,
    result: &Result<(), StoreError>,
) {
    for outcome in outcomes {
        // An asker that has gone needs no answer; the letter is kept all the same.
        match outcome {
            Outcome::Buried { id, letter, at, reply } => {
                if let Some((segment, offset)) = place {
                    letters.put(id, &letter, segment, offset + at);
                }
                drop(reply.send(result.clone().map(|()| id)));
            }
            Outcome::Discarded { id, meant, reply } => {
                let removed = result.clone().map(|()| meant && letters.remove(id));
                drop(reply.send(removed));
            }
        }
    }
}

/// Reads a letter back.
pub(super) fn read(
    segments: &Segments,
    letters: &Mutex<Letters>,
    id: DeadId,
) -> io::Result<Option<DeadLetter>> {
    let Some((number, offset)) =
        letters.lock().by_id.get(&id.0).map(|kept| (kept.segment, u64::from(kept.offset)))
    else {
        return Ok(None);
    };
    let bad = || damaged(format!("{id} cannot be read from segment {number}"));
    let opened = segments.open(number)?;
    let mut head = [0; FRAME_BYTES];
    opened.file.read_at(&mut head, offset)?;
    let head = FrameHead::decode(&head);
    let left = opened.file.len_bytes()?.saturating_sub(offset);
    if u64::from(head.length) > left {
        return Err(bad());
    }
    let mut body = vec![0; head.length as usize];
    opened.file.read_at(&mut body, offset + FRAME_BYTES as u64)?;
    if !head.fits(opened.header.salt, &body) {
        return Err(bad());
    }
    letter::decode(&body).map(|(_, letter)| Some(letter)).map_err(|_| bad())
}

/// Takes in one record at start. Whether it could be read.
pub(super) fn replay(
    letters: &mut Letters,
    segment: u32,
    at: u64,
    kind: Kind,
    body: &[u8],
) -> bool {
    match kind {
        Kind::Letter => match letter::decode(body) {
            Ok((id, letter)) => letters.put(id, &letter, segment, at as u32),
            Err(_) => return false,
        },
        Kind::Discard => match letter::decode_discard(body) {
            Ok(id) => {
                letters.last_id = letters.last_id.max(id.0);
                letters.remove(id);
            }
            Err(_) => return false,
        },
        Kind::Quarantined => {}
        Kind::Append | Kind::Settlements => return false,
    }
    true
}

/// Forgets letters older than `keep` and removes the oldest segments once nothing in them is kept.
/// Only from the oldest on: a discard stands behind its letter and must not go before it.
pub(super) fn retain(
    journal: &Journal,
    letters: &Mutex<Letters>,
    now: Timestamp,
    keep: Duration,
) -> io::Result<()> {
    let needed: Vec<u32> = {
        let mut letters = letters.lock();
        letters.expire(now.minus(keep));
        letters.by_id.values().map(|k| k.segment).collect()
    };
    let oldest_needed = needed.into_iter().min();
    let segments = journal.segments();
    let all = segments.all();
    let written = all.iter().filter(|f| f.len_bytes > HEADER_BYTES as u32);
    let newest_written = written.map(|f| f.number).max();
    for facts in all {
        let active = journal.active_segment().is_some_and(|a| facts.number >= a);
        if active || oldest_needed.is_some_and(|n| facts.number >= n) {
            break;
        }
        // A letter's number must not be given twice, so the last segment with records stays.
        if newest_written.is_some_and(|n| facts.number >= n) {
            break;
        }
        segments.remove(facts.number)?;
    }
    Ok(())
}
