//! `tenon check`: every problem of every connector at once, offline.

use std::{collections::HashSet, ops::Range, path::PathBuf};

use serde_json::json;

use super::{Exit, Outcome, Trouble, render};
use crate::{
    definition::lints::LINTS,
    diagnostic::{
        CODES, Code, Diagnostic, Severity, codes, nearest, render_human, to_github, to_json,
        to_sarif,
    },
    engine::files::{FolderSources, connector_files, project_root},
    plan::{CompiledFile, Settings, Sources as _, check_set, compile_file_with, compile_settings},
    world::{FolderSecrets, Secrets as _},
};

/// The runtime's own file among the connectors.
const SETTINGS: &str = "tenon.toml";

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Rejects what `run` would, the project's tenon.toml too, and reaches no network.\n\
                        Lints say what is valid and deserves a second look: [lints], in a connector or in tenon.toml,\n\
                        sets each to allow, note, warn or deny. A denied one is an error, for `run`, too.\n\
                        Exit code 1: errors (with --deny warnings, warnings too)."
)]
pub struct Args {
    /// Files and folders
    #[arg(default_value = ".")]
    paths: Vec<PathBuf>,
    /// human (as rustc prints), json, github (annotations), or sarif (code scanning)
    #[arg(long, value_enum, default_value_t = Format::Human, hide_possible_values = true)]
    format: Format,
    /// Fail on warnings, too
    #[arg(long, value_name = "WHAT")]
    deny: Option<Deny>,
    /// Show the page of a code or a lint, and do nothing else
    #[arg(long, value_name = "CODE")]
    explain: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Human,
    Json,
    Github,
    Sarif,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Deny {
    Warnings,
}

pub fn run(args: &Args) -> Outcome {
    if let Some(code) = &args.explain {
        return explain(code);
    }
    let mut checked = check(args)?;
    if matches!(args.format, Format::Github | Format::Sarif) {
        // What this machine lacks is no finding about a line of the repository.
        checked.diagnostics.retain(|found| found.code != codes::UNSET_SECRET);
    }
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
        Format::Sarif => {
            render::json(&to_sarif(&checked.diagnostics, &std::env::current_dir()?))?;
        }
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

fn check(args: &Args) -> Result<Checked, Trouble> {
    let root = project_root(&args.paths);
    let sources = FolderSources::new();
    let mut files = connector_files(&args.paths)?;
    // The settings that `run` would find are checked with the connectors, named or not.
    files.retain(|file| !file.ends_with(SETTINGS));
    let settings_file = root.join(SETTINGS);
    let settings_file = settings_file.strip_prefix(".").unwrap_or(&settings_file);
    let has_settings = settings_file.is_file();
    let (settings, in_settings) = match sources.read(settings_file) {
        Some(text) => compile_settings(&text),
        None if !has_settings => (Settings::default(), Vec::new()),
        None => return Err(Trouble::new(format!("{} is no text", settings_file.display()))),
    };
    if files.is_empty() && !has_settings {
        return Err(Trouble::new("no connectors here: no *.toml under the given paths"));
    }
    let compile = |file: &PathBuf| compile_file_with(&root, file, &sources, &settings.lints);
    let compiled: Vec<CompiledFile> = files.iter().map(compile).collect();
    let across = check_set(&compiled.iter().collect::<Vec<_>>());
    let secrets = FolderSecrets::new(settings.secrets);
    let each = compiled.into_iter().flat_map(|file| {
        let unset = file.unset_secrets(Severity::Notice, |name| secrets.get(name).is_some());
        file.diagnostics.into_iter().chain(unset)
    });
    let mut seen = HashSet::new();
    let diagnostics = in_settings
        .into_iter()
        .chain(each)
        .chain(across)
        // Two instances of one file find its problems twice.
        .filter(|found| seen.insert(Finding::of(found)))
        .collect();
    Ok(Checked { files: files.len() + usize::from(has_settings), diagnostics })
}

/// What makes a finding the same as another.
#[derive(PartialEq, Eq, Hash)]
struct Finding(Code, PathBuf, Range<usize>, String);

impl Finding {
    fn of(found: &Diagnostic) -> Self {
        let path = found.span.file.path.clone();
        Self(found.code, path, found.span.range.clone(), found.message.clone())
    }
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

/// The page of a code, or of a lint's code.
fn explain(name: &str) -> Outcome {
    let lint = LINTS.iter().find(|lint| lint.name == name).map(|lint| lint.code);
    let Some(code) = Code::find(name).or(lint) else {
        let names = CODES.iter().map(|info| info.code.0).chain(LINTS.iter().map(|lint| lint.name));
        let hint = match nearest(name, names) {
            Some(near) => format!("did you mean {near}?"),
            None => "codes look like E0103, lints like unused_map".to_owned(),
        };
        return Err(Trouble::new(format!("no code `{name}`; {hint}")));
    };
    render::text(&render::page(code.info().page, render::stdout_style()))?;
    Ok(Exit::Fine)
}
