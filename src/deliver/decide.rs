//! What happens after an attempt. Pure: the clock's time and the jitter are arguments.
//!
//! | outcome | what is next |
//! |---|---|
//! | delivered | settled |
//! | retry | again, counted; in the dead letters once attempts or time are spent |
//! | deferred | again, not counted |
//! | held | the destination is parked, the event keeps its count |
//! | rejected | in the dead letters |
//! | superseded | settled: the destination has a newer state |
//!
//! A retry waits as long as the peer asked for (`Retry-After`), and on top of that a time drawn
//! uniformly from zero to `from · 2ⁿ`, at most `to`, where n is the number of attempts before: full
//! jitter (Brooker, "Exponential Backoff and Jitter", AWS 2015). So nobody comes back earlier than
//! asked, and not all of them at once.

use std::{borrow::Cow, time::Duration};

use super::breaker::Sign;
use crate::{
    plan::{Ending, RetryPlan},
    world::Timestamp,
};

/// What a destination said, or did not say. A peer's failure is an outcome, not an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 2xx, or written. A file's line counts only once `Destination::sync` was well.
    Delivered {
        /// HTTP status, where there is one.
        status: Option<u16>,
    },
    /// 408, 425, 429, 5xx, network, timeout, DNS: counts as an attempt.
    Retry {
        /// HTTP status, where one came.
        status: Option<u16>,
        /// One line, no secrets.
        message: String,
        /// How long the peer asks to wait.
        retry_after: Option<Duration>,
        /// What a rule of `on` says of it besides.
        limit: Option<Box<Limit>>,
    },
    /// Not attempted: rate spent, token being refreshed; or a rule of `on` says that the peer only
    /// asked to wait.
    Deferred {
        /// One line, no secrets.
        message: String,
        /// When it may be possible.
        retry_after: Option<Duration>,
    },
    /// 401 (after one refresh), 403, 410, `invalid_grant`, an unset secret, a refused address:
    /// only a person can mend it.
    Held {
        /// HTTP status, where one came.
        status: Option<u16>,
        /// One line, no secrets.
        message: String,
    },
    /// Other 4xx, or a template that fails: this event will never be taken as it is.
    Rejected {
        /// HTTP status, where one came.
        status: Option<u16>,
        /// A stable word: `rejected`, `template_failed`, `bad_url`, or that of a rule of `on`.
        reason: Cow<'static, str>,
        /// One line, no secrets.
        message: String,
    },
    /// The destination has a newer state of the thing: a rule of `on` says so.
    Superseded {
        /// HTTP status, where one came.
        status: Option<u16>,
    },
}

/// What a rule of `on` says of a retry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// How often it is attempted again, where that is fewer than the plan allows.
    pub times: Option<u32>,
    /// What becomes of the event once attempts or time are spent.
    pub otherwise: Ending,
    /// The reason of the dead letter.
    pub reason: Option<String>,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempted {
    /// For the event.
    pub outcome: Outcome,
    /// For all events: until when the peer says that its budget is spent (429 with `Retry-After`, or the
    /// `RateLimit` headers of whatever answer).
    pub spent_until: Option<Timestamp>,
}

impl From<Outcome> for Attempted {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, spent_until: None }
    }
}

impl Outcome {
    /// What it says about the destination's health.
    pub fn sign(&self) -> Sign {
        match self {
            Self::Retry { status: Some(429), .. }
            | Self::Deferred { .. }
            | Self::Rejected { status: None, .. }
            | Self::Held { status: None, .. } => Sign::Nothing,
            Self::Retry { .. } => Sign::Failing,
            Self::Delivered { .. }
            | Self::Superseded { .. }
            | Self::Held { .. }
            | Self::Rejected { .. } => Sign::Alive,
        }
    }
}

/// The longest backoff is this many times what the file says where many of a tenant's events wait to be
/// repeated.
const WIDEST: u32 = 16;

/// The plan for an event of a tenant of whose events so many wait to be repeated, while the destination
/// takes so many at once: what waits comes back over a time in which it can be served.
pub fn widened(plan: &RetryPlan, crowd: usize, at_once: usize) -> RetryPlan {
    let factor = u32::try_from(crowd / at_once.max(1)).unwrap_or(WIDEST).clamp(1, WIDEST);
    RetryPlan { from: plan.from.saturating_mul(factor).min(plan.to.max(plan.from)), ..*plan }
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Done.
    Settle {
        /// Attempts it took, this one included.
        attempts: u32,
        /// HTTP status, where there is one.
        status: Option<u16>,
    },
    /// A counted attempt failed: again.
    Retry {
        /// When.
        due: Timestamp,
        /// Counted attempts so far, this one included.
        attempts: u32,
        /// When the first of them ended.
        first_attempt_at: Timestamp,
        /// One line, no secrets.
        error: String,
    },
    /// Again, without a count.
    Defer {
        /// When.
        due: Timestamp,
    },
    /// Park the whole destination; this event keeps its count.
    Hold {
        /// One line, no secrets.
        message: String,
    },
    /// Done: the destination has a newer state.
    Supersede,
    /// Into the dead letters.
    Bury {
        /// A stable word: that of [`Outcome::Rejected`], `attempts_spent` or `time_spent`.
        reason: String,
        /// One line, no secrets.
        message: String,
        /// Counted attempts, this one included.
        attempts: u32,
        /// HTTP status, where one came.
        status: Option<u16>,
    },
}

/// The longest `Retry-After` that is honoured where `to` is shorter: a peer that asks for a week
/// would take an event out of everybody's sight.
const RETRY_AFTER_CAP: Duration = Duration::from_hours(1);
/// What a deferred event waits where nobody said how long.
const DEFER_FOR: Duration = Duration::from_secs(1);
/// How far deferred events are spread.
const DEFER_SPREAD: Duration = Duration::from_secs(5);

/// What happens next. `jitter` is uniform in `[0, 1)`; `first_attempt_at` is `None` while no attempt
/// was counted. Never due earlier than 1 ms after `now`, so no lane can spin.
///
/// `within` counts from the end of the first counted attempt. A retry that would be due later is
/// brought forward to that moment, as the last one, unless the peer asked for a longer wait.
pub fn decide(
    plan: &RetryPlan,
    attempts_before: u32,
    first_attempt_at: Option<Timestamp>,
    outcome: Outcome,
    now: Timestamp,
    jitter: f64,
) -> Next {
    let attempts = attempts_before.saturating_add(1);
    match outcome {
        Outcome::Delivered { status } => Next::Settle { attempts, status },
        Outcome::Held { status: _, message } => Next::Hold { message },
        Outcome::Deferred { message: _, retry_after } => {
            let wait = retry_after.unwrap_or(DEFER_FOR).min(longest_wait(plan));
            let spread = (wait / 4).min(DEFER_SPREAD).mul_f64(unit(jitter));
            Next::Defer { due: after(now, wait + spread) }
        }
        Outcome::Rejected { status, reason, message } => {
            // Without a status nobody was asked.
            let attempts = if status.is_some() { attempts } else { attempts_before };
            Next::Bury { reason: reason.into_owned(), message, attempts, status }
        }
        Outcome::Superseded { status: _ } => Next::Supersede,
        Outcome::Retry { status, message, retry_after, limit } => {
            let first_attempt_at = first_attempt_at.unwrap_or(now);
            let deadline = first_attempt_at.plus(plan.within);
            let times = limit.as_ref().and_then(|limit| limit.times);
            let allowed =
                times.map_or(u32::MAX, |times| times.saturating_add(1)).min(plan.attempts);
            let spent = if attempts >= allowed {
                Some("attempts_spent")
            } else if now >= deadline {
                Some("time_spent")
            } else {
                None
            };
            if let Some(reason) = spent {
                let Limit { otherwise, reason: word, .. } = limit.map(|it| *it).unwrap_or_default();
                return match otherwise {
                    Ending::Delivered => Next::Settle { attempts, status },
                    Ending::Superseded => Next::Supersede,
                    Ending::Hold => Next::Hold { message },
                    Ending::Dead => {
                        let reason = word.unwrap_or_else(|| reason.to_owned());
                        Next::Bury { reason, message, attempts, status }
                    }
                };
            }
            let floor = retry_after.unwrap_or_default().min(longest_wait(plan));
            let left = deadline.since(now).saturating_sub(floor);
            let backoff = ceiling(plan, attempts_before).mul_f64(unit(jitter)).min(left);
            let due = after(now, floor + backoff);
            Next::Retry { due, attempts, first_attempt_at, error: message }
        }
    }
}

/// `from · 2ⁿ`, at most `to`.
fn ceiling(plan: &RetryPlan, attempts_before: u32) -> Duration {
    let factor = 1u32.checked_shl(attempts_before).unwrap_or(u32::MAX);
    plan.from.saturating_mul(factor).min(plan.to)
}

fn longest_wait(plan: &RetryPlan) -> Duration {
    plan.to.max(RETRY_AFTER_CAP)
}

/// A jitter that is none (a bug of the caller's, or NaN) must not make a panic of a retry.
fn unit(jitter: f64) -> f64 {
    if jitter.is_nan() { 0.0 } else { jitter.clamp(0.0, 1.0) }
}

fn after(now: Timestamp, wait: Duration) -> Timestamp {
    now.plus(wait.max(Duration::from_millis(1)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, proptest};

    use super::{Limit, Next, Outcome, RETRY_AFTER_CAP, decide, widened};
    use crate::{
        plan::{Ending, RetryPlan},
        world::Timestamp,
    };

    const NOW: Timestamp = Timestamp(1_000_000);

    fn plan() -> RetryPlan {
        RetryPlan {
            attempts: 4,
            from: Duration::from_secs(1),
            to: Duration::from_mins(1),
            within: Duration::from_hours(1),
        }
    }

    fn retry(retry_after: Option<u64>) -> Outcome {
        Outcome::Retry {
            status: Some(503),
            message: "503".to_owned(),
            retry_after: retry_after.map(Duration::from_secs),
            limit: None,
        }
    }

    /// Milliseconds from now until a retry or a deferral is due.
    fn wait(next: &Next) -> Option<i64> {
        match next {
            Next::Retry { due, .. } | Next::Defer { due } => Some(due.0 - NOW.0),
            _ => None,
        }
    }

    #[test]
    fn the_table() {
        let plan = plan();
        let first = Some(Timestamp(900_000));
        let next = |outcome| decide(&plan, 2, first, outcome, NOW, 0.5);
        let text = |text: &str| text.to_owned();
        assert_eq!(
            next(Outcome::Delivered { status: Some(201) }),
            Next::Settle { attempts: 3, status: Some(201) }
        );
        assert_eq!(
            next(retry(None)),
            Next::Retry {
                due: NOW.plus(Duration::from_secs(2)),
                attempts: 3,
                first_attempt_at: Timestamp(900_000),
                error: text("503"),
            }
        );
        assert_eq!(
            next(Outcome::Deferred { message: text("rate"), retry_after: None }),
            Next::Defer { due: NOW.plus(Duration::from_millis(1125)) }
        );
        assert_eq!(
            next(Outcome::Held { status: Some(403), message: text("403") }),
            Next::Hold { message: text("403") }
        );
        let rejected =
            |status| Outcome::Rejected { status, reason: "rejected".into(), message: text("no") };
        let buried = |attempts, status| Next::Bury {
            reason: text("rejected"),
            message: text("no"),
            attempts,
            status,
        };
        assert_eq!(next(rejected(Some(422))), buried(3, Some(422)));
        assert_eq!(next(rejected(None)), buried(2, None));
        assert_eq!(next(Outcome::Superseded { status: Some(409) }), Next::Supersede);
    }

    #[test]
    fn a_rule_may_allow_fewer_repetitions_and_says_what_comes_then() {
        let next = |before, times, otherwise, reason: Option<&str>| {
            let limit = Limit { times, otherwise, reason: reason.map(str::to_owned) };
            let outcome = Outcome::Retry {
                status: Some(404),
                message: "gone".to_owned(),
                retry_after: None,
                limit: Some(Box::new(limit)),
            };
            decide(&plan(), before, Some(NOW), outcome, NOW, 0.0)
        };
        let buried = |reason: &str, attempts| Next::Bury {
            reason: reason.to_owned(),
            message: "gone".to_owned(),
            attempts,
            status: Some(404),
        };
        let goes_on = |next| matches!(next, Next::Retry { .. });
        assert!(goes_on(next(0, Some(1), Ending::Dead, None)));
        assert_eq!(next(1, Some(1), Ending::Dead, None), buried("attempts_spent", 2));
        assert_eq!(next(0, Some(0), Ending::Dead, Some("no_parent")), buried("no_parent", 1));
        assert!(goes_on(next(2, Some(9), Ending::Dead, None)));
        assert_eq!(next(3, Some(9), Ending::Dead, None), buried("attempts_spent", 4));
        let delivered = Next::Settle { attempts: 4, status: Some(404) };
        assert_eq!(next(3, None, Ending::Delivered, None), delivered);
        assert_eq!(next(3, None, Ending::Superseded, None), Next::Supersede);
        assert_eq!(next(3, None, Ending::Hold, None), Next::Hold { message: "gone".to_owned() });
    }

    #[test]
    fn a_crowd_comes_back_over_a_longer_time() {
        let from = |crowd, at_once| widened(&plan(), crowd, at_once).from.as_secs();
        assert_eq!([from(0, 4), from(4, 4), from(9, 4), from(1_000, 4)], [1, 1, 2, 16]);
        let short = RetryPlan { to: Duration::from_secs(3), ..plan() };
        assert_eq!(widened(&short, 1_000, 0).from, short.to);
    }

    #[test]
    fn attempts_and_time_run_out() {
        let reason =
            |attempts, first, now| match decide(&plan(), attempts, first, retry(None), now, 0.0) {
                Next::Bury { reason, status: Some(503), .. } => Some(reason),
                _ => None,
            };
        let hour = Timestamp(NOW.0 + 3_600_000);
        assert_eq!(reason(2, Some(NOW), NOW), None);
        assert_eq!(reason(3, Some(NOW), NOW).as_deref(), Some("attempts_spent"));
        assert_eq!(reason(1, Some(NOW), hour).as_deref(), Some("time_spent"));
        assert_eq!(reason(1, Some(NOW), Timestamp(hour.0 - 1)), None);
        assert_eq!(reason(0, None, hour), None);
    }

    #[test]
    fn the_backoff_doubles_up_to_its_cap() {
        let plan = RetryPlan { attempts: 100, ..plan() };
        let waits = |jitter| {
            (0..8).map(move |n| wait(&decide(&plan, n, None, retry(None), NOW, jitter)).unwrap())
        };
        assert!(waits(0.5).eq([500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]));
        assert!(waits(0.0).all(|wait| wait == 1));
    }

    #[test]
    fn retry_after_is_a_floor_with_jitter_on_top_and_a_cap() {
        let next = |after, jitter| wait(&decide(&plan(), 0, None, retry(Some(after)), NOW, jitter));
        assert_eq!(next(30, 0.0), Some(30_000));
        assert_eq!(next(30, 0.5), Some(30_500));
        assert_eq!(next(1_000_000, 0.0), Some(RETRY_AFTER_CAP.as_millis() as i64));
    }

    #[test]
    fn the_last_retry_is_brought_forward_to_the_end_of_within() {
        let plan = RetryPlan { attempts: 100, within: Duration::from_secs(10), ..plan() };
        let first = Some(Timestamp(NOW.0 - 8_000));
        let next = |outcome| wait(&decide(&plan, 6, first, outcome, NOW, 0.9));
        assert_eq!(next(retry(None)), Some(2_000));
        assert_eq!(next(retry(Some(5))), Some(5_000));
    }

    fn outcomes() -> impl Strategy<Value = Outcome> {
        (0..6, any::<u32>(), any::<bool>()).prop_map(|(kind, secs, asked)| {
            let retry_after = asked.then(|| Duration::from_secs(secs.into()));
            let (status, message) = (asked.then_some(500), String::new());
            match kind {
                0 => Outcome::Delivered { status },
                1 => Outcome::Held { status, message },
                2 => Outcome::Rejected { status, reason: "rejected".into(), message },
                3 => Outcome::Deferred { message, retry_after },
                4 => Outcome::Superseded { status },
                _ => Outcome::Retry { status, message, retry_after, limit: None },
            }
        })
    }

    fn plans() -> impl Strategy<Value = RetryPlan> {
        (1..50u32, 1..10_000u64, 0..10_000_000u64, 1..1_000_000_000u64).prop_map(
            |(attempts, from, more, within)| RetryPlan {
                attempts,
                from: Duration::from_millis(from),
                to: Duration::from_millis(from + more),
                within: Duration::from_millis(within),
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn nothing_is_due_too_early_or_too_late(
            plan in plans(), before in 0..60u32, since in 0..2_000_000_000i64,
            outcome in outcomes(), jitter in 0.0..1.0f64,
        ) {
            let asked = match &outcome {
                Outcome::Retry { retry_after, .. } => retry_after.unwrap_or_default(),
                _ => Duration::ZERO,
            };
            let cap = plan.to.max(RETRY_AFTER_CAP);
            let first = (before > 0).then(|| Timestamp(NOW.0 - since));
            let next = decide(&plan, before, first, outcome, NOW, jitter);
            if let Some(wait) = wait(&next) {
                prop_assert!(wait >= 1);
                prop_assert!(wait as u128 >= asked.min(cap).as_millis());
                prop_assert!(wait as u128 <= (cap + plan.to).as_millis() + 6_000);
            }
            match next {
                Next::Retry { attempts, first_attempt_at, .. } => {
                    prop_assert_eq!(attempts, before + 1);
                    prop_assert!(attempts < plan.attempts);
                    prop_assert_eq!(first_attempt_at, first.unwrap_or(NOW));
                }
                Next::Settle { attempts, .. } => prop_assert_eq!(attempts, before + 1),
                Next::Bury { attempts, .. } => {
                    prop_assert!(attempts == before || attempts == before + 1);
                }
                Next::Defer { .. } | Next::Hold { .. } | Next::Supersede => {}
            }
        }

        #[test]
        fn a_destination_that_always_fails_ends_in_the_dead_letters(
            plan in plans(), asked in proptest::option::of(0..100_000u64), jitter in 0.0..1.0f64,
        ) {
            let (mut now, mut before, mut first) = (NOW, 0, None);
            loop {
                match decide(&plan, before, first, retry(asked), now, jitter) {
                    Next::Retry { due, attempts, first_attempt_at, .. } => {
                        prop_assert!(due > now && attempts == before + 1);
                        (now, before, first) = (due, attempts, Some(first_attempt_at));
                    }
                    Next::Bury { attempts, .. } => {
                        prop_assert!(attempts <= plan.attempts.max(1));
                        break;
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
    }
}
