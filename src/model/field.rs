//! A model's fields, flattened: `customer.email`, `lines[].sku`, each with what the schema says of it.

use serde_json::{Map, Value};

/// Deeper fields are not listed: a schema may refer to itself.
const MAX_DEPTH: usize = 8;

/// A canonical model.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// As connectors name it: `order.v1`.
    pub name: String,
    /// What it is, where the schema says.
    pub description: Option<String>,
    /// Its fields, in the order of the schema, the outer before the inner.
    pub fields: Vec<Field>,
}

/// What a schema says of one field.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Field {
    /// `customer.email`, `lines[].sku`.
    pub path: String,
    /// What it means.
    pub description: Option<String>,
    /// JSON types, as the schema names them; empty: any, or told by `one_of`.
    pub types: Vec<String>,
    /// The only values.
    pub one_of: Vec<Value>,
    /// `date-time`, `email`.
    pub format: Option<String>,
    /// A regular expression.
    pub pattern: Option<String>,
    /// `x-unit`: what a number counts.
    pub unit: Option<String>,
    /// `x-precision`: how exact it is.
    pub precision: Option<String>,
    /// `x-pii`: it tells something of a person.
    pub is_pii: bool,
    /// It will go.
    pub is_deprecated: bool,
    /// The object that it belongs to has it always.
    pub is_required: bool,
    /// How it may look.
    pub example: Option<Value>,
}

impl Model {
    /// Reads a schema's document. What is not understood is left out; nothing is an error.
    pub fn new(name: &str, document: &Value) -> Self {
        let mut fields = Vec::new();
        collect(document, document, "", 0, &mut fields);
        Self {
            name: name.to_owned(),
            description: text(&merged(document, document), "description"),
            fields,
        }
    }

    /// The field of that path; items of arrays may be written `lines.sku` or `lines[0].sku`, too.
    pub fn field(&self, path: &str) -> Option<&Field> {
        let wanted = plain(path);
        self.fields.iter().find(|field| plain(&field.path) == wanted)
    }
}

impl Field {
    /// Whether it is a list.
    pub fn is_list(&self) -> bool {
        self.types.iter().any(|name| name == "array")
    }

    /// How exact it is and what it counts: `exact decimal, in currency`, `RFC 3339 time`. Empty
    /// where the schema says nothing.
    pub fn measure(&self) -> String {
        let format = match self.format.as_deref() {
            Some("date-time") => Some("RFC 3339 time".to_owned()),
            Some(other) => Some(other.to_owned()),
            None => None,
        };
        let whole = (self.types == ["integer"]).then(|| "whole number".to_owned());
        let exact = self.precision.clone().or(format).or(whole);
        let unit = self.unit.as_ref().map(|unit| format!("in {unit}"));
        exact.into_iter().chain(unit).collect::<Vec<_>>().join(", ")
    }
}

/// `lines[].sku`, `lines[0].sku` and `lines.sku` are one field.
fn plain(path: &str) -> String {
    let mut parts = path.split('[');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |plain, part| plain + part.split_once(']').map_or(part, |(_, rest)| rest))
}

fn collect(root: &Value, schema: &Value, path: &str, depth: usize, fields: &mut Vec<Field>) {
    if depth >= MAX_DEPTH {
        return;
    }
    let schema = merged(root, schema);
    let required: Vec<&str> = strings(schema.get("required"));
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        let dot = if path.is_empty() { "" } else { "." };
        let path = format!("{path}{dot}{name}");
        let own = merged(root, property);
        fields.push(field(&path, &own, required.contains(&name.as_str())));
        collect(root, property, &path, depth + 1, fields);
        if let Some(items) = own.get("items").filter(|items| items.is_object()) {
            collect(root, items, &format!("{path}[]"), depth + 1, fields);
        }
    }
}

fn field(path: &str, schema: &Map<String, Value>, is_required: bool) -> Field {
    let types = match schema.get("type") {
        Some(Value::String(one)) => vec![one.clone()],
        several => strings(several).into_iter().map(str::to_owned).collect(),
    };
    let constant = schema.get("const").cloned();
    let listed = schema.get("enum").and_then(Value::as_array).cloned();
    Field {
        path: path.to_owned(),
        description: text(schema, "description"),
        types,
        one_of: constant.map(|value| vec![value]).or(listed).unwrap_or_default(),
        format: text(schema, "format"),
        pattern: text(schema, "pattern"),
        unit: text(schema, "x-unit"),
        precision: text(schema, "x-precision"),
        is_pii: schema.get("x-pii") == Some(&Value::Bool(true)),
        is_deprecated: schema.get("deprecated") == Some(&Value::Bool(true)),
        is_required,
        example: schema.get("examples").and_then(|examples| examples.get(0)).cloned(),
    }
}

fn text(schema: &Map<String, Value>, keyword: &str) -> Option<String> {
    schema.get(keyword).and_then(Value::as_str).map(str::to_owned)
}

fn strings(value: Option<&Value>) -> Vec<&str> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// A schema with what it refers to (`$ref` within the document) and all of `allOf`: its own words
/// win, the members of `properties` and `required` add up.
pub(super) fn merged(root: &Value, schema: &Value) -> Map<String, Value> {
    let mut all = Map::new();
    merge_into(root, schema, 0, &mut all);
    all
}

fn merge_into(root: &Value, schema: &Value, depth: usize, all: &mut Map<String, Value>) {
    let Some(members) = schema.as_object().filter(|_| depth < MAX_DEPTH) else { return };
    for (keyword, value) in members {
        match (keyword.as_str(), all.get_mut(keyword)) {
            ("$ref" | "allOf", _) => {}
            (_, None) => {
                all.insert(keyword.clone(), value.clone());
            }
            ("properties", Some(Value::Object(known))) => {
                for (name, property) in value.as_object().into_iter().flatten() {
                    known.entry(name.clone()).or_insert_with(|| property.clone());
                }
            }
            ("required", Some(Value::Array(known))) => {
                known.extend(value.as_array().cloned().unwrap_or_default());
            }
            _ => {}
        }
    }
    if let Some(target) = members.get("$ref").and_then(|reference| referred(root, reference)) {
        merge_into(root, target, depth + 1, all);
    }
    for part in members.get("allOf").and_then(Value::as_array).into_iter().flatten() {
        merge_into(root, part, depth + 1, all);
    }
}

/// What a reference within the document leads to.
pub(super) fn referred<'v>(root: &'v Value, reference: &Value) -> Option<&'v Value> {
    root.pointer(reference.as_str()?.strip_prefix('#')?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_found_through_references_arrays_and_parts() {
        let document = json!({
            "description": "An order.",
            "required": ["id"],
            "properties": {
                "id": { "type": "string" },
                "total": { "description": "Taxes included.", "$ref": "#/$defs/amount" },
                "lines": { "type": "array", "items": { "$ref": "#/$defs/line" } },
            },
            "allOf": [{ "required": ["lines"], "properties": { "note": { "x-pii": true } } }],
            "$defs": {
                "amount": { "description": "Money.", "type": "string", "x-unit": "currency",
                            "x-precision": "exact decimal" },
                "line": { "properties": { "parts": { "type": "array", "items": { "$ref": "#/$defs/line" } } } },
            },
        });
        let model = Model::new("order.v1", &document);
        let paths: Vec<&str> = model.fields.iter().map(|field| field.path.as_str()).collect();
        assert_eq!(
            paths[..6],
            [
                "id",
                "total",
                "lines",
                "lines[].parts",
                "lines[].parts[].parts",
                "lines[].parts[].parts[].parts"
            ]
        );
        assert_eq!(paths.last(), Some(&"note"));
        let total = model.field("total").unwrap();
        assert_eq!(total.description.as_deref(), Some("Taxes included."));
        assert_eq!(total.measure(), "exact decimal, in currency");
        assert!(model.field("note").unwrap().is_pii);
        let required = |path| model.field(path).unwrap().is_required;
        assert_eq!((required("id"), required("lines"), required("total")), (true, true, false));
        assert!(model.field("lines[0].parts").is_some());
    }
}
