//! Two versions of a model, change by change: who is broken by it, those that write records (their
//! records must satisfy the schema) or those that read them (what they rely on must still hold).
//!
//! A schema is a set of records. A smaller set breaks writers, a larger one readers. Two rules make
//! evolution possible at all: readers ignore fields that they do not know, so an optional field may be
//! added; and where a comparison cannot be decided (two regular expressions, `if` and `then`), it is
//! taken to break both.

mod keywords;
mod node;
mod objects;

use std::{cmp::Reverse, collections::BTreeMap};

use serde_json::Value;

use crate::map::Schema;

use keywords::Rule;
use node::Node;

/// Schemas nested deeper than this are not compared: a schema may refer to itself.
const MAX_DEPTH: usize = 24;
/// Pairs of schemas that one comparison looks at. References can multiply without end.
const MAX_PAIRS: usize = 10_000;

/// What a change means to those who rely on what changed, the mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Does nothing.
    Cosmetic,
    /// The same records or events in the same shape, otherwise come by or described.
    Operational,
    /// Something new; whoever ignores it sees no difference.
    Additive,
    /// Somebody has to act, fails, or gets events again, no more, or in another shape.
    Breaking,
}

impl Class {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cosmetic => "cosmetic",
            Self::Operational => "operational",
            Self::Additive => "additive",
            Self::Breaking => "breaking",
        }
    }
}

/// One difference between two versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// How much it matters.
    pub class: Class,
    /// Where it stands, a JSON pointer as a fragment: `#/properties/status/enum`.
    pub pointer: String,
    /// Whether the pointer leads into the new version; otherwise into the old one.
    pub is_in_new: bool,
    /// The fields of a record that it is about, `lines[].sku`; the empty one is the record itself.
    pub fields: Vec<String>,
    /// What is different.
    pub what: String,
    /// Why it breaks those that write records, if it does.
    pub producers: Option<String>,
    /// Why it breaks those that read them, if it does.
    pub consumers: Option<String>,
}

/// Every difference, by class, in the order of the documents. Both have to be schemas.
pub fn compare(old: &Value, new: &Value) -> Vec<Change> {
    let mut comparison = Comparison {
        old,
        new,
        changes: Vec::new(),
        known: BTreeMap::new(),
        stack: Vec::new(),
        pairs: 0,
    };
    let (before, after) = (Node::root(old), Node::root(new));
    comparison.nodes(&before, &after, "");
    comparison.changes.sort_by_key(|change| Reverse(change.class));
    comparison.changes
}

struct Comparison<'v> {
    old: &'v Value,
    new: &'v Value,
    changes: Vec<Change>,
    /// Where in `changes` a place and its words stand: what many fields refer to is told once.
    known: BTreeMap<(String, String), usize>,
    /// The pairs that are being compared.
    stack: Vec<(String, String)>,
    pairs: usize,
}

/// Where something stands.
#[derive(Clone)]
struct Place {
    pointer: String,
    is_in_new: bool,
}

impl Place {
    fn new(pointer: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), is_in_new: true }
    }

    fn old(pointer: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), is_in_new: false }
    }
}

/// Whom a change breaks.
#[derive(Clone, Default)]
struct Breaks {
    producers: Option<String>,
    consumers: Option<String>,
}

impl Breaks {
    fn producers(why: impl Into<String>) -> Self {
        Self { producers: Some(why.into()), consumers: None }
    }

    fn consumers(why: impl Into<String>) -> Self {
        Self { producers: None, consumers: Some(why.into()) }
    }

    fn both(why: &str) -> Self {
        Self { producers: Some(why.to_owned()), consumers: Some(why.to_owned()) }
    }
}

impl<'v> Comparison<'v> {
    fn breaking(&mut self, place: Place, field: &str, what: impl Into<String>, breaks: Breaks) {
        self.tell(Class::Breaking, place, field, what.into(), breaks);
    }

    fn harmless(&mut self, class: Class, place: Place, field: &str, what: impl Into<String>) {
        self.tell(class, place, field, what.into(), Breaks::default());
    }

    fn tell(&mut self, class: Class, place: Place, field: &str, what: String, breaks: Breaks) {
        let key = (format!("{}{}", place.is_in_new, place.pointer), what.clone());
        if let Some(known) = self.known.get(&key).and_then(|at| self.changes.get_mut(*at)) {
            if !known.fields.iter().any(|other| other == field) {
                known.fields.push(field.to_owned());
            }
            return;
        }
        self.known.insert(key, self.changes.len());
        self.changes.push(Change {
            class,
            pointer: format!("#{}", place.pointer),
            is_in_new: place.is_in_new,
            fields: vec![field.to_owned()],
            what,
            producers: breaks.producers,
            consumers: breaks.consumers,
        });
    }

    fn nodes(&mut self, old: &Node<'v>, new: &Node<'v>, field: &str) {
        let pair = (old.identity(), new.identity());
        if self.stack.len() >= MAX_DEPTH || self.stack.contains(&pair) {
            return;
        }
        self.pairs += 1;
        if self.pairs >= MAX_PAIRS {
            if self.pairs == MAX_PAIRS {
                let why = "what was not compared may break anything";
                self.breaking(Place::new(""), "", "too large to be compared", Breaks::both(why));
            }
            return;
        }
        self.stack.push(pair);
        self.compare_nodes(old, new, field);
        self.stack.pop();
    }

    fn compare_nodes(&mut self, old: &Node<'v>, new: &Node<'v>, field: &str) {
        self.words(old, new, field);
        match (old.is_never(), new.is_never()) {
            (false, false) => {}
            (true, true) => return,
            (false, true) => {
                let breaks = Breaks::both("nothing may stand here any more");
                return self.breaking(
                    Place::new(new.pointer()),
                    field,
                    "refused altogether",
                    breaks,
                );
            }
            (true, false) => {
                let what = "allowed now; it was refused";
                return self.harmless(Class::Additive, Place::new(new.pointer()), field, what);
            }
        }
        if self.listed(old, new, field) {
            return;
        }
        self.types(old, new, field);
        for rule in keywords::RULES {
            self.rule(rule, old, new, field);
        }
        for keyword in keywords::OPAQUE.iter().chain(keywords::TANGLED) {
            self.opaque(keyword, old, new, field);
        }
        self.alternatives(old, new, field);
        let both_take =
            |name: &str| [old, new].iter().all(|node| node.domain().types.contains(name));
        if both_take("object") {
            self.objects(old, new, field);
        }
        if both_take("array") {
            self.items(old, new, field);
        }
    }

    /// `enum` and `const`. Where one side lists its values, they are tried on the other one: nothing
    /// else is left to be compared then. Says whether one does.
    fn listed(&mut self, old: &Node<'v>, new: &Node<'v>, field: &str) -> bool {
        const KEYWORDS: &[&str] = &["enum", "const", "anyOf", "oneOf"];
        let (before, after) = (old.domain().values, new.domain().values);
        if before.is_none() && after.is_none() {
            return false;
        }
        let place = match new.place_of(KEYWORDS) {
            Some(pointer) => Place::new(pointer),
            None => Place::old(old.place_of(KEYWORDS).unwrap_or_default()),
        };
        let (takes_old, takes_new) = (old.validator(), new.validator());
        let (Some(takes_old), Some(takes_new)) = (takes_old, takes_new) else {
            let breaks = Breaks::both("which values it takes cannot be told");
            self.breaking(place, field, "lists values", breaks);
            return true;
        };
        // Whatever else a schema says may refuse a value that it lists.
        let only = |values: &Option<Vec<Value>>, of: &Schema, not: &Schema| {
            let values = values.iter().flatten();
            let only = values.filter(|v| of.check(v).is_empty() && !not.check(v).is_empty());
            only.cloned().collect::<Vec<_>>()
        };
        let gone = only(&before, &takes_old, &takes_new);
        let come = only(&after, &takes_new, &takes_old);
        if !gone.is_empty() {
            let what = format!("no longer allowed: {}", node::list(&gone));
            let breaks = Breaks::producers("a record with it is refused");
            self.breaking(place.clone(), field, what, breaks);
        }
        if !come.is_empty() {
            let what = format!("allowed now: {}", node::list(&come));
            let breaks = Breaks::consumers("they may meet a value that they do not know");
            self.breaking(place.clone(), field, what, breaks);
        }
        match (before, after) {
            (None, Some(after)) => {
                let what = format!("only these are allowed now: {}", node::list(&after));
                let breaks = Breaks::producers("a record with anything else is refused");
                self.breaking(place, field, what, breaks);
            }
            (Some(before), None) => {
                let what = format!("no longer limited to {}", node::list(&before));
                let breaks = Breaks::consumers("they may meet a value that they do not know");
                self.breaking(place, field, what, breaks);
            }
            _ => {}
        }
        true
    }

    fn types(&mut self, old: &Node<'v>, new: &Node<'v>, field: &str) {
        let (before, after) = (old.domain(), new.domain());
        if before.types == after.types {
            return;
        }
        let at = |node: &Node<'_>| node.place_of(&["type", "anyOf", "oneOf"]);
        let place = match at(new) {
            Some(pointer) => Place::new(pointer),
            None => Place::old(at(old).unwrap_or_default()),
        };
        let is_lost = before.types.iter().any(|name| !after.types.contains(name));
        let is_won = after.types.iter().any(|name| !before.types.contains(name));
        let what = format!("type: {} → {}", before.type_words(), after.type_words());
        let lost = "a record with the old type is refused".to_owned();
        let won = "they may meet a type that they do not expect".to_owned();
        let breaks =
            Breaks { producers: is_lost.then_some(lost), consumers: is_won.then_some(won) };
        self.breaking(place, field, what, breaks);
    }

    fn rule(&mut self, rule: &Rule, old: &Node<'v>, new: &Node<'v>, field: &str) {
        let (before, after) = (old.domain(), new.domain());
        // A word about numbers says nothing where only texts may stand.
        let applies = |types: &[&str]| rule.types.iter().any(|wanted| types.contains(wanted));
        let shared: Vec<&str> =
            before.types.iter().copied().filter(|name| after.types.contains(name)).collect();
        if !applies(&shared) {
            return;
        }
        let place = match new.place_of(rule.keywords) {
            Some(pointer) => Place::new(pointer),
            None => Place::old(old.place_of(rule.keywords).unwrap_or_default()),
        };
        let Some((what, breaks)) = rule.compare(old, new) else { return };
        self.breaking(place, field, what, breaks);
    }

    /// Keywords whose effect is told only by being the same or not.
    fn opaque(&mut self, keyword: &str, old: &Node<'v>, new: &Node<'v>, field: &str) {
        let (before, after) = (old.expanded(self.old, keyword), new.expanded(self.new, keyword));
        if before == after {
            return;
        }
        let place = match new.place_of(&[keyword]) {
            Some(pointer) => Place::new(pointer),
            None => Place::old(old.place_of(&[keyword]).unwrap_or_default()),
        };
        let verb = match (before.is_empty(), after.is_empty()) {
            (true, _) => "added",
            (_, true) => "removed",
            _ => "changed",
        };
        // All of them have to hold: with one more fewer records do.
        let breaks = if keywords::TANGLED.contains(&keyword) {
            Breaks::both("whether it takes more or less cannot be told")
        } else if before.iter().all(|value| after.contains(value)) {
            Breaks::producers("a record that it does not take is refused")
        } else if after.iter().all(|value| before.contains(value)) {
            Breaks::consumers("what it ruled out may come")
        } else {
            Breaks::both("whether it takes more or less cannot be told")
        };
        let what = format!("`{keyword}` {verb}");
        self.breaking(place, field, what, breaks);
    }

    /// `anyOf`, where it is more than a list of types or values.
    fn alternatives(&mut self, old: &Node<'v>, new: &Node<'v>, field: &str) {
        let (before, after) = (old.alternatives("anyOf"), new.alternatives("anyOf"));
        let ([before], [after]) = (before.as_slice(), after.as_slice()) else {
            return self.opaque("anyOf", old, new, field);
        };
        let text = |root: &Value, node: &Node<'_>| node.expanded_whole(root);
        let mut left: Vec<&Node<'v>> = before.iter().collect();
        let mut right: Vec<&Node<'v>> = Vec::new();
        for node in after {
            let same = left.iter().position(|old| text(self.old, old) == text(self.new, node));
            match same {
                Some(at) => drop(left.remove(at)),
                None => right.push(node),
            }
        }
        if left.len() == right.len() {
            for (old, new) in left.into_iter().zip(right) {
                self.nodes(old, new, field);
            }
            return;
        }
        let place = Place::new(new.place_of(&["anyOf"]).unwrap_or_default());
        let what = format!("`anyOf`: {} alternatives, were {}", after.len(), before.len());
        let breaks = match (left.is_empty(), right.is_empty()) {
            (true, _) => Breaks::consumers("they may meet a kind that they do not know"),
            (_, true) => Breaks::producers("a record of a kind that is gone is refused"),
            _ => Breaks::both("kinds are gone, and others have come"),
        };
        self.breaking(place, field, what, breaks);
    }

    fn items(&mut self, old: &Node<'v>, new: &Node<'v>, field: &str) {
        let inside = format!("{field}[]");
        match (old.child("items"), new.child("items")) {
            (None, None) => {}
            (Some(before), Some(after)) => self.nodes(&before, &after, &inside),
            (None, Some(after)) => {
                let breaks = Breaks::producers("items of another kind are refused");
                let what = "says what its items are";
                self.breaking(Place::new(after.pointer()), field, what, breaks);
            }
            (Some(before), None) => {
                let breaks = Breaks::consumers("items may be anything");
                let what = "no longer says what its items are";
                self.breaking(Place::old(before.pointer()), field, what, breaks);
            }
        }
    }

    /// Annotations: what people read, and what fields are treated as.
    fn words(&mut self, old: &Node<'v>, new: &Node<'v>, field: &str) {
        for keyword in keywords::WORDS {
            let (before, after) = (old.word(keyword), new.word(keyword));
            if before == after {
                continue;
            }
            let place = match new.place_of(&[keyword]) {
                Some(pointer) => Place::new(pointer),
                None => Place::old(old.place_of(&[keyword]).unwrap_or_default()),
            };
            let is_set = |value: Option<&Value>| value == Some(&Value::Bool(true));
            match (*keyword, before, after) {
                ("x-unit" | "x-precision", Some(before), Some(after)) => {
                    let what = format!("`{keyword}`: {before} → {after}");
                    let why = "the same value means something else";
                    self.breaking(place, field, what, Breaks::both(why));
                }
                ("x-pii", _, after) => {
                    let what = if is_set(after) {
                        "personal from now on: masked in logs and views"
                    } else {
                        "no longer personal: logs and views show it"
                    };
                    self.harmless(Class::Operational, place, field, what);
                }
                ("deprecated", _, after) => {
                    let what = if is_set(after) {
                        "deprecated: it will go with the next version"
                    } else {
                        "no longer deprecated"
                    };
                    self.harmless(Class::Operational, place, field, what);
                }
                _ => self.harmless(Class::Cosmetic, place, field, format!("`{keyword}` reworded")),
            }
        }
    }
}

#[cfg(test)]
mod tests;
