//! How far a run over partitions has come: what a restart goes on from, and what `status` shows.
//!
//! Key `fanout/<connector>/<stream>`, value JSON with a version `v`. It is written every few hundred
//! partitions and at the end of a run. Stability: version 1 is read for ever; members may be added,
//! with defaults. A value that cannot be read is as good as none: a run begins at the first partition,
//! whose own cursor is elsewhere.

use serde::{Deserialize, Serialize};

use crate::world::Timestamp;

const VERSION: u8 = 1;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journey {
    pub(super) v: u8,
    /// What the run is over: of another list of names, a place means nothing.
    #[serde(default)]
    pub(super) over: String,
    /// When the run began.
    #[serde(default)]
    pub began: Option<Timestamp>,
    /// The partition up to which all are done, in the order in which they are read. `None`: the run is
    /// over, or at its beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<Vec<String>>,
    /// Partitions so far.
    #[serde(default)]
    pub partitions: u64,
    /// Of them, those that failed.
    #[serde(default)]
    pub failing: u64,
    /// The first that failed, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_failure: Option<(String, String)>,
    /// The partition whose cursor stands furthest back, and where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<(String, String)>,
    /// When a run last came to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Timestamp>,
}

impl Journey {
    /// A new run over `over` after this one; or, where this one did not come to its end, its rest.
    pub(super) fn set_out(self, over: String, now: Timestamp) -> Self {
        if self.after.is_some() && self.over == over {
            return self;
        }
        let finished = self.finished.filter(|_| self.over == over);
        Self { v: VERSION, over, began: Some(now), finished, ..Self::default() }
    }

    /// Whether the run did not come to its end.
    pub fn is_under_way(&self) -> bool {
        self.after.is_some()
    }

    /// The bytes to store.
    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(&Self { v: VERSION, ..self.clone() }).unwrap_or_default()
    }

    /// What was stored, if this version can read it.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|journey: &Self| journey.v == VERSION)
    }
}

/// The key of a stream's journey.
pub fn journey_key(connector: &str, stream: &str) -> String {
    format!("fanout/{connector}/{stream}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_is_what_it_was() {
        let bytes = br#"{"v":1,"over":"project","began":"1970-01-01T00:00:00.005Z","after":["17"],"partitions":3,"failing":1,"first_failure":["project=2","404"],"oldest":["project=1","2026"],"finished":"1970-01-01T00:00:00.004Z"}"#;
        let journey = Journey::decode(bytes).unwrap();
        assert!(journey.is_under_way() && journey.failing == 1);
        assert_eq!(journey.encode(), bytes);
        assert_eq!(Journey::decode(br#"{"v":2}"#), None);
    }

    #[test]
    fn an_unfinished_run_goes_on_and_another_list_begins_anew() {
        let begun = Journey::default().set_out("project".to_owned(), Timestamp(5));
        let half = Journey { after: Some(vec!["17".to_owned()]), partitions: 3, ..begun };
        assert_eq!(half.clone().set_out("project".to_owned(), Timestamp(9)), half);
        let other = half.set_out("project/channel".to_owned(), Timestamp(9));
        assert_eq!((other.after, other.partitions, other.began), (None, 0, Some(Timestamp(9))));
    }
}
