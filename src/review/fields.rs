//! What a consumer reads: the fields of a map (or of a body), each with its type, where it comes from
//! and whether it may be missing.

use serde_json::Value;

use super::{
    pen::{At as Where, Pen, changed},
    rule::{self, Rule},
    said::Said,
    say::{self, quoted},
    yields::{Kind, Missing, Yield, conversions},
};
use crate::{
    definition::{collections::TreeDef, table::At},
    map::{
        Tree,
        outline::{Call, Chained, Outline, Part},
    },
};

/// One field as it is made.
#[derive(Clone, Debug)]
pub(super) enum Made {
    /// As written.
    By(String),
    Constant(Value),
}

/// Fields by their path: `customer.email`, `tags[0]`.
pub(super) struct Shape(Vec<(String, Made)>);

impl Shape {
    pub fn of(tree: &Tree) -> Self {
        let mut shape = Self(Vec::new());
        shape.add(String::new(), tree);
        shape
    }

    fn add(&mut self, path: String, tree: &Tree) {
        match tree {
            Tree::Leaf(expr) => self.0.push((path, Made::By(expr.source().to_owned()))),
            Tree::Constant(value) => self.0.push((path, Made::Constant((**value).clone()))),
            Tree::Table(fields) => {
                for (name, field) in fields {
                    let dot = if path.is_empty() { "" } else { "." };
                    self.add(format!("{path}{dot}{name}"), field);
                }
            }
            Tree::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    self.add(format!("{path}[{at}]"), item);
                }
            }
        }
    }

    fn find(&self, path: &str) -> Option<&Made> {
        self.0.iter().find(|(name, _)| name == path).map(|(_, made)| made)
    }

    /// The fields of a table as it is written.
    pub fn of_definition(fields: &[(String, At<TreeDef>)]) -> Self {
        let mut shape = Self(Vec::new());
        for (name, field) in fields {
            shape.add_definition(name.clone(), &field.value);
        }
        shape
    }

    fn add_definition(&mut self, path: String, tree: &TreeDef) {
        match tree {
            TreeDef::Leaf(expr) => self.0.push((path, Made::By(expr.text.clone()))),
            TreeDef::Constant(value) => self.0.push((path, Made::Constant(value.clone()))),
            TreeDef::Table(fields) => {
                for (name, field) in fields {
                    self.add_definition(format!("{path}.{name}"), &field.value);
                }
            }
            TreeDef::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    self.add_definition(format!("{path}[{at}]"), &item.value);
                }
            }
        }
    }
}

/// Compares two sets of fields that are written below `key`.
pub(super) fn compare(pen: &mut Pen<'_>, at: &Where, key: &str, (old, new): (&Shape, &Shape)) {
    let mut gone: Vec<&(String, Made)> =
        old.0.iter().filter(|(path, _)| new.find(path).is_none()).collect();
    for (path, made) in &new.0 {
        let name = name_of(key, path);
        if let Some(was) = old.find(path) {
            field(pen, at, &name, was, made);
            continue;
        }
        match gone.iter().position(|(_, was)| is_same(pen, was, made)) {
            Some(index) => {
                let (was, _) = gone.remove(index);
                renamed(pen, at, key, (was, path));
            }
            None => added(pen, at, &name, made),
        }
    }
    for (path, made) in gone {
        let effect = match made {
            Made::By(expr) => format!("it was made by {}", quoted(&pen.old_said(expr).text)),
            Made::Constant(value) => format!("it was always {}", say::constant(value)),
        };
        let what = "field removed";
        pen.note(at, &name_of(key, path), rule::FIELD_REMOVED, what, effect);
    }
}

/// A field's path, and what makes it on either side, quoted.
pub(super) type Difference = (String, Option<String>, Option<String>);

/// The fields that are made otherwise.
pub(super) fn differences(pen: &Pen<'_>, (old, new): (&Shape, &Shape)) -> Vec<Difference> {
    let show = |made: &Made, is_old: bool| match made {
        Made::By(text) if is_old => quoted(&pen.old_said(text).text),
        Made::By(text) => quoted(&pen.new_said(text).text),
        Made::Constant(value) => say::constant(value),
    };
    let mut all = Vec::new();
    for (path, was) in &old.0 {
        let is = new.find(path);
        let same = match (was, is) {
            (Made::By(was), Some(Made::By(is))) => pen.same(was, is),
            (Made::Constant(was), Some(Made::Constant(is))) => was == is,
            _ => false,
        };
        if !same {
            all.push((path.clone(), Some(show(was, true)), is.map(|is| show(is, false))));
        }
    }
    for (path, is) in new.0.iter().filter(|(path, _)| old.find(path).is_none()) {
        all.push((path.clone(), None, Some(show(is, false))));
    }
    all
}

fn name_of(key: &str, path: &str) -> String {
    let dot = if key.is_empty() || path.is_empty() { "" } else { "." };
    format!("{key}{dot}{path}")
}

/// New fields that are made from what was masked and are not masked themselves: new and old path.
pub(super) fn unmasked<'f>(
    pen: &Pen<'_>,
    (old, old_masks): (&'f Shape, &[String]),
    (new, new_masks): (&'f Shape, &[String]),
) -> Vec<(&'f str, &'f str)> {
    let is_masked = |path: &str, masks: &[String]| {
        masks.iter().any(|mask| {
            path.strip_prefix(mask.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    };
    let masked: Vec<&(String, Made)> =
        old.0.iter().filter(|(path, _)| is_masked(path, old_masks)).collect();
    let open = new.0.iter().filter(|(path, _)| !is_masked(path, new_masks));
    open.filter(|(path, _)| !old.0.iter().any(|(known, _)| known == path))
        .filter_map(|(path, made)| {
            let was = masked.iter().find(|(_, was)| reads_the_same(pen, was, made))?;
            Some((path.as_str(), was.0.as_str()))
        })
        .collect()
}

/// Whether two fields read one thing, whatever they make of it.
fn reads_the_same(pen: &Pen<'_>, old: &Made, new: &Made) -> bool {
    let (Made::By(old), Made::By(new)) = (old, new) else { return false };
    let (was, is) = (pen.old_said(old).outline, pen.new_said(new).outline);
    was.values().any(|old| is.values().any(|new| old.origin == new.origin))
}

/// Whether two fields are made alike. Constants say too little to know a field again by.
fn is_same(pen: &Pen<'_>, old: &Made, new: &Made) -> bool {
    match (old, new) {
        (Made::By(old), Made::By(new)) => {
            !matches!(Outline::of(old), Outline::Text(_)) && pen.same(old, new)
        }
        _ => false,
    }
}

fn renamed(pen: &mut Pen<'_>, at: &Where, key: &str, (was, is): (&str, &str)) {
    let (old, new) = (name_of(key, was), name_of(key, is));
    let what = format!("renamed from `{was}`, made by the same expression");
    let effect = "whoever reads the old name finds nothing";
    // Both sides are looked for; each is found on its own.
    pen.note_at(at, &new, &[&new, &old], rule::FIELD_RENAMED, what, effect);
}

fn added(pen: &mut Pen<'_>, at: &Where, name: &str, made: &Made) {
    let (what, effect) = match made {
        Made::Constant(value) => (format!("field added: always {}", say::constant(value)), ""),
        Made::By(expr) => {
            let said = pen.new_said(expr);
            let yields = Yield::of(&said.outline);
            let fails = yields.missing == Missing::Fails && reads_record(&said.outline);
            let effect = if fails {
                "a record that does not have it ends as a dead letter: `| optional` or \
                 `| default(...)` would let it through"
            } else {
                ""
            };
            (format!("field added: {} from {}", yields.kind.words(), quoted(&said.text)), effect)
        }
    };
    pen.note(at, name, rule::FIELD_ADDED, what, effect);
}

fn reads_record(outline: &Outline) -> bool {
    outline.values().any(|value| value.origin.starts_with('$') || value.origin.contains("record"))
}

fn field(pen: &mut Pen<'_>, at: &Where, name: &str, old: &Made, new: &Made) {
    match (old, new) {
        (Made::By(old), Made::By(new)) => expressions(pen, at, name, old, new),
        (Made::Constant(old), Made::Constant(new)) if old == new => {}
        (Made::Constant(old), Made::Constant(new)) => {
            let what = format!("{} → {}", say::constant(old), say::constant(new));
            pen.note(at, name, rule::FIELD_VALUE, what, "");
        }
        (Made::Constant(old), Made::By(new)) => {
            let is = Yield::of(&pen.new_said(new).outline);
            let was = format!("was always {}", say::constant(old));
            pen.note(at, name, rule::FIELD_TYPE, format!("{}, {was}", is.kind.words()), "");
        }
        (Made::By(old), Made::Constant(new)) => {
            let was = Yield::of(&pen.old_said(old).outline);
            let is = format!("always {}", say::constant(new));
            pen.note(at, name, rule::FIELD_TYPE, format!("{is}, was {}", was.kind.words()), "");
        }
    }
}

/// Compares two expressions of one field, aspect by aspect.
fn expressions(pen: &mut Pen<'_>, at: &Where, name: &str, old: &str, new: &str) {
    let (was, is) = (pen.old_said(old), pen.new_said(new));
    if was.same(&is) {
        return;
    }
    let (was_yield, is_yield) = (Yield::of(&was.outline), Yield::of(&is.outline));
    let mut tell = |rule: Rule, what: String, effect: &str| {
        pen.told_by_vars(at, name, &[name], rule, (old, new), what, effect);
    };
    if let Some((rule, what, effect)) = difference(&was, &is, &was_yield.kind, &is_yield.kind) {
        tell(rule, what, effect);
    }
    let both_read = !is_constant(&was_yield.kind) && !is_constant(&is_yield.kind);
    if both_read && let Some((rule, what, effect)) = missing(&was_yield.missing, &is_yield.missing)
    {
        tell(rule, what, effect);
    }
}

fn is_constant(kind: &Kind) -> bool {
    matches!(kind, Kind::Constant(_))
}

/// What differs in the value itself.
fn difference(
    old: &Said,
    new: &Said,
    was: &Kind,
    is: &Kind,
) -> Option<(Rule, String, &'static str)> {
    if is_constant(was) && is_constant(is) {
        return Some((rule::FIELD_VALUE, changed(old, new), ""));
    }
    if was != is {
        let what = match (&old.outline, &new.outline) {
            (Outline::Value(old), Outline::Value(new)) => conversion(old, new, was, is),
            _ => None,
        };
        let what = what.unwrap_or_else(|| format!("{}, was {}", is.words(), was.words()));
        return Some((rule::FIELD_TYPE, what, ""));
    }
    match (&old.outline, &new.outline) {
        (Outline::Value(old_value), Outline::Value(new_value)) => {
            let (before, after) = (conversions(old_value), conversions(new_value));
            if before != after {
                return Some((rule::FIELD_VALUE, changed(old, new), ""));
            }
            read_from(old_value, new_value)
        }
        (Outline::Mixed(old_parts), Outline::Mixed(new_parts)) => {
            let only_places = texts(old_parts) == texts(new_parts);
            let rule = if only_places { rule::FIELD_SOURCE } else { rule::FIELD_VALUE };
            Some((rule, changed(old, new), ""))
        }
        _ => Some((rule::FIELD_VALUE, changed(old, new), "")),
    }
}

fn read_from(old: &Chained, new: &Chained) -> Option<(Rule, String, &'static str)> {
    if old.origin == new.origin {
        return None;
    }
    let is_path = |value: &Chained| {
        let mut chars = value.origin.chars();
        chars.all(|c| c.is_alphanumeric() || "$._*[]'- ".contains(c))
    };
    let what = format!("read from {}, was {}", quoted(&new.origin), quoted(&old.origin));
    if is_path(old) && is_path(new) {
        let effect = "name, type and format stay; a record that has only the old one ends as a dead \
                      letter, also of the backlog and of replays";
        let is_safe = new.filters.iter().any(|f| matches!(f.name.as_str(), "default" | "optional"));
        let mild = "name, type and format stay; so does what becomes of records that lack it";
        return Some((rule::FIELD_SOURCE, what, if is_safe { mild } else { effect }));
    }
    Some((rule::FIELD_VALUE, what, ""))
}

/// The literal texts of a template, with a mark for each value and what is done to it.
fn texts(parts: &[Part]) -> Vec<String> {
    parts
        .iter()
        .map(|part| match part {
            Part::Text(text) => text.clone(),
            Part::Value(value) => {
                let filters: Vec<String> = value.filters.iter().map(Call::written).collect();
                filters.join("|")
            }
        })
        .collect()
}

/// "`decimal` filter dropped, was a string of digits"
fn conversion(old: &Chained, new: &Chained, was: &Kind, is: &Kind) -> Option<String> {
    if old.origin != new.origin {
        return None;
    }
    let (before, after) = (conversions(old), conversions(new));
    match (before.as_slice(), after.as_slice()) {
        ([dropped], []) => {
            Some(format!("`{}` filter dropped, was {}", dropped.written(), was.words()))
        }
        ([], [added]) => {
            Some(format!("`{}` filter added: {}, was {}", added.written(), is.words(), was.words()))
        }
        _ => None,
    }
}

fn missing(was: &Missing, is: &Missing) -> Option<(Rule, String, &'static str)> {
    Some(match (was, is) {
        (Missing::Fails, Missing::Fails) | (Missing::LeftOut, Missing::LeftOut) => return None,
        (Missing::Default(was), Missing::Default(is)) if was == is => return None,
        (Missing::Default(was), Missing::Default(is)) => {
            (rule::FIELD_DEFAULT, format!("default {was} → {is}"), "")
        }
        (Missing::Fails, Missing::LeftOut) => (
            rule::FIELD_OPTIONAL,
            "is now optional".to_owned(),
            "records without it are delivered without the field; they were dead letters",
        ),
        (Missing::Default(was), Missing::LeftOut) => (
            rule::FIELD_OPTIONAL,
            format!("is now optional, was {was} by default"),
            "records without it are delivered without the field",
        ),
        (Missing::LeftOut, Missing::Fails) => (
            rule::FIELD_REQUIRED,
            "is no longer optional".to_owned(),
            "records without it were delivered and end as dead letters",
        ),
        (Missing::LeftOut | Missing::Fails, Missing::Default(is)) => (
            rule::FIELD_DEFAULT_ADDED,
            format!("is {is} by default"),
            "records without it are delivered with that",
        ),
        (Missing::Default(was), Missing::Fails) => (
            rule::FIELD_DEFAULT_REMOVED,
            format!("default {was} removed"),
            "records without it were delivered and end as dead letters",
        ),
    })
}
