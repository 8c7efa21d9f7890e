//! Webhooks: where producers post, how they prove who they are, what they are answered.

use http::Method;
use serde_json::Value;

use super::{
    pen::{At, Pen, Presence},
    rule, say, verify,
};
use crate::{
    map::Expr,
    plan::{ReplyPlan, SecretPlan, WebhookPlan},
    world::Timestamp,
};

pub(super) fn compare(
    pen: &mut Pen<'_>,
    at: &At,
    (old, new): (Option<&WebhookPlan>, Option<&WebhookPlan>),
    polls: bool,
) {
    match (old, new) {
        (None, None) => {}
        (None, Some(new)) => {
            let what = format!("is new, at {}", say::quoted(&new.path));
            pen.note(at, "webhook", rule::WEBHOOK_ADDED, what, "producers have to be told");
        }
        (Some(old), None) => {
            let what = format!("is gone, was at {}", say::quoted(&old.path));
            pen.note(at, "webhook", rule::WEBHOOK_REMOVED, what, lost(polls));
        }
        (Some(old), Some(new)) => webhooks(pen, at, old, new, polls),
    }
}

/// What becomes of what is posted to an address that is no more.
fn lost(polls: bool) -> &'static str {
    if polls {
        "whoever posts there gets 404 until changed; the poll finds what it missed, later"
    } else {
        "whoever posts there gets 404 until changed, and what nobody sends again is lost"
    }
}

fn webhooks(pen: &mut Pen<'_>, at: &At, old: &WebhookPlan, new: &WebhookPlan, polls: bool) {
    let WebhookPlan {
        path,
        methods,
        verify,
        url,
        verify_token,
        secrets,
        user,
        events,
        reply,
        max_body_bytes,
    } = new;
    let show = |path: &String| say::quoted(path);
    let paths = (&old.path, path);
    pen.value(at, "webhook.path", rule::WEBHOOK_PATH, paths, show, || lost(polls).to_owned());
    methods_of(pen, at, (&old.methods, methods));
    verify::compare(pen, at, &old.verify, verify);
    secrets_of(pen, at, (&old.secrets, secrets));
    let rules = Presence::all(rule::WEBHOOK_SECRET);
    users(pen, at, rules, (old.user.as_ref(), user.as_ref()));
    let rules = Presence::all(rule::VERIFY);
    pen.maybe_expr(at, "webhook.url", rules, (old.url.as_ref(), url.as_ref()), |_| {
        "requests that are signed over the old one are refused".to_owned()
    });
    let rules = Presence::all(rule::CHALLENGE);
    let tokens = (old.verify_token.as_ref(), verify_token.as_ref());
    pen.maybe_expr(at, "webhook.verify_token", rules, tokens, |_| {
        "it matters while a producer is set up".to_owned()
    });
    let rules = Presence::all(rule::EVENTS);
    pen.maybe_expr(at, "webhook.events", rules, (old.events.as_ref(), events.as_ref()), |_| {
        "other parts of a request are events from now on".to_owned()
    });
    replies(pen, at, (old.reply.as_deref(), reply.as_deref()));
    let show = |bytes: &usize| say::bytes(*bytes as u64);
    let bytes = (&old.max_body_bytes, max_body_bytes);
    pen.value(at, "webhook.max_body", rule::WEBHOOK_LIMIT, bytes, show, || {
        if max_body_bytes < &old.max_body_bytes {
            "longer bodies are answered by 413, and what nobody sends again is lost".to_owned()
        } else {
            String::new()
        }
    });
}

fn methods_of(pen: &mut Pen<'_>, at: &At, (old, new): (&[Method], &[Method])) {
    let lacks = |one: &[Method], other: &[Method]| -> Vec<String> {
        one.iter().filter(|method| !other.contains(method)).map(ToString::to_string).collect()
    };
    let (added, removed) = (lacks(new, old), lacks(old, new));
    if !added.is_empty() {
        let what = format!("takes {}, too", say::list(&added));
        pen.note(at, "webhook.methods", rule::METHODS_ADDED, what, "");
    }
    if !removed.is_empty() {
        let what = format!("no longer takes {}", say::list(&removed));
        let effect = "whoever uses it gets 405";
        pen.note(at, "webhook.methods", rule::METHODS_REMOVED, what, effect);
    }
}

/// Secrets that verify, whatever their order; one under a new name is told as a renamed secret.
fn secrets_of(pen: &mut Pen<'_>, at: &At, (old, new): (&[SecretPlan], &[SecretPlan])) {
    let places = ["webhook.secret", "webhook.secrets"];
    let show = |end: Option<Timestamp>| end.map_or("without end".to_owned(), Timestamp::rfc3339);
    let mut gone: Vec<&SecretPlan> = old.iter().collect();
    let mut added = 0_usize;
    for SecretPlan { value, not_after } in new {
        let same = gone.iter().position(|was| pen.same(was.value.source(), value.source()));
        let Some(index) = same else {
            added += 1;
            continue;
        };
        let was = gone.remove(index).not_after;
        if was != *not_after {
            let what = format!("verifies until {}, was {}", show(*not_after), show(was));
            let effect = "producers have to sign with another one by then";
            let rule = rule::WEBHOOK_SECRET_UNTIL;
            pen.note_at(at, "webhook.secret", &places, rule, what, effect);
        }
    }
    if !gone.is_empty() {
        let what = if added > 0 { "is another one" } else { "one verifies no more" };
        let effect = "requests that are signed with the old one are refused; a list of `secrets` \
                      takes both for a time";
        pen.note_at(at, "webhook.secret", &places, rule::WEBHOOK_SECRET, what, effect);
    } else if added > 0 {
        let what = "one more verifies";
        pen.note_at(at, "webhook.secret", &places, rule::WEBHOOK_SECRET_ADDED, what, "");
    }
}

fn users(pen: &mut Pen<'_>, at: &At, rules: Presence, (old, new): (Option<&Expr>, Option<&Expr>)) {
    pen.maybe_expr(at, "webhook.user", rules, (old, new), |_| {
        "requests with the old user are refused".to_owned()
    });
}

fn replies(pen: &mut Pen<'_>, at: &At, (old, new): (Option<&ReplyPlan>, Option<&ReplyPlan>)) {
    let show = |reply: Option<&ReplyPlan>| match reply {
        None => "202 and the event's id".to_owned(),
        Some(ReplyPlan { status, body: None }) => format!("{status}"),
        Some(ReplyPlan { status, body: Some(Value::String(text)) }) => {
            format!("{status} {}", say::quoted(text))
        }
        Some(ReplyPlan { status, body: Some(body) }) => format!("{status} {}", say::constant(body)),
    };
    let (was, is) = (show(old), show(new));
    if was != is {
        let effect = "producers are answered so once the event is durable";
        pen.note(at, "webhook.reply", rule::REPLY, format!("{was} → {is}"), effect);
    }
}
