//! `tenon doctor`: is the state folder whole?

use std::path::PathBuf;

use super::{Exit, Outcome, Trouble, render};
use crate::bus::embedded::doctor::{repair, verify};

#[derive(Debug, clap::Args)]
#[command(after_help = "Reads every record of the journals. Needs the folder to itself: stop the \
                        daemon first.\n\
                        Exit code 1: something is wrong (and --repair was not given).")]
pub struct Args {
    /// The state folder
    #[arg(value_name = "STATE")]
    state: PathBuf,
    /// Cut torn tails, set bad records aside, rebuild the index
    #[arg(long)]
    repair: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    // Opening would make a state folder of it; a misspelt path must not be found healthy.
    if !args.state.join("FORMAT").is_file() {
        return Err(Trouble::new(format!("{} is no state folder", args.state.display())));
    }
    let report = if args.repair { repair(&args.state) } else { verify(&args.state) };
    let report = report.map_err(|error| Trouble::new(error.to_string()))?;
    if args.json {
        render::json(&report)?;
    } else {
        render::text(&render::doctor(&report, args.repair))?;
    }
    Ok(if report.findings.is_empty() || args.repair { Exit::Fine } else { Exit::Findings })
}
