//! `--against`: another version of a connector, with all that it is made of, to send to the daemon.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Trouble,
    git::{GitTree, Repository},
};
use crate::{
    diagnostic::SourceFile,
    engine::{
        Against,
        files::{FolderSources, connector_files, is_connector_path, project_root},
    },
    plan::{Sources, read},
};

/// Remembers what was read.
struct Recorder<'a> {
    inner: &'a dyn Sources,
    files: RefCell<BTreeMap<PathBuf, String>>,
}

impl Sources for Recorder<'_> {
    fn read(&self, path: &Path) -> Option<Arc<SourceFile>> {
        let file = self.inner.read(path)?;
        self.files.borrow_mut().insert(path.to_owned(), file.text.clone());
        Some(file)
    }

    fn exists(&self, path: &Path) -> bool {
        self.inner.exists(path)
    }
}

/// The connector as a file or folder has it, or a revision of git, as `tenon diff` takes them.
pub fn find(what: &str, connector: &str) -> Result<Against, Trouble> {
    let path = Path::new(what);
    if path.exists() {
        let named = [path.to_owned()];
        let files = connector_files(&named)?;
        return among(what, connector, &project_root(&named), files, &FolderSources::new());
    }
    let no_path = |trouble| match trouble {
        Trouble::Message(why) => {
            Trouble::new(format!("--against `{what}` is no file here, and no revision: {why}"))
        }
        Trouble::ReaderGone => Trouble::ReaderGone,
    };
    let repository = Repository::here()?;
    let here = repository.within(Path::new("."))?;
    let tree = GitTree::open(&repository, what).map_err(no_path)?;
    let within = |file: &Path| file.strip_prefix(&here).is_ok_and(is_connector_path);
    let files = tree.paths().filter(|file| within(file)).map(Path::to_owned).collect();
    let marked = |folder: &&Path| tree.has(&folder.join("tenon.toml"));
    let root = here.ancestors().find(marked).unwrap_or(Path::new("")).to_owned();
    among(what, connector, &root, files, &tree)
}

/// The file among these that gives the connector.
fn among(
    what: &str,
    connector: &str,
    root: &Path,
    files: Vec<PathBuf>,
    sources: &dyn Sources,
) -> Result<Against, Trouble> {
    for file in files {
        let recorder = Recorder { inner: sources, files: RefCell::default() };
        let written = read(root, &file, &recorder);
        if written.plan.is_some_and(|plan| *plan.name == *connector) {
            let files = recorder.files.into_inner();
            return Ok(Against { what: what.to_owned(), root: root.to_owned(), file, files });
        }
    }
    Err(Trouble::new(format!(
        "--against `{what}` has no connector `{connector}` that compiles: `tenon check` tells why"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_comes_with_what_it_is_made_of() {
        let folder = tempfile::tempdir().unwrap();
        let shop = "name = \"shop\"\nversion = \"1.0.0\"\n[stream.orders]\nkey = \"$.id\"\n\
                    schema = \"order.v1\"\n[stream.orders.webhook]\npath = \"/shop\"\n\
                    verify = \"none\"\n[destination.out]\ntype = \"stdout\"\n";
        std::fs::create_dir(folder.path().join("schemas")).unwrap();
        std::fs::write(folder.path().join("schemas/order.v1.json"), "{}").unwrap();
        std::fs::write(folder.path().join("tenon.toml"), "").unwrap();
        std::fs::write(folder.path().join("shop.toml"), shop).unwrap();
        std::fs::write(folder.path().join("broken.toml"), "name = 7").unwrap();
        let what = folder.path().to_str().unwrap();
        let found = find(what, "shop").unwrap_or_else(|trouble| panic!("{trouble:?}"));
        assert_eq!(found.files.len(), 2, "{:?}", found.files.keys());
        assert_eq!(found.files[&found.file], shop);
        assert!(find(what, "crm").is_err());
    }
}
