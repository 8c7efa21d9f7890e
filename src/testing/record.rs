//! From something real (a live poll, a captured webhook, an event of the daemon's history) to a test
//! with its fixtures, fit to be committed.
//!
//! What comes out is a text for the connector file and files beside it; nothing is written here.
//! Secrets and fields that the stream redacts never reach it, see `mask`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use http::{HeaderMap, Request};
use parking_lot::Mutex;
use serde_json::{Map, Value};

use super::{
    case, document,
    draft::{self, Draft, DraftInput},
    mask::Masker,
    rig,
    subject::Subject,
};
use crate::{
    auth::Authenticator,
    bus::{Bus as _, MemoryBus},
    diagnostic::SourceFile,
    egress::{Answer, Egress, EgressError, ExchangeLimits, Peer, Script},
    ingest::poll::{self, PollFailure, Poller},
    observe::redact::{MASK, raw_fields},
    plan::{self, ConnectorPlan, Sources, StreamPlan, VerifyPlan},
    world::{BoxFuture, Secret, Timestamp, World},
};

/// A poll of more requests is not a fixture but an export.
const MOST_REQUESTS: usize = 8;
/// Headers of an answer that say nothing to a connector, or too much to a reader.
const DULL_ANSWERS: &[&str] = &[
    "age",
    "cache-control",
    "connection",
    "content-length",
    "content-type",
    "date",
    "server",
    "set-cookie",
    "strict-transport-security",
    "transfer-encoding",
    "vary",
    "via",
];
/// Headers of a webhook that are the sender's machinery.
const DULL_REQUESTS: &[&str] = &[
    "accept",
    "accept-encoding",
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "forwarded",
    "host",
    "transfer-encoding",
    "user-agent",
];

/// Something real.
pub enum Source {
    /// The stream's poll, now: what its API was asked and answered. Records are all that was kept
    /// where it went on and on.
    Poll {
        /// Bodies and headers, in order; empty where the poll did not come to an end.
        answers: Vec<(Value, HeaderMap)>,
        /// The first records.
        records: Vec<Value>,
        /// The tokens that were got on the way: an answer may repeat them.
        tokens: Vec<Secret>,
    },
    /// A webhook as it was captured.
    Webhook(Box<Captured>),
    /// A record.
    Record(Value),
}

/// A captured request.
pub struct Captured {
    /// The HTTP method.
    pub method: String,
    /// With the query.
    pub path: String,
    /// All of them.
    pub headers: HeaderMap,
    /// As it came.
    pub body: Bytes,
}

/// What to write.
pub struct Recording {
    /// The connector file's new text.
    pub text: String,
    /// Fixtures, by path.
    pub files: BTreeMap<PathBuf, String>,
    /// The test's name.
    pub name: String,
    /// Values that got a pseudonym, and places where something secret was taken out.
    pub masked: usize,
}

/// How to record.
pub struct Options {
    /// The stream's name.
    pub stream: Arc<str>,
    /// The test's name, where somebody gave one.
    pub name: Option<String>,
    /// When it was.
    pub now: Timestamp,
    /// Values that must not appear.
    pub secrets: Vec<String>,
}

/// Runs a stream's poll over the network, once, and keeps what was said. Nothing is delivered, no
/// cursor of a daemon moves. Errors: the poll fails.
pub async fn poll(
    plan: &Arc<ConnectorPlan>,
    stream: &Arc<StreamPlan>,
    world: World,
    network: Egress,
    most_records: usize,
) -> Result<Source, String> {
    let rate = stream.poll.as_ref().map(|poll| poll.rate.as_slice()).unwrap_or_default();
    let recorder = Arc::new(Recorder { network, heard: Mutex::default() });
    let egress = Egress::scripted(Arc::clone(&recorder) as _);
    let bus = MemoryBus::new(Arc::clone(&world.clock));
    let auth = Authenticator::new(world.clone(), egress.for_peer(Peer::Issuer), bus.clone());
    let auth = Arc::new(auth);
    let poller = Poller {
        connector: Arc::clone(plan),
        stream: Arc::clone(stream),
        world,
        egress: egress.for_peer(Peer::Source(Arc::clone(&stream.name))),
        auth: Arc::clone(&auth),
        bus: bus.clone(),
        // What is heard is told again in the order of the requests.
        source: Arc::new(poll::Source::new(rate).in_order()),
        tenants: Arc::default(),
        skew: Arc::default(),
    };
    let ended = poller.run(&|_| {}).await;
    let heard = std::mem::take(&mut *recorder.heard.lock());
    if let Err((_, failure)) = ended
        && !heard.cut_off
    {
        let (PollFailure::Later { message, .. }
        | PollFailure::Held(message)
        | PollFailure::Failed(message)) = failure;
        return Err(message);
    }
    let page = bus.history(Timestamp(i64::MIN), Timestamp(i64::MAX), None);
    let events = page.map(|page| page.events).unwrap_or_default();
    let records =
        events.iter().take(most_records).map(|(_, event)| Value::clone(event.record.value()));
    let answers = if heard.cut_off { Vec::new() } else { heard.answers };
    let tokens = auth.handed_out(&plan.name);
    Ok(Source::Poll { answers, records: records.collect(), tokens })
}

/// Asks the network and listens.
struct Recorder {
    network: Egress,
    heard: Mutex<Heard>,
}

#[derive(Default)]
struct Heard {
    answers: Vec<(Value, HeaderMap)>,
    requests: usize,
    cut_off: bool,
}

impl Script for Recorder {
    fn answer(
        &self,
        peer: &Peer,
        request: Request<Bytes>,
        limits: ExchangeLimits,
    ) -> BoxFuture<'_, Result<Answer, EgressError>> {
        let is_source = matches!(peer, Peer::Source(_));
        Box::pin(async move {
            if is_source {
                let mut heard = self.heard.lock();
                heard.requests += 1;
                if heard.requests > MOST_REQUESTS {
                    heard.cut_off = true;
                    let enough = "enough was recorded".to_owned();
                    // Final: a poll tries again what may pass.
                    return Err(EgressError::BadUrl(enough));
                }
            }
            let answer = self.network.send(request, limits).await?;
            // What was refused was asked for again.
            if is_source && answer.status.is_success() {
                let body = document::body(&answer.body).unwrap_or(Value::Null);
                self.heard.lock().answers.push((body, answer.headers.clone()));
            }
            Ok(answer)
        })
    }
}

/// The request that a text holds: a request line, headers, an empty line, the body. `None` where it
/// does not begin like one.
pub fn captured(text: &[u8]) -> Option<Captured> {
    let end = text.windows(2).position(|two| two == b"\n\n").map(|at| (at, 2));
    let crlf = text.windows(4).position(|four| four == b"\r\n\r\n").map(|at| (at, 4));
    let (end, skip) = match (end, crlf) {
        (Some(lf), Some(crlf)) => lf.min(crlf),
        (lf, crlf) => lf.or(crlf).unwrap_or((text.len(), 0)),
    };
    let head = std::str::from_utf8(&text[..end]).ok()?;
    let mut lines = head.lines();
    let mut first = lines.next()?.split_whitespace();
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    if !path.starts_with('/') || http::Method::from_bytes(method.as_bytes()).is_err() {
        return None;
    }
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':')?;
        let name = http::HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
        headers.append(name, value.trim().parse().ok()?);
    }
    let body = Bytes::copy_from_slice(&text[(end + skip).min(text.len())..]);
    Some(Captured { method, path, headers, body })
}

/// Makes a test of it: masks, names files that do not exist yet, runs it, and expects what comes.
/// Errors: one line for a person.
pub fn recording(
    root: &Path,
    file: &SourceFile,
    plan: &ConnectorPlan,
    source: Source,
    options: &Options,
    sources: &(dyn Sources + Sync),
) -> Result<Recording, String> {
    let fields: Vec<String> = plan.streams.iter().flat_map(|stream| raw_fields(stream)).collect();
    let mut secrets = options.secrets.clone();
    if let Source::Poll { tokens, .. } = &source {
        secrets.extend(tokens.iter().map(|token| token.expose().to_owned()));
    }
    let mut masker = Masker::new(secrets, &fields);
    let name = options.name.clone().unwrap_or_else(|| default_name(&source, options));
    let mut shelf = Shelf::new(&file.path, &name, sources);
    let stream = plan.streams.iter().find(|stream| stream.name == options.stream);
    let stream = stream.ok_or_else(|| format!("there is no stream `{}`", options.stream))?;
    let input = input(source, stream, &mut masker, &mut shelf)?;
    let several = plan.streams.len() > 1;
    let draft = Draft {
        name: name.clone(),
        stream: several.then(|| options.stream.to_string()),
        now: options.now,
        input,
    };
    let odd = || format!("{}: its tests are not written as [[test]]", file.path.display());
    let text = draft::append(&file.text, &draft).ok_or_else(odd)?;
    let seen = tried(root, &file.path, &text, &shelf)?;
    let records_file = shelf.free("expected");
    let (text, expected) = draft::expect(&text, &seen, &records_file).ok_or_else(odd)?;
    if let Some(expected) = expected {
        shelf.put(&records_file, &expected);
    }
    // What was redacted before it came here counts as well: a person looks for both.
    let redacted: usize = shelf.files.values().map(|text| text.matches(MASK).count()).sum();
    Ok(Recording { text, files: shelf.files, name, masked: masker.count() + redacted })
}

fn default_name(source: &Source, options: &Options) -> String {
    let what = match source {
        Source::Poll { .. } => "a poll",
        Source::Webhook(_) => "a webhook",
        Source::Record(_) => "a record",
    };
    let day = options.now.rfc3339();
    format!("{what} of {}, recorded {}", options.stream, &day[..10.min(day.len())])
}

fn input(
    source: Source,
    stream: &StreamPlan,
    masker: &mut Masker,
    shelf: &mut Shelf<'_>,
) -> Result<DraftInput, String> {
    Ok(match source {
        Source::Poll { answers, .. } if !answers.is_empty() => {
            let (mut bodies, headers): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
            masker.documents(&mut bodies);
            let files = bodies
                .iter()
                .zip(&headers)
                .map(|(body, headers)| (shelf.add(body), kept(headers, DULL_ANSWERS, &[], masker)));
            DraftInput::Responses(files.collect())
        }
        Source::Poll { mut records, .. } => {
            if records.is_empty() {
                return Err("the poll found no records".to_owned());
            }
            masker.documents(&mut records);
            let one_or_all =
                if records.len() == 1 { records.remove(0) } else { Value::Array(records) };
            DraftInput::Given(shelf.add(&one_or_all))
        }
        Source::Record(record) => {
            let mut records = [record];
            masker.documents(&mut records);
            DraftInput::Given(shelf.add(&records[0]))
        }
        Source::Webhook(captured) => DraftInput::Request(request(*captured, stream, masker, shelf)),
    })
}

/// A webhook's keys: only what is not the stream's own anyway. It is signed anew, since what was
/// signed is masked.
fn request(
    captured: Captured,
    stream: &StreamPlan,
    masker: &mut Masker,
    shelf: &mut Shelf<'_>,
) -> Map<String, Value> {
    let Captured { method, path, headers, body } = captured;
    let mut keys = Map::new();
    let (path, query) = path.split_once('?').unwrap_or((&path, ""));
    let hook = stream.webhook.as_ref();
    if method != "POST" {
        keys.insert("method".to_owned(), method.into());
    }
    if hook.is_none_or(|hook| hook.path != path) {
        keys.insert("path".to_owned(), masker.text(path).into());
    }
    let mut bodies = [document::body(&body).unwrap_or(Value::Null), document::query(query)];
    masker.documents(&mut bodies);
    let [body, query] = bodies;
    if query != Value::Object(Map::new()) {
        keys.insert("query".to_owned(), query);
    }
    let signed = hook.map(|hook| signature_headers(&hook.verify)).unwrap_or_default();
    let mut headers = kept(&headers, DULL_REQUESTS, &signed, masker);
    if headers.get("content-type").is_some_and(|kind| kind == "application/json") {
        headers.remove("content-type");
    }
    if !headers.is_empty() {
        keys.insert("headers".to_owned(), Value::Object(headers));
    }
    match body {
        Value::Null => {}
        Value::String(text) => {
            keys.insert("body".to_owned(), text.into());
        }
        document => {
            keys.insert("file".to_owned(), shelf.add(&document).into());
        }
    }
    keys
}

fn signature_headers(verify: &VerifyPlan) -> Vec<&str> {
    let signature = verify.signature.as_ref().and_then(|signature| signature.at.place.header());
    let timestamp = verify.timestamp.as_ref().and_then(|timestamp| timestamp.at.place.header());
    signature.into_iter().chain(timestamp).collect()
}

/// Headers that may matter, without what must not be seen.
fn kept(headers: &HeaderMap, dull: &[&str], also: &[&str], masker: &Masker) -> Map<String, Value> {
    let Value::Object(all) = document::headers(headers) else { return Map::new() };
    let matters = |name: &str| !dull.contains(&name) && !also.contains(&name);
    let kept = all.into_iter().filter(|(name, _)| matters(name));
    kept.map(|(name, value)| (name, masker.text(value.as_str().unwrap_or_default()).into()))
        .collect()
}

/// Files that do not exist yet, beside those that do.
struct Shelf<'s> {
    folder: PathBuf,
    stem: String,
    sources: &'s (dyn Sources + Sync),
    files: BTreeMap<PathBuf, String>,
}

impl<'s> Shelf<'s> {
    fn new(connector: &Path, name: &str, sources: &'s (dyn Sources + Sync)) -> Self {
        let folder = connector.parent().unwrap_or(Path::new("")).to_owned();
        Self { folder, stem: slug(name), sources, files: BTreeMap::new() }
    }

    fn is_taken(&self, file: &str) -> bool {
        let path = self.folder.join(file);
        self.files.contains_key(&path) || self.sources.exists(&path)
    }

    /// A name that is not taken: `fixtures/a-poll-of-orders.expected.json`.
    fn free(&self, kind: &str) -> String {
        let kind = if kind.is_empty() { String::new() } else { format!(".{kind}") };
        let first = format!("fixtures/{}{kind}.json", self.stem);
        let mut name = first;
        let mut number = 1;
        while self.is_taken(&name) {
            number += 1;
            name = format!("fixtures/{}-{number}{kind}.json", self.stem);
        }
        name
    }

    fn put(&mut self, file: &str, document: &Value) {
        let text = serde_json::to_string_pretty(document).unwrap_or_default();
        self.files.insert(self.folder.join(file), text + "\n");
    }

    fn add(&mut self, document: &Value) -> String {
        let file = self.free("");
        self.put(&file, document);
        file
    }
}

/// Lower-case words with dashes.
fn slug(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect();
    let words: Vec<&str> = plain.split('-').filter(|word| !word.is_empty()).collect();
    let slug = words.join("-");
    if slug.is_empty() { "recorded".to_owned() } else { slug.chars().take(60).collect() }
}

/// Files that are not written yet, over those that are.
struct Overlay<'o> {
    files: BTreeMap<PathBuf, String>,
    under: &'o (dyn Sources + Sync),
}

impl Sources for Overlay<'_> {
    fn read(&self, path: &Path) -> Option<Arc<SourceFile>> {
        match self.files.get(path) {
            Some(text) => Some(Arc::new(SourceFile { path: path.to_owned(), text: text.clone() })),
            None => self.under.read(path),
        }
    }
}

/// What comes of the last test of the file.
fn tried(
    root: &Path,
    path: &Path,
    text: &str,
    shelf: &Shelf<'_>,
) -> Result<super::observe::Observed, String> {
    let mut files = shelf.files.clone();
    files.insert(path.to_owned(), text.to_owned());
    let overlay = Overlay { files, under: shelf.sources };
    let written = plan::read(root, path, &overlay);
    let broken = || "the recorded test does not compile".to_owned();
    let plan = written.plan.as_ref().ok_or_else(broken)?;
    let subject = Arc::new(Subject::new(plan, written.body())?);
    let test = written.own.test.value().and_then(|tests| tests.last()).ok_or_else(broken)?;
    let file = written.texts.first().ok_or_else(broken)?;
    let case = case::read(&subject, file, test, &overlay).map_err(|unfit| unfit.message)?;
    let mut seen = None;
    rig::run(&case, &mut |_, observed| seen = Some(observed))?;
    let seen = seen.ok_or_else(broken)?;
    match seen.poll.as_ref().and_then(|poll| poll.error.as_ref()) {
        Some(error) => Err(format!("what was recorded cannot be read again: {error}")),
        None => Ok(seen),
    }
}
