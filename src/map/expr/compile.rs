//! From a string to an [`Expr`]: which of the three kinds it is, what is wrong with it, and what of it
//! can do without the template engine.

use std::{ops::Range, sync::Arc};

use minijinja::machinery::{ast, parse, parse_expr};
use serde_json::Value;

use crate::map::{
    ExprProblem, ExprProblemKind, Library, Place, Site,
    chain::Chain,
    check::{Checker, chain_of},
    filters::Filter,
    json,
    lex::{self, SYNTAX},
    path::Path,
    shared::Shared,
    template::{self, Jinja},
};

use super::{Code, Expr, Inner, Origin, Part, Piece, Placed, Stage};

/// Texts longer than this are refused.
const MAX_SOURCE_BYTES: usize = 64 * 1024;

pub(super) fn compile(
    text: &str,
    site: &Site,
    place: Place,
    library: &Library,
) -> Result<Expr, Vec<ExprProblem>> {
    static SHARED: Shared<Inner> = Shared::new();
    // What refers to a table of its file is that file's own.
    let refers = text.contains("lookup") || text.contains("apply");
    let inner = if refers {
        inner(text, site, library)
    } else {
        let is = |known: &Inner| {
            *known.source == *text
                && (known.names, known.root, known.lenient)
                    == (site.names, site.root.unwrap_or_default(), site.lenient)
        };
        SHARED.get((text, site), is, || inner(text, site, library))
    };
    Ok(Expr(Arc::new(Placed { place, inner: inner? })))
}

fn inner(text: &str, site: &Site, library: &Library) -> Result<Arc<Inner>, Vec<ExprProblem>> {
    if text.len() > MAX_SOURCE_BYTES {
        let message = format!("a text has at most {MAX_SOURCE_BYTES} bytes");
        return Err(vec![ExprProblem::new(0..0, ExprProblemKind::Template, message)]);
    }
    let is_constant = !text.starts_with('$') && !text.contains("{{") && !text.contains("{%");
    if !is_constant && lex::is_too_long(text) {
        let message = format!("more than {} names and operators", lex::MAX_TOKENS);
        let problem = ExprProblem::new(0..text.len(), ExprProblemKind::Template, message);
        return Err(vec![problem.help("split it: into several fields, a lookup, or a named map")]);
    }
    let mut checker = Checker::new(site, library, text);
    let code = if text.starts_with('$') {
        path(text, site, &mut checker)
    } else if is_constant {
        Some(Code::Constant(Value::from(text)))
    } else {
        templated(text, site, &mut checker)
    };
    let problems = checker.problems;
    match code {
        Some(code) if problems.is_empty() => Ok(Arc::new(Inner {
            source: text.into(),
            names: site.names,
            root: site.root.unwrap_or_default(),
            needs_secret: needs_secret(&code),
            lenient: site.lenient,
            code,
        })),
        _ => Err(problems),
    }
}

fn needs_secret(code: &Code) -> bool {
    let mut needs = false;
    code.each_name("", &mut |root, _| needs |= root == "secret");
    needs
}

fn path<'a>(text: &'a str, site: &Site, checker: &mut Checker<'a>) -> Option<Code> {
    let end = lex::filters_of_path(text).unwrap_or(text.len());
    let written = text[..end].trim_end();
    let problem = match (site.root, Path::parse(written)) {
        (None, _) => ExprProblem::new(
            0..written.len(),
            ExprProblemKind::Path,
            "there is no document here that a path could read",
        )
        .help("a text that begins with `$` is written {{ '$5' }}"),
        (Some(_), Ok(path)) => {
            let (stages, last_filter) = path_filters(text, end, site, checker)?;
            return Some(Code::Single(Piece { origin: Origin::Path(path), stages, last_filter }));
        }
        (_, Err(refusal)) => {
            let problem = ExprProblem::new(refusal.range, ExprProblemKind::Path, refusal.message);
            ExprProblem { help: refusal.help, ..problem }
        }
    };
    checker.problems.push(problem);
    // The filters may be wrong, too.
    path_filters(text, end, site, checker);
    None
}

type Stages = (Box<[Stage]>, Option<&'static str>);

/// The filters that stand after a path, from the byte `start` on.
fn path_filters<'a>(
    text: &'a str,
    start: usize,
    site: &Site,
    checker: &mut Checker<'a>,
) -> Option<Stages> {
    let ranges = match lex::filters(&text[start..]) {
        Ok(ranges) => ranges,
        Err(error) => {
            checker.problems.push(syntax(&error, start, text.len(), ExprProblemKind::Filter));
            return None;
        }
    };
    let mut stages = Vec::with_capacity(ranges.len());
    let mut last = None;
    for range in ranges {
        let range = range.start + start..range.end + start;
        let (stage, name) = path_filter(text, range, site, checker)?;
        stages.push(stage);
        last = name;
    }
    refuse_floats(&stages, 0..text.len(), checker)?;
    Some((stages.into(), last))
}

/// A decimal is digits: a float among the filters around `decimal` is a mistake.
fn refuse_floats(stages: &[Stage], range: Range<usize>, checker: &mut Checker<'_>) -> Option<()> {
    let is_float = |value: &Value| value.is_f64();
    let has_float = stages.iter().any(|stage| match stage {
        Stage::Native(Filter::Default(value)) => is_float(value),
        Stage::Native(Filter::Lookup { table, otherwise }) => {
            table.entries.values().chain(otherwise.as_deref()).any(is_float)
        }
        _ => false,
    });
    let is_decimal =
        stages.iter().any(|stage| matches!(stage, Stage::Native(Filter::Decimal { .. })));
    if !(has_float && is_decimal) {
        return Some(());
    }
    let message = "a decimal is digits, and what stands here goes through a float";
    let help = "write the number as a text: | default('0.50')";
    checker.problems.push(ExprProblem::new(range, ExprProblemKind::Filter, message).help(help));
    None
}

fn path_filter<'a>(
    text: &'a str,
    range: Range<usize>,
    site: &Site,
    checker: &mut Checker<'a>,
) -> Option<(Stage, Option<&'static str>)> {
    // The engine reads a filter only behind a value; the bytes before it are not the file's.
    let behind = format!("{}|", template::INPUT);
    let whole = format!("{behind}{}", &text[range.clone()]);
    let base = range.start as isize - behind.len() as isize;
    let tree = match parse_expr(&whole) {
        Ok(tree) => tree,
        Err(error) => {
            let problem = syntax(&error, range.start, range.end, ExprProblemKind::Filter);
            checker.problems.push(problem);
            return None;
        }
    };
    let ast::Expr::Filter(filter) = &tree else {
        let message = "only filters stand after a path";
        checker.problems.push(
            ExprProblem::new(range, ExprProblemKind::Filter, message)
                .help("anything else is a template: {{ record.a + 1 }}"),
        );
        return None;
    };
    let mut inner = Checker::new(site, checker.library(), text);
    inner.expression(&whole, base, &tree);
    let failed = !inner.problems.is_empty();
    let native = inner.compile_filter(filter).and_then(Result::ok);
    let (replaced, slots) = inner.take_slots();
    checker.problems.append(&mut inner.problems);
    if failed {
        return None;
    }
    let name = template::filter_name(filter.name);
    if let Some(native) = native {
        return Some((Stage::Native(native), name));
    }
    match Jinja::expression(replaced, slots, inner.used, site.lenient) {
        Ok(program) => {
            let handles_missing = matches!(filter.name, "default" | "d");
            Some((Stage::Jinja { program, handles_missing }, name))
        }
        Err(error) => {
            let problem = syntax(&error, range.start, range.end, ExprProblemKind::Filter);
            checker.problems.push(problem);
            None
        }
    }
}

fn templated<'a>(text: &'a str, site: &Site, checker: &mut Checker<'a>) -> Option<Code> {
    let pieces = match lex::pieces(text) {
        Ok(Some(pieces)) => pieces,
        Ok(None) => return statements(text, site, checker),
        Err(error) => {
            checker.problems.push(syntax(&error, 0, text.len(), ExprProblemKind::Template));
            return None;
        }
    };
    let parts: Vec<Option<Part>> = pieces
        .into_iter()
        .map(|piece| match piece {
            lex::Piece::Text(literal) => Some(Part::Text(literal.into())),
            lex::Piece::Expression(range) => expression(text, range, site, checker),
        })
        .collect();
    let parts: Vec<Part> = parts.into_iter().collect::<Option<_>>()?;
    Some(join_constants(parts))
}

/// Neighbouring texts become one; a template of one text or one constant is a constant.
fn join_constants(parts: Vec<Part>) -> Code {
    let alone = parts.len() == 1;
    let mut joined: Vec<Part> = Vec::with_capacity(parts.len());
    for part in parts {
        match (joined.last_mut(), part) {
            (Some(Part::Text(before)), Part::Text(text)) => {
                *before = format!("{before}{text}").into();
            }
            (_, part) => joined.push(part),
        }
    }
    match joined.pop() {
        None => Code::Constant(Value::from("")),
        Some(Part::Text(text)) if joined.is_empty() => Code::Constant(Value::from(&*text)),
        Some(Part::Constant(value)) if alone => Code::Constant(value),
        Some(Part::Piece(piece)) if alone => Code::Single(piece),
        Some(last) => {
            joined.push(last);
            Code::Concat(joined.into())
        }
    }
}

/// What stands between `{{` and `}}`.
fn expression<'a>(
    text: &'a str,
    range: Range<usize>,
    site: &Site,
    checker: &mut Checker<'a>,
) -> Option<Part> {
    let written = &text[range.clone()];
    let tree = match parse_expr(written) {
        Ok(tree) => tree,
        Err(error) => {
            let problem = syntax(&error, range.start, range.end, ExprProblemKind::Template);
            checker.problems.push(problem);
            return None;
        }
    };
    let before = checker.problems.len();
    checker.expression(written, range.start as isize, &tree);
    let (replaced, slots) = checker.take_slots();
    if checker.problems.len() > before {
        return None;
    }
    if let Some(Ok(Some(value))) = tree.as_const().map(|value| json::from_template(&value)) {
        if value.as_str().is_some_and(|text| text.len() > template::MAX_OUTPUT_BYTES) {
            let message = format!("gives more than {} bytes", template::MAX_OUTPUT_BYTES);
            let problem = ExprProblem::new(range, ExprProblemKind::Template, message);
            checker.problems.push(problem);
            return None;
        }
        return Some(Part::Constant(value));
    }
    let last_filter = match &tree {
        ast::Expr::Filter(filter) => template::filter_name(filter.name),
        _ => None,
    };
    if let Some((chain, stages)) = lower(&tree, checker) {
        refuse_floats(&stages, range, checker)?;
        return Some(Part::Piece(Piece { origin: Origin::Chain(chain), stages, last_filter }));
    }
    let used = std::mem::take(&mut checker.used);
    match Jinja::expression(replaced, slots, used, site.lenient) {
        Ok(program) => Some(Part::Piece(Piece {
            origin: Origin::Jinja(program),
            stages: Box::default(),
            last_filter,
        })),
        Err(error) => {
            let problem = syntax(&error, range.start, range.end, ExprProblemKind::Template);
            checker.problems.push(problem);
            None
        }
    }
}

/// A dotted name, and filters of ours with constant arguments: no need for the engine.
fn lower(tree: &ast::Expr<'_>, checker: &mut Checker<'_>) -> Option<(Chain, Box<[Stage]>)> {
    let mut stages = Vec::new();
    let mut at = tree;
    while let ast::Expr::Filter(node) = at {
        stages.push(Stage::Native(checker.compile_filter(node)?.ok()?));
        at = node.expr.as_ref()?;
    }
    stages.reverse();
    let (root, steps) = chain_of(at)?;
    let root = checker.site_name(root)?;
    let chain = Chain { root, steps: steps.into() };
    Some((chain, stages.into()))
}

fn statements<'a>(text: &'a str, site: &Site, checker: &mut Checker<'a>) -> Option<Code> {
    let tree = match parse(text, "", SYNTAX.clone()) {
        Ok(tree) => tree,
        Err(error) => {
            checker.problems.push(syntax(&error, 0, text.len(), ExprProblemKind::Template));
            return None;
        }
    };
    checker.template(text, &tree);
    let (replaced, slots) = checker.take_slots();
    let used = std::mem::take(&mut checker.used);
    match Jinja::template(replaced, slots, used, site.lenient) {
        Ok(program) => Some(Code::Statements(program)),
        Err(error) => {
            checker.problems.push(syntax(&error, 0, text.len(), ExprProblemKind::Template));
            None
        }
    }
}

/// The engine's complaint about a text that begins at `start`.
fn syntax(
    error: &minijinja::Error,
    start: usize,
    end: usize,
    kind: ExprProblemKind,
) -> ExprProblem {
    let within = |at: usize| start.saturating_add(at).min(end);
    let range = error.range().map_or(start..end, |range| within(range.start)..within(range.end));
    let message = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    ExprProblem::new(range, kind, message)
}
