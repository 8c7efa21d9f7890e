//! Named maps and lookups: what a change of them does where they are used.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    Subject,
    connector::Parts,
    fields::{self, Shape},
    pen::{At, Pen},
    places::Places,
    rule, say,
};
use crate::{
    definition::connector::ConnectorDef,
    map::outline::{Call, Outline},
};

/// A use of a named map or lookup.
struct Use {
    /// The setting that uses it.
    path: String,
    call: Call,
}

/// Every use on one side, those in named maps that nothing uses left out.
fn uses(places: &Places) -> Vec<Use> {
    let all: Vec<Use> = places
        .body_facts("")
        .into_iter()
        .filter(|(path, _)| !path.starts_with("test["))
        .filter_map(|(path, leaf)| Some((path, serde_json::from_str::<String>(&leaf).ok()?)))
        .flat_map(|(path, text)| {
            let outline = Outline::of(&text);
            let calls = outline.values().flat_map(|value| value.filters.clone());
            calls.map(|call| Use { path: path.clone(), call }).collect::<Vec<_>>()
        })
        .filter(|used| matches!(used.call.name.as_str(), "apply" | "lookup"))
        .collect();
    let mut live: BTreeSet<String> = BTreeSet::new();
    let map_of = |path: &str| {
        path.strip_prefix("map.").map(|rest| rest.split('.').next().unwrap_or_default().to_owned())
    };
    loop {
        let before = live.len();
        for used in &all {
            let reached = map_of(&used.path).is_none_or(|map| live.contains(&map));
            if let ("apply", true, Some(name)) =
                (used.call.name.as_str(), reached, used.call.text())
            {
                live.insert(name.to_owned());
            }
        }
        if live.len() == before {
            break;
        }
    }
    let is_live = |used: &Use| map_of(&used.path).is_none_or(|map| live.contains(&map));
    all.into_iter().filter(is_live).collect()
}

pub(super) fn compare(
    pen: &mut Pen<'_>,
    (old, new): (&ConnectorDef, &ConnectorDef),
    parts: &Parts,
) {
    let (was_used, is_used) = (uses(pen.old.places), uses(pen.new.places));
    for (old_name, name) in &parts.maps.both {
        let at = At::renamed(Subject::Map(name.clone()), "map", old_name);
        let of = |def: &ConnectorDef, name: &str| {
            let fields = def.map.value().and_then(|maps| maps.find(name));
            fields.map(|fields| Shape::of_definition(&fields.value.0))
        };
        let (Some(was), Some(is)) = (of(old, old_name), of(new, name)) else { continue };
        let users = users_of(&is_used, "apply", name);
        if users.is_empty() && users_of(&was_used, "apply", old_name).is_empty() {
            unused(pen, &at);
            continue;
        }
        renamed(pen, &at, old_name, name);
        let mark = pen.mark();
        fields::compare(pen, &at, "", (&was, &is));
        tell_users(pen, mark, &users);
    }
    for (old_name, name) in &parts.lookups.both {
        let at = At::renamed(Subject::Lookup(name.clone()), "lookup", old_name);
        let users = users_of(&is_used, "lookup", name);
        if users.is_empty() && users_of(&was_used, "lookup", old_name).is_empty() {
            unused(pen, &at);
            continue;
        }
        renamed(pen, &at, old_name, name);
        let has_else = users.iter().all(|used| used.call.arguments.contains("else="));
        let mark = pen.mark();
        entries(pen, &at, (old, old_name), (new, name), has_else);
        tell_users(pen, mark, &users);
    }
    let alone = |pen: &mut Pen<'_>, names: &[String], table: &str, used: &[Use], word: &str| {
        for name in names {
            let call = if table == "map" { "apply" } else { "lookup" };
            if users_of(used, call, name).is_empty() {
                let subject = if table == "map" {
                    Subject::Map(name.clone())
                } else {
                    Subject::Lookup(name.clone())
                };
                let what = format!("is {word}, and nothing uses it");
                pen.note(&At::of(subject, table), "", rule::LIBRARY_UNUSED, what, "");
            }
        }
    };
    alone(pen, &parts.maps.added, "map", &is_used, "new");
    alone(pen, &parts.lookups.added, "lookup", &is_used, "new");
    alone(pen, &parts.maps.removed, "map", &was_used, "gone");
    alone(pen, &parts.lookups.removed, "lookup", &was_used, "gone");
}

fn users_of<'u>(uses: &'u [Use], call: &str, name: &str) -> Vec<&'u Use> {
    uses.iter().filter(|used| used.call.name == call && used.call.text() == Some(name)).collect()
}

fn tell_users(pen: &mut Pen<'_>, mark: usize, users: &[&Use]) {
    const SHOWN: usize = 4;
    let mut paths: Vec<String> = users.iter().map(|used| format!("`{}`", used.path)).collect();
    paths.dedup();
    if paths.len() > SHOWN {
        let more = paths.len() - SHOWN;
        paths.truncate(SHOWN);
        paths.push(format!("{more} more"));
    }
    if !paths.is_empty() {
        pen.add_effect(mark, &format!("used by {}", say::and(&paths)));
    }
}

fn unused(pen: &mut Pen<'_>, at: &At) {
    if pen.old.places.facts_of(&at.old) != pen.new.places.facts_of(&at.new) {
        let what = "changed, and nothing uses it";
        pen.note(at, "", rule::LIBRARY_UNUSED, what, "");
    }
}

fn renamed(pen: &mut Pen<'_>, at: &At, old: &str, new: &str) {
    if old != new {
        let what = format!("renamed from `{old}`");
        pen.note(at, "", rule::LIBRARY_RENAMED, what, "what uses it names it so, too");
    }
}

fn entries(
    pen: &mut Pen<'_>,
    at: &At,
    (old, old_name): (&ConnectorDef, &str),
    (new, name): (&ConnectorDef, &str),
    has_else: bool,
) {
    let of = |def: &ConnectorDef, name: &str| -> Vec<(String, Value)> {
        let table = def.lookup.value().and_then(|lookups| lookups.find(name));
        let entries = table.map_or(&[][..], |table| table.value.0.as_slice());
        entries.iter().map(|(key, value)| (key.clone(), value.value.0.clone())).collect()
    };
    let (was, is) = (of(old, old_name), of(new, name));
    let find = |entries: &[(String, Value)], key: &str| {
        entries.iter().find(|(other, _)| other == key).map(|(_, value)| value.clone())
    };
    for (key, value) in &was {
        match find(&is, key) {
            None => {
                let what = format!("no longer listed, came out as {}", say::constant(value));
                let effect = if has_else {
                    "it comes out as `else`"
                } else {
                    "records with that value end as dead letters"
                };
                pen.note(at, key, rule::LOOKUP_REMOVED, what, effect);
            }
            Some(now) if now != *value => {
                let what =
                    format!("comes out as {}, was {}", say::constant(&now), say::constant(value));
                pen.note(at, key, rule::LOOKUP_VALUE, what, "");
            }
            Some(_) => {}
        }
    }
    for (key, value) in is.iter().filter(|(key, _)| find(&was, key).is_none()) {
        let what = format!("is listed and comes out as {}", say::constant(value));
        let effect = if has_else { "it came out as `else`" } else { "it was a dead letter" };
        pen.note(at, key, rule::LOOKUP_ADDED, what, effect);
    }
}
