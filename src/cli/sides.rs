//! The two sides of `tenon diff`: files, folders, revisions of git, or the working tree.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Trouble,
    git::{self, GitTree, Repository},
};
use crate::{
    diagnostic::SourceFile,
    engine::files::{FolderSources, connector_files, is_connector_path, project_root},
    plan::{Sources, read, schema_document},
    review::{Filed, Side},
};

/// One side, and what it was read from.
pub struct Loaded {
    /// What is compared.
    pub side: Side,
    /// Its files.
    pub tree: Box<dyn Tree>,
}

/// Where a side's files come from.
pub trait Tree: Sources {
    /// The files in a folder and below it, sorted.
    fn below(&self, folder: &Path) -> Vec<PathBuf>;
}

/// Files on disk; paths count from `top`.
struct Disk {
    top: PathBuf,
    files: FolderSources,
}

impl Disk {
    fn new(top: PathBuf) -> Self {
        Self { top, files: FolderSources::new() }
    }
}

impl Sources for Disk {
    fn read(&self, path: &Path) -> Option<Arc<SourceFile>> {
        let file = self.files.read(&self.top.join(path))?;
        if self.top.as_os_str().is_empty() {
            return Some(file);
        }
        Some(Arc::new(SourceFile { path: path.to_owned(), text: file.text.clone() }))
    }
}

impl Tree for Disk {
    fn below(&self, folder: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = std::fs::read_dir(self.top.join(&folder)) else { continue };
            for entry in entries.flatten() {
                let path = folder.join(entry.file_name());
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => folders.push(path),
                    Ok(kind) if kind.is_file() => found.push(path),
                    _ => {}
                }
            }
        }
        found.sort();
        found
    }
}

impl Tree for GitTree {
    fn below(&self, folder: &Path) -> Vec<PathBuf> {
        let within = self.paths().filter(|path| path.starts_with(folder));
        within.map(Path::to_owned).collect()
    }
}

/// Two files, or two folders.
pub fn of_paths(old: &Path, new: &Path) -> Result<(Loaded, Loaded), Trouble> {
    let kind = |path: &Path| {
        std::fs::metadata(path)
            .map(|kind| kind.is_dir())
            .map_err(|error| Trouble::new(format!("{}: {error}", path.display())))
    };
    if kind(old)? != kind(new)? {
        return Err(Trouble::new(format!(
            "{} and {}: one is a folder, the other a file; compare like with like",
            old.display(),
            new.display()
        )));
    }
    Ok((of_path(old)?, of_path(new)?))
}

fn of_path(path: &Path) -> Result<Loaded, Trouble> {
    let named = [path.to_owned()];
    // A copy of a project beside another one is a project of its own, marked or not.
    let root = if path.join("schemas").is_dir() { path.to_owned() } else { project_root(&named) };
    let files = connector_files(&named)?;
    let files = files.into_iter().map(|file| (at(&file, path), file)).collect();
    Ok(load(&root, files, Box::new(Disk::new(PathBuf::new()))))
}

/// A file's path within the side; a side that is one file lies wherever it likes.
fn at(file: &Path, side: &Path) -> PathBuf {
    let side = side.strip_prefix(".").unwrap_or(side);
    match file.strip_prefix(side) {
        Ok(rest) if rest.as_os_str().is_empty() => PathBuf::from("the connector"),
        Ok(rest) => rest.to_owned(),
        Err(_) => file.to_owned(),
    }
}

/// Two revisions of git, or one and the working tree; only what lies under `paths`.
pub fn of_git(range: &str, paths: &[PathBuf]) -> Result<(Loaded, Loaded), Trouble> {
    let repository = Repository::here()?;
    let (base, head) = git::range(range)?;
    let here = [PathBuf::from(".")];
    let paths = if paths.is_empty() { &here[..] } else { paths };
    let paths: Vec<PathBuf> =
        paths.iter().map(|path| repository.within(path)).collect::<Result<_, _>>()?;
    let old = revision(GitTree::open(&repository, &base)?, &paths);
    let new = match head {
        Some(head) => revision(GitTree::open(&repository, &head)?, &paths),
        None => working_tree(&repository, &paths)?,
    };
    if old.side.files.is_empty() && new.side.files.is_empty() {
        return Err(Trouble::new(
            "no connectors here, on neither side: no *.toml under these paths",
        ));
    }
    Ok((old, new))
}

fn revision(tree: GitTree, paths: &[PathBuf]) -> Loaded {
    let is_named = |file: &Path| paths.iter().any(|path| path == file);
    let files: Vec<(PathBuf, PathBuf)> = tree
        .paths()
        .filter(|file| {
            let under = paths.iter().find_map(|path| file.strip_prefix(path).ok());
            is_named(file) || under.is_some_and(is_connector_path)
        })
        .map(|file| (file.to_owned(), file.to_owned()))
        .collect();
    let marked = |folder: &Path| tree.has(&folder.join("tenon.toml"));
    let root = root_of(paths, marked);
    load(&root, files, Box::new(tree))
}

fn working_tree(repository: &Repository, paths: &[PathBuf]) -> Result<Loaded, Trouble> {
    let whole = |path: &PathBuf| repository.top.join(path);
    let present: Vec<PathBuf> = paths.iter().map(whole).filter(|path| path.exists()).collect();
    let mut files: Vec<(PathBuf, PathBuf)> = Vec::new();
    for file in connector_files(&present)? {
        let path = file.strip_prefix(&repository.top).unwrap_or(&file).to_owned();
        files.push((path.clone(), path));
    }
    let marked = |folder: &Path| repository.top.join(folder).join("tenon.toml").is_file();
    let root = root_of(paths, marked);
    Ok(load(&root, files, Box::new(Disk::new(repository.top.clone()))))
}

/// The project's folder: the nearest one above the first path that is marked, or the top.
fn root_of(paths: &[PathBuf], marked: impl Fn(&Path) -> bool) -> PathBuf {
    let first = paths.first().map_or(Path::new(""), PathBuf::as_path);
    first.ancestors().find(|folder| marked(folder)).unwrap_or(Path::new("")).to_owned()
}

fn load(root: &Path, files: Vec<(PathBuf, PathBuf)>, tree: Box<dyn Tree>) -> Loaded {
    let files: Vec<Filed> = files
        .into_iter()
        .map(|(at, path)| Filed { at, written: read(root, &path, &*tree) })
        .collect();
    let mut schemas = BTreeMap::new();
    let streams = files.iter().filter_map(|file| file.written.plan.as_ref());
    for stream in streams.flat_map(|plan| &plan.streams) {
        let Some(name) = stream.schema.as_ref().map(|schema| schema.name()) else { continue };
        if !schemas.contains_key(name)
            && let Some(document) = schema_document(root, name, &*tree)
        {
            schemas.insert(name.to_owned(), document);
        }
    }
    Loaded { side: Side { files, schemas }, tree }
}
