//! `batch` of a destination: several events in one request.

use super::{
    kinds::{Expression, Int, Size, Span},
    table::table,
};

table! {
    /// How events are put together into one request. A batch holds events of one stream and one tenant.
    pub struct BatchDef "[destination.NAME.batch]" {
        /// Events at most.
        max "max": Int<1, 10_000> = "100";
        /// How long the first event of a batch waits for others.
        within "within": Span = "\"1s\"";
        /// Bytes at most, of the mapped records together; a larger event goes by itself.
        max_bytes "max_bytes": Size = "\"1MiB\"";
        /// The path from the answer's body to the results, where the API answers for each event.
        results "results": Expression;
        /// What a result and its event have in common: one expression that is applied to both. Without it the results stand in the order in which the events were sent.
        by "by": Expression;
        /// Which results say that the event was taken. A missing value is null.
        ok "ok": Expression;
    }
}
