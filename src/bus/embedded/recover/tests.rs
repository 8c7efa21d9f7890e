use std::{path::Path, time::Duration};

use super::*;
use crate::{
    bus::{
        Accepted, Append, Bus as _, EmbeddedBus, EmbeddedOptions, LaneOptions, Settlement,
        conformance,
        embedded::{
            folder::Folder,
            format::checkpoint::{Unsettled, encode_flow, encode_region},
            index::{SHELVES, Write},
            segments::place_of,
        },
        lanes::FlowName,
    },
    event::Lane,
    plan::{BusKind, BusSettings},
    world::{Clock, ScriptedClock, SystemDisk},
};

fn settings() -> BusSettings {
    BusSettings {
        kind: BusKind::Embedded,
        history: Duration::from_hours(1),
        max_disk_bytes: 64 << 20,
        segment_bytes: 1 << 20,
        dead_letters: Duration::from_hours(1),
        cache_bytes: 1 << 20,
    }
}

/// A version without tenants of flows wrote a checkpoint's pairs, and was killed before its position.
#[tokio::test(start_paused = true)]
async fn a_pair_from_before_flows_had_tenants_is_not_there_twice() {
    let temp = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(ScriptedClock::starting_at(Timestamp(1_000_000)));
    let open = || {
        let (folder, clock) = (temp.path().to_owned(), Arc::clone(&clock));
        let options =
            EmbeddedOptions { folder, settings: settings(), clock, disk: Arc::new(SystemDisk) };
        EmbeddedBus::open(options).unwrap()
    };
    let mut event = conformance::event("k", "1", clock.now());
    event.tenant = Some("t".to_owned());
    let bus = open();
    let events = vec![conformance::claimed(event)];
    let accepted = bus.append(Append { events, state: Vec::new() }).await.unwrap();
    let [Accepted::New(seq)] = accepted[..] else { panic!("{accepted:?}") };
    drop(bus);

    let (segment, offset) = place_of(seq.0);
    let lane =
        Lane { connector: "shop".into(), stream: "orders".into(), destination: "erp".into() };
    let pair = Unsettled { offset, flow: 0, key: key_hash("k"), retried: None };
    let flow = encode_flow(&FlowName { lane: lane.clone(), tenant: None });
    let position = Position { segment, offset: HEADER_BYTES as u32, segments: Vec::new() };
    let write = |shelf, key: &[u8], value| Write { shelf, key: key.to_vec(), value: Some(value) };
    let folder = Folder::open(temp.path()).unwrap();
    let index = Index::open(&folder.index()).unwrap();
    let region = [segment, offset >> 20].map(u32::to_be_bytes).concat();
    index
        .apply(&[
            write(Shelf::Lanes, &0u32.to_be_bytes(), flow),
            write(Shelf::Unsettled, &region, encode_region([pair].into_iter())),
            write(Shelf::Position, POSITION, position.encode()),
        ])
        .unwrap();
    drop((index, folder));

    let bus = open();
    assert_eq!(bus.health().unsettled, 1);
    let id = bus.open(&lane, LaneOptions::default());
    let taken = bus.take(id, 10).await;
    assert_eq!(taken.len(), 1);
    bus.settle(id, taken[0].seq, Settlement::Dead { reason: "no".to_owned() });
    assert_eq!(bus.health().unsettled, 0);
}

/// An event of a tenant, to one of two destinations.
async fn append(bus: &EmbeddedBus, numbers: std::ops::Range<usize>) {
    let new = |number: usize| {
        let mut event = conformance::event(&format!("k{number}"), "1", Timestamp(1_000_000));
        event.tenant = Some(format!("t{number}"));
        event.to = vec![["erp", "crm"][number % 2].into()];
        conformance::claimed(event)
    };
    let events = numbers.map(new).collect();
    bus.append(Append { events, state: Vec::new() }).await.unwrap();
}

/// What is unsettled in each lane and of each tenant. Ends those that `ends` names.
async fn unsettled(bus: &EmbeddedBus, ends: std::ops::Range<usize>) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let flows: Vec<_> = bus.tenants().into_iter().map(|(tenant, it)| (tenant, it.events)).collect();
    for destination in ["erp", "crm"] {
        let name = conformance::lane(destination);
        let lane = bus.open(&name, LaneOptions::default());
        let waits =
            bus.backlog().into_iter().find(|it| it.lane == name).map_or(0, |it| it.unsettled);
        let mut taken = Vec::new();
        while (taken.len() as u64) < waits {
            taken.extend(bus.take(lane, 1_000).await);
        }
        for taken in taken {
            let tenant = taken.event.tenant.clone().unwrap();
            assert!(flows.iter().any(|(name, events)| **name == *tenant && *events == 1));
            if ends.clone().any(|number| tenant == format!("t{number}")) {
                bus.settle(lane, taken.seq, conformance::DELIVERED);
            }
            all.push((destination.to_owned(), tenant));
        }
    }
    assert_eq!(all.len(), flows.len());
    all.sort_unstable();
    all
}

/// What comes next does not touch the region of what was before.
async fn next_region(bus: &EmbeddedBus) {
    bus.put_state("filler", Some(vec![0; 1 << 20])).await.unwrap();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A checkpoint forgets tenants and gives their numbers to others, and the process is killed when it
/// has written so many of the shelves: then, and when it has written all, the same is unsettled.
#[tokio::test(start_paused = true)]
async fn numbers_that_are_given_again_do_not_mix_up_what_is_unsettled() {
    let temp = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(ScriptedClock::starting_at(Timestamp(1_000_000)));
    let open = |path: &Path| {
        let (folder, clock) = (path.to_owned(), Arc::clone(&clock));
        let options =
            EmbeddedOptions { folder, settings: settings(), clock, disk: Arc::new(SystemDisk) };
        EmbeddedBus::open(options).unwrap()
    };
    let state = temp.path().join("state");
    let bus = open(&state);
    append(&bus, 0..40).await;
    next_region(&bus).await;
    bus.close().await;
    drop(bus);
    let bus = open(&state);
    assert_eq!(unsettled(&bus, 0..30).await.len(), 40);
    bus.close().await;
    assert_eq!(bus.shared.core.lock().lanes.len(), 10, "those with nothing are forgotten");
    drop(bus);
    let before = temp.path().join("before");
    copy(&state, &before);

    let bus = open(&state);
    assert_eq!(unsettled(&bus, 30..35).await.len(), 10);
    append(&bus, 40..100).await;
    unsettled(&bus, 35..85).await;
    next_region(&bus).await;
    bus.close().await;
    drop(bus);
    let after = shelves(&state);
    let names = &after[0];
    let highest =
        names.iter().map(|(key, _)| u32::from_be_bytes(key[..].try_into().unwrap())).max();
    assert!(highest < Some(75) && names.len() == 15, "numbers are given again: {highest:?}");

    for written in 0..=SHELVES.len() {
        let state = temp.path().join(format!("killed-{written}"));
        copy(&temp.path().join("state"), &state);
        let folder = Folder::open(&state).unwrap();
        std::fs::remove_dir_all(folder.index()).unwrap();
        copy(&before.join("index"), &folder.index());
        overlay(&Index::open(&folder.index()).unwrap(), &after, written);
        drop(folder);
        let bus = open(&state);
        let why = format!("killed after {written} shelves");
        assert_eq!(unsettled(&bus, 0..0).await, names_of(85..100), "{why}");
        drop(bus);
        for more in [100..110, 110..200] {
            let bus = open(&state);
            append(&bus, more).await;
            bus.close().await;
        }
        let found = unsettled(&open(&state), 0..0).await;
        assert_eq!(found, names_of(85..200), "{why}, and went on");
    }
}

fn names_of(numbers: std::ops::Range<usize>) -> Vec<(String, String)> {
    let name = |n: usize| (["erp", "crm"][n % 2].to_owned(), format!("t{n}"));
    let mut all: Vec<_> = numbers.map(name).collect();
    all.sort_unstable();
    all
}

/// The lanes know at once that an event is settled, the journal a little later.
#[test]
fn a_flow_stays_while_the_ledger_names_it() {
    let (mut books, mut core) = (Books::default(), Core::default());
    let (connector, stream, destination) = ("shop", "orders", "erp");
    let tenants = || (0..100).map(|n| format!("t{n}"));
    for tenant in tenants() {
        let tenant = Some(&*tenant);
        let flow = core.lanes.intern(&FlowRef { connector, stream, destination, tenant });
        books.ledger.add(seq_at(1, flow.0), flow.0, 0);
    }
    let written = |books: &mut Books, core: &mut Core| {
        let writes = books.checkpoint(Position::default(), core, &State::default());
        let names = |on: Shelf| writes.iter().filter(|write| write.shelf == on).count();
        (core.lanes.len(), names(Shelf::Lanes), names(Shelf::LanesGone))
    };
    assert_eq!(written(&mut books, &mut core), (100, 100, 0));
    (10..100).for_each(|flow| assert!(books.ledger.settle(seq_at(1, flow), flow)));
    // As many again make it look.
    (100..202).for_each(|n| {
        let tenant = Some(&*format!("t{n}"));
        core.lanes.intern(&FlowRef { connector, stream, destination, tenant });
    });
    assert_eq!(written(&mut books, &mut core), (10, 0, 192));
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// What stands on each shelf.
fn shelves(state: &Path) -> Vec<Pairs> {
    let folder = Folder::open(state).unwrap();
    let index = Index::open(&folder.index()).unwrap();
    let all = SHELVES.iter().map(|(shelf, _)| {
        let mut pairs = Vec::new();
        let each = |key: &[u8], value: &[u8]| {
            pairs.push((key.to_vec(), value.to_vec()));
            Ok(())
        };
        index.each(*shelf, each).unwrap();
        pairs
    });
    all.collect()
}

/// Makes the first so many shelves what they are `after`; of names, what comes is on the first of them
/// and what goes on another.
fn overlay(index: &Index, after: &[Pairs], written: usize) {
    for ((shelf, _), pairs) in SHELVES.iter().zip(after).take(written) {
        let mut writes = Vec::new();
        let goes = |key: &[u8], _: &[u8]| {
            if *shelf != Shelf::Lanes && !pairs.iter().any(|(other, _)| other == key) {
                writes.push(Write { shelf: *shelf, key: key.to_vec(), value: None });
            }
            Ok(())
        };
        index.each(*shelf, goes).unwrap();
        let comes = pairs.iter().filter(|_| *shelf != Shelf::LanesGone).cloned();
        writes.extend(comes.map(|(key, value)| Write { shelf: *shelf, key, value: Some(value) }));
        index.apply(&writes).unwrap();
    }
}
