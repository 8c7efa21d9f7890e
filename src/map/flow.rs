//! What flows through a row of filters: borrowed from a record or a document for as long as that
//! will do, so that numbers keep the digits they came with.

use std::borrow::Cow;

use serde_json::{Number, Value};

use crate::event::{Node, Record, Shape};

use super::{
    fault::{Fault, Typed, kind},
    tree::push,
};

/// What flows through a row of filters.
#[derive(Clone, Debug)]
pub(super) enum Flow<'a> {
    /// Nothing was found.
    Missing,
    Borrowed(&'a Value),
    Owned(Value),
    /// The matches of a path with wildcards: an array that nobody has built yet.
    Many(Vec<&'a Value>),
    /// Part of a record, as it lies.
    Node(Node<'a>),
    /// The same as `Many`, within a record.
    Nodes(Vec<Node<'a>>),
    /// JSON text that a filter wrote.
    Written(Record),
}

/// A value that is no array and no object, as filters look at it.
#[derive(Clone, Debug)]
pub(super) enum Scalar<'a> {
    Null,
    Bool(bool),
    /// The digits as they were written.
    Digits(Cow<'a, str>),
    /// A number that went through a float, so its digits are no longer anybody's.
    Float(f64),
    Text(Cow<'a, str>),
    /// An array or an object: its type for a message.
    Not(&'static str),
}

impl Typed for Scalar<'_> {
    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Digits(_) | Self::Float(_) => "a number",
            Self::Text(_) => "a string",
            Self::Not(kind) => kind,
        }
    }
}

impl Typed for &Flow<'_> {
    fn kind(&self) -> &'static str {
        match self {
            Flow::Missing => "nothing",
            Flow::Borrowed(value) => kind(value),
            Flow::Owned(value) => kind(value),
            Flow::Many(_) | Flow::Nodes(_) => "an array",
            Flow::Node(node) => node.kind(),
            Flow::Written(record) => record.root().map_or("null", |root| root.kind()),
        }
    }
}

impl Flow<'_> {
    /// A number of any length: as a tree would hold it where that says the same, else as text.
    pub fn digits(text: &str) -> Self {
        match number_of(text) {
            Some(number) => Self::Owned(Value::Number(number)),
            None => Self::Written(Record::from_bytes(text.to_owned().into())),
        }
    }

    /// The value as a tree; `None` where it is missing. Numbers beyond a tree's are rounded.
    pub fn into_value(self) -> Option<Value> {
        match self {
            Self::Missing => None,
            Self::Borrowed(value) => Some(value.clone()),
            Self::Owned(value) => Some(value),
            Self::Many(values) => Some(Value::Array(values.into_iter().cloned().collect())),
            Self::Node(node) => Some(node.to_value()),
            Self::Nodes(nodes) => Some(nodes.into_iter().map(Node::to_value).collect()),
            Self::Written(record) => Some(record.value().as_ref().clone()),
        }
    }

    /// Appends it as JSON text. Whether there is anything.
    pub fn write(&self, out: &mut Vec<u8>) -> bool {
        match self {
            Self::Missing => return false,
            Self::Borrowed(value) => push(value, out),
            Self::Owned(value) => push(value, out),
            Self::Node(node) => node.write(out),
            Self::Written(record) => out.extend_from_slice(record.bytes()),
            Self::Many(values) => list(values, out, push),
            Self::Nodes(nodes) => list(nodes, out, |node, out| node.write(out)),
        }
        true
    }

    /// As JSON text; of what is missing `null`.
    pub fn json(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if !self.write(&mut out) {
            out.extend_from_slice(b"null");
        }
        out
    }

    /// As a record to look into; what is not yet JSON text becomes it.
    pub fn to_record(&self) -> Record {
        match self {
            Self::Written(record) => record.clone(),
            Self::Node(node) => node.to_record(),
            Self::Owned(value) => Record::from_value(value.clone()),
            other => Record::from_bytes(other.json().into()),
        }
    }

    /// It without arrays and objects.
    pub fn scalar(&self) -> Scalar<'_> {
        match self {
            Self::Borrowed(value) => scalar_of(value),
            Self::Owned(value) => scalar_of(value),
            Self::Node(node) => scalar_of_node(*node),
            Self::Written(record) => record.root().map_or(Scalar::Null, scalar_of_node),
            Self::Missing => Scalar::Null,
            Self::Many(_) | Self::Nodes(_) => Scalar::Not("an array"),
        }
    }

    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing)
    }

    pub fn is_null(&self) -> bool {
        match self {
            Self::Borrowed(value) => value.is_null(),
            Self::Owned(value) => value.is_null(),
            Self::Node(node) => node.is_null(),
            Self::Written(record) => record.root().is_some_and(Node::is_null),
            Self::Missing | Self::Many(_) | Self::Nodes(_) => false,
        }
    }

    /// Items to go through, without building an array; `None` where it is none.
    pub fn items(&self) -> Option<Vec<Flow<'_>>> {
        match self {
            Self::Many(values) => Some(values.iter().map(|value| Flow::Borrowed(value)).collect()),
            Self::Nodes(nodes) => Some(nodes.iter().copied().map(Flow::Node).collect()),
            Self::Borrowed(Value::Array(items)) | Self::Owned(Value::Array(items)) => {
                Some(items.iter().map(Flow::Borrowed).collect())
            }
            Self::Node(node) => items_of(*node),
            Self::Written(record) => record.root().and_then(items_of),
            Self::Missing | Self::Borrowed(_) | Self::Owned(_) => None,
        }
    }

    /// Appends a text as it is, everything else as JSON.
    pub fn push_to(&self, text: &mut String) {
        match self.scalar() {
            Scalar::Text(part) | Scalar::Digits(part) => text.push_str(&part),
            _ => text.push_str(&String::from_utf8_lossy(&self.json())),
        }
    }

    /// Appends a text, a number or a boolean.
    pub fn push_scalar_to(&self, text: &mut String) -> Result<(), Fault> {
        match self.scalar() {
            Scalar::Null | Scalar::Not(_) => {
                Err(Fault::expected("a text, number or boolean", self))
            }
            _ => {
                self.push_to(text);
                Ok(())
            }
        }
    }
}

fn items_of(node: Node<'_>) -> Option<Vec<Flow<'_>>> {
    node.is_array().then(|| node.items().map(Flow::Node).collect())
}

fn list<T>(items: &[T], out: &mut Vec<u8>, write: impl Fn(&T, &mut Vec<u8>)) {
    out.push(b'[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(b']');
}

fn scalar_of(value: &Value) -> Scalar<'_> {
    match value {
        Value::Null => Scalar::Null,
        Value::Bool(truth) => Scalar::Bool(*truth),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => Scalar::Float(float),
            None => Scalar::Digits(number.to_string().into()),
        },
        Value::String(text) => Scalar::Text(text.into()),
        Value::Array(_) | Value::Object(_) => Scalar::Not(kind(value)),
    }
}

fn scalar_of_node(node: Node<'_>) -> Scalar<'_> {
    match node.shape() {
        Shape::Null => Scalar::Null,
        Shape::Bool(truth) => Scalar::Bool(truth),
        Shape::Number(digits) => Scalar::Digits(digits.into()),
        Shape::Text(text) => Scalar::Text(text),
        Shape::Array | Shape::Object => Scalar::Not(node.kind()),
    }
}

/// The number of a tree that prints as this very text; `None` where there is none.
pub(super) fn number_of(text: &str) -> Option<Number> {
    let integer = text.parse::<i64>().map(Number::from);
    let integer = integer.or_else(|_| text.parse::<u64>().map(Number::from));
    let number = integer.ok().or_else(|| Number::from_f64(text.parse().ok()?))?;
    (number.to_string() == text).then_some(number)
}

impl From<Value> for Flow<'_> {
    fn from(value: Value) -> Self {
        Self::Owned(value)
    }
}

impl From<String> for Flow<'_> {
    fn from(text: String) -> Self {
        Self::Owned(Value::String(text))
    }
}
