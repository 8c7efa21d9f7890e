//! One request to a token endpoint (RFC 6749, 4.4 and 6): how it is made and what its answer means.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, StatusCode, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use serde_json::Value;
use url::form_urlencoded;

use super::{
    authenticator::AuthError,
    credential::{basic, look_up},
};
use crate::{
    egress::{Answer, EgressError, retry_after},
    map::Env,
    plan::{ClientAuth, OAuth2Plan},
    world::{Secret, Timestamp},
};

/// Where the server does not say how long the token lives.
const DEFAULT_LIFE: Duration = Duration::from_hours(1);
/// A token is used at least this long, whatever the server says: one of zero seconds would be
/// fetched for every request.
const SHORTEST_LIFE: Duration = Duration::from_secs(5);
/// How much of a server's explanation is shown.
const SHOWN_CHARS: usize = 200;

/// What a token endpoint gave.
pub(super) struct Granted {
    pub(super) access_token: Secret,
    pub(super) life: Duration,
    /// A new refresh token, where one came.
    pub(super) refresh_token: Option<Secret>,
}

/// A request to the token endpoint, and what must not be repeated from its answer.
pub(super) struct Asking {
    pub(super) request: Request<Bytes>,
    hidden: Vec<Secret>,
}

impl Asking {
    /// `refresh_token` makes it the grant of that name; without, it is `client_credentials`.
    pub(super) fn new(
        plan: &OAuth2Plan,
        refresh_token: Option<&Secret>,
        env: &Env,
    ) -> Result<Self, AuthError> {
        let held = |what: &str| AuthError::Held(what.to_owned());
        let url: Uri = look_up(&plan.token_url, env)?
            .expose()
            .parse()
            .map_err(|_| held("`token_url` is no URL"))?;
        let client_id = look_up(&plan.client_id, env)?;
        let client_secret =
            plan.client_secret.as_ref().map(|secret| look_up(secret, env)).transpose()?;

        let mut form = form_urlencoded::Serializer::new(String::new());
        match refresh_token {
            Some(token) => {
                form.append_pair("grant_type", "refresh_token");
                form.append_pair("refresh_token", token.expose());
            }
            None => {
                form.append_pair("grant_type", "client_credentials");
            }
        }
        if !plan.scopes.is_empty() {
            form.append_pair("scope", &plan.scopes.join(" "));
        }
        for (name, value) in &plan.params {
            form.append_pair(name, look_up(value, env)?.expose());
        }
        let mut request = Request::new(Bytes::new());
        match (&client_secret, plan.client_auth) {
            (Some(secret), ClientAuth::Basic) => {
                request.headers_mut().insert(AUTHORIZATION, basic_header(&client_id, secret)?);
            }
            (secret, _) => {
                form.append_pair("client_id", client_id.expose());
                if let Some(secret) = secret {
                    form.append_pair("client_secret", secret.expose());
                }
            }
        }
        *request.method_mut() = Method::POST;
        *request.uri_mut() = url;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        *request.body_mut() = Bytes::from(form.finish());
        let hidden = client_secret.into_iter().chain(refresh_token.cloned()).collect();
        Ok(Self { request, hidden })
    }

    /// A server's words, cut, on one line, without what was sent in confidence.
    fn shown(hidden: &[Secret], text: &str) -> String {
        let mut text = text.to_owned();
        for secret in hidden.iter().filter(|secret| secret.expose().len() > 3) {
            text = text.replace(secret.expose(), "[redacted]");
        }
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN_CHARS).collect()
    }

    /// The request, and what reads its answer.
    pub(super) fn into_parts(self) -> (Request<Bytes>, Reading) {
        (self.request, Reading { hidden: self.hidden })
    }
}

/// RFC 6749, 2.3.1: both halves are form-encoded before they are joined.
fn basic_header(client_id: &Secret, secret: &Secret) -> Result<HeaderValue, AuthError> {
    let encoded = |secret: &Secret| -> String {
        form_urlencoded::byte_serialize(secret.expose().as_bytes()).collect()
    };
    let pair = basic(&encoded(client_id), &encoded(secret));
    let mut value = HeaderValue::from_str(&format!("Basic {}", pair.expose()))
        .map_err(|_| AuthError::Held("the client's id does not fit a header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Reads the answer to an [`Asking`].
pub(super) struct Reading {
    hidden: Vec<Secret>,
}

impl Reading {
    /// What the answer grants, or why it does not.
    pub(super) fn granted(
        &self,
        answer: Result<Answer, EgressError>,
        now: Timestamp,
    ) -> Result<Granted, AuthError> {
        let answer = answer.map_err(|error| {
            let message = format!("token endpoint: {error}");
            match error {
                EgressError::Refused(_) | EgressError::BadUrl(_) => AuthError::Held(message),
                _ => AuthError::Later { message, retry_after: None },
            }
        })?;
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        // Some servers refuse with status 200.
        if !answer.status.is_success() || body.get("error").is_some_and(Value::is_string) {
            return Err(self.refusal(&answer, &body, now));
        }
        let text = |name: &str| {
            body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(Secret::new)
        };
        let access_token = text("access_token").ok_or_else(|| {
            let keys: Vec<_> =
                body.as_object().into_iter().flat_map(|o| o.keys()).take(20).collect();
            AuthError::Held(format!(
                "token endpoint: no `access_token` in the answer, whose keys are {keys:?}"
            ))
        })?;
        Ok(Granted { access_token, life: life(&body), refresh_token: text("refresh_token") })
    }

    fn refusal(&self, answer: &Answer, body: &Value, now: Timestamp) -> AuthError {
        let word = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
        let (code, description) = (word("error"), word("error_description"));
        let status = answer.status;
        let mut message = format!("token endpoint: {status}");
        for part in [code, description].into_iter().filter(|part| !part.is_empty()) {
            message.push_str(": ");
            message.push_str(&Asking::shown(&self.hidden, part));
        }
        let passing = status.is_server_error()
            || matches!(
                status,
                StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
            )
            || matches!(code, "temporarily_unavailable" | "server_error" | "slow_down");
        if passing {
            AuthError::Later { message, retry_after: retry_after(&answer.headers, now) }
        } else {
            AuthError::Held(message)
        }
    }
}

/// `expires_in`: seconds, which some servers send as a string.
fn life(body: &Value) -> Duration {
    let seconds = match body.get("expires_in") {
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(number) => number.as_f64(),
        None => None,
    };
    seconds
        .and_then(|seconds: f64| Duration::try_from_secs_f64(seconds.max(0.0)).ok())
        .map_or(DEFAULT_LIFE, |life| life.max(SHORTEST_LIFE))
}
