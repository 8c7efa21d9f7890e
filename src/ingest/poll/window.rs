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

use super::cursor::{CursorValue, is_time, start, unit};

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
    let from = stored.map(|at| at.minus(plan.lookback.unwrap_or_default()));
    let next = from.or_else(|| start(plan, now)).map(|at| at.floor(&plan.format));
    let end = is_time(&plan.format).then(|| CursorValue::from_time(now));
    let steps = plan.window.filter(|_| end.is_some()).map(|window| (window.max(unit), unit));
    // A cursor ahead of our clock still reads its own place.
    let end = end.map(|end| next.clone().map_or(end.clone(), |next| next.max(end)));
    Windows { next, end, steps, done: false }
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

/// Where the cursor stands and may go.
#[derive(Debug)]
pub(super) struct Progress {
    stored: Option<CursorValue>,
    /// Of the window at hand.
    highest: Option<CursorValue>,
    /// Whether `sorted = "asc"` was kept so far.
    in_order: bool,
    /// Of the run: records that the next one will read again.
    boundary: VecDeque<(CursorValue, EventId)>,
    /// Of the run before, as stored with its cursor.
    remembered: HashSet<EventId>,
}

impl Progress {
    /// From what was stored.
    pub fn new(stored: Option<CursorValue>, remembered: HashSet<EventId>) -> Self {
        Self { stored, highest: None, in_order: true, boundary: VecDeque::new(), remembered }
    }

    /// Whether an earlier run took this very event in at its cursor.
    pub fn remembers(&self, id: EventId) -> bool {
        self.remembered.contains(&id)
    }

    /// What is left of a window that has to be read again: with `sorted = "asc"` what is behind the
    /// cursor is durable.
    pub fn rest_of(&self, plan: Option<&CursorPlan>, window: Window) -> Window {
        let Some(plan) = plan.filter(|plan| plan.sorted == Sorted::Ascending) else {
            return window;
        };
        let reached = self.stored.as_ref().map(|at| at.floor(&plan.format));
        Window { start: window.start.max(reached), ..window }
    }

    /// Where the cursor stands, once all that was observed is durable.
    pub fn cursor(&self) -> Option<&CursorValue> {
        self.stored.as_ref()
    }

    /// Begins a window.
    pub fn begin_window(&mut self) {
        self.highest = None;
    }

    /// Takes note of a record's value, in the order of the page, and of its event if it is one.
    pub fn observe(&mut self, value: CursorValue, id: Option<EventId>) {
        if self.highest.as_ref().is_some_and(|highest| value < *highest) {
            self.in_order = false;
        }
        if self.highest.as_ref().is_none_or(|highest| value > *highest) {
            self.highest = Some(value.clone());
        }
        if let Some(id) = id {
            self.boundary.push_back((value, id));
        }
    }

    /// Whether records came in the order that `sorted = "asc"` promises. Where they did not, the
    /// cursor moves only at a window's end from then on.
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
