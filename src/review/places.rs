//! Where things are written: every key of a connector's files by its path, with its line and value.
//!
//! Plans do not know their lines, and should not: this reads them from the text again.

use std::{collections::BTreeMap, ops::Range, path::PathBuf, sync::Arc};

use serde_json::Value;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    definition::collections::json_of,
    diagnostic::{SourceFile, Span},
};

/// A line of the file is shown up to so many characters.
const MAX_LINE_CHARS: usize = 160;

/// A line of a file that has to do with a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The key and, where it is on the same line, its value.
    pub span: Span,
    /// Whether the setting itself stands there; otherwise it is the table that it would stand in.
    pub is_exact: bool,
    /// The line's text without its indentation. Literal secrets are unreadable in it.
    pub text: String,
}

impl Spot {
    /// The file, as the user would name it.
    pub fn file(&self) -> &PathBuf {
        &self.span.file.path
    }

    /// Counted from 1.
    pub fn line(&self) -> usize {
        self.span.start().0
    }
}

struct Entry {
    key: Range<usize>,
    value: Range<usize>,
    /// The value, where it is no table and no list.
    leaf: Option<Value>,
}

/// One file's keys.
struct Page {
    file: Arc<SourceFile>,
    entries: BTreeMap<String, Entry>,
}

/// The files that a connector is written in: its own, then the one it uses.
pub(super) struct Places(Vec<Page>);

/// Top-level tables in which an instance's entries stand beside those of its base.
const MERGED: &[&str] = &["vars", "secrets"];
/// Top-level tables in which an instance's entries replace those of its base, name by name.
const REPLACED: &[&str] = &["auth", "destination"];

impl Places {
    pub fn of(texts: &[Arc<SourceFile>]) -> Self {
        let page = |file: &Arc<SourceFile>| {
            let mut entries = BTreeMap::new();
            let (document, _) = DeTable::parse_recoverable(&file.text);
            note_table("", document.get_ref(), &mut entries);
            Page { file: Arc::clone(file), entries }
        };
        Self(texts.iter().map(page).collect())
    }

    /// Where one of these paths is written, the first that is; otherwise the table that the first
    /// of them would stand in.
    pub fn find(&self, paths: &[String]) -> Option<Spot> {
        for path in paths {
            if let Some((page, entry)) = self.entry(path) {
                return Some(page.spot(entry, true));
            }
        }
        let mut path = paths.first()?.as_str();
        while let Some((parent, _)) = path.rsplit_once('.') {
            if let Some((page, entry)) = self.entry(parent) {
                return Some(page.spot(entry, false));
            }
            path = parent;
        }
        let page = self.0.first()?;
        let entry = page.entries.get("name")?;
        Some(page.spot(entry, false))
    }

    fn entry(&self, path: &str) -> Option<(&Page, &Entry)> {
        let mut parts = path.split('.');
        let (table, name) = (parts.next().unwrap_or_default(), parts.next());
        // Where the instance has a table of its own, the base's is not looked at.
        let whole = match name {
            _ if MERGED.contains(&table) => path.to_owned(),
            Some(name) if REPLACED.contains(&table) => format!("{table}.{name}"),
            _ => table.to_owned(),
        };
        let page = self.0.iter().find(|page| page.entries.contains_key(&whole))?;
        Some((page, page.entries.get(path)?))
    }

    /// Every value below a path, by its path from there; of the file that was named.
    pub fn facts(&self, path: &str) -> Vec<(String, String)> {
        self.0.first().map(|page| page.facts(path)).unwrap_or_default()
    }

    /// As [`Places::facts`], of whichever file has that path.
    pub fn facts_of(&self, path: &str) -> Vec<(String, String)> {
        self.entry(path).map(|(page, _)| page.facts(path)).unwrap_or_default()
    }

    /// As [`Places::facts`], of the file that has the streams.
    pub fn body_facts(&self, path: &str) -> Vec<(String, String)> {
        self.0.last().map(|page| page.facts(path)).unwrap_or_default()
    }

    /// A line of the named file, counted from 0; the last one where there are fewer.
    pub fn line(&self, number: usize) -> Option<Spot> {
        let page = self.0.first()?;
        let text = &page.file.text;
        let lines = text.split_inclusive('\n').count().max(1);
        let before = text.split_inclusive('\n').take(number.min(lines - 1));
        let start: usize = before.map(str::len).sum();
        let end = text[start..].find('\n').map_or(text.len(), |length| start + length);
        let line = Entry { key: start..end, value: start..start, leaf: None };
        Some(page.spot(&line, true))
    }
}

impl Page {
    fn facts(&self, path: &str) -> Vec<(String, String)> {
        let below = if path.is_empty() { String::new() } else { format!("{path}.") };
        self.entries
            .iter()
            .filter_map(|(key, entry)| {
                let rest = key.strip_prefix(&below)?;
                Some((rest.to_owned(), entry.leaf.as_ref()?.to_string()))
            })
            .collect()
    }

    fn spot(&self, entry: &Entry, is_exact: bool) -> Spot {
        let text = &self.file.text;
        let start = entry.key.start.min(text.len());
        let begin = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let line = text[begin..end].trim();
        let shown = match line.char_indices().nth(MAX_LINE_CHARS) {
            Some((at, _)) => format!("{}…", &line[..at]),
            None => line.to_owned(),
        };
        let on_line = entry.value.end > entry.key.end && entry.value.end <= end;
        let range = start..if on_line { entry.value.end } else { entry.key.end };
        Spot { span: Span { file: Arc::clone(&self.file), range }, is_exact, text: shown }
    }
}

fn note_table(path: &str, table: &DeTable<'_>, entries: &mut BTreeMap<String, Entry>) {
    for (key, node) in table {
        let path = match path {
            "" => key.get_ref().to_string(),
            _ => format!("{path}.{}", key.get_ref()),
        };
        note(path, key.span(), node, entries);
    }
}

fn note(
    path: String,
    key: Range<usize>,
    node: &Spanned<DeValue<'_>>,
    entries: &mut BTreeMap<String, Entry>,
) {
    let leaf = match node.get_ref() {
        DeValue::Table(table) => {
            note_table(&path, table, entries);
            None
        }
        DeValue::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                note(format!("{path}[{at}]"), item.span(), item, entries);
            }
            None
        }
        value => Some(json_of(value)),
    };
    entries.insert(path, Entry { key, value: node.span(), leaf });
}

/// How alike two sets of facts are: 1 for the same, 0 for nothing in common.
pub(super) fn likeness(one: &[(String, String)], other: &[(String, String)]) -> f64 {
    if one.is_empty() && other.is_empty() {
        return 1.0;
    }
    let common = one.iter().filter(|fact| other.contains(fact)).count();
    2.0 * common as f64 / (one.len() + other.len()) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(texts: &[&str]) -> Places {
        let file = |(at, text): (usize, &&str)| {
            let file = SourceFile { path: format!("{at}.toml").into(), text: (*text).to_owned() };
            Arc::new(file)
        };
        Places::of(&texts.iter().enumerate().map(file).collect::<Vec<_>>())
    }

    fn find(places: &Places, path: &str) -> (String, usize, String, bool) {
        let spot = places.find(&[path.to_owned()]).unwrap();
        let file = spot.file().display().to_string();
        (file, spot.line(), spot.text, spot.is_exact)
    }

    #[test]
    fn the_setting_or_the_table_it_would_stand_in() {
        let text =
            "name = \"a\"\n[stream.orders]\nkey = \"$.id\"\n  [stream.orders.map]\n  a.b = 1\n";
        let places = places(&[text]);
        assert_eq!(
            find(&places, "stream.orders.key"),
            ("0.toml".into(), 3, "key = \"$.id\"".into(), true)
        );
        assert_eq!(find(&places, "stream.orders.map.a.b").2, "a.b = 1");
        assert_eq!(
            find(&places, "stream.orders.poll.page"),
            ("0.toml".into(), 2, "[stream.orders]".into(), false)
        );
        assert_eq!(find(&places, "slo.window").2, "name = \"a\"");
        assert_eq!(
            places.facts("stream.orders"),
            [("key".to_owned(), "\"$.id\"".to_owned()), ("map.a.b".to_owned(), "1".to_owned())]
        );
    }

    #[test]
    fn an_instance_hides_what_it_replaces() {
        let own = "name = \"a\"\n[destination.x]\ntype = \"stdout\"\n[vars]\na = 1\n";
        let base =
            "name = \"b\"\n[destination.x]\norder = \"key\"\n[vars]\nb = 2\n[retry]\nto = \"1h\"\n";
        let places = places(&[own, base]);
        assert_eq!(find(&places, "vars.b").0, "1.toml");
        assert_eq!(find(&places, "retry.to").0, "1.toml");
        assert_eq!(find(&places, "destination.x.order").2, "[destination.x]");
        assert_eq!(find(&places, "destination.x.order").0, "0.toml");
    }
}
