//! A value as it is best written.

use toml_edit::{Array, Decor, InlineTable, Key, RawString, Value};

use super::order;
use crate::definition::table::Shape;

const INDENT: usize = 4;

/// Writes values, taking from the text what stays as it is.
#[derive(Clone, Copy)]
pub(super) struct Writer<'d> {
    pub text: &'d str,
}

impl Writer<'_> {
    /// The value on a line that is indented so far.
    pub fn value(self, value: &Value, shape: Option<Shape>, indent: usize) -> String {
        let as_written = || value.span().map_or("", |span| &self.text[span]).to_owned();
        match value {
            _ if self.has_comment(value) => as_written(),
            Value::String(_) => in_double_quotes(as_written()),
            Value::Array(array) => self.array(array, shape.map(order::item), indent),
            Value::InlineTable(table) => self.inline(table, shape, indent),
            _ => as_written(),
        }
    }

    /// Whether there is a comment within a list or an inline table.
    pub fn has_comment(self, value: &Value) -> bool {
        match value {
            Value::Array(array) => {
                self.is_comment(Some(array.trailing()))
                    || array
                        .iter()
                        .any(|item| self.decor_has(item.decor()) || self.has_comment(item))
            }
            Value::InlineTable(table) => self.table_has_comment(table),
            _ => false,
        }
    }

    /// Whether there is a comment within an inline table.
    pub fn table_has_comment(self, table: &InlineTable) -> bool {
        self.is_comment(Some(table.trailing()))
            || table.get_values().into_iter().any(|(path, value)| {
                path.iter().any(|key| self.decor_has(key.leaf_decor()))
                    || self.decor_has(value.decor())
                    || self.has_comment(value)
            })
    }

    fn decor_has(self, decor: &Decor) -> bool {
        self.is_comment(decor.prefix()) || self.is_comment(decor.suffix())
    }

    fn is_comment(self, raw: Option<&RawString>) -> bool {
        raw.and_then(RawString::span).is_some_and(|span| self.text[span].contains('#'))
    }

    /// On one line, or, where it was written over several, an item a line.
    fn array(self, array: &Array, shape: Option<Shape>, indent: usize) -> String {
        let breaks = |raw: Option<&RawString>| {
            raw.and_then(RawString::span).is_some_and(|span| self.text[span].contains('\n'))
        };
        let is_broken = breaks(Some(array.trailing()))
            || array
                .iter()
                .any(|item| breaks(item.decor().prefix()) || breaks(item.decor().suffix()));
        if !is_broken || array.is_empty() {
            let items: Vec<String> =
                array.iter().map(|item| self.value(item, shape, indent)).collect();
            return format!("[{}]", items.join(", "));
        }
        let inner = indent + INDENT;
        let mut out = String::from("[\n");
        for item in array {
            let item = self.value(item, shape, inner);
            out.push_str(&format!("{:inner$}{item},\n", ""));
        }
        out.push_str(&format!("{:indent$}]", ""));
        out
    }

    fn inline(self, table: &InlineTable, shape: Option<Shape>, indent: usize) -> String {
        let mut members: Vec<(usize, String)> = table
            .get_values()
            .into_iter()
            .map(|(path, value)| {
                let names: Vec<&str> = path.iter().map(|key| key.get()).collect();
                let of_value = order::descend(shape, names.iter().copied());
                let key = names.iter().map(|name| key_text(name)).collect::<Vec<_>>().join(".");
                let rank = names.first().map_or(usize::MAX, |name| order::rank(shape, name));
                (rank, format!("{key} = {}", self.value(value, of_value, indent)))
            })
            .collect();
        if members.is_empty() {
            return "{}".to_owned();
        }
        members.sort_by_key(|(rank, _)| *rank);
        let members: Vec<String> = members.into_iter().map(|(_, member)| member).collect();
        format!("{{ {} }}", members.join(", "))
    }
}

/// Text in single quotes needs them only where it has what double ones would want escaped.
fn in_double_quotes(written: String) -> String {
    let inner = written.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    match inner {
        Some(inner)
            if !inner.starts_with('\'')
                && !inner.contains(|c: char| c == '"' || c == '\\' || c.is_control()) =>
        {
            format!("\"{inner}\"")
        }
        _ => written,
    }
}

/// A key: bare where it may be.
pub(super) fn key_text(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(is_bare) {
        name.to_owned()
    } else {
        Key::new(name).display_repr().into_owned()
    }
}
