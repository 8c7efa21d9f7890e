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
        (json!({ "const": 1 }), json!({ "type": "integer" }), "const f: no longer limited to 1 C"),
    ] {
        let found = field(old, new).join("\n").replace("old#", "#");
        assert_eq!(found, format!("breaking #/properties/f/{expected}"));
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

/// Schemas of a few keywords each, that meet often enough to be worth comparing.
mod soundness {
    use proptest::prelude::*;

    use super::*;
    use crate::map::Schema;

    fn limits() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(json!({})),
            Just(json!({ "minimum": 1 })),
            Just(json!({ "exclusiveMinimum": 1 })),
            Just(json!({ "maximum": 2 })),
            Just(json!({ "multipleOf": 2 })),
            Just(json!({ "minLength": 2 })),
            Just(json!({ "maxLength": 1 })),
            Just(json!({ "pattern": "^a" })),
            Just(json!({ "pattern": "b$" })),
            Just(json!({ "format": "date" })),
            Just(json!({ "minItems": 1 })),
            Just(json!({ "uniqueItems": true })),
            Just(json!({ "minProperties": 1 })),
            Just(json!({ "enum": ["a", 1, null] })),
            Just(json!({ "enum": ["a", "b"] })),
            Just(json!({ "const": 1 })),
            Just(json!({ "not": { "const": "a" } })),
            Just(json!({ "$ref": "#/$defs/shared" })),
            Just(json!(true)),
            Just(json!(false)),
        ]
    }

    fn types() -> impl Strategy<Value = Value> {
        prop_oneof![
            2 => Just(json!({})),
            1 => Just(json!({ "type": "string" })),
            1 => Just(json!({ "type": "integer" })),
            1 => Just(json!({ "type": "number" })),
            1 => Just(json!({ "type": ["string", "null"] })),
            1 => Just(json!({ "type": "object" })),
            1 => Just(json!({ "type": "array" })),
        ]
    }

    /// Two schemas as one: what both say, the second one where both say something else.
    fn both(one: Value, other: Value) -> Value {
        match (one, other) {
            (Value::Object(mut one), Value::Object(other)) => {
                one.extend(other);
                Value::Object(one)
            }
            (_, other) => other,
        }
    }

    fn schema() -> impl Strategy<Value = Value> {
        let leaf = (types(), limits()).prop_map(|(kind, limit)| both(kind, limit));
        leaf.prop_recursive(3, 12, 3, |inner| {
            let required = prop_oneof![Just(json!([])), Just(json!(["a"])), Just(json!(["b", "c"]))];
            let rest = prop_oneof![
                2 => Just(json!(true)).boxed(),
                2 => Just(json!(false)).boxed(),
                1 => inner.clone().boxed(),
            ];
            prop_oneof![
                3 => (inner.clone(), proptest::option::of(inner.clone()), required, rest).prop_map(
                    |(a, b, required, rest)| {
                        let mut schema = json!({ "properties": { "a": a }, "required": required,
                                                 "additionalProperties": rest });
                        if let Some(b) = b {
                            schema["properties"]["b"] = b;
                        }
                        schema
                    }
                ),
                1 => (types(), inner.clone()).prop_map(|(kind, items)| both(kind, json!({ "items": items }))),
                1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| json!({ "allOf": [a, b] })),
                1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| json!({ "anyOf": [a, b] })),
                1 => (inner.clone(), inner).prop_map(|(a, b)| json!({ "oneOf": [a, b] })),
            ]
        })
    }

    fn document() -> impl Strategy<Value = Value> {
        (schema(), types(), limits()).prop_map(|(schema, kind, limit)| {
            // What is shared refers to nothing: a circle without an end is no schema.
            let shared = match both(kind, limit) {
                Value::Object(mut members) => {
                    members.remove("$ref");
                    Value::Object(members)
                }
                other => other,
            };
            both(
                schema.as_bool().map_or(schema.clone(), |all| json!({ "not": !all })),
                json!({ "$defs": { "shared": shared } }),
            )
        })
    }

    fn record() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            Just(json!(true)),
            Just(json!(0)),
            Just(json!(1)),
            Just(json!(2)),
            Just(json!(3)),
            Just(json!(1.5)),
            Just(json!("a")),
            Just(json!("b")),
            Just(json!("ab")),
            Just(json!("")),
            Just(json!("2026-01-31")),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
                prop::collection::btree_map("[abc]", inner, 0..3)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// A document and one that differs in a single place, where most of what may go wrong goes wrong.
    fn edited() -> impl Strategy<Value = (Value, Value)> {
        let place = any::<prop::sample::Index>();
        (document(), place, any::<prop::sample::Index>(), schema(), limits(), 0..4_u8).prop_map(
            |(old, place, keyword, other, limit, how)| {
                let mut places = Vec::new();
                places_of(&old, String::new(), &mut places);
                let mut new = old.clone();
                let at = new.pointer_mut(&places[place.index(places.len())]).expect("a schema");
                match (how, at.as_object_mut()) {
                    (0, Some(members)) => {
                        let keys = members.keys().filter(|key| *key != "$defs");
                        let keys: Vec<String> = keys.cloned().collect();
                        if !keys.is_empty() {
                            members.remove(&keys[keyword.index(keys.len())]);
                        }
                    }
                    (1, Some(members)) => {
                        members.extend(limit.as_object().cloned().unwrap_or_default());
                    }
                    (2, Some(members)) => {
                        members.extend(other.as_object().cloned().unwrap_or_default());
                    }
                    (_, Some(members)) => {
                        let inner = Value::Object(std::mem::take(members));
                        let definitions = inner.get("$defs").cloned();
                        *at = json!({ "allOf": [inner, other] });
                        if let Some(definitions) = definitions {
                            at["$defs"] = definitions;
                        }
                    }
                    (_, None) => *at = limit,
                }
                (old, new)
            },
        )
    }

    /// Pointers to all schemas of a document but those that are shared.
    fn places_of(schema: &Value, at: String, places: &mut Vec<String>) {
        for (name, inner) in schema.as_object().into_iter().flatten() {
            match name.as_str() {
                "properties" => {
                    for (name, inner) in inner.as_object().into_iter().flatten() {
                        places_of(inner, format!("{at}/properties/{name}"), places);
                    }
                }
                "items" | "additionalProperties" | "not" => {
                    places_of(inner, format!("{at}/{name}"), places);
                }
                "allOf" | "anyOf" | "oneOf" => {
                    for (index, inner) in inner.as_array().into_iter().flatten().enumerate() {
                        places_of(inner, format!("{at}/{name}/{index}"), places);
                    }
                }
                _ => {}
            }
        }
        places.push(at);
    }

    /// Where an object was open, a field that is added may have been written before.
    fn is_exempt(change: &super::super::Change) -> bool {
        change.what.contains("until now anything could stand there")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Records that satisfy one version and not the other are proof of a break: it has to be told.
        #[test]
        fn what_a_record_proves_is_told(
            (old, new) in prop_oneof![1 => (document(), document()), 3 => edited()],
            records in prop::collection::vec(record(), 64),
        ) {
            let changes = compare(&old, &new);
            let (before, after) = (Schema::compile("old", &old), Schema::compile("new", &new));
            let (Ok(before), Ok(after)) = (before, after) else { return Ok(()) };
            for record in records {
                let (was, is) = (before.check(&record).is_empty(), after.check(&record).is_empty());
                if was && !is {
                    let told = changes.iter().any(|c| c.producers.is_some() || is_exempt(c));
                    prop_assert!(told, "{record} is refused now:\n{old}\n{new}\n{changes:#?}");
                }
                if !was && is {
                    let told = changes.iter().any(|change| {
                        // Readers ignore what they do not know.
                        let is_new = change.what.starts_with("added");
                        change.consumers.is_some() || is_new || change.class == Class::Additive
                    });
                    prop_assert!(told, "{record} is taken now:\n{old}\n{new}\n{changes:#?}");
                }
            }
        }

        #[test]
        fn a_version_does_not_differ_from_itself(schema in document()) {
            prop_assert_eq!(compare(&schema, &schema), []);
        }

        #[test]
        fn no_document_makes_it_panic(old in record(), new in document()) {
            compare(&old, &new);
            compare(&new, &old);
        }
    }
}
