//! JSON documents as the template engine sees them, and back.
//!
//! A document is never converted as a whole: an object of the engine points into the shared document
//! and answers what it is asked for.

use std::{fmt, sync::Arc};

use minijinja::value::{Enumerator, Object, ObjectRepr, ValueKind};
use serde_json::{Map, Number, Value};

use crate::event::{Node, Shape};

use super::{
    fault::Fault,
    flow::{Flow, number_of},
    path::{Step, walk},
};

/// Values nested deeper than this do not leave a template.
const MAX_DEPTH: usize = 128;

/// An array or object within a shared document.
struct Json {
    document: Arc<Value>,
    steps: Box<[Step]>,
}

impl Json {
    fn target(&self) -> &Value {
        walk(&self.document, &self.steps).unwrap_or(&Value::Null)
    }

    fn child(&self, value: &Value, step: Step) -> minijinja::Value {
        scalar(value).unwrap_or_else(|| {
            let steps = self.steps.iter().cloned().chain([step]).collect();
            minijinja::Value::from_object(Self { document: Arc::clone(&self.document), steps })
        })
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.target(), f)
    }
}

impl Object for Json {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        if self.target().is_array() { ObjectRepr::Seq } else { ObjectRepr::Map }
    }

    fn get_value(self: &Arc<Self>, key: &minijinja::Value) -> Option<minijinja::Value> {
        match self.target() {
            Value::Array(items) => {
                let index = key.as_usize()?;
                let step = Step::Index(i64::try_from(index).ok()?);
                Some(self.child(items.get(index)?, step))
            }
            _ => self.get_value_by_str(key.as_str()?),
        }
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<minijinja::Value> {
        let value = self.target().as_object()?.get(key)?;
        Some(scalar(value).unwrap_or_else(|| self.child(value, Step::Name(key.into()))))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match self.target() {
            Value::Array(items) => Enumerator::Seq(items.len()),
            Value::Object(members) => Enumerator::Values(
                members.keys().map(|key| minijinja::Value::from(key.as_str())).collect(),
            ),
            _ => Enumerator::Empty,
        }
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        match self.target() {
            Value::Array(items) => Some(items.len()),
            Value::Object(members) => Some(members.len()),
            _ => Some(0),
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.target(), f)
    }
}

/// A document for the engine.
pub(super) fn to_template(document: &Arc<Value>) -> minijinja::Value {
    part(document, &[])
}

/// A part of a document for the engine; undefined where there is none.
pub(super) fn part(document: &Arc<Value>, steps: &[Step]) -> minijinja::Value {
    match walk(document, steps) {
        None => minijinja::Value::UNDEFINED,
        Some(value) => scalar(value).unwrap_or_else(|| {
            minijinja::Value::from_object(Json {
                document: Arc::clone(document),
                steps: steps.into(),
            })
        }),
    }
}

/// An owned value for the engine.
pub(super) fn owned_to_template(value: Value) -> minijinja::Value {
    scalar(&value).unwrap_or_else(|| to_template(&Arc::new(value)))
}

/// A number with more digits than the engine counts with. It is printed and filtered as it came.
#[derive(Debug)]
struct Digits(Box<str>);

impl Object for Digits {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Part of a record for the engine. Integers of 128 bits stay exact; what else a float would round
/// keeps its digits where it only has to be shown.
pub(super) fn node_to_template(node: Node<'_>, as_written: bool) -> minijinja::Value {
    let Shape::Number(text) = node.shape() else { return owned_to_template(node.to_value()) };
    let number = number_of(text);
    // The engine writes floats its own way.
    if let Some(number) = number.filter(|number| !(as_written && number.is_f64())) {
        return owned_to_template(Value::Number(number));
    }
    if as_written {
        return minijinja::Value::from_object(Digits(text.into()));
    }
    let integer = text.parse::<i128>().map(minijinja::Value::from);
    integer.unwrap_or_else(|_| owned_to_template(node.to_value()))
}

/// The engine's value among our filters; missing where it is undefined.
pub(super) fn flow_from_template(value: &minijinja::Value) -> Result<Flow<'static>, Fault> {
    if let Some(Digits(text)) = value.downcast_object_ref::<Digits>() {
        return Ok(Flow::digits(text));
    }
    if value.is_integer() {
        return Ok(Flow::digits(&value.to_string()));
    }
    Ok(from_template(value)?.map_or(Flow::Missing, Flow::Owned))
}

/// What our filters gave, for the engine.
pub(super) fn flow_to_template(flow: Flow<'_>) -> minijinja::Value {
    match &flow {
        Flow::Node(node) => node_to_template(*node, false),
        Flow::Written(record) => match record.root() {
            Some(root) => node_to_template(root, false),
            None => minijinja::Value::UNDEFINED,
        },
        _ => flow.into_value().map_or(minijinja::Value::UNDEFINED, owned_to_template),
    }
}

fn scalar(value: &Value) -> Option<minijinja::Value> {
    Some(match value {
        Value::Null => minijinja::Value::from(()),
        Value::Bool(truth) => minijinja::Value::from(*truth),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(integer), _, _) => minijinja::Value::from(integer),
            (_, Some(integer), _) => minijinja::Value::from(integer),
            (_, _, float) => minijinja::Value::from(float.unwrap_or(f64::NAN)),
        },
        Value::String(text) => minijinja::Value::from(text.as_str()),
        Value::Array(_) | Value::Object(_) => return None,
    })
}

/// The engine's value as JSON; `None` where it is undefined.
pub(super) fn from_template(value: &minijinja::Value) -> Result<Option<Value>, Fault> {
    convert(value, 0)
}

fn convert(value: &minijinja::Value, depth: usize) -> Result<Option<Value>, Fault> {
    if depth > MAX_DEPTH {
        return Err(Fault::Here(format!("the result is nested deeper than {MAX_DEPTH}")));
    }
    if let Some(json) = value.downcast_object_ref::<Json>() {
        return Ok(Some(json.target().clone()));
    }
    if let Some(Digits(text)) = value.downcast_object_ref::<Digits>() {
        return Ok(serde_json::from_str(text).ok());
    }
    Ok(Some(match value.kind() {
        ValueKind::Undefined => return Ok(None),
        ValueKind::None => Value::Null,
        ValueKind::Bool => Value::Bool(value.is_true()),
        ValueKind::Number => Value::Number(number(value)?),
        ValueKind::String => Value::String(value.as_str().unwrap_or_default().to_owned()),
        ValueKind::Seq | ValueKind::Iterable => Value::Array(items(value, depth)?),
        ValueKind::Map => Value::Object(members(value, depth)?),
        _ => return Err(Fault::Here("the result is not a JSON value".to_owned())),
    }))
}

fn number(value: &minijinja::Value) -> Result<Number, Fault> {
    let too_large = || Fault::Here("the result is a number that JSON cannot hold".to_owned());
    if value.is_integer() {
        return match (value.as_i64(), u64::try_from(value.clone())) {
            (Some(integer), _) => Ok(integer.into()),
            (None, Ok(integer)) => Ok(integer.into()),
            (None, Err(_)) => Err(too_large()),
        };
    }
    f64::try_from(value.clone()).ok().and_then(Number::from_f64).ok_or_else(too_large)
}

fn iterate(value: &minijinja::Value) -> Result<minijinja::value::ValueIter, Fault> {
    value.try_iter().map_err(|_| Fault::Here("the result cannot be iterated".to_owned()))
}

fn items(value: &minijinja::Value, depth: usize) -> Result<Vec<Value>, Fault> {
    iterate(value)?
        .map(|item| {
            convert(&item, depth + 1)?
                .ok_or_else(|| Fault::Here("an item of the result is missing".to_owned()))
        })
        .collect()
}

fn members(value: &minijinja::Value, depth: usize) -> Result<Map<String, Value>, Fault> {
    let mut members = Map::new();
    for key in iterate(value)? {
        let member = value.get_item(&key).unwrap_or(minijinja::Value::UNDEFINED);
        if let Some(member) = convert(&member, depth + 1)? {
            members.insert(key.to_string(), member);
        }
    }
    Ok(members)
}
