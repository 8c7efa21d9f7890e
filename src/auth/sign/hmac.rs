//! An HMAC (RFC 2104) over what the file says of a request.

use std::sync::Arc;

use bytes::Bytes;
use data_encoding::{BASE64, BASE64URL, HEXLOWER};
use http::{HeaderValue, Request};
use ring::hmac;
use serde_json::{Map, Value};

use super::{Moment, key};
use crate::{
    auth::{
        AuthError,
        credential::{Credential, Place, encode, header, look_up, named},
    },
    map::{Env, Expr, sha256_hex},
    plan::{Encoding, HmacHash, HmacPlan},
    world::Secret,
};

/// Signs a request as it will be sent.
pub(in crate::auth) fn sign(
    plan: &HmacPlan,
    env: &Env,
    moment: &Moment,
    request: &Request<Bytes>,
) -> Result<Credential, AuthError> {
    let key = key::bytes(&plan.key, env)?;
    let env = seen(plan, moment.bound(env, &plan.timestamp), request)?;
    let hash = match plan.hash {
        HmacHash::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        HmacHash::Sha256 => hmac::HMAC_SHA256,
        HmacHash::Sha512 => hmac::HMAC_SHA512,
    };
    let signed = look_up(&plan.signed, &env)?;
    let tag = hmac::sign(&hmac::Key::new(hash, &key), signed.expose().as_bytes());
    let signature = match plan.encode {
        Encoding::Base64 => BASE64.encode(tag.as_ref()),
        Encoding::Base64Url => BASE64URL.encode(tag.as_ref()),
        Encoding::Hex | Encoding::Raw | Encoding::Pem => HEXLOWER.encode(tag.as_ref()),
    };
    let env = env.with("signature", Arc::new(Value::from(signature.as_str())));
    let mut places = Vec::with_capacity(plan.headers.len() + plan.query.len());
    for (name, value) in &plan.headers {
        places.push(set(name, value, &env)?);
    }
    for (name, value) in &plan.query {
        let pair = format!("{}={}", encode(name), encode(look_up(value, &env)?.expose()));
        places.push(Place::Query(Secret::new(pair)));
    }
    let hidden = vec![Secret::new(signature), look_up(&plan.key.secret, &env)?];
    Ok(Credential::signature(places, hidden, moment.now))
}

/// A header; one that says nothing but the time may be shown.
fn set(name: &str, value: &Expr, env: &Env) -> Result<Place, AuthError> {
    let text = look_up(value, env)?;
    let is_open =
        !value.needs_secret() && !value.uses().iter().any(|(name, _)| name == "signature");
    let name = named(name)?;
    match HeaderValue::from_str(text.expose()) {
        Ok(open) if is_open => Ok(Place::Header(name, open)),
        _ => header(name, &text),
    }
}

/// The names that `signed` sees of a request; those nobody asks for are not made.
fn seen(plan: &HmacPlan, env: Env, request: &Request<Bytes>) -> Result<Env, AuthError> {
    let exprs = plan.headers.iter().chain(&plan.query).map(|(_, expr)| expr);
    let uses: Vec<String> =
        exprs.chain([&plan.signed]).flat_map(Expr::uses).map(|(name, _)| name).collect();
    let uri = request.uri();
    let query = uri.query().unwrap_or_default();
    let mut env = env;
    let mut bind = |name: &'static str, value: &dyn Fn() -> Result<Value, AuthError>| {
        if uses.iter().any(|used| used == name) {
            env = std::mem::take(&mut env).with(name, Arc::new(value()?));
        }
        Ok::<(), AuthError>(())
    };
    bind("method", &|| Ok(request.method().as_str().into()))?;
    bind("url", &|| Ok(uri.to_string().into()))?;
    bind("host", &|| Ok(uri.authority().map_or("", |it| it.as_str()).into()))?;
    bind("path", &|| Ok(uri.path().into()))?;
    bind("query", &|| Ok(query.into()))?;
    bind("sorted_query", &|| Ok(sorted(query).into()))?;
    bind("body_sha256", &|| Ok(sha256_hex(request.body()).into()))?;
    bind("body", &|| {
        let text = std::str::from_utf8(request.body())
            .map_err(|_| AuthError::Held("`body` is not text; sign `body_sha256`".to_owned()))?;
        Ok(text.into())
    })?;
    bind("request", &|| Ok(whole(request)))?;
    Ok(env)
}

fn sorted(query: &str) -> String {
    let mut pairs: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty()).collect();
    pairs.sort_unstable();
    pairs.join("&")
}

/// `request.headers['x-date']`, `request.query.page`.
fn whole(request: &Request<Bytes>) -> Value {
    let headers: Map<String, Value> = request
        .headers()
        .iter()
        .map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into())
        })
        .collect();
    let query: Map<String, Value> =
        url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes())
            .map(|(name, value)| (name.into_owned(), value.into_owned().into()))
            .collect();
    serde_json::json!({ "headers": headers, "query": query })
}
