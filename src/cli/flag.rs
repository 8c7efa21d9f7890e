//! `tenon flag`: settings that win over the files at run time, and who set them.

use clap::Subcommand;

use super::{Exit, Outcome, Trouble, block_on, client::Daemon, render, who};
use crate::{
    admin::api::{FlagList, RolloutLog},
    engine::{FlagChange, FlagStatus},
    world::{Clock as _, SystemClock},
};

#[derive(Debug, clap::Args)]
#[command(
    disable_help_subcommand = true,
    after_help = "FLAG: NAME.share (of a canary: 25%) or NAME.mode (live or off; of a variant shadow, canary or off).\n\
                        NAME is the connector, or the original of its canary: `shop.share` is that of shop's canary.\n\
                        A flag wins over the file until it is unset. Setting one lets a halted canary go on."
)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the flags that are set, and those of variants
    List(List),
    /// Print what holds: the flag, or what the file says
    Get(Get),
    /// Set a flag, from now on
    Set(Set),
    /// Let the file decide again
    Unset(Unset),
    /// Show who changed what, newest first
    Log(Log),
}

#[derive(Debug, clap::Args)]
struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Debug, clap::Args)]
struct Get {
    /// NAME.share or NAME.mode
    flag: String,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Debug, clap::Args)]
struct Set {
    /// NAME.share or NAME.mode
    flag: String,
    /// What shall hold: 25%, off, …
    value: String,
    /// Why, for the log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Debug, clap::Args)]
struct Unset {
    /// NAME.share or NAME.mode
    flag: String,
    /// Why, for the log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Debug, clap::Args)]
struct Log {
    /// Only this connector
    connector: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

pub fn run(args: Args) -> Outcome {
    match args.verb {
        Verb::List(args) => list(&args),
        Verb::Get(args) => get(&args),
        Verb::Set(args) => change(&args.daemon, args.flag, Some(args.value), args.reason),
        Verb::Unset(args) => change(&args.daemon, args.flag, None, args.reason),
        Verb::Log(args) => log(&args),
    }
}

fn flags(daemon: &Daemon) -> Result<FlagList, Trouble> {
    block_on(async { Ok(daemon.get("/api/v1/flags").await?) })
}

fn list(args: &List) -> Outcome {
    let list = flags(&args.daemon)?;
    if args.json {
        render::json(&list.flags)?;
    } else {
        render::text(&render::flags(&list.flags, SystemClock.now()))?;
    }
    Ok(Exit::Fine)
}

fn get(args: &Get) -> Outcome {
    let flags = flags(&args.daemon)?.flags;
    let wanted = &args.flag;
    let is_of = |flag: &&FlagStatus| {
        let setting = flag.flag.rsplit('.').next().unwrap_or_default();
        flag.of.as_ref().is_some_and(|of| format!("{of}.{setting}") == *wanted)
    };
    let named = flags.iter().find(|flag| flag.flag == *wanted);
    let mut variants = flags.iter().filter(is_of);
    // The original's name stands for that of its only variant.
    let only = variants.next().filter(|_| variants.next().is_none());
    let Some(found) = named.or(only).cloned() else {
        let message = format!("no flag `{wanted}`: `tenon flag list` shows those there are");
        return Err(Trouble::new(message));
    };
    render::text(&format!("{}\n", found.value.or(found.file).unwrap_or_default()))?;
    Ok(Exit::Fine)
}

fn change(daemon: &Daemon, flag: String, value: Option<String>, reason: Option<String>) -> Outcome {
    let change = FlagChange { flag, value, by: who::user(), why: reason };
    let done: FlagStatus = block_on(async { Ok(daemon.post("/api/v1/flags", &change).await?) })?;
    let file = done.file.unwrap_or_default();
    render::note(&match done.value {
        Some(value) => format!("{} is {value} (its file says {file})", done.flag),
        None => format!("{} is {file}, as its file says", done.flag),
    });
    Ok(Exit::Fine)
}

fn log(args: &Log) -> Outcome {
    let mut log: RolloutLog = block_on(async { Ok(args.daemon.get("/api/v1/flags/log").await?) })?;
    if let Some(name) = &args.connector {
        log.entries.retain(|entry| entry.connector == *name);
    }
    if args.json {
        render::json(&log.entries)?;
    } else {
        render::text(&render::rollout_log(&log.entries))?;
    }
    Ok(Exit::Fine)
}
