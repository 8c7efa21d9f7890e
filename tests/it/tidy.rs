//! The house rules that a machine can hold: layers, purity, sizes, and nothing that pretends.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// From the bottom up. A file uses its own module and those before it.
const LAYERS: &[&str] = &[
    "world",
    "event",
    "diagnostic",
    "egress",
    "map",
    "definition",
    "plan",
    "model",
    "document",
    "review",
    "propose",
    "bus",
    "auth",
    "deliver",
    "ingest",
    "observe",
    "engine",
    "testing",
    "admin",
    "cli",
];

/// Pure: no async, no I/O, no clock, no randomness.
const PURE: &[&str] = &[
    "src/definition/",
    "src/plan/",
    "src/model/",
    "src/document/",
    "src/review/",
    "src/map/",
    "src/propose/",
    "src/diagnostic",
    "src/deliver/batch.rs",
    "src/deliver/decide.rs",
    "src/deliver/prepare.rs",
    "src/deliver/verdict.rs",
    "src/engine/batch.rs",
    "src/engine/batch/stored.rs",
    "src/ingest/naming.rs",
    "src/ingest/webhook/body_path.rs",
    "src/ingest/webhook/certificate.rs",
    "src/ingest/webhook/jwt.rs",
    "src/ingest/webhook/keys.rs",
    "src/ingest/webhook/locate.rs",
    "src/ingest/webhook/message.rs",
    "src/ingest/webhook/public.rs",
    "src/ingest/webhook/verify.rs",
    "src/event.rs",
    "src/engine/replay/request.rs",
    "src/observe/fields.rs",
    "src/observe/redact.rs",
    "src/observe/slo.rs",
    "src/testing/compare.rs",
    "src/testing/diff.rs",
    "src/testing/document.rs",
    "src/testing/report.rs",
    "src/testing/update.rs",
];

const IMPURE: &[&str] = &[
    "async fn",
    ".await",
    "std::fs",
    "std::env",
    "std::net",
    "tokio::",
    "SystemTime::",
    "Instant::",
    "::now()",
    "std::thread",
];

const PRETENCE: &[&str] = &["todo!(", "unimplemented!(", "dbg!(", "TODO", "FIXME", "XXX"];

/// Lines of a file without its tests.
const LONGEST_FILE_LINES: usize = 650;

fn sources(folder: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    walk(&root.join(folder), &mut found);
    found.sort();
    found
        .into_iter()
        // Unit tests in a file of their own are held to what tests are held to.
        .filter(|path| !path.to_string_lossy().ends_with("tests.rs"))
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (path.strip_prefix(root).unwrap().display().to_string(), text)
        })
        .collect()
}

/// What comes before the unit tests.
fn code(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

/// Code lines with their numbers, comments left out.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    code(text).lines().enumerate().map(|(at, line)| (at + 1, line.split("//").next().unwrap_or("")))
}

fn layer(path: &str) -> Option<usize> {
    let module = path.strip_prefix("src/")?.split(['/', '.']).next()?;
    LAYERS.iter().position(|l| *l == module)
}

/// Modules named after `crate::` in a file, a `use crate::{...}` over several lines included.
fn used_modules(text: &str) -> Vec<(usize, String)> {
    let mut used = Vec::new();
    let mut depth: Option<usize> = None;
    for (number, line) in lines(text) {
        let mut rest = line;
        while let Some(at) = rest.find("crate::") {
            rest = &rest[at + "crate::".len()..];
            if rest.starts_with('{') {
                depth = Some(0);
                break;
            }
            let name: String =
                rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            used.push((number, name));
        }
        if let Some(open) = depth {
            let mut open = open;
            let mut word = String::new();
            for c in rest.chars() {
                match c {
                    '{' => open += 1,
                    '}' => open = open.saturating_sub(1),
                    c if c.is_alphanumeric() || c == '_' => {
                        word.push(c);
                        continue;
                    }
                    _ => {}
                }
                // Only names at the first level of the braces are modules of the crate.
                if !word.is_empty() && (open == 1 && c != '}' || open == 0 && c == '}') {
                    used.push((number, word.clone()));
                }
                word.clear();
            }
            depth = (open > 0).then_some(open);
        }
    }
    used.retain(|(_, name)| LAYERS.contains(&name.as_str()));
    used
}

#[test]
fn a_file_imports_only_downward() {
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        let Some(own) = layer(&path) else { continue };
        for (line, name) in used_modules(&text) {
            let other = LAYERS.iter().position(|l| *l == name).unwrap();
            if other > own {
                wrong.push(format!("{path}:{line}: {} uses {name}", LAYERS[own]));
            }
        }
    }
    assert!(wrong.is_empty(), "upward imports:\n{}", wrong.join("\n"));
}

#[test]
fn pure_modules_are_pure() {
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        if !PURE.iter().any(|pure| path.starts_with(pure)) {
            continue;
        }
        for (number, line) in lines(&text) {
            if let Some(word) = IMPURE.iter().find(|word| line.contains(**word)) {
                wrong.push(format!("{path}:{number}: {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "not pure:\n{}", wrong.join("\n"));
}

#[test]
fn only_the_engine_spawns() {
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        for (number, line) in lines(&text) {
            if line.contains("tokio::spawn(") && path != "src/engine/tasks.rs" {
                wrong.push(format!("{path}:{number}"));
            }
        }
    }
    assert!(wrong.is_empty(), "spawned outside engine/tasks.rs:\n{}", wrong.join("\n"));
}

#[test]
fn nothing_pretends_and_every_file_says_what_it_is() {
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        if !text.starts_with("//!") {
            wrong.push(format!("{path}: does not open with what it promises"));
        }
        let long = code(&text).lines().count();
        if long > LONGEST_FILE_LINES {
            wrong.push(format!("{path}: {long} lines is more than one subject"));
        }
        for word in PRETENCE {
            if text.contains(word) {
                wrong.push(format!("{path}: contains {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_checker_itself_sees_imports() {
    let text = "use crate::{\n    bus::{Bus, Seq, auth::X},\n    event::Event,\n};\nlet x = crate::cli::run();\n";
    let found: Vec<String> = used_modules(text).into_iter().map(|(_, name)| name).collect();
    assert_eq!(found, ["bus", "event", "cli"]);
}
