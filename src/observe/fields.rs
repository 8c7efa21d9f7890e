//! Two documents field by field, for people: leaves by path, and what of them is not to be shown. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::redact::{MASK, raw_fields};
use crate::plan::StreamPlan;

/// A field that differs. `None`: it is not there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Field {
    /// `total`, `lines[0].sku`.
    pub path: String,
    /// Before; masked where either side redacts it.
    pub old: Option<Value>,
    /// After.
    pub new: Option<Value>,
}

/// Leaves by path.
pub type Leaves = BTreeMap<String, Value>;

/// The leaves of a document; what is empty is a leaf, too.
pub fn leaves(document: &Value) -> Leaves {
    let mut found = Leaves::new();
    flatten(String::new(), document, &mut found);
    found
}

fn flatten(path: String, value: &Value, found: &mut Leaves) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                let dot = if path.is_empty() { "" } else { "." };
                flatten(format!("{path}{dot}{name}"), member, found);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (at, item) in items.iter().enumerate() {
                flatten(format!("{path}[{at}]"), item, found);
            }
        }
        leaf => {
            found.insert(path, leaf.clone());
        }
    }
}

/// The leaves that are not the same on both sides, in order of path.
pub fn differences(before: &Leaves, after: &Leaves, masks: &Masks) -> Vec<Field> {
    let mut paths: Vec<&String> = before.keys().chain(after.keys()).collect();
    paths.sort();
    paths.dedup();
    let mut fields = Vec::new();
    for path in paths {
        let (old, new) = (before.get(path), after.get(path));
        if old != new {
            let show = |value: Option<&Value>| value.map(|value| masks.shown(path, value));
            fields.push(Field { path: path.clone(), old: show(old), new: show(new) });
        }
    }
    fields
}

/// What is not to be shown: the fields that either side redacts, and whatever else repeats what they
/// are made from.
#[derive(Default)]
pub struct Masks {
    fields: Vec<String>,
    values: Vec<String>,
}

impl Masks {
    /// Shorter texts stand in too many places by chance.
    const SHORTEST: usize = 3;

    /// For what these streams make of `record`.
    pub fn of<const N: usize>(streams: [&StreamPlan; N], record: &Value) -> Self {
        let fields = streams.iter().flat_map(|stream| stream.redact.iter().cloned()).collect();
        let raw: Vec<String> = streams.iter().flat_map(|stream| raw_fields(stream)).collect();
        if raw.is_empty() {
            return Self { fields, values: Vec::new() };
        }
        let leaves = leaves(record);
        let within = |path: &str| raw.iter().any(|field| is_within(path, field));
        let values = leaves.iter().filter(|(path, _)| within(path)).map(|(_, value)| text(value));
        let values = values.filter(|text| text.len() >= Self::SHORTEST).collect();
        Self { fields, values }
    }

    /// A field's value as it may be shown.
    pub fn shown(&self, path: &str, value: &Value) -> Value {
        let shown = text(value);
        let is_masked = self.fields.iter().any(|field| is_within(path, field))
            || self.values.iter().any(|masked| shown.contains(masked.as_str()));
        if is_masked { MASK.into() } else { value.clone() }
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Whether a leaf lies in a field that is named without indexes.
fn is_within(path: &str, field: &str) -> bool {
    let plain: String = path
        .split('[')
        .enumerate()
        .map(
            |(at, part)| {
                if at == 0 { part } else { part.split_once(']').map_or("", |(_, rest)| rest) }
            },
        )
        .collect();
    let rest = plain.strip_prefix(field);
    field.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn masked_fields_are_those_within() {
        assert!(is_within("lines[0].note", "lines.note"));
        assert!(is_within("customer.email", "customer"));
        assert!(!is_within("customers", "customer"));
    }

    #[test]
    fn what_differs_is_named_by_path_and_what_is_redacted_is_masked() {
        let (before, after) = (
            leaves(&json!({"id": 1, "mail": "a@b.example", "lines": [{"n": 1}], "gone": {}})),
            leaves(&json!({"id": 1, "mail": "c@d.example", "lines": [{"n": 2}, 3]})),
        );
        let masks = Masks { fields: vec!["mail".to_owned()], values: Vec::new() };
        let found = differences(&before, &after, &masks);
        let lines: Vec<String> = found
            .iter()
            .map(|field| format!("{} {:?} {:?}", field.path, field.old, field.new))
            .collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        gone Some(Object {}) None
        lines[0].n Some(Number(1)) Some(Number(2))
        lines[1] None Some(Number(3))
        mail Some(String("[redacted]")) Some(String("[redacted]"))
        "#);
    }
}
