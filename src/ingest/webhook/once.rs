//! The one stored kind of a webhook: values that are good for one body.
//!
//! Where a signature does not bind the body, whoever sees one request could send any body with it. So
//! a value that is signed (a token, the request's id) is taken with the first body that comes with it,
//! durably and in the same record as that body's events, and with no other for as long as its timestamp
//! would be accepted. The same body again is a repetition, which deduplication answers.
//!
//! Key `once/<connector>/<hash of path and value, 32 hex digits>`, value, version 1: one byte of version,
//! eight bytes of the last instant (milliseconds, little endian), sixteen of the body's SHA-256.
//! Stability: a value of another version reads as none.

use std::{
    collections::{BTreeSet, HashMap},
    sync::OnceLock,
};

use data_encoding::HEXLOWER;
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};

use crate::{
    bus::{Bus, StateWrites},
    world::Timestamp,
};

const VERSION: u8 = 1;
const VALUE_BYTES: usize = 25;

/// Values remembered at once. Beyond it nothing is taken, since nothing could be told from a replay.
const MAX_VALUES: usize = 1_000_000;

/// Values whose time is over and that one append removes, at most.
const MAX_REMOVED: usize = 32;

type Hash = [u8; 16];

/// The values of one route.
#[derive(Default)]
pub(super) struct Once {
    /// Most routes have none.
    known: OnceLock<Box<Mutex<Known>>>,
}

struct Value {
    until: Timestamp,
    body: Hash,
    /// Whether it came again with the same body: that request may make it durable, whatever becomes of
    /// the first.
    came_again: bool,
}

#[derive(Default)]
struct Known {
    values: HashMap<String, Value>,
    /// By when they end.
    ends: BTreeSet<(Timestamp, String)>,
}

/// A value that is taken; its state goes with the events.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// What has to become durable along.
    pub state: StateWrites,
    key: Option<String>,
}

/// Why a value is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It came with another body before.
    OtherBody,
    /// Too many are remembered.
    Full,
}

impl Once {
    /// Takes `value` with `body`, up to and including `until`.
    pub fn take(
        &self,
        bus: &dyn Bus,
        (connector, path): (&str, &str),
        value: &str,
        body: &[u8],
        (now, until): (Timestamp, Timestamp),
    ) -> Result<Taken, Refused> {
        let prefix = format!("once/{connector}/");
        let known = self.known.get_or_init(|| Box::new(Mutex::new(Known::load(bus, &prefix))));
        let named = short(&[path.as_bytes(), b"\0", value.as_bytes()].concat());
        let key = format!("{prefix}{}", HEXLOWER.encode(&named));
        let body = short(body);
        let mut known = known.lock();
        let is_full = known.is_full(now);
        match known.values.get_mut(&key) {
            Some(first) if first.until < now => {}
            Some(first) if first.body == body => {
                first.came_again = true;
                // Written again, in case that the first time came to nothing.
                let state = vec![(key.clone(), Some(encode(first.until, body)))];
                return Ok(Taken { state, key: None });
            }
            Some(_) => return Err(Refused::OtherBody),
            None if is_full => return Err(Refused::Full),
            None => {}
        }
        let mut state: Vec<_> = known.over(now).into_iter().map(|key| (key, None)).collect();
        known.remember(&key, until, body);
        state.retain(|(over, _)| *over != key);
        state.push((key.clone(), Some(encode(until, body))));
        Ok(Taken { state, key: Some(key) })
    }

    /// Gives a value back whose events did not become durable, unless it was taken again meanwhile.
    pub fn give_back(&self, taken: &Taken) {
        if let (Some(known), Some(key)) = (self.known.get(), &taken.key) {
            let mut known = known.lock();
            if known.values.get(key).is_some_and(|value| !value.came_again) {
                known.forget(key);
            }
        }
    }
}

impl Known {
    fn load(bus: &dyn Bus, prefix: &str) -> Self {
        let mut known = Self::default();
        for (key, value) in bus.state_under(prefix) {
            if let Some((until, body)) = decode(&value) {
                known.remember(&key, until, body);
            }
        }
        known
    }

    fn remember(&mut self, key: &str, until: Timestamp, body: Hash) {
        self.forget(key);
        self.values.insert(key.to_owned(), Value { until, body, came_again: false });
        self.ends.insert((until, key.to_owned()));
    }

    fn forget(&mut self, key: &str) {
        if let Some(Value { until, .. }) = self.values.remove(key) {
            self.ends.remove(&(until, key.to_owned()));
        }
    }

    /// Whether there is no room, not even that of values whose time is over.
    fn is_full(&self, now: Timestamp) -> bool {
        self.values.len() >= MAX_VALUES && self.ends.first().is_none_or(|(until, _)| *until >= now)
    }

    /// Takes out some of those whose time is over.
    fn over(&mut self, now: Timestamp) -> Vec<String> {
        let over = self.ends.iter().take_while(|(until, _)| *until < now).take(MAX_REMOVED);
        let over: Vec<String> = over.map(|(_, key)| key.clone()).collect();
        for key in &over {
            self.forget(key);
        }
        over
    }
}

fn short(bytes: &[u8]) -> Hash {
    let mut hash = [0; 16];
    hash.copy_from_slice(&digest(&SHA256, bytes).as_ref()[..16]);
    hash
}

fn encode(until: Timestamp, body: Hash) -> Vec<u8> {
    let mut value = Vec::with_capacity(VALUE_BYTES);
    value.push(VERSION);
    value.extend_from_slice(&until.0.to_le_bytes());
    value.extend_from_slice(&body);
    value
}

fn decode(value: &[u8]) -> Option<(Timestamp, Hash)> {
    let (version, rest) = value.split_first()?;
    let (until, body) = rest.split_first_chunk::<8>()?;
    if *version != VERSION {
        return None;
    }
    Some((Timestamp(i64::from_le_bytes(*until)), body.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::{bus::MemoryBus, world::ScriptedClock};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_stored_is_read_back(until in any::<i64>(), body in any::<[u8; 16]>()) {
            let value = encode(Timestamp(until), body);
            prop_assert_eq!(value.len(), VALUE_BYTES);
            prop_assert_eq!(decode(&value), Some((Timestamp(until), body)));
            prop_assert_eq!(decode(&value[..20]), None);
        }
    }

    #[tokio::test]
    async fn a_value_is_good_for_one_body_until_it_ends() {
        let bus = MemoryBus::new(Arc::new(ScriptedClock::starting_at(Timestamp(0))));
        let once = Once::default();
        let take = |once: &Once, value: &str, body: &[u8], now: i64| {
            let times = (Timestamp(now), Timestamp(now + 10));
            once.take(&*bus, ("shop", "/in"), value, body, times)
        };
        let first = take(&once, "a", b"one", 0).unwrap();
        assert_eq!(first.state.len(), 1);
        assert_eq!(take(&once, "a", b"one", 5).unwrap().state, first.state);
        assert_eq!(take(&once, "a", b"two", 10).unwrap_err(), Refused::OtherBody);
        assert!(take(&once, "b", b"two", 10).is_ok());
        // After its end the state is cleared, and the value may come again.
        let later = take(&once, "c", b"two", 11).unwrap();
        assert_eq!(later.state[0], (first.state[0].0.clone(), None));
        assert!(take(&once, "a", b"two", 12).is_ok());
        once.give_back(&later);
        assert!(take(&once, "c", b"three", 12).is_ok());
        // Another request with the same body may have made it durable by then.
        let first = take(&once, "d", b"one", 12).unwrap();
        assert!(take(&once, "d", b"one", 12).is_ok());
        once.give_back(&first);
        assert_eq!(take(&once, "d", b"two", 12).unwrap_err(), Refused::OtherBody);
    }

    #[test]
    fn values_whose_time_is_over_make_room() {
        let mut known = Known::default();
        for number in 0..MAX_VALUES {
            known.remember(&number.to_string(), Timestamp(10), [0; 16]);
        }
        assert!(known.is_full(Timestamp(10)) && !known.is_full(Timestamp(11)));
        assert_eq!(known.over(Timestamp(11)).len(), MAX_REMOVED);
        assert!(!known.is_full(Timestamp(10)));
    }

    #[tokio::test]
    async fn values_outlive_a_restart() {
        let bus = MemoryBus::new(Arc::new(ScriptedClock::starting_at(Timestamp(0))));
        let times = (Timestamp(0), Timestamp(10));
        let taken = Once::default().take(&*bus, ("shop", "/in"), "a", b"one", times).unwrap();
        for (key, value) in taken.state {
            bus.put_state(&key, value).await.unwrap();
        }
        let again = Once::default().take(&*bus, ("shop", "/in"), "a", b"two", times);
        assert_eq!(again.unwrap_err(), Refused::OtherBody);
    }
}
