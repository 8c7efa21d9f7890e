//! Filters on arrays and objects.

use std::{borrow::Cow, collections::HashMap};

use serde_json::{Value, json};

use crate::{
    event::{Node, Record, Shape},
    map::{
        Tree,
        env::{Document, Scope},
        fault::Fault,
        flow::{Flow, Scalar},
        tree::{push, write},
    },
};

use super::{Arguments, Refused};

/// A key, or a pattern of one: `internal_*`. A star stands for any characters.
#[derive(Clone, Debug)]
pub(in crate::map) struct Pattern(Box<[Box<str>]>);

impl Pattern {
    fn new(text: &str) -> Self {
        Self(text.split('*').map(Into::into).collect())
    }

    pub(super) fn several(filter: &str, arguments: &mut Arguments) -> Result<Box<[Self]>, Refused> {
        let patterns = arguments.texts("a key")?;
        if patterns.is_empty() {
            return Err(Refused::arguments(format!("`{filter}` needs at least one key")));
        }
        Ok(patterns.iter().map(|text| Self::new(text)).collect())
    }

    pub(super) fn any(patterns: &[Self], key: &str) -> bool {
        patterns.iter().any(|pattern| pattern.matches(key))
    }

    fn matches(&self, key: &str) -> bool {
        let [first, middle @ .., last] = &*self.0 else {
            return self.0.first().is_none_or(|whole| &**whole == key);
        };
        let Some(rest) = key.strip_prefix(&**first) else {
            return false;
        };
        let Some(mut rest) = rest.strip_suffix(&**last) else {
            return false;
        };
        middle.iter().all(|part| match rest.find(&**part) {
            Some(at) => {
                rest = &rest[at + part.len()..];
                true
            }
            None => false,
        })
    }
}

/// A named map, applied to an object or to each item of an array. Items that come out as nothing
/// are left out.
pub(super) fn apply<'a>(
    tree: &Tree,
    input: &Flow<'_>,
    scope: &Scope<'_>,
) -> Result<Flow<'a>, Fault> {
    let one = |item: &Flow<'_>, out: &mut Vec<u8>| {
        let made;
        let item = match item {
            Flow::Node(node) => Document::Node(*node),
            Flow::Borrowed(value) => Document::Json(value),
            other => {
                made = other.to_record();
                Document::Record(&made)
            }
        };
        write(tree, &Scope { item: Some(item), ..*scope }, out)
    };
    let mut out = Vec::with_capacity(256);
    let Some(items) = input.items() else {
        let record = input.to_record();
        if !record.root().is_some_and(Node::is_object) {
            return Err(Fault::expected("an array or an object", input));
        }
        let there = one(&Flow::Written(record), &mut out)?;
        return Ok(if there { written(out) } else { Flow::Missing });
    };
    out.push(b'[');
    for (at, item) in items.iter().enumerate() {
        let before = out.len();
        if before > 1 {
            out.push(b',');
        }
        if !one(item, &mut out).map_err(|error| Fault::from(error).of_item(at))? {
            out.truncate(before);
        }
    }
    out.push(b']');
    Ok(written(out))
}

fn written<'a>(json: Vec<u8>) -> Flow<'a> {
    Flow::Written(Record::from_bytes(json.into()))
}

/// Missing where there is nothing in it: null, a text of blanks, an empty array or object. Many APIs
/// write what they do not know in one of these ways.
pub(super) fn filled(input: Flow<'_>) -> Flow<'_> {
    let is_empty = match input.scalar() {
        Scalar::Null => true,
        Scalar::Text(text) => text.trim().is_empty(),
        Scalar::Bool(_) | Scalar::Digits(_) | Scalar::Float(_) => false,
        Scalar::Not(_) => match input.items() {
            Some(items) => items.is_empty(),
            None => input.to_record().root().is_none_or(|root| root.members().next().is_none()),
        },
    };
    if is_empty { Flow::Missing } else { input }
}

/// The first or last item; missing where there is none.
pub(super) fn end_of(input: Flow<'_>, first: bool) -> Result<Flow<'_>, Fault> {
    let pick = |length: usize| if first { 0 } else { length.saturating_sub(1) };
    let node =
        |node: Option<Node<'_>>| node.map(Node::to_record).map_or(Flow::Missing, Flow::Written);
    Ok(match input {
        Flow::Many(values) => {
            values.get(pick(values.len())).map_or(Flow::Missing, |one| Flow::Borrowed(one))
        }
        Flow::Nodes(nodes) => {
            nodes.get(pick(nodes.len())).map_or(Flow::Missing, |one| Flow::Node(*one))
        }
        Flow::Borrowed(Value::Array(items)) => {
            items.get(pick(items.len())).map_or(Flow::Missing, Flow::Borrowed)
        }
        Flow::Owned(Value::Array(mut items)) if !items.is_empty() => {
            Flow::Owned(items.swap_remove(pick(items.len())))
        }
        Flow::Owned(Value::Array(_)) => Flow::Missing,
        Flow::Node(list) if list.is_array() => {
            list.item(if first { 0 } else { -1 }).map_or(Flow::Missing, Flow::Node)
        }
        Flow::Written(record) if record.root().is_some_and(Node::is_array) => {
            node(record.root().and_then(|list| list.item(if first { 0 } else { -1 })))
        }
        other => return Err(Fault::expected("an array", &other)),
    })
}

/// The members of an object, the last of a name in the place of the first.
fn members(object: Node<'_>, tell: impl FnMut(&str, Node<'_>)) {
    last_of_each(object.members().collect(), tell);
}

fn last_of_each<'n>(members: Vec<(Cow<'_, str>, Node<'n>)>, mut tell: impl FnMut(&str, Node<'n>)) {
    let mut last: HashMap<&str, Node<'_>> =
        members.iter().map(|(name, member)| (&**name, *member)).collect();
    for (name, _) in &members {
        if let Some(member) = last.remove(&**name) {
            tell(name, member);
        }
    }
}

/// Appends members of an object that is being written.
struct Object<'o> {
    out: &'o mut Vec<u8>,
    empty: bool,
}

impl<'o> Object<'o> {
    fn new(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    fn member(&mut self, name: &str, value: Node<'_>) {
        self.name(name);
        value.write(self.out);
    }

    fn name(&mut self, name: &str) {
        if !std::mem::replace(&mut self.empty, false) {
            self.out.push(b',');
        }
        push(name, self.out);
        self.out.push(b':');
    }

    fn end(self) {
        self.out.push(b'}');
    }
}

/// Does the same to an object or to each object of an array.
fn each_object<'a>(
    input: &Flow<'_>,
    change: impl Fn(Node<'_>, &mut Object<'_>),
) -> Result<Flow<'a>, Fault> {
    let record = input.to_record();
    let one = |node: Node<'_>, out: &mut Vec<u8>| {
        if !node.is_object() {
            return Err(Fault::expected("an object", node));
        }
        let mut object = Object::new(out);
        change(node, &mut object);
        object.end();
        Ok(())
    };
    let mut out = Vec::with_capacity(record.bytes().len());
    match record.root() {
        Some(root) if root.is_array() => list(root.items(), &mut out, one)?,
        Some(root) => one(root, &mut out)?,
        None => return Err(Fault::expected("an object", input)),
    }
    Ok(written(out))
}

fn list<'a>(
    items: impl Iterator<Item = Node<'a>>,
    out: &mut Vec<u8>,
    one: impl Fn(Node<'a>, &mut Vec<u8>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    out.push(b'[');
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        one(item, out).map_err(|fault| fault.of_item(at))?;
    }
    out.push(b']');
    Ok(())
}

/// The members whose keys `wanted` says.
pub(super) fn keep<'a>(input: &Flow<'_>, wanted: impl Fn(&str) -> bool) -> Result<Flow<'a>, Fault> {
    each_object(input, |object, out| {
        members(object, |key, value| {
            if wanted(key) {
                out.member(key, value);
            }
        });
    })
}

/// `{"a": 1}` → `[{"key": "a", "value": 1}]`.
pub(super) fn entries<'a>(input: &Flow<'_>) -> Result<Flow<'a>, Fault> {
    let record = input.to_record();
    let Some(object) = record.root().filter(|root| root.is_object()) else {
        return Err(Fault::expected("an object", input));
    };
    let mut out = vec![b'['];
    members(object, |key, value| {
        if out.len() > 1 {
            out.push(b',');
        }
        let mut entry = Object::new(&mut out);
        entry.name("key");
        push(key, entry.out);
        entry.member("value", value);
        entry.end();
    });
    out.push(b']');
    Ok(written(out))
}

/// Keys in lower case; of several that become the same the last stays.
pub(super) fn lower_keys<'a>(input: &Flow<'_>) -> Result<Flow<'a>, Fault> {
    each_object(input, |object, out| {
        let lowered = object.members().map(|(key, value)| (key.to_lowercase().into(), value));
        last_of_each(lowered.collect(), |key, value| out.member(key, value));
    })
}

/// Rows to objects: with `names` each row's items get them, without them the first row names the
/// columns of the others. One row with given names becomes one object.
pub(super) fn zip_object<'a>(input: &Flow<'_>, names: &[String]) -> Result<Flow<'a>, Fault> {
    let record = input.to_record();
    let Some(rows) = record.root().filter(|root| root.is_array()) else {
        return Err(Fault::expected("an array", input));
    };
    let mut out = Vec::with_capacity(record.bytes().len() * 2);
    let row = |names: &[String], row: Node<'_>, out: &mut Vec<u8>| {
        if !row.is_array() {
            return Err(Fault::expected("a row (an array)", row));
        }
        zip_row(row.items(), names, out)
    };
    if names.is_empty() {
        let Some(header) = rows.items().next() else { return Ok(json!([]).into()) };
        let header = header_of(header)
            .ok_or_else(|| Fault::Here("expected a first row of texts".to_owned()))?;
        list(rows.items().skip(1), &mut out, |node, out| row(&header, node, out))?;
    } else if rows.items().any(Node::is_array) {
        list(rows.items(), &mut out, |node, out| row(names, node, out))?;
    } else {
        zip_row(rows.items(), names, &mut out)?;
    }
    Ok(written(out))
}

fn header_of(row: Node<'_>) -> Option<Vec<String>> {
    let name = |cell: Node<'_>| match cell.shape() {
        Shape::Text(name) => Some(name.into_owned()),
        _ => None,
    };
    row.is_array().then(|| row.items().map(name).collect())?
}

fn zip_row<'a>(
    cells: impl Iterator<Item = Node<'a>>,
    names: &[String],
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    let cells: Vec<_> = cells.collect();
    if cells.len() > names.len() {
        let message = format!("expected at most {} cells, found {}", names.len(), cells.len());
        return Err(Fault::Here(message));
    }
    let mut object = Object::new(out);
    names.iter().zip(cells).for_each(|(name, cell)| object.member(name, cell));
    object.end();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_keys() {
        for (pattern, key, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("internal_*", "internal_note", true),
            ("internal_*", "my_internal_note", false),
            ("*_id", "order_id", true),
            ("*", "", true),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(Pattern::new(pattern).matches(key), expected, "{pattern} {key}");
        }
    }
}
