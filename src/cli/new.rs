//! `tenon new`: a connector to begin with, and a fixture and a test that prove it.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use url::Url;

use super::{
    Exit, Outcome, Trouble, render,
    skeleton::{self, Choices, Request, Target, parse_target, parse_url},
};
use crate::{
    definition::format::{FileKind, format},
    diagnostic::{Severity, SourceFile, render_human},
    engine::files::{FolderSources, project_root},
    plan::{Sources, compile_file},
    propose::{Evidence, Proposal, openapi, propose},
    testing,
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Asks for what is not given where there is a terminal. From a sample of the answer, or an OpenAPI\n\
                        document, it proposes records, key, revision, cursor, pages, credentials and map; every guess says\n\
                        why, and what deserves your eye is marked LOOK. The connector passes check and test as it is.\n\
                        Examples: tenon new shop --webhook github --to https://erp.example/orders\n\
                        \x20         tenon new shop --from-openapi api.json --path /orders"
)]
pub struct Args {
    /// The connector's name; the file will be NAME.toml
    #[arg(value_parser = skeleton::connector_name)]
    name: String,
    /// Take webhooks, verified by a preset: standard, stripe, github, shopify, ...; or none
    #[arg(long, value_name = "PRESET")]
    webhook: Option<String>,
    /// Poll this URL
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    poll: Option<Url>,
    /// Propose from a sample: what the polled URL answers, or what the webhook brings (JSON)
    #[arg(long, value_name = "FILE")]
    from_response: Option<PathBuf>,
    /// Propose from an OpenAPI 3 document (JSON)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["poll", "from_response"])]
    from_openapi: Option<PathBuf>,
    /// The path in the OpenAPI document whose GET is polled
    #[arg(long, value_name = "PATH", requires = "from_openapi")]
    path: Option<String>,
    /// Deliver to a URL, a file of JSON lines, or `stdout` [default: NAME.jsonl]
    #[arg(long, value_name = "TARGET", value_parser = parse_target)]
    to: Option<Target>,
    /// Who answers for it [default: your-team]
    #[arg(long, value_name = "TEAM")]
    owner: Option<String>,
    /// Write it into this folder
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Overwrite what is there
    #[arg(long)]
    force: bool,
}

pub fn run(args: Args) -> Outcome {
    let (dir, force) = (args.dir.clone(), args.force);
    let choices = choose(args)?;
    let plain = |path: PathBuf| path.strip_prefix(".").map(Path::to_owned).unwrap_or(path);
    let path = plain(dir.join(format!("{}.toml", choices.name)));
    let fixture = plain(dir.join(skeleton::fixture_path(&choices.name)));
    if !force && let Some(there) = [&path, &fixture].into_iter().find(|path| path.exists()) {
        let there = there.display();
        return Err(Trouble::new(format!("{there} exists already; --force overwrites it")));
    }
    let text = skeleton::connector(&choices);
    let record = serde_json::to_string_pretty(&skeleton::fixture(&choices))
        .map_err(|error| Trouble::new(error.to_string()))?;
    let mut drafted = Drafted::new([
        (path.clone(), format(&text, FileKind::Connector).unwrap_or(text)),
        (fixture.clone(), record + "\n"),
    ]);
    let problems = drafted.prove(&path);
    for (path, file) in &drafted.files {
        write(path, &file.text, force)?;
    }
    render::text(&format!("{}\n{}\n", path.display(), fixture.display()))?;
    say_what_is_next(&choices, &path, &dir, &drafted);
    if problems.is_empty() {
        return Ok(Exit::Fine);
    }
    render::note(problems.trim_end());
    Ok(Exit::Findings)
}

fn say_what_is_next(choices: &Choices, path: &Path, dir: &Path, drafted: &Drafted) {
    if choices.webhook.as_deref().is_some_and(|preset| preset != "none") {
        let secret = skeleton::secret_name(&choices.name);
        render::note(&format!("its secret is read from the environment: {secret}"));
    }
    let looks = drafted.files.get(path).map_or(0, |file| file.text.matches("# LOOK: ").count());
    if looks > 0 {
        let (places, path) = (render::counted(looks as u64, "place"), path.display());
        render::note(&format!("{places} to look at: grep -n LOOK {path}"));
    }
    render::note(&format!(
        "next: tenon check {0}; tenon test {0}; tenon try {0}; tenon run {1}",
        path.display(),
        dir.display()
    ));
}

fn choose(args: Args) -> Result<Choices, Trouble> {
    let Args {
        name,
        mut webhook,
        mut poll,
        from_response,
        from_openapi,
        path,
        mut to,
        mut owner,
        ..
    } = args;
    let operation = match &from_openapi {
        Some(file) => Some(
            openapi::read(&read(file)?, path.as_deref())
                .map_err(|error| Trouble::new(format!("{}: {error}", file.display())))?,
        ),
        None => None,
    };
    if webhook.is_none() && poll.is_none() && operation.is_none() {
        (webhook, poll) = ask_for_origin()?;
    }
    let file = format!("{name}.jsonl");
    if to.is_none() {
        let target = render::ask("deliver to (URL, file, stdout)?", Some(&file)).unwrap_or(file);
        to = Some(parse_target(&target).map_err(Trouble::new)?);
    }
    let team = "your-team";
    if owner.is_none() {
        owner = render::ask("who answers for it?", Some(team));
    }
    let (request, proposal, summary) = if let Some(operation) = operation {
        let proposal = propose(&operation.evidence)
            .map_err(|error| Trouble::new(format!("the document's answer: {error}")))?;
        let summary = operation.summary.clone().filter(|summary| !summary.is_empty());
        (Some(request_of(&operation, &proposal)), Some(proposal), summary)
    } else {
        let proposal = match &from_response {
            Some(file) => Some(from_sample(file, poll.as_ref())?),
            None => None,
        };
        (poll.as_ref().map(Request::of), proposal, None)
    };
    Ok(Choices {
        name,
        owner: owner.unwrap_or_else(|| team.to_owned()),
        summary,
        webhook,
        request,
        proposal,
        to: to.unwrap_or(Target::Stdout),
    })
}

fn ask_for_origin() -> Result<(Option<String>, Option<Url>), Trouble> {
    let Some(preset) = render::ask(
        "verify webhooks as (standard, stripe, github, shopify, slack or another preset; none; empty: no webhooks)?",
        None,
    ) else {
        return Err(Trouble::new(
            "say where events come from: --webhook PRESET, --poll URL, --from-openapi FILE",
        ));
    };
    let webhook = Some(preset).filter(|preset| !preset.is_empty());
    let url = render::ask("poll which URL (empty: none)?", None).unwrap_or_default();
    let poll = match url.as_str() {
        "" => None,
        url => Some(parse_url(url).map_err(Trouble::new)?),
    };
    if webhook.is_none() && poll.is_none() {
        return Err(Trouble::new("a connector needs a webhook or a poll"));
    }
    Ok((webhook, poll))
}

fn read(file: &Path) -> Result<String, Trouble> {
    fs::read_to_string(file).map_err(|error| Trouble::new(format!("{}: {error}", file.display())))
}

/// What a sample proposes. Where a URL is polled, its query says which parameters there are.
fn from_sample(file: &Path, poll: Option<&Url>) -> Result<Proposal, Trouble> {
    let text = read(file)?;
    let trouble = |error: String| Trouble::new(format!("{}: {error}", file.display()));
    let response =
        serde_json::from_str(&text).map_err(|error| trouble(format!("not JSON: {error}")))?;
    let topic = poll.and_then(|url| {
        let last = url.path_segments()?.rfind(|part| !part.is_empty())?;
        let last = last.trim_end_matches(".json");
        // An identifier names nothing.
        (!last.bytes().all(|byte| byte.is_ascii_digit())).then(|| last.to_owned())
    });
    propose(&Evidence { response, topic, ..Evidence::default() }).map_err(trouble)
}

/// The request of an operation: with the parameters that it is nothing without, except those that
/// paging and the cursor fill.
fn request_of(operation: &openapi::Operation, proposal: &Proposal) -> Request {
    let page = proposal.page.value.as_ref();
    let filled = [
        page.and_then(|page| page.param.as_deref()),
        page.and_then(|page| page.size_param.as_deref()),
        proposal.cursor.value.as_ref().and_then(|cursor| cursor.start_param.as_deref()),
    ];
    let needed: Vec<_> = operation
        .evidence
        .params
        .iter()
        .flatten()
        .filter(|param| param.required && !filled.contains(&Some(param.name.as_str())))
        .collect();
    Request {
        base: operation.base.clone().unwrap_or_else(|| "https://api.example".to_owned()),
        base_is_sure: operation.base.is_some(),
        path: operation.path.clone(),
        query: needed
            .iter()
            .map(|param| {
                (param.name.clone(), param.value.clone().unwrap_or_else(|| "value".to_owned()))
            })
            .collect(),
        query_is_sure: needed.is_empty(),
        vars: operation.vars.clone(),
    }
}

/// Files that are not written yet, before those on the disk.
struct Drafted {
    files: BTreeMap<PathBuf, Arc<SourceFile>>,
    disk: FolderSources,
}

impl Drafted {
    fn new(files: impl IntoIterator<Item = (PathBuf, String)>) -> Self {
        let mut drafted = Self { files: BTreeMap::new(), disk: FolderSources::new() };
        for (path, text) in files {
            drafted.put(path, text);
        }
        drafted
    }

    fn put(&mut self, path: PathBuf, text: String) {
        self.files.insert(path.clone(), Arc::new(SourceFile { path, text }));
    }

    /// Runs the connector's test, and lets it expect what comes. Gives what is wrong all the same.
    fn prove(&mut self, path: &PathBuf) -> String {
        let root = project_root(std::slice::from_ref(path));
        let run = |drafted: &Self| {
            testing::run(&root, std::slice::from_ref(path), drafted, &testing::Selection::default())
        };
        for (path, text) in testing::update(&run(self), self).files {
            let text = format(&text, FileKind::Connector).unwrap_or(text);
            self.put(path, text);
        }
        let mut found = compile_file(&root, path, self).diagnostics;
        found.retain(|found| found.severity > Severity::Notice);
        let mut problems = render_human(&found, render::stderr_is_styled());
        let report = run(self);
        if !report.is_fine() && found.is_empty() {
            problems.push_str(&testing::human(&report, render::stderr_is_styled()));
        }
        problems
    }
}

impl Sources for Drafted {
    fn read(&self, path: &Path) -> Option<Arc<SourceFile>> {
        self.files.get(path).cloned().or_else(|| self.disk.read(path))
    }
}

/// Never over a file that exists, unless somebody insists.
fn write(path: &Path, text: &str, force: bool) -> Result<(), Trouble> {
    let done = || {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        let mut options = OpenOptions::new();
        options.write(true);
        if force {
            options.create(true).truncate(true)
        } else {
            options.create_new(true)
        };
        options.open(path)?.write_all(text.as_bytes())
    };
    done().map_err(|error: io::Error| Trouble::new(format!("{}: {error}", path.display())))
}
