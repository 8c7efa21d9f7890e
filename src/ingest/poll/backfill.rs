//! A poll over a range of its cursor, beside the live one.
//!
//! It is the stream's own poll with other ends: the same requests, windows, rules, names and so the
//! same ids and idempotency keys. What it remembers lies aside, so it neither sees nor moves the
//! live cursor, and goes on where it was after a restart.

use std::{sync::Arc, time::Duration};

use crate::{
    bus::Aside,
    map::Expr,
    plan::{CursorPlan, CursorStart, PollPlan, StreamPlan},
    world::Timestamp,
};

use super::{
    Poller,
    cursor::{CursorValue, bound, is_time, unit},
    stored::{cursor_key, cursor_text},
};

/// Into so many windows a range is cut where the file says nothing of windows: a restart costs one.
const WINDOWS: u32 = 20;

/// A range of a stream's cursor, and what walks it.
pub struct Backfill {
    /// Reads the range.
    pub poller: Poller,
    /// What it remembers.
    pub aside: Arc<Aside>,
    from: CursorValue,
    until: CursorValue,
}

impl Backfill {
    /// The poll of `live` from `from`, included, to `to`, which is not. Both are values of the cursor
    /// as a connector file would write them. Errors: why there is no such range, for a person.
    pub fn new(live: &Poller, from: &str, to: &str, now: Timestamp) -> Result<Self, String> {
        let name = &live.stream.name;
        let Some(poll) = &live.stream.poll else {
            return Err(format!("the stream `{name}` has no poll"));
        };
        let Some(cursor) = &poll.cursor else {
            return Err(format!(
                "the stream `{name}` has no cursor, so every run reads everything there is"
            ));
        };
        let value = |flag: &str, text: &str| {
            let literal = CursorStart::Literal(text.to_owned());
            let what = if is_time(&cursor.format) {
                "a time: `-90d`, a date, or RFC 3339"
            } else {
                "a number"
            };
            bound(cursor, &literal, now).ok_or_else(|| {
                format!("{flag}: `{text}` is no value of the cursor of `{name}`: expected {what}")
            })
        };
        let (from, to) = (value("--from", from)?, value("--to", to)?);
        let until = before(cursor, &to).filter(|until| *until >= from);
        let until = until.ok_or_else(|| "--from must be before --to".to_owned())?;
        let aside = Aside::of(Arc::clone(&live.bus), &live.connector.name, name);
        let poller = between(live, poll, cursor, (Some(&from), &until), &aside);
        Ok(Self { poller, aside, from, until })
    }

    /// How far it is: where it stands, and which share of the range that is. `None` while nothing is
    /// durable, and for a range that is walked by partitions.
    pub fn position(&self) -> Option<(String, Option<f64>)> {
        let key = cursor_key(&self.poller.connector.name, &self.poller.stream.name);
        let bytes = self.poller.bus.state(&key)?;
        let at = super::stored::Stored::decode(&bytes).ok()?.cursor?;
        let text = cursor_text(&bytes).ok()??;
        Some((text, at.share_of(&self.from, &self.until)))
    }
}

/// The poll of `live` from one value, or from the beginning, to another, both included, with what it
/// remembers aside.
pub(super) fn between(
    live: &Poller,
    poll: &PollPlan,
    cursor: &CursorPlan,
    (from, until): (Option<&CursorValue>, &CursorValue),
    aside: &Arc<Aside>,
) -> Poller {
    let cursor = CursorPlan {
        start: from.map(|from| CursorStart::Literal(from.text())),
        until: Some(CursorStart::Literal(until.text())),
        window: cursor.window.or_else(|| window(poll, cursor, from?, until)),
        lookback: None,
        // What the API gives from outside of the range belongs to the live cursor.
        filter: cursor.field.is_some(),
        ..cursor.clone()
    };
    let poll = PollPlan { cursor: Some(Box::new(cursor)), ..PollPlan::clone(poll) };
    let stream = StreamPlan { poll: Some(Arc::new(poll)), ..StreamPlan::clone(&live.stream) };
    Poller { stream: Arc::new(stream), bus: Arc::clone(aside) as _, ..live.clone() }
}

/// The last value before `to`; texts have none, so for them `to` itself.
pub(super) fn before(cursor: &CursorPlan, to: &CursorValue) -> Option<CursorValue> {
    match to {
        CursorValue::Instant(_) => Some(to.ceil(&cursor.format).minus(unit(&cursor.format))),
        CursorValue::Integer(number) => number.checked_sub(1).map(CursorValue::Integer),
        CursorValue::Text(_) => Some(to.clone()),
    }
}

/// A window for a range, where the API is told both ends. A job survives a restart as a whole, so there
/// each window would only be one job more.
fn window(
    poll: &PollPlan,
    cursor: &CursorPlan,
    from: &CursorValue,
    until: &CursorValue,
) -> Option<Duration> {
    let sent = |param: &Option<String>, member: &str| {
        param.is_some() || poll.request_exprs().into_iter().any(|expr| names_window(expr, member))
    };
    if poll.job.is_some()
        || !is_time(&cursor.format)
        || !sent(&cursor.start_param, "start")
        || !sent(&cursor.end_param, "end")
    {
        return None;
    }
    let span = until.since(from)? / WINDOWS;
    Some(span.max(unit(&cursor.format)))
}

fn names_window(expr: &Expr, member: &str) -> bool {
    expr.uses()
        .into_iter()
        .any(|(name, used)| name == "window" && used.is_none_or(|used| used == member))
}
