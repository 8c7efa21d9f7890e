//! `tenon diff`: what a change of connectors does, and whether their versions say so.

use std::path::PathBuf;

use super::{Exit, Outcome, Trouble, render, rerun, sides};
use crate::{
    diagnostic::{Diagnostic, Severity},
    plan::{CompiledFile, check_set},
    review::{self, Class, Filed, Reviewed, Side},
};

#[derive(Debug, clap::Args)]
#[command(
    override_usage = "tenon diff [OPTIONS] OLD NEW\n       tenon diff [OPTIONS] --git BASE..HEAD [PATH]...",
    after_help = "OLD and NEW are two files or two folders. With --git, BASE..HEAD are two revisions, BASE...HEAD is what\n\
                        HEAD changed since the two parted (as a pull request shows it), BASE alone is compared with the\n\
                        working tree.\n\
                        The version gate: breaking changes need a new major version, additive ones a minor one, operational\n\
                        ones a patch (before 1.0.0 one place to the right), and a [[change]] of that version.\n\
                        Exit code 1: the gate fails, or a file of the new side does not compile."
)]
pub struct Args {
    /// The two sides; with --git what is compared [default: the working directory]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Compare revisions of git
    #[arg(long, value_name = "BASE..HEAD")]
    git: Option<String>,
    /// human, markdown (a pull request's comment), json, or github (annotations)
    #[arg(long, value_enum, default_value_t = Format::Human, hide_possible_values = true)]
    format: Format,
    /// Only look: let version and changelog be
    #[arg(long)]
    no_gate: bool,
    /// Run both versions over the fixtures and show the records that come out differently
    #[arg(long)]
    fixtures: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Human,
    Markdown,
    Json,
    Github,
}

/// Everything there is to say about two sides.
pub struct Report {
    /// Those that differ, by name.
    pub connectors: Vec<Compared>,
    /// Why files of the new side do not compile, and what is wrong between them.
    pub broken: Vec<Diagnostic>,
    /// The same of the old side: there is nothing to compare with.
    pub broken_before: Vec<Diagnostic>,
    /// Connectors that do the same on both sides.
    pub unchanged: usize,
    /// Whether the version gate was asked.
    pub is_gated: bool,
    /// How many records were run through both sides, if any were asked for.
    pub records: Option<usize>,
}

/// One connector that differs.
pub struct Compared {
    /// What differs.
    pub reviewed: Reviewed,
    /// What the version gate says to it; `None` where it was not asked, or there is nothing to gate.
    pub gate: Option<Vec<Diagnostic>>,
    /// The records that come out differently.
    pub records: Vec<rerun::Difference>,
}

impl Report {
    /// Whether there is anything to say at all.
    pub fn is_empty(&self) -> bool {
        self.connectors.is_empty() && self.broken.is_empty() && self.broken_before.is_empty()
    }

    /// How many changes there are of a class.
    pub fn count(&self, class: Class) -> usize {
        let changes = self.connectors.iter().flat_map(|compared| &compared.reviewed.changes);
        changes.filter(|change| change.class() == class).count()
    }

    /// Everything that fails the gate.
    pub fn gate(&self) -> impl Iterator<Item = &Diagnostic> {
        self.connectors.iter().filter_map(|compared| compared.gate.as_ref()).flatten()
    }

    fn is_fine(&self) -> bool {
        let is_error = |found: &Diagnostic| found.severity == Severity::Error;
        !self.broken.iter().any(is_error) && !self.gate().any(is_error)
    }
}

pub fn run(args: &Args) -> Outcome {
    let (old, new) = match (&args.git, args.paths.as_slice()) {
        (Some(range), paths) => sides::of_git(range, paths)?,
        (None, [old, new]) => sides::of_paths(old, new)?,
        (None, _) => {
            return Err(Trouble::new(
                "say what to compare: tenon diff OLD NEW, or tenon diff --git BASE..HEAD",
            ));
        }
    };
    let report = report(args, &old, &new);
    match args.format {
        Format::Human => {
            render::text(&render::diff_for_people(&report, render::stdout_style()))?;
        }
        Format::Markdown => render::text(&render::diff_as_markdown(&report))?,
        Format::Json => render::json(&render::diff_as_json(&report))?,
        Format::Github => render::text(&render::diff_as_annotations(&report))?,
    }
    Ok(if report.is_fine() { Exit::Fine } else { Exit::Findings })
}

fn report(args: &Args, old: &sides::Loaded, new: &sides::Loaded) -> Report {
    let reviewed = review::review(&old.side, &new.side);
    let (broken_before, broken) = broken(&old.side, &new.side);
    let compiled = new.side.files.iter().filter(|file| file.written.plan.is_some()).count();
    let changed = reviewed.iter().filter(|one| one.files.1.is_some()).count();
    let mut records = args.fixtures.then_some(0);
    let connectors = reviewed
        .into_iter()
        .map(|reviewed| {
            let gate =
                if args.no_gate { None } else { review::gate(&old.side, &new.side, &reviewed) };
            let mut differences = Vec::new();
            if let Some(count) = &mut records {
                let ran = rerun::both(old, new, &reviewed);
                *count += ran.records;
                differences = ran.differences;
            }
            Compared { reviewed, gate, records: differences }
        })
        .collect();
    Report {
        connectors,
        broken,
        broken_before,
        unchanged: compiled - changed,
        is_gated: !args.no_gate,
        records,
    }
}

/// What keeps files from being compared, on the old and on the new side. A file that is as broken as
/// it was is nobody's change.
fn broken(old: &Side, new: &Side) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
    let text = |file: &Filed| file.written.texts.first().map(|file| file.text.clone());
    let is_same = |side: &Side, file: &Filed| {
        side.files.iter().any(|other| {
            other.at == file.at && other.written.plan.is_none() && text(other) == text(file)
        })
    };
    let of = |side: &Side, other: &Side| -> Vec<Diagnostic> {
        let files = side.files.iter().filter(|file| file.written.plan.is_none());
        let files = files.filter(|file| !is_same(other, file));
        let found = files.flat_map(|file| file.written.compiled.diagnostics.clone());
        found.filter(|found| found.severity == Severity::Error).collect()
    };
    let across = |side: &Side| {
        let files: Vec<&CompiledFile> =
            side.files.iter().map(|file| &file.written.compiled).collect();
        check_set(&files)
    };
    let before: Vec<String> = across(old).into_iter().map(|found| found.message).collect();
    let (was, mut is) = (of(old, new), of(new, old));
    is.extend(across(new).into_iter().filter(|found| !before.contains(&found.message)));
    (was, is)
}
