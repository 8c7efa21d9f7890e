//! The kinds of single value that keys take, each with its reader and its good messages.

use std::time::Duration;

use toml::de::DeValue;

use super::{
    hints,
    table::{Finding, Kind, Loc, Node, Reader, Shape, one_of},
    units::{self, NotAQuantity, Rate},
};
use crate::diagnostic::{Code, codes, nearest};

/// Text for people; anything goes.
#[derive(Clone, Debug)]
pub struct Prose(pub String);

impl Kind for Prose {
    const SHAPE: Shape = Shape::Prose;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        string(node, reader, &Self::SHAPE).map(|text| Self(text.to_owned()))
    }
}

/// Text that is taken as it is: not empty, and neither a path nor a template.
#[derive(Clone, Debug)]
pub struct Plain(pub String);

impl Kind for Plain {
    const SHAPE: Shape = Shape::Plain;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = string(node, reader, &Self::SHAPE)?;
        let at = reader.loc(node.span());
        if text.contains("{{") || text.contains("{%") {
            reader.report(
                Finding::new(
                    codes::NO_EXPRESSION,
                    at,
                    format!("`{}` takes no template", reader.key()),
                    "this is taken as it is written",
                )
                .help("write the value itself"),
            );
            return None;
        }
        if text.is_empty() {
            let message = format!("`{}` is empty", reader.key());
            reader.report(Finding::new(codes::OUT_OF_RANGE, at, message, "expected some text"));
            return None;
        }
        Some(Self(text.to_owned()))
    }
}

/// One of the three kinds of string, not yet compiled.
#[derive(Clone, Debug)]
pub struct Expression {
    /// The string's value.
    pub text: String,
    /// Byte in the file where the value's first byte stands, if the value is written there as it
    /// is (no escapes): then a range in the text is a range in the file.
    pub verbatim: Option<u32>,
}

impl Kind for Expression {
    const SHAPE: Shape = Shape::Expression;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        string(node, reader, &Self::SHAPE).map(|text| expression(text, node, reader))
    }
}

pub(super) fn expression(text: &str, node: &Node<'_>, reader: &Reader<'_>) -> Expression {
    let span = node.span();
    let raw = reader.text.get(span.clone()).unwrap_or_default();
    let mut quotes = raw.len() - raw.trim_start_matches(['"', '\'']).len();
    quotes = if quotes >= 3 { 3 } else { 1 };
    let newline = raw.get(quotes..).map_or(0, |inner| match inner.as_bytes() {
        [b'\r', b'\n', ..] if quotes == 3 => 2,
        [b'\n', ..] if quotes == 3 => 1,
        _ => 0,
    });
    let begin = quotes + newline;
    let verbatim = raw.get(begin..begin + text.len()) == Some(text)
        && raw.len() == begin + text.len() + quotes;
    let verbatim = verbatim.then(|| u32::try_from(span.start + begin).unwrap_or(0));
    Expression { text: text.to_owned(), verbatim }
}

impl Kind for bool {
    const SHAPE: Shape = Shape::Boolean;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Boolean(value) => Some(*value),
            _ => mistyped(node, reader, &Self::SHAPE),
        }
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug)]
pub struct Int<const MIN: i64, const MAX: i64>(pub i64);

impl<const MIN: i64, const MAX: i64> Kind for Int<MIN, MAX> {
    const SHAPE: Shape = Shape::Integer { min: MIN, max: MAX };

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let DeValue::Integer(integer) = node.get_ref() else {
            return mistyped(node, reader, &Self::SHAPE);
        };
        let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
        if let Some(number) = number.filter(|number| (MIN..=MAX).contains(number)) {
            return Some(Self(number));
        }
        let label = if MAX == i64::MAX {
            format!("expected at least {MIN}")
        } else {
            format!("expected a number from {MIN} to {MAX}")
        };
        let message = format!("`{}` cannot be {integer}", reader.key());
        let at = reader.loc(node.span());
        reader.report(Finding::new(codes::OUT_OF_RANGE, at, message, label));
        None
    }
}

impl Kind for Duration {
    const SHAPE: Shape = Shape::Duration;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        quantity(node, reader, &Self::SHAPE, codes::BAD_DURATION, "a duration", units::duration)
    }
}

/// A duration that is not zero.
#[derive(Clone, Copy, Debug)]
pub struct Span(pub Duration);

impl Kind for Span {
    const SHAPE: Shape = Shape::Duration;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let duration = Duration::read(node, reader)?;
        if duration.is_zero() {
            let at = reader.loc(node.span());
            let message = format!("`{}` cannot be zero", reader.key());
            reader.report(Finding::new(
                codes::OUT_OF_RANGE,
                at,
                message,
                "expected more than zero",
            ));
            return None;
        }
        Some(Self(duration))
    }
}

/// Bytes.
#[derive(Clone, Copy, Debug)]
pub struct Size(pub u64);

impl Kind for Size {
    const SHAPE: Shape = Shape::Size;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        quantity(node, reader, &Self::SHAPE, codes::BAD_SIZE, "a size", units::size).map(Self)
    }
}

impl Kind for Rate {
    const SHAPE: Shape = Shape::Rate;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        quantity(node, reader, &Self::SHAPE, codes::BAD_RATE, "a rate", units::rate)
    }
}

/// From 0 to 1, written as a percentage.
#[derive(Clone, Copy, Debug)]
pub struct Ratio(pub f64);

impl Kind for Ratio {
    const SHAPE: Shape = Shape::Ratio;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        quantity(node, reader, &Self::SHAPE, codes::BAD_RATIO, "a ratio", units::ratio).map(Self)
    }
}

/// A percentile and its bound.
#[derive(Clone, Copy, Debug)]
pub struct Latency(pub f64, pub Duration);

impl Kind for Latency {
    const SHAPE: Shape = Shape::Plain;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let what = "a latency objective";
        quantity(node, reader, &Self::SHAPE, codes::BAD_LATENCY, what, units::latency)
            .map(|(quantile, bound)| Self(quantile, bound))
    }
}

/// A share of the interval, or a time.
#[derive(Clone, Copy, Debug)]
pub enum JitterDef {
    /// From 0 to 1.
    Ratio(f64),
    /// At most this long.
    Duration(Duration),
}

impl Kind for JitterDef {
    const SHAPE: Shape = Shape::Either(&Shape::Ratio, &Shape::Duration);

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::String(text) if text.ends_with('%') => {
                Ratio::read(node, reader).map(|ratio| Self::Ratio(ratio.0))
            }
            DeValue::String(_) => Duration::read(node, reader).map(Self::Duration),
            _ => mistyped(node, reader, &Self::SHAPE),
        }
    }
}

/// How long something is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// So long.
    For(Duration),
    /// Without end.
    Forever,
}

impl Kind for Lifetime {
    const SHAPE: Shape = Shape::WordOr("forever", &Shape::Duration);

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::String(text) if *text == "forever" => Some(Self::Forever),
            DeValue::String(_) => Span::read(node, reader).map(|span| Self::For(span.0)),
            _ => mistyped(node, reader, &Self::SHAPE),
        }
    }
}

/// How far back something reaches.
#[derive(Clone, Copy, Debug)]
pub enum Reach {
    /// So long.
    For(Duration),
    /// To the beginning.
    Full,
}

impl Kind for Reach {
    const SHAPE: Shape = Shape::WordOr("full", &Shape::Duration);

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::String(text) if *text == "full" => Some(Self::Full),
            DeValue::String(_) => Span::read(node, reader).map(|span| Self::For(span.0)),
            _ => mistyped(node, reader, &Self::SHAPE),
        }
    }
}

/// A size that something must not pass, or `never`.
#[derive(Clone, Copy, Debug)]
pub struct SizeOrNever(pub Option<u64>);

impl Kind for SizeOrNever {
    const SHAPE: Shape = Shape::WordOr("never", &Shape::Size);

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::String(text) if *text == "never" => Some(Self(None)),
            DeValue::String(_) => Size::read(node, reader).map(|size| Self(Some(size.0))),
            _ => mistyped(node, reader, &Self::SHAPE),
        }
    }
}

/// A calendar date, `2026-11-20`, written with or without quotes.
#[derive(Clone, Debug)]
pub struct Date(pub String);

impl Kind for Date {
    const SHAPE: Shape = Shape::Date;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = match node.get_ref() {
            DeValue::Datetime(date) => date.to_string(),
            DeValue::String(text) => text.to_string(),
            _ => return mistyped(node, reader, &Self::SHAPE),
        };
        if text.parse::<jiff::civil::Date>().is_ok() && text.len() == 10 {
            return Some(Self(text));
        }
        let message = format!("`{}` is not a date", reader.key());
        let at = reader.loc(node.span());
        reader.report(Finding::new(codes::BAD_DATE, at, message, "expected a date: 2026-11-20"));
        None
    }
}

/// A point in time as text: a string, or TOML's own date or time.
#[derive(Clone, Debug)]
pub struct Moment(pub String);

impl Kind for Moment {
    const SHAPE: Shape =
        Shape::Either(&Shape::Plain, &Shape::Integer { min: i64::MIN, max: i64::MAX });

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Datetime(time) => Some(Self(time.to_string())),
            DeValue::Integer(number) => Some(Self(number.to_string())),
            _ => Plain::read(node, reader).map(|plain| Self(plain.0)),
        }
    }
}

/// Three numbers with dots, and what semantic versioning allows after them.
#[derive(Clone, Debug)]
pub struct Version(pub String);

impl Kind for Version {
    const SHAPE: Shape = Shape::Plain;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = string(node, reader, &Self::SHAPE)?;
        let core = text.split(['-', '+']).next().unwrap_or_default();
        let parts: Vec<&str> = core.split('.').collect();
        let numbers = parts.iter().all(|part| {
            !part.is_empty() && part.len() < 10 && part.bytes().all(|byte| byte.is_ascii_digit())
        });
        if parts.len() == 3 && numbers {
            return Some(Self(text.to_owned()));
        }
        let help = (numbers && parts.len() < 3)
            .then(|| format!("write \"{core}{}\"", ".0".repeat(3 - parts.len())));
        let message = format!("`{}` is not a version", reader.key());
        let label = "expected three numbers with dots: \"2.1.0\"";
        let at = reader.loc(node.span());
        reader.report(Finding::new(codes::BAD_VERSION, at, message, label).maybe_help(help));
        None
    }
}

/// A name: letters, digits, `-`, `_` and `.`, at most 64 of them.
#[derive(Clone, Debug)]
pub struct Name(pub String);

impl Kind for Name {
    const SHAPE: Shape = Shape::Plain;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = string(node, reader, &Self::SHAPE)?;
        let at = reader.loc(node.span());
        check_name(text, at, reader).then(|| Self(text.to_owned()))
    }
}

pub(super) fn check_name(text: &str, at: Loc, reader: &mut Reader<'_>) -> bool {
    const MAX_BYTES: usize = 64;
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let good = text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(fine);
    if good && text.len() <= MAX_BYTES {
        return true;
    }
    let label = if text.len() > MAX_BYTES {
        format!("expected at most {MAX_BYTES} characters")
    } else {
        "expected letters, digits, `-`, `_` and `.`, a letter or digit first".to_owned()
    };
    let slug: String = text.chars().map(|c| if fine(c) { c } else { '-' }).collect();
    let slug = slug.trim_start_matches(['-', '_', '.']).trim_end_matches('-').to_owned();
    let help = (!slug.is_empty() && slug != text && slug.len() <= MAX_BYTES)
        .then(|| format!("`{slug}` would do"));
    let message = format!("`{}` is not a name", text.escape_debug());
    reader.report(Finding::new(codes::BAD_NAME, at, message, label).maybe_help(help));
    false
}

/// Reads one of `words`.
pub(crate) fn word(
    node: &Node<'_>,
    reader: &mut Reader<'_>,
    shape: &Shape,
    words: &[&'static str],
    later: &[&str],
) -> Option<&'static str> {
    let text = string(node, reader, shape)?;
    if let Some(word) = words.iter().find(|word| *word == &text) {
        return Some(word);
    }
    let help = if later.contains(&text) {
        Some(hints::word(text))
    } else {
        nearest(text, words.iter().copied()).map(|near| format!("did you mean \"{near}\"?"))
    };
    let message = format!("`{}` cannot be \"{}\"", reader.key(), text.escape_debug());
    let label = one_of(words.iter().copied());
    let at = reader.loc(node.span());
    reader.report(Finding::new(codes::UNKNOWN_WORD, at, message, label).maybe_help(help));
    None
}

fn string<'n>(node: &'n Node<'_>, reader: &mut Reader<'_>, shape: &Shape) -> Option<&'n str> {
    match node.get_ref() {
        DeValue::String(text) => Some(text),
        _ => mistyped(node, reader, shape),
    }
}

pub(super) fn mistyped<T>(node: &Node<'_>, reader: &mut Reader<'_>, shape: &Shape) -> Option<T> {
    reader.wrong_type(node, shape);
    None
}

fn quantity<T>(
    node: &Node<'_>,
    reader: &mut Reader<'_>,
    shape: &Shape,
    code: Code,
    what: &str,
    parse: fn(&str) -> Result<T, NotAQuantity>,
) -> Option<T> {
    let text = string(node, reader, shape)?;
    match parse(text) {
        Ok(value) => Some(value),
        Err(wrong) => {
            let key = reader.key();
            let message = format!("`{key}` is not {what}");
            // As `start` and `until` say how long ago.
            let positive = text.strip_prefix('-').filter(|rest| parse(rest).is_ok());
            let help = wrong.help.or(positive.map(|rest| format!("write {key} = \"{rest}\"")));
            let at = reader.loc(node.span());
            reader.report(Finding::new(code, at, message, wrong.label).maybe_help(help));
            None
        }
    }
}
