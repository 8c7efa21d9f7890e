//! The thread that writes checkpoints, so that the journal's thread never waits for sled.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    time::Duration,
};

use hashbrown::HashSet;

use super::{
    format::claims::BlockKey,
    index::{Index, Shelf, Write},
    queue::Queue,
};

/// How long to wait before a checkpoint that sled refused is tried again.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// A checkpoint to write.
pub(super) struct Job {
    pub writes: Vec<Write>,
    /// The segment of its position.
    pub segment: u32,
    /// For dropping dedupe blocks: what time it is, and which segments there are.
    pub now_s: u32,
    pub segments: HashSet<u32>,
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
    while let Ok(mut job) = jobs.recv() {
        job.writes.extend(expired_blocks(index, &job));
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

/// Dedupe blocks whose claims have ended and whose events are gone.
fn expired_blocks(index: &Index, job: &Job) -> Vec<Write> {
    let mut expired = Vec::new();
    let read = index.each(Shelf::Claims, |key, _| {
        let block = BlockKey::decode(key).map_err(|_| "a dedupe block has no name".to_owned())?;
        if block.until_s >= job.now_s {
            return Err(String::new()); // Blocks stand in order of expiry: the rest is live.
        }
        if !job.segments.contains(&block.segment) {
            expired.push(Write { shelf: Shelf::Claims, key: key.to_vec(), value: None });
        }
        Ok(())
    });
    if let Err(error) = read
        && !error.is_empty()
    {
        tracing::warn!(%error, "expired dedupe blocks were not looked through");
    }
    expired
}
