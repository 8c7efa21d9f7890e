//! What goes wrong in an evaluation, and where it was written. Never a value of the record.

use std::{fmt, sync::Arc};

use serde_json::Value;

use crate::event::{Node, Shape};

/// Where in the connector file something was written: for messages at run time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file's name as messages show it.
    pub file: Arc<str>,
    /// Counted from 1.
    pub line: u32,
    /// The TOML path: `stream.orders.map.total`.
    pub path: Arc<str>,
}

/// What went wrong in an evaluation: field, expression, the value's type, line in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvalError {
    /// Of the innermost expression that failed: within a named map, that map's line.
    pub place: Place,
    /// `` `$.total_price | decimal`: expected digits, found an object ``
    pub message: String,
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { file, line, path } = &self.place;
        write!(f, "{path}: {} ({file}:{line})", self.message)
    }
}

impl std::error::Error for EvalError {}

/// A failure within an expression, before it knows the expression it belongs to.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// Said about the expression itself.
    Here(String),
    /// An expression of a named map failed at its own place.
    Inner(Box<EvalError>),
}

impl Fault {
    /// "expected digits, found an object"
    pub fn expected(what: impl fmt::Display, found: impl Typed) -> Self {
        Self::Here(format!("expected {what}, found {}", found.kind()))
    }

    /// The same fault, said of the item at `index`.
    pub fn of_item(self, index: usize) -> Self {
        match self {
            Self::Here(message) => Self::Here(format!("item {index}: {message}")),
            Self::Inner(mut error) => {
                error.message = format!("item {index}: {}", error.message);
                Self::Inner(error)
            }
        }
    }

    /// Names the expression, unless a deeper one is to blame.
    pub fn at(self, source: &str, place: &Place) -> EvalError {
        match self {
            Self::Here(message) => {
                EvalError { place: place.clone(), message: format!("`{source}`: {message}") }
            }
            Self::Inner(error) => *error,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(message) => f.write_str(message),
            Self::Inner(error) => f.write_str(&error.message),
        }
    }
}

impl std::error::Error for Fault {}

impl From<EvalError> for Fault {
    fn from(error: EvalError) -> Self {
        Self::Inner(Box::new(error))
    }
}

/// What has a type that a message can name.
pub(super) trait Typed {
    /// With its article.
    fn kind(&self) -> &'static str;
}

impl Typed for &Value {
    fn kind(&self) -> &'static str {
        kind(self)
    }
}

impl Typed for &'static str {
    fn kind(&self) -> &'static str {
        self
    }
}

impl Typed for Node<'_> {
    fn kind(&self) -> &'static str {
        match self.shape() {
            Shape::Null => "null",
            Shape::Bool(_) => "a boolean",
            Shape::Number(_) => "a number",
            Shape::Text(_) => "a string",
            Shape::Array => "an array",
            Shape::Object => "an object",
        }
    }
}

/// The type of a value, with its article.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
