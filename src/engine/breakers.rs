//! Breakers that are of no use any more: their tenant, destination or connector is gone. They are
//! forgotten with each reload, and once an hour.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::Engine;
use crate::{bus::write_state, deliver::StoredBreaker, plan::ConnectorPlan, world::Timestamp};

/// What the keys of stored breakers begin with.
const AREA: &str = "breaker/";

/// How often to look.
const EVERY: Duration = Duration::from_hours(1);

/// Where a breaker is kept while it is not closed.
pub fn key(connector: &str, destination: &str, tenant: Option<&str>) -> String {
    let tenant = tenant.map_or_else(String::new, |tenant| format!("/{tenant}"));
    format!("{AREA}{connector}/{destination}{tenant}")
}

/// Forgets breakers of which nobody has heard for long, once in a while.
pub async fn forget_old(engine: Arc<Engine>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
        engine.forget_breakers(false).await;
    }
}

/// Whether a stored breaker is of no use.
fn is_gone(
    value: &[u8],
    now: Timestamp,
    plan: Option<&ConnectorPlan>,
    destination: &str,
    all_known: bool,
) -> bool {
    let is_old = serde_json::from_slice::<StoredBreaker>(value).map_or(true, |it| it.is_old(now));
    is_old
        || match plan {
            Some(plan) => !plan.destinations.contains_key(destination),
            None => all_known,
        }
}

impl Engine {
    /// Forgets them. `all_known`: what does not run does not exist, rather than being unreadable.
    pub(super) async fn forget_breakers(&self, all_known: bool) {
        let now = self.shared.world.clock.now();
        let writes = {
            let running = &self.running.read().connectors;
            let destinations = running.values().flat_map(|connector| &connector.destinations);
            destinations.for_each(|destination| destination.forget_old(now));
            let is_gone = |key: &str, value: &[u8]| {
                let mut parts = key[AREA.len()..].splitn(3, '/');
                let (connector, destination) = (parts.next()?, parts.next()?);
                let plan = running.get(connector).map(|it| &*it.plan);
                is_gone(value, now, plan, destination, all_known).then_some(())
            };
            let stored = self.bus().state_under(AREA).into_iter();
            let gone = stored.filter(|(key, value)| is_gone(key, value).is_some());
            gone.map(|(key, _)| (key, None)).collect()
        };
        if let Err(error) = write_state(&**self.bus(), writes).await {
            tracing::warn!(%error, "breakers that are of no use stay");
        }
    }
}
