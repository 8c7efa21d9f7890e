//! An append record: events, their claims and state, durable together or not at all.
//!
//! Layout: count of events (uint) · count of state entries (uint) · slots · state entries.
//!
//! A slot is: length of what follows the checksum (u32) · CRC-32 of it (u32) · claim (u8: 0 none,
//! 1 window, 2 for ever) · when a window's claim ends (u32, s since 1970, rounded up; only there) ·
//! the event. An event's [`Seq`](crate::bus::Seq) is its segment's number and the offset of its slot
//! in that file, so a slot can be read and checked without the rest of its record.
//!
//! A state entry is: key (text) · 1 and the value (bytes), or 0 where the key is removed.
//!
//! The same in [`FORMAT_VERSION`](super::FORMAT_VERSION) 1 to 3.

use super::{
    Malformed, Reader,
    event::{self, EventRef},
    put_bytes, put_text, put_uint,
};
use crate::event::Event;

/// Bytes of a slot before its claim.
pub(in crate::bus) const SLOT_HEAD_BYTES: usize = 8;

/// How an event's id is claimed, as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bus) enum StoredClaim {
    /// Not at all.
    None,
    /// Until this second since 1970.
    Until(u32),
    /// As the last accepted revision of its key.
    Forever,
}

/// Appends a slot to `out`.
pub(in crate::bus) fn put_slot(out: &mut Vec<u8>, claim: StoredClaim, event: &Event) {
    let start = out.len();
    out.extend_from_slice(&[0; SLOT_HEAD_BYTES]);
    match claim {
        StoredClaim::None => out.push(0),
        StoredClaim::Until(second) => {
            out.push(1);
            out.extend_from_slice(&second.to_le_bytes());
        }
        StoredClaim::Forever => out.push(2),
    }
    event::encode(event, out);
    let body = &out[start + SLOT_HEAD_BYTES..];
    let (length, crc) = ((body.len() as u32).to_le_bytes(), crc32fast::hash(body).to_le_bytes());
    out[start..start + 4].copy_from_slice(&length);
    out[start + 4..start + 8].copy_from_slice(&crc);
}

/// Appends a record's head; its slots and state follow.
pub(in crate::bus) fn put_head(out: &mut Vec<u8>, events: usize, state: usize) {
    put_uint(out, events as u64);
    put_uint(out, state as u64);
}

/// Appends a state entry.
pub(in crate::bus) fn put_state(out: &mut Vec<u8>, key: &str, value: Option<&[u8]>) {
    put_text(out, key);
    match value {
        Some(value) => {
            out.push(1);
            put_bytes(out, value);
        }
        None => out.push(0),
    }
}

/// A slot as it stands in a buffer.
#[derive(Clone, Copy, Debug)]
pub(in crate::bus) struct Slot<'a> {
    /// Where it begins within the record.
    pub offset: usize,
    pub claim: StoredClaim,
    pub event: EventRef<'a>,
}

/// Reads the slot at the front of `bytes`, which may be longer.
pub(in crate::bus) fn decode_slot(bytes: &[u8]) -> Result<Slot<'_>, Malformed> {
    let mut reader = Reader::new(bytes);
    read_slot(&mut reader, 0)
}

fn read_slot<'a>(reader: &mut Reader<'a>, offset: usize) -> Result<Slot<'a>, Malformed> {
    let length = reader.u32()? as usize;
    let crc = reader.u32()?;
    let body = reader.take(length)?;
    if crc32fast::hash(body) != crc {
        return Err(Malformed);
    }
    let mut body = Reader::new(body);
    let claim = match body.u8()? {
        0 => StoredClaim::None,
        1 => StoredClaim::Until(body.u32()?),
        2 => StoredClaim::Forever,
        _ => return Err(Malformed),
    };
    Ok(Slot { offset, claim, event: EventRef::decode(body.rest())? })
}

/// A state entry as it stands in a buffer: `None` removes.
pub(in crate::bus) type StateRef<'a> = (&'a str, Option<&'a [u8]>);

/// A part of a record.
#[derive(Clone, Copy, Debug)]
pub(in crate::bus) enum Part<'a> {
    Slot(Slot<'a>),
    State(StateRef<'a>),
}

/// Reads a record: its slots, then its state entries.
pub(in crate::bus) fn decode<'a>(
    bytes: &'a [u8],
    mut each: impl FnMut(Part<'a>),
) -> Result<(), Malformed> {
    let mut reader = Reader::new(bytes);
    let (events, state) = (reader.uint()?, reader.uint()?);
    for _ in 0..events {
        let offset = bytes.len() - reader.rest().len();
        each(Part::Slot(read_slot(&mut reader, offset)?));
    }
    for _ in 0..state {
        let key = reader.text()?;
        let value = match reader.u8()? {
            0 => None,
            1 => Some(reader.bytes()?),
            _ => return Err(Malformed),
        };
        each(Part::State((key, value)));
    }
    reader.end()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::arbitrary, *};

    fn claim() -> impl Strategy<Value = StoredClaim> {
        prop_oneof![
            Just(StoredClaim::None),
            any::<u32>().prop_map(StoredClaim::Until),
            Just(StoredClaim::Forever),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_record_comes_back_as_it_was(
            events in prop::collection::vec((claim(), arbitrary::event()), 0..4),
            state in prop::collection::vec(("[a-z]{0,5}", any::<Option<Vec<u8>>>()), 0..3),
        ) {
            let mut bytes = Vec::new();
            put_head(&mut bytes, events.len(), state.len());
            let mut places = Vec::new();
            for (claim, event) in &events {
                places.push(bytes.len());
                put_slot(&mut bytes, *claim, event);
            }
            for (key, value) in &state {
                put_state(&mut bytes, key, value.as_deref());
            }
            let (mut slots, mut states) = (Vec::new(), Vec::new());
            decode(&bytes, |part| match part {
                Part::Slot(slot) => slots.push(slot),
                Part::State(entry) => states.push(entry),
            })
            .unwrap();
            for ((slot, (claim, event)), place) in slots.iter().zip(&events).zip(&places) {
                prop_assert_eq!(slot.claim, *claim);
                prop_assert_eq!(&slot.event.to_event(), event);
                prop_assert_eq!(slot.offset, *place);
                let alone = decode_slot(&bytes[*place..]).unwrap();
                prop_assert_eq!(alone.event.id, event.id);
            }
            prop_assert_eq!(slots.len(), events.len());
            let owned: Vec<_> =
                states.iter().map(|(k, v)| ((*k).to_owned(), v.map(<[u8]>::to_vec))).collect();
            prop_assert_eq!(owned, state);
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes, |_| ());
            let _ = decode_slot(&bytes);
        }
    }
}
