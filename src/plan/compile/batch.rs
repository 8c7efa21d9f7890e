//! `[destination.NAME.batch]`: what a batch holds, and how its answer says what became of each event.

use http::Method;

use super::{
    super::{BatchPlan, ResultsPlan, VerdictPlan},
    context::Context,
    destination::duration,
    sites,
};
use crate::{
    definition::{batch::BatchDef, destination::DestinationDef, table::At},
    diagnostic::codes,
    map::{Expr, Tree},
};

const DEFAULT_MAX: usize = 100;
const DEFAULT_WITHIN: std::time::Duration = std::time::Duration::from_secs(1);
const DEFAULT_MAX_BYTES: u64 = 1 << 20;

/// The batch; `None` where something of it is wrong.
pub(super) fn compile(
    context: &mut Context<'_>,
    given: &At<BatchDef>,
    path: &str,
) -> Option<BatchPlan> {
    let def = &given.value;
    let max_bytes = def.max_bytes.value().map_or(DEFAULT_MAX_BYTES, |size| size.0);
    Some(BatchPlan {
        max: def.max.value().map_or(DEFAULT_MAX, |max| max.0 as usize),
        within: duration(&def.within, DEFAULT_WITHIN),
        max_bytes: usize::try_from(max_bytes).unwrap_or(usize::MAX),
        results: results(context, def, path)?,
    })
}

/// The outer `None` is a mistake.
#[allow(clippy::option_option)]
fn results(context: &mut Context<'_>, def: &BatchDef, path: &str) -> Option<Option<ResultsPlan>> {
    let list = context.maybe(&def.results, &sites::RESULTS, &format!("{path}.results"));
    let by = context.maybe(&def.by, &sites::RESULT_BY, &format!("{path}.by"));
    let ok = ("ok", &def.ok);
    let ok = context.condition(codes::BAD_RESULTS, ok, &sites::RESULT_OK, &format!("{path}.ok"));
    for (name, key) in [("by", def.by.key()), ("ok", def.ok.key())] {
        if let Some(at) = key.filter(|_| def.results.is_absent()) {
            let message = format!("`{name}` without `results`");
            context
                .error(codes::BAD_RESULTS, at, message, "there are no results to apply it to")
                .help("say where they stand: results = \"$.items[*]\"");
        }
    }
    if let (Some(given), Some(list)) = (def.results.get(), &list)
        && list.as_constant().is_some()
    {
        context
            .error(
                codes::BAD_RESULTS,
                given.at,
                "`results` is always the same",
                "expected a path or a template",
            )
            .help("write where they stand in the answer: results = \"$.items[*]\"");
        return None;
    }
    let complete = def.results.is_absent() == list.is_none()
        && def.by.is_absent() == by.is_none()
        && def.ok.is_absent() == ok.is_none();
    complete.then(|| list.map(|list| ResultsPlan { list, by, ok }))
}

/// Whether the request holds the batch, and the results are judged.
pub(super) fn check(
    context: &mut Context<'_>,
    def: &DestinationDef,
    (method, url, body): (&Method, &Expr, Option<&Tree>),
    plan: &BatchPlan,
    rules: &[VerdictPlan],
) {
    let Some(given) = def.batch.get() else { return };
    let uses = |expr: &Expr| expr.uses().iter().any(|(name, _)| name == "batch");
    let is_sent = match body {
        Some(tree) => tree.leaves().iter().any(|(_, expr)| uses(expr)),
        None => !matches!(*method, Method::GET | Method::HEAD | Method::DELETE),
    };
    if !is_sent && !uses(url) {
        let at = def.body.key().unwrap_or(given.key);
        context
            .error(
                codes::EMPTY_BATCH,
                at,
                "no part of the request holds the batch",
                "its events would count as delivered and be lost",
            )
            .help("write body = { items = \"{{ batch }}\" }");
    }
    for (_, leaf) in body.map(Tree::leaves).into_iter().flatten() {
        let member = leaf.path_prefix().and_then(|prefix| prefix.first().cloned());
        if let (Some(member), Some(at)) = (member, def.body.key()) {
            context
                .error(
                    codes::ONE_OF_BATCH,
                    at,
                    format!("`{}` looks for `{member}` in a list", leaf.source()),
                    "`$` is the list of the batch's records here",
                )
                .help(format!(
                    "write \"$[*].{member}\" for the list of them; what each holds is made in map"
                ));
        }
    }
    if let (Some(results), Some(at)) = (&plan.results, given.value.results.key())
        && results.ok.is_none()
        && !rules.iter().any(|rule| rule.of_item)
    {
        context
            .error(
                codes::BAD_RESULTS,
                at,
                "nobody says which results are good ones",
                "`ok`, or a rule of `on` with `item`, expected beside it",
            )
            .help(
                "write ok = \"{{ item.status < 300 }}\", or ok = \"{{ item }}\" where only what was \
                 taken is listed",
            );
    }
}
