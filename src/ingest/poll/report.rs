//! How a run ended: what it did, and why it did no more.

use std::time::Duration;

/// What one run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PollReport {
    /// Requests sent, those that were sent again included.
    pub requests: u64,
    /// Pages whose records are durable.
    pub pages: u64,
    /// Raw items, before any filter.
    pub items: u64,
    /// Events that are new.
    pub accepted: u64,
    /// Events that were taken in before, by whichever way.
    pub duplicates: u64,
    /// `when` said no, or older than the cursor under `filter`.
    pub filtered: u64,
    /// Records without a key etc.: counted, logged, never silently dropped.
    pub unnamed: u64,
    /// Requests whose records were given up because a rule says so: counted, logged.
    pub skipped: u64,
    /// With `each`: partitions that were read, those that failed included.
    pub partitions: u64,
    /// Partitions that failed: their cursors stay where they were.
    pub failing: u64,
}

impl PollReport {
    /// What was counted since `before`, which this one goes on from.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            requests: self.requests - before.requests,
            pages: self.pages - before.pages,
            items: self.items - before.items,
            accepted: self.accepted - before.accepted,
            duplicates: self.duplicates - before.duplicates,
            filtered: self.filtered - before.filtered,
            unnamed: self.unnamed - before.unnamed,
            skipped: self.skipped - before.skipped,
            partitions: self.partitions.saturating_sub(before.partitions),
            failing: self.failing.saturating_sub(before.failing),
        }
    }

    /// Adds what another one counted.
    pub(super) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.pages += other.pages;
        self.items += other.items;
        self.accepted += other.accepted;
        self.duplicates += other.duplicates;
        self.filtered += other.filtered;
        self.unnamed += other.unnamed;
        self.skipped += other.skipped;
        self.partitions += other.partitions;
        self.failing += other.failing;
    }
}

/// Why a run ended before its end. The cursor stands where the last durable page left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PollFailure {
    /// Come back then (429, 5xx, network, bus full), not sooner.
    Later {
        /// What happened, one line, no secrets.
        message: String,
        /// How long to stay away, where the peer or the bus said so.
        retry_after: Option<Duration>,
    },
    /// 401 after a refresh, 403, `invalid_grant`, an unset secret: parked until a reload or resume,
    /// with an alert.
    Held(String),
    /// The API answered what the connector does not expect: a records path that is not there, a
    /// page that came twice, a 4xx.
    Failed(String),
}

impl PollFailure {
    /// What happened, one line, no secrets.
    pub fn message(&self) -> &str {
        match self {
            Self::Later { message, .. } | Self::Held(message) | Self::Failed(message) => message,
        }
    }
}
