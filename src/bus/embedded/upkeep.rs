//! What the journal's thread does between groups: checkpoints, retention, recovery of the disk.

use std::{
    sync::{
        atomic::Ordering,
        mpsc::{SyncSender, TrySendError},
    },
    time::{Duration, Instant},
};

use super::{
    claims::second_of,
    committer::{Committer, KeeperLink},
    format::checkpoint::Position,
    keeper::Job,
    letters,
};
use crate::world::Timestamp;

/// A checkpoint is made after this many bytes of journal ...
const CHECKPOINT_BYTES: usize = 32 << 20;

/// ... or this long after the last one.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(30);

/// How often to look for what has expired.
const TICK_EVERY: Duration = Duration::from_mins(1);

/// Newest revisions are kept at least this long.
const REVISIONS_KEPT: Duration = Duration::from_hours(30 * 24);

/// When what was last done, and what is asked for.
pub(super) struct Upkeep {
    last_checkpoint: Instant,
    next_tick: Instant,
    bytes_since: usize,
    /// Checkpoints handed to the keeper.
    handed: u32,
    /// The disk budget is nearly or fully spent: settled history has to go.
    wants_room: bool,
    /// Why events are refused for want of room, and how many bytes they asked for.
    full: Option<String>,
    asked_bytes: u64,
    /// Whether health says that the bus refuses.
    told: bool,
}

impl Default for Upkeep {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            last_checkpoint: now,
            // The first look is at start: much may have expired while nothing ran.
            next_tick: now,
            bytes_since: 0,
            handed: 0,
            wants_room: false,
            full: None,
            asked_bytes: 0,
            told: false,
        }
    }
}

impl Upkeep {
    pub fn written(&mut self, bytes: usize) {
        self.bytes_since += bytes;
    }

    pub fn wake_at(&self) -> Instant {
        match self.bytes_since {
            0 => self.next_tick,
            _ => self.next_tick.min(self.last_checkpoint + CHECKPOINT_EVERY),
        }
    }
}

impl Committer {
    /// Looks after everything once.
    pub(super) fn keep_up(&mut self) {
        if self.journal.probe_at().is_some_and(|at| at <= Instant::now()) {
            let now = self.books.now;
            // The outcome shows in `trouble`, which is told below.
            drop(self.journal.probe(0, now));
            if self.journal.trouble().is_none() && self.settlements_wait() {
                self.commit(Vec::new());
            }
        }
        let tick = self.upkeep.next_tick <= Instant::now();
        if tick {
            self.upkeep.next_tick = Instant::now() + TICK_EVERY;
            let now = self.tell_time();
            self.books.claims.sweep(second_of(now));
            self.forget_old_revisions(now);
            self.retain_letters(now);
        }
        if tick || self.upkeep.wants_room {
            self.retain();
        }
        self.checkpoint_if_due();
        self.tell_refusal();
    }

    fn forget_old_revisions(&mut self, now: Timestamp) {
        let kept = REVISIONS_KEPT.max(self.shared.settings.history);
        let first_day = super::books::day_of(now.minus(kept));
        self.shared.core.lock().newest.retain(|_, newest| newest.day >= first_day);
    }

    fn retain_letters(&mut self, now: Timestamp) {
        let kept = self.shared.settings.dead_letters;
        if let Err(error) = letters::retain(&self.letters, &self.shared.letters, now, kept) {
            tracing::warn!(%error, "old dead letters were not removed");
        }
    }

    /// Why `more` bytes of events are not taken: they would exceed the disk budget.
    pub(super) fn over_budget(&mut self, more: u64) -> Option<String> {
        let settings = &self.shared.settings;
        let used = self.shared.segments.used_bytes() + more;
        self.upkeep.wants_room = used + settings.segment_bytes > settings.max_disk_bytes;
        self.upkeep.asked_bytes = more;
        self.upkeep.full = None;
        if used > settings.max_disk_bytes {
            let limit = settings.max_disk_bytes;
            self.upkeep.full =
                Some(format!("what is not settled fills the disk budget of {limit} bytes"));
        }
        self.upkeep.full.clone()
    }

    /// Shows in the bus's health why nothing is taken, before anybody is answered so.
    pub(super) fn tell_refusal(&mut self) {
        if self.upkeep.full.is_some() {
            self.over_budget(self.upkeep.asked_bytes);
        }
        let why = self.journal.trouble().or(self.upkeep.full.as_deref());
        if why.is_some() || self.upkeep.told {
            self.upkeep.told = why.is_some();
            *self.shared.refusing.lock() = why.map(str::to_owned);
        }
    }

    /// Removes segments that nobody needs: settled, checkpointed, and older than history reaches or
    /// in the way of what is not settled.
    fn retain(&mut self) {
        let kept = self.shared.kept.segment.load(Ordering::Acquire);
        let before = self.books.now.minus(self.shared.settings.history);
        for facts in self.shared.segments.all() {
            let number = facts.number;
            if number >= kept || self.books.ledger.live(number) > 0 {
                continue;
            }
            let in_the_way = self.upkeep.wants_room && self.lacks_room();
            if !in_the_way && facts.latest >= before {
                continue;
            }
            if !self.carry_state(number) {
                break;
            }
            match self.shared.segments.remove(number) {
                Ok(()) => tracing::info!(segment = number, "settled history was removed"),
                Err(error) => {
                    tracing::warn!(segment = number, %error, "history was not removed");
                    break;
                }
            }
        }
    }

    fn lacks_room(&self) -> bool {
        let settings = &self.shared.settings;
        let used = self.shared.segments.used_bytes();
        used + settings.segment_bytes > settings.max_disk_bytes
    }

    fn checkpoint_if_due(&mut self) {
        if self.keeper_is_busy() {
            return;
        }
        let many = self.upkeep.bytes_since >= CHECKPOINT_BYTES;
        let late = self.upkeep.bytes_since > 0
            && self.upkeep.last_checkpoint.elapsed() >= CHECKPOINT_EVERY;
        if many || late || self.removal_waits_for_checkpoint() {
            self.checkpoint();
        }
    }

    fn keeper_is_busy(&self) -> bool {
        self.shared.kept.count.load(Ordering::Acquire) != self.upkeep.handed
    }

    /// Whether room is wanted and a checkpoint would let a settled segment go.
    fn removal_waits_for_checkpoint(&self) -> bool {
        let kept = self.shared.kept.segment.load(Ordering::Acquire);
        let end = self.journal.end().0;
        self.upkeep.wants_room
            && self
                .shared
                .segments
                .all()
                .iter()
                .any(|f| (kept..end).contains(&f.number) && self.books.ledger.live(f.number) == 0)
    }

    /// Hands the keeper what changed since the last checkpoint.
    fn checkpoint(&mut self) {
        let Some(KeeperLink { jobs, .. }) = &self.keeper else {
            return;
        };
        let jobs: SyncSender<Job> = jobs.clone();
        let (segment, offset) = self.journal.end();
        let segments = self.shared.segments.all();
        let position = Position { segment, offset, segments };
        let writes = {
            let (mut core, state) = (self.shared.core.lock(), self.shared.state.read());
            self.books.checkpoint(position, &mut core, &state)
        };
        self.upkeep.last_checkpoint = Instant::now();
        self.upkeep.bytes_since = 0;
        match jobs.try_send(Job { writes, segment }) {
            Ok(()) => self.upkeep.handed += 1,
            // The next start builds what is missing from the journal, which keeps all it holds.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                tracing::error!("a checkpoint was lost; the next start reads more of the journal");
                self.keeper = None;
            }
        }
    }

    /// Writes everything down and lets go.
    pub(super) fn close(&mut self) {
        let busy_since = Instant::now();
        while self.keeper_is_busy() && busy_since.elapsed() < CHECKPOINT_EVERY {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        self.journal.finish();
        self.letters.finish();
        self.checkpoint();
        self.keeper_ends();
        *self.shared.refusing.lock() = Some("the bus is shut down".to_owned());
    }

    /// Waits for the keeper's last checkpoint.
    fn keeper_ends(&mut self) {
        if let Some(KeeperLink { jobs, gone, thread }) = self.keeper.take() {
            drop((jobs, gone));
            if thread.join().is_err() {
                tracing::error!("the thread that writes checkpoints panicked");
            }
        }
    }
}
