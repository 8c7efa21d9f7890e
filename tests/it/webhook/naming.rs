//! Naming: which records are one event, and which are none.

use tenon::{
    bus::{Claim, NewEvent},
    event::{EventId, Origin, Record},
    ingest::{Incoming, NameError, name_event},
    map::Env,
};

use super::rig::{NOW, Rig, connector_file, plan_of};

fn name(stream: &str, record: &str) -> Result<Option<NewEvent>, NameError> {
    let tables =
        format!("{stream}\n[stream.things.webhook]\npath = \"/things\"\nverify = \"none\"\n");
    let plan = plan_of(&connector_file("shop", &format!("[stream.things]\n{tables}")));
    let incoming = Incoming {
        record: Record::parse(record.to_owned().into(), usize::MAX).unwrap(),
        origin: Origin::Poll,
        received_at: NOW,
        traceparent: None,
        env: Env::new().with("vars", plan.vars.clone()),
    };
    name_event(&plan, &plan.streams[0], incoming)
}

/// `key revision order`
fn named(stream: &str, record: &str) -> String {
    let event = name(stream, record).unwrap().unwrap().event;
    assert_eq!(event.id, EventId::derive("shop", "things", &event.key, &event.revision));
    format!("{} {} {:?}", event.key, event.revision, event.order)
}

#[test]
fn keys_are_scalars() {
    let key = "key = \"$.id\"\nrevision = \"r\"";
    for (record, expected) in [
        (r#"{"id":"a/b\\c"}"#, "a/b\\c"),
        (r#"{"id":1001}"#, "1001"),
        (r#"{"id":1001.0}"#, "1001"),
        (r#"{"id":18446744073709551615}"#, "18446744073709551615"),
        (r#"{"id":true}"#, "true"),
    ] {
        assert_eq!(named(key, record), format!("{expected} r None"));
    }
}

/// Field trap 5: a missing or empty part of a name is an error, never "".
#[test]
fn trap_5_a_missing_key_is_an_error() {
    for stream in
        ["key = \"$.id\"", "key = [\"shop\", \"$.id\"]", "key = \"k\"\nrevision = \"$.id\""]
    {
        for record in ["{}", r#"{"id":null}"#, r#"{"id":""}"#, r#"{"id":[1]}"#, r#"{"id":{}}"#] {
            assert!(name(stream, record).is_err(), "{stream} {record}");
        }
    }
    let error = name("key = \"$.id\"", r#"{"id":["s3cret"]}"#).unwrap_err().to_string();
    insta::assert_snapshot!(error, @"key: expected a string, number or boolean, found an array (connector.toml:4)");
}

/// Field trap 5: parts are delimited, whatever they hold.
#[test]
fn trap_5_parts_of_a_key_do_not_run_together() {
    let key = "key = [\"$.a\", \"$.b\"]\nrevision = \"r\"";
    for (record, expected) in [
        (r#"{"a":"a","b":"bc"}"#, "a/bc"),
        (r#"{"a":"ab","b":"c"}"#, "ab/c"),
        (r#"{"a":"a/b","b":"c"}"#, "a\\/b/c"),
        (r#"{"a":"a","b":"b/c"}"#, "a/b\\/c"),
        (r#"{"a":"a\\","b":"c"}"#, "a\\\\/c"),
        (r#"{"a":"a","b":"\\c"}"#, "a/\\\\c"),
    ] {
        assert_eq!(named(key, record), format!("{expected} r None"));
    }
}

#[test]
fn revisions_restore_order_where_they_can() {
    let timestamp = "key = \"k\"\nrevision = \"$.at | timestamp\"";
    let plain = "key = \"k\"\nrevision = \"$.at\"";
    for (stream, record, expected) in [
        (timestamp, r#"{"at":"1970-01-01T01:00:01+01:00"}"#, "k 1970-01-01T00:00:01Z Some(1000)"),
        (timestamp, r#"{"at":"1970-01-01T00:00:01.500Z"}"#, "k 1970-01-01T00:00:01.5Z Some(1500)"),
        (plain, r#"{"at":7}"#, "k 7 Some(7)"),
        (plain, r#"{"at":7.0}"#, "k 7 Some(7)"),
        (plain, r#"{"at":-7.5}"#, "k -7.5 Some(-8)"),
        (plain, r#"{"at":18446744073709551615}"#, "k 18446744073709551615 None"),
        (plain, r#"{"at":"7"}"#, "k 7 None"),
        (plain, r#"{"at":"1970-01-01T00:00:01Z"}"#, "k 1970-01-01T00:00:01Z None"),
        ("key = \"k\"\nrevision = \"$.at | integer\"", r#"{"at":"7"}"#, "k 7 Some(7)"),
    ] {
        assert_eq!(named(stream, record), expected, "{stream} {record}");
    }
}

#[test]
fn without_a_revision_the_content_counts_and_not_its_form() {
    let a = r#"{"id":1,"tags":["a"],"total":2}"#;
    let b = "{ \"total\": 2.0, \"tags\": [ \"a\" ], \"id\": 1 }";
    let c = r#"{"id":1,"tags":["b"],"total":2}"#;
    for stream in ["key = \"$.id\"", ""] {
        assert_eq!(named(stream, a), named(stream, b));
        assert_ne!(named(stream, a), named(stream, c));
    }
    // Without a key every content is a thing of its own.
    let event = name("", a).unwrap().unwrap().event;
    assert_eq!(event.key, event.revision);
    assert_eq!(event.key.len(), 32);
}

#[test]
fn the_rest_of_an_event_comes_from_its_expressions() {
    let stream = r#"
key    = "$.id"
tenant = "{{ record.shop }}"
delete = "{{ record.gone }}"
when   = "{{ record.test == false }}"
dedupe = "forever"
with   = { shop = "$.shop", note = "$.note | optional" }
"#;
    assert!(name(stream, r#"{"id":1,"test":true}"#).unwrap().is_none());
    assert!(name(stream, r#"{"id":1}"#).unwrap().is_none());
    let new = name(stream, r#"{"id":1,"test":false,"shop":"eu","gone":true}"#).unwrap().unwrap();
    assert_eq!(new.claim, Claim::Forever);
    let event = &new.event;
    assert_eq!(event.tenant.as_deref(), Some("eu"));
    assert!(event.delete);
    assert_eq!(event.with.as_ref().unwrap().bytes(), r#"{"shop":"eu"}"#);
    assert_eq!(event.to.iter().map(|to| &**to).collect::<Vec<_>>(), ["out"]);
    assert_eq!(event.origin, Origin::Poll);
    let unnamed = name(stream, r#"{"id":1,"test":false,"shop":["eu"],"gone":false}"#);
    assert!(matches!(unnamed, Err(NameError::NotScalar { what: "tenant", .. })), "{unnamed:?}");
}

/// Notify and reconcile: whichever comes second is the duplicate.
#[tokio::test]
async fn a_webhook_and_a_poll_of_one_record_are_one_event() {
    let rig = Rig::new(
        "[stream.things]\nkey = \"$.id\"\n[stream.things.webhook]\npath = \"/things\"\nverify = \"none\"\n",
    );
    rig.post_json("/things", "{ \"name\": \"a\",\n \"id\": 1 }").await;
    let polled = name("key = \"$.id\"", r#"{"id":1,"name":"a"}"#).unwrap().unwrap();
    assert_eq!(rig.events()[0].id, polled.event.id);
}
