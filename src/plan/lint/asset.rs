//! The connector as an asset: who answers for it, what to do when it fails, and a changelog that
//! fits its version.

use super::Subject;
use crate::{
    definition::{
        change::ChangeDef,
        kinds::{Prose, Version},
        table::{At, Finding, Given, Loc},
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
    let current = precedence(&version.value);
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
    Some(Entry { version: precedence(&at.value), at, date: &date.value.0, date_at: date.at })
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

/// How versions follow each other: semantic versioning's precedence (section 11), what follows `+`
/// left out.
type Precedence = ([u64; 3], PreRelease);

/// A pre-release comes before its release.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum PreRelease {
    Before(Vec<Part>),
    Release,
}

/// Numbers come before words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(u64),
    Word(String),
}

fn precedence(version: &Version) -> Precedence {
    let text = version.0.split('+').next().unwrap_or_default();
    let (core, pre) = match text.split_once('-') {
        Some((core, pre)) => (core, Some(pre)),
        None => (text, None),
    };
    let mut numbers = core.split('.').map(|part| part.parse().unwrap_or(0));
    let core = [(); 3].map(|()| numbers.next().unwrap_or(0));
    let part = |part: &str| match part.parse() {
        Ok(number) => Part::Number(number),
        Err(_) => Part::Word(part.to_owned()),
    };
    let pre = pre
        .map_or(PreRelease::Release, |pre| PreRelease::Before(pre.split('.').map(part).collect()));
    (core, pre)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_follow_each_other_as_semver_says() {
        let order = [
            "0.9.9",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.0.1",
            "1.10.0",
        ];
        for pair in order.windows(2) {
            let [a, b] = [pair[0], pair[1]].map(|text| precedence(&Version(text.to_owned())));
            assert!(a < b, "{pair:?}");
        }
        let same = ["1.0.0", "1.0.0+5"].map(|text| precedence(&Version(text.to_owned())));
        assert_eq!(same[0], same[1]);
    }
}
