//! `tenon state`: what polls remember, through the daemon or in the folder of one that is stopped.

use std::{collections::BTreeMap, fs, io::Read as _, path::PathBuf, sync::Arc};

use serde_json::Value;

use super::{Exit, Outcome, Trouble, backfill, block_on, client::Daemon, render, skeleton, when};
use crate::{
    admin::api::{ImportBody, Imported, StateList},
    bus::{Bus, EmbeddedBus, EmbeddedOptions, StateWrites, write_state},
    ingest::poll::state::{self, Rewind, RewindTo, Rewound, StateExport, StreamState},
    plan::Settings,
    world::{Clock as _, SystemClock, SystemDisk, Timestamp},
};

/// An import goes to the daemon in parts of about so many bytes.
const PART_BYTES: usize = 1 << 20;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Show where each poll stands
    Show(Show),
    /// Set a cursor back, so that what lies behind is read again
    Rewind(RewindArgs),
    /// Write what is remembered of a connector or stream to stdout
    Export(Export),
    /// Take over what `tenon state export` wrote
    Import(Import),
}

/// Whose memory it is.
#[derive(Debug, clap::Args)]
struct Place {
    /// A state folder that no daemon uses, instead of the running daemon
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Debug, clap::Args)]
struct Show {
    /// A connector, or CONNECTOR/STREAM; all otherwise
    name: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "VALUE: a time (`-2d`, a date, RFC 3339), a number or a text, as the cursor is. Events that are\n\
                        read again have their old ids: within the dedupe window they are dropped, after it they are\n\
                        delivered again under the same idempotency key. A running poll is interrupted; it goes on at\n\
                        its next time. To read a range again and leave the cursor alone: `tenon backfill`."
)]
struct RewindArgs {
    /// The stream: CONNECTOR/STREAM, or its name where only one connector has it
    stream: String,
    /// Where to
    #[arg(
        long,
        value_name = "VALUE",
        allow_hyphen_values = true,
        required_unless_present = "start"
    )]
    to: Option<String>,
    /// To where the connector file says to start
    #[arg(long, conflicts_with_all = ["to", "forward"])]
    start: bool,
    /// Only this partition; all of them otherwise
    #[arg(long, value_name = "NAME")]
    partition: Option<String>,
    /// Let the cursor move on, too, which leaves records unread
    #[arg(long)]
    forward: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Cursors, partitions and remembered parents; no credentials, no events.")]
struct Export {
    /// A connector, or CONNECTOR/STREAM
    name: String,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Args)]
struct Import {
    /// The file; `-` is stdin
    file: PathBuf,
    /// The connector's name here
    #[arg(long = "as", value_name = "NAME")]
    connector: Option<String>,
    /// Replace what is there
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    place: Place,
}

pub fn run(args: &Args) -> Outcome {
    block_on(async {
        match &args.verb {
            Verb::Show(args) => show(args).await,
            Verb::Rewind(args) => rewind(args).await,
            Verb::Export(args) => export(args).await,
            Verb::Import(args) => import(args).await,
        }
    })
}

impl Place {
    /// The folder, where one is named.
    fn open(&self) -> Result<Option<Arc<EmbeddedBus>>, Trouble> {
        let Some(folder) = &self.state else { return Ok(None) };
        // Opening would make a state folder of it; a misspelt path must not be found empty.
        if !folder.join("FORMAT").is_file() {
            return Err(Trouble::new(format!("{} is no state folder", folder.display())));
        }
        let options = EmbeddedOptions {
            folder: folder.clone(),
            settings: Settings::default().bus,
            clock: Arc::new(SystemClock),
            disk: Arc::new(SystemDisk),
        };
        EmbeddedBus::open(options).map(Some).map_err(|error| Trouble::new(error.to_string()))
    }
}

/// `shop/orders` as connector and stream.
fn split(name: &str) -> (&str, Option<&str>) {
    name.split_once('/').map_or((name, None), |(connector, stream)| (connector, Some(stream)))
}

/// A query's `?connector=…&stream=…`.
fn query(connector: Option<&str>, stream: Option<&str>) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in [("connector", connector), ("stream", stream)] {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    match query.finish() {
        empty if empty.is_empty() => empty,
        query => format!("?{query}"),
    }
}

async fn show(args: &Show) -> Outcome {
    let (connector, stream) = args.name.as_deref().map_or((None, None), |name| {
        let (connector, stream) = split(name);
        (Some(connector), stream)
    });
    let streams: Vec<StreamState> = if let Some(bus) = args.place.open()? {
        let streams = state::states(&*bus, connector, stream);
        bus.close().await;
        streams
    } else {
        let path = format!("/api/v1/state{}", query(connector, stream));
        args.place.daemon.get::<StateList>(&path).await?.streams
    };
    if args.json {
        render::json(&streams)?;
    } else {
        match &args.name {
            Some(name) if streams.is_empty() => {
                render::note(&format!("nothing is remembered of `{name}`"));
            }
            _ => render::text(&render::states(&streams))?,
        }
    }
    let is_damaged = streams.iter().any(|stream| stream.problem.is_some());
    Ok(if is_damaged { Exit::Findings } else { Exit::Fine })
}

async fn rewind(args: &RewindArgs) -> Outcome {
    let bus = args.place.open()?;
    let (connector, stream) = match (&bus, split(&args.stream)) {
        (_, (connector, Some(stream))) => (connector.to_owned(), stream.to_owned()),
        (None, _) => backfill::find(&args.place.daemon, &args.stream).await?,
        (Some(_), _) => return Err(Trouble::new("with --state the stream is CONNECTOR/STREAM")),
    };
    let to = match &args.to {
        Some(text) => {
            let time = when::parse(text, SystemClock.now());
            RewindTo::Value(time.map_or_else(|_| text.clone(), Timestamp::rfc3339))
        }
        None => RewindTo::Start,
    };
    let partition = args.partition.clone();
    let wanted = Rewind { connector, stream, partition, to, forward: args.forward };
    let rewound: Rewound = match bus {
        Some(bus) => {
            let done = match state::rewind(&*bus, &wanted) {
                Ok((writes, rewound)) => written(&*bus, writes).await.map(|()| rewound),
                Err(problem) => Err(problem),
            };
            bus.close().await;
            done.map_err(Trouble::new)?
        }
        None => args.place.daemon.post("/api/v1/state/rewind", &wanted).await?,
    };
    if args.json {
        render::json(&rewound)?;
    } else {
        render::text(&render::rewound(&wanted, &rewound))?;
    }
    Ok(if rewound.moved == 0 { Exit::Findings } else { Exit::Fine })
}

async fn written(bus: &dyn Bus, writes: StateWrites) -> Result<(), String> {
    write_state(bus, writes).await.map_err(|error| error.to_string())
}

async fn export(args: &Export) -> Outcome {
    let (connector, stream) = split(&args.name);
    let export: StateExport = if let Some(bus) = args.place.open()? {
        let export = state::export(&*bus, connector, stream);
        bus.close().await;
        export.map_err(Trouble::new)?
    } else {
        skeleton::check_name(connector).map_err(Trouble::new)?;
        let path = format!("/api/v1/state/{connector}{}", query(None, stream));
        args.place.daemon.get(&path).await?
    };
    render::json(&export)?;
    Ok(Exit::Fine)
}

async fn import(args: &Import) -> Outcome {
    let mut text = String::new();
    if args.file.as_os_str() == "-" {
        std::io::stdin().lock().read_to_string(&mut text)?;
    } else {
        text = fs::read_to_string(&args.file)
            .map_err(|error| Trouble::new(format!("{}: {error}", args.file.display())))?;
    }
    let mut export: StateExport = serde_json::from_str(&text).map_err(|error| {
        Trouble::new(format!(
            "{}: not what `tenon state export` writes: {error}",
            args.file.display()
        ))
    })?;
    if let Some(name) = &args.connector {
        export.connector.clone_from(name);
    }
    let entries = match args.place.open()? {
        Some(bus) => {
            let done = match state::import(&*bus, &export, args.replace) {
                Ok(writes) => {
                    let count = writes.len();
                    written(&*bus, writes).await.map(|()| count)
                }
                Err(problem) => Err(problem),
            };
            bus.close().await;
            done.map_err(Trouble::new)?
        }
        None => import_into(&args.place.daemon, &export, args.replace).await?,
    };
    let told = render::counted(entries as u64, "key");
    render::note(&format!("`{}`: {told} written", export.connector));
    Ok(Exit::Fine)
}

/// In parts, each of which is whole: an import that breaks off can be repeated.
async fn import_into(
    daemon: &Daemon,
    export: &StateExport,
    replace: bool,
) -> Result<usize, Trouble> {
    let mut written = 0;
    for entries in parts(&export.entries) {
        let state = StateExport { entries, ..export.clone_without_entries() };
        let body = ImportBody { state, replace };
        let Imported { entries } = daemon.post("/api/v1/state/import", &body).await?;
        written += entries;
    }
    Ok(written)
}

/// The entries in parts of about so many bytes of JSON, each at least one entry.
fn parts(entries: &BTreeMap<String, Value>) -> Vec<BTreeMap<String, Value>> {
    let (mut parts, mut bytes) = (Vec::<BTreeMap<_, _>>::new(), usize::MAX);
    for (key, value) in entries {
        let size = key.len() + value.to_string().len();
        if bytes.saturating_add(size) > PART_BYTES {
            parts.push(BTreeMap::new());
            bytes = 0;
        }
        bytes += size;
        parts.last_mut().expect("a part was begun").insert(key.clone(), value.clone());
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_bounded_by_their_bytes_and_hold_everything() {
        let entry =
            |number: usize, bytes| (format!("parent/{number:02}"), "x".repeat(bytes).into());
        let large = [entry(0, 2 * PART_BYTES)];
        let small = (1..10).map(|number| entry(number, PART_BYTES / 4));
        let entries: BTreeMap<String, Value> = large.into_iter().chain(small).collect();
        let parts = parts(&entries);
        assert_eq!(parts.iter().map(BTreeMap::len).collect::<Vec<_>>(), [1, 3, 3, 3]);
        assert_eq!(parts.into_iter().flatten().collect::<BTreeMap<_, _>>(), entries);
    }
}
