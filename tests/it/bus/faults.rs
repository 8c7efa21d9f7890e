//! Disks that refuse, processes that die in the middle of a write, bits that flip.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::join_all};
use proptest::prelude::*;
use tenon::{
    bus::{
        Accepted, Append, AppendError, Bus, Claim, DeadLetter, Delivery, EmbeddedBus, LaneOptions,
        NewEvent, Settlement,
        conformance::{DELIVERED, claimed, event, lane},
        embedded::doctor,
    },
    event::{EventId, Record},
    plan::BusSettings,
    world::{Clock, SystemDisk, Timestamp},
};

use super::{
    clock,
    disk::{Faults, SimDisk},
    open, open_with, settings,
};

/// A bus on a simulated disk, with what it takes to crash and reopen it.
struct Rig {
    temp: tempfile::TempDir,
    clock: Arc<dyn Clock>,
    disk: SimDisk,
    bus: Arc<EmbeddedBus>,
    settings: BusSettings,
}

impl Rig {
    fn new() -> Self {
        Self::with(settings())
    }

    fn with(settings: BusSettings) -> Self {
        let (temp, clock, disk) = (tempfile::tempdir().unwrap(), clock(), SimDisk::default());
        let bus = open_with(temp.path(), Arc::new(disk.clone()), &clock, settings.clone());
        Self { temp, clock, disk, bus, settings }
    }

    /// Ends the process without a word, loses what was not synced, and starts again.
    fn crash(self) -> Self {
        let Self { temp, clock, disk, bus, settings } = self;
        drop(bus);
        disk.crash(0);
        let bus = open_with(temp.path(), Arc::new(disk.clone()), &clock, settings.clone());
        Self { temp, clock, disk, bus, settings }
    }

    fn of(&self, key: &str) -> NewEvent {
        claimed(event(key, "1", self.clock.now()))
    }

    async fn try_append(&self, key: &str) -> Result<Vec<Accepted>, AppendError> {
        self.bus.append(Append { events: vec![self.of(key)], state: Vec::new() }).await
    }

    async fn append(&self, key: &str) {
        let accepted = self.try_append(key).await.expect("the bus takes events");
        assert!(matches!(accepted[..], [Accepted::New(_)]), "{key} is new");
    }

    /// Appends again and again until the bus takes it, as a producer would.
    async fn append_until_taken(&self, key: &str) {
        for _ in 0..20_000 {
            match self.try_append(key).await {
                Ok(_) => return,
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        panic!("the bus does not recover: {:?}", self.bus.health());
    }

    fn unsettled(&self) -> Vec<String> {
        let mut keys: Vec<String> =
            take_all(&self.bus).into_iter().map(|d| d.event.key.clone()).collect();
        keys.sort();
        keys
    }
}

#[tokio::test]
async fn a_sync_seldom_has_to_keep_more_than_what_is_written() {
    let mut settings = settings();
    settings.segment_bytes = 1 << 20;
    let rig = Rig::with(settings);
    rig.append("first").await;
    let opened = rig.disk.growing_syncs();
    for number in 0..600 {
        rig.append(&format!("key {number}")).await;
    }
    let (commits, grew) = (rig.bus.health().commits, rig.disk.growing_syncs() - opened);
    assert!(commits > 600 && grew < 10, "{grew} of {commits} syncs reached untouched blocks");
}

#[tokio::test]
async fn large_groups_are_written_once() {
    let mut settings = settings();
    settings.segment_bytes = 8 << 20;
    let rig = Rig::with(settings);
    rig.append("first").await;
    let (before, journal) = (rig.disk.written_bytes(), rig.bus.health().disk_bytes);
    for page in 0..20 {
        let events = (0..3_000).map(|n| rig.of(&format!("page {page} record {n}"))).collect();
        rig.bus.append(Append { events, state: Vec::new() }).await.unwrap();
    }
    let grew = (rig.bus.health().disk_bytes - journal) as usize;
    let written = rig.disk.written_bytes() - before;
    assert!(grew > 20 * (128 << 10) && written < grew * 11 / 10, "{written} for {grew}");
}

/// Leases all that is due to `erp`.
fn take_all(bus: &EmbeddedBus) -> Vec<Delivery> {
    let erp = bus.open(&lane("erp"), LaneOptions::default());
    let mut all = Vec::new();
    while let Some(taken) = bus.take(erp, 7).now_or_never() {
        all.extend(taken);
    }
    all
}

fn settle_all(bus: &EmbeddedBus) {
    let erp = bus.open(&lane("erp"), LaneOptions::default());
    for delivery in take_all(bus) {
        bus.settle(erp, delivery.seq, DELIVERED);
    }
    // A trace is answered after all settlements before it are written.
    bus.trace(EventId([0; 16])).unwrap();
}

fn why(result: Result<Vec<Accepted>, AppendError>) -> String {
    match result {
        Err(AppendError::Unavailable(why)) => why,
        other => panic!("the disk refuses, so the bus does: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_outlives_a_crash() {
    let rig = Rig::new();
    for key in ["a", "b", "c"] {
        rig.append(key).await;
    }
    rig.bus.put_state("cursor", Some(b"7".to_vec())).await.unwrap();
    let erp = rig.bus.open(&lane("erp"), LaneOptions::default());
    let taken = take_all(&rig.bus);
    rig.bus.settle(erp, taken[0].seq, DELIVERED);
    let retry = Settlement::Retry {
        due: rig.clock.now().plus(Duration::from_mins(1)),
        attempts: 3,
        first_attempt_at: Timestamp(5),
        error: "503".into(),
    };
    rig.bus.settle(erp, taken[1].seq, retry);
    rig.append("d").await; // The settlements ride along.
    let rig = rig.crash();
    assert_eq!(rig.bus.state("cursor").as_deref(), Some(&b"7"[..]));
    assert_eq!(rig.try_append("a").await, Ok(vec![Accepted::Duplicate]));
    assert_eq!(rig.bus.health().unsettled, 3);
    assert_eq!(rig.unsettled(), ["c", "d"]);
    let erp = rig.bus.open(&lane("erp"), LaneOptions::default());
    take_all(&rig.bus);
    let later = rig.bus.take(erp, 1).await;
    assert_eq!((later[0].attempts, later[0].first_attempt_at), (3, Some(Timestamp(5))));
    assert_eq!((&*later[0].event.key, rig.bus.newest(erp, "a")), ("b", Some(1)));
}

#[tokio::test(start_paused = true)]
async fn a_failed_sync_is_final_for_its_file_and_the_bus_goes_on_in_another() {
    let rig = Rig::new();
    rig.append("a").await;
    let erp = rig.bus.open(&lane("erp"), LaneOptions::default());
    let taken = take_all(&rig.bus);
    rig.disk.set(Faults { syncs_left: Some(0), ..Faults::default() });
    rig.bus.settle(erp, taken[0].seq, DELIVERED);
    let refused = why(rig.try_append("b").await);
    assert!(refused.contains("sync of segment 1 failed"), "{refused}");
    assert!(rig.bus.put_state("k", Some(vec![1])).await.is_err());
    assert!(rig.bus.health().refusing.is_some());
    rig.disk.set(Faults::default());
    rig.append_until_taken("c").await;
    rig.append("d").await;
    assert_eq!(rig.bus.health().refusing, None);
    let rig = rig.crash();
    // The settlement of `a` was carried over; `b` was never acknowledged and is not there.
    assert_eq!(rig.unsettled(), ["c", "d"]);
    assert_eq!(rig.bus.state("k"), None);
    assert_eq!(rig.bus.health().quarantined, 0);
    rig.append("b").await;
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_said_and_survived_at_any_byte() {
    for left in [0, 1, 9, 100, 333] {
        let rig = Rig::new();
        rig.append("a").await;
        rig.disk.set(Faults { writes_left_bytes: Some(left), ..Faults::default() });
        let refused = why(rig.try_append(&"b".repeat(400)).await);
        assert!(refused.contains("No space left"), "{refused}");
        rig.disk.set(Faults::default());
        rig.append_until_taken("c").await;
        let rig = rig.crash();
        assert_eq!(rig.unsettled(), ["a", "c"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_cannot_be_made_stops_acknowledgement() {
    let rig = Rig::new();
    rig.disk.set(Faults { room_bytes: Some(1_000), ..Faults::default() });
    let refused = why(rig.try_append("a").await);
    assert!(refused.contains("a new segment cannot be made"), "{refused}");
    assert!(rig.disk.names("journal").is_empty());
    rig.disk.set(Faults { read_only: true, ..Faults::default() });
    let refused = why(rig.try_append("a").await);
    assert!(rig.bus.health().refusing.is_some(), "{refused}");
    rig.disk.set(Faults::default());
    rig.append_until_taken("a").await;
    assert_eq!(rig.crash().unsettled(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_read_only_disk_refuses_letters_too_and_recovers() {
    let rig = Rig::new();
    rig.append("a").await;
    let letter = DeadLetter {
        event: rig.of("x").event,
        destination: "erp".into(),
        died_at: rig.clock.now(),
        reason: "rejected".into(),
        message: "no".into(),
        attempts: 1,
        status: None,
        variant: None,
    };
    rig.disk.set(Faults { read_only: true, ..Faults::default() });
    assert!(rig.bus.bury(letter.clone()).await.is_err());
    let refused = why(rig.try_append("b").await);
    assert!(refused.contains("Read-only file system"), "{refused}");
    rig.disk.set(Faults::default());
    rig.append_until_taken("b").await;
    let id = loop {
        if let Ok(id) = rig.bus.bury(letter.clone()).await {
            break id;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let rig = rig.crash();
    assert_eq!(rig.bus.dead_letter(id), Ok(Some(letter)));
    assert_eq!(rig.unsettled(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn copies_of_one_event_at_once_are_accepted_once() {
    let rig = Rig::new();
    let answers = join_all((0..50).map(|_| rig.try_append("a"))).await;
    let new = answers.iter().filter(|a| matches!(a.as_deref(), Ok([Accepted::New(_)]))).count();
    assert_eq!(new, 1);
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(rig.unsettled(), ["a"]);
}

/// What the last write was torn to, byte by byte; the events before it are always there.
#[tokio::test(start_paused = true)]
async fn a_write_torn_at_any_byte_costs_only_itself() {
    let rig = Rig::new();
    rig.append("a").await;
    rig.disk.set(Faults { syncs_left: Some(0), ..Faults::default() });
    why(rig.try_append("b").await);
    let Rig { temp, clock, disk, bus, .. } = rig;
    drop(bus);
    let written = disk.fork().crash(usize::MAX);
    assert!(written > 50, "the torn write was seen");
    for keep in (0..written).step_by(11).chain([written - 1, written]) {
        let torn = disk.fork();
        torn.crash(keep);
        std::fs::remove_dir_all(temp.path().join("index")).unwrap();
        let bus = open(temp.path(), Arc::new(torn.clone()), &clock);
        let keys: Vec<String> = take_all(&bus).iter().map(|d| d.event.key.clone()).collect();
        let whole: &[&str] = if keep == written { &["a", "b"] } else { &["a"] };
        assert_eq!(keys, whole, "{keep} of {written} bytes");
        let cut = keep > 0 && keep < written;
        assert_eq!(bus.health().quarantined, u64::from(cut), "{keep} bytes are set aside");
        drop(bus);
        let again = open(temp.path(), Arc::new(torn), &clock);
        assert_eq!(again.health().quarantined, 0, "damage is mended once");
    }
}

#[tokio::test(start_paused = true)]
async fn an_index_that_cannot_be_used_is_built_anew() {
    let rig = Rig::new();
    for n in 0..600 {
        rig.append(&format!("{n:03}")).await;
    }
    rig.bus.put_state("cursor", Some(b"7".to_vec())).await.unwrap();
    settle_all(&rig.bus);
    rig.append("last").await;
    rig.bus.close().await;
    let Rig { temp, clock, disk, bus, .. } = rig;
    drop(bus);
    assert!(disk.names("journal").len() > 1, "several segments are read again");
    for damage in ["garbage", "gone"] {
        let index = temp.path().join("index");
        std::fs::remove_dir_all(&index).unwrap();
        if damage == "garbage" {
            std::fs::write(&index, "no folder").unwrap();
        }
        let bus = open(temp.path(), Arc::new(disk.clone()), &clock);
        assert_eq!(bus.state("cursor").as_deref(), Some(&b"7"[..]), "{damage}");
        assert_eq!(bus.health().unsettled, 1, "{damage}");
        let again = claimed(event("007", "1", clock.now()));
        let batch = Append { events: vec![again], state: Vec::new() };
        assert_eq!(bus.append(batch).await, Ok(vec![Accepted::Duplicate]), "{damage}");
        bus.close().await;
    }
    assert!(temp.path().join("index.broken-1").exists());
}

#[tokio::test(start_paused = true)]
async fn settled_history_goes_with_age_and_its_state_stays() {
    let rig = Rig::new();
    rig.bus.put_state("token", Some(b"secret".to_vec())).await.unwrap();
    for n in 0..600 {
        rig.append(&n.to_string()).await;
    }
    settle_all(&rig.bus);
    rig.append("unsettled").await;
    rig.bus.close().await;
    let Rig { temp, clock, disk, bus, settings } = rig;
    drop(bus);
    let before = disk.names("journal");
    clock.sleep_until(clock.now().plus(Duration::from_hours(8 * 24))).await;
    let bus = open_with(temp.path(), Arc::new(disk.clone()), &clock, settings.clone());
    // The first answer comes after the first look at what has expired.
    bus.put_state("other", Some(vec![1])).await.unwrap();
    let after = disk.names("journal");
    assert!(before.len() > 1 && !after.contains(&before[0]), "{before:?} {after:?}");
    assert_eq!(bus.state("token").as_deref(), Some(&b"secret"[..]));
    bus.close().await;
    drop(bus);
    std::fs::remove_dir_all(temp.path().join("index")).unwrap();
    let bus = open_with(temp.path(), Arc::new(disk), &clock, settings);
    assert_eq!(bus.state("token").as_deref(), Some(&b"secret"[..]), "it was carried over");
    assert_eq!(bus.health().unsettled, 1);
}

#[tokio::test(start_paused = true)]
async fn a_spent_disk_budget_refuses_until_something_settles() {
    let budget = BusSettings { max_disk_bytes: 400 << 10, ..settings() };
    let rig = Rig::with(budget);
    let big = |n: usize| {
        let mut event = event(&n.to_string(), "1", rig.clock.now());
        event.record = Record::from_bytes(vec![b'1'; 10_000].into());
        Append { events: vec![claimed(event)], state: Vec::new() }
    };
    let mut taken = 0;
    let refused = loop {
        match rig.bus.append(big(taken)).await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 100, "the budget is never spent");
    };
    assert!(matches!(refused, AppendError::Full { .. }), "{refused}");
    assert!(taken > 20, "{taken} events fit");
    let health = rig.bus.health();
    assert!(health.refusing.is_some(), "{health:?}");
    assert!(health.disk_bytes <= health.disk_limit_bytes, "{health:?}");
    rig.bus.put_state("cursor", Some(vec![1])).await.expect("state is taken all the same");
    settle_all(&rig.bus);
    for attempt in 0.. {
        match rig.bus.append(big(1_000)).await {
            Ok(_) => break,
            Err(error) => assert!(attempt < 20_000, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(rig.crash().unsettled(), ["1000"]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_larger_than_a_segment_is_one_record_and_too_large_is_said() {
    let rig = Rig::new();
    let events = (0..2_000).map(|n| rig.of(&n.to_string())).collect();
    let state = vec![("cursor".to_owned(), Some(b"page".to_vec()))];
    let accepted = rig.bus.append(Append { events, state }).await.unwrap();
    assert_eq!(accepted.len(), 2_000);
    let mut huge = event("huge", "1", rig.clock.now());
    huge.record = Record::from_bytes(vec![b' '; 65 << 20].into());
    let batch = Append { events: vec![claimed(huge)], state: Vec::new() };
    assert!(matches!(rig.bus.append(batch).await, Err(AppendError::TooLarge { .. })));
    let rig = rig.crash();
    assert_eq!(rig.bus.health().unsettled, 2_000);
    assert_eq!(rig.bus.state("cursor").as_deref(), Some(&b"page"[..]));
}

fn finding_words(folder: &Path) -> Vec<String> {
    let report = doctor::verify(folder).unwrap();
    report.findings.into_iter().map(|f| f.what).collect()
}

#[tokio::test(start_paused = true)]
async fn the_doctor_finds_damage_and_mends_it() {
    let (temp, clock) = (tempfile::tempdir().unwrap(), clock());
    let bus = open(temp.path(), Arc::new(SystemDisk), &clock);
    for key in ["a", "b", "c"] {
        let events = vec![claimed(event(key, "1", clock.now()))];
        bus.append(Append { events, state: Vec::new() }).await.unwrap();
    }
    assert!(doctor::verify(temp.path()).is_err(), "a folder in use is left alone");
    let nowhere = temp.path().join("nowhere");
    assert!(doctor::verify(&nowhere).is_err() && !nowhere.exists());
    bus.close().await;
    drop(bus);
    let report = doctor::verify(temp.path()).unwrap();
    assert_eq!((report.segments, report.records, report.events), (1, 3, 3));
    assert_eq!((report.unsettled, report.findings), (3, Vec::new()));

    let path = temp.path().join("journal/0000000001.seg");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[200] ^= 1;
    bytes.extend_from_slice(b"torn");
    std::fs::write(&path, bytes).unwrap();
    std::fs::remove_dir_all(temp.path().join("index")).unwrap();
    std::fs::write(temp.path().join("index"), "no folder").unwrap();
    assert_eq!(finding_words(temp.path()), ["bad_record", "torn_tail", "bad_index"]);
    doctor::repair(temp.path()).unwrap();
    let left: Vec<String> = finding_words(temp.path());
    assert_eq!(left, Vec::<String>::new());
    let bus = open(temp.path(), Arc::new(SystemDisk), &clock);
    assert_eq!(bus.health().unsettled, 2);
    assert_eq!(std::fs::read_dir(temp.path().join("quarantine")).unwrap().count(), 2);
}

#[tokio::test(start_paused = true)]
async fn claims_for_ever_and_newest_revisions_outlive_checkpoints_and_crashes() {
    let mut rig = Rig::new();
    for round in 0..3 {
        for (key, revision) in [("a", round), ("b", 7)] {
            let event = event(key, &revision.to_string(), rig.clock.now());
            let new = NewEvent { event: Arc::new(event), claim: Claim::Forever };
            let batch = Append { events: vec![new], state: Vec::new() };
            let accepted = rig.bus.append(batch).await.unwrap();
            let is_new = matches!(accepted[..], [Accepted::New(_)]);
            assert_eq!(is_new, key == "a" || round == 0, "{key} in round {round}");
        }
        settle_all(&rig.bus);
        if round == 1 {
            rig.bus.close().await;
        }
        rig = rig.crash();
        let erp = rig.bus.open(&lane("erp"), LaneOptions::default());
        assert_eq!(rig.bus.newest(erp, "a"), Some(round));
        assert_eq!(rig.bus.newest(erp, "b"), Some(7));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever bit flips: no panic, and what is missing afterwards was reported.
    #[test]
    fn a_flipped_bit_costs_at_most_its_record_and_is_reported(
        at in any::<usize>(),
        rebuild in any::<bool>(),
        closed in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let rig = Rig::new();
            let all: BTreeSet<String> = (0..12).map(|n| n.to_string()).collect();
            for key in &all {
                rig.append(key).await;
            }
            if closed {
                rig.bus.close().await;
            }
            let Rig { temp, clock, disk, bus, .. } = rig;
            drop(bus);
            disk.crash(0);
            let place = disk.flip("journal", at);
            if rebuild {
                std::fs::remove_dir_all(temp.path().join("index")).unwrap();
            }
            let bus = open(temp.path(), Arc::new(disk.clone()), &clock);
            let left: BTreeSet<String> =
                take_all(&bus).iter().map(|d| d.event.key.clone()).collect();
            let missing = all.difference(&left).count();
            assert!(left.is_subset(&all) && missing <= 1, "{place:?}: {missing} missing");
            assert!(missing == 0 || bus.health().quarantined > 0, "{place:?} is not reported");
            bus.append(Append {
                events: vec![claimed(event("new", "1", clock.now()))],
                state: Vec::new(),
            }).await.expect("the bus goes on");
        });
    }

    /// The index can be rebuilt, so damage to it costs nothing.
    #[test]
    fn a_damaged_index_costs_nothing(at in any::<usize>(), run_bytes in 1..5_000usize) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let rig = Rig::new();
            for n in 0..12 {
                rig.append(&n.to_string()).await;
            }
            rig.bus.put_state("cursor", Some(b"7".to_vec())).await.unwrap();
            rig.bus.close().await;
            let Rig { temp, clock, disk, bus, .. } = rig;
            drop(bus);
            let path = temp.path().join("index/db");
            let mut bytes = std::fs::read(&path).unwrap();
            let from = at % bytes.len();
            let to = (from + run_bytes).min(bytes.len());
            bytes[from..to].iter_mut().for_each(|byte| *byte ^= 0x55);
            std::fs::write(&path, bytes).unwrap();
            let bus = open(temp.path(), Arc::new(disk), &clock);
            assert_eq!(bus.state("cursor").as_deref(), Some(&b"7"[..]));
            assert_eq!(take_all(&bus).len(), 12);
            let again = claimed(event("3", "1", clock.now()));
            let batch = Append { events: vec![again], state: Vec::new() };
            assert_eq!(bus.append(batch).await, Ok(vec![Accepted::Duplicate]));
            bus.close().await;
        });
    }
}
