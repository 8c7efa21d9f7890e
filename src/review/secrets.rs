//! What a connector asks of whoever runs it: secrets to be set, hosts to be reached.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    connector::Parts,
    pen::{At, Pen},
    rule,
    said::{Names, Renames},
    say,
};
use crate::{
    map::{Expr, Tree},
    plan::{ConnectorPlan, DestinationKind, DestinationPlan, StreamPlan, WebhookPlan},
};

/// Where each secret is used, by the name that is looked up.
type Uses = BTreeMap<String, BTreeSet<String>>;

/// The secrets that are used at the same places under another name: old → new.
pub(super) fn renames(
    (old, new): (&ConnectorPlan, &ConnectorPlan),
    renames: &Renames,
    parts: &Parts,
) -> BTreeMap<String, String> {
    let streams = parts.streams.renames();
    let moved = |path: &str| {
        let mut words = path.splitn(3, '.');
        let (table, name) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let renamed = match table {
            "auth" => renames.auths.get(name),
            "destination" => renames.destinations.get(name),
            _ => streams.get(name),
        };
        let name = renamed.map_or(name, String::as_str);
        format!("{table}.{name}.{}", words.next().unwrap_or_default())
    };
    let (old, new) = (uses(old), uses(new));
    let mut found = BTreeMap::new();
    for (was, old_paths) in old.iter().filter(|(name, _)| !new.contains_key(*name)) {
        let old_paths: BTreeSet<String> = old_paths.iter().map(|path| moved(path)).collect();
        let is = new
            .iter()
            .find(|(name, paths)| !old.contains_key(*name) && **paths == old_paths)
            .map(|(name, _)| name);
        if let Some(is) = is {
            found.insert(was.clone(), is.clone());
        }
    }
    found
}

fn uses(plan: &ConnectorPlan) -> Uses {
    // Every secret is there, also one that is used where nobody looks below.
    let mut uses: Uses =
        plan.secrets_used.iter().map(|name| (name.clone(), BTreeSet::new())).collect();
    for_each_setting(plan, &mut |path, expr| {
        for (root, member) in expr.uses() {
            if let ("secret", Some(name)) = (root.as_str(), member) {
                let looked_up = plan.secret_names.get(&name).unwrap_or(&name);
                uses.entry(looked_up.clone()).or_default().insert(path.to_owned());
            }
        }
    });
    uses
}

/// Every expression that may hold a secret, with its path in the file.
fn for_each_setting(plan: &ConnectorPlan, tell: &mut dyn FnMut(&str, &Expr)) {
    for auth in plan.auths.values() {
        for (key, expr) in auth.exprs() {
            tell(&format!("auth.{}.{key}", auth.name), expr);
        }
    }
    for destination in plan.destinations.values() {
        let DestinationPlan { name, kind, .. } = destination.as_ref();
        let DestinationKind::Http { url, headers, body, .. } = kind else { continue };
        tell(&format!("destination.{name}.url"), url);
        for (header, expr) in headers {
            tell(&format!("destination.{name}.headers.{header}"), expr);
        }
        for (field, expr) in body.iter().flat_map(Tree::leaves) {
            tell(&format!("destination.{name}.body.{field}"), expr);
        }
    }
    for stream in &plan.streams {
        let StreamPlan { name, webhook, .. } = stream.as_ref();
        let Some(webhook) = webhook else { continue };
        let WebhookPlan { secrets, user, .. } = webhook.as_ref();
        let place = format!("stream.{name}.webhook");
        for (at, secret) in secrets.iter().enumerate() {
            tell(&format!("{place}.secret[{at}]"), &secret.value);
        }
        if let Some(user) = user {
            tell(&format!("{place}.user"), user);
        }
    }
}

/// Secrets that are new, gone or renamed; hosts that are new.
pub(super) fn compare(
    pen: &mut Pen<'_>,
    (old, new): (&ConnectorPlan, &ConnectorPlan),
    renames: &Renames,
) {
    let at = At::file();
    let (was, is) = (uses(old), uses(new));
    let line = |uses: &Uses, plan: &ConnectorPlan, name: &str| -> Vec<String> {
        let alias = plan.secret_names.iter().find(|(_, looked_up)| *looked_up == name);
        let alias = alias.map(|(alias, _)| format!("/secrets.{alias}"));
        let places = uses.get(name).into_iter().flatten().flat_map(|path| places_of(path));
        alias.into_iter().chain(places).collect()
    };
    for name in is.keys().filter(|name| !was.contains_key(*name)) {
        let renamed = renames.secrets.iter().find(|(_, new)| *new == name).map(|(old, _)| old);
        let mut lines = line(&is, new, name);
        let before = "unless it is set before this is deployed, the connector does not start";
        let (rule, what) = match renamed {
            Some(old_name) => {
                lines.extend(line(&was, old, old_name));
                (rule::SECRET_RENAMED, format!("`{old_name}` is now looked up as `{name}`"))
            }
            None => (rule::SECRET_ADDED, format!("`{name}` is newly needed")),
        };
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        pen.note_at(&at, "secret", &lines, rule, what, before);
    }
    for name in was.keys().filter(|name| !is.contains_key(*name)) {
        if !renames.secrets.contains_key(name) {
            let lines = line(&was, old, name);
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let what = format!("`{name}` is no longer needed");
            pen.note_at(&at, "secret", &lines, rule::SECRET_REMOVED, what, "");
        }
    }
    new_hosts(pen, (old, new));
}

/// Where the setting of that path may be written.
fn places_of(path: &str) -> Vec<String> {
    let plain = path.split('[').next().unwrap_or(path);
    let mut places = vec![format!("/{plain}")];
    if plain.ends_with(".webhook.secret") {
        places.push(format!("/{plain}s"));
        places.push("/source.webhook.secret".to_owned());
        places.push("/source.webhook.secrets".to_owned());
    }
    places
}

/// The hosts that a connector reaches, as far as its text tells, each once.
pub(super) fn hosts(plan: &ConnectorPlan, names: &Names<'_>) -> Vec<String> {
    let mut hosts: Vec<String> = urls(plan)
        .into_iter()
        .filter_map(|(_, expr)| host_of(&names.said(expr.source()).text))
        .collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

/// Every URL that is called, with the paths at which it may be written.
fn urls(plan: &ConnectorPlan) -> Vec<(Vec<String>, &Expr)> {
    let mut urls = Vec::new();
    for stream in &plan.streams {
        let Some(poll) = &stream.poll else { continue };
        let places = [format!("/stream.{}.poll.base", stream.name), "/source.base".to_owned()];
        let path = format!("/stream.{}.poll.path", stream.name);
        urls.push((places.iter().cloned().chain([path]).collect(), &poll.url));
        let Some(job) = &poll.job else { continue };
        let own = |key: &str| format!("/stream.{}.poll.job.{key}", stream.name);
        urls.push((vec![own("path")], &job.status.api.url));
        if let Some(download) = &job.download {
            let written = vec![own("download.path"), own("download")];
            urls.push((written, &download.request.api.url));
        }
    }
    for destination in plan.destinations.values() {
        if let DestinationKind::Http { url, .. } = &destination.kind {
            urls.push((vec![format!("/destination.{}.url", destination.name)], url));
        }
    }
    for auth in plan.auths.values() {
        for (key, url) in auth.urls() {
            // A login's URL is written in parts.
            let written = key.replace(".url", ".path");
            let place = format!("/auth.{}.{written}", auth.name);
            urls.push((vec![place], url));
        }
    }
    urls
}

/// `api.example` of `https://api.example/orders`.
fn host_of(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next()?;
    (!host.is_empty()).then(|| host.to_owned())
}

fn new_hosts(pen: &mut Pen<'_>, (old, new): (&ConnectorPlan, &ConnectorPlan)) {
    let known = hosts(old, &pen.old.names);
    let mut told = BTreeSet::new();
    for (places, expr) in urls(new) {
        let said = pen.new_said(expr.source());
        let Some(host) = host_of(&said.text).filter(|host| !known.contains(host)) else { continue };
        if told.insert(host.clone()) {
            let moved = |name: &&String| old.vars.get(name) != new.vars.get(name);
            let vars = said.vars.iter().filter(moved).map(|name| format!("/vars.{name}"));
            let places: Vec<String> = vars.chain(places).collect();
            let places: Vec<&str> = places.iter().map(String::as_str).collect();
            let what = format!("{} is newly reached", say::quoted(&host));
            let effect = "firewalls, and `--allow-egress` where its address is private, have to let \
                          it through";
            pen.note_at(&At::file(), "host", &places, rule::HOST_ADDED, what, effect);
        }
    }
}
