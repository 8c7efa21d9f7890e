//! From definitions to plans: names are looked up, expressions compiled, defaults filled in,
//! contradictions found. All problems of a file are reported at once, and a file with an error has
//! no plan: a plan cannot fail for the file's reasons any more.
//!
//! Pure but for [`Sources`], through which the files that a connector names are read.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::ConnectorPlan;
use crate::{
    definition,
    diagnostic::{Diagnostic, Severity, SourceFile, Span, codes},
};

mod auth;
mod connector;
mod context;
mod cursor;
mod destination;
mod events;
mod hash;
mod library;
mod page;
mod poll;
mod schedule;
mod schema;
mod set;
mod settings;
mod sites;
mod url;
mod vars;
mod verify;
mod webhook;

pub use set::check_set;
pub use settings::compile_settings;

use context::Context;

/// Reads files for the compiler; the compiler itself does no I/O.
///
/// `path` is as resolved by the compiler: relative to the folder of the file that names it, then to
/// the project root (the folder given to `tenon`). What is built in is known without reading.
pub trait Sources {
    /// The file's text, or `None` where there is no such file.
    fn read(&self, path: &Path) -> Option<Arc<SourceFile>>;
}

/// What became of one connector file.
///
/// It keeps the text of the files it was compiled from alive through its spans; the plan does not.
#[derive(Clone, Debug)]
pub struct CompiledFile {
    /// The file, as it was named.
    pub path: PathBuf,
    /// The connector's name where it could be read, even if the file does not compile: a bad file
    /// keeps its predecessor.
    pub name: Option<Arc<str>>,
    /// Where `name` stands, for cross-file messages.
    pub name_span: Option<Span>,
    /// `None` where there are errors, and for a connector that runs only through `use`.
    pub plan: Option<Arc<ConnectorPlan>>,
    /// What is wrong or worth knowing, by place.
    pub diagnostics: Vec<Diagnostic>,
    /// Every file read for it, itself first, and those that were looked for in vain: when one of
    /// them changes or appears it must be compiled again.
    pub inputs: Vec<PathBuf>,
    /// Every secret it needs, by the name that is looked up, and where it is named first. See
    /// [`CompiledFile::unset_secrets`].
    pub secrets: Vec<(String, Span)>,
    /// The paths of its webhooks, and where each stands.
    pub routes: Vec<(String, Span)>,
}

impl CompiledFile {
    /// A finding for each secret that `is_set` does not know: a notice for `check`, which runs on
    /// a machine that need not have them, an error for `run`.
    pub fn unset_secrets(
        &self,
        severity: Severity,
        is_set: impl Fn(&str) -> bool,
    ) -> Vec<Diagnostic> {
        let unset = self.secrets.iter().filter(|(name, _)| !is_set(name));
        unset
            .map(|(name, span)| {
                let mut diagnostic = Diagnostic::new(
                    codes::UNSET_SECRET,
                    span.clone(),
                    format!("secret `{name}` is not set"),
                    "needed here",
                )
                .help(format!(
                    "set the environment variable {name}, or put a file of that name into the \
                     folder that `secrets` in tenon.toml names"
                ));
                diagnostic.severity = severity;
                diagnostic
            })
            .collect()
    }
}

/// Compiles one connector file. Never panics, whatever the text.
///
/// `root` is the project's folder, where `schemas/` and files named by `use` are looked for.
pub fn compile_file(root: &Path, path: &Path, sources: &dyn Sources) -> CompiledFile {
    let mut context = Context::new(root, sources);
    let Some(own) = context.open(path) else { return unreadable(path) };
    let read = definition::read_connector(0, &own);
    context.report_all(read.findings);
    let name = read.definition.name.get().cloned();

    let base_file = context.open_base(path, &read.definition);
    let base = base_file.as_deref().map(|file| definition::read_connector(1, file));
    let mut plan = None;
    if let Some(base) = &base {
        context.report_all(base.findings.clone());
    }
    if read.is_toml && base.as_ref().is_none_or(|base| base.is_toml) {
        context.hash.document(read.document.get_ref());
        if let Some(base) = &base {
            context.hash.document(base.document.get_ref());
        }
        let base = base.as_ref().map(|base| &base.definition);
        plan = connector::compile(&mut context, path, &read.definition, base);
    }
    context.finish(path, name, plan)
}

fn unreadable(path: &Path) -> CompiledFile {
    let file = Arc::new(SourceFile { path: path.to_owned(), text: String::new() });
    let diagnostic = Diagnostic::new(
        codes::UNREADABLE,
        Span { file, range: 0..0 },
        format!("`{}` cannot be read", path.display()),
        "",
    )
    .help("a connector is a file of UTF-8 text that the user who runs tenon may read");
    CompiledFile {
        path: path.to_owned(),
        name: None,
        name_span: None,
        plan: None,
        diagnostics: vec![diagnostic],
        inputs: vec![path.to_owned()],
        secrets: Vec::new(),
        routes: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
