//! From folders to plans, compiling only what changed since the last time.
//!
//! A file is compiled again when the modification time, length or inode of anything it was compiled
//! from changed. A look asks the disk about all of them: what a load finds never depends on what a
//! watcher saw. Hints only narrow a look, and only where each names something that is known, or what
//! an editor left behind; whoever gives them looks everywhere now and then.
//!
//! What a load gives is what became different since the last one that was applied, so that a changed
//! file costs what it costs and not what the others would.
//!
//! What runs needs no texts: findings are rendered where they are found, and files that claim the same
//! name or path are compiled once more to say so.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    ffi::OsStr,
    io, iter, mem,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    claims::{Claim, Claims},
    files::{FolderSources, in_shares, listed_connectors, project_root},
    listing::{self, Listing, Looked, Stamp, stamp},
    rollout::CompiledFrom,
};
use crate::{
    diagnostic::{Diagnostic, Severity, nearest, render_human},
    plan::{CompiledFile, ConnectorPlan, Levels, Sources as _, check_set, compile_file_with},
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
    path: Box<Path>,
    stamp: Stamp,
    /// What else it was compiled from, or looked for in vain.
    inputs: Box<[Arc<Path>]>,
    plan: Option<Arc<ConnectorPlan>>,
    /// What keeps it from running.
    trouble: Option<Box<Trouble>>,
    /// Errors and warnings, rendered.
    findings: Box<[String]>,
    /// It was compiled, and nobody has applied what came of it.
    is_fresh: bool,
}

/// Of a file that gives no plan.
struct Trouble {
    /// The first error.
    problem: Option<String>,
    /// What it is called, and the webhook paths that it names.
    name: Option<Arc<str>>,
    routes: Vec<String>,
    /// Whose variant it is; a variant claims no path.
    variant_of: Option<Arc<str>>,
    is_variant: bool,
    /// What it was called when it last gave a plan.
    before: Option<Arc<str>>,
}

/// Remembers what files compiled to between loads.
pub struct Loader {
    paths: Vec<PathBuf>,
    root: PathBuf,
    lints: Levels,
    /// The folders as they were when `files` were found.
    listing: Option<Listing>,
    /// By path, see [`in_order`].
    files: Vec<Known>,
    /// All that the files name besides themselves.
    inputs: HashMap<Arc<Path>, Stamp>,
    claims: Claims,
    /// Files that claim what another one does, as of the last load.
    disputed: BTreeSet<Box<Path>>,
    /// Names that files had, before they went or changed, since a load was applied.
    gone: BTreeSet<Arc<str>>,
    /// How many files the last look compiled, the rest being as they were.
    compiled: usize,
    /// What was found in those, rendered.
    news: Vec<String>,
    /// The texts of those that compiled, by name, until somebody takes them; not where they are many,
    /// which are better read again one by one.
    fresh: HashMap<Arc<str>, CompiledFrom>,
}

/// What a load found.
#[derive(Default)]
pub struct Loaded {
    /// Connectors that can run, by name: those whose files changed since a load was applied.
    pub plans: BTreeMap<Arc<str>, Arc<ConnectorPlan>>,
    /// Names that files had since a load was applied and that have no plan now.
    pub gone: BTreeSet<Arc<str>>,
    /// Names of connectors whose file does not compile.
    pub failed_names: BTreeSet<Arc<str>>,
    /// Files that do not compile.
    pub failed_files: BTreeMap<PathBuf, Failed>,
    /// Errors and warnings, rendered, those of files that did not change included.
    pub diagnostics: Vec<String>,
    /// How many files were compiled, the rest being as they were.
    pub compiled: usize,
    /// Those of the diagnostics that nobody has been told of: what was found in the files that were
    /// compiled, and between files.
    pub news: Vec<String>,
}

/// A file that does not compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The first problem.
    pub problem: String,
    /// What it was called when it last gave a plan.
    pub before: Option<Arc<str>>,
}

impl Loader {
    /// Nothing is read yet. `lints` are the project's.
    pub fn new(paths: Vec<PathBuf>, lints: Levels) -> Self {
        Self {
            root: project_root(&paths),
            paths,
            lints,
            listing: None,
            files: Vec::new(),
            inputs: HashMap::new(),
            claims: Claims::default(),
            disputed: BTreeSet::new(),
            gone: BTreeSet::new(),
            compiled: 0,
            news: Vec::new(),
            fresh: HashMap::new(),
        }
    }

    /// What the files say now that compile.
    pub fn plans(&self) -> impl Iterator<Item = &Arc<ConnectorPlan>> {
        self.files.iter().filter_map(|file| file.plan.as_ref())
    }

    /// Whether a file has that name, whether or not it compiles.
    pub fn has(&self, name: &str) -> bool {
        self.files.iter().any(|file| file.name().is_some_and(|own| **own == *name))
    }

    /// The names that files have, whether or not they compile.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.files.iter().filter_map(|file| file.name())
    }

    /// The texts of what was compiled since this was last called, by the connector's name.
    pub fn take_fresh(&mut self) -> HashMap<Arc<str>, CompiledFrom> {
        mem::take(&mut self.fresh)
    }

    /// The texts of a plan, read again; `None` where they are others by now, and soon to be looked at.
    pub fn texts(&self, plan: &ConnectorPlan) -> Option<CompiledFrom> {
        let file = &self.files[self.position(&plan.file).ok()?];
        let known = |path: &Path| match self.inputs.get(path) {
            Some(known) => *known,
            None => file.stamp,
        };
        let sources = FolderSources::new();
        let inputs = || iter::once(&*file.path).chain(file.inputs.iter().map(|input| &**input));
        let texts = inputs().filter_map(|path| sources.read(path)).collect();
        // As they were before they were read, and still are.
        let is_as_known =
            |path: &Path| known(path) == sources.stamp(path) && known(path) == stamp(path);
        let path = file.path.to_path_buf();
        inputs().all(is_as_known).then(|| CompiledFrom {
            root: self.root.clone(),
            file: path,
            texts,
        })
    }

    fn texts_of(&self, file: &CompiledFile, sources: &FolderSources) -> CompiledFrom {
        let texts = file.inputs.iter().filter_map(|input| sources.read(input)).collect();
        CompiledFrom { root: self.root.clone(), file: file.path.clone(), texts }
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
        let compiled = self.compile_all(&stale);
        let mut added = Vec::new();
        for (mut file, inputs, texts) in compiled {
            if let (Some(plan), Some(texts)) = (&file.plan, texts) {
                self.fresh.insert(Arc::clone(&plan.name), texts);
            }
            let inputs = inputs.into_iter().map(|(path, stamp)| {
                let known = self.inputs.get_key_value(&*path).map(|(known, _)| Arc::clone(known));
                let path = known.unwrap_or_else(|| Arc::from(path));
                self.inputs.insert(Arc::clone(&path), stamp);
                path
            });
            file.inputs = inputs.collect();
            self.news.extend_from_slice(&file.findings);
            self.claims.add(file.claims());
            match self.position(&file.path) {
                Ok(at) => {
                    let before = mem::replace(&mut self.files[at], file);
                    self.forget(&before);
                    self.files[at].follow(&before);
                }
                Err(_) => added.push(file),
            }
        }
        self.take_in(added);
        self.inputs.retain(|path, _| Arc::strong_count(path) > 1);
        Ok(true)
    }

    /// Puts new files among the known.
    fn take_in(&mut self, added: Vec<Known>) {
        const FEW: usize = 16;
        if added.len() <= FEW {
            for file in added {
                let at = self.position(&file.path).unwrap_or_else(|at| at);
                self.files.insert(at, file);
            }
            return;
        }
        self.files.extend(added);
        // Two sorted runs, which this kind of sorting merges.
        self.files.sort_by(|a, b| in_order(&a.path).cmp(in_order(&b.path)));
    }

    fn position(&self, path: &Path) -> Result<usize, usize> {
        self.files.binary_search_by(|file| in_order(&file.path).cmp(in_order(path)))
    }

    fn forget(&mut self, file: &Known) {
        self.claims.remove(file.claims());
        self.gone.extend(file.name().cloned());
        self.gone.extend(file.before().cloned());
    }

    /// Looks everywhere: whether known files are gone, which are no longer known then, and what is
    /// to be compiled, in order.
    fn changed(&mut self) -> io::Result<(bool, Vec<PathBuf>)> {
        let mut looked = Looked { is_current: false, stale: Vec::new() };
        if let Some(listing) = &self.listing {
            looked = listing::look(listing, &self.files, |file| (&*file.path, file.stamp));
        }
        let inputs = self.inputs.iter().filter(|(path, known)| stamp(path) != **known);
        let changed: HashSet<Arc<Path>> = inputs.map(|(path, _)| Arc::clone(path)).collect();
        let mut stale: HashSet<&OsStr> =
            looked.stale.iter().map(|at| in_order(&self.files[*at].path)).collect();
        if !changed.is_empty() {
            let users = self.files.iter().filter(|file| file.uses(&changed));
            stale.extend(users.map(|file| in_order(&file.path)));
        }
        // What was listed and is not there went meanwhile, or is a link to nowhere.
        let is_there = |at: &usize| stamp(&self.files[*at].path).is_some();
        if looked.is_current && looked.stale.iter().all(is_there) {
            let mut stale: Vec<PathBuf> = stale.into_iter().map(PathBuf::from).collect();
            stale.sort_unstable_by(|a, b| in_order(a).cmp(in_order(b)));
            return Ok((false, stale));
        }
        let (listed, listing) = listed_connectors(&self.paths)?;
        let is_known = |path: &Path| self.position(path).is_ok() && !stale.contains(in_order(path));
        let compile: Vec<PathBuf> = listed.iter().filter(|path| !is_known(path)).cloned().collect();
        self.listing = Some(listing);
        let mut listed = listed.iter().peekable();
        let is_gone = |file: &mut Known| {
            while listed.next_if(|path| in_order(path) < in_order(&file.path)).is_some() {}
            listed.next_if(|path| in_order(path) == in_order(&file.path)).is_none()
        };
        let gone: Vec<Known> = self.files.extract_if(.., is_gone).collect();
        for file in &gone {
            self.forget(file);
        }
        Ok((!gone.is_empty(), compile))
    }

    /// The same where hints tell all. `None`: one does not, such as that of a file that is new, gone
    /// or a link's target.
    fn changed_among(&mut self, hints: &BTreeSet<PathBuf>) -> Option<Vec<PathBuf>> {
        let (mut stale, mut changed) = (BTreeSet::new(), HashSet::new());
        for hint in hints {
            let now = stamp(hint);
            let file = self.position(hint);
            let input = self.inputs.get_key_value(&**hint);
            if file.is_err() && input.is_none() && self.is_foreign(hint) {
                continue;
            }
            if file.is_ok() && now.is_none() || file.is_err() && input.is_none() {
                return None;
            }
            if file.is_ok_and(|at| self.files[at].stamp != now) {
                stale.insert(in_order(hint));
            }
            changed.extend(
                input.filter(|(_, known)| **known != now).map(|(path, _)| Arc::clone(path)),
            );
        }
        if !changed.is_empty() {
            let users = self.files.iter().filter(|file| file.uses(&changed));
            stale.extend(users.map(|file| in_order(&file.path)));
        }
        Some(stale.into_iter().map(PathBuf::from).collect())
    }

    /// Whether a place that is not known has nothing to do with what is, such as what editors leave
    /// behind.
    fn is_foreign(&self, place: &Path) -> bool {
        self.listing.as_ref().is_some_and(|listing| listing.is_foreign(place))
            && !self.inputs.keys().any(|input| input.starts_with(place))
    }

    /// Tells what may run from what may not. What changed is told again until [`Self::applied`].
    pub fn loaded(&mut self) -> Loaded {
        let (parties, across) = self.across();
        let mut conflicts: BTreeMap<&Path, &Diagnostic> = BTreeMap::new();
        for conflict in across.iter().filter(|d| d.severity == Severity::Error) {
            conflicts.entry(&conflict.span.file.path).or_insert(conflict);
        }
        let was_disputed =
            |file: &Known| !self.disputed.is_empty() && self.disputed.contains(&file.path);
        let mut loaded = Loaded { compiled: self.compiled, ..Loaded::default() };
        for (at, file) in self.files.iter().enumerate() {
            let conflict = || {
                let found = if conflicts.is_empty() { None } else { conflicts.get(&*file.path) };
                found.map(|conflict| headline(conflict))
            };
            if let Some(problem) = file.problem().cloned().or_else(conflict) {
                loaded.failed_names.extend(file.name().cloned());
                let failed = Failed { problem, before: file.last_name().cloned() };
                loaded.failed_files.insert(file.path.to_path_buf(), failed);
            } else if let Some(plan) = &file.plan
                && (file.is_fresh || parties.contains(&at) || was_disputed(file))
            {
                loaded.plans.insert(Arc::clone(&plan.name), Arc::clone(plan));
            }
            loaded.diagnostics.extend_from_slice(&file.findings);
        }
        // Of two files with one name the first may still be fine, and then it is no failure.
        loaded.failed_names.retain(|name| !loaded.plans.contains_key(name));
        let has_plan = |name: &Arc<str>| loaded.plans.contains_key(name);
        loaded.gone = self.gone.iter().filter(|name| !has_plan(name)).cloned().collect();
        self.disputed = parties.into_iter().map(|at| self.files[at].path.clone()).collect();
        let across = across.iter().map(rendered).collect::<Vec<_>>();
        loaded.news = mem::take(&mut self.news);
        loaded.news.extend_from_slice(&across);
        loaded.diagnostics.extend(across);
        loaded
    }

    /// What was told runs, all but these, which are told again.
    pub fn applied(&mut self, but: &BTreeSet<Arc<str>>) {
        self.gone.clear();
        for file in self.files.iter_mut().filter(|file| file.is_fresh) {
            file.is_fresh = file.plan.as_ref().is_some_and(|plan| but.contains(&plan.name));
        }
    }

    fn compile(&self, path: &Path, sources: &FolderSources) -> CompiledFile {
        compile_file_with(&self.root, path, sources, &self.lints)
    }

    /// Compiles files, each with its inputs, which are yet to be known, and its texts.
    fn compile_all(&self, paths: &[PathBuf]) -> Vec<Compiled> {
        const WORTH_A_THREAD: usize = 64;
        let sources = FolderSources::new();
        let with_texts = paths.len() <= WORTH_A_THREAD;
        in_shares(paths, WORTH_A_THREAD, |path| {
            let file = self.compile(path, &sources);
            let inputs = file.inputs.iter().filter(|input| *input != path);
            let inputs = inputs.map(|input| (input.clone(), sources.stamp(input))).collect();
            let keeps = with_texts && file.plan.is_some();
            let texts = keeps.then(|| self.texts_of(&file, &sources));
            (Known::new(path, sources.stamp(path), file), inputs, texts)
        })
    }

    /// Variants and their originals: they are looked at together. `names` are sorted.
    fn variants(&self, names: &[(&str, usize)]) -> BTreeSet<usize> {
        let mut parties = BTreeSet::new();
        for (at, file) in self.files.iter().enumerate() {
            let Some(of) = file.variant_of() else { continue };
            parties.insert(at);
            let first = names.partition_point(|(name, _)| *name < &**of);
            let originals = names[first..].iter().take_while(|(name, _)| *name == &**of);
            let before = parties.len();
            parties.extend(originals.map(|(_, at)| *at));
            if parties.len() == before {
                // The one that may have been meant, so that the finding can name it.
                let near = nearest(of, names.iter().map(|(name, _)| *name));
                parties.extend(names.iter().find(|(name, _)| Some(*name) == near).map(|n| n.1));
            }
        }
        parties
    }

    /// What only shows across files: which claim the same, and what is to be said of them.
    fn across(&self) -> (BTreeSet<usize>, Vec<Diagnostic>) {
        let mut disputed = BTreeSet::new();
        let has_variants = self.files.iter().any(|file| file.variant_of().is_some());
        if !self.claims.are_contested() && !has_variants {
            return (disputed, Vec::new());
        }
        let files = self.files.iter().enumerate();
        let mut names: Vec<(&str, usize)> =
            files.clone().filter_map(|(at, file)| Some((&**file.name()?, at))).collect();
        let mut routes: Vec<(&str, usize)> =
            files.flat_map(|(at, file)| file.routes().map(move |route| (route, at))).collect();
        for claims in [&mut names, &mut routes] {
            claims.sort_unstable();
            for pair in claims.windows(2).filter(|p| p[0].0 == p[1].0 && p[0].1 != p[1].1) {
                disputed.extend([pair[0].1, pair[1].1]);
            }
        }
        disputed.extend(self.variants(&names));
        let sources = FolderSources::new();
        let parties: Vec<CompiledFile> =
            disputed.iter().map(|at| self.compile(&self.files[*at].path, &sources)).collect();
        let said = check_set(&parties.iter().collect::<Vec<_>>());
        (disputed, said)
    }
}

/// A file, what it was compiled from, and the texts of that.
type Compiled = (Known, Vec<(PathBuf, Stamp)>, Option<CompiledFrom>);

impl Known {
    fn new(path: &Path, stamp: Stamp, file: CompiledFile) -> Self {
        let CompiledFile { name, plan, routes, diagnostics, variant_of, is_variant, .. } = file;
        // Notices are for whoever writes the file: `check` has them.
        let findings = diagnostics.iter().filter(|found| found.severity > Severity::Notice);
        let mut errors = diagnostics.iter().filter(|found| found.severity == Severity::Error);
        let problem = errors.next().map(headline);
        // What a plan says need not be said twice.
        let apart = plan.is_none();
        let name = name.filter(|_| apart);
        let routes = routes.into_iter().filter(|_| apart).map(|(route, _)| route).collect();
        let variant_of = variant_of.map(|(of, _)| of);
        let trouble = Trouble { problem, name, routes, variant_of, is_variant, before: None };
        let is_trouble = apart || trouble.problem.is_some();
        Self {
            path: path.into(),
            stamp,
            inputs: Box::default(),
            trouble: is_trouble.then(|| Box::new(trouble)),
            findings: findings.map(rendered).collect(),
            plan,
            is_fresh: true,
        }
    }

    /// Takes over what is remembered of the same file's state before.
    fn follow(&mut self, earlier: &Self) {
        if let Some(trouble) = &mut self.trouble {
            trouble.before = earlier.last_name().cloned();
        }
    }

    fn problem(&self) -> Option<&String> {
        self.trouble.as_ref()?.problem.as_ref()
    }

    fn name(&self) -> Option<&Arc<str>> {
        let apart = || self.trouble.as_ref()?.name.as_ref();
        self.plan.as_ref().map(|plan| &plan.name).or_else(apart)
    }

    /// Whose variant it is.
    fn variant_of(&self) -> Option<&Arc<str>> {
        let apart = || self.trouble.as_ref()?.variant_of.as_ref();
        self.plan.as_ref().and_then(|plan| plan.rollout.of.as_ref()).or_else(apart)
    }

    fn is_variant(&self) -> bool {
        let apart = || self.trouble.as_ref().is_some_and(|trouble| trouble.is_variant);
        self.plan.as_ref().is_some_and(|plan| plan.is_variant()) || apart()
    }

    fn before(&self) -> Option<&Arc<str>> {
        self.trouble.as_ref()?.before.as_ref()
    }

    /// What it is called, or was when it last gave a plan.
    fn last_name(&self) -> Option<&Arc<str>> {
        self.plan.as_ref().map(|plan| &plan.name).or_else(|| self.before())
    }

    /// A variant takes nothing in.
    fn routes(&self) -> impl Iterator<Item = &str> {
        let own = !self.is_variant();
        let streams = self.plan.iter().flat_map(|plan| &plan.streams);
        let running = streams.filter_map(|stream| Some(stream.webhook.as_ref()?.path.as_str()));
        let apart = self.trouble.iter().flat_map(|trouble| &trouble.routes);
        running.chain(apart.map(String::as_str)).filter(move |_| own)
    }

    fn claims(&self) -> impl Iterator<Item = Claim<'_>> {
        let name = self.name().map(|name| Claim::Name(name));
        name.into_iter().chain(self.routes().map(Claim::Route))
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const CONNECTOR: &str = "name = \"NAME\"\nversion = \"1.0.0\"\nowner = \"team\"\n\
        [stream.orders]\nkey = \"$.id\"\n[stream.orders.webhook]\npath = \"/NAME\"\nverify = \"none\"\n\
        [destination.log]\ntype = \"stdout\"\n";

    #[test]
    fn a_replaced_file_is_a_narrow_look_whatever_its_editor_left_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, more: &str| {
            let path = folder.path().join(name);
            fs::write(&path, CONNECTOR.replace("NAME", &name[..1]) + more).expect("written");
            path
        };
        write("a.toml", "");
        write("b.toml", "");
        let mut loader = Loader::new(vec![folder.path().to_owned()], Levels::default());
        assert!(loader.look(&Look::Everywhere).expect("read"));
        assert_eq!(loader.compiled, 2);

        // As `sed -i` does it: a file beside, which then takes the other's name.
        let beside = write("c-new", "# edited\n");
        fs::rename(&beside, folder.path().join("a.toml")).expect("renamed");
        write("b.toml", "# edited, and no hint tells it\n");
        let hints = BTreeSet::from([beside, folder.path().join("a.toml")]);
        assert!(loader.look(&Look::At(hints)).expect("read"));
        assert_eq!(loader.compiled, 1, "only what the hints tell");

        let added = write("c.toml", "");
        assert!(loader.look(&Look::At(BTreeSet::from([added]))).expect("read"));
        assert_eq!(loader.compiled, 2, "a hint of something new is a look everywhere");
    }

    #[test]
    fn what_a_link_that_was_named_leads_to_is_looked_at() {
        let folder = tempfile::tempdir().expect("a folder");
        let [named, target] = ["a.toml", "a.toml.v1"].map(|name| folder.path().join(name));
        fs::write(&target, CONNECTOR.replace("NAME", "a")).expect("written");
        std::os::unix::fs::symlink("a.toml.v1", &named).expect("linked");
        let mut loader = Loader::new(vec![named], Levels::default());
        assert!(loader.look(&Look::Everywhere).expect("read"));
        fs::write(&target, CONNECTOR.replace("NAME", "a") + "# edited\n").expect("written");
        assert!(loader.look(&Look::At(BTreeSet::from([target]))).expect("read"));
        assert_eq!(loader.compiled, 1);
    }
}
