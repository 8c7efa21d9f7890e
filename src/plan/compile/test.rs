//! `[[test]]`: tests are run elsewhere; here they must make sense.

use std::{collections::BTreeSet, path::Path};

use http::HeaderName;

use super::{connector::Whole, context::Context};
use crate::{
    definition::{
        collections::Pairs,
        connector::ConnectorDef,
        destination::DestinationType,
        kinds::{Moment, Prose},
        stream::StreamDef,
        table::{At, Given, Loc, list_of},
        test::{
            AnswerDef, AnswerEntry, DeliveredDef, DocumentDef, ExchangesDef, RepliesDef,
            RequestDef, StepKeys, TestDef,
        },
    },
    diagnostic::codes,
    world::Timestamp,
};

/// What tests refer to.
struct Known<'d> {
    folder: &'d Path,
    body: &'d ConnectorDef,
    streams: &'d [(String, At<StreamDef>)],
    destinations: BTreeSet<&'d str>,
    /// Those whose answers can be scripted.
    http: Vec<&'d str>,
}

/// What drives a step, and where it stands.
type Input = (&'static str, Loc);

pub(super) fn check_all(context: &mut Context<'_>, path: &Path, whole: Whole<'_>) {
    let Some(tests) = whole.own.test.value() else { return };
    let defined = whole.own.destination.value().into_iter().chain(whole.body.destination.value());
    let defined: Vec<_> = defined.flat_map(|named| &named.0).collect();
    let is_http = |kind: &Given<DestinationType>| kind.value() == Some(&DestinationType::Http);
    let mut http: Vec<&str> = defined
        .iter()
        .filter(|(_, def)| is_http(&def.value.kind))
        .map(|(name, _)| name.as_str())
        .collect();
    http.sort_unstable();
    http.dedup();
    let known = Known {
        folder: path.parent().unwrap_or(Path::new("")),
        body: whole.body,
        streams: whole.body.stream.value().map_or(&[], |named| named.0.as_slice()),
        destinations: defined.iter().map(|(name, _)| name.as_str()).collect(),
        http,
    };
    for test in tests {
        known.test(context, test);
    }
}

/// The time that a text means, as `now` and `not_after` are written.
pub fn moment(text: &str) -> Option<Timestamp> {
    Timestamp::parse_rfc3339(text)
        .or_else(|| Timestamp::parse_rfc3339(&format!("{text}T00:00:00Z")))
}

impl<'d> Known<'d> {
    fn test(&self, context: &mut Context<'_>, test: &'d At<TestDef>) {
        let def = &test.value;
        let stream = self.stream(context, def);
        if let Some(now) = def.now.get() {
            check_now(context, now);
        }
        let keys = def.step_keys();
        let Some(steps) = def.step.get() else {
            let input = Self::input(context, def.at, &def.given());
            self.step(context, keys, input, stream);
            check_expectation(context, def.at, &def.given());
            return;
        };
        let own = ["name", "stream", "now", "secrets", "step"];
        let beside = def.given().into_iter().find(|(key, _)| !own.contains(key));
        if let Some((key, at)) = beside {
            context
                .error(
                    codes::CONFLICT,
                    at,
                    format!("`{key}` and `step` exclude each other"),
                    "a test is one step, or has steps",
                )
                .related(steps.key, "the steps")
                .help(format!("put `{key}` into a [[test.step]]"));
        }
        let mut given = Vec::new();
        for step in &steps.value {
            let keys = step.value.given();
            let input = Self::input(context, step.value.at, &keys);
            if let Some(restart) = step.value.restart.get().filter(|restart| !restart.value) {
                context
                    .error(
                        codes::OUT_OF_RANGE,
                        restart.at,
                        "`restart` is not a switch",
                        "expected `true`",
                    )
                    .help("leave the step out if nothing restarts");
            }
            self.step(context, step.value.step_keys(), input, stream);
            given.extend(keys);
        }
        check_expectation(context, def.at, &given);
    }

    /// The stream under test; `None` where it cannot be told.
    fn stream(&self, context: &mut Context<'_>, test: &TestDef) -> Option<&'d StreamDef> {
        match test.stream.get() {
            Some(named) => {
                let found = self.streams.iter().find(|(name, _)| *name == named.value.0);
                if found.is_none() {
                    let names = self.streams.iter().map(|(name, _)| name.as_str());
                    let wrong = &named.value.0;
                    context.unknown(codes::UNKNOWN_STREAM, named.at, "stream", wrong, names);
                }
                found.map(|(_, stream)| &stream.value)
            }
            None => match self.streams {
                [(_, only)] => Some(&only.value),
                _ => None,
            },
        }
    }

    /// The one thing that drives a step.
    fn input(context: &mut Context<'_>, at: Loc, keys: &[(&'static str, Loc)]) -> Option<Input> {
        const INPUTS: &[&str] = &["given", "request", "responses", "restart", "advance"];
        let mut inputs = keys.iter().filter(|(key, _)| INPUTS.contains(key)).copied();
        let Some(first) = inputs.next() else {
            context.error(codes::MISSING_KEY, at, "a test needs an input", "nothing goes in").help(
                "add `given` (a record), `request` (a webhook) or `responses` (what the API \
                     answers); in a [[test.step]] also `advance` or `restart`",
            );
            return None;
        };
        if let Some((second, second_at)) = inputs.next() {
            context
                .error(
                    codes::CONFLICT,
                    second_at,
                    format!("`{}` and `{second}` exclude each other", first.0),
                    "a test, or a step of one, has one input",
                )
                .related(first.1, "the other one")
                .help("several things one after the other are [[test.step]]s");
        }
        Some(first)
    }

    fn step(
        &self,
        context: &mut Context<'_>,
        keys: StepKeys<'_>,
        input: Option<Input>,
        stream: Option<&StreamDef>,
    ) {
        if let Some(input) = input {
            self.check_input(context, input, stream);
            check_effect(context, keys, input);
        }
        let documents = [keys.given, keys.expect, keys.expect_some];
        for document in documents.into_iter().filter_map(Given::value).flat_map(|many| &many.0) {
            if let DocumentDef::File(file) = &document.value {
                self.fixture(context, file, document.at);
            }
        }
        if let Some(request) = keys.request.value() {
            self.request(context, request, stream);
        }
        self.answers(context, keys.responses.value().map_or(&[], Vec::as_slice));
        self.replies(context, keys.replies);
        if let Some(delivered) = keys.expect_delivered.get() {
            self.delivered(context, delivered, stream);
        }
        if let Some(requests) = keys.expect_requests.value() {
            check_exchanges(context, requests);
        }
    }

    fn check_input(&self, context: &mut Context<'_>, (key, at): Input, stream: Option<&StreamDef>) {
        let help = || {
            let names = self.streams.iter().map(|(name, _)| name.as_str());
            format!("add `stream`: one of {}", list_of(names))
        };
        let any_webhook = self.streams.iter().any(|(_, s)| !s.value.webhook.is_absent());
        let missing = match (key, stream) {
            ("given" | "responses", None) if self.streams.len() > 1 => {
                context
                    .error(
                        codes::MISSING_KEY,
                        at,
                        format!("`{key}` of which stream?"),
                        "no `stream` says it",
                    )
                    .help(help());
                return;
            }
            ("responses", Some(stream)) if stream.poll.is_absent() => "does not poll",
            ("request", Some(stream)) if stream.webhook.is_absent() => "takes no webhooks",
            ("request", None) if !any_webhook => "takes no webhooks",
            _ => return,
        };
        let message = format!("`{key}` of a stream that {missing}");
        context
            .error(codes::MISPLACED_KEY, at, message, "nothing would ask for it")
            .help("`given` puts a record into any stream");
    }

    fn request(&self, context: &mut Context<'_>, def: &RequestDef, stream: Option<&StreamDef>) {
        check_headers(context, &def.headers);
        check_one_body(context, def.body.key(), def.file.key());
        if let Some(file) = def.file.get() {
            self.fixture(context, &file.value.0, file.at);
        }
        let shared = self.body.source.value().is_some_and(|source| !source.webhook.is_absent());
        let several = self.streams.iter().filter(|(_, s)| !s.value.webhook.is_absent()).count() > 1;
        if def.path.is_absent() && stream.is_none() && several && !shared {
            context
                .error(
                    codes::MISSING_KEY,
                    def.at,
                    "a webhook of which stream?",
                    "no `path` says it",
                )
                .help("add `path` here, or `stream` to the test");
        }
    }

    fn answers(&self, context: &mut Context<'_>, answers: &[At<AnswerEntry>]) {
        for answer in answers {
            self.answer(context, answer);
        }
    }

    fn answer(&self, context: &mut Context<'_>, answer: &At<AnswerEntry>) {
        match &answer.value {
            AnswerEntry::Status(_) => {}
            AnswerEntry::File(file) => self.fixture(context, file, answer.at),
            AnswerEntry::Whole(def) => {
                check_headers(context, &def.headers);
                check_one_body(context, def.body.key(), def.file.key());
                check_failure(context, def);
                if let Some(file) = def.file.get() {
                    self.fixture(context, &file.value.0, file.at);
                }
            }
        }
    }

    fn replies(&self, context: &mut Context<'_>, replies: &Given<RepliesDef>) {
        let Some(given) = replies.get() else { return };
        match &given.value {
            RepliesDef::List(list) => {
                if self.http.len() != 1 && !self.destinations.is_empty() {
                    which_destination(context, given.key, &self.http);
                }
                self.answers(context, list);
            }
            RepliesDef::By(by) => {
                for (name, list) in &by.0 {
                    self.destination(context, name, list.key);
                    self.answers(context, &list.value);
                }
            }
        }
    }

    fn delivered(
        &self,
        context: &mut Context<'_>,
        given: &At<DeliveredDef>,
        stream: Option<&StreamDef>,
    ) {
        match &given.value {
            DeliveredDef::To(exchanges) => {
                check_exchanges(context, exchanges);
                let to = stream.and_then(|stream| stream.to.value()).map(|to| to.0.len());
                let several = self.destinations.len() > 1 && to != Some(1);
                if several && !matches!(exchanges, ExchangesDef::Count(0)) {
                    let names: Vec<&str> = self.destinations.iter().copied().collect();
                    which_destination(context, given.key, &names);
                }
            }
            DeliveredDef::By(by) => {
                for (name, exchanges) in &by.0 {
                    check_exchanges(context, &exchanges.value);
                    self.destination(context, name, exchanges.key);
                }
            }
        }
    }

    fn destination(&self, context: &mut Context<'_>, name: &str, at: Loc) {
        // A connector without destinations is tested with one that is made up.
        if !self.destinations.is_empty() && !self.destinations.contains(name) {
            let known = self.destinations.iter().copied();
            context.unknown(codes::UNKNOWN_DESTINATION, at, "destination", name, known);
        }
    }

    /// A connector is deployed without its fixtures: that one is missing is for tests to fail on.
    fn fixture(&self, context: &mut Context<'_>, file: &str, at: Loc) {
        let path = self.folder.join(file);
        if !context.exists(&path) {
            context
                .error(
                    codes::NO_FIXTURE,
                    at,
                    "no such file",
                    format!("looked for `{}`", path.display()),
                )
                .help("the path is relative to the connector file's folder");
        }
    }
}

fn which_destination(context: &mut Context<'_>, at: Loc, names: &[&str]) {
    let example = names.first().copied().unwrap_or("NAME");
    context
        .error(codes::WHICH_DESTINATION, at, "which destination?", "a list is for one")
        .help(format!("name it: {{ {example} = [...] }}"));
}

fn check_exchanges(context: &mut Context<'_>, exchanges: &ExchangesDef) {
    if let ExchangesDef::List(list) = exchanges {
        for one in list {
            check_headers(context, &one.value.headers);
        }
    }
}

fn check_now(context: &mut Context<'_>, now: &At<Moment>) {
    if moment(&now.value.0).is_none() {
        context.error(
            codes::BAD_DATE,
            now.at,
            "`now` is not a time",
            "expected a date or a time with zone: 2026-11-20, 2026-11-20T12:00:00Z",
        );
    }
}

fn check_expectation(context: &mut Context<'_>, at: Loc, given: &[(&'static str, Loc)]) {
    if given.iter().any(|(key, _)| key.starts_with("expect")) {
        return;
    }
    context
        .error(codes::MISSING_KEY, at, "a test needs an expectation", "nothing is expected")
        .help(
            "add `expect`, the mapped record, or one of `expect_some`, `expect_requests`, \
             `expect_reply`, `expect_delivered`, `expect_dead`, `expect_duplicate`, \
             `expect_outcome`, `expect_error`",
        );
}

/// Expectations that this input can never meet.
fn check_effect(context: &mut Context<'_>, keys: StepKeys<'_>, (input, input_at): Input) {
    let of_poll = [
        ("expect_requests", keys.expect_requests.key()),
        ("expect_error", keys.expect_error.key()),
    ];
    let of_webhook = [("expect_reply", keys.expect_reply.key())];
    let polls = of_poll.into_iter().filter(|_| input != "responses");
    let webhooks = of_webhook.into_iter().filter(|_| input != "request");
    let (polls, webhooks) =
        (polls.map(|key| (key, "responses")), webhooks.map(|key| (key, "request")));
    for ((key, at), wanted) in polls.chain(webhooks) {
        let Some(at) = at else { continue };
        context
            .error(
                codes::MISPLACED_KEY,
                at,
                format!("`{key}` without `{wanted}`"),
                format!("only `{wanted}` has such a thing"),
            )
            .related(input_at, "the input");
    }
}

fn check_one_body(context: &mut Context<'_>, body: Option<Loc>, file: Option<Loc>) {
    if let (Some(body), Some(file)) = (body, file) {
        context
            .error(
                codes::CONFLICT,
                file,
                "`body` and `file` exclude each other",
                "there is one body",
            )
            .related(body, "the other one");
    }
}

fn check_failure(context: &mut Context<'_>, def: &AnswerDef) {
    let Some(fail) = def.fail.key() else { return };
    let beside = ["status", "headers", "body", "file"];
    let beside = def.given().into_iter().find(|(key, _)| beside.contains(key));
    if let Some((key, at)) = beside {
        context
            .error(
                codes::CONFLICT,
                at,
                format!("`{key}` and `fail` exclude each other"),
                "there is no answer",
            )
            .related(fail, "it fails");
    }
}

fn check_headers(context: &mut Context<'_>, headers: &Given<Pairs<Prose>>) {
    for (name, value) in headers.value().into_iter().flat_map(|pairs| &pairs.0) {
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            let message = format!("`{}` is not a header name", name.escape_debug());
            let label = "expected letters, digits and `-`";
            context.error(codes::BAD_HEADER, value.key, message, label);
        }
    }
}
