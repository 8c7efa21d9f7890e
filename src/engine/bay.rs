//! What one tenant has of a destination: its breaker, how many attempts it may make at once, and until
//! when the destination asked to be left in peace. Another tenant's dead endpoint, or its storm, has a
//! bay of its own.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::places::Places;
use crate::{
    bus::Steer,
    deliver::{Adaptive, Admission, Breaker, Change, Sign, StoredBreaker},
    plan::BreakerPlan,
    world::Timestamp,
};

/// How long events wait while probes are under way.
const PATIENCE: Duration = Duration::from_secs(1);
/// An event that found no admission comes back after so long at most. Its lane holds it back for as long
/// as it takes, and can be told to let it go; what the bus was told of one event cannot be taken back.
const PUT_OFF: Duration = Duration::from_secs(30);

/// See the module's text.
pub struct Bay {
    /// Whose it is.
    pub tenant: Option<Arc<str>>,
    /// Its share beside other tenants.
    weight: u32,
    plan: Option<BreakerPlan>,
    inner: Mutex<Inner>,
    /// An attempt ended, or more may be made at once.
    room: Arc<Notify>,
    /// Those of the destination, shared with other tenants.
    places: Arc<Places>,
}

struct Inner {
    breaker: Breaker,
    adaptive: Adaptive,
    in_flight: usize,
    paused_until: Option<Timestamp>,
    /// How often its breaker closed.
    closings: u64,
}

/// An attempt that is under way; dropped without [`Bay::leave`] it told nothing.
pub struct Attempt {
    bay: Arc<Bay>,
    admission: Admission,
    began: Timestamp,
    ended: bool,
}

/// What an attempt's end means for the bay.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// The breaker opened or closed.
    pub change: Option<Change>,
}

impl Bay {
    /// A bay with room for that many attempts, its breaker as it was stored.
    pub fn new(
        tenant: Option<Arc<str>>,
        weight: u32,
        plan: Option<BreakerPlan>,
        adaptive: Adaptive,
        stored: Option<StoredBreaker>,
        places: Arc<Places>,
    ) -> Self {
        let breaker =
            stored.filter(|_| plan.is_some()).map_or_else(Breaker::default, Breaker::restored);
        places.limits.fetch_add(adaptive.limit() as u64, Relaxed);
        places.breakers_open.fetch_add(u64::from(!breaker.is_closed()), Relaxed);
        places.joined();
        let inner = Inner { breaker, adaptive, in_flight: 0, paused_until: None, closings: 0 };
        Self { tenant, weight, plan, inner: Mutex::new(inner), room: Arc::default(), places }
    }

    /// Waits until one more attempt may be made, and begins it; `Err`: none may, before that time.
    pub async fn enter(
        self: &Arc<Self>,
        now: impl Fn() -> Timestamp,
    ) -> Result<Attempt, Timestamp> {
        self.places.let_others_first().await;
        let mut waits = None;
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            if let Some(entered) = self.try_enter(now()) {
                if waits.is_some() {
                    // Places that are free are told to one of a bay: there may be another for the next.
                    self.room.notify_one();
                }
                return entered;
            }
            waits.get_or_insert_with(|| self.places.wait());
            room.await;
        }
    }

    /// How long an event waits in the bus that was not admitted before `until`.
    pub fn put_off(until: Timestamp, now: Timestamp) -> Duration {
        until.since(now).min(PUT_OFF)
    }

    /// `None` where there is no room at present.
    fn try_enter(self: &Arc<Self>, now: Timestamp) -> Option<Result<Attempt, Timestamp>> {
        let mut inner = self.inner.lock();
        if let Some(until) = inner.paused_until.filter(|until| *until > now) {
            return Some(Err(until));
        }
        if let Some(until) = self.open_until(&inner, now) {
            return Some(Err(until));
        }
        if inner.in_flight >= inner.adaptive.limit() {
            return None;
        }
        let holds = inner.in_flight;
        if !self.places.take(self.tenant.as_ref(), self.weight, holds, &self.room) {
            return None;
        }
        let admission = match &self.plan {
            None => Admission::Go,
            Some(plan) => inner.breaker.admit(plan, now, PATIENCE),
        };
        if let Admission::Wait(until) = admission {
            self.places.give_back(self.weight, holds);
            return Some(Err(until));
        }
        inner.in_flight += 1;
        let in_flight = inner.in_flight;
        inner.adaptive.in_flight(in_flight);
        drop(inner);
        Some(Ok(Attempt { bay: Arc::clone(self), admission, began: now, ended: false }))
    }

    /// How the bus shall hand out its events.
    pub fn steer(&self, now: Timestamp) -> Steer {
        let inner = self.inner.lock();
        let paused = inner.paused_until.filter(|until| *until > now);
        let most = match (&self.plan, inner.breaker.word()) {
            (Some(plan), "open" | "half_open") => plan.probes as usize,
            _ => inner.adaptive.limit(),
        };
        // Lanes that have none of the probes would try one event after the other in vain.
        let probing = self.plan.as_ref().filter(|plan| inner.breaker.is_probing(plan));
        let probing = probing.map(|_| now.plus(PATIENCE));
        let not_before = self.open_until(&inner, now).max(paused).max(probing);
        Steer { not_before, most, weight: self.weight }
    }

    /// Whether it has nothing that another in its place would not have.
    pub fn is_plain(&self, now: Timestamp) -> bool {
        let inner = self.inner.lock();
        inner.in_flight == 0
            && inner.breaker.is_closed()
            && inner.paused_until.is_none_or(|until| until <= now)
    }

    /// How often its breaker closed: what waits because the destination was down need not any longer.
    pub fn closings(&self) -> u64 {
        self.inner.lock().closings
    }

    /// Attempts at once, at present.
    pub fn limit(&self) -> usize {
        self.inner.lock().adaptive.limit()
    }

    /// What its breaker is: `closed`, `open` or `half_open`, and until when it is open.
    pub fn breaker(&self, now: Timestamp) -> (&'static str, Option<Timestamp>) {
        let inner = self.inner.lock();
        (inner.breaker.word(), self.open_until(&inner, now))
    }

    fn open_until(&self, inner: &Inner, now: Timestamp) -> Option<Timestamp> {
        inner.breaker.open_until(self.plan.as_ref()?, now)
    }

    /// What has to be stored of its breaker.
    pub fn stored(&self) -> Option<StoredBreaker> {
        self.inner.lock().breaker.stored()
    }

    /// Closes its breaker, because a person says that the destination is well. Whether it was not closed.
    pub fn reset(&self) -> bool {
        let mut inner = self.inner.lock();
        let was = !inner.breaker.is_closed();
        inner.breaker = Breaker::default();
        self.places.breakers_open.fetch_sub(u64::from(was), Relaxed);
        inner.closings += u64::from(was);
        inner.paused_until = None;
        drop(inner);
        self.room.notify_waiters();
        was
    }

    fn ended(&self, admission: Admission, took: Duration, end: End, now: Timestamp) -> Left {
        let mut inner = self.inner.lock();
        inner.in_flight -= 1;
        self.places.give_back(self.weight, inner.in_flight);
        let (before, was_closed) = (inner.adaptive.limit(), inner.breaker.is_closed());
        if let Some(until) = end.spent_until {
            inner.paused_until = inner.paused_until.max(Some(until));
        }
        if end.tells {
            inner.adaptive.ended(took, end.refused, now);
        }
        let plan = self.plan.as_ref();
        let change = plan.and_then(|plan| inner.breaker.saw(plan, admission, end.sign, now));
        inner.closings += u64::from(change == Some(Change::Closed));
        if change.is_some() {
            inner.adaptive.restart();
        }
        let (limit, is_closed) = (inner.adaptive.limit(), inner.breaker.is_closed());
        drop(inner);
        let opened = u64::from(was_closed).wrapping_sub(u64::from(is_closed));
        self.places.breakers_open.fetch_add(opened, Relaxed);
        self.places.limits.fetch_add((limit as u64).wrapping_sub(before as u64), Relaxed);
        if limit > before || change.is_some() {
            self.room.notify_waiters();
        } else {
            self.room.notify_one();
        }
        Left { change }
    }
}

impl Drop for Bay {
    fn drop(&mut self) {
        let inner = self.inner.lock();
        self.places.limits.fetch_sub(inner.adaptive.limit() as u64, Relaxed);
        self.places.breakers_open.fetch_sub(u64::from(!inner.breaker.is_closed()), Relaxed);
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// What it says about the destination.
    pub sign: Sign,
    /// Whether somebody was asked, so that the time tells something.
    pub tells: bool,
    /// It did not answer, or had too much to do.
    pub refused: bool,
    /// Until when it wants to be left in peace.
    pub spent_until: Option<Timestamp>,
}

impl Attempt {
    /// Ends the attempt and takes in what it told.
    pub fn leave(mut self, end: End, now: Timestamp) -> Left {
        self.ended = true;
        self.bay.ended(self.admission, now.since(self.began), end, now)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.ended {
            let end = End { sign: Sign::Nothing, tells: false, refused: false, spent_until: None };
            self.bay.ended(self.admission, Duration::ZERO, end, self.began);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        rc::Rc,
    };

    use futures_util::FutureExt as _;
    use proptest::prelude::*;
    use tokio::task::{JoinHandle, LocalSet};

    use super::*;

    const PLAN: BreakerPlan = BreakerPlan {
        failures: 0.5,
        of: 4,
        within: Duration::from_secs(10),
        open: Duration::from_secs(30),
        probes: 1,
    };

    fn places() -> Arc<Places> {
        Arc::new(Places::new(8, Arc::default(), Arc::default()))
    }

    #[test]
    fn while_the_probes_are_under_way_other_lanes_are_told_to_wait() {
        let stored = StoredBreaker { until: Timestamp(0), trips: 1 };
        let bay = Bay::new(None, 1, Some(PLAN), Adaptive::new(8), Some(stored), places());
        let (bay, now) = (Arc::new(bay), Timestamp(1_000));
        assert_eq!(bay.steer(now).not_before, None);
        let probe = bay.enter(|| now).now_or_never().unwrap().unwrap();
        assert_eq!(bay.steer(now).not_before, Some(now.plus(PATIENCE)));
        assert!(!bay.is_plain(now));
        let end = End { sign: Sign::Alive, tells: true, refused: false, spent_until: None };
        assert_eq!(probe.leave(end, now).change, Some(Change::Closed));
        assert_eq!(bay.steer(now).not_before, None);
        assert!(bay.is_plain(now));
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_keep_it_shut() {
        let stored = StoredBreaker { until: Timestamp(10_000_000), trips: 1 };
        let bay = Bay::new(None, 1, Some(PLAN), Adaptive::new(8), Some(stored), places());
        let bay = Arc::new(bay);
        assert!(bay.enter(|| Timestamp(9_990_000)).now_or_never().unwrap().is_err());
        assert!(bay.enter(|| Timestamp(0)).now_or_never().unwrap().is_ok());
    }

    #[test]
    fn what_is_left_in_peace_for_long_comes_back_sooner() {
        let now = Timestamp(1_000);
        assert_eq!(Bay::put_off(now.plus(PATIENCE), now), PATIENCE);
        assert_eq!(Bay::put_off(now.plus(Duration::from_hours(1)), now), PUT_OFF);
    }

    #[derive(Clone, Debug)]
    enum Op {
        Enter { tenant: usize },
        Leave { which: usize, sign: Sign, refused: bool, asks_for_peace: bool },
        Vanish { which: usize },
        GiveUp { which: usize },
        Reset { tenant: usize },
        Pass { ms: i64 },
        Run,
    }

    fn op() -> impl Strategy<Value = Op> {
        let sign = prop_oneof![Just(Sign::Alive), Just(Sign::Failing), Just(Sign::Nothing)];
        let leave = (0..99_usize, sign, any::<bool>(), prop::bool::weighted(0.1));
        prop_oneof![
            8 => (0..99_usize).prop_map(|tenant| Op::Enter { tenant }),
            6 => leave.prop_map(|(which, sign, refused, asks_for_peace)| {
                Op::Leave { which, sign, refused, asks_for_peace }
            }),
            1 => (0..99_usize).prop_map(|which| Op::Vanish { which }),
            1 => (0..99_usize).prop_map(|which| Op::GiveUp { which }),
            1 => (0..99_usize).prop_map(|tenant| Op::Reset { tenant }),
            1 => (0..40_000_i64).prop_map(|ms| Op::Pass { ms }),
            9 => Just(Op::Run),
        ]
    }

    /// Attempts of several tenants that wait, are under way, and end in one way or another.
    struct Crowd {
        places: Arc<Places>,
        bays: Vec<Arc<Bay>>,
        now: Rc<Cell<Timestamp>>,
        waiting: Vec<(usize, JoinHandle<()>)>,
        entered: Rc<RefCell<Vec<Attempt>>>,
    }

    impl Crowd {
        fn new(all: usize, tenants: usize, adaptive: &Adaptive) -> Self {
            let places = Arc::new(Places::new(all, Arc::default(), Arc::default()));
            let bay = |tenant: usize| {
                let (name, places) = (Some(tenant.to_string().into()), Arc::clone(&places));
                let weight = 1 + tenant as u32;
                Arc::new(Bay::new(name, weight, Some(PLAN), adaptive.clone(), None, places))
            };
            let bays = (0..tenants).map(bay).collect();
            let now = Rc::new(Cell::new(Timestamp(1_000)));
            Self { places, bays, now, waiting: Vec::new(), entered: Rc::default() }
        }

        /// One of those under way, if any is.
        fn pick(&self, which: usize) -> Option<Attempt> {
            let mut entered = self.entered.borrow_mut();
            let which = which.checked_rem(entered.len())?;
            Some(entered.swap_remove(which))
        }

        async fn apply(&mut self, op: Op) {
            let (tenants, now) = (self.bays.len(), self.now.get());
            match op {
                Op::Enter { tenant } => {
                    let tenant = tenant % tenants;
                    let (now, entered) = (Rc::clone(&self.now), Rc::clone(&self.entered));
                    let bay = Arc::clone(&self.bays[tenant]);
                    let enter = async move {
                        let attempt = bay.enter(|| now.get()).await;
                        entered.borrow_mut().extend(attempt);
                    };
                    self.waiting.push((tenant, tokio::task::spawn_local(enter)));
                }
                Op::Leave { which, sign, refused, asks_for_peace } => {
                    let spent_until = asks_for_peace.then(|| now.plus(PATIENCE));
                    let end = End { sign, tells: true, refused, spent_until };
                    self.pick(which).map(|attempt| attempt.leave(end, now));
                }
                Op::Vanish { which } => drop(self.pick(which)),
                Op::GiveUp { which } => {
                    if let Some(which) = which.checked_rem(self.waiting.len()) {
                        self.waiting.swap_remove(which).1.abort();
                    }
                }
                Op::Reset { tenant } => drop(self.bays[tenant % tenants].reset()),
                Op::Pass { ms } => self.now.set(Timestamp(now.0 + ms)),
                Op::Run => tokio::task::yield_now().await,
            }
        }

        /// Nobody waits any more for what there is, and nothing is held that nobody has.
        async fn check(mut self) {
            run().await;
            self.waiting.retain(|(_, task)| !task.is_finished());
            for (tenant, task) in self.waiting {
                let left = self.bays[tenant].try_enter(self.now.get());
                assert!(left.is_none(), "tenant {tenant} waits and may enter");
                task.abort();
            }
            run().await;
            self.entered.borrow_mut().clear();
            assert_eq!(self.places.held(), (0, 0));
        }
    }

    async fn run() {
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn nobody_waits_who_may_enter(
            all in 1..20_usize,
            tenants in 1..5_usize,
            is_fixed in any::<bool>(),
            ops in prop::collection::vec(op(), 1..120),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            LocalSet::new().block_on(&runtime, async {
                let adaptive = if is_fixed { Adaptive::fixed(all) } else { Adaptive::new(all) };
                let mut crowd = Crowd::new(all, tenants, &adaptive);
                for op in ops {
                    crowd.apply(op).await;
                }
                crowd.check().await;
            });
        }
    }
}
