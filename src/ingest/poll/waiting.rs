//! The stored kind of a job that is waited for.
//!
//! Key `job/<connector>/<stream>`, and with `each` `job/<connector>/<stream>/<partition>` (of several in one
//! request the first); value JSON with a version `v`. It is written when the job is created, before it is
//! looked at, and removed in the append of its last record, or when it is given up. Stability: version 1 is
//! read for ever; members may be added, with defaults. A value that cannot be read is as good as none: the
//! job is created anew, which costs the API some work and loses nothing.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{bus::Bus, world::Timestamp};

use super::{
    cursor::CursorValue,
    stored::{StoredError, WireCursor},
    window::Window,
};

const VERSION: u64 = 1;
/// So many jobs of a stream are counted: those of its partitions that are read at once, and more.
const MAX_COUNTED: usize = 512;

/// A job that was created.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct StoredJob {
    /// When the run began that created it: what changed since may not be in its result.
    pub began: Timestamp,
    /// When it was created.
    pub created: Timestamp,
    /// Where the cursor stood then.
    pub from: Option<CursorValue>,
    /// What it was created for.
    pub window: Window,
    /// A hash of the request: whoever makes another one does not mean this job.
    pub request: u64,
    /// Where it was created: addresses in its answers are relative to that.
    pub url: String,
    /// `job`.
    pub job: Value,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    v: u64,
    began: Timestamp,
    created: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<WireCursor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start: Option<WireCursor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<WireCursor>,
    last: bool,
    request: u64,
    url: String,
    job: Value,
}

impl StoredJob {
    /// The bytes to store.
    pub fn encode(&self) -> Vec<u8> {
        let wire = |at: &Option<CursorValue>| at.as_ref().map(WireCursor::from);
        let stored = Wire {
            v: VERSION,
            began: self.began,
            created: self.created,
            from: wire(&self.from),
            start: wire(&self.window.start),
            end: wire(&self.window.end),
            last: self.window.last,
            request: self.request,
            url: self.url.clone(),
            job: self.job.clone(),
        };
        serde_json::to_vec(&stored).unwrap_or_default()
    }

    /// What [`StoredJob::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, StoredError> {
        #[derive(Deserialize)]
        struct Versioned {
            v: u64,
        }
        let Versioned { v } = serde_json::from_slice(bytes).map_err(|_| StoredError::Damaged)?;
        if v != VERSION {
            return Err(StoredError::Version(v));
        }
        let wire: Wire = serde_json::from_slice(bytes).map_err(|_| StoredError::Damaged)?;
        let read = |at: Option<WireCursor>| at.map(CursorValue::try_from).transpose();
        Ok(Self {
            began: wire.began,
            created: wire.created,
            from: read(wire.from)?,
            window: Window { start: read(wire.start)?, end: read(wire.end)?, last: wire.last },
            request: wire.request,
            url: wire.url,
            job: wire.job,
        })
    }
}

/// The jobs of a stream that are waited for, or being fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// How many: with `each` there may be several.
    pub count: u64,
    /// When the first of them was created.
    pub since: Timestamp,
}

/// The key of the job that is for the partition (or stream) whose cursor is under `cursor_key`.
pub(super) fn job_key(cursor_key: &str) -> String {
    cursor_key.replacen("cursor/", "job/", 1)
}

/// What is waited for on behalf of a stream.
pub fn waiting(bus: &dyn Bus, connector: &str, stream: &str) -> Option<Waiting> {
    let key = format!("job/{connector}/{stream}");
    let own = bus.state(&key);
    let others = bus.state_page(&format!("{key}/"), None, MAX_COUNTED);
    let all = own.into_iter().chain(others.into_iter().map(|(_, bytes)| bytes));
    let created = all.filter_map(|bytes| StoredJob::decode(&bytes).ok()).map(|job| job.created);
    created.fold(None, |waiting: Option<Waiting>, created| {
        let (count, since) = waiting.map_or((0, created), |it| (it.count, it.since.min(created)));
        Some(Waiting { count: count + 1, since })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn stored() -> StoredJob {
        StoredJob {
            began: Timestamp(5),
            created: Timestamp(7),
            from: Some(CursorValue::Integer(3)),
            window: Window { start: Some(CursorValue::Integer(3)), end: None, last: true },
            request: 9,
            url: "https://api.example/jobs".to_owned(),
            job: json!({ "id": "j1" }),
        }
    }

    #[test]
    fn version_1_is_what_it_was() {
        let bytes = br#"{"v":1,"began":"1970-01-01T00:00:00.005Z","created":"1970-01-01T00:00:00.007Z","from":{"integer":3},"start":{"integer":3},"last":true,"request":9,"url":"https://api.example/jobs","job":{"id":"j1"}}"#;
        assert_eq!(StoredJob::decode(bytes).as_ref(), Ok(&stored()));
        assert_eq!(stored().encode(), bytes);
        assert_eq!(StoredJob::decode(br#"{"v":2}"#), Err(StoredError::Version(2)));
        assert_eq!(StoredJob::decode(br#"{"v":1}"#), Err(StoredError::Damaged));
    }

    #[test]
    fn the_first_of_several_says_since_when() {
        let bus = crate::bus::MemoryBus::new(std::sync::Arc::new(crate::world::SystemClock));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(waiting(&*bus, "shop", "orders"), None);
        for (key, created) in
            [("orders/b", 9), ("orders", 8), ("orders/a", 4), ("orders2", 1), ("order/s", 1)]
        {
            let job = StoredJob { created: Timestamp(created), ..stored() };
            let key = job_key(&format!("cursor/shop/{key}"));
            runtime.block_on(bus.put_state(&key, Some(job.encode()))).unwrap();
        }
        let found = waiting(&*bus, "shop", "orders");
        assert_eq!(found, Some(Waiting { count: 3, since: Timestamp(4) }));
    }

    fn cursor() -> impl Strategy<Value = Option<CursorValue>> {
        prop_oneof![
            Just(None),
            any::<i64>().prop_map(|n| Some(CursorValue::Integer(n))),
            any::<String>().prop_map(|t| Some(CursorValue::Text(t))),
            (0i64..4_000_000_000_000_000_000).prop_map(|nanos| {
                let instant = jiff::Timestamp::from_nanosecond(i128::from(nanos)).unwrap();
                Some(CursorValue::Instant(instant))
            }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn round_trip(
            times in (0i64..4_000_000_000_000, 0i64..4_000_000_000_000),
            (from, start, end) in (cursor(), cursor(), cursor()),
            (last, request) in any::<(bool, u64)>(),
            (url, id) in any::<(String, String)>(),
        ) {
            let stored = StoredJob {
                began: Timestamp(times.0),
                created: Timestamp(times.1),
                from,
                window: Window { start, end, last },
                request,
                url,
                job: json!({ "id": id }),
            };
            prop_assert_eq!(StoredJob::decode(&stored.encode()), Ok(stored));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = StoredJob::decode(&bytes);
        }
    }
}
