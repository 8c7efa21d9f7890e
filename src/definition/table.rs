//! Key tables: each TOML table is declared once, as data, and that declaration is the typed
//! definition, the walker that reports every problem of a file at once, and the schema for editors.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::hints;
use crate::diagnostic::{Code, codes, nearest};

/// A value as TOML gives it, with its span.
pub type Node<'i> = Spanned<DeValue<'i>>;

/// Bytes of one of the files that are compiled together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Loc {
    /// Index of the file: 0 is the connector file itself.
    pub file: u16,
    /// First byte.
    pub start: u32,
    /// One after the last byte.
    pub end: u32,
}

/// A value with its place.
#[derive(Clone, Debug)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where the value stands.
    pub at: Loc,
    /// Where its key stands; for an item of a list the item itself.
    pub key: Loc,
}

/// What became of a key.
#[derive(Clone, Debug, Default)]
pub enum Given<T> {
    /// It is not there.
    #[default]
    Absent,
    /// It is there, its value was wrong and has been reported.
    Invalid(Loc),
    /// It is there.
    Value(At<T>),
}

impl<T> Given<T> {
    /// The value with its place, where there is a good one.
    pub fn get(&self) -> Option<&At<T>> {
        match self {
            Self::Value(at) => Some(at),
            _ => None,
        }
    }

    /// The value, where there is a good one.
    pub fn value(&self) -> Option<&T> {
        self.get().map(|at| &at.value)
    }

    /// Whether the key is not there at all.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// This one, or `other` where the key is not there.
    pub fn or<'a>(&'a self, other: &'a Self) -> &'a Self {
        if self.is_absent() { other } else { self }
    }

    /// Where the key stands, if it does.
    pub fn key(&self) -> Option<Loc> {
        match self {
            Self::Absent => None,
            Self::Invalid(key) => Some(*key),
            Self::Value(at) => Some(at.key),
        }
    }
}

/// A problem with its place; becomes a `Diagnostic` once the files are at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which problem.
    pub code: Code,
    /// Where.
    pub at: Loc,
    /// The headline.
    pub message: String,
    /// Text under the caret.
    pub label: String,
    /// Further places.
    pub related: Vec<(Loc, String)>,
    /// The way out.
    pub help: Option<String>,
}

impl Finding {
    /// A finding without help or further places.
    pub fn new(code: Code, at: Loc, message: impl Into<String>, label: impl Into<String>) -> Self {
        let (message, label) = (message.into(), label.into());
        Self { code, at, message, label, related: Vec::new(), help: None }
    }

    /// The same with a way out.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same with a way out, if there is one.
    #[must_use]
    pub fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help;
        self
    }

    /// The same with a further place.
    #[must_use]
    pub fn related(mut self, at: Loc, label: impl Into<String>) -> Self {
        self.related.push((at, label.into()));
        self
    }
}

/// One of the words a key takes.
#[derive(Debug)]
pub struct Word {
    /// As written.
    pub word: &'static str,
    /// What it means.
    pub doc: &'static str,
}

/// What a key takes.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// Any text, for people.
    Prose,
    /// Text that is taken as it is.
    Plain,
    /// A path, a template, or text.
    Expression,
    /// `true` or `false`.
    Boolean,
    /// A whole number within bounds.
    Integer {
        /// Least.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// `"30s"`.
    Duration,
    /// `"4MiB"`.
    Size,
    /// `"10/s"`.
    Rate,
    /// `"99.9%"`.
    Ratio,
    /// `2026-11-20`.
    Date,
    /// One of a few words.
    Choice(&'static [Word]),
    /// A word, or something else.
    WordOr(&'static str, &'static Shape),
    /// A list.
    List(&'static Shape),
    /// One, or a list.
    OneOrMany(&'static Shape),
    /// One of two.
    Either(&'static Shape, &'static Shape),
    /// A table with names of the author's choice.
    Named(&'static Shape),
    /// A table of known keys.
    Table(&'static Table),
    /// Nested tables and lists of expressions and constants.
    Tree,
    /// A constant: text, number, boolean.
    Scalar,
    /// Any value.
    Any,
}

impl Shape {
    /// What is expected, for messages: "a duration such as `30s`".
    pub fn words(&self) -> String {
        match self {
            Self::Prose | Self::Plain => "a string".to_owned(),
            Self::Expression => "a string (a path, a template, or text)".to_owned(),
            Self::Boolean => "`true` or `false`".to_owned(),
            Self::Integer { .. } => "a whole number".to_owned(),
            Self::Duration => "a duration such as \"30s\" or \"1h30m\"".to_owned(),
            Self::Size => "a size such as \"4MiB\"".to_owned(),
            Self::Rate => "a rate such as \"10/s\"".to_owned(),
            Self::Ratio => "a ratio such as \"99.9%\"".to_owned(),
            Self::Date => "a date such as 2026-11-20".to_owned(),
            Self::Choice(words) => format!("one of {}", list_of(words.iter().map(|w| w.word))),
            Self::WordOr(word, shape) => format!("\"{word}\" or {}", shape.words()),
            Self::List(item) => format!("a list, each item {}", item.words()),
            Self::OneOrMany(item) => format!("{}, or a list of such", item.words()),
            Self::Either(one, other) => format!("{}, or {}", one.words(), other.words()),
            Self::Named(_) | Self::Table(_) => "a table".to_owned(),
            Self::Tree => "a table of fields".to_owned(),
            Self::Scalar => "a string, a number, a boolean, or a list of such".to_owned(),
            Self::Any => "a value".to_owned(),
        }
    }
}

/// One key of a table.
#[derive(Debug)]
pub struct Key {
    /// As written.
    pub name: &'static str,
    /// What it does, in a line or two.
    pub doc: &'static str,
    /// What it takes.
    pub shape: Shape,
    /// Whether the table is nothing without it.
    pub required: bool,
    /// What holds without it, as it would be written.
    pub default: Option<&'static str>,
}

/// A table of known keys.
#[derive(Debug)]
pub struct Table {
    /// As messages call it: `[schedule]`.
    pub title: &'static str,
    /// What it is for.
    pub doc: &'static str,
    /// Its keys, in the order in which they are best written.
    pub keys: &'static [Key],
}

/// Something that can be read from a TOML value.
pub trait Kind: Sized {
    /// What it looks like, for messages and editors.
    const SHAPE: Shape;

    /// Reads it, or reports why it cannot be read.
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self>;
}

/// Walks one file and gathers what is wrong with it.
pub struct Reader<'a> {
    /// Index of the file, for [`Loc`]s.
    pub file: u16,
    /// Its text.
    pub text: &'a str,
    /// What was found so far.
    pub findings: Vec<Finding>,
    /// The key that is being read, for messages.
    key: &'a str,
    /// The name that the author gave to the table that is being read.
    name: String,
}

impl<'a> Reader<'a> {
    /// A reader at the beginning of a file.
    pub fn new(file: u16, text: &'a str) -> Self {
        Self { file, text, findings: Vec::new(), key: "", name: String::new() }
    }

    /// The place of a byte range in this file.
    pub fn loc(&self, range: std::ops::Range<usize>) -> Loc {
        let cut = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Loc { file: self.file, start: cut(range.start), end: cut(range.end) }
    }

    /// The key that is being read.
    pub fn key(&self) -> &str {
        self.key
    }

    /// Says which of the tables with names of the author's choice is being read.
    pub fn enter(&mut self, name: &str) {
        self.name.clear();
        self.name.push_str(name);
    }

    /// A table as messages call it: `[stream.orders.poll]`.
    fn title(&self, table: &Table) -> String {
        table.title.replace("NAME", &self.name)
    }

    /// Notes a problem.
    pub fn report(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// "`timeout` expects a duration, found an integer".
    pub fn wrong_type(&mut self, node: &Node<'_>, shape: &Shape) {
        let help = type_help(node.get_ref(), shape);
        let message =
            format!("`{}` cannot be {}", self.key, with_article(node.get_ref().type_str()));
        let label = format!("expected {}", shape.words());
        let at = self.loc(node.span());
        self.report(Finding::new(codes::WRONG_TYPE, at, message, label).maybe_help(help));
    }

    /// The table that `node` is, after a look at its keys: unknown and missing ones are reported.
    pub fn open<'n, 'i>(
        &mut self,
        node: &'n Node<'i>,
        table: &'static Table,
    ) -> Option<&'n DeTable<'i>> {
        let DeValue::Table(entries) = node.get_ref() else {
            self.wrong_type(node, &Shape::Table(table));
            return None;
        };
        let kind = entries.get("type").and_then(|kind| kind.get_ref().as_str());
        for (key, _) in entries {
            let name: &str = key.get_ref();
            if !table.keys.iter().any(|known| known.name == name) {
                let at = self.loc(key.span());
                self.unknown_key(at, name, table, kind);
            }
        }
        let missing: Vec<&Key> = table
            .keys
            .iter()
            .filter(|key| key.required && !entries.contains_key(key.name))
            .collect();
        if !missing.is_empty() {
            self.missing_keys(node, table, &missing);
        }
        Some(entries)
    }

    fn unknown_key(&mut self, at: Loc, name: &str, table: &'static Table, kind: Option<&str>) {
        // Of a table that has a type, only that type's keys are of use.
        let of_type = kind.and_then(|kind| hints::keys_of_type(table, kind));
        let is_of_type = |key: &&Key| of_type.as_ref().is_none_or(|keys| keys.contains(&key.name));
        let names = || table.keys.iter().filter(is_of_type).map(|key| key.name);
        let near = nearest(name, names());
        let label = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => one_of(names()),
        };
        let near = near.and_then(|near| table.keys.iter().find(|key| key.name == near));
        let help = match near {
            Some(near) => Some(format!("`{}`: {}", near.name, sentence(near.doc))),
            None => hints::key(name, table),
        };
        let message = format!("unknown key `{}` in {}", name.escape_debug(), self.title(table));
        self.report(Finding::new(codes::UNKNOWN_KEY, at, message, label).maybe_help(help));
    }

    fn missing_keys(&mut self, node: &Node<'_>, table: &Table, missing: &[&Key]) {
        let names = list_of(missing.iter().map(|key| key.name));
        let noun = if missing.len() == 1 { "key" } else { "keys" };
        let mut at = self.loc(node.span());
        if at.end == 0 {
            at.end = self.text.chars().next().map_or(0, |first| first.len_utf8() as u32);
        }
        let help = missing
            .iter()
            .map(|key| {
                format!("add `{} = ...` ({}): {}", key.name, key.shape.words(), sentence(key.doc))
            })
            .collect::<Vec<_>>()
            .join("\n");
        self.report(
            Finding::new(
                codes::MISSING_KEY,
                at,
                format!("missing {noun} {names} in {}", self.title(table)),
                format!("{noun} {names} expected here"),
            )
            .help(help),
        );
    }

    /// Reads one key of an opened table.
    pub fn take<T: Kind>(&mut self, entries: &DeTable<'_>, name: &'static str) -> Given<T> {
        let Some((key, node)) = entries.get_key_value(name) else { return Given::Absent };
        let before = std::mem::replace(&mut self.key, name);
        let key = self.loc(key.span());
        let at = self.loc(node.span());
        let given = match T::read(node, self) {
            Some(value) => Given::Value(At { value, at, key }),
            None => Given::Invalid(key),
        };
        self.key = before;
        given
    }
}

/// Names in backticks with commas: "`a`, `b`, `c`".
pub fn list_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut out = String::new();
    for name in names {
        if !out.is_empty() {
            out.push_str(", ");
        }
        out.push('`');
        out.push_str(name);
        out.push('`');
    }
    out
}

/// "expected one of `a`, `b`", or "expected `a`" where there is no choice.
pub fn one_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let list = list_of(names);
    if list.contains(", ") { format!("expected one of {list}") } else { format!("expected {list}") }
}

/// "a string", "an integer".
pub fn with_article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}

/// A doc line as part of a sentence: without its full stop, and not beginning one.
pub fn sentence(doc: &str) -> String {
    let doc = doc.trim().trim_end_matches('.');
    let mut chars = doc.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second))
            if first.is_ascii_uppercase() && !second.is_ascii_uppercase() =>
        {
            format!("{}{}", first.to_ascii_lowercase(), &doc[1..])
        }
        _ => doc.to_owned(),
    }
}

/// What the author may have meant by a value of another type.
fn type_help(value: &DeValue<'_>, shape: &Shape) -> Option<String> {
    match (value, shape) {
        (DeValue::Integer(number), Shape::Duration) => {
            Some(format!("a duration has a unit: write \"{number}s\" for seconds"))
        }
        (DeValue::Integer(number), Shape::Size) => {
            Some(format!("a size has a unit: write \"{number}B\" for bytes"))
        }
        (DeValue::Integer(number), Shape::Rate) => {
            Some(format!("a rate has a time: write \"{number}/s\" for so many a second"))
        }
        (
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_),
            Shape::Expression | Shape::Plain | Shape::Prose,
        ) => Some("put it in quotes".to_owned()),
        (DeValue::String(text), Shape::Integer { .. }) if text.parse::<i64>().is_ok() => {
            Some(format!("numbers stand without quotes: {text}"))
        }
        (DeValue::String(text), Shape::Boolean) if *text == "true" || *text == "false" => {
            Some(format!("booleans stand without quotes: {text}"))
        }
        (DeValue::String(text), Shape::List(_)) => {
            Some(format!("a list stands in brackets: [\"{}\"]", text.escape_default()))
        }
        _ => None,
    }
}

/// Declares a table: the struct, its key table and its reader.
///
/// A key reads `/// doc` then `field "key": Type`, then optionally `required` or `= "default"`.
macro_rules! table {
    (
        $(#[doc = $doc:literal])+
        pub struct $name:ident $title:literal {
            $($(#[doc = $key_doc:literal])+
            $field:ident $key:literal : $type:ty $(= $default:literal)? $(, $required:ident)?;)*
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, Default)]
        pub struct $name {
            /// Where the table stands.
            pub at: $crate::definition::table::Loc,
            $($(#[doc = $key_doc])+ pub $field: $crate::definition::table::Given<$type>,)*
        }

        impl $name {
            /// Its keys.
            pub const TABLE: $crate::definition::table::Table = $crate::definition::table::Table {
                title: $title,
                doc: concat!($($doc),+),
                keys: &[$($crate::definition::table::Key {
                    name: $key,
                    doc: concat!($($key_doc),+),
                    shape: <$type as $crate::definition::table::Kind>::SHAPE,
                    required: $crate::definition::table::table!(@required $($required)?),
                    default: $crate::definition::table::table!(@default $($default)?),
                },)*],
            };

            /// The keys that are there, with their places.
            #[allow(dead_code)] // Only tables whose type chooses among their keys need it.
            pub fn given(&self) -> Vec<(&'static str, $crate::definition::table::Loc)> {
                let mut given = Vec::new();
                $(given.extend(self.$field.key().map(|at| ($key, at)));)*
                given
            }
        }

        impl $crate::definition::table::Kind for $name {
            const SHAPE: $crate::definition::table::Shape =
                $crate::definition::table::Shape::Table(&Self::TABLE);

            fn read(
                node: &$crate::definition::table::Node<'_>,
                reader: &mut $crate::definition::table::Reader<'_>,
            ) -> Option<Self> {
                let entries = reader.open(node, &Self::TABLE)?;
                Some(Self {
                    at: reader.loc(node.span()),
                    $($field: reader.take(entries, $key),)*
                })
            }
        }
    };
    (@required) => { false };
    (@required required) => { true };
    (@default) => { None };
    (@default $default:literal) => { Some($default) };
}
pub(crate) use table;

/// Declares the words a key takes. Words after `later` exist in the language and are not
/// available yet.
macro_rules! choice {
    (
        $(#[doc = $doc:literal])+
        pub enum $name:ident {
            $($(#[doc = $word_doc:literal])+ $variant:ident $word:literal,)+
        }
        $(later [$($later:literal),+])?
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[doc = $word_doc])+ $variant,)+
        }

        impl $name {
            /// As written.
            #[allow(dead_code)] // Only some messages repeat the word.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// What a word is.
            #[allow(dead_code)] // Only some messages depend on one.
            pub fn of_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl $crate::definition::table::Kind for $name {
            const SHAPE: $crate::definition::table::Shape =
                $crate::definition::table::Shape::Choice(&[
                    $($crate::definition::table::Word {
                        word: $word,
                        doc: concat!($($word_doc),+),
                    },)+
                ]);

            fn read(
                node: &$crate::definition::table::Node<'_>,
                reader: &mut $crate::definition::table::Reader<'_>,
            ) -> Option<Self> {
                let word = $crate::definition::kinds::word(
                    node, reader, &Self::SHAPE, &[$($word),+], &[$($($later),+)?])?;
                match word {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}
pub(crate) use choice;
