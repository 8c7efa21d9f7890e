//! `[destination.NAME]` and `[retry]`.

use std::{path::PathBuf, sync::Arc, time::Duration};

use http::Method;

use super::{
    super::{BatchPlan, BreakerPlan, DestinationKind, DestinationPlan, Order, Rate, RetryPlan},
    auth::{self, Auths},
    batch,
    connector::Whole,
    context::{Context, complete},
    sites, url, verdict,
};
use crate::{
    definition::{
        breaker::BreakerDef,
        collections::{OneOrMany, items},
        destination::{COMMON_KEYS, DestinationDef, DestinationType, OrderDef, keys_of},
        kinds::Span,
        poll::MethodDef,
        retry::RetryDef,
        table::{At, Given},
        units,
    },
    diagnostic::codes,
};

const DEFAULT_CONCURRENCY: usize = 16;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);
const DEFAULT_MAX_RESPONSE_BYTES: u64 = 1 << 20;
const DEFAULT_ROTATE_BYTES: u64 = 64 << 20;
const DEFAULT_RETRY: RetryPlan = RetryPlan {
    attempts: 12,
    from: Duration::from_secs(1),
    to: Duration::from_hours(1),
    within: Duration::from_hours(24),
};

const DEFAULT_BREAKER: BreakerPlan = BreakerPlan {
    failures: 0.5,
    of: 20,
    within: Duration::from_secs(30),
    open: Duration::from_secs(30),
    probes: 3,
};

/// The destinations of a connector.
pub(super) struct Destinations {
    /// Those that compiled.
    pub plans: Vec<DestinationPlan>,
    /// Every name that is defined.
    pub names: Vec<Arc<str>>,
}

pub(super) fn compile_all(
    context: &mut Context<'_>,
    whole: Whole<'_>,
    auths: &Auths,
) -> Destinations {
    let mut all = Destinations { plans: Vec::new(), names: Vec::new() };
    let own = whole.own.destination.value();
    let base = whole.body.destination.value().filter(|_| whole.is_instance);
    for (name, def) in own.into_iter().chain(base).flat_map(|named| &named.0) {
        // An instance's own destination replaces the one of the same name.
        if all.names.iter().any(|known| **known == **name) {
            continue;
        }
        let name: Arc<str> = Arc::from(name.as_str());
        all.names.push(Arc::clone(&name));
        all.plans.extend(compile(context, name, def, auths, whole));
    }
    all
}

fn compile(
    context: &mut Context<'_>,
    name: Arc<str>,
    def: &At<DestinationDef>,
    auths: &Auths,
    whole: Whole<'_>,
) -> Option<DestinationPlan> {
    let def = &def.value;
    let path = format!("destination.{name}");
    let retry = retry(context, &[&def.retry, &whole.own.retry, &whole.body.retry]);
    let kind = *def.kind.value()?;
    let (required, optional) = keys_of(kind);
    let allowed: Vec<&str> = optional.iter().chain(COMMON_KEYS).copied().collect();
    let title = format!("[{path}]");
    let heading = (title.as_str(), kind.word(), def.at);
    let (table, given) = (&DestinationDef::TABLE, def.given());
    let keys = (required, allowed.as_slice());
    auth::check_keys(context, heading, table, &given, keys, codes::DESTINATION_KEYS);
    let is_http = matches!(kind, DestinationType::Http);
    let batch = match &def.batch {
        Given::Absent => None,
        Given::Invalid(_) => Some(None),
        Given::Value(given) => Some(batch::compile(context, given, &format!("{path}.batch"))),
    };
    let kind = match kind {
        DestinationType::Http => {
            http(context, def, &path, auths, batch.as_ref().map(Option::as_ref))
        }
        DestinationType::File => file(def),
        DestinationType::Stdout => Some(DestinationKind::Stdout),
    };
    check_order(context, def);
    Some(DestinationPlan {
        name,
        kind: kind?,
        batch: complete(batch)?,
        order: match def.order.value() {
            Some(OrderDef::Key) => Order::Key,
            Some(OrderDef::Strict) => Order::Strict,
            Some(OrderDef::None) | None => Order::None,
        },
        breaker: breaker(def.breaker.value(), is_http),
        concurrency: def.concurrency.value().map_or(DEFAULT_CONCURRENCY, |int| int.0 as usize),
        rate: rates(&def.rate),
        timeout: duration(&def.timeout, DEFAULT_TIMEOUT),
        retry,
    })
}

#[allow(clippy::option_option)] // No batch, a wrong one, and one are three things.
fn http(
    context: &mut Context<'_>,
    def: &DestinationDef,
    path: &str,
    auths: &Auths,
    batch: Option<Option<&BatchPlan>>,
) -> Option<DestinationKind> {
    let (site, rules) = match batch {
        None => (&sites::DESTINATION, &sites::VERDICT),
        Some(Some(BatchPlan { results: None, .. })) => (&sites::BATCH, &sites::BATCH_VERDICT),
        Some(_) => (&sites::BATCH, &sites::ITEM_VERDICT),
    };
    if let Some(given) = def.url.get() {
        url::check(context, given);
    }
    let url = context.maybe(&def.url, site, &format!("{path}.url"));
    let given = def.headers.value().map_or(&[][..], |pairs| pairs.0.as_slice());
    let headers = auth::headers(context, given, site, &format!("{path}.headers"));
    let body = match def.body.get() {
        Some(body) => Some(context.tree(body, site, &format!("{path}.body"))?),
        None => None,
    };
    let on = verdict::compile(context, &def.on, rules, path);
    let method = def.method.value().map_or(Method::POST, |method| method_of(*method));
    if let (Some(Some(batch)), Some(url), Some(on)) = (batch, &url, &on) {
        batch::check(context, def, (&method, url, body.as_ref()), batch, on);
    }
    let max = def.max_response.value().map_or(DEFAULT_MAX_RESPONSE_BYTES, |size| size.0);
    Some(DestinationKind::Http {
        method,
        auth: auth::resolve(context, &def.auth, auths),
        url: url?,
        headers,
        body,
        on: on?,
        max_response_bytes: usize::try_from(max).unwrap_or(usize::MAX),
    })
}

fn file(def: &DestinationDef) -> Option<DestinationKind> {
    Some(DestinationKind::File {
        path: PathBuf::from(&def.path.value()?.0),
        rotate_bytes: def.rotate.value().map_or(Some(DEFAULT_ROTATE_BYTES), |size| size.0),
        rotate_every: def.rotate_every.value().map(|span| span.0),
        keep: def.keep.value().map(|int| int.0 as usize),
    })
}

/// Only a peer can be so far away that asking it again does harm.
fn breaker(def: Option<&BreakerDef>, is_http: bool) -> Option<BreakerPlan> {
    let default = DEFAULT_BREAKER;
    let plan = def.map_or(default, |def| BreakerPlan {
        failures: def.failures.value().map_or(default.failures, |ratio| ratio.0),
        of: def.of.value().map_or(default.of, |int| int.0 as u32),
        within: duration(&def.within, default.within),
        open: duration(&def.open, default.open),
        probes: def.probes.value().map_or(default.probes, |int| int.0 as u32),
    });
    let enabled = def.and_then(|def| def.enabled.value().copied()).unwrap_or(true);
    (is_http && enabled).then_some(plan)
}

/// Events that all wait for each other go one by one.
fn check_order(context: &mut Context<'_>, def: &DestinationDef) {
    let strict = def.order.get().filter(|order| order.value == OrderDef::Strict);
    if let (Some(order), Some(batch)) = (strict, def.batch.key()) {
        let message = "`batch` and order = \"strict\" exclude each other";
        context
            .error(codes::CONFLICT, batch, message, "one of the two is too many")
            .related(order.at, "events that all wait for each other go one by one")
            .help("order = \"key\" keeps the order of each thing's states, in batches, too");
    }
}

/// The retry that several tables give together, the first one's keys first.
fn retry(context: &mut Context<'_>, tables: &[&Given<RetryDef>]) -> RetryPlan {
    let tables: Vec<&RetryDef> = tables.iter().filter_map(|table| table.value()).collect();
    let span =
        |key: fn(&RetryDef) -> &Given<Span>| tables.iter().find_map(|table| key(table).get());
    let (from, to, within) =
        (span(|retry| &retry.from), span(|retry| &retry.to), span(|retry| &retry.within));
    let attempts = tables.iter().find_map(|table| table.attempts.value());
    let or = |given: Option<&At<Span>>, default| given.map_or(default, |at| at.value.0);
    let plan = RetryPlan {
        attempts: attempts.map_or(DEFAULT_RETRY.attempts, |int| int.0 as u32),
        from: or(from, DEFAULT_RETRY.from),
        to: or(to, DEFAULT_RETRY.to.max(or(from, DEFAULT_RETRY.from))),
        within: or(within, DEFAULT_RETRY.within),
    };
    if let Some(at) = to.or(from).filter(|_| plan.from > plan.to) {
        context
            .error(
                codes::BAD_RETRY,
                at.at,
                "the first wait is longer than the longest",
                "expected `from` to be at most `to`",
            )
            .help("`from` is the first wait, `to` the longest");
    }
    if let Some(at) = within.filter(|_| plan.attempts > 1 && plan.within < plan.from) {
        context
            .error(
                codes::BAD_RETRY,
                at.at,
                "given up before the first repetition",
                "expected `within` to be at least `from`",
            )
            .help("write `attempts = 1` if failures are not to be repeated");
    }
    plan
}

/// An HTTP method.
pub(super) fn method_of(method: MethodDef) -> Method {
    match method {
        MethodDef::Get => Method::GET,
        MethodDef::Post => Method::POST,
        MethodDef::Put => Method::PUT,
        MethodDef::Patch => Method::PATCH,
        MethodDef::Delete => Method::DELETE,
    }
}

/// Rates as the plan has them.
pub(super) fn rates(given: &Given<OneOrMany<units::Rate>>) -> Vec<Rate> {
    items(given).iter().map(|rate| Rate { count: rate.value.count, per: rate.value.per }).collect()
}

/// A time, or what holds without it.
pub(super) fn duration(given: &Given<Span>, default: Duration) -> Duration {
    given.value().map_or(default, |span| span.0)
}
