//! The file as a whole.

use super::{
    auth::AuthDef,
    change::ChangeDef,
    collections::{Fields, Named, OneOrMany, Pairs, Scalar},
    destination::DestinationDef,
    kinds::{Name, Plain, Prose, Version},
    like::Streams,
    lints::LintsDef,
    retry::RetryDef,
    rollout::RolloutDef,
    schedule::ScheduleDef,
    slo::SloDef,
    source::SourceDef,
    table::{At, table},
    test::TestDef,
    vars::VarEntry,
    verify::VerifyDef,
};

table! {
    /// A connector: one versioned asset in one file.
    pub struct ConnectorDef "the connector" {
        /// The connector's identity: state, dedupe and cursors are kept under `name/stream`.
        name "name": Name, required;
        /// Its version, three numbers with dots.
        version "version": Version = "\"0.0.0\"";
        /// What it does, in a line.
        summary "summary": Prose;
        /// Who answers for it.
        owner "owner": Prose;
        /// Where its runbook is.
        docs "docs": Prose;
        /// Another connector file that this one is an instance of.
        uses "use": Plain;
        /// Whose budget the instance's events spend.
        tenant "tenant": Plain;
        /// Destinations of every stream that names none.
        to "to": OneOrMany<Plain>;
        /// What an instance has to give, and what it is.
        vars "vars": Named<VarEntry>;
        /// This file's secrets under the names that are looked up.
        secrets "secrets": Pairs<Plain>;
        /// The system that events come from: what its streams share.
        source "source": SourceDef;
        /// Credentials for polls and destinations.
        auth "auth": Named<AuthDef>;
        /// How signatures of webhooks are checked.
        verify "verify": Named<VerifyDef>;
        /// When polls run.
        schedule "schedule": ScheduleDef;
        /// Kinds of event, each a supervised pipeline.
        stream "stream": Streams;
        /// Named maps for arrays and reuse, used by `apply('name')`.
        map "map": Named<Fields>;
        /// Tables of values, used by `lookup('name')`.
        lookup "lookup": Named<Pairs<Scalar>>;
        /// Where events go.
        destination "destination": Named<DestinationDef>;
        /// How failed deliveries are repeated, unless a destination says otherwise.
        retry "retry": RetryDef;
        /// What the connector promises.
        slo "slo": SloDef;
        /// Whether it runs, or tries a change of another connector beside it.
        rollout "rollout": RolloutDef;
        /// How much each lint matters in this file; wins over `tenon.toml`.
        lints "lints": LintsDef;
        /// The changelog that users see.
        change "change": Vec<At<ChangeDef>>;
        /// Tests of the whole pipeline.
        test "test": Vec<At<TestDef>>;
    }
}

/// The keys that a file with `use` may have.
pub const INSTANCE_KEYS: &[&str] = &[
    "use",
    "name",
    "version",
    "summary",
    "owner",
    "docs",
    "tenant",
    "to",
    "vars",
    "secrets",
    "auth",
    "schedule",
    "destination",
    "retry",
    "slo",
    "rollout",
    "lints",
    "change",
    "test",
];
