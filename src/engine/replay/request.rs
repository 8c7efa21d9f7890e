//! What is to be replayed, and how fast: as it is asked for, checked, and stored with the replay.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    bus::{DeadSummary, Ending},
    definition::units,
    event::{Event, EventId},
    plan::Rate,
    world::Timestamp,
};

/// Events a second where nobody says otherwise: a careful pace for most destinations.
pub const DEFAULT_RATE: &str = "100/s";
/// Events a replay appends where nobody says otherwise; then it ends, and says so.
pub const DEFAULT_LIMIT: u64 = 100_000;
/// Events a replay appends at most, whatever is asked for.
pub const MAX_LIMIT: u64 = 10_000_000;
/// Nothing is replayed faster than this, whatever is asked for.
const MAX_A_SECOND: f64 = 10_000.0;

/// Where the events come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The journal: what came in within `bus.history`.
    #[default]
    History,
    /// The dead letters; each is removed once its event is on its way again.
    DeadLetters,
}

/// Which events to replay, and how. Stored as part of a replay: fields are only ever added, with
/// defaults. A field that is not known is refused: a misspelt filter must not mean "everything".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReplayRequest {
    /// Where from.
    pub source: Source,
    /// Only this connector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connector: Option<String>,
    /// Only this stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Only to this destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Only this key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Only this event: `evt_…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Only this tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Only where this became of it: `delivered`, `dead`, `superseded`, `pending`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Only what died of this: `rejected`, `map_failed`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Everything there is. Must be set where neither a filter nor `from` is: on purpose, never by
    /// accident.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// Received (of a dead letter: died) at or after.
    pub from: Timestamp,
    /// Received (of a dead letter: died) before. Never later than when the replay began.
    pub to: Timestamp,
    /// How fast: `50/s`.
    pub rate: String,
    /// Idempotency keys of the replay's own, instead of those of the first delivery.
    pub new_keys: bool,
    /// At most so many events.
    pub limit: u64,
}

impl Default for ReplayRequest {
    fn default() -> Self {
        Self {
            source: Source::History,
            connector: None,
            stream: None,
            destination: None,
            key: None,
            event: None,
            tenant: None,
            outcome: None,
            reason: None,
            all: false,
            from: Timestamp(0),
            to: Timestamp(i64::MAX),
            rate: DEFAULT_RATE.to_owned(),
            new_keys: false,
            limit: DEFAULT_LIMIT,
        }
    }
}

/// What of a request is more than text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checked {
    pub event: Option<EventId>,
    pub rate: Rate,
}

impl ReplayRequest {
    /// Whether it makes sense; for a person where it does not.
    pub(super) fn check(&self) -> Result<Checked, String> {
        if let Some(early) = [self.from, self.to].into_iter().find(|at| at.0 < 0) {
            let early = early.rfc3339();
            return Err(format!(
                "`from` and `to` are times since 1970-01-01T00:00:00Z, not {early}"
            ));
        }
        if !self.all && !self.is_filtered() && self.from.0 <= 0 {
            return Err("say which: `from`, `connector` or another filter, or `all`".to_owned());
        }
        if self.from >= self.to {
            return Err("`from` must be before `to`".to_owned());
        }
        if !(1..=MAX_LIMIT).contains(&self.limit) {
            return Err(format!("`limit` is 1 to {MAX_LIMIT}, not {}", self.limit));
        }
        let event = self.event.as_ref().map(|text| {
            text.parse().map_err(|_| {
                format!("`{text}` is no event's id: expected `evt_` and 26 letters and digits")
            })
        });
        let words = ["delivered", "dead", "superseded", "pending"];
        if let Some(word) = self.outcome.as_deref().filter(|word| !words.contains(word)) {
            return Err(format!("`{word}` is no outcome: there are {}", words.join(", ")));
        }
        match (self.source, self.outcome.as_deref()) {
            (Source::DeadLetters, Some(word)) if word != "dead" => {
                return Err(format!("no dead letter was {word}: replay history instead"));
            }
            (Source::History, Some(word)) if word != "dead" && self.reason.is_some() => {
                return Err(format!("what was {word} has no `reason`: only what is dead has one"));
            }
            _ => {}
        }
        Ok(Checked { event: event.transpose()?, rate: self.checked_rate()? })
    }

    fn checked_rate(&self) -> Result<Rate, String> {
        let text = &self.rate;
        let rate = units::rate(text).map_err(|why| format!("rate `{text}`: {}", why.label))?;
        if f64::from(rate.count) / rate.per.as_secs_f64().max(0.001) > MAX_A_SECOND {
            return Err(format!("rate `{text}`: at most {MAX_A_SECOND}/s"));
        }
        Ok(smoothed(Rate { count: rate.count, per: rate.per }))
    }

    fn is_filtered(&self) -> bool {
        let Self { connector, stream, destination, key, event, tenant, outcome, reason, .. } = self;
        let filters = [connector, stream, destination, key, event, tenant, outcome, reason];
        filters.iter().any(|filter| filter.is_some())
    }

    /// Whether it has to be known what became of each event.
    pub(super) fn asks_for_endings(&self) -> bool {
        self.outcome.is_some() || self.reason.is_some()
    }

    /// Whether an event of history is meant. A replay's copies are not history: their originals are.
    pub(super) fn takes(&self, checked: &Checked, event: &Event) -> bool {
        event.replayed.is_none()
            && is(self.connector.as_ref(), &event.connector)
            && is(self.stream.as_ref(), &event.stream)
            && is(self.key.as_ref(), &event.key)
            && checked.event.is_none_or(|id| id == event.id)
            && self.tenant.as_ref().is_none_or(|wanted| Some(wanted) == event.tenant.as_ref())
    }

    /// Whether what became of it at a destination is meant.
    pub(super) fn takes_ending(&self, ending: Option<&Ending>) -> bool {
        let died_of = match ending {
            Some(Ending::Dead { reason }) => Some(&**reason),
            _ => None,
        };
        self.outcome.as_deref().is_none_or(|word| ending.is_some_and(|it| it.word() == word))
            && self.reason.as_deref().is_none_or(|reason| died_of == Some(reason))
    }

    /// Whether a dead letter is meant, as far as its line in the list tells.
    pub(super) fn takes_letter(&self, checked: &Checked, letter: &DeadSummary) -> bool {
        is(self.connector.as_ref(), &letter.lane.connector)
            && is(self.stream.as_ref(), &letter.lane.stream)
            && is(self.destination.as_ref(), &letter.lane.destination)
            && is(self.reason.as_ref(), &letter.reason)
            && checked.event.is_none_or(|id| id == letter.event)
            && (self.from..self.to).contains(&letter.died_at)
    }

    /// The rest of that: what only the whole letter tells.
    pub(super) fn takes_event_of_letter(&self, event: &Event) -> bool {
        is(self.key.as_ref(), &event.key)
            && self.tenant.as_ref().is_none_or(|wanted| Some(wanted) == event.tenant.as_ref())
    }
}

fn is(wanted: Option<&String>, found: &str) -> bool {
    wanted.is_none_or(|wanted| wanted == found)
}

/// The same pace in smaller steps, where it can be had: a hundred a second is ten each tenth of one, not a
/// hundred at once and then a second's silence.
fn smoothed(rate: Rate) -> Rate {
    const SHORTEST: Duration = Duration::from_millis(100);
    let mut rate = rate;
    while rate.count.is_multiple_of(10) && rate.per / 10 >= SHORTEST {
        rate = Rate { count: rate.count / 10, per: rate.per / 10 };
    }
    rate
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_explained() {
        let at = Timestamp(1);
        let base = || ReplayRequest { all: true, ..ReplayRequest::default() };
        let table = [
            (
                ReplayRequest::default(),
                "say which: `from`, `connector` or another filter, or `all`",
            ),
            (ReplayRequest { from: at, to: at, ..base() }, "`from` must be before `to`"),
            (
                ReplayRequest { from: Timestamp(-1), ..ReplayRequest::default() },
                "`from` and `to` are times since 1970-01-01T00:00:00Z, not 1969-12-31T23:59:59.999Z",
            ),
            (ReplayRequest { limit: 0, ..base() }, "`limit` is 1 to 10000000, not 0"),
            (
                ReplayRequest { event: Some("17".to_owned()), ..base() },
                "`17` is no event's id: expected `evt_` and 26 letters and digits",
            ),
            (
                ReplayRequest { outcome: Some("gone".to_owned()), ..base() },
                "`gone` is no outcome: there are delivered, dead, superseded, pending",
            ),
            (
                ReplayRequest {
                    outcome: Some("delivered".to_owned()),
                    reason: Some("rejected".to_owned()),
                    ..base()
                },
                "what was delivered has no `reason`: only what is dead has one",
            ),
            (
                ReplayRequest {
                    source: Source::DeadLetters,
                    outcome: Some("pending".to_owned()),
                    ..base()
                },
                "no dead letter was pending: replay history instead",
            ),
            (
                ReplayRequest { rate: "fast".to_owned(), ..base() },
                "rate `fast`: expected a count, a slash and a time: `10/s`, `1000/h`, `5/10s`",
            ),
            (
                ReplayRequest { rate: "20000/s".to_owned(), ..base() },
                "rate `20000/s`: at most 10000/s",
            ),
        ];
        for (request, expected) in table {
            assert_eq!(request.check().map(drop), Err(expected.to_owned()), "{request:?}");
        }
        assert!(base().check().is_ok());
    }

    #[test]
    fn a_pace_is_smoothed_and_stays_what_it_is() {
        let of = |text: &str| {
            let request = ReplayRequest { rate: text.to_owned(), ..ReplayRequest::default() };
            let rate = request.checked_rate().expect("a rate");
            (rate.count, rate.per.as_millis())
        };
        assert_eq!(of("100/s"), (10, 100));
        assert_eq!(of("50/s"), (5, 100));
        assert_eq!(of("3/s"), (3, 1000));
        assert_eq!(of("1000/h"), (1, 3600));
    }

    #[test]
    fn a_misspelt_filter_is_refused() {
        assert!(serde_json::from_str::<ReplayRequest>(r#"{"conector": "shop"}"#).is_err());
    }
}
