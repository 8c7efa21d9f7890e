//! The filters of the language, one library for paths and templates.
//!
//! A filter is compiled once, its arguments checked, and applied to borrowed values. `default` and
//! `optional` say what becomes of what is missing; every other filter lets it pass, so that
//! `$.a | decimal | default('0')` reads as it works. A null goes straight to the next `default`,
//! `optional` or `filled` where one follows, and is a value like any other where none does.
//!
//! | filter | takes | gives |
//! |---|---|---|
//! | `default(x)`, `d(x)` | anything | `x` for what is missing or null |
//! | `optional` | anything | leaves the entry out where it is missing; null stays null |
//! | `filled` | anything | itself, unless it is null, a text of blanks, or an empty array or object: that is missing |
//! | `string` | text, number, boolean | a text |
//! | `integer` | number or text without a fraction | an integer of 64 bits |
//! | `number` | number, or text that looks like one | a JSON number |
//! | `decimal(scale)` | digits, as a text or a number | a text with all its digits, or rounded half away from zero and padded to `scale` |
//! | `boolean` | true/false, yes/no, on/off, 1/0 | a boolean |
//! | `timestamp(in..., tz=)` | RFC 3339, RFC 2822, a number (seconds; milliseconds from 10^11), or the formats given: `rfc3339 rfc2822 epoch_s epoch_ms` or like `%Y-%m-%d` | RFC 3339 in UTC |
//! | `date(in..., tz=)` | the same | `2026-11-20`: as written, or in `tz` |
//! | `strftime(out, tz=)` | a time | printed, in `tz` or UTC |
//! | `json` | anything | its JSON as a text |
//! | `lookup('name', else=)` | text, number, boolean | what `[lookup.name]` lists, or `else` |
//! | `apply('name')` | object, or array of them | mapped by `[map.name]` |
//! | `omit('a', 'b_*')`, `pick(...)` | object, or array of them | without, or with only, the members of these names |
//! | `entries` | object | `[{"key": ..., "value": ...}]` |
//! | `lower_keys` | object, or array of them | keys in lower case |
//! | `zip_object` | rows, the first naming the columns | objects |
//! | `zip_object('a', 'b')`, `zip_object(names)` | a row, or rows | an object, or objects |
//! | `lower`, `upper`, `trim(chars)` | text | a text |
//! | `split(separator)` | text | its parts; its words without a separator |
//! | `join(separator)` | array of texts, numbers, booleans | a text |
//! | `first`, `last` | array | its item; missing where there is none |
//! | `sum` | array of numbers or digits | exact: a number, or a text of digits once one of them is a text |
//! | `sha256` | text, or anything as JSON | 64 hex digits |
//! | `base64` | text, or anything as JSON | RFC 4648, padded |
//! | `urlencode` | text, number, boolean; object | percent-encoded; `a=1&b=2` |

mod convert;
mod decimal;
mod shape;
mod text;
mod time;

use std::{fmt, sync::Arc};

use serde_json::Value;

use super::{
    Library, Lookup, Tree,
    env::Scope,
    fault::{Fault, kind},
    flow::Flow,
    site::ExprProblemKind,
};

use shape::Pattern;
pub(crate) use text::sha256_hex;
use time::{Strftime, TimeInput};

/// A filter with its arguments.
#[derive(Clone)]
pub(super) enum Filter {
    Text,
    Integer,
    Number,
    Decimal { scale: Option<u32> },
    Boolean,
    Timestamp(Box<TimeInput>),
    Date(Box<TimeInput>),
    Strftime(Box<Strftime>),
    Json,
    Lookup { table: Arc<Lookup>, otherwise: Option<Box<Value>> },
    Apply(Arc<Tree>),
    Default(Box<Value>),
    Optional,
    Filled,
    Omit(Box<[Pattern]>),
    Pick(Box<[Pattern]>),
    Entries,
    LowerKeys,
    ZipObject(Box<[String]>),
    Lower,
    Upper,
    Trim(Option<Box<str>>),
    Split(Option<Box<str>>),
    Join(Box<str>),
    First,
    Last,
    Sum,
    Sha256,
    Base64,
    Urlencode,
}

/// Every name, for checks and suggestions.
pub(super) const NAMES: &[&str] = &[
    "string",
    "integer",
    "number",
    "decimal",
    "boolean",
    "timestamp",
    "date",
    "strftime",
    "json",
    "lookup",
    "apply",
    "default",
    "d",
    "optional",
    "filled",
    "omit",
    "pick",
    "entries",
    "lower_keys",
    "zip_object",
    "lower",
    "upper",
    "trim",
    "split",
    "join",
    "first",
    "last",
    "sum",
    "sha256",
    "base64",
    "urlencode",
];

/// Constant arguments as they were written.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    pub positional: Vec<Value>,
    pub named: Vec<(String, Value)>,
}

/// Why a filter is refused.
#[derive(Debug)]
pub(super) struct Refused {
    pub kind: ExprProblemKind,
    pub message: String,
    /// The table's names, where a reference misses.
    pub known: Vec<String>,
    /// The word that may be misspelled.
    pub word: String,
}

impl Refused {
    fn arguments(message: impl Into<String>) -> Self {
        Self {
            kind: ExprProblemKind::Filter,
            message: message.into(),
            known: Vec::new(),
            word: String::new(),
        }
    }

    fn reference<'a>(table: &str, name: &str, known: impl Iterator<Item = &'a String>) -> Self {
        Self {
            kind: ExprProblemKind::Reference,
            message: format!("there is no `[{table}.{name}]`"),
            known: known.cloned().collect(),
            word: name.to_owned(),
        }
    }
}

impl Arguments {
    /// The next positional argument.
    fn next(&mut self) -> Option<Value> {
        (!self.positional.is_empty()).then(|| self.positional.remove(0))
    }

    fn next_text(&mut self, what: &str) -> Result<Option<String>, Refused> {
        match self.next() {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => {
                Err(Refused::arguments(format!("{what} is a text, not {}", kind(&other))))
            }
        }
    }

    fn required_text(&mut self, what: &str) -> Result<String, Refused> {
        self.next_text(what)?.ok_or_else(|| Refused::arguments(format!("{what} is missing")))
    }

    fn texts(&mut self, what: &str) -> Result<Vec<String>, Refused> {
        std::iter::from_fn(|| self.next_text(what).transpose()).collect()
    }

    /// Names one by one, or a list of them.
    fn names(&mut self) -> Result<Vec<String>, Refused> {
        if let [Value::Array(_)] = self.positional.as_slice() {
            let listed = self.next().and_then(|list| list.as_array().cloned());
            self.positional = listed.unwrap_or_default();
        }
        self.texts("a column's name")
    }

    fn named(&mut self, name: &str) -> Option<Value> {
        let at = self.named.iter().position(|(known, _)| known == name)?;
        Some(self.named.remove(at).1)
    }

    fn named_text(&mut self, name: &str) -> Result<Option<String>, Refused> {
        match self.named(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => {
                Err(Refused::arguments(format!("`{name}` is a text, not {}", kind(&other))))
            }
        }
    }

    fn finish(self, filter: &str) -> Result<(), Refused> {
        if let Some((name, _)) = self.named.first() {
            return Err(Refused::arguments(format!("`{filter}` takes no argument `{name}`")));
        }
        if self.positional.is_empty() {
            return Ok(());
        }
        Err(Refused::arguments(format!("`{filter}` got too many arguments")))
    }
}

impl Filter {
    /// Compiles a filter of ours; `None` where `name` is not one.
    pub fn compile(
        name: &str,
        mut arguments: Arguments,
        library: &Library,
    ) -> Option<Result<Self, Refused>> {
        if !NAMES.contains(&name) {
            return None;
        }
        let compiled = Self::with_arguments(name, &mut arguments, library)
            .and_then(|filter| arguments.finish(name).map(|()| filter));
        Some(compiled)
    }

    fn with_arguments(
        name: &str,
        arguments: &mut Arguments,
        library: &Library,
    ) -> Result<Self, Refused> {
        Ok(match name {
            "string" => Self::Text,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "decimal" => Self::Decimal { scale: decimal::scale_of(arguments)? },
            "boolean" => Self::Boolean,
            "timestamp" => Self::Timestamp(Box::new(TimeInput::compile(arguments)?)),
            "date" => Self::Date(Box::new(TimeInput::compile(arguments)?)),
            "strftime" => Self::Strftime(Box::new(Strftime::compile(arguments)?)),
            "json" => Self::Json,
            "lookup" => Self::lookup(arguments, library)?,
            "apply" => {
                let name = arguments.required_text("the map's name")?;
                let tree = library.maps.get(&name);
                let tree =
                    tree.ok_or_else(|| Refused::reference("map", &name, library.maps.keys()))?;
                Self::Apply(Arc::clone(tree))
            }
            "default" | "d" => Self::Default(Box::new(
                arguments.next().ok_or_else(|| Refused::arguments("`default` needs a value"))?,
            )),
            "optional" => Self::Optional,
            "filled" => Self::Filled,
            "omit" => Self::Omit(Pattern::several(name, arguments)?),
            "pick" => Self::Pick(Pattern::several(name, arguments)?),
            "entries" => Self::Entries,
            "lower_keys" => Self::LowerKeys,
            "zip_object" => Self::ZipObject(arguments.names()?.into()),
            "lower" => Self::Lower,
            "upper" => Self::Upper,
            "trim" => Self::Trim(arguments.next_text("what is trimmed")?.map(Into::into)),
            "split" => Self::Split(arguments.next_text("the separator")?.map(Into::into)),
            "join" => Self::Join(arguments.next_text("the separator")?.unwrap_or_default().into()),
            "first" => Self::First,
            "last" => Self::Last,
            "sum" => Self::Sum,
            "sha256" => Self::Sha256,
            "base64" => Self::Base64,
            _ => Self::Urlencode,
        })
    }

    fn lookup(arguments: &mut Arguments, library: &Library) -> Result<Self, Refused> {
        let name = arguments.required_text("the lookup's name")?;
        let table = library.lookups.get(&name);
        let table =
            table.ok_or_else(|| Refused::reference("lookup", &name, library.lookups.keys()))?;
        let otherwise = arguments.named("else").map(Box::new);
        Ok(Self::Lookup { table: Arc::clone(table), otherwise })
    }

    /// Whether it decides what becomes of what is missing.
    pub fn handles_missing(&self) -> bool {
        matches!(self, Self::Default(_) | Self::Optional)
    }

    /// Whether null is for it to judge, not for the next `default` or `optional`.
    pub fn judges_null(&self) -> bool {
        self.handles_missing() || matches!(self, Self::Filled)
    }

    /// Applies it to something that is there. (`default` and `optional` are the pipeline's.)
    pub fn apply<'a>(&self, input: Flow<'a>, scope: &Scope<'_>) -> Result<Flow<'a>, Fault> {
        Ok(match self {
            Self::Default(_) | Self::Optional => input,
            Self::Filled => shape::filled(input),
            Self::Apply(tree) => shape::apply(tree, &input, scope)?,
            Self::First => shape::end_of(input, true)?,
            Self::Last => shape::end_of(input, false)?,
            Self::Join(separator) => text::join(&input, separator)?,
            Self::Sum => decimal::sum(&input)?,
            Self::Text => return convert::string(input),
            Self::Integer => convert::integer(input)?,
            Self::Number => convert::number(input)?,
            Self::Decimal { scale } => decimal::decimal(&input, *scale)?.into(),
            Self::Boolean => convert::boolean(&input)?.into(),
            Self::Json => text::json(&input).into(),
            Self::Lookup { table, otherwise } => {
                return convert::lookup(&input, table, otherwise.as_deref());
            }
            Self::Omit(patterns) => shape::keep(&input, |key| !Pattern::any(patterns, key))?,
            Self::Pick(patterns) => shape::keep(&input, |key| Pattern::any(patterns, key))?,
            Self::Entries => shape::entries(&input)?,
            Self::LowerKeys => shape::lower_keys(&input)?,
            Self::ZipObject(names) => shape::zip_object(&input, names)?,
            Self::Lower => text::of(&input)?.to_lowercase().into(),
            Self::Upper => text::of(&input)?.to_uppercase().into(),
            Self::Trim(characters) => text::trim(&input, characters.as_deref())?.into(),
            Self::Split(separator) => text::split(&input, separator.as_deref())?.into(),
            Self::Sha256 => text::sha256(&input).into(),
            Self::Base64 => text::base64(&input).into(),
            Self::Urlencode => text::urlencode(&input)?.into(),
            Self::Timestamp(_) | Self::Date(_) | Self::Strftime(_) => self.apply_to_time(input)?,
        })
    }

    fn apply_to_time<'a>(&self, input: Flow<'a>) -> Result<Flow<'a>, Fault> {
        let value = input.into_value().unwrap_or_default();
        Ok(match self {
            Self::Timestamp(input) => time::timestamp(&value, input)?.into(),
            Self::Date(input) => time::date(&value, input)?.into(),
            Self::Strftime(output) => output.print(&value)?.into(),
            _ => value.into(),
        })
    }
}

impl fmt::Debug for Filter {
    /// The name will do: a named map may be large.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filter")
    }
}
