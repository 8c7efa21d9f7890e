//! `[vars]`: what is declared, what is given, and whether the two agree.

use serde_json::{Map, Value};

use super::{connector::Whole, context::Context};
use crate::{
    definition::{
        table::At,
        vars::{VarDef, VarEntry},
    },
    diagnostic::codes,
};

/// The variables' values.
pub(super) struct Vars {
    /// An object.
    pub values: Value,
    /// The first variable without a value.
    pub missing: Option<String>,
}

pub(super) fn compile(context: &mut Context<'_>, whole: Whole<'_>) -> Vars {
    let declared = whole.body.vars.value().map_or(&[][..], |named| named.0.as_slice());
    context.vars = declared.iter().map(|(name, _)| name.clone()).collect();
    let given = if whole.is_instance {
        whole.own.vars.value().map_or(&[][..], |named| named.0.as_slice())
    } else {
        &[]
    };
    check_given(context, given);

    let mut values = Map::new();
    let mut missing = None;
    for (name, entry) in declared {
        let instance = given.iter().find(|(given, _)| given == name).map(|(_, entry)| entry);
        let value = instance.and_then(|entry| match &entry.value {
            VarEntry::Value(value) => Some(value),
            VarEntry::Declared(_) => None,
        });
        if let (VarEntry::Declared(def), Some(instance), Some(value)) =
            (&entry.value, instance, value)
        {
            check_one_of(context, def, instance, name, value);
        }
        match value.or_else(|| default_of(&entry.value)) {
            Some(value) => {
                values.insert(name.clone(), value.clone());
            }
            None if instance.is_none() => {
                missing.get_or_insert_with(|| name.clone());
                if whole.is_instance {
                    report_missing(context, whole, name, entry);
                }
            }
            None => {}
        }
        if let VarEntry::Declared(def) = &entry.value {
            check_default(context, def, name);
        }
    }
    Vars { values: Value::Object(values), missing }
}

fn default_of(entry: &VarEntry) -> Option<&Value> {
    match entry {
        VarEntry::Value(value) => Some(value),
        VarEntry::Declared(def) => def.default.value().map(|scalar| &scalar.0),
    }
}

/// What an instance gives must be declared, and be a value.
fn check_given(context: &mut Context<'_>, given: &[(String, At<VarEntry>)]) {
    for (name, entry) in given {
        if !context.vars.contains(name) {
            let known = context.vars.clone();
            let known = known.iter().map(String::as_str);
            context.unknown(codes::UNKNOWN_VAR, entry.key, "variable", name, known);
        } else if matches!(entry.value, VarEntry::Declared(_)) {
            context
                .error(
                    codes::NOT_FOR_INSTANCES,
                    entry.at,
                    "an instance gives values, it does not declare variables",
                    "expected a value",
                )
                .help(format!("write {name} = \"...\""));
        }
    }
}

fn check_default(context: &mut Context<'_>, def: &VarDef, name: &str) {
    if let Some(default) = def.default.get() {
        let default = At { value: (), at: default.at, key: default.key };
        let value = def.default.value().map(|scalar| scalar.0.clone()).unwrap_or_default();
        check_one_of(context, def, &default, name, &value);
    }
}

fn check_one_of<T>(
    context: &mut Context<'_>,
    def: &VarDef,
    given: &At<T>,
    name: &str,
    value: &Value,
) {
    let Some(allowed) = def.one_of.get() else { return };
    if allowed.value.iter().any(|item| item.value.0 == *value) {
        return;
    }
    let words: Vec<String> = allowed.value.iter().map(|item| item.value.0.to_string()).collect();
    context
        .error(
            codes::VAR_NOT_ALLOWED,
            given.at,
            format!("`vars.{name}` cannot be {value}"),
            format!("expected one of {}", words.join(", ")),
        )
        .related(allowed.at, "declared here");
}

fn report_missing(context: &mut Context<'_>, whole: Whole<'_>, name: &str, entry: &At<VarEntry>) {
    let Some(uses) = whole.own.uses.get() else { return };
    let (mut what, mut example) = (String::new(), "\"...\"".to_owned());
    if let VarEntry::Declared(def) = &entry.value {
        what = def.doc.value().map(|doc| format!(" ({})", doc.0)).unwrap_or_default();
        if let Some(value) = def.example.value() {
            example = value.0.to_string();
        }
    }
    let at = whole.own.vars.get().map_or(uses.at, |vars| vars.at);
    context
        .error(
            codes::MISSING_VAR,
            at,
            format!("variable `{name}` has no value"),
            format!("`{name}`{what} expected under [vars]"),
        )
        .related(entry.key, "declared here, without default")
        .help(format!("add {name} = {example}"));
}
