//! From a page's items to its records: a path with several wildcards (`$.orders[*].lines[*]`) takes
//! the records out of each item, and what encloses them is their `up`.
//!
//! Pure. Records stay the page's own bytes. Each wildcard but the last adds a level of `up`, and so
//! does each `.*`, whose level is the name under which the member stands: of `$.data.*.items[*]` the
//! member is `up` and its name is `up.up.name`. A list that is missing in one item is fine; a path
//! that exists in none of them is an error that lists the keys of the first.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::{
    event::{Node, NotJson, Record, Shape},
    plan::{RecordsPlan, StreamPlan},
};

use super::{
    detail::Detail,
    path::{Found, Hop, Missing, kind},
    records::{Item, RecordsError, plain_of},
};

/// A record, and what encloses it where the stream asks for that.
pub(super) struct Opened {
    /// The record.
    pub record: Record,
    /// `up`.
    pub up: Option<Arc<Value>>,
    /// What more belongs to it.
    pub detail: Detail,
}

/// How items become records.
#[derive(Debug, Default)]
pub(super) struct Explode {
    /// From an item to its records.
    hops: Vec<Hop>,
    /// Whether an expression looks at `up`.
    wants_up: bool,
    /// Whether there may be none.
    optional: bool,
    /// Whether the path was there in some item of the page.
    reached: bool,
    /// Where it ended in the first item.
    missing: Option<Missing>,
}

impl Explode {
    /// What `records` and the stream's expressions ask for.
    pub fn of(records: Option<&RecordsPlan>, stream: &StreamPlan) -> Self {
        let plain = records.and_then(plain_of);
        Self {
            hops: plain.map_or_else(Vec::new, |plain| plain.hops),
            wants_up: stream.names_used("up"),
            optional: records.is_some_and(|records| records.optional),
            reached: false,
            missing: None,
        }
    }

    /// Adds the records of an item of a page of so many bytes to `opened`.
    pub fn open(
        &mut self,
        item: Item,
        page_bytes: usize,
        opened: &mut Vec<Opened>,
    ) -> Result<(), NotJson> {
        let up = self.name_of(&item);
        let slice = match item {
            Item::Slice(slice) | Item::Named(_, slice) if !self.hops.is_empty() => slice,
            item => {
                opened.push(Opened { record: item.open(page_bytes)?, up, detail: Detail::None });
                return Ok(());
            }
        };
        let whole = Record::parse(slice.clone(), usize::MAX)?;
        let root = whole.root().ok_or(NotJson)?;
        let hops = std::mem::take(&mut self.hops);
        let mut found = Vec::new();
        self.visit(root, root, &hops, up, &mut found);
        self.hops = hops;
        for (node, up) in found {
            let record = Item::Slice(slice.slice_ref(node.json())).open(page_bytes)?;
            opened.push(Opened { record, up, detail: Detail::None });
        }
        Ok(())
    }

    /// Says what is wrong once all items of a page were opened, and begins another.
    pub fn end_page(&mut self) -> Result<(), RecordsError> {
        let missing = self.missing.take();
        match missing.filter(|_| !std::mem::take(&mut self.reached) && !self.optional) {
            Some(missing) => Err(RecordsError::NothingWithin(missing)),
            None => Ok(()),
        }
    }

    fn name_of(&self, item: &Item) -> Option<Arc<Value>> {
        match item {
            Item::Named(name, _) if self.wants_up => Some(named(name, None)),
            _ => None,
        }
    }

    /// Goes on from `at`, which stands within `enclosing`, whose own `up` is `up`.
    fn visit<'n>(
        &mut self,
        at: Node<'n>,
        enclosing: Node<'n>,
        hops: &[Hop],
        up: Option<Arc<Value>>,
        found: &mut Vec<(Node<'n>, Option<Arc<Value>>)>,
    ) {
        let Some((hop, rest)) = hops.split_first() else {
            self.reached = true;
            found.push((at, up));
            return;
        };
        if let Hop::Member(name) = hop {
            match at.member(name) {
                Some(member) => self.visit(member, enclosing, rest, up, found),
                None => self.miss(at, hops),
            }
            return;
        }
        let children: Vec<_> = match at.shape() {
            Shape::Array => at.items().map(|item| (None, item)).collect(),
            Shape::Object => at.members().map(|(name, member)| (Some(name), member)).collect(),
            Shape::Null => Vec::new(),
            _ => return self.miss(at, hops),
        };
        // What is empty is there.
        self.reached |= children.is_empty();
        let up = if self.wants_up && !children.is_empty() {
            Some(enclose(enclosing, up.as_ref()))
        } else {
            None
        };
        for (name, child) in children {
            let up = match name.filter(|_| self.wants_up && *hop == Hop::Named) {
                Some(name) => Some(named(&name, up.as_ref())),
                None => up.clone(),
            };
            self.visit(child, child, rest, up, found);
        }
    }

    fn miss(&mut self, at: Node<'_>, rest: &[Hop]) {
        if self.reached || self.missing.is_some() {
            return;
        }
        let found = match at.shape() {
            Shape::Object => Found::Keys(at.members().map(|(name, _)| name.into_owned()).collect()),
            _ => Found::Kind(kind(&at.to_value())),
        };
        let path = print(rest);
        self.missing = Some(Missing { at: path.clone(), path, found });
    }
}

/// Hops as they are written.
fn print(hops: &[Hop]) -> String {
    hops.iter().fold(String::new(), |path, hop| match hop {
        Hop::Member(name) => format!("{path}.{name}"),
        Hop::Children => format!("{path}[*]"),
        Hop::Named => format!("{path}.*"),
    })
}

/// A node as `up`, with its own `up` in it.
fn enclose(node: Node<'_>, up: Option<&Arc<Value>>) -> Arc<Value> {
    let mut value = node.to_value();
    if let (Value::Object(members), Some(up)) = (&mut value, up) {
        members.insert("up".to_owned(), Value::clone(up));
    }
    Arc::new(value)
}

/// The level of a `.*`.
fn named(name: &str, up: Option<&Arc<Value>>) -> Arc<Value> {
    let mut level = Map::new();
    level.insert("name".to_owned(), name.into());
    level.extend(up.map(|up| ("up".to_owned(), Value::clone(up))));
    Arc::new(Value::Object(level))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::ingest::poll::{records::take_apart, testing::of_response};

    /// Each record with its `up`, or what is wrong.
    fn opened(path: &str, body: &Value) -> Result<Vec<(Value, Value)>, String> {
        let plan = RecordsPlan {
            path: of_response(path),
            prefix: Vec::new(),
            optional: path.contains("default"),
            levels: 2,
        };
        let bytes = Bytes::from(body.to_string());
        let page = take_apart(Some(&plan), &bytes, false).map_err(|error| error.to_string())?;
        let hops = plain_of(&plan).map_or_else(Vec::new, |plain| plain.hops);
        let mut explode =
            Explode { hops, wants_up: true, optional: plan.optional, ..Explode::default() };
        let mut opened = Vec::new();
        for item in page.items {
            explode.open(item, bytes.len(), &mut opened).map_err(|error| error.to_string())?;
        }
        explode.end_page().map_err(|error| error.to_string())?;
        let up = |up: Option<Arc<Value>>| up.map_or(Value::Null, |up| Value::clone(&up));
        Ok(opened.into_iter().map(|one| (Value::clone(one.record.value()), up(one.up))).collect())
    }

    #[test]
    fn a_child_sees_what_encloses_it() {
        let body = json!({ "orders": [{ "id": 1, "lines": [{ "n": 1 }, { "n": 2 }] }, { "id": 2 },
                                      { "id": 3, "lines": null }] });
        let up = json!({ "id": 1, "lines": [{ "n": 1 }, { "n": 2 }] });
        let expected = vec![(json!({ "n": 1 }), up.clone()), (json!({ "n": 2 }), up)];
        assert_eq!(opened("$.orders[*].lines[*]", &body), Ok(expected));
    }

    #[test]
    fn further_out_is_up_up() {
        let body = json!({ "a": [{ "x": 1, "b": [{ "y": 2, "c": [3] }] }] });
        let found = opened("$.a[*].b[*].c[*]", &body).unwrap();
        assert_eq!(found[0].0, 3);
        assert_eq!((&found[0].1["y"], &found[0].1["up"]["x"]), (&json!(2), &json!(1)));
    }

    #[test]
    fn an_object_keyed_by_id_gives_the_names() {
        let body = json!({ "data": { "a1": { "v": 1 }, "b2": { "v": 2, "items": [7] } } });
        let found = opened("$.data.*", &body).unwrap();
        assert_eq!(found[0], (json!({ "v": 1 }), json!({ "name": "a1" })));
        assert_eq!(found[1].1, json!({ "name": "b2" }));
        let found = opened("$.data.*.items[*]", &body).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((&found[0].1["v"], &found[0].1["up"]["name"]), (&json!(2), &json!("b2")));
        let body = json!({ "shops": [{ "id": 9, "orders": { "o1": { "v": 1 } } }] });
        let found = opened("$.shops[*].orders.*", &body).unwrap();
        assert_eq!((&found[0].1["name"], &found[0].1["up"]["id"]), (&json!("o1"), &json!(9)));
    }

    #[test]
    fn a_path_that_is_in_no_item_is_an_error_and_an_empty_list_is_not() {
        let body = json!({ "orders": [{ "id": 1, "rows": [] }, { "id": 2 }] });
        insta::assert_snapshot!(
            opened("$.orders[*].lines[*]", &body).unwrap_err(),
            @"records: `.lines[*]` is in none of the response's items: the first has `id`, `rows` (write `| default([])` behind `records` if it may be so)"
        );
        assert_eq!(opened("$.orders[*].lines[*] | default([])", &body), Ok(Vec::new()));
        assert_eq!(opened("$.orders[*].rows[*]", &body), Ok(Vec::new()));
        assert_eq!(opened("$.orders[*].lines[*]", &json!({ "orders": [] })), Ok(Vec::new()));
        let scalars = json!({ "orders": [{ "lines": "none" }] });
        insta::assert_snapshot!(
            opened("$.orders[*].lines[*]", &scalars).unwrap_err(),
            @"records: `[*]` is in none of the response's items: the first is a string (write `| default([])` behind `records` if it may be so)"
        );
    }

    #[test]
    fn rows_beside_the_names_of_their_columns() {
        let body = json!({ "columns": ["id", "total"], "rows": [[1, "2.50"], [2, null]] });
        let found = opened("$.rows | zip_object(response.body.columns)", &body).unwrap();
        assert_eq!(found[0].0, json!({ "id": 1, "total": "2.50" }));
        assert_eq!(found[1].0, json!({ "id": 2, "total": null }));
        let body = json!({ "heads": [{ "name": "a" }, { "name": "b" }], "rows": [[1, 2]] });
        let path = "$.rows | zip_object(response.body.heads | map(attribute='name') | list)";
        assert_eq!(opened(path, &body).unwrap()[0].0, json!({ "a": 1, "b": 2 }));
        let body = json!({ "values": [["a", "b"], [1, 2]] });
        assert_eq!(opened("$.values | zip_object", &body).unwrap()[0].0, json!({ "a": 1, "b": 2 }));
    }
}
