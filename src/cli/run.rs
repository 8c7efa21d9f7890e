//! `tenon run`: the daemon.

use std::{io::IsTerminal as _, net::SocketAddr, path::PathBuf, sync::Arc};

use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
};

use super::{
    Exit, Outcome, Trouble, render,
    settings::{self, Found},
};
use crate::{
    admin,
    egress::Cidr,
    engine::{Engine, EngineOptions},
    observe::log,
    plan::{BusKind, Settings},
    world::{FolderSecrets, SystemClock, SystemEntropy, World},
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Flags win over tenon.toml, which is looked for beside the connectors and in the folders\n\
                        above them; `tenon schema --config` prints one.\n\
                        SIGHUP reloads; SIGTERM and Ctrl-C stop in order, a second one at once."
)]
pub struct Args {
    /// Folders and files with connectors
    #[arg(value_name = "DIR", required = true)]
    paths: Vec<PathBuf>,
    /// The runtime's settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder for journal and state [default: ./state]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Take webhooks here [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Serve the admin API here, loopback only [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,
    /// Let connectors reach this private range (repeatable)
    #[arg(long, value_name = "CIDR")]
    allow_egress: Vec<Cidr>,
    /// Log as json or as text [default: json; on a terminal without tenon.toml text]
    #[arg(long, value_name = "FORMAT", hide_possible_values = true)]
    log_format: Option<LogFormat>,
    /// error, warn, info, debug, trace, or directives (`tenon=debug,hyper=info`)
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Keep the bus in memory: nothing is durable
    #[arg(long)]
    memory: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum LogFormat {
    Json,
    Text,
}

pub fn run(args: Args) -> Outcome {
    // The engine waits for connectors that are yet to come; a misspelt folder would wait for ever.
    for path in &args.paths {
        std::fs::metadata(path)
            .map_err(|error| Trouble::new(format!("{}: {error}", path.display())))?;
    }
    let settings = settings(&args)?;
    admin::check_address(settings.admin).map_err(Trouble::new)?;
    log::install(&settings.log).map_err(Trouble::new)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let exit = runtime.block_on(serve(args.paths, settings));
    // After a second signal laggards are not waited for.
    runtime.shutdown_background();
    exit
}

/// Defaults, then tenon.toml, then flags.
fn settings(args: &Args) -> Result<Settings, Trouble> {
    let Found { mut settings, file } = settings::find(&args.paths, args.config.as_deref())?;
    if file.is_none() && std::io::stderr().is_terminal() {
        settings.log.json = false;
    }
    apply_flags(&mut settings, args);
    Ok(settings)
}

fn apply_flags(settings: &mut Settings, args: &Args) {
    if let Some(state) = &args.state {
        settings.state.clone_from(state);
    }
    settings.listen = args.listen.unwrap_or(settings.listen);
    settings.admin = args.admin.unwrap_or(settings.admin);
    settings.egress.allow.extend(&args.allow_egress);
    settings.log.json = args.log_format.map_or(settings.log.json, |f| f == LogFormat::Json);
    if let Some(level) = &args.log_level {
        settings.log.level.clone_from(level);
    }
    if args.memory {
        settings.bus.kind = BusKind::Memory;
    }
}

async fn serve(paths: Vec<PathBuf>, settings: Settings) -> Outcome {
    // Signals first: one that comes during a long start must not be lost.
    let mut signals = Signals::new()?;
    let admin = TcpListener::bind(settings.admin)
        .await
        .map_err(|error| Trouble::new(format!("cannot listen on {}: {error}", settings.admin)))?;
    let admin_address = admin.local_addr()?;
    let is_memory = settings.bus.kind == BusKind::Memory;
    let world = World {
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy::new()),
        secrets: Arc::new(FolderSecrets::new(settings.secrets.clone())),
    };
    let starting = Engine::start(EngineOptions { paths, settings, world });
    let engine = tokio::select! {
        engine = starting => engine.map_err(|error| Trouble::new(error.0))?,
        () = signals.stopped() => return Ok(Exit::Interrupted),
    };
    let served = engine.clone();
    engine.attach("admin API", |stop| admin::serve(served, admin, stop));
    greet(&engine, admin_address, is_memory);
    while signals.next().await == Asked::Reload {
        engine.reload().await;
    }
    tokio::select! {
        late = engine.shutdown() => {
            if !late.is_empty() {
                render::note(&format!("late, and left behind: {}", late.join(", ")));
            }
            Ok(Exit::Fine)
        }
        () = signals.stopped() => Ok(Exit::Interrupted),
    }
}

fn greet(engine: &Engine, admin: SocketAddr, is_memory: bool) {
    let listen = engine.listen_address();
    tracing::info!(%listen, %admin, "listening");
    if is_memory {
        tracing::warn!("the bus is in memory: nothing is durable, a stop loses every event");
    }
    if !std::io::stderr().is_terminal() {
        return;
    }
    let connectors = engine.status().connectors;
    let troubled = connectors.iter().filter(|connector| connector.state != "running").count();
    let troubled = if troubled > 0 { format!(", {troubled} in trouble") } else { String::new() };
    let connectors = render::counted(connectors.len() as u64, "connector");
    render::note(&format!(
        "tenon: {connectors}{troubled}; webhooks on http://{listen}, admin API on http://{admin} \
         (`tenon status`); Ctrl-C stops"
    ));
    if is_memory {
        render::note("tenon: NOTHING IS DURABLE: --memory keeps events in memory only");
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Reload,
    Stop,
}

struct Signals {
    hang_up: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hang_up: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hang_up.recv() => Asked::Reload,
        }
    }

    async fn stopped(&mut self) {
        while self.next().await != Asked::Stop {}
    }
}
