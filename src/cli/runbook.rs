//! `tenon runbook`: what to do when a connector is in trouble, with its own names.

use std::path::{Path, PathBuf};

use super::{Exit, Outcome, Trouble, render, subjects::Subjects};
use crate::{
    diagnostic::Severity,
    document::{self, Retention},
    engine::files::FolderSources,
    plan::{Settings, Sources as _, compile_settings},
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "How long events and dead letters are kept is read from the project's tenon.toml, or is the default.\n\
                        Every command in it can be pasted."
)]
pub struct Args {
    /// Connector files and folders
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

pub fn run(args: &Args) -> Outcome {
    let subjects = Subjects::read(&args.paths)?;
    let kept = retention(subjects.root())?;
    let Some(subjects) = subjects.compiled()? else { return Ok(Exit::Findings) };
    let runbooks: Vec<String> = subjects
        .iter()
        .map(|subject| document::markdown(&document::runbook(subject, kept)))
        .collect();
    render::text(&runbooks.join("\n"))?;
    Ok(Exit::Fine)
}

/// How long the daemon keeps things, as the project's settings say.
fn retention(root: &Path) -> Result<Retention, Trouble> {
    let path = root.join("tenon.toml");
    let settings = match FolderSources::new().read(&path) {
        None => Settings::default(),
        Some(text) => {
            let (settings, found) = compile_settings(&text);
            if found.iter().any(|found| found.severity == Severity::Error) {
                let path = path.display();
                return Err(Trouble::new(format!("{path} does not compile: see `tenon check`")));
            }
            settings
        }
    };
    Ok(Retention { history: settings.bus.history, dead_letters: settings.bus.dead_letters })
}
