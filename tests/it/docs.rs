//! Documentation is executed: every TOML block compiles, every command line parses, every link to a
//! file leads somewhere.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use tenon::{
    diagnostic::{Diagnostic, Severity, SourceFile, render_human},
    engine::files::FolderSources,
    plan::{Sources, compile_file, compile_settings},
};

/// A fenced block: where it begins, what it says it is, and its text.
pub struct Block {
    pub line: usize,
    pub kind: String,
    pub text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// README and everything under docs, but for the error pages, which `language.rs` runs.
fn documents() -> Vec<PathBuf> {
    let named = ["README.md", "CONTRIBUTING.md", "schemas/README.md"];
    let mut found: Vec<PathBuf> = named.iter().map(|name| root().join(name)).collect();
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "md") {
            found.push(path);
        }
    }
    found.sort();
    found
}

pub fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), open.as_mut()) {
            (Some(kind), None) => {
                let kind = kind.trim().to_owned();
                open = Some(Block { line: number + 1, kind, text: String::new() });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (None, Some(block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is never closed");
    found
}

/// One text under one name, and the project's own files beside it.
struct Shown<'a>(&'a Path, &'a str);

impl Sources for Shown<'_> {
    fn read(&self, path: &Path) -> Option<Arc<SourceFile>> {
        let text = if path == self.0 {
            self.1.to_owned()
        } else {
            fs::read_to_string(path).or_else(|_| fs::read_to_string(root().join(path))).ok()?
        };
        Some(Arc::new(SourceFile { path: path.to_owned(), text }))
    }
}

fn rendered(diagnostic: &Diagnostic) -> String {
    render_human(std::slice::from_ref(diagnostic), false)
}

/// What is wrong with a connector, rendered; secrets that are not set are no problem here.
fn problems(text: &str) -> Vec<String> {
    let path = Path::new("shown.toml");
    let compiled = compile_file(root(), path, &Shown(path, text));
    let wrong = compiled.diagnostics.iter().filter(|d| d.severity > Severity::Notice);
    wrong.map(rendered).collect()
}

/// A fragment is completed with what it does not show: a name, a stream, a destination.
pub fn completed(fragment: &str) -> String {
    let has = |what: &str| fragment.starts_with(what) || fragment.contains(&format!("\n{what}"));
    // What stands in a table is no key of the file.
    let own = if fragment.starts_with('[') { "" } else { fragment.split("\n[").next().unwrap() };
    let mut text = String::new();
    for (key, value) in [("name", "shown"), ("version", "1.0.0"), ("owner", "docs")] {
        if !own.lines().any(|line| line.starts_with(&format!("{key} "))) {
            text.push_str(&format!("{key} = \"{value}\"\n"));
        }
    }
    text.push_str(fragment);
    if !has("[source]") && fragment.contains(".poll]") {
        text.push_str("\n[source]\nbase = \"https://api.example\"\n");
    }
    if !has("[schedule]") && !fragment.contains(".schedule]") && fragment.contains(".poll]") {
        text.push_str("\n[schedule]\nevery = \"5m\"\n");
    }
    if !has("[stream.orders]") && (!has("[stream.") || fragment.contains("[stream.orders.")) {
        text.push_str("\n[stream.orders]\nkey = \"$.id\"\n");
    }
    if !fragment.contains(".poll]") && !fragment.contains(".webhook]") {
        text.push_str("\n[stream.orders.webhook]\npath = \"/shown\"\nverify = \"none\"\n");
    }
    if !has("[destination.") {
        text.push_str("\n[destination.out]\ntype = \"stdout\"\n");
    }
    text
}

#[test]
fn every_toml_block_compiles() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for path in documents() {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        for block in blocks(&fs::read_to_string(&path).unwrap()) {
            let found = match block.kind.as_str() {
                "toml" => problems(&completed(&block.text)),
                "toml tenon.toml" => {
                    let file = SourceFile { path: "tenon.toml".into(), text: block.text.clone() };
                    let (_, found) = compile_settings(&Arc::new(file));
                    found.iter().map(rendered).collect()
                }
                _ => continue,
            };
            count += 1;
            wrong.extend(found.into_iter().map(|p| format!("{name}:{}\n{p}", block.line)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 10, "only {count} blocks were found");
}

/// The Markdown table of one TOML table's keys, made from the schema that is made from the
/// compiler's key tables.
fn key_table(table: &serde_json::Value) -> String {
    let required: Vec<&str> = table["required"]
        .as_array()
        .map(|names| names.iter().filter_map(serde_json::Value::as_str).collect())
        .unwrap_or_default();
    let mut text = String::from("| key | meaning | default |\n|---|---|---|\n");
    for (name, key) in table["properties"].as_object().unwrap() {
        let doc = key["description"].as_str().unwrap_or_default().replace('|', "\\|");
        let default = match &key["default"] {
            _ if required.contains(&name.as_str()) => "required".to_owned(),
            serde_json::Value::Null => String::new(),
            value => format!("`{value}`"),
        };
        text.push_str(&format!("| `{name}` | {doc} | {default} |\n"));
    }
    text
}

/// `TENON_BLESS=1 cargo test` writes the tables anew.
#[test]
fn the_reference_lists_every_key() {
    let schema = tenon::definition::json_schema();
    let path = root().join("docs/language.md");
    let text = fs::read_to_string(&path).unwrap();
    // Tables go by the name that messages give them.
    let titled: std::collections::BTreeMap<&str, &serde_json::Value> = schema["$defs"]
        .as_object()
        .unwrap()
        .values()
        .filter_map(|table| Some((table["title"].as_str()?, table)))
        .collect();
    let mut made = String::new();
    let mut shown = BTreeSet::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        made.push_str(line);
        made.push('\n');
        let Some(name) = line.strip_prefix("<!-- keys: ").and_then(|l| l.strip_suffix(" -->"))
        else {
            continue;
        };
        let table = if name == "the connector" { Some(&&schema) } else { titled.get(name) };
        let Some(table) = table else { panic!("no table {name}: {:?}", titled.keys()) };
        shown.insert(name.to_owned());
        made.push_str(&key_table(table));
        made.push_str("<!-- end -->\n");
        for skipped in lines.by_ref() {
            if skipped == "<!-- end -->" {
                break;
            }
        }
    }
    if std::env::var_os("TENON_BLESS").is_some() {
        fs::write(&path, &made).unwrap();
    } else {
        assert!(
            made == text,
            "the key tables of docs/language.md are not the compiler's: TENON_BLESS=1"
        );
    }
    let all = titled.keys();
    let minor = ["[source.webhook]", "`reply`", "an item of `secrets`"];
    let missing: Vec<_> = all.filter(|n| !shown.contains(**n) && !minor.contains(*n)).collect();
    assert!(missing.is_empty(), "tables without a place in the reference: {missing:?}");
}

/// The table of changes in docs/reviewing.md is the table that classes them. `TENON_BLESS=1` writes it.
#[test]
fn every_change_and_its_class_is_documented() {
    let path = root().join("docs/reviewing.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once("<!-- rules -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end -->").unwrap();
    let mut table = String::from("| rule | change | class | why |\n|---|---|---|---|\n");
    for rule in tenon::review::RULES {
        let info = rule.info();
        let whom = match info.class {
            tenon::review::Class::Breaking => format!(" for {}", info.whom.word()),
            _ => String::new(),
        };
        let class = info.class.word();
        table.push_str(&format!(
            "| `{}` | {} | {class}{whom} | {} |\n",
            info.id, info.what, info.why
        ));
    }
    let made = format!("{before}<!-- rules -->\n{table}<!-- end -->{after}");
    if std::env::var_os("TENON_BLESS").is_some() {
        fs::write(&path, &made).unwrap();
    } else {
        assert!(made == text, "the table of docs/reviewing.md is not the code's: TENON_BLESS=1");
    }
}

#[test]
fn every_tenon_command_line_parses() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for path in documents() {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        for block in blocks(&fs::read_to_string(&path).unwrap()) {
            if block.kind != "sh" {
                continue;
            }
            for line in block.text.lines().filter(|l| l.starts_with("tenon ")) {
                count += 1;
                let words = line.split('#').next().unwrap().split_whitespace();
                if let Err(error) = tenon::cli::command().try_get_matches_from(words) {
                    wrong.push(format!("{name}:{} `{line}`: {error}", block.line));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 10, "only {count} command lines were found");
}

#[test]
fn the_readme_names_the_two_commands() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let commands: Vec<String> =
        blocks(&readme).into_iter().filter(|b| b.kind == "sh").map(|b| b.text).collect();
    assert_eq!(commands[0], "cargo run --release --example quickstart\n");
    assert_eq!(commands[1], "cargo test\n");
}

#[test]
fn every_link_to_a_file_leads_somewhere() {
    let mut wrong = Vec::new();
    let more = ["ARCHITECTURE.md", "CHANGELOG.md", "DEPENDENCIES.md"].map(|n| root().join(n));
    for path in documents().into_iter().chain(more) {
        let text = fs::read_to_string(&path).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap();
            if target.starts_with("http") {
                continue;
            }
            let to = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            let leads = match target.split_once('#') {
                Some((_, place)) => {
                    fs::read_to_string(&to).is_ok_and(|text| has_place(&text, place))
                }
                None => to.exists(),
            };
            if !leads {
                wrong.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "dead links:\n{}", wrong.join("\n"));
}

/// Whether a page has a heading that is linked to as `#place`.
fn has_place(text: &str, place: &str) -> bool {
    let anchor = |heading: &str| -> String {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    text.lines().filter(|line| line.starts_with('#')).any(|line| anchor(line) == place)
}

fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|e| e == "rs") {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

/// What follows each `mark`, as far as `is_part` takes it.
fn words_after(text: &str, mark: &str, is_part: impl Fn(char) -> bool) -> BTreeSet<String> {
    let rests = text.split(mark).skip(1);
    rests.map(|rest| rest.chars().take_while(|c| is_part(*c)).collect()).collect()
}

#[test]
fn every_series_and_every_route_is_in_the_operators_page() {
    let page = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let mut code = String::new();
    sources(&root().join("src"), &mut code);
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let shown = words_after(&page, "`tenon_", is_name);
    let mut made = words_after(&code, "\"tenon_", is_name);
    // What Prometheus makes of a histogram.
    made.retain(|name| !name.ends_with("_bucket"));
    let missing: Vec<&String> = made.difference(&shown).collect();
    assert!(
        made.len() > 40 && missing.is_empty(),
        "series that docs/operations.md lacks: {missing:?}"
    );
    let unknown: Vec<&String> =
        shown.iter().filter(|name| !made.contains(*name) && !name.ends_with('_')).collect();
    assert!(unknown.is_empty(), "series that only docs/operations.md has: {unknown:?}");

    let routes = fs::read_to_string(root().join("src/admin/route.rs")).unwrap();
    let routes = routes.split("pub fn route").next().unwrap();
    let mut missing = Vec::new();
    for verb in ["GET", "POST", "DELETE"] {
        for path in words_after(routes, &format!("`{verb} "), |c| c != '`') {
            // `/api/v1/replays/{id}/resume` stands there as `…/resume`.
            let last = path.rsplit('/').next().unwrap();
            if !page.contains(&format!("`{verb} {path}`")) && !page.contains(&format!("`…/{last}`"))
            {
                missing.push(format!("{verb} {path}"));
            }
        }
    }
    assert!(missing.is_empty(), "routes that docs/operations.md lacks: {missing:?}");
}

#[test]
fn every_dependency_has_its_line() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let listed = fs::read_to_string(root().join("DEPENDENCIES.md")).unwrap();
    let section = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let missing: Vec<&str> = section
        .lines()
        .filter_map(|line| line.split(['=', ' ']).next().filter(|name| !name.is_empty()))
        .filter(|name| !listed.contains(name))
        .collect();
    assert!(missing.is_empty(), "not in DEPENDENCIES.md: {missing:?}");
}

#[test]
fn the_examples_compile() {
    let folder = root().join("examples/quickstart");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "toml") {
            let compiled = compile_file(root(), &path, &FolderSources::new());
            let wrong = compiled.diagnostics.iter().filter(|d| d.severity > Severity::Notice);
            let found: Vec<String> = wrong.map(rendered).collect();
            assert!(found.is_empty(), "{}:\n{}", path.display(), found.join("\n"));
        }
    }
}

/// The table of presets, from their files: `TENON_BLESS=1 cargo test` writes it anew.
#[test]
fn the_presets_are_listed_as_they_are() {
    use tenon::definition::presets::PRESETS;
    let path = root().join("docs/verify.md");
    let text = fs::read_to_string(&path).unwrap();
    let mut table = String::from(
        "| preset | algorithm | signature in | signed | time | for |\n|---|---|---|---|---|---|\n",
    );
    for (name, preset) in PRESETS {
        let parsed: toml::Table = preset.parse().unwrap();
        let plan = &parsed["verify"][name];
        let text = |table: &str, key: &str| -> String {
            let value = plan.get(table).and_then(|table| table.get(key));
            match value {
                Some(toml::Value::Array(items)) => {
                    items.iter().filter_map(toml::Value::as_str).collect::<Vec<_>>().join(", ")
                }
                Some(value) => value.as_str().unwrap_or_default().to_owned(),
                None => String::new(),
            }
        };
        let place = [("header", "`"), ("body", "body `"), ("query", "query `")]
            .iter()
            .find_map(|(key, open)| {
                let given = text("signature", key);
                (!given.is_empty()).then(|| format!("{open}{given}`"))
            })
            .unwrap_or_default();
        let algorithm = plan["algorithm"].as_str().unwrap();
        let signed = match plan.get("signed").and_then(toml::Value::as_str) {
            // Adyen's fields would be the longest line of the file.
            Some(signed) if signed.len() > 100 => "fields of the body".to_owned(),
            Some(signed) => format!("`{}`", signed.replace('|', "\\|").replace('\n', "⏎")),
            None => String::new(),
        };
        let time = match (text("timestamp", "past"), text("timestamp", "future")) {
            (past, _) if past.is_empty() => String::new(),
            (past, future) => format!("{past}, {future}"),
        };
        let about = preset.trim_start_matches("# ").split(['.', ':', ';', '(']).next().unwrap();
        table += &format!(
            "| [`{name}`](../integrations/verify/{name}.toml) | {algorithm} | {place} | {signed} | {time} | {} |\n",
            about.trim()
        );
    }
    let (before, rest) = text.split_once("<!-- presets -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end -->\n").unwrap();
    let made = format!("{before}<!-- presets -->\n{table}<!-- end -->\n{after}");
    if std::env::var_os("TENON_BLESS").is_some() {
        fs::write(&path, &made).unwrap();
    } else {
        assert!(made == text, "docs/verify.md: run the tests with TENON_BLESS=1");
    }
}
