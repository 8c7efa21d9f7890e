//! The version gate: whether `version` and `[[change]]` say as much as what changed.
//!
//! A connector is versioned like a library (semver.org): breaking changes need a new major version,
//! additive ones a new minor one, operational ones a new patch; before 1.0.0 everything moves one
//! place to the right. Cosmetic changes need none. The new version needs an entry in the changelog of
//! a kind that suits.

use std::cmp::Ordering;

use super::{Class, Reviewed, Side};
use crate::{
    definition::{
        change::{ChangeDef, ChangeKind},
        table::{Given, Loc},
        version::Precedence,
    },
    diagnostic::{Diagnostic, Span, codes},
    plan::Written,
};

/// A version as it is compared; what follows `+` does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    numbers: [u64; 3],
    pre: String,
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let text = text.split('+').next().unwrap_or_default();
        let (core, pre) = text.split_once('-').unwrap_or((text, ""));
        let mut numbers = core.split('.').map(|part| part.parse::<u64>().ok());
        let mut next = || numbers.next().flatten();
        Some(Self { numbers: [next()?, next()?, next()?], pre: pre.to_owned() })
    }

    /// Precedence, as semver.org orders it.
    fn compare(&self, other: &Self) -> Ordering {
        Precedence::of(&self.written()).cmp(&Precedence::of(&other.written()))
    }

    /// As it was written, without what follows `+`.
    fn written(&self) -> String {
        let dash = if self.pre.is_empty() { "" } else { "-" };
        format!("{}{dash}{}", self.text(), self.pre)
    }

    /// The least version that says a change of that class.
    fn after(&self, class: Class) -> Self {
        let [major, minor, patch] = self.numbers;
        let numbers = match (class, major) {
            (Class::Cosmetic, _) => return self.clone(),
            (Class::Breaking, 1..) => [major + 1, 0, 0],
            (Class::Breaking, 0) | (Class::Additive, 1..) => [major, minor + 1, 0],
            (Class::Additive, 0) | (Class::Operational, _) => [major, minor, patch + 1],
        };
        Self { numbers, pre: String::new() }
    }

    /// Whether this version says a change of that class after `old`. A pre-release of a version
    /// says what that version does.
    fn says(&self, class: Class, old: &Self) -> bool {
        if class == Class::Cosmetic {
            return self.compare(old) != Ordering::Less;
        }
        // On the way to a release nothing is promised yet.
        let on_the_way = !old.pre.is_empty() && self.compare(old) == Ordering::Greater;
        on_the_way || self.numbers >= old.after(class).numbers
    }

    fn text(&self) -> String {
        let [major, minor, patch] = self.numbers;
        format!("{major}.{minor}.{patch}")
    }
}

/// The version that a connector has; `None` where neither it nor what it uses names one.
pub(super) fn version_of(written: &Written) -> Option<String> {
    let version = written.own.version.or(&written.body().version);
    version.value().map(|version| version.0.clone())
}

/// What is wrong with the version and the changelog of a connector that changed. `None` where there is
/// nothing to hold on to: it is new or gone, it had no version, or it is an instance without one of its
/// own, whose base is gated.
pub fn gate(old: &Side, new: &Side, reviewed: &Reviewed) -> Option<Vec<Diagnostic>> {
    let (was, is) = (old.files.get(reviewed.files.0?)?, new.files.get(reviewed.files.1?)?);
    let class = reviewed.class()?;
    let before = Version::parse(&was.written.own.version.value()?.0)?;
    let gate = Gate { old: before, new: &is.written, reviewed, class };
    Some(gate.check().into_iter().collect())
}

struct Gate<'a> {
    old: Version,
    new: &'a Written,
    reviewed: &'a Reviewed,
    class: Class,
}

impl Gate<'_> {
    fn check(&self) -> Option<Diagnostic> {
        let old = &self.old;
        let Some(given) = self.new.own.version.get() else {
            return Some(self.version_gone(old));
        };
        let new = Version::parse(&given.value.0)?;
        let span = self.new.span(given.at)?;
        if new.compare(old) == Ordering::Less {
            return Some(self.backwards(old, &new, span));
        }
        if !new.says(self.class, old) {
            return Some(self.too_small(old, &new, span));
        }
        if self.class == Class::Cosmetic {
            return None;
        }
        let entries: Vec<&ChangeDef> = self
            .new
            .own
            .change
            .value()
            .into_iter()
            .flatten()
            .map(|entry| &entry.value)
            .filter(|entry| entry.version.value().is_some_and(|v| v.0 == given.value.0))
            .collect();
        if entries.is_empty() {
            return Some(self.no_entry(&given.value.0, span));
        }
        let suits = |entry: &&ChangeDef| entry.kind.value().is_none_or(|kind| self.suits(*kind));
        if entries.iter().any(suits) {
            return None;
        }
        self.wrong_kind(entries[0])
    }

    /// Whether an entry of that kind tells of a change of this class.
    fn suits(&self, kind: ChangeKind) -> bool {
        self.kinds().contains(&kind)
    }

    fn kinds(&self) -> &'static [ChangeKind] {
        match self.class {
            Class::Breaking => &[ChangeKind::Changed, ChangeKind::Removed, ChangeKind::Security],
            Class::Additive => &[ChangeKind::Added, ChangeKind::Changed],
            Class::Operational | Class::Cosmetic => &[
                ChangeKind::Changed,
                ChangeKind::Fixed,
                ChangeKind::Security,
                ChangeKind::Deprecated,
                ChangeKind::Added,
                ChangeKind::Removed,
            ],
        }
    }

    /// The weightiest change, as a further place of a diagnostic.
    fn with_reason(&self, diagnostic: Diagnostic) -> Diagnostic {
        let Some(change) = self.reviewed.changes.iter().find(|c| c.class() == self.class) else {
            return diagnostic;
        };
        let others = self.reviewed.changes.iter().filter(|c| c.class() == self.class).count() - 1;
        let more = if others > 0 { format!(" (and {others} more)") } else { String::new() };
        let subject = change.subject();
        let colon = if subject.is_empty() || change.key.is_empty() { "" } else { ": " };
        let what = if change.key.is_empty() { &change.what } else { &change.key };
        let colon = if change.key.is_empty() && !subject.is_empty() { " " } else { colon };
        let label = format!("{}: {subject}{colon}{what}{more}", self.class.word());
        let place = change.new.as_ref().or(change.old.as_ref());
        match place {
            Some(spot) => diagnostic.related(spot.span.clone(), label),
            None => diagnostic,
        }
    }

    fn entry_for(&self, version: &str) -> String {
        let note = self
            .reviewed
            .changes
            .iter()
            .find(|change| change.class() == self.class)
            .map_or_else(|| "...".to_owned(), super::Change::headline);
        let kind = self.kinds()[0].word();
        let note = note.replace('\\', "\\\\").replace('"', "\\\"");
        format!(
            "add an entry:\n\n[[change]]\nversion = \"{version}\"\ndate    = YYYY-MM-DD\n\
             kind    = \"{kind}\"\nnote    = \"{note}\""
        )
    }

    fn version_gone(&self, old: &Version) -> Diagnostic {
        let name = match &self.new.own.name {
            Given::Value(name) => name.at,
            _ => Loc::default(),
        };
        let span = self.new.span(name).unwrap_or_else(|| self.top());
        let needed = old.after(self.class).text();
        Diagnostic::new(
            codes::VERSION_GONE,
            span,
            "the connector has no version any more",
            format!("it was {}", old.text()),
        )
        .help(format!("write version = \"{needed}\": it is what users of the connector go by"))
    }

    fn top(&self) -> Span {
        Span { file: self.new.texts[0].clone(), range: 0..0 }
    }

    fn backwards(&self, old: &Version, new: &Version, span: Span) -> Diagnostic {
        let needed = old.after(self.class).text();
        let message = format!("the version goes back from {} to {}", old.written(), new.written());
        Diagnostic::new(codes::VERSION_BACKWARDS, span, message, "lower than before")
            .help(format!("write version = \"{needed}\""))
    }

    fn too_small(&self, old: &Version, new: &Version, span: Span) -> Diagnostic {
        let needed = old.after(self.class).text();
        let what = match (self.class, old.numbers[0]) {
            (Class::Breaking, 1..) => "a major version",
            (Class::Breaking, 0) => "a minor version (before 1.0.0)",
            (Class::Additive, 1..) => "a minor version",
            _ => "a patch version",
        };
        let message = if new == old {
            format!("{} needs {what}, and the version is the same", self.subject())
        } else {
            format!("{} needs {what}", self.subject())
        };
        let label = format!("expected {needed} or above");
        let diagnostic = Diagnostic::new(codes::VERSION_TOO_LOW, span, message, label);
        self.with_reason(diagnostic)
            .help(format!("write version = \"{needed}\", and {}", self.entry_for(&needed)))
    }

    fn subject(&self) -> &'static str {
        match self.class {
            Class::Breaking => "a breaking change",
            Class::Additive => "an additive change",
            Class::Operational => "an operational change",
            Class::Cosmetic => "a cosmetic change",
        }
    }

    fn no_entry(&self, version: &str, span: Span) -> Diagnostic {
        let message = format!("the changelog does not tell of {version}");
        let label = format!("no [[change]] has version = \"{version}\"");
        let diagnostic = Diagnostic::new(codes::NO_CHANGE_ENTRY, span, message, label);
        self.with_reason(diagnostic).help(self.entry_for(version))
    }

    fn wrong_kind(&self, entry: &ChangeDef) -> Option<Diagnostic> {
        let kind = entry.kind.get()?;
        let words: Vec<String> =
            self.kinds().iter().map(|kind| format!("\"{}\"", kind.word())).collect();
        let message =
            format!("the changelog tells of {} as \"{}\"", self.subject(), kind.value.word());
        let label = format!("expected {}", words.join(", "));
        let diagnostic =
            Diagnostic::new(codes::WRONG_CHANGE_KIND, self.new.span(kind.at)?, message, label);
        Some(self.with_reason(diagnostic).help(
            "change the kind, or add an entry of that version that tells of this change, too",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_its_least_version() {
        use Class::{Additive, Breaking, Cosmetic, Operational};
        for (old, class, needed) in [
            ("2.1.3", Breaking, "3.0.0"),
            ("2.1.3", Additive, "2.2.0"),
            ("2.1.3", Operational, "2.1.4"),
            ("2.1.3", Cosmetic, "2.1.3"),
            ("0.4.2", Breaking, "0.5.0"),
            ("0.4.2", Additive, "0.4.3"),
            ("0.4.2", Operational, "0.4.3"),
        ] {
            let old = Version::parse(old).unwrap();
            assert_eq!(old.after(class).text(), needed, "{old:?} {class:?}");
            let needed = Version::parse(needed).unwrap();
            assert!(needed.says(class, &old));
        }
        let says = |new: &str, class, old: &str| {
            Version::parse(new).unwrap().says(class, &Version::parse(old).unwrap())
        };
        assert!(says("1.0.0", Breaking, "0.4.2"));
        assert!(says("3.0.0-rc.1", Breaking, "2.1.0"));
        assert!(says("3.0.0-rc.2", Breaking, "3.0.0-rc.1"));
        assert!(says("3.0.0", Breaking, "3.0.0-rc.2"));
        assert!(!says("2.2.0-rc.1", Breaking, "2.1.0"));
        assert!(!says("2.1.0", Operational, "2.1.0"));
    }

    #[test]
    fn versions_are_ordered() {
        let order = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-rc.2", "1.0.0-rc.10", "1.0.0", "1.0.1"];
        for pair in order.windows(2) {
            let [one, other] = [pair[0], pair[1]].map(|text| Version::parse(text).unwrap());
            assert_eq!(one.compare(&other), Ordering::Less, "{pair:?}");
        }
        assert_eq!(Version::parse("1.0.0+a"), Version::parse("1.0.0+b"));
    }
}
