//! An expression's text in its parts, for people and tools: where a value comes from and what is
//! done to it. Text only; nothing is looked up and nothing is refused, since what is taken apart has
//! compiled.
//!
//! Two texts that differ in blanks or in the kind of their quotes have one outline.

use super::{
    lex::{self, Piece},
    parts::{Head, Parts},
};

/// A text of the connector language in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outline {
    /// It is itself.
    Text(String),
    /// One value: a path, or a template that is one expression. It keeps its JSON type.
    Value(Chained),
    /// Texts and values in turn; gives a text.
    Mixed(Vec<Part>),
    /// A template with statements, as it is written; gives a text.
    Program(String),
}

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Stands as it is.
    Text(String),
    /// Stands between `{{` and `}}`.
    Value(Chained),
}

/// A value and the filters that it passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chained {
    /// `$.customer.email`, `record.id`, or any expression.
    pub origin: String,
    /// In order.
    pub filters: Vec<Call>,
}

/// A filter as it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its name; `d` is `default`.
    pub name: String,
    /// What stands between its parentheses; empty where there are none.
    pub arguments: String,
}

impl Call {
    /// The arguments' text without its quotes, where it is one quoted text: the map of `apply`.
    pub fn text(&self) -> Option<&str> {
        self.arguments.split(',').next()?.strip_prefix('\'')?.strip_suffix('\'')
    }

    /// As it would be written: `decimal(2)`.
    pub fn written(&self) -> String {
        if self.arguments.is_empty() {
            self.name.clone()
        } else {
            format!("{}({})", self.name, self.arguments)
        }
    }
}

impl Outline {
    /// Takes a text apart.
    pub fn of(text: &str) -> Self {
        let parts = Parts::of(text);
        let origin = match &parts.head {
            Head::Text(text) => return Self::Text(text.clone()),
            Head::Path { text, .. } | Head::Expression(text) => tidy(text),
            Head::Template(template) => return Self::of_template(template),
        };
        let call = |filter: &super::FilterPart| call(&filter.text);
        Self::Value(Chained { origin, filters: parts.filters.iter().map(call).collect() })
    }

    fn of_template(text: &str) -> Self {
        let Ok(Some(pieces)) = lex::pieces(text) else { return Self::Program(text.to_owned()) };
        let part = |piece: Piece<'_>| match piece {
            Piece::Text(literal) => Part::Text(literal.to_owned()),
            Piece::Expression(range) => {
                match Self::of(&format!("{{{{{}}}}}", &text[range.clone()])) {
                    Self::Value(value) => Part::Value(value),
                    _ => Part::Value(Chained { origin: tidy(&text[range]), filters: Vec::new() }),
                }
            }
        };
        let parts: Vec<Part> = pieces.into_iter().map(part).collect();
        match parts.as_slice() {
            [] => Self::Text(String::new()),
            [Part::Text(only)] => Self::Text(only.clone()),
            _ => Self::Mixed(parts),
        }
    }

    /// Every value in it.
    pub fn values(&self) -> impl Iterator<Item = &Chained> {
        let (one, many): (Option<&Chained>, &[Part]) = match self {
            Self::Value(value) => (Some(value), &[]),
            Self::Mixed(parts) => (None, parts),
            Self::Text(_) | Self::Program(_) => (None, &[]),
        };
        one.into_iter().chain(many.iter().filter_map(|part| match part {
            Part::Value(value) => Some(value),
            Part::Text(_) => None,
        }))
    }
}

fn call(text: &str) -> Call {
    let text = tidy(text);
    let (name, arguments) = match text.split_once('(') {
        Some((name, rest)) => (name, rest.strip_suffix(')').unwrap_or(rest)),
        None => (text.as_str(), ""),
    };
    let name = if name == "d" { "default" } else { name };
    Call { name: name.to_owned(), arguments: arguments.to_owned() }
}

/// Without the blanks that mean nothing, and with single quotes where they will do.
fn tidy(text: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut out = String::with_capacity(text.len());
    let mut chars = text.trim().char_indices().peekable();
    let text = text.trim();
    while let Some((at, c)) = chars.next() {
        if c == '\'' || c == '"' {
            let quoted = quoted(&text[at..]);
            let inner = quoted.get(1..quoted.len().max(2) - 1).unwrap_or_default();
            if c == '"' && !inner.contains(['\'', '\\']) {
                out.push('\'');
                out.push_str(inner);
                out.push('\'');
            } else {
                out.push_str(quoted);
            }
            while chars.peek().is_some_and(|(next, _)| *next < at + quoted.len()) {
                chars.next();
            }
        } else if c.is_whitespace() {
            let next = text[at..].chars().find(|c| !c.is_whitespace());
            if out.ends_with(is_word) && next.is_some_and(is_word) {
                out.push(' ');
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// The quoted text that `text` begins with, quotes included.
fn quoted(text: &str) -> &str {
    let mut chars = text.char_indices();
    let Some((_, quote)) = chars.next() else { return text };
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            c if c == quote => return &text[..at + c.len_utf8()],
            _ => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> (String, Vec<String>) {
        match Outline::of(text) {
            Outline::Value(value) => {
                (value.origin, value.filters.iter().map(Call::written).collect())
            }
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_value_and_its_filters() {
        for (text, origin, filters) in [
            ("$.a.b", "$.a.b", vec![]),
            ("$.a | decimal( 2 )|d(\"0\")", "$.a", vec!["decimal(2)", "default('0')"]),
            ("$[\"a b\"][ 0 ] | x", "$['a b'][0]", vec!["x"]),
            ("{{ record.id|string }}", "record.id", vec!["string"]),
            ("{{ a  if b | x else c }}", "a if b|x else c", vec![]),
            ("{{ '|' ~ a }}", "'|'~a", vec![]),
            ("$.a | apply(\"line\")", "$.a", vec!["apply('line')"]),
        ] {
            let filters: Vec<String> = filters.into_iter().map(str::to_owned).collect();
            assert_eq!(value(text), (origin.to_owned(), filters), "{text}");
        }
        let applied = Outline::of("$.a | lookup('status', else=\"x\")");
        assert_eq!(applied.values().next().unwrap().filters[0].text(), Some("status"));
    }

    #[test]
    fn what_is_no_single_value() {
        assert_eq!(Outline::of("EUR"), Outline::Text("EUR".to_owned()));
        assert_eq!(Outline::of("shop:{{record.id}}"), Outline::of("shop:{{ record.id }}"));
        assert_ne!(Outline::of("shop:{{record.id}}"), Outline::of("store:{{ record.id }}"));
        assert!(matches!(Outline::of("{% if a %}b{% endif %}"), Outline::Program(_)));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

        #[test]
        fn no_text_is_too_odd(text in "[$ {}|'\"\\\\a-z.()%ä\\[\\]]{0,24}") {
            let _ = Outline::of(&text);
            let _ = Outline::of(&format!("${text}"));
            let _ = Outline::of(&format!("{{{{ {text} }}}}"));
        }
    }
}
