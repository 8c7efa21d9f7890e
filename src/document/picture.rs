//! What of a connector is drawn.

use super::{
    Subject,
    fields::mapped,
    flow::{Flow, Lane, Stop},
    shown, words,
};
use crate::diagnostic::counted;
use crate::plan::{DestinationKind, DestinationPlan, ScheduleWhen, StreamPlan, WebhookPlan};

/// The flow of a connector's events.
pub fn picture(subject: &Subject<'_>) -> Flow {
    let plan = subject.plan;
    let names: Vec<&str> = plan.destinations.keys().map(|name| &**name).collect();
    let lanes = plan.streams.iter().map(|stream| Lane {
        inputs: inputs(stream),
        stream: stream_stop(subject, stream),
        to: stream
            .to
            .iter()
            .filter_map(|to| names.iter().position(|name| *name == &**to))
            .collect(),
    });
    Flow {
        connector: plan.name.to_string(),
        lanes: lanes.collect(),
        destinations: plan.destinations.values().map(|plan| destination_stop(plan)).collect(),
        file: None,
    }
}

fn inputs(stream: &StreamPlan) -> Vec<Stop> {
    let webhook = stream.webhook.as_ref().map(|webhook| Stop {
        kind: "webhook",
        detail: String::new(),
        name: format!("{} {}", methods(webhook), webhook.path),
        note: format!("verified: {}", webhook.verify.name),
    });
    let poll = stream.poll.as_ref().map(|poll| {
        let url = shown::address(poll.url.source());
        let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
        let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        Stop {
            kind: "poll",
            detail: when(stream),
            name: format!("{} {path}", poll.method),
            note: host.to_owned(),
        }
    });
    webhook.into_iter().chain(poll).collect()
}

pub(super) fn methods(webhook: &WebhookPlan) -> String {
    webhook.methods.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// `every 5 min`; empty where only an instance says.
fn when(stream: &StreamPlan) -> String {
    match stream.schedule.as_ref().map(|schedule| &schedule.when) {
        Some(ScheduleWhen::Every(every)) => format!("every {}", words::time(*every)),
        Some(ScheduleWhen::Cron { pattern, tz }) => format!("at {pattern} ({tz})"),
        None => String::new(),
    }
}

fn stream_stop(subject: &Subject<'_>, stream: &StreamPlan) -> Stop {
    let fields = mapped(subject, stream).iter().filter(|field| field.path != "*").count();
    let becomes = match (&stream.map, &stream.schema) {
        (None, None) => "as it came".to_owned(),
        (None, Some(schema)) => format!("as it came, {}", schema.name()),
        (Some(_), None) => counted(fields as u64, "field"),
        (Some(_), Some(schema)) => {
            format!("{}, {}", counted(fields as u64, "field"), schema.name())
        }
    };
    Stop { kind: "stream", detail: String::new(), name: stream.name.to_string(), note: becomes }
}

fn destination_stop(plan: &DestinationPlan) -> Stop {
    let (kind, note) = match &plan.kind {
        DestinationKind::Http { method, url, .. } => {
            let url = shown::address(url.source());
            let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
            ("http", format!("{method} {rest}"))
        }
        DestinationKind::File { path, .. } => ("file", path.display().to_string()),
        DestinationKind::Stdout => ("stdout", "JSON lines".to_owned()),
    };
    Stop { kind, detail: String::new(), name: plan.name.to_string(), note }
}
