//! The house order: how a connector file is best written. Pure: text in, text out.
//!
//! Keys and tables stand in the order in which `table!` declares them; names of the author's choice
//! keep his order. A comment stays with the key or table that it stands at, a list with comments inside
//! stays as it is written. What the file means never changes, and formatting twice is formatting once.

mod diff;
mod gather;
mod order;
mod print;
mod value;

pub use diff::unified;

use super::{
    connector::ConnectorDef,
    settings::SettingsDef,
    table::{Shape, Table},
};

/// What a file is, and so which keys it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A connector, an instance, or a file of verify presets.
    Connector,
    /// `tenon.toml`.
    Settings,
}

impl FileKind {
    const CONNECTOR: Table = ConnectorDef::TABLE;
    const SETTINGS: Table = SettingsDef::TABLE;

    fn shape(self) -> Shape {
        match self {
            Self::Connector => Shape::Table(&Self::CONNECTOR),
            Self::Settings => Shape::Table(&Self::SETTINGS),
        }
    }
}

/// Why there is no formatted text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unformatted {
    /// It is no TOML; the compiler says where.
    NotToml,
    /// The formatted text would mean something else. A fault of the formatter, so nothing is changed.
    WouldChange,
}

/// An inline table that becomes a table of its own has a place among the others only then, so a
/// text may take a second pass; each settles what the one before it brought to light.
const MOST_PASSES: usize = 8;

/// The text in house order. Formatting it again changes nothing.
pub fn format(text: &str, kind: FileKind) -> Result<String, Unformatted> {
    let mut settled = pass(text, kind)?;
    for _ in 1..MOST_PASSES {
        let again = pass(&settled, kind)?;
        if again == settled {
            break;
        }
        settled = again;
    }
    Ok(settled)
}

fn pass(text: &str, kind: FileKind) -> Result<String, Unformatted> {
    let (mark, body) = match text.strip_prefix('\u{feff}') {
        Some(body) => ("\u{feff}", body),
        None => ("", text),
    };
    let document = toml_edit::Document::parse(body).map_err(|_| Unformatted::NotToml)?;
    let file = gather::gather(&document, kind.shape());
    let mut made = print::print(&file);
    if body.split('\n').next().is_some_and(|line| line.ends_with('\r')) {
        made = made.replace("\r\n", "\n").replace('\n', "\r\n");
    }
    if !means_the_same(body, &made) {
        return Err(Unformatted::WouldChange);
    }
    Ok(format!("{mark}{made}"))
}

fn means_the_same(before: &str, after: &str) -> bool {
    let (before, after) = (toml::from_str::<toml::Table>(before), toml::from_str(after));
    match (before, after) {
        // Not a number is not even equal to itself, but prints as itself.
        (Ok(before), Ok(after)) => {
            let after: toml::Table = after;
            before == after || format!("{before:?}") == format!("{after:?}")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
