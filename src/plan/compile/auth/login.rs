//! `type = "login"`: a request of the file's own making, and the token in its answer.

use std::sync::Arc;

use http::Method;

use super::{
    super::{
        super::{AuthKind, LoginPlan, RequestBody},
        connector::Whole,
        context::{Context, complete},
        destination::method_of,
        sites, url,
    },
    Auths, headers, named, token,
};
use crate::{
    definition::{
        auth::{AuthDef, LoginRequestDef},
        poll::MethodDef,
        source::SourceDef,
        table::Given,
    },
    diagnostic::codes,
};

pub(super) fn compile(
    context: &mut Context<'_>,
    whole: Whole<'_>,
    def: &AuthDef,
    path: &str,
    auths: &Auths,
) -> Option<LoginPlan> {
    let token = context.maybe(&def.token, &sites::TOKEN_ANSWER, &format!("{path}.token"));
    let life = token::life(context, &def.ttl, path);
    let place = token::place(context, &def.placed, path);
    let request = def.request.get()?;
    let (at, request, path) = (request.at, &request.value, format!("{path}.request"));
    let site = &sites::SIGNING;
    let empty = SourceDef::default();
    let source = whole.body.source.value().unwrap_or(&empty);
    let url = url::joined(context, (&source.base, &request.path), ("login", at), site, &path);
    let query = request.query.value().map_or(&[][..], |pairs| pairs.0.as_slice());
    let query = context.pairs(query, site, &format!("{path}.query"));
    let given = request.headers.value().map_or(&[][..], |pairs| pairs.0.as_slice());
    let headers = headers(context, given, site, &format!("{path}.headers"));
    let body = body(context, request, &path);
    let fits = |plan: &super::AuthPlan| !matches!(plan.kind, AuthKind::Login(_));
    let auth = match &request.auth {
        Given::Absent => None,
        given => Some(named(context, given, auths, (fits, "credentials that are not a login"))?),
    };
    Some(LoginPlan {
        method: request.method.value().map_or(Method::POST, |method| method_of(*method)),
        url: url?,
        query,
        headers,
        body: complete(body)?,
        auth: auth.cloned().map(Arc::new),
        token: token?,
        life: life?,
        place: place?,
    })
}

#[allow(clippy::option_option)] // Absent, wrong and right are three things.
fn body(
    context: &mut Context<'_>,
    def: &LoginRequestDef,
    path: &str,
) -> Option<Option<RequestBody>> {
    context.exclude(("body", def.body.key()), ("form", def.form.key()));
    if let (Some(key), Some(MethodDef::Get)) =
        (def.body.key().or(def.form.key()), def.method.value())
    {
        context.error(
            codes::MISPLACED_KEY,
            key,
            "GET requests have no body",
            "method \"GET\" does not send it",
        );
    }
    let site = &sites::SIGNING;
    if let Some(body) = def.body.get() {
        return Some(context.tree(body, site, &format!("{path}.body")).map(RequestBody::Json));
    }
    let form = def.form.value()?;
    Some(Some(RequestBody::Form(context.pairs(&form.0, site, &format!("{path}.form")))))
}
