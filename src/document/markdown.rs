//! Blocks as GitHub-flavoured Markdown. Whatever a text contains, it stays text: what could begin
//! markup is escaped, and code is fenced by more backticks than it has.

use super::block::{Block, Line, Piece, Table};

/// The document as Markdown, ending with a newline.
pub fn markdown(blocks: &[Block]) -> String {
    let mut out = String::new();
    for block in blocks {
        if !out.is_empty() {
            out.push('\n');
        }
        push_block(&mut out, block);
    }
    out
}

fn push_block(out: &mut String, block: &Block) {
    match block {
        Block::Heading(level, line) => {
            out.push_str(&"#".repeat(usize::from(*level)));
            out.push_str(&format!(" {}\n", inline(line)));
        }
        Block::Paragraph(line) => out.push_str(&format!("{}\n", paragraph(line))),
        Block::List(items) => {
            for item in items {
                out.push_str(&format!("- {}\n", paragraph(item)));
            }
        }
        Block::Steps(items) => {
            for (at, item) in items.iter().enumerate() {
                out.push_str(&format!("{}. {}\n", at + 1, paragraph(item)));
            }
        }
        Block::Facts { title, rows } => {
            out.push_str(&format!("| {} | |\n|---|---|\n", cell(&Line::from(title.as_str()))));
            for (name, value) in rows {
                out.push_str(&format!(
                    "| {} | {} |\n",
                    cell(&Line::from(name.as_str())),
                    cell(value)
                ));
            }
        }
        Block::Table(table) => push_table(out, table),
        Block::Commands(lines) => push_fence(out, "sh", &lines.join("\n")),
        Block::Literal(text) => push_fence(out, "text", text),
        Block::Picture(flow) => {
            // Beside the page, where pages are written to files.
            if let Some(file) = &flow.file {
                out.push_str(&format!("![{}]({file})\n", escape(&flow.title())));
            } else {
                push_fence(out, "text", &flow.text());
            }
        }
    }
}

fn push_table(out: &mut String, table: &Table) {
    out.push_str(&format!("| {} |\n", table.head.join(" | ")));
    out.push_str(&format!("|{}\n", "---|".repeat(table.head.len())));
    for row in &table.rows {
        let cells: Vec<String> = row.iter().map(cell).collect();
        out.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
}

fn push_fence(out: &mut String, kind: &str, text: &str) {
    let fence = "`".repeat(longest_run(text, '`').max(2) + 1);
    // A fence ends at a line of its own only.
    out.push_str(&format!("{fence}{kind}\n{}\n{fence}\n", text.trim_end_matches('\n')));
}

/// A line that begins a block of its own: what would make it a list or a heading is escaped.
fn paragraph(line: &Line) -> String {
    let text = inline(line);
    let text = text.trim_start();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits > 0 && text[digits..].starts_with(['.', ')']) {
        return format!("{}\\{}", &text[..digits], &text[digits..]);
    }
    if text.starts_with(['#', '+', '-', '=', ':']) { format!("\\{text}") } else { text.to_owned() }
}

/// A cell of a table: a bar ends one even within code.
fn cell(line: &Line) -> String {
    let pieces = line.0.iter().map(|piece| match piece {
        // Renderers do not agree on a backslash before an escaped bar within code.
        Piece::Code(code) if code.contains("\\|") => escape(code),
        Piece::Code(code) => code_span(code).replace('|', "\\|"),
        other => inline_piece(other),
    });
    pieces.collect()
}

fn inline(line: &Line) -> String {
    line.0.iter().map(inline_piece).collect()
}

fn inline_piece(piece: &Piece) -> String {
    match piece {
        Piece::Text(text) => escape(text),
        Piece::Code(code) => code_span(code),
        Piece::Strong(text) if text.trim().is_empty() => String::new(),
        Piece::Strong(text) => format!("**{}**", escape(text.trim())),
        Piece::Mark(word) => format!("**{word}**"),
        Piece::Link { text, url } => format!("[{}](<{}>)", escape(text), encode(url)),
    }
}

/// A destination in angle brackets: what could end it is percent-encoded.
fn encode(url: &str) -> String {
    let mut out = String::new();
    for c in url.chars() {
        match c {
            '<' => out.push_str("%3C"),
            '>' => out.push_str("%3E"),
            '\\' => out.push_str("%5C"),
            '|' => out.push_str("%7C"),
            c if c.is_control() || c == ' ' => {}
            c => out.push(c),
        }
    }
    out
}

/// Text without markup. Angle brackets and ampersands become entities, which every renderer takes.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut before = ' ';
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\\' | '`' | '*' | '[' | ']' | '|' | '~' | '$' => {
                out.push('\\');
                out.push(c);
            }
            // Within a word it is a letter like any other.
            '_' => {
                let next = chars.peek().copied().unwrap_or(' ');
                if !(before.is_alphanumeric() && next.is_alphanumeric()) {
                    out.push('\\');
                }
                out.push('_');
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
        before = c;
    }
    out
}

/// A code span: longer fences than the code has, and a blank where it begins or ends with one.
fn code_span(code: &str) -> String {
    let code: String = code.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if code.trim().is_empty() {
        return if code.is_empty() { String::new() } else { "` `".to_owned() };
    }
    let fence = "`".repeat(longest_run(&code, '`') + 1);
    let is_fenced = code.starts_with('`') || code.ends_with('`');
    let is_padded = code.starts_with(' ') && code.ends_with(' ');
    let pad = if is_fenced || is_padded { " " } else { "" };
    format!("{fence}{pad}{code}{pad}{fence}")
}

fn longest_run(text: &str, of: char) -> usize {
    let mut longest = 0;
    let mut run = 0;
    for c in text.chars() {
        run = if c == of { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stay_texts() {
        for (text, expected) in [
            ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
            ("a | b", "a \\| b"),
            ("*a* _b_ snake_case `c` ~~d~~", "\\*a\\* \\_b\\_ snake_case \\`c\\` \\~\\~d\\~\\~"),
            ("![x](y) &amp;", "!\\[x\\](y) &amp;amp;"),
            ("a\nb\tc", "a b c"),
            ("C:\\dir", "C:\\\\dir"),
        ] {
            assert_eq!(escape(text), expected);
        }
        assert_eq!(paragraph(&Line::from("1. x")), "1\\. x");
        assert_eq!(paragraph(&Line::from("# x")), "\\# x");
        assert_eq!(paragraph(&Line::from("- x")), "\\- x");
    }

    #[test]
    fn code_is_fenced_by_more_than_it_has() {
        assert_eq!(code_span("$.a"), "`$.a`");
        assert_eq!(code_span("a`b"), "``a`b``");
        assert_eq!(code_span("``"), "``` `` ```");
        assert_eq!(code_span(" a "), "`  a  `");
        assert_eq!(code_span("a\nb"), "`a b`");
        assert_eq!(cell(&Line::new().code("$.a | b").text(" | ")), "`$.a \\| b` \\| ");
    }

    #[test]
    fn a_fence_outlasts_its_text() {
        let text = markdown(&[Block::Literal("a\n```\nb".to_owned())]);
        assert_eq!(text, "````text\na\n```\nb\n````\n");
    }

    #[test]
    fn links_lead_only_where_a_browser_may_follow() {
        assert_eq!(
            inline(&Line::new().address("https://a.example/b c>")),
            "https://a.example/b c&gt;"
        );
        assert_eq!(
            inline(&Line::new().address("https://a.example/(x)>")),
            "[https://a.example/(x)&gt;](<https://a.example/(x)%3E>)"
        );
        assert_eq!(inline(&Line::new().address("javascript:alert(1)")), "javascript:alert(1)");
    }
}
