//! `tenon completions`: a shell's completion script.

use clap_complete::Shell;

use super::{Exit, Outcome, render};

#[derive(Debug, clap::Args)]
#[command(after_help = "For bash: `source <(tenon completions bash)`.")]
pub struct Args {
    /// Which shell
    shell: Shell,
}

pub fn run(args: &Args) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "tenon", &mut script);
    render::bytes(&script)?;
    Ok(Exit::Fine)
}
