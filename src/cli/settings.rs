//! The runtime's settings as the verbs find them: defaults, then tenon.toml.

use std::path::{Path, PathBuf};

use super::{Trouble, render};
use crate::{
    diagnostic::{Severity, render_human},
    engine::files::{FolderSources, project_root},
    plan::{Settings, Sources as _, compile_settings},
};

/// What was read, and from where; no file means all defaults.
pub struct Found {
    pub settings: Settings,
    pub file: Option<PathBuf>,
}

/// Reads `config`, or the project's tenon.toml where there is one. Its problems go to stderr;
/// errors among them end the verb.
pub fn find(paths: &[PathBuf], config: Option<&Path>) -> Result<Found, Trouble> {
    let beside = project_root(paths).join("tenon.toml");
    let file = config.map(Path::to_owned).or_else(|| beside.is_file().then_some(beside));
    let settings = match &file {
        Some(file) => read(file)?,
        None => Settings::default(),
    };
    Ok(Found { settings, file })
}

fn read(file: &Path) -> Result<Settings, Trouble> {
    let sources = FolderSources::new();
    let text = sources.read(file).ok_or_else(|| {
        Trouble::new(format!("{}: no such file, or not UTF-8 text", file.display()))
    })?;
    let (settings, diagnostics) = compile_settings(&text);
    if !diagnostics.is_empty() {
        render::note(render_human(&diagnostics, render::stderr_is_styled()).trim_end());
    }
    if diagnostics.iter().any(|found| found.severity == Severity::Error) {
        return Err(Trouble::new(format!("{} has errors", file.display())));
    }
    Ok(settings)
}
