//! What an expression gives, as far as its text tells: the type and format that a consumer gets, and
//! whether it may be missing.

use serde_json::Value;

use crate::map::outline::{Call, Chained, Outline};

/// What a field is, for whoever reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// As the source sends it: nobody knows.
    Unknown,
    /// A constant.
    Constant(Value),
    Text,
    /// A text of digits; with so many after the point.
    Digits(Option<String>),
    Integer,
    Number,
    Boolean,
    /// RFC 3339, UTC.
    Time,
    /// `2026-11-20`.
    Date,
    /// Printed by `strftime`.
    Printed(String),
    /// What `[lookup.NAME]` lists.
    Listed(String),
    /// What `[map.NAME]` makes, of each item of a list where there is one.
    Mapped(String),
    List,
    Object,
    /// What a filter of that name makes.
    Made(String),
}

impl Kind {
    /// What it is called in a sentence.
    pub fn words(&self) -> String {
        match self {
            Self::Unknown => "what the source sends".to_owned(),
            Self::Constant(value) => format!("always {value}"),
            Self::Text => "a text".to_owned(),
            Self::Digits(None) => "a string of digits".to_owned(),
            Self::Digits(Some(scale)) => format!("a string of digits, {scale} after the point"),
            Self::Integer => "a whole number".to_owned(),
            Self::Number => "a number".to_owned(),
            Self::Boolean => "true or false".to_owned(),
            Self::Time => "a time, RFC 3339 in UTC".to_owned(),
            Self::Date => "a date".to_owned(),
            Self::Printed(arguments) => format!("a time printed as {arguments}"),
            Self::Listed(name) => format!("a value of [lookup.{name}]"),
            Self::Mapped(name) => format!("made by [map.{name}]"),
            Self::List => "a list".to_owned(),
            Self::Object => "an object".to_owned(),
            Self::Made(filter) => format!("what `{filter}` makes"),
        }
    }
}

/// What becomes of a record that does not have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// It ends as a dead letter.
    Fails,
    /// The field is left out.
    LeftOut,
    /// This stands in, as written.
    Default(String),
}

/// What an expression gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Yield {
    pub kind: Kind,
    pub missing: Missing,
}

impl Yield {
    pub fn of(outline: &Outline) -> Self {
        match outline {
            Outline::Text(text) => Self {
                kind: Kind::Constant(Value::String(text.clone())),
                missing: Missing::LeftOut,
            },
            Outline::Mixed(_) | Outline::Program(_) => {
                Self { kind: Kind::Text, missing: Missing::Fails }
            }
            Outline::Value(value) => {
                Self { kind: kind_of(value), missing: missing_of(&value.filters) }
            }
        }
    }
}

fn missing_of(filters: &[Call]) -> Missing {
    let says = filters.iter().find(|call| matches!(call.name.as_str(), "default" | "optional"));
    match says {
        Some(call) if call.name == "default" => Missing::Default(call.arguments.clone()),
        Some(_) => Missing::LeftOut,
        None => Missing::Fails,
    }
}

/// The filters that convert, without those that say what becomes of what is missing.
pub(super) fn conversions(value: &Chained) -> Vec<&Call> {
    let handles = |call: &&Call| !matches!(call.name.as_str(), "default" | "optional");
    value.filters.iter().filter(handles).collect()
}

fn kind_of(value: &Chained) -> Kind {
    let mut kind = if is_list(&value.origin) { Kind::List } else { Kind::Unknown };
    for call in conversions(value) {
        kind = after(call, kind);
    }
    kind
}

/// Whether a path gives an array of what it finds.
fn is_list(origin: &str) -> bool {
    origin.starts_with('$')
        && (origin.contains("..") || origin.contains('*') || origin.contains("[?"))
}

fn after(call: &Call, before: Kind) -> Kind {
    let arguments = call.arguments.clone();
    match call.name.as_str() {
        "decimal" => Kind::Digits((!arguments.is_empty()).then_some(arguments)),
        "string" | "json" | "lower" | "upper" | "trim" | "join" | "sha256" | "base64"
        | "urlencode" => Kind::Text,
        "integer" => Kind::Integer,
        "number" | "sum" | "length" | "count" => Kind::Number,
        "boolean" => Kind::Boolean,
        "timestamp" => Kind::Time,
        "date" => Kind::Date,
        "strftime" => Kind::Printed(arguments),
        "lookup" => Kind::Listed(call.text().unwrap_or_default().to_owned()),
        "apply" => Kind::Mapped(call.text().unwrap_or_default().to_owned()),
        "split" | "entries" => Kind::List,
        "omit" | "pick" | "lower_keys" if before == Kind::List => Kind::List,
        "omit" | "pick" | "lower_keys" => Kind::Object,
        "first" | "last" => Kind::Unknown,
        "filled" => before,
        other => Kind::Made(other.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_conversion_tells() {
        for (text, words, missing) in [
            ("$.a", "what the source sends", Missing::Fails),
            ("$.a[*]", "a list", Missing::Fails),
            ("$.a | decimal", "a string of digits", Missing::Fails),
            (
                "$.a | decimal(2) | default('0')",
                "a string of digits, 2 after the point",
                Missing::Default("'0'".to_owned()),
            ),
            ("$.a | optional", "what the source sends", Missing::LeftOut),
            ("{{ record.a | timestamp }}", "a time, RFC 3339 in UTC", Missing::Fails),
            ("x:{{ record.a }}", "a text", Missing::Fails),
            ("$.a | lookup('b')", "a value of [lookup.b]", Missing::Fails),
            ("$.a[*] | apply('b')", "made by [map.b]", Missing::Fails),
            ("EUR", "always \"EUR\"", Missing::LeftOut),
        ] {
            let found = Yield::of(&Outline::of(text));
            assert_eq!((found.kind.words().as_str(), found.missing), (words, missing), "{text}");
        }
    }
}
