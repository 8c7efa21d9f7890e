//! The bus: where an event is durable, who has it now, and how it ended.
//!
//! A bus is a queue with leases. [`Bus::append`] makes events, their claims and state durable in
//! one atomic record; [`Bus::take`] leases what is due in a lane; [`Bus::settle`] ends a lease. A
//! lease lives in memory only: after a crash everything unsettled is due again, with the same ids.
//!
//! An event ends in exactly one of delivered, superseded, filtered or dead for each lane.

mod aside;
pub mod conformance;
pub mod embedded;
mod endings;
mod lanes;
mod memory;
mod steps;

pub use aside::Aside;
pub use embedded::{EmbeddedBus, EmbeddedOptions, OpenError};
pub use endings::{Ending, Endings, document_hash};
pub(crate) use lanes::Window;
pub use memory::MemoryBus;

use std::{sync::Arc, time::Duration};

use crate::{
    event::{Event, EventId, Lane},
    plan::Order,
    world::{BoxFuture, Timestamp},
};

/// Where an event stands in the journal: rises with every append, is never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seq(pub u64);

/// An open lane, see [`Bus::open`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId(pub u32);

/// How long a claim on an event's id holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The id is refused as a duplicate for this long after it was accepted.
    Window(Duration),
    /// One entry a key, for ever: refused while the key's last accepted revision is this one.
    Forever,
    /// No claim: a replay, which must not be swallowed as a duplicate of its original.
    None,
}

/// An event to append.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// The event. `event.to` names its lanes; with an empty `to` it is settled at once.
    pub event: Arc<Event>,
    /// How its id is claimed.
    pub claim: Claim,
}

/// What becomes durable together or not at all.
#[derive(Clone, Debug, Default)]
pub struct Append {
    /// The events, in order.
    pub events: Vec<NewEvent>,
    /// State written with them (a cursor): key and value, `None` removes.
    pub state: StateWrites,
}

/// What became of one appended event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is durable, here.
    New(Seq),
    /// Its id was claimed before, durably: nothing was written.
    Duplicate,
}

/// Why nothing was appended. Nothing of the batch is durable, and none of it may be acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// Unsettled events fill the disk budget or too much waits: try again after this long.
    Full {
        /// What is full, for the log.
        what: String,
        /// When to come back.
        retry_after: Duration,
    },
    /// A tenant has spent its budget: others are taken.
    Budget {
        /// Whose.
        tenant: String,
        /// `accept`, `backlog` or `disk`.
        what: &'static str,
        /// When to come back.
        retry_after: Duration,
    },
    /// The disk refused (full, read-only, failed fsync). The bus tries to recover by itself.
    Unavailable(String),
    /// The record is larger than a segment may hold.
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// The bus is shut down.
    Closed,
}

impl std::fmt::Display for AppendError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full { what, .. } => write!(f, "the bus is full: {what}"),
            Self::Budget { tenant, what, .. } => {
                write!(f, "tenant {tenant} has spent its budget: {what}")
            }
            Self::Unavailable(why) => f.write_str(why),
            Self::TooLarge { bytes, limit_bytes } => {
                write!(f, "a record of {bytes} bytes exceeds the limit of {limit_bytes} bytes")
            }
            Self::Closed => f.write_str("the bus is shut down"),
        }
    }
}

impl std::error::Error for AppendError {}

/// How a lane hands out its events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneOptions {
    /// What waits for what. By key: one event of a key is leased at a time, and the next of that key
    /// only after it settled, while other keys go on. Strict: the same for all events of the lane.
    pub order: Order,
    /// Most events that the taker has in hand at once, which the tenants share; 0: it does not say.
    pub window: usize,
}

/// How a tenant's events in a lane are handed out, see [`Bus::steer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steer {
    /// None before that time.
    pub not_before: Option<Timestamp>,
    /// So many in hand at once.
    pub most: usize,
    /// Its share beside other tenants; at least 1.
    pub weight: u32,
}

impl Default for Steer {
    fn default() -> Self {
        Self { not_before: None, most: usize::MAX, weight: 1 }
    }
}

/// What a tenant has waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantBacklog {
    /// Unsettled pairs of event and destination.
    pub events: u64,
    /// About what their records take in the journal.
    pub bytes: u64,
}

/// A leased event.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Where it stands.
    pub seq: Seq,
    /// The event.
    pub event: Arc<Event>,
    /// Counted attempts before this one.
    pub attempts: u32,
    /// When the first counted attempt ended, where there was one.
    pub first_attempt_at: Option<Timestamp>,
    /// How many events of the same tenant in this lane wait for their time, when it was leased.
    pub crowd: usize,
}

/// How a lease ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// The destination took it. Where the event has an order, it becomes the lane's newest
    /// revision of that key, see [`Bus::newest`].
    Delivered {
        /// Attempts it took, this one included.
        attempts: u32,
        /// HTTP status, where there was one.
        status: Option<u16>,
        /// The hash of the document that was sent, see [`document_hash`]; a replay's dry run compares.
        sent: Option<u64>,
    },
    /// A newer revision of the key was delivered before.
    Superseded {
        /// Its order, see [`Event::order`]; `None` in journals from before it was kept.
        by: Option<i64>,
    },
    /// It is in the dead letters (call [`Bus::bury`] first).
    Dead {
        /// A stable word: `rejected`, `attempts_spent`, `time_spent`, `map_failed`, `schema_failed`, …
        reason: String,
    },
    /// A counted attempt failed: due again at `due`. Survives a restart.
    Retry {
        /// When.
        due: Timestamp,
        /// Counted attempts so far.
        attempts: u32,
        /// When the first of them ended.
        first_attempt_at: Timestamp,
        /// What happened, one line, no secrets.
        error: String,
    },
    /// Not attempted (rate, held destination, reload): due again at `due`. Kept in memory only.
    Defer {
        /// When.
        due: Timestamp,
    },
}

/// A dead letter as stored: the event, where it was going, and the whole story.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// The event.
    pub event: Arc<Event>,
    /// The destination that it did not reach.
    pub destination: Arc<str>,
    /// When it died.
    pub died_at: Timestamp,
    /// The stable word of [`Settlement::Dead`].
    pub reason: String,
    /// What went wrong, for a person: field, path, type and place for a mapping; status and the
    /// beginning of the body for a refusal. No secrets.
    pub message: String,
    /// Counted attempts.
    pub attempts: u32,
    /// HTTP status of the last attempt.
    pub status: Option<u16>,
    /// The canary that had the event in hand; `None`: its own connector.
    pub variant: Option<Arc<str>>,
}

/// Names a dead letter: its number, printed as `dl_<n>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeadId(pub u64);

impl std::fmt::Display for DeadId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "dl_{}", self.0)
    }
}

/// A line of the list of dead letters; what it takes to pick one without reading its body.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadSummary {
    /// Its name.
    pub id: DeadId,
    /// The event's id.
    pub event: EventId,
    /// Where it was going.
    pub lane: Lane,
    /// When it died.
    pub died_at: Timestamp,
    /// The stable word.
    pub reason: String,
    /// The canary that had the event in hand.
    pub variant: Option<Arc<str>>,
}

/// How full one lane is.
#[derive(Clone, Debug, PartialEq)]
pub struct Backlog {
    /// The lane.
    pub lane: Lane,
    /// Events neither delivered, superseded nor dead.
    pub unsettled: u64,
    /// When the oldest of them was received (of those at the head of the lane).
    pub oldest: Option<Timestamp>,
}

/// One step in an event's life, for `tenon trace`.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// When, where it is known (the time of the append or of the settlement).
    pub at: Timestamp,
    /// The destination; `None` for the append itself.
    pub destination: Option<Arc<str>>,
    /// `accepted`, `retry`, `delivered`, `superseded`, `dead`.
    pub what: String,
    /// Attempts, status, error: one line.
    pub detail: String,
}

/// Everything the bus knows of one event.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// Where it stands.
    pub seq: Seq,
    /// The event.
    pub event: Arc<Event>,
    /// What happened to it, in order.
    pub steps: Vec<Step>,
}

/// One page of history.
#[derive(Clone, Debug, Default)]
pub struct HistoryPage {
    /// Events received within the asked time, in order.
    pub events: Vec<(Seq, Arc<Event>)>,
    /// Where to go on; `None` at the end.
    pub next: Option<Seq>,
}

/// How the bus is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BusHealth {
    /// Why nothing is accepted at present; `None` while all is well.
    pub refusing: Option<String>,
    /// Bytes of journal on disk.
    pub disk_bytes: u64,
    /// The budget.
    pub disk_limit_bytes: u64,
    /// Unsettled (event, lane) pairs.
    pub unsettled: u64,
    /// Claims held.
    pub dedupe_keys: u64,
    /// Dead letters kept.
    pub dead_letters: u64,
    /// Group commits so far, and the events in them.
    pub commits: u64,
    /// Events appended since start.
    pub appended: u64,
    /// Records that could not be read and were set aside since the folder was opened.
    pub quarantined: u64,
}

/// The store refused to read or write something that is not an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError(pub String);

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StoreError {}

/// Keys of state with what they are to hold; `None` removes.
pub type StateWrites = Vec<(String, Option<Vec<u8>>)>;

/// So many keys are written in one append: enough for one fsync to be cheap, and no more than a record
/// of the journal holds.
const KEYS_AN_APPEND: usize = 4_096;

/// Makes changes of state durable, however many: in parts, in order. After an error the parts before it
/// are written.
pub async fn write_state(bus: &dyn Bus, writes: StateWrites) -> Result<(), AppendError> {
    let mut writes = writes.into_iter().peekable();
    while writes.peek().is_some() {
        let state = writes.by_ref().take(KEYS_AN_APPEND).collect();
        bus.append(Append { events: Vec::new(), state }).await?;
    }
    Ok(())
}

impl From<AppendError> for StoreError {
    fn from(error: AppendError) -> Self {
        Self(error.to_string())
    }
}

/// Events of one page of history.
const HISTORY_PAGE_EVENTS: usize = 1_000;

/// The line of the list for a letter.
fn summary(id: DeadId, letter: &DeadLetter) -> DeadSummary {
    DeadSummary {
        id,
        event: letter.event.id,
        lane: Lane {
            connector: Arc::clone(&letter.event.connector),
            stream: Arc::clone(&letter.event.stream),
            destination: Arc::clone(&letter.destination),
        },
        died_at: letter.died_at,
        reason: letter.reason.clone(),
        variant: letter.variant.clone(),
    }
}

/// See the module's text. Implementations: [`MemoryBus`], `embedded::EmbeddedBus`.
pub trait Bus: Send + Sync + 'static {
    /// Makes the batch durable, whole or not at all. A duplicate within one batch is a duplicate.
    /// A duplicate is reported only once the first copy is durable. The state of a batch is written
    /// even where every event of it is a duplicate.
    fn append(&self, batch: Append) -> BoxFuture<'_, Result<Vec<Accepted>, AppendError>>;

    /// Whether each of these events was taken in before, and would be refused as a duplicate. For whoever
    /// would rather not make the event: an answer of no promises nothing.
    fn known<'a>(&'a self, events: &'a [NewEvent]) -> BoxFuture<'a, Vec<bool>>;

    /// Opens a lane, or gives the id it has. All leases that a previous opener held are returned
    /// to the lane (a reload drains through this).
    fn open(&self, lane: &Lane, options: LaneOptions) -> LaneId;

    /// Leases up to `max` due events, waiting until there is at least one. Cancel-safe: a future
    /// that is dropped has leased nothing. Bodies are read back from the journal where they are no
    /// longer in memory; one that cannot be read is quarantined, counted and skipped.
    fn take(&self, lane: LaneId, max: usize) -> BoxFuture<'_, Vec<Delivery>>;

    /// Changes how a tenant's events in this lane are handed out (`None`: those without a tenant), until
    /// it is changed again or the lane is opened anew. What is leased stays leased. A tenant that has nothing
    /// there and was told nothing but the default is forgotten, and cannot be told before it has something:
    /// then `false`.
    fn steer(&self, lane: LaneId, tenant: Option<&str>, steer: Steer) -> bool;

    /// Lets those of a tenant's events in this lane that wait for their next attempt be due now: what kept
    /// them waiting is over. Their counts stay.
    fn hurry(&self, lane: LaneId, tenant: Option<&str>);

    /// Ends a lease. Does not wait: a settlement rides with the next group commit.
    fn settle(&self, lane: LaneId, seq: Seq, settlement: Settlement);

    /// The order (see [`Event::order`]) of the newest revision of `key` delivered in this lane.
    fn newest(&self, lane: LaneId, key: &str) -> Option<i64>;

    /// The same by the lane's name, opened or not: what a replay would find superseded.
    fn newest_of(&self, lane: &Lane, key: &str) -> Option<i64>;

    /// How full each lane is, those without a pipeline included.
    fn backlog(&self) -> Vec<Backlog>;

    /// What a tenant has waiting in all lanes.
    fn tenant_backlog(&self, tenant: &str) -> TenantBacklog;

    /// What each tenant has waiting, of those that have anything.
    fn tenants(&self) -> Vec<(Arc<str>, TenantBacklog)>;

    /// Stores a dead letter, durably when the future is done. A second one for the same event and
    /// destination replaces the first.
    fn bury(&self, letter: DeadLetter) -> BoxFuture<'_, Result<DeadId, StoreError>>;

    /// All dead letters, oldest first.
    fn dead_letters(&self) -> Vec<DeadSummary>;

    /// One dead letter, whole.
    fn dead_letter(&self, id: DeadId) -> Result<Option<DeadLetter>, StoreError>;

    /// Removes a dead letter for good, durably. Whether there was one.
    fn discard(&self, id: DeadId) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// As [`Bus::discard`], but only the letter that died at that time: one that replaced it since, under
    /// the same name, stays. This one looks first, and leaves a moment in which one may be replaced;
    /// a bus that can do better does.
    fn discard_if(
        &self,
        id: DeadId,
        died_at: Timestamp,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async move {
            match self.dead_letter(id)? {
                Some(letter) if letter.died_at == died_at => self.discard(id).await,
                _ => Ok(false),
            }
        })
    }

    /// State under a key (cursor, token, flag), as last written.
    fn state(&self, key: &str) -> Option<Vec<u8>>;

    /// Keys and values of state that begin with `prefix`, in order of key.
    fn state_under(&self, prefix: &str) -> Vec<(String, Vec<u8>)>;

    /// As [`Bus::state_under`], at most `max` of them, those behind the key `after`. For what there may
    /// be very many of.
    fn state_page(&self, prefix: &str, after: Option<&str>, max: usize) -> Vec<(String, Vec<u8>)>;

    /// Writes state, durable when the future is done. `None` removes.
    fn put_state(&self, key: &str, value: Option<Vec<u8>>)
    -> BoxFuture<'_, Result<(), StoreError>>;

    /// Events received in `from..to`, at most about 1,000 a page, going on after `after`.
    fn history(
        &self,
        from: Timestamp,
        to: Timestamp,
        after: Option<Seq>,
    ) -> Result<HistoryPage, StoreError>;

    /// All there is about an event; several entries where it was replayed.
    fn trace(&self, id: EventId) -> Result<Vec<Trace>, StoreError>;

    /// Finds out what became of the events that are asked about. Reads a bounded part at a time; goes on
    /// after what the last call gave, until `None`. This one traces event by event, and does not
    /// know what was sent; a bus that can read its journal in one pass does.
    fn endings(&self, asked: &mut Endings, after: Option<Seq>) -> Result<Option<Seq>, StoreError> {
        if after.is_none() {
            for id in asked.ids() {
                let traces = self.trace(id)?;
                asked.traced(id, &traces);
            }
        }
        Ok(None)
    }

    /// How the bus is.
    fn health(&self) -> BusHealth;

    /// Commits what waits, writes a checkpoint and refuses from then on.
    fn close(&self) -> BoxFuture<'_, ()>;
}
