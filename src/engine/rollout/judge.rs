//! Whether a canary does worse than its original. Pure: the time is an argument.
//!
//! Both sides are counted over the same sliding window, so what is wrong with the world (a receiver
//! that is down for everybody) counts for both and stops nothing.

use std::{collections::VecDeque, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    plan::{HaltPlan, SloPlan},
    world::Timestamp,
};

/// A window moves in so many steps.
const STEPS: u32 = 20;

/// Who lived an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Canary,
    Original,
}

/// How one attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Delivered; so long after the event was accepted.
    Delivered(Duration),
    /// It will be tried again.
    Failed,
    /// It is a dead letter.
    Dead,
}

/// What one side did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Attempts that ended.
    pub attempts: u64,
    /// Of them, those that failed, dead letters included.
    pub failed: u64,
    /// Of them, those that made a dead letter.
    pub dead: u64,
    /// Of them, those that delivered.
    pub delivered: u64,
    /// Of the delivered, those later than the objective allows.
    pub late: u64,
}

impl Counts {
    fn count(&mut self, ended: Ended, slo: Option<&SloPlan>) {
        self.attempts += 1;
        match ended {
            Ended::Delivered(after) => {
                self.delivered += 1;
                let bound = slo.and_then(|slo| slo.latency).map(|(_, bound)| bound);
                self.late += u64::from(bound.is_some_and(|bound| after > bound));
            }
            Ended::Failed => self.failed += 1,
            Ended::Dead => {
                self.failed += 1;
                self.dead += 1;
            }
        }
    }

    fn add(&mut self, other: &Self) {
        self.attempts += other.attempts;
        self.failed += other.failed;
        self.dead += other.dead;
        self.delivered += other.delivered;
        self.late += other.late;
    }

    fn failure_ratio(&self) -> f64 {
        ratio(self.failed, self.attempts)
    }

    /// How many times as fast as granted the error budget is spent: the larger of both objectives'.
    fn burn(&self, slo: &SloPlan) -> f64 {
        let of = |bad, all, budget: f64| ratio(bad, all) / budget.max(f64::EPSILON);
        let success =
            slo.success.map(|ratio| of(self.dead, self.dead + self.delivered, 1.0 - ratio));
        let latency =
            slo.latency.map(|(quantile, _)| of(self.late, self.delivered, 1.0 - quantile));
        success.unwrap_or(0.0).max(latency.unwrap_or(0.0))
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Both sides over the last while.
pub struct Window {
    within: Duration,
    buckets: VecDeque<(Timestamp, Counts, Counts)>,
}

impl Window {
    pub fn new(within: Duration) -> Self {
        Self { within, buckets: VecDeque::new() }
    }

    /// Takes one attempt in.
    pub fn count(&mut self, now: Timestamp, side: Side, ended: Ended, slo: Option<&SloPlan>) {
        self.forget(now);
        let step = self.within / STEPS;
        if self.buckets.back().is_none_or(|(since, ..)| now.since(*since) >= step) {
            self.buckets.push_back((now, Counts::default(), Counts::default()));
        }
        let Some((_, canary, original)) = self.buckets.back_mut() else { return };
        match side {
            Side::Canary => canary.count(ended, slo),
            Side::Original => original.count(ended, slo),
        }
    }

    /// What the canary and its original did.
    pub fn totals(&mut self, now: Timestamp) -> (Counts, Counts) {
        self.forget(now);
        let mut totals = (Counts::default(), Counts::default());
        for (_, canary, original) in &self.buckets {
            totals.0.add(canary);
            totals.1.add(original);
        }
        totals
    }

    /// Begins anew.
    pub fn clear(&mut self) {
        self.buckets.clear();
    }

    fn forget(&mut self, now: Timestamp) {
        // A clock that was set back must not keep a bucket for ever: it is newer than now.
        self.buckets.retain(|(since, ..)| *since <= now && now.since(*since) < self.within);
    }
}

/// Why a canary was stopped.
#[derive(Clone, Debug, PartialEq)]
pub enum Cause {
    /// It fails more often.
    Failures { canary: Counts, original: Counts, bound: f64, within: Duration },
    /// It spends the error budget faster.
    Burn { canary: f64, original: f64, within: Duration },
    /// Its destination needs a person, the original's goes on.
    Held(String),
    /// Its breaker opened, and it fails more often.
    Tripped,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |ratio: f64| format!("{:.1}%", ratio * 100.0);
        let time = |span: &Duration| match span.as_secs() {
            seconds if seconds >= 60 && seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
            _ => format!("{span:?}"),
        };
        match self {
            Self::Failures { canary, original, bound, within } => write!(
                f,
                "{} of its {} attempts within {} failed ({}), of the original's {} of {} ({}): \
                 more than {} above",
                canary.failed,
                canary.attempts,
                time(within),
                percent(canary.failure_ratio()),
                original.failed,
                original.attempts,
                percent(original.failure_ratio()),
                percent(*bound),
            ),
            Self::Burn { canary, original, within } => write!(
                f,
                "within {} it spent its error budget {canary:.1} times as fast as granted, the original \
                 {original:.1} times",
                time(within),
            ),
            Self::Tripped => {
                f.write_str("its breaker opened, and it fails more often than the original")
            }
            Self::Held(message) => write!(f, "its destination needs a person: {message}"),
        }
    }
}

/// Whether the canary is to be stopped, and why. A side without events failed none.
pub fn judge(
    plan: &HaltPlan,
    slo: Option<&SloPlan>,
    (canary, original): (Counts, Counts),
) -> Option<Cause> {
    let enough = u64::from(plan.of);
    if canary.attempts < enough {
        return None;
    }
    let within = plan.within;
    if canary.failure_ratio() - original.failure_ratio() > plan.failures {
        return Some(Cause::Failures { canary, original, bound: plan.failures, within });
    }
    let slo = slo.filter(|_| canary.delivered + canary.dead >= enough)?;
    let (fast, granted) = (canary.burn(slo), original.burn(slo));
    // What is exactly granted is, whatever the digits of a percentage come to.
    let is_worse = fast > 1.0 + 1e-9 && fast > granted * f64::from(plan.burn);
    is_worse.then_some(Cause::Burn { canary: fast, original: granted, within })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: HaltPlan =
        HaltPlan { failures: 0.05, burn: 2, of: 20, within: Duration::from_mins(10) };
    const SLO: SloPlan = SloPlan {
        success: Some(0.99),
        latency: Some((0.9, Duration::from_secs(5))),
        window: Duration::from_hours(1),
    };

    /// Delivered, failed, dead, late.
    fn side(delivered: u64, failed: u64, dead: u64, late: u64) -> Counts {
        let failed = failed + dead;
        Counts { attempts: delivered + failed, failed, dead, delivered, late }
    }

    fn verdict(slo: Option<&SloPlan>, canary: Counts, original: Counts) -> &'static str {
        match judge(&PLAN, slo, (canary, original)) {
            None => "go on",
            Some(Cause::Failures { .. }) => "failures",
            Some(Cause::Burn { .. }) => "burn",
            Some(Cause::Held(_) | Cause::Tripped) => "not judged",
        }
    }

    #[test]
    fn the_table() {
        let well = side(1_000, 0, 0, 0);
        let none = side(0, 0, 0, 0);
        let slo = Some(&SLO);
        for (slo, canary, original, expected) in [
            // Too few to say.
            (None, side(0, 0, 19, 0), well, "go on"),
            (None, side(0, 0, 20, 0), well, "failures"),
            // A little worse is chance.
            (None, side(19, 1, 0, 0), well, "go on"),
            (None, side(18, 2, 0, 0), well, "failures"),
            // What is wrong for both is not the canary's.
            (None, side(0, 50, 0, 0), side(0, 500, 0, 0), "go on"),
            (None, side(50, 50, 0, 0), side(480, 520, 0, 0), "go on"),
            // Nobody to compare with: it has to be well by itself.
            (None, side(20, 0, 0, 0), none, "go on"),
            (None, side(10, 10, 0, 0), none, "failures"),
            // The budget: 1 % of dead letters, 10 % late.
            (slo, side(98, 0, 2, 0), side(99, 0, 1, 0), "go on"),
            (slo, side(97, 0, 3, 0), side(99, 0, 1, 0), "burn"),
            (slo, side(100, 0, 0, 10), well, "go on"),
            (slo, side(100, 0, 0, 11), well, "burn"),
            (slo, side(100, 0, 0, 40), side(100, 0, 0, 20), "go on"),
            (None, side(100, 0, 0, 100), well, "go on"),
            // Failures that end well cost no budget.
            (slo, side(96, 4, 0, 0), well, "go on"),
        ] {
            assert_eq!(verdict(slo, canary, original), expected, "{canary:?} beside {original:?}");
        }
    }

    #[test]
    fn a_window_forgets() {
        let mut window = Window::new(Duration::from_mins(10));
        let at = |minutes: i64| Timestamp(minutes * 60_000);
        window.count(at(0), Side::Canary, Ended::Dead, None);
        window.count(at(5), Side::Canary, Ended::Failed, None);
        window.count(at(5), Side::Original, Ended::Delivered(Duration::from_secs(9)), Some(&SLO));
        assert_eq!(window.totals(at(9)), (side(0, 1, 1, 0), side(1, 0, 0, 1)));
        assert_eq!(window.totals(at(10)), (side(0, 1, 0, 0), side(1, 0, 0, 1)));
        assert_eq!(window.totals(at(3)), (side(0, 0, 0, 0), side(0, 0, 0, 0)), "set back");
    }

    #[test]
    fn causes_say_both_sides() {
        let cause = judge(&PLAN, None, (side(5, 0, 15, 0), side(99, 1, 0, 0))).expect("a halt");
        insta::assert_snapshot!(cause.to_string(), @"15 of its 20 attempts within 10m failed (75.0%), of the original's 1 of 100 (1.0%): more than 5.0% above");
        let cause = judge(&PLAN, Some(&SLO), (side(97, 0, 3, 0), side(99, 0, 1, 0)));
        insta::assert_snapshot!(cause.expect("a halt").to_string(), @"within 10m it spent its error budget 3.0 times as fast as granted, the original 1.0 times");
    }
}
