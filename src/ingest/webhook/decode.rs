//! Decoding: from verified bytes to a document, under the same size limit and a limit of depth.

use std::io::Read;

use bytes::Bytes;
use http::{
    HeaderMap,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};
use serde_json::{Map, Value};

use super::{answer::Refusal, body::Held, verify::VerifiedBody};
use crate::{
    event::Record,
    ingest::decode::{rows_of, xml_to_json},
    plan::CsvPlan,
};

/// What decoding may cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct DecodeLimits {
    /// Of the body once unpacked.
    pub(super) max_body_bytes: usize,
    /// Of arrays and objects within each other.
    pub(super) max_json_depth: usize,
}

/// Undoes `Content-Encoding`, then reads what `Content-Type` says: JSON (also where it says
/// nothing) byte for byte as the producer sent it, a form as an object, XML as [`xml_to_json`] has it,
/// and rows of text, with their names in the first, as a list of objects.
pub(super) fn decode(
    body: VerifiedBody,
    headers: &HeaderMap,
    limits: DecodeLimits,
    held: &mut Held<'_>,
) -> Result<Record, Refusal> {
    let media = media_of(headers)?;
    let bytes = unpack(body.into_bytes(), headers, limits.max_body_bytes, held)?;
    match media {
        Media::Json => {
            Record::parse(bytes, limits.max_json_depth).map_err(|_| Refusal::Undecodable)
        }
        Media::Form => Ok(Record::from_value(form(&bytes))),
        Media::Xml => xml_to_json(&bytes).map(Record::from_value).map_err(|_| Refusal::Undecodable),
        Media::Csv => {
            let rows = rows_of(&bytes, &CsvPlan::default(), limits.max_body_bytes);
            rows.map(Record::from_value).map_err(|_| Refusal::Undecodable)
        }
    }
}

/// What a body is.
#[derive(Clone, Copy)]
pub(super) enum Media {
    Json,
    Form,
    Xml,
    Csv,
}

/// What `Content-Type` says. Some producers call their JSON plain text.
pub(super) fn media_of(headers: &HeaderMap) -> Result<Media, Refusal> {
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
        "" | "text/plain" => Ok(Media::Json),
        "application/xml" | "text/xml" => Ok(Media::Xml),
        "text/csv" => Ok(Media::Csv),
        other if other.ends_with("+json") => Ok(Media::Json),
        other if other.ends_with("+xml") => Ok(Media::Xml),
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
    use super::*;

    #[test]
    fn a_form_is_an_object() {
        let document = form(b"token=xyz&text=&a%20b=%2Fwebhook+collect&id=1&id=2&id=3");
        insta::assert_snapshot!(
            document,
            @r#"{"token":"xyz","text":"","a b":"/webhook collect","id":["1","2","3"]}"#
        );
    }
}
