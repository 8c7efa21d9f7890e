//! The one stored kind of a batch: which events went together, while they are to go together again.
//!
//! Key `batch/<connector>/<stream>/<destination>/<its first event's place, 16 hexadecimal digits>`;
//! value JSON with a version `v`. It is written before the first repetition is scheduled and removed
//! when the batch is settled or comes apart, so a batch that is taken at once costs nothing. Stability:
//! version 1 is read for ever; members may be added and are ignored by older readers; anything else
//! takes a new version. A value that cannot be read is dropped: its events are put together anew, which
//! costs them the idempotency key that they went under, and nothing else.

use serde::{Deserialize, Serialize};

use crate::{bus::Seq, event::Lane};

const VERSION: u64 = 1;
/// A value with more was not written here.
const MAX_EVENTS: u64 = 100_000;

#[derive(Serialize, Deserialize)]
struct Wire {
    v: u64,
    /// Where a run of places begins, and how many it has: what comes in together lies together.
    runs: Vec<(u64, u64)>,
}

/// The key under which a lane's batches are kept.
pub fn prefix(lane: &Lane) -> String {
    format!("batch/{}/{}/{}/", lane.connector, lane.stream, lane.destination)
}

/// The key of a batch by its first event.
pub fn key(lane: &Lane, first: Seq) -> String {
    format!("{}{:016x}", prefix(lane), first.0)
}

/// The bytes to store for events in ascending order.
pub fn encode(seqs: &[Seq]) -> Vec<u8> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for Seq(seq) in seqs.iter().copied() {
        match runs.last_mut() {
            Some((first, count)) if *first + *count == seq => *count += 1,
            _ => runs.push((seq, 1)),
        }
    }
    serde_json::to_vec(&Wire { v: VERSION, runs }).unwrap_or_default()
}

/// What [`encode`] wrote; `None`: something else.
pub fn decode(bytes: &[u8]) -> Option<Vec<Seq>> {
    let Wire { v, runs } = serde_json::from_slice(bytes).ok()?;
    let events = runs.iter().try_fold(0u64, |sum, (_, count)| sum.checked_add(*count))?;
    if v != VERSION || events == 0 || events > MAX_EVENTS {
        return None;
    }
    let seqs = runs.iter().map(|(first, count)| Some(*first..first.checked_add(*count)?));
    let seqs: Vec<_> = seqs.collect::<Option<_>>()?;
    Some(seqs.into_iter().flatten().map(Seq).collect())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn version_1_is_what_it_was() {
        let lane = Lane {
            connector: Arc::from("shop"),
            stream: Arc::from("orders"),
            destination: Arc::from("erp"),
        };
        assert_eq!(key(&lane, Seq(255)), "batch/shop/orders/erp/00000000000000ff");
        let seqs = [7, 8, 9, 12].map(Seq);
        assert_eq!(encode(&seqs), br#"{"v":1,"runs":[[7,3],[12,1]]}"#);
        let later = br#"{"v":1,"runs":[[7,3],[12,1]],"more":true}"#;
        assert_eq!(decode(later), Some(seqs.to_vec()));
    }

    #[test]
    fn what_was_not_written_here_is_nothing() {
        for text in [
            "",
            "[]",
            r#"{"v":2,"runs":[[1,1]]}"#,
            r#"{"v":1,"runs":[]}"#,
            r#"{"v":1,"runs":[[1,18446744073709551615]]}"#,
            r#"{"v":1,"runs":[[18446744073709551615,2]]}"#,
            r#"{"v":1,"runs":[[1,18446744073709551615],[1,1]]}"#,
        ] {
            assert_eq!(decode(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn it_comes_back_as_it_was(seqs in prop::collection::btree_set(0..400u64, 1..200)) {
            let seqs: BTreeSet<u64> = seqs;
            let seqs: Vec<Seq> = seqs.into_iter().map(Seq).collect();
            prop_assert_eq!(decode(&encode(&seqs)), Some(seqs));
        }

        #[test]
        fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode(&bytes);
        }
    }
}
