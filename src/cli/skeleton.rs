//! The text of a new connector. Pure: choices in, TOML out.

use std::fmt::Write as _;

use serde_json::{Value, json};
use url::Url;

use crate::{
    plan::{Algorithm, VerifyPlan, verify_preset},
    propose::{AuthValue, CursorGuess, Field, Guess, MapGuess, PageGuess, Proposal},
};

/// What the new connector does.
#[derive(Clone, Debug)]
pub struct Choices {
    /// Its name, already checked by [`check_name`].
    pub name: String,
    /// Who answers for it.
    pub owner: String,
    /// What it does, in a line.
    pub summary: Option<String>,
    /// The verify preset of its webhook.
    pub webhook: Option<String>,
    /// What it polls.
    pub request: Option<Request>,
    /// What a sample or a document says.
    pub proposal: Option<Proposal>,
    /// Where events go.
    pub to: Target,
}

impl Choices {
    /// The stream's name.
    fn stream(&self) -> &str {
        self.proposal.as_ref().map_or("events", |proposal| &proposal.stream)
    }

    /// A cursor that a request uses, and the parameter by which it does.
    fn cursor(&self) -> Option<(&CursorGuess, &str)> {
        let cursor = self.proposal.as_ref()?.cursor.value.as_ref()?;
        Some((cursor, cursor.start_param.as_deref()?))
    }
}

/// What is polled.
#[derive(Clone, Debug)]
pub struct Request {
    /// What the path is appended to.
    pub base: String,
    /// Whether that is known.
    pub base_is_sure: bool,
    /// The path.
    pub path: String,
    /// Query parameters.
    pub query: Vec<(String, String)>,
    /// Whether their values are known.
    pub query_is_sure: bool,
    /// Variables of the path, each with a value.
    pub vars: Vec<(String, String)>,
}

impl Request {
    /// The request of a URL.
    pub fn of(url: &Url) -> Self {
        Self {
            base: url.origin().ascii_serialization(),
            base_is_sure: true,
            path: url.path().to_owned(),
            query: url.query_pairs().map(|(name, value)| (name.into(), value.into())).collect(),
            query_is_sure: true,
            vars: Vec::new(),
        }
    }
}

/// Where events go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An HTTP API.
    Http(Url),
    /// A file of JSON lines.
    File(String),
    /// The daemon's standard output.
    Stdout,
}

/// A connector's name, as an argument.
pub fn connector_name(name: &str) -> Result<String, String> {
    check_name(name).map(|()| name.to_owned())
}

/// Names stand in state keys, metrics, URLs and file names.
pub fn check_name(name: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let begins_well = name.starts_with(|c: char| c.is_ascii_lowercase());
    if begins_well && name.len() <= 64 && name.chars().all(is_plain) {
        return Ok(());
    }
    Err(format!(
        "`{name}` is no connector's name: expected up to 64 lower-case letters, digits, `-` and `_`, \
         a letter first"
    ))
}

/// `https://…`, `stdout`, or a file's path.
pub fn parse_target(text: &str) -> Result<Target, String> {
    match text {
        "" => Err("expected a URL, `stdout`, or a file's path".to_owned()),
        "stdout" => Ok(Target::Stdout),
        url if url.contains("://") => parse_url(url).map(Target::Http),
        path => Ok(Target::File(path.to_owned())),
    }
}

/// An absolute http or https URL.
pub fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("`{text}` is no URL: {error}"))?;
    match url.scheme() {
        "http" | "https" if url.password().is_some() || !url.username().is_empty() => {
            Err("leave credentials out of the URL: they go into [auth] as secrets".to_owned())
        }
        "http" | "https" => Ok(url),
        other => Err(format!("expected an http or https URL, found `{other}`")),
    }
}

/// The connector file: one that `tenon check` has nothing to say against.
pub fn connector(choices: &Choices) -> String {
    let Choices { name, webhook, to, .. } = choices;
    let mut out = head(choices);
    let stream = choices.stream();
    if let Some(request) = &choices.request {
        out.push_str(&source(choices, request));
    }
    out.push_str(&stream_table(choices, stream));
    if let Some(preset) = webhook {
        out.push_str(&webhook_table(choices, name, preset, stream));
    }
    if let Some(request) = &choices.request {
        out.push_str(&poll_table(choices, request, stream));
    }
    out.push_str(&map_tables(choices, stream));
    out.push_str(&destination_table(to));
    out.push_str(&format!(
        "\n# Made by running it: is this what the destination should get? Then it guards the map.\n\
         [[test]]\nname = \"a record is delivered as the map says\"\n\
         given = {}\nexpect = {{}}\n",
        quoted(&fixture_path(name))
    ));
    out
}

/// Where the fixture is, from the connector's folder.
pub fn fixture_path(name: &str) -> String {
    format!("fixtures/{name}.json")
}

/// The record of the fixture.
pub fn fixture(choices: &Choices) -> Value {
    let made_up = || json!({ "id": "1001", "status": "paid", "total": "129.90", "updated_at": "2026-01-01T00:00:00Z" });
    choices.proposal.as_ref().map_or_else(made_up, |proposal| proposal.sample.clone())
}

fn head(choices: &Choices) -> String {
    let name = &choices.name;
    let look = match choices.proposal {
        Some(_) => {
            "# What was guessed says why; `LOOK` asks for yours. Remove what you have read.\n"
        }
        None => "",
    };
    format!(
        "# {name}: what it carries from where to where, and who asks for it.\n\
         # After every edit: `tenon check {name}.toml`, `tenon test {name}.toml`; to see what it does: `tenon try {name}.toml`.\n\
         {look}\n\
         name    = {}\n\
         version = \"0.1.0\"\n\
         summary = {}\n\
         owner   = {}\n\
         docs    = {}  # the runbook: what to do when it fails\n",
        quoted(name),
        quoted(choices.summary.as_deref().unwrap_or("One sentence for the reviewer")),
        quoted(&choices.owner),
        quoted(&format!("https://wiki.example/{name}")),
    )
}

fn source(choices: &Choices, request: &Request) -> String {
    let mut out = String::new();
    if !request.vars.is_empty() {
        out.push_str("\n[vars]\n# LOOK: of the path; these values are made up\n");
        for (name, value) in &request.vars {
            let _ = writeln!(out, "{} = {}", key(name), quoted(value));
        }
    }
    let look = if request.base_is_sure { "" } else { "# LOOK: the document names no server\n" };
    let _ = write!(
        out,
        "\n[source]                                   # the system that events come from\n\
         {look}base = {}\n",
        quoted(&request.base)
    );
    let auth = choices.proposal.as_ref().map(|proposal| &proposal.auth);
    if let Some(guess) = auth {
        if let Some(auth) = &guess.value {
            out.push_str("auth = \"api\"\n");
            let _ = write!(out, "\n{}[auth.api]\n", why(guess));
            for (name, value) in &auth.keys {
                let value = match value {
                    AuthValue::Text(text) => quoted(text),
                    AuthValue::List(all) => format!(
                        "[{}]",
                        all.iter().map(|one| quoted(one)).collect::<Vec<_>>().join(", ")
                    ),
                    AuthValue::Secret(ending) => {
                        let prefix = secret_prefix(&choices.name);
                        quoted(&format!("{{{{ secret.{prefix}_{ending} }}}}"))
                    }
                };
                let _ = writeln!(out, "{name} = {value}");
            }
        } else {
            let prefix = secret_prefix(&choices.name);
            let _ = write!(
                out,
                "{}# auth = \"api\"\n\
             # [auth.api]\n# type  = \"bearer\"\n# token = \"{{{{ secret.{prefix}_TOKEN }}}}\"\n",
                why(guess)
            );
        }
    }
    out.push_str("\n[schedule]\nevery  = \"5m\"\njitter = \"10%\"\n");
    out
}

/// Why something is proposed, as a comment.
fn why<T>(guess: &Guess<T>) -> String {
    let look = if guess.is_sure { "" } else { "LOOK: " };
    format!("# {look}{}\n", guess.why)
}

fn stream_table(choices: &Choices, stream: &str) -> String {
    let mut out = format!("\n[stream.{stream}]  # one kind of event\n");
    match &choices.proposal {
        None => out.push_str(
            "key = \"$.id\"                               # which thing an event is about\n\
             # revision = \"$.updated_at | timestamp\"    # which state of it; without it, its content\n",
        ),
        Some(proposal) => {
            for (name, guess) in [("key", &proposal.key), ("revision", &proposal.revision)] {
                out.push_str(&why(guess));
                if let Some(value) = &guess.value {
                    let _ = writeln!(out, "{name} = {}", quoted(value));
                }
            }
        }
    }
    if choices.request.is_some() && choices.cursor().is_none() {
        out.push_str("dedupe = \"forever\"  # a poll without a cursor reads all in each run\n");
    }
    out
}

fn webhook_table(choices: &Choices, name: &str, preset: &str, stream: &str) -> String {
    let secret = credentials(name, preset, stream);
    // The sample of a connector that polls, too, is of the poll.
    let events = match (&choices.request, &choices.proposal) {
        (None, Some(proposal)) => {
            let is_list = proposal.records.value.is_none() && proposal.records.is_sure;
            let path = proposal.records.value.clone().or(is_list.then(|| "$[*]".to_owned()));
            path.map_or_else(String::new, |path| {
                format!("{}events = {}\n", why(&proposal.records), quoted(&path))
            })
        }
        _ => String::new(),
    };
    format!(
        "\n[stream.{stream}.webhook]\n\
         path   = \"/{name}/{stream}\"\n\
         verify = {}\n\
         {secret}{events}",
        quoted(preset)
    )
}

/// What a preset has to be given. One that there is none of gets a secret, and `check` says the rest.
fn credentials(name: &str, preset: &str, stream: &str) -> String {
    let plan = verify_preset(preset);
    let has = |wants: fn(&VerifyPlan) -> bool| plan.as_deref().is_some_and(wants);
    let mut lines = String::new();
    let mut line = |key: &str, value: &str| {
        lines.push_str(&format!("{key:6} = \"{value}\"\n"));
    };
    if plan.as_deref().is_none_or(VerifyPlan::needs_secret) {
        line("secret", &format!("{{{{ secret.{} }}}}", secret_name(name)));
    }
    if has(|plan| plan.algorithm == Algorithm::Basic) {
        line("user", &format!("{{{{ secret.{}_WEBHOOK_USER }}}}", secret_prefix(name)));
    }
    if has(|plan| plan.challenges.iter().any(|challenge| challenge.verify_token.is_some())) {
        line("verify_token", &format!("{{{{ secret.{}_VERIFY_TOKEN }}}}", secret_prefix(name)));
    }
    if has(VerifyPlan::needs_url) {
        line("url", &format!("https://hooks.example/{name}/{stream}"));
    }
    lines
}

fn secret_prefix(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}

/// The environment variable, or file in the secrets folder, that holds the webhook's secret.
pub fn secret_name(name: &str) -> String {
    format!("{}_WEBHOOK_SECRET", secret_prefix(name))
}

fn poll_table(choices: &Choices, request: &Request, stream: &str) -> String {
    let mut out = format!("\n[stream.{stream}.poll]\npath = {}\n", quoted(&request.path));
    let query: Vec<String> = request
        .query
        .iter()
        .map(|(name, value)| format!("{} = {}", key(name), quoted(value)))
        .collect();
    if !query.is_empty() {
        let look = if request.query_is_sure {
            ""
        } else {
            "# LOOK: required; some of these values are made up\n"
        };
        let _ = writeln!(out, "{look}query = {{ {} }}", query.join(", "));
    }
    let Some(proposal) = &choices.proposal else {
        out.push_str(
            "# records = \"$.items[*]\"                 # where they are, unless the answer is a list\n\
             # page    = { by = \"link\" }             # none, page, offset, cursor, next, link\n",
        );
        return out;
    };
    out.push_str(&why(&proposal.records));
    if let Some(path) = &proposal.records.value {
        let _ = writeln!(out, "records = {}", quoted(path));
    }
    out.push_str(&why(&proposal.page));
    if let Some(page) = &proposal.page.value {
        let _ = writeln!(out, "page = {}", page_value(page));
    }
    if let Some((field, param)) = choices.cursor() {
        let format = field
            .format
            .map_or_else(String::new, |format| format!("format = {}\n", quoted(format)));
        let _ = write!(
            out,
            "\n[stream.{stream}.poll.cursor]\n{}field = {}\n{format}\
             start = \"-30d\"  # LOOK: how far back the first run reads\n\
             start_param = {}\n\
             lookback = \"10m\"  # for what appears late\n",
            why(&proposal.cursor),
            quoted(&field.field),
            quoted(param),
        );
    } else {
        out.push_str(&why(&proposal.cursor));
        if let Some(cursor) = &proposal.cursor.value {
            let _ = write!(
                out,
                "# [stream.{stream}.poll.cursor]\n# field       = {}\n# start       = \"-30d\"\n\
                 # start_param = \"updated_since\"\n",
                quoted(&cursor.field)
            );
        }
    }
    out
}

fn page_value(page: &PageGuess) -> String {
    let mut keys = vec![format!("by = {}", quoted(page.by))];
    let text = |name, value: &Option<String>| {
        value.as_ref().map(|value| format!("{name} = {}", quoted(value)))
    };
    keys.extend(text("param", &page.param));
    keys.extend(page.first.map(|first| format!("first = {first}")));
    keys.extend(page.size.map(|size| format!("size = {size}")));
    keys.extend(text("size_param", &page.size_param));
    keys.extend(text("next", &page.next));
    format!("{{ {} }}", keys.join(", "))
}

fn map_tables(choices: &Choices, stream: &str) -> String {
    let all = |map: &MapGuess| map.fields.iter().any(|field| field.target != ["*"]);
    let Some(map) = choices.proposal.as_ref().map(|proposal| &proposal.map).filter(|map| all(map))
    else {
        return format!(
            "\n[stream.{stream}.map]  # one line per field, as it is delivered\n\
             \"*\" = \"$\"  # everything as it came\n\
             # total = \"$.total | decimal\"\n"
        );
    };
    let mut out = format!("\n[stream.{stream}.map]  # one line per field, as it is delivered\n");
    let fields = |out: &mut String, fields: &[Field]| {
        // A star would mean everything.
        for field in fields.iter().filter(|field| field.target != ["*"]) {
            if let Some(look) = &field.look {
                let _ = writeln!(out, "# LOOK: {look}");
            }
            let target: Vec<String> = field.target.iter().map(|name| key(name)).collect();
            let _ = writeln!(out, "{} = {}", target.join("."), quoted(&field.expression));
        }
    };
    fields(&mut out, &map.fields);
    for (name, inner) in &map.named {
        let _ = write!(out, "\n[map.{name}]\n");
        fields(&mut out, inner);
    }
    out
}

/// A key as TOML wants it: bare where it may be.
fn key(name: &str) -> String {
    toml_edit::Key::new(name).display_repr().into_owned()
}

/// A text as TOML wants it.
fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}

fn destination_table(to: &Target) -> String {
    let setting = match to {
        Target::Http(url) => {
            format!("type   = \"http\"\nmethod = \"POST\"\nurl    = {}\n", quoted(url.as_str()))
        }
        Target::File(path) => format!("type = \"file\"\npath = {}\n", quoted(path)),
        Target::Stdout => "type = \"stdout\"\n".to_owned(),
    };
    format!("\n[destination.out]\n{setting}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for good in ["shop", "acme-eu_2"] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["", "Shop", "2shop", "a/b", "a b", "-a", &"a".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn targets_are_told_apart() {
        assert_eq!(parse_target("stdout"), Ok(Target::Stdout));
        assert_eq!(parse_target("out/a.jsonl"), Ok(Target::File("out/a.jsonl".to_owned())));
        assert!(matches!(parse_target("https://a.example/x"), Ok(Target::Http(_))));
        for bad in ["", "ftp://a.example", "https://", "https://u:p@a.example"] {
            assert!(parse_target(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_text_is_toml_whatever_was_chosen() {
        let url = |query| parse_url(&format!("https://a.example/v1/x{query}")).expect("a URL");
        let webhooks = [None, Some("standard".to_owned()), Some("none".to_owned())];
        let polls = [None, Some(url("?a=\"b&c=d")), Some(url("?a=1&b[]=2&c=3&d=4&"))];
        for webhook in &webhooks {
            for poll in &polls {
                for to in ["stdout", "o\"ut.jsonl", "https://b.example/y"] {
                    let text = connector(&Choices {
                        name: "shop".to_owned(),
                        owner: "a \"b\"".to_owned(),
                        summary: None,
                        webhook: webhook.clone(),
                        request: poll.as_ref().map(Request::of),
                        proposal: None,
                        to: parse_target(to).expect("a target"),
                    });
                    let table = toml::from_str::<toml::Table>(&text);
                    assert!(table.is_ok(), "{text}\n{table:?}");
                }
            }
        }
    }
}
