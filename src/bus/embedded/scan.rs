//! Reading a journal file from front to back, over whatever damage it has.
//!
//! A record that does not check out is stepped over: the next offset at which a whole record stands
//! is looked for, and everything between is reported as bad. Where no record follows, what is not
//! zero is a torn tail.

use std::{
    io,
    ops::{ControlFlow, Range},
};

use super::format::segment::{FRAME_BYTES, FrameHead, Kind};
use crate::world::DiskFile;

/// Bytes read at once.
const WINDOW_BYTES: usize = 1 << 20;

static ZEROS: [u8; 4096] = [0; 4096];

/// What a scan found besides records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// Where the last whole record ends.
    pub end: u64,
    /// Damage with whole records behind it.
    pub bad: Vec<Range<u64>>,
    /// Damage with nothing behind it.
    pub torn: Option<Range<u64>>,
}

/// A part of a file, moved along as the scan goes.
struct Window<'a> {
    file: &'a dyn DiskFile,
    buffer: Vec<u8>,
    start: u64,
    end: u64,
}

impl Window<'_> {
    /// `count` bytes at `offset`; `None` where the file ends before.
    fn get(&mut self, offset: u64, count: usize) -> io::Result<Option<&[u8]>> {
        if offset + count as u64 > self.end {
            return Ok(None);
        }
        let within =
            offset >= self.start && offset + count as u64 <= self.start + self.buffer.len() as u64;
        if !within {
            let wanted = (self.end - offset).min(count.max(WINDOW_BYTES) as u64) as usize;
            self.buffer.resize(wanted, 0);
            let read = self.file.read_at(&mut self.buffer, offset)?;
            self.buffer.truncate(read);
            self.start = offset;
            if read < count {
                self.end = offset + read as u64;
                return Ok(None);
            }
        }
        let from = (offset - self.start) as usize;
        Ok(Some(&self.buffer[from..from + count]))
    }

    /// The kind and length of the whole record at `offset`, if one stands there.
    fn record_at(&mut self, offset: u64, salt: u32) -> io::Result<Option<(Kind, usize)>> {
        let Some(head) = self.get(offset, FRAME_BYTES)? else {
            return Ok(None);
        };
        let Some(head) = head.first_chunk().map(FrameHead::decode) else {
            return Ok(None);
        };
        let Some(kind) = Kind::from_byte(head.kind).filter(|_| head.length > 0) else {
            return Ok(None);
        };
        let length = head.length as usize;
        let Some(frame) = self.get(offset, FRAME_BYTES + length)? else {
            return Ok(None);
        };
        Ok(head.fits(salt, &frame[FRAME_BYTES..]).then_some((kind, length)))
    }

    /// The first byte from `offset` on that is not zero.
    fn skip_zeros(&mut self, mut offset: u64) -> io::Result<u64> {
        while offset < self.end {
            let count = (self.end - offset).min(ZEROS.len() as u64) as usize;
            let Some(bytes) = self.get(offset, count)? else {
                break;
            };
            if bytes != &ZEROS[..count] {
                let zeros = bytes.iter().position(|b| *b != 0).unwrap_or(count);
                return Ok(offset + zeros as u64);
            }
            offset += count as u64;
        }
        Ok(self.end)
    }

    /// The next whole record from `offset` on.
    fn find_record(&mut self, mut offset: u64, salt: u32) -> io::Result<Option<u64>> {
        while offset < self.end {
            // A length is never 0, so a record begins at most three bytes before something else.
            let something = self.skip_zeros(offset)?;
            offset = offset.max(something.saturating_sub(3));
            for _ in 0..4 {
                if self.record_at(offset, salt)?.is_some() {
                    return Ok(Some(offset));
                }
                offset += 1;
            }
        }
        Ok(None)
    }

    /// Where the last byte that is not zero ends, from `offset` on.
    fn last_byte(&mut self, mut offset: u64) -> io::Result<u64> {
        let mut last = offset;
        loop {
            offset = self.skip_zeros(offset)?;
            if offset >= self.end {
                return Ok(last);
            }
            let count = (self.end - offset).min(ZEROS.len() as u64) as usize;
            let Some(bytes) = self.get(offset, count)? else {
                return Ok(last);
            };
            last = offset + bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at as u64 + 1);
            offset += count as u64;
        }
    }
}

/// Reads all records between `from` and `limit`; `each` gets a record's offset, kind and body.
pub(super) fn scan(
    file: &dyn DiskFile,
    salt: u32,
    from: u64,
    limit: u64,
    mut each: impl FnMut(u64, Kind, &[u8]) -> ControlFlow<()>,
) -> io::Result<Scan> {
    let end = file.len_bytes()?.min(limit);
    let mut window = Window { file, buffer: Vec::new(), start: 0, end };
    let mut found = Scan { end: from, ..Scan::default() };
    let mut at = from;
    loop {
        if let Some((kind, length)) = window.record_at(at, salt)? {
            let total = FRAME_BYTES + length;
            if let Some(frame) = window.get(at, total)?
                && each(at, kind, &frame[FRAME_BYTES..]).is_break()
            {
                return Ok(found);
            }
            at += total as u64;
            found.end = at;
        } else if let Some(next) = window.find_record(at + 1, salt)? {
            found.bad.push(at..next);
            at = next;
        } else {
            let last = window.last_byte(at)?;
            found.torn = (last > at).then_some(at..last);
            return Ok(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::format::segment::{begin_frame, end_frame, seal_frames},
        *,
    };
    use crate::world::{Disk, SystemDisk};

    const SALT: u32 = 7;

    fn frames(bodies: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for body in bodies {
            let start = begin_frame(&mut out, Kind::Letter);
            out.extend_from_slice(body);
            end_frame(&mut out, start);
        }
        seal_frames(&mut out, SALT);
        out
    }

    fn read(bytes: &[u8], room: u64) -> (Vec<Vec<u8>>, Scan) {
        let folder = tempfile::tempdir().unwrap();
        let file = SystemDisk.create(&folder.path().join("f"), room).unwrap();
        file.write_at(bytes, 0).unwrap();
        let mut bodies = Vec::new();
        let found = scan(&*file, SALT, 0, u64::MAX, |_, _, body| {
            bodies.push(body.to_vec());
            ControlFlow::Continue(())
        });
        (bodies, found.unwrap())
    }

    #[test]
    fn whole_records_are_read_up_to_the_zeros() {
        let bytes = frames(&[b"one", b"two"]);
        let (bodies, found) = read(&bytes, 10_000);
        assert_eq!(bodies, [b"one", b"two"]);
        assert_eq!(found, Scan { end: bytes.len() as u64, ..Scan::default() });
    }

    #[test]
    fn a_bad_record_is_stepped_over_and_a_torn_one_ends_the_scan() {
        let mut bytes = frames(&[b"one", b"two", b"three"]);
        bytes[12 + 10] ^= 1;
        let whole = bytes.len() as u64;
        bytes.extend_from_slice(&frames(&[b"torn off here"])[..15]);
        let (bodies, found) = read(&bytes, 10_000);
        assert_eq!(bodies, [&b"one"[..], b"three"]);
        assert_eq!((found.bad.len(), found.bad[0].clone()), (1, 12..24));
        assert_eq!(found.torn, Some(whole..whole + 15));
        assert_eq!(found.end, whole);
    }

    #[test]
    fn a_payload_that_imitates_a_record_of_another_salt_is_not_one() {
        let mut inner = Vec::new();
        let start = begin_frame(&mut inner, Kind::Letter);
        inner.extend_from_slice(b"forged");
        end_frame(&mut inner, start);
        seal_frames(&mut inner, SALT + 1);
        let mut bytes = frames(&[&inner, b"after"]);
        bytes[5] ^= 1;
        let (bodies, _) = read(&bytes, 1_000);
        assert_eq!(bodies, [b"after"]);
    }
}
