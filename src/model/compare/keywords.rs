//! Keywords that limit a single value: bounds, lengths, patterns, formats.

use serde_json::{Number, Value};

use super::{Breaks, node::Node};

/// Annotations: they take and refuse nothing.
pub(super) const WORDS: &[&str] = &[
    "title",
    "description",
    "examples",
    "default",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$comment",
    "x-pii",
    "x-unit",
    "x-precision",
];

/// Keywords of which only "the same" and "not the same" can be told. One more takes fewer records.
pub(super) const OPAQUE: &[&str] = &[
    "$ref",
    "$dynamicRef",
    "not",
    "contains",
    "maxContains",
    "propertyNames",
    "dependentRequired",
    "dependentSchemas",
    "contentEncoding",
    "contentMediaType",
];

/// Keywords that say what others are about: one more may take fewer records, or more.
pub(super) const TANGLED: &[&str] = &[
    "oneOf",
    "if",
    "then",
    "else",
    "minContains",
    "prefixItems",
    "unevaluatedItems",
    "unevaluatedProperties",
    "patternProperties",
];

/// How a keyword limits values.
pub(super) struct Rule {
    /// The keyword, or those that say the same in other words.
    pub keywords: &'static [&'static str],
    /// The types that it says something about.
    pub types: &'static [&'static str],
    limit: Limit,
}

enum Limit {
    /// The larger, the fewer values.
    Least,
    /// The smaller, the fewer values.
    Most,
    /// Texts that are the same or not.
    Same,
    /// `multipleOf`.
    Step,
    /// `true`: fewer values.
    Flag,
}

const NUMBERS: &[&str] = &["integer", "fraction"];
const TEXTS: &[&str] = &["string"];
const LISTS: &[&str] = &["array"];
const OBJECTS: &[&str] = &["object"];

pub(super) const RULES: &[Rule] = &[
    Rule { keywords: &["minimum", "exclusiveMinimum"], types: NUMBERS, limit: Limit::Least },
    Rule { keywords: &["maximum", "exclusiveMaximum"], types: NUMBERS, limit: Limit::Most },
    Rule { keywords: &["multipleOf"], types: NUMBERS, limit: Limit::Step },
    Rule { keywords: &["minLength"], types: TEXTS, limit: Limit::Least },
    Rule { keywords: &["maxLength"], types: TEXTS, limit: Limit::Most },
    Rule { keywords: &["pattern"], types: TEXTS, limit: Limit::Same },
    Rule { keywords: &["format"], types: TEXTS, limit: Limit::Same },
    Rule { keywords: &["minItems"], types: LISTS, limit: Limit::Least },
    Rule { keywords: &["maxItems"], types: LISTS, limit: Limit::Most },
    Rule { keywords: &["uniqueItems"], types: LISTS, limit: Limit::Flag },
    Rule { keywords: &["minProperties"], types: OBJECTS, limit: Limit::Least },
    Rule { keywords: &["maxProperties"], types: OBJECTS, limit: Limit::Most },
];

/// A bound, and whether the bound itself is outside.
type Bound = (f64, bool);

impl Rule {
    /// What is different, if anything.
    pub fn compare(&self, old: &Node<'_>, new: &Node<'_>) -> Option<(String, Breaks)> {
        match self.limit {
            Limit::Least => self.bounds(old, new, |one, other| one > other),
            Limit::Most => self.bounds(old, new, |one, other| one < other),
            Limit::Same => self.texts(old, new),
            Limit::Step => self.steps(old, new),
            Limit::Flag => self.flags(old, new),
        }
    }

    fn name(&self) -> &'static str {
        self.keywords[0]
    }

    /// The strictest bound, `is_stricter` saying which of two is.
    fn bound(&self, node: &Node<'_>, is_stricter: fn(f64, f64) -> bool) -> Option<Bound> {
        let bounds = self.keywords.iter().flat_map(|keyword| {
            node.all(keyword)
                .filter_map(Value::as_f64)
                .map(|bound| (bound, keyword.starts_with("excl")))
        });
        bounds.reduce(|one, other| {
            let other_wins = is_stricter(other.0, one.0) || !is_stricter(one.0, other.0) && other.1;
            if other_wins { other } else { one }
        })
    }

    fn bounds(
        &self,
        old: &Node<'_>,
        new: &Node<'_>,
        is_stricter: fn(f64, f64) -> bool,
    ) -> Option<(String, Breaks)> {
        let (before, after) = (self.bound(old, is_stricter), self.bound(new, is_stricter));
        if before == after {
            return None;
        }
        let is_narrower = match (before, after) {
            (None, Some(_)) => true,
            (Some(before), Some(after)) => {
                is_stricter(after.0, before.0) || !is_stricter(before.0, after.0) && after.1
            }
            _ => false,
        };
        let what = format!("`{}`: {} → {}", self.name(), bound_words(before), bound_words(after));
        let breaks = if is_narrower {
            Breaks::producers("a record beyond the new bound is refused")
        } else {
            Breaks::consumers("they may meet a value beyond the old bound")
        };
        Some((what, breaks))
    }

    fn texts(&self, old: &Node<'_>, new: &Node<'_>) -> Option<(String, Breaks)> {
        let texts = |node: &Node<'_>| {
            let mut texts: Vec<String> = node.all(self.name()).map(ToString::to_string).collect();
            texts.sort();
            texts.dedup();
            texts
        };
        let (before, after) = (texts(old), texts(new));
        if before == after {
            return None;
        }
        let words = |texts: &[String]| {
            if texts.is_empty() { "none".to_owned() } else { texts.join(" and ") }
        };
        let what = format!("`{}`: {} → {}", self.name(), words(&before), words(&after));
        let breaks = if before.iter().all(|text| after.contains(text)) {
            Breaks::producers("a text that it does not take is refused")
        } else if after.iter().all(|text| before.contains(text)) {
            Breaks::consumers("they may meet a text that was ruled out")
        } else {
            Breaks::both("whether it takes more or less cannot be told")
        };
        Some((what, breaks))
    }

    fn steps(&self, old: &Node<'_>, new: &Node<'_>) -> Option<(String, Breaks)> {
        let steps = |node: &Node<'_>| {
            let mut steps: Vec<f64> = node.all(self.name()).filter_map(Value::as_f64).collect();
            steps.sort_by(f64::total_cmp);
            steps.dedup();
            steps
        };
        let (before, after) = (steps(old), steps(new));
        if before == after {
            return None;
        }
        let words = |steps: &[f64]| match steps {
            [] => "none".to_owned(),
            steps => steps.iter().copied().map(number).collect::<Vec<_>>().join(" and "),
        };
        let what = format!("`{}`: {} → {}", self.name(), words(&before), words(&after));
        if before.len() > 1 || after.len() > 1 {
            return Some((what, Breaks::both("other numbers are taken")));
        }
        let (before, after) = (before.first().copied(), after.first().copied());
        let is_multiple = |one: Option<f64>, of: Option<f64>| match (one, of) {
            (_, None) => true,
            (Some(one), Some(of)) => ((one / of) - (one / of).round()).abs() < 1e-9,
            (None, Some(_)) => false,
        };
        let breaks = match (is_multiple(after, before), is_multiple(before, after)) {
            (true, _) => Breaks::producers("a number in between is refused"),
            (_, true) => Breaks::consumers("they may meet a number in between"),
            _ => Breaks::both("other numbers are taken"),
        };
        Some((what, breaks))
    }

    fn flags(&self, old: &Node<'_>, new: &Node<'_>) -> Option<(String, Breaks)> {
        let is_set =
            |node: &Node<'_>| node.all(self.name()).any(|value| value == &Value::Bool(true));
        match (is_set(old), is_set(new)) {
            (false, true) => Some((
                format!("`{}` added", self.name()),
                Breaks::producers("a list that repeats an item is refused"),
            )),
            (true, false) => Some((
                format!("`{}` removed", self.name()),
                Breaks::consumers("items may be repeated"),
            )),
            _ => None,
        }
    }
}

fn bound_words(bound: Option<Bound>) -> String {
    match bound {
        None => "none".to_owned(),
        Some((bound, false)) => number(bound),
        Some((bound, true)) => format!("{} (itself excluded)", number(bound)),
    }
}

/// `3`, not `3.0`.
fn number(value: f64) -> String {
    let whole = value as i64;
    if (whole as f64 - value).abs() < f64::EPSILON {
        return whole.to_string();
    }
    Number::from_f64(value).map_or_else(|| value.to_string(), |number| number.to_string())
}
