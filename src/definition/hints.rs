//! Help for keys that are not where they were written: those that exist elsewhere, and those that
//! the language names and the engine does not run yet. This is the one list of the latter.

use super::{
    auth::{self, AuthDef, AuthType},
    batch::BatchDef,
    connector::ConnectorDef,
    cursor::CursorDef,
    destination::{self, DestinationDef, DestinationType},
    job::JobDef,
    on::RuleDef,
    page::PageDef,
    poll::PollDef,
    reconcile::ReconcileDef,
    retry::RetryDef,
    rollout::{HaltDef, RolloutDef},
    schedule::ScheduleDef,
    slo::SloDef,
    source::SourceDef,
    stream::StreamDef,
    table::{Table, list_of},
    verdict::VerdictDef,
    verify::VerifyDef,
    webhook::WebhookDef,
};

/// Key, and what it would do. Such a key is an unknown key, and the message says plainly that it is
/// not a typing error.
const LATER: &[(&str, &str)] =
    &[("breaker", "circuit breakers"), ("newer", "writes that keep the newer row")];

/// Where a misplaced key may belong, the likeliest first.
static TABLES: &[&Table] = &[
    &StreamDef::TABLE,
    &PollDef::TABLE,
    &WebhookDef::TABLE,
    &SourceDef::TABLE,
    &DestinationDef::TABLE,
    &ConnectorDef::TABLE,
    &CursorDef::TABLE,
    &PageDef::TABLE,
    &JobDef::TABLE,
    &RuleDef::TABLE,
    &BatchDef::TABLE,
    &VerdictDef::TABLE,
    &AuthDef::TABLE,
    &ScheduleDef::TABLE,
    &ReconcileDef::TABLE,
    &RetryDef::TABLE,
    &VerifyDef::TABLE,
    &SloDef::TABLE,
    &RolloutDef::TABLE,
    &HaltDef::TABLE,
];

/// A help line names at most so many tables.
const MAX_HOMES: usize = 3;

/// The keys that a table of a type may have; `None` where types do not matter, or there is none of that name.
pub fn keys_of_type(table: &Table, kind: &str) -> Option<Vec<&'static str>> {
    let (required, optional, common): (&[&str], &[&str], &[&str]) =
        if table.title == AuthDef::TABLE.title {
            let (required, optional) = auth::keys_of(AuthType::of_word(kind)?);
            (required, optional, &["type"])
        } else if table.title == DestinationDef::TABLE.title {
            let (required, optional) = destination::keys_of(DestinationType::of_word(kind)?);
            (required, optional, destination::COMMON_KEYS)
        } else {
            return None;
        };
    Some(common.iter().chain(required).chain(optional).copied().collect())
}

/// The help line for a key that does not exist in `table` and is near to none that does.
pub fn key(name: &str, table: &Table) -> Option<String> {
    if let Some((_, what)) = LATER.iter().find(|(key, _)| *key == name) {
        return Some(format!(
            "`{name}` ({what}) is part of the language, but this version does not have it yet"
        ));
    }
    // `tenon.toml` has nothing in common with connectors.
    if !TABLES.iter().any(|known| known.title == table.title) {
        return None;
    }
    let homes: Vec<&str> = TABLES
        .iter()
        .filter(|home| home.keys.iter().any(|key| key.name == name))
        .map(|home| home.title)
        .take(MAX_HOMES)
        .collect();
    (!homes.is_empty()).then(|| format!("`{name}` is a key of {}", list_of(homes).replace('`', "")))
}

/// The help line for a word that will exist.
pub fn word(word: &str) -> String {
    format!("`{word}` is part of the language, but this version does not have it yet")
}
