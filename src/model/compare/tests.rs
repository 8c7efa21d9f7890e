//! Each kind of change: its class, its place, and which side breaks.

use serde_json::{Value, json};

use super::{Class, compare};

/// `class pointer fields: what | P: why | C: why`, one a change.
fn told(old: Value, new: Value) -> Vec<String> {
    let line = |change: super::Change| {
        let mut line = format!(
            "{} {}{} {}: {}",
            change.class.word(),
            if change.is_in_new { "" } else { "old" },
            change.pointer,
            change.fields.join(" "),
            change.what
        );
        if change.producers.is_some() {
            line.push_str(" P");
        }
        if change.consumers.is_some() {
            line.push_str(" C");
        }
        line
    };
    compare(&old, &new).into_iter().map(line).collect()
}

/// A change of one field's schema.
fn field(old: Value, new: Value) -> Vec<String> {
    let object = |schema: Value| json!({ "properties": { "f": schema } });
    told(object(old), object(new))
}

#[test]
fn types_and_values() {
    for (old, new, expected) in [
        (
            json!({ "type": "string" }),
            json!({ "type": ["string", "null"] }),
            "type f: type: string → string or null C",
        ),
        (
            json!({ "type": "number" }),
            json!({ "type": "integer" }),
            "type f: type: number → integer P",
        ),
        (
            json!({ "type": "integer" }),
            json!({ "type": "number" }),
            "type f: type: integer → number C",
        ),
        (
            json!({ "type": "string" }),
            json!({ "type": "integer" }),
            "type f: type: string → integer P C",
        ),
        (json!({}), json!({ "type": "string" }), "type f: type: any → string P"),
        (json!({ "enum": ["a"] }), json!({ "enum": ["a", "b"] }), "enum f: allowed now: \"b\" C"),
        (
            json!({ "enum": ["a", "b"] }),
            json!({ "enum": ["a"] }),
            "enum f: no longer allowed: \"b\" P",
        ),
        (
            json!({ "type": "string" }),
            json!({ "enum": ["a"] }),
            "enum f: only these are allowed now: \"a\" P",
        ),
        (json!({ "const": 1 }), json!({ "type": "integer" }), "type f: no longer limited to 1 C"),
    ] {
        assert_eq!(field(old, new), [format!("breaking #/properties/f/{expected}")]);
    }
    let same = [
        (json!({ "enum": ["a"] }), json!({ "type": "string", "enum": ["a"] })),
        (json!({ "const": "a" }), json!({ "enum": ["a"] })),
        (
            json!({ "type": ["string", "null"] }),
            json!({ "anyOf": [{ "type": "null" }, { "type": "string" }] }),
        ),
        (
            json!({ "enum": ["a", "b"] }),
            json!({ "oneOf": [{ "const": "b", "description": "B" }, { "const": "a" }] }),
        ),
        (json!({ "type": "string", "minimum": 1 }), json!({ "type": "string" })),
    ];
    for (old, new) in same {
        assert_eq!(field(old.clone(), new.clone()), [""; 0], "{old} {new}");
    }
}

#[test]
fn limits() {
    let of = |kind: &str, more: Value| {
        let mut schema = json!({ "type": kind });
        schema.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        schema
    };
    for (kind, old, new, expected) in [
        (
            "integer",
            json!({ "minimum": 0 }),
            json!({ "minimum": 1 }),
            "minimum f: `minimum`: 0 → 1 P",
        ),
        (
            "integer",
            json!({ "minimum": 0 }),
            json!({ "exclusiveMinimum": 0 }),
            "exclusiveMinimum f: `minimum`: 0 → 0 (itself excluded) P",
        ),
        (
            "number",
            json!({ "maximum": 1 }),
            json!({ "maximum": 2.5 }),
            "maximum f: `maximum`: 1 → 2.5 C",
        ),
        ("string", json!({}), json!({ "maxLength": 9 }), "maxLength f: `maxLength`: none → 9 P"),
        ("string", json!({}), json!({ "pattern": "^a" }), "pattern f: `pattern`: none → \"^a\" P"),
        (
            "string",
            json!({ "pattern": "^a" }),
            json!({ "pattern": "^b" }),
            "pattern f: `pattern`: \"^a\" → \"^b\" P C",
        ),
        (
            "string",
            json!({}),
            json!({ "format": "email" }),
            "format f: `format`: none → \"email\" P",
        ),
        (
            "number",
            json!({ "multipleOf": 0.01 }),
            json!({ "multipleOf": 0.1 }),
            "multipleOf f: `multipleOf`: 0.01 → 0.1 P",
        ),
        (
            "number",
            json!({ "multipleOf": 2 }),
            json!({ "multipleOf": 3 }),
            "multipleOf f: `multipleOf`: 2 → 3 P C",
        ),
        (
            "array",
            json!({}),
            json!({ "uniqueItems": true }),
            "uniqueItems f: `uniqueItems` added P",
        ),
        (
            "array",
            json!({ "minItems": 1 }),
            json!({ "minItems": 0 }),
            "minItems f: `minItems`: 1 → 0 C",
        ),
    ] {
        let found = field(of(kind, old), of(kind, new));
        assert_eq!(found, [format!("breaking #/properties/f/{expected}")]);
    }
    let found = field(of("string", json!({ "format": "email" })), of("string", json!({})));
    assert_eq!(found, ["breaking old#/properties/f/format f: `format`: \"email\" → none C"]);
}

#[test]
fn fields() {
    let object = |properties: Value, required: Value, rest: Value| {
        json!({ "type": "object", "properties": properties, "required": required,
                "additionalProperties": rest })
    };
    let a = || json!({ "a": { "type": "string" } });
    let ab = || json!({ "a": { "type": "string" }, "b": { "type": "string" } });
    let (closed, open) = (json!(false), json!(true));
    let none = json!([]);
    for (old, new, expected) in [
        (
            object(a(), none.clone(), closed.clone()),
            object(ab(), none.clone(), closed.clone()),
            "additive #/properties/b b: added, optional",
        ),
        (
            object(a(), none.clone(), open.clone()),
            object(ab(), none.clone(), open.clone()),
            "additive #/properties/b b: added, optional; until now anything could stand there",
        ),
        (
            object(a(), none.clone(), closed.clone()),
            object(ab(), json!(["b"]), closed.clone()),
            "breaking #/properties/b b: added, required P",
        ),
        (
            object(ab(), none.clone(), closed.clone()),
            object(a(), none.clone(), closed.clone()),
            "breaking old#/properties/b b: removed P C",
        ),
        (
            object(ab(), none.clone(), open.clone()),
            object(a(), none.clone(), open.clone()),
            "breaking old#/properties/b b: removed C",
        ),
        (
            object(a(), none.clone(), open.clone()),
            object(a(), json!(["a"]), open.clone()),
            "breaking #/required a: required now P",
        ),
        (
            object(a(), json!(["a"]), open.clone()),
            object(a(), none.clone(), open.clone()),
            "breaking #/required a: no longer required C",
        ),
        (
            object(a(), none.clone(), open.clone()),
            object(a(), none.clone(), closed.clone()),
            "breaking #/additionalProperties : only listed fields are allowed now P",
        ),
        (
            object(a(), none.clone(), closed.clone()),
            object(a(), none.clone(), open.clone()),
            "additive #/additionalProperties : fields that are not listed are allowed now",
        ),
        (
            object(a(), none.clone(), json!({ "type": "string" })),
            object(a(), none.clone(), json!({ "type": "integer" })),
            "breaking #/additionalProperties/type *: type: string → integer P C",
        ),
        (
            object(a(), none.clone(), json!({ "type": "string" })),
            object(ab(), none.clone(), json!({ "type": "string" })),
            "",
        ),
    ] {
        let found = told(old, new);
        assert_eq!(found.join("\n"), expected);
    }
}

#[test]
fn what_many_fields_refer_to_is_told_once_with_all_of_them() {
    let schema = |pattern: &str| {
        json!({
            "properties": {
                "total": { "description": "All.", "$ref": "#/$defs/amount" },
                "tax": { "$ref": "#/$defs/amount" },
                "lines": { "type": "array", "items": { "properties": { "price": { "$ref": "#/$defs/amount" } } } },
            },
            "$defs": { "amount": { "type": "string", "pattern": pattern } },
        })
    };
    assert_eq!(
        told(schema("^a"), schema("^b")),
        ["breaking #/$defs/amount/pattern total tax lines[].price: `pattern`: \"^a\" → \"^b\" P C"]
    );
    // Written out instead of referred to, it is the same schema.
    let mut inline = schema("^a");
    inline["properties"]["tax"] = json!({ "type": "string", "pattern": "^a" });
    assert_eq!(told(schema("^a"), inline), [""; 0]);
}

#[test]
fn a_schema_that_refers_to_itself_ends() {
    let schema = |kind: &str| {
        json!({ "properties": { "parent": { "$ref": "#" }, "id": { "type": kind },
                 "other": { "anyOf": [{ "$ref": "#" }, { "type": "null" }] } } })
    };
    let found = told(schema("string"), schema("integer"));
    assert_eq!(found[0], "breaking #/properties/id/type id: type: string → integer P C");
    // A thousand references to two more each.
    let mut definitions = serde_json::Map::new();
    for at in 0..200 {
        let next = |step: usize| json!({ "$ref": format!("#/$defs/d{}", (at + step) % 200) });
        definitions
            .insert(format!("d{at}"), json!({ "properties": { "a": next(1), "b": next(7) } }));
    }
    let web = |title: &str| json!({ "title": title, "$ref": "#/$defs/d0", "$defs": definitions });
    let found = compare(&web("a"), &web("b"));
    assert!(found.iter().any(|change| change.what == "too large to be compared"));
}

#[test]
fn alternatives_and_what_cannot_be_told() {
    let any = |list: Value| json!({ "properties": { "f": { "anyOf": list } } });
    let object = |name: &str| json!({ "type": "object", "required": [name] });
    let (a, b) = (object("a"), object("b"));
    assert_eq!(
        told(any(json!([a])), any(json!([a, b]))),
        ["breaking #/properties/f/anyOf f: `anyOf`: 2 alternatives, were 1 C"]
    );
    assert_eq!(
        told(any(json!([a, b])), any(json!([b]))),
        ["breaking #/properties/f/anyOf f: `anyOf`: 1 alternatives, were 2 P"]
    );
    assert_eq!(
        told(
            any(json!([a, { "type": "string", "minLength": 1 }])),
            any(json!([{ "type": "string", "minLength": 2 }, a]))
        ),
        ["breaking #/properties/f/anyOf/0/minLength f: `minLength`: 1 → 2 P"]
    );
    assert_eq!(
        field(json!({}), json!({ "anyOf": [a] })),
        ["breaking #/properties/f/anyOf f: `anyOf` added P"]
    );
    assert_eq!(
        field(json!({ "not": { "const": 1 } }), json!({ "not": { "const": 2 } })),
        ["breaking #/properties/f/not f: `not` changed P C"]
    );
    // Words within do not matter.
    assert_eq!(
        field(
            json!({ "not": { "const": 1 } }),
            json!({ "not": { "const": 1, "description": "one" } })
        ),
        [""; 0]
    );
    assert_eq!(
        field(json!({}), json!(false)),
        ["breaking #/properties/f f: refused altogether P C"]
    );
    assert_eq!(
        field(json!(false), json!(true)),
        ["additive #/properties/f f: allowed now; it was refused"]
    );
}

#[test]
fn words_units_and_marks() {
    for (old, new, expected) in [
        (
            json!({ "description": "a" }),
            json!({ "description": "b" }),
            "cosmetic #/properties/f/description f: `description` reworded",
        ),
        (
            json!({ "x-unit": "g" }),
            json!({ "x-unit": "kg" }),
            "breaking #/properties/f/x-unit f: `x-unit`: \"g\" → \"kg\" P C",
        ),
        (
            json!({}),
            json!({ "x-unit": "kg" }),
            "cosmetic #/properties/f/x-unit f: `x-unit` reworded",
        ),
        (
            json!({}),
            json!({ "x-pii": true }),
            "operational #/properties/f/x-pii f: personal from now on: masked in logs and views",
        ),
        (
            json!({ "x-pii": true }),
            json!({}),
            "operational old#/properties/f/x-pii f: no longer personal: logs and views show it",
        ),
        (
            json!({}),
            json!({ "deprecated": true }),
            "operational #/properties/f/deprecated f: deprecated: it will go with the next version",
        ),
    ] {
        assert_eq!(field(old, new), [expected]);
    }
}

#[test]
fn breaking_changes_come_first() {
    let old = json!({ "title": "A", "properties": { "a": { "type": "string" } } });
    let new = json!({ "title": "B", "properties": { "a": { "type": "integer" } } });
    let classes: Vec<Class> = compare(&old, &new).iter().map(|change| change.class).collect();
    assert_eq!(classes, [Class::Breaking, Class::Cosmetic]);
}
