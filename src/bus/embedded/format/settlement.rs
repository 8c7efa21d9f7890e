//! A settlement: how a lease ended.
//!
//! A record holds as many as were waiting, one after the other. Layout of one: seq (u64) · when
//! (i64, ms) · destination (text) · kind (u8) · what the kind asks:
//!
//! - 1 delivered: attempts (uint) · status (u16, 0 for none) · 1, revision slot (u64) and order
//!   (i64), or 0 where the event has no order
//! - 2 superseded, by nobody knows what: nothing
//! - 3 dead: reason (text)
//! - 4 retry: due (i64, ms) · attempts (uint) · end of the first attempt (i64, ms) · error (text)
//! - 5 superseded: order of the newer revision (i64)
//! - 6 delivered, and what was sent is known: as 1, then the document's hash (u64, XXH3)
//!
//! [`FORMAT_VERSION`](super::FORMAT_VERSION) 1 has no kinds 5 and 6; else they are the same.

use std::sync::Arc;

use super::{Malformed, Reader, put_text, put_uint};
use crate::{bus::Settlement, world::Timestamp};

/// A settlement with what it takes to apply it again after a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::bus) struct Settled {
    pub seq: u64,
    pub at: Timestamp,
    pub destination: Arc<str>,
    /// The slot of the newest revision that a delivery raises, and the order it raises it to.
    pub revision: Option<(u64, i64)>,
    /// Never [`Settlement::Defer`], which is not stored.
    pub settlement: Settlement,
}

/// Appends one settlement to `out`.
pub(in crate::bus) fn encode(settled: &Settled, out: &mut Vec<u8>) {
    out.extend_from_slice(&settled.seq.to_le_bytes());
    out.extend_from_slice(&settled.at.0.to_le_bytes());
    put_text(out, &settled.destination);
    match &settled.settlement {
        Settlement::Delivered { attempts, status, sent } => {
            out.push(if sent.is_some() { 6 } else { 1 });
            put_uint(out, u64::from(*attempts));
            out.extend_from_slice(&status.unwrap_or(0).to_le_bytes());
            out.push(u8::from(settled.revision.is_some()));
            if let Some((slot, order)) = settled.revision {
                out.extend_from_slice(&slot.to_le_bytes());
                out.extend_from_slice(&order.to_le_bytes());
            }
            if let Some(hash) = sent {
                out.extend_from_slice(&hash.to_le_bytes());
            }
        }
        // A deferral is kept in memory only; were one to come here, it would say nothing.
        Settlement::Superseded { by: None } | Settlement::Defer { .. } => out.push(2),
        Settlement::Superseded { by: Some(order) } => {
            out.push(5);
            out.extend_from_slice(&order.to_le_bytes());
        }
        Settlement::Dead { reason } => {
            out.push(3);
            put_text(out, reason);
        }
        Settlement::Retry { due, attempts, first_attempt_at, error } => {
            out.push(4);
            out.extend_from_slice(&due.0.to_le_bytes());
            put_uint(out, u64::from(*attempts));
            out.extend_from_slice(&first_attempt_at.0.to_le_bytes());
            put_text(out, error);
        }
    }
}

/// Reads all settlements of a record.
pub(in crate::bus) fn decode(bytes: &[u8], mut each: impl FnMut(Settled)) -> Result<(), Malformed> {
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        each(read(&mut reader)?);
    }
    Ok(())
}

fn read(reader: &mut Reader<'_>) -> Result<Settled, Malformed> {
    let seq = reader.u64()?;
    let at = Timestamp(reader.i64()?);
    let destination = reader.text()?.into();
    let mut revision = None;
    let settlement = match reader.u8()? {
        kind @ (1 | 6) => {
            let attempts = reader.small()?;
            let status = Some(reader.u16()?).filter(|s| *s != 0);
            if reader.u8()? == 1 {
                revision = Some((reader.u64()?, reader.i64()?));
            }
            let sent = (kind == 6).then(|| reader.u64()).transpose()?;
            Settlement::Delivered { attempts, status, sent }
        }
        2 => Settlement::Superseded { by: None },
        3 => Settlement::Dead { reason: reader.text()?.to_owned() },
        4 => Settlement::Retry {
            due: Timestamp(reader.i64()?),
            attempts: reader.small()?,
            first_attempt_at: Timestamp(reader.i64()?),
            error: reader.text()?.to_owned(),
        },
        5 => Settlement::Superseded { by: Some(reader.i64()?) },
        _ => return Err(Malformed),
    };
    Ok(Settled { seq, at, destination, revision, settlement })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settlement() -> impl Strategy<Value = Settlement> {
        let status = prop::option::of(1..u16::MAX);
        prop_oneof![
            (any::<u32>(), status, any::<Option<u64>>()).prop_map(|(attempts, status, sent)| {
                Settlement::Delivered { attempts, status, sent }
            }),
            any::<Option<i64>>().prop_map(|by| Settlement::Superseded { by }),
            ".{0,9}".prop_map(|reason| Settlement::Dead { reason }),
            (any::<i64>(), any::<u32>(), any::<i64>(), ".{0,9}").prop_map(
                |(due, attempts, first, error)| Settlement::Retry {
                    due: Timestamp(due),
                    attempts,
                    first_attempt_at: Timestamp(first),
                    error,
                }
            ),
        ]
    }

    fn settled() -> impl Strategy<Value = Settled> {
        let revision = any::<Option<(u64, i64)>>();
        (any::<u64>(), any::<i64>(), "[a-z]{0,6}", revision, settlement()).prop_map(
            |(seq, at, destination, revision, settlement)| Settled {
                seq,
                at: Timestamp(at),
                destination: destination.into(),
                revision: revision.filter(|_| matches!(settlement, Settlement::Delivered { .. })),
                settlement,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn settlements_come_back_as_they_were(all in prop::collection::vec(settled(), 0..5)) {
            let mut bytes = Vec::new();
            for one in &all {
                encode(one, &mut bytes);
            }
            let mut read = Vec::new();
            decode(&bytes, |one| read.push(one)).unwrap();
            prop_assert_eq!(read, all);
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(&bytes, |_| ());
        }
    }
}
