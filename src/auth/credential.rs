//! A credential, ready to be put into requests.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use data_encoding::BASE64;
use http::{HeaderName, HeaderValue, Request, Uri, header::AUTHORIZATION};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::authenticator::AuthError;
use crate::{
    map::{Env, EvalError, Expr},
    plan::AuthKind,
    world::{Secret, Timestamp},
};

/// How long a credential made of secrets is used before the secrets are looked up again: a rotated
/// secret is in use this long after, and a busy destination does not read a file per event.
pub(super) const LOOK_UP_EVERY: Duration = Duration::from_secs(5);

/// Shorter texts are not looked for in messages: they would be found everywhere.
const SHORTEST_HIDDEN_BYTES: usize = 4;

/// Where it goes, and how long it is good.
pub(super) struct Credential {
    place: Place,
    /// What must not be seen in a message: the value itself and what it was made of.
    hidden: Vec<Secret>,
    /// From then on a new one is fetched.
    pub(super) refresh_at: Timestamp,
    /// From then on this one is not used.
    pub(super) expires_at: Timestamp,
}

enum Place {
    Header(HeaderName, HeaderValue),
    /// `name=value`, encoded.
    Query(Secret),
}

impl Credential {
    /// What a token endpoint gave.
    pub(super) fn bearer(
        token: &Secret,
        refresh_at: Timestamp,
        expires_at: Timestamp,
    ) -> Result<Self, AuthError> {
        let text = Secret::new(format!("Bearer {}", token.expose()));
        let place = header(AUTHORIZATION, &text)?;
        Ok(Self { place, hidden: vec![token.clone()], refresh_at, expires_at })
    }

    /// What the file and the secrets say. A token that has to be fetched is `None` here.
    pub(super) fn fixed(
        kind: &AuthKind,
        env: &Env,
        now: Timestamp,
    ) -> Result<Option<Self>, AuthError> {
        let (place, hidden) = match kind {
            AuthKind::Bearer { token } => {
                let token = look_up(token, env)?;
                let text = Secret::new(format!("Bearer {}", token.expose()));
                (header(AUTHORIZATION, &text)?, vec![token])
            }
            AuthKind::Basic { user, password } => {
                let (user, password) = (look_up(user, env)?, look_up(password, env)?);
                let pair = basic(user.expose(), password.expose());
                let text = Secret::new(format!("Basic {}", pair.expose()));
                (header(AUTHORIZATION, &text)?, vec![pair, password])
            }
            AuthKind::Header { name, value } => {
                let value = look_up(value, env)?;
                let name = HeaderName::from_bytes(name.as_bytes())
                    .map_err(|_| AuthError::Held(format!("`{name}` is no header name")))?;
                // Of `Token abc` the second word is the secret, too.
                let last = value.expose().rsplit(' ').next().map(Secret::new);
                (header(name, &value)?, last.into_iter().chain([value]).collect())
            }
            AuthKind::Query { name, value } => {
                let value = look_up(value, env)?;
                let encoded = Secret::new(encode(value.expose()));
                let pair = format!("{}={}", encode(name), encoded.expose());
                (Place::Query(Secret::new(pair)), vec![encoded, value])
            }
            AuthKind::OAuth2(_) => return Ok(None),
        };
        let until = now.plus(LOOK_UP_EVERY);
        Ok(Some(Self { place, hidden, refresh_at: until, expires_at: until }))
    }

    /// Adds it to a request, in place of one of the same name.
    pub(super) fn put_into(&self, request: &mut Request<Bytes>) -> Result<(), AuthError> {
        match &self.place {
            Place::Header(name, value) => {
                request.headers_mut().insert(name.clone(), value.clone());
            }
            Place::Query(pair) => {
                *request.uri_mut() = with_query(request.uri(), pair.expose())
                    .ok_or_else(|| AuthError::Held("the URL takes no query".to_owned()))?;
            }
        }
        Ok(())
    }
}

/// Evaluates a setting that may hold a secret.
pub(super) fn look_up(expr: &Expr, env: &Env) -> Result<Secret, AuthError> {
    expr.secret(env).map_err(|error: EvalError| AuthError::Held(error.to_string()))
}

/// `base64(user:password)`.
pub(super) fn basic(user: &str, password: &str) -> Secret {
    let pair = Secret::new(format!("{user}:{password}"));
    Secret::new(BASE64.encode(pair.expose().as_bytes()))
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn header(name: HeaderName, text: &Secret) -> Result<Place, AuthError> {
    let mut value = HeaderValue::from_str(text.expose()).map_err(|_| {
        let what = format!("the credential for `{name}` has characters that no header can carry");
        AuthError::Held(what)
    })?;
    value.set_sensitive(true);
    Ok(Place::Header(name, value))
}

fn with_query(uri: &Uri, pair: &str) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    let path = parts.path_and_query.as_ref().map_or("/", |it| it.as_str());
    let joint = if path.contains('?') { '&' } else { '?' };
    parts.path_and_query = Some(format!("{path}{joint}{pair}").parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// What one request carried: hand it to [`super::Authenticator::refused`] after a 401.
#[derive(Clone)]
pub struct Carried(pub(super) Arc<Credential>);

impl Carried {
    /// `text` without the credential, where a peer's answer repeats it.
    pub fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for hidden in &self.0.hidden {
            let hidden = hidden.expose();
            if hidden.len() >= SHORTEST_HIDDEN_BYTES && text.contains(hidden) {
                text = text.replace(hidden, "[redacted]");
            }
        }
        text
    }
}

impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Carried([redacted])")
    }
}
