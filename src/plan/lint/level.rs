//! How much each lint matters: what the file says, else what the project says, else its own level.

use crate::{
    definition::lints::{LINTS, LevelDef, LintsDef},
    diagnostic::{Code, Severity},
};

/// The level of every lint, and who set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels([Option<(LevelDef, Origin)>; LINTS.len()]);

/// Who set a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Project,
    File,
}

impl Default for Levels {
    /// Every lint at its own level.
    fn default() -> Self {
        Self([None; LINTS.len()])
    }
}

impl Levels {
    /// What `tenon.toml` says.
    pub(in crate::plan) fn of_project(table: &LintsDef) -> Self {
        let mut levels = Self::default().with(table, Origin::Project);
        // Spelling out a default sets nothing.
        for (known, lint) in levels.0.iter_mut().zip(LINTS) {
            *known = known.filter(|(level, _)| level.word() != default_level(lint.code));
        }
        levels
    }

    /// The same, and what the file itself says, which wins.
    #[must_use]
    pub(in crate::plan) fn over(self, table: &LintsDef) -> Self {
        self.with(table, Origin::File)
    }

    fn with(mut self, table: &LintsDef, origin: Origin) -> Self {
        for (known, given) in self.0.iter_mut().zip(table.levels()) {
            *known = given.map(|level| (level, origin)).or(*known);
        }
        self
    }

    /// How bad a finding is: what its lint's level makes it, its own severity where it is none of a
    /// lint. `None` where it is not to be mentioned.
    pub(in crate::plan) fn severity(&self, code: Code) -> Option<Severity> {
        match self.set(code) {
            Some((_, Some((LevelDef::Allow, _)))) => None,
            Some((_, Some((LevelDef::Note, _)))) => Some(Severity::Notice),
            Some((_, Some((LevelDef::Warn, _)))) => Some(Severity::Warning),
            Some((_, Some((LevelDef::Deny, _)))) => Some(Severity::Error),
            Some((_, None)) | None => Some(code.info().severity),
        }
    }

    /// The lint behind a code, and why it is as bad as it is: `[lints] missing_owner = "deny"` in ...
    pub(in crate::plan) fn note(&self, code: Code) -> Option<(&'static str, String)> {
        let (name, set) = self.set(code)?;
        let (level, whose) = match set {
            Some((level, Origin::File)) => (level.word(), "in this file"),
            Some((level, Origin::Project)) => (level.word(), "in tenon.toml"),
            None => (default_level(code), "by default"),
        };
        Some((name, format!("`[lints] {name} = \"{level}\"` {whose}")))
    }

    /// The lint of that code, and what was set.
    fn set(&self, code: Code) -> Option<(&'static str, Option<(LevelDef, Origin)>)> {
        let at = LINTS.iter().position(|lint| lint.code == code)?;
        Some((LINTS[at].name, self.0[at]))
    }
}

fn default_level(code: Code) -> &'static str {
    match code.info().severity {
        Severity::Notice => "note",
        Severity::Warning => "warn",
        Severity::Error => "deny",
    }
}
