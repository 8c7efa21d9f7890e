//! `tenon test --record`: a live poll, a captured webhook or an event of the daemon's history becomes
//! a test with its fixtures.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::Value;

use super::{Exit, Outcome, Trouble, block_on, client::Daemon, render, settings};
use crate::{
    admin::api::{BodyView, TraceView},
    diagnostic::{Severity, render_human},
    egress::{Cidr, Egress, EgressConfig},
    engine::files::{FolderSources, project_root},
    event::EventId,
    plan::{self, ConnectorPlan, Settings, StreamPlan, Written},
    testing::record::{self, Options, Source},
    world::{Clock as _, FolderSecrets, Secrets, SystemClock, SystemEntropy, World},
};

/// A capture is one request.
const MAX_CAPTURE_BYTES: u64 = 16 << 20;

#[derive(Debug, clap::Args)]
pub struct RecordArgs {
    /// Make a test of something real: of one live poll, or of what --from or --event names
    #[arg(long, conflicts_with_all = ["update", "filter", "format", "jobs"])]
    pub record: bool,
    /// Which stream, where the connector has several
    #[arg(long, value_name = "NAME", requires = "record")]
    stream: Option<String>,
    /// What the test is called
    #[arg(long, value_name = "TEXT", requires = "record")]
    name: Option<String>,
    /// A captured request (request line, headers, empty line, body) or a JSON record; `-` reads stdin
    #[arg(long, value_name = "FILE", requires = "record")]
    from: Option<PathBuf>,
    /// An event of a running daemon's history
    #[arg(long, value_name = "EVENT", requires = "record", conflicts_with = "from")]
    event: Option<String>,
    /// Keep at most so many records of a poll that goes on and on
    #[arg(
        long,
        value_name = "N",
        requires = "record",
        default_value_t = 3,
        hide_default_value = true
    )]
    max: usize,
    /// Settings, for secrets and egress of the live poll [default: the project's tenon.toml]
    #[arg(long, value_name = "FILE", requires = "record")]
    config: Option<PathBuf>,
    /// Let the live poll reach this private range (repeatable)
    #[arg(long, value_name = "CIDR", requires = "record")]
    allow_egress: Vec<Cidr>,
    #[command(flatten)]
    daemon: Daemon,
}

pub fn run(args: &RecordArgs, paths: &[PathBuf]) -> Outcome {
    let [file] = paths else {
        return Err(Trouble::new("--record takes one connector file"));
    };
    let kind = std::fs::metadata(file)
        .map_err(|error| Trouble::new(format!("{}: {error}", file.display())))?;
    if !kind.is_file() {
        return Err(Trouble::new("--record takes one connector file"));
    }
    let root = project_root(paths);
    let sources = FolderSources::new();
    let written = plan::read(&root, file, &sources);
    let Some(plan) = compiled(&written)? else { return Ok(Exit::Findings) };
    let text = written.texts.first().ok_or_else(|| Trouble::new("the file cannot be read"))?;
    let settings = settings::find(paths, args.config.as_deref())?.settings;
    let secrets = FolderSecrets::new(settings.secrets.clone());
    let (source, stream) = source(args, &plan, &settings, &secrets)?;
    let known = plan.secrets_used.iter().filter_map(|name| secrets.get(name));
    let options = Options {
        stream,
        name: args.name.clone(),
        now: SystemClock.now(),
        secrets: known.map(|secret| secret.expose().to_owned()).collect(),
    };
    let made = record::recording(&root, text, &plan, source, &options, &sources);
    write(file, &made.map_err(Trouble::new)?)?;
    Ok(Exit::Fine)
}

/// The plan, or `None` where the file has errors, which are on stderr then.
fn compiled(written: &Written) -> Result<Option<Arc<ConnectorPlan>>, Trouble> {
    let diagnostics = &written.compiled.diagnostics;
    if diagnostics.iter().any(|found| found.severity == Severity::Error) {
        render::note(render_human(diagnostics, render::stderr_is_styled()).trim_end());
        return Ok(None);
    }
    match &written.compiled.plan {
        Some(plan) => Ok(Some(Arc::clone(plan))),
        None => Err(Trouble::new(
            "this connector runs only through an instance that `use`s it; record there",
        )),
    }
}

/// What is recorded, and the stream that it is of.
fn source(
    args: &RecordArgs,
    plan: &Arc<ConnectorPlan>,
    settings: &Settings,
    secrets: &FolderSecrets,
) -> Result<(Source, Arc<str>), Trouble> {
    if let Some(event) = &args.event {
        return from_history(args, event, plan);
    }
    let stream = pick(args, plan)?;
    let name = Arc::clone(&stream.name);
    let Some(from) = &args.from else {
        return live(args, plan, &stream, settings, secrets).map(|source| (source, name));
    };
    let bytes = read(from)?;
    if let Some(captured) = record::captured(&bytes) {
        if stream.webhook.is_none() {
            return Err(Trouble::new(format!("stream `{name}` takes no webhooks")));
        }
        return Ok((Source::Webhook(Box::new(captured)), name));
    }
    let record: Value = serde_json::from_slice(&bytes).map_err(|error| {
        Trouble::new(format!(
            "{}: neither a request (`POST /path HTTP/1.1`, headers, an empty line, the body) nor \
             JSON: {error}",
            from.display()
        ))
    })?;
    Ok((Source::Record(record), name))
}

/// The stream that was named, or the only one there is for this.
fn pick(args: &RecordArgs, plan: &ConnectorPlan) -> Result<Arc<StreamPlan>, Trouble> {
    let fits = |stream: &&Arc<StreamPlan>| match (&args.stream, &args.from) {
        (Some(name), _) => *name == *stream.name,
        (None, None) => stream.poll.is_some(),
        (None, Some(_)) => true,
    };
    let mut fitting = plan.streams.iter().filter(fits);
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => Ok(Arc::clone(only)),
        (first, _) => {
            let names: Vec<_> = plan.streams.iter().map(|s| format!("`{}`", s.name)).collect();
            let what =
                if first.is_some() { "say which stream with --stream" } else { "no such stream" };
            Err(Trouble::new(format!("{what}: there is {}", names.join(", "))))
        }
    }
}

fn read(from: &Path) -> Result<Vec<u8>, Trouble> {
    let mut bytes = Vec::new();
    let read = if from == Path::new("-") {
        std::io::stdin().lock().take(MAX_CAPTURE_BYTES).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(from).and_then(|f| f.take(MAX_CAPTURE_BYTES).read_to_end(&mut bytes))
    };
    read.map_err(|error| Trouble::new(format!("{}: {error}", from.display())))?;
    Ok(bytes)
}

fn live(
    args: &RecordArgs,
    plan: &Arc<ConnectorPlan>,
    stream: &Arc<StreamPlan>,
    settings: &Settings,
    secrets: &FolderSecrets,
) -> Result<Source, Trouble> {
    let Some(poll) = &stream.poll else {
        return Err(Trouble::new(format!(
            "stream `{}` does not poll: give a captured webhook with --from, or an event with --event",
            stream.name
        )));
    };
    let auth = poll.auth.as_ref().and_then(|name| plan.auths.get(name));
    if auth.is_some_and(|auth| auth.rotates()) {
        return Err(Trouble::new(
            "this poll's credentials are a refresh token that each use may replace, and the daemon \
             would be left with the old one: record an event with --event",
        ));
    }
    let world = World {
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy::new()),
        secrets: Arc::new(secrets.clone()),
    };
    let mut allow = settings.egress.allow.clone();
    allow.extend(&args.allow_egress);
    let network = Egress::new(EgressConfig { allow, idle_per_host: 1 });
    block_on(async {
        record::poll(plan, stream, world, network, args.max).await.map_err(Trouble::new)
    })
}

/// The daemon masks what it shows, so a record of its history is masked twice.
fn from_history(
    args: &RecordArgs,
    event: &str,
    plan: &ConnectorPlan,
) -> Result<(Source, Arc<str>), Trouble> {
    let id: EventId = event.parse().map_err(|_| {
        Trouble::new(format!(
            "`{event}` is no event's id: expected `evt_` and 26 letters and digits"
        ))
    })?;
    let path = format!("/api/v1/events/{id}?body=1");
    let view: TraceView = block_on(async { Ok(args.daemon.get(&path).await?) })?;
    let run = view.runs.into_iter().next_back();
    let run = run.ok_or_else(|| Trouble::new(format!("no event {id}")))?;
    if run.event.connector != *plan.name {
        return Err(Trouble::new(format!(
            "{id} is an event of the connector `{}`, not of `{}`",
            run.event.connector, plan.name
        )));
    }
    match run.body {
        Some(BodyView::Record(record)) => {
            Ok((Source::Record(record), Arc::from(run.event.stream.as_str())))
        }
        Some(BodyView::Withheld(why)) => Err(Trouble::new(why)),
        None => Err(Trouble::new("the daemon does not show the record")),
    }
}

/// Fixtures first: a test without its fixture fails, a fixture without its test is only a file.
fn write(file: &Path, made: &record::Recording) -> Result<(), Trouble> {
    let named =
        |path: &Path, error: &std::io::Error| Trouble::new(format!("{}: {error}", path.display()));
    for (path, text) in &made.files {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| named(folder, &error))?;
        }
        std::fs::write(path, text).map_err(|error| named(path, &error))?;
        render::note(&format!("wrote {}", path.display()));
    }
    std::fs::write(file, &made.text).map_err(|error| named(file, &error))?;
    let masked = match made.masked {
        0 => "nothing was masked".to_owned(),
        count => format!("{} masked", render::counted(count as u64, "value")),
    };
    render::note(&format!(
        "added the test \"{}\" to {}; {masked}: look through both before you commit them",
        made.name,
        file.display()
    ));
    Ok(())
}
