//! Puts what came into the file as what is expected. Pure: texts in, texts out.
//!
//! Only the values that differ change; comments, order and formatting of all else stay. A file in house
//! order stays in it: what is new is written as `tenon fmt` would.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use serde_json::{Map, Value as Json};
use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, TableLike, Value};

use super::{
    compare::{Failure, Fix},
    suite::{Report, Tested, Verdict},
};
use crate::{
    definition::{
        collections::NULL,
        format::{FileKind, format},
    },
    plan::Sources,
};

/// What to write.
#[derive(Debug, Default, PartialEq)]
pub struct Update {
    /// Files and their new texts.
    pub files: BTreeMap<PathBuf, String>,
    /// Expectations that were rewritten.
    pub rewritten: usize,
    /// Failures that no expectation can be blamed for.
    pub left: usize,
}

/// The files with every wrong expectation of the report made right. They are taken from `sources`:
/// the report's own copies hide what looks like a credential.
pub fn update(report: &Report, sources: &dyn Sources) -> Update {
    let mut update = Update::default();
    for tests in report.tests.chunk_by(|a, b| Arc::ptr_eq(&a.file, &b.file)) {
        if let Some(first) = tests.first()
            && let Some(file) = sources.read(&first.file.path)
        {
            of_file(&file.text, &file.path, tests, &mut update);
        }
    }
    update
}

fn of_file(text: &str, path: &std::path::Path, tests: &[Tested], update: &mut Update) {
    let Ok(mut document) = text.parse::<DocumentMut>() else { return };
    let mut is_changed = false;
    for test in tests {
        let failures = match &test.verdict {
            Verdict::Passed => continue,
            Verdict::Unfit(..) => {
                update.left += 1;
                continue;
            }
            Verdict::Failed(failures) => failures,
        };
        for failure in failures {
            let done = match &failure.fix {
                Some(Fix::Value { name, value }) => {
                    let done = set(&mut document, test.index, failure, name.as_deref(), value);
                    is_changed |= done.is_some();
                    done
                }
                Some(Fix::File { file, content }) => {
                    let folder = path.parent().unwrap_or(std::path::Path::new(""));
                    serde_json::to_string_pretty(content).ok().map(|text| {
                        update.files.insert(folder.join(file), text + "\n");
                    })
                }
                None => None,
            };
            match done {
                Some(()) => update.rewritten += 1,
                None => update.left += 1,
            }
        }
    }
    if is_changed {
        update.files.insert(path.to_owned(), in_its_order(text, document.to_string()));
    }
}

/// The new text in house order where the old one was.
fn in_its_order(old: &str, new: String) -> String {
    let formatted = |text: &str| format(text, FileKind::Connector).ok();
    if formatted(old).is_none_or(|formatted| formatted != old) {
        return new;
    }
    formatted(&new).unwrap_or(new)
}

/// Sets the value of a failure's key. `None` where the file has no such place.
fn set(
    document: &mut DocumentMut,
    test: usize,
    failure: &Failure,
    name: Option<&str>,
    value: &Json,
) -> Option<()> {
    let mut table = entry(document.get_mut("test")?, test)?;
    if let Some(step) = failure.step {
        table = entry(table.get_mut("step")?, step)?;
    }
    let mut item = table.get_mut(failure.key)?;
    if let Some(name) = name {
        item = item.as_table_like_mut()?.get_mut(name)?;
    }
    patch(item, value);
    Some(())
}

/// One of a list of tables, however it is written.
fn entry(list: &mut Item, index: usize) -> Option<&mut dyn TableLike> {
    match list {
        Item::ArrayOfTables(tables) => tables.get_mut(index).map(|table| table as _),
        Item::Value(Value::Array(items)) => {
            items.get_mut(index)?.as_inline_table_mut().map(|table| table as _)
        }
        _ => None,
    }
}

fn patch(item: &mut Item, new: &Json) {
    match (item, new) {
        (Item::Value(value), new) => patch_value(value, new),
        (Item::Table(table), Json::Object(new)) => patch_table(table, new),
        (Item::ArrayOfTables(tables), new) => {
            let new = listed(new);
            while tables.len() > new.len() {
                tables.remove(tables.len() - 1);
            }
            for (index, new) in new.iter().enumerate() {
                let Json::Object(new) = new else { continue };
                if let Some(table) = tables.get_mut(index) {
                    patch_table(table, new);
                } else {
                    let mut table = Table::new();
                    patch_table(&mut table, new);
                    tables.push(table);
                }
            }
        }
        (other, new) => *other = Item::Value(fresh(new)),
    }
}

fn patch_table(table: &mut dyn TableLike, new: &Map<String, Json>) {
    let gone: Vec<String> =
        table.iter().map(|(key, _)| key.to_owned()).filter(|key| !new.contains_key(key)).collect();
    for key in gone {
        table.remove(&key);
    }
    for (key, new) in new {
        match table.get_mut(key) {
            Some(item) if !item.is_none() => patch(item, new),
            _ => {
                table.insert(key, Item::Value(fresh(new)));
            }
        }
    }
}

fn patch_value(value: &mut Value, new: &Json) {
    match (value, new) {
        (Value::InlineTable(table), Json::Object(new)) => {
            let grows = new.keys().any(|key| !table.contains_key(key));
            patch_table(table, new);
            if grows {
                close(table);
            }
        }
        (Value::Array(items), new) => patch_array(items, &listed(new)),
        (value, new) => {
            if !means(value, new) {
                let decor = value.decor().clone();
                *value = fresh(new);
                *value.decor_mut() = decor;
            }
        }
    }
}

fn patch_array(items: &mut Array, new: &[Json]) {
    while items.len() > new.len() {
        items.remove(items.len() - 1);
    }
    for (index, new) in new.iter().enumerate() {
        if let Some(value) = items.get_mut(index) {
            patch_value(value, new);
            continue;
        }
        let indent = index.checked_sub(1).and_then(|at| indent_of(items.get(at)?));
        let comment = keep_comment(items).unwrap_or_default();
        let mut value = fresh(new);
        value.decor_mut().set_prefix(match indent {
            Some(indent) => comment + &indent,
            None if index > 0 => " ".to_owned(),
            None => String::new(),
        });
        items.push_formatted(value);
    }
}

/// What stands before the closing brace stands behind the last value, whichever that is now.
fn close(table: &mut InlineTable) {
    let last = table.len().saturating_sub(1);
    for (at, (_, value)) in table.iter_mut().enumerate() {
        let suffix = value.decor().suffix().and_then(|suffix| suffix.as_str());
        if at < last && suffix.is_some_and(|suffix| !suffix.is_empty() && suffix.trim().is_empty())
        {
            value.decor_mut().set_suffix("");
        } else if at == last && suffix.is_none() {
            value.decor_mut().set_suffix(" ");
        }
    }
}

/// A comment behind the last item stays with it when another one follows.
fn keep_comment(items: &mut Array) -> Option<String> {
    let trailing = items.trailing().as_str()?.to_owned();
    let (comment, rest) = trailing.split_at(trailing.rfind('\n')?);
    if comment.trim().is_empty() {
        return None;
    }
    items.set_trailing(rest);
    Some(comment.to_owned())
}

/// The line break and the blanks before an item that stands on a line of its own.
fn indent_of(value: &Value) -> Option<String> {
    let prefix = value.decor().prefix()?.as_str()?;
    prefix.rfind('\n').map(|at| prefix[at..].to_owned())
}

/// What is one where a list is written is a list of one.
fn listed(new: &Json) -> Vec<Json> {
    match new {
        Json::Array(items) => items.clone(),
        one => vec![one.clone()],
    }
}

/// Whether a constant says this already.
fn means(value: &Value, new: &Json) -> bool {
    match (value, new) {
        (Value::String(text), Json::Null) => text.value() == NULL,
        (Value::String(text), Json::String(new)) => text.value() == new,
        (Value::Integer(number), Json::Number(new)) => {
            new.as_i64() == Some(*number.value()) || new.as_f64() == Some(*number.value() as f64)
        }
        (Value::Float(number), Json::Number(new)) => new.as_f64() == Some(*number.value()),
        (Value::Boolean(flag), Json::Bool(new)) => flag.value() == new,
        (Value::Datetime(time), Json::String(new)) => time.value().to_string() == *new,
        _ => false,
    }
}

/// A value that was not there.
pub(super) fn fresh(new: &Json) -> Value {
    match new {
        Json::Null => NULL.into(),
        Json::Bool(flag) => (*flag).into(),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => integer.into(),
            None => number.as_f64().unwrap_or_default().into(),
        },
        Json::String(text) => text.as_str().into(),
        Json::Array(items) => items.iter().map(fresh).collect::<Array>().into(),
        Json::Object(members) => {
            let members = members.iter().map(|(key, value)| (key.as_str(), fresh(value)));
            members.collect::<InlineTable>().into()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The text with `expect` of its first test set.
    fn updated(text: &str, new: &Json) -> String {
        let mut document: DocumentMut = text.parse().unwrap();
        let item = entry(document.get_mut("test").unwrap(), 0).unwrap().get_mut("expect").unwrap();
        patch(item, new);
        document.to_string()
    }

    #[test]
    fn only_what_differs_changes() {
        let text = "# Top.\n[[test]]\nname   = 'a'\nexpect = { id = 'x', \"total\"=1.0 , n = {a=1} } # why\n";
        assert_eq!(
            updated(text, &json!({"id": "y", "total": 1, "n": {"a": 1}})),
            "# Top.\n[[test]]\nname   = 'a'\nexpect = { id = \"y\", \"total\"=1.0 , n = {a=1} } # why\n"
        );
        assert_eq!(
            updated(text, &json!({"id": "x", "more": null})),
            "# Top.\n[[test]]\nname   = 'a'\nexpect = { id = 'x', more = \"{{ none }}\" } # why\n"
        );
    }

    #[test]
    fn tables_of_their_own_and_dotted_keys_stay_so() {
        let text = "[[test]]\nname = 'a'\n\n[test.expect]\n# The id.\nid = 1 # one\nbuyer.email = 'a'\nbuyer.name  = 'b'\ngone = 1\n\n[[test]]\nname = 'b'\n";
        assert_eq!(
            updated(text, &json!({"id": 2, "buyer": {"email": "c", "name": "b"}, "new": [1]})),
            "[[test]]\nname = 'a'\n\n[test.expect]\n# The id.\nid = 2 # one\nbuyer.email = \"c\"\nbuyer.name  = 'b'\nnew = [1]\n\n[[test]]\nname = 'b'\n"
        );
    }

    #[test]
    fn lists_grow_and_shrink_as_they_are_written() {
        let text = "[[test]]\nexpect = [\n    { a = 1 }, # first\n    { a = 2 }, # second\n]\n";
        assert_eq!(
            updated(text, &json!([{"a": 1}, {"a": 3, "b": 1}, {"a": 4}])),
            "[[test]]\nexpect = [\n    { a = 1 }, # first\n    { a = 3, b = 1 }, # second\n    { a = 4 },\n]\n"
        );
        assert_eq!(
            updated(text, &json!({"a": 1})),
            "[[test]]\nexpect = [\n    { a = 1 }, # second\n]\n"
        );
        assert_eq!(
            updated("[[test]]\nexpect = []\n", &json!([1, 2])),
            "[[test]]\nexpect = [1, 2]\n"
        );
    }

    #[test]
    fn another_kind_of_value_replaces_it() {
        assert_eq!(
            updated("[[test]]\nexpect = 200 # s\n", &json!({"a": 1})),
            "[[test]]\nexpect = { a = 1 } # s\n"
        );
    }
}
