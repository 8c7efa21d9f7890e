//! The language: the example of its description, a page for every code, and the prose of messages.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use proptest::prelude::{ProptestConfig, any, prop, proptest};
use tenon::{
    definition::{self, lints::LINTS},
    diagnostic::{CODES, Diagnostic, Severity, SourceFile, render_human, to_github, to_json},
    plan::{
        CompiledFile, Levels, Sources, check_set, compile_file, compile_file_with,
        compile_settings, read,
    },
    review::{self, Filed, Side},
};

const SHOPIFY: &str = include_str!("fixtures/shopify.toml");

/// Files by path, without a disk.
#[derive(Default)]
struct Files(HashMap<PathBuf, Arc<SourceFile>>);

impl Files {
    fn add(&mut self, path: &str, text: &str) {
        let file = SourceFile { path: path.into(), text: text.to_owned() };
        self.0.insert(path.into(), Arc::new(file));
    }
}

impl Sources for Files {
    fn read(&self, path: &Path) -> Option<Arc<SourceFile>> {
        self.0.get(path).cloned()
    }
}

/// Examples show one thing each, so they have neither owner nor runbook, and poll without cursors.
/// `but` is the lint that an example is about.
fn levels(but: &str) -> Levels {
    let brief = ["missing_owner", "missing_runbook", "short_dedupe"];
    let lines = brief.iter().filter(|lint| **lint != but);
    let lines: Vec<String> = lines.map(|lint| format!("{lint} = \"allow\"")).collect();
    let text = format!("[lints]\n{}", lines.join("\n"));
    let file = SourceFile { path: "tenon.toml".into(), text };
    compile_settings(&Arc::new(file)).0.lints
}

fn compile(text: &str) -> CompiledFile {
    let mut files = Files::default();
    files.add("shop.toml", text);
    files.add("fixtures/order_paid.json", "{}");
    compile_file_with(Path::new(""), Path::new("shop.toml"), &files, &levels(""))
}

/// What is said about a connector file.
fn check_text(text: &str) -> String {
    render_human(&compile(text).diagnostics, false)
}

/// What is said about an example of a page. `# file: PATH` lines begin further files; the first is
/// the one that is compiled, several connectors are checked as a set.
fn check_example(code: &str, text: &str, secrets_are_set: bool) -> Vec<Diagnostic> {
    if code.starts_with("E10") {
        let file = SourceFile { path: "tenon.toml".into(), text: text.to_owned() };
        return compile_settings(&Arc::new(file)).1;
    }
    let mut files = Files::default();
    let mut paths = Vec::new();
    let marked = if text.starts_with("# file: ") {
        text.to_owned()
    } else {
        format!("# file: shop.toml\n{text}")
    };
    for part in marked.split("# file: ").skip(1) {
        let (path, text) = part.split_once('\n').unwrap();
        files.add(path.trim(), text.trim_end_matches('\n'));
        paths.push(path.trim().to_owned());
    }
    let lint = LINTS.iter().find(|lint| lint.code.0 == code).map_or("", |lint| lint.name);
    let levels = levels(lint);
    let compiled = |path: &str| compile_file_with(Path::new(""), Path::new(path), &files, &levels);
    if code.starts_with("E09") || code.contains("12") && !code.starts_with("E0") {
        let all: Vec<CompiledFile> = paths.iter().map(|path| compiled(path)).collect();
        let mut found: Vec<Diagnostic> =
            all.iter().flat_map(|file| file.diagnostics.clone()).collect();
        found.extend(check_set(&all.iter().collect::<Vec<_>>()));
        return found;
    }
    if code.starts_with("E11") {
        let [old, new] = [&paths[0], &paths[1]].map(|path| one_side(path, &files));
        let reviewed = review::review(&old, &new);
        let found = reviewed.iter().filter_map(|one| review::gate(&old, &new, one));
        return found.flatten().collect();
    }
    let file = compiled(&paths[0]);
    let mut found = file.diagnostics.clone();
    if code == "N0601" {
        found.extend(file.unset_secrets(Severity::Notice, |_| secrets_are_set));
    }
    found
}

/// A side of `tenon diff` that is one file.
fn one_side(path: &str, files: &Files) -> Side {
    let written = read(Path::new(""), Path::new(path), files);
    assert!(written.compiled.plan.is_some(), "{:?}", written.compiled.diagnostics);
    Side { files: vec![Filed { at: "shop.toml".into(), written }], schemas: BTreeMap::new() }
}

/// The fenced TOML blocks of a page.
fn examples(page: &str) -> Vec<String> {
    page.split("```toml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap().to_owned())
        .collect()
}

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_code_has_a_page_that_proves_it() {
    let index = page("README.md");
    let mut wrong = String::new();
    for info in CODES {
        let code = info.code.0;
        let page = page(&format!("{code}.md"));
        assert!(page.starts_with(&format!("# {code}: {}\n", info.title)), "{code}: headline");
        assert!(
            index.contains(&format!("[{code}]({code}.md) | {} |", info.title)),
            "{code}: index"
        );
        let examples = examples(&page);
        let (found, mended) = if code == "E0110" {
            let missing = compile_file(Path::new(""), Path::new("gone.toml"), &Files::default());
            (missing.diagnostics, &examples[0])
        } else {
            assert_eq!(examples.len(), 2, "{code}: one example, one way out");
            (check_example(code, &examples[0], false), &examples[1])
        };
        let codes: Vec<&str> = found.iter().map(|diagnostic| diagnostic.code.0).collect();
        let rendered = render_human(&found, false);
        if codes != [code] || found[0].severity != info.severity {
            let _ = writeln!(wrong, "{code}: the example says\n{rendered}");
            continue;
        }
        let still = check_example(code, mended, true);
        if !still.is_empty() {
            let said = render_human(&still, false);
            let _ = writeln!(wrong, "{code}: mended, it says\n{said}");
        }
        insta::assert_snapshot!(code, rendered);
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn no_page_is_left_over() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let known = CODES.iter().any(|info| name == format!("{}.md", info.code));
        assert!(known || name == "README.md", "{name} belongs to no code");
    }
}

#[test]
fn the_example_of_the_language_has_no_errors() {
    let compiled = compile(SHOPIFY);
    let codes: Vec<&str> = compiled.diagnostics.iter().map(|found| found.code.0).collect();
    assert_eq!(codes, ["N0201"], "{}", render_human(&compiled.diagnostics, false));
    let unset = compiled.unset_secrets(Severity::Notice, |_| false);
    assert_eq!(unset.len(), 4);
}

#[test]
fn the_schemas_for_editors_are_those_of_the_code() {
    for (name, schema) in [
        ("connector.schema.json", definition::json_schema()),
        ("tenon.schema.json", definition::settings_json_schema()),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas").join(name);
        let expected = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if std::env::var_os("TENON_UPDATE_SCHEMAS").is_some() {
            std::fs::write(&path, &expected).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(committed, expected, "{name}: run the tests with TENON_UPDATE_SCHEMAS=1");
    }
}

#[test]
fn the_schema_for_editors_accepts_what_check_accepts() {
    let validator = jsonschema::validator_for(&definition::json_schema()).unwrap();
    let mut texts = vec![SHOPIFY.to_owned()];
    for info in CODES.iter().filter(|info| !info.code.0.starts_with("E10")) {
        let mended = examples(&page(&format!("{}.md", info.code))).pop().unwrap();
        texts.push(mended.split("\n# file: ").next().unwrap().to_owned());
    }
    for text in texts {
        let value: toml::Value = toml::from_str(&text).unwrap();
        let value = plain(&value);
        let errors: Vec<String> = validator
            .iter_errors(&value)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{errors:#?}\n{text}");
    }
    let wrong = serde_json::json!({ "name": "a", "nmae": "b" });
    assert!(!validator.is_valid(&wrong));
}

/// What editors show and offer: each key and word is explained, defaults and examples are values
/// that the key takes.
#[test]
fn the_schemas_for_editors_explain_and_offer_what_holds() {
    fn walk(root: &serde_json::Value, value: &serde_json::Value, at: &str, keys: &mut usize) {
        for (name, property) in value["properties"].as_object().into_iter().flatten() {
            *keys += 1;
            assert!(property["description"].as_str().is_some_and(|d| !d.is_empty()), "{at}.{name}");
            let mut alone = property.clone();
            alone["$defs"] = root["$defs"].clone();
            let validator = jsonschema::validator_for(&alone).unwrap();
            let examples = property["examples"].as_array().into_iter().flatten();
            for offered in examples.chain(property.get("default")) {
                assert!(validator.is_valid(offered), "{at}.{name}: {offered}");
            }
        }
        if let Some(words) = value["enum"].as_array() {
            for docs in
                [&value["markdownEnumDescriptions"], &value["x-taplo"]["docs"]["enumValues"]]
            {
                assert_eq!(docs.as_array().map(Vec::len), Some(words.len()), "{at}");
            }
        }
        let inner =
            value.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value));
        let items = value.as_array().into_iter().flatten().map(|value| ("[]".to_owned(), value));
        for (name, value) in inner.chain(items) {
            if !matches!(name.as_str(), "examples" | "default") {
                walk(root, value, &format!("{at}.{name}"), keys);
            }
        }
    }
    for (schema, least) in
        [(definition::json_schema(), 150), (definition::settings_json_schema(), 25)]
    {
        let mut keys = 0;
        walk(&schema, &schema, "", &mut keys);
        assert!(keys >= least, "only {keys} keys were looked at");
    }
}

/// TOML as JSON, dates as strings.
fn plain(value: &toml::Value) -> serde_json::Value {
    match value {
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(items) => items.iter().map(plain).collect(),
        toml::Value::Table(table) => {
            table.iter().map(|(key, value)| (key.clone(), plain(value))).collect()
        }
        other => serde_json::to_value(other).unwrap(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_text_makes_check_panic(text in any::<String>()) {
        speak(&text);
    }

    #[test]
    fn no_broken_connector_makes_check_panic(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0_u8..8), 1..6),
    ) {
        let mut text = SHOPIFY.to_owned();
        for (at, other, what) in cuts {
            let lines: Vec<&str> = text.lines().collect();
            if lines.is_empty() {
                break;
            }
            let (line, from) = (at.index(lines.len()), other.index(lines.len()));
            let mut lines: Vec<String> = lines.into_iter().map(str::to_owned).collect();
            let cut = other.index(lines[line].chars().count() + 1);
            let byte = lines[line].char_indices().nth(cut).map_or(lines[line].len(), |(byte, _)| byte);
            match what {
                0 => { lines.remove(line); }
                1 => { let copy = lines[from].clone(); lines.insert(line, copy); }
                2 => lines[line].truncate(byte),
                3 => lines[line].insert_str(byte, ["\"", "{{", "}}", "$", "[", "|", "ä", "\\"][from % 8]),
                4 => lines.swap(line, from),
                5 => lines[line] = lines[line].replace(" = \"", " = 5 # \""),
                6 => lines[line] = lines[line].replace('.', ".."),
                _ => lines[line] = lines[line].replace(['"', '\''], "'''"),
            }
            text = lines.join("\n");
        }
        speak(&text);
    }
}

/// All that is said about a text, in every form.
fn speak(text: &str) {
    let compiled = compile(text);
    let _ = render_human(&compiled.diagnostics, false);
    let _ = to_json(&compiled.diagnostics);
    let _ = to_github(&compiled.diagnostics);
    let file = SourceFile { path: "tenon.toml".into(), text: text.to_owned() };
    let _ = render_human(&compile_settings(&Arc::new(file)).1, true);
    let broken = compiled.diagnostics.iter().any(|found| found.severity == Severity::Error);
    assert!(!(broken && compiled.plan.is_some()), "a file with an error has no plan");
}

/// A connector that is right; the tests below break it.
const GOOD: &str = r#"name = "shop"

[schedule]
every = "5m"

[stream.orders]
key = "$.id"

[stream.orders.poll]
path = "https://shop.example/orders"

[stream.orders.map]
id    = "$.id"
total = "$.total | decimal"

[destination.erp]
type = "http"
url  = "https://erp.example/orders/{{ out.id }}"
"#;

/// What is said about [`GOOD`] with one line replaced.
fn broken(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    check_text(&GOOD.replace(from, to))
}

#[test]
fn what_is_right_is_not_talked_about() {
    assert_eq!(check_text(GOOD), "");
}

#[test]
fn all_problems_are_reported_at_once() {
    insta::assert_snapshot!(check_text(
        r#"
name = "shop"
verison = "1.0.0"

[stream.orders]
key = "$.id | strnig"
to = ["erp", "file"]

[stream.orders.poll]
path = "/orders"
records = "$.orders[*"
page = { by = "link", param = "page" }

[stream.orders.map]
total = "{{ recrd.total }}"

[destination.erp]
type = "http"
url = "erp.example/orders"
retry = { attempts = "3" }
"#
    ));
}

#[test]
fn keys_that_come_later_are_called_so() {
    insta::assert_snapshot!(broken("type = \"http\"", "type = \"postgres\""), @r###"
    error[E0106]: `type` cannot be "postgres"
      --> shop.toml:17:8
       |
    17 | type = "postgres"
       |        ^^^^^^^^^^ expected one of `http`, `file`, `stdout`
       |
       = help: `postgres` is part of the language, but this version does not have it yet
    "###);
}

#[test]
fn a_rate_belongs_to_the_source() {
    insta::assert_snapshot!(broken("path = \"https", "rate = \"1/s\"\npath = \"https"), @r###"
    error[E0103]: unknown key `rate` in [stream.orders.poll]
      --> shop.toml:10:1
       |
    10 | rate = "1/s"
       | ^^^^ expected one of `method`, `base`, `path`, `query`, `headers`, `body`, `form`, `records`, `each`, `detail`, `job`, `decode`, `csv`, `page`, `cursor`, `on`, `auth`, `timeout`, `concurrency`, `max_response`
       |
       = help: `rate` is a key of [source], [destination.NAME]
    "###);
}

#[test]
fn columns_are_exact_in_any_kind_of_string() {
    insta::assert_snapshot!(broken("\"$.total | decimal\"", "'''$.total | decimel'''"), @r###"
    error[E0303]: unknown filter `decimel`
      --> shop.toml:14:22
       |
    14 | total = '''$.total | decimel'''
       |                      ^^^^^^^ did you mean `decimal`?
    "###);
    insta::assert_snapshot!(broken("\"$.total | decimal\"", "\"\"\"\n$.total | decimel\"\"\""), @r###"
    error[E0303]: unknown filter `decimel`
      --> shop.toml:15:11
       |
    15 | $.total | decimel"""
       |           ^^^^^^^ did you mean `decimal`?
    "###);
    insta::assert_snapshot!(broken("\"$.total | decimal\"", "\"$['\\u00e4'] | decimel\""), @r###"
    error[E0303]: unknown filter `decimel`
      --> shop.toml:14:9
       |
    14 | total = "$['\u00e4'] | decimel"
       |         ^^^^^^^^^^^^^^^^^^^^^^^ did you mean `decimal`?
    "###);
    insta::assert_snapshot!(broken("\"$.total | decimal\"", "'ä {{ record.ä | decimel }}'"), @r###"
    error[E0302]: unexpected character
      --> shop.toml:14:22
       |
    14 | total = 'ä {{ record.ä | decimel }}'
       |                      ^
    "###);
}

#[test]
fn secrets_of_a_poll_go_into_auth() {
    insta::assert_snapshot!(broken("path = \"https", "headers = { X-Key = \"{{ secret.KEY }}\" }\npath = \"https"), @r###"
    error[E0304]: there is no `secret` here
      --> shop.toml:10:25
       |
    10 | headers = { X-Key = "{{ secret.KEY }}" }
       |                         ^^^^^^ not here
       |
       = help: `secret` exists in auth, verify, webhook and destination settings; what a poll needs goes into an [auth.NAME] table that the source names
    "###);
}

#[test]
fn joined_urls_point_to_their_own_part() {
    insta::assert_snapshot!(broken("path = \"https://shop.example/orders\"", "path = \"/orders/{{ vars.x }}/{{ y }}\"\n\n[source]\nbase = \"https://shop.example\""), @r###"
    error[E0304]: there is no `y` here
      --> shop.toml:10:33
       |
    10 | path = "/orders/{{ vars.x }}/{{ y }}"
       |                                 ^
       |
       = help: here stand vars, now, window, page, each
    "###);
    insta::assert_snapshot!(broken("path = \"https://shop.example/orders\"", "path = \"/orders\"\n\n[source]\nbase = \"ftp://shop.example\""), @r###"
    error[E0402]: not a URL
      --> shop.toml:13:9
       |
    13 | base = "ftp://shop.example"
       |         ^^^^^^^^^^^^^^^^^^ expected https:// or http://
       |
       = help: `ftp` is not a scheme that is spoken here
    "###);
    insta::assert_snapshot!(broken("https://erp.example/orders/{{ out.id }}", "https://erp example/{{ out.id }}"), @r###"
    error[E0402]: not a URL
      --> shop.toml:18:20
       |
    18 | url  = "https://erp example/{{ out.id }}"
       |                    ^ no blanks in a URL
       |
       = help: write %20 for a blank
    "###);
}

#[test]
fn tables_written_twice_name_both_lines() {
    insta::assert_snapshot!(check_text(&format!("{GOOD}\n[stream.orders]\nwhen = \"{{{{ true }}}}\"\n")), @r###"
    error[E0102]: `orders` is defined twice
      --> shop.toml:20:9
       |
     6 | [stream.orders]
       |         ------ first defined here
    ...
    20 | [stream.orders]
       |         ^^^^^^ defined again here
       |
       = help: keep one of the two; a table is written either with dotted keys or under its own header
    "###);
    insta::assert_snapshot!(broken("key = \"$.id\"", "key = \"$.id\"\nkey = \"$.number\""), @r###"
    error[E0102]: `key` is defined twice
     --> shop.toml:8:1
      |
    7 | key = "$.id"
      | --- first defined here
    8 | key = "$.number"
      | ^^^ defined again here
      |
      = help: keep one of the two; a table is written either with dotted keys or under its own header
    "###);
    insta::assert_snapshot!(broken("[destination.erp]", "[destination]\nerp.order = \"key\"\n\n[destination.erp]"), @r###"
    error[E0102]: `erp` is defined twice
      --> shop.toml:19:14
       |
    17 | erp.order = "key"
       | --- first defined here
    18 |
    19 | [destination.erp]
       |              ^^^ defined again here
       |
       = help: keep one of the two; a table is written either with dotted keys or under its own header
    "###);
}

#[test]
fn broken_toml_is_explained() {
    insta::assert_snapshot!(broken("key = \"$.id\"", "key = \"$.id"), @r###"
    error[E0101]: not valid TOML: invalid basic string
     --> shop.toml:7:12
      |
    7 | key = "$.id
      |            ^ expected `"`
      |
      = help: strings end on the line they begin; longer ones stand in three quotes
    "###);
    insta::assert_snapshot!(broken("key = \"$.id\"", "key: \"$.id\""), @r###"
    error[E0101]: not valid TOML: key with no value
     --> shop.toml:7:6
      |
    7 | key: "$.id"
      |      ^ expected `=`
      |
      = help: TOML writes `key = value`, one a line
    "###);
    insta::assert_snapshot!(broken("[stream.orders]", "[stream.orders"), @r###"
    error[E0101]: not valid TOML: unclosed table
     --> shop.toml:6:15
      |
    6 | [stream.orders
      |               ^ expected `]`
    "###);
    insta::assert_snapshot!(broken("key = \"$.id\"", "key = "), @r###"
    error[E0101]: not valid TOML: string values must be quoted
     --> shop.toml:7:7
      |
    7 | key = 
      |       ^ expected text in quotes
      |
      = help: text stands in quotes: key = "value"
    "###);
}

#[test]
fn wrong_types_say_what_to_write() {
    insta::assert_snapshot!(broken("every = \"5m\"", "every = 300"), @r###"
    error[E0104]: `every` cannot be an integer
     --> shop.toml:4:9
      |
    4 | every = 300
      |         ^^^ expected a duration such as "30s" or "1h30m"
      |
      = help: a duration has a unit: write "300s" for seconds
    "###);
    insta::assert_snapshot!(broken("every = \"5m\"", "every = \"-30d\""), @r###"
    error[E0801]: `every` is not a duration
     --> shop.toml:4:9
      |
    4 | every = "-30d"
      |         ^^^^^^ expected numbers with units: `30s`, `5m`, `2h`, `90d`, `1h30m`
      |
      = help: write every = "30d"
    "###);
    insta::assert_snapshot!(broken("key = \"$.id\"", "key = \"$.id\"\ndedupe = true"), @r###"
    error[E0104]: `dedupe` cannot be a boolean
     --> shop.toml:8:10
      |
    8 | dedupe = true
      |          ^^^^ expected "forever" or a duration such as "30s" or "1h30m"
    "###);
    insta::assert_snapshot!(broken("name = \"shop\"", "name = \"shop\"\nsource = \"https://shop.example\""), @r###"
    error[E0104]: `source` cannot be a string
     --> shop.toml:2:10
      |
    2 | source = "https://shop.example"
      |          ^^^^^^^^^^^^^^^^^^^^^^ expected a table
    "###);
    insta::assert_snapshot!(broken("type = \"http\"", "type = \"http\"\nconcurrency = \"8\""), @r###"
    error[E0104]: `concurrency` cannot be a string
      --> shop.toml:18:15
       |
    18 | concurrency = "8"
       |               ^^^ expected a whole number
       |
       = help: numbers stand without quotes: 8
    "###);
}

#[test]
fn cursors_say_what_moves_them() {
    let cursor = |keys: &str| check_text(&format!("{GOOD}\n[stream.orders.poll.cursor]\n{keys}"));
    insta::assert_snapshot!(cursor("start_param = \"since\"\nformat = \"epoch\""), @r###"
    error[E0406]: unknown format `epoch`
      --> shop.toml:22:10
       |
    22 | format = "epoch"
       |          ^^^^^^^ expected one of `rfc3339`, `epoch_s`, `epoch_ms`, `integer`, `string`
       |
       = help: any other format is a strftime pattern, such as "%Y-%m-%d %H:%M:%S"
    "###);
    insta::assert_snapshot!(cursor("field = \"$.id\"\nformat = \"integer\"\nstart = \"-90d\"\nlookback = \"1h\"\nstart_param = \"since\""), @r###"
    error[E0406]: `start` is a time, the format is none
      --> shop.toml:23:9
       |
    23 | start = "-90d"
       |         ^^^^^^ expected a value in the cursor's format

    error[E0406]: `lookback` is a time, the cursor is none
      --> shop.toml:24:1
       |
    24 | lookback = "1h"
       | ^^^^^^^^ only a cursor that is a time has this
       |
       = help: say with `format` how the time is written
    "###);
    insta::assert_snapshot!(cursor("window = \"30d\"\nsorted = \"asc\"\nstart_param = \"since\""), @r###"
    error[E0406]: windows need a beginning
      --> shop.toml:21:1
       |
    21 | window = "30d"
       | ^^^^^^ `start` expected beside this
       |
       = help: write start = "2025-01-01", or start = "-90d" for so long ago

    error[E0406]: `sorted` needs `field`
      --> shop.toml:22:1
       |
    22 | sorted = "asc"
       | ^^^^^^ which value of a record is meant?
       |
       = help: write field = "$.updated_at"
    "###);
    insta::assert_snapshot!(cursor("field = \"$.id\"\nfilter = false"), @r###"
    error[E0405]: the cursor is kept but no request uses it
      --> shop.toml:20:1
       |
    20 | [stream.orders.poll.cursor]
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^^ every run would read everything again
       |
       = help: add `start_param`, the query parameter that takes it; or place {{ window.start }} in the request; or say filter = true to drop older records on this side, or sorted = "desc" where the newest come first
    "###);
    insta::assert_snapshot!(cursor("field = \"$.id\"\nformat = [\"rfc3339\", \"integer\"]\nsorted = \"desc\""), @r###"
    error[E0406]: formats of different kinds
      --> shop.toml:22:22
       |
    22 | format = ["rfc3339", "integer"]
       |                      ^^^^^^^^^ values of this one cannot be compared with those of the first
       |
       = help: either all are times, or there is one format
    "###);
}

#[test]
fn a_window_in_the_request_uses_the_cursor() {
    let text = GOOD.replace(
        "path = \"https://shop.example/orders\"",
        "path = \"https://shop.example/orders\"\nquery = { q = \"since:{{ window.start }}\" }\ncursor = { field = \"$.at\" }",
    );
    assert_eq!(check_text(&text), "");
}
