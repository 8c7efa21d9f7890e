//! How often something may be done: several windows at once, none of them ever exceeded.
//!
//! Each window remembers when its last `count` permits were given, and gives the next one when the
//! oldest has left the window. So within any span of `per`, wherever it begins, no more than `count`
//! are given, which a token bucket does not promise (it gives twice as many across a full bucket),
//! and nothing drifts, because no fractions are added up. Above [`EXACT`] permits, those given within
//! a 1024th of the window are remembered together, as if all were given with the last of them: never
//! too many, and the memory stays bounded.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;

use crate::{plan::Rate, world::Timestamp};

/// Windows of up to this many permits remember each of them.
const EXACT: u32 = 1024;

/// Several rates at once, on the world's clock. Shared by reference.
#[derive(Debug)]
pub struct Limiter {
    windows: Mutex<Vec<Window>>,
    /// Without rates nothing is locked.
    unlimited: bool,
    /// Milliseconds since 1970: until then nothing is given, because the peer said so.
    paused_until: AtomicI64,
}

impl Limiter {
    /// All of `rates` hold; none means no limit.
    pub fn new(rates: &[Rate]) -> Self {
        let windows: Vec<_> = rates.iter().map(Window::new).collect();
        let unlimited = windows.is_empty();
        Self { unlimited, windows: Mutex::new(windows), paused_until: AtomicI64::new(i64::MIN) }
    }

    /// Gives nothing before that time: the peer says that its own budget is spent.
    pub fn pause_until(&self, at: Timestamp) {
        self.paused_until.fetch_max(at.0, Ordering::Relaxed);
    }

    /// Until when the peer asked for peace, if it still does.
    pub fn paused(&self, now: Timestamp) -> Option<Timestamp> {
        let until = Timestamp(self.paused_until.load(Ordering::Relaxed));
        (until > now).then_some(until)
    }

    /// Whether there is one, without taking it; else when.
    pub fn look(&self, now: Timestamp) -> Result<(), Timestamp> {
        if let Some(until) = self.paused(now) {
            return Err(until);
        }
        let mut windows = self.windows.lock();
        windows.iter_mut().filter_map(|window| window.full_until(now)).max().map_or(Ok(()), Err)
    }

    /// Takes one, or says when one will be there (if nobody else takes it first). Nothing is taken
    /// from any window unless all have one.
    pub fn take(&self, now: Timestamp) -> Result<(), Timestamp> {
        if let Some(until) = self.paused(now) {
            return Err(until);
        }
        if self.unlimited {
            return Ok(());
        }
        let mut windows = self.windows.lock();
        let free_at = windows.iter_mut().filter_map(|window| window.full_until(now)).max();
        if let Some(at) = free_at {
            return Err(at);
        }
        windows.iter_mut().for_each(|window| window.give(now));
        Ok(())
    }
}

/// Permits that count as given at `last`.
#[derive(Debug)]
struct Given {
    first: Timestamp,
    last: Timestamp,
    permits: u32,
}

#[derive(Debug)]
struct Window {
    count: u32,
    per: Duration,
    /// Permits given within this time are remembered together.
    grain: Duration,
    given: VecDeque<Given>,
    permits: u32,
}

impl Window {
    fn new(rate: &Rate) -> Self {
        let grain = if rate.count > EXACT { rate.per / EXACT } else { Duration::ZERO };
        // A window of no time would limit nothing, a count of none would never end.
        let per = rate.per.max(Duration::from_millis(1));
        Self { count: rate.count.max(1), per, grain, given: VecDeque::new(), permits: 0 }
    }

    /// Forgets what has left the window. When the next permit is there, if there is none now.
    fn full_until(&mut self, now: Timestamp) -> Option<Timestamp> {
        // The clock was set back: what was given "later" was given now at the latest.
        for given in self.given.iter_mut().rev().take_while(|given| given.last > now) {
            given.last = now;
            given.first = given.first.min(now);
        }
        while let Some(oldest) = self.given.front() {
            if oldest.last.plus(self.per) > now {
                break;
            }
            self.permits -= oldest.permits;
            self.given.pop_front();
        }
        let full = self.permits >= self.count;
        self.given.front().filter(|_| full).map(|oldest| oldest.last.plus(self.per))
    }

    fn give(&mut self, now: Timestamp) {
        self.permits += 1;
        match self.given.back_mut() {
            Some(newest) if now == newest.last || now.since(newest.first) < self.grain => {
                newest.last = now;
                newest.permits += 1;
            }
            _ => self.given.push_back(Given { first: now, last: now, permits: 1 }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::{ProptestConfig, prop, prop_assert, prop_assert_eq, proptest};

    use super::{EXACT, Limiter};
    use crate::{plan::Rate, world::Timestamp};

    fn rate(count: u32, per_ms: u64) -> Rate {
        Rate { count, per: Duration::from_millis(per_ms) }
    }

    #[test]
    fn several_windows_hold_at_once() {
        let limiter = Limiter::new(&[rate(2, 1_000), rate(3, 10_000)]);
        let take = |ms| limiter.take(Timestamp(ms));
        assert_eq!(take(0), Ok(()));
        assert_eq!(take(100), Ok(()));
        assert_eq!(take(200), Err(Timestamp(1_000)));
        assert_eq!(take(1_000), Ok(()));
        assert_eq!(take(1_001), Err(Timestamp(10_000)));
        assert_eq!(take(9_999), Err(Timestamp(10_000)));
        assert_eq!(take(10_000), Ok(()));
    }

    #[test]
    fn a_pause_holds_for_everybody_and_is_never_shortened() {
        let limiter = Limiter::new(&[]);
        limiter.pause_until(Timestamp(500));
        limiter.pause_until(Timestamp(300));
        assert_eq!(limiter.take(Timestamp(400)), Err(Timestamp(500)));
        assert_eq!(limiter.take(Timestamp(500)), Ok(()));
    }

    #[test]
    fn no_rate_is_no_limit() {
        let limiter = Limiter::new(&[]);
        assert!((0..10_000).all(|_| limiter.take(Timestamp(0)).is_ok()));
    }

    #[test]
    fn a_clock_that_is_set_back_costs_one_window_at_most() {
        let limiter = Limiter::new(&[rate(1, 1_000)]);
        assert_eq!(limiter.take(Timestamp(1_000_000)), Ok(()));
        assert_eq!(limiter.take(Timestamp(5)), Err(Timestamp(1_005)));
        assert_eq!(limiter.take(Timestamp(1_005)), Ok(()));
    }

    #[test]
    fn nothing_drifts_over_a_long_run() {
        let limiter = Limiter::new(&[rate(7, 1_000)]);
        let mut now = Timestamp(0);
        let mut given = 0;
        while now.0 < 1_000_000 {
            match limiter.take(now) {
                Ok(()) => given += 1,
                Err(at) => now = at,
            }
        }
        assert_eq!(given, 7_000);
    }

    #[test]
    fn a_large_window_is_nearly_all_given_and_its_memory_bounded() {
        let limiter = Limiter::new(&[rate(100_000, 60_000)]);
        let given =
            (0..600_000).filter(|tenth| limiter.take(Timestamp(tenth / 10)).is_ok()).count();
        assert!((99_000..=100_000).contains(&given), "{given}");
        assert!(limiter.windows.lock()[0].given.len() <= EXACT as usize + 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_window_is_ever_exceeded(
            rates in prop::collection::vec((1..3_000u32, 1..5_000u64), 1..4),
            steps in prop::collection::vec((0..400i64, 1..40usize), 1..120),
        ) {
            let rates: Vec<_> = rates.into_iter().map(|(count, per)| rate(count, per)).collect();
            let limiter = Limiter::new(&rates);
            let (mut now, mut given) = (Timestamp(0), Vec::new());
            for (step, asks) in steps {
                now = Timestamp(now.0 + step);
                for _ in 0..asks {
                    match limiter.take(now) {
                        Ok(()) => given.push(now),
                        Err(at) => {
                            prop_assert!(at > now);
                            break;
                        }
                    }
                }
            }
            for rate in &rates {
                for (n, since) in given.iter().enumerate() {
                    let until = since.plus(rate.per);
                    let within = given[n..].iter().take_while(|at| **at < until).count();
                    prop_assert!(within <= rate.count as usize, "{} in {:?}", within, rate);
                }
            }
        }

        #[test]
        fn a_promised_time_is_kept(count in 1..20u32, per in 1..2_000u64, gaps in prop::collection::vec(0..300i64, 1..80)) {
            let limiter = Limiter::new(&[rate(count, per)]);
            let mut now = Timestamp(0);
            for gap in gaps {
                now = Timestamp(now.0 + gap);
                if let Err(at) = limiter.take(now) {
                    prop_assert_eq!(limiter.take(Timestamp(at.0 - 1)), Err(at));
                    prop_assert_eq!(limiter.take(at), Ok(()));
                    now = at;
                }
            }
        }
    }
}
