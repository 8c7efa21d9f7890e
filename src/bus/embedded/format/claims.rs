//! A dedupe block: up to [`BLOCK_IDS`] event ids that came in one segment and whose claims run out
//! together, so that a whole block expires at once and a trace finds an id's segment.
//!
//! Key: end of the claims (u32, big endian, s since 1970, rounded up; 0 where nothing is claimed and
//! the block only says where the events are) · segment (u32, big endian) · number (u32, big endian).
//! Value: the ids (16 bytes each) · CRC-32 of them (u32).
//!
//! The same in [`FORMAT_VERSION`](super::FORMAT_VERSION) 1 to 3.

use super::Malformed;
use crate::event::EventId;

/// Ids in a full block: 1 KiB. sled takes note of what was read page by page, and only then keeps to
/// its cache's capacity: larger blocks stay in memory beyond it, tenfold.
pub(in crate::bus) const BLOCK_IDS: usize = 64;

/// Names a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::bus) struct BlockKey {
    /// When its claims end; 0 for a block that claims nothing.
    pub until_s: u32,
    pub segment: u32,
    pub number: u32,
}

impl BlockKey {
    pub fn encode(self) -> Vec<u8> {
        [self.until_s, self.segment, self.number].map(u32::to_be_bytes).concat()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let key: [u8; 12] = bytes.try_into().map_err(|_| Malformed)?;
        let part = |at: usize| u32::from_be_bytes([key[at], key[at + 1], key[at + 2], key[at + 3]]);
        Ok(Self { until_s: part(0), segment: part(4), number: part(8) })
    }
}

/// A block's value.
pub(in crate::bus) fn encode(ids: &[EventId]) -> Vec<u8> {
    let mut out = Vec::with_capacity(ids.len() * 16 + 4);
    for id in ids {
        out.extend_from_slice(&id.0);
    }
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// The ids of a block.
pub(in crate::bus) fn decode(bytes: &[u8]) -> Result<impl Iterator<Item = EventId>, Malformed> {
    let (ids, crc) = bytes.split_last_chunk::<4>().ok_or(Malformed)?;
    let (ids, rest) = ids.as_chunks::<16>();
    if !rest.is_empty() || crc32fast::hash(ids.as_flattened()) != u32::from_le_bytes(*crc) {
        return Err(Malformed);
    }
    Ok(ids.iter().map(|id| EventId(*id)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_block_comes_back_as_it_was(
            ids in prop::collection::vec(any::<[u8; 16]>().prop_map(EventId), 0..20),
            key in any::<[u32; 3]>(),
        ) {
            let read: Vec<_> = decode(&encode(&ids)).unwrap().collect();
            prop_assert_eq!(read, ids);
            let key = BlockKey { until_s: key[0], segment: key[1], number: key[2] };
            prop_assert_eq!(BlockKey::decode(&key.encode()), Ok(key));
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..70)) {
            let _ = decode(&bytes).map(Iterator::count);
            let _ = BlockKey::decode(&bytes);
        }
    }
}
