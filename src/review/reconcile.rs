//! `[schedule.reconcile]`: what is read again beside the poll, and when silence is an alert.

use super::{
    pen::{At, Pen},
    rule, say,
};
use crate::plan::{AgainPlan, Reach, ReconcilePlan, SchedulePlan, SilencePlan};

pub(super) fn compare(
    pen: &mut Pen<'_>,
    at: &At,
    (old, new): (Option<&ReconcilePlan>, Option<&ReconcilePlan>),
) {
    let none = ReconcilePlan::default();
    let ReconcilePlan { again, silence } = new.unwrap_or(&none);
    let old = old.unwrap_or(&none);
    agains(pen, at, (old.again.as_ref(), again.as_ref()));
    silences(pen, at, (old.silence, *silence));
}

fn agains(pen: &mut Pen<'_>, at: &At, (old, new): (Option<&AgainPlan>, Option<&AgainPlan>)) {
    let (was, is) = (old.map(again), new.map(again));
    let (what, effect) = match (was, is) {
        (None, Some(is)) => {
            (format!("reads again {is}"), "it finds what neither a webhook nor the poll brought")
        }
        (Some(was), None) => (
            format!("no longer reads again {was}"),
            "what a webhook did not bring and the poll passed over is not found",
        ),
        (Some(was), Some(is)) if was != is => (format!("reads again {is}, was {was}"), ""),
        _ => return,
    };
    let keys = ["every", "cron", "tz", "jitter", "window"];
    let keys = keys.map(|key| format!("schedule.reconcile.{key}"));
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    pen.note_at(at, "schedule.reconcile", &keys, rule::RECONCILE, what, effect);
}

/// "the last 6d, every 24h".
fn again(plan: &AgainPlan) -> String {
    let AgainPlan { schedule: SchedulePlan { when, jitter }, reach } = plan;
    let reach = match reach {
        Reach::Window(window) => format!("the last {}", say::duration(*window)),
        Reach::Full => "everything".to_owned(),
    };
    format!("{reach}, {}, spread by {}", say::schedule(when), say::jitter(*jitter))
}

fn silences(pen: &mut Pen<'_>, at: &At, (old, new): (Option<SilencePlan>, Option<SilencePlan>)) {
    let show = |plan: SilencePlan| {
        let SilencePlan { after, faster } = plan;
        let faster = faster.map(|faster| format!(", and polls every {}", say::duration(faster)));
        format!("{}{}", say::duration(after), faster.unwrap_or_default())
    };
    let (what, effect) = match (old, new) {
        (None, Some(is)) => (
            format!("alerts once webhooks are missing for {}", show(is)),
            "they are missing where polls find events and none comes",
        ),
        (Some(was), None) => (
            format!("no longer alerts once webhooks are missing for {}", show(was)),
            "that webhooks are missing shows in `tenon_events_found_by_poll_total` alone",
        ),
        (Some(was), Some(is)) if was != is => {
            (format!("alerts once webhooks are missing for {}, was {}", show(is), show(was)), "")
        }
        _ => return,
    };
    let keys = ["schedule.reconcile.silence", "schedule.reconcile.faster"];
    pen.note_at(at, "schedule.reconcile", &keys, rule::RECONCILE, what, effect);
}
