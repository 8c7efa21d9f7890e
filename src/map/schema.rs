//! JSON Schema (draft 2020-12): what a mapped record must satisfy. Nothing is fetched, patterns run in
//! linear time, and what is said of a violation never quotes the value.

use std::{fmt, sync::Arc};

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::Value;

/// Violations that one check reports.
const MAX_VIOLATIONS: usize = 5;
/// References and nesting followed in search of `x-pii`.
const MAX_DEPTH: usize = 32;

/// A compiled JSON schema. Cheap to clone.
#[derive(Clone)]
pub struct Schema(Arc<Inner>);

struct Inner {
    name: String,
    validator: Validator,
    pii: Vec<String>,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schema({})", self.0.name)
    }
}

impl Schema {
    /// Compiles a schema document. Err: what is wrong with it, in a line.
    pub fn compile(name: &str, document: &Value) -> Result<Self, String> {
        let validator = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .with_pattern_options(PatternOptions::regex())
            .should_validate_formats(true)
            .offline()
            .build(document)
            .map_err(|error| format!("{}: {error}", at(error.instance_path().as_str())))?;
        let mut pii = Vec::new();
        find_pii(document, document, "", 0, &mut pii);
        pii.sort();
        pii.dedup();
        Ok(Self(Arc::new(Inner { name: name.to_owned(), validator, pii })))
    }

    /// The name it was compiled under: `order.v1`.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Paths of the fields marked `"x-pii": true`: `customer.email`, `lines.note` (through arrays).
    pub fn pii(&self) -> &[String] {
        &self.0.pii
    }

    /// The first few violations, values masked: `/total: value is not of type "string"`. Empty: fine.
    pub fn check(&self, value: &Value) -> Vec<String> {
        if self.0.validator.is_valid(value) {
            return Vec::new();
        }
        self.0
            .validator
            .iter_errors(value)
            .take(MAX_VIOLATIONS)
            .map(|error| {
                let place = at(error.instance_path().as_str()).to_owned();
                format!("{place}: {}", error.masked())
            })
            .collect()
    }
}

fn at(pointer: &str) -> &str {
    if pointer.is_empty() { "/" } else { pointer }
}

/// Walks properties, items, alternatives and local references.
fn find_pii(root: &Value, schema: &Value, path: &str, depth: usize, found: &mut Vec<String>) {
    let Some(members) = schema.as_object().filter(|_| depth < MAX_DEPTH) else {
        return;
    };
    if members.get("x-pii") == Some(&Value::Bool(true)) && !path.is_empty() {
        found.push(path.to_owned());
    }
    let next = |schema: &Value, path: &str, found: &mut Vec<String>| {
        find_pii(root, schema, path, depth + 1, found);
    };
    if let Some(properties) = members.get("properties").and_then(Value::as_object) {
        for (name, schema) in properties {
            let dot = if path.is_empty() { "" } else { "." };
            next(schema, &format!("{path}{dot}{name}"), found);
        }
    }
    for keyword in ["items", "additionalProperties", "if", "then", "else"] {
        if let Some(schema) = members.get(keyword) {
            next(schema, path, found);
        }
    }
    for keyword in ["allOf", "anyOf", "oneOf", "prefixItems"] {
        for schema in members.get(keyword).and_then(Value::as_array).into_iter().flatten() {
            next(schema, path, found);
        }
    }
    let reference = members.get("$ref").and_then(Value::as_str);
    if let Some(target) = reference
        .and_then(|reference| reference.strip_prefix('#'))
        .and_then(|pointer| root.pointer(pointer))
    {
        next(target, path, found);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Schema {
        let document = json!({
            "type": "object",
            "required": ["id"],
            "additionalProperties": false,
            "properties": {
                "id": { "type": "string", "pattern": "^[a-z]+:[0-9]+$" },
                "at": { "type": "string", "format": "date-time" },
                "customer": { "$ref": "#/$defs/person" },
                "lines": { "type": "array", "items": { "properties": {
                    "note": { "x-pii": true }, "by": { "$ref": "#/$defs/person" } } } },
            },
            "$defs": { "person": { "properties": {
                "email": { "type": "string", "x-pii": true },
                "boss": { "$ref": "#/$defs/person" } } } },
        });
        Schema::compile("order.v1", &document).unwrap()
    }

    #[test]
    fn violations_name_the_place_and_not_the_value() {
        let schema = schema();
        assert_eq!(schema.check(&json!({ "id": "shop:1" })), Vec::<String>::new());
        let found = schema.check(&json!({ "id": "geheim", "at": "gestern", "more": "geheim" }));
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found.iter().all(|line| !line.contains("geheim") && !line.contains("gestern")));
        assert!(found.iter().any(|line| line.starts_with("/id: value")), "{found:?}");
        assert!(found.iter().any(|line| line.starts_with("/at: value")), "{found:?}");
        assert_eq!(schema.check(&json!([])).len(), 1);
    }

    #[test]
    fn marked_fields_are_found_through_arrays_and_references() {
        let schema = schema();
        for field in ["customer.email", "lines.note", "lines.by.email", "customer.boss.email"] {
            assert!(schema.pii().iter().any(|found| found == field), "{field}");
        }
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        for document in [
            json!({ "type": "strin" }),
            json!({ "$ref": "https://schemas.example/order.json" }),
            json!({ "pattern": "(a)\\1" }),
        ] {
            assert!(Schema::compile("x", &document).is_err(), "{document}");
        }
    }
}
