//! What the language names and the engine does not run yet: the one list of it.
//!
//! Such a key is an unknown key, and the message says plainly that it is not a typing error.

use super::table::Table;

/// Key, and what it would do.
const KEYS: &[(&str, &str)] = &[
    ("batch", "deliveries of several events in one request"),
    ("breaker", "circuit breakers"),
    ("decode", "polls of CSV, XML, JSON lines and archives"),
    ("detail", "one further request per listed record"),
    ("each", "fan-out over the records of another stream"),
    ("job", "asynchronous report jobs"),
    ("like", "a stream as a copy of its sibling"),
    ("max", "a provider's cap on pages"),
    ("newer", "writes that keep the newer row"),
    ("oldest", "a provider's retention as the cursor's limit"),
    ("on", "response rules"),
    ("rollout", "shadow, canary and flags"),
    ("until", "a cursor that ends"),
];

/// The help line for a key that will exist.
pub fn key(name: &str, _table: &Table) -> Option<String> {
    let (_, what) = KEYS.iter().find(|(key, _)| *key == name)?;
    Some(format!(
        "`{name}` ({what}) is part of the language, but this version does not have it yet"
    ))
}

/// The help line for a word that will exist.
pub fn word(word: &str) -> String {
    format!("`{word}` is part of the language, but this version does not have it yet")
}
