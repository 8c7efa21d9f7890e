//! Streams: what an event is called, which records are events, what becomes of them.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::{
    Subject,
    connector::Parts,
    fields::{self, Shape},
    pair::Matched,
    pen::{At, Pen, Presence},
    poll, reconcile, rule,
    said::Renames,
    say, schema, webhook,
};
use crate::{
    map::{Expr, Mapping},
    plan::{CursorStart, Dedupe, RevisionPlan, SchedulePlan, StreamPlan, StreamVars},
};

type Streams = [Arc<StreamPlan>];

pub(super) fn find<'s>(streams: &'s Streams, name: &str) -> Option<&'s StreamPlan> {
    streams.iter().find(|stream| &*stream.name == name).map(Arc::as_ref)
}

pub(super) fn compare(
    pen: &mut Pen<'_>,
    (old, new): (&Streams, &Streams),
    streams: &Matched,
    renames: &Renames,
) {
    for (old_name, name) in &streams.both {
        let (Some(was), Some(is)) = (find(old, old_name), find(new, name)) else { continue };
        let at = At::renamed(Subject::Stream(name.clone()), "stream", old_name);
        if old_name != name {
            let effect =
                format!("{}; what is not delivered yet waits under the old name", begins_anew(is));
            let what = format!("renamed from `{old_name}`");
            pen.note(&at, "", rule::STREAM_RENAMED, what, effect);
        }
        one(pen, &at, was, is, renames);
    }
    for name in &streams.added {
        let at = At::of(Subject::Stream(name.clone()), "stream");
        let what = find(new, name).map_or_else(String::new, what_it_is);
        pen.note(&at, "", rule::STREAM_ADDED, format!("is new{what}"), "");
    }
    for name in &streams.removed {
        let at = At::of(Subject::Stream(name.clone()), "stream");
        let effect = "its events stop; what was not delivered yet waits until a stream of this name \
                      comes back, and its cursor stays";
        pen.note(&at, "", rule::STREAM_REMOVED, "is gone", effect);
    }
}

fn what_it_is(stream: &StreamPlan) -> String {
    let mut parts = Vec::new();
    if let Some(webhook) = &stream.webhook {
        parts.push(format!("takes webhooks at {}", webhook.path));
    }
    if let Some(schedule) = &stream.schedule {
        parts.push(format!("polls {}", say::schedule(&schedule.when)));
    } else if stream.poll.is_some() {
        parts.push("polls".to_owned());
    }
    if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) }
}

/// What a stream does that has no cursor and no claims yet.
pub(super) fn begins_anew(stream: &StreamPlan) -> String {
    let cursor = stream.poll.as_ref().map(|poll| poll.cursor.as_deref());
    match cursor {
        Some(Some(cursor)) => {
            let start = match &cursor.start {
                Some(CursorStart::Literal(start)) => format!("at its start ({start})"),
                Some(CursorStart::Ago(ago)) => format!("{} back", say::duration(*ago)),
                None => "at the very beginning".to_owned(),
            };
            format!("the poll begins {start} and delivers everything since again, under new ids")
        }
        Some(None) => "the next poll delivers every record again, under new ids".to_owned(),
        None => "whatever a producer sends again is delivered again, under a new id".to_owned(),
    }
}

/// What new ids mean for a stream.
fn named_anew(stream: &StreamPlan) -> &'static str {
    match stream.poll.as_ref().map(|poll| poll.cursor.is_some()) {
        Some(false) => {
            "every event has a new id: the next poll delivers every record again, with new \
             idempotency keys"
        }
        Some(true) => {
            "every event has a new id: what is read or sent again (the cursor's overlap, resends, a \
             fresh start) is delivered again, with new idempotency keys"
        }
        None => {
            "every event has a new id: whatever a producer sends again is delivered again, with new \
             idempotency keys"
        }
    }
}

/// A stream's own variables: whatever names them changes with them.
fn own_vars(pen: &mut Pen<'_>, at: &At, (old, new): (Option<&StreamVars>, Option<&StreamVars>)) {
    let value = |vars: Option<&StreamVars>, name: &String| {
        vars.filter(|vars| vars.own.contains(name)).map(|vars| vars.all[name.as_str()].to_string())
    };
    let names = |vars: Option<&StreamVars>| vars.map_or_else(Vec::new, |vars| vars.own.clone());
    let mut all: Vec<String> = names(old).into_iter().chain(names(new)).collect();
    all.sort();
    all.dedup();
    for name in all {
        let show = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
        let (was, is) = (value(old, &name), value(new, &name));
        if was != is {
            let what = format!("{} → {}", show(was), show(is));
            let effect = format!("whatever of the stream names `vars.{name}` changes with it");
            pen.note(at, &format!("vars.{name}"), rule::STREAM_VAR, what, effect);
        }
    }
}

fn one(pen: &mut Pen<'_>, at: &At, old: &StreamPlan, new: &StreamPlan, renames: &Renames) {
    let StreamPlan {
        name: _,
        vars,
        key,
        revision,
        tenant,
        when,
        delete,
        with,
        dedupe,
        to,
        map,
        // Needs the schemas' documents: `schemas`.
        schema: _,
        redact,
        webhook,
        poll,
        schedule,
        reconcile,
        // What its children ask of it: told where they are.
        parent: _,
    } = new;
    own_vars(pen, at, (old.vars.as_ref(), vars.as_ref()));
    keys(pen, at, (&old.key, key), new);
    revisions(pen, at, (old.revision.as_ref(), revision.as_ref()), new);
    let rules = Presence::all(rule::STREAM_TENANT);
    let tenants = (old.tenant.as_ref(), tenant.as_ref());
    pen.maybe_expr(at, "tenant", rules, tenants, |_| {
        "events spend that one's budget, and count for it".to_owned()
    });
    let rules =
        Presence { added: rule::WHEN_ADDED, removed: rule::WHEN_REMOVED, changed: rule::WHEN };
    pen.maybe_expr(at, "when", rules, (old.when.as_ref(), when.as_ref()), |rule| {
        if rule == rule::WHEN_REMOVED {
            "every record is an event".to_owned()
        } else {
            "records for which it does not hold are dropped".to_owned()
        }
    });
    let read = reads_delete(old) || reads_delete(new);
    let rules = Presence::all(if read { rule::DELETE } else { rule::DELETE_UNREAD });
    pen.maybe_expr(at, "delete", rules, (old.delete.as_ref(), delete.as_ref()), |_| String::new());
    let effect = "events that were taken in before, in the backlog and in replays, have what it was \
                  then";
    pen.pairs(at, "with", Presence::all(rule::WITH), (&old.with, with), |a, b| a == b, effect);
    dedupes(pen, at, (old.dedupe, *dedupe));
    destinations(pen, at, (&old.to, to), renames);
    maps(pen, at, (old.map.as_deref(), map.as_deref()));
    redacted(pen, at, (&old.redact, redact));
    if let (Some(was), Some(is)) = (&old.map, map) {
        let (was, is) = (Shape::of(&was.fields), Shape::of(&is.fields));
        for (field, masked) in fields::unmasked(pen, (&was, &old.redact), (&is, redact)) {
            let what = format!("does not mask `{field}`, which shows what `{masked}` masked");
            let effect = "views and logs show it";
            let keys = [format!("map.{field}"), "redact".to_owned()];
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            pen.note_at(at, "redact", &keys, rule::REDACT_REMOVED, what, effect);
        }
    }
    webhook::compare(pen, at, (old.webhook.as_deref(), webhook.as_deref()), poll.is_some());
    poll::compare(pen, at, (old.poll.as_deref(), poll.as_deref()), new, renames);
    schedules(pen, at, (old.schedule.as_ref(), schedule.as_ref()));
    reconcile::compare(pen, at, (old.reconcile.as_ref(), reconcile.as_ref()));
}

fn keys(pen: &mut Pen<'_>, at: &At, (old, new): (&[Expr], &[Expr]), stream: &StreamPlan) {
    let texts = |exprs: &[Expr], say: &dyn Fn(&str) -> String| -> String {
        match exprs {
            [] => "the record's hash".to_owned(),
            exprs => {
                exprs.iter().map(|e| say::quoted(&say(e.source()))).collect::<Vec<_>>().join(", ")
            }
        }
    };
    let same = old.len() == new.len()
        && old.iter().zip(new).all(|(old, new)| pen.same(old.source(), new.source()));
    if same {
        return;
    }
    let was = texts(old, &|source| pen.old_said(source).text);
    let is = texts(new, &|source| pen.new_said(source).text);
    let what = format!("changed from {was} to {is}");
    let sources = (joined(old), joined(new));
    let texts = (sources.0.as_str(), sources.1.as_str());
    pen.told_by_vars(at, "key", &["key"], rule::KEY, texts, what, named_anew(stream));
}

fn joined(exprs: &[Expr]) -> String {
    exprs.iter().map(Expr::source).collect::<Vec<_>>().join("\n")
}

fn revisions(
    pen: &mut Pen<'_>,
    at: &At,
    (old, new): (Option<&RevisionPlan>, Option<&RevisionPlan>),
    stream: &StreamPlan,
) {
    let order = match (old.is_some_and(|r| r.ordered), new.is_some_and(|r| r.ordered)) {
        (true, false) => "; older revisions are no longer superseded by newer ones",
        (false, true) => "; older revisions are superseded by newer ones from now on",
        _ => "",
    };
    let effect = format!("{}{order}", named_anew(stream));
    let expr = |revision: Option<&RevisionPlan>| {
        revision.map(|RevisionPlan { expr, ordered: _ }| expr.clone())
    };
    let (was, is) = (expr(old), expr(new));
    let rules = Presence::all(rule::REVISION);
    pen.maybe_expr(at, "revision", rules, (was.as_ref(), is.as_ref()), |_| effect.clone());
}

/// Whether something that is sent depends on `event.delete`.
fn reads_delete(stream: &StreamPlan) -> bool {
    let map = stream.map.iter().flat_map(|map| map.fields.leaves());
    map.map(|(_, expr)| expr).any(|expr| {
        expr.uses().iter().any(|(root, member)| {
            root == "event" && member.as_deref().is_none_or(|member| member == "delete")
        })
    })
}

fn dedupes(pen: &mut Pen<'_>, at: &At, (old, new): (Dedupe, Dedupe)) {
    let show = |dedupe: &Dedupe| match dedupe {
        Dedupe::Window(window) => say::duration(*window),
        Dedupe::Forever => "forever".to_owned(),
    };
    pen.value(at, "dedupe", rule::DEDUPE, (&old, &new), show, || match new {
        Dedupe::Window(window) => {
            format!("what is sent or read again after {} is delivered again", say::duration(window))
        }
        Dedupe::Forever => {
            "nothing is delivered twice, at the price of a claim kept for each event".to_owned()
        }
    });
}

fn destinations(
    pen: &mut Pen<'_>,
    at: &At,
    (old, new): (&[Arc<str>], &[Arc<str>]),
    renames: &Renames,
) {
    let renamed = |name: &Arc<str>| -> String {
        renames.destinations.get(&**name).cloned().unwrap_or_else(|| name.to_string())
    };
    let was: Vec<String> = old.iter().map(renamed).collect();
    let is: Vec<String> = new.iter().map(ToString::to_string).collect();
    for name in is.iter().filter(|name| !was.contains(name)) {
        let place = format!("/destination.{name}");
        let what = format!("also goes to `{name}`");
        let effect = "events that are taken in from now on; `tenon replay` brings earlier ones";
        pen.note_at(at, "to", &["to", &place], rule::TO_ADDED, what, effect);
    }
    for name in was.iter().filter(|name| !is.contains(name)) {
        let place = format!("/destination.{name}");
        let what = format!("no longer goes to `{name}`");
        let effect = "it gets nothing more of this stream; what it was not given yet waits until it \
                      is named again";
        pen.note_at(at, "to", &["to", &place], rule::TO_REMOVED, what, effect);
    }
}

fn maps(pen: &mut Pen<'_>, at: &At, (old, new): (Option<&Mapping>, Option<&Mapping>)) {
    match (old, new) {
        (None, None) => {}
        (None, Some(_)) => {
            let effect = "consumers get the mapped fields and nothing else";
            pen.note(
                at,
                "map",
                rule::MAP_ADDED,
                "is new: the record no longer passes as it is",
                effect,
            );
        }
        (Some(_), None) => {
            let effect = "consumers get the source's own fields";
            pen.note(at, "map", rule::MAP_REMOVED, "is gone: the record passes as it is", effect);
        }
        (Some(old), Some(new)) => {
            let Mapping { rest, fields } = new;
            let rules = Presence {
                added: rule::REST_ADDED,
                removed: rule::REST_REMOVED,
                changed: rule::REST,
            };
            let rests = (old.rest.as_ref(), rest.as_ref());
            pen.maybe_expr(at, "map.*", rules, rests, |_| String::new());
            let mark = pen.mark();
            fields::compare(pen, at, "map", (&Shape::of(&old.fields), &Shape::of(fields)));
            if rest.is_some() {
                pen.add_effect_to(
                    mark,
                    rule::FIELD_REMOVED,
                    "`*` may pass a field of that name through",
                );
            }
        }
    }
}

fn redacted(pen: &mut Pen<'_>, at: &At, (old, new): (&[String], &[String])) {
    let lacks = |one: &[String], other: &[String]| -> Vec<String> {
        one.iter().filter(|field| !other.contains(field)).cloned().collect()
    };
    let (added, removed) = (lacks(new, old), lacks(old, new));
    let places = ["redact", "schema"];
    if !added.is_empty() {
        let what = format!("masks {}", say::list(&added));
        let effect = "views and logs no longer show it";
        pen.note_at(at, "redact", &places, rule::REDACT_ADDED, what, effect);
    }
    if !removed.is_empty() {
        let what = format!("no longer masks {}", say::list(&removed));
        let effect = "views and logs show it, also that of events taken in before";
        pen.note_at(at, "redact", &places, rule::REDACT_REMOVED, what, effect);
    }
}

fn schedules(
    pen: &mut Pen<'_>,
    at: &At,
    (old, new): (Option<&SchedulePlan>, Option<&SchedulePlan>),
) {
    let (Some(old), Some(new)) = (old, new) else { return };
    let SchedulePlan { when, jitter } = new;
    let (was, is) = (say::schedule(&old.when), say::schedule(when));
    if was != is {
        let places = ["schedule.every", "schedule.cron", "schedule.tz"];
        let what = format!("{was} → {is}");
        pen.note_at(at, "schedule", &places, rule::SCHEDULE, what, rhythm(&old.when, when));
    }
    let show = |spread: &crate::plan::Jitter| say::jitter(*spread);
    pen.value(at, "schedule.jitter", rule::SCHEDULE, (&old.jitter, jitter), show, String::new);
}

fn rhythm(old: &crate::plan::ScheduleWhen, new: &crate::plan::ScheduleWhen) -> String {
    use crate::plan::ScheduleWhen::Every;
    match (old, new) {
        (Every(old), Every(new)) if new > old => {
            format!(
                "what only the poll finds comes up to {} later",
                say::duration(new.abs_diff(*old))
            )
        }
        (Every(old), Every(new)) => {
            format!(
                "what only the poll finds comes up to {} sooner",
                say::duration(new.abs_diff(*old))
            )
        }
        _ => String::new(),
    }
}

/// The schemas that streams promise.
pub(super) fn schemas(
    pen: &mut Pen<'_>,
    (old, new): (&crate::plan::ConnectorPlan, &crate::plan::ConnectorPlan),
    parts: &Parts,
    (old_documents, new_documents): (&BTreeMap<String, Value>, &BTreeMap<String, Value>),
) {
    for (old_name, name) in &parts.streams.both {
        let (Some(was), Some(is)) = (find(&old.streams, old_name), find(&new.streams, name)) else {
            continue;
        };
        let at = At::renamed(Subject::Stream(name.clone()), "stream", old_name);
        let (was, is) = (was.schema.as_ref(), is.schema.as_ref());
        match (was.map(|schema| schema.name()), is.map(|schema| schema.name())) {
            (None, None) => {}
            (None, Some(name)) => {
                let effect = "a record that does not satisfy it ends as a dead letter";
                pen.note(&at, "schema", rule::SCHEMA_ADDED, format!("promises `{name}`"), effect);
            }
            (Some(name), None) => {
                let what = format!("no longer promises `{name}`");
                let effect = "consumers may get what it ruled out";
                pen.note(&at, "schema", rule::SCHEMA_REMOVED, what, effect);
            }
            (Some(was), Some(is)) => {
                let documents = (old_documents.get(was), new_documents.get(is));
                if was == is {
                    schema::same_name(pen, &at, is, documents);
                } else {
                    schema::other_name(pen, &at, (was, is), documents);
                }
            }
        }
    }
}
