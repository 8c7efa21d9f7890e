//! `cursor`: what has been read, so that the next run goes on from there.

use super::{
    collections::OneOrMany,
    kinds::{Expression, Moment, Plain, Span},
    table::{choice, table},
};

table! {
    /// A value that moves with what has been read.
    pub struct CursorDef "[stream.NAME.poll.cursor]" {
        /// The path within a record to the value. Without it the window itself is the cursor.
        field "field": Expression;
        /// How the value is written: `rfc3339`, `epoch_s`, `epoch_ms`, `integer`, `string`, or a strftime pattern. Of a list all are read, and the first is sent.
        format "format": OneOrMany<Plain> = "\"rfc3339\"";
        /// In which order the API answers: `asc` lets the cursor move page by page, `desc` ends a run at the cursor.
        sorted "sorted": SortedDef;
        /// Where the first run begins: a value, or how long ago (`-90d`).
        start "start": Moment;
        /// Where it ends: a value, or how long ago (`-2d`). Later records are dropped on this side.
        until "until": Moment;
        /// How far back the API remembers: nothing older is asked for.
        oldest "oldest": Span;
        /// The query parameter that takes the window's start.
        start_param "start_param": Plain;
        /// The query parameter that takes the window's end.
        end_param "end_param": Plain;
        /// The longest span asked for at once.
        window "window": Span;
        /// How far each run goes back behind the cursor.
        lookback "lookback": Span;
        /// Whether records before the cursor are dropped on this side.
        filter "filter": bool = "false";
    }
}

choice! {
    /// In which order the API answers.
    pub enum SortedDef {
        /// Oldest first.
        Asc "asc",
        /// Newest first.
        Desc "desc",
    }
}
