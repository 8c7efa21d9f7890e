//! What a trace says of each step in an event's life: the same words on every bus.

use std::sync::Arc;

use super::{Settlement, Step};
use crate::{
    event::{Event, Origin},
    world::Timestamp,
};

/// The first step: the event became durable.
pub(super) fn accepted(event: &Event) -> Step {
    let way = match (event.replayed, event.origin) {
        (Some(_), _) => "again, by a replay",
        (None, Origin::Webhook) => "by webhook",
        (None, Origin::Poll) => "by poll",
    };
    Step { at: event.received_at, destination: None, what: "accepted".into(), detail: way.into() }
}

/// The step of a settlement; `None` for one that leaves no trace.
pub(super) fn settled(
    event: &Event,
    settlement: &Settlement,
    destination: &Arc<str>,
    at: Timestamp,
) -> Option<Step> {
    let (what, detail) = match settlement {
        Settlement::Delivered { attempts, status: Some(status), .. } => {
            ("delivered", format!("attempt {attempts}, status {status}"))
        }
        Settlement::Delivered { attempts, status: None, .. } => {
            ("delivered", format!("attempt {attempts}"))
        }
        Settlement::Superseded { by } => ("superseded", superseded(event, *by)),
        Settlement::Dead { reason } => ("dead", reason.clone()),
        Settlement::Retry { due, attempts, error, .. } => {
            ("retry", format!("attempt {attempts}: {error}; again at {}", due.rfc3339()))
        }
        Settlement::Defer { .. } => return None,
    };
    Some(Step { at, destination: Some(Arc::clone(destination)), what: what.into(), detail })
}

/// Which revision was there before: as a time where the event's own is one.
fn superseded(event: &Event, by: Option<i64>) -> String {
    let newer = match by {
        None => return "a newer revision was delivered before".to_owned(),
        Some(order) if event.revision_time().is_some() => Timestamp(order).rfc3339(),
        Some(order) => order.to_string(),
    };
    format!("a newer revision was delivered before: {newer}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bus::conformance::event, event::Event};

    fn detail(revision: &str, order: i64, by: Option<i64>) -> String {
        let event = Event { order: Some(order), ..event("k", revision, Timestamp(0)) };
        let step = settled(&event, &Settlement::Superseded { by }, &"erp".into(), Timestamp(0));
        step.expect("it leaves a trace").detail
    }

    #[test]
    fn superseded_names_the_newer_revision_as_revisions_are_written() {
        let before = "a newer revision was delivered before";
        assert_eq!(detail("7", 7, Some(9)), format!("{before}: 9"));
        let time = "2026-11-22T10:00:00Z";
        let order = Timestamp::parse_rfc3339(time).unwrap().0;
        let newer = detail(time, order, Some(order + 1500));
        assert_eq!(newer, format!("{before}: 2026-11-22T10:00:01.500Z"));
        assert_eq!(detail("7", 7, None), before);
    }
}
