//! `[slo]`: what the connector promises.

use super::{
    kinds::{Latency, Ratio, Span},
    table::table,
};

table! {
    /// What the connector promises.
    pub struct SloDef "[slo]" {
        /// The share of events that reach their destinations.
        success "success": Ratio;
        /// From accepted to delivered: a percentile and a bound, `p99 < 5s`.
        latency "latency": Latency;
        /// The time over which it is measured.
        window "window": Span = "\"30d\"";
    }
}
