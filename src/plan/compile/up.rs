//! `up`: that a stream's expressions go no further out than `records` leads in.

use super::context::Context;
use crate::{
    definition::{
        collections::items,
        kinds::Expression,
        stream::StreamDef,
        table::{At, Given},
    },
    diagnostic::codes,
    map::Expr,
};

/// Reports uses of `up` where nothing encloses a record.
pub(super) fn check(context: &mut Context<'_>, def: &StreamDef, exprs: &[&Expr], levels: usize) {
    for expr in exprs {
        let chains = expr.chains("up");
        let level = |chain: &Vec<String>| 1 + chain.iter().take_while(|part| *part == "up").count();
        if chains.iter().map(level).max().is_none_or(|asked| asked <= levels) {
            continue;
        }
        let Some(given) = places(def).find(|given| given.value.text == expr.source()) else {
            continue;
        };
        let (message, label) = if levels == 0 {
            ("nothing encloses a record here", "`up` does not exist here".to_owned())
        } else {
            ("`up` leads further out than records lie in", format!("there are {levels} levels"))
        };
        context.error(codes::NAME_NOT_HERE, given.at, message, label).help(HELP);
    }
}

const HELP: &str = "each wildcard of `records` but the last is a level: of \"$.orders[*].lines[*]\" \
                    the order is `up`; of \"$.data.*\" the name under which a record stands is \
                    `up.name`";

/// All that is evaluated when a record comes in.
fn places(def: &StreamDef) -> impl Iterator<Item = &At<Expression>> {
    let with = def.with.value().map_or(&[][..], |pairs| pairs.0.as_slice());
    let others = [&def.revision, &def.tenant, &def.when, &def.delete];
    items(&def.key)
        .iter()
        .chain(others.into_iter().filter_map(Given::get))
        .chain(with.iter().map(|(_, value)| value))
}
