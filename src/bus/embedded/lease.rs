//! Leases between the lanes and a taker: bodies are read back, and nothing is lost on the way.

use std::sync::Arc;

use super::EmbeddedBus;
use crate::{
    bus::{Bus, Delivery, LaneId, Seq, Settlement, lanes::Taken},
    event::Event,
};

/// Bodies that are read back on the asking task; more go to a blocking thread.
const READ_INLINE: usize = 8;

/// Bodies of one take; what is beyond goes back and is leased later.
const TAKE_BYTES: usize = 16 << 20;

/// Leases on their way to a taker. Whatever was not handed over when this is dropped goes back, so
/// a future that is dropped has leased nothing.
pub(super) struct Leased<'a> {
    pub bus: &'a EmbeddedBus,
    pub lane: LaneId,
    pub leases: Vec<(Taken, Option<Arc<Event>>)>,
}

impl Leased<'_> {
    /// Reads the bodies that are no longer in memory, as many as one take may hold.
    pub async fn read_bodies(&mut self) {
        let missing = self.leases.iter().filter(|(_, event)| event.is_none());
        let seqs: Vec<u64> = missing.map(|(taken, _)| taken.seq).collect();
        if seqs.is_empty() {
            return;
        }
        let segments = Arc::clone(&self.bus.shared.segments);
        let asked = seqs.clone();
        let read = if seqs.len() <= READ_INLINE {
            segments.read_events(&asked, TAKE_BYTES)
        } else {
            let task =
                tokio::task::spawn_blocking(move || segments.read_events(&asked, TAKE_BYTES));
            task.await.unwrap_or_default()
        };
        let mut unreadable = Vec::new();
        let mut core = self.bus.shared.core.lock();
        let missing = self.leases.iter_mut().filter(|(_, event)| event.is_none());
        for ((taken, slot), result) in missing.zip(read) {
            match result {
                Ok(event) => {
                    if let Some(order) = event.order {
                        core.lanes.note_order(self.lane, taken.seq, order);
                    }
                    *slot = Some(event);
                }
                Err(error) => unreadable.push((taken.seq, error)),
            }
        }
        drop(core);
        for (seq, error) in unreadable {
            self.leases.retain(|(taken, _)| taken.seq != seq);
            self.bus.shared.quarantine.note(&format!("an unsettled event: {error}"));
            let reason = "unreadable".to_owned();
            self.bus.settle(self.lane, Seq(seq), Settlement::Dead { reason });
        }
    }

    pub fn hand_over(mut self) -> Vec<Delivery> {
        let leases = std::mem::take(&mut self.leases);
        let mut deliveries = Vec::with_capacity(leases.len());
        for (taken, event) in leases {
            let Some(event) = event else {
                self.leases.push((taken, None));
                continue;
            };
            deliveries.push(Delivery {
                seq: Seq(taken.seq),
                event,
                attempts: taken.retried.map_or(0, |r| r.attempts),
                first_attempt_at: taken.retried.map(|r| r.first_attempt_at),
                crowd: taken.crowd,
            });
        }
        deliveries
    }
}

impl Drop for Leased<'_> {
    fn drop(&mut self) {
        if !self.leases.is_empty() {
            let seqs = self.leases.iter().rev().map(|(taken, _)| taken.seq);
            self.bus.shared.core.lock().lanes.give_back(self.lane, seqs);
        }
    }
}
