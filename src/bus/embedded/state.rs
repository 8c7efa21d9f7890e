//! State in memory: cursors, tokens, flags. Each value remembers in which segment it was last
//! written, so that a segment is not removed before its state is written again elsewhere.

use std::{collections::BTreeMap, ops::Bound};

use super::format::Malformed;
use crate::bus::StateWrites;

struct Value {
    bytes: Box<[u8]>,
    segment: u32,
}

/// See the module's text.
#[derive(Default)]
pub(super) struct State {
    values: BTreeMap<Box<str>, Value>,
}

impl State {
    /// Takes in a write that is durable in `segment`.
    pub fn put(&mut self, key: String, value: Option<Vec<u8>>, segment: u32) {
        match value {
            Some(bytes) => {
                let value = Value { bytes: bytes.into(), segment };
                self.values.insert(key.into(), value);
            }
            None => drop(self.values.remove(key.as_str())),
        }
    }

    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.values.get(key).map(|v| v.bytes.to_vec())
    }

    pub fn under(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        self.page(prefix, None, usize::MAX)
    }

    /// At most `max` of those under `prefix`, behind `after`.
    pub fn page(&self, prefix: &str, after: Option<&str>, max: usize) -> Vec<(String, Vec<u8>)> {
        let begin = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let from = self.values.range::<str, _>((begin, Bound::Unbounded));
        from.take_while(|(key, _)| key.starts_with(prefix))
            .take(max)
            .map(|(key, value)| (key.to_string(), value.bytes.to_vec()))
            .collect()
    }

    /// What was last written in `segment` and still stands.
    pub fn last_written_in(&self, segment: u32) -> StateWrites {
        let here = self.values.iter().filter(|(_, value)| value.segment == segment);
        here.map(|(key, value)| (key.to_string(), Some(value.bytes.to_vec()))).collect()
    }

    /// A value as it stands in sled: its segment (u32, little endian), then itself.
    pub fn stored(&self, key: &str) -> Option<Vec<u8>> {
        let value = self.values.get(key)?;
        Some([&value.segment.to_le_bytes()[..], &value.bytes].concat())
    }

    /// Takes in a value as it stands in sled.
    pub fn restore(&mut self, key: &[u8], stored: &[u8]) -> Result<(), Malformed> {
        let key = std::str::from_utf8(key).map_err(|_| Malformed)?.to_owned();
        let (segment, bytes) = stored.split_first_chunk::<4>().ok_or(Malformed)?;
        self.put(key, Some(bytes.to_vec()), u32::from_le_bytes(*segment));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_from_sled_with_its_segment() {
        let mut state = State::default();
        state.put("a".to_owned(), Some(b"1".to_vec()), 7);
        let mut again = State::default();
        again.restore(b"a", &state.stored("a").unwrap()).unwrap();
        assert_eq!(again.last_written_in(7), [("a".to_owned(), Some(b"1".to_vec()))]);
        assert!(again.restore(b"a", b"12").is_err());
        again.put("a".to_owned(), None, 8);
        assert_eq!(again.stored("a"), None);
    }
}
