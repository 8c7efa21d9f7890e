//! `[slo]` at run time: how much of the error budget is spent, and whether it burns too fast. Pure: what
//! time it is, is an argument.
//!
//! What counts. An event counts once for each destination, when its way there ends: delivered, or dead.
//! `success` is the share that is delivered; dead is bad. `latency` is the share that is delivered within the
//! bound, from accepted to delivered: late is bad, and so is dead. An event that waits for a parked
//! destination counts when it ends, and is late then. One that a newer revision superseded does not
//! count (nobody waits for it), and a replay's copy does not (its original did).
//!
//! When to wake somebody. Multi-window, multi-burn-rate alerts as in the Site Reliability Workbook
//! (Google, 2018), chapter 5, "Alerting on SLOs", table 5-8: of a window of 30 days, 2 % of the budget
//! within an hour (burn rate 14.4) or 5 % within six (6) wake somebody, 10 % within three days (1) are for the
//! working day; each only while a window of a twelfth of that length burns as fast, so that an alert ends
//! when its cause does. For another window than 30 days all spans scale with it, so that the rates mean
//! the same shares of the budget; none is shorter than a bucket.
//!
//! Where little comes in, one bad event is any burn rate: of two events an hour at 99.9 %, one is 500 times
//! too fast. The same chapter ("Low-Traffic Services and Error Budget Alerting") warns of that. So a page
//! needs a few bad events within its long span, too ([`PAGE_BAD`]): a rate of fewer is no measurement. What
//! they spend is in the budget all the same, and from a tenth of it on the ticket tells; that has no such bound.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{plan::SloPlan, world::Timestamp};

/// The buckets that short spans are measured in, and how far they reach back.
const FINE: Grain = Grain { seconds: 300, keep: 24 * 12 };
/// The buckets of whole windows. A window longer than what they reach back is measured over that.
const COARSE: Grain = Grain { seconds: 3600, keep: 400 * 24 };
/// The window that the workbook's figures are for.
const MONTH: Duration = Duration::from_secs(30 * 86_400);
/// Severity, long span, short span, and how many times too fast the budget burns over both.
const ALERTS: [(Severity, u64, u64, f64); 3] = [
    (Severity::Page, 3600, 300, 14.4),
    (Severity::Page, 6 * 3600, 1800, 6.0),
    (Severity::Ticket, 3 * 86_400, 6 * 3600, 1.0),
];
/// So many bad events within the long span at least before somebody is woken. A busy service has them in
/// any burn that is worth a page, so there the rates alone decide.
const PAGE_BAD: u64 = 5;
/// A promise of everything has a budget of one in a million: a burn rate wants to be divided by something.
const LEAST_BUDGET: f64 = 1e-6;
/// How a history is written.
const VERSION: u8 = 1;

struct Grain {
    seconds: i64,
    keep: u32,
}

impl Grain {
    fn slot(&self, at: Timestamp) -> u32 {
        u32::try_from(at.0.max(0) / 1000 / self.seconds).unwrap_or(u32::MAX)
    }

    /// Buckets that cover `span`, the one under way not counted.
    fn slots(&self, span: Duration) -> u32 {
        let seconds = span.as_millis().div_ceil(1000);
        u32::try_from(seconds.div_ceil(self.seconds as u128)).unwrap_or(u32::MAX)
    }
}

/// What is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Goal {
    /// `success`: events are delivered.
    Success,
    /// `latency`: they are delivered within the bound.
    Latency,
}

impl Goal {
    /// The key of `[slo]`, and the label's value.
    pub fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Latency => "latency",
        }
    }
}

/// Whether it can wait for the working day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Wake somebody.
    Page,
    /// Somebody looks within the day.
    Ticket,
}

impl Severity {
    /// The label's value.
    pub fn word(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Ticket => "ticket",
        }
    }
}

/// Events that ended, and those of them that did not end well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All.
    pub events: u64,
    /// Went to the dead letters.
    pub dead: u64,
    /// Delivered, but not within the bound.
    pub late: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.events = self.events.saturating_add(other.events);
        self.dead = self.dead.saturating_add(other.dead);
        self.late = self.late.saturating_add(other.late);
    }

    fn bad(self, goal: Goal) -> u64 {
        match goal {
            Goal::Success => self.dead,
            Goal::Latency => self.dead.saturating_add(self.late),
        }
    }

    fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// What the pipeline counts: one or two additions an event.
#[derive(Debug, Default)]
pub struct Counts {
    events: AtomicU64,
    dead: AtomicU64,
    late: AtomicU64,
}

impl Counts {
    /// An event was delivered, so long after it was accepted.
    pub fn delivered(&self, plan: &SloPlan, took: Duration) {
        if plan.latency.is_some_and(|(_, bound)| took > bound) {
            self.late.fetch_add(1, Relaxed);
        }
        self.events.fetch_add(1, Relaxed);
    }

    /// An event went to the dead letters.
    pub fn dead(&self) {
        self.dead.fetch_add(1, Relaxed);
        self.events.fetch_add(1, Relaxed);
    }

    /// What was counted since this was last asked.
    pub fn take(&self) -> Tally {
        // An event whose two halves are taken apart shows in two looks; the sum of them is right.
        let (dead, late) = (self.dead.swap(0, Relaxed), self.late.swap(0, Relaxed));
        Tally { events: self.events.swap(0, Relaxed), dead, late }
    }
}

/// Buckets that have something in them, oldest first.
type Buckets = VecDeque<(u32, Tally)>;

/// What ended when, over a window: five minutes at a time for the last day, hours before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    fine: Buckets,
    coarse: Buckets,
}

impl History {
    /// Takes in what ended just before `now`, and forgets what is older than `window`.
    pub fn add(&mut self, now: Timestamp, tally: Tally, window: Duration) {
        for (grain, buckets, keep) in [
            (&FINE, &mut self.fine, FINE.keep),
            (&COARSE, &mut self.coarse, COARSE.slots(window).min(COARSE.keep)),
        ] {
            let slot = grain.slot(now);
            let mut tally = tally;
            // A clock that was set back: what is newer than now would be recent for ever.
            while let Some((_, newer)) = buckets.pop_back_if(|(newest, _)| *newest > slot) {
                tally.add(newer);
            }
            if !tally.is_empty() {
                match buckets.back_mut() {
                    Some((newest, known)) if *newest == slot => known.add(tally),
                    _ => buckets.push_back((slot, tally)),
                }
            }
            while buckets.front().is_some_and(|(oldest, _)| *oldest + keep < slot) {
                buckets.pop_front();
            }
        }
    }

    /// What ended within `span` before `now`, at most a bucket more.
    pub fn over(&self, now: Timestamp, span: Duration) -> Tally {
        let is_fine = FINE.slots(span) <= FINE.keep;
        let (grain, buckets) = if is_fine { (FINE, &self.fine) } else { (COARSE, &self.coarse) };
        let first = grain.slot(now).saturating_sub(grain.slots(span));
        let mut sum = Tally::default();
        for (_, tally) in buckets.iter().rev().take_while(|(slot, _)| *slot >= first) {
            sum.add(*tally);
        }
        sum
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.coarse.is_empty()
    }

    /// When the newest event that is remembered ended, to the hour.
    pub fn newest(&self) -> Option<Timestamp> {
        let (slot, _) = self.coarse.back()?;
        Some(Timestamp(i64::from(*slot) * COARSE.seconds * 1000))
    }

    /// As it is stored: version (u8), then for each of the two grains the count of buckets, and for each
    /// its distance from the one before, events, dead, late; all as LEB128.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        for buckets in [&self.fine, &self.coarse] {
            put(&mut out, buckets.len() as u64);
            let mut before = 0;
            for (slot, tally) in buckets {
                put(&mut out, u64::from(slot - before));
                before = *slot;
                for count in [tally.events, tally.dead, tally.late] {
                    put(&mut out, count);
                }
            }
        }
        out
    }

    /// Reads what [`History::encode`] wrote; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&VERSION, mut rest) = bytes.split_first()? else { return None };
        let (fine, coarse) = (take_buckets(&mut rest)?, take_buckets(&mut rest)?);
        rest.is_empty().then_some(Self { fine, coarse })
    }
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, more) = rest.split_first()?;
        *rest = more;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take_buckets(rest: &mut &[u8]) -> Option<Buckets> {
    let count = take(rest)?;
    let (mut buckets, mut slot) = (Buckets::new(), 0_u32);
    for at in 0..count {
        let step = u32::try_from(take(rest)?).ok()?;
        if step == 0 && at > 0 {
            return None;
        }
        slot = slot.checked_add(step)?;
        buckets
            .push_back((slot, Tally { events: take(rest)?, dead: take(rest)?, late: take(rest)? }));
    }
    Some(buckets)
}

/// One of the alerts, and whether it is on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Burn {
    /// Whether it can wait.
    pub severity: Severity,
    /// The long span, in seconds.
    pub long_s: u64,
    /// The short one.
    pub short_s: u64,
    /// How many times too fast the budget burns over both while the alert is on.
    pub factor: f64,
    /// How many times too fast it burnt over the long span.
    pub long_rate: f64,
    /// And over the short one.
    pub short_rate: f64,
    /// Both are above; and for a page, enough events were bad.
    pub is_on: bool,
}

/// How one promise is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Which.
    pub goal: Goal,
    /// The share that is promised.
    pub target: f64,
    /// The bound of `latency`, in milliseconds.
    pub bound_ms: Option<u64>,
    /// The window, in seconds.
    pub window_s: u64,
    /// Events that ended within it.
    pub events: u64,
    /// Those that did not end well.
    pub bad: u64,
    /// The share that did; none without events.
    pub ratio: Option<f64>,
    /// The share of the error budget that is left; below 0 where more was spent than there was.
    pub budget_left: f64,
    /// The alerts.
    pub burns: Vec<Burn>,
}

impl Kept {
    /// Whether somebody has to be woken.
    pub fn pages(&self) -> bool {
        self.burns.iter().any(|burn| burn.is_on && burn.severity == Severity::Page)
    }
}

/// How each promise is kept, at `now`.
pub fn assess(plan: &SloPlan, history: &History, now: Timestamp) -> Vec<Kept> {
    let SloPlan { success, latency, window } = plan;
    let goals = [
        success.map(|target| (Goal::Success, target, None)),
        latency.map(|(target, bound)| (Goal::Latency, target, Some(bound.as_millis() as u64))),
    ];
    let whole = history.over(now, *window);
    let kept = |(goal, target, bound_ms): (Goal, f64, Option<u64>)| {
        let budget = (1.0 - target).max(LEAST_BUDGET);
        let rate = |tally: Tally| share(tally.bad(goal), tally.events) / budget;
        let burns = ALERTS.map(|(severity, long, short, factor)| {
            let (long, short) = (scaled(long, *window), scaled(short, *window));
            let within_long = history.over(now, long);
            let (long_rate, short_rate) = (rate(within_long), rate(history.over(now, short)));
            let is_measured = severity == Severity::Ticket || within_long.bad(goal) >= PAGE_BAD;
            let is_on = is_measured && long_rate >= factor && short_rate >= factor;
            let (long_s, short_s) = (long.as_secs(), short.as_secs());
            Burn { severity, long_s, short_s, factor, long_rate, short_rate, is_on }
        });
        let bad = whole.bad(goal);
        Kept {
            goal,
            target,
            bound_ms,
            window_s: window.as_secs(),
            events: whole.events,
            bad,
            ratio: (whole.events > 0).then(|| 1.0 - share(bad, whole.events)),
            budget_left: 1.0 - rate(whole),
            burns: burns.into(),
        }
    };
    goals.into_iter().flatten().map(kept).collect()
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64).min(1.0) }
}

/// A span of a month for another window, in whole seconds.
fn scaled(seconds: u64, window: Duration) -> Duration {
    let scaled = (seconds as f64 * window.as_secs_f64() / MONTH.as_secs_f64()).round();
    Duration::from_secs((scaled as u64).max(FINE.seconds as u64))
}

/// All connectors' promises as Prometheus shows them. `connector` is escaped already.
pub fn render(out: &mut String, all: &[(String, Vec<Kept>)]) {
    type Value = fn(&Kept) -> f64;
    let gauges: [(&str, &str, Value); 3] = [
        ("tenon_slo_target_ratio", "What [slo] promises.", |kept| kept.target),
        ("tenon_slo_ratio", "What was kept of it, over its window.", |kept| {
            kept.ratio.unwrap_or(1.0)
        }),
        (
            "tenon_slo_error_budget_left_ratio",
            "The share of the error budget that is left; below 0 where it is overspent.",
            |kept| kept.budget_left,
        ),
    ];
    let each = |out: &mut String, show: &dyn Fn(&mut String, &str, &Kept)| {
        for (connector, kept) in all {
            for kept in kept {
                let goal = kept.goal.word();
                show(out, &format!("connector=\"{connector}\",objective=\"{goal}\""), kept);
            }
        }
    };
    let header = |out: &mut String, name: &str, help: &str| {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
    };
    for (name, help, value) in gauges {
        header(out, name, help);
        each(out, &|out, labels, kept| {
            let _ = writeln!(out, "{name}{{{labels}}} {}", value(kept));
        });
    }
    let name = "tenon_slo_burn_rate";
    header(out, name, "How many times too fast the error budget burns, by span in seconds.");
    each(out, &|out, labels, kept| {
        let spans = kept
            .burns
            .iter()
            .flat_map(|burn| [(burn.long_s, burn.long_rate), (burn.short_s, burn.short_rate)]);
        let mut spans: Vec<(u64, f64)> = spans.collect();
        spans.sort_by_key(|(span, _)| *span);
        spans.dedup_by_key(|(span, _)| *span);
        for (span, rate) in spans {
            let _ = writeln!(out, "{name}{{{labels},span=\"{span}\"}} {rate}");
        }
    });
    let name = "tenon_slo_alert";
    header(out, name, "1 while the error budget burns so fast that somebody has to look.");
    each(out, &|out, labels, kept| {
        for severity in [Severity::Page, Severity::Ticket] {
            let is_on = kept.burns.iter().any(|burn| burn.is_on && burn.severity == severity);
            let word = severity.word();
            let _ = writeln!(out, "{name}{{{labels},severity=\"{word}\"}} {}", u8::from(is_on));
        }
    });
}

#[cfg(test)]
#[path = "slo_tests.rs"]
mod tests;
