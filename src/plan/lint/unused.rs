//! What is defined and never named: variables, maps, lookups, auth, verify, destinations.
//!
//! An instance defines auth and destinations of its own; everything else is its base's affair. What
//! a connector that runs only through `use` defines for its instances is not unused.

use std::collections::BTreeSet;

use super::{Subject, names, strings};
use crate::{
    definition::{
        auth::AuthDef,
        collections::{Named, items},
        kinds::{Expression, Plain},
        table::{At, Finding, Given},
        vars::VarEntry,
    },
    diagnostic::{Code, codes},
};

pub(super) fn lint(subject: &Subject<'_, '_>) -> Vec<Finding> {
    let mut found = Vec::new();
    if subject.base.is_none() {
        in_expressions(subject, &mut found);
        let verifies = verifies_named(subject);
        found.extend(report(&subject.own.verify, &verifies).map(|(name, at)| {
            unused(codes::UNUSED_VERIFY, name, at, format!("no webhook says verify = \"{name}\""))
                .help("presets need no table; a webhook names what protects it by `verify`")
        }));
    }
    let runs = !subject.own.destination.is_absent();
    if runs {
        let auths = auths_named(subject);
        found.extend(report(&subject.own.auth, &auths).map(|(name, at)| {
            unused(codes::UNUSED_AUTH, name, at, format!("nothing says auth = \"{name}\""))
                .help("[source], a poll or a destination names its credentials by `auth`")
        }));
        let destinations = destinations_named(subject);
        found.extend(report(&subject.own.destination, &destinations).map(|(name, at)| {
            unused(codes::UNUSED_DESTINATION, name, at, format!("no stream goes to \"{name}\""))
                .help("a stream names where it goes by `to`")
        }));
    }
    found
}

fn unused<T>(code: Code, name: &str, at: &At<T>, label: String) -> Finding {
    let what = code.info().title.trim_start_matches("unused ");
    Finding::new(code, at.key, format!("{what} `{name}` is never used"), label)
}

/// The entries of a table whose names are not among those that are used.
fn report<'d, T>(
    table: &'d Given<Named<T>>,
    used: &BTreeSet<&str>,
) -> impl Iterator<Item = (&'d str, &'d At<T>)> {
    let entries = table.value().into_iter().flat_map(|named| &named.0);
    entries
        .filter(|(name, _)| !used.contains(name.as_str()))
        .map(|(name, entry)| (name.as_str(), entry))
}

/// Variables, maps and lookups: what expressions name.
fn in_expressions(subject: &Subject<'_, '_>, found: &mut Vec<Finding>) {
    let (mut vars, mut maps, mut lookups) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let (mut any_var, mut any_table) = (false, false);
    for text in strings(subject.document) {
        let named = names::names(text);
        for chain in named.chains.iter().filter(|chain| chain.root == "vars") {
            match chain.name(0) {
                Some(name) => _ = vars.insert(name),
                // All of them at once, or one that only a run knows.
                None => any_var = true,
            }
        }
        for call in &named.calls {
            match (call.filter, call.table) {
                ("apply", Some(name)) => _ = maps.insert(name),
                (_, Some(name)) => _ = lookups.insert(name),
                (_, None) => any_table = true,
            }
        }
    }
    if !any_var {
        found.extend(report(&subject.own.vars, &vars).map(|(name, at)| {
            unused(codes::UNUSED_VAR, name, at, format!("no expression names `vars.{name}`"))
                .help("every instance is asked for its variables; leave out what changes nothing")
        }));
        for (_, stream) in subject.own_streams() {
            found.extend(report(&stream.value.vars, &vars).map(|(name, at)| {
                unused(codes::UNUSED_VAR, name, at, format!("no expression names `vars.{name}`"))
                    .help("a stream's variables are what tells it from those it is `like`")
            }));
        }
    }
    if !any_table {
        found.extend(report(&subject.own.map, &maps).map(|(name, at)| {
            unused(codes::UNUSED_MAP, name, at, format!("nothing says `apply('{name}')`"))
                .help("a named map is applied by a filter: \"$.items[*] | apply('name')\"")
        }));
        found.extend(report(&subject.own.lookup, &lookups).map(|(name, at)| {
            unused(codes::UNUSED_LOOKUP, name, at, format!("nothing says `lookup('{name}')`"))
                .help("a lookup is used by a filter: \"$.status | lookup('name')\"")
        }));
    }
}

fn named<'d>(given: &'d Given<Plain>, used: &mut BTreeSet<&'d str>) {
    used.extend(given.value().map(|plain| plain.0.as_str()));
}

fn verifies_named<'d>(subject: &Subject<'d, '_>) -> BTreeSet<&'d str> {
    let mut used = BTreeSet::new();
    let shared = subject.own.source.value().and_then(|source| source.webhook.value());
    if let Some(shared) = shared {
        named(&shared.verify, &mut used);
    }
    for (_, stream) in subject.streams() {
        if let Some(webhook) = stream.value.webhook.value() {
            named(&webhook.verify, &mut used);
        }
    }
    used
}

/// Every name that may be meant: a choice by variable means each value of `one_of`.
fn auths_named<'d>(subject: &Subject<'d, '_>) -> BTreeSet<&'d str> {
    let mut used = BTreeSet::new();
    let mut note = |given: &'d Given<Expression>| {
        let Some(given) = given.value() else { return };
        let chains = names::names(&given.text).chains;
        if chains.is_empty() {
            used.insert(given.text.as_str());
        }
        for var in chains.iter().filter(|it| it.root == "vars").filter_map(|it| it.name(0)) {
            let declared = subject.body().vars.value().and_then(|vars| vars.find(var));
            if let Some(VarEntry::Declared(def)) = declared.map(|entry| &entry.value) {
                let values = def.one_of.value().into_iter().flatten();
                used.extend(values.filter_map(|item| item.value.0.as_str()));
            }
            // A template around the value: whatever it gives was checked.
            let names = |auths: &'d Given<Named<AuthDef>>| {
                auths.value().into_iter().flat_map(|auths| &auths.0).map(|(name, _)| name.as_str())
            };
            if !given.text.trim_start_matches("{{").trim_start().starts_with("vars") {
                used.extend(names(&subject.own.auth));
            }
        }
    };
    if let Some(source) = subject.body().source.value() {
        note(&source.auth);
    }
    for (_, stream) in subject.streams() {
        if let Some(poll) = stream.value.poll.value() {
            note(&poll.auth);
        }
    }
    let tables = [&subject.own.destination, &subject.body().destination];
    for (_, destination) in tables.into_iter().filter_map(Given::value).flat_map(|named| &named.0) {
        note(&destination.value.auth);
    }
    let auths = [&subject.own.auth, &subject.body().auth];
    for (_, auth) in auths.into_iter().filter_map(Given::value).flat_map(|named| &named.0) {
        named(&auth.value.identity, &mut used);
        if let Some(request) = auth.value.request.value() {
            named(&request.auth, &mut used);
        }
    }
    used
}

fn destinations_named<'d>(subject: &Subject<'d, '_>) -> BTreeSet<&'d str> {
    let mut used = BTreeSet::new();
    let instance = if subject.base.is_some() { &subject.own.to } else { &Given::Absent };
    for (_, stream) in subject.streams() {
        let given = instance.or(stream.value.to.or(&subject.body().to));
        used.extend(items(given).iter().map(|to| to.value.0.as_str()));
        if given.is_absent() {
            // Without `to` there is one destination, or there was an error.
            let tables = [&subject.own.destination, &subject.body().destination];
            let named = tables.into_iter().filter_map(Given::value).flat_map(|named| &named.0);
            used.extend(named.map(|(name, _)| name.as_str()));
        }
    }
    used
}
