//! Nested leaves, as TOML tables nest them, and a stream's `map`.

use serde_json::{Map, Value};

use super::{Env, EvalError, Expr, env::Scope, fault::Fault};
use crate::event::Record;

/// Nested leaves, as a TOML table nests them.
#[derive(Clone, Debug)]
pub enum Tree {
    /// A string.
    Leaf(Expr),
    /// Numbers, booleans, dates.
    Constant(Value),
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

    pub(super) fn eval_in(&self, scope: &Scope<'_>) -> Result<Option<Value>, EvalError> {
        match self {
            Self::Leaf(expr) => expr.eval_in(scope),
            Self::Constant(value) => Ok(Some(value.clone())),
            Self::Table(fields) => {
                let mut members = Map::with_capacity(fields.len());
                fill(fields, &mut members, scope)?;
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

/// Sets fields; a table goes into the object that is already there.
fn fill(
    fields: &[(String, Tree)],
    members: &mut Map<String, Value>,
    scope: &Scope<'_>,
) -> Result<(), EvalError> {
    for (name, field) in fields {
        if let (Tree::Table(fields), Some(Value::Object(inner))) = (field, members.get_mut(name)) {
            fill(fields, inner, scope)?;
        } else if let Some(value) = field.eval_in(scope)? {
            members.insert(name.clone(), value);
        }
    }
    Ok(())
}

/// As [`Tree::eval_in`], as JSON text at the end of `out`, without building the tree. Whether there
/// is a value; where there is none, `out` is as it was.
fn write(tree: &Tree, scope: &Scope<'_>, out: &mut Vec<u8>) -> Result<bool, EvalError> {
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
        let mut members = match rest.eval_in(&scope)? {
            None => Map::new(),
            Some(Value::Object(members)) => members,
            Some(other) => {
                let fault = Fault::expected("an object to merge", &other);
                return Err(fault.at(rest.source(), rest.place()));
            }
        };
        if let Tree::Table(fields) = &self.fields {
            fill(fields, &mut members, &scope)?;
        }
        Ok(Record::from_value(Value::Object(members)))
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
            1 => Just(Tree::Constant(json!({"n": [1.5, null]}))),
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
                    prop_assert_eq!(&written[4..], &value.to_string().into_bytes()[..]);
                }
                (Ok(None), Ok(false)) => prop_assert_eq!(written, b"kept"),
                (Err(built), Err(wrote)) => prop_assert_eq!(built.to_string(), wrote.to_string()),
                (built, wrote) => prop_assert!(false, "{tree:?}: {built:?} {wrote:?}"),
            }
        }
    }
}
