//! One schema within a document, with all that holds besides it: what it refers to, and `allOf`.

use std::collections::BTreeSet;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use serde_json::{Map, Value, json};

use super::{super::field::referred, keywords::WORDS};
use crate::map::Schema;

/// References and `allOf` followed from one schema.
const MAX_PARTS_DEPTH: usize = 16;
/// References unfolded in what is compared as text.
const MAX_EXPANSION_DEPTH: usize = 12;
/// Values are quoted up to this length.
const MAX_QUOTED_CHARS: usize = 40;

/// What stands as it is in a pointer within a URI.
const FRAGMENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'$').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Names of the documents in which values are tried.
const OUTER: &str = "urn:tenon:outer";
const INNER: &str = "urn:tenon:inner";

/// Every JSON type, `number` as whole numbers and the rest.
const ALL_TYPES: &[&str] = &["null", "boolean", "object", "array", "string", "integer", "fraction"];

/// Schemas that hold together, each with its pointer.
#[derive(Clone)]
pub(super) struct Node<'v> {
    root: &'v Value,
    /// Where it is written.
    pointers: Vec<String>,
    parts: Vec<(&'v Map<String, Value>, String)>,
    /// One of them is `false`.
    never: bool,
}

/// Which values a schema takes.
#[derive(Debug, PartialEq)]
pub(super) struct Domain {
    pub types: BTreeSet<&'static str>,
    /// The only ones, where they are listed.
    pub values: Option<Vec<Value>>,
}

impl Domain {
    /// `string or null`.
    pub fn type_words(&self) -> String {
        if self.types.len() == ALL_TYPES.len() {
            return "any".to_owned();
        }
        let mut names: Vec<&str> = Vec::new();
        for name in ALL_TYPES.iter().filter(|name| self.types.contains(**name)) {
            match *name {
                "integer" if self.types.contains("fraction") => {}
                "fraction" => names.push("number"),
                name => names.push(name),
            }
        }
        // null is an afterthought: "string or null".
        names.sort_by_key(|name| *name == "null");
        if names.is_empty() { "none".to_owned() } else { names.join(" or ") }
    }
}

impl<'v> Node<'v> {
    pub fn root(document: &'v Value) -> Self {
        Self::of(document, vec![(document, String::new())])
    }

    /// Schemas that hold together.
    pub fn of(root: &'v Value, schemas: Vec<(&'v Value, String)>) -> Self {
        let pointers = schemas.iter().map(|(_, pointer)| pointer.clone()).collect();
        let mut node = Self { root, pointers, parts: Vec::new(), never: false };
        for (schema, pointer) in schemas {
            node.add(schema, pointer, 0);
        }
        node
    }

    fn add(&mut self, schema: &'v Value, pointer: String, depth: usize) {
        self.never |= schema == &Value::Bool(false);
        let Some(members) = schema.as_object().filter(|_| depth < MAX_PARTS_DEPTH) else { return };
        if self.parts.iter().any(|(_, known)| *known == pointer) {
            return;
        }
        self.parts.push((members, pointer.clone()));
        if let Some(reference) = members.get("$ref")
            && let Some(target) = referred(self.root, reference)
        {
            let pointer = reference.as_str().unwrap_or_default().trim_start_matches('#');
            self.add(target, pointer.to_owned(), depth + 1);
        }
        for (index, part) in
            members.get("allOf").and_then(Value::as_array).into_iter().flatten().enumerate()
        {
            self.add(part, format!("{pointer}/allOf/{index}"), depth + 1);
        }
    }

    pub fn pointer(&self) -> String {
        self.pointers.first().cloned().unwrap_or_default()
    }

    /// Tells what a node says from what another one says: a mere reference says what it leads to.
    pub fn identity(&self) -> String {
        let says = |(members, _): &&(&Map<String, Value>, String)| {
            members.keys().any(|keyword| keyword != "$ref" && !WORDS.contains(&keyword.as_str()))
        };
        let told = self.parts.iter().filter(says).map(|(_, pointer)| format!("#{pointer}"));
        let never = self.never.then(|| "false".to_owned());
        never.into_iter().chain(told).collect::<Vec<_>>().join(" ")
    }

    pub fn is_never(&self) -> bool {
        self.never
    }

    /// Whether it takes anything: `true`, `{}`, or nothing but words.
    pub fn takes_anything(&self) -> bool {
        !self.never
            && self
                .parts
                .iter()
                .all(|(members, _)| members.keys().all(|keyword| WORDS.contains(&keyword.as_str())))
    }

    /// Where the first of these keywords stands.
    pub fn place_of(&self, keywords: &[&str]) -> Option<String> {
        keywords.iter().find_map(|keyword| {
            let (_, pointer) =
                self.parts.iter().find(|(members, _)| members.contains_key(*keyword))?;
            Some(format!("{pointer}/{keyword}"))
        })
    }

    /// Every value of a keyword.
    pub fn all(&self, keyword: &str) -> impl Iterator<Item = &'v Value> {
        self.parts.iter().filter_map(move |(members, _)| members.get(keyword))
    }

    /// The value of an annotation: the outermost wins.
    pub fn word(&self, keyword: &str) -> Option<&'v Value> {
        self.all(keyword).next()
    }

    /// The schemas under a keyword that takes one.
    pub fn child(&self, keyword: &str) -> Option<Self> {
        let found = self.parts.iter().filter_map(|(members, pointer)| {
            Some((members.get(keyword)?, format!("{pointer}/{keyword}")))
        });
        let found: Vec<_> = found.collect();
        (!found.is_empty()).then(|| Self::of(self.root, found))
    }

    /// Whether one of its parts refuses what another one lists: `additionalProperties` counts only the
    /// properties beside it.
    pub fn is_tangled(&self) -> bool {
        let all = self.properties();
        self.parts.iter().any(|(members, _)| {
            let own = members.get("properties").and_then(Value::as_object);
            let has = |name: &&str| own.is_some_and(|own| own.contains_key(*name));
            let limits =
                members.get("additionalProperties").is_some_and(|rest| rest != &Value::Bool(true));
            limits && !all.iter().all(has)
        })
    }

    /// The names of its properties, in the order of the document.
    pub fn properties(&self) -> Vec<&'v str> {
        let mut names: Vec<&str> = Vec::new();
        for name in self.all("properties").filter_map(Value::as_object).flat_map(Map::keys) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }

    /// The schemas of a property.
    pub fn property(&self, name: &str) -> Option<Self> {
        let found = self.parts.iter().filter_map(|(members, pointer)| {
            let schema = members.get("properties")?.get(name)?;
            let name = name.replace('~', "~0").replace('/', "~1");
            Some((schema, format!("{pointer}/properties/{name}")))
        });
        let found: Vec<_> = found.collect();
        (!found.is_empty()).then(|| Self::of(self.root, found))
    }

    /// The properties that must be there.
    pub fn required(&self) -> BTreeSet<&'v str> {
        let lists = self.all("required").filter_map(Value::as_array);
        lists.flatten().filter_map(Value::as_str).collect()
    }

    /// Which values it takes.
    pub fn domain(&self) -> Domain {
        let mut domain = Domain { types: ALL_TYPES.iter().copied().collect(), values: None };
        for (members, _) in &self.parts {
            narrow(&mut domain, &domain_of(members));
            for alternatives in ["anyOf", "oneOf"] {
                if let Some(choice) =
                    members.get(alternatives).and_then(|list| simple_choice(alternatives, list))
                {
                    narrow(&mut domain, &choice);
                }
            }
        }
        domain
    }

    /// All that it says, to try values on.
    pub fn validator(&self) -> Option<Schema> {
        // Within a document of its own name, what it refers to stays where it is.
        let mut root = match self.root {
            Value::Object(members) => members.clone(),
            _ => return None,
        };
        root.insert("$id".to_owned(), Value::from(INNER));
        let parts = self
            .pointers
            .iter()
            .map(|pointer| json!({ "$ref": format!("{INNER}#{}", escaped(pointer)) }));
        let parts: Vec<Value> = parts.collect();
        Schema::compile("", &json!({ "$id": OUTER, "allOf": parts, "$defs": { "inner": root } }))
            .ok()
    }

    /// The alternatives of each list of them, unless they only list types or values: those are part
    /// of the domain.
    pub fn alternatives(&self, keyword: &str) -> Vec<Vec<Self>> {
        let mut found = Vec::new();
        for (members, pointer) in &self.parts {
            let Some(list) = members.get(keyword).filter(|l| simple_choice(keyword, l).is_none())
            else {
                continue;
            };
            let one = |(index, schema)| {
                Self::of(self.root, vec![(schema, format!("{pointer}/{keyword}/{index}"))])
            };
            found.push(list.as_array().into_iter().flatten().enumerate().map(one).collect());
        }
        found
    }

    /// The values of a keyword with references unfolded and words left out, to be compared.
    pub fn expanded(&self, root: &Value, keyword: &str) -> Vec<Value> {
        let values = self
            .all(keyword)
            .filter(|value| !(is_choice(keyword) && simple_choice(keyword, value).is_some()));
        let mut values: Vec<Value> = values
            // What it refers to within the document is one of its parts.
            .filter(|value| keyword != "$ref" || referred(root, value).is_none())
            .map(|value| expand(root, value, 0))
            .collect();
        values.sort_by_cached_key(Value::to_string);
        values
    }

    /// All of it with references unfolded and words left out.
    pub fn expanded_whole(&self, root: &Value) -> Vec<Value> {
        let parts = self.parts.iter().map(|(members, _)| Value::Object((*members).clone()));
        let mut parts: Vec<Value> = parts.map(|part| expand(root, &part, 0)).collect();
        // `false` has no words of its own.
        parts.extend(self.never.then_some(Value::Bool(false)));
        parts.sort_by_cached_key(Value::to_string);
        parts
    }
}

fn is_choice(keyword: &str) -> bool {
    matches!(keyword, "anyOf" | "oneOf")
}

fn expand(root: &Value, value: &Value, depth: usize) -> Value {
    match value {
        Value::Object(members) => {
            if let Some(target) =
                members.get("$ref").and_then(|reference| referred(root, reference))
                && depth < MAX_EXPANSION_DEPTH
            {
                let mut own = members.clone();
                own.remove("$ref");
                let own = expand(root, &Value::Object(own), depth + 1);
                return Value::Array(vec![own, expand(root, target, depth + 1)]);
            }
            let kept = members.iter().filter(|(keyword, _)| !WORDS.contains(&keyword.as_str()));
            kept.map(|(keyword, value)| (keyword.clone(), expand(root, value, depth))).collect()
        }
        Value::Array(items) => items.iter().map(|item| expand(root, item, depth)).collect(),
        other => other.clone(),
    }
}

/// What `type`, `enum` and `const` of one schema say.
fn domain_of(members: &Map<String, Value>) -> Domain {
    let mut domain = Domain { types: ALL_TYPES.iter().copied().collect(), values: None };
    if let Some(named) = members.get("type") {
        let names: Vec<&str> = match named {
            Value::String(one) => vec![one],
            several => several.as_array().into_iter().flatten().filter_map(Value::as_str).collect(),
        };
        domain.types.retain(|name| {
            names.contains(name)
                || matches!(*name, "integer" | "fraction") && names.contains(&"number")
        });
    }
    let constant = members.get("const").map(|value| vec![value.clone()]);
    let listed = members.get("enum").and_then(Value::as_array).cloned();
    for values in constant.into_iter().chain(listed) {
        let types = domain.types.clone();
        narrow(&mut domain, &Domain { types, values: Some(values) });
    }
    domain
}

/// Alternatives that only list types, or only values. Those of `oneOf` must not overlap.
fn simple_choice(keyword: &str, list: &Value) -> Option<Domain> {
    const SIMPLE: &[&str] = &["type", "enum", "const"];
    let mut union = Domain { types: BTreeSet::new(), values: Some(Vec::new()) };
    let list = list.as_array().filter(|list| !list.is_empty())?;
    for alternative in list {
        let members = alternative.as_object()?;
        let is_simple = |keyword: &String| {
            SIMPLE.contains(&keyword.as_str()) || WORDS.contains(&keyword.as_str())
        };
        if !members.keys().all(is_simple) {
            return None;
        }
        let one = domain_of(members);
        let overlaps = match (&union.values, &one.values) {
            (Some(known), Some(values)) => values.iter().any(|value| known.contains(value)),
            _ => one.types.iter().any(|name| union.types.contains(name)),
        };
        if keyword == "oneOf" && overlaps {
            return None;
        }
        union.types.extend(&one.types);
        union.values = match (union.values, one.values) {
            (Some(mut known), Some(more)) => {
                known.extend(more);
                Some(known)
            }
            _ => None,
        };
    }
    let lists_values =
        list.iter().filter(|one| one.get("enum").or(one.get("const")).is_some()).count();
    // A listed value beside a type cannot be told as either.
    (lists_values == 0 || lists_values == list.len()).then_some(union)
}

fn narrow(domain: &mut Domain, by: &Domain) {
    domain.types.retain(|name| by.types.contains(name));
    domain.values = match (domain.values.take(), &by.values) {
        (None, values) => values.clone(),
        (Some(known), None) => Some(known),
        (Some(known), Some(values)) => {
            Some(known.into_iter().filter(|value| values.contains(value)).collect())
        }
    };
    if let Some(values) = &mut domain.values {
        values.retain(|value| domain.types.contains(type_of(value)));
        let used: BTreeSet<&str> = values.iter().map(type_of).collect();
        domain.types.retain(|name| used.contains(name));
    }
}

/// A pointer as a fragment of a URI.
fn escaped(pointer: &str) -> String {
    percent_encoding::utf8_percent_encode(pointer, FRAGMENT).to_string()
}

/// The type of a value, `fraction` for a number that is not whole.
pub(super) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Object(_) => "object",
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(number) if number.as_f64().is_some_and(|number| number.fract() != 0.0) => {
            "fraction"
        }
        Value::Number(_) => "integer",
    }
}

/// Values as JSON, with commas.
pub(super) fn list(values: &[Value]) -> String {
    values.iter().map(quoted).collect::<Vec<_>>().join(", ")
}

/// A value as JSON, cut where it is long.
pub(super) fn quoted(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(MAX_QUOTED_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
