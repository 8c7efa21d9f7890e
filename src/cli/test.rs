//! `tenon test`: the tests in the connector files, run.

use std::path::PathBuf;

use super::{Exit, Outcome, Trouble, record, render};
use crate::{
    engine::files::{FolderSources, connector_files, project_root},
    testing::{self, Report, Selection},
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Runs the [[test]] tables: the whole pipeline in memory, with a scripted clock and scripted\n\
                        peers. No network, no secrets, nothing written but with --update and --record. Exit code 1:\n\
                        a test failed, or a file has errors."
)]
pub struct Args {
    /// Files and folders
    #[arg(default_value = ".")]
    paths: Vec<PathBuf>,
    /// Only tests whose name or connector holds this text
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// human, json, or junit (XML, for build servers)
    #[arg(long, value_enum, default_value_t = Format::Human, hide_possible_values = true)]
    format: Format,
    /// Write what came as what is expected, into the files
    #[arg(long)]
    update: bool,
    /// Run so many at once [default: as many as there are processors]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    jobs: usize,
    #[command(flatten)]
    record: record::RecordArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Human,
    Json,
    Junit,
}

pub fn run(args: &Args) -> Outcome {
    if args.record.record {
        return record::run(&args.record, &args.paths);
    }
    let root = project_root(&args.paths);
    let files = connector_files(&args.paths)?;
    if files.is_empty() {
        return Err(Trouble::new("no connectors here: no *.toml under the given paths"));
    }
    let selection = Selection { filter: args.filter.clone(), jobs: args.jobs };
    let report = testing::run(&root, &files, &FolderSources::new(), &selection);
    if args.update {
        return update(&report);
    }
    match args.format {
        Format::Human => render::text(&testing::human(&report, render::stdout_is_styled()))?,
        Format::Json => render::json(&testing::json(&report))?,
        Format::Junit => render::text(&testing::junit(&report))?,
    }
    render::note(&summary(&report));
    Ok(if report.is_fine() { Exit::Fine } else { Exit::Findings })
}

/// Rewrites wrong expectations. What no expectation can be blamed for is shown as ever.
fn update(report: &Report) -> Outcome {
    let update = testing::update(report, &FolderSources::new());
    for (path, text) in &update.files {
        std::fs::write(path, text)
            .map_err(|error| Trouble::new(format!("{}: {error}", path.display())))?;
        render::note(&format!("updated {}", path.display()));
    }
    if update.left > 0 {
        render::text(&testing::human(report, render::stdout_is_styled()))?;
    }
    let mut line = format!("{} rewritten", render::counted(update.rewritten as u64, "expectation"));
    if update.left > 0 {
        let left = render::counted(update.left as u64, "failure");
        line.push_str(&format!("; {left} left, which no expectation can mend"));
    }
    render::note(&line);
    let is_fine = update.left == 0 && (report.is_fine() || report.diagnostics.is_empty());
    Ok(if is_fine { Exit::Fine } else { Exit::Findings })
}

/// "5 tests: 4 passed, 1 failed; 2 left out; 1 file without tests"
fn summary(report: &Report) -> String {
    let total = report.tests.len() as u64;
    let mut line = format!("{}: {} passed", render::counted(total, "test"), report.passed());
    if report.failed() > 0 {
        line.push_str(&format!(", {} failed", report.failed()));
    }
    if report.left_out > 0 {
        line.push_str(&format!("; {} left out", report.left_out));
    }
    if report.without_tests > 0 {
        let files = render::counted(report.without_tests as u64, "file");
        line.push_str(&format!("; {files} without tests"));
    }
    line
}
