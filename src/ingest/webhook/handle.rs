//! One request, top to bottom: the order of work that the module promises.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, header::HOST, request::Parts};
use hyper::body::Body;
use serde_json::Value;

use super::{
    answer::{self, Answer, Refusal},
    body::{self, Held},
    decode::{DecodeLimits, decode},
    routes::{Endpoint, Group, SecretProblem},
    server::WebhookServer,
    verify::{RequestParts, VerifiedBody, verify},
};
use crate::{
    bus::{Accepted, Append, AppendError, NewEvent},
    event::{EventId, Origin, Record},
    ingest::naming::{Incoming, name_event},
    map::Env,
    plan::{Algorithm, StreamPlan},
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
    fn at(endpoint: &Arc<Endpoint>, refusal: Refusal, detail: impl Into<String>) -> Self {
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
        let url = if endpoint.needs_url { self.url_of(&head) } else { String::new() };
        let parts = RequestParts { method: &head.method, url: &url, headers: &head.headers };
        let verified = self.believe(&endpoint, &parts, raw, now)?;

        let limits = DecodeLimits {
            max_body_bytes: endpoint.max_body_bytes,
            max_json_depth: self.limits.max_json_depth,
        };
        let record = decode(verified, &head.headers, limits, &mut held).map_err(refused)?;
        let mut env = endpoint.env();
        if let Some(request) = endpoint.request.document(&parts, &head.uri, &record) {
            env = env.with("request", request);
        }
        if let Some(answer) = challenge(&endpoint, &env)? {
            return Ok(answer);
        }
        let named = name_all(&endpoint, &head, record, env, now)?;
        self.append(&endpoint, named).await
    }

    fn endpoint_of(&self, head: &Parts) -> Result<Arc<Endpoint>, Refused> {
        let Some(endpoint) = self.routes.load().find(head.uri.path()) else {
            let (refusal, detail) = (Refusal::NotFound, String::new());
            return Err(Refused { refusal, endpoint: None, detail });
        };
        if !endpoint.methods.contains(&head.method) {
            let refusal = Refusal::MethodNotAllowed(endpoint.allow());
            return Err(Refused::at(&endpoint, refusal, ""));
        }
        Ok(endpoint)
    }

    /// The URL as the producer called it: under `public_url` where the operator gave one, else as
    /// far as this socket can know it.
    fn url_of(&self, head: &Parts) -> String {
        let rest = head.uri.path_and_query().map_or("/", |rest| rest.as_str());
        if let Some(public) = &self.limits.public_url {
            return format!("{}{rest}", public.trim_end_matches('/'));
        }
        let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
        let host = host.or(head.uri.host()).unwrap_or_default();
        format!("http://{host}{rest}")
    }

    /// From raw to verified.
    fn believe(
        &self,
        endpoint: &Arc<Endpoint>,
        parts: &RequestParts<'_>,
        raw: super::RawBody,
        now: Timestamp,
    ) -> Result<VerifiedBody, Refused> {
        let plan = &endpoint.hook.verify;
        let checked = if plan.algorithm == Algorithm::None {
            verify(plan, &[], parts, raw, now)
        } else {
            let note = |problem: &SecretProblem| self.note_secret(endpoint, problem, now);
            let live = endpoint
                .keys(&self.world.secrets, now, note)
                .map_err(|problem| Refused::at(endpoint, Refusal::NoSecret, problem.to_string()))?;
            verify(plan, &live.keys, parts, raw, now)
        };
        checked.map_err(|reject| {
            let basic = plan.algorithm == Algorithm::Basic;
            let refusal = Refusal::BadSignature { status: plan.on_fail, basic };
            Refused::at(endpoint, refusal, reject.word())
        })
    }

    /// All events of the request in one atomic record; answered once it is durable.
    async fn append(&self, endpoint: &Arc<Endpoint>, named: Named) -> Result<Answer, Refused> {
        let connector = &endpoint.connector.name;
        let Named { events, unmatched, split } = named;
        if unmatched > 0 {
            self.observer.counted(connector, &endpoint.label, "unmatched", unmatched);
        }
        let ids: Vec<EventId> = events.iter().map(|new| new.event.id).collect();
        if !events.is_empty() {
            let streams: Vec<_> = events.iter().map(|new| Arc::clone(&new.event.stream)).collect();
            let append = Append { events, state: Vec::new() };
            let accepted =
                self.bus.append(append).await.map_err(|error| {
                    Refused::at(endpoint, Refusal::from(&error), describe(&error))
                })?;
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
        AppendError::Unavailable(why) => format!("the bus is unavailable: {why}"),
        AppendError::TooLarge { bytes, limit_bytes } => {
            format!("the events take {bytes} bytes, a record may hold {limit_bytes}")
        }
        AppendError::Closed => "the bus is closed".to_owned(),
    }
}

/// The answer where the request is a challenge and no event.
fn challenge(endpoint: &Arc<Endpoint>, env: &Env) -> Result<Option<Answer>, Refused> {
    let Some(challenge) = &endpoint.hook.verify.challenge else {
        return Ok(None);
    };
    let failed = |error: crate::map::EvalError| {
        Refused::at(endpoint, Refusal::Undecodable, error.to_string())
    };
    if !challenge.when.test(env).map_err(failed)? {
        return Ok(None);
    }
    let document = challenge.json.eval(env).map_err(failed)?.unwrap_or(Value::Null);
    Ok(Some(answer::challenge(&document)))
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
