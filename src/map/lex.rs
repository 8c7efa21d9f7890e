//! Cuts an expression's text: paths from their filters, templates into texts and expressions.
//!
//! The template engine's own lexer does the cutting, so that a brace within a quoted string is what
//! the engine takes it for.

use std::{ops::Range, sync::LazyLock};

use minijinja::{
    ErrorKind,
    machinery::{Token, parse, tokenize},
    syntax::SyntaxConfig,
};

/// The syntax of every template: a final newline is part of the text.
pub(super) static SYNTAX: LazyLock<SyntaxConfig> = LazyLock::new(|| {
    SyntaxConfig::builder().keep_trailing_newline(true).build().unwrap_or_default()
});

/// Names, operators and brackets of an expression's text, of which more than this are refused: the
/// engine nests as deep as there are operators in a row, and a stack ends.
pub(super) const MAX_TOKENS: usize = 1000;

/// Whether a text has more than [`MAX_TOKENS`] names, operators and brackets. Texts, numbers and what
/// stands between the items of a list do not count.
pub(super) fn is_too_long(text: &str) -> bool {
    // Each takes a byte at least.
    if text.len() <= MAX_TOKENS {
        return false;
    }
    let (code, in_expression) = match filters_of_path(text) {
        Some(at) if text.starts_with('$') => (&text[at..], true),
        _ => (text, false),
    };
    let counts = |token: &Token<'_>| {
        !matches!(
            token,
            Token::TemplateData(_)
                | Token::VariableStart
                | Token::VariableEnd
                | Token::Str(_)
                | Token::String(_)
                | Token::Int(_)
                | Token::Int128(_)
                | Token::Float(_)
                | Token::Comma
                | Token::Colon
        )
    };
    let tokens = tokenize(code, in_expression, SYNTAX.clone()).map_while(Result::ok);
    tokens.filter(|(token, _)| counts(token)).nth(MAX_TOKENS).is_some()
}

/// A piece of a template.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'s> {
    Text(&'s str),
    /// What stands between `{{` and `}}`, as bytes of the template.
    Expression(Range<usize>),
}

/// The pieces of a template without statements; `None` where it has statements.
pub(super) fn pieces(template: &str) -> Result<Option<Vec<Piece<'_>>>, minijinja::Error> {
    let mut pieces = Vec::new();
    let mut start = None;
    for token in tokenize(template, false, SYNTAX.clone()) {
        match token? {
            (Token::BlockStart, _) => return Ok(None),
            (Token::TemplateData(text), _) if !text.is_empty() => pieces.push(Piece::Text(text)),
            (Token::VariableStart, span) => start = Some(span.end_offset as usize),
            (Token::VariableEnd, span) => {
                let end = span.start_offset as usize;
                let start = start.take().unwrap_or(end);
                pieces.push(Piece::Expression(start.min(end)..end));
            }
            _ => {}
        }
    }
    match start {
        None => Ok(Some(pieces)),
        // An expression that does not end: the parser says it best.
        Some(_) => Err(match parse(template, "", SYNTAX.clone()) {
            Err(error) => error,
            Ok(_) => ErrorKind::SyntaxError.into(),
        }),
    }
}

/// Where the `|` after a path stands: outside brackets and quotes.
pub(super) fn filters_of_path(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut quote = None;
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match (quote, byte) {
            (Some(_), b'\\') => {
                bytes.next();
            }
            (Some(open), _) if byte == open => quote = None,
            (None, b'\'' | b'"') if depth > 0 => quote = Some(byte),
            (None, b'[' | b'(') => depth += 1,
            (None, b']' | b')') => depth = depth.saturating_sub(1),
            (None, b'|') if depth == 0 => return Some(at),
            _ => {}
        }
    }
    None
}

/// The filters after a path, without their bars, as bytes of `text`; it begins with a bar.
pub(super) fn filters(text: &str) -> Result<Vec<Range<usize>>, minijinja::Error> {
    let mut bars = Vec::new();
    let mut depth = 0_usize;
    for token in tokenize(text, true, SYNTAX.clone()) {
        match token? {
            (Token::ParenOpen | Token::BracketOpen | Token::BraceOpen, _) => depth += 1,
            (Token::ParenClose | Token::BracketClose | Token::BraceClose, _) => {
                depth = depth.saturating_sub(1);
            }
            (Token::Pipe, span) if depth == 0 => {
                bars.push(span.start_offset as usize..span.end_offset as usize);
            }
            _ => {}
        }
    }
    let ends = bars.iter().skip(1).map(|bar| bar.start).chain([text.len()]);
    Ok(bars.iter().zip(ends).map(|(bar, end)| bar.end..end).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_ends_where_its_filters_begin() {
        let cut = |text| filters_of_path(text).map(|at| &text[at..]);
        assert_eq!(cut("$.a.b"), None);
        assert_eq!(cut("$.a | x"), Some("| x"));
        assert_eq!(cut("$.a[?@.b == 'x|y' || @.c]|x|y"), Some("|x|y"));
        assert_eq!(cut(r"$['it\'s | odd'] | x"), Some("| x"));
        assert_eq!(cut("$.a | default('[|')"), Some("| default('[|')"));
    }

    #[test]
    fn filters_are_cut_at_their_bars() {
        let text = "| a('|') | b([1|2])|c";
        let parts: Vec<_> = filters(text).unwrap().into_iter().map(|r| text[r].trim()).collect();
        assert_eq!(parts, ["a('|')", "b([1|2])", "c"]);
    }

    #[test]
    fn what_nests_is_counted() {
        let long = |unit: &str, count| format!("{{{{ {} }}}}", unit.repeat(count));
        assert!(is_too_long(&long("-", 1001)) && !is_too_long(&long("-", 1000)));
        assert!(is_too_long(&long("a+1*", 400)));
        assert!(!is_too_long(&long("'a - b', 1, ", 5000)));
        assert!(!is_too_long(&"- a {{ b }}".repeat(900)));
        assert!(is_too_long(&format!("$.a{}", " | x".repeat(501))));
        assert!(!is_too_long(&format!("$.{}", "a-".repeat(5000))));
    }

    #[test]
    fn templates_are_cut_where_the_engine_cuts() {
        let text = "a {{ '}}' }}{# no #}\n{{- x -}} b\n";
        let parts: Vec<_> = pieces(text)
            .unwrap()
            .unwrap()
            .into_iter()
            .map(|piece| match piece {
                Piece::Text(text) => text,
                Piece::Expression(range) => &text[range],
            })
            .collect();
        assert_eq!(parts, ["a ", " '}}' ", " x ", "b\n"]);
        assert_eq!(pieces("{% if x %}{% endif %}").unwrap(), None);
        assert_eq!(
            pieces("{% raw %}{{ x }}{% endraw %}").unwrap().unwrap(),
            [Piece::Text("{{ x }}")]
        );
    }
}
