//! What a page's last record decides: the key that the next page is asked for by, and whether
//! records that come newest first have reached the cursor. One record a page is looked at, and only
//! where the file asks for one of the two.

use std::sync::Arc;

use serde_json::Value;

use crate::{
    event::Record,
    map::Expr,
    plan::{PollPlan, Sorted},
    world::Timestamp,
};

use super::{
    PollFailure, Poller,
    cursor::CursorValue,
    explode::Explode,
    page::Pointer,
    records::Page,
    run::{Run, failed},
    store::cursor_of,
    window::{Window, remembered},
};

impl Run<'_> {
    /// The key of the page's last record, by which the next page is asked for.
    pub(super) fn last_key(
        &self,
        next: &Expr,
        page: &Page,
        bytes: usize,
        response: &Arc<Value>,
    ) -> Result<Pointer, String> {
        let last = self.last_record(page, bytes).map_err(|error| format!("next: {error}"))?;
        let Some(last) = last else { return Ok(Pointer::None) };
        let env = self.response_env(response).with_record("record", last);
        let key = next.eval(&env).map_err(|error| format!("next: {error}"))?;
        Ok(key.map_or(Pointer::None, Pointer::To))
    }

    /// Whether records that come newest first have reached behind what was asked for. Once they
    /// were out of order, an old one says nothing about those after it.
    pub(super) fn is_behind(
        &self,
        window: &Window,
        page: &Page,
        bytes: usize,
        response: &Arc<Value>,
    ) -> Result<bool, PollFailure> {
        let plan = self.poll.cursor.as_deref().filter(|plan| plan.sorted == Sorted::Descending);
        let (Some(plan), Some(start)) = (plan, &window.start) else { return Ok(false) };
        if !self.progress.in_order() {
            return Ok(false);
        }
        let env = self.response_env(response);
        let place = |record: &Record| cursor_of(plan, record, &env);
        let Some(last) = self.last_record(page, bytes).map_err(failed)? else { return Ok(false) };
        if place(&last)?.is_none_or(|at| at >= *start) {
            return Ok(false);
        }
        // A record that is pinned to the top must not end the run. This is looked at once a run.
        let mut explode = Explode::of(self.poll.records.as_ref(), &self.poller.stream);
        let mut records = Vec::new();
        for item in &page.items {
            explode.open(item.clone(), bytes, &mut records).map_err(failed)?;
        }
        let places: Vec<_> =
            records.iter().map(|it| place(&it.record)).collect::<Result<_, _>>()?;
        let places: Vec<CursorValue> = places.into_iter().flatten().collect();
        Ok(self.progress.is_in_order_after(&places))
    }

    fn last_record(
        &self,
        page: &Page,
        bytes: usize,
    ) -> Result<Option<Record>, crate::event::NotJson> {
        let Some(item) = page.items.last() else { return Ok(None) };
        let mut explode = Explode::of(self.poll.records.as_ref(), &self.poller.stream);
        let mut opened = Vec::new();
        explode.open(item.clone(), bytes, &mut opened)?;
        Ok(opened.pop().map(|opened| opened.record))
    }
}

impl Poller {
    /// Says that records are out of reach because the API remembers less than the cursor.
    pub(super) fn warn_of_gap(
        &self,
        poll: &PollPlan,
        stored: Option<&CursorValue>,
        now: Timestamp,
    ) {
        let oldest = poll.cursor.as_deref().and_then(|plan| remembered(plan, now));
        if let (Some(stored), Some(oldest)) = (stored, oldest)
            && *stored < oldest
        {
            tracing::warn!(
                connector = %self.connector.name, stream = %self.stream.name,
                cursor = stored.text(), from = oldest.text(),
                "the cursor lies before what the API remembers (cursor.oldest): records between \
                 the two cannot be read",
            );
        }
    }
}
