//! Named maps and lookups, in an order in which each finds what it applies.

use std::sync::Arc;

use super::{context::Context, sites};
use crate::{
    definition::{
        collections::{Fields, Named, TreeDef},
        connector::ConnectorDef,
        table::At,
    },
    diagnostic::codes,
    map::{Lookup, Mapping, Tree},
};

pub(super) fn compile(context: &mut Context<'_>, body: &ConnectorDef) {
    for (name, table) in body.lookup.value().into_iter().flat_map(|named| &named.0) {
        let entries =
            table.value.0.iter().map(|(key, value)| (key.clone(), value.value.0.clone())).collect();
        context.library.lookups.insert(name.clone(), Arc::new(Lookup { entries }));
    }
    if let Some(maps) = body.map.value() {
        for name in in_order(context, maps) {
            let Some(fields) = maps.find(name) else { continue };
            // A map that does not compile is known all the same: its users are not at fault.
            let tree =
                compile_map(context, name, fields).unwrap_or_else(|| Tree::Table(Vec::new()));
            context.library.maps.insert(name.to_owned(), Arc::new(tree));
        }
    }
}

fn compile_map(context: &mut Context<'_>, name: &str, fields: &At<Fields>) -> Option<Tree> {
    let rest = fields.value.0.iter().find(|(field, _)| field == "*");
    if let Some((_, rest)) = rest {
        context
            .error(
                codes::MISPLACED_KEY,
                rest.key,
                "`*` in a named map",
                "expected only in a stream's map",
            )
            .help("write the fields one by one, or use `$ | omit(...)` where the map is applied");
    }
    context.fields(&fields.value.0, &sites::MAP, &format!("map.{name}")).map(Tree::Table)
}

/// A stream's map.
pub(super) fn stream_map(
    context: &mut Context<'_>,
    fields: &Fields,
    path: &str,
) -> Option<Mapping> {
    let (rest, fields): (Vec<_>, Vec<_>) =
        fields.0.iter().cloned().partition(|(name, _)| name == "*");
    let mut complete = true;
    let mut all = None;
    if let Some((_, field)) = rest.first() {
        if let TreeDef::Leaf(leaf) = &field.value {
            let leaf = At { value: leaf.clone(), at: field.at, key: field.key };
            all = context.expr(&leaf, &sites::MAP, &format!("{path}.*"));
            complete = all.is_some();
        } else {
            let message = "`*` cannot be a constant";
            context
                .error(codes::WRONG_TYPE, field.at, message, "expected a path or a template")
                .help("write \"*\" = \"$ | omit('internal_*')\"");
            complete = false;
        }
    }
    let fields = context.fields(&fields, &sites::MAP, path)?;
    complete.then_some(Mapping { rest: all, fields: Tree::Table(fields) })
}

/// The maps' names, each after those that it applies. Circles are reported.
fn in_order<'m>(context: &mut Context<'_>, maps: &'m Named<Fields>) -> Vec<&'m str> {
    let applied: Vec<Vec<usize>> = maps
        .0
        .iter()
        .map(|(_, fields)| {
            let mut texts = Vec::new();
            for (_, field) in &fields.value.0 {
                texts_of(&field.value, &mut texts);
            }
            let uses = |name: &str| texts.iter().any(|text| applies(text, name));
            (0..maps.0.len()).filter(|index| uses(&maps.0[*index].0)).collect()
        })
        .collect();
    let mut done: Vec<usize> = Vec::new();
    while done.len() < maps.0.len() {
        let ready = (0..maps.0.len()).find(|index| {
            !done.contains(index) && applied[*index].iter().all(|other| done.contains(other))
        });
        let next = ready.or_else(|| {
            let index = (0..maps.0.len()).find(|index| !done.contains(index))?;
            report_circle(context, &maps.0[index]);
            // It exists, whatever else is wrong with it.
            let name = maps.0[index].0.clone();
            context.library.maps.insert(name, Arc::new(Tree::Table(Vec::new())));
            Some(index)
        });
        let Some(next) = next else { break };
        done.push(next);
    }
    done.into_iter().map(|index| maps.0[index].0.as_str()).collect()
}

fn report_circle(context: &mut Context<'_>, (name, fields): &(String, At<Fields>)) {
    context
        .error(
            codes::MAP_CIRCLE,
            fields.key,
            format!("map `{name}` applies itself"),
            "directly, or through the maps that it applies",
        )
        .help("a map describes one level; write the inner level as a map of its own");
}

fn texts_of<'t>(tree: &'t TreeDef, texts: &mut Vec<&'t str>) {
    match tree {
        TreeDef::Leaf(leaf) => texts.push(&leaf.text),
        TreeDef::Constant(_) => {}
        TreeDef::Table(fields) => {
            for (_, field) in fields {
                texts_of(&field.value, texts);
            }
        }
        TreeDef::Array(items) => {
            for item in items {
                texts_of(&item.value, texts);
            }
        }
    }
}

/// Whether an expression applies the map of that name.
fn applies(text: &str, name: &str) -> bool {
    text.match_indices("apply").any(|(at, word)| {
        let rest = text[at + word.len()..].trim_start();
        let Some(argument) = rest.strip_prefix('(').map(str::trim_start) else { return false };
        ['\'', '"'].into_iter().any(|quote| {
            argument
                .strip_prefix(quote)
                .and_then(|argument| argument.strip_prefix(name))
                .is_some_and(|after| after.starts_with(quote))
        })
    })
}
