//! The peers of a test: they answer what the case says, and remember what they were asked.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::sync::Notify;

use super::{
    case::{Canned, Reply},
    diff::{Rule, diff},
    document,
};
use crate::{
    definition::{table::Loc, test::FailDef},
    egress::{Answer, EgressError, ExchangeLimits, Peer, Script},
    ingest::webhook::test_keys,
    world::BoxFuture,
};

/// All peers of one case.
#[derive(Default)]
pub struct Stage {
    state: Mutex<State>,
    /// Something was asked or answered.
    changed: Notify,
    crashed: Notify,
    /// What an issuer of tokens answers that nobody scripted.
    token: String,
}

#[derive(Default)]
struct State {
    /// Counts steps; what happens is noted under it.
    step: usize,
    responses: Vec<Slot>,
    replies: BTreeMap<Arc<str>, Vec<Slot>>,
    seen: Vec<Seen>,
}

/// A scripted answer, and how often it may still be given.
struct Slot {
    canned: Canned,
    left: u32,
}

/// A request, and what came of it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub peer: Peer,
    pub method: Method,
    pub url: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// In which step it was asked.
    pub asked_in: usize,
    /// In which step it was answered, and how.
    pub answered: Option<(usize, Answered)>,
}

/// How a request was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answered {
    Status(u16),
    Failed(EgressError),
    /// The daemon died.
    Crash,
    /// Nothing is scripted for it.
    Unscripted,
}

impl Stage {
    /// Peers of whom the issuer of tokens answers this where nobody scripted it.
    pub fn issuing(token: String) -> Self {
        Self { token, ..Self::default() }
    }

    /// Begins a step with what its peers answer. Destinations go on with what an earlier step left
    /// unused; a poll does not, since it ended with its step.
    pub fn begin(
        &self,
        step: usize,
        responses: &[Canned],
        replies: &BTreeMap<Arc<str>, Vec<Canned>>,
    ) {
        let slots = |canned: &[Canned]| canned.iter().map(Slot::new).collect::<Vec<_>>();
        let mut state = self.state.lock();
        state.step = step;
        state.responses = slots(responses);
        for (name, canned) in replies {
            state.replies.entry(Arc::clone(name)).or_default().extend(slots(canned));
        }
    }

    /// The places of answers that nobody asked for; those of destinations only at the end of the
    /// case.
    pub fn unused(&self, last: bool) -> Vec<Loc> {
        let state = self.state.lock();
        let replies = state.replies.values().flatten().filter(|_| last);
        let slots = state.responses.iter().chain(replies);
        slots.filter(|slot| slot.left == slot.canned.times).map(|slot| slot.canned.at).collect()
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().seen.clone()
    }

    /// Completes when something was asked or answered since this was last called.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Completes when a request kills the daemon.
    pub async fn crashed(&self) {
        self.crashed.notified().await;
    }

    fn note(&self, peer: &Peer, request: Request<Bytes>) -> (usize, Seen) {
        let (head, body) = request.into_parts();
        let mut state = self.state.lock();
        let seen = Seen {
            peer: peer.clone(),
            method: head.method,
            url: head.uri.to_string(),
            headers: head.headers,
            body,
            asked_in: state.step,
            answered: None,
        };
        state.seen.push(seen.clone());
        (state.seen.len() - 1, seen)
    }

    fn answered(&self, number: usize, how: Answered) {
        let mut state = self.state.lock();
        let step = state.step;
        if let Some(seen) = state.seen.get_mut(number) {
            seen.answered = Some((step, how));
        }
        drop(state);
        self.changed.notify_one();
    }

    /// The next answer for a request.
    fn next(&self, seen: &Seen) -> Option<Canned> {
        let mut state = self.state.lock();
        let State { responses, replies, .. } = &mut *state;
        match &seen.peer {
            Peer::Source(_) => take(responses, seen, false),
            Peer::Destination(name) => match replies.get_mut(name) {
                Some(slots) => take(slots, seen, false).or_else(|| Some(Canned::plain(200, ""))),
                None => Some(Canned::plain(200, "")),
            },
            Peer::Issuer => {
                let scripted = take(responses, seen, true)
                    .or_else(|| replies.values_mut().find_map(|slots| take(slots, seen, true)));
                scripted.or_else(|| Some(Canned::plain(200, self.token.clone())))
            }
            Peer::Keys => {
                let scripted = replies.values_mut().find_map(|slots| take(slots, seen, true));
                scripted.or_else(|| Some(Canned::plain(200, test_keys().to_string())))
            }
        }
    }

    async fn play(&self, number: usize, seen: Seen) -> Result<Answer, EgressError> {
        let Some(canned) = self.next(&seen) else {
            self.answered(number, Answered::Unscripted);
            return Err(EgressError::Connect("no answer is scripted for this request".to_owned()));
        };
        if !canned.delay.is_zero() {
            tokio::time::sleep(canned.delay).await;
        }
        let error = match canned.answer {
            Ok(reply) => {
                self.answered(number, Answered::Status(reply.status));
                return Ok(reply.into());
            }
            Err(FailDef::Crash) => {
                self.answered(number, Answered::Crash);
                self.crashed.notify_one();
                return std::future::pending().await;
            }
            Err(FailDef::Timeout) => {
                self.answered(number, Answered::Failed(EgressError::Timeout));
                return std::future::pending().await;
            }
            Err(FailDef::Refused) => EgressError::Connect("connection refused".to_owned()),
            Err(FailDef::Broken) => EgressError::Broken("closed by the peer".to_owned()),
            Err(FailDef::Dns) => EgressError::Dns("no such name".to_owned()),
        };
        self.answered(number, Answered::Failed(error.clone()));
        Err(error)
    }
}

impl Script for Stage {
    fn answer(
        &self,
        peer: &Peer,
        request: Request<Bytes>,
        _limits: ExchangeLimits,
    ) -> BoxFuture<'_, Result<Answer, EgressError>> {
        let (number, seen) = self.note(peer, request);
        self.changed.notify_one();
        Box::pin(self.play(number, seen))
    }
}

/// The first that is meant for this very request, else the first that is for any.
fn take(slots: &mut [Slot], seen: &Seen, only_meant: bool) -> Option<Canned> {
    let facts = OnceLock::new();
    let is_meant = |slot: &Slot| {
        slot.canned
            .to
            .as_ref()
            .is_some_and(|to| diff(Rule::Facts, to, facts.get_or_init(|| seen.facts())).is_empty())
    };
    let meant = slots.iter().position(|slot| slot.left > 0 && is_meant(slot));
    let any = || slots.iter().position(|slot| slot.left > 0 && slot.canned.to.is_none());
    let chosen = meant.or_else(|| if only_meant { None } else { any() })?;
    let slot = slots.get_mut(chosen)?;
    slot.left -= 1;
    Some(slot.canned.clone())
}

impl Slot {
    fn new(canned: &Canned) -> Self {
        Self { canned: canned.clone(), left: canned.times }
    }
}

impl Canned {
    fn plain(status: u16, body: impl Into<Bytes>) -> Self {
        let reply = Reply { status, headers: HeaderMap::new(), body: body.into() };
        Self { at: Loc::default(), to: None, times: 1, delay: Duration::ZERO, answer: Ok(reply) }
    }
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::OK);
        Self { status, headers: reply.headers, body: reply.body }
    }
}

impl Seen {
    /// The request as expectations are compared with it.
    pub fn facts(&self) -> Value {
        let mut facts = Map::new();
        let parsed = url::Url::parse(&self.url).ok();
        facts.insert("method".to_owned(), self.method.as_str().into());
        facts.insert("url".to_owned(), self.url.as_str().into());
        if let Some(url) = &parsed {
            facts.insert("path".to_owned(), url.path().into());
            facts.insert("query".to_owned(), document::query(url.query().unwrap_or_default()));
        }
        facts.insert("headers".to_owned(), document::headers(&self.headers));
        if let Some(body) = document::body(&self.body) {
            facts.insert("body".to_owned(), body);
        }
        Value::Object(facts)
    }

    /// The event that it delivers, or the batch by its key.
    pub fn subject(&self) -> Option<&str> {
        let header = |name| self.headers.get(name)?.to_str().ok();
        header("x-tenon-event").or_else(|| header("idempotency-key"))
    }

    /// `GET https://api.example/orders?page=1`.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.url)
    }
}

impl std::fmt::Display for Answered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "{status}"),
            Self::Failed(error) => error.fmt(f),
            Self::Crash => f.write_str("the daemon was killed"),
            Self::Unscripted => f.write_str("no answer is scripted for it"),
        }
    }
}
