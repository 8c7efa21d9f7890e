//! Lanes that forget flows hand out what lanes that never do hand out.

use proptest::prelude::*;

use super::*;
use crate::plan::Order;

const TENANTS: u8 = 3;

#[derive(Clone, Debug)]
enum Op {
    /// Tenant and key; tenant 0 is none.
    Push(u8, u8),
    Take(usize),
    /// Ends the lease at that place, for good or until so many seconds later.
    Settle(usize, Option<u8>),
    GiveBack(usize),
    /// Pauses a tenant that has something for so many seconds, and holds it to so many.
    Steer(u8, u8, usize),
    Unsteer(u8),
    Hurry(u8),
    Reopen,
    Wait(u8),
    Sweep,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..TENANTS, 0..4u8).prop_map(|(tenant, key)| Op::Push(tenant, key)),
        5 => (1..5usize).prop_map(Op::Take),
        9 => (any::<usize>(), prop::option::weighted(0.2, 1..9u8)).prop_map(|(at, due)| Op::Settle(at, due)),
        1 => any::<usize>().prop_map(Op::GiveBack),
        3 => (0..TENANTS, 0..5u8, 1..3usize).prop_map(|(tenant, s, most)| Op::Steer(tenant, s, most)),
        1 => (0..TENANTS).prop_map(Op::Unsteer),
        1 => (0..TENANTS).prop_map(Op::Hurry),
        1 => Just(Op::Reopen),
        2 => (1..6u8).prop_map(Op::Wait),
        4 => Just(Op::Sweep),
    ]
}

fn lane() -> Lane {
    Lane { connector: "shop".into(), stream: "orders".into(), destination: "erp".into() }
}

fn name(tenant: u8) -> Option<String> {
    (tenant > 0).then(|| format!("t{tenant}"))
}

fn push(lanes: &mut Lanes, tenant: Option<&str>, seq: u64, key: u64) -> FlowId {
    let (connector, stream, destination) = ("shop", "orders", "erp");
    let flow = lanes.intern(&FlowRef { connector, stream, destination, tenant });
    lanes.push(flow, seq, key, 10, None);
    flow
}

struct Pair {
    id: LaneId,
    /// One forgets, the other does not.
    lanes: [Lanes; 2],
    now: Timestamp,
    seq: u64,
    leased: Vec<u64>,
    by_key: bool,
}

impl Pair {
    fn new() -> Self {
        let mut lanes = [Lanes::default(), Lanes::default()];
        let ids = lanes.each_mut().map(|it| it.open(&lane(), LaneOptions::default()));
        let (now, leased) = (Timestamp(0), Vec::new());
        let mut pair = Self { id: ids[0], lanes, now, seq: 0, leased, by_key: false };
        pair.reopen();
        pair
    }

    fn both<T: PartialEq + std::fmt::Debug>(
        &mut self,
        each: impl Fn(&mut Lanes, LaneId) -> T,
    ) -> T {
        let id = self.id;
        let [forgets, other] = self.lanes.each_mut().map(|lanes| each(lanes, id));
        assert_eq!(forgets, other);
        forgets
    }

    /// Under the other order, so that all is sorted anew.
    fn reopen(&mut self) {
        self.by_key = !self.by_key;
        let order = if self.by_key { Order::Key } else { Order::None };
        self.both(|it, _| it.open(&lane(), LaneOptions { order, window: 8 }));
    }

    fn pick(&mut self, at: usize) -> Option<u64> {
        let len = self.leased.len();
        (len > 0).then(|| self.leased.swap_remove(at % len))
    }

    fn apply(&mut self, step: usize, op: Op) {
        let (now, seconds) = (self.now, |s: u8| self.now.0 + i64::from(s) * 1_000);
        match op {
            Op::Push(tenant, key) => {
                self.seq += 1;
                let (seq, tenant) = (self.seq, name(tenant));
                self.both(|it, _| {
                    push(it, tenant.as_deref(), seq, key.into());
                });
            }
            Op::Take(max) => {
                let taken = self.both(|it, id| it.take(id, max, now));
                self.leased.extend(taken.iter().map(|taken| taken.seq));
            }
            Op::Settle(at, due) => {
                let due = due.map(|s| Timestamp(seconds(s)));
                let Some(seq) = self.pick(at) else { return };
                let settlement = match due {
                    Some(due) => Settlement::Retry {
                        due,
                        attempts: 1,
                        first_attempt_at: now,
                        error: String::new(),
                    },
                    None => Settlement::Delivered { attempts: 1, status: None, sent: None },
                };
                let ended = |it: &mut Lanes, id| Some(it.settle(id, seq, &settlement)?.terminal);
                self.both(ended);
            }
            Op::GiveBack(at) => {
                let Some(seq) = self.pick(at) else { return };
                self.both(|it, id| it.give_back(id, [seq].into_iter()));
            }
            Op::Steer(tenant, s, most) => {
                let Some(tenant) = name(tenant) else { return };
                // No two end at once: whose turn it is then is by place.
                let not_before = (s > 0).then(|| Timestamp(seconds(s) + step as i64));
                let steer = Steer { not_before, most, weight: 1 };
                if self.both(|it, _| it.tenant(&tenant)).events > 0 {
                    self.both(|it, id| it.steer(id, Some(&tenant), steer));
                }
            }
            Op::Unsteer(tenant) => {
                let tenant = name(tenant);
                self.both(|it, id| {
                    it.steer(id, tenant.as_deref(), Steer::default());
                });
            }
            Op::Hurry(tenant) => {
                let tenant = name(tenant);
                self.both(|it, id| it.hurry(id, tenant.as_deref()));
            }
            Op::Reopen => self.reopen(),
            Op::Wait(s) => self.now = Timestamp(seconds(s)),
            Op::Sweep => drop(self.lanes[0].sweep(&HashSet::new())),
        }
    }

    fn compare(&mut self) {
        self.both(|it, id| (it.next_due(id), it.unsettled()));
        self.both(|it, _| {
            it.fills().into_iter().map(|fill| (fill.unsettled, fill.head)).collect::<Vec<_>>()
        });
        for tenant in (1..TENANTS).filter_map(name) {
            self.both(|it, _| it.tenant(&tenant));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_same_is_handed_out_with_and_without_a_sweep(ops in prop::collection::vec(op(), 1..300)) {
        let mut pair = Pair::new();
        for (step, op) in ops.into_iter().enumerate() {
            pair.apply(step, op);
            pair.compare();
        }
    }
}

#[test]
fn tenants_that_came_and_went_leave_little() {
    let mut lanes = Lanes::default();
    let id = lanes.open(&lane(), LaneOptions::default());
    push(&mut lanes, Some("stays"), 1, 1);
    let done = Settlement::Delivered { attempts: 1, status: None, sent: None };
    for seq in 2..100_000 {
        push(&mut lanes, Some(&format!("t{seq}")), seq, seq);
        lanes.take(id, 10, Timestamp(0));
        assert!(lanes.settle(id, seq, &done).is_some());
        if lanes.wants_sweep() {
            lanes.sweep(&HashSet::new());
        }
    }
    assert!(lanes.len() <= SWEEP_FROM + 1 && lanes.flows.len() <= SWEEP_FROM + 1);
    assert!(lanes.tenants.len() <= SWEEP_FROM + 1 && lanes.queues[0].flows.len() <= SWEEP_FROM + 1);
    assert_eq!(lanes.tenant("stays").events, 1);
}

/// Else the next one would find nothing kept free, as if there had been nobody before it.
#[test]
fn the_only_one_that_there_ever_was_stays() {
    let mut lanes = Lanes::default();
    let id = lanes.open(&lane(), LaneOptions::default());
    for (seq, tenant) in [(1, "a"), (2, "b")] {
        assert!(lanes.sweep(&HashSet::new()).is_empty());
        push(&mut lanes, Some(tenant), seq, 1);
        lanes.take(id, 10, Timestamp(0));
        lanes.settle(id, seq, &Settlement::Dead { reason: String::new() });
        lanes.take(id, 10, Timestamp(0));
    }
    assert_eq!(lanes.sweep(&HashSet::new()).len(), 2);
}

#[test]
fn a_number_that_is_still_named_is_not_given_to_another() {
    let mut lanes = Lanes::default();
    let id = lanes.open(&lane(), LaneOptions::default());
    let numbers = ["a", "b", "c"].map(|tenant| push(&mut lanes, Some(tenant), 1, 1));
    let done = Settlement::Dead { reason: String::new() };
    for _ in 0..3 {
        lanes.take(id, 10, Timestamp(0));
        lanes.settle(id, 1, &done);
    }
    lanes.take(id, 10, Timestamp(0));
    assert_eq!(lanes.sweep(&HashSet::from([numbers[0].0, numbers[1].0])), [numbers[2]]);
    assert!(lanes.has(numbers[0]) && !lanes.has(numbers[2]));
    assert_eq!(push(&mut lanes, Some("d"), 2, 2), numbers[2]);
    assert_eq!(push(&mut lanes, Some("e"), 3, 3), FlowId(3));
}
