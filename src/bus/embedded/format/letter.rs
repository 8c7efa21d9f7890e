//! A dead letter, and the note that one was discarded. Both stand in the dead letters' own journal.
//!
//! Layout of a letter: number (u64) · when it died (i64, ms) · attempts (uint) · status (u16, 0 for
//! none; its highest bit says that there is a variant) · destination (text) · reason (text) · message
//! (text) · variant (text, where there is one) · the event, to the end. A later letter with the same
//! number replaces the former. Layout of a discard: number (u64).
//!
//! [`FORMAT_VERSION`](super::FORMAT_VERSION) 1 has no variants; else they are the same.

use std::sync::Arc;

use super::{
    Malformed, Reader,
    event::{self, EventRef},
    put_text, put_uint,
};
use crate::{
    bus::{DeadId, DeadLetter},
    world::Timestamp,
};

/// No HTTP status is as large: letters without it are as they were before there were variants.
const HAS_VARIANT: u16 = 0x8000;

/// Appends a letter to `out`.
pub(in crate::bus) fn encode(id: DeadId, letter: &DeadLetter, out: &mut Vec<u8>) {
    out.extend_from_slice(&id.0.to_le_bytes());
    out.extend_from_slice(&letter.died_at.0.to_le_bytes());
    put_uint(out, u64::from(letter.attempts));
    let flag = if letter.variant.is_some() { HAS_VARIANT } else { 0 };
    let status = letter.status.unwrap_or(0) & !HAS_VARIANT;
    out.extend_from_slice(&(status | flag).to_le_bytes());
    put_text(out, &letter.destination);
    put_text(out, &letter.reason);
    put_text(out, &letter.message);
    if let Some(variant) = &letter.variant {
        put_text(out, variant);
    }
    event::encode(&letter.event, out);
}

/// Reads a letter that fills `bytes`.
pub(in crate::bus) fn decode(bytes: &[u8]) -> Result<(DeadId, DeadLetter), Malformed> {
    let mut reader = Reader::new(bytes);
    let id = DeadId(reader.u64()?);
    let died_at = Timestamp(reader.i64()?);
    let attempts = reader.small()?;
    let status_and_flag = reader.u16()?;
    let status = Some(status_and_flag & !HAS_VARIANT).filter(|s| *s != 0);
    let destination = reader.text()?.into();
    let reason = reader.text()?.to_owned();
    let message = reader.text()?.to_owned();
    let has_variant = status_and_flag & HAS_VARIANT != 0;
    let variant = if has_variant { Some(reader.text()?.into()) } else { None };
    let event = Arc::new(EventRef::decode(reader.rest())?.to_event());
    Ok((id, DeadLetter { event, destination, died_at, reason, message, attempts, status, variant }))
}

/// Appends a discard to `out`.
pub(in crate::bus) fn encode_discard(id: DeadId, out: &mut Vec<u8>) {
    out.extend_from_slice(&id.0.to_le_bytes());
}

/// Reads a discard that fills `bytes`.
pub(in crate::bus) fn decode_discard(bytes: &[u8]) -> Result<DeadId, Malformed> {
    let mut reader = Reader::new(bytes);
    let id = DeadId(reader.u64()?);
    reader.end()?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::arbitrary, *};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_letter_comes_back_as_it_was(
            id in any::<u64>(),
            event in arbitrary::event(),
            died_at in any::<i64>(),
            texts in ("[a-z]{1,6}", "[a-z_]{1,9}", ".{0,30}"),
            attempts in any::<u32>(),
            status in prop::option::of(1..HAS_VARIANT),
            variant in prop::option::of("[a-z-]{1,9}"),
        ) {
            let letter = DeadLetter {
                event: Arc::new(event),
                destination: texts.0.into(),
                died_at: Timestamp(died_at),
                reason: texts.1,
                message: texts.2,
                attempts,
                status,
                variant: variant.map(Into::into),
            };
            let mut bytes = Vec::new();
            encode(DeadId(id), &letter, &mut bytes);
            prop_assert_eq!(decode(&bytes), Ok((DeadId(id), letter)));
            let mut bytes = Vec::new();
            encode_discard(DeadId(id), &mut bytes);
            prop_assert_eq!(decode_discard(&bytes), Ok(DeadId(id)));
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..150)) {
            let _ = decode(&bytes);
            let _ = decode_discard(&bytes);
        }
    }
}
