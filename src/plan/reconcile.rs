//! `[schedule.reconcile]`, as the runtime sees it.

use std::time::Duration;

use super::SchedulePlan;

/// What is read again beside a stream's poll, and when its webhooks are missing.
#[derive(Clone, Debug, Default)]
pub struct ReconcilePlan {
    /// Reads again what the poll has passed.
    pub again: Option<AgainPlan>,
    /// When the silence of webhooks is an alert; only of a stream that has webhooks.
    pub silence: Option<SilencePlan>,
}

/// A run beside the poll.
#[derive(Clone, Debug)]
pub struct AgainPlan {
    /// When it is due.
    pub schedule: SchedulePlan,
    /// How far back it reads.
    pub reach: Reach,
}

/// How far back a reconciliation reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// What has a cursor's value that is this old at the most.
    Window(Duration),
    /// Everything since the cursor's `start`, or at all.
    Full,
}

/// How long webhooks may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SilencePlan {
    /// Since a poll found an event while no webhook came.
    pub after: Duration,
    /// From one poll to the next meanwhile.
    pub faster: Option<Duration>,
}
