//! Replay: history and dead letters go through the current map again, with the same ids and, unless told
//! otherwise, the same idempotency keys.
//!
//! A replay is durable from when it is accepted: it has a name, a pace and a limit, can be paused and
//! goes on after a restart. What it appends is marked as its own: so its copies are not taken for history,
//! and how they end is counted for it. [`Engine::preview`] shows beforehand what would be sent.

mod against;
mod job;
mod outcomes;
mod preview;
mod request;
mod select;
mod status;

pub use against::Against;
pub use job::Jobs;
pub use outcomes::Ended;
pub use preview::{FieldChange, ReplayLane, ReplayReport};
pub use request::{DEFAULT_LIMIT, DEFAULT_RATE, ReplayRequest, Source as ReplaySource};
pub use status::{ReplayOutcomes, ReplayStatus};

use std::sync::Arc;

use self::{job::Verdict, request::Source};
use super::{Engine, Shared};
use crate::{
    bus::{Append, AppendError, Claim, DeadId, DeadSummary, NewEvent, StoreError, write_state},
    event::{EventId, ReplayId},
    observe::Outcome as Counted,
};

/// Replays at work at once.
const AT_ONCE: usize = 4;
/// Replays that ended and are kept to be looked at.
const KEPT: usize = 100;

/// Why a replay does not begin, or is not what is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplayError {
    /// The request makes no sense; for a person.
    Bad(String),
    /// There is none of that name.
    Unknown(String),
    /// Not as things stand.
    Conflict(String),
    /// It could not be made durable.
    Store(StoreError),
}

impl From<StoreError> for ReplayError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<AppendError> for ReplayError {
    fn from(error: AppendError) -> Self {
        Self::Store(error.into())
    }
}

impl Engine {
    /// Begins a replay. Events that come in meanwhile, and letters that die meanwhile, are not part of it.
    pub async fn replay(
        self: &Arc<Self>,
        request: ReplayRequest,
    ) -> Result<ReplayStatus, ReplayError> {
        request.check().map_err(ReplayError::Bad)?;
        if self.shared.replays.all.lock().len() >= AT_ONCE {
            return Err(ReplayError::Conflict(format!(
                "{AT_ONCE} replays are at work: wait for one, or pause it"
            )));
        }
        let (bus, world) = (&self.shared.bus, &self.shared.world);
        let now = world.clock.now();
        let id = ReplayId::new(now, world.entropy.next_u64());
        let last = match request.source {
            Source::History => 0,
            Source::DeadLetters => bus.dead_letters().last().map_or(0, |letter| letter.id.0),
        };
        let status = ReplayStatus {
            id: id.to_string(),
            request: ReplayRequest { to: request.to.min(now), ..request },
            began_at: now,
            state: "running".to_owned(),
            last,
            ..ReplayStatus::default()
        };
        let mut writes: Vec<_> = status::forget(&**bus, KEPT).into_iter().collect();
        writes.push(status.write());
        write_state(&**bus, writes).await?;
        job::log(&status);
        job::begin(self, status.clone());
        Ok(status)
    }

    /// All replays that are known, those that ended included, the newest first.
    pub fn replays(&self) -> Vec<ReplayStatus> {
        let all = ReplayStatus::all(&*self.shared.bus).into_iter().rev();
        all.map(|status| self.replay_shown(status)).collect()
    }

    /// One replay.
    pub fn replay_status(&self, id: &str) -> Result<ReplayStatus, ReplayError> {
        let named = id.parse().ok();
        let stored = named.and_then(|id| ReplayStatus::stored(&*self.shared.bus, id));
        let unknown = || ReplayError::Unknown(format!("there is no replay `{id}`"));
        stored.map(|status| self.replay_shown(status)).ok_or_else(unknown)
    }

    /// Stops a replay; what it appended stays. It goes on where it was when it is resumed.
    pub async fn pause_replay(&self, id: &str) -> Result<ReplayStatus, ReplayError> {
        self.end_replay(id, Verdict::Paused).await
    }

    /// Ends a replay for good; what it appended stays.
    pub async fn cancel_replay(&self, id: &str) -> Result<ReplayStatus, ReplayError> {
        self.end_replay(id, Verdict::Cancelled).await
    }

    /// Lets a replay go on that was paused or failed.
    pub async fn resume_replay(self: &Arc<Self>, id: &str) -> Result<ReplayStatus, ReplayError> {
        let job = self.shared.replays.all.lock().get(id).map(Arc::clone);
        if let Some(job) = job.filter(|job| !job.status.lock().is_running()) {
            job.over().await;
        }
        let status = self.replay_status(id)?;
        let (at_work, is_at_work) = {
            let all = self.shared.replays.all.lock();
            (all.len(), all.contains_key(id))
        };
        match status.state.as_str() {
            "running" if is_at_work => return Ok(status),
            // Nobody could store how it ended.
            "running" | "paused" | "failed" if at_work < AT_ONCE => {}
            "running" | "paused" | "failed" => {
                return Err(ReplayError::Conflict(format!("{AT_ONCE} replays are at work")));
            }
            ended => return Err(ReplayError::Conflict(format!("`{id}` is {ended}"))),
        }
        let state = "running".to_owned();
        let status = ReplayStatus { state, problem: None, ended_at: None, ..status };
        status.store(&*self.shared.bus).await?;
        job::begin(self, status.clone());
        Ok(self.replay_shown(status))
    }

    /// Goes on with what a restart interrupted. Called once, when all connectors run.
    pub(super) fn resume_replays(self: &Arc<Self>) {
        for status in ReplayStatus::all(&*self.shared.bus) {
            if status.is_running() {
                tracing::info!(replay = status.id, "replay goes on");
                job::begin(self, status);
            }
        }
    }

    async fn end_replay(&self, id: &str, verdict: Verdict) -> Result<ReplayStatus, ReplayError> {
        let job = self.shared.replays.all.lock().get(id).map(Arc::clone);
        if let Some(job) = job {
            job.end(verdict).await;
        }
        let mut status = self.replay_status(id)?;
        let is_at_work = self.shared.replays.all.lock().contains_key(id);
        match (verdict, status.state.as_str()) {
            (Verdict::Paused, "paused") | (Verdict::Cancelled, "cancelled") => {}
            // One that is said to run and does not: nobody could store how it ended.
            (Verdict::Paused, "running") if !is_at_work => {
                "paused".clone_into(&mut status.state);
                status.store(&*self.shared.bus).await?;
            }
            (Verdict::Cancelled, "running" | "paused" | "failed") if !is_at_work => {
                "cancelled".clone_into(&mut status.state);
                status.ended_at = Some(self.shared.world.clock.now());
                status.store(&*self.shared.bus).await?;
            }
            (_, state) => return Err(ReplayError::Conflict(format!("`{id}` is {state}"))),
        }
        Ok(status)
    }

    fn replay_shown(&self, stored: ReplayStatus) -> ReplayStatus {
        let live = self.shared.replays.all.lock().get(&stored.id).map(Arc::clone);
        let status = live.map_or(stored, |job| job.status.lock().clone());
        let outcomes = self.shared.ended.of(&*self.shared.bus, &status.id);
        status.shown(outcomes)
    }

    /// Appends a dead letter's event again for its destination, and removes the letter.
    /// Errors: what stands against it; the letter stays.
    pub async fn replay_dead(&self, id: DeadId) -> Result<EventId, String> {
        let found = self.shared.bus.dead_letters().into_iter().find(|letter| letter.id == id);
        if let Some(DeadSummary { lane, .. }) = found {
            let goes_there =
                self.running.read().connectors.get(&lane.connector).is_some_and(|it| {
                    let streams = || it.plan.streams.iter();
                    let to = streams().find(|stream| stream.name == lane.stream).map(|it| &it.to);
                    !it.plan.is_variant() && to.is_some_and(|to| to.contains(&lane.destination))
                });
            if !goes_there {
                return Err(format!("nothing delivers to {lane} now: {id} stays"));
            }
        }
        match replay_letter(&self.shared, id).await {
            Ok(Some(event)) => Ok(event),
            Ok(None) => Err(format!("there is no dead letter {id}")),
            Err(Stays::Letter(problem) | Stays::Bus(StoreError(problem))) => Err(problem),
        }
    }
}

/// Why a letter's event is not on its way again.
pub enum Stays {
    /// What stands against this letter alone, and will tomorrow: it cannot be read, or is too large.
    Letter(String),
    /// The bus takes nothing now.
    Bus(StoreError),
}

/// See [`Engine::replay_dead`]. `None`: there is no such letter.
pub async fn replay_letter(shared: &Shared, id: DeadId) -> Result<Option<EventId>, Stays> {
    let (bus, world) = (&shared.bus, &shared.world);
    let letter = bus.dead_letter(id).map_err(|error| Stays::Letter(error.to_string()))?;
    let Some(letter) = letter else { return Ok(None) };
    let by = ReplayId::new(world.clock.now(), world.entropy.next_u64());
    let event = select::copy(&letter.event, vec![letter.destination], by, false);
    let new = NewEvent { event: Arc::clone(&event), claim: Claim::None };
    let batch = Append { events: vec![new], state: Vec::new() };
    bus.append(batch).await.map_err(|error| match error {
        AppendError::TooLarge { .. } => Stays::Letter(error.to_string()),
        error => Stays::Bus(error.into()),
    })?;
    let metrics = shared.metrics.connector(&event.connector).stream(&event.stream);
    metrics.count(Counted::Replayed, 1);
    // Only now: a crash in between delivers twice with one idempotency key, and loses nothing. Had
    // the event died again already, its new letter would stay.
    bus.discard_if(id, letter.died_at).await.map_err(Stays::Bus)?;
    Ok(Some(event.id))
}
