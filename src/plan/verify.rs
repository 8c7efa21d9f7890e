//! `[verify.NAME]`, resolved: how a request proves where it comes from.

use std::time::Duration;

use http::Method;

use super::ReplyPlan;
use crate::map::{Expr, Tree};

/// `[verify.NAME]`.
#[derive(Clone, Debug)]
pub struct VerifyPlan {
    /// The table's or the preset's.
    pub name: String,
    /// What makes the signature.
    pub algorithm: Algorithm,
    /// The signed bytes, in order.
    pub signed: Vec<SignedPart>,
    /// The forms of the URL that are tried, where `signed` has it. Never empty.
    pub urls: Vec<UrlForm>,
    /// `false`: the file says that a signature does not bind the body.
    pub covers_body: bool,
    /// Where a digest of the body stands, which the signature binds in its place.
    pub body_hash: Option<BodyHashPlan>,
    /// What must hold of a verified request besides.
    pub require: Option<Expr>,
    /// A value under which one body is taken and no other.
    pub once: Option<Expr>,
    /// 401 unless the file says otherwise.
    pub on_fail: u16,
    /// What the provider takes for an acknowledgement, where the webhook does not say.
    pub reply: Option<ReplyPlan>,
    /// From the secret's text to the key.
    pub key: KeyPlan,
    /// Where public keys are fetched, instead of a secret.
    pub keys: Option<KeysPlan>,
    /// Of `jwt`.
    pub jwt: Option<JwtPlan>,
    /// Of `mtls`.
    pub certificate: Option<CertificatePlan>,
    /// Where the signatures stand; `None` for `basic` and `none`.
    pub signature: Option<SignaturePlan>,
    /// Where the time of signing stands.
    pub timestamp: Option<TimestampPlan>,
    /// Requests that want an answer, not an event. The first whose `when` holds is answered.
    pub challenges: Vec<ChallengePlan>,
}

impl VerifyPlan {
    /// A scheme of this algorithm, with nothing else said.
    pub fn bare(name: &str, algorithm: Algorithm) -> Self {
        Self {
            name: name.to_owned(),
            algorithm,
            signed: Vec::new(),
            urls: vec![UrlForm::AsSent],
            covers_body: true,
            body_hash: None,
            require: None,
            once: None,
            on_fail: 401,
            reply: None,
            key: KeyPlan::default(),
            keys: None,
            jwt: None,
            certificate: None,
            signature: None,
            timestamp: None,
            challenges: Vec::new(),
        }
    }

    /// Whether the webhook has to give a secret: the key itself, or a part of what is signed.
    pub fn needs_secret(&self) -> bool {
        match self.algorithm {
            Algorithm::None => false,
            _ => self.keys.is_none() || self.signed.contains(&SignedPart::Secret),
        }
    }

    /// Whether the URL as the producer called it is looked at.
    pub fn needs_url(&self) -> bool {
        let by_query = |place: &Place| matches!(place, Place::Query(_));
        self.signed.contains(&SignedPart::Url)
            || self.signature.as_ref().is_some_and(|s| by_query(&s.at.place))
            || self.timestamp.as_ref().is_some_and(|t| by_query(&t.at.place))
            || self.body_hash.as_ref().is_some_and(|hash| by_query(&hash.at.place))
    }

    /// Whether a signature leaves the body open to change.
    pub fn leaves_body_open(&self) -> bool {
        match self.algorithm {
            Algorithm::None => true,
            Algorithm::Token | Algorithm::Basic | Algorithm::Mtls => false,
            _ => !self.binds_body(),
        }
    }

    /// Whether what is signed determines the body.
    pub fn binds_body(&self) -> bool {
        let binds = |part: &SignedPart| {
            matches!(part, SignedPart::Body | SignedPart::BodySha256 | SignedPart::SortedForm)
        };
        self.body_hash.is_some() || self.signed.iter().any(binds)
    }

    /// The expressions that look at the request once it is verified.
    pub fn expressions(&self) -> impl Iterator<Item = &Expr> {
        let challenges = self.challenges.iter().flat_map(ChallengePlan::expressions);
        self.require.iter().chain(&self.once).chain(challenges)
    }
}

/// What makes a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RFC 2104 with SHA-1.
    HmacSha1,
    /// RFC 2104 with SHA-256.
    HmacSha256,
    /// RFC 2104 with SHA-512.
    HmacSha512,
    /// SHA-256 of a text that holds the secret.
    Sha256Concat,
    /// RFC 8032.
    Ed25519,
    /// ECDSA on P-256 with SHA-256.
    EcdsaP256,
    /// RSASSA-PKCS1-v1_5 with SHA-1.
    RsaSha1,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RsaSha256,
    /// A JSON Web Token (RFC 7519) with a JWS of one of the algorithms of [`JwtPlan`].
    Jwt,
    /// A shared token, compared in constant time with the located signature.
    Token,
    /// HTTP basic authentication.
    Basic,
    /// A client certificate that a proxy checked, which proves itself by a token.
    Mtls,
    /// Spelled out in the file: nothing is verified.
    None,
}

impl Algorithm {
    /// As written.
    pub fn word(self) -> &'static str {
        match self {
            Self::HmacSha1 => "hmac-sha1",
            Self::HmacSha256 => "hmac-sha256",
            Self::HmacSha512 => "hmac-sha512",
            Self::Sha256Concat => "sha256-concat",
            Self::Ed25519 => "ed25519",
            Self::EcdsaP256 => "ecdsa-p256",
            Self::RsaSha1 => "rsa-sha1",
            Self::RsaSha256 => "rsa-sha256",
            Self::Jwt => "jwt",
            Self::Token => "token",
            Self::Basic => "basic",
            Self::Mtls => "mtls",
            Self::None => "none",
        }
    }

    /// Whether it is an HMAC.
    pub fn is_hmac(self) -> bool {
        matches!(self, Self::HmacSha1 | Self::HmacSha256 | Self::HmacSha512)
    }

    /// Whether the key that verifies is a public one.
    pub fn is_asymmetric(self) -> bool {
        matches!(self, Self::Ed25519 | Self::EcdsaP256 | Self::RsaSha1 | Self::RsaSha256)
    }

    /// Whether `signed` says what is signed.
    pub fn has_signed(self) -> bool {
        self.is_hmac() || self.is_asymmetric() || self == Self::Sha256Concat
    }
}

/// A part of what is signed.
#[derive(Clone, Debug)]
pub enum SignedPart {
    /// As it stands.
    Text(String),
    /// The raw bytes.
    Body,
    /// Lower-case hex of the raw body's SHA-256.
    BodySha256,
    /// The raw body's CRC-32 (IEEE) as a decimal number. Binds nothing: anyone can make a body with
    /// a given one.
    BodyCrc32,
    /// The timestamp as received.
    Timestamp,
    /// The full URL as the producer called it (the webhook's `url`, or scheme and host from
    /// `public_url` of tenon.toml, or the Host header).
    Url,
    /// The request's method, upper case.
    Method,
    /// A request header, lower-case name; missing fails verification.
    Header(String),
    /// The webhook's secret.
    Secret,
    /// Of a form: names and values, sorted, each pair once. Nothing where the body is no form.
    SortedForm,
    /// Something of the decoded body, as text; missing fails verification.
    Field(Expr),
    /// Those of the decoded body's members that are there, in this order: name, line feed, value,
    /// line feed.
    Fields(Vec<String>),
}

impl PartialEq for SignedPart {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) | (Self::Header(a), Self::Header(b)) => a == b,
            (Self::Field(a), Self::Field(b)) => a.source() == b.source(),
            (Self::Fields(a), Self::Fields(b)) => a == b,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

/// A form in which a producer may have signed the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlForm {
    /// As it arrived.
    AsSent,
    /// With those reserved characters decoded that `HubSpot` decodes.
    Decoded,
    /// With the scheme's default port spelled out.
    WithPort,
    /// Without any port.
    WithoutPort,
}

/// Where a digest of the body stands: SHA-256.
#[derive(Clone, Debug, PartialEq)]
pub struct BodyHashPlan {
    /// Where.
    pub at: Located,
    /// How it is written.
    pub decode: Encoding,
}

/// Where something stands in a request.
#[derive(Clone, Debug)]
pub enum Place {
    /// Headers of these names.
    Headers(Vec<HeaderPattern>),
    /// A path into the decoded body; several matches are several values.
    Body(Expr),
    /// A parameter of the query.
    Query(String),
    /// A claim of the JSON Web Token.
    Claim(String),
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Headers(a), Self::Headers(b)) => a == b,
            (Self::Body(a), Self::Body(b)) => a.source() == b.source(),
            (Self::Query(a), Self::Query(b)) | (Self::Claim(a), Self::Claim(b)) => a == b,
            _ => false,
        }
    }
}

impl Place {
    /// For people: the headers' names, or `$.path of the body`.
    pub fn words(&self) -> String {
        match self {
            Self::Headers(names) => {
                names.iter().map(HeaderPattern::written).collect::<Vec<_>>().join(", ")
            }
            Self::Body(path) => path.source().to_owned(),
            Self::Query(name) => format!("?{name}"),
            Self::Claim(name) => format!("claim {name}"),
        }
    }

    /// The one header that it is, where it is one of a known name.
    pub fn header(&self) -> Option<&str> {
        match self {
            Self::Headers(names) => match names.as_slice() {
                [HeaderPattern::Exact(name), ..] => Some(name),
                _ => None,
            },
            _ => None,
        }
    }
}

/// The name of a header, lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderPattern {
    /// This one.
    Exact(String),
    /// All that begin and end so: `x-docusign-signature-*`.
    Glob(String, String),
}

impl HeaderPattern {
    /// Whether a header of this lower-case name is meant.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Glob(begin, end) => {
                name.len() >= begin.len() + end.len()
                    && name.starts_with(begin.as_str())
                    && name.ends_with(end.as_str())
            }
        }
    }

    /// As written, in lower case.
    pub fn written(&self) -> String {
        match self {
            Self::Exact(name) => name.clone(),
            Self::Glob(begin, end) => format!("{begin}*{end}"),
        }
    }
}

/// A place, and which part of what stands there counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Located {
    /// Where.
    pub place: Place,
    /// Separator between several items.
    pub list: Option<String>,
    /// Prefix an item must have; it is cut off. Items without it are ignored.
    pub take: Option<String>,
}

/// How bytes are written as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// As they are.
    #[default]
    Raw,
    /// Hexadecimal digits of either case.
    Hex,
    /// RFC 4648, with padding.
    Base64,
    /// RFC 4648 with the alphabet of URLs.
    Base64Url,
    /// RFC 7468: a public key or a certificate. Keys only.
    Pem,
}

/// `[verify.NAME.key]`: from the secret's text to the key's bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPlan {
    /// A prefix that is cut off first.
    pub strip: Option<String>,
    /// How the rest encodes the key.
    pub decode: Encoding,
}

/// `[verify.NAME.keys]`: public keys that are fetched, and kept for a while.
#[derive(Clone, Debug)]
pub struct KeysPlan {
    /// Whom to ask; https.
    pub url: Expr,
    /// The only hosts that may be asked. Never empty.
    pub hosts: Vec<HostPattern>,
    /// Members of the JSON document that is posted; none: it is a GET.
    pub body: Vec<(String, Expr)>,
    /// What the answer is.
    pub form: KeysForm,
    /// Where in the answer the key stands, of `jwk`.
    pub at: Option<Expr>,
    /// How long a key is used before it is fetched again.
    pub ttl: Duration,
}

/// What is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysForm {
    /// A key set (RFC 7517, section 5), from which the token's `kid` picks.
    Jwks,
    /// One key (RFC 7517, section 4).
    Jwk,
    /// A public key or certificate in PEM.
    Pem,
}

/// A host name whose `*` stands for exactly one label: `sns.*.amazonaws.com`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern(pub String);

impl HostPattern {
    /// Whether `host` (any case) is meant.
    pub fn matches(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let (mut wanted, mut given) = (self.0.split('.'), host.split('.'));
        loop {
            match (wanted.next(), given.next()) {
                (None, None) => return true,
                (Some("*"), Some(label)) if !label.is_empty() => {}
                (Some(wanted), Some(label)) if wanted == label => {}
                _ => return false,
            }
        }
    }
}

/// `[verify.NAME.jwt]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtPlan {
    /// The allow-list; either all symmetric or all asymmetric. Never empty.
    pub algorithms: Vec<JwtAlgorithm>,
    /// What `iss` must be.
    pub issuer: Option<String>,
    /// What must be among `aud`.
    pub audience: Option<String>,
}

/// RFC 7518, section 3.1, and RFC 8037.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl JwtAlgorithm {
    /// The value of `alg`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// Whether whoever verifies could also sign.
    pub fn is_symmetric(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }
}

/// `[verify.NAME.certificate]`: the client certificate that a proxy passes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificatePlan {
    /// Lower-case name of the header that holds it.
    pub header: String,
    /// What the header holds.
    pub form: CertificateForm,
    /// SHA-256 of the certificates (DER) that may post. Never empty.
    pub allow: Vec<[u8; 32]>,
}

/// How a proxy passes a certificate on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateForm {
    /// Percent-encoded PEM: nginx, `HAProxy`, Traefik.
    Pem,
    /// Base64 of the DER, with or without the colons of RFC 9440.
    Der,
    /// SHA-256 of the DER in hexadecimal, with or without colons.
    Fingerprint,
}

/// `[verify.NAME.signature]`: where the signatures stand.
#[derive(Clone, Debug, PartialEq)]
pub struct SignaturePlan {
    /// Where.
    pub at: Located,
    /// How an item is encoded.
    pub decode: Encoding,
    /// Of ECDSA: two numbers side by side (64 bytes) and not in DER.
    pub is_raw_ecdsa: bool,
}

/// `[verify.NAME.timestamp]`.
#[derive(Clone, Debug, PartialEq)]
pub struct TimestampPlan {
    /// Where.
    pub at: Located,
    /// How it is written.
    pub unit: TimeUnit,
    /// How old it may be.
    pub past: Duration,
    /// How far it may lie ahead.
    pub future: Duration,
}

/// How a time is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// Since 1970.
    Seconds,
    /// Since 1970.
    Milliseconds,
    /// `2026-11-20T12:00:00Z`.
    Rfc3339,
}

/// A request that wants an answer, not an event.
#[derive(Clone, Debug)]
pub struct ChallengePlan {
    /// Whether a request is one.
    pub when: Expr,
    /// `false`: the provider does not sign it, so it is answered before verification.
    pub verified: bool,
    /// A method that the endpoint takes for this alone.
    pub method: Option<Method>,
    /// What has to be the webhook's `verify_token`.
    pub verify_token: Option<Expr>,
    /// A text whose HMAC under the secret is `signature` in the answer, and how that is written.
    pub sign: Option<(Expr, Encoding)>,
    /// A URL that is fetched before the answer.
    pub visit: Option<VisitPlan>,
    /// From 200 to 299.
    pub status: u16,
    /// The answer's body.
    pub answer: ChallengeAnswer,
}

impl ChallengePlan {
    /// Everything of it that looks at the request.
    pub fn expressions(&self) -> Vec<&Expr> {
        let mut all = vec![&self.when];
        all.extend(&self.verify_token);
        all.extend(self.sign.as_ref().map(|(text, _)| text));
        all.extend(self.visit.as_ref().map(|visit| &visit.url));
        match &self.answer {
            ChallengeAnswer::Empty => {}
            ChallengeAnswer::Text(text) => all.push(text),
            ChallengeAnswer::Json(json) => all.extend(json.leaves().into_iter().map(|(_, e)| e)),
        }
        all
    }
}

/// A URL out of a request, and where it may lead.
#[derive(Clone, Debug)]
pub struct VisitPlan {
    /// The URL; https.
    pub url: Expr,
    /// The only hosts. Never empty.
    pub hosts: Vec<HostPattern>,
}

/// The body that answers a challenge.
#[derive(Clone, Debug)]
pub enum ChallengeAnswer {
    /// None.
    Empty,
    /// Plain text.
    Text(Expr),
    /// A JSON document.
    Json(Tree),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_one_label_of_a_host() {
        let pattern = HostPattern("sns.*.amazonaws.com".to_owned());
        for (host, expected) in [
            ("sns.us-east-1.amazonaws.com", true),
            ("SNS.eu-west-1.AmazonAWS.com", true),
            ("sns.amazonaws.com", false),
            ("sns..amazonaws.com", false),
            ("sns.a.b.amazonaws.com", false),
            ("sns.us-east-1.amazonaws.com.evil.example", false),
            ("evil.sns.us-east-1.amazonaws.com", false),
        ] {
            assert_eq!(pattern.matches(host), expected, "{host}");
        }
    }

    #[test]
    fn a_star_is_any_end_of_a_header() {
        let pattern = HeaderPattern::Glob("x-docusign-signature-".to_owned(), String::new());
        assert!(pattern.matches("x-docusign-signature-1"));
        assert!(!pattern.matches("x-docusign-signature"));
        assert!(!pattern.matches("x-other"));
    }
}
