//! Parents: what is remembered of a stream's records, because others are read for each of them.
//!
//! Key `parent/<connector>/<stream>/<key of the record>`, value JSON with a version `v`: the first
//! bytes of the event's id as a number (`id`), what the children's expressions look at (`record`), and
//! what the parent itself was read for (`each`). It is durable before the cursor passes the record it
//! was made from. Stability: version 1 is read for ever; members may be added.
//!
//! A stream that is read as a whole in every run forgets what a run no longer lists. Where a cursor
//! moves, a record that is not listed again is still there, until one says `delete`.

use std::{
    collections::{BTreeMap, HashSet},
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
pub(super) type PendingParents = BTreeMap<String, Option<Vec<u8>>>;

/// What is remembered of one record.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Parent {
    /// Tells one revision of the record from another.
    pub version: u64,
    /// What the children look at.
    pub record: Value,
    /// What it was read for itself; null where it was read by itself.
    pub each: Value,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    v: u64,
    id: u64,
    record: Value,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    each: Value,
}

impl Parent {
    /// Of an event that was read for `each`.
    fn of(event: &Event, each: Option<&Arc<Value>>, plan: &ParentPlan) -> Self {
        let names = plan.names.iter();
        let brought: Map<String, Value> =
            names.filter_map(|n| Some((n.clone(), each?.get(n)?.clone()))).collect();
        Self {
            version: version_of(event),
            record: kept(&event.record, &plan.keep),
            each: if brought.is_empty() { Value::Null } else { Value::Object(brought) },
        }
    }

    /// The bytes to store.
    pub fn encode(self) -> Vec<u8> {
        let Self { version, record, each } = self;
        serde_json::to_vec(&Wire { v: VERSION, id: version, record, each }).unwrap_or_default()
    }

    /// What [`Parent::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, StoredError> {
        let wire: Wire = serde_json::from_slice(bytes).map_err(|_| StoredError::Damaged)?;
        if wire.v != VERSION {
            return Err(StoredError::Version(wire.v));
        }
        Ok(Self { version: wire.id, record: wire.record, each: wire.each })
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

    /// Takes note that a run lists the parent under `key`.
    fn meet(&self, key: &str) {
        self.met.lock().insert(xxh3_64(key.as_bytes()));
    }

    /// Removes those of `parents` that were not met.
    fn unmet(&self, parents: Vec<(String, Vec<u8>)>) -> StateWrites {
        let met = self.met.lock();
        let gone = parents.into_iter().filter(|(key, _)| !met.contains(&xxh3_64(key.as_bytes())));
        gone.map(|(key, _)| (key, None)).collect()
    }
}

impl Poller {
    /// What a run takes note of, where the stream's records are parents.
    pub(super) fn begin_parents(&self) -> Option<Seen> {
        let plan = Arc::clone(self.stream.parent.as_ref()?);
        let prefix = parents_prefix(&self.connector.name, &self.stream.name);
        Some(Seen { plan, prefix, met: Mutex::default(), left_out: AtomicBool::new(false) })
    }

    /// Adds what is to be written for an event to `writes`: nothing where it is known as it is.
    pub(super) fn remember(
        &self,
        seen: &Seen,
        event: &Event,
        each: Option<&Arc<Value>>,
        writes: &mut PendingParents,
    ) {
        let key = format!("{}{}", seen.prefix, event.key);
        let known = match writes.get(&key) {
            Some(pending) => pending.clone(),
            None => self.bus.state(&key),
        };
        let wanted = (!event.delete).then(|| {
            seen.meet(&key);
            Parent::of(event, each, &seen.plan).encode()
        });
        if known != wanted {
            writes.insert(key, wanted);
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

    /// Makes parents durable.
    pub(super) async fn write_parents(
        &self,
        writes: impl IntoIterator<Item = (String, Option<Vec<u8>>)>,
    ) -> Result<(), PollFailure> {
        write_state(&*self.bus, writes.into_iter().collect()).await.map_err(not_appended)
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
            let page = self.bus.state_page(&seen.prefix, after.as_deref(), PARENTS_A_PAGE);
            let Some((last, _)) = page.last() else { return Ok(forgotten) };
            after = Some(last.clone());
            let gone = seen.unmet(page);
            forgotten += gone.len() as u64;
            self.write_parents(gone).await?;
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
        let parent = Parent { version: 7, record: json!({ "id": 17 }), each };
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
        fn round_trip(version: u64, id: i64, name: String, nested: bool) {
            let each = if nested { json!({ "p": { "n": name } }) } else { Value::Null };
            let parent = Parent { version, record: json!({ "id": id, "n": name }), each };
            prop_assert_eq!(Parent::decode(&parent.clone().encode()), Ok(parent));
        }
    }
}
