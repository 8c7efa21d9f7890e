//! A replay as it is stored, JSON under `replays/<id>`, and as it is shown; how its events ended stands
//! beside it, under `replay-outcomes/<id>`, because somebody else counts that.
//!
//! Fields are only ever added, with defaults.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::request::ReplayRequest;
use crate::{
    bus::{Bus, StoreError},
    event::ReplayId,
    world::Timestamp,
};

/// Where replays are kept.
pub(super) const AREA: &str = "replays/";
/// Where it is kept how their events ended.
const OUTCOMES: &str = "replay-outcomes/";

/// How the events of a replay ended so far, at all their destinations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplayOutcomes {
    /// The destination took it.
    pub delivered: u64,
    /// A newer revision had been delivered.
    pub superseded: u64,
    /// In the dead letters, again.
    pub dead: u64,
}

impl ReplayOutcomes {
    /// All that ended.
    pub fn total(&self) -> u64 {
        self.delivered + self.superseded + self.dead
    }

    pub(super) fn add(&mut self, more: Self) {
        self.delivered += more.delivered;
        self.superseded += more.superseded;
        self.dead += more.dead;
    }

    pub(super) fn stored(bus: &dyn Bus, id: &str) -> Self {
        let bytes = bus.state(&format!("{OUTCOMES}{id}"));
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    pub(super) fn write(self, id: &str) -> (String, Option<Vec<u8>>) {
        (format!("{OUTCOMES}{id}"), serde_json::to_vec(&self).ok())
    }
}

/// A replay, see the module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplayStatus {
    /// `rp_…`
    pub id: String,
    /// What is replayed.
    pub request: ReplayRequest,
    /// When it was accepted.
    pub began_at: Timestamp,
    /// `running`, `paused`, `done`, `failed`, `cancelled`.
    pub state: String,
    /// Why it failed, what it is waiting out, or where it stopped short.
    pub problem: Option<String>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The last event (its place) or dead letter (its number) that was looked at.
    pub position: u64,
    /// The last dead letter that there was when it began: those that die meanwhile are not replayed.
    pub last: u64,
    /// When the event that was looked at last came in, or the letter died.
    pub at: Option<Timestamp>,
    /// Which share of the range that is, 0 to 1. Not stored.
    pub share: Option<f64>,
    /// Events and letters that were looked at.
    pub looked_at: u64,
    /// Events that match.
    pub matched: u64,
    /// Of them, those that are on their way again.
    pub replayed: u64,
    /// Pairs of event and destination in those.
    pub deliveries: u64,
    /// Matching events whose connector, stream or destination does not run. A letter of that kind stays.
    pub without_plan: u64,
    /// Letters that cannot be read. They stay.
    pub unreadable: u64,
    /// How they ended so far. Stored elsewhere.
    pub outcomes: ReplayOutcomes,
    /// Deliveries that have not ended. Not stored.
    pub pending: u64,
    /// Letters whose events are on their way, and which are still to be removed: number and time of death.
    pub removing: Vec<(u64, i64)>,
}

impl ReplayStatus {
    pub(super) fn key(&self) -> String {
        format!("{AREA}{}", self.id)
    }

    /// Whether it is at work, or would be if the daemon were.
    pub fn is_running(&self) -> bool {
        self.state == "running"
    }

    /// Whether it neither runs nor can go on.
    pub fn has_ended(&self) -> bool {
        !matches!(self.state.as_str(), "running" | "paused")
    }

    /// Its key and itself, for a write of state.
    pub(super) fn write(&self) -> (String, Option<Vec<u8>>) {
        let stored =
            Self { share: None, pending: 0, outcomes: ReplayOutcomes::default(), ..self.clone() };
        (self.key(), Some(serde_json::to_vec(&stored).unwrap_or_default()))
    }

    pub(super) async fn store(&self, bus: &dyn Bus) -> Result<(), StoreError> {
        let (key, value) = self.write();
        bus.put_state(&key, value).await
    }

    pub(super) fn stored(bus: &dyn Bus, id: ReplayId) -> Option<Self> {
        serde_json::from_slice(&bus.state(&format!("{AREA}{id}"))?).ok()
    }

    /// All that are known, the oldest first.
    pub(super) fn all(bus: &dyn Bus) -> Vec<Self> {
        let stored = bus.state_under(AREA).into_iter();
        stored.filter_map(|(_, bytes)| serde_json::from_slice(&bytes).ok()).collect()
    }

    /// The same with what is known besides: how its events ended, how far it is.
    pub(super) fn shown(mut self, outcomes: ReplayOutcomes) -> Self {
        self.outcomes = outcomes;
        self.pending = self.deliveries.saturating_sub(outcomes.total());
        self.share = self.share_now();
        self
    }

    fn share_now(&self) -> Option<f64> {
        if self.state == "done" {
            return Some(1.0);
        }
        let at = self.at?;
        let (from, to) = (self.request.from, self.request.to);
        // Without a beginning there is no telling how much lies before.
        if from.0 <= 0 || to <= from {
            return None;
        }
        let share = at.since(from).as_secs_f64() / to.since(from).as_secs_f64();
        Some(share.clamp(0.0, 1.0))
    }
}

/// Writes that forget the oldest of those that ended, so that at most `keep` remain.
pub(super) fn forget(bus: &dyn Bus, keep: usize) -> BTreeMap<String, Option<Vec<u8>>> {
    let ended: Vec<ReplayStatus> =
        ReplayStatus::all(bus).into_iter().filter(ReplayStatus::has_ended).collect();
    let spare = ended.len().saturating_sub(keep);
    let keys = ended[..spare].iter().flat_map(|it| [it.key(), format!("{OUTCOMES}{}", it.id)]);
    keys.map(|key| (key, None)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::replay::request::Source;

    fn request() -> impl Strategy<Value = ReplayRequest> {
        let text = || prop::option::of("[a-z_]{0,6}");
        let texts = (text(), text(), text(), text(), text(), text(), text(), text());
        (texts, any::<(i64, i64, bool, bool, u64)>(), "[0-9]{1,3}/s").prop_map(
            |(texts, (from, to, letters, new_keys, limit), rate)| {
                let (connector, stream, destination, key, event, tenant, outcome, reason) = texts;
                let source = if letters { Source::DeadLetters } else { Source::History };
                let (from, to) = (Timestamp(from), Timestamp(to));
                ReplayRequest {
                    source,
                    connector,
                    stream,
                    destination,
                    key,
                    event,
                    tenant,
                    outcome,
                    reason,
                    all: letters,
                    from,
                    to,
                    rate,
                    new_keys,
                    limit,
                }
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn a_replay_comes_back_as_it_was(
            request in request(),
            times in any::<(i64, Option<i64>, Option<i64>)>(),
            counts in any::<(u64, u64, u64, u64, u64, u64, u64, u64)>(),
            problem in prop::option::of(".{0,9}"),
            removing in prop::collection::vec(any::<(u64, i64)>(), 0..3),
        ) {
            let (position, last, looked_at, matched, replayed, ..) = counts;
            let (.., deliveries, without_plan, unreadable) = counts;
            let status = ReplayStatus {
                id: "rp_0123456789ab".to_owned(),
                request,
                began_at: Timestamp(times.0),
                state: "paused".to_owned(),
                problem,
                ended_at: times.1.map(Timestamp),
                position, last, looked_at, matched, replayed, deliveries, without_plan, unreadable,
                at: times.2.map(Timestamp),
                removing,
                ..ReplayStatus::default()
            };
            let (key, bytes) = status.write();
            prop_assert_eq!(key, "replays/rp_0123456789ab");
            let read: ReplayStatus = serde_json::from_slice(&bytes.unwrap()).unwrap();
            prop_assert_eq!(read, status);
        }

        #[test]
        fn outcomes_come_back_as_they_were(counts in any::<(u64, u64, u64)>()) {
            let (delivered, superseded, dead) = counts;
            let outcomes = ReplayOutcomes { delivered, superseded, dead };
            let (_, bytes) = outcomes.write("rp_0123456789ab");
            let read: ReplayOutcomes = serde_json::from_slice(&bytes.unwrap()).unwrap();
            prop_assert_eq!(read, outcomes);
        }
    }

    #[test]
    fn what_an_earlier_version_stored_is_read_with_defaults() {
        let read: ReplayStatus =
            serde_json::from_str(r#"{"id":"rp_0123456789ab","state":"running"}"#).unwrap();
        assert_eq!(read.request, ReplayRequest::default());
        assert!(read.is_running() && !read.has_ended());
    }
}
