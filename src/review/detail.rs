//! `detail`: what more is asked for each record.

use super::{
    pen::{At, Pen},
    rule,
    say::quoted,
};
use crate::plan::DetailPlan;

pub(super) fn compare(pen: &mut Pen<'_>, at: &At, old: &[DetailPlan], new: &[DetailPlan]) {
    for detail in old.iter().filter(|detail| find(new, detail).is_none()) {
        let effect = match &detail.name {
            Some(name) => format!("`with.{name}` is no longer there"),
            None => "the record is the listed one again".to_owned(),
        };
        pen.note(at, "poll.detail", rule::DETAIL, format!("{} is gone", said(detail)), effect);
    }
    for detail in new {
        match (find(old, detail), &detail.name) {
            (Some(old), _) => request(pen, at, old, detail),
            (None, Some(name)) => {
                let effect = format!("map sees it as `with.{name}`; one request more a record");
                let what = format!("{} is new", said(detail));
                pen.note(at, "poll.detail", rule::DETAIL_ADDED, what, effect);
            }
            (None, None) => {
                let effect = "the record is the answer, the listed one is `up`";
                let what = format!("{} is new", said(detail));
                pen.note(at, "poll.detail", rule::DETAIL, what, effect);
            }
        }
    }
}

fn find<'p>(details: &'p [DetailPlan], like: &DetailPlan) -> Option<&'p DetailPlan> {
    details.iter().find(|detail| detail.name == like.name)
}

fn said(detail: &DetailPlan) -> String {
    match &detail.name {
        Some(name) => format!("the detail {}", quoted(name)),
        None => "the record's detail".to_owned(),
    }
}

fn request(pen: &mut Pen<'_>, at: &At, old: &DetailPlan, new: &DetailPlan) {
    let DetailPlan { name: _, poll } = new;
    let asked = |plan: &DetailPlan| {
        let exprs = plan.poll.request_exprs().into_iter().map(|expr| expr.source().to_owned());
        let names = plan.poll.query.iter().map(|(name, _)| name.clone());
        let record = plan.poll.records.as_ref().map(|record| record.path.source().to_owned());
        (exprs.collect::<Vec<_>>(), names.collect::<Vec<_>>(), record)
    };
    if asked(old) != asked(new) {
        let what = format!("{} is asked for at {}", said(new), quoted(poll.url.source()));
        let effect = "the API may answer with another document";
        pen.note(at, "poll.detail", rule::DETAIL_REQUEST, what, effect);
    }
}
