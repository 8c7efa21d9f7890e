//! What became of many events at once, for whoever looks back: one pass over the journal, and memory
//! for those that were asked about.
//!
//! An event that was appended again by a replay has several runs under one id; the latest to a
//! destination is what counts there.

use std::sync::Arc;

use hashbrown::HashMap;
use xxhash_rust::xxh3::xxh3_64;

use super::{Seq, Settlement, Step};
use crate::{
    event::{Event, EventId},
    world::Timestamp,
};

/// How an event's way to one destination ended, or that it has not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// It is on its way, or was never sent there.
    #[default]
    Pending,
    /// The destination took it.
    Delivered {
        /// The hash of what it took, see [`document_hash`]; `None` where nobody noted it.
        sent: Option<u64>,
    },
    /// A newer revision had been delivered.
    Superseded,
    /// It went to the dead letters, for this reason.
    Dead {
        /// The stable word of [`Settlement::Dead`].
        reason: Arc<str>,
    },
}

impl Ending {
    /// The ending that a settlement is; `None` for one that ends nothing.
    pub fn of(settlement: &Settlement) -> Option<Self> {
        Some(match settlement {
            Settlement::Delivered { sent, .. } => Self::Delivered { sent: *sent },
            Settlement::Superseded { .. } => Self::Superseded,
            Settlement::Dead { reason } => Self::Dead { reason: Arc::from(reason.as_str()) },
            Settlement::Retry { .. } | Settlement::Defer { .. } => return None,
        })
    }

    /// `pending`, `delivered`, `superseded`, `dead`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered { .. } => "delivered",
            Self::Superseded => "superseded",
            Self::Dead { .. } => "dead",
        }
    }

    /// The ending that a step of a trace tells of; a trace does not tell what was sent.
    fn of_step(step: &Step) -> Option<Self> {
        Some(match step.what.as_str() {
            "delivered" => Self::Delivered { sent: None },
            "superseded" => Self::Superseded,
            "dead" => Self::Dead { reason: Arc::from(step.detail.as_str()) },
            _ => return None,
        })
    }
}

/// What stands for a delivered document: 64 bits of XXH3 over its bytes. It tells whether two
/// documents of one map are the same, and is no defence against somebody who wants them to be.
pub fn document_hash(document: &[u8]) -> u64 {
    xxh3_64(document)
}

/// Events that are asked about, and what is known of them so far. See [`Bus::endings`](super::Bus::endings).
#[derive(Default)]
pub struct Endings {
    first: Option<Seq>,
    until: Option<Timestamp>,
    by_id: HashMap<EventId, Vec<(Arc<str>, Ending)>>,
    runs: HashMap<u64, EventId>,
}

impl Endings {
    /// Asks about an event and each of its destinations.
    pub fn ask(&mut self, seq: Seq, event: &Event) {
        self.first = Some(self.first.map_or(seq, |first| first.min(seq)));
        let known = self.by_id.entry(event.id).or_default();
        for destination in &event.to {
            if !known.iter().any(|(name, _)| name == destination) {
                known.push((Arc::clone(destination), Ending::Pending));
            }
        }
    }

    /// How many events are asked about.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// What became of an event at a destination; `None` where it was never to go there.
    pub fn of(&self, id: EventId, destination: &str) -> Option<&Ending> {
        let known = self.by_id.get(&id)?;
        known.iter().find(|(name, _)| **name == *destination).map(|(_, ending)| ending)
    }

    /// Only what ended before then counts.
    pub fn until(&mut self, at: Timestamp) {
        self.until = Some(at);
    }

    /// The earliest of the events.
    pub(super) fn first(&self) -> Option<Seq> {
        self.first
    }

    /// The events that are asked about.
    pub(super) fn ids(&self) -> Vec<EventId> {
        self.by_id.keys().copied().collect()
    }

    /// A run begins: it is what counts at its destinations from now on.
    pub(super) fn appended<'a>(
        &mut self,
        seq: u64,
        id: EventId,
        to: impl Iterator<Item = &'a str>,
    ) {
        let Some(known) = self.by_id.get_mut(&id) else { return };
        self.runs.insert(seq, id);
        for destination in to {
            match known.iter_mut().find(|(name, _)| **name == *destination) {
                Some((_, ending)) => *ending = Ending::Pending,
                None => known.push((Arc::from(destination), Ending::Pending)),
            }
        }
    }

    /// A lease of a run ended.
    pub(super) fn settled(
        &mut self,
        seq: u64,
        destination: &str,
        settlement: &Settlement,
        at: Timestamp,
    ) {
        let Some(ending) = Ending::of(settlement) else { return };
        if self.until.is_some_and(|until| at >= until) {
            return;
        }
        let known = self.runs.get(&seq).and_then(|id| self.by_id.get_mut(id));
        let at = known.into_iter().flatten().find(|(name, _)| **name == *destination);
        if let Some((_, before)) = at {
            *before = ending;
        }
    }

    /// Takes in what a trace of the event tells.
    pub(super) fn traced(&mut self, id: EventId, traces: &[super::Trace]) {
        for trace in traces {
            self.appended(trace.seq.0, id, trace.event.to.iter().map(AsRef::as_ref));
            let Some(known) = self.by_id.get_mut(&id) else { return };
            for step in &trace.steps {
                let (Some(ending), Some(destination)) = (Ending::of_step(step), &step.destination)
                else {
                    continue;
                };
                if let Some((_, before)) = known.iter_mut().find(|(name, _)| name == destination) {
                    *before = ending;
                }
            }
        }
    }
}
