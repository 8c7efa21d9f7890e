//! The file as a whole: what an instance gives, what it may not, and the plan.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, LazyLock},
};

use serde_json::{Map, Value};

use super::{
    super::{ConnectorPlan, SloPlan},
    auth,
    context::Context,
    destination, events, fixed, library, rollout, test, vars, verify,
};
use crate::{
    definition::{
        connector::{ConnectorDef, INSTANCE_KEYS},
        kinds::Prose,
        slo::SloDef,
        table::{Given, Loc, list_of},
    },
    diagnostic::codes,
};

/// A connector file, and the one that it is an instance of.
#[derive(Clone, Copy)]
pub(super) struct Whole<'d> {
    /// The file that was named.
    pub own: &'d ConnectorDef,
    /// The file with the streams: the one that is used, or the same.
    pub body: &'d ConnectorDef,
    /// Whether there is a `use`.
    pub is_instance: bool,
}

/// A plan, and whether it may run: one of a connector that runs only through `use` may not.
pub(super) struct Compiled {
    /// Variables without a value are absent from `vars`.
    pub plan: ConnectorPlan,
    /// Whether nothing is left for an instance to give.
    pub is_complete: bool,
}

/// The plan, unless something is missing. Errors are in the context.
pub(super) fn compile(
    context: &mut Context<'_>,
    path: &Path,
    own: &ConnectorDef,
    base: Option<&ConnectorDef>,
) -> Option<Compiled> {
    let is_instance = !own.uses.is_absent();
    if is_instance && base.is_none() {
        return None;
    }
    let whole = Whole { own, body: base.unwrap_or(own), is_instance };
    if let Some(base) = base {
        check_instance(context, own, base);
        if !base.uses.is_absent() {
            return None;
        }
    }
    aliases(context, whole);
    let vars = vars::compile(context, whole);
    library::compile(context, whole.body);
    verify::check_all(context, whole.body);
    let mut auths = auth::compile_all(context, whole, &vars);
    let destinations = destination::compile_all(context, whole, &auths);
    // What is wrong with a variable shows in all that it stands in; once is enough.
    if vars.missing.is_none() && !context.has_errors() {
        fixed::check(context, whole, &destinations.plans, &vars.values);
    }
    let streams = events::compile_all(context, whole, &auths, &destinations, &vars.values);
    auths.retire(context);
    test::check_all(context, path, whole);
    check_aliases(context, whole);

    let rollout = rollout::compile(context, whole);
    let is_complete = is_complete(context, whole, vars.missing.as_deref());
    let text = |given: &Given<Prose>, other: &Given<Prose>| {
        given.or(other).value().map(|prose| prose.0.clone())
    };
    let mut secrets_used: Vec<String> =
        context.secrets_used().into_iter().map(|(name, _)| name).collect();
    secrets_used.shrink_to_fit();
    let plan = ConnectorPlan {
        name: Arc::from(own.name.value()?.0.as_str()),
        version: own
            .version
            .or(&whole.body.version)
            .value()
            .map_or_else(|| "0.0.0".to_owned(), |version| version.0.clone()),
        summary: text(&own.summary, &whole.body.summary),
        owner: text(&own.owner, &whole.body.owner),
        docs: text(&own.docs, &whole.body.docs),
        tenant: own.tenant.value().map(|tenant| tenant.0.clone()),
        file: path.to_owned(),
        content: context.hash.finish(),
        vars: shared_vars(vars.values),
        secret_names: shared_names(&context.aliases),
        secrets_used,
        streams,
        destinations: destinations
            .plans
            .into_iter()
            .map(|plan| (Arc::clone(&plan.name), Arc::new(plan)))
            .collect(),
        auths: auths
            .plans
            .into_iter()
            .map(|plan| (Arc::clone(&plan.name), Arc::new(plan)))
            .collect::<BTreeMap<_, _>>(),
        slo: slo(own.slo.or(&whole.body.slo)).map(Box::new),
        rollout,
    };
    Some(Compiled { plan, is_complete })
}

/// Most connectors have no variables, and share that they have none.
fn shared_vars(values: Value) -> Arc<Value> {
    static NONE: LazyLock<Arc<Value>> = LazyLock::new(|| Arc::new(Value::Object(Map::new())));
    if values == **NONE { Arc::clone(&NONE) } else { Arc::new(values) }
}

/// The same of secrets that are called otherwise where they are looked up.
fn shared_names(aliases: &BTreeMap<String, String>) -> Arc<BTreeMap<String, String>> {
    static NONE: LazyLock<Arc<BTreeMap<String, String>>> = LazyLock::new(Arc::default);
    if aliases.is_empty() { Arc::clone(&NONE) } else { Arc::new(aliases.clone()) }
}

/// An instance fills in; it does not change what the connector does.
fn check_instance(context: &mut Context<'_>, own: &ConnectorDef, base: &ConnectorDef) {
    for (key, at) in own.given() {
        if !INSTANCE_KEYS.contains(&key) {
            let allowed = INSTANCE_KEYS.iter().filter(|key| **key != "use").copied();
            context
                .error(
                    codes::NOT_FOR_INSTANCES,
                    at,
                    format!("an instance cannot have `{key}`"),
                    "this belongs into the connector that is used",
                )
                .help(format!("beside `use` may stand {}", list_of(allowed)));
        }
    }
    if let (Some(uses), Some(nested)) = (own.uses.get(), base.uses.get()) {
        context
            .error(
                codes::NESTED_USE,
                uses.at,
                "this file is itself an instance",
                "expected a connector without `use`",
            )
            .related(nested.at, "it uses another one here")
            .help(format!("use \"{}\" here, too", nested.value.0.escape_debug()));
    }
}

fn aliases(context: &mut Context<'_>, whole: Whole<'_>) {
    let tables = [&whole.body.secrets, &whole.own.secrets];
    for (name, looked_up) in tables.into_iter().filter_map(Given::value).flat_map(|table| &table.0)
    {
        context.aliases.insert(name.clone(), looked_up.value.0.clone());
    }
}

/// A secret that nothing names is a typing error.
fn check_aliases(context: &mut Context<'_>, whole: Whole<'_>) {
    let Some(table) = whole.own.secrets.value() else { return };
    let mut known: Vec<String> = context.secret_names().map(str::to_owned).collect();
    known.sort();
    known.dedup();
    for (name, entry) in &table.0 {
        if !known.contains(name) {
            let known = known.iter().map(String::as_str);
            context.unknown(codes::UNKNOWN_SECRET, entry.key, "secret", name, known).help(
                "under [secrets] stand the connector's own names on the left, the names that are \
                 looked up on the right",
            );
        }
    }
}

/// A connector without a destination, or with variables to be filled in, runs only through `use`.
/// Says whether this one is complete.
fn is_complete(context: &mut Context<'_>, whole: Whole<'_>, missing: Option<&str>) -> bool {
    let no_destination = whole.own.destination.is_absent() && whole.body.destination.is_absent();
    let at = match (&whole.own.name, whole.own.uses.get()) {
        (_, Some(uses)) => uses.at,
        (Given::Value(name), None) => name.at,
        _ => Loc::default(),
    };
    let lacks = match missing {
        Some(var) if !whole.is_instance => format!("`vars.{var}` has no value"),
        _ if no_destination => "it has no destination".to_owned(),
        _ => return true,
    };
    if whole.is_instance {
        context
            .error(codes::WHICH_DESTINATION, at, "there is no destination", "nothing to deliver to")
            .help("add a [destination.NAME] table to this file");
        return false;
    }
    let reported =
        context.error(codes::NEEDS_INSTANCE, at, "this connector runs only through `use`", lacks);
    match missing {
        Some(var) => reported.help(format!(
            "give it under [vars] ({var} = \"...\", or a `default`), or write an instance: a file \
             with `use`, `name` and its own [vars]"
        )),
        None => reported.help(
            "add a [destination.NAME] table, or write an instance: a file with `use`, `name` and \
             a destination",
        ),
    };
    false
}

fn slo(given: &Given<SloDef>) -> Option<SloPlan> {
    const DEFAULT_WINDOW_DAYS: u64 = 30;
    let def = given.value()?;
    let window = std::time::Duration::from_secs(DEFAULT_WINDOW_DAYS * 86_400);
    Some(SloPlan {
        success: def.success.value().map(|ratio| ratio.0),
        latency: def.latency.value().map(|latency| (latency.0, latency.1)),
        window: def.window.value().map_or(window, |span| span.0),
    })
}
