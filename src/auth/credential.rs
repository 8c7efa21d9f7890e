//! A credential, ready to be put into requests.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use data_encoding::BASE64;
use http::{
    HeaderName, HeaderValue, Request, Uri,
    header::{AUTHORIZATION, COOKIE},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::authenticator::AuthError;
use crate::{
    map::{Env, EvalError, Expr},
    plan::{AuthKind, TokenPlace},
    world::{Secret, Timestamp},
};

/// How long a credential made of secrets is used before the secrets are looked up again: a rotated
/// secret is in use this long after, and a busy destination does not read a file per event.
pub(super) const LOOK_UP_EVERY: Duration = Duration::from_secs(5);

/// Shorter texts are not looked for in messages: they would be found everywhere.
const SHORTEST_HIDDEN_BYTES: usize = 4;

/// Where it goes, and how long it is good.
pub(super) struct Credential {
    pub(super) places: Vec<Place>,
    /// What must not be seen in a message: the value itself and what it was made of.
    pub(super) hidden: Vec<Secret>,
    /// From then on a new one is fetched.
    pub(super) refresh_at: Timestamp,
    /// From then on this one is not used.
    pub(super) expires_at: Timestamp,
}

/// Something that a request carries.
pub(super) enum Place {
    Header(HeaderName, HeaderValue),
    /// `name=value`, encoded.
    Query(Secret),
    /// `name=value`; other cookies stay.
    Cookie(Secret),
}

impl Credential {
    /// A token, where requests carry it. `env` has `vars` and `secret` bound.
    pub(super) fn token(
        place: &TokenPlace,
        token: &Secret,
        env: &Env,
        (refresh_at, expires_at): (Timestamp, Timestamp),
    ) -> Result<Self, AuthError> {
        let mut hidden = vec![token.clone()];
        let place = match place {
            TokenPlace::Bearer => {
                let text = Secret::new(format!("Bearer {}", token.expose()));
                header(AUTHORIZATION, &text)?
            }
            TokenPlace::Header { name, value: None } => header(named(name)?, token)?,
            TokenPlace::Header { name, value: Some(value) } => {
                let token = serde_json::Value::String(token.expose().to_owned());
                let env = env.clone().with("token", Arc::new(token));
                header(named(name)?, &look_up(value, &env)?)?
            }
            TokenPlace::Query { name } => {
                let encoded = Secret::new(encode(token.expose()));
                let pair = format!("{}={}", encode(name), encoded.expose());
                hidden.push(encoded);
                Place::Query(Secret::new(pair))
            }
            TokenPlace::Cookie { name } => {
                let fits = |c: char| c.is_ascii_graphic() && !"\",;\\".contains(c);
                if !token.expose().chars().all(fits) {
                    let what =
                        format!("the token has characters that no cookie `{name}` can carry");
                    return Err(AuthError::Held(what));
                }
                Place::Cookie(Secret::new(format!("{name}={}", token.expose())))
            }
        };
        Ok(Self { places: vec![place], hidden, refresh_at, expires_at })
    }

    /// What the file and the secrets say. What has to be fetched or signed is `None` here.
    pub(super) fn fixed(
        kind: &AuthKind,
        env: &Env,
        now: Timestamp,
    ) -> Result<Option<Self>, AuthError> {
        let (places, hidden) = match kind {
            AuthKind::Bearer { token } => {
                let token = look_up(token, env)?;
                let text = Secret::new(format!("Bearer {}", token.expose()));
                (vec![header(AUTHORIZATION, &text)?], vec![token])
            }
            AuthKind::Basic { user, password } => {
                let (user, password) = (look_up(user, env)?, look_up(password, env)?);
                let pair = basic(user.expose(), password.expose());
                let text = Secret::new(format!("Basic {}", pair.expose()));
                (vec![header(AUTHORIZATION, &text)?], vec![pair, password])
            }
            AuthKind::Header { name, value } => {
                let value = look_up(value, env)?;
                // Of `Token abc` the second word is the secret, too.
                let last = value.expose().rsplit(' ').next().map(Secret::new);
                let hidden = last.into_iter().chain([value.clone()]).collect();
                (vec![header(named(name)?, &value)?], hidden)
            }
            AuthKind::Query { name, value } => {
                let value = look_up(value, env)?;
                let encoded = Secret::new(encode(value.expose()));
                let pair = format!("{}={}", encode(name), encoded.expose());
                (vec![Place::Query(Secret::new(pair))], vec![encoded, value])
            }
            // The connection proves it; the request carries nothing.
            AuthKind::Mtls => (Vec::new(), Vec::new()),
            AuthKind::OAuth2(_)
            | AuthKind::Login(_)
            | AuthKind::Jwt(_)
            | AuthKind::Hmac(_)
            | AuthKind::SigV4(_) => return Ok(None),
        };
        let until = now.plus(LOOK_UP_EVERY);
        Ok(Some(Self { places, hidden, refresh_at: until, expires_at: until }))
    }

    /// What was signed for one request, and is good for no other.
    pub(super) fn signature(places: Vec<Place>, hidden: Vec<Secret>, now: Timestamp) -> Self {
        Self { places, hidden, refresh_at: now, expires_at: now }
    }

    /// Adds it to a request, in place of one of the same name.
    pub(super) fn put_into(&self, request: &mut Request<Bytes>) -> Result<(), AuthError> {
        for place in &self.places {
            match place {
                Place::Header(name, value) => {
                    request.headers_mut().insert(name.clone(), value.clone());
                }
                Place::Query(pair) => {
                    *request.uri_mut() = with_query(request.uri(), pair.expose())
                        .ok_or_else(|| AuthError::Held("the URL takes no query".to_owned()))?;
                }
                Place::Cookie(pair) => {
                    let others = request.headers().get(COOKIE).and_then(|it| it.to_str().ok());
                    let all = match others {
                        Some(others) => Secret::new(format!("{others}; {}", pair.expose())),
                        None => pair.clone(),
                    };
                    let Place::Header(name, value) = header(COOKIE, &all)? else { continue };
                    request.headers_mut().insert(name, value);
                }
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

/// Percent-encoded, everything but letters and digits.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// A header's name, which was checked when the file was loaded.
pub(super) fn named(name: &str) -> Result<HeaderName, AuthError> {
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| AuthError::Held(format!("`{name}` is no header name")))
}

/// A header that is not shown.
pub(super) fn header(name: HeaderName, text: &Secret) -> Result<Place, AuthError> {
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
        redacted(&self.0.hidden, text)
    }
}

/// `text` without these.
pub(super) fn redacted(hidden: &[Secret], text: &str) -> String {
    let mut text = text.to_owned();
    for hidden in hidden {
        let hidden = hidden.expose();
        if hidden.len() >= SHORTEST_HIDDEN_BYTES && text.contains(hidden) {
            text = text.replace(hidden, "[redacted]");
        }
    }
    text
}

impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Carried([redacted])")
    }
}
