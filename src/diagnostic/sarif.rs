//! SARIF 2.1.0 (OASIS), for code scanning: every code is a rule with its page as help, every finding
//! a result that stays the same one while lines move.

use std::{
    collections::HashMap,
    path::{Component, Path, PathBuf},
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::{CODES, Code, CodeInfo, Diagnostic, Severity, Span};

/// What stands for itself in a segment of a path (RFC 3986, `pchar`), but for `:`, which would make
/// the beginning of a relative path a scheme.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'@')
    .remove(b'+')
    .remove(b',')
    .remove(b'=');

/// The name of the folder that relative addresses are relative to.
const ROOT: &str = "SRCROOT";

/// All findings as one run of one tool. `folder` is the folder that relative paths of files are
/// relative to; what lies in it goes by its path from there, whatever was asked for.
pub fn to_sarif(diagnostics: &[Diagnostic], folder: &Path) -> Value {
    let mut seen = HashMap::new();
    let results: Vec<Value> =
        diagnostics.iter().map(|diagnostic| result(diagnostic, folder, &mut seen)).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "Tenon",
                "version": env!("CARGO_PKG_VERSION"),
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": CODES.iter().map(rule).collect::<Vec<_>>(),
            }},
            "originalUriBaseIds": {
                ROOT: { "description": { "text": "The folder that tenon was called in." } },
            },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Notice => "note",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

fn rule(info: &CodeInfo) -> Value {
    let body = info.page.split_once("\n\n").map_or(info.page, |(_, body)| body);
    json!({
        "id": info.code.0,
        "shortDescription": { "text": info.title },
        "fullDescription": { "text": info.explanation },
        "help": { "text": format!("{}: {}", info.title, info.explanation), "markdown": body },
        "defaultConfiguration": { "level": level(info.severity) },
        "properties": properties(info),
    })
}

/// What GitHub sorts and filters by.
fn properties(info: &CodeInfo) -> Value {
    let severity = match info.severity {
        Severity::Notice => "recommendation",
        Severity::Warning => "warning",
        Severity::Error => "error",
    };
    let mut properties = json!({ "precision": "very-high", "problem.severity": severity, "tags": [subject(info.code)] });
    if let Some(score) = security_severity(info.code) {
        properties["security-severity"] = json!(score);
        properties["tags"] = json!([subject(info.code), "security"]);
    }
    properties
}

/// What is open to others: a score as in CVSS.
fn security_severity(code: Code) -> Option<&'static str> {
    match code.0 {
        "W0601" => Some("8.0"),
        "E0502" | "E0504" | "E0506" => Some("7.0"),
        "N0501" | "W0501" => Some("5.0"),
        _ => None,
    }
}

/// Codes are grouped by subject.
fn subject(code: Code) -> &'static str {
    match code.0.get(1..3) {
        Some("01") => "syntax",
        Some("02") => "names",
        Some("03") => "expressions",
        Some("04") => "polls",
        Some("05") => "webhooks",
        Some("06") => "secrets",
        Some("07") => "destinations",
        Some("08") => "schedules",
        Some("09") => "project",
        Some("10") => "settings",
        _ => "maintenance",
    }
}

/// How often the same line was found fault with for the same reason, by file.
type Seen = HashMap<(PathBuf, u64), u32>;

fn result(diagnostic: &Diagnostic, folder: &Path, seen: &mut Seen) -> Value {
    let mut result = json!({
        "ruleId": diagnostic.code.0,
        "ruleIndex": CODES.iter().position(|info| info.code == diagnostic.code),
        "level": level(diagnostic.severity),
        "message": { "text": text(diagnostic) },
        "locations": [location(&diagnostic.span, folder)],
        "partialFingerprints": { "primaryLocationLineHash": fingerprint(diagnostic, seen) },
    });
    if !diagnostic.related.is_empty() {
        let related = diagnostic.related.iter().enumerate().map(|(at, (span, label))| {
            let mut location = location(span, folder);
            location["id"] = json!(at + 1);
            location["message"] = json!({ "text": label });
            location
        });
        result["relatedLocations"] = related.collect();
    }
    result
}

/// In sentences, since most viewers show no more than this.
fn text(diagnostic: &Diagnostic) -> String {
    let parts = [Some(&diagnostic.message), Some(&diagnostic.label), diagnostic.help.as_ref()];
    let parts = parts.into_iter().flatten().filter(|part| !part.is_empty());
    parts.map(String::as_str).collect::<Vec<_>>().join("\n")
}

/// The line's text and what is wrong with it, not where it stands; the count tells repetitions apart.
fn fingerprint(diagnostic: &Diagnostic, seen: &mut Seen) -> String {
    let file = &diagnostic.span.file;
    let start = diagnostic.span.clamped().start;
    let begin = file.text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let line = file.text[begin..].lines().next().unwrap_or_default().trim();
    let parts = [diagnostic.code.0, line, &diagnostic.message];
    let hash = xxh3_64(parts.join("\n").as_bytes());
    let count = seen.entry((file.path.clone(), hash)).or_insert(0);
    *count += 1;
    format!("{hash:016x}:{count}")
}

fn location(span: &Span, folder: &Path) -> Value {
    let ((line, column), (end_line, end_column)) = (span.start(), span.end());
    json!({
        "physicalLocation": {
            "artifactLocation": address(&span.file.path, folder),
            "region": {
                "startLine": line,
                "startColumn": column,
                "endLine": end_line,
                "endColumn": end_column,
            },
        },
    })
}

/// Relative within the folder, whole outside of it.
fn address(path: &Path, folder: &Path) -> Value {
    let (whole, folder) = (plain(&folder.join(path)), plain(folder));
    match whole.strip_prefix(&folder) {
        Ok(within) => json!({ "uri": encoded(within), "uriBaseId": ROOT }),
        Err(_) => json!({ "uri": format!("file:///{}", encoded(&whole)) }),
    }
}

/// Without `.` and `..`, as far as the text tells.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if plain.file_name().is_some() => _ = plain.pop(),
            part => plain.push(part),
        }
    }
    plain
}

fn encoded(path: &Path) -> String {
    let names = path.components().filter(|part| !matches!(part, Component::RootDir));
    let names = names.map(|part| part.as_os_str().to_string_lossy().into_owned());
    names.map(|name| utf8_percent_encode(&name, SEGMENT).to_string()).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::diagnostic::{SourceFile, codes};

    fn found(path: &str, text: &str, at: usize) -> Diagnostic {
        let file = Arc::new(SourceFile { path: path.into(), text: text.to_owned() });
        let span = Span { file, range: at..at + 1 };
        Diagnostic::new(codes::UNKNOWN_KEY, span.clone(), "unknown key `x`", "did you mean `y`?")
            .help("look")
            .related(span, "here")
    }

    #[test]
    fn a_result_has_all_that_code_scanning_asks_for() {
        let sarif = to_sarif(&[found("a b/ü.toml", "name = 1\nx = 2\n", 9)], Path::new("/repo"));
        let run = &sarif["runs"][0];
        let result = &run["results"][0];
        insta::assert_snapshot!(serde_json::to_string_pretty(result).unwrap());
        let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
        assert_eq!(rules.len(), CODES.len());
        assert_eq!(rules[result["ruleIndex"].as_u64().unwrap() as usize]["id"], "E0103");
        for rule in rules {
            for part in ["shortDescription", "fullDescription", "help"] {
                let text = rule[part]["text"].as_str().unwrap();
                assert!(!text.is_empty() && !text.contains("://"), "{rule}");
            }
        }
    }

    #[test]
    fn a_fingerprint_does_not_know_the_line_number() {
        let print =
            |text: &str, at: usize, seen: &mut Seen| fingerprint(&found("a", text, at), seen);
        let mut seen = Seen::new();
        let one = print("x = 2\n", 0, &mut seen);
        assert_eq!(print("# above\n\n  x = 2\n", 11, &mut Seen::new()), one);
        assert_ne!(print("x = 3\n", 0, &mut Seen::new()), one);
        assert_ne!(print("x = 2\n", 0, &mut seen), one, "the second of its kind");
    }

    #[test]
    fn addresses_are_relative_where_they_can_be() {
        for (path, uri, is_relative) in [
            ("./c/a.toml", "c/a.toml", true),
            ("/repo/c/../d/a.toml", "d/a.toml", true),
            ("a:b?.toml", "a%3Ab%3F.toml", true),
            ("../other/a.toml", "file:///other/a.toml", false),
            ("/etc/a.toml", "file:///etc/a.toml", false),
        ] {
            let address = address(Path::new(path), Path::new("/repo"));
            assert_eq!(address["uri"], uri);
            assert_eq!(address["uriBaseId"] == ROOT, is_relative, "{path}");
        }
    }
}
