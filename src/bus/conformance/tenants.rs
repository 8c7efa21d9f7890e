//! What every bus must do with tenants: take turns, keep places free, steer and hurry them, and tell what
//! each has waiting.

use std::time::Duration;

use super::{DELIVERED, Subject, claimed, event, keys, lane};
use crate::{
    bus::{Delivery, LaneOptions, NewEvent, Settlement, Steer},
    plan::Order,
};

impl Subject {
    /// An event of a tenant, with a key of its own.
    fn of_tenant(&self, tenant: &str, number: usize) -> NewEvent {
        let mut event = event(&format!("{tenant}{number}"), "1", self.clock.now());
        event.tenant = Some(tenant.to_owned());
        claimed(event)
    }

    async fn append_of(&self, tenant: &str, count: usize) {
        self.append((0..count).map(|n| self.of_tenant(tenant, n)).collect()).await;
    }
}

fn count_of(deliveries: &[Delivery], tenant: &str) -> usize {
    deliveries.iter().filter(|d| d.event.tenant.as_deref() == Some(tenant)).count()
}

pub(super) async fn fair(subject: &Subject) {
    let bus = &subject.bus;
    subject.append_of("storm", 200).await;
    subject.append_of("quiet", 4).await;
    let erp = bus.open(&lane("erp"), LaneOptions { order: Order::None, window: 16 });
    let taken = bus.take(erp, 8).await;
    assert_eq!((count_of(&taken, "storm"), count_of(&taken, "quiet")), (4, 4));
    bus.settle(erp, taken[0].seq, DELIVERED);
    let rest = subject.due(erp, 16);
    let held = 7 + rest.len();
    assert!((12..=14).contains(&held), "some places stay free for others: {held}");
    subject.append_of("late", 2).await;
    let late = subject.due(erp, 16 - held);
    assert_eq!(count_of(&late, "late"), 2, "who has nothing in hand finds a place");
    let weighty = Steer { weight: 3, ..Steer::default() };
    let all = taken[1..].iter().chain(&rest).chain(&late);
    all.for_each(|d| bus.settle(erp, d.seq, DELIVERED));
    subject.append_of("heavy", 100).await;
    bus.steer(erp, Some("heavy"), weighty);
    let shared = subject.due(erp, 8);
    assert_eq!((count_of(&shared, "heavy"), count_of(&shared, "storm")), (6, 2));
}

pub(super) async fn steering(subject: &Subject) {
    let bus = &subject.bus;
    subject.append_of("a", 3).await;
    subject.append_of("b", 1).await;
    let erp = bus.open(&lane("erp"), LaneOptions::default());
    let until = subject.clock.now().plus(Duration::from_secs(5));
    bus.steer(erp, Some("a"), Steer { not_before: Some(until), ..Steer::default() });
    let taken = bus.take(erp, 10).await;
    assert_eq!((taken.len(), count_of(&taken, "b")), (1, 1));
    assert!(subject.due(erp, 10).is_empty());
    bus.steer(erp, Some("a"), Steer { not_before: Some(until), most: 2, ..Steer::default() });
    let taken = bus.take(erp, 10).await;
    assert_eq!(taken.len(), 2, "no more than it is held to");
    assert!(subject.clock.now() >= until);
    bus.settle(erp, taken[0].seq, DELIVERED);
    assert_eq!(bus.take(erp, 10).await.len(), 1);
    bus.steer(erp, Some("nobody"), Steer::default());
    let far = subject.clock.now().plus(Duration::from_hours(9));
    bus.steer(erp, Some("a"), Steer { not_before: Some(far), ..Steer::default() });
    subject.append(vec![subject.of_tenant("a", 7)]).await;
    assert!(subject.due(erp, 10).is_empty());
    bus.steer(erp, Some("a"), Steer::default());
    assert_eq!(subject.due(erp, 10).len(), 1, "a pause can be taken back");
}

pub(super) async fn hurrying(subject: &Subject) {
    let bus = &subject.bus;
    subject.append_of("a", 2).await;
    subject.append_of("b", 1).await;
    let erp = bus.open(&lane("erp"), LaneOptions::default());
    let now = subject.clock.now();
    let (due, error) = (now.plus(Duration::from_hours(9)), "503".to_owned());
    for taken in bus.take(erp, 10).await {
        let error = error.clone();
        let again = Settlement::Retry { due, attempts: 3, first_attempt_at: now, error };
        bus.settle(erp, taken.seq, again);
    }
    assert!(subject.due(erp, 10).is_empty());
    bus.hurry(erp, Some("a"));
    let hurried = subject.due(erp, 10);
    assert_eq!((keys(&hurried), hurried[0].attempts), (vec!["a0", "a1"], 3));
    bus.settle(erp, hurried[0].seq, DELIVERED);
    assert!(subject.due(erp, 10).is_empty(), "the other tenant's waits");
    bus.hurry(erp, Some("nobody"));
}

pub(super) async fn tenants(subject: &Subject) {
    let bus = &subject.bus;
    subject.append_of("a", 3).await;
    subject.append_keys(&["x"]).await;
    let waiting = bus.tenant_backlog("a");
    assert!(waiting.events == 3 && waiting.bytes > 0, "{waiting:?}");
    assert_eq!(bus.tenant_backlog("b").events, 0);
    let erp = subject.open("erp", false);
    let taken = bus.take(erp, 10).await;
    assert_eq!((taken.len(), bus.tenant_backlog("a").events), (4, 3));
    let mine = taken.iter().filter(|d| d.event.tenant.is_some());
    mine.for_each(|d| bus.settle(erp, d.seq, DELIVERED));
    assert_eq!(bus.tenant_backlog("a").events, 0);
    assert!(bus.tenants().is_empty());
}
