//! AWS Signature Version 4, as the service's general reference describes it ("Create a signed AWS API
//! request"): canonical request, string to sign, derived key, `Authorization`.
//!
//! The query that is sent is the canonical one: a `+` that one side reads as a blank and the other as
//! itself would break the signature.

use bytes::Bytes;
use data_encoding::HEXLOWER;
use http::{
    HeaderName, HeaderValue, Request, Uri,
    header::{AUTHORIZATION, HOST},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use ring::hmac;

use super::Moment;
use crate::{
    auth::{
        AuthError,
        credential::{Credential, Place, header, look_up},
    },
    map::{Env, sha256_hex},
    plan::SigV4Plan,
    world::Secret,
};

/// RFC 3986: letters, digits, `-`, `_`, `.` and `~` stand for themselves.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// As above, for a whole path.
const RESERVED_IN_PATHS: &AsciiSet = &RESERVED.remove(b'/');

const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const CONTENT_HASH: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// Headers that something on the way may change.
const UNSIGNED: &[&str] =
    &["authorization", "connection", "user-agent", "accept-encoding", "expect", "traceparent"];

/// Signs a request as it will be sent; its query is made canonical.
pub(in crate::auth) fn sign(
    plan: &SigV4Plan,
    env: &Env,
    moment: &Moment,
    request: &mut Request<Bytes>,
) -> Result<Credential, AuthError> {
    let access_key = look_up(&plan.access_key, env)?;
    let secret_key = look_up(&plan.secret_key, env)?;
    let token = plan.session_token.as_ref().map(|it| look_up(it, env)).transpose()?;
    let (region, service) = (look_up(&plan.region, env)?, look_up(&plan.service, env)?);
    let (region, service) = (region.expose(), service.expose());
    canonical_query_sent(request)?;

    let time = moment.printed("%Y%m%dT%H%M%SZ");
    let day = time.get(..8).unwrap_or_default();
    let body_hash = sha256_hex(request.body());
    let is_s3 = service.starts_with("s3");
    let open = |name: HeaderName, text: &str| {
        let value = HeaderValue::from_str(text);
        value.map(|value| Place::Header(name, value)).map_err(|_| unfit())
    };
    let mut places = vec![open(DATE, &time)?];
    if is_s3 {
        places.push(open(CONTENT_HASH, &body_hash)?);
    }
    if let Some(token) = &token {
        places.push(header(SECURITY_TOKEN, token)?);
    }
    let headers = signed_headers(request, &places);
    let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(";");
    let canonical = canonical_request(request, is_s3, &headers, &names, &body_hash);
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let to_sign =
        format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", sha256_hex(canonical.as_bytes()));
    let key = derived(&secret_key, [day, region, service, "aws4_request"]);
    let signature = HEXLOWER.encode(hmac::sign(&key, to_sign.as_bytes()).as_ref());
    let authorization = Secret::new(format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        access_key.expose()
    ));
    places.push(header(AUTHORIZATION, &authorization)?);
    let hidden = [Some(secret_key), token, Some(Secret::new(signature))];
    Ok(Credential::signature(places, hidden.into_iter().flatten().collect(), moment.now))
}

fn unfit() -> AuthError {
    AuthError::Held(
        "the request cannot be signed: it has what no URL or header can carry".to_owned(),
    )
}

fn canonical_query_sent(request: &mut Request<Bytes>) -> Result<(), AuthError> {
    let Some(query) = request.uri().query() else { return Ok(()) };
    let canonical = canonical_query(query);
    let mut parts = request.uri().clone().into_parts();
    let path = request.uri().path();
    let joint = if canonical.is_empty() { "" } else { "?" };
    parts.path_and_query = Some(format!("{path}{joint}{canonical}").parse().map_err(|_| unfit())?);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| unfit())?;
    Ok(())
}

/// Sorted by name, then by value, both encoded the one way.
fn canonical_query(query: &str) -> String {
    let once = |text: &str| {
        let text = text.replace('+', " ");
        let plain: Vec<u8> = percent_decode_str(&text).collect();
        percent_encoding::percent_encode(&plain, RESERVED).to_string()
    };
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (once(name), once(value)))
        .collect();
    pairs.sort();
    let pairs: Vec<String> =
        pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// Names in lower case with their values, sorted.
fn signed_headers(request: &Request<Bytes>, added: &[Place]) -> Vec<(String, String)> {
    let added = added.iter().filter_map(|place| match place {
        Place::Header(name, value) => Some((name, value)),
        _ => None,
    });
    let own = request
        .headers()
        .iter()
        .filter(|(name, _)| !UNSIGNED.contains(&name.as_str()) && **name != HOST)
        .filter(|(name, _)| ![DATE, CONTENT_HASH, SECURITY_TOKEN].contains(name));
    let mut headers: Vec<(String, Vec<String>)> = Vec::new();
    let host = request.uri().authority().map_or("", |it| it.as_str()).to_owned();
    headers.push(("host".to_owned(), vec![host]));
    for (name, value) in own.chain(added) {
        let text = String::from_utf8_lossy(value.as_bytes());
        let text: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
        let text = text.join(" ");
        match headers.iter_mut().find(|(known, _)| known == name.as_str()) {
            Some((_, values)) => values.push(text),
            None => headers.push((name.as_str().to_owned(), vec![text])),
        }
    }
    headers.sort();
    headers.into_iter().map(|(name, values)| (name, values.join(","))).collect()
}

fn canonical_request(
    request: &Request<Bytes>,
    is_s3: bool,
    headers: &[(String, String)],
    names: &str,
    body_hash: &str,
) -> String {
    let path = request.uri().path();
    // Everybody but S3 encodes the path, which is encoded, once more.
    let path = if is_s3 {
        path.to_owned()
    } else {
        utf8_percent_encode(path, RESERVED_IN_PATHS).to_string()
    };
    let headers: Vec<String> =
        headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let headers = headers.concat();
    let query = request.uri().query().unwrap_or_default();
    format!("{}\n{path}\n{query}\n{headers}\n{names}\n{body_hash}", request.method())
}

fn derived(secret_key: &Secret, steps: [&str; 4]) -> hmac::Key {
    let first = Secret::new(format!("AWS4{}", secret_key.expose()));
    let mut key = hmac::Key::new(hmac::HMAC_SHA256, first.expose().as_bytes());
    for step in steps {
        key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, step.as_bytes()).as_ref());
    }
    key
}
