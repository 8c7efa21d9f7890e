//! `type = "http"`: one request for an event, or for a batch of them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri,
    header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING, UPGRADE},
};
use tokio::time::Instant;

use super::{
    batch::{self, AttemptedBatch, BatchOutcome, Court, Member},
    decide::{Attempted, Outcome},
    verdict::{self, Answered},
    view::event_view,
};
use crate::{
    auth::{AuthError, Authenticator, Carried},
    egress::{Answer, Egress, EgressError, ExchangeLimits, spent_until},
    event::{Event, Record, batch_key},
    map::{Env, EvalError, Expr, Tree},
    plan::{
        AuthPlan, BatchPlan, ConnectorPlan, DestinationKind, DestinationPlan, Verdict, VerdictPlan,
    },
    world::World,
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const EVENT_ID: HeaderName = HeaderName::from_static("x-tenon-event");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// What the HTTP layer decides; a setting of that name would contradict the message's framing.
const FRAMING: [HeaderName; 5] = [CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE];

/// An HTTP destination.
pub(super) struct Http {
    connector: Arc<str>,
    name: Arc<str>,
    method: Method,
    url: Setting<Uri>,
    headers: Vec<(HeaderName, Setting<HeaderValue>)>,
    body: Body,
    auth: Option<Arc<AuthPlan>>,
    on: Vec<VerdictPlan>,
    batch: Option<BatchPlan>,
    timeout: Duration,
    max_response_bytes: usize,
    /// Which names the templates use: what nobody looks at is not bound.
    needs: Needs,
    world: World,
    egress: Egress,
    authenticator: Arc<Authenticator>,
}

/// What is the same for every event is made once.
enum Setting<T> {
    Fixed(Box<T>),
    PerEvent(Expr),
}

enum Body {
    None,
    /// `out`, as it is; of a batch the list of them.
    Out,
    Tree(Tree),
    /// A tree with secrets in it.
    SecretTree(Tree),
}

#[derive(Default)]
struct Needs {
    out: bool,
    event: bool,
    batch: bool,
    /// The settings that hold secrets, which are to be kept out of messages.
    secret: Vec<Expr>,
}

/// What a request carries.
#[derive(Clone, Copy)]
enum Cargo<'a> {
    One(&'a Arc<Event>, &'a Record),
    Many(&'a [Member]),
}

/// An exchange that is over: the answer, or why there is none, and what credential was sent.
struct Exchanged {
    answer: Result<Answer, EgressError>,
    carried: Option<Carried>,
}

impl Http {
    pub(super) fn open(
        connector: &ConnectorPlan,
        plan: &DestinationPlan,
        world: World,
        egress: Egress,
        authenticator: Arc<Authenticator>,
    ) -> Result<Self, String> {
        let DestinationKind::Http { method, url, headers, body, auth, on, max_response_bytes } =
            &plan.kind
        else {
            return Err("not an HTTP destination".to_owned());
        };
        let env = Env::new().with("vars", connector.vars.clone());
        let mut needs = Needs::default();
        let url = Setting::new(url, &env, &mut needs, |text| {
            text.parse().map_err(|_| "the url is no URL".to_owned())
        })?;
        let mut settings = Vec::with_capacity(headers.len());
        for (name, value) in headers {
            let name = header_name(name)?;
            let setting = Setting::new(value, &env, &mut needs, |text| {
                HeaderValue::from_str(text).map_err(|_| format!("header `{name}` is no text"))
            })?;
            settings.push((name, setting));
        }
        let body = match body {
            Some(tree) => {
                let known = needs.secret.len();
                tree.leaves().iter().for_each(|(_, expr)| needs.add(expr));
                if needs.secret.len() > known {
                    Body::SecretTree(tree.clone())
                } else {
                    Body::Tree(tree.clone())
                }
            }
            // What asks or removes says what it is about in its URL.
            None if matches!(*method, Method::GET | Method::HEAD | Method::DELETE) => Body::None,
            None => Body::Out,
        };
        on.iter().flat_map(VerdictPlan::exprs).for_each(|expr| needs.add(expr));
        let auth = match auth {
            None => None,
            Some(name) => {
                let found = connector.auths.get(name).cloned();
                Some(found.ok_or_else(|| format!("there is no [auth.{name}]"))?)
            }
        };
        Ok(Self {
            connector: connector.name.clone(),
            name: plan.name.clone(),
            method: method.clone(),
            url,
            headers: settings,
            body,
            auth,
            on: on.clone(),
            batch: plan.batch.clone(),
            timeout: plan.timeout,
            max_response_bytes: *max_response_bytes,
            needs,
            world,
            egress,
            authenticator,
        })
    }

    /// One attempt. An answer that refuses a token which can be fetched anew is followed by one resend
    /// with a new one, within the same time and under the same idempotency key.
    pub(super) async fn attempt(&self, event: &Arc<Event>, out: &Record, env: &Env) -> Attempted {
        let cargo = Cargo::One(event, out);
        let env = self.bound(cargo, env);
        let Exchanged { answer, carried } = match self.exchange(cargo, &env).await {
            Ok(exchanged) => exchanged,
            Err(outcome) => return outcome.into(),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return verdict::unanswered(&error).into(),
        };
        let redact = |text: &str| self.redacted(text, carried.as_ref(), &env);
        let answered = self.answered(&answer, &redact);
        let outcome = match verdict::rule_for(self.on.iter(), &answered, &env) {
            Ok(Some(ruling)) => ruling.outcome(&answered),
            Ok(None) => verdict::by_default(&answered),
            Err(error) => error.outcome(&answered),
        };
        let spent_until = spent_until(answer.status, &answer.headers, answered.now);
        Attempted { outcome, spent_until }
    }

    /// As [`Http::attempt`], for events of one stream and tenant in one request.
    pub(super) async fn attempt_batch(&self, members: &[Member], env: &Env) -> AttemptedBatch {
        if let Some(outcome) = self.unnamed(members, env) {
            return BatchOutcome::of(members.len(), outcome).into();
        }
        let cargo = Cargo::Many(members);
        let env = self.bound(cargo, env);
        let Exchanged { answer, carried } = match self.exchange(cargo, &env).await {
            Ok(exchanged) => exchanged,
            Err(outcome) => return BatchOutcome::of(members.len(), outcome).into(),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                return BatchOutcome::of(members.len(), verdict::unanswered(&error)).into();
            }
        };
        let redact = |text: &str| self.redacted(text, carried.as_ref(), &env);
        let results = self.batch.as_ref().and_then(|batch| batch.results.as_ref());
        let court = Court { rules: &self.on, results };
        let answered = self.answered(&answer, &redact);
        let outcome = batch::judge(&court, members, &answered, &env);
        let spent_until = spent_until(answer.status, &answer.headers, answered.now);
        AttemptedBatch { outcome, spent_until }
    }

    /// An event whose result could not be told from others' is not sent.
    fn unnamed(&self, members: &[Member], env: &Env) -> Option<Outcome> {
        let by = self.batch.as_ref()?.results.as_ref()?.by.as_ref()?;
        members.iter().find(|member| batch::name_of(by, &member.out, env).is_none())?;
        let place = by.place();
        let what = "gives nothing for this event, so its result could not be found";
        let message = format!("{}: {what} ({}:{})", place.path, place.file, place.line);
        Some(template_failed(message))
    }

    fn answered<'a>(&self, answer: &'a Answer, redact: &'a dyn Fn(&str) -> String) -> Answered<'a> {
        let now = self.world.clock.now();
        Answered { answer, max_response_bytes: self.max_response_bytes, now, redact }
    }

    /// Sends a request, and once more where its token was refused and can be had anew.
    async fn exchange(&self, cargo: Cargo<'_>, env: &Env) -> Result<Exchanged, Outcome> {
        let mut left = self.timeout;
        let mut resent = false;
        loop {
            let (request, carried) = self.request(cargo, env).await?;
            let began = Instant::now();
            let limits =
                ExchangeLimits { timeout: left, max_response_bytes: self.max_response_bytes };
            let answer = self.egress.send_for_status(request, limits).await;
            left = left.saturating_sub(began.elapsed());
            let refused = answer.as_ref().is_ok_and(|answer| self.asks_for_renewal(answer, env));
            if refused && !resent && self.can_renew(carried.as_ref()) {
                resent = true;
                continue;
            }
            return Ok(Exchanged { answer, carried });
        }
    }

    /// Whether an answer refuses the token: by a rule, or 401 where no rule is for it.
    fn asks_for_renewal(&self, answer: &Answer, env: &Env) -> bool {
        let unauthorized = answer.status == StatusCode::UNAUTHORIZED;
        if self.auth.is_none() || self.on.is_empty() {
            return unauthorized;
        }
        let answered = self.answered(answer, &|text| text.to_owned());
        let rules = self.on.iter().filter(|rule| !rule.of_item);
        match verdict::rule_for(rules, &answered, env) {
            Ok(Some(ruling)) => matches!(ruling.rule.then, Verdict::Reauth),
            Ok(None) => unauthorized,
            Err(_) => false,
        }
    }

    /// The request that an attempt would send; in batches, that of one event.
    pub(super) async fn preview(
        &self,
        event: &Arc<Event>,
        out: &Record,
        env: &Env,
    ) -> Result<Request<Bytes>, Outcome> {
        let member = [Member { event: Arc::clone(event), out: out.clone() }];
        let cargo = match self.batch {
            None => Cargo::One(event, out),
            Some(_) => Cargo::Many(&member),
        };
        let env = self.bound(cargo, env);
        self.request(cargo, &env).await.map(|(request, _)| request)
    }

    fn can_renew(&self, carried: Option<&Carried>) -> bool {
        let (Some(auth), Some(carried)) = (&self.auth, carried) else { return false };
        self.authenticator.refused(&self.connector, auth, carried)
    }

    fn bound(&self, cargo: Cargo<'_>, env: &Env) -> Env {
        let mut env = env.clone();
        match cargo {
            Cargo::One(event, out) => {
                if self.needs.out {
                    env = env.with_record("out", out.clone());
                }
                if self.needs.event {
                    env = env.with_dynamic("event", event_view(event));
                }
            }
            Cargo::Many(members) if self.needs.batch => {
                env = env.with_record("batch", Record::from_bytes(list_of(members)));
            }
            Cargo::Many(_) => {}
        }
        env
    }

    /// The request, and what credential it carries.
    async fn request(
        &self,
        cargo: Cargo<'_>,
        env: &Env,
    ) -> Result<(Request<Bytes>, Option<Carried>), Outcome> {
        let url = self.url.value(env, |text| text.parse().ok())?;
        let Some(url) = url else {
            return Err(template_failed("the url has no value for this event".to_owned()));
        };
        let body = match &self.body {
            Body::None => Bytes::new(),
            Body::Out => match cargo {
                Cargo::One(_, out) => out.bytes().clone(),
                Cargo::Many(members) => list_of(members),
            },
            Body::Tree(tree) => rendered(tree, env)?,
            Body::SecretTree(tree) => rendered(&tree.with_secrets(env).map_err(held)?, env)?,
        };
        let mut headers = self.stamped(cargo);
        if !body.is_empty() {
            headers.insert(CONTENT_TYPE, JSON);
        }
        for (name, setting) in &self.headers {
            if let Some(value) = setting.value(env, |text| HeaderValue::from_str(text).ok())? {
                headers.insert(name.clone(), value);
            }
        }
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = url;
        *request.headers_mut() = headers;
        let carried = match &self.auth {
            None => None,
            Some(auth) => {
                let applied =
                    self.authenticator.apply(&self.connector, auth, env, &mut request).await;
                Some(applied.map_err(unauthenticated)?)
            }
        };
        Ok((request, carried))
    }

    /// What says which event, or which batch, a request is about.
    fn stamped(&self, cargo: Cargo<'_>) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(self.headers.len() + 8);
        let mut add = |name, text: &str| {
            // Hexadecimal and base32 always fit; what a producer sent as `traceparent` may not.
            if let Ok(value) = HeaderValue::from_str(text) {
                headers.insert(name, value);
            }
        };
        match cargo {
            Cargo::One(event, _) => {
                add(IDEMPOTENCY_KEY, &event.idempotency_key(&self.name));
                add(EVENT_ID, &event.id.to_string());
                if let Some(traceparent) = &event.traceparent {
                    add(TRACEPARENT, traceparent);
                }
            }
            Cargo::Many(members) => {
                let events = members.iter().map(|member| &*member.event);
                add(IDEMPOTENCY_KEY, &batch_key(events, &self.name));
            }
        }
        headers
    }

    /// A peer's words without the secrets that it was sent.
    fn redacted(&self, text: &str, carried: Option<&Carried>, env: &Env) -> String {
        let mut text = carried.map_or_else(|| text.to_owned(), |it| it.redact(text));
        for secret in self.needs.secret.iter().filter_map(|expr| expr.secret(env).ok()) {
            let whole = secret.expose();
            for hidden in [whole, whole.rsplit([' ', '=']).next().unwrap_or(whole)] {
                if hidden.len() > 3 {
                    text = text.replace(hidden, "[redacted]");
                }
            }
        }
        text
    }
}

impl<T: Clone> Setting<T> {
    /// Renders now what depends on nothing but `vars`.
    fn new(
        expr: &Expr,
        env: &Env,
        needs: &mut Needs,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Self, String> {
        let uses = expr.uses();
        needs.add(expr);
        if uses.iter().all(|(name, _)| name == "vars") {
            let text = expr.text(env).map_err(|error| error.to_string())?;
            let value = parse(text.as_deref().unwrap_or_default())?;
            return Ok(Self::Fixed(Box::new(value)));
        }
        Ok(Self::PerEvent(expr.clone()))
    }

    /// The value for this event; `None` where it is left out.
    fn value(&self, env: &Env, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>, Outcome> {
        let parsed = |expr: &Expr, text: &str| {
            parse(text).ok_or_else(|| {
                let place = expr.place();
                let hint = "the result does not fit here; `urlencode` what comes from the record";
                template_failed(format!("{}: {hint} ({}:{})", place.path, place.file, place.line))
            })
        };
        match self {
            Self::Fixed(value) => Ok(Some((**value).clone())),
            Self::PerEvent(expr) if expr.needs_secret() => {
                let secret = expr.secret(env).map_err(held)?;
                parsed(expr, secret.expose()).map(Some)
            }
            Self::PerEvent(expr) => {
                let text = expr.text(env).map_err(|error| template_failed(error.to_string()))?;
                text.map(|text| parsed(expr, &text)).transpose()
            }
        }
    }
}

impl Needs {
    fn add(&mut self, expr: &Expr) {
        for (name, _) in expr.uses() {
            self.out |= name == "out";
            self.event |= name == "event";
            self.batch |= name == "batch";
        }
        if expr.needs_secret() {
            self.secret.push(expr.clone());
        }
    }
}

fn header_name(name: &str) -> Result<HeaderName, String> {
    let name = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| format!("`{name}` is no header name"))?;
    if FRAMING.contains(&name) {
        return Err(format!("header `{name}` is set by the HTTP layer"));
    }
    Ok(name)
}

/// The mapped records as a JSON list, each byte for byte.
fn list_of(members: &[Member]) -> Bytes {
    let bytes: usize = members.iter().map(|member| member.out.bytes().len() + 1).sum();
    let mut list = Vec::with_capacity(bytes + 1);
    list.push(b'[');
    for (at, member) in members.iter().enumerate() {
        if at > 0 {
            list.push(b',');
        }
        list.extend_from_slice(member.out.bytes());
    }
    list.push(b']');
    list.into()
}

fn rendered(tree: &Tree, env: &Env) -> Result<Bytes, Outcome> {
    let text = tree.json(env).map_err(|error| template_failed(error.to_string()))?;
    Ok(text.unwrap_or_default().into())
}

/// Most likely an unset secret: a person's job, and no reason to lose the event.
fn held(error: EvalError) -> Outcome {
    Outcome::Held { status: None, message: error.to_string() }
}

fn template_failed(message: String) -> Outcome {
    Outcome::Rejected { status: None, reason: "template_failed".into(), message }
}

fn unauthenticated(error: AuthError) -> Outcome {
    match error {
        AuthError::Held(message) => Outcome::Held { status: None, message },
        AuthError::Later { message, retry_after } => Outcome::Deferred { message, retry_after },
    }
}
