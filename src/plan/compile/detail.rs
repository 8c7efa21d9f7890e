//! `detail`: a request for each listed record, with the poll's own credentials, limits and rules.

use super::{
    super::{DecodePlan, DetailPlan, PageBy, PagePlan, PollPlan},
    auth,
    context::{Context, complete},
    poll::{merge, records},
    sites, url,
};
use crate::{
    definition::{
        collections::items, detail::DetailDef, poll::PollDef, source::SourceDef, stream::StreamDef,
        table::At,
    },
    diagnostic::codes,
    map::Expr,
};

/// The requests that a poll makes for each record.
pub(super) fn compile(
    context: &mut Context<'_>,
    (def, source): (&PollDef, &SourceDef),
    plan: &PollPlan,
    path: &str,
) -> Option<Vec<DetailPlan>> {
    let details = items(&def.detail);
    check_names(context, details);
    let plans = details.iter().enumerate().map(|(number, detail)| {
        let name = detail.value.name.value().map(|name| name.0.clone());
        let word = name.clone().unwrap_or_else(|| number.to_string());
        let path = format!("{path}.detail.{word}");
        Some(DetailPlan { name, poll: request(context, (def, source), detail, plan, &path)? })
    });
    plans.collect()
}

/// Of several each needs a name of its own.
fn check_names(context: &mut Context<'_>, details: &[At<DetailDef>]) {
    for (number, detail) in details.iter().enumerate() {
        let name = detail.value.name.value().map(|name| name.0.as_str());
        let earlier = details[..number]
            .iter()
            .find(|other| other.value.name.value().map(|name| name.0.as_str()) == name);
        let Some(earlier) = earlier else { continue };
        let (message, label) = match name {
            Some(name) => (format!("two details are called `{name}`"), "this name is taken"),
            None => ("only one detail can be the record".to_owned(), "this one needs a `name`"),
        };
        context
            .error(codes::BAD_DETAIL, detail.at, message, label)
            .related(earlier.at, "the other one")
            .help("the answer of a detail with a `name` is `with.NAME` in map");
    }
}

/// A name of `with` that a detail takes: one of them would not be seen.
pub(super) fn check_with(context: &mut Context<'_>, stream: &StreamDef) {
    let details = stream.poll.value().map(|poll| items(&poll.detail)).unwrap_or_default();
    let with = stream.with.value().map_or(&[][..], |pairs| pairs.0.as_slice());
    for name in details.iter().filter_map(|detail| detail.value.name.get()) {
        let Some((_, own)) = with.iter().find(|(own, _)| *own == name.value.0) else { continue };
        let message = format!("`with.{}` is made twice", name.value.0);
        context
            .error(codes::BAD_DETAIL, name.at, message, "the detail's answer takes this name")
            .related(own.at, "and so does this")
            .help("take another name for one of them");
    }
}

fn request(
    context: &mut Context<'_>,
    (poll, source): (&PollDef, &SourceDef),
    detail: &At<DetailDef>,
    plan: &PollPlan,
    path: &str,
) -> Option<PollPlan> {
    let def = &detail.value;
    let site = &sites::DETAIL;
    let base = poll.base.or(&source.base);
    let url = url::joined(context, (base, &def.path), ("detail", detail.at), site, path);
    let query = merge(&source.query, &def.query, str::eq);
    let query: Vec<(String, Expr)> = query
        .iter()
        .filter_map(|(key, value)| {
            Some((key.clone(), context.expr(value, site, &format!("{path}.query.{key}"))?))
        })
        .collect();
    let shared = merge(&source.headers, &poll.headers, str::eq_ignore_ascii_case);
    let own = def.headers.value().map_or(&[][..], |pairs| pairs.0.as_slice());
    let is_own = |name: &str| own.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
    let headers = shared.into_iter().filter(|(name, _)| !is_own(name)).chain(own);
    let headers = auth::headers(context, headers, site, &format!("{path}.headers"));
    let record = def.record.get().map(|given| records(context, given, path));
    let compiled = PollPlan {
        method: http::Method::GET,
        url: url?,
        query,
        headers,
        body: None,
        records: complete(record)?,
        page: PagePlan { by: PageBy::None, size: None, size_param: None, stop: None, max: None },
        cursor: None,
        each: Vec::new(),
        detail: Vec::new(),
        job: None,
        decode: DecodePlan::default(),
        ..plan.clone()
    };
    let mut used = compiled.request_exprs().into_iter().flat_map(Expr::uses);
    if !used.any(|(root, _)| root == "record") {
        context
            .error(
                codes::BAD_DETAIL,
                detail.at,
                "no part of the request uses the record",
                "the same document would be fetched for each of them",
            )
            .help("write path = \"/orders/{{ record.id }}\"");
    }
    Some(compiled)
}
