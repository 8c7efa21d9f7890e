//! Where damaged bytes go: copied to a folder, counted, logged, and stepped over.

use std::{
    io,
    ops::Range,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::world::{Disk, DiskFile};

const CHUNK_BYTES: usize = 1 << 20;

/// See the module's text.
pub(super) struct Quarantine {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    count: AtomicU64,
}

impl Quarantine {
    pub fn new(disk: Arc<dyn Disk>, folder: PathBuf) -> Self {
        Self { disk, folder, count: AtomicU64::new(0) }
    }

    /// How often something was set aside since the folder was opened.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Counts damage of which there is nothing to copy.
    pub fn note(&self, what: &str) {
        self.count.fetch_add(1, Ordering::Relaxed);
        tracing::error!(what, "damage in the state folder was set aside");
    }

    /// Copies `range` of `file`, which is called `name`. A disk that does not take the copy does
    /// not stop the bus from starting: the damage is counted and logged all the same.
    pub fn keep(&self, name: &str, file: &dyn DiskFile, range: Range<u64>) {
        let copy = format!("{name}-{}-{}", range.start, range.end);
        if let Err(error) = self.copy(&copy, file, range.clone())
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            tracing::warn!(%error, copy, "damaged bytes could not be copied to the quarantine");
        }
        let (from, to) = (range.start, range.end);
        self.note(&format!("{name}, bytes {from} to {to}"));
    }

    fn copy(&self, name: &str, file: &dyn DiskFile, range: Range<u64>) -> io::Result<()> {
        self.disk.make_folder(&self.folder)?;
        let copy = self.disk.create(&self.folder.join(name), range.end - range.start)?;
        let mut at = range.start;
        while at < range.end {
            let mut chunk = vec![0; (range.end - at).min(CHUNK_BYTES as u64) as usize];
            let read = file.read_at(&mut chunk, at)?;
            if read == 0 {
                break;
            }
            copy.write_at(&chunk[..read], at - range.start)?;
            at += read as u64;
        }
        copy.sync()?;
        self.disk.sync_folder(&self.folder)
    }
}
