//! Filters on arrays and objects.

use serde_json::{Map, Value, json};

use crate::map::{Tree, env::Scope, fault::Fault};

use super::{Arguments, Flow, Refused};

/// A key, or a pattern of one: `internal_*`. A star stands for any characters.
#[derive(Clone, Debug)]
pub(in crate::map) struct Pattern(Box<[Box<str>]>);

impl Pattern {
    fn new(text: &str) -> Self {
        Self(text.split('*').map(Into::into).collect())
    }

    pub(super) fn several(filter: &str, arguments: &mut Arguments) -> Result<Box<[Self]>, Refused> {
        let patterns = arguments.texts("a key")?;
        if patterns.is_empty() {
            return Err(Refused::arguments(format!("`{filter}` needs at least one key")));
        }
        Ok(patterns.iter().map(|text| Self::new(text)).collect())
    }

    pub(super) fn any(patterns: &[Self], key: &str) -> bool {
        patterns.iter().any(|pattern| pattern.matches(key))
    }

    fn matches(&self, key: &str) -> bool {
        let [first, middle @ .., last] = &*self.0 else {
            return self.0.first().is_none_or(|whole| &**whole == key);
        };
        let Some(rest) = key.strip_prefix(&**first) else {
            return false;
        };
        let Some(mut rest) = rest.strip_suffix(&**last) else {
            return false;
        };
        middle.iter().all(|part| match rest.find(&**part) {
            Some(at) => {
                rest = &rest[at + part.len()..];
                true
            }
            None => false,
        })
    }
}

/// A named map, applied to an object or to each item of an array. Items that come out as nothing
/// are left out.
pub(super) fn apply<'a>(
    tree: &Tree,
    input: &Flow<'a>,
    scope: &Scope<'_>,
) -> Result<Flow<'a>, Fault> {
    let one = |item: &Value| tree.eval_in(&Scope { item: Some(item), ..*scope });
    let Some(items) = input.items() else {
        let value = input.value();
        if !value.is_object() {
            return Err(Fault::expected("an array or an object", value));
        }
        return Ok(one(value)?.map_or(Flow::Missing, Flow::Owned));
    };
    let mut mapped = Vec::with_capacity(items.len());
    for (at, item) in items.into_iter().enumerate() {
        mapped.extend(one(item).map_err(|error| Fault::from(error).of_item(at))?);
    }
    Ok(Value::Array(mapped).into())
}

/// The first or last item; missing where there is none.
pub(super) fn end_of(input: Flow<'_>, first: bool) -> Result<Flow<'_>, Fault> {
    let pick = |length: usize| if first { 0 } else { length.saturating_sub(1) };
    Ok(match input {
        Flow::Many(values) => {
            values.get(pick(values.len())).map_or(Flow::Missing, |one| Flow::Borrowed(one))
        }
        Flow::Borrowed(Value::Array(items)) => {
            items.get(pick(items.len())).map_or(Flow::Missing, Flow::Borrowed)
        }
        Flow::Owned(Value::Array(mut items)) if !items.is_empty() => {
            Flow::Owned(items.swap_remove(pick(items.len())))
        }
        Flow::Owned(Value::Array(_)) => Flow::Missing,
        other => return Err(Fault::expected("an array", other.value())),
    })
}

/// Does the same to an object or to each object of an array.
fn each_object(
    value: &Value,
    change: &dyn Fn(&Map<String, Value>) -> Value,
) -> Result<Value, Fault> {
    match value {
        Value::Object(members) => Ok(change(members)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(at, item)| match item {
                Value::Object(members) => Ok(change(members)),
                other => Err(Fault::expected("an object", other).of_item(at)),
            })
            .collect(),
        other => Err(Fault::expected("an object", other)),
    }
}

/// The members whose keys `wanted` says.
pub(super) fn keep(value: &Value, wanted: impl Fn(&str) -> bool) -> Result<Value, Fault> {
    each_object(value, &|members| {
        let kept = members.iter().filter(|(key, _)| wanted(key));
        Value::Object(kept.map(|(key, value)| (key.clone(), value.clone())).collect())
    })
}

/// `{"a": 1}` → `[{"key": "a", "value": 1}]`.
pub(super) fn entries(value: &Value) -> Result<Value, Fault> {
    let members = value.as_object().ok_or_else(|| Fault::expected("an object", value))?;
    Ok(members.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect())
}

/// Keys in lower case; of several that become the same the last stays.
pub(super) fn lower_keys(value: &Value) -> Result<Value, Fault> {
    each_object(value, &|members| {
        let lowered = members.iter().map(|(key, value)| (key.to_lowercase(), value.clone()));
        Value::Object(lowered.collect())
    })
}

/// Rows to objects: with `names` each row's items get them, without them the first row names the
/// columns of the others. One row with given names becomes one object.
pub(super) fn zip_object(value: &Value, names: &[String]) -> Result<Value, Fault> {
    let rows = value.as_array().ok_or_else(|| Fault::expected("an array", value))?;
    if names.is_empty() {
        let Some((header, rows)) = rows.split_first() else {
            return Ok(json!([]));
        };
        let header = header
            .as_array()
            .and_then(|names| names.iter().map(|name| name.as_str().map(str::to_owned)).collect())
            .ok_or_else(|| Fault::Here("expected a first row of texts".to_owned()))?;
        return zip_rows(rows, header);
    }
    if rows.iter().any(Value::is_array) {
        return zip_rows(rows, names.to_vec());
    }
    zip_row(rows, names)
}

fn zip_rows(rows: &[Value], names: Vec<String>) -> Result<Value, Fault> {
    rows.iter()
        .enumerate()
        .map(|(at, row)| match row {
            Value::Array(cells) => zip_row(cells, &names).map_err(|fault| fault.of_item(at)),
            other => Err(Fault::expected("a row (an array)", other).of_item(at)),
        })
        .collect()
}

fn zip_row(cells: &[Value], names: &[String]) -> Result<Value, Fault> {
    if cells.len() > names.len() {
        let message = format!("expected at most {} cells, found {}", names.len(), cells.len());
        return Err(Fault::Here(message));
    }
    Ok(Value::Object(names.iter().cloned().zip(cells.iter().cloned()).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_keys() {
        for (pattern, key, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("internal_*", "internal_note", true),
            ("internal_*", "my_internal_note", false),
            ("*_id", "order_id", true),
            ("*", "", true),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(Pattern::new(pattern).matches(key), expected, "{pattern} {key}");
        }
    }
}
