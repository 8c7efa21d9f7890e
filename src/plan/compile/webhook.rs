//! `[stream.NAME.webhook]` over `[source.webhook]`.

use std::sync::Arc;

use http::Method;

use super::{
    super::{Algorithm, SecretPlan, VerifyPlan, WebhookPlan},
    connector::Whole,
    context::Context,
    destination::method_of,
    sites, url, verify,
};
use crate::{
    definition::{
        collections::items,
        connector::ConnectorDef,
        kinds::{Expression, Moment, Plain},
        source::SourceDef,
        stream::StreamDef,
        table::{At, Given, Loc, list_of},
        webhook::{SecretEntry, SharedWebhookDef, WebhookDef},
    },
    diagnostic::codes,
    map::Expr,
    world::Timestamp,
};

/// Presets that a message names as examples.
const WELL_KNOWN: &[&str] = &["github", "shopify", "standard", "stripe"];

const DEFAULT_MAX_BODY_BYTES: u64 = 1 << 20;

/// A webhook's keys, the stream's own first.
struct Merged<'d> {
    own: &'d WebhookDef,
    path: &'d Given<Plain>,
    verify: &'d Given<Plain>,
    secret: &'d Given<Expression>,
    secrets: &'d Given<Vec<At<SecretEntry>>>,
}

/// The stream's own key, or the shared one.
fn or<'d, T>(
    own: &'d Given<T>,
    shared: Option<&'d SharedWebhookDef>,
    key: fn(&SharedWebhookDef) -> &Given<T>,
) -> &'d Given<T> {
    shared.map_or(own, |shared| own.or(key(shared)))
}

fn merge<'d>(own: &'d WebhookDef, source: Option<&'d SourceDef>) -> Merged<'d> {
    let shared = source.and_then(|source| source.webhook.value());
    // A stream's own secrets replace the shared one, whichever way they are written.
    let owns = !own.secret.is_absent() || !own.secrets.is_absent();
    let secrets_of = shared.filter(|_| !owns);
    Merged {
        own,
        path: or(&own.path, shared, |shared| &shared.path),
        verify: or(&own.verify, shared, |shared| &shared.verify),
        secret: or(&own.secret, secrets_of, |shared| &shared.secret),
        secrets: or(&own.secrets, secrets_of, |shared| &shared.secrets),
    }
}

pub(super) fn compile(
    context: &mut Context<'_>,
    whole: Whole<'_>,
    name: &str,
    stream: &StreamDef,
) -> Option<WebhookPlan> {
    let def = stream.webhook.value()?;
    let merged = merge(def, whole.body.source.value());
    let place = format!("stream.{name}.webhook");
    let at = stream.webhook.get().map_or(def.at, |webhook| webhook.at);
    let path = route(context, &merged, name, at);
    let verify = resolve_verify(context, &merged, name, at);
    let (secrets, key_user) = secrets(context, whole.body, &merged, &place);
    let user = context.maybe(&def.user, &sites::SETTINGS, &format!("{place}.user")).or(key_user);
    if let Some(verify) = &verify {
        check_secrets(context, verify, &merged, secrets.len(), user.is_some(), at);
    }
    let verify_token = verify_token(context, def, verify.as_deref(), &place, at);
    let url = url(context, def, &place);
    let events = context.maybe(&def.events, &sites::EVENTS, &format!("{place}.events"));
    if let Some(events) = def.events.get().filter(|events| !events.value.text.starts_with('$')) {
        context
            .error(
                codes::BAD_RECORDS,
                events.at,
                "`events` must be a path",
                "expected a path such as \"$.events[*]\"",
            )
            .help("`$` is the request's body");
    }
    let methods: Vec<Method> =
        items(&def.methods).iter().map(|method| method_of(method.value)).collect();
    let reply = def.reply.value().map(verify::reply);
    let reply = reply.or_else(|| verify.as_ref().and_then(|verify| verify.reply.clone()));
    let max_body = def.max_body.value().map_or(DEFAULT_MAX_BODY_BYTES, |size| size.0);
    Some(WebhookPlan {
        path: path?,
        methods: if methods.is_empty() { vec![Method::POST] } else { methods },
        verify: verify?,
        url,
        verify_token,
        secrets,
        user,
        events,
        reply: reply.map(Box::new),
        max_body_bytes: usize::try_from(max_body).unwrap_or(usize::MAX),
    })
}

/// What a handshake repeats: needed where the scheme has one, and useless elsewhere.
fn verify_token(
    context: &mut Context<'_>,
    def: &WebhookDef,
    verify: Option<&VerifyPlan>,
    place: &str,
    at: Loc,
) -> Option<Expr> {
    let token =
        context.maybe(&def.verify_token, &sites::SETTINGS, &format!("{place}.verify_token"));
    let Some(verify) = verify else { return token };
    let is_asked = verify.challenges.iter().any(|challenge| challenge.verify_token.is_some());
    match (is_asked, def.verify_token.key()) {
        (true, None) => {
            context
                .error(
                    codes::NO_SECRET,
                    at,
                    "the verification's handshake has no token",
                    "`verify_token` expected here",
                )
                .help("write verify_token = \"{{ secret.NAME }}\": the text that was given to the producer");
        }
        (false, Some(key)) => {
            let message = "`verify_token` has no effect here";
            context.error(
                codes::MISPLACED_KEY,
                key,
                message,
                "this verification has no handshake that repeats it",
            );
        }
        _ => {}
    }
    if let Some(given) = def.verify_token.get().filter(|given| given.value.text.trim().is_empty()) {
        empty_secret(context, given);
        return None;
    }
    token
}

fn url(context: &mut Context<'_>, def: &WebhookDef, place: &str) -> Option<Expr> {
    let given = def.url.get()?;
    url::check(context, given);
    context.expr(given, &sites::SETTINGS, &format!("{place}.url"))
}

/// The path, if it is one.
fn route(context: &mut Context<'_>, merged: &Merged<'_>, name: &str, at: Loc) -> Option<String> {
    let Some(given) = merged.path.get() else {
        if merged.path.is_absent() {
            context
                .error(
                    codes::MISSING_KEY,
                    at,
                    format!("missing key `path` in [stream.{name}.webhook]"),
                    "key `path` expected here",
                )
                .help("write path = \"/shop/orders\": the URL's path that the producer posts to");
        }
        return None;
    };
    let text = given.value.0.as_str();
    let problem = if !text.starts_with('/') {
        Some("expected `/` at the beginning")
    } else if text.len() > 1 && text.ends_with('/') {
        Some("no `/` at the end")
    } else if text.contains("//") {
        Some("no empty parts")
    } else if text.contains(['?', '#']) {
        Some("only the path; the query and the fragment are not matched")
    } else if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        Some("no blanks")
    } else {
        None
    };
    if let Some(problem) = problem {
        let plain = text.split(['?', '#']).next().unwrap_or_default();
        let parts: Vec<&str> =
            plain.split('/').map(str::trim).filter(|part| !part.is_empty()).collect();
        let slug = format!("/{}", parts.join("/"));
        let message = format!("`{}` is not a webhook path", text.escape_debug());
        context
            .error(codes::BAD_ROUTE, given.at, message, problem)
            .help(format!("write \"{slug}\""));
        return None;
    }
    context.routes.push((text.to_owned(), given.at));
    Some(text.to_owned())
}

fn resolve_verify(
    context: &mut Context<'_>,
    merged: &Merged<'_>,
    name: &str,
    at: Loc,
) -> Option<Arc<VerifyPlan>> {
    if let Some(given) = merged.verify.get() {
        return verify::resolve(context, given);
    }
    if merged.verify.is_absent() {
        let presets = list_of(WELL_KNOWN.iter().copied());
        context
            .error(
                codes::NO_VERIFY,
                at,
                format!("the webhook of stream `{name}` verifies nothing"),
                "`verify` expected here",
            )
            .help(format!(
                "presets are {presets} and many more (docs/verify.md lists them); any other scheme \
                 is a [verify.NAME] table; if anyone may post, say verify = \"none\""
            ));
    }
    None
}

/// The secrets that verify, and the user's name where the verification's own table has one.
fn secrets(
    context: &mut Context<'_>,
    body: &ConnectorDef,
    merged: &Merged<'_>,
    place: &str,
) -> (Vec<SecretPlan>, Option<Expr>) {
    if let (Some(one), Some(many)) = (merged.secret.key(), merged.secrets.key()) {
        context
            .error(
                codes::CONFLICT,
                many,
                "`secret` and `secrets` exclude each other",
                "one of the two is too many",
            )
            .related(one, "the other one");
    }
    let mut plans = Vec::with_capacity(1);
    if let Some(given) = merged.secret.get() {
        plans.extend(secret(context, given, None, &format!("{place}.secret")));
    }
    for entry in merged.secrets.value().into_iter().flatten() {
        let path = format!("{place}.secrets");
        match &entry.value {
            SecretEntry::Value(value) => {
                let given = At { value: value.clone(), at: entry.at, key: entry.key };
                plans.extend(secret(context, &given, None, &path));
            }
            SecretEntry::Dated(dated) => {
                if let Some(given) = dated.value.get() {
                    let not_after = dated.not_after.get().map(|time| not_after(context, time));
                    plans.extend(secret(context, given, not_after.flatten(), &path));
                }
            }
        }
    }
    let key = merged
        .verify
        .value()
        .and_then(|name| body.verify.value()?.find(&name.0))
        .and_then(|verify| verify.value.key.value());
    let Some(key) = key else { return (plans, None) };
    let path = format!("verify.{}.key", merged.verify.value().map_or("", |name| name.0.as_str()));
    if let (true, Some(given)) = (plans.is_empty(), key.secret.get()) {
        plans.extend(secret(context, given, None, &format!("{path}.secret")));
    }
    (plans, context.maybe(&key.user, &sites::SETTINGS, &format!("{path}.user")))
}

fn secret(
    context: &mut Context<'_>,
    given: &At<Expression>,
    not_after: Option<Timestamp>,
    path: &str,
) -> Option<SecretPlan> {
    if given.value.text.trim().is_empty() {
        empty_secret(context, given);
        return None;
    }
    let value = context.expr(given, &sites::SETTINGS, path)?;
    Some(SecretPlan { value, not_after })
}

fn empty_secret(context: &mut Context<'_>, given: &At<Expression>) {
    let (message, label) = ("the secret is empty", "anyone can sign with nothing");
    context
        .error(codes::EMPTY_SECRET, given.at, message, label)
        .help("name it: secret = \"{{ secret.SHOP_WEBHOOK_SECRET }}\"");
}

fn not_after(context: &mut Context<'_>, time: &At<Moment>) -> Option<Timestamp> {
    let text = time.value.0.as_str();
    let parsed = Timestamp::parse_rfc3339(text)
        .or_else(|| Timestamp::parse_rfc3339(&format!("{text}T23:59:59Z")));
    if parsed.is_none() {
        context.error(
            codes::BAD_DATE,
            time.at,
            "`not_after` is not a time",
            "expected a date or a time with zone: 2026-11-20, 2026-11-20T12:00:00Z",
        );
    }
    parsed
}

/// Who verifies with a secret needs one; `basic` a user besides.
fn check_secrets(
    context: &mut Context<'_>,
    verify: &VerifyPlan,
    merged: &Merged<'_>,
    secrets: usize,
    has_user: bool,
    at: Loc,
) {
    let given = [
        ("secret", merged.secret.key()),
        ("secrets", merged.secrets.key()),
        ("user", merged.own.user.key()),
    ];
    let unused: &[&str] = match verify.algorithm {
        _ if !verify.needs_secret() => &["secret", "secrets", "user"],
        Algorithm::Basic => &[],
        _ => &["user"],
    };
    for (key, place) in given.iter().filter_map(|(key, at)| Some((*key, (*at)?))) {
        if unused.contains(&key) {
            context.error(
                codes::MISPLACED_KEY,
                place,
                format!("`{key}` has no effect here"),
                "this verification does not use it",
            );
        }
    }
    if !verify.needs_secret() {
        return;
    }
    // A secret that is there but wrong has been reported.
    let tried = given.iter().any(|(key, at)| *key != "user" && at.is_some());
    if secrets == 0 && !tried {
        context
            .error(codes::NO_SECRET, at, "the verification has no secret", "`secret` expected here")
            .help("write secret = \"{{ secret.NAME }}\"; the value comes from the environment or a file");
    }
    if verify.algorithm == Algorithm::Basic && !has_user && merged.own.user.is_absent() {
        context
            .error(
                codes::VERIFY_KEYS,
                at,
                "basic authentication without a user",
                "`user` expected here",
            )
            .help("write user = \"...\" beside `secret`, which is the password");
    }
}

/// Streams with one path share one endpoint, so they share its verification.
pub(super) fn check_shared_routes(context: &mut Context<'_>, body: &ConnectorDef) {
    let streams = body.stream.value().map_or(&[][..], |named| named.0.as_slice());
    let merged: Vec<(&str, Merged<'_>)> = streams
        .iter()
        .filter_map(|(name, stream)| {
            let webhook = stream.value.webhook.value()?;
            Some((name.as_str(), merge(webhook, body.source.value())))
        })
        .collect();
    for (index, (name, this)) in merged.iter().enumerate() {
        let Some(path) = this.path.get() else { continue };
        let same = |(_, other): &&(&str, Merged<'_>)| {
            other.path.value().is_some_and(|other| other.0 == path.value.0)
        };
        let Some((first_name, first)) = merged[..index].iter().find(same) else { continue };
        if fingerprint(first) != fingerprint(this) {
            let at = this.verify.key().or(this.secret.key()).unwrap_or(path.at);
            let first_at = first.path.get().map_or(path.at, |path| path.at);
            context
                .error(
                    codes::ROUTE_DIFFERS,
                    at,
                    format!("streams `{first_name}` and `{name}` verify one path differently"),
                    format!("`{}` is one endpoint", path.value.0),
                )
                .related(first_at, "the same path here")
                .help("write `verify` and `secret` once, under [source.webhook]");
        }
    }
}

fn fingerprint<'d>(merged: &Merged<'d>) -> (Option<&'d str>, Vec<&'d str>) {
    let many =
        merged.secrets.value().into_iter().flatten().filter_map(|entry| match &entry.value {
            SecretEntry::Value(value) => Some(value.text.as_str()),
            SecretEntry::Dated(dated) => dated.value.value().map(|value| value.text.as_str()),
        });
    let one = merged.secret.value().map(|secret| secret.text.as_str());
    (merged.verify.value().map(|verify| verify.0.as_str()), one.into_iter().chain(many).collect())
}
