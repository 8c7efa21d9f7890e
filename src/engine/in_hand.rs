//! How many bytes of events are in hand, over all lanes: what is beyond the limit waits on disk.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::sync::Notify;

use crate::event::Event;

/// What an event costs beside its record's text, and how often the text is there: as it came, laid
/// out, mapped, and as a request.
const OVERHEAD_BYTES: usize = 1 << 10;
const COPIES: usize = 4;

/// See the module's text.
pub struct InHand {
    bytes: Arc<AtomicU64>,
    limit_bytes: u64,
    freed: Notify,
}

impl InHand {
    /// Nothing is in hand. The bytes are counted in `bytes`, for the metrics.
    pub fn new(limit_bytes: usize, bytes: Arc<AtomicU64>) -> Arc<Self> {
        Arc::new(Self { bytes, limit_bytes: limit_bytes as u64, freed: Notify::new() })
    }

    /// What an event takes while it is in hand.
    pub fn cost(event: &Event) -> usize {
        OVERHEAD_BYTES + event.record.bytes().len() * COPIES
    }

    /// Notes that an event is in hand.
    pub fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Notes that it no longer is.
    pub fn remove(&self, bytes: usize) {
        let before = self.bytes.fetch_sub(bytes as u64, Relaxed);
        if before > self.limit_bytes {
            self.freed.notify_waiters();
        }
    }

    /// Completes once there is room for more.
    pub async fn room(&self) {
        if self.bytes.load(Relaxed) > self.limit_bytes {
            // On the heap: a lane that waits for events is to be small.
            Box::pin(self.freed()).await;
        }
    }

    async fn freed(&self) {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if self.bytes.load(Relaxed) <= self.limit_bytes {
                return;
            }
            freed.await;
        }
    }
}
