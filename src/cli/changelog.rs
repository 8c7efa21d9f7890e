//! `tenon changelog`: what `[[change]]` says, newest first.

use std::path::PathBuf;

use super::{Exit, Outcome, render, subjects::Subjects};
use crate::document;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Markdown in the style of Keep a Changelog. An instance shows its own entries and those of the\n\
                        connector that it uses."
)]
pub struct Args {
    /// Connector files and folders
    #[arg(default_value = ".")]
    paths: Vec<PathBuf>,
    /// Only what is newer than this version
    #[arg(long, value_name = "VERSION", value_parser = version)]
    since: Option<String>,
}

fn version(text: &str) -> Result<String, String> {
    let core = text.split(['-', '+']).next().unwrap_or_default();
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if core.split('.').count() == 3 && core.split('.').all(is_number) {
        return Ok(text.to_owned());
    }
    Err("expected three numbers with dots, such as 2.1.0".to_owned())
}

pub fn run(args: &Args) -> Outcome {
    let subjects = Subjects::read(&args.paths)?;
    let Some(subjects) = subjects.compiled()? else { return Ok(Exit::Findings) };
    let blocks = document::changelog_of_all(&subjects, args.since.as_deref());
    if blocks.is_empty() {
        let newer = args.since.as_ref().map(|since| format!(" newer than {since}"));
        render::note(&format!("no [[change]]{}", newer.unwrap_or_default()));
    }
    render::text(&document::markdown(&blocks))?;
    Ok(Exit::Fine)
}
