//! Parents: what is remembered of a stream's records, because others are read for each of them.
//!
//! Key `parent/<connector>/<stream>/<key of the record>`, value JSON with a version `v`: the first
//! bytes of the event's id as a number (`id`), what the children's expressions look at (`record`),
//! what the parent itself was read for (`each`), its revision where that is a number (`order`), and when
//! it was read (`read`). It is durable before the cursor passes the record it was made from. Stability:
//! version 1 is read for ever; members may be added.
//!
//! A stream that is read as a whole in every run forgets what a run no longer lists. Where a cursor
//! moves, a record that is not listed again is still there, until one says `delete`.
//!
//! A reconciliation runs beside the live poll and shares its parents. What one of them read earlier never
//! takes the place of what the other stored meanwhile: it is compared and written under one lock.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    bus::{StateWrites, write_state},
    event::{Event, Record},
    plan::{Keep, ParentPlan, PollPlan},
    world::Timestamp,
};

use super::{
    PollFailure, PollReport, Poller, journey::Journey, store::not_appended, stored::StoredError,
};

const VERSION: u64 = 1;
/// Parents looked at in one go.
pub(super) const PARENTS_A_PAGE: usize = 512;

/// Parents that are to be written, the last that was said of each.
pub(super) type PendingParents = BTreeMap<String, Pending>;

/// Held while a stream's parents are compared and written. Those that were removed while runs that may
/// have read them before are under way.
pub(super) type Gone = tokio::sync::Mutex<HashMap<String, Mark>>;

/// How new what is said of a parent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    order: Option<i64>,
    read: Option<Timestamp>,
}

/// What a run is beside the others over its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// The live poll.
    Live,
    /// It reads again what the live poll has passed, and shares its parents: nothing that is read takes the
    /// place of a newer revision.
    Again,
    /// A backfill: its parents are nobody else's.
    Aside,
}

/// What was said of a parent.
pub(super) struct Pending {
    parent: Parent,
    delete: bool,
}

/// What is remembered of one record.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Parent {
    /// Tells one revision of the record from another.
    pub version: u64,
    /// What the children look at.
    pub record: Value,
    /// What it was read for itself; null where it was read by itself.
    pub each: Value,
    /// The record's revision, where that is a number.
    pub order: Option<i64>,
    /// When it was read; `None` where an older Tenon stored it.
    pub read: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    v: u64,
    id: u64,
    record: Value,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    each: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    order: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    read: Option<Timestamp>,
}

impl Parent {
    /// Of an event that was read for `each`, then.
    fn of(
        event: &Event,
        (each, read): (Option<&Arc<Value>>, Timestamp),
        plan: &ParentPlan,
    ) -> Self {
        let names = plan.names.iter();
        let brought: Map<String, Value> =
            names.filter_map(|n| Some((n.clone(), each?.get(n)?.clone()))).collect();
        Self {
            version: version_of(event),
            record: kept(&event.record, &plan.keep),
            each: if brought.is_empty() { Value::Null } else { Value::Object(brought) },
            order: event.order,
            read: Some(read),
        }
    }

    /// Whether another one is the same to the children.
    fn says_the_same(&self, other: &Self) -> bool {
        (self.version, &self.record, &self.each) == (other.version, &other.record, &other.each)
    }

    /// Whether its revision is a later one than another's, where both have one.
    fn is_newer(&self, other: &Self) -> bool {
        self.order.zip(other.order).is_some_and(|(own, other)| own > other)
    }

    fn mark(&self) -> Mark {
        Mark { order: self.order, read: self.read }
    }

    /// The bytes to store.
    pub fn encode(self) -> Vec<u8> {
        let Self { version, record, each, order, read } = self;
        let wire = Wire { v: VERSION, id: version, record, each, order, read };
        serde_json::to_vec(&wire).unwrap_or_default()
    }

    /// What [`Parent::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, StoredError> {
        let wire: Wire = serde_json::from_slice(bytes).map_err(|_| StoredError::Damaged)?;
        if wire.v != VERSION {
            return Err(StoredError::Version(wire.v));
        }
        let Wire { id: version, record, each, order, read, .. } = wire;
        Ok(Self { version, record, each, order, read })
    }
}

fn version_of(event: &Event) -> u64 {
    let (head, _) = event.id.0.split_first_chunk::<8>().expect("an id has 16 bytes");
    u64::from_be_bytes(*head)
}

/// The part of a record that is looked at. What is no object is kept whole.
fn kept(record: &Record, keep: &Keep) -> Value {
    let root = record.root();
    let is_object = root.is_some_and(|root| root.json().first() == Some(&b'{'));
    match (keep, root) {
        (Keep::Members(names), Some(root)) if is_object => names
            .iter()
            .filter_map(|name| Some((name.clone(), root.member(name)?.to_value())))
            .collect(),
        _ => Value::clone(record.value()),
    }
}

/// The prefix of all parents that a stream's records are.
pub(super) fn parents_prefix(connector: &str, stream: &str) -> String {
    format!("parent/{connector}/{stream}/")
}

/// The parents that a run has met.
pub(super) struct Seen {
    plan: Arc<ParentPlan>,
    prefix: String,
    met: Mutex<HashSet<u64>>,
    /// Whether some that there are were not met.
    left_out: AtomicBool,
    /// When the run began.
    began: Timestamp,
    /// Whether it reads again what the live poll has passed.
    is_again: bool,
    /// Shared by all runs over the stream that are under way.
    gone: Arc<Gone>,
}

impl Seen {
    /// Says that some parents were not listed, though they are there.
    pub fn leave_out(&self) {
        self.left_out.store(true, Relaxed);
    }

    /// Whether the stream exists for its children alone.
    pub fn only(&self) -> bool {
        self.plan.only
    }

    /// Whether another run over the stream is under way.
    fn has_company(&self) -> bool {
        Arc::strong_count(&self.gone) > 1
    }

    /// Takes note that a run lists the parent under `key`.
    fn meet(&self, key: &str) {
        self.met.lock().insert(xxh3_64(key.as_bytes()));
    }

    /// Those of `parents` that were not met, nor stored by another run since this one began.
    fn unmet(&self, parents: Vec<(String, Vec<u8>)>, now: Timestamp) -> Vec<String> {
        let met = self.met.lock();
        let is_new = |bytes: &[u8]| {
            Parent::decode(bytes).is_ok_and(|parent| self.is_since(parent.mark(), now))
        };
        let is_gone = |(key, bytes): &(String, Vec<u8>)| {
            !met.contains(&xxh3_64(key.as_bytes())) && !is_new(bytes)
        };
        parents.into_iter().filter(is_gone).map(|(key, _)| key).collect()
    }

    /// Whether it was read since this run began. A time that is still to come is that of a wrong clock.
    fn is_since(&self, mark: Mark, now: Timestamp) -> bool {
        mark.read.is_some_and(|read| read > self.began && read <= now)
    }

    /// Whether what is stored stands against what this run read. The live poll gives way only to what
    /// was stored since it began, so what it reads gets through sooner or later, whatever is stored.
    fn stands(&self, stored: Mark, told: Mark, now: Timestamp) -> bool {
        let is_since = self.is_since(stored, now);
        match (stored.order, told.order) {
            (Some(stored), Some(told)) if stored != told => {
                (is_since || self.is_again) && stored > told
            }
            _ => is_since && stored.read > told.read,
        }
    }
}

impl Poller {
    /// What a run takes note of, where the stream's records are parents.
    pub(super) fn begin_parents(&self, pass: Pass) -> Option<Seen> {
        let plan = Arc::clone(self.stream.parent.as_ref()?);
        Some(Seen {
            plan,
            prefix: parents_prefix(&self.connector.name, &self.stream.name),
            met: Mutex::default(),
            left_out: AtomicBool::new(false),
            began: self.world.clock.now(),
            is_again: pass == Pass::Again,
            gone: match pass {
                Pass::Live | Pass::Again => self.source.parents_of(&self.stream.name),
                Pass::Aside => Arc::default(),
            },
        })
    }

    /// Adds what is to be written for an event, which was read for `each` then, to `writes`: nothing where
    /// it is known as it is.
    pub(super) fn remember(
        &self,
        seen: &Seen,
        event: &Event,
        read: (Option<&Arc<Value>>, Timestamp),
        writes: &mut PendingParents,
    ) {
        let key = format!("{}{}", seen.prefix, event.key);
        let (parent, delete) = (Parent::of(event, read, &seen.plan), event.delete);
        if !delete {
            seen.meet(&key);
        }
        let is_known = match (writes.get(&key), self.bus.state(&key)) {
            (Some(known), _) => {
                known.parent.is_newer(&parent)
                    || known.delete == delete && (delete || known.parent.says_the_same(&parent))
            }
            // Whoever read it before that must not bring it back.
            (None, None) => delete && !seen.has_company(),
            (None, Some(bytes)) => {
                !delete && Parent::decode(&bytes).is_ok_and(|known| known.says_the_same(&parent))
            }
        };
        if !is_known {
            writes.insert(key, Pending { parent, delete });
        }
    }

    /// Whether the parent that an event is stands there in this revision; it is met then.
    pub(super) fn is_remembered(&self, seen: &Seen, event: &Event) -> bool {
        let key = format!("{}{}", seen.prefix, event.key);
        let parent = self.bus.state(&key).and_then(|bytes| Parent::decode(&bytes).ok());
        let is_there = parent.is_some_and(|parent| parent.version == version_of(event));
        if is_there {
            seen.meet(&key);
        }
        is_there
    }

    /// Makes parents durable, but for those of which something newer is stored. How many it wrote.
    pub(super) async fn write_parents(
        &self,
        seen: &Seen,
        pending: PendingParents,
    ) -> Result<u64, PollFailure> {
        if pending.is_empty() {
            return Ok(0);
        }
        let mut gone = seen.gone.lock().await;
        let now = self.world.clock.now();
        let mut writes = StateWrites::with_capacity(pending.len());
        for (key, Pending { parent, delete }) in pending {
            let (bytes, mark) = (self.bus.state(&key), parent.mark());
            let is_unknown = delete && bytes.is_none();
            let stored = bytes.and_then(|bytes| Parent::decode(&bytes).ok());
            let stored = stored.map(|stored| stored.mark()).or(gone.get(&key).copied());
            if stored.is_some_and(|stored| seen.stands(stored, mark, now)) {
                continue;
            }
            if delete && seen.has_company() {
                gone.insert(key.clone(), mark);
            }
            if !is_unknown {
                writes.push((key, (!delete).then(|| parent.encode())));
            }
        }
        let count = writes.len() as u64;
        write_state(&*self.bus, writes).await.map_err(not_appended)?;
        Ok(count)
    }

    /// The end of a run that went well: whoever waits for the parents may go on, and those that are no
    /// longer listed are forgotten. `is_whole`: it began at the first partition.
    pub(super) async fn end_parents(
        &self,
        poll: &PollPlan,
        seen: &Seen,
        is_whole: bool,
        began: Timestamp,
        report: &PollReport,
    ) -> Result<(), PollFailure> {
        let lists_all = is_whole
            && poll.cursor.is_none()
            && report.skipped + report.unnamed + report.failing == 0
            && !seen.left_out.load(Relaxed);
        if lists_all {
            let forgotten = self.forget_parents(seen).await?;
            if forgotten > 0 {
                let (connector, stream) = (&self.connector.name, &self.stream.name);
                tracing::info!(%connector, %stream, forgotten, "parents are no longer listed");
            }
        }
        if poll.each.is_empty() {
            let journey = Journey::default().set_out(String::new(), began);
            let finished = Some(self.world.clock.now());
            self.store_journey(&Journey { finished, ..journey }).await?;
        }
        Ok(())
    }

    /// Forgets the parents that a run which read everything did not meet.
    async fn forget_parents(&self, seen: &Seen) -> Result<u64, PollFailure> {
        let (mut after, mut forgotten) = (None::<String>, 0);
        loop {
            let mut gone = seen.gone.lock().await;
            let page = self.bus.state_page(&seen.prefix, after.as_deref(), PARENTS_A_PAGE);
            let Some((last, _)) = page.last() else { return Ok(forgotten) };
            after = Some(last.clone());
            let unmet = seen.unmet(page, self.world.clock.now());
            forgotten += unmet.len() as u64;
            if seen.has_company() {
                let mark = Mark { order: None, read: Some(seen.began) };
                gone.extend(unmet.iter().map(|key| (key.clone(), mark)));
            }
            let writes = unmet.into_iter().map(|key| (key, None)).collect();
            write_state(&*self.bus, writes).await.map_err(not_appended)?;
            drop(gone);
            // Mostly there was nothing to write, and so nothing to wait for.
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn version_1_is_what_it_was() {
        let bytes = br#"{"v":1,"id":7,"record":{"id":17},"each":{"account":{"id":"a"}}}"#;
        let each = json!({ "account": { "id": "a" } });
        let parent =
            Parent { version: 7, record: json!({ "id": 17 }), each, order: None, read: None };
        assert_eq!(Parent::decode(bytes).as_ref(), Ok(&parent));
        assert_eq!(parent.clone().encode(), bytes);
        let bytes = br#"{"v":1,"id":7,"record":{"id":17},"each":{"account":{"id":"a"}},"order":-3,"read":"1970-01-01T00:00:00.005Z"}"#;
        let parent = Parent { order: Some(-3), read: Some(Timestamp(5)), ..parent };
        assert_eq!(Parent::decode(bytes).as_ref(), Ok(&parent));
        assert_eq!(parent.encode(), bytes);
        assert_eq!(Parent::decode(br#"{"v":2,"id":7,"record":1}"#), Err(StoredError::Version(2)));
        assert_eq!(Parent::decode(b"{}"), Err(StoredError::Damaged));
    }

    #[test]
    fn only_what_is_looked_at_is_kept() {
        let record = Record::from_value(json!({ "id": 1, "name": "x", "note": "long" }));
        let names: BTreeSet<String> = ["id", "gone"].map(str::to_owned).into();
        assert_eq!(kept(&record, &Keep::Members(names.clone())), json!({ "id": 1 }));
        assert_eq!(kept(&record, &Keep::Whole), **record.value());
        let scalar = Record::from_value(json!("x"));
        assert_eq!(kept(&scalar, &Keep::Members(names)), json!("x"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn round_trip(
            version: u64, id: i64, name: String, nested: bool, order: Option<i64>,
            read in prop::option::of((0i64..4_000_000_000_000).prop_map(Timestamp)),
        ) {
            let each = if nested { json!({ "p": { "n": name } }) } else { Value::Null };
            let record = json!({ "id": id, "n": name });
            let parent = Parent { version, record, each, order, read };
            prop_assert_eq!(Parent::decode(&parent.clone().encode()), Ok(parent));
        }
    }
}
