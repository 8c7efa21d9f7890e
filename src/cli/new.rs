//! `tenon new`: a connector to begin with.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use url::Url;

use super::{
    Exit, Outcome, Trouble, render,
    skeleton::{self, Choices, Target, check_name, parse_target, parse_url},
};

#[derive(Debug, clap::Args)]
#[command(after_help = "Asks for what is not given where there is a terminal.\n\
                        Example: tenon new shop --webhook github --to https://erp.example/orders")]
pub struct Args {
    /// The connector's name; the file will be NAME.toml
    #[arg(value_parser = |name: &str| check_name(name).map(|()| name.to_owned()))]
    name: String,
    /// Take webhooks, verified so: standard, stripe, github, shopify, slack, none
    #[arg(long, value_name = "PRESET")]
    webhook: Option<String>,
    /// Poll this URL
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    poll: Option<Url>,
    /// Deliver to a URL, a file of JSON lines, or `stdout` [default: NAME.jsonl]
    #[arg(long, value_name = "TARGET", value_parser = parse_target)]
    to: Option<Target>,
    /// Write it into this folder
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

pub fn run(args: Args) -> Outcome {
    let dir = args.dir.clone();
    let choices = choose(args)?;
    let path = dir.join(format!("{}.toml", choices.name));
    let path = path.strip_prefix(".").map(Path::to_owned).unwrap_or(path);
    write_new(&path, &skeleton::connector(&choices))?;
    render::text(&format!("{}\n", path.display()))?;
    if choices.webhook.as_deref().is_some_and(|preset| preset != "none") {
        let secret = skeleton::secret_name(&choices.name);
        render::note(&format!("its secret is read from the environment: {secret}"));
    }
    render::note(&format!(
        "next: tenon check {0}; tenon try {0}; tenon run {1}",
        path.display(),
        dir.display()
    ));
    Ok(Exit::Fine)
}

fn choose(args: Args) -> Result<Choices, Trouble> {
    let Args { name, mut webhook, mut poll, mut to, dir: _ } = args;
    if webhook.is_none() && poll.is_none() {
        let Some(preset) = render::ask(
            "verify webhooks as (standard, stripe, github, shopify, slack, none; empty: no webhooks)?",
            None,
        ) else {
            return Err(Trouble::new(
                "say where events come from: --webhook PRESET, --poll URL, or both",
            ));
        };
        webhook = Some(preset).filter(|preset| !preset.is_empty());
        let url = render::ask("poll which URL (empty: none)?", None).unwrap_or_default();
        if !url.is_empty() {
            poll = Some(parse_url(&url).map_err(Trouble::new)?);
        }
        if webhook.is_none() && poll.is_none() {
            return Err(Trouble::new("a connector needs a webhook or a poll"));
        }
    }
    let file = format!("{name}.jsonl");
    if to.is_none() {
        let target = render::ask("deliver to (URL, file, stdout)?", Some(&file)).unwrap_or(file);
        to = Some(parse_target(&target).map_err(Trouble::new)?);
    }
    let to = to.unwrap_or(Target::Stdout);
    Ok(Choices { name, webhook, poll, to })
}

/// Never over a file that exists.
fn write_new(path: &Path, text: &str) -> Result<(), Trouble> {
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| {
        Trouble::new(match error.kind() {
            io::ErrorKind::AlreadyExists => format!("{} exists already", path.display()),
            _ => format!("{}: {error}", path.display()),
        })
    })
}
