//! Schemes that fail open, refused: everything here compiles, and would let somebody in who signed
//! nothing, or who saw one request.

use super::{
    super::context::{Context, within},
    key_or, signs,
};
use crate::{
    definition::{
        table::{At, Loc},
        verify::{ChallengeDef, VerifyDef},
    },
    diagnostic::codes,
    map::Expr,
    plan::{Algorithm, ChallengePlan, Encoding, Place, SignedPart, VerifyPlan},
};

pub(super) fn check(context: &mut Context<'_>, name: &str, def: &VerifyDef, plan: &VerifyPlan) {
    secret_is_hashed(context, def, plan);
    body_is_bound(context, def, plan);
    time_is_signed(context, def, plan);
    digest_is_signed(context, def, plan);
    once_is_signed(context, name, def, plan);
    token_is_bound(context, def, plan);
}

fn open(context: &mut Context<'_>, at: Loc, message: &str, why: &str, help: &str) {
    context.error(codes::VERIFY_OPEN, at, message, why).help(help);
}

/// Without the secret in it a plain digest is one that anybody can make.
fn secret_is_hashed(context: &mut Context<'_>, def: &VerifyDef, plan: &VerifyPlan) {
    if plan.algorithm == Algorithm::Sha256Concat && !plan.signed.contains(&SignedPart::Secret) {
        let why = "anyone can make a plain digest";
        let help = "write signed = \"{{ secret }}{{ body }}\"";
        open(context, key_or(&def.signed, def), "no secret is hashed", why, help);
    }
    if plan.key.decode == Encoding::Pem && !plan.algorithm.is_asymmetric() {
        let is_public_jwt =
            plan.jwt.as_ref().is_some_and(|jwt| jwt.algorithms.iter().all(|a| !a.is_symmetric()));
        if !is_public_jwt && let Some(at) = def.key.value().and_then(|key| key.decode.key()) {
            let why = "whoever knows the public key could sign with it";
            let help = "a public key verifies `ed25519`, `ecdsa-p256`, `rsa-sha256` and `jwt`";
            open(context, at, "a public key as a shared secret", why, help);
        }
    }
}

/// A signature that does not determine the body is one for any body, and the file has to say so.
fn body_is_bound(context: &mut Context<'_>, def: &VerifyDef, plan: &VerifyPlan) {
    let is_jwt = plan.algorithm == Algorithm::Jwt;
    if !(plan.algorithm.has_signed() || is_jwt) || plan.binds_body() || !plan.covers_body {
        return;
    }
    let (at, message) = match def.signed.get() {
        Some(signed) => (signed.at, "`signed` omits the body"),
        None => (def.at, "the token says nothing of the body"),
    };
    let help = if plan.signed.contains(&SignedPart::BodyCrc32) {
        "a checksum can be met by any body; if the provider signs nothing better, say covers_body = false and `once`"
    } else if is_jwt {
        "name the claim that holds the body's digest: [verify.NAME.body_hash] claim = \"...\"; if there is none, say covers_body = false"
    } else {
        "add {{ body }} or {{ body_sha256 }}; if the provider really does not sign it, say covers_body = false"
    };
    context.error(codes::BODY_NOT_SIGNED, at, message, "anyone could change the body").help(help);
}

/// A time that nobody signed is whatever the sender says.
fn time_is_signed(context: &mut Context<'_>, def: &VerifyDef, plan: &VerifyPlan) {
    let (Some(timestamp), Some(given)) = (&plan.timestamp, def.timestamp.get()) else { return };
    let place = &timestamp.at.place;
    if plan.signed.contains(&SignedPart::Timestamp) || signs(plan, place) {
        return;
    }
    let message = "the timestamp is checked but not signed";
    context
        .error(codes::UNSIGNED_TIMESTAMP, given.key, message, "anyone could change it")
        .help("if the provider signs it, add {{ timestamp }} to `signed`");
}

/// A digest that nobody signed is that of any body.
fn digest_is_signed(context: &mut Context<'_>, def: &VerifyDef, plan: &VerifyPlan) {
    let (Some(hash), Some(given)) = (&plan.body_hash, def.body_hash.get()) else { return };
    let is_signed = match &hash.at.place {
        Place::Claim(_) => plan.algorithm == Algorithm::Jwt,
        place => signs(plan, place),
    };
    if !is_signed {
        let why = "whoever changes the body would change it along";
        let help = "`signed` has to have it: {{ url }}, {{ request.headers['...'] }}, or a claim of the token";
        open(context, given.key, "the body's digest is not signed", why, help);
    }
}

/// What may be used once is worth nothing where the sender is free to write another.
fn once_is_signed(context: &mut Context<'_>, name: &str, def: &VerifyDef, plan: &VerifyPlan) {
    let Some(given) = def.once.get() else { return };
    if plan.timestamp.is_none() {
        context
            .error(
                codes::VERIFY_KEYS,
                given.at,
                "nothing says for how long `once` has to be remembered",
                "it is kept while the timestamp is accepted",
            )
            .help(format!("add a table [verify.{name}.timestamp]"));
    }
    let text = given.value.text.trim();
    let inner = text.strip_prefix("{{").and_then(|text| text.strip_suffix("}}"));
    let wanted = inner.unwrap_or(text).trim();
    let signed = def.signed.value().map_or("", |signed| signed.text.as_str());
    let is_body = wanted.starts_with("request.body");
    // Names within `{{ }}`, without their filters.
    let mut pieces = signed.split("{{").skip(1).filter_map(|rest| rest.split("}}").next());
    let is_signed =
        pieces.any(|piece| piece.split('|').next().is_some_and(|it| it.trim() == wanted));
    if is_signed || signed.trim() == wanted || (is_body && plan.binds_body()) {
        return;
    }
    let fields = plan.signed.iter().find_map(|part| match part {
        SignedPart::Fields(names) => Some(names),
        _ => None,
    });
    let member = wanted.strip_prefix("request.body.").unwrap_or_default();
    if fields.is_some_and(|names| names.iter().any(|name| name == member)) {
        return;
    }
    let why = "whoever sends a request again would write another value";
    let help = "take a value that `signed` has";
    open(context, within(given, 0..given.value.text.len()), "`once` is not signed", why, help);
}

/// A token that names nobody it was made for is good wherever the same issuer is trusted.
fn token_is_bound(context: &mut Context<'_>, def: &VerifyDef, plan: &VerifyPlan) {
    let (Some(jwt), Some(given)) = (&plan.jwt, def.jwt.get()) else { return };
    let is_shared = plan.keys.is_some() && plan.body_hash.is_none();
    if is_shared && jwt.issuer.is_none() && jwt.audience.is_none() {
        let why = "any token of this issuer would do";
        let help = "say whose it must be (`issuer`) and for whom (`audience`)";
        open(context, given.key, "neither issuer nor audience", why, help);
    }
}

/// What is answered before verification must give nothing away and do nothing.
pub(super) fn handshake(
    context: &mut Context<'_>,
    given: &At<ChallengeDef>,
    challenge: &ChallengePlan,
    algorithm: Algorithm,
) {
    let def = &given.value;
    if challenge.sign.is_some()
        && !algorithm.is_hmac()
        && let Some(at) = def.sign.get()
    {
        context.error(
            codes::MISPLACED_KEY,
            at.key,
            "`sign` has no effect here",
            format!("\"{}\" has no secret to sign with", algorithm.word()),
        );
    }
    if challenge.verified {
        return;
    }
    if let Some(visit) = def.visit.get() {
        let why = "anyone could have URLs fetched";
        open(context, visit.key, "a visit without verification", why, "leave `verified` out");
    }
    let looks_at_body = |expr: &Expr| {
        let body =
            |member: &Option<String>| member.as_deref().is_none_or(|member| member == "body");
        expr.uses().iter().any(|(name, member)| name == "request" && body(member))
    };
    if challenge.expressions().into_iter().any(looks_at_body) {
        let at = def.verified.key().unwrap_or(given.key);
        let why = "what nobody signed is not read";
        let help = "decide by `request.method`, `request.query` or `request.headers`; if the provider signs the handshake, leave `verified` out";
        open(context, at, "the body of a request that is not verified", why, help);
    }
}
