//! The records of a page: cut out by their bytes, so that what is stored is what came.
//!
//! It promises to tell "there are none" from "they are not where the file says": a path whose part
//! before the first wildcard does not exist, and a path that finds nothing in a page that has
//! something, are errors that list the keys there are; `| default([])` says that none is fine. A
//! list that exists and is empty is no error.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Value, value::RawValue};
use xxhash_rust::xxh3::Xxh3;

use crate::{
    event::{NotJson, Record},
    map::{Env, EvalError},
    plan::RecordsPlan,
};

use super::path::{Missing, Plain, Tail, print, walk};

/// A page, taken apart.
#[derive(Debug)]
pub(super) struct Page {
    /// The raw items in order.
    pub items: Vec<Item>,
    /// The body without its items, or all of it where that was asked for.
    pub body: Value,
    /// A hash of the items.
    pub content: u128,
}

/// One record.
#[derive(Clone, Debug)]
pub(super) enum Item {
    /// A slice of the page. It is parsed when its turn comes.
    Slice(Bytes),
    /// The same, and the name under which it stood in an object.
    Named(String, Bytes),
    /// Selected by a path that had to look into the parsed page.
    Parsed(Record),
}

/// Why a page has no records to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RecordsError {
    /// The body is no JSON: where it stops being so.
    NotJson(String),
    /// It is not what `decode` says it is.
    Undecodable(String),
    /// The part of `records` before the first wildcard does not exist.
    Missing(Missing),
    /// What stands there has no items: the path and the type.
    NoList(String, &'static str),
    /// The path finds nothing, and the response is not empty.
    Nothing(String),
    /// The path finds something and nothing within it: what the first of it has instead.
    NothingWithin(Missing),
    /// Without `records`: neither an array nor an object.
    NotRecords(&'static str),
    /// A filter behind the path failed.
    Eval(EvalError),
}

impl fmt::Display for RecordsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HINT: &str = "(write `| default([])` behind `records` if it may be so)";
        match self {
            Self::NotJson(problem) => write!(f, "the response is not JSON: {problem}"),
            Self::Undecodable(problem) => write!(f, "decode: {problem}"),
            Self::Missing(missing) => write!(f, "records: {missing} {HINT}"),
            Self::NoList(path, kind) => {
                write!(f, "records: expected an array at `{path}`, found {kind} {HINT}")
            }
            Self::Nothing(path) => {
                write!(f, "records: `{path}` finds nothing in a response that is not empty {HINT}")
            }
            Self::NothingWithin(missing) => {
                let path = &missing.path;
                write!(f, "records: `{path}` is in none of the response's items: the first ")?;
                write!(f, "{} {HINT}", missing.found)
            }
            Self::NotRecords(kind) => {
                write!(f, "expected an array of records or one object, found {kind}")
            }
            Self::Eval(error) => write!(f, "records: {error}"),
        }
    }
}

/// Takes a body apart. `whole` asks for all of it in [`Page::body`].
pub(super) fn take_apart(
    plan: Option<&RecordsPlan>,
    bytes: &Bytes,
    whole: bool,
) -> Result<Page, RecordsError> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Page { items: Vec::new(), body: Value::Null, content: 0 });
    }
    let plain = match plan {
        None => Some((Vec::new(), Tail::Value)),
        Some(plan) => plain_of(plan).map(|plain| (plain.members, plain.tail)),
    };
    let mut page = match (plan, plain) {
        (Some(plan), None) => by_path(plan, bytes)?,
        (_, Some((members, tail))) => {
            let optional = plan.is_some_and(|plan| plan.optional);
            by_bytes(&members, tail, optional, bytes)?
        }
        (None, None) => unreachable!("without `records` the path is plain"),
    };
    if whole && page.body_is_partial() {
        page.body = parse(bytes)?;
    }
    Ok(page)
}

impl Page {
    fn body_is_partial(&self) -> bool {
        self.items.iter().any(|item| !matches!(item, Item::Parsed(_)))
    }
}

/// The path of `records`, where records can be cut out of a page by it.
pub(super) fn plain_of(plan: &RecordsPlan) -> Option<Plain> {
    Plain::parse(plan.path.source())
        .filter(|plain| plain.filters.is_empty() || is_default(&plain.filters))
}

/// Whether the filters are `default([])`, which says that there may be none.
fn is_default(filters: &str) -> bool {
    filters.split_whitespace().collect::<String>() == "default([])"
}

fn parse(bytes: &[u8]) -> Result<Value, RecordsError> {
    serde_json::from_slice(bytes).map_err(|error| RecordsError::NotJson(error.to_string()))
}

/// The general way: parse all, select, print.
fn by_path(plan: &RecordsPlan, bytes: &Bytes) -> Result<Page, RecordsError> {
    let body = parse(bytes)?;
    let at = match walk(&body, &plan.prefix) {
        Err(_) if plan.optional => return Ok(Page { items: Vec::new(), body, content: 0 }),
        Err(missing) => return Err(RecordsError::Missing(missing)),
        Ok(at) => at,
    };
    let source = plan.path.source();
    let found = select(plan, &body, bytes)?;
    let empty = matches!(at, Value::Array(items) if items.is_empty())
        || matches!(at, Value::Object(members) if members.is_empty());
    // A filter exists to find less than there is; a missing list within each parent does not.
    let selective = source.contains('?') || plan.path.is_singular() == Some(true);
    if found.is_empty() && !empty && !plan.optional && !selective {
        return Err(RecordsError::Nothing(source.to_owned()));
    }
    let mut hash = Xxh3::new();
    for record in &found {
        hash.update(record.bytes());
        hash.update(b"\n");
    }
    let items = found.into_iter().map(Item::Parsed).collect();
    Ok(Page { items, body, content: hash.digest128() })
}

/// What the path and its filters give. Only a filter that looks at the response pays for showing it.
fn select(plan: &RecordsPlan, body: &Value, bytes: &Bytes) -> Result<Vec<Record>, RecordsError> {
    let looks = !plan.path.chains("response").iter().all(|chain| chain == &["body"]);
    let mut env = Env::new();
    if looks {
        env = env.with("response", Arc::new(serde_json::json!({ "body": body })));
    }
    let document = Record::from_bytes(bytes.clone());
    plan.path.select(&document, &env).map_err(RecordsError::Eval)
}

/// The fast way, for a plain path: one pass over the bytes that parses the envelope and only skips
/// through the records.
fn by_bytes(
    members: &[String],
    tail: Tail,
    optional: bool,
    bytes: &Bytes,
) -> Result<Page, RecordsError> {
    let bad = |error: serde_json::Error| RecordsError::NotJson(error.to_string());
    let mut list = None;
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let body = Envelope { members, tail, list: &mut list }.deserialize(&mut reader).map_err(bad)?;
    reader.end().map_err(bad)?;
    let raw = match list {
        Some(List::Items(items)) => items,
        Some(List::Not(_)) | None if optional => Vec::new(),
        Some(List::Not(kind)) if members.is_empty() && tail == Tail::Value => {
            return Err(RecordsError::NotRecords(kind));
        }
        Some(List::Not(kind)) => {
            return Err(RecordsError::NoList(print(members), kind));
        }
        None => {
            let missing = walk(&body, members).expect_err("the path was not met");
            return Err(RecordsError::Missing(missing));
        }
    };
    let mut hash = Xxh3::new();
    for (_, item) in &raw {
        hash.update(item.get().as_bytes());
        hash.update(b"\n");
    }
    let cut = |(name, raw): (Option<String>, &RawValue)| {
        let slice = bytes.slice_ref(raw.get().as_bytes());
        name.map_or_else(|| Item::Slice(slice.clone()), |name| Item::Named(name, slice.clone()))
    };
    let items = raw.into_iter().map(cut).collect();
    Ok(Page { items, body, content: hash.digest128() })
}

/// The body with an empty array in place of its records; `None` where it is no JSON.
pub(super) fn envelope(members: &[String], tail: Tail, bytes: &[u8]) -> Option<Value> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let body = Envelope { members, tail, list: &mut None }.deserialize(&mut reader).ok()?;
    reader.end().ok().map(|()| body)
}

/// What stands at the end of the path.
enum List<'de> {
    /// Each with the name under which it stands, where that counts.
    Items(Vec<(Option<String>, &'de RawValue)>),
    Not(&'static str),
}

/// Reads a document into a `Value` with an empty array in place of what stands at `members`, and
/// that into `list`.
struct Envelope<'a, 'de> {
    members: &'a [String],
    tail: Tail,
    list: &'a mut Option<List<'de>>,
}

impl<'de> DeserializeSeed<'de> for Envelope<'_, 'de> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        if !self.members.is_empty() {
            return reader.deserialize_any(self);
        }
        *self.list = Some(match self.tail {
            Tail::Children => reader.deserialize_any(Children { named: false })?,
            Tail::Named => reader.deserialize_any(Children { named: true })?,
            Tail::Value => one_or_items(<&RawValue>::deserialize(reader)?)?,
        });
        Ok(Value::Array(Vec::new()))
    }
}

/// An array's items, or the one object.
fn one_or_items<E: Error>(raw: &RawValue) -> Result<List<'_>, E> {
    Ok(match raw.get().as_bytes().first() {
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(E::custom)?;
            List::Items(items.into_iter().map(|item| (None, item)).collect())
        }
        Some(b'{') => List::Items(vec![(None, raw)]),
        Some(b'"') => List::Not("a string"),
        Some(b'n') => List::Not("null"),
        Some(b't' | b'f') => List::Not("a boolean"),
        _ => List::Not("a number"),
    })
}

impl<'de> Visitor<'de> for Envelope<'_, 'de> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = serde_json::Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let value = if self.members.first() == Some(&key) {
                access.next_value_seed(Envelope {
                    members: &self.members[1..],
                    tail: self.tail,
                    list: &mut *self.list,
                })?
            } else {
                access.next_value()?
            };
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }
}

/// The children of an array or an object, as text.
struct Children {
    /// Whether the names of an object's members count.
    named: bool,
}

impl<'de> Visitor<'de> for Children {
    type Value = List<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<List<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push((None, item));
        }
        Ok(List::Items(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<List<'de>, A::Error> {
        let mut items = Vec::new();
        if self.named {
            while let Some((name, item)) = access.next_entry::<String, &'de RawValue>()? {
                items.push((Some(name), item));
            }
        } else {
            while let Some((_, item)) = access.next_entry::<IgnoredAny, &'de RawValue>()? {
                items.push((None, item));
            }
        }
        Ok(List::Items(items))
    }

    fn visit_unit<E>(self) -> Result<List<'de>, E> {
        Ok(List::Not("null"))
    }

    fn visit_bool<E>(self, _: bool) -> Result<List<'de>, E> {
        Ok(List::Not("a boolean"))
    }

    fn visit_i64<E>(self, _: i64) -> Result<List<'de>, E> {
        Ok(List::Not("a number"))
    }

    fn visit_u64<E>(self, _: u64) -> Result<List<'de>, E> {
        Ok(List::Not("a number"))
    }

    fn visit_f64<E>(self, _: f64) -> Result<List<'de>, E> {
        Ok(List::Not("a number"))
    }

    fn visit_str<E>(self, _: &str) -> Result<List<'de>, E> {
        Ok(List::Not("a string"))
    }
}

impl Item {
    /// The record. Its bytes are the page's own, byte for byte; they are
    /// copied unless they are most of the page, because one new record must not keep a page of
    /// duplicates in memory for as long as it waits.
    pub fn open(self, page_bytes: usize) -> Result<Record, NotJson> {
        match self {
            Self::Slice(slice) | Self::Named(_, slice) => {
                let is_most = slice.len() * 2 >= page_bytes;
                let bytes = if is_most { slice } else { Bytes::copy_from_slice(&slice) };
                Record::parse(bytes, usize::MAX)
            }
            Self::Parsed(record) => Ok(record),
        }
    }
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
