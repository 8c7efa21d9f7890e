//! What may be shown of settings. A credential belongs into a secret, but a file may have it written
//! out; a document must not spread it. So: of what is a credential only names are shown, of what may
//! be one (`Authorization: ...`, `api_key=...`) as well, and of an address neither user nor password.

use serde_json::Value;

use super::{
    Subject,
    block::{Block, Line, Piece},
};
use crate::{map::Expr, plan::credentials_in};

/// What stands in place of what is not shown.
const HIDDEN: &str = "written out in the file, not shown";

/// Parts of names whose values are credentials.
const TELLING: &[&str] =
    &["auth", "cookie", "credential", "key", "pass", "pwd", "secret", "session", "sig", "token"];

/// Names that have such a part and are none.
const HARMLESS: &[&str] =
    &["idempotency-key", "page_token", "pagetoken", "next_token", "key", "keys", "sort_key"];

/// Whether a header, parameter or variable of that name may be a credential.
pub(super) fn is_telling(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    !HARMLESS.contains(&name.as_str()) && TELLING.iter().any(|part| name.contains(part))
}

/// A credential: the secrets and variables that it is made of.
pub(super) fn credential(subject: &Subject<'_>, expr: &Expr) -> Line {
    let names = ingredients(subject, expr);
    if names.is_empty() { Line::from(HIDDEN) } else { Line::new().codes(names) }
}

/// `SHOP_TOKEN`, `vars.account`.
fn ingredients(subject: &Subject<'_>, expr: &Expr) -> Vec<String> {
    let mut names = Vec::new();
    for (root, member) in expr.uses() {
        match (root.as_str(), member) {
            ("secret", Some(name)) => names.push(subject.looked_up(&name).to_owned()),
            ("secret", None) => {}
            (root, Some(member)) => names.push(format!("{root}.{member}")),
            (root, None) => names.push(root.to_owned()),
        }
    }
    names
}

/// A header's, parameter's or field's value.
pub(super) fn setting(subject: &Subject<'_>, name: &str, expr: &Expr) -> Line {
    if expr.needs_secret() || is_telling(name) {
        return credential(subject, expr);
    }
    Line::new().code(without_tokens(expr.source()))
}

/// `name` = value, several with commas.
pub(super) fn settings(subject: &Subject<'_>, entries: &[(String, Expr)]) -> Line {
    let mut line = Line::new();
    for (at, (name, expr)) in entries.iter().enumerate() {
        if at > 0 {
            line = line.text(", ");
        }
        line = line.code(name.as_str()).text(" = ").then(setting(subject, name, expr));
    }
    line
}

/// A variable's value.
pub(super) fn value(name: &str, value: &Value) -> Line {
    if is_telling(name) {
        return Line::from(HIDDEN);
    }
    match value {
        Value::String(text) => Line::new().code(without_tokens(text)),
        other => Line::new().code(without_tokens(&other.to_string())),
    }
}

/// An address as it is written, without user and password, and without what its query may tell.
pub(super) fn address(text: &str) -> String {
    let text = match text.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let host = rest[..end].rsplit_once('@').map_or(&rest[..end], |(_, host)| host);
            format!("{scheme}://{host}{}", &rest[end..])
        }
        None => text.to_owned(),
    };
    let Some((path, query)) = text.split_once('?') else { return without_tokens(&text) };
    let shown = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, value)) if is_telling(name) && !value.starts_with("{{") => format!("{name}=…"),
        _ => pair.to_owned(),
    });
    let query: Vec<String> = shown.collect();
    without_tokens(&format!("{path}?{}", query.join("&")))
}

/// Text without what looks like a token: a long word of letters in both cases and digits. Providers
/// put them into paths (`/services/T0…/B0…/…`).
pub(super) fn without_tokens(text: &str) -> String {
    const LONG: usize = 20;
    let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+');
    let mut out = String::with_capacity(text.len());
    let mut word = String::new();
    let flush = |word: &mut String, out: &mut String| {
        let has = |is: fn(&char) -> bool| word.chars().any(|c| is(&c));
        let is_token = word.len() >= LONG
            && has(char::is_ascii_lowercase)
            && has(char::is_ascii_uppercase)
            && has(char::is_ascii_digit);
        out.push_str(if is_token { "…" } else { word });
        word.clear();
    };
    for c in text.chars() {
        if is_inner(c) {
            word.push(c);
        } else {
            flush(&mut word, &mut out);
            out.push(c);
        }
    }
    flush(&mut word, &mut out);
    out
}

/// Takes out of a document what looks like a credential, wherever it stands: in a constant of a
/// map, a summary, a note. What is known to be one by its place was not put in at all.
pub(super) fn scrubbed(mut blocks: Vec<Block>) -> Vec<Block> {
    blocks.iter_mut().for_each(scrub_block);
    blocks
}

fn scrub_block(block: &mut Block) {
    match block {
        Block::Heading(_, line) | Block::Paragraph(line) => scrub_line(line),
        Block::List(lines) | Block::Steps(lines) => lines.iter_mut().for_each(scrub_line),
        Block::Facts { title, rows } => {
            scrub(title);
            for (name, line) in rows {
                scrub(name);
                scrub_line(line);
            }
        }
        Block::Table(table) => {
            scrub(&mut table.caption);
            table.rows.iter_mut().flatten().for_each(scrub_line);
        }
        Block::Commands(lines) => lines.iter_mut().for_each(scrub),
        Block::Literal(text) => scrub(text),
        Block::Picture(flow) => {
            let lanes = flow
                .lanes
                .iter_mut()
                .flat_map(|lane| lane.inputs.iter_mut().chain([&mut lane.stream]));
            for stop in lanes.chain(&mut flow.destinations) {
                [&mut stop.name, &mut stop.detail, &mut stop.note].into_iter().for_each(scrub);
            }
        }
    }
}

fn scrub_line(line: &mut Line) {
    for piece in &mut line.0 {
        match piece {
            Piece::Text(text) | Piece::Code(text) | Piece::Strong(text) => scrub(text),
            Piece::Link { text, url } => {
                scrub(text);
                scrub(url);
            }
            Piece::Mark(_) => {}
        }
    }
}

/// The same for one text.
pub(super) fn scrub(text: &mut String) {
    for range in credentials_in(text).into_iter().rev() {
        // What overlaps has been taken out with the one after it.
        if text.get(range.clone()).is_some() {
            text.replace_range(range, "…");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_their_credentials_to_themselves() {
        for (text, expected) in [
            (
                "https://shop.example/orders/{{ out.id }}",
                "https://shop.example/orders/{{ out.id }}",
            ),
            ("https://user:pass@shop.example/a@b", "https://shop.example/a@b"),
            (
                "https://shop.example/a?api_key=abc&page=2",
                "https://shop.example/a?api_key=…&page=2",
            ),
            ("https://a.example/?token={{ secret.T }}", "https://a.example/?token={{ secret.T }}"),
            ("https://hooks.example/T01/aB3dE6gH9jK2mN5pQ8sT1", "https://hooks.example/T01/…"),
            ("https://shop.example/admin/api/2025-10", "https://shop.example/admin/api/2025-10"),
        ] {
            assert_eq!(address(text), expected);
        }
    }

    #[test]
    fn names_tell_what_is_a_credential() {
        for name in
            ["Authorization", "X-Api-Key", "access_token", "Cookie", "password", "signature"]
        {
            assert!(is_telling(name), "{name}");
        }
        for name in ["Accept", "status", "Idempotency-Key", "page_token", "region"] {
            assert!(!is_telling(name), "{name}");
        }
    }
}
