//! `signed`: a template of known parts, lowered to them.

use std::ops::Range;

use super::super::{
    context::{Context, within},
    sites,
};
use crate::{
    definition::{
        kinds::Expression,
        table::{At, list_of},
    },
    diagnostic::{codes, nearest},
    plan::SignedPart,
};

const PARTS: &[&str] = &[
    "body",
    "body_sha256",
    "body_crc32",
    "timestamp",
    "url",
    "method",
    "secret",
    "sorted_form",
    "request",
];

/// The parts of the template. `None` where one of them is wrong.
pub(super) fn parts(
    context: &mut Context<'_>,
    given: &At<Expression>,
    path: &str,
) -> Option<Vec<SignedPart>> {
    let text = given.value.text.as_str();
    let mut parts = Vec::new();
    let mut at = 0;
    let mut complete = true;
    while let Some(open) = text[at..].find("{{").map(|open| at + open) {
        if open > at {
            parts.push(SignedPart::Text(text[at..open].to_owned()));
        }
        let Some(close) = text[open..].find("}}").map(|close| open + close) else {
            let place = within(given, open..text.len());
            let (message, label) = ("`{{` is never closed", "expected `}}` after this");
            context.error(codes::BAD_TEMPLATE, place, message, label);
            return None;
        };
        match part(context, given, open..close + 2, path) {
            Some(part) => parts.push(part),
            None => complete = false,
        }
        at = close + 2;
    }
    if at < text.len() {
        parts.push(SignedPart::Text(text[at..].to_owned()));
    }
    complete.then_some(parts)
}

/// One `{{ ... }}`; what is wrong with it is reported.
fn part(
    context: &mut Context<'_>,
    given: &At<Expression>,
    range: Range<usize>,
    path: &str,
) -> Option<SignedPart> {
    let whole = &given.value.text[range.clone()];
    let inner = whole[2..whole.len() - 2].trim();
    if let Some(part) = named(inner) {
        return Some(part);
    }
    let is_of_body = inner
        .strip_prefix("request.body")
        .is_some_and(|rest| rest.starts_with(['.', '[', '|', ' ']));
    if is_of_body {
        let start = range.start;
        let locate = |part: Range<usize>| within(given, start + part.start..start + part.end);
        let expr = context.compile_text(whole, &sites::SIGNED, given.at, path, &locate)?;
        return Some(SignedPart::Field(expr));
    }
    let start = range.start + 2 + (whole[2..].len() - whole[2..].trim_start().len());
    let label = match nearest(inner, PARTS.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("expected one of {}", list_of(PARTS.iter().copied())),
    };
    context
        .error(
            codes::BAD_SIGNED,
            within(given, start..start + inner.len()),
            format!("`{}` cannot be signed", inner.escape_debug()),
            label,
        )
        .help("parts of the request are `request.headers['x-name']`, `request.body.field`, `body_fields('a', 'b')`, `url` and `method`");
    None
}

fn named(inner: &str) -> Option<SignedPart> {
    Some(match inner {
        "body" => SignedPart::Body,
        "body_sha256" => SignedPart::BodySha256,
        "body_crc32" => SignedPart::BodyCrc32,
        "timestamp" => SignedPart::Timestamp,
        "url" | "request.url" => SignedPart::Url,
        "method" | "request.method" => SignedPart::Method,
        "secret" => SignedPart::Secret,
        "sorted_form" => SignedPart::SortedForm,
        _ => match inner.strip_prefix("body_fields(") {
            Some(arguments) => SignedPart::Fields(texts(arguments.strip_suffix(')')?)?),
            None => SignedPart::Header(header(inner)?),
        },
    })
}

/// `'a', 'b'`
fn texts(arguments: &str) -> Option<Vec<String>> {
    let texts: Option<Vec<String>> = arguments.split(',').map(|text| quoted(text.trim())).collect();
    texts.filter(|texts| !texts.is_empty())
}

fn quoted(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    Some(text.strip_prefix(quote)?.strip_suffix(quote)?.to_owned())
}

fn header(inner: &str) -> Option<String> {
    let header = inner.strip_prefix("request.headers")?;
    let name = match header.strip_prefix('.') {
        Some(name) => name.to_owned(),
        None => quoted(header.strip_prefix('[')?.strip_suffix(']')?.trim())?,
    };
    let name = http::HeaderName::from_bytes(name.as_bytes()).ok()?;
    Some(name.as_str().to_owned())
}
