//! What the admin API and the CLI see of a running engine.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    Engine,
    connector::{Connector, Health},
    reconcile::ReconcileStatus,
    reload::Problem,
    rollout::{Ledger, RolloutStatus},
    silence::Silence,
};
use crate::{
    bus::Backlog,
    ingest::poll::{Journey, Waiting, cursor_key, cursor_text, journey_key, waiting},
    observe::{StreamMetrics, slo::Kept},
    plan::{DestinationKind, RolloutMode},
    world::Timestamp,
};

/// The engine at a glance.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Status {
    /// Of the program.
    pub version: String,
    /// When the engine started.
    pub started_at: Timestamp,
    /// `running` or `draining`.
    pub state: String,
    /// Why the bus refuses; `None` while all is well.
    pub refusing: Option<String>,
    /// Pairs of event and destination that are not settled.
    pub unsettled: u64,
    /// Dead letters kept.
    pub dead_letters: u64,
    /// Bytes of journal on disk.
    pub disk_bytes: u64,
    /// The journal's budget in bytes.
    pub disk_limit_bytes: u64,
    /// All connectors, by name.
    pub connectors: Vec<ConnectorStatus>,
}

/// One connector at a glance.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct ConnectorStatus {
    /// Its name; its file where the name could not be read.
    pub name: String,
    /// As the file says.
    pub version: String,
    /// As the file says.
    pub owner: Option<String>,
    /// Its file; empty where it is gone.
    pub file: PathBuf,
    /// `running`, `restarting`, `quarantined`, `held`, `outdated` (its file does not compile, the
    /// predecessor runs), `failed` (nothing runs), `removed` (backlog without a file), `halted` (a
    /// canary that did worse than its original), `off` (as its file or a flag says).
    pub state: String,
    /// Counts the plans of this name since start.
    pub generation: u64,
    /// Why, where the state is not `running`.
    pub problem: Option<String>,
    /// Its streams.
    pub streams: Vec<StreamStatus>,
    /// Its destinations.
    pub destinations: Vec<DestinationStatus>,
    /// How it is rolled out, where it is not simply live.
    #[serde(default)]
    pub rollout: Option<RolloutStatus>,
    /// How what `[slo]` promises is kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slo: Vec<Kept>,
}

/// One stream at a glance.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct StreamStatus {
    /// Its name.
    pub name: String,
    /// The path of its webhook.
    pub webhook: Option<String>,
    /// When its poll is due.
    pub next_poll: Option<Timestamp>,
    /// When its last poll began.
    pub last_poll: Option<Timestamp>,
    /// `ok`, or why the last poll failed.
    pub last_poll_result: Option<String>,
    /// Its cursor as text.
    pub cursor: Option<String>,
    /// Why its poll is parked.
    #[serde(default)]
    pub held: Option<String>,
    /// Of a poll with `each`: its partitions.
    #[serde(default)]
    pub partitions: Option<PartitionStatus>,
    /// The jobs of the API that its poll waits for, or fetches.
    #[serde(default)]
    pub job: Option<JobStatus>,
    /// What is heard of its webhooks.
    #[serde(default)]
    pub webhooks: Option<WebhookStatus>,
    /// What is read again beside its poll.
    #[serde(default)]
    pub reconcile: Option<ReconcileStatus>,
    /// Whose clock has told how far it is from ours.
    #[serde(default)]
    pub clocks: Vec<SkewStatus>,
}

/// Jobs that a poll waits for.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct JobStatus {
    /// How many: with `each` there may be several.
    pub count: u64,
    /// When the first of them was created.
    pub since: Timestamp,
}

/// What is heard of a stream's webhooks, at a glance.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct WebhookStatus {
    /// When the last one was accepted; from before a restart within a quarter of an hour.
    pub last: Option<Timestamp>,
    /// Whether they are missing, as `silence` says.
    pub silent: bool,
    /// Where `silence` is watched: since when polls find events that none brings.
    pub missed_since: Option<Timestamp>,
    /// How many they found since.
    pub missed: u64,
}

/// How far somebody's clock is from ours.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct SkewStatus {
    /// `webhook`: who signs them; `poll`: who answers.
    pub from: String,
    /// Theirs less ours, in milliseconds.
    pub millis: i64,
    /// Whether that is more than a minute.
    pub off: bool,
}

/// What a poll is read for, at a glance.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct PartitionStatus {
    /// How many the last run read, or the one under way so far.
    pub count: u64,
    /// Of them, those that failed.
    pub failing: u64,
    /// The first that failed.
    pub first_failing: Option<String>,
    /// Why it failed.
    pub first_failure: Option<String>,
    /// The one whose cursor stands furthest back.
    pub oldest: Option<String>,
    /// Where its cursor stands.
    pub oldest_cursor: Option<String>,
    /// Whether a run is under way, or was interrupted and goes on.
    pub under_way: bool,
}

/// One destination at a glance.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct DestinationStatus {
    /// Its name.
    pub name: String,
    /// `http`, `file` or `stdout`.
    pub kind: String,
    /// Events on their way to it.
    pub backlog: u64,
    /// When the oldest of them was received.
    pub oldest: Option<Timestamp>,
    /// Why it is parked.
    pub held: Option<String>,
    /// Which of its breakers are not closed, in words.
    #[serde(default)]
    pub breaker: Option<String>,
}

/// What one reload did.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct ReloadReport {
    /// Names that run now and did not before.
    pub added: Vec<String>,
    /// Names that run a new plan.
    pub changed: Vec<String>,
    /// Names that no longer run.
    pub removed: Vec<String>,
    /// Names that run a kept version although their file says otherwise.
    #[serde(default)]
    pub rolled_back: Vec<String>,
    /// How many were not touched.
    pub unchanged: usize,
    /// Files and connectors that kept their predecessor, or did not start.
    pub failed: Vec<String>,
    /// Rendered diagnostics, without colour.
    pub diagnostics: Vec<String>,
    /// Generation by name, of what was added, changed or failed; [`Status`] has all.
    pub generations: BTreeMap<String, u64>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

impl Engine {
    /// Everything at a glance.
    pub fn status(&self) -> Status {
        let health = self.shared.bus.health();
        let backlog = Backlogs::new(self.shared.bus.backlog());
        let ledger = Ledger::read(&*self.shared.bus);
        let running = self.running.read();
        let mut problems = running.problems.clone();
        let mut connectors: Vec<ConnectorStatus> = running
            .connectors
            .values()
            .map(|connector| {
                let file = connector.plan.file.display().to_string();
                let problem = problems.remove(&*connector.plan.name).or(problems.remove(&file));
                self.connector_status(connector, problem, &backlog, &ledger)
            })
            .collect();
        connectors.extend(problems.into_iter().map(failed));
        for name in backlog.connectors() {
            if !running.connectors.contains_key(name) {
                connectors.push(removed(name, &backlog));
            }
        }
        connectors.sort_by(|a, b| a.name.cmp(&b.name));
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at,
            state: if self.stop.is_cancelled() { "draining" } else { "running" }.to_owned(),
            refusing: health.refusing,
            unsettled: health.unsettled,
            dead_letters: health.dead_letters,
            disk_bytes: health.disk_bytes,
            disk_limit_bytes: health.disk_limit_bytes,
            connectors,
        }
    }

    fn connector_status(
        &self,
        connector: &Connector,
        problem: Option<Problem>,
        backlog: &Backlogs,
        ledger: &Ledger,
    ) -> ConnectorStatus {
        let plan = &connector.plan;
        let streams: Vec<StreamStatus> =
            plan.streams.iter().map(|s| self.stream_status(connector, &s.name)).collect();
        let destinations: Vec<DestinationStatus> = connector
            .destinations
            .iter()
            .map(|destination| {
                let name = &destination.plan.name;
                let (waiting, oldest) = backlog.of(&plan.name, name);
                DestinationStatus {
                    name: name.to_string(),
                    kind: kind(&destination.plan.kind).to_owned(),
                    backlog: waiting,
                    oldest,
                    held: destination.held().map(|m| m.to_string()),
                    breaker: destination.breakers(self.now()),
                }
            })
            .collect();
        let held = destinations
            .iter()
            .find_map(|d| d.held.as_ref().map(|m| format!("destination {}: {m}", d.name)))
            .or_else(|| {
                streams
                    .iter()
                    .find_map(|s| s.held.as_ref().map(|m| format!("poll of {}: {m}", s.name)))
            });
        let rollout = self.rollout_status(connector, ledger);
        let halted = rollout.as_ref().and_then(|rollout| rollout.canary.as_ref()?.halted.as_ref());
        let halted = halted.map(|halt| halt.why.clone());
        let is_off = connector.mode == RolloutMode::Off;
        let (state, problem) = match (connector.health(), problem, halted.or(held)) {
            (Health::Quarantined(panic), _, _) => ("quarantined", Some(panic)),
            (Health::Restarting(panic), _, _) => ("restarting", Some(panic)),
            (Health::Running, Some(problem), _) => ("outdated", Some(problem.message)),
            (Health::Running, None, Some(why)) if is_halted(rollout.as_ref()) => {
                ("halted", Some(why))
            }
            (Health::Running, None, Some(held)) => ("held", Some(held)),
            (Health::Running, None, None) if is_off => ("off", None),
            (Health::Running, None, None) => ("running", None),
        };
        ConnectorStatus {
            name: plan.name.to_string(),
            version: plan.version.clone(),
            owner: plan.owner.clone(),
            file: plan.file.clone(),
            state: state.to_owned(),
            generation: connector.generation,
            problem,
            streams,
            destinations,
            rollout,
            slo: plan.slo.as_ref().map_or_else(Vec::new, |promised| {
                self.shared.objectives.kept(&plan.name, promised, self.now())
            }),
        }
    }

    fn stream_status(&self, connector: &Connector, name: &str) -> StreamStatus {
        let plan = connector.plan.streams.iter().find(|s| &*s.name == name);
        let runtime = connector.polls.iter().find(|p| &*p.poller.stream.name == name);
        let poll = runtime.map(|poll| poll.view()).unwrap_or_default();
        let metrics = self.shared.metrics.connector(&connector.plan.name).stream(name);
        let silence = runtime.and_then(|poll| poll.silence());
        let has_webhook = plan.is_some_and(|plan| plan.webhook.is_some());
        let reconcile = connector.reconciles.iter().find(|it| it.stream() == name);
        let has_cursor =
            plan.and_then(|s| s.poll.as_ref()).is_some_and(|poll| poll.cursor.is_some());
        let key = cursor_key(&connector.plan.name, name);
        let stored = has_cursor.then(|| self.shared.bus.state(&key)).flatten();
        let cursor = stored.and_then(|bytes| cursor_text(&bytes).ok().flatten());
        StreamStatus {
            name: name.to_owned(),
            webhook: plan.and_then(|s| s.webhook.as_ref()).map(|w| w.path.clone()),
            next_poll: poll.next,
            last_poll: poll.last,
            last_poll_result: poll.result,
            cursor,
            held: poll.held,
            partitions: plan
                .and_then(|plan| plan.poll.as_ref())
                .filter(|poll| !poll.each.is_empty())
                .map(|_| self.partitions(&connector.plan.name, name)),
            job: plan
                .and_then(|plan| plan.poll.as_ref()?.job.as_ref())
                .and_then(|_| waiting(&*self.shared.bus, &connector.plan.name, name))
                .map(|Waiting { count, since }| JobStatus { count, since }),
            webhooks: has_webhook.then(|| webhooks(&metrics, silence.map(AsRef::as_ref))),
            reconcile: reconcile.map(|it| it.view()),
            clocks: clocks(&metrics),
        }
    }

    fn partitions(&self, connector: &str, stream: &str) -> PartitionStatus {
        let stored = self.shared.bus.state(&journey_key(connector, stream));
        let journey = stored.and_then(|bytes| Journey::decode(&bytes)).unwrap_or_default();
        let under_way = journey.is_under_way();
        let Journey { partitions, failing, first_failure, oldest, .. } = journey;
        let (first_failing, first_failure) = first_failure.unzip();
        let (oldest, oldest_cursor) = oldest.unzip();
        PartitionStatus {
            count: partitions,
            failing,
            first_failing,
            first_failure,
            oldest,
            oldest_cursor,
            under_way,
        }
    }
}

fn webhooks(metrics: &StreamMetrics, silence: Option<&Silence>) -> WebhookStatus {
    let last = metrics.ears.last();
    let Some(silence) = silence else { return WebhookStatus { last, ..WebhookStatus::default() } };
    let heard = silence.heard();
    WebhookStatus {
        last: heard.last,
        silent: silence.is_silent(),
        missed_since: heard.missed_since,
        missed: heard.missed,
    }
}

fn clocks(metrics: &StreamMetrics) -> Vec<SkewStatus> {
    let all = [("webhook", &metrics.webhook_clock), ("poll", &*metrics.poll_clock)];
    let told = all.into_iter().filter_map(|(from, skew)| {
        let millis = skew.millis()?;
        Some(SkewStatus { from: from.to_owned(), millis, off: skew.is_off() })
    });
    told.collect()
}

fn is_halted(rollout: Option<&RolloutStatus>) -> bool {
    rollout.is_some_and(|it| it.canary.as_ref().is_some_and(|canary| canary.halted.is_some()))
}

/// The bus's backlog, by connector.
struct Backlogs(BTreeMap<Arc<str>, Vec<Backlog>>);

impl Backlogs {
    fn new(backlog: Vec<Backlog>) -> Self {
        let mut by_connector: BTreeMap<Arc<str>, Vec<Backlog>> = BTreeMap::new();
        for entry in backlog {
            by_connector.entry(Arc::clone(&entry.lane.connector)).or_default().push(entry);
        }
        Self(by_connector)
    }

    /// Connectors that have something waiting.
    fn connectors(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter().filter(|(_, lanes)| lanes.iter().any(|b| b.unsettled > 0)).map(|(n, _)| n)
    }

    /// What waits for a destination over all streams, and since when.
    fn of(&self, connector: &str, destination: &str) -> (u64, Option<Timestamp>) {
        let lanes = self.0.get(connector).map_or(&[][..], Vec::as_slice);
        let mine = || lanes.iter().filter(|b| &*b.lane.destination == destination);
        (mine().map(|b| b.unsettled).sum(), mine().filter_map(|b| b.oldest).min())
    }
}

fn kind(kind: &DestinationKind) -> &'static str {
    match kind {
        DestinationKind::Http { .. } => "http",
        DestinationKind::File { .. } => "file",
        DestinationKind::Stdout => "stdout",
    }
}

fn failed((name, problem): (String, Problem)) -> ConnectorStatus {
    ConnectorStatus {
        name,
        file: problem.file,
        state: "failed".to_owned(),
        problem: Some(problem.message),
        ..ConnectorStatus::default()
    }
}

fn removed(name: &Arc<str>, backlog: &Backlogs) -> ConnectorStatus {
    let lanes = backlog.0.get(name).map_or(&[][..], Vec::as_slice);
    ConnectorStatus {
        name: name.to_string(),
        state: "removed".to_owned(),
        problem: Some("no file has this name; its backlog waits until one does".to_owned()),
        destinations: lanes
            .iter()
            .map(|b| DestinationStatus {
                name: b.lane.destination.to_string(),
                backlog: b.unsettled,
                oldest: b.oldest,
                ..DestinationStatus::default()
            })
            .collect(),
        ..ConnectorStatus::default()
    }
}
