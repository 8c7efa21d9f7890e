//! When a poll is due: a pure function of the plan, the last run and the time.
//!
//! It promises that a run is never due earlier than the schedule says (jitter only ever adds),
//! that runs missed while the daemon was down or busy become one run and not many, and that a
//! change of the clock in the schedule's zone neither loses a run nor doubles it: a time that
//! the clock skips is due once, right after the gap, and a time that it repeats is due once, the
//! first time. A pattern that names every hour (`*/5 * * * *`) follows real time instead and also
//! runs through the repeated hour, as an interval would.

use std::time::Duration;

use croner::{
    Cron,
    parser::{CronParser, Seconds},
};
use jiff::{
    Timestamp as Instant,
    civil::DateTime,
    tz::{AmbiguousOffset, TimeZone},
};

use crate::{
    plan::{Jitter, SchedulePlan, ScheduleWhen},
    world::Timestamp,
};

/// A time that never comes: what a schedule without any further run is due at.
const NEVER: Timestamp = Timestamp(i64::MAX);

/// When the next run is due.
///
/// `last` is when the last run began, `None` where there was none: an interval is then due now, a
/// cron pattern at its next time. `fraction` in `[0, 1)` picks the place within the jitter. A run
/// that was missed is due now, spread by the jitter so that a restart is no stampede. Where the
/// pattern has no further time (`0 0 30 2 *`), the answer is `Timestamp(i64::MAX)`.
pub fn next_run(
    plan: &SchedulePlan,
    last: Option<Timestamp>,
    now: Timestamp,
    fraction: f64,
) -> Timestamp {
    match &plan.when {
        ScheduleWhen::Every(every) => {
            let due = last.map_or(now, |last| last.plus(*every));
            due.max(now).plus(spread(plan.jitter, *every, fraction))
        }
        ScheduleWhen::Cron { pattern, tz } => {
            let Some(calendar) = Calendar::new(pattern, tz) else { return NEVER };
            let Some(due) = calendar.after(last.unwrap_or(now)) else { return NEVER };
            let interval = calendar.after(due).map_or(Duration::ZERO, |next| next.since(due));
            due.max(now).plus(spread(plan.jitter, interval, fraction))
        }
    }
}

/// The delay that jitter adds: never more than the interval, so that runs keep their order.
fn spread(jitter: Jitter, interval: Duration, fraction: f64) -> Duration {
    let widest = match jitter {
        Jitter::Ratio(ratio) => interval.mul_f64(ratio.clamp(0.0, 1.0)),
        Jitter::Duration(duration) => duration.min(interval),
    };
    widest.mul_f64(fraction.clamp(0.0, 1.0))
}

/// A cron pattern in its zone.
struct Calendar {
    cron: Cron,
    zone: TimeZone,
    /// The pattern names every hour: it follows real time, not the wall clock.
    every_hour: bool,
}

impl Calendar {
    /// `None` where the pattern or the zone does not exist, which the compiler has ruled out.
    fn new(pattern: &str, tz: &str) -> Option<Self> {
        let parser = CronParser::builder().seconds(Seconds::Optional).build();
        Some(Self {
            cron: parser.parse(pattern).ok()?,
            zone: TimeZone::get(tz).ok()?,
            every_hour: names_every_hour(pattern),
        })
    }

    /// The first time after `after`.
    fn after(&self, after: Timestamp) -> Option<Timestamp> {
        let after = Instant::from_millisecond(after.0).ok()?;
        let found = if self.every_hour {
            let from = after.to_zoned(self.zone.clone());
            self.cron.find_next_occurrence(&from, false).ok()?.timestamp()
        } else {
            self.wall_clock_after(after)?
        };
        Some(Timestamp(found.as_millisecond()))
    }

    /// Walks the wall clock as if it never jumped, and only then asks when each reading is. No
    /// reading up to that of `after` lies after it, so the walk can begin there.
    fn wall_clock_after(&self, after: Instant) -> Option<Instant> {
        let mut reading = self.zone.to_datetime(after).to_zoned(TimeZone::UTC).ok()?;
        loop {
            reading = self.cron.find_next_occurrence(&reading, false).ok()?;
            let instant = self.instant_of(reading.datetime())?;
            if instant > after {
                return Some(instant);
            }
        }
    }

    /// When the wall clock reads `reading`: the first time of two, the end of the gap of none.
    fn instant_of(&self, reading: DateTime) -> Option<Instant> {
        match self.zone.to_ambiguous_timestamp(reading).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(reading).ok(),
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(reading).ok(),
            AmbiguousOffset::Gap { before, .. } => {
                let within = before.to_timestamp(reading).ok()?;
                let just_after = Instant::from_second(within.as_second() + 1).ok()?;
                self.zone.preceding(just_after).next().map(|change| change.timestamp())
            }
        }
    }
}

/// Whether the field of the hours is `*`.
fn names_every_hour(pattern: &str) -> bool {
    let fields: Vec<&str> = pattern.split_whitespace().collect();
    match fields.as_slice() {
        [nickname] => nickname.eq_ignore_ascii_case("@hourly"),
        [_, hours, _, _, _] | [_, _, hours, _, _, _] | [_, _, hours, _, _, _, _] => *hours == "*",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).expect("RFC 3339")
    }

    fn every(every: &str, jitter: Jitter) -> SchedulePlan {
        let every: jiff::SignedDuration = every.parse().expect("a duration");
        SchedulePlan { when: ScheduleWhen::Every(every.unsigned_abs()), jitter }
    }

    fn cron(pattern: &str, tz: &str) -> SchedulePlan {
        SchedulePlan {
            when: ScheduleWhen::Cron { pattern: pattern.to_owned(), tz: tz.to_owned() },
            jitter: Jitter::Ratio(0.0),
        }
    }

    /// The next `count` runs of a schedule whose runs begin exactly when due, in local time.
    fn runs(pattern: &str, tz: &str, from: &str, count: usize) -> Vec<String> {
        let plan = cron(pattern, tz);
        let zone = TimeZone::get(tz).unwrap();
        let mut last = at(from);
        (0..count)
            .map(|_| {
                last = next_run(&plan, Some(last), last, 0.0);
                let local = Instant::from_millisecond(last.0).unwrap().to_zoned(zone.clone());
                local.strftime("%m-%d %H:%M%:z").to_string()
            })
            .collect()
    }

    #[test]
    fn an_interval_counts_from_the_beginning_of_the_last_run() {
        let plan = every("5m", Jitter::Ratio(0.0));
        let (last, now) = (at("2026-11-22T10:00:00Z"), at("2026-11-22T10:01:00Z"));
        assert_eq!(next_run(&plan, Some(last), now, 0.9), at("2026-11-22T10:05:00Z"));
    }

    #[test]
    fn the_first_run_is_due_now_and_spread() {
        let now = at("2026-11-22T10:00:00Z");
        let plan = every("10m", Jitter::Ratio(0.1));
        assert_eq!(next_run(&plan, None, now, 0.0), now);
        assert_eq!(next_run(&plan, None, now, 0.5), now.plus(Duration::from_secs(30)));
        let plan = every("10m", Jitter::Duration(Duration::from_secs(20)));
        assert_eq!(next_run(&plan, None, now, 0.5), now.plus(Duration::from_secs(10)));
    }

    #[test]
    fn runs_missed_while_down_become_one() {
        let (last, now) = (at("2026-11-20T10:00:00Z"), at("2026-11-22T10:00:30Z"));
        let due = next_run(&every("5m", Jitter::Ratio(0.0)), Some(last), now, 0.0);
        assert_eq!(due, now);
        assert_eq!(
            next_run(&every("5m", Jitter::Ratio(0.0)), Some(due), due, 0.0),
            due.plus(Duration::from_mins(5))
        );
        let nightly = cron("0 3 * * *", "Europe/Berlin");
        assert_eq!(next_run(&nightly, Some(last), now, 0.0), now);
        assert_eq!(next_run(&nightly, Some(now), now, 0.0), at("2026-11-23T02:00:00Z"));
    }

    #[test]
    fn a_cron_that_never_ran_waits_for_its_time() {
        let nightly = cron("0 3 * * *", "Europe/Berlin");
        let now = at("2026-11-22T10:00:30Z");
        assert_eq!(next_run(&nightly, None, now, 0.0), at("2026-11-23T02:00:00Z"));
    }

    #[test]
    fn six_fields_begin_with_seconds() {
        let plan = cron("*/20 * * * * *", "UTC");
        let now = at("2026-11-22T10:00:30.500Z");
        assert_eq!(next_run(&plan, None, now, 0.0), at("2026-11-22T10:00:40Z"));
    }

    #[test]
    fn a_seventh_field_is_the_year() {
        let plan = cron("0 0 12 1 1 * 2030", "UTC");
        let now = at("2026-11-22T10:00:00Z");
        assert_eq!(next_run(&plan, None, now, 0.0), at("2030-01-01T12:00:00Z"));
    }

    #[test]
    fn cron_jitter_is_a_share_of_the_time_to_the_run_after() {
        let mut plan = cron("0 * * * *", "UTC");
        plan.jitter = Jitter::Ratio(0.1);
        let now = at("2026-11-22T10:30:00Z");
        assert_eq!(next_run(&plan, None, now, 0.5), at("2026-11-22T11:03:00Z"));
        plan.jitter = Jitter::Duration(Duration::from_secs(100_000));
        assert!(next_run(&plan, None, now, 0.999) < at("2026-11-22T12:00:00Z"));
    }

    #[test]
    fn a_pattern_without_a_day_is_never_due() {
        let now = at("2026-11-22T10:30:00Z");
        assert_eq!(next_run(&cron("0 0 30 2 *", "UTC"), None, now, 0.0), NEVER);
    }

    #[test]
    fn a_time_in_the_gap_is_due_once_right_after_it() {
        // Berlin, 2026-03-29: 02:00 +01:00 becomes 03:00 +02:00. New York, 2026-03-08: 02:00 -05:00
        // becomes 03:00 -04:00.
        for (pattern, tz, from, expected) in [
            (
                "30 2 * * *",
                "Europe/Berlin",
                "2026-03-28T00:00:00Z",
                ["03-28 02:30+01:00", "03-29 03:00+02:00", "03-30 02:30+02:00"],
            ),
            (
                "0 2 * * *",
                "Europe/Berlin",
                "2026-03-28T00:00:00Z",
                ["03-28 02:00+01:00", "03-29 03:00+02:00", "03-30 02:00+02:00"],
            ),
            (
                "*/20 2 * * *",
                "Europe/Berlin",
                "2026-03-28T01:35:00Z",
                ["03-28 02:40+01:00", "03-29 03:00+02:00", "03-30 02:00+02:00"],
            ),
            (
                "0 2,14 * * *",
                "Europe/Berlin",
                "2026-03-28T12:00:00Z",
                ["03-28 14:00+01:00", "03-29 03:00+02:00", "03-29 14:00+02:00"],
            ),
            (
                "30 2 * * *",
                "America/New_York",
                "2026-03-07T00:00:00Z",
                ["03-07 02:30-05:00", "03-08 03:00-04:00", "03-09 02:30-04:00"],
            ),
            (
                "0 3 * * *",
                "America/New_York",
                "2026-03-07T00:00:00Z",
                ["03-07 03:00-05:00", "03-08 03:00-04:00", "03-09 03:00-04:00"],
            ),
        ] {
            assert_eq!(runs(pattern, tz, from, 3), expected, "{pattern} {tz}");
        }
    }

    #[test]
    fn a_time_in_the_fold_is_due_once() {
        // Berlin, 2026-10-25: 03:00 +02:00 becomes 02:00 +01:00. New York, 2026-11-01: 02:00 -04:00
        // becomes 01:00 -05:00.
        for (pattern, tz, from, expected) in [
            (
                "30 2 * * *",
                "Europe/Berlin",
                "2026-10-24T00:00:00Z",
                ["10-24 02:30+02:00", "10-25 02:30+02:00", "10-26 02:30+01:00"],
            ),
            (
                "0 2,14 * * *",
                "Europe/Berlin",
                "2026-10-24T13:00:00Z",
                ["10-25 02:00+02:00", "10-25 14:00+01:00", "10-26 02:00+01:00"],
            ),
            (
                "30 1 * * *",
                "America/New_York",
                "2026-10-31T00:00:00Z",
                ["10-31 01:30-04:00", "11-01 01:30-04:00", "11-02 01:30-05:00"],
            ),
        ] {
            assert_eq!(runs(pattern, tz, from, 3), expected, "{pattern} {tz}");
        }
    }

    #[test]
    fn an_interval_pattern_follows_real_time_through_gap_and_fold() {
        assert_eq!(
            runs("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:15:00Z", 3),
            ["03-29 01:30+01:00", "03-29 03:00+02:00", "03-29 03:30+02:00"]
        );
        assert_eq!(
            runs("15 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 3),
            ["03-29 01:15+01:00", "03-29 03:15+02:00", "03-29 04:15+02:00"]
        );
        assert_eq!(
            runs("*/30 * * * *", "America/New_York", "2026-11-01T05:15:00Z", 4),
            ["11-01 01:30-04:00", "11-01 01:00-05:00", "11-01 01:30-05:00", "11-01 02:00-05:00"]
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn never_early_never_in_the_past_and_never_more_than_an_interval_late(
            every_s in 1u64..100_000, ratio in 0.0f64..=1.0, fraction in 0.0f64..1.0,
            last in 0i64..2_000_000_000_000, later in 0i64..1_000_000_000,
        ) {
            let every = Duration::from_secs(every_s);
            let plan = SchedulePlan { when: ScheduleWhen::Every(every), jitter: Jitter::Ratio(ratio) };
            let (last, now) = (Timestamp(last), Timestamp(last + later));
            let due = next_run(&plan, Some(last), now, fraction);
            prop_assert!(due >= now && due >= last.plus(every));
            prop_assert!(due <= now.max(last.plus(every)).plus(every));
        }

        #[test]
        fn each_day_has_one_run_whatever_the_clock_does(
            hour in 0u8..24, minute in 0u8..60, start in 0i64..(40 * 365),
            zone in prop::sample::select(vec!["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
        ) {
            let plan = cron(&format!("{minute} {hour} * * *"), zone);
            let tz = TimeZone::get(zone).unwrap();
            let mut last = Timestamp(start * 86_400_000);
            let mut days = Vec::new();
            for _ in 0..40 {
                last = next_run(&plan, Some(last), last, 0.0);
                days.push(tz.to_datetime(Instant::from_millisecond(last.0).unwrap()).date());
            }
            for pair in days.windows(2) {
                prop_assert_eq!(pair[0].tomorrow().unwrap(), pair[1]);
            }
        }
    }
}
