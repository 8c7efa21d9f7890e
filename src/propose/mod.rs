//! What a new connector may look like, from a sample response or an OpenAPI document. Pure.
//!
//! Every proposal says why it is made; what follows from a convention alone, and not from what was
//! seen, asks the engineer to look.

mod auth;
pub mod openapi;
mod page;
mod record;

pub use auth::{AuthGuess, AuthValue};
pub use page::PageGuess;
pub use record::{Field, MapGuess};

use std::collections::BTreeMap;

use serde_json::Value;

/// What is known about an API.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// What it answers, as seen, or as its document describes it.
    pub response: Value,
    /// Whether the answer was made up from a description, so that its values prove nothing.
    pub is_made_up: bool,
    /// What is asked for: the last plain segment of the URL's path, such as `orders`.
    pub topic: Option<String>,
    /// The query parameters that it takes; `None` where nobody has said.
    pub params: Option<Vec<Param>>,
    /// Whether answers are said to have a `Link` header.
    pub has_link_header: bool,
    /// The security scheme that the request needs, as OpenAPI writes it.
    pub security: Option<Value>,
    /// The scopes that it needs.
    pub scopes: Vec<String>,
}

/// A query parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Its name.
    pub name: String,
    /// Whether the request is nothing without it.
    pub required: bool,
    /// A value that it takes: default, example, or the first that is allowed.
    pub value: Option<String>,
    /// The largest number that it takes.
    pub maximum: Option<u64>,
}

/// Something proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guess<T> {
    /// What.
    pub value: T,
    /// Why, for a comment.
    pub why: String,
    /// Whether it was seen, rather than guessed.
    pub is_sure: bool,
}

impl<T> Guess<T> {
    fn sure(value: T, why: impl Into<String>) -> Self {
        Self { value, why: why.into(), is_sure: true }
    }

    fn look(value: T, why: impl Into<String>) -> Self {
        Self { value, why: why.into(), is_sure: false }
    }
}

/// A cursor: a field of the record, and the parameter that takes where to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorGuess {
    /// The path within a record.
    pub field: String,
    /// How its value is written, where that is not RFC 3339.
    pub format: Option<&'static str>,
    /// The query parameter; `None` where none is known.
    pub start_param: Option<String>,
}

/// What a connector may look like.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The stream's name.
    pub stream: String,
    /// The path to the records; `None` where the answer is the list, or the one record.
    pub records: Guess<Option<String>>,
    /// The path to the key.
    pub key: Guess<Option<String>>,
    /// The expression of the revision.
    pub revision: Guess<Option<String>>,
    /// What moves with what has been read.
    pub cursor: Guess<Option<CursorGuess>>,
    /// How pages follow each other.
    pub page: Guess<Option<PageGuess>>,
    /// How requests prove who asks.
    pub auth: Guess<Option<AuthGuess>>,
    /// The record's fields.
    pub map: MapGuess,
    /// A record, for a fixture.
    pub sample: Value,
}

/// Proposes a connector. Errors: there is no record in the answer; says what there is.
pub fn propose(evidence: &Evidence) -> Result<Proposal, String> {
    let found = record::find(&evidence.response, evidence.topic.as_deref())?;
    let records: Vec<&serde_json::Map<String, Value>> =
        found.records.iter().filter_map(|record| record.as_object()).collect();
    let key = record::key(&records, &found.stream, evidence.is_made_up);
    let moved = record::revision(&records);
    let cursor = cursor(moved.as_ref(), evidence);
    let first = records.first().map_or(Value::Null, |first| Value::Object((*first).clone()));
    Ok(Proposal {
        page: page::page(evidence, &found),
        auth: auth::auth(evidence),
        map: record::map(&records),
        sample: first,
        key,
        cursor,
        revision: match moved {
            Some(moved) => {
                Guess { value: Some(moved.expression), why: moved.why, is_sure: moved.is_sure }
            }
            None => Guess::look(
                None,
                "no field says when a record changed: its content stands in for the revision",
            ),
        },
        stream: found.stream,
        records: found.path,
    })
}

fn cursor(moved: Option<&record::Moved>, evidence: &Evidence) -> Guess<Option<CursorGuess>> {
    let Some(moved) = moved.filter(|moved| moved.is_time) else {
        return Guess::look(None, "no field moves with time, so each run reads everything");
    };
    let field = format!("$.{}", moved.name);
    let guess =
        |start_param| CursorGuess { field: field.clone(), format: moved.format, start_param };
    let Some(params) = &evidence.params else {
        return Guess::look(
            Some(guess(None)),
            "which query parameter takes a time to begin from? Without one each run reads everything",
        );
    };
    match start_param(params) {
        Some(param) => {
            let why = format!("`{param}` sounds as if it asked for what changed since");
            Guess::look(Some(guess(Some(param))), why)
        }
        None => Guess::look(
            None,
            "no query parameter takes a time to begin from, so each run reads everything",
        ),
    }
}

/// The parameter that takes a time to begin from, those about changes first.
fn start_param(params: &[Param]) -> Option<String> {
    const CHANGES: &[&str] = &["updat", "modif", "chang"];
    const BEGINS: &[&str] = &["since", "after", "from", "min", "gte", "gt", "start"];
    const TIMES: &[&str] =
        &["since", "startdate", "starttime", "fromdate", "datefrom", "startingat"];
    let has = |name: &str, words: &[&str]| words.iter().any(|word| name.contains(word));
    let best = params.iter().filter_map(|param| {
        let name = plain(&param.name);
        let rank = if has(&name, CHANGES) && has(&name, BEGINS) {
            0
        } else if TIMES.contains(&name.as_str()) {
            1
        } else {
            return None;
        };
        Some((rank, param.name.clone()))
    });
    best.min_by_key(|(rank, _)| *rank).map(|(_, name)| name)
}

/// A name without what conventions differ in: `nextPageToken`, `next_page_token` → `nextpagetoken`.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// A member in a `JSONPath`: `.name`, or `['a name']`.
fn member(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(is_plain)
    {
        format!(".{name}")
    } else {
        format!("['{}']", name.replace('\\', "\\\\").replace('\'', "\\'"))
    }
}

/// Names as tables and streams have them: lower case, digits, `_`.
fn table_name(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        match c {
            c if c.is_ascii_uppercase() => {
                if out.ends_with(|c: char| c.is_ascii_lowercase()) {
                    out.push('_');
                }
                out.push(c.to_ascii_lowercase());
            }
            c if c.is_ascii_alphanumeric() => out.push(c),
            _ if !out.is_empty() && !out.ends_with('_') => out.push('_'),
            _ => {}
        }
    }
    let out = out.trim_matches('_');
    if out.starts_with(|c: char| c.is_ascii_lowercase()) {
        out.to_owned()
    } else {
        "records".to_owned()
    }
}

/// Named maps by their names.
type Maps = BTreeMap<String, Vec<Field>>;

#[cfg(test)]
mod tests;
