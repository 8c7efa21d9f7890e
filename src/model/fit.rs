//! Whether what a stream's map makes can satisfy a model, as far as its lines tell: a field that is
//! required and not made, one that is made and not allowed, one that is made of another type.
//!
//! Only what is sure is said. A path without a filter gives what the source has, and that is not known.

use serde_json::{Map, Value, json};

use super::{
    field::merged,
    provenance::{Gives, Mapped},
};
use crate::{definition::table::Loc, map::Schema};

/// Why a stream's records cannot satisfy a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// The field.
    pub field: String,
    /// Its line in the connector; `None` for one that is not made.
    pub at: Option<Loc>,
    /// What is wrong.
    pub what: String,
}

/// What a model has at a field's place.
enum Found {
    Schema(Map<String, Value>),
    /// The object lists its fields, and this is none of them. The path says which part.
    Refused(String),
    /// Anything may stand there.
    Free,
}

/// Every misfit that is sure. `document` is the model's schema.
pub fn misfits(mapped: &[Mapped], document: &Value) -> Vec<Misfit> {
    let mut found: Vec<Misfit> = Vec::new();
    for field in mapped.iter().filter(|field| field.path != "*") {
        let misfit = |field: &Mapped, what: String| Misfit {
            field: field.path.clone(),
            at: Some(field.at),
            what,
        };
        match locate(document, &field.path) {
            // The outer field has been told.
            Found::Refused(part) if part != field.path && is_mapped(mapped, &part) => {}
            Found::Refused(_) => {
                found.push(misfit(field, "the model does not allow this field".to_owned()));
            }
            Found::Free => {}
            Found::Schema(schema) => {
                let what =
                    mistyped(field, &schema, document).or_else(|| incomplete(field, document));
                found.extend(what.map(|what| misfit(field, what)));
            }
        }
    }
    missing(document, document, "", mapped, &mut found);
    found
}

fn is_mapped(mapped: &[Mapped], path: &str) -> bool {
    mapped.iter().any(|field| field.path == path)
}

/// Follows `lines[].sku` through the schema.
fn locate(document: &Value, path: &str) -> Found {
    let mut schema = merged(document, document);
    let mut walked = String::new();
    for part in path.split('.') {
        let (name, items) = match part.split_once('[') {
            Some((name, _)) => (name, part.matches('[').count()),
            None => (part, 0),
        };
        walked = if walked.is_empty() { name.to_owned() } else { format!("{walked}.{name}") };
        let next = schema.get("properties").and_then(|properties| properties.get(name));
        let Some(next) = next else {
            let is_closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
            return if is_closed { Found::Refused(walked) } else { Found::Free };
        };
        schema = merged(document, next);
        for _ in 0..items {
            let Some(next) = schema.get("items").filter(|items| items.is_object()) else {
                return Found::Free;
            };
            schema = merged(document, next);
            walked.push_str("[]");
        }
    }
    Found::Schema(schema)
}

/// What a field gives against what its schema takes.
fn mistyped(field: &Mapped, schema: &Map<String, Value>, document: &Value) -> Option<String> {
    let (samples, gives): (Vec<Value>, &str) = match &field.gives {
        Gives::OneOf(values) => return refused_value(values, schema, document),
        Gives::Unknown | Gives::List | Gives::Object | Gives::Text => {
            return other_type(&field.gives, schema);
        }
        Gives::Digits(None) => {
            (vec![json!("0"), json!("12.5"), json!("100.00")], "decimal digits in a text")
        }
        Gives::Digits(Some(scale)) => {
            let places = usize::try_from(*scale).unwrap_or(0).min(64);
            let digits = |whole: &str| match places {
                0 => json!(whole),
                places => json!(format!("{whole}.{}", "0".repeat(places))),
            };
            (vec![digits("0"), digits("12"), digits("100")], "decimal digits in a text")
        }
        Gives::Time => (vec![json!("2026-01-31T12:00:00Z")], "a time as text"),
        Gives::Date => (vec![json!("2026-01-31")], "a date as text"),
        Gives::Integer => (vec![json!(0), json!(1), json!(1000)], "a whole number"),
        Gives::Number => (vec![json!(0), json!(1), json!(0.5), json!(1000)], "a number"),
        Gives::Boolean => (vec![json!(true), json!(false)], "true or false"),
    };
    let schema = alone(schema, document)?;
    let takes_none = samples.iter().all(|sample| !schema.check(sample).is_empty());
    takes_none.then(|| format!("it gives {gives}, which the model refuses"))
}

fn refused_value(
    values: &[Value],
    schema: &Map<String, Value>,
    document: &Value,
) -> Option<String> {
    let schema = alone(schema, document)?;
    let refused: Vec<String> = values
        .iter()
        .filter(|value| !schema.check(value).is_empty())
        .map(ToString::to_string)
        .collect();
    let verb = if values.len() == 1 { "gives" } else { "may give" };
    (!refused.is_empty())
        .then(|| format!("it {verb} {}, which the model refuses", refused.join(", ")))
}

/// A text, list or object where the model takes none.
fn other_type(gives: &Gives, schema: &Map<String, Value>) -> Option<String> {
    let (name, words) = match gives {
        Gives::Text => ("string", "a text"),
        Gives::List => ("array", "a list"),
        Gives::Object => ("object", "an object"),
        _ => return None,
    };
    let is_taken = match schema.get("type") {
        None => true,
        Some(Value::String(one)) => one == name,
        Some(several) => several.as_array().is_some_and(|all| all.iter().any(|one| one == name)),
    };
    (!is_taken).then(|| format!("it gives {words}, which the model refuses"))
}

/// A schema that stands for itself, with the definitions that it refers to.
fn alone(schema: &Map<String, Value>, document: &Value) -> Option<Schema> {
    let mut schema = schema.clone();
    for shared in ["$defs", "definitions"] {
        if let Some(definitions) = document.get(shared) {
            schema.insert(shared.to_owned(), definitions.clone());
        }
    }
    schema.remove("$id");
    Schema::compile("", &Value::Object(schema)).ok()
}

/// A field that is left out where the source has none, and that the model requires.
fn incomplete(field: &Mapped, document: &Value) -> Option<String> {
    let (outer, name) = field.path.rsplit_once('.').unwrap_or(("", &field.path));
    let schema = match outer {
        "" => merged(document, document),
        outer => match locate(document, outer) {
            Found::Schema(schema) => schema,
            _ => return None,
        },
    };
    let is_required = required(&schema).contains(&name);
    (is_required && field.is_optional)
        .then(|| "it may be missing, and the model requires it".to_owned())
}

fn required(schema: &Map<String, Value>) -> Vec<&str> {
    let names = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    names.filter_map(Value::as_str).collect()
}

/// What is required within objects that are made, and not made.
fn missing(
    document: &Value,
    schema: &Value,
    path: &str,
    mapped: &[Mapped],
    found: &mut Vec<Misfit>,
) {
    let dot = if path.is_empty() { "" } else { "." };
    let is_below = |path: &str, of: &str| {
        path.strip_prefix(of).is_some_and(|rest| rest.starts_with(['.', '[']))
    };
    let schema = merged(document, schema);
    let passes_all = path.is_empty() && is_mapped(mapped, "*");
    for name in required(&schema).into_iter().filter(|_| !passes_all) {
        let wanted = format!("{path}{dot}{name}");
        if !mapped.iter().any(|field| field.path == wanted || is_below(&field.path, &wanted)) {
            let what = "the map does not make it, and the model requires it".to_owned();
            found.push(Misfit { field: wanted, at: None, what });
        }
    }
    for (name, property) in
        schema.get("properties").and_then(Value::as_object).into_iter().flatten()
    {
        let inner = format!("{path}{dot}{name}");
        let own = merged(document, property);
        let is_list = own.get("items").is_some_and(Value::is_object);
        let inner = if is_list { format!("{inner}[]") } else { inner };
        // Only where the map itself goes inside: what passes whole has fields that are not known.
        if mapped.iter().any(|field| is_below(&field.path, &inner)) {
            let schema = if is_list { &own["items"] } else { property };
            missing(document, schema, &inner, mapped, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{definition::read_connector, diagnostic::SourceFile, model::provenance};

    fn told(map: &str, document: &Value) -> Vec<String> {
        let text = format!(
            "[stream.orders.map]\n{map}\n[map.line]\nsku = \"$.sku\"\n[lookup.s]\na = \"open\"\nb = \"lost\"\n"
        );
        let file = SourceFile { path: "a.toml".into(), text };
        let read = read_connector(0, &file);
        let stream = &read.definition.stream.value().expect("streams").0[0].1.value;
        let mapped = provenance(&read.definition, stream.map.value().expect("a map"), None);
        misfits(&mapped, document).iter().map(|m| format!("{}: {}", m.field, m.what)).collect()
    }

    fn document() -> Value {
        json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["id", "total"],
            "properties": {
                "id": { "type": "string" },
                "status": { "enum": ["open", "settled"] },
                "total": { "$ref": "#/$defs/amount" },
                "count": { "type": "integer" },
                "at": { "type": "string", "format": "date-time" },
                "lines": { "type": "array", "items": { "additionalProperties": false,
                    "required": ["sku", "price"],
                    "properties": { "sku": {}, "price": { "$ref": "#/$defs/amount" } } } },
                "customer": { "type": "object", "required": ["name"] },
            },
            "$defs": { "amount": { "type": "string", "pattern": "^[0-9]+\\.[0-9]{2}$" } },
        })
    }

    #[test]
    fn what_fits_is_not_told() {
        let map = "id = \"$.id\"\nstatus = \"$.s | lookup('s', else='open') | default('open')\"\n\
                   total = \"$.t | decimal(2)\"\ncount = \"$.c | integer\"\nat = \"$.at | timestamp\"\n\
                   customer = \"$.c\"\nlines = \"$.lines\"\n";
        let lost = "status: it may give \"lost\", which the model refuses";
        assert_eq!(told(map, &document()), [lost]);
    }

    #[test]
    fn what_cannot_fit_is_told() {
        let map = "status = \"lost\"\ntotal = \"$.t | decimal(3) | optional\"\ncount = \"$.c | string\"\n\
                   at = \"$.at | date\"\nlines = \"$.l[*] | apply('line')\"\nnote = \"$.n\"\ncustomer.email = \"$.e\"\n";
        assert_eq!(
            told(map, &document()),
            [
                "status: it gives \"lost\", which the model refuses",
                "total: it gives decimal digits in a text, which the model refuses",
                "count: it gives a text, which the model refuses",
                "at: it gives a date as text, which the model refuses",
                "note: the model does not allow this field",
                "id: the map does not make it, and the model requires it",
                "lines[].price: the map does not make it, and the model requires it",
                "customer.name: the map does not make it, and the model requires it",
            ]
        );
        let map = "\"*\" = \"$ | omit('x')\"\ntotal = \"$.t | decimal(2) | optional\"\n";
        assert_eq!(told(map, &document()), ["total: it may be missing, and the model requires it"]);
    }
}
