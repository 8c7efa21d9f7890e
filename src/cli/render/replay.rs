//! What replays look like, and what a dry run found. Pure.

use std::fmt::Write as _;

use super::table::{Cell, Style, table};
use crate::{
    diagnostic::counted,
    engine::{FieldChange, ReplayLane, ReplayReport, ReplaySource, ReplayStatus},
    world::Timestamp,
};

/// Replays, one after the other.
pub fn replays(all: &[ReplayStatus]) -> String {
    let mut out = String::new();
    for replay in all {
        let share = replay.share.filter(|_| replay.is_running());
        let share = share.map(|share| format!(" ({:.0} %)", share * 100.0)).unwrap_or_default();
        let _ = writeln!(out, "{}  {}: {}{share}", replay.id, what(replay), replay.state);
        let _ = writeln!(
            out,
            "  {} of {} replayed, at {}{}",
            replay.replayed,
            counted(replay.matched, "matching event"),
            replay.request.rate,
            if replay.request.new_keys { ", under new idempotency keys" } else { "" },
        );
        let outcomes = replay.outcomes;
        let _ = writeln!(
            out,
            "  of {}: {} delivered, {} superseded, {} dead, {} on their way",
            counted_deliveries(replay.deliveries),
            outcomes.delivered,
            outcomes.superseded,
            outcomes.dead,
            replay.pending
        );
        if replay.without_plan > 0 {
            let gone = counted(replay.without_plan, "event");
            let _ = writeln!(
                out,
                "  {gone} left out: their connector, stream or destination does not run"
            );
        }
        if replay.unreadable > 0 {
            let letters = counted(replay.unreadable, "letter");
            let _ = writeln!(out, "  {letters} cannot be read: `tenon doctor` says of the disk");
        }
        if let Some(problem) = &replay.problem {
            let _ = writeln!(out, "  {}", problem.trim_end().replace('\n', "\n    "));
        }
    }
    if all.is_empty() {
        out.push_str("no replays\n");
    }
    out
}

fn counted_deliveries(count: u64) -> String {
    if count == 1 { "1 delivery".to_owned() } else { format!("{count} deliveries") }
}

/// "dead letters, connector shop, reason rejected, from … to …"
fn what(replay: &ReplayStatus) -> String {
    let request = &replay.request;
    let mut text = match request.source {
        ReplaySource::History => "history".to_owned(),
        ReplaySource::DeadLetters => "dead letters".to_owned(),
    };
    let filters = [
        ("connector", &request.connector),
        ("stream", &request.stream),
        ("destination", &request.destination),
        ("key", &request.key),
        ("event", &request.event),
        ("tenant", &request.tenant),
        ("outcome", &request.outcome),
        ("reason", &request.reason),
    ];
    for (name, value) in filters {
        if let Some(value) = value {
            let _ = write!(text, ", {name} {value}");
        }
    }
    if request.from > Timestamp(0) {
        let _ = write!(text, ", from {}", request.from.rfc3339());
    }
    let _ = write!(text, " to {}", request.to.rfc3339());
    text
}

/// What a replay would do.
pub fn replay_report(report: &ReplayReport) -> String {
    let mut out = format!("{} would be replayed\n", counted(report.matched, "event"));
    if !report.lanes.is_empty() {
        out.push('\n');
        out.push_str(&lanes(&report.lanes));
    }
    for (event, output) in &report.samples {
        let _ = writeln!(out, "\n{event} would be sent as\n{output:#}");
    }
    if let Some(against) = &report.against {
        compared(&mut out, against, report);
    }
    if report.failing_total > 0 {
        let failing = counted(report.failing_total, "event");
        let _ = writeln!(out, "\n{failing} would fail the current map or schema:");
    }
    for (event, message) in &report.failing {
        let _ = writeln!(out, "  {event}: {}", message.trim_end().replace('\n', "\n    "));
    }
    let hidden = report.failing_total.saturating_sub(report.failing.len() as u64);
    if hidden > 0 {
        let _ = writeln!(out, "  … and {hidden} more");
    }
    if report.without_plan > 0 {
        let gone = counted(report.without_plan, "event");
        let _ = writeln!(out, "\n{gone} left out: their connector, stream or destination is gone");
    }
    if report.unreadable > 0 {
        let _ = writeln!(out, "\n{} cannot be read", counted(report.unreadable, "letter"));
    }
    if report.beyond_limit {
        out.push_str("\na replay would end at its limit before all of them (--limit)\n");
    }
    out
}

type Count = fn(&ReplayLane) -> u64;

/// A table, without the columns that are nothing but zeros.
fn lanes(lanes: &[ReplayLane]) -> String {
    let columns: [(&str, Count); 7] = [
        ("SAME", |lane| lane.same),
        ("DIFFERS", |lane| lane.differs),
        ("UNKNOWN", |lane| lane.unknown),
        ("UNDELIVERED", |lane| lane.undelivered),
        ("SUPERSEDED", |lane| lane.superseded),
        ("MAP FAILS", |lane| lane.map_failed),
        ("SCHEMA FAILS", |lane| lane.schema_failed),
    ];
    let used: Vec<_> =
        columns.into_iter().filter(|(_, of)| lanes.iter().any(|lane| of(lane) > 0)).collect();
    let mut headings = vec!["STREAM", "DESTINATION", "EVENTS"];
    headings.extend(used.iter().map(|(name, _)| *name));
    let rows: Vec<Vec<Cell>> = lanes
        .iter()
        .map(|lane| {
            let mut row: Vec<Cell> = vec![
                format!("{}/{}", lane.connector, lane.stream).into(),
                lane.destination.clone().into(),
                lane.events.to_string().into(),
            ];
            row.extend(used.iter().map(|(_, of)| of(lane).to_string().into()));
            row
        })
        .collect();
    table(&headings, &headings[2..], &rows, Style::default())
}

fn compared(out: &mut String, against: &str, report: &ReplayReport) {
    let (fits, differs) = (report.against_fits, report.against_differs);
    if fits + differs > 0 {
        let _ = writeln!(
            out,
            "\n{against} gives what was delivered for {fits} of {}",
            counted(fits + differs, "delivered event")
        );
    }
    if report.fields.is_empty() {
        let _ = writeln!(out, "\nno field differs from {against}");
        return;
    }
    let _ = writeln!(out, "\nagainst {against}:");
    for field in &report.fields {
        let FieldChange { connector, stream, path, events, event, old, new } = field;
        let shown = |value: &Option<serde_json::Value>| {
            value.as_ref().map_or_else(|| "(none)".to_owned(), ToString::to_string)
        };
        let events = counted(*events, "event");
        let _ = writeln!(out, "  {connector}/{stream}  {path}  in {events}");
        let _ = writeln!(out, "    {} → {} in {event}", shown(old), shown(new));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::engine::{ReplayOutcomes, ReplayRequest};

    fn status() -> ReplayStatus {
        ReplayStatus {
            id: "rp_0d2i1ks05g07".to_owned(),
            request: ReplayRequest {
                connector: Some("shop".to_owned()),
                reason: Some("map_failed".to_owned()),
                from: Timestamp(1_795_341_600_000),
                to: Timestamp(1_795_345_200_000),
                ..ReplayRequest::default()
            },
            state: "running".to_owned(),
            share: Some(0.42),
            looked_at: 900,
            matched: 120,
            replayed: 118,
            deliveries: 236,
            without_plan: 2,
            pending: 5,
            outcomes: ReplayOutcomes { delivered: 229, superseded: 1, dead: 1 },
            problem: Some("12 unsettled events".to_owned()),
            ..ReplayStatus::default()
        }
    }

    #[test]
    fn a_replay_says_how_far_it_is_and_how_its_events_ended() {
        insta::assert_snapshot!(replays(&[status()]));
        assert_eq!(replays(&[]), "no replays\n");
    }

    #[test]
    fn a_dry_run_counts_by_lane_and_shows_what_is_new() {
        let lane = ReplayLane {
            connector: "shop".to_owned(),
            stream: "orders".to_owned(),
            destination: "erp".to_owned(),
            events: 120,
            same: 100,
            differs: 17,
            map_failed: 3,
            ..ReplayLane::default()
        };
        let report = ReplayReport {
            matched: 122,
            lanes: vec![lane],
            failing: vec![("evt_a".to_owned(), "map_failed: total\n(shop.toml:7)".to_owned())],
            failing_total: 3,
            without_plan: 2,
            samples: vec![("evt_b".to_owned(), json!({"id": 1}))],
            ..ReplayReport::default()
        };
        insta::assert_snapshot!(replay_report(&report));
    }

    #[test]
    fn against_another_version_fields_are_told() {
        let report = ReplayReport {
            matched: 20,
            against: Some("HEAD~1".to_owned()),
            against_fits: 17,
            against_differs: 1,
            fields: vec![FieldChange {
                connector: "shop".to_owned(),
                stream: "orders".to_owned(),
                path: "lines[].total".to_owned(),
                events: 18,
                event: "evt_b".to_owned(),
                old: Some(json!("7.10")),
                new: None,
            }],
            beyond_limit: true,
            ..ReplayReport::default()
        };
        insta::assert_snapshot!(replay_report(&report));
        let same = ReplayReport { fields: Vec::new(), beyond_limit: false, ..report };
        assert!(replay_report(&same).ends_with("no field differs from HEAD~1\n"));
    }
}
