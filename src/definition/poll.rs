//! `[stream.NAME.poll]`: one request, repeated over pages and windows.

use super::{
    collections::{OneOrMany, Pairs, TreeDef},
    cursor::CursorDef,
    decode::{CsvDef, DecodeKind},
    detail::DetailDef,
    each::EachEntry,
    job::JobDef,
    kinds::{Expression, Int, Size, Span},
    on::RuleDef,
    page::PageDef,
    table::{At, choice, table},
};

table! {
    /// A request, and where the records stand in its answer.
    pub struct PollDef "[stream.NAME.poll]" {
        /// The HTTP method.
        method "method": MethodDef = "\"GET\"";
        /// Instead of the source's base.
        base "base": Expression;
        /// Appended to the base; a whole URL stands for itself.
        path "path": Expression;
        /// Query parameters, in the order written.
        query "query": Pairs<Expression>;
        /// Headers.
        headers "headers": Pairs<Expression>;
        /// The body: a table is JSON, a string is sent as the text it gives.
        body "body": TreeDef;
        /// A form as the body.
        form "form": Pairs<Expression>;
        /// The path from the answer's body to the records. Without it: an array's items, or the one object.
        records "records": Expression;
        /// What the requests are made for, one after the other: a sibling stream's records, or a list.
        each "each": Pairs<EachEntry>;
        /// One more request for each listed record; a list of several, each with a name.
        detail "detail": OneOrMany<DetailDef>;
        /// The request creates a report, which is waited for and then fetched.
        job "job": JobDef;
        /// What the answer is written in, and packed in: the outermost first.
        decode "decode": OneOrMany<DecodeKind> = "\"json\"";
        /// How rows are written.
        csv "csv": CsvDef;
        /// How pages follow each other.
        page "page": PageDef;
        /// What has been read, so that the next run goes on from there.
        cursor "cursor": CursorDef;
        /// What answers mean, before the source's rules and the defaults.
        on "on": Vec<At<RuleDef>>;
        /// Credentials: the name of an `[auth.NAME]` table, or a choice by variable.
        auth "auth": Expression;
        /// How long one request may take.
        timeout "timeout": Span = "\"30s\"";
        /// Requests at once.
        concurrency "concurrency": Int<1, 256> = "1";
        /// Longest answer that is read, after decompression.
        max_response "max_response": Size = "\"64MiB\"";
    }
}

choice! {
    /// An HTTP method.
    pub enum MethodDef {
        /// Reads.
        Get "GET",
        /// Creates, or asks with a body.
        Post "POST",
        /// Replaces.
        Put "PUT",
        /// Changes a part.
        Patch "PATCH",
        /// Removes.
        Delete "DELETE",
    }
}
