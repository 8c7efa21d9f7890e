//! The connectors that a document is about: read, compiled, with the schemas that they name.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Trouble, render};
use crate::{
    diagnostic::{Diagnostic, Severity, render_human},
    document::Subject,
    engine::files::{FolderSources, connector_files, project_root},
    plan::{Written, read, schema_document},
};

/// Connectors as they were written.
pub struct Subjects {
    root: PathBuf,
    sources: FolderSources,
    written: Vec<Written>,
}

impl Subjects {
    /// Reads every connector under `paths`. An error is a path that does not exist, or no connector.
    pub fn read(paths: &[PathBuf]) -> Result<Self, Trouble> {
        let root = project_root(paths);
        let sources = FolderSources::new();
        let files = connector_files(paths)?;
        if files.is_empty() {
            return Err(Trouble::new("no connectors here: no *.toml under the given paths"));
        }
        let written = files.iter().map(|file| read(&root, file, &sources)).collect();
        Ok(Self { root, sources, written })
    }

    /// The project's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What the documents are about, by name. `None` where a connector does not compile; what is
    /// wrong has been printed.
    pub fn compiled(&self) -> Result<Option<Vec<Subject<'_>>>, Trouble> {
        let mut errors: Vec<Diagnostic> = Vec::new();
        for found in self.written.iter().flat_map(|written| &written.compiled.diagnostics) {
            // Instances of one file find its problems again.
            if found.severity == Severity::Error && !errors.contains(found) {
                errors.push(found.clone());
            }
        }
        if !errors.is_empty() {
            render::note(render_human(&errors, render::stderr_is_styled()).trim_end());
            return Ok(None);
        }
        let mut subjects: Vec<Subject<'_>> =
            self.written.iter().filter_map(|written| self.subject(written)).collect();
        subjects.sort_by(|one, other| one.plan.name.cmp(&other.plan.name));
        if let Some(pair) = subjects.windows(2).find(|pair| pair[0].plan.name == pair[1].plan.name)
        {
            let (name, one, other) = (&pair[0].plan.name, &pair[0].files[0], &pair[1].files[0]);
            return Err(Trouble::new(format!(
                "two connectors are called `{name}`: {one} and {other}"
            )));
        }
        Ok(Some(subjects))
    }

    fn subject<'s>(&'s self, written: &'s Written) -> Option<Subject<'s>> {
        let plan = written.plan.as_deref()?;
        let shown =
            |path: &Path| path.strip_prefix(&self.root).unwrap_or(path).display().to_string();
        let files = written.texts.iter().map(|text| shown(&text.path)).collect();
        let mut schemas: Vec<(String, Value)> = Vec::new();
        for schema in plan.streams.iter().filter_map(|stream| stream.schema.as_ref()) {
            if !schemas.iter().any(|(known, _)| known == schema.name())
                && let Some(document) = schema_document(&self.root, schema.name(), &self.sources)
            {
                schemas.push((schema.name().to_owned(), document));
            }
        }
        Some(Subject { written, plan, files, schemas })
    }
}
