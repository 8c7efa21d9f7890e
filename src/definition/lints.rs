//! `[lints]`: how much each lint matters, in a connector file or, for the whole project, in
//! `tenon.toml`. Lints say what is valid and still deserves a second look; this is the one list of
//! their names.

use super::table::{choice, table};
use crate::diagnostic::{Code, codes};

choice! {
    /// How much a lint matters.
    pub enum LevelDef {
        /// It is not mentioned.
        Allow "allow",
        /// It is a notice.
        Note "note",
        /// It is a warning.
        Warn "warn",
        /// It is an error: `check` fails, and `run` refuses the file.
        Deny "deny",
    }
}

/// A lint: the name that `[lints]` knows it by, and the code of what it finds.
#[derive(Debug)]
pub struct Lint {
    /// As written in `[lints]`.
    pub name: &'static str,
    /// Each lint has one of its own; its severity is the lint's level unless a file says otherwise.
    pub code: Code,
}

/// Declares the lints: the keys of `[lints]` and the codes behind them.
macro_rules! lints {
    ($($(#[doc = $doc:literal])+ $name:ident $key:literal $code:ident $level:literal;)*) => {
        table! {
            /// How much each lint matters.
            pub struct LintsDef "[lints]" {
                $($(#[doc = $doc])+ $name $key: LevelDef = $level;)*
            }
        }

        /// Every lint, in the order of `[lints]`.
        pub const LINTS: &[Lint] = &[$(Lint { name: $key, code: codes::$code },)*];

        impl LintsDef {
            /// What the table says, in the order of [`LINTS`].
            pub fn levels(&self) -> [Option<LevelDef>; LINTS.len()] {
                [$(self.$name.value().copied(),)*]
            }
        }
    };
}

lints! {
    /// A credential is written in the file, where `{{ secret.NAME }}` belongs.
    literal_secret "literal_secret" LITERAL_SECRET "\"warn\"";
    /// A variable is declared and no expression names it.
    unused_var "unused_var" UNUSED_VAR "\"warn\"";
    /// A `[map.NAME]` that nothing applies.
    unused_map "unused_map" UNUSED_MAP "\"warn\"";
    /// A `[lookup.NAME]` that nothing looks up.
    unused_lookup "unused_lookup" UNUSED_LOOKUP "\"warn\"";
    /// An `[auth.NAME]` that no poll and no destination names.
    unused_auth "unused_auth" UNUSED_AUTH "\"warn\"";
    /// A `[verify.NAME]` that no webhook names.
    unused_verify "unused_verify" UNUSED_VERIFY "\"warn\"";
    /// A `[destination.NAME]` that no stream goes to.
    unused_destination "unused_destination" UNUSED_DESTINATION "\"warn\"";
    /// A `key` that changes while the thing that it names stays the same.
    unstable_key "unstable_key" UNSTABLE_KEY "\"warn\"";
    /// Pages that are counted, with nothing but an empty page to end them.
    page_without_stop "page_without_stop" PAGE_WITHOUT_STOP "\"warn\"";
    /// Records are read again after their claims have ended, and so delivered again.
    short_dedupe "short_dedupe" SHORT_DEDUPE "\"note\"";
    /// A signature that leaves the body open to change.
    body_not_signed "body_not_signed" BODY_OPEN "\"note\"";
    /// A timestamp that is checked although nothing signs it.
    unsigned_timestamp "unsigned_timestamp" UNSIGNED_TIMESTAMP "\"warn\"";
    /// An idempotency key of the file's own that does not tell one event from another.
    weak_idempotency "weak_idempotency" WEAK_IDEMPOTENCY "\"warn\"";
    /// A schedule that asks for more requests than `rate` allows.
    poll_too_fast "poll_too_fast" POLL_TOO_FAST "\"warn\"";
    /// Nobody answers for the connector.
    missing_owner "missing_owner" MISSING_OWNER "\"note\"";
    /// Nothing says what to do when it fails.
    missing_runbook "missing_runbook" MISSING_RUNBOOK "\"note\"";
    /// The changelog and `version` contradict each other.
    stale_change "stale_change" STALE_CHANGE "\"warn\"";
    /// A test names a file that does not exist.
    missing_fixture "missing_fixture" NO_FIXTURE "\"warn\"";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Severity;

    #[test]
    fn the_severity_of_a_code_is_the_default_level_of_its_lint() {
        for (lint, key) in LINTS.iter().zip(LintsDef::TABLE.keys) {
            let level = match lint.code.info().severity {
                Severity::Notice => "\"note\"",
                Severity::Warning => "\"warn\"",
                Severity::Error => "\"deny\"",
            };
            assert_eq!((lint.name, Some(level)), (key.name, key.default));
        }
        let mut codes: Vec<Code> = LINTS.iter().map(|lint| lint.code).collect();
        codes.sort();
        codes.dedup();
        assert_eq!(codes.len(), LINTS.len(), "a code belongs to one lint");
    }
}
