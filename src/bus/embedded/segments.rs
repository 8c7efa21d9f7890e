//! The files of one journal: what is known of each, and reading single events back.

use std::{collections::BTreeMap, io, ops::ControlFlow, path::PathBuf, sync::Arc};

use parking_lot::RwLock;

use super::{
    format::{
        append::{self, SLOT_HEAD_BYTES},
        checkpoint::SegmentFacts,
        segment::{HEADER_BYTES, Header, Kind},
    },
    scan::{Scan, scan},
};
use crate::{
    event::Event,
    world::{Disk, DiskFile, Timestamp},
};

/// Bytes read at first when one event is wanted; most fit.
const SLOT_GUESS_BYTES: usize = 4 << 10;

/// A place in the journal as a sequence number.
pub(super) fn seq_at(segment: u32, offset: u32) -> u64 {
    u64::from(segment) << 32 | u64::from(offset)
}

/// The segment and offset of a sequence number.
pub(super) fn place_of(seq: u64) -> (u32, u32) {
    ((seq >> 32) as u32, seq as u32)
}

/// All segments of a journal. Shared by the writer and by those who read.
pub(super) struct Segments {
    pub disk: Arc<dyn Disk>,
    pub folder: PathBuf,
    facts: RwLock<BTreeMap<u32, SegmentFacts>>,
}

/// A segment opened for reading.
pub(super) struct Opened {
    pub file: Arc<dyn DiskFile>,
    pub header: Header,
}

/// What is known of a segment that was just made.
pub(super) fn new_facts(number: u32) -> SegmentFacts {
    SegmentFacts {
        number,
        len_bytes: HEADER_BYTES as u32,
        earliest: Timestamp(i64::MAX),
        latest: Timestamp(i64::MIN),
        events: 0,
    }
}

/// Takes an event into the facts of its segment.
pub(super) fn note_event(facts: &mut SegmentFacts, received_at: Timestamp) {
    facts.earliest = facts.earliest.min(received_at);
    facts.latest = facts.latest.max(received_at);
    facts.events += 1;
}

/// Takes a settlement into the facts of its segment, which history needs as long as the settlement.
pub(super) fn note_settlement(facts: &mut SegmentFacts, at: Timestamp) {
    facts.latest = facts.latest.max(at);
}

/// The error of a file that is not what it should be.
pub(super) fn damaged(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Segments {
    pub fn new(disk: Arc<dyn Disk>, folder: PathBuf) -> Self {
        Self { disk, folder, facts: RwLock::default() }
    }

    pub fn path(&self, number: u32) -> PathBuf {
        self.folder.join(format!("{number:010}.seg"))
    }

    /// The numbers of the files that are there, rising.
    pub fn on_disk(&self) -> io::Result<Vec<u32>> {
        let names = self.disk.list(&self.folder)?;
        let number = |name: &String| name.strip_suffix(".seg")?.parse().ok();
        let mut numbers: Vec<u32> = names.iter().filter_map(number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    pub fn open(&self, number: u32) -> io::Result<Opened> {
        let file = self.disk.open(&self.path(number))?;
        let mut bytes = [0; HEADER_BYTES as usize];
        let read = file.read_at(&mut bytes, 0)?;
        let header = Header::decode(&bytes[..read])
            .ok()
            .filter(|h| h.number == number)
            .ok_or_else(|| damaged(format!("segment {number} has no readable header")))?;
        Ok(Opened { file, header })
    }

    /// Replaces what is known of a segment.
    pub fn put(&self, facts: SegmentFacts) {
        self.facts.write().insert(facts.number, facts);
    }

    pub fn get(&self, number: u32) -> Option<SegmentFacts> {
        self.facts.read().get(&number).copied()
    }

    /// All segments, oldest first.
    pub fn all(&self) -> Vec<SegmentFacts> {
        self.facts.read().values().copied().collect()
    }

    pub fn used_bytes(&self) -> u64 {
        self.facts.read().values().map(|f| u64::from(f.len_bytes)).sum()
    }

    /// Removes a segment's file, and then what is known of it.
    pub fn remove(&self, number: u32) -> io::Result<()> {
        match self.disk.remove(&self.path(number)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.facts.write().remove(&number);
        self.disk.sync_folder(&self.folder)
    }

    /// Reads the records of a segment from `from` on, up to what is known to be durable.
    pub fn scan(
        &self,
        number: u32,
        from: u64,
        each: impl FnMut(u64, Kind, &[u8]) -> ControlFlow<()>,
    ) -> io::Result<Scan> {
        let limit = self.get(number).map_or(0, |f| u64::from(f.len_bytes));
        let opened = self.open(number)?;
        scan(&*opened.file, opened.header.salt, from, limit, each)
    }

    /// Reads events back, each checked by its own checksum, until their records take more than
    /// `most_bytes`. `seqs` are best sorted.
    pub fn read_events(&self, seqs: &[u64], most_bytes: usize) -> Vec<io::Result<Arc<Event>>> {
        let mut open: Option<(u32, Arc<dyn DiskFile>)> = None;
        let mut read = |seq: u64| {
            let (number, offset) = place_of(seq);
            if open.as_ref().is_none_or(|(n, _)| *n != number) {
                open = Some((number, self.disk.open(&self.path(number))?));
            }
            let Some((_, file)) = &open else {
                return Err(damaged("no file".to_owned()));
            };
            read_event(&**file, u64::from(offset))
                .map_err(|e| io::Error::new(e.kind(), format!("segment {number}: {e}")))
        };
        let (mut all, mut bytes) = (Vec::with_capacity(seqs.len()), 0);
        for seq in seqs {
            if bytes > most_bytes {
                break;
            }
            let event = read(*seq);
            bytes += event.as_ref().map_or(0, |event| event.record.bytes().len());
            all.push(event);
        }
        all
    }
}

fn read_event(file: &dyn DiskFile, offset: u64) -> io::Result<Arc<Event>> {
    let mut bytes = vec![0; SLOT_GUESS_BYTES];
    let mut read = file.read_at(&mut bytes, offset)?;
    let bad = || damaged(format!("no event at offset {offset}"));
    let length = bytes.first_chunk::<4>().map(|l| u32::from_le_bytes(*l)).ok_or_else(bad)?;
    let total = SLOT_HEAD_BYTES + length as usize;
    if total > read && read == bytes.len() {
        let left = file.len_bytes()?.saturating_sub(offset);
        if total as u64 > left {
            return Err(bad());
        }
        bytes.resize(total, 0);
        read += file.read_at(&mut bytes[read..], offset + read as u64)?;
    }
    let slot = append::decode_slot(&bytes[..read]).map_err(|_| bad())?;
    Ok(Arc::new(slot.event.to_event()))
}
