//! `tenon replay`: past events once more, through the current maps.

use super::{Exit, Outcome, Trouble, block_on, client::Daemon, render, when};
use crate::{
    admin::api::{ReplayBody, ReplayLine},
    world::{Clock as _, SystemClock},
};

#[derive(Debug, clap::Args)]
#[command(after_help = "Times: `-2h` (s, m, h, d, w), `now`, a date, or RFC 3339.\n\
                        Look first with --dry-run: it maps and checks, and sends nothing. Idempotency keys are those\n\
                        of the first delivery. Exit code 1: some events would fail the current map.")]
pub struct Args {
    /// Events received at or after this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from: String,
    /// Events received before this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, default_value = "now")]
    to: String,
    /// Only this connector
    #[arg(long, value_name = "NAME")]
    connector: Option<String>,
    /// Only this stream
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// Only to this destination
    #[arg(long, value_name = "NAME")]
    destination: Option<String>,
    /// Only this key
    #[arg(long)]
    key: Option<String>,
    /// Show what would be sent, send nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

pub fn run(args: Args) -> Outcome {
    let now = SystemClock.now();
    let request = ReplayBody {
        from: when::parse(&args.from, now).map_err(Trouble::new)?,
        to: when::parse(&args.to, now).map_err(Trouble::new)?,
        connector: args.connector,
        stream: args.stream,
        destination: args.destination,
        key: args.key,
        dry_run: args.dry_run,
    };
    if request.from >= request.to {
        return Err(Trouble::new("--from must be before --to"));
    }
    let mut progress = render::Progress::new("events");
    let mut last = None;
    let told = block_on(async {
        let each = |line| match line {
            ReplayLine::Progress(events) => progress.at(events),
            end => last = Some(end),
        };
        Ok(args.daemon.post_lines("/api/v1/replay", &request, each).await?)
    });
    progress.finish();
    told?;
    match last {
        Some(ReplayLine::Report(report)) => {
            if args.json {
                render::json(&report)?;
            } else {
                render::text(&render::replay(&report, request.dry_run))?;
            }
            Ok(if report.failing_total == 0 { Exit::Fine } else { Exit::Findings })
        }
        Some(ReplayLine::Error(problem)) => Err(Trouble::new(problem.message)),
        Some(ReplayLine::Progress(_)) | None => {
            Err(Trouble::new("the daemon's answer broke off; what was replayed until then stays"))
        }
    }
}
