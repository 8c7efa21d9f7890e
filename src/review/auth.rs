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
    plan::{AuthKind, AuthPlan, AuthSettings, Grant, Setting},
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
        let what = new.get(&**name).map_or("", |auth| auth.kind.word());
        pen.note(&at, "", rule::AUTH_ADDED, format!("is new, type {what}"), "");
    }
    for name in &auths.removed {
        let at = At::of(Subject::Auth(name.clone()), "auth");
        pen.note(&at, "", rule::AUTH_REMOVED, "is gone", "");
    }
}

fn renamed(pen: &mut Pen<'_>, at: &At, new: &AuthPlan, old_name: &str) {
    let what = format!("renamed from `{old_name}`");
    if new.rotates() {
        let effect = "the rotated refresh token stays behind under the old name: the configured one \
                      is used, which the provider may have retired";
        pen.note(at, "", rule::AUTH_LOGIN, what, effect);
    } else {
        pen.note(at, "", rule::AUTH_RENAMED, what, "requests carry the same credentials");
    }
}

/// Settings are told by key, as they are written; what a grant's or a scope's change does is known
/// better.
fn one(pen: &mut Pen<'_>, at: &At, old: &AuthPlan, new: &AuthPlan) {
    if old.kind.word() != new.kind.word() {
        let what = format!("{} → {}", old.kind.word(), new.kind.word());
        pen.note(at, "type", rule::AUTH_TYPE, what, TRIED);
        return;
    }
    if let (AuthKind::OAuth2(was), AuthKind::OAuth2(is)) = (&old.kind, &new.kind) {
        grants(pen, at, (&was.grant, &is.grant));
        scopes_of(pen, at, (&was.scopes, &is.scopes));
    }
    let told_apart = ["grant", "scopes"];
    let (was, is) = (old.settings(), new.settings());
    let find = |settings: &AuthSettings<'_>, key: &str| {
        settings.iter().position(|(known, _)| known == key)
    };
    for (key, new_setting) in is.iter().filter(|(key, _)| !told_apart.contains(&key.as_str())) {
        let old_setting = find(&was, key).map(|at| &was[at].1);
        setting(pen, at, key, old_setting, Some(new_setting));
    }
    for (key, gone) in was.iter().filter(|(key, _)| find(&is, key).is_none()) {
        if !told_apart.contains(&key.as_str()) {
            setting(pen, at, key, Some(gone), None);
        }
    }
}

fn setting(
    pen: &mut Pen<'_>,
    at: &At,
    key: &str,
    old: Option<&Setting<'_>>,
    new: Option<&Setting<'_>>,
) {
    let effect = match key {
        "token_url" | "request.url" => {
            "tokens come from there, and client and secret are sent there"
        }
        "refresh_token" => "the token that is configured now is used, the rotated one is dropped",
        _ => TRIED,
    };
    // A login's URL is written in parts.
    let written = key.replace("request.url", "request.path");
    let rules = Presence::all(rule::AUTH_SETTING);
    match (old, new) {
        (Some(Setting::Word(was)), Some(Setting::Word(is))) => {
            pen.value(at, &written, rule::AUTH_SETTING, (was, is), String::clone, || effect.into());
        }
        (Some(Setting::Expr(was)), Some(Setting::Expr(is))) => {
            pen.expr(at, &written, rule::AUTH_SETTING, (was, is), effect);
        }
        (was, is) => {
            let expr = |setting: Option<&Setting<'_>>| match setting {
                Some(Setting::Expr(expr)) => Some((*expr).clone()),
                Some(Setting::Word(word)) => Some(Expr::constant(word.clone().into())),
                None => None,
            };
            let (was, is) = (expr(was), expr(is));
            let both = (was.as_ref(), is.as_ref());
            pen.maybe_expr(at, &written, rules, both, |_| effect.to_owned());
        }
    }
}

fn grants(pen: &mut Pen<'_>, at: &At, (old, new): (&Grant, &Grant)) {
    if old.word() == new.word() {
        return;
    }
    let effect = match new {
        Grant::ClientCredentials => "the client has to be allowed to get tokens for itself",
        Grant::RefreshToken { .. } => "somebody has to get a first refresh token",
        Grant::AuthorizationCode { .. } => "somebody has to log in: `tenon auth login`",
        Grant::JwtBearer { .. } => "the issuer has to know the public key",
    };
    let what = format!("{} → {}", old.word(), new.word());
    pen.note(at, "grant", rule::AUTH_LOGIN, what, effect);
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
