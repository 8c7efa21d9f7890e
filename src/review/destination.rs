//! Destinations: where events go, in which order, how fast, and how often it is tried.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use http::Method;

use super::{
    Subject, batch,
    fields::{self, Shape},
    pair::Matched,
    pen::{At, Pen, Presence},
    rule,
    said::Renames,
    say,
};
use crate::{
    map::Tree,
    plan::{BreakerPlan, DestinationKind, DestinationPlan, Order, Rate, RetryPlan, VerdictPlan},
};

type Destinations = BTreeMap<Arc<str>, Arc<DestinationPlan>>;

pub(super) fn compare(
    pen: &mut Pen<'_>,
    (old, new): (&Destinations, &Destinations),
    destinations: &Matched,
    renames: &Renames,
) {
    for (old_name, name) in &destinations.both {
        let (Some(was), Some(is)) = (old.get(&**old_name), new.get(&**name)) else { continue };
        let at = At::renamed(Subject::Destination(name.clone()), "destination", old_name);
        if old_name != name {
            let effect = "what is not delivered yet waits under the old name and goes on only when \
                          a destination of that name comes back: let it drain first; idempotency \
                          keys follow from the name, so a replay writes a second time";
            let what = format!("renamed from `{old_name}`");
            pen.note(&at, "", rule::DESTINATION_RENAMED, what, effect);
        }
        one(pen, &at, was, is, renames);
    }
    for name in &destinations.added {
        let at = At::of(Subject::Destination(name.clone()), "destination");
        let what = new.get(&**name).map_or("", |plan| word(&plan.kind));
        pen.note(&at, "", rule::DESTINATION_ADDED, format!("is new, type {what}"), "");
    }
    for name in &destinations.removed {
        let at = At::of(Subject::Destination(name.clone()), "destination");
        let effect = "it gets nothing more; what it was not given yet waits until a destination of \
                      this name comes back";
        pen.note(&at, "", rule::DESTINATION_REMOVED, "is gone", effect);
    }
}

fn one(
    pen: &mut Pen<'_>,
    at: &At,
    old: &DestinationPlan,
    new: &DestinationPlan,
    renames: &Renames,
) {
    let DestinationPlan { name: _, kind, batch, order, concurrency, rate, timeout, retry, breaker } =
        new;
    kinds(pen, at, (&old.kind, kind), renames);
    batch::compare(pen, at, old.batch.as_ref(), batch.as_ref());
    orders(pen, at, old.order, *order);
    let limits = rule::DESTINATION_LIMIT;
    let count = |count: &usize| count.to_string();
    pen.value(at, "concurrency", limits, (&old.concurrency, concurrency), count, String::new);
    let show = |rate: &Vec<Rate>| say::rates(rate);
    pen.value(at, "rate", limits, (&old.rate, rate), show, String::new);
    let show = |timeout: &Duration| say::duration(*timeout);
    pen.value(at, "timeout", limits, (&old.timeout, timeout), show, || {
        "an attempt that takes longer counts as failed and is repeated".to_owned()
    });
    retries(pen, at, &old.retry, retry);
    let show = |breaker: &Option<BreakerPlan>| breaker.as_ref().map_or("off".to_owned(), said);
    pen.value(at, "breaker", rule::BREAKER, (&old.breaker, breaker), show, || {
        "when the destination is left in peace because most attempts fail".to_owned()
    });
}

fn said(breaker: &BreakerPlan) -> String {
    let BreakerPlan { failures, of, within, open, probes } = breaker;
    let (within, open) = (say::duration(*within), say::duration(*open));
    format!("{}% of {of} within {within}, open {open}, {probes} probes", failures * 100.0)
}

fn orders(pen: &mut Pen<'_>, at: &At, old: Order, new: Order) {
    let word = |order| match order {
        Order::None => "none",
        Order::Key => "key",
        Order::Strict => "strict",
    };
    let what = format!("{} → {}", word(old), word(new));
    match (old, new) {
        (Order::None, Order::Key) => {
            let effect = "an event waits until the one before it of its key is settled";
            pen.note(at, "order", rule::ORDER_ADDED, what, effect);
        }
        (Order::None | Order::Key, Order::Strict) => {
            let effect = "every event of a stream waits until the one before it is settled: one that \
                          cannot be delivered stops all behind it until it is a dead letter";
            pen.note(at, "order", rule::ORDER_ADDED, what, effect);
        }
        (Order::Strict, Order::Key) => {
            let effect = "events of different keys may arrive in another order than they came";
            pen.note(at, "order", rule::ORDER_REMOVED, what, effect);
        }
        (Order::Key | Order::Strict, Order::None) => {
            let effect = "two states of one thing may arrive in the wrong order";
            pen.note(at, "order", rule::ORDER_REMOVED, what, effect);
        }
        (Order::None, Order::None) | (Order::Key, Order::Key) | (Order::Strict, Order::Strict) => {}
    }
}

fn retries(pen: &mut Pen<'_>, at: &At, old: &RetryPlan, new: &RetryPlan) {
    let RetryPlan { attempts, from, to, within } = new;
    let (was, is) = (patience(old), patience(new));
    let effect = || {
        if was == is {
            return String::new();
        }
        let (was, is) = (say::duration(was), say::duration(is));
        format!(
            "events of an outage longer than {is} may end as dead letters (was {was}); \
             `tenon dlq replay` brings them back"
        )
    };
    let count = |count: &u32| count.to_string();
    pen.value(at, "retry.attempts", rule::RETRY, (&old.attempts, attempts), count, effect);
    let show = |span: &Duration| say::duration(*span);
    pen.value(at, "retry.from", rule::RETRY, (&old.from, from), show, effect);
    pen.value(at, "retry.to", rule::RETRY, (&old.to, to), show, effect);
    pen.value(at, "retry.within", rule::RETRY, (&old.within, within), show, effect);
}

/// The longest that the last attempt can come after the first: every wait at its longest, and no
/// longer than `within`.
pub(super) fn patience(plan: &RetryPlan) -> Duration {
    let mut total = Duration::ZERO;
    let mut wait = plan.from;
    for _ in 1..plan.attempts {
        total = total.saturating_add(wait.min(plan.to));
        if total >= plan.within {
            return plan.within;
        }
        wait = wait.saturating_mul(2);
    }
    total
}

fn kinds(
    pen: &mut Pen<'_>,
    at: &At,
    (old, new): (&DestinationKind, &DestinationKind),
    renames: &Renames,
) {
    match (old, new) {
        (DestinationKind::Http { .. }, DestinationKind::Http { .. }) => {
            http(pen, at, (old, new), renames);
        }
        (
            DestinationKind::File {
                path: old_path,
                rotate_bytes: old_bytes,
                rotate_every: old_every,
                keep: old_keep,
            },
            DestinationKind::File { path, rotate_bytes, rotate_every, keep },
        ) => {
            let show = |path: &PathBuf| say::quoted(&path.display().to_string());
            pen.value(at, "path", rule::DESTINATION_PATH, (old_path, path), show, || {
                "new lines are written there; the old file stays as it is".to_owned()
            });
            let rotation = rule::ROTATION;
            let show = |bytes: &Option<u64>| bytes.map_or("never".to_owned(), say::bytes);
            pen.value(at, "rotate", rotation, (old_bytes, rotate_bytes), show, String::new);
            let show = |every: &Option<Duration>| say::maybe_duration(*every);
            pen.value(at, "rotate_every", rotation, (old_every, rotate_every), show, String::new);
            let show = |keep: &Option<usize>| keep.map_or("all".to_owned(), |n| n.to_string());
            let fewer = keep.is_some_and(|keep| old_keep.is_none_or(|old| keep < old));
            pen.value(at, "keep", rotation, (old_keep, keep), show, || {
                if fewer { "older rotated files are deleted".to_owned() } else { String::new() }
            });
        }
        (DestinationKind::Stdout, DestinationKind::Stdout) => {}
        (old, new) => {
            let what = format!("{} → {}", word(old), word(new));
            let effect = "events go there instead, those not yet delivered too";
            pen.note(at, "type", rule::DESTINATION_TYPE, what, effect);
        }
    }
}

fn http(
    pen: &mut Pen<'_>,
    at: &At,
    (old, new): (&DestinationKind, &DestinationKind),
    renames: &Renames,
) {
    let (
        DestinationKind::Http {
            method: old_method,
            url: old_url,
            headers: old_headers,
            body: old_body,
            auth: old_auth,
            on: old_on,
            max_response_bytes: old_max,
        },
        DestinationKind::Http { method, url, headers, body, auth, on, max_response_bytes },
    ) = (old, new)
    else {
        return;
    };
    let show = |method: &Method| method.to_string();
    pen.value(at, "method", rule::DESTINATION_METHOD, (old_method, method), show, || {
        "the receiver has to take it: a 4xx makes a dead letter of every event".to_owned()
    });
    let effect = "events go there from now on, those not yet delivered too, with the same \
                  idempotency keys; the old address gets nothing more";
    pen.expr(at, "url", rule::DESTINATION_URL, (old_url, url), effect);
    let rules =
        Presence { added: rule::HEADER_ADDED, removed: rule::HEADER, changed: rule::HEADER };
    let pairs = (old_headers.as_slice(), headers.as_slice());
    pen.pairs(at, "headers", rules, pairs, str::eq_ignore_ascii_case, "");
    bodies(pen, at, (old_body.as_ref(), body.as_ref()));
    let (was, is) = (renames.auth(old_auth.as_deref()), auth.as_deref());
    pen.value(
        at,
        "auth",
        rule::DESTINATION_AUTH,
        (&was, &is),
        |name| credentials(*name),
        || "if the receiver refuses them, the destination is parked and loses nothing".to_owned(),
    );
    answers(pen, at, (old_on, on));
    let show = |bytes: &usize| say::bytes(*bytes as u64);
    let bytes = (old_max, max_response_bytes);
    pen.value(at, "max_response", rule::DESTINATION_LIMIT, bytes, show, String::new);
}

/// Rules are compared as they read: their order matters, since the first that fits decides.
fn answers(pen: &mut Pen<'_>, at: &At, (old, new): (&[VerdictPlan], &[VerdictPlan])) {
    let text = |rules: &[VerdictPlan]| -> Vec<String> {
        rules.iter().map(VerdictPlan::to_string).collect()
    };
    let (was, is) = (text(old), text(new));
    if was.len() == is.len() && was.iter().zip(&is).all(|(was, is)| pen.same(was, is)) {
        return;
    }
    let gives_up = |rule: &&VerdictPlan| rule.gives_up() && !was.contains(&rule.to_string());
    if let Some(rule) = new.iter().find(gives_up) {
        let what = format!("added: {}", say::quoted(&rule.to_string()));
        let effect =
            "events that are answered so are settled, whether or not the receiver has them";
        pen.note(at, "on", rule::ANSWER_GIVES_UP, what, effect);
        return;
    }
    let show = |rules: &[String]| match rules {
        [] => "none".to_owned(),
        rules => rules.iter().map(|rule| say::quoted(rule)).collect::<Vec<_>>().join(", "),
    };
    let what = format!("{} → {}", show(&was), show(&is));
    let effect = "what no rule is for means what the defaults say";
    pen.note(at, "on", rule::ANSWER_RULE, what, effect);
}

/// Credentials by their name.
pub(super) fn credentials(name: Option<&str>) -> String {
    name.map_or_else(|| "none".to_owned(), |name| format!("`{name}`"))
}

fn bodies(pen: &mut Pen<'_>, at: &At, (old, new): (Option<&Tree>, Option<&Tree>)) {
    match (old, new) {
        (None, None) => {}
        (Some(old), Some(new)) => {
            fields::compare(pen, at, "body", (&Shape::of(old), &Shape::of(new)));
        }
        (None, Some(_)) => {
            let effect = "what is sent is no longer the mapped record as it is";
            pen.note(at, "body", rule::BODY, "is new", effect);
        }
        (Some(_), None) => {
            pen.note(at, "body", rule::BODY, "is gone", "the mapped record is sent as it is");
        }
    }
}

fn word(kind: &DestinationKind) -> &'static str {
    match kind {
        DestinationKind::Http { .. } => "http",
        DestinationKind::File { .. } => "file",
        DestinationKind::Stdout => "stdout",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_the_sum_of_the_longest_waits() {
        let secs = Duration::from_secs;
        let plan =
            |attempts| RetryPlan { attempts, from: secs(1), to: secs(3600), within: secs(86_400) };
        assert_eq!(patience(&plan(1)), Duration::ZERO);
        assert_eq!(patience(&plan(5)), secs(1 + 2 + 4 + 8));
        assert_eq!(patience(&plan(12)), secs(2047));
        assert_eq!(patience(&RetryPlan { within: secs(60), ..plan(12) }), secs(60));
        assert_eq!(patience(&plan(1000)), secs(86_400));
    }
}
