//! `tenon check`: every problem of every connector at once, offline.

use std::path::PathBuf;

use serde_json::json;

use super::{Exit, Outcome, Trouble, render};
use crate::{
    diagnostic::{Code, Diagnostic, Severity, render_human, to_github, to_json},
    engine::files::{FolderSources, connector_files, project_root},
    plan::{CompiledFile, Settings, Sources as _, check_set, compile_file, compile_settings},
    world::{FolderSecrets, Secrets as _},
};

/// The runtime's own file among the connectors.
const SETTINGS: &str = "tenon.toml";

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Rejects what `run` would, the project's tenon.toml too, and reaches no network.\n\
                        Exit code 1: errors (with --deny warnings, warnings too)."
)]
pub struct Args {
    /// Files and folders
    #[arg(default_value = ".")]
    paths: Vec<PathBuf>,
    /// human (as rustc prints), json, or github (annotations of a workflow)
    #[arg(long, value_enum, default_value_t = Format::Human, hide_possible_values = true)]
    format: Format,
    /// Fail on warnings, too
    #[arg(long, value_name = "WHAT")]
    deny: Option<Deny>,
    /// Say what a code means, and nothing else
    #[arg(long, value_name = "CODE")]
    explain: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Human,
    Json,
    Github,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Deny {
    Warnings,
}

pub fn run(args: &Args) -> Outcome {
    if let Some(code) = &args.explain {
        return explain(code);
    }
    let checked = check(&args.paths)?;
    let summary = Summary::of(&checked);
    match args.format {
        Format::Human => {
            render::text(&render_human(&checked.diagnostics, render::stdout_is_styled()))?;
        }
        Format::Json => render::json(&json!({
            "diagnostics": to_json(&checked.diagnostics),
            "summary": {
                "files": summary.files,
                "errors": summary.errors,
                "warnings": summary.warnings,
                "notices": summary.notices,
            },
        }))?,
        Format::Github => render::text(&to_github(&checked.diagnostics))?,
    }
    render::note(&summary.line());
    let is_denied = args.deny == Some(Deny::Warnings) && summary.warnings > 0;
    Ok(if summary.errors > 0 || is_denied { Exit::Findings } else { Exit::Fine })
}

/// What was found in all files.
struct Checked {
    files: usize,
    diagnostics: Vec<Diagnostic>,
}

fn check(paths: &[PathBuf]) -> Result<Checked, Trouble> {
    let root = project_root(paths);
    let sources = FolderSources::new();
    let mut files = connector_files(paths)?;
    // The settings that `run` would find are checked with the connectors, named or not.
    files.retain(|file| !file.ends_with(SETTINGS));
    let settings_file = root.join(SETTINGS);
    let settings_file = settings_file.strip_prefix(".").unwrap_or(&settings_file);
    let has_settings = usize::from(settings_file.is_file());
    let (settings, in_settings) = match sources.read(settings_file) {
        Some(text) => compile_settings(&text),
        None if has_settings == 0 => (Settings::default(), Vec::new()),
        None => return Err(Trouble::new(format!("{} is no text", settings_file.display()))),
    };
    if files.is_empty() && has_settings == 0 {
        return Err(Trouble::new("no connectors here: no *.toml under the given paths"));
    }
    let secrets = FolderSecrets::new(settings.secrets);
    let compiled: Vec<CompiledFile> =
        files.iter().map(|file| compile_file(&root, file, &sources)).collect();
    let across = check_set(&compiled.iter().collect::<Vec<_>>());
    let mut diagnostics: Vec<Diagnostic> = Vec::new();
    let each = compiled.into_iter().flat_map(|file| {
        let unset = file.unset_secrets(Severity::Notice, |name| secrets.get(name).is_some());
        file.diagnostics.into_iter().chain(unset)
    });
    for found in in_settings.into_iter().chain(each).chain(across) {
        // Two instances of one file find its problems twice.
        if !diagnostics.contains(&found) {
            diagnostics.push(found);
        }
    }
    Ok(Checked { files: files.len() + has_settings, diagnostics })
}

struct Summary {
    files: usize,
    errors: usize,
    warnings: usize,
    notices: usize,
}

impl Summary {
    fn of(checked: &Checked) -> Self {
        let count = |wanted| checked.diagnostics.iter().filter(|d| d.severity == wanted).count();
        Self {
            files: checked.files,
            errors: count(Severity::Error),
            warnings: count(Severity::Warning),
            notices: count(Severity::Notice),
        }
    }

    fn line(&self) -> String {
        let found = [(self.errors, "error"), (self.warnings, "warning"), (self.notices, "notice")]
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| render::counted(count as u64, what))
            .collect::<Vec<_>>();
        let found = if found.is_empty() { "no problems".to_owned() } else { found.join(", ") };
        format!("checked {}: {found}", render::counted(self.files as u64, "file"))
    }
}

fn explain(name: &str) -> Outcome {
    let code = Code::find(name)
        .ok_or_else(|| Trouble::new(format!("no code `{name}`; codes look like E0101")))?;
    let info = code.info();
    render::text(&format!("{code}: {}\n\n{}\n", info.title, info.explanation))?;
    Ok(Exit::Fine)
}
