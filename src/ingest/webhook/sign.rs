//! Signing: what a producer does so that [`verify`](super::verify()) believes it. Pure but for the
//! chance that signatures with elliptic curves need.
//!
//! Tests of connectors send webhooks with it; the daemon never signs.

use bytes::Bytes;
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header::AUTHORIZATION};
use ring::{digest, hmac};
use serde_json::{Map, Value, json};

use super::{
    RequestParts,
    body_path::put,
    keys::{Key, KeyProblem, Material, key_bytes},
    locate::Look,
    message::{Message, url_in},
    pair,
    verify::{Reject, encode},
};
use crate::{
    map::sha256_hex,
    plan::{
        Algorithm, CertificateForm, HeaderPattern, JwtAlgorithm, Located, Place, SignaturePlan,
        SignedPart, TimeUnit, TimestampPlan, UrlForm, VerifyPlan,
    },
    world::{Secret, Timestamp},
};

/// Stands for the value of a signed header that the request lacks.
const SIGNED_HEADER: HeaderValue = HeaderValue::from_static("test");

/// How long a token is good, in seconds.
const TOKEN_SECONDS: i64 = 300;

/// What a producer signs with.
pub struct Signer<'a> {
    /// The scheme.
    pub plan: &'a VerifyPlan,
    /// What both sides know; empty where the scheme has no secret.
    pub secret: &'a Secret,
    /// The name that goes with it under `basic`.
    pub user: Option<&'a Secret>,
    /// When it signs.
    pub now: Timestamp,
}

/// A request that is being signed.
pub struct Outgoing<'a> {
    /// The method.
    pub method: &'a Method,
    /// The whole URL.
    pub url: &'a str,
    /// What the signature is added to, where it stands in a header.
    pub headers: &'a mut HeaderMap,
    /// What the signature is added to, where it stands in the body.
    pub body: &'a mut Bytes,
}

/// Why a request cannot be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignProblem {
    /// The secret is no key.
    Key(KeyProblem),
    /// The signature is no header value.
    NoHeader,
    /// The body has no such place, or the place is one that nothing can be written to.
    NoPlace,
    /// The request lacks something that is signed.
    NoSignedPart,
    /// Nothing here signs with this algorithm.
    NotHere,
    /// A certificate cannot be made up.
    NoCertificate,
}

impl std::fmt::Display for SignProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key(problem) => problem.fmt(f),
            Self::NoHeader => f.write_str("the signature is no header value"),
            Self::NoPlace => f.write_str("the body has no place for the signature"),
            Self::NoSignedPart => f.write_str("the request lacks a part that is signed"),
            Self::NotHere => f.write_str(
                "tests have no key for this algorithm; sign the request and set `sign = false`",
            ),
            Self::NoCertificate => {
                f.write_str("the request lacks the header with the client's certificate")
            }
        }
    }
}

impl From<Reject> for SignProblem {
    fn from(_: Reject) -> Self {
        Self::NoSignedPart
    }
}

/// Adds to the request what makes it genuine. A request that has a signature keeps it, and a
/// timestamp that is there is signed as it is.
pub fn sign(signer: &Signer<'_>, request: &mut Outgoing<'_>) -> Result<(), SignProblem> {
    let plan = signer.plan;
    match plan.algorithm {
        Algorithm::None => Ok(()),
        Algorithm::Basic => {
            if !request.headers.contains_key(AUTHORIZATION) {
                let password = signer.key_bytes()?;
                let user = signer.user.map_or("", Secret::expose).as_bytes();
                let both = [user, b":", &password].concat();
                let text = format!("Basic {}", BASE64.encode(&both));
                request.headers.insert(AUTHORIZATION, value(&text)?);
            }
            Ok(())
        }
        Algorithm::Token => signer.token(request),
        Algorithm::Mtls => {
            signer.token(request)?;
            signer.certificate(request)
        }
        _ => {
            let Some(place) = &plan.signature else { return Ok(()) };
            let is_signed = request.only(plan, &place.at)?.is_some();
            if is_signed {
                return Ok(());
            }
            if plan.algorithm == Algorithm::Jwt {
                let token = signer.jwt(request)?;
                return request.write(&place.at, &prefixed(place, &token));
            }
            let stamp = plan.timestamp.as_ref().map(|stamp| signer.stamp(stamp, place, request));
            let stamp = stamp.transpose()?;
            let signature = signer.signature(request, stamp.as_deref())?;
            let text = encode(place.decode, &signature).ok_or(SignProblem::NoHeader)?;
            let text = beside_timestamp(plan, place, stamp.as_deref(), &text);
            request.write(&place.at, &text)
        }
    }
}

impl Outgoing<'_> {
    fn parts(&self) -> RequestParts<'_> {
        RequestParts { method: self.method, url: self.url, headers: self.headers }
    }

    /// What stands at a place, as verification sees it.
    fn only(&self, plan: &VerifyPlan, at: &Located) -> Result<Option<String>, SignProblem> {
        let parts = self.parts();
        let look = Look::new(plan, &parts, self.body).map_err(|_| SignProblem::NoPlace)?;
        Ok(look.only(at).map(std::borrow::Cow::into_owned))
    }

    /// Puts a text where it belongs.
    fn write(&mut self, at: &Located, text: &str) -> Result<(), SignProblem> {
        match &at.place {
            Place::Headers(names) => {
                let name = match names.first().ok_or(SignProblem::NoHeader)? {
                    HeaderPattern::Exact(name) => name.clone(),
                    HeaderPattern::Glob(begin, end) => format!("{begin}1{end}"),
                };
                let name =
                    HeaderName::from_bytes(name.as_bytes()).map_err(|_| SignProblem::NoHeader)?;
                self.headers.entry(name).or_insert(value(text)?);
                Ok(())
            }
            Place::Body(path) => {
                let mut body: Value =
                    serde_json::from_slice(self.body).map_err(|_| SignProblem::NoPlace)?;
                put(&mut body, path.source(), text).ok_or(SignProblem::NoPlace)?;
                *self.body = body.to_string().into();
                Ok(())
            }
            Place::Query(_) | Place::Claim(_) => Err(SignProblem::NoPlace),
        }
    }
}

impl Signer<'_> {
    fn key_bytes(&self) -> Result<zeroize::Zeroizing<Vec<u8>>, SignProblem> {
        key_bytes(self.plan, self.secret).map_err(SignProblem::Key)
    }

    fn token(&self, request: &mut Outgoing<'_>) -> Result<(), SignProblem> {
        let Some(place) = &self.plan.signature else { return Ok(()) };
        if request.only(self.plan, &place.at)?.is_some() {
            return Ok(());
        }
        let text = encode(place.decode, &self.key_bytes()?).ok_or(SignProblem::NoHeader)?;
        request.write(&place.at, &prefixed(place, &text))
    }

    fn certificate(&self, request: &mut Outgoing<'_>) -> Result<(), SignProblem> {
        let Some(plan) = &self.plan.certificate else { return Ok(()) };
        let name = HeaderName::from_bytes(plan.header.as_bytes());
        let name = name.map_err(|_| SignProblem::NoHeader)?;
        match (plan.form, plan.allow.first()) {
            _ if request.headers.contains_key(&name) => Ok(()),
            (CertificateForm::Fingerprint, Some(print)) => {
                request.headers.insert(name, value(&HEXLOWER.encode(print))?);
                Ok(())
            }
            _ => Err(SignProblem::NoCertificate),
        }
    }

    /// The timestamp's text, which stands where it belongs afterwards, unless that is beside the
    /// signature.
    fn stamp(
        &self,
        plan: &TimestampPlan,
        place: &SignaturePlan,
        request: &mut Outgoing<'_>,
    ) -> Result<String, SignProblem> {
        if let Some(given) = request.only(self.plan, &plan.at)? {
            return Ok(given);
        }
        let text = match plan.unit {
            TimeUnit::Seconds => self.now.0.div_euclid(1000).to_string(),
            TimeUnit::Milliseconds => self.now.0.to_string(),
            TimeUnit::Rfc3339 => self.now.rfc3339(),
        };
        if plan.at.place != place.at.place {
            let take = plan.at.take.as_deref().unwrap_or("");
            request.write(&plan.at, &format!("{take}{text}"))?;
        }
        Ok(text)
    }

    fn signature(
        &self,
        request: &mut Outgoing<'_>,
        stamp: Option<&str>,
    ) -> Result<Vec<u8>, SignProblem> {
        for part in &self.plan.signed {
            if let SignedPart::Header(name) = part
                && let Ok(name) = HeaderName::from_bytes(name.as_bytes())
            {
                request.headers.entry(name).or_insert(SIGNED_HEADER);
            }
        }
        let parts = request.parts();
        let look = Look::new(self.plan, &parts, request.body)?;
        let message = Message { look: &look, timestamp: stamp, body: request.body };
        let form = self.plan.urls.first().copied().unwrap_or(UrlForm::AsSent);
        let url = url_in(form, request.url);
        let key = if self.plan.needs_secret() {
            let key = Key::prepare(self.plan, self.secret, self.user, None);
            Some(key.map_err(SignProblem::Key)?)
        } else {
            None
        };
        let secret = key.as_ref().map_or(&[][..], Key::secret);
        let signed = message.bytes(&self.plan.signed, &url, secret)?;
        match key.as_ref().map(|key| &key.material) {
            Some(Material::Hmac(key)) => Ok(hmac::sign(key, &signed).as_ref().to_vec()),
            _ if self.plan.algorithm == Algorithm::Sha256Concat => {
                Ok(digest::digest(&digest::SHA256, &signed).as_ref().to_vec())
            }
            _ => pair::sign(self.plan, &signed).ok_or(SignProblem::NotHere),
        }
    }

    /// A token with the claims that the scheme asks for.
    fn jwt(&self, request: &Outgoing<'_>) -> Result<String, SignProblem> {
        let plan = self.plan.jwt.as_ref().ok_or(SignProblem::NotHere)?;
        let algorithm = *plan.algorithms.first().ok_or(SignProblem::NotHere)?;
        let now = self.now.0.div_euclid(1000);
        let mut claims = Map::new();
        claims.insert("iat".to_owned(), now.into());
        claims.insert("exp".to_owned(), (now + TOKEN_SECONDS).into());
        let names = [("iss", &plan.issuer), ("aud", &plan.audience)];
        for (name, value) in names {
            claims.extend(value.clone().map(|value| (name.to_owned(), value.into())));
        }
        if let Some(Place::Claim(name)) = self.plan.body_hash.as_ref().map(|hash| &hash.at.place) {
            claims.insert(name.clone(), sha256_hex(request.body).into());
        }
        let text = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let head = json!({"alg": algorithm.word(), "kid": pair::KID});
        let signed = format!("{}.{}", text(&head), text(&Value::Object(claims)));
        let hash = match algorithm {
            JwtAlgorithm::Hs256 => Some(hmac::HMAC_SHA256),
            JwtAlgorithm::Hs384 => Some(hmac::HMAC_SHA384),
            JwtAlgorithm::Hs512 => Some(hmac::HMAC_SHA512),
            _ => None,
        };
        let signature = match hash {
            Some(hash) => {
                let key = hmac::Key::new(hash, &self.key_bytes()?);
                hmac::sign(&key, signed.as_bytes()).as_ref().to_vec()
            }
            None => pair::sign_jwt(algorithm, signed.as_bytes()).ok_or(SignProblem::NotHere)?,
        };
        Ok(format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature)))
    }
}

fn prefixed(place: &SignaturePlan, text: &str) -> String {
    format!("{}{text}", place.at.take.as_deref().unwrap_or(""))
}

/// Where both stand in one header: `t=1700000000,v1=...`.
fn beside_timestamp(
    plan: &VerifyPlan,
    place: &SignaturePlan,
    stamp: Option<&str>,
    signature: &str,
) -> String {
    let signature = prefixed(place, signature);
    match (&plan.timestamp, stamp) {
        (Some(timestamp), Some(stamp)) if timestamp.at.place == place.at.place => {
            let list = timestamp.at.list.as_deref().or(place.at.list.as_deref()).unwrap_or(",");
            let take = timestamp.at.take.as_deref().unwrap_or("");
            format!("{take}{stamp}{list}{signature}")
        }
        _ => signature,
    }
}

fn value(text: &str) -> Result<HeaderValue, SignProblem> {
    HeaderValue::from_str(text).map_err(|_| SignProblem::NoHeader)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ingest::webhook::{Keyring, RawBody, verify},
        plan::{Encoding, KeyPlan},
    };

    const NOW: Timestamp = Timestamp(1_795_341_600_123);

    fn place(header: &str, list: Option<&str>, take: Option<&str>) -> SignaturePlan {
        let at = located(header, list, take);
        SignaturePlan { at, decode: Encoding::Hex, is_raw_ecdsa: false }
    }

    fn located(header: &str, list: Option<&str>, take: Option<&str>) -> Located {
        Located {
            place: Place::Headers(vec![HeaderPattern::Exact(header.to_owned())]),
            list: list.map(str::to_owned),
            take: take.map(str::to_owned),
        }
    }

    fn timestamp(header: &str, take: Option<&str>, unit: TimeUnit) -> TimestampPlan {
        TimestampPlan {
            at: located(header, take.map(|_| ","), take),
            unit,
            past: std::time::Duration::from_mins(5),
            future: std::time::Duration::from_mins(1),
        }
    }

    /// Schemes of every shape that the language has.
    fn schemes() -> Vec<VerifyPlan> {
        let plan = |algorithm, signed, signature, timestamp| VerifyPlan {
            signed,
            key: KeyPlan { strip: Some("whsec_".to_owned()), decode: Encoding::Base64 },
            signature,
            timestamp,
            ..VerifyPlan::bare("test", algorithm)
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
            let mut body = Bytes::from_static(b"{}");
            let mut request =
                Outgoing { method: &method, url, headers: &mut headers, body: &mut body };
            sign(&signer, &mut request).unwrap();
            let keys = [Key::prepare(&plan, &secret, Some(&user), None).unwrap()];
            let check = |body: &Bytes| {
                let parts = RequestParts { method: &method, url, headers: &headers };
                verify(&plan, Keyring::of(&keys), &parts, RawBody::new(body.clone()), NOW).is_ok()
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
        let (url, method) = ("https://a.example/", &Method::POST);
        let mut body = Bytes::new();
        let mut request = Outgoing { method, url, headers: &mut headers, body: &mut body };
        sign(&signer, &mut request).unwrap();
        assert_eq!(headers["x-sig"], "t=1,v1=forged");
    }
}
