//! `tenon rollback`: an earlier version runs although the file says otherwise.

use super::{Exit, Outcome, block_on, client::Daemon, render, skeleton::connector_name, who};
use crate::{
    admin::api::VersionList,
    engine::{RollbackRequest, RolledBack},
    world::{Clock as _, SystemClock},
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The last five versions of each connector that ran are kept whole, with what they use. One that is\n\
                        rolled back to runs until the connector's file changes, or until --undo; restarts included.\n\
                        Events, cursors and claims stay as they are."
)]
pub struct Args {
    /// The connector
    #[arg(value_parser = connector_name)]
    connector: String,
    /// This one: its number (`3`), or its version; otherwise the newest before the one that runs
    #[arg(long, value_name = "VERSION", conflicts_with_all = ["undo", "list"])]
    to: Option<String>,
    /// Back to what the file says
    #[arg(long, conflicts_with = "list")]
    undo: bool,
    /// Only show what is kept
    #[arg(long)]
    list: bool,
    /// Why, for the log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

pub fn run(args: Args) -> Outcome {
    if args.list {
        return list(&args);
    }
    let Args { connector, to, undo, reason, json, daemon, .. } = args;
    let request = RollbackRequest { connector, to, undo, by: who::user(), why: reason };
    let done: RolledBack =
        block_on(async { Ok(daemon.post("/api/v1/rollback", &request).await?) })?;
    if json {
        render::json(&done)?;
        return Ok(Exit::Fine);
    }
    let RolledBack { connector, version, number, .. } = done;
    render::note(&match number {
        Some(number) => format!(
            "`{connector}` runs {version} (#{number}) until its file changes, or `tenon rollback \
             {connector} --undo`"
        ),
        None => format!("`{connector}` runs {version}, as its file says"),
    });
    Ok(Exit::Fine)
}

fn list(args: &Args) -> Outcome {
    let path = format!("/api/v1/versions/{}", args.connector);
    let list: VersionList = block_on(async { Ok(args.daemon.get(&path).await?) })?;
    if args.json {
        render::json(&list.versions)?;
    } else if list.versions.is_empty() {
        render::note(&format!("no version of `{}` is kept", args.connector));
    } else {
        render::text(&render::versions(&list.versions, SystemClock.now()))?;
    }
    Ok(if list.versions.is_empty() { Exit::Findings } else { Exit::Fine })
}
