//! Deliveries that a destination cannot tell from each other.
//!
//! Every request to a destination carries an `Idempotency-Key` that follows from the event and the
//! destination, so repetitions are safe by default, a POST's too. A header of the file's own of that
//! name, or of a like name, takes its place; then it has to name the event.

use super::{
    Subject,
    names::{Named, names},
};
use crate::{
    definition::{
        kinds::Expression,
        table::{At, Finding},
    },
    diagnostic::codes,
};

pub(super) fn lint(subject: &Subject<'_, '_>) -> Vec<Finding> {
    let destinations = subject.own.destination.value().into_iter().flat_map(|named| &named.0);
    destinations
        .filter_map(|(_, destination)| destination.value.headers.value())
        .flat_map(|headers| &headers.0)
        .filter(|(name, _)| name.to_ascii_lowercase().contains("idempoten"))
        .filter_map(|(name, value)| weak(name, value))
        .collect()
}

fn weak(name: &str, value: &At<Expression>) -> Option<Finding> {
    let named = names(&value.value.text);
    let (message, label) = if names_the_event(&named) {
        return None;
    } else if has_member(&named, "key") {
        (
            "this idempotency key takes a thing's states for one",
            "the same in every state of the thing",
        )
    } else if has_member(&named, "received_at") {
        ("this idempotency key takes events for one that come at once", "a time is not an identity")
    } else {
        ("this idempotency key takes all events for one", "the same for every event")
    };
    let replaces = name.eq_ignore_ascii_case("idempotency-key");
    Some(Finding::new(codes::WEAK_IDEMPOTENCY, value.at, message, label).help(if replaces {
        "leave the header out: an `Idempotency-Key` of its own goes with every event; where the API \
         wants another form, build it from {{ event.id }}"
    } else {
        "build it from {{ event.id }}, which is the same on every attempt, replay and restart"
    }))
}

/// The event's id, a thing with its state, or something of the mapped record: what that is worth only
/// the author knows.
fn names_the_event(named: &Named<'_>) -> bool {
    let whole = |root: &str| {
        named.chains.iter().any(|chain| chain.root == root && chain.members.is_empty())
    };
    let any = |roots: &[&str]| named.chains.iter().any(|chain| roots.contains(&chain.root));
    any(&["out", "$", "batch"])
        || whole("event")
        || has_member(named, "id")
        || has_member(named, "key") && has_member(named, "revision")
}

/// Whether it names a member of `event`.
fn has_member(named: &Named<'_>, member: &str) -> bool {
    named.chains.iter().any(|chain| chain.root == "event" && chain.name(0) == Some(member))
}
