//! `[destination.NAME.breaker]`: when attempts stop because most of them fail.

use super::{
    kinds::{Int, Ratio, Span},
    table::table,
};

table! {
    /// When attempts stop because most of them fail, per tenant.
    pub struct BreakerDef "[destination.NAME.breaker]" {
        /// Whether there is one.
        enabled "enabled": bool = "true";
        /// It opens where at least this share of attempts fails ...
        failures "failures": Ratio = "\"50%\"";
        /// ... of at least so many ...
        of "of": Int<1, 100_000> = "20";
        /// ... within so long.
        within "within": Span = "\"30s\"";
        /// How long nothing is attempted then, and again whenever a probe fails.
        open "open": Span = "\"30s\"";
        /// So many attempts after it, of which none may fail.
        probes "probes": Int<1, 1000> = "3";
    }
}
