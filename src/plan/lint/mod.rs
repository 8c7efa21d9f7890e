//! Lints: what is valid and still deserves a second look. One file a subject; each lint has a name
//! in `[lints]`, a code, and a page in `docs/errors/`.
//!
//! A lint looks at what was written, never at what a run did. It speaks only where it is sure, about
//! files that have no errors: what follows from a mistake is not said twice. An instance answers for
//! its own lines; those of the connector that it uses are that file's. One lint looks at every file,
//! broken or not: a literal secret, which is also kept out of all that is said about the file.

mod asset;
mod deliver;
mod event;
mod level;
mod names;
mod poll;
mod secret;
mod unused;
mod verify;

pub use level::Levels;
pub use secret::by_look as credentials_in;
pub(super) use secret::literal as literal_secrets;

use toml::de::{DeTable, DeValue};

use crate::definition::{
    connector::ConnectorDef,
    stream::StreamDef,
    table::{At, Finding},
};

/// A file without errors.
pub(super) struct Subject<'d, 'i> {
    /// As it was written.
    pub own: &'d ConnectorDef,
    /// What it is an instance of.
    pub base: Option<&'d ConnectorDef>,
    /// Its TOML.
    pub document: &'d DeTable<'i>,
}

impl<'d> Subject<'d, '_> {
    /// The definition with the streams.
    fn body(&self) -> &'d ConnectorDef {
        self.base.unwrap_or(self.own)
    }

    /// The streams, an instance's those of its base.
    fn streams(&self) -> impl Iterator<Item = (&'d str, &'d At<StreamDef>)> + use<'d> {
        let named = self.body().stream.value().into_iter().flat_map(|named| &named.0);
        named.map(|(name, stream)| (name.as_str(), stream))
    }

    /// The streams that the file itself writes: none in an instance.
    fn own_streams(&self) -> impl Iterator<Item = (&'d str, &'d At<StreamDef>)> + use<'d> {
        self.streams().filter(|_| self.base.is_none()).collect::<Vec<_>>().into_iter()
    }
}

/// All that there is to say about a file without errors, whatever the levels.
pub(super) fn all(subject: &Subject<'_, '_>) -> Vec<Finding> {
    let lints: [fn(&Subject<'_, '_>) -> Vec<Finding>; 6] =
        [asset::lint, deliver::lint, event::lint, poll::lint, unused::lint, verify::lint];
    lints.iter().flat_map(|lint| lint(subject)).collect()
}

/// Every string of a document but those that no expression can stand in.
fn strings<'t>(document: &'t DeTable<'_>) -> Vec<&'t str> {
    const PROSE: &[&str] = &["change", "docs", "lints", "owner", "summary", "test", "vars"];
    let mut found = Vec::new();
    for (key, value) in document {
        if !PROSE.contains(&key.get_ref().as_ref()) {
            collect(value.get_ref(), &mut found);
        }
    }
    found
}

/// Depth is bounded: the parser of TOML refuses deeper nesting.
fn collect<'t>(value: &'t DeValue<'_>, found: &mut Vec<&'t str>) {
    match value {
        DeValue::String(text) => found.push(text),
        DeValue::Array(items) => {
            for item in items {
                collect(item.get_ref(), found);
            }
        }
        DeValue::Table(table) => {
            for (_, value) in table {
                collect(value.get_ref(), found);
            }
        }
        _ => {}
    }
}
