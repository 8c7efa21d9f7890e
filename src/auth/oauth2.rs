//! One request to a token endpoint (RFC 6749, 4.4 and 6; RFC 7523): how it is made and what its
//! answer means.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use serde_json::Value;
use url::form_urlencoded::{self, Serializer};

use super::{
    answer,
    authenticator::AuthError,
    code::Pending,
    credential::{basic, look_up},
    sign::{Moment, jwt},
};
use crate::{
    egress::{Answer, EgressError},
    map::Env,
    plan::{ClientAuth, Grant, OAuth2Plan},
    world::{Secret, Timestamp},
};

const WHO: &str = "token endpoint";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const CLIENT_ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

/// What a token endpoint gave.
pub(super) struct Granted {
    pub(super) access_token: Secret,
    pub(super) life: Duration,
    /// Whether the answer, or the file, says how long it lives.
    pub(super) is_timed: bool,
    /// A new refresh token, where one came.
    pub(super) refresh_token: Option<Secret>,
}

/// A request to the token endpoint, and what must not be repeated from its answer.
pub(super) struct Asking {
    pub(super) request: Request<Bytes>,
    pub(super) hidden: Vec<Secret>,
}

type Form = Serializer<'static, String>;

/// With what a token is asked for.
#[derive(Clone, Copy)]
pub(super) enum With<'a> {
    /// What the plan says.
    Plan,
    /// A refresh token.
    Refresh(&'a Secret),
    /// What a person brought back from a page.
    Code { code: &'a Secret, pending: &'a Pending },
}

impl Asking {
    pub(super) fn new(
        plan: &OAuth2Plan,
        with: With<'_>,
        env: &Env,
        moment: &Moment,
    ) -> Result<Self, AuthError> {
        let token_url = look_up(&plan.token_url, env)?;
        let url: Uri = token_url
            .expose()
            .parse()
            .map_err(|_| AuthError::Held("`token_url` is no URL".to_owned()))?;
        let client_id = plan.client_id.as_ref().map(|id| look_up(id, env)).transpose()?;
        let mut hidden: Vec<Secret> = Vec::new();
        let mut form = Form::new(String::new());
        match (with, &plan.grant) {
            (With::Refresh(token), _) => {
                form.append_pair("grant_type", "refresh_token");
                form.append_pair("refresh_token", token.expose());
                hidden.push(token.clone());
            }
            (With::Code { code, pending }, _) => {
                form.append_pair("grant_type", "authorization_code");
                form.append_pair("code", code.expose());
                form.append_pair("redirect_uri", &pending.redirect);
                form.append_pair("code_verifier", pending.verifier.expose());
                hidden.extend([code.clone(), pending.verifier.clone()]);
            }
            (With::Plan, Grant::JwtBearer { assertion }) => {
                let mut filled_in = vec![("aud", token_url.expose().to_owned())];
                filled_in.extend(client_id.iter().map(|id| ("iss", id.expose().to_owned())));
                let token = jwt::token(assertion, &filled_in, env, moment)?;
                form.append_pair("grant_type", JWT_BEARER);
                form.append_pair("assertion", token.expose());
                hidden.push(token);
            }
            (With::Plan, _) => {
                form.append_pair("grant_type", "client_credentials");
            }
        }
        if !plan.scopes.is_empty() && !matches!(with, With::Code { .. }) {
            form.append_pair("scope", &plan.scopes.join(" "));
        }
        for (name, value) in &plan.params {
            let text = look_up(value, env)?;
            form.append_pair(name, text.expose());
            if value.needs_secret() {
                hidden.push(text);
            }
        }
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = url;
        let client = Client { plan, id: client_id, token_url: &token_url };
        hidden.extend(client.proven(&mut request, &mut form, env, moment)?);
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_TYPE, FORM);
        *request.body_mut() = Bytes::from(form.finish());
        Ok(Self { request, hidden })
    }
}

/// Who asks.
struct Client<'a> {
    plan: &'a OAuth2Plan,
    id: Option<Secret>,
    token_url: &'a Secret,
}

impl Client<'_> {
    /// Proves it in the header or the form. Returns what must not be repeated.
    fn proven(
        &self,
        request: &mut Request<Bytes>,
        form: &mut Form,
        env: &Env,
        moment: &Moment,
    ) -> Result<Vec<Secret>, AuthError> {
        let secret = self.plan.client_secret.as_ref().map(|it| look_up(it, env)).transpose()?;
        if let (Some(id), Some(secret), ClientAuth::Basic) =
            (&self.id, &secret, &self.plan.client_auth)
        {
            request.headers_mut().insert(AUTHORIZATION, basic_header(id, secret)?);
            return Ok(vec![secret.clone()]);
        }
        let Some(id) = &self.id else { return Ok(Vec::new()) };
        form.append_pair("client_id", id.expose());
        if let ClientAuth::PrivateKeyJwt(assertion) = &self.plan.client_auth {
            let filled_in = [
                ("iss", id.expose().to_owned()),
                ("sub", id.expose().to_owned()),
                ("aud", self.token_url.expose().to_owned()),
                ("jti", moment.nonce.clone()),
            ];
            let token = jwt::token(assertion, &filled_in, env, moment)?;
            form.append_pair("client_assertion_type", CLIENT_ASSERTION);
            form.append_pair("client_assertion", token.expose());
            return Ok(vec![token]);
        }
        if let Some(secret) = &secret {
            form.append_pair("client_secret", secret.expose());
        }
        Ok(secret.into_iter().collect())
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

/// What an answer grants, or why it does not. `hidden` was sent in confidence.
pub(super) fn granted(
    plan: &OAuth2Plan,
    env: &Env,
    hidden: &[Secret],
    answer: Result<Answer, EgressError>,
    now: Timestamp,
) -> Result<Granted, AuthError> {
    let (answer, body) = answer::received(WHO, answer)?;
    // Some servers refuse with status 200.
    if !answer.status.is_success() || body.get("error").is_some_and(Value::is_string) {
        return Err(answer::refusal(WHO, (&answer, &body), hidden, now));
    }
    let text = |name: &str| {
        body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(Secret::new)
    };
    let env = answer::bound(env, &answer, body.clone());
    let access_token = match &plan.token {
        Some(expr) => answer::token(WHO, expr, &env, &body)?,
        None => text("access_token").ok_or_else(|| answer::missing(WHO, "access_token", &body))?,
    };
    let life = answer::life(plan.life.as_ref(), body.get("expires_in"), &env, now)?;
    let is_timed = plan.life.is_some() || body.get("expires_in").is_some();
    Ok(Granted { access_token, life, is_timed, refresh_token: text("refresh_token") })
}
