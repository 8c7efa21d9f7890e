//! Failures in words: for people, for programs, for the server that shows test results. Pure.

use std::{fmt::Write as _, sync::Arc};

use serde_json::{Value, json};

use super::{
    compare::Failure,
    suite::{Report, Verdict},
};
use crate::{
    definition::table::Loc,
    diagnostic::{SourceFile, Span, render_excerpt, render_human, to_json},
};

/// More places are not pointed at: the list below the line has them all.
const MOST_PLACES: usize = 6;
/// Longer values are cut.
const MOST_VALUE_CHARS: usize = 200;
/// A label beside a line is shorter.
const MOST_LABEL_CHARS: usize = 60;

const RED: &str = "\u{1b}[31m";
const GREEN: &str = "\u{1b}[32m";
const BOLD_RED: &str = "\u{1b}[1;31m";
const DIM: &str = "\u{1b}[2m";
const PLAIN: &str = "\u{1b}[0m";

/// A line for each test, then what is wrong with those that failed.
pub fn human(report: &Report, colour: bool) -> String {
    let paint = |style: &'static str| if colour { style } else { "" };
    let mut out = String::new();
    for test in &report.tests {
        let (style, word) = match &test.verdict {
            Verdict::Passed => (GREEN, "ok  "),
            Verdict::Failed(_) | Verdict::Unfit(..) => (BOLD_RED, "FAIL"),
        };
        let (file, line) = (test.file.path.display(), span(&test.file, test.at).start().0);
        let _ = writeln!(
            out,
            "{}{word}{} {}{file}:{line}{} {}",
            paint(style),
            paint(PLAIN),
            paint(DIM),
            paint(PLAIN),
            test.name,
        );
    }
    if !report.diagnostics.is_empty() {
        let _ = write!(out, "\n{}", render_human(&report.diagnostics, colour));
    }
    for test in &report.tests {
        let failures = match &test.verdict {
            Verdict::Passed => continue,
            Verdict::Unfit(message, label) => {
                let title = format!("{}: {message}", test.name);
                let place = (span(&test.file, test.failed_at()), label.clone());
                let _ = write!(out, "\n{}", render_excerpt(&title, &[place], colour));
                continue;
            }
            Verdict::Failed(failures) => failures,
        };
        for failure in failures {
            out.push('\n');
            one(&mut out, &test.name, &test.file, failure, colour);
        }
    }
    out
}

fn one(out: &mut String, name: &str, file: &Arc<SourceFile>, failure: &Failure, colour: bool) {
    let step = failure.step.map(|step| format!(", step {}", step + 1)).unwrap_or_default();
    let title = format!("{name}{step}: {}", failure.title);
    out.push_str(&render_excerpt(&title, &places(file, failure), colour));
    let (minus, plus, plain) = if colour { (RED, GREEN, PLAIN) } else { ("", "", "") };
    for difference in &failure.differences {
        let path = if difference.path.is_empty() {
            String::new()
        } else {
            format!("{}: ", difference.path)
        };
        for (style, sign, value) in
            [(minus, '-', &difference.expected), (plus, '+', &difference.got)]
        {
            if let Some(value) = value {
                let _ =
                    writeln!(out, "  {style}{sign} {path}{}{plain}", cut(value, MOST_VALUE_CHARS));
            }
        }
    }
    for note in &failure.notes {
        let _ = writeln!(out, "  = {note}");
    }
}

/// Where a failure shows: each field that can be pointed at, or else the expectation's key.
fn places(file: &Arc<SourceFile>, failure: &Failure) -> Vec<(Span, String)> {
    let mut places: Vec<(Loc, String)> = Vec::new();
    for difference in &failure.differences {
        let label = match (&difference.expected, &difference.got) {
            (Some(_), Some(got)) => format!("got {}", cut(got, MOST_LABEL_CHARS)),
            (Some(_), None) => "not there".to_owned(),
            // What is not in the file has no place in it.
            (None, _) => continue,
        };
        if !places.iter().any(|(at, _)| *at == difference.at) {
            places.push((difference.at, label));
        }
    }
    places.truncate(MOST_PLACES);
    if places.is_empty() {
        places.push((failure.at, failure.label.clone()));
    }
    places.into_iter().map(|(at, label)| (span(file, at), label)).collect()
}

fn span(file: &Arc<SourceFile>, at: Loc) -> Span {
    Span { file: Arc::clone(file), range: at.start as usize..at.end as usize }
}

fn cut(value: &Value, most: usize) -> String {
    let text = value.to_string();
    if text.chars().count() <= most {
        return text;
    }
    text.chars().take(most).chain(['…']).collect()
}

/// Everything as one document.
pub fn json(report: &Report) -> Value {
    let tests: Vec<Value> = report
        .tests
        .iter()
        .map(|test| {
            let failures = match &test.verdict {
                Verdict::Passed => Vec::new(),
                Verdict::Unfit(message, label) => vec![with_place(
                    json!({ "title": message, "label": label }),
                    &span(&test.file, test.failed_at()),
                )],
                Verdict::Failed(failures) => {
                    failures.iter().map(|failure| failure_json(&test.file, failure)).collect()
                }
            };
            let (line, _) = span(&test.file, test.at).start();
            json!({
                "connector": &*test.connector,
                "name": test.name,
                "file": test.file.path.to_string_lossy(),
                "line": line,
                "passed": failures.is_empty(),
                "failures": failures,
            })
        })
        .collect();
    json!({
        "tests": tests,
        "diagnostics": to_json(&report.diagnostics),
        "summary": {
            "passed": report.passed(),
            "failed": report.failed(),
            "files_without_tests": report.without_tests,
        },
    })
}

fn failure_json(file: &Arc<SourceFile>, failure: &Failure) -> Value {
    let differences: Vec<Value> = failure
        .differences
        .iter()
        .map(|d| {
            let mut object = json!({ "path": d.path });
            // A value that is null is told from one that is not there.
            if let Some(expected) = &d.expected {
                object["expected"] = expected.clone();
            }
            if let Some(got) = &d.got {
                object["got"] = got.clone();
            }
            with_place(object, &span(file, d.at))
        })
        .collect();
    let object = json!({
        "key": failure.key,
        "step": failure.step.map(|step| step + 1),
        "title": failure.title,
        "label": failure.label,
        "differences": differences,
        "notes": failure.notes,
    });
    with_place(object, &span(file, failure.at))
}

fn with_place(mut object: Value, span: &Span) -> Value {
    let ((line, column), (end_line, end_column)) = (span.start(), span.end());
    object["line"] = json!(line);
    object["column"] = json!(column);
    object["end_line"] = json!(end_line);
    object["end_column"] = json!(end_column);
    object
}

/// As `JUnit`'s XML, one suite a file: what the servers of every build system read.
pub fn junit(report: &Report) -> String {
    let total = report.tests.len();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(out, "<testsuites tests=\"{total}\" failures=\"{}\">", report.failed());
    for tests in report.tests.chunk_by(|a, b| a.file.path == b.file.path) {
        let Some(first) = tests.first() else { continue };
        let failed = tests.iter().filter(|test| !test.has_passed()).count();
        let _ = writeln!(
            out,
            "  <testsuite name=\"{}\" file=\"{}\" tests=\"{}\" failures=\"{failed}\">",
            escaped(&first.connector),
            escaped(&first.file.path.to_string_lossy()),
            tests.len(),
        );
        for test in tests {
            let (line, _) = span(&test.file, test.at).start();
            let _ = write!(
                out,
                "    <testcase classname=\"{}\" name=\"{}\" line=\"{line}\"",
                escaped(&test.connector),
                escaped(&test.name),
            );
            match &test.verdict {
                Verdict::Passed => out.push_str("/>\n"),
                failed => {
                    out.push_str(">\n");
                    junit_failures(&mut out, &test.name, &test.file, test.failed_at(), failed);
                    out.push_str("    </testcase>\n");
                }
            }
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

fn junit_failures(
    out: &mut String,
    name: &str,
    file: &Arc<SourceFile>,
    at: Loc,
    verdict: &Verdict,
) {
    let mut add = |title: &str, text: &str| {
        let (title, text) = (escaped(title), escaped(text));
        let _ = writeln!(out, "      <failure message=\"{title}\">{text}</failure>");
    };
    match verdict {
        Verdict::Passed => {}
        Verdict::Unfit(message, label) => {
            let place = (span(file, at), label.clone());
            add(message, &render_excerpt(message, &[place], false));
        }
        Verdict::Failed(failures) => {
            for failure in failures {
                let mut text = String::new();
                one(&mut text, name, file, failure, false);
                add(&failure.title, &text);
            }
        }
    }
}

/// XML 1.0 has no place for most control characters, not even escaped.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
