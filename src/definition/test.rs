//! `[[test]]`: what goes in, what the peers answer, and what has to come out.

use toml::de::DeValue;

use super::{
    collections::{Literal, OneOrMany, Pairs, Scalar},
    kinds::{Int, Moment, Plain, Prose, Span, mistyped},
    poll::MethodDef,
    table::{At, Given, Kind, Node, Reader, Shape, choice, table},
};

/// Declares a table with the keys of a step, which a test of one step has itself, after its own.
macro_rules! with_step_keys {
    ($(#[doc = $doc:literal])+ pub struct $name:ident $title:literal { $($own:tt)* }) => {
        table! {
            $(#[doc = $doc])+
            pub struct $name $title {
                $($own)*
                /// A record that comes in, or the path of a JSON file with one; or a list of such.
                given "given": OneOrMany<DocumentDef>;
                /// A webhook that comes in.
                request "request": RequestDef;
                /// What the polled API answers, in order: the stream's poll runs once, now.
                responses "responses": Vec<At<AnswerEntry>>;
                /// What the destination answers, in order, before it answers 200; or a table, from the destination's name to such a list.
                replies "replies": RepliesDef;
                /// The mapped record that is delivered, exactly, or the path of a JSON file with it; a list where there are several.
                expect "expect": OneOrMany<DocumentDef>;
                /// A part of the mapped record that is delivered.
                expect_some "expect_some": OneOrMany<DocumentDef>;
                /// The requests that the polled API gets, or how many.
                expect_requests "expect_requests": ExchangesDef;
                /// The answer that the webhook's producer gets, or its status.
                expect_reply "expect_reply": ReplyEntry;
                /// What the destination takes, in order, or how much; or a table, from the destination's name to that.
                expect_delivered "expect_delivered": DeliveredDef;
                /// The dead letters that come of it, or the reason of the one.
                expect_dead "expect_dead": OneOrMany<DeadEntry>;
                /// Whether all that comes in has come in before.
                expect_duplicate "expect_duplicate": bool;
                /// What becomes of everything that comes in: one word, or how many end as what.
                expect_outcome "expect_outcome": OutcomeEntry;
                /// The poll fails, and these words are in its message.
                expect_error "expect_error": Plain;
            }
        }

        impl $name {
            /// The keys of a step.
            pub fn step_keys(&self) -> StepKeys<'_> {
                StepKeys {
                    at: self.at,
                    given: &self.given,
                    request: &self.request,
                    responses: &self.responses,
                    replies: &self.replies,
                    expect: &self.expect,
                    expect_some: &self.expect_some,
                    expect_requests: &self.expect_requests,
                    expect_reply: &self.expect_reply,
                    expect_delivered: &self.expect_delivered,
                    expect_dead: &self.expect_dead,
                    expect_duplicate: &self.expect_duplicate,
                    expect_outcome: &self.expect_outcome,
                    expect_error: &self.expect_error,
                }
            }
        }
    };
}

with_step_keys! {
    /// A test of the whole pipeline, on a clock and with peers that are scripted.
    pub struct TestDef "[[test]]" {
        /// What it shows, in a sentence.
        name "name": Prose, required;
        /// The stream under test. May be left out where there is one.
        stream "stream": Prose;
        /// What time it is when the test begins.
        now "now": Moment = "\"2030-01-01T00:00:00Z\"";
        /// Secrets of this test by their names in the file; the others are made up.
        secrets "secrets": Pairs<Plain>;
        /// Several steps, one after the other, in place of the one that the keys below are.
        step "step": Vec<At<StepDef>>;
    }
}

with_step_keys! {
    /// One step of a test. No time passes in it but what its peers take; after the last one time runs until everything is settled.
    pub struct StepDef "[[test.step]]" {
        /// The daemon is killed and starts again with what it had made durable.
        restart "restart": bool;
        /// So much time passes.
        advance "advance": Span;
    }
}

/// The keys that a test of one step and a step share.
#[derive(Clone, Copy)]
#[allow(missing_docs)] // The keys' own lines stand above.
pub struct StepKeys<'a> {
    pub at: super::table::Loc,
    pub given: &'a Given<OneOrMany<DocumentDef>>,
    pub request: &'a Given<RequestDef>,
    pub responses: &'a Given<Vec<At<AnswerEntry>>>,
    pub replies: &'a Given<RepliesDef>,
    pub expect: &'a Given<OneOrMany<DocumentDef>>,
    pub expect_some: &'a Given<OneOrMany<DocumentDef>>,
    pub expect_requests: &'a Given<ExchangesDef>,
    pub expect_reply: &'a Given<ReplyEntry>,
    pub expect_delivered: &'a Given<DeliveredDef>,
    pub expect_dead: &'a Given<OneOrMany<DeadEntry>>,
    pub expect_duplicate: &'a Given<bool>,
    pub expect_outcome: &'a Given<OutcomeEntry>,
    pub expect_error: &'a Given<Plain>,
}

/// A document, or the file that it is in.
#[derive(Clone, Debug)]
pub enum DocumentDef {
    /// A path, relative to the connector file.
    File(String),
    /// The document itself: a table.
    Inline(Literal),
}

impl Kind for DocumentDef {
    const SHAPE: Shape = Shape::Either(&Shape::Plain, &Shape::Named(&Shape::Any));

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Table(_) => Literal::read(node, reader).map(Self::Inline),
            DeValue::String(_) => Plain::read(node, reader).map(|path| Self::File(path.0)),
            _ => mistyped(node, reader, &Self::SHAPE),
        }
    }
}

table! {
    /// A webhook as a producer sends it.
    pub struct RequestDef "`request`" {
        /// The HTTP method.
        method "method": MethodDef = "\"POST\"";
        /// The URL's path. Without it that of the stream's webhook.
        path "path": Plain;
        /// Query parameters.
        query "query": Pairs<Scalar>;
        /// Headers.
        headers "headers": Pairs<Prose>;
        /// The body: a table or a list is sent as JSON, a text as it is.
        body "body": Literal;
        /// A file with the body, byte for byte.
        file "file": Plain;
        /// Whether it is signed as the webhook's `verify` wants, with the test's secret, where no header is the signature already.
        sign "sign": bool = "true";
    }
}

table! {
    /// What a scripted peer answers.
    pub struct AnswerDef "an answer" {
        /// The HTTP status.
        status "status": Int<100, 599> = "200";
        /// Headers.
        headers "headers": Pairs<Prose>;
        /// The body: a table or a list is sent as JSON, a text as it is.
        body "body": Literal;
        /// A file with the body, byte for byte.
        file "file": Plain;
        /// Only for a request like this; such an answer is taken out of turn, and also by requests for tokens.
        to "to": ExchangeDef;
        /// How often it is given.
        times "times": Int<1, 1000> = "1";
        /// How long the peer takes.
        delay "delay": Span;
        /// No answer: what goes wrong instead.
        fail "fail": FailDef;
    }
}

choice! {
    /// What goes wrong instead of an answer.
    pub enum FailDef {
        /// Nothing comes until the request's time is over.
        Timeout "timeout",
        /// No connection comes about.
        Refused "refused",
        /// The connection breaks before an answer; the peer may have taken the request.
        Broken "broken",
        /// The name does not resolve.
        Dns "dns",
        /// The daemon is killed at this moment, and starts again.
        Crash "crash",
    }
}

/// An answer: a file with its body, its status, or all of it.
#[derive(Debug)]
pub enum AnswerEntry {
    /// 200, with the file's bytes.
    File(String),
    /// A status without a body.
    Status(u16),
    /// Spelled out.
    Whole(Box<AnswerDef>),
}

impl Kind for AnswerEntry {
    const SHAPE: Shape = Shape::Either(&STATUS, &Shape::Either(&Shape::Plain, &AnswerDef::SHAPE));

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Table(_) => AnswerDef::read(node, reader).map(|d| Self::Whole(Box::new(d))),
            DeValue::String(_) => Plain::read(node, reader).map(|path| Self::File(path.0)),
            DeValue::Integer(_) => {
                Int::<100, 599>::read(node, reader).map(|status| Self::Status(status.0 as u16))
            }
            _ => mistyped(node, reader, &Self::SHAPE),
        }
    }
}

const STATUS: Shape = Int::<100, 599>::SHAPE;
const COUNT: Shape = Count::SHAPE;

/// How many.
type Count = Int<0, 1_000_000>;

/// Answers of destinations.
#[derive(Debug)]
pub enum RepliesDef {
    /// Of the one HTTP destination.
    List(Vec<At<AnswerEntry>>),
    /// By the destination's name.
    By(Pairs<Vec<At<AnswerEntry>>>),
}

impl Kind for RepliesDef {
    const SHAPE: Shape = Shape::Either(
        &Shape::List(&AnswerEntry::SHAPE),
        &Shape::Named(&Shape::List(&AnswerEntry::SHAPE)),
    );

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Array(_) => Vec::read(node, reader).map(Self::List),
            DeValue::Table(_) => Pairs::read(node, reader).map(Self::By),
            _ => mistyped(node, reader, &Self::SHAPE),
        }
    }
}

table! {
    /// A request as a scripted peer gets it. What is not named is not compared; of `headers` those that are named.
    pub struct ExchangeDef "a request" {
        /// The HTTP method.
        method "method": MethodDef;
        /// The whole URL with its query.
        url "url": Prose;
        /// The URL's path.
        path "path": Prose;
        /// All query parameters, as text; a list where one stands there several times.
        query "query": Pairs<Scalar>;
        /// Headers.
        headers "headers": Pairs<Prose>;
        /// The body: a JSON document, or text.
        body "body": Literal;
        /// How many attempts the delivery took.
        attempts "attempts": Int<1, 1_000_000>;
    }
}

/// Requests, or how many.
#[derive(Debug)]
pub enum ExchangesDef {
    /// How many.
    Count(u64),
    /// Each of them, in order.
    List(Vec<At<ExchangeDef>>),
}

impl Kind for ExchangesDef {
    const SHAPE: Shape = Shape::Either(&COUNT, &Shape::List(&ExchangeDef::SHAPE));

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Integer(_) => Count::read(node, reader).map(|n| Self::Count(n.0 as u64)),
            DeValue::Array(_) => Vec::read(node, reader).map(Self::List),
            _ => mistyped(node, reader, &Self::SHAPE),
        }
    }
}

/// Deliveries.
#[derive(Debug)]
pub enum DeliveredDef {
    /// To the stream's one destination.
    To(ExchangesDef),
    /// By the destination's name.
    By(Pairs<ExchangesDef>),
}

impl Kind for DeliveredDef {
    const SHAPE: Shape = Shape::Either(&ExchangesDef::SHAPE, &Shape::Named(&ExchangesDef::SHAPE));

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Table(_) => Pairs::read(node, reader).map(Self::By),
            _ => ExchangesDef::read(node, reader).map(Self::To),
        }
    }
}

table! {
    /// The answer that a webhook's producer gets.
    pub struct AnsweredDef "`expect_reply`" {
        /// The HTTP status.
        status "status": Int<100, 599>;
        /// Headers; those that are not named are not compared.
        headers "headers": Pairs<Prose>;
        /// The body: a JSON document, or text.
        body "body": Literal;
    }
}

/// An answer to a webhook: its status, or more of it.
#[derive(Debug)]
pub enum ReplyEntry {
    /// The status.
    Status(u16),
    /// Spelled out.
    Whole(Box<AnsweredDef>),
}

impl Kind for ReplyEntry {
    const SHAPE: Shape = Shape::Either(&STATUS, &AnsweredDef::SHAPE);

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Table(_) => AnsweredDef::read(node, reader).map(|d| Self::Whole(Box::new(d))),
            _ => Int::<100, 599>::read(node, reader).map(|status| Self::Status(status.0 as u16)),
        }
    }
}

table! {
    /// A dead letter. What is not named is not compared.
    pub struct DeadDef "`expect_dead`" {
        /// Why: `map_failed`, `schema_failed`, `rejected`, `attempts_spent`, `time_spent`, …
        reason "reason": Plain;
        /// The field that the map or the schema stumbled over: `customer.email`.
        field "field": Plain;
        /// Words of its message.
        message "message": Plain;
        /// Where it was going.
        destination "destination": Plain;
        /// The status of the last attempt.
        status "status": Int<100, 599>;
        /// How many attempts were counted.
        attempts "attempts": Int<0, 1_000_000>;
    }
}

/// A dead letter: its reason, or more of it.
#[derive(Debug)]
pub enum DeadEntry {
    /// The reason.
    Reason(String),
    /// Spelled out.
    Whole(Box<DeadDef>),
}

impl Kind for DeadEntry {
    const SHAPE: Shape = Shape::Either(&Shape::Plain, &DeadDef::SHAPE);

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Table(_) => DeadDef::read(node, reader).map(|d| Self::Whole(Box::new(d))),
            _ => Plain::read(node, reader).map(|reason| Self::Reason(reason.0)),
        }
    }
}

table! {
    /// How many records end as what; those that are not named are none.
    pub struct OutcomesDef "`expect_outcome`" {
        /// All destinations have it.
        delivered "delivered": Int<0, 1_000_000>;
        /// A newer revision was delivered before.
        superseded "superseded": Int<0, 1_000_000>;
        /// The stream's `when`, or the cursor's `filter`, does not take it.
        filtered "filtered": Int<0, 1_000_000>;
        /// It came in before.
        duplicate "duplicate": Int<0, 1_000_000>;
        /// It is in the dead letters.
        dead "dead": Int<0, 1_000_000>;
        /// It has no key, or another part of its name is missing.
        unnamed "unnamed": Int<0, 1_000_000>;
        /// It is still to be attempted.
        pending "pending": Int<0, 1_000_000>;
        /// Its destination is parked.
        held "held": Int<0, 1_000_000>;
    }
}

choice! {
    /// What becomes of a record.
    pub enum OutcomeDef {
        /// All destinations have it.
        Delivered "delivered",
        /// A newer revision was delivered before.
        Superseded "superseded",
        /// The stream's `when`, or the cursor's `filter`, does not take it.
        Filtered "filtered",
        /// It came in before.
        Duplicate "duplicate",
        /// It is in the dead letters.
        Dead "dead",
        /// It has no key, or another part of its name is missing.
        Unnamed "unnamed",
        /// It is still to be attempted.
        Pending "pending",
        /// Its destination is parked.
        Held "held",
    }
}

/// One word for all, or how many end as what.
#[derive(Debug)]
pub enum OutcomeEntry {
    /// All.
    All(OutcomeDef),
    /// Counted.
    Counts(Box<OutcomesDef>),
}

impl Kind for OutcomeEntry {
    const SHAPE: Shape = Shape::Either(&OutcomeDef::SHAPE, &OutcomesDef::SHAPE);

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Table(_) => {
                OutcomesDef::read(node, reader).map(|counts| Self::Counts(Box::new(counts)))
            }
            _ => OutcomeDef::read(node, reader).map(Self::All),
        }
    }
}

impl OutcomesDef {
    /// The counts that are given, by word.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let counts = [
            ("delivered", &self.delivered),
            ("superseded", &self.superseded),
            ("filtered", &self.filtered),
            ("duplicate", &self.duplicate),
            ("dead", &self.dead),
            ("unnamed", &self.unnamed),
            ("pending", &self.pending),
            ("held", &self.held),
        ];
        let given = counts.into_iter().filter_map(|(word, count)| Some((word, count.value()?)));
        given.map(|(word, count)| (word, count.0 as u64)).collect()
    }
}
