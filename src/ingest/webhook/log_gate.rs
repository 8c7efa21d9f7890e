//! A gate before the log, so that who sends many bad requests does not fill the operator's disk.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::world::Timestamp;

/// Lines that pass in one minute.
const LINES_PER_MINUTE: u64 = 20;

/// Lets the first lines of each minute pass and counts the others.
#[derive(Debug, Default)]
pub(super) struct LogGate {
    minute: AtomicI64,
    seen: AtomicU64,
}

impl LogGate {
    /// `Some` where the line may be written, with the number of lines kept back in the last minute
    /// that had any. Threads that race at a minute's turn may let a line more pass.
    pub(super) fn admit(&self, now: Timestamp) -> Option<u64> {
        let minute = now.0.div_euclid(60_000);
        if self.minute.swap(minute, Ordering::Relaxed) == minute {
            let seen = self.seen.fetch_add(1, Ordering::Relaxed);
            (seen < LINES_PER_MINUTE).then_some(0)
        } else {
            let seen = self.seen.swap(1, Ordering::Relaxed);
            Some(seen.saturating_sub(LINES_PER_MINUTE))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_leaves_a_few_lines_and_its_size() {
        let gate = LogGate::default();
        let first = Timestamp(1_700_000_000_000);
        let passed = (0..1000).filter(|_| gate.admit(first).is_some()).count();
        assert_eq!(passed, 20);
        assert_eq!(gate.admit(first.plus(std::time::Duration::from_mins(1))), Some(980));
        assert_eq!(gate.admit(first.plus(std::time::Duration::from_secs(61))), Some(0));
    }
}
