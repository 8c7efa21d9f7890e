//! How what was expected and what came differ, field by field. Pure.

use serde_json::Value;

use crate::definition::{
    collections::Literal,
    table::{At, Loc},
};

/// One field that is not as expected.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// `customer.email`, `lines[0].sku`; empty for the whole.
    pub path: String,
    /// What was expected; `None` where nothing was.
    pub expected: Option<Value>,
    /// What came; `None` where nothing did.
    pub got: Option<Value>,
    /// Where the expectation stands; of what was not expected the place of what it came in.
    pub at: Loc,
}

/// How an expectation is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// All of it, and no more.
    Exact,
    /// What is named, at any depth; lists have the same length.
    Some,
    /// A request, an answer, a dead letter: what is named at the first level, each exactly, but of
    /// `headers` those that are named, and of `message` the words.
    Facts,
}

/// Every difference, in the order of the expectation, then what came besides.
pub fn diff(rule: Rule, expected: &At<Literal>, got: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(rule, "", expected, got, &mut found);
    found
}

/// As [`diff`], for lists: item by item. `at` is the place of the list.
pub fn diff_lists<'e>(
    rule: Rule,
    expected: impl IntoIterator<Item = &'e At<Literal>>,
    got: &[Value],
    at: Loc,
) -> Vec<Difference> {
    let mut found = Vec::new();
    let expected: Vec<_> = expected.into_iter().collect();
    let is_single = expected.len() == 1 && got.len() == 1;
    for index in 0..expected.len().max(got.len()) {
        let path = if is_single { String::new() } else { format!("[{index}]") };
        match (expected.get(index), got.get(index)) {
            (Some(expected), Some(got)) => compare(rule, &path, expected, got, &mut found),
            (Some(expected), None) => found.push(missing(path, expected)),
            (None, got) => found.push(Difference { path, expected: None, got: got.cloned(), at }),
        }
    }
    found
}

fn missing(path: String, expected: &At<Literal>) -> Difference {
    Difference { path, expected: Some(expected.value.value()), got: None, at: shown_at(expected) }
}

/// A table is shown by its key: a caret under many lines points nowhere.
fn shown_at(literal: &At<Literal>) -> Loc {
    match literal.value {
        Literal::Constant(_) => literal.at,
        _ => literal.key,
    }
}

fn compare(
    rule: Rule,
    path: &str,
    expected: &At<Literal>,
    got: &Value,
    found: &mut Vec<Difference>,
) {
    match (&expected.value, got) {
        (Literal::Table(members), Value::Object(got)) => {
            for (name, member) in members {
                let path = joined(path, name);
                match got.get(name) {
                    Some(got) => compare(inner(rule, name), &path, member, got, found),
                    None => found.push(missing(path, member)),
                }
            }
            if rule == Rule::Exact {
                let known = |name: &str| members.iter().any(|(known, _)| known == name);
                for (name, value) in got.iter().filter(|(name, _)| !known(name)) {
                    let (path, at) = (joined(path, name), shown_at(expected));
                    found.push(Difference { path, expected: None, got: Some(value.clone()), at });
                }
            }
        }
        (Literal::Array(items), Value::Array(got)) => {
            for index in 0..items.len().max(got.len()) {
                let path = format!("{path}[{index}]");
                match (items.get(index), got.get(index)) {
                    (Some(item), Some(got)) => compare(rule, &path, item, got, found),
                    (Some(item), None) => found.push(missing(path, item)),
                    (None, got) => {
                        let at = shown_at(expected);
                        found.push(Difference { path, expected: None, got: got.cloned(), at });
                    }
                }
            }
        }
        (Literal::Constant(Value::String(words)), Value::String(text))
            if rule == Rule::Facts && path.ends_with("message") && text.contains(words) => {}
        (Literal::Constant(constant), got) if is_same(constant, got) => {}
        (other, got) => found.push(Difference {
            path: path.to_owned(),
            expected: Some(other.value()),
            got: Some(got.clone()),
            at: shown_at(expected),
        }),
    }
}

/// How a member of something is meant.
fn inner(rule: Rule, name: &str) -> Rule {
    match (rule, name) {
        (Rule::Facts, "headers") => Rule::Some,
        (Rule::Facts, "message") => Rule::Facts,
        (Rule::Facts, _) => Rule::Exact,
        (rule, _) => rule,
    }
}

/// Numbers are the same where they are equal: TOML tells `2` from `2.0`, a peer need not.
fn is_same(expected: &Value, got: &Value) -> bool {
    match (expected, got) {
        (Value::Number(expected), Value::Number(got)) => {
            expected == got
                || (expected.is_f64() != got.is_f64() && expected.as_f64() == got.as_f64())
        }
        (expected, got) => expected == got,
    }
}

fn joined(path: &str, name: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let name = if !name.is_empty() && name.chars().all(is_plain) {
        name.to_owned()
    } else {
        format!("{name:?}")
    };
    if path.is_empty() { name } else { format!("{path}.{name}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(value: &Value) -> At<Literal> {
        Literal::of(value, Loc::default())
    }

    /// Differences as lines: `path: expected | got`.
    fn lines(rule: Rule, expected: &Value, got: &Value) -> Vec<String> {
        let text = |value: &Option<Value>| value.as_ref().map_or("-".to_owned(), Value::to_string);
        diff(rule, &at(expected), got)
            .iter()
            .map(|d| format!("{}: {} | {}", d.path, text(&d.expected), text(&d.got)))
            .collect()
    }

    #[test]
    fn exact_means_all_and_no_more() {
        let expected = json!({"id": 1, "total": "1.0", "lines": [{"sku": "a"}], "gone": true});
        let got = json!({"id": 1.0, "total": 1.0, "lines": [{"sku": "a", "n": 2}, {}], "more": {}});
        assert_eq!(
            lines(Rule::Exact, &expected, &got),
            [
                "total: \"1.0\" | 1.0",
                "lines[0].n: - | 2",
                "lines[1]: - | {}",
                "gone: true | -",
                "more: - | {}",
            ]
        );
        assert_eq!(lines(Rule::Exact, &got, &got), [""; 0]);
    }

    #[test]
    fn some_is_what_is_named_at_any_depth() {
        let expected = json!({"customer": {"email": "a"}, "lines": [{"n": 2}]});
        let got =
            json!({"id": 1, "customer": {"email": "b", "name": "c"}, "lines": [{"n": 2, "m": 3}]});
        assert_eq!(lines(Rule::Some, &expected, &got), ["customer.email: \"a\" | \"b\""]);
    }

    #[test]
    fn facts_are_exact_but_for_headers_and_words() {
        let expected =
            json!({"query": {"page": "1"}, "headers": {"accept": "x"}, "message": "no such"});
        let got = json!({
            "method": "GET", "query": {"page": "1", "size": "2"},
            "headers": {"accept": "x", "host": "y"}, "message": "404: no such order",
        });
        assert_eq!(lines(Rule::Facts, &expected, &got), ["query.size: - | \"2\""]);
        let got = json!({"query": {"page": "1"}, "headers": {}, "message": "gone"});
        assert_eq!(
            lines(Rule::Facts, &expected, &got),
            ["headers.accept: \"x\" | -", "message: \"no such\" | \"gone\""]
        );
    }

    #[test]
    fn lists_are_compared_item_by_item_and_a_single_item_needs_no_number() {
        let one = [at(&json!({"a": 1}))];
        let found = diff_lists(Rule::Exact, &one, &[json!({"a": 2})], Loc::default());
        assert_eq!(found[0].path, "a");
        let found = diff_lists(Rule::Exact, &one, &[json!({"a": 2}), json!(3)], Loc::default());
        assert_eq!(found.iter().map(|d| d.path.as_str()).collect::<Vec<_>>(), ["[0].a", "[1]"]);
    }
}
