//! From a page to the bus: its records are named, and made durable with the cursor that they move.

use serde_json::Value;

use crate::{
    bus::{Accepted, Append, AppendError, NewEvent, StateWrites},
    event::{Origin, Record},
    ingest::{Incoming, keyed, name_event},
    map::Env,
    plan::{CursorPlan, Sorted},
    world::Timestamp,
};

use super::{
    PollFailure, PollReport,
    cursor::CursorValue,
    detail::{Detail, join},
    explode::Opened,
    parents::PendingParents,
    path::kind,
    run::{Arrived, Poller, Run, Slot, failed},
    stored::{Stored, Validator},
    window::Window,
};

/// A page with more than this is appended in several parts, the cursor with the last.
const PART_BYTES: usize = 4 << 20;
/// How many records are named before others may run, the next page's download above all.
const RECORDS_PER_TURN: u64 = 128;
/// How many listed records are looked up together before their details are fetched.
const RECORDS_ASKED_FOR: usize = 256;
/// How many records without a name are logged one by one; the count tells of the rest.
const LOGGED_UNNAMED: u64 = 5;

/// Records on their way into the bus.
pub(super) struct Intake {
    env: Env,
    received_at: Timestamp,
    events: Vec<NewEvent>,
    /// What is remembered of them for the streams that are read for each of them.
    parents: PendingParents,
    /// Of their records.
    bytes: usize,
    /// What was taken in since the last part was appended.
    tally: PollReport,
    /// Of all parts.
    pub(super) records: u64,
}

impl Intake {
    /// With the names that expressions see besides the record; for about so many records.
    pub fn new(env: Env, received_at: Timestamp, records: usize) -> Self {
        let events = Vec::with_capacity(records);
        Self {
            env,
            received_at,
            events,
            parents: PendingParents::new(),
            bytes: 0,
            tally: PollReport::default(),
            records: 0,
        }
    }

    /// Whether what was named is worth appending.
    pub fn is_full(&self) -> bool {
        self.bytes >= PART_BYTES
    }

    /// Lets others run now and then.
    pub async fn rest(&self) {
        if self.records.is_multiple_of(RECORDS_PER_TURN) {
            tokio::task::yield_now().await;
        }
    }
}

impl Run<'_> {
    /// Names a page's records and makes them durable, with the cursor where it moves.
    pub(super) async fn store(
        &mut self,
        arrived: Arrived,
        window: &Window,
    ) -> Result<(), PollFailure> {
        let Arrived { page, response, bytes, received_at, done, validator } = arrived;
        let env = self.response_env(&response);
        let mut intake = Intake::new(env, received_at, page.items.len());
        let (mut opened, mut items) = (Vec::new(), page.items.into_iter());
        loop {
            while opened.len() < self.at_once()
                && let Some(item) = items.next()
            {
                self.explode.open(item, bytes, &mut opened).map_err(failed)?;
            }
            if opened.is_empty() {
                break;
            }
            self.take_all(&mut opened, window, &mut intake).await?;
        }
        self.explode.end_page().map_err(failed)?;
        let state = self.state_after(window, done, received_at, validator);
        self.append_all(&mut intake, state).await?;
        self.report.pages += 1;
        Ok(())
    }

    /// Names records, once what belongs to them is fetched.
    pub(super) async fn take_all(
        &mut self,
        opened: &mut Vec<Opened>,
        window: &Window,
        intake: &mut Intake,
    ) -> Result<(), PollFailure> {
        self.fetch_details(opened, window, &intake.env).await?;
        for opened in opened.drain(..) {
            self.take_in(opened, window, intake)?;
            intake.rest().await;
        }
        Ok(())
    }

    /// Names one record.
    pub(super) fn take_in(
        &mut self,
        opened: Opened,
        window: &Window,
        intake: &mut Intake,
    ) -> Result<(), PollFailure> {
        let Opened { record, up, detail } = opened;
        let (cursor_plan, tally) = (self.poll.cursor.as_deref(), &mut intake.tally);
        tally.items += 1;
        intake.records += 1;
        let at = match cursor_plan {
            Some(plan) => cursor_of(plan, detail.listed().unwrap_or(&record), &intake.env)?,
            None => None,
        };
        let env = intake.env.clone();
        let env = match up {
            Some(up) => env.with("up", up),
            None => env,
        };
        let received_at = intake.received_at;
        let incoming =
            Incoming { record, origin: Origin::Poll, received_at, traceparent: None, env };
        let place = place_of(cursor_plan, window, at.as_ref());
        if place == Place::Beyond {
            tally.filtered += 1;
            return Ok(());
        }
        let mut event = if place == Place::Before {
            tally.filtered += 1;
            None
        } else if detail.is_over() {
            None
        } else {
            self.name(incoming, tally, &mut intake.parents)
        };
        if let (Some(event), Detail::Fetched { with, .. }) = (&mut event, &detail)
            && !with.is_empty()
        {
            join(event, with);
        }
        if let (Some(seen), Some(event)) = (self.seen, &event) {
            let read = (self.each.as_ref(), intake.received_at);
            self.poller.remember(seen, &event.event, read, &mut intake.parents);
        }
        let id = event.as_ref().map(|event| event.event.id).or(detail.known());
        if let Some(at) = at {
            self.progress.observe(at, id);
        }
        intake.bytes += event.as_ref().map_or(0, |event| event.event.record.bytes().len());
        if detail.known().is_some() || id.is_some_and(|id| self.progress.remembers(id)) {
            tally.duplicates += 1;
        } else if self.seen.is_none_or(|seen| !seen.only()) {
            intake.events.extend(event);
        }
        Ok(())
    }

    /// Makes durable what was named, with the state where there is some, and counts it.
    pub(super) async fn append_all(
        &mut self,
        intake: &mut Intake,
        state: StateWrites,
    ) -> Result<(), PollFailure> {
        intake.bytes = 0;
        let mut tally = std::mem::take(&mut intake.tally);
        let (events, parents) =
            (std::mem::take(&mut intake.events), std::mem::take(&mut intake.parents));
        if let Some(seen) = self.seen {
            let written = self.poller.write_parents(seen, parents).await?;
            // Of a stream that is only a parent, the records that are new or changed.
            tally.accepted += if seen.only() { written } else { 0 };
        }
        tally.accepted += self.append(events, state, &mut tally.duplicates).await?;
        self.report.add(&tally);
        Ok(())
    }

    /// How many records are opened before they are named: with `detail` so many that asking which of them
    /// are known costs little.
    pub(super) fn at_once(&self) -> usize {
        if self.poll.detail.is_empty() { 1 } else { RECORDS_ASKED_FOR }
    }

    /// Whether a record is not left out for where it stands.
    pub(super) fn is_within(
        &self,
        record: &Record,
        window: &Window,
        env: &Env,
    ) -> Result<bool, PollFailure> {
        let Some(plan) = &self.poll.cursor else { return Ok(true) };
        let at = cursor_of(plan, record, env)?;
        Ok(!matches!(place_of(Some(plan), window, at.as_ref()), Place::Before | Place::Beyond))
    }

    /// The event a record is, unless it is none of ours or has no name. One that has no more
    /// than a key is no event, and a parent all the same.
    fn name(
        &self,
        incoming: Incoming,
        tally: &mut PollReport,
        parents: &mut PendingParents,
    ) -> Option<NewEvent> {
        let (connector, stream) = (&self.poller.connector, &self.poller.stream);
        let read = (self.each.as_ref(), incoming.received_at);
        let as_parent = self.seen.map(|seen| (seen, incoming.clone()));
        match name_event(connector, stream, incoming) {
            Ok(Some(event)) => Some(event),
            Ok(None) => {
                tally.filtered += 1;
                None
            }
            Err(error) => {
                tally.unnamed += 1;
                if self.report.unnamed + tally.unnamed <= LOGGED_UNNAMED {
                    tracing::warn!(
                        connector = %connector.name, stream = %stream.name,
                        "a polled record is no event: {error}",
                    );
                }
                if let Some((seen, incoming)) = as_parent
                    && let Ok(Some(parent)) = keyed(connector, stream, incoming)
                {
                    self.poller.remember(seen, &parent.event, read, parents);
                }
                None
            }
        }
    }

    /// What is written with the page's last part; nothing where the state stays.
    pub(super) fn state_after(
        &mut self,
        window: &Window,
        done: bool,
        received_at: Timestamp,
        validator: Option<Validator>,
    ) -> StateWrites {
        let before = self.progress.cursor().cloned();
        if let Some(plan) = &self.poll.cursor {
            // A job's result is of the time at which it was created.
            let as_of = if self.job.is_some() { self.now } else { received_at };
            self.progress.after_page(plan, window, done, (self.now, as_of));
            if !self.progress.in_order() && !std::mem::replace(&mut self.disorder_said, true) {
                let so = match plan.sorted {
                    Sorted::Descending => "desc: no page ends this run early",
                    _ => "asc: it now moves only at the end of a window",
                };
                tracing::warn!(
                    connector = %self.poller.connector.name, stream = %self.poller.stream.name,
                    "records do not come in the order of which the cursor says that it is {so}",
                );
            }
        }
        let moved = self.progress.cursor() != before.as_ref();
        let complete = done && window.last;
        let other_parent = |slot: &Slot| complete && slot.parent != slot.parent_before;
        let changed = moved || validator != self.validator || self.slots.iter().any(other_parent);
        let over = self.job.as_ref().filter(|_| done).map(|job| (job.key.clone(), None));
        if !changed {
            return over.into_iter().collect();
        }
        self.validator = validator;
        let stored = Stored {
            cursor: self.progress.cursor().cloned(),
            boundary: self.progress.boundary(),
            validator: self.validator.clone(),
            parent: None,
        };
        let write = |slot: &Slot| {
            let parent = if complete { slot.parent } else { slot.parent_before };
            (slot.key.clone(), Some(Stored { parent, ..stored.clone() }.encode()))
        };
        self.slots.iter().map(write).chain(over).collect()
    }

    /// Appends in parts of bounded size. How many were new.
    async fn append(
        &self,
        events: Vec<NewEvent>,
        mut state: StateWrites,
        duplicates: &mut u64,
    ) -> Result<u64, PollFailure> {
        let mut accepted = 0;
        let mut parts = split(events).into_iter().peekable();
        while parts.peek().is_some() || !state.is_empty() {
            let events = parts.next().unwrap_or_default();
            let state =
                if parts.peek().is_none() { std::mem::take(&mut state) } else { Vec::new() };
            let Poller { bus, tenants, world, .. } = self.poller;
            tenants.admitted(&**bus, &events, &*world.clock).await.map_err(not_appended)?;
            let batch = Append { events, state };
            for outcome in bus.append(batch).await.map_err(not_appended)? {
                match outcome {
                    Accepted::New(_) => accepted += 1,
                    Accepted::Duplicate => *duplicates += 1,
                }
            }
        }
        Ok(accepted)
    }
}

/// A record's place on the cursor's line.
pub(super) fn cursor_of(
    plan: &CursorPlan,
    record: &Record,
    env: &Env,
) -> Result<Option<CursorValue>, PollFailure> {
    let Some(field) = &plan.field else { return Ok(None) };
    let name = field.source();
    let value = field
        .eval(&env.clone().with_record("record", record.clone()))
        .map_err(|error| PollFailure::Failed(format!("cursor.field: {error}")))?
        .unwrap_or(Value::Null);
    let read = CursorValue::read_any(plan, &value);
    read.map(Some).ok_or_else(|| {
        PollFailure::Failed(format!(
            "cursor.field: a record's `{name}` is not in the cursor's format: found {}",
            kind(&value)
        ))
    })
}

/// Where a record lies, seen from what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Within,
    /// Before the start, where the file says that such records are dropped here.
    Before,
    /// After `until`: the cursor must not pass it because of this record.
    Beyond,
}

fn place_of(plan: Option<&CursorPlan>, window: &Window, at: Option<&CursorValue>) -> Place {
    let (Some(plan), Some(at)) = (plan, at) else { return Place::Within };
    // The API that answers the newest first is not told where to end.
    let filters = plan.filter || plan.sorted == Sorted::Descending;
    if filters && window.start.as_ref().is_some_and(|start| at < start) {
        return Place::Before;
    }
    let ends = plan.until.is_some() && window.last;
    let end = window.end.as_ref().filter(|_| ends);
    // The end is meant to the unit that a request can say.
    if end.is_some_and(|end| at.floor(&plan.format) > *end) { Place::Beyond } else { Place::Within }
}

/// Parts of at most about [`PART_BYTES`], at least one event each.
fn split(events: Vec<NewEvent>) -> Vec<Vec<NewEvent>> {
    let (mut parts, mut bytes) = (Vec::new(), usize::MAX);
    for event in events {
        let size = event.event.record.bytes().len();
        if bytes.saturating_add(size) > PART_BYTES {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        parts.last_mut().expect("a part was begun").push(event);
    }
    parts
}

pub(super) fn not_appended(error: AppendError) -> PollFailure {
    match error {
        AppendError::Full { what, retry_after } => PollFailure::Later {
            message: format!("the bus takes no more: {what}"),
            retry_after: Some(retry_after),
        },
        AppendError::Budget { retry_after, .. } => {
            PollFailure::Later { message: error.to_string(), retry_after: Some(retry_after) }
        }
        AppendError::Unavailable(what) => PollFailure::Later {
            message: format!("the bus takes nothing: {what}"),
            retry_after: None,
        },
        AppendError::Closed => {
            PollFailure::Later { message: "the bus is shut down".to_owned(), retry_after: None }
        }
        AppendError::TooLarge { bytes, limit_bytes } => PollFailure::Failed(format!(
            "a page's part of {bytes} bytes is larger than the bus takes ({limit_bytes} bytes)"
        )),
    }
}
