//! What names an event: a key that stays the same, and claims that last as long as records come.

use std::time::Duration;

use super::{
    Subject,
    names::{Chain, Member, names},
};
use crate::{
    definition::{
        collections::items,
        kinds::{Expression, Lifetime},
        stream::StreamDef,
        table::{At, Finding},
    },
    diagnostic::codes,
    plan::compile::within,
};

pub(super) fn lint(subject: &Subject<'_, '_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (_, stream) in subject.own_streams() {
        found.extend(items(&stream.value.key).iter().filter_map(unstable));
        found.extend(short_dedupe(&stream.value));
    }
    found
}

/// A key names a thing for as long as it lives: neither when it changed nor where it stood belongs
/// into it.
fn unstable(key: &At<Expression>) -> Option<Finding> {
    let named = names(&key.value.text);
    let (chain, why) = named.chains.iter().find_map(|chain| Some((chain, why_unstable(chain)?)))?;
    let finding = Finding::new(
        codes::UNSTABLE_KEY,
        within(key, chain.range.clone()),
        "this key is not stable",
        why.label(chain),
    );
    Some(finding.help(why.help()))
}

#[derive(Clone, Copy)]
enum Why {
    Changes,
    Position,
    Request,
}

impl Why {
    fn label(self, chain: &Chain<'_>) -> String {
        let last = chain.members.iter().rev().find_map(|member| match member {
            Member::Name(name) => Some(*name),
            Member::Index => None,
        });
        match (self, last) {
            (Self::Changes, Some(name)) => format!("`{name}` changes with the thing"),
            (Self::Position, _) => "a position changes when the order does".to_owned(),
            (_, Some(name)) => format!("`{name}` is another in each request"),
            (_, None) => "this is another in each request".to_owned(),
        }
    }

    fn help(self) -> &'static str {
        match self {
            Self::Changes => {
                "`key` says which thing an event is about; what tells its states apart is `revision`"
            }
            Self::Position => {
                "pick the item by what it is, or take another field: a key names a thing for as \
                 long as it lives"
            }
            Self::Request => {
                "take what the record itself says: a resend and a poll must find the same key"
            }
        }
    }
}

fn why_unstable(chain: &Chain<'_>) -> Option<Why> {
    match chain.root {
        "$" | "record" => {
            if chain.members.contains(&Member::Index) {
                return Some(Why::Position);
            }
            let Some(Member::Name(last)) = chain.members.last().filter(|_| !chain.is_open) else {
                return None;
            };
            is_mutable(last).then_some(Why::Changes)
        }
        "request" | "response" if chain.name(0) == Some("headers") => {
            let header = chain.name(1)?.to_ascii_lowercase();
            is_per_request(&header).then_some(Why::Request)
        }
        "response" if chain.name(0) == Some("status") => Some(Why::Request),
        _ => None,
    }
}

/// Whether a field of this name is a time that moves: `updated_at`, `lastModified`, `received-on`.
/// A time at which something was made or measured stays, and may be part of a key.
fn is_mutable(field: &str) -> bool {
    const MOVES: &[&str] = &[
        "accessed",
        "changed",
        "edited",
        "fetched",
        "modified",
        "polled",
        "processed",
        "received",
        "refreshed",
        "retrieved",
        "seen",
        "synced",
        "touched",
        "updated",
    ];
    const WHEN: &[&str] =
        &["at", "by", "date", "datetime", "last", "ms", "on", "time", "timestamp", "ts", "utc"];
    let words = words(field);
    match words.as_slice() {
        [only] if *only == "etag" || *only == "now" => true,
        words => {
            let moves = words.iter().any(|word| MOVES.contains(&word.as_str()));
            let rest = words
                .iter()
                .all(|word| MOVES.contains(&word.as_str()) || WHEN.contains(&word.as_str()));
            // `last_update` and `lastModifiedTime`, but not `update_policy_id`.
            let last = matches!(words, [first, second, ..] if *first == "last"
                && matches!(second.as_str(), "update" | "change" | "edit" | "modification"));
            (moves && rest) || last
        }
    }
}

/// `lastModifiedAt`, `last_modified-at` as lower-case words.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for c in name.chars() {
        let is_border = !c.is_alphanumeric() || c.is_uppercase() && was_lower;
        if is_border && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        was_lower = c.is_lowercase() || c.is_numeric();
        if let Some(word) = words.last_mut().filter(|_| c.is_alphanumeric()) {
            word.extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Headers that differ between a request and its repetition.
fn is_per_request(header: &str) -> bool {
    const EXACT: &[&str] = &["age", "date", "etag", "last-modified", "traceparent", "user-agent"];
    EXACT.contains(&header)
        || ["-timestamp", "-signature", "request-id", "request-time", "-trace-id"]
            .iter()
            .any(|end| header.ends_with(end))
}

/// A claim that ends while its record still comes lets the record through once more.
fn short_dedupe(stream: &StreamDef) -> Option<Finding> {
    const DEFAULT: Duration = Duration::from_hours(7 * 24);
    // What goes nowhere is delivered neither once nor twice.
    if stream.to.value().is_some_and(|to| to.0.is_empty()) {
        return None;
    }
    let window = match stream.dedupe.value() {
        Some(Lifetime::Forever) => return None,
        Some(Lifetime::For(window)) => *window,
        None => DEFAULT,
    };
    let poll = stream.poll.get()?;
    let Some(cursor) = poll.value.cursor.get() else {
        let message = "every record is delivered again once its claim has ended";
        let label = format!("claims end after {}", shown(window));
        let at = stream.dedupe.get().map_or(poll.key, |given| given.at);
        let finding = Finding::new(codes::SHORT_DEDUPE, at, message, label).help(
            "without a cursor each run reads every record again; dedupe = \"forever\" remembers \
             each of them for as long as it comes",
        );
        return Some(finding);
    };
    let lookback = cursor.value.lookback.get().filter(|lookback| lookback.value.0 > window)?;
    let message = "records within the lookback are delivered again once their claims have ended";
    let label = format!("reads again what is up to {} old", shown(lookback.value.0));
    let finding = Finding::new(codes::SHORT_DEDUPE, lookback.at, message, label);
    Some(match stream.dedupe.get() {
        Some(given) => finding
            .related(given.at, "claims end after this")
            .help("a claim has to outlast the lookback: raise `dedupe`"),
        None => finding.help(format!(
            "a claim has to outlast the lookback: set `dedupe`, which is {} by default",
            shown(DEFAULT)
        )),
    })
}

/// As the language writes durations.
fn shown(duration: Duration) -> String {
    let mut rest = duration.as_millis();
    let mut out = String::new();
    for (unit, length) in
        [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)]
    {
        if rest / length > 0 {
            out.push_str(&format!("{}{unit}", rest / length));
            rest %= length;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_move_are_told_from_times_that_stay() {
        for name in [
            "updated_at",
            "updatedAt",
            "lastModified",
            "received_on",
            "modified",
            "Updated-At",
            "last_update",
            "etag",
            "dateUpdated",
            "updated_by",
            "last_seen",
        ] {
            assert!(is_mutable(name), "{name}");
        }
        for name in [
            "id",
            "created_at",
            "timestamp",
            "date",
            "received_quantity",
            "change_id",
            "last_name",
            "state",
            "updated_policy_id",
            "last",
            "at",
        ] {
            assert!(!is_mutable(name), "{name}");
        }
    }

    #[test]
    fn durations_are_shown_as_they_are_written() {
        for (millis, text) in [(604_800_000, "7d"), (5_400_000, "1h30m"), (250, "250ms")] {
            assert_eq!(shown(Duration::from_millis(millis)), text);
        }
    }
}
