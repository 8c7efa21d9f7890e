//! Rollback: a kept version runs although the file says otherwise, until the file changes or somebody
//! undoes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    super::{
        Engine,
        connector::Connector,
        load::{Failed, Loaded, Loader, Look},
        tasks::{TaskKind, blocking},
    },
    flags::cut,
    ledger::{self, Entry, Ledger, Pin, Write, hex},
    versions::{KeptVersion, Stored},
};
use crate::{
    plan::{ConnectorPlan, RolloutMode},
    world::Timestamp,
};

/// How often it is looked for versions of connectors that are gone.
const FORGET_EVERY: Duration = Duration::from_hours(24);

/// What somebody wants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// The connector's name.
    pub connector: String,
    /// `3` or `#3`, or a `version`; none means the newest that is not what runs now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Back to what the file says.
    #[serde(default)]
    pub undo: bool,
    /// Who wants it.
    pub by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolledBack {
    /// The connector's name.
    pub connector: String,
    /// The `version` that runs now.
    pub version: String,
    /// Its number among those that are kept; none: it is the file's.
    pub number: Option<u64>,
    /// Counts the plans of this name since the engine started.
    pub generation: u64,
}

impl Engine {
    /// Makes a kept version run, or what the file says run again. Errors: for a person; what runs is
    /// as it was.
    pub async fn rollback(&self, request: &RollbackRequest) -> Result<RolledBack, String> {
        let name = &*request.connector;
        let (pin, entry) = if request.undo {
            (None, self.undone(request)?)
        } else {
            let (pin, entry) = self.pin(request).await?;
            (Some(pin), entry)
        };
        let to = entry.to.clone();
        {
            let _one_at_a_time = self.shared.rollouts.writing.lock().await;
            let decisions = [Write::Pin(name, pin.clone())];
            ledger::write(self.bus().as_ref(), &decisions, &[entry])
                .await
                .map_err(|error| error.to_string())?;
        }
        self.shared.rollouts.unpinned.lock().insert(name.to_owned());
        tracing::warn!(connector = name, by = request.by, why = request.why, to, "rolled back");
        let report = self.reload_where(Look::At([].into()), true).await.unwrap_or_default();
        let connector = self.running.read().connectors.get(name).cloned();
        let runs = connector.as_ref().map(|connector| &connector.plan);
        let is_done = |pin: &Pin| runs.is_some_and(|plan| hex(plan.content) == pin.content);
        if let Some(pin) = pin.filter(|pin| !is_done(pin)) {
            self.take_back(name, pin).await?;
            let told = report.diagnostics.join("\n");
            let failed = report.failed.join(", ");
            return Err(format!(
                "the kept version did not start, what ran goes on: {failed}\n{told}"
            ));
        }
        let Some(connector) = connector else {
            return Err(format!("`{name}` does not run: `tenon status {name}` says why"));
        };
        let version = self.versions(name).await;
        let number =
            version.into_iter().find(|it| it.is_running && !it.is_file).map(|it| it.number);
        Ok(RolledBack {
            connector: name.to_owned(),
            version: connector.plan.version.clone(),
            number,
            generation: connector.generation,
        })
    }

    /// The versions that are kept of a connector, newest first.
    pub async fn versions(&self, name: &str) -> Vec<KeptVersion> {
        // Those that began to run may still be on their way to the disk.
        drop(self.loader.lock().await);
        let (shared, wanted) = (Arc::clone(&self.shared), name.to_owned());
        let kept = blocking(move || shared.rollouts.versions.list(&wanted)).await;
        let running = self.running.read().connectors.get(name).map(|c| hex(c.plan.content));
        let pin = Ledger::read(self.bus().as_ref()).pins.remove(name);
        let file = pin.map(|pin| pin.instead_of).or_else(|| running.clone());
        kept.into_iter().map(|stored| stored.shown(running.as_ref(), file.as_ref())).collect()
    }

    /// A pin that could not be carried out is none.
    async fn take_back(&self, name: &str, pin: Pin) -> Result<(), String> {
        let entry = Entry {
            at: self.now(),
            by: "tenon".to_owned(),
            connector: name.to_owned(),
            what: "rollback".to_owned(),
            from: Some(pin.version),
            to: None,
            why: Some("the kept version did not start".to_owned()),
        };
        let _one_at_a_time = self.shared.rollouts.writing.lock().await;
        ledger::write(self.bus().as_ref(), &[Write::Pin(name, None)], &[entry])
            .await
            .map_err(|error| error.to_string())
    }

    fn undone(&self, request: &RollbackRequest) -> Result<Entry, String> {
        let name = &request.connector;
        let pins = Ledger::read(self.bus().as_ref()).pins;
        let Some(pin) = pins.get(name) else {
            return Err(format!("`{name}` runs what its file says: there is nothing to undo"));
        };
        Ok(self.entry(request, Some(pin.version.clone()), None))
    }

    fn entry(&self, request: &RollbackRequest, from: Option<String>, to: Option<String>) -> Entry {
        Entry {
            at: self.now(),
            by: cut(&request.by),
            connector: request.connector.clone(),
            what: "rollback".to_owned(),
            from,
            to,
            why: request.why.as_deref().map(cut),
        }
    }

    /// Chooses the version, and sees that it compiles.
    async fn pin(&self, request: &RollbackRequest) -> Result<(Pin, Entry), String> {
        let name = &*request.connector;
        let loader = Arc::clone(&self.loader).lock_owned().await;
        let file = loader.plans().find(|plan| *plan.name == *name).map(|plan| hex(plan.content));
        let is_known = file.is_some() || loader.has(name);
        drop(loader);
        if !is_known {
            return Err(format!("no file has a connector named `{name}`"));
        }
        let running = self.running.read().connectors.get(name).map(|it| Arc::clone(&it.plan));
        let current = running.as_ref().map(|plan| hex(plan.content)).or_else(|| file.clone());
        let (shared, wanted) = (Arc::clone(&self.shared), name.to_owned());
        let to = request.to.clone();
        let (chosen, plan) = blocking(move || {
            let kept = shared.rollouts.versions.list(&wanted);
            let chosen = choose(&wanted, kept, to.as_deref(), current.as_deref())?;
            let plan = chosen.compile()?;
            Ok::<_, String>((chosen, plan))
        })
        .await?;
        if *plan.name != *name {
            return Err(format!("version #{} is of `{}`", chosen.number, plan.name));
        }
        self.free_routes(&plan)?;
        let label = |number: u64, version: &str| format!("{version} (#{number})");
        let pin = Pin {
            content: hex(plan.content),
            instead_of: file.unwrap_or_default(),
            version: chosen.version.clone(),
            at: self.now(),
            by: cut(&request.by),
            why: request.why.as_deref().map(cut),
        };
        let from = running.map(|plan| plan.version.clone());
        Ok((pin, self.entry(request, from, Some(label(chosen.number, &chosen.version)))))
    }

    /// Whether the paths that a version serves are still free. Errors: whose they are.
    fn free_routes(&self, plan: &ConnectorPlan) -> Result<(), String> {
        if plan.is_variant() {
            return Ok(());
        }
        let wanted = paths(plan);
        for other in self.running.read().connectors.values() {
            let is_other = other.plan.name != plan.name && !other.plan.is_variant();
            if !is_other {
                continue;
            }
            if let Some(path) = paths(&other.plan).into_iter().find(|path| wanted.contains(path)) {
                return Err(format!(
                    "version {} serves the webhook path `{path}`, which `{}` has now",
                    plan.version, other.plan.name
                ));
            }
        }
        Ok(())
    }

    /// Adds to a load what is decided otherwise although no file changed: connectors whose mode did,
    /// and those that may no longer be pinned.
    pub(in crate::engine) fn revisit(&self, loaded: &mut Loaded, loader: &Loader, ledger: &Ledger) {
        let running = self.running.read();
        let is_moved = |it: &&Arc<Connector>| {
            let is_plain = it.mode == it.plan.rollout.mode && ledger.flags.is_empty();
            !is_plain && ledger.mode(&it.plan).0 != it.mode
        };
        for connector in running.connectors.values().filter(is_moved) {
            let plan = &connector.plan;
            loaded.plans.entry(Arc::clone(&plan.name)).or_insert_with(|| Arc::clone(plan));
        }
        let unpinned = std::mem::take(&mut *self.shared.rollouts.unpinned.lock());
        if unpinned.is_empty() {
            return;
        }
        for plan in loader.plans().filter(|plan| unpinned.contains(&*plan.name)) {
            loaded.plans.insert(Arc::clone(&plan.name), Arc::clone(plan));
        }
    }

    /// The names that run a kept version.
    pub(in crate::engine) fn rolled_back(&self) -> Vec<String> {
        let running = self.running.read();
        let pins = Ledger::read(self.bus().as_ref()).pins.into_iter();
        let runs = |(name, pin): &(String, Pin)| {
            let connector = running.connectors.get(&**name);
            connector.is_some_and(|connector| hex(connector.plan.content) == pin.content)
        };
        pins.filter(runs).map(|(name, _)| name).collect()
    }

    /// Puts pinned versions into the place of what their files say; pins whose files changed end. The
    /// names of those that have to wait for a path that a pinned version serves.
    pub(in crate::engine) async fn apply_pins(
        &self,
        loaded: &mut Loaded,
        loader: &Loader,
        ledger: &Ledger,
    ) -> BTreeSet<Arc<str>> {
        let mut pinned = Vec::new();
        for (name, pin) in &ledger.pins {
            let file = loader.plans().find(|plan| *plan.name == **name);
            let content = file.map(|plan| hex(plan.content));
            if content.as_ref().is_none_or(|content| *content == pin.instead_of) {
                let is_kept = file.is_some() || loaded.failed_names.contains(&**name);
                if is_kept && let Some(plan) = self.pinned(name, pin).await {
                    loaded.failed_names.remove(&**name);
                    loaded.gone.remove(&**name);
                    pinned.push(Arc::clone(&plan));
                    loaded.plans.insert(Arc::clone(&plan.name), plan);
                }
                continue;
            }
            if let Some(file) = file {
                loaded.plans.entry(Arc::clone(&file.name)).or_insert_with(|| Arc::clone(file));
            }
            tracing::info!(connector = name, "its file changed: the rollback ends");
            let entry = Entry {
                at: self.now(),
                by: "tenon".to_owned(),
                connector: name.clone(),
                what: "rollback".to_owned(),
                from: Some(pin.version.clone()),
                to: None,
                why: Some("the file changed".to_owned()),
            };
            let _one_at_a_time = self.shared.rollouts.writing.lock().await;
            let written =
                ledger::write(self.bus().as_ref(), &[Write::Pin(name, None)], &[entry]).await;
            if let Err(error) = written {
                tracing::warn!(connector = name, %error, "that a rollback ended is not durable");
            }
        }
        pinned.iter().flat_map(|plan| give_way(loaded, plan, ledger)).collect()
    }

    async fn pinned(&self, name: &str, pin: &Pin) -> Option<Arc<ConnectorPlan>> {
        let (shared, wanted, content) =
            (Arc::clone(&self.shared), name.to_owned(), pin.content.clone());
        let compiled = blocking(move || {
            let kept = shared.rollouts.versions.list(&wanted);
            let stored = kept.into_iter().find(|stored| stored.content == content);
            let stored = stored.ok_or_else(|| "it is no longer kept".to_owned())?;
            stored.compile()
        })
        .await;
        compiled
            .map_err(|problem| {
                tracing::error!(
                    connector = name,
                    version = pin.version,
                    problem,
                    "the version that was rolled back to cannot run; the file's does"
                );
            })
            .ok()
    }

    /// Keeps the versions that began to run, beside them: nothing waits for that but what reads or
    /// changes them, which the lock on the loader holds back. What cannot be kept is logged and runs all
    /// the same; what a crash or a shutdown leaves is kept at the next start.
    pub(in crate::engine) fn keep_versions(
        &self,
        mut loader: tokio::sync::OwnedMutexGuard<Loader>,
        names: &[String],
    ) {
        let now = self.now();
        let forgets = self.is_time_to_forget(now);
        if names.is_empty() && !forgets {
            loader.take_fresh();
            return;
        }
        let running: BTreeMap<Arc<str>, Arc<ConnectorPlan>> = {
            let running = self.running.read();
            let plans = names.iter().filter_map(|name| running.connectors.get(&**name));
            plans.map(|it| (Arc::clone(&it.plan.name), Arc::clone(&it.plan))).collect()
        };
        // What is pinned may be all that there is of a connector.
        let mut there: BTreeSet<String> = BTreeSet::new();
        if forgets {
            there.extend(Ledger::read(self.bus().as_ref()).pins.into_keys());
            there.extend(self.running.read().connectors.keys().map(ToString::to_string));
        }
        let (shared, stop) = (Arc::clone(&self.shared), self.stop.clone());
        let keep = move || {
            let versions = &shared.rollouts.versions;
            // Where it is looked for those that are gone, that is found out there.
            for name in running.keys().filter(|_| !forgets) {
                if let Err(error) = versions.is_back(name) {
                    let connector = &**name;
                    tracing::warn!(connector, %error, "its kept versions say that it is gone");
                }
            }
            let mut fresh = loader.take_fresh();
            // One that was rolled back to is kept already.
            let is_begun = |plan: &&Arc<ConnectorPlan>| {
                running.get(&plan.name).is_some_and(|it| it.content == plan.content)
            };
            let begun = loader.plans().filter(is_begun).take_while(|_| !stop.is_cancelled());
            for plan in begun.filter(|plan| !versions.has(plan)) {
                let texts = fresh.remove(&plan.name).or_else(|| loader.texts(plan));
                let Some(texts) = texts else { continue };
                if let Err(error) = versions.keep(plan, now, &texts) {
                    let connector = &*plan.name;
                    tracing::warn!(connector, %error, "this version is not kept for a rollback");
                }
            }
            if forgets && !stop.is_cancelled() {
                there.extend(loader.names().map(ToString::to_string));
                if let Err(error) = versions.forget(now, |name| there.contains(name)) {
                    tracing::warn!(%error, "versions of connectors that are gone stay");
                }
            }
        };
        self.shared.tasks.spawn(TaskKind::Background, "kept versions", blocking(keep));
    }

    /// Whether it is time to look for versions of connectors that are gone; then it is none for a while.
    fn is_time_to_forget(&self, now: Timestamp) -> bool {
        let mut forgot_at = self.shared.rollouts.forgot_at.lock();
        let is_time = now.since(*forgot_at) >= FORGET_EVERY;
        if is_time {
            *forgot_at = now;
        }
        is_time
    }
}

fn paths(plan: &ConnectorPlan) -> Vec<&str> {
    let hooks = plan.streams.iter().filter_map(|stream| stream.webhook.as_ref());
    hooks.map(|hook| hook.path.as_str()).collect()
}

/// Between files nobody knows of the paths of a pinned version. Who came to claim one since is a
/// problem of its own: taken together they could not be served, and nobody's change would be applied.
fn give_way(loaded: &mut Loaded, pinned: &ConnectorPlan, ledger: &Ledger) -> Vec<Arc<str>> {
    let serves = |plan: &ConnectorPlan| ledger.mode(plan).0 == RolloutMode::Live;
    if !serves(pinned) {
        return Vec::new();
    }
    let taken = paths(pinned);
    let others = loaded.plans.values().filter(|plan| plan.name != pinned.name && serves(plan));
    let rivals: Vec<_> = others
        .filter_map(|plan| {
            let path = paths(plan).into_iter().find(|path| taken.contains(path))?.to_owned();
            Some((Arc::clone(plan), path))
        })
        .collect();
    let mut names = Vec::new();
    for (plan, path) in rivals {
        let problem = format!(
            "`{path}` is served by version {} of `{}`, which was rolled back to: undo that, or wait \
             until its file changes",
            pinned.version, pinned.name
        );
        let told = format!("error: {}: {problem}\n", plan.file.display());
        loaded.news.push(told.clone());
        loaded.diagnostics.push(told);
        let before = Some(Arc::clone(&plan.name));
        loaded.failed_files.insert(plan.file.clone(), Failed { problem, before });
        loaded.failed_names.insert(Arc::clone(&plan.name));
        loaded.plans.remove(&plan.name);
        names.push(Arc::clone(&plan.name));
    }
    names
}

impl Stored {
    fn shown(self, running: Option<&String>, file: Option<&String>) -> KeptVersion {
        KeptVersion {
            is_running: running == Some(&self.content),
            is_file: file == Some(&self.content),
            number: self.number,
            version: self.version,
            since: self.since,
            file: self.file,
            content: self.content,
        }
    }
}

/// The version that is meant. `kept` is newest first. Errors: for a person.
fn choose(
    name: &str,
    kept: Vec<Stored>,
    to: Option<&str>,
    current: Option<&str>,
) -> Result<Stored, String> {
    let list = || {
        let shown = kept.iter().map(|it| format!("{} (#{})", it.version, it.number));
        let shown: Vec<String> = shown.collect();
        if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
    };
    let Some(to) = to else {
        let previous = kept.iter().find(|stored| Some(&*stored.content) != current);
        return previous.cloned().ok_or_else(|| {
            format!(
                "no earlier version of `{name}` is kept: the first rollback needs a second version"
            )
        });
    };
    let number = to.strip_prefix('#').unwrap_or(to).parse::<u64>().ok();
    let is_meant = |stored: &&Stored| match number {
        Some(number) => stored.number == number,
        None => stored.version == to && Some(&*stored.content) != current,
    };
    let Some(found) = kept.iter().find(is_meant) else {
        return Err(format!("no version `{to}` of `{name}` is kept; there are: {}", list()));
    };
    if Some(&*found.content) == current {
        return Err(format!("version #{} of `{name}` is what runs now", found.number));
    }
    Ok(found.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_that_is_meant() {
        let stored = |number, version: &str, content: &str| Stored {
            number,
            version: version.to_owned(),
            content: content.to_owned(),
            ..Stored::default()
        };
        let kept = vec![stored(3, "1.1.0", "c"), stored(2, "1.0.0", "b"), stored(1, "1.0.0", "a")];
        let chosen = |to: Option<&str>, current: &str| {
            choose("shop", kept.clone(), to, Some(current)).map(|stored| stored.number)
        };
        assert_eq!(chosen(None, "c"), Ok(2));
        assert_eq!(chosen(None, "b"), Ok(3), "after a rollback the other one");
        assert_eq!(chosen(Some("1.0.0"), "c"), Ok(2));
        assert_eq!(chosen(Some("1.0.0"), "b"), Ok(1));
        assert_eq!(chosen(Some("#1"), "c"), Ok(1));
        assert_eq!(chosen(Some("2"), "c"), Ok(2));
        for (to, current, told) in [
            ("#3", "c", "version #3 of `shop` is what runs now"),
            (
                "2.0.0",
                "c",
                "no version `2.0.0` of `shop` is kept; there are: 1.1.0 (#3), 1.0.0 (#2), 1.0.0 (#1)",
            ),
        ] {
            assert_eq!(chosen(Some(to), current), Err(told.to_owned()));
        }
        let none = choose("shop", vec![stored(1, "1.0.0", "a")], None, Some("a"));
        assert!(none.unwrap_err().contains("no earlier version"));
    }
}
