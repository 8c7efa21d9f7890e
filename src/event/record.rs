//! The raw record: JSON text, byte for byte as it came, that is looked into without being taken
//! apart.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use serde_json::Value;

use super::tape::{self, Entry, Kind, MAX_DEPTH};

/// A record of JSON text. Cheap to clone. It is checked and laid out when first looked into, and
/// becomes a tree of values only for whoever asks for one.
#[derive(Clone)]
pub struct Record(Arc<Inner>);

struct Inner {
    bytes: Bytes,
    /// `None`: the text is no JSON, which ingest rules out.
    tape: OnceLock<Option<Box<[Entry]>>>,
    value: OnceLock<Arc<Value>>,
}

/// The text is not JSON (RFC 8259), nests too deeply, or is longer than 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotJson;

impl fmt::Display for NotJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the record is not JSON, or nests too deeply")
    }
}

impl std::error::Error for NotJson {}

impl Record {
    /// A record of JSON text that somebody checked before.
    pub fn from_bytes(bytes: Bytes) -> Self {
        Self(Arc::new(Inner { bytes, tape: OnceLock::new(), value: OnceLock::new() }))
    }

    /// A record of text that has to be JSON, arrays and objects nested at most `max_depth` levels
    /// (and no more than 127).
    pub fn parse(bytes: Bytes, max_depth: usize) -> Result<Self, NotJson> {
        let tape = tape::lay_out(&bytes, max_depth).map_err(|_| NotJson)?;
        Ok(Self(Arc::new(Inner {
            bytes,
            tape: OnceLock::from(Some(tape)),
            value: OnceLock::new(),
        })))
    }

    /// A record that is a document already.
    pub fn from_value(value: Value) -> Self {
        let bytes = value.to_string().into();
        let value = OnceLock::from(Arc::new(value));
        Self(Arc::new(Inner { bytes, tape: OnceLock::new(), value }))
    }

    /// The JSON text, byte for byte as it came.
    pub fn bytes(&self) -> &Bytes {
        &self.0.bytes
    }

    /// The whole document as a tree, made when this is first called. `null` where the text is no
    /// JSON.
    pub fn value(&self) -> &Arc<Value> {
        let Inner { bytes, value, .. } = &*self.0;
        value.get_or_init(|| Arc::new(serde_json::from_slice(bytes).unwrap_or(Value::Null)))
    }

    /// The document itself. `None` where the text is no JSON.
    pub fn root(&self) -> Option<Node<'_>> {
        let Inner { bytes, tape, .. } = &*self.0;
        let entries = tape.get_or_init(|| tape::lay_out(bytes, MAX_DEPTH).ok()).as_deref()?;
        Some(Node { text: bytes, entries, at: 0 })
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record({} bytes)", self.0.bytes.len())
    }
}

impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        self.0.bytes == other.0.bytes
    }
}

impl fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({} bytes)", self.json().len())
    }
}

/// A value within a record.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    text: &'a [u8],
    entries: &'a [Entry],
    at: usize,
}

/// What a [`Node`] is.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// The number's text, as it is written.
    Number(&'a str),
    /// The text without quotes and escapes.
    Text(Cow<'a, str>),
    /// See [`Node::items`].
    Array,
    /// See [`Node::members`].
    Object,
}

impl<'a> Node<'a> {
    fn entry(self) -> &'a Entry {
        &self.entries[self.at]
    }

    fn at(self, at: usize) -> Self {
        Self { at, ..self }
    }

    /// Its JSON text.
    pub fn json(self) -> &'a [u8] {
        &self.text[self.entry().start as usize..self.entry().end as usize]
    }

    /// Appends its JSON text, without white space between values and else as it came: digits and
    /// escapes are the sender's.
    pub fn write(self, out: &mut Vec<u8>) {
        let (start, end) = (self.entry().start as usize, self.entry().end as usize);
        let mut done = start;
        for entry in &self.entries[self.at..self.entry().next as usize] {
            let begin = entry.start as usize;
            let past = match entry.kind {
                Kind::Array | Kind::Object => begin + 1,
                _ => entry.end as usize,
            };
            push_marks(&self.text[done..begin], out);
            out.extend_from_slice(&self.text[begin..past]);
            done = past;
        }
        push_marks(&self.text[done..end], out);
    }

    /// A record of its own, of its JSON text.
    pub fn to_record(self) -> Record {
        Record::from_bytes(Bytes::copy_from_slice(self.json()))
    }

    /// What it is.
    pub fn shape(self) -> Shape<'a> {
        match self.entry().kind {
            Kind::Null => Shape::Null,
            Kind::False => Shape::Bool(false),
            Kind::True => Shape::Bool(true),
            Kind::Number => Shape::Number(std::str::from_utf8(self.json()).unwrap_or("0")),
            Kind::Plain | Kind::Escaped => Shape::Text(self.string()),
            Kind::Array => Shape::Array,
            Kind::Object => Shape::Object,
        }
    }

    /// Whether it is `null`.
    pub fn is_null(self) -> bool {
        self.entry().kind == Kind::Null
    }

    /// Whether it is an array.
    pub fn is_array(self) -> bool {
        self.entry().kind == Kind::Array
    }

    /// Whether it is an object.
    pub fn is_object(self) -> bool {
        self.entry().kind == Kind::Object
    }

    /// A text's bytes (UTF-8) without quotes and escapes. `None`: it is no text.
    pub fn unquoted(self) -> Option<Cow<'a, [u8]>> {
        match self.entry().kind {
            Kind::Plain => Some(Cow::Borrowed(self.quoted())),
            Kind::Escaped => Some(match self.string() {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            }),
            _ => None,
        }
    }

    /// An array's items; of anything else none.
    pub fn items(self) -> impl Iterator<Item = Self> {
        self.children(Kind::Array, 0)
    }

    /// An object's members in the order of the text; of anything else none. A name may come again:
    /// then its last value counts.
    pub fn members(self) -> impl Iterator<Item = (Cow<'a, str>, Self)> {
        self.names().map(move |name| (name.string(), name.at(name.at + 1)))
    }

    /// The member of that name.
    pub fn member(self, name: &str) -> Option<Self> {
        let object = self.entry();
        if object.kind != Kind::Object {
            return None;
        }
        // Names and values in turn, without a slice made of each: this is most of what a map does.
        let (quoted, first) = (name.len() + 2, name.as_bytes().first());
        let (mut at, mut found) = (self.at + 1, None);
        while at < object.next as usize {
            let known = &self.entries[at];
            let may_be = match known.kind {
                Kind::Plain => {
                    (known.end - known.start) as usize == quoted
                        && first.is_none_or(|first| self.text[known.start as usize + 1] == *first)
                }
                _ => true,
            };
            if may_be && self.at(at).is_called(name) {
                found = Some(at + 1);
            }
            at = self.entries[at + 1].next as usize;
        }
        found.map(|at| self.at(at))
    }

    /// The item at `index`, from the end where it is negative.
    pub fn item(self, index: i64) -> Option<Self> {
        let index = match usize::try_from(index) {
            Ok(index) => index,
            Err(_) => {
                self.items().count().checked_sub(usize::try_from(index.unsigned_abs()).ok()?)?
            }
        };
        self.items().nth(index)
    }

    /// It as a tree of its own. A tree holds integers of 64 bits and floats: a number of more digits
    /// is rounded there, and only there.
    pub fn to_value(self) -> Value {
        match self.shape() {
            Shape::Null => Value::Null,
            Shape::Bool(truth) => Value::Bool(truth),
            Shape::Text(text) => Value::String(text.into_owned()),
            Shape::Number(digits) => match digits.parse::<u64>() {
                Ok(integer) => Value::from(integer),
                Err(_) => self.parsed(),
            },
            Shape::Array | Shape::Object => self.parsed(),
        }
    }

    fn parsed(self) -> Value {
        serde_json::from_slice(self.json()).unwrap_or_default()
    }

    /// As [`Node::members`], each name as a node: a text, whose escapes are still to be read.
    pub fn named(self) -> impl Iterator<Item = (Self, Self)> {
        self.names().map(|name| (name, name.at(name.at + 1)))
    }

    fn names(self) -> impl Iterator<Item = Self> {
        // Behind a name stands its value.
        self.children(Kind::Object, 1)
    }

    /// What stands in a container of that kind, and `between` two of them.
    fn children(self, of: Kind, between: usize) -> impl Iterator<Item = Self> {
        let end = if self.entry().kind == of { self.entry().next as usize } else { self.at };
        let mut at = self.at + 1;
        std::iter::from_fn(move || {
            let child = (at < end).then(|| self.at(at))?;
            at = self.entries[at + between].next as usize;
            Some(child)
        })
    }

    fn is_called(self, name: &str) -> bool {
        match self.entry().kind {
            Kind::Plain => self.quoted() == name.as_bytes(),
            _ => self.string() == name,
        }
    }

    /// Between its quotes.
    fn quoted(self) -> &'a [u8] {
        let json = self.json();
        &json[1..json.len() - 1]
    }

    fn string(self) -> Cow<'a, str> {
        let plain = (self.entry().kind == Kind::Plain).then(|| std::str::from_utf8(self.quoted()));
        match plain {
            Some(Ok(text)) => Cow::Borrowed(text),
            _ => Cow::Owned(serde_json::from_slice(self.json()).unwrap_or_default()),
        }
    }
}

/// Appends what stands between two values, without white space.
fn push_marks(between: &[u8], out: &mut Vec<u8>) {
    match between {
        [] => {}
        // Most senders leave no space.
        [mark] if !mark.is_ascii_whitespace() => out.push(*mark),
        _ => out.extend(between.iter().copied().filter(|byte| !byte.is_ascii_whitespace())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parse(text: &str) -> Result<Record, NotJson> {
        Record::parse(Bytes::copy_from_slice(text.as_bytes()), MAX_DEPTH)
    }

    #[test]
    fn what_stands_there_is_found() {
        let text = r#" {"a": {"b": [1, "two", null, [3]]}, "é\n": "\ud83d\ude00", "a": {"b": [7.50, "x"]}, "e": {}, "n": -12} "#;
        let record = parse(text).unwrap();
        let root = record.root().unwrap();
        let b = root.member("a").and_then(|a| a.member("b")).unwrap();
        assert_eq!(b.json(), br#"[7.50, "x"]"#, "the last of a name counts");
        assert_eq!(b.item(0).unwrap().shape(), Shape::Number("7.50"));
        assert_eq!(b.item(-1).unwrap().to_value(), json!("x"));
        assert!(b.item(2).is_none() && b.item(-3).is_none() && b.member("b").is_none());
        assert_eq!(root.member("é\n").unwrap().to_value(), json!("\u{1f600}"));
        assert_eq!(root.member("e").unwrap().members().count(), 0);
        assert_eq!(root.member("n").unwrap().to_value(), json!(-12));
        assert_eq!(root.to_value(), **record.value());
    }

    #[test]
    fn what_is_no_json_is_refused_as_serde_json_does() {
        for text in [
            "",
            " ",
            "{",
            "[1,]",
            "{\"a\":}",
            "{\"a\" 1}",
            "{a:1}",
            "{\"a\":1,}",
            "[1 2]",
            "]",
            "1 1",
            "01",
            "1.",
            ".5",
            "+1",
            "-",
            "1e",
            "1e400",
            "-1e999",
            "tru",
            "nul",
            "\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\ud800\"",
            "\"\\ud800\\u0041\"",
            "\"\\udc00\"",
            "\"\n\"",
            "[\"a\":1]",
            "{\"a\",1}",
            "{1:1}",
            "'a'",
        ] {
            assert!(serde_json::from_str::<Value>(text).is_err(), "{text}");
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(Record::parse(Bytes::from_static(b"\"\xff\""), MAX_DEPTH).is_err());
        let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
        assert!(parse(&nested(127)).is_ok() && parse(&nested(128)).is_err());
        assert!(serde_json::from_str::<Value>(&nested(128)).is_err());
        assert!(Record::parse(nested(5).into(), 5).is_ok());
        assert!(Record::parse(nested(6).into(), 5).is_err());
    }

    /// Texts that are JSON, or nearly so.
    fn nearly_json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            r"-?(0|[1-9][0-9]{0,22})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?",
            r#""([a-zé ]|\\n|\\"|\\u00e9|\\ud83d\\ude00|\\u[0-9a-f]{4}){0,6}""#,
            Just("null".to_owned()),
            Just("true".to_owned()),
            Just("false".to_owned()),
            r#"[\[\]{}",:0-9.eE+\-\\ut a]{0,4}"#,
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4)
                    .prop_map(|v| format!("[{}]", v.join(" ,"))),
                prop::collection::vec((r#""([a-c]|\\u0061)?""#, inner), 0..4).prop_map(|members| {
                    let members: Vec<_> = members
                        .into_iter()
                        .map(|(name, value)| format!("{name}: {value}"))
                        .collect();
                    format!("{{{}}}", members.join(","))
                }),
            ]
        })
    }

    #[test]
    fn it_is_written_without_white_space_and_else_as_it_came() {
        let record =
            parse(" { \"a b\" :\t[ 1.50 , -0 , \"\\u00e9 x\" , { } ,[ ]] ,\n\"n\": 1e2 } ")
                .unwrap();
        let mut out = Vec::new();
        record.root().unwrap().write(&mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, r#"{"a b":[1.50,-0,"\u00e9 x",{},[]],"n":1e2}"#);
    }

    /// Every value of a record equals what `serde_json` finds in the same place.
    fn agrees(node: Node<'_>, value: &Value) {
        assert_eq!(node.to_value(), *value);
        match value {
            Value::Array(items) => {
                assert_eq!(node.items().count(), items.len());
                for (at, item) in items.iter().enumerate() {
                    agrees(node.item(at as i64).unwrap(), item);
                }
            }
            Value::Object(members) => {
                for (name, member) in members {
                    agrees(node.member(name).unwrap(), member);
                }
            }
            _ => {}
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn it_accepts_and_finds_what_serde_json_does(text in nearly_json()) {
            match (serde_json::from_str::<Value>(&text), parse(&text)) {
                (Ok(value), Ok(record)) => {
                    let root = record.root().unwrap();
                    agrees(root, &value);
                    let mut out = Vec::new();
                    root.write(&mut out);
                    prop_assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), value);
                }
                (Err(_), Err(_)) => {}
                (theirs, ours) => prop_assert!(false, "{text}: {theirs:?} {ours:?}"),
            }
        }
    }
}
