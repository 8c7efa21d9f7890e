//! The state folder: one process at a time, for its owner only, in a version that is known.
//!
//! ```text
//! FORMAT       tenon-state 3
//! LOCK         held by the process that uses the folder
//! journal/     events and settlements, one file a segment
//! dead/        dead letters, the same
//! index/       sled: checkpoints; can be rebuilt from the journal
//! quarantine/  damaged bytes, copied as they were found
//! versions/    the engine's: connectors as they ran, for a rollback
//! ```

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::format::FORMAT_VERSION;

const FORMAT_NAME: &str = "tenon-state";

/// Why a state folder was not opened.
#[derive(Debug)]
pub enum OpenError {
    /// Another process uses it.
    Locked(PathBuf),
    /// It was written by a version that this one does not know.
    Format {
        /// The folder's `FORMAT` file.
        path: PathBuf,
        /// What stands in it.
        found: String,
        /// What this version writes.
        known: String,
    },
    /// The disk refused.
    Io {
        /// What was tried.
        what: String,
        /// What came back.
        error: io::Error,
    },
    /// sled did not open even anew.
    Index(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked(path) => {
                write!(f, "the state folder {} is used by another process", path.display())
            }
            Self::Format { path, found, known } => write!(
                f,
                "{} says `{found}`, this version knows `{known}`: use the tenon that wrote it",
                path.display()
            ),
            Self::Io { what, error } => write!(f, "{what}: {error}"),
            Self::Index(why) => write!(f, "the index of the state folder does not open: {why}"),
        }
    }
}

impl std::error::Error for OpenError {}

/// Names what was tried in an error.
pub(super) fn trying(what: impl fmt::Display) -> impl FnOnce(io::Error) -> OpenError {
    move |error| OpenError::Io { what: what.to_string(), error }
}

/// A state folder that is ours until this is dropped.
pub(super) struct Folder {
    pub path: PathBuf,
    _lock: File,
}

impl Folder {
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    pub fn dead(&self) -> PathBuf {
        self.path.join("dead")
    }

    pub fn index(&self) -> PathBuf {
        self.path.join("index")
    }

    pub fn quarantine(&self) -> PathBuf {
        self.path.join("quarantine")
    }

    /// Opens a folder that must be there.
    pub fn open_existing(path: &Path) -> Result<Self, OpenError> {
        let format = path.join("FORMAT");
        fs::metadata(&format).map_err(trying(format!("looking for {}", format.display())))?;
        Self::lock(path)
    }

    /// Makes the folder where there is none, locks it, and makes one of an earlier version one of this
    /// version: from now on records are written to it that an earlier program cannot read.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let folder = Self::lock(path)?;
        let format = path.join("FORMAT");
        let known = format!("{FORMAT_NAME} {FORMAT_VERSION}");
        if fs::read_to_string(&format).is_ok_and(|text| text.trim() == known) {
            return Ok(folder);
        }
        write_format(path, &format, &known)
            .map_err(trying(format!("writing {}", format.display())))?;
        Ok(folder)
    }

    /// Makes the folder where there is none, locks it and checks its version.
    fn lock(path: &Path) -> Result<Self, OpenError> {
        let shown = path.display();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o700)))
            .map_err(trying(format!("making the state folder {shown}")))?;
        let lock_path = path.join("LOCK");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(trying(format!("opening {}", lock_path.display())))?;
        match lock_within(&lock, LOCK_WITHIN) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked(path.to_owned())),
            Err(TryLockError::Error(error)) => {
                return Err(trying(format!("locking {}", lock_path.display()))(error));
            }
        }
        check_format(path)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }
}

/// How long a lock may take that its holder is about to let go of: a daemon on its way out, or a
/// process that was being started while the lock was held and has not become another program yet.
const LOCK_WITHIN: Duration = Duration::from_secs(1);

fn lock_within(lock: &File, within: Duration) -> Result<(), TryLockError> {
    const PAUSE: Duration = Duration::from_millis(20);
    let deadline = Instant::now() + within;
    loop {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            ended => return ended,
        }
    }
}

/// Whether what is there can be read: nothing yet, or this version, or an earlier one.
fn check_format(folder: &Path) -> Result<(), OpenError> {
    let path = folder.join("FORMAT");
    let known = format!("{FORMAT_NAME} {FORMAT_VERSION}");
    match fs::read_to_string(&path) {
        Ok(text) if version_of(&text).is_some_and(|it| (1..=FORMAT_VERSION).contains(&it)) => {
            Ok(())
        }
        Ok(text) => Err(OpenError::Format { path, found: text.trim().to_owned(), known }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(trying(format!("reading {}", path.display()))(error)),
    }
}

fn version_of(text: &str) -> Option<u16> {
    text.trim().strip_prefix(FORMAT_NAME)?.trim_start().parse().ok()
}

fn write_format(folder: &Path, path: &Path, text: &str) -> io::Result<()> {
    let beside = folder.join("FORMAT.new");
    let mut file =
        OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&beside)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_user_and_a_version() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("state");
        let folder = Folder::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(matches!(Folder::open(&path), Err(OpenError::Locked(_))));
        drop(folder);
        fs::write(path.join("FORMAT"), "tenon-state 4\n").unwrap();
        let refused = Folder::open(&path).map(drop).unwrap_err().to_string();
        assert!(refused.ends_with(
            "says `tenon-state 4`, this version knows `tenon-state 3`: use the tenon that wrote it"
        ));
        // One of an earlier version is read, and becomes one of this version before it is written to.
        fs::write(path.join("FORMAT"), "tenon-state 1\n").unwrap();
        drop(Folder::open_existing(&path).unwrap());
        let format = || fs::read_to_string(path.join("FORMAT")).unwrap();
        assert_eq!(format(), "tenon-state 1\n");
        drop(Folder::open(&path).unwrap());
        assert_eq!(format(), "tenon-state 3\n");
    }
}
