//! CONTRACT (signatures to be kept, bodies and files to be written): definitions → plans.

use std::{path::{Path, PathBuf}, sync::Arc};

use crate::{diagnostic::{Diagnostic, SourceFile}, plan::{ConnectorPlan, Settings}};

/// Reads files for the compiler; the compiler itself does no I/O. `path` is as resolved by the
/// compiler: relative to the folder of the file that names it, then to the project root (the
/// folder given to `tenon`), then among the built-in ones (`integrations/verify/*.toml`, `schemas/*.json`).
pub trait Sources {
    fn read(&self, path: &Path) -> Option<Arc<SourceFile>>;
}

/// What became of one connector file.
#[derive(Clone, Debug)]
pub struct CompiledFile {
    pub path: PathBuf,
    /// The connector's name where it could be read, even if the file does not compile: a bad file keeps its predecessor.
    pub name: Option<Arc<str>>,
    /// Where `name` stands, for cross-file messages.
    pub name_span: Option<crate::diagnostic::Span>,
    /// `None` where there are errors, and for a shipped connector without destination (runs only through `use`).
    pub plan: Option<Arc<ConnectorPlan>>,
    pub diagnostics: Vec<Diagnostic>,
    /// Every file read for it, itself first: when one of them changes it must be compiled again.
    pub inputs: Vec<PathBuf>,
}

/// Compiles one connector file. Never panics, whatever the text.
pub fn compile_file(_root: &Path, _path: &Path, _sources: &dyn Sources) -> CompiledFile { unimplemented!() }

/// What only shows across files: two connectors of one name, two connectors that claim one webhook path.
pub fn check_set(_files: &[&CompiledFile]) -> Vec<Diagnostic> { unimplemented!() }

/// `tenon.toml`.
pub fn compile_settings(_file: &Arc<SourceFile>) -> (Settings, Vec<Diagnostic>) { unimplemented!() }
