//! `[retry]`: how failed deliveries are repeated.

use super::{
    kinds::{Int, Span},
    table::table,
};

table! {
    /// How failed deliveries are repeated: with full jitter, within bounds.
    pub struct RetryDef "[retry]" {
        /// Attempts at most, the first one included.
        attempts "attempts": Int<1, 1000> = "12";
        /// The first wait.
        from "from": Span = "\"1s\"";
        /// The longest wait.
        to "to": Span = "\"1h\"";
        /// How long after the first attempt it is given up.
        within "within": Span = "\"24h\"";
    }
}
