//! `tenon schema`: what an editor needs to complete and check the two kinds of file, and what people
//! need to evolve canonical models.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Value, json};

use super::{Exit, Outcome, Trouble, render, subjects::Subjects};
use crate::{
    definition::{json_schema, presets::SCHEMAS, settings_json_schema, table::Loc},
    document::{self, Subject},
    map::Schema,
    model::{Change, Class, Misfit, Model, compare, misfits, provenance},
};

/// tenon.toml with every setting, its default and what it does.
const DEFAULT_CONFIG: &str = include_str!("tenon.default.toml");

#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    after_help = "Editors find a schema by a connector's first line: `#:schema connector.schema.json`."
)]
pub struct Args {
    /// Print tenon.toml with every setting, its default and what it does
    #[arg(long, conflicts_with = "settings")]
    config: bool,
    /// Print the JSON Schema of tenon.toml
    #[arg(long)]
    settings: bool,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print a canonical model field by field, or its JSON Schema
    Show(Show),
    /// Say what a new version of a model changes, and whom it breaks
    Diff(Diff),
}

#[derive(Debug, clap::Args)]
struct Show {
    /// A file, or the name of a built-in model (`order.v1`); without it the built-in ones are listed
    model: Option<String>,
    /// Print the JSON Schema
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Producers write records, which must satisfy the schema; consumers read them, and ignore fields that\n\
                        they do not know. What cannot be decided (two patterns, say) is taken to break both.\n\
                        Exit code 1: something breaks."
)]
struct Diff {
    /// The old version: a file, or the name of a built-in model (`order.v1`)
    old: String,
    /// The new version
    new: String,
    /// Also say which connectors of this folder it breaks
    #[arg(long, value_name = "DIR")]
    connectors: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    match &args.verb {
        Some(Verb::Show(args)) => return show(args),
        Some(Verb::Diff(args)) => return diff(args),
        None => {}
    }
    match (args.config, args.settings) {
        (true, _) => render::text(DEFAULT_CONFIG)?,
        (_, true) => render::json(&settings_json_schema())?,
        _ => render::json(&json_schema())?,
    }
    Ok(Exit::Fine)
}

/// A model's schema, as a file or a built-in one has it.
struct Read {
    /// As connectors name it.
    name: String,
    document: Value,
}

fn read(given: &str) -> Result<Read, Trouble> {
    let path = Path::new(given);
    let built_in =
        SCHEMAS.iter().find(|(known, _)| *known == given).map(|(_, text)| (*text).to_owned());
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => built_in.ok_or_else(|| {
            let known: Vec<&str> = SCHEMAS.iter().map(|(name, _)| *name).collect();
            Trouble::new(format!("{given}: {error}; built in are {}", known.join(", ")))
        })?,
    };
    let document: Value = serde_json::from_str(&text)
        .map_err(|error| Trouble::new(format!("{given} is not JSON: {error}")))?;
    Schema::compile(given, &document)
        .map_err(|problem| Trouble::new(format!("{given} is no JSON Schema: {problem}")))?;
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let is_built_in = SCHEMAS.iter().any(|(known, _)| *known == given);
    let name =
        if is_built_in { given.to_owned() } else { stem.unwrap_or_else(|| given.to_owned()) };
    let name = document["$id"].as_str().filter(|id| !id.contains('/')).map_or(name, str::to_owned);
    Ok(Read { name, document })
}

fn show(args: &Show) -> Outcome {
    let Some(given) = &args.model else {
        for (name, text) in SCHEMAS {
            let document: Value = serde_json::from_str(text).unwrap_or_default();
            let about = document["description"].as_str().unwrap_or_default();
            render::text(&format!("{name}  {about}\n"))?;
        }
        return Ok(Exit::Fine);
    };
    let read = read(given)?;
    if args.json {
        render::json(&read.document)?;
    } else {
        let model = Model::new(&read.name, &read.document);
        render::text(&document::markdown(&document::model(&model, 1)))?;
    }
    Ok(Exit::Fine)
}

/// What a new version does to a stream.
struct Broken {
    connector: String,
    stream: String,
    /// `shop.toml:57:1`.
    place: String,
    misfit: Misfit,
}

fn diff(args: &Diff) -> Outcome {
    let (old, new) = (read(&args.old)?, read(&args.new)?);
    let changes = compare(&old.document, &new.document);
    let broken = match &args.connectors {
        None => Vec::new(),
        Some(folder) => {
            let subjects = Subjects::read(std::slice::from_ref(folder))?;
            let Some(subjects) = subjects.compiled()? else { return Ok(Exit::Findings) };
            subjects.iter().flat_map(|subject| broken(subject, &old, &new)).collect()
        }
    };
    let worst = changes.iter().map(|change| change.class).max();
    if args.json {
        render::json(&as_json(worst, &changes, &broken))?;
    } else {
        render::text(&render::schema_diff(&old.name, &new.name, &changes))?;
        let lines: Vec<String> = broken.iter().map(Broken::line).collect();
        if !lines.is_empty() {
            render::text(&format!("\nbreaks these connectors\n{}", lines.concat()))?;
        } else if args.connectors.is_some() {
            render::text("\nbreaks no connector here, as far as their maps tell\n")?;
        }
    }
    let is_broken = worst == Some(Class::Breaking) || !broken.is_empty();
    Ok(if is_broken { Exit::Findings } else { Exit::Fine })
}

impl Broken {
    fn line(&self) -> String {
        let Self { connector, stream, place, misfit } = self;
        format!("  {place}  {connector}/{stream}  {}: {}\n", misfit.field, misfit.what)
    }
}

/// What the new version breaks of a connector that the old one did not.
fn broken(subject: &Subject<'_>, old: &Read, new: &Read) -> Vec<Broken> {
    let mut broken = Vec::new();
    for stream in &subject.plan.streams {
        let names = stream
            .schema
            .as_ref()
            .is_some_and(|schema| [&old.name, &new.name].iter().any(|name| *name == schema.name()));
        let body = subject.written.body();
        let def = body.stream.value().and_then(|streams| streams.find(&stream.name));
        let Some(map) = def.and_then(|def| def.value.map.get()).filter(|_| names) else { continue };
        let of = |read: &Read| {
            let model = Model::new(&read.name, &read.document);
            misfits(&provenance(body, &map.value, Some(&model)), &read.document)
        };
        let known = of(old);
        for misfit in of(new).into_iter().filter(|misfit| !known.contains(misfit)) {
            let at: Loc = misfit.at.unwrap_or(map.key);
            broken.push(Broken {
                connector: subject.plan.name.to_string(),
                stream: stream.name.to_string(),
                place: place(subject, at),
                misfit,
            });
        }
    }
    broken
}

/// `connectors/shop.toml:57:1`, as the user named the folder.
fn place(subject: &Subject<'_>, at: Loc) -> String {
    subject.written.span(at).map_or_else(String::new, |span| {
        let (line, column) = span.start();
        format!("{}:{line}:{column}", span.file.path.display())
    })
}

fn as_json(worst: Option<Class>, changes: &[Change], broken: &[Broken]) -> Value {
    let change = |change: &Change| {
        json!({
            "class": change.class.word(),
            "pointer": change.pointer,
            "version": if change.is_in_new { "new" } else { "old" },
            "fields": change.fields,
            "what": change.what,
            "breaks_producers": change.producers,
            "breaks_consumers": change.consumers,
        })
    };
    let one = |broken: &Broken| {
        json!({
            "connector": broken.connector,
            "stream": broken.stream,
            "place": broken.place,
            "field": broken.misfit.field,
            "what": broken.misfit.what,
        })
    };
    json!({
        "class": worst.map(Class::word),
        "changes": changes.iter().map(change).collect::<Vec<_>>(),
        "connectors": broken.iter().map(one).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        diagnostic::SourceFile,
        plan::{Settings, compile_settings},
    };

    fn settings(text: String) -> Settings {
        let file = SourceFile { path: "tenon.toml".into(), text };
        let (settings, diagnostics) = compile_settings(&Arc::new(file));
        assert_eq!(diagnostics, []);
        settings
    }

    /// The file's lines without the `#` before a setting or a table. Prose begins with a space and a capital.
    fn uncommented() -> String {
        let is_setting = |line: &&str| {
            let name = line.trim_start_matches("# ").split(' ').next().unwrap_or_default();
            let is_key = name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            line.starts_with("# [") || (line.contains(" = ") && is_key)
        };
        DEFAULT_CONFIG
            .lines()
            .map(|line| if is_setting(&line) { line.trim_start_matches("# ") } else { line })
            .fold(String::new(), |text, line| text + line + "\n")
    }

    #[test]
    fn the_default_config_says_what_the_defaults_are() {
        let mut stated = settings(uncommented());
        assert!(uncommented().contains("\nlisten "));
        // These have no default; the file shows an example.
        assert!(stated.public_url.take().is_some());
        assert!(stated.secrets.take().is_some());
        assert_eq!(std::mem::take(&mut stated.token_keys).len(), 2);
        assert!(std::mem::take(&mut stated.tenants).default.backlog.is_some());
        let defaults = format!("{:?}", Settings::default());
        assert_eq!(format!("{stated:?}"), defaults);
        assert_eq!(format!("{:?}", settings(DEFAULT_CONFIG.to_owned())), defaults);
    }
}
