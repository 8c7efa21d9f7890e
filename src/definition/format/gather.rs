//! From the document to its parts: tables with their keys, each with the comments that stand at it.

use toml_edit::{Document, InlineTable, Item, Key, RawString, Table, Value};

use super::{
    order,
    value::{Writer, key_text},
};
use crate::definition::table::Shape;

/// From so many keys on a table stands under its own header, so that a diff shows the key that changed.
const SUB_TABLE_KEYS: usize = 4;

/// A file in house order.
#[derive(Debug, Default)]
pub(super) struct File {
    /// `#:schema ...`: what tools read, before all else.
    pub directives: Vec<String>,
    /// Comments about the file as a whole.
    pub head: Vec<String>,
    /// The tables, the file's own keys first.
    pub sections: Vec<Section>,
    /// Comments after everything.
    pub tail: Vec<String>,
}

/// A table: its header and its own keys.
#[derive(Debug, Default)]
pub(super) struct Section {
    /// The names in the header, none for the file's own keys.
    pub names: Vec<String>,
    /// Whether the header stands in two brackets.
    pub is_item: bool,
    /// Comment lines before the header; an empty one is a blank line.
    pub leading: Vec<String>,
    /// The comment behind the header.
    pub trailing: Option<Trailing>,
    /// The keys.
    pub entries: Vec<Entry>,
    /// Comment lines after the last key.
    pub footer: Vec<String>,
    /// Where the header stood among the headers; `None` where there was none.
    position: Option<isize>,
}

/// A key with its value.
#[derive(Debug)]
pub(super) struct Entry {
    /// Comment lines before it; an empty one is a blank line.
    pub leading: Vec<String>,
    /// The key as it is written, dots included.
    pub key: String,
    /// The value as it is written.
    pub value: String,
    /// The comment behind it.
    pub trailing: Option<Trailing>,
    rank: usize,
}

/// A comment behind something.
#[derive(Clone, Debug)]
pub(super) struct Trailing {
    /// From the `#` on.
    pub text: String,
    /// The column that it began in, from 0.
    pub column: usize,
}

pub(super) fn gather(document: &Document<&str>, shape: Shape) -> File {
    let gatherer = Gatherer { text: document.raw(), writer: Writer { text: document.raw() } };
    let mut sections = Vec::new();
    gatherer.table(document.as_table(), Place::root(shape), &mut sections);
    let mut file = File { sections, ..File::default() };
    take_head(&mut file);
    let mut tail = gatherer.lines(document.trailing());
    give_footers(&mut file, &mut tail);
    if file.sections.iter().all(|section| section.names.is_empty() && section.entries.is_empty()) {
        file.head.append(&mut tail);
    }
    file.tail = tail;
    file.directives = take_directives(&mut file);
    for section in &mut file.sections {
        section.entries.sort_by_key(|entry| entry.rank);
    }
    auth_follows_destination(document.as_table(), &mut file.sections);
    file
}

/// What tools read comes first, wherever it was written.
fn take_directives(file: &mut File) -> Vec<String> {
    let mut found = Vec::new();
    let of_sections = file.sections.iter_mut().flat_map(|section| {
        let entries = section.entries.iter_mut().map(|entry| &mut entry.leading);
        [&mut section.leading, &mut section.footer].into_iter().chain(entries)
    });
    for lines in [&mut file.head, &mut file.tail].into_iter().chain(of_sections) {
        found.extend(lines.extract_if(.., |line| line.starts_with("#:")));
        // What is left may be two blank lines in a row.
        lines.dedup_by(|one, other| one.is_empty() && other.is_empty());
    }
    found
}

/// The comment lines before the thing that stands first in the file.
fn first_leading(file: &mut File) -> Option<&mut Vec<String>> {
    let (root, rest) = file.sections.split_first_mut()?;
    match root.entries.first_mut() {
        Some(entry) => Some(&mut entry.leading),
        None => rest
            .iter_mut()
            .filter(|section| section.position.is_some())
            .min_by_key(|section| section.position)
            .map(|section| &mut section.leading),
    }
}

/// What stands at the top, a blank line before the first key, is about the file.
fn take_head(file: &mut File) {
    let mut head = Vec::new();
    if let Some(first) = first_leading(file)
        && let Some(blank) = first.iter().rposition(String::is_empty)
    {
        head = first.drain(..=blank).collect();
    }
    file.head = head;
}

/// A comment right behind a table's last key, a blank line before the next header, belongs to the
/// table that it follows.
fn give_footers(file: &mut File, tail: &mut Vec<String>) {
    let mut by_place: Vec<usize> = (0..file.sections.len())
        .filter(|at| file.sections[*at].position.is_some() || *at == 0)
        .collect();
    by_place.sort_by_key(|at| (*at > 0, file.sections[*at].position));
    for pair in by_place.windows(2) {
        let [before, after] = [pair[0], pair[1]];
        if before == 0 && file.sections[0].entries.is_empty() {
            continue;
        }
        let leading = &mut file.sections[after].leading;
        let footer = match leading.iter().position(String::is_empty) {
            Some(blank) => leading.drain(..blank).collect(),
            None => Vec::new(),
        };
        file.sections[before].footer = footer;
    }
    if let Some(last) = by_place.last()
        && (*last > 0 || !file.sections[0].entries.is_empty())
    {
        let end = tail.iter().position(String::is_empty).unwrap_or(tail.len());
        file.sections[*last].footer = tail.drain(..end).collect();
    }
}

/// Credentials that only a destination uses stand behind it.
fn auth_follows_destination(root: &Table, sections: &mut Vec<Section>) {
    let auth_of = |item: &Item| Some(item.get("auth")?.as_str()?.to_owned());
    let named = |table: &str| root.get(table).and_then(Item::as_table_like);
    let mut elsewhere: Vec<String> = root.get("source").and_then(auth_of).into_iter().collect();
    for (_, stream) in named("stream").into_iter().flat_map(|streams| streams.iter()) {
        elsewhere.extend(stream.get("poll").and_then(auth_of));
    }
    let users = named("destination").into_iter().flat_map(|all| all.iter());
    let mut done: Vec<String> = Vec::new();
    for (destination, item) in users {
        let Some(auth) = auth_of(item) else { continue };
        let ours = |section: &Section, table: &str, name: &str| {
            section.names.len() > 1 && section.names[0] == table && section.names[1] == name
        };
        if elsewhere.contains(&auth)
            || done.contains(&auth)
            || !sections.iter().any(|section| ours(section, "destination", destination))
        {
            continue;
        }
        let moved: Vec<Section> =
            sections.extract_if(.., |section| ours(section, "auth", &auth)).collect();
        let end = sections
            .iter()
            .rposition(|section| ours(section, "destination", destination))
            .map_or(sections.len(), |last| last + 1);
        sections.splice(end..end, moved);
        done.push(auth);
    }
}

/// Where a table stands.
#[derive(Clone)]
struct Place {
    names: Vec<String>,
    shape: Option<Shape>,
    is_item: bool,
}

impl Place {
    fn root(shape: Shape) -> Self {
        Self { names: Vec::new(), shape: Some(shape), is_item: false }
    }

    fn child(&self, name: &str) -> Self {
        let mut names = self.names.clone();
        names.push(name.to_owned());
        let shape = self.shape.and_then(|shape| order::child(shape, name));
        Self { names, shape, is_item: false }
    }
}

struct Gatherer<'d> {
    text: &'d str,
    writer: Writer<'d>,
}

impl Gatherer<'_> {
    /// The table and all below it, in house order.
    fn table(&self, table: &Table, place: Place, sections: &mut Vec<Section>) {
        let mut own = Section {
            names: place.names.clone(),
            is_item: place.is_item,
            leading: table.decor().prefix().map_or_else(Vec::new, |raw| self.lines(raw)),
            trailing: table.decor().suffix().and_then(|raw| self.trailing(raw)),
            entries: Vec::new(),
            footer: Vec::new(),
            position: table.position(),
        };
        let mut below = Vec::new();
        self.members(table, &place, &mut Vec::new(), &mut own, &mut below);
        let is_written = !table.is_implicit() && !table.is_dotted();
        if place.names.is_empty() || is_written || !own.entries.is_empty() {
            sections.push(own);
        }
        below.sort_by_key(|(rank, _)| *rank);
        sections.extend(below.into_iter().flat_map(|(_, below)| below));
    }

    /// The keys of a table, and what is below it. `dotted` leads from the table to the one at hand.
    fn members<'t>(
        &self,
        table: &'t Table,
        place: &Place,
        dotted: &mut Vec<&'t Key>,
        own: &mut Section,
        below: &mut Vec<(usize, Vec<Section>)>,
    ) {
        let outer = dotted.iter().fold(place.clone(), |place, key| place.child(key.get()));
        for (name, item) in table {
            let Some(key) = table.key(name) else { continue };
            let rank = order::rank(place.shape, dotted.first().map_or(name, |first| first.get()));
            match item {
                Item::None => {}
                Item::Table(inner) if inner.is_dotted() => {
                    dotted.push(key);
                    self.members(inner, place, dotted, own, below);
                    dotted.pop();
                }
                Item::Table(inner) => {
                    let mut found = Vec::new();
                    self.table(inner, outer.child(name), &mut found);
                    below.push((rank, found));
                }
                Item::ArrayOfTables(items) => {
                    let mut found = Vec::new();
                    for inner in items {
                        let place = Place { is_item: true, ..outer.child(name) };
                        self.table(inner, place, &mut found);
                    }
                    below.push((rank, found));
                }
                Item::Value(value) => {
                    let leading =
                        key.leaf_decor().prefix().map_or_else(Vec::new, |raw| self.lines(raw));
                    let trailing = value.decor().suffix().and_then(|raw| self.trailing(raw));
                    match value {
                        Value::InlineTable(inner)
                            if self.is_large(inner)
                                && dotted.is_empty()
                                && !order::is_authors(place.shape) =>
                        {
                            let mut found = Vec::new();
                            self.promoted(inner, outer.child(name), &mut found);
                            // On a line of its own the old column means nothing.
                            let trailing = trailing.map(|one| Trailing { column: 0, ..one });
                            if let Some(first) = found.first_mut() {
                                (first.leading, first.trailing) = (leading, trailing);
                            }
                            below.push((rank, found));
                        }
                        _ => {
                            dotted.push(key);
                            let at = own.entries.len();
                            self.entry(dotted, value, place.shape, rank, &mut own.entries);
                            dotted.pop();
                            if let Some(first) = own.entries.get_mut(at) {
                                (first.leading, first.trailing) = (leading, trailing);
                            }
                        }
                    }
                }
            }
        }
    }

    /// A key with its value, or, where the value is a large table whose order is the author's, a
    /// dotted key for each of its keys.
    fn entry(
        &self,
        path: &[&Key],
        value: &Value,
        shape: Option<Shape>,
        rank: usize,
        entries: &mut Vec<Entry>,
    ) {
        if let Value::InlineTable(inner) = value
            && self.is_large(inner)
            && order::is_authors(shape)
        {
            for (more, value) in inner.get_values() {
                let path: Vec<&Key> = path.iter().copied().chain(more).collect();
                self.entry(&path, value, shape, rank, entries);
            }
            return;
        }
        let names: Vec<&str> = path.iter().map(|key| key.get()).collect();
        let shape = order::descend(shape, names.iter().copied());
        entries.push(Entry {
            leading: Vec::new(),
            key: names.iter().map(|name| key_text(name)).collect::<Vec<_>>().join("."),
            value: self.writer.value(value, shape, 0),
            trailing: None,
            rank,
        });
    }

    /// An inline table under a header of its own.
    fn promoted(&self, table: &InlineTable, place: Place, sections: &mut Vec<Section>) {
        let mut own = Section { names: place.names.clone(), ..Section::default() };
        let mut below = Vec::new();
        for (path, value) in table.get_values() {
            let rank = path.first().map_or(usize::MAX, |key| order::rank(place.shape, key.get()));
            match value {
                Value::InlineTable(inner)
                    if path.len() == 1
                        && self.is_large(inner)
                        && !order::is_authors(place.shape) =>
                {
                    let mut found = Vec::new();
                    self.promoted(inner, place.child(path[0].get()), &mut found);
                    below.push((rank, found));
                }
                _ => self.entry(&path, value, place.shape, rank, &mut own.entries),
            }
        }
        sections.push(own);
        below.sort_by_key(|(rank, _)| *rank);
        sections.extend(below.into_iter().flat_map(|(_, below)| below));
    }

    /// Whether an inline table has grown too large for a line, or holds one that has. One with
    /// comments inside stays as it is written.
    fn is_large(&self, table: &InlineTable) -> bool {
        let values = table.get_values();
        let has_large =
            |value: &Value| value.as_inline_table().is_some_and(|inner| self.is_large(inner));
        !self.writer.table_has_comment(table)
            && (values.len() >= SUB_TABLE_KEYS || values.iter().any(|(_, value)| has_large(value)))
    }

    fn raw(&self, raw: &RawString) -> (&str, usize) {
        match raw.span() {
            Some(span) => (&self.text[span.clone()], span.start),
            None => ("", 0),
        }
    }

    /// Comment lines and, as empty ones, the blank lines between them; never two of those in a row.
    fn lines(&self, raw: &RawString) -> Vec<String> {
        let (text, _) = self.raw(raw);
        let mut lines: Vec<String> = Vec::new();
        // What comes after the last line break is the indentation of what follows.
        let complete = text.rfind('\n').map_or(text.trim(), |end| &text[..end]);
        let has_lines = text.contains('\n') || !complete.is_empty();
        for line in complete.split('\n').filter(|_| has_lines).map(str::trim) {
            if !line.is_empty() || lines.last().is_none_or(|last| !last.is_empty()) {
                lines.push(line.to_owned());
            }
        }
        let rest = text.rfind('\n').map_or("", |end| text[end..].trim());
        if !rest.is_empty() {
            lines.push(rest.to_owned());
        }
        lines
    }

    /// The comment behind a value or a header.
    fn trailing(&self, raw: &RawString) -> Option<Trailing> {
        let (text, start) = self.raw(raw);
        let at = text.find('#')?;
        let line = self.text[..start + at].rfind('\n').map_or(0, |newline| newline + 1);
        let column = self.text[line..start + at].chars().count();
        Some(Trailing { text: text[at..].trim_end().to_owned(), column })
    }
}
