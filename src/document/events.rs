//! What a stream reads, and what makes an event of it.

use super::{
    Subject,
    block::{Block, Line},
    picture::methods,
    shown, words,
};
use crate::{
    diagnostic::counted,
    map::Expr,
    plan::{
        Algorithm, CursorFormat, CursorPlan, CursorStart, Dedupe, DetailPlan, DownloadPlan,
        EachFrom, EachPlan, Encoding, Group, Jitter, JobPlan, PageBy, PagePlan, PollPlan, Reach,
        RequestBody, SchedulePlan, ScheduleWhen, SignedPart, Sorted, StreamPlan, TimestampPlan,
        VerifyPlan, WebhookPlan,
    },
};

type Rows = Vec<(String, Line)>;

pub(super) fn blocks(subject: &Subject<'_>, stream: &StreamPlan, level: u8) -> Vec<Block> {
    let mut blocks = vec![Block::heading(level, "What it reads")];
    if let Some(webhook) = &stream.webhook {
        let rows = webhook_rows(subject, webhook);
        blocks.push(Block::Facts { title: "Webhook".to_owned(), rows });
    }
    if let Some(poll) = &stream.poll {
        let rows = poll_rows(subject, stream, poll);
        blocks.push(Block::Facts { title: "Poll".to_owned(), rows });
    }
    blocks.push(Block::heading(level, "Events"));
    blocks.push(Block::Facts { title: "What makes an event".to_owned(), rows: event_rows(stream) });
    blocks
}

fn add(rows: &mut Rows, name: &str, line: impl Into<Line>) {
    rows.push((name.to_owned(), line.into()));
}

fn code(expr: &Expr) -> Line {
    Line::new().code(expr.source())
}

fn webhook_rows(subject: &Subject<'_>, webhook: &WebhookPlan) -> Rows {
    let mut rows = Rows::new();
    add(&mut rows, "Takes", Line::new().code(format!("{} {}", methods(webhook), webhook.path)));
    add(&mut rows, "Verified by", verification(&webhook.verify));
    if let Some(timestamp) = &webhook.verify.timestamp {
        add(&mut rows, "Signed", age(timestamp));
    }
    let mut secrets = Line::new();
    for (at, secret) in webhook.secrets.iter().enumerate() {
        secrets = if at > 0 { secrets.text(", ") } else { secrets };
        secrets = secrets.then(shown::credential(subject, &secret.value));
        if let Some(until) = secret.not_after {
            secrets = secrets.text(format!(" (until {})", until.rfc3339()));
        }
    }
    if !secrets.is_empty() {
        add(&mut rows, "Secret", secrets);
    }
    if let Some(user) = &webhook.user {
        add(&mut rows, "User", shown::credential(subject, user));
    }
    if let Some(require) = &webhook.verify.require {
        add(&mut rows, "Required", code(require));
    }
    if let Some(once) = &webhook.verify.once {
        add(&mut rows, "Once", Line::from("one body for each ").then(code(once)));
    }
    if let Some(keys) = &webhook.verify.keys {
        let url = Line::from("fetched from ").code(shown::address(keys.url.source()));
        add(&mut rows, "Keys", url);
    }
    if let Some(url) = &webhook.url {
        add(&mut rows, "Registered as", shown::credential(subject, url));
    }
    for challenge in &webhook.verify.challenges {
        add(&mut rows, "Handshake", Line::from("answered where ").then(code(&challenge.when)));
    }
    if let Some(events) = &webhook.events {
        add(&mut rows, "Events", Line::from("one for each of ").then(code(events)));
    }
    let answer = match &webhook.reply {
        Some(reply) => format!("{}, once the event is durable", reply.status),
        None => "202 with the event's id, once it is durable".to_owned(),
    };
    add(&mut rows, "Answers", answer);
    add(&mut rows, "Longest body", words::size(webhook.max_body_bytes as u64));
    rows
}

fn verification(verify: &VerifyPlan) -> Line {
    let name = Line::new().code(verify.name.as_str());
    let what = match verify.algorithm {
        Algorithm::None => {
            return Line::new().strong("nothing").text(": whoever knows the address may post");
        }
        Algorithm::Basic => return Line::from("HTTP basic authentication"),
        Algorithm::Token => "a shared token".to_owned(),
        Algorithm::Mtls => "a client certificate, and the proxy's token".to_owned(),
        Algorithm::Jwt => "a JSON Web Token".to_owned(),
        Algorithm::HmacSha1 => signed("HMAC with SHA-1", verify),
        Algorithm::HmacSha256 => signed("HMAC with SHA-256", verify),
        Algorithm::HmacSha512 => signed("HMAC with SHA-512", verify),
        Algorithm::Sha256Concat => signed("SHA-256", verify),
        Algorithm::Ed25519 => signed("Ed25519 signature", verify),
        Algorithm::EcdsaP256 => signed("ECDSA (P-256) signature", verify),
        Algorithm::RsaSha1 => signed("RSA (SHA-1) signature", verify),
        Algorithm::RsaSha256 => signed("RSA (SHA-256) signature", verify),
    };
    let line = name.text(format!(": {what}"));
    let line = match &verify.signature {
        Some(signature) => {
            let encoding = match signature.decode {
                Encoding::Raw | Encoding::Pem => "",
                Encoding::Hex => "hexadecimal, ",
                Encoding::Base64 => "base64, ",
                Encoding::Base64Url => "base64url, ",
            };
            line.text(format!(", {encoding}in ")).code(signature.at.place.words())
        }
        None => line,
    };
    line.text(format!("; else {}", verify.on_fail))
}

fn signed(what: &str, verify: &VerifyPlan) -> String {
    let parts = verify.signed.iter().filter_map(|part| match part {
        SignedPart::Text(_) => None,
        SignedPart::Body => Some("the body".to_owned()),
        SignedPart::BodySha256 => Some("the body's SHA-256".to_owned()),
        SignedPart::Timestamp => Some("the time of signing".to_owned()),
        SignedPart::Url => Some("the URL".to_owned()),
        SignedPart::Method => Some("the method".to_owned()),
        SignedPart::Header(name) => Some(format!("the header {name}")),
        SignedPart::BodyCrc32 => Some("the body's CRC-32".to_owned()),
        SignedPart::Secret => Some("the secret".to_owned()),
        SignedPart::SortedForm => Some("the form's fields".to_owned()),
        SignedPart::Field(expr) => Some(format!("the field {}", bare(expr))),
        SignedPart::Fields(names) => Some(format!("the fields {}", names.join(", "))),
    });
    format!("{what} of {}", words::and(&parts.collect::<Vec<_>>()))
}

/// A field of the body as its expression names it.
fn bare(expr: &Expr) -> String {
    let inner = expr.source().trim_start_matches("{{").trim_end_matches("}}").trim();
    let name = inner.split('|').next().unwrap_or(inner).trim();
    name.strip_prefix("request.body.").unwrap_or(name).to_owned()
}

fn age(timestamp: &TimestampPlan) -> Line {
    let (past, future) = (words::time(timestamp.past), words::time(timestamp.future));
    Line::from(format!("at most {past} ago and {future} ahead, as "))
        .code(timestamp.at.place.words())
        .text(" says")
}

fn poll_rows(subject: &Subject<'_>, stream: &StreamPlan, poll: &PollPlan) -> Rows {
    let mut rows = Rows::new();
    let url = shown::address(poll.url.source());
    add(&mut rows, "Asks", Line::new().code(format!("{} {url}", poll.method)));
    for each in &poll.each {
        add(&mut rows, "For each", partitions(each));
    }
    if !poll.query.is_empty() {
        add(&mut rows, "Query", shown::settings(subject, &poll.query));
    }
    if !poll.headers.is_empty() {
        add(&mut rows, "Headers", shown::settings(subject, &poll.headers));
    }
    match &poll.body {
        Some(RequestBody::Json(tree)) => {
            let names = tree.leaves().into_iter().map(|(name, _)| name);
            add(&mut rows, "Body", Line::from("JSON with ").codes(names));
        }
        Some(RequestBody::Text(text)) => {
            add(&mut rows, "Body", Line::from("the text ").code(shown::address(text.source())));
        }
        Some(RequestBody::Form(fields)) => add(&mut rows, "Form", shown::settings(subject, fields)),
        None => {}
    }
    add(&mut rows, "When", schedule(stream));
    reconcile_rows(stream, &mut rows);
    if let Some(auth) = &poll.auth {
        add(&mut rows, "Credentials", Line::from("auth ").code(&**auth));
    }
    if let Some(job) = &poll.job {
        job_rows(subject, job, &mut rows);
    }
    let records = match &poll.records {
        Some(records) => code(&records.path),
        None => Line::from("the items of the answer, or the one object"),
    };
    add(&mut rows, "Records", records);
    for detail in &poll.detail {
        add(&mut rows, "Details", document(detail));
    }
    if !poll.decode.is_plain() {
        add(&mut rows, "Written in", poll.decode.to_string());
    }
    add(&mut rows, "Pages", pages(&poll.page));
    match &poll.cursor {
        Some(cursor) => cursor_rows(cursor, &mut rows),
        None => add(&mut rows, "Goes on", "every run reads everything; what is known is dropped"),
    }
    for rule in &poll.on {
        add(&mut rows, "On", Line::new().code(rule.to_string()));
    }
    let mut limits = Vec::new();
    if !poll.rate.is_empty() {
        limits.push(format!("{}, shared by all streams", words::rates(&poll.rate)));
    }
    limits.push(format!("{} at once", counted(poll.concurrency as u64, "request")));
    limits.push(format!("{} a request", words::time(poll.timeout)));
    limits.push(format!("answers up to {}", words::size(poll.max_response_bytes as u64)));
    add(&mut rows, "Limits", limits.join("; "));
    rows
}

/// How a result comes about that the API makes in its own time.
fn job_rows(subject: &Subject<'_>, job: &JobPlan, rows: &mut Rows) {
    let asked = |poll: &PollPlan| format!("{} {}", poll.method, shown::address(poll.url.source()));
    let what = Line::from("the request creates one");
    let what = match &job.take {
        Some(take) => what.text(", named by ").then(code(take)).text(" of the answer"),
        None => what,
    };
    add(rows, "Job", what);
    let (every, within) = (words::time(job.every), words::time(job.within));
    let state = Line::new().code(asked(&job.status.api));
    let often = format!(", every {every} at first, then less often; for {within} at most");
    add(rows, "Its state", state.text(often));
    if !job.status.given.query.is_empty() {
        add(rows, "Asked with", shown::settings(subject, &job.status.given.query));
    }
    add(rows, "Done if", code(&job.done));
    if let Some(failed) = &job.failed {
        add(rows, "Failed if", code(failed).text(": the next run creates it anew"));
    }
    let result = match &job.download {
        None => Line::from("the answer that says that it is done"),
        Some(DownloadPlan { request, lookup: None }) if request.by_answer => {
            Line::from("at ").then(code(&request.api.url)).text(" of that answer")
        }
        Some(DownloadPlan { request, lookup: None }) => Line::new().code(asked(&request.api)),
        Some(DownloadPlan { request, lookup: Some(lookup) }) => {
            let at = Line::from("at ").then(code(&lookup.url)).text(" of the answer of ");
            at.code(asked(&request.api))
        }
    };
    add(rows, "Result", result);
}

/// What requests are made for.
fn partitions(each: &EachPlan) -> Line {
    let line = Line::new().code(&*each.name).text(": ");
    let line = match &each.from {
        EachFrom::Values(values) => line.text("of ").then(code(values)),
        EachFrom::Stream { stream, over, only, changed } => {
            let which = if *changed { "each changed record of " } else { "each record of " };
            let line = line.text(which).code(&**stream);
            let line = match over {
                Some(over) => line.text(", for its ").then(code(over)),
                None => line,
            };
            match only {
                Some(only) => line.text(", of which only ").then(code(only)),
                None => line,
            }
        }
    };
    match each.group {
        Group::One => line,
        Group::Of(size) => line.text(format!(", {size} in one request")),
        Group::All => line.text(", all in one request"),
    }
}

/// What is asked for each listed record.
fn document(detail: &DetailPlan) -> Line {
    let url = shown::address(detail.poll.url.source());
    let line = Line::new().code(format!("{} {url}", detail.poll.method)).text(" for each record: ");
    match &detail.name {
        Some(name) => line.text("joined as ").code(format!("with.{name}")),
        None => line.text("its answer is the record"),
    }
}

fn schedule(stream: &StreamPlan) -> Line {
    let Some(schedule) = &stream.schedule else { return Line::from("an instance says when") };
    scheduled(schedule)
}

/// What is read again beside the poll, and when missing webhooks are an alert.
fn reconcile_rows(stream: &StreamPlan, rows: &mut Rows) {
    let Some(plan) = &stream.reconcile else { return };
    if let Some(again) = &plan.again {
        let reach = match again.reach {
            Reach::Window(window) => format!("the last {}, ", words::time(window)),
            Reach::Full => "everything, ".to_owned(),
        };
        add(rows, "Reads again", Line::from(reach).then(scheduled(&again.schedule)));
    }
    if let Some(silence) = &plan.silence {
        let after = words::time(silence.after);
        let faster = silence.faster.map_or_else(String::new, |faster| {
            format!("; the poll runs every {} meanwhile", words::time(faster))
        });
        let text = format!("an alert {after} after a poll found what none had brought{faster}");
        add(rows, "Missing webhooks", text);
    }
}

fn scheduled(schedule: &SchedulePlan) -> Line {
    let spread = match schedule.jitter {
        Jitter::Ratio(ratio) if ratio > 0.0 => format!(", spread by {}", words::percent(ratio)),
        Jitter::Duration(time) if !time.is_zero() => {
            format!(", spread by up to {}", words::time(time))
        }
        _ => String::new(),
    };
    let when = match &schedule.when {
        ScheduleWhen::Every(every) => Line::from(format!("every {}", words::time(*every))),
        ScheduleWhen::Cron { pattern, tz } => {
            Line::from("at ").code(pattern.as_str()).text(format!(" in {tz}"))
        }
    };
    when.text(spread)
}

fn pages(page: &PagePlan) -> Line {
    let line = match &page.by {
        PageBy::None => Line::from("one"),
        PageBy::Page { param: Some(param), first } => {
            Line::from("by number in ").code(param.as_str()).text(format!(", from {first}"))
        }
        PageBy::Page { param: None, first } => Line::from(format!("by number, from {first}")),
        PageBy::Offset { param: Some(param) } => Line::from("by offset in ").code(param.as_str()),
        PageBy::Offset { param: None } => Line::from("by offset"),
        PageBy::Cursor { next, param } => {
            let line = Line::from("by the token at ").then(code(next));
            match param {
                Some(param) => line.text(", sent in ").code(param.as_str()),
                None => line,
            }
        }
        PageBy::Next { next } => Line::from("by the URL at ").then(code(next)),
        PageBy::Link => Line::from("by the ").code("Link").text(" header"),
        PageBy::Last { next, param } => {
            let line = Line::from("by the last record's ").then(code(next));
            match param {
                Some(param) => line.text(", sent in ").code(param.as_str()),
                None => line,
            }
        }
    };
    let line = match (page.size, &page.size_param) {
        (Some(size), Some(param)) => {
            line.text(format!(", {size} records each (")).code(param.as_str()).text(")")
        }
        (Some(size), None) => line.text(format!(", {size} records each")),
        _ => line,
    };
    let line = match page.max {
        Some(max) => line.text(format!(", {max} records at most from one start")),
        None => line,
    };
    match &page.stop {
        Some(stop) => line.text(", until ").then(code(stop)),
        None => line,
    }
}

fn cursor_rows(cursor: &CursorPlan, rows: &mut Rows) {
    let word = |format: &CursorFormat| match format {
        CursorFormat::Rfc3339 => "RFC 3339 times".to_owned(),
        CursorFormat::EpochSeconds => "seconds since 1970".to_owned(),
        CursorFormat::EpochMillis => "milliseconds since 1970".to_owned(),
        CursorFormat::Pattern(pattern) => format!("times as {pattern}"),
        CursorFormat::Integer => "whole numbers".to_owned(),
        CursorFormat::Text => "texts".to_owned(),
    };
    let mut formats = vec![word(&cursor.format)];
    formats.extend(cursor.also.iter().map(|format| format!("also read as {}", word(format))));
    let format = formats.join(", ");
    let moves = match cursor.sorted {
        Sorted::Ascending => "moves page by page, since the API answers in ascending order",
        Sorted::Descending => {
            "ends a run, since the API answers in descending order, and moves when all pages are durable"
        }
        Sorted::No => "moves when all pages of a window are durable",
    };
    let what = match &cursor.field {
        Some(field) => code(field),
        None => Line::from("the window"),
    };
    add(rows, "Goes on from", what.text(format!(" ({format}), which {moves}")));
    let bound = |bound: &CursorStart| match bound {
        CursorStart::Literal(text) => Line::new().code(text.as_str()),
        CursorStart::Ago(ago) => Line::from(format!("{} ago", words::time(*ago))),
    };
    let start = cursor.start.as_ref().map_or_else(|| Line::from("the beginning"), bound);
    add(rows, "First run", Line::from("from ").then(start));
    if let Some(until) = &cursor.until {
        add(rows, "Ends", Line::from("at ").then(bound(until)));
    }
    if let Some(oldest) = cursor.oldest {
        add(rows, "Oldest", format!("{} ago: the API remembers no more", words::time(oldest)));
    }
    let params = [("start", &cursor.start_param), ("end", &cursor.end_param)];
    let mut sent = Line::new();
    for (end, param) in params {
        if let Some(param) = param {
            sent = if sent.is_empty() { sent } else { sent.text(", ") };
            sent = sent.text(format!("{end} in ")).code(param.as_str());
        }
    }
    if !sent.is_empty() {
        add(rows, "Window", sent);
    }
    if let Some(window) = cursor.window {
        add(rows, "Longest window", words::time(window));
    }
    if let Some(lookback) = cursor.lookback {
        add(rows, "Looks back", format!("{} behind the cursor in each run", words::time(lookback)));
    }
    if cursor.filter {
        add(rows, "Older records", "are dropped on this side");
    }
}

fn event_rows(stream: &StreamPlan) -> Rows {
    let mut rows = Rows::new();
    let key = match stream.key.as_slice() {
        [] => Line::from("the record's hash"),
        parts => Line::new().codes(parts.iter().map(Expr::source)),
    };
    add(&mut rows, "Key", key.text(": which thing it is about"));
    let revision = match &stream.revision {
        Some(revision) if revision.ordered => {
            code(&revision.expr).text(": a state older than the one delivered is superseded")
        }
        Some(revision) => code(&revision.expr).text(": tells states apart, not which is newer"),
        None => Line::from("the record's hash: a change of any field is a new state"),
    };
    add(&mut rows, "Revision", revision);
    let dedupe = match stream.dedupe {
        Dedupe::Window(window) => {
            format!("key and revision together arrive once within {}", words::time(window))
        }
        Dedupe::Forever => "key and revision together arrive once, without end".to_owned(),
    };
    let both = stream.webhook.is_some() && stream.poll.is_some();
    add(
        &mut rows,
        "Dedupe",
        if both { format!("{dedupe}, by webhook or by poll") } else { dedupe },
    );
    if let Some(tenant) = &stream.tenant {
        add(&mut rows, "Tenant", code(tenant).text(": whose budget it spends"));
    }
    if let Some(when) = &stream.when {
        add(&mut rows, "Only if", code(when));
    }
    if let Some(delete) = &stream.delete {
        add(&mut rows, "A removal if", code(delete));
    }
    for (name, expr) in &stream.with {
        add(
            &mut rows,
            &format!("with.{name}"),
            code(expr).text(": kept with the event for the map"),
        );
    }
    rows
}
