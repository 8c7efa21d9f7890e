//! From text to TOML: syntax errors, and keys that are defined twice, with both places.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::table::{Finding, Loc, Reader};
use crate::diagnostic::{Code, codes};

/// Whether a finding is about the text itself.
pub fn is_syntax(code: Code) -> bool {
    code == codes::SYNTAX || code == codes::DUPLICATE_KEY
}

/// Where there are more, the file is no TOML at all, and the rest shows once these are mended.
const MAX_BROKEN_LINES: usize = 100;

/// Fewer, since finding the first of two definitions takes as long as reading the file.
const MAX_DUPLICATES: usize = 20;

/// Parses as much as there is. The findings say whether all of it was well.
pub fn parse<'i>(text: &'i str, reader: &mut Reader<'_>) -> Spanned<DeTable<'i>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut reported: Vec<Loc> = Vec::new();
    let (mut duplicates, mut broken_lines) = (0, 0);
    let mut broken_line = None;
    for error in errors {
        let range = error.span().unwrap_or(0..0);
        let at = reader.loc(range.clone());
        if error.message().starts_with("duplicate key")
            || error.message().starts_with("cannot extend value")
        {
            duplicates += 1;
            if duplicates > MAX_DUPLICATES {
                continue;
            }
            let first = first_definition(text, range.start).map(|range| reader.loc(range));
            // A table that is opened a second time repeats itself for each key; once is enough.
            if first.is_none_or(|first| !reported.contains(&first)) {
                reported.extend(first);
                reader.report(duplicate(text, at, first));
            }
        } else {
            // What follows on a broken line is a consequence.
            let line_start = text.get(..range.start).and_then(|before| before.rfind('\n'));
            if broken_line != Some(line_start) {
                broken_line = Some(line_start);
                broken_lines += 1;
                if broken_lines <= MAX_BROKEN_LINES {
                    reader.report(syntax_error(text, at, error.message()));
                }
            }
        }
    }
    document
}

fn duplicate(text: &str, at: Loc, first: Option<Loc>) -> Finding {
    let name = text.get(at.start as usize..at.end as usize).unwrap_or_default();
    let finding = Finding::new(
        codes::DUPLICATE_KEY,
        at,
        format!("`{name}` is defined twice"),
        "defined again here",
    )
    .help(
        "keep one of the two; a table is written either with dotted keys or under its own header",
    );
    match first {
        Some(first) => finding.related(first, "first defined here"),
        None => finding,
    }
}

fn syntax_error(text: &str, at: Loc, message: &str) -> Finding {
    let (headline, expected) = message.split_once(", expected ").unwrap_or((message, ""));
    let label = match expected {
        "" => String::new(),
        "literal string" => "expected text in quotes".to_owned(),
        expected => format!("expected {expected}"),
    };
    let line_start = text[..(at.start as usize).min(text.len())].rfind('\n').map_or(0, |n| n + 1);
    let line = text[line_start..].lines().next().unwrap_or_default();
    let help = if line.trim_start().starts_with(['{', '}'])
        || line.contains(": ") && !line.contains('=')
    {
        Some("TOML writes `key = value`, one a line")
    } else if headline.contains("must be quoted") {
        Some("text stands in quotes: key = \"value\"")
    } else if line.matches('"').count() % 2 == 1 {
        Some("strings end on the line they begin; longer ones stand in three quotes")
    } else {
        None
    };
    Finding::new(codes::SYNTAX, at, format!("not valid TOML: {headline}"), label)
        .maybe_help(help.map(str::to_owned))
}

/// Where the thing whose second definition stands at `second` was defined first: the deepest part
/// of its path that exists in the text before its line.
fn first_definition(text: &str, second: usize) -> Option<std::ops::Range<usize>> {
    let line_start = text.get(..second)?.rfind('\n').map_or(0, |newline| newline + 1);
    let line_end = text[second..].find('\n').map_or(text.len(), |length| second + length);
    let (before, line) = (&text[..line_start], &text[line_start..line_end]);
    let document = DeTable::parse_recoverable(before).0.into_inner();
    let mut path = Vec::new();
    if !line.trim_start().starts_with('[') {
        path = last_header(&document, before);
    }
    extend_path(&mut path, DeTable::parse_recoverable(line).0.get_ref());

    let mut table = &document;
    let mut found = None;
    for name in &path {
        let Some((key, node)) = table.get_key_value(name.as_str()) else { break };
        found = Some(key.span());
        match table_in(node) {
            Some(next) => table = next,
            None => break,
        }
    }
    found
}

/// The table that a node is, or the last one of the list of tables that it is.
fn table_in<'n, 'i>(node: &'n Spanned<DeValue<'i>>) -> Option<&'n DeTable<'i>> {
    match node.get_ref() {
        DeValue::Table(table) => Some(table),
        DeValue::Array(items) => match items.iter().last().map(Spanned::get_ref) {
            Some(DeValue::Table(table)) => Some(table),
            _ => None,
        },
        _ => None,
    }
}

/// The path of the table whose header stands last in `text`.
fn last_header(document: &DeTable<'_>, text: &str) -> Vec<String> {
    let mut last = (0, Vec::new());
    visit_headers(document, text, &mut Vec::new(), &mut last);
    last.1
}

fn visit_headers(
    table: &DeTable<'_>,
    text: &str,
    at: &mut Vec<String>,
    last: &mut (usize, Vec<String>),
) {
    for (key, node) in table {
        at.push(key.get_ref().to_string());
        let nodes = match node.get_ref() {
            DeValue::Array(items) => items.iter().collect(),
            _ => vec![node],
        };
        for node in nodes {
            let DeValue::Table(inner) = node.get_ref() else { continue };
            let start = node.span().start;
            if start >= last.0 && text[start..].starts_with('[') {
                *last = (start, at.clone());
            }
            visit_headers(inner, text, at, last);
        }
        at.pop();
    }
}

/// Adds the path that a single line defines.
fn extend_path(path: &mut Vec<String>, line: &DeTable<'_>) {
    let mut table = Some(line);
    while let Some((key, node)) = table.and_then(|table| table.iter().next()) {
        path.push(key.get_ref().to_string());
        table = table_in(node);
    }
}
