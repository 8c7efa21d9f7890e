//! What a git repository holds at a revision, read by the `git` program itself: whatever it can read
//! (packs, alternates, partial clones), this can. Nothing is checked out and nothing is written.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::{Component, Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio},
    sync::Arc,
};

use parking_lot::Mutex;

use super::Trouble;
use crate::{diagnostic::SourceFile, plan::Sources};

/// Larger files are not read: a connector is written by hand.
const MAX_FILE_BYTES: u64 = 8 << 20;

/// A repository, as seen from a folder within it.
pub struct Repository {
    /// The folder that holds everything.
    pub top: PathBuf,
    /// The working directory, from there.
    prefix: PathBuf,
}

impl Repository {
    /// The one that the working directory lies in.
    pub fn here() -> Result<Self, Trouble> {
        let top = line(&["rev-parse", "--show-toplevel"])
            .map_err(|said| Trouble::new(format!("--git works within a git repository: {said}")))?;
        let prefix = line(&["rev-parse", "--show-prefix"]).map_err(Trouble::new)?;
        Ok(Self { top: PathBuf::from(top), prefix: PathBuf::from(prefix) })
    }

    /// A path that was given in the working directory, from the top of the repository.
    pub fn within(&self, path: &Path) -> Result<PathBuf, Trouble> {
        let outside = || Trouble::new(format!("{} lies outside of the repository", path.display()));
        let whole = match path.strip_prefix(&self.top) {
            Ok(rest) => rest.to_owned(),
            Err(_) if path.is_absolute() => return Err(outside()),
            Err(_) => self.prefix.join(path),
        };
        let mut plain = PathBuf::new();
        for part in whole.components() {
            match part {
                Component::Normal(name) => plain.push(name),
                Component::ParentDir if !plain.pop() => return Err(outside()),
                _ => {}
            }
        }
        Ok(plain)
    }
}

/// The two revisions of `BASE..HEAD`; without `..` the second is the working tree (`None`). Three
/// dots mean the commit at which the two parted, as in a pull request.
pub fn range(range: &str) -> Result<(String, Option<String>), Trouble> {
    let head = |text: &str| if text.is_empty() { "HEAD".to_owned() } else { text.to_owned() };
    if let Some((base, other)) = range.split_once("...") {
        let (base, other) = (commit(&head(base))?, commit(&head(other))?);
        let parted = line(&["merge-base", &base, &other]).map_err(|_| {
            Trouble::new(format!(
                "git finds no commit that both sides of {range} come from; in a shallow clone \
                 fetch more: `git fetch --unshallow` (`fetch-depth: 0` in GitHub Actions)"
            ))
        })?;
        return Ok((parted, Some(other)));
    }
    match range.split_once("..") {
        Some((base, other)) => Ok((commit(&head(base))?, Some(commit(&head(other))?))),
        None => Ok((commit(range)?, None)),
    }
}

/// The commit's or tree's name in full.
fn commit(revision: &str) -> Result<String, Trouble> {
    let question = format!("{revision}^{{tree}}");
    line(&["rev-parse", "--verify", "--quiet", "--end-of-options", &question])
        .and_then(|_| line(&["rev-parse", "--verify", "--end-of-options", revision]))
        .map_err(|_| {
            Trouble::new(format!(
                "git knows no revision `{revision}` here; in a shallow clone fetch it first: `git \
                 fetch origin {revision}` (`fetch-depth: 0` in GitHub Actions)"
            ))
        })
}

/// Runs git and gives what it says in a line; the error is what it complains of.
fn line(arguments: &[&str]) -> Result<String, String> {
    let output = output(arguments)?;
    Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned())
}

fn output(arguments: &[&str]) -> Result<Output, String> {
    let output = Command::new("git")
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| absent(&error))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().trim_start_matches("fatal: ");
    Err(if said.is_empty() { format!("git {} failed", arguments[0]) } else { said.to_owned() })
}

fn absent(error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::NotFound {
        "the program `git` is not installed, or not on PATH; two folders can be compared without \
         it: tenon diff OLD NEW"
            .to_owned()
    } else {
        format!("git cannot be run: {error}")
    }
}

/// The files of one revision.
pub struct GitTree {
    /// By path from the top: the object and its size in bytes.
    files: BTreeMap<PathBuf, (String, u64)>,
    read: Mutex<BTreeMap<PathBuf, Option<Arc<SourceFile>>>>,
    objects: Mutex<Objects>,
}

/// A `git cat-file --batch` that answers one question after the other.
struct Objects {
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl GitTree {
    /// Lists a revision, which [`range`] gave.
    pub fn open(repository: &Repository, revision: &str) -> Result<Self, Trouble> {
        let top = repository.top.to_string_lossy();
        let listed = output(&["-C", &top, "ls-tree", "-r", "-l", "-z", "--full-tree", revision])
            .map_err(Trouble::new)?;
        let text = String::from_utf8_lossy(&listed.stdout);
        let files = text.split('\0').filter_map(entry).collect();
        let mut child = Command::new("git")
            .args(["-C", &top, "cat-file", "--batch"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| Trouble::new(absent(&error)))?;
        let (questions, answers) = (child.stdin.take(), child.stdout.take());
        let answers = answers.ok_or_else(|| Trouble::new("git gives no answers"))?;
        let objects = Objects { child, questions, answers: BufReader::new(answers) };
        Ok(Self { files, read: Mutex::default(), objects: Mutex::new(objects) })
    }

    /// Every file's path, sorted.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.keys().map(PathBuf::as_path)
    }

    /// Whether there is a file of that path.
    pub fn has(&self, path: &Path) -> bool {
        self.files.contains_key(path)
    }

    fn text(&self, path: &Path) -> Option<String> {
        let (object, bytes) = self.files.get(path)?;
        if *bytes > MAX_FILE_BYTES {
            return None;
        }
        String::from_utf8(self.objects.lock().ask(object)?).ok()
    }
}

impl Sources for GitTree {
    fn read(&self, path: &Path) -> Option<Arc<SourceFile>> {
        // `a/../b.toml`: a `use` may say so, and git lists plain paths.
        let plain = plain(path)?;
        if let Some(known) = self.read.lock().get(&plain) {
            return known.clone();
        }
        let file = self.text(&plain).map(|text| Arc::new(SourceFile { path: plain.clone(), text }));
        self.read.lock().insert(plain, file.clone());
        file
    }
}

fn plain(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir if !plain.pop() => return None,
            _ => {}
        }
    }
    Some(plain)
}

/// `100644 blob 1234… 567\tpath`; links, submodules and trees are left out.
fn entry(line: &str) -> Option<(PathBuf, (String, u64))> {
    let (about, path) = line.split_once('\t')?;
    let mut words = about.split_whitespace();
    let (mode, kind, object) = (words.next()?, words.next()?, words.next()?);
    let bytes = words.next()?.parse().ok()?;
    (kind == "blob" && mode.starts_with("100")).then(|| (path.into(), (object.to_owned(), bytes)))
}

impl Objects {
    fn ask(&mut self, object: &str) -> Option<Vec<u8>> {
        let questions = self.questions.as_mut()?;
        writeln!(questions, "{object}").and_then(|()| questions.flush()).ok()?;
        let mut heading = String::new();
        self.answers.read_line(&mut heading).ok()?;
        // "<object> blob <bytes>", or "<object> missing".
        let bytes: u64 = heading.split_whitespace().nth(2)?.parse().ok()?;
        let mut content = Vec::new();
        (&mut self.answers).take(bytes + 1).read_to_end(&mut content).ok()?;
        content.pop();
        Some(content)
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        // It ends once nobody can ask it anything.
        self.questions = None;
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_lines() {
        let object = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(
            entry(&format!("100644 blob {object}     567\ta b/c.toml")),
            Some(("a b/c.toml".into(), (object.to_owned(), 567)))
        );
        assert_eq!(entry(&format!("120000 blob {object}      9\tlink.toml")), None);
        assert_eq!(entry(&format!("160000 commit {object}       -\tmodule")), None);
        assert_eq!(entry(""), None);
    }

    #[test]
    fn given_paths_count_from_the_top() {
        let repository = Repository { top: "/repo".into(), prefix: "connectors/".into() };
        let within = |path: &str| repository.within(Path::new(path)).ok();
        assert_eq!(within("shop.toml"), Some("connectors/shop.toml".into()));
        assert_eq!(within("."), Some("connectors".into()));
        assert_eq!(within("../other/x"), Some("other/x".into()));
        assert_eq!(within("/repo/a.toml"), Some("a.toml".into()));
        assert_eq!(within("/elsewhere"), None);
        assert_eq!(within("../../x"), None);
    }
}
