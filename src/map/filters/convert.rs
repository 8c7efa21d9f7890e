//! Conversions between JSON's own types, and lookups. None of them guesses: what does not convert
//! exactly is a fault, and no number loses a digit.

use serde_json::Value;

use crate::map::{
    Lookup,
    fault::{Fault, Typed},
    flow::{Flow, Scalar},
};

use super::decimal::Decimal;

/// From 2^53 on a float no longer says which integer it was.
const MAX_EXACT_FLOAT: f64 = 9_007_199_254_740_992.0;

/// A text stays one; numbers and booleans as JSON prints them.
pub(super) fn string(input: Flow<'_>) -> Result<Flow<'_>, Fault> {
    match input.scalar() {
        Scalar::Text(_) => return Ok(input),
        Scalar::Null | Scalar::Not(_) => {
            return Err(Fault::expected("a text, number or boolean", &input));
        }
        Scalar::Bool(_) | Scalar::Digits(_) | Scalar::Float(_) => {}
    }
    let mut text = String::new();
    input.push_to(&mut text);
    Ok(text.into())
}

/// An integer with all its digits, from a number or a text without a fraction (or with one of
/// zeros).
pub(super) fn integer(input: Flow<'_>) -> Result<Flow<'_>, Fault> {
    let digits = match input.scalar() {
        Scalar::Digits(text) if is_integer(&text) => return Ok(input),
        Scalar::Digits(text) => whole(&text),
        Scalar::Text(text) => whole(text.trim()),
        Scalar::Float(float) if float.fract() == 0.0 && float.abs() < MAX_EXACT_FLOAT => {
            return Ok(Value::from(float as i64).into());
        }
        _ => None,
    };
    digits.map(|digits| Flow::digits(&digits)).ok_or_else(|| Fault::expected("an integer", &input))
}

/// Digits and no more, as JSON writes an integer.
fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.bytes().all(|byte| byte.is_ascii_digit()) && text != "-0"
}

fn whole(text: &str) -> Option<String> {
    Decimal::parse(text)?.whole().filter(|digits| is_finite(digits))
}

/// A JSON number, from a number or a text that looks like one.
pub(super) fn number(input: Flow<'_>) -> Result<Flow<'_>, Fault> {
    let digits = match input.scalar() {
        Scalar::Digits(_) | Scalar::Float(_) => return Ok(input),
        Scalar::Text(text) => Decimal::parse(text.trim()).map(|decimal| decimal.print()),
        _ => None,
    };
    let digits = digits.filter(|digits| is_finite(digits));
    digits.map(|digits| Flow::digits(&digits)).ok_or_else(|| Fault::expected("a number", &input))
}

/// Whether others can read it: a number beyond a float's range is refused by most.
fn is_finite(digits: &str) -> bool {
    digits.len() < 300 || digits.parse().is_ok_and(f64::is_finite)
}

/// `true`/`false`, `yes`/`no`, `on`/`off` in any case, `1`/`0` as a text or a number.
pub(super) fn boolean(input: &Flow<'_>) -> Result<Value, Fault> {
    let truth = match input.scalar() {
        Scalar::Bool(truth) => Some(truth),
        Scalar::Digits(digits) => match &*digits {
            "1" => Some(true),
            "0" => Some(false),
            _ => None,
        },
        Scalar::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    };
    truth.map(Value::Bool).ok_or_else(|| Fault::expected("true or false", input))
}

/// What a table says about a value.
pub(super) fn lookup<'a>(
    input: &Flow<'_>,
    table: &Lookup,
    otherwise: Option<&Value>,
) -> Result<Flow<'a>, Fault> {
    let found = match input.scalar() {
        Scalar::Text(text) | Scalar::Digits(text) => table.entries.get(&*text),
        Scalar::Float(float) => table.entries.get(&Value::from(float).to_string()),
        Scalar::Bool(truth) => table.entries.get(if truth { "true" } else { "false" }),
        Scalar::Null | Scalar::Not(_) => None,
    };
    found.or(otherwise).map(|found| Flow::Owned(found.clone())).ok_or_else(|| {
        let kind = input.kind();
        Fault::Here(format!("{kind} that the lookup does not list, and it has no `else`"))
    })
}
