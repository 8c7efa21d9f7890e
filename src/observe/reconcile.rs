//! What is counted of a stream's webhooks as against its polls: what reconciliations found, whether
//! webhooks are missing, and whose clock is wrong.

use std::{
    fmt::Write as _,
    sync::atomic::{
        AtomicBool, AtomicI64, AtomicU64,
        Ordering::{AcqRel, Relaxed, Release},
    },
};

use tokio::sync::Notify;

use super::metrics::{StreamMetrics, header};
use crate::world::Timestamp;

/// What reconciliations of a stream did.
#[derive(Debug, Default)]
pub struct Reconciled {
    /// Those that read their range to the end.
    pub done: AtomicU64,
    /// Those that did not.
    pub failed: AtomicU64,
    /// Records that they read.
    pub read: AtomicU64,
    /// Events that were known.
    pub known: AtomicU64,
    /// Events that neither a webhook nor the poll had brought.
    pub found: AtomicU64,
}

/// What is heard of a stream's webhooks.
#[derive(Debug, Default)]
pub struct Ears {
    /// When the last one was accepted; 0: never.
    last_ms: AtomicI64,
    /// Whether somebody waits for the next one.
    is_awaited: AtomicBool,
    heard: Notify,
    /// Whether silence is an alert.
    is_watched: AtomicBool,
    is_silent: AtomicBool,
    /// Events that only polls found since the last one.
    missed: AtomicU64,
}

impl Ears {
    /// A webhook was accepted.
    pub fn hear(&self, now: Timestamp) {
        self.last_ms.fetch_max(now.0, Relaxed);
        if self.is_awaited.swap(false, AcqRel) {
            self.heard.notify_one();
        }
    }

    /// When the last one was accepted.
    pub fn last(&self) -> Option<Timestamp> {
        Some(Timestamp(self.last_ms.load(Relaxed))).filter(|last| last.0 != 0)
    }

    /// Asks for the next one; it may have come before this returns, so look at [`Ears::last`] then.
    pub fn listen(&self) {
        self.is_awaited.store(true, Release);
    }

    /// Waits for one that was asked for.
    pub async fn heard(&self) {
        self.heard.notified().await;
    }

    /// Whether silence is an alert here.
    pub fn watch(&self, is_watched: bool) {
        self.is_watched.store(is_watched, Relaxed);
        if !is_watched {
            self.show(false, 0);
        }
    }

    /// Whether webhooks are missing, and how many events only polls found meanwhile.
    pub fn show(&self, is_silent: bool, missed: u64) {
        self.is_silent.store(is_silent, Relaxed);
        self.missed.store(missed, Relaxed);
    }
}

/// One of the counters.
type Count = fn(&Reconciled) -> &AtomicU64;

/// Who shows streams with their labels.
type EachStream<'e> = &'e dyn Fn(&mut dyn FnMut(&str, &StreamMetrics));

/// The series of this file.
pub(super) fn write(out: &mut String, each_stream: EachStream<'_>) {
    write_reconciled(out, each_stream);
    write_ears(out, each_stream);
    let name = "tenon_clock_skew_seconds";
    let help = "Their clock less ours, median of the last fifteen times that they told.";
    header(out, name, "gauge", help);
    each_stream(&mut |labels, stream| {
        for (from, skew) in [("webhook", &stream.webhook_clock), ("poll", &stream.poll_clock)] {
            if let Some(millis) = skew.millis() {
                let seconds = millis as f64 / 1e3;
                let _ = writeln!(out, "{name}{{{labels},from=\"{from}\"}} {seconds}");
            }
        }
    });
}

fn write_reconciled(out: &mut String, each_stream: EachStream<'_>) {
    let name = "tenon_reconcile_runs_total";
    header(out, name, "counter", "Reconciliations by result.");
    each_stream(&mut |labels, stream| {
        let counted = &stream.reconciled;
        for (result, count) in [("ok", &counted.done), ("failed", &counted.failed)] {
            let count = count.load(Relaxed);
            if count > 0 {
                let _ = writeln!(out, "{name}{{{labels},result=\"{result}\"}} {count}");
            }
        }
    });
    let series: [(&str, &str, Count); 3] = [
        ("tenon_reconcile_read_total", "Records that reconciliations read.", |it| &it.read),
        ("tenon_reconcile_known_total", "Events of reconciliations that were known.", |it| {
            &it.known
        }),
        (
            "tenon_reconcile_found_total",
            "Events that neither a webhook nor the poll had brought.",
            |it| &it.found,
        ),
    ];
    for (name, help, count) in series {
        header(out, name, "counter", help);
        each_stream(&mut |labels, stream| {
            // Whoever alerts on one of them wants to see that it is 0.
            let it = &stream.reconciled;
            if [&it.done, &it.failed, &it.read].iter().any(|count| count.load(Relaxed) > 0) {
                let _ = writeln!(out, "{name}{{{labels}}} {}", count(it).load(Relaxed));
            }
        });
    }
}

fn write_ears(out: &mut String, each_stream: EachStream<'_>) {
    let name = "tenon_webhook_last_timestamp_seconds";
    header(out, name, "gauge", "When the last webhook of a stream was accepted.");
    each_stream(&mut |labels, stream| {
        if let Some(last) = stream.ears.last() {
            let _ = writeln!(out, "{name}{{{labels}}} {}", last.0 as f64 / 1e3);
        }
    });
    let name = "tenon_webhook_silent";
    header(out, name, "gauge", "1 while webhooks are missing, as `silence` says.");
    each_stream(&mut |labels, stream| {
        if stream.ears.is_watched.load(Relaxed) {
            let silent = u8::from(stream.ears.is_silent.load(Relaxed));
            let _ = writeln!(out, "{name}{{{labels}}} {silent}");
        }
    });
    let name = "tenon_webhook_missed_events";
    header(out, name, "gauge", "Events that only polls found since the last webhook.");
    each_stream(&mut |labels, stream| {
        if stream.ears.is_watched.load(Relaxed) {
            let missed = stream.ears.missed.load(Relaxed);
            let _ = writeln!(out, "{name}{{{labels}}} {missed}");
        }
    });
}
