//! A disk in memory that fails as it is told, and that forgets what was not synced when it crashes.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use tenon::world::{Disk, DiskFile};

const NO_SPACE: i32 = 28;
const READ_ONLY: i32 = 30;
const IO: i32 = 5;

/// What shall fail.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Every sync fails, once this many more have worked.
    pub syncs_left: Option<u64>,
    /// Bytes that may still be written; the write that exceeds them is cut short and fails.
    pub writes_left_bytes: Option<u64>,
    /// Bytes that all files together may take.
    pub room_bytes: Option<u64>,
    /// Nothing can be made, written or removed.
    pub read_only: bool,
}

#[derive(Default)]
struct Content {
    bytes: Vec<u8>,
    /// What a crash leaves.
    synced: Vec<u8>,
    /// Whether its name would survive a crash.
    named: bool,
    /// A sync failed: what was not synced is lost, and later syncs say nothing of it.
    poisoned: bool,
    /// Bytes before this were written once. Preallocated ones behind it were not.
    touched: usize,
    /// The next sync has to keep more than bytes that were written before.
    grew: bool,
}

#[derive(Default)]
struct Inside {
    files: BTreeMap<PathBuf, Content>,
    /// Unsynced writes in order: file, offset, bytes.
    unsynced: Vec<(PathBuf, u64, Vec<u8>)>,
    /// Syncs that kept bytes which were never written before: where a file system writes twice.
    growing_syncs: usize,
    written_bytes: usize,
    faults: Faults,
}

/// See the module's text. Clones share their files.
#[derive(Clone, Default)]
pub struct SimDisk(Arc<Mutex<Inside>>);

fn os(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

impl SimDisk {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap()
    }

    pub fn set(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// Loses all that was not synced, but for the first `keep_bytes` of it. How much there was.
    pub fn crash(&self, keep_bytes: usize) -> usize {
        let mut inside = self.lock();
        inside.faults = Faults::default();
        let unsynced = std::mem::take(&mut inside.unsynced);
        inside.files.retain(|_, content| content.named);
        for content in inside.files.values_mut() {
            content.bytes.clone_from(&content.synced);
            content.poisoned = false;
        }
        let mut left = keep_bytes;
        let total = unsynced.iter().map(|(_, _, bytes)| bytes.len()).sum();
        for (path, offset, bytes) in unsynced {
            let kept = &bytes[..bytes.len().min(left)];
            left -= kept.len();
            if let Some(content) = inside.files.get_mut(&path) {
                put(&mut content.bytes, offset, kept);
                content.synced.clone_from(&content.bytes);
            }
        }
        total
    }

    /// A copy with files of its own.
    pub fn fork(&self) -> Self {
        let inside = self.lock();
        let files = inside.files.iter().map(|(path, content)| {
            let content = Content {
                bytes: content.bytes.clone(),
                synced: content.synced.clone(),
                named: content.named,
                touched: content.touched,
                ..Content::default()
            };
            (path.clone(), content)
        });
        let (files, unsynced) = (files.collect(), inside.unsynced.clone());
        Self(Arc::new(Mutex::new(Inside { files, unsynced, ..Inside::default() })))
    }

    /// Flips one bit of the used bytes of all files in `folder`; `at` picks it. In which file, where.
    pub fn flip(&self, folder: &str, at: usize) -> (PathBuf, usize) {
        let mut inside = self.lock();
        let used = |bytes: &[u8]| bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        let of = |path: &Path| path.parent().is_some_and(|p| p.ends_with(folder));
        let files = inside.files.iter().filter(|(path, _)| of(path));
        let total: usize = files.clone().map(|(_, content)| used(&content.bytes)).sum();
        let mut bit = at % (total * 8);
        let mut place = None;
        for (path, content) in files {
            let bits = used(&content.bytes) * 8;
            if bit < bits {
                place = Some((path.clone(), bit));
                break;
            }
            bit -= bits;
        }
        let (path, bit) = place.expect("the bit is in one of the files");
        let content = inside.files.get_mut(&path).unwrap();
        content.bytes[bit / 8] ^= 1 << (bit % 8);
        content.synced = content.bytes.clone();
        (path, bit / 8)
    }

    /// How many syncs had to keep bytes that were never written before.
    pub fn growing_syncs(&self) -> usize {
        self.lock().growing_syncs
    }

    /// How much was ever written.
    pub fn written_bytes(&self) -> usize {
        self.lock().written_bytes
    }

    /// The names in a folder, sorted.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let inside = self.lock();
        let of = |path: &&PathBuf| path.parent().is_some_and(|p| p.ends_with(folder));
        let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        inside.files.keys().filter(of).map(name).collect()
    }
}

fn put(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let end = offset as usize + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset as usize..end].copy_from_slice(bytes);
}

struct SimFile {
    disk: SimDisk,
    path: PathBuf,
}

impl SimFile {
    fn with<T>(
        &self,
        act: impl FnOnce(&mut Content, &mut Faults) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut inside = self.disk.lock();
        let Inside { files, faults, .. } = &mut *inside;
        act(files.get_mut(&self.path).ok_or(io::ErrorKind::NotFound)?, faults)
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|content, _| {
            let from = (offset as usize).min(content.bytes.len());
            let count = buffer.len().min(content.bytes.len() - from);
            buffer[..count].copy_from_slice(&content.bytes[from..from + count]);
            Ok(count)
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let written = self.with(|content, faults| {
            if faults.read_only {
                return Err(os(READ_ONLY));
            }
            let left = faults.writes_left_bytes.unwrap_or(u64::MAX);
            let written = bytes.len().min(left as usize);
            faults.writes_left_bytes = faults.writes_left_bytes.map(|l| l - written as u64);
            put(&mut content.bytes, offset, &bytes[..written]);
            let end = offset as usize + written;
            content.grew |= end > content.touched;
            content.touched = content.touched.max(end);
            Ok(written)
        })?;
        let kept = (self.path.clone(), offset, bytes[..written].to_vec());
        let mut inside = self.disk.lock();
        inside.written_bytes += written;
        inside.unsynced.push(kept);
        drop(inside);
        if written < bytes.len() { Err(os(NO_SPACE)) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        let result = self.with(|content, faults| {
            if let Some(left) = &mut faults.syncs_left {
                if *left == 0 {
                    content.poisoned = true;
                    return Err(os(IO));
                }
                *left -= 1;
            }
            if !content.poisoned {
                content.synced.clone_from(&content.bytes);
            }
            Ok(std::mem::take(&mut content.grew))
        });
        if let Ok(grew) = result {
            let mut inside = self.disk.lock();
            inside.unsynced.retain(|(path, _, _)| *path != self.path);
            inside.growing_syncs += usize::from(grew);
        }
        result.map(drop)
    }

    fn truncate(&self, len_bytes: u64) -> io::Result<()> {
        self.with(|content, faults| {
            if faults.read_only {
                return Err(os(READ_ONLY));
            }
            content.bytes.resize(len_bytes as usize, 0);
            Ok(())
        })
    }

    fn len_bytes(&self) -> io::Result<u64> {
        self.with(|content, _| Ok(content.bytes.len() as u64))
    }
}

impl Disk for SimDisk {
    fn make_folder(&self, _path: &Path) -> io::Result<()> {
        if self.lock().faults.read_only { Err(os(READ_ONLY)) } else { Ok(()) }
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let inside = self.lock();
        let of = inside.files.keys().filter(|path| path.parent() == Some(folder));
        Ok(of.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect())
    }

    fn create(&self, path: &Path, room_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut inside = self.lock();
        if inside.faults.read_only {
            return Err(os(READ_ONLY));
        }
        if inside.files.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let used: usize = inside.files.values().map(|content| content.bytes.len()).sum();
        if inside.faults.room_bytes.is_some_and(|room| used as u64 + room_bytes > room) {
            return Err(os(NO_SPACE));
        }
        let content = Content { bytes: vec![0; room_bytes as usize], ..Content::default() };
        inside.files.insert(path.to_owned(), content);
        Ok(Arc::new(SimFile { disk: self.clone(), path: path.to_owned() }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        if !self.lock().files.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Arc::new(SimFile { disk: self.clone(), path: path.to_owned() }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inside = self.lock();
        if inside.faults.read_only {
            return Err(os(READ_ONLY));
        }
        inside.files.remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut inside = self.lock();
        for (path, content) in &mut inside.files {
            content.named |= path.parent() == Some(folder);
        }
        Ok(())
    }
}
