//! `[rollout]`: whether a connector runs by itself, or beside another one to try a change.

use super::{
    kinds::{Int, Name, Ratio, Span},
    table::{choice, table},
};

table! {
    /// Whether the connector runs, or tries a change of another one beside it.
    pub struct RolloutDef "[rollout]" {
        /// How it runs.
        mode "mode": ModeDef = "\"live\"";
        /// `shadow` and `canary`: the connector whose events it gets.
        of "of": Name;
        /// `canary`: how many of the keys it gets. A key never changes sides while the share stays.
        share "share": Ratio = "\"10%\"";
        /// `canary`: when it is stopped by itself, and what it held goes on through the original.
        halt "halt": HaltDef;
    }
}

table! {
    /// When a canary is stopped by itself: it does worse than its original over the same time.
    pub struct HaltDef "[rollout.halt]" {
        /// How much larger than the original's the share of failed attempts may be.
        failures "failures": Ratio = "\"5%\"";
        /// With `[slo]`: how many times as fast as the original it may spend the error budget.
        burn "burn": Int<1, 1000> = "2";
        /// Fewer events than this prove nothing.
        of "of": Int<1, 100_000> = "20";
        /// How far back is looked.
        within "within": Span = "\"10m\"";
    }
}

choice! {
    /// How a connector runs.
    pub enum ModeDef {
        /// It takes events in and delivers them.
        Live "live",
        /// It gets a copy of each of its original's events, maps and validates it, delivers nothing, and reports what differs.
        Shadow "shadow",
        /// It maps and delivers its share of its original's events.
        Canary "canary",
        /// It is loaded and checked, and does not run: its webhooks answer 404, its backlog waits.
        Off "off",
    }
}
