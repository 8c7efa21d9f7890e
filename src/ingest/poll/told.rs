//! What APIs said of their budgets, shared by all connectors: whoever asks the same API with the same
//! credentials spends the same budget, whichever file says so.
//!
//! Only that a budget is spent is shared, and until when; what a file says in `rate` is that file's own.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use hashbrown::HashMap;
use parking_lot::Mutex;
use url::Url;

use crate::{auth::Principal, world::Timestamp};

/// See the module. One for the whole process.
#[derive(Default)]
pub struct Told {
    spent_until: Mutex<HashMap<Budget, Timestamp>>,
    /// Whether anything was ever said: mostly not.
    any: AtomicBool,
}

/// Whose budget, and with whom.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Budget {
    origin: String,
    principal: Principal,
}

impl Budget {
    /// Of requests to that URL.
    pub fn of(url: &Url, principal: Principal) -> Self {
        Self { origin: url.origin().ascii_serialization(), principal }
    }
}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Told").finish_non_exhaustive()
    }
}

impl Told {
    /// The API says that nothing is left before that time.
    pub(super) fn spent(&self, budget: Budget, until: Timestamp, now: Timestamp) {
        let mut all = self.spent_until.lock();
        all.retain(|_, until| *until > now);
        let known = all.entry(budget).or_insert(until);
        *known = until.max(*known);
        self.any.store(true, Relaxed);
    }

    /// Until when nothing is left, if so.
    pub(super) fn spent_until(&self, budget: &Budget, now: Timestamp) -> Option<Timestamp> {
        if !self.any.load(Relaxed) {
            return None;
        }
        self.spent_until.lock().get(budget).copied().filter(|until| *until > now)
    }
}
