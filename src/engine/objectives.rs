//! `[slo]` of what runs: counted by the pipelines, judged every few seconds, kept every few minutes.
//!
//! What is kept stands under `slo/<connector>`, see [`History`]: a restart forgets at most the last minutes,
//! not the month.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;

use crate::{
    bus::{Bus, Settlement, StateWrites, write_state},
    observe::slo::{self, Counts, Goal, History, Kept, Severity},
    plan::SloPlan,
    world::Timestamp,
};

/// Where histories are kept.
const AREA: &str = "slo/";
/// How often they are kept.
const KEEP_EVERY: Duration = Duration::from_mins(5);
/// Histories of connectors that are gone are kept this long.
const FORGET_AFTER: Duration = Duration::from_hours(24 * 90);

/// One connector's promises at work.
#[derive(Default)]
pub struct Objective {
    counts: Counts,
    past: Mutex<Past>,
}

#[derive(Default)]
struct Past {
    history: History,
    /// Not kept yet.
    is_dirty: bool,
    /// The alerts that are on.
    on: BTreeSet<(Goal, Severity)>,
}

impl Objective {
    /// An event's way to one destination ended, so long after it was accepted.
    pub fn ended(&self, plan: &SloPlan, settlement: &Settlement, took: Duration) {
        match settlement {
            Settlement::Delivered { .. } => self.counts.delivered(plan, took),
            Settlement::Dead { .. } => self.counts.dead(),
            _ => {}
        }
    }

    /// Takes in what was counted, and says where an alert begins or ends.
    fn look(&self, connector: &str, plan: &SloPlan, now: Timestamp) {
        let tally = self.counts.take();
        let mut past = self.past.lock();
        let is_quiet = tally == slo::Tally::default();
        past.is_dirty |= !is_quiet;
        past.history.add(now, tally, plan.window);
        // What nothing was added to burns no faster than before.
        if is_quiet && past.on.is_empty() {
            return;
        }
        let all = slo::assess(plan, &past.history, now);
        let mut on = BTreeSet::new();
        for kept in &all {
            for burn in kept.burns.iter().filter(|burn| burn.is_on) {
                on.insert((kept.goal, burn.severity));
            }
        }
        for kept in &all {
            for severity in [Severity::Page, Severity::Ticket] {
                let key = (kept.goal, severity);
                let (was_on, is_on) = (past.on.contains(&key), on.contains(&key));
                if was_on != is_on {
                    say(connector, kept, severity, is_on);
                }
            }
        }
        past.on = on;
    }
}

fn say(connector: &str, kept: &Kept, severity: Severity, begins: bool) {
    let (objective, severity_word) = (kept.goal.word(), severity.word());
    let rates = kept.burns.iter().filter(|burn| burn.severity == severity && burn.is_on);
    let burn_rate = rates.map(|burn| burn.long_rate).fold(0.0, f64::max);
    let (budget_left, bad, events) = (kept.budget_left, kept.bad, kept.events);
    if begins {
        tracing::warn!(
            connector,
            objective,
            severity = severity_word,
            burn_rate,
            budget_left,
            bad,
            events,
            "error budget burns"
        );
    } else {
        tracing::info!(
            connector,
            objective,
            severity = severity_word,
            budget_left,
            "error budget no longer burns"
        );
    }
}

/// The promises of all connectors.
#[derive(Default)]
pub struct Objectives {
    all: Mutex<BTreeMap<Arc<str>, Arc<Objective>>>,
    kept_at: Mutex<Timestamp>,
}

impl Objectives {
    /// A connector's, with what is remembered of it. The same one after a reload.
    pub fn of(&self, bus: &dyn Bus, connector: &Arc<str>) -> Arc<Objective> {
        let mut all = self.all.lock();
        let made = || {
            let stored = bus.state(&format!("{AREA}{connector}"));
            let history = stored.and_then(|bytes| History::decode(&bytes)).unwrap_or_default();
            let past = Mutex::new(Past { history, ..Past::default() });
            Arc::new(Objective { past, ..Objective::default() })
        };
        Arc::clone(all.entry(Arc::clone(connector)).or_insert_with(made))
    }

    /// How a connector keeps its promises.
    pub fn kept(&self, connector: &str, plan: &SloPlan, now: Timestamp) -> Vec<Kept> {
        let found = self.all.lock().get(connector).map(Arc::clone);
        let Some(objective) = found else { return slo::assess(plan, &History::default(), now) };
        objective.look(connector, plan, now);
        slo::assess(plan, &objective.past.lock().history, now)
    }

    /// Looks at those that run.
    pub fn look<'a>(
        &self,
        running: impl Iterator<Item = (&'a Arc<str>, &'a SloPlan)>,
        now: Timestamp,
    ) {
        let all = self.all.lock().clone();
        for (name, plan) in running {
            if let Some(objective) = all.get(name) {
                objective.look(name, plan, now);
            }
        }
    }

    /// Stores what changed, if it is time.
    pub async fn keep_in_time(&self, bus: &dyn Bus, now: Timestamp) {
        let is_time = {
            let mut kept_at = self.kept_at.lock();
            let is_time = now.since(*kept_at) >= KEEP_EVERY;
            if is_time {
                *kept_at = now;
            }
            is_time
        };
        if is_time {
            self.keep(bus).await;
        }
    }

    /// Stores what changed.
    pub async fn keep(&self, bus: &dyn Bus) {
        let all = self.all.lock().clone();
        let mut writes = StateWrites::new();
        for (name, objective) in &all {
            let mut past = objective.past.lock();
            if std::mem::take(&mut past.is_dirty) {
                writes.push((format!("{AREA}{name}"), Some(past.history.encode())));
            }
        }
        if let Err(error) = write_state(bus, writes).await {
            for objective in all.values() {
                objective.past.lock().is_dirty = true;
            }
            tracing::warn!(%error, "what is kept of [slo] could not be stored");
        }
    }

    /// Forgets connectors that have long been gone. Called once, at start.
    pub async fn forget(&self, bus: &dyn Bus, now: Timestamp) {
        let is_old = |bytes: &[u8]| {
            let newest = History::decode(bytes).and_then(|history| history.newest());
            newest.is_none_or(|newest| now.since(newest) > FORGET_AFTER)
        };
        let old = bus.state_under(AREA).into_iter().filter(|(_, bytes)| is_old(bytes));
        let writes = old.map(|(key, _)| (key, None)).collect();
        if let Err(error) = write_state(bus, writes).await {
            tracing::warn!(%error, "old histories of [slo] stay");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bus::MemoryBus, world::SystemClock};

    #[tokio::test]
    async fn what_is_counted_outlives_a_restart_and_a_reload() {
        let bus = MemoryBus::new(Arc::new(SystemClock));
        let name: Arc<str> = "shop".into();
        let plan = SloPlan { success: Some(0.99), latency: None, window: Duration::from_hours(24) };
        let now = Timestamp(1_795_341_600_000);
        let first = Objectives::default();
        let delivered = Settlement::Delivered { attempts: 1, status: None, sent: None };
        let objective = first.of(&*bus, &name);
        for settlement in [&delivered, &Settlement::Superseded { by: None }, &delivered] {
            objective.ended(&plan, settlement, Duration::ZERO);
        }
        first.of(&*bus, &name).ended(
            &plan,
            &Settlement::Dead { reason: "rejected".to_owned() },
            Duration::ZERO,
        );
        let kept = first.kept("shop", &plan, now);
        assert_eq!((kept[0].events, kept[0].bad), (3, 1));
        let tickets = kept[0].burns.iter().filter(|burn| burn.severity == Severity::Ticket);
        assert!(
            tickets.into_iter().all(|burn| burn.is_on),
            "a third is dead where a hundredth may be: {kept:?}"
        );
        assert!(!kept[0].pages(), "one event wakes nobody: {kept:?}");
        first.keep(&*bus).await;
        let second = Objectives::default();
        second.forget(&*bus, now).await;
        second.of(&*bus, &name);
        assert_eq!(second.kept("shop", &plan, now), kept);
        second.forget(&*bus, now.plus(FORGET_AFTER * 2)).await;
        assert!(bus.state_under(AREA).is_empty());
    }
}
