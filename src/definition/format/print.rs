//! From the parts to the text: `=` and comments in columns, a blank line between tables.

use super::{
    gather::{Entry, File, Section, Trailing},
    value::key_text,
};

/// Between code and a comment behind it.
const COMMENT_GAP: usize = 2;

pub(super) fn print(file: &File) -> String {
    let mut out = String::new();
    lines(&mut out, &file.directives);
    let head = trimmed(&file.head);
    let has_own = file.sections.first().is_some_and(|own| !own.entries.is_empty());
    let is_blank = |line: Option<&String>| line.is_some_and(String::is_empty);
    let mut blank_is_due = !head.is_empty();
    if !file.directives.is_empty() && head.is_empty() {
        blank_is_due = !has_own || is_blank(file.head.last());
    } else if !file.directives.is_empty() && is_blank(file.head.first()) {
        out.push('\n');
    }
    lines(&mut out, head);
    for section in &file.sections {
        if section.names.is_empty() && section.entries.is_empty() && section.footer.is_empty() {
            continue;
        }
        if blank_is_due {
            out.push('\n');
        }
        print_section(&mut out, section);
        blank_is_due = true;
    }
    let tail = trimmed(&file.tail);
    if blank_is_due && !tail.is_empty() && !out.is_empty() {
        out.push('\n');
    }
    lines(&mut out, tail);
    out
}

fn lines(out: &mut String, lines: &[String]) {
    for line in lines {
        out.push_str(line);
        out.push('\n');
    }
}

/// Without blank lines at either end.
fn trimmed(lines: &[String]) -> &[String] {
    let begin = lines.iter().position(|line| !line.is_empty()).unwrap_or(lines.len());
    let end = lines.iter().rposition(|line| !line.is_empty()).map_or(begin, |last| last + 1);
    &lines[begin..end]
}

/// Without blank lines at the beginning.
fn from_text(lines: &[String]) -> &[String] {
    let begin = lines.iter().position(|line| !line.is_empty()).unwrap_or(lines.len());
    &lines[begin..]
}

fn print_section(out: &mut String, section: &Section) {
    if !section.names.is_empty() {
        lines(out, from_text(&section.leading));
        let names: Vec<String> = section.names.iter().map(|name| key_text(name)).collect();
        let names = names.join(".");
        let header = if section.is_item { format!("[[{names}]]") } else { format!("[{names}]") };
        with_comments(out, vec![(header, section.trailing.as_ref())], &[]);
    }
    let mut rest = section.entries.as_slice();
    let mut is_first = true;
    while let Some(first) = rest.first() {
        // Up to the next blank line keys share their columns.
        let length = 1 + rest[1..]
            .iter()
            .take_while(|entry| !entry.leading.iter().any(String::is_empty))
            .count();
        let (block, after) = rest.split_at(length);
        let leading = if is_first { from_text(&first.leading) } else { &first.leading };
        print_block(out, leading, block);
        is_first = false;
        rest = after;
    }
    lines(out, trimmed(&section.footer));
}

fn print_block(out: &mut String, leading: &[String], block: &[Entry]) {
    let width = block.iter().map(|entry| entry.key.chars().count()).max().unwrap_or(0);
    let code = block
        .iter()
        .map(|entry| (format!("{:width$} = {}", entry.key, entry.value), entry.trailing.as_ref()))
        .collect();
    let before: Vec<&[String]> = block
        .iter()
        .enumerate()
        .map(|(at, entry)| if at == 0 { leading } else { entry.leading.as_slice() })
        .collect();
    with_comments(out, code, &before);
}

/// Lines of code with the comments behind them. Comments that shared a column still do: theirs, or
/// one further right where a line has become too long for it.
fn with_comments(out: &mut String, code: Vec<(String, Option<&Trailing>)>, before: &[&[String]]) {
    let width = |code: &str| code.rsplit('\n').next().unwrap_or(code).chars().count();
    let column_of = |column: usize| {
        code.iter()
            .filter(|(_, comment)| comment.is_some_and(|comment| comment.column == column))
            .map(|(code, _)| width(code) + COMMENT_GAP)
            .max()
            .map_or(column, |needed| needed.max(column))
    };
    for (at, (code, comment)) in code.iter().enumerate() {
        lines(out, before.get(at).copied().unwrap_or_default());
        out.push_str(code);
        if let Some(comment) = comment {
            let gap = column_of(comment.column) - width(code);
            out.push_str(&format!("{:gap$}{}", "", comment.text));
        }
        out.push('\n');
    }
}
