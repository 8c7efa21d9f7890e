//! Decoding: from verified bytes to a document, under the same size limit and a limit of depth.

use std::{io::Read, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderMap,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};
use serde_json::{Map, Value};

use super::{answer::Refusal, body::Held, verify::VerifiedBody};

/// A decoded body.
pub(super) struct Decoded {
    /// JSON text: byte for byte what the producer sent, unpacked; of a form, what it says.
    pub(super) json: Bytes,
    /// The same, parsed.
    pub(super) document: Arc<Value>,
}

/// What decoding may cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct DecodeLimits {
    /// Of the body once unpacked.
    pub(super) max_body_bytes: usize,
    /// Of arrays and objects within each other.
    pub(super) max_json_depth: usize,
}

/// Undoes `Content-Encoding`, then reads what `Content-Type` says: JSON (also where it says
/// nothing) or a form.
pub(super) fn decode(
    body: VerifiedBody,
    headers: &HeaderMap,
    limits: DecodeLimits,
    held: &mut Held<'_>,
) -> Result<Decoded, Refusal> {
    let media = media_of(headers)?;
    let bytes = unpack(body.into_bytes(), headers, limits.max_body_bytes, held)?;
    match media {
        Media::Json => {
            if exceeds_depth(&bytes, limits.max_json_depth) {
                return Err(Refusal::Undecodable);
            }
            let document = serde_json::from_slice(&bytes).map_err(|_| Refusal::Undecodable)?;
            Ok(Decoded { json: bytes, document: Arc::new(document) })
        }
        Media::Form => {
            let document = form(&bytes);
            let json = document.to_string().into();
            Ok(Decoded { json, document: Arc::new(document) })
        }
    }
}

#[derive(Clone, Copy)]
enum Media {
    Json,
    Form,
}

fn media_of(headers: &HeaderMap) -> Result<Media, Refusal> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(Media::Json);
    };
    let text = value.to_str().map_err(|_| Refusal::UnsupportedMedia)?;
    let essence = text.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(Media::Json);
    }
    match essence.to_ascii_lowercase().as_str() {
        "application/x-www-form-urlencoded" => Ok(Media::Form),
        "" => Ok(Media::Json),
        other if other.ends_with("+json") => Ok(Media::Json),
        _ => Err(Refusal::UnsupportedMedia),
    }
}

fn unpack(
    bytes: Bytes,
    headers: &HeaderMap,
    max_body_bytes: usize,
    held: &mut Held<'_>,
) -> Result<Bytes, Refusal> {
    let mut encodings = headers.get_all(CONTENT_ENCODING).into_iter();
    let Some(encoding) = encodings.next() else {
        return Ok(bytes);
    };
    let encoding = encoding.to_str().map_err(|_| Refusal::UnsupportedMedia)?.trim();
    if encodings.next().is_some() {
        return Err(Refusal::UnsupportedMedia);
    }
    match encoding.to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(bytes),
        "gzip" | "x-gzip" => gunzip(&bytes, max_body_bytes, held),
        _ => Err(Refusal::UnsupportedMedia),
    }
}

/// Stops at the limit, whatever the archive still holds.
fn gunzip(packed: &[u8], max_body_bytes: usize, held: &mut Held<'_>) -> Result<Bytes, Refusal> {
    const CHUNK_BYTES: usize = 16 << 10;
    let mut reader = flate2::read::MultiGzDecoder::new(packed);
    let mut unpacked = Vec::new();
    let mut chunk = [0; CHUNK_BYTES];
    loop {
        let count = reader.read(&mut chunk).map_err(|_| Refusal::Undecodable)?;
        if count == 0 {
            return Ok(unpacked.into());
        }
        if count > max_body_bytes - unpacked.len() {
            return Err(Refusal::TooLarge);
        }
        held.grow(count)?;
        unpacked.extend_from_slice(&chunk[..count]);
    }
}

/// Whether arrays and objects nest deeper than `max`, without building anything. On text that is
/// no JSON the answer means nothing; the parser refuses it anyway.
fn exceeds_depth(json: &[u8], max: usize) -> bool {
    // As many brackets as levels are no danger; counting is a few times cheaper than following.
    if json.iter().filter(|byte| matches!(byte, b'[' | b'{')).count() <= max {
        return false;
    }
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => in_string = !in_string,
            b'\\' if in_string => drop(bytes.next()),
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > max {
                    return true;
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// A form as an object: text under each name, and a list where a name stands there more than once.
pub(super) fn form(bytes: &[u8]) -> Value {
    let mut fields = Map::new();
    for (name, text) in url::form_urlencoded::parse(bytes) {
        let text = Value::from(text.into_owned());
        match fields.get_mut(name.as_ref()) {
            None => drop(fields.insert(name.into_owned(), text)),
            Some(Value::Array(texts)) => texts.push(text),
            Some(first) => *first = Value::Array(vec![first.take(), text]),
        }
    }
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn depth_is_counted_outside_strings() {
        for (text, depth) in [
            ("1", 0),
            ("[]", 1),
            (r#"{"a":[{}]}"#, 3),
            (r#"["[[[[[[",{"\"[[[[[[":"\\"}]"#, 2),
            ("[[],[],[],[],[]]", 2),
        ] {
            assert!(!exceeds_depth(text.as_bytes(), depth), "{text}");
            assert_eq!(
                exceeds_depth(text.as_bytes(), depth.saturating_sub(1)),
                depth > 0,
                "{text}"
            );
        }
    }

    fn depth_of(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(depth_of).max().unwrap_or(0),
            Value::Object(members) => 1 + members.values().map(depth_of).max().unwrap_or(0),
            _ => 0,
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = r#"[\[\]{}"\\a]{0,6}"#.prop_map(Value::from);
        leaf.prop_recursive(5, 24, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::vec((r#"[\[{"\\]{0,4}"#, inner), 0..3)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn the_scan_agrees_with_the_parser(value in any_json(), max in 0_usize..6) {
            prop_assert_eq!(exceeds_depth(value.to_string().as_bytes(), max), depth_of(&value) > max);
        }
    }

    #[test]
    fn a_form_is_an_object() {
        let document = form(b"token=xyz&text=&a%20b=%2Fwebhook+collect&id=1&id=2&id=3");
        insta::assert_snapshot!(
            document,
            @r#"{"token":"xyz","text":"","a b":"/webhook collect","id":["1","2","3"]}"#
        );
    }
}
