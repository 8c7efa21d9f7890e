//! The connector as an asset: who answers for it, what to do when it fails, and a changelog that
//! fits its version.

use super::Subject;
use crate::{
    definition::{
        change::ChangeDef,
        kinds::{Prose, Version},
        table::{At, Finding, Given, Loc},
        version::Precedence,
    },
    diagnostic::codes,
};

pub(super) fn lint(subject: &Subject<'_, '_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let (own, body) = (subject.own, subject.body());
    let at = own.name.get().map_or(Loc::default(), |name| name.at);
    if is_missing(own.owner.or(&body.owner)) {
        found.push(
            Finding::new(codes::MISSING_OWNER, at, "nobody owns this connector", "no `owner`")
                .help("add owner = \"...\": the team that answers when it fails or has to change"),
        );
    }
    if is_missing(own.docs.or(&body.docs)) {
        found.push(
            Finding::new(codes::MISSING_RUNBOOK, at, "this connector has no runbook", "no `docs`")
                .help("add docs = \"https://...\": where it says what to do when it fails"),
        );
    }
    found.extend(changelog(subject));
    found
}

fn is_missing(given: &Given<Prose>) -> bool {
    given.value().is_none_or(|prose| prose.0.trim().is_empty())
}

/// What of `[[change]]` contradicts `version`, or itself.
fn changelog(subject: &Subject<'_, '_>) -> Vec<Finding> {
    let entries: Vec<Entry<'_>> =
        subject.own.change.value().into_iter().flatten().filter_map(entry).collect();
    if entries.is_empty() {
        return Vec::new();
    }
    let mut found = out_of_order(&entries);
    // An instance that has no version of its own goes by its base's, and so does its changelog.
    let Some(version) = subject.own.version.get() else { return found };
    let current = Precedence::of(&version.value.0);
    for entry in entries.iter().filter(|entry| entry.version > current) {
        found.push(
            Finding::new(
                codes::STALE_CHANGE,
                entry.at.at,
                format!("the changelog knows {}, which is yet to come", entry.at.value.0),
                format!("newer than version {}", version.value.0),
            )
            .related(version.at, "the version is set here")
            .help("raise `version`, or correct the entry"),
        );
    }
    if entries.iter().all(|entry| entry.version != current) {
        found.push(
            Finding::new(
                codes::STALE_CHANGE,
                version.at,
                format!("the changelog says nothing of version {}", version.value.0),
                "no [[change]] for this version",
            )
            .help("add an entry: what is different for whoever uses the connector"),
        );
    }
    found
}

struct Entry<'d> {
    version: Precedence,
    at: &'d At<Version>,
    date: &'d str,
    date_at: Loc,
}

fn entry(change: &At<ChangeDef>) -> Option<Entry<'_>> {
    let at = change.value.version.get()?;
    let date = change.value.date.get()?;
    Some(Entry { version: Precedence::of(&at.value.0), at, date: &date.value.0, date_at: date.at })
}

/// Entries that are dated before those of an older version.
fn out_of_order(entries: &[Entry<'_>]) -> Vec<Finding> {
    let mut sorted: Vec<&Entry<'_>> = entries.iter().collect();
    sorted.sort_by(|a, b| a.version.cmp(&b.version));
    let mut found = Vec::new();
    // Within one version dates may differ: an entry was added before it was released.
    for older in sorted.windows(2).filter(|pair| pair[0].version < pair[1].version) {
        let [older, newer] = older else { continue };
        // RFC 3339 dates compare as text.
        if newer.date < older.date {
            found.push(
                Finding::new(
                    codes::STALE_CHANGE,
                    newer.date_at,
                    format!("{} is dated before {}", newer.at.value.0, older.at.value.0),
                    format!("expected {} or later", older.date),
                )
                .related(older.date_at, format!("the date of {}", older.at.value.0))
                .help("correct the date that is wrong"),
            );
        }
    }
    found
}
