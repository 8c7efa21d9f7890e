//! What a lane has told the bus of each tenant, so that it is told again only what changed. It outlives
//! the times in which the lane has something in hand: what was learned in one holds in the next. Of a
//! tenant that has nothing waiting anywhere it is forgotten after a while, here and in the bus.

use std::sync::Arc;

use hashbrown::HashMap;

use super::bay::Bay;
use crate::{
    bus::{Bus, LaneId, Steer},
    world::Timestamp,
};

/// Up to so many tenants none is forgotten.
const FORGET_FROM: usize = 1_024;

/// See the module's text.
#[derive(Default)]
pub struct Steering {
    told: HashMap<Option<Arc<str>>, Told>,
    /// How many tenants were left when it was last looked whom to forget.
    kept: usize,
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
    pub fn tell(&mut self, bus: &dyn Bus, lane: LaneId, bay: &Bay, steer: Steer, now: Timestamp) {
        let tenant = bay.tenant.as_deref();
        let closings = bay.closings();
        let before = self.told.insert(bay.tenant.clone(), Told { steer, closings });
        if before.is_none_or(|before| before.steer != steer) && !bus.steer(lane, tenant, steer) {
            self.told.remove(&bay.tenant);
        }
        if before.map_or(0, |before| before.closings) != closings {
            bus.hurry(lane, tenant);
        }
        if self.told.len() > FORGET_FROM.max(2 * self.kept) {
            self.forget(bus, lane, now);
        }
    }

    /// Takes back what was told of tenants that have nothing waiting and are not paused, so that the bus
    /// can forget them.
    fn forget(&mut self, bus: &dyn Bus, lane: LaneId, now: Timestamp) {
        self.told.retain(|tenant, told| {
            let Some(tenant) = tenant else { return true };
            let is_paused = told.steer.not_before.is_some_and(|until| until > now);
            if is_paused || bus.tenant_backlog(tenant).events > 0 {
                return true;
            }
            bus.steer(lane, Some(tenant), Steer::default());
            false
        });
        self.told.shrink_to_fit();
        self.kept = self.told.len();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::{
        bus::{Append, LaneOptions, MemoryBus, conformance},
        deliver::Adaptive,
        engine::places::Places,
        world::ScriptedClock,
    };

    #[tokio::test(start_paused = true)]
    async fn tenants_that_came_and_went_are_forgotten_and_told_again_when_they_come_back() {
        let bus = MemoryBus::new(Arc::new(ScriptedClock::starting_at(Timestamp(0))));
        let lane = bus.open(&conformance::lane("erp"), LaneOptions::default());
        let (mut steering, now) = (Steering::default(), Timestamp(0));
        let far = Timestamp(3_600_000);
        let mut visit = |tenant: String, steer: Steer, ends: bool| {
            let mut event = conformance::event(&tenant, if ends { "1" } else { "9" }, now);
            event.tenant = Some(tenant.clone());
            let events = vec![conformance::claimed(event)];
            bus.append(Append { events, state: Vec::new() }).now_or_never().unwrap().unwrap();
            let taken = bus.take(lane, 10).now_or_never().unwrap();
            let tenant = Some(Arc::from(tenant));
            let places = Arc::new(Places::new(8, Arc::default(), Arc::default()));
            let bay = Bay::new(tenant, 1, None, Adaptive::new(8), None, places);
            steering.tell(&*bus, lane, &bay, steer, now);
            if ends {
                bus.settle(lane, taken[0].seq, conformance::DELIVERED);
            }
            steering.told.len()
        };
        let paused = Steer { not_before: Some(far), ..Steer::default() };
        visit("paused".to_owned(), paused, true);
        let held = Steer { most: 1, ..Steer::default() };
        visit("waits".to_owned(), held, false);
        let most = (0..10_000).map(|n| visit(format!("t{n}"), held, true)).max();
        assert!(most <= Some(FORGET_FROM + 1), "{most:?}");
        assert!(bus.flows() <= 2 * FORGET_FROM, "{}", bus.flows());
        let append = |key: &str, tenant: &str| {
            let mut event = conformance::event(key, "2", now);
            event.tenant = Some(tenant.to_owned());
            let events = vec![conformance::claimed(event)];
            bus.append(Append { events, state: Vec::new() }).now_or_never().unwrap().unwrap();
        };
        append("1", "paused");
        append("2", "waits");
        assert!(bus.take(lane, 10).now_or_never().is_none(), "what was told of these stands");
        visit("t0".to_owned(), held, false);
        append("3", "t0");
        assert!(bus.take(lane, 10).now_or_never().is_none(), "it was told again");
    }
}
