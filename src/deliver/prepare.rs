//! From the event to what its destinations get: map, then schema. Pure.

use std::sync::Arc;

use serde_json::Value;

use super::view::event_view;
use crate::{
    event::{Event, Record},
    map::Env,
    plan::StreamPlan,
};

/// `record` → map → schema: what goes to the destination, the event's own record, byte for byte,
/// where there is no map. An error is a dead letter: the reason's stable word (`map_failed`,
/// `schema_failed`) and a line for a person with field, path, type and place in the file. It holds
/// no value of the record.
pub fn prepare(
    stream: &StreamPlan,
    vars: &Arc<Value>,
    event: &Arc<Event>,
) -> Result<Record, (&'static str, String)> {
    let output = match &stream.map {
        None => event.record.clone(),
        Some(mapping) => {
            let mut env = Env::new()
                .with_record("record", event.record.clone())
                .with("vars", Arc::clone(stream.vars(vars)))
                .with_dynamic("event", event_view(event));
            if let Some(with) = &event.with {
                env = env.with_record("with", with.clone());
            }
            mapping.apply(&env).map_err(|error| ("map_failed", error.to_string()))?
        }
    };
    if let Some(schema) = &stream.schema {
        let violations = schema.check(output.value());
        if !violations.is_empty() {
            return Err(("schema_failed", violations.join("; ")));
        }
    }
    Ok(output)
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use serde_json::json;

    use super::prepare;
    use crate::{
        event::{Event, EventId, Origin, Record},
        map::{Expr, Library, Mapping, Place, Schema, Site, Tree},
        plan::{Dedupe, StreamPlan},
        world::Timestamp,
    };

    /// An event with this record.
    pub(in crate::deliver) fn event(record: &'static [u8]) -> Event {
        Event {
            id: EventId::derive("shop", "orders", "1001", "7"),
            connector: Arc::from("shop"),
            stream: Arc::from("orders"),
            key: "1001".to_owned(),
            revision: "7".to_owned(),
            order: None,
            tenant: None,
            received_at: Timestamp(1_795_000_000_000),
            origin: Origin::Webhook,
            delete: false,
            to: vec![Arc::from("erp")],
            record: Record::from_bytes(Bytes::from_static(record)),
            with: None,
            traceparent: None,
            replayed: None,
        }
    }

    /// A stream with these fields in its map, one a line from line 40 on.
    fn stream(fields: &[(&str, &str)]) -> StreamPlan {
        let site = Site {
            names: &["record", "with", "vars", "event"],
            root: Some("record"),
            lenient: false,
        };
        let leaf = |(at, (name, text)): (usize, &(&str, &str))| {
            let path = format!("stream.orders.map.{name}").into();
            let place = Place { file: "shop.toml".into(), line: 40 + at as u32, path };
            let expr = Expr::compile(text, &site, place, &Library::default()).unwrap();
            ((*name).to_owned(), Tree::Leaf(expr))
        };
        let table: Vec<_> = fields.iter().enumerate().map(leaf).collect();
        let mapping = Mapping { rest: None, fields: Tree::Table(table) };
        StreamPlan {
            name: Arc::from("orders"),
            vars: None,
            key: Vec::new(),
            revision: None,
            tenant: None,
            when: None,
            delete: None,
            with: Vec::new(),
            dedupe: Dedupe::Forever,
            to: vec![Arc::from("erp")],
            map: (!fields.is_empty()).then(|| Arc::new(mapping)),
            schema: None,
            redact: Vec::new(),
            webhook: None,
            poll: None,
            schedule: None,
            reconcile: None,
            parent: None,
        }
    }

    fn prepared(stream: &StreamPlan, event: Event) -> Result<Record, (&'static str, String)> {
        prepare(stream, &Arc::new(json!({"shop": "acme"})), &Arc::new(event))
    }

    #[test]
    fn without_a_map_the_record_goes_byte_for_byte() {
        let record = b"{ \"n\": 12345678901234567890123, \"n\": 1 }";
        let output = prepared(&stream(&[]), event(record)).unwrap();
        assert_eq!(output.bytes(), &record[..]);
    }

    #[test]
    fn a_map_sees_record_with_vars_and_event() {
        let fields = [
            ("id", "{{ vars.shop }}:{{ record.id }}"),
            ("total", "$.total | decimal"),
            ("ticket", "{{ with.ticket }}"),
            ("about", "{{ event.key }}/{{ event.stream }}"),
        ];
        let mut event = event(br#"{"id":1001,"total":"129.90"}"#);
        event.with = Some(Record::from_value(json!({"ticket": 5})));
        let output = prepared(&stream(&fields), event).unwrap();
        let text = r#"{"id":"acme:1001","total":"129.90","ticket":5,"about":"1001/orders"}"#;
        assert_eq!(output.bytes(), text);
        assert_eq!(output.value()["ticket"], 5);
    }

    #[test]
    fn a_failing_field_is_named_with_path_type_and_line_but_not_with_its_value() {
        let fields = [("id", "$.id"), ("total", "$.price | decimal")];
        let record = br#"{"id":1,"price":{"amount":"s3cret"}}"#;
        let (reason, message) = prepared(&stream(&fields), event(record)).unwrap_err();
        assert_eq!(reason, "map_failed");
        insta::assert_snapshot!(message, @"stream.orders.map.total: `$.price | decimal`: expected digits, found an object (shop.toml:41)");
    }

    #[test]
    fn what_the_schema_refuses_is_said_field_by_field() {
        let document = json!({
            "type": "object",
            "properties": {"id": {"type": "string"}, "total": {"type": "string"}},
            "required": ["id", "currency"],
        });
        for mapped in [true, false] {
            let fields: &[_] = if mapped { &[("id", "$.id"), ("total", "$.total")] } else { &[] };
            let schema = Schema::compile("order.v1", &document).unwrap();
            let stream = StreamPlan { schema: Some(Arc::new(schema)), ..stream(fields) };
            let record = br#"{"id":"1","total":4711}"#;
            let (reason, message) = prepared(&stream, event(record)).unwrap_err();
            assert_eq!(reason, "schema_failed");
            assert!(message.contains("total") && message.contains("currency"), "{message}");
            assert!(!message.contains("4711"), "{message}");
        }
    }
}
