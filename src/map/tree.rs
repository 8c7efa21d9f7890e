//! Nested leaves, as TOML tables nest them, and a stream's `map`.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use serde_json::{Map, Value};

use super::{Env, EvalError, Expr, env::Scope, fault::Fault, flow::Flow};
use crate::event::{Node, Record};

/// Nested leaves, as a TOML table nests them.
#[derive(Clone, Debug)]
pub enum Tree {
    /// A string.
    Leaf(Expr),
    /// Numbers, booleans, dates.
    Constant(Box<Value>),
    /// Fields in the order they were written.
    Table(Vec<(String, Tree)>),
    /// Items in order.
    Array(Vec<Tree>),
}

impl Tree {
    /// The value. Leaves that are left out leave out their field or item; a table all of whose
    /// fields are left out is left out itself.
    pub fn eval(&self, env: &Env) -> Result<Option<Value>, EvalError> {
        self.eval_in(&Scope::of(env))
    }

    /// As [`Tree::eval`], as JSON text: numbers of a record keep the digits they came with.
    pub fn json(&self, env: &Env) -> Result<Option<Vec<u8>>, EvalError> {
        let mut out = Vec::with_capacity(512);
        Ok(write(self, &Scope::of(env), &mut out)?.then_some(out))
    }

    pub(super) fn eval_in(&self, scope: &Scope<'_>) -> Result<Option<Value>, EvalError> {
        match self {
            Self::Leaf(expr) => expr.eval_in(scope),
            Self::Constant(value) => Ok(Some((**value).clone())),
            Self::Table(fields) => {
                let mut members = Map::with_capacity(fields.len());
                for (name, field) in fields {
                    if let Some(value) = field.eval_in(scope)? {
                        members.insert(name.clone(), value);
                    }
                }
                let left_out = members.is_empty() && !fields.is_empty();
                Ok((!left_out).then_some(Value::Object(members)))
            }
            Self::Array(items) => {
                let mut values = Vec::with_capacity(items.len());
                for item in items {
                    values.extend(item.eval_in(scope)?);
                }
                Ok(Some(Value::Array(values)))
            }
        }
    }

    /// The same with its secrets in place, each as the text that it is: for requests, which nobody
    /// but the peer sees.
    pub fn with_secrets(&self, env: &Env) -> Result<Self, EvalError> {
        Ok(match self {
            Self::Leaf(expr) if expr.needs_secret() => {
                Self::Constant(Box::new(Value::String(expr.secret(env)?.expose().to_owned())))
            }
            Self::Leaf(_) | Self::Constant(_) => self.clone(),
            Self::Array(items) => {
                let items = items.iter().map(|item| item.with_secrets(env));
                Self::Array(items.collect::<Result<_, _>>()?)
            }
            Self::Table(fields) => {
                let field =
                    |(name, tree): &(String, Self)| Ok((name.clone(), tree.with_secrets(env)?));
                Self::Table(fields.iter().map(field).collect::<Result<_, _>>()?)
            }
        })
    }

    /// Every expression in it, with its field path (`customer.email`, `tags[0]`).
    pub fn leaves(&self) -> Vec<(String, &Expr)> {
        let mut leaves = Vec::new();
        self.collect(String::new(), &mut leaves);
        leaves
    }

    fn collect<'a>(&'a self, path: String, leaves: &mut Vec<(String, &'a Expr)>) {
        match self {
            Self::Leaf(expr) => leaves.push((path, expr)),
            Self::Constant(_) => {}
            Self::Table(fields) => {
                for (name, field) in fields {
                    let dot = if path.is_empty() { "" } else { "." };
                    field.collect(format!("{path}{dot}{name}"), leaves);
                }
            }
            Self::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    item.collect(format!("{path}[{at}]"), leaves);
                }
            }
        }
    }
}

/// Writes an object with fields set in it; a table goes into the object that is already there. Of a
/// name that the object has more than once the last counts, in the place of the first.
fn merge(
    object: Node<'_>,
    fields: &[(String, Tree)],
    scope: &Scope<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EvalError> {
    let start = out.len();
    let name_it = |name: &str, out: &mut Vec<u8>| {
        out.push(if out.len() == start { 0 } else { b',' });
        push(name, out);
        out.push(b':');
    };
    let members: Vec<_> = object.members().collect();
    let mut last: HashMap<&str, Node<'_>> =
        members.iter().map(|(name, member)| (&**name, *member)).collect();
    let set: HashMap<&str, &Tree> = fields.iter().map(|(name, tree)| (&**name, tree)).collect();
    for (name, _) in &members {
        let Some(member) = last.remove(&**name) else { continue };
        name_it(name, out);
        match set.get(&**name) {
            Some(Tree::Table(fields)) if member.is_object() => merge(member, fields, scope, out)?,
            Some(field) if write(field, scope, out)? => {}
            _ => member.write(out),
        }
    }
    let known: HashSet<&str> = members.iter().map(|(name, _)| &**name).collect();
    for (name, field) in fields.iter().filter(|(name, _)| !known.contains(&**name)) {
        let before = out.len();
        name_it(name, out);
        if !write(field, scope, out)? {
            out.truncate(before);
        }
    }
    enclose(*b"{}", start, out);
    Ok(())
}

/// As [`Tree::eval_in`], as JSON text at the end of `out`, without building the tree. Whether there
/// is a value; where there is none, `out` is as it was.
pub(super) fn write(tree: &Tree, scope: &Scope<'_>, out: &mut Vec<u8>) -> Result<bool, EvalError> {
    let start = out.len();
    let separate = |out: &mut Vec<u8>| out.push(if out.len() == start { 0 } else { b',' });
    match tree {
        Tree::Leaf(expr) => return expr.write_in(scope, out),
        Tree::Constant(value) => push(value, out),
        Tree::Table(fields) => {
            for (name, field) in fields {
                let before = out.len();
                separate(out);
                push(name, out);
                out.push(b':');
                if !write(field, scope, out)? {
                    out.truncate(before);
                }
            }
            if out.len() == start && !fields.is_empty() {
                return Ok(false);
            }
            enclose(*b"{}", start, out);
        }
        Tree::Array(items) => {
            for item in items {
                let before = out.len();
                separate(out);
                if !write(item, scope, out)? {
                    out.truncate(before);
                }
            }
            enclose(*b"[]", start, out);
        }
    }
    Ok(true)
}

/// Puts brackets around what was written behind `start`: the opening one takes the place that was
/// kept for it before the first entry.
fn enclose(brackets: [u8; 2], start: usize, out: &mut Vec<u8>) {
    match out.get_mut(start) {
        Some(kept) => *kept = brackets[0],
        None => out.push(brackets[0]),
    }
    out.push(brackets[1]);
}

/// Appends JSON text.
pub(super) fn push(value: &(impl serde::Serialize + ?Sized), out: &mut Vec<u8>) {
    // Texts and `Value`s have string keys and finite numbers only, and a vector takes all.
    let _ = serde_json::to_writer(out, value);
}

/// A stream's `map`: the `"*"` entry is merged first, then the fields go into it, a table into the
/// object of its name.
#[derive(Clone, Debug)]
pub struct Mapping {
    /// `"*"`.
    pub rest: Option<Expr>,
    /// The other fields; a [`Tree::Table`].
    pub fields: Tree,
}

impl Mapping {
    /// The mapped record.
    pub fn apply(&self, env: &Env) -> Result<Record, EvalError> {
        let scope = Scope::of(env);
        let Some(rest) = &self.rest else {
            let mut out = Vec::with_capacity(512);
            if !write(&self.fields, &scope, &mut out)? {
                out.extend_from_slice(b"{}");
            }
            return Ok(Record::from_bytes(out.into()));
        };
        let rest_of = match rest.flow_in(&scope)? {
            None | Some(Flow::Missing) => Record::from_bytes(Bytes::from_static(b"{}")),
            Some(flow) => flow.to_record(),
        };
        let Some(object) = rest_of.root().filter(|root| root.is_object()) else {
            let fault = Fault::expected("an object to merge", &Flow::Written(rest_of.clone()));
            return Err(fault.at(rest.source(), rest.place()));
        };
        let fields = match &self.fields {
            Tree::Table(fields) => &fields[..],
            _ => &[],
        };
        let mut out = Vec::with_capacity(rest_of.bytes().len() + 256);
        merge(object, fields, &scope, &mut out)?;
        Ok(Record::from_bytes(out.into()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::map::{Library, Place, Site};

    fn leaf(text: &str) -> Tree {
        let site = Site { names: &["record"], root: Some("record"), lenient: false };
        let place = Place { file: "shop.toml".into(), line: 1, path: "map".into() };
        Tree::Leaf(Expr::compile(text, &site, place, &Library::default()).unwrap())
    }

    const LEAVES: [&str; 10] = [
        "$.id",
        "$.gone | optional",
        "$.gone | default('\u{e9}\"')",
        "$.deep.list[*]",
        "$.deep",
        "$.deep.list[1] | optional",
        "a \"text\"",
        "{{ record.id }}",
        "no. {{ record.id }} of {{ record.deep.name }}",
        "{% if record.id %}yes{% endif %}",
    ];

    fn any_tree() -> impl Strategy<Value = Tree> {
        let leaf = prop_oneof![
            8 => prop::sample::select(LEAVES.to_vec()).prop_map(leaf),
            1 => Just(leaf("$.gone")),
            1 => Just(Tree::Constant(Box::new(json!({"n": [1.5, null]})))),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Tree::Array),
                prop::collection::btree_map("[a-c\"]", inner, 0..4)
                    .prop_map(|fields| Tree::Table(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// What is written is what would have been built.
        #[test]
        fn writing_agrees_with_building(tree in any_tree()) {
            let text = r#"{"id": 7, "deep": {"list": [1, {"x": "\u00e9"}], "name": "n\n"}}"#;
            let env = Env::new().with_record("record", Record::from_bytes(text.into()));
            let mut written = b"kept".to_vec();
            match (tree.eval(&env), write(&tree, &Scope::of(&env), &mut written)) {
                (Ok(Some(value)), Ok(true)) => {
                    prop_assert_eq!(serde_json::from_slice::<Value>(&written[4..]).unwrap(), value);
                }
                (Ok(None), Ok(false)) => prop_assert_eq!(written, b"kept"),
                (Err(built), Err(wrote)) => prop_assert_eq!(built.to_string(), wrote.to_string()),
                (built, wrote) => prop_assert!(false, "{tree:?}: {built:?} {wrote:?}"),
            }
        }
    }

    /// Numbers of any length and spelling that JSON has and others can read.
    fn any_number() -> impl Strategy<Value = String> {
        prop_oneof![
            r"-?(0|[1-9][0-9]{0,40})",
            r"-?(0|[1-9][0-9]{0,20})\.[0-9]{1,20}",
            r"-?[1-9](\.[0-9]{1,20})?[eE][+-]?[0-9]{1,2}",
        ]
    }

    /// The map's leaf, what it gives for a number `N` in `{"n": N, "in": {"n": N}, "list": [N, N]}`.
    const PASSED_THROUGH: [(&str, &str); 20] = [
        ("$.n", "N"),
        ("{{ record.n }}", "N"),
        ("$.n | optional", "N"),
        ("$.n | default(0)", "N"),
        ("$.n | number", "N"),
        ("$.n | string", "\"N\""),
        ("$.n | json", "\"N\""),
        ("no. {{ record.n }}", "\"no. N\""),
        ("{% if record.list %}{{ record.n }}{% endif %}", "\"N\""),
        ("{{ record.n ~ '' }}", "\"N\""),
        ("{{ (record.n | string) ~ '!' }}", "\"N!\""),
        ("{{ record.n if record.list else 0 }}", "N"),
        ("$.in", "{\"n\":N}"),
        ("{{ record.in }}", "{\"n\":N}"),
        ("$.list[*]", "[N,N]"),
        ("$.list | last", "N"),
        ("$.list[*] | join(' ')", "\"N N\""),
        ("$..n", "[N,N]"),
        ("$.in | omit('x')", "{\"n\":N}"),
        ("$.in | entries", "[{\"key\":\"n\",\"value\":N}]"),
    ];

    fn record_with(number: &str) -> Env {
        let text =
            format!(r#"{{"n": {number}, "in": {{"n": {number}}}, "list": [{number}, {number}]}}"#);
        Env::new().with_record("record", Record::from_bytes(text.into()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_number_that_is_passed_through_comes_out_as_it_went_in(number in any_number()) {
            let env = record_with(&number);
            for (source, expected) in PASSED_THROUGH {
                let out = leaf(source).json(&env).unwrap().unwrap();
                let text = String::from_utf8(out).unwrap();
                prop_assert_eq!(text, expected.replace('N', &number), "{}", source);
            }
            let rest = Mapping {
                rest: match leaf("$ | omit('list')") { Tree::Leaf(expr) => Some(expr), _ => None },
                fields: Tree::Table(vec![("in".to_owned(), Tree::Table(vec![("m".to_owned(), leaf("$.n"))]))]),
            };
            let merged = rest.apply(&env).unwrap();
            let expected = format!(r#"{{"n":{number},"in":{{"n":{number},"m":{number}}}}}"#);
            prop_assert_eq!(merged.bytes(), expected.as_bytes());
        }
    }

    #[test]
    fn digits_survive_conversions() {
        for (number, source, expected) in [
            ("129.90", "$.n | decimal", r#""129.90""#),
            (
                "12345678901234567890.123456789",
                "$.n | decimal",
                r#""12345678901234567890.123456789""#,
            ),
            ("1.10", "$.list[*] | sum", "2.20"),
            ("12345678901234567890123", "$.n | integer", "12345678901234567890123"),
            ("12345678901234567890123.00", "$.n | integer", "12345678901234567890123"),
            ("1e3", "$.n | integer", "1000"),
            ("9007199254740993", "$.list[*] | sum", "18014398509481986"),
            ("12345678901234567890123", "{{ record.n + 1 }}", "12345678901234567890124"),
            ("129.90", "{{ (record.n | decimal) ~ ' EUR' }}", r#""129.90 EUR""#),
            ("1.5", "{{ record.n * 2 }}", "3.0"),
            ("1.50", "{{ record.n > 1 }}", "true"),
        ] {
            let out = leaf(source).json(&record_with(number)).unwrap().unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{source} of {number}");
        }
        let wrong = [
            "$.n | default(0.5) | decimal",
            "{{ record.n | decimal | d(1.5) }}",
            "{{ 1.5 | decimal }}",
        ];
        let site = Site { names: &["record"], root: Some("record"), lenient: false };
        for source in wrong {
            let place = Place { file: "shop.toml".into(), line: 1, path: "map".into() };
            assert!(Expr::compile(source, &site, place, &Library::default()).is_err(), "{source}");
        }
    }
}
