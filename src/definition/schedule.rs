//! `[schedule]`: when polls run.

use super::{
    kinds::{JitterDef, Plain, Span},
    reconcile::ReconcileDef,
    table::table,
};

table! {
    /// When polls run: `every`, or `cron` with `tz`.
    pub struct ScheduleDef "[schedule]" {
        /// From the start of a run to the start of the next.
        every "every": Span;
        /// A cron pattern of five fields, or six with seconds first.
        cron "cron": Plain;
        /// The time zone of `cron`.
        tz "tz": Plain = "\"UTC\"";
        /// How far runs are spread: a share of the interval, or a time.
        jitter "jitter": JitterDef = "\"10%\"";
        /// What is read again beside the poll, and when missing webhooks are an alert.
        reconcile "reconcile": ReconcileDef;
    }
}
