//! What the admin API and the command line see of rollouts.

use std::{fmt::Write as _, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    super::{Engine, connector::Connector},
    Variant,
    judge::{Counts, Side},
    ledger::Ledger,
    report::ShadowReport,
};
use crate::{
    plan::{ConnectorPlan, RolloutMode},
    world::Timestamp,
};

/// How a connector is rolled out, where it is not simply live.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RolloutStatus {
    /// The connector's name.
    pub connector: String,
    /// `live`, `shadow`, `canary`, `off`.
    pub mode: String,
    /// Whether a flag says so and not the file.
    #[serde(default)]
    pub mode_by_flag: bool,
    /// Whose events it gets.
    #[serde(default)]
    pub of: Option<String>,
    /// Of a canary.
    #[serde(default)]
    pub canary: Option<CanaryStatus>,
    /// Of a shadow.
    #[serde(default)]
    pub shadow: Option<ShadowReport>,
    /// The kept version that runs although the file says otherwise.
    #[serde(default)]
    pub pinned: Option<PinStatus>,
}

/// A canary at a glance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CanaryStatus {
    /// `10%`
    pub share: String,
    /// Whether a flag says so and not the file.
    pub share_by_flag: bool,
    /// When and why it was stopped.
    pub halted: Option<HaltStatus>,
    /// How far back is looked, in seconds.
    pub within_s: u64,
    /// What it did within that time.
    pub canary: Counts,
    /// What its original did.
    pub original: Counts,
}

/// A canary that was stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HaltStatus {
    /// When; nothing until it is durable.
    pub at: Option<Timestamp>,
    /// Why.
    pub why: String,
}

/// A version that runs although the file says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinStatus {
    /// Its `version`.
    pub version: String,
    /// Since when.
    pub at: Timestamp,
    /// Who wanted it.
    pub by: String,
    /// Why.
    pub why: Option<String>,
}

impl Engine {
    /// All rollouts, or those of one connector: its own, and its variants'.
    pub fn rollouts(&self, connector: Option<&str>) -> Vec<RolloutStatus> {
        let ledger = Ledger::read(self.bus().as_ref());
        let running: Vec<Arc<Connector>> =
            self.running.read().connectors.values().cloned().collect();
        let is_of = |plan: &ConnectorPlan, name: &str| {
            *plan.name == *name || plan.rollout.of.as_deref() == Some(name)
        };
        let wanted = running.iter().filter(|it| connector.is_none_or(|name| is_of(&it.plan, name)));
        wanted.filter_map(|it| self.rollout_status(it, &ledger)).collect()
    }

    /// `None`: it is live, as its file says.
    pub(in crate::engine) fn rollout_status(
        &self,
        connector: &Connector,
        ledger: &Ledger,
    ) -> Option<RolloutStatus> {
        let plan = &connector.plan;
        let pin = ledger.pins.get(&*plan.name);
        let (mode, mode_by_flag) = ledger.mode(plan);
        if mode == RolloutMode::Live && !mode_by_flag && pin.is_none() {
            return None;
        }
        let now = self.now();
        let (canary, shadow) = match &connector.variant {
            Some(Variant::Canary(canary)) => {
                let (share, share_by_flag) = ledger.share(plan);
                let halt = ledger
                    .halt(plan)
                    .map(|halt| HaltStatus { at: Some(halt.at), why: halt.why.clone() });
                let pending = || HaltStatus { at: None, why: "halted just now".to_owned() };
                let counts = canary.counts(now);
                let status = CanaryStatus {
                    share: share.to_string(),
                    share_by_flag,
                    halted: canary.is_halted().then(|| halt.unwrap_or_else(pending)),
                    within_s: plan.rollout.halt.within.as_secs(),
                    canary: counts.0,
                    original: counts.1,
                };
                (Some(status), None)
            }
            Some(Variant::Shadow(shadow)) => (None, Some(shadow.report())),
            None => (None, None),
        };
        Some(RolloutStatus {
            connector: plan.name.to_string(),
            mode: connector.mode.word().to_owned(),
            mode_by_flag,
            of: plan.rollout.of.as_ref().map(ToString::to_string),
            canary,
            shadow,
            pinned: pin.map(|pin| PinStatus {
                version: pin.version.clone(),
                at: pin.at,
                by: pin.by.clone(),
                why: pin.why.clone(),
            }),
        })
    }

    /// What Prometheus gets of rollouts.
    pub(in crate::engine) fn rollout_metrics(&self) -> String {
        let running: Vec<Arc<Connector>> =
            self.running.read().connectors.values().cloned().collect();
        let mut variants =
            running.iter().filter_map(|it| Some((it, it.variant.as_ref()?))).peekable();
        if variants.peek().is_none() {
            return String::new();
        }
        let (mut halted, mut share, mut attempts, mut compared) =
            (String::new(), String::new(), String::new(), String::new());
        for (connector, variant) in variants {
            let of = connector.plan.rollout.of.as_deref().unwrap_or_default();
            // Both are names: there is nothing to be escaped.
            let labels = format!("connector=\"{}\",of=\"{of}\"", connector.plan.name);
            match variant {
                Variant::Canary(canary) => {
                    let is_halted = u8::from(canary.is_halted());
                    let _ = writeln!(halted, "tenon_rollout_halted{{{labels}}} {is_halted}");
                    let ratio = f64::from(canary.share().parts()) / 10_000.0;
                    let _ = writeln!(share, "tenon_rollout_share{{{labels}}} {ratio}");
                    for (side, word) in [(Side::Canary, "canary"), (Side::Original, "original")] {
                        let (well, failed) = canary.totals(side);
                        for (result, count) in [("delivered", well), ("failed", failed)] {
                            let _ = writeln!(
                                attempts,
                                "tenon_rollout_attempts_total{{{labels},side=\"{word}\",result=\"{result}\"}} {count}"
                            );
                        }
                    }
                }
                Variant::Shadow(shadow) => {
                    let report = shadow.report();
                    for (result, count) in [
                        ("same", report.same),
                        ("differing", report.differing),
                        ("failing", report.failing),
                        ("mended", report.mended),
                        ("both_failing", report.both_failing),
                        ("left_out", report.left_out),
                    ] {
                        let _ = writeln!(
                            compared,
                            "tenon_rollout_compared_total{{{labels},result=\"{result}\"}} {count}"
                        );
                    }
                }
            }
        }
        let families = [
            (
                "tenon_rollout_halted",
                "gauge",
                "1 while a canary is stopped because it did worse than its original.",
                halted,
            ),
            (
                "tenon_rollout_share",
                "gauge",
                "The share of keys that a canary has while it is not stopped, 0 to 1.",
                share,
            ),
            (
                "tenon_rollout_attempts_total",
                "counter",
                "Attempts of a canary and of its original beside it.",
                attempts,
            ),
            (
                "tenon_rollout_compared_total",
                "counter",
                "Events that a shadow compared with its original, since either changed.",
                compared,
            ),
        ];
        let mut out = String::new();
        for (name, kind, help, series) in
            families.into_iter().filter(|(.., series)| !series.is_empty())
        {
            let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{series}");
        }
        out
    }
}
