//! What goes together, and when.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::event::{Event, EventId, Origin};

/// One event as these tests see it.
#[derive(Clone, Debug)]
struct Given {
    seq: u64,
    key: String,
    order: Option<i64>,
    tenant: Option<String>,
    bytes: usize,
}

fn given(seq: u64) -> Given {
    Given { seq, key: seq.to_string(), order: None, tenant: None, bytes: 10 }
}

fn ready(given: &Given) -> Ready {
    let revision = given.seq.to_string();
    let event = Event {
        id: EventId::derive("shop", "orders", &given.key, &revision),
        connector: "shop".into(),
        stream: "orders".into(),
        key: given.key.clone(),
        revision,
        order: given.order,
        tenant: given.tenant.clone(),
        received_at: Timestamp(0),
        origin: Origin::Webhook,
        delete: false,
        to: vec!["erp".into()],
        record: Record::from_value(json!({})),
        with: None,
        traceparent: None,
        replayed: None,
    };
    let delivery = Delivery {
        seq: Seq(given.seq),
        event: Arc::new(event),
        attempts: 0,
        first_attempt_at: None,
        crowd: 0,
    };
    let out = Record::from_value("x".repeat(given.bytes.saturating_sub(3)).into());
    Ready { delivery, out }
}

fn plan(max: usize, max_bytes: usize) -> BatchPlan {
    BatchPlan { max, within: Duration::from_secs(1), max_bytes, results: None }
}

fn grouper(max: usize) -> Grouper {
    Grouper::new(&plan(max, 1 << 20), [], Timestamp(0))
}

fn places(batch: Option<Batch>) -> Vec<u64> {
    batch.map(|batch| batch.seqs().into_iter().map(|seq| seq.0).collect()).unwrap_or_default()
}

#[test]
fn a_batch_goes_when_it_is_full_or_its_first_event_has_waited_long_enough() {
    let mut grouper = grouper(3);
    for seq in [4, 2] {
        grouper.add(ready(&given(seq)), Timestamp(seq as i64 * 100));
    }
    assert!(grouper.next(Timestamp(400), |_| true).is_none());
    assert_eq!(grouper.due(|_| true), Some(Timestamp(1400)));
    grouper.add(ready(&given(7)), Timestamp(500));
    assert_eq!(
        places(grouper.next(Timestamp(500), |_| true)),
        [2, 4, 7],
        "in the order of the journal"
    );
    grouper.add(ready(&given(8)), Timestamp(600));
    assert_eq!(grouper.due(|_| true), Some(Timestamp(1600)));
    assert!(grouper.next(Timestamp(1599), |_| true).is_none());
    assert_eq!(places(grouper.next(Timestamp(1600), |_| true)), [8]);
    assert_eq!((grouper.due(|_| true), grouper.events(), grouper.bytes()), (None, 0, 0));
}

#[test]
fn tenants_do_not_share_a_batch() {
    let mut grouper = grouper(2);
    for (seq, tenant) in [(1, "a"), (2, "b"), (3, "a"), (4, "b")] {
        let given = Given { tenant: Some(tenant.to_owned()), ..given(seq) };
        grouper.add(ready(&given), Timestamp(0));
    }
    assert_eq!(places(grouper.next(Timestamp(0), |_| true)), [1, 3]);
    assert_eq!(places(grouper.next(Timestamp(0), |_| true)), [2, 4]);
}

#[test]
fn a_tenant_that_may_not_send_goes_on_filling_its_batch() {
    let mut grouper = grouper(3);
    let of = |seq, tenant: &str| Given { tenant: Some(tenant.to_owned()), ..given(seq) };
    let without_a = |tenant: Option<&String>| tenant.is_none_or(|tenant| tenant != "a");
    for given in [of(1, "a"), of(2, "b"), of(3, "a")] {
        grouper.add(ready(&given), Timestamp(0));
    }
    assert_eq!(places(grouper.next(Timestamp(5000), without_a)), [2]);
    assert!(grouper.next(Timestamp(5000), without_a).is_none());
    assert_eq!(grouper.due(without_a), None);
    grouper.add(ready(&of(4, "a")), Timestamp(5000));
    assert_eq!(grouper.due(without_a), None, "full, and still it may not");
    assert_eq!(places(grouper.next(Timestamp(5000), |_| true)), [1, 3, 4]);
}

#[test]
fn states_of_one_thing_do_not_share_a_batch_where_the_newer_replaces_the_older() {
    let mut grouper = grouper(3);
    let state = |seq, order| Given { key: "k".to_owned(), order, ..given(seq) };
    for given in [state(1, Some(10)), state(2, Some(20)), given(3), given(4)] {
        grouper.add(ready(&given), Timestamp(0));
    }
    assert_eq!(places(grouper.next(Timestamp(0), |_| true)), [1, 3, 4]);
    assert_eq!(places(grouper.next(Timestamp(1000), |_| true)), [2]);
    for seq in [5, 6, 7] {
        grouper.add(ready(&state(seq, None)), Timestamp(2000));
    }
    assert_eq!(places(grouper.next(Timestamp(2000), |_| true)), [5, 6, 7], "ids only identify");
}

#[test]
fn bytes_close_a_batch_and_a_large_event_goes_by_itself() {
    let mut grouper = Grouper::new(&plan(100, 100), [], Timestamp(0));
    let sized = |seq, bytes| Given { bytes, ..given(seq) };
    for given in [sized(1, 60), sized(2, 30), sized(3, 30), sized(4, 500), sized(5, 10)] {
        grouper.add(ready(&given), Timestamp(0));
    }
    assert_eq!(places(grouper.next(Timestamp(0), |_| true)), [1, 2]);
    assert_eq!(places(grouper.next(Timestamp(0), |_| true)), [3]);
    assert_eq!(places(grouper.next(Timestamp(0), |_| true)), [4]);
    assert_eq!(places(grouper.next(Timestamp(0), |_| true)), [] as [u64; 0]);
    assert_eq!(places(grouper.next(Timestamp(1000), |_| true)), [5]);
}

#[test]
fn a_kept_batch_is_put_together_again_in_its_order() {
    let mut grouper = grouper(10);
    grouper.keep([2, 3, 5].map(Seq).to_vec(), Timestamp(0));
    for seq in [5, 9, 2] {
        grouper.add(ready(&given(seq)), Timestamp(0));
    }
    assert!(grouper.next(Timestamp(0), |_| true).is_none());
    grouper.add(ready(&given(3)), Timestamp(10));
    let batch = grouper.next(Timestamp(10), |_| true).unwrap();
    assert!(batch.is_kept);
    assert_eq!(batch.id(), Seq(2));
    assert_eq!(places(Some(batch)), [2, 3, 5]);
    // It stays kept until it is said to be done.
    for seq in [2, 3, 5] {
        grouper.add(ready(&given(seq)), Timestamp(50));
    }
    assert!(grouper.next(Timestamp(50), |_| true).is_some_and(|batch| batch.is_kept));
    grouper.leaves(Seq(5), Timestamp(60));
    assert_eq!(grouper.dissolved(), [Seq(2)]);
    assert!(!grouper.next(Timestamp(1000), |_| true).unwrap().is_kept, "the other one");
}

#[test]
fn a_kept_batch_comes_apart_where_an_event_does_not_come_back_or_it_no_longer_fits() {
    let mut late = grouper(10);
    late.keep([1, 2, 3].map(Seq).to_vec(), Timestamp(0));
    late.add(ready(&given(1)), Timestamp(0));
    late.add(ready(&given(2)), Timestamp(0));
    assert_eq!(late.due(|_| true), Some(Timestamp(1000)));
    assert!(late.next(Timestamp(1000), |_| true).is_none());
    assert_eq!(late.dissolved(), [Seq(1)]);
    let batch = late.next(Timestamp(2000), |_| true).unwrap();
    assert!(!batch.is_kept);
    assert_eq!(places(Some(batch)), [1, 2]);

    // Not while the others cannot come.
    let mut full = grouper(10);
    full.keep([1, 2].map(Seq).to_vec(), Timestamp(0));
    full.add(ready(&given(1)), Timestamp(0));
    assert_eq!((full.events(), full.is_empty()), (0, false));
    full.postpone(Timestamp(900));
    assert!(full.next(Timestamp(1500), |_| true).is_none());
    full.add(ready(&given(2)), Timestamp(1500));
    assert_eq!(full.events(), 2);
    assert!(full.next(Timestamp(1500), |_| true).is_some_and(|batch| batch.is_kept));

    let mut gone = grouper(10);
    gone.keep([1, 2].map(Seq).to_vec(), Timestamp(0));
    gone.add(ready(&given(1)), Timestamp(0));
    gone.leaves(Seq(2), Timestamp(5));
    assert_eq!(places(gone.next(Timestamp(1005), |_| true)), [1]);

    let mut smaller = grouper(2);
    smaller.keep([1, 2, 3].map(Seq).to_vec(), Timestamp(0));
    for seq in [1, 2, 3] {
        smaller.add(ready(&given(seq)), Timestamp(0));
    }
    assert_eq!(places(smaller.next(Timestamp(0), |_| true)), [1, 2]);
    assert_eq!(smaller.dissolved(), [Seq(1)]);
}

#[test]
fn halves_go_first_and_what_waits_is_given_back() {
    let mut grouper = grouper(3);
    for seq in 1..=4 {
        grouper.add(ready(&given(seq)), Timestamp(0));
    }
    let [first, second] = grouper.next(Timestamp(0), |_| true).unwrap().halves();
    grouper.put_first(second);
    grouper.put_first(first);
    assert_eq!(places(grouper.next(Timestamp(0), |_| true)), [1, 2]);
    assert_eq!((grouper.events(), grouper.bytes()), (2, 20));
    grouper.keep([8, 9].map(Seq).to_vec(), Timestamp(0));
    grouper.add(ready(&given(8)), Timestamp(0));
    let mut back: Vec<u64> = grouper.give_back().iter().map(|it| it.seq.0).collect();
    back.sort_unstable();
    assert_eq!(back, [3, 4, 8]);
    assert_eq!((grouper.due(|_| true), grouper.is_empty()), (None, true));
    for seq in [8, 9] {
        grouper.add(ready(&given(seq)), Timestamp(0));
    }
    assert!(grouper.next(Timestamp(0), |_| true).unwrap().is_kept, "given back is not given up");
}

fn any_given() -> impl Strategy<Value = Given> {
    let tenant = prop::option::of(prop::sample::select(vec!["a", "b"]));
    (0..6u8, prop::option::of(0..5i64), tenant, 3..80usize).prop_map(
        |(key, order, tenant, bytes)| Given {
            seq: 0,
            key: key.to_string(),
            order,
            tenant: tenant.map(str::to_owned),
            bytes,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_event_goes_once_and_in_time_and_no_batch_holds_what_it_may_not(
        events in prop::collection::vec((any_given(), 0..400i64), 0..60),
        max in 1..8usize, max_bytes in 20..200usize,
    ) {
        let mut grouper = Grouper::new(&plan(max, max_bytes), [], Timestamp(0));
        let mut now = Timestamp(0);
        let mut since = HashMap::new();
        let mut gone = Vec::new();
        let mut check = |grouper: &mut Grouper, now: Timestamp, since: &HashMap<u64, Timestamp>| {
            while let Some(batch) = grouper.next(now, |_| true) {
                let members = &batch.members;
                assert!(!members.is_empty() && members.len() <= max);
                assert!(batch.bytes() <= max_bytes || members.len() == 1);
                assert!(members.is_sorted_by_key(|member| member.delivery.seq));
                for (at, member) in members.iter().enumerate() {
                    assert_eq!(&member.delivery.event.tenant, &members[0].delivery.event.tenant);
                    assert!(!members[..at].iter().any(|other| other.rivals(member)));
                }
                gone.extend(members.iter().map(|member| member.delivery.seq.0));
            }
            assert!(grouper.due(|_| true).is_none_or(|due| due > now));
            for (seq, added) in since {
                assert!(gone.contains(seq) || added.plus(Duration::from_secs(1)) > now);
            }
            gone.len()
        };
        for (number, (event, wait)) in events.iter().enumerate() {
            now = Timestamp(now.0 + wait);
            check(&mut grouper, now, &since);
            since.insert(number as u64, now);
            grouper.add(ready(&Given { seq: number as u64, ..event.clone() }), now);
        }
        let went = check(&mut grouper, Timestamp(now.0 + 1000), &since);
        prop_assert_eq!(went, events.len());
        prop_assert_eq!((grouper.events(), grouper.bytes()), (0, 0));
        prop_assert!(grouper.is_empty());
    }
}
