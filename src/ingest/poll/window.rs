//! Which windows a run reads, and where the cursor stands after each page: pure.
//!
//! Windows follow one another without a gap: both ends are inclusive, and the next begins one unit
//! of the format after the last. The cursor never moves backwards, never past now, and never past
//! what is durable: this file only says where it *may* stand once a page is.

use std::collections::{HashSet, VecDeque};

use crate::{
    event::EventId,
    plan::{CursorPlan, Sorted},
    world::Timestamp,
};

use super::cursor::{CursorValue, bound, is_time, unit};

/// How many ids are kept of records at the cursor. They exist so that such records, which every
/// run reads again, stay duplicates after their claims have expired; more than these rely on the
/// claims alone.
const MAX_BOUNDARY_IDS: usize = 1024;

/// What one series of pages covers; both ends inclusive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// `None`: from the beginning.
    pub start: Option<CursorValue>,
    /// `None`: the format knows no now.
    pub end: Option<CursorValue>,
    /// Whether it ends now, so that more may still come into it.
    pub last: bool,
}

/// The windows of a run, oldest first; without a `cursor` one that is open at both ends.
pub(super) fn windows(
    plan: Option<&CursorPlan>,
    stored: Option<&CursorValue>,
    now: Timestamp,
) -> Windows {
    let Some(plan) = plan else {
        return Windows { next: None, end: None, steps: None, done: false };
    };
    let unit = unit(&plan.format);
    let until = plan.until.as_ref().and_then(|until| bound(plan, until, now));
    if let (Some(stored), Some(until)) = (stored, &until)
        && stored >= until
    {
        return Windows { next: None, end: None, steps: None, done: true };
    }
    let from = stored.map(|at| at.minus(plan.lookback.unwrap_or_default()));
    let start = || plan.start.as_ref().and_then(|start| bound(plan, start, now));
    let next = from.or_else(start).map(|at| at.floor(&plan.format));
    let next = next.max(remembered(plan, now));
    let end = is_time(&plan.format).then(|| CursorValue::from_time(now));
    let end = match (end, until) {
        (Some(end), Some(until)) => Some(end.min(until)),
        (end, until) => end.or(until),
    };
    let steps = plan.window.filter(|_| end.is_some()).map(|window| (window.max(unit), unit));
    // A cursor ahead of our clock still reads its own place.
    let end = end.map(|end| next.clone().map_or(end.clone(), |next| next.max(end)));
    Windows { next, end, steps, done: false }
}

/// What the API still remembers, in whole units: it may refuse anything before.
pub(super) fn remembered(plan: &CursorPlan, now: Timestamp) -> Option<CursorValue> {
    let oldest = plan.oldest.filter(|_| is_time(&plan.format))?;
    Some(CursorValue::from_time(now.minus(oldest)).ceil(&plan.format))
}

/// See [`windows`].
#[derive(Clone, Debug)]
pub(super) struct Windows {
    next: Option<CursorValue>,
    end: Option<CursorValue>,
    /// Length of a window and unit of the format.
    steps: Option<(std::time::Duration, std::time::Duration)>,
    done: bool,
}

impl std::fmt::Display for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |end: &Option<CursorValue>| {
            end.as_ref().map_or_else(|| "…".to_owned(), CursorValue::text)
        };
        write!(f, "{} to {}", text(&self.start), text(&self.end))
    }
}

impl Window {
    /// Without any bound.
    pub fn open() -> Self {
        Self { start: None, end: None, last: true }
    }
}

impl Iterator for Windows {
    type Item = Window;

    fn next(&mut self) -> Option<Window> {
        if self.done {
            return None;
        }
        if let (Some((length, unit)), Some(start), Some(end)) = (self.steps, &self.next, &self.end)
        {
            let following = start.plus(length);
            if following <= *end {
                let window = Window {
                    start: Some(start.clone()),
                    end: Some(following.minus(unit)),
                    last: false,
                };
                self.next = Some(following);
                return Some(window);
            }
        }
        self.done = true;
        Some(Window { start: self.next.clone(), end: self.end.clone(), last: true })
    }
}

/// Why a window that the API does not give to its end cannot be read on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shallow {
    /// Records are not in the order that `sorted` says.
    Disorder,
    /// All that the API gave share one value.
    Stuck(String),
}

impl std::fmt::Display for Shallow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Disorder => f.write_str(
                "page.max: the records are not in the order that `sorted` says, so what lies \
                 beyond cannot be asked for",
            ),
            Self::Stuck(value) => write!(
                f,
                "page.max: as many records as the API gives share the cursor value {value}, so \
                 what lies beyond cannot be asked for"
            ),
        }
    }
}

/// Where the cursor stands and may go.
#[derive(Debug)]
pub(super) struct Progress {
    stored: Option<CursorValue>,
    /// Of the window at hand.
    highest: Option<CursorValue>,
    /// In which order records come.
    sorted: Sorted,
    /// How far the order has led since the last request that began anew.
    edge: Option<CursorValue>,
    /// Whether that order was kept so far.
    in_order: bool,
    /// Of the run: records that the next one will read again.
    boundary: VecDeque<(CursorValue, EventId)>,
    /// Of the run before, as stored with its cursor.
    remembered: HashSet<EventId>,
}

impl Progress {
    /// From what was stored.
    pub fn new(stored: Option<CursorValue>, remembered: HashSet<EventId>) -> Self {
        Self {
            stored,
            highest: None,
            sorted: Sorted::No,
            edge: None,
            in_order: true,
            boundary: VecDeque::new(),
            remembered,
        }
    }

    /// The same over records in this order.
    pub fn sorted(self, sorted: Sorted) -> Self {
        Self { sorted, ..self }
    }

    /// Whether an earlier run took this very event in at its cursor.
    pub fn remembers(&self, id: EventId) -> bool {
        self.remembered.contains(&id)
    }

    /// The window to read again after a rule said so: with `sorted = "asc"` what was read of it is
    /// durable.
    pub fn again(&mut self, plan: Option<&CursorPlan>, window: Window) -> Window {
        self.edge = None;
        let Some(plan) = plan.filter(|_| self.sorted == Sorted::Ascending && self.in_order) else {
            return window;
        };
        let reached = self.highest.as_ref().map(|at| at.floor(&plan.format));
        Window { start: window.start.max(reached), ..window }
    }

    /// What is left of a window of which the API gives no more, though there is more.
    pub fn deeper(&mut self, plan: &CursorPlan, window: &Window) -> Result<Window, Shallow> {
        if !self.in_order {
            return Err(Shallow::Disorder);
        }
        let edge = self.edge.take();
        let text = edge.as_ref().map_or_else(String::new, CursorValue::text);
        let next = if self.sorted == Sorted::Descending {
            let end = edge.map(|at| at.ceil(&plan.format));
            let moved = end.is_some() && (window.end.is_none() || end < window.end);
            moved.then(|| Window { end, ..window.clone() })
        } else {
            let start = edge.map(|at| at.floor(&plan.format));
            (start > window.start).then(|| Window { start, ..window.clone() })
        };
        next.ok_or(Shallow::Stuck(text))
    }

    /// Where the cursor stands, once all that was observed is durable.
    pub fn cursor(&self) -> Option<&CursorValue> {
        self.stored.as_ref()
    }

    /// Begins a window.
    pub fn begin_window(&mut self) {
        self.highest = None;
        self.edge = None;
    }

    /// Takes note of a record's value, in the order of the page, and of its event if it is one.
    pub fn observe(&mut self, value: CursorValue, id: Option<EventId>) {
        self.keep_order(&value);
        if self.highest.as_ref().is_none_or(|highest| value > *highest) {
            self.highest = Some(value.clone());
        }
        if let Some(id) = id {
            self.boundary.push_back((value, id));
            // A page that is read as it comes in has no end.
            if self.boundary.len() > 2 * MAX_BOUNDARY_IDS {
                self.keep_highest();
            }
        }
    }

    /// Whether records from the newest to the oldest would keep the order.
    pub fn is_in_order_after(&self, values: &[CursorValue]) -> bool {
        let joins =
            self.edge.as_ref().zip(values.first()).is_none_or(|(edge, first)| first <= edge);
        joins && values.is_sorted_by(|newer, older| newer >= older)
    }

    fn keep_order(&mut self, value: &CursorValue) {
        let broken = match (self.sorted, &self.edge) {
            (Sorted::No, _) => return,
            (_, None) => false,
            (Sorted::Ascending, Some(edge)) => value < edge,
            (Sorted::Descending, Some(edge)) => value > edge,
        };
        if broken {
            self.in_order = false;
        } else if self.edge.as_ref() != Some(value) {
            self.edge = Some(value.clone());
        }
    }

    /// Whether records came in the order that `sorted` promises. Where they did not, the cursor
    /// moves only at a window's end from then on, and no page ends a run early.
    pub fn in_order(&self) -> bool {
        self.in_order
    }

    /// Moves the cursor to where it may stand once the page just observed is durable. `began` is
    /// when the run began, `now` when the page came.
    pub fn after_page(
        &mut self,
        plan: &CursorPlan,
        window: &Window,
        window_done: bool,
        (began, now): (Timestamp, Timestamp),
    ) {
        let ascending = plan.sorted == Sorted::Ascending && self.in_order && plan.field.is_some();
        // A record dated in the future must not carry the cursor over what is still to come. And
        // where records come in any order, what changed behind the reader's back since the run
        // began must still lie ahead of the cursor.
        let latest = CursorValue::from_time(if ascending { now } else { began });
        let clip = |at: CursorValue| if is_time(&plan.format) { at.min(latest) } else { at };
        let candidate = if window_done {
            self.after_window(plan, window).map(clip)
        } else if ascending {
            self.highest.clone().map(clip)
        } else {
            None
        };
        if candidate > self.stored {
            self.stored = candidate;
        }
        self.forget_far(plan, &CursorValue::from_time(began));
    }

    fn after_window(&self, plan: &CursorPlan, window: &Window) -> Option<CursorValue> {
        match (&plan.field, window.last) {
            // Everything up to the end was asked for and read, whether or not there was anything.
            (Some(_), false) => window.end.clone(),
            (Some(_), true) => self.highest.clone(),
            (None, false) => window.end.as_ref().map(|end| end.plus(unit(&plan.format))),
            // The unit that now is in is not over: it is read again.
            (None, true) => window.end.as_ref().map(|end| end.floor(&plan.format)),
        }
    }

    /// Drops ids that no later request reaches, and the oldest beyond the limit.
    fn forget_far(&mut self, plan: &CursorPlan, began: &CursorValue) {
        let Some(highest) = &self.highest else { return };
        let cursor = if is_time(&plan.format) { highest.min(began) } else { highest };
        let reach = cursor.minus(plan.lookback.unwrap_or_default()).floor(&plan.format);
        self.boundary.retain(|(value, _)| *value >= reach);
        self.keep_highest();
    }

    fn keep_highest(&mut self) {
        if self.boundary.len() > MAX_BOUNDARY_IDS {
            self.boundary.make_contiguous().sort();
            self.boundary.drain(..self.boundary.len() - MAX_BOUNDARY_IDS);
        }
    }

    /// The ids to store with the cursor.
    pub fn boundary(&self) -> Vec<EventId> {
        self.boundary.iter().map(|(_, id)| *id).collect()
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
