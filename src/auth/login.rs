//! A session's token, from a request that the file describes.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderValue, Request, Uri,
    header::{ACCEPT, CONTENT_TYPE},
};
use url::form_urlencoded::Serializer;

use super::{
    answer,
    authenticator::AuthError,
    credential::{Place, encode, header, look_up, named},
    sign::Moment,
};
use crate::{
    egress::{Answer, EgressError},
    map::{Env, EvalError, Expr},
    plan::{LoginPlan, RequestBody, TimestampForm},
    world::{Secret, Timestamp},
};

const WHO: &str = "login";

/// A request in the making, and what of it must not be repeated from its answer.
struct Draft<'e> {
    env: &'e Env,
    hidden: Vec<Secret>,
}

impl Draft<'_> {
    fn settled(&mut self, expr: &Expr) -> Result<Secret, AuthError> {
        let text = look_up(expr, self.env)?;
        if expr.needs_secret() {
            // What an `Authorization` is made of may be echoed without its first word.
            self.hidden.extend(text.expose().rsplit(' ').next().map(Secret::new));
            self.hidden.push(text.clone());
        }
        Ok(text)
    }

    fn url(&mut self, plan: &LoginPlan) -> Result<Uri, AuthError> {
        let mut text = self.settled(&plan.url)?.expose().to_owned();
        for (at, (name, value)) in plan.query.iter().enumerate() {
            text.push(if at == 0 { '?' } else { '&' });
            let value = encode(self.settled(value)?.expose());
            text.push_str(&encode(name));
            text.push('=');
            text.push_str(&value);
        }
        text.parse().map_err(|_| AuthError::Held("the login's URL is none".to_owned()))
    }

    /// The body's bytes and their type.
    fn body(&mut self, body: &RequestBody) -> Result<(Bytes, &'static str), AuthError> {
        match body {
            RequestBody::Form(fields) => {
                let mut form = Serializer::new(String::new());
                for (name, value) in fields {
                    form.append_pair(name, self.settled(value)?.expose());
                }
                Ok((Bytes::from(form.finish()), "application/x-www-form-urlencoded"))
            }
            RequestBody::Text(text) => {
                let text = self.settled(text)?.expose().to_owned();
                Ok((Bytes::from(text), "text/plain; charset=utf-8"))
            }
            RequestBody::Json(tree) => {
                for (_, leaf) in tree.leaves().into_iter().filter(|(_, leaf)| leaf.needs_secret()) {
                    self.settled(leaf)?;
                }
                let held = |error: EvalError| AuthError::Held(error.to_string());
                let value = tree.with_secrets(self.env).map_err(held)?;
                let value = value.eval(self.env).map_err(held)?;
                let text = value.map(|value| value.to_string()).unwrap_or_default();
                Ok((Bytes::from(text), "application/json"))
            }
        }
    }
}

/// The request, and what must not be repeated from its answer.
pub(super) fn request(
    plan: &LoginPlan,
    env: &Env,
    moment: &Moment,
) -> Result<(Request<Bytes>, Vec<Secret>), AuthError> {
    let env = moment.bound(env, &TimestampForm::Seconds);
    let mut draft = Draft { env: &env, hidden: Vec::new() };
    let mut request = Request::new(Bytes::new());
    *request.method_mut() = plan.method.clone();
    *request.uri_mut() = draft.url(plan)?;
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(body) = &plan.body {
        let (bytes, kind) = draft.body(body)?;
        *request.body_mut() = bytes;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    for (name, value) in &plan.headers {
        let text = draft.settled(value)?;
        if let Place::Header(name, value) = header(named(name)?, &text)? {
            request.headers_mut().insert(name, value);
        }
    }
    Ok((request, draft.hidden))
}

/// The token, and how long it lives.
pub(super) fn granted(
    plan: &LoginPlan,
    env: &Env,
    hidden: &[Secret],
    answer: Result<Answer, EgressError>,
    now: Timestamp,
) -> Result<(Secret, Duration), AuthError> {
    let (answer, body) = answer::received(WHO, answer)?;
    if !answer.status.is_success() {
        return Err(answer::refusal(WHO, (&answer, &body), hidden, now));
    }
    let env = answer::bound(env, &answer, body.clone());
    let token = answer::token(WHO, &plan.token, &env, &body)?;
    let life = answer::life(plan.life.as_ref(), None, &env, now)?;
    Ok((token, life))
}
