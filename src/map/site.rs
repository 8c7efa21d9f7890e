//! What an expression may refer to where it stands, and what is said when it refers to something else.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use serde_json::Value;

use super::Tree;

/// What may be named at a place in the file: the table "names, each only where it exists" of the
/// language.
#[derive(Clone, Debug, Hash)]
pub struct Site {
    /// Names allowed at the root of a template: `["vars", "record", "with"]`.
    pub names: &'static [&'static str],
    /// Which of them `$` is: `"record"`, `"out"`; of `"response"` and `"request"` it is the `body`.
    /// `None` where a path is a load error.
    pub root: Option<&'static str>,
    /// `when` and `stop`: a missing value is null there.
    pub lenient: bool,
}

/// Named maps and lookups of one connector file, for the filters `apply` and `lookup`.
#[derive(Clone, Debug, Default)]
pub struct Library {
    /// `[map.NAME]`.
    pub maps: BTreeMap<String, Arc<Tree>>,
    /// `[lookup.NAME]`.
    pub lookups: BTreeMap<String, Arc<Lookup>>,
}

/// `[lookup.NAME]`.
#[derive(Clone, Debug, Default)]
pub struct Lookup {
    /// What each listed value becomes. Numbers and booleans are looked up as JSON prints them.
    pub entries: BTreeMap<String, Value>,
}

/// Something wrong with an expression, found at load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExprProblem {
    /// Bytes within the expression's text.
    pub range: Range<usize>,
    /// Stable kind: picks the diagnostic's code.
    pub kind: ExprProblemKind,
    /// ``unknown filter `decimel` ``
    pub message: String,
    /// ``did you mean `decimal`?``, where there is a way out.
    pub help: Option<String>,
}

/// The kinds of [`ExprProblem`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExprProblemKind {
    /// Not an RFC 9535 path, or one that is refused (nested filter).
    Path,
    /// Not a minijinja template.
    Template,
    /// A filter, test or function that does not exist or got wrong arguments.
    Filter,
    /// A name that does not exist at this place.
    Name,
    /// `lookup('x')` or `apply('x')` where there is no such table.
    Reference,
}

impl ExprProblem {
    pub(super) fn new(
        range: Range<usize>,
        kind: ExprProblemKind,
        message: impl Into<String>,
    ) -> Self {
        Self { range, kind, message: message.into(), help: None }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds ``did you mean `x`?`` where one of `known` is near enough to be meant.
    pub(super) fn nearest<'a>(
        self,
        word: &str,
        known: impl IntoIterator<Item = &'a str>,
        otherwise: Option<String>,
    ) -> Self {
        let allowed = (word.chars().count() / 3).max(1);
        let best = known
            .into_iter()
            .map(|name| (strsim::damerau_levenshtein(word, name), name))
            .filter(|(distance, _)| *distance <= allowed)
            .min();
        match (best, otherwise) {
            (Some((_, name)), _) => self.help(format!("did you mean `{name}`?")),
            (None, Some(text)) => self.help(text),
            (None, None) => self,
        }
    }
}
