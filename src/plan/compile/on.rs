//! `on`: a stream's rules, then the source's; each can fit, and has what it needs.

use super::{
    super::{End, RulePlan, Then, WaitPlan},
    context::Context,
    sites,
};
use crate::{
    definition::{
        collections::items,
        kinds::Expression,
        on::{ElseDef, RuleDef, StatusDef, ThenDef},
        table::{At, Given},
        units,
    },
    diagnostic::codes,
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
        check_order(context, &given.value);
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
    if matches!(def.status, Given::Invalid(_)) {
        return None;
    }
    let statuses: Vec<_> =
        items(&def.status).iter().map(|at| at.value.from..=at.value.to).collect();
    if statuses.is_empty() && def.when.is_absent() {
        context
            .error(
                codes::BAD_RULE,
                rule.at,
                "a rule for every answer",
                "`status` or `when` expected here",
            )
            .help("say which answers it is for: status = 404, or when = \"{{ response.body.error }}\"");
        return None;
    }
    let (site, at) = (&sites::RULE, format!("{path}.on.when"));
    let when = context.condition(codes::BAD_RULE, ("when", &def.when), site, &at);
    let message = context.maybe(&def.message, &sites::RULE, &format!("{path}.on.message"));
    if def.when.is_absent() != when.is_none() || def.message.is_absent() != message.is_none() {
        return None;
    }
    let then = *def.then.value()?;
    check_keys(context, def, then);
    Some(RulePlan { statuses, when, then: then_of(context, def, then, path)?, message })
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
        ThenDef::Wait => Then::Wait(wait(context, def, path)?),
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
fn wait(context: &mut Context<'_>, def: &RuleDef, path: &str) -> Option<Option<WaitPlan>> {
    if context.exclude(("for", def.wait_for.key()), ("until", def.wait_until.key())) {
        return None;
    }
    if let Some(until) = def.wait_until.get() {
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
        let until = context.expr(until, &sites::RULE, &format!("{path}.on.until"))?;
        return Some(Some(WaitPlan::Until(until)));
    }
    let Some(given) = def.wait_for.get() else {
        return def.wait_for.is_absent().then_some(None);
    };
    if !is_text(given) {
        let expr = context.expr(given, &sites::RULE, &format!("{path}.on.for"))?;
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
    let takes: &[&str] = match then {
        ThenDef::Retry => &["times", "else"],
        ThenDef::Wait => &["for", "until"],
        _ => &[],
    };
    for (name, at) in def.given() {
        let owner = match name {
            "times" | "else" => "retry",
            "for" | "until" => "wait",
            _ => continue,
        };
        if !takes.contains(&name) {
            let label = format!("then = \"{}\" does not use it", then.word());
            context
                .error(codes::MISPLACED_KEY, at, format!("`{name}` has no effect here"), label)
                .help(format!("it belongs to then = \"{owner}\""));
        }
    }
}

/// A rule behind one that takes all its answers is a mistake.
fn check_order(context: &mut Context<'_>, rules: &[At<RuleDef>]) {
    for (index, rule) in rules.iter().enumerate() {
        let own = items(&rule.value.status);
        let takes_all = |earlier: &&At<RuleDef>| {
            let statuses = items(&earlier.value.status);
            earlier.value.when.is_absent()
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
