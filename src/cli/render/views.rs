//! What each answer of the daemon looks like. Pure: the time it is, is an argument.

use std::{fmt::Write as _, time::Duration};

use super::{
    reconciled::reconciled,
    rollouts::rollout_line,
    table::{Cell, Style, Tone, table},
};
use crate::{
    admin::api::{
        BodyView, BulkReport, DeadList, DeadView, EventView, StatusView, TraceRun, TraceView,
    },
    bus::embedded::doctor::DoctorReport,
    cli::when::short,
    diagnostic::counted,
    engine::{
        BackfillStatus, ConnectorStatus, DestinationStatus, PartitionStatus, ReloadReport,
        StreamStatus,
    },
    ingest::poll::state::{Rewind, Rewound, StreamState},
    observe::slo::Kept,
    world::Timestamp,
};

fn bytes(count: u64) -> String {
    let mut size = count as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = larger;
    }
    if unit == "B" { format!("{count} B") } else { format!("{size:.1} {unit}") }
}

fn age(at: Option<Timestamp>, now: Timestamp) -> String {
    at.map(|at| short(now.since(at))).unwrap_or_default()
}

fn ahead(at: Option<Timestamp>, now: Timestamp) -> String {
    match at {
        None => String::new(),
        Some(at) if at <= now => "now".to_owned(),
        // Rounded, so that a poll just planned for in 5 minutes does not say 4.
        Some(at) => format!("in {}", short(at.since(now) + Duration::from_millis(500))),
    }
}

fn tone_of(state: &str) -> Tone {
    match state {
        "running" => Tone::Good,
        "off" => Tone::Plain,
        "restarting" | "outdated" | "draining" => Tone::Doubtful,
        _ => Tone::Bad,
    }
}

/// The daemon in a line or two, a table of its connectors, and what is wrong with whom.
pub fn status(view: &StatusView, now: Timestamp, style: Style) -> String {
    let mut out = headline(view, now, style);
    if view.status.connectors.is_empty() {
        return out;
    }
    let rows: Vec<Vec<Cell>> =
        view.status.connectors.iter().map(|connector| row(view, connector, now)).collect();
    let headings = ["CONNECTOR", "VERSION", "STATE", "BACKLOG", "OLDEST", "DEAD", "NEXT POLL"];
    out.push('\n');
    out.push_str(&table(&headings, &["BACKLOG", "OLDEST", "DEAD"], &rows, style));
    let troubled = view.status.connectors.iter().filter_map(|connector| {
        connector.problem.as_ref().map(|problem| (&connector.name, problem))
    });
    let troubled = troubled.map(|(name, problem)| format!("{name}: {}", indented(problem)));
    let burning = view.status.connectors.iter().flat_map(|connector| {
        let pages = connector.slo.iter().filter(|kept| kept.pages());
        pages.map(|kept| {
            let left = match kept.budget_left {
                left if left > 0.0 => percent(left),
                _ => "nothing".to_owned(),
            };
            let (name, goal) = (&connector.name, kept.goal.word());
            format!("{name}: the error budget of {goal} burns, {left} of it is left")
        })
    });
    for (index, line) in troubled.chain(burning).enumerate() {
        let gap = if index == 0 { "\n" } else { "" };
        let _ = writeln!(out, "{gap}{line}");
    }
    out
}

fn headline(view: &StatusView, now: Timestamp, style: Style) -> String {
    let status = &view.status;
    let mut out = format!(
        "tenon {} {} for {} · {} · {} unsettled · {}",
        status.version,
        style.paint(tone_of(&status.state), &status.state),
        short(now.since(status.started_at)),
        counted(status.connectors.len() as u64, "connector"),
        status.unsettled,
        counted(status.dead_letters, "dead letter"),
    );
    if status.disk_limit_bytes > 0 {
        let (used, limit) = (bytes(status.disk_bytes), bytes(status.disk_limit_bytes));
        let _ = write!(out, " · journal {used} of {limit}");
    }
    out.push('\n');
    if let Some(why) = &status.refusing {
        let _ = writeln!(out, "{}: {why}", style.paint(Tone::Bad, "takes no events"));
    }
    out
}

fn row(view: &StatusView, connector: &ConnectorStatus, now: Timestamp) -> Vec<Cell> {
    let backlog: u64 = connector.destinations.iter().map(|d| d.backlog).sum();
    let oldest = connector.destinations.iter().filter_map(|d| d.oldest).min();
    let next_poll = connector.streams.iter().filter_map(|s| s.next_poll).min();
    let dead = view.dead_by_connector.get(&connector.name).copied().unwrap_or(0);
    let dead_tone = if dead > 0 { Tone::Doubtful } else { Tone::Plain };
    vec![
        connector.name.clone().into(),
        connector.version.clone().into(),
        Cell { text: state_of(connector), tone: tone_of(&connector.state) },
        backlog.to_string().into(),
        age(oldest, now).into(),
        Cell { text: dead.to_string(), tone: dead_tone },
        ahead(next_poll, now).into(),
    ]
}

/// The state, and where the connector is not simply live what it is: `running, canary 10% (by flag)`.
fn state_of(connector: &ConnectorStatus) -> String {
    let mut text = connector.state.clone();
    let Some(rollout) = &connector.rollout else { return text };
    let is_plain = rollout.mode == "live" && !rollout.mode_by_flag;
    let is_told = rollout.mode == connector.state || is_plain;
    if !is_told {
        let _ = write!(text, ", {}", rollout.mode);
    }
    let canary = rollout.canary.as_ref().filter(|canary| canary.halted.is_none());
    if let Some(canary) = canary {
        let _ = write!(text, " {}", canary.share);
    }
    if rollout.mode_by_flag || canary.is_some_and(|canary| canary.share_by_flag) {
        text.push_str(" (by flag)");
    }
    if rollout.pinned.is_some() {
        text.push_str(", rolled back");
    }
    text
}

/// Further lines of a message stand under its first.
fn indented(message: &str) -> String {
    message.trim_end().replace('\n', "\n    ")
}

/// Each connector with its streams and destinations.
pub fn connectors_in_detail(view: &StatusView, now: Timestamp) -> String {
    let connectors = view.status.connectors.iter();
    connectors.map(|connector| detail(view, connector, now)).collect::<Vec<_>>().join("\n")
}

fn detail(view: &StatusView, connector: &ConnectorStatus, now: Timestamp) -> String {
    let dead = view.dead_by_connector.get(&connector.name).copied().unwrap_or(0);
    let mut out = fields(&[
        ("connector", connector.name.clone()),
        ("version", connector.version.clone()),
        ("owner", connector.owner.clone().unwrap_or_default()),
        ("file", connector.file.display().to_string()),
        ("state", connector.state.clone()),
        ("rollout", connector.rollout.as_ref().map(rollout_line).unwrap_or_default()),
        ("generation", connector.generation.to_string()),
        ("dead letters", dead.to_string()),
        ("problem", connector.problem.as_deref().map(indented).unwrap_or_default()),
    ]);
    if !connector.streams.is_empty() {
        let rows: Vec<_> = connector.streams.iter().map(|s| stream_row(s, now)).collect();
        let headings = ["STREAM", "WEBHOOK", "LAST POLL", "RESULT", "NEXT POLL", "CURSOR"];
        let _ = write!(out, "\n{}", table(&headings, &[], &rows, Style::default()));
        out.push_str(&reconciled(&connector.streams, now));
    }
    let partitioned = connector.streams.iter().filter_map(|s| Some((s, s.partitions.as_ref()?)));
    let rows: Vec<_> = partitioned.map(|(stream, all)| partition_row(stream, all)).collect();
    if !rows.is_empty() {
        let headings = ["STREAM", "PARTITIONS", "FAILING", "FURTHEST BACK", "FIRST FAILURE"];
        let right = ["PARTITIONS", "FAILING"];
        let _ = write!(out, "\n{}", table(&headings, &right, &rows, Style::default()));
    }
    if !connector.destinations.is_empty() {
        let rows: Vec<_> = connector.destinations.iter().map(|d| destination_row(d, now)).collect();
        let headings = ["DESTINATION", "TYPE", "BACKLOG", "OLDEST", "HELD"];
        let _ =
            write!(out, "\n{}", table(&headings, &["BACKLOG", "OLDEST"], &rows, Style::default()));
    }
    if !connector.slo.is_empty() {
        let rows: Vec<_> = connector.slo.iter().map(promise_row).collect();
        let headings = ["OBJECTIVE", "KEPT", "EVENTS", "BAD", "BUDGET LEFT", "BURN RATE", "ALERT"];
        let right = ["KEPT", "EVENTS", "BAD", "BUDGET LEFT", "BURN RATE"];
        let _ = write!(out, "\n{}", table(&headings, &right, &rows, Style::default()));
    }
    out
}

/// How a promise of `[slo]` is kept. The burn rate is that of the shortest long span.
fn promise_row(kept: &Kept) -> Vec<Cell> {
    let within = kept.bound_ms.map(|ms| format!(" within {}", span(Duration::from_millis(ms))));
    let promised = format!(
        "{} {}{} over {}",
        kept.goal.word(),
        percent(kept.target),
        within.unwrap_or_default(),
        span(Duration::from_secs(kept.window_s))
    );
    let rate = kept.burns.first().map(|burn| format!("{:.1}", burn.long_rate));
    let mut on: Vec<&str> =
        kept.burns.iter().filter(|burn| burn.is_on).map(|burn| burn.severity.word()).collect();
    on.dedup();
    vec![
        promised.into(),
        kept.ratio.map(percent).unwrap_or_default().into(),
        kept.events.to_string().into(),
        kept.bad.to_string().into(),
        percent(kept.budget_left).into(),
        rate.unwrap_or_default().into(),
        on.join(", ").into(),
    ]
}

/// `99.9%`, with as many digits as it takes and no more than four.
fn percent(share: f64) -> String {
    let text = format!("{:.4}", share * 100.0);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

/// A time in the largest unit that it is whole in.
fn span(time: Duration) -> String {
    let ms = time.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
    let unit = units.into_iter().find(|(size, _)| ms >= *size && ms.is_multiple_of(*size));
    unit.map_or_else(|| format!("{ms}ms"), |(size, name)| format!("{}{name}", ms / size))
}

fn stream_row(stream: &StreamStatus, now: Timestamp) -> Vec<Cell> {
    let last = stream.last_poll.map(|at| format!("{} ago", short(now.since(at))));
    vec![
        stream.name.clone().into(),
        stream.webhook.clone().unwrap_or_default().into(),
        last.unwrap_or_default().into(),
        result_of(stream, now).into(),
        ahead(stream.next_poll, now).into(),
        stream.cursor.clone().unwrap_or_default().into(),
    ]
}

/// What came of the last poll; of one that waits for a job of the API, since when.
fn result_of(stream: &StreamStatus, now: Timestamp) -> String {
    match &stream.job {
        Some(job) if job.count > 1 => {
            format!("waits for {} jobs, the first for {}", job.count, short(now.since(job.since)))
        }
        Some(job) => format!("waits for a job for {}", short(now.since(job.since))),
        None => stream.last_poll_result.clone().unwrap_or_default(),
    }
}

/// What a stream's poll is read for; a run that is not over says so.
fn partition_row(stream: &StreamStatus, all: &PartitionStatus) -> Vec<Cell> {
    let so_far = if all.under_way { " so far" } else { "" };
    let pair = |name: &Option<String>, what: &Option<String>| match (name, what) {
        (Some(name), Some(what)) => format!("{name}: {what}"),
        (Some(name), None) => name.clone(),
        _ => String::new(),
    };
    let tone = if all.failing > 0 { Tone::Bad } else { Tone::Plain };
    vec![
        stream.name.clone().into(),
        format!("{}{so_far}", all.count).into(),
        Cell { text: all.failing.to_string(), tone },
        pair(&all.oldest, &all.oldest_cursor).into(),
        pair(&all.first_failing, &all.first_failure).into(),
    ]
}

fn destination_row(destination: &DestinationStatus, now: Timestamp) -> Vec<Cell> {
    let breaker = destination.breaker.as_ref().map(|breaker| format!("breaker {breaker}"));
    vec![
        destination.name.clone().into(),
        destination.kind.clone().into(),
        destination.backlog.to_string().into(),
        age(destination.oldest, now).into(),
        destination.held.clone().or(breaker).unwrap_or_default().into(),
    ]
}

/// Names and values in two columns; empty values are left out.
fn fields(pairs: &[(&str, String)]) -> String {
    let pairs = || pairs.iter().filter(|(_, value)| !value.is_empty());
    let width = pairs().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut out = String::new();
    for (name, value) in pairs() {
        let _ = writeln!(out, "{name:width$}  {value}");
    }
    out
}

fn event_fields(event: &EventView) -> Vec<(&'static str, String)> {
    vec![
        ("stream", format!("{}/{}", event.connector, event.stream)),
        ("key", event.key.clone()),
        ("revision", event.revision.clone()),
        ("tenant", event.tenant.clone().unwrap_or_default()),
        (
            "received",
            format!("{} by {}{}", event.received_at.rfc3339(), event.origin, apart(event)),
        ),
        ("removal", if event.delete { "yes".to_owned() } else { String::new() }),
        ("trace", event.traceparent.clone().unwrap_or_default()),
    ]
}

/// How far the payload's time is from when it was received: two clocks and the way between them.
fn apart(event: &EventView) -> String {
    let Some(theirs) = event.revision_at else { return String::new() };
    let ours = event.received_at;
    if theirs > ours {
        format!(", {} before its revision's time", short(theirs.since(ours)))
    } else {
        format!(", {} after its revision's time", short(ours.since(theirs)))
    }
}

fn body_text(body: Option<&BodyView>) -> String {
    match body {
        None => String::new(),
        Some(BodyView::Record(record)) => format!("\n{record:#}\n"),
        Some(BodyView::Withheld(why)) => format!("\nrecord withheld: {why}\n"),
    }
}

/// An event's life; one part for each time that it was journalled.
pub fn trace(view: &TraceView) -> String {
    view.runs.iter().map(run).collect::<Vec<_>>().join("\n")
}

fn run(run: &TraceRun) -> String {
    let mut pairs = vec![("event", run.event.id.clone())];
    pairs.extend(event_fields(&run.event));
    let rows: Vec<Vec<Cell>> = run
        .steps
        .iter()
        .map(|step| {
            let destination = step.destination.clone().unwrap_or_default();
            let what = step.what.clone();
            vec![
                step.at.rfc3339().into(),
                what.into(),
                destination.into(),
                step.detail.clone().into(),
            ]
        })
        .collect();
    let steps = table(&["AT", "WHAT", "DESTINATION", "DETAIL"], &[], &rows, Style::default());
    format!("{}\n{steps}{}", fields(&pairs), body_text(run.body.as_ref()))
}

/// Dead letters, and how many are not shown.
pub fn dead_list(list: &DeadList, now: Timestamp) -> String {
    if list.letters.is_empty() {
        return "no dead letters\n".to_owned();
    }
    let rows: Vec<Vec<Cell>> = list
        .letters
        .iter()
        .map(|letter| {
            vec![
                letter.id.clone().into(),
                format!("{}/{}", letter.connector, letter.stream).into(),
                letter.destination.clone().into(),
                match &letter.variant {
                    Some(canary) => format!("{} in {canary}", letter.reason).into(),
                    None => letter.reason.clone().into(),
                },
                format!("{} ago", short(now.since(letter.died_at))).into(),
                letter.event.clone().into(),
            ]
        })
        .collect();
    let headings = ["ID", "STREAM", "DESTINATION", "REASON", "DIED", "EVENT"];
    let mut out = table(&headings, &[], &rows, Style::default());
    let hidden = list.total - list.letters.len().min(list.total);
    if hidden > 0 {
        let _ = writeln!(out, "… and {hidden} older ones (--limit)");
    }
    out
}

/// One dead letter's whole story, and the ways out.
pub fn dead_letter(letter: &DeadView) -> String {
    let mut pairs = vec![
        ("dead letter", letter.id.clone()),
        ("reason", letter.reason.clone()),
        ("message", indented(&letter.message)),
        ("destination", letter.destination.clone()),
        ("died", letter.died_at.rfc3339()),
        ("attempts", letter.attempts.to_string()),
        ("status", letter.status.map(|status| status.to_string()).unwrap_or_default()),
        ("canary", letter.variant.clone().unwrap_or_default()),
        ("event", letter.event.id.clone()),
    ];
    pairs.extend(event_fields(&letter.event));
    format!("{}{}", fields(&pairs), body_text(letter.body.as_ref()))
}

/// What a bulk replay or discard did; `verb` is `replay` or `discard`.
pub fn bulk(report: &BulkReport, verb: &str) -> String {
    let done = counted(report.done.len() as u64, "dead letter");
    let mut out = match (report.dry_run, verb) {
        (true, _) => format!("would {verb} {done}\n"),
        (false, "replay") => format!("replayed {done}\n"),
        (false, _) => format!("discarded {done}\n"),
    };
    if report.dry_run {
        for id in &report.done {
            let _ = writeln!(out, "  {id}");
        }
    }
    for failed in &report.failed {
        let _ = writeln!(out, "{}: {}", failed.id, failed.message);
    }
    if report.more {
        let left = report.matched.saturating_sub(report.done.len() + report.failed.len());
        let _ = writeln!(out, "{left} more match; run it again");
    }
    out
}

/// What a reload did, connector by connector where something happened.
pub fn reload(report: &ReloadReport, style: Style) -> String {
    let groups = [
        ("added", Tone::Good, &report.added),
        ("changed", Tone::Good, &report.changed),
        ("removed", Tone::Doubtful, &report.removed),
        ("rolled back", Tone::Doubtful, &report.rolled_back),
        ("failed", Tone::Bad, &report.failed),
    ];
    let rows: Vec<Vec<Cell>> = groups
        .into_iter()
        .flat_map(|(word, tone, names)| names.iter().map(move |name| (word, tone, name)))
        .map(|(word, tone, name)| {
            let generation = report.generations.get(name).map(ToString::to_string);
            let word = Cell { text: word.to_owned(), tone };
            vec![name.clone().into(), word, generation.unwrap_or_default().into()]
        })
        .collect();
    let mut out = String::new();
    if !rows.is_empty() {
        out = table(&["CONNECTOR", "RELOAD", "GENERATION"], &["GENERATION"], &rows, style);
    }
    let _ = writeln!(out, "{} unchanged, {} ms", report.unchanged, report.took_ms);
    out
}

/// Where polls stand.
pub fn states(all: &[StreamState]) -> String {
    let mut out = String::new();
    for state in all {
        let StreamState { connector, stream, partitions, parents, .. } = state;
        let at = match (&state.cursor, partitions) {
            (Some(cursor), _) => cursor.clone(),
            (None, 0) => "at its start".to_owned(),
            (None, _) => counted(*partitions, "partition"),
        };
        let _ = writeln!(out, "{connector}/{stream}  {at}");
        if let Some((partition, cursor)) = &state.furthest_back {
            let _ = writeln!(out, "  furthest back: {partition} at {cursor}");
        }
        if *parents > 0 {
            let _ = writeln!(out, "  remembers {} for other streams", counted(*parents, "record"));
        }
        if let Some(problem) = &state.problem {
            let _ = writeln!(out, "  {problem}");
        }
    }
    if all.is_empty() {
        out.push_str("nothing is remembered\n");
    }
    out
}

/// What a rewind did.
pub fn rewound(wanted: &Rewind, rewound: &Rewound) -> String {
    let Rewind { connector, stream, .. } = wanted;
    let name = |at: &Option<String>| at.clone().unwrap_or_else(|| "its start".to_owned());
    let mut out = match rewound.moved {
        0 => format!("{connector}/{stream}: no cursor moved\n"),
        1 => format!(
            "{connector}/{stream}: from {} to {}\n",
            name(&rewound.before),
            name(&rewound.now)
        ),
        many => format!(
            "{connector}/{stream}: {} moved to {}\n",
            counted(many, "cursor"),
            name(&rewound.now)
        ),
    };
    if rewound.left > 0 {
        let left = counted(rewound.left, "cursor");
        let _ = writeln!(out, "  {left} stood there or further back, and were left alone");
    }
    out
}

/// Backfills, one after the other.
pub fn backfills(all: &[BackfillStatus]) -> String {
    let mut out = String::new();
    for backfill in all {
        let BackfillStatus { connector, stream, from, to, state, .. } = backfill;
        let share = backfill.share.filter(|_| state == "running");
        let share = share.map(|share| format!(" ({:.0} %)", share * 100.0)).unwrap_or_default();
        let _ = writeln!(out, "{connector}/{stream}  {from} to {to}: {state}{share}");
        let records = counted(backfill.items, "record");
        let requests = counted(backfill.requests, "request");
        let _ = writeln!(
            out,
            "  {records} in {requests}: {} new, {} known, {} outside of the range or not wanted",
            backfill.accepted, backfill.duplicates, backfill.filtered
        );
        for (count, what) in [
            (backfill.unnamed, "records without a key: the log says which"),
            (backfill.skipped, "requests given up by a rule: the log says which"),
        ] {
            if count > 0 {
                let _ = writeln!(out, "  {count} {what}");
            }
        }
        if let Some(problem) = &backfill.problem {
            let _ = writeln!(out, "  {}", indented(problem));
        }
    }
    if all.is_empty() {
        out.push_str("no backfills\n");
    }
    out
}

/// What was found in a state folder, and what a repair did or would do about it.
pub fn doctor(report: &DoctorReport, is_repaired: bool) -> String {
    let mut out = format!(
        "{} in {} ({}): {}, {}, {}; {} unsettled\n",
        counted(report.records, "record"),
        counted(report.segments, "segment"),
        bytes(report.bytes),
        counted(report.events, "event"),
        counted(report.settlements, "settlement"),
        counted(report.dead_letters, "dead letter"),
        report.unsettled,
    );
    if report.findings.is_empty() {
        return out + "nothing is wrong\n";
    }
    for found in &report.findings {
        let repair = if is_repaired { "repaired" } else { "--repair" };
        let _ = writeln!(out, "{}: {}, {}", found.file, found.what, found.detail);
        let _ = writeln!(out, "    {repair}: {}", found.repair);
    }
    out
}

#[cfg(test)]
#[path = "views_tests.rs"]
mod tests;
