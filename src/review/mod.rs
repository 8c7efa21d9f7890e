//! What a change of connectors does: two sides are compared plan by plan, and each difference is a
//! sentence about behaviour, with its class, and the lines that say it on both sides. Then the gate:
//! whether version and changelog say as much.
//!
//! Promises:
//!
//! - A side compared with itself gives nothing. Comments, blanks, order and form give a cosmetic
//!   change and no other.
//! - Nothing is passed over: every field of every plan type is taken apart without `..`, so that a
//!   new one does not compile until somebody says here what a change of it does. What compiles to
//!   another content and no sentence covers is told as such ([`WORDING`](rule)).
//! - No credential is shown, not even one that somebody wrote into the file.
//!
//! Pure: it reads what was compiled, no files and no clock. What it does not know: records. `tenon
//! diff --fixtures` runs them.

mod auth;
mod batch;
mod connector;
mod cursor;
mod destination;
mod detail;
mod each;
mod fields;
mod gate;
mod job;
mod library;
mod pair;
mod pen;
mod places;
mod poll;
mod reconcile;
mod rollout;
mod rule;
mod said;
mod say;
mod schema;
mod secrets;
mod stream;
mod vars;
mod verify;
mod webhook;
mod yields;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use serde_json::Value;

pub use crate::model::Class;
pub use gate::gate;
pub use places::Spot;
pub use rule::{RULES, Rule, RuleInfo, Whom};

use crate::plan::{ConnectorPlan, Written};

/// One connector file of a side.
pub struct Filed {
    /// Its path within the side: the same on both where it was not moved.
    pub at: PathBuf,
    /// What it says.
    pub written: Written,
}

impl Filed {
    fn plan(&self) -> Option<&Arc<ConnectorPlan>> {
        self.written.plan.as_ref()
    }

    fn text(&self) -> &str {
        self.written.texts.first().map_or("", |file| file.text.as_str())
    }
}

/// All connectors of one revision.
#[derive(Default)]
pub struct Side {
    /// Those that compile, and those that do not.
    pub files: Vec<Filed>,
    /// The documents of the schemas that their streams name.
    pub schemas: BTreeMap<String, Value>,
}

/// What a change is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The connector as a whole.
    Connector,
    /// `[vars]`.
    Var(String),
    /// A stream.
    Stream(String),
    /// `[map.NAME]`.
    Map(String),
    /// `[lookup.NAME]`.
    Lookup(String),
    /// A destination.
    Destination(String),
    /// `[auth.NAME]`.
    Auth(String),
}

impl Subject {
    /// The word before the name.
    pub fn noun(&self) -> &'static str {
        match self {
            Self::Connector => "connector",
            Self::Var(_) => "var",
            Self::Stream(_) => "stream",
            Self::Map(_) => "map",
            Self::Lookup(_) => "lookup",
            Self::Destination(_) => "destination",
            Self::Auth(_) => "auth",
        }
    }

    /// The name; empty for the connector itself.
    pub fn name(&self) -> &str {
        match self {
            Self::Connector => "",
            Self::Var(name)
            | Self::Stream(name)
            | Self::Map(name)
            | Self::Lookup(name)
            | Self::Destination(name)
            | Self::Auth(name) => name,
        }
    }
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its kind, and with it its class.
    pub rule: Rule,
    /// What it is about: several streams where they share the line that changed.
    pub subjects: Vec<Subject>,
    /// The setting, as it is written below the subject: `poll.cursor.start`. Empty: all of it.
    pub key: String,
    /// What changed: `12 → 5`, `changed from ... to ...`.
    pub what: String,
    /// What that does. May be empty where the class says it all.
    pub effect: String,
    /// Where it stands on the old side, or where it would.
    pub old: Option<Spot>,
    /// Where it stands on the new side, or where it would.
    pub new: Option<Spot>,
}

impl Change {
    /// Its class.
    pub fn class(&self) -> Class {
        self.rule.class()
    }

    /// What it is about in words: `streams orders, refunds`. Empty for the connector.
    pub fn subject(&self) -> String {
        let names: Vec<&str> =
            self.subjects.iter().map(Subject::name).filter(|name| !name.is_empty()).collect();
        match (self.subjects.first(), names.len()) {
            (_, 0) | (None, _) => String::new(),
            (Some(subject), 1) => format!("{} {}", subject.noun(), names[0]),
            (Some(subject), _) => format!("{}s {}", subject.noun(), names.join(", ")),
        }
    }

    /// Subject, setting and difference in a line: "stream orders: key changed from `$.id` to `$.no`".
    pub fn headline(&self) -> String {
        let subject = self.subject();
        let colon = if subject.is_empty() { "" } else { ": " };
        let blank = if self.key.is_empty() { "" } else { " " };
        format!("{subject}{colon}{}{blank}{}", self.key, self.what)
    }
}

/// What became of one connector.
#[derive(Debug)]
pub struct Reviewed {
    /// Its name; the old one where it is gone.
    pub name: Arc<str>,
    /// Its old name, where it was renamed.
    pub was: Option<Arc<str>>,
    /// Where it lies now; where it lay, if it is gone.
    pub file: PathBuf,
    /// Its version before and after; `None` where there is no file or it names none.
    pub versions: (Option<String>, Option<String>),
    /// What differs, the weightiest first.
    pub changes: Vec<Change>,
    /// Instances that `use` this file and get the same changes.
    pub reaches: Vec<Arc<str>>,
    /// The index of its file on the old and on the new side.
    pub files: (Option<usize>, Option<usize>),
}

impl Reviewed {
    /// The weightiest class; `None` where nothing changed.
    pub fn class(&self) -> Option<Class> {
        self.changes.iter().map(Change::class).max()
    }
}

/// Compares two sides. Connectors that differ, by name; those that do not compile on either side
/// are left out.
pub fn review(old: &Side, new: &Side) -> Vec<Reviewed> {
    let mut found = Vec::new();
    for (was, is) in pair::connectors(old, new) {
        found.push(match (was, is) {
            (Some(was), Some(is)) => compared(old, new, was, is),
            (Some(was), None) => one_sided(old, was, true),
            (None, Some(is)) => one_sided(new, is, false),
            (None, None) => continue,
        });
    }
    let has_changes = |reviewed: &Reviewed| !reviewed.changes.is_empty();
    found.retain(has_changes);
    fold_instances(old, new, &mut found);
    found.retain(has_changes);
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn compared(old: &Side, new: &Side, was: usize, is: usize) -> Reviewed {
    let (old_file, new_file) = (&old.files[was], &new.files[is]);
    let mut changes = if is_same(old_file, new_file) {
        Vec::new()
    } else {
        connector::compare((old, old_file), (new, new_file))
    };
    merge(&mut changes);
    changes.sort_by_key(|change| std::cmp::Reverse(change.class()));
    let name = name_of(new_file);
    let old_name = name_of(old_file);
    Reviewed {
        was: (old_name != name).then_some(old_name),
        name,
        file: path_of(new_file),
        versions: (gate::version_of(&old_file.written), gate::version_of(&new_file.written)),
        changes,
        reaches: Vec::new(),
        files: (Some(was), Some(is)),
    }
}

/// Whether nothing can have changed: most connectors of most pull requests.
fn is_same(old: &Filed, new: &Filed) -> bool {
    let content = |file: &Filed| file.plan().map(|plan| plan.content);
    old.at == new.at && old.text() == new.text() && content(old) == content(new)
}

fn one_sided(side: &Side, index: usize, is_gone: bool) -> Reviewed {
    let file = &side.files[index];
    let version = gate::version_of(&file.written);
    Reviewed {
        name: name_of(file),
        was: None,
        file: path_of(file),
        versions: if is_gone { (version, None) } else { (None, version) },
        changes: vec![connector::appearance(file, is_gone)],
        reaches: Vec::new(),
        files: if is_gone { (Some(index), None) } else { (None, Some(index)) },
    }
}

fn name_of(file: &Filed) -> Arc<str> {
    file.plan().map_or_else(|| Arc::from(""), |plan| Arc::clone(&plan.name))
}

fn path_of(file: &Filed) -> PathBuf {
    file.written.compiled.path.clone()
}

/// One line that several streams share is one change of several subjects.
fn merge(changes: &mut Vec<Change>) {
    let mut merged: Vec<Change> = Vec::with_capacity(changes.len());
    for change in changes.drain(..) {
        let same = merged.iter_mut().find(|other| {
            other.rule == change.rule
                && other.key == change.key
                && other.what == change.what
                && other.effect == change.effect
                && other.old == change.old
                && other.new == change.new
                && other.subjects.first().map(Subject::noun)
                    == change.subjects.first().map(Subject::noun)
        });
        match same {
            Some(other) => other.subjects.extend(change.subjects),
            None => merged.push(change),
        }
    }
    *changes = merged;
}

/// What an instance gets from its base is told there, once.
fn fold_instances(old: &Side, new: &Side, found: &mut [Reviewed]) {
    let base_of = |side: &Side, index: Option<usize>| {
        let written = &side.files.get(index?)?.written;
        written.base.as_ref()?;
        written.texts.get(1).map(|file| file.path.clone())
    };
    let by_file: BTreeMap<&PathBuf, usize> =
        found.iter().enumerate().map(|(at, one)| (&one.file, at)).collect();
    let bases: Vec<Option<usize>> = found
        .iter()
        .map(|instance| {
            let used = base_of(new, instance.files.1).or_else(|| base_of(old, instance.files.0))?;
            by_file.get(&used).copied()
        })
        .collect();
    for (index, base) in bases.into_iter().enumerate() {
        let Some(base) = base.filter(|base| *base != index) else { continue };
        let told = |change: &Change| {
            found[base].changes.iter().any(|other| {
                other.rule == change.rule
                    && other.key == change.key
                    && other.subjects == change.subjects
                    && (&other.old, &other.new) == (&change.old, &change.new)
            })
        };
        let kept: Vec<Change> =
            found[index].changes.iter().filter(|change| !told(change)).cloned().collect();
        if kept.len() < found[index].changes.len() {
            let name = Arc::clone(&found[index].name);
            found[base].reaches.push(name);
            found[index].changes = kept;
        }
    }
}

#[cfg(test)]
mod tests;
