//! `tenon status`: the connectors of a running daemon at a glance.

use super::{Exit, Outcome, Trouble, block_on, client::Daemon, render};
use crate::{
    admin::api::StatusView,
    diagnostic::nearest,
    engine::StreamStatus,
    observe::slo::Kept,
    world::{Clock as _, SystemClock},
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit code 1: something needs attention (a connector that does not run as its file says,\n\
                        webhooks that are missing, a bus that takes no events, or an error budget that burns)."
)]
pub struct Args {
    /// Only this connector, with its streams and destinations
    connector: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

/// Whether webhooks of a stream are missing.
fn is_silent(stream: &StreamStatus) -> bool {
    stream.webhooks.as_ref().is_some_and(|webhooks| webhooks.silent)
}

pub fn run(args: &Args) -> Outcome {
    let mut view: StatusView = block_on(async { Ok(args.daemon.get("/api/v1/status").await?) })?;
    if let Some(name) = &args.connector {
        let all = &mut view.status.connectors;
        if !all.iter().any(|connector| connector.name == *name) {
            let near = nearest(name, all.iter().map(|connector| &*connector.name));
            let near = near.map(|near| format!("; there is `{near}`")).unwrap_or_default();
            return Err(Trouble::new(format!("the daemon has no connector `{name}`{near}")));
        }
        all.retain(|connector| connector.name == *name);
    }
    let now = SystemClock.now();
    if args.json {
        render::json(&view)?;
    } else if args.connector.is_some() {
        render::text(&render::connectors_in_detail(&view, now))?;
    } else {
        render::text(&render::status(&view, now, render::stdout_style()))?;
    }
    let is_well = view.status.refusing.is_none()
        && view.status.connectors.iter().all(|connector| {
            matches!(&*connector.state, "running" | "off") && !connector.slo.iter().any(Kept::pages)
        })
        && !view.status.connectors.iter().flat_map(|connector| &connector.streams).any(is_silent);
    Ok(if is_well { Exit::Fine } else { Exit::Findings })
}
