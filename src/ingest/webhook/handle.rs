//! One request, top to bottom: the order of work that the module promises.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, header::HOST, request::Parts};
use hyper::body::Body;
use serde_json::Value;

use super::{
    answer::{self, Answer, Refusal},
    body::{self, Held},
    challenge::may_be,
    decode::{DecodeLimits, decode},
    fetch::FetchProblem,
    jwt,
    locate::Look,
    once::{self, Taken},
    public::PublicKey,
    routes::{Endpoint, Group, LiveKeys, SecretProblem},
    server::WebhookServer,
    stale::look_again,
    verify::{Keyring, Reject, RequestParts, VerifiedBody, verify},
};
use crate::{
    bus::{Accepted, Append, AppendError, NewEvent},
    event::{EventId, Origin, Record},
    ingest::naming::{Incoming, name_event},
    map::Env,
    plan::{Algorithm, ChallengePlan, StreamPlan},
    world::Timestamp,
};

/// A request that got no 2xx: what the producer sees, and what the log gets besides.
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    pub(super) endpoint: Option<Arc<Endpoint>>,
    /// For the operator; no values, no secrets.
    pub(super) detail: String,
}

impl Refused {
    pub(super) fn at(
        endpoint: &Arc<Endpoint>,
        refusal: Refusal,
        detail: impl Into<String>,
    ) -> Self {
        Self { refusal, endpoint: Some(Arc::clone(endpoint)), detail: detail.into() }
    }
}

/// The events that one body holds.
#[derive(Default)]
struct Named {
    events: Vec<NewEvent>,
    /// Records that no stream's `when` took.
    unmatched: u64,
    /// Whether an `events` path split the body.
    split: bool,
}

impl WebhookServer {
    /// Limit → raw bytes → verify → decode → append → answer.
    pub(super) async fn take_in<B>(&self, request: Request<B>) -> Result<Answer, Refused>
    where
        B: Body<Data = Bytes>,
    {
        let (head, body) = request.into_parts();
        let endpoint = self.endpoint_of(&head)?;
        let refused = |refusal| Refused::at(&endpoint, refusal, "");
        let mut held = Held::of(&self.in_flight_bytes);
        let raw = body::read(
            &head.headers,
            body,
            endpoint.max_body_bytes,
            self.limits.body_timeout,
            &mut held,
        )
        .await
        .map_err(refused)?;

        let now = self.world.clock.now();
        let url = if endpoint.needs_url { self.url_of(&endpoint, &head)? } else { String::new() };
        let parts = RequestParts { method: &head.method, url: &url, headers: &head.headers };
        if let Some(answer) = self.greet(&endpoint, &parts, &head, now).await? {
            return Ok(answer);
        }
        let verified = self.believe(&endpoint, &parts, raw, now).await?;
        let body = endpoint.hook.verify.once.as_ref().map(|_| verified.bytes().clone());

        let limits = DecodeLimits {
            max_body_bytes: endpoint.max_body_bytes,
            max_json_depth: self.limits.max_json_depth,
        };
        let record = decode(verified, &head.headers, limits, &mut held).map_err(refused)?;
        let mut env = endpoint.env();
        if let Some(request) = endpoint.request.document(&parts, &head.uri, &record) {
            env = env.with("request", request);
        }
        check_required(&endpoint, &env)?;
        if let Some(answer) = self.challenge(&endpoint, (&env, &head.method), true, now).await? {
            return Ok(answer);
        }
        let taken = match &body {
            Some(body) => self.take_once(&endpoint, &env, body, now)?,
            None => Taken::default(),
        };
        let appended = match name_all(&endpoint, &head, record, env, now) {
            Ok(named) => self.append(&endpoint, named, &taken).await,
            Err(refused) => Err(refused),
        };
        if appended.is_err() {
            endpoint.once.give_back(&taken);
        }
        appended
    }

    /// The answer to a handshake that its provider does not sign; nothing of the body is looked at.
    async fn greet(
        &self,
        endpoint: &Arc<Endpoint>,
        parts: &RequestParts<'_>,
        head: &Parts,
        now: Timestamp,
    ) -> Result<Option<Answer>, Refused> {
        let may_greet =
            |challenge: &ChallengePlan| !challenge.verified && may_be(challenge, &head.method);
        if endpoint.hook.verify.challenges.iter().any(may_greet) {
            let nothing = Record::from_value(Value::Null);
            let mut env = endpoint.env();
            if let Some(request) = endpoint.request.document(parts, &head.uri, &nothing) {
                env = env.with("request", request);
            }
            if let Some(answer) = self.challenge(endpoint, (&env, &head.method), false, now).await?
            {
                return Ok(Some(answer));
            }
        }
        if endpoint.methods.contains(&head.method) {
            return Ok(None);
        }
        let takes_it = |challenge: &ChallengePlan| {
            challenge.verified && challenge.method.as_ref() == Some(&head.method)
        };
        if endpoint.hook.verify.challenges.iter().any(takes_it) {
            return Ok(None);
        }
        Err(Refused::at(endpoint, Refusal::MethodNotAllowed(endpoint.allow()), ""))
    }

    /// A value that is good for one body.
    fn take_once(
        &self,
        endpoint: &Arc<Endpoint>,
        env: &Env,
        body: &Bytes,
        now: Timestamp,
    ) -> Result<Taken, Refused> {
        let plan = &endpoint.hook.verify;
        let Some(value) = &plan.once else { return Ok(Taken::default()) };
        let value = value.text(env).map_err(|e| unmet(endpoint, &e.to_string()))?;
        let value =
            value.filter(|value| !value.is_empty()).ok_or_else(|| unmet(endpoint, "once"))?;
        // A request that is accepted now has a timestamp of `future` from now at most, and is
        // accepted until `past` after that.
        let kept = plan.timestamp.as_ref().map(|t| t.past + t.future).unwrap_or_default();
        let place = (&*endpoint.connector.name, endpoint.hook.path.as_str());
        let taken = endpoint.once.take(&*self.bus, place, &value, body, (now, now.plus(kept)));
        taken.map_err(|refused| match refused {
            once::Refused::OtherBody => unmet(endpoint, "replayed_with_another_body"),
            once::Refused::Full => {
                Refused::at(endpoint, Refusal::Busy, "too many values of `once`")
            }
        })
    }

    fn endpoint_of(&self, head: &Parts) -> Result<Arc<Endpoint>, Refused> {
        let Some(endpoint) = self.routes.load().find(head.uri.path()) else {
            let (refusal, detail) = (Refusal::NotFound, String::new());
            return Err(Refused { refusal, endpoint: None, detail });
        };
        if !endpoint.takes(&head.method) {
            let refusal = Refusal::MethodNotAllowed(endpoint.allow());
            return Err(Refused::at(&endpoint, refusal, ""));
        }
        Ok(endpoint)
    }

    /// The URL as the producer called it: the webhook's `url`, or under `public_url` where the
    /// operator gave one, else as far as this socket can know it.
    fn url_of(&self, endpoint: &Arc<Endpoint>, head: &Parts) -> Result<String, Refused> {
        if let Some(url) = &endpoint.hook.url {
            let url = url.secret(&endpoint.secret_env(&self.world.secrets));
            let url = url.map_err(|e| Refused::at(endpoint, Refusal::NoSecret, e.to_string()))?;
            let base = url.expose().split(['?', '#']).next().unwrap_or_default();
            let query = head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
            return Ok(format!("{base}{query}"));
        }
        let rest = head.uri.path_and_query().map_or("/", |rest| rest.as_str());
        if let Some(public) = &self.limits.public_url {
            return Ok(format!("{}{rest}", public.trim_end_matches('/')));
        }
        let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
        let host = host.or(head.uri.host()).unwrap_or_default();
        Ok(format!("http://{host}{rest}"))
    }

    /// The route's keys, looked up a second ago at most.
    pub(super) fn live_keys(
        &self,
        endpoint: &Arc<Endpoint>,
        now: Timestamp,
    ) -> Result<Arc<LiveKeys>, Refused> {
        let note = |problem: &SecretProblem| self.note_secret(endpoint, problem, now);
        endpoint
            .keys(&self.world.secrets, now, note)
            .map_err(|problem| Refused::at(endpoint, Refusal::NoSecret, problem.to_string()))
    }

    /// The public keys that may have signed, where the scheme fetches them.
    async fn fetched_keys(
        &self,
        endpoint: &Arc<Endpoint>,
        parts: &RequestParts<'_>,
        raw: &super::RawBody,
        now: Timestamp,
    ) -> Result<Arc<Vec<PublicKey>>, Refused> {
        let plan = &endpoint.hook.verify;
        let Some(keys) = &plan.keys else { return Ok(Arc::default()) };
        let rejected = |reject: Reject| unmet(endpoint, reject.word());
        let look = Look::new(plan, parts, raw.unverified()).map_err(rejected)?;
        let kid = jwt::kid(plan, &look).map_err(rejected)?;
        let env = endpoint.secret_env(&self.world.secrets).with("request", look.request());
        // Boxed: what is rarely asked for would make each request's future larger.
        let asking = endpoint.shelf.keys(keys, kid.as_deref(), env, &self.egress, now);
        let found = Box::pin(asking).await;
        found.map_err(|problem| match problem {
            FetchProblem::Reject(reject) => rejected(reject),
            FetchProblem::Unavailable(why) => Refused::at(endpoint, Refusal::NoSecret, why),
        })
    }

    /// From raw to verified.
    async fn believe(
        &self,
        endpoint: &Arc<Endpoint>,
        parts: &RequestParts<'_>,
        raw: super::RawBody,
        now: Timestamp,
    ) -> Result<VerifiedBody, Refused> {
        let plan = &endpoint.hook.verify;
        let fetched = self.fetched_keys(endpoint, parts, &raw, now).await?;
        let live = if plan.needs_secret() { Some(self.live_keys(endpoint, now)?) } else { None };
        let keys = live.as_ref().map_or(&[][..], |live| &live.keys);
        let ring = Keyring { keys, fetched: &fetched };
        let body = raw.unverified().clone();
        let (connector, stream) = (&endpoint.connector.name, &endpoint.label);
        match verify(plan, ring, parts, raw, now) {
            Ok(verified) => {
                if let Some(at) = verified.signed_at() {
                    self.observer.signed(connector, stream, at, now, false);
                }
                Ok(verified)
            }
            Err(reject) => {
                let mut told = self.told(endpoint, reject);
                if matches!(reject, Reject::TooOld | Reject::TooNew)
                    && let Some(stale) = look_again(plan, ring, parts, &body, now)
                {
                    told = format!("{told}: {}", stale.text(now));
                    if stale.genuine {
                        self.observer.signed(connector, stream, stale.at, now, true);
                    }
                }
                let basic = plan.algorithm == Algorithm::Basic;
                let refusal = Refusal::BadSignature { status: plan.on_fail, basic };
                Err(Refused::at(endpoint, refusal, told))
            }
        }
    }

    /// Why a request is not believed, for the operator.
    fn told(&self, endpoint: &Endpoint, reject: Reject) -> String {
        let hook = &endpoint.hook;
        let is_guessed = hook.url.is_none() && self.limits.public_url.is_none();
        if reject == Reject::Mismatch && hook.verify.needs_url() && is_guessed {
            return "mismatch; the URL is signed, and was taken from the Host header: set the \
                    webhook's `url`, or `public_url` in tenon.toml"
                .to_owned();
        }
        reject.word().to_owned()
    }

    /// All events of the request in one atomic record; answered once it is durable.
    async fn append(
        &self,
        endpoint: &Arc<Endpoint>,
        named: Named,
        taken: &Taken,
    ) -> Result<Answer, Refused> {
        let connector = &endpoint.connector.name;
        let Named { events, unmatched, split } = named;
        if unmatched > 0 {
            self.observer.counted(connector, &endpoint.label, "unmatched", unmatched);
        }
        let ids: Vec<EventId> = events.iter().map(|new| new.event.id).collect();
        if !events.is_empty() || !taken.state.is_empty() {
            let streams: Vec<_> = events.iter().map(|new| Arc::clone(&new.event.stream)).collect();
            let refused = |error| Refused::at(endpoint, Refusal::from(&error), describe(&error));
            let now = self.world.clock.now();
            self.limits.tenants.admit(&*self.bus, &events, now).map_err(refused)?;
            let append = Append { events, state: taken.state.clone() };
            let accepted = self.bus.append(append).await.map_err(refused)?;
            for ((stream, id), accepted) in streams.iter().zip(&ids).zip(accepted) {
                let outcome = match accepted {
                    Accepted::New(_) => "accepted",
                    Accepted::Duplicate => "duplicate",
                };
                self.observer.counted(connector, stream, outcome, 1);
                tracing::debug!(event = %id, %connector, %stream, outcome, "webhook");
            }
        }
        Ok(answer::accepted(&ids, split, endpoint.reply()))
    }
}

fn describe(error: &AppendError) -> String {
    match error {
        AppendError::Full { what, .. } => format!("full: {what}"),
        AppendError::Budget { .. } => error.to_string(),
        AppendError::Unavailable(why) => format!("the bus is unavailable: {why}"),
        AppendError::TooLarge { bytes, limit_bytes } => {
            format!("the events take {bytes} bytes, a record may hold {limit_bytes}")
        }
        AppendError::Closed => "the bus is closed".to_owned(),
    }
}

/// What the scheme wants of a request besides a signature.
fn check_required(endpoint: &Arc<Endpoint>, env: &Env) -> Result<(), Refused> {
    let Some(require) = &endpoint.hook.verify.require else { return Ok(()) };
    match require.test(env) {
        Ok(true) => Ok(()),
        Ok(false) => Err(unmet(endpoint, "require")),
        Err(error) => Err(unmet(endpoint, &error.to_string())),
    }
}

/// A request that is not believed for a reason besides its signature.
fn unmet(endpoint: &Arc<Endpoint>, why: &str) -> Refused {
    let plan = &endpoint.hook.verify;
    let basic = plan.algorithm == Algorithm::Basic;
    Refused::at(endpoint, Refusal::BadSignature { status: plan.on_fail, basic }, why)
}

/// Every event of the body, or a refusal of the whole: of a batch nothing is taken while one of
/// its events has no name, because the producer could not tell which one was lost.
fn name_all(
    endpoint: &Arc<Endpoint>,
    head: &Parts,
    body: Record,
    env: Env,
    now: Timestamp,
) -> Result<Named, Refused> {
    let mut named = Named::default();
    for group in &endpoint.groups {
        let Some(events) = &group.events else {
            let incoming = incoming(body.clone(), &env, head, now);
            name_record(endpoint, group, &head.method, incoming, &mut named)?;
            continue;
        };
        named.split = true;
        let unnamed = |text: String| Refused::at(endpoint, Refusal::Unnamed, text);
        let records = events.select(&body, &env).map_err(|e| unnamed(e.to_string()))?;
        let env = env.clone().with("up", Arc::clone(body.value()));
        for record in records {
            let incoming = incoming(record, &env, head, now);
            name_record(endpoint, group, &head.method, incoming, &mut named)?;
        }
    }
    if named.events.is_empty() {
        // Also where `events` found nothing at all: the request must show somewhere.
        named.unmatched = named.unmatched.max(1);
    } else if endpoint.groups.len() > 1 {
        // The body was meant for one way of splitting; that the others found nothing is no loss.
        named.unmatched = 0;
    }
    Ok(named)
}

fn incoming(record: Record, env: &Env, head: &Parts, received_at: Timestamp) -> Incoming {
    Incoming {
        record,
        origin: Origin::Webhook,
        received_at,
        traceparent: traceparent_of(&head.headers),
        env: env.clone(),
    }
}

/// Offers one record to each stream of the group.
fn name_record(
    endpoint: &Arc<Endpoint>,
    group: &Group,
    method: &Method,
    incoming: Incoming,
    named: &mut Named,
) -> Result<(), Refused> {
    let takes = |stream: &&Arc<StreamPlan>| {
        stream.webhook.as_ref().is_some_and(|hook| hook.methods.contains(method))
    };
    let before = named.events.len();
    for stream in group.streams.iter().filter(takes) {
        match name_event(&endpoint.connector, stream, incoming.clone()) {
            Ok(Some(event)) => named.events.push(event),
            Ok(None) => {}
            Err(error) => {
                let detail = format!("stream {}: {error}", stream.name);
                return Err(Refused::at(endpoint, Refusal::Unnamed, detail));
            }
        }
    }
    named.unmatched += u64::from(named.events.len() == before);
    Ok(())
}

/// A `traceparent` of the form that W3C Trace Context, level 1, section 3.2 gives; others are
/// dropped, as it says.
fn traceparent_of(headers: &HeaderMap) -> Option<String> {
    let text = headers.get("traceparent")?.to_str().ok()?;
    let lower_hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let parts: Vec<_> = text.split('-').collect();
    let [version, trace, parent, flags] = parts[..] else {
        return None;
    };
    let lengths = [version.len(), trace.len(), parent.len(), flags.len()] == [2, 32, 16, 2];
    let valid = lengths
        && [version, trace, parent, flags].into_iter().all(lower_hex)
        && version != "ff"
        && trace.bytes().any(|b| b != b'0')
        && parent.bytes().any(|b| b != b'0');
    valid.then(|| text.to_owned())
}
