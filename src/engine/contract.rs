//! CONTRACT (to be replaced by the real files of this module). What the admin API and the CLI see.

use std::{path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{bus::Bus, event::EventId, observe::Metrics, plan::Settings, world::{Timestamp, World}};

/// What to run.
pub struct EngineOptions {
    /// Folders and files with connectors.
    pub paths: Vec<PathBuf>,
    pub settings: Settings,
    pub world: World,
}

pub struct Engine { _private: () }

/// Why the engine did not start: one or more lines for a person.
#[derive(Debug)]
pub struct StartError(pub String);

#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Status {
    pub version: String,
    pub started_at: Timestamp,
    /// `running`, `draining`.
    pub state: String,
    /// Why the bus refuses; `None` while all is well.
    pub refusing: Option<String>,
    pub unsettled: u64,
    pub dead_letters: u64,
    pub disk_bytes: u64,
    pub disk_limit_bytes: u64,
    pub connectors: Vec<ConnectorStatus>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct ConnectorStatus {
    pub name: String,
    pub version: String,
    pub owner: Option<String>,
    pub file: PathBuf,
    /// `running`, `restarting`, `quarantined`, `held`, `outdated` (its file does not compile, the predecessor runs), `failed` (no plan), `removed` (backlog without a file).
    pub state: String,
    /// Counts the plans it has run since start.
    pub generation: u64,
    /// Why, where the state is not `running`: diagnostics, hold message, panic.
    pub problem: Option<String>,
    pub streams: Vec<StreamStatus>,
    pub destinations: Vec<DestinationStatus>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct StreamStatus {
    pub name: String,
    pub webhook: Option<String>,
    pub next_poll: Option<Timestamp>,
    pub last_poll: Option<Timestamp>,
    /// `ok`, or why the last poll failed.
    pub last_poll_result: Option<String>,
    /// The cursor as text.
    pub cursor: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct DestinationStatus {
    pub name: String,
    pub kind: String,
    pub backlog: u64,
    pub oldest: Option<Timestamp>,
    /// Why it is parked.
    pub held: Option<String>,
}

/// What one reload did.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct ReloadReport {
    pub added: Vec<String>,
    pub changed: Vec<String>,
    pub removed: Vec<String>,
    pub unchanged: usize,
    /// Connectors that kept their predecessor, or did not start.
    pub failed: Vec<String>,
    /// Rendered diagnostics, without colour.
    pub diagnostics: Vec<String>,
    /// name → generation.
    pub generations: std::collections::BTreeMap<String, u64>,
    pub took_ms: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct ReplayRequest {
    /// Only this connector, stream, destination, key.
    pub connector: Option<String>,
    pub stream: Option<String>,
    pub destination: Option<String>,
    pub key: Option<String>,
    pub from: Timestamp,
    pub to: Timestamp,
    pub dry_run: bool,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct ReplayReport {
    /// Events in the window that match.
    pub matched: u64,
    /// Appended again (0 under dry_run).
    pub replayed: u64,
    /// Would fail the current map or schema: event id and message, the first 20.
    pub failing: Vec<(String, String)>,
    pub failing_total: u64,
    /// Dry run: the first few outputs as they would be sent now, redacted: event id, output.
    pub samples: Vec<(String, serde_json::Value)>,
}

impl Engine {
    /// Opens the state, compiles all, starts. Binds both addresses before it returns.
    pub async fn start(_options: EngineOptions) -> Result<Arc<Self>, StartError> { unimplemented!() }
    pub fn listen_address(&self) -> std::net::SocketAddr { unimplemented!() }
    pub fn status(&self) -> Status { unimplemented!() }
    pub fn ready(&self) -> Result<(), String> { unimplemented!() }
    pub async fn reload(&self) -> ReloadReport { unimplemented!() }
    pub async fn replay(&self, _request: ReplayRequest, _progress: &(dyn Fn(u64) + Send + Sync)) -> Result<ReplayReport, String> { unimplemented!() }
    /// Appends a dead letter's event again for its destination and removes the letter.
    pub async fn replay_dead(&self, _id: crate::bus::DeadId) -> Result<EventId, String> { unimplemented!() }
    /// Un-parks a held destination or poll.
    pub fn resume(&self, _connector: &str, _name: Option<&str>) -> Result<usize, String> { unimplemented!() }
    pub fn bus(&self) -> &Arc<dyn Bus> { unimplemented!() }
    pub fn metrics_text(&self) -> String { unimplemented!() }
    pub fn attach<F>(&self, _name: &'static str, _service: impl FnOnce(tokio_util::sync::CancellationToken) -> F) where F: Future<Output = ()> + Send + 'static { unimplemented!() }
    /// Field paths to mask in views of this stream's records (map outputs); the raw record's are those mapped from them.
    pub fn redactions(&self, _connector: &str, _stream: &str) -> Option<Vec<String>> { unimplemented!() }
    /// Stops in order under the deadline; names laggards in the log.
    pub async fn shutdown(&self) -> Vec<String> { unimplemented!() }
}
