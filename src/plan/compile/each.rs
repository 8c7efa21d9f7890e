//! `each`: that every name stands for something, that no stream is its own parent, and what parents
//! have to remember for their children.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::Value;

use super::{
    super::{EachFrom, EachPlan, Group, Keep, ParentPlan, StreamPlan},
    context::Context,
    poll::Uses,
    sites,
};
use crate::{
    definition::{
        collections::{Named, OneOrMany, Scalar},
        connector::ConnectorDef,
        each::{EachDef, EachEntry, ValuesDef},
        stream::StreamDef,
        table::{At, Given, Loc, list_of},
    },
    diagnostic::codes,
    map::Expr,
};

/// The streams of a file.
type Streams = Named<StreamDef>;

/// The entries of a stream's `each`.
pub(super) fn entries(stream: &StreamDef) -> &[(String, At<EachEntry>)] {
    let each = stream.poll.value().and_then(|poll| poll.each.value());
    each.map_or(&[], |each| each.0.as_slice())
}

/// The sibling stream that an entry names, and where.
fn parent_of(entry: &At<EachEntry>) -> Option<(&str, Loc)> {
    match &entry.value {
        EachEntry::Text(text) if !is_template(&text.text) => Some((&text.text, entry.at)),
        EachEntry::Table(def) => {
            def.stream.get().map(|stream| (stream.value.0.as_str(), stream.at))
        }
        EachEntry::Text(_) | EachEntry::Values(_) => None,
    }
}

fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}

/// Whether one request takes several of it.
fn is_grouped(entry: &EachEntry) -> bool {
    let EachEntry::Table(def) = entry else { return false };
    !def.batch.is_absent() || def.collect.value() == Some(&true)
}

/// Whether a sibling makes its requests for this stream's records.
pub(super) fn is_parent(body: &ConnectorDef, name: &str) -> bool {
    let streams = body.stream.value().map_or(&[][..], |streams| streams.0.as_slice());
    streams
        .iter()
        .flat_map(|(_, stream)| entries(&stream.value))
        .any(|(_, entry)| parent_of(entry).is_some_and(|(stream, _)| stream == name))
}

/// The names that a stream's expressions see under `each`: its own, and those of its parents.
pub(super) fn names(streams: &Streams, name: &str) -> Vec<String> {
    let mut names = Vec::new();
    gather(streams, name, &mut names, &mut BTreeSet::new());
    names
}

fn gather(streams: &Streams, name: &str, names: &mut Vec<String>, seen: &mut BTreeSet<String>) {
    if !seen.insert(name.to_owned()) {
        return;
    }
    let Some(stream) = streams.find(name) else { return };
    for (own, entry) in entries(&stream.value) {
        names.push(own.clone());
        // What stands for many at once has no single parent.
        if let Some((parent, _)) = parent_of(entry).filter(|_| !is_grouped(&entry.value)) {
            gather(streams, parent, names, seen);
        }
    }
}

/// Reports parents that do not exist, do not poll, or are their own children.
pub(super) fn check_all(context: &mut Context<'_>, body: &ConnectorDef) {
    let Some(streams) = body.stream.value() else { return };
    for (name, stream) in &streams.0 {
        for (each, entry) in entries(&stream.value) {
            let Some((parent, at)) = parent_of(entry) else { continue };
            match streams.find(parent) {
                None => {
                    let others = streams.0.iter().map(|(other, _)| other.as_str());
                    let others: Vec<&str> = others.filter(|other| other != name).collect();
                    context.unknown(codes::UNKNOWN_STREAM, at, "stream", parent, others).help(
                        "a name of `each` stands for a sibling stream's records, or for a list: \
                         each = { channel = [\"email\", \"sms\"] }",
                    );
                }
                Some(found) if found.value.poll.is_absent() => {
                    let message = format!("stream `{parent}` does not poll");
                    context
                        .error(codes::BAD_EACH, at, message, "there are no records to ask for")
                        .help(
                            "a parent is read by its own poll; give it a table \
                               [stream.NAME.poll]",
                        );
                }
                Some(_) => circle(context, streams, name, (parent, at)),
            }
            check_conflict(context, streams, (name, each), entry);
        }
    }
}

/// A stream that is its own parent, directly or through others.
fn circle(context: &mut Context<'_>, streams: &Streams, name: &str, (parent, at): (&str, Loc)) {
    let mut way = vec![name.to_owned(), parent.to_owned()];
    if !leads_to(streams, parent, name, &mut way) {
        return;
    }
    let way = way.join("` → `");
    context
        .error(codes::BAD_EACH, at, "streams are each other's parents", format!("`{way}`"))
        .help("a parent's records have to be there before its children can be asked for");
}

fn leads_to(streams: &Streams, from: &str, to: &str, way: &mut Vec<String>) -> bool {
    if from == to {
        return true;
    }
    let Some(stream) = streams.find(from) else { return false };
    for (_, entry) in entries(&stream.value) {
        let Some((parent, _)) = parent_of(entry) else { continue };
        if way.iter().skip(1).any(|known| known == parent) && parent != to {
            continue;
        }
        way.push(parent.to_owned());
        if leads_to(streams, parent, to, way) {
            return true;
        }
        way.pop();
    }
    false
}

/// A name that a parent's `each` has already.
fn check_conflict(
    context: &mut Context<'_>,
    streams: &Streams,
    (stream, name): (&str, &str),
    entry: &At<EachEntry>,
) {
    let own = streams.find(stream).map(|found| entries(&found.value)).unwrap_or_default();
    for (other, other_entry) in own.iter().filter(|(other, _)| other != name) {
        let Some((parent, _)) = parent_of(other_entry).filter(|_| !is_grouped(&other_entry.value))
        else {
            continue;
        };
        if names(streams, parent).iter().any(|inherited| inherited == name) {
            let message = format!("`each.{name}` is there already");
            let label = format!("`{other}` brings it along");
            context
                .error(codes::BAD_EACH, entry.key, message, label)
                .related(other_entry.key, format!("stream `{parent}` is read for each `{name}`"))
                .help("take another name, or leave it out and use the one there is");
        }
    }
}

/// The names of a poll's `each`. `uses` is what its requests use.
pub(super) fn compile(
    context: &mut Context<'_>,
    stream: &StreamDef,
    uses: Option<&Uses>,
    path: &str,
) -> Option<Vec<EachPlan>> {
    let mut plans: Vec<Option<EachPlan>> = Vec::new();
    let mut grouped: Option<Loc> = None;
    for (name, entry) in entries(stream) {
        if uses.is_some_and(|uses| !uses.has("each", name)) {
            context
                .error(
                    codes::BAD_EACH,
                    entry.key,
                    format!("no request uses `each.{name}`"),
                    "the same would be asked for again and again",
                )
                .help(format!("place {{{{ each.{name} }}}} in the path, query, headers or body"));
        }
        if is_grouped(&entry.value)
            && let Some(first) = grouped.replace(entry.key)
        {
            let label = "only one name of `each` may have `batch` or `collect`";
            context
                .error(codes::BAD_EACH, entry.key, "two lists in one request", label)
                .related(first, "the other one");
        }
        plans.push(entry_of(context, name, entry, &format!("{path}.each.{name}")));
    }
    // What stands for many in one request changes fastest.
    let mut plans: Vec<EachPlan> = plans.into_iter().collect::<Option<_>>()?;
    plans.sort_by_key(|plan| plan.group != Group::One);
    Some(plans)
}

/// A name that stands for a list, used as if it stood for one record.
pub(super) fn check_lists<'e>(
    context: &mut Context<'_>,
    stream: &StreamDef,
    exprs: impl IntoIterator<Item = &'e Expr>,
) {
    let lists: Vec<_> =
        entries(stream).iter().filter(|(_, entry)| is_grouped(&entry.value)).collect();
    let Some((name, entry)) = lists.first() else { return };
    let is_one = |chain: &Vec<String>| chain.len() > 1 && chain[0] == *name;
    let Some(expr) = exprs.into_iter().find(|expr| expr.chains("each").iter().any(is_one)) else {
        return;
    };
    let message = format!("`each.{name}` is a list, and is used as one record");
    let label = format!("so many in one request; `{}` asks for one", expr.source());
    context.error(codes::BAD_EACH, entry.key, message, label).help(format!(
        "take what is needed of all: {{{{ each.{name} | map(attribute='id') | join(',') }}}}"
    ));
}

fn entry_of(
    context: &mut Context<'_>,
    name: &str,
    entry: &At<EachEntry>,
    path: &str,
) -> Option<EachPlan> {
    let (from, group) = match &entry.value {
        EachEntry::Table(def) => (from_table(context, entry, def, path)?, group(context, def)),
        EachEntry::Values(values) => (listed(context, values, entry.key)?, Group::One),
        EachEntry::Text(text) if is_template(&text.text) => {
            let given = At { value: text.clone(), at: entry.at, key: entry.key };
            (EachFrom::Values(context.expr(&given, &sites::FIXED, path)?), Group::One)
        }
        EachEntry::Text(text) => {
            let stream = Arc::from(text.text.as_str());
            (EachFrom::Stream { stream, over: None, only: None, changed: false }, Group::One)
        }
    };
    Some(EachPlan { name: Arc::from(name), from, group })
}

fn group(context: &mut Context<'_>, def: &EachDef) -> Group {
    let collects = def.collect.value() == Some(&true);
    if let (true, Some(batch)) = (collects, def.batch.key()) {
        let label = "`collect` takes all of them";
        context.error(codes::CONFLICT, batch, "`batch` and `collect` exclude each other", label);
    }
    match def.batch.value() {
        _ if collects => Group::All,
        Some(batch) => Group::Of(usize::try_from(batch.0).unwrap_or(usize::MAX)),
        None => Group::One,
    }
}

fn from_table(
    context: &mut Context<'_>,
    entry: &At<EachEntry>,
    def: &EachDef,
    path: &str,
) -> Option<EachFrom> {
    match (&def.stream, &def.values) {
        (Given::Absent, Given::Absent) => {
            context
                .error(codes::BAD_EACH, entry.key, "a name that stands for nothing", "for what?")
                .help("add stream = \"...\", the sibling whose records it stands for, or values");
            None
        }
        (stream, Given::Absent) => {
            let stream = Arc::from(stream.value()?.0.as_str());
            let over = def
                .over
                .get()
                .map(|over| context.expr(over, &sites::PARENT, &format!("{path}.over")));
            let only = def.only.get().map(|only| values(context, only, &format!("{path}.only")));
            Some(EachFrom::Stream {
                stream,
                over: super::context::complete(over)?,
                only: super::context::complete(only)?,
                changed: def.changed.value() == Some(&true),
            })
        }
        (stream, given) => {
            let misplaced = [
                ("stream", stream.key()),
                ("only", def.only.key()),
                ("over", def.over.key()),
                ("changed", def.changed.key()),
            ];
            for (key, at) in misplaced {
                let Some(at) = at else { continue };
                let message = format!("`{key}` has no effect beside `values`");
                context.error(codes::CONFLICT, at, message, "this is of a sibling stream");
            }
            values(context, given.get()?, &format!("{path}.values")).map(EachFrom::Values)
        }
    }
}

fn values(context: &mut Context<'_>, given: &At<ValuesDef>, path: &str) -> Option<Expr> {
    match &given.value {
        ValuesDef::Given(text) => {
            let given = At { value: text.clone(), at: given.at, key: given.key };
            context.expr(&given, &sites::FIXED, path)
        }
        ValuesDef::Listed(values) => constant(context, values, given.key, true),
    }
}

fn listed(context: &mut Context<'_>, values: &[At<Scalar>], key: Loc) -> Option<EachFrom> {
    constant(context, values, key, false).map(EachFrom::Values)
}

/// A list as it is written: none of its values twice, or state would be shared.
fn constant(
    context: &mut Context<'_>,
    values: &[At<Scalar>],
    key: Loc,
    may_be_empty: bool,
) -> Option<Expr> {
    if values.is_empty() && !may_be_empty {
        context.error(codes::BAD_EACH, key, "a list without values", "no request would be made");
        return None;
    }
    let mut seen: BTreeMap<String, Loc> = BTreeMap::new();
    for value in values {
        if let Some(first) = seen.insert(value.value.0.to_string(), value.at) {
            let message = format!("{} stands here twice", value.value.0);
            context
                .error(codes::BAD_EACH, value.at, message, "once is enough")
                .related(first, "the first one");
        }
    }
    let values: Vec<Value> = values.iter().map(|value| value.value.0.clone()).collect();
    Some(Expr::constant(Value::Array(values)))
}

/// Says of every stream what its children need of it.
pub(super) fn link(defs: &Streams, streams: &mut [StreamPlan]) {
    let mut parents: BTreeMap<Arc<str>, ParentPlan> = BTreeMap::new();
    for stream in &*streams {
        let Some(poll) = stream.poll.as_ref().filter(|poll| !poll.each.is_empty()) else {
            continue;
        };
        for each in &poll.each {
            let EachFrom::Stream { stream: parent, over, .. } = &each.from else { continue };
            let plan = parents.entry(Arc::clone(parent)).or_insert_with(nothing);
            for chain in over.iter().flat_map(|over| over.chains("record")) {
                plan.keep.add(chain.first());
            }
        }
        let exprs = poll.request_exprs().into_iter().chain(stream.ingest_exprs());
        for chain in exprs.flat_map(|expr| expr.chains("each")) {
            let names =
                chain.first().map_or_else(|| all_names(streams, stream), |n| vec![n.clone()]);
            for name in names {
                want(streams, stream, &name, chain.get(1), &mut parents);
            }
        }
    }
    for stream in streams {
        let parent = parents.remove(&stream.name);
        let only = defs.find(&stream.name).is_some_and(|def| is_empty(&def.value.to));
        stream.parent = parent.map(|plan| Arc::new(ParentPlan { only, ..plan }));
    }
}

/// Whether a list is there and has nothing in it.
pub(super) fn is_empty<T>(list: &Given<OneOrMany<T>>) -> bool {
    list.value().is_some_and(|list| list.0.is_empty())
}

fn nothing() -> ParentPlan {
    ParentPlan { keep: Keep::Members(BTreeSet::new()), names: BTreeSet::new(), only: false }
}

/// `each` as a whole.
fn all_names(streams: &[StreamPlan], stream: &StreamPlan) -> Vec<String> {
    let mut names = Vec::new();
    for each in stream.poll.iter().flat_map(|poll| &poll.each) {
        names.push(each.name.to_string());
        if let Some(parent) = single_parent(streams, each) {
            names.extend(all_names(streams, parent));
        }
    }
    names
}

/// The stream that one name stands for by itself.
fn single_parent<'s>(streams: &'s [StreamPlan], each: &EachPlan) -> Option<&'s StreamPlan> {
    let EachFrom::Stream { stream, .. } = &each.from else { return None };
    let found = streams.iter().find(|known| known.name == *stream);
    found.filter(|_| each.group == Group::One)
}

/// Notes that an expression of `stream` looks at `member` of `each.NAME`. Whether there is that name.
fn want(
    streams: &[StreamPlan],
    stream: &StreamPlan,
    name: &str,
    member: Option<&String>,
    parents: &mut BTreeMap<Arc<str>, ParentPlan>,
) -> bool {
    let Some(poll) = &stream.poll else { return false };
    if let Some(each) = poll.each.iter().find(|each| &*each.name == name) {
        if let EachFrom::Stream { stream: parent, over: None, .. } = &each.from {
            // A member of a list is chosen by a filter, which nobody reads here.
            let member = member.filter(|_| each.group == Group::One);
            parents.entry(Arc::clone(parent)).or_insert_with(nothing).keep.add(member);
        }
        return true;
    }
    for each in &poll.each {
        let Some(parent) = single_parent(streams, each) else { continue };
        if want(streams, parent, name, member, parents) {
            let plan = parents.entry(Arc::clone(&parent.name)).or_insert_with(nothing);
            plan.names.insert(name.to_owned());
            return true;
        }
    }
    false
}

/// What is said of a name that `each` does not have.
pub(super) fn unknown_name(context: &mut Context<'_>, at: Loc, name: &str) {
    let known = context.each_names.clone();
    if known.is_empty() {
        let message = "`each` does not exist here";
        context.error(codes::NAME_NOT_HERE, at, message, "this stream's poll has no `each`").help(
            "say what the requests are made for: each = { project = \"projects\" } under \
             [stream.NAME.poll]",
        );
        return;
    }
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let help = format!("`each` has {} here", list_of(known.iter().copied()));
    context.unknown(codes::NAME_NOT_HERE, at, "name of `each`:", name, known).help(help);
}
