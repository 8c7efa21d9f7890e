//! The last versions of every connector that ran, whole: what `tenon rollback` goes back to.
//!
//! With a durable bus they are files, `versions/<name>/<number>-<content>.json` in the state folder,
//! one for each content that ran, the newest few of them. A file has all texts that its connector was
//! compiled from (its own, what it uses, schemas, presets), so it compiles to the same plan whatever
//! became of them. Those of a connector that is gone for long go after it. Literal secrets of a file are in its copy, too: both are for the owner's eyes only.
//! JSON; fields are only ever added, with defaults.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::ledger::hex;
use crate::{
    diagnostic::SourceFile,
    plan::{ConnectorPlan, Levels, Sources, compile_file_with},
    world::Timestamp,
};

/// So many are kept of each connector.
const KEPT: usize = 5;
/// And for so long of a connector that is gone.
const GONE_FOR: Duration = Duration::from_hours(24 * 90);
/// In the folder of one that is gone: since when, in milliseconds since 1970.
const GONE: &str = "gone";
/// So many connectors are forgotten at once.
const FORGOTTEN: usize = 1_000;

/// A version as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Counts the versions of this connector.
    pub number: u64,
    /// What it compiles to.
    pub content: String,
    /// Its `version`.
    pub version: String,
    /// When it began to run.
    pub since: Timestamp,
    /// The project's folder and the connector's file, as they were named.
    pub root: String,
    pub file: String,
    /// All texts by path.
    pub texts: BTreeMap<String, String>,
}

/// A version, for a person.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptVersion {
    /// Names it: `#3`.
    pub number: u64,
    /// Its `version`.
    pub version: String,
    /// When it began to run.
    pub since: Timestamp,
    /// Its file, as it was named.
    pub file: String,
    /// Whether it runs now.
    pub is_running: bool,
    /// Whether it is what the file says now.
    pub is_file: bool,
    /// What it compiles to.
    pub content: String,
}

/// What a connector was compiled from.
#[derive(Clone, Debug)]
pub struct CompiledFrom {
    pub root: PathBuf,
    pub file: PathBuf,
    pub texts: Vec<Arc<SourceFile>>,
}

/// Where versions are kept.
pub enum Versions {
    /// They go with the process, as events do.
    Memory(Mutex<BTreeMap<String, Vec<Stored>>>),
    /// In this folder.
    Folder(PathBuf),
}

impl Default for Versions {
    fn default() -> Self {
        Self::Memory(Mutex::default())
    }
}

impl Versions {
    /// Keeps a version that begins to run, unless it is the newest that is kept. Blocks on the disk.
    pub fn keep(
        &self,
        plan: &ConnectorPlan,
        since: Timestamp,
        from: &CompiledFrom,
    ) -> io::Result<()> {
        let stored = |number| Stored {
            number,
            content: hex(plan.content),
            version: plan.version.clone(),
            since,
            root: from.root.display().to_string(),
            file: from.file.display().to_string(),
            texts: from
                .texts
                .iter()
                .map(|file| (file.path.display().to_string(), file.text.clone()))
                .collect(),
        };
        match self {
            Self::Memory(all) => {
                let mut all = all.lock();
                let kept = all.entry(plan.name.to_string()).or_default();
                if kept.last().is_none_or(|last| last.content != hex(plan.content)) {
                    kept.push(stored(kept.last().map_or(1, |last| last.number + 1)));
                    let surplus = kept.len().saturating_sub(KEPT);
                    kept.drain(..surplus);
                }
                Ok(())
            }
            Self::Folder(folder) => keep_file(&folder.join(&*plan.name), plan, stored),
        }
    }

    /// Whether the newest version that is kept is this one.
    pub fn has(&self, plan: &ConnectorPlan) -> bool {
        let content = hex(plan.content);
        match self {
            Self::Memory(all) => {
                let all = all.lock();
                let newest = all.get(&*plan.name).and_then(|kept| kept.last());
                newest.is_some_and(|newest| newest.content == content)
            }
            Self::Folder(folder) => {
                let files = files(&folder.join(&*plan.name)).unwrap_or_default();
                files.last().is_some_and(|newest| newest.is_whole && newest.content == content)
            }
        }
    }

    /// A connector is there again: should it go once more, that counts from then on. Blocks on the disk.
    pub fn is_back(&self, name: &str) -> io::Result<()> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Folder(folder) => unmark(&folder.join(name)),
        }
    }

    /// Removes those of connectors that have long been gone, and notes since when others are. One that is there
    /// again, or is needed for another reason, is not gone: `is_there` says so of a name. Blocks on the disk.
    pub fn forget(&self, now: Timestamp, is_there: impl Fn(&str) -> bool) -> io::Result<()> {
        let Self::Folder(folder) = self else { return Ok(()) };
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        let mut forgotten = 0;
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(name) = name.filter(|_| path.is_dir()) else { continue };
            let is_over = is_long_gone(&path, now, is_there(name)).and_then(|is_over| {
                let goes = is_over && forgotten < FORGOTTEN;
                if goes { fs::remove_dir_all(&path).map(|()| true) } else { Ok(false) }
            });
            match is_over {
                Ok(true) => {
                    tracing::info!(
                        connector = name,
                        "gone for long: its kept versions are removed"
                    );
                    forgotten += 1;
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(folder = %path.display(), %error, "what is kept of a connector stays");
                }
            }
        }
        Ok(())
    }

    /// Those of a connector, newest first. What cannot be read is left out, and logged.
    pub fn list(&self, name: &str) -> Vec<Stored> {
        match self {
            Self::Memory(all) => all
                .lock()
                .get(name)
                .map(|kept| kept.iter().rev().cloned().collect())
                .unwrap_or_default(),
            Self::Folder(folder) => {
                let files = files(&folder.join(name)).unwrap_or_default();
                files.iter().rev().filter_map(|file| read(&file.path)).collect()
            }
        }
    }
}

/// A file of a version, by its name.
struct Named {
    number: u64,
    content: String,
    path: PathBuf,
    /// A power cut may leave one empty.
    is_whole: bool,
}

/// The versions in a connector's folder, oldest first. None where there is no folder.
fn files(folder: &Path) -> io::Result<Vec<Named>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let named = name.to_str().and_then(|name| name.strip_suffix(".json")?.split_once('-'));
        let Some((number, content)) = named else { continue };
        let Ok(number) = number.parse() else { continue };
        let is_whole = entry.metadata().is_ok_and(|metadata| metadata.len() > 0);
        found.push(Named { number, content: content.to_owned(), path: entry.path(), is_whole });
    }
    found.sort_by_key(|file| file.number);
    Ok(found)
}

/// Forgets since when the connector of a folder is gone.
fn unmark(folder: &Path) -> io::Result<()> {
    match fs::remove_file(folder.join(GONE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether the connector of a folder has long been gone; since when, is noted in it.
fn is_long_gone(folder: &Path, now: Timestamp, is_there: bool) -> io::Result<bool> {
    if is_there {
        return unmark(folder).map(|()| false);
    }
    let mark = folder.join(GONE);
    // When its newest version began to run says nothing: it may have run for years, until yesterday.
    match fs::read_to_string(&mark).ok().and_then(|text| text.parse().ok()) {
        Some(since) => Ok(now.since(Timestamp(since)) >= GONE_FOR),
        None => fs::write(&mark, now.0.to_string()).map(|()| false),
    }
}

fn keep_file(
    folder: &Path,
    plan: &ConnectorPlan,
    stored: impl Fn(u64) -> Stored,
) -> io::Result<()> {
    let known = files(folder)?;
    let content = hex(plan.content);
    if known.last().is_some_and(|newest| newest.is_whole && newest.content == content) {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let number = known.last().map_or(1, |newest| newest.number + 1);
    let text = serde_json::to_vec(&stored(number)).map_err(io::Error::other)?;
    let beside = folder.join(".new");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(&text)?;
    // The first version is what its file says: there is nothing to go back to yet, and ten thousand
    // syncs would keep a first start waiting.
    if !known.is_empty() {
        file.sync_data()?;
    }
    fs::rename(&beside, folder.join(format!("{number:08}-{content}.json")))?;
    let surplus = (known.len() + 1).saturating_sub(KEPT);
    known.iter().take(surplus).try_for_each(|old| fs::remove_file(&old.path))
}

fn read(path: &Path) -> Option<Stored> {
    let read = fs::read(path).map_err(|error| error.to_string());
    let stored =
        read.and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()));
    stored
        .map_err(|problem| {
            tracing::warn!(file = %path.display(), problem, "a kept version cannot be read");
        })
        .ok()
}

impl Stored {
    /// Compiles it. Errors: the first one's headline; it compiled once, so another program wrote it.
    pub fn compile(&self) -> Result<Arc<ConnectorPlan>, String> {
        let (root, file) = (Path::new(&self.root), Path::new(&self.file));
        let compiled = compile_file_with(root, file, &Kept(&self.texts), &Levels::default());
        let name = || format!("version #{} ({})", self.number, self.version);
        compiled.plan.ok_or_else(|| {
            let why = compiled.diagnostics.iter().map(|found| &*found.message).next();
            format!(
                "{} does not compile with this program: {}",
                name(),
                why.unwrap_or("it runs only through `use`")
            )
        })
    }
}

/// The texts of a version, whatever is on the disk now.
struct Kept<'k>(&'k BTreeMap<String, String>);

impl Sources for Kept<'_> {
    fn read(&self, path: &Path) -> Option<Arc<SourceFile>> {
        let text = self.0.get(path.to_str()?)?.clone();
        Some(Arc::new(SourceFile { path: path.to_owned(), text }))
    }

    /// What a version did not need to be read for is not asked for again.
    fn exists(&self, _path: &Path) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, Strategy as _, any, prop, prop_assert_eq, proptest};

    use super::*;

    fn texts(total: &str) -> CompiledFrom {
        let text = format!(
            "name = \"shop\"\nversion = \"1.0.0\"\n[stream.orders]\nkey = \"$.id\"\n\
             [stream.orders.webhook]\npath = \"/shop\"\nverify = \"none\"\n\
             [stream.orders.map]\ntotal = \"{total}\"\n[destination.out]\ntype = \"stdout\"\n"
        );
        let path = PathBuf::from("connectors/shop.toml");
        let texts = vec![Arc::new(SourceFile { path: path.clone(), text })];
        CompiledFrom { root: "connectors".into(), file: path, texts }
    }

    fn compiled(from: &CompiledFrom) -> Arc<ConnectorPlan> {
        let texts = from.texts.iter().map(|it| (it.path.display().to_string(), it.text.clone()));
        let texts = texts.collect();
        compile_file_with(&from.root, &from.file, &Kept(&texts), &Levels::default()).plan.unwrap()
    }

    fn check(versions: &Versions) {
        for n in 0..KEPT + 2 {
            let from = texts(&format!("$.total{n}"));
            let plan = compiled(&from);
            assert!(!versions.has(&plan));
            for _ in 0..2 {
                versions.keep(&plan, Timestamp(n as i64), &from).unwrap();
                assert!(versions.has(&plan));
            }
        }
        let kept = versions.list("shop");
        let numbers: Vec<u64> = kept.iter().map(|version| version.number).collect();
        assert_eq!(numbers, [7, 6, 5, 4, 3], "newest first, the oldest are gone");
        for version in &kept {
            assert_eq!(hex(version.compile().unwrap().content), version.content);
        }
        assert_eq!(versions.list("other"), []);
    }

    #[test]
    fn the_newest_versions_are_kept_whole() {
        check(&Versions::default());
        let folder = tempfile::tempdir().unwrap();
        let versions = Versions::Folder(folder.path().join("versions"));
        check(&versions);
        // What a power cut left empty is written again.
        let from = texts("$.total6");
        let newest = files(&folder.path().join("versions/shop")).unwrap().pop().unwrap();
        fs::write(&newest.path, "").unwrap();
        assert!(!versions.has(&compiled(&from)));
        assert_eq!(versions.list("shop").len(), KEPT - 1);
        versions.keep(&compiled(&from), Timestamp(9), &from).unwrap();
        assert!(versions.has(&compiled(&from)));
    }

    #[test]
    fn what_is_kept_of_a_connector_goes_when_it_is_gone_for_long() {
        const DAY: Duration = Duration::from_hours(24);
        let folder = tempfile::tempdir().unwrap();
        let versions = Versions::Folder(folder.path().join("versions"));
        versions.forget(Timestamp(0), |_| false).unwrap();
        let from = texts("$.total");
        // It began to run long ago.
        versions.keep(&compiled(&from), Timestamp(0), &from).unwrap();
        let gone_at = Timestamp(0).plus(1000 * DAY);
        versions.forget(gone_at, |name| name == "shop").unwrap();
        for days in [0, 1, 89] {
            versions.forget(gone_at.plus(DAY * days), |_| false).unwrap();
            assert_eq!(versions.list("shop").len(), 1, "gone for {days} days");
        }
        // It comes back for a day, and its time begins anew.
        let back_at = gone_at.plus(90 * DAY);
        versions.forget(back_at, |name| name == "shop").unwrap();
        versions.forget(back_at.plus(DAY), |_| false).unwrap();
        versions.forget(back_at.plus(90 * DAY), |_| false).unwrap();
        assert_eq!(versions.list("shop").len(), 1);
        versions.forget(back_at.plus(91 * DAY), |_| false).unwrap();
        assert_eq!(versions.list("shop"), []);
        assert_eq!(fs::read_dir(folder.path().join("versions")).unwrap().count(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_version_comes_back_as_it_was(
            number in any::<u64>(),
            since in any::<i64>().prop_map(Timestamp),
            words in prop::array::uniform4(".{0,9}"),
            texts in prop::collection::btree_map(".{0,9}", ".{0,20}", 0..4),
        ) {
            let [content, version, root, file] = words;
            let stored = Stored { number, content, version, since, root, file, texts };
            let bytes = serde_json::to_vec(&stored).unwrap();
            prop_assert_eq!(serde_json::from_slice::<Stored>(&bytes).unwrap(), stored);
        }
    }
}
