//! `tenon backfill`: a range of a stream's past, read beside its live poll.

use std::time::Duration;

use super::{Exit, Outcome, Trouble, block_on, client::Daemon, render, when};
use crate::{
    admin::api::{BackfillBody, BackfillList, Cancelled, StatusView},
    engine::BackfillStatus,
    world::{Clock as _, SystemClock, Timestamp},
};

/// How often the daemon is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(300);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Times: `-90d` (s, m, h, d, w), `now`, a date, or RFC 3339; a number where the cursor is one.\n\
                        The live poll goes on meanwhile and its cursor stays where it is. Both spend the source's\n\
                        rate. Events have the ids and idempotency keys that a poll would have given them, so what is\n\
                        known is dropped. The daemon goes on after a restart, and without this command: Ctrl-C only\n\
                        stops looking. Without STREAM all backfills are listed. Exit code 1: it failed; the same\n\
                        command goes on where it was."
)]
pub struct Args {
    /// The stream: CONNECTOR/STREAM, or its name where only one connector has it
    #[arg(value_name = "STREAM", requires = "what")]
    stream: Option<String>,
    /// Where the range begins
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, requires_all = ["stream", "to"], group = "what")]
    from: Option<String>,
    /// Where the range ends, itself not included
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, requires = "from")]
    to: Option<String>,
    /// End the stream's backfill; what it has read stays
    #[arg(long, requires = "stream", group = "what")]
    cancel: bool,
    /// Begin it and do not wait
    #[arg(long, requires = "from")]
    detach: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

pub fn run(args: &Args) -> Outcome {
    let Some(wanted) = &args.stream else { return list(args) };
    block_on(async {
        let (connector, stream) = find(&args.daemon, wanted).await?;
        if args.cancel {
            return cancel(args, &connector, &stream).await;
        }
        let (Some(from), Some(to)) = (&args.from, &args.to) else {
            return Err(Trouble::new("--from and --to say which range"));
        };
        let body = BackfillBody { connector, stream, from: bound(from), to: bound(to) };
        let begun: BackfillStatus = args.daemon.post("/api/v1/backfills", &body).await?;
        let ended = if args.detach { begun } else { follow(&args.daemon, begun).await? };
        show(args, std::slice::from_ref(&ended))?;
        Ok(if ended.state == "failed" { Exit::Findings } else { Exit::Fine })
    })
}

fn list(args: &Args) -> Outcome {
    let all = block_on(async { Ok(args.daemon.get::<BackfillList>("/api/v1/backfills").await?) })?;
    show(args, &all.backfills)?;
    let failed = all.backfills.iter().any(|backfill| backfill.state == "failed");
    Ok(if failed { Exit::Findings } else { Exit::Fine })
}

fn show(args: &Args, backfills: &[BackfillStatus]) -> Result<(), Trouble> {
    if args.json {
        render::json(&backfills)?;
    } else {
        render::text(&render::backfills(backfills))?;
    }
    Ok(())
}

async fn cancel(args: &Args, connector: &str, stream: &str) -> Outcome {
    let path = format!("/api/v1/backfills/{connector}/{stream}");
    let Cancelled { cancelled } = args.daemon.delete(&path).await?;
    if cancelled {
        render::note(&format!(
            "the backfill of `{connector}/{stream}` is ended; what it read stays"
        ));
        return Ok(Exit::Fine);
    }
    render::note(&format!("`{connector}/{stream}` has no backfill"));
    Ok(Exit::Findings)
}

/// Looks until it has ended.
async fn follow(daemon: &Daemon, begun: BackfillStatus) -> Result<BackfillStatus, Trouble> {
    let mut progress = render::Progress::new("records");
    let mut now = begun;
    while now.state == "running" {
        progress.share(now.share, now.items, now.problem.as_deref());
        tokio::time::sleep(LOOK_EVERY).await;
        let all: BackfillList = daemon.get("/api/v1/backfills").await?;
        let same = |other: &BackfillStatus| {
            (&other.connector, &other.stream) == (&now.connector, &now.stream)
        };
        match all.backfills.into_iter().find(same) {
            Some(found) => now = found,
            None => return Err(Trouble::new("the backfill was cancelled")),
        }
    }
    progress.finish();
    Ok(now)
}

/// A time as RFC 3339; what is none goes as it is, for cursors that are numbers or texts.
fn bound(text: &str) -> String {
    when::parse(text, SystemClock.now()).map_or_else(|_| text.to_owned(), Timestamp::rfc3339)
}

/// The stream that is meant, among those that run.
pub(super) async fn find(daemon: &Daemon, wanted: &str) -> Result<(String, String), Trouble> {
    if let Some((connector, stream)) = wanted.split_once('/') {
        return Ok((connector.to_owned(), stream.to_owned()));
    }
    let view: StatusView = daemon.get("/api/v1/status").await?;
    let named = view.status.connectors.iter().flat_map(|connector| {
        let streams = connector.streams.iter().filter(|stream| stream.name == wanted);
        streams.map(|stream| (connector.name.clone(), stream.name.clone()))
    });
    let named: Vec<_> = named.collect();
    match named.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Trouble::new(format!(
            "no stream named `{wanted}` runs; `tenon status` shows those that do"
        ))),
        many => {
            let all: Vec<_> = many.iter().map(|(c, s)| format!("{c}/{s}")).collect();
            Err(Trouble::new(format!("which one: {}?", all.join(", "))))
        }
    }
}
