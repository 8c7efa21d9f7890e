//! `[[test]]`: what goes in and what has to come out.

use super::{collections::Any, kinds::Prose, table::table};

table! {
    /// A test of the whole pipeline.
    pub struct TestDef "[[test]]" {
        /// What it shows, in a sentence.
        name "name": Prose, required;
        /// The stream under test. May be left out where there is one.
        stream "stream": Prose;
        /// A record, or a file with one.
        given "given": Any;
        /// A webhook request.
        request "request": Any;
        /// What the polled API answers, in order.
        responses "responses": Any;
        /// The mapped record, exactly.
        expect "expect": Any;
        /// A part of the mapped record.
        expect_some "expect_some": Any;
        /// The requests that the API has to get.
        expect_requests "expect_requests": Any;
        /// The answer that the producer has to get.
        expect_reply "expect_reply": Any;
        /// What the destinations have to get.
        expect_delivered "expect_delivered": Any;
        /// What has to end as a dead letter.
        expect_dead "expect_dead": Any;
        /// Whether the event has to be a duplicate.
        expect_duplicate "expect_duplicate": Any;
    }
}
