//! Cursors, as the runtime sees them.

use std::time::Duration;

use crate::map::Expr;

/// `[stream.X.poll.cursor]`.
#[derive(Clone, Debug)]
pub struct CursorPlan {
    /// `None`: the window itself is the cursor.
    pub field: Option<Expr>,
    /// How values are written, and their JSON type.
    pub format: CursorFormat,
    /// How they may be written besides, in records. Of the same kind as `format`.
    pub also: Vec<CursorFormat>,
    /// Where the first run begins.
    pub start: Option<CursorStart>,
    /// Where it ends.
    pub until: Option<CursorStart>,
    /// How far back the API remembers.
    pub oldest: Option<Duration>,
    /// The query parameter that takes the window's start.
    pub start_param: Option<String>,
    /// The query parameter that takes the window's end.
    pub end_param: Option<String>,
    /// The longest span asked for at once.
    pub window: Option<Duration>,
    /// How far each run goes back behind the cursor.
    pub lookback: Option<Duration>,
    /// `sorted = "asc"`: moves page by page; otherwise when the window's last page is durable.
    pub sorted: Sorted,
    /// `filter = true`: records before the cursor are dropped on our side.
    pub filter: bool,
}

/// In which order the API answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sorted {
    /// In any.
    No,
    /// The oldest first.
    Ascending,
    /// The newest first: a run ends at the cursor.
    Descending,
}

/// How a cursor's values are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CursorFormat {
    /// `2026-11-20T12:00:00Z`, a string.
    Rfc3339,
    /// Seconds since 1970, a number.
    EpochSeconds,
    /// Milliseconds since 1970, a number.
    EpochMillis,
    /// A strftime pattern, read as UTC where it has no zone.
    Pattern(String),
    /// A number that is no time.
    Integer,
    /// Compared as text.
    Text,
}

/// Where the first run begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CursorStart {
    /// As written.
    Literal(String),
    /// `"-90d"`.
    Ago(Duration),
}
