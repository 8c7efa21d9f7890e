//! `tenon resume`: un-parks what was held.

use super::{Exit, Outcome, block_on, client::Daemon, render};
use crate::admin::api::{ResumeRequest, Resumed};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The connector
    connector: String,
    /// One of its destinations or polled streams; all that is held otherwise
    name: Option<String>,
    #[command(flatten)]
    daemon: Daemon,
}

pub fn run(args: Args) -> Outcome {
    let request = ResumeRequest { connector: args.connector, name: args.name };
    let resumed: Resumed =
        block_on(async { Ok(args.daemon.post("/api/v1/resume", &request).await?) })?;
    let connector = &request.connector;
    match resumed.resumed {
        0 => {
            render::note(&format!("nothing of `{connector}` was held"));
            Ok(Exit::Findings)
        }
        count => {
            let things = render::counted(count as u64, "hold");
            render::note(&format!("`{connector}`: {things} lifted"));
            Ok(Exit::Fine)
        }
    }
}
