//! Backfills: a range of a stream's past, read beside its live poll.
//!
//! A backfill is durable from when it is accepted: it goes on after a restart and after a change of
//! its connector, and ends by being done, by failing, or by being cancelled. One that failed goes on
//! where it was when the same range is asked for again. Its requests spend the source's own rate.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{Engine, Shared, connector::Connector, polls::backoff, tasks::TaskKind};
use crate::{
    bus::{Bus, StoreError},
    ingest::poll::{Backfill, Pass, PollFailure, PollReport},
    observe::Outcome as Counted,
    world::Timestamp,
};

/// Where jobs are kept: `backfills/<connector>/<stream>`.
const AREA: &str = "backfills/";

/// A backfill as it is stored, JSON under `backfills/<connector>/<stream>`, and as it is shown.
/// Fields are only ever added, with defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BackfillStatus {
    /// The connector's name.
    pub connector: String,
    /// The stream's name.
    pub stream: String,
    /// Where it begins: a value of the cursor.
    pub from: String,
    /// Where it ends, itself not included.
    pub to: String,
    /// When it was accepted.
    pub began_at: Timestamp,
    /// `running`, `done`, `failed`.
    pub state: String,
    /// Why it failed, or what it is waiting out.
    #[serde(default)]
    pub problem: Option<String>,
    /// When it ended.
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
    /// Where it stands. Not stored.
    #[serde(default)]
    pub at: Option<String>,
    /// Which share of the range that is, 0 to 1. Not stored.
    #[serde(default)]
    pub share: Option<f64>,
    /// Requests so far.
    #[serde(default)]
    pub requests: u64,
    /// Records so far, before any filter.
    #[serde(default)]
    pub items: u64,
    /// Events that are new.
    #[serde(default)]
    pub accepted: u64,
    /// Events that were known.
    #[serde(default)]
    pub duplicates: u64,
    /// Records outside of the range, or that `when` does not take.
    #[serde(default)]
    pub filtered: u64,
    /// Records without a key.
    #[serde(default)]
    pub unnamed: u64,
    /// Requests that a rule gave up.
    #[serde(default)]
    pub skipped: u64,
}

impl BackfillStatus {
    fn key(&self) -> String {
        format!("{AREA}{}/{}", self.connector, self.stream)
    }

    fn is_running(&self) -> bool {
        self.state == "running"
    }

    /// The same with what one run did on top of what was done before it.
    fn with(&self, report: &PollReport) -> Self {
        Self {
            requests: self.requests + report.requests,
            items: self.items + report.items,
            accepted: self.accepted + report.accepted,
            duplicates: self.duplicates + report.duplicates,
            filtered: self.filtered + report.filtered,
            unnamed: self.unnamed + report.unnamed,
            skipped: self.skipped + report.skipped,
            ..self.clone()
        }
    }
}

/// A backfill at work.
struct Job {
    walk: Backfill,
    status: Mutex<BackfillStatus>,
    cancelled: CancellationToken,
}

impl Job {
    fn shown(&self) -> BackfillStatus {
        let (at, share) = match self.walk.position() {
            Some((at, share)) => (Some(at), share),
            None => (None, None),
        };
        BackfillStatus { at, share, ..self.status.lock().clone() }
    }
}

/// The backfills at work, by key.
#[derive(Default)]
pub struct Backfills(Mutex<std::collections::BTreeMap<String, Arc<Job>>>);

/// Why a backfill does not begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackfillError {
    /// There is no such connector, stream or range; for a person.
    Unknown(String),
    /// Another range of the stream is being read.
    Busy(String),
    /// It could not be made durable.
    Store(StoreError),
}

impl Engine {
    /// Begins a backfill, or goes on with one of the same range that did not end well.
    pub async fn backfill(
        &self,
        connector: &str,
        stream: &str,
        from: &str,
        to: &str,
    ) -> Result<BackfillStatus, BackfillError> {
        let running = self.connector(connector).ok_or_else(|| {
            BackfillError::Unknown(format!("no connector named `{connector}` runs"))
        })?;
        let now = self.shared.world.clock.now();
        let mut status = BackfillStatus {
            connector: connector.to_owned(),
            stream: stream.to_owned(),
            from: from.to_owned(),
            to: to.to_owned(),
            began_at: now,
            state: "running".to_owned(),
            ..BackfillStatus::default()
        };
        let walk = walk(&running, &status, now).map_err(BackfillError::Unknown)?;
        let before = stored(&*self.shared.bus, &status.key());
        let same = |it: &BackfillStatus| (&it.from, &it.to) == (&status.from, &status.to);
        let is_alive = self.shared.backfills.0.lock().contains_key(&status.key());
        match before {
            Some(before) if is_alive && before.is_running() && same(&before) => {
                return Ok(self.shown(before));
            }
            Some(before) if is_alive && before.is_running() => {
                return Err(BackfillError::Busy(format!(
                    "a backfill of `{stream}` from {} to {} is running: wait for it, or end it \
                     with --cancel",
                    before.from, before.to
                )));
            }
            // It failed, or what it ran on went away beneath it.
            Some(before) if before.state != "done" && same(&before) => {
                let state = status.state;
                status = BackfillStatus { state, problem: None, ended_at: None, ..before };
            }
            // One that was cancelled may have stored a page at that very moment: a cursor that is left
            // would let this one begin behind it.
            _ => walk.aside.clear().await.map_err(BackfillError::Store)?,
        }
        store(&*self.shared.bus, &status).await.map_err(BackfillError::Store)?;
        begin(&self.shared, &running, walk, status.clone());
        Ok(status)
    }

    /// All backfills that are known, those that ended included.
    pub fn backfills(&self) -> Vec<BackfillStatus> {
        let all = self.shared.bus.state_under(AREA).into_iter();
        all.filter_map(|(_, bytes)| serde_json::from_slice(&bytes).ok())
            .map(|status| self.shown(status))
            .collect()
    }

    /// Ends a backfill and forgets it. What it has appended stays. Whether there was one.
    pub async fn cancel_backfill(&self, connector: &str, stream: &str) -> Result<bool, StoreError> {
        let key = format!("{AREA}{connector}/{stream}");
        let job = self.shared.backfills.0.lock().remove(&key);
        if let Some(job) = &job {
            job.cancelled.cancel();
        }
        let known = self.shared.bus.state(&key).is_some();
        let bus = Arc::clone(&self.shared.bus);
        crate::bus::Aside::of(bus, connector, stream).clear().await?;
        self.shared.bus.put_state(&key, None).await?;
        Ok(known)
    }

    fn shown(&self, stored: BackfillStatus) -> BackfillStatus {
        let live = self.shared.backfills.0.lock().get(&stored.key()).map(Arc::clone);
        live.map_or(stored, |job| job.shown())
    }

    fn connector(&self, name: &str) -> Option<Arc<Connector>> {
        self.running.read().connectors.get(name).map(Arc::clone)
    }
}

fn stored(bus: &dyn Bus, key: &str) -> Option<BackfillStatus> {
    serde_json::from_slice(&bus.state(key)?).ok()
}

async fn store(bus: &dyn Bus, status: &BackfillStatus) -> Result<(), StoreError> {
    let stored = BackfillStatus { at: None, share: None, ..status.clone() };
    bus.put_state(&status.key(), Some(serde_json::to_vec(&stored).unwrap_or_default())).await
}

fn walk(
    connector: &Connector,
    status: &BackfillStatus,
    now: Timestamp,
) -> Result<Backfill, String> {
    let mut polls = connector.polls.iter();
    let Some(poll) = polls.find(|poll| *poll.poller.stream.name == *status.stream) else {
        let name = &status.stream;
        let known: Vec<_> =
            connector.polls.iter().map(|poll| format!("`{}`", poll.poller.stream.name)).collect();
        return Err(if known.is_empty() {
            format!("`{}` has no polled stream", connector.plan.name)
        } else {
            format!("no polled stream named `{name}`: there are {}", known.join(", "))
        });
    };
    Backfill::new(&poll.poller, &status.from, &status.to, now)
}

/// Goes on with what a restart or a change of the connector interrupted.
pub fn resume(shared: &Arc<Shared>, connector: &Arc<Connector>) {
    let prefix = format!("{AREA}{}/", connector.plan.name);
    for (_, bytes) in shared.bus.state_under(&prefix) {
        let Ok(status) = serde_json::from_slice::<BackfillStatus>(&bytes) else { continue };
        if !status.is_running() {
            continue;
        }
        let (name, stream) = (&status.connector, &status.stream);
        match walk(connector, &status, shared.world.clock.now()) {
            Ok(walk) => {
                tracing::info!(connector = name, stream, from = status.from, "backfill goes on");
                begin(shared, connector, walk, status);
            }
            Err(problem) => {
                tracing::warn!(connector = name, stream, problem, "a backfill cannot go on");
                let ended_at = Some(shared.world.clock.now());
                let state = "failed".to_owned();
                let status =
                    BackfillStatus { state, problem: Some(problem), ended_at, ..status.clone() };
                let (task, bus) = (format!("backfill {name}/{stream}"), Arc::clone(&shared.bus));
                shared.tasks.spawn(TaskKind::Background, task, async move {
                    if let Err(error) = store(&*bus, &status).await {
                        tracing::warn!(backfill = status.key(), %error, "its end is not durable");
                    }
                });
            }
        }
    }
}

fn begin(shared: &Arc<Shared>, connector: &Arc<Connector>, walk: Backfill, status: BackfillStatus) {
    let key = status.key();
    let name = format!("backfill {}/{}", status.connector, status.stream);
    let job = Arc::new(Job {
        walk,
        status: Mutex::new(status),
        cancelled: connector.stopping().child_token(),
    });
    let before = shared.backfills.0.lock().insert(key.clone(), Arc::clone(&job));
    if let Some(before) = before {
        before.cancelled.cancel();
    }
    let task = Arc::clone(shared);
    shared.tasks.spawn(TaskKind::Background, name, async move {
        tokio::select! {
            () = job.cancelled.cancelled() => {}
            () = to_its_end(&task, &job) => {}
        }
        let mut all = task.backfills.0.lock();
        if all.get(&key).is_some_and(|current| Arc::ptr_eq(current, &job)) {
            all.remove(&key);
        }
    });
}

/// Runs until the range is read, or until a person has to look.
async fn to_its_end(shared: &Arc<Shared>, job: &Job) {
    let mut failures = 0;
    loop {
        let before = job.status.lock().clone();
        // As pages become durable: one that is interrupted has counted what it did.
        let counted = Mutex::new(PollReport::default());
        let count = |so_far: &PollReport| {
            let more = so_far.since(&std::mem::replace(&mut *counted.lock(), so_far.clone()));
            count_metrics(shared, &before, &more);
            *job.status.lock() = before.with(so_far);
        };
        let ended = Box::pin(job.walk.poller.run_as(Pass::Aside, &count)).await;
        let (report, failure) = match ended {
            Ok(report) => (report, None),
            Err((report, failure)) => (report, Some(failure)),
        };
        count(&report);
        failures = if report.pages > 0 { 0 } else { failures + 1 };
        let mut status = before.with(&report);
        let wait = match failure {
            None => {
                "done".clone_into(&mut status.state);
                status.problem = None;
                None
            }
            Some(PollFailure::Later { message, retry_after }) => {
                status.problem = Some(message);
                Some(backoff(failures, shared.world.entropy.fraction(), retry_after))
            }
            Some(PollFailure::Held(message) | PollFailure::Failed(message)) => {
                "failed".clone_into(&mut status.state);
                status.problem = Some(message);
                None
            }
        };
        if wait.is_none() {
            status.ended_at = Some(shared.world.clock.now());
        }
        log(&status);
        if let Err(error) = store(&*shared.bus, &status).await {
            tracing::warn!(backfill = status.key(), %error, "the backfill's state is not durable");
        }
        let Some(wait) = wait else {
            if status.state == "done"
                && let Err(error) = job.walk.aside.clear().await
            {
                tracing::warn!(backfill = status.key(), %error, "the backfill left its state");
            }
            // Last: who sees that it is done finds nothing left of it.
            *job.status.lock() = status;
            return;
        };
        *job.status.lock() = status;
        let clock = &shared.world.clock;
        clock.sleep_until(clock.now().plus(wait)).await;
    }
}

fn log(status: &BackfillStatus) {
    let BackfillStatus { connector, stream, from, to, state, requests, items, accepted, .. } =
        status;
    match &status.problem {
        None => tracing::info!(
            connector,
            stream,
            from,
            to,
            requests,
            items,
            accepted,
            "backfill {state}"
        ),
        Some(problem) => tracing::warn!(
            connector,
            stream,
            from,
            to,
            requests,
            items,
            accepted,
            problem,
            "backfill {state}"
        ),
    }
}

fn count_metrics(shared: &Shared, status: &BackfillStatus, report: &PollReport) {
    let metrics = shared.metrics.connector(&status.connector).stream(&status.stream);
    metrics.count(Counted::Accepted, report.accepted);
    metrics.count(Counted::Duplicate, report.duplicates);
    metrics.count(Counted::Unmatched, report.filtered);
    metrics.count(Counted::Unnamed, report.unnamed);
    metrics.polls_skipped.fetch_add(report.skipped, std::sync::atomic::Ordering::Relaxed);
}
