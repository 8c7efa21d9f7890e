//! What travels: one event, its identity, and the names of the places it passes.

use std::{fmt, str::FromStr, sync::Arc};

use crate::world::Timestamp;

mod record;
mod tape;

pub use record::{Node, NotJson, Record, Shape};

/// Who an event is: 128 bits of SHA-256 over connector, stream, key and revision, each with its
/// length before it. The same thing in the same state has the same id however often and by
/// whichever way it arrives, so the id is also the claim that dedupe checks, and a duplicate is
/// answered with the very id that the first copy got.
///
/// Printed as `evt_` and 26 characters of lower-case base32 (RFC 4648, no padding).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId(pub [u8; 16]);

impl EventId {
    /// The id of what `key` in state `revision` is called within `connector/stream`.
    pub fn derive(connector: &str, stream: &str, key: &str, revision: &str) -> Self {
        Self(digest_of(&[connector, stream, key, revision]))
    }
}

/// The first 16 bytes of SHA-256 over the parts, each preceded by its length (u64, little endian):
/// without the lengths `("a", "bc")` and `("ab", "c")` would be one.
fn digest_of(parts: &[&str]) -> [u8; 16] {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part.as_bytes());
    }
    let mut first = [0; 16];
    first.copy_from_slice(&context.finish().as_ref()[..16]);
    first
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = data_encoding::BASE32_NOPAD.encode(&self.0).to_ascii_lowercase();
        write!(f, "evt_{text}")
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not an event id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnEventId;

impl FromStr for EventId {
    type Err = NotAnEventId;

    fn from_str(text: &str) -> Result<Self, NotAnEventId> {
        let body = text.strip_prefix("evt_").unwrap_or(text).to_ascii_uppercase();
        let bytes =
            data_encoding::BASE32_NOPAD.decode(body.as_bytes()).map_err(|_| NotAnEventId)?;
        bytes.try_into().map(Self).map_err(|_| NotAnEventId)
    }
}

/// The `Idempotency-Key` of an event at one destination: the same on every attempt, replay and
/// restart, different for every destination. 32 lower-case hexadecimal digits.
pub fn idempotency_key(id: EventId, destination: &str) -> String {
    let id = id.to_string();
    data_encoding::HEXLOWER.encode(&digest_of(&[&id, destination]))
}

/// The `Idempotency-Key` of a batch at one destination: as [`idempotency_key`], over the ids of its
/// events in the order in which they are sent (each with the replay that gave it new keys, where one
/// did), then the destination's name. A batch of one has its event's key, and whoever sends the same
/// events in the same order sends the same key.
pub fn batch_key<'a>(events: impl Iterator<Item = &'a Event>, destination: &str) -> String {
    let events: Vec<&Event> = events.collect();
    if let [only] = events.as_slice() {
        return only.idempotency_key(destination);
    }
    let named = |event: &&Event| match event.replayed.and_then(|replayed| replayed.keys) {
        None => event.id.to_string(),
        Some(replay) => format!("{} {replay}", event.id),
    };
    let ids: Vec<String> = events.iter().map(named).collect();
    let parts: Vec<&str> = ids.iter().map(String::as_str).chain([destination]).collect();
    data_encoding::HEXLOWER.encode(&digest_of(&parts))
}

/// Names a replay: 48 bits of milliseconds since 1970 and 12 of chance, so that names sort by time and
/// no two daemons that feed one destination share one.
///
/// Printed as `rp_` and 12 characters of lower-case base32hex, which sort as the numbers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplayId(u64);

impl ReplayId {
    const CHARS: u32 = 12;
    const BITS: u32 = 5 * Self::CHARS;
    const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

    /// The name of a replay that begins `at`.
    pub fn new(at: Timestamp, chance: u64) -> Self {
        let time = u64::try_from(at.0).unwrap_or(0);
        Self(((time << 12) | (chance & 0xfff)) & ((1 << Self::BITS) - 1))
    }

    /// The number that it is stored as.
    pub fn number(self) -> u64 {
        self.0
    }

    /// From the number that it was stored as; `None` for one that is none's.
    pub fn from_number(number: u64) -> Option<Self> {
        (number >> Self::BITS == 0).then_some(Self(number))
    }
}

impl fmt::Display for ReplayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rp_")?;
        for at in (0..Self::CHARS).rev() {
            let digit = Self::DIGITS[(self.0 >> (5 * at) & 31) as usize];
            fmt::Write::write_char(f, char::from(digit))?;
        }
        Ok(())
    }
}

/// The text is no replay's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAReplayId;

impl FromStr for ReplayId {
    type Err = NotAReplayId;

    fn from_str(text: &str) -> Result<Self, NotAReplayId> {
        let digits = text.strip_prefix("rp_").ok_or(NotAReplayId)?;
        if digits.len() != Self::CHARS as usize {
            return Err(NotAReplayId);
        }
        let digit = |c: u8| Self::DIGITS.iter().position(|digit| *digit == c);
        digits
            .bytes()
            .try_fold(0, |number, c| Some(number << 5 | digit(c)? as u64))
            .map(Self)
            .ok_or(NotAReplayId)
    }
}

/// What makes an event a replay's copy of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// The replay that appended it.
    pub by: ReplayId,
    /// The replay that its idempotency keys belong to; `None` where they are those of the original.
    /// A copy of a copy keeps the keys it has unless new ones are asked for.
    pub keys: Option<ReplayId>,
}

/// How an event came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A producer pushed it.
    Webhook,
    /// A poll found it.
    Poll,
}

/// One event, from the edge to its destinations.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// See [`EventId`].
    pub id: EventId,
    /// The connector's name.
    pub connector: Arc<str>,
    /// The stream's name within the connector.
    pub stream: Arc<str>,
    /// Which thing this is about; never empty.
    pub key: String,
    /// Which state of it. Where the stream names no revision, the record's hash.
    pub revision: String,
    /// The revision as a number where it restores order (milliseconds for a timestamp).
    pub order: Option<i64>,
    /// Whose budget it spends.
    pub tenant: Option<String>,
    /// When the engine took it in.
    pub received_at: Timestamp,
    /// By which way.
    pub origin: Origin,
    /// Whether it says that the thing is gone.
    pub delete: bool,
    /// The destinations it has to reach.
    pub to: Vec<Arc<str>>,
    /// The raw record.
    pub record: Record,
    /// The stream's `with` table as evaluated at ingest, an object.
    pub with: Option<Record>,
    /// W3C `traceparent` that the producer sent or ingest made.
    pub traceparent: Option<String>,
    /// Set where a replay appended it again.
    pub replayed: Option<Replayed>,
}

impl Event {
    /// The `Idempotency-Key` at one destination, see [`idempotency_key`]. A replay that was asked for
    /// new keys has one of its own for each event and destination, the same on every attempt and after
    /// every restart.
    pub fn idempotency_key(&self, destination: &str) -> String {
        match self.replayed.and_then(|replayed| replayed.keys) {
            None => idempotency_key(self.id, destination),
            Some(replay) => {
                let (id, replay) = (self.id.to_string(), replay.to_string());
                data_encoding::HEXLOWER.encode(&digest_of(&[&id, destination, &replay]))
            }
        }
    }
}

impl Event {
    /// The revision as a time, where it is one and restores order: when the payload says that the
    /// thing came into this state, by its sender's clock.
    pub fn revision_time(&self) -> Option<Timestamp> {
        let at = Timestamp::parse_rfc3339(&self.revision)?;
        (self.order == Some(at.0)).then_some(at)
    }
}

/// One stream on its way to one destination: the unit of queueing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane {
    /// The connector's name.
    pub connector: Arc<str>,
    /// The stream's name.
    pub stream: Arc<str>,
    /// The destination's name.
    pub destination: Arc<str>,
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} -> {}", self.connector, self.stream, self.destination)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn a_replays_name_is_read_back_and_sorts_by_time(
            first in 0..1_i64 << 47, later in 1..1_i64 << 40, chance in any::<(u64, u64)>(),
        ) {
            let id = ReplayId::new(Timestamp(first), chance.0);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(ReplayId::from_number(id.number()), Some(id));
            let next = ReplayId::new(Timestamp(first + later), chance.1);
            prop_assert!(id < next);
            prop_assert!(id.to_string() < next.to_string());
        }
    }

    #[test]
    fn what_is_no_replays_name_is_refused() {
        for text in ["", "rp_", "rp_0123456789a", "rp_0123456789abc", "rp_0123456789aw", "dl_1"] {
            assert_eq!(text.parse::<ReplayId>(), Err(NotAReplayId), "{text}");
        }
    }
}
