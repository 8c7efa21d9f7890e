//! Paths (RFC 9535). Names, indexes and wildcards are walked here, borrowing from the document; all
//! else is left to `jsonpath-rust`, minus what that library accepts and should not, or answers
//! wrongly: nested filters and ill-typed expressions are refused at load.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt::{self, Write},
    ops::Range,
    ptr,
};

use jsonpath_rust::{
    parser::{
        model::{JpQuery, Segment, Selector},
        parse_json_path,
    },
    query::js_path_process,
};
use serde_json::Value;

use crate::event::Node;

mod typed;

/// Paths longer than this are refused; the longest of the census has 160 bytes.
const MAX_PATH_BYTES: usize = 1024;

/// One step of a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Name(Box<str>),
    /// Negative: from the end.
    Index(i64),
    /// Every item of an array, every member's value of an object.
    All,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = |name: &str| {
            name.starts_with(|first: char| first == '_' || first.is_alphabetic())
                && name.chars().all(|one| one == '_' || one.is_alphanumeric())
        };
        match self {
            Self::Name(name) if is_plain(name) => write!(f, ".{name}"),
            Self::Name(name) => write!(f, "['{}']", name.escape_debug()),
            Self::Index(index) => write!(f, "[{index}]"),
            Self::All => f.write_str("[*]"),
        }
    }
}

/// A compiled path.
#[derive(Clone, Debug)]
pub(super) struct Path {
    /// The leading names and indexes: this part must exist.
    prefix: Box<[Step]>,
    rest: Rest,
}

#[derive(Clone, Debug)]
enum Rest {
    /// The path is singular: the prefix is all of it.
    Nothing,
    /// Begins with a wildcard, then names, indexes and wildcards.
    Walk(Box<[Step]>),
    /// The whole path, for the library.
    Library(Box<JpQuery>),
}

/// What a path selects.
#[derive(Debug, PartialEq)]
pub(super) enum Found<'a> {
    /// A singular path's value.
    One(&'a Value),
    /// Any other path's values.
    Many(Vec<&'a Value>),
    /// The singular part of the path finds nothing, or nothing that could have members.
    Nothing,
}

/// The same, within a record.
#[derive(Debug)]
pub(super) enum Taken<'a> {
    One(Node<'a>),
    Many(Vec<Node<'a>>),
    Nothing,
}

/// Why a path is refused: bytes within its text, what is wrong, the way out.
#[derive(Debug)]
pub(super) struct Refusal {
    pub range: Range<usize>,
    pub message: String,
    pub help: Option<String>,
}

impl Path {
    /// Compiles the text of a path (without filters, without surrounding space).
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let refuse = |range, message: String, help: &str| {
            Err(Refusal { range, message, help: Some(help.to_owned()) })
        };
        if text.len() > MAX_PATH_BYTES {
            return refuse(
                0..text.len(),
                format!("a path has at most {MAX_PATH_BYTES} bytes"),
                "take a shorter one",
            );
        }
        let Ok(query) = parse_json_path(text) else {
            let good = valid_prefix(text);
            return refuse(
                good..text.len(),
                "not a JSONPath (RFC 9535)".to_owned(),
                "a path looks like `$.customer.email`, `$.lines[*]` or `$['odd name']`; \
                 a text that begins with `$` is written {{ '$5' }}",
            );
        };
        if let Err(message) = typed::check_segments(&query.segments, false) {
            return Err(Refusal { range: 0..text.len(), message, help: None });
        }
        Ok(Self::lower(query))
    }

    fn lower(query: JpQuery) -> Self {
        let steps: Vec<Option<Step>> = query.segments.iter().map(step).collect();
        let singular = steps
            .iter()
            .take_while(|step| matches!(step, Some(Step::Name(_) | Step::Index(_))))
            .count();
        let prefix = steps[..singular].iter().flatten().cloned().collect();
        let rest = if singular == steps.len() {
            Rest::Nothing
        } else if steps.iter().all(Option::is_some) {
            Rest::Walk(steps.into_iter().skip(singular).flatten().collect())
        } else {
            Rest::Library(Box::new(query))
        };
        Self { prefix, rest }
    }

    /// Whether it gives one value, not an array.
    pub fn is_singular(&self) -> bool {
        matches!(self.rest, Rest::Nothing)
    }

    /// The names that it begins with.
    pub fn names(&self) -> Vec<&str> {
        names(&self.prefix)
    }

    /// The names before the first step that is not a name.
    pub fn leading_names(&self) -> Vec<String> {
        self.names().into_iter().map(str::to_owned).collect()
    }

    /// What it selects in a record. `tree` is asked for the record as a tree where only the library
    /// knows, which needs one.
    pub fn take<'a, 't>(
        &self,
        record: Node<'a>,
        tree: impl FnOnce() -> Cow<'t, Value>,
    ) -> Taken<'a> {
        let Some(base) = walk_node(record, &self.prefix) else { return Taken::Nothing };
        let steps = match &self.rest {
            Rest::Nothing => return Taken::One(base),
            _ if !(base.is_array() || base.is_object()) => return Taken::Nothing,
            Rest::Walk(steps) => steps,
            Rest::Library(_) => {
                let tree = tree();
                let found = self.select(&tree);
                return Taken::Many(places(&found, &tree, record));
            }
        };
        let mut found = Vec::new();
        spread_nodes(base, steps, &mut found);
        Taken::Many(found)
    }

    /// What it selects in `document`.
    pub fn find<'a>(&self, document: &'a Value) -> Found<'a> {
        let Some(base) = walk(document, &self.prefix) else {
            return Found::Nothing;
        };
        if self.is_singular() {
            Found::One(base)
        } else if base.is_array() || base.is_object() {
            Found::Many(self.select(document))
        } else {
            Found::Nothing
        }
    }

    /// The nodes of RFC 9535, in order.
    pub fn select<'a>(&self, document: &'a Value) -> Vec<&'a Value> {
        match &self.rest {
            Rest::Nothing => walk(document, &self.prefix).into_iter().collect(),
            Rest::Walk(steps) => {
                let mut found = Vec::new();
                if let Some(base) = walk(document, &self.prefix) {
                    spread(base, steps, &mut found);
                }
                found
            }
            // It fails only for results that are not nodes, which a parsed path cannot have.
            Rest::Library(query) => js_path_process(query, document)
                .map(|nodes| nodes.into_iter().map(|node| node.val).collect())
                .unwrap_or_default(),
        }
    }

    /// The deepest part of the singular prefix that exists: `$.customer`.
    pub fn deepest(&self, document: &Value) -> String {
        let mut text = String::from("$");
        let mut at = document;
        for one in &self.prefix {
            let Some(next) = child(at, one) else { break };
            let _ = write!(text, "{one}");
            at = next;
        }
        text
    }
}

/// The names before the first step that is not a name.
pub(super) fn names(steps: &[Step]) -> Vec<&str> {
    steps
        .iter()
        .map_while(|step| match step {
            Step::Name(name) => Some(&**name),
            _ => None,
        })
        .collect()
}

/// Where within a record the values stand that were found in its tree.
fn places<'a>(found: &[&Value], tree: &Value, record: Node<'a>) -> Vec<Node<'a>> {
    fn visit<'a>(value: &Value, node: Node<'a>, at: &mut HashMap<*const Value, Option<Node<'a>>>) {
        if let Some(place) = at.get_mut(&ptr::from_ref(value)) {
            *place = Some(node);
        }
        match value {
            Value::Array(items) => {
                items.iter().zip(node.items()).for_each(|(value, node)| visit(value, node, at));
            }
            Value::Object(members) => {
                // The last of a name is the one that the tree has.
                let nodes: HashMap<_, _> = node.members().collect();
                for (name, value) in members {
                    if let Some(node) = nodes.get(name.as_str()) {
                        visit(value, *node, at);
                    }
                }
            }
            _ => {}
        }
    }
    if found.is_empty() {
        return Vec::new();
    }
    let mut at = found.iter().map(|value| (ptr::from_ref(*value), None)).collect();
    visit(tree, record, &mut at);
    found.iter().filter_map(|value| at.get(&ptr::from_ref(*value)).copied().flatten()).collect()
}

/// Follows names and indexes; `None` where one is missing.
pub(super) fn walk<'a>(document: &'a Value, steps: &[Step]) -> Option<&'a Value> {
    steps.iter().try_fold(document, child)
}

/// The same within a record.
pub(super) fn walk_node<'a>(document: Node<'a>, steps: &[Step]) -> Option<Node<'a>> {
    steps.iter().try_fold(document, |node, step| match step {
        Step::Name(name) => node.member(name),
        Step::Index(index) => node.item(*index),
        Step::All => None,
    })
}

/// One name or index further.
pub(super) fn child<'a>(value: &'a Value, step: &Step) -> Option<&'a Value> {
    match (value, step) {
        (Value::Object(members), Step::Name(name)) => members.get(&**name),
        (Value::Array(items), Step::Index(index)) => items.get(position(*index, items.len())?),
        _ => None,
    }
}

/// An index that may count from the end, as a position.
pub(super) fn position(index: i64, length: usize) -> Option<usize> {
    match usize::try_from(index) {
        Ok(index) => Some(index),
        Err(_) => length.checked_sub(usize::try_from(index.unsigned_abs()).ok()?),
    }
}

fn spread<'a>(value: &'a Value, steps: &[Step], found: &mut Vec<&'a Value>) {
    let Some((first, rest)) = steps.split_first() else {
        found.push(value);
        return;
    };
    match (first, value) {
        (Step::All, Value::Array(items)) => {
            if rest.is_empty() {
                found.extend(items);
            } else {
                for item in items {
                    spread(item, rest, found);
                }
            }
        }
        (Step::All, Value::Object(members)) => {
            members.values().for_each(|member| spread(member, rest, found));
        }
        (Step::All, _) => {}
        _ => {
            if let Some(next) = child(value, first) {
                spread(next, rest, found);
            }
        }
    }
}

/// As [`spread`], within a record. Of a name that comes again the last member counts, in the place
/// of the first, as in a tree.
fn spread_nodes<'a>(node: Node<'a>, steps: &[Step], found: &mut Vec<Node<'a>>) {
    let Some((first, rest)) = steps.split_first() else {
        found.push(node);
        return;
    };
    if first == &Step::All {
        node.items().for_each(|item| spread_nodes(item, rest, found));
        let members: Vec<_> = node.members().collect();
        let mut last: HashMap<&str, Node<'a>> =
            members.iter().map(|(name, member)| (&**name, *member)).collect();
        for member in members.iter().filter_map(|(name, _)| last.remove(&**name)) {
            spread_nodes(member, rest, found);
        }
    } else if let Some(next) = walk_node(node, std::slice::from_ref(first)) {
        spread_nodes(next, rest, found);
    }
}

fn step(segment: &Segment) -> Option<Step> {
    match segment {
        Segment::Selector(Selector::Name(name)) => Some(Step::Name(name.as_str().into())),
        Segment::Selector(Selector::Index(index)) => Some(Step::Index(*index)),
        Segment::Selector(Selector::Wildcard) => Some(Step::All),
        _ => None,
    }
}

/// Length of the longest beginning of `text` that is a path: where the fault begins.
fn valid_prefix(text: &str) -> usize {
    (1..text.len())
        .rev()
        .find(|&end| text.is_char_boundary(end) && parse_json_path(&text[..end]).is_ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::Record;

    fn check(document: &Value, cases: &[(&str, Value)]) {
        for (text, expected) in cases {
            let path = Path::parse(text).unwrap_or_else(|no| panic!("{text}: {}", no.message));
            let found: Vec<Value> = path.select(document).into_iter().cloned().collect();
            let record = Record::from_value(document.clone());
            let taken = match path.take(record.root().unwrap(), || Cow::Borrowed(record.value())) {
                Taken::Nothing => Vec::new(),
                Taken::One(node) => vec![node.to_value()],
                Taken::Many(nodes) => nodes.into_iter().map(Node::to_value).collect(),
            };
            assert_eq!(taken, found, "{text}");
            assert_eq!(Value::from(found), *expected, "{text}");
        }
    }

    #[test]
    fn names_and_indexes() {
        let document = json!({
            "a": { "b": 1, "": 2, "é": 3, "x y": 4, "it's": 5, "\"": 6, "\\": 7, "\u{1f600}": 8 },
            "l": [10, 11, 12], "null": null, "1": "one",
        });
        check(
            &document,
            &[
                ("$", json!([document])),
                ("$.a.b", json!([1])),
                ("$['a']['b']", json!([1])),
                ("$[\"a\"].b", json!([1])),
                ("$ .a [ 'b' ]", json!([1])),
                ("$.a['']", json!([2])),
                ("$.a.é", json!([3])),
                ("$.a['x y']", json!([4])),
                ("$.a['it\\'s']", json!([5])),
                ("$.a[\"it's\"]", json!([5])),
                ("$.a['\"']", json!([6])),
                ("$.a['\\\\']", json!([7])),
                ("$.a['\\ud83d\\ude00']", json!([8])),
                ("$.a['\\u0062']", json!([1])),
                ("$.l[0]", json!([10])),
                ("$.l[-1]", json!([12])),
                ("$.l[-3]", json!([10])),
                ("$.l[-4]", json!([])),
                ("$.l[3]", json!([])),
                ("$.l[9007199254740991]", json!([])),
                ("$.l.a", json!([])),
                ("$.a[0]", json!([])),
                ("$['1']", json!(["one"])),
                ("$[1]", json!([])),
                ("$.null", json!([null])),
                ("$.null.a", json!([])),
            ],
        );
    }

    #[test]
    fn wildcards_slices_and_descent() {
        let document = json!({ "o": { "j": 1, "k": [2, { "j": 3 }] }, "l": [0, 1, 2, 3, 4] });
        check(
            &document,
            &[
                ("$.*", json!([document["o"], document["l"]])),
                ("$.o[*]", json!([1, [2, { "j": 3 }]])),
                ("$.o.k[*].j", json!([3])),
                ("$.*.*[1].j", json!([3])),
                ("$.o.j[*]", json!([])),
                ("$.l[1:3]", json!([1, 2])),
                ("$.l[:2]", json!([0, 1])),
                ("$.l[3:]", json!([3, 4])),
                ("$.l[-2:]", json!([3, 4])),
                ("$.l[::2]", json!([0, 2, 4])),
                ("$.l[::-1]", json!([4, 3, 2, 1, 0])),
                ("$.l[5:0:-2]", json!([4, 2])),
                ("$.l[::0]", json!([])),
                ("$.l[0,-1,0]", json!([0, 4, 0])),
                ("$['l','o']['j',1]", json!([1, 1])),
                ("$..j", json!([1, 3])),
                ("$.o..[1]", json!([{ "j": 3 }])),
                ("$..nope", json!([])),
            ],
        );
    }

    #[test]
    fn filters() {
        let document = json!([
            { "id": 1, "name": "ab", "tags": ["x"], "ok": true },
            { "id": 2, "name": "b", "tags": [], "ok": false },
            { "id": 3, "tags": ["x", "y"], "note": null },
        ]);
        let ids = |ids: &[i64]| json!(ids);
        check(
            &document,
            &[
                ("$[?@.id == 2].id", ids(&[2])),
                ("$[?@.id != 2].id", ids(&[1, 3])),
                ("$[?@.id >= 2 && @.id < 3].id", ids(&[2])),
                ("$[?@.id == 1 || @.id == 3].id", ids(&[1, 3])),
                ("$[?!(@.id == 1)].id", ids(&[2, 3])),
                ("$[?@.name].id", ids(&[1, 2])),
                ("$[?!@.name].id", ids(&[3])),
                ("$[?@.note].id", ids(&[3])),
                ("$[?@.note == null].id", ids(&[3])),
                ("$[?@.ok == true].id", ids(&[1])),
                ("$[?@.name == 'ab'].id", ids(&[1])),
                ("$[?@.nope == @.neither].id", ids(&[1, 2, 3])),
                ("$[?@.id == $[1].id].id", ids(&[2])),
                ("$[?length(@.name) == 2].id", ids(&[1])),
                ("$[?count(@.tags[*]) > 1].id", ids(&[3])),
                ("$[?value(@.tags[0]) == 'x'].id", ids(&[1, 3])),
                ("$[?match(@.name, 'a.')].id", ids(&[1])),
                ("$[?search(@.name, 'b')].id", ids(&[1, 2])),
            ],
        );
    }

    #[test]
    fn what_is_refused() {
        for text in [
            "",
            "a",
            "$.",
            "$..",
            "$.a.",
            "$a",
            "$.1",
            "$.a-b",
            "$[a]",
            "$[01]",
            "$[-0]",
            "$[1.0]",
            "$[9007199254740992]",
            "$['a]",
            "$['\\x']",
            "$['\\ud800']",
            "$[",
            "$[]",
            "$[?]",
            "$[?@.a = 1]",
            "$[?'a']",
            "$[?true]",
            "$ . a",
            "$.a | b",
            // Accepted or wrongly answered by the library.
            "$[?@.a[?@.b]]",
            "$[?length(@.a)]",
            "$[?count(@.*)]",
            "$[?value(@.a)]",
            "$[?match(@.a, 'x') == true]",
            "$[?length(@.*) == 1]",
            "$[?search(@.*, 'x')]",
            "$[?in(@.a, @.b)]",
            "$[?@.a == 9007199254740992]",
        ] {
            assert!(Path::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_path_finds_nothing_where_its_singular_part_does() {
        let document = json!({ "a": { "l": [], "n": null } });
        let find = |text| Path::parse(text).unwrap().find(&document).matches();
        assert_eq!(find("$.a.l[*]"), Some(0));
        assert_eq!(find("$.a.l[?@.x]"), Some(0));
        assert_eq!(find("$.a.n"), Some(1));
        assert_eq!(find("$.a.n[*]"), None);
        assert_eq!(find("$.a.x[*]"), None);
        assert_eq!(find("$.a.x..y"), None);
        assert_eq!(Path::parse("$.a.x.y").unwrap().deepest(&document), "$.a");
    }

    impl Found<'_> {
        fn matches(&self) -> Option<usize> {
            match self {
                Found::Nothing => None,
                Found::One(_) => Some(1),
                Found::Many(values) => Some(values.len()),
            }
        }
    }
}
