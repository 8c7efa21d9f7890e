//! CONTRACT (to be replaced by naming.rs).

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use crate::{bus::NewEvent, event::Origin, map::Env, plan::{ConnectorPlan, StreamPlan}, world::Timestamp};

/// A record as it came in.
pub struct Incoming {
    /// JSON text of the record.
    pub bytes: Bytes,
    /// The same, parsed.
    pub value: Arc<Value>,
    pub origin: Origin,
    pub received_at: Timestamp,
    pub traceparent: Option<String>,
    /// `vars`, and whatever of `request`, `response`, `up`, `each` exists here; `record` is bound by `name_event`.
    pub env: Env,
}

/// `when` → key → revision → tenant → with → delete → claim. `Ok(None)`: `when` says it is not ours.
/// Err: one line for the log and the answer's class (a missing key is an error for that event, never "").
pub fn name_event(_connector: &ConnectorPlan, _stream: &StreamPlan, _incoming: Incoming) -> Result<Option<NewEvent>, String> { unimplemented!() }
