//! The one stored kind of a poll: where its cursor stands.
//!
//! Key `cursor/<connector>/<stream>`, and with `each` one of it for each partition,
//! `cursor/<connector>/<stream>/<its values, joined by />`; value JSON with a version `v`. It is written in the same
//! append as the page that moved it. Stability: version 1 is read for ever; members may be added
//! and are ignored by older readers; anything else takes a new version. A value that cannot be read
//! is an error and never a fresh start, which would read a whole history again.

use serde::{Deserialize, Serialize};

use crate::event::EventId;

use super::cursor::CursorValue;

const VERSION: u8 = 1;

/// What a poll remembers between runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Stored {
    /// Everything before it is durable.
    pub cursor: Option<CursorValue>,
    /// Events at the cursor (and within `lookback` of it) that are durable already.
    pub boundary: Vec<EventId>,
    /// What to ask a conditional request with.
    pub validator: Option<Validator>,
    /// The version of the parents that it was read for, where only changed ones are.
    pub parent: Option<u64>,
}

/// What the server gave to ask "anything new?" with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Validator {
    /// The request and the connector it belongs to: for any other it is worth nothing.
    pub request: u64,
    /// `ETag`, as given.
    pub etag: Option<String>,
    /// `Last-Modified`, as given.
    pub last_modified: Option<String>,
}

/// The stored cursor cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredError {
    /// Written by a newer version of Tenon.
    Version(u64),
    /// Not what this file writes.
    Damaged,
}

impl std::fmt::Display for StoredError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Version(version) => {
                write!(f, "the stored cursor has version {version}, this Tenon knows {VERSION}")
            }
            Self::Damaged => f.write_str("the stored cursor is damaged"),
        }
    }
}

impl std::error::Error for StoredError {}

/// The key of a stream's cursor.
pub fn cursor_key(connector: &str, stream: &str) -> String {
    format!("cursor/{connector}/{stream}")
}

/// The key of a partition's cursor.
pub fn partition_key(connector: &str, stream: &str, partition: &str) -> String {
    format!("cursor/{connector}/{stream}/{partition}")
}

/// A stored cursor for a person, times as RFC 3339; `None` where there is none yet.
pub fn cursor_text(bytes: &[u8]) -> Result<Option<String>, StoredError> {
    Ok(Stored::decode(bytes)?.cursor.map(|cursor| cursor.text()))
}

#[derive(Serialize, Deserialize)]
struct Wire {
    v: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<WireCursor>,
    /// The ids' bytes one after another, base64.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    boundary: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    validator: Option<Validator>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<u64>,
}

/// A cursor's value as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum WireCursor {
    /// RFC 3339 in UTC, to the nanosecond.
    Instant(String),
    Integer(i64),
    Text(String),
}

impl From<&CursorValue> for WireCursor {
    fn from(cursor: &CursorValue) -> Self {
        match cursor {
            CursorValue::Instant(instant) => Self::Instant(instant.to_string()),
            CursorValue::Integer(number) => Self::Integer(*number),
            CursorValue::Text(text) => Self::Text(text.clone()),
        }
    }
}

impl TryFrom<WireCursor> for CursorValue {
    type Error = StoredError;

    fn try_from(stored: WireCursor) -> Result<Self, StoredError> {
        Ok(match stored {
            WireCursor::Integer(number) => Self::Integer(number),
            WireCursor::Text(text) => Self::Text(text),
            WireCursor::Instant(text) => {
                Self::Instant(text.parse().map_err(|_| StoredError::Damaged)?)
            }
        })
    }
}

impl Stored {
    /// The bytes to store.
    pub fn encode(&self) -> Vec<u8> {
        let cursor = self.cursor.as_ref().map(WireCursor::from);
        let ids: Vec<u8> = self.boundary.iter().flat_map(|id| id.0).collect();
        let boundary = data_encoding::BASE64.encode(&ids);
        let wire = Wire {
            v: VERSION,
            cursor,
            boundary,
            validator: self.validator.clone(),
            parent: self.parent,
        };
        serde_json::to_vec(&wire).unwrap_or_default()
    }

    /// What [`Stored::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, StoredError> {
        #[derive(Deserialize)]
        struct Versioned {
            v: u64,
        }
        let Versioned { v } = serde_json::from_slice(bytes).map_err(|_| StoredError::Damaged)?;
        if v != u64::from(VERSION) {
            return Err(StoredError::Version(v));
        }
        let wire: Wire = serde_json::from_slice(bytes).map_err(|_| StoredError::Damaged)?;
        let cursor = wire.cursor.map(CursorValue::try_from).transpose()?;
        let ids = data_encoding::BASE64
            .decode(wire.boundary.as_bytes())
            .map_err(|_| StoredError::Damaged)?;
        let (ids, rest) = ids.as_chunks::<16>();
        if !rest.is_empty() {
            return Err(StoredError::Damaged);
        }
        let boundary = ids.iter().copied().map(EventId).collect();
        Ok(Self { cursor, boundary, validator: wire.validator, parent: wire.parent })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn version_1_is_what_it_was() {
        let bytes = br#"{"v":1,"cursor":{"instant":"2025-01-02T03:04:05.000000006Z"},"boundary":"AAECAwQFBgcICQoLDA0ODw==","validator":{"request":7,"etag":"\"x\"","last_modified":null}}"#;
        let stored = Stored {
            cursor: Some(CursorValue::Instant("2025-01-02T03:04:05.000000006Z".parse().unwrap())),
            boundary: vec![EventId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15])],
            validator: Some(Validator {
                request: 7,
                etag: Some("\"x\"".to_owned()),
                last_modified: None,
            }),
            parent: None,
        };
        assert_eq!(Stored::decode(bytes).as_ref(), Ok(&stored));
        assert_eq!(stored.encode(), bytes);
    }

    #[test]
    fn what_cannot_be_read_is_no_fresh_start() {
        assert_eq!(Stored::decode(br#"{"v":2,"mark":1}"#), Err(StoredError::Version(2)));
        for damaged in [
            &b""[..],
            b"{}",
            b"{\"v\":1,\"cursor\":{\"instant\":\"x\"}}",
            b"{\"v\":1,\"boundary\":\"AA==\"}",
        ] {
            assert_eq!(Stored::decode(damaged), Err(StoredError::Damaged), "{damaged:?}");
        }
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
            cursor in cursor(),
            ids in prop::collection::vec(any::<[u8; 16]>(), 0..8),
            validator in prop::option::of((any::<u64>(), any::<Option<String>>(), any::<Option<String>>())),
            parent: Option<u64>,
        ) {
            let stored = Stored {
                cursor,
                boundary: ids.into_iter().map(EventId).collect(),
                validator: validator
                    .map(|(request, etag, last_modified)| Validator { request, etag, last_modified }),
                parent,
            };
            prop_assert_eq!(Stored::decode(&stored.encode()), Ok(stored));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Stored::decode(&bytes);
        }
    }
}
