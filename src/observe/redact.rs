//! Masking of fields in what people see of records: pure.
//!
//! A field is named by its members joined with dots (`customer.email`); `*` stands for every
//! member, and arrays are passed through (`lines.email` is the e-mail of each line). A JSON pointer
//! (`/customer/email`) names the same. The empty path is the whole document.

use serde_json::Value;

use crate::{
    map::{Expr, Mapping},
    plan::StreamPlan,
};

/// What stands in a masked field's place.
pub const MASK: &str = "[redacted]";

/// Masks every field that one of `paths` names. A path that finds nothing masks nothing.
pub fn mask(document: &mut Value, paths: &[String]) {
    for path in paths {
        let members = members(path);
        mask_at(document, &members);
    }
}

fn members(path: &str) -> Vec<String> {
    if let Some(pointer) = path.strip_prefix('/') {
        return pointer.split('/').map(|m| m.replace("~1", "/").replace("~0", "~")).collect();
    }
    let plain = path.replace("[*]", "");
    plain.split('.').filter(|member| !member.is_empty()).map(str::to_owned).collect()
}

fn mask_at(value: &mut Value, members: &[String]) {
    let Some((member, rest)) = members.split_first() else {
        *value = Value::String(MASK.to_owned());
        return;
    };
    match value {
        Value::Object(object) if member == "*" => {
            object.values_mut().for_each(|value| mask_at(value, rest));
        }
        Value::Object(object) => {
            if let Some(value) = object.get_mut(member) {
                mask_at(value, rest);
            }
        }
        Value::Array(items) => {
            // `*`, an index of a pointer, or nothing at all may stand for the items.
            let is_item = member == "*" || member.parse::<usize>().is_ok();
            let members = if is_item { rest } else { members };
            items.iter_mut().for_each(|item| mask_at(item, members));
        }
        _ => {}
    }
}

/// Which fields of the *raw* record are to be masked, since the stream's redacted output fields are
/// made from them. Where that cannot be told exactly, more is masked, never less.
pub fn raw_fields(stream: &StreamPlan) -> Vec<String> {
    let mut fields: Vec<String> = match &stream.map {
        None => stream.redact.clone(),
        Some(map) => stream.redact.iter().flat_map(|path| sources_of(map, path)).collect(),
    };
    fields.sort();
    fields.dedup();
    fields
}

/// Where in the record the mapped field comes from.
fn sources_of(map: &Mapping, redacted: &str) -> Vec<String> {
    let redacted = members(redacted).join(".");
    let mut sources = Vec::new();
    for (field, expr) in map.fields.leaves() {
        let field = members(&field).join(".");
        if is_within(&field, &redacted) || is_within(&redacted, &field) {
            sources.extend(record_fields(expr));
        }
    }
    if map.rest.is_some() {
        // `"*"` lets the field of this name through.
        sources.push(redacted);
    }
    sources
}

fn is_within(inner: &str, outer: &str) -> bool {
    inner == outer || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'))
}

/// The members of the record that an expression reads.
fn record_fields(expr: &Expr) -> Vec<String> {
    if expr.source().starts_with('$') {
        return vec![path_prefix(expr.source())];
    }
    let uses = expr.uses().into_iter().filter(|(root, _)| root == "record");
    uses.map(|(_, member)| member.unwrap_or_default()).collect()
}

/// The members of a JSONPath up to where it is no longer plain: `$.a['b'][0].c[?@.x]` → `a.b.c`.
/// Names with dots end it, too, since they could not be told apart.
fn path_prefix(path: &str) -> String {
    let mut members: Vec<&str> = Vec::new();
    let mut rest = path.trim_start_matches('$');
    loop {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[', '|', ' ']).unwrap_or(after.len());
            let (name, more) = after.split_at(end);
            match name {
                "" => break, // `..`
                "*" => {}
                name => members.push(name),
            }
            rest = more;
        } else if let Some(after) = rest.strip_prefix('[') {
            let Some((inside, more)) = after.split_once(']') else {
                break;
            };
            let quoted = inside
                .strip_prefix(['\'', '"'])
                .and_then(|name| name.strip_suffix(['\'', '"']))
                .filter(|name| !name.contains(['.', '\'', '"', '\\']));
            let is_any_item = inside == "*" || inside.parse::<i64>().is_ok();
            match quoted {
                Some(name) => members.push(name),
                None if is_any_item => {}
                None => break,
            }
            rest = more;
        } else {
            break;
        }
    }
    members.join(".")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn masked(mut document: Value, paths: &[&str]) -> Value {
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        mask(&mut document, &paths);
        document
    }

    #[test]
    fn fields_are_masked_through_tables_and_arrays() {
        let order = json!({"id": 1, "customer": {"email": "a", "name": "b"}, "lines": [{"to": "x"}, {"to": "y"}]});
        assert_eq!(
            masked(order.clone(), &["customer.email", "lines.to", "missing.field"]),
            json!({"id": 1, "customer": {"email": MASK, "name": "b"}, "lines": [{"to": MASK}, {"to": MASK}]})
        );
        assert_eq!(
            masked(order.clone(), &["/customer/name", "/lines/*/to", "customer.*"]),
            json!({"id": 1, "customer": {"email": MASK, "name": MASK}, "lines": [{"to": MASK}, {"to": MASK}]})
        );
        assert_eq!(masked(order, &[""]), json!(MASK));
    }

    #[test]
    fn a_path_is_followed_as_far_as_it_is_plain() {
        let table = [
            ("$.customer.email | lower", "customer.email"),
            ("$['customer'][\"email\"]", "customer.email"),
            ("$.lines[*].to|upper", "lines.to"),
            ("$.lines[0].to", "lines.to"),
            ("$.lines[?@.a == 'b'].to", "lines"),
            ("$..email", ""),
            ("$['a.b'].c", ""),
            ("$", ""),
        ];
        for (path, prefix) in table {
            assert_eq!(path_prefix(path), prefix, "{path}");
        }
    }

    #[test]
    fn a_field_is_touched_by_what_is_in_it_and_what_it_is_in() {
        assert!(is_within("customer.email", "customer"));
        assert!(is_within("customer", "customer"));
        assert!(!is_within("customers", "customer"));
    }
}
