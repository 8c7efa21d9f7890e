//! What `tenon try` shows. Pure.

use std::fmt::Write as _;

use serde_json::Value;

use crate::cli::preview::{Sent, Tried};

/// Each record's way, from what came to what would be sent.
pub fn tried(records: &[Tried]) -> String {
    let total = records.len();
    let mut out = String::new();
    for (index, record) in records.iter().enumerate() {
        let gap = if index == 0 { "" } else { "\n" };
        let _ = writeln!(out, "{gap}record {} of {total}", index + 1);
        indented(&mut out, &pretty(&record.record));
        one(&mut out, record);
    }
    out
}

fn one(out: &mut String, record: &Tried) {
    if let Some(event) = &record.event {
        let _ = writeln!(out, "event {}", event.id);
        let _ = writeln!(out, "  key {}, revision {}", event.key, event.revision);
        if let Some(tenant) = &event.tenant {
            let _ = writeln!(out, "  tenant {tenant}");
        }
        if event.delete {
            out.push_str("  a removal\n");
        }
    }
    if let Some(mapped) = &record.mapped {
        out.push_str("mapped\n");
        indented(out, &pretty(mapped));
    }
    for sent in &record.sent {
        write(out, sent);
    }
    match (&record.problem, record.outcome) {
        (Some(problem), outcome) => {
            let _ = writeln!(out, "{outcome}: {problem}");
        }
        (None, "filtered") => out.push_str("filtered: `when` says that it is not this stream's\n"),
        (None, _) if record.sent.is_empty() => out.push_str("goes nowhere: `to` is empty\n"),
        (None, _) => {}
    }
}

fn write(out: &mut String, sent: &Sent) {
    match sent {
        Sent::Http { destination, method, url, headers, body } => {
            let _ = writeln!(out, "to {destination}: {method} {url}");
            for (name, value) in headers {
                let _ = writeln!(out, "  {name}: {value}");
            }
            if !matches!(body, Value::String(text) if text.is_empty()) {
                out.push('\n');
                indented(out, &pretty(body));
            }
        }
        Sent::File { destination, path } => {
            let _ = writeln!(out, "to {destination}: a line of {path}");
        }
        Sent::Stdout { destination } => {
            let _ = writeln!(out, "to {destination}: a line of standard output");
        }
    }
}

fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

fn indented(out: &mut String, text: &str) {
    for line in text.lines() {
        let _ = writeln!(out, "  {line}");
    }
}
