//! How far somebody else's clock is from ours, as far as what they send tells.
//!
//! The estimate is the median of the last fifteen differences: one request that was held back or
//! repeated moves it little, a clock that was set moves it within a few. A difference is theirs less
//! ours, so a clock that is behind is negative; the time on the way makes it look a little behind.

use std::collections::VecDeque;

use parking_lot::Mutex;

use super::Timestamp;

/// The median is taken over so many.
const SAMPLES: usize = 15;
/// Of fewer it says nothing about whether a clock is wrong.
const ENOUGH: usize = 3;
/// A clock that is further away is wrong, one that is nearer than the second is right again.
const OFF_MS: (u64, u64) = (60_000, 45_000);

/// What one sender's times have told. Cheap while nothing was told.
#[derive(Debug, Default)]
pub struct Skew(Mutex<Samples>);

#[derive(Debug, Default)]
struct Samples {
    last_ms: VecDeque<i64>,
    newest: Option<Timestamp>,
    is_off: bool,
}

/// Whether the clock is wrong has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is more than a minute away: so many milliseconds.
    Off(i64),
    /// It is right again.
    Right(i64),
}

impl Skew {
    /// Takes note of a time that was read at `now`.
    pub fn note(&self, theirs: Timestamp, now: Timestamp) -> Option<Turn> {
        let mut samples = self.0.lock();
        samples.newest = samples.newest.max(Some(theirs));
        samples.add(theirs.0.saturating_sub(now.0))
    }

    /// Takes note of a time that was refused for being too far from `now`, if it is newer than all
    /// before: whoever repeats a request of old tells nothing about a clock.
    pub fn note_refused(&self, theirs: Timestamp, now: Timestamp) -> Option<Turn> {
        let mut samples = self.0.lock();
        if samples.newest.is_some_and(|newest| theirs <= newest) {
            return None;
        }
        samples.newest = Some(theirs);
        samples.add(theirs.0.saturating_sub(now.0))
    }

    /// Theirs less ours, in milliseconds; `None` while nothing was told.
    pub fn millis(&self) -> Option<i64> {
        self.0.lock().median()
    }

    /// Whether the clock is wrong.
    pub fn is_off(&self) -> bool {
        self.0.lock().is_off
    }
}

impl Samples {
    fn add(&mut self, difference_ms: i64) -> Option<Turn> {
        if self.last_ms.len() >= SAMPLES {
            self.last_ms.pop_front();
        }
        self.last_ms.push_back(difference_ms);
        let median = self.median().filter(|_| self.last_ms.len() >= ENOUGH)?;
        let (off, right) = OFF_MS;
        let is_off = median.unsigned_abs() > if self.is_off { right } else { off };
        if is_off == self.is_off {
            return None;
        }
        self.is_off = is_off;
        Some(if is_off { Turn::Off(median) } else { Turn::Right(median) })
    }

    /// Of an even number the older half's.
    fn median(&self) -> Option<i64> {
        let mut sorted: Vec<i64> = self.last_ms.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len().saturating_sub(1) / 2).copied()
    }
}

/// A difference for a person: "10m 2s behind ours".
pub fn skew_text(difference_ms: i64) -> String {
    let seconds = difference_ms.unsigned_abs().div_ceil(1000);
    let mut parts = Vec::new();
    let mut rest = seconds;
    for (unit, length) in [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)] {
        if rest >= length {
            parts.push(format!("{}{unit}", rest / length));
            rest %= length;
        }
    }
    parts.truncate(2);
    if parts.is_empty() {
        return "level with ours".to_owned();
    }
    let side = if difference_ms < 0 { "behind" } else { "ahead of" };
    format!("{} {side} ours", parts.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_341_600_000);
    const MINUTE: i64 = 60_000;

    fn at(difference_ms: i64) -> Timestamp {
        Timestamp(NOW.0 + difference_ms)
    }

    #[test]
    fn a_few_late_requests_are_no_wrong_clock() {
        let skew = Skew::default();
        assert_eq!(skew.millis(), None);
        for difference in [-900, -600_000, -1_100, -1_000, -3_600_000, -950, -1_050] {
            assert_eq!(skew.note(at(difference), NOW), None, "{difference}");
        }
        assert_eq!((skew.millis(), skew.is_off()), (Some(-1_050), false));
    }

    #[test]
    fn a_clock_that_is_set_wrong_shows_once_and_so_does_its_mending() {
        let skew = Skew::default();
        let turns: Vec<_> = (0..4).filter_map(|_| skew.note(at(10 * MINUTE), NOW)).collect();
        assert_eq!(turns, [Turn::Off(10 * MINUTE)]);
        assert!(skew.is_off());
        let turns: Vec<_> = (0..20).filter_map(|_| skew.note(at(-500), NOW)).collect();
        assert_eq!(turns, [Turn::Right(-500)]);
        // Between the two bounds it stays what it is.
        for _ in 0..15 {
            assert_eq!(skew.note(at(50_000), NOW), None);
        }
        assert!(!skew.is_off());
    }

    #[test]
    fn who_repeats_a_request_of_old_moves_nothing() {
        let skew = Skew::default();
        for difference in [-1_000, -900, -1_100] {
            skew.note(at(difference), NOW);
        }
        for _ in 0..100 {
            assert_eq!(skew.note_refused(at(-90 * MINUTE), NOW), None);
        }
        assert_eq!(skew.millis(), Some(-1_000));
        // A clock that lags goes on telling newer times.
        let lagging = Skew::default();
        let told = (0..3).filter_map(|n| lagging.note_refused(at(-10 * MINUTE + n), at(n)));
        assert_eq!(told.collect::<Vec<_>>(), [Turn::Off(-10 * MINUTE)]);
    }

    #[test]
    fn differences_are_said_in_words() {
        for (difference, text) in [
            (0, "level with ours"),
            (-602_000, "10m 2s behind ours"),
            (61_000, "1m 1s ahead of ours"),
            (90_061_000, "1d 1h ahead of ours"),
        ] {
            assert_eq!(skew_text(difference), text);
        }
    }
}
