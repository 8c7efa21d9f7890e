//! The text of a recorded test, at the end of its connector's. Pure.

use serde_json::{Map, Value as Json, json};
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, Value};

use super::{observe::Observed, update::fresh};
use crate::world::Timestamp;

/// A table of so many keys stands by itself: one setting a line is what a reviewer reads.
const KEYS_OF_A_TABLE: usize = 4;

/// What was recorded, before anybody knows what comes of it.
pub struct Draft {
    /// What it shows.
    pub name: String,
    /// Where the connector has several.
    pub stream: Option<String>,
    /// When it was recorded.
    pub now: Timestamp,
    /// What drives it.
    pub input: DraftInput,
}

/// What drives a recorded test.
pub enum DraftInput {
    /// The file with a record, or several.
    Given(String),
    /// The files with the bodies of the API's answers, each with the headers that matter.
    Responses(Vec<(String, Map<String, Json>)>),
    /// The keys of a webhook.
    Request(Map<String, Json>),
}

/// The connector file with the test at its end, its expectations still open. `None` where the file
/// is no TOML, or has its tests in a list that is not written as `[[test]]`.
pub fn append(text: &str, draft: &Draft) -> Option<String> {
    let mut document: DocumentMut = text.parse().ok()?;
    let mut table = Table::new();
    table.decor_mut().set_prefix("\n");
    table.insert("name", draft.name.as_str().into());
    if let Some(stream) = &draft.stream {
        table.insert("stream", stream.as_str().into());
    }
    // To the second: that is how people write times.
    let now = Timestamp(draft.now.0.div_euclid(1000) * 1000).rfc3339().replace(".000Z", "Z");
    table.insert("now", now.as_str().into());
    match &draft.input {
        DraftInput::Given(file) => {
            table.insert("given", file.as_str().into());
        }
        DraftInput::Request(request) if request.len() < KEYS_OF_A_TABLE => {
            table.insert("request", Item::Value(fresh(&Json::Object(request.clone()))));
        }
        DraftInput::Request(request) => {
            table.insert("request", Item::Table(table_of(request)));
        }
        DraftInput::Responses(files) => {
            table.insert("responses", Item::Value(Value::Array(responses(files))));
        }
    }
    table.insert("expect_outcome", Item::Value(Value::InlineTable(InlineTable::new())));
    let tests = document.entry("test").or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
    tests.as_array_of_tables_mut()?.push(table);
    Some(document.to_string())
}

fn responses(files: &[(String, Map<String, Json>)]) -> Array {
    let one = |(file, headers): &(String, Map<String, Json>)| -> Value {
        if headers.is_empty() {
            return file.as_str().into();
        }
        fresh(&json!({ "headers": headers, "file": file }))
    };
    let mut list: Array = files.iter().map(one).collect();
    if list.len() > 1 {
        list.iter_mut().for_each(|value| value.decor_mut().set_prefix("\n    "));
        list.set_trailing("\n");
        list.set_trailing_comma(true);
    }
    list
}

/// The file with what came as what the last test expects. Records go into `records_file` where they
/// are not just one; its content is returned then.
pub fn expect(text: &str, seen: &Observed, records_file: &str) -> Option<(String, Option<Json>)> {
    let mut document: DocumentMut = text.parse().ok()?;
    let tests = document.get_mut("test")?.as_array_of_tables_mut()?;
    let last = tests.len().checked_sub(1)?;
    let table = tests.get_mut(last)?;
    table.remove("expect_outcome");
    let mut content = None;
    match seen.records.as_slice() {
        [] => {}
        [Json::Object(one)] => {
            table.insert("expect", Item::Table(table_of(one)));
        }
        several => {
            table.insert("expect", records_file.into());
            content = Some(Json::Array(several.to_vec()));
        }
    }
    if seen.poll.is_some() {
        let asked = seen.requests.iter().map(|request| fresh(&asked(request)));
        let mut asked: Array = asked.collect();
        if asked.len() > 1 {
            asked.iter_mut().for_each(|value| value.decor_mut().set_prefix("\n    "));
            asked.set_trailing("\n");
            asked.set_trailing_comma(true);
        }
        table.insert("expect_requests", Item::Value(Value::Array(asked)));
    }
    if let Some(status) = seen.reply.as_ref().map(|reply| reply["status"].clone()) {
        table.insert("expect_reply", Item::Value(fresh(&status)));
    }
    if !seen.dead.is_empty() {
        let dead: Vec<Json> = seen.dead.iter().map(|dead| told_by(&dead.facts, DEAD)).collect();
        table.insert("expect_dead", Item::Value(fresh(&dead.into())));
    }
    let is_told = |word: &&str| matches!(*word, "delivered" | "dead");
    if !seen.outcomes.keys().all(is_told) || seen.outcomes.is_empty() {
        let outcomes: Map<String, Json> =
            seen.outcomes.iter().map(|(word, n)| ((*word).to_owned(), (*n).into())).collect();
        table.insert("expect_outcome", Item::Value(fresh(&Json::Object(outcomes))));
    }
    align(table);
    Some((document.to_string(), content))
}

/// What tells one request, one dead letter from another.
const ASKED: &[&str] = &["method", "path", "query", "body"];
const DEAD: &[&str] = &["reason", "field", "destination"];

fn told_by(facts: &Json, names: &[&str]) -> Json {
    let all = facts.as_object().into_iter().flatten();
    let told = all.filter(|(name, value)| names.contains(&name.as_str()) && **value != json!({}));
    Json::Object(told.map(|(name, value)| (name.clone(), value.clone())).collect())
}

fn asked(request: &Json) -> Json {
    let mut told = told_by(request, ASKED);
    if let Some(told) =
        told.as_object_mut().filter(|told| told.get("method") == Some(&json!("GET")))
    {
        told.shift_remove("method");
    }
    told
}

fn table_of(members: &Map<String, Json>) -> Table {
    let mut table = Table::new();
    table.decor_mut().set_prefix("\n");
    for (name, value) in members {
        table.insert(name, Item::Value(fresh(value)));
    }
    align(&mut table);
    table
}

/// Equal signs below each other.
fn align(table: &mut Table) {
    let plain: Vec<String> =
        table.iter().filter(|(_, item)| item.is_value()).map(|(name, _)| name.to_owned()).collect();
    let width = |table: &Table, name: &str| {
        table.key(name).map_or(0, |key| key.display_repr().chars().count())
    };
    let widest = plain.iter().map(|name| width(table, name)).max().unwrap_or(0);
    for name in plain {
        let pad = " ".repeat(widest - width(table, &name) + 1);
        if let Some(mut key) = table.key_mut(&name) {
            key.leaf_decor_mut().set_suffix(pad);
        }
    }
}
