//! How the events of replays end: counted as they do, kept every few seconds, and counted again from the
//! journal where a crash took the last of it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;

use super::{
    request::Source,
    select::read_endings,
    status::{ReplayOutcomes, ReplayStatus},
};
use crate::{
    bus::{Bus, Ending, Endings, Settlement, StoreError, write_state},
    engine::tasks::blocking,
    event::ReplayId,
    world::Timestamp,
};

/// Set while nothing is left to be kept: after a shutdown, until the next start.
const KEPT: &str = "replay-outcomes-kept";

/// Events that are asked about in one pass.
const AT_ONCE: usize = 100_000;

/// What ended and is not kept yet, by replay.
#[derive(Default)]
pub struct Ended {
    counted: Mutex<BTreeMap<ReplayId, ReplayOutcomes>>,
    /// Held by whoever changes what is stored.
    keeping: tokio::sync::Mutex<()>,
    /// What is stored and what is counted are all there is. Not before it was counted again.
    is_whole: AtomicBool,
}

impl Ended {
    /// An event of a replay ended at a destination.
    pub fn count(&self, by: ReplayId, settlement: &Settlement) {
        let mut one = ReplayOutcomes::default();
        match settlement {
            Settlement::Delivered { .. } => one.delivered = 1,
            Settlement::Superseded { .. } => one.superseded = 1,
            Settlement::Dead { .. } => one.dead = 1,
            Settlement::Retry { .. } | Settlement::Defer { .. } => return,
        }
        self.counted.lock().entry(by).or_default().add(one);
    }

    /// How the events of a replay ended so far.
    pub fn of(&self, bus: &dyn Bus, id: &str) -> ReplayOutcomes {
        // Under the lock: what is being kept is in one of both, not in neither.
        let all = self.counted.lock();
        let mut outcomes = ReplayOutcomes::stored(bus, id);
        if let Some(more) = id.parse().ok().and_then(|id: ReplayId| all.get(&id)) {
            outcomes.add(*more);
        }
        outcomes
    }

    /// Adds to what is stored whatever ended since.
    pub async fn keep(&self, bus: &dyn Bus) -> Result<(), StoreError> {
        let _keeping = self.keeping.lock().await;
        self.keep_now(bus).await
    }

    async fn keep_now(&self, bus: &dyn Bus) -> Result<(), StoreError> {
        let taken = self.counted.lock().clone();
        let mut writes = Vec::new();
        for (id, more) in &taken {
            // A single dead letter's replay is nobody's to look at, and forgotten ones are forgotten.
            if ReplayStatus::stored(bus, *id).is_some() {
                let mut outcomes = ReplayOutcomes::stored(bus, &id.to_string());
                outcomes.add(*more);
                writes.push(outcomes.write(&id.to_string()));
            }
        }
        if taken.is_empty() {
            return Ok(());
        }
        write_state(bus, writes).await?;
        let mut all = self.counted.lock();
        for (id, kept) in taken {
            let Some(now) = all.get_mut(&id) else { continue };
            now.delivered -= kept.delivered;
            now.superseded -= kept.superseded;
            now.dead -= kept.dead;
            if now.total() == 0 {
                all.remove(&id);
            }
        }
        Ok(())
    }

    /// The last of it, at a shutdown. What is still being counted again is so at the next start.
    pub async fn close(&self, bus: &dyn Bus) {
        let Ok(_keeping) = self.keeping.try_lock() else { return };
        let kept = match self.keep_now(bus).await {
            Ok(()) if self.is_whole.load(Ordering::Acquire) => {
                bus.put_state(KEPT, Some(b"1".to_vec())).await
            }
            other => other,
        };
        if let Err(error) = kept {
            tracing::warn!(%error, "the outcomes of replays are counted again at the next start");
        }
    }

    /// Counts again what a crash took: how the events of each replay that is not through had ended
    /// before `began`, when this engine started. What ends from then on is counted as it does.
    pub async fn recount(&self, bus: &Arc<dyn Bus>, began: Timestamp) -> Result<(), StoreError> {
        let _keeping = self.keeping.lock().await;
        if bus.state(KEPT).is_some() {
            bus.put_state(KEPT, None).await?;
        } else {
            for status in ReplayStatus::all(&**bus) {
                let known = ReplayOutcomes::stored(&**bus, &status.id).total();
                if known < status.deliveries {
                    let outcomes = count_again(bus, &status, began).await?;
                    write_state(&**bus, vec![outcomes.write(&status.id)]).await?;
                    tracing::info!(replay = status.id, "counted again how its events ended");
                }
            }
        }
        self.is_whole.store(true, Ordering::Release);
        Ok(())
    }
}

async fn count_again(
    bus: &Arc<dyn Bus>,
    status: &ReplayStatus,
    began: Timestamp,
) -> Result<ReplayOutcomes, StoreError> {
    let mut outcomes = ReplayOutcomes::default();
    let Ok(by) = status.id.parse::<ReplayId>() else { return Ok(outcomes) };
    let (from, to) = match status.request.source {
        Source::History => (status.request.from, status.request.to),
        // A dead letter's event came in before it died, who knows when.
        Source::DeadLetters => (Timestamp(i64::MIN), Timestamp(i64::MAX)),
    };
    let mut after = None;
    loop {
        let (mut asked, mut copies) = (Endings::default(), Vec::new());
        asked.until(began);
        let mut more = true;
        while more && asked.len() < AT_ONCE {
            let bus = Arc::clone(bus);
            let page = blocking(move || bus.history(from, to, after)).await?;
            for (seq, event) in &page.events {
                if event.replayed.is_some_and(|replayed| replayed.by == by) {
                    asked.ask(*seq, event);
                    copies.push((event.id, event.to.clone()));
                }
            }
            more = page.next.is_some();
            after = page.next.or(after);
        }
        let asked = read_endings(bus, asked).await?;
        for (id, to) in copies {
            for destination in to {
                match asked.of(id, &destination) {
                    Some(Ending::Delivered { .. }) => outcomes.delivered += 1,
                    Some(Ending::Superseded) => outcomes.superseded += 1,
                    Some(Ending::Dead { .. }) => outcomes.dead += 1,
                    Some(Ending::Pending) | None => {}
                }
            }
        }
        if !more {
            return Ok(outcomes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bus::MemoryBus, world::SystemClock};

    #[tokio::test]
    async fn what_ended_is_in_one_place_or_the_other() {
        let bus = MemoryBus::new(Arc::new(SystemClock));
        let (id, other) = (ReplayId::new(Timestamp(1), 1), ReplayId::new(Timestamp(2), 2));
        let status = ReplayStatus { id: id.to_string(), ..ReplayStatus::default() };
        status.store(&*bus).await.unwrap();
        let ended = Ended::default();
        let delivered = Settlement::Delivered { attempts: 1, status: None, sent: None };
        for _ in 0..2 {
            ended.count(id, &delivered);
            ended.count(id, &Settlement::Dead { reason: "rejected".to_owned() });
            ended.count(id, &Settlement::Defer { due: Timestamp(9) });
            ended.count(other, &Settlement::Superseded { by: None });
            ended.keep(&*bus).await.unwrap();
        }
        ended.count(id, &Settlement::Superseded { by: None });
        let expected = ReplayOutcomes { delivered: 2, superseded: 1, dead: 2 };
        assert_eq!(ended.of(&*bus, &id.to_string()), expected);
        let stored = ReplayOutcomes { superseded: 0, ..expected };
        assert_eq!(ReplayOutcomes::stored(&*bus, &id.to_string()), stored);
        // Nobody knows the other one, so nothing of it is kept.
        assert_eq!(bus.state_under("replay-outcomes/").len(), 1);
    }
}
