//! Reload: read all → compile what changed → diff → build the new → swap routes → drain the old →
//! start the new. Start-up is the same list from nothing. A connector whose file does not compile,
//! or that cannot be built, keeps its predecessor.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use futures_util::future::join_all;

use super::rollout::Ledger;
use super::{
    Engine,
    connector::Connector,
    load::{Loaded, Look},
    status::ReloadReport,
    tasks::blocking,
};
use crate::plan::{ConnectorPlan, RolloutMode};

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

/// By name and what they are. `running` tells what runs under a name, and `count` how many run;
/// `wanted` and `gone` are what may have changed, and `kept` those that run although their file gives
/// no plan at present.
pub fn diff<'a, T: PartialEq>(
    running: impl Fn(&str) -> Option<T>,
    count: usize,
    wanted: impl Iterator<Item = (&'a Arc<str>, T)>,
    gone: &BTreeSet<Arc<str>>,
    kept: &BTreeSet<Arc<str>>,
) -> Changes {
    let mut changes = Changes::default();
    for (name, content) in wanted {
        match running(name) {
            None => changes.added.push(Arc::clone(name)),
            Some(current) if current == content => {}
            Some(_) => changes.changed.push(Arc::clone(name)),
        }
    }
    let goes = |name: &&Arc<str>| running(name).is_some() && !kept.contains(*name);
    changes.removed.extend(gone.iter().filter(goes).cloned());
    let touched = changes.changed.len() + changes.removed.len() + kept.len();
    changes.unchanged = count.saturating_sub(touched);
    changes
}

impl Engine {
    /// Reads the connector files again and makes what runs what they say.
    /// What is quarantined begins anew, changed or not.
    pub async fn reload(&self) -> ReloadReport {
        self.reload_where(Look::Everywhere, true).await.unwrap_or_default()
    }

    /// The generation of each connector that runs.
    pub fn generations(&self) -> BTreeMap<String, u64> {
        let running = self.running.read();
        running.connectors.iter().map(|(name, it)| (name.to_string(), it.generation)).collect()
    }

    /// The same where a file changed since the last load.
    pub(super) async fn reload_if_changed(&self, look: Look) {
        self.reload_where(look, false).await;
    }

    /// `None`: nothing changed, and nothing was to be done all the same.
    pub(super) async fn reload_where(&self, look: Look, always: bool) -> Option<ReloadReport> {
        // Held to the end: two reloads at once would each stop what the other starts.
        let mut loader = Arc::clone(&self.loader).lock_owned().await;
        if self.stop.is_cancelled() {
            let failed = vec!["shutting down".to_owned()];
            return Some(ReloadReport { failed, ..ReloadReport::default() });
        }
        let began = self.shared.world.clock.now();
        let asked_for_all = always && look == Look::Everywhere;
        let load = move || {
            let changed = loader.look(&look);
            (changed.map(|changed| (changed || always).then(|| loader.loaded())), loader)
        };
        let (loaded, mut loader) = blocking(load).await;
        let mut report = match loaded {
            Ok(None) => return None,
            Ok(Some(mut loaded)) => {
                tracing::debug!(compiled = loaded.compiled, "connector files read");
                let ledger = Ledger::read(&*self.shared.bus);
                self.revisit(&mut loaded, &loader, &ledger);
                if asked_for_all {
                    self.revive(&mut loaded);
                }
                let mut waiting = self.apply_pins(&mut loaded, &loader, &ledger).await;
                loaded.news.iter().for_each(|found| tracing::warn!("{found}"));
                let (mut report, applied) = self.apply(loaded, &ledger).await;
                if let Some(unbuilt) = applied {
                    waiting.extend(unbuilt);
                    loader.applied(&waiting);
                }
                self.publish_rollouts().await;
                self.forget_breakers(report.failed.is_empty()).await;
                report.rolled_back = self.rolled_back();
                let begun: Vec<_> = report.added.iter().chain(&report.changed).cloned().collect();
                self.keep_versions(loader, &begun);
                report
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
        self.shared.metrics.reload_ms.store(report.took_ms, Relaxed);
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

    /// Adds to a load what is quarantined, if its file still gives a plan.
    fn revive(&self, loaded: &mut Loaded) {
        let running = self.running.read();
        let quarantined = running.connectors.values().filter(|it| it.is_quarantined());
        for connector in quarantined {
            let name = &connector.plan.name;
            if !loaded.gone.contains(name) && !loaded.failed_names.contains(name) {
                let plan = || Arc::clone(&connector.plan);
                loaded.plans.entry(Arc::clone(name)).or_insert_with(plan);
            }
        }
    }

    /// Makes what runs what was loaded. With the report comes what could not be built and is to be
    /// tried again, or `None` where nothing was applied.
    async fn apply(
        &self,
        loaded: Loaded,
        ledger: &Ledger,
    ) -> (ReloadReport, Option<BTreeSet<Arc<str>>>) {
        let mut changes = {
            let running = &self.running.read().connectors;
            let now = |name: &str| {
                let it = running.get(name)?;
                Some((it.plan.content, it.mode, it.is_quarantined()))
            };
            let plans = loaded.plans.iter();
            let wanted =
                plans.map(|(name, plan)| (name, (plan.content, ledger.mode(plan).0, false)));
            diff(now, running.len(), wanted, &loaded.gone, &kept(running, &loaded))
        };
        let mut problems = problems_of(&loaded);
        let (fresh, unbuilt) = self.build(&mut changes, &loaded.plans, ledger, &mut problems);
        let old = self.replaced(&changes);
        let plans = |connectors: &[Arc<Connector>]| -> Vec<Arc<ConnectorPlan>> {
            // What does not take events in by itself has no path.
            let live = connectors.iter().filter(|connector| connector.mode == RolloutMode::Live);
            live.map(|connector| Arc::clone(&connector.plan)).collect()
        };
        let mut report =
            ReloadReport { diagnostics: loaded.diagnostics, ..ReloadReport::default() };
        if let Err(conflicts) = self.shared.server.change_routes(&plans(&old), &plans(&fresh)) {
            report.failed.clone_from(&conflicts);
            report.diagnostics.extend(conflicts);
            return (report, None);
        }
        self.swap(&old, &fresh, &changes).await;

        report.added = names(&changes.added);
        report.changed = names(&changes.changed);
        report.removed = names(&changes.removed);
        report.unchanged = changes.unchanged;
        report.failed = problems.keys().cloned().collect();
        let mut running = self.running.write();
        changes.removed.iter().for_each(|name| drop(running.connectors.remove(name)));
        running.connectors.extend(fresh.into_iter().map(|c| (Arc::clone(&c.plan.name), c)));
        running.problems = problems;
        let told = report.added.iter().chain(&report.changed).chain(&report.failed);
        let generation = |name: &String| Some((name.clone(), running.connectors.get(&**name)?));
        let told = told.filter_map(generation);
        report.generations = told.map(|(name, c)| (name, c.generation)).collect();
        (report, Some(unbuilt))
    }

    /// A connector's plan as it is about to run, or runs.
    fn original(
        &self,
        of: &Arc<str>,
        plans: &BTreeMap<Arc<str>, Arc<ConnectorPlan>>,
    ) -> Option<Arc<ConnectorPlan>> {
        let running = || self.running.read().connectors.get(of).map(|it| Arc::clone(&it.plan));
        plans.get(of).map(Arc::clone).or_else(running)
    }

    /// What runs and is changed or removed.
    fn replaced(&self, changes: &Changes) -> Vec<Arc<Connector>> {
        let running = &self.running.read().connectors;
        let gone = changes.changed.iter().chain(&changes.removed);
        gone.filter_map(|name| running.get(name).cloned()).collect()
    }

    /// Builds what is new, without side effects on what runs. What cannot be built is a problem
    /// and drops out of the changes; the names of those come second.
    fn build(
        &self,
        changes: &mut Changes,
        plans: &BTreeMap<Arc<str>, Arc<ConnectorPlan>>,
        ledger: &Ledger,
        problems: &mut BTreeMap<String, Problem>,
    ) -> (Vec<Arc<Connector>>, BTreeSet<Arc<str>>) {
        let (mut fresh, mut unbuilt) = (Vec::new(), BTreeSet::new());
        let mut build = |name: &Arc<str>| {
            let plan = &plans[name];
            let generation = self.running.read().generations.get(name).copied().unwrap_or(0) + 1;
            let mode = ledger.mode(plan).0;
            let original = plan.rollout.of.as_ref().and_then(|of| self.original(of, plans));
            match Connector::build(&self.shared, plan, generation, mode, original.as_deref()) {
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
                    unbuilt.insert(Arc::clone(name));
                    false
                }
            }
        };
        changes.added.retain(&mut build);
        changes.changed.retain(&mut build);
        (fresh, unbuilt)
    }

    /// Drains what is replaced or gone, then starts what is new.
    async fn swap(&self, old: &[Arc<Connector>], fresh: &[Arc<Connector>], changes: &Changes) {
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
        for connector in old {
            self.shared.auth.forget(&connector.plan.name);
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
    let by_name = loaded.failed_names.iter().filter(|name| running.contains_key(*name));
    let by_file = loaded.failed_files.iter().filter_map(|(file, failed)| {
        let name = failed.before.as_ref()?;
        running.get(name).filter(|connector| connector.plan.file == *file).map(|_| name)
    });
    by_name.chain(by_file).filter(|name| !loaded.plans.contains_key(*name)).cloned().collect()
}

fn problems_of(loaded: &Loaded) -> BTreeMap<String, Problem> {
    let name_of = |path: &PathBuf| path.display().to_string();
    loaded
        .failed_files
        .iter()
        .map(|(path, failed)| {
            let message = failed.problem.clone();
            (name_of(path), Problem { file: path.clone(), message })
        })
        .collect()
}

fn names(names: &[Arc<str>]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(entries: &[(&str, u8)]) -> BTreeMap<Arc<str>, u8> {
        entries.iter().map(|(name, n)| (Arc::from(*name), *n)).collect()
    }

    #[test]
    fn diff_is_by_name_and_content_and_keeps_what_has_no_plan() {
        let running = set(&[("same", 1), ("other", 1), ("edited", 1), ("gone", 1), ("broken", 1)]);
        let wanted = set(&[("same", 1), ("edited", 2), ("new", 1)]);
        let names = |list: &[&str]| list.iter().map(|n| Arc::from(*n)).collect::<Vec<Arc<str>>>();
        let gone = names(&["gone", "broken", "unknown"]).into_iter().collect();
        let kept = BTreeSet::from([Arc::from("broken")]);
        let now = |name: &str| running.get(name).copied();
        let wanted = wanted.iter().map(|(name, content)| (name, *content));
        assert_eq!(
            diff(now, running.len(), wanted, &gone, &kept),
            Changes {
                added: names(&["new"]),
                changed: names(&["edited"]),
                removed: names(&["gone"]),
                unchanged: 2,
            }
        );
    }
}
