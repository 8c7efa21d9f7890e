//! What is wrong with a file, where, and the way out: rustc-like, for people and for machines.

use std::{ops::Range, path::PathBuf, sync::Arc};

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
}

/// A stable code, see the table in this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub &'static str);
