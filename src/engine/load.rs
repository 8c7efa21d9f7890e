//! From folders to compiled files, compiling only what changed since the last time.
//!
//! A file is looked at again when the modification time, length or inode of anything it was
//! compiled from changed. A load is a hint-free re-scan: it never depends on what a watcher saw.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use super::files::{FolderSources, connector_files, project_root};
use crate::{
    diagnostic::{Diagnostic, Severity},
    plan::{CompiledFile, ConnectorPlan, Levels, check_set, compile_file_with},
};

/// What tells one state of a file from another without reading it.
type Stamp = Option<(SystemTime, u64, u64)>;

struct Cached {
    file: CompiledFile,
    stamps: Vec<(PathBuf, Stamp)>,
}

/// Remembers compiled files between loads.
pub struct Loader {
    paths: Vec<PathBuf>,
    root: PathBuf,
    lints: Levels,
    cache: HashMap<PathBuf, Cached>,
}

/// What a load found.
#[derive(Default)]
pub struct Loaded {
    /// Connectors that can run, by name.
    pub plans: BTreeMap<Arc<str>, Arc<ConnectorPlan>>,
    /// Names of connectors whose file does not compile.
    pub failed_names: BTreeSet<Arc<str>>,
    /// Files that do not compile, with the first problem of each.
    pub failed_files: BTreeMap<PathBuf, String>,
    /// Everything that was found, files that did not change included.
    pub diagnostics: Vec<Diagnostic>,
    /// How many files were compiled, the rest being as they were.
    pub compiled: usize,
}

impl Loader {
    /// Nothing is read yet. `lints` are the project's.
    pub fn new(paths: Vec<PathBuf>, lints: Levels) -> Self {
        let root = project_root(&paths);
        Self { paths, root, lints, cache: HashMap::new() }
    }

    /// Reads and compiles what changed. Blocks on the disk.
    pub fn load(&mut self) -> io::Result<Loaded> {
        let paths = connector_files(&self.paths)?;
        let mut stamps = HashMap::new();
        let changed: Vec<&PathBuf> =
            paths.iter().filter(|path| !self.is_fresh(path, &mut stamps)).collect();
        let compiled = changed.len();
        for mut file in compile_all(&self.root, &self.lints, &changed) {
            let inputs = std::mem::take(&mut file.inputs);
            let stamps = inputs.into_iter().map(|p| (p.clone(), stamp(&p))).collect();
            file.secrets = Vec::new();
            // Notices are for whoever writes the file: `check` has them.
            file.diagnostics.retain(|found| found.severity > Severity::Notice);
            self.cache.insert(file.path.clone(), Cached { file, stamps });
        }
        let present: BTreeSet<&PathBuf> = paths.iter().collect();
        self.cache.retain(|path, _| present.contains(path));
        let files: Vec<&CompiledFile> =
            paths.iter().filter_map(|p| self.cache.get(p)).map(|c| &c.file).collect();
        Ok(Loaded { compiled, ..gather(&files) })
    }

    /// Whether a load would find something new. Blocks on the disk.
    pub fn is_stale(&self) -> bool {
        let Ok(paths) = connector_files(&self.paths) else {
            return true;
        };
        let mut stamps = HashMap::new();
        paths.len() != self.cache.len() || paths.iter().any(|p| !self.is_fresh(p, &mut stamps))
    }

    fn is_fresh(&self, path: &Path, seen: &mut HashMap<PathBuf, Stamp>) -> bool {
        self.cache.get(path).is_some_and(|cached| {
            cached.stamps.iter().all(|(input, known)| {
                known == seen.entry(input.clone()).or_insert_with(|| stamp(input))
            })
        })
    }
}

fn stamp(path: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

/// Compiles files on as many threads as there are processors: compiling is pure.
fn compile_all(root: &Path, lints: &Levels, paths: &[&PathBuf]) -> Vec<CompiledFile> {
    const WORTH_A_THREAD: usize = 64;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = paths.len().div_ceil(threads).max(WORTH_A_THREAD);
    let compile = |paths: &[&PathBuf]| {
        let sources = FolderSources::new();
        let compiled = paths.iter().map(|path| compile_file_with(root, path, &sources, lints));
        compiled.collect::<Vec<_>>()
    };
    if paths.len() <= share {
        return compile(paths);
    }
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            paths.chunks(share).map(|chunk| scope.spawn(move || compile(chunk))).collect();
        workers.into_iter().flat_map(|w| w.join().expect("compiling does not panic")).collect()
    })
}

/// Tells what may run from what may not.
fn gather(files: &[&CompiledFile]) -> Loaded {
    let mut loaded = Loaded::default();
    let across = check_set(files);
    let in_conflict: BTreeSet<&Path> = across
        .iter()
        .filter(|d| d.severity == Severity::Error)
        .map(|d| d.span.file.path.as_path())
        .collect();
    for file in files {
        let own = file.diagnostics.iter().find(|d| d.severity == Severity::Error);
        let conflict =
            across.iter().find(|d| d.severity == Severity::Error && d.span.file.path == file.path);
        if let Some(problem) = own.or(conflict) {
            loaded.failed_names.extend(file.name.clone());
            let problem = format!("{}: {}", problem.code.0, problem.message);
            loaded.failed_files.insert(file.path.clone(), problem);
        } else if let Some(plan) = &file.plan
            && !in_conflict.contains(file.path.as_path())
        {
            loaded.plans.insert(Arc::clone(&plan.name), Arc::clone(plan));
        }
        loaded.diagnostics.extend(file.diagnostics.iter().cloned());
    }
    // Of two files with one name the first may still be fine, and then it is no failure.
    loaded.failed_names.retain(|name| !loaded.plans.contains_key(name));
    loaded.diagnostics.extend(across);
    loaded
}
