//! `[auth.NAME]`: which keys each type needs, and the plan.

use std::sync::Arc;

use super::{
    super::{AuthKind, AuthPlan, ClientAuth, Grant, OAuth2Plan},
    connector::Whole,
    context::Context,
    sites, url,
};
use crate::definition::auth::{AuthDef, AuthType, ClientAuthDef, GrantDef, keys_of};
use crate::{
    definition::{
        kinds::Plain,
        table::{At, Given, Loc, Table, list_of, sentence},
    },
    diagnostic::{Code, codes},
    map::Expr,
};

/// The credentials of a connector.
pub(super) struct Auths {
    /// Those that compiled.
    pub plans: Vec<AuthPlan>,
    /// Every name that is defined.
    pub names: Vec<String>,
}

pub(super) fn compile_all(context: &mut Context<'_>, whole: Whole<'_>) -> Auths {
    let mut auths = Auths { plans: Vec::new(), names: Vec::new() };
    let own = whole.own.auth.value();
    let base = whole.body.auth.value().filter(|_| whole.is_instance);
    for (name, def) in own.into_iter().chain(base).flat_map(|named| &named.0) {
        // An instance's own credentials replace those of the same name.
        if auths.names.contains(name) {
            continue;
        }
        auths.names.push(name.clone());
        if let Some(kind) = compile(context, name, &def.value) {
            auths.plans.push(AuthPlan { name: Arc::from(name.as_str()), kind });
        }
    }
    auths
}

/// The name of an `[auth.NAME]` table, if it exists.
pub(super) fn resolve(
    context: &mut Context<'_>,
    given: &Given<Plain>,
    auths: &Auths,
) -> Option<Arc<str>> {
    let name = given.get()?;
    if auths.names.contains(&name.value.0) {
        return Some(Arc::from(name.value.0.as_str()));
    }
    let known = auths.names.iter().map(String::as_str);
    context
        .unknown(codes::UNKNOWN_AUTH, name.at, "auth", &name.value.0, known)
        .help(format!("credentials stand in a table of their own: [auth.{}]", name.value.0));
    None
}

/// Reports keys that a type needs and does not have, or has and does not need.
pub(super) fn check_keys(
    context: &mut Context<'_>,
    (title, word, at): (&str, &str, Loc),
    table: &'static Table,
    given: &[(&'static str, Loc)],
    (required, allowed): (&[&str], &[&str]),
    code: Code,
) -> bool {
    let missing: Vec<&str> = required
        .iter()
        .filter(|key| !given.iter().any(|(name, _)| name == *key))
        .copied()
        .collect();
    if !missing.is_empty() {
        let names = list_of(missing.iter().copied());
        let noun = if missing.len() == 1 { "key" } else { "keys" };
        let docs = table.keys.iter().filter(|key| missing.contains(&key.name)).map(|key| {
            // Docs of such keys begin with the types that they belong to.
            let doc = key.doc.rsplit_once("`: ").map_or(key.doc, |(_, doc)| doc);
            format!("add `{} = ...`: {}", key.name, sentence(doc))
        });
        context
            .error(
                code,
                at,
                format!("missing {noun} {names} in {title}"),
                format!("type \"{word}\" needs {names}"),
            )
            .help(docs.collect::<Vec<_>>().join("\n"));
    }
    for (name, key) in given {
        if !required.contains(name) && !allowed.contains(name) {
            let all = required.iter().chain(allowed).filter(|key| **key != "type").copied();
            context
                .error(
                    codes::MISPLACED_KEY,
                    *key,
                    format!("`{name}` has no effect here"),
                    format!("type \"{word}\" does not use it"),
                )
                .help(format!("\"{word}\" takes {}", list_of(all)));
        }
    }
    missing.is_empty()
}

fn compile(context: &mut Context<'_>, name: &str, def: &AuthDef) -> Option<AuthKind> {
    let kind = *def.kind.value()?;
    let (required, optional) = keys_of(kind);
    let allowed: Vec<&str> = optional.iter().chain(&["type"]).copied().collect();
    let title = format!("[auth.{name}]");
    let heading = (title.as_str(), kind.word(), def.at);
    let complete = check_keys(
        context,
        heading,
        &AuthDef::TABLE,
        &def.given(),
        (required, &allowed),
        codes::AUTH_KEYS,
    );
    let path = format!("auth.{name}");
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
        AuthType::Query => AuthKind::Query {
            value: expr(context, &def.value, "value")?,
            name: def.name.value()?.0.clone(),
        },
        AuthType::OAuth2 => AuthKind::OAuth2(oauth2(context, def, &path, complete)?),
    })
}

fn oauth2(
    context: &mut Context<'_>,
    def: &AuthDef,
    path: &str,
    complete: bool,
) -> Option<OAuth2Plan> {
    let site = &sites::SETTINGS;
    if let Some(token_url) = def.token_url.get() {
        url::check(context, token_url);
    }
    let token_url = context.maybe(&def.token_url, site, &format!("{path}.token_url"));
    let client_id = context.maybe(&def.client_id, site, &format!("{path}.client_id"));
    let client_secret = context.maybe(&def.client_secret, site, &format!("{path}.client_secret"));
    let refresh = context.maybe(&def.refresh_token, site, &format!("{path}.refresh_token"));
    let params = def.params.value().map_or(&[][..], |pairs| pairs.0.as_slice());
    let params = context.pairs(params, site, &format!("{path}.params"));
    let grant = match def.grant.value()? {
        GrantDef::ClientCredentials => {
            need(context, def, complete, "client_secret", def.client_secret.is_absent());
            if let Some(key) = def.refresh_token.key() {
                context.error(
                    codes::MISPLACED_KEY,
                    key,
                    "`refresh_token` has no effect here",
                    "grant \"client_credentials\" does not use it",
                );
            }
            Grant::ClientCredentials
        }
        GrantDef::RefreshToken => {
            need(context, def, complete, "refresh_token", def.refresh_token.is_absent());
            Grant::RefreshToken { refresh_token: refresh? }
        }
    };
    let client_auth = match def.client_auth.value() {
        Some(ClientAuthDef::Body) => ClientAuth::Body,
        _ => ClientAuth::Basic,
    };
    let scopes = def.scopes.value().into_iter().flatten();
    Some(OAuth2Plan {
        grant,
        client_auth,
        token_url: token_url?,
        client_id: client_id?,
        client_secret,
        scopes: scopes.map(|scope| scope.value.0.clone()).collect(),
        params,
    })
}

fn need(context: &mut Context<'_>, def: &AuthDef, complete: bool, key: &str, absent: bool) {
    let Some(grant) = def.grant.value().filter(|_| complete && absent) else { return };
    context.error(
        codes::AUTH_KEYS,
        def.at,
        format!("missing key `{key}`"),
        format!("grant \"{}\" needs `{key}`", grant.word()),
    );
}

/// A header's name, checked.
pub(super) fn header_name(context: &mut Context<'_>, given: &Given<Plain>) -> Option<String> {
    let name = given.get()?;
    check_header(context, &name.value.0, name.at).then(|| name.value.0.clone())
}

/// Whether a text can be a header's name; if not, that is reported.
pub(super) fn check_header(context: &mut Context<'_>, name: &str, at: Loc) -> bool {
    let fine = http::HeaderName::from_bytes(name.as_bytes()).is_ok();
    if !fine {
        context.error(
            codes::BAD_HEADER,
            at,
            format!("`{}` is not a header name", name.escape_debug()),
            "expected letters, digits and `-`",
        );
    }
    fine
}

/// Headers with their names checked.
pub(super) fn headers<'d>(
    context: &mut Context<'_>,
    given: impl IntoIterator<Item = &'d (String, At<crate::definition::kinds::Expression>)>,
    site: &crate::map::Site,
    path: &str,
) -> Vec<(String, Expr)> {
    let mut headers = Vec::new();
    for (name, value) in given {
        let fine = check_header(context, name, value.key);
        let expr = context.expr(value, site, &format!("{path}.{name}"));
        if let (true, Some(expr)) = (fine, expr) {
            headers.push((name.clone(), expr));
        }
    }
    headers
}
