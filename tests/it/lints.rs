//! Lints: each speaks where it should and is silent where a reasonable connector is; levels come from
//! the file, then the project; what is denied has no plan; a literal secret is never shown.

use std::{collections::HashMap, path::Path, path::PathBuf, sync::Arc};

use tenon::{
    definition::lints::LINTS,
    diagnostic::{Severity, SourceFile, render_human, to_github, to_json, to_sarif},
    plan::{CompiledFile, Levels, Sources, compile_file, compile_file_with, compile_settings},
};

const SHOPIFY: &str = include_str!("fixtures/shopify.toml");

struct Files(HashMap<PathBuf, Arc<SourceFile>>);

impl Sources for Files {
    fn read(&self, path: &Path) -> Option<Arc<SourceFile>> {
        self.0.get(path).cloned()
    }
}

fn files(files: &[(&str, &str)]) -> Files {
    let file = |(path, text): &(&str, &str)| {
        let file = SourceFile { path: path.into(), text: (*text).to_owned() };
        (PathBuf::from(path), Arc::new(file))
    };
    Files(files.iter().map(file).collect())
}

fn compile_all(all: &[(&str, &str)]) -> CompiledFile {
    compile_file(Path::new(""), Path::new(all[0].0), &files(all))
}

fn compile(text: &str) -> CompiledFile {
    compile_all(&[("shop.toml", text)])
}

fn project(lints: &str) -> Levels {
    let file = SourceFile { path: "tenon.toml".into(), text: format!("[lints]\n{lints}") };
    let (settings, problems) = compile_settings(&Arc::new(file));
    assert!(problems.is_empty(), "{}", render_human(&problems, false));
    settings.lints
}

/// The lints that speak, by name; an error ends the test.
fn lints_of(compiled: &CompiledFile) -> Vec<&'static str> {
    let found = &compiled.diagnostics;
    assert!(
        found.iter().all(|one| one.severity != Severity::Error),
        "{}",
        render_human(found, false)
    );
    found.iter().filter_map(|one| one.lint).collect()
}

/// A connector that no lint has anything to say about.
const GOOD: &str = r#"name    = "shop"
version = "1.1.0"
owner   = "commerce"
docs    = "https://wiki.example/shop"

[vars]
region = { doc = "which shop", default = "eu" }

[source]
base = "https://{{ vars.region }}.shop.example"
auth = "shop"
rate = ["2/s", "1000/h"]

[auth.shop]
type  = "header"
name  = "X-Api-Key"
value = "{{ secret.SHOP_KEY }}"

[schedule]
every = "5m"

[stream.orders]
key      = "$.id"
revision = "$.updated_at | timestamp"
to       = ["erp"]

[stream.orders.webhook]
path   = "/shop/orders"
verify = "acme"

[verify.acme]
algorithm = "hmac-sha256"
signed    = "{{ timestamp }}.{{ body }}"

[verify.acme.key]
secret = "{{ secret.SHOP_HOOK }}"

[verify.acme.signature]
header = "X-Signature"

[verify.acme.timestamp]
header = "X-Timestamp"

[stream.orders.poll]
path    = "/orders"
query   = { kind = "paid" }
records = "$.orders[*]"
page    = { by = "page", param = "page", size = 100 }

[stream.orders.poll.cursor]
field       = "$.updated_at"
start       = "-90d"
start_param = "since"
lookback    = "1d"

[stream.orders.map]
id     = "$.id"
status = "$.status | lookup('status')"
lines  = "$.lines[*] | apply('line')"

[map.line]
sku = "$.sku"

[lookup.status]
paid = "settled"

[destination.erp]
type    = "http"
url     = "https://erp.example/orders"
headers = { X-Origin = "shop" }
auth    = "erp"

[auth.erp]
type     = "basic"
user     = "{{ secret.ERP_USER }}"
password = "x"

[[change]]
version = "1.1.0"
date    = 2026-02-01
kind    = "added"
note    = "lines"

[[change]]
version = "1.0.0"
date    = 2026-01-01
kind    = "added"
note    = "everything"
"#;

#[test]
fn reasonable_connectors_are_left_in_peace() {
    assert_eq!(lints_of(&compile(GOOD)), [""; 0]);
    let fixture = ("fixtures/order_paid.json", "{}");
    let complete = SHOPIFY.replace("example = \"acme-store\" }", "default = \"acme-store\" }");
    for example in [SHOPIFY, &complete] {
        let compiled = compile_all(&[("shop.toml", example), fixture]);
        assert_eq!(lints_of(&compiled), [""; 0], "the language's own example");
    }
    let quickstart = include_str!("../../examples/quickstart/shop.toml");
    let lints = lints_of(&compile(quickstart));
    // Its tests' files stand beside it; the folder is not read here.
    assert!(lints.iter().all(|lint| *lint == "missing_fixture"), "{lints:?}");
}

/// What the lints say of [`GOOD`] with one text replaced, each once.
fn said(from: &str, to: &str) -> Vec<&'static str> {
    assert!(GOOD.contains(from), "{from}");
    let mut lints = lints_of(&compile(&GOOD.replace(from, to)));
    lints.sort_unstable();
    lints.dedup();
    lints
}

#[test]
fn each_lint_speaks_where_it_should() {
    let once: &[(&str, &str, &str)] = &[
        ("owner   = \"commerce\"\n", "", "missing_owner"),
        ("owner   = \"commerce\"", "owner = \" \"", "missing_owner"),
        ("docs    = \"https://wiki.example/shop\"\n", "", "missing_runbook"),
        ("{{ vars.region }}", "eu", "unused_var"),
        (" | apply('line')", "", "unused_map"),
        (" | lookup('status')", "", "unused_lookup"),
        ("auth    = \"erp\"\n", "", "unused_auth"),
        ("verify = \"acme\"", "verify = \"none\"", "unused_verify"),
        ("[auth.erp]", "[destination.spare]\ntype = \"stdout\"\n[auth.erp]", "unused_destination"),
        ("\"$.id\"\nrev", "\"{{ record.id }}:{{ record.updatedAt }}\"\nrev", "unstable_key"),
        ("\"$.id\"\nrev", "[\"$.id\", \"$.last_modified | date\"]\nrev", "unstable_key"),
        ("\"$.id\"\nrev", "\"$.lines[0].sku\"\nrev", "unstable_key"),
        (", size = 100", "", "page_without_stop"),
        (", size = 100", ", stop = \"{{ false }}\"", "page_without_stop"),
        ("lookback    = \"1d\"", "lookback = \"8d\"", "short_dedupe"),
        ("signed    = \"{{ timestamp }}.{{ body }}\"", "covers_body = false", "body_not_signed"),
        ("{{ timestamp }}.", "", "unsigned_timestamp"),
        ("X-Origin = \"shop\"", "Idempotency-Key = \"\"", "weak_idempotency"),
        ("X-Origin = \"shop\"", "idempotency-key = \"{{ event.key }}\"", "weak_idempotency"),
        (
            "X-Origin = \"shop\"",
            "X-Idempotency-Token = \"{{ event.received_at }}\"",
            "weak_idempotency",
        ),
        ("every = \"5m\"", "every = \"100ms\"", "poll_too_fast"),
        ("every = \"5m\"", "cron = \"* * * * * *\"", "poll_too_fast"),
        (
            "every = \"5m\"",
            "every = \"5m\"\nreconcile = { silence = \"3h\", faster = \"3s\" }",
            "poll_too_fast",
        ),
        ("version = \"1.1.0\"\nowner", "version = \"1.2.0\"\nowner", "stale_change"),
        ("version = \"1.1.0\"\nowner", "version = \"1.0.0\"\nowner", "stale_change"),
        ("2026-02-01", "2025-02-01", "stale_change"),
        (
            "[auth.erp]",
            "[[test]]\nname = \"t\"\ngiven = \"gone.json\"\nexpect = { id = 1 }\n[auth.erp]",
            "missing_fixture",
        ),
        ("{{ secret.SHOP_KEY }}", "a1b2c3", "literal_secret"),
        ("{{ secret.SHOP_HOOK }}", "a1b2c3", "literal_secret"),
        ("{{ secret.ERP_USER }}", "admin", "literal_secret"),
        ("kind = \"paid\"", "api_key = \"a1b2c3d4\"", "literal_secret"),
        ("X-Origin = \"shop\"", "Authorization = \"Bearer a1b2c3d4\"", "literal_secret"),
        ("https://erp.example", "https://bob:a1b2c3@erp.example", "literal_secret"),
        ("region = {", "token = \"a1b2c3d4\"\nregion = {", "literal_secret"),
    ];
    for (from, to, lint) in once {
        let found = said(from, to);
        let expected: &[&str] = match *lint {
            // One thing leads to another, and both are so.
            "unsigned_timestamp" => &["unsigned_timestamp"],
            "body_not_signed" => &["body_not_signed", "unsigned_timestamp"],
            "literal_secret" if to.starts_with("token") => &["literal_secret", "unused_var"],
            lint => &[lint],
        };
        assert_eq!(found, expected, "{to}");
    }
    let seen: Vec<&str> = once.iter().map(|(.., lint)| *lint).collect();
    for lint in LINTS {
        assert!(seen.contains(&lint.name), "{} is not tried", lint.name);
    }
}

#[test]
fn what_only_resembles_a_fault_is_left_alone() {
    for (from, to) in [
        ("{{ vars.region }}", "{{ vars['region'] }}"),
        ("{{ vars.region }}", "{% set v = vars %}{{ v.region }}"),
        ("\"$.id\"\nrev", "[\"$.sensor\", \"$.created_at\"]\nrev"),
        ("\"$.id\"\nrev", "\"{{ request.headers['x-delivery-id'] | default(record.id) }}\"\nrev"),
        (", size = 100", ", stop = \"{{ not response.body.more }}\""),
        ("X-Origin = \"shop\"", "Idempotency-Key = \"shop-{{ event.id }}\""),
        ("X-Origin = \"shop\"", "Idempotency-Key = \"{{ event.key }}/{{ event.revision }}\""),
        ("X-Origin = \"shop\"", "Idempotency-Key = \"{{ out.id }}\""),
        ("every = \"5m\"", "every = \"4s\""),
        ("every = \"5m\"", "cron = \"0,30 * * * * *\""),
        ("version = \"1.1.0\"\nowner", "version = \"1.1.0+build.7\"\nowner"),
        ("{{ secret.ERP_USER }}", "{{ vars.region }}-{{ secret.ERP_USER }}"),
        ("kind = \"paid\"", "token_type = \"a1b2c3d4\""),
        ("X-Origin = \"shop\"", "X-Api-Version = \"2026-01-01\""),
        ("region = {", "page_token = \"after-this\"\nregion = {"),
    ] {
        let found = said(from, to);
        let unused = to.starts_with("page_token");
        assert_eq!(found, if unused { vec!["unused_var"] } else { vec![] }, "{to}");
    }
}

#[test]
fn all_streams_share_the_rate() {
    let stream = |name: &str| {
        format!(
            "[stream.{name}]\nkey = \"$.id\"\ndedupe = \"forever\"\npoll = {{ path = \"/x\" }}\n"
        )
    };
    let text = |streams: usize| {
        let streams: String = (0..streams).map(|n| stream(&format!("s{n}"))).collect();
        format!(
            "name = \"a\"\nowner = \"a\"\ndocs = \"a\"\n[source]\nbase = \"https://a.example\"\n\
             rate = \"60/h\"\n[schedule]\nevery = \"5m\"\n{streams}[destination.d]\ntype = \"stdout\"\n"
        )
    };
    assert_eq!(lints_of(&compile(&text(5))), [""; 0], "sixty an hour");
    let compiled = compile(&text(6));
    assert_eq!(lints_of(&compiled), ["poll_too_fast"]);
    insta::assert_snapshot!(render_human(&compiled.diagnostics, false), @r#"
    warning[W0801]: the polls need at least 72 requests per hour
     --> shop.toml:8:9
      |
    6 | rate = "60/h"
      |        ------ allowed here
    7 | [schedule]
    8 | every = "5m"
      |         ^^^^ `rate` allows 60 per hour
      |
      = help: each run takes at least one request: poll less often, or raise `rate` if the API allows more
      = note: `[lints] poll_too_fast = "warn"` by default
    "#);
}

const BASE: &str = r#"name  = "shop"
owner = "commerce"
docs  = "https://wiki.example/shop"

[vars]
region = { doc = "which shop" }

[source]
base = "https://{{ vars.region }}.shop.example"
rate = "1/m"

[auth.erp]
type  = "bearer"
token = "{{ secret.ERP }}"

[stream.orders]
key = ["$.id", "$.updated_at"]

[stream.orders.poll]
path = "/orders"
"#;

const INSTANCE: &str = r#"use  = "base.toml"
name = "shop-eu"

[vars]
region = "eu"

[schedule]
every = "EVERY"

[destination.erp]
type = "http"
url  = "https://erp.example/"
auth = "erp"
"#;

#[test]
fn an_instance_answers_for_its_own_lines() {
    let base = compile(BASE);
    assert_eq!(lints_of(&base), ["unstable_key", "short_dedupe"], "its auth is for instances");
    let instance = |every: &str| {
        let text = INSTANCE.replace("EVERY", every);
        compile_all(&[("eu.toml", &text), ("base.toml", BASE)])
    };
    assert_eq!(lints_of(&instance("5m")), [""; 0], "owner and runbook are its base's");
    let fast = instance("10s");
    assert_eq!(lints_of(&fast), ["poll_too_fast"], "the pace is its own");
    assert_eq!(fast.diagnostics[0].span.file.path, Path::new("eu.toml"));

    let text = INSTANCE.replace("EVERY", "5m").replace("\"erp\"\n", "\"own\"\n")
        + "[auth.own]\ntype = \"bearer\"\ntoken = \"tuesday\"\n[auth.spare]\ntype = \"bearer\"\n\
           token = \"{{ secret.X }}\"\n";
    let compiled = compile_all(&[("eu.toml", &text), ("base.toml", BASE)]);
    assert_eq!(lints_of(&compiled), ["literal_secret", "unused_auth"]);
}

#[test]
fn the_file_wins_over_the_project_and_the_project_over_the_default() {
    let bare = GOOD.replace("owner   = \"commerce\"\n", "");
    let severity = |project: &Levels, file: &str| {
        let text = format!("{bare}\n{file}");
        let sources = files(&[("shop.toml", &text)]);
        let compiled = compile_file_with(Path::new(""), Path::new("shop.toml"), &sources, project);
        let found = compiled.diagnostics.iter().find(|one| one.lint == Some("missing_owner"));
        (found.map(|one| (one.severity, one.note.clone().unwrap())), compiled.plan.is_some())
    };
    let note = |level: &str, whose: &str| format!("`[lints] missing_owner = \"{level}\"` {whose}");
    let default = Levels::default();
    let notice = Some((Severity::Notice, note("note", "by default")));
    assert_eq!(severity(&default, ""), (notice, true));
    let denied = project("missing_owner = \"deny\"");
    let error = Some((Severity::Error, note("deny", "in tenon.toml")));
    assert_eq!(severity(&denied, ""), (error, false), "what is denied does not run");
    assert_eq!(severity(&denied, "[lints]\nmissing_owner = \"allow\""), (None, true));
    let warning = Some((Severity::Warning, note("warn", "in this file")));
    assert_eq!(severity(&denied, "[lints]\nmissing_owner = \"warn\""), (warning, true));
    let error = Some((Severity::Error, note("deny", "in this file")));
    assert_eq!(severity(&default, "[lints]\nmissing_owner = \"deny\""), (error, false));
    assert_eq!(severity(&project("missing_owner = \"allow\""), ""), (None, true));
}

#[test]
fn lints_are_known_by_name() {
    let compiled =
        compile(&format!("{GOOD}\n[lints]\nmissing_owners = \"deny\"\nunused_map = \"off\"\n"));
    let said = render_human(&compiled.diagnostics, false);
    assert!(said.contains("unknown key `missing_owners` in [lints]"), "{said}");
    assert!(said.contains("did you mean `missing_owner`?"), "{said}");
    assert!(said.contains("`unused_map` cannot be \"off\""), "{said}");
    assert!(said.contains("expected one of `allow`, `note`, `warn`, `deny`"), "{said}");
}

#[test]
fn levels_do_not_change_what_a_connector_is() {
    let content = |text: &str| compile(text).plan.unwrap().content;
    assert_eq!(content(GOOD), content(&format!("{GOOD}\n[lints]\nunused_map = \"note\"\n")));
}

#[test]
fn lints_wait_for_errors_but_secrets_do_not() {
    let text = GOOD
        .replace("owner   = \"commerce\"\n", "")
        .replace("{{ secret.SHOP_KEY }}", "tuesday-afternoon")
        .replace("every = \"5m\"", "evry = \"5m\"");
    let lints: Vec<_> = compile(&text).diagnostics.iter().filter_map(|one| one.lint).collect();
    assert_eq!(lints, ["literal_secret"]);
}

/// Whatever is said about a file, and in whatever form: the credential is not in it.
#[test]
fn a_literal_secret_is_never_shown() {
    let token = "wednesday-evening-7";
    let key = format!("ghp_{}", "0123456789".repeat(4));
    let secrets = [
        GOOD.replace("{{ secret.SHOP_KEY }}", token),
        // The same line has another fault, too.
        GOOD.replace(
            "value = \"{{ secret.SHOP_KEY }}\"",
            &format!("value = \"{token}\"\nvalue = \"x\""),
        ),
        GOOD.replace("\"{{ secret.SHOP_KEY }}\"", &format!("\"{token}\" oops")),
        GOOD.replace("owner   =", &format!("# the key was {key}\nownr =")),
        GOOD.replace("\"commerce\"", &format!("\"\"\"\n{key}\"\"\"")),
        GOOD.replace("https://erp", &format!("https://bob:{token}@erp.exa mple")),
        GOOD.replace(
            "region = {",
            &format!("api_key = {{ default = \"{token}\", one_of = [\"a\"] }}\nregion = {{"),
        ),
    ];
    for text in &secrets {
        let compiled = compile(text);
        let found = &compiled.diagnostics;
        assert!(found.iter().any(|one| one.lint == Some("literal_secret")), "{text}");
        let all = [
            render_human(found, false),
            render_human(found, true),
            to_github(found),
            to_json(found).to_string(),
            to_sarif(found, Path::new("/")).to_string(),
        ];
        for said in &all {
            assert!(
                !said.contains(token) && !said.contains(&key),
                "it is shown: {}",
                &said[said.find(token).or(said.find(&key)).unwrap().saturating_sub(200)..][..220]
            );
        }
        let spans = found
            .iter()
            .flat_map(|one| one.related.iter().map(|(span, _)| span).chain([&one.span]));
        for span in spans.chain(&compiled.name_span) {
            assert_eq!(span.file.text.len(), text.len());
            assert!(!span.file.text.contains(token) && !span.file.text.contains(&key));
        }
    }
}
