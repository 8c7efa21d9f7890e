//! A block of pairs: newest revisions (slot of lane and key → order), and claims that hold for ever
//! (slot of connector, stream and key → the last accepted id's first eight bytes).
//!
//! Key: number (u32, big endian); a pair in a later block overrides the same slot in an earlier one.
//! Value: day since 1970 on which the pairs were written (u32; 0 for pairs that never expire) · pairs
//! (u64 and u64 each) · CRC-32 of all before (u32).
//!
//! The same in [`FORMAT_VERSION`](super::FORMAT_VERSION) 1 to 3.

use super::{Malformed, Reader};

/// Pairs in a full block.
pub(in crate::bus) const BLOCK_PAIRS: usize = 4_096;

/// A block's value.
pub(in crate::bus) fn encode(day: u32, pairs: &[(u64, u64)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(pairs.len() * 16 + 8);
    out.extend_from_slice(&day.to_le_bytes());
    for (slot, value) in pairs {
        out.extend_from_slice(&slot.to_le_bytes());
        out.extend_from_slice(&value.to_le_bytes());
    }
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// A block's day; each pair goes to `each`.
pub(in crate::bus) fn decode(
    bytes: &[u8],
    mut each: impl FnMut(u32, u64, u64),
) -> Result<u32, Malformed> {
    let (body, crc) = bytes.split_last_chunk::<4>().ok_or(Malformed)?;
    if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return Err(Malformed);
    }
    let mut reader = Reader::new(body);
    let day = reader.u32()?;
    if !reader.rest().len().is_multiple_of(16) {
        return Err(Malformed);
    }
    while !reader.is_empty() {
        each(day, reader.u64()?, reader.u64()?);
    }
    Ok(day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_block_comes_back_as_it_was(
            day in any::<u32>(),
            pairs in prop::collection::vec(any::<(u64, u64)>(), 0..20),
        ) {
            let mut read = Vec::new();
            let read_day = decode(&encode(day, &pairs), |_, slot, value| read.push((slot, value)));
            prop_assert_eq!(read_day, Ok(day));
            prop_assert_eq!(read, pairs);
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..70)) {
            let _ = decode(&bytes, |_, _, _| ());
        }
    }
}
