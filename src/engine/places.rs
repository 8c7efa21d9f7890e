//! The places of a destination: how many attempts may be under way at once, over all lanes and tenants,
//! and that one tenant whose attempts hang does not hold them all. They are shared as those of a lane are.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::bus::{Steer, Window};

/// See the module's text.
pub struct Places {
    all: usize,
    held: Mutex<Held>,
    /// Attempts that wait, for a place or for their bay.
    waiters: AtomicUsize,
    /// The sum of all bays' limits, for the metrics.
    pub limits: Arc<AtomicU64>,
    /// How many bays' breakers are not closed, for the metrics.
    pub breakers_open: Arc<AtomicU64>,
}

#[derive(Default)]
struct Held {
    taken: usize,
    /// The weights of all tenants that hold one.
    weights: u64,
    /// Bays that there ever were.
    bays: usize,
    /// Whom to tell when one is free.
    waiting: HashMap<Option<Arc<str>>, Arc<Notify>>,
}

/// See [`Places::wait`].
pub struct Waiter<'a>(&'a Places);

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.waiters.fetch_sub(1, Relaxed);
    }
}

impl Held {
    fn is_alone(&self) -> bool {
        self.bays <= 1
    }
}

impl Places {
    /// So many, all free.
    pub fn new(all: usize, limits: Arc<AtomicU64>, breakers_open: Arc<AtomicU64>) -> Self {
        let waiters = AtomicUsize::new(0);
        Self { all, held: Mutex::default(), waiters, limits, breakers_open }
    }

    /// How many are taken, and the weights of those who hold them.
    #[cfg(test)]
    pub fn held(&self) -> (usize, u64) {
        let held = self.held.lock();
        (held.taken, held.weights)
    }

    /// One more bay shares them.
    pub fn joined(&self) {
        self.held.lock().bays += 1;
    }

    /// Whether only one bay ever shared them.
    pub fn is_alone(&self) -> bool {
        self.held.lock().is_alone()
    }

    /// Lets those go first that wait already and were told that a place is free: whoever gave it back goes
    /// on at once, and would take it again and again.
    pub async fn let_others_first(&self) {
        if self.waiters.load(Relaxed) > 0 {
            tokio::task::yield_now().await;
        }
    }

    /// Counts one that waits, until this is dropped.
    pub fn wait(&self) -> Waiter<'_> {
        self.waiters.fetch_add(1, Relaxed);
        Waiter(self)
    }

    /// Takes one for a tenant that holds so many. Where it may not have it, `room` is told when one is
    /// free.
    pub fn take(
        &self,
        tenant: Option<&Arc<str>>,
        weight: u32,
        holds: usize,
        room: &Arc<Notify>,
    ) -> bool {
        let mut held = self.held.lock();
        let (places, taken) = (self.all, held.taken);
        let window = Window { places, taken, weights: held.weights, alone: held.is_alone() };
        let may = taken < places && window.admits(holds, &Steer { weight, ..Steer::default() });
        if may {
            held.taken += 1;
            held.weights += if holds == 0 { u64::from(weight) } else { 0 };
        } else if !held.waiting.contains_key(&tenant.cloned()) {
            held.waiting.insert(tenant.cloned(), Arc::clone(room));
        }
        may
    }

    /// Gives one back; the tenant still holds so many.
    pub fn give_back(&self, weight: u32, holds: usize) {
        let mut held = self.held.lock();
        held.taken -= 1;
        held.weights -= if holds == 0 { u64::from(weight) } else { 0 };
        let waiting = std::mem::take(&mut held.waiting);
        drop(held);
        waiting.values().for_each(|room| room.notify_one());
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::Ordering::SeqCst, time::Duration};

    use futures_util::future::join_all;

    use super::*;
    use crate::{
        deliver::{Adaptive, Sign},
        engine::bay::{Bay, End},
        world::Timestamp,
    };

    fn bay(places: &Arc<Places>, tenant: &str) -> Arc<Bay> {
        let tenant = Some(Arc::from(tenant));
        Arc::new(Bay::new(tenant, 1, None, Adaptive::fixed(8), None, Arc::clone(places)))
    }

    /// Nobody waits for a place that is free, whoever gives it back.
    #[tokio::test(start_paused = true)]
    async fn every_place_that_is_given_back_goes_to_whoever_waits() {
        let places = Arc::new(Places::new(8, Arc::default(), Arc::default()));
        let bays = ["a", "b", "c"].map(|tenant| bay(&places, tenant));
        let (under_way, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let began = tokio::time::Instant::now();
        let attempt = async |n: usize| {
            // Most are of one tenant; some are given up while they wait.
            let bay = &bays[if n.is_multiple_of(5) { n % 3 } else { 0 }];
            let enter = bay.enter(|| Timestamp(0));
            let attempt = if n % 7 == 3 {
                let patience = Duration::from_millis(n as u64 % 20);
                let Ok(attempt) = tokio::time::timeout(patience, enter).await else { return 0 };
                attempt
            } else {
                enter.await
            };
            most.fetch_max(under_way.fetch_add(1, SeqCst) + 1, SeqCst);
            tokio::time::sleep(Duration::from_millis(1 + n as u64 % 3)).await;
            under_way.fetch_sub(1, SeqCst);
            let end = End { sign: Sign::Alive, tells: true, refused: false, spent_until: None };
            attempt.unwrap_or_else(|_| panic!("no breaker")).leave(end, Timestamp(0));
            1
        };
        let done: usize = join_all((0..400).map(attempt)).await.into_iter().sum();
        assert!(done >= 400 - 400 / 7 - 1);
        let ideal = Duration::from_millis(done as u64 * 2 / 8);
        assert!(began.elapsed() < ideal * 13 / 10, "{:?}, ideal {ideal:?}", began.elapsed());
        assert!((7..=8).contains(&most.load(SeqCst)));
        let held = places.held.lock();
        assert_eq!((held.taken, held.weights, held.waiting.len()), (0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_alone_has_all_and_of_two_none_does() {
        let places = Arc::new(Places::new(8, Arc::default(), Arc::default()));
        let a = bay(&places, "a");
        let enter = async |bay: &Arc<Bay>| {
            let enter = bay.enter(|| Timestamp(0));
            tokio::time::timeout(Duration::from_secs(1), enter).await.ok().and_then(Result::ok)
        };
        let all: Vec<_> = join_all((0..9).map(|_| enter(&a))).await;
        assert_eq!(all.iter().flatten().count(), 8);
        drop(all);
        let b = bay(&places, "b");
        let all: Vec<_> = join_all((0..9).map(|_| enter(&a))).await;
        assert_eq!(all.iter().flatten().count(), 7);
        assert!(enter(&b).await.is_some());
    }
}
