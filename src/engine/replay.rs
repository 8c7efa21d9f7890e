//! Replay: history and dead letters go through the current map again, with the same ids and so the
//! same idempotency keys.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Engine, Shared, tasks::blocking};
use crate::{
    bus::{Accepted, Append, AppendError, Claim, DeadId, NewEvent},
    deliver,
    event::{Event, EventId},
    observe::{Outcome as Counted, redact},
    plan::{ConnectorPlan, StreamPlan},
    world::Timestamp,
};

/// Failures and samples that a report spells out.
const SHOWN: usize = 20;

/// Which events of history to replay.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct ReplayRequest {
    /// Only this connector.
    pub connector: Option<String>,
    /// Only this stream.
    pub stream: Option<String>,
    /// Only to this destination.
    pub destination: Option<String>,
    /// Only this key.
    pub key: Option<String>,
    /// Received at or after.
    pub from: Timestamp,
    /// Received before.
    pub to: Timestamp,
    /// Count and map, append nothing.
    pub dry_run: bool,
}

/// What a replay did, or would do.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct ReplayReport {
    /// Events in the window that match.
    pub matched: u64,
    /// Appended again; 0 in a dry run.
    pub replayed: u64,
    /// Event id and message of the first that would fail the current map or schema.
    pub failing: Vec<(String, String)>,
    /// How many would.
    pub failing_total: u64,
    /// Matching events whose connector, stream or destination is gone.
    pub without_plan: u64,
    /// Dry run: event id and output of the first, as they would be sent now, redacted.
    pub samples: Vec<(String, serde_json::Value)>,
}

type Plans = BTreeMap<Arc<str>, Arc<ConnectorPlan>>;

impl Engine {
    /// Replays history. `progress` gets the count of matching events after each page. Events that
    /// arrive meanwhile are not replayed: `to` is capped at the time of the call.
    pub async fn replay(
        &self,
        request: ReplayRequest,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<ReplayReport, String> {
        let plans: Plans = self
            .running
            .read()
            .connectors
            .iter()
            .map(|(name, c)| (Arc::clone(name), Arc::clone(&c.plan)))
            .collect();
        let to = request.to.min(self.shared.world.clock.now());
        let mut report = ReplayReport::default();
        let mut after = None;
        // A replay appends to the very journal that it reads: what it appended is not history yet.
        let mut seen = std::collections::HashSet::new();
        loop {
            let (bus, from) = (Arc::clone(&self.shared.bus), request.from);
            let page = blocking(move || bus.history(from, to, after))
                .await
                .map_err(|error| error.to_string())?;
            let mut again = Vec::new();
            for (_, event) in &page.events {
                if matches(&request, event) && seen.insert(event.id) {
                    report.matched += 1;
                    again.extend(consider(&plans, &request, event, &mut report));
                }
            }
            if !request.dry_run {
                report.replayed += again.len() as u64;
                self.append_again(again).await?;
            }
            progress(report.matched);
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(report),
            }
        }
    }

    /// Appends a dead letter's event again for its destination, and removes the letter.
    pub async fn replay_dead(&self, id: DeadId) -> Result<EventId, String> {
        replay_letter(&self.shared, id).await
    }

    async fn append_again(&self, events: Vec<Arc<Event>>) -> Result<(), String> {
        append_again(&self.shared, events).await
    }
}

/// See [`Engine::replay_dead`].
pub async fn replay_letter(shared: &Shared, id: DeadId) -> Result<EventId, String> {
    let letter = shared
        .bus
        .dead_letter(id)
        .map_err(|error| error.to_string())?
        .ok_or_else(|| format!("there is no dead letter {id}"))?;
    let event = Event { to: vec![letter.destination], ..Event::clone(&letter.event) };
    let event_id = event.id;
    append_again(shared, vec![Arc::new(event)]).await?;
    // Only now: a crash in between delivers twice with one idempotency key, and loses nothing.
    shared.bus.discard(id).await.map_err(|error| error.to_string())?;
    Ok(event_id)
}

async fn append_again(shared: &Shared, events: Vec<Arc<Event>>) -> Result<(), String> {
    if events.is_empty() {
        return Ok(());
    }
    let counted = events.clone();
    let events = events.into_iter().map(|event| NewEvent { event, claim: Claim::None }).collect();
    let batch = Append { events, state: Vec::new() };
    let accepted = loop {
        match shared.bus.append(batch.clone()).await {
            Err(AppendError::Full { retry_after, .. }) => tokio::time::sleep(retry_after).await,
            Err(error) => return Err(format!("the bus refuses: {error:?}")),
            Ok(accepted) => break accepted,
        }
    };
    for (event, accepted) in counted.iter().zip(accepted) {
        if matches!(accepted, Accepted::New(_)) {
            let connector = shared.metrics.connector(&event.connector);
            connector.stream(&event.stream).count(Counted::Replayed, 1);
        }
    }
    Ok(())
}

fn matches(request: &ReplayRequest, event: &Event) -> bool {
    let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|w| w == found);
    is(&request.connector, &event.connector)
        && is(&request.stream, &event.stream)
        && is(&request.key, &event.key)
}

/// The event as it is to be appended again, or `None`, with the reason in the report.
fn consider(
    plans: &Plans,
    request: &ReplayRequest,
    event: &Arc<Event>,
    report: &mut ReplayReport,
) -> Option<Arc<Event>> {
    let target = plans.get(&event.connector).and_then(|connector| {
        let stream = connector.streams.iter().find(|s| s.name == event.stream)?;
        let to: Vec<_> = stream
            .to
            .iter()
            .filter(|name| request.destination.as_ref().is_none_or(|d| **d == ***name))
            .cloned()
            .collect();
        (!to.is_empty()).then_some((connector, stream, to))
    });
    let Some((connector, stream, to)) = target else {
        report.without_plan += 1;
        return None;
    };
    if request.dry_run {
        show(connector, stream, event, report);
        return None;
    }
    Some(Arc::new(Event { to, ..Event::clone(event) }))
}

/// Maps one event as it would be now and puts the result into the report.
fn show(
    connector: &ConnectorPlan,
    stream: &StreamPlan,
    event: &Arc<Event>,
    report: &mut ReplayReport,
) {
    let id = event.id.to_string();
    match deliver::prepare(stream, &connector.vars, event) {
        Ok(out) if report.samples.len() < SHOWN => {
            let mut value = serde_json::Value::clone(out.value());
            redact::mask(&mut value, &stream.redact);
            report.samples.push((id, value));
        }
        Ok(_) => {}
        Err((reason, message)) => {
            report.failing_total += 1;
            if report.failing.len() < SHOWN {
                report.failing.push((id, format!("{reason}: {message}")));
            }
        }
    }
}
