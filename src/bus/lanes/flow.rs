//! One tenant's part of a lane, and whose turn it is.
//!
//! Tenants take turns (deficit round robin, Shreedhar and Varghese 1995, with one event as the unit
//! and the weight as the quantum). Turns alone do not help where the attempts of one tenant hang: they
//! end up with all of the lane's window. So the last quarter of the window goes only to tenants
//! below their fair share, and the last eighth only to those that have hardly anything in hand.

use std::{collections::VecDeque, sync::Arc};

use crate::{bus::Steer, world::Timestamp};

/// An event that waits in a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub seq: u64,
    /// The hash of its key.
    pub key: u64,
}

/// See the module's text.
pub(super) struct Flow {
    /// What checkpoints call it.
    pub number: u32,
    pub tenant: Option<Arc<str>>,
    pub ready: VecDeque<Entry>,
    /// In hand.
    pub leased: usize,
    /// Of its entries, those that wait for their time.
    pub delayed: usize,
    /// All entries, wherever they are.
    pub unsettled: u64,
    /// What their records take in the journal, as far as it is known.
    pub bytes: u64,
    pub steer: Steer,
    /// It stands in the ring.
    pub in_turn: bool,
    /// Its weight, as far as it is in the sum of the active flows' weights.
    pub weighed: u32,
    /// Until when it stands among the resting.
    pub rests: Option<Timestamp>,
}

impl Flow {
    pub fn new(number: u32, tenant: Option<Arc<str>>) -> Self {
        Self {
            number,
            tenant,
            ready: VecDeque::new(),
            leased: 0,
            delayed: 0,
            unsettled: 0,
            bytes: 0,
            steer: Steer::default(),
            in_turn: false,
            weighed: 0,
            rests: None,
        }
    }

    /// Until when nothing of it is handed out.
    pub fn paused(&self, now: Timestamp) -> Option<Timestamp> {
        self.steer.not_before.filter(|until| *until > now)
    }

    /// Whether it counts where the window is shared.
    pub fn is_active(&self) -> bool {
        self.in_turn || self.leased > 0
    }

    /// Whether it has nothing that a new flow in its place would not have.
    pub fn is_plain(&self) -> bool {
        let has_none = self.unsettled == 0 && self.leased == 0 && self.delayed == 0;
        let stands_nowhere = self.ready.is_empty() && !self.in_turn && self.rests.is_none();
        has_none && stands_nowhere && self.steer == Steer::default()
    }

    /// One of its entries is gone for good; sizes of single entries are not kept, so the mean goes.
    pub fn end_one(&mut self) {
        self.bytes -= self.bytes.checked_div(self.unsettled).unwrap_or_default();
        self.unsettled = self.unsettled.saturating_sub(1);
    }
}

/// How full a lane's window is, or a destination's, for a tenant that asks for one more place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// Most events in hand; 0: no limit.
    pub places: usize,
    pub taken: usize,
    /// The weights of all active tenants together.
    pub weights: u64,
    /// Only one tenant has ever been seen: nothing is kept free for others.
    pub alone: bool,
}

impl Window {
    /// Whether a tenant of this weight that holds `leased` places may have one more.
    pub fn admits(self, leased: usize, steer: &Steer) -> bool {
        if leased >= steer.most {
            return false;
        }
        if self.alone || self.places == 0 {
            return true;
        }
        let free = self.places.saturating_sub(self.taken);
        if free > self.places / 4 {
            return true;
        }
        if free <= self.places / 8 {
            return leased < (self.places / 16).max(1);
        }
        let weights = self.weights.max(1);
        (leased as u64) * weights < self.places as u64 * u64::from(steer.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::Window;
    use crate::bus::Steer;

    /// How many places each of these weights holds once nobody gets any more, taking turns.
    fn held<const N: usize>(places: usize, weights: [u32; N]) -> [usize; N] {
        let mut held = [0; N];
        loop {
            let before = held;
            for at in 0..N {
                let taken = held.iter().sum();
                let all = weights.iter().map(|w| u64::from(*w)).sum();
                let window = Window { places, taken, weights: all, alone: false };
                let steer = Steer { weight: weights[at], ..Steer::default() };
                held[at] += usize::from(taken < places && window.admits(held[at], &steer));
            }
            if held == before {
                return held;
            }
        }
    }

    #[test]
    fn places_are_kept_for_whoever_has_none() {
        assert_eq!(held(64, [1]), [56]);
        assert_eq!(held(16, [1]), [14]);
        assert_eq!(held(1, [1]), [1]);
        assert_eq!(held(2, [1]), [2]);
        assert_eq!(held(64, [1, 1]), [28, 28]);
        assert_eq!(held(64, [1, 1, 1, 1]), [14, 14, 14, 14]);
    }

    #[test]
    fn whoever_is_alone_or_unlimited_takes_all() {
        let window = Window { places: 8, taken: 7, weights: 1, alone: true };
        assert!(window.admits(7, &Steer::default()));
        assert!(!window.admits(7, &Steer { most: 7, ..Steer::default() }));
        let window = Window { places: 0, taken: 7, weights: 1, alone: false };
        assert!(window.admits(7, &Steer::default()));
    }
}
