//! What every bus must do, as checks that a test runs against a fresh one.
//!
//! Each check panics where the bus breaks a promise of [`Bus`]. Times are short and always waited
//! for on the subject's clock, so a paused runtime runs them at once and a real one in seconds.

mod tenants;

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;

use super::{
    Accepted, Append, AppendError, Bus, Claim, DeadLetter, Delivery, Ending, Endings, LaneId,
    LaneOptions, NewEvent, Seq, Settlement, document_hash,
};
use crate::{
    event::{Event, EventId, Lane, Origin, Record, ReplayId, Replayed},
    plan::Order,
    world::{BoxFuture, Clock, Timestamp},
};

/// A fresh bus, and the clock it runs on.
#[derive(Clone)]
pub struct Subject {
    /// The bus.
    pub bus: Arc<dyn Bus>,
    /// Its clock.
    pub clock: Arc<dyn Clock>,
}

/// One check: its name, and what to run on a fresh bus.
pub type Check = (&'static str, for<'a> fn(&'a Subject) -> BoxFuture<'a, ()>);

/// All checks.
pub const CHECKS: &[Check] = &[
    ("events are taken in order and settle once", |s| Box::pin(order(s))),
    ("an id is accepted once within its window", |s| Box::pin(duplicates(s))),
    ("a claim for ever holds while the revision is the last", |s| Box::pin(forever(s))),
    ("what was taken in is known", |s| Box::pin(known(s))),
    ("state is written with a batch and by itself", |s| Box::pin(state(s))),
    ("destinations settle separately, opened or not", |s| Box::pin(lanes(s))),
    ("a lane by key leases one event of a key at a time", |s| Box::pin(by_key(s))),
    ("a strict lane leases one event at a time", |s| Box::pin(strict(s))),
    ("tenants take turns, and none takes all places", |s| Box::pin(tenants::fair(s))),
    ("a tenant can be paused and held to so many", |s| Box::pin(tenants::steering(s))),
    ("what waits can be told that it need not", |s| Box::pin(tenants::hurrying(s))),
    ("what a tenant has waiting is known", |s| Box::pin(tenants::tenants(s))),
    ("a retry is due again with its count, a deferral without", |s| Box::pin(retries(s))),
    ("reopening a lane gives its leases back", |s| Box::pin(reopening(s))),
    ("a dropped take has leased nothing", |s| Box::pin(cancelling(s))),
    ("the newest delivered order of a key is known", |s| Box::pin(newest(s))),
    ("dead letters are kept, replaced and discarded", |s| Box::pin(dead_letters(s))),
    ("history pages by time", |s| Box::pin(history(s))),
    ("a trace tells all steps", |s| Box::pin(trace(s))),
    ("what became of many is known at once, the latest run first of all", |s| Box::pin(endings(s))),
    ("a closed bus refuses", |s| Box::pin(closing(s))),
];

const WINDOW: Duration = Duration::from_hours(1);

/// An event of `shop/orders` for the destination `erp`.
pub fn event(key: &str, revision: &str, received_at: Timestamp) -> Event {
    Event {
        id: EventId::derive("shop", "orders", key, revision),
        connector: "shop".into(),
        stream: "orders".into(),
        key: key.to_owned(),
        revision: revision.to_owned(),
        order: revision.parse().ok(),
        tenant: None,
        received_at,
        origin: Origin::Webhook,
        delete: false,
        to: vec!["erp".into()],
        record: Record::from_bytes(format!(r#"{{"key":"{key}"}}"#).into_bytes().into()),
        with: None,
        traceparent: None,
        replayed: None,
    }
}

/// The event with a claim that holds an hour.
pub fn claimed(event: Event) -> NewEvent {
    NewEvent { event: Arc::new(event), claim: Claim::Window(WINDOW) }
}

/// The lane of `shop/orders` to `destination`.
pub fn lane(destination: &str) -> Lane {
    Lane { connector: "shop".into(), stream: "orders".into(), destination: destination.into() }
}

/// How an attempt that the destination took ends.
pub const DELIVERED: Settlement =
    Settlement::Delivered { attempts: 1, status: Some(200), sent: None };

impl Subject {
    fn event(&self, key: &str, revision: &str) -> NewEvent {
        claimed(event(key, revision, self.clock.now()))
    }

    async fn append(&self, events: Vec<NewEvent>) -> Vec<Accepted> {
        let batch = Append { events, state: Vec::new() };
        self.bus.append(batch).await.expect("the bus takes events")
    }

    /// Appends one revision-1 event a key.
    async fn append_keys(&self, keys: &[&str]) -> Vec<Accepted> {
        self.append(keys.iter().map(|key| self.event(key, "1")).collect()).await
    }

    fn open(&self, destination: &str, by_key: bool) -> LaneId {
        let order = if by_key { Order::Key } else { Order::None };
        self.bus.open(&lane(destination), LaneOptions { order, window: 0 })
    }

    /// What is due now, without waiting.
    fn due(&self, lane: LaneId, max: usize) -> Vec<Delivery> {
        self.bus.take(lane, max).now_or_never().unwrap_or_default()
    }

    fn unsettled(&self, destination: &str) -> Option<u64> {
        let backlog = self.bus.backlog();
        backlog.iter().find(|b| b.lane == lane(destination)).map(|b| b.unsettled)
    }

    async fn wait(&self, duration: Duration) {
        self.clock.sleep_until(self.clock.now().plus(duration)).await;
    }
}

fn keys(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|d| d.event.key.as_str()).collect()
}

async fn order(subject: &Subject) {
    let bus = &subject.bus;
    let erp = subject.open("erp", false);
    let accepted = subject.append_keys(&["a", "b", "c"]).await;
    let seqs: Vec<Seq> = accepted
        .iter()
        .map(|a| match a {
            Accepted::New(seq) => *seq,
            Accepted::Duplicate => panic!("a first copy is no duplicate"),
        })
        .collect();
    assert!(seqs.is_sorted() && seqs[0] < seqs[2], "sequence numbers rise");
    let first = bus.take(erp, 2).await;
    assert_eq!(keys(&first), ["a", "b"]);
    assert_eq!((first[0].seq, first[0].attempts, first[0].first_attempt_at), (seqs[0], 0, None));
    let expected = event("a", "1", first[0].event.received_at);
    assert_eq!(*first[0].event, expected, "an event comes out as it went in");
    let second = bus.take(erp, 10).await;
    assert_eq!(keys(&second), ["c"]);
    assert!(subject.due(erp, 1).is_empty(), "a leased event is not due");
    for delivery in first.iter().chain(&second) {
        bus.settle(erp, delivery.seq, DELIVERED);
        bus.settle(erp, delivery.seq, DELIVERED);
    }
    assert_eq!(subject.unsettled("erp"), Some(0));
    assert_eq!(bus.health().unsettled, 0);
    assert!(subject.due(erp, 1).is_empty());
    assert_eq!(bus.health().appended, 3);
}

async fn duplicates(subject: &Subject) {
    let one = || subject.event("a", "1");
    let accepted = subject.append(vec![one(), one(), subject.event("a", "2")]).await;
    assert!(matches!(accepted[..], [Accepted::New(_), Accepted::Duplicate, Accepted::New(_)]));
    let batch = Append { events: vec![one()], state: vec![("cursor".into(), Some(b"9".into()))] };
    assert_eq!(subject.bus.append(batch).await, Ok(vec![Accepted::Duplicate]));
    assert_eq!(subject.bus.state("cursor").as_deref(), Some(&b"9"[..]));
    let replay = NewEvent { claim: Claim::None, ..one() };
    assert!(matches!(subject.append(vec![replay]).await[..], [Accepted::New(_)]));
    let erp = subject.open("erp", false);
    let taken = subject.bus.take(erp, 10).await;
    assert_eq!(keys(&taken), ["a", "a", "a"]);
    for delivery in &taken {
        subject.bus.settle(erp, delivery.seq, DELIVERED);
    }
    assert_eq!(subject.append(vec![one()]).await, [Accepted::Duplicate]);

    let window = Duration::from_secs(2);
    let brief = || NewEvent { claim: Claim::Window(window), ..subject.event("b", "1") };
    subject.append(vec![brief()]).await;
    assert_eq!(subject.append(vec![brief()]).await, [Accepted::Duplicate]);
    subject.wait(window + Duration::from_secs(1)).await;
    assert!(matches!(subject.append(vec![brief()]).await[..], [Accepted::New(_)]));
}

async fn forever(subject: &Subject) {
    let of = |revision| NewEvent { claim: Claim::Forever, ..subject.event("a", revision) };
    let accepted = subject.append(vec![of("1"), of("1"), of("2"), of("2"), of("1")]).await;
    let new: Vec<bool> = accepted.iter().map(|a| matches!(a, Accepted::New(_))).collect();
    assert_eq!(new, [true, false, true, false, true]);
    subject.wait(Duration::from_secs(2)).await;
    assert_eq!(subject.append(vec![of("1")]).await, [Accepted::Duplicate]);
    assert!(matches!(subject.append(vec![of("2")]).await[..], [Accepted::New(_)]));
    assert!(subject.bus.health().dedupe_keys >= 1);
}

async fn known(subject: &Subject) {
    let bus = &subject.bus;
    let (taken, other) = (subject.event("known", "1"), subject.event("known", "2"));
    assert_eq!(bus.known(std::slice::from_ref(&taken)).await, [false]);
    subject.append(vec![taken.clone()]).await;
    let unclaimed = NewEvent { claim: Claim::None, ..taken.clone() };
    assert_eq!(bus.known(&[other, unclaimed, taken]).await, [false, false, true]);
}

async fn state(subject: &Subject) {
    let bus = &subject.bus;
    let put = |key: &str, value: &str| (key.to_owned(), Some(value.as_bytes().to_vec()));
    let batch = Append {
        events: vec![subject.event("a", "1")],
        state: vec![put("p/b", "1"), put("p/a", "2"), put("q", "3")],
    };
    bus.append(batch).await.expect("the bus takes state");
    assert_eq!(bus.state("q").as_deref(), Some(&b"3"[..]));
    bus.put_state("p/c", Some(b"4".to_vec())).await.expect("the bus takes state");
    bus.put_state("p/b", None).await.expect("the bus takes state");
    let under = vec![("p/a".to_owned(), b"2".to_vec()), ("p/c".to_owned(), b"4".to_vec())];
    assert_eq!(bus.state_under("p/"), under);
    assert_eq!(bus.state_page("p/", None, 1), under[..1]);
    assert_eq!(bus.state_page("p/", Some("p/a"), 9), under[1..]);
    assert_eq!(bus.state_page("p/", Some("p/c"), 9), []);
    assert_eq!(bus.state("p/b"), None);
}

async fn lanes(subject: &Subject) {
    let bus = &subject.bus;
    let to = |key: &str, to: &[&str]| {
        let mut event = event(key, "1", subject.clock.now());
        event.to = to.iter().map(|d| Arc::from(*d)).collect();
        claimed(event)
    };
    let erp = subject.open("erp", false);
    subject.append(vec![to("a", &["erp", "crm"]), to("b", &[]), to("c", &["crm"])]).await;
    assert_eq!((subject.unsettled("erp"), subject.unsettled("crm")), (Some(1), Some(2)));
    assert_eq!(bus.health().unsettled, 3);
    let taken = bus.take(erp, 10).await;
    assert_eq!(keys(&taken), ["a"]);
    bus.settle(erp, taken[0].seq, Settlement::Dead { reason: "rejected".into() });
    assert_eq!((subject.unsettled("erp"), subject.unsettled("crm")), (Some(0), Some(2)));
    let backlog = bus.backlog();
    let waiting = backlog.iter().find(|b| b.lane == lane("crm")).expect("a lane is listed");
    assert_eq!(waiting.oldest, Some(taken[0].event.received_at));
    let crm = subject.open("crm", true);
    assert_ne!(erp, crm);
    assert_eq!(crm, subject.open("crm", true), "a lane keeps its id");
    assert_eq!(keys(&bus.take(crm, 10).await), ["a", "c"]);
    let all = bus.history(Timestamp(0), Timestamp(i64::MAX), None).expect("history is read");
    assert_eq!(all.events.len(), 3, "an event without a destination is in history");
}

async fn by_key(subject: &Subject) {
    let bus = &subject.bus;
    let of = |key: &str, revision: &str| subject.event(key, revision);
    // Before the lane is opened, so that opening sorts what is there already.
    subject.append(vec![of("a", "1"), of("a", "2"), of("b", "1")]).await;
    let erp = subject.open("erp", true);
    subject.append(vec![of("a", "3"), of("b", "2"), of("c", "1")]).await;
    let heads = bus.take(erp, 10).await;
    assert_eq!(keys(&heads), ["a", "b", "c"]);
    assert!(heads.iter().all(|d| d.event.revision == "1"));
    let now = subject.clock.now();
    let again = Settlement::Retry {
        due: now.plus(Duration::from_secs(5)),
        attempts: 1,
        first_attempt_at: now,
        error: "503".into(),
    };
    bus.settle(erp, heads[0].seq, again);
    bus.settle(erp, heads[1].seq, DELIVERED);
    let next = bus.take(erp, 10).await;
    assert_eq!((next.len(), &*next[0].event.key, &*next[0].event.revision), (1, "b", "2"));
    assert!(subject.due(erp, 10).is_empty(), "a retry keeps its key waiting");
    let again = bus.take(erp, 10).await;
    assert_eq!((again.len(), &*again[0].event.revision, again[0].attempts), (1, "1", 1));
    bus.settle(erp, again[0].seq, Settlement::Superseded { by: Some(2) });
    let second = bus.take(erp, 10).await;
    assert_eq!((second.len(), &*second[0].event.revision), (1, "2"));
}

async fn strict(subject: &Subject) {
    let bus = &subject.bus;
    subject.append_keys(&["a", "b", "c"]).await;
    let options = LaneOptions { order: Order::Strict, window: 8 };
    let erp = bus.open(&lane("erp"), options);
    let head = bus.take(erp, 10).await;
    assert_eq!(keys(&head), ["a"]);
    assert!(subject.due(erp, 10).is_empty());
    let now = subject.clock.now();
    let (due, error) = (now.plus(Duration::from_secs(2)), "503".to_owned());
    bus.settle(
        erp,
        head[0].seq,
        Settlement::Retry { due, attempts: 1, first_attempt_at: now, error },
    );
    assert!(subject.due(erp, 10).is_empty(), "a retry keeps all waiting");
    for key in ["a", "b", "c"] {
        let next = bus.take(erp, 10).await;
        assert_eq!(keys(&next), [key]);
        bus.settle(erp, next[0].seq, DELIVERED);
    }
}

async fn retries(subject: &Subject) {
    let bus = &subject.bus;
    let erp = subject.open("erp", false);
    subject.append_keys(&["a", "b"]).await;
    let taken = bus.take(erp, 10).await;
    let first_attempt_at = subject.clock.now();
    let due = first_attempt_at.plus(Duration::from_secs(4));
    let error = "connection refused".to_owned();
    bus.settle(erp, taken[0].seq, Settlement::Retry { due, attempts: 1, first_attempt_at, error });
    let sooner = first_attempt_at.plus(Duration::from_secs(2));
    bus.settle(erp, taken[1].seq, Settlement::Defer { due: sooner });
    assert!(subject.due(erp, 10).is_empty());
    let deferred = bus.take(erp, 10).await;
    assert_eq!((keys(&deferred), deferred[0].attempts), (vec!["b"], 0));
    assert!(subject.clock.now() >= sooner);
    let retried = bus.take(erp, 10).await;
    assert_eq!((keys(&retried), retried[0].attempts), (vec!["a"], 1));
    assert_eq!(retried[0].first_attempt_at, Some(first_attempt_at));
    assert!(subject.clock.now() >= due);
    bus.settle(erp, retried[0].seq, Settlement::Defer { due });
    assert_eq!(bus.take(erp, 1).await[0].attempts, 1, "a deferral keeps the count");
}

async fn reopening(subject: &Subject) {
    let bus = &subject.bus;
    let erp = subject.open("erp", true);
    subject.append(vec![subject.event("a", "1"), subject.event("a", "2")]).await;
    subject.append_keys(&["b"]).await;
    let before = bus.take(erp, 10).await;
    assert_eq!(keys(&before), ["a", "b"]);
    assert_eq!(subject.open("erp", true), erp);
    bus.settle(erp, before[1].seq, DELIVERED);
    assert_eq!(subject.unsettled("erp"), Some(2), "what a former holder delivered is delivered");
    let after = bus.take(erp, 10).await;
    assert_eq!(keys(&after), ["a"]);
    assert_eq!(after[0].seq, before[0].seq);
    bus.settle(erp, after[0].seq, DELIVERED);
    assert_eq!(bus.take(erp, 10).await[0].event.revision, "2");
    assert_eq!(subject.open("erp", false), erp);
    subject.append(vec![subject.event("a", "3")]).await;
    assert_eq!(keys(&bus.take(erp, 10).await), ["a", "a"], "a lane may lose its order by key");
}

async fn cancelling(subject: &Subject) {
    let bus = &subject.bus;
    let erp = subject.open("erp", false);
    let dropped = bus.take(erp, 1);
    let mut waiting = bus.take(erp, 10);
    assert!((&mut waiting).now_or_never().is_none());
    drop(dropped);
    subject.append_keys(&["a"]).await;
    assert_eq!(keys(&waiting.await), ["a"], "an append wakes who waits");
    let mut late = bus.take(erp, 1);
    assert!((&mut late).now_or_never().is_none());
    subject.append_keys(&["b"]).await;
    drop(late);
    assert_eq!(keys(&bus.take(erp, 1).await), ["b"]);
}

async fn newest(subject: &Subject) {
    let bus = &subject.bus;
    let erp = subject.open("erp", false);
    let crm = subject.open("crm", false);
    assert_eq!(bus.newest(erp, "a"), None);
    subject.append(vec![subject.event("a", "7"), subject.event("a", "5")]).await;
    let taken = bus.take(erp, 10).await;
    bus.settle(erp, taken[0].seq, DELIVERED);
    assert_eq!(bus.newest(erp, "a"), Some(7));
    bus.settle(erp, taken[1].seq, DELIVERED);
    assert_eq!(bus.newest(erp, "a"), Some(7), "an older delivery does not lower it");
    assert_eq!((bus.newest(erp, "b"), bus.newest(crm, "a")), (None, None));
    subject.append(vec![subject.event("a", "x"), subject.event("a", "9")]).await;
    let taken = bus.take(erp, 10).await;
    bus.settle(erp, taken[0].seq, DELIVERED);
    bus.settle(erp, taken[1].seq, Settlement::Superseded { by: Some(2) });
    assert_eq!(bus.newest(erp, "a"), Some(7), "only a delivery with an order raises it");
}

async fn dead_letters(subject: &Subject) {
    let bus = &subject.bus;
    let letter = |key: &str, message: &str| DeadLetter {
        event: Arc::new(event(key, "1", subject.clock.now())),
        destination: "erp".into(),
        died_at: subject.clock.now(),
        reason: "rejected".into(),
        message: message.into(),
        attempts: 3,
        status: Some(422),
        variant: Some("next".into()),
    };
    let (first, second) = (letter("a", "first"), letter("b", "second"));
    let a = bus.bury(first.clone()).await.expect("a letter is taken");
    let b = bus.bury(second.clone()).await.expect("a letter is taken");
    assert_ne!(a, b);
    assert_eq!(bus.dead_letter(a), Ok(Some(first.clone())));
    let replaced = DeadLetter { message: "again".into(), attempts: 4, ..first };
    assert_eq!(bus.bury(replaced.clone()).await, Ok(a));
    assert_eq!(bus.dead_letter(a), Ok(Some(replaced.clone())));
    let listed = bus.dead_letters();
    assert_eq!(listed.iter().map(|s| s.id).collect::<Vec<_>>(), [a, b]);
    assert_eq!((listed[0].event, &listed[0].lane), (replaced.event.id, &lane("erp")));
    assert_eq!((listed[0].died_at, &*listed[0].reason), (replaced.died_at, "rejected"));
    assert_eq!(listed[0].variant.as_deref(), Some("next"));
    let other = replaced.died_at.plus(Duration::from_millis(1));
    assert_eq!(bus.discard_if(a, other).await, Ok(false), "one that died later stays");
    assert_eq!(bus.discard_if(a, replaced.died_at).await, Ok(true));
    assert_eq!(bus.discard(a).await, Ok(false));
    assert_eq!(bus.dead_letter(a), Ok(None));
    assert_eq!(bus.health().dead_letters, 1);
    let c = bus.bury(letter("a", "anew")).await.expect("a letter is taken");
    assert!(c > b, "a number is not given twice");
    assert_eq!(bus.dead_letter(b), Ok(Some(second)));
}

async fn history(subject: &Subject) {
    let bus = &subject.bus;
    let start = subject.clock.now();
    let at = |n: usize| start.plus(Duration::from_millis(n as u64));
    for chunk in (0..2_300).collect::<Vec<usize>>().chunks(230) {
        let events = chunk.iter().map(|n| claimed(event(&n.to_string(), "1", at(*n)))).collect();
        subject.append(events).await;
    }
    let read = |from: usize, to: usize| {
        let (mut seen, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = bus.history(at(from), at(to), after).expect("history is read");
            seen.extend(page.events.iter().map(|(_, e)| e.key.parse::<usize>().unwrap()));
            pages += 1;
            after = page.next;
            if after.is_none() {
                return (seen, pages);
            }
        }
    };
    let (all, pages) = read(0, 2_300);
    assert_eq!(all, (0..2_300).collect::<Vec<_>>());
    assert!(pages >= 3, "a page is bounded");
    assert_eq!(read(100, 400).0, (100..400).collect::<Vec<_>>());
    assert_eq!(read(5_000, 6_000).0, Vec::<usize>::new());
}

async fn trace(subject: &Subject) {
    let bus = &subject.bus;
    let erp = subject.open("erp", false);
    subject.append_keys(&["a"]).await;
    let taken = bus.take(erp, 1).await;
    let first_attempt_at = subject.clock.now();
    let again = Settlement::Retry {
        due: first_attempt_at,
        attempts: 1,
        first_attempt_at,
        error: "status 503".into(),
    };
    bus.settle(erp, taken[0].seq, again);
    let taken = bus.take(erp, 1).await;
    bus.settle(
        erp,
        taken[0].seq,
        Settlement::Delivered { attempts: 2, status: Some(201), sent: None },
    );
    let replay = NewEvent { claim: Claim::None, ..subject.event("a", "1") };
    subject.append(vec![replay]).await;

    let traces = bus.trace(taken[0].event.id).expect("a trace is read");
    let steps: Vec<Vec<(&str, Option<&str>)>> = traces
        .iter()
        .map(|t| t.steps.iter().map(|s| (s.what.as_str(), s.destination.as_deref())).collect())
        .collect();
    let erp = Some("erp");
    let first = vec![("accepted", None), ("retry", erp), ("delivered", erp)];
    assert_eq!(steps, [first, vec![("accepted", None)]]);
    assert!(traces[0].steps[1].detail.starts_with("attempt 1: status 503; again at "));
    assert_eq!(traces[0].steps[2].detail, "attempt 2, status 201");
    assert_eq!((traces[0].seq, &traces[0].event), (taken[0].seq, &taken[0].event));
    let unknown = bus.trace(EventId::derive("shop", "orders", "zzz", "1"));
    assert_eq!(unknown, Ok(Vec::new()));
}

async fn endings(subject: &Subject) {
    let bus = &subject.bus;
    let (erp, crm) = (subject.open("erp", false), subject.open("crm", false));
    let mut events = Vec::new();
    for key in ["a", "b", "c", "d", "e"] {
        let mut event = event(key, "1", subject.clock.now());
        event.to.push("crm".into());
        events.push(event);
    }
    subject.append(events.iter().cloned().map(claimed).collect()).await;
    let sent = Some(document_hash(b"{}"));
    let delivered = Settlement::Delivered { attempts: 1, status: None, sent };
    let dead = Settlement::Dead { reason: "rejected".into() };
    let now = subject.clock.now();
    let retry = Settlement::Retry {
        due: now.plus(WINDOW),
        attempts: 1,
        first_attempt_at: now,
        error: String::new(),
    };
    let ends = [&delivered, &dead, &dead, &Settlement::Superseded { by: None }, &retry];
    for (taken, settlement) in bus.take(erp, 5).await.into_iter().zip(ends) {
        bus.settle(erp, taken.seq, settlement.clone());
    }
    let taken = bus.take(crm, 1).await;
    bus.settle(crm, taken[0].seq, DELIVERED);
    // A replay's copies of the two that died: the first is delivered, the second is on its way.
    for event in &events[1..3] {
        let mut copy = event.clone();
        copy.to = vec!["erp".into()];
        let by = ReplayId::new(now, 7);
        copy.replayed = Some(Replayed { by, keys: None });
        subject.append(vec![NewEvent { event: Arc::new(copy), claim: Claim::None }]).await;
    }
    let taken = bus.take(erp, 1).await;
    assert!(taken[0].event.replayed.is_some());
    bus.settle(erp, taken[0].seq, delivered.clone());

    let page = bus.history(Timestamp(0), Timestamp(i64::MAX), None).expect("history is read");
    let mut asked = Endings::default();
    for (seq, event) in page.events.iter().filter(|(_, event)| event.replayed.is_none()) {
        asked.ask(*seq, event);
    }
    assert_eq!(asked.len(), 5);
    let mut after = None;
    loop {
        after = bus.endings(&mut asked, after).expect("endings are read");
        if after.is_none() {
            break;
        }
    }
    let words = |destination: &str| -> Vec<&str> {
        let word = |event: &Event| asked.of(event.id, destination).map_or("", Ending::word);
        events.iter().map(word).collect()
    };
    assert_eq!(words("erp"), ["delivered", "delivered", "pending", "superseded", "pending"]);
    assert_eq!(words("crm"), ["delivered", "pending", "pending", "pending", "pending"]);
    assert_eq!(asked.of(events[0].id, "erp"), Some(&Ending::Delivered { sent }));
    assert_eq!(asked.of(events[0].id, "crm"), Some(&Ending::Delivered { sent: None }));
    assert_eq!(asked.of(events[0].id, "pim"), None);
    let name = lane("erp");
    assert_eq!((bus.newest_of(&name, "a"), bus.newest_of(&name, "d")), (Some(1), None));
}

async fn closing(subject: &Subject) {
    let bus = &subject.bus;
    subject.append_keys(&["a"]).await;
    bus.close().await;
    bus.close().await;
    let batch = Append { events: vec![subject.event("b", "1")], state: Vec::new() };
    assert_eq!(bus.append(batch).await, Err(AppendError::Closed));
    assert!(bus.put_state("k", None).await.is_err());
    assert!(bus.health().refusing.is_some());
}
