//! `tenon diff` as a comment on a pull request: what matters in the first line, a table, details to be
//! opened. Never longer than GitHub takes; what is left out is said to be.

use std::fmt::Write as _;

use super::diff::{class_of, exact, heading, lines_of, place, summary};
use crate::{
    cli::{
        diff::{Compared, Report},
        rerun::Difference,
    },
    diagnostic::{Diagnostic, render_human},
    observe::fields::Field,
    review::{Change, Class},
};

/// Longer comments are refused.
pub const MAX_CHARS: usize = 65_536;
/// What is kept free for the last line.
const RESERVE: usize = 400;

/// Writes as long as there is room.
struct Page {
    text: String,
    chars: usize,
    left_out: usize,
}

impl Page {
    /// Adds a part as a whole, or counts it as left out.
    fn add(&mut self, part: &str) -> bool {
        let chars = part.chars().count();
        if self.chars + chars > MAX_CHARS - RESERVE {
            self.left_out += 1;
            return false;
        }
        self.chars += chars;
        self.text.push_str(part);
        true
    }
}

/// The whole report.
pub fn of(report: &Report) -> String {
    let mut page = Page { text: String::new(), chars: 0, left_out: 0 };
    page.add(&format!("**tenon diff**: {}\n", summary(report)));
    if report.is_empty() {
        return page.text;
    }
    let gate: Vec<Diagnostic> = report.gate().cloned().collect();
    found(&mut page, "The version gate fails", &gate, true);
    found(&mut page, "Does not compile", &report.broken, true);
    found(&mut page, "Did not compile before", &report.broken_before, false);
    for compared in &report.connectors {
        connector(&mut page, compared);
    }
    if page.left_out > 0 {
        let parts = if page.left_out == 1 { "part is" } else { "parts are" };
        let _ = write!(
            page.text,
            "\n**{} {parts} left out here**: a comment takes {MAX_CHARS} characters. `tenon diff` \
             shows everything.\n",
            page.left_out
        );
    }
    page.text
}

fn found(page: &mut Page, title: &str, found: &[Diagnostic], is_open: bool) {
    if found.is_empty() {
        return;
    }
    let open = if is_open { " open" } else { "" };
    let text = render_human(found, false);
    let part = format!(
        "\n<details{open}><summary><b>{title}</b></summary>\n\n{}\n</details>\n",
        fenced("text", text.trim_end())
    );
    if !page.add(&part) {
        page.left_out -= 1;
        for one in found {
            page.add(&format!("\n- **{}** {}: {}\n", title, one.code, inline(&one.message)));
        }
    }
}

/// A block whose fence is longer than any within.
fn fenced(kind: &str, text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}{kind}\n{text}\n{fence}\n")
}

/// Text that stays on its line and in its cell, and starts no markup of its own.
fn inline(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_code = false;
    for c in text.chars() {
        match c {
            '`' => {
                in_code = !in_code;
                out.push(c);
            }
            // Within a table's cell it would end the cell, in code or not.
            '|' => out.push_str("\\|"),
            '\n' | '\r' => out.push(' '),
            '<' if !in_code => out.push_str("&lt;"),
            '>' if !in_code => out.push_str("&gt;"),
            '*' | '_' | '[' | ']' | '\\' | '~' | '#' if !in_code => {
                out.push('\\');
                out.push(c);
            }
            // A name after it would be told of the comment.
            '@' if !in_code => out.push_str("@\u{200b}"),
            c => out.push(c),
        }
    }
    out
}

fn mark(class: Class) -> &'static str {
    match class {
        Class::Breaking => "🔴",
        Class::Additive => "🟢",
        Class::Operational => "🟡",
        Class::Cosmetic => "⚪",
    }
}

fn connector(page: &mut Page, compared: &Compared) {
    let reviewed = &compared.reviewed;
    let mut title =
        format!("\n### {}\n\n`{}`\n", inline(&heading(compared)), reviewed.file.display());
    if !reviewed.reaches.is_empty() {
        let names: Vec<String> = reviewed.reaches.iter().map(|name| format!("`{name}`")).collect();
        let _ = writeln!(title, "\nReaches {}, too.", names.join(", "));
    }
    if !page.add(&title) {
        return;
    }
    let (told, cosmetic): (Vec<&Change>, Vec<&Change>) =
        reviewed.changes.iter().partition(|change| change.class() != Class::Cosmetic);
    if !told.is_empty() {
        page.add("\n| | what | line |\n|---|---|---|\n");
        for change in &told {
            page.add(&row(change));
        }
    }
    if !cosmetic.is_empty() {
        let words: Vec<String> = cosmetic.iter().map(|change| inline(&change.headline())).collect();
        page.add(&format!("\n{} Cosmetic: {}.\n", mark(Class::Cosmetic), words.join("; ")));
    }
    lines(page, &told);
    records(page, &compared.records);
}

fn row(change: &Change) -> String {
    let mut what = format!("**{}**", inline(&change.headline()));
    if !change.effect.is_empty() {
        let _ = write!(what, "<br>{}", inline(&change.effect));
    }
    let spot = exact(change.new.as_ref()).or(exact(change.old.as_ref()));
    let line =
        spot.or(change.new.as_ref()).map_or_else(String::new, |spot| spot.line().to_string());
    format!("| {} {} | {what} | {line} |\n", mark(change.class()), class_of(change))
}

/// The lines of both sides.
fn lines(page: &mut Page, changes: &[&Change]) {
    let mut text = String::new();
    for change in changes {
        let spots = lines_of(change);
        if let Some((_, first)) = spots.last() {
            let _ = writeln!(text, "@@ {} @@", place(first));
        }
        for (sign, spot) in spots {
            let _ = writeln!(text, "{sign} {}", spot.text);
        }
    }
    if text.is_empty() {
        return;
    }
    page.add(&format!(
        "\n<details><summary>Lines on both sides</summary>\n\n{}\n</details>\n",
        fenced("diff", text.trim_end())
    ));
}

fn records(page: &mut Page, records: &[Difference]) {
    if records.is_empty() {
        return;
    }
    let mut text = String::new();
    for Difference { stream, record, outcome, problem, fields } in records {
        let _ = writeln!(text, "@@ {record} of {stream} @@");
        let _ = outcome.map(|(was, is)| writeln!(text, "- {was}\n+ {is}"));
        let _ = problem.as_ref().map(|problem| writeln!(text, "! {problem}"));
        for Field { path, old, new } in fields {
            for (sign, value) in [("-", old), ("+", new)] {
                let _ = value.as_ref().map(|value| writeln!(text, "{sign} {path}: {value}"));
            }
        }
    }
    let count = records.len();
    let title = if count == 1 { "record comes" } else { "records come" };
    page.add(&format!(
        "\n<details><summary>{count} {title} out differently</summary>\n\n{}\n</details>\n",
        fenced("diff", text.trim_end())
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_leaves_its_cell() {
        assert_eq!(
            inline("a | `b | <c>` <d> @acme *x*\ny"),
            "a \\| `b \\| <c>` &lt;d&gt; @\u{200b}acme \\*x\\* y"
        );
        assert_eq!(fenced("text", "a ``` b"), "````text\na ``` b\n````\n");
    }

    #[test]
    fn a_page_ends_in_time_and_counts_what_it_left_out() {
        let mut page = Page { text: String::new(), chars: 0, left_out: 0 };
        let part = "ä".repeat(1000);
        for _ in 0..70 {
            page.add(&part);
        }
        assert_eq!((page.chars, page.left_out), (65_000, 5));
    }
}
