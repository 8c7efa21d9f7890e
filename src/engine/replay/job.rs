//! A replay at work: reads, appends again at its pace, and stores with each append how far it is, in the
//! same record. So a crash repeats nothing of history; of dead letters it repeats no append, and what is
//! to be removed is removed at the next start.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{
    request::{Checked, ReplayRequest, Source},
    select::{Match, Page, Reader, copy, plans, target},
    status::ReplayStatus,
};
use crate::{
    bus::{Accepted, Append, AppendError, Claim, DeadId, DeadLetter, NewEvent, Seq},
    deliver::Limiter,
    engine::{
        Engine,
        tasks::{TaskKind, blocking},
    },
    event::{Event, ReplayId},
    observe::Outcome as Counted,
    world::Timestamp,
};

/// Events in one append at most.
const BATCH_EVENTS: usize = 256;
/// Bytes of records in one append, and one record more.
const BATCH_BYTES: usize = 4 << 20;
/// Letters that are read at once.
const LETTERS: usize = 64;
/// Pages without an event of ours before it is stored how far it is.
const IDLE_PAGES: u32 = 16;
/// How long to wait for a bus that refuses and does not say.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a replay is ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Paused,
    Cancelled,
}

/// A replay at work.
pub(super) struct Job {
    pub status: Mutex<ReplayStatus>,
    /// Cancelled where it is to stop: for the reason in `verdict`, or because the engine does.
    stop: CancellationToken,
    verdict: Mutex<Option<Verdict>>,
    ended: CancellationToken,
}

impl Job {
    /// Stops it and waits until it has.
    pub async fn end(&self, verdict: Verdict) {
        *self.verdict.lock() = Some(verdict);
        self.stop.cancel();
        self.over().await;
    }

    /// Waits until it is no longer at work.
    pub async fn over(&self) {
        self.ended.cancelled().await;
    }
}

/// The replays at work, by name.
#[derive(Default)]
pub struct Jobs {
    pub(super) all: Mutex<BTreeMap<String, Arc<Job>>>,
    /// Ends them all; they go on at the next start.
    stop: CancellationToken,
}

impl Jobs {
    /// Stops them all, at a shutdown.
    pub fn stop(&self) {
        self.stop.cancel();
    }
}

/// Why a replay stopped before its end.
enum Stopped {
    /// It was told to.
    Told,
    /// It cannot go on.
    Failed(String),
}

impl<E: std::error::Error> From<E> for Stopped {
    fn from(error: E) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Sets a replay to work whose status says `running` and is stored.
pub(super) fn begin(engine: &Arc<Engine>, status: ReplayStatus) {
    let jobs = &engine.shared.replays;
    let id = status.id.clone();
    let job = Arc::new(Job {
        status: Mutex::new(status),
        stop: jobs.stop.child_token(),
        verdict: Mutex::default(),
        ended: CancellationToken::new(),
    });
    match jobs.all.lock().entry(id.clone()) {
        Entry::Vacant(free) => _ = free.insert(Arc::clone(&job)),
        // Two asked for it at once.
        Entry::Occupied(_) => return,
    }
    let engine = Arc::clone(engine);
    let tasks = engine.shared.tasks.clone();
    tasks.spawn(TaskKind::Background, format!("replay {id}"), async move {
        let _ended = job.ended.clone().drop_guard();
        to_its_end(&engine, &job).await;
        engine.shared.replays.all.lock().remove(&id);
    });
}

async fn to_its_end(engine: &Arc<Engine>, job: &Arc<Job>) {
    let (request, id) = {
        let status = job.status.lock();
        (status.request.clone(), status.id.clone())
    };
    let ended = match (request.check(), id.parse::<ReplayId>()) {
        (Ok(checked), Ok(by)) => {
            let limiter = Limiter::new(&[checked.rate]);
            let run = Run { engine, job, request, checked, by, limiter };
            match run.request.source {
                Source::History => run.history().await,
                Source::DeadLetters => run.letters().await,
            }
        }
        (Err(problem), _) => Err(Stopped::Failed(problem)),
        (_, Err(_)) => Err(Stopped::Failed(format!("`{id}` is no replay's name"))),
    };
    let now = engine.shared.world.clock.now();
    let status = {
        let mut status = job.status.lock();
        let state = match &ended {
            Ok(()) => "done",
            Err(Stopped::Failed(_)) => "failed",
            Err(Stopped::Told) => match *job.verdict.lock() {
                Some(Verdict::Paused) => "paused",
                Some(Verdict::Cancelled) => "cancelled",
                None => "running",
            },
        };
        state.clone_into(&mut status.state);
        match ended {
            Err(Stopped::Failed(problem)) => status.problem = Some(problem),
            Err(Stopped::Told) => status.problem = None,
            Ok(()) => {}
        }
        status.ended_at = status.has_ended().then_some(now);
        status.clone()
    };
    log(&status);
    if let Err(error) = status.store(&*engine.shared.bus).await {
        tracing::warn!(replay = status.id, %error, "where the replay ended is not durable");
    }
}

pub(super) fn log(status: &ReplayStatus) {
    let ReplayStatus { id, state, matched, replayed, .. } = status;
    match &status.problem {
        None => tracing::info!(replay = id, matched, replayed, "replay {state}"),
        Some(problem) => tracing::warn!(replay = id, matched, replayed, problem, "replay {state}"),
    }
}

/// What one time at work goes by.
struct Run<'a> {
    engine: &'a Arc<Engine>,
    job: &'a Arc<Job>,
    request: ReplayRequest,
    checked: Checked,
    by: ReplayId,
    limiter: Limiter,
}

/// An event on its way into an append, and what is true once it is there.
struct Going {
    event: Arc<Event>,
    /// Its place, or its letter's number.
    position: u64,
    at: Timestamp,
    /// When its letter died, where it comes from one.
    letter: Option<Timestamp>,
    /// What lies between the one before and this, itself included.
    passed: Passed,
}

/// What a replay looked at. It counts as soon as the position is past it and no sooner: what is read again
/// after a stop in the middle of a page would count twice.
#[derive(Clone, Copy, Default)]
struct Passed {
    looked_at: u64,
    without_plan: u64,
    unreadable: u64,
}

impl ReplayStatus {
    fn pass(&mut self, passed: Passed, position: u64, at: Timestamp) {
        self.looked_at += passed.looked_at;
        self.matched += passed.without_plan;
        self.without_plan += passed.without_plan;
        self.unreadable += passed.unreadable;
        (self.position, self.at) = (position, Some(at));
    }
}

impl Run<'_> {
    async fn history(&self) -> Result<(), Stopped> {
        let after = Some(self.job.status.lock().position).filter(|at| *at > 0).map(Seq);
        let bus = Arc::clone(&self.engine.shared.bus);
        let looks = self.request.asks_for_endings();
        let mut reader = Reader::new(bus, self.request.clone(), self.checked, after, looks);
        let mut idle = 0;
        loop {
            let page = tokio::select! {
                biased;
                () = self.job.stop.cancelled() => return Err(Stopped::Told),
                page = reader.next() => page?,
            };
            let more = page.more;
            let appended = self.page(&reader, page).await?;
            if self.is_full() {
                self.full();
                return Ok(());
            }
            if !more {
                return Ok(());
            }
            idle = if appended { 0 } else { idle + 1 };
            if idle % IDLE_PAGES == IDLE_PAGES - 1 {
                self.store().await?;
            }
        }
    }

    /// Appends again what of a page is meant. Whether there was any.
    async fn page(&self, reader: &Reader, page: Page) -> Result<bool, Stopped> {
        let plans = plans(self.engine);
        let (mut going, mut passed, mut nth) = (Vec::new(), Passed::default(), 0);
        for Match { seq, event, nth: its_nth } in &page.events {
            passed.looked_at += its_nth - nth;
            nth = *its_nth;
            let found = target(&plans, event, self.request.destination.as_ref());
            let Some((_, _, to)) = found else {
                // What became of it elsewhere is not known to matter.
                passed.without_plan += u64::from(!self.request.asks_for_endings());
                continue;
            };
            let to = reader.wanted(event, to);
            if !to.is_empty() {
                let event = copy(event, to, self.by, self.request.new_keys);
                let (position, at) = (seq.0, event.received_at);
                let passed = std::mem::take(&mut passed);
                going.push(Going { event, position, at, letter: None, passed });
            }
        }
        passed.looked_at += page.looked_at - nth;
        let any = !going.is_empty();
        self.append_paced(going).await?;
        if let Some((last, at)) = page.last.filter(|_| !self.is_full()) {
            self.job.status.lock().pass(passed, last.0, at);
        }
        Ok(any)
    }

    async fn letters(&self) -> Result<(), Stopped> {
        self.remove_letters().await?;
        let (position, last) = {
            let status = self.job.status.lock();
            (status.position, status.last)
        };
        let all = self.engine.shared.bus.dead_letters().into_iter();
        let found: Vec<(DeadId, Timestamp)> = all
            .filter(|letter| {
                let number = letter.id.0;
                number > position
                    && number <= last
                    && self.request.takes_letter(&self.checked, letter)
            })
            .map(|letter| (letter.id, letter.died_at))
            .collect();
        for part in found.chunks(LETTERS) {
            if self.job.stop.is_cancelled() {
                return Err(Stopped::Told);
            }
            let (going, passed) = self.read_letters(part.iter().map(|(id, _)| *id)).await;
            self.append_paced(going).await?;
            if self.is_full() {
                self.full();
                return Ok(());
            }
            if let Some((id, died_at)) = part.last() {
                self.job.status.lock().pass(passed, id.0, *died_at);
            }
        }
        Ok(())
    }

    /// Reads letters whole and picks those that are meant and have somewhere to go; what was passed behind
    /// the last of them.
    async fn read_letters(&self, ids: impl Iterator<Item = DeadId>) -> (Vec<Going>, Passed) {
        let (bus, ids) = (Arc::clone(&self.engine.shared.bus), ids.collect::<Vec<_>>());
        let read = move || -> Vec<(DeadId, Result<Option<DeadLetter>, _>)> {
            ids.into_iter().map(|id| (id, bus.dead_letter(id))).collect()
        };
        let read = blocking(read).await;
        let plans = plans(self.engine);
        let (mut going, mut passed) = (Vec::new(), Passed::default());
        for (id, letter) in read {
            passed.looked_at += 1;
            let letter = match letter {
                Ok(Some(letter)) => letter,
                // One that was removed meanwhile is what somebody wanted.
                Ok(None) => continue,
                Err(error) => {
                    let replay = self.by;
                    tracing::error!(%replay, letter = %id, %error, "a letter cannot be read; it stays");
                    passed.unreadable += 1;
                    continue;
                }
            };
            if !self.request.takes_event_of_letter(&letter.event) {
                continue;
            }
            let destination = letter.destination.to_string();
            if target(&plans, &letter.event, Some(&destination)).is_none() {
                passed.without_plan += 1;
                continue;
            }
            let to = vec![Arc::clone(&letter.destination)];
            let event = copy(&letter.event, to, self.by, self.request.new_keys);
            let (at, letter) = (letter.died_at, Some(letter.died_at));
            let passed = std::mem::take(&mut passed);
            going.push(Going { event, position: id.0, at, letter, passed });
        }
        (going, passed)
    }

    /// Appends as the rate allows, in the order given, until all are on their way or the limit is reached.
    async fn append_paced(&self, going: Vec<Going>) -> Result<(), Stopped> {
        let clock = &self.engine.shared.world.clock;
        let room = self.request.limit.saturating_sub(self.job.status.lock().replayed);
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for one in going.into_iter().take(room) {
            while let Err(free_at) = self.limiter.take(clock.now()) {
                self.append(std::mem::take(&mut batch)).await?;
                bytes = 0;
                self.wait_until(free_at).await?;
            }
            bytes += one.event.record.bytes().len();
            batch.push(one);
            if batch.len() >= BATCH_EVENTS || bytes >= BATCH_BYTES {
                self.append(std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
        }
        self.append(batch).await
    }

    async fn wait_until(&self, at: Timestamp) -> Result<(), Stopped> {
        tokio::select! {
            biased;
            () = self.job.stop.cancelled() => Err(Stopped::Told),
            () = self.engine.shared.world.clock.sleep_until(at) => Ok(()),
        }
    }

    /// Makes a batch durable together with how far the replay is then.
    async fn append(&self, batch: Vec<Going>) -> Result<(), Stopped> {
        if batch.is_empty() {
            return Ok(());
        }
        let after = {
            let mut status = self.job.status.lock().clone();
            let events = batch.len() as u64;
            status.matched += events;
            status.replayed += events;
            status.deliveries += batch.iter().map(|one| one.event.to.len() as u64).sum::<u64>();
            for one in &batch {
                status.pass(one.passed, one.position, one.at);
            }
            let died = |one: &Going| one.letter.map(|died_at| (one.position, died_at.0));
            status.removing.extend(batch.iter().filter_map(died));
            status.problem = None;
            status
        };
        let new = |one: &Going| NewEvent { event: Arc::clone(&one.event), claim: Claim::None };
        let events = batch.iter().map(new).collect();
        let accepted = self.append_patiently(Append { events, state: vec![after.write()] }).await?;
        *self.job.status.lock() = after;
        for (one, accepted) in batch.iter().zip(accepted) {
            if matches!(accepted, Accepted::New(_)) {
                let connector = self.engine.shared.metrics.connector(&one.event.connector);
                connector.stream(&one.event.stream).count(Counted::Replayed, 1);
            }
        }
        self.remove_letters().await
    }

    /// Waits out a bus that is full or whose disk refuses; says so meanwhile.
    async fn append_patiently(&self, batch: Append) -> Result<Vec<Accepted>, Stopped> {
        loop {
            let (problem, wait) = match self.engine.shared.bus.append(batch.clone()).await {
                Ok(accepted) => return Ok(accepted),
                Err(AppendError::Full { what, retry_after }) => (what, retry_after),
                Err(error @ AppendError::Budget { retry_after, .. }) => {
                    (error.to_string(), retry_after)
                }
                Err(AppendError::Unavailable(why)) => (why, PATIENCE),
                Err(AppendError::Closed) => return Err(Stopped::Told),
                Err(error @ AppendError::TooLarge { .. }) => return Err(error.into()),
            };
            self.job.status.lock().problem = Some(problem);
            self.wait_until(self.engine.shared.world.clock.now().plus(wait)).await?;
        }
    }

    /// Removes the letters whose events are on their way; one that died anew since stays.
    async fn remove_letters(&self) -> Result<(), Stopped> {
        let removing = self.job.status.lock().removing.clone();
        for (number, died_at) in removing {
            self.engine.shared.bus.discard_if(DeadId(number), Timestamp(died_at)).await?;
        }
        self.job.status.lock().removing.clear();
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.job.status.lock().replayed >= self.request.limit
    }

    /// Ends at the limit, and says so where there may be more.
    fn full(&self) {
        let mut status = self.job.status.lock();
        let at = status.at.map(Timestamp::rfc3339).unwrap_or_default();
        status.problem = Some(format!(
            "ended at its limit of {} events, at {at}: there may be more (--limit, or --from there)",
            self.request.limit
        ));
    }

    async fn store(&self) -> Result<(), Stopped> {
        let status = self.job.status.lock().clone();
        Ok(status.store(&*self.engine.shared.bus).await?)
    }
}
