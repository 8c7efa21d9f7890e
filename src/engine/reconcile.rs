//! Reconciliations: what the poll has passed is read again when it is due, beside the live poll.
//!
//! One stream has one at a time. It is durable from its beginning: after a restart it goes on where it
//! was, and a failure for the source's passing reasons is waited out. One that cannot go on is left,
//! and the next begins when it is due. Its requests spend the source's own rate.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::polls::backoff;
use crate::{
    ingest::poll::{
        Pass, PollFailure, PollReport, Poller, Range, next_run, reconciliation,
        reconciliation_range, reconciliation_rest,
    },
    observe::{Outcome as Counted, StreamMetrics},
    plan::AgainPlan,
    world::Timestamp,
};

/// A reconciliation as it is stored, JSON under `reconciles/<connector>/<stream>`, and as it is shown.
/// Fields are only ever added, with defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReconcileStatus {
    /// When it was first planned: the first interval counts from there.
    #[serde(default)]
    pub planned_at: Timestamp,
    /// `waiting` (never ran), `running`, `done`, `failed`.
    #[serde(default)]
    pub state: String,
    /// When it began, the last one where none runs.
    #[serde(default)]
    pub began_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
    /// What it reads.
    #[serde(default)]
    pub range: Range,
    /// Why it failed, or what it is waiting out.
    #[serde(default)]
    pub problem: Option<String>,
    /// It goes on then, where it waits something out.
    #[serde(default)]
    pub not_before: Option<Timestamp>,
    /// Requests so far.
    #[serde(default)]
    pub requests: u64,
    /// Records so far.
    #[serde(default)]
    pub read: u64,
    /// Events that were known.
    #[serde(default)]
    pub known: u64,
    /// Events that neither a webhook nor the poll had brought.
    #[serde(default)]
    pub found: u64,
    /// When the next one is due. Not stored.
    #[serde(default)]
    pub next: Option<Timestamp>,
}

impl ReconcileStatus {
    fn is_running(&self) -> bool {
        self.state == "running"
    }

    /// The same with what one run did on top of what was done before it.
    fn with(&self, report: &PollReport) -> Self {
        Self {
            requests: self.requests + report.requests,
            read: self.read + report.items,
            known: self.known + report.duplicates,
            found: self.found + report.accepted,
            ..self.clone()
        }
    }
}

/// The reconciliations of one stream.
pub struct ReconcileRuntime {
    live: Poller,
    plan: AgainPlan,
    metrics: Arc<StreamMetrics>,
    view: Mutex<ReconcileStatus>,
}

impl ReconcileRuntime {
    /// Beside the poll that `live` runs.
    pub fn new(live: Poller, plan: AgainPlan, metrics: Arc<StreamMetrics>) -> Self {
        Self { live, plan, metrics, view: Mutex::default() }
    }

    /// Which stream's.
    pub fn stream(&self) -> &str {
        &self.live.stream.name
    }

    /// How it stands.
    pub fn view(&self) -> ReconcileStatus {
        self.view.lock().clone()
    }

    /// Runs whenever one is due, until `stop`. One in hand is dropped then: what it has appended is
    /// durable together with its place.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.forever() => {}
        }
    }

    async fn forever(&self) {
        let clock = &self.live.world.clock;
        let mut status = self.left_off().await;
        let mut failures = 0;
        loop {
            let due = self.due(&status);
            *self.view.lock() = ReconcileStatus { next: Some(due), ..status.clone() };
            clock.sleep_until(due).await;
            if !status.is_running() {
                status = self.set_out(status).await;
            }
            if status.is_running() {
                // Boxed: one that waits for its time is small, a run is not.
                Box::pin(self.go_on(&mut status, &mut failures)).await;
            }
        }
    }

    /// What was stored; a stream that is new has its first one an interval from now.
    async fn left_off(&self) -> ReconcileStatus {
        let stored = self.live.bus.state(&self.key());
        if let Some(status) = stored.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            return status;
        }
        let status = ReconcileStatus {
            planned_at: self.live.world.clock.now(),
            state: "waiting".to_owned(),
            ..ReconcileStatus::default()
        };
        self.store(&status).await;
        status
    }

    fn due(&self, status: &ReconcileStatus) -> Timestamp {
        let now = self.live.world.clock.now();
        if status.is_running() {
            return status.not_before.unwrap_or(now);
        }
        let last = status.began_at.unwrap_or(status.planned_at);
        next_run(&self.plan.schedule, Some(last), now, self.live.world.entropy.fraction())
    }

    /// A new one, if there is something to read again.
    async fn set_out(&self, before: ReconcileStatus) -> ReconcileStatus {
        let now = self.live.world.clock.now();
        let range = reconciliation_range(&self.live, self.plan.reach, now);
        let mut status = ReconcileStatus {
            planned_at: before.planned_at,
            state: "running".to_owned(),
            began_at: Some(now),
            range: range.clone().unwrap_or_default(),
            ..ReconcileStatus::default()
        };
        if range.is_none() {
            "done".clone_into(&mut status.state);
            status.ended_at = Some(now);
            self.metrics.reconciled.done.fetch_add(1, Relaxed);
            self.log(&status);
        } else if let Err(problem) = self.clear(&status.range).await {
            // With the place of another range it would begin behind its own beginning.
            "failed".clone_into(&mut status.state);
            status.problem = Some(problem);
            status.ended_at = Some(now);
            self.metrics.reconciled.failed.fetch_add(1, Relaxed);
            self.log(&status);
        }
        self.store(&status).await;
        status
    }

    /// After a pause the range may reach further back than claims last.
    async fn leave_out_the_old(&self, status: &mut ReconcileStatus) -> Result<(), String> {
        let now = self.live.world.clock.now();
        let rest = reconciliation_rest(&self.live, self.plan.reach, &status.range, now);
        let Some((range, is_behind)) = rest else { return Ok(()) };
        if is_behind {
            self.clear(&status.range).await?;
        }
        status.range = range;
        self.store(status).await;
        Ok(())
    }

    /// Forgets how far one came.
    async fn clear(&self, range: &Range) -> Result<(), String> {
        let now = self.live.world.clock.now();
        let (_, aside) = reconciliation(&self.live, range, now)?;
        aside.clear().await.map_err(|error| error.to_string())
    }

    /// Reads on until the range is read, or until something keeps it from that.
    async fn go_on(&self, status: &mut ReconcileStatus, failures: &mut u32) {
        let clock = &self.live.world.clock;
        if let Err(problem) = self.leave_out_the_old(status).await {
            tracing::warn!(reconcile = self.key(), problem, "the reconciliation waits");
            *failures += 1;
            let wait = backoff(*failures, self.live.world.entropy.fraction(), None);
            status.not_before = Some(clock.now().plus(wait));
            return;
        }
        let before = ReconcileStatus { not_before: None, ..status.clone() };
        *self.view.lock() = before.clone();
        // As pages become durable: one that is interrupted has counted what it did.
        let counted = Mutex::new(PollReport::default());
        let shown = |so_far: &PollReport| {
            let more = so_far.since(&std::mem::replace(&mut *counted.lock(), so_far.clone()));
            self.count(&more);
            *self.view.lock() = before.with(so_far);
        };
        let ended = match reconciliation(&self.live, &status.range, clock.now()) {
            Ok((poller, _)) => poller.run_as(Pass::Again, &shown).await,
            Err(problem) => Err((PollReport::default(), PollFailure::Failed(problem))),
        };
        let (report, failure) = match ended {
            Ok(report) => (report, None),
            Err((report, failure)) => (report, Some(failure)),
        };
        shown(&report);
        *failures = if report.pages > 0 { 0 } else { *failures + 1 };
        *status = before.with(&report);
        match failure {
            None => {
                "done".clone_into(&mut status.state);
                status.problem = None;
                self.metrics.reconciled.done.fetch_add(1, Relaxed);
            }
            Some(PollFailure::Later { message, retry_after }) => {
                let wait = backoff(*failures, self.live.world.entropy.fraction(), retry_after);
                status.problem = Some(message);
                status.not_before = Some(clock.now().plus(wait));
            }
            Some(PollFailure::Held(message) | PollFailure::Failed(message)) => {
                "failed".clone_into(&mut status.state);
                status.problem = Some(message);
                self.metrics.reconciled.failed.fetch_add(1, Relaxed);
            }
        }
        if !status.is_running() {
            *failures = 0;
            status.ended_at = Some(clock.now());
            if let Err(problem) = self.clear(&status.range).await {
                tracing::warn!(
                    reconcile = self.key(),
                    problem,
                    "the reconciliation left its state"
                );
            }
        }
        self.log(status);
        self.store(status).await;
    }

    fn count(&self, report: &PollReport) {
        let counted = &self.metrics.reconciled;
        counted.read.fetch_add(report.items, Relaxed);
        counted.known.fetch_add(report.duplicates, Relaxed);
        counted.found.fetch_add(report.accepted, Relaxed);
        self.metrics.count(Counted::Accepted, report.accepted);
        self.metrics.count(Counted::Duplicate, report.duplicates);
        self.metrics.count(Counted::Unmatched, report.filtered);
        self.metrics.count(Counted::Unnamed, report.unnamed);
        self.metrics.polls_skipped.fetch_add(report.skipped, Relaxed);
        if self.live.stream.webhook.is_some() {
            self.metrics.count(Counted::FoundByPoll, report.accepted);
        }
    }

    fn log(&self, status: &ReconcileStatus) {
        let (connector, stream) = (&*self.live.connector.name, &*self.live.stream.name);
        let ReconcileStatus { state, requests, read, known, found, problem, range, .. } = status;
        let until = range.until.as_deref().unwrap_or_default();
        let from = range.from.as_deref().unwrap_or_default();
        match problem {
            None => tracing::info!(
                connector,
                stream,
                from,
                until,
                requests,
                read,
                known,
                found,
                "reconciliation {state}"
            ),
            Some(problem) => tracing::warn!(
                connector,
                stream,
                from,
                until,
                requests,
                read,
                known,
                found,
                problem,
                "reconciliation {state}"
            ),
        }
    }

    fn key(&self) -> String {
        format!("reconciles/{}/{}", self.live.connector.name, self.live.stream.name)
    }

    async fn store(&self, status: &ReconcileStatus) {
        let stored = ReconcileStatus { next: None, ..status.clone() };
        let bytes = serde_json::to_vec(&stored).unwrap_or_default();
        if let Err(error) = self.live.bus.put_state(&self.key(), Some(bytes)).await {
            tracing::warn!(reconcile = self.key(), %error, "the reconciliation is not durable");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn time() -> impl Strategy<Value = Timestamp> {
        (0i64..4_000_000_000_000).prop_map(Timestamp)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_stored_is_read_back(
            planned_at in time(), began_at in prop::option::of(time()),
            not_before in prop::option::of(time()), state in "[a-z]{0,8}",
            from in prop::option::of(".{0,9}"), problem in prop::option::of(".{0,9}"),
            read in any::<u64>(), found in any::<u64>(),
        ) {
            let range = Range { from, until: Some("2026".to_owned()) };
            let status = ReconcileStatus {
                planned_at, state, began_at, range, problem, not_before, read, found,
                ..ReconcileStatus::default()
            };
            let bytes = serde_json::to_vec(&status).unwrap();
            prop_assert_eq!(serde_json::from_slice::<ReconcileStatus>(&bytes).unwrap(), status);
        }
    }

    #[test]
    fn every_field_has_a_default() {
        let none = serde_json::from_str::<ReconcileStatus>("{}").unwrap();
        assert_eq!(none, ReconcileStatus::default());
    }
}
