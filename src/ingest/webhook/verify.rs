//! Verification: whether the raw bytes come from who holds the secret. Pure.
//!
//! Every comparison takes constant time, every live secret is tried against every listed signature,
//! and whatever is absent (header, signature, timestamp, key, signed parts) is a rejection: there is no
//! path on which a scheme that cannot be checked lets a request through. Only `algorithm = "none"`,
//! which the file must spell out, checks nothing.

use bytes::Bytes;
use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use http::{HeaderMap, Method, header::AUTHORIZATION};
use ring::{digest, hmac};
use subtle::ConstantTimeEq;

use super::keys::{Key, Material};
use crate::{
    plan::{Algorithm, Encoding, SignaturePlan, SignedPart, TimeUnit, TimestampPlan, VerifyPlan},
    world::Timestamp,
};

/// A body as received: read to its end under the size limit, nothing undone, nobody's word for it.
#[derive(Debug)]
pub struct RawBody(Bytes);

impl RawBody {
    /// The bytes as they came over the wire.
    pub fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

/// A body whose sender is known. Only [`verify`] makes one.
#[derive(Debug)]
pub struct VerifiedBody(Bytes);

impl VerifiedBody {
    /// The bytes, still as they came over the wire.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

/// What of a request may be signed besides its body.
#[derive(Clone, Copy, Debug)]
pub struct RequestParts<'a> {
    /// The method.
    pub method: &'a Method,
    /// The full URL as the producer called it.
    pub url: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
}

/// Why a request was not believed: for the log, never for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// No header of that name, or none with an item of the wanted form.
    NoSignature,
    /// The timestamp is missing, ambiguous or no time.
    NoTimestamp,
    /// The timestamp is older than `past` allows.
    TooOld,
    /// The timestamp is further ahead than `future` allows.
    TooNew,
    /// A signed header is missing or stands there twice.
    NoSignedHeader,
    /// No secret is live, or the plan signs nothing.
    NoKey,
    /// No secret gives any of the signatures.
    Mismatch,
}

impl Reject {
    /// A stable word for the log.
    pub fn word(self) -> &'static str {
        match self {
            Self::NoSignature => "no_signature",
            Self::NoTimestamp => "no_timestamp",
            Self::TooOld => "timestamp_too_old",
            Self::TooNew => "timestamp_too_new",
            Self::NoSignedHeader => "no_signed_header",
            Self::NoKey => "no_key",
            Self::Mismatch => "mismatch",
        }
    }
}

/// Checks `body` against the plan's scheme with every key that is live at `now`.
pub fn verify(
    plan: &VerifyPlan,
    keys: &[Key],
    request: &RequestParts<'_>,
    body: RawBody,
    now: Timestamp,
) -> Result<VerifiedBody, Reject> {
    let timestamp = match &plan.timestamp {
        Some(timestamp) => Some(check_timestamp(timestamp, request.headers, now)?),
        None => None,
    };
    let live = keys.iter().filter(|key| key.is_live(now));
    match plan.algorithm {
        Algorithm::HmacSha1 | Algorithm::HmacSha256 | Algorithm::HmacSha512 => {
            let place = plan.signature.as_ref().ok_or(Reject::NoSignature)?;
            let given = decoded_signatures(place, request.headers)?;
            check_hmac(&plan.signed, live, &given, request, timestamp, &body.0)?;
        }
        Algorithm::Token => {
            let place = plan.signature.as_ref().ok_or(Reject::NoSignature)?;
            check_text(live, &decoded_signatures(place, request.headers)?)?;
        }
        Algorithm::Basic => check_text(live, &[basic_credentials(request.headers)?])?,
        Algorithm::None => {}
    }
    Ok(VerifiedBody(body.0))
}

/// Any key with any signature. All are compared, whichever matches.
fn check_hmac<'k>(
    signed: &[SignedPart],
    keys: impl Iterator<Item = &'k Key>,
    given: &[Vec<u8>],
    request: &RequestParts<'_>,
    timestamp: Option<&str>,
    body: &[u8],
) -> Result<(), Reject> {
    if signed.is_empty() {
        return Err(Reject::NoKey);
    }
    let mut found = subtle::Choice::from(0);
    let mut any_key = false;
    for key in keys {
        let Material::Hmac(key) = &key.material else {
            continue;
        };
        any_key = true;
        let mut context = hmac::Context::with_key(key);
        for part in signed {
            sign_part(&mut context, part, request, timestamp, body)?;
        }
        let expected = context.sign();
        for signature in given {
            found |= expected.as_ref().ct_eq(signature);
        }
    }
    outcome(any_key, found)
}

pub(super) fn sign_part(
    context: &mut hmac::Context,
    part: &SignedPart,
    request: &RequestParts<'_>,
    timestamp: Option<&str>,
    body: &[u8],
) -> Result<(), Reject> {
    match part {
        SignedPart::Text(text) => context.update(text.as_bytes()),
        SignedPart::Body => context.update(body),
        SignedPart::BodySha256 => {
            let hash = digest::digest(&digest::SHA256, body);
            context.update(HEXLOWER.encode(hash.as_ref()).as_bytes());
        }
        SignedPart::Timestamp => {
            context.update(timestamp.ok_or(Reject::NoTimestamp)?.as_bytes());
        }
        SignedPart::Url => context.update(request.url.as_bytes()),
        SignedPart::Method => context.update(request.method.as_str().as_bytes()),
        SignedPart::Header(name) => {
            let value = single_header(request.headers, name).ok_or(Reject::NoSignedHeader)?;
            context.update(value.as_bytes());
        }
    }
    Ok(())
}

/// Compares digests, so that not even the length of the secret shows in the time it takes.
fn check_text<'k>(keys: impl Iterator<Item = &'k Key>, given: &[Vec<u8>]) -> Result<(), Reject> {
    let mut found = subtle::Choice::from(0);
    let mut any_key = false;
    for key in keys {
        let Material::Digest(expected) = &key.material else {
            continue;
        };
        any_key = true;
        for text in given {
            let hash = digest::digest(&digest::SHA256, text);
            found |= expected.as_slice().ct_eq(hash.as_ref());
        }
    }
    outcome(any_key, found)
}

fn outcome(any_key: bool, found: subtle::Choice) -> Result<(), Reject> {
    match (any_key, bool::from(found)) {
        (false, _) => Err(Reject::NoKey),
        (true, false) => Err(Reject::Mismatch),
        (true, true) => Ok(()),
    }
}

/// `user:password` as RFC 7617 has it.
fn basic_credentials(headers: &HeaderMap) -> Result<Vec<u8>, Reject> {
    let text = single_header(headers, AUTHORIZATION.as_str()).ok_or(Reject::NoSignature)?;
    let (scheme, credentials) = text.split_once(' ').ok_or(Reject::NoSignature)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(Reject::NoSignature);
    }
    decode(Encoding::Base64, credentials.trim()).ok_or(Reject::NoSignature)
}

/// The timestamp as received, once it is within the tolerance.
fn check_timestamp<'h>(
    plan: &TimestampPlan,
    headers: &'h HeaderMap,
    now: Timestamp,
) -> Result<&'h str, Reject> {
    let mut found = located(headers, &plan.header, plan.list.as_deref(), plan.take.as_deref());
    let text = found.next().ok_or(Reject::NoTimestamp)?;
    if found.next().is_some() {
        return Err(Reject::NoTimestamp);
    }
    let at = match plan.unit {
        TimeUnit::Seconds => {
            text.parse::<i64>().ok().and_then(|s| s.checked_mul(1000)).map(Timestamp)
        }
        TimeUnit::Milliseconds => text.parse().ok().map(Timestamp),
        TimeUnit::Rfc3339 => Timestamp::parse_rfc3339(text),
    };
    let at = at.ok_or(Reject::NoTimestamp)?;
    if at < now.minus(plan.past) {
        return Err(Reject::TooOld);
    }
    if at > now.plus(plan.future) {
        return Err(Reject::TooNew);
    }
    Ok(text)
}

/// Every signature that stands where the plan says and decodes; an empty list is a rejection.
fn decoded_signatures(plan: &SignaturePlan, headers: &HeaderMap) -> Result<Vec<Vec<u8>>, Reject> {
    let found: Vec<_> = located(headers, &plan.header, plan.list.as_deref(), plan.take.as_deref())
        .filter_map(|text| decode(plan.decode, text))
        .filter(|bytes| !bytes.is_empty())
        .collect();
    if found.is_empty() { Err(Reject::NoSignature) } else { Ok(found) }
}

/// The items of a header, split at `list`, that begin with `take`, which is cut off.
fn located<'h, 'p>(
    headers: &'h HeaderMap,
    name: &'p str,
    list: Option<&'p str>,
    take: Option<&'p str>,
) -> impl Iterator<Item = &'h str> + use<'h, 'p> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(move |value| {
            // Without a separator the whole value is the one item: nothing splits at a line break,
            // which no header value can hold.
            value.split(list.unwrap_or("\n"))
        })
        .filter_map(move |item| item.trim().strip_prefix(take.unwrap_or("")))
        .filter(|item| !item.is_empty())
}

/// A header that stands there exactly once.
fn single_header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).into_iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// The text that [`decode`] gives these bytes for, where there is one.
pub(super) fn encode(encoding: Encoding, bytes: &[u8]) -> Option<String> {
    Some(match encoding {
        Encoding::Raw => String::from_utf8(bytes.to_vec()).ok()?,
        Encoding::Hex => HEXLOWER.encode(bytes),
        Encoding::Base64 => BASE64.encode(bytes),
        Encoding::Base64Url => BASE64URL_NOPAD.encode(bytes),
    })
}

/// Bytes from text; hexadecimal of either case, base64 with padding or without.
pub(super) fn decode(encoding: Encoding, text: &str) -> Option<Vec<u8>> {
    match encoding {
        Encoding::Raw => Some(text.as_bytes().to_vec()),
        Encoding::Hex => HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok(),
        Encoding::Base64 => BASE64_NOPAD.decode(text.trim_end_matches('=').as_bytes()).ok(),
        Encoding::Base64Url => BASE64URL_NOPAD.decode(text.trim_end_matches('=').as_bytes()).ok(),
    }
}

#[cfg(test)]
mod tests;
