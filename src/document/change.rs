//! `[[change]]`: the changelog, and since when a field is there.
//!
//! Since when is told by the changelog alone, and only by what it says: an entry that names the field
//! (`customer.email`), or an object that the field is part of. What no entry names was there before
//! the changelog began, as far as anybody wrote down; it gets no version, since any would be a guess.

use std::cmp::Reverse;

use super::{
    Subject,
    block::{Block, Line},
    shown,
};
use crate::definition::{
    change::{ChangeDef, ChangeKind},
    connector::ConnectorDef,
    version::Precedence,
};

/// The order of Keep a Changelog.
const KINDS: &[(ChangeKind, &str)] = &[
    (ChangeKind::Added, "Added"),
    (ChangeKind::Changed, "Changed"),
    (ChangeKind::Deprecated, "Deprecated"),
    (ChangeKind::Removed, "Removed"),
    (ChangeKind::Fixed, "Fixed"),
    (ChangeKind::Security, "Security"),
];

/// An entry.
#[derive(Clone, Copy)]
struct Entry<'d> {
    version: &'d str,
    date: &'d str,
    kind: ChangeKind,
    note: &'d str,
}

fn entries(def: &ConnectorDef) -> Vec<Entry<'_>> {
    let all = def.change.value().into_iter().flatten();
    all.filter_map(|change| entry(&change.value)).collect()
}

fn entry(def: &ChangeDef) -> Option<Entry<'_>> {
    Some(Entry {
        version: &def.version.value()?.0,
        date: &def.date.value()?.0,
        kind: *def.kind.value()?,
        note: &def.note.value()?.0,
    })
}

/// The changelog of one connector, newest first, headings from `level` on. Empty where there is none,
/// or nothing newer than `since`.
pub fn changelog(subject: &Subject<'_>, level: u8, since: Option<&str>) -> Vec<Block> {
    let mut blocks = versions(&subject.written.own, level, since);
    if let Some(base) = &subject.written.base {
        let inherited = versions(base, level + 1, since);
        if !inherited.is_empty() {
            let file = subject.files.get(1).cloned().unwrap_or_default();
            let name = base.name.value().map_or("", |name| name.0.as_str());
            let line = Line::from("Of ")
                .code(name)
                .text(", which it is an instance of (")
                .code(file)
                .text(")");
            blocks.push(Block::Heading(level, line));
            blocks.extend(inherited);
        }
    }
    blocks
}

fn versions(def: &ConnectorDef, level: u8, since: Option<&str>) -> Vec<Block> {
    let entries = entries(def);
    let mut names: Vec<&str> = entries.iter().map(|entry| entry.version).collect();
    names.retain(|version| {
        since.is_none_or(|since| Precedence::of(version) > Precedence::of(since))
    });
    names.sort_by_cached_key(|version| Reverse(Precedence::of(version)));
    names.dedup();
    let mut blocks = Vec::new();
    for version in names {
        let of_version: Vec<&Entry<'_>> = entries.iter().filter(|e| e.version == version).collect();
        let date = of_version.iter().map(|entry| entry.date).max().unwrap_or_default();
        blocks.push(Block::heading(level, format!("{version} – {date}")));
        for (kind, word) in KINDS {
            let notes = of_version.iter().filter(|entry| entry.kind == *kind);
            let notes: Vec<Line> = notes.map(|entry| Line::new().prose(entry.note)).collect();
            if !notes.is_empty() {
                blocks.push(Block::heading(level + 1, *word));
                blocks.push(Block::List(notes));
            }
        }
    }
    blocks
}

/// The changelogs of several connectors as one document. With one, it is its own.
pub fn changelog_of_all(subjects: &[Subject<'_>], since: Option<&str>) -> Vec<Block> {
    let one = subjects.len() == 1;
    let mut blocks = Vec::new();
    for subject in subjects {
        let level = if one { 2 } else { 3 };
        let entries = changelog(subject, level, since);
        if entries.is_empty() {
            continue;
        }
        let name = &subject.plan.name;
        blocks.push(if one {
            Block::heading(1, format!("Changelog of {name}"))
        } else {
            Block::heading(2, name.to_string())
        });
        blocks.extend(entries);
    }
    if !one && !blocks.is_empty() {
        blocks.insert(0, Block::heading(1, "Changelog"));
    }
    shown::scrubbed(blocks)
}

/// Since when a field of a stream is there: `2.1.0`, `2.1.0, changed in 2.3.0`; empty where the
/// changelog does not name it.
pub(super) fn since(subject: &Subject<'_>, stream: &str, field: &str) -> String {
    let mut entries = entries(subject.written.body());
    entries.sort_by_cached_key(|entry| Precedence::of(entry.version));
    let field = plain(field);
    let names = |entry: &&Entry<'_>| names_field(entry.note, stream, &field);
    let about: Vec<&Entry<'_>> = entries.iter().filter(names).collect();
    // What went and came again is there since it came again.
    let begin =
        about.iter().rposition(|entry| entry.kind == ChangeKind::Removed).map_or(0, |at| at + 1);
    let about = &about[begin..];
    let added = about.iter().find(|entry| entry.kind == ChangeKind::Added).map(|e| e.version);
    let later = about.iter().filter_map(|entry| {
        let verb = match entry.kind {
            ChangeKind::Changed | ChangeKind::Fixed | ChangeKind::Security => "changed in",
            ChangeKind::Deprecated => "deprecated in",
            ChangeKind::Added | ChangeKind::Removed => return None,
        };
        Some(format!("{verb} {}", entry.version))
    });
    let mut told: Vec<String> = added.map(str::to_owned).into_iter().chain(later).collect();
    told.dedup();
    told.join(", ")
}

/// `lines[].sku` as changelogs name it: `lines.sku`.
fn plain(field: &str) -> String {
    field.replace("[]", "")
}

/// Whether a note names the field, or an object that it is in.
fn names_field(note: &str, stream: &str, field: &str) -> bool {
    named(note).iter().any(|name| {
        let name = plain(name.trim_end_matches(".*"));
        let name = name.strip_prefix(&format!("{stream}.")).unwrap_or(&name);
        field.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// The names in a note. A single word of prose is none: `number` in "a number of fixes" is no field.
/// What counts: anything in backticks or quotes, anything with a dot or underscore inside, and a note
/// that is nothing but names.
fn named(note: &str) -> Vec<String> {
    let is_name = |word: &str| {
        !word.is_empty()
            && word
                .chars()
                .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '[' | ']' | '*'))
    };
    let bare = |word: &str| {
        word.trim_matches(|c: char| matches!(c, ',' | ';' | ':' | '.' | '(' | ')')).to_owned()
    };
    let list: Vec<String> = note
        .split([',', ';'])
        .flat_map(|part| part.split(" and "))
        .map(|part| bare(part.trim()))
        .collect();
    if list.iter().all(|word| is_name(word)) {
        return list;
    }
    let mut names: Vec<String> = Vec::new();
    for quote in ['`', '\'', '"'] {
        names.extend(
            note.split(quote).skip(1).step_by(2).filter(|word| is_name(word)).map(str::to_owned),
        );
    }
    let telling = |word: &String| {
        is_name(word) && word.contains(['.', '_']) && !word.ends_with(char::is_numeric)
    };
    names.extend(note.split_whitespace().map(bare).filter(telling));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_name_fields_where_they_mean_to() {
        for (note, field, expected) in [
            ("customer.email", "customer.email", true),
            ("customer", "customer.email", true),
            ("customer.email and lines.sku", "lines[].sku", true),
            ("orders.total", "total", true),
            ("The field `total` has two decimals", "total", true),
            ("placed_at is in UTC now.", "placed_at", true),
            ("lines[].sku", "lines[].sku", true),
            ("a number of fixes", "number", false),
            ("customer.email", "customer", false),
            ("customer.email", "customer.emails", false),
            ("works with API 2025.10", "2025", false),
        ] {
            assert_eq!(names_field(note, "orders", &plain(field)), expected, "{note}: {field}");
        }
    }
}
