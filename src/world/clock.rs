//! Wall-clock time. The only file that may ask the operating system what time it is.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::BoxFuture;

/// A point in time: milliseconds since 1970-01-01T00:00:00Z. In JSON it is RFC 3339 text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.rfc3339())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // Beyond the calendar's end `rfc3339` prints bare milliseconds, see there.
        Self::parse_rfc3339(&text)
            .or_else(|| text.strip_suffix("ms")?.parse().ok().map(Self))
            .ok_or_else(|| D::Error::custom(format!("expected an RFC 3339 time, found `{text}`")))
    }
}

impl Timestamp {
    /// This time plus `duration`, saturating.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// This time minus `duration`, saturating.
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero where it is not after.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// RFC 3339 in UTC with milliseconds: `2026-11-22T10:00:00.000Z`.
    pub fn rfc3339(self) -> String {
        jiff::Timestamp::from_millisecond(self.0)
            .map_or_else(|_| format!("{}ms", self.0), |t| format!("{t:.3}"))
    }

    /// Parses RFC 3339.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|t| Self(t.as_millisecond()))
    }
}

/// What time it is, and how to wait for a later one.
pub trait Clock: Send + Sync {
    /// The wall-clock time.
    fn now(&self) -> Timestamp;
    /// Completes at `at` or as soon after as the runtime's timer allows.
    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()>;
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // The one place where time is read.
    fn now(&self) -> Timestamp {
        Timestamp(jiff::Timestamp::now().as_millisecond())
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(at.since(self.now())))
    }
}

/// A clock that starts at a given time and moves with tokio's, so that a paused runtime pauses it.
#[derive(Clone, Debug)]
pub struct ScriptedClock {
    start: Timestamp,
    origin: tokio::time::Instant,
}

impl ScriptedClock {
    /// A clock that reads `start` now. Needs a tokio runtime.
    pub fn starting_at(start: Timestamp) -> Self {
        Self { start, origin: tokio::time::Instant::now() }
    }
}

impl Clock for ScriptedClock {
    fn now(&self) -> Timestamp {
        self.start.plus(self.origin.elapsed())
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(at.since(self.now())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_readable_times_and_gives_them_back() {
        for ms in [0, 1_795_341_600_123, -1, i64::MAX, i64::MIN] {
            let text = serde_json::to_string(&Timestamp(ms)).expect("written");
            assert_eq!(
                serde_json::from_str::<Timestamp>(&text).expect("read"),
                Timestamp(ms),
                "{text}"
            );
        }
        assert_eq!(
            serde_json::to_string(&Timestamp(0)).expect("written"),
            "\"1970-01-01T00:00:00.000Z\""
        );
        assert!(serde_json::from_str::<Timestamp>("\"yesterday\"").is_err());
    }
}
