//! What depends on nothing but `vars` is rendered once, when a destination is opened. It is rendered
//! here first, so that `check` refuses what `run` would.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Uri, header};
use serde_json::Value;

use super::{
    super::{DestinationKind, DestinationPlan},
    connector::Whole,
    context::Context,
};
use crate::{
    definition::{kinds::Expression, table::At},
    diagnostic::codes,
    map::{Env, Expr},
};

/// The HTTP layer's own headers: a file cannot set them.
const FRAMING: [HeaderName; 5] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::HOST,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Renders the URLs and headers of all destinations as far as `vars`, all of them given, go.
pub(super) fn check(
    context: &mut Context<'_>,
    whole: Whole<'_>,
    plans: &[DestinationPlan],
    vars: &Value,
) {
    let env = Env::new().with("vars", Arc::new(vars.clone()));
    for plan in plans {
        let DestinationKind::Http { url, headers, .. } = &plan.kind else { continue };
        let tables = [&whole.own.destination, &whole.body.destination];
        let named = |name: &str| tables.iter().find_map(|table| table.value()?.find(name));
        let Some(def) = named(&plan.name) else { continue };
        if let Some(given) = def.value.url.get() {
            let fits = |text: &str| text.parse::<Uri>().is_ok_and(|uri| uri.host().is_some());
            rendered(context, url, given, &env, ("a URL", &fits));
        }
        let given = def.value.headers.value().map_or(&[][..], |pairs| pairs.0.as_slice());
        for (name, given) in given {
            check_framing(context, name, given);
            if let Some((_, expr)) = headers.iter().find(|(known, _)| known == name) {
                let fits = |text: &str| HeaderValue::from_str(text).is_ok();
                rendered(context, expr, given, &env, ("a header's value", &fits));
            }
        }
    }
}

fn check_framing(context: &mut Context<'_>, name: &str, given: &At<Expression>) {
    let is_framing =
        HeaderName::from_bytes(name.as_bytes()).is_ok_and(|name| FRAMING.contains(&name));
    if is_framing {
        context
            .error(
                codes::BAD_HEADER,
                given.key,
                format!("`{name}` cannot be set"),
                "the HTTP layer sets this header itself",
            )
            .help("leave it out");
    }
}

fn rendered(
    context: &mut Context<'_>,
    expr: &Expr,
    given: &At<Expression>,
    env: &Env,
    (what, fits): (&str, &dyn Fn(&str) -> bool),
) {
    if !expr.uses().iter().all(|(name, _)| name == "vars") {
        return;
    }
    let label = match expr.text(env) {
        Ok(text) if fits(text.as_deref().unwrap_or_default()) => return,
        Ok(_) => format!("what comes out is not {what}"),
        Err(error) => error.to_string(),
    };
    context.error(codes::NOT_RENDERED, given.at, format!("this does not give {what}"), label).help(
        "it depends on nothing but variables, so it is rendered once, when the file is loaded",
    );
}
