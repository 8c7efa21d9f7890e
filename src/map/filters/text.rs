//! Filters on texts.

use std::fmt::Write;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::map::fault::Fault;

use super::Flow;

/// RFC 3986 §2.3: all but the unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The text itself; other types must pass `string` first.
pub(super) fn of(value: &Value) -> Result<&str, Fault> {
    value.as_str().ok_or_else(|| Fault::expected("a text", value))
}

/// Without white space, or the given characters, at both ends.
pub(super) fn trim(value: &Value, characters: Option<&str>) -> Result<String, Fault> {
    let text = of(value)?;
    Ok(match characters {
        None => text.trim().to_owned(),
        Some(set) => text.trim_matches(|one| set.contains(one)).to_owned(),
    })
}

/// The parts between separators; without one, the words between white space.
pub(super) fn split(value: &Value, separator: Option<&str>) -> Result<Value, Fault> {
    let text = of(value)?;
    Ok(match separator {
        None | Some("") => text.split_whitespace().map(Value::from).collect(),
        Some(separator) => text.split(separator).map(Value::from).collect(),
    })
}

/// An array's texts, numbers and booleans, joined.
pub(super) fn join<'a>(input: &Flow<'a>, separator: &str) -> Result<Flow<'a>, Fault> {
    let Some(items) = input.items() else {
        return Err(Fault::expected("an array", input.value()));
    };
    let mut joined = String::new();
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            joined.push_str(separator);
        }
        push_scalar(&mut joined, item).map_err(|fault| fault.of_item(at))?;
    }
    Ok(joined.into())
}

/// Appends a text, a number or a boolean.
pub(in crate::map) fn push_scalar(text: &mut String, value: &Value) -> Result<(), Fault> {
    match value {
        Value::String(part) => text.push_str(part),
        Value::Number(_) | Value::Bool(_) => push_json(text, value),
        other => return Err(Fault::expected("a text, number or boolean", other)),
    }
    Ok(())
}

/// Appends a value as JSON.
pub(in crate::map) fn push_json(text: &mut String, value: &Value) {
    // Writing into a string does not fail.
    let _ = write!(text, "{value}");
}

/// The bytes to hash or encode: of a text its own, of anything else those of its JSON.
fn bytes_of(value: &Value) -> std::borrow::Cow<'_, [u8]> {
    match value {
        Value::String(text) => text.as_bytes().into(),
        other => other.to_string().into_bytes().into(),
    }
}

/// SHA-256 as 64 lower-case hex digits.
pub(super) fn sha256(value: &Value) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, &bytes_of(value));
    data_encoding::HEXLOWER.encode(digest.as_ref())
}

/// RFC 4648 §4, padded.
pub(super) fn base64(value: &Value) -> String {
    data_encoding::BASE64.encode(&bytes_of(value))
}

/// Percent-encoding of a text, number or boolean; of an object as `name=value&...`.
pub(super) fn urlencode(value: &Value) -> Result<String, Fault> {
    let encode = |value: &Value| {
        let mut text = String::new();
        push_scalar(&mut text, value)?;
        Ok::<_, Fault>(utf8_percent_encode(&text, RESERVED).to_string())
    };
    let Value::Object(members) = value else {
        return encode(value);
    };
    let mut query = String::new();
    for (name, value) in members {
        if !query.is_empty() {
            query.push('&');
        }
        query.extend(utf8_percent_encode(name, RESERVED));
        query.push('=');
        query.push_str(&encode(value)?);
    }
    Ok(query)
}
