//! `[auth.NAME]`: which keys each type needs, and the plan.

mod choice;
mod kind;
mod login;
mod oauth2;
mod token;

use std::{ops::Range, sync::Arc};

use super::{super::AuthPlan, connector::Whole, context::Context, vars::Vars};
use crate::{
    definition::{
        auth::{AuthDef, AuthType},
        kinds::{Expression, Plain},
        table::{At, Given, Loc, Table, list_of, sentence},
    },
    diagnostic::{Code, codes},
    map::Expr,
};

/// The credentials of a connector.
pub(super) struct Auths {
    /// Those that compiled.
    pub plans: Vec<AuthPlan>,
    /// Every name that is defined.
    pub names: Vec<String>,
    /// Which of the secrets that the context noted each table names.
    secrets: Vec<(String, Range<usize>)>,
    /// What a choice by variable may depend on.
    choices: choice::Choices,
}

/// Certificates first, since other tables name them; logins last, since they name others.
const PASSES: [fn(AuthType) -> bool; 3] = [
    |kind| kind == AuthType::Mtls,
    |kind| !matches!(kind, AuthType::Mtls | AuthType::Login),
    |kind| kind == AuthType::Login,
];

pub(super) fn compile_all(context: &mut Context<'_>, whole: Whole<'_>, vars: &Vars) -> Auths {
    let mut auths = Auths {
        plans: Vec::new(),
        names: Vec::new(),
        secrets: Vec::new(),
        choices: choice::Choices::of(whole, &vars.values),
    };
    let own = whole.own.auth.value();
    let base = whole.body.auth.value().filter(|_| whole.is_instance);
    let mut defs: Vec<(&str, &AuthDef)> = Vec::new();
    for (name, def) in own.into_iter().chain(base).flat_map(|named| &named.0) {
        // An instance's own credentials replace those of the same name.
        if !auths.names.contains(name) {
            auths.names.push(name.clone());
            defs.push((name, &def.value));
        }
    }
    for pass in PASSES {
        for (name, def) in
            defs.iter().filter(|(_, def)| def.kind.value().is_some_and(|kind| pass(*kind)))
        {
            let before = context.secrets_noted();
            if let Some(plan) = kind::compile(context, whole, (name, def), &auths) {
                auths.plans.push(plan);
            }
            auths.secrets.push(((*name).to_owned(), before..context.secrets_noted()));
        }
    }
    auths
}

impl Auths {
    /// Leaves out what a choice by variable offers and this connector does not choose: its secrets
    /// need not be set.
    pub fn retire(&mut self, context: &mut Context<'_>) {
        let mut kept = context.auths_chosen.clone();
        for plan in self.plans.iter().filter(|plan| context.auths_chosen.contains(&*plan.name)) {
            kept.extend(named_by(plan));
        }
        let offered = std::mem::take(&mut context.auths_offered);
        let is_idle = |name: &str| offered.contains(name) && !kept.contains(name);
        for (_, noted) in self.secrets.iter().filter(|(name, _)| is_idle(name)) {
            context.forgo_secrets(noted.clone());
        }
        self.plans.retain(|plan| !is_idle(&plan.name));
    }

    fn find(&self, name: &str) -> Option<&AuthPlan> {
        self.plans.iter().find(|plan| *plan.name == *name)
    }
}

/// The tables that a table is made with.
fn named_by(plan: &AuthPlan) -> Vec<String> {
    let settings = plan.settings();
    let names = settings.into_iter().filter_map(|(key, setting)| match setting {
        super::super::Setting::Word(name) if matches!(&*key, "identity" | "request.auth") => {
            Some(name)
        }
        _ => None,
    });
    names.collect()
}

/// The name of an `[auth.NAME]` table, if it exists. A template over variables chooses one: then
/// every value that it can have is a name that exists.
pub(super) fn resolve(
    context: &mut Context<'_>,
    given: &Given<Expression>,
    auths: &Auths,
) -> Option<Arc<str>> {
    let given = given.get()?;
    if given.value.text.contains("{{") || given.value.text.contains("{%") {
        return choice::resolve(context, given, auths);
    }
    let name = &given.value.text;
    context.auths_chosen.insert(name.clone());
    known(context, name, given.at, auths)
}

fn known(context: &mut Context<'_>, name: &str, at: Loc, auths: &Auths) -> Option<Arc<str>> {
    if auths.names.iter().any(|known| known == name) {
        return Some(Arc::from(name));
    }
    let known = auths.names.iter().map(String::as_str);
    context
        .unknown(codes::UNKNOWN_AUTH, at, "auth", name, known)
        .help(format!("credentials stand in a table of their own: [auth.{name}]"));
    None
}

/// A table that another one is made with, compiled before it.
fn named<'a>(
    context: &mut Context<'_>,
    given: &Given<Plain>,
    auths: &'a Auths,
    (fits, expected): (fn(&AuthPlan) -> bool, &str),
) -> Option<&'a AuthPlan> {
    let given = given.get()?;
    let name = &given.value.0;
    known(context, name, given.at, auths)?;
    let found = auths.find(name).filter(|plan| fits(plan));
    if found.is_none() && !context.has_errors() {
        context.error(
            codes::UNUSABLE_AUTH,
            given.at,
            format!("[auth.{name}] cannot be used here"),
            format!("expected {expected}"),
        );
    }
    found
}

/// Reports keys that a type needs and does not have, or has and does not need.
pub(super) fn check_keys(
    context: &mut Context<'_>,
    (title, word, at): (&str, &str, Loc),
    table: &'static Table,
    given: &[(&'static str, Loc)],
    (required, allowed): (&[&str], &[&str]),
    code: Code,
) -> bool {
    let missing: Vec<&str> = required
        .iter()
        .filter(|key| !given.iter().any(|(name, _)| name == *key))
        .copied()
        .collect();
    if !missing.is_empty() {
        let names = list_of(missing.iter().copied());
        let noun = if missing.len() == 1 { "key" } else { "keys" };
        let docs = table.keys.iter().filter(|key| missing.contains(&key.name)).map(|key| {
            // Docs of such keys begin with the types that they belong to.
            let doc = key.doc.rsplit_once("`: ").map_or(key.doc, |(_, doc)| doc);
            format!("add `{} = ...`: {}", key.name, sentence(doc))
        });
        context
            .error(
                code,
                at,
                format!("missing {noun} {names} in {title}"),
                format!("type \"{word}\" needs {names}"),
            )
            .help(docs.collect::<Vec<_>>().join("\n"));
    }
    for (name, key) in given {
        if !required.contains(name) && !allowed.contains(name) {
            let all = required.iter().chain(allowed).filter(|key| **key != "type").copied();
            context
                .error(
                    codes::MISPLACED_KEY,
                    *key,
                    format!("`{name}` has no effect here"),
                    format!("type \"{word}\" does not use it"),
                )
                .help(format!("\"{word}\" takes {}", list_of(all)));
        }
    }
    missing.is_empty()
}

/// A header's name, checked.
pub(super) fn header_name(context: &mut Context<'_>, given: &Given<Plain>) -> Option<String> {
    let name = given.get()?;
    check_header(context, &name.value.0, name.at).then(|| name.value.0.clone())
}

/// Whether a text can be a header's name; if not, that is reported.
pub(super) fn check_header(context: &mut Context<'_>, name: &str, at: Loc) -> bool {
    let fine = http::HeaderName::from_bytes(name.as_bytes()).is_ok();
    if !fine {
        context.error(
            codes::BAD_HEADER,
            at,
            format!("`{}` is not a header name", name.escape_debug()),
            "expected letters, digits and `-`",
        );
    }
    fine
}

/// Headers with their names checked.
pub(super) fn headers<'d>(
    context: &mut Context<'_>,
    given: impl IntoIterator<Item = &'d (String, At<crate::definition::kinds::Expression>)>,
    site: &crate::map::Site,
    path: &str,
) -> Vec<(String, Expr)> {
    let mut headers = Vec::new();
    for (name, value) in given {
        let fine = check_header(context, name, value.key);
        let expr = context.expr(value, site, &format!("{path}.{name}"));
        if let (true, Some(expr)) = (fine, expr) {
            headers.push((name.clone(), expr));
        }
    }
    headers
}
