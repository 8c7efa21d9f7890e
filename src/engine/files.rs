//! Which files are connectors, and the only place that reads them.
//!
//! A folder is searched to its depths for `*.toml`. Left out are hidden files and folders (so also
//! the `..data` of a mounted `ConfigMap`, whose files are seen through their links), what editors
//! leave behind, `tenon.toml` and `Cargo.toml`, and the folders `target` and `verify` (presets are
//! named by connectors; they are none). A file that is named outright is always taken.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

use super::listing::{Listing, Stamp, Wanted, stamp, state_by};
use crate::{diagnostic::SourceFile, plan::Sources};

/// Larger files are not read: a connector is written by hand.
const MAX_FILE_BYTES: u64 = 8 << 20;
/// Deeper folders are not searched.
const MAX_DEPTH: usize = 32;

/// Every connector file under `paths`, sorted by the bytes of its name, each once, named as the user
/// would: the given path and what follows, see [`plain`]. Errors: a path that does not exist or a
/// folder that cannot be read.
pub fn connector_files(paths: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    files_of(paths, Wanted { is_file: is_connector_name, is_skipped: is_skipped_folder })
}

/// Every TOML file of a project under `paths`, as [`connector_files`] names them: the connectors, the
/// verify presets, and `tenon.toml`.
pub fn project_files(paths: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let is_file = |name: &str| name == "tenon.toml" || is_connector_name(name);
    let is_skipped = |name: &str| name != "verify" && is_skipped_folder(name);
    files_of(paths, Wanted { is_file, is_skipped })
}

fn files_of(paths: &[PathBuf], wanted: Wanted) -> io::Result<Vec<PathBuf>> {
    listed(paths, wanted).map(|(files, _)| files)
}

/// As [`connector_files`], and what tells later whether there would still be the same.
pub(super) fn listed_connectors(paths: &[PathBuf]) -> io::Result<(Vec<PathBuf>, Listing)> {
    listed(paths, Wanted { is_file: is_connector_name, is_skipped: is_skipped_folder })
}

fn listed(paths: &[PathBuf], wanted: Wanted) -> io::Result<(Vec<PathBuf>, Listing)> {
    let mut search =
        Search { listing: Listing::new(wanted), folders_seen: HashSet::new(), found: Vec::new() };
    for path in paths {
        let kind = fs::metadata(path).map_err(|error| naming(path, &error))?;
        if kind.is_dir() {
            search.folder(path, 0)?;
        } else {
            search.listing.name(path);
            search.found.push(path.clone());
        }
    }
    let Search { listing, found, .. } = search;
    let mut found: Vec<PathBuf> = found.into_iter().map(plain).collect();
    // Paths compare part by part, which is slow.
    found.sort_unstable_by(|a, b| a.as_os_str().cmp(b.as_os_str()));
    found.dedup();
    Ok((found, listing))
}

/// The path without a leading `./`.
pub fn plain(path: PathBuf) -> PathBuf {
    match path.strip_prefix(".") {
        Ok(rest) => rest.to_owned(),
        Err(_) => path,
    }
}

struct Search {
    listing: Listing,
    /// By device and inode: a link back up would be an endless search.
    folders_seen: HashSet<(u64, u64)>,
    found: Vec<PathBuf>,
}

impl Search {
    fn folder(&mut self, folder: &Path, depth: usize) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Ok(());
        }
        let (mut files, mut folders) = (Vec::new(), Vec::new());
        let entry = |name: &str, is_dir: bool| {
            let kind = if is_dir { &mut folders } else { &mut files };
            kind.push(folder.join(name));
        };
        let is = self.listing.read(folder, entry).map_err(|error| naming(folder, &error))?;
        if self.folders_seen.insert(is) {
            self.found.append(&mut files);
            folders.iter().try_for_each(|folder| self.folder(folder, depth + 1))?;
        }
        Ok(())
    }
}

fn is_skipped_folder(name: &str) -> bool {
    name.starts_with('.') || matches!(name, "target" | "verify" | "node_modules")
}

/// Whether a file of this name, found in a folder, is a connector. The watcher asks the same.
pub fn is_connector_name(name: &str) -> bool {
    // Ending in `.toml` already rules out `x.toml~`, `x.toml.swp` and `4913`.
    let is_toml = name.as_bytes().ends_with(b".toml");
    let is_leftover = name.starts_with('.') || name.starts_with('#') || name.starts_with('~');
    is_toml && !is_leftover && !matches!(name, "tenon.toml" | "Cargo.toml")
}

/// Whether a file of this path, relative to a folder that is searched, is a connector.
pub fn is_connector_path(path: &Path) -> bool {
    let mut names = path.iter().map(|name| name.to_str());
    let file = names.next_back().flatten();
    file.is_some_and(is_connector_name)
        && names.all(|name| name.is_some_and(|name| !is_skipped_folder(name)))
}

/// The folder that a project's names are relative to: the nearest ancestor of the first path that
/// holds `tenon.toml` or `.git`, otherwise the folder itself (of a file, the folder it lies in).
/// Named relative to the working directory where the given path is.
pub fn project_root(paths: &[PathBuf]) -> PathBuf {
    let Some(first) = paths.first() else {
        return PathBuf::from(".");
    };
    let folder = if first.is_dir() { first.as_path() } else { first.parent().unwrap_or(first) };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let marked =
        |folder: &Path| folder.join("tenon.toml").is_file() || folder.join(".git").exists();
    if let Some(near) = folder.ancestors().find(|near| !near.as_os_str().is_empty() && marked(near))
    {
        return near.to_path_buf();
    }
    // A relative path ends before the file system does.
    let beyond = fs::canonicalize(folder).ok();
    beyond
        .as_deref()
        .and_then(|whole| whole.ancestors().find(|near| marked(near)))
        .map_or_else(|| folder.to_path_buf(), Path::to_path_buf)
}

fn naming(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Maps what is independent of its neighbours, in order, on as many threads as there are processors
/// but with no fewer than `share` for each.
pub fn in_shares<T: Sync, U: Send>(
    items: &[T],
    share: usize,
    work: impl Fn(&T) -> U + Sync,
) -> Vec<U> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = items.len().div_ceil(threads).max(share);
    let work = |items: &[T]| items.iter().map(&work).collect::<Vec<U>>();
    if items.len() <= share {
        return work(items);
    }
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            items.chunks(share).map(|chunk| scope.spawn(|| work(chunk))).collect();
        workers.into_iter().flat_map(|w| w.join().expect("the work does not panic")).collect()
    })
}

/// Files as they are on disk now. A file is read once: all that one load compiles sees the same
/// text of it, even where somebody saves meanwhile. Make a new one for each load.
#[derive(Debug, Default)]
pub struct FolderSources {
    read: Mutex<HashMap<PathBuf, Seen>>,
}

/// A file's state just before it was read, and what was read.
type Seen = (Stamp, Option<Arc<SourceFile>>);

impl FolderSources {
    /// Nothing is read yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The state of a file just before it was read; of one that was not, its state now.
    pub fn stamp(&self, path: &Path) -> Stamp {
        let read = self.read.lock().get(path).map(|(stamp, _)| *stamp);
        read.unwrap_or_else(|| stamp(path))
    }
}

impl Sources for FolderSources {
    /// `None` where there is no such file, where it is larger than 8 MiB, or is not UTF-8.
    fn read(&self, path: &Path) -> Option<Arc<SourceFile>> {
        if let Some((_, known)) = self.read.lock().get(path) {
            return known.clone();
        }
        let metadata = fs::metadata(path).ok();
        let text = metadata.as_ref().and_then(|metadata| read_text(path, metadata));
        let file = text.map(|text| Arc::new(SourceFile { path: path.to_owned(), text }));
        let stamp = metadata.as_ref().map(state_by);
        // Of two that read it at once the first one's text is everybody's.
        self.read.lock().entry(path.to_owned()).or_insert((stamp, file)).1.clone()
    }

    /// Asks the disk, and reads nothing.
    fn exists(&self, path: &Path) -> bool {
        path.is_file()
    }
}

fn read_text(path: &Path, metadata: &fs::Metadata) -> Option<String> {
    if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
        return None;
    }
    fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, "x = 1\n").expect("written");
    }

    #[test]
    fn finds_connectors_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let left_out = [
            ".hidden.toml",
            ".git/config.toml",
            "a.toml~",
            ".#a.toml",
            "#a.toml#",
            "a.toml.swp",
            "tenon.toml",
            "Cargo.toml",
            "notes.md",
            "verify/acme.toml",
            "target/x.toml",
            "..data/c.toml",
        ];
        for name in ["b.toml", "a.toml", "eu/deep/c.toml"].iter().chain(&left_out) {
            write(folder.path(), name);
        }
        let found = connector_files(&[folder.path().to_owned()]).expect("found");
        let names: Vec<_> = found
            .iter()
            .map(|path| path.strip_prefix(folder.path()).expect("inside").display().to_string())
            .collect();
        assert_eq!(names, ["a.toml", "b.toml", "eu/deep/c.toml"]);
    }

    #[test]
    fn a_path_tells_as_much_as_a_search() {
        for (path, is_connector) in [
            ("a.toml", true),
            ("eu/deep/c.toml", true),
            ("eu/.hidden/c.toml", false),
            ("integrations/verify/acme.toml", false),
            ("tenon.toml", false),
            ("notes.md", false),
            ("", false),
        ] {
            assert_eq!(is_connector_path(Path::new(path)), is_connector, "{path}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn follows_links_once() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), "..2026/shop.toml");
        std::os::unix::fs::symlink("..2026", folder.path().join("..data")).expect("linked");
        std::os::unix::fs::symlink("..data/shop.toml", folder.path().join("shop.toml"))
            .expect("linked");
        std::os::unix::fs::symlink(".", folder.path().join("loop")).expect("linked");
        let found = connector_files(&[folder.path().to_owned()]).expect("found");
        assert_eq!(found, [folder.path().join("shop.toml")]);
    }

    #[test]
    fn a_named_file_is_taken_whatever_its_name_and_a_missing_path_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), ".draft.toml");
        let draft = folder.path().join(".draft.toml");
        assert_eq!(connector_files(std::slice::from_ref(&draft)).expect("found"), [draft]);
        let missing = folder.path().join("nowhere");
        let error = connector_files(std::slice::from_ref(&missing)).expect_err("missing");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().starts_with(&missing.display().to_string()));
    }

    #[test]
    fn the_root_is_the_marked_ancestor_or_the_folder_itself() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), "project/connectors/a.toml");
        let project = folder.path().join("project");
        let connectors = project.join("connectors");
        assert_eq!(project_root(std::slice::from_ref(&connectors)), connectors);
        assert_eq!(project_root(&[connectors.join("a.toml")]), connectors);
        write(&project, "tenon.toml");
        assert_eq!(project_root(std::slice::from_ref(&connectors)), project);
    }

    #[test]
    fn one_load_sees_one_text() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), "a.toml");
        let path = folder.path().join("a.toml");
        let sources = FolderSources::new();
        let before = sources.read(&path).expect("read");
        fs::write(&path, "x = 2\n").expect("written");
        assert_eq!(sources.read(&path), Some(before));
        assert_eq!(FolderSources::new().read(&path).expect("read").text, "x = 2\n");
        fs::write(&path, [0xff, 0xfe]).expect("written");
        assert_eq!(FolderSources::new().read(&path), None);
    }
}
