//! Variants beside their originals: what only shows across files.
//!
//! A variant takes its original's events: they have the original's ids, wait in its lanes and came in
//! by its webhooks and polls. So the variant's own way in is not used, and where it differs a notice
//! says so.

use std::{collections::HashMap, sync::Arc};

use super::CompiledFile;
use crate::{
    diagnostic::{Diagnostic, Severity, Span, codes, nearest},
    map::Expr,
    plan::{ConnectorPlan, RolloutMode, StreamPlan},
};

/// Findings stand at the variant's `of`.
pub(super) fn check(files: &[&CompiledFile]) -> Vec<Diagnostic> {
    let mut by_name: HashMap<&str, &CompiledFile> = HashMap::new();
    for file in files {
        if let Some(name) = &file.name {
            by_name.entry(name).or_insert(file);
        }
    }
    let mut diagnostics = Vec::new();
    let mut canaries: HashMap<&str, &Span> = HashMap::new();
    for file in files {
        // One beside itself was told where it stands.
        let other = file.variant_of.as_ref().filter(|(of, _)| file.name.as_ref() != Some(of));
        let Some((of, span)) = other else { continue };
        let Some(original) = by_name.get(&**of) else {
            diagnostics.push(unknown(of, span, by_name.keys().copied()));
            continue;
        };
        let is_whole = original.plan.is_some()
            || original.diagnostics.iter().any(|found| found.severity == Severity::Error);
        if !is_whole {
            let message = format!("`{of}` runs only through `use`");
            let label = "it takes in no events by itself";
            diagnostics.push(
                Diagnostic::new(codes::UNKNOWN_ORIGINAL, span.clone(), message, label)
                    .help("name one of its instances"),
            );
            continue;
        }
        if let Some((_, other)) = &original.variant_of {
            diagnostics.push(of_a_variant(of, span, other));
            continue;
        }
        let (Some(plan), Some(running)) = (&file.plan, &original.plan) else { continue };
        if plan.rollout.mode == RolloutMode::Canary
            && let Some(first) = canaries.insert(of, span)
        {
            diagnostics.push(second_canary(of, span, first));
        }
        diagnostics.extend(streams(plan, running, span));
    }
    diagnostics
}

fn unknown<'n>(of: &str, span: &Span, names: impl Iterator<Item = &'n str>) -> Diagnostic {
    let message = format!("no connector is called `{of}`");
    let diagnostic =
        Diagnostic::new(codes::UNKNOWN_ORIGINAL, span.clone(), message, "nobody has this name");
    diagnostic.help(match nearest(of, names) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "`of` names the connector that runs today, by the `name` in its file".to_owned(),
    })
}

fn of_a_variant(of: &str, span: &Span, other: &Span) -> Diagnostic {
    let message = format!("`{of}` is itself a variant");
    Diagnostic::new(codes::BAD_VARIANT, span.clone(), message, "it takes in no events of its own")
        .related(other.clone(), "its original")
        .help("name the connector that runs today; several shadows may have one original")
}

fn second_canary(of: &str, span: &Span, first: &Span) -> Diagnostic {
    let message = format!("two canaries of `{of}`");
    Diagnostic::new(codes::BAD_VARIANT, span.clone(), message, "a key has two sides, not three")
        .related(first.clone(), "the other one")
        .help("make one of them a shadow, or set it off")
}

/// Streams are matched by name.
fn streams(variant: &ConnectorPlan, original: &ConnectorPlan, span: &Span) -> Vec<Diagnostic> {
    let find = |name: &str| original.streams.iter().find(|stream| *stream.name == *name);
    let matched: Vec<(&Arc<StreamPlan>, &Arc<StreamPlan>)> =
        variant.streams.iter().filter_map(|stream| Some((stream, find(&stream.name)?))).collect();
    if matched.is_empty() {
        let names = |plan: &ConnectorPlan| {
            let names = plan.streams.iter().map(|stream| format!("`{}`", stream.name));
            names.collect::<Vec<_>>().join(", ")
        };
        let message = format!("`{}` has no stream of its original", variant.name);
        let label = format!("`{}` has {}", original.name, names(original));
        let help = format!(
            "streams are matched by name, and here there are {}: give them the original's names",
            names(variant)
        );
        return vec![Diagnostic::new(codes::BAD_VARIANT, span.clone(), message, label).help(help)];
    }
    let mut unused: Vec<String> = Vec::new();
    for stream in variant.streams.iter().filter(|stream| find(&stream.name).is_none()) {
        unused.push(format!("stream `{}` gets nothing", stream.name));
    }
    for (own, running) in matched {
        for what in differences(own, running) {
            unused.push(format!("stream `{}`: {what} is the original's", own.name));
        }
        if variant.rollout.mode == RolloutMode::Canary {
            let lacks = running.to.iter().filter(|name| !own.to.contains(*name));
            unused.extend(lacks.map(|name| {
                format!("stream `{}`: destination `{name}` is the original's", own.name)
            }));
            let extra = own.to.iter().filter(|name| !running.to.contains(*name));
            unused.extend(
                extra.map(|name| {
                    format!("stream `{}`: destination `{name}` gets nothing", own.name)
                }),
            );
        }
    }
    if unused.is_empty() {
        return Vec::new();
    }
    let message =
        format!("`{}` differs from `{}` where it follows it", variant.name, original.name);
    let diagnostic =
        Diagnostic::new(codes::VARIANT_FOLLOWS, span.clone(), message, unused.join("; "));
    vec![diagnostic.help(
        "a variant tries map, schema and destinations; how events come in and what they are called is \
         tried by a connector of its own",
    )]
}

/// What a variant's stream has otherwise and does not use.
fn differences(own: &StreamPlan, running: &StreamPlan) -> Vec<&'static str> {
    let sources = |exprs: &[Expr]| exprs.iter().map(|e| e.source().to_owned()).collect::<Vec<_>>();
    let source = |expr: Option<&Expr>| expr.map(|expr| expr.source().to_owned());
    let revision = |stream: &StreamPlan| source(stream.revision.as_ref().map(|r| &r.expr));
    let with = |stream: &StreamPlan| {
        let each = stream.with.iter();
        each.map(|(name, expr)| (name.clone(), expr.source().to_owned())).collect::<Vec<_>>()
    };
    let path = |stream: &StreamPlan| stream.webhook.as_ref().map(|hook| hook.path.clone());
    let url = |stream: &StreamPlan| source(stream.poll.as_ref().map(|poll| &poll.url));
    let checks = [
        ("`key`", sources(&own.key) != sources(&running.key)),
        ("`revision`", revision(own) != revision(running)),
        ("`when`", source(own.when.as_ref()) != source(running.when.as_ref())),
        ("`tenant`", source(own.tenant.as_ref()) != source(running.tenant.as_ref())),
        ("`delete`", source(own.delete.as_ref()) != source(running.delete.as_ref())),
        ("`with`", with(own) != with(running)),
        ("`webhook.path`", own.webhook.is_some() && path(own) != path(running)),
        ("`poll`", own.poll.is_some() && url(own) != url(running)),
    ];
    checks.into_iter().filter(|(_, differs)| *differs).map(|(what, _)| what).collect()
}
