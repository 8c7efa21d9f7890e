//! The JSON Schema of the TOML, for completion and hover in editors: the key tables in other words.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    connector::ConnectorDef,
    examples,
    settings::SettingsDef,
    table::{Key, Shape, Table, Word},
};

/// The schema of connector files: `schemas/connector.schema.json`.
pub fn json_schema() -> Value {
    document(&ConnectorDef::TABLE, "Tenon connector")
}

/// The schema of `tenon.toml`: `schemas/tenon.schema.json`.
pub fn settings_json_schema() -> Value {
    document(&SettingsDef::TABLE, "Tenon settings")
}

fn document(table: &'static Table, title: &str) -> Value {
    let mut definitions = BTreeMap::new();
    let mut root = object(table, &mut definitions);
    let mut schema = Map::new();
    schema.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.append(&mut root);
    schema.insert("title".to_owned(), json!(title));
    schema.insert("$defs".to_owned(), json!(definitions));
    Value::Object(schema)
}

fn object(table: &'static Table, definitions: &mut BTreeMap<String, Value>) -> Map<String, Value> {
    let mut properties = Map::new();
    for key in table.keys {
        properties.insert(key.name.to_owned(), property(table, key, definitions));
    }
    let required: Vec<&str> =
        table.keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    let mut object = Map::new();
    object.insert("title".to_owned(), json!(table.title));
    object.insert("description".to_owned(), json!(table.doc.trim()));
    object.insert("type".to_owned(), json!("object"));
    object.insert("properties".to_owned(), Value::Object(properties));
    if !required.is_empty() {
        object.insert("required".to_owned(), json!(required));
    }
    object.insert("additionalProperties".to_owned(), json!(false));
    object
}

/// What an editor shows and offers at a key: what it is for, what holds without it, how it may look.
fn property(table: &Table, key: &Key, definitions: &mut BTreeMap<String, Value>) -> Value {
    let mut schema = shape(&key.shape, definitions);
    if let Value::Object(object) = &mut schema {
        object.insert("description".to_owned(), json!(key.doc.trim()));
        if let Some(default) = key.default.and_then(constant) {
            object.insert("default".to_owned(), default);
        }
        let examples: Vec<Value> =
            examples::of(table, key.name, &key.shape).into_iter().filter_map(constant).collect();
        if !examples.is_empty() {
            object.insert("examples".to_owned(), json!(examples));
        }
    }
    schema
}

/// A default as it is written in TOML, as JSON: the two agree on strings, numbers, booleans, lists.
fn constant(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

fn shape(shape_: &Shape, definitions: &mut BTreeMap<String, Value>) -> Value {
    match *shape_ {
        Shape::Plain => json!({ "type": "string", "minLength": 1 }),
        Shape::Prose | Shape::Expression => json!({ "type": "string" }),
        Shape::Boolean => json!({ "type": "boolean" }),
        Shape::Integer { min, max } => integer(min, max),
        Shape::Duration => pattern("^([0-9]+(ms|s|m|h|d|w))+$"),
        Shape::Size => pattern("^[0-9]+ ?([KMGT]i?)?B$"),
        Shape::Rate => pattern("^[0-9]+ ?/ ?[0-9a-z]+$"),
        Shape::Ratio => pattern("^[0-9.]+%$"),
        // TOML's own dates reach a schema as strings.
        Shape::Date => json!({ "type": "string", "format": "date" }),
        Shape::Choice(words) => choice(words),
        Shape::WordOr(word, other) => {
            json!({ "anyOf": [{ "type": "string", "const": word }, shape(other, definitions)] })
        }
        Shape::List(item) => json!({ "type": "array", "items": shape(item, definitions) }),
        Shape::OneOrMany(item) => {
            let item = shape(item, definitions);
            json!({ "anyOf": [item, { "type": "array", "items": item }] })
        }
        Shape::Either(one, other) => {
            json!({ "anyOf": [shape(one, definitions), shape(other, definitions)] })
        }
        Shape::Named(item) => {
            json!({ "type": "object", "additionalProperties": shape(item, definitions) })
        }
        Shape::Table(table) => {
            let name = definition_name(table.title);
            if !definitions.contains_key(&name) {
                definitions.insert(name.clone(), Value::Null);
                let object = Value::Object(object(table, definitions));
                definitions.insert(name.clone(), object);
            }
            json!({ "$ref": format!("#/$defs/{name}") })
        }
        Shape::Tree => {
            definitions.entry("tree".to_owned()).or_insert_with(|| {
                json!({
                    "description": "A path, a template, or text; a table or list of such; a constant.",
                    "anyOf": [
                        { "type": ["string", "number", "boolean"] },
                        { "type": "array", "items": { "$ref": "#/$defs/tree" } },
                        { "type": "object", "additionalProperties": { "$ref": "#/$defs/tree" } },
                    ],
                })
            });
            json!({ "$ref": "#/$defs/tree" })
        }
        Shape::Scalar => json!({ "type": ["string", "number", "boolean", "array"] }),
        Shape::Any => json!({}),
    }
}

fn integer(min: i64, max: i64) -> Value {
    let mut schema = json!({ "type": "integer" });
    if min != i64::MIN {
        schema["minimum"] = json!(min);
    }
    if max != i64::MAX {
        schema["maximum"] = json!(max);
    }
    schema
}

fn pattern(pattern: &str) -> Value {
    json!({ "type": "string", "pattern": pattern })
}

/// The words, with what each means in the two ways that editors look for it: beside `enum`, or in
/// Taplo's own place.
fn choice(words: &[Word]) -> Value {
    let all: Vec<&str> = words.iter().map(|word| word.word).collect();
    let docs: Vec<&str> = words.iter().map(|word| word.doc.trim()).collect();
    json!({
        "type": "string",
        "enum": all,
        "markdownEnumDescriptions": docs,
        "x-taplo": { "docs": { "enumValues": docs } },
    })
}

/// `[stream.NAME.poll]` as `stream.poll`.
fn definition_name(title: &str) -> String {
    let name: String = title
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' || c == '_' { c } else { ' ' })
        .collect();
    name.split_whitespace().collect::<Vec<_>>().join("_").replace(".NAME", "")
}
