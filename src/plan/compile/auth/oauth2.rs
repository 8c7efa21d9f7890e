//! `type = "oauth2"`: grants, and what each needs.

use super::{
    super::{
        super::{ClientAuth, Grant, OAuth2Plan},
        context::{Context, complete},
        sites, url,
    },
    token,
};
use crate::{
    definition::{
        auth::{AuthDef, ClientAuthDef, GrantDef, grant_keys},
        table::list_of,
    },
    diagnostic::codes,
    map::Expr,
};

/// Keys that only some grants use.
const OF_GRANTS: &[&str] = &["refresh_token", "jwt", "authorize_url", "authorize_params", "issuer"];

pub(super) fn compile(
    context: &mut Context<'_>,
    def: &AuthDef,
    path: &str,
    has_keys: bool,
) -> Option<OAuth2Plan> {
    let site = &sites::SETTINGS;
    if let Some(token_url) = def.token_url.get() {
        url::check(context, token_url);
    }
    let of = |key: &str| format!("{path}.{key}");
    let token_url = context.maybe(&def.token_url, site, &of("token_url"));
    let client_id = context.maybe(&def.client_id, site, &of("client_id"));
    let client_secret = context.maybe(&def.client_secret, site, &of("client_secret"));
    let refresh = context.maybe(&def.refresh_token, site, &of("refresh_token"));
    let params = def.params.value().map_or(&[][..], |pairs| pairs.0.as_slice());
    let params = context.pairs(params, site, &of("params"));
    let token =
        def.token.get().map(|given| context.expr(given, &sites::TOKEN_ANSWER, &of("token")));
    let life = token::life(context, &def.ttl, path);
    let place = token::place(context, &def.placed, path);
    let assertion = token::assertion(context, &def.jwt, &of("jwt"));
    let by_person = by_person(context, def, path);
    if has_keys {
        check_grant(context, def);
    }
    let client_auth = client_auth(context, def, path, has_keys);
    Some(OAuth2Plan {
        grant: grant(def, refresh, assertion, by_person)?,
        client_auth: client_auth?,
        token_url: token_url?,
        client_id: complete((!def.client_id.is_absent()).then_some(client_id))?,
        client_secret,
        scopes: def.scopes.value().into_iter().flatten().map(|it| it.value.0.clone()).collect(),
        params,
        token: complete(token)?,
        life: life?,
        place: place?,
    })
}

/// `authorization_code`, where its keys are there.
fn by_person(context: &mut Context<'_>, def: &AuthDef, path: &str) -> Option<Grant> {
    let site = &sites::SETTINGS;
    let of = |key: &str| format!("{path}.{key}");
    if let Some(url) = def.authorize_url.get() {
        url::check(context, url);
    }
    let authorize_url = context.maybe(&def.authorize_url, site, &of("authorize_url"));
    let params = def.authorize_params.value().map_or(&[][..], |pairs| pairs.0.as_slice());
    let authorize_params = context.pairs(params, site, &of("authorize_params"));
    let issuer = def.issuer.get().map(|issuer| context.expr(issuer, site, &of("issuer")));
    Some(Grant::AuthorizationCode {
        authorize_url: authorize_url?,
        authorize_params,
        issuer: complete(issuer)?,
    })
}

fn grant(
    def: &AuthDef,
    refresh: Option<Expr>,
    assertion: Option<super::super::super::AssertionPlan>,
    by_person: Option<Grant>,
) -> Option<Grant> {
    Some(match def.grant.value()? {
        GrantDef::ClientCredentials => Grant::ClientCredentials,
        GrantDef::RefreshToken => Grant::RefreshToken { refresh_token: refresh? },
        GrantDef::AuthorizationCode => by_person?,
        GrantDef::JwtBearer => Grant::JwtBearer { assertion: Box::new(assertion?) },
    })
}

/// Reports keys that the grant needs and does not have, or has and does not use.
fn check_grant(context: &mut Context<'_>, def: &AuthDef) {
    let Some(grant) = def.grant.value() else { return };
    let (required, optional) = grant_keys(*grant);
    let given = def.given();
    let word = grant.word();
    let missing: Vec<&str> = required
        .iter()
        .filter(|key| !given.iter().any(|(name, _)| name == *key))
        .copied()
        .collect();
    let unproven = *grant == GrantDef::ClientCredentials
        && def.client_secret.is_absent()
        && def.identity.is_absent()
        && !matches!(def.client_auth.value(), Some(ClientAuthDef::PrivateKeyJwt));
    let missing: Vec<&str> =
        missing.into_iter().chain(unproven.then_some("client_secret")).collect();
    if !missing.is_empty() {
        let noun = if missing.len() == 1 { "key" } else { "keys" };
        let names = list_of(missing.iter().copied());
        let reported = context.error(
            codes::AUTH_KEYS,
            def.at,
            format!("missing {noun} {names}"),
            format!("grant \"{word}\" needs {names}"),
        );
        if missing.contains(&"jwt") {
            reported
                .help("what is signed stands in [auth.NAME.jwt]: `algorithm`, `key` and `claims`");
        }
    }
    for (name, key) in given {
        if OF_GRANTS.contains(&name) && !required.contains(&name) && !optional.contains(&name) {
            let message = format!("`{name}` has no effect here");
            let label = format!("grant \"{word}\" does not use it");
            context.error(codes::MISPLACED_KEY, key, message, label);
        }
    }
}

fn client_auth(
    context: &mut Context<'_>,
    def: &AuthDef,
    path: &str,
    has_keys: bool,
) -> Option<ClientAuth> {
    let way = def.client_auth.value().copied();
    let assertion = token::assertion(context, &def.client_jwt, &format!("{path}.client_jwt"));
    if way != Some(ClientAuthDef::PrivateKeyJwt) {
        if let Some(key) = def.client_jwt.key() {
            context
                .error(
                    codes::MISPLACED_KEY,
                    key,
                    "`client_jwt` has no effect here",
                    "only client_auth \"private_key_jwt\" uses it",
                )
                .help("add client_auth = \"private_key_jwt\"");
        }
        return Some(match way {
            Some(ClientAuthDef::Body) => ClientAuth::Body,
            _ => ClientAuth::Basic,
        });
    }
    let lacks =
        [("client_jwt", def.client_jwt.is_absent()), ("client_id", def.client_id.is_absent())];
    for (name, _) in lacks.into_iter().filter(|(_, absent)| *absent && has_keys) {
        context.error(
            codes::AUTH_KEYS,
            def.at,
            format!("missing key `{name}`"),
            format!("client_auth \"private_key_jwt\" needs `{name}`"),
        );
    }
    if let Some(key) = def.client_secret.key() {
        context.error(
            codes::MISPLACED_KEY,
            key,
            "`client_secret` has no effect here",
            "client_auth \"private_key_jwt\" proves the client by `client_jwt`",
        );
    }
    assertion.map(|assertion| ClientAuth::PrivateKeyJwt(Box::new(assertion)))
}
