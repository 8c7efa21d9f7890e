//! From a `[[test]]` table to a case that can be run: files read, defaults filled in, every
//! expectation a document with its places.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::Value;

use super::{document, subject::Subject};
use crate::{
    definition::{
        collections::{Literal, OneOrMany, Pairs},
        kinds::Prose,
        poll::MethodDef,
        table::{At, Given, Loc},
        test::{
            AnswerDef, AnswerEntry, AnsweredDef, DeadDef, DeadEntry, DeliveredDef, DocumentDef,
            ExchangeDef, ExchangesDef, FailDef, OutcomeEntry, RepliesDef, ReplyEntry, RequestDef,
            StepDef, StepKeys, TestDef,
        },
    },
    diagnostic::SourceFile,
    plan::{Sources, StreamPlan, moment},
    world::Timestamp,
};

/// What time it is at the beginning of a test that does not say: later than anything real, and the
/// same tomorrow.
pub(super) const NOW: Timestamp = Timestamp(1_893_456_000_000);

/// A test, ready to run.
pub struct Case {
    /// The connector file, which all places are in.
    pub file: Arc<SourceFile>,
    /// The connector.
    pub subject: Arc<Subject>,
    /// The secrets that the test gives, by the names that are looked up.
    pub secrets: BTreeMap<String, String>,
    /// When it begins.
    pub now: Timestamp,
    /// At least one.
    pub steps: Vec<Step>,
}

/// One step of a case.
pub struct Step {
    /// Its place among the steps of the file, from 0; `None` where the test itself is the step.
    pub index: Option<usize>,
    /// Where the key of its input stands.
    pub at: Loc,
    /// What drives it.
    pub input: Input,
    /// What destinations answer, by name.
    pub replies: BTreeMap<Arc<str>, Vec<Canned>>,
    /// What is expected of it.
    pub expect: Expect,
}

/// What drives a step.
pub enum Input {
    /// Records, as if they had been verified, decoded and split.
    Given { stream: Arc<str>, records: Vec<Value> },
    /// A webhook.
    Request(Box<Webhook>),
    /// A run of a poll.
    Poll { stream: Arc<str>, responses: Vec<Canned> },
    /// A crash.
    Restart,
    /// Time.
    Advance(Duration),
}

/// A webhook as it comes in.
pub struct Webhook {
    pub method: Method,
    /// With the query.
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub sign: bool,
}

/// A scripted answer.
#[derive(Clone)]
pub struct Canned {
    pub at: Loc,
    /// Only for requests like this.
    pub to: Option<At<Literal>>,
    pub times: u32,
    pub delay: Duration,
    pub answer: Result<Reply, FailDef>,
}

/// An answer as it goes over the wire.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What is expected of a step. Nothing is compared where nothing is given.
#[derive(Default)]
pub struct Expect {
    pub records: Option<At<Vec<Expected>>>,
    pub some: Option<At<Vec<Expected>>>,
    pub requests: Option<At<Exchanges>>,
    pub reply: Option<At<Literal>>,
    pub delivered: Vec<(Arc<str>, At<Exchanges>)>,
    pub dead: Option<At<Vec<At<Literal>>>>,
    pub duplicate: Option<At<bool>>,
    pub outcome: Option<At<Outcome>>,
    pub error: Option<At<String>>,
}

/// An expected document.
pub struct Expected {
    pub document: At<Literal>,
    /// The file that it was read from, as the connector names it.
    pub file: Option<String>,
}

/// Expected requests.
pub enum Exchanges {
    Count(u64),
    List(Vec<At<Literal>>),
}

/// What is expected to become of what came in.
pub enum Outcome {
    All(&'static str),
    Counts(Vec<(&'static str, u64)>),
}

/// Why a test cannot be run.
pub struct Unfit {
    pub at: Loc,
    pub message: String,
    pub label: String,
}

/// Reads a test of a connector that compiles. `sources` gives its fixtures.
pub fn read(
    subject: &Arc<Subject>,
    file: &Arc<SourceFile>,
    test: &At<TestDef>,
    sources: &dyn Sources,
) -> Result<Case, Unfit> {
    let def = &test.value;
    let folder = file.path.parent().unwrap_or(Path::new(""));
    let stream = def.stream.value().map(|name| name.0.as_str());
    let reader = Reading { subject, folder, sources, stream };
    let steps = match def.step.value() {
        None => vec![reader.step(None, def.step_keys(), None)?],
        Some(steps) => {
            let numbered = steps.iter().enumerate();
            numbered
                .map(|(n, s)| reader.step(Some(n), s.value.step_keys(), Some(&s.value)))
                .collect::<Result<_, _>>()?
        }
    };
    let given = def.secrets.value().map_or(&[][..], |pairs| pairs.0.as_slice());
    let aliases = &subject.plan.secret_names;
    let looked_up = |name: &String| aliases.get(name).unwrap_or(name).clone();
    Ok(Case {
        file: Arc::clone(file),
        subject: Arc::clone(subject),
        secrets: given.iter().map(|(n, value)| (looked_up(n), value.value.0.clone())).collect(),
        now: def.now.value().and_then(|now| moment(&now.0)).unwrap_or(NOW),
        steps,
    })
}

struct Reading<'a> {
    subject: &'a Subject,
    folder: &'a Path,
    sources: &'a dyn Sources,
    stream: Option<&'a str>,
}

impl Reading<'_> {
    fn step(
        &self,
        index: Option<usize>,
        keys: StepKeys<'_>,
        step: Option<&StepDef>,
    ) -> Result<Step, Unfit> {
        let (at, input) = self.input(keys, step)?;
        Ok(Step {
            index,
            at,
            input,
            replies: self.replies(keys.replies)?,
            expect: self.expect(keys)?,
        })
    }

    fn input(&self, keys: StepKeys<'_>, step: Option<&StepDef>) -> Result<(Loc, Input), Unfit> {
        if let Some(given) = keys.given.get() {
            let mut records = Vec::new();
            for document in self.documents(&given.value)? {
                records.push(document.document.value.value());
            }
            let stream = Arc::clone(&self.stream_plan(given.key)?.name);
            return Ok((given.key, Input::Given { stream, records }));
        }
        if let Some(request) = keys.request.get() {
            return Ok((request.key, Input::Request(Box::new(self.webhook(&request.value)?))));
        }
        if let Some(responses) = keys.responses.get() {
            let stream = Arc::clone(&self.stream_plan(responses.key)?.name);
            let responses = self.canned(&responses.value)?;
            return Ok((
                keys.responses.key().unwrap_or_default(),
                Input::Poll { stream, responses },
            ));
        }
        if let Some(advance) = step.and_then(|step| step.advance.get()) {
            return Ok((advance.key, Input::Advance(advance.value.0)));
        }
        let at = step.and_then(|step| step.restart.key()).unwrap_or(keys.at);
        Ok((at, Input::Restart))
    }

    fn stream_plan(&self, at: Loc) -> Result<&Arc<StreamPlan>, Unfit> {
        let streams = &self.subject.plan.streams;
        let found = match self.stream {
            Some(name) => streams.iter().find(|stream| *stream.name == *name),
            None => streams.first(),
        };
        let missing = || unfit(at, "there is no such stream", "");
        found.ok_or_else(missing)
    }

    fn webhook(&self, def: &RequestDef) -> Result<Webhook, Unfit> {
        let streams = &self.subject.plan.streams;
        let named = self.stream.and_then(|name| streams.iter().find(|s| *s.name == *name));
        let path_of = |stream: &Arc<StreamPlan>| stream.webhook.as_ref().map(|w| w.path.clone());
        let own = named.and_then(path_of).or_else(|| streams.iter().find_map(path_of));
        let mut path = def.path.value().map(|path| path.0.clone()).or(own).unwrap_or_default();
        let query = def.query.value().map_or(&[][..], |pairs| pairs.0.as_slice());
        if !query.is_empty() {
            let mut text = url::form_urlencoded::Serializer::new(String::new());
            for (name, value) in query {
                for value in many(&value.value.0) {
                    text.append_pair(name, &document::text(value));
                }
            }
            path = format!("{path}?{}", text.finish());
        }
        let (body, is_json) = self.body(&def.body, &def.file)?;
        let mut headers = headers(&def.headers)?;
        if is_json || (!def.file.is_absent() && document::is_json(&body)) {
            say_json(&mut headers);
        }
        Ok(Webhook {
            method: method(def.method.value().copied().unwrap_or(MethodDef::Post)),
            path,
            headers,
            body,
            sign: def.sign.value().copied().unwrap_or(true),
        })
    }

    fn canned(&self, entries: &[At<AnswerEntry>]) -> Result<Vec<Canned>, Unfit> {
        entries.iter().map(|entry| self.answer(entry)).collect()
    }

    fn answer(&self, entry: &At<AnswerEntry>) -> Result<Canned, Unfit> {
        let plain = |reply| Canned {
            at: entry.key,
            to: None,
            times: 1,
            delay: Duration::ZERO,
            answer: Ok(reply),
        };
        Ok(match &entry.value {
            AnswerEntry::Status(status) => {
                plain(Reply { status: *status, headers: HeaderMap::new(), body: Bytes::new() })
            }
            AnswerEntry::File(file) => {
                let body = self.bytes(file, entry.at)?;
                let mut headers = HeaderMap::new();
                if document::is_json(&body) {
                    say_json(&mut headers);
                }
                plain(Reply { status: 200, headers, body })
            }
            AnswerEntry::Whole(def) => Canned {
                to: def.to.get().map(exchange),
                times: def.times.value().map_or(1, |int| int.0 as u32),
                delay: def.delay.value().map_or(Duration::ZERO, |span| span.0),
                answer: match def.fail.value() {
                    Some(fail) => Err(*fail),
                    None => Ok(self.reply(def)?),
                },
                ..plain(Reply { status: 200, headers: HeaderMap::new(), body: Bytes::new() })
            },
        })
    }

    fn reply(&self, def: &AnswerDef) -> Result<Reply, Unfit> {
        let (body, is_json) = self.body(&def.body, &def.file)?;
        let mut headers = headers(&def.headers)?;
        if is_json || (!def.file.is_absent() && document::is_json(&body)) {
            say_json(&mut headers);
        }
        Ok(Reply { status: def.status.value().map_or(200, |int| int.0 as u16), headers, body })
    }

    /// The bytes, and whether they are a document that was written here.
    fn body(
        &self,
        body: &Given<Literal>,
        file: &Given<crate::definition::kinds::Plain>,
    ) -> Result<(Bytes, bool), Unfit> {
        if let Some(file) = file.get() {
            return Ok((self.bytes(&file.value.0, file.at)?, false));
        }
        Ok(match body.value() {
            None => (Bytes::new(), false),
            Some(Literal::Constant(Value::String(text))) => (Bytes::from(text.clone()), false),
            Some(document) => (Bytes::from(document.value().to_string()), true),
        })
    }

    fn replies(
        &self,
        replies: &Given<RepliesDef>,
    ) -> Result<BTreeMap<Arc<str>, Vec<Canned>>, Unfit> {
        let mut all = BTreeMap::new();
        match replies.value() {
            None => {}
            Some(RepliesDef::List(list)) => {
                if let Some(name) = self.subject.only_http() {
                    all.insert(name, self.canned(list)?);
                }
            }
            Some(RepliesDef::By(by)) => {
                for (name, list) in &by.0 {
                    all.insert(Arc::from(name.as_str()), self.canned(&list.value)?);
                }
            }
        }
        Ok(all)
    }

    fn expect(&self, keys: StepKeys<'_>) -> Result<Expect, Unfit> {
        let records = |given: &Given<OneOrMany<DocumentDef>>| match given.get() {
            Some(many) => Ok(Some(moved(many, self.documents(&many.value)?))),
            None => Ok(None),
        };
        Ok(Expect {
            records: records(keys.expect)?,
            some: records(keys.expect_some)?,
            requests: keys.expect_requests.get().map(|all| moved(all, exchanges(&all.value))),
            reply: keys.expect_reply.get().map(|reply| match &reply.value {
                ReplyEntry::Status(status) => status_only(reply.at, reply.key, *status),
                ReplyEntry::Whole(def) => answered(def, reply.key),
            }),
            delivered: self.delivered(keys.expect_delivered),
            dead: keys
                .expect_dead
                .get()
                .map(|all| moved(all, all.value.0.iter().map(dead).collect())),
            duplicate: keys.expect_duplicate.get().cloned(),
            outcome: keys.expect_outcome.get().map(|outcome| {
                moved(
                    outcome,
                    match &outcome.value {
                        OutcomeEntry::All(word) => Outcome::All(word.word()),
                        OutcomeEntry::Counts(counts) => Outcome::Counts(counts.counts()),
                    },
                )
            }),
            error: keys.expect_error.get().map(|words| moved(words, words.value.0.clone())),
        })
    }

    fn delivered(&self, given: &Given<DeliveredDef>) -> Vec<(Arc<str>, At<Exchanges>)> {
        let Some(at) = given.get() else { return Vec::new() };
        match &at.value {
            DeliveredDef::To(all) => {
                // Only "none at all" may stand for several.
                let to = self.subject.destinations(self.stream);
                to.into_iter().map(|name| (name, moved(at, exchanges(all)))).collect()
            }
            DeliveredDef::By(by) => by
                .0
                .iter()
                .map(|(name, all)| (Arc::from(name.as_str()), moved(all, exchanges(&all.value))))
                .collect(),
        }
    }

    /// Documents, those of files in their place: a file may hold a list, or JSON lines.
    fn documents(&self, many: &OneOrMany<DocumentDef>) -> Result<Vec<Expected>, Unfit> {
        let mut all = Vec::new();
        for item in &many.0 {
            match &item.value {
                DocumentDef::Inline(literal) => {
                    all.push(Expected { document: moved(item, literal.clone()), file: None });
                }
                DocumentDef::File(name) => {
                    let bytes = self.bytes(name, item.at)?;
                    let records = document::records(name, &bytes)
                        .map_err(|problem| unfit(item.at, "the fixture is no JSON", &problem))?;
                    all.extend(records.iter().map(|record| Expected {
                        document: Literal::of(record, item.at),
                        file: Some(name.clone()),
                    }));
                }
            }
        }
        Ok(all)
    }

    fn bytes(&self, file: &str, at: Loc) -> Result<Bytes, Unfit> {
        let path = self.folder.join(file);
        let read = self.sources.read(&path);
        let missing =
            || unfit(at, "no such file, or no text", &format!("looked for `{}`", path.display()));
        read.map(|file| Bytes::copy_from_slice(file.text.as_bytes())).ok_or_else(missing)
    }
}

fn unfit(at: Loc, message: &str, label: &str) -> Unfit {
    Unfit { at, message: message.to_owned(), label: label.to_owned() }
}

fn moved<T, U>(from: &At<T>, value: U) -> At<U> {
    At { value, at: from.at, key: from.key }
}

fn many(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        one => std::slice::from_ref(one),
    }
}

fn say_json(headers: &mut HeaderMap) {
    let json = HeaderValue::from_static("application/json");
    headers.entry(http::header::CONTENT_TYPE).or_insert(json);
}

fn headers(given: &Given<Pairs<Prose>>) -> Result<HeaderMap, Unfit> {
    let mut headers = HeaderMap::new();
    for (name, value) in given.value().into_iter().flat_map(|pairs| &pairs.0) {
        let parsed = HeaderName::from_bytes(name.as_bytes()).ok();
        let text = HeaderValue::from_str(&value.value.0).ok();
        let (Some(name), Some(text)) = (parsed, text) else {
            return Err(unfit(value.at, "no header can hold this", "expected one line of text"));
        };
        headers.append(name, text);
    }
    Ok(headers)
}

fn method(def: MethodDef) -> Method {
    Method::from_bytes(def.word().as_bytes()).unwrap_or_default()
}

fn constant<T>(at: &At<T>, value: impl Into<Value>) -> At<Literal> {
    moved(at, Literal::Constant(value.into()))
}

/// The members that are there, in the order given.
fn facts(at: Loc, key: Loc, members: Vec<(&str, Option<At<Literal>>)>) -> At<Literal> {
    let there = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    At { value: Literal::Table(there.collect()), at, key }
}

/// Header names as they are compared: in lower case.
fn header_facts(given: &Given<Pairs<Prose>>) -> Option<At<Literal>> {
    let pairs = given.get()?;
    let one = |(name, value): &(String, At<Prose>)| {
        (name.to_ascii_lowercase(), constant(value, value.value.0.clone()))
    };
    Some(moved(pairs, Literal::Table(pairs.value.0.iter().map(one).collect())))
}

fn exchange(def: &At<ExchangeDef>) -> At<Literal> {
    let ExchangeDef { method, url, path, query, headers, body, attempts, .. } = &def.value;
    let text = |given: &Given<Prose>| given.get().map(|at| constant(at, at.value.0.clone()));
    let query = query.get().map(|pairs| {
        let parameters = pairs.value.0.iter().map(|(name, value)| {
            let texts: Vec<Value> =
                many(&value.value.0).iter().map(|v| document::text(v).into()).collect();
            let parameter = match (&value.value.0, texts.as_slice()) {
                (Value::Array(_), _) => Value::Array(texts),
                (_, [one]) => one.clone(),
                _ => Value::Null,
            };
            (name.clone(), Literal::of(&parameter, value.at))
        });
        moved(pairs, Literal::Table(parameters.collect()))
    });
    facts(
        def.at,
        def.key,
        vec![
            ("method", method.get().map(|at| constant(at, at.value.word()))),
            ("url", text(url)),
            ("path", text(path)),
            ("query", query),
            ("headers", header_facts(headers)),
            ("body", body.get().cloned()),
            ("attempts", attempts.get().map(|at| constant(at, at.value.0))),
        ],
    )
}

fn exchanges(def: &ExchangesDef) -> Exchanges {
    match def {
        ExchangesDef::Count(count) => Exchanges::Count(*count),
        ExchangesDef::List(list) => Exchanges::List(list.iter().map(exchange).collect()),
    }
}

fn status_only(at: Loc, key: Loc, status: u16) -> At<Literal> {
    let number = At { value: Literal::Constant(status.into()), at, key };
    facts(at, key, vec![("status", Some(number))])
}

fn answered(def: &AnsweredDef, key: Loc) -> At<Literal> {
    let status = def.status.get().map(|at| constant(at, at.value.0));
    let headers = header_facts(&def.headers);
    facts(
        def.at,
        key,
        vec![("status", status), ("headers", headers), ("body", def.body.get().cloned())],
    )
}

fn dead(entry: &At<DeadEntry>) -> At<Literal> {
    let whole = match &entry.value {
        DeadEntry::Reason(reason) => {
            let reason = constant(entry, reason.clone());
            return facts(entry.at, entry.key, vec![("reason", Some(reason))]);
        }
        DeadEntry::Whole(def) => def,
    };
    let DeadDef { reason, field, message, destination, status, attempts, .. } = &**whole;
    let text = |given: &Given<crate::definition::kinds::Plain>| {
        given.get().map(|at| constant(at, at.value.0.clone()))
    };
    facts(
        entry.at,
        entry.key,
        vec![
            ("reason", text(reason)),
            ("field", text(field)),
            ("message", text(message)),
            ("destination", text(destination)),
            ("status", status.get().map(|at| constant(at, at.value.0))),
            ("attempts", attempts.get().map(|at| constant(at, at.value.0))),
        ],
    )
}
