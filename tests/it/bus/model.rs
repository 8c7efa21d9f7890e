//! The embedded bus against the memory bus as its model: random operations, with crashes between.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::FutureExt;
use proptest::prelude::*;
use tenon::{
    bus::{
        Accepted, Append, Bus, Claim, DeadLetter, Delivery, EmbeddedBus, LaneId, LaneOptions,
        MemoryBus, NewEvent, Seq, Settlement,
        conformance::{event, lane},
    },
    event::EventId,
    plan::{BusSettings, Order},
    world::{Clock, Timestamp},
};

use super::{clock, disk::SimDisk, open_with, settings};

/// Longer than any delay below, so that after it everything is due.
const LONG: Duration = Duration::from_mins(10);

#[derive(Clone, Debug)]
enum Op {
    /// Events: key, revision, bits of the destinations, whether claimed for ever; and a cursor.
    Append(Vec<(u8, u8, u8, bool)>, Option<u8>),
    /// Takes up to so many of a lane, and settles each in its way.
    Deliver(usize, usize, Vec<End>),
    State(u8, Option<u8>),
    Bury(u8),
    Discard(u64),
    Wait(u8),
    Reopen,
    Crash,
    Restart,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Delivered,
    Superseded,
    Dead,
    Retry(u8),
    Defer(u8),
    Keep,
}

fn op() -> impl Strategy<Value = Op> {
    let end = prop_oneof![
        4 => Just(End::Delivered),
        1 => Just(End::Superseded),
        1 => Just(End::Dead),
        2 => (1..60u8).prop_map(End::Retry),
        1 => (1..60u8).prop_map(End::Defer),
        1 => Just(End::Keep),
    ];
    let new = (0..6u8, 0..9u8, 0..4u8, prop::bool::weighted(0.2));
    prop_oneof![
        6 => (prop::collection::vec(new, 0..6), prop::option::of(any::<u8>()))
            .prop_map(|(events, cursor)| Op::Append(events, cursor)),
        6 => (0..2usize, 1..5usize, prop::collection::vec(end, 5))
            .prop_map(|(lane, max, ends)| Op::Deliver(lane, max, ends)),
        1 => (0..4u8, any::<Option<u8>>()).prop_map(|(key, value)| Op::State(key, value)),
        1 => (0..6u8).prop_map(Op::Bury),
        1 => (0..5u64).prop_map(Op::Discard),
        1 => (1..90u8).prop_map(Op::Wait),
        1 => Just(Op::Reopen),
        2 => Just(Op::Crash),
        1 => Just(Op::Restart),
    ]
}

/// Leases all that is due, a few at a time: so few are read back at once. Ids and attempts, sorted.
fn all_due(bus: &dyn Bus, lane: LaneId) -> Vec<(EventId, u32)> {
    let mut all = Vec::new();
    while let Some(taken) = bus.take(lane, 5).now_or_never() {
        all.extend(taken.iter().map(|d| (d.event.id, d.attempts)));
    }
    all.sort_unstable();
    all
}

const DESTINATIONS: [&str; 2] = ["erp", "crm"];

struct Pair {
    temp: tempfile::TempDir,
    clock: Arc<dyn Clock>,
    disk: SimDisk,
    settings: BusSettings,
    /// Gone for a moment while it restarts: its folder has one user at a time.
    bus: Option<Arc<EmbeddedBus>>,
    model: Arc<MemoryBus>,
    lanes: [(LaneId, LaneId); 2],
    /// The model's number of an event → the bus's.
    seqs: BTreeMap<Seq, Seq>,
}

impl Pair {
    fn new(cache_bytes: usize) -> Self {
        let (temp, clock, disk) = (tempfile::tempdir().unwrap(), clock(), SimDisk::default());
        // So small that a few records fill a segment.
        let settings = BusSettings { segment_bytes: 2_048, cache_bytes, ..settings() };
        let disk_too = Arc::new(disk.clone());
        let bus = Some(open_with(temp.path(), disk_too, &clock, settings.clone()));
        let model = MemoryBus::new(Arc::clone(&clock));
        let lanes = [(LaneId(0), LaneId(0)); 2];
        let seqs = BTreeMap::new();
        let mut pair = Self { temp, clock, disk, settings, bus, model, lanes, seqs };
        pair.open_lanes();
        pair
    }

    fn bus(&self) -> &EmbeddedBus {
        self.bus.as_ref().expect("the bus is open")
    }

    /// `crm` keeps the order of each key.
    fn open_lanes(&mut self) {
        for (ids, (destination, by_key)) in
            self.lanes.iter_mut().zip(DESTINATIONS.into_iter().zip([false, true]))
        {
            let (lane, options) = (
                lane(destination),
                LaneOptions { order: if by_key { Order::Key } else { Order::None }, window: 0 },
            );
            let bus = self.bus.as_ref().expect("the bus is open");
            *ids = (self.model.open(&lane, options), bus.open(&lane, options));
        }
    }

    async fn apply(&mut self, op: Op) {
        match op {
            Op::Append(events, cursor) => self.append(events, cursor).await,
            Op::Deliver(lane, max, ends) => self.deliver(lane, max, &ends),
            Op::State(key, value) => {
                let (key, value) = (format!("s/{key}"), value.map(|v| vec![v]));
                self.model.put_state(&key, value.clone()).await.unwrap();
                self.bus().put_state(&key, value).await.unwrap();
            }
            Op::Bury(key) => {
                let letter = self.letter(key);
                let (expected, id) =
                    (self.model.bury(letter.clone()).await, self.bus().bury(letter).await);
                assert_eq!(id, expected);
            }
            Op::Discard(id) => {
                let id = tenon::bus::DeadId(id);
                assert_eq!(self.bus().discard(id).await, self.model.discard(id).await);
            }
            Op::Wait(seconds) => self.wait(Duration::from_secs(u64::from(seconds))).await,
            Op::Reopen => self.open_lanes(),
            Op::Crash => self.crash().await,
            Op::Restart => {
                self.bus().close().await;
                self.crash().await;
            }
        }
    }

    async fn wait(&self, duration: Duration) {
        self.clock.sleep_until(self.clock.now().plus(duration)).await;
    }

    fn letter(&self, key: u8) -> DeadLetter {
        DeadLetter {
            event: Arc::new(event(&key.to_string(), "0", Timestamp(1))),
            destination: "erp".into(),
            died_at: self.clock.now(),
            reason: "rejected".into(),
            message: format!("no {key}"),
            attempts: u32::from(key),
            status: None,
            variant: key.is_multiple_of(2).then(|| "next".into()),
        }
    }

    async fn append(&mut self, events: Vec<(u8, u8, u8, bool)>, cursor: Option<u8>) {
        let now = self.clock.now();
        let new = |(key, revision, to, forever): (u8, u8, u8, bool)| {
            // Keys claimed for ever are other keys: an id has one kind of claim.
            let key = if forever { format!("f{key}") } else { key.to_string() };
            let mut event = event(&key, &revision.to_string(), now);
            let named = DESTINATIONS.iter().enumerate().filter(|(n, _)| to & (1 << n) != 0);
            event.to = named.map(|(_, d)| Arc::from(*d)).collect();
            let claim = if forever {
                Claim::Forever
            } else {
                Claim::Window(Duration::from_secs(1_000_000))
            };
            NewEvent { event: Arc::new(event), claim }
        };
        let state = cursor.map(|c| ("cursor".to_owned(), Some(vec![c]))).into_iter().collect();
        let batch = Append { events: events.into_iter().map(new).collect(), state };
        let expected = self.model.append(batch.clone()).await.unwrap();
        let accepted = self.bus().append(batch).await.unwrap();
        assert_eq!(accepted.len(), expected.len());
        for pair in expected.into_iter().zip(accepted) {
            match pair {
                (Accepted::New(model), Accepted::New(bus)) => drop(self.seqs.insert(model, bus)),
                (model, bus) => assert_eq!(bus, model),
            }
        }
        assert!(self.seqs.values().is_sorted(), "numbers rise, over restarts too");
    }

    fn deliver(&mut self, lane: usize, max: usize, ends: &[End]) {
        let (model_lane, bus_lane) = self.lanes[lane];
        let expected = self.model.take(model_lane, max).now_or_never().unwrap_or_default();
        let taken = self.bus().take(bus_lane, max).now_or_never().unwrap_or_default();
        let told = |d: &Delivery, seq: Seq| {
            (seq, d.event.id, d.event.key.clone(), d.attempts, d.first_attempt_at)
        };
        let expected: Vec<_> =
            expected.iter().map(|d| (d.seq, told(d, self.seqs[&d.seq]))).collect();
        let taken: Vec<_> = taken.iter().map(|d| told(d, d.seq)).collect();
        assert_eq!(taken, expected.iter().map(|(_, told)| told.clone()).collect::<Vec<_>>());
        for ((model, told), end) in expected.into_iter().zip(ends) {
            let Some(settlement) = self.settlement(*end, told.3, told.4) else { continue };
            self.model.settle(model_lane, model, settlement.clone());
            self.bus().settle(bus_lane, told.0, settlement);
        }
    }

    fn settlement(&self, end: End, before: u32, first: Option<Timestamp>) -> Option<Settlement> {
        let now = self.clock.now();
        let attempts = before + 1;
        let in_seconds = |s: u8| now.plus(Duration::from_secs(u64::from(s)));
        Some(match end {
            End::Keep => return None,
            End::Delivered => Settlement::Delivered { attempts, status: None, sent: None },
            End::Superseded => Settlement::Superseded { by: Some(7) },
            End::Dead => Settlement::Dead { reason: "rejected".into() },
            End::Defer(seconds) => Settlement::Defer { due: in_seconds(seconds) },
            End::Retry(seconds) => Settlement::Retry {
                due: in_seconds(seconds),
                attempts,
                first_attempt_at: first.unwrap_or(now),
                error: "503".into(),
            },
        })
    }

    /// The bus dies and comes back; the model gives its leases back and all is due. Settlements are
    /// written first: that the last milliseconds of them may be lost is another test's business.
    async fn crash(&mut self) {
        self.bus().trace(EventId([0; 16])).unwrap();
        self.bus = None;
        self.disk.crash(0);
        let (disk, settings) = (Arc::new(self.disk.clone()), self.settings.clone());
        self.bus = Some(open_with(self.temp.path(), disk, &self.clock, settings));
        self.open_lanes();
        self.wait(LONG).await;
        // The model remembers an order of delays that the bus forgot. Both are due now all the same;
        // leased and given back, they stand in one order again.
        for (model_lane, bus_lane) in self.lanes {
            let taken = all_due(self.bus(), bus_lane);
            assert_eq!(taken, all_due(&*self.model, model_lane));
        }
        self.open_lanes();
    }

    fn compare(&self) {
        let sorted = |bus: &dyn Bus| {
            let mut backlog = bus.backlog();
            backlog.sort_by(|a, b| a.lane.cmp(&b.lane));
            backlog.into_iter().map(|b| (b.lane, b.unsettled)).collect::<Vec<_>>()
        };
        let (bus, model): (&dyn Bus, &dyn Bus) = (self.bus(), &*self.model);
        assert_eq!(sorted(bus), sorted(model));
        assert_eq!(bus.state_under(""), model.state_under(""));
        assert_eq!(bus.dead_letters(), model.dead_letters());
        for summary in bus.dead_letters() {
            assert_eq!(bus.dead_letter(summary.id), model.dead_letter(summary.id));
        }
        for (key, (model_lane, bus_lane)) in
            (0..6).flat_map(|k| self.lanes.iter().map(move |l| (k.to_string(), *l)))
        {
            assert_eq!(bus.newest(bus_lane, &key), model.newest(model_lane, &key), "{key}");
        }
        let history = |bus: &dyn Bus| {
            let page = bus.history(Timestamp(0), Timestamp(i64::MAX), None).unwrap();
            page.events.into_iter().map(|(_, event)| event).collect::<Vec<_>>()
        };
        assert_eq!(history(bus), history(model));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_embedded_bus_does_what_its_model_does(
        ops in prop::collection::vec(op(), 1..40),
        cached in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut pair = Pair::new(if cached { 1 << 20 } else { 0 });
            for op in ops {
                pair.apply(op).await;
                pair.compare();
            }
        });
    }
}
