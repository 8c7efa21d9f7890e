//! `tenon diff`, run as its users run it: a pull request of typical edits, the four formats, the version
//! gate, revisions of git, and fixtures run through both versions.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::program::{Ran, ran, run_in, tenon};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures/diff")
}

/// The project of the fixtures, twice: `old` and `new`.
fn project() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for side in ["old", "new"] {
        copy(&fixtures(), &folder.path().join(side));
    }
    folder
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("listed") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a kind").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}

/// Replaces texts that stand in a file exactly once.
fn edit(file: &Path, edits: &[(&str, &str)]) {
    let mut text = fs::read_to_string(file).expect("read");
    for (old, new) in edits {
        assert_eq!(text.matches(old).count(), 1, "{old}");
        text = text.replace(old, new);
    }
    fs::write(file, text).expect("written");
}

const SHOP: &str = "connectors/shop.toml";

/// The twelve edits that pull requests are made of: what it is, what is edited, and the classes that
/// it has to get.
type Edit = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str]);

const TWELVE: &[Edit] = &[
    ("field renamed in the API path", &[("$.name", "$.order_name")], &["operational"]),
    ("key changed", &[("\"$.id\"", "\"$.order_id\"")], &["breaking"]),
    ("cursor start moved", &[("2025-01-31", "2025-01-01")], &["operational"]),
    ("retry cut", &[("attempts = 12", "attempts = 5")], &["operational"]),
    ("secret renamed", &[("secret.SHOP_TOKEN", "secret.SHOP_API_TOKEN")], &["breaking"]),
    (
        "destination URL changed",
        &[("https://erp.acme.example/v2/", "https://erp.acme.example/v3/")],
        &["breaking"],
    ),
    ("schema version raised", &[("\"sale.v1\"", "\"sale.v2\"")], &["breaking"]),
    ("page size", &[("size = 250", "size = 100")], &["operational"]),
    ("schedule", &[("every = \"5m\"", "every = \"15m\"")], &["operational"]),
    (
        "comment only",
        &[("# Orders of the shop, in the ERP.", "# What the shop sells.")],
        &["cosmetic"],
    ),
    ("whitespace only", &[("base = \"https", "base   =   \"https")], &["cosmetic"]),
    ("file moved", &[], &["cosmetic"]),
];

#[test]
fn a_pull_request_of_twelve_edits_gets_the_right_classes() {
    let mut all = String::new();
    for (name, edits, classes) in TWELVE {
        let folder = project();
        edit(&folder.path().join("new").join(SHOP), edits);
        if *name == "file moved" {
            let new = folder.path().join("new/connectors");
            fs::rename(new.join("shop.toml"), new.join("store.toml")).expect("moved");
        }
        let told = run_in(folder.path(), "diff old new --no-gate --format json");
        let report: Value = serde_json::from_str(&told.stdout).expect("JSON");
        let changes = report["connectors"][0]["changes"].as_array().expect("changes");
        let found: Vec<&str> =
            changes.iter().filter_map(|change| change["class"].as_str()).collect();
        assert_eq!(found, *classes, "{name}: {}", told.stdout);
        let shown = run_in(folder.path(), "diff old new --no-gate");
        assert_eq!((shown.code, shown.stderr.as_str()), (0, ""), "{name}");
        let _ = writeln!(all, "## {name}\n\n{}", shown.stdout);
    }
    insta::assert_snapshot!("twelve_edits", all);
}

/// A pull request with something of everything.
fn pull_request() -> TempDir {
    let folder = project();
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    edit(
        &new.join(SHOP),
        &[
            ("\"1.4.0\"\nsummary", "\"1.5.0\"\nsummary"),
            ("$.total_price | decimal", "$.total_price"),
            ("customer.email =", "customer.mail  ="),
            ("pending = \"open\"", "pending = \"open\"\nvoided  = \"cancelled\""),
            ("[\"orders.write\"]", "[\"orders.write\", \"stock.read\"]"),
            ("lookback    = \"10m\"", "lookback    = \"1h\""),
        ],
    );
    let small = |name: &str| {
        format!(
            "name = \"{name}\"\nversion = \"0.3.0\"\n\n[stream.items.webhook]\n\
             path = \"/{name}/items\"\nverify = \"none\"\n\n[destination.log]\ntype = \"file\"\n\
             path = \"{name}.jsonl\"\n"
        )
    };
    let write = |side: &Path, file: &str, text: &str| {
        fs::write(side.join("connectors").join(file), text).expect("written");
    };
    write(&old, "legacy.toml", &small("legacy"));
    write(
        &new,
        "fresh.toml",
        &small("fresh").replace("none\"", "github\"\nsecret = \"{{ secret.F }}\""),
    );
    write(&old, "crm.toml", &small("crm"));
    write(&new, "crm.toml", &small("crm").replace("\"crm\"", "\"sales\""));
    write(&old, "broken.toml", &small("broken"));
    write(&new, "broken.toml", &small("broken").replace("verify", "verfy"));
    write(&old, "same.toml", &small("same"));
    write(&new, "same.toml", &small("same"));
    folder
}

#[test]
fn each_format_tells_the_whole_story() {
    let folder = pull_request();
    let mut codes = Vec::new();
    for format in ["human", "markdown", "json", "github"] {
        let told = run_in(folder.path(), &format!("diff old new --fixtures --format {format}"));
        assert_eq!(told.stderr, "", "{format}");
        codes.push(told.code);
        insta::assert_snapshot!(format!("format_{format}"), told.stdout);
    }
    assert_eq!(codes, [1, 1, 1, 1], "a file of the new side does not compile");
}

#[test]
fn nothing_changed_says_so_in_every_format() {
    let folder = project();
    let mut all = String::new();
    for format in ["human", "markdown", "json", "github"] {
        let told = run_in(folder.path(), &format!("diff old new --format {format}"));
        assert_eq!((told.code, told.stderr.as_str()), (0, ""), "{format}");
        let _ = writeln!(all, "## {format}\n{}", told.stdout);
    }
    insta::assert_snapshot!("no_difference", all);
}

/// The gate's verdict for an edit, a version and a changelog entry's kind.
fn gated(edits: &[(&str, &str)], version: &str, entry: Option<&str>) -> Ran {
    let folder = project();
    let file = folder.path().join("new").join(SHOP);
    edit(&file, edits);
    edit(&file, &[("\"1.4.0\"\nsummary", &format!("\"{version}\"\nsummary"))]);
    if let Some(kind) = entry {
        let entry = format!(
            "[[change]]\nversion = \"{version}\"\ndate = 2026-11-22\nkind = \"{kind}\"\n\
             note = \"it\"\n\n[[test]]"
        );
        edit(&file, &[("[[test]]", &entry)]);
    }
    run_in(folder.path(), &format!("diff old/{SHOP} new/{SHOP}"))
}

#[test]
fn the_gate_holds_version_and_changelog_to_the_class() {
    const BREAKING: &[(&str, &str)] = &[("\"$.id\"", "\"$.order_id\"")];
    const ADDITIVE: &[(&str, &str)] =
        &[("number         =", "vat = \"$.vat | optional\"\nnumber         =")];
    const OPERATIONAL: &[(&str, &str)] = &[("attempts = 12", "attempts = 5")];
    const COSMETIC: &[(&str, &str)] = &[("# Orders of the shop, in the ERP.", "#")];
    for (edits, version, entry, expected) in [
        (BREAKING, "1.4.0", None, "E1101"),
        (BREAKING, "1.5.0", Some("changed"), "E1101"),
        (BREAKING, "2.0.0", None, "E1103"),
        (BREAKING, "2.0.0", Some("added"), "E1104"),
        (BREAKING, "2.0.0", Some("changed"), ""),
        (BREAKING, "2.0.0-rc.1", Some("changed"), ""),
        (BREAKING, "1.3.9", Some("changed"), "E1102"),
        (ADDITIVE, "1.4.1", Some("added"), "E1101"),
        (ADDITIVE, "1.5.0", Some("fixed"), "E1104"),
        (ADDITIVE, "1.5.0", Some("added"), ""),
        (OPERATIONAL, "1.4.0", None, "E1101"),
        (OPERATIONAL, "1.4.1", None, "E1103"),
        (OPERATIONAL, "1.4.1", Some("fixed"), ""),
        (COSMETIC, "1.4.0", None, ""),
        (COSMETIC, "1.4.1", None, ""),
    ] {
        let told = gated(edits, version, entry);
        let found = ["E1101", "E1102", "E1103", "E1104", "E1105"]
            .into_iter()
            .find(|code| told.stdout.contains(&format!("error[{code}]")))
            .unwrap_or_default();
        assert_eq!(found, expected, "{version} {entry:?}: {}", told.stdout);
        assert_eq!(told.code, i32::from(!expected.is_empty()), "{version} {entry:?}");
    }
}

#[test]
fn without_a_gate_it_only_looks() {
    let folder = project();
    edit(&folder.path().join("new").join(SHOP), &[("\"$.id\"", "\"$.order_id\"")]);
    let told = run_in(folder.path(), "diff old new --no-gate");
    assert_eq!(told.code, 0);
    assert!(told.stdout.ends_with("1 breaking change in 1 connector\n"), "{}", told.stdout);
    let told = run_in(folder.path(), "diff old new --no-gate --format json");
    let report: Value = serde_json::from_str(&told.stdout).expect("JSON");
    assert_eq!(report["summary"]["gate"], "off");
}

#[test]
fn wrong_usage_says_what_is_right() {
    let folder = project();
    for (line, said) in [
        ("diff", "tenon diff OLD NEW"),
        ("diff old", "tenon diff OLD NEW"),
        ("diff old nowhere", "nowhere"),
        ("diff old new/connectors/shop.toml", "compare like with like"),
        ("diff --git main..HEAD", "git"),
    ] {
        let told = run_in(folder.path(), line);
        assert_eq!((told.code, told.stdout.as_str()), (2, ""), "{line}");
        assert!(told.stderr.contains(said), "{line}: {}", told.stderr);
    }
}

#[test]
fn a_comment_is_never_longer_than_github_takes() {
    let folder = tempfile::tempdir().expect("a folder");
    for (side, source) in [("old", "a"), ("new", "b")] {
        fs::create_dir(folder.path().join(side)).expect("made");
        for connector in 0..20 {
            let mut text = format!(
                "name = \"c{connector}\"\n[stream.s.webhook]\npath = \"/c{connector}\"\n\
                 verify = \"none\"\n[destination.d]\ntype = \"stdout\"\n[stream.s.map]\n"
            );
            for field in 0..40 {
                let _ = writeln!(text, "field_{field} = \"$.a_rather_long_name.{source}{field}\"");
            }
            let file = folder.path().join(side).join(format!("c{connector}.toml"));
            fs::write(file, text).expect("written");
        }
    }
    let told = run_in(folder.path(), "diff old new --format markdown");
    assert!(told.stdout.chars().count() <= 65_536, "{}", told.stdout.chars().count());
    assert!(told.stdout.starts_with("**tenon diff**: 800 operational changes in 20 connectors"));
    let last = told.stdout.lines().last().expect("a last line");
    assert!(last.contains("left out here"), "{last}");
    assert_eq!(told.stdout.matches("<details").count(), told.stdout.matches("</details>").count());
}

/// A git repository in a temporary folder. That there is no git on a machine is no reason to pass.
struct Repository(TempDir);

impl Repository {
    fn new() -> Self {
        let repository = Self(tempfile::tempdir().expect("a folder"));
        repository.git("init --quiet --initial-branch=main");
        repository
    }

    fn git(&self, line: &str) -> String {
        let output = Command::new("git")
            .args(line.split_whitespace())
            .current_dir(self.0.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .envs([("GIT_AUTHOR_NAME", "a"), ("GIT_AUTHOR_EMAIL", "a@acme.example")])
            .envs([("GIT_COMMITTER_NAME", "a"), ("GIT_COMMITTER_EMAIL", "a@acme.example")])
            .output()
            .expect("this test needs the program `git`, and the machine has none: install it");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "git {line}: {said}");
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    fn commit(&self, message: &str) {
        self.git("add --all");
        self.git(&format!("commit --quiet --message={message}"));
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn diff(&self, line: &str) -> Ran {
        run_in(self.0.path(), &format!("diff {line}"))
    }

    /// The rules of what changed.
    fn rules(&self, line: &str) -> Vec<String> {
        let told = self.diff(&format!("{line} --no-gate --format json"));
        assert_eq!((told.code, told.stderr.as_str()), (0, ""), "{line}: {}", told.stdout);
        let report: Value = serde_json::from_str(&told.stdout).expect("JSON");
        let connectors = report["connectors"].as_array().expect("connectors");
        let changes = connectors.iter().flat_map(|one| one["changes"].as_array().expect("changes"));
        changes.map(|change| change["rule"].as_str().expect("a rule").to_owned()).collect()
    }
}

/// A base in `integrations/`, an instance in `connectors/`, a schema, and something that is no
/// connector; the second commit edits the base, the third the schema.
fn history() -> Repository {
    let repository = Repository::new();
    for folder in ["integrations", "connectors", "schemas", "src"] {
        fs::create_dir(repository.path(folder)).expect("made");
    }
    let base = "name = \"base\"\nversion = \"1.0.0\"\n\n[stream.items]\nkey = \"$.id\"\n\
                schema = \"item.v1\"\n\n[stream.items.webhook]\npath = \"/items\"\n\
                verify = \"none\"\n\n[stream.items.map]\nid = \"$.id\"\n";
    let instance = "use = \"../integrations/base.toml\"\nname = \"eu\"\n\n[destination.log]\n\
                    type = \"stdout\"\n";
    let schema = "{ \"type\": \"object\", \"required\": [\"id\"] }";
    fs::write(repository.path("tenon.toml"), "").expect("written");
    fs::write(repository.path("Cargo.toml"), "[package]\n").expect("written");
    fs::write(repository.path("integrations/base.toml"), base).expect("written");
    fs::write(repository.path("connectors/eu.toml"), instance).expect("written");
    fs::write(repository.path("schemas/item.v1.json"), schema).expect("written");
    repository.commit("first");
    edit(&repository.path("integrations/base.toml"), &[("id = \"$.id\"", "id = \"$.no\"")]);
    repository.commit("second");
    let stricter = schema.replace("[\"id\"]", "[\"id\", \"total\"]");
    fs::write(repository.path("schemas/item.v1.json"), stricter).expect("written");
    repository.commit("third");
    repository
}

#[test]
fn the_example_of_the_documentation_is_what_is_printed() {
    let repository = Repository::new();
    copy(&fixtures(), repository.0.path());
    repository.commit("first");
    let edits = [
        ("\"1.4.0\"\nsummary", "\"1.4.1\"\nsummary"),
        ("\"$.id\"", "\"$.order_id\""),
        ("attempts = 12", "attempts = 5"),
    ];
    edit(&repository.path(SHOP), &edits);
    let told = repository.diff("--git HEAD --no-gate");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reviewing.md");
    let text = fs::read_to_string(page).expect("read");
    let block = text.split("```text\n").nth(1).and_then(|rest| rest.split("```").next());
    assert_eq!(block.expect("a block"), told.stdout);
}

#[test]
fn revisions_are_compared_with_what_they_use_at_that_time() {
    let repository = history();
    assert_eq!(repository.rules("--git HEAD~2..HEAD~1"), ["field.source"]);
    assert_eq!(repository.rules("--git HEAD~1..HEAD"), ["schema.stricter"]);
    assert_eq!(repository.rules("--git HEAD~2.."), ["schema.stricter", "field.source"]);
    assert_eq!(repository.rules("--git HEAD..HEAD"), [""; 0]);
    // An instance alone tells what its base changes.
    assert_eq!(repository.rules("--git HEAD~2..HEAD~1 connectors"), ["field.source"]);
    assert_eq!(repository.rules("--git HEAD~2..HEAD~1 integrations/base.toml"), ["field.source"]);
    let told = repository.diff("--git HEAD~2..HEAD~1 --no-gate");
    assert!(told.stdout.contains("reaches eu"), "{}", told.stdout);
    assert!(told.stdout.contains("- integrations/base.toml:13  id = \"$.id\""), "{}", told.stdout);
    let told = repository.diff("--git HEAD~2..HEAD~1 --format github --no-gate");
    assert!(
        told.stdout.starts_with("::notice file=integrations/base.toml,line=13,"),
        "{}",
        told.stdout
    );
}

#[test]
fn the_working_tree_is_compared_with_a_revision() {
    let repository = history();
    assert_eq!(repository.rules("--git HEAD"), [""; 0]);
    edit(&repository.path("connectors/eu.toml"), &[("\"stdout\"", "\"stdout\"\norder = \"key\"")]);
    assert_eq!(repository.rules("--git HEAD"), ["destination.order_added"]);
    // What is not committed yet counts, and so does a folder that one stands in.
    fs::rename(repository.path("connectors/eu.toml"), repository.path("connectors/eu-west.toml"))
        .expect("moved");
    assert_eq!(repository.rules("--git HEAD"), ["destination.order_added", "moved"]);
    let inside = run_in(&repository.path("connectors"), "diff --git HEAD --no-gate .");
    assert!(inside.stdout.contains("connectors/eu-west.toml"), "{}", inside.stdout);
    let elsewhere = run_in(&repository.path("integrations"), "diff --git HEAD");
    assert_eq!(elsewhere.stdout, "no difference; 1 unchanged\n");
}

#[test]
fn three_dots_mean_what_a_branch_changed() {
    let repository = history();
    repository.git("checkout --quiet -b feature HEAD~1");
    edit(&repository.path("integrations/base.toml"), &[("key = \"$.id\"", "key = \"$.no\"")]);
    repository.commit("branch");
    assert_eq!(repository.rules("--git main...feature"), ["key"]);
    assert_eq!(repository.rules("--git main..feature"), ["key", "schema.promise"]);
}

#[test]
fn git_troubles_say_the_way_out() {
    let repository = history();
    for (line, said) in [
        ("--git nowhere..HEAD", "git knows no revision `nowhere` here"),
        ("--git HEAD..--output=x", "git knows no revision `--output=x`"),
        ("--git HEAD src", "no connectors here"),
        ("--git HEAD /", "outside of the repository"),
    ] {
        let told = repository.diff(line);
        assert_eq!((told.code, told.stdout.as_str()), (2, ""), "{line}");
        assert!(told.stderr.contains(said), "{line}: {}", told.stderr);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut outside = tenon(folder.path());
    outside.env("GIT_CEILING_DIRECTORIES", folder.path()).args(["diff", "--git", "HEAD"]);
    let told = ran(&mut outside);
    assert_eq!(told.code, 2);
    assert!(told.stderr.contains("--git works within a git repository"), "{}", told.stderr);
    let absent = ran(tenon(repository.0.path()).env("PATH", "").args(["diff", "--git", "HEAD"]));
    assert_eq!(absent.code, 2);
    assert!(absent.stderr.contains("`git` is not installed"), "{}", absent.stderr);
    assert!(absent.stderr.contains("tenon diff OLD NEW"), "{}", absent.stderr);
}

#[test]
fn what_was_broken_before_is_nobodys_change() {
    let folder = project();
    for side in ["old", "new"] {
        let file = folder.path().join(side).join("connectors/broken.toml");
        fs::write(file, "name = \"broken\"\nkee = 1\n").expect("written");
    }
    let told = run_in(folder.path(), "diff old new");
    assert_eq!((told.code, told.stdout.as_str()), (0, "no difference; 1 unchanged\n"));
    // Mended it is new again: there is nothing to compare it with, and nothing to complain of.
    let good = "name = \"broken\"\n[stream.a.webhook]\npath = \"/a\"\nverify = \"none\"\n\
                [destination.d]\ntype = \"stdout\"\n";
    fs::write(folder.path().join("new/connectors/broken.toml"), good).expect("written");
    let told = run_in(folder.path(), "diff old new");
    assert_eq!(told.code, 0, "{}", told.stdout);
    assert!(told.stdout.starts_with("does not compile on the old side"), "{}", told.stdout);
}

#[test]
fn fixtures_come_from_tests_and_from_the_folder_beside_the_connector() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = r#"name = "hub"
[source]
base = "https://hub.example"
[schedule]
every = "5m"
[stream.orders]
key = "$.id"
when = "{{ record.live }}"
redact = ["email"]
[stream.orders.webhook]
path = "/hub"
verify = "none"
events = "$.events[*]"
[stream.orders.map]
id = "$.id"
email = "$.email | optional"
[stream.stock.poll]
path = "/stock"
records = "$.items[*]"
[stream.stock.map]
sku = "$.sku"
[destination.log]
type = "stdout"
[[test]]
name = "posted"
stream = "orders"
request = { body = { events = [{ id = 1, live = true, email = "ada@acme.example" }, { id = 2, live = false }] } }
expect_outcome = { delivered = 1, filtered = 1 }
[[test]]
name = "polled"
stream = "stock"
responses = [{ body = { items = [{ sku = "A", code = "a" }] } }, "answer.json"]
expect_outcome = "delivered"
[[test]]
name = "in steps"
stream = "stock"
[[test.step]]
given = { sku = "C" }
expect_outcome = "delivered"
"#;
    for side in ["old", "new"] {
        let side = folder.path().join(side);
        fs::create_dir_all(side.join("fixtures/stock")).expect("made");
        fs::write(side.join("hub.toml"), text).expect("written");
        fs::write(side.join("answer.json"), r#"{ "items": [{ "sku": "B", "code": "b" }] }"#)
            .expect("written");
        let lines = "{ \"id\": 3, \"live\": true }\n{ \"id\": 4, \"live\": true }\n";
        fs::write(side.join("fixtures/orders_live.jsonl"), lines).expect("written");
        fs::write(side.join("fixtures/stock/d.json"), r#"{ "sku": "D", "code": "d" }"#)
            .expect("written");
        fs::write(side.join("fixtures/unrelated.json"), "{}").expect("written");
    }
    let edits = [
        ("when = \"{{ record.live }}\"\n", ""),
        ("email = \"$.email | optional\"", "mail = \"$.email | lower | optional\""),
        ("sku = \"$.sku\"", "sku = \"$.code\""),
    ];
    edit(&folder.path().join("new/hub.toml"), &edits);
    let told = run_in(folder.path(), "diff old new --fixtures --no-gate");
    insta::assert_snapshot!("fixtures", told.stdout);
    assert!(!told.stdout.contains("ada@"), "what is redacted on one side is shown on none");
}
