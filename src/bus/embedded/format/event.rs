//! An event.
//!
//! Layout: id (16 bytes) · received at (i64, ms) · flags (u8) · connector (text) · stream (text) ·
//! key (text) · revision (text) · count of destinations (uint) and as many texts · order (i64, where
//! flagged) · tenant (text, where flagged) · traceparent (text, where flagged) · `with` (bytes of
//! JSON, where flagged) · the replay that appended it and the one its idempotency keys belong to (u64
//! and u64, `u64::MAX` where they are the original's; where flagged) · record (bytes).
//!
//! Flags: 1 polled · 2 delete · 4 order · 8 tenant · 16 traceparent · 32 `with` · 64 replayed; others
//! are zero.
//!
//! [`FORMAT_VERSION`](super::FORMAT_VERSION) 1 has no flag 64; else they are the same.

use std::sync::Arc;

use bytes::Bytes;

use super::{Malformed, Reader, put_bytes, put_text, put_uint};
use crate::{
    event::{Event, EventId, Origin, Record, ReplayId, Replayed},
    world::Timestamp,
};

const POLLED: u8 = 1;
const DELETE: u8 = 2;
const ORDER: u8 = 4;
const TENANT: u8 = 8;
const TRACEPARENT: u8 = 16;
const WITH: u8 = 32;
const REPLAYED: u8 = 64;
const KNOWN: u8 = 127;

/// Stands for a copy whose idempotency keys are those of the original.
const OWN_KEYS: u64 = u64::MAX;

/// Appends `event` to `out`.
pub(in crate::bus) fn encode(event: &Event, out: &mut Vec<u8>) {
    out.extend_from_slice(&event.id.0);
    out.extend_from_slice(&event.received_at.0.to_le_bytes());
    out.push(flags_of(event));
    put_text(out, &event.connector);
    put_text(out, &event.stream);
    put_text(out, &event.key);
    put_text(out, &event.revision);
    put_uint(out, event.to.len() as u64);
    for destination in &event.to {
        put_text(out, destination);
    }
    if let Some(order) = event.order {
        out.extend_from_slice(&order.to_le_bytes());
    }
    for text in [&event.tenant, &event.traceparent].into_iter().flatten() {
        put_text(out, text);
    }
    if let Some(with) = &event.with {
        put_bytes(out, with.bytes());
    }
    if let Some(Replayed { by, keys }) = event.replayed {
        out.extend_from_slice(&by.number().to_le_bytes());
        out.extend_from_slice(&keys.map_or(OWN_KEYS, ReplayId::number).to_le_bytes());
    }
    put_bytes(out, event.record.bytes());
}

fn flags_of(event: &Event) -> u8 {
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    flag(event.origin == Origin::Poll, POLLED)
        | flag(event.delete, DELETE)
        | flag(event.order.is_some(), ORDER)
        | flag(event.tenant.is_some(), TENANT)
        | flag(event.traceparent.is_some(), TRACEPARENT)
        | flag(event.with.is_some(), WITH)
        | flag(event.replayed.is_some(), REPLAYED)
}

/// The sixteen bytes of a copy's mark, as they stand in a buffer.
fn replayed_of(mark: &[u8; 16]) -> Result<Replayed, Malformed> {
    let mut reader = Reader::new(mark);
    let by = ReplayId::from_number(reader.u64()?).ok_or(Malformed)?;
    let keys = match reader.u64()? {
        OWN_KEYS => None,
        number => Some(ReplayId::from_number(number).ok_or(Malformed)?),
    };
    Ok(Replayed { by, keys })
}

fn read_mark<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8; 16], Malformed> {
    let mark = reader.take(16)?.first_chunk().ok_or(Malformed)?;
    replayed_of(mark).map(|_| mark)
}

/// An event as it stands in a buffer, for scans that want a few of its fields.
#[derive(Clone, Copy, Debug)]
pub(in crate::bus) struct EventRef<'a> {
    pub id: EventId,
    pub received_at: Timestamp,
    pub connector: &'a str,
    pub stream: &'a str,
    pub key: &'a str,
    revision: &'a str,
    to: Names<'a>,
    order: Option<i64>,
    pub tenant: Option<&'a str>,
    traceparent: Option<&'a str>,
    with: Option<&'a [u8]>,
    /// Checked, see [`replayed_of`].
    mark: Option<&'a [u8; 16]>,
    record: &'a [u8],
    flags: u8,
}

/// A checked list of texts.
#[derive(Clone, Copy, Debug)]
struct Names<'a> {
    count: usize,
    reader: Reader<'a>,
}

impl<'a> Names<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let count = usize::try_from(reader.uint()?).map_err(|_| Malformed)?;
        let start = *reader;
        for _ in 0..count {
            reader.text()?;
        }
        Ok(Self { count, reader: start })
    }

    fn iter(&self) -> impl Iterator<Item = &'a str> {
        let mut reader = self.reader;
        (0..self.count).map_while(move |_| reader.text().ok())
    }
}

impl<'a> EventRef<'a> {
    /// Reads an event that fills `bytes`.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let id = EventId(reader.array()?);
        let received_at = Timestamp(reader.i64()?);
        let flags = reader.u8()?;
        if flags & !KNOWN != 0 {
            return Err(Malformed);
        }
        let has = |flag: u8| flags & flag != 0;
        let event = Self {
            id,
            received_at,
            connector: reader.text()?,
            stream: reader.text()?,
            key: reader.text()?,
            revision: reader.text()?,
            to: Names::read(&mut reader)?,
            order: has(ORDER).then(|| reader.i64()).transpose()?,
            tenant: has(TENANT).then(|| reader.text()).transpose()?,
            traceparent: has(TRACEPARENT).then(|| reader.text()).transpose()?,
            with: has(WITH).then(|| reader.bytes()).transpose()?,
            mark: has(REPLAYED).then(|| read_mark(&mut reader)).transpose()?,
            record: reader.bytes()?,
            flags,
        };
        reader.end()?;
        Ok(event)
    }

    /// The destinations.
    pub fn to(&self) -> impl Iterator<Item = &'a str> {
        self.to.iter()
    }

    /// A copy that owns its parts.
    pub fn to_event(self) -> Event {
        let with = self.with.map(|json| Record::from_bytes(Bytes::copy_from_slice(json)));
        Event {
            id: self.id,
            connector: self.connector.into(),
            stream: self.stream.into(),
            key: self.key.to_owned(),
            revision: self.revision.to_owned(),
            order: self.order,
            tenant: self.tenant.map(str::to_owned),
            received_at: self.received_at,
            origin: if self.flags & POLLED == 0 { Origin::Webhook } else { Origin::Poll },
            delete: self.flags & DELETE != 0,
            to: self.to().map(Arc::from).collect(),
            record: Record::from_bytes(Bytes::copy_from_slice(self.record)),
            with,
            traceparent: self.traceparent.map(str::to_owned),
            replayed: self.mark.and_then(|mark| replayed_of(mark).ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::arbitrary, *};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn an_event_comes_back_as_it_was(event in arbitrary::event()) {
            let mut bytes = Vec::new();
            encode(&event, &mut bytes);
            let read = EventRef::decode(&bytes).map(EventRef::to_event);
            prop_assert_eq!(read, Ok(event));
        }

        #[test]
        fn damage_never_panics(
            event in arbitrary::event(),
            at in any::<prop::sample::Index>(),
            bit in 0..8u32,
            keep in any::<prop::sample::Index>(),
        ) {
            let mut bytes = Vec::new();
            encode(&event, &mut bytes);
            let place = at.index(bytes.len());
            bytes[place] ^= 1 << bit;
            bytes.truncate(keep.index(bytes.len() + 1));
            let _ = EventRef::decode(&bytes).map(EventRef::to_event);
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = EventRef::decode(&bytes).map(EventRef::to_event);
        }
    }
}
