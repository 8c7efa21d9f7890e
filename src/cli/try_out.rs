//! `tenon try`: one record, or one poll's first page, through name, map and schema; the requests
//! that would be sent, and nothing sent.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::de::IgnoredAny;

use super::{
    Exit, Outcome, Trouble, block_on,
    preview::{Preview, Tried},
    render, settings,
    when::short,
};
use crate::{
    auth::Authenticator,
    bus::MemoryBus,
    diagnostic::{Severity, render_human},
    egress::{Cidr, Egress, EgressConfig},
    engine::files::{FolderSources, project_root},
    event::{Origin, Record},
    ingest::poll::{Poller, Sampled, Source},
    map::Env,
    plan::{ConnectorPlan, PollPlan, StreamPlan, compile_file},
    world::{FolderSecrets, SystemClock, SystemEntropy, World},
};

/// A sample is a record, not an export.
const MAX_SAMPLE_BYTES: u64 = 16 << 20;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "With --event no network is touched; without it the stream's poll makes one request (of a\n\
                        job as many as it takes), and no cursor moves. Credentials and fields that the stream redacts show as [redacted].\n\
                        Exit code 1: the file has errors, or some record does not get through."
)]
pub struct Args {
    /// The connector
    file: PathBuf,
    /// Which stream, where the connector has several
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// Use this record (JSON; `-` reads stdin) and do not poll
    #[arg(long, value_name = "FILE")]
    event: Option<PathBuf>,
    /// Show at most so many records of the poll
    #[arg(long, value_name = "N", default_value_t = 3, conflicts_with = "event")]
    max: usize,
    /// Settings, for secrets and egress [default: the project's tenon.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Let the poll reach this private range (repeatable)
    #[arg(long, value_name = "CIDR")]
    allow_egress: Vec<Cidr>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    let Some(connector) = compile(&args.file)? else { return Ok(Exit::Findings) };
    let stream = pick(&connector, args.stream.as_deref())?;
    let preview = Preview::new(&connector, stream.clone()).map_err(Trouble::new)?;
    let tried = block_on(async {
        let (records, origin) = match &args.event {
            Some(file) => (vec![sample(file)?], origin_of(&stream)),
            None => (poll(args, &connector, &stream).await?, Origin::Poll),
        };
        let mut tried = Vec::with_capacity(records.len());
        for Sampled { record, env } in records {
            tried.push(preview.of(record, env, origin).await);
        }
        Ok(tried)
    })?;
    if args.json {
        render::json(&tried)?;
    } else {
        render::text(&render::tried(&tried))?;
    }
    if tried.is_empty() {
        render::note("the poll found no records");
    }
    let is_fine = |tried: &Tried| matches!(tried.outcome, "delivered" | "filtered");
    Ok(if tried.iter().all(is_fine) { Exit::Fine } else { Exit::Findings })
}

/// The plan, or `None` where there is none, with everything that is to be said about it on stderr.
fn compile(file: &Path) -> Result<Option<Arc<ConnectorPlan>>, Trouble> {
    // For a message of the system's own, where there is no such file.
    std::fs::metadata(file)
        .map_err(|error| Trouble::new(format!("{}: {error}", file.display())))?;
    let root = project_root(&[file.to_owned()]);
    let compiled = compile_file(&root, file, &FolderSources::new());
    if !compiled.diagnostics.is_empty() {
        let text = render_human(&compiled.diagnostics, render::stderr_is_styled());
        render::note(text.trim_end());
    }
    if compiled.plan.is_none()
        && !compiled.diagnostics.iter().any(|found| found.severity == Severity::Error)
    {
        return Err(Trouble::new(
            "a connector without a destination runs only through an instance that `use`s it; try that",
        ));
    }
    Ok(compiled.plan)
}

fn pick(connector: &ConnectorPlan, name: Option<&str>) -> Result<Arc<StreamPlan>, Trouble> {
    let names = || {
        let names: Vec<_> =
            connector.streams.iter().map(|stream| format!("`{}`", stream.name)).collect();
        names.join(", ")
    };
    match (name, connector.streams.as_slice()) {
        (None, [only]) => Ok(only.clone()),
        (None, _) => Err(Trouble::new(format!("say which stream with --stream: {}", names()))),
        (Some(name), streams) => streams
            .iter()
            .find(|stream| &*stream.name == name)
            .cloned()
            .ok_or_else(|| Trouble::new(format!("no stream `{name}`; there is {}", names()))),
    }
}

fn origin_of(stream: &StreamPlan) -> Origin {
    if stream.webhook.is_some() { Origin::Webhook } else { Origin::Poll }
}

fn sample(file: &Path) -> Result<Sampled, Trouble> {
    let named =
        |error: &dyn std::fmt::Display| Trouble::new(format!("{}: {error}", file.display()));
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(MAX_SAMPLE_BYTES).read_to_string(&mut text)
    } else {
        std::fs::File::open(file)
            .and_then(|file| file.take(MAX_SAMPLE_BYTES).read_to_string(&mut text))
    };
    read.map_err(|error| named(&error))?;
    let text = text.trim();
    // The parser says where the text stops being JSON.
    let _: IgnoredAny = serde_json::from_str(text).map_err(|error| named(&error))?;
    let record =
        Record::parse(text.to_owned().into(), usize::MAX).map_err(|error| named(&error))?;
    Ok(Sampled { record, env: Env::new() })
}

async fn poll(
    args: &Args,
    connector: &Arc<ConnectorPlan>,
    stream: &Arc<StreamPlan>,
) -> Result<Vec<Sampled>, Trouble> {
    let plan = stream.poll.as_ref().ok_or_else(|| {
        let name = &stream.name;
        Trouble::new(format!("stream `{name}` does not poll: give a sample with --event FILE"))
    })?;
    if spends_a_refresh_token(connector, plan) {
        return Err(Trouble::new(
            "this poll's credentials are a refresh token that each use may replace, and the daemon \
             would be left with the old one: give a sample with --event FILE",
        ));
    }
    if let Some(job) = &plan.job {
        let within = short(job.within);
        render::note(&format!(
            "the poll creates a job at the API, and waits for it: {within} at most"
        ));
    }
    let found = settings::find(std::slice::from_ref(&args.file), args.config.as_deref())?.settings;
    let world = World {
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy::new()),
        secrets: Arc::new(FolderSecrets::new(found.secrets)),
    };
    let mut allow = found.egress.allow;
    allow.extend(&args.allow_egress);
    let egress = Egress::new(EgressConfig { allow, idle_per_host: 1 });
    let bus = MemoryBus::new(world.clock.clone());
    let auth = Arc::new(Authenticator::new(world.clone(), egress.clone(), bus.clone()));
    let poller = Poller {
        connector: connector.clone(),
        stream: stream.clone(),
        world,
        egress,
        auth,
        bus,
        source: Arc::new(Source::new(&plan.rate)),
        tenants: Arc::default(),
        skew: Arc::default(),
    };
    let sampled = poller.sample(args.max).await;
    sampled.map_err(|failure| Trouble::new(failure.message()))
}

fn spends_a_refresh_token(connector: &ConnectorPlan, poll: &PollPlan) -> bool {
    let auth = poll.auth.as_ref().and_then(|name| connector.auths.get(name));
    auth.is_some_and(|auth| auth.rotates())
}
