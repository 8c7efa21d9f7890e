//! Which events of history a replay takes, page by page and in bounded memory, and where each is to go.

use std::{collections::BTreeMap, sync::Arc};

use super::request::{Checked, ReplayRequest};
use crate::{
    bus::{Bus, Ending, Endings, Seq, StoreError},
    engine::{Engine, tasks::blocking},
    event::{Event, ReplayId, Replayed},
    plan::{ConnectorPlan, StreamPlan},
    world::Timestamp,
};

/// Events whose endings are looked up in one pass over the journal: about a hundred bytes each.
const STRETCH_EVENTS: usize = 100_000;

/// What runs now.
pub(super) type Plans = BTreeMap<Arc<str>, Arc<ConnectorPlan>>;

/// The plans of all connectors that deliver, once they are no longer off. Variants have no lanes.
pub(super) fn plans(engine: &Engine) -> Plans {
    let running = engine.running.read();
    let own = running.connectors.iter().filter(|(_, connector)| !connector.plan.is_variant());
    own.map(|(name, c)| (Arc::clone(name), Arc::clone(&c.plan))).collect()
}

/// The connector and stream of an event, and its stream's destinations that `wanted` names.
pub(super) fn target<'a>(
    plans: &'a Plans,
    event: &Event,
    wanted: Option<&String>,
) -> Option<(&'a ConnectorPlan, &'a StreamPlan, Vec<Arc<str>>)> {
    let connector = plans.get(&event.connector)?;
    let stream = connector.streams.iter().find(|stream| stream.name == event.stream)?;
    let to = stream.to.iter().filter(|name| wanted.is_none_or(|wanted| **wanted == ***name));
    let to: Vec<_> = to.cloned().collect();
    (!to.is_empty()).then_some((connector, stream, to))
}

/// The event as a replay appends it again.
pub(super) fn copy(event: &Event, to: Vec<Arc<str>>, by: ReplayId, new_keys: bool) -> Arc<Event> {
    let before = event.replayed.and_then(|replayed| replayed.keys);
    let keys = if new_keys { Some(by) } else { before };
    Arc::new(Event { to, replayed: Some(Replayed { by, keys }), ..event.clone() })
}

/// An event that matches.
#[derive(Clone)]
pub(super) struct Match {
    pub seq: Seq,
    pub event: Arc<Event>,
    /// How many of its page were looked at up to it, itself included.
    pub nth: u64,
}

/// Events of one page that match, in order, and where the page ended.
#[derive(Default)]
pub(super) struct Page {
    pub events: Vec<Match>,
    /// How many were looked at, copies of replays not counted.
    pub looked_at: u64,
    /// The last that was looked at, and when it came in.
    pub last: Option<(Seq, Timestamp)>,
    /// Whether there is more.
    pub more: bool,
}

/// Reads history for a request.
pub(super) struct Reader {
    bus: Arc<dyn Bus>,
    request: ReplayRequest,
    checked: Checked,
    after: Option<Seq>,
    /// What became of the events up to `known_to`, itself included.
    endings: Endings,
    known_to: Option<Seq>,
    /// Whether endings are looked up.
    looks: bool,
}

impl Reader {
    /// From behind `after`; `looks` asks for what became of each event.
    pub fn new(
        bus: Arc<dyn Bus>,
        request: ReplayRequest,
        checked: Checked,
        after: Option<Seq>,
        looks: bool,
    ) -> Self {
        let endings = Endings::default();
        Self { bus, request, checked, after, endings, known_to: None, looks }
    }

    /// The next page. Dropping the future between two reads loses nothing.
    pub async fn next(&mut self) -> Result<Page, StoreError> {
        let after = self.after;
        let page = self.page(after).await?;
        if let Some((last, _)) = page.last {
            if self.looks && self.known_to.is_none_or(|known| known < last) {
                self.look_ahead(after).await?;
            }
            self.after = Some(last);
        }
        Ok(page)
    }

    /// What became of an event of the last page at a destination. `None`: it never went there.
    pub fn ending(&self, event: &Event, destination: &str) -> Option<&Ending> {
        self.endings.of(event.id, destination)
    }

    /// The destinations, of those given, at which what became of the event is what is asked for.
    pub fn wanted(&self, event: &Event, to: Vec<Arc<str>>) -> Vec<Arc<str>> {
        if !self.request.asks_for_endings() {
            return to;
        }
        let wanted = |name: &Arc<str>| self.request.takes_ending(self.ending(event, name));
        to.into_iter().filter(wanted).collect()
    }

    async fn page(&self, after: Option<Seq>) -> Result<Page, StoreError> {
        if let Some(id) = self.checked.event {
            return self.of_one_event(id, after).await;
        }
        let (bus, from, to) = (Arc::clone(&self.bus), self.request.from, self.request.to);
        let read = blocking(move || bus.history(from, to, after)).await?;
        let last = read.events.last().map(|(seq, event)| (*seq, event.received_at));
        let (events, looked_at) = self.matching(read.events);
        Ok(Page { events, looked_at, last, more: read.next.is_some() })
    }

    /// Those that match, and how many were looked at. Copies that replays appended are no history.
    fn matching(&self, all: Vec<(Seq, Arc<Event>)>) -> (Vec<Match>, u64) {
        let (mut events, mut nth) = (Vec::new(), 0);
        for (seq, event) in all {
            nth += u64::from(event.replayed.is_none());
            if self.request.takes(&self.checked, &event) {
                events.push(Match { seq, event, nth });
            }
        }
        (events, nth)
    }

    /// One event is found by its id, wherever in history it stands.
    async fn of_one_event(
        &self,
        id: crate::event::EventId,
        after: Option<Seq>,
    ) -> Result<Page, StoreError> {
        let bus = Arc::clone(&self.bus);
        let traces = blocking(move || bus.trace(id)).await?;
        let within = self.request.from..self.request.to;
        let runs = traces.into_iter().filter(|run| {
            after.is_none_or(|after| run.seq > after) && within.contains(&run.event.received_at)
        });
        let all: Vec<_> = runs.map(|run| (run.seq, run.event)).collect();
        let last = all.last().map(|(seq, event)| (*seq, event.received_at));
        let (events, looked_at) = self.matching(all);
        Ok(Page { events, looked_at, last, more: false })
    }

    /// Asks about as many events from behind `after` on as memory is meant for.
    async fn look_ahead(&mut self, mut after: Option<Seq>) -> Result<(), StoreError> {
        let mut asked = Endings::default();
        loop {
            let page = self.page(after).await?;
            page.events.iter().for_each(|found| asked.ask(found.seq, &found.event));
            let Some((last, _)) = page.last else { break };
            self.known_to = Some(last);
            after = Some(last);
            if !page.more || asked.len() >= STRETCH_EVENTS {
                break;
            }
        }
        self.endings = read_endings(&self.bus, asked).await?;
        Ok(())
    }
}

/// Reads what became of the events that are asked about, a part of the journal at a time.
pub(super) async fn read_endings(
    bus: &Arc<dyn Bus>,
    mut asked: Endings,
) -> Result<Endings, StoreError> {
    let mut after = None;
    if asked.is_empty() {
        return Ok(asked);
    }
    loop {
        let bus = Arc::clone(bus);
        let read = blocking(move || {
            let next = bus.endings(&mut asked, after);
            (asked, next)
        });
        let (back, next) = read.await;
        asked = back;
        after = next?;
        if after.is_none() {
            return Ok(asked);
        }
    }
}
