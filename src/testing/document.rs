//! Bodies and fixtures as documents. Pure.

use bytes::Bytes;
use serde_json::{Map, Value};

/// Whether bytes are a JSON document.
pub fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
}

/// A body as it is compared: the JSON document that it is, else its text; `None` where it is empty.
pub fn body(bytes: &Bytes) -> Option<Value> {
    if bytes.is_empty() {
        return None;
    }
    let text = || Value::String(String::from_utf8_lossy(bytes).into_owned());
    Some(serde_json::from_slice(bytes).unwrap_or_else(|_| text()))
}

/// A scalar as text.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The records of a fixture: one document, the items of a list, or JSON lines (`.jsonl`).
pub fn records(name: &str, bytes: &[u8]) -> Result<Vec<Value>, String> {
    let is_lines = std::path::Path::new(name)
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("jsonl") || e.eq_ignore_ascii_case("ndjson"));
    if is_lines {
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
        return lines
            .map(|line| serde_json::from_slice(line).map_err(|error| error.to_string()))
            .collect();
    }
    match serde_json::from_slice(bytes).map_err(|error| error.to_string())? {
        Value::Array(items) => Ok(items),
        one => Ok(vec![one]),
    }
}

/// Query parameters as a document: a list where one stands there several times.
pub fn query(query: &str) -> Value {
    let mut all: Map<String, Value> = Map::new();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let value = Value::String(value.into_owned());
        match all.get_mut(name.as_ref()) {
            None => {
                all.insert(name.into_owned(), value);
            }
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    Value::Object(all)
}

/// Headers as a document: names in lower case, several of one name joined by commas.
pub fn headers(headers: &http::HeaderMap) -> Value {
    let mut all = Map::new();
    for name in headers.keys() {
        let values = headers.get_all(name).into_iter();
        let texts: Vec<_> = values.map(|v| String::from_utf8_lossy(v.as_bytes())).collect();
        all.insert(name.as_str().to_owned(), texts.join(", ").into());
    }
    Value::Object(all)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fixtures_hold_one_record_or_several() {
        assert_eq!(records("a.json", b"{\"id\": 1}").unwrap(), [json!({"id": 1})]);
        assert_eq!(records("a.json", b"[1, 2]").unwrap(), [json!(1), json!(2)]);
        assert_eq!(records("a.jsonl", b"1\n\n2\r\n").unwrap(), [json!(1), json!(2)]);
        assert!(records("a.json", b"{").is_err());
    }

    #[test]
    fn a_parameter_that_stands_there_twice_is_a_list() {
        assert_eq!(query("a=1&b=%20x&a=2&a=3"), json!({"a": ["1", "2", "3"], "b": " x"}));
        assert_eq!(query(""), json!({}));
    }
}
