//! How many attempts a destination takes at once: found out, below a ceiling. Pure.
//!
//! Additive increase, multiplicative decrease on round-trip times and refusals, as Vector's adaptive
//! request concurrency does it: once per mean round trip, one more where the limit was reached, nothing
//! was refused and the round trip was no longer than usual; a tenth fewer where something was refused or
//! took longer than the mean and 2.5 standard deviations. Means are exponentially weighted, with 0.4
//! for the newest. Until then each refusal takes one place away: a refusal comes back at once, and its place
//! would be refused again and again within one round trip. It begins with one attempt, and doubles until the first sign of too much (slow start,
//! RFC 5681), also after a breaker closed: a peer that just came back is not flooded.

use std::time::Duration;

use crate::world::Timestamp;

const ALPHA: f64 = 0.4;
const DEVIATIONS: f64 = 2.5;
const DECREASE: f64 = 0.9;
/// Round trips below this differ by chance; a limit does not follow it.
const NOISE_MS: f64 = 2.0;

/// See the module's text.
#[derive(Clone, Debug)]
pub struct Adaptive {
    ceiling: usize,
    limit: usize,
    /// Places that refusals took since the last decision.
    lost: usize,
    /// Mean and variance of round trips, in milliseconds.
    usual: Option<(f64, f64)>,
    slow_start: bool,
    is_fixed: bool,
    /// What the time since the last decision had.
    since: Option<Timestamp>,
    sum_ms: f64,
    round_trips: u32,
    reached: bool,
    refused: bool,
}

impl Adaptive {
    /// Begins with one attempt at once.
    pub fn new(ceiling: usize) -> Self {
        Self {
            ceiling: ceiling.max(1),
            limit: 1,
            lost: 0,
            usual: None,
            slow_start: true,
            is_fixed: false,
            since: None,
            sum_ms: 0.0,
            round_trips: 0,
            reached: false,
            refused: false,
        }
    }

    /// Always so many at once: what asks no peer has nothing to find out.
    pub fn fixed(attempts: usize) -> Self {
        Self { limit: attempts.max(1), is_fixed: true, ..Self::new(attempts) }
    }

    /// Attempts at once.
    pub fn limit(&self) -> usize {
        self.limit.saturating_sub(self.lost).max(1)
    }

    /// Begins anew, as after an outage.
    pub fn restart(&mut self) {
        if !self.is_fixed {
            *self = Self::new(self.ceiling);
        }
    }

    /// Notes that so many attempts are in flight, before one ends.
    pub fn in_flight(&mut self, attempts: usize) {
        self.reached |= attempts >= self.limit();
    }

    /// Takes in how an attempt ended: how long the answer took, and whether it was a refusal (429,
    /// 503, no answer). Whether the limit is another one now.
    pub fn ended(&mut self, took: Duration, refused: bool, now: Timestamp) -> bool {
        if self.is_fixed {
            return false;
        }
        let before = self.limit();
        self.refused |= refused;
        if refused {
            self.lost += 1;
        } else {
            self.sum_ms += took.as_secs_f64() * 1e3;
            self.round_trips += 1;
        }
        let since = *self.since.get_or_insert(now);
        let usual_ms = self.usual.map_or(0.0, |(mean, _)| mean);
        let waited_ms = now.since(since).as_secs_f64() * 1e3;
        // A set-back clock must not freeze it.
        if waited_ms < usual_ms && now >= since {
            return self.limit() != before;
        }
        self.decide();
        self.since = Some(now);
        (self.sum_ms, self.round_trips) = (0.0, 0);
        (self.reached, self.refused, self.lost) = (false, false, 0);
        self.limit() != before
    }

    fn decide(&mut self) {
        let current = (self.round_trips > 0).then(|| self.sum_ms / f64::from(self.round_trips));
        let is_slow = matches!((self.usual, current), (Some((mean, variance)), Some(current))
            if current > mean + (DEVIATIONS * variance.sqrt()).max(NOISE_MS));
        let is_usual = matches!((self.usual, current), (Some((mean, _)), Some(current))
            if current <= mean + NOISE_MS);
        if self.refused || is_slow {
            self.slow_start = false;
            self.limit = ((self.limit as f64 * DECREASE) as usize).max(1);
        } else if self.reached && self.slow_start {
            self.limit = (self.limit * 2).min(self.ceiling);
        } else if self.reached && is_usual {
            self.limit = (self.limit + 1).min(self.ceiling);
        }
        if let Some(current) = current {
            self.usual = Some(match self.usual {
                None => (current, 0.0),
                Some((mean, variance)) => {
                    let difference = current - mean;
                    let mean = mean + ALPHA * difference;
                    (mean, (1.0 - ALPHA) * (variance + ALPHA * difference * difference))
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::{ProptestConfig, prop, prop_assert, proptest};

    use super::Adaptive;
    use crate::world::Timestamp;

    /// A destination that serves `servers` at once, each in 100 ms: runs `rounds` round trips at the limit.
    fn serve(adaptive: &mut Adaptive, servers: usize, rounds: usize, now: &mut i64) {
        for _ in 0..rounds {
            let attempts = adaptive.limit();
            let took = Duration::from_millis(100 * attempts.div_ceil(servers) as u64);
            *now += took.as_millis() as i64;
            adaptive.in_flight(attempts);
            for _ in 0..attempts {
                adaptive.ended(took, false, Timestamp(*now));
            }
        }
    }

    #[test]
    fn a_fixed_one_stays() {
        let mut fixed = Adaptive::fixed(4_096);
        for ms in 1..50 {
            fixed.in_flight(1);
            fixed.ended(Duration::from_millis(900), true, Timestamp(ms * 1_000));
        }
        fixed.restart();
        assert_eq!(fixed.limit(), 4_096);
    }

    #[test]
    fn it_doubles_at_first_and_stops_at_the_ceiling() {
        let (mut adaptive, mut now) = (Adaptive::new(64), 0);
        let mut limits = Vec::new();
        for _ in 0..8 {
            limits.push(adaptive.limit());
            serve(&mut adaptive, 1_000, 1, &mut now);
        }
        assert_eq!(limits, [1, 2, 4, 8, 16, 32, 64, 64]);
    }

    #[test]
    fn it_settles_near_what_the_destination_can_do() {
        let (mut adaptive, mut now) = (Adaptive::new(1_000), 0);
        serve(&mut adaptive, 40, 400, &mut now);
        assert!((20..=80).contains(&adaptive.limit()), "{}", adaptive.limit());
    }

    #[test]
    fn refusals_shrink_it_by_a_tenth_a_round_trip_and_it_grows_by_one_after_them() {
        let (mut adaptive, mut now) = (Adaptive::new(64), 0);
        serve(&mut adaptive, 1_000, 7, &mut now);
        let mut limits = Vec::new();
        for refused in [true, true, false, false] {
            now += 100;
            adaptive.in_flight(64);
            adaptive.ended(Duration::from_millis(100), refused, Timestamp(now));
            limits.push(adaptive.limit());
        }
        assert_eq!(limits, [57, 51, 52, 53]);
        adaptive.restart();
        assert_eq!(adaptive.limit(), 1);
    }

    #[test]
    fn a_refusal_gives_its_place_back_only_with_the_next_decision() {
        let (mut adaptive, mut now) = (Adaptive::new(64), 0);
        serve(&mut adaptive, 1_000, 7, &mut now);
        let refuse = |adaptive: &mut Adaptive, ms| {
            adaptive.in_flight(64);
            adaptive.ended(Duration::from_millis(1), true, Timestamp(now + ms));
            adaptive.limit()
        };
        let limits: Vec<usize> = (1..5).map(|ms| refuse(&mut adaptive, ms)).collect();
        assert_eq!(limits, [63, 62, 61, 60]);
        assert_eq!(refuse(&mut adaptive, 100), 57);
    }

    #[test]
    fn it_does_not_grow_while_it_is_not_used() {
        let mut adaptive = Adaptive::new(64);
        for at in 1..100 {
            adaptive.in_flight(0);
            adaptive.ended(Duration::from_millis(5), false, Timestamp(at * 10));
        }
        assert_eq!(adaptive.limit(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_stays_within_its_bounds(
            ceiling in 1..300usize,
            steps in prop::collection::vec((-50..500i64, 0..2_000u64, 0..10u8, 0..300usize), 1..300),
        ) {
            let (mut adaptive, mut now) = (Adaptive::new(ceiling), 0);
            for (pause, took, kind, in_flight) in steps {
                now += pause;
                adaptive.in_flight(in_flight);
                adaptive.ended(Duration::from_millis(took), kind == 0, Timestamp(now));
                prop_assert!((1..=ceiling).contains(&adaptive.limit()));
            }
        }
    }
}
