//! From definitions to plans: names are looked up, expressions compiled, defaults filled in,
//! contradictions found. All problems of a file are reported at once, and a file with an error has
//! no plan: a plan cannot fail for the file's reasons any more.
//!
//! Pure but for [`Sources`], through which the files that a connector names are read.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    ConnectorPlan,
    lint::{Levels, Subject, literal_secrets},
};
use crate::{
    definition::{self, connector::ConnectorDef, rollout::ModeDef, table::Given},
    diagnostic::{Diagnostic, Severity, SourceFile, Span, codes},
    world::Secret,
};

mod auth;
mod batch;
mod connector;
mod context;
mod cursor;
mod decode;
mod destination;
mod detail;
mod each;
mod events;
mod fixed;
mod hash;
mod job;
mod library;
mod on;
mod page;
mod poll;
mod reconcile;
mod rollout;
mod schedule;
mod schema;
mod set;
mod settings;
mod sites;
mod test;
mod up;
mod url;
mod variants;
mod vars;
mod verdict;
mod verify;
mod webhook;

pub(super) use context::within;
pub use schema::schema_document;
pub use set::check_set;
pub use settings::compile_settings;
pub use test::moment;
pub use verify::verify_preset;

use context::Context;

/// Reads files for the compiler; the compiler itself does no I/O.
///
/// `path` is as resolved by the compiler: relative to the folder of the file that names it, then to
/// the project root (the folder given to `tenon`). What is built in is known without reading.
pub trait Sources {
    /// The file's text, or `None` where there is no such file.
    fn read(&self, path: &Path) -> Option<Arc<SourceFile>>;

    /// Whether there is such a file, whatever is in it.
    fn exists(&self, path: &Path) -> bool {
        self.read(path).is_some()
    }
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
    /// The connector whose events it gets, and where that is named.
    pub variant_of: Option<(Arc<str>, Span)>,
    /// Whether it is meant to be a variant, also where the file does not compile: it claims no path.
    pub is_variant: bool,
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

/// A connector file as it was written, and what became of it: for tools that show a plan's lines.
/// The engine keeps none of this.
#[derive(Debug)]
pub struct Written {
    /// The file that was named.
    pub own: ConnectorDef,
    /// The file that it is an instance of, where it has a `use` that leads somewhere.
    pub base: Option<ConnectorDef>,
    /// The texts that [`Loc::file`](definition::table::Loc) counts: the file's own, then its base's,
    /// with literal secrets made unreadable.
    pub texts: Vec<Arc<SourceFile>>,
    /// The plan, also of a connector that runs only through `use`: there `vars` lacks those without
    /// a value, and a stream may lack `to` and `schedule`. It is to be looked at, never run.
    pub plan: Option<Arc<ConnectorPlan>>,
    /// What the engine gets.
    pub compiled: CompiledFile,
    /// Literal secrets of the texts, for whoever shows what was compiled from them.
    pub hidden: Vec<Secret>,
}

impl Written {
    /// The definition with the streams: the base's, or the file's own.
    pub fn body(&self) -> &ConnectorDef {
        self.base.as_ref().unwrap_or(&self.own)
    }

    /// A place of the definitions, with its text.
    pub fn span(&self, at: definition::table::Loc) -> Option<Span> {
        let file = Arc::clone(self.texts.get(usize::from(at.file))?);
        Some(Span { file, range: at.start as usize..at.end as usize })
    }
}

/// Compiles one connector file. Never panics, whatever the text.
///
/// `root` is the project's folder, where `schemas/` and files named by `use` are looked for.
pub fn compile_file(root: &Path, path: &Path, sources: &dyn Sources) -> CompiledFile {
    read(root, path, sources).compiled
}

/// As [`compile_file`], in a project that says how much each lint matters. A lint that is denied is
/// an error like any other: the file has no plan.
pub fn compile_file_with(
    root: &Path,
    path: &Path,
    sources: &dyn Sources,
    lints: &Levels,
) -> CompiledFile {
    read_with(root, path, sources, lints).compiled
}

/// As [`compile_file`], and keeps what was written.
pub fn read(root: &Path, path: &Path, sources: &dyn Sources) -> Written {
    read_with(root, path, sources, &Levels::default())
}

fn read_with(root: &Path, path: &Path, sources: &dyn Sources, lints: &Levels) -> Written {
    let mut context = Context::new(root, sources);
    let Some(text) = context.open(path) else { return unreadable(path) };
    let mut own = definition::read_connector(0, &text);
    context.levels = own.definition.lints.value().map_or(*lints, |table| lints.over(table));
    context.report_all(std::mem::take(&mut own.findings));
    let name = own.definition.name.get().cloned();

    let base_text = context.open_base(path, &own.definition);
    let base = base_text.as_deref().map(|file| definition::read_connector(1, file));
    let mut compiled = None;
    if let Some(base) = &base {
        context.report_all(base.findings.clone());
    }
    if own.is_toml && base.as_ref().is_none_or(|base| base.is_toml) {
        context.hash.document(own.document.get_ref());
        if let Some(base) = &base {
            context.hash.document(base.document.get_ref());
        }
        let base = base.as_ref().map(|base| &base.definition);
        compiled = connector::compile(&mut context, path, &own.definition, base);
    }
    let hidden = lint(&mut context, (&own, &text), base.as_ref().zip(base_text.as_deref()));
    let compiled = compiled.filter(|_| !context.has_errors());
    let is_complete = compiled.as_ref().is_some_and(|compiled| compiled.is_complete);
    let plan = compiled.map(|compiled| Arc::new(compiled.plan));
    let runs = plan.clone().filter(|_| is_complete);
    let texts = context.shown();
    let rollout =
        own.definition.rollout.or(base.as_ref().map_or(&Given::Absent, |b| &b.definition.rollout));
    let of = rollout.value().and_then(|rollout| rollout.of.get());
    let mode = rollout.value().and_then(|rollout| rollout.mode.value());
    let is_variant = of.is_some() || matches!(mode, Some(ModeDef::Shadow | ModeDef::Canary));
    let variant_of = of.map(|of| (Arc::from(of.value.0.as_str()), context.span(of.at)));
    Written {
        compiled: CompiledFile { variant_of, is_variant, ..context.finish(path, name, runs) },
        plan,
        own: own.definition,
        base: base.map(|base| base.definition),
        texts,
        hidden,
    }
}

/// A definition, and the text that it was read from.
type Read<'r, 't> = (&'r definition::Read<'t, ConnectorDef>, &'r SourceFile);

/// What the lints say, and literal secrets out of sight, an instance's base's too. Returns those.
fn lint<'t>(
    context: &mut Context<'_>,
    own: Read<'_, 't>,
    base: Option<Read<'_, 't>>,
) -> Vec<Secret> {
    let is_broken = context.has_errors();
    let mut hidden = Vec::new();
    for (index, (read, file)) in [Some(own), base].into_iter().flatten().enumerate() {
        let secrets = literal_secrets(&read.definition, &file.text, index as u16);
        for secret in &secrets {
            let text = file.text.get(secret.at.start as usize..secret.at.end as usize);
            hidden.extend(text.map(|text| Secret::new(text.trim_matches(['"', '\'']))));
            context.hide(secret.at);
        }
        context.report_all(secrets.into_iter().filter(|_| index == 0));
    }
    if !is_broken {
        context.report_all(super::lint::all(&Subject {
            own: &own.0.definition,
            base: base.map(|base| &base.0.definition),
            document: own.0.document.get_ref(),
        }));
    }
    hidden
}

fn unreadable(path: &Path) -> Written {
    let file = Arc::new(SourceFile { path: path.to_owned(), text: String::new() });
    let diagnostic = Diagnostic::new(
        codes::UNREADABLE,
        Span { file: Arc::clone(&file), range: 0..0 },
        format!("`{}` cannot be read", path.display()),
        "",
    )
    .help("a connector is a file of UTF-8 text that the user who runs tenon may read");
    let compiled = CompiledFile {
        path: path.to_owned(),
        name: None,
        name_span: None,
        plan: None,
        diagnostics: vec![diagnostic],
        inputs: vec![path.to_owned()],
        secrets: Vec::new(),
        routes: Vec::new(),
        variant_of: None,
        is_variant: false,
    };
    Written {
        own: ConnectorDef::default(),
        base: None,
        texts: vec![file],
        plan: None,
        compiled,
        hidden: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
