//! Conversions between JSON's own types, and lookups. None of them guesses: what does not convert
//! exactly is a fault.

use serde_json::{Number, Value};

use crate::map::{
    Lookup,
    fault::{Fault, kind},
};

use super::Flow;

/// A text stays one; numbers and booleans as JSON prints them.
pub(super) fn string(input: Flow<'_>) -> Result<Flow<'_>, Fault> {
    match input.value() {
        Value::String(_) => Ok(input),
        Value::Number(number) => Ok(number.to_string().into()),
        Value::Bool(truth) => Ok(truth.to_string().into()),
        other => Err(Fault::expected("a text, number or boolean", other)),
    }
}

/// An integer of 64 bits, from a number or a text without a fraction (or with one of zeros).
pub(super) fn integer(value: &Value) -> Result<Value, Fault> {
    match value {
        Value::Number(number) if number.is_f64() => {
            let float = number.as_f64().unwrap_or(f64::NAN);
            // Beyond 2^53 a float no longer says which integer it was.
            if float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0 {
                Ok(Value::from(float as i64))
            } else {
                Err(Fault::expected("an integer", value))
            }
        }
        Value::Number(_) => Ok(value.clone()),
        Value::String(text) => {
            integer_of(text.trim()).ok_or_else(|| Fault::expected("an integer", value))
        }
        other => Err(Fault::expected("an integer", other)),
    }
}

fn integer_of(text: &str) -> Option<Value> {
    let whole = match text.split_once('.') {
        Some((whole, zeros)) if !zeros.is_empty() && zeros.bytes().all(|byte| byte == b'0') => {
            whole
        }
        Some(_) => return None,
        None => text,
    };
    let signed = whole.parse::<i64>().map(Value::from);
    signed.or_else(|_| whole.parse::<u64>().map(Value::from)).ok()
}

/// A JSON number, from a number or a text that looks like one.
pub(super) fn number(value: &Value) -> Result<Value, Fault> {
    match value {
        Value::Number(_) => Ok(value.clone()),
        Value::String(text) => {
            number_of(text.trim()).ok_or_else(|| Fault::expected("a number", value))
        }
        other => Err(Fault::expected("a number", other)),
    }
}

fn number_of(text: &str) -> Option<Value> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if !text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte)) {
        return None;
    }
    if let Ok(integer) = text.parse::<i64>() {
        return Some(integer.into());
    }
    if let Ok(integer) = text.parse::<u64>() {
        return Some(integer.into());
    }
    // An integer that does not fit would lose digits; a fraction is rounded to the nearest float.
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        return None;
    }
    text.parse::<f64>().ok().and_then(Number::from_f64).map(Value::Number)
}

/// `true`/`false`, `yes`/`no`, `on`/`off` in any case, `1`/`0` as a text or a number.
pub(super) fn boolean(value: &Value) -> Result<Value, Fault> {
    let truth = match value {
        Value::Bool(truth) => Some(*truth),
        Value::Number(number) => match number.as_u64() {
            Some(1) => Some(true),
            Some(0) => Some(false),
            _ => None,
        },
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    };
    truth.map(Value::Bool).ok_or_else(|| Fault::expected("true or false", value))
}

/// What a table says about a value.
pub(super) fn lookup<'a>(
    value: &Value,
    table: &Lookup,
    otherwise: Option<&Value>,
) -> Result<Flow<'a>, Fault> {
    let found = match value {
        Value::String(text) => table.entries.get(text),
        Value::Number(_) | Value::Bool(_) => table.entries.get(&value.to_string()),
        _ => None,
    };
    found.or(otherwise).map(|found| Flow::Owned(found.clone())).ok_or_else(|| {
        Fault::Here(format!("{} that the lookup does not list, and it has no `else`", kind(value)))
    })
}
