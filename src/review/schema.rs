//! Schemas that streams promise: what another version of one does to the records that the map makes, and
//! to those who read them. How two versions compare is the models' affair.

use serde_json::Value;

use super::{
    pen::{At, Pen},
    rule::{self, Rule},
    say,
};
use crate::model::{Change, Class, compare};

/// Differences that a sentence names.
const SHOWN: usize = 3;

/// Rule, what the schema does, what follows, and which differences are meant.
type Told = (Rule, &'static str, &'static str, fn(&Change) -> bool);

/// The schema's name stayed; its document may not have.
pub(super) fn same_name(
    pen: &mut Pen<'_>,
    at: &At,
    name: &str,
    (old, new): (Option<&Value>, Option<&Value>),
) {
    let (Some(old), Some(new)) = (old, new) else { return };
    let changes = compare(old, new);
    let kinds: [Told; 3] = [
        (
            rule::SCHEMA_STRICTER,
            "refuses more",
            "records that no longer satisfy it end as dead letters",
            |change| change.producers.is_some(),
        ),
        (
            rule::SCHEMA_PROMISE,
            "promises less",
            "whoever relied on it may get something else",
            |change| change.consumers.is_some() && change.producers.is_none(),
        ),
        (rule::SCHEMA_LOOSER, "allows more", "", |change| change.class == Class::Additive),
    ];
    let mut is_told = false;
    for (rule, what, effect, is_meant) in kinds {
        let meant: Vec<&Change> = changes.iter().filter(|change| is_meant(change)).collect();
        if !meant.is_empty() {
            let what = format!("{} {what}: {}", say::quoted(name), some(&meant));
            pen.note(at, "schema", rule, what, effect);
            is_told = true;
        }
    }
    if !is_told && !changes.is_empty() {
        let what = format!("{} is described otherwise", say::quoted(name));
        pen.note(at, "schema", rule::SCHEMA_TEXT, what, "");
    }
}

/// Another schema is promised.
pub(super) fn other_name(
    pen: &mut Pen<'_>,
    at: &At,
    (was, is): (&str, &str),
    (old, new): (Option<&Value>, Option<&Value>),
) {
    let changes = old.zip(new).map(|(old, new)| compare(old, new)).unwrap_or_default();
    let told: Vec<&Change> = changes
        .iter()
        .filter(|change| matches!(change.class, Class::Breaking | Class::Additive))
        .collect();
    let effect = if told.is_empty() {
        "consumers have to know it; the same records satisfy both".to_owned()
    } else {
        format!("consumers have to know it; what differs: {}", some(&told))
    };
    let what = format!("`{was}` → `{is}`");
    pen.note(at, "schema", rule::SCHEMA_VERSION, what, effect);
}

fn some(changes: &[&Change]) -> String {
    let one = |change: &&Change| match change.fields.first().map(String::as_str) {
        None | Some("") => change.what.clone(),
        Some(field) => format!("{field}: {}", change.what),
    };
    let shown = changes.iter().take(SHOWN).map(one).collect::<Vec<_>>().join("; ");
    match changes.len().checked_sub(SHOWN) {
        None | Some(0) => shown,
        Some(more) => format!("{shown}; and {more} more"),
    }
}
