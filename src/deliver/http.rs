//! `type = "http"`: one event, one request.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri,
    header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING, UPGRADE},
};
use tokio::time::Instant;

use super::{
    decide::{Attempted, Outcome},
    view::event_view,
};
use crate::{
    auth::{AuthError, Authenticator, Carried},
    egress::{Answer, Egress, EgressError, ExchangeLimits, retry_after, spent_until},
    event::{Event, Record},
    map::{Env, EvalError, Expr, Tree},
    plan::{AuthPlan, ConnectorPlan, DestinationKind, DestinationPlan},
    world::{Timestamp, World},
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const EVENT_ID: HeaderName = HeaderName::from_static("x-tenon-event");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// What the HTTP layer decides; a setting of that name would contradict the message's framing.
const FRAMING: [HeaderName; 5] = [CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE];
/// How much of an answer's body is shown.
const SHOWN_CHARS: usize = 200;
/// How much of it is looked through for what must not be shown.
const LOOKED_AT_BYTES: usize = 4 << 10;

/// An HTTP destination.
pub(super) struct Http {
    connector: Arc<str>,
    name: Arc<str>,
    method: Method,
    url: Setting<Uri>,
    headers: Vec<(HeaderName, Setting<HeaderValue>)>,
    body: Body,
    auth: Option<Arc<AuthPlan>>,
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
    /// `out`, as it is.
    Out,
    Tree(Tree),
    /// A tree with secrets in it.
    SecretTree(Tree),
}

#[derive(Default)]
struct Needs {
    out: bool,
    event: bool,
    /// The settings that hold secrets, which are to be kept out of messages.
    secret: Vec<Expr>,
}

impl Http {
    pub(super) fn open(
        connector: &ConnectorPlan,
        plan: &DestinationPlan,
        world: World,
        egress: Egress,
        authenticator: Arc<Authenticator>,
    ) -> Result<Self, String> {
        let DestinationKind::Http { method, url, headers, body, auth, max_response_bytes } =
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
            timeout: plan.timeout,
            max_response_bytes: *max_response_bytes,
            needs,
            world,
            egress,
            authenticator,
        })
    }

    /// One attempt. A 401 to a token that can be fetched anew is answered by one resend with a new
    /// one, within the same time and under the same idempotency key.
    pub(super) async fn attempt(&self, event: &Arc<Event>, out: &Record, env: &Env) -> Attempted {
        let env = self.bound(event, out, env);
        let mut left = self.timeout;
        let mut resent = false;
        loop {
            let (request, carried) = match self.request(event, out, &env).await {
                Ok(made) => made,
                Err(outcome) => return outcome.into(),
            };
            let began = Instant::now();
            let limits =
                ExchangeLimits { timeout: left, max_response_bytes: self.max_response_bytes };
            let answer = self.egress.send_for_status(request, limits).await;
            left = left.saturating_sub(began.elapsed());
            let unauthorized =
                answer.as_ref().is_ok_and(|it| it.status == StatusCode::UNAUTHORIZED);
            if unauthorized && !resent && self.can_renew(carried.as_ref()) {
                resent = true;
                continue;
            }
            let now = self.world.clock.now();
            let spent_until =
                answer.as_ref().ok().and_then(|it| spent_until(it.status, &it.headers, now));
            let outcome = outcome(answer, now, |text| self.redacted(text, carried.as_ref(), &env));
            return Attempted { outcome, spent_until };
        }
    }

    /// The request that an attempt would send.
    pub(super) async fn preview(
        &self,
        event: &Arc<Event>,
        out: &Record,
        env: &Env,
    ) -> Result<Request<Bytes>, Outcome> {
        let env = self.bound(event, out, env);
        self.request(event, out, &env).await.map(|(request, _)| request)
    }

    fn can_renew(&self, carried: Option<&Carried>) -> bool {
        let (Some(auth), Some(carried)) = (&self.auth, carried) else { return false };
        self.authenticator.refused(&self.connector, auth, carried)
    }

    fn bound(&self, event: &Arc<Event>, out: &Record, env: &Env) -> Env {
        let mut env = env.clone();
        if self.needs.out {
            env = env.with_record("out", out.clone());
        }
        if self.needs.event {
            env = env.with_dynamic("event", event_view(event));
        }
        env
    }

    /// The request, and what credential it carries.
    async fn request(
        &self,
        event: &Arc<Event>,
        out: &Record,
        env: &Env,
    ) -> Result<(Request<Bytes>, Option<Carried>), Outcome> {
        let url = self.url.value(env, |text| text.parse().ok())?;
        let Some(url) = url else {
            return Err(template_failed("the url has no value for this event".to_owned()));
        };
        let body = match &self.body {
            Body::None => Bytes::new(),
            Body::Out => out.bytes().clone(),
            Body::Tree(tree) => rendered(tree, env)?,
            Body::SecretTree(tree) => rendered(&tree.with_secrets(env).map_err(held)?, env)?,
        };
        let mut headers = HeaderMap::with_capacity(self.headers.len() + 8);
        if !body.is_empty() {
            headers.insert(CONTENT_TYPE, JSON);
        }
        let mut add = |name, text: &str| {
            // Hexadecimal and base32 always fit; what a producer sent as `traceparent` may not.
            if let Ok(value) = HeaderValue::from_str(text) {
                headers.insert(name, value);
            }
        };
        add(IDEMPOTENCY_KEY, &event.idempotency_key(&self.name));
        add(EVENT_ID, &event.id.to_string());
        if let Some(traceparent) = &event.traceparent {
            add(TRACEPARENT, traceparent);
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

fn rendered(tree: &Tree, env: &Env) -> Result<Bytes, Outcome> {
    let text = tree.json(env).map_err(|error| template_failed(error.to_string()))?;
    Ok(text.unwrap_or_default().into())
}

/// Most likely an unset secret: a person's job, and no reason to lose the event.
fn held(error: EvalError) -> Outcome {
    Outcome::Held { status: None, message: error.to_string() }
}

fn template_failed(message: String) -> Outcome {
    Outcome::Rejected { status: None, reason: "template_failed", message }
}

fn unauthenticated(error: AuthError) -> Outcome {
    match error {
        AuthError::Held(message) => Outcome::Held { status: None, message },
        AuthError::Later { message, retry_after } => Outcome::Deferred { message, retry_after },
    }
}

/// What an exchange means for the event.
fn outcome(
    answer: Result<Answer, EgressError>,
    now: Timestamp,
    redact: impl Fn(&str) -> String,
) -> Outcome {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return unanswered(&error),
    };
    let status = Some(answer.status.as_u16());
    if answer.status.is_success() {
        return Outcome::Delivered { status };
    }
    let message = message(answer.status, &answer.body, redact);
    match answer.status.as_u16() {
        408 | 425 | 429 | 500..=599 => {
            Outcome::Retry { status, message, retry_after: retry_after(&answer.headers, now) }
        }
        401 | 403 | 410 => Outcome::Held { status, message },
        _ => Outcome::Rejected { status, reason: "rejected", message },
    }
}

/// No answer. A refused address is for the operator to allow; a URL that is none stays none.
fn unanswered(error: &EgressError) -> Outcome {
    let message = error.to_string();
    match error {
        EgressError::Refused(_) => Outcome::Held { status: None, message },
        EgressError::BadUrl(_) => Outcome::Rejected { status: None, reason: "bad_url", message },
        _ => Outcome::Retry { status: None, message, retry_after: None },
    }
}

/// "422 Unprocessable Entity: {"error":"no such customer"}", on one line, cut.
fn message(status: StatusCode, body: &Bytes, redact: impl Fn(&str) -> String) -> String {
    let mut message = status.as_u16().to_string();
    if let Some(reason) = status.canonical_reason() {
        let _ = write!(message, " {reason}");
    }
    let text = String::from_utf8_lossy(&body[..body.len().min(LOOKED_AT_BYTES)]);
    let text = redact(&text);
    let words: Vec<_> = text.split(|c: char| c.is_control() || c == ' ').collect();
    let line = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    if !line.is_empty() {
        message.push_str(": ");
        message.extend(line.chars().take(SHOWN_CHARS));
    }
    message
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, StatusCode};

    use super::{Outcome, outcome};
    use crate::{
        egress::{Answer, EgressError},
        world::Timestamp,
    };

    fn of(status: u16, body: &'static str) -> Outcome {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", HeaderValue::from_static("7"));
        let status = StatusCode::from_u16(status).unwrap();
        let answer = Answer { status, headers, body: Bytes::from_static(body.as_bytes()) };
        outcome(Ok(answer), Timestamp(0), |text| text.replace("s3cret", "[redacted]"))
    }

    #[test]
    fn every_status_has_its_outcome() {
        for status in 100..=599u16 {
            let expected = match status {
                200..=299 => "delivered",
                408 | 425 | 429 | 500..=599 => "retry",
                401 | 403 | 410 => "held",
                _ => "rejected",
            };
            let (word, shown) = match of(status, "") {
                Outcome::Delivered { status } => ("delivered", status),
                Outcome::Retry { status, retry_after, .. } => {
                    assert_eq!(retry_after.unwrap().as_secs(), 7);
                    ("retry", status)
                }
                Outcome::Held { status, .. } => ("held", status),
                Outcome::Rejected { status, reason, .. } => (reason, status),
                Outcome::Deferred { .. } => ("deferred", None),
            };
            assert_eq!((word, shown), (expected, Some(status)), "{status}");
        }
    }

    #[test]
    fn trap_14_a_name_that_does_not_resolve_is_tried_again_like_any_failure_of_the_network() {
        let later = [
            EgressError::Dns(String::new()),
            EgressError::Connect(String::new()),
            EgressError::Tls(String::new()),
            EgressError::Timeout,
            EgressError::Broken(String::new()),
        ];
        for error in later {
            let outcome = outcome(Err(error.clone()), Timestamp(0), str::to_owned);
            assert!(matches!(outcome, Outcome::Retry { status: None, .. }), "{error}: {outcome:?}");
        }
        let refused = outcome(Err(EgressError::Refused("x".into())), Timestamp(0), str::to_owned);
        assert!(matches!(refused, Outcome::Held { .. }));
        let bad = outcome(Err(EgressError::BadUrl("x".into())), Timestamp(0), str::to_owned);
        assert!(matches!(bad, Outcome::Rejected { reason: "bad_url", .. }));
    }

    #[test]
    fn a_message_is_one_short_line_without_secrets() {
        let Outcome::Rejected { message, .. } =
            of(422, "{\n \"error\":\t\"no s3cret\u{1b}[31m\"\r\n}")
        else {
            panic!("422 is a rejection");
        };
        assert_eq!(message, r#"422 Unprocessable Entity: { "error": "no [redacted] [31m" }"#);
        let long = "ä".repeat(3000).leak();
        let Outcome::Retry { message, .. } = of(500, long) else { panic!("500 is a retry") };
        assert_eq!(message.chars().count(), "500 Internal Server Error: ".len() + 200);
    }
}
