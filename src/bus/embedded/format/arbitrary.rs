//! Arbitrary values of what is stored, for the round trips.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use crate::{
    event::{Event, EventId, Origin, Record, ReplayId, Replayed},
    world::Timestamp,
};

/// Any event.
pub(in crate::bus) fn event() -> impl Strategy<Value = Event> {
    let names = ("[a-z]{1,8}", "[a-z]{1,8}", ".{1,12}", ".{0,12}");
    let options = (
        any::<Option<i64>>(),
        prop::option::of("[a-z]{0,6}"),
        prop::option::of("[0-9a-f-]{0,55}"),
        prop::option::of(".{0,6}"),
        prop::option::of((0..1_u64 << 60, prop::option::of(0..1_u64 << 60))),
    );
    let rest = (
        any::<[u8; 16]>(),
        any::<i64>(),
        any::<(bool, bool)>(),
        prop::collection::vec("[a-z]{1,5}", 0..4),
        prop::collection::vec(any::<u8>(), 0..64),
    );
    (names, options, rest).prop_map(|(names, options, rest)| {
        let (connector, stream, key, revision) = names;
        let (order, tenant, traceparent, with, replayed) = options;
        let (id, at, (polled, delete), to, record) = rest;
        Event {
            id: EventId(id),
            connector: connector.into(),
            stream: stream.into(),
            key,
            revision,
            order,
            tenant,
            received_at: Timestamp(at),
            origin: if polled { Origin::Poll } else { Origin::Webhook },
            delete,
            to: to.into_iter().map(Arc::from).collect(),
            record: Record::from_bytes(Bytes::from(record)),
            with: with.map(|w| Record::from_value(serde_json::json!({ "of": w }))),
            traceparent,
            replayed: replayed.and_then(|(by, keys)| {
                let by = ReplayId::from_number(by)?;
                Some(Replayed { by, keys: keys.and_then(ReplayId::from_number) })
            }),
        }
    })
}
