//! Masking of fields in what people see of records: pure.
//!
//! A field is named by its members joined with dots (`customer.email`); arrays are passed through
//! (`lines.email` is the e-mail of each line). A stream names what is redacted by the fields of its
//! *output*. What is shown of dead letters and traces is the record as it came, so these fields
//! are followed back to where the map takes them from.

use serde_json::Value;

use crate::{
    map::{Expr, Mapping},
    plan::StreamPlan,
};

/// What stands in a masked field's place.
pub const MASK: &str = "[redacted]";

/// Masks every field that one of `paths` names; the empty path is the whole document. A path that
/// leads nowhere masks nothing.
pub fn mask(document: &mut Value, paths: &[String]) {
    for path in paths {
        if path.is_empty() {
            *document = Value::from(MASK);
        } else {
            mask_at(document, path);
        }
    }
}

fn mask_at(value: &mut Value, path: &str) {
    match value {
        Value::Array(items) => {
            for item in items {
                mask_at(item, path);
            }
        }
        Value::Object(members) => {
            // A field's own name may have dots, and so may the name of what it is in.
            for (name, inner) in members.iter_mut() {
                match path.strip_prefix(name.as_str()) {
                    Some("") => *inner = Value::from(MASK),
                    Some(rest) => {
                        if let Some(rest) = rest.strip_prefix('.') {
                            mask_at(inner, rest);
                        }
                    }
                    None => {}
                }
            }
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
    let mut sources = Vec::new();
    for (field, expr) in map.fields.leaves() {
        let field = without_indices(&field);
        if is_within(&field, redacted) || is_within(redacted, &field) {
            sources.extend(record_fields(expr));
        }
    }
    if map.rest.is_some() {
        // `"*"` lets the field of this name through.
        sources.push(redacted.to_owned());
    }
    sources
}

/// `tags[0].name` → `tags.name`: arrays are passed through where fields are masked.
fn without_indices(field: &str) -> String {
    let mut parts = field.split('[');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |plain, part| plain + part.split_once(']').map_or(part, |(_, rest)| rest))
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

/// The members of a `JSONPath` up to where it is no longer plain: `$.a['b'][0].c[?@.x]` → `a.b.c`.
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
    use crate::map::Tree;

    #[test]
    fn fields_are_masked_wherever_they_are() {
        let masked = |paths: &[&str]| {
            let mut order = json!({
                "customer": { "email": "a@b.example", "name": "A" },
                "lines": [{ "note": "x" }, { "note": { "deep": true } }],
                "odd.name": { "in": 1 },
            });
            mask(&mut order, &paths.iter().map(ToString::to_string).collect::<Vec<_>>());
            order
        };
        assert_eq!(
            masked(&["customer.email", "lines.note", "odd.name.in", "no.such", "custom"]),
            json!({
                "customer": { "email": MASK, "name": "A" },
                "lines": [{ "note": MASK }, { "note": MASK }],
                "odd.name": { "in": MASK },
            })
        );
        assert_eq!(masked(&["lines.note", ""]), json!(MASK));
    }

    #[test]
    fn output_fields_are_followed_back_to_the_record() {
        let place = || crate::map::Place { file: "a.toml".into(), line: 1, path: "map".into() };
        let site = crate::map::Site {
            names: &["record", "vars", "event"],
            root: Some("record"),
            lenient: false,
        };
        let leaf = |text: &str| {
            let compiled = Expr::compile(text, &site, place(), &crate::map::Library::default());
            Tree::Leaf(compiled.expect("it compiles"))
        };
        let customer = Tree::Table(vec![
            ("email".to_owned(), leaf("$.buyer.mail | lower")),
            ("name".to_owned(), leaf("{{ record.first }} {{ record.last }}")),
        ]);
        let fields = Tree::Table(vec![
            ("id".to_owned(), leaf("$.id")),
            ("customer".to_owned(), customer),
            ("tags".to_owned(), Tree::Array(vec![leaf("$.note")])),
        ]);
        let mut mapping = Mapping { rest: None, fields };
        let sources = |mapping: &Mapping, field: &str| sources_of(mapping, field);
        assert_eq!(sources(&mapping, "customer.email"), ["buyer.mail"]);
        assert_eq!(sources(&mapping, "customer.name"), ["first", "last"]);
        assert_eq!(sources(&mapping, "customer"), ["buyer.mail", "first", "last"]);
        assert_eq!(sources(&mapping, "customer.email.domain"), ["buyer.mail"]);
        assert_eq!(sources(&mapping, "tags"), ["note"]);
        assert!(sources(&mapping, "elsewhere").is_empty());
        let Tree::Leaf(rest) = leaf("$") else { unreachable!() };
        mapping.rest = Some(rest);
        assert_eq!(sources(&mapping, "elsewhere"), ["elsewhere"]);
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
