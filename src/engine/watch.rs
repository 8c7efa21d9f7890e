//! Watches connector folders. What a watcher says is a hint, and narrows a look at best: a slow
//! periodic look everywhere finds what no hint told of.

use std::{
    collections::BTreeSet,
    mem,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{Event, EventKind, RecursiveMode, Watcher as _};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Engine, files::plain, load::Look};

/// Editors write in several steps; a reload waits for the last of them.
const QUIET: Duration = Duration::from_millis(250);
/// A stream of changes cannot put a reload off for longer than this.
const AT_MOST: Duration = Duration::from_secs(2);
/// Folders on network file systems raise no events.
const RESCAN: Duration = Duration::from_mins(1);
/// More places than this are not worth telling apart.
const MOST_PLACES: usize = 1024;

/// What was told since somebody last asked.
#[derive(Default)]
struct Hints {
    look: Mutex<Option<Look>>,
    told: Notify,
}

/// Reloads when something under the connector paths changed, until `stop`.
pub async fn watch(engine: Arc<Engine>, paths: Vec<PathBuf>, stop: CancellationToken) {
    let hints = Arc::new(Hints::default());
    // Dropped at the end of this function, and with it the watch.
    let watcher = start(&paths, Arc::clone(&hints));
    if let Err(error) = &watcher {
        tracing::warn!(%error, "no file watching; changes are found by re-scanning alone");
    }
    let mut rescan = tokio::time::interval(RESCAN);
    rescan.reset();
    loop {
        let look = tokio::select! {
            () = stop.cancelled() => return,
            () = hints.told.notified() => {
                settle(&hints).await;
                mem::take(&mut *hints.look.lock()).unwrap_or(Look::Everywhere)
            }
            _ = rescan.tick() => Look::Everywhere,
        };
        engine.reload_if_changed(look).await;
    }
}

/// Waits until no hint came for [`QUIET`].
async fn settle(hints: &Hints) {
    let quiet = async { while tokio::time::timeout(QUIET, hints.told.notified()).await.is_ok() {} };
    let _ = tokio::time::timeout(AT_MOST, quiet).await;
}

impl Hints {
    fn add(&self, places: Option<impl Iterator<Item = PathBuf>>) {
        let mut look = self.look.lock();
        let known = look.get_or_insert_with(|| Look::At(BTreeSet::new()));
        match (known, places) {
            (Look::At(known), Some(places)) if known.len() < MOST_PLACES => known.extend(places),
            (known, _) => *known = Look::Everywhere,
        }
        drop(look);
        self.told.notify_one();
    }
}

fn start(paths: &[PathBuf], hints: Arc<Hints>) -> notify::Result<notify::RecommendedWatcher> {
    // A watch on a file dies when an editor replaces the file: watch its folder.
    let folder_of = |path: &PathBuf| match path.parent() {
        _ if path.is_dir() => path.clone(),
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let folders: Vec<PathBuf> = paths.iter().map(folder_of).collect();
    let named = folders.clone().into_iter().map(|given| (std::path::absolute(&given), given));
    let named: Vec<_> = named.filter_map(|(whole, given)| Some((whole.ok()?, given))).collect();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        match event {
            // Our own reading raises access events.
            Ok(event) if matches!(event.kind, EventKind::Access(_)) => {}
            Ok(event) if !event.need_rescan() && !event.paths.is_empty() => {
                hints.add(Some(event.paths.into_iter().map(|path| as_given(&path, &named))));
            }
            // Whatever else, an error included, is worth a look.
            _ => hints.add(None::<std::iter::Empty<_>>),
        }
    })?;
    for folder in &folders {
        watcher.watch(folder, RecursiveMode::Recursive)?;
    }
    Ok(watcher)
}

/// Watchers tell whole paths; files are known by the paths that were given.
fn as_given(path: &Path, named: &[(PathBuf, PathBuf)]) -> PathBuf {
    named
        .iter()
        .find_map(|(whole, given)| Some(plain(given.join(path.strip_prefix(whole).ok()?))))
        .unwrap_or_else(|| path.to_owned())
}
