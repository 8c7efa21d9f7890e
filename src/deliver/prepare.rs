//! From the event to what its destinations get: map, then schema. Pure.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::view::event_view;
use crate::{event::Event, map::Env, plan::StreamPlan};

/// What goes to the destination: the mapped record, or the raw bytes where nothing is mapped.
#[derive(Clone, Debug)]
pub enum Output {
    /// No map: the record, byte for byte.
    Raw {
        /// Its JSON text.
        bytes: Bytes,
        /// The event, for templates that look into the record.
        event: Arc<Event>,
    },
    /// What the map made.
    Mapped(Arc<Value>),
}

impl Output {
    /// The document, for `out`. A raw record is parsed when this is first called.
    pub fn value(&self) -> &Arc<Value> {
        match self {
            Self::Raw { event, .. } => event.record.value(),
            Self::Mapped(value) => value,
        }
    }

    /// Its JSON text.
    pub fn json(&self) -> Bytes {
        match self {
            Self::Raw { bytes, .. } => bytes.clone(),
            Self::Mapped(value) => json(value),
        }
    }
}

/// A document as JSON text.
pub(super) fn json(value: &Value) -> Bytes {
    // A `Value` has string keys and finite numbers only: it is always JSON.
    serde_json::to_vec(value).unwrap_or_default().into()
}

/// `record` → map → schema. An error is a dead letter: the reason's stable word (`map_failed`,
/// `schema_failed`) and a line for a person with field, path, type and place in the file. It holds
/// no value of the record.
pub fn prepare(
    stream: &StreamPlan,
    vars: &Arc<Value>,
    event: &Arc<Event>,
) -> Result<Output, (&'static str, String)> {
    let output = match &stream.map {
        None => Output::Raw { bytes: event.record.bytes().clone(), event: event.clone() },
        Some(mapping) => {
            let mut env = Env::new()
                .with("record", event.record.value().clone())
                .with("vars", vars.clone())
                .with_dynamic("event", event_view(event));
            if let Some(with) = &event.with {
                env = env.with("with", with.clone());
            }
            let mapped = mapping
                .apply(&env)
                .map_err(|error| ("map_failed", format!("{}: {error}", error.place.path)))?;
            Output::Mapped(Arc::new(mapped))
        }
    };
    if let Some(schema) = &stream.schema {
        let violations = schema.check(output.value());
        if !violations.is_empty() {
            return Err(("schema_failed", violations.join("; ")));
        }
    }
    Ok(output)
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use crate::{
        event::{Event, EventId, Origin, Record},
        world::Timestamp,
    };

    /// An event with this record.
    pub(in crate::deliver) fn event(record: &'static [u8]) -> Event {
        Event {
            id: EventId::derive("shop", "orders", "1001", "7"),
            connector: Arc::from("shop"),
            stream: Arc::from("orders"),
            key: "1001".to_owned(),
            revision: "7".to_owned(),
            order: None,
            tenant: None,
            received_at: Timestamp(1_795_000_000_000),
            origin: Origin::Webhook,
            delete: false,
            to: vec![Arc::from("erp")],
            record: Record::from_bytes(Bytes::from_static(record)),
            with: None,
            traceparent: None,
        }
    }
}
