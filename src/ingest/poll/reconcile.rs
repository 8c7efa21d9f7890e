//! A poll over what the live one has passed: what it finds there, neither a webhook nor the live poll
//! has brought.
//!
//! It ends where the live cursor stands, since whatever is behind that is still to be read by the live
//! poll. As a backfill it has the stream's own requests, rules and ids, and remembers aside. Without a
//! cursor it is the plain poll, asked without a condition.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    bus::Aside,
    plan::{CursorStart, Reach},
    world::Timestamp,
};

use super::{
    Poller,
    backfill::{before, between},
    cursor::{CursorValue, bound, is_time},
};

/// A pause that is shorter moves nothing: claims outlast a window by an hour.
const PAUSE: Duration = Duration::from_mins(30);

/// What a reconciliation reads, as it is stored: values of the cursor as text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// Where it begins; `None`: at the very beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Where it ends, included; `None`: it reads all that a first run would.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// What there is to read again at `now`. `None`: nothing, since the live poll has passed nothing that
/// reaches so far.
pub fn reconciliation_range(live: &Poller, reach: Reach, now: Timestamp) -> Option<Range> {
    let Some(plan) = live.stream.poll.as_ref().and_then(|poll| poll.cursor.as_ref()) else {
        return Some(Range::default());
    };
    let from = match reach {
        Reach::Window(window) => Some(CursorValue::from_time(now.minus(window))),
        Reach::Full => plan.start.as_ref().and_then(|start| bound(plan, start, now)),
    };
    let has_partitions = live.stream.poll.as_ref().is_some_and(|poll| !poll.each.is_empty());
    let until = if has_partitions {
        // Each partition has a cursor of its own.
        if !is_time(&plan.format) {
            return Some(Range::default());
        }
        CursorValue::from_time(now)
    } else {
        let passed = live.stored_at(&live.cursor_key()).ok()?.cursor?;
        before(plan, &passed)?
    };
    if from.as_ref().is_some_and(|from| *from > until) {
        return None;
    }
    Some(Range { from: from.map(|from| from.text()), until: Some(until.text()) })
}

/// The same range for one that goes on after a pause: what has grown too old for the reach meanwhile is
/// left out, since its claims may have ended. `None`: it is as good as before. Whether its place, which
/// lies in what is left out, is to be forgotten.
pub fn reconciliation_rest(
    live: &Poller,
    reach: Reach,
    range: &Range,
    now: Timestamp,
) -> Option<(Range, bool)> {
    let poll = live.stream.poll.as_ref()?;
    let plan = poll.cursor.as_ref().filter(|plan| is_time(&plan.format))?;
    let span = match (reach, &plan.start) {
        (Reach::Window(span), _) => span,
        (Reach::Full, Some(CursorStart::Ago(span))) => *span,
        (Reach::Full, _) => return None,
    };
    let literal = CursorStart::Literal(range.from.clone()?);
    let from = bound(plan, &literal, now)?;
    let oldest = CursorValue::from_time(now.minus(span));
    if from.plus(PAUSE) >= oldest {
        return None;
    }
    let aside = Aside::reconciling(Arc::clone(&live.bus), &live.connector.name, &live.stream.name);
    let place = Poller { bus: aside, ..live.clone() }.stored_at(&live.cursor_key());
    let is_before = place.ok().and_then(|place| place.cursor).is_none_or(|at| at < oldest);
    Some((Range { from: Some(oldest.text()), ..range.clone() }, is_before))
}

/// What reads a range of `live`, and where it remembers how far it is. Errors: the stream's cursor has
/// become another one since the range was made.
pub fn reconciliation(
    live: &Poller,
    range: &Range,
    now: Timestamp,
) -> Result<(Poller, Arc<Aside>), String> {
    let (connector, stream) = (&live.connector.name, &live.stream.name);
    let aside = Aside::reconciling(Arc::clone(&live.bus), connector, stream);
    let poll = live.stream.poll.as_ref().ok_or_else(|| format!("`{stream}` has no poll"))?;
    let (Some(cursor), Some(until)) = (&poll.cursor, &range.until) else {
        let poller = Poller { bus: Arc::clone(&aside) as _, ..live.clone() };
        return Ok((poller, aside));
    };
    let value = |text: &String| {
        bound(cursor, &CursorStart::Literal(text.clone()), now)
            .ok_or_else(|| format!("`{text}` is no value of the cursor of `{stream}`"))
    };
    let from = range.from.as_ref().map(value).transpose()?;
    let until = value(until)?;
    Ok((between(live, poll, cursor, (from.as_ref(), &until), &aside), aside))
}
