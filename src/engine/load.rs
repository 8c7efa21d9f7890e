//! From folders to plans, compiling only what changed since the last time.
//!
//! A file is compiled again when the modification time, length or inode of anything it was compiled
//! from changed. A look asks the disk about all of them: what a load finds never depends on what a
//! watcher saw. Hints only narrow a look, and only where each names something that is known; whoever
//! gives them looks everywhere now and then.
//!
//! What runs needs no texts: findings are rendered where they are found, and files that claim the same
//! name or path are compiled once more to say so.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    ffi::OsStr,
    io, mem,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::files::{FolderSources, Stamp, connector_files, in_shares, project_root, stamp, stamps};
use crate::{
    diagnostic::{Diagnostic, Severity, render_human},
    plan::{CompiledFile, ConnectorPlan, Levels, check_set, compile_file_with},
};

/// Where to look for changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// At every file.
    Everywhere,
    /// At these, named as [`connector_files`] names them, if all of them are known.
    At(BTreeSet<PathBuf>),
}

/// One connector file, as far as it is needed between loads.
struct Known {
    path: PathBuf,
    stamp: Stamp,
    /// What else it was compiled from, or looked for in vain.
    inputs: Box<[Arc<Path>]>,
    plan: Option<Arc<ConnectorPlan>>,
    /// Of a file without a plan: what it is called and the webhook paths it names.
    name: Option<Arc<str>>,
    routes: Box<[String]>,
    /// The first error.
    problem: Option<String>,
    /// Errors and warnings, rendered.
    findings: Box<[String]>,
}

/// Remembers what files compiled to between loads.
pub struct Loader {
    paths: Vec<PathBuf>,
    root: PathBuf,
    lints: Levels,
    /// By path, see [`in_order`].
    files: Vec<Known>,
    /// All that the files name besides themselves.
    inputs: HashMap<Arc<Path>, Stamp>,
    /// How many files the last look compiled, the rest being as they were.
    compiled: usize,
    /// What was found in those, rendered.
    news: Vec<String>,
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
    /// Errors and warnings, rendered, those of files that did not change included.
    pub diagnostics: Vec<String>,
    /// How many files were compiled, the rest being as they were.
    pub compiled: usize,
    /// Those of the diagnostics that nobody has been told of: what was found in the files that were
    /// compiled, and between files.
    pub news: Vec<String>,
}

impl Loader {
    /// Nothing is read yet. `lints` are the project's.
    pub fn new(paths: Vec<PathBuf>, lints: Levels) -> Self {
        let root = project_root(&paths);
        let (files, inputs, news) = (Vec::new(), HashMap::new(), Vec::new());
        Self { paths, root, lints, files, inputs, compiled: 0, news }
    }

    /// Reads and compiles what changed. Whether anything did. Blocks on the disk. Errors: a path
    /// that is not there, or a folder that cannot be read; what is known stays.
    pub fn look(&mut self, look: &Look) -> io::Result<bool> {
        let narrow = match look {
            Look::Everywhere => None,
            Look::At(hints) => self.changed_among(hints),
        };
        let (removed, stale) = match narrow {
            Some(stale) => (false, stale),
            None => self.changed()?,
        };
        self.compiled = stale.len();
        self.news.clear();
        if stale.is_empty() {
            return Ok(removed);
        }
        for (file, inputs) in self.compile_all(&stale) {
            let inputs = inputs.into_iter().map(|(path, stamp)| {
                let known = self.inputs.get_key_value(&*path).map(|(known, _)| Arc::clone(known));
                let path = known.unwrap_or_else(|| Arc::from(path));
                self.inputs.insert(Arc::clone(&path), stamp);
                path
            });
            self.news.extend_from_slice(&file.findings);
            self.files.push(Known { inputs: inputs.collect(), ..file });
        }
        // Two sorted runs, which this kind of sorting merges.
        self.files.sort_by(|a, b| in_order(&a.path).cmp(in_order(&b.path)));
        self.inputs.retain(|path, _| Arc::strong_count(path) > 1);
        Ok(true)
    }

    /// Looks everywhere: whether known files are gone, and what is to be compiled, in order and no
    /// longer among the known.
    fn changed(&mut self) -> io::Result<(bool, Vec<PathBuf>)> {
        let listed = connector_files(&self.paths)?;
        let stamps = stamps(&listed);
        let inputs = self.inputs.iter().filter(|(path, known)| stamp(path) != **known);
        let changed: HashSet<Arc<Path>> = inputs.map(|(path, _)| Arc::clone(path)).collect();
        let (mut removed, mut stale) = (false, Vec::new());
        let mut known = mem::take(&mut self.files).into_iter().peekable();
        for (path, stamp) in listed.into_iter().zip(stamps) {
            while known.next_if(|file| in_order(&file.path) < in_order(&path)).is_some() {
                removed = true;
            }
            match known.next_if(|file| file.path.as_os_str() == path.as_os_str()) {
                Some(file) if file.stamp == stamp && !file.uses(&changed) => self.files.push(file),
                _ => stale.push(path),
            }
        }
        removed |= known.next().is_some();
        Ok((removed, stale))
    }

    /// The same where hints tell all. `None`: one does not, such as that of a file that is new, gone
    /// or a link's target.
    fn changed_among(&mut self, hints: &BTreeSet<PathBuf>) -> Option<Vec<PathBuf>> {
        let (mut stale, mut changed) = (HashSet::new(), HashSet::new());
        for hint in hints {
            let now = stamp(hint);
            let file = self.files.binary_search_by(|file| in_order(&file.path).cmp(in_order(hint)));
            let input = self.inputs.get_key_value(&**hint);
            if file.is_ok() && now.is_none() || file.is_err() && input.is_none() {
                return None;
            }
            if file.is_ok_and(|at| self.files[at].stamp != now) {
                stale.insert(hint.as_os_str());
            }
            changed.extend(
                input.filter(|(_, known)| **known != now).map(|(path, _)| Arc::clone(path)),
            );
        }
        if stale.is_empty() && changed.is_empty() {
            return Some(Vec::new());
        }
        let is_stale = |f: &mut Known| stale.contains(f.path.as_os_str()) || f.uses(&changed);
        Some(self.files.extract_if(.., is_stale).map(|file| file.path).collect())
    }

    /// Tells what may run from what may not.
    pub fn loaded(&mut self) -> Loaded {
        let across = self.across();
        let mut conflicts: BTreeMap<&Path, &Diagnostic> = BTreeMap::new();
        for conflict in across.iter().filter(|d| d.severity == Severity::Error) {
            conflicts.entry(&conflict.span.file.path).or_insert(conflict);
        }
        let mut loaded = Loaded { compiled: self.compiled, ..Loaded::default() };
        let mut plans = Vec::with_capacity(self.files.len());
        for file in &self.files {
            let conflict = || conflicts.get(&*file.path).map(|conflict| headline(conflict));
            if let Some(problem) = file.problem.clone().or_else(conflict) {
                loaded.failed_names.extend(file.name().cloned());
                loaded.failed_files.insert(file.path.clone(), problem);
            } else if let Some(plan) = &file.plan {
                plans.push((Arc::clone(&plan.name), Arc::clone(plan)));
            }
            loaded.diagnostics.extend_from_slice(&file.findings);
        }
        loaded.plans = plans.into_iter().collect();
        // Of two files with one name the first may still be fine, and then it is no failure.
        loaded.failed_names.retain(|name| !loaded.plans.contains_key(name));
        let across = across.iter().map(rendered).collect::<Vec<_>>();
        loaded.news = mem::take(&mut self.news);
        loaded.news.extend_from_slice(&across);
        loaded.diagnostics.extend(across);
        loaded
    }

    fn compile(&self, path: &Path, sources: &FolderSources) -> CompiledFile {
        compile_file_with(&self.root, path, sources, &self.lints)
    }

    /// Compiles files, each with its inputs, which are yet to be known.
    fn compile_all(&self, paths: &[PathBuf]) -> Vec<(Known, Vec<(PathBuf, Stamp)>)> {
        const WORTH_A_THREAD: usize = 64;
        let sources = FolderSources::new();
        in_shares(paths, WORTH_A_THREAD, |path| {
            let file = self.compile(path, &sources);
            let inputs = file.inputs.iter().filter(|input| *input != path);
            let inputs = inputs.map(|input| (input.clone(), sources.stamp(input))).collect();
            (Known::new(path, sources.stamp(path), file), inputs)
        })
    }

    /// What only shows across files.
    fn across(&self) -> Vec<Diagnostic> {
        let files = self.files.iter().enumerate();
        let mut names: Vec<(&str, usize)> =
            files.clone().filter_map(|(at, file)| Some((&**file.name()?, at))).collect();
        let mut routes: Vec<(&str, usize)> =
            files.flat_map(|(at, file)| file.routes().map(move |route| (route, at))).collect();
        let mut disputed = BTreeSet::new();
        for claims in [&mut names, &mut routes] {
            claims.sort_unstable();
            for pair in claims.windows(2).filter(|p| p[0].0 == p[1].0 && p[0].1 != p[1].1) {
                disputed.extend([pair[0].1, pair[1].1]);
            }
        }
        let sources = FolderSources::new();
        let parties: Vec<CompiledFile> =
            disputed.into_iter().map(|at| self.compile(&self.files[at].path, &sources)).collect();
        check_set(&parties.iter().collect::<Vec<_>>())
    }
}

impl Known {
    fn new(path: &Path, stamp: Stamp, file: CompiledFile) -> Self {
        let CompiledFile { name, plan, routes, diagnostics, .. } = file;
        // Notices are for whoever writes the file: `check` has them.
        let findings = diagnostics.iter().filter(|found| found.severity > Severity::Notice);
        let mut errors = diagnostics.iter().filter(|found| found.severity == Severity::Error);
        // What a plan says need not be said twice.
        let apart = plan.is_none();
        Self {
            path: path.to_owned(),
            stamp,
            inputs: Box::default(),
            name: name.filter(|_| apart),
            routes: routes.into_iter().filter(|_| apart).map(|(route, _)| route).collect(),
            problem: errors.next().map(headline),
            findings: findings.map(rendered).collect(),
            plan,
        }
    }

    fn name(&self) -> Option<&Arc<str>> {
        self.plan.as_ref().map(|plan| &plan.name).or(self.name.as_ref())
    }

    fn routes(&self) -> impl Iterator<Item = &str> {
        let streams = self.plan.iter().flat_map(|plan| &plan.streams);
        let running = streams.filter_map(|stream| Some(stream.webhook.as_ref()?.path.as_str()));
        running.chain(self.routes.iter().map(String::as_str))
    }

    fn uses(&self, changed: &HashSet<Arc<Path>>) -> bool {
        !changed.is_empty() && self.inputs.iter().any(|input| changed.contains(input))
    }
}

/// What files are sorted by: bytes, which compare faster than paths do.
fn in_order(path: &Path) -> &OsStr {
    path.as_os_str()
}

fn rendered(diagnostic: &Diagnostic) -> String {
    render_human(std::slice::from_ref(diagnostic), false)
}

fn headline(diagnostic: &Diagnostic) -> String {
    format!("{}: {}", diagnostic.code.0, diagnostic.message)
}
