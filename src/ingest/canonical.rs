//! The hash of a record that does not depend on how it was written down.
//!
//! A webhook and a poll bring the same record with other white space and another order of members.
//! Both must have one hash, because it stands in for a revision. Whoever changes the encoding
//! changes the identity of every event without a revision: each would be delivered again.

use std::borrow::Cow;

use serde_json::Number;

use crate::event::{Node, Record, Shape};

/// Integers of this size and below are exact as `f64`, so `1001.0` may be called `1001`.
const EXACT_FLOAT: f64 = 9_007_199_254_740_992.0;
/// Every decimal of so many digits is another float.
const FLOAT_DIGITS: usize = 15;
/// Numbers of more digits before or behind the point are not written out.
const MAX_PLAIN_DIGITS: u64 = 400;

/// The first 16 bytes of SHA-256 over the canonical encoding, as 32 lower-case hexadecimal digits.
pub(super) fn record_hash(record: &Record) -> String {
    let mut bytes = Vec::with_capacity(record.bytes().len() * 2);
    match record.root() {
        Some(document) => encode(document, &mut Vec::with_capacity(32), &mut bytes),
        None => bytes.push(b'n'),
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
    data_encoding::HEXLOWER.encode(&digest.as_ref()[..16])
}

/// A number that is an integer, however it was written.
pub(super) fn integral(number: &Number) -> Option<i64> {
    number.as_i64().or_else(|| {
        let float = number.as_f64().filter(|_| !number.is_u64())?;
        (float.fract() == 0.0 && float.abs() <= EXACT_FLOAT).then_some(float as i64)
    })
}

/// A member: its name without escapes, its value.
type Member<'a> = (Cow<'a, [u8]>, Node<'a>);

/// Each value is a tag and, where its length varies, the length before the content: no two values
/// share an encoding. Members are sorted by name. Depth is bounded by the parser's limit. `stack` is
/// where the members of the objects stand that are being written, an inner one's behind its outer's.
fn encode<'a>(node: Node<'a>, stack: &mut Vec<Member<'a>>, out: &mut Vec<u8>) {
    if let Some(text) = node.unquoted() {
        return encode_text(&text, out);
    }
    match node.shape() {
        Shape::Null => out.push(b'n'),
        Shape::Bool(false) => out.push(b'f'),
        Shape::Bool(true) => out.push(b't'),
        Shape::Number(digits) => encode_number(digits, out),
        Shape::Text(text) => encode_text(text.as_bytes(), out),
        Shape::Array => {
            encode_length(b'a', node.items().count(), out);
            node.items().for_each(|item| encode(item, stack, out));
        }
        Shape::Object => encode_object(node, stack, out),
    }
}

fn encode_object<'a>(object: Node<'a>, stack: &mut Vec<Member<'a>>, out: &mut Vec<u8>) {
    let from = stack.len();
    stack.extend(object.named().filter_map(|(name, value)| Some((name.unquoted()?, value))));
    // Stable, so of a name that stands there more than once the last one comes last, and counts.
    stack[from..].sort_by(|(a, _), (b, _)| a.cmp(b));
    let last_of_name = |at: usize, stack: &[Member<'_>]| {
        stack.get(at + 1).is_none_or(|(next, _)| *next != stack[at].0)
    };
    let to = stack.len();
    let count = (from..to).filter(|at| last_of_name(*at, stack)).count();
    encode_length(b'o', count, out);
    for at in from..to {
        if last_of_name(at, &stack[..to]) {
            encode_text(&stack[at].0, out);
            encode(stack[at].1, stack, out);
        }
    }
    stack.truncate(from);
}

/// A number's text, the same for `1001`, `1001.0` and `1.001e3`: its digits, no zeros at its ends.
pub(super) fn canonical_number(text: &str) -> String {
    plain_number(text).unwrap_or_else(|| text.to_owned())
}

/// Without exponent and without zeros that say nothing. `None`: so large or small that it stays as
/// it is written.
fn plain_number(text: &str) -> Option<String> {
    let (sign, text) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let point = i64::try_from(whole.len()).ok()? + i64::from(exponent);
    if point.unsigned_abs() > MAX_PLAIN_DIGITS {
        return None;
    }
    let before = usize::try_from(-point).unwrap_or(0);
    let behind = usize::try_from(point).unwrap_or(0).saturating_sub(digits.len());
    let digits = format!("{}{digits}{}", "0".repeat(before), "0".repeat(behind));
    let (whole, fraction) = digits.split_at(usize::try_from(point).unwrap_or(0));
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    let whole = if whole.is_empty() { "0" } else { whole };
    Some(match (fraction, whole) {
        ("", "0") => "0".to_owned(),
        ("", _) => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{fraction}"),
    })
}

fn encode_number(digits: &str, out: &mut Vec<u8>) {
    let number = match digits.parse::<i64>() {
        // The integer zero, with a sign or without.
        Ok(integer) => Number::from(integer),
        Err(_) => serde_json::from_str(digits).unwrap_or_else(|_| Number::from(0)),
    };
    // Digits that a float does not hold are as good as any others.
    if number.is_f64() && digits.len() > FLOAT_DIGITS {
        let exact = canonical_number(digits);
        if exact != canonical_number(&number.to_string()) {
            out.push(b'x');
            return encode_text(exact.as_bytes(), out);
        }
    }
    if let Some(integer) = integral(&number) {
        out.push(b'i');
        out.extend_from_slice(&integer.to_le_bytes());
    } else if let Some(large) = number.as_u64() {
        out.push(b'u');
        out.extend_from_slice(&large.to_le_bytes());
    } else {
        out.push(b'd');
        out.extend_from_slice(&number.as_f64().unwrap_or(f64::NAN).to_bits().to_le_bytes());
    }
}

fn encode_text(text: &[u8], out: &mut Vec<u8>) {
    encode_length(b's', text.len(), out);
    out.extend_from_slice(text);
}

fn encode_length(tag: u8, length: usize, out: &mut Vec<u8>) {
    out.push(tag);
    out.extend_from_slice(&(length as u64).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn hash_of(text: &str) -> String {
        record_hash(&Record::parse(text.to_owned().into(), 127).unwrap())
    }

    fn hash_of_value(value: &Value) -> String {
        record_hash(&Record::from_value(value.clone()))
    }

    #[test]
    fn order_and_white_space_do_not_matter() {
        assert_eq!(
            hash_of(r#"{"a":1,"b":[true,null]}"#),
            hash_of("{ \"b\": [true, null],\"a\": 1.0 }")
        );
        assert_eq!(hash_of(r#"{"a":1,"a":2}"#), hash_of(r#"{"\u0061":2}"#), "the last one counts");
        assert_eq!(hash_of("-0"), hash_of("0"));
    }

    #[test]
    fn everything_else_matters() {
        let texts = [
            "1",
            "\"1\"",
            "true",
            "null",
            "[]",
            "{}",
            "[1]",
            "[[1]]",
            "1.5",
            "-1",
            "[1,2]",
            "[2,1]",
            r#"{"a":1}"#,
            r#"{"a":"1"}"#,
            r#"{"a":{"b":1}}"#,
            r#"{"a":null}"#,
            "18446744073709551615",
            "\"\"",
        ];
        let hashes: std::collections::BTreeSet<_> = texts.iter().map(|t| hash_of(t)).collect();
        assert_eq!(hashes.len(), texts.len());
    }

    /// Stored identities depend on it.
    #[test]
    fn the_encoding_stays_as_it_is() {
        let record = json!({"id": 1001, "total": 12.5, "tags": ["a", "b"], "gone": null});
        insta::assert_snapshot!(hash_of_value(&record), @"93df90282d1a85b264782598d1ee8070");
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1e6..1e6f64).prop_map(Value::from),
            "[a-c]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c]{0,2}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn reversed(value: &Value) -> Value {
        match value {
            Value::Object(members) => Value::Object(
                members.iter().rev().map(|(name, v)| (name.clone(), reversed(v))).collect(),
            ),
            Value::Array(items) => items.iter().map(reversed).collect(),
            other => other.clone(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn one_record_one_hash(a in any_json(), b in any_json()) {
            prop_assert_eq!(hash_of_value(&a), hash_of_value(&reversed(&a)));
            prop_assert_eq!(a == b, hash_of_value(&a) == hash_of_value(&b));
        }
    }
}
