//! A runbook made from a connector's own settings: what to look at, what each kind of incident means
//! here, how far back events can be had again, and what to tell whom. Every command can be pasted.

use std::time::Duration;

use super::{
    Subject,
    block::{Block, Line, Table},
    delivery::{bridge, rounded},
    shown, words,
};
use crate::{
    map::Expr,
    plan::{
        Algorithm, Dedupe, DestinationKind, DestinationPlan, Order, RolloutMode, StreamPlan,
        WebhookPlan,
    },
};

/// How long the daemon keeps things: `[bus]` of `tenon.toml`.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// `history`.
    pub history: Duration,
    /// `dead_letters`.
    pub dead_letters: Duration,
}

/// The runbook, the connector's name in the first heading.
pub fn runbook(subject: &Subject<'_>, kept: Retention) -> Vec<Block> {
    let plan = subject.plan;
    let mut blocks = vec![Block::heading(1, format!("Runbook of {}", plan.name))];
    blocks.extend(plan.summary.as_deref().map(|text| Block::Paragraph(Line::new().prose(text))));
    blocks.push(about(subject));
    if subject.needs_instance() {
        blocks.push(Block::Paragraph(
            Line::new().strong("This connector runs only through an instance.").text(
                " What follows holds for each instance, under the instance's own name; print its \
                 runbook from its own file.",
            ),
        ));
    }
    blocks.extend(first_look(subject));
    blocks.push(Block::heading(2, "Incidents"));
    for destination in plan.destinations.values() {
        blocks.extend(held(subject, destination));
        blocks.extend(down(subject, destination));
    }
    for stream in &plan.streams {
        blocks.extend(
            stream
                .webhook
                .as_ref()
                .and_then(|hook| refused_webhooks(subject, stream, hook))
                .into_iter()
                .flatten(),
        );
        blocks.extend(missing_webhooks(subject, stream));
        blocks.extend(failing_poll(subject, stream));
    }
    blocks.extend(halted(subject));
    blocks.extend(rollback(subject));
    blocks.extend(dead_letters(subject));
    blocks.extend(backlog(subject));
    blocks.extend(burning(subject));
    blocks.extend(windows(subject, kept));
    blocks.extend(communication(subject));
    shown::scrubbed(blocks)
}

fn about(subject: &Subject<'_>) -> Block {
    let plan = subject.plan;
    let mut rows = vec![("Version".to_owned(), Line::from(plan.version.as_str()))];
    let owner = plan.owner.as_deref().unwrap_or("nobody is named in the file");
    rows.push(("Owner".to_owned(), Line::from(owner)));
    if let Some(docs) = &plan.docs {
        rows.push(("More".to_owned(), Line::new().address(docs)));
    }
    rows.push((
        "File".to_owned(),
        Line::new().code(subject.files.first().map_or("", String::as_str)),
    ));
    Block::Facts { title: "About".to_owned(), rows }
}

/// Commands about this connector.
fn commands<const N: usize>(lines: [String; N]) -> Block {
    Block::Commands(lines.into())
}

fn first_look(subject: &Subject<'_>) -> Vec<Block> {
    let name = &subject.plan.name;
    vec![
        Block::heading(2, "First look"),
        commands([format!("tenon status {name}"), format!("tenon dlq list --connector {name}")]),
        Block::paragraph(
            "The first says what is held, how much waits and since when, and how the last poll ended; \
             it exits with 1 where something needs attention. What was answered 2xx is on disk: no \
             incident below loses it.",
        ),
    ]
}

/// The destination refuses the credentials.
fn held(subject: &Subject<'_>, plan: &DestinationPlan) -> Vec<Block> {
    let DestinationKind::Http { auth, .. } = &plan.kind else { return Vec::new() };
    let (connector, name) = (&subject.plan.name, &plan.name);
    let secrets = auth.as_ref().map(|auth| secrets_of(subject, auth)).unwrap_or_default();
    let mend = match (auth, secrets.is_empty()) {
        (Some(auth), false) => Line::from("Mend the credentials of auth ")
            .code(&**auth)
            .text(": ")
            .codes(secrets)
            .text(". A changed secret needs no reload."),
        (Some(auth), true) => Line::from("Mend the credentials of auth ").code(&**auth).text("."),
        (None, _) => Line::from(
            "The destination has no credentials here: ask its owner why it refuses, or whether it has moved.",
        ),
    };
    vec![
        Block::Heading(3, Line::from("Destination ").code(&**name).text(" is held")),
        Block::paragraph(
            "It answered 401, 403 or 410, its token was refused for good, or its address is not \
             allowed. Events wait, no attempt is counted, nothing is dropped.",
        ),
        Block::Steps(vec![
            Line::from("See the reason: ").code(format!("tenon status {connector}")),
            mend,
            Line::from("Let it go on: ").code(format!("tenon resume {connector} {name}")),
            Line::from("See that the backlog shrinks: ").code(format!("tenon status {connector}")),
        ]),
    ]
}

/// The secrets that a credential is made of, as they are looked up.
fn secrets_of(subject: &Subject<'_>, auth: &str) -> Vec<String> {
    let Some(auth) = subject.plan.auths.get(auth) else { return Vec::new() };
    let mut names: Vec<String> = Vec::new();
    let identity = auth.identity.iter().flat_map(|it| [&it.certificate, &it.private_key]);
    let exprs = auth.exprs().into_iter().map(|(_, expr)| expr).chain(identity);
    for (root, name) in exprs.flat_map(Expr::uses) {
        let name = name.map(|name| subject.looked_up(&name).to_owned());
        names.extend(name.filter(|name| root == "secret" && !names.contains(name)));
    }
    names
}

/// The canary did worse than its original.
fn halted(subject: &Subject<'_>) -> Vec<Block> {
    let (name, rollout) = (&subject.plan.name, &subject.plan.rollout);
    let Some(of) = rollout.of.as_deref().filter(|_| rollout.mode == RolloutMode::Canary) else {
        return Vec::new();
    };
    vec![
        Block::heading(3, "The canary is halted"),
        Block::paragraph(format!(
            "It did worse than {of} over the last {}. Nothing is lost: its keys go through {of} again, \
             what it was retrying, too, and what it had buried was redelivered.",
            words::time(rollout.halt.within)
        )),
        Block::Steps(vec![
            Line::from("See why: ").code(format!("tenon rollout {name}")),
            Line::from("Mend its file: another content is tried again, from nothing."),
            Line::from("Or let the same one go on: ")
                .code(format!("tenon flag set {name}.share {}", rollout.share)),
        ]),
    ]
}

/// The last change was a mistake.
fn rollback(subject: &Subject<'_>) -> Vec<Block> {
    let name = &subject.plan.name;
    vec![
        Block::heading(3, "The last change was a mistake"),
        Block::Steps(vec![
            Line::from("See which versions are kept: ")
                .code(format!("tenon rollback {name} --list")),
            Line::from("Run the one before: ").code(format!("tenon rollback {name}")),
            Line::from(
                "It runs until the file changes. Events keep their ids, so what is replayed is written \
                 once where the destination honours the key.",
            ),
        ]),
    ]
}

/// The destination does not answer, or not well.
fn down(subject: &Subject<'_>, plan: &DestinationPlan) -> Vec<Block> {
    let (connector, name) = (&subject.plan.name, &plan.name);
    let bridge = bridge(plan);
    let again = if plan.retry.attempts == 1 {
        "Nothing is tried twice: each failure is a dead letter at once.".to_owned()
    } else if bridge.is_by_time {
        let within = words::time(plan.retry.within);
        format!("Each event is tried for {within}; what fails for longer is a dead letter.")
    } else {
        format!(
            "Each event is tried {} times: about {} long, {} at the most, and longer only where the \
             destination asks for it (Retry-After). Then it is a dead letter.",
            plan.retry.attempts,
            words::time(rounded(bridge.usual)),
            words::time(rounded(bridge.longest)),
        )
    };
    let order = match plan.order {
        Order::Key => " Events of one key wait for each other, other keys go on.",
        Order::Strict => {
            " Events of a stream wait for each other: one that fails holds up all behind it until it is a dead letter."
        }
        Order::None => "",
    };
    let (what, repeated) = match plan.kind {
        DestinationKind::Http { .. } if plan.batch.is_some() => (
            " is down or slow",
            Line::from("A replay puts events together anew, so a batch may go under another ")
                .code("Idempotency-Key")
                .text("; it leaves out what a newer revision has superseded."),
        ),
        DestinationKind::Http { .. } => (
            " is down or slow",
            Line::from("A replay carries the same ").code("Idempotency-Key").text(
                " as the first attempt, and leaves out what a newer revision has superseded.",
            ),
        ),
        DestinationKind::File { .. } | DestinationKind::Stdout => (
            " cannot be written",
            Line::from("A replay leaves out what a newer revision has superseded."),
        ),
    };
    let breaker = match &plan.breaker {
        Some(_) => {
            " While the breaker is open nothing is attempted but a few probes, and what is not attempted spends nothing, so where \
             all fails events wait for longer than that."
        }
        None => "",
    };
    let scope = format!("--connector {connector} --destination {name}");
    let mut lines = vec![format!("tenon dlq list {scope}")];
    for reason in bridge.reasons() {
        lines.push(format!("tenon dlq replay {scope} --reason {reason} --dry-run"));
        lines.push(format!("tenon dlq replay {scope} --reason {reason}"));
    }
    vec![
        Block::Heading(3, Line::from("Destination ").code(&**name).text(what)),
        Block::paragraph(format!(
            "{again}{breaker}{order} A shorter outage needs nobody. After a longer one, once the destination is back:"
        )),
        Block::Commands(lines),
        Block::Paragraph(repeated),
    ]
}

/// Signatures that do not verify.
fn refused_webhooks(
    subject: &Subject<'_>,
    stream: &StreamPlan,
    webhook: &WebhookPlan,
) -> Option<Vec<Block>> {
    if webhook.verify.algorithm == Algorithm::None {
        return None;
    }
    let connector = &subject.plan.name;
    let mut secrets: Vec<String> = Vec::new();
    for (root, name) in webhook.secrets.iter().flat_map(|secret| secret.value.uses()) {
        let name = name.map(|name| subject.looked_up(&name).to_owned());
        secrets.extend(name.filter(|name| root == "secret" && !secrets.contains(name)));
    }
    let mend = if secrets.is_empty() {
        Line::from("Compare the webhook's secret with the producer's.")
    } else {
        Line::from("Compare ")
            .codes(secrets)
            .text(" with the producer's. While one is rotated, both can verify: ")
            .code("secrets")
            .text(" in place of ")
            .code("secret")
            .text(".")
    };
    let meanwhile = if stream.poll.is_some() {
        Line::from("What is refused meanwhile is found by the poll: nothing has to be sent again.")
    } else {
        Line::from(
            "What is refused meanwhile has to be sent again by the producer. A repeated event is recognised, so all of it may be sent.",
        )
    };
    Some(vec![
        Block::Heading(3, Line::from("Webhooks of ").code(&*stream.name).text(" are refused")),
        Block::Paragraph(
            Line::from("The producer gets ")
                .code(webhook.verify.on_fail.to_string())
                .text(", and ")
                .code(format!(
                    "tenon_events_total{{connector=\"{connector}\",stream=\"{}\",outcome=\"bad_signature\"}}",
                    stream.name
                ))
                .text(" rises."),
        ),
        Block::Steps(vec![mend, meanwhile]),
    ])
}

/// The poll finds events, and no webhook comes.
fn missing_webhooks(subject: &Subject<'_>, stream: &StreamPlan) -> Vec<Block> {
    let silence = stream.reconcile.as_ref().and_then(|plan| plan.silence);
    let (Some(silence), Some(webhook)) = (silence, &stream.webhook) else { return Vec::new() };
    let (connector, name) = (&subject.plan.name, &stream.name);
    let pace = match silence.faster {
        Some(faster) => format!(
            "Nothing is lost: the poll brings what they do not, every {} until one comes.",
            words::time(faster)
        ),
        None => "Nothing is lost: the poll brings what they do not, later.".to_owned(),
    };
    vec![
        Block::Heading(3, Line::from("Webhooks of ").code(&**name).text(" are missing")),
        Block::Paragraph(
            Line::from(format!(
                "A poll found events {} ago or earlier, and no webhook has come since: ",
                words::time(silence.after)
            ))
            .code(format!("tenon_webhook_silent{{connector=\"{connector}\",stream=\"{name}\"}}"))
            .text(" is 1. ")
            .text(pace),
        ),
        Block::Steps(vec![
            Line::from("See since when, and how many: ").code(format!("tenon status {connector}")),
            Line::from("Look at the producer's list of webhooks: many switch one off that was refused for long. It has to point at ")
                .code(webhook.path.as_str())
                .text(" here."),
            Line::from("See whether they come and are refused: ")
                .code(format!(
                    "tenon_events_total{{connector=\"{connector}\",outcome=\"bad_signature\"}}"
                ))
                .text(" rises then, and the log says why; a wrong clock is named there."),
            Line::from("See whether they reach this machine at all: the proxy before it, its certificate, its name."),
        ]),
    ]
}

fn failing_poll(subject: &Subject<'_>, stream: &StreamPlan) -> Vec<Block> {
    let Some(poll) = &stream.poll else { return Vec::new() };
    let (connector, name) = (&subject.plan.name, &stream.name);
    let goes_on = if poll.cursor.is_some() {
        "The cursor stays where the last durable page left it, so no record is skipped however long it takes."
    } else {
        "It has no cursor: the next run reads everything, and what is known is dropped."
    };
    let credentials = match poll.auth.as_ref().map(|auth| secrets_of(subject, auth)) {
        Some(secrets) if !secrets.is_empty() => {
            Line::from("Held (401, 403): mend ").codes(secrets).text(", then resume.")
        }
        _ => Line::from("Held (401, 403): mend the access, then resume."),
    };
    let job = poll.job.as_ref().map(|job| {
        let within = words::time(job.within);
        Line::from("It waits for a report that the API makes: ").code("tenon status").text(format!(
            " says since when. A restart goes on with it; one that is not done within {within}, or that failed, \
             is asked for anew by the next run."
        ))
    });
    let mut blocks = vec![
        Block::Heading(3, Line::from("The poll of ").code(&**name).text(" fails")),
        Block::paragraph(goes_on),
    ];
    blocks.extend(job.map(Block::Paragraph));
    blocks.extend([
        Block::Steps(vec![
            Line::from(
                "Failed: the API answered what the connector does not expect. The message lists \
                        what there was. Try the map against it without delivering anything, then mend the file.",
            ),
            credentials,
            Line::from(
                "Later: the API was down or asked for patience. The next run is planned; nothing is to be done.",
            ),
        ]),
        commands([
            format!("tenon status {connector}"),
            format!("tenon try {} --stream {name}", file(subject)),
            format!("tenon resume {connector} {name}"),
        ]),
    ]);
    blocks
}

/// The file, as a word of a command.
fn file(subject: &Subject<'_>) -> String {
    let name = subject.files.first().map_or("", String::as_str);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_');
    if name.chars().all(is_plain) {
        name.to_owned()
    } else {
        format!("'{}'", name.replace('\'', r"'\''"))
    }
}

fn dead_letters(subject: &Subject<'_>) -> Vec<Block> {
    let name = &subject.plan.name;
    let filter = format!("--connector {name}");
    vec![
        Block::heading(3, "Records are refused"),
        Block::Paragraph(
            Line::from("Dead letters with ")
                .codes(["map_failed", "schema_failed"])
                .text(" name the field, its path, what was found and the line of the file: mend the line, \
                       or ask the producer. With ")
                .code("rejected")
                .text(" they hold the destination's answer. Then, once it is mended:"),
        ),
        commands([
            format!("tenon dlq list {filter} --reason map_failed"),
            format!("tenon check {}", file(subject)),
            "tenon reload --wait".to_owned(),
            format!("tenon dlq replay {filter} --reason map_failed --dry-run"),
            format!("tenon dlq replay {filter} --reason map_failed"),
        ]),
        Block::Paragraph(
            Line::from("What is wrong for good is discarded, with the ids that the list shows: ")
                .code("tenon dlq discard dl_17")
                .text("."),
        ),
    ]
}

fn backlog(subject: &Subject<'_>) -> Vec<Block> {
    let mut lines = Vec::new();
    for plan in subject.plan.destinations.values() {
        let mut limits = vec![format!("concurrency {}", plan.concurrency)];
        if !plan.rate.is_empty() {
            limits.push(format!("rate {}", words::rates(&plan.rate)));
        }
        limits.push(format!("timeout {}", words::time(plan.timeout)));
        lines.push(Line::new().code(&*plan.name).text(format!(": {}", limits.join(", "))));
    }
    if lines.is_empty() {
        return Vec::new();
    }
    vec![
        Block::heading(3, "The backlog grows"),
        Block::paragraph(
            "The destination takes less than comes in. If it is slow rather than down, its limits in \
             the file may be raised; if it answers 429, lowered. They are now:",
        ),
        Block::List(lines),
        commands([format!("tenon status {}", subject.plan.name)]),
    ]
}

/// The error budget burns.
fn burning(subject: &Subject<'_>) -> Vec<Block> {
    let plan = subject.plan;
    let Some(slo) = &plan.slo else { return Vec::new() };
    let name = &plan.name;
    let gauge = |objective: &str| {
        format!("tenon_slo_alert{{connector=\"{name}\",objective=\"{objective}\"}}")
    };
    let mut causes = Vec::new();
    if let Some(ratio) = slo.success {
        causes.push(
            Line::new()
                .code(gauge("success"))
                .text(format!(": {} are to be delivered, and events die. ", words::percent(ratio)))
                .text("Their reasons say of what; mend it and replay them. The budget does not come back by that."),
        );
    }
    if let Some((quantile, bound)) = slo.latency {
        causes.push(
            Line::new()
                .code(gauge("latency"))
                .text(format!(
                    ": {} are to arrive within {}, and they are late. ",
                    words::percent(quantile),
                    words::time(bound)
                ))
                .text(
                    "Look for a destination that is held, down or slow; then at its limits above.",
                ),
        );
    }
    vec![
        Block::heading(3, "The error budget burns"),
        Block::Paragraph(
            Line::from("Severity ")
                .code("page")
                .text(": at this rate, what may fail over ")
                .text(words::time(slo.window))
                .text(" is spent in a sixth of that time, or sooner. ")
                .code("ticket")
                .text(": it will not last that long; look within the day."),
        ),
        Block::List(causes),
        commands([format!("tenon status {name}"), format!("tenon dlq list --connector {name}")]),
    ]
}

/// How far back events can be had again.
fn windows(subject: &Subject<'_>, kept: Retention) -> Vec<Block> {
    let plan = subject.plan;
    let row = |what: Line, span: String, how: &str| vec![what, Line::from(span), Line::from(how)];
    let mut rows = vec![
        row(
            "delivered events".into(),
            words::time(kept.history),
            "a replay delivers them again, through the current map",
        ),
        row("dead letters".into(), words::time(kept.dead_letters), "kept for that long, then gone"),
    ];
    for stream in &plan.streams {
        let known = "a repeated event is recognised and goes no further";
        let (span, how) = match stream.dedupe {
            Dedupe::Window(window) => (
                words::time(window),
                format!("{known}; a later one has the same id and idempotency key"),
            ),
            Dedupe::Forever => ("without end".to_owned(), known.to_owned()),
        };
        let what = Line::from("repetitions on ").code(&*stream.name);
        rows.push(row(what, span, &how));
        if let Some(cursor) = stream.poll.as_ref().and_then(|poll| poll.cursor.as_deref()) {
            let what = Line::from("the poll of ").code(&*stream.name);
            let span = cursor.lookback.map_or_else(|| "nothing".to_owned(), words::time);
            rows.push(row(what, span, "behind the cursor is read again by each run"));
        }
    }
    for destination in plan.destinations.values().filter(|plan| plan.retry.attempts > 1) {
        let bridge = bridge(destination);
        let what = Line::from("an outage of ").code(&*destination.name);
        let span = words::time(rounded(bridge.longest));
        let span = if bridge.is_by_time {
            span
        } else {
            format!("about {}, at most {span}", words::time(rounded(bridge.usual)))
        };
        rows.push(row(what, span, "is bridged by retries"));
    }
    let mut lines = Vec::new();
    for stream in &plan.streams {
        let scope = format!("--connector {} --stream {}", plan.name, stream.name);
        lines.push(format!("tenon replay {scope} --from -2h --dry-run"));
        lines.push(format!("tenon replay {scope} --from -2h"));
    }
    vec![
        Block::heading(2, "Replay windows"),
        Block::Table(Table {
            caption: "How far back".to_owned(),
            head: vec!["What", "How far", "How"],
            rows,
            is_searched: false,
        }),
        Block::Commands(lines),
        Block::Paragraph(
            Line::from("Begin with ")
                .code("--dry-run")
                .text(": it maps and checks, compares with what was delivered, and delivers nothing. ")
                .code("--key KEY")
                .text(" takes the events of one key, ")
                .code("--destination NAME")
                .text(" one destination, ")
                .code("--outcome dead")
                .text(" what died there; ")
                .code("--rate")
                .text(" sets the pace. ")
                .code("tenon replay list")
                .text(" shows how far it is. Ids and idempotency keys are those of the first delivery: a destination \
                       that honours them for longer ignores the repetition."),
        ),
    ]
}

fn communication(subject: &Subject<'_>) -> Vec<Block> {
    let plan = subject.plan;
    let owner = plan.owner.as_deref().unwrap_or("<owner>");
    let mut rows = vec![("Answers for it".to_owned(), Line::from(owner))];
    if let Some(docs) = &plan.docs {
        rows.push(("Read first".to_owned(), Line::new().address(docs)));
    }
    let mut affected = Vec::new();
    for destination in plan.destinations.values() {
        let streams = plan.streams.iter().filter(|stream| stream.to.contains(&destination.name));
        let streams: Vec<String> = streams.map(|stream| stream.name.to_string()).collect();
        affected.push(format!("{} ({})", destination.name, words::and(&streams)));
    }
    let affected =
        if affected.is_empty() { "<destinations>".to_owned() } else { words::and(&affected) };
    rows.push(("Who waits".to_owned(), Line::from(format!("whoever reads {affected}"))));
    if let Some(tenant) = &plan.tenant {
        rows.push(("Tenant".to_owned(), Line::new().code(tenant.as_str())));
    }
    if let Some(slo) = &plan.slo {
        let success = slo.success.map(|ratio| format!("{} delivered", words::percent(ratio)));
        let latency = slo.latency.map(|(quantile, bound)| {
            format!("{} within {}", words::percent(quantile), words::time(bound))
        });
        let promise: Vec<String> = success.into_iter().chain(latency).collect();
        let promise = format!("{}, over {}", words::and(&promise), words::time(slo.window));
        rows.push(("Promised".to_owned(), Line::from(promise)));
    }
    let name = &plan.name;
    let begin = format!(
        "[{name}] Incident since <time, UTC>\n\n\
         What happens: <one sentence, as those who wait see it>\n\
         Who is affected: {affected}\n\
         What is safe: everything that was accepted is stored and will be delivered.\n\
         What we do: <step>\n\
         Next word: <time, UTC>\n\
         Contact: {owner}"
    );
    let end = format!(
        "[{name}] Resolved at <time, UTC>\n\n\
         What happened: <one sentence>\n\
         From <time> to <time> deliveries to {affected} were delayed; <number> events were delivered late, \
         <number> were replayed, <number> were discarded.\n\
         What changes: <follow-up, with a date>\n\
         Contact: {owner}"
    );
    vec![
        Block::heading(2, "Communication"),
        Block::Facts { title: "Who".to_owned(), rows },
        Block::paragraph("When it begins:"),
        Block::Literal(begin),
        Block::paragraph("When it is over:"),
        Block::Literal(end),
    ]
}
