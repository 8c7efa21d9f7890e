//! Watches connector folders. What a watcher says is a hint: after a quiet moment everything is
//! looked at again, and a slow periodic look finds what no hint told of.

use std::{path::PathBuf, sync::Arc, time::Duration};

use notify::{EventKind, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Engine;

/// Editors write in several steps; a reload waits for the last of them.
const QUIET: Duration = Duration::from_millis(250);
/// A stream of changes cannot put a reload off for longer than this.
const AT_MOST: Duration = Duration::from_secs(2);
/// Folders on network file systems raise no events.
const RESCAN: Duration = Duration::from_mins(1);

/// Reloads when something under the connector paths changed, until `stop`.
pub async fn watch(engine: Arc<Engine>, paths: Vec<PathBuf>, stop: CancellationToken) {
    let (hint, mut hints) = mpsc::channel(1);
    // Dropped at the end of this function, and with it the watch.
    let watcher = start(&paths, hint);
    if let Err(error) = &watcher {
        tracing::warn!(%error, "no file watching; changes are found by re-scanning alone");
    }
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(()) = hints.recv() => settle(&mut hints).await,
            () = tokio::time::sleep(RESCAN) => {}
        }
        engine.reload_if_changed().await;
    }
}

/// Waits until no hint came for [`QUIET`].
async fn settle(hints: &mut mpsc::Receiver<()>) {
    let quiet =
        async { while let Ok(Some(())) = tokio::time::timeout(QUIET, hints.recv()).await {} };
    let _ = tokio::time::timeout(AT_MOST, quiet).await;
}

fn start(paths: &[PathBuf], hint: mpsc::Sender<()>) -> notify::Result<notify::RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Our own reading raises access events; whatever else, an error included, is worth a look.
        if !event.is_ok_and(|e| matches!(e.kind, EventKind::Access(_))) {
            // A full channel holds a hint already.
            let _ = hint.try_send(());
        }
    })?;
    for path in paths {
        // A watch on a file dies when an editor replaces the file: watch its folder.
        let folder = if path.is_dir() {
            path.clone()
        } else {
            path.parent().filter(|p| !p.as_os_str().is_empty()).map_or(".".into(), PathBuf::from)
        };
        watcher.watch(&folder, RecursiveMode::Recursive)?;
    }
    Ok(watcher)
}
