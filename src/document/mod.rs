//! Documents made from what runs: a page a connector, changelogs, runbooks. They are made from the
//! same plans and definitions that the engine and the compiler use, so they cannot drift, and they are
//! the same for the same files, wherever and whenever they are made.
//!
//! No document holds a secret: of credentials it says the names, of settings that may be credentials
//! written out it says that there is one. Texts of connectors are escaped where a format is written
//! (`markdown.rs`, `html.rs`, `flow.rs`), nowhere else.

mod block;
mod change;
mod connector;
mod delivery;
mod events;
mod fields;
mod flow;
mod html;
mod markdown;
mod picture;
mod runbook;
mod schema;
mod shown;
mod words;

use serde_json::Value;

use crate::{
    definition::table::Loc,
    model::Model,
    plan::{ConnectorPlan, Written},
};

pub use block::{Block, Line, Piece, Table};
pub use change::{changelog, changelog_of_all};
pub use connector::{index, page, words_of};
pub use flow::{Flow, Lane, Stop};
pub use html::{Article, html};
pub use markdown::markdown;
pub use picture::picture;
pub use runbook::{Retention, runbook};
pub use schema::model;

/// A connector that a document is about.
#[derive(Debug)]
pub struct Subject<'a> {
    /// As it was written.
    pub written: &'a Written,
    /// What became of it.
    pub plan: &'a ConnectorPlan,
    /// The names of the files that were written, as documents show them, in the order of their texts.
    pub files: Vec<String>,
    /// The schemas that its streams name, by name.
    pub schemas: Vec<(String, Value)>,
}

impl Subject<'_> {
    /// A place of the definitions: `shop.toml:57`.
    fn place(&self, at: Loc) -> String {
        let file = self.files.get(usize::from(at.file)).map_or("", String::as_str);
        let line = self.written.span(at).map_or(0, |span| span.start().0);
        format!("{file}:{line}")
    }

    /// The model of a stream.
    fn model(&self, name: &str) -> Option<Model> {
        let (_, document) = self.schemas.iter().find(|(known, _)| known == name)?;
        Some(Model::new(name, document))
    }

    /// The name that a secret is looked up by.
    fn looked_up<'n>(&'n self, name: &'n str) -> &'n str {
        self.plan.secret_names.get(name).map_or(name, String::as_str)
    }

    /// Whether the connector lacks what only an instance gives.
    fn needs_instance(&self) -> bool {
        self.written.compiled.plan.is_none()
    }
}
