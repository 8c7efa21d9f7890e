//! What writes changes down: each with its subject, its sentence and its lines on both sides.

use super::{
    Change, Subject,
    places::Places,
    rule::Rule,
    said::{Names, Said},
    say::quoted,
};
use crate::map::Expr;

/// One of two sides.
pub(super) struct Sheet<'a> {
    pub places: &'a Places,
    pub names: Names<'a>,
}

/// Writes down what differs between two sides of one connector.
pub(super) struct Pen<'a> {
    pub old: Sheet<'a>,
    pub new: Sheet<'a>,
    changes: Vec<Change>,
}

/// What is being compared, and the path under which it is written on either side.
#[derive(Clone, Debug)]
pub(super) struct At {
    pub subject: Subject,
    pub old: String,
    pub new: String,
}

impl At {
    /// A thing whose table has the same name on both sides.
    pub fn of(subject: Subject, table: &str) -> Self {
        let path = format!("{table}.{}", subject.name());
        Self { old: path.clone(), new: path, subject }
    }

    /// A thing whose table was called `old`.
    pub fn renamed(subject: Subject, table: &str, old: &str) -> Self {
        let new = format!("{table}.{}", subject.name());
        Self { old: format!("{table}.{old}"), new, subject }
    }

    /// The file as a whole.
    pub fn file() -> Self {
        Self { subject: Subject::Connector, old: String::new(), new: String::new() }
    }
}

/// Rules for something that may be there or not.
#[derive(Clone, Copy)]
pub(super) struct Presence {
    pub added: Rule,
    pub removed: Rule,
    pub changed: Rule,
}

impl Presence {
    /// One rule, whichever it is.
    pub fn all(rule: Rule) -> Self {
        Self { added: rule, removed: rule, changed: rule }
    }
}

/// Named expressions.
type Pairs<'p> = &'p [(String, Expr)];

impl<'a> Pen<'a> {
    pub fn new(old: Sheet<'a>, new: Sheet<'a>) -> Self {
        Self { old, new, changes: Vec::new() }
    }

    pub fn into_changes(self) -> Vec<Change> {
        self.changes
    }

    /// Whether nothing but cosmetics was written down.
    pub fn is_blank(&self) -> bool {
        self.changes.is_empty()
    }

    /// Whether some change stands at the line where a path is written on the new side.
    pub fn is_told_at(&self, path: &str) -> bool {
        let line = self.new.places.find(&[path.trim_start_matches('/').to_owned()]);
        line.is_some_and(|line| {
            self.changes
                .iter()
                .filter_map(|change| change.new.as_ref())
                .any(|told| told.file() == line.file() && told.line() == line.line())
        })
    }

    /// Writes a change down. `key` is what it is called and where it is written.
    pub fn note(
        &mut self,
        at: &At,
        key: &str,
        rule: Rule,
        what: impl Into<String>,
        effect: impl Into<String>,
    ) {
        self.note_at(at, key, &[key], rule, what, effect);
    }

    /// As [`Pen::note`], for a change that is written at the first of `keys` that is there. One that
    /// begins with `/` counts from the top of the file.
    pub fn note_at(
        &mut self,
        at: &At,
        key: &str,
        keys: &[&str],
        rule: Rule,
        what: impl Into<String>,
        effect: impl Into<String>,
    ) {
        let find = |places: &Places, table: &str| {
            let paths: Vec<String> =
                keys.iter().flat_map(|key| candidates(&at.subject, table, key)).collect();
            places.find(&paths)
        };
        self.changes.push(Change {
            rule,
            subjects: vec![at.subject.clone()],
            key: key.to_owned(),
            what: what.into(),
            effect: effect.into(),
            old: find(self.old.places, &at.old),
            new: find(self.new.places, &at.new),
        });
    }

    /// Writes a change of the text down that begins at a line, counted from 0.
    pub fn note_line(&mut self, line: usize, rule: Rule, what: impl Into<String>) {
        self.changes.push(Change {
            rule,
            subjects: vec![Subject::Connector],
            key: String::new(),
            what: what.into(),
            effect: String::new(),
            old: self.old.places.line(line),
            new: self.new.places.line(line),
        });
    }

    /// Writes down that a value changed: `12 → 5`.
    pub fn value<T: PartialEq>(
        &mut self,
        at: &At,
        key: &str,
        rule: Rule,
        (old, new): (&T, &T),
        show: impl Fn(&T) -> String,
        effect: impl FnOnce() -> String,
    ) {
        if old != new {
            self.note(at, key, rule, format!("{} → {}", show(old), show(new)), effect());
        }
    }

    /// What a text of the old side says.
    pub fn old_said(&self, source: &str) -> Said {
        self.old.names.said(source)
    }

    /// What a text of the new side says.
    pub fn new_said(&self, source: &str) -> Said {
        self.new.names.said(source)
    }

    /// Whether two texts say the same.
    pub fn same(&self, old: &str, new: &str) -> bool {
        self.old_said(old).same(&self.new_said(new))
    }

    /// Writes down that an expression says something else.
    pub fn expr(
        &mut self,
        at: &At,
        key: &str,
        rule: Rule,
        (old, new): (&Expr, &Expr),
        effect: impl Into<String>,
    ) {
        let sources = (old.source(), new.source());
        let (was, is) = (self.old_said(sources.0), self.new_said(sources.1));
        if !was.same(&is) {
            self.told_by_vars(at, key, &[key], rule, sources, changed(&was, &is), effect);
        }
    }

    /// Writes a change of an expression down, at the variable's line where only its value changed.
    #[allow(clippy::too_many_arguments)] // A change has as many parts.
    pub fn told_by_vars(
        &mut self,
        at: &At,
        key: &str,
        keys: &[&str],
        rule: Rule,
        (old, new): (&str, &str),
        what: String,
        effect: impl Into<String>,
    ) {
        let vars = if old == new { self.vars_that_differ(old, new) } else { Vec::new() };
        let lines: Vec<String> = vars.iter().map(|name| format!("/vars.{name}")).collect();
        let lines: Vec<&str> =
            lines.iter().map(String::as_str).chain(keys.iter().copied()).collect();
        let through: Vec<String> = vars.iter().map(|name| format!("`vars.{name}`")).collect();
        let what = match through.as_slice() {
            [] => what,
            through => format!("{what} (through {})", through.join(", ")),
        };
        self.note_at(at, key, &lines, rule, what, effect);
    }

    fn vars_that_differ(&self, old: &str, new: &str) -> Vec<String> {
        let (was, is) = (self.old_said(old), self.new_said(new));
        let value = |names: &Names<'_>, name: &str| names.vars.get(name).cloned();
        let differs = |name: &String| {
            was.vars.contains(name) && value(&self.old.names, name) != value(&self.new.names, name)
        };
        is.vars.into_iter().filter(differs).collect()
    }

    /// How much was written down so far, for [`Pen::add_effect`].
    pub fn mark(&self) -> usize {
        self.changes.len()
    }

    /// Adds to the effect of everything that was written down since a mark.
    pub fn add_effect(&mut self, mark: usize, effect: &str) {
        self.add_effect_where(mark, effect, |_| true);
    }

    /// As [`Pen::add_effect`], to changes of one kind.
    pub fn add_effect_to(&mut self, mark: usize, rule: Rule, effect: &str) {
        self.add_effect_where(mark, effect, |other| other == rule);
    }

    fn add_effect_where(&mut self, mark: usize, effect: &str, is_meant: impl Fn(Rule) -> bool) {
        for change in self.changes.iter_mut().skip(mark).filter(|change| is_meant(change.rule)) {
            let comma = if change.effect.is_empty() { "" } else { "; " };
            change.effect = format!("{}{comma}{effect}", change.effect);
        }
    }

    /// Compares an expression that may not be there.
    pub fn maybe_expr(
        &mut self,
        at: &At,
        key: &str,
        rules: Presence,
        (old, new): (Option<&Expr>, Option<&Expr>),
        effect: impl Fn(Rule) -> String,
    ) {
        match (old, new) {
            (None, None) => {}
            (Some(old), Some(new)) => {
                self.expr(at, key, rules.changed, (old, new), effect(rules.changed));
            }
            (None, Some(new)) => {
                let what = format!("added: {}", quoted(&self.new_said(new.source()).text));
                self.note(at, key, rules.added, what, effect(rules.added));
            }
            (Some(old), None) => {
                let what = format!("removed: was {}", quoted(&self.old_said(old.source()).text));
                self.note(at, key, rules.removed, what, effect(rules.removed));
            }
        }
    }

    /// Compares named expressions, whatever their order. A name that counts whichever its case is
    /// compared by `same_name`.
    pub fn pairs(
        &mut self,
        at: &At,
        key: &str,
        rules: Presence,
        (old, new): (Pairs<'_>, Pairs<'_>),
        same_name: fn(&str, &str) -> bool,
        effect: &str,
    ) {
        let find = |pairs: &'_ [(String, Expr)], name: &str| {
            pairs.iter().position(|(other, _)| same_name(other, name))
        };
        for (name, was) in old {
            let is = find(new, name).map(|at| &new[at].1);
            self.maybe_expr(at, &format!("{key}.{name}"), rules, (Some(was), is), |_| {
                effect.into()
            });
        }
        for (name, is) in new.iter().filter(|(name, _)| find(old, name).is_none()) {
            self.maybe_expr(at, &format!("{key}.{name}"), rules, (None, Some(is)), |_| {
                effect.into()
            });
        }
    }
}

/// "changed from `a` to `b`"
pub(super) fn changed(old: &Said, new: &Said) -> String {
    format!("changed from {} to {}", quoted(&old.text), quoted(&new.text))
}

/// The paths at which a key may be written: its own table's, then the one that is shared.
fn candidates(subject: &Subject, table: &str, key: &str) -> Vec<String> {
    if let Some(path) = key.strip_prefix('/') {
        return vec![path.to_owned()];
    }
    let dot = if table.is_empty() || key.is_empty() { "" } else { "." };
    let mut paths = vec![format!("{table}{dot}{key}")];
    match subject {
        Subject::Stream(_) => {
            if let Some(rest) = key.strip_prefix("poll.") {
                paths.push(format!("source.{rest}"));
            } else if key.starts_with("webhook.") {
                paths.push(format!("source.{key}"));
            } else if key.starts_with("schedule") || key == "to" {
                paths.push(key.to_owned());
            }
        }
        Subject::Destination(_) if key.starts_with("retry") => paths.push(key.to_owned()),
        _ => {}
    }
    paths
}
