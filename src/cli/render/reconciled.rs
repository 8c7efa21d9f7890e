//! What `tenon status CONNECTOR` says of webhooks as against polls: what is missing, what was read
//! again, whose clock is wrong.

use std::fmt::Write as _;

use super::table::{Cell, Style, table};
use crate::{
    cli::when::short,
    engine::{ReconcileStatus, StreamStatus},
    world::{Timestamp, skew_text},
};

/// A table of the streams that are read again, and a line for each thing that is not as it should be.
pub(super) fn reconciled(streams: &[StreamStatus], now: Timestamp) -> String {
    let mut out = String::new();
    let rows: Vec<Vec<Cell>> = streams
        .iter()
        .filter_map(|stream| Some(row(&stream.name, stream.reconcile.as_ref()?, now)))
        .collect();
    if !rows.is_empty() {
        let headings = ["RECONCILED", "STATE", "LAST", "READ", "KNOWN", "FOUND", "NEXT"];
        let numbers = ["READ", "KNOWN", "FOUND"];
        let _ = write!(out, "\n{}", table(&headings, &numbers, &rows, Style::default()));
    }
    let troubles: Vec<String> = streams.iter().flat_map(|stream| troubles(stream, now)).collect();
    for (index, trouble) in troubles.iter().enumerate() {
        let gap = if index == 0 { "\n" } else { "" };
        let _ = writeln!(out, "{gap}{trouble}");
    }
    out
}

fn row(stream: &str, status: &ReconcileStatus, now: Timestamp) -> Vec<Cell> {
    let last = status.began_at.map(|at| format!("{} ago", short(now.since(at))));
    let next = status.next.map(|at| format!("in {}", short(at.since(now))));
    vec![
        stream.to_owned().into(),
        status.state.clone().into(),
        last.unwrap_or_default().into(),
        status.read.to_string().into(),
        status.known.to_string().into(),
        status.found.to_string().into(),
        next.unwrap_or_default().into(),
    ]
}

fn troubles(stream: &StreamStatus, now: Timestamp) -> Vec<String> {
    let mut found = Vec::new();
    let name = &stream.name;
    if let Some(webhooks) = stream.webhooks.as_ref().filter(|webhooks| webhooks.silent) {
        let last = webhooks.last.map_or_else(
            || "none ever came".to_owned(),
            |last| format!("the last came {} ago", short(now.since(last))),
        );
        let missed = webhooks.missed;
        found.push(format!("{name}: webhooks are missing: {last}, polls found {missed} since"));
    }
    let problem = stream.reconcile.as_ref().and_then(|status| status.problem.as_ref());
    found.extend(problem.map(|problem| format!("{name}: the reconciliation: {problem}")));
    for clock in stream.clocks.iter().filter(|clock| clock.off) {
        let whose = if clock.from == "poll" { "the source" } else { "whoever signs its webhooks" };
        found.push(format!("{name}: the clock of {whose} is {}", skew_text(clock.millis)));
    }
    found
}
