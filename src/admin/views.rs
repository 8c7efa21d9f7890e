//! From what the bus stores to what the API shows.

use super::api::{BodyView, DeadFilter, DeadLine, DeadView, EventView, StepView, TraceRun};
use crate::{
    bus::{DeadId, DeadLetter, DeadSummary, Trace},
    event::{Event, Origin},
    observe::redact,
};

/// An event without its body.
pub fn event(event: &Event) -> EventView {
    EventView {
        id: event.id.to_string(),
        connector: event.connector.to_string(),
        stream: event.stream.to_string(),
        key: event.key.clone(),
        revision: event.revision.clone(),
        tenant: event.tenant.clone(),
        revision_at: event.revision_time(),
        received_at: event.received_at,
        origin: match event.origin {
            Origin::Webhook => "webhook".to_owned(),
            Origin::Poll => "poll".to_owned(),
        },
        delete: event.delete,
        to: event.to.iter().map(ToString::to_string).collect(),
        traceparent: event.traceparent.clone(),
    }
}

/// The record, masked. `redactions` is `None` where nobody knows what is to be masked.
pub fn body(event: &Event, redactions: Option<&[String]>) -> BodyView {
    let Some(redactions) = redactions else {
        return BodyView::Withheld(format!(
            "connector `{}` is not loaded, so which fields are to be masked is not known",
            event.connector
        ));
    };
    let mut record = event.record.value().as_ref().clone();
    redact::mask(&mut record, redactions);
    BodyView::Record(record)
}

/// One journalled copy of an event.
pub fn run(trace: Trace, body: Option<BodyView>) -> TraceRun {
    let steps = trace.steps.into_iter().map(|step| StepView {
        at: step.at,
        destination: step.destination.map(|name| name.to_string()),
        what: step.what,
        detail: step.detail,
    });
    TraceRun { seq: trace.seq.0, event: event(&trace.event), steps: steps.collect(), body }
}

/// A line of the list.
pub fn dead_line(letter: DeadSummary) -> DeadLine {
    DeadLine {
        id: letter.id.to_string(),
        event: letter.event.to_string(),
        connector: letter.lane.connector.to_string(),
        stream: letter.lane.stream.to_string(),
        destination: letter.lane.destination.to_string(),
        died_at: letter.died_at,
        reason: letter.reason,
        variant: letter.variant.map(|name| name.to_string()),
    }
}

/// One letter, whole.
pub fn dead(id: DeadId, letter: DeadLetter, body: Option<BodyView>) -> DeadView {
    DeadView {
        id: id.to_string(),
        destination: letter.destination.to_string(),
        died_at: letter.died_at,
        reason: letter.reason,
        message: letter.message,
        attempts: letter.attempts,
        status: letter.status,
        variant: letter.variant.map(|name| name.to_string()),
        event: event(&letter.event),
        body,
    }
}

/// Whether the filter takes the letter.
pub fn matches(filter: &DeadFilter, letter: &DeadSummary) -> bool {
    let fits = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|w| w == is);
    fits(&filter.connector, &letter.lane.connector)
        && fits(&filter.stream, &letter.lane.stream)
        && fits(&filter.destination, &letter.lane.destination)
        && fits(&filter.reason, &letter.reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{EventId, Lane, Record},
        world::Timestamp,
    };

    fn some_event() -> Event {
        Event {
            id: EventId([1; 16]),
            connector: "shop".into(),
            stream: "orders".into(),
            key: "1001".to_owned(),
            revision: "2".to_owned(),
            order: None,
            tenant: None,
            received_at: Timestamp(0),
            origin: Origin::Webhook,
            delete: false,
            to: vec!["erp".into()],
            record: Record::from_bytes(
                br#"{"id":1001,"customer":{"email":"a@b.example"}}"#.to_vec().into(),
            ),
            with: None,
            traceparent: None,
            replayed: None,
        }
    }

    #[test]
    fn bodies_are_masked_or_withheld() {
        let shown = body(&some_event(), Some(&["customer.email".to_owned()]));
        let expected = serde_json::json!({"id": 1001, "customer": {"email": "[redacted]"}});
        assert_eq!(shown, BodyView::Record(expected));
        assert!(matches!(body(&some_event(), None), BodyView::Withheld(_)));
    }

    #[test]
    fn filters_are_all_met() {
        let letter = DeadSummary {
            id: DeadId(1),
            event: EventId([1; 16]),
            lane: Lane {
                connector: "shop".into(),
                stream: "orders".into(),
                destination: "erp".into(),
            },
            died_at: Timestamp(0),
            reason: "rejected".to_owned(),
            variant: None,
        };
        let mut filter = DeadFilter::default();
        assert!(matches(&filter, &letter));
        filter.connector = Some("shop".to_owned());
        filter.reason = Some("rejected".to_owned());
        assert!(matches(&filter, &letter));
        filter.destination = Some("crm".to_owned());
        assert!(!matches(&filter, &letter));
    }
}
