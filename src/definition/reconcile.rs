//! `[schedule.reconcile]`: what is read again although the poll has passed it, and how long webhooks
//! may be missing.

use super::{
    kinds::{JitterDef, Plain, Reach, Span},
    table::table,
};

table! {
    /// What is read again beside the poll, and when missing webhooks are an alert.
    pub struct ReconcileDef "[schedule.reconcile]" {
        /// From the start of a reconciliation to the start of the next.
        every "every": Span;
        /// A cron pattern of five fields, or six with seconds first.
        cron "cron": Plain;
        /// The time zone of `cron`.
        tz "tz": Plain = "\"UTC\"";
        /// How far reconciliations are spread: a share of the interval, or a time.
        jitter "jitter": JitterDef = "\"10%\"";
        /// How far back it reads: a time, or `full` for all since the cursor's `start`.
        window "window": Reach;
        /// Webhooks are missing, and an alert is raised, once this has passed since a poll found an event while no webhook came.
        silence "silence": Span;
        /// From the start of a poll to the start of the next while webhooks are missing.
        faster "faster": Span;
    }
}
