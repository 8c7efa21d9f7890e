//! `[destination.NAME]`: where events go.

use super::{
    batch::BatchDef,
    breaker::BreakerDef,
    collections::{OneOrMany, Pairs, TreeDef},
    kinds::{Expression, Int, Plain, Size, SizeOrNever, Span},
    poll::MethodDef,
    retry::RetryDef,
    table::{At, choice, table},
    units::Rate,
    verdict::VerdictDef,
};

table! {
    /// Where events go.
    pub struct DestinationDef "[destination.NAME]" {
        /// What it is.
        kind "type": DestinationType, required;
        /// `http`: the method.
        method "method": MethodDef = "\"POST\"";
        /// `http`: the URL.
        url "url": Expression;
        /// `http`: headers.
        headers "headers": Pairs<Expression>;
        /// `http`: the body. Without it: `out` as JSON.
        body "body": TreeDef;
        /// `http`: credentials, the name of an `[auth.NAME]` table, or a choice by variable.
        auth "auth": Expression;
        /// `http`: longest answer that is read, after decompression.
        max_response "max_response": Size = "\"1MiB\"";
        /// `file`: the file, one JSON document a line.
        path "path": Plain;
        /// `file`: a new file once this size is passed.
        rotate "rotate": SizeOrNever = "\"64MiB\"";
        /// `file`: a new file once the current one is this old.
        rotate_every "rotate_every": Span;
        /// `file`: how many rotated files are kept; all of them unless said.
        keep "keep": Int<1, 1_000_000>;
        /// Whether events wait for each other.
        order "order": OrderDef = "\"none\"";
        /// Attempts at once, at most. An HTTP destination gets fewer while it slows down or refuses.
        concurrency "concurrency": Int<1, 4096> = "16";
        /// How much it allows.
        rate "rate": OneOrMany<Rate>;
        /// How long one attempt may take.
        timeout "timeout": Span = "\"15s\"";
        /// `http`: what answers mean, before the defaults.
        on "on": Vec<At<VerdictDef>>;
        /// How failed attempts are repeated; its keys win over the file's `[retry]`.
        retry "retry": RetryDef;
        /// `http`: several events in one request.
        batch "batch": BatchDef;
        /// `http`: when attempts stop because most of them fail, per tenant; on unless said.
        breaker "breaker": BreakerDef;
    }
}

choice! {
    /// What a destination is.
    pub enum DestinationType {
        /// An HTTP API.
        Http "http",
        /// A file of JSON lines, rotated.
        File "file",
        /// Standard output, one JSON document a line.
        Stdout "stdout",
    } later ["postgres", "nats", "redis", "kafka", "s3"]
}

choice! {
    /// Whether events wait for each other.
    pub enum OrderDef {
        /// They do not.
        None "none",
        /// Those of one key do.
        Key "key",
        /// All of a stream do.
        Strict "strict",
    }
}

/// The keys that a type needs, and those it may have besides what all have.
pub fn keys_of(kind: DestinationType) -> (&'static [&'static str], &'static [&'static str]) {
    match kind {
        DestinationType::Http => (
            &["url"],
            &["method", "headers", "body", "auth", "max_response", "on", "breaker", "batch"],
        ),
        DestinationType::File => (&["path"], &["rotate", "rotate_every", "keep"]),
        DestinationType::Stdout => (&[], &[]),
    }
}

/// The keys that every type may have.
pub const COMMON_KEYS: &[&str] = &["type", "order", "concurrency", "rate", "timeout", "retry"];
