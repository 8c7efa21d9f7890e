//! The sub-tables of `[verify.NAME]`: where things stand, keys, tokens, certificates.

use std::time::Duration;

use super::super::{auth::check_header, context::Context, destination::duration, sites, url};
use crate::{
    definition::{
        collections::{OneOrMany, items},
        kinds::{Expression, Plain, Prose},
        table::{At, Given, Loc},
        verify::{
            BodyHashDef, CertificateDef, CertificateFormDef, EncodingDef, JwtAlgorithmDef, JwtDef,
            KeysDef, KeysFormDef, LayoutDef, SignatureDef, TimestampDef, UnitDef,
        },
    },
    diagnostic::codes,
    plan::{
        Algorithm, BodyHashPlan, CertificateForm, CertificatePlan, Encoding, HeaderPattern,
        HostPattern, JwtAlgorithm, JwtPlan, KeysForm, KeysPlan, Located, Place, SignaturePlan,
        TimeUnit, TimestampPlan,
    },
};

const DEFAULT_PAST: Duration = Duration::from_mins(5);
const DEFAULT_FUTURE: Duration = Duration::from_mins(1);
const DEFAULT_TTL: Duration = Duration::from_hours(24);

/// The keys of which a table must have exactly one.
struct Where<'d> {
    headers: Vec<&'d At<Plain>>,
    body: Option<&'d Given<Expression>>,
    query: &'d Given<Plain>,
    claim: Option<&'d Given<Plain>>,
}

impl Where<'_> {
    /// The place; reported where it is none or more than one.
    fn place(&self, context: &mut Context<'_>, table: &str, at: Loc) -> Option<Place> {
        let body_key = self.body.and_then(Given::key);
        let claim_key = self.claim.and_then(Given::key);
        let header_key = self.headers.first().map(|header| header.key);
        let keys = [header_key, body_key, self.query.key(), claim_key];
        let given: Vec<Loc> = keys.into_iter().flatten().collect();
        match given.as_slice() {
            [] => {
                let choice = match (self.body, self.claim) {
                    (Some(_), Some(_)) => "`header`, `body`, `query` or `claim`",
                    (Some(_), None) => "`header`, `body` or `query`",
                    _ => "`header`, `query` or `claim`",
                };
                context
                    .error(
                        codes::VERIFY_KEYS,
                        at,
                        format!("[{table}] does not say where to look"),
                        format!("{choice} expected here"),
                    )
                    .help("most providers use a header: header = \"X-Signature\"");
                return None;
            }
            [first, second, ..] => {
                context
                    .error(codes::CONFLICT, *second, "it stands at one place", "one too many")
                    .related(*first, "the other one");
                return None;
            }
            [_] => {}
        }
        if !self.headers.is_empty() {
            let patterns: Vec<_> = self.headers.iter().map(|name| pattern(context, name)).collect();
            return patterns.into_iter().collect::<Option<_>>().map(Place::Headers);
        }
        if let Some(path) = self.body.and_then(Given::get) {
            if !path.value.text.starts_with('$') {
                context
                    .error(
                        codes::BAD_RECORDS,
                        path.at,
                        "`body` must be a path",
                        "expected \"$.signature\"",
                    )
                    .help("`$` is the request's body");
                return None;
            }
            return context.expr(path, &sites::SIGNED, &format!("{table}.body")).map(Place::Body);
        }
        if let Some(claim) = self.claim.and_then(Given::value) {
            return Some(Place::Claim(claim.0.clone()));
        }
        self.query.value().map(|name| Place::Query(name.0.clone()))
    }
}

/// A header's name, in which one `*` stands for any text.
fn pattern(context: &mut Context<'_>, given: &At<Plain>) -> Option<HeaderPattern> {
    let name = given.value.0.to_ascii_lowercase();
    let Some((begin, end)) = name.split_once('*') else {
        return check_header(context, &given.value.0, given.at)
            .then_some(HeaderPattern::Exact(name));
    };
    // Without a beginning, everything in the request would be tried as a signature.
    if begin.is_empty() {
        context
            .error(codes::BAD_HEADER, given.at, "a `*` at the beginning", "any header would be one")
            .help("write what such headers begin with: \"X-Acme-Signature-*\"");
        return None;
    }
    let whole = format!("{begin}{end}");
    check_header(context, &whole, given.at)
        .then(|| HeaderPattern::Glob(begin.to_owned(), end.to_owned()))
}

fn separator(given: &Given<Prose>) -> Option<String> {
    given.value().map(|list| list.0.clone()).filter(|list| !list.is_empty())
}

fn text(given: &Given<Plain>) -> Option<String> {
    given.value().map(|text| text.0.clone())
}

/// The encoding that is written, or the one that is meant where none is.
pub(in crate::plan::compile) fn encoding(
    given: &Given<EncodingDef>,
    default: Encoding,
) -> Encoding {
    match given.value() {
        Some(EncodingDef::Raw) => Encoding::Raw,
        Some(EncodingDef::Hex) => Encoding::Hex,
        Some(EncodingDef::Base64) => Encoding::Base64,
        Some(EncodingDef::Base64Url) => Encoding::Base64Url,
        None => default,
    }
}

pub(super) fn signature(
    context: &mut Context<'_>,
    name: &str,
    given: &At<SignatureDef>,
    algorithm: Algorithm,
) -> Option<SignaturePlan> {
    let def = &given.value;
    let headers = def.header.value().map(|many| many.0.iter().collect()).unwrap_or_default();
    let place = Where { headers, body: Some(&def.body), query: &def.query, claim: None };
    let place = place.place(context, &format!("verify.{name}.signature"), given.key)?;
    let default = match algorithm {
        Algorithm::Token | Algorithm::Jwt | Algorithm::Mtls | Algorithm::Basic => Encoding::Raw,
        _ => Encoding::Hex,
    };
    if let Some(layout) = def.layout.key()
        && algorithm != Algorithm::EcdsaP256
    {
        unused(context, "layout", layout, "only ECDSA has two numbers");
    }
    let at = Located { place, list: separator(&def.list), take: text(&def.take) };
    Some(SignaturePlan {
        at,
        decode: encoding(&def.decode, default),
        is_raw_ecdsa: def.layout.value() == Some(&LayoutDef::Raw),
    })
}

fn unused(context: &mut Context<'_>, key: &str, at: Loc, why: &str) {
    context.error(codes::MISPLACED_KEY, at, format!("`{key}` has no effect here"), why);
}

pub(super) fn timestamp(
    context: &mut Context<'_>,
    name: &str,
    given: &At<TimestampDef>,
    algorithm: Algorithm,
) -> Option<TimestampPlan> {
    let def = &given.value;
    let headers = def.header.get().into_iter().collect();
    if let Some(claim) = def.claim.key()
        && algorithm != Algorithm::Jwt
    {
        unused(context, "claim", claim, "only a JSON Web Token has claims");
        return None;
    }
    let place =
        Where { headers, body: Some(&def.body), query: &def.query, claim: Some(&def.claim) };
    let place = place.place(context, &format!("verify.{name}.timestamp"), given.key)?;
    Some(TimestampPlan {
        at: Located { place, list: separator(&def.list), take: text(&def.take) },
        unit: match def.unit.value() {
            Some(UnitDef::Milliseconds) => TimeUnit::Milliseconds,
            Some(UnitDef::Rfc3339) => TimeUnit::Rfc3339,
            _ => TimeUnit::Seconds,
        },
        past: duration(&def.past, DEFAULT_PAST),
        future: duration(&def.future, DEFAULT_FUTURE),
    })
}

pub(super) fn body_hash(
    context: &mut Context<'_>,
    name: &str,
    given: &At<BodyHashDef>,
) -> Option<BodyHashPlan> {
    let def = &given.value;
    let headers = def.header.get().into_iter().collect();
    let place = Where { headers, body: None, query: &def.query, claim: Some(&def.claim) };
    let place = place.place(context, &format!("verify.{name}.body_hash"), given.key)?;
    let at = Located { place, list: None, take: None };
    Some(BodyHashPlan { at, decode: encoding(&def.decode, Encoding::Hex) })
}

/// Host names, in lower case; a `*` is a whole label.
pub(super) fn hosts(
    context: &mut Context<'_>,
    given: &Given<OneOrMany<Plain>>,
) -> Vec<HostPattern> {
    let mut patterns = Vec::new();
    for host in items(given) {
        let name = host.value.0.to_ascii_lowercase();
        let label = |label: &str| {
            let fine = |c: char| c.is_ascii_alphanumeric() || c == '-';
            label == "*" || (!label.is_empty() && label.chars().all(fine))
        };
        // The last two labels are somebody's domain; with a star there they would be everybody's.
        let labels: Vec<&str> = name.split('.').collect();
        let is_owned = labels.len() >= 2 && labels[labels.len() - 2..].iter().all(|l| *l != "*");
        if labels.iter().all(|l| label(l)) && is_owned {
            patterns.push(HostPattern(name));
        } else {
            context
                .error(
                    codes::BAD_URL,
                    host.at,
                    "not the name of a host",
                    "expected \"api.acme.example\" or \"keys.*.acme.example\"",
                )
                .help("`*` stands for one whole label, and not for one of the last two");
        }
    }
    patterns
}

pub(super) fn keys(context: &mut Context<'_>, name: &str, def: &KeysDef) -> Option<KeysPlan> {
    let path = format!("verify.{name}.keys");
    let given = def.url.get()?;
    url::check(context, given);
    if given.value.text.starts_with("http://") {
        let at = given.at;
        context
            .error(codes::VERIFY_OPEN, at, "keys over http", "whoever is on the way gives the keys")
            .help("write https://");
    }
    let url = context.expr(given, &sites::KEYS, &format!("{path}.url"))?;
    let mut hosts = hosts(context, &def.hosts);
    let literal = literal_host(&given.value.text);
    if hosts.is_empty() && def.hosts.is_absent() {
        match literal {
            Some(host) => hosts.push(HostPattern(host)),
            None => {
                not_pinned(context, given.at, "whoever sends a request could name his own keys");
            }
        }
    }
    let body = def.body.value().map(|pairs| pairs.0.as_slice()).unwrap_or_default();
    let body = context.pairs(body, &sites::KEYS, &format!("{path}.body"));
    let form = match def.form.value() {
        Some(KeysFormDef::Jwk) => KeysForm::Jwk,
        Some(KeysFormDef::Pem) => KeysForm::Pem,
        _ => KeysForm::Jwks,
    };
    if let Some(at) = def.key.key()
        && form != KeysForm::Jwk
    {
        unused(context, "key", at, "only a single JSON Web Key is looked for in the answer");
    }
    let at = context.maybe(&def.key, &sites::RESPONSE, &format!("{path}.key"));
    let ttl = duration(&def.ttl, DEFAULT_TTL);
    Some(KeysPlan { url, hosts, body, form, at, ttl })
}

/// The host of a URL whose host is written out.
fn literal_host(text: &str) -> Option<String> {
    let rest = text.strip_prefix("https://")?;
    let end = rest.find(['/', '?'])?;
    let host = &rest[..end];
    (!host.contains(['{', '@', ':'])).then(|| host.to_ascii_lowercase())
}

pub(super) fn not_pinned(context: &mut Context<'_>, at: Loc, why: &str) {
    context
        .error(codes::VERIFY_OPEN, at, "the URL's host is not pinned", why)
        .help("say where it may lead: hosts = [\"keys.acme.example\"]");
}

pub(super) fn jwt(context: &mut Context<'_>, def: &JwtDef) -> Option<JwtPlan> {
    let given = items(&def.algorithms);
    let algorithms: Vec<JwtAlgorithm> =
        given.iter().map(|algorithm| jwt_algorithm(algorithm.value)).collect();
    let symmetric = algorithms.first()?.is_symmetric();
    if let Some(other) = algorithms.iter().position(|a| a.is_symmetric() != symmetric) {
        context
            .error(
                codes::VERIFY_OPEN,
                given[other].at,
                "symmetric and asymmetric algorithms for one key",
                "whoever knows the public key could sign with it as the secret",
            )
            .related(given[0].at, "the other kind")
            .help("make two schemes of it");
        return None;
    }
    Some(JwtPlan { algorithms, issuer: text(&def.issuer), audience: text(&def.audience) })
}

fn jwt_algorithm(def: JwtAlgorithmDef) -> JwtAlgorithm {
    match def {
        JwtAlgorithmDef::Hs256 => JwtAlgorithm::Hs256,
        JwtAlgorithmDef::Hs384 => JwtAlgorithm::Hs384,
        JwtAlgorithmDef::Hs512 => JwtAlgorithm::Hs512,
        JwtAlgorithmDef::Rs256 => JwtAlgorithm::Rs256,
        JwtAlgorithmDef::Rs384 => JwtAlgorithm::Rs384,
        JwtAlgorithmDef::Rs512 => JwtAlgorithm::Rs512,
        JwtAlgorithmDef::Es256 => JwtAlgorithm::Es256,
        JwtAlgorithmDef::EdDsa => JwtAlgorithm::EdDsa,
    }
}

pub(super) fn certificate(
    context: &mut Context<'_>,
    def: &CertificateDef,
) -> Option<CertificatePlan> {
    let header = def.header.get()?;
    let fine = check_header(context, &header.value.0, header.at);
    let allow: Vec<Option<[u8; 32]>> = items(&def.allow)
        .iter()
        .map(|print| {
            let digits: String = print.value.0.chars().filter(|c| *c != ':').collect();
            let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok();
            let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            if bytes.is_none() {
                context
                    .error(
                        codes::OUT_OF_RANGE,
                        print.at,
                        "not a SHA-256 fingerprint",
                        "expected 64 hexadecimal digits, with or without colons",
                    )
                    .help("openssl x509 -in client.pem -noout -fingerprint -sha256");
            }
            bytes
        })
        .collect();
    let allow: Vec<[u8; 32]> = allow.into_iter().collect::<Option<_>>()?;
    if allow.is_empty() {
        if let Some(at) = def.allow.key() {
            context
                .error(codes::VERIFY_OPEN, at, "no certificate may post", "expected a fingerprint")
                .help("openssl x509 -in client.pem -noout -fingerprint -sha256");
        }
        return None;
    }
    let form = match def.form.value() {
        Some(CertificateFormDef::Der) => CertificateForm::Der,
        Some(CertificateFormDef::Fingerprint) => CertificateForm::Fingerprint,
        _ => CertificateForm::Pem,
    };
    fine.then(|| CertificatePlan { header: header.value.0.to_ascii_lowercase(), form, allow })
}
