//! A canary at work: which events it has, how it does beside its original, and what happens when it
//! does worse.
//!
//! A halt is seen by every lane at once (one atomic flag), then made durable, then what the canary
//! buried is redelivered through the original. A crash in between repeats the rest: before the halt is
//! durable the canary runs again and is judged again; after it, the letters that are left are found by
//! the name in them.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst,
        },
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    super::{
        Shared,
        destination::DestinationRuntime,
        replay::{self, Stays},
    },
    judge::{Cause, Counts, Ended, Side, Window, judge},
    ledger::{self, Entry, Halt, Ledger, Write, hex},
    share,
};
use crate::{
    bus::{DeadId, StoreError},
    event::Event,
    map::Env,
    plan::{ConnectorPlan, DestinationPlan, HaltPlan, Share, SloPlan, StreamPlan},
    world::Timestamp,
};

/// How long the keeper waits where the bus refuses.
const PAUSE: Duration = Duration::from_secs(5);

/// See the module's text.
pub struct Canary {
    pub plan: Arc<ConnectorPlan>,
    pub of: Arc<str>,
    /// Its own destinations, so that limits and failures are its own.
    destinations: Box<[Arc<DestinationRuntime>]>,
    env: Env,
    share: AtomicU16,
    is_halted: AtomicBool,
    trial: Mutex<Trial>,
    /// Letters of a halt that is over may be left.
    owes: AtomicBool,
    /// Events that it has at present.
    in_hand: AtomicUsize,
    /// Something for the keeper to do.
    changed: Notify,
    /// Attempts since it was started: its own, then its original's; well, then failed.
    totals: [[AtomicU64; 2]; 2],
}

struct Trial {
    window: Window,
    /// What the connector promises: the canary's own, or its original's.
    slo: Option<SloPlan>,
    /// A halt that is not durable yet.
    cause: Option<(Timestamp, Cause)>,
}

/// Whose events the canary has in hand, until this is dropped.
pub struct InHand {
    pub canary: Arc<Canary>,
    pub stream: Arc<StreamPlan>,
    /// `None`: the original's, since both write one file.
    pub destination: Option<Arc<DestinationRuntime>>,
}

impl Drop for InHand {
    fn drop(&mut self) {
        let before = self.canary.in_hand.fetch_sub(1, SeqCst);
        if before == 1 && self.canary.is_halted() {
            self.canary.changed.notify_one();
        }
    }
}

impl Canary {
    pub fn new(
        plan: &Arc<ConnectorPlan>,
        of: &Arc<str>,
        destinations: &[Arc<DestinationRuntime>],
        env: Env,
        ledger: &Ledger,
    ) -> Arc<Self> {
        let window = Window::new(plan.rollout.halt.within);
        Arc::new(Self {
            plan: Arc::clone(plan),
            of: Arc::clone(of),
            destinations: destinations.into(),
            env,
            share: AtomicU16::new(ledger.share(plan).0.parts()),
            // Known from the first moment: what runs before it is published must not take it for over.
            is_halted: AtomicBool::new(ledger.halt(plan).is_some()),
            trial: Mutex::new(Trial { window, slo: plan.slo.as_deref().cloned(), cause: None }),
            owes: AtomicBool::new(false),
            in_hand: AtomicUsize::new(0),
            changed: Notify::new(),
            totals: Default::default(),
        })
    }

    /// Takes what was decided: its share, and whether it is stopped.
    pub fn set(&self, share: Share, is_halted: bool, original_slo: Option<&SloPlan>) {
        self.share.store(share.parts(), Relaxed);
        {
            let mut trial = self.trial.lock();
            trial.slo = self.plan.slo.as_deref().or(original_slo).cloned();
            // A halt that is not durable yet stands all the same.
            if self.is_halted() && !is_halted && trial.cause.is_none() {
                trial.window.clear();
                self.is_halted.store(false, SeqCst);
            }
        }
        if is_halted && !self.is_halted.swap(true, SeqCst) {
            self.changed.notify_one();
        }
    }

    /// Lets it go on: somebody set a flag.
    pub fn lift(&self) {
        let mut trial = self.trial.lock();
        trial.cause = None;
        if self.is_halted.swap(false, SeqCst) {
            trial.window.clear();
            tracing::info!(connector = &*self.plan.name, of = &*self.of, "canary goes on");
        }
    }

    /// Whether it gets no events any more.
    pub fn is_halted(&self) -> bool {
        self.is_halted.load(SeqCst)
    }

    /// The share that it has while it is not stopped.
    pub fn share(&self) -> Share {
        Share::of_parts(self.share.load(Relaxed))
    }

    pub fn env(&self) -> &Env {
        &self.env
    }

    /// Both sides over the window.
    pub fn counts(&self, now: Timestamp) -> (Counts, Counts) {
        self.trial.lock().window.totals(now)
    }

    /// Attempts of a side since the start: well, failed.
    pub fn totals(&self, side: Side) -> (u64, u64) {
        let totals = &self.totals[side as usize];
        (totals[0].load(Relaxed), totals[1].load(Relaxed))
    }

    /// Its stream of that name, if it has that destination, too: what it does not have is not judged.
    pub fn matches(&self, stream: &str, destination: &str) -> Option<&Arc<StreamPlan>> {
        let stream = self.plan.streams.iter().find(|own| *own.name == *stream)?;
        stream.to.iter().any(|name| **name == *destination).then_some(stream)
    }

    /// Whether the next attempt of an event would be the canary's. Only looks.
    pub fn has(&self, event: &Event) -> bool {
        !self.is_halted() && share::takes(self.share(), &self.of, &event.key)
    }

    /// The event in the canary's hand, if it is the canary's.
    pub fn take(
        self: &Arc<Self>,
        event: &Event,
        stream: &Arc<StreamPlan>,
        original: &DestinationPlan,
    ) -> Option<InHand> {
        // What was stopped long ago is not to wake the keeper with each event that passes by.
        if self.is_halted() || !share::takes(self.share(), &self.of, &event.key) {
            return None;
        }
        // Counted first and looked at then: a halt waits for all that did not see it.
        self.in_hand.fetch_add(1, SeqCst);
        let mut destinations = self.destinations.iter();
        let own = destinations.find(|own| own.plan.name == original.name);
        let in_hand = InHand {
            canary: Arc::clone(self),
            stream: Arc::clone(stream),
            destination: own
                .filter(|own| !own.plan.kind.is_same_sink(&original.kind))
                .map(Arc::clone),
        };
        (!self.is_halted()).then_some(in_hand)
    }

    /// Counts an attempt of either side. Whether the canary is stopped now.
    pub fn count(&self, now: Timestamp, side: Side, ended: Ended) -> bool {
        let failed = !matches!(ended, Ended::Delivered(_));
        self.totals[side as usize][usize::from(failed)].fetch_add(1, Relaxed);
        let cause = {
            let mut trial = self.trial.lock();
            let Trial { window, slo, .. } = &mut *trial;
            window.count(now, side, ended, slo.as_ref());
            let totals = window.totals(now);
            judge(&self.plan.rollout.halt, slo.as_ref(), totals)
        };
        if let Some(cause) = cause {
            self.stop(now, cause);
        }
        self.is_halted()
    }

    /// Its breaker opened: stops it where it fails more than its original, however few attempts tell.
    pub fn tripped(&self, now: Timestamp) {
        let halt = HaltPlan { of: 1, ..self.plan.rollout.halt };
        let totals = self.trial.lock().window.totals(now);
        if judge(&halt, None, totals).is_some() {
            self.stop(now, Cause::Tripped);
        }
    }

    /// Stops it. From now on no lane gives it an event.
    pub fn stop(&self, now: Timestamp, cause: Cause) {
        if self.is_halted() {
            return;
        }
        let mut trial = self.trial.lock();
        if !self.is_halted.swap(true, SeqCst) {
            tracing::error!(
                connector = &*self.plan.name,
                of = &*self.of,
                share = %self.share(),
                problem = %cause,
                "canary halted; its keys go on through its original"
            );
            trial.cause = Some((now, cause));
            self.changed.notify_one();
        }
    }

    /// Makes halts durable and redelivers what the canary buried, until `stop`.
    pub async fn keep(self: Arc<Self>, shared: Arc<Shared>, stop: CancellationToken) {
        // A halt of an earlier content may have been cut off before all was redelivered.
        if Ledger::read(&*shared.bus).halts.contains_key(&*self.plan.name) {
            self.owes.store(true, SeqCst);
        }
        loop {
            let work = async {
                while let Err(error) = self.carry_out(&shared).await {
                    tracing::error!(connector = &*self.plan.name, %error,
                        "the halt of a canary is not carried out yet");
                    shared.world.clock.sleep_until(shared.world.clock.now().plus(PAUSE)).await;
                }
                self.changed.notified().await;
            };
            if stop.run_until_cancelled(work).await.is_none() {
                return;
            }
        }
    }

    async fn carry_out(&self, shared: &Shared) -> Result<(), StoreError> {
        if !self.is_halted() {
            if self.owes.load(SeqCst) {
                self.redeliver(shared).await?;
                let _one_at_a_time = shared.rollouts.writing.lock().await;
                let done = [Write::Halt(&self.plan.name, None)];
                if !self.is_halted() {
                    ledger::write(&*shared.bus, &done, &[]).await?;
                }
                self.owes.store(false, SeqCst);
            }
            return Ok(());
        }
        {
            // First of all: who lifts the halt meanwhile holds it, and must not be overruled.
            let _one_at_a_time = shared.rollouts.writing.lock().await;
            self.keep_halt(shared).await?;
        }
        self.redeliver(shared).await
    }

    /// Makes a halt durable that is not; `writing` is held.
    async fn keep_halt(&self, shared: &Shared) -> Result<(), StoreError> {
        let pending = self.trial.lock().cause.clone();
        if let Some((at, cause)) = pending {
            let name = &*self.plan.name;
            let halt = Halt { at, why: cause.to_string(), content: hex(self.plan.content) };
            let entry = Entry {
                at,
                by: "tenon".to_owned(),
                connector: name.to_owned(),
                what: "halt".to_owned(),
                from: Some(self.share().to_string()),
                to: Some("halted".to_owned()),
                why: Some(halt.why.clone()),
            };
            ledger::write(&*shared.bus, &[Write::Halt(name, Some(halt))], &[entry]).await?;
            self.trial.lock().cause = None;
        }
        Ok(())
    }

    /// What it buried goes through the original; a letter that cannot, stays. Letters that come while attempts of its are in hand
    /// are seen to when the last of them has ended.
    async fn redeliver(&self, shared: &Shared) -> Result<(), StoreError> {
        let letters = shared.bus.dead_letters().into_iter();
        let own: Vec<DeadId> = letters
            .filter(|letter| {
                letter.lane.connector == self.of
                    && letter.variant.as_deref() == Some(&*self.plan.name)
            })
            .map(|letter| letter.id)
            .collect();
        let (connector, of) = (&*self.plan.name, &*self.of);
        let (mut events, mut left) = (0_usize, 0_usize);
        for id in own {
            match replay::replay_letter(shared, id).await {
                Ok(redelivered) => events += usize::from(redelivered.is_some()),
                Err(Stays::Bus(error)) => return Err(error),
                // It will be no better next time, and is not to keep the others waiting.
                Err(Stays::Letter(problem)) => {
                    left += 1;
                    tracing::error!(connector, of, letter = %id, problem,
                        "what the canary buried cannot be redelivered; it stays in the dead letters");
                }
            }
        }
        if events + left > 0 {
            tracing::info!(connector, of, events, left, "redelivered through the original");
        }
        Ok(())
    }
}
