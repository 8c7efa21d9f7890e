//! How many operations the next group waits for: under load fewer and larger groups save writes,
//! syncs and wakes, and the producers that wait are many anyway.
//!
//! As many are waited for as the last two groups had between them, and one more: half of the
//! producers gather while the other half is answered and comes again. Where they do not come in time
//! the next group waits for half of those that did. A lone producer, or a few, never wait.

use std::time::Duration;

/// Fewer are not waited for: they come together while others are synced, or not at all.
const FEWEST: usize = 8;

/// More save little more.
const MOST: usize = 32;

/// For so long at most.
pub(super) const LINGER: Duration = Duration::from_millis(1);

/// See the module's text.
#[derive(Debug)]
pub(super) struct Company {
    wanted: usize,
    /// What the last group had.
    before: usize,
}

impl Company {
    pub fn new() -> Self {
        Self { wanted: 1, before: 0 }
    }

    /// So many are worth waiting for.
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    /// So many came.
    pub fn came(&mut self, operations: usize) {
        if operations == 0 {
            return;
        }
        let next = if operations < self.wanted {
            operations / 2
        } else {
            self.before.midpoint(operations) + 1
        };
        self.wanted = if operations.min(next) < FEWEST { 1 } else { next.min(MOST) };
        self.before = operations;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Groups of a loop of so many producers, each of which comes again one group after it was
    /// answered, and where `at_once` of them come while others are synced.
    fn groups(producers: usize, at_once: usize) -> Vec<usize> {
        let mut company = Company::new();
        let (mut away, mut here) = (0, producers);
        let mut groups = Vec::new();
        for _ in 0..200 {
            let came = here.min(company.wanted().max(at_once));
            company.came(came);
            groups.push(came);
            (away, here) = (came, here - came + away);
        }
        groups
    }

    #[test]
    fn few_never_wait() {
        for producers in 1..FEWEST {
            let mut company = Company::new();
            for _ in 0..20 {
                company.came(producers);
                assert_eq!(company.wanted(), 1, "{producers}");
            }
        }
    }

    #[test]
    fn many_come_to_large_groups_and_no_larger() {
        for producers in [64, 100, 1_000] {
            let groups = groups(producers, FEWEST);
            let settled = &groups[100..];
            assert!(settled.iter().all(|group| *group == MOST), "{producers}: {settled:?}");
        }
    }

    #[test]
    fn who_does_not_come_is_soon_not_waited_for() {
        let mut company = Company::new();
        (0..100).for_each(|_| company.came(MOST));
        assert_eq!(company.wanted(), MOST);
        company.came(12);
        assert_eq!(company.wanted(), 1, "half of what came is few");
        (0..100).for_each(|_| company.came(MOST));
        company.came(MOST - 1);
        assert_eq!(company.wanted(), (MOST - 1) / 2);
        company.came(0);
        assert_eq!(company.wanted(), (MOST - 1) / 2, "settlements alone say nothing");
    }
}
