//! `[verify.NAME]` and the presets. What would let a request through that nobody signed is refused
//! here: see [`open`].

use std::sync::Arc;

use super::{
    super::{
        Algorithm, ChallengeAnswer, ChallengePlan, Encoding, KeyPlan, Place, ReplyPlan, SignedPart,
        UrlForm, VerifyPlan, VisitPlan,
    },
    context::{Context, complete},
    destination::method_of,
    sites,
};
use crate::{
    definition::{
        collections::items,
        connector::ConnectorDef,
        kinds::Plain,
        presets::PRESETS,
        table::{At, Given},
        verify::{AlgorithmDef, ChallengeDef, KeyDef, KeyEncodingDef, UrlFormDef, VerifyDef},
        webhook::ReplyDef,
    },
    diagnostic::codes,
    map::Tree,
};

mod open;
pub(super) mod parts;
mod presets;
mod signed;

#[cfg(test)]
pub(super) use presets::preset;
use presets::presets;

const DEFAULT_STATUS: u16 = 401;

/// Compiles every table of the file, so that one that no stream uses is checked, too.
pub(super) fn check_all(context: &mut Context<'_>, body: &ConnectorDef) {
    for (name, def) in body.verify.value().into_iter().flat_map(|named| &named.0) {
        let plan = compile(context, name, &def.value).map(Arc::new);
        context.verifies.push((name.clone(), plan));
    }
}

/// The verification of that name: the file's own, or a preset.
pub(super) fn resolve(context: &mut Context<'_>, given: &At<Plain>) -> Option<Arc<VerifyPlan>> {
    let name = given.value.0.as_str();
    // What is wrong with the file's own has been reported once.
    if let Some((_, own)) = context.verifies.iter().find(|(known, _)| known == name) {
        return own.clone();
    }
    if let Some(preset) = presets().get(name) {
        let text = PRESETS.iter().find(|(known, _)| *known == name).map_or("", |(_, text)| *text);
        context.hash.text(text);
        for secret in &preset.secrets {
            context.note_secret(secret, given.at);
        }
        return Some(Arc::clone(&preset.plan));
    }
    let own: Vec<String> = context.verifies.iter().map(|(name, _)| name.clone()).collect();
    let known = own.iter().map(String::as_str).chain(presets().keys().copied());
    context
        .unknown(codes::UNKNOWN_VERIFY, given.at, "verify", name, known)
        .help(format!("any other scheme is a table of its own: [verify.{name}]"));
    None
}

/// A preset's plan, by name.
pub fn verify_preset(name: &str) -> Option<Arc<VerifyPlan>> {
    presets().get(name).map(|preset| Arc::clone(&preset.plan))
}

fn compile(context: &mut Context<'_>, name: &str, def: &VerifyDef) -> Option<VerifyPlan> {
    let path = format!("verify.{name}");
    let algorithm = algorithm_of(*def.algorithm.value()?);
    check_tables(context, name, def, algorithm);
    let signed = signed(context, name, def, algorithm);
    let signature = def.signature.get();
    let signature = signature.map(|given| parts::signature(context, name, given, algorithm));
    let timestamp = def.timestamp.get();
    let timestamp = timestamp.map(|given| parts::timestamp(context, name, given, algorithm));
    let body_hash = def.body_hash.get();
    let body_hash = body_hash.map(|given| parts::body_hash(context, name, given));
    let keys = def.keys.value().map(|keys| parts::keys(context, name, keys));
    let jwt = def.jwt.value().map(|jwt| parts::jwt(context, jwt));
    let certificate = def.certificate.value();
    let certificate = certificate.map(|certificate| parts::certificate(context, certificate));
    let (site, at) = (&sites::CHALLENGE_WHEN, format!("{path}.require"));
    let require = context.condition(codes::VERIFY_OPEN, ("require", &def.require), site, &at);
    let once = context.maybe(&def.once, &sites::CHALLENGE, &format!("{path}.once"));
    let challenges: Vec<Option<ChallengePlan>> =
        items(&def.challenge).iter().map(|given| challenge(context, given, &path)).collect();
    let urls: Vec<UrlForm> = items(&def.urls).iter().map(|form| url_form(form.value)).collect();
    // Said even where something else is wrong with the table.
    for (given, challenge) in items(&def.challenge).iter().zip(&challenges) {
        if let Some(challenge) = challenge {
            open::handshake(context, given, challenge, algorithm);
        }
    }
    let plan = VerifyPlan {
        name: name.to_owned(),
        algorithm,
        signed: signed?,
        urls: if urls.is_empty() { vec![UrlForm::AsSent] } else { urls },
        covers_body: def.covers_body.value() != Some(&false),
        body_hash: complete(body_hash)?,
        require,
        once,
        on_fail: def.on_fail.value().map_or(DEFAULT_STATUS, |status| status.0 as u16),
        reply: def.reply.value().map(reply),
        key: key(def.key.value(), algorithm),
        keys: complete(keys)?,
        jwt: complete(jwt)?,
        certificate: complete(certificate)?,
        signature: complete(signature)?,
        timestamp: complete(timestamp)?,
        challenges: challenges.into_iter().collect::<Option<_>>()?,
    };
    open::check(context, name, def, &plan);
    Some(plan)
}

/// The answer that a table names.
pub(super) fn reply(def: &ReplyDef) -> ReplyPlan {
    ReplyPlan {
        status: def.status.value().map_or(202, |status| status.0 as u16),
        body: def.body.value().map(|body| body.0.clone()),
    }
}

/// Which tables an algorithm needs, and which mean nothing to it.
fn check_tables(context: &mut Context<'_>, name: &str, def: &VerifyDef, algorithm: Algorithm) {
    let mut needs = |table: &str, is_absent: bool, why: &str| {
        if is_absent {
            context
                .error(
                    codes::VERIFY_KEYS,
                    def.at,
                    format!("[verify.{name}] needs a table [verify.{name}.{table}]"),
                    format!("\"{}\" cannot be checked without it", algorithm.word()),
                )
                .help(why);
        }
    };
    if !matches!(algorithm, Algorithm::Basic | Algorithm::None) {
        let why = "it says where the signature or the token stands; `header` names a header";
        needs("signature", def.signature.is_absent(), why);
    }
    if algorithm == Algorithm::Jwt {
        let why = "its `algorithms` is the allow-list: a token must not choose how it is checked";
        needs("jwt", def.jwt.is_absent(), why);
    }
    if algorithm == Algorithm::Mtls {
        let why = "it says in which header the proxy passes the certificate on, and which may post";
        needs("certificate", def.certificate.is_absent(), why);
    }
    let unused: &[&str] = match algorithm {
        Algorithm::Jwt => &["signed", "urls", "certificate"],
        Algorithm::Token => &[
            "signed",
            "urls",
            "covers_body",
            "timestamp",
            "keys",
            "jwt",
            "certificate",
            "body_hash",
        ],
        Algorithm::Mtls => {
            &["signed", "urls", "covers_body", "timestamp", "keys", "jwt", "body_hash"]
        }
        Algorithm::Basic => &[
            "signed",
            "urls",
            "covers_body",
            "timestamp",
            "signature",
            "keys",
            "jwt",
            "certificate",
            "body_hash",
        ],
        Algorithm::None => &[
            "signed",
            "urls",
            "covers_body",
            "timestamp",
            "signature",
            "key",
            "keys",
            "jwt",
            "certificate",
            "body_hash",
        ],
        _ if algorithm.is_asymmetric() => &["jwt", "certificate"],
        _ => &["keys", "jwt", "certificate"],
    };
    for (key, at) in def.given().into_iter().filter(|(key, _)| unused.contains(key)) {
        context.error(
            codes::MISPLACED_KEY,
            at,
            format!("`{key}` has no effect here"),
            format!("\"{}\" does not use it", algorithm.word()),
        );
    }
}

fn algorithm_of(algorithm: AlgorithmDef) -> Algorithm {
    match algorithm {
        AlgorithmDef::HmacSha1 => Algorithm::HmacSha1,
        AlgorithmDef::HmacSha256 => Algorithm::HmacSha256,
        AlgorithmDef::HmacSha512 => Algorithm::HmacSha512,
        AlgorithmDef::Sha256Concat => Algorithm::Sha256Concat,
        AlgorithmDef::Ed25519 => Algorithm::Ed25519,
        AlgorithmDef::EcdsaP256 => Algorithm::EcdsaP256,
        AlgorithmDef::RsaSha1 => Algorithm::RsaSha1,
        AlgorithmDef::RsaSha256 => Algorithm::RsaSha256,
        AlgorithmDef::Jwt => Algorithm::Jwt,
        AlgorithmDef::Token => Algorithm::Token,
        AlgorithmDef::Basic => Algorithm::Basic,
        AlgorithmDef::Mtls => Algorithm::Mtls,
        AlgorithmDef::None => Algorithm::None,
    }
}

fn url_form(form: UrlFormDef) -> UrlForm {
    match form {
        UrlFormDef::AsSent => UrlForm::AsSent,
        UrlFormDef::Decoded => UrlForm::Decoded,
        UrlFormDef::WithPort => UrlForm::WithPort,
        UrlFormDef::WithoutPort => UrlForm::WithoutPort,
    }
}

fn key(def: Option<&KeyDef>, algorithm: Algorithm) -> KeyPlan {
    let decode = match def.and_then(|key| key.decode.value()) {
        Some(KeyEncodingDef::Raw) => Encoding::Raw,
        Some(KeyEncodingDef::Hex) => Encoding::Hex,
        Some(KeyEncodingDef::Base64) => Encoding::Base64,
        Some(KeyEncodingDef::Base64Url) => Encoding::Base64Url,
        Some(KeyEncodingDef::Pem) => Encoding::Pem,
        None => match algorithm {
            Algorithm::Ed25519 => Encoding::Hex,
            Algorithm::EcdsaP256 | Algorithm::RsaSha1 | Algorithm::RsaSha256 => Encoding::Pem,
            _ => Encoding::Raw,
        },
    };
    KeyPlan { strip: def.and_then(|key| key.strip.value()).map(|strip| strip.0.clone()), decode }
}

/// What is signed, in parts. Without `signed`: the body.
fn signed(
    context: &mut Context<'_>,
    name: &str,
    def: &VerifyDef,
    algorithm: Algorithm,
) -> Option<Vec<SignedPart>> {
    if !algorithm.has_signed() {
        return Some(Vec::new());
    }
    let Some(given) = def.signed.get() else {
        return def.signed.is_absent().then(|| vec![SignedPart::Body]);
    };
    let parts = signed::parts(context, given, &format!("verify.{name}.signed"))?;
    if parts.contains(&SignedPart::Timestamp) && def.timestamp.is_absent() {
        context
            .error(
                codes::VERIFY_KEYS,
                given.at,
                "nothing says where the timestamp stands",
                "`timestamp` is used here",
            )
            .help(format!("add a table [verify.{name}.timestamp] with its `header`"));
    }
    Some(parts)
}

fn challenge(
    context: &mut Context<'_>,
    given: &At<ChallengeDef>,
    path: &str,
) -> Option<ChallengePlan> {
    let def = &given.value;
    let path = format!("{path}.challenge");
    let (site, at) = (&sites::CHALLENGE_WHEN, format!("{path}.when"));
    let when = context.condition(codes::VERIFY_OPEN, ("when", &def.when), site, &at);
    let token = &format!("{path}.verify_token");
    let verify_token = context.maybe(&def.verify_token, &sites::CHALLENGE, token);
    let sign = context.maybe(&def.sign, &sites::CHALLENGE, &format!("{path}.sign"));
    if sign.is_none()
        && let Some(at) = def.encode.key()
    {
        let message = "`encode` has no effect here";
        context.error(codes::MISPLACED_KEY, at, message, "nothing is signed without `sign`");
    }
    let visit = context.maybe(&def.visit, &sites::CHALLENGE, &format!("{path}.visit"));
    let hosts = parts::hosts(context, &def.hosts);
    if hosts.is_empty()
        && def.hosts.is_absent()
        && let Some(at) = def.visit.get()
    {
        parts::not_pinned(context, at.at, "whoever sends a request could have any URL fetched");
    }
    let answer = match (def.text.get(), def.json.get()) {
        (Some(text), Some(json)) => {
            context
                .error(codes::CONFLICT, json.key, "an answer is text or JSON", "one too many")
                .related(text.key, "the other one");
            None
        }
        (Some(text), None) => {
            let text = context.expr(text, &sites::ANSWER, &format!("{path}.text"));
            text.map(ChallengeAnswer::Text)
        }
        (None, Some(json)) => {
            let fields = context.fields(&json.value.0, &sites::ANSWER, &format!("{path}.json"));
            fields.map(|fields| ChallengeAnswer::Json(Tree::Table(fields)))
        }
        (None, None) => Some(ChallengeAnswer::Empty),
    };
    Some(ChallengePlan {
        when: when?,
        verified: def.verified.value() != Some(&false),
        method: def.method.value().map(|method| method_of(*method)),
        verify_token,
        sign: sign.map(|sign| (sign, parts::encoding(&def.encode, Encoding::Hex))),
        visit: visit.map(|url| VisitPlan { url, hosts }),
        status: def.status.value().map_or(200, |status| status.0 as u16),
        answer: answer?,
    })
}

/// Whether a part of what is signed is this place.
fn signs(plan: &VerifyPlan, place: &Place) -> bool {
    match place {
        Place::Headers(_) => place.header().is_some_and(|name| {
            plan.signed.iter().any(|part| matches!(part, SignedPart::Header(it) if it == name))
        }),
        Place::Query(_) => plan.signed.contains(&SignedPart::Url),
        Place::Body(path) => {
            let member = path.source().strip_prefix("$.").unwrap_or_default();
            let lists = |part: &SignedPart| match part {
                SignedPart::Fields(names) => names.iter().any(|name| name == member),
                _ => false,
            };
            plan.binds_body() || plan.signed.iter().any(lists)
        }
        Place::Claim(_) => true,
    }
}

/// Where a key of a definition stands, or the table.
fn key_or<T>(given: &Given<T>, def: &VerifyDef) -> crate::definition::table::Loc {
    given.key().unwrap_or(def.at)
}
