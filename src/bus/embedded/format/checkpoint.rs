//! A checkpoint: up to where the journal's effect stands in sled, and what was unsettled there.
//!
//! The position: segment (u32) · offset (u32) · count of segments (uint) and for each: number (u32) ·
//! length (u32) · earliest and latest `received_at` (i64, i64) · events (uint) · CRC-32 of all (u32).
//!
//! A region (the unsettled of one mebibyte of a segment; its key is segment and mebibyte, u32 and
//! u32, big endian): for each: distance of its offset from the one before (uint) · flow (uint) · key
//! hash (u64) · 0, or 1 and due (i64, ms) · attempts (uint) · end of the first attempt (i64, ms);
//! then the CRC-32 of all (u32). A flow's name stands under its number: the three texts of its lane, and its
//! tenant, if it has one, as a fourth. Numbers have gaps: a flow that nobody needs is removed, and its
//! number names another one from the next checkpoint on.
//!
//! [`FORMAT_VERSION`](super::FORMAT_VERSION) 1 has no tenants of flows, 1 and 2 no gaps; else they are the same.

use super::{Malformed, Reader, put_text, put_uint};
use crate::{
    bus::lanes::{FlowName, Retried},
    event::Lane,
    world::Timestamp,
};

/// What is known of a segment without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bus) struct SegmentFacts {
    pub number: u32,
    /// Where its last record ends.
    pub len_bytes: u32,
    /// The earliest `received_at` of its events; later than `latest` where it has none.
    pub earliest: Timestamp,
    /// The latest `received_at` of its events.
    pub latest: Timestamp,
    pub events: u64,
}

impl SegmentFacts {
    /// What one of its events takes, more or less.
    pub fn mean_bytes(&self) -> u64 {
        u64::from(self.len_bytes).checked_div(self.events).unwrap_or_default()
    }
}

/// Up to where sled has everything, and the segments there were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::bus) struct Position {
    pub segment: u32,
    pub offset: u32,
    pub segments: Vec<SegmentFacts>,
}

/// One unsettled pair of event and flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bus) struct Unsettled {
    pub offset: u32,
    pub flow: u32,
    pub key: u64,
    pub retried: Option<Retried>,
}

fn seal(mut out: Vec<u8>) -> Vec<u8> {
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

fn unseal(bytes: &[u8]) -> Result<Reader<'_>, Malformed> {
    let (body, crc) = bytes.split_last_chunk::<4>().ok_or(Malformed)?;
    let fits = crc32fast::hash(body) == u32::from_le_bytes(*crc);
    if fits { Ok(Reader::new(body)) } else { Err(Malformed) }
}

impl Position {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + self.segments.len() * 32);
        out.extend_from_slice(&self.segment.to_le_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
        put_uint(&mut out, self.segments.len() as u64);
        for facts in &self.segments {
            out.extend_from_slice(&facts.number.to_le_bytes());
            out.extend_from_slice(&facts.len_bytes.to_le_bytes());
            out.extend_from_slice(&facts.earliest.0.to_le_bytes());
            out.extend_from_slice(&facts.latest.0.to_le_bytes());
            put_uint(&mut out, facts.events);
        }
        seal(out)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = unseal(bytes)?;
        let (segment, offset) = (reader.u32()?, reader.u32()?);
        let mut segments = Vec::new();
        for _ in 0..reader.uint()? {
            segments.push(SegmentFacts {
                number: reader.u32()?,
                len_bytes: reader.u32()?,
                earliest: Timestamp(reader.i64()?),
                latest: Timestamp(reader.i64()?),
                events: reader.uint()?,
            });
        }
        reader.end()?;
        Ok(Self { segment, offset, segments })
    }
}

/// A region's value; offsets must not fall.
pub(in crate::bus) fn encode_region(entries: impl Iterator<Item = Unsettled>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut before = 0;
    for entry in entries {
        put_uint(&mut out, u64::from(entry.offset.wrapping_sub(before)));
        before = entry.offset;
        put_uint(&mut out, u64::from(entry.flow));
        out.extend_from_slice(&entry.key.to_le_bytes());
        out.push(u8::from(entry.retried.is_some()));
        if let Some(retried) = entry.retried {
            out.extend_from_slice(&retried.due.0.to_le_bytes());
            put_uint(&mut out, u64::from(retried.attempts));
            out.extend_from_slice(&retried.first_attempt_at.0.to_le_bytes());
        }
    }
    seal(out)
}

/// Reads a region.
pub(in crate::bus) fn decode_region(
    bytes: &[u8],
    mut each: impl FnMut(Unsettled),
) -> Result<(), Malformed> {
    let mut reader = unseal(bytes)?;
    let mut offset = 0u32;
    while !reader.is_empty() {
        offset = offset.wrapping_add(reader.small()?);
        let (flow, key) = (reader.small()?, reader.u64()?);
        let retried = match reader.u8()? {
            0 => None,
            1 => Some(Retried {
                due: Timestamp(reader.i64()?),
                attempts: reader.small()?,
                first_attempt_at: Timestamp(reader.i64()?),
            }),
            _ => return Err(Malformed),
        };
        each(Unsettled { offset, flow, key, retried });
    }
    Ok(())
}

/// A flow's name.
pub(in crate::bus) fn encode_flow(flow: &FlowName) -> Vec<u8> {
    let mut out = Vec::new();
    let Lane { connector, stream, destination } = &flow.lane;
    for name in [connector, stream, destination].into_iter().chain(&flow.tenant) {
        put_text(&mut out, name);
    }
    out
}

/// Reads a flow's name.
pub(in crate::bus) fn decode_flow(bytes: &[u8]) -> Result<FlowName, Malformed> {
    let mut reader = Reader::new(bytes);
    let lane = Lane {
        connector: reader.text()?.into(),
        stream: reader.text()?.into(),
        destination: reader.text()?.into(),
    };
    let tenant = if reader.is_empty() { None } else { Some(reader.text()?.into()) };
    reader.end()?;
    Ok(FlowName { lane, tenant })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn retried() -> impl Strategy<Value = Retried> {
        (any::<i64>(), any::<u32>(), any::<i64>()).prop_map(|(due, attempts, first)| Retried {
            due: Timestamp(due),
            attempts,
            first_attempt_at: Timestamp(first),
        })
    }

    fn facts() -> impl Strategy<Value = SegmentFacts> {
        let parts = (any::<u32>(), any::<u32>(), any::<i64>(), any::<i64>(), any::<u64>());
        parts.prop_map(|(number, len_bytes, earliest, latest, events)| SegmentFacts {
            number,
            len_bytes,
            earliest: Timestamp(earliest),
            latest: Timestamp(latest),
            events,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_position_comes_back_as_it_was(
            segment in any::<u32>(),
            offset in any::<u32>(),
            segments in prop::collection::vec(facts(), 0..4),
        ) {
            let position = Position { segment, offset, segments };
            prop_assert_eq!(Position::decode(&position.encode()), Ok(position));
        }

        #[test]
        fn a_region_comes_back_as_it_was(
            parts in prop::collection::vec(
                (any::<u32>(), any::<u32>(), any::<u64>(), prop::option::of(retried())), 0..6,
            ),
        ) {
            let mut entries: Vec<_> = parts
                .into_iter()
                .map(|(offset, flow, key, retried)| Unsettled { offset, flow, key, retried })
                .collect();
            entries.sort_by_key(|e| e.offset);
            let mut read = Vec::new();
            decode_region(&encode_region(entries.iter().copied()), |e| read.push(e)).unwrap();
            prop_assert_eq!(read, entries);
        }

        #[test]
        fn a_flow_comes_back_as_it_was(
            names in (".{0,5}", ".{0,5}", ".{0,5}"), tenant in prop::option::of(".{0,5}"),
        ) {
            let lane = Lane {
                connector: names.0.into(),
                stream: names.1.into(),
                destination: names.2.into(),
            };
            let flow = FlowName { lane, tenant: tenant.map(Into::into) };
            prop_assert_eq!(decode_flow(&encode_flow(&flow)), Ok(flow));
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = Position::decode(&bytes);
            let _ = decode_region(&bytes, |_| ());
            let _ = decode_flow(&bytes);
        }
    }
}
