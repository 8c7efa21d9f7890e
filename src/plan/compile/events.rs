//! `[stream.NAME]`: where events come from, what they are called, what becomes of them.

use std::{sync::Arc, time::Duration};

use serde_json::Value;

use super::{
    super::{Dedupe, RevisionPlan, StreamPlan, StreamVars},
    auth::Auths,
    connector::Whole,
    context::{Context, complete},
    destination::Destinations,
    detail, each, library, poll, reconcile, schedule, schema, sites, up, webhook,
};
use crate::{
    definition::{collections::items, kinds::Lifetime, stream::StreamDef, table::At},
    diagnostic::codes,
};

const DEFAULT_DEDUPE: Duration = Duration::from_hours(7 * 24);

pub(super) fn compile_all(
    context: &mut Context<'_>,
    whole: Whole<'_>,
    auths: &Auths,
    destinations: &Destinations,
    vars: &Value,
) -> Vec<Arc<StreamPlan>> {
    let streams = whole.body.stream.value().map_or(&[][..], |named| named.0.as_slice());
    if let (true, Some(name)) = (whole.body.stream.is_absent(), whole.body.name.get()) {
        context
            .error(
                codes::NO_SOURCE,
                name.at,
                "the connector has no stream",
                "nothing ever happens here",
            )
            .help("add a table [stream.NAME.webhook] or [stream.NAME.poll]");
    }
    webhook::check_shared_routes(context, whole.body);
    each::check_all(context, whole.body);
    let mut plans: Vec<StreamPlan> = streams
        .iter()
        .filter_map(|(name, def)| {
            let shared = context.vars.clone();
            let own = own_vars(context, &def.value, vars);
            let plan = compile(context, whole, name, def, auths, destinations);
            context.vars = shared;
            plan.map(|plan| StreamPlan { vars: own, ..plan })
        })
        .collect();
    if let Some(defs) = whole.body.stream.value() {
        each::link(defs, &mut plans);
    }
    // Collected in place it would keep the room of the plans themselves.
    let mut shared = Vec::with_capacity(plans.len());
    shared.extend(plans.into_iter().map(Arc::new));
    shared
}

/// The stream's own variables, which its expressions may name from here on.
fn own_vars(context: &mut Context<'_>, def: &StreamDef, vars: &Value) -> Option<StreamVars> {
    let own = &def.vars.value()?.0;
    let mut all = vars.as_object().cloned().unwrap_or_default();
    for (name, value) in own {
        all.insert(name.clone(), value.value.0.clone());
        if !context.vars.contains(name) {
            context.vars.push(name.clone());
        }
    }
    let own = own.iter().map(|(name, _)| name.clone()).collect();
    Some(StreamVars { own, all: Arc::new(Value::Object(all)) })
}

fn compile(
    context: &mut Context<'_>,
    whole: Whole<'_>,
    name: &str,
    stream: &At<StreamDef>,
    auths: &Auths,
    destinations: &Destinations,
) -> Option<StreamPlan> {
    let def = &stream.value;
    let path = format!("stream.{name}");
    // A variant's events come in by its original's webhooks and polls.
    let rollout = whole.own.rollout.or(&whole.body.rollout).value();
    let is_variant = rollout.is_some_and(|rollout| !rollout.of.is_absent());
    if def.webhook.is_absent() && def.poll.is_absent() && !is_variant {
        context
            .error(
                codes::NO_SOURCE,
                if def.at.end > 0 { def.at } else { stream.key },
                format!("stream `{name}` has no source"),
                "neither takes webhooks nor polls",
            )
            .help(format!("add a table [stream.{name}.webhook] or [stream.{name}.poll]"));
    }
    let (pushed, polled) = (!def.webhook.is_absent(), !def.poll.is_absent());
    let streams = whole.body.stream.value();
    context.each_names = streams.map_or_else(Vec::new, |streams| each::names(streams, name));
    let site = sites::ingest(pushed, polled);
    let lenient = sites::ingest_lenient(pushed, polled);

    let keys = items(&def.key);
    let key: Vec<_> =
        keys.iter().map(|key| context.expr(key, &site, &format!("{path}.key"))).collect();
    let revision = def.revision.get().map(|given| {
        let expr = context.expr(given, &site, &format!("{path}.revision"))?;
        Some(RevisionPlan { ordered: restores_order(&given.value.text), expr })
    });
    let tenant = context.maybe(&def.tenant, &site, &format!("{path}.tenant"));
    let when = context.maybe(&def.when, &lenient, &format!("{path}.when"));
    let delete = context.maybe(&def.delete, &lenient, &format!("{path}.delete"));
    let with = def.with.value().map_or(&[][..], |pairs| pairs.0.as_slice());
    let with = context.pairs(with, &site, &format!("{path}.with"));

    let webhook = webhook::compile(context, whole, name, def);
    let poll = poll::compile(context, whole, name, def, auths);
    let schedule = schedule::compile(context, whole, name, def);
    let map = def
        .map
        .get()
        .map(|fields| library::stream_map(context, &fields.value, &format!("{path}.map")));
    let schema = def.schema.get().map(|given| schema::resolve(context, given));
    let to = to(context, whole, name, stream, destinations);

    let mut redact: Vec<String> =
        def.redact.value().into_iter().flatten().map(|field| field.value.0.clone()).collect();
    if let Some(Some(schema)) = &schema {
        redact.extend(schema.pii().iter().map(|pointer| field_of(pointer)));
    }
    redact.sort();
    redact.dedup();
    let dedupe = match def.dedupe.value() {
        Some(Lifetime::Forever) => Dedupe::Forever,
        Some(Lifetime::For(window)) => Dedupe::Window(*window),
        None => Dedupe::Window(DEFAULT_DEDUPE),
    };
    let subject = reconcile::Subject { schedule: schedule.as_ref(), poll: poll.as_ref(), dedupe };
    let reconcile = reconcile::compile(context, whole, name, def, &subject);
    let plan = StreamPlan {
        name: Arc::from(name),
        vars: None,
        key: key.into_iter().collect::<Option<_>>()?,
        revision: complete(revision)?,
        tenant,
        when,
        delete,
        with,
        dedupe,
        to,
        map: complete(map)?.map(Arc::new),
        schema: complete(schema)?,
        redact,
        webhook: webhook.map(Arc::new),
        poll: poll.map(Arc::new),
        schedule,
        reconcile,
        parent: None,
    };
    context.each_names.clear();
    if let Some(poll) = &plan.poll {
        let levels = poll.records.as_ref().map_or(0, |records| records.levels);
        // A document that becomes the record is enclosed by the one that was listed.
        let levels = levels + usize::from(poll.detail.iter().any(|detail| detail.name.is_none()));
        up::check(context, def, &plan.ingest_exprs().collect::<Vec<_>>(), levels);
        each::check_lists(
            context,
            def,
            poll.request_exprs().into_iter().chain(plan.ingest_exprs()),
        );
        detail::check_with(context, def);
    }
    Some(plan)
}

/// `/customer/email` as `customer.email`.
fn field_of(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".")
}

/// Whether a revision passed a filter that makes it a number or a time.
fn restores_order(text: &str) -> bool {
    const ORDERED: &[&str] = &["timestamp", "integer", "number"];
    text.split('|').skip(1).any(|filter| {
        let name = filter.trim_start();
        let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
        ORDERED.contains(&&name[..end])
    })
}

/// The stream's destinations, each of which must exist.
fn to(
    context: &mut Context<'_>,
    whole: Whole<'_>,
    name: &str,
    stream: &At<StreamDef>,
    destinations: &Destinations,
) -> Vec<Arc<str>> {
    let def = &stream.value;
    let instance =
        if whole.is_instance { &whole.own.to } else { &crate::definition::table::Given::Absent };
    // A parent stays one, whatever an instance says of the others.
    if each::is_empty(&def.to) && each::is_parent(whole.body, name) {
        return Vec::new();
    }
    let given = instance.or(def.to.or(&whole.body.to));
    if given.is_absent() {
        if let [only] = destinations.names.as_slice() {
            return vec![Arc::clone(only)];
        }
        if !destinations.names.is_empty() {
            let names: Vec<String> =
                destinations.names.iter().map(|name| format!("\"{name}\"")).collect();
            let at = if def.at.end > 0 { def.at } else { stream.key };
            context
                .error(
                    codes::WHICH_DESTINATION,
                    at,
                    format!("stream `{name}` does not say where to"),
                    "`to` expected here",
                )
                .help(format!("there are several destinations: to = [{}]", names.join(", ")));
        }
        return Vec::new();
    }
    if let Some(list) = given.get().filter(|list| list.value.0.is_empty()) {
        context
            .error(
                codes::OUT_OF_RANGE,
                list.at,
                "`to` is empty",
                "expected at least one destination",
            )
            .help(
                "a stream without destinations exists only as a parent: another one's `each` has \
                 to name it",
            );
    }
    // Without any destination the file runs only through `use`, and the instance defines them.
    if destinations.names.is_empty() {
        return Vec::new();
    }
    let mut to: Vec<Arc<str>> = Vec::new();
    for item in items(given) {
        match destinations.names.iter().find(|known| ***known == *item.value.0) {
            Some(known) if to.contains(known) => {
                let message = format!("destination `{known}` is named twice");
                context.error(codes::CONFLICT, item.at, message, "once is enough");
            }
            Some(known) => to.push(Arc::clone(known)),
            None => {
                let known = destinations.names.iter().map(|name| &**name);
                context.unknown(
                    codes::UNKNOWN_DESTINATION,
                    item.at,
                    "destination",
                    &item.value.0,
                    known,
                );
            }
        }
    }
    to
}
