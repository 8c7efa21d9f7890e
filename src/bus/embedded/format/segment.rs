//! A journal file: its header, and the frame around each record.
//!
//! The header stands twice, at 0 and at 64, so that one damaged sector does not cost a segment.
//! Layout: `TENONSEG` · format version (u16) · journal (u8: 1 events, 2 dead letters) · 0 (u8) · number
//! (u32) · salt (u32) · made at (i64, ms) · the previous segment's number (u32) and valid length (u32;
//! both `u32::MAX` where there is none) · CRC-32 of all before (u32) · zeros to 64 bytes.
//!
//! Naming the predecessor's length makes a cut final: what a failed fsync or a torn write left
//! beyond it was never acknowledged and is not read again.
//!
//! Records follow from 128. A frame is: length of the body (u32, never 0) · CRC-32 of kind and body,
//! begun with the salt (u32) · kind (u8) · body. Zeros follow the last record. The salt keeps a
//! payload that imitates a frame from being taken for one when a reader looks for the next record
//! behind a damaged one.
//!
//! The same in [`FORMAT_VERSION`] 1 to 3.

use super::{FORMAT_VERSION, Malformed, Reader};
use crate::world::Timestamp;

const MAGIC: &[u8; 8] = b"TENONSEG";
const HEADER_COPY_BYTES: usize = 64;
const HEADER_USED_BYTES: usize = 36;

/// Where a segment's records begin.
pub(in crate::bus) const HEADER_BYTES: u64 = 128;

/// Bytes of a frame before the body.
pub(in crate::bus) const FRAME_BYTES: usize = 9;

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bus) enum Kind {
    /// See [`super::append`].
    Append = 1,
    /// See [`super::settlement`].
    Settlements = 2,
    /// See [`super::letter`].
    Letter = 3,
    /// See [`super::letter`].
    Discard = 4,
    /// Damaged bytes that were copied to the quarantine and overwritten.
    Quarantined = 5,
}

impl Kind {
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::Append, Self::Settlements, Self::Letter, Self::Discard, Self::Quarantined]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// Which journal a segment belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bus) enum JournalKind {
    /// Events and settlements.
    Events = 1,
    /// Dead letters.
    Dead = 2,
}

/// The end of a segment as its successor fixed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bus) struct Tail {
    pub segment: u32,
    pub len_bytes: u32,
}

/// A segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bus) struct Header {
    pub journal: JournalKind,
    pub number: u32,
    pub salt: u32,
    pub made_at: Timestamp,
    pub previous: Option<Tail>,
}

impl Header {
    /// Both copies.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES as usize);
        let previous = self.previous.unwrap_or(Tail { segment: u32::MAX, len_bytes: u32::MAX });
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&[self.journal as u8, 0]);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.salt.to_le_bytes());
        out.extend_from_slice(&self.made_at.0.to_le_bytes());
        out.extend_from_slice(&previous.segment.to_le_bytes());
        out.extend_from_slice(&previous.len_bytes.to_le_bytes());
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out.resize(HEADER_COPY_BYTES, 0);
        out.extend_from_within(..);
        out
    }

    /// The first copy that is whole.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let second = bytes.get(HEADER_COPY_BYTES..).unwrap_or_default();
        Self::decode_copy(bytes).or_else(|Malformed| Self::decode_copy(second))
    }

    fn decode_copy(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let body = reader.take(HEADER_USED_BYTES)?;
        if crc32fast::hash(body) != reader.u32()? {
            return Err(Malformed);
        }
        let mut reader = Reader::new(body);
        if reader.array::<8>()? != *MAGIC || !(1..=FORMAT_VERSION).contains(&reader.u16()?) {
            return Err(Malformed);
        }
        let journal = match reader.u8()? {
            1 => JournalKind::Events,
            2 => JournalKind::Dead,
            _ => return Err(Malformed),
        };
        reader.u8()?;
        let (number, salt) = (reader.u32()?, reader.u32()?);
        let made_at = Timestamp(reader.i64()?);
        let previous = Tail { segment: reader.u32()?, len_bytes: reader.u32()? };
        let previous = Some(previous).filter(|p| p.segment != u32::MAX);
        Ok(Self { journal, number, salt, made_at, previous })
    }
}

/// Begins a frame at the end of `out`; its body is appended next. Gives what [`end_frame`] takes.
pub(in crate::bus) fn begin_frame(out: &mut Vec<u8>, kind: Kind) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_BYTES - 1]);
    out.push(kind as u8);
    start
}

/// Ends the frame that began at `start`. It still wants its checksum, see [`seal_frames`].
pub(in crate::bus) fn end_frame(out: &mut [u8], start: usize) {
    let length = (out.len() - start - FRAME_BYTES) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// Writes the checksums of all frames in `frames`, which end where it ends.
pub(in crate::bus) fn seal_frames(frames: &mut [u8], salt: u32) {
    let mut rest = frames;
    while let Some((head, after)) = rest.split_first_chunk_mut::<FRAME_BYTES>() {
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let (body, next) = after.split_at_mut(length.min(after.len()));
        let crc = checksum(salt, head[8], body);
        head[4..8].copy_from_slice(&crc.to_le_bytes());
        rest = next;
    }
}

/// The checksum of a frame.
pub(in crate::bus) fn checksum(salt: u32, kind: u8, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    hasher.update(&[kind]);
    hasher.update(body);
    hasher.finalize()
}

/// The first nine bytes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bus) struct FrameHead {
    pub length: u32,
    pub crc: u32,
    pub kind: u8,
}

impl FrameHead {
    pub fn decode(bytes: &[u8; FRAME_BYTES]) -> Self {
        let part = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        Self { length: part(0), crc: part(4), kind: bytes[8] }
    }

    /// Whether `body` is what this head announces.
    pub fn fits(&self, salt: u32, body: &[u8]) -> bool {
        checksum(salt, self.kind, body) == self.crc
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> impl Strategy<Value = Header> {
        let previous = prop::option::of((0..u32::MAX, any::<u32>()));
        (any::<bool>(), any::<u32>(), any::<u32>(), any::<i64>(), previous).prop_map(
            |(dead, number, salt, made_at, previous)| Header {
                journal: if dead { JournalKind::Dead } else { JournalKind::Events },
                number,
                salt,
                made_at: Timestamp(made_at),
                previous: previous.map(|(segment, len_bytes)| Tail { segment, len_bytes }),
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn a_header_survives_any_flipped_bit(header in header(), at in 0..128usize, bit in 0..8u32) {
            let mut bytes = header.encode();
            prop_assert_eq!(bytes.len() as u64, HEADER_BYTES);
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(Header::decode(&bytes), Ok(header));
        }

        #[test]
        fn a_header_of_an_earlier_version_is_read_and_one_of_a_later_is_not(header in header()) {
            for (version, expected) in [(1_u16, Ok(header)), (2, Ok(header)), (FORMAT_VERSION + 1, Err(Malformed))] {
                let mut bytes = header.encode()[..HEADER_COPY_BYTES].to_vec();
                bytes[8..10].copy_from_slice(&version.to_le_bytes());
                let crc = crc32fast::hash(&bytes[..HEADER_USED_BYTES]);
                bytes[HEADER_USED_BYTES..][..4].copy_from_slice(&crc.to_le_bytes());
                prop_assert_eq!(Header::decode(&bytes), expected);
            }
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..130)) {
            let _ = Header::decode(&bytes);
        }

        #[test]
        fn a_frame_fits_only_its_own_body_and_salt(
            body in prop::collection::vec(any::<u8>(), 1..50),
            salt in any::<u32>(),
            at in any::<prop::sample::Index>(),
        ) {
            let mut out = Vec::new();
            let start = begin_frame(&mut out, Kind::Letter);
            out.extend_from_slice(&body);
            end_frame(&mut out, start);
            seal_frames(&mut out, salt);
            let head = FrameHead::decode(out.first_chunk().unwrap());
            prop_assert_eq!(head.length as usize, body.len());
            prop_assert!(head.fits(salt, &body));
            prop_assert!(!head.fits(salt ^ 1, &body));
            let mut other = body.clone();
            other[at.index(body.len())] ^= 4;
            prop_assert!(!head.fits(salt, &other));
        }
    }
}
