//! URLs: what is literal in them must be right.

use super::context::{Context, within};
use crate::{
    definition::{
        kinds::Expression,
        table::{At, Loc},
    },
    diagnostic::codes,
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
