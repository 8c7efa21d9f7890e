//! Reload: read all → compile what changed → diff → build the new → swap routes → drain the old →
//! start the new. Start-up is the same list from nothing. A connector whose file does not compile,
//! or that cannot be built, keeps its predecessor.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use futures_util::future::join_all;

use super::{
    Engine,
    connector::Connector,
    load::{Loaded, Look},
    status::ReloadReport,
    tasks::blocking,
};
use crate::plan::{ConnectorPlan, ContentHash};

/// How long attempts in hand may go on after a connector was replaced. What is left then goes back
/// to the bus and is attempted again, with the same idempotency key.
const DRAIN: Duration = Duration::from_secs(5);

/// What runs at present, and what should but cannot.
#[derive(Default)]
pub struct Running {
    pub connectors: BTreeMap<Arc<str>, Arc<Connector>>,
    /// Why a connector does not run, or runs an older plan: by name, or by file where the name
    /// could not be read.
    pub problems: BTreeMap<String, Problem>,
    /// Counts plans by name.
    generations: BTreeMap<Arc<str>, u64>,
}

/// See [`Running::problems`].
#[derive(Clone, Debug)]
pub struct Problem {
    pub file: PathBuf,
    pub message: String,
}

/// How what is wanted differs from what runs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub added: Vec<Arc<str>>,
    pub changed: Vec<Arc<str>>,
    pub removed: Vec<Arc<str>>,
    pub unchanged: usize,
}

/// By name and content, both sorted by name. `kept` are those that run although their file gives no
/// plan at present.
pub fn diff<'a>(
    running: impl Iterator<Item = (&'a Arc<str>, ContentHash)>,
    wanted: impl Iterator<Item = (&'a Arc<str>, ContentHash)>,
    kept: &BTreeSet<Arc<str>>,
) -> Changes {
    let mut changes = Changes::default();
    let mut running = running.peekable();
    let mut gone = Vec::new();
    for (name, content) in wanted {
        while let Some((before, _)) = running.next_if(|(running, _)| *running < name) {
            gone.push(before);
        }
        match running.next_if(|(running, _)| *running == name) {
            None => changes.added.push(Arc::clone(name)),
            Some((_, current)) if current == content => changes.unchanged += 1,
            Some(_) => changes.changed.push(Arc::clone(name)),
        }
    }
    gone.extend(running.map(|(name, _)| name));
    changes.removed.extend(gone.into_iter().filter(|name| !kept.contains(*name)).cloned());
    changes
}

impl Engine {
    /// Reads the connector files again and makes what runs what they say.
    pub async fn reload(&self) -> ReloadReport {
        self.reload_where(Look::Everywhere, true).await.unwrap_or_default()
    }

    /// The same where a file changed since the last load.
    pub(super) async fn reload_if_changed(&self, look: Look) {
        self.reload_where(look, false).await;
    }

    /// `None`: nothing changed, and nothing was to be done all the same.
    async fn reload_where(&self, look: Look, always: bool) -> Option<ReloadReport> {
        // Held to the end: two reloads at once would each stop what the other starts.
        let mut loader = Arc::clone(&self.loader).lock_owned().await;
        if self.stop.is_cancelled() {
            let failed = vec!["shutting down".to_owned()];
            return Some(ReloadReport { failed, ..ReloadReport::default() });
        }
        let began = self.shared.world.clock.now();
        let load = move || {
            let changed = loader.look(&look);
            (changed.map(|changed| (changed || always).then(|| loader.loaded())), loader)
        };
        let (loaded, _loader) = blocking(load).await;
        let mut report = match loaded {
            Ok(None) => return None,
            Ok(Some(loaded)) => {
                tracing::debug!(compiled = loaded.compiled, "connector files read");
                loaded.news.iter().for_each(|found| tracing::warn!("{found}"));
                self.apply(loaded).await
            }
            Err(error) => {
                let said = format!("error: the connectors cannot be read: {error}\n");
                tracing::error!("{said}");
                ReloadReport {
                    failed: vec![error.to_string()],
                    diagnostics: vec![said],
                    ..ReloadReport::default()
                }
            }
        };
        report.took_ms = self.shared.world.clock.now().since(began).as_millis() as u64;
        let (reloads, outcome) = if report.failed.is_empty() {
            (&self.shared.metrics.reloads, "reload done")
        } else {
            (&self.shared.metrics.reloads_failed, "reload done, with problems")
        };
        reloads.fetch_add(1, Relaxed);
        tracing::info!(added = report.added.len(), changed = report.changed.len(),
            removed = report.removed.len(), unchanged = report.unchanged, failed = ?report.failed,
            took_ms = report.took_ms, "{outcome}");
        Some(report)
    }

    async fn apply(&self, loaded: Loaded) -> ReloadReport {
        let mut changes = {
            let running = &self.running.read().connectors;
            let now = running.iter().map(|(name, connector)| (name, connector.plan.content));
            let wanted = loaded.plans.iter().map(|(name, plan)| (name, plan.content));
            diff(now, wanted, &kept(running, &loaded))
        };
        let mut problems = problems_of(&loaded);
        let fresh = self.build(&mut changes, &loaded.plans, &mut problems);
        let gone = changes.changed.iter().chain(&changes.removed).cloned().collect();
        let plans: Vec<Arc<ConnectorPlan>> = fresh.iter().map(|c| Arc::clone(&c.plan)).collect();
        let mut report =
            ReloadReport { diagnostics: loaded.diagnostics, ..ReloadReport::default() };
        if let Err(conflicts) = self.shared.server.change_routes(&gone, &plans) {
            report.failed.clone_from(&conflicts);
            report.diagnostics.extend(conflicts);
            return report;
        }
        self.swap(&gone, &fresh, &changes).await;

        report.added = names(&changes.added);
        report.changed = names(&changes.changed);
        report.removed = names(&changes.removed);
        report.unchanged = changes.unchanged;
        report.failed = problems.keys().cloned().collect();
        let mut running = self.running.write();
        changes.removed.iter().for_each(|name| drop(running.connectors.remove(name)));
        running.connectors.extend(fresh.into_iter().map(|c| (Arc::clone(&c.plan.name), c)));
        running.problems = problems;
        let generations = running.connectors.values();
        report.generations = generations.map(|c| (c.plan.name.to_string(), c.generation)).collect();
        report
    }

    /// Builds what is new, without side effects on what runs. What cannot be built is a problem
    /// and drops out of the changes.
    fn build(
        &self,
        changes: &mut Changes,
        plans: &BTreeMap<Arc<str>, Arc<ConnectorPlan>>,
        problems: &mut BTreeMap<String, Problem>,
    ) -> Vec<Arc<Connector>> {
        let mut fresh = Vec::new();
        let mut build = |name: &Arc<str>| {
            let plan = &plans[name];
            let generation = self.running.read().generations.get(name).copied().unwrap_or(0) + 1;
            match Connector::build(&self.shared, plan, generation) {
                Ok(connector) => {
                    self.running.write().generations.insert(Arc::clone(name), generation);
                    fresh.push(connector);
                    true
                }
                Err(message) => {
                    tracing::error!(
                        connector = &**name,
                        problem = message,
                        "connector cannot start"
                    );
                    problems.insert(name.to_string(), Problem { file: plan.file.clone(), message });
                    false
                }
            }
        };
        changes.added.retain(&mut build);
        changes.changed.retain(&mut build);
        fresh
    }

    /// Drains what is replaced or gone, then starts what is new.
    async fn swap(&self, gone: &BTreeSet<Arc<str>>, fresh: &[Arc<Connector>], changes: &Changes) {
        let running = |name| self.running.read().connectors.get(name).cloned();
        let old: Vec<Arc<Connector>> = gone.iter().filter_map(running).collect();
        join_all(old.iter().map(|connector| async {
            if !connector.drain(DRAIN).await {
                let name = &*connector.plan.name;
                tracing::warn!(
                    connector = name,
                    "attempts in hand were cut off and will be repeated"
                );
            }
        }))
        .await;
        for name in gone {
            self.shared.auth.forget(name);
        }
        for name in &changes.removed {
            self.shared.metrics.remove(name);
        }
        for connector in fresh {
            connector.start(&self.shared);
        }
    }
}

/// Names that run although their file gives no plan now: by name, or by file where that is unreadable.
fn kept(running: &BTreeMap<Arc<str>, Arc<Connector>>, loaded: &Loaded) -> BTreeSet<Arc<str>> {
    let by_file = |path: &Path| loaded.failed_files.contains_key(path);
    if loaded.failed_files.is_empty() {
        return BTreeSet::new();
    }
    running
        .iter()
        .filter(|(name, c)| loaded.failed_names.contains(*name) || by_file(&c.plan.file))
        .map(|(name, _)| Arc::clone(name))
        .collect()
}

fn problems_of(loaded: &Loaded) -> BTreeMap<String, Problem> {
    let name_of = |path: &PathBuf| path.display().to_string();
    loaded
        .failed_files
        .iter()
        .map(|(path, message)| {
            (name_of(path), Problem { file: path.clone(), message: message.clone() })
        })
        .collect()
}

fn names(names: &[Arc<str>]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(entries: &[(&str, u8)]) -> BTreeMap<Arc<str>, ContentHash> {
        entries.iter().map(|(name, n)| (Arc::from(*name), ContentHash([*n; 16]))).collect()
    }

    #[test]
    fn diff_is_by_name_and_content_and_keeps_what_has_no_plan() {
        let running = set(&[("same", 1), ("edited", 1), ("gone", 1), ("broken", 1)]);
        let wanted = set(&[("same", 1), ("edited", 2), ("new", 1)]);
        let kept = BTreeSet::from([Arc::from("broken")]);
        let running = running.iter().map(|(name, content)| (name, *content));
        let changes = diff(running, wanted.iter().map(|(name, content)| (name, *content)), &kept);
        let names = |list: &[&str]| list.iter().map(|n| Arc::from(*n)).collect::<Vec<Arc<str>>>();
        assert_eq!(
            changes,
            Changes {
                added: names(&["new"]),
                changed: names(&["edited"]),
                removed: names(&["gone"]),
                unchanged: 1,
            }
        );
    }
}
