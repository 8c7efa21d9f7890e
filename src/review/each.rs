//! `each`: what a poll is read for.

use super::{
    pen::{At, Pen},
    rule,
    say::quoted,
};
use crate::plan::{EachFrom, EachPlan, Group};

pub(super) fn compare(pen: &mut Pen<'_>, at: &At, old: &[EachPlan], new: &[EachPlan]) {
    for plan in old.iter().filter(|plan| find(new, &plan.name).is_none()) {
        let effect = "its partitions are no longer read by themselves: what is read now begins at \
                      its start";
        pen.note(at, &key(plan), rule::EACH, "is gone", effect);
    }
    for plan in new {
        match find(old, &plan.name) {
            None => {
                let what = format!("is new: {}", stands_for(plan));
                let effect = "every partition begins at its start";
                pen.note(at, &key(plan), rule::EACH, what, effect);
            }
            Some(old) => one(pen, at, old, plan),
        }
    }
}

fn find<'p>(plans: &'p [EachPlan], name: &str) -> Option<&'p EachPlan> {
    plans.iter().find(|plan| &*plan.name == name)
}

fn key(plan: &EachPlan) -> String {
    format!("poll.each.{}", plan.name)
}

fn one(pen: &mut Pen<'_>, at: &At, old: &EachPlan, new: &EachPlan) {
    let EachPlan { name: _, from, group } = new;
    let (was, is) = (stands_for(old), stands_for(new));
    if was != is {
        let listed = matches!((&old.from, from), (EachFrom::Values(_), EachFrom::Values(_)));
        let (rule, effect) = if listed {
            (rule::EACH_CHOICE, "a new value begins at its start; one that is gone keeps its state")
        } else {
            (rule::EACH, "partitions of another name begin at their start")
        };
        pen.note(at, &key(new), rule, format!("changed from {was} to {is}"), effect);
    }
    let options = (options(old), options(new));
    if options.0 != options.1 {
        let what = format!("options changed from {} to {}", options.0, options.1);
        let effect = "more or fewer partitions are read; each has its own state";
        pen.note(at, &key(new), rule::EACH_CHOICE, what, effect);
    }
    if old.group != *group {
        let what = format!("{} instead of {}", in_a_request(*group), in_a_request(old.group));
        let effect = "`each` is a list where a request is for several";
        pen.note(at, &key(new), rule::EACH_CHOICE, what, effect);
    }
}

fn stands_for(plan: &EachPlan) -> String {
    match &plan.from {
        EachFrom::Values(expr) => format!("the values {}", expr.source()),
        EachFrom::Stream { stream, over: None, .. } => {
            format!("the records of stream {}", quoted(stream))
        }
        EachFrom::Stream { stream, over: Some(over), .. } => {
            format!("{} in the records of stream {}", quoted(over.source()), quoted(stream))
        }
    }
}

fn options(plan: &EachPlan) -> String {
    let EachFrom::Stream { stream: _, over: _, only, changed } = &plan.from else {
        return "none".to_owned();
    };
    let only = only.as_ref().map(|only| format!("only {}", only.source()));
    let changed = changed.then(|| "changed ones".to_owned());
    let said: Vec<String> = only.into_iter().chain(changed).collect();
    if said.is_empty() { "all of them".to_owned() } else { said.join(", ") }
}

fn in_a_request(group: Group) -> String {
    match group {
        Group::One => "one a request".to_owned(),
        Group::Of(count) => format!("{count} a request"),
        Group::All => "all in one request".to_owned(),
    }
}
