//! The built program, run as its users run it: exit codes, what goes to stdout and what to stderr,
//! and its words.

use std::{
    fmt::Write as _,
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::Path,
    process::Stdio,
    sync::Arc,
};

use serde_json::{Value, json};
use tenon::{
    bus::{Append, Bus as _, Claim, EmbeddedBus, EmbeddedOptions, NewEvent},
    event::{Event, EventId, Origin, Record},
    plan::Settings,
    world::{Clock as _, SystemClock, SystemDisk},
};

use crate::support::{
    damage,
    program::{Ran, folder, ran, run_in, tenon},
};

fn run(line: &str) -> Ran {
    run_in(Path::new("."), line)
}

/// Takes unverified webhooks into a file.
const GOOD: &str = r#"name = "shop"
version = "1.0.0"
owner = "commerce"
docs = "https://wiki.example/shop"

[stream.orders]
key = "$.id"
redact = ["email"]

[stream.orders.webhook]
path = "/shop/orders"
verify = "none"

[stream.orders.map]
id = "shop:{{ record.id }}"
total = "$.total | decimal"
email = "$.customer.email | optional"

[destination.out]
type = "file"
path = "out.jsonl"
"#;

const BROKEN: &str = r#"name = "broken"
version = "1.0.0"

[stream.orders]
kee = "$.id"

[stream.orders.webhook]
path = "/broken"
verify = "none"

[stream.orders.map]
total = "$.total | decimel"

[destination.out]
type = "stdout"
"#;

#[test]
fn every_verb_explains_itself() {
    let verbs = [
        "",
        "run",
        "check",
        "diff",
        "fmt",
        "try",
        "new",
        "docs",
        "changelog",
        "runbook",
        "status",
        "trace",
        "dlq",
        "dlq list",
        "dlq show",
        "dlq replay",
        "dlq discard",
        "replay",
        "replay list",
        "replay show",
        "replay pause",
        "replay resume",
        "replay cancel",
        "backfill",
        "state",
        "state show",
        "state rewind",
        "state export",
        "state import",
        "rollout",
        "flag",
        "flag list",
        "flag get",
        "flag set",
        "flag unset",
        "flag log",
        "rollback",
        "reload",
        "resume",
        "doctor",
        "schema",
        "schema show",
        "schema diff",
        "completions",
    ];
    let mut all = String::new();
    for verb in verbs {
        let ran = run(&format!("{verb} --help"));
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{verb}");
        let _ = writeln!(all, "$ tenon {verb} --help\n{}", ran.stdout);
        let widest = ran.stdout.lines().map(|line| line.chars().count()).max();
        assert!(widest.is_some_and(|columns| columns <= 120), "{verb}: {widest:?} columns");
    }
    insta::assert_snapshot!("help", all);
}

#[test]
fn wrong_usage_is_exit_code_2_on_stderr() {
    for line in [
        "",
        "fly",
        "run",
        "replay",
        "dlq show x",
        "status --admin nowhere",
        "check nowhere.toml",
        "run nowhere.d",
    ] {
        let ran = run(line);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{line}: {}", ran.stderr);
        assert!(!ran.stderr.is_empty(), "{line}");
    }
}

#[test]
fn without_a_daemon_its_verbs_say_how_to_get_one() {
    // A port that was free a moment ago, and that nobody was told of.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let event = "evt_aaaaaaaaaaaaaaaaaaaaaaaaaa";
    for verb in
        ["status", &format!("trace {event}"), "dlq list", "replay --from -1h", "reload", "resume x"]
    {
        let ran = run(&format!("{verb} --admin {address}"));
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{verb}: {}", ran.stderr);
        assert!(ran.stderr.contains(&format!("no daemon answers at {address}")), "{}", ran.stderr);
        assert!(ran.stderr.contains("tenon run DIR"), "{}", ran.stderr);
    }
}

#[test]
fn an_admin_address_that_others_reach_is_refused() {
    let folder = folder(&[("shop.toml", GOOD)]);
    let ran = run_in(folder.path(), "run . --admin 0.0.0.0:0 --listen 127.0.0.1:0");
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("the admin address 0.0.0.0:0 is not loopback"), "{}", ran.stderr);
    assert!(!folder.path().join("state").exists(), "nothing was started");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut child = tenon(Path::new("."))
        .arg("schema")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stderr, b"");
}

#[test]
fn check_says_nothing_of_good_files_on_stdout() {
    let folder = folder(&[("connectors/shop.toml", GOOD)]);
    let ran = run_in(folder.path(), "check connectors");
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{}", ran.stderr);
    assert_eq!(ran.stderr, "checked 1 file: no problems\n");
}

#[test]
fn check_reports_all_problems_of_all_files() {
    let folder = folder(&[("broken.toml", BROKEN), ("shop.toml", GOOD), ("twin.toml", GOOD)]);
    let ran = run_in(folder.path(), "check");
    assert_eq!(ran.code, 1);
    insta::assert_snapshot!("check_human", format!("{}---\n{}", ran.stdout, ran.stderr));

    let ran = run_in(folder.path(), "check --format github");
    assert_eq!(ran.code, 1);
    insta::assert_snapshot!("check_github", ran.stdout);

    let ran = run_in(folder.path(), "check --format json broken.toml");
    assert_eq!(ran.code, 1);
    let report: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let found = report["diagnostics"].as_array().expect("an array");
    assert_eq!(report["summary"]["errors"], found.len());
    assert!(found.iter().all(|one| one["file"] == "broken.toml" && one["line"].is_u64()));
}

#[test]
fn check_reads_the_settings_too() {
    let folder = folder(&[("tenon.toml", "listn = \"127.0.0.1:1\"\n"), ("c/shop.toml", GOOD)]);
    for line in ["check", "check c", "check tenon.toml"] {
        let ran = run_in(folder.path(), line);
        assert_eq!(ran.code, 1, "{line}: {}", ran.stderr);
        assert!(ran.stdout.contains("did you mean `listen`?"), "{line}: {}", ran.stdout);
    }
}

#[test]
fn warnings_fail_a_check_on_request() {
    let unsigned_time = GOOD
        .replace("verify = \"none\"", "verify = \"acme\"\nsecret = \"{{ secret.ACME }}\"")
        + r#"
[verify.acme]
algorithm = "hmac-sha256"
signed = "{{ body }}"

[verify.acme.signature]
header = "X-Signature"
decode = "hex"

[verify.acme.timestamp]
header = "X-Timestamp"
unit = "s"
past = "5m"
future = "1m"
"#;
    let folder = folder(&[("shop.toml", &unsigned_time)]);
    let ran = run_in(folder.path(), "check");
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("warning[W0501]"), "{}", ran.stdout);
    assert_eq!(ran.stderr, "checked 1 file: 1 warning, 1 notice\n");
    assert_eq!(run_in(folder.path(), "check --deny warnings").code, 1);
}

#[test]
fn check_explains_codes_and_lints() {
    let ran = run("check --explain e0103");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.starts_with("E0103: unknown key\n\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains("Way out\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains("\n    timeuot = \"5s\"\n"), "{}", ran.stdout);
    assert_eq!(run("check --explain unused_map").stdout, run("check --explain W0202").stdout);
    for (wrong, near) in [("E0133", "E0103"), ("unused_maps", "unused_map"), ("x", "look like")] {
        let ran = run(&format!("check --explain {wrong}"));
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
        assert!(ran.stderr.contains(near), "{wrong}: {}", ran.stderr);
    }
}

#[test]
fn check_speaks_to_code_scanning() {
    let folder = folder(&[("c/broken.toml", BROKEN), ("c/shop.toml", GOOD)]);
    let path = folder.path().canonicalize().expect("a path").join("c");
    for (line, from) in
        [("check c --format sarif", folder.path()), ("check . --format sarif", &path)]
    {
        let ran = run_in(from, line);
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        let sarif: Value = serde_json::from_str(&ran.stdout).expect("JSON");
        assert_eq!(sarif["version"], "2.1.0");
        let results = sarif["runs"][0]["results"].as_array().expect("results");
        let errors = results.iter().filter(|one| one["level"] == "error").count();
        assert_eq!(errors, 2);
        let place = &results[0]["locations"][0]["physicalLocation"];
        let uri = if from == path { "broken.toml" } else { "c/broken.toml" };
        assert_eq!(place["artifactLocation"]["uri"], uri);
        assert_eq!(place["region"]["startLine"], 5);
    }
    let needy = GOOD.replace(
        "verify = \"none\"",
        "verify = \"github\"\nsecret = \"{{ secret.NOT_SET_HERE }}\"",
    );
    fs::write(path.join("shop.toml"), needy).expect("written");
    for format in ["sarif", "github"] {
        let said = run_in(&path, &format!("check shop.toml --format {format}")).stdout;
        assert!(!said.contains("NOT_SET_HERE"), "that is about this machine: {said}");
    }
    // A path that is named whole is relative all the same.
    let ran = ran(tenon(&path).args(["check", "--format", "sarif"]).arg(path.join("broken.toml")));
    let sarif: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let place = &sarif["runs"][0]["results"][0]["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "broken.toml");
}

#[test]
fn lints_are_denied_by_project_or_by_command_line() {
    let text = GOOD.replace("owner = \"commerce\"\n", "");
    let unused = format!("{text}[vars]\nspare = 1\n");
    let folder = folder(&[("shop.toml", &unused)]);
    let ran = run_in(folder.path(), "check");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, "checked 1 file: 1 warning, 1 notice\n"));
    assert_eq!(run_in(folder.path(), "check --deny warnings").code, 1);

    fs::write(folder.path().join("tenon.toml"), "[lints]\nmissing_owner = \"deny\"\n")
        .expect("written");
    let ran = run_in(folder.path(), "check");
    assert_eq!((ran.code, ran.stderr.as_str()), (1, "checked 2 files: 1 error, 1 warning\n"));
    assert!(ran.stdout.contains("error[N1101]: nobody owns this connector"), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("`[lints] missing_owner = \"deny\"` in tenon.toml"),
        "{}",
        ran.stdout
    );

    fs::write(folder.path().join("tenon.toml"), "[lints]\nmissing_ownr = \"deny\"\n")
        .expect("written");
    let ran = run_in(folder.path(), "check");
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.contains("did you mean `missing_owner`?"), "{}", ran.stdout);
}

#[test]
fn check_refuses_the_settings_that_run_refuses() {
    let folder = folder(&[("tenon.toml", "admin = \"0.0.0.0:8081\"\n"), ("shop.toml", GOOD)]);
    let ran = run_in(folder.path(), "check");
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.contains("the admin API is for this machine alone"), "{}", ran.stdout);
}

#[test]
fn a_new_connector_passes_check() {
    let flags = [
        "--webhook standard",
        "--webhook stripe --to stdout",
        "--webhook github --to https://erp.example/orders",
        "--webhook shopify --to out/shop.jsonl",
        "--webhook slack",
        "--webhook none",
        "--poll https://api.example/v1/orders?status=any",
        "--webhook standard --poll https://api.example/v1/orders --to https://erp.example/orders",
    ];
    for flags in flags {
        let folder = folder(&[]);
        let ran = run_in(folder.path(), &format!("new acme-shop {flags}"));
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (0, "acme-shop.toml\nfixtures/acme-shop.json\n"),
            "{flags}: {}",
            ran.stderr
        );
        let mut check = tenon(folder.path());
        let ran = self::ran(check.arg("check").env("ACME_SHOP_WEBHOOK_SECRET", "whsec_MTIz"));
        assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{flags}");
        let ran = run_in(folder.path(), &format!("new acme-shop {flags}"));
        assert_eq!(ran.code, 2, "it must not overwrite");
        assert!(ran.stderr.contains("exists already"), "{}", ran.stderr);
    }
    assert_eq!(run("new shop").code, 2, "nobody is there to be asked");
    assert_eq!(run("new Shop --webhook none").code, 2);
}

#[test]
fn schemas_and_completions_are_printed() {
    for (line, key) in [("schema", "stream"), ("schema --settings", "bus")] {
        let ran = run(line);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let schema: Value = serde_json::from_str(&ran.stdout).expect("JSON");
        assert!(schema["properties"].get(key).is_some(), "{line}");
    }
    let config = run("schema --config").stdout;
    let folder = folder(&[("tenon.toml", &config), ("shop.toml", GOOD)]);
    assert!(config.contains("[bus]"));
    assert_eq!(run_in(folder.path(), "check").code, 0);
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = run(&format!("completions {shell}"));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(ran.stdout.contains("dlq"), "{shell}");
    }
}

#[test]
fn try_shows_what_a_record_becomes() {
    let sample = r#"{"id": 7, "total": "12.50", "customer": {"email": "a@b.example"}}"#;
    let connector = GOOD.replace(
        "type = \"file\"\npath = \"out.jsonl\"",
        "type = \"http\"\nmethod = \"PUT\"\nurl = \"https://erp.example/orders/{{ out.id }}\"\nauth = \"erp\"",
    ) + "\n[auth.erp]\ntype = \"bearer\"\ntoken = \"{{ secret.ERP_TOKEN }}\"\n";
    let folder = folder(&[("shop.toml", &connector), ("order.json", sample)]);
    let mut tried = tenon(folder.path());
    tried.args(["try", "shop.toml", "--event", "order.json"]).env("ERP_TOKEN", "s3cr3t-t0ken");
    let ran = self::ran(&mut tried);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    insta::assert_snapshot!("try", ran.stdout);
    let all = ran.stdout + &ran.stderr;
    assert!(!all.contains("s3cr3t") && !all.contains("a@b.example"), "{all}");
    assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 2, "nothing was written");
}

/// Answers one request with a page of orders, then is gone.
fn one_page() -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a request");
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).expect("read") == 1 {
            request.push(byte[0]);
        }
        let body = r#"{"orders": [{"id": 1, "total": "1"}, {"id": 2, "total": "2"}]}"#;
        let length = body.len();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
        write!(stream, "{head}\r\ncontent-length: {length}\r\n\r\n{body}").expect("answered");
        String::from_utf8(request).expect("text")
    });
    (base, served)
}

#[test]
fn try_polls_once() {
    let (base, served) = one_page();
    let webhook = "[stream.orders.webhook]\npath = \"/shop/orders\"\nverify = \"none\"\n";
    let poll = format!(
        "[source]\nbase = \"{base}\"\nauth = \"api\"\n\n[auth.api]\ntype = \"bearer\"\n\
         token = \"{{{{ secret.API_TOKEN }}}}\"\n\n[schedule]\nevery = \"5m\"\n\n\
         [stream.orders.poll]\npath = \"/orders\"\nrecords = \"$.orders[*]\"\n"
    );
    let folder = folder(&[("shop.toml", &GOOD.replace(webhook, &poll))]);
    let tried = |flags: &[&str]| {
        let mut command = tenon(folder.path());
        command.args(["try", "shop.toml", "--json"]).args(flags).env("API_TOKEN", "s3cr3t-t0ken");
        ran(&mut command)
    };
    let ran = tried(&[]);
    assert_eq!(ran.code, 2, "{}", ran.stdout);
    assert!(ran.stderr.contains("127.0.0.1"), "the guard names the address: {}", ran.stderr);

    let ran = tried(&["--allow-egress", "127.0.0.0/8", "--max", "1"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let records: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(records.as_array().map(Vec::len), Some(1));
    assert_eq!(records[0]["mapped"]["id"], "shop:1");
    assert_eq!(
        records[0]["sent"][0],
        json!({"type": "file", "destination": "out", "path": "out.jsonl"})
    );
    let request = served.join().expect("served");
    assert!(request.contains("Bearer s3cr3t-t0ken"), "the poll itself is real: {request}");
    assert!(!folder.path().join("out.jsonl").exists());
}

#[test]
fn try_says_where_a_record_is_lost() {
    let folder = folder(&[("shop.toml", GOOD), ("broken.toml", BROKEN)]);
    let tried = |name: &str, sample: Value| {
        fs::write(folder.path().join("sample.json"), sample.to_string()).expect("written");
        run_in(folder.path(), &format!("try {name} --event sample.json --json"))
    };
    let ran = tried("shop.toml", json!({"id": 7, "total": {}}));
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let records: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(records[0]["outcome"], "map_failed");
    assert!(records[0]["problem"].as_str().is_some_and(|text| text.contains("total")));
    let ran = tried("shop.toml", json!({"total": "1"}));
    let records: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!((ran.code, &records[0]["outcome"]), (1, &json!("unnamed")));

    let ran = tried("broken.toml", json!({}));
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.contains("kee"), "{}", ran.stderr);
    let ran = run_in(folder.path(), "try shop.toml");
    assert_eq!(ran.code, 2, "it does not poll, and there is no sample");
}

/// A state folder with one event in it, closed.
fn state_folder(path: &Path) {
    let event = Event {
        id: EventId::derive("shop", "orders", "1", "1"),
        connector: "shop".into(),
        stream: "orders".into(),
        key: "1".to_owned(),
        revision: "1".to_owned(),
        order: None,
        tenant: None,
        received_at: SystemClock.now(),
        origin: Origin::Webhook,
        delete: false,
        to: vec!["out".into()],
        record: Record::from_bytes(br#"{"id": 1, "note": "find me"}"#.as_slice().into()),
        with: None,
        traceparent: None,
        replayed: None,
    };
    let options = EmbeddedOptions {
        folder: path.to_owned(),
        settings: Settings::default().bus,
        clock: Arc::new(SystemClock),
        disk: Arc::new(SystemDisk),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let bus = EmbeddedBus::open(options).expect("opened");
        let event = NewEvent { event: Arc::new(event), claim: Claim::None };
        let batch = Append { events: vec![event], state: Vec::new() };
        bus.append(batch).await.expect("appended");
        bus.close().await;
    });
}

#[test]
fn doctor_finds_damage_and_mends_it() {
    let folder = folder(&[("plain/file.txt", "")]);
    state_folder(&folder.path().join("state"));
    let ran = run_in(folder.path(), "doctor state");
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(
        ran.stdout.contains("1 event,") && ran.stdout.ends_with("nothing is wrong\n"),
        "{}",
        ran.stdout
    );

    damage(&folder.path().join("state/journal"), "find me");
    let ran = run_in(folder.path(), "doctor state --json");
    assert_eq!(ran.code, 1, "{}{}", ran.stdout, ran.stderr);
    let report: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert!(!report["findings"].as_array().expect("an array").is_empty());
    let ran = run_in(folder.path(), "doctor state --repair");
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let ran = run_in(folder.path(), "doctor state");
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);

    let ran = run_in(folder.path(), "doctor plain");
    assert_eq!((ran.code, ran.stderr.as_str()), (2, "error: plain is no state folder\n"));
    assert!(!folder.path().join("plain/LOCK").exists());
}
