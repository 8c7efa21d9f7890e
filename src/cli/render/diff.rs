//! What `tenon diff` says to people, programs and workflows. Pure; `markdown.rs` writes comments.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{
    counted,
    table::{Style, Tone},
};
use crate::{
    cli::{
        diff::{Compared, Report},
        rerun::Difference,
    },
    diagnostic::{Diagnostic, Severity, render_human, to_github, to_json},
    observe::fields::Field,
    review::{Change, Class, Spot, Whom},
};

/// The classes as a report counts them.
pub(super) const CLASSES: [Class; 4] =
    [Class::Breaking, Class::Additive, Class::Operational, Class::Cosmetic];

/// "2 breaking and 1 cosmetic change in 1 connector; the version gate fails"
pub(super) fn summary(report: &Report) -> String {
    let mut parts = Vec::new();
    let counts: Vec<(usize, &str)> = CLASSES
        .iter()
        .map(|class| (report.count(*class), class.word()))
        .filter(|(count, _)| *count > 0)
        .collect();
    let total: usize = counts.iter().map(|(count, _)| count).sum();
    if total == 0 {
        parts.push("no difference".to_owned());
    } else {
        let words: Vec<String> =
            counts.iter().map(|(count, word)| format!("{count} {word}")).collect();
        let (last, first) = (words.last().cloned().unwrap_or_default(), &words[..words.len() - 1]);
        let list = if first.is_empty() { last } else { format!("{} and {last}", first.join(", ")) };
        let noun = if total == 1 { "change" } else { "changes" };
        let connectors = counted(report.connectors.len() as u64, "connector");
        parts.push(format!("{list} {noun} in {connectors}"));
    }
    if report.unchanged > 0 {
        parts.push(format!("{} unchanged", report.unchanged));
    }
    let errors = report.broken.iter().filter(|found| found.severity == Severity::Error).count();
    if errors > 0 {
        parts.push(format!("{} in the new side", counted(errors as u64, "error")));
    }
    if !report.broken_before.is_empty() {
        let errors = report.broken_before.len() as u64;
        parts.push(format!("{} in the old side", counted(errors, "error")));
    }
    if let Some(records) = report.records {
        let differ = report.connectors.iter().map(|compared| compared.records.len()).sum::<usize>();
        let records = counted(records as u64, "fixture");
        parts.push(format!("{records} run, {differ} come out differently"));
    }
    parts.extend(verdict(report));
    parts.join("; ")
}

/// What the version gate says.
fn verdict(report: &Report) -> Option<String> {
    if report.gate().next().is_some() {
        return Some("the version gate fails".to_owned());
    }
    let matters = |one: &&Compared| one.reviewed.class().is_some_and(|it| it > Class::Cosmetic);
    let (held, free): (Vec<&Compared>, Vec<&Compared>) =
        report.connectors.iter().filter(matters).partition(|one| one.gate.is_some());
    match (report.is_gated, held.len(), free.len()) {
        (false, _, _) | (_, 0, 0) => None,
        (true, _, 0) => Some("versions and changelogs fit".to_owned()),
        (true, 0, _) => Some("nothing is versioned on both sides".to_owned()),
        (true, _, free) => Some(format!(
            "versions and changelogs fit, {} not versioned on both sides",
            counted(free as u64, "connector")
        )),
    }
}

/// "breaking for consumers"
pub(super) fn class_of(change: &Change) -> String {
    let info = change.rule.info();
    match (info.class, info.whom) {
        (Class::Breaking, whom) => format!("breaking for {}", whom.word()),
        (class, Whom::Consumers | Whom::Producers | Whom::Operators) => class.word().to_owned(),
    }
}

/// "shop 2.1.0 → 2.2.0", "shop (was store) 1.0.0"
pub(super) fn heading(compared: &Compared) -> String {
    let reviewed = &compared.reviewed;
    let was = reviewed.was.as_ref().map_or_else(String::new, |was| format!(" (was {was})"));
    let versions = match &reviewed.versions {
        (None, None) => String::new(),
        (Some(old), Some(new)) if old == new => format!(" {new}"),
        (Some(old), Some(new)) => format!(" {old} → {new}"),
        (Some(old), None) => format!(" {old}"),
        (None, Some(new)) => format!(" {new}"),
    };
    format!("{}{was}{versions}", reviewed.name)
}

/// "connectors/shop.toml:31"
pub(super) fn place(spot: &Spot) -> String {
    format!("{}:{}", spot.file().display(), spot.line())
}

/// The spot, where the setting itself stands there.
pub(super) fn exact(spot: Option<&Spot>) -> Option<&Spot> {
    spot.filter(|spot| spot.is_exact)
}

/// The whole report for a terminal.
pub fn for_people(report: &Report, style: Style) -> String {
    let mut out = String::new();
    for compared in &report.connectors {
        let title = style.paint(Tone::Heading, &heading(compared));
        let _ = writeln!(out, "{title}  {}", compared.reviewed.file.display());
        if !compared.reviewed.reaches.is_empty() {
            let _ = writeln!(out, "  reaches {}", compared.reviewed.reaches.join(", "));
        }
        for change in &compared.reviewed.changes {
            one_change(&mut out, change, style);
        }
        for difference in &compared.records {
            record(&mut out, difference, style);
        }
        out.push('\n');
    }
    let gate: Vec<Diagnostic> = report.gate().cloned().collect();
    for (title, found) in [
        (
            "does not compile on the old side, so there is nothing to compare with:",
            &report.broken_before,
        ),
        ("does not compile on the new side:", &report.broken),
        ("the version gate:", &gate),
    ] {
        if !found.is_empty() {
            let _ = writeln!(out, "{title}\n\n{}", render_human(found, style.colour));
        }
    }
    let _ = writeln!(out, "{}", summary(report));
    out
}

fn tone(class: Class) -> Tone {
    match class {
        Class::Breaking => Tone::Bad,
        Class::Additive => Tone::Good,
        Class::Operational => Tone::Doubtful,
        Class::Cosmetic => Tone::Plain,
    }
}

/// The column in which sentences begin.
const INDENT: usize = 15;
/// Sentences are broken where they pass this.
const WIDTH: usize = 110;

fn one_change(out: &mut String, change: &Change, style: Style) {
    let class = change.class();
    let word = format!("{:<width$}", class.word(), width = INDENT - 2);
    let mut sentence = change.headline();
    if !change.effect.is_empty() {
        let _ = write!(sentence, " — {}", change.effect);
    }
    if class == Class::Breaking {
        let _ = write!(sentence, " ({})", class_of(change));
    }
    let mut lines = wrapped(&sentence, WIDTH - INDENT).into_iter();
    let first = lines.next().unwrap_or_default();
    let _ = writeln!(out, "  {}{first}", style.paint(tone(class), &word));
    let margin = " ".repeat(INDENT);
    for line in lines {
        let _ = writeln!(out, "{margin}{line}");
    }
    for (sign, spot) in lines_of(change) {
        let tone = match sign {
            '-' => Tone::Bad,
            '+' => Tone::Good,
            _ => Tone::Plain,
        };
        let line = format!("{sign} {}  {}", place(spot), spot.text);
        let _ = writeln!(out, "{margin}{}", style.paint(tone, line.trim_end()));
    }
}

/// The lines to show with their signs: `-` was, `+` is, a blank where both sides read the same.
pub(super) fn lines_of(change: &Change) -> Vec<(char, &Spot)> {
    match (exact(change.old.as_ref()), exact(change.new.as_ref())) {
        (Some(old), Some(new)) if old.text == new.text => vec![(' ', new)],
        (old, new) => {
            old.map(|spot| ('-', spot)).into_iter().chain(new.map(|spot| ('+', spot))).collect()
        }
    }
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is a line");
        let length = last.chars().count() + 1 + word.chars().count();
        if last.is_empty() {
            last.push_str(word);
        } else if length <= width {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

fn record(out: &mut String, difference: &Difference, style: Style) {
    let Difference { stream, record, outcome, problem, fields } = difference;
    let _ = writeln!(out, "  {}  {record} of {stream}", style.paint(Tone::Heading, "record"));
    let _ = outcome.map(|(was, is)| writeln!(out, "          was {was}, is {is}"));
    if let Some(problem) = problem {
        for line in wrapped(problem, WIDTH - 10) {
            let _ = writeln!(out, "          {line}");
        }
    }
    for Field { path, old, new } in fields {
        for (sign, tone, value) in [("-", Tone::Bad, old), ("+", Tone::Good, new)] {
            if let Some(value) = value {
                let line = format!("{sign} {path}: {value}");
                let _ = writeln!(out, "          {}", style.paint(tone, &line));
            }
        }
    }
}

/// The whole report for a program.
pub fn as_json(report: &Report) -> Value {
    let connectors: Vec<Value> = report.connectors.iter().map(connector).collect();
    let gate: Vec<Diagnostic> = report.gate().cloned().collect();
    json!({
        "summary": {
            "breaking": report.count(Class::Breaking),
            "additive": report.count(Class::Additive),
            "operational": report.count(Class::Operational),
            "cosmetic": report.count(Class::Cosmetic),
            "connectors": report.connectors.len(),
            "unchanged": report.unchanged,
            "gate": if !report.is_gated { "off" } else if gate.is_empty() { "passed" } else { "failed" },
            "fixtures": report.records,
        },
        "connectors": connectors,
        "gate": to_json(&gate),
        "diagnostics": { "old": to_json(&report.broken_before), "new": to_json(&report.broken) },
    })
}

fn connector(compared: &Compared) -> Value {
    let reviewed = &compared.reviewed;
    json!({
        "name": &*reviewed.name,
        "was": reviewed.was.as_deref(),
        "file": reviewed.file.display().to_string(),
        "version": { "old": reviewed.versions.0, "new": reviewed.versions.1 },
        "class": reviewed.class().map(Class::word),
        "reaches": reviewed.reaches.iter().map(|name| &**name).collect::<Vec<_>>(),
        "changes": reviewed.changes.iter().map(change_of).collect::<Vec<_>>(),
        "records": compared.records.iter().map(record_of).collect::<Vec<_>>(),
    })
}

fn change_of(change: &Change) -> Value {
    let info = change.rule.info();
    json!({
        "class": info.class.word(),
        "rule": info.id,
        "for": info.whom.word(),
        "subjects": change.subjects.iter().map(|subject| json!({
            "kind": subject.noun(), "name": subject.name(),
        })).collect::<Vec<_>>(),
        "key": change.key,
        "what": change.what,
        "effect": change.effect,
        "old": spot_of(change.old.as_ref()),
        "new": spot_of(change.new.as_ref()),
    })
}

fn spot_of(spot: Option<&Spot>) -> Value {
    let Some(spot) = spot else { return Value::Null };
    json!({
        "file": spot.file().display().to_string(),
        "line": spot.line(),
        "text": spot.text,
        "exact": spot.is_exact,
    })
}

fn record_of(difference: &Difference) -> Value {
    let Difference { stream, record, outcome, problem, fields } = difference;
    json!({
        "stream": stream,
        "record": record,
        "outcome": outcome.map(|(old, new)| json!({ "old": old, "new": new })),
        "problem": problem,
        "fields": fields.iter().map(|Field { path, old, new }| json!({
            "field": path, "old": old, "new": new,
        })).collect::<Vec<_>>(),
    })
}

/// Annotations of a workflow, at the lines of the new side: what fails is an error, what breaks a
/// warning, everything else but cosmetics a notice.
pub fn as_annotations(report: &Report) -> String {
    let mut out = to_github(&report.broken);
    let gate: Vec<Diagnostic> = report.gate().cloned().collect();
    out.push_str(&to_github(&gate));
    for compared in &report.connectors {
        for change in &compared.reviewed.changes {
            let level = match change.class() {
                Class::Breaking => "warning",
                Class::Additive | Class::Operational => "notice",
                Class::Cosmetic => continue,
            };
            let Some(spot) = change.new.as_ref().or(change.old.as_ref()) else { continue };
            let ((line, column), (end_line, end_column)) = (spot.span.start(), spot.span.end());
            let mut text = change.headline();
            if !change.effect.is_empty() {
                text = format!("{text}\n{}", change.effect);
            }
            let _ = writeln!(
                out,
                "::{level} file={},line={line},col={column},endLine={end_line},endColumn={end_column},\
                 title={}::{}",
                property(&spot.file().to_string_lossy()),
                property(&format!("{}: {}", compared.reviewed.name, class_of(change))),
                escape(&text),
            );
        }
    }
    out
}

/// Escapes as the documentation of workflow commands demands for the message.
fn escape(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Properties must not hold the characters that end them, either.
fn property(text: &str) -> String {
    escape(text).replace(':', "%3A").replace(',', "%2C")
}
