//! What a trace says of each step in an event's life: the same words on every bus.

use std::sync::Arc;

use super::{Settlement, Step};
use crate::{
    event::{Event, Origin},
    world::Timestamp,
};

/// The first step: the event became durable.
pub(super) fn accepted(event: &Event) -> Step {
    let way = match event.origin {
        Origin::Webhook => "by webhook",
        Origin::Poll => "by poll",
    };
    Step { at: event.received_at, destination: None, what: "accepted".into(), detail: way.into() }
}

/// The step of a settlement; `None` for one that leaves no trace.
pub(super) fn settled(
    settlement: &Settlement,
    destination: &Arc<str>,
    at: Timestamp,
) -> Option<Step> {
    let (what, detail) = match settlement {
        Settlement::Delivered { attempts, status: Some(status) } => {
            ("delivered", format!("attempt {attempts}, status {status}"))
        }
        Settlement::Delivered { attempts, status: None } => {
            ("delivered", format!("attempt {attempts}"))
        }
        Settlement::Superseded => ("superseded", "a newer revision was delivered before".into()),
        Settlement::Dead { reason } => ("dead", reason.clone()),
        Settlement::Retry { due, attempts, error, .. } => {
            ("retry", format!("attempt {attempts}: {error}; again at {}", due.rfc3339()))
        }
        Settlement::Defer { .. } => return None,
    };
    Some(Step { at, destination: Some(Arc::clone(destination)), what: what.into(), detail })
}
