//! The bus on one machine: a journal that is the truth, and sled as its index.
//!
//! What is answered is on disk: an append is acknowledged after `fdatasync`, and so is a duplicate of
//! it. Settlements ride along; a crash may forget the last few milliseconds of them, and the same
//! deliveries are made again under the same idempotency keys. A disk that refuses stops
//! acknowledgement at once, with the reason, and the bus goes on by itself when the disk does.
//!
//! The path of an append: [`EmbeddedBus`] encodes it → `queue` → `committer` checks claims, writes
//! and syncs with `journal` → `core` shows it to takers. Behind: `ledger` and `claims` (in `books`)
//! hold what a checkpoint writes, `keeper` writes it to sled (`index`), `upkeep` decides when, and
//! `recover` reads it all again. `format` has one file a stored kind.

mod books;
mod claims;
mod committer;
mod company;
mod core;
pub mod doctor;
mod folder;
mod format;
mod history;
mod index;
mod journal;
mod keeper;
mod lease;
mod ledger;
mod letters;
mod quarantine;
mod queue;
mod recover;
mod scan;
mod segments;
mod state;
mod upkeep;

pub use folder::OpenError;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

use self::{
    books::day_of,
    claims::second_after,
    committer::{Committer, KeeperLink},
    core::Core,
    folder::{Folder, trying},
    format::{append, append::StoredClaim, segment::JournalKind, settlement::Settled},
    history::Bookmark,
    index::Index,
    journal::Journal,
    keeper::Kept,
    lease::Leased,
    letters::Letters,
    quarantine::Quarantine,
    queue::{Answer, AppendOp, NotQueued, Op, Pending, Queue, SettleOp, Stop},
    recover::Recovered,
    segments::Segments,
    state::State,
};
use super::{
    Accepted, Append, AppendError, Backlog, Bus, BusHealth, Claim, DeadId, DeadLetter, DeadSummary,
    Delivery, Endings, HistoryPage, LaneId, LaneOptions, NewEvent, Seq, Settlement, Steer,
    StoreError, TenantBacklog, Trace,
    lanes::{key_hash, lane_hash, revision_slot},
};
use crate::{
    event::{EventId, Lane},
    plan::BusSettings,
    world::{BoxFuture, Clock, Disk, Timestamp},
};

/// Records up to this size are taken even where segments are smaller.
const RECORD_BYTES: u64 = 64 << 20;

/// When to come back where too much waits.
const QUEUE_RETRY_AFTER: Duration = Duration::from_secs(1);

/// What it takes to open a bus.
#[derive(Clone)]
pub struct EmbeddedOptions {
    /// The state folder; made where there is none.
    pub folder: PathBuf,
    /// Sizes and times.
    pub settings: BusSettings,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where the journal's files are.
    pub disk: Arc<dyn Disk>,
}

/// Counters for [`BusHealth`].
#[derive(Default)]
struct Figures {
    commits: AtomicU64,
    appended: AtomicU64,
    dedupe_keys: AtomicU64,
}

/// What the bus's threads share with those who call it.
struct Shared {
    clock: Arc<dyn Clock>,
    settings: BusSettings,
    queue: Arc<Queue>,
    core: Mutex<Core>,
    state: RwLock<State>,
    segments: Arc<Segments>,
    letters: Mutex<Letters>,
    letter_segments: Arc<Segments>,
    quarantine: Arc<Quarantine>,
    kept: Arc<Kept>,
    figures: Figures,
    refusing: Mutex<Option<String>>,
}

/// A [`Bus`] in a folder.
pub struct EmbeddedBus {
    shared: Arc<Shared>,
    index: Arc<Index>,
    bookmark: Bookmark,
    thread: Option<JoinHandle<()>>,
    _folder: Folder,
}

impl EmbeddedBus {
    /// Opens the folder and everything in it. Reads what a checkpoint has and the journal behind
    /// it; blocks while it does.
    pub fn open(options: EmbeddedOptions) -> Result<Arc<Self>, OpenError> {
        let EmbeddedOptions { folder, settings, clock, disk } = options;
        let folder = Folder::open(&folder)?;
        for path in [folder.journal(), folder.dead()] {
            disk.make_folder(&path).map_err(trying(format!("making {}", path.display())))?;
        }
        let quarantine = Arc::new(Quarantine::new(Arc::clone(&disk), folder.quarantine()));
        let segments = Arc::new(Segments::new(Arc::clone(&disk), folder.journal()));
        let letter_segments = Arc::new(Segments::new(disk, folder.dead()));
        let (index, recovered) =
            open_events(&folder, &segments, &quarantine, clock.now(), settings.cache_bytes)?;
        let Recovered { books, core, state, next_number, tail, checkpointed } = recovered;
        let size = settings.segment_bytes;
        let journal =
            Journal::new(Arc::clone(&segments), JournalKind::Events, size, next_number, tail);
        let (letters, next_number, tail) = recover::letters(&letter_segments, &quarantine)
            .map_err(trying("reading the dead letters"))?;
        let size = letters::SEGMENT_BYTES.min(size);
        let letter_journal =
            Journal::new(Arc::clone(&letter_segments), JournalKind::Dead, size, next_number, tail);
        let kept = Arc::new(Kept::default());
        kept.segment.store(checkpointed, Ordering::Release);
        let shared = Arc::new(Shared {
            clock,
            settings,
            queue: Arc::default(),
            core: Mutex::new(core),
            state: RwLock::new(state),
            segments,
            letters: Mutex::new(letters),
            letter_segments,
            quarantine,
            kept,
            figures: Figures::default(),
            refusing: Mutex::default(),
        });
        let held = books.claims.len() + books.forever.len() as u64;
        shared.figures.dedupe_keys.store(held, Ordering::Relaxed);
        let keeper = start_keeper(&shared, &index)?;
        let committer = Committer::new(Arc::clone(&shared), journal, letter_journal, books, keeper);
        let thread = spawn("tenon-journal", move || committer.run())?;
        let bookmark = Bookmark::default();
        Ok(Arc::new(Self { shared, index, bookmark, thread: Some(thread), _folder: folder }))
    }

    fn encode(&self, batch: Append) -> Result<(AppendOp, AnswerReceiver), AppendError> {
        let now = self.shared.clock.now();
        let bodies: usize = batch.events.iter().map(|n| n.event.record.bytes().len() + 192).sum();
        let mut slots = Vec::with_capacity(bodies);
        let mut pending = |NewEvent { event, claim }| {
            let claim = match claim {
                Claim::None => StoredClaim::None,
                Claim::Window(window) => StoredClaim::Until(second_after(now.plus(window))),
                Claim::Forever => StoredClaim::Forever,
            };
            let start = slots.len();
            append::put_slot(&mut slots, claim, &event);
            Pending { event, claim, slot: start..slots.len(), at: None }
        };
        let events = batch.events.into_iter().map(&mut pending).collect();
        let (reply, answer) = oneshot::channel();
        let op = AppendOp { events, slots, state: batch.state, now, reply: Some(reply) };
        let (bytes, limit) = (op.bytes(), RECORD_BYTES.max(self.shared.settings.segment_bytes));
        if bytes as u64 > limit {
            return Err(AppendError::TooLarge { bytes, limit_bytes: limit as usize });
        }
        Ok((op, answer))
    }

    /// Leases what is due and cached; `Err` says when the next is due.
    fn lease(&self, lane: LaneId, max: usize) -> Result<Leased<'_>, Option<Timestamp>> {
        let mut core = self.shared.core.lock();
        let taken = core.lanes.take(lane, max, self.shared.clock.now());
        if taken.is_empty() {
            return Err(core.lanes.next_due(lane));
        }
        let mut leased = Leased { bus: self, lane, leases: Vec::with_capacity(taken.len()) };
        for taken in taken {
            let event = core.cache.get(taken.seq).cloned();
            if let Some(order) = event.as_ref().and_then(|e| e.order) {
                core.lanes.note_order(lane, taken.seq, order);
            }
            leased.leases.push((taken, event));
        }
        Ok(leased)
    }

    /// Waits until all that was asked before is written, or the bus is closed. Blocks.
    fn flush(&self) {
        let (done, wait) = mpsc::channel();
        if self.shared.queue.push(Op::Flush(done)).is_ok() {
            // An error means that the thread ended; then all is written that will be.
            let _ = wait.recv();
        }
    }

    async fn ask<T>(
        &self,
        op: Op,
        answer: oneshot::Receiver<Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let closed = || StoreError::from(AppendError::Closed);
        self.shared.queue.push(op).map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }
}

type AnswerReceiver = oneshot::Receiver<Answer>;

/// Opens sled and the journal behind its checkpoint; builds sled anew where it cannot be used.
fn open_events(
    folder: &Folder,
    segments: &Arc<Segments>,
    quarantine: &Quarantine,
    now: Timestamp,
    cache_bytes: usize,
) -> Result<(Arc<Index>, Recovered), OpenError> {
    let path = folder.index();
    let mut why = String::new();
    for again in [false, true] {
        if again {
            let aside = index::move_aside(&path).map_err(trying("moving the index aside"))?;
            tracing::error!(
                problem = %why, moved_to = %aside.display(),
                "the index cannot be used; it is built anew from the whole journal"
            );
        }
        let index = match Index::open(&path) {
            Ok(index) => index,
            Err(error) => {
                why = error;
                continue;
            }
        };
        match recover::events(segments, quarantine, &index, now, cache_bytes)
            .map_err(trying("reading the journal"))?
        {
            Ok(recovered) => return Ok((Arc::new(index), recovered)),
            Err(error) => why = error,
        }
    }
    Err(OpenError::Index(why))
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(work).map_err(trying(format!("starting the thread {name}")))
}

fn start_keeper(shared: &Arc<Shared>, index: &Arc<Index>) -> Result<KeeperLink, OpenError> {
    let (jobs, waiting) = mpsc::sync_channel(1);
    let (gone, stop) = mpsc::channel();
    let (index, shared) = (Arc::clone(index), Arc::clone(shared));
    let thread = spawn("tenon-index", move || {
        keeper::run(&waiting, &index, &shared.kept, &shared.queue, &stop);
    })?;
    Ok(KeeperLink { jobs, gone, thread })
}

impl Bus for EmbeddedBus {
    fn append(&self, batch: Append) -> BoxFuture<'_, Result<Vec<Accepted>, AppendError>> {
        Box::pin(async move {
            if batch.events.is_empty() && batch.state.is_empty() {
                return Ok(Vec::new());
            }
            let (op, answer) = self.encode(batch)?;
            self.shared.queue.push(Op::Append(op)).map_err(|why| match why {
                NotQueued::Closed => AppendError::Closed,
                NotQueued::Full => AppendError::Full {
                    what: format!("{} bytes wait to be written", queue::QUEUE_BYTES),
                    retry_after: QUEUE_RETRY_AFTER,
                },
            })?;
            answer.await.map_or(Err(AppendError::Closed), |answer| answer.result)
        })
    }

    fn known<'a>(&'a self, events: &'a [NewEvent]) -> BoxFuture<'a, Vec<bool>> {
        Box::pin(async move {
            let unknown = || vec![false; events.len()];
            let (reply, answer) = oneshot::channel();
            let asked = events.iter().filter(|new| new.claim != Claim::None);
            let asked: Vec<_> =
                asked.map(|new| (Arc::clone(&new.event), new.claim == Claim::Forever)).collect();
            if asked.is_empty() {
                return unknown();
            }
            let now = self.shared.clock.now();
            if self.shared.queue.push(Op::Known { events: asked, now, reply }).is_err() {
                return unknown();
            }
            let Ok(found) = answer.await else { return unknown() };
            let mut found = found.into_iter();
            let known = |new: &NewEvent| new.claim != Claim::None && found.next() == Some(true);
            events.iter().map(known).collect()
        })
    }

    fn open(&self, lane: &Lane, options: LaneOptions) -> LaneId {
        self.shared.core.lock().lanes.open(lane, options)
    }

    fn take(&self, lane: LaneId, max: usize) -> BoxFuture<'_, Vec<Delivery>> {
        Box::pin(async move {
            let Some(notify) = self.shared.core.lock().lanes.notify(lane) else {
                return std::future::pending().await;
            };
            loop {
                let mut notified = std::pin::pin!(notify.notified());
                notified.as_mut().enable();
                match self.lease(lane, max) {
                    Ok(mut leased) => {
                        leased.read_bodies().await;
                        let deliveries = leased.hand_over();
                        if !deliveries.is_empty() {
                            return deliveries;
                        }
                    }
                    Err(None) => notified.await,
                    Err(Some(due)) => tokio::select! {
                        () = notified => {}
                        () = self.shared.clock.sleep_until(due) => {}
                    },
                }
            }
        })
    }

    fn hurry(&self, lane: LaneId, tenant: Option<&str>) {
        self.shared.core.lock().lanes.hurry(lane, tenant);
    }

    fn steer(&self, lane: LaneId, tenant: Option<&str>, steer: Steer) -> bool {
        self.shared.core.lock().lanes.steer(lane, tenant, steer)
    }

    fn settle(&self, lane: LaneId, seq: Seq, settlement: Settlement) {
        let at = self.shared.clock.now();
        let mut core = self.shared.core.lock();
        let Some(ended) = core.lanes.settle(lane, seq.0, &settlement) else {
            return;
        };
        if ended.terminal {
            core.cache.settled(seq.0);
        }
        if matches!(settlement, Settlement::Defer { .. }) {
            return;
        }
        let mut revision = None;
        if let (Settlement::Delivered { .. }, Some(order)) = (&settlement, ended.order) {
            let slot = revision_slot(core.lanes.hash(lane).unwrap_or_default(), ended.key);
            core.raise(slot, order, day_of(at));
            revision = Some((slot, order));
        }
        let Some(name) = core.lanes.name(lane) else {
            return;
        };
        let destination = Arc::clone(&name.destination);
        drop(core);
        let settled = Settled { seq: seq.0, at, destination, revision, settlement };
        self.shared.queue.settle(SettleOp { flow: ended.flow, settled });
    }

    fn newest(&self, lane: LaneId, key: &str) -> Option<i64> {
        let core = self.shared.core.lock();
        let slot = revision_slot(core.lanes.hash(lane)?, key_hash(key));
        core.newest.get(&slot).map(|n| n.order)
    }

    fn newest_of(&self, lane: &Lane, key: &str) -> Option<i64> {
        let slot = revision_slot(lane_hash(lane), key_hash(key));
        self.shared.core.lock().newest.get(&slot).map(|n| n.order)
    }

    fn backlog(&self) -> Vec<Backlog> {
        let fills = self.shared.core.lock().lanes.fills();
        let received = |seq: u64| {
            let cached = self.shared.core.lock().cache.get(seq).map(|e| e.received_at);
            cached.or_else(|| {
                let read = self.shared.segments.read_events(&[seq], usize::MAX).pop()?;
                Some(read.ok()?.received_at)
            })
        };
        let backlog = fills.into_iter().map(|fill| Backlog {
            lane: fill.lane,
            unsettled: fill.unsettled,
            oldest: fill.head.and_then(received),
        });
        backlog.collect()
    }

    fn tenant_backlog(&self, tenant: &str) -> TenantBacklog {
        self.shared.core.lock().lanes.tenant(tenant)
    }

    fn tenants(&self) -> Vec<(Arc<str>, TenantBacklog)> {
        self.shared.core.lock().lanes.tenants()
    }

    fn bury(&self, letter: DeadLetter) -> BoxFuture<'_, Result<DeadId, StoreError>> {
        let (reply, answer) = oneshot::channel();
        Box::pin(self.ask(Op::Bury { letter, reply }, answer))
    }

    fn dead_letters(&self) -> Vec<DeadSummary> {
        self.shared.letters.lock().summaries()
    }

    fn dead_letter(&self, id: DeadId) -> Result<Option<DeadLetter>, StoreError> {
        letters::read(&self.shared.letter_segments, &self.shared.letters, id)
            .map_err(|e| StoreError(e.to_string()))
    }

    fn discard(&self, id: DeadId) -> BoxFuture<'_, Result<bool, StoreError>> {
        let (reply, answer) = oneshot::channel();
        let now = self.shared.clock.now();
        Box::pin(self.ask(Op::Discard { id, died_at: None, now, reply }, answer))
    }

    fn discard_if(
        &self,
        id: DeadId,
        died_at: Timestamp,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        let (reply, answer) = oneshot::channel();
        let now = self.shared.clock.now();
        Box::pin(self.ask(Op::Discard { id, died_at: Some(died_at), now, reply }, answer))
    }

    fn state(&self, key: &str) -> Option<Vec<u8>> {
        self.shared.state.read().get(key)
    }

    fn state_under(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        self.shared.state.read().under(prefix)
    }

    fn state_page(&self, prefix: &str, after: Option<&str>, max: usize) -> Vec<(String, Vec<u8>)> {
        self.shared.state.read().page(prefix, after, max)
    }

    fn put_state(
        &self,
        key: &str,
        value: Option<Vec<u8>>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let state = vec![(key.to_owned(), value)];
        Box::pin(async move {
            self.append(Append { events: Vec::new(), state }).await?;
            Ok(())
        })
    }

    fn history(
        &self,
        from: Timestamp,
        to: Timestamp,
        after: Option<Seq>,
    ) -> Result<HistoryPage, StoreError> {
        history::page(&self.shared.segments, &self.bookmark, from, to, after.map(|seq| seq.0))
    }

    fn trace(&self, id: EventId) -> Result<Vec<Trace>, StoreError> {
        self.flush();
        let checkpointed = self.shared.kept.segment.load(Ordering::Acquire);
        history::trace(&self.shared.segments, &self.index, checkpointed, id)
    }

    fn endings(&self, asked: &mut Endings, after: Option<Seq>) -> Result<Option<Seq>, StoreError> {
        if after.is_none() {
            self.flush();
        }
        history::endings(&self.shared.segments, asked, after.map(|seq| seq.0))
    }

    fn health(&self) -> BusHealth {
        let shared = &self.shared;
        let figure = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        BusHealth {
            refusing: shared.refusing.lock().clone(),
            disk_bytes: shared.segments.used_bytes() + shared.letter_segments.used_bytes(),
            disk_limit_bytes: shared.settings.max_disk_bytes,
            unsettled: shared.core.lock().lanes.unsettled(),
            dedupe_keys: figure(&shared.figures.dedupe_keys),
            dead_letters: shared.letters.lock().len(),
            commits: figure(&shared.figures.commits),
            appended: figure(&shared.figures.appended),
            quarantined: shared.quarantine.count(),
        }
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let (done, closed) = oneshot::channel();
            self.shared.queue.stop(Stop::Close(done));
            // Where it was closed before, the sender is dropped at once.
            drop(closed.await);
        })
    }
}

impl Drop for EmbeddedBus {
    fn drop(&mut self) {
        self.shared.queue.stop(Stop::Abandon);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the journal's thread panicked");
        }
    }
}
