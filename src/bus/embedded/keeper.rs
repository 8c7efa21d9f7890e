//! The thread that writes checkpoints, so that the journal's thread never waits for sled.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    time::Duration,
};

use super::{
    index::{Index, Write},
    queue::Queue,
};

/// How long to wait before a checkpoint that sled refused is tried again.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// A checkpoint to write.
pub(super) struct Job {
    pub writes: Vec<Write>,
    /// The segment of its position.
    pub segment: u32,
}

/// What the journal's thread sees of the keeper.
#[derive(Default)]
pub(super) struct Kept {
    /// The segment of the last checkpoint that is durable.
    pub segment: AtomicU32,
    /// How many are durable.
    pub count: AtomicU32,
}

/// Writes checkpoints until the sender is gone.
pub(super) fn run(
    jobs: &mpsc::Receiver<Job>,
    index: &Index,
    kept: &Kept,
    queue: &Arc<Queue>,
    gone: &mpsc::Receiver<()>,
) {
    while let Ok(job) = jobs.recv() {
        while let Err(error) = index.apply(&job.writes) {
            tracing::error!(%error, "a checkpoint was not written; the journal keeps what it holds");
            match gone.recv_timeout(TRY_AGAIN_AFTER) {
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                _ => return,
            }
        }
        kept.segment.store(job.segment, Ordering::Release);
        kept.count.fetch_add(1, Ordering::Release);
        queue.nudge();
    }
}
