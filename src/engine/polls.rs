//! When polls run: due times that survive a restart, one run at a time, and what a failed run
//! means for the next.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, OwnedMutexGuard, watch};
use tokio_util::sync::CancellationToken;

use super::silence::{Silence, next_poll};
use crate::{
    ingest::poll::{PollFailure, PollReport, Poller, Waiting, waiting},
    observe::{Outcome as Counted, StreamMetrics},
    plan::{SchedulePlan, ScheduleWhen},
    world::Timestamp,
};

/// First and last wait after a run that failed for the source's passing reasons.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(5));

/// What is stored of a poll's schedule, as JSON under `poll/<connector>/<stream>`. Fields are only
/// ever added, with defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Stored {
    /// When the last run began.
    #[serde(default)]
    began: Option<Timestamp>,
    /// The source asked not to come back sooner.
    #[serde(default)]
    not_before: Option<Timestamp>,
}

/// What `status` shows of a poll.
#[derive(Clone, Debug, Default)]
pub struct PollView {
    pub next: Option<Timestamp>,
    pub last: Option<Timestamp>,
    /// `ok`, or why the last run failed.
    pub result: Option<String>,
    pub held: Option<String>,
}

/// One stream's poll at work.
pub struct PollRuntime {
    pub poller: Poller,
    pub schedule: SchedulePlan,
    pub metrics: Arc<StreamMetrics>,
    /// Those whose records it is read for.
    parents: Vec<Arc<PollRuntime>>,
    /// Hears whether its webhooks are missing, where that is watched.
    silence: Option<Arc<Silence>>,
    view: Mutex<PollView>,
    resumed: Notify,
    /// Held while it runs.
    busy: Arc<tokio::sync::Mutex<()>>,
    interrupted: Notify,
    /// Of one that others are read for; nobody asks the rest.
    phase: Option<watch::Sender<Phase>>,
}

/// What its children want to know of a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It runs, or is about to.
    Busy,
    /// It runs again then.
    Waits(Timestamp),
    /// It is parked.
    Held,
}

impl PollRuntime {
    /// A poll that has not begun yet.
    pub fn new(
        poller: Poller,
        schedule: SchedulePlan,
        metrics: Arc<StreamMetrics>,
        parents: Vec<Arc<Self>>,
        silence: Option<Arc<Silence>>,
    ) -> Self {
        let is_parent = poller.stream.parent.is_some();
        let phase = is_parent.then(|| watch::Sender::new(Phase::Busy));
        let (view, busy) = (Mutex::default(), Arc::default());
        let (resumed, interrupted) = (Notify::new(), Notify::new());
        Self {
            poller,
            schedule,
            metrics,
            parents,
            silence,
            view,
            resumed,
            busy,
            interrupted,
            phase,
        }
    }

    /// Who hears whether its webhooks are missing.
    pub fn silence(&self) -> Option<&Arc<Silence>> {
        self.silence.as_ref()
    }

    /// How it stands.
    pub fn view(&self) -> PollView {
        self.view.lock().clone()
    }

    /// Un-parks it. Whether it was parked.
    pub fn resume(&self) -> bool {
        let was_held = self.view.lock().held.take().is_some();
        self.resumed.notify_waiters();
        was_held
    }

    /// Drops a run in hand, and keeps the poll from running until what is returned is dropped. What
    /// the run has appended is durable.
    pub async fn interrupt(&self) -> OwnedMutexGuard<()> {
        const AGAIN: Duration = Duration::from_millis(20);
        loop {
            // It may be between taking the lock and listening.
            self.interrupted.notify_waiters();
            let busy = Arc::clone(&self.busy).lock_owned();
            if let Ok(quiet) = tokio::time::timeout(AGAIN, busy).await {
                return quiet;
            }
        }
    }

    fn key(&self) -> String {
        format!("poll/{}/{}", self.poller.connector.name, self.poller.stream.name)
    }

    fn stored(&self) -> Stored {
        self.poller
            .bus
            .state(&self.key())
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    async fn store(&self, stored: &Stored) {
        let bytes = serde_json::to_vec(stored).unwrap_or_default();
        if let Err(error) = self.poller.bus.put_state(&self.key(), Some(bytes)).await {
            tracing::warn!(poll = self.key(), %error, "the poll's schedule is not durable");
        }
    }

    /// Runs the poll whenever it is due, until `stop`. A run in hand is dropped then: what it has
    /// appended is durable together with the cursor, and the rest comes again.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.forever() => {}
        }
    }

    async fn forever(&self) {
        let mut stored = self.stored();
        let mut failures = 0;
        // A job that a restart or a change of the connector interrupted is waited for at once.
        let mut goes_on = stored.not_before.is_none() && self.waiting().is_some();
        let mut turns = self.silence.as_ref().map(|silence| silence.turns());
        loop {
            let due = if goes_on { self.poller.world.clock.now() } else { self.due(&stored) };
            self.view.lock().next = Some(due);
            self.tell(Phase::Waits(due));
            let asleep = self.poller.world.clock.sleep_until(due);
            let turned = async {
                if let Some(turns) = &mut turns
                    && turns.changed().await.is_ok()
                {
                    return;
                }
                std::future::pending::<()>().await;
            };
            // When it is due depends on whether webhooks are missing.
            tokio::select! {
                () = asleep => {}
                () = turned => continue,
            }
            self.tell(Phase::Busy);
            for parent in &self.parents {
                parent.settled().await;
            }
            let busy = self.busy.lock().await;
            tokio::select! {
                // Boxed: a poll that waits for its time is small, a run is not.
                () = Box::pin(self.turn(&mut stored, &mut failures)) => goes_on = false,
                () = self.interrupted.notified() => {
                    self.view.lock().held = None;
                    drop(busy);
                    // Whoever interrupts the polls of a connector may mean another stream than this one.
                    drop(self.busy.lock().await);
                    goes_on = self.waiting().is_some();
                }
            }
        }
    }

    fn tell(&self, now: Phase) {
        if let Some(phase) = &self.phase {
            phase.send_replace(now);
        }
    }

    /// Waits until its children may be read: it is not running nor due, and was read once. Where it is
    /// parked, what is remembered has to do.
    async fn settled(&self) {
        let Some(phase) = &self.phase else { return };
        let mut phase = phase.subscribe();
        let clock = &self.poller.world.clock;
        let known = || self.poller.journey().is_some_and(|journey| journey.finished.is_some());
        let _ = phase
            .wait_for(|phase| match phase {
                Phase::Busy => false,
                Phase::Waits(due) => *due > clock.now() && known(),
                Phase::Held => known(),
            })
            .await;
    }

    /// One run, and what it means for the next.
    async fn turn(&self, stored: &mut Stored, failures: &mut u32) {
        let began = self.poller.world.clock.now();
        let before = stored.began;
        *stored = Stored { began: Some(began), not_before: None };
        self.store(stored).await;
        match self.once(began, before).await {
            Ok(()) => *failures = 0,
            Err(failure) => {
                *failures += 1;
                self.after_failure(stored, failure, *failures).await;
            }
        }
    }

    /// The jobs that it waits for.
    pub fn waiting(&self) -> Option<Waiting> {
        let Poller { bus, connector, stream, .. } = &self.poller;
        stream.poll.as_ref()?.job.as_ref()?;
        waiting(&**bus, &connector.name, &stream.name)
    }

    fn due(&self, stored: &Stored) -> Timestamp {
        if let Some(at) = stored.not_before {
            return at;
        }
        // A run over partitions that a restart interrupted goes on.
        if self.poller.journey().is_some_and(|journey| journey.is_under_way()) {
            return self.poller.world.clock.now();
        }
        // Whoever adds a connector waits for its first records; jitter spreads the runs after it.
        if stored.began.is_none() && matches!(self.schedule.when, ScheduleWhen::Every(_)) {
            return self.poller.world.clock.now();
        }
        let (now, fraction) = (self.poller.world.clock.now(), self.poller.world.entropy.fraction());
        let faster = self.silence.as_ref().and_then(|silence| silence.faster());
        next_poll(&self.schedule, faster, stored.began, now, fraction)
    }

    async fn wait_for_resume(&self, message: &str) {
        // Made before anybody can see that it is held, and so resume it.
        let resumed = self.resumed.notified();
        {
            let mut view = self.view.lock();
            view.held = Some(message.to_owned());
            view.next = None;
        }
        self.tell(Phase::Held);
        resumed.await;
    }

    /// One run, counted and logged; the one before it began `before`.
    async fn once(&self, began: Timestamp, before: Option<Timestamp>) -> Result<(), PollFailure> {
        // As pages become durable: a run that is interrupted has counted what it did.
        let counted = Mutex::new(PollReport::default());
        let count = |so_far: &PollReport| {
            let mut counted = counted.lock();
            let more = so_far.since(&counted);
            self.count(&more);
            // At once: a webhook that comes while the run goes on comes after what was found by then.
            if let Some(silence) = &self.silence {
                silence.found(more.accepted, before);
            }
            *counted = so_far.clone();
        };
        let ended = self.poller.run(&count).await;
        let (report, failure) = match ended {
            Ok(report) => (report, None),
            Err((report, failure)) => (report, Some(failure)),
        };
        count(&report);
        let clock = &self.poller.world.clock;
        let took_ms = clock.now().since(began).as_millis() as u64;
        let (connector, stream) = (&*self.poller.connector.name, &*self.poller.stream.name);
        let PollReport { requests, items, accepted, duplicates, .. } = report;
        let mut view = self.view.lock();
        view.last = Some(began);
        if let Some(failure) = failure {
            let error = failure.message();
            self.metrics.polls_failed.fetch_add(1, Relaxed);
            tracing::warn!(
                connector,
                stream,
                requests,
                items,
                accepted,
                took_ms,
                error,
                "poll failed"
            );
            view.result = Some(error.to_owned());
            return Err(failure);
        }
        self.metrics.polls.fetch_add(1, Relaxed);
        tracing::info!(
            connector,
            stream,
            requests,
            items,
            accepted,
            duplicates,
            took_ms,
            "poll done"
        );
        view.result = Some("ok".to_owned());
        Ok(())
    }

    fn count(&self, report: &PollReport) {
        self.metrics.count(Counted::Accepted, report.accepted);
        self.metrics.count(Counted::Duplicate, report.duplicates);
        self.metrics.count(Counted::Unmatched, report.filtered);
        self.metrics.count(Counted::Unnamed, report.unnamed);
        self.metrics.polls_skipped.fetch_add(report.skipped, Relaxed);
        if self.poller.stream.webhook.is_some() {
            self.metrics.count(Counted::FoundByPoll, report.accepted);
        }
    }

    async fn after_failure(&self, stored: &mut Stored, failure: PollFailure, failures: u32) {
        match failure {
            PollFailure::Later { retry_after, .. } => {
                let wait = backoff(failures, self.poller.world.entropy.fraction(), retry_after);
                stored.not_before = Some(self.poller.world.clock.now().plus(wait));
                self.store(stored).await;
            }
            PollFailure::Held(message) => {
                let connector = &*self.poller.connector.name;
                let stream = &*self.poller.stream.name;
                tracing::error!(connector, stream, problem = message, "poll held");
                self.wait_for_resume(&message).await;
                stored.not_before = Some(self.poller.world.clock.now());
            }
            PollFailure::Failed(_) => {}
        }
    }
}

/// How long to wait after so many failures in a row: full jitter, and no less than the source asks for.
pub(super) fn backoff(failures: u32, fraction: f64, retry_after: Option<Duration>) -> Duration {
    let (from, to) = BACKOFF;
    let ceiling = from.saturating_mul(1 << failures.min(16)).min(to);
    ceiling.mul_f64(fraction).max(from).max(retry_after.unwrap_or_default())
}
