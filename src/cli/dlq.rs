//! `tenon dlq`: dead letters, and the ways out of them.

use clap::Subcommand;

use super::{
    Exit, Outcome, Trouble, block_on,
    client::{Daemon, query},
    render,
};
use crate::{
    admin::{
        api::{
            BulkFailure, BulkReport, BulkRequest, DeadList, DeadView, Discarded, Empty, Replayed,
        },
        parse_dead_id,
    },
    bus::DeadId,
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
    Replay(Bulk),
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
        Verb::Replay(args) => bulk(&args, Kind::Replay),
        Verb::Discard(args) => {
            if !args.yes && !args.bulk.dry_run && !is_confirmed(&args.bulk)? {
                return Err(Trouble::new("nothing was discarded"));
            }
            bulk(&args.bulk, Kind::Discard)
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

fn bulk(args: &Bulk, kind: Kind) -> Outcome {
    let report = block_on(async {
        if args.ids.is_empty() {
            let path = format!("/api/v1/dlq/{}", kind.word());
            Ok(args.daemon.post(&path, &request(args)?).await?)
        } else {
            one_by_one(args, kind).await
        }
    })?;
    if args.json {
        render::json(&report)?;
    } else {
        render::text(&render::bulk(&report, kind.word()))?;
    }
    Ok(if report.failed.is_empty() { Exit::Fine } else { Exit::Findings })
}

fn request(args: &Bulk) -> Result<BulkRequest, Trouble> {
    let Filter { connector, stream, destination, reason } = &args.filter;
    let is_filtered = [connector, stream, destination, reason].iter().any(|f| f.is_some());
    if !is_filtered && !args.all {
        return Err(Trouble::new("name letters, filter with --connector and so on, or give --all"));
    }
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
async fn one_by_one(args: &Bulk, kind: Kind) -> Result<BulkReport, Trouble> {
    let mut report =
        BulkReport { matched: args.ids.len(), dry_run: args.dry_run, ..BulkReport::default() };
    for id in &args.ids {
        let path = format!("/api/v1/dlq/{id}");
        let done = match kind {
            _ if args.dry_run => args.daemon.get::<DeadView>(&path).await.map(|_| ()),
            Kind::Replay => {
                let path = format!("{path}/replay");
                args.daemon.post::<Replayed>(&path, &Empty {}).await.map(|_| ())
            }
            Kind::Discard => args.daemon.delete::<Discarded>(&path).await.map(|_| ()),
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
