//! Tenants: what each may spend. One budget a tenant over all connectors, shared by the edge (how
//! much is taken in), the lanes (how much is delivered) and the bus (how much may wait).
//!
//! Events without a tenant have no budget: that is the stream's rate and the bus's own limits.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use hashbrown::HashMap;
use parking_lot::RwLock;

use super::Limiter;
use crate::{
    bus::{AppendError, Bus, NewEvent},
    plan::{TenantBudget, TenantSettings},
    world::{Clock, Timestamp},
};

/// Tenants whose rates are remembered. Beyond it all begin anew: names come from payloads, and memory
/// must not.
const REMEMBERED: usize = 65_536;
/// When a producer should come back whose tenant has too much waiting.
const BACKLOG_RETRY_AFTER: Duration = Duration::from_secs(5);

/// All tenants' budgets at work.
pub struct Tenants {
    settings: TenantSettings,
    spent: RwLock<HashMap<Arc<str>, Arc<Spent>>>,
}

impl Default for Tenants {
    /// Nobody has a budget.
    fn default() -> Self {
        Self::new(TenantSettings::default())
    }
}

/// What one tenant has spent.
struct Spent {
    accept: Limiter,
    deliver: Limiter,
}

impl Tenants {
    /// Nobody has spent anything.
    pub fn new(settings: TenantSettings) -> Self {
        Self { settings, spent: RwLock::default() }
    }

    fn budget(&self, tenant: &str) -> &TenantBudget {
        self.settings.named.get(tenant).unwrap_or(&self.settings.default)
    }

    fn spent(&self, tenant: &str) -> Arc<Spent> {
        if let Some(known) = self.spent.read().get(tenant) {
            return Arc::clone(known);
        }
        let budget = self.budget(tenant);
        let (accept, deliver) = (Limiter::new(&budget.accept), Limiter::new(&budget.deliver));
        let mut all = self.spent.write();
        if all.len() >= REMEMBERED {
            all.clear();
        }
        let made = || Arc::new(Spent { accept, deliver });
        Arc::clone(all.entry(Arc::from(tenant)).or_insert_with(made))
    }

    /// Its share beside other tenants at a destination.
    pub fn weight(&self, tenant: &str) -> u32 {
        self.budget(tenant).weight
    }

    /// Takes one delivery from a tenant's budget, or says when there is one.
    pub fn deliver(&self, tenant: &str, now: Timestamp) -> Result<(), Timestamp> {
        if self.budget(tenant).deliver.is_empty() {
            return Ok(());
        }
        self.spent(tenant).deliver.take(now)
    }

    /// How many of the events each tenant has. Most batches have none, or one.
    fn counted<'a>(events: impl IntoIterator<Item = &'a NewEvent>) -> BTreeMap<&'a str, u64> {
        let mut counted = BTreeMap::new();
        for tenant in events.into_iter().filter_map(|new| new.event.tenant.as_deref()) {
            *counted.entry(tenant).or_default() += 1;
        }
        counted
    }

    /// Whether a request with these events is taken in. It is taken whole where each of its tenants has
    /// anything left, so a request of more events than a rate allows at once passes, and the next waits.
    pub fn admit(
        &self,
        bus: &dyn Bus,
        events: &[NewEvent],
        now: Timestamp,
    ) -> Result<(), AppendError> {
        if self.settings.is_free() {
            return Ok(());
        }
        let counted = Self::counted(events);
        self.has_room(bus, counted.keys().copied())?;
        for tenant in counted.keys().filter(|tenant| !self.budget(tenant).accept.is_empty()) {
            if let Err(at) = self.spent(tenant).accept.look(now) {
                let retry_after = at.since(now);
                return Err(AppendError::Budget {
                    tenant: (*tenant).to_owned(),
                    what: "accept",
                    retry_after,
                });
            }
        }
        for (tenant, events) in &counted {
            if !self.budget(tenant).accept.is_empty() {
                let spent = self.spent(tenant);
                (0..*events).take_while(|_| spent.accept.take(now).is_ok()).for_each(drop);
            }
        }
        Ok(())
    }

    /// Waits until each event's tenant has budget for it, those aside that were taken in before: a poll is in no hurry, and can wait where a
    /// producer is sent away.
    pub async fn admitted(
        &self,
        bus: &dyn Bus,
        events: &[NewEvent],
        clock: &dyn Clock,
    ) -> Result<(), AppendError> {
        if self.settings.is_free() {
            return Ok(());
        }
        let known = bus.known(events).await;
        let new = events.iter().zip(known).filter(|(_, known)| !known).map(|(new, _)| new);
        let counted = Self::counted(new);
        self.has_room(bus, counted.keys().copied())?;
        for (tenant, events) in counted {
            if self.budget(tenant).accept.is_empty() {
                continue;
            }
            let spent = self.spent(tenant);
            for _ in 0..events {
                while let Err(at) = spent.accept.take(clock.now()) {
                    clock.sleep_until(at).await;
                }
            }
        }
        Ok(())
    }

    /// Whether none of these has too much waiting.
    fn has_room<'a>(
        &self,
        bus: &dyn Bus,
        tenants: impl Iterator<Item = &'a str>,
    ) -> Result<(), AppendError> {
        for tenant in tenants {
            let budget = self.budget(tenant);
            if budget.backlog.is_none() && budget.disk_bytes.is_none() {
                continue;
            }
            let waiting = bus.tenant_backlog(tenant);
            let what = if budget.backlog.is_some_and(|most| waiting.events >= most) {
                "backlog"
            } else if budget.disk_bytes.is_some_and(|most| waiting.bytes >= most) {
                "disk"
            } else {
                continue;
            };
            let retry_after = BACKLOG_RETRY_AFTER;
            return Err(AppendError::Budget { tenant: tenant.to_owned(), what, retry_after });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::Tenants;
    use crate::{
        bus::{AppendError, MemoryBus, NewEvent, conformance},
        plan::{Rate, TenantBudget, TenantSettings},
        world::{SystemClock, Timestamp},
    };

    fn event(tenant: Option<&str>) -> NewEvent {
        let mut event = conformance::event("1", "1", Timestamp(0));
        event.tenant = tenant.map(str::to_owned);
        conformance::claimed(event)
    }

    fn tenants() -> Tenants {
        let rate = |count| vec![Rate { count, per: Duration::from_secs(1) }];
        let default = TenantBudget { accept: rate(2), deliver: rate(1), ..TenantBudget::default() };
        let large = TenantBudget { accept: rate(10), weight: 4, ..TenantBudget::default() };
        Tenants::new(TenantSettings { default, named: [("large".to_owned(), large)].into() })
    }

    #[test]
    fn each_tenant_spends_its_own() {
        let (tenants, bus) = (tenants(), MemoryBus::new(Arc::new(SystemClock)));
        let admit = |tenant, ms| tenants.admit(&*bus, &[event(tenant)], Timestamp(ms));
        assert_eq!(admit(Some("a"), 0), Ok(()));
        assert_eq!(admit(Some("a"), 0), Ok(()));
        let spent = AppendError::Budget {
            tenant: "a".to_owned(),
            what: "accept",
            retry_after: Duration::from_millis(600),
        };
        assert_eq!(admit(Some("a"), 400), Err(spent));
        assert_eq!(admit(Some("b"), 400), Ok(()));
        assert!((0..9).all(|_| admit(Some("large"), 400).is_ok()));
        assert!((0..99).all(|_| admit(None, 400).is_ok()));
        assert_eq!(admit(Some("a"), 1_000), Ok(()));
        assert_eq!((tenants.weight("large"), tenants.weight("a")), (4, 1));
        assert_eq!(tenants.deliver("a", Timestamp(0)), Ok(()));
        assert_eq!(tenants.deliver("a", Timestamp(0)), Err(Timestamp(1_000)));
        assert_eq!(tenants.deliver("large", Timestamp(0)), Ok(()));
    }

    #[test]
    fn a_request_is_taken_whole_and_the_next_one_waits() {
        let (tenants, bus) = (tenants(), MemoryBus::new(Arc::new(SystemClock)));
        let many: Vec<_> = (0..50).map(|_| event(Some("a"))).collect();
        assert_eq!(tenants.admit(&*bus, &many, Timestamp(0)), Ok(()));
        assert!(tenants.admit(&*bus, &many[..1], Timestamp(0)).is_err());
    }
}
