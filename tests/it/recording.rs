//! `tenon test --record`: something real becomes a test that passes and gives nobody away.

use std::{fs, path::Path, sync::Arc};

use serde_json::json;
use tenon::{
    egress::{Egress, EgressConfig},
    engine::files::FolderSources,
    plan,
    testing::{
        self, Selection,
        record::{self, Options},
    },
    world::{Clock as _, ScriptedEntropy, StaticSecrets, SystemClock, World},
};

use crate::support::{MockServer, Reply, program};

const SECRETS: [(&str, &str); 2] = [("TOKEN", "s3cr3t-token"), ("HOOK", "s3cr3t-hook")];

fn connector(base: &str) -> String {
    format!(
        r#"name = "shop" # ours

[source]
base = "{base}"
auth = "shop"

[auth.shop]
type  = "bearer"
token = "{{{{ secret.TOKEN }}}}"

[schedule]
every = "1m"

[stream.orders]
key      = "$.id"
revision = "$.at | timestamp"
redact   = ["email"]

[stream.orders.webhook]
path   = "/orders"
verify = "github"
secret = "{{{{ secret.HOOK }}}}"

[stream.orders.poll]
path    = "/orders"
records = "$.orders[*]"
page    = {{ by = "link" }}

[stream.orders.poll.cursor]
field       = "$.at"
start       = "-30d"
start_param = "since"

[stream.orders.map]
id    = "$.id"
email = "$.customer.mail | lower"
note  = "$.note | optional"

[destination.erp]
type = "http"
url  = "https://erp.example/"
"#
    )
}

fn order(id: u64, mail: &str) -> serde_json::Value {
    json!({ "id": id, "at": "2026-01-01T00:00:00Z", "customer": { "mail": mail } })
}

/// Records a poll of `replies` into a folder, where the test then passes. What was written: the
/// connector, then the fixtures by name.
async fn recorded(replies: Vec<Reply>) -> Vec<String> {
    let server = MockServer::scripted(replies).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.toml");
    fs::write(&file, connector(server.url("").trim_end_matches('/'))).unwrap();
    let sources = FolderSources::new();
    let written = plan::read(folder.path(), &file, &sources);
    let plan = written.plan.clone().unwrap();
    let world = World {
        clock: Arc::new(SystemClock),
        entropy: Arc::new(ScriptedEntropy::seeded(1)),
        secrets: Arc::new(StaticSecrets::new(SECRETS)),
    };
    let allow = vec!["127.0.0.0/8".parse().unwrap()];
    let network = Egress::new(EgressConfig { allow, idle_per_host: 1 });
    let source = record::poll(&plan, &plan.streams[0], world, network, 2).await.unwrap();
    let made = tokio::task::spawn_blocking(move || {
        let options = Options {
            stream: "orders".into(),
            name: Some("Two pages!".to_owned()),
            now: SystemClock.now(),
            secrets: SECRETS.map(|(_, value)| value.to_owned()).to_vec(),
        };
        let text = &written.texts[0];
        let made = record::recording(folder.path(), text, &plan, source, &options, &sources);
        let made = made.unwrap();
        fs::write(&file, &made.text).unwrap();
        fs::create_dir(folder.path().join("fixtures")).unwrap();
        for (path, text) in &made.files {
            fs::write(path, text).unwrap();
        }
        let files = [file];
        let report =
            testing::run(folder.path(), &files, &FolderSources::new(), &Selection::default());
        assert!(report.is_fine() && report.passed() == 1, "{}", testing::human(&report, false));
        std::iter::once(made.text).chain(made.files.into_values()).collect::<Vec<_>>()
    });
    let texts = made.await.unwrap();
    for text in &texts {
        assert!(!text.contains("s3cr3t") && !text.to_lowercase().contains("ada"), "{text}");
    }
    texts
}

#[tokio::test]
async fn a_live_poll_becomes_a_test() {
    let first =
        json!({ "orders": [order(1, "Ada@x.org"), order(2, "bob@x.org")], "by": "ada@x.org" });
    let second = json!({ "orders": [order(3, "ada@x.org")], "echo": "Bearer s3cr3t-token" });
    let next = "</orders?page=2&key=s3cr3t-token>; rel=\"next\"";
    let texts = recorded(vec![
        Reply::status(503),
        Reply::json(first).header("link", next).header("set-cookie", "session=1"),
        Reply::json(second),
    ])
    .await;
    let tests = texts[0].split("[[test]]").nth(1).unwrap();
    assert!(texts[0].starts_with("name = \"shop\" # ours\n"));
    assert!(tests.contains("name            = \"Two pages!\"\n"), "{tests}");
    assert!(tests.contains("headers = { link = "), "{tests}");
    assert!(tests.contains("expect          = \"fixtures/two-pages.expected.json\""), "{tests}");
    assert!(!tests.contains("cookie") && !tests.contains("stream"), "{tests}");
    // One person is one pseudonym in both pages, and in what is expected.
    let ada = "person-1@example.com";
    assert_eq!(
        texts[1..].iter().map(|text| text.matches(ada).count()).collect::<Vec<_>>(),
        [1, 2, 2]
    );
}

#[tokio::test]
async fn of_a_poll_without_an_end_the_first_records_are_kept() {
    let page = |number: u64| {
        let next = format!("</orders?page={number}>; rel=\"next\"");
        let orders = json!({ "orders": [order(number, "ada@x.org")] });
        Reply::json(orders).header("link", &next)
    };
    let texts = recorded((1..20).map(page).collect()).await;
    assert!(texts[0].contains("given  = \"fixtures/two-pages.json\""), "{}", texts[0]);
    let records: serde_json::Value = serde_json::from_str(&texts[2]).unwrap();
    assert_eq!(records.as_array().map(Vec::len), Some(2), "{records}");
}

#[test]
fn a_request_is_told_from_a_record() {
    let captured = |text: &str| record::captured(text.as_bytes());
    let request =
        captured("POST /a?b=c HTTP/1.1\r\nX-A: 1\r\nx-a: 2\r\n\r\n{\"id\": 1}\n\n").unwrap();
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/a?b=c"));
    assert_eq!(request.headers.get_all("x-a").iter().count(), 2);
    assert_eq!(request.body, "{\"id\": 1}\n\n");
    assert_eq!(captured("PUT /a HTTP/1.1\nHost: b\n\nx").unwrap().body, "x");
    assert_eq!(captured("GET /a").unwrap().body, "");
    for other in
        ["{\"id\": 1}", "", "POST a HTTP/1.1\n\n", "POST /a HTTP/1.1\nno header\n\n", "[1]"]
    {
        assert!(captured(other).is_none(), "{other}");
    }
}

fn tenon(folder: &Path, line: &str) -> (i32, String, String) {
    let mut command = program::tenon(folder);
    let ran = program::ran(command.env("HOOK", "s3cr3t-hook").args(line.split(' ')));
    (ran.code, ran.stdout, ran.stderr)
}

#[test]
fn a_captured_webhook_becomes_a_test_and_the_program_says_what_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("shop.toml"), connector("https://shop.example")).unwrap();
    let capture = "POST /orders HTTP/1.1\r\nHost: hooks.acme.example\r\nX-Hub-Signature-256: sha256=ab\r\n\
        X-GitHub-Event: order\r\nCookie: a=s3cr3t-hook\r\n\r\n\
        {\"id\":5,\"at\":\"2026-01-01T00:00:00Z\",\"customer\":{\"mail\":\"ada@x.org\"},\"note\":\"key s3cr3t-hook\"}";
    fs::write(path.join("capture.http"), capture).unwrap();
    assert_eq!(tenon(path, "fmt shop.toml").0, 0);
    let (code, _, stderr) =
        tenon(path, "test --record shop.toml --from capture.http --name pushed");
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(
        stderr,
        "wrote fixtures/pushed.json\nadded the test \"pushed\" to shop.toml; 2 values masked: look \
         through both before you commit them\n"
    );
    let text = fs::read_to_string(path.join("shop.toml")).unwrap();
    assert!(text.ends_with(
        "request      = { headers = { x-github-event = \"order\" }, file = \"fixtures/pushed.json\" }\n\
         expect_reply = 202\n\n[test.expect]\nid    = 5\nemail = \"person-1@example.com\"\n\
         note  = \"key [redacted]\"\n"
    ), "{text}");
    assert_eq!(tenon(path, "fmt --check shop.toml").0, 0, "recorded in the house order");
    let (code, stdout, stderr) = tenon(path, "test .");
    assert_eq!((code, stderr.as_str()), (0, "1 test: 1 passed\n"));
    let line = text.lines().position(|line| line.contains("\"pushed\"")).unwrap() + 1;
    assert_eq!(stdout, format!("ok   shop.toml:{line} pushed\n"));

    fs::write(path.join("shop.toml"), text.replace("id    = 5", "id    = 6")).unwrap();
    let (code, stdout, stderr) = tenon(path, "test shop.toml");
    assert_eq!((code, stderr.as_str()), (1, "1 test: 0 passed, 1 failed\n"));
    assert!(stdout.contains("- id: 6\n  + id: 5\n"), "{stdout}");
    let (code, stdout, stderr) = tenon(path, "test --update");
    assert_eq!((code, stdout.as_str()), (0, ""));
    assert_eq!(stderr, "updated shop.toml\n1 expectation rewritten\n");
    assert_eq!(fs::read_to_string(path.join("shop.toml")).unwrap(), text);

    let (code, _, stderr) = tenon(path, "test --filter nothing");
    assert_eq!((code, stderr.as_str()), (0, "0 tests: 0 passed; 1 left out\n"));
    for (line, said) in [
        ("test nowhere", "error: nowhere: "),
        ("test fixtures", "error: no connectors here"),
        ("test --format xml", "error: invalid value 'xml'"),
        ("test --record", "error: --record takes one connector file"),
        ("test --record shop.toml --from gone", "error: gone: "),
        ("test --record shop.toml --from shop.toml", "error: shop.toml: neither a request"),
        ("test --record shop.toml --stream order", "error: no such stream: there is `orders`"),
        ("test --record shop.toml", "error: "),
    ] {
        let (code, _, stderr) = tenon(path, line);
        assert!(code == 2 && stderr.starts_with(said), "{line}: {code} {stderr}");
    }
}

#[test]
fn an_update_writes_as_fmt_does_where_the_file_was_in_its_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let head = "name    = \"shop\"\nversion = \"1.0.0\"\n\n[stream.orders]\nkey = \"$.id\"\n\n\
        [stream.orders.webhook]\npath   = \"/shop\"\nverify = \"none\"\n\n\
        [stream.orders.map]\na = 1\nb = 2\nc = 3\nd = \"$.id\"\n\n[destination.out]\n\
        type = \"stdout\"\n\n[[test]]\nname   = \"a\"\ngiven  = { id = 5 }\n";
    let update = |text: &str| {
        fs::write(path.join("shop.toml"), text).unwrap();
        let (code, _, stderr) = tenon(path, "test --update");
        assert_eq!((code, stderr.as_str()), (0, "updated shop.toml\n1 expectation rewritten\n"));
        fs::read_to_string(path.join("shop.toml")).unwrap()
    };
    let text = format!("{head}expect = {{ a = 0 }}\n");
    let after = update(&text);
    let wanted = head.replace("name   =", "name  =").replace("given  =", "given =");
    let wanted = format!("{wanted}\n[test.expect]\na = 1\nb = 2\nc = 3\nd = 5\n");
    assert_eq!(after, wanted);
    assert_eq!(tenon(path, "fmt --check").0, 0);
    // A file in an order of its own stays in it.
    let own = text.replace("path   =", "path =");
    let wanted = own.replace("{ a = 0 }", "{ a = 1, b = 2, c = 3, d = 5 }");
    assert_eq!(update(&own), wanted);
}
