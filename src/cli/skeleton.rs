//! The text of a new connector. Pure: choices in, TOML out.

use std::fmt::Write as _;

use url::Url;

/// What the new connector does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choices {
    /// Its name, already checked by [`check_name`].
    pub name: String,
    /// The verify preset of its webhook.
    pub webhook: Option<String>,
    /// What it polls.
    pub poll: Option<Url>,
    /// Where events go.
    pub to: Target,
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
    let Choices { name, webhook, poll, to } = choices;
    let mut out = format!(
        "# {name}: what it carries from where to where, and who asks for it.\n\
         # After every edit: `tenon check {name}.toml`; to see what it does: `tenon try {name}.toml`.\n\
         name    = {name:?}\n\
         version = \"0.1.0\"\n\
         summary = \"One sentence for the reviewer\"\n\
         owner   = \"your-team\"\n\
         docs    = \"https://wiki.example/{name}\"   # the runbook: what to do when it fails\n"
    );
    if let Some(url) = poll {
        let _ = write!(
            out,
            "\n[source]                                   # the system that events come from\n\
             base = {:?}\n\
             \n[schedule]\n\
             every  = \"5m\"\n\
             jitter = \"10%\"\n",
            url.origin().ascii_serialization()
        );
    }
    out.push_str(
        "\n[stream.events]                            # one kind of event\n\
         key = \"$.id\"                               # which thing an event is about\n\
         # revision = \"$.updated_at | timestamp\"    # which state of it; without it, its content\n",
    );
    if poll.is_some() {
        out.push_str(
            "dedupe = \"forever\"                       # a poll without a cursor reads all in each run\n",
        );
    }
    if let Some(preset) = webhook {
        out.push_str(&webhook_table(name, preset));
    }
    if let Some(url) = poll {
        out.push_str(&poll_table(url));
    }
    out.push_str(
        "\n[stream.events.map]                        # one line per field, as it is delivered\n\
         \"*\" = \"$\"                                  # everything as it came\n\
         # total = \"$.total | decimal\"\n",
    );
    out.push_str(&destination_table(to));
    out
}

fn webhook_table(name: &str, preset: &str) -> String {
    let secret = match preset {
        "none" => String::new(),
        _ => format!("secret = \"{{{{ secret.{} }}}}\"\n", secret_name(name)),
    };
    format!(
        "\n[stream.events.webhook]\n\
         path   = \"/{name}/events\"\n\
         verify = {preset:?}\n\
         {secret}"
    )
}

/// The environment variable, or file in the secrets folder, that holds the webhook's secret.
pub fn secret_name(name: &str) -> String {
    format!("{}_WEBHOOK_SECRET", name.to_ascii_uppercase().replace('-', "_"))
}

fn poll_table(url: &Url) -> String {
    let query: Vec<String> =
        url.query_pairs().map(|(name, value)| format!("{} = {value:?}", key(&name))).collect();
    // A table of four or more keys is a sub-table, so that a diff shows the key that changed.
    let (inline, table) = match query.len() {
        0 => (String::new(), String::new()),
        1..4 => (format!("query = {{ {} }}\n", query.join(", ")), String::new()),
        _ => (String::new(), format!("\n[stream.events.poll.query]\n{}\n", query.join("\n"))),
    };
    format!(
        "\n[stream.events.poll]\n\
         path = {:?}\n\
         {inline}\
         # records = \"$.items[*]\"                 # where they are, unless the answer is a list\n\
         # page    = {{ by = \"link\" }}             # none, page, offset, cursor, next, link\n\
         {table}",
        url.path(),
    )
}

/// A key as TOML wants it: bare where it may be.
fn key(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let bare = !name.is_empty() && name.chars().all(is_bare);
    if bare { name.to_owned() } else { format!("{name:?}") }
}

fn destination_table(to: &Target) -> String {
    let setting = match to {
        Target::Http(url) => {
            format!("type   = \"http\"\nmethod = \"POST\"\nurl    = {:?}\n", url.as_str())
        }
        Target::File(path) => format!("type = \"file\"\npath = {path:?}\n"),
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
                        webhook: webhook.clone(),
                        poll: poll.clone(),
                        to: parse_target(to).expect("a target"),
                    });
                    let table = toml::from_str::<toml::Table>(&text);
                    assert!(table.is_ok(), "{text}\n{table:?}");
                }
            }
        }
    }
}
