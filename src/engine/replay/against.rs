//! Another version of a connector, to compare with: its files as they were, compiled here.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    diagnostic::SourceFile,
    plan::{ConnectorPlan, Sources, read},
};

/// The files of a version of a connector, as far as compiling it reads them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Against {
    /// What it is, for a person: a path, a revision.
    pub what: String,
    /// The project's folder, as paths count from it.
    pub root: PathBuf,
    /// The connector's file.
    pub file: PathBuf,
    /// Text by path: that file, and what it is made with.
    pub files: BTreeMap<PathBuf, String>,
}

struct Given<'a>(&'a BTreeMap<PathBuf, String>);

impl Sources for Given<'_> {
    fn read(&self, path: &Path) -> Option<Arc<SourceFile>> {
        let text = self.0.get(path)?.clone();
        Some(Arc::new(SourceFile { path: path.to_owned(), text }))
    }
}

impl Against {
    /// Its plan; for a person where it gives none.
    pub(super) fn plan(&self) -> Result<ConnectorPlan, String> {
        let written = read(&self.root, &self.file, &Given(&self.files));
        written.plan.map(Arc::unwrap_or_clone).ok_or_else(|| {
            let what = &self.what;
            format!("{what}: {} does not compile: see `tenon check`", self.file.display())
        })
    }
}
