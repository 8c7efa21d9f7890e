use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    ingest::poll::testing::of_record,
    plan::{CursorFormat, CursorStart},
};

const HOUR: Duration = Duration::from_hours(1);

fn plan(format: CursorFormat) -> CursorPlan {
    CursorPlan {
        field: Some(of_record("$.at")),
        format,
        start: None,
        start_param: None,
        end_param: None,
        window: None,
        lookback: None,
        sorted: Sorted::No,
        filter: false,
        also: Vec::new(),
        until: None,
        oldest: None,
    }
}

fn epoch() -> CursorPlan {
    plan(CursorFormat::EpochSeconds)
}

fn at(seconds: i64) -> CursorValue {
    CursorValue::from_time(Timestamp(seconds * 1000))
}

fn id(number: u8) -> EventId {
    EventId([number; 16])
}

/// Start and end of each window as the API is told them.
fn told(plan: &CursorPlan, stored: Option<CursorValue>, now: i64) -> Vec<(Value, Value, bool)> {
    let print = |value: Option<CursorValue>| value.map_or(json!(null), |v| v.print(&plan.format));
    windows(Some(plan), stored.as_ref(), Timestamp(now * 1000))
        .map(|window| (print(window.start), print(window.end), window.last))
        .collect()
}

#[test]
fn without_a_cursor_one_open_window() {
    let all: Vec<Window> = windows(None, None, Timestamp(0)).collect();
    assert_eq!(all, [Window::open()]);
}

#[test]
fn without_a_length_one_window_up_to_now() {
    assert_eq!(told(&epoch(), Some(at(100)), 1000), [(json!(100), json!(1000), true)]);
    assert_eq!(told(&epoch(), None, 1000), [(json!(null), json!(1000), true)]);
    let mut plan = epoch();
    plan.start = Some(CursorStart::Ago(Duration::from_secs(50)));
    assert_eq!(told(&plan, None, 1000), [(json!(950), json!(1000), true)]);
    assert_eq!(told(&plan, Some(at(10)), 1000), [(json!(10), json!(1000), true)]);
}

#[test]
fn windows_follow_without_gap_or_overlap() {
    let mut plan = epoch();
    plan.window = Some(Duration::from_secs(100));
    assert_eq!(
        told(&plan, Some(at(1000)), 1250),
        [
            (json!(1000), json!(1099), false),
            (json!(1100), json!(1199), false),
            (json!(1200), json!(1250), true),
        ]
    );
    assert_eq!(told(&plan, Some(at(1000)), 1100).len(), 2);
    let mut days = self::plan(CursorFormat::Pattern("%Y-%m-%d".to_owned()));
    days.window = Some(HOUR * 24 * 30);
    days.start = Some(CursorStart::Literal("2025-01-01".to_owned()));
    let now = jiff::civil::date(2025, 2, 10).at(12, 0, 0, 0).in_tz("UTC").unwrap();
    assert_eq!(
        told(&days, None, now.timestamp().as_second()),
        [
            (json!("2025-01-01"), json!("2025-01-30"), false),
            (json!("2025-01-31"), json!("2025-02-10"), true),
        ]
    );
}

#[test]
fn lookback_moves_the_request_and_not_the_cursor() {
    let mut plan = epoch();
    plan.lookback = Some(Duration::from_mins(1));
    assert_eq!(told(&plan, Some(at(1000)), 2000), [(json!(940), json!(2000), true)]);
    let mut progress = Progress::new(Some(at(1000)), HashSet::new());
    let window = windows(Some(&plan), Some(&at(1000)), Timestamp(2_000_000)).next().unwrap();
    progress.observe(at(950), None);
    progress.after_page(&plan, &window, true, (Timestamp(2_000_000), Timestamp(2_000_000)));
    assert_eq!(progress.cursor(), Some(&at(1000)));
}

#[test]
fn a_cursor_ahead_of_the_clock_still_reads_its_place() {
    assert_eq!(told(&epoch(), Some(at(2000)), 1000), [(json!(2000), json!(2000), true)]);
}

#[test]
fn integers_and_texts_have_no_end() {
    let mut integers = plan(CursorFormat::Integer);
    integers.window = Some(HOUR);
    let stored = Some(CursorValue::Integer(7));
    assert_eq!(told(&integers, stored, 1000), [(json!(7), json!(null), true)]);
    let texts = plan(CursorFormat::Text);
    let stored = Some(CursorValue::Text("b".to_owned()));
    assert_eq!(told(&texts, stored, 1000), [(json!("b"), json!(null), true)]);
}

/// Where the cursor stands after each of these pages of one window, the last of which ends it.
fn after(plan: &CursorPlan, window: &Window, stored: i64, pages: &[&[i64]]) -> Vec<CursorValue> {
    let mut progress = Progress::new(Some(at(stored)), HashSet::new()).sorted(plan.sorted);
    progress.begin_window();
    let mut stands = Vec::new();
    for (index, page) in pages.iter().enumerate() {
        for value in *page {
            progress.observe(at(*value), None);
        }
        progress.after_page(plan, window, index + 1 == pages.len(), times());
        stands.push(progress.cursor().unwrap().clone());
    }
    stands
}

/// When the run began and when its pages came.
fn times() -> (Timestamp, Timestamp) {
    (Timestamp(5_000_000), Timestamp(5_500_000))
}

fn to_now() -> Window {
    Window { start: Some(at(0)), end: Some(at(5000)), last: true }
}

#[test]
fn unsorted_moves_at_the_end_of_the_window_only() {
    let stands = after(&epoch(), &to_now(), 5, &[&[30, 10], &[20, 40], &[35]]);
    assert_eq!(stands, [at(5), at(5), at(40)]);
}

#[test]
fn ascending_moves_page_by_page() {
    let mut plan = epoch();
    plan.sorted = Sorted::Ascending;
    let stands = after(&plan, &to_now(), 5, &[&[10, 20], &[20, 30], &[]]);
    assert_eq!(stands, [at(20), at(30), at(30)]);
}

#[test]
fn an_order_that_is_not_kept_holds_the_cursor_until_the_window_ends() {
    let mut plan = epoch();
    plan.sorted = Sorted::Ascending;
    let stands = after(&plan, &to_now(), 5, &[&[10, 20], &[15, 30], &[40], &[50]]);
    assert_eq!(stands, [at(20), at(20), at(20), at(50)]);
}

#[test]
fn never_backwards_and_never_past_now() {
    assert_eq!(after(&epoch(), &to_now(), 50, &[&[10, 20]]), [at(50)]);
    // In any order: never past the beginning of the run.
    assert_eq!(after(&epoch(), &to_now(), 50, &[&[60, 1_000_000]]), [at(5000)]);
    // Ascending: what changes meanwhile comes last, so up to when the page came.
    let mut plan = epoch();
    plan.sorted = Sorted::Ascending;
    assert_eq!(after(&plan, &to_now(), 50, &[&[60, 5400], &[1_000_000]]), [at(5400), at(5500)]);
}

#[test]
fn a_record_from_the_future_does_not_push_others_out_of_memory() {
    let plan = epoch();
    let mut progress = Progress::new(None, HashSet::new());
    for (value, number) in [(4000, 1), (5000, 2), (5100, 3), (1_000_000, 4)] {
        progress.observe(at(value), Some(id(number)));
    }
    progress.after_page(&plan, &to_now(), true, times());
    assert_eq!(progress.boundary(), [id(2), id(3), id(4)]);
}

#[test]
fn a_window_that_is_over_moves_the_cursor_even_if_nothing_was_in_it() {
    let window = Window { start: Some(at(0)), end: Some(at(99)), last: false };
    assert_eq!(after(&epoch(), &window, 0, &[&[]]), [at(99)]);
    // A server that ignores the end must not carry the cursor beyond it.
    assert_eq!(after(&epoch(), &window, 0, &[&[10, 700]]), [at(99)]);
}

#[test]
fn without_a_field_the_window_is_the_cursor() {
    let mut plan = epoch();
    plan.field = None;
    let over = Window { start: Some(at(0)), end: Some(at(99)), last: false };
    assert_eq!(after(&plan, &over, 0, &[&[], &[]]), [at(0), at(100)]);
    // The second that now is in is not over.
    assert_eq!(after(&plan, &to_now(), 0, &[&[]]), [at(5000)]);
}

#[test]
fn ids_within_reach_are_remembered_and_the_rest_forgotten() {
    let mut plan = epoch();
    plan.lookback = Some(Duration::from_secs(10));
    let mut progress = Progress::new(Some(at(95)), HashSet::from([id(9)]));
    assert!(progress.remembers(id(9)) && !progress.remembers(id(1)));
    for (value, number) in [(80, 1), (90, 2), (100, 3)] {
        progress.observe(at(value), Some(id(number)));
    }
    progress.after_page(&plan, &to_now(), true, times());
    assert_eq!(progress.boundary(), [id(2), id(3)]);
    progress.observe(at(200), Some(id(4)));
    progress.after_page(&plan, &to_now(), true, times());
    assert_eq!(progress.boundary(), [id(4)]);
}

#[test]
fn the_memory_is_bounded() {
    let plan = epoch();
    let mut progress = Progress::new(None, HashSet::new());
    for number in 0..5000_u32 {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        progress.observe(at(100), Some(EventId(bytes)));
    }
    progress.after_page(&plan, &to_now(), true, times());
    assert_eq!(progress.boundary().len(), MAX_BOUNDARY_IDS);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn windows_cover_everything_once(start in 0i64..5000, length in 1u64..700, span in 0i64..5000) {
        let mut plan = epoch();
        plan.window = Some(Duration::from_secs(length));
        let told = told(&plan, Some(at(start)), start + span);
        let mut expected = json!(start);
        for (index, (from, to, last)) in told.iter().enumerate() {
            prop_assert_eq!(from, &expected);
            prop_assert!(from.as_i64() <= to.as_i64());
            prop_assert_eq!(*last, index + 1 == told.len());
            expected = json!(to.as_i64().unwrap() + 1);
        }
        prop_assert_eq!(expected, json!(start + span + 1));
    }

    #[test]
    fn the_cursor_only_rises(
        pages in prop::collection::vec(prop::collection::vec(0i64..6000, 0..5), 1..8),
        ascending: bool, stored in 0i64..100,
    ) {
        let mut plan = epoch();
        plan.sorted = if ascending { Sorted::Ascending } else { Sorted::No };
        let pages: Vec<&[i64]> = pages.iter().map(Vec::as_slice).collect();
        let stands = after(&plan, &to_now(), stored, &pages);
        let mut before = at(stored);
        for now in stands {
            prop_assert!(now >= before && now <= at(5500));
            before = now;
        }
    }
}
