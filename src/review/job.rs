//! `job`: how a poll's result comes about.

use std::time::Duration;

use super::{
    pen::{At, Pen, Presence},
    poll::{OTHER_RECORDS, bodies, pairs},
    rule,
    say::{self, quoted},
};
use crate::plan::{DownloadPlan, JobPlan, JobRequest, Lookup};

/// What another way of telling may do.
const WAITS: &str = "where it never holds, a run waits until `within` is over and fails";

pub(super) fn compare(
    pen: &mut Pen<'_>,
    at: &At,
    (old, new): (Option<&JobPlan>, Option<&JobPlan>),
) {
    match (old, new) {
        (None, None) => {}
        (None, Some(_)) => {
            let effect = "the request creates a job, and records are read from its result";
            pen.note(at, "poll.job", rule::JOB, "is new", effect);
        }
        (Some(_), None) => {
            let effect = "records are read from the first answer";
            pen.note(at, "poll.job", rule::JOB, "is gone", effect);
        }
        (Some(old), Some(new)) => both(pen, at, old, new),
    }
}

fn both(pen: &mut Pen<'_>, at: &At, old: &JobPlan, new: &JobPlan) {
    // What creates the job is the poll's own request.
    let JobPlan { create: _, take, status, every, done, failed, download, within } = new;
    let setting = rule::JOB_SETTING;
    let takes = (old.take.as_ref(), take.as_ref());
    pen.maybe_expr(at, "poll.job.take", Presence::all(setting), takes, |_| {
        "a job that is waited for is created anew".to_owned()
    });
    asked(pen, at, "poll.job", (&old.status, status));
    pen.expr(at, "poll.job.done", setting, (&old.done, done), WAITS);
    let conditions = (old.failed.as_ref(), failed.as_ref());
    pen.maybe_expr(at, "poll.job.failed", Presence::all(setting), conditions, |_| {
        "a job that failed is waited for until `within` is over where this does not say so"
            .to_owned()
    });
    downloads(pen, at, (old.download.as_ref(), download.as_ref()));
    let show = |time: &Duration| say::duration(*time);
    pen.value(at, "poll.job.every", setting, (&old.every, every), show, String::new);
    pen.value(at, "poll.job.within", setting, (&old.within, within), show, || {
        if *within < old.within {
            "a job that takes longer fails the run, and is created anew by the next".to_owned()
        } else {
            String::new()
        }
    });
}

fn downloads(
    pen: &mut Pen<'_>,
    at: &At,
    (old, new): (Option<&DownloadPlan>, Option<&DownloadPlan>),
) {
    let by_answer = |plan: &DownloadPlan| plan.request.by_answer || plan.lookup.is_some();
    let effect = if new.is_some_and(by_answer) && !old.is_some_and(by_answer) {
        "records are read from the address that the answer gives: firewalls have to let that through"
    } else {
        "records are read from another answer"
    };
    match (old, new) {
        (None, None) => {}
        (None, Some(new)) => {
            let what = format!("added: {}", quoted(new.request.api.url.source()));
            pen.note(at, "poll.job.download", rule::JOB_RESULT, what, effect);
        }
        (Some(old), None) => {
            let what = format!("removed: was {}", quoted(old.request.api.url.source()));
            pen.note(at, "poll.job.download", rule::JOB_RESULT, what, effect);
        }
        (Some(old), Some(new)) => {
            let DownloadPlan { request, lookup } = new;
            asked(pen, at, "poll.job.download", (&old.request, request));
            // The request for what lies there has nothing of its own.
            let url = |lookup: &Option<Lookup>| {
                lookup.as_ref().map(|Lookup { url, file: _ }| url.clone())
            };
            let (was, is) = (url(&old.lookup), url(lookup));
            let rules = Presence::all(rule::JOB_RESULT);
            let urls = (was.as_ref(), is.as_ref());
            pen.maybe_expr(at, "poll.job.download.url", rules, urls, |_| effect.to_owned());
        }
    }
}

/// A request about the job. What the source shares is told there.
fn asked(pen: &mut Pen<'_>, at: &At, key: &str, (old, new): (&JobRequest, &JobRequest)) {
    // The other forms follow from the one that the file says. Shared parameters and headers are told of
    // the poll, and so are limits and rules.
    let JobRequest { by_answer: _, api, given, foreign } = new;
    let show = |method: &http::Method| method.to_string();
    let methods = (&old.api.method, &api.method);
    let effect = || OTHER_RECORDS.to_owned();
    pen.value(at, &format!("{key}.method"), rule::JOB_REQUEST, methods, show, effect);
    let sources = (old.api.url.source(), api.url.source());
    let (was, is) = (pen.old_said(sources.0), pen.new_said(sources.1));
    if !was.same(&is) {
        let what = super::pen::changed(&was, &is);
        let path = format!("{key}.path");
        let keys = [path.as_str(), key, "poll.base"];
        pen.told_by_vars(at, &path, &keys, rule::JOB_REQUEST, sources, what, OTHER_RECORDS);
    }
    let own = ((&old.given.query, &given.query), (&old.foreign.headers, &foreign.headers));
    pairs(pen, at, key, rule::JOB_REQUEST, own);
    bodies(pen, at, key, rule::JOB_REQUEST, (old.api.body.as_ref(), api.body.as_ref()));
}
