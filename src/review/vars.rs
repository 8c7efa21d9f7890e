//! `[vars]`: what instances have to give, may give, and may no longer give.

use serde_json::Value;

use super::{
    Subject,
    pair::Matched,
    pen::{At, Pen},
    rule, say,
};
use crate::{
    definition::{
        connector::ConnectorDef,
        table::At as Located,
        vars::{VarDef, VarEntry},
    },
    plan::ConnectorPlan,
};

/// A variable as an instance sees it.
#[derive(Default)]
struct Declared {
    default: Option<Value>,
    one_of: Option<Vec<Value>>,
    texts: [Option<String>; 2],
}

impl Declared {
    fn of(entry: &Located<VarEntry>) -> Self {
        match &entry.value {
            VarEntry::Value(value) => Self { default: Some(value.clone()), ..Self::default() },
            VarEntry::Declared(def) => {
                let VarDef { at: _, doc, example, default, one_of } = def.as_ref();
                let values = |list: &Vec<Located<crate::definition::collections::Scalar>>| {
                    list.iter().map(|item| item.value.0.clone()).collect()
                };
                Self {
                    default: default.value().map(|scalar| scalar.0.clone()),
                    one_of: one_of.value().map(values),
                    texts: [
                        doc.value().map(|doc| doc.0.clone()),
                        example.value().map(|example| example.0.to_string()),
                    ],
                }
            }
        }
    }
}

/// The declarations.
pub(super) fn compare(
    pen: &mut Pen<'_>,
    (old, new): (&ConnectorDef, &ConnectorDef),
    vars: &Matched,
) {
    let find = |def: &ConnectorDef, name: &str| {
        def.vars.value().and_then(|vars| vars.find(name)).map(Declared::of)
    };
    for (old_name, name) in &vars.both {
        let at = At::renamed(Subject::Var(name.clone()), "vars", old_name);
        let (Some(was), Some(is)) = (find(old, old_name), find(new, name)) else { continue };
        if old_name != name {
            let what = format!("renamed from `{old_name}`");
            let effect = "instances have to give it by the new name";
            pen.note(&at, "", rule::VAR_RENAMED, what, effect);
        }
        declaration(pen, &at, &was, &is);
    }
    for name in &vars.added {
        let at = At::of(Subject::Var(name.clone()), "vars");
        if let Some(default) = find(new, name).and_then(|var| var.default) {
            let what = format!("is new, by default {}", say::constant(&default));
            pen.note(&at, "", rule::VAR_ADDED, what, "instances may give it");
        } else {
            let effect = "every instance has to give it and does not load until it does";
            pen.note(&at, "", rule::VAR_REQUIRED, "is new, without a default", effect);
        }
    }
    for name in &vars.removed {
        let at = At::of(Subject::Var(name.clone()), "vars");
        let effect = "instances that give it do not load until they no longer do";
        pen.note(&at, "", rule::VAR_REMOVED, "is gone", effect);
    }
}

fn declaration(pen: &mut Pen<'_>, at: &At, old: &Declared, new: &Declared) {
    let Declared { default, one_of, texts } = new;
    match (&old.default, default) {
        (Some(was), None) => {
            let what = format!("default removed, was {}", say::constant(was));
            let effect = "instances that do not give it no longer load";
            pen.note(at, "", rule::VAR_REQUIRED, what, effect);
        }
        (None, Some(is)) => {
            let what = format!("default added: {}", say::constant(is));
            pen.note(at, "", rule::VAR_WIDENED, what, "instances need not give it any more");
        }
        _ => {}
    }
    let allowed = |list: &Option<Vec<Value>>| -> Option<Vec<String>> {
        list.as_ref().map(|values| values.iter().map(Value::to_string).collect())
    };
    let (was, is) = (allowed(&old.one_of), allowed(one_of));
    let lacks = |one: &Option<Vec<String>>, other: &Option<Vec<String>>| -> Vec<String> {
        let (Some(one), Some(other)) = (one, other) else { return Vec::new() };
        one.iter().filter(|value| !other.contains(value)).cloned().collect()
    };
    let (gone, fresh) = (lacks(&was, &is), lacks(&is, &was));
    match (&was, &is) {
        (None, Some(is)) => {
            let what = format!("takes only {}", say::list(is));
            let effect = "instances that give anything else do not load";
            pen.note(at, "one_of", rule::VAR_NARROWED, what, effect);
        }
        (Some(_), None) => pen.note(at, "one_of", rule::VAR_WIDENED, "takes anything", ""),
        _ => {}
    }
    if !gone.is_empty() {
        let effect = "instances that give it do not load";
        let what = format!("no longer takes {}", say::list(&gone));
        pen.note(at, "one_of", rule::VAR_NARROWED, what, effect);
    }
    if !fresh.is_empty() {
        let what = format!("also takes {}", say::list(&fresh));
        pen.note(at, "one_of", rule::VAR_WIDENED, what, "");
    }
    if old.texts != *texts {
        pen.note(at, "", rule::VAR_TEXT, "is described otherwise", "");
    }
}

/// Values that differ, where no change told so far stands at their line.
pub(super) fn values(pen: &mut Pen<'_>, (old, new): (&ConnectorPlan, &ConnectorPlan)) {
    let (Value::Object(was), Value::Object(is)) = (old.vars.as_ref(), new.vars.as_ref()) else {
        return;
    };
    for (name, value) in is {
        let Some(before) = was.get(name).filter(|before| *before != value) else { continue };
        let path = format!("/vars.{name}");
        let at = At::of(Subject::Var(name.clone()), "vars");
        let is_told = pen.is_told_at(&path);
        if !is_told {
            let what = format!("{} → {}", say::constant(before), say::constant(value));
            pen.note_at(&at, "", &[&path], rule::VAR_VALUE, what, "");
        }
    }
}
