//! `type = "file"`: JSON lines, appended, rotated.
//!
//! Lines are collected in a buffer and written whole; [`JsonLines::sync`] writes what is left and
//! waits for the disk, once for a group of events. What a failed write (a full disk) left in the
//! buffer stays there, in place, and goes first when the disk takes it again: lines are never torn
//! or lost, but events that are retried meanwhile appear twice. A failed `fdatasync` is final for
//! the file: nobody knows what the disk holds, so the destination is held until it is opened anew.

use std::{
    borrow::Cow,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;

use super::decide::Outcome;
use crate::world::{Clock, Timestamp};

/// Lines collected before they are written without being asked.
const BUFFER_BYTES: usize = 128 << 10;

/// Files rotated within one second; a limit that small files cannot reach in earnest.
const MOST_PER_SECOND: u32 = 100_000;

/// When a new file is begun, and how many old ones are kept.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rotation {
    /// A new file once this is passed; `None` never.
    pub(super) bytes: Option<u64>,
    /// A new file once the first line of the current is this old.
    pub(super) every: Option<Duration>,
    /// Rotated files kept; `None` all.
    pub(super) keep: Option<usize>,
}

/// A file of JSON lines.
pub(super) struct JsonLines {
    writer: Arc<Mutex<Writer>>,
    clock: Arc<dyn Clock>,
    /// Whoever holds it waits for the disk.
    syncing: tokio::sync::Mutex<()>,
}

struct Writer {
    path: PathBuf,
    rotation: Rotation,
    file: Arc<File>,
    /// Device and inode of `file`: another at its path means that somebody moved it away.
    identity: (u64, u64),
    /// A pipe or a device takes lines, too, but knows no disk to wait for.
    is_regular: bool,
    /// Lines that are not written yet; the first may be the rest of one.
    buffer: Vec<u8>,
    /// The file's length with all of the buffer.
    length_bytes: u64,
    /// When the file's first line was written; `None` while it is empty.
    begun_at: Option<Timestamp>,
    /// Files and folders that are no longer written to and not yet known to be on disk.
    unsynced: Vec<Arc<File>>,
    /// Lines taken so far, and how many of them are on disk.
    taken: u64,
    synced: u64,
    /// The last write failed: nothing is taken until one succeeds.
    stuck: bool,
    /// An `fdatasync` failed.
    broken: Option<String>,
}

/// JSON text as one line. Between tokens a line break is as good as a space; within strings JSON has
/// none.
pub(super) fn line(json: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(json.len() + 1);
    line.extend_from_slice(&on_one_line(json));
    line.push(b'\n');
    line
}

fn on_one_line(json: &[u8]) -> Cow<'_, [u8]> {
    let breaks = |byte: &u8| matches!(byte, b'\n' | b'\r');
    if json.iter().any(breaks) {
        json.iter().map(|byte| if breaks(byte) { b' ' } else { *byte }).collect()
    } else {
        Cow::Borrowed(json)
    }
}

impl JsonLines {
    /// Opens or creates the file, and the folders above it.
    pub(super) fn open(path: &Path, rotation: Rotation, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let writer = Arc::new(Mutex::new(Writer::open(path, rotation)?));
        Ok(Self { writer, clock, syncing: tokio::sync::Mutex::default() })
    }

    /// Takes a line. It is on disk once a later [`Self::sync`] was well.
    pub(super) fn append(&self, json: &[u8]) -> Outcome {
        let mut writer = self.writer.lock();
        if let Some(message) = &writer.broken {
            return Outcome::Held { status: None, message: message.clone() };
        }
        match writer.append(json, self.clock.now()) {
            Ok(()) => Outcome::Delivered { status: None },
            Err(error) => {
                let message = writer.named(&error);
                Outcome::Retry { status: None, message, retry_after: None, limit: None }
            }
        }
    }

    /// All lines taken before this call are on disk when it is done well. Safe to drop.
    pub(super) async fn sync(&self) -> Result<(), String> {
        let called_at = self.writer.lock().taken;
        let _turn = self.syncing.lock().await;
        let (files, taken, left) = {
            let mut writer = self.writer.lock();
            if let Some(broken) = &writer.broken {
                return Err(broken.clone());
            }
            if writer.synced >= called_at {
                return Ok(());
            }
            let written = writer.flush().and_then(|()| writer.reopen_if_moved());
            written.map_err(|error| writer.named(&error))?;
            let mut files = writer.unsynced.clone();
            let left = files.len();
            if writer.is_regular {
                files.push(writer.file.clone());
            }
            (files, writer.taken, left)
        };
        let waited =
            tokio::task::spawn_blocking(move || files.iter().try_for_each(|file| file.sync_data()));
        let synced = waited.await.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
        let mut writer = self.writer.lock();
        match synced {
            Ok(()) => {
                writer.synced = writer.synced.max(taken);
                writer.unsynced.drain(..left);
                Ok(())
            }
            Err(error) => {
                let message = format!("{}; the file is not written to again", writer.named(&error));
                writer.broken = Some(message.clone());
                Err(message)
            }
        }
    }
}

impl Drop for JsonLines {
    /// Events whose lines were not synced are delivered again; until then the lines may as well be
    /// seen.
    fn drop(&mut self) {
        self.writer.lock().flush().ok();
    }
}

impl Writer {
    fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        if let Some(folder) = path.parent().filter(|it| !it.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        let opened = Opened::at(path)?;
        Ok(Self {
            path: path.to_owned(),
            rotation,
            file: opened.file,
            identity: opened.identity,
            is_regular: opened.is_regular,
            buffer: Vec::new(),
            length_bytes: opened.length_bytes,
            begun_at: opened.begun_at,
            unsynced: opened.folder.into_iter().collect(),
            taken: 0,
            synced: 0,
            stuck: false,
            broken: None,
        })
    }

    fn append(&mut self, json: &[u8], now: Timestamp) -> io::Result<()> {
        let added = json.len() as u64 + 1;
        if self.stuck {
            self.flush()?;
        }
        if self.must_rotate(added, now) {
            self.rotate(now)?;
        }
        if self.buffer.len() + json.len() >= BUFFER_BYTES && !self.buffer.is_empty() {
            self.flush()?;
        }
        self.buffer.extend_from_slice(&on_one_line(json));
        self.buffer.push(b'\n');
        self.length_bytes += added;
        self.begun_at.get_or_insert(now);
        self.taken += 1;
        Ok(())
    }

    /// Writes the buffer. What is not written stays, and later goes on where it stopped.
    fn flush(&mut self) -> io::Result<()> {
        let mut written = 0;
        let result = loop {
            if written == self.buffer.len() {
                break Ok(());
            }
            match (&*self.file).write(&self.buffer[written..]) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.buffer.drain(..written);
        self.stuck = result.is_err();
        result
    }

    fn must_rotate(&self, added: u64, now: Timestamp) -> bool {
        let Some(begun_at) = self.begun_at else { return false };
        self.rotation.bytes.is_some_and(|limit| self.length_bytes + added > limit)
            || self.rotation.every.is_some_and(|limit| now.since(begun_at) >= limit)
    }

    /// Moves the file to `NAME-<UTC>-<n>` and begins another. Age is looked at when a line comes.
    fn rotate(&mut self, now: Timestamp) -> io::Result<()> {
        self.flush()?;
        let name = Name::of(&self.path);
        let stamp = stamp(now);
        let folder = folder_of(&self.path).to_owned();
        let target = (1..=MOST_PER_SECOND)
            .map(|n| folder.join(name.rotated(&stamp, n)))
            .find(|target| !target.exists())
            .ok_or(io::ErrorKind::AlreadyExists)?;
        fs::rename(&self.path, target)?;
        self.reopen()?;
        if let Some(keep) = self.rotation.keep {
            name.remove_oldest(&folder, keep);
        }
        Ok(())
    }

    /// A `logrotate` renamed or removed the file: what comes next belongs into a new one.
    fn reopen_if_moved(&mut self) -> io::Result<()> {
        match fs::metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == self.identity => Ok(()),
            Ok(_) => self.reopen(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.reopen(),
            Err(error) => Err(error),
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        let opened = Opened::at(&self.path)?;
        let old = std::mem::replace(&mut self.file, opened.file);
        if self.is_regular {
            self.unsynced.push(old);
        }
        self.unsynced.extend(opened.folder);
        self.identity = opened.identity;
        self.is_regular = opened.is_regular;
        self.length_bytes = opened.length_bytes;
        self.begun_at = opened.begun_at;
        Ok(())
    }

    fn named(&self, error: &io::Error) -> String {
        format!("{}: {error}", self.path.display())
    }
}

struct Opened {
    file: Arc<File>,
    identity: (u64, u64),
    is_regular: bool,
    length_bytes: u64,
    begun_at: Option<Timestamp>,
    /// To be synced, so that the file's name is on disk, too.
    folder: Option<Arc<File>>,
}

impl Opened {
    fn at(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        let found = file.metadata()?;
        let mut length_bytes = found.len();
        let begun_at = (length_bytes > 0).then(|| begun_at(&found));
        if length_bytes > 0 {
            let mut last = [0];
            file.read_exact_at(&mut last, length_bytes - 1)?;
            if last != [b'\n'] {
                // A crash tore the last line: it ends here, so that the next one is whole.
                file.write_all(b"\n")?;
                length_bytes += 1;
            }
        }
        let is_regular = found.is_file();
        let folder = File::open(folder_of(path)).ok().filter(|_| is_regular).map(Arc::new);
        let identity = (found.dev(), found.ino());
        Ok(Self { file: Arc::new(file), identity, is_regular, length_bytes, begun_at, folder })
    }
}

/// When the file was made, or last changed where the file system does not know.
fn begun_at(found: &fs::Metadata) -> Timestamp {
    let time = found.created().or_else(|_| found.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    Timestamp(0).plus(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// `20261122T101500Z`
fn stamp(now: Timestamp) -> String {
    let text = now.rfc3339();
    let seconds = text.split('.').next().unwrap_or(&text);
    seconds.chars().filter(|c| !matches!(c, '-' | ':')).chain(['Z']).collect()
}

/// How rotated files of one file are called.
struct Name {
    stem: String,
    extension: String,
}

impl Name {
    fn of(path: &Path) -> Self {
        let text =
            |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
        Self {
            stem: text(path.file_stem()).unwrap_or_default(),
            extension: text(path.extension()).unwrap_or_else(|| "jsonl".to_owned()),
        }
    }

    fn rotated(&self, stamp: &str, n: u32) -> String {
        format!("{}-{stamp}-{n}.{}", self.stem, self.extension)
    }

    /// Stamp and number of a rotated file's name.
    fn parse<'a>(&self, name: &'a str) -> Option<(&'a str, u32)> {
        let rest = name.strip_prefix(&self.stem)?.strip_prefix('-')?;
        let rest = rest.strip_suffix(&self.extension)?.strip_suffix('.')?;
        let (stamp, n) = rest.split_once('-')?;
        let is_stamp = stamp.len() == 16
            && stamp.bytes().enumerate().all(|(at, byte)| match at {
                8 => byte == b'T',
                15 => byte == b'Z',
                _ => byte.is_ascii_digit(),
            });
        let n = n.parse().ok().filter(|_| is_stamp)?;
        Some((stamp, n))
    }

    /// Removes the oldest rotated files until `keep` are left. What cannot be removed is logged: a
    /// file too many is no reason to stop.
    fn remove_oldest(&self, folder: &Path, keep: usize) {
        let names = fs::read_dir(folder).into_iter().flatten().flatten();
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        let mut rotated: Vec<String> = names.filter(|name| self.parse(name).is_some()).collect();
        rotated.sort_by(|a, b| self.parse(a).cmp(&self.parse(b)));
        let surplus = rotated.len().saturating_sub(keep);
        for name in &rotated[..surplus] {
            if let Err(error) = fs::remove_file(folder.join(name)) {
                tracing::warn!(file = name, %error, "rotated file not removed");
            }
        }
    }
}

#[cfg(test)]
mod tests;
