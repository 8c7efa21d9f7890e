//! Budgets and burn rates by hand-made histories.

use proptest::prelude::*;

use super::*;

const DAY: Duration = Duration::from_secs(86_400);
/// 2026-11-22T10:00:00Z, on a bucket's edge.
const NOW: Timestamp = Timestamp(1_795_341_600_000);

fn plan(window: Duration) -> SloPlan {
    SloPlan { success: Some(0.999), latency: Some((0.99, Duration::from_secs(5))), window }
}

fn ago(minutes: i64) -> Timestamp {
    Timestamp(NOW.0 - minutes * 60_000)
}

/// So many events a minute from `from` to `to` minutes ago, of which so many of a thousand are dead.
fn filled(parts: &[(i64, i64, u64)]) -> History {
    let mut history = History::default();
    for (from, to, dead) in parts {
        for minute in (*to..*from).rev() {
            let tally = Tally { events: 1000, dead: *dead, late: 0 };
            history.add(ago(minute), tally, MONTH);
        }
    }
    history
}

fn success(window: Duration, history: &History, now: Timestamp) -> Kept {
    assess(&plan(window), history, now).remove(0)
}

fn alerts(kept: &Kept) -> Vec<bool> {
    kept.burns.iter().map(|burn| burn.is_on).collect()
}

#[test]
fn an_outage_wakes_somebody_and_the_alert_ends_with_it() {
    const DAYS: i64 = 4 * 1440;
    // Days of quiet, then everything dies for three minutes.
    let kept = success(MONTH, &filled(&[(DAYS, 3, 0), (3, 0, 1000)]), NOW);
    assert_eq!(alerts(&kept), [true, true, false]);
    assert!(kept.pages());
    // A quarter of an hour later the short span is well: nobody has to come any more. The six hours
    // still burn, and so does the half hour that goes with them.
    let kept = success(MONTH, &filled(&[(DAYS, 20, 0), (20, 17, 1000), (17, 0, 0)]), NOW);
    assert_eq!(alerts(&kept), [false, true, false]);
    let kept = success(MONTH, &filled(&[(DAYS, 60, 0), (60, 57, 1000), (57, 0, 0)]), NOW);
    assert_eq!(alerts(&kept), [false, false, false]);
    assert!(!kept.pages());
}

#[test]
fn a_slow_burn_is_for_the_working_day() {
    // Two in a thousand for four days: the budget burns twice too fast.
    let kept = success(MONTH, &filled(&[(4 * 1440, 0, 2)]), NOW);
    assert_eq!(alerts(&kept), [false, false, true]);
    assert!(!kept.pages());
    assert!((kept.burns[2].long_rate - 2.0).abs() < 1e-9, "{kept:?}");
    assert!((kept.budget_left + 1.0).abs() < 1e-9, "twice the budget is spent: {kept:?}");
    // One in two thousand is within the promise.
    let kept = success(MONTH, &filled(&[(4 * 1440, 2 * 1440, 1), (2 * 1440, 0, 0)]), NOW);
    assert_eq!(alerts(&kept), [false, false, false]);
    assert!((kept.budget_left - 0.5).abs() < 1e-9, "{kept:?}");
}

#[test]
fn where_little_comes_in_a_few_bad_events_are_a_ticket_and_an_outage_is_a_page() {
    // An event each half hour, of which the last so many died.
    let rare = |dead: i64| {
        let mut history = History::default();
        for half_hour in (0..4 * 48).rev() {
            let tally = Tally { events: 1, dead: u64::from(half_hour < dead), late: 0 };
            history.add(ago(half_hour * 30), tally, MONTH);
        }
        success(MONTH, &history, NOW)
    };
    let one = rare(1);
    assert_eq!(alerts(&one), [false, false, true], "{one:?}");
    assert!(!one.pages() && one.burns[0].long_rate > 14.4, "the rate is shown as it is: {one:?}");
    assert!(one.bad == 1 && one.budget_left < 0.0, "it is spent all the same: {one:?}");
    assert!(!rare(4).pages());
    // The sixth hour of an outage: the hour has three of them, the six hours enough.
    let outage = rare(5);
    assert_eq!(alerts(&outage), [false, true, true], "{outage:?}");
    // One dead of two, and nothing else ever.
    let mut history = History::default();
    history.add(NOW, Tally { events: 2, dead: 1, late: 0 }, MONTH);
    assert_eq!(alerts(&success(MONTH, &history, NOW)), [false, false, true]);
    // What is late counts for its own promise in the same way.
    let mut late = History::default();
    late.add(NOW, Tally { events: 5, dead: 1, late: 3 }, MONTH);
    assert!(!assess(&plan(MONTH), &late, NOW)[1].pages());
    late.add(NOW, Tally { events: 1, dead: 0, late: 1 }, MONTH);
    assert!(assess(&plan(MONTH), &late, NOW)[1].pages());
}

#[test]
fn spans_scale_with_the_window_and_are_no_shorter_than_a_bucket() {
    let spans = |window| {
        let kept = success(window, &History::default(), NOW);
        kept.burns.iter().map(|burn| (burn.long_s, burn.short_s)).collect::<Vec<_>>()
    };
    assert_eq!(spans(MONTH), [(3600, 300), (21_600, 1800), (259_200, 21_600)]);
    assert_eq!(spans(3 * MONTH), [(10_800, 900), (64_800, 5400), (777_600, 64_800)]);
    assert_eq!(spans(7 * DAY), [(840, 300), (5040, 420), (60_480, 5040)]);
    assert_eq!(spans(DAY / 24), [(300, 300), (300, 300), (360, 300)]);
}

#[test]
fn late_and_dead_are_told_apart() {
    let counts = Counts::default();
    let plan = plan(MONTH);
    for seconds in [1, 5, 6] {
        counts.delivered(&plan, Duration::from_secs(seconds));
    }
    counts.dead();
    let tally = counts.take();
    assert_eq!(tally, Tally { events: 4, dead: 1, late: 1 });
    assert_eq!(counts.take(), Tally::default());
    let mut history = History::default();
    history.add(NOW, tally, MONTH);
    let [success, latency] = &assess(&plan, &history, NOW)[..] else { panic!("two promises") };
    assert_eq!((success.bad, success.ratio), (1, Some(0.75)));
    assert_eq!((latency.bad, latency.ratio), (2, Some(0.5)));
    assert_eq!(latency.bound_ms, Some(5000));
}

#[test]
fn without_events_nothing_is_spent_and_a_promise_of_everything_is_finite() {
    let all = SloPlan { success: Some(1.0), latency: None, window: MONTH };
    let kept = assess(&all, &History::default(), NOW).remove(0);
    assert_eq!((kept.ratio, kept.budget_left), (None, 1.0));
    let kept = assess(&all, &filled(&[(1, 0, 5)]), NOW).remove(0);
    assert!(kept.pages() && kept.budget_left.is_finite() && kept.budget_left < 0.0, "{kept:?}");
}

#[test]
fn what_is_older_than_the_window_is_forgotten_and_memory_is_bounded() {
    let mut history = History::default();
    let tally = Tally { events: 1, dead: 0, late: 0 };
    for minute in (0..60 * 1440).rev() {
        history.add(ago(minute), tally, MONTH);
    }
    assert_eq!((history.fine.len(), history.coarse.len()), (289, 721));
    let month = history.over(NOW, MONTH).events;
    assert!((43_200..=43_261).contains(&month), "{month}");
    history.add(NOW.plus(MONTH + DAY), Tally::default(), MONTH);
    assert!(history.is_empty());
}

#[test]
fn what_was_counted_by_a_clock_that_was_ahead_ages_all_the_same() {
    let mut history = History::default();
    let bad = Tally { events: 10, dead: 10, late: 0 };
    history.add(NOW.plus(3650 * DAY), bad, MONTH);
    history.add(NOW, Tally::default(), MONTH);
    assert_eq!(history.over(NOW, DAY / 24), bad);
    let later = NOW.plus(2 * DAY);
    history.add(later, Tally { events: 1, dead: 0, late: 0 }, MONTH);
    assert!(!success(MONTH, &history, later).pages());
    assert_eq!(History::decode(&history.encode()), Some(history));
}

#[test]
fn what_prometheus_gets() {
    let kept = assess(&plan(MONTH), &filled(&[(60, 0, 20)]), NOW);
    let mut out = String::new();
    render(&mut out, &[("shop".to_owned(), kept)]);
    let lines: Vec<&str> = out.lines().filter(|line| !line.starts_with('#')).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_history_comes_back_as_it_was(
        steps in prop::collection::vec((0..40_000_000_i64, any::<(u32, u16, u16)>()), 0..60),
    ) {
        let (mut history, mut at) = (History::default(), NOW);
        for (step, (events, dead, late)) in steps {
            at = Timestamp(at.0 + step);
            let tally = Tally { events: events.into(), dead: dead.into(), late: late.into() };
            history.add(at, tally, MONTH);
        }
        prop_assert_eq!(History::decode(&history.encode()), Some(history));
    }

    #[test]
    fn any_bytes_decode_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = History::decode(&bytes);
        let _ = History::decode(&[&[VERSION], &bytes[..]].concat());
    }
}
