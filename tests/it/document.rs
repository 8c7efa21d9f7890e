//! Generated documents: what they say, that they are the same each time, that no text of a connector
//! becomes markup, and that no credential gets into one.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use proptest::prelude::*;
use serde_json::Value;
use tenon::{
    definition::presets::SCHEMAS,
    diagnostic::{Severity, SourceFile, render_human},
    document::{self, Article, Block, Retention, Subject},
    map::Schema,
    model::Model,
    plan::{Sources, Written, read, schema_document},
};

const SHOPIFY: &str = include_str!("fixtures/shopify.toml");
const QUICKSTART: &str = include_str!("../../examples/quickstart/shop.toml");
const KEPT: Retention = Retention {
    history: Duration::from_secs(7 * 86_400),
    dead_letters: Duration::from_secs(90 * 86_400),
};

/// Files by name.
struct Files(BTreeMap<PathBuf, Arc<SourceFile>>);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let file = |(name, text): &(&str, &str)| {
            let path = PathBuf::from(name);
            (path.clone(), Arc::new(SourceFile { path, text: (*text).to_owned() }))
        };
        Self(files.iter().map(file).collect())
    }
}

impl Sources for Files {
    fn read(&self, path: &Path) -> Option<Arc<SourceFile>> {
        self.0.get(path).cloned()
    }
}

/// Reads the first file, the others being there.
fn written(files: &[(&str, &str)]) -> Written {
    let sources = Files::new(files);
    let written = read(Path::new(""), Path::new(files[0].0), &sources);
    let errors: Vec<_> = written
        .compiled
        .diagnostics
        .iter()
        .filter(|d| d.severity == Severity::Error)
        .cloned()
        .collect();
    assert!(errors.is_empty(), "{}", render_human(&errors, false));
    written
}

fn subject(written: &Written) -> Subject<'_> {
    let plan = written.plan.as_deref().expect("a plan to be looked at");
    let none = Files::new(&[]);
    let names = plan.streams.iter().filter_map(|stream| Some(stream.schema.as_ref()?.name()));
    Subject {
        written,
        plan,
        files: written.texts.iter().map(|text| text.path.display().to_string()).collect(),
        schemas: names
            .filter_map(|name| {
                Some((name.to_owned(), schema_document(Path::new(""), name, &none)?))
            })
            .collect(),
    }
}

fn page(text: &str) -> String {
    document::markdown(&document::page(&subject(&written(&[("shop.toml", text)]))))
}

#[test]
fn a_page_says_what_requests_are_made_for() {
    let page = page(
        r#"
name = "tracker"
[source]
base = "https://tracker.example"
[schedule]
every = "5m"
[stream.projects]
key = "$.id"
to  = []
[stream.projects.poll]
path = "/projects"
[stream.tasks]
key = "$.id"
[stream.tasks.poll]
path   = "/tasks"
query  = { of = "{{ each.project | map(attribute='id') | join(',') }}", kind = "{{ each.kind }}" }
detail = [{ name = "notes", path = "/tasks/{{ record.id }}/notes" }, { path = "/tasks/{{ record.id }}" }]
[stream.tasks.poll.each]
kind = ["open", "done"]
[stream.tasks.poll.each.project]
stream  = "projects"
changed = true
batch   = 50
[destination.log]
type = "stdout"
"#,
    );
    let told: Vec<&str> =
        page.lines().filter(|l| l.contains("For each") || l.contains("Details")).collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    | For each | `kind`: of `["open","done"]` |
    | For each | `project`: each changed record of `projects`, 50 in one request |
    | Details | `GET https://tracker.example/tasks/{{ record.id }}/notes` for each record: joined as `with.notes` |
    | Details | `GET https://tracker.example/tasks/{{ record.id }}` for each record: its answer is the record |
    "#);
}

fn html(text: &str) -> String {
    let written = written(&[("shop.toml", text)]);
    let subject = subject(&written);
    let article = Article {
        name: subject.plan.name.to_string(),
        words: document::words_of(&subject),
        blocks: document::page(&subject),
    };
    document::html("Connectors", &[article])
}

fn runbook(text: &str) -> String {
    document::markdown(&document::runbook(&subject(&written(&[("shop.toml", text)])), KEPT))
}

#[test]
fn the_page_of_the_languages_example() {
    insta::assert_snapshot!("document_shopify_page", page(SHOPIFY));
}

#[test]
fn the_page_of_the_quickstart() {
    insta::assert_snapshot!("document_quickstart_page", page(QUICKSTART));
}

#[test]
fn the_runbook_of_the_languages_example() {
    insta::assert_snapshot!("document_shopify_runbook", runbook(SHOPIFY));
}

#[test]
fn the_runbook_of_the_quickstart() {
    insta::assert_snapshot!("document_quickstart_runbook", runbook(QUICKSTART));
}

#[test]
fn the_picture_of_the_quickstart() {
    let written = written(&[("shop.toml", QUICKSTART)]);
    insta::assert_snapshot!(
        "document_quickstart_picture",
        document::picture(&subject(&written)).svg_file()
    );
}

#[test]
fn the_html_of_the_quickstart() {
    let text = html(QUICKSTART);
    let main =
        text.split("<main id=\"main\">\n").nth(1).and_then(|rest| rest.split("</main>").next());
    insta::assert_snapshot!("document_quickstart_html", main.expect("a main part"));
}

/// An instance with its own credentials, changelog and destination.
const INSTANCE: &str = r#"use = "shopify.toml"
name = "shopify-eu"
version = "1.2.0"
tenant = "acme-eu"
owner = "eu-team"
docs = "javascript:alert(1)"

[vars]
shop = "acme-eu"

[secrets]
SHOPIFY_TOKEN = "ACME_EU_SHOPIFY_TOKEN"

[[change]]
version = "1.2.0"
date = 2026-12-01
kind = "changed"
note = "delivered to the European ERP"
"#;

#[test]
fn an_instance_shows_its_own_settings_and_where_the_rest_is_written() {
    let written = written(&[("eu.toml", INSTANCE), ("shopify.toml", SHOPIFY)]);
    let subject = subject(&written);
    let page = document::markdown(&document::page(&subject));
    for expected in [
        "| Instance of | `shopify.toml` |",
        "| Tenant | `acme-eu` |",
        "| Runbook | javascript:alert(1) |",
        "| `shop` | myshopify sub-domain | `acme-eu` |",
        "| `ACME_EU_SHOPIFY_TOKEN` | auth admin |",
        "| 2.1.0 | shopify.toml:57 |",
        "### 1.2.0 – 2026-12-01",
        "### Of `shopify`, which it is an instance of (`shopify.toml`)",
    ] {
        assert!(page.contains(expected), "{expected}\n{page}");
    }
    assert!(!page.contains("| Runs |"), "an instance runs:\n{page}");
    let changes = document::markdown(&document::changelog_of_all(&[subject], Some("1.9.0")));
    assert!(changes.contains("### 2.1.0 – 2026-11-20") && !changes.contains("1.2.0"), "{changes}");
}

/// What a changelog says of fields over five versions.
const CHANGES: &str = r#"name = "shop"
version = "3.0.0"
[stream.orders]
key = "$.id"
[stream.orders.webhook]
path = "/shop"
verify = "none"
[stream.orders.map]
id = "$.id"
number = "$.number"
customer.email = "$.email"
customer.phone = "$.phone"
total = "$.total"
[destination.out]
type = "stdout"
"#;

#[test]
fn since_when_is_what_the_changelog_says_and_nothing_else() {
    let entry = |version: &str, kind: &str, note: &str| {
        format!(
            "[[change]]\nversion = \"{version}\"\ndate = 2026-01-01\nkind = \"{kind}\"\nnote = \"{note}\"\n"
        )
    };
    let text = [
        CHANGES.to_owned(),
        entry("1.1.0", "added", "customer"),
        entry("1.2.0", "added", "`customer.phone`, and a number of fixes"),
        entry("2.0.0", "removed", "total"),
        entry("2.1.0", "added", "total"),
        entry("2.2.0", "changed", "total has two decimals"),
        entry("2.10.0", "deprecated", "The field `total`"),
    ]
    .concat();
    let page = page(&text);
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let head = page.lines().find(|line| line.starts_with("| Field |")).expect("a table");
    let column = cells(head).iter().position(|name| name == "Since").expect("a column");
    let since = |field: &str| {
        let row = page.lines().find(|line| line.starts_with(&format!("| `{field}`")));
        cells(row.expect("a row"))[column].clone()
    };
    assert_eq!(since("id"), "");
    assert_eq!(since("number"), "", "a word of prose is no field");
    assert_eq!(since("customer.email"), "1.1.0");
    assert_eq!(since("customer.phone"), "1.1.0");
    assert_eq!(since("total"), "2.1.0, deprecated in 2.10.0");
}

/// Every text that an author can write holds something that a format takes for markup.
fn hostile(text: &str) -> String {
    let quoted = serde_json::to_string(text).expect("text").replace('\u{7f}', " ");
    format!(
        r#"name = "shop"
version = "1.0.0"
summary = {quoted}
owner = {quoted}
docs = {quoted}
[vars]
region = {{ doc = {quoted}, example = {quoted}, default = {quoted} }}
[source]
base = "https://shop.example"
[auth.shop]
type = "bearer"
token = "{{{{ secret.SHOP_TOKEN }}}}"
[stream.orders]
key = "$.id"
schema = "order.v1"
[stream.orders.poll]
path = "/orders"
auth = "shop"
query = {{ {quoted} = "x" }}
[stream.orders.map]
id = "$['<b>|`']"
number = "{{{{ record.x | default('<i>|`*_') }}}}"
{quoted} = "$.x | lookup('status') | default('</code><img src=x onerror=alert(1)>')"
[lookup.status]
{quoted} = {quoted}
[schedule]
every = "5m"
[destination.out]
type = "file"
path = "out|put`.jsonl"
[[change]]
version = "1.0.0"
date = 2026-01-01
kind = "added"
note = {quoted}
"#
    )
}

const HOSTILE: &[&str] = &[
    "<script>alert('x')</script>",
    "a | b || c \\| d",
    "`a` ``b`` ```c",
    "</title></style></svg><img src=x onerror=alert(1)>",
    "[link](javascript:alert(1)) ![x](y) <https://x.example>",
    "# heading\n- list\n1. item\n\n---\n| a |\n|---|\n",
    "&lt;b&gt; \" ' onmouseover=\"alert(1)",
    "*a* _b_ **c** ~~d~~ $e$ \\",
    "-->]]>{{ x }}{% y %}",
];

/// Cells of a Markdown table's row: bars that no backslash escapes. Some renderers take backslashes
/// in pairs, some look at the one before the bar only; both have to find the same.
fn cells(row: &str) -> usize {
    let (mut escaped, mut before) = (false, ' ');
    let (mut in_pairs, mut by_one) = (0, 0);
    for c in row.chars() {
        in_pairs += usize::from(c == '|' && !escaped);
        by_one += usize::from(c == '|' && before != '\\');
        escaped = c == '\\' && !escaped;
        before = c;
    }
    assert_eq!(in_pairs, by_one, "{row}");
    in_pairs
}

/// Every table has as many cells in each row as in its head, and nothing could be HTML.
fn check_markdown(text: &str) {
    let mut columns = None;
    let mut fence: Option<String> = None;
    for line in text.lines() {
        if let Some(open) = &fence {
            if line == open {
                fence = None;
            }
            continue;
        }
        let ticks = line.bytes().take_while(|byte| *byte == b'`').count();
        if ticks >= 3 && !line[ticks..].contains('`') {
            fence = Some("`".repeat(ticks));
            continue;
        }
        if line.starts_with('|') {
            let found = cells(line);
            assert_eq!(*columns.get_or_insert(found), found, "{line}\n{text}");
        } else {
            columns = None;
        }
        assert!(!outside_code(line).contains('<') || line.contains("](<"), "{line}");
    }
    assert_eq!(fence, None, "a fence is never closed:\n{text}");
}

/// A line without its code spans, as `CommonMark` finds them.
fn outside_code(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find('`') {
        let escaped = rest[..at].bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1;
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let ticks = rest.bytes().take_while(|byte| *byte == b'`').count();
        if escaped {
            rest = &rest[1..];
            continue;
        }
        let fence = "`".repeat(ticks);
        let mut close = None;
        let mut from = ticks;
        while let Some(found) = rest[from..].find(&fence) {
            let start = from + found;
            let run = rest[start..].bytes().take_while(|byte| *byte == b'`').count();
            if run == ticks {
                close = Some(start + run);
                break;
            }
            from = start + run;
        }
        rest = &rest[close.unwrap_or(ticks)..];
    }
    out.push_str(rest);
    out
}

const TAGS: &[&str] = &[
    "html", "head", "meta", "title", "style", "body", "a", "header", "h1", "h2", "h3", "h4", "h5",
    "h6", "form", "label", "input", "output", "nav", "ul", "ol", "li", "main", "article", "p",
    "table", "caption", "thead", "tbody", "tr", "th", "td", "div", "pre", "code", "strong", "span",
    "figure", "svg", "desc", "g", "rect", "text", "path", "script",
];
const VOID: &[&str] = &["meta", "input", "rect", "path"];
const ATTRIBUTES: &[&str] = &[
    "lang",
    "charset",
    "http-equiv",
    "content",
    "name",
    "class",
    "href",
    "id",
    "role",
    "hidden",
    "for",
    "type",
    "autocomplete",
    "spellcheck",
    "aria-live",
    "aria-label",
    "aria-labelledby",
    "data-find",
    "data-field",
    "tabindex",
    "scope",
    "rel",
    "xmlns",
    "viewBox",
    "width",
    "height",
    "x",
    "y",
    "rx",
    "d",
];

/// Tags are closed in order and are ours, and so are their attributes.
fn check_markup(text: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = text.strip_prefix("<!doctype html>").unwrap_or(text);
    while let Some(at) = rest.find('<') {
        let inner = &rest[at + 1..];
        let end = inner.find('>').unwrap_or_else(|| panic!("a tag is never closed: {inner:.60}"));
        let tag = &inner[..end];
        rest = &inner[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "{tag}");
            continue;
        }
        let name = tag.split([' ', '/']).next().unwrap_or_default();
        assert!(TAGS.contains(&name), "<{tag}>");
        check_attributes(tag[name.len()..].trim_end_matches('/'));
        if matches!(name, "style" | "script") {
            rest = &rest[rest.find(&format!("</{name}>")).expect("it ends")..];
        }
        if !VOID.contains(&name) {
            open.push(name);
        }
    }
    assert_eq!(open, [""; 0]);
}

fn check_attributes(text: &str) {
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = rest.find(['=', ' ']).unwrap_or(rest.len());
        let name = &rest[..end];
        assert!(ATTRIBUTES.contains(&name), "attribute {name} in {text}");
        rest = rest[end..].trim_start();
        if let Some(value) = rest.strip_prefix("=\"") {
            let end = value.find('"').expect("quotes end");
            if name == "href" {
                let url = &value[..end];
                assert!(url.starts_with('#') || url.starts_with("http"), "{url}");
            }
            rest = value[end + 1..].trim_start();
        }
    }
}

fn check_all(text: &str) {
    let written = written(&[("shop.toml", text)]);
    let subject = subject(&written);
    check_markdown(&document::markdown(&document::page(&subject)));
    check_markdown(&document::markdown(&document::runbook(&subject, KEPT)));
    check_markup(&html(text));
    check_markup(&document::picture(&subject).svg_file());
    check_markdown(&document::markdown(&document::changelog_of_all(&[subject], None)));
}

#[test]
fn no_text_becomes_markup() {
    for text in HOSTILE {
        check_all(&hostile(text));
        let page = html(&hostile(text));
        assert_eq!(page.matches("<script>").count(), 1, "{text}");
        assert_eq!(page.matches("<img").count(), 0, "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_at_all_becomes_markup(text in r"[ -~\n\tä|`<>&\\*_\[\]$]{1,40}") {
        // What is a template to the compiler is none of a document's business.
        prop_assume!(!text.contains("{{") && !text.contains("{%") && !text.contains("{#"));
        prop_assume!(!text.trim().is_empty() && text != "*" && text != "id" && text != "number");
        check_all(&hostile(&text));
    }
}

#[test]
fn the_page_needs_nothing_besides_itself() {
    let text = html(SHOPIFY);
    for reference in ["src=", "url(", "@import", "<link", "<iframe", "<object"] {
        assert!(!text.contains(reference), "{reference}");
    }
    // The policy names the one style and the one script by what they are.
    for (tag, policy) in [("style", "style-src"), ("script", "script-src")] {
        let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
        let inner = text.split(&open).nth(1).and_then(|rest| rest.split(&close).next()).expect(tag);
        let digest = ring::digest::digest(&ring::digest::SHA256, inner.as_bytes());
        let hash = data_encoding::BASE64.encode(digest.as_ref());
        assert!(text.contains(&format!("{policy} 'sha256-{hash}'")), "{policy}");
    }
    assert!(
        text.contains("<form role=\"search\" hidden>"),
        "nothing is there that needs the script"
    );
}

#[test]
fn no_credential_gets_into_a_document() {
    let token = ["shp", "at_0123456789abcdef0123456789abcdef"].concat();
    let long = "0123456789abcdefghijABCDEFGHIJ";
    let text = format!(
        r#"name = "shop"
version = "1.0.0"
summary = "once {token}"
[vars]
api_key = "VAR-{long}"
[source]
base = "https://bob:hunter2@shop.example"
auth = "a"
headers = {{ "X-Api-Key" = "HEAD-{long}", Accept = "text/html" }}
query = {{ access_token = "QUERY-{long}" }}
[schedule]
every = "1h"
[auth.a]
type = "bearer"
token = "BEARER-{long}"
[auth.b]
type = "oauth2"
grant = "client_credentials"
token_url = "https://u:hunter3@login.example/t?client_secret=hunter4"
client_id = "ID-{long}"
client_secret = "SECRET-{long}"
params = {{ password = "hunter5" }}
[stream.orders]
key = "$.id"
[stream.orders.webhook]
path = "/shop"
verify = "github"
secret = "HOOK-{long}"
[stream.orders.poll]
path = "/orders"
[stream.orders.map]
id = "{token}"
[destination.out]
type = "http"
auth = "b"
url = "https://hooks.example/services/T0/aB3{long}?sig=hunter6"
headers = {{ Authorization = "Basic hunter7" }}
[[change]]
version = "1.0.0"
date = 2026-01-01
kind = "added"
note = "{token}"
"#
    );
    let written = written(&[("shop.toml", &text)]);
    let subject = subject(&written);
    let documents = [
        document::markdown(&document::page(&subject)),
        document::markdown(&document::runbook(&subject, KEPT)),
        html(&text),
        document::picture(&subject).svg_file(),
        document::picture(&subject).text(),
        document::markdown(&document::changelog_of_all(&[subject], None)),
    ];
    for document in &documents {
        for secret in [long, token.as_str(), "hunter"] {
            let at = document.find(secret);
            assert_eq!(
                at,
                None,
                "{secret}: {:?}",
                at.map(|at| &document[at.saturating_sub(80)..at + 40])
            );
        }
    }
    assert!(documents[0].contains("`Accept` = `text/html`"), "{}", documents[0]);
    assert!(documents[0].contains("written out in the file, not shown"));
}

#[test]
fn every_command_of_a_runbook_exists() {
    let mut count = 0;
    for text in [SHOPIFY, QUICKSTART, &hostile("a")] {
        for line in runbook(text).lines() {
            // In blocks of their own, and within lines.
            let own = line.strip_prefix("tenon ").map(|rest| format!("tenon {rest}"));
            let within =
                line.split('`').skip(1).step_by(2).filter(|code| code.starts_with("tenon "));
            for command in own.into_iter().chain(within.map(str::to_owned)) {
                count += 1;
                let words = command.split_whitespace().map(|word| word.trim_matches('\''));
                let parsed = tenon::cli::command().try_get_matches_from(words);
                assert!(parsed.is_ok(), "{command}: {}", parsed.unwrap_err());
            }
        }
    }
    assert!(count >= 40, "only {count} commands were found");
}

#[test]
fn a_runbook_reckons_how_long_an_outage_is_bridged() {
    let with = |retry: &str| runbook(&format!("{CHANGES}[destination.out.retry]\n{retry}\n"));
    for (retry, expected, reason) in [
        (
            "attempts = 3\nfrom = \"10s\"",
            "tried 3 times: about 15 s long, 30 s at the most",
            "attempts_spent",
        ),
        ("attempts = 1000\nwithin = \"2h\"", "Each event is tried for 2 h;", "time_spent"),
        ("attempts = 1", "Nothing is tried twice", "attempts_spent"),
    ] {
        let text = with(retry);
        assert!(text.contains(expected), "{retry}: {text}");
        assert!(text.contains(&format!("--reason {reason}")), "{retry}: {text}");
    }
}

#[test]
fn documents_are_the_same_each_time() {
    for text in [SHOPIFY, QUICKSTART] {
        assert_eq!(html(text), html(text));
        assert_eq!(page(text), page(text));
    }
}

#[test]
fn headings_follow_each_other() {
    for text in [SHOPIFY, QUICKSTART] {
        let written = written(&[("shop.toml", text)]);
        let subject = subject(&written);
        for blocks in [document::page(&subject), document::runbook(&subject, KEPT)] {
            let mut last = 0;
            for block in &blocks {
                if let Block::Heading(level, _) = block {
                    assert!(*level <= last + 1, "from {last} to {level}: {block:?}");
                    last = *level;
                }
            }
        }
    }
}

/// Every schema within a schema that has examples, with its examples.
fn with_examples<'v>(schema: &'v Value, found: &mut Vec<(&'v Value, &'v Vec<Value>)>) {
    match schema {
        Value::Object(members) => {
            let is_schema = ["type", "enum", "$ref"].iter().any(|word| members.contains_key(*word));
            if let (true, Some(examples)) =
                (is_schema, members.get("examples").and_then(Value::as_array))
            {
                found.push((schema, examples));
            }
            let inner = members.iter().filter(|(name, _)| *name != "examples");
            inner.for_each(|(_, value)| with_examples(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| with_examples(item, found)),
        _ => {}
    }
}

#[test]
fn each_field_of_the_models_is_described_and_its_examples_hold() {
    for (name, text) in SCHEMAS {
        let document: Value = serde_json::from_str(text).expect("JSON");
        let mut found = Vec::new();
        with_examples(&document, &mut found);
        assert!(found.iter().any(|(schema, _)| *schema == &document), "{name} has no example");
        for (schema, examples) in found {
            let mut alone = schema.clone();
            alone["$defs"] = document["$defs"].clone();
            if alone["$defs"].is_null() {
                alone.as_object_mut().expect("an object").remove("$defs");
            }
            let compiled = Schema::compile(name, &alone).expect("a schema");
            for example in examples {
                assert_eq!(compiled.check(example), [""; 0], "{name}: {example}");
            }
        }
        let model = Model::new(name, &document);
        assert!(model.description.is_some(), "{name}");
        for field in &model.fields {
            assert!(field.description.is_some(), "{name}: {} is not described", field.path);
            let is_whole = field.types.iter().any(|kind| kind == "object" || kind == "array");
            assert!(is_whole || field.example.is_some(), "{name}: {} has no example", field.path);
            let is_number = field.types.iter().any(|kind| kind == "integer" || kind == "number");
            assert!(!is_number || field.unit.is_some(), "{name}: {} has no unit", field.path);
            let time = field.path.ends_with("_at");
            assert_eq!(
                time,
                field.format.as_deref() == Some("date-time"),
                "{name}: {}",
                field.path
            );
        }
    }
}

#[test]
fn what_tells_something_of_a_person_is_marked() {
    for (name, text) in SCHEMAS {
        let model = Model::new(name, &serde_json::from_str(text).expect("JSON"));
        for field in &model.fields {
            let last = field.path.rsplit('.').next().expect("a name");
            let is_personal = matches!(
                last,
                "email" | "phone" | "first_name" | "last_name" | "street" | "postal_code" | "note"
            ) || last == "name";
            assert_eq!(field.is_pii, is_personal, "{name}: {}", field.path);
        }
    }
}

/// `TENON_BLESS=1 cargo test` writes the tables anew.
#[test]
fn the_schemas_page_lists_the_models() {
    const BEGIN: &str = "<!-- models -->\n";
    const END: &str = "<!-- end -->\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/README.md");
    let text = fs::read_to_string(&path).expect("the page");
    let (before, rest) = text.split_once(BEGIN).expect("a beginning");
    let (_, after) = rest.split_once(END).expect("an end");
    let mut made = format!("{before}{BEGIN}");
    for (name, schema) in SCHEMAS {
        let model = Model::new(name, &serde_json::from_str(schema).expect("JSON"));
        made.push_str(&document::markdown(&document::model(&model, 3)));
        made.push('\n');
    }
    let made = format!("{}{END}{after}", made.trim_end_matches('\n').to_owned() + "\n");
    if std::env::var_os("TENON_BLESS").is_some() {
        fs::write(&path, &made).expect("written");
    }
    assert!(
        made == fs::read_to_string(&path).expect("the page"),
        "schemas/README.md: TENON_BLESS=1"
    );
}

/// The program's own way, over files.
mod program {
    use super::*;
    use crate::support::program::{folder, run_in as run};

    #[test]
    fn pages_pictures_and_a_page_that_leads_to_them() {
        let folder = folder(&[("c/shop.toml", QUICKSTART), ("c/shopify.toml", SHOPIFY)]);
        let ran = run(folder.path(), "docs c --out site --html site/all.html");
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        let files = ["README.md", "shop.svg", "shop.md", "shopify.svg", "shopify.md", "all.html"];
        assert_eq!(ran.stdout, files.map(|name| format!("site/{name}\n")).concat());
        let text =
            |name: &str| fs::read_to_string(folder.path().join("site").join(name)).expect(name);
        assert!(text("README.md").contains("[shopify](<shopify.md>)"));
        assert!(text("shop.md").contains("](shop.svg)"));
        assert!(text("all.html").contains("<a href=\"#c-shopify\">"));

        let ran = run(folder.path(), "docs c --out site --html site/all.html --check");
        assert_eq!((ran.code, ran.stdout.as_str()), (0, ""));
        fs::write(folder.path().join("c/shop.toml"), QUICKSTART.replace("1.0.0", "1.0.1"))
            .expect("written");
        let ran = run(folder.path(), "docs c --out site --html site/all.html --check");
        assert_eq!(ran.code, 1);
        assert_eq!(ran.stdout, "site/README.md\nsite/shop.md\nsite/all.html\n");
        assert_eq!(run(folder.path(), "docs c --check").code, 2);
    }

    #[test]
    fn a_page_does_not_depend_on_where_it_is_made() {
        let folder = folder(&[("project/tenon.toml", ""), ("project/c/shop.toml", QUICKSTART)]);
        let here = run(&folder.path().join("project"), "docs c");
        assert!(here.stdout.contains("| File | `c/shop.toml` |"), "{}", here.stdout);
        assert_eq!(run(folder.path(), "docs project/c").stdout, here.stdout);
    }

    #[test]
    fn a_connector_that_does_not_compile_has_no_documents() {
        let folder = folder(&[("shop.toml", "name = \"shop\"\nkee = 1\n")]);
        for verb in ["docs .", "changelog .", "runbook ."] {
            let ran = run(folder.path(), verb);
            assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{verb}");
            assert!(ran.stderr.contains("unknown key `kee`"), "{verb}: {}", ran.stderr);
        }
        assert_eq!(run(folder.path(), "docs nowhere").code, 2);
    }

    #[test]
    fn changelogs_of_a_folder_and_what_is_new() {
        let folder = folder(&[("shop.toml", QUICKSTART), ("shopify.toml", SHOPIFY)]);
        let ran = run(folder.path(), "changelog");
        assert_eq!(ran.code, 0);
        insta::assert_snapshot!("document_changelog", ran.stdout);
        let ran = run(folder.path(), "changelog shopify.toml --since 2.0.9");
        assert!(
            ran.stdout.starts_with("# Changelog of shopify\n\n## 2.1.0 – 2026-11-20\n"),
            "{}",
            ran.stdout
        );
        let ran = run(folder.path(), "changelog --since 2.1.0");
        assert_eq!((ran.code, ran.stdout.as_str()), (0, ""));
        assert_eq!(ran.stderr, "no [[change]] newer than 2.1.0\n");
        assert_eq!(run(folder.path(), "changelog --since 2.1").code, 2);
    }

    #[test]
    fn a_runbook_knows_the_projects_retention() {
        let settings = "[bus]\nhistory = \"36h\"\ndead_letters = \"30d\"\n";
        let folder = folder(&[("shop.toml", QUICKSTART), ("tenon.toml", settings)]);
        let ran = run(folder.path(), "runbook shop.toml");
        assert!(ran.stdout.contains("| delivered events | 1 day 12 h |"), "{}", ran.stdout);
        assert!(ran.stdout.contains("| dead letters | 30 days |"), "{}", ran.stdout);
    }

    const NEW: &str = include_str!("../../schemas/order.v1.json");

    #[test]
    fn what_a_new_version_of_a_model_breaks() {
        // A new required field, a value that goes, a looser rule, words.
        let new = NEW
            .replace(
                "\"required\": [\"id\", \"status\",",
                "\"required\": [\"id\", \"placed_at\", \"channel\", \"status\",",
            )
            .replace("\"settled\", \"fulfilled\"", "\"fulfilled\"")
            .replace("\"examples\": [\"settled\"]", "\"examples\": [\"open\"]")
            .replace("\"number\": {", "\"channel\": { \"type\": \"string\" },\n    \"number\": {")
            .replace("\"pattern\": \"^[A-Z]{3}$\", ", "")
            .replace("Who placed it. Absent", "Whoever placed it. Absent");
        let quickstart = QUICKSTART.replace("revision =", "schema = \"order.v1\"\nrevision =");
        let folder = folder(&[
            ("new.json", &new),
            ("c/shopify.toml", SHOPIFY),
            ("c/shop.toml", &quickstart),
        ]);
        let ran = run(folder.path(), "schema diff order.v1 new.json --connectors c");
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        insta::assert_snapshot!("document_schema_diff", ran.stdout);
        let ran = run(folder.path(), "schema diff order.v1 new.json --connectors c --json");
        let report: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
        assert_eq!(report["class"], "breaking");
        assert_eq!(report["connectors"][0]["connector"], "shop");
    }

    #[test]
    fn versions_that_do_not_differ_and_files_that_are_no_schemas() {
        let folder = folder(&[("x.json", "{ \"type\": \"strin\" }"), ("y.json", "{")]);
        let ran = run(folder.path(), "schema diff order.v1 order.v1");
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "order.v1 → order.v1: no differences\n"));
        for bad in ["x.json", "y.json", "nothing.json"] {
            assert_eq!(run(folder.path(), &format!("schema diff order.v1 {bad}")).code, 2, "{bad}");
        }
        let ran = run(folder.path(), "schema show");
        assert_eq!(ran.stdout.lines().count(), 3);
        let ran = run(folder.path(), "schema show order.v1");
        assert!(ran.stdout.contains("| `customer.email` **personal** |"), "{}", ran.stdout);
    }
}

#[test]
fn what_is_read_again_and_missing_webhooks_are_described() {
    let reconcile = "[schedule.reconcile]\nevery = \"24h\"\nwindow = \"6d\"\n\
                     silence = \"3h\"\nfaster = \"1m\"\n\n[stream.orders]\n";
    let text = SHOPIFY.replacen("[stream.orders]", reconcile, 1);
    let page = page(&text);
    assert!(page.contains("the last 6 days, every 24 h, spread by 10 %"), "{page}");
    let missing = "an alert 3 h after a poll found what none had brought; the poll runs every 1 min meanwhile";
    assert!(page.contains(missing), "{page}");
    let runbook = runbook(&text);
    for part in [
        "### Webhooks of `orders` are missing",
        "tenon_webhook_silent{connector=\"shopify\",stream=\"orders\"}",
        "Nothing is lost: the poll brings what they do not, every 1 min until one comes.",
        "`/shopify/orders`",
    ] {
        assert!(runbook.contains(part), "`{part}` is not in\n{runbook}");
    }
    check_markdown(&runbook);
}
