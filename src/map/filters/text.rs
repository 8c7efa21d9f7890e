//! Filters on texts.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::map::{
    fault::Fault,
    flow::{Flow, Scalar},
};

/// RFC 3986 §2.3: all but the unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The text itself; other types must pass `string` first.
pub(super) fn of<'a>(input: &'a Flow<'_>) -> Result<Cow<'a, str>, Fault> {
    match input.scalar() {
        Scalar::Text(text) => Ok(text),
        _ => Err(Fault::expected("a text", input)),
    }
}

/// Without white space, or the given characters, at both ends.
pub(super) fn trim(input: &Flow<'_>, characters: Option<&str>) -> Result<String, Fault> {
    let text = of(input)?;
    Ok(match characters {
        None => text.trim().to_owned(),
        Some(set) => text.trim_matches(|one| set.contains(one)).to_owned(),
    })
}

/// The parts between separators; without one, the words between white space.
pub(super) fn split(input: &Flow<'_>, separator: Option<&str>) -> Result<Value, Fault> {
    let text = of(input)?;
    Ok(match separator {
        None | Some("") => text.split_whitespace().map(Value::from).collect(),
        Some(separator) => text.split(separator).map(Value::from).collect(),
    })
}

/// An array's texts, numbers and booleans, joined.
pub(super) fn join<'a>(input: &Flow<'_>, separator: &str) -> Result<Flow<'a>, Fault> {
    let Some(items) = input.items() else {
        return Err(Fault::expected("an array", input));
    };
    let mut joined = String::new();
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            joined.push_str(separator);
        }
        item.push_scalar_to(&mut joined).map_err(|fault| fault.of_item(at))?;
    }
    Ok(joined.into())
}

/// Its JSON.
pub(super) fn json(input: &Flow<'_>) -> String {
    String::from_utf8_lossy(&input.json()).into_owned()
}

/// The bytes to hash or encode: of a text its own, of anything else those of its JSON.
fn bytes_of(input: &Flow<'_>) -> Vec<u8> {
    match input.scalar() {
        Scalar::Text(text) => text.into_owned().into_bytes(),
        _ => input.json(),
    }
}

/// SHA-256 as 64 lower-case hex digits.
pub(super) fn sha256(input: &Flow<'_>) -> String {
    sha256_hex(&bytes_of(input))
}

/// SHA-256 (FIPS 180-4) as 64 lower-case hexadecimal digits.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}

/// RFC 4648 §4, padded.
pub(super) fn base64(input: &Flow<'_>) -> String {
    data_encoding::BASE64.encode(&bytes_of(input))
}

/// Percent-encoding of a text, number or boolean; of an object as `name=value&...`.
pub(super) fn urlencode(input: &Flow<'_>) -> Result<String, Fault> {
    let encode = |value: &Flow<'_>| {
        let mut text = String::new();
        value.push_scalar_to(&mut text)?;
        Ok::<_, Fault>(utf8_percent_encode(&text, RESERVED).to_string())
    };
    let record = input.to_record();
    let Some(object) = record.root().filter(|root| root.is_object()) else {
        return encode(input);
    };
    let mut query = String::new();
    for (name, value) in object.members() {
        if !query.is_empty() {
            query.push('&');
        }
        query.extend(utf8_percent_encode(&name, RESERVED));
        query.push('=');
        query.push_str(&encode(&Flow::Node(value))?);
    }
    Ok(query)
}
