//! The JSON of the admin API: written by the server, read by the command line.
//!
//! Times are RFC 3339 text. Requests refuse unknown fields: a misspelt filter must not become
//! "everything". Answers may gain fields.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    engine::{
        Against, BackfillStatus, FlagStatus, KeptVersion, ReplayReport, ReplayRequest,
        ReplayStatus, RolloutEntry, RolloutStatus, Status,
    },
    ingest::poll::state::{StateExport, StreamState},
    world::Timestamp,
};

/// Any answer that is not 2xx.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What went wrong.
    pub error: Problem,
}

/// What went wrong, for a program and for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A stable word: `not_found`, `bad_request`, …
    pub code: String,
    /// A sentence.
    pub message: String,
}

/// The body of a write that needs no words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// `GET /api/v1/status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// What the engine says of itself.
    #[serde(flatten)]
    pub status: Status,
    /// Dead letters by connector; one that has none is left out.
    pub dead_by_connector: BTreeMap<String, u64>,
}

/// An event without its body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    /// `evt_…`
    pub id: String,
    /// The connector's name.
    pub connector: String,
    /// The stream's name.
    pub stream: String,
    /// Which thing it is about.
    pub key: String,
    /// Which state of it.
    pub revision: String,
    /// Whose budget it spends.
    pub tenant: Option<String>,
    /// The revision as a time, by the sender's clock, where it is one and restores order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision_at: Option<Timestamp>,
    /// When the engine took it in, by its own clock.
    pub received_at: Timestamp,
    /// `webhook` or `poll`.
    pub origin: String,
    /// Whether it says that the thing is gone.
    pub delete: bool,
    /// The destinations it has to reach.
    pub to: Vec<String>,
    /// W3C `traceparent`.
    pub traceparent: Option<String>,
}

/// `GET /api/v1/events/{id}`: the event's life; several runs where it was replayed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TraceView {
    /// `evt_…`
    pub id: String,
    /// Oldest first, never empty.
    pub runs: Vec<TraceRun>,
}

/// One journalled copy of an event and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TraceRun {
    /// Its place in the journal.
    pub seq: u64,
    /// The event.
    pub event: EventView,
    /// What happened, in order.
    pub steps: Vec<StepView>,
    /// The raw record, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<BodyView>,
}

/// One step of an event's life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepView {
    /// When.
    pub at: Timestamp,
    /// The destination; none for the append itself.
    pub destination: Option<String>,
    /// `accepted`, `retry`, `delivered`, `superseded`, `dead`.
    pub what: String,
    /// One line.
    pub detail: String,
}

/// A raw record for a person's eyes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyView {
    /// The record, fields that the stream redacts masked.
    Record(Value),
    /// Why it is not shown: nobody can say which of its fields are to be masked.
    Withheld(String),
}

/// A line of the list of dead letters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLine {
    /// `dl_…`
    pub id: String,
    /// `evt_…`
    pub event: String,
    /// The connector's name.
    pub connector: String,
    /// The stream's name.
    pub stream: String,
    /// The destination that it did not reach.
    pub destination: String,
    /// When it died.
    pub died_at: Timestamp,
    /// A stable word: `rejected`, `map_failed`, …
    pub reason: String,
    /// The canary that had the event in hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// `GET /api/v1/dlq`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadList {
    /// Newest first, at most the limit.
    pub letters: Vec<DeadLine>,
    /// How many match, the ones left out included.
    pub total: usize,
}

/// `GET /api/v1/dlq/{id}`: the whole story.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeadView {
    /// `dl_…`
    pub id: String,
    /// The destination that it did not reach.
    pub destination: String,
    /// When it died.
    pub died_at: Timestamp,
    /// A stable word.
    pub reason: String,
    /// What went wrong, for a person.
    pub message: String,
    /// Counted attempts.
    pub attempts: u32,
    /// HTTP status of the last attempt.
    pub status: Option<u16>,
    /// The canary that had the event in hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The event.
    pub event: EventView,
    /// The raw record, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<BodyView>,
}

/// Which dead letters; nothing set means all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadFilter {
    /// Only this connector.
    pub connector: Option<String>,
    /// Only this stream.
    pub stream: Option<String>,
    /// Only this destination.
    pub destination: Option<String>,
    /// Only this reason.
    pub reason: Option<String>,
}

impl DeadFilter {
    /// Whether it leaves nothing out.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// `POST /api/v1/dlq/discard`. Many are replayed by `POST /api/v1/replays`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BulkRequest {
    /// Only this connector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connector: Option<String>,
    /// Only this stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Only this destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Only this reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Must be set where no filter is: all letters on purpose, never by accident.
    pub all: bool,
    /// At most so many, oldest first; default 1,000, at most 10,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Only say which.
    pub dry_run: bool,
}

impl BulkRequest {
    /// The filter in it.
    pub fn filter(&self) -> DeadFilter {
        DeadFilter {
            connector: self.connector.clone(),
            stream: self.stream.clone(),
            destination: self.destination.clone(),
            reason: self.reason.clone(),
        }
    }
}

/// What a bulk request did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkReport {
    /// Letters that match the filter, beyond the limit too.
    pub matched: usize,
    /// The letters that were (dry run: would be) discarded; of single ones also replayed.
    pub done: Vec<String>,
    /// The ones that could not be, and why.
    pub failed: Vec<BulkFailure>,
    /// Nothing was changed.
    pub dry_run: bool,
    /// Some were left because of the limit or the time; ask again.
    pub more: bool,
}

/// One letter that stayed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkFailure {
    /// `dl_…`
    pub id: String,
    /// Why.
    pub message: String,
}

/// `POST /api/v1/dlq/{id}/replay`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// The letter that is gone.
    pub id: String,
    /// The event that is on its way again.
    pub event: String,
}

/// `DELETE /api/v1/dlq/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discarded {
    /// The letter that is gone.
    pub id: String,
}

/// `POST /api/v1/auth/begin`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginBegin {
    /// The connector's name.
    pub connector: String,
    /// Its `[auth.NAME]` table; none means the only one that takes a login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<String>,
    /// Where the page redirects to, on this machine.
    pub redirect: String,
}

/// The answer to `POST /api/v1/auth/begin`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginBegun {
    /// The table's name.
    pub auth: String,
    /// The page to be opened.
    pub url: String,
}

/// `POST /api/v1/auth/finish`. Not `Debug`: the code is as good as a token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginFinish {
    /// The connector's name.
    pub connector: String,
    /// The table's name.
    pub auth: String,
    /// As the redirect has it.
    pub code: String,
    /// As the redirect has it.
    pub state: String,
    /// `iss` of the redirect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
}

/// The answer to `POST /api/v1/auth/finish`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginFinished {
    /// How many holds were lifted.
    pub resumed: usize,
}

/// `GET /api/v1/auth`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginList {
    /// By connector and name.
    pub logins: Vec<LoginView>,
}

/// A table that a person logs in for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginView {
    /// The connector's name.
    pub connector: String,
    /// The table's name.
    pub auth: String,
    /// `logged_in`, `logged_out`, `refused` (the provider ended it) or `unreadable`.
    pub state: String,
    /// When somebody has to log in again, or had to, where that is known.
    pub expires_at: Option<Timestamp>,
    /// Why the stored tokens cannot be read.
    pub message: Option<String>,
}

/// `POST /api/v1/resume`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResumeRequest {
    /// The connector's name.
    pub connector: String,
    /// One of its streams or destinations; none means all that is parked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The answer to `POST /api/v1/resume`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumed {
    /// How many holds were lifted.
    pub resumed: usize,
}

/// `GET /api/v1/replays`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReplayList {
    /// All that are known, those that ended included, the newest first.
    pub replays: Vec<ReplayStatus>,
}

/// `POST /api/v1/replays/preview`. `POST /api/v1/replays` takes the request alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreviewBody {
    /// What would be replayed.
    pub request: ReplayRequest,
    /// A version of the connector to compare with, field by field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<Against>,
}

/// `GET /api/v1/state`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StateList {
    /// Each stream that polls, or did.
    pub streams: Vec<StreamState>,
}

/// `POST /api/v1/state/import`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportBody {
    /// What `GET /api/v1/state/{connector}` gave.
    pub state: StateExport,
    /// Replace what is there.
    #[serde(default)]
    pub replace: bool,
}

/// The answer to `POST /api/v1/state/import`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// How many entries were written; those that were there already are not counted.
    pub entries: usize,
}

/// `POST /api/v1/backfills`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackfillBody {
    /// The connector's name.
    pub connector: String,
    /// The stream's name.
    pub stream: String,
    /// Where it begins: a value of the stream's cursor; times are RFC 3339 or dates.
    pub from: String,
    /// Where it ends, itself not included.
    pub to: String,
}

/// `GET /api/v1/backfills`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BackfillList {
    /// All that are known, those that ended included.
    pub backfills: Vec<BackfillStatus>,
}

/// `GET /api/v1/rollouts`, and `GET /api/v1/rollouts/{connector}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RolloutList {
    /// Connectors that are not simply live, by name.
    pub rollouts: Vec<RolloutStatus>,
}

/// `GET /api/v1/flags`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlagList {
    /// Those that are set, and those of variants and connectors that are off.
    pub flags: Vec<FlagStatus>,
}

/// `GET /api/v1/flags/log`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RolloutLog {
    /// Newest first.
    pub entries: Vec<RolloutEntry>,
}

/// `GET /api/v1/versions/{connector}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VersionList {
    /// Newest first.
    pub versions: Vec<KeptVersion>,
}

/// `DELETE /api/v1/backfills/{connector}/{stream}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancelled {
    /// Whether there was one.
    pub cancelled: bool,
}

/// A line of the answer to `POST /api/v1/replays/preview` (`application/x-ndjson`): any number of
/// `{"progress": n}`, then one `report` or `error`. An answer without such a last line was cut.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayLine {
    /// Events looked at so far.
    Progress(u64),
    /// Done.
    Report(ReplayReport),
    /// Ended before its end.
    Error(Problem),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_filter_is_refused() {
        let text = r#"{"conector": "shop", "all": true}"#;
        assert!(serde_json::from_str::<BulkRequest>(text).is_err());
        let text = r#"{"request": {"dryrun": true}}"#;
        assert!(serde_json::from_str::<PreviewBody>(text).is_err());
    }

    #[test]
    fn replay_lines_are_told_apart_by_their_one_member() {
        assert_eq!(
            serde_json::to_string(&ReplayLine::Progress(7)).expect("written"),
            r#"{"progress":7}"#
        );
        let report = ReplayReport { matched: 1, ..ReplayReport::default() };
        let text = serde_json::to_string(&ReplayLine::Report(report.clone())).expect("written");
        assert!(text.starts_with(r#"{"report":{"matched":1,"#), "{text}");
        let line: ReplayLine = serde_json::from_str(&text).expect("read");
        assert_eq!(line, ReplayLine::Report(report));
    }
}
