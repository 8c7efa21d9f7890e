//! The order that the key tables declare, asked for by shape.

use crate::definition::table::{Shape, Table};

/// What a key of a table of this shape takes; `None` where nobody knows the key.
pub(super) fn child(shape: Shape, name: &str) -> Option<Shape> {
    match table_like(shape)? {
        Shape::Table(table) => table.keys.iter().find(|key| key.name == name).map(|key| key.shape),
        Shape::Named(item) => Some(*item),
        free => Some(free),
    }
}

/// What a nested path of keys takes.
pub(super) fn descend<'a>(
    shape: Option<Shape>,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<Shape> {
    names.into_iter().fold(shape, |shape, name| child(shape?, name))
}

/// What an item of a list of this shape is.
pub(super) fn item(shape: Shape) -> Shape {
    match shape {
        Shape::List(item) | Shape::OneOrMany(item) => *item,
        Shape::WordOr(_, other) => item(*other),
        Shape::Either(one, other) => {
            let is_list = |shape: &Shape| matches!(shape, Shape::List(_) | Shape::OneOrMany(_));
            if is_list(other) { item(*other) } else { item(*one) }
        }
        other => other,
    }
}

/// Where a key belongs in a table of this shape. Keys that nobody declared come last and, sorted
/// stably, stay as they are.
pub(super) fn rank(shape: Option<Shape>, name: &str) -> usize {
    declared(shape)
        .and_then(|table| table.keys.iter().position(|key| key.name == name))
        .unwrap_or(usize::MAX)
}

/// Whether the order of the keys is the author's, and goes out with what is delivered.
pub(super) fn is_authors(shape: Option<Shape>) -> bool {
    match shape.and_then(table_like) {
        None | Some(Shape::Tree | Shape::Any) => true,
        Some(Shape::Named(item)) => declared(Some(*item)).is_none(),
        Some(_) => false,
    }
}

fn declared(shape: Option<Shape>) -> Option<&'static Table> {
    match table_like(shape?)? {
        Shape::Table(table) => Some(table),
        _ => None,
    }
}

/// The part of a shape that is a table.
fn table_like(shape: Shape) -> Option<Shape> {
    match shape {
        Shape::Table(_) | Shape::Named(_) | Shape::Tree | Shape::Any => Some(shape),
        Shape::List(item) | Shape::OneOrMany(item) | Shape::WordOr(_, item) => table_like(*item),
        Shape::Either(one, other) => table_like(*one).or_else(|| table_like(*other)),
        _ => None,
    }
}
