//! One `[auth.NAME]` table: the keys of its type, and the plan.

use std::sync::Arc;

use super::{
    super::{
        super::{
            AuthKind, AuthPlan, Encoding, HmacHash, HmacPlan, IdentityPlan, SigV4Plan,
            SignedTokenPlan, TimestampForm,
        },
        connector::Whole,
        context::{Context, complete},
        sites,
        verify::parts,
    },
    Auths, check_keys, header_name, headers, login, named, oauth2, token,
};
use crate::{
    definition::{
        auth::{AuthDef, AuthType, HmacDef, keys_of},
        kinds::Plain,
        table::Given,
    },
    diagnostic::codes,
    map::Expr,
};

pub(super) fn compile(
    context: &mut Context<'_>,
    whole: Whole<'_>,
    (name, def): (&str, &AuthDef),
    auths: &Auths,
) -> Option<AuthPlan> {
    let kind = *def.kind.value()?;
    let (required, optional) = keys_of(kind);
    let allowed: Vec<&str> = optional.iter().chain(&["type"]).copied().collect();
    let title = format!("[auth.{name}]");
    let heading = (title.as_str(), kind.word(), def.at);
    let is_complete = check_keys(
        context,
        heading,
        &AuthDef::TABLE,
        &def.given(),
        (required, &allowed),
        codes::AUTH_KEYS,
    );
    let path = format!("auth.{name}");
    let name: Arc<str> = Arc::from(name);
    if kind == AuthType::Mtls {
        let identity = Some(Arc::new(mtls(context, def, &path, Arc::clone(&name))?));
        return Some(AuthPlan { name, kind: AuthKind::Mtls, identity });
    }
    let fits = |plan: &AuthPlan| matches!(plan.kind, AuthKind::Mtls);
    let identity = match &def.identity {
        Given::Absent => None,
        given => Some(named(context, given, auths, (fits, "a table of type \"mtls\""))),
    };
    let identity = identity.map(|found| found.and_then(|plan| plan.identity.clone()));
    let compiled = match kind {
        AuthType::OAuth2 => oauth2::compile(context, def, &path, is_complete)
            .map(|plan| AuthKind::OAuth2(Box::new(plan))),
        AuthType::Login => login::compile(context, whole, def, &path, auths)
            .map(|plan| AuthKind::Login(Box::new(plan))),
        AuthType::Hmac => hmac(context, def, &path).map(|plan| AuthKind::Hmac(Box::new(plan))),
        AuthType::SigV4 => sigv4(context, def, &path).map(|plan| AuthKind::SigV4(Box::new(plan))),
        AuthType::Jwt => jwt(context, def, &path).map(|plan| AuthKind::Jwt(Box::new(plan))),
        _ => fixed(context, kind, def, &path),
    };
    Some(AuthPlan { name, kind: compiled?, identity: complete(identity)? })
}

/// What needs neither an answer nor a signature.
fn fixed(context: &mut Context<'_>, kind: AuthType, def: &AuthDef, path: &str) -> Option<AuthKind> {
    let expr = |context: &mut Context<'_>, given, key: &str| {
        context.maybe(given, &sites::SETTINGS, &format!("{path}.{key}"))
    };
    Some(match kind {
        AuthType::Bearer => AuthKind::Bearer { token: expr(context, &def.token, "token")? },
        AuthType::Basic => {
            let user = expr(context, &def.user, "user");
            let password = match &def.password {
                Given::Absent => Some(Expr::constant(serde_json::Value::String(String::new()))),
                given => expr(context, given, "password"),
            };
            AuthKind::Basic { user: user?, password: password? }
        }
        AuthType::Header => {
            let value = expr(context, &def.value, "value");
            let name = header_name(context, &def.name);
            AuthKind::Header { name: name?, value: value? }
        }
        _ => AuthKind::Query {
            value: expr(context, &def.value, "value")?,
            name: def.name.value()?.0.clone(),
        },
    })
}

fn jwt(context: &mut Context<'_>, def: &AuthDef, path: &str) -> Option<SignedTokenPlan> {
    let assertion = token::assertion(context, &def.jwt, &format!("{path}.jwt"));
    let place = token::place(context, &def.placed, path);
    Some(SignedTokenPlan { assertion: assertion?, place: place? })
}

fn mtls(
    context: &mut Context<'_>,
    def: &AuthDef,
    path: &str,
    name: Arc<str>,
) -> Option<IdentityPlan> {
    let site = &sites::SETTINGS;
    let certificate = context.maybe(&def.certificate, site, &format!("{path}.certificate"));
    let private_key = context.maybe(&def.private_key, site, &format!("{path}.private_key"));
    let ca = def.ca.get().map(|ca| context.expr(ca, site, &format!("{path}.ca")));
    Some(IdentityPlan {
        name,
        certificate: certificate?,
        private_key: private_key?,
        ca: complete(ca)?,
    })
}

fn sigv4(context: &mut Context<'_>, def: &AuthDef, path: &str) -> Option<SigV4Plan> {
    let mut setting =
        |given, key: &str| context.maybe(given, &sites::SETTINGS, &format!("{path}.{key}"));
    let access_key = setting(&def.access_key, "access_key");
    let secret_key = setting(&def.secret_key, "secret_key");
    let region = setting(&def.region, "region");
    let service = setting(&def.service, "service");
    let session_token =
        (!def.session_token.is_absent()).then(|| setting(&def.session_token, "session_token"));
    Some(SigV4Plan {
        access_key: access_key?,
        secret_key: secret_key?,
        session_token: complete(session_token)?,
        region: region?,
        service: service?,
    })
}

fn hmac(context: &mut Context<'_>, def: &AuthDef, path: &str) -> Option<HmacPlan> {
    let key = token::key(context, &def.key, &format!("{path}.key"));
    let signed = context.maybe(&def.signed, &sites::SIGNED_REQUEST, &format!("{path}.signed"));
    let timestamp = timestamp(context, &def.timestamp);
    let given = def.headers.value().map_or(&[][..], |pairs| pairs.0.as_slice());
    let headers = headers(context, given, &sites::SIGNATURE, &format!("{path}.headers"));
    let given = def.query.value().map_or(&[][..], |pairs| pairs.0.as_slice());
    let query = context.pairs(given, &sites::SIGNATURE, &format!("{path}.query"));
    let goes_somewhere = headers
        .iter()
        .chain(&query)
        .any(|(_, expr)| expr.uses().iter().any(|(name, _)| name == "signature"));
    if !goes_somewhere && !context.has_errors() {
        context
            .error(
                codes::UNUSABLE_AUTH,
                def.at,
                "the signature goes nowhere",
                "expected `{{ signature }}` under `headers` or `query`",
            )
            .help("write headers = { X-Signature = \"{{ signature }}\" }");
    }
    let hash = match def.algorithm.value() {
        Some(HmacDef::Sha1) => HmacHash::Sha1,
        Some(HmacDef::Sha512) => HmacHash::Sha512,
        _ => HmacHash::Sha256,
    };
    let encode = parts::encoding(&def.encode, Encoding::Hex);
    if encode == Encoding::Raw {
        let at = def.encode.key().unwrap_or(def.at);
        let label = "a signature is bytes: expected \"hex\", \"base64\" or \"base64url\"";
        context.error(codes::UNUSABLE_AUTH, at, "a signature that is not text", label);
    }
    Some(HmacPlan {
        hash,
        key: key?,
        signed: signed?,
        timestamp: timestamp?,
        encode,
        headers,
        query,
    })
}

fn timestamp(context: &mut Context<'_>, given: &Given<Plain>) -> Option<TimestampForm> {
    let Some(given) = given.get() else {
        return given.is_absent().then_some(TimestampForm::Seconds);
    };
    let text = given.value.0.as_str();
    let form = match text {
        "s" => TimestampForm::Seconds,
        "ms" => TimestampForm::Milliseconds,
        "rfc3339" => TimestampForm::Rfc3339,
        "http" => TimestampForm::Http,
        pattern => TimestampForm::Pattern(pattern.to_owned()),
    };
    if let TimestampForm::Pattern(pattern) = &form {
        let sample = jiff::Timestamp::UNIX_EPOCH.to_zoned(jiff::tz::TimeZone::UTC);
        let printed = jiff::fmt::strtime::format(pattern, &sample);
        if !pattern.contains('%') || printed.is_err() {
            context
                .error(
                    codes::UNKNOWN_WORD,
                    given.at,
                    format!("`timestamp` cannot be \"{}\"", pattern.escape_debug()),
                    "expected `s`, `ms`, `rfc3339`, `http`, or a strftime pattern",
                )
                .help("a pattern reads \"%Y%m%dT%H%M%SZ\", and is in UTC");
            return None;
        }
    }
    Some(form)
}
