//! Polls: where and what is asked, where the records stand in the answer, how pages follow.

use std::time::Duration;

use http::Method;

use super::{
    cursor,
    destination::credentials,
    detail, each,
    fields::{self, Shape},
    job,
    pen::{At, Pen, Presence, changed},
    rule::{self, Rule},
    said::Renames,
    say::{self, quoted},
};
use crate::{
    map::Expr,
    plan::{PageBy, PagePlan, PollPlan, Rate, RecordsPlan, RequestBody, RulePlan, StreamPlan},
};

/// What another request may do.
pub(super) const OTHER_RECORDS: &str = "the API may answer with other records";
/// What another way of reading an answer may do.
const DECODED: &str = "records may come out with other fields";

pub(super) fn compare(
    pen: &mut Pen<'_>,
    at: &At,
    (old, new): (Option<&PollPlan>, Option<&PollPlan>),
    stream: &StreamPlan,
    renames: &Renames,
) {
    match (old, new) {
        (None, None) => {}
        (None, Some(new)) => {
            let begins = match &new.cursor {
                Some(cursor) => cursor::begins(cursor),
                None => "every run reads everything".to_owned(),
            };
            pen.note(at, "poll", rule::POLL_ADDED, "is new", begins);
        }
        (Some(_), None) => {
            let effect = if stream.webhook.is_some() {
                "what webhooks miss is no longer found"
            } else {
                "its records are no longer read"
            };
            pen.note(at, "poll", rule::POLL_REMOVED, "is gone", effect);
        }
        (Some(old), Some(new)) => polls(pen, at, old, new, stream, renames),
    }
}

fn polls(
    pen: &mut Pen<'_>,
    at: &At,
    old: &PollPlan,
    new: &PollPlan,
    stream: &StreamPlan,
    renames: &Renames,
) {
    let PollPlan {
        method,
        url,
        query,
        headers,
        body,
        auth,
        records,
        each,
        detail,
        job,
        decode,
        page,
        cursor,
        on,
        timeout,
        max_response_bytes,
        rate,
        concurrency,
    } = new;
    let show = |method: &Method| method.to_string();
    let rule = rule::POLL_REQUEST;
    pen.value(at, "poll.method", rule, (&old.method, method), show, || OTHER_RECORDS.into());
    urls(pen, at, (&old.url, url), new.cursor.is_some());
    pairs(pen, at, "poll", rule, ((&old.query, query), (&old.headers, headers)));
    bodies(pen, at, "poll", rule, (old.body.as_ref(), body.as_ref()));
    let (was, is) = (renames.auth(old.auth.as_deref()), auth.as_deref());
    pen.value(
        at,
        "poll.auth",
        rule::POLL_AUTH,
        (&was, &is),
        |name| credentials(*name),
        || {
            "the API may show other records to them; if it refuses them, the poll is parked"
                .to_owned()
        },
    );
    records_of(pen, at, (old.records.as_ref(), records.as_ref()));
    each::compare(pen, at, &old.each, each);
    detail::compare(pen, at, &old.detail, detail);
    job::compare(pen, at, (old.job.as_deref(), job.as_deref()));
    let keys = ["poll.decode", "poll.csv"];
    if old.decode != *decode {
        let what = format!("{} → {decode}", old.decode);
        pen.note_at(at, "poll.decode", &keys, rule::RECORDS, what, DECODED);
    }
    pages(pen, at, &old.page, page);
    cursor::compare(pen, at, (old.cursor.as_deref(), cursor.as_deref()), stream);
    responses(pen, at, (&old.on, on));
    let limits = rule::POLL_LIMIT;
    let show = |timeout: &Duration| say::duration(*timeout);
    pen.value(at, "poll.timeout", limits, (&old.timeout, timeout), show, String::new);
    let show = |bytes: &usize| say::bytes(*bytes as u64);
    let bytes = (&old.max_response_bytes, max_response_bytes);
    pen.value(at, "poll.max_response", limits, bytes, show, String::new);
    let show = |rate: &Vec<Rate>| say::rates(rate);
    pen.value(at, "poll.rate", limits, (&old.rate, rate), show, String::new);
    let show = |count: &usize| count.to_string();
    pen.value(at, "poll.concurrency", limits, (&old.concurrency, concurrency), show, String::new);
}

fn urls(pen: &mut Pen<'_>, at: &At, (old, new): (&Expr, &Expr), has_cursor: bool) {
    let sources = (old.source(), new.source());
    let (was, is) = (pen.old_said(sources.0), pen.new_said(sources.1));
    if was.same(&is) {
        return;
    }
    let effect = if has_cursor {
        "the cursor stays where it is: what the new address has from before it is not read"
    } else {
        "records are read there from now on"
    };
    // The line that differs is the one to show.
    let own = ["poll.path", "poll.base"];
    let (old_path, new_path) = (pen.old.places, pen.new.places);
    let path_differs = own.iter().any(|key| {
        let line = |places: &super::places::Places, table: &str| {
            places.find(&[format!("{table}.{key}")]).filter(|spot| spot.is_exact)
        };
        line(old_path, &at.old).map(|s| s.text) != line(new_path, &at.new).map(|s| s.text)
    });
    let keys: &[&str] =
        if path_differs { &["poll.path", "poll.base"] } else { &["poll.base", "poll.path"] };
    let what = changed(&was, &is);
    pen.told_by_vars(at, "poll.path", keys, rule::POLL_URL, sources, what, effect);
}

/// Parameters and headers, whatever their order.
type PairsOf<'p> = (&'p Vec<(String, Expr)>, &'p Vec<(String, Expr)>);

/// The parameters and headers of a request whose keys stand under `key`.
pub(super) fn pairs(
    pen: &mut Pen<'_>,
    at: &At,
    key: &str,
    rule: Rule,
    (query, headers): (PairsOf<'_>, PairsOf<'_>),
) {
    let rules = Presence::all(rule);
    let (was, is) = (query.0.as_slice(), query.1.as_slice());
    pen.pairs(at, &format!("{key}.query"), rules, (was, is), |a, b| a == b, OTHER_RECORDS);
    let (was, is) = (headers.0.as_slice(), headers.1.as_slice());
    let same = str::eq_ignore_ascii_case;
    pen.pairs(at, &format!("{key}.headers"), rules, (was, is), same, OTHER_RECORDS);
}

/// The body of a request whose keys stand under `key`.
pub(super) fn bodies(
    pen: &mut Pen<'_>,
    at: &At,
    key: &str,
    rule: Rule,
    (old, new): (Option<&RequestBody>, Option<&RequestBody>),
) {
    let (body, form) = (format!("{key}.body"), format!("{key}.form"));
    match (old, new) {
        (None, None) => {}
        (Some(RequestBody::Form(old)), Some(RequestBody::Form(new))) => {
            let forms = (old.as_slice(), new.as_slice());
            pen.pairs(at, &form, Presence::all(rule), forms, |a, b| a == b, OTHER_RECORDS);
        }
        (Some(RequestBody::Json(old)), Some(RequestBody::Json(new))) => {
            let (old, new) = (Shape::of(old), Shape::of(new));
            for (path, was, is) in fields::differences(pen, (&old, &new)) {
                let what = match (was, is) {
                    (Some(was), Some(is)) => format!("changed from {was} to {is}"),
                    (None, Some(is)) => format!("added: {is}"),
                    (Some(was), None) => format!("removed: was {was}"),
                    (None, None) => continue,
                };
                pen.note(at, &format!("{body}.{path}"), rule, what, OTHER_RECORDS);
            }
        }
        (Some(RequestBody::Text(old)), Some(RequestBody::Text(new))) => {
            pen.expr(at, &body, rule, (old, new), OTHER_RECORDS);
        }
        (old, new) => {
            let word = |body: Option<&RequestBody>| match body {
                None => "none",
                Some(RequestBody::Text(_)) => "a text",
                Some(RequestBody::Json(_)) => "a JSON document",
                Some(RequestBody::Form(_)) => "a form",
            };
            let what = format!("{} → {}", word(old), word(new));
            pen.note_at(at, &body, &[&body, &form], rule, what, OTHER_RECORDS);
        }
    }
}

fn records_of(
    pen: &mut Pen<'_>,
    at: &At,
    (old, new): (Option<&RecordsPlan>, Option<&RecordsPlan>),
) {
    let expr = |records: Option<&RecordsPlan>| {
        // What must exist and what may be empty follows from the path.
        records.map(|RecordsPlan { path, prefix: _, optional: _, levels: _ }| path.clone())
    };
    let (was, is) = (expr(old), expr(new));
    let rules = Presence::all(rule::RECORDS);
    pen.maybe_expr(at, "poll.records", rules, (was.as_ref(), is.as_ref()), |_| {
        "if nothing stands there, the run fails and the cursor stays".to_owned()
    });
}

fn pages(pen: &mut Pen<'_>, at: &At, old: &PagePlan, new: &PagePlan) {
    let PagePlan { by, size, size_param, stop, max } = new;
    let show =
        |size: &Option<u64>| size.map_or_else(|| "the API's own".to_owned(), |n| n.to_string());
    pen.value(at, "poll.page.size", rule::PAGE_SIZE, (&old.size, size), show, || {
        match (old.size, size) {
            (Some(old), Some(new)) if *new < old => "more requests for the same records".to_owned(),
            (Some(_), Some(_)) => {
                "fewer requests for the same records, if the API allows it".to_owned()
            }
            _ => String::new(),
        }
    });
    let setting = rule::PAGE_SETTING;
    let params = (&old.size_param, size_param);
    pen.value(
        at,
        "poll.page.size_param",
        setting,
        params,
        |name| param(name.as_deref()),
        String::new,
    );
    let stops = (old.stop.as_ref(), stop.as_ref());
    pen.maybe_expr(at, "poll.page.stop", Presence::all(setting), stops, |_| {
        "paging may end earlier or later; the default is an empty page".to_owned()
    });
    let show = |max: &Option<u64>| max.map_or_else(|| "none".to_owned(), |max| max.to_string());
    pen.value(at, "poll.page.max", setting, (&old.max, max), show, || {
        "after so many records a window begins anew at the cursor".to_owned()
    });
    by_what(pen, at, (&old.by, by));
}

/// Rules are compared as they read: their order matters, since the first that fits decides.
fn responses(pen: &mut Pen<'_>, at: &At, (old, new): (&[RulePlan], &[RulePlan])) {
    let text =
        |rules: &[RulePlan]| -> Vec<String> { rules.iter().map(RulePlan::to_string).collect() };
    let (was, is) = (text(old), text(new));
    let same = was.len() == is.len() && was.iter().zip(&is).all(|(was, is)| pen.same(was, is));
    if same {
        return;
    }
    let gives_up = |rule: &&RulePlan| rule.gives_up() && !was.contains(&rule.to_string());
    if let Some(rule) = new.iter().find(gives_up) {
        let what = format!("added: {}", quoted(&rule.to_string()));
        pen.note(
            at,
            "poll.on",
            rule::POLL_GIVES_UP,
            what,
            "the records of such answers are not read",
        );
        return;
    }
    let show = |rules: &[String]| match rules {
        [] => "none".to_owned(),
        rules => rules.iter().map(|rule| quoted(rule)).collect::<Vec<_>>().join(", "),
    };
    let what = format!("{} → {}", show(&was), show(&is));
    pen.note(
        at,
        "poll.on",
        rule::POLL_RULE,
        what,
        "what no rule is for means what the defaults say",
    );
}

fn param(name: Option<&str>) -> String {
    name.map_or_else(|| "none".to_owned(), |name| format!("`{name}`"))
}

fn by_what(pen: &mut Pen<'_>, at: &At, (old, new): (&PageBy, &PageBy)) {
    let setting = rule::PAGE_SETTING;
    match (old, new) {
        (PageBy::None, PageBy::None) | (PageBy::Link, PageBy::Link) => {}
        (
            PageBy::Page { param: old_param, first: old_first },
            PageBy::Page { param: new_param, first },
        ) => {
            let params = (old_param, new_param);
            let show = |name: &Option<String>| param(name.as_deref());
            pen.value(at, "poll.page.param", setting, params, show, String::new);
            let show = |first: &i64| first.to_string();
            pen.value(at, "poll.page.first", setting, (old_first, first), show, || {
                "pages before it are not asked for".to_owned()
            });
        }
        (PageBy::Offset { param: old }, PageBy::Offset { param: new }) => {
            let show = |name: &Option<String>| param(name.as_deref());
            pen.value(at, "poll.page.param", setting, (old, new), show, String::new);
        }
        (
            PageBy::Cursor { next: old_next, param: old_param },
            PageBy::Cursor { next, param: new_param },
        )
        | (
            PageBy::Last { next: old_next, param: old_param },
            PageBy::Last { next, param: new_param },
        ) => {
            pen.expr(at, "poll.page.next", setting, (old_next, next), NEXT);
            pen.value(
                at,
                "poll.page.param",
                setting,
                (old_param, new_param),
                |name| param(name.as_deref()),
                String::new,
            );
        }
        (PageBy::Next { next: old }, PageBy::Next { next: new }) => {
            pen.expr(at, "poll.page.next", setting, (old, new), NEXT);
        }
        (old, new) => {
            let what = format!("{} → {}", word(old), word(new));
            if matches!(new, PageBy::None) {
                let effect = "only the first page is read: the records on the others are missed";
                pen.note(at, "poll.page.by", rule::PAGE_NONE, what, effect);
            } else {
                let effect = "the API has to page that way";
                pen.note(at, "poll.page.by", rule::PAGE_BY, what, effect);
            }
        }
    }
}

/// What a path to the next page does that leads nowhere.
const NEXT: &str = "where nothing stands there after a full first page, the run fails";

fn word(by: &PageBy) -> String {
    quoted(match by {
        PageBy::None => "none",
        PageBy::Page { .. } => "page",
        PageBy::Offset { .. } => "offset",
        PageBy::Cursor { .. } => "cursor",
        PageBy::Next { .. } => "next",
        PageBy::Link => "link",
        PageBy::Last { .. } => "last",
    })
}
