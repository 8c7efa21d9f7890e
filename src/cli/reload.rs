//! `tenon reload`: loads changed connector files now and says what became of each.

use std::time::Duration;

use super::{Exit, Outcome, Trouble, block_on, client::Daemon, render};
use crate::{
    admin::api::{Empty, StatusView},
    engine::ReloadReport,
};

/// How long `--wait` waits for everything to run.
const WAIT_TIME: Duration = Duration::from_mins(1);
/// Between two looks at the status.
const WAIT_STEP: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
#[command(after_help = "A file that does not compile leaves its predecessor running.\n\
                        Exit code 1: some connector failed.")]
pub struct Args {
    /// Also wait until no connector is restarting (at most a minute)
    #[arg(long)]
    wait: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

pub fn run(args: &Args) -> Outcome {
    let (report, is_settled) = block_on(async {
        let report: ReloadReport = args.daemon.post("/api/v1/reload", &Empty {}).await?;
        let is_settled = !args.wait || settled(&args.daemon).await?;
        Ok((report, is_settled))
    })?;
    if args.json {
        render::json(&report)?;
    } else {
        for diagnostic in &report.diagnostics {
            render::note(diagnostic.trim_end());
        }
        render::text(&render::reload(&report, render::stdout_style()))?;
    }
    if !is_settled {
        return Err(Trouble::new("a connector is still restarting; see `tenon status`"));
    }
    Ok(if report.failed.is_empty() { Exit::Fine } else { Exit::Findings })
}

async fn settled(daemon: &Daemon) -> Result<bool, Trouble> {
    let looks = WAIT_TIME.as_millis() / WAIT_STEP.as_millis();
    for _ in 0..looks {
        let view: StatusView = daemon.get("/api/v1/status").await?;
        if view.status.connectors.iter().all(|connector| connector.state != "restarting") {
            return Ok(true);
        }
        tokio::time::sleep(WAIT_STEP).await;
    }
    Ok(false)
}
