//! Whether webhooks are missing: the poll finds events, and no webhook comes.
//!
//! Silence by itself is no alert, since nothing may have happened. It counts from the first event that a
//! poll found after the last webhook; a webhook that comes late, or for something else, ends it. What
//! was found over a time in which nobody listened (the first run, the one after an outage) proves
//! nothing, and the time of an outage is not counted.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    bus::Bus,
    ingest::poll::next_run,
    observe::{Ears, StreamMetrics},
    plan::{SchedulePlan, ScheduleWhen, SilencePlan},
    world::{Timestamp, World},
};

/// What is known of a stream's webhooks, stored as JSON under `webhooks/<connector>/<stream>`. Fields
/// are only ever added, with defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// When the last one was accepted; coarsely.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
    /// When a poll first found an event that none had brought since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed_since: Option<Timestamp>,
    /// How many polls found since.
    #[serde(default)]
    pub missed: u64,
    /// Whether it was said that they are missing.
    #[serde(default)]
    pub alerted: bool,
    /// Until when the daemon listened meanwhile; coarsely.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listened: Option<Timestamp>,
}

/// What there is to conclude from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hearing {
    /// Nothing is missing.
    Fine,
    /// Something is missing, which is an alert from then on.
    Doubtful(Timestamp),
    /// Webhooks are missing.
    Silent,
}

/// Whether webhooks are missing at `now`.
pub fn hearing(plan: SilencePlan, heard: &Heard, now: Timestamp) -> Hearing {
    match heard.missed_since.map(|since| since.plus(plan.after)) {
        None => Hearing::Fine,
        Some(alert) if now < alert => Hearing::Doubtful(alert),
        Some(_) => Hearing::Silent,
    }
}

/// When the next poll is due: as the schedule says, or sooner while webhooks are missing. The other
/// arguments are those of [`next_run`].
pub fn next_poll(
    schedule: &SchedulePlan,
    faster: Option<Duration>,
    last: Option<Timestamp>,
    now: Timestamp,
    fraction: f64,
) -> Timestamp {
    let ordinary = next_run(schedule, last, now, fraction);
    let Some(faster) = faster else { return ordinary };
    let faster = SchedulePlan { when: ScheduleWhen::Every(faster), jitter: schedule.jitter };
    ordinary.min(next_run(&faster, last, now, fraction))
}

impl Heard {
    /// The same after the daemon was away until `now`: what it could not hear does not count.
    fn woken(mut self, now: Timestamp) -> Self {
        if let (Some(since), Some(listened)) = (self.missed_since, self.listened) {
            self.missed_since = Some(since.plus(now.since(listened)));
        }
        self.listened = None;
        self
    }

    /// The same once webhooks were heard until `last`.
    fn after_webhook(mut self, last: Option<Timestamp>) -> Self {
        if last >= self.missed_since && last.is_some() {
            self.missed_since = None;
            self.missed = 0;
        }
        self.last = last.max(self.last);
        self
    }
}

/// How long what is stored may lag behind what is known.
fn coarse(plan: SilencePlan) -> Duration {
    (plan.after / 12).clamp(Duration::from_mins(1), Duration::from_mins(15))
}

/// Watches over the webhooks of one stream.
pub struct Silence {
    connector: Arc<str>,
    stream: Arc<str>,
    plan: SilencePlan,
    bus: Arc<dyn Bus>,
    world: World,
    metrics: Arc<StreamMetrics>,
    heard: Mutex<Heard>,
    /// Runs that began before say nothing.
    listens_since: Timestamp,
    found: Notify,
    silent: watch::Sender<bool>,
}

impl Silence {
    /// From where it was left off.
    pub fn new(
        (connector, stream): (&Arc<str>, &Arc<str>),
        plan: SilencePlan,
        bus: &Arc<dyn Bus>,
        world: &World,
        metrics: &Arc<StreamMetrics>,
    ) -> Self {
        let now = world.clock.now();
        let stored = bus.state(&key(connector, stream));
        let stored = stored.and_then(|bytes| serde_json::from_slice::<Heard>(&bytes).ok());
        let heard = stored.unwrap_or_default().woken(now);
        if let Some(last) = heard.last {
            metrics.ears.hear(last);
        }
        let silent = hearing(plan, &heard, now) == Hearing::Silent;
        Self {
            connector: Arc::clone(connector),
            stream: Arc::clone(stream),
            plan,
            bus: Arc::clone(bus),
            world: world.clone(),
            metrics: Arc::clone(metrics),
            heard: Mutex::new(heard),
            listens_since: now,
            found: Notify::new(),
            silent: watch::Sender::new(silent),
        }
    }

    /// How often is polled now, where that is more often than the schedule says.
    pub fn faster(&self) -> Option<Duration> {
        self.plan.faster.filter(|_| *self.silent.borrow())
    }

    /// Says when webhooks go missing, and when they are back.
    pub fn turns(&self) -> watch::Receiver<bool> {
        self.silent.subscribe()
    }

    /// What is known.
    pub fn heard(&self) -> Heard {
        let heard = self.heard.lock().clone();
        heard.after_webhook(self.metrics.ears.last())
    }

    /// Whether webhooks are missing.
    pub fn is_silent(&self) -> bool {
        *self.silent.borrow()
    }

    /// A poll found `count` events that no webhook had brought, where the run before it began then.
    pub fn found(&self, count: u64, before: Option<Timestamp>) {
        if count == 0 || before.is_none_or(|before| before < self.listens_since) {
            return;
        }
        let now = self.world.clock.now();
        {
            let mut heard = self.heard.lock();
            heard.missed_since.get_or_insert(now);
            heard.missed += count;
        }
        self.found.notify_one();
    }

    /// Watches until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut stored = self.heard.lock().clone();
        let _watched = Watched::over(&self.metrics.ears);
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.forever(&mut stored) => {}
        }
        // What was listened to until now is not to be counted as an outage.
        let now = self.world.clock.now();
        self.store(&mut stored, now, Duration::ZERO).await;
    }

    async fn forever(&self, stored: &mut Heard) {
        let ears = &self.metrics.ears;
        loop {
            ears.listen();
            let now = self.world.clock.now();
            let due = self.conclude(now);
            self.store(stored, now, coarse(self.plan)).await;
            let again = now.plus(coarse(self.plan));
            let wake = due.map_or(again, |due| due.min(again));
            tokio::select! {
                () = ears.heard() => {}
                () = self.found.notified() => {}
                () = self.world.clock.sleep_until(wake) => {}
            }
        }
    }

    /// Takes in what was heard and says what has changed. When to look again, where time alone can
    /// change something.
    fn conclude(&self, now: Timestamp) -> Option<Timestamp> {
        let mut heard = self.heard.lock();
        let before = heard.clone();
        *heard = before.clone().after_webhook(self.metrics.ears.last());
        let conclusion = hearing(self.plan, &heard, now);
        let is_silent = conclusion == Hearing::Silent;
        if is_silent != heard.alerted {
            heard.alerted = is_silent;
            self.say(is_silent, if is_silent { &heard } else { &before }, now);
        }
        self.metrics.ears.show(is_silent, heard.missed);
        self.silent.send_if_modified(|silent| std::mem::replace(silent, is_silent) != is_silent);
        match conclusion {
            Hearing::Doubtful(alert) => Some(alert),
            Hearing::Fine | Hearing::Silent => None,
        }
    }

    fn say(&self, is_silent: bool, heard: &Heard, now: Timestamp) {
        let (connector, stream, missed) = (&*self.connector, &*self.stream, heard.missed);
        let last = heard.last.map(Timestamp::rfc3339);
        let last_webhook = last.as_deref().unwrap_or("never");
        let since = heard.missed_since.map(|since| now.since(since).as_secs());
        let silent_seconds = since.unwrap_or_default();
        if is_silent {
            tracing::error!(
                connector,
                stream,
                missed,
                last_webhook,
                silent_seconds,
                "webhooks are missing: polls found events, and none came"
            );
        } else {
            tracing::info!(connector, stream, missed, silent_seconds, "webhooks are back");
        }
    }

    /// Makes durable what has changed, or what has lagged behind for long enough.
    async fn store(&self, stored: &mut Heard, now: Timestamp, lag: Duration) {
        let mut heard = self.heard();
        let listened = heard.missed_since.map(|_| now);
        let is_late = |then: Option<Timestamp>, now: Option<Timestamp>| match (then, now) {
            (Some(then), Some(now)) => now.since(then) > lag,
            (then, now) => then != now,
        };
        let turned = heard.alerted != stored.alerted || heard.missed != stored.missed;
        if !turned && !is_late(stored.last, heard.last) && !is_late(stored.listened, listened) {
            return;
        }
        heard.listened = listened;
        let bytes = serde_json::to_vec(&heard).unwrap_or_default();
        let (connector, stream) = (&*self.connector, &*self.stream);
        match self.bus.put_state(&key(connector, stream), Some(bytes)).await {
            Ok(()) => *stored = heard,
            Err(error) => {
                tracing::warn!(connector, stream, %error, "what is heard of webhooks is not durable");
            }
        }
    }
}

/// While it lives, silence shows.
struct Watched<'e>(&'e Ears);

impl<'e> Watched<'e> {
    fn over(ears: &'e Ears) -> Self {
        ears.watch(true);
        Self(ears)
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.0.watch(false);
    }
}

fn key(connector: &str, stream: &str) -> String {
    format!("webhooks/{connector}/{stream}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Jitter;

    const HOUR: Duration = Duration::from_hours(1);
    const PLAN: SilencePlan =
        SilencePlan { after: Duration::from_hours(3), faster: Some(Duration::from_mins(5)) };

    /// So many minutes after a beginning.
    fn at(minutes: u64) -> Timestamp {
        Timestamp(1_795_341_600_000).plus(Duration::from_secs(60 * minutes))
    }

    fn heard(last: Option<u64>, missed_since: Option<u64>) -> Heard {
        let missed = missed_since.map_or(0, |_| 40);
        Heard { last: last.map(at), missed_since: missed_since.map(at), missed, ..Heard::default() }
    }

    #[test]
    fn silence_is_an_alert_where_the_poll_finds_what_no_webhook_brings() {
        use Hearing::{Doubtful, Fine, Silent};
        for (what, last, missed_since, now, expected) in [
            ("nothing ever happened", None, None, 600, Fine),
            ("a quiet night", Some(0), None, 600, Fine),
            (
                "the first event after it, a second before its webhook",
                Some(0),
                Some(599),
                600,
                Doubtful(at(779)),
            ),
            ("two hours", Some(0), Some(10), 130, Doubtful(at(190))),
            ("three hours, to the minute", Some(0), Some(10), 190, Silent),
            ("long after", Some(0), Some(10), 900, Silent),
            ("no webhook was ever registered", None, Some(60), 240, Silent),
        ] {
            assert_eq!(hearing(PLAN, &heard(last, missed_since), at(now)), expected, "{what}");
        }
    }

    #[test]
    fn a_webhook_ends_it_and_an_older_one_does_not() {
        let missing = heard(Some(0), Some(10));
        assert_eq!(missing.clone().after_webhook(Some(at(0))), missing);
        assert_eq!(missing.clone().after_webhook(None), missing);
        assert_eq!(missing.after_webhook(Some(at(200))), heard(Some(200), None));
    }

    #[test]
    fn the_time_of_an_outage_does_not_count() {
        let listened = |minutes| Heard { listened: Some(at(minutes)), ..heard(Some(0), Some(10)) };
        // Down from 20 to 320: two hours and fifty minutes are left, as before.
        assert_eq!(listened(20).woken(at(320)), heard(Some(0), Some(310)));
        // Not down at all.
        assert_eq!(listened(20).woken(at(20)), heard(Some(0), Some(10)));
        assert_eq!(heard(Some(0), None).woken(at(900)), heard(Some(0), None));
    }

    #[test]
    fn what_is_missing_is_polled_for_more_often() {
        let every = |hours: u32| SchedulePlan {
            when: ScheduleWhen::Every(HOUR * hours),
            jitter: Jitter::Ratio(0.0),
        };
        let cron = |pattern: &str| SchedulePlan {
            when: ScheduleWhen::Cron { pattern: pattern.to_owned(), tz: "UTC".to_owned() },
            jitter: Jitter::Ratio(0.0),
        };
        // The beginning is 10:00 UTC.
        for (schedule, faster, now, expected) in [
            (every(1), None, 1, 60),
            (every(1), PLAN.faster, 1, 5),
            (every(1), PLAN.faster, 30, 30),
            (cron("30 10 * * *"), PLAN.faster, 1, 5),
            // A schedule that is faster than `faster` stays so.
            (cron("* * * * *"), PLAN.faster, 0, 1),
            (cron("30 10 * * *"), None, 1, 30),
        ] {
            let due = next_poll(&schedule, faster, Some(at(0)), at(now), 0.0);
            assert_eq!(due, at(expected), "{schedule:?} {faster:?} {now}");
        }
    }

    /// Lets a watch run for so long.
    async fn watched(silence: &Arc<Silence>, minutes: u64) {
        let stop = CancellationToken::new();
        let end = stop.clone();
        let time = tokio::time::sleep(Duration::from_secs(60 * minutes));
        let ending = async {
            time.await;
            end.cancel();
        };
        tokio::join!(Arc::clone(silence).run(stop), ending);
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_neither_alerts_falsely_nor_twice() {
        use crate::{
            bus::MemoryBus,
            world::{ScriptedClock, ScriptedEntropy, StaticSecrets},
        };
        let world = World {
            clock: Arc::new(ScriptedClock::starting_at(at(0))),
            entropy: Arc::new(ScriptedEntropy::seeded(1)),
            secrets: Arc::new(StaticSecrets::new([("", "")])),
        };
        let bus: Arc<dyn Bus> = MemoryBus::new(Arc::clone(&world.clock));
        let names = (&Arc::from("shop"), &Arc::from("orders"));
        // Each with counters of its own, as a process has.
        let begin = || {
            let metrics = Arc::<StreamMetrics>::default();
            let silence = Silence::new(names, PLAN, &bus, &world, &metrics);
            (Arc::new(silence), metrics)
        };
        let (first, metrics) = begin();
        metrics.ears.hear(world.clock.now());
        watched(&first, 60).await;
        first.found(40, None);
        assert_eq!(first.heard().missed, 0, "a first run proves nothing");
        first.found(3, Some(at(30)));
        watched(&first, 60).await;
        assert!(!first.is_silent());

        // Down for five hours, in which nobody could have been heard.
        tokio::time::sleep(HOUR * 5).await;
        let (second, _) = begin();
        second.found(9, Some(at(90)));
        assert_eq!(second.heard().missed, 3, "what was found over the outage proves nothing");
        assert_eq!(second.heard().last, Some(at(0)), "it is known when the last one came");
        watched(&second, 119).await;
        assert!(!second.is_silent(), "an hour before the outage and 119 minutes after it");
        watched(&second, 2).await;
        assert!(second.is_silent() && second.heard().alerted);
        assert_eq!(second.faster(), PLAN.faster);

        let (third, metrics) = begin();
        assert!(third.is_silent() && third.heard().alerted, "so it is not said again");
        metrics.ears.hear(world.clock.now());
        watched(&third, 1).await;
        assert_eq!((third.is_silent(), third.faster(), third.heard().missed), (false, None, 0));
        let (fourth, _) = begin();
        assert!(!fourth.is_silent() && !fourth.heard().alerted);
    }

    #[test]
    fn what_is_stored_is_read_back_and_fields_have_defaults() {
        let full = Heard { alerted: true, listened: Some(at(9)), ..heard(Some(1), Some(2)) };
        for one in [full, heard(None, None), heard(Some(5), None)] {
            let bytes = serde_json::to_vec(&one).unwrap();
            assert_eq!(serde_json::from_slice::<Heard>(&bytes).unwrap(), one);
        }
        assert_eq!(serde_json::from_str::<Heard>("{}").unwrap(), Heard::default());
    }
}
