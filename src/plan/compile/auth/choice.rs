//! `auth = "{{ vars.auth }}"`: credentials chosen by variable, checked for every value.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value};

use super::{
    super::{connector::Whole, context::Context, sites},
    Auths, known,
};
use crate::{
    definition::{kinds::Expression, table::At, vars::VarEntry},
    diagnostic::codes,
    map::{Env, Expr},
};

/// Combinations of values that one choice may have.
const MOST_COMBINATIONS: usize = 64;

/// The variables of a connector, as far as a choice needs to know them.
pub(super) struct Choices {
    /// By name: every value allowed. A variable that takes any value is not in it.
    allowed: BTreeMap<String, Vec<Value>>,
    /// The values there are.
    values: Map<String, Value>,
}

impl Choices {
    pub fn of(whole: Whole<'_>, values: &Value) -> Self {
        let declared = whole.body.vars.value().map_or(&[][..], |named| named.0.as_slice());
        let bounded = declared.iter().filter_map(|(name, entry)| match &entry.value {
            VarEntry::Declared(def) => {
                let values = def.one_of.value()?.iter().map(|item| item.value.0.clone()).collect();
                Some((name.clone(), values))
            }
            VarEntry::Value(_) => None,
        });
        let values = values.as_object().cloned().unwrap_or_default();
        Self { allowed: bounded.collect(), values }
    }

    /// Every combination of values of these variables.
    fn combinations(&self, vars: &[String]) -> Vec<Map<String, Value>> {
        let mut all = vec![self.values.clone()];
        for var in vars {
            let values = self.allowed.get(var).map_or(&[][..], Vec::as_slice);
            all = all
                .iter()
                .flat_map(|chosen| {
                    values.iter().map(|value| {
                        let mut chosen = chosen.clone();
                        chosen.insert(var.clone(), value.clone());
                        chosen
                    })
                })
                .take(MOST_COMBINATIONS + 1)
                .collect();
        }
        all
    }
}

/// The name that is chosen; where the variable has no value yet, the first that could be.
pub(super) fn resolve(
    context: &mut Context<'_>,
    given: &At<Expression>,
    auths: &Auths,
) -> Option<Arc<str>> {
    let expr = context.expr(given, &sites::VARS, "auth")?;
    let vars: Vec<String> = expr.uses().into_iter().filter_map(|(_, var)| var).collect();
    if !is_bounded(context, given, &vars, auths) {
        return None;
    }
    let combinations = auths.choices.combinations(&vars);
    if combinations.len() > MOST_COMBINATIONS {
        let label = format!("expected at most {MOST_COMBINATIONS} combinations of values");
        context.error(codes::UNBOUND_AUTH, given.at, "a choice that is too wide", label);
        return None;
    }
    let mut offered: Vec<Arc<str>> = Vec::new();
    for values in combinations {
        let name = chosen(context, &expr, given, values)?;
        if !offered.iter().any(|known| **known == *name) {
            offered.push(known(context, &name, given.at, auths)?);
        }
    }
    let all_given = vars.iter().all(|var| auths.choices.values.contains_key(var));
    let name = if all_given {
        Arc::from(chosen(context, &expr, given, auths.choices.values.clone())?)
    } else {
        offered.first()?.clone()
    };
    if all_given {
        context.auths_offered.extend(offered.iter().map(ToString::to_string));
        context.auths_chosen.insert(name.to_string());
    } else {
        context.auths_chosen.extend(offered.iter().map(ToString::to_string));
    }
    Some(name)
}

/// Whether each variable lists its values.
fn is_bounded(
    context: &mut Context<'_>,
    given: &At<Expression>,
    vars: &[String],
    auths: &Auths,
) -> bool {
    let Some(open) = vars.iter().find(|var| !auths.choices.allowed.contains_key(*var)) else {
        return true;
    };
    let names: Vec<String> = auths.names.iter().map(|name| format!("\"{name}\"")).collect();
    context
        .error(
            codes::UNBOUND_AUTH,
            given.at,
            format!("`vars.{open}` may have any value"),
            "each value must name an [auth.NAME] table",
        )
        .help(format!("declare it as {open} = {{ one_of = [{}] }}", names.join(", ")));
    false
}

fn chosen(
    context: &mut Context<'_>,
    expr: &Expr,
    given: &At<Expression>,
    values: Map<String, Value>,
) -> Option<String> {
    let env = Env::new().with("vars", Arc::new(Value::Object(values)));
    match expr.text(&env) {
        Ok(text) => Some(text.unwrap_or_default()),
        Err(error) => {
            let label = error.to_string();
            context.error(codes::NOT_RENDERED, given.at, "this does not give a name", label);
            None
        }
    }
}
