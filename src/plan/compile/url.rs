//! URLs: what is literal in them must be right.

use std::ops::Range;

use super::context::{Context, within};
use crate::{
    definition::{
        kinds::Expression,
        table::{At, Given, Loc},
    },
    diagnostic::codes,
    map::{Expr, Site},
};

/// Reports what is wrong with the literal parts of a URL. A path or a template may give all of it.
pub(super) fn check(context: &mut Context<'_>, given: &At<Expression>) {
    let locate = |range| within(given, range);
    check_text(context, &given.value.text, &locate);
}

/// As [`check`], for a text whose parts stand where `locate` says.
pub(super) fn check_text(
    context: &mut Context<'_>,
    text: &str,
    locate: &dyn Fn(std::ops::Range<usize>) -> Loc,
) -> bool {
    if text.starts_with('$') {
        return true;
    }
    let Some((range, message, help)) = problem(text) else { return true };
    context.error(codes::BAD_URL, locate(range), "not a URL", message).help(help);
    false
}

type Problem = (std::ops::Range<usize>, String, String);

fn problem(text: &str) -> Option<Problem> {
    let literal_end = ["{{", "{%"].iter().filter_map(|mark| text.find(mark)).min();
    let head = &text[..literal_end.unwrap_or(text.len())];
    if let Some(at) = head.find(|c: char| c.is_whitespace() || c.is_control()) {
        let help = "write %20 for a blank".to_owned();
        return Some((at..at + 1, "no blanks in a URL".to_owned(), help));
    }
    let scheme = ["https://", "http://"];
    let fits = scheme.iter().any(|scheme| head.starts_with(scheme));
    // A template may give the rest of the scheme.
    let may_fit = literal_end.is_some() && scheme.iter().any(|scheme| scheme.starts_with(head));
    if !fits && !may_fit {
        let help = match head.split_once("://") {
            Some((other, _)) => format!("`{other}` is not a scheme that is spoken here"),
            None if literal_end.is_some() => format!("write https://{head}..."),
            None => format!("write https://{head}"),
        };
        return Some((0..head.len(), "expected https:// or http://".to_owned(), help));
    }
    if literal_end.is_none()
        && let Err(error) = ::url::Url::parse(text)
    {
        return Some((
            0..text.len(),
            format!("{error}"),
            "a URL reads https://host/path".to_owned(),
        ));
    }
    None
}

/// Base and path, joined by exactly one slash.
pub(super) fn joined(
    context: &mut Context<'_>,
    (base, path): (&Given<Expression>, &Given<Expression>),
    (noun, at): (&str, Loc),
    site: &Site,
    key: &str,
) -> Option<Expr> {
    if matches!(base, Given::Invalid(_)) || matches!(path, Given::Invalid(_)) {
        return None;
    }
    let own = path.get();
    let is_whole = |given: &At<Expression>| {
        given.value.text.starts_with("https://") || given.value.text.starts_with("http://")
    };
    let (first, rest) = match (base.get(), own) {
        (_, Some(own)) if is_whole(own) => (own, None),
        (Some(base), own) => (base, own),
        (None, Some(own)) if own.value.text.starts_with("{{") => (own, None),
        (None, Some(own)) => {
            context
                .error(codes::BAD_URL, own.at, "a path without a base", "relative to what?")
                .help("add `base = \"https://...\"` under [source], or write the whole URL here");
            return None;
        }
        (None, None) => {
            context
                .error(
                    codes::BAD_URL,
                    at,
                    format!("a {noun} without a URL"),
                    "`path` expected here",
                )
                .help("add `path = \"/...\"` here and `base = \"https://...\"` under [source]");
            return None;
        }
    };
    let head = match rest {
        Some(_) => first.value.text.trim_end_matches('/'),
        None => first.value.text.as_str(),
    };
    let tail = rest.map_or("", |rest| rest.value.text.as_str());
    let slash = if rest.is_none() || tail.is_empty() || tail.starts_with('/') { "" } else { "/" };
    let text = format!("{head}{slash}{tail}");
    let tail_begin = head.len() + slash.len();
    let locate = |range: Range<usize>| match rest {
        Some(rest) if range.start >= tail_begin => {
            within(rest, range.start - tail_begin..range.end.max(range.start) - tail_begin)
        }
        _ => within(first, range),
    };
    if !check_text(context, &text, &locate) || !no_query(context, &text, &locate) {
        return None;
    }
    let place = rest.unwrap_or(first).at;
    context.compile_text(&text, site, place, &format!("{key}.path"), &locate)
}

/// The query has its own key, where each parameter is encoded as it must be.
fn no_query(context: &mut Context<'_>, text: &str, locate: &dyn Fn(Range<usize>) -> Loc) -> bool {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            '?' | '#' if depth == 0 => {
                context
                    .error(
                        codes::BAD_URL,
                        locate(at..text.len()),
                        "a query in the path",
                        "expected only the path",
                    )
                    .help("write parameters under `query`: query = { name = \"value\" }");
                return false;
            }
            _ => {}
        }
    }
    true
}
