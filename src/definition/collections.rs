//! The kinds of value that hold others: lists, tables with names of the author's choice, trees.

use serde_json::{Map, Number, Value};
use toml::de::{DeTable, DeValue};

use super::{
    kinds::{Expression, check_name, expression, mistyped},
    table::{At, Given, Kind, Loc, Node, Reader, Shape},
};

impl<T: Kind> Kind for Vec<At<T>> {
    const SHAPE: Shape = Shape::List(&T::SHAPE);

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let DeValue::Array(items) = node.get_ref() else {
            return mistyped(node, reader, &Self::SHAPE);
        };
        let read: Vec<Option<At<T>>> = items.iter().map(|item| item_of(item, reader)).collect();
        read.into_iter().collect()
    }
}

fn item_of<T: Kind>(item: &Node<'_>, reader: &mut Reader<'_>) -> Option<At<T>> {
    let at = reader.loc(item.span());
    T::read(item, reader).map(|value| At { value, at, key: at })
}

/// One, or a list; never empty unless written so.
#[derive(Clone, Debug)]
pub struct OneOrMany<T>(pub Vec<At<T>>);

impl<T: Kind> Kind for OneOrMany<T> {
    const SHAPE: Shape = Shape::OneOrMany(&T::SHAPE);

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Array(_) => Vec::read(node, reader).map(Self),
            _ => item_of(node, reader).map(|item| Self(vec![item])),
        }
    }
}

/// A table with keys of the author's choice, in the order written.
#[derive(Clone, Debug)]
pub struct Pairs<T>(pub Vec<(String, At<T>)>);

impl<T> Default for Pairs<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Kind> Kind for Pairs<T> {
    const SHAPE: Shape = Shape::Named(&T::SHAPE);

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let DeValue::Table(entries) = node.get_ref() else {
            return mistyped(node, reader, &Self::SHAPE);
        };
        Some(Self(pairs(entries, reader)))
    }
}

fn pairs<T: Kind>(entries: &DeTable<'_>, reader: &mut Reader<'_>) -> Vec<(String, At<T>)> {
    let mut pairs: Vec<(String, At<T>)> = Vec::with_capacity(entries.len());
    for (key, node) in entries {
        let key_at = reader.loc(key.span());
        let at = reader.loc(node.span());
        if matches!(T::SHAPE, Shape::Table(_) | Shape::Either(..)) {
            reader.enter(key.get_ref());
        }
        if let Some(value) = T::read(node, reader) {
            pairs.push((key.get_ref().to_string(), At { value, at, key: key_at }));
        }
    }
    pairs.sort_by_key(|(_, value)| value.key.start);
    pairs
}

/// As [`Pairs`], and each key is a name that state, metrics and messages use.
#[derive(Clone, Debug)]
pub struct Named<T>(pub Vec<(String, At<T>)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Named<T> {
    /// The entry of that name.
    pub fn find(&self, name: &str) -> Option<&At<T>> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

impl<T: Kind> Kind for Named<T> {
    const SHAPE: Shape = Shape::Named(&T::SHAPE);

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let pairs = Pairs::read(node, reader)?.0;
        for (name, value) in &pairs {
            check_name(name, value.key, reader);
        }
        Some(Self(pairs))
    }
}

/// Nested leaves as TOML nests them.
#[derive(Clone, Debug)]
pub enum TreeDef {
    /// A string.
    Leaf(Expression),
    /// A number, a boolean, a date as text.
    Constant(Value),
    /// Fields in the order written.
    Table(Vec<(String, At<TreeDef>)>),
    /// Items.
    Array(Vec<At<TreeDef>>),
}

impl Kind for TreeDef {
    const SHAPE: Shape = Shape::Tree;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        Some(match node.get_ref() {
            DeValue::String(text) => Self::Leaf(expression(text, node, reader)),
            DeValue::Table(entries) => Self::Table(pairs(entries, reader)),
            DeValue::Array(items) => {
                let items: Vec<Option<At<Self>>> =
                    items.iter().map(|item| item_of(item, reader)).collect();
                Self::Array(items.into_iter().flatten().collect())
            }
            constant => Self::Constant(json_of(constant)),
        })
    }
}

/// A table of fields: a [`TreeDef`] that is a table.
#[derive(Clone, Debug)]
pub struct Fields(pub Vec<(String, At<TreeDef>)>);

impl Kind for Fields {
    const SHAPE: Shape = Shape::Named(&Shape::Tree);

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        Pairs::read(node, reader).map(|pairs| Self(pairs.0))
    }
}

/// A constant: text, number, boolean, or a list of such.
#[derive(Clone, Debug)]
pub struct Scalar(pub Value);

impl Kind for Scalar {
    const SHAPE: Shape = Shape::Scalar;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Table(_) => mistyped(node, reader, &Self::SHAPE),
            value => Some(Self(json_of(value))),
        }
    }
}

/// Any value, as JSON.
#[derive(Clone, Debug)]
pub struct Any(pub Value);

impl Kind for Any {
    const SHAPE: Shape = Shape::Any;

    fn read(node: &Node<'_>, _reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self(json_of(node.get_ref())))
    }
}

/// Any value as it is written, each part with its place. TOML has no null: the text `{{ none }}`,
/// the template of that value, stands for it.
#[derive(Clone, Debug)]
pub enum Literal {
    /// A text, a number, a boolean, null.
    Constant(Value),
    /// Members in the order written.
    Table(Vec<(String, At<Literal>)>),
    /// Items.
    Array(Vec<At<Literal>>),
}

/// How null is written in a [`Literal`].
pub const NULL: &str = "{{ none }}";

impl Literal {
    /// The JSON that it means.
    pub fn value(&self) -> Value {
        match self {
            Self::Constant(value) => value.clone(),
            Self::Table(members) => {
                let member =
                    |(name, value): &(String, At<Self>)| (name.clone(), value.value.value());
                Value::Object(members.iter().map(member).collect())
            }
            Self::Array(items) => items.iter().map(|item| item.value.value()).collect(),
        }
    }

    /// A document from elsewhere, each part of which stands at `at`.
    pub fn of(value: &Value, at: Loc) -> At<Self> {
        let value = match value {
            Value::Object(members) => Self::Table(
                members.iter().map(|(name, value)| (name.clone(), Self::of(value, at))).collect(),
            ),
            Value::Array(items) => {
                Self::Array(items.iter().map(|item| Self::of(item, at)).collect())
            }
            constant => Self::Constant(constant.clone()),
        };
        At { value, at, key: at }
    }
}

impl Kind for Literal {
    const SHAPE: Shape = Shape::Any;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        Some(match node.get_ref() {
            DeValue::Table(entries) => Self::Table(pairs(entries, reader)),
            DeValue::Array(items) => {
                let items: Vec<Option<At<Self>>> =
                    items.iter().map(|item| item_of(item, reader)).collect();
                Self::Array(items.into_iter().flatten().collect())
            }
            DeValue::String(text) if *text == NULL => Self::Constant(Value::Null),
            constant => Self::Constant(json_of(constant)),
        })
    }
}

/// The JSON that a TOML value means; dates and times become text.
pub fn json_of(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Value::Null, |number| Value::Number(number.into())),
        DeValue::Float(number) => {
            let number = number.as_str().parse::<f64>().ok().and_then(Number::from_f64);
            number.map_or(Value::Null, Value::Number)
        }
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Datetime(time) => Value::String(time.to_string()),
        DeValue::Array(items) => items.iter().map(|item| json_of(item.get_ref())).collect(),
        DeValue::Table(entries) => {
            let mut keys: Vec<_> = entries.iter().collect();
            keys.sort_by_key(|(key, _)| key.span().start);
            let map: Map<String, Value> = keys
                .into_iter()
                .map(|(key, node)| (key.get_ref().to_string(), json_of(node.get_ref())))
                .collect();
            Value::Object(map)
        }
    }
}

/// The values of a key that is one or many.
pub fn items<T>(given: &Given<OneOrMany<T>>) -> &[At<T>] {
    given.value().map_or(&[], |many| many.0.as_slice())
}
