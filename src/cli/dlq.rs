//! `tenon dlq`: dead letters, and the ways out of them.

use clap::Subcommand;

use super::{
    Exit, Outcome, Trouble, block_on,
    client::{Daemon, query},
    render,
    replay::{How, go, time},
};
use crate::{
    admin::{
        api::{
            BulkFailure, BulkReport, BulkRequest, DeadList, DeadView, Discarded, Empty, Replayed,
        },
        parse_dead_id,
    },
    bus::DeadId,
    engine::{ReplayRequest, ReplaySource},
    world::{Clock as _, SystemClock},
};

#[derive(Debug, clap::Args)]
#[command(disable_help_subcommand = true)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List dead letters, newest first
    List(List),
    /// Show one dead letter's whole story
    Show(Show),
    /// Deliver dead letters again, through the current map
    Replay(Replay),
    /// Remove dead letters for good
    Discard(Discard),
}

#[derive(Debug, clap::Args)]
struct Filter {
    /// Only this connector
    #[arg(long, value_name = "NAME")]
    connector: Option<String>,
    /// Only this stream
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// Only this destination
    #[arg(long, value_name = "NAME")]
    destination: Option<String>,
    /// Only this reason (`rejected`, `attempts_spent`, `map_failed`, …)
    #[arg(long, value_name = "WORD")]
    reason: Option<String>,
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    filter: Filter,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Debug, clap::Args)]
struct Show {
    /// Which (`dl_…`)
    #[arg(value_parser = dead_id)]
    id: DeadId,
    /// Show the record too, redacted fields masked
    #[arg(long)]
    body: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Those that the filters take are one replay: with a pace, and to be listed, paused and resumed by\n\
                        `tenon replay`. Letters that are named go at once."
)]
struct Replay {
    /// Which (`dl_…`); otherwise those that the filters take
    #[arg(value_parser = dead_id, conflicts_with_all = ["connector", "stream", "destination", "reason", "all"])]
    ids: Vec<DeadId>,
    #[command(flatten)]
    filter: Filter,
    /// Only those that died at or after this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, conflicts_with = "ids")]
    from: Option<String>,
    /// Only those that died before this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, conflicts_with = "ids")]
    to: Option<String>,
    /// All of them
    #[arg(long, conflicts_with_all = ["connector", "stream", "destination", "reason"])]
    all: bool,
    /// At most so many, oldest first
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, clap::Args)]
struct Bulk {
    /// Which (`dl_…`); otherwise those that the filters take
    #[arg(value_parser = dead_id, conflicts_with_all = ["connector", "stream", "destination", "reason", "all"])]
    ids: Vec<DeadId>,
    #[command(flatten)]
    filter: Filter,
    /// All of them
    #[arg(long, conflicts_with_all = ["connector", "stream", "destination", "reason"])]
    all: bool,
    /// At most so many, oldest first
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Only say which
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Debug, clap::Args)]
struct Discard {
    #[command(flatten)]
    bulk: Bulk,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

fn dead_id(text: &str) -> Result<DeadId, String> {
    parse_dead_id(text).ok_or_else(|| "expected a dead letter's id, `dl_…`".to_owned())
}

pub fn run(args: Args) -> Outcome {
    match args.verb {
        Verb::List(args) => list(&args),
        Verb::Show(args) => show(&args),
        Verb::Replay(args) => replay(args),
        Verb::Discard(args) => {
            if !args.yes && !args.bulk.dry_run && !is_confirmed(&args.bulk)? {
                return Err(Trouble::new("nothing was discarded"));
            }
            discard(&args.bulk)
        }
    }
}

fn list(args: &List) -> Outcome {
    let limit = args.limit.to_string();
    let path = format!(
        "/api/v1/dlq{}",
        query(&[
            ("connector", args.filter.connector.as_deref()),
            ("stream", args.filter.stream.as_deref()),
            ("destination", args.filter.destination.as_deref()),
            ("reason", args.filter.reason.as_deref()),
            ("limit", Some(&limit)),
        ])
    );
    let list: DeadList = block_on(async { Ok(args.daemon.get(&path).await?) })?;
    if args.json {
        render::json(&list)?;
    } else if list.total == 0 && args.filter.is_any() {
        render::note("no dead letter matches");
    } else {
        render::text(&render::dead_list(&list, SystemClock.now()))?;
    }
    Ok(Exit::Fine)
}

fn show(args: &Show) -> Outcome {
    let body = if args.body { "?body=1" } else { "" };
    let path = format!("/api/v1/dlq/{}{body}", args.id);
    let letter: DeadView = block_on(async { Ok(args.daemon.get(&path).await?) })?;
    if args.json {
        render::json(&letter)?;
    } else {
        render::text(&render::dead_letter(&letter))?;
    }
    Ok(Exit::Fine)
}

fn replay(args: Replay) -> Outcome {
    let Replay { ids, filter, from, to, all, limit, how } = args;
    if !ids.is_empty() {
        let report = block_on(one_by_one(&ids, how.dry_run, &how.daemon, Kind::Replay))?;
        return told(&report, Kind::Replay, how.json);
    }
    let is_timed = from.is_some() || to.is_some();
    // Until a time only is all there is, up to then.
    let all = all || is_timed;
    if !filter.is_any() && !all {
        return Err(unfiltered());
    }
    let bounds = ReplayRequest::default();
    let Filter { connector, stream, destination, reason } = filter;
    let request = ReplayRequest {
        source: ReplaySource::DeadLetters,
        connector,
        stream,
        destination,
        reason,
        from: from.map_or(Ok(bounds.from), |from| time(&from))?,
        to: to.map_or(Ok(SystemClock.now()), |to| time(&to))?,
        all,
        limit: limit.into(),
        ..bounds
    };
    go(request, &how, None)
}

#[derive(Clone, Copy)]
enum Kind {
    Replay,
    Discard,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::Discard => "discard",
        }
    }
}

fn discard(args: &Bulk) -> Outcome {
    let report = block_on(async {
        if args.ids.is_empty() {
            Ok(args.daemon.post("/api/v1/dlq/discard", &request(args)?).await?)
        } else {
            one_by_one(&args.ids, args.dry_run, &args.daemon, Kind::Discard).await
        }
    })?;
    told(&report, Kind::Discard, args.json)
}

fn told(report: &BulkReport, kind: Kind, json: bool) -> Outcome {
    if json {
        render::json(report)?;
    } else {
        render::text(&render::bulk(report, kind.word()))?;
    }
    Ok(if report.failed.is_empty() { Exit::Fine } else { Exit::Findings })
}

impl Filter {
    fn is_any(&self) -> bool {
        let Self { connector, stream, destination, reason } = self;
        [connector, stream, destination, reason].iter().any(|filter| filter.is_some())
    }
}

fn unfiltered() -> Trouble {
    Trouble::new("name letters, filter with --connector and so on, or give --all")
}

fn request(args: &Bulk) -> Result<BulkRequest, Trouble> {
    if !args.filter.is_any() && !args.all {
        return Err(unfiltered());
    }
    let Filter { connector, stream, destination, reason } = &args.filter;
    Ok(BulkRequest {
        connector: connector.clone(),
        stream: stream.clone(),
        destination: destination.clone(),
        reason: reason.clone(),
        all: args.all,
        limit: Some(args.limit as usize),
        dry_run: args.dry_run,
    })
}

/// A letter that is refused does not stop the ones after it; a daemon that is gone does.
async fn one_by_one(
    ids: &[DeadId],
    dry_run: bool,
    daemon: &Daemon,
    kind: Kind,
) -> Result<BulkReport, Trouble> {
    let mut report = BulkReport { matched: ids.len(), dry_run, ..BulkReport::default() };
    for id in ids {
        let path = format!("/api/v1/dlq/{id}");
        let done = match kind {
            _ if dry_run => daemon.get::<DeadView>(&path).await.map(|_| ()),
            Kind::Replay => {
                let path = format!("{path}/replay");
                daemon.post::<Replayed>(&path, &Empty {}).await.map(|_| ())
            }
            Kind::Discard => daemon.delete::<Discarded>(&path).await.map(|_| ()),
        };
        match done {
            Ok(()) => report.done.push(id.to_string()),
            Err(super::client::ClientError::Refused { problem, .. }) => {
                report.failed.push(BulkFailure { id: id.to_string(), message: problem.message });
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(report)
}

/// Asks on a terminal; without one, `--yes` has to be there.
fn is_confirmed(args: &Bulk) -> Result<bool, Trouble> {
    let what = match args.ids.len() {
        0 if args.all => "all dead letters".to_owned(),
        0 => "every dead letter that the filters take".to_owned(),
        count => render::counted(count as u64, "dead letter"),
    };
    render::confirm(&format!("discard {what} for good?"))
        .ok_or_else(|| Trouble::new("discarding is for good: confirm it with --yes"))
}
