//! The buses: one conformance suite for all, and what the embedded one does when disks and
//! processes fail.

mod disk;
mod faults;
mod model;

use std::{path::Path, sync::Arc, time::Duration};

use tenon::{
    bus::{
        Bus, EmbeddedBus, EmbeddedOptions, MemoryBus,
        conformance::{CHECKS, Subject},
    },
    plan::BusSettings,
    world::{Clock, Disk, ScriptedClock, SystemDisk, Timestamp},
};

/// Sizes that make segments roll within a test.
fn settings() -> BusSettings {
    BusSettings {
        kind: tenon::plan::BusKind::Embedded,
        history: Duration::from_hours(7 * 24),
        max_disk_bytes: 64 << 20,
        segment_bytes: 64 << 10,
        dead_letters: Duration::from_hours(90 * 24),
        cache_bytes: 1 << 20,
    }
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(ScriptedClock::starting_at(Timestamp(1_800_000_000_000)))
}

fn open(folder: &Path, disk: Arc<dyn Disk>, clock: &Arc<dyn Clock>) -> Arc<EmbeddedBus> {
    open_with(folder, disk, clock, settings())
}

fn open_with(
    folder: &Path,
    disk: Arc<dyn Disk>,
    clock: &Arc<dyn Clock>,
    settings: BusSettings,
) -> Arc<EmbeddedBus> {
    let (folder, clock) = (folder.to_owned(), Arc::clone(clock));
    EmbeddedBus::open(EmbeddedOptions { folder, settings, clock, disk }).expect("the folder opens")
}

#[tokio::test(start_paused = true)]
async fn the_memory_bus_keeps_the_promises() {
    for (name, check) in CHECKS {
        eprintln!("{name}");
        let clock = clock();
        let bus: Arc<dyn Bus> = MemoryBus::new(Arc::clone(&clock));
        check(&Subject { bus, clock }).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_embedded_bus_keeps_the_promises() {
    for (name, check) in CHECKS {
        eprintln!("{name}");
        let (temp, clock) = (tempfile::tempdir().unwrap(), clock());
        let bus: Arc<dyn Bus> = open(temp.path(), Arc::new(SystemDisk), &clock);
        check(&Subject { bus, clock }).await;
    }
}

/// The same without a cache: every body is read back from the journal.
#[tokio::test(start_paused = true)]
async fn the_embedded_bus_keeps_the_promises_without_a_cache() {
    for (name, check) in CHECKS {
        eprintln!("{name}");
        let (temp, clock) = (tempfile::tempdir().unwrap(), clock());
        let settings = BusSettings { cache_bytes: 0, ..settings() };
        let bus: Arc<dyn Bus> = open_with(temp.path(), Arc::new(SystemDisk), &clock, settings);
        check(&Subject { bus, clock }).await;
    }
}
