//! A run over partitions: several at once, each with its own cursor, and a place to go on from.
//!
//! What this file promises: a partition that fails leaves its cursor where it is and stops no other;
//! the run says how many failed, and which first. Where everything fails, because the API is down or
//! refuses the credentials, the run ends instead and goes on there later. A restart goes on near the
//! last partition that was done, and memory holds what is in flight, however many partitions there are.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use parking_lot::Mutex;

use crate::{plan::PollPlan, world::Timestamp};

use super::{
    PollFailure, PollReport, Poller,
    answer::MAX_WAIT_IN_RUN,
    group::{Next, Unit, Units},
    journey::{Journey, journey_key},
    parents::Seen,
    run::failed,
};

/// So many partitions in a row that are refused or get no answer mean that the source is meant.
const STRIKES: usize = 3;
/// A place to go on from is stored after so many partitions,
const PARTITIONS_A_PLACE: u64 = 256;
/// or after so long.
const TIME_A_PLACE: Duration = Duration::from_secs(5);
/// How many failures of a run are logged one by one; the count tells of the rest.
const LOGGED_FAILURES: u64 = 20;

/// What came of a unit.
struct Ended {
    numbers: Vec<u64>,
    label: Arc<str>,
    failure: Option<PollFailure>,
    cursor: Option<String>,
}

/// What a run over partitions has done, whichever of them did it.
struct Total<'a> {
    report: Mutex<PollReport>,
    progress: &'a (dyn Fn(&PollReport) + Send + Sync),
}

impl Total<'_> {
    /// Adds what one of them did since this was last called for it.
    fn count(&self, so_far: &PollReport, counted: &mut PollReport) {
        let mut report = self.report.lock();
        report.add(&so_far.since(counted));
        *counted = so_far.clone();
        (self.progress)(&report);
    }
}

/// A run over partitions in progress.
struct FanOut<'a> {
    poller: &'a Poller,
    journey: Journey,
    /// Those that began, in order.
    trail: Trail,
    /// Failures in a row that may mean the source.
    strikes: Vec<Ended>,
    succeeded: bool,
    /// Of this process: the stored counts may be of a run before.
    failed: u64,
    stored_at: (u64, Timestamp),
}

impl Poller {
    /// One run over all partitions. Whether it read everything from the first on.
    pub(super) async fn fan_out(
        &self,
        poll: &PollPlan,
        seen: Option<&Seen>,
        report: &mut PollReport,
        progress: &(dyn Fn(&PollReport) + Send + Sync),
    ) -> Result<bool, PollFailure> {
        let now = self.world.clock.now();
        let journey = self.journey().unwrap_or_default().set_out(over(poll), now);
        let from_the_first = !journey.is_under_way();
        let mut units = Units::new(self, poll, journey.after.clone())?;
        let mut run = FanOut {
            poller: self,
            stored_at: (journey.partitions, now),
            journey,
            trail: Trail::default(),
            strikes: Vec::new(),
            succeeded: false,
            failed: 0,
        };
        let total = Total { report: Mutex::new(report.clone()), progress };
        let ended = self.read_units(poll, seen, &total, &mut units, &mut run).await;
        *report = total.report.into_inner();
        ended?;
        if let Some(plan) = &poll.job {
            self.forget_jobs(plan, now).await?;
        }
        run.arrive(units.unchanged(), report).await.map(|()| from_the_first)
    }

    async fn read_units(
        &self,
        poll: &PollPlan,
        seen: Option<&Seen>,
        total: &Total<'_>,
        units: &mut Units<'_>,
        run: &mut FanOut<'_>,
    ) -> Result<(), PollFailure> {
        let mut flying = FuturesUnordered::new();
        loop {
            let mut is_later = false;
            while flying.len() < poll.concurrency.max(1) {
                let next = units.next(&mut run.trail);
                is_later = matches!(next, Next::Later);
                let Next::Unit(unit) = next else { break };
                flying.push(self.unit(poll, unit, seen, total));
            }
            let ended = tokio::select! {
                biased;
                Some(ended) = flying.next() => ended,
                // However many there are that nothing is to be asked for, others may run.
                () = tokio::task::yield_now(), if is_later => continue,
                else => return Ok(()),
            };
            if let Err(failure) = run.ended(ended) {
                run.store_place(true).await?;
                return Err(failure);
            }
            run.store_place(false).await?;
        }
    }

    /// Reads a unit to its end. What it does is counted as it becomes durable.
    async fn unit(
        &self,
        poll: &PollPlan,
        unit: Unit,
        seen: Option<&Seen>,
        total: &Total<'_>,
    ) -> Ended {
        let Unit { part, numbers } = unit;
        let (mut report, counted) = (PollReport::default(), Mutex::default());
        let label = Arc::clone(&part.label);
        let count = |so_far: &PollReport| total.count(so_far, &mut counted.lock());
        let ended = Box::pin(self.run_part(poll, part, seen, &mut report, &count)).await;
        report.partitions = numbers.len() as u64;
        count(&report);
        let (cursor, failure) = match ended {
            Ok(cursor) => (cursor, None),
            Err(failure) => (None, Some(failure)),
        };
        Ended { numbers, label, failure, cursor }
    }

    /// How far the last run over partitions came.
    pub fn journey(&self) -> Option<Journey> {
        let key = journey_key(&self.connector.name, &self.stream.name);
        Journey::decode(&self.bus.state(&key)?)
    }

    pub(super) async fn store_journey(&self, journey: &Journey) -> Result<(), PollFailure> {
        let key = journey_key(&self.connector.name, &self.stream.name);
        let stored = self.bus.put_state(&key, Some(journey.encode())).await;
        stored.map_err(|error| PollFailure::Later { message: error.0, retry_after: None })
    }
}

/// What a run is over.
fn over(poll: &PollPlan) -> String {
    let names: Vec<&str> = poll.each.iter().map(|each| &*each.name).collect();
    names.join("/")
}

impl FanOut<'_> {
    /// Takes note of how a unit ended. Errors: the run ends here.
    fn ended(&mut self, ended: Ended) -> Result<(), PollFailure> {
        let Some(failure) = &ended.failure else {
            self.succeeded = true;
            for strike in std::mem::take(&mut self.strikes) {
                self.settle(&strike);
            }
            self.settle(&ended);
            return Ok(());
        };
        let failure = failure.clone();
        self.log(&ended, &failure);
        match &failure {
            PollFailure::Failed(_) => self.settle(&ended),
            PollFailure::Later { retry_after: Some(wait), .. } if *wait > MAX_WAIT_IN_RUN => {
                return Err(failure);
            }
            PollFailure::Later { .. } | PollFailure::Held(_) => {
                self.strikes.push(ended);
                if self.strikes.len() >= STRIKES {
                    return Err(failure);
                }
            }
        }
        Ok(())
    }

    fn log(&self, ended: &Ended, failure: &PollFailure) {
        let (connector, stream) = (&self.poller.connector.name, &self.poller.stream.name);
        let (partition, error) = (&ended.label, failure.message());
        if self.failed < LOGGED_FAILURES {
            tracing::warn!(%connector, %stream, %partition, "a partition failed: {error}");
        } else {
            tracing::debug!(%connector, %stream, %partition, "a partition failed: {error}");
        }
    }

    /// Counts a unit whose end is known.
    fn settle(&mut self, ended: &Ended) {
        let journey = &mut self.journey;
        let count = ended.numbers.len() as u64;
        journey.partitions += count;
        if let Some(failure) = &ended.failure {
            self.failed += count;
            journey.failing += count;
            let first = || (ended.label.to_string(), failure.message().to_owned());
            journey.first_failure.get_or_insert_with(first);
        }
        if let Some(cursor) = &ended.cursor
            && journey.oldest.as_ref().is_none_or(|(_, oldest)| cursor < oldest)
        {
            journey.oldest = Some((ended.label.to_string(), cursor.clone()));
        }
        for number in &ended.numbers {
            self.trail.done(*number);
        }
    }

    /// Stores where to go on, now and then, and where the run ends before its end.
    async fn store_place(&mut self, is_over: bool) -> Result<(), PollFailure> {
        let now = self.poller.world.clock.now();
        let (partitions, at) = self.stored_at;
        let moved = self.journey.partitions > partitions;
        let due = self.journey.partitions >= partitions + PARTITIONS_A_PLACE
            || (moved && (is_over || now.since(at) >= TIME_A_PLACE));
        let Some(place) = self.trail.place().filter(|_| due) else { return Ok(()) };
        self.journey.after = Some(place.clone());
        self.stored_at = (self.journey.partitions, now);
        self.poller.store_journey(&self.journey).await
    }

    /// The end of the run: what it did is stored, and said where something failed.
    async fn arrive(mut self, unchanged: u64, report: &mut PollReport) -> Result<(), PollFailure> {
        // Nothing got through: that is about the source, and the run goes on where it was.
        if let (false, Some(strike)) = (self.succeeded, self.strikes.last())
            && let Some(failure) = strike.failure.clone().filter(|_| self.failed == 0)
        {
            return Err(failure);
        }
        for strike in std::mem::take(&mut self.strikes) {
            self.settle(&strike);
        }
        self.journey.partitions += unchanged;
        self.journey.after = None;
        self.journey.finished = Some(self.poller.world.clock.now());
        report.partitions = self.journey.partitions;
        report.failing = self.journey.failing;
        self.poller.store_journey(&self.journey).await?;
        let Journey { partitions, failing, first_failure, .. } = &self.journey;
        match first_failure {
            None => Ok(()),
            Some((label, message)) => Err(failed(format!(
                "{failing} of {partitions} partitions failed; the first, `{label}`: {message}"
            ))),
        }
    }
}

/// The partitions that began and are not all done, in order.
#[derive(Default)]
pub(super) struct Trail {
    /// The number of the first.
    first: u64,
    open: VecDeque<(Vec<String>, bool)>,
    place: Option<Vec<String>>,
}

impl Trail {
    /// A partition begins. Its number.
    pub fn begin(&mut self, position: Vec<String>) -> u64 {
        self.open.push_back((position, false));
        self.first + self.open.len() as u64 - 1
    }

    /// It is done.
    pub fn done(&mut self, number: u64) {
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        if let Some((_, done)) = index.and_then(|index| self.open.get_mut(index)) {
            *done = true;
        }
        while let Some((position, _)) = self.open.pop_front_if(|(_, done)| *done) {
            self.first += 1;
            self.place = Some(position);
        }
    }

    /// How far behind the newest a number is.
    pub fn age(&self, number: u64) -> u64 {
        self.first + self.open.len() as u64 - number
    }

    /// The last of those that are done with all before them.
    fn place(&self) -> Option<&Vec<String>> {
        self.place.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_behind_the_last_gapless_partition() {
        let mut trail = Trail::default();
        let numbers: Vec<u64> = ["a", "b", "c"].map(|id| trail.begin(vec![id.to_owned()])).to_vec();
        assert_eq!((numbers.as_slice(), trail.age(0)), (&[0, 1, 2][..], 3));
        trail.done(1);
        assert_eq!(trail.place(), None);
        trail.done(0);
        assert_eq!(trail.place(), Some(&vec!["b".to_owned()]));
        let later = trail.begin(vec!["d".to_owned()]);
        trail.done(later);
        trail.done(2);
        assert_eq!(trail.place(), Some(&vec!["d".to_owned()]));
    }
}
