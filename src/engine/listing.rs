//! Whether folders and files are as they were, asked for cheaply: a reload asks about all of them
//! and finds that hardly any changed.
//!
//! Of a folder it is remembered what its listing comes to, so that one that is still the same is
//! read and neither named nor sorted again. A file is asked for by its name within its folder, which
//! spares the kernel the way to it.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};

use rustix::fs::{AtFlags, Dir, FileType, Stat, stat, statat};
use xxhash_rust::xxh3::Xxh3;

/// What a search looks for, by the names of files and folders.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub is_file: fn(&str) -> bool,
    pub is_skipped: fn(&str) -> bool,
}

/// What a search came across.
pub(super) struct Listing {
    wanted: Wanted,
    /// Every folder that was read, and what its listing comes to.
    folders: Vec<(PathBuf, Sum)>,
    /// What was named outright and is no folder.
    named: Vec<PathBuf>,
    /// Something that was read leads elsewhere.
    has_links: bool,
}

/// Of all that counts of a folder: which folder it is, and its entries in the order of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sum(u128);

impl Listing {
    /// Nothing yet.
    pub fn new(wanted: Wanted) -> Self {
        Self { wanted, folders: Vec::new(), named: Vec::new(), has_links: false }
    }

    /// Notes what was named and is no folder.
    pub fn name(&mut self, path: &Path) {
        self.named.push(path.to_owned());
    }

    /// Reads a folder and tells its entries: the name, and whether it is a folder. Which folder it
    /// is, by device and inode.
    pub fn read(
        &mut self,
        folder: &Path,
        mut tell: impl FnMut(&str, bool),
    ) -> io::Result<(u64, u64)> {
        let Listed { is, sum, has_links } =
            list(folder, self.wanted, |name, is_dir| tell(name, is_dir))?;
        self.folders.push((folder.to_owned(), sum));
        self.has_links |= has_links;
        Ok(is)
    }

    /// Whether a place has no part in what is searched for: neither a file or folder that counts, nor
    /// what a link may lead to. What was named outright may be a link, and what it uses others that
    /// nobody came across.
    pub fn is_foreign(&self, path: &Path) -> bool {
        let name = path.file_name().and_then(OsStr::to_str);
        let counts = name.is_some_and(self.wanted.is_file);
        // What is gone may have been a folder; whether it was one of these is known.
        let is_or_was_file = match fs::symlink_metadata(path) {
            Ok(seen) => seen.is_file(),
            Err(error) => {
                // Places are told as `plain` names them.
                let named =
                    |folder: &Path| folder.strip_prefix(".").unwrap_or(folder).starts_with(path);
                error.kind() == io::ErrorKind::NotFound
                    && !self.folders.iter().any(|(folder, _)| named(folder))
            }
        };
        self.named.is_empty() && !self.has_links && !counts && is_or_was_file
    }

    /// Whether another search would come across the same.
    fn is_current(&self) -> bool {
        let is_file = |path: &PathBuf| fs::metadata(path).is_ok_and(|known| !known.is_dir());
        let is_same = |(folder, known): &(PathBuf, Sum)| {
            list(folder, self.wanted, |_, _| {}).is_ok_and(|listed| listed.sum == *known)
        };
        self.named.iter().all(is_file) && self.folders.iter().all(is_same)
    }
}

/// Of a folder that was read.
struct Listed {
    /// Which it is, by device and inode.
    is: (u64, u64),
    sum: Sum,
    has_links: bool,
}

fn list(folder: &Path, wanted: Wanted, mut tell: impl FnMut(&str, bool)) -> io::Result<Listed> {
    let open = File::open(folder)?;
    let is = open.metadata()?;
    let is = (is.dev(), is.ino());
    let mut sum = Xxh3::new();
    sum.update(&is.0.to_le_bytes());
    sum.update(&is.1.to_le_bytes());
    let (mut line, mut has_links) = (Vec::with_capacity(64), false);
    for entry in Dir::read_from(&open)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        let is_dir = match entry.file_type() {
            FileType::Directory => true,
            // Links, and file systems whose listings do not say. What vanished between listing and
            // looking is an editor at work, not an error.
            FileType::Symlink | FileType::Unknown => {
                has_links = true;
                let Ok(seen) = statat(&open, name, AtFlags::empty()) else { continue };
                FileType::from_raw_mode(seen.st_mode) == FileType::Directory
            }
            _ => false,
        };
        let counts = if is_dir { !(wanted.is_skipped)(name) } else { (wanted.is_file)(name) };
        if counts {
            line.clear();
            line.extend_from_slice(name.as_bytes());
            line.extend_from_slice(&[0, u8::from(is_dir)]);
            sum.update(&line);
            tell(name, is_dir);
        }
    }
    Ok(Listed { is, sum: Sum(sum.digest128()), has_links })
}

/// What tells one state of a file from another without reading it. `None`: there is no file.
pub type Stamp = Option<State>;

/// Modification time (seconds and nanoseconds), length and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    modified: (i64, u32),
    len: u64,
    inode: u64,
}

/// The file's state now.
pub fn stamp(path: &Path) -> Stamp {
    Some(state_of(&stat(path).ok()?))
}

#[allow(clippy::unnecessary_cast)] // The types differ from platform to platform.
fn state_of(seen: &Stat) -> State {
    let modified = (seen.st_mtime as i64, seen.st_mtime_nsec as u32);
    State { modified, len: seen.st_size as u64, inode: seen.st_ino as u64 }
}

/// The state of a file that is open, or was just asked for.
pub(super) fn state_by(metadata: &fs::Metadata) -> State {
    let modified = (metadata.mtime(), metadata.mtime_nsec() as u32);
    State { modified, len: metadata.size(), inode: metadata.ino() }
}

/// Asks for files of one folder after the other.
#[derive(Default)]
struct Asker {
    folder: PathBuf,
    open: Option<File>,
}

impl Asker {
    fn stamp(&mut self, path: &Path) -> Stamp {
        let text = path.as_os_str().as_bytes();
        let Some(cut) = text.iter().rposition(|byte| *byte == b'/') else { return stamp(path) };
        let (folder, name) = (&text[..cut], &text[cut + 1..]);
        if self.open.is_none() || self.folder.as_os_str().as_bytes() != folder {
            Path::new(OsStr::from_bytes(folder)).clone_into(&mut self.folder);
            self.open = File::open(&self.folder).ok();
        }
        match &self.open {
            Some(open) => Some(state_of(&statat(open, name, AtFlags::empty()).ok()?)),
            // Folders that may be passed through and not read.
            None => stamp(path),
        }
    }
}

/// What a look at all that is known found.
pub(super) struct Looked {
    /// Whether the folders have these files and no others.
    pub is_current: bool,
    /// The files that are not as they were, by their position.
    pub stale: Vec<usize>,
}

/// Looks at folders and files, on as many threads as there are processors where that is worth it.
/// Files of one folder should follow each other.
pub(super) fn look<T: Sync>(
    listing: &Listing,
    files: &[T],
    known: impl Fn(&T) -> (&Path, Stamp) + Sync,
) -> Looked {
    const SHARE: usize = 256;
    const WORTH_A_THREAD: usize = 1024;
    let next = AtomicUsize::new(0);
    let work = || {
        let (mut asker, mut stale) = (Asker::default(), Vec::new());
        loop {
            let from = next.fetch_add(SHARE, Relaxed);
            let Some(share) = files.get(from..).filter(|rest| !rest.is_empty()) else {
                return stale;
            };
            for (at, file) in share.iter().take(SHARE).enumerate() {
                let (path, before) = known(file);
                if asker.stamp(path) != before {
                    stale.push(from + at);
                }
            }
        }
    };
    let threads = match files.len() {
        few if few < WORTH_A_THREAD => 1,
        _ => thread::available_parallelism().map_or(1, usize::from),
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let is_current = listing.is_current();
        let mut stale = work();
        for other in others {
            stale.extend(other.join().expect("the work does not panic"));
        }
        stale.sort_unstable();
        Looked { is_current, stale }
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const TOML: Wanted = Wanted {
        is_file: |name| name.as_bytes().ends_with(b".toml"),
        is_skipped: |name| name.starts_with('.'),
    };

    struct Files {
        folder: tempfile::TempDir,
        listing: Listing,
        paths: Vec<PathBuf>,
        stamps: Vec<Stamp>,
    }

    impl Files {
        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        /// As many files as are shared between threads, and a folder within.
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let inner = folder.path().join("inner");
            fs::create_dir(&inner).expect("made");
            let mut paths: Vec<_> =
                (0..1500).map(|n| folder.path().join(format!("{n:04}.toml"))).collect();
            paths.push(inner.join("a.toml"));
            for path in &paths {
                fs::write(path, "x = 1\n").expect("written");
            }
            let stamps = paths.iter().map(|path| stamp(path)).collect();
            let mut listing = Listing::new(TOML);
            listing.read(folder.path(), |_, _| {}).expect("read");
            listing.read(&inner, |_, _| {}).expect("read");
            Self { folder, listing, paths, stamps }
        }

        fn look(&self) -> (bool, Vec<usize>) {
            let files: Vec<_> = self.paths.iter().zip(&self.stamps).collect();
            let looked = look(&self.listing, &files, |(path, stamp)| (path.as_path(), **stamp));
            (looked.is_current, looked.stale)
        }
    }

    #[test]
    fn what_did_not_change_is_the_same_and_what_changed_is_found() {
        let files = Files::new();
        assert_eq!(files.look(), (true, vec![]));
        fs::write(files.path("notes.md"), "of no interest").expect("written");
        assert_eq!(files.look(), (true, vec![]));

        fs::write(files.path("0700.toml"), "x = 23\n").expect("written");
        fs::write(files.path("inner/a.toml"), "x = 23\n").expect("written");
        assert_eq!(files.look(), (true, vec![700, 1500]));
        fs::remove_file(files.path("0001.toml")).expect("removed");
        assert_eq!(files.look(), (false, vec![1, 700, 1500]));
    }

    #[test]
    fn an_entry_that_comes_goes_or_becomes_something_else_is_found() {
        let files = Files::new();
        for (come, go) in [("new.toml", true), ("inner/new.toml", true), ("inner/deep", false)] {
            let path = files.path(come);
            if go {
                fs::write(&path, "").expect("written");
                assert!(!files.look().0, "{come}");
                fs::remove_file(&path).expect("removed");
            } else {
                fs::create_dir(&path).expect("made");
                assert!(!files.look().0, "{come}");
                fs::remove_dir(&path).expect("removed");
            }
            assert!(files.look().0, "{come}");
        }
        fs::rename(files.path("0002.toml"), files.path("0002.tomx")).expect("renamed");
        symlink("0001.toml", files.path("0002.toml")).expect("linked");
        assert_eq!(files.look().1, [2], "a file, by another way");
        fs::remove_file(files.path("0002.toml")).expect("removed");
        symlink("inner", files.path("0002.toml")).expect("linked");
        assert!(!files.look().0, "a folder");
    }

    #[test]
    fn another_folder_of_the_same_name_is_another() {
        let files = Files::new();
        fs::rename(files.path("inner"), files.path(".before")).expect("renamed");
        fs::create_dir(files.path("inner")).expect("made");
        fs::write(files.path("inner/a.toml"), "x = 1\n").expect("written");
        assert_eq!(files.look(), (false, vec![1500]));
    }

    #[test]
    fn what_editors_leave_behind_is_foreign_and_what_may_lead_here_is_not() {
        let mut files = Files::new();
        let is_foreign = |files: &Files, name: &str| files.listing.is_foreign(&files.path(name));
        fs::write(files.path(".0001.toml.swp"), "").expect("written");
        fs::create_dir(files.path("folder")).expect("made");
        for (name, foreign) in [
            (".0001.toml.swp", true),
            ("4913", true),
            ("gone.txt", true),
            ("gone.toml", false),
            ("folder", false),
            ("inner", false),
        ] {
            assert_eq!(is_foreign(&files, name), foreign, "{name}");
        }
        fs::rename(files.path("inner"), files.path("outer")).expect("renamed");
        assert!(!is_foreign(&files, "inner"), "a folder that had files");
        files.listing.folders.push((PathBuf::from("./not-here"), Sum(0)));
        assert!(!files.listing.is_foreign(Path::new("not-here")), "the same, otherwise named");
        symlink("4913", files.path("0000.toml.link")).expect("linked");
        files.listing.read(files.folder.path(), |_, _| {}).expect("read");
        assert!(!is_foreign(&files, "4913"), "a link may lead to it");
    }

    #[test]
    fn what_is_named_outright_has_to_be_a_file() {
        let mut files = Files::new();
        let named = files.path("named.toml");
        files.listing.name(&named);
        assert!(!files.look().0);
        fs::create_dir(&named).expect("made");
        files.listing.folders.clear();
        assert!(!files.look().0);
        fs::remove_dir(&named).expect("removed");
        fs::write(&named, "").expect("written");
        assert!(files.look().0);
    }

    #[test]
    fn a_state_is_the_same_by_whatever_way_it_is_asked_for() {
        let files = Files::new();
        let path = &files.paths[3];
        let metadata = fs::metadata(path).expect("there");
        assert_eq!(stamp(path), Some(state_by(&metadata)));
        assert_eq!(Asker::default().stamp(path), stamp(path));
        assert_eq!(Asker::default().stamp(Path::new("/")), stamp(Path::new("/")));
        assert_eq!(Asker::default().stamp(Path::new("nowhere")), None);
    }
}
