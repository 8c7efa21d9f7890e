//! Credentials: how requests carry them, how tokens are got, and what they may do.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Subject,
    pair::Matched,
    pen::{At, Pen, Presence},
    rule, say,
};
use crate::{
    map::Expr,
    plan::{AuthKind, AuthPlan, ClientAuth, Grant, OAuth2Plan},
};

type Auths = BTreeMap<Arc<str>, Arc<AuthPlan>>;

/// What a change of credentials does, where nothing better can be said.
const TRIED: &str = "if the peer refuses them, what uses them is parked and loses nothing";

pub(super) fn compare(pen: &mut Pen<'_>, (old, new): (&Auths, &Auths), auths: &Matched) {
    for (old_name, name) in &auths.both {
        let (Some(was), Some(is)) = (old.get(&**old_name), new.get(&**name)) else { continue };
        let at = At::renamed(Subject::Auth(name.clone()), "auth", old_name);
        if old_name != name {
            renamed(pen, &at, is, old_name);
        }
        one(pen, &at, was, is);
    }
    for name in &auths.added {
        let at = At::of(Subject::Auth(name.clone()), "auth");
        let what = new.get(&**name).map_or("", |auth| word(&auth.kind));
        pen.note(&at, "", rule::AUTH_ADDED, format!("is new, type {what}"), "");
    }
    for name in &auths.removed {
        let at = At::of(Subject::Auth(name.clone()), "auth");
        pen.note(&at, "", rule::AUTH_REMOVED, "is gone", "");
    }
}

fn renamed(pen: &mut Pen<'_>, at: &At, new: &AuthPlan, old_name: &str) {
    let what = format!("renamed from `{old_name}`");
    let rotates = matches!(&new.kind, AuthKind::OAuth2(oauth)
        if matches!(oauth.grant, Grant::RefreshToken { .. }));
    if rotates {
        let effect = "the rotated refresh token stays behind under the old name: the configured one \
                      is used, which the provider may have retired";
        pen.note(at, "", rule::AUTH_LOGIN, what, effect);
    } else {
        pen.note(at, "", rule::AUTH_RENAMED, what, "requests carry the same credentials");
    }
}

fn one(pen: &mut Pen<'_>, at: &At, old: &AuthPlan, new: &AuthPlan) {
    let AuthPlan { name: _, kind } = new;
    match (&old.kind, kind) {
        (AuthKind::Bearer { token: was }, AuthKind::Bearer { token: is }) => {
            setting(pen, at, "token", (was, is));
        }
        (
            AuthKind::Basic { user: old_user, password: old_password },
            AuthKind::Basic { user, password },
        ) => {
            setting(pen, at, "user", (old_user, user));
            setting(pen, at, "password", (old_password, password));
        }
        (
            AuthKind::Header { name: old_name, value: old_value },
            AuthKind::Header { name, value },
        )
        | (AuthKind::Query { name: old_name, value: old_value }, AuthKind::Query { name, value }) =>
        {
            let show = |name: &String| format!("`{name}`");
            pen.value(at, "name", rule::AUTH_SETTING, (old_name, name), show, || TRIED.into());
            setting(pen, at, "value", (old_value, value));
        }
        (AuthKind::OAuth2(old), AuthKind::OAuth2(new)) => oauth2(pen, at, old, new),
        (old, new) => {
            let what = format!("{} → {}", word(old), word(new));
            pen.note(at, "type", rule::AUTH_TYPE, what, TRIED);
        }
    }
}

fn setting(pen: &mut Pen<'_>, at: &At, key: &str, (old, new): (&Expr, &Expr)) {
    pen.expr(at, key, rule::AUTH_SETTING, (old, new), TRIED);
}

fn oauth2(pen: &mut Pen<'_>, at: &At, old: &OAuth2Plan, new: &OAuth2Plan) {
    let OAuth2Plan { grant, client_auth, token_url, client_id, client_secret, scopes, params } =
        new;
    match (&old.grant, grant) {
        (Grant::ClientCredentials, Grant::ClientCredentials) => {}
        (Grant::RefreshToken { refresh_token: was }, Grant::RefreshToken { refresh_token: is }) => {
            if !pen.same(was.source(), is.source()) {
                let effect = "the token that is configured now is used, the rotated one is dropped";
                pen.note(at, "refresh_token", rule::AUTH_SETTING, "changed", effect);
            }
        }
        (Grant::ClientCredentials, Grant::RefreshToken { .. }) => {
            let effect = "somebody has to get a first refresh token";
            let what = "client_credentials → refresh_token";
            pen.note(at, "grant", rule::AUTH_LOGIN, what, effect);
        }
        (Grant::RefreshToken { .. }, Grant::ClientCredentials) => {
            let effect = "the client has to be allowed to get tokens for itself";
            let what = "refresh_token → client_credentials";
            pen.note(at, "grant", rule::AUTH_LOGIN, what, effect);
        }
    }
    let show = |how: &ClientAuth| match how {
        ClientAuth::Basic => "basic".to_owned(),
        ClientAuth::Body => "body".to_owned(),
    };
    let how = (&old.client_auth, client_auth);
    pen.value(at, "client_auth", rule::AUTH_SETTING, how, show, || TRIED.into());
    let effect = "tokens come from there, and client and secret are sent there";
    pen.expr(at, "token_url", rule::AUTH_SETTING, (&old.token_url, token_url), effect);
    setting(pen, at, "client_id", (&old.client_id, client_id));
    let rules = Presence::all(rule::AUTH_SETTING);
    let secrets = (old.client_secret.as_ref(), client_secret.as_ref());
    pen.maybe_expr(at, "client_secret", rules, secrets, |_| TRIED.to_owned());
    scopes_of(pen, at, (&old.scopes, scopes));
    let (was, is) = (old.params.as_slice(), params.as_slice());
    pen.pairs(at, "params", rules, (was, is), |a, b| a == b, TRIED);
}

fn scopes_of(pen: &mut Pen<'_>, at: &At, (old, new): (&[String], &[String])) {
    let lacks = |one: &[String], other: &[String]| -> Vec<String> {
        one.iter().filter(|scope| !other.contains(scope)).cloned().collect()
    };
    let (added, removed) = (lacks(new, old), lacks(old, new));
    if !added.is_empty() {
        let what = format!("asks for {}", say::list(&added));
        let effect =
            "until the client is granted that, no token is given and what uses it is parked";
        pen.note(at, "scopes", rule::SCOPES_ADDED, what, effect);
    }
    if !removed.is_empty() {
        let what = format!("no longer asks for {}", say::list(&removed));
        pen.note(at, "scopes", rule::SCOPES_REMOVED, what, "");
    }
}

fn word(kind: &AuthKind) -> &'static str {
    match kind {
        AuthKind::Bearer { .. } => "bearer",
        AuthKind::Basic { .. } => "basic",
        AuthKind::Header { .. } => "header",
        AuthKind::Query { .. } => "query",
        AuthKind::OAuth2(_) => "oauth2",
    }
}
