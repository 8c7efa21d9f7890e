//! Verification: whether the raw bytes come from who holds the secret. Pure.
//!
//! Every comparison takes constant time, every live secret is tried against every listed signature,
//! and whatever is absent (header, signature, timestamp, key, signed parts) is a rejection: there is no
//! path on which a scheme that cannot be checked lets a request through. Only `algorithm = "none"`,
//! which the file must spell out, checks nothing.

use std::borrow::Cow;

use bytes::Bytes;
use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use http::{HeaderMap, Method, header::AUTHORIZATION};
use ring::{digest, hmac};
use subtle::ConstantTimeEq;

use super::{
    certificate,
    jwt::{self, Token},
    keys::{Key, Material},
    locate::{Look, single_header},
    message::{Message, url_in},
    public::{Check, PublicKey},
};
use crate::{
    plan::{
        Algorithm, Encoding, Place, SignaturePlan, SignedPart, TimeUnit, TimestampPlan, UrlForm,
        VerifyPlan,
    },
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

    /// For finding a signature in it, and nothing else.
    pub(super) fn unverified(&self) -> &Bytes {
        &self.0
    }
}

/// A body whose sender is known. Only [`verify`] makes one.
#[derive(Debug)]
pub struct VerifiedBody {
    bytes: Bytes,
    signed_at: Option<Timestamp>,
}

impl VerifiedBody {
    /// The bytes, still as they came over the wire.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The bytes.
    pub(super) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// When the sender's clock says that it was signed, where the scheme has such a time.
    pub fn signed_at(&self) -> Option<Timestamp> {
        self.signed_at
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
    /// Nothing of the wanted form stands where the signature should.
    NoSignature,
    /// The timestamp is missing, ambiguous or no time.
    NoTimestamp,
    /// The timestamp is older than `past` allows, or the token is over.
    TooOld,
    /// The timestamp is further ahead than `future` allows.
    TooNew,
    /// A signed header or field is missing, or a header stands there twice.
    NoSignedPart,
    /// No secret is live, no key is known, or the plan signs nothing.
    NoKey,
    /// No key gives any of the signatures.
    Mismatch,
    /// What is signed does not determine this body.
    BodyNotBound,
    /// The signed digest is that of another body.
    OtherBody,
    /// Not a token.
    BadToken,
    /// The token's algorithm is not in the list.
    WrongAlgorithm,
    /// The token is somebody else's.
    WrongIssuer,
    /// The token is for somebody else.
    WrongAudience,
    /// No certificate, or none that may post.
    WrongCertificate,
    /// The keys would have to be fetched from a host that is not listed.
    WrongHost,
}

impl Reject {
    /// A stable word for the log.
    pub fn word(self) -> &'static str {
        match self {
            Self::NoSignature => "no_signature",
            Self::NoTimestamp => "no_timestamp",
            Self::TooOld => "timestamp_too_old",
            Self::TooNew => "timestamp_too_new",
            Self::NoSignedPart => "no_signed_part",
            Self::NoKey => "no_key",
            Self::Mismatch => "mismatch",
            Self::BodyNotBound => "body_not_bound",
            Self::OtherBody => "other_body",
            Self::BadToken => "bad_token",
            Self::WrongAlgorithm => "wrong_algorithm",
            Self::WrongIssuer => "wrong_issuer",
            Self::WrongAudience => "wrong_audience",
            Self::WrongCertificate => "wrong_certificate",
            Self::WrongHost => "wrong_host",
        }
    }
}

/// What a request is checked with.
#[derive(Clone, Copy, Debug)]
pub struct Keyring<'k> {
    /// Of the route's secrets.
    pub keys: &'k [Key],
    /// Of the scheme's `keys`.
    pub fetched: &'k [PublicKey],
}

impl<'k> Keyring<'k> {
    /// Secrets alone.
    pub fn of(keys: &'k [Key]) -> Self {
        Self { keys, fetched: &[] }
    }

    fn live(self, now: Timestamp) -> impl Iterator<Item = &'k Key> {
        self.keys.iter().filter(move |key| key.is_live(now))
    }
}

/// Checks `body` against the plan's scheme with every key that is live at `now`.
pub fn verify(
    plan: &VerifyPlan,
    ring: Keyring<'_>,
    request: &RequestParts<'_>,
    body: RawBody,
    now: Timestamp,
) -> Result<VerifiedBody, Reject> {
    let mut look = Look::new(plan, request, &body.0)?;
    let mut signed_at = None;
    match plan.algorithm {
        Algorithm::None => {}
        Algorithm::Basic => {
            check_text(ring.live(now), &[basic_credentials(request.headers)?], false)?;
        }
        Algorithm::Token => check_token(plan, ring, &look, now)?,
        Algorithm::Mtls => {
            check_token(plan, ring, &look, now)?;
            let certificate = plan.certificate.as_ref().ok_or(Reject::WrongCertificate)?;
            certificate::check(certificate, request.headers)?;
        }
        Algorithm::Jwt => {
            let place = plan.signature.as_ref().ok_or(Reject::NoSignature)?;
            let text = look.only(&place.at).ok_or(Reject::NoSignature)?;
            let token = Token::read(plan.jwt.as_ref().ok_or(Reject::NoKey)?, &text)?;
            let claims = token.claims(ring.live(now), ring.fetched)?;
            jwt::check_claims(plan, &claims, now)?;
            look.claims = Some(&claims);
            signed_at = check_rest(plan, ring, &look, &body.0, now)?;
        }
        _ => signed_at = check_rest(plan, ring, &look, &body.0, now)?,
    }
    Ok(VerifiedBody { bytes: body.0, signed_at })
}

/// Time, signature, and whether they say anything about this body. The time, where there is one.
fn check_rest(
    plan: &VerifyPlan,
    ring: Keyring<'_>,
    look: &Look<'_>,
    body: &[u8],
    now: Timestamp,
) -> Result<Option<Timestamp>, Reject> {
    let (timestamp, at) = match &plan.timestamp {
        Some(timestamp) => Some(check_timestamp(timestamp, look, now)?).unzip(),
        None => (None, None),
    };
    let message = Message { look, timestamp: timestamp.as_deref(), body };
    if plan.algorithm != Algorithm::Jwt {
        check_signed(plan, ring, &message, now)?;
    }
    let has_digest = match &plan.body_hash {
        Some(hash) => check_digest(hash.decode, &look.each_of(&hash.at), body)?,
        None => false,
    };
    if has_digest || message.is_bound(plan) { Ok(at) } else { Err(Reject::BodyNotBound) }
}

/// Whether there is a digest of the body; one that is there must be right.
fn check_digest(encoding: Encoding, given: &[Cow<'_, str>], body: &[u8]) -> Result<bool, Reject> {
    let actual = digest::digest(&digest::SHA256, body);
    match given {
        [] => Ok(false),
        [text] => {
            let given = decode(encoding, text).ok_or(Reject::OtherBody)?;
            let same: bool = actual.as_ref().ct_eq(&given).into();
            if same { Ok(true) } else { Err(Reject::OtherBody) }
        }
        _ => Err(Reject::OtherBody),
    }
}

/// Any key with any signature over any form of the URL. All are compared, whichever matches.
fn check_signed(
    plan: &VerifyPlan,
    ring: Keyring<'_>,
    message: &Message<'_>,
    now: Timestamp,
) -> Result<(), Reject> {
    let place = plan.signature.as_ref().ok_or(Reject::NoSignature)?;
    let given = decoded_signatures(place, message.look)?;
    if plan.signed.is_empty() {
        return Err(Reject::NoKey);
    }
    let has_url = plan.signed.contains(&SignedPart::Url);
    let forms = if has_url { plan.urls.as_slice() } else { &[UrlForm::AsSent] };
    let mut found = subtle::Choice::from(0);
    let mut any_key = false;
    for form in forms {
        let url = url_in(*form, message.look.request.url);
        for key in ring.live(now) {
            any_key |= check_key(plan, key, &url, message, &given, &mut found)?;
        }
        if plan.keys.is_some() {
            let secrets = ring.live(now).map(Key::secret);
            let needed = plan.needs_secret();
            let nothing: &[u8] = &[];
            let secrets = secrets.chain((!needed).then_some(nothing));
            for secret in secrets {
                let signed = message.bytes(&plan.signed, &url, secret)?;
                for key in ring.fetched {
                    any_key = true;
                    found |= check_public(plan, place, key, &signed, &given);
                }
            }
        }
    }
    outcome(any_key, found)
}

/// Whether the key is one for the scheme; whether it gives a signature is added to `found`.
fn check_key(
    plan: &VerifyPlan,
    key: &Key,
    url: &str,
    message: &Message<'_>,
    given: &[Vec<u8>],
    found: &mut subtle::Choice,
) -> Result<bool, Reject> {
    match &key.material {
        Material::Hmac(hmac) if plan.algorithm.is_hmac() => {
            let mut context = hmac::Context::with_key(hmac);
            message.feed(&plan.signed, url, key.secret(), &mut |piece| context.update(piece))?;
            let expected = context.sign();
            for signature in given {
                *found |= expected.as_ref().ct_eq(signature);
            }
        }
        Material::Text if plan.algorithm == Algorithm::Sha256Concat => {
            let mut context = digest::Context::new(&digest::SHA256);
            message.feed(&plan.signed, url, key.secret(), &mut |piece| context.update(piece))?;
            let expected = context.finish();
            for signature in given {
                *found |= expected.as_ref().ct_eq(signature);
            }
        }
        Material::Public(public) if plan.algorithm.is_asymmetric() => {
            let signed = message.bytes(&plan.signed, url, key.secret())?;
            let place = plan.signature.as_ref().ok_or(Reject::NoSignature)?;
            *found |= check_public(plan, place, public, &signed, given);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// What is compared is public, so the time that it takes tells nothing.
fn check_public(
    plan: &VerifyPlan,
    place: &SignaturePlan,
    key: &PublicKey,
    signed: &[u8],
    given: &[Vec<u8>],
) -> subtle::Choice {
    let Some(check) = Check::of(plan.algorithm, place.is_raw_ecdsa) else {
        return subtle::Choice::from(0);
    };
    let found = given.iter().any(|signature| key.verifies(check, signed, signature));
    subtle::Choice::from(u8::from(found))
}

/// A token where the scheme says. Several in a body are parts of one request, each of which must
/// have it; several in headers are ways to say it.
fn check_token(
    plan: &VerifyPlan,
    ring: Keyring<'_>,
    look: &Look<'_>,
    now: Timestamp,
) -> Result<(), Reject> {
    let place = plan.signature.as_ref().ok_or(Reject::NoSignature)?;
    let every = matches!(place.at.place, Place::Body(_));
    check_text(ring.live(now), &decoded_signatures(place, look)?, every)
}

/// Compares digests, so that not even the length of the secret shows in the time it takes.
fn check_text<'k>(
    keys: impl Iterator<Item = &'k Key>,
    given: &[Vec<u8>],
    every: bool,
) -> Result<(), Reject> {
    let mut matching = vec![subtle::Choice::from(0); given.len()];
    let mut any_key = false;
    for key in keys {
        let Material::Digest(expected) = &key.material else {
            continue;
        };
        any_key = true;
        for (text, found) in given.iter().zip(&mut matching) {
            let hash = digest::digest(&digest::SHA256, text);
            *found |= expected.as_slice().ct_eq(hash.as_ref());
        }
    }
    let start = subtle::Choice::from(u8::from(every && !given.is_empty()));
    let join = |all, one| if every { all & one } else { all | one };
    outcome(any_key, matching.into_iter().fold(start, join))
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

/// The timestamp as received and the time that it is.
pub(super) fn timestamp_of<'h>(
    plan: &TimestampPlan,
    look: &Look<'h>,
) -> Option<(Cow<'h, str>, Timestamp)> {
    let text = look.only(&plan.at)?;
    let at = match plan.unit {
        TimeUnit::Seconds => {
            text.parse::<i64>().ok().and_then(|s| s.checked_mul(1000)).map(Timestamp)
        }
        TimeUnit::Milliseconds => text.parse().ok().map(Timestamp),
        TimeUnit::Rfc3339 => Timestamp::parse_rfc3339(&text),
    };
    Some((text, at?))
}

/// The timestamp as received, once it is within the tolerance.
fn check_timestamp<'h>(
    plan: &TimestampPlan,
    look: &Look<'h>,
    now: Timestamp,
) -> Result<(Cow<'h, str>, Timestamp), Reject> {
    let (text, at) = timestamp_of(plan, look).ok_or(Reject::NoTimestamp)?;
    if at < now.minus(plan.past) {
        return Err(Reject::TooOld);
    }
    if at > now.plus(plan.future) {
        return Err(Reject::TooNew);
    }
    Ok((text, at))
}

/// Every signature that stands where the plan says and decodes; an empty list is a rejection.
fn decoded_signatures(plan: &SignaturePlan, look: &Look<'_>) -> Result<Vec<Vec<u8>>, Reject> {
    let mut found = Vec::new();
    let mut undecodable = false;
    look.each(&plan.at, |text| match decode(plan.decode, &text) {
        Some(bytes) if !bytes.is_empty() => found.push(bytes),
        _ => undecodable = true,
    });
    // In a body each stands for a part of it, so none may be left out.
    let is_partial = undecodable && matches!(plan.at.place, Place::Body(_));
    if found.is_empty() || is_partial { Err(Reject::NoSignature) } else { Ok(found) }
}

/// The text that [`decode`] gives these bytes for, where there is one.
pub(super) fn encode(encoding: Encoding, bytes: &[u8]) -> Option<String> {
    Some(match encoding {
        Encoding::Raw | Encoding::Pem => String::from_utf8(bytes.to_vec()).ok()?,
        Encoding::Hex => HEXLOWER.encode(bytes),
        Encoding::Base64 => BASE64.encode(bytes),
        Encoding::Base64Url => BASE64URL_NOPAD.encode(bytes),
    })
}

/// Bytes from text; hexadecimal of either case, base64 with padding or without. PEM is left as it is.
pub(super) fn decode(encoding: Encoding, text: &str) -> Option<Vec<u8>> {
    match encoding {
        Encoding::Raw | Encoding::Pem => Some(text.as_bytes().to_vec()),
        Encoding::Hex => HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok(),
        Encoding::Base64 => BASE64_NOPAD.decode(text.trim_end_matches('=').as_bytes()).ok(),
        Encoding::Base64Url => BASE64URL_NOPAD.decode(text.trim_end_matches('=').as_bytes()).ok(),
    }
}

#[cfg(test)]
mod tests;
