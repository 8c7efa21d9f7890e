//! What is wrong with a file, where, and the way out: rustc-like, for people and for machines.
//!
//! Every finding has a stable [`Code`] out of one table ([`CODES`]) and a page of its own in
//! `docs/errors/`. Messages say what was expected at this very place; none holds a secret's value.

use std::{fmt, ops::Range, path::PathBuf, sync::Arc};

pub(crate) mod codes;
mod render;
mod sarif;

pub use codes::{CODES, CodeInfo};
pub use render::{render_excerpt, render_human, to_github, to_json};
pub use sarif::to_sarif;

/// A file's text under the name that messages show.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// As the user would name it.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

/// Bytes of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The file.
    pub file: Arc<SourceFile>,
    /// Which bytes.
    pub range: Range<usize>,
}

impl Span {
    /// Line and column where it begins, both counted from 1, the column in characters.
    pub fn start(&self) -> (usize, usize) {
        position(&self.file.text, self.range.start)
    }

    /// Line and column just after its end, both counted from 1, the column in characters.
    pub fn end(&self) -> (usize, usize) {
        position(&self.file.text, self.range.end)
    }

    /// The range cut to the text and moved outward to character boundaries.
    pub(crate) fn clamped(&self) -> Range<usize> {
        let text = &self.file.text;
        let start = floor_boundary(text, self.range.start);
        let mut end = self.range.end.clamp(start, text.len());
        while !text.is_char_boundary(end) {
            end += 1;
        }
        start..end
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn position(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..floor_boundary(text, at)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The connector runs; something deserves to be known (an unset secret).
    Notice,
    /// The connector runs, but not as its author may think.
    Warning,
    /// The connector does not run.
    Error,
}

impl Severity {
    /// The word for it: `error`, `warning`, `notice`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable: `E0101`. Each has a page in `docs/errors/`.
    pub code: Code,
    /// How bad.
    pub severity: Severity,
    /// "unknown key `pth`"
    pub message: String,
    /// Where; a file that cannot be read has a span of its first byte.
    pub span: Span,
    /// Text under the caret: "expected one of `path`, `query`".
    pub label: String,
    /// Further places: "first defined here".
    pub related: Vec<(Span, String)>,
    /// The way out: "did you mean `path`?"
    pub help: Option<String>,
    /// Of a lint: its name under `[lints]`.
    pub lint: Option<&'static str>,
    /// Of a lint: why it is as bad as it is.
    pub note: Option<String>,
}

impl Diagnostic {
    /// A finding of the code's own severity, without help or further places.
    pub fn new(
        code: Code,
        span: Span,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> Self {
        Self {
            code,
            severity: code.info().severity,
            message: message.into(),
            span,
            label: label.into(),
            related: Vec::new(),
            help: None,
            lint: None,
            note: None,
        }
    }

    /// The same with a way out.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same with a further place.
    #[must_use]
    pub fn related(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related.push((span, label.into()));
        self
    }
}

/// A stable code, see the table in this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub &'static str);

impl Code {
    /// The code of that name, if there is one: for `--explain`.
    pub fn find(name: &str) -> Option<Self> {
        CODES.iter().find(|info| info.code.0.eq_ignore_ascii_case(name)).map(|info| info.code)
    }

    /// Its row in the table.
    pub fn info(self) -> &'static CodeInfo {
        // Codes are made in this module only; a row for each is checked by a test.
        CODES.iter().find(|info| info.code == self).unwrap_or(&CODES[0])
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// `1 event`, `2 events`: for things whose plural ends in an s.
pub fn counted(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// The name among `known` that `wrong` most probably was meant to be: the nearest by
/// Damerau-Levenshtein distance, if it is no further than a third of its length (at least 1).
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_lowercase();
    let reach = (wrong.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&wrong, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= reach)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let file =
            Arc::new(SourceFile { path: "a.toml".into(), text: "ä = 1\nbü = 2\n".to_owned() });
        let at = |range| Span { file: Arc::clone(&file), range };
        assert_eq!(at(0..2).start(), (1, 1));
        assert_eq!(at(0..2).end(), (1, 2));
        assert_eq!(at(7..7).start(), (2, 1));
        assert_eq!(at(10..99).end(), (3, 1));
        assert_eq!(at(1..1).clamped(), 0..2, "inside a character means all of it");
    }

    #[test]
    fn the_nearest_name_is_near() {
        assert_eq!(nearest("pth", ["path", "query"]), Some("path"));
        assert_eq!(nearest("qurey", ["path", "query"]), Some("query"));
        assert_eq!(nearest("timeouts", ["timeout", "retry"]), Some("timeout"));
        assert_eq!(nearest("zebra", ["path", "query"]), None);
    }

    #[test]
    fn every_code_has_one_row() {
        for pair in CODES.windows(2) {
            assert!(pair[0].code < pair[1].code, "{} and {}", pair[0].code, pair[1].code);
        }
        assert_eq!(Code::find("e0101"), Some(codes::SYNTAX));
    }
}
