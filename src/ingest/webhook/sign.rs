//! Signing: what a producer does so that [`verify`](super::verify()) believes it. Pure.
//!
//! Tests of connectors send webhooks with it; the daemon never signs.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header::AUTHORIZATION};
use ring::hmac;

use super::{
    RequestParts,
    keys::{Key, KeyProblem, Material, key_bytes},
    verify::{encode, sign_part},
};
use crate::{
    plan::{Algorithm, SignaturePlan, SignedPart, TimeUnit, TimestampPlan, VerifyPlan},
    world::{Secret, Timestamp},
};

/// Stands for the value of a signed header that the request lacks.
const SIGNED_HEADER: HeaderValue = HeaderValue::from_static("test");

/// What a producer signs with.
pub struct Signer<'a> {
    /// The scheme.
    pub plan: &'a VerifyPlan,
    /// What both sides know.
    pub secret: &'a Secret,
    /// The name that goes with it under `basic`.
    pub user: Option<&'a Secret>,
    /// When it signs.
    pub now: Timestamp,
}

/// Why a request cannot be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignProblem {
    /// The secret is no key.
    Key(KeyProblem),
    /// The signature is no header value.
    NoHeader,
}

impl std::fmt::Display for SignProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key(problem) => problem.fmt(f),
            Self::NoHeader => f.write_str("the signature is no header value"),
        }
    }
}

/// Adds to the headers what makes the request genuine. A request that has a signature keeps it, and
/// a timestamp that is there is signed as it is.
pub fn sign(
    signer: &Signer<'_>,
    method: &Method,
    url: &str,
    headers: &mut HeaderMap,
    body: &Bytes,
) -> Result<(), SignProblem> {
    let plan = signer.plan;
    match plan.algorithm {
        Algorithm::None => Ok(()),
        Algorithm::Basic => {
            if !headers.contains_key(AUTHORIZATION) {
                let password = key_bytes(plan, signer.secret).map_err(SignProblem::Key)?;
                let user = signer.user.map_or("", Secret::expose).as_bytes();
                let both = [user, b":", &password].concat();
                let text = format!("Basic {}", data_encoding::BASE64.encode(&both));
                headers.insert(AUTHORIZATION, value(&text)?);
            }
            Ok(())
        }
        Algorithm::Token => {
            let Some(place) = &plan.signature else { return Ok(()) };
            let token = key_bytes(plan, signer.secret).map_err(SignProblem::Key)?;
            let text = encode(place.decode, &token).ok_or(SignProblem::NoHeader)?;
            put(headers, &place.header, &format!("{}{text}", prefix(place)))
        }
        Algorithm::HmacSha1 | Algorithm::HmacSha256 | Algorithm::HmacSha512 => {
            let Some(place) = &plan.signature else { return Ok(()) };
            if headers.contains_key(place.header.as_str()) {
                return Ok(());
            }
            let stamp = plan.timestamp.as_ref().map(|stamp| stamped(stamp, place, signer, headers));
            let stamp = stamp.transpose()?;
            let signature = hmac_of(signer, method, url, headers, stamp.as_deref(), body)?;
            let text = encode(place.decode, &signature).ok_or(SignProblem::NoHeader)?;
            let text = format!("{}{text}", prefix(place));
            put(headers, &place.header, &beside_timestamp(plan, place, stamp.as_deref(), text))
        }
    }
}

fn prefix(place: &SignaturePlan) -> &str {
    place.take.as_deref().unwrap_or("")
}

/// The timestamp's text, which stands in its own header afterwards, unless that is the signature's.
fn stamped(
    plan: &TimestampPlan,
    place: &SignaturePlan,
    signer: &Signer<'_>,
    headers: &mut HeaderMap,
) -> Result<String, SignProblem> {
    let take = plan.take.as_deref().unwrap_or("");
    if let Some(given) = headers.get(plan.header.as_str()).and_then(|value| value.to_str().ok()) {
        return Ok(given.strip_prefix(take).unwrap_or(given).to_owned());
    }
    let text = match plan.unit {
        TimeUnit::Seconds => signer.now.0.div_euclid(1000).to_string(),
        TimeUnit::Milliseconds => signer.now.0.to_string(),
        TimeUnit::Rfc3339 => signer.now.rfc3339(),
    };
    if plan.header != place.header {
        put(headers, &plan.header, &format!("{take}{text}"))?;
    }
    Ok(text)
}

/// Where both stand in one header: `t=1700000000,v1=...`.
fn beside_timestamp(
    plan: &VerifyPlan,
    place: &SignaturePlan,
    stamp: Option<&str>,
    signature: String,
) -> String {
    match (&plan.timestamp, stamp) {
        (Some(timestamp), Some(stamp)) if timestamp.header == place.header => {
            let list = timestamp.list.as_deref().or(place.list.as_deref()).unwrap_or(",");
            let take = timestamp.take.as_deref().unwrap_or("");
            format!("{take}{stamp}{list}{signature}")
        }
        _ => signature,
    }
}

fn hmac_of(
    signer: &Signer<'_>,
    method: &Method,
    url: &str,
    headers: &mut HeaderMap,
    stamp: Option<&str>,
    body: &Bytes,
) -> Result<Vec<u8>, SignProblem> {
    for part in &signer.plan.signed {
        if let SignedPart::Header(name) = part
            && let Ok(name) = HeaderName::from_bytes(name.as_bytes())
        {
            headers.entry(name).or_insert(SIGNED_HEADER);
        }
    }
    let key = Key::prepare(signer.plan, signer.secret, signer.user, None);
    let key = key.map_err(SignProblem::Key)?;
    let Material::Hmac(key) = &key.material else { return Err(SignProblem::NoHeader) };
    let mut context = hmac::Context::with_key(key);
    let request = RequestParts { method, url, headers };
    for part in &signer.plan.signed {
        sign_part(&mut context, part, &request, stamp, body).map_err(|_| SignProblem::NoHeader)?;
    }
    Ok(context.sign().as_ref().to_vec())
}

fn put(headers: &mut HeaderMap, name: &str, text: &str) -> Result<(), SignProblem> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| SignProblem::NoHeader)?;
    headers.entry(name).or_insert(value(text)?);
    Ok(())
}

fn value(text: &str) -> Result<HeaderValue, SignProblem> {
    HeaderValue::from_str(text).map_err(|_| SignProblem::NoHeader)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ingest::webhook::{RawBody, verify},
        plan::{Encoding, KeyPlan},
    };

    const NOW: Timestamp = Timestamp(1_795_341_600_123);

    fn place(header: &str, list: Option<&str>, take: Option<&str>) -> SignaturePlan {
        SignaturePlan {
            header: header.to_owned(),
            list: list.map(str::to_owned),
            take: take.map(str::to_owned),
            decode: Encoding::Hex,
        }
    }

    fn timestamp(header: &str, take: Option<&str>, unit: TimeUnit) -> TimestampPlan {
        TimestampPlan {
            header: header.to_owned(),
            list: take.map(|_| ",".to_owned()),
            take: take.map(str::to_owned),
            unit,
            past: std::time::Duration::from_mins(5),
            future: std::time::Duration::from_mins(1),
        }
    }

    /// Schemes of every shape that the language has.
    fn schemes() -> Vec<VerifyPlan> {
        let plan = |algorithm, signed, signature, timestamp| VerifyPlan {
            name: "test".to_owned(),
            algorithm,
            signed,
            on_fail: 401,
            key: KeyPlan { strip: Some("whsec_".to_owned()), decode: Encoding::Base64 },
            signature,
            timestamp,
            challenge: None,
        };
        let body = || vec![SignedPart::Body];
        let dot = || SignedPart::Text(".".to_owned());
        vec![
            plan(Algorithm::HmacSha1, body(), Some(place("x-sig", None, Some("sha1="))), None),
            plan(
                Algorithm::HmacSha256,
                vec![SignedPart::Timestamp, dot(), SignedPart::Body],
                Some(place("x-sig", Some(","), Some("v1="))),
                Some(timestamp("x-sig", Some("t="), TimeUnit::Seconds)),
            ),
            plan(
                Algorithm::HmacSha512,
                vec![
                    SignedPart::Header("x-id".to_owned()),
                    SignedPart::Timestamp,
                    SignedPart::Method,
                    SignedPart::Url,
                    SignedPart::BodySha256,
                ],
                Some(place("x-sig", Some(" "), Some("v1,"))),
                Some(timestamp("x-at", None, TimeUnit::Rfc3339)),
            ),
            plan(Algorithm::Token, Vec::new(), Some(place("x-token", None, None)), None),
            plan(Algorithm::Basic, Vec::new(), None, None),
            plan(Algorithm::None, Vec::new(), None, None),
        ]
    }

    #[test]
    fn what_is_signed_is_believed_and_what_is_changed_afterwards_is_not() {
        let secret = Secret::new("whsec_dGVzdC1zZWNyZXQ=");
        let user = Secret::new("shop");
        for plan in schemes() {
            let signer = Signer { plan: &plan, secret: &secret, user: Some(&user), now: NOW };
            let (method, url) = (Method::POST, "https://hooks.example/a?b=c");
            let mut headers = HeaderMap::new();
            let body = Bytes::from_static(b"{}");
            sign(&signer, &method, url, &mut headers, &body).unwrap();
            let keys = [Key::prepare(&plan, &secret, Some(&user), None).unwrap()];
            let check = |body: &Bytes| {
                let parts = RequestParts { method: &method, url, headers: &headers };
                verify(&plan, &keys, &parts, RawBody::new(body.clone()), NOW).is_ok()
            };
            assert!(check(&body), "{:?} {headers:?}", plan.algorithm);
            let binds_the_body = !plan.signed.is_empty();
            assert_eq!(check(&Bytes::from_static(b"[]")), !binds_the_body, "{:?}", plan.algorithm);
        }
    }

    #[test]
    fn a_signature_that_is_there_is_kept() {
        let secret = Secret::new("dGVzdC1zZWNyZXQ=");
        let plan = &schemes()[1];
        let signer = Signer { plan, secret: &secret, user: None, now: NOW };
        let mut headers = HeaderMap::new();
        headers.insert("x-sig", HeaderValue::from_static("t=1,v1=forged"));
        sign(&signer, &Method::POST, "https://a.example/", &mut headers, &Bytes::new()).unwrap();
        assert_eq!(headers["x-sig"], "t=1,v1=forged");
    }
}
