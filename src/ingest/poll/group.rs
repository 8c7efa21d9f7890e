//! Which partitions go into one request: one, or with `batch` and `collect` several.
//!
//! Those that go together share a window, which begins at the earliest cursor among them. So they have
//! to stand close together: no further apart than duplicates are known as such, and one that was never
//! read goes with others that never were, from `start` on.

use std::{sync::Arc, time::Duration};

use serde_json::Value;

use crate::plan::{Dedupe, Group, PollPlan};

use super::{
    PollFailure, Poller,
    cursor::CursorValue,
    fanout::Trail,
    partition::{Looked, Partition, Partitions},
    run::{Part, Slot},
    stored::{Stored, partition_key},
};

/// How many requests are being put together at once.
const OPEN_GROUPS: usize = 16;
/// So many partitions are looked at before others may run.
const LOOKED_AT: u32 = 256;
/// A request is sent, however small, once so many partitions came after its first.
const PATIENCE: u64 = 4_096;

/// What goes into one request and its pages.
pub(super) struct Unit {
    pub part: Part,
    /// The numbers of its partitions in the trail.
    pub numbers: Vec<u64>,
}

/// What comes next.
pub(super) enum Next {
    /// This.
    Unit(Unit),
    /// So far only partitions that there is nothing to ask for.
    Later,
    /// Nothing.
    End,
}

/// A partition with its state.
struct Ready {
    partition: Partition,
    stored: Stored,
    number: u64,
}

/// All units of a run, in order.
pub(super) struct Units<'a> {
    poller: &'a Poller,
    poll: &'a PollPlan,
    partitions: Partitions<'a>,
    groups: Vec<Vec<Ready>>,
    ended: bool,
    unchanged: u64,
}

impl<'a> Units<'a> {
    /// From the first partition, or behind `after`.
    pub fn new(
        poller: &'a Poller,
        poll: &'a PollPlan,
        after: Option<Vec<String>>,
    ) -> Result<Self, PollFailure> {
        let partitions = Partitions::new(poller, poll, after)?;
        Ok(Self { poller, poll, partitions, groups: Vec::new(), ended: false, unchanged: 0 })
    }

    /// Partitions that there was nothing to ask for.
    pub fn unchanged(&self) -> u64 {
        self.unchanged
    }

    /// The next one; its partitions are on the trail.
    pub fn next(&mut self, trail: &mut Trail) -> Next {
        let size = match self.poll.each.last().map(|each| each.group) {
            Some(Group::Of(size)) => size,
            Some(Group::All) => usize::MAX,
            Some(Group::One) | None => 1,
        };
        let mut looked_at = 0;
        while !self.ended {
            if looked_at >= LOOKED_AT {
                return Next::Later;
            }
            let partition = match self.partitions.next() {
                Looked::At(partition) => partition,
                Looked::InVain(parents) => {
                    looked_at += parents;
                    continue;
                }
                Looked::Over => {
                    self.ended = true;
                    break;
                }
            };
            looked_at += 1;
            let number = trail.begin(partition.position.clone());
            let key = self.key(&partition);
            let stored = match self.poller.stored_at(&key) {
                Ok(stored) => stored,
                // What cannot be read is for a person; the others go on.
                Err(failure) => return Next::Unit(self.broken(partition, number, failure)),
            };
            if partition.version.is_some() && partition.version == stored.parent {
                self.unchanged += 1;
                trail.done(number);
                continue;
            }
            if let Some(unit) = self.add(Ready { partition, stored, number }, size, trail) {
                return Next::Unit(unit);
            }
        }
        self.groups.pop().map_or(Next::End, |group| Next::Unit(self.unit(group)))
    }

    /// Puts a partition to those that it can go with. A unit that is complete.
    fn add(&mut self, ready: Ready, size: usize, trail: &Trail) -> Option<Unit> {
        if size == 1 {
            return Some(self.unit(vec![ready]));
        }
        let dedupe = self.poller.stream.dedupe;
        let fitting = self.groups.iter().position(|group| fits(group, &ready, dedupe));
        let at = fitting.unwrap_or(self.groups.len());
        match fitting {
            Some(at) => self.groups[at].push(ready),
            None => self.groups.push(vec![ready]),
        }
        let is_old = |group: &Vec<Ready>| {
            size != usize::MAX && group.first().is_some_and(|r| trail.age(r.number) > PATIENCE)
        };
        let full = if self.groups[at].len() >= size {
            Some(at)
        } else if self.groups.len() > OPEN_GROUPS && size != usize::MAX {
            (0..self.groups.len()).max_by_key(|at| self.groups[*at].len())
        } else {
            self.groups.iter().position(is_old)
        };
        full.map(|at| {
            let group = self.groups.swap_remove(at);
            self.unit(group)
        })
    }

    fn key(&self, partition: &Partition) -> String {
        let (connector, stream) = (&self.poller.connector.name, &self.poller.stream.name);
        partition_key(connector, stream, &partition.id)
    }

    fn broken(&self, partition: Partition, number: u64, failure: PollFailure) -> Unit {
        let mut unit = self.unit(vec![Ready { partition, stored: Stored::default(), number }]);
        // A cursor that cannot be read is no reason to hold the others, however many there are.
        unit.part.stored = Err(PollFailure::Failed(failure.message().to_owned()));
        unit
    }

    fn unit(&self, group: Vec<Ready>) -> Unit {
        let numbers = group.iter().map(|ready| ready.number).collect();
        let slot = |ready: &Ready| Slot {
            key: self.key(&ready.partition),
            parent: ready.partition.version,
            parent_before: ready.stored.parent,
        };
        let slots = group.iter().map(slot).collect();
        let stored = group.iter().map(|ready| &ready.stored).cloned().reduce(together);
        let (label, each) = (label(&group), self.each(group));
        let each = Some(Arc::new(each));
        let part =
            Part { slots, each, label: label.into(), stored: Ok(stored.unwrap_or_default()) };
        Unit { part, numbers }
    }

    /// `each` of all of them: the name that is asked for together is a list.
    fn each(&self, group: Vec<Ready>) -> Value {
        let mut partitions = group.into_iter().map(|ready| ready.partition.each);
        let mut each = partitions.next().unwrap_or_default();
        if let Some(plan) = self.poll.each.last().filter(|plan| plan.group != Group::One) {
            let name = &*plan.name;
            let first = each.remove(name);
            let others = partitions.filter_map(|mut each| each.remove(name));
            each.insert(name.to_owned(), first.into_iter().chain(others).collect());
        }
        Value::Object(each)
    }
}

fn label(group: &[Ready]) -> String {
    match group {
        [] => String::new(),
        [only] => only.partition.label.clone(),
        [first, .., last] => {
            let (first, last) = (&first.partition.label, &last.partition.label);
            format!("{first} to {last} ({} in one request)", group.len())
        }
    }
}

/// Whether a partition can share a window with others.
fn fits(group: &[Ready], ready: &Ready, dedupe: Dedupe) -> bool {
    let Some(first) = group.first() else { return true };
    // Those that go together differ in the last name only.
    let outer = |ready: &Ready| {
        let position = &ready.partition.position;
        position[..position.len().saturating_sub(1)].to_vec()
    };
    if outer(first) != outer(ready) {
        return false;
    }
    let cursors = || group.iter().filter_map(|ready| ready.stored.cursor.as_ref());
    match (cursors().min(), cursors().max(), &ready.stored.cursor) {
        (None, None, None) => true,
        (Some(earliest), Some(latest), Some(cursor)) => {
            is_near(earliest.min(cursor), latest.max(cursor), dedupe)
        }
        _ => false,
    }
}

fn is_near(earliest: &CursorValue, latest: &CursorValue, dedupe: Dedupe) -> bool {
    // Half of the window: what is read again was taken in before its cursor stood there.
    let known = match dedupe {
        Dedupe::Forever => return true,
        Dedupe::Window(window) => window / 2,
    };
    earliest == latest
        || (known > Duration::ZERO
            && earliest.plus(known) >= *latest
            && earliest.plus(known) != *earliest)
}

/// The state from which two can be read together.
fn together(one: Stored, other: Stored) -> Stored {
    let mut boundary = one.boundary;
    boundary
        .extend(other.boundary.into_iter().filter(|id| !boundary.contains(id)).collect::<Vec<_>>());
    Stored { cursor: one.cursor.min(other.cursor), boundary, validator: None, parent: None }
}
