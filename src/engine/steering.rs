//! What a lane has told the bus of each tenant, so that it is told again only what changed. It outlives
//! the times in which the lane has something in hand: what was learned in one holds in the next.

use std::sync::Arc;

use hashbrown::HashMap;

use super::bay::Bay;
use crate::bus::{Bus, LaneId, Steer};

/// See the module's text.
#[derive(Default)]
pub struct Steering {
    told: HashMap<Option<Arc<str>>, Told>,
}

#[derive(Clone, Copy)]
struct Told {
    steer: Steer,
    /// How often the tenant's breaker had closed by then.
    closings: u64,
}

impl Steering {
    /// Tells the bus how to hand out a tenant's events, where that is another way than before; and that
    /// what waits need not any longer, once for each time that its breaker closed.
    pub fn tell(&mut self, bus: &dyn Bus, lane: LaneId, bay: &Bay, steer: Steer) {
        let tenant = bay.tenant.as_deref();
        let closings = bay.closings();
        let before = self.told.insert(bay.tenant.clone(), Told { steer, closings });
        if before.is_none_or(|before| before.steer != steer) {
            bus.steer(lane, tenant, steer);
        }
        if before.map_or(0, |before| before.closings) != closings {
            bus.hurry(lane, tenant);
        }
    }
}
