//! `on` of a destination: each rule can fit, and has what it needs.

use super::{
    super::{Ending, Verdict, VerdictPlan},
    context::Context,
    on::{Claimed, check_order, condition, misplaced, wait},
};
use crate::{
    definition::{
        table::{At, Given},
        verdict::{ElseDef, ThenDef, VerdictDef},
    },
    diagnostic::codes,
    map::{Expr, Site},
};

/// The rules in the order in which they are tried; `None` where one is wrong.
pub(super) fn compile(
    context: &mut Context<'_>,
    given: &Given<Vec<At<VerdictDef>>>,
    site: &Site,
    path: &str,
) -> Option<Vec<VerdictPlan>> {
    let rules = match given {
        Given::Absent => return Some(Vec::new()),
        Given::Invalid(_) => return None,
        Given::Value(given) => &given.value,
    };
    let order = rules.iter().map(|rule| Claimed {
        at: rule.at,
        statuses: &rule.value.status,
        when: &rule.value.when,
    });
    check_order(context, &order.collect::<Vec<_>>());
    let compiled: Vec<_> = rules.iter().map(|rule| one(context, rule, site, path)).collect();
    compiled.into_iter().collect()
}

fn one(
    context: &mut Context<'_>,
    rule: &At<VerdictDef>,
    site: &Site,
    path: &str,
) -> Option<VerdictPlan> {
    let def = &rule.value;
    let (statuses, when) = condition(context, (rule.at, &def.status, &def.when), site, path)?;
    let message = context.maybe(&def.message, site, &format!("{path}.on.message"));
    if def.message.is_absent() != message.is_none() {
        return None;
    }
    let then = *def.then.value()?;
    check_keys(context, def, then);
    let reason = def.reason.value().map(|reason| reason.0.clone());
    let then = verdict(context, def, then, (site, path))?;
    let mut plan = VerdictPlan { statuses, when, then, message, reason, of_item: false };
    let is_of_item = |name: &str| site.names.contains(&"item") && OF_ITEM.contains(&name);
    let of_item = plan.exprs().flat_map(Expr::uses).any(|(name, _)| is_of_item(&name));
    plan.of_item = of_item;
    if plan.of_item && matches!(plan.then, Verdict::Reauth) {
        context
            .error(
                codes::BAD_RULE,
                rule.at,
                "credentials are renewed for a request, not for one event of it",
                "this rule looks at one event",
            )
            .help("go by `response` and `status` alone, or write then = \"hold\"");
        return None;
    }
    Some(plan)
}

/// The names of one event of a batch.
const OF_ITEM: &[&str] = &["item", "out", "event"];

fn verdict(
    context: &mut Context<'_>,
    def: &VerdictDef,
    then: ThenDef,
    (site, path): (&Site, &str),
) -> Option<Verdict> {
    Some(match then {
        ThenDef::Delivered => Verdict::End(Ending::Delivered),
        ThenDef::Superseded => Verdict::End(Ending::Superseded),
        ThenDef::Dead => Verdict::End(Ending::Dead),
        ThenDef::Hold => Verdict::End(Ending::Hold),
        ThenDef::Reauth => Verdict::Reauth,
        ThenDef::Wait => {
            Verdict::Wait(wait(context, (&def.wait_for, &def.wait_until), site, path)?)
        }
        ThenDef::Retry => Verdict::Retry {
            times: def.times.value().map(|times| times.0 as u32),
            otherwise: match def.otherwise.value() {
                Some(ElseDef::Delivered) => Ending::Delivered,
                Some(ElseDef::Superseded) => Ending::Superseded,
                Some(ElseDef::Hold) => Ending::Hold,
                Some(ElseDef::Dead) | None => Ending::Dead,
            },
        },
    })
}

/// Keys that another `then` would use.
fn check_keys(context: &mut Context<'_>, def: &VerdictDef, then: ThenDef) {
    let ends_dead = match then {
        ThenDef::Dead => true,
        ThenDef::Retry => matches!(def.otherwise.value(), None | Some(ElseDef::Dead)),
        _ => false,
    };
    for (name, at) in def.given() {
        let owner = match name {
            "times" | "else" => "retry",
            "for" | "until" => "wait",
            "reason" if !ends_dead => "dead",
            _ => continue,
        };
        if then.word() != owner {
            misplaced(context, (name, at), then.word(), owner);
        }
    }
}
