//! Where events go, how often they are tried, and what becomes of them.

use std::time::Duration;

use super::{
    Subject,
    block::{Block, Line, Table},
    shown, words,
};
use crate::diagnostic::counted;
use crate::plan::{
    BatchPlan, BreakerPlan, DestinationKind, DestinationPlan, Order, ResultsPlan, RetryPlan,
    VerdictPlan,
};

pub(super) fn blocks(subject: &Subject<'_>) -> Vec<Block> {
    let mut blocks = vec![Block::heading(2, "Delivery")];
    if subject.plan.destinations.is_empty() {
        blocks.push(Block::paragraph("An instance says where to."));
        return blocks;
    }
    for destination in subject.plan.destinations.values() {
        blocks.push(Block::Heading(3, Line::from("Destination ").code(&*destination.name)));
        let rows = rows(subject, destination);
        blocks
            .push(Block::Facts { title: format!("How {} is written to", destination.name), rows });
    }
    blocks.push(Block::heading(3, "What becomes of an event"));
    blocks.push(outcomes(subject));
    blocks
}

fn rows(subject: &Subject<'_>, plan: &DestinationPlan) -> Vec<(String, Line)> {
    let mut rows: Vec<(String, Line)> = Vec::new();
    let mut row = |name: &str, line: Line| rows.push((name.to_owned(), line));
    let is_http = matches!(plan.kind, DestinationKind::Http { .. });
    match &plan.kind {
        DestinationKind::Http { method, url, headers, body, auth, on, .. } => {
            row("Writes", Line::new().code(format!("{method} {}", shown::address(url.source()))));
            if let Some(auth) = auth {
                row("Credentials", Line::from("auth ").code(&**auth));
            }
            if !headers.is_empty() {
                row("Headers", shown::settings(subject, headers));
            }
            let body = match body {
                None if plan.batch.is_some() => Line::from("the list of records as JSON"),
                None => Line::from("the record as JSON"),
                Some(tree) => {
                    Line::from("JSON with ").codes(tree.leaves().into_iter().map(|(name, _)| name))
                }
            };
            row("Body", body);
            if let Some(batch) = &plan.batch {
                row("Batches", batches(batch));
            }
            let same = match plan.batch {
                None => ", the same on every attempt, replay and restart",
                Some(_) => ", the same on every attempt of the same events in the same order",
            };
            row("Repetitions", Line::from("recognised by ").code("Idempotency-Key").text(same));
            if !on.is_empty() {
                row("Answers", answers(on));
            }
        }
        DestinationKind::File { path, rotate_bytes, rotate_every, keep } => {
            row("Writes", Line::from("JSON lines to ").code(path.display().to_string()));
            row("Rotated", Line::from(rotation(*rotate_bytes, *rotate_every, *keep)));
        }
        DestinationKind::Stdout => row("Writes", Line::from("JSON lines to standard output")),
    }
    let streams = subject.plan.streams.iter().filter(|stream| stream.to.contains(&plan.name));
    row("Gets", Line::new().codes(streams.map(|stream| stream.name.to_string())));
    let order = match plan.order {
        Order::None => "none: events overtake each other",
        Order::Key => "events of one key one after the other, other keys go on",
        Order::Strict => "the events of a stream one after the other",
    };
    row("Order", Line::from(order));
    let mut limits =
        vec![format!("at most {} at once", counted(plan.concurrency as u64, "attempt"))];
    if !plan.rate.is_empty() {
        limits.push(words::rates(&plan.rate));
    }
    if is_http {
        limits.push(format!("{} an attempt", words::time(plan.timeout)));
    }
    row("Limits", Line::from(limits.join("; ")));
    row("Retry", Line::from(retry(&plan.retry)));
    if is_http {
        row("Breaker", Line::from(breaker(plan.breaker.as_ref())));
    }
    row("Bridges", Line::from(bridged(plan)));
    rows
}

fn batches(plan: &BatchPlan) -> Line {
    let BatchPlan { max, within, max_bytes, results } = plan;
    let line = Line::from(format!(
        "up to {} of one tenant in a request, {} at most; the first waits up to {} for others",
        counted(*max as u64, "event"),
        words::size(*max_bytes as u64),
        words::time(*within),
    ));
    let Some(ResultsPlan { list, by, ok }) = results else {
        return line.text("; the status of the request counts for all of them");
    };
    let line = line.text("; each has its result in ").code(list.source());
    let line = match by {
        None => line.text(", in order"),
        Some(by) => line.text(", found by ").code(by.source()),
    };
    match ok {
        None => line,
        Some(ok) => line.text(", and is taken where ").code(ok.source()),
    }
}

/// Rules in their order.
fn answers(rules: &[VerdictPlan]) -> Line {
    let mut line = Line::new();
    for (number, rule) in rules.iter().enumerate() {
        let line_so_far = if number > 0 { line.text("; ") } else { line };
        line = line_so_far.code(rule.to_string());
    }
    line.text(if rules.is_empty() { "" } else { "; then as below" })
}

fn rotation(bytes: Option<u64>, every: Option<Duration>, keep: Option<usize>) -> String {
    let after = bytes.map(|bytes| format!("after {}", words::size(bytes)));
    let every = every.map(|every| format!("every {}", words::time(every)));
    let when: Vec<String> = after.into_iter().chain(every).collect();
    let when = if when.is_empty() { "never".to_owned() } else { when.join(" or ") };
    match keep {
        Some(keep) => format!("{when}; {} kept", counted(keep as u64, "old file")),
        None => format!("{when}; old files are kept"),
    }
}

fn breaker(plan: Option<&BreakerPlan>) -> String {
    let Some(BreakerPlan { failures, of, within, open, probes }) = plan else {
        return "none".to_owned();
    };
    format!(
        "opens where {}% of at least {} within {} fail, for {}; then {}",
        failures * 100.0,
        counted(u64::from(*of), "attempt"),
        words::time(*within),
        words::time(*open),
        counted(u64::from(*probes), "probe"),
    )
}

fn retry(plan: &RetryPlan) -> String {
    if plan.attempts == 1 {
        return "none: one attempt".to_owned();
    }
    format!(
        "{} within {}; waits of up to {} at first, doubling up to {}, and never less than Retry-After",
        counted(u64::from(plan.attempts), "attempt"),
        words::time(plan.within),
        words::time(plan.from),
        words::time(plan.to),
    )
}

/// How long an outage may be before events become dead letters.
pub(super) struct Bridge {
    /// The mean: waits are drawn evenly from zero to their limit.
    pub usual: Duration,
    /// With the longest waits and attempts that time out.
    pub longest: Duration,
    /// Whether time ends it, not the number of attempts.
    pub is_by_time: bool,
    /// Whether the number of attempts always ends it.
    is_by_count: bool,
}

impl Bridge {
    /// The reasons of the dead letters that an outage leaves.
    pub fn reasons(&self) -> &'static [&'static str] {
        match (self.is_by_time, self.is_by_count) {
            (true, _) => &["time_spent"],
            (_, true) => &["attempts_spent"],
            _ => &["attempts_spent", "time_spent"],
        }
    }
}

pub(super) fn bridge(plan: &DestinationPlan) -> Bridge {
    let retry = &plan.retry;
    let mut waits = Duration::ZERO;
    for before in 0..retry.attempts.saturating_sub(1) {
        let factor = 1_u32.checked_shl(before).unwrap_or(u32::MAX);
        waits = waits.saturating_add(retry.from.saturating_mul(factor).min(retry.to));
    }
    // Only a peer can leave an attempt without an answer.
    let timeout = match plan.kind {
        DestinationKind::Http { .. } => plan.timeout,
        DestinationKind::File { .. } | DestinationKind::Stdout => Duration::ZERO,
    };
    let longest = waits.saturating_add(timeout.saturating_mul(retry.attempts.saturating_sub(1)));
    Bridge {
        usual: (waits / 2).min(retry.within),
        longest: longest.min(retry.within),
        is_by_time: waits / 2 >= retry.within,
        is_by_count: longest < retry.within,
    }
}

fn bridged(plan: &DestinationPlan) -> String {
    if plan.retry.attempts == 1 {
        return "no outage: what fails is a dead letter at once".to_owned();
    }
    let bridge = bridge(plan);
    let longest = words::time(rounded(bridge.longest));
    // An open breaker makes no attempts, and what is not attempted spends nothing.
    let longer = if plan.breaker.is_some() { "; longer while the breaker is open" } else { "" };
    if bridge.is_by_time {
        return format!(
            "an outage of up to {longest}; what fails for longer is a dead letter{longer}"
        );
    }
    let usual = words::time(rounded(bridge.usual));
    format!(
        "an outage of about {usual}, {longest} at the most: then the attempts are spent, and the event is a dead letter{longer}"
    )
}

/// What is meant as a guide needs no seconds where there are hours.
pub(super) fn rounded(time: Duration) -> Duration {
    let unit = match time.as_secs() {
        0..120 => 1,
        120..7200 => 60,
        7200..172_800 => 1800,
        _ => 3600,
    };
    let seconds = (time.as_secs() + unit / 2) / unit * unit;
    if seconds == 0 { time } else { Duration::from_secs(seconds) }
}

fn outcomes(subject: &Subject<'_>) -> Block {
    let is_http =
        |plan: &&std::sync::Arc<DestinationPlan>| matches!(plan.kind, DestinationKind::Http { .. });
    let has_http = subject.plan.destinations.values().any(|plan| is_http(&plan));
    let (delivered, again, held, dead) = if has_http {
        (
            "2xx, or written",
            "408, 425, 429, 5xx, no connection, no answer in time",
            "401, 403, 410, a refused token, an address that is not allowed",
            "any other 4xx; attempts or time are spent; the map or the schema fails",
        )
    } else {
        (
            "written and synced",
            "it cannot be written",
            "a person is needed",
            "attempts or time are spent; the map or the schema fails",
        )
    };
    let row = |outcome: &str, when: &str, then: &str| {
        vec![Line::from(outcome), Line::from(when), Line::from(then)]
    };
    Block::Table(Table {
        caption: "Outcomes".to_owned(),
        head: vec!["Outcome", "When", "What happens"],
        rows: vec![
            row("delivered", delivered, "settled"),
            row("superseded", "a newer revision was delivered before", "settled, counted"),
            row("retry", again, "again later; the attempt counts"),
            row(
                "held",
                held,
                "the destination is parked until somebody resumes it; nothing is dropped",
            ),
            row("dead", dead, "a dead letter with the whole story, to be replayed"),
        ],
        is_searched: false,
    })
}
