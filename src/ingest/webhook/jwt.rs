//! JSON Web Tokens (RFC 7519) in compact form (RFC 7515, section 7.1). Pure.
//!
//! The token does not choose how it is checked: its `alg` must be in the scheme's list, and a key
//! verifies with algorithms of its own kind only, so that a public key is never a shared secret.
//! A token without an end (`exp`, or a time of issue with a tolerance) is none.

use data_encoding::BASE64URL_NOPAD;
use ring::hmac;
use serde_json::Value;

use super::{
    keys::{Key, Material},
    locate::Look,
    public::{Check, PublicKey},
    verify::Reject,
};
use crate::{
    plan::{JwtAlgorithm, JwtPlan, VerifyPlan},
    world::Timestamp,
};

/// How far `nbf` may lie ahead and `exp` back, where the scheme has no timestamp of its own.
const LEEWAY_MS: i64 = 60_000;

/// Longest token and key id, in bytes.
const MAX_TOKEN_BYTES: usize = 16 << 10;
const MAX_KID_BYTES: usize = 256;

/// A token taken apart; nothing of it is believed yet.
pub(super) struct Token<'t> {
    signed: &'t str,
    payload: &'t str,
    signature: Vec<u8>,
    algorithm: JwtAlgorithm,
    /// Which key it says it was signed with.
    pub kid: Option<String>,
}

impl<'t> Token<'t> {
    /// Takes a token apart whose algorithm is in the list.
    pub fn read(plan: &JwtPlan, text: &'t str) -> Result<Self, Reject> {
        if text.len() > MAX_TOKEN_BYTES {
            return Err(Reject::BadToken);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(Reject::BadToken)?;
        let (head, payload) = signed.split_once('.').ok_or(Reject::BadToken)?;
        let head = json_of(head).ok_or(Reject::BadToken)?;
        // Whatever a critical extension changes, we do not know it.
        if head.get("crit").is_some() {
            return Err(Reject::BadToken);
        }
        let word = head.get("alg").and_then(Value::as_str).ok_or(Reject::BadToken)?;
        let allowed = plan.algorithms.iter().find(|algorithm| algorithm.word() == word);
        let kid = match head.get("kid") {
            None => None,
            Some(Value::String(kid)) if is_plain(kid) => Some(kid.clone()),
            Some(_) => return Err(Reject::BadToken),
        };
        let signature =
            BASE64URL_NOPAD.decode(signature.as_bytes()).map_err(|_| Reject::BadToken)?;
        let algorithm = *allowed.ok_or(Reject::WrongAlgorithm)?;
        Ok(Self { signed, payload, signature, algorithm, kid })
    }

    /// The claims, once one of the keys has the signature.
    pub fn claims<'k>(
        &self,
        live: impl Iterator<Item = &'k Key>,
        fetched: &[PublicKey],
    ) -> Result<Value, Reject> {
        let (mut found, mut any_key) = (false, false);
        for key in live {
            any_key = true;
            found |= match &key.material {
                Material::Text => self.has_tag_of(key.secret()),
                Material::Public(key) => self.has_signature_of(key),
                _ => false,
            };
        }
        for key in fetched {
            let is_meant = match (&self.kid, &key.kid) {
                (Some(wanted), Some(kid)) => wanted == kid,
                _ => true,
            };
            any_key |= is_meant;
            found |= is_meant && self.has_signature_of(key);
        }
        match (any_key, found) {
            (false, _) => Err(Reject::NoKey),
            (true, false) => Err(Reject::Mismatch),
            (true, true) => json_of(self.payload).ok_or(Reject::BadToken),
        }
    }

    fn has_tag_of(&self, secret: &[u8]) -> bool {
        let algorithm = match self.algorithm {
            JwtAlgorithm::Hs256 => hmac::HMAC_SHA256,
            JwtAlgorithm::Hs384 => hmac::HMAC_SHA384,
            JwtAlgorithm::Hs512 => hmac::HMAC_SHA512,
            _ => return false,
        };
        // Compares in constant time.
        let key = hmac::Key::new(algorithm, secret);
        hmac::verify(&key, self.signed.as_bytes(), &self.signature).is_ok()
    }

    fn has_signature_of(&self, key: &PublicKey) -> bool {
        Check::of_jwt(self.algorithm)
            .is_some_and(|check| key.verifies(check, self.signed.as_bytes(), &self.signature))
    }
}

/// What `keys` are asked for: the token's key id.
pub(super) fn kid(plan: &VerifyPlan, look: &Look<'_>) -> Result<Option<String>, Reject> {
    let Some(jwt) = &plan.jwt else { return Ok(None) };
    let place = plan.signature.as_ref().ok_or(Reject::NoSignature)?;
    let token = look.only(&place.at).ok_or(Reject::NoSignature)?;
    Ok(Token::read(jwt, &token)?.kid)
}

/// Whether the claims are of the issuer, for us, and of now.
pub(super) fn check_claims(
    plan: &VerifyPlan,
    claims: &Value,
    now: Timestamp,
) -> Result<(), Reject> {
    let jwt = plan.jwt.as_ref().ok_or(Reject::NoKey)?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if jwt.issuer.as_deref().is_some_and(|issuer| text("iss") != Some(issuer)) {
        return Err(Reject::WrongIssuer);
    }
    let is_for = |audience: &str| match claims.get("aud") {
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(many)) => many.iter().any(|one| one == audience),
        _ => false,
    };
    if jwt.audience.as_deref().is_some_and(|audience| !is_for(audience)) {
        return Err(Reject::WrongAudience);
    }
    if claims.get("exp").is_none() && plan.timestamp.is_none() {
        return Err(Reject::NoTimestamp);
    }
    let leeway = plan.timestamp.as_ref().map_or(LEEWAY_MS, |timestamp| {
        i64::try_from(timestamp.future.as_millis()).unwrap_or(LEEWAY_MS)
    });
    if time(claims, "exp")?.is_some_and(|end| now.0 > end.saturating_add(leeway)) {
        return Err(Reject::TooOld);
    }
    if time(claims, "nbf")?.is_some_and(|begin| now.0 < begin.saturating_sub(leeway)) {
        return Err(Reject::TooNew);
    }
    Ok(())
}

/// A `NumericDate` in milliseconds; fractions of a second are cut.
fn time(claims: &Value, name: &str) -> Result<Option<i64>, Reject> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds as i64));
    seconds.map(|seconds| Some(seconds.saturating_mul(1000))).ok_or(Reject::NoTimestamp)
}

fn json_of(part: &str) -> Option<Value> {
    let value: Value =
        serde_json::from_slice(&BASE64URL_NOPAD.decode(part.as_bytes()).ok()?).ok()?;
    value.is_object().then_some(value)
}

/// A key id becomes part of a request of ours: no more than an identifier may stand in it.
fn is_plain(kid: &str) -> bool {
    let fine =
        |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.' | b'~' | b'=' | b'+');
    !kid.is_empty() && kid.len() <= MAX_KID_BYTES && kid.bytes().all(fine)
}
