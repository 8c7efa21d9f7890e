//! `on`: a stream's rules, then the source's; each can fit, and has what it needs. What the rules of
//! destinations share with them is here, too.

use std::ops::RangeInclusive;

use super::{
    super::{End, RulePlan, Then, WaitPlan},
    context::Context,
    sites,
};
use crate::{
    definition::{
        collections::{OneOrMany, items},
        kinds::Expression,
        on::{ElseDef, RuleDef, StatusDef, ThenDef},
        table::{At, Given, Loc},
        units,
    },
    diagnostic::codes,
    map::{Expr, Site},
};

/// How often `retry` sends a request again.
const DEFAULT_TIMES: u32 = 3;

/// The rules in the order in which they are tried; `None` where one is wrong.
pub(super) fn compile(
    context: &mut Context<'_>,
    lists: [&Given<Vec<At<RuleDef>>>; 2],
    path: &str,
) -> Option<Vec<RulePlan>> {
    let mut rules = Some(Vec::new());
    for list in lists {
        let given = match list {
            Given::Absent => continue,
            Given::Invalid(_) => return None,
            Given::Value(given) => given,
        };
        let order = given.value.iter().map(|rule| Claimed {
            at: rule.at,
            statuses: &rule.value.status,
            when: &rule.value.when,
        });
        check_order(context, &order.collect::<Vec<_>>());
        for rule in &given.value {
            let compiled = compile_one(context, rule, path);
            rules = rules.zip(compiled).map(|(mut rules, rule)| {
                rules.push(rule);
                rules
            });
        }
    }
    rules
}

fn compile_one(context: &mut Context<'_>, rule: &At<RuleDef>, path: &str) -> Option<RulePlan> {
    let def = &rule.value;
    let (statuses, when) =
        condition(context, (rule.at, &def.status, &def.when), &sites::RULE, path)?;
    let message = context.maybe(&def.message, &sites::RULE, &format!("{path}.on.message"));
    if def.message.is_absent() != message.is_none() {
        return None;
    }
    let then = *def.then.value()?;
    check_keys(context, def, then);
    Some(RulePlan { statuses, when, then: then_of(context, def, then, path)?, message })
}

/// Which answers a rule is for.
pub(super) fn condition(
    context: &mut Context<'_>,
    (at, status, when): (Loc, &Given<OneOrMany<StatusDef>>, &Given<Expression>),
    site: &Site,
    path: &str,
) -> Option<(Vec<RangeInclusive<u16>>, Option<Expr>)> {
    if matches!(status, Given::Invalid(_)) {
        return None;
    }
    let statuses: Vec<_> = items(status).iter().map(|at| at.value.from..=at.value.to).collect();
    if statuses.is_empty() && when.is_absent() {
        context
            .error(codes::BAD_RULE, at, "a rule for every answer", "`status` or `when` expected here")
            .help("say which answers it is for: status = 404, or when = \"{{ response.body.error }}\"");
        return None;
    }
    let place = format!("{path}.on.when");
    let compiled = context.condition(codes::BAD_RULE, ("when", when), site, &place);
    (when.is_absent() == compiled.is_none()).then_some((statuses, compiled))
}

fn then_of(context: &mut Context<'_>, def: &RuleDef, then: ThenDef, path: &str) -> Option<Then> {
    Some(match then {
        ThenDef::Retry => Then::Retry {
            times: def.times.value().map_or(DEFAULT_TIMES, |times| times.0 as u32),
            otherwise: def.otherwise.value().map(|otherwise| match otherwise {
                ElseDef::Skip => End::Skip,
                ElseDef::Stop => End::Stop,
                ElseDef::Fail => End::Fail,
                ElseDef::Hold => End::Hold,
            }),
        },
        ThenDef::Wait => {
            let keys = (&def.wait_for, &def.wait_until);
            Then::Wait(wait(context, keys, &sites::RULE, path)?)
        }
        ThenDef::Reauth => Then::Reauth,
        ThenDef::Restart => Then::Restart,
        ThenDef::Skip => Then::End(End::Skip),
        ThenDef::Stop => Then::End(End::Stop),
        ThenDef::Fail => Then::End(End::Fail),
        ThenDef::Hold => Then::End(End::Hold),
    })
}

/// The outer `None` is a mistake, the inner one leaves it to the API.
#[allow(clippy::option_option)]
pub(super) fn wait(
    context: &mut Context<'_>,
    (wait_for, wait_until): (&Given<Expression>, &Given<Expression>),
    site: &Site,
    path: &str,
) -> Option<Option<WaitPlan>> {
    if context.exclude(("for", wait_for.key()), ("until", wait_until.key())) {
        return None;
    }
    if let Some(until) = wait_until.get() {
        if is_text(until) {
            context
                .error(
                    codes::BAD_RULE,
                    until.at,
                    "`until` is always the same",
                    "expected a path or a template",
                )
                .help("write until = \"{{ response.headers['x-ratelimit-reset'] }}\"");
            return None;
        }
        let until = context.expr(until, site, &format!("{path}.on.until"))?;
        return Some(Some(WaitPlan::Until(until)));
    }
    let Some(given) = wait_for.get() else {
        return wait_for.is_absent().then_some(None);
    };
    if !is_text(given) {
        let expr = context.expr(given, site, &format!("{path}.on.for"))?;
        return Some(Some(WaitPlan::ForGiven(expr)));
    }
    match units::duration(&given.value.text) {
        Ok(duration) => Some(Some(WaitPlan::For(duration))),
        Err(wrong) => {
            let reported = context.error(
                codes::BAD_DURATION,
                given.at,
                "`for` is not a duration",
                wrong.label,
            );
            if let Some(help) = wrong.help {
                reported.help(help);
            }
            None
        }
    }
}

fn is_text(given: &At<Expression>) -> bool {
    let text = &given.value.text;
    !text.starts_with('$') && !text.contains("{{") && !text.contains("{%")
}

/// Keys that another `then` would use.
fn check_keys(context: &mut Context<'_>, def: &RuleDef, then: ThenDef) {
    for (name, at) in def.given() {
        let owner = match name {
            "times" | "else" => "retry",
            "for" | "until" => "wait",
            _ => continue,
        };
        if then.word() != owner {
            misplaced(context, (name, at), then.word(), owner);
        }
    }
}

/// A key that another `then` would use.
pub(super) fn misplaced(
    context: &mut Context<'_>,
    (name, at): (&str, Loc),
    then: &str,
    owner: &str,
) {
    let label = format!("then = \"{then}\" does not use it");
    context
        .error(codes::MISPLACED_KEY, at, format!("`{name}` has no effect here"), label)
        .help(format!("it belongs to then = \"{owner}\""));
}

/// What a rule is for, to be told from what others are for.
pub(super) struct Claimed<'d> {
    /// The rule.
    pub at: Loc,
    /// `status`
    pub statuses: &'d Given<OneOrMany<StatusDef>>,
    /// `when`
    pub when: &'d Given<Expression>,
}

/// A rule behind one that takes all its answers is a mistake.
pub(super) fn check_order(context: &mut Context<'_>, rules: &[Claimed<'_>]) {
    for (index, rule) in rules.iter().enumerate() {
        let own = items(rule.statuses);
        let takes_all = |earlier: &&Claimed<'_>| {
            let statuses = items(earlier.statuses);
            earlier.when.is_absent()
                && !own.is_empty()
                && own.iter().all(|own| statuses.iter().any(|s| covers(s.value, own.value)))
        };
        if let Some(earlier) = rules[..index].iter().find(takes_all) {
            context
                .error(
                    codes::BAD_RULE,
                    rule.at,
                    "a rule that is never reached",
                    "every answer that it is for is taken before",
                )
                .related(earlier.at, "by this one: the first that fits decides")
                .help("put the narrower rule first");
        }
    }
}

fn covers(outer: StatusDef, inner: StatusDef) -> bool {
    outer.from <= inner.from && inner.to <= outer.to
}
