//! What happened in a step, as expectations are compared with it.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value};

use super::script::Seen;
use crate::{
    bus::{Bus, DeadLetter, Seq},
    definition::table::Loc,
    event::Event,
    world::Timestamp,
};

/// Everything that happened in one step.
#[derive(Debug, Default)]
pub struct Observed {
    /// The step, from 0.
    pub number: usize,
    /// What the map made of events that all their destinations have now, in the order in which the
    /// events were accepted.
    pub records: Vec<Value>,
    /// What the polled API was asked.
    pub requests: Vec<Value>,
    /// What destinations took, by name.
    pub delivered: BTreeMap<Arc<str>, Vec<Value>>,
    /// What the webhook's producer got.
    pub reply: Option<Value>,
    /// How the poll ended.
    pub poll: Option<PollRun>,
    /// New dead letters.
    pub dead: Vec<Dead>,
    /// How many records ended as what, by the words of `expect_outcome`.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Why records could not be named.
    pub unnamed: Vec<String>,
    /// Parked destinations, and why.
    pub held: Vec<(Arc<str>, Arc<str>)>,
    /// Answers that nobody asked for.
    pub unused: Vec<Loc>,
    /// Every exchange that began or ended in the step.
    pub seen: Vec<Seen>,
}

/// How a poll ended.
#[derive(Debug)]
pub struct PollRun {
    /// Why it could not go on.
    pub error: Option<String>,
}

/// A dead letter.
#[derive(Clone, Debug)]
pub struct Dead {
    /// Its facts, as `expect_dead` names them.
    pub facts: Value,
    /// `map_failed at erp: …`
    pub line: String,
}

impl Dead {
    pub(super) fn of(letter: &DeadLetter) -> Self {
        let mut facts = Map::new();
        let mut add = |name: &str, value: Value| facts.insert(name.to_owned(), value);
        add("reason", letter.reason.as_str().into());
        add("message", letter.message.as_str().into());
        add("destination", (*letter.destination).into());
        add("attempts", letter.attempts.into());
        if let Some(status) = letter.status {
            add("status", status.into());
        }
        if let Some(field) = field_of(letter) {
            add("field", field.into());
        }
        let DeadLetter { reason, destination, message, .. } = letter;
        Self { facts: Value::Object(facts), line: format!("{reason} at {destination}: {message}") }
    }
}

/// The field that the map or the schema stumbled over: the beginning of the message says it.
fn field_of(letter: &DeadLetter) -> Option<String> {
    let (place, _) = letter.message.split_once(": ")?;
    match letter.reason.as_str() {
        "map_failed" => {
            let own = format!("stream.{}.map.", letter.event.stream);
            Some(place.strip_prefix(&own).unwrap_or(place).to_owned())
        }
        "schema_failed" => Some(place.trim_start_matches('/').replace('/', ".")),
        _ => None,
    }
}

/// How an event stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All destinations have it.
    Delivered,
    /// At one of them a newer revision was there before.
    Superseded,
    /// For one of them it is a dead letter.
    Dead,
    /// These are still to get it.
    Open(Vec<Arc<str>>),
}

/// How every event stands that the bus remembers, in the order in which they were accepted.
pub fn endings(bus: &dyn Bus) -> Result<Vec<(Seq, Arc<Event>, Ending)>, String> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = bus.history(Timestamp(i64::MIN), Timestamp(i64::MAX), after);
        let page = page.map_err(|error| error.to_string())?;
        for (seq, event) in page.events {
            let traces = bus.trace(event.id).map_err(|error| error.to_string())?;
            let trace = traces.iter().find(|trace| trace.seq == seq);
            let steps = trace.map_or(&[][..], |trace| trace.steps.as_slice());
            let ended_as = |name: &Arc<str>, word: &str| {
                steps
                    .iter()
                    .any(|step| step.destination.as_ref() == Some(name) && step.what == word)
            };
            let any = |word: &str| event.to.iter().any(|name| ended_as(name, word));
            let is_open = |name: &&Arc<str>| {
                !["delivered", "superseded", "dead"].iter().any(|word| ended_as(name, word))
            };
            let open: Vec<Arc<str>> = event.to.iter().filter(is_open).cloned().collect();
            let ending = if !open.is_empty() {
                Ending::Open(open)
            } else if any("dead") {
                Ending::Dead
            } else if any("superseded") {
                Ending::Superseded
            } else {
                Ending::Delivered
            };
            all.push((seq, event, ending));
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(all),
        }
    }
}
