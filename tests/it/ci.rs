//! What `docs/ci.md` shows is executed: each line that calls `tenon`, in a repository with a change.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

const CONNECTOR: &str = r#"name    = "shop"
version = "1.0.0"
owner   = "commerce"
docs    = "https://wiki.example/shop"

[stream.orders]
key = "$.id"

[stream.orders.webhook]
path   = "/shop/orders"
verify = "none"

[destination.out]
type = "stdout"

[[test]]
name   = "an order passes"
given  = { id = 1 }
expect = { id = 1 }
"#;

/// A repository with a branch, in the state that a build server checks out.
struct Checkout {
    folder: tempfile::TempDir,
    base: String,
}

impl Checkout {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("connectors")).unwrap();
        let mut checkout = Self { folder, base: String::new() };
        let file = checkout.file();
        fs::write(&file, CONNECTOR).unwrap();
        checkout.git("init --quiet");
        checkout.commit();
        checkout.git("update-ref refs/remotes/origin/main HEAD");
        checkout.git("rev-parse HEAD").trim().clone_into(&mut checkout.base);
        // An operational change, and a version that says so.
        let text = CONNECTOR.replace("1.0.0", "1.0.1") + "\n[retry]\nattempts = 3\n";
        let change = "\n[[change]]\nversion = \"1.0.1\"\ndate    = 2026-11-20\nkind    = \"changed\"\nnote    = \"retry\"\n";
        let made = tenon::definition::format::format(
            &(text + change),
            tenon::definition::format::FileKind::Connector,
        );
        fs::write(&file, made.unwrap()).unwrap();
        checkout.commit();
        checkout
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("connectors/shop.toml")
    }

    fn git(&self, line: &str) -> String {
        let output = Command::new("git")
            .args([
                "-c",
                "user.name=ci",
                "-c",
                "user.email=ci@example.com",
                "-c",
                "commit.gpgsign=false",
            ])
            .args(line.split(' '))
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "git {line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn commit(&self) {
        self.git("add -A");
        self.git("commit --quiet -m change");
    }

    /// Runs a line as a runner's shell does.
    fn sh(&self, line: &str) -> Output {
        let binary = Path::new(env!("CARGO_BIN_EXE_tenon")).parent().unwrap();
        let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
        Command::new("sh")
            .args(["-e", "-c", line])
            .current_dir(self.folder.path())
            .env("PATH", path)
            .env("GITHUB_BASE_REF", "main")
            .env("CI_MERGE_REQUEST_DIFF_BASE_SHA", &self.base)
            .output()
            .unwrap()
    }
}

/// The shell lines that call `tenon`, in YAML or Markdown.
fn lines(text: &str) -> Vec<&str> {
    let starts = ["- tenon ", "run: tenon ", "entry: tenon ", "tenon "];
    text.lines()
        .map(str::trim)
        .filter_map(|line| {
            let start = starts.iter().find(|start| line.starts_with(**start))?;
            Some(&line[start.len() - "tenon ".len()..])
        })
        .collect()
}

#[test]
fn every_line_of_the_snippets_runs() {
    let checkout = Checkout::new();
    let mut count = 0;
    for name in
        ["examples/ci/github.yml", "examples/ci/gitlab.yml", ".pre-commit-hooks.yaml", "docs/ci.md"]
    {
        let text = fs::read_to_string(root().join(name)).unwrap();
        // `new` is held to its word elsewhere.
        for line in lines(&text).into_iter().filter(|line| !line.starts_with("tenon new")) {
            count += 1;
            let ran = checkout.sh(line);
            let said = String::from_utf8_lossy(&ran.stderr).into_owned();
            let out = String::from_utf8_lossy(&ran.stdout).into_owned();
            assert!(ran.status.success(), "{name}: {line}\n{out}{said}");
        }
    }
    assert!(count >= 15, "only {count} lines were found");
    let read = |name: &str| fs::read_to_string(checkout.folder.path().join(name)).unwrap();
    assert!(read("junit.xml").contains("<testsuite"), "{}", read("junit.xml"));
    assert!(read("diff.md").contains("retry"), "{}", read("diff.md"));
    assert!(read("tenon.sarif").contains("2.1.0"));
}

#[test]
fn the_gates_close() {
    let checkout = Checkout::new();
    fs::write(checkout.file(), CONNECTOR.replace("$.id", "$.nr").replace("key =", "key  ="))
        .unwrap();
    checkout.commit();
    for line in [
        "tenon fmt --check connectors",
        "tenon test --format junit connectors",
        "tenon diff --git \"origin/$GITHUB_BASE_REF...HEAD\" --format markdown connectors",
    ] {
        assert_eq!(checkout.sh(line).status.code(), Some(1), "{line}");
    }
}

/// No parser is worth a dependency here; what editors get wrong is tabs and odd indentation.
#[test]
fn the_snippets_are_indented_as_yaml_is() {
    for name in ["examples/ci/github.yml", "examples/ci/gitlab.yml", ".pre-commit-hooks.yaml"] {
        for (at, line) in fs::read_to_string(root().join(name)).unwrap().lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            assert!(!line.contains('\t') && indent % 2 == 0, "{name}:{}: {line}", at + 1);
        }
    }
}
