//! `batch` of a destination: whether events share requests, how many, and how each is judged.

use std::time::Duration;

use super::{
    pen::{At, Pen, Presence},
    rule, say,
};
use crate::plan::{BatchPlan, ResultsPlan};

pub(super) fn compare(
    pen: &mut Pen<'_>,
    at: &At,
    old: Option<&BatchPlan>,
    new: Option<&BatchPlan>,
) {
    match (old, new) {
        (None, None) => {}
        (None, Some(new)) => {
            let what = format!("is new: up to {} events a request", new.max);
            let effect = "the receiver has to take a list; idempotency keys follow from the batch, so \
                          what is attempted again right after the change may be written twice";
            pen.note(at, "batch", rule::BATCH_ADDED, what, effect);
        }
        (Some(_), None) => {
            let effect = "the receiver gets one event a request again, under the event's own \
                          idempotency key";
            pen.note(at, "batch", rule::BATCH_REMOVED, "is gone", effect);
        }
        (Some(old), Some(new)) => settings(pen, at, old, new),
    }
}

fn settings(pen: &mut Pen<'_>, at: &At, old: &BatchPlan, new: &BatchPlan) {
    let BatchPlan { max, within, max_bytes, results } = new;
    let size = rule::BATCH_SIZE;
    let show = |max: &usize| max.to_string();
    pen.value(at, "batch.max", size, (&old.max, max), show, String::new);
    let show = |within: &Duration| say::duration(*within);
    pen.value(at, "batch.within", size, (&old.within, within), show, || {
        "the first event of a batch waits so long for others".to_owned()
    });
    let show = |bytes: &usize| say::bytes(*bytes as u64);
    pen.value(at, "batch.max_bytes", size, (&old.max_bytes, max_bytes), show, String::new);
    let rules = Presence::all(rule::BATCH_RESULTS);
    let list = |plan: &Option<ResultsPlan>| plan.as_ref().map(|plan| plan.list.clone());
    let by = |plan: &Option<ResultsPlan>| plan.as_ref().and_then(|plan| plan.by.clone());
    let ok = |plan: &Option<ResultsPlan>| plan.as_ref().and_then(|plan| plan.ok.clone());
    let (was, is) = (list(&old.results), list(results));
    pen.maybe_expr(at, "batch.results", rules, (was.as_ref(), is.as_ref()), |_| {
        "an event without a result there is attempted again; without `results` the status of the \
         whole request counts"
            .to_owned()
    });
    let (was, is) = (by(&old.results), by(results));
    pen.maybe_expr(at, "batch.by", rules, (was.as_ref(), is.as_ref()), |_| {
        "a result that belongs to no event is not looked at".to_owned()
    });
    let (was, is) = (ok(&old.results), ok(results));
    pen.maybe_expr(at, "batch.ok", rules, (was.as_ref(), is.as_ref()), |_| {
        "other events count as delivered".to_owned()
    });
}
