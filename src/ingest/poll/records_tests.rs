use serde_json::json;

use super::*;
use crate::ingest::poll::testing::of_response;

fn plan(path: &str, prefix: &[&str]) -> RecordsPlan {
    RecordsPlan {
        path: of_response(path),
        prefix: prefix.iter().map(|&member| member.to_owned()).collect(),
        optional: path.contains("default"),
        levels: 0,
    }
}

/// The records' texts.
fn texts(plan: Option<&RecordsPlan>, body: &str) -> Result<Vec<String>, String> {
    let bytes = Bytes::copy_from_slice(body.as_bytes());
    let page = take_apart(plan, &bytes, false).map_err(|error| error.to_string())?;
    page.items
        .into_iter()
        .map(|item| {
            let record = item.open(body.len()).map_err(|error| error.to_string())?;
            assert_eq!(record.root().unwrap().to_value(), **record.value());
            Ok(String::from_utf8(record.bytes().to_vec()).unwrap())
        })
        .collect()
}

fn found(path: &str, prefix: &[&str], body: &str) -> Result<Vec<String>, String> {
    texts(Some(&plan(path, prefix)), body)
}

#[test]
fn without_a_path_the_items_of_an_array_or_the_one_object() {
    assert_eq!(texts(None, r#" [ {"a": 1}, 2 ] "#).unwrap(), [r#"{"a": 1}"#, "2"]);
    assert_eq!(texts(None, r#" {"a": 1} "#).unwrap(), [r#"{"a": 1}"#]);
    assert!(texts(None, "[]").unwrap().is_empty());
    assert!(texts(None, " \n").unwrap().is_empty());
    insta::assert_snapshot!(texts(None, "null").unwrap_err(), @"expected an array of records or one object, found null");
}

#[test]
fn records_are_stored_byte_for_byte() {
    let body = r#"{ "x": [1], "orders": [ {"b": 1.10, "a":"\u00e9", "b": 2},
        {"n": 12345678901234567890123} ], "meta": {} }"#;
    assert_eq!(
        found("$.orders[*]", &["orders"], body).unwrap(),
        [r#"{"b": 1.10, "a":"\u00e9", "b": 2}"#, r#"{"n": 12345678901234567890123}"#]
    );
    assert_eq!(found("$['orders'].*", &["orders"], body).unwrap().len(), 2);
    assert_eq!(found("$.orders", &["orders"], body).unwrap().len(), 2);
    assert_eq!(found("$.x[*]", &["x"], body).unwrap(), ["1"]);
}

#[test]
fn paths_go_through_several_members_and_objects() {
    let body = r#"{"data": {"a": 1, "orders": {"k1": {"id": 1}, "k2": {"id": 2}}}}"#;
    let prefix = &["data", "orders"];
    assert_eq!(found("$.data.orders[*]", prefix, body).unwrap(), [r#"{"id": 1}"#, r#"{"id": 2}"#]);
    assert_eq!(found("$.data", &["data"], body).unwrap().len(), 1);
    let body = r#"{"a": [{"b": [1, 2]}, {"b": [3]}]}"#;
    assert_eq!(found("$.a[*].b[0:1]", &["a"], body).unwrap(), ["1", "3"]);
    assert_eq!(found("$.a[?@.b[0] == 3]", &["a"], body).unwrap(), [r#"{"b": [3]}"#]);
}

#[test]
fn field_typo_in_the_records_path_is_an_error_that_lists_the_keys() {
    let body = r#"{"orders": [{"id": 1}], "meta": {"next": null}}"#;
    insta::assert_snapshot!(found("$.order[*]", &["order"], body).unwrap_err(), @"records: `$.order` is not in the response: `$` has `orders`, `meta` (write `| default([])` behind `records` if it may be so)");
    insta::assert_snapshot!(found("$.meta.items[*]", &["meta", "items"], body).unwrap_err(), @"records: `$.meta.items` is not in the response: `$.meta` has `next` (write `| default([])` behind `records` if it may be so)");
    insta::assert_snapshot!(found("$.meta.next[*]", &["meta", "next"], body).unwrap_err(), @"records: expected an array at `$.meta.next`, found null (write `| default([])` behind `records` if it may be so)");
    insta::assert_snapshot!(found("$.orders[*].lines[0:9]", &["orders"], body).unwrap_err(), @"records: `$.orders[*].lines[0:9]` finds nothing in a response that is not empty (write `| default([])` behind `records` if it may be so)");
    insta::assert_snapshot!(found("$.orders[*]", &["orders"], "[1]").unwrap_err(), @"records: `$.orders` is not in the response: `$` is an array (write `| default([])` behind `records` if it may be so)");
}

#[test]
fn none_is_fine_where_the_list_is_empty_or_the_file_says_so() {
    for (path, prefix, body) in [
        ("$.orders[*]", &["orders"][..], r#"{"orders": []}"#),
        ("$.orders[*]", &["orders"], ""),
        ("$.orders[*].lines[*]", &["orders"], r#"{"orders": []}"#),
        ("$.orders[?@.open]", &["orders"], r#"{"orders": [{"id": 1}]}"#),
        ("$.orders[*] | default([])", &["orders"], r#"{"items": [1]}"#),
        ("$.orders[*] | default([])", &["orders"], r#"{"orders": null}"#),
    ] {
        assert_eq!(found(path, prefix, body), Ok(Vec::new()), "{path} {body}");
    }
}

#[test]
fn the_envelope_is_kept_without_the_records() {
    let body = Bytes::from_static(br#"{"data": {"orders": [{"id": 1}], "n": -1}, "next": "x", "f": 1.5, "t": true, "z": null, "l": [1]}"#);
    let plan = plan("$.data.orders[*]", &["data", "orders"]);
    let page = take_apart(Some(&plan), &body, false).unwrap();
    let envelope = json!({
        "data": { "orders": [], "n": -1 }, "next": "x", "f": 1.5, "t": true, "z": null, "l": [1]
    });
    assert_eq!(page.body, envelope);
    let page = take_apart(Some(&plan), &body, true).unwrap();
    assert_eq!(page.body["data"]["orders"], json!([{ "id": 1 }]));
}

#[test]
fn the_same_records_have_the_same_hash_whatever_is_around_them() {
    let hash = |body: &'static str| {
        let plan = plan("$.a[*]", &["a"]);
        take_apart(Some(&plan), &Bytes::from_static(body.as_bytes()), false).unwrap().content
    };
    assert_eq!(hash(r#"{"a": [1, 2], "took": 1}"#), hash(r#"{"took": 2, "a":[1,2]}"#));
    assert_ne!(hash(r#"{"a": [1, 2]}"#), hash(r#"{"a": [12]}"#));
}

#[test]
fn what_is_no_json_says_where() {
    insta::assert_snapshot!(found("$.a[*]", &["a"], r#"{"a": [1, 2"#).unwrap_err(), @"the response is not JSON: EOF while parsing a list at line 1 column 11");
    assert!(texts(None, "<html>").is_err());
    assert!(texts(None, "[1] [2]").is_err());
}

#[test]
fn a_small_record_does_not_hold_its_page() {
    let body = Bytes::from(format!(r#"[{{"id": 1}}, "{}"]"#, "x".repeat(1000)));
    let page = take_apart(None, &body, false).unwrap();
    let within = |record: &Record| body.as_ptr_range().contains(&record.bytes().as_ptr());
    let opened: Vec<Record> =
        page.items.into_iter().map(|item| item.open(body.len()).unwrap()).collect();
    assert!(!within(&opened[0]) && within(&opened[1]));
}
