//! Nested leaves, as TOML tables nest them, and a stream's `map`.

use serde_json::{Map, Value};

use super::{Env, EvalError, Expr, env::Scope, fault::Fault};

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
    pub fn apply(&self, env: &Env) -> Result<Value, EvalError> {
        let scope = Scope::of(env);
        let mut members = match &self.rest {
            None => Map::new(),
            Some(expr) => match expr.eval_in(&scope)? {
                None => Map::new(),
                Some(Value::Object(members)) => members,
                Some(other) => {
                    let fault = Fault::expected("an object to merge", &other);
                    return Err(fault.at(expr.source(), expr.place()));
                }
            },
        };
        match &self.fields {
            Tree::Table(fields) => {
                fill(fields, &mut members, &scope)?;
                Ok(Value::Object(members))
            }
            other => Ok(other.eval_in(&scope)?.unwrap_or(Value::Object(members))),
        }
    }
}
