//! A connector's page.

use super::{
    Subject,
    block::{Block, Line, Table},
    change, delivery, events, fields, picture, shown, words,
};
use crate::{
    definition::vars::VarEntry,
    map::Expr,
    plan::{
        AuthKind, AuthPlan, DestinationKind, Grant, RolloutMode, RolloutPlan, Setting, StreamPlan,
    },
};

/// Everything about a connector, its name as the first heading.
pub fn page(subject: &Subject<'_>) -> Vec<Block> {
    let plan = subject.plan;
    let mut blocks = vec![Block::heading(1, plan.name.to_string())];
    blocks.extend(plan.summary.as_deref().map(|text| Block::Paragraph(Line::new().prose(text))));
    blocks.push(about(subject));
    blocks.push(Block::heading(2, "Flow"));
    blocks.push(Block::Picture(picture(subject)));
    blocks.extend(vars(subject));
    blocks.extend(credentials(subject));
    for stream in &plan.streams {
        blocks.extend(stream_blocks(subject, stream));
    }
    blocks.extend(delivery::blocks(subject));
    blocks.extend(objectives(subject));
    let changes = change::changelog(subject, 3, None);
    if !changes.is_empty() {
        blocks.push(Block::heading(2, "Changelog"));
        blocks.extend(changes);
    }
    shown::scrubbed(blocks)
}

/// What the search box finds a connector by, besides its fields.
pub fn words_of(subject: &Subject<'_>) -> Vec<String> {
    let plan = subject.plan;
    let mut words = vec![plan.name.to_string()];
    words.extend([&plan.summary, &plan.owner, &plan.tenant].into_iter().flatten().cloned());
    words.extend(plan.streams.iter().map(|stream| stream.name.to_string()));
    words.extend(plan.destinations.keys().map(ToString::to_string));
    words.extend(plan.streams.iter().filter_map(|s| Some(s.schema.as_ref()?.name().to_owned())));
    words.iter_mut().for_each(shown::scrub);
    words
}

/// A page that leads to the others: name, what it does, owner. `file` gives each one's page.
pub fn index(subjects: &[Subject<'_>], file: impl Fn(&Subject<'_>) -> String) -> Vec<Block> {
    let rows = subjects.iter().map(|subject| {
        let plan = subject.plan;
        let text = |text: &Option<String>| text.clone().map(Line::from).unwrap_or_default();
        vec![
            Line::new().local(plan.name.to_string(), file(subject)),
            text(&plan.summary),
            Line::from(plan.version.as_str()),
            text(&plan.owner),
        ]
    });
    let table = Table {
        caption: "Connectors".to_owned(),
        head: vec!["Connector", "What it does", "Version", "Owner"],
        rows: rows.collect(),
        is_searched: false,
    };
    vec![Block::heading(1, "Connectors"), Block::Table(table)]
}

fn about(subject: &Subject<'_>) -> Block {
    let plan = subject.plan;
    let mut rows = vec![("Version".to_owned(), Line::from(plan.version.as_str()))];
    let mut row = |name: &str, line: Line| rows.push((name.to_owned(), line));
    if let Some(owner) = &plan.owner {
        row("Owner", Line::from(owner.as_str()));
    }
    if let Some(docs) = &plan.docs {
        row("Runbook", Line::new().address(docs));
    }
    if let Some(tenant) = &plan.tenant {
        row("Tenant", Line::new().code(tenant.as_str()));
    }
    if let Some(line) = rollout(&plan.rollout) {
        row("Rollout", line);
    }
    row("File", Line::new().code(subject.files.first().map_or("", String::as_str)));
    if let Some(base) = subject.files.get(1) {
        row("Instance of", Line::new().code(base.as_str()));
    }
    if subject.needs_instance() {
        row("Runs", Line::from("only through an instance: a file that uses this one"));
    }
    Block::Facts { title: "About".to_owned(), rows }
}

/// How it is tried beside another one, or that it does not run; nothing where it is simply live.
fn rollout(plan: &RolloutPlan) -> Option<Line> {
    let of = || Line::new().code(plan.of.as_deref().unwrap_or_default());
    Some(match plan.mode {
        RolloutMode::Live => return None,
        RolloutMode::Off => Line::from("off: it does not run"),
        RolloutMode::Shadow => Line::from("shadow of ")
            .then(of())
            .text(": it gets copies of its events, delivers nothing, and reports what differs"),
        RolloutMode::Canary => Line::from("canary of ").then(of()).text(format!(
            ": it delivers the events of {} of the keys, and is stopped where it does worse",
            plan.share
        )),
    })
}

/// What an instance gives, or has given.
fn vars(subject: &Subject<'_>) -> Vec<Block> {
    let declared = subject.written.body().vars.value().map_or(&[][..], |vars| vars.0.as_slice());
    if declared.is_empty() {
        return Vec::new();
    }
    let rows = declared.iter().map(|(name, entry)| {
        let value = match subject.plan.vars.get(name) {
            Some(value) => shown::value(name, value),
            None => Line::from("an instance gives it"),
        };
        let VarEntry::Declared(def) = &entry.value else {
            return vec![Line::new().code(name.as_str()), Line::new(), value, Line::new()];
        };
        let allowed = def.one_of.value().map_or(&[][..], Vec::as_slice);
        let allowed = allowed.iter().map(|item| match item.value.0.as_str() {
            Some(text) => text.to_owned(),
            None => item.value.0.to_string(),
        });
        let allowed = Line::new().codes(allowed);
        let example = def.example.value().map(|example| shown::value(name, &example.0));
        let hint = match (allowed.is_empty(), example) {
            (false, _) => Line::from("one of ").then(allowed),
            (true, Some(example)) => Line::from("such as ").then(example),
            (true, None) => Line::new(),
        };
        let doc = def.doc.value().map(|doc| Line::new().prose(&doc.0)).unwrap_or_default();
        vec![Line::new().code(name.as_str()), doc, value, hint]
    });
    let table = Table {
        caption: "Variables".to_owned(),
        head: vec!["Variable", "What it is", "Value", "Allowed"],
        rows: rows.collect(),
        is_searched: false,
    };
    vec![Block::heading(2, "Variables"), Block::Table(table)]
}

/// The credentials and the secrets behind them, by name.
fn credentials(subject: &Subject<'_>) -> Vec<Block> {
    let mut blocks = Vec::new();
    let secrets = &subject.written.compiled.secrets;
    if secrets.is_empty() && subject.plan.auths.is_empty() {
        return blocks;
    }
    blocks.push(Block::heading(2, "Credentials"));
    if !secrets.is_empty() {
        let rows = secrets.iter().map(|(name, span)| {
            let file =
                subject.written.texts.iter().position(|text| *text == span.file).unwrap_or(0);
            let place = format!("{}:{}", subject.files[file], span.start().0);
            let used_by = Line::from(words::and(&users_of(subject, name)));
            vec![Line::new().code(name.as_str()), used_by, Line::from(place)]
        });
        blocks.push(Block::Table(Table {
            caption: "Secrets that must be set".to_owned(),
            head: vec!["Secret", "Used by", "Line"],
            rows: rows.collect(),
            is_searched: false,
        }));
    }
    blocks.extend(subject.plan.auths.values().map(|auth| auth_facts(subject, auth)));
    blocks
}

/// What uses a secret, in words.
fn users_of(subject: &Subject<'_>, secret: &str) -> Vec<String> {
    let uses = |expr: &&Expr| {
        expr.uses().iter().any(|(root, name)| {
            root == "secret"
                && name.as_deref().is_some_and(|name| subject.looked_up(name) == secret)
        })
    };
    let mut users = Vec::new();
    for auth in subject.plan.auths.values() {
        if auth.exprs().iter().any(|(_, expr)| uses(expr)) {
            users.push(format!("auth {}", auth.name));
        }
    }
    for stream in &subject.plan.streams {
        if let Some(webhook) = &stream.webhook
            && webhook.settings().any(|e| uses(&e))
        {
            users.push(format!("the webhook of {}", stream.name));
        }
    }
    for destination in subject.plan.destinations.values() {
        if let DestinationKind::Http { url, headers, body, .. } = &destination.kind {
            let leaves = body.iter().flat_map(|body| body.leaves()).map(|(_, expr)| expr);
            let all = headers.iter().map(|(_, expr)| expr).chain([url]).chain(leaves);
            if all.into_iter().any(|e| uses(&e)) {
                users.push(format!("destination {}", destination.name));
            }
        }
    }
    users
}

fn auth_facts(subject: &Subject<'_>, auth: &AuthPlan) -> Block {
    let mut rows: Vec<(String, Line)> = Vec::new();
    let mut row = |name: &str, line: Line| rows.push((name.to_owned(), line));
    let credential = |expr: &Expr| shown::credential(subject, expr);
    match &auth.kind {
        AuthKind::Bearer { token } => {
            row("Way", Line::new().code("Authorization: Bearer"));
            row("Token", credential(token));
        }
        AuthKind::Basic { user, password } => {
            row("Way", Line::from("HTTP basic authentication"));
            row("User", credential(user));
            row("Password", credential(password));
        }
        AuthKind::Header { name, value } => {
            row("Way", Line::from("header ").code(name.as_str()));
            row("Value", credential(value));
        }
        AuthKind::Query { name, value } => {
            row("Way", Line::from("query parameter ").code(name.as_str()));
            row("Value", credential(value));
        }
        AuthKind::OAuth2(plan) => {
            let grant = match plan.grant {
                Grant::ClientCredentials => "client credentials",
                Grant::RefreshToken { .. } => "a refresh token, whose successors are kept in state",
                Grant::JwtBearer { .. } => "an assertion that is signed here",
                Grant::AuthorizationCode { .. } => {
                    "a person's login (`tenon auth login`), whose tokens are kept in state"
                }
            };
            row("Way", Line::from(format!("OAuth 2 with {grant}")));
            row("Token from", Line::new().code(shown::address(plan.token_url.source())));
            // It says who asks, and proves nothing.
            if let Some(client) = &plan.client_id {
                row("Client", shown::setting(subject, "client", client));
            }
            if let Some(secret) = &plan.client_secret {
                row("Client secret", credential(secret));
            }
            if let Grant::RefreshToken { refresh_token } = &plan.grant {
                row("First refresh token", credential(refresh_token));
            }
            if !plan.scopes.is_empty() {
                row("Scopes", Line::new().codes(plan.scopes.iter().map(String::as_str)));
            }
            if !plan.params.is_empty() {
                row("With", shown::settings(subject, &plan.params));
            }
            let told = ["grant", "token_url", "client_id", "client_secret", "refresh_token"];
            let is_told =
                |key: &str| told.contains(&key) || key == "scopes" || key.starts_with("params.");
            let rest = auth.settings().into_iter().filter(|(key, setting)| {
                let is_usual = matches!(setting, Setting::Word(word) if key == "client_auth" && word == "basic");
                !is_told(key) && !is_usual
            });
            rows.extend(rest.map(|(key, setting)| told_by_key(subject, key, &setting)));
        }
        AuthKind::Login(_) => {
            row("Way", Line::from("a token that a request of its own is answered with"));
            rows.extend(by_key(subject, auth));
        }
        AuthKind::Jwt(_) => {
            row("Way", Line::from("a token that is signed here"));
            rows.extend(by_key(subject, auth));
        }
        AuthKind::Hmac(_) => {
            row("Way", Line::from("a signature over each request"));
            rows.extend(by_key(subject, auth));
        }
        AuthKind::SigV4(_) => {
            row("Way", Line::from("AWS Signature Version 4 over each request"));
            rows.extend(by_key(subject, auth));
        }
        AuthKind::Mtls => {
            row("Way", Line::from("a client certificate"));
            rows.extend(by_key(subject, auth));
        }
    }
    Block::Facts { title: format!("auth {}", auth.name), rows }
}

/// Every setting under the name that it has in the file.
fn by_key(subject: &Subject<'_>, auth: &AuthPlan) -> Vec<(String, Line)> {
    let settings = auth.settings().into_iter();
    settings.map(|(key, setting)| told_by_key(subject, key, &setting)).collect()
}

fn told_by_key(subject: &Subject<'_>, key: String, setting: &Setting<'_>) -> (String, Line) {
    let line = match setting {
        Setting::Word(word) => Line::new().code(word.as_str()),
        Setting::Expr(expr) if expr.needs_secret() => shown::credential(subject, expr),
        Setting::Expr(expr) => match key.rsplit('.').next() {
            Some("url") => Line::new().code(shown::address(expr.source())),
            Some("token" | "ttl" | "signed" | "region" | "service") => {
                Line::new().code(expr.source())
            }
            name => shown::setting(subject, name.unwrap_or_default(), expr),
        },
    };
    (key, line)
}

fn stream_blocks(subject: &Subject<'_>, stream: &StreamPlan) -> Vec<Block> {
    let mut blocks = vec![Block::Heading(2, Line::from("Stream ").code(&*stream.name))];
    blocks.extend(events::blocks(subject, stream, 3));
    blocks.extend(fields::blocks(subject, stream, 3));
    blocks
}

fn objectives(subject: &Subject<'_>) -> Vec<Block> {
    let Some(slo) = &subject.plan.slo else { return Vec::new() };
    let mut rows = Vec::new();
    if let Some(success) = slo.success {
        rows.push((
            "Delivered".to_owned(),
            Line::from(format!("{} of all events", words::percent(success))),
        ));
    }
    if let Some((quantile, bound)) = slo.latency {
        let share = words::percent(quantile);
        let line = format!("{share} within {}, from accepted to delivered", words::time(bound));
        rows.push(("Latency".to_owned(), Line::from(line)));
    }
    rows.push(("Measured over".to_owned(), Line::from(words::time(slo.window))));
    vec![
        Block::heading(2, "Objectives"),
        Block::Facts { title: "What it promises".to_owned(), rows },
    ]
}
