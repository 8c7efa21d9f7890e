//! `[source]`: the system that events come from, and what its streams share.

use super::{
    collections::{OneOrMany, Pairs},
    kinds::{Expression, Int, Size, Span},
    on::RuleDef,
    page::PageDef,
    table::{At, table},
    units::Rate,
    webhook::SharedWebhookDef,
};

table! {
    /// The system that events come from: what its streams share. A stream's own tables win, key by key.
    pub struct SourceDef "[source]" {
        /// What every poll's `path` is appended to.
        base "base": Expression;
        /// Credentials of every poll: the name of an `[auth.NAME]` table, or a choice by variable.
        auth "auth": Expression;
        /// Headers of every poll.
        headers "headers": Pairs<Expression>;
        /// Query parameters of every poll.
        query "query": Pairs<Expression>;
        /// How many requests the system allows, shared by every stream, window and page.
        rate "rate": OneOrMany<Rate>;
        /// Requests at once.
        concurrency "concurrency": Int<1, 256> = "1";
        /// How long one request may take, from dialling to the last byte.
        timeout "timeout": Span = "\"30s\"";
        /// How pages follow each other.
        page "page": PageDef;
        /// What answers mean, before the defaults: the first rule that fits decides.
        on "on": Vec<At<RuleDef>>;
        /// Longest answer that is read, after decompression.
        max_response "max_response": Size = "\"64MiB\"";
        /// What the streams' webhooks share.
        webhook "webhook": SharedWebhookDef;
    }
}
