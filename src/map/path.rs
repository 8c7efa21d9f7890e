//! Paths (RFC 9535). Names, indexes and wildcards are walked here, borrowing from the document; all
//! else is left to `jsonpath-rust`, minus what that library accepts and should not, or answers
//! wrongly: nested filters and ill-typed expressions are refused at load.

use std::ops::Range;

use jsonpath_rust::{
    parser::{
        model::{
            Comparable, Comparison, Filter, FilterAtom, FnArg, JpQuery, Literal, Segment, Selector,
            SingularQuery, SingularQuerySegment, Test, TestFunction,
        },
        parse_json_path,
    },
    query::js_path_process,
};
use serde_json::Value;

/// Paths longer than this are refused; the longest of the census has 160 bytes.
const MAX_PATH_BYTES: usize = 1024;
/// Largest integer that a JSON number holds exactly everywhere (RFC 9535 §2.1).
const MAX_EXACT_INTEGER: u64 = (1 << 53) - 1;

/// One step of a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Name(Box<str>),
    /// Negative: from the end.
    Index(i64),
    /// Every item of an array, every member's value of an object.
    All,
}

/// A compiled path.
#[derive(Clone, Debug)]
pub(super) struct Path {
    /// The leading names and indexes: this part must exist.
    prefix: Box<[Step]>,
    rest: Rest,
}

#[derive(Clone, Debug)]
enum Rest {
    /// The path is singular: the prefix is all of it.
    Nothing,
    /// Begins with a wildcard, then names, indexes and wildcards.
    Walk(Box<[Step]>),
    /// The whole path, for the library.
    Library(Box<JpQuery>),
}

/// What a path selects.
#[derive(Debug, PartialEq)]
pub(super) enum Found<'a> {
    /// A singular path's value.
    One(&'a Value),
    /// Any other path's values.
    Many(Vec<&'a Value>),
    /// The singular part of the path finds nothing, or nothing that could have members.
    Nothing,
}

/// Why a path is refused: bytes within its text, what is wrong, the way out.
#[derive(Debug)]
pub(super) struct Refusal {
    pub range: Range<usize>,
    pub message: String,
    pub help: Option<String>,
}

impl Path {
    /// Compiles the text of a path (without filters, without surrounding space).
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let refuse = |range, message: String, help: &str| {
            Err(Refusal {
                range,
                message,
                help: Some(help.to_owned()),
            })
        };
        if text.len() > MAX_PATH_BYTES {
            return refuse(
                0..text.len(),
                format!("a path has at most {MAX_PATH_BYTES} bytes"),
                "take a shorter one",
            );
        }
        let Ok(query) = parse_json_path(text) else {
            let good = valid_prefix(text);
            return refuse(
                good..text.len(),
                "not a JSONPath (RFC 9535)".to_owned(),
                "a path looks like `$.customer.email`, `$.lines[*]` or `$['odd name']`; \
                 a text that begins with `$` is written {{ '$5' }}",
            );
        };
        if let Err(message) = check_segments(&query.segments, false) {
            return Err(Refusal {
                range: 0..text.len(),
                message,
                help: None,
            });
        }
        Ok(Self::lower(query))
    }

    fn lower(query: JpQuery) -> Self {
        let steps: Vec<Option<Step>> = query.segments.iter().map(step).collect();
        let singular = steps
            .iter()
            .take_while(|step| matches!(step, Some(Step::Name(_) | Step::Index(_))))
            .count();
        let prefix = steps[..singular].iter().flatten().cloned().collect();
        let rest = if singular == steps.len() {
            Rest::Nothing
        } else if steps.iter().all(Option::is_some) {
            Rest::Walk(steps.into_iter().skip(singular).flatten().collect())
        } else {
            Rest::Library(Box::new(query))
        };
        Self { prefix, rest }
    }

    /// Whether it gives one value, not an array.
    pub fn is_singular(&self) -> bool {
        matches!(self.rest, Rest::Nothing)
    }

    /// The names before the first step that is not a name.
    pub fn leading_names(&self) -> Vec<String> {
        self.prefix
            .iter()
            .map_while(|step| match step {
                Step::Name(name) => Some(name.to_string()),
                _ => None,
            })
            .collect()
    }

    /// What it selects in `document`.
    pub fn find<'a>(&self, document: &'a Value) -> Found<'a> {
        let Some(base) = walk(document, &self.prefix) else {
            return Found::Nothing;
        };
        if self.is_singular() {
            Found::One(base)
        } else if base.is_array() || base.is_object() {
            Found::Many(self.select(document))
        } else {
            Found::Nothing
        }
    }

    /// The nodes of RFC 9535, in order.
    pub fn select<'a>(&self, document: &'a Value) -> Vec<&'a Value> {
        match &self.rest {
            Rest::Nothing => walk(document, &self.prefix).into_iter().collect(),
            Rest::Walk(steps) => {
                let mut found = Vec::new();
                if let Some(base) = walk(document, &self.prefix) {
                    spread(base, steps, &mut found);
                }
                found
            }
            // It fails only for results that are not nodes, which a parsed path cannot have.
            Rest::Library(query) => js_path_process(query, document)
                .map(|nodes| nodes.into_iter().map(|node| node.val).collect())
                .unwrap_or_default(),
        }
    }

    /// The deepest part of the singular prefix that exists: `$.customer`.
    pub fn deepest(&self, document: &Value) -> String {
        let mut text = String::from("$");
        let mut at = document;
        for one in &self.prefix {
            let Some(next) = child(at, one) else { break };
            match one {
                Step::Name(name) => {
                    text.push('.');
                    text.push_str(name);
                }
                Step::Index(index) => text.push_str(&format!("[{index}]")),
                Step::All => break,
            }
            at = next;
        }
        text
    }
}

/// Follows names and indexes; `None` where one is missing.
pub(super) fn walk<'a>(document: &'a Value, steps: &[Step]) -> Option<&'a Value> {
    steps.iter().try_fold(document, child)
}

/// One name or index further.
pub(super) fn child<'a>(value: &'a Value, step: &Step) -> Option<&'a Value> {
    match (value, step) {
        (Value::Object(members), Step::Name(name)) => members.get(&**name),
        (Value::Array(items), Step::Index(index)) => items.get(position(*index, items.len())?),
        _ => None,
    }
}

/// An index that may count from the end, as a position.
pub(super) fn position(index: i64, length: usize) -> Option<usize> {
    match usize::try_from(index) {
        Ok(index) => Some(index),
        Err(_) => length.checked_sub(usize::try_from(index.unsigned_abs()).ok()?),
    }
}

fn spread<'a>(value: &'a Value, steps: &[Step], found: &mut Vec<&'a Value>) {
    let Some((first, rest)) = steps.split_first() else {
        found.push(value);
        return;
    };
    match (first, value) {
        (Step::All, Value::Array(items)) => {
            if rest.is_empty() {
                found.extend(items);
            } else {
                items.iter().for_each(|item| spread(item, rest, found));
            }
        }
        (Step::All, Value::Object(members)) => {
            members
                .values()
                .for_each(|member| spread(member, rest, found));
        }
        (Step::All, _) => {}
        _ => {
            if let Some(next) = child(value, first) {
                spread(next, rest, found);
            }
        }
    }
}

fn step(segment: &Segment) -> Option<Step> {
    match segment {
        Segment::Selector(Selector::Name(name)) => Some(Step::Name(name.as_str().into())),
        Segment::Selector(Selector::Index(index)) => Some(Step::Index(*index)),
        Segment::Selector(Selector::Wildcard) => Some(Step::All),
        _ => None,
    }
}

/// Length of the longest beginning of `text` that is a path: where the fault begins.
fn valid_prefix(text: &str) -> usize {
    (1..text.len())
        .rev()
        .find(|&end| text.is_char_boundary(end) && parse_json_path(&text[..end]).is_ok())
        .unwrap_or(0)
}

/// RFC 9535 §2.4.3, well-typedness, and what this language refuses besides.
fn check_segments(segments: &[Segment], within_filter: bool) -> Result<(), String> {
    segments.iter().try_for_each(|segment| match segment {
        Segment::Descendant(inner) => check_segments(std::slice::from_ref(inner), within_filter),
        Segment::Selector(selector) => check_selector(selector, within_filter),
        Segment::Selectors(selectors) => selectors
            .iter()
            .try_for_each(|selector| check_selector(selector, within_filter)),
    })
}

fn check_selector(selector: &Selector, within_filter: bool) -> Result<(), String> {
    match selector {
        Selector::Filter(_) if within_filter => {
            Err("a filter within a filter is not supported".to_owned())
        }
        Selector::Filter(filter) => check_filter(filter),
        _ => Ok(()),
    }
}

fn check_filter(filter: &Filter) -> Result<(), String> {
    match filter {
        Filter::Or(parts) | Filter::And(parts) => parts.iter().try_for_each(check_filter),
        Filter::Atom(FilterAtom::Filter { expr, .. }) => check_filter(expr),
        Filter::Atom(FilterAtom::Test { expr, .. }) => check_test(expr),
        Filter::Atom(FilterAtom::Comparison(comparison)) => check_comparison(comparison),
    }
}

fn check_test(test: &Test) -> Result<(), String> {
    match test {
        Test::RelQuery(segments) => check_segments(segments, true),
        Test::AbsQuery(query) => check_segments(&query.segments, true),
        Test::Function(function) => match &**function {
            TestFunction::Search(a, b) | TestFunction::Match(a, b) => {
                check_value(a)?;
                check_value(b)
            }
            TestFunction::Custom(name, _) => Err(not_standard(name)),
            _ => Err(format!(
                "the result of `{function}` must be compared with something"
            )),
        },
    }
}

fn check_comparison(comparison: &Comparison) -> Result<(), String> {
    let (left, right) = comparison.vals();
    [left, right].into_iter().try_for_each(|side| match side {
        Comparable::Literal(literal) => check_literal(literal),
        Comparable::SingularQuery(SingularQuery::Current(steps) | SingularQuery::Root(steps)) => {
            steps.iter().try_for_each(|step| match step {
                SingularQuerySegment::Index(_) | SingularQuerySegment::Name(_) => Ok(()),
            })
        }
        Comparable::Function(function) => check_value_function(function),
    })
}

fn check_value_function(function: &TestFunction) -> Result<(), String> {
    match function {
        TestFunction::Length(argument) => check_value(argument),
        TestFunction::Count(argument) | TestFunction::Value(argument) => match argument {
            FnArg::Test(test) if !matches!(**test, Test::Function(_)) => check_test(test),
            _ => Err(format!("`{function}` takes a path")),
        },
        TestFunction::Search(..) | TestFunction::Match(..) => Err(format!(
            "the result of `{function}` is a condition: it cannot be compared"
        )),
        TestFunction::Custom(name, _) => Err(not_standard(name)),
    }
}

/// An argument of type `ValueType`: a literal, a singular path, or a function that gives a value.
fn check_value(argument: &FnArg) -> Result<(), String> {
    let singular = |segments: &[Segment]| {
        if segments
            .iter()
            .all(|one| matches!(step(one), Some(Step::Name(_) | Step::Index(_))))
        {
            Ok(())
        } else {
            Err("a function's argument must be a path to one value here".to_owned())
        }
    };
    match argument {
        FnArg::Literal(literal) => check_literal(literal),
        FnArg::Filter(_) => Err("a condition cannot be a function's argument".to_owned()),
        FnArg::Test(test) => match &**test {
            Test::RelQuery(segments) => singular(segments),
            Test::AbsQuery(query) => singular(&query.segments),
            Test::Function(function) => check_value_function(function),
        },
    }
}

fn check_literal(literal: &Literal) -> Result<(), String> {
    match literal {
        Literal::Int(number) if number.unsigned_abs() > MAX_EXACT_INTEGER => {
            Err("a number of more than 2^53 is not compared exactly".to_owned())
        }
        _ => Ok(()),
    }
}

fn not_standard(name: &str) -> String {
    format!("`{name}` is not a function of RFC 9535: there are length, count, value, match, search")
}
