//! `tenon replay`: past events once more, through the current maps.

use std::time::Duration;

use clap::Subcommand;

use super::{Exit, Outcome, Trouble, against, block_on, client::Daemon, render, when};
use crate::{
    admin::api::{Empty, PreviewBody, ReplayLine, ReplayList},
    engine::{
        DEFAULT_LIMIT, DEFAULT_RATE, ReplayReport, ReplayRequest, ReplaySource, ReplayStatus,
    },
    event::ReplayId,
    world::{Clock as _, SystemClock, Timestamp},
};

/// How often the daemon is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(300);

#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    override_usage = "tenon replay [OPTIONS] --from TIME\n       tenon replay [OPTIONS] --event ID\n       tenon replay list|show|pause|resume|cancel",
    after_help = "Times: `-2h` (s, m, h, d, w), `now`, a date, or RFC 3339.\n\
                        Look first with --dry-run: it maps and checks, compares with what was delivered, and sends nothing.\n\
                        On a terminal a replay begins with a dry run and asks. It has a pace and a limit, goes on after a\n\
                        restart of the daemon, and without this command: Ctrl-C only stops looking. Idempotency keys are\n\
                        those of the first delivery unless --new-keys says otherwise.\n\
                        Exit code 1: of a dry run, some events would fail the current map; of a replay, it failed."
)]
pub struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List replays, those that ended included
    List(Look),
    /// Show how far a replay is, and how its events ended
    Show(One),
    /// Stop a replay where it is
    Pause(One),
    /// Let a replay go on that was paused or failed
    Resume(One),
    /// End a replay for good; what it sent on its way stays
    Cancel(One),
}

#[derive(Debug, clap::Args)]
struct Look {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Debug, clap::Args)]
struct One {
    /// Which (`rp_…`)
    #[arg(value_parser = replay_id)]
    id: ReplayId,
    #[command(flatten)]
    look: Look,
}

#[derive(Debug, clap::Args)]
struct What {
    /// Events received at or after this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from: Option<String>,
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
    /// Only this event (`evt_…`); needs no --from
    #[arg(long, value_name = "ID")]
    event: Option<String>,
    /// Only this tenant
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Only where this became of it: delivered, dead, superseded or pending
    #[arg(long, value_name = "WORD")]
    outcome: Option<String>,
    /// Only what died of this (`rejected`, `map_failed`, …)
    #[arg(long, value_name = "WORD")]
    reason: Option<String>,
    /// At most so many events
    #[arg(long, value_name = "N", default_value_t = DEFAULT_LIMIT)]
    limit: u64,
    /// With --dry-run: field by field against this version: a file, folder or git revision
    #[arg(long, value_name = "VERSION", requires = "dry_run", requires = "connector")]
    against: Option<String>,
}

/// How a replay goes; the same for history and for dead letters.
#[derive(Debug, clap::Args)]
pub struct How {
    /// Events in a time, at most
    #[arg(long, value_name = "N/TIME", default_value = DEFAULT_RATE)]
    rate: String,
    /// Idempotency keys of its own: destinations take it for something new
    #[arg(long)]
    new_keys: bool,
    /// Show what would be sent, send nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Begin it and do not wait
    #[arg(long)]
    detach: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub daemon: Daemon,
}

fn replay_id(text: &str) -> Result<ReplayId, String> {
    text.parse().map_err(|_| "expected a replay's id, `rp_` and 12 letters and digits".to_owned())
}

/// When an event came in or ended, as people write times.
pub fn time(text: &str) -> Result<Timestamp, Trouble> {
    when::of_event(text, SystemClock.now()).map_err(Trouble::new)
}

pub fn run(args: Args) -> Outcome {
    let Args { verb, what, how } = args;
    match verb {
        Some(Verb::List(look)) => list(&look),
        Some(Verb::Show(one)) => show(&one),
        Some(Verb::Pause(one)) => told(&one, "pause"),
        Some(Verb::Resume(one)) => told(&one, "resume"),
        Some(Verb::Cancel(one)) => told(&one, "cancel"),
        None => begin(what, &how),
    }
}

fn list(look: &Look) -> Outcome {
    let all: ReplayList = block_on(async { Ok(look.daemon.get("/api/v1/replays").await?) })?;
    if look.json {
        render::json(&all)?;
    } else {
        render::text(&render::replays(&all.replays))?;
    }
    let failed = all.replays.iter().any(|replay| replay.state == "failed");
    Ok(if failed { Exit::Findings } else { Exit::Fine })
}

fn show(one: &One) -> Outcome {
    let path = format!("/api/v1/replays/{}", one.id);
    let status = block_on(async { Ok(one.look.daemon.get(&path).await?) })?;
    say(&status, one.look.json)
}

fn told(one: &One, verb: &str) -> Outcome {
    let path = format!("/api/v1/replays/{}/{verb}", one.id);
    let status = block_on(async { Ok(one.look.daemon.post(&path, &Empty {}).await?) })?;
    say(&status, one.look.json)
}

fn begin(what: What, how: &How) -> Outcome {
    let from = match (&what.from, &what.event) {
        (Some(from), _) => time(from)?,
        (None, Some(_)) => Timestamp(0),
        (None, None) => return Err(Trouble::new("--from says since when, or --event which one")),
    };
    let request = ReplayRequest {
        source: ReplaySource::History,
        from,
        to: time(&what.to)?,
        connector: what.connector,
        stream: what.stream,
        destination: what.destination,
        key: what.key,
        event: what.event,
        tenant: what.tenant,
        outcome: what.outcome,
        reason: what.reason,
        limit: what.limit,
        ..ReplayRequest::default()
    };
    if request.from >= request.to {
        return Err(Trouble::new("--from must be before --to"));
    }
    go(request, how, what.against.as_deref())
}

/// Shows what a replay would do, or does it; on a terminal one after the other.
pub fn go(request: ReplayRequest, how: &How, version: Option<&str>) -> Outcome {
    let request = ReplayRequest { rate: how.rate.clone(), new_keys: how.new_keys, ..request };
    if how.dry_run {
        let connector = request.connector.clone().unwrap_or_default();
        let against = version.map(|what| against::find(what, &connector)).transpose()?;
        let report = preview(&how.daemon, &PreviewBody { request, against })?;
        if how.json {
            render::json(&report)?;
        } else {
            render::text(&render::replay_report(&report))?;
        }
        return Ok(if report.failing_total == 0 { Exit::Fine } else { Exit::Findings });
    }
    if !how.yes && render::is_interactive() {
        let body = PreviewBody { request: request.clone(), against: None };
        let report = preview(&how.daemon, &body)?;
        render::note(render::replay_report(&report).trim_end());
        let question = format!("replay them at {}?", request.rate);
        if render::confirm(&question) != Some(true) {
            return Err(Trouble::new("nothing was replayed"));
        }
    }
    let status = block_on(async {
        let begun: ReplayStatus = how.daemon.post("/api/v1/replays", &request).await?;
        if how.detach { Ok(begun) } else { follow(&how.daemon, begun).await }
    })?;
    say(&status, how.json)
}

fn say(status: &ReplayStatus, json: bool) -> Outcome {
    if json {
        render::json(status)?;
    } else {
        render::text(&render::replays(std::slice::from_ref(status)))?;
    }
    Ok(if status.state == "failed" { Exit::Findings } else { Exit::Fine })
}

fn preview(daemon: &Daemon, body: &PreviewBody) -> Result<ReplayReport, Trouble> {
    let mut progress = render::Progress::new("events");
    let mut last = None;
    let told = block_on(async {
        let each = |line| match line {
            ReplayLine::Progress(events) => progress.at(events),
            end => last = Some(end),
        };
        Ok(daemon.post_lines("/api/v1/replays/preview", body, each).await?)
    });
    progress.finish();
    told?;
    match last {
        Some(ReplayLine::Report(report)) => Ok(report),
        Some(ReplayLine::Error(problem)) => Err(Trouble::new(problem.message)),
        Some(ReplayLine::Progress(_)) | None => {
            Err(Trouble::new("the daemon's answer broke off; a dry run changes nothing"))
        }
    }
}

/// Looks until it no longer runs.
async fn follow(daemon: &Daemon, begun: ReplayStatus) -> Result<ReplayStatus, Trouble> {
    let mut progress = render::Progress::new("events");
    let path = format!("/api/v1/replays/{}", begun.id);
    let mut now = begun;
    while now.is_running() {
        progress.share(now.share, now.replayed, now.problem.as_deref());
        tokio::time::sleep(LOOK_EVERY).await;
        now = daemon.get(&path).await?;
    }
    progress.finish();
    Ok(now)
}
