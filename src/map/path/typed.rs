//! What of a parsed path is refused: ill-typed expressions (RFC 9535 §2.4.3) that the library accepts,
//! and what it answers wrongly.

use jsonpath_rust::parser::model::{
    Comparable, Comparison, Filter, FilterAtom, FnArg, Literal, Segment, Selector, Test,
    TestFunction,
};

use super::{Step, step};

/// Largest integer that a JSON number holds exactly everywhere (RFC 9535 §2.1).
const MAX_EXACT_INTEGER: u64 = (1 << 53) - 1;

/// RFC 9535 §2.4.3, well-typedness, and what this language refuses besides.
pub(super) fn check_segments(segments: &[Segment], within_filter: bool) -> Result<(), String> {
    segments.iter().try_for_each(|segment| match segment {
        Segment::Descendant(inner) => check_segments(std::slice::from_ref(inner), within_filter),
        Segment::Selector(selector) => check_selector(selector, within_filter),
        Segment::Selectors(selectors) => {
            selectors.iter().try_for_each(|selector| check_selector(selector, within_filter))
        }
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
            _ => Err(format!("the result of `{function}` must be compared with something")),
        },
    }
}

fn check_comparison(comparison: &Comparison) -> Result<(), String> {
    let (left, right) = comparison.vals();
    [left, right].into_iter().try_for_each(|side| match side {
        Comparable::Literal(literal) => check_literal(literal),
        Comparable::SingularQuery(_) => Ok(()),
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
        TestFunction::Search(..) | TestFunction::Match(..) => {
            Err(format!("the result of `{function}` is a condition: it cannot be compared"))
        }
        TestFunction::Custom(name, _) => Err(not_standard(name)),
    }
}

/// An argument of type `ValueType`: a literal, a singular path, or a function that gives a value.
fn check_value(argument: &FnArg) -> Result<(), String> {
    let singular = |segments: &[Segment]| {
        if segments.iter().all(|one| matches!(step(one), Some(Step::Name(_) | Step::Index(_)))) {
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
