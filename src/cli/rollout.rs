//! `tenon rollout`: shadows and canaries of a running daemon.

use super::{Exit, Outcome, block_on, client::Daemon, render, skeleton::connector_name};
use crate::{
    admin::api::RolloutList,
    engine::RolloutStatus,
    world::{Clock as _, SystemClock},
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit code 1: a shadow differs from its original or fails where it does not, or a canary is halted."
)]
pub struct Args {
    /// Only this connector, and its variants
    #[arg(value_parser = connector_name)]
    connector: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

pub fn run(args: &Args) -> Outcome {
    let name = args.connector.as_ref().map(|name| format!("/{name}")).unwrap_or_default();
    let path = format!("/api/v1/rollouts{name}");
    let list: RolloutList = block_on(async { Ok(args.daemon.get(&path).await?) })?;
    if args.json {
        render::json(&list.rollouts)?;
    } else {
        render::text(&render::rollouts(&list.rollouts, SystemClock.now()))?;
    }
    let is_well = list.rollouts.iter().all(is_well);
    Ok(if is_well { Exit::Fine } else { Exit::Findings })
}

fn is_well(rollout: &RolloutStatus) -> bool {
    let is_halted = rollout.canary.as_ref().is_some_and(|canary| canary.halted.is_some());
    let differs = rollout.shadow.as_ref().is_some_and(|it| it.differing + it.failing > 0);
    !is_halted && !differs
}
