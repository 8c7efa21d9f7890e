//! One look for people (rustc's), one for programs (JSON), one for pull requests (annotations).

use std::{fmt::Write as _, ops::Range};

use annotate_snippets::{AnnotationKind, Element, Level, Renderer, Snippet, renderer::DecorStyle};
use serde_json::{Value, json};

use super::{Diagnostic, Severity, Span};

/// All findings as rustc would print them, in the order given, an empty line between two.
/// Ends with a newline unless there is none.
pub fn render_human(diagnostics: &[Diagnostic], colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let renderer = renderer.decor_style(DecorStyle::Ascii).term_width(120);
    let mut out = String::new();
    for diagnostic in diagnostics {
        if !out.is_empty() {
            out.push('\n');
        }
        render_one(&renderer, diagnostic, &mut out);
    }
    out
}

/// Something else than a finding in the same look: a headline, then the places with their labels,
/// all of one file and equally important. Ends with a newline.
pub fn render_excerpt(title: &str, places: &[(Span, String)], colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let renderer = renderer.decor_style(DecorStyle::Ascii).term_width(120);
    let mut group = Level::ERROR.primary_title(title).elements([] as [Element<'_>; 0]);
    if let Some((first, _)) = places.first() {
        let excerpt = Excerpt::of(places.iter().map(|(span, _)| span));
        let annotations = places.iter().map(|(span, label)| {
            let label = (!label.is_empty()).then_some(label.as_str());
            AnnotationKind::Primary.span(excerpt.within(span)).label(label)
        });
        group = group.element(excerpt.snippet(first).annotations(annotations));
    }
    renderer.render(&[group]) + "\n"
}

fn render_one(renderer: &Renderer, diagnostic: &Diagnostic, out: &mut String) {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Notice => Level::NOTE.with_name("notice"),
    };
    let (here, away): (Vec<_>, Vec<_>) =
        diagnostic.related.iter().partition(|(span, _)| span.file == diagnostic.span.file);
    let excerpt = Excerpt::of(std::iter::once(&diagnostic.span).chain(here.iter().map(|r| &r.0)));
    let mut main = excerpt.snippet(&diagnostic.span).annotation(
        AnnotationKind::Primary
            .span(excerpt.within(&diagnostic.span))
            .label((!diagnostic.label.is_empty()).then_some(diagnostic.label.as_str())),
    );
    for (span, label) in here {
        let range = excerpt.within(span);
        main = main.annotation(AnnotationKind::Context.span(range).label(label.as_str()));
    }
    let elsewhere = away.into_iter().map(|(span, label)| {
        let excerpt = Excerpt::of(std::iter::once(span));
        let annotation = AnnotationKind::Context.span(excerpt.within(span)).label(label.as_str());
        Element::from(excerpt.snippet(span).annotation(annotation))
    });
    let mut group = level
        .primary_title(diagnostic.message.as_str())
        .id(diagnostic.code.0)
        .element(main)
        .elements(elsewhere);
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    if let Some(note) = &diagnostic.note {
        group = group.element(Level::NOTE.message(note.as_str()));
    }
    out.push_str(&renderer.render(&[group]));
    out.push('\n');
}

/// The lines of a file that a finding is about: the renderer takes time for every line it is given.
struct Excerpt {
    range: Range<usize>,
    /// The number of its first line.
    line: usize,
}

impl Excerpt {
    /// From the first line to the last that one of the spans touches; all are of one file.
    fn of<'s>(spans: impl Iterator<Item = &'s Span> + Clone) -> Self {
        let starts = spans.clone().map(|span| (span.clamped().start, span));
        let Some((start, first)) = starts.min_by_key(|(start, _)| *start) else {
            return Self { range: 0..0, line: 1 };
        };
        let text = &first.file.text;
        let end = spans.map(|span| span.clamped().end).max().unwrap_or(start);
        let begin = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let end = text[end..].find('\n').map_or(text.len(), |newline| end + newline + 1);
        Self { range: begin..end, line: first.start().0 }
    }

    fn snippet<'s>(&self, span: &'s Span) -> Snippet<'s, annotate_snippets::Annotation<'s>> {
        Snippet::source(&span.file.text[self.range.clone()])
            .path(span.file.path.to_string_lossy().into_owned())
            .line_start(self.line)
    }

    fn within(&self, span: &Span) -> Range<usize> {
        let range = span.clamped();
        range.start - self.range.start..range.end - self.range.start
    }
}

/// All findings as an array of objects: `code`, `lint` (or null), `severity`, `message`, `label`, `help`, `file`,
/// `line`, `column`, `end_line`, `end_column` (counted from 1, columns in characters), `related`.
pub fn to_json(diagnostics: &[Diagnostic]) -> Value {
    diagnostics.iter().map(one_to_json).collect()
}

fn one_to_json(diagnostic: &Diagnostic) -> Value {
    let mut object = json!({
        "code": diagnostic.code.0,
        "lint": diagnostic.lint,
        "severity": diagnostic.severity.word(),
        "message": diagnostic.message,
        "label": diagnostic.label,
        "help": diagnostic.help,
    });
    let related: Vec<Value> = diagnostic
        .related
        .iter()
        .map(|(span, message)| with_place(json!({ "message": message }), span))
        .collect();
    object["related"] = Value::Array(related);
    with_place(object, &diagnostic.span)
}

fn with_place(mut object: Value, span: &Span) -> Value {
    let ((line, column), (end_line, end_column)) = (span.start(), span.end());
    object["file"] = json!(span.file.path.to_string_lossy());
    object["line"] = json!(line);
    object["column"] = json!(column);
    object["end_line"] = json!(end_line);
    object["end_column"] = json!(end_column);
    object
}

/// All findings as workflow commands of GitHub Actions, one a line: they show at the pull
/// request's own lines.
pub fn to_github(diagnostics: &[Diagnostic]) -> String {
    let mut out = String::new();
    for diagnostic in diagnostics {
        let ((line, column), (end_line, end_column)) =
            (diagnostic.span.start(), diagnostic.span.end());
        let file = property(&diagnostic.span.file.path.to_string_lossy());
        let text = [Some(diagnostic.message.as_str()), Some(&diagnostic.label)]
            .into_iter()
            .chain([diagnostic.help.as_deref()])
            .flatten()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("\n");
        let lint = diagnostic.lint.map(|lint| format!(" {lint}")).unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "::{} file={file},line={line},col={column},endLine={end_line},endColumn={end_column},\
             title={}{lint}::{}",
            diagnostic.severity.word(),
            diagnostic.code,
            escape(&text),
        );
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::diagnostic::{SourceFile, codes};

    fn sample() -> Diagnostic {
        let file = Arc::new(SourceFile {
            path: "connectors/a.toml".into(),
            text: "name = \"a\"\nverson = \"1\"\n".to_owned(),
        });
        Diagnostic::new(
            codes::UNKNOWN_KEY,
            Span { file: Arc::clone(&file), range: 11..17 },
            "unknown key `verson`",
            "did you mean `version`?",
        )
        .related(Span { file, range: 0..4 }, "beside this")
        .help("100 % sure, see the reference")
    }

    #[test]
    fn people_see_the_line_and_a_caret() {
        insta::assert_snapshot!(render_human(&[sample()], false), @r#"
        error[E0103]: unknown key `verson`
         --> connectors/a.toml:2:1
          |
        1 | name = "a"
          | ---- beside this
        2 | verson = "1"
          | ^^^^^^ did you mean `version`?
          |
          = help: 100 % sure, see the reference
        "#);
        assert!(render_human(&[sample()], true).contains("\u{1b}["));
    }

    #[test]
    fn programs_see_the_place() {
        let value = to_json(&[sample()]);
        assert_eq!(value[0]["line"], 2);
        assert_eq!(value[0]["end_column"], 7);
        assert_eq!(value[0]["related"][0]["line"], 1);
    }

    #[test]
    fn pull_requests_get_escaped_annotations() {
        insta::assert_snapshot!(to_github(&[sample()]), @"::error file=connectors/a.toml,line=2,col=1,endLine=2,endColumn=7,title=E0103::unknown key `verson`%0Adid you mean `version`?%0A100 %25 sure, see the reference");
    }

    #[test]
    fn any_span_of_any_text_can_be_shown() {
        for text in ["", "\n", "ä", "a\r\nb", "\t\tx = 'ü'\n\n"] {
            let file = Arc::new(SourceFile { path: "x".into(), text: text.to_owned() });
            for start in 0..8 {
                for end in start..8 {
                    let span = Span { file: Arc::clone(&file), range: start..end };
                    let one = Diagnostic::new(codes::SYNTAX, span, "m", "l");
                    assert!(render_human(&[one], false).contains("E0101"));
                }
            }
        }
    }
}
