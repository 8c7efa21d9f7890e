//! A replay's dry run: what each event would be sent as, and how that compares with what was delivered. Where a
//! canary has the key, it maps here as it would there.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Against, ReplayError,
    request::{ReplayRequest, Source},
    select::{Plans, Reader, plans, target},
};
use crate::{
    bus::{DeadLetter, Ending, StoreError, document_hash},
    deliver,
    engine::{Engine, Shared, tasks::blocking},
    event::{Event, Lane, Record},
    observe::{
        fields::{Masks, differences, leaves},
        redact,
    },
    plan::{ConnectorPlan, StreamPlan},
};

/// Failures and samples that a report spells out.
const SHOWN: usize = 20;
/// Fields that a report spells out.
const SHOWN_FIELDS: usize = 100;
/// Events that are mapped at once, on a thread that may take its time.
const EVENTS: usize = 64;
/// Letters that are read and mapped at once.
const LETTERS: usize = 64;

/// One lane's events, each in exactly one of the counts after `events`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayLane {
    /// The connector's name.
    pub connector: String,
    /// The stream's name.
    pub stream: String,
    /// The destination's name.
    pub destination: String,
    /// All that would be sent, or would fail.
    pub events: u64,
    /// Would be sent byte for byte as it was delivered.
    pub same: u64,
    /// Would be sent, and differs from what was delivered.
    pub differs: u64,
    /// Would be sent; it was delivered, and it is not known as what.
    pub unknown: u64,
    /// Would be sent; it was not delivered.
    pub undelivered: u64,
    /// A newer revision was delivered: nothing would be sent.
    pub superseded: u64,
    /// The map would fail.
    pub map_failed: u64,
    /// The schema would refuse it.
    pub schema_failed: u64,
}

/// A field that the map makes otherwise than the one that is compared with, over all events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FieldChange {
    /// The connector's name.
    pub connector: String,
    /// The stream's name.
    pub stream: String,
    /// `total`, `lines[].sku`: all items of a list are one field.
    pub path: String,
    /// In how many events.
    pub events: u64,
    /// The first of them.
    pub event: String,
    /// What it was there; none where it was not there.
    pub old: Option<Value>,
    /// What it would be.
    pub new: Option<Value>,
}

/// What a replay would do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplayReport {
    /// Events that match.
    pub matched: u64,
    /// Lane by lane.
    pub lanes: Vec<ReplayLane>,
    /// Matching events whose connector, stream or destination is gone.
    pub without_plan: u64,
    /// Event id and message of the first that would fail the current map or schema.
    pub failing: Vec<(String, String)>,
    /// How many would.
    pub failing_total: u64,
    /// Event id and output of the first that would be sent and are not known to be the same, redacted.
    pub samples: Vec<(String, Value)>,
    /// What is compared with, where something is.
    pub against: Option<String>,
    /// Of the events that were delivered as is known: those for which `against` gives just that.
    pub against_fits: u64,
    /// And those for which it gives something else: it is not what delivered them.
    pub against_differs: u64,
    /// Fields that come out otherwise than with `against`, those in most events first.
    pub fields: Vec<FieldChange>,
    /// More match than the replay's limit allows.
    pub beyond_limit: bool,
    /// Letters that cannot be read.
    pub unreadable: u64,
}

type FieldKey = (Arc<str>, Arc<str>, String);

/// A dry run under way.
struct Look {
    shared: Arc<Shared>,
    request: ReplayRequest,
    against: Option<ConnectorPlan>,
    report: ReplayReport,
    lanes: BTreeMap<Lane, ReplayLane>,
    fields: BTreeMap<FieldKey, FieldChange>,
}

impl Engine {
    /// Shows what a replay would do, and does nothing. `progress` gets the count of matching events after
    /// each page.
    pub async fn preview_replay(
        &self,
        request: ReplayRequest,
        against: Option<&Against>,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<ReplayReport, ReplayError> {
        let checked = request.check().map_err(ReplayError::Bad)?;
        let now = self.shared.world.clock.now();
        let request = ReplayRequest { to: request.to.min(now), ..request };
        let plan = against.map(Against::plan).transpose().map_err(ReplayError::Bad)?;
        let mut look = Look {
            shared: Arc::clone(&self.shared),
            request: request.clone(),
            against: plan,
            report: ReplayReport::default(),
            lanes: BTreeMap::new(),
            fields: BTreeMap::new(),
        };
        look.report.against = against.map(|against| against.what.clone());
        match request.source {
            Source::History => {
                let bus = Arc::clone(&self.shared.bus);
                let mut reader = Reader::new(bus, request, checked, None, true);
                loop {
                    let page = reader.next().await?;
                    let plans = Arc::new(plans(self));
                    for part in page.events.chunks(EVENTS) {
                        let (part, plans) = (part.to_vec(), Arc::clone(&plans));
                        let map = move || {
                            for it in &part {
                                look.event(&plans, &reader, &it.event);
                            }
                            (look, reader)
                        };
                        (look, reader) = blocking(map).await;
                    }
                    progress(look.report.matched);
                    if !page.more {
                        break;
                    }
                }
            }
            Source::DeadLetters => {
                let mut found = self.shared.bus.dead_letters();
                found.retain(|letter| request.takes_letter(&checked, letter));
                for part in found.chunks(LETTERS) {
                    let (part, plans) = (part.to_vec(), plans(self));
                    let map = move || {
                        let bus = Arc::clone(&look.shared.bus);
                        look.letters(&plans, part.iter().map(|it| bus.dead_letter(it.id)));
                        look
                    };
                    look = blocking(map).await;
                    progress(look.report.matched);
                }
            }
        }
        Ok(look.finish())
    }
}

/// What an event is mapped to, and its hash; or why it is not.
struct Mapped {
    output: Result<Record, (&'static str, String)>,
    hash: Option<u64>,
}

impl Mapped {
    fn by(stream: &StreamPlan, vars: &Arc<Value>, event: &Arc<Event>) -> Self {
        let output = deliver::prepare(stream, vars, event);
        let hash = output.as_ref().map(|output| document_hash(output.bytes())).ok();
        Self { output, hash }
    }
}

impl Look {
    /// An event of history.
    fn event(&mut self, plans: &Plans, reader: &Reader, event: &Arc<Event>) {
        let Some((connector, stream, to)) = target(plans, event, self.request.destination.as_ref())
        else {
            if !self.request.asks_for_endings() {
                self.report.matched += 1;
                self.report.without_plan += 1;
            }
            return;
        };
        let to = reader.wanted(event, to);
        if to.is_empty() {
            return;
        }
        let endings: Vec<_> =
            to.into_iter().map(|name| (reader.ending(event, &name).cloned(), name)).collect();
        self.judge(connector, stream, event, &endings);
    }

    fn letters(
        &mut self,
        plans: &Plans,
        letters: impl Iterator<Item = Result<Option<DeadLetter>, StoreError>>,
    ) {
        for letter in letters {
            let letter = match letter {
                Ok(Some(letter)) => letter,
                Ok(None) => continue,
                Err(_) => {
                    self.report.unreadable += 1;
                    continue;
                }
            };
            if !self.request.takes_event_of_letter(&letter.event) {
                continue;
            }
            let destination = letter.destination.to_string();
            match target(plans, &letter.event, Some(&destination)) {
                None => {
                    self.report.matched += 1;
                    self.report.without_plan += 1;
                }
                Some((connector, stream, _)) => {
                    let reason = Arc::from(letter.reason.as_str());
                    let endings = [(Some(Ending::Dead { reason }), letter.destination)];
                    self.judge(connector, stream, &letter.event, &endings);
                }
            }
        }
    }

    /// Maps an event as it would be now, and puts each destination's share into the report.
    fn judge(
        &mut self,
        connector: &ConnectorPlan,
        stream: &StreamPlan,
        event: &Arc<Event>,
        endings: &[(Option<Ending>, Arc<str>)],
    ) {
        if self.report.matched >= self.request.limit {
            self.report.beyond_limit = true;
        }
        self.report.matched += 1;
        let slot = self.shared.rollouts.slot(&connector.name);
        let own = Mapped::by(stream, &connector.vars, event);
        let (mut sent, mut was_sent_as, mut fails, mut shown) = (false, None, false, None);
        for (ending, destination) in endings {
            let lane = Lane {
                connector: Arc::clone(&connector.name),
                stream: Arc::clone(&stream.name),
                destination: Arc::clone(destination),
            };
            let canary = slot.mapped_by(&lane, event);
            let canary = canary.map(|(stream, vars)| (Mapped::by(&stream, &vars, event), stream));
            let Mapped { output, hash } = canary.as_ref().map_or(&own, |(mapped, _)| mapped);
            let newest = event.order.and_then(|_| self.shared.bus.newest_of(&lane, &event.key));
            let is_old = event.order.zip(newest).is_some_and(|(order, newest)| order < newest);
            let counts = self.lanes.entry(lane).or_default();
            counts.events += 1;
            let count = match (output, ending) {
                _ if is_old => &mut counts.superseded,
                (Err(("schema_failed", _)), _) => &mut counts.schema_failed,
                (Err(_), _) => &mut counts.map_failed,
                (Ok(_), Some(Ending::Delivered { sent: Some(as_known) })) => {
                    was_sent_as = Some(*as_known);
                    if Some(*as_known) == *hash {
                        &mut counts.same
                    } else {
                        sent = true;
                        &mut counts.differs
                    }
                }
                (Ok(_), Some(Ending::Delivered { sent: None })) => {
                    sent = true;
                    &mut counts.unknown
                }
                (Ok(_), _) => {
                    sent = true;
                    &mut counts.undelivered
                }
            };
            *count += 1;
            fails |= !is_old;
            shown = shown.or(canary);
        }
        // A canary maps for all destinations that it has, and those are most often all.
        let canary = shown.as_ref();
        let (mapped, by) = canary.map_or((&own, stream), |(mapped, by)| (mapped, &**by));
        match &mapped.output {
            Err((reason, message)) if fails => self.failing(event, reason, message),
            Ok(output) => {
                if sent {
                    self.sample(by, event, output);
                }
                self.compare(connector, by, event, output, was_sent_as);
            }
            Err(_) => {}
        }
    }

    fn failing(&mut self, event: &Event, reason: &str, message: &str) {
        self.report.failing_total += 1;
        if self.report.failing.len() < SHOWN {
            self.report.failing.push((event.id.to_string(), format!("{reason}: {message}")));
        }
    }

    fn sample(&mut self, stream: &StreamPlan, event: &Event, output: &Record) {
        if self.report.samples.len() < SHOWN && self.against.is_none() {
            let mut value = Value::clone(output.value());
            redact::mask(&mut value, &stream.redact);
            self.report.samples.push((event.id.to_string(), value));
        }
    }

    /// Field by field against the other version.
    fn compare(
        &mut self,
        connector: &ConnectorPlan,
        stream: &StreamPlan,
        event: &Arc<Event>,
        output: &Record,
        was_sent_as: Option<u64>,
    ) {
        let Some(against) = self.against.as_ref().filter(|other| other.name == connector.name)
        else {
            return;
        };
        let Some(other) = against.streams.iter().find(|it| it.name == stream.name) else { return };
        let Ok(before) = deliver::prepare(other, &against.vars, event) else { return };
        if let Some(known) = was_sent_as {
            let fits = known == document_hash(before.bytes());
            let count =
                if fits { &mut self.report.against_fits } else { &mut self.report.against_differs };
            *count += 1;
        }
        if before.bytes() == output.bytes() {
            return;
        }
        let masks = Masks::of([other, stream], event.record.value());
        let fields = differences(&leaves(before.value()), &leaves(output.value()), &masks);
        let mut seen = Vec::new();
        for field in fields {
            let path = without_places(&field.path);
            if seen.contains(&path) {
                continue;
            }
            seen.push(path.clone());
            let key = (Arc::clone(&connector.name), Arc::clone(&stream.name), path.clone());
            let change = self.fields.entry(key).or_insert_with(|| FieldChange {
                connector: connector.name.to_string(),
                stream: stream.name.to_string(),
                path,
                events: 0,
                event: event.id.to_string(),
                old: field.old,
                new: field.new,
            });
            change.events += 1;
        }
        // Records with keys of their own making have as many fields as there are keys.
        while self.fields.len() > 10 * SHOWN_FIELDS {
            self.fields.pop_last();
        }
    }

    fn finish(self) -> ReplayReport {
        let Self { mut report, lanes, fields, .. } = self;
        let named = lanes.into_iter().map(|(lane, counts)| ReplayLane {
            connector: lane.connector.to_string(),
            stream: lane.stream.to_string(),
            destination: lane.destination.to_string(),
            ..counts
        });
        report.lanes = named.collect();
        report.fields = fields.into_values().collect();
        report.fields.sort_by_key(|field| std::cmp::Reverse(field.events));
        report.fields.truncate(SHOWN_FIELDS);
        report
    }
}

/// `lines[3].sku` as `lines[].sku`.
fn without_places(path: &str) -> String {
    let mut parts = path.split('[');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push('[');
        plain.push_str(part.find(']').map_or(part, |end| &part[end..]));
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::without_places;

    #[test]
    fn items_of_a_list_are_one_field() {
        assert_eq!(without_places("lines[3].sku"), "lines[].sku");
        assert_eq!(without_places("a[0][12]"), "a[][]");
        assert_eq!(without_places("total"), "total");
    }
}
