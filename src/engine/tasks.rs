//! The only place that spawns. A task has a name and a kind, and what happens when it panics is
//! data of its kind; no task is forgotten, and shutdown can say who is late.

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tokio_util::task::TaskTracker;

/// What a task is for, and so what its panic means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskKind {
    /// Serves the whole process (webhook server, admin API): its panic makes the engine not ready.
    Service,
    /// Runs one connector and restarts what it runs: its own panic takes that connector alone.
    Supervisor,
    /// Does something once or now and then: its panic is logged.
    Background,
}

/// All tasks of one engine.
#[derive(Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    running: Arc<Mutex<BTreeMap<u64, Arc<str>>>>,
    next: Arc<AtomicU64>,
    broken: Arc<Mutex<Option<String>>>,
}

impl Tasks {
    /// Spawns a task under a name that logs and shutdown show.
    #[allow(clippy::disallowed_methods)] // The one place that spawns.
    pub fn spawn(
        &self,
        kind: TaskKind,
        name: impl Into<Arc<str>>,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let name = name.into();
        let number = self.next.fetch_add(1, Relaxed);
        self.running.lock().insert(number, Arc::clone(&name));
        let this = self.clone();
        // Combinators hold the task once; an async block that awaits it would hold it twice.
        let task = AssertUnwindSafe(task).catch_unwind().map(move |ended| {
            this.running.lock().remove(&number);
            if let Err(panic) = ended {
                let message = panic_message(&*panic);
                tracing::error!(task = &*name, ?kind, problem = message, "task panicked");
                if kind == TaskKind::Service {
                    *this.broken.lock() = Some(format!("{name} panicked: {message}"));
                }
            }
        });
        tokio::spawn(self.tracker.track_future(task));
    }

    /// Why the process cannot do its work any more, where a service died.
    pub fn broken(&self) -> Option<String> {
        self.broken.lock().clone()
    }

    /// Waits until all tasks ended or `within` has passed, and names those that have not.
    pub async fn finish(&self, within: Duration) -> Vec<String> {
        self.tracker.close();
        if tokio::time::timeout(within, self.tracker.wait()).await.is_ok() {
            return Vec::new();
        }
        self.running.lock().values().map(ToString::to_string).collect()
    }
}

/// Runs what waits for a disk on a thread that may wait. A panic in it goes on here.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => unreachable!("nobody cancels blocking work: {error}"),
        },
    }
}

/// The text of a panic.
pub fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
