//! The connector as a whole: what it is called, where it lies, what it promises; then its parts.

use std::sync::Arc;

use super::{
    Change, Filed, Side, Subject, auth, destination, library,
    pair::{self, Matched},
    pen::{At, Pen, Sheet},
    places::Places,
    rollout, rule,
    said::{Names, Renames},
    say, secrets, stream, vars,
};
use crate::{
    definition::{collections::Named, connector::ConnectorDef, table::Given},
    plan::{ConnectorPlan, SloPlan, Written},
    world::Secret,
};

/// What stands for a literal secret.
const MASK: &str = "[redacted]";

/// What was renamed and matched, for all parts.
pub(super) struct Parts {
    pub streams: Matched,
    pub destinations: Matched,
    pub auths: Matched,
    pub maps: Matched,
    pub lookups: Matched,
    pub vars: Matched,
}

/// A connector that is new or gone.
pub(super) fn appearance(file: &Filed, is_gone: bool) -> Change {
    let spot = Places::of(&file.written.texts).find(&["name".to_owned()]);
    let plan = file.plan();
    let streams: Vec<&str> =
        plan.iter().flat_map(|plan| &plan.streams).map(|stream| &*stream.name).collect();
    let what = match (is_gone, streams.as_slice()) {
        (true, _) => "connector is gone".to_owned(),
        (false, []) => "connector is new".to_owned(),
        (false, [one]) => format!("connector is new, with stream `{one}`"),
        (false, many) => format!("connector is new, with streams {}", say::list(many)),
    };
    let effect = if is_gone {
        "its events stop, its webhooks answer 404; what it had not delivered waits until a connector \
         of this name comes back"
            .to_owned()
    } else {
        needs(plan)
    };
    let (old, new) = if is_gone { (spot, None) } else { (None, spot) };
    Change {
        rule: if is_gone { rule::CONNECTOR_REMOVED } else { rule::CONNECTOR_ADDED },
        subjects: vec![Subject::Connector],
        key: String::new(),
        what,
        effect,
        old,
        new,
    }
}

/// What a new connector asks of operators.
fn needs(plan: Option<&Arc<ConnectorPlan>>) -> String {
    let Some(plan) = plan else { return String::new() };
    let mut needs = Vec::new();
    if !plan.secrets_used.is_empty() {
        let noun = if plan.secrets_used.len() == 1 { "secret" } else { "secrets" };
        needs.push(format!("the {noun} {}", say::list(&plan.secrets_used)));
    }
    let hosts = secrets::hosts(plan, &names(plan, None));
    if !hosts.is_empty() {
        needs.push(format!("a way to {}", say::list(&hosts)));
    }
    if needs.is_empty() { String::new() } else { format!("it needs {}", say::and(&needs)) }
}

fn names<'a>(plan: &'a ConnectorPlan, renames: Option<&'a Renames>) -> Names<'a> {
    Names { vars: &plan.vars, secrets: &plan.secret_names, renames }
}

/// Everything that differs between two sides of one connector.
pub(super) fn compare(
    (old_side, old): (&Side, &Filed),
    (new_side, new): (&Side, &Filed),
) -> Vec<Change> {
    let (Some(was), Some(is)) = (old.plan(), new.plan()) else { return Vec::new() };
    let places = (Places::of(&old.written.texts), Places::of(&new.written.texts));
    let parts = match_parts(&old.written, &new.written, (was, is), (&places.0, &places.1));
    let mut renames = Renames {
        maps: parts.maps.renames(),
        lookups: parts.lookups.renames(),
        vars: parts.vars.renames(),
        auths: parts.auths.renames(),
        destinations: parts.destinations.renames(),
        ..Renames::default()
    };
    renames.secrets = secrets::renames((was, is), &renames, &parts);
    let mut pen = Pen::new(
        Sheet { places: &places.0, names: names(was, Some(&renames)) },
        Sheet { places: &places.1, names: names(is, None) },
    );
    let bodies = (old.written.body(), new.written.body());
    plans(&mut pen, (was, is), &parts, &renames);
    library::compare(&mut pen, bodies, &parts);
    stream::schemas(&mut pen, (was, is), &parts, (&old_side.schemas, &new_side.schemas));
    vars::compare(&mut pen, bodies, &parts.vars);
    vars::values(&mut pen, (was, is));
    secrets::compare(&mut pen, (was, is), &renames);
    papers(&mut pen, (old, new), (was, is));
    text(&mut pen, (old, new), was.content == is.content);

    let mut changes = pen.into_changes();
    let hidden = old.written.hidden.iter().chain(&new.written.hidden);
    let hidden: Vec<&str> = hidden.map(Secret::expose).filter(|text| !text.is_empty()).collect();
    for change in &mut changes {
        for text in &hidden {
            change.what = without(&change.what, text);
            change.effect = without(&change.effect, text);
        }
    }
    changes
}

/// A sentence without a literal secret. A short one counts only where it is quoted: it may be a word.
fn without(sentence: &str, secret: &str) -> String {
    const WORD_BYTES: usize = 6;
    if secret.len() > WORD_BYTES {
        return sentence.replace(secret, MASK);
    }
    let quoted = |quote: char| format!("{quote}{secret}{quote}");
    sentence
        .replace(&quoted('`'), &format!("`{MASK}`"))
        .replace(&quoted('"'), &format!("\"{MASK}\""))
}

/// What the text says otherwise without anything being done otherwise.
fn text(pen: &mut Pen<'_>, (old, new): (&Filed, &Filed), same_content: bool) {
    if !pen.is_blank() {
        return;
    }
    if !same_content {
        let what = "something is written otherwise and does the same";
        let effect = "a reload replaces the connector; no event takes another way";
        pen.note_at(&At::file(), "", &["name"], rule::WORDING, what, effect);
    } else if old.text() != new.text() {
        let (line, what) = first_difference(old.text(), new.text());
        pen.note_line(line, rule::TEXT, what);
    }
}

/// The names of a table.
fn named<T>(table: &Given<Named<T>>) -> Vec<&str> {
    let entries = table.value().map_or(&[][..], |named| named.0.as_slice());
    entries.iter().map(|(name, _)| name.as_str()).collect()
}

fn match_parts(
    old: &Written,
    new: &Written,
    (was, is): (&ConnectorPlan, &ConnectorPlan),
    (old_places, new_places): (&Places, &Places),
) -> Parts {
    let matched = |table: &str, old: Vec<&str>, new: Vec<&str>| {
        let path = |name: &str| format!("{table}.{name}");
        pair::names(
            old,
            new,
            |name| old_places.facts_of(&path(name)),
            |name| new_places.facts_of(&path(name)),
        )
    };
    let (old_body, new_body): (&ConnectorDef, &ConnectorDef) = (old.body(), new.body());
    Parts {
        streams: matched(
            "stream",
            was.streams.iter().map(|stream| &*stream.name).collect(),
            is.streams.iter().map(|stream| &*stream.name).collect(),
        ),
        destinations: matched(
            "destination",
            was.destinations.keys().map(|name| &**name).collect(),
            is.destinations.keys().map(|name| &**name).collect(),
        ),
        auths: matched(
            "auth",
            was.auths.keys().map(|name| &**name).collect(),
            is.auths.keys().map(|name| &**name).collect(),
        ),
        maps: matched("map", named(&old_body.map), named(&new_body.map)),
        lookups: matched("lookup", named(&old_body.lookup), named(&new_body.lookup)),
        vars: matched("vars", named(&old_body.vars), named(&new_body.vars)),
    }
}

/// The plans, field by field.
fn plans(
    pen: &mut Pen<'_>,
    (old, new): (&ConnectorPlan, &ConnectorPlan),
    parts: &Parts,
    renames: &Renames,
) {
    let ConnectorPlan {
        name,
        // What people read of the connector, and where it lies: `papers`.
        version: _,
        summary: _,
        owner: _,
        docs: _,
        file: _,
        tenant,
        // Looked at by `compare` once everything else was.
        content: _,
        // Told where they are used, and by `vars` and `secrets`.
        vars: _,
        secret_names: _,
        secrets_used: _,
        streams,
        destinations,
        auths,
        slo,
        rollout,
    } = new;
    let at = At::file();
    if old.name != *name {
        let polls = streams.iter().any(|stream| stream.poll.is_some());
        let begins = if polls { "every poll begins at its start, and " } else { "" };
        let effect = format!(
            "state is kept under the name: {begins}every event has a new id, so what is read or sent \
             again is delivered again; cursors, claims, rotated tokens and undelivered events stay \
             behind under the old name"
        );
        let what = format!("renamed from `{}` to `{name}`", old.name);
        pen.note_at(&at, "", &["name"], rule::CONNECTOR_RENAMED, what, effect);
    }
    let show = |tenant: &Option<String>| tenant.clone().unwrap_or_else(|| "none".to_owned());
    pen.value(&at, "tenant", rule::INSTANCE_TENANT, (&old.tenant, tenant), show, || {
        "events that name no tenant of their own spend this one's budget".to_owned()
    });
    slos(pen, (old.slo.as_deref(), slo.as_deref()));
    rollout::compare(pen, (&old.rollout, rollout));
    auth::compare(pen, (&old.auths, auths), &parts.auths);
    destination::compare(pen, (&old.destinations, destinations), &parts.destinations, renames);
    stream::compare(pen, (&old.streams, streams), &parts.streams, renames);
}

fn slos(pen: &mut Pen<'_>, (old, new): (Option<&SloPlan>, Option<&SloPlan>)) {
    let at = At::file();
    let (Some(old), Some(new)) = (old, new) else {
        match (old, new) {
            (None, Some(_)) => pen.note(&at, "slo", rule::SLO, "is new", "alerts follow it"),
            (Some(_), None) => {
                pen.note(&at, "slo", rule::SLO, "is gone", "nothing is promised, no alert follows");
            }
            _ => {}
        }
        return;
    };
    let SloPlan { success, latency, window } = new;
    let show = |ratio: &Option<f64>| ratio.map_or_else(|| "none".to_owned(), say::percent);
    pen.value(&at, "slo.success", rule::SLO, (&old.success, success), show, String::new);
    let show = |latency: &Option<(f64, std::time::Duration)>| {
        latency.map_or_else(
            || "none".to_owned(),
            |(quantile, bound)| {
                let quantile = say::percent(quantile);
                format!("p{} < {}", quantile.trim_end_matches('%'), say::duration(bound))
            },
        )
    };
    pen.value(&at, "slo.latency", rule::SLO, (&old.latency, latency), show, String::new);
    let show = |window: &std::time::Duration| say::duration(*window);
    pen.value(&at, "slo.window", rule::SLO, (&old.window, window), show, String::new);
}

/// What people read, and where the file lies. None of it changes what runs.
fn papers(
    pen: &mut Pen<'_>,
    (old, new): (&Filed, &Filed),
    (was, is): (&ConnectorPlan, &ConnectorPlan),
) {
    let at = At::file();
    if old.at != new.at {
        let what = format!("moved from {} to {}", old.at.display(), new.at.display());
        let effect = "state is kept under the connector's name: nothing is read or delivered again";
        pen.note_at(&at, "", &["name"], rule::MOVED, what, effect);
    }
    pen.value(
        &at,
        "version",
        rule::VERSION,
        (&was.version, &is.version),
        Clone::clone,
        String::new,
    );
    let texts = [
        ("summary", &was.summary, &is.summary),
        ("owner", &was.owner, &is.owner),
        ("docs", &was.docs, &is.docs),
    ];
    for (key, was, is) in texts {
        let show = |text: &Option<String>| text.as_deref().map_or("none".into(), say::quoted);
        pen.value(&at, key, rule::ABOUT, (was, is), show, String::new);
    }
    let lints = (pen.old.places.facts("lints"), pen.new.places.facts("lints"));
    if lints.0 != lints.1 {
        pen.note_at(&at, "[lints]", &["lints"], rule::LINTS, "edited", "");
    }
    for (key, rule) in [("change", rule::CHANGELOG), ("test", rule::TESTS)] {
        let of = |places: &Places| {
            let mut facts = places.facts("");
            facts.retain(|(path, _)| path.starts_with(&format!("{key}[")));
            facts
        };
        let (was, is) = (of(pen.old.places), of(pen.new.places));
        if was != is {
            let count = |facts: &[(String, String)]| {
                let mut items: Vec<&str> =
                    facts.iter().filter_map(|(path, _)| path.split('.').next()).collect();
                items.dedup();
                items.len()
            };
            let what = match (count(&was), count(&is)) {
                (was, is) if was == is => "edited".to_owned(),
                (was, is) => format!("{was} → {is}"),
            };
            pen.note_at(&at, &format!("[[{key}]]"), &[key], rule, what, "");
        }
    }
}

/// The first line that differs, counted from 0, and what kind of difference there is.
fn first_difference(old: &str, new: &str) -> (usize, &'static str) {
    let squeezed = |text: &str| text.split_whitespace().collect::<String>();
    let bare = |text: &str| {
        let without = |line: &str| {
            let is_comment = line.trim_start().starts_with('#');
            if is_comment { String::new() } else { squeezed(line) }
        };
        text.lines().map(without).collect::<String>()
    };
    let first = old.lines().zip(new.lines()).take_while(|(old, new)| old == new).count();
    let what = if squeezed(old) == squeezed(new) {
        "blanks only: the same plan"
    } else if bare(old) == bare(new) {
        "comments only: the same plan"
    } else {
        "comments, order or form: the same plan"
    };
    (first, what)
}
