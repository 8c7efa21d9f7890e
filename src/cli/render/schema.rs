//! Two versions of a model, for a terminal.

use std::fmt::Write as _;

use super::counted;
use crate::model::{Change, Class};

/// What is different, by class: the fields, what changed, where, and whom it breaks.
pub fn schema_diff(old: &str, new: &str, changes: &[Change]) -> String {
    if changes.is_empty() {
        return format!("{old} → {new}: no differences\n");
    }
    let mut text = format!("{old} → {new}: {}\n", summary(changes));
    let mut class = None;
    for change in changes {
        if class != Some(change.class) {
            class = Some(change.class);
            let _ = writeln!(text, "\n{}", change.class.word());
        }
        let fields = change.fields.iter().map(|field| match field.as_str() {
            "" => "(record)",
            field => field,
        });
        let fields: Vec<&str> = fields.collect();
        let side = if change.is_in_new { "" } else { "old " };
        let _ = writeln!(
            text,
            "  {}: {}\n      at {side}{}",
            fields.join(", "),
            change.what,
            change.pointer
        );
        for (who, why) in [("producers", &change.producers), ("consumers", &change.consumers)] {
            if let Some(why) = why {
                let _ = writeln!(text, "      breaks {who}: {why}");
            }
        }
    }
    text
}

/// `breaking for producers and consumers (3 breaking, 1 additive)`.
fn summary(changes: &[Change]) -> String {
    let producers = changes.iter().any(|change| change.producers.is_some());
    let consumers = changes.iter().any(|change| change.consumers.is_some());
    let whom = match (producers, consumers) {
        (true, true) => " for producers and consumers",
        (true, false) => " for producers",
        (false, true) => " for consumers",
        (false, false) => "",
    };
    let worst = changes.iter().map(|change| change.class).max().unwrap_or(Class::Cosmetic);
    let counts = [Class::Breaking, Class::Additive, Class::Operational, Class::Cosmetic]
        .into_iter()
        .map(|class| (changes.iter().filter(|change| change.class == class).count(), class))
        .filter(|(count, _)| *count > 0)
        .map(|(count, class)| format!("{count} {}", class.word()));
    let counts: Vec<String> = counts.collect();
    let all = counted(changes.len() as u64, "change");
    format!("{}{whom} ({all}: {})", worst.word(), counts.join(", "))
}
