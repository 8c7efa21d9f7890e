//! The TOML as written: every table is declared once, as data, with its keys, their kinds and a line
//! of documentation each. From that declaration come the typed definition, the walker that reports
//! unknown keys, wrong types and missing keys all at once, and the JSON Schema for editors.
//!
//! Nothing is resolved here: names are not looked up, expressions are not compiled, defaults are
//! not filled in. What is absent: files, time, and any way to panic on a text.

use std::collections::BTreeSet;

use toml::{Spanned, de::DeTable};

use crate::diagnostic::SourceFile;

pub mod auth;
pub mod batch;
pub mod breaker;
pub mod change;
pub mod collections;
pub mod connector;
pub mod cursor;
pub mod decode;
pub mod destination;
pub mod detail;
pub mod each;
mod examples;
pub mod format;
mod hints;
pub mod job;
pub mod kinds;
pub mod like;
pub mod lints;
pub mod on;
pub mod page;
pub mod poll;
pub mod presets;
pub mod reconcile;
pub mod retry;
pub mod rollout;
pub mod schedule;
mod schema;
pub mod settings;
pub mod slo;
pub mod source;
pub mod stream;
pub mod syntax;
pub mod table;
pub mod test;
pub mod units;
pub mod vars;
pub mod verdict;
pub mod verify;
pub mod version;
pub mod webhook;

pub use schema::{json_schema, settings_json_schema};

use collections::Named;
use connector::ConnectorDef;
use kinds::Prose;
use settings::SettingsDef;
use table::{Finding, Kind, Node, Reader, table};
use verify::VerifyDef;

/// A file as it was read.
pub struct Read<'i, T> {
    /// Its typed content; what was wrong is absent or marked invalid.
    pub definition: T,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
    /// Whether the text is TOML at all. Where it is not, missing keys mean nothing.
    pub is_toml: bool,
    /// The TOML itself.
    pub document: Spanned<DeTable<'i>>,
}

/// Reads a connector file. `index` becomes the file of all places.
pub fn read_connector(index: u16, file: &SourceFile) -> Read<'_, ConnectorDef> {
    read(index, &file.text)
}

/// Reads `tenon.toml`.
pub fn read_settings(file: &SourceFile) -> Read<'_, SettingsDef> {
    read(0, &file.text)
}

/// Reads a file of verify presets.
pub fn read_presets(index: u16, text: &str) -> Read<'_, PresetsDef> {
    read(index, text)
}

table! {
    /// A file of verify presets.
    pub struct PresetsDef "the presets" {
        /// The presets.
        verify "verify": Named<VerifyDef>;
        /// What they are for.
        docs "docs": Prose;
    }
}

fn read<T: Kind + Default>(index: u16, text: &str) -> Read<'_, T> {
    let mut reader = Reader::new(index, text);
    let document = syntax::parse(text, &mut reader);
    let is_toml = reader.findings.is_empty();
    let syntax_lines: BTreeSet<usize> =
        reader.findings.iter().map(|finding| line_of(text, finding.at.start)).collect();
    let document: Node<'_> =
        Spanned::new(document.span(), toml::de::DeValue::Table(document.into_inner()));
    let definition = T::read(&document, &mut reader).unwrap_or_default();
    let mut findings = reader.findings;
    if !is_toml {
        // A broken line reads as a wrong value or a missing key; saying so twice helps nobody.
        findings.retain(|finding| {
            syntax::is_syntax(finding.code)
                || finding.code != crate::diagnostic::codes::MISSING_KEY
                    && !syntax_lines.contains(&line_of(text, finding.at.start))
        });
    }
    let document = match document.into_inner() {
        toml::de::DeValue::Table(table) => Spanned::new(0..0, table),
        _ => Spanned::new(0..0, DeTable::new()),
    };
    Read { definition, findings, is_toml, document }
}

/// Where the line of a place begins.
fn line_of(text: &str, at: u32) -> usize {
    let before = &text.as_bytes()[..text.len().min(at as usize)];
    before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1)
}
