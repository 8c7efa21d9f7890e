//! `tenon trace`: one event's life.

use super::{Exit, Outcome, block_on, client::Daemon, render};
use crate::{admin::api::TraceView, event::EventId};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The event's id (`evt_…`), as the producer got it and as logs carry it
    event: String,
    /// Show the record too, redacted fields masked
    #[arg(long)]
    body: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

pub fn run(args: &Args) -> Outcome {
    let id: EventId = args.event.parse().map_err(|_| {
        super::Trouble::new(format!(
            "`{}` is no event's id: expected `evt_` and 26 letters and digits",
            args.event
        ))
    })?;
    let body = if args.body { "?body=1" } else { "" };
    let path = format!("/api/v1/events/{id}{body}");
    let view: TraceView = block_on(async { Ok(args.daemon.get(&path).await?) })?;
    if args.json {
        render::json(&view)?;
    } else {
        render::text(&render::trace(&view))?;
    }
    Ok(Exit::Fine)
}
