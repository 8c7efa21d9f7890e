//! A page of the documentation, as a terminal shows it. Pure.

use super::{Style, table::Tone};

/// The little Markdown that the pages of `docs/errors/` are written in: headings, paragraphs, links
/// and blocks of TOML.
pub fn page(markdown: &str, style: Style) -> String {
    let mut out = String::new();
    let mut is_code = false;
    for line in markdown.lines() {
        if line.starts_with("```") {
            is_code = !is_code;
            continue;
        }
        let shown = if is_code {
            code(line, style)
        } else if let Some(heading) = line.strip_prefix('#') {
            style.paint(Tone::Heading, heading.trim_start_matches('#').trim())
        } else {
            unlinked(line)
        };
        out.push_str(&shown);
        out.push('\n');
    }
    out
}

/// A line of TOML, set in; its comment and its table's header in colour.
fn code(line: &str, style: Style) -> String {
    if line.is_empty() {
        return String::new();
    }
    let tone = match line.trim_start().chars().next() {
        Some('[') => Tone::Good,
        Some('#') => Tone::Doubtful,
        _ => Tone::Plain,
    };
    format!("    {}", style.paint(tone, line))
}

/// `[text](address)` as its text: the addresses are files of the repository.
fn unlinked(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some((before, text, after)) = link(rest) {
        out.push_str(before);
        out.push_str(text);
        rest = after;
    }
    out + rest
}

fn link(text: &str) -> Option<(&str, &str, &str)> {
    let middle = text.find("](")?;
    let open = text[..middle].rfind('[')?;
    let close = middle + text[middle..].find(')')?;
    Some((&text[..open], &text[open + 1..middle], &text[close + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# E1: wrong\n\nSee [E2](E2.md), `[x]` and [y](y).\n\n## Example\n\n\
                        ```toml\n# a\n[t]\n\nx = 1\n```\n\nMend it.\n";

    #[test]
    fn a_page_reads_as_text() {
        let expected = "E1: wrong\n\nSee E2, `[x]` and y.\n\nExample\n\n    # a\n    [t]\n\n    x = 1\n\n\
                        Mend it.\n";
        assert_eq!(page(PAGE, Style::default()), expected);
    }

    #[test]
    fn colours_are_only_added() {
        let painted = page(PAGE, Style { colour: true });
        assert!(painted.contains("\u{1b}[1mE1: wrong\u{1b}[0m\n"));
        let mut plain = painted.clone();
        for code in ["[1m", "[32m", "[33m", "[0m"] {
            plain = plain.replace(&format!("\u{1b}{code}"), "");
        }
        assert_eq!(plain, page(PAGE, Style::default()));
    }
}
