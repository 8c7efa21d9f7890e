//! What plans come out of files; messages are tested in `tests/it/language.rs`.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use serde_json::json;

use super::*;
use crate::{
    definition::presets::{PRESETS, SCHEMAS},
    diagnostic::render_human,
    plan::{
        Algorithm, CursorStart, DestinationKind, Jitter, Order, PageBy, ScheduleWhen, SignedPart,
        Sorted, changed,
    },
};

/// Files by path.
struct Fake(HashMap<PathBuf, Arc<SourceFile>>);

impl Fake {
    fn new(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| {
            let file = SourceFile { path: path.into(), text: (*text).to_owned() };
            (PathBuf::from(path), Arc::new(file))
        });
        Self(files.collect())
    }
}

impl Sources for Fake {
    fn read(&self, path: &Path) -> Option<Arc<SourceFile>> {
        self.0.get(path).cloned()
    }
}

fn compile(files: &[(&str, &str)]) -> CompiledFile {
    compile_file(Path::new("/p"), Path::new(files[0].0), &Fake::new(files))
}

fn plan(files: &[(&str, &str)]) -> Arc<ConnectorPlan> {
    let compiled = compile(files);
    let is_fine = compiled.diagnostics.iter().all(|found| found.severity != Severity::Error);
    assert!(is_fine, "{}", render_human(&compiled.diagnostics, false));
    compiled.plan.expect("a plan")
}

const SHOPIFY: &str = include_str!("../../../tests/it/fixtures/shopify.toml");

fn shopify() -> String {
    SHOPIFY.replace("example = \"acme-store\" }", "default = \"acme-store\" }")
}

#[test]
fn the_example_of_the_language_becomes_a_plan() {
    let plan = plan(&[("/p/a.toml", &shopify())]);
    assert_eq!((&*plan.name, plan.version.as_str()), ("shopify", "2.1.0"));
    assert_eq!(*plan.vars, json!({ "shop": "acme-store" }));
    assert_eq!(
        plan.secrets_used,
        ["ERP_ID", "ERP_SECRET", "SHOPIFY_TOKEN", "SHOPIFY_WEBHOOK_SECRET"]
    );
    let stream = &plan.streams[0];
    assert!(stream.revision.as_ref().unwrap().ordered);
    let pii =
        ["billing_address.name", "customer.email", "customer.phone", "shipping_address.street"];
    assert!(pii.iter().all(|field| stream.redact.iter().any(|redacted| redacted == field)));
    let poll = stream.poll.as_ref().unwrap();
    assert_eq!(poll.records.as_ref().unwrap().prefix, ["orders"]);
    assert!(matches!(poll.page.by, PageBy::Link));
    assert_eq!(poll.rate.len(), 2);
    assert_eq!(poll.auth.as_deref(), Some("admin"));
    let cursor = poll.cursor.as_ref().unwrap();
    assert_eq!(cursor.sorted, Sorted::Ascending);
    assert_eq!(cursor.start, Some(CursorStart::Literal("2025-01-01".to_owned())));
    assert_eq!(cursor.lookback, Some(Duration::from_mins(10)));
    let schedule = stream.schedule.as_ref().unwrap();
    assert!(matches!(schedule.when, ScheduleWhen::Every(every) if every.as_secs() == 300));
    assert_eq!(schedule.jitter, Jitter::Ratio(0.1));
    let erp = &plan.destinations["erp"];
    assert_eq!((erp.order, erp.concurrency, erp.retry.attempts), (Order::Key, 64, 12));
    assert!(matches!(erp.kind, DestinationKind::Http { .. }));
    assert_eq!(stream.to, [Arc::from("erp")]);
    assert_eq!(stream.webhook.as_ref().unwrap().verify.algorithm, Algorithm::HmacSha256);
    let map = stream.map.as_ref().unwrap();
    let names: Vec<String> = map.fields.leaves().into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        ["id", "number", "placed_at", "status", "currency", "total", "customer.email", "lines"]
    );
}

#[test]
fn an_instance_gives_values_and_destinations() {
    let base = r#"
        name = "shop"
        version = "1.0.0"
        [vars]
        region = { doc = "where", one_of = ["eu", "us"] }
        size = { default = 50 }
        [source]
        base = "https://{{ vars.region }}.example"
        auth = "api"
        [auth.api]
        type = "bearer"
        token = "{{ secret.TOKEN }}"
        [stream.orders]
        key = "$.id"
        poll = { path = "/orders", page = { by = "page", param = "page", size = 5, size_param = "n" } }
    "#;
    let instance = r#"
        use = "integrations/shop.toml"
        name = "shop-eu"
        tenant = "eu"
        [vars]
        region = "eu"
        [secrets]
        TOKEN = "EU_TOKEN"
        [schedule]
        cron = "0 6 * * MON-FRI"
        tz = "Europe/Berlin"
        [destination.out]
        type = "file"
        path = "out.jsonl"
        [retry]
        attempts = 3
    "#;
    let files = [("/p/c/eu.toml", instance), ("/p/integrations/shop.toml", base)];
    let plan = plan(&files);
    assert_eq!((&*plan.name, plan.version.as_str()), ("shop-eu", "1.0.0"));
    assert_eq!(plan.tenant.as_deref(), Some("eu"));
    assert_eq!(*plan.vars, json!({ "region": "eu", "size": 50 }));
    assert_eq!(plan.secrets_used, ["EU_TOKEN"]);
    assert_eq!(plan.secret_names["TOKEN"], "EU_TOKEN");
    assert_eq!(plan.destinations["out"].retry.attempts, 3);
    assert_eq!(plan.streams[0].to, [Arc::from("out")]);
    let compiled = compile(&files);
    let expected = ["/p/c/eu.toml", "/p/c/integrations/shop.toml", "/p/integrations/shop.toml"];
    assert_eq!(compiled.inputs, expected.map(PathBuf::from));

    let alone = compile(&[("/p/integrations/shop.toml", base)]);
    assert!(alone.plan.is_none());
    let found: Vec<_> = alone.diagnostics.iter().filter(|d| d.lint.is_none()).collect();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].code, codes::NEEDS_INSTANCE);
}

#[test]
fn content_ignores_form_and_place() {
    let text = shopify();
    let one = plan(&[("/p/a.toml", &text)]);
    let reformatted = text.replace(" = ", "=").replace("# ", "#  ") + "\n# the end\n";
    let moved = plan(&[("/p/other/b.toml", &reformatted)]);
    assert!(!changed(&one, &moved));
    let tested = plan(&[("/p/a.toml", &text.replace("settled\", total", "open\", total"))]);
    assert!(!changed(&one, &tested), "tests are no behaviour");
    let other = plan(&[("/p/a.toml", &text.replace("$.name", "$.title"))]);
    assert!(changed(&one, &other));
}

#[test]
fn content_follows_what_is_named() {
    let schema = r#"{ "type": "object", "description": "mine" }"#;
    let text = shopify();
    let one = plan(&[("/p/a.toml", &text)]);
    let own = plan(&[("/p/a.toml", &text), ("/p/schemas/order.v1.json", schema)]);
    assert!(changed(&one, &own));
}

#[test]
fn a_stream_merges_over_the_source_key_by_key() {
    let plan = plan(&[(
        "/p/a.toml",
        r#"
        name = "a"
        [source]
        base = "https://a.example/v1/"
        headers = { Accept = "text/plain", X-Two = "2" }
        query = { a = "1", b = "2" }
        timeout = "9s"
        page = { by = "offset", param = "offset", size = 10 }
        [stream.x.poll]
        path = "x"
        headers = { accept = "application/json" }
        query = { b = "3" }
        page = { size = 20 }
        [stream.x.schedule]
        every = "1h"
        [schedule]
        cron = "0 0 * * *"
        jitter = "5s"
        [destination.d]
        type = "stdout"
        "#,
    )]);
    let stream = &plan.streams[0];
    let poll = stream.poll.as_ref().unwrap();
    assert_eq!(poll.url.source(), "https://a.example/v1/x");
    let texts = |pairs: &[(String, crate::map::Expr)]| -> Vec<String> {
        pairs.iter().map(|(name, expr)| format!("{name}={}", expr.source())).collect()
    };
    assert_eq!(texts(&poll.headers), ["X-Two=2", "accept=application/json"]);
    assert_eq!(texts(&poll.query), ["a=1", "b=3"]);
    assert_eq!(poll.timeout.as_secs(), 9);
    assert_eq!(poll.page.size, Some(20));
    assert!(matches!(&poll.page.by, PageBy::Offset { param: Some(param) } if param == "offset"));
    let schedule = stream.schedule.as_ref().unwrap();
    assert!(matches!(schedule.when, ScheduleWhen::Every(every) if every.as_secs() == 3600));
    assert_eq!(schedule.jitter, Jitter::Duration(Duration::from_secs(5)));
}

#[test]
fn every_preset_and_schema_is_right() {
    for (name, text) in PRESETS {
        let (plan, problems) = verify::preset(name, text);
        assert!(problems.is_empty(), "{name}: {problems:?}");
        assert!(plan.is_some(), "{name}");
    }
    for (name, text) in SCHEMAS {
        let document = serde_json::from_str(text).expect(name);
        crate::map::Schema::compile(name, &document).expect(name);
    }
}

#[test]
fn what_is_signed_is_lowered_to_parts() {
    let (_, text) = PRESETS.iter().find(|(name, _)| *name == "standard").unwrap();
    let plan = verify::preset("standard", text).0.unwrap();
    let expected = [
        SignedPart::Header("webhook-id".to_owned()),
        SignedPart::Text(".".to_owned()),
        SignedPart::Timestamp,
        SignedPart::Text(".".to_owned()),
        SignedPart::Body,
    ];
    assert_eq!(plan.signed, expected);
}

#[test]
fn the_commented_settings_are_the_defaults() {
    let text = include_str!("../../../examples/tenon.toml");
    let file = |text: &str| {
        Arc::new(SourceFile { path: "examples/tenon.toml".into(), text: text.to_owned() })
    };
    let (settings, diagnostics) = compile_settings(&file(text));
    assert!(diagnostics.is_empty(), "{}", render_human(&diagnostics, false));
    assert_eq!(format!("{settings:?}"), format!("{:?}", crate::plan::Settings::default()));
    let uncommented: String = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(setting) if setting.contains(" = ") => format!("{setting}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let (_, diagnostics) = compile_settings(&file(&uncommented));
    assert!(diagnostics.is_empty(), "{}", render_human(&diagnostics, false));
}

#[test]
fn unset_secrets_are_as_bad_as_the_caller_says() {
    let compiled = compile(&[("/p/a.toml", &shopify())]);
    let unset = compiled.unset_secrets(Severity::Notice, |name| name != "ERP_ID");
    assert_eq!(unset.len(), 1);
    assert_eq!((unset[0].code, unset[0].severity), (codes::UNSET_SECRET, Severity::Notice));
    let line = shopify().lines().position(|line| line.contains("ERP_ID")).unwrap() + 1;
    assert_eq!(unset[0].span.start().0, line);
}

#[test]
fn sets_have_names_and_paths_of_their_own() {
    let text = r#"
        name = "a"
        [stream.x.webhook]
        path = "/a"
        verify = "none"
        [destination.d]
        type = "stdout"
    "#;
    let (one, two) = (compile(&[("/p/1.toml", text)]), compile(&[("/p/2.toml", text)]));
    let found: Vec<_> = check_set(&[&one, &two]).into_iter().map(|d| d.code).collect();
    assert_eq!(found, [codes::SAME_NAME, codes::SAME_ROUTE]);
    assert!(check_set(&[&one]).is_empty());
}

#[test]
fn a_missing_file_is_said_to_be_missing() {
    let compiled = compile_file(Path::new("/p"), Path::new("/p/a.toml"), &Fake::new(&[]));
    assert_eq!(compiled.diagnostics[0].code, codes::UNREADABLE);
}

#[test]
fn what_was_written_stays_at_hand_for_those_who_show_it() {
    let base = "name = \"shop\"\n\n[vars]\nhost = { doc = \"which\" }\n\n\
                [stream.orders]\nkey = \"$.id\"\n\n[stream.orders.poll]\n\
                path = \"https://{{ vars.host }}/orders\"\n";
    let own = "use = \"shop.toml\"\nname = \"shop-eu\"\n\n[vars]\nhost = \"eu.example\"\n\n\
               [schedule]\nevery = \"5m\"\n\n[destination.log]\ntype = \"stdout\"\n";
    let files = Fake::new(&[("/p/eu.toml", own), ("/p/shop.toml", base)]);
    let written = read(Path::new("/p"), Path::new("/p/eu.toml"), &files);
    assert!(written.compiled.plan.is_some());
    let key = written.body().stream.value().unwrap().find("orders").unwrap().key;
    let span = written.span(key).unwrap();
    assert_eq!((span.file.path.as_path(), span.start()), (Path::new("/p/shop.toml"), (6, 9)));

    let alone = read(Path::new("/p"), Path::new("/p/shop.toml"), &files);
    assert!(alone.compiled.plan.is_none(), "it runs only through `use`");
    let plan = alone.plan.expect("a plan to be looked at");
    assert_eq!((plan.streams.len(), plan.vars.as_ref()), (1, &json!({})));
    assert!(read(Path::new("/p"), Path::new("/p/none.toml"), &files).plan.is_none());
    let broken = Fake::new(&[("/p/x.toml", "name = \"x\"\nkee = 1\n")]);
    assert!(read(Path::new("/p"), Path::new("/p/x.toml"), &broken).plan.is_none());
}

/// The codes of what is wrong with a destination of these lines.
fn wrong_with(destination: &str) -> Vec<&'static str> {
    let text = format!(
        "name = \"a\"\n[stream.x.webhook]\npath = \"/a\"\nverify = \"none\"\n\
         [destination.d]\ntype = \"http\"\nurl = \"https://erp.example/in\"\n{destination}\n"
    );
    let found = compile(&[("/p/a.toml", &text)]).diagnostics;
    let errors = found.iter().filter(|found| found.severity == Severity::Error);
    errors.map(|found| found.code.0).collect()
}

#[test]
fn what_a_batch_cannot_be_is_an_error() {
    let batch = "batch = { max = 10 }";
    let judged = "batch = { results = \"$.items[*]\", ok = \"$.ok\" }";
    for (lines, expected) in [
        (batch.to_owned(), vec![]),
        (judged.to_owned(), vec![]),
        (format!("body = {{ a = \"{{{{ batch }}}}\", ids = \"$[*].id\" }}\n{batch}"), vec![]),
        (format!("body = {{ a = \"{{{{ batch }}}}\", id = \"$.id\" }}\n{batch}"), vec!["E0605"]),
        (
            format!("body = {{ a = \"{{{{ batch }}}}\", b = \"{{{{ event.id }}}}\" }}\n{batch}"),
            vec!["E0605"],
        ),
        (format!("headers = {{ X-Id = \"{{{{ out.id }}}}\" }}\n{batch}"), vec!["E0605"]),
        (format!("method = \"DELETE\"\n{batch}"), vec!["E0607"]),
        (format!("body = {{ a = 1 }}\n{batch}"), vec!["E0607"]),
        ("batch = { ok = \"$.ok\" }".to_owned(), vec!["E0606"]),
        ("batch = { by = \"$.id\" }".to_owned(), vec!["E0606"]),
        ("batch = { results = \"items\", ok = \"$.ok\" }".to_owned(), vec!["E0606"]),
        ("batch = { results = \"$.items\", ok = \"yes\" }".to_owned(), vec!["E0606"]),
        ("batch = { results = \"$.items[*]\", by = \"$.id\" }".to_owned(), vec!["E0606"]),
        ("batch = { max = 0 }".to_owned(), vec!["E0107"]),
        (format!("order = \"strict\"\n{batch}"), vec!["E0108"]),
        (format!("order = \"key\"\n{batch}"), vec![]),
        ("body = { a = \"{{ batch }}\" }".to_owned(), vec!["E0304"]),
    ] {
        assert_eq!(wrong_with(&lines), expected, "{lines}");
    }
    let text = "name = \"a\"\n[stream.x.webhook]\npath = \"/a\"\nverify = \"none\"\n\
                [destination.d]\ntype = \"stdout\"\nbatch = { max = 2 }\non = []\n";
    let found = compile(&[("/p/a.toml", text)]).diagnostics;
    let codes: Vec<_> = found.iter().map(|found| found.code).collect();
    assert_eq!(codes.iter().filter(|code| **code == codes::MISPLACED_KEY).count(), 2, "{codes:?}");
}

#[test]
fn rules_of_a_destination_have_what_they_need_and_no_more() {
    let batch = "\nbatch = { results = \"$.items[*]\", ok = \"$.ok\" }";
    for (rule, more, expected) in [
        ("status = 409, then = \"delivered\"", "", vec![]),
        ("status = 404, then = \"retry\", times = 0, else = \"superseded\"", "", vec![]),
        ("status = 404, then = \"retry\", times = 2, reason = \"gone\"", "", vec![]),
        ("status = 404, then = \"retry\", else = \"hold\", reason = \"gone\"", "", vec!["E0109"]),
        ("status = 404, then = \"dead\", times = 2", "", vec!["E0109"]),
        ("status = 404, then = \"hold\", for = \"1m\"", "", vec!["E0109"]),
        ("status = 404, then = \"skip\"", "", vec!["E0106"]),
        ("then = \"dead\"", "", vec!["E0409"]),
        ("when = \"{{ item.ok }}\", then = \"dead\"", "", vec!["E0304"]),
        ("when = \"{{ item.ok }}\", then = \"dead\"", batch, vec![]),
        ("when = \"{{ out.id == 1 }}\", then = \"dead\"", "\nbatch = { max = 3 }", vec!["E0304"]),
        ("when = \"{{ item.ok }}\", then = \"reauth\"", batch, vec!["E0409"]),
        ("status = 400, when = \"{{ secret.X }}\", then = \"dead\"", "", vec!["E0304"]),
    ] {
        let lines = format!("on = [{{ {rule} }}]{more}");
        assert_eq!(wrong_with(&lines), expected, "{lines}");
    }
    let unreached =
        "on = [{ status = \"4xx\", then = \"dead\" }, { status = 404, then = \"retry\" }]";
    assert_eq!(wrong_with(unreached), ["E0409"]);
}
