//! What several types share: keys, tokens signed here, how long tokens live and where they go.

use std::time::Duration;

use super::{
    super::{
        super::{AssertionPlan, Encoding, Life, SigningKey, TokenAlgorithm, TokenPlace},
        context::{Context, complete},
        sites,
        verify::parts,
    },
    header_name,
};
use crate::{
    definition::{
        auth::{JwtAlgorithmDef, JwtDef, KeyEntry, PlaceDef, PlaceTableDef, TtlDef},
        collections::Fields,
        table::{At, Given, Loc},
    },
    diagnostic::codes,
    map::Tree,
};

const DEFAULT_LIFE: Duration = Duration::from_mins(5);
/// Claims and header fields that are filled in.
const TIMES: &[&str] = &["iat", "exp"];
const SIGNED_AS: &[&str] = &["alg", "typ"];

pub(super) fn key(
    context: &mut Context<'_>,
    given: &Given<KeyEntry>,
    path: &str,
) -> Option<SigningKey> {
    let entry = given.get()?;
    match &entry.value {
        KeyEntry::Value(text) => {
            let text = At { value: text.clone(), at: entry.at, key: entry.key };
            let secret = context.expr(&text, &sites::SETTINGS, path)?;
            Some(SigningKey { secret, strip: None, decode: Encoding::Raw })
        }
        KeyEntry::Table(def) => Some(SigningKey {
            secret: context.maybe(&def.secret, &sites::SETTINGS, &format!("{path}.secret"))?,
            strip: def.strip.value().map(|strip| strip.0.clone()),
            decode: parts::encoding(&def.decode, Encoding::Raw),
        }),
    }
}

pub(super) fn assertion(
    context: &mut Context<'_>,
    given: &Given<JwtDef>,
    path: &str,
) -> Option<AssertionPlan> {
    let def = given.value()?;
    let key = key(context, &def.key, &format!("{path}.key"));
    let header = fields(context, &def.header, SIGNED_AS, &format!("{path}.header"));
    let claims = fields(context, &def.claims, TIMES, &format!("{path}.claims"));
    let algorithm = match def.algorithm.value()? {
        JwtAlgorithmDef::Hs256 => TokenAlgorithm::Hs256,
        JwtAlgorithmDef::Hs384 => TokenAlgorithm::Hs384,
        JwtAlgorithmDef::Hs512 => TokenAlgorithm::Hs512,
        JwtAlgorithmDef::Rs256 => TokenAlgorithm::Rs256,
        JwtAlgorithmDef::Es256 => TokenAlgorithm::Es256,
    };
    Some(AssertionPlan {
        algorithm,
        key: key?,
        header: header?,
        claims: claims?,
        life: def.ttl.value().map_or(DEFAULT_LIFE, |span| span.0),
    })
}

/// Fields of a token; those that are filled in are not written.
fn fields(
    context: &mut Context<'_>,
    given: &Given<Fields>,
    filled_in: &[&str],
    path: &str,
) -> Option<Vec<(String, Tree)>> {
    let fields = given.value().map_or(&[][..], |fields| fields.0.as_slice());
    for (name, field) in fields.iter().filter(|(name, _)| filled_in.contains(&name.as_str())) {
        context
            .error(
                codes::MISPLACED_KEY,
                field.key,
                format!("`{name}` is filled in"),
                "it follows from `algorithm`, the time of signing and `ttl`",
            )
            .help("leave it out");
    }
    let site = &sites::SIGNING;
    complete(given.get().map(|_| context.fields(fields, site, path))).map(Option::unwrap_or_default)
}

#[allow(clippy::option_option)] // Absent, wrong and right are three things.
pub(super) fn life(
    context: &mut Context<'_>,
    given: &Given<TtlDef>,
    path: &str,
) -> Option<Option<Life>> {
    let Some(ttl) = given.get() else { return Some(None) };
    match &ttl.value {
        TtlDef::For(duration) => Some(Some(Life::For(*duration))),
        TtlDef::Said(text) => {
            let text = At { value: text.clone(), at: ttl.at, key: ttl.key };
            let path = format!("{path}.ttl");
            Some(Some(Life::Said(context.expr(&text, &sites::TOKEN_ANSWER, &path)?)))
        }
    }
}

pub(super) fn place(
    context: &mut Context<'_>,
    given: &Given<PlaceDef>,
    path: &str,
) -> Option<TokenPlace> {
    let (def, at) = match given.get() {
        None | Some(At { value: PlaceDef::Bearer, .. }) => return Some(TokenPlace::Bearer),
        Some(At { value: PlaceDef::Table(def), at, .. }) => (def, *at),
    };
    one_of_them(context, def, at)?;
    if let (Some(key), true) = (def.value.key(), def.header.is_absent()) {
        context.error(
            codes::MISPLACED_KEY,
            key,
            "`value` has no effect here",
            "only a header has more in it than the token",
        );
    }
    if !def.header.is_absent() {
        let value = given_value(context, def, path);
        let name = header_name(context, &def.header)?;
        return Some(TokenPlace::Header { name, value: complete(value)? });
    }
    match (def.query.value(), def.cookie.get()) {
        (Some(name), _) => Some(TokenPlace::Query { name: name.0.clone() }),
        (None, Some(name)) => cookie(context, name),
        (None, None) => None,
    }
}

#[allow(clippy::option_option)] // Absent, wrong and right are three things.
fn given_value(
    context: &mut Context<'_>,
    def: &PlaceTableDef,
    path: &str,
) -> Option<Option<crate::map::Expr>> {
    let value = def.value.get()?;
    let expr = context.expr(value, &sites::TOKEN, &format!("{path}.as.value"));
    let uses_token =
        expr.as_ref().is_none_or(|expr| expr.uses().iter().any(|(name, _)| name == "token"));
    if !uses_token {
        context
            .error(
                codes::UNUSABLE_AUTH,
                value.at,
                "the token is not in the header",
                "expected `{{ token }}` in it",
            )
            .help("write value = \"Token {{ token }}\"");
    }
    Some(expr)
}

fn one_of_them(context: &mut Context<'_>, def: &PlaceTableDef, at: Loc) -> Option<()> {
    let places = [def.header.key(), def.query.key(), def.cookie.key()];
    let given: Vec<Loc> = places.into_iter().flatten().collect();
    match given.as_slice() {
        [_] => Some(()),
        [] => {
            context
                .error(codes::AUTH_KEYS, at, "`as` names no place", "expected `header`, `query` or `cookie`")
                .help("write as = { header = \"X-Session\" }, or leave `as` out for `Authorization: Bearer`");
            None
        }
        [first, second, ..] => {
            context
                .error(
                    codes::CONFLICT,
                    *second,
                    "a token goes to one place",
                    "one of the two is too many",
                )
                .related(*first, "the other one");
            None
        }
    }
}

fn cookie(
    context: &mut Context<'_>,
    name: &At<crate::definition::kinds::Plain>,
) -> Option<TokenPlace> {
    let text = &name.value.0;
    let fits = |c: char| c.is_ascii_graphic() && !"()<>@,;:\\\"/[]?={}".contains(c);
    if !text.chars().all(fits) {
        let message = format!("`{}` is not a cookie's name", text.escape_debug());
        context.error(codes::BAD_HEADER, name.at, message, "expected letters, digits, `-` and `_`");
        return None;
    }
    Some(TokenPlace::Cookie { name: text.clone() })
}
