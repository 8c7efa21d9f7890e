//! The shipped connectors in `integrations/`: valid, formatted, tested, and what their table of
//! contents says.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use toml::{Table, Value};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn tenon(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tenon")).args(arguments).current_dir(root()).output().unwrap()
}

/// Every shipped connector by its file's stem.
fn connectors() -> BTreeMap<String, Table> {
    let files = fs::read_dir(root().join("integrations")).unwrap();
    let paths: Vec<PathBuf> = files.map(|entry| entry.unwrap().path()).collect();
    let connectors = paths.iter().filter(|path| path.extension().is_some_and(|end| end == "toml"));
    connectors
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let text = fs::read_to_string(path).unwrap();
            (name, text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display())))
        })
        .collect()
}

fn tables<'t>(of: &'t Table, key: &str) -> Vec<(&'t String, &'t Table)> {
    let named = of.get(key).and_then(Value::as_table).into_iter().flatten();
    named.filter_map(|(name, value)| Some((name, value.as_table()?))).collect()
}

fn list<'t>(of: &'t Table, key: &str) -> impl Iterator<Item = &'t Table> {
    of.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table)
}

/// `check` may say that variables and secrets are an instance's to give, and nothing else.
#[test]
fn shipped_connectors_have_no_findings() {
    let checked = tenon(&["check", "integrations", "--format", "json"]);
    let found: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    let findings = found["diagnostics"].as_array().unwrap();
    let others: Vec<_> = findings
        .iter()
        .filter(|one| !matches!(one["code"].as_str(), Some("N0201" | "N0601")))
        .map(|one| format!("{one:#}"))
        .collect();
    assert!(checked.status.success() && others.is_empty(), "{}", others.join("\n"));
}

#[test]
fn the_tests_of_shipped_connectors_pass() {
    let ran = tenon(&["test", "integrations"]);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
}

/// A shipped connector says what it needs, and shows that it works.
#[test]
fn shipped_connectors_are_complete() {
    let mut lacking = Vec::new();
    for (name, connector) in connectors() {
        let mut lacks = |what: String| lacking.push(format!("{name}: {what}"));
        if connector.get("name").and_then(Value::as_str) != Some(&name) {
            lacks("its name is not its file's".to_owned());
        }
        for key in ["version", "summary", "owner", "docs", "change", "test"] {
            if !connector.contains_key(key) {
                lacks(format!("no `{key}`"));
            }
        }
        if connector.contains_key("destination") {
            lacks("a destination, which is its instances' matter".to_owned());
        }
        for (var, declared) in tables(&connector, "vars") {
            if !declared.contains_key("doc") || !declared.contains_key("example") {
                lacks(format!("`vars.{var}` without `doc` or `example`"));
            }
        }
        let tested: BTreeSet<_> =
            list(&connector, "test").filter_map(|test| test.get("stream")?.as_str()).collect();
        let streams = tables(&connector, "stream");
        for (stream, table) in &streams {
            let is_parent = table.get("to").and_then(Value::as_array).is_some_and(Vec::is_empty);
            if streams.len() > 1 && !is_parent && !tested.contains(stream.as_str()) {
                lacks(format!("stream `{stream}` has no test"));
            }
        }
    }
    assert!(lacking.is_empty(), "{}", lacking.join("\n"));
}

/// Fixtures that no test reads are not kept.
#[test]
fn every_fixture_is_used() {
    let mut unused = Vec::new();
    for folder in fs::read_dir(root().join("integrations/fixtures")).unwrap() {
        let folder = folder.unwrap().path();
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(root().join(format!("integrations/{name}.toml")))
            .unwrap_or_else(|_| panic!("fixtures/{name} belongs to no connector"));
        for file in fs::read_dir(&folder).unwrap() {
            let file = file.unwrap().file_name().into_string().unwrap();
            if !text.contains(&format!("\"fixtures/{name}/{file}\"")) {
                unused.push(format!("fixtures/{name}/{file}"));
            }
        }
    }
    assert!(unused.is_empty(), "no test reads {unused:?}");
}

#[test]
fn the_instance_that_is_shown_is_complete() {
    let readme = fs::read_to_string(root().join("integrations/README.md")).unwrap();
    let shown =
        super::docs::blocks(&readme).into_iter().find(|block| block.kind == "toml instance");
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["connectors", "integrations"] {
        fs::create_dir(at(name)).unwrap();
    }
    let shopify = "integrations/shopify.toml";
    fs::copy(root().join(shopify), at(shopify)).unwrap();
    fs::write(at("connectors/shopify-acme.toml"), shown.unwrap().text).unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_tenon"));
    check.args(["check", "connectors"]).current_dir(folder.path());
    for secret in ["ACME_SHOPIFY_TOKEN", "ACME_SHOPIFY_WEBHOOK_SECRET"] {
        check.env(secret, "x");
    }
    let checked = check.output().unwrap();
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(
        checked.status.success() && !said.contains("error") && !said.contains("N0201"),
        "{said}"
    );
}

/// The table in `integrations/README.md`, made from the files; `TENON_BLESS=1` rewrites it.
#[test]
fn the_table_of_contents_is_what_the_files_say() {
    const BEGIN: &str = "<!-- connectors -->\n";
    const END: &str = "<!-- end -->";
    let path = root().join("integrations/README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once(BEGIN).unwrap();
    let (found, after) = rest.split_once(END).unwrap();
    let mut expected =
        String::from("| connector | streams | webhook | poll | auth |\n|---|---|---|---|---|\n");
    for (name, connector) in connectors() {
        let _ = writeln!(expected, "{}", row(&name, &connector));
    }
    if std::env::var_os("TENON_BLESS").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(found, expected, "run with TENON_BLESS=1 to rewrite it");
}

fn row(name: &str, connector: &Table) -> String {
    let streams = tables(connector, "stream");
    let named = |wanted: &dyn Fn(&Table) -> bool| {
        let names = streams.iter().filter(|(_, table)| wanted(table));
        names.map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>()
    };
    let all = named(&|_| true);
    let is_copy = |table: &Table, key: &str| {
        let original = table.get("like").and_then(Value::as_str);
        let original = streams.iter().find(|(name, _)| Some(name.as_str()) == original);
        table.contains_key(key) || original.is_some_and(|(_, table)| table.contains_key(key))
    };
    let by = |key: &str| {
        let some = named(&|table| is_copy(table, key));
        match some.len() {
            0 => "–".to_owned(),
            count if count == all.len() => "all".to_owned(),
            _ => some.join(", "),
        }
    };
    let auth: BTreeSet<String> = tables(connector, "auth")
        .into_iter()
        .map(|(_, table)| {
            let kind = table.get("type").and_then(Value::as_str).unwrap_or_default();
            match table.get("grant").and_then(Value::as_str) {
                Some(grant) => format!("{kind}: {grant}"),
                None => kind.to_owned(),
            }
        })
        .collect();
    let auth = if auth.is_empty() {
        "–".to_owned()
    } else {
        auth.into_iter().collect::<Vec<_>>().join(", ")
    };
    let verify = verify_of(connector, &streams);
    let webhook = match by("webhook") {
        none if none == "–" => none,
        some => format!("{some} ({verify})"),
    };
    format!("| [{name}]({name}.toml) | {} | {webhook} | {} | {auth} |", all.join(", "), by("poll"))
}

/// How webhooks prove where they come from.
fn verify_of(connector: &Table, streams: &[(&String, &Table)]) -> String {
    let shared = connector.get("source").and_then(|source| source.get("webhook"));
    let own = streams.iter().filter_map(|(_, table)| table.get("webhook"));
    let schemes: BTreeSet<&str> =
        shared.into_iter().chain(own).filter_map(|hook| hook.get("verify")?.as_str()).collect();
    schemes.into_iter().collect::<Vec<_>>().join(", ")
}

/// What docs/coverage.md says is used somewhere stands there, and every connector is named.
#[test]
fn what_covers_the_census_is_there() {
    let docs = root().join("docs");
    let page = fs::read_to_string(docs.join("coverage.md")).unwrap();
    let mut wrong = Vec::new();
    let links = page.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    for (link, _) in links {
        let (file, heading) = link.split_once('#').unwrap_or((link, ""));
        let Ok(text) = fs::read_to_string(docs.join(file)) else {
            wrong.push(format!("{link}: no such file"));
            continue;
        };
        let slug = |line: &str| {
            let kept = line.trim_start_matches('#').trim().to_lowercase();
            let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-'));
            kept.collect::<String>().replace(' ', "-")
        };
        let headings = text.lines().filter(|line| line.starts_with('#'));
        if !heading.is_empty() && !headings.map(slug).any(|known| known == heading) {
            wrong.push(format!("{link}: no such heading"));
        }
    }
    for row in page.lines().filter(|line| line.starts_with('|') && !line.starts_with("|--")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        if cells.iter().any(|cell| cell.is_empty() && cells.last() == Some(cell)) {
            wrong.push(format!("{row}: used by nothing"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
