//! The command line: one file a verb; `render` alone prints.
//!
//! Data goes to stdout, everything else to stderr. Exit codes: 0 fine, 1 findings (problems in
//! files, something that needs attention), 2 usage or I/O, 130 interrupted. A reader that has seen
//! enough (`tenon status | head`) ends a verb quietly.

mod against;
mod auth;
mod backfill;
mod changelog;
mod check;
mod client;
mod completions;
mod diff;
mod dlq;
mod docs;
mod doctor;
mod flag;
mod fmt;
mod git;
mod new;
mod preview;
mod record;
mod reload;
mod render;
mod replay;
mod rerun;
mod resume;
mod rollback;
mod rollout;
mod run;
mod runbook;
mod schema;
mod settings;
mod sides;
mod skeleton;
mod state;
mod status;
mod subjects;
mod test;
mod trace;
mod try_out;
mod when;
mod who;

use std::{io, process::ExitCode};

use clap::{Parser, Subcommand};

/// Declarative integrations: TOML connectors in, durable pipelines out.
#[derive(Debug, Parser)]
#[command(
    name = "tenon",
    version,
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 fine, 1 findings, 2 usage or I/O.\n\
                  Start here: `tenon new shop`, `tenon check shop.toml`, `tenon run .`"
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the connectors of these folders
    Run(run::Args),
    /// Report every problem of every connector, offline
    Check(check::Args),
    /// Put connector files into the house order, comments kept
    Fmt(fmt::Args),
    /// Run the tests in the connector files, offline
    Test(test::Args),
    /// Say what a change of connectors does, and whether their versions say so
    Diff(diff::Args),
    /// Show what a connector makes of one record or poll, delivering nothing
    Try(try_out::Args),
    /// Write a new connector
    New(new::Args),
    /// Write pages about connectors: what they read, each field's origin, delivery, changelog
    Docs(docs::Args),
    /// Print the changelog of connectors
    Changelog(changelog::Args),
    /// Print what to do when a connector is in trouble
    Runbook(runbook::Args),
    /// Show how the connectors of a running daemon are
    Status(status::Args),
    /// Show one event's life
    Trace(trace::Args),
    /// List, show, replay or discard dead letters
    Dlq(dlq::Args),
    /// Deliver past events again, through the current maps
    Replay(replay::Args),
    /// Read a range of a stream's past, beside its live poll
    Backfill(backfill::Args),
    /// Show, rewind, export or import what polls remember
    State(state::Args),
    /// Show shadows and canaries: what differs, who does worse
    Rollout(rollout::Args),
    /// Show, set or unset what wins over the files at run time
    Flag(flag::Args),
    /// Run an earlier version of a connector although its file says otherwise
    Rollback(rollback::Args),
    /// Load changed connector files now
    Reload(reload::Args),
    /// Un-park what was held (refused credentials, say) once its cause is gone
    Resume(resume::Args),
    /// Log in for a connector whose API wants a person to, or show who has to
    #[command(subcommand)]
    Auth(auth::Args),
    /// Verify, and on demand repair, a state folder while no daemon uses it
    Doctor(doctor::Args),
    /// Print the JSON Schema of connectors, or the settings file
    Schema(schema::Args),
    /// Print a shell's completion script
    Completions(completions::Args),
}

/// How a verb ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Fine,
    Findings,
    Interrupted,
}

/// Why a verb could not do its work.
#[derive(Debug)]
enum Trouble {
    /// For a person: usage or I/O.
    Message(String),
    /// Whoever read stdout has seen enough.
    ReaderGone,
}

impl Trouble {
    fn new(message: impl Into<String>) -> Self {
        Self::Message(message.into())
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::Message(error.to_string()),
        }
    }
}

type Outcome = Result<Exit, Trouble>;

/// Parses the arguments, does what they say, and gives the exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not errors; clap knows which goes where.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match dispatch(cli.verb) {
        Ok(Exit::Fine) | Err(Trouble::ReaderGone) => ExitCode::SUCCESS,
        Ok(Exit::Findings) => ExitCode::from(1),
        Ok(Exit::Interrupted) => ExitCode::from(130),
        Err(Trouble::Message(message)) => {
            render::error(&message);
            ExitCode::from(2)
        }
    }
}

fn dispatch(verb: Verb) -> Outcome {
    match verb {
        Verb::Run(args) => run::run(args),
        Verb::Check(args) => check::run(&args),
        Verb::Fmt(args) => fmt::run(&args),
        Verb::Test(args) => test::run(&args),
        Verb::Diff(args) => diff::run(&args),
        Verb::Try(args) => try_out::run(&args),
        Verb::New(args) => new::run(args),
        Verb::Docs(args) => docs::run(&args),
        Verb::Changelog(args) => changelog::run(&args),
        Verb::Runbook(args) => runbook::run(&args),
        Verb::Status(args) => status::run(&args),
        Verb::Trace(args) => trace::run(&args),
        Verb::Dlq(args) => dlq::run(args),
        Verb::Replay(args) => replay::run(args),
        Verb::Auth(args) => auth::run(&args),
        Verb::Backfill(args) => backfill::run(&args),
        Verb::State(args) => state::run(&args),
        Verb::Rollout(args) => rollout::run(&args),
        Verb::Flag(args) => flag::run(args),
        Verb::Rollback(args) => rollback::run(args),
        Verb::Reload(args) => reload::run(&args),
        Verb::Resume(args) => resume::run(args),
        Verb::Doctor(args) => doctor::run(&args),
        Verb::Schema(args) => schema::run(&args),
        Verb::Completions(args) => completions::run(&args),
    }
}

/// The whole command: for completions, and for whoever checks that what documents show parses.
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// A runtime for a verb that talks to one daemon.
fn block_on<T>(work: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_arguments_fit_together() {
        super::command().debug_assert();
    }
}
