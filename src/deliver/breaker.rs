//! When a destination is left in peace because most attempts fail (circuit breaker; Nygard, "Release
//! It!", 2007). Pure: the time is an argument, and what to do is an answer.
//!
//! | state | on an attempt | becomes |
//! |---|---|---|
//! | closed | made | open, once enough of the last ones failed |
//! | open | not made until its time is over, and no attempt counts | half open then |
//! | half open | so many probes are made, the rest waits | closed when all succeed; open again when one fails |
//!
//! What counts as a failure is no answer, or one that says that the peer is not well (5xx, 408, 425). A
//! refusal (4xx) is a sign of life, and so is "too many" (429), which slows attempts down elsewhere.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{plan::BreakerPlan, world::Timestamp};

/// The time of [`BreakerPlan::within`] is counted in so many parts.
const PARTS: i64 = 10;

/// So long after it might have been tried again, what is open counts as closed.
const FORGOTTEN: Duration = Duration::from_hours(24);

/// What one attempt said about the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It answered.
    Alive,
    /// It did not, or said that it is not well.
    Failing,
    /// Nobody asked it, or it asked for patience.
    Nothing,
}

/// Whether an attempt may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Go,
    /// It may, as one of the probes.
    Probe,
    /// Not before that time.
    Wait(Timestamp),
}

/// What changed with an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Attempts stop until that time.
    Opened(Timestamp),
    /// They go on.
    Closed,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Part {
    /// Which part of time it counts: milliseconds since 1970 by the part's length.
    number: i64,
    attempts: u32,
    failures: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open {
        until: Timestamp,
    },
    /// It was open until then.
    HalfOpen {
        until: Timestamp,
        under_way: u32,
        succeeded: u32,
    },
}

/// One tenant's breaker at one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breaker {
    state: State,
    parts: [Part; PARTS as usize],
    /// How often in a row it opened.
    trips: u32,
}

/// What is stored of a breaker that is not closed. Only ever gains fields with defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredBreaker {
    /// When attempts may be made again, ms since 1970.
    pub until: Timestamp,
    /// How often in a row it opened.
    pub trips: u32,
}

impl StoredBreaker {
    /// Whether nobody has asked for so long that what it knew tells nothing any more.
    pub fn is_old(&self, now: Timestamp) -> bool {
        now.since(self.until) > FORGOTTEN
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self { state: State::Closed, parts: [Part::default(); PARTS as usize], trips: 0 }
    }
}

impl Breaker {
    /// As it was before a restart.
    pub fn restored(stored: StoredBreaker) -> Self {
        let state = State::Open { until: stored.until };
        Self { state, trips: stored.trips, ..Self::default() }
    }

    /// What has to be stored; `None` where it is closed.
    pub fn stored(&self) -> Option<StoredBreaker> {
        match self.state {
            State::Closed => None,
            State::Open { until } | State::HalfOpen { until, .. } => {
                Some(StoredBreaker { until, trips: self.trips })
            }
        }
    }

    /// Whether everything is let through.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// `closed`, `open` or `half_open`.
    pub fn word(&self) -> &'static str {
        match self.state {
            State::Closed => "closed",
            State::Open { .. } => "open",
            State::HalfOpen { .. } => "half_open",
        }
    }

    /// Until when nothing is attempted, where that is so. A clock that was set back, or a shorter `open`
    /// in a new plan, must not keep it open for longer than it is meant to be.
    pub fn open_until(&self, plan: &BreakerPlan, now: Timestamp) -> Option<Timestamp> {
        match self.state {
            State::Open { until } if until > now && until <= now.plus(plan.open) => Some(until),
            _ => None,
        }
    }

    /// Whether its probes are all under way or well, so that nothing else is let through yet.
    pub fn is_probing(&self, plan: &BreakerPlan) -> bool {
        matches!(self.state, State::HalfOpen { under_way, succeeded, .. }
            if under_way + succeeded >= plan.probes)
    }

    /// How often in a row it opened: probes that fail open it again.
    pub fn trips(&self) -> u32 {
        self.trips
    }

    /// Asks for one attempt. Whoever gets [`Admission::Go`] or [`Admission::Probe`] reports back by
    /// [`Breaker::saw`]. `patience` is what the others wait for while probes are under way.
    pub fn admit(&mut self, plan: &BreakerPlan, now: Timestamp, patience: Duration) -> Admission {
        if let Some(until) = self.open_until(plan, now) {
            return Admission::Wait(until);
        }
        if let State::Open { until } = self.state {
            self.state = State::HalfOpen { until, under_way: 0, succeeded: 0 };
        }
        match &mut self.state {
            State::HalfOpen { under_way, succeeded, .. } => {
                if *under_way + *succeeded >= plan.probes {
                    return Admission::Wait(now.plus(patience));
                }
                *under_way += 1;
                Admission::Probe
            }
            State::Closed | State::Open { .. } => Admission::Go,
        }
    }

    /// Takes in what an attempt said.
    pub fn saw(
        &mut self,
        plan: &BreakerPlan,
        admission: Admission,
        sign: Sign,
        now: Timestamp,
    ) -> Option<Change> {
        match (&mut self.state, admission) {
            (State::Closed, _) => {
                self.count(plan, sign, now);
                self.is_too_much(plan, now).then(|| self.open(plan, now))
            }
            (State::HalfOpen { under_way, succeeded, .. }, Admission::Probe) => {
                *under_way = under_way.saturating_sub(1);
                match sign {
                    Sign::Failing => return Some(self.open(plan, now)),
                    Sign::Alive => *succeeded += 1,
                    Sign::Nothing => {}
                }
                (*succeeded >= plan.probes).then(|| {
                    *self = Self::default();
                    Change::Closed
                })
            }
            // What began before it opened tells nothing new.
            (State::Open { .. } | State::HalfOpen { .. }, _) => None,
        }
    }

    fn open(&mut self, plan: &BreakerPlan, now: Timestamp) -> Change {
        let until = now.plus(plan.open);
        self.trips = self.trips.saturating_add(1);
        self.parts = Default::default();
        self.state = State::Open { until };
        Change::Opened(until)
    }

    fn count(&mut self, plan: &BreakerPlan, sign: Sign, now: Timestamp) {
        if sign == Sign::Nothing {
            return;
        }
        let number = part_of(plan, now);
        let part = &mut self.parts[number.rem_euclid(PARTS) as usize];
        if part.number != number {
            *part = Part { number, ..Part::default() };
        }
        part.attempts += 1;
        part.failures += u32::from(sign == Sign::Failing);
    }

    fn is_too_much(&self, plan: &BreakerPlan, now: Timestamp) -> bool {
        let newest = part_of(plan, now);
        let recent =
            self.parts.iter().filter(|part| (newest - PARTS + 1..=newest).contains(&part.number));
        let (attempts, failures) =
            recent.fold((0, 0), |(all, bad), part| (all + part.attempts, bad + part.failures));
        attempts >= plan.of
            && f64::from(failures) >= plan.failures * f64::from(attempts)
            && failures > 0
    }
}

/// Which part of time `now` falls into.
fn part_of(plan: &BreakerPlan, now: Timestamp) -> i64 {
    let length = i64::try_from(plan.within.as_millis()).unwrap_or(i64::MAX) / PARTS;
    now.0.div_euclid(length.max(1))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::{
        ProptestConfig, Strategy, prop, prop_assert, prop_assert_eq, proptest,
    };

    use super::{Admission, Breaker, Change, Sign, StoredBreaker};
    use crate::{plan::BreakerPlan, world::Timestamp};

    const PLAN: BreakerPlan = BreakerPlan {
        failures: 0.5,
        of: 4,
        within: Duration::from_secs(10),
        open: Duration::from_secs(30),
        probes: 2,
    };
    const PATIENCE: Duration = Duration::from_secs(1);

    /// One attempt at `ms`: what was admitted, and what it changed.
    fn attempt(breaker: &mut Breaker, ms: i64, sign: Sign) -> (Admission, Option<Change>) {
        let now = Timestamp(ms);
        let admission = breaker.admit(&PLAN, now, PATIENCE);
        let change = match admission {
            Admission::Wait(_) => None,
            _ => breaker.saw(&PLAN, admission, sign, now),
        };
        (admission, change)
    }

    /// Runs a script of `(ms, sign)` and says what each step did, and the state after it.
    fn run(breaker: &mut Breaker, script: &[(i64, Sign)]) -> Vec<String> {
        let step = |(ms, sign): &(i64, Sign)| {
            let (admission, change) = attempt(breaker, *ms, *sign);
            let admission = match admission {
                Admission::Go => "go".to_owned(),
                Admission::Probe => "probe".to_owned(),
                Admission::Wait(at) => format!("wait {}", at.0),
            };
            let change = match change {
                None => String::new(),
                Some(Change::Opened(until)) => format!(", opened until {}", until.0),
                Some(Change::Closed) => ", closed".to_owned(),
            };
            format!("{admission}{change}: {}", breaker.word())
        };
        script.iter().map(step).collect()
    }

    #[test]
    fn the_table() {
        use Sign::{Alive, Failing, Nothing};
        let mut breaker = Breaker::default();
        let script = [
            (0, Failing),
            (10, Failing),
            (20, Nothing),
            (30, Alive),
            (40, Alive),
            (1_000, Failing),
            (31_000, Alive),
            (31_040, Alive),
            (31_050, Alive),
        ];
        assert_eq!(
            run(&mut breaker, &script),
            [
                "go: closed",
                "go: closed",
                "go: closed",
                "go: closed",
                "go, opened until 30040: open",
                "wait 30040: open",
                "probe: half_open",
                "probe, closed: closed",
                "go: closed",
            ]
        );
    }

    #[test]
    fn a_probe_that_fails_opens_it_again() {
        let mut breaker = Breaker::default();
        for _ in 0..4 {
            attempt(&mut breaker, 0, Sign::Failing);
        }
        let mut now = 30_000;
        for trips in 2..5 {
            let until = Timestamp(now + 30_000);
            let (admission, change) = attempt(&mut breaker, now, Sign::Failing);
            assert_eq!((admission, change), (Admission::Probe, Some(Change::Opened(until))));
            assert_eq!(breaker.trips(), trips);
            now = until.0;
        }
    }

    #[test]
    fn probes_are_few_and_the_rest_waits() {
        let mut breaker = Breaker::restored(StoredBreaker { until: Timestamp(5), trips: 1 });
        let mut admit = |ms| breaker.admit(&PLAN, Timestamp(ms), PATIENCE);
        assert_eq!(admit(4), Admission::Wait(Timestamp(5)));
        assert_eq!(admit(5), Admission::Probe);
        assert_eq!(admit(6), Admission::Probe);
        assert_eq!(admit(7), Admission::Wait(Timestamp(1_007)));
        assert_eq!(breaker.saw(&PLAN, Admission::Probe, Sign::Nothing, Timestamp(8)), None);
        assert_eq!(breaker.admit(&PLAN, Timestamp(9), PATIENCE), Admission::Probe);
        // An attempt from before it opened decides nothing.
        assert_eq!(breaker.saw(&PLAN, Admission::Go, Sign::Failing, Timestamp(9)), None);
        assert_eq!(breaker.saw(&PLAN, Admission::Probe, Sign::Alive, Timestamp(9)), None);
        let closed = breaker.saw(&PLAN, Admission::Probe, Sign::Alive, Timestamp(9));
        assert_eq!((closed, breaker.trips()), (Some(Change::Closed), 0));
    }

    #[test]
    fn old_failures_are_forgotten() {
        let mut breaker = Breaker::default();
        for ms in [0, 1_000, 2_000] {
            attempt(&mut breaker, ms, Sign::Failing);
        }
        assert_eq!(attempt(&mut breaker, 12_500, Sign::Failing).1, None);
        assert_eq!(breaker.word(), "closed");
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_keep_it_open() {
        let mut breaker =
            Breaker::restored(StoredBreaker { until: Timestamp(10_000_000_000), trips: 1 });
        assert_eq!(breaker.admit(&PLAN, Timestamp(0), PATIENCE), Admission::Probe);
    }

    fn signs() -> impl Strategy<Value = Vec<(i64, u8)>> {
        prop::collection::vec((0..20_000i64, 0..3u8), 1..200)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_never_lets_through_while_open_and_always_ends(steps in signs()) {
            let mut breaker = Breaker::default();
            let mut now = 0;
            for (pause, sign) in steps {
                now += pause;
                let sign = [Sign::Alive, Sign::Failing, Sign::Nothing][usize::from(sign)];
                let until = breaker.open_until(&PLAN, Timestamp(now));
                let (admission, _) = attempt(&mut breaker, now, sign);
                match until {
                    Some(until) => prop_assert_eq!(admission, Admission::Wait(until)),
                    None => prop_assert!(!matches!(admission, Admission::Wait(_))),
                }
            }
            now += 30_000;
            for _ in 0..PLAN.probes {
                prop_assert!(!matches!(attempt(&mut breaker, now, Sign::Alive).0, Admission::Wait(_)));
            }
            prop_assert_eq!(breaker.word(), "closed");
        }

        #[test]
        fn what_is_stored_comes_back(until in 0..i64::MAX, trips in 0..u32::MAX) {
            let stored = StoredBreaker { until: Timestamp(until), trips };
            let bytes = serde_json::to_vec(&stored).unwrap();
            prop_assert_eq!(serde_json::from_slice::<StoredBreaker>(&bytes).unwrap(), stored);
            prop_assert_eq!(Breaker::restored(stored).stored(), Some(stored));
        }
    }
}
