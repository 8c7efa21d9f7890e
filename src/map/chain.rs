//! Dotted names within templates (`record.customer.email`, `record.lines[0].sku`), walked without
//! the template engine.

use std::{borrow::Cow, fmt};

use serde_json::Value;

use super::{
    env::{Root, Scope},
    json,
    path::{Step, child, names, position, walk_node},
};
use crate::event::{Node, Record};

/// A name and the members and indexes after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub root: &'static str,
    pub steps: Box<[Step]>,
}

/// What a chain leads to.
pub(super) enum Target<'a> {
    Missing,
    Json(&'a Value),
    /// Part of a record.
    Node(Node<'a>),
    /// A value that only the template engine knows, or a character of a string.
    Dynamic(minijinja::Value),
}

impl Chain {
    /// The first member's name: the `shop` of `vars.shop`.
    pub fn member(&self) -> Option<&str> {
        match self.steps.first() {
            Some(Step::Name(name)) => Some(name),
            _ => None,
        }
    }

    /// The names behind the root, up to what is no name.
    pub fn members(&self) -> Vec<&str> {
        names(&self.steps)
    }

    /// `secret.NAME`'s name.
    pub fn secret(&self) -> Option<&str> {
        if self.root == "secret" { self.member() } else { None }
    }

    /// Follows it.
    pub fn resolve<'a>(&self, scope: &Scope<'a>) -> Target<'a> {
        if let Some(name) = self.secret() {
            return match scope.env.secret(name).filter(|_| scope.secrets) {
                Some(secret) => Target::Dynamic(minijinja::Value::from(secret.expose())),
                None => Target::Missing,
            };
        }
        match scope.root(self.root) {
            None => Target::Missing,
            Some(Root::Item(value)) => follow(value, &self.steps),
            Some(Root::Node(node)) => {
                follow_node(node, &self.steps, || Cow::Owned(node.to_value()))
            }
            Some(Root::Shared(value)) => follow(value, &self.steps),
            Some(Root::Record(record)) => follow_record(record, &self.steps),
            Some(Root::Dynamic(value)) => follow_dynamic(value.clone(), &self.steps),
        }
    }

    /// The same, for the engine: arrays and objects stay shared with the document. A number
    /// `as_written` keeps its digits, and can be printed and filtered, but not counted with.
    pub fn resolve_for_template(&self, scope: &Scope<'_>, as_written: bool) -> minijinja::Value {
        if let Some(Root::Record(record)) = scope.root(self.root)
            && let Some(node) = record.root().and_then(|root| walk_node(root, &self.steps))
            && (node.is_array() || node.is_object())
        {
            return json::part(record.value(), &self.steps);
        }
        match self.resolve(scope) {
            Target::Missing => minijinja::Value::UNDEFINED,
            Target::Dynamic(value) => value,
            Target::Node(node) => json::node_to_template(node, as_written),
            Target::Json(value) if !(value.is_array() || value.is_object()) => {
                json::owned_to_template(value.clone())
            }
            Target::Json(value) => match scope.root(self.root) {
                Some(Root::Shared(document)) => json::part(document, &self.steps),
                _ => json::owned_to_template(value.clone()),
            },
        }
    }
}

impl fmt::Display for Chain {
    /// As it would be written: `record.lines[0]['odd name']`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.root)?;
        self.steps.iter().try_for_each(|step| write!(f, "{step}"))
    }
}

fn follow_record<'a>(record: &'a Record, steps: &[Step]) -> Target<'a> {
    match record.root() {
        Some(root) => follow_node(root, steps, || Cow::Borrowed(record.value())),
        None => Target::Missing,
    }
}

fn follow_node<'a, 't>(
    node: Node<'a>,
    steps: &[Step],
    tree: impl FnOnce() -> Cow<'t, Value>,
) -> Target<'a> {
    match walk_node(node, steps) {
        Some(node) => Target::Node(node),
        // Either nothing is there, or an index means a character of a string.
        None if steps.iter().any(|step| matches!(step, Step::Index(_))) => {
            match follow(&tree(), steps) {
                Target::Dynamic(character) => Target::Dynamic(character),
                _ => Target::Missing,
            }
        }
        None => Target::Missing,
    }
}

fn follow<'a>(mut value: &'a Value, steps: &[Step]) -> Target<'a> {
    for (at, step) in steps.iter().enumerate() {
        match (value, step) {
            (Value::String(text), Step::Index(index)) => {
                let character = position(*index, text.chars().count())
                    .and_then(|position| text.chars().nth(position));
                return match character {
                    Some(one) => {
                        follow_dynamic(minijinja::Value::from(one.to_string()), &steps[at + 1..])
                    }
                    None => Target::Missing,
                };
            }
            _ => match child(value, step) {
                Some(next) => value = next,
                None => return Target::Missing,
            },
        }
    }
    Target::Json(value)
}

fn follow_dynamic<'a>(mut value: minijinja::Value, steps: &[Step]) -> Target<'a> {
    for step in steps {
        let next = match step {
            Step::Name(name) => value.get_attr(name),
            Step::Index(index) => value.get_item(&minijinja::Value::from(*index)),
            Step::All => return Target::Missing,
        };
        match next {
            Ok(next) => value = next,
            Err(_) => return Target::Missing,
        }
    }
    if value.is_undefined() { Target::Missing } else { Target::Dynamic(value) }
}
