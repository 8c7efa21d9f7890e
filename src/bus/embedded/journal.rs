//! Writing a journal: one segment after the other, and what happens when the disk refuses.
//!
//! An error of a write or a sync is final for its file: nothing is known about the file's tail then,
//! so it is cut where the last acknowledged record ends, the next segment's header says so for good,
//! and writing goes on there once the disk lets a new segment be made and synced.

use std::{
    hash::{BuildHasher, RandomState},
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    format::segment::{HEADER_BYTES, Header, JournalKind, Tail},
    segments::{Segments, new_facts},
};
use crate::world::{DiskFile, Timestamp};

/// The first and the longest wait between two tries at a disk that refused.
const PROBE_FROM: Duration = Duration::from_millis(100);
const PROBE_TO: Duration = Duration::from_secs(5);

/// Zeros that are written behind the frames whenever these reach blocks that were never written.
///
/// Preallocated blocks are only reserved: the first write to one changes the file's metadata too, so
/// that its sync has to wait for a second write (and, on a journalling file system, for a commit of
/// the file system's journal). Blocks that were written once take records, and nothing else. Groups of
/// more than a quarter of this, such as polled pages, would soon come to the end again: they are
/// written as they are.
const AHEAD_BYTES: u64 = 512 << 10;

/// Where the next frames go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub segment: u32,
    pub offset: u32,
    pub salt: u32,
}

struct Active {
    file: Arc<dyn DiskFile>,
    number: u32,
    salt: u32,
    offset: u64,
    room: u64,
    /// Blocks before this were written once; [`AHEAD_BYTES`].
    touched: u64,
}

impl Active {
    /// Writes frames where the last ones end, and what the next ones need.
    fn write(&mut self, frames: &[u8]) -> io::Result<()> {
        self.file.write_at(frames, self.offset)?;
        let end = self.offset + frames.len() as u64;
        if end > self.touched {
            self.touched = end;
            if frames.len() as u64 <= AHEAD_BYTES / 4 {
                let ahead = AHEAD_BYTES.min(self.room - end);
                self.file.write_at(&vec![0; ahead as usize], end)?;
                self.touched += ahead;
            }
        }
        Ok(())
    }
}

/// Why nothing can be written, and when to try again.
struct Trouble {
    why: String,
    wait: Duration,
    again_at: Instant,
}

/// The writing end of a journal; there is one.
pub(super) struct Journal {
    segments: Arc<Segments>,
    kind: JournalKind,
    segment_bytes: u64,
    active: Option<Active>,
    next_number: u32,
    tail: Option<Tail>,
    trouble: Option<Trouble>,
}

impl Journal {
    /// Goes on behind `tail` in a new segment, made when the first record comes.
    pub fn new(
        segments: Arc<Segments>,
        kind: JournalKind,
        segment_bytes: u64,
        next_number: u32,
        tail: Option<Tail>,
    ) -> Self {
        Self { segments, kind, segment_bytes, active: None, next_number, tail, trouble: None }
    }

    /// Makes room for `bytes` of frames in one segment, and says where they will stand.
    pub fn reserve(&mut self, bytes: usize, now: Timestamp) -> Result<Place, String> {
        let fits = |a: &Active| a.offset + bytes as u64 <= a.room;
        if !self.active.as_ref().is_some_and(fits) {
            self.probe(bytes, now)?;
        }
        let Some(active) = &self.active else {
            return Err("no segment is open".to_owned());
        };
        Ok(Place { segment: active.number, offset: active.offset as u32, salt: active.salt })
    }

    /// Makes a new segment, unless the last refusal is too recent.
    pub fn probe(&mut self, bytes: usize, now: Timestamp) -> Result<(), String> {
        if let Some(trouble) = &self.trouble
            && Instant::now() < trouble.again_at
        {
            return Err(trouble.why.clone());
        }
        self.finish();
        match self.create(bytes, now) {
            Ok(active) => {
                if self.trouble.take().is_some() {
                    tracing::info!(segment = active.number, "the journal can be written again");
                }
                self.segments.put(new_facts(active.number));
                self.active = Some(active);
                Ok(())
            }
            Err(error) => Err(self.refused("a new segment cannot be made", &error)),
        }
    }

    fn create(&mut self, bytes: usize, now: Timestamp) -> io::Result<Active> {
        let number = self.next_number;
        self.next_number += 1;
        let room = self.segment_bytes.max(HEADER_BYTES + bytes as u64);
        let header = Header {
            journal: self.kind,
            number,
            salt: RandomState::new().hash_one(number) as u32,
            made_at: now,
            previous: self.tail,
        };
        let path = self.segments.path(number);
        let made = self.segments.disk.create(&path, room).and_then(|file| {
            file.write_at(&header.encode(), 0)?;
            file.sync()?;
            self.segments.disk.sync_folder(&self.segments.folder)?;
            Ok(file)
        });
        match made {
            Ok(file) => {
                let (salt, offset) = (header.salt, HEADER_BYTES);
                Ok(Active { file, number, salt, offset, room, touched: offset })
            }
            Err(error) => {
                drop(self.segments.disk.remove(&path));
                Err(error)
            }
        }
    }

    /// Writes frames to the place that was reserved for them and makes them durable.
    pub fn write(&mut self, frames: &[u8]) -> Result<(), String> {
        let Some(active) = &mut self.active else {
            return Err("no segment is open".to_owned());
        };
        let written = active.write(frames).map_err(|e| ("write", e));
        let synced = written.and_then(|()| active.file.sync().map_err(|e| ("sync", e)));
        match synced {
            Ok(()) => {
                active.offset += frames.len() as u64;
                Ok(())
            }
            Err((what, error)) => {
                let what = format!("{what} of segment {} failed", active.number);
                self.finish();
                Err(self.refused(&what, &error))
            }
        }
    }

    /// Leaves the active segment for good, cut to what was acknowledged.
    pub fn finish(&mut self) {
        let Some(active) = self.active.take() else {
            return;
        };
        self.tail = Some(Tail { segment: active.number, len_bytes: active.offset as u32 });
        // The successor's header fixes the end too, so a failure here costs only the room.
        if let Err(error) = active.file.truncate(active.offset) {
            tracing::debug!(segment = active.number, %error, "a finished segment was not cut");
        }
    }

    fn refused(&mut self, what: &str, error: &io::Error) -> String {
        let why = format!("{what}: {error}");
        let wait = self.trouble.as_ref().map_or(PROBE_FROM, |t| (t.wait * 2).min(PROBE_TO));
        if self.trouble.is_none() {
            tracing::error!(problem = %why, "the journal refuses; nothing is acknowledged");
        }
        self.trouble = Some(Trouble { why: why.clone(), wait, again_at: Instant::now() + wait });
        why
    }

    /// Why nothing can be written at present.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_ref().map(|t| t.why.as_str())
    }

    /// When to probe again.
    pub fn probe_at(&self) -> Option<Instant> {
        self.trouble.as_ref().map(|t| t.again_at)
    }

    /// The files of this journal.
    pub fn segments(&self) -> &Arc<Segments> {
        &self.segments
    }

    /// The segment that is being written.
    pub fn active_segment(&self) -> Option<u32> {
        self.active.as_ref().map(|a| a.number)
    }

    /// The end of what is durable: every record so far is before it.
    pub fn end(&self) -> (u32, u32) {
        match (&self.active, self.tail) {
            (Some(active), _) => (active.number, active.offset as u32),
            // Whatever comes next comes in a later segment.
            (None, Some(tail)) => (tail.segment, tail.len_bytes),
            (None, None) => (0, 0),
        }
    }
}
