//! What is cut off before it costs something: size, depth, encodings, media types.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use tenon::ingest::webhook::WebhookLimits;

use super::rig::{ORDER, ORDERS, Rig, SIGNED_ORDERS, hmac_hex, limits};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn padded_order(total_bytes: usize) -> String {
    let head = r#"{"id":1,"updated_at":"2026-11-20T09:00:00Z","pad":""#;
    format!("{head}{}\"}}", "x".repeat(total_bytes - head.len() - 2))
}

#[tokio::test]
async fn a_body_may_be_as_large_as_the_route_says() {
    let rig = Rig::new(ORDERS);
    assert_eq!(rig.post_json("/orders", &padded_order(4096)).await.status, 202);
    let reply = rig.post_json("/orders", &padded_order(4097)).await;
    assert_eq!(reply.line(), r#"413 {"error":"too_large"}"#);
}

/// Field trap 2: what unpacks to more than the limit is dropped while it unpacks.
#[tokio::test]
async fn trap_2_a_gzip_bomb_ends_at_the_limit() {
    let rig = Rig::new(ORDERS);
    let bomb = gzip(&vec![b' '; 64 << 20]);
    assert!(bomb.len() > 4096, "it would have to be split to be a bomb at all");
    let small_bomb = gzip(&vec![b' '; 1 << 20]);
    let headers = [("content-encoding", "gzip")];
    for body in [bomb, small_bomb] {
        let reply = rig.post("/orders", &headers, body).await;
        assert_eq!(reply.line(), r#"413 {"error":"too_large"}"#);
    }
    assert!(rig.events().is_empty());
}

#[tokio::test]
async fn a_signature_covers_the_packed_bytes_and_the_record_is_unpacked() {
    let rig = Rig::new(SIGNED_ORDERS);
    let packed = gzip(ORDER.as_bytes());
    let signature = format!("sha256={}", hmac_hex("s3cret", &packed));
    let headers = [("content-encoding", "gzip"), ("x-hub-signature-256", signature.as_str())];
    assert_eq!(rig.post("/orders", &headers, packed).await.status, 202);
    assert_eq!(rig.events()[0].record.bytes(), ORDER.as_bytes());
}

#[tokio::test]
async fn what_cannot_be_decoded_is_refused() {
    let rig = Rig::new(ORDERS);
    let json = ("content-type", "application/json");
    let deep = format!("{}{}", "[".repeat(17), "]".repeat(17));
    let deeper = format!(r#"{{"id":{}1{}}}"#, "[".repeat(1500), "]".repeat(1500));
    let cut_gzip = gzip(ORDER.as_bytes())[..20].to_vec();
    for (header, body, expected) in [
        (json, b"".to_vec(), 400),
        (json, b"{".to_vec(), 400),
        (json, b"{} {}".to_vec(), 400),
        (json, b"{\"id\":\"\xff\"}".to_vec(), 400),
        (json, deep.into_bytes(), 400),
        (json, deeper.into_bytes(), 400),
        (("content-encoding", "gzip"), ORDER.into(), 400),
        (("content-encoding", "gzip"), cut_gzip, 400),
        (("content-encoding", "br"), ORDER.into(), 415),
        (("content-encoding", "gzip, gzip"), ORDER.into(), 415),
        (("content-type", "application/xml"), ORDER.into(), 400),
        (("content-type", "text/html"), ORDER.into(), 415),
        (("content-type", "multipart/form-data; boundary=x"), ORDER.into(), 415),
        (("content-type", "application/json; charset=utf-8"), ORDER.into(), 202),
        (("content-type", "Application/CloudEvents+JSON"), ORDER.into(), 202),
        (("content-encoding", "identity"), ORDER.into(), 202),
        (("x-nothing", "said"), ORDER.into(), 202),
    ] {
        let reply = rig.post("/orders", &[header], body.clone()).await;
        let text = String::from_utf8_lossy(&body);
        assert_eq!(reply.status.as_u16(), expected, "{header:?} {text}: {}", reply.body);
    }
    insta::assert_snapshot!(rig.counted(), @r"
    acknowledged 4
    shop/orders accepted 1
    shop/orders duplicate 3
    shop/orders undecodable 13
    ");
}

#[tokio::test]
async fn xml_is_a_record_and_rows_are_a_list_of_them() {
    let rig = Rig::new(
        r#"
[stream.notes]
key = "$.note.id"

[stream.notes.webhook]
path   = "/notes"
verify = "none"

[stream.rows]
key = "$.id"

[stream.rows.webhook]
path   = "/rows"
verify = "none"
events = "$[*]"
"#,
    );
    let xml = [("content-type", "text/xml; charset=utf-8")];
    let note = "<note><id>7</id></note>";
    assert_eq!(rig.post("/notes", &xml, note).await.status, 202);
    let csv = [("content-type", "text/csv")];
    assert_eq!(rig.post("/rows", &csv, "id,n\n1,x\n2,y\n").await.status, 202);
    let keys: Vec<_> = rig.events().iter().map(|event| event.key.clone()).collect();
    assert_eq!(keys, ["7", "1", "2"]);
}

#[tokio::test]
async fn a_form_is_a_record_of_texts() {
    let rig = Rig::new(
        r#"
[stream.commands]
key = "$.trigger_id"

[stream.commands.webhook]
path   = "/commands"
verify = "none"
"#,
    );
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let body = "command=%2Fweather&text=94070+now&trigger_id=13345224609";
    assert_eq!(rig.post("/commands", &headers, body).await.status, 202);
    let events = rig.events();
    assert_eq!(events[0].key, "13345224609");
    insta::assert_snapshot!(
        String::from_utf8_lossy(events[0].record.bytes()),
        @r#"{"command":"/weather","text":"94070 now","trigger_id":"13345224609"}"#
    );
}

#[tokio::test]
async fn bodies_beyond_the_budget_of_all_connections_wait_outside() {
    let small = WebhookLimits { max_in_flight_bytes: 1024, ..limits() };
    let rig = Rig::with_limits(ORDERS, small);
    let reply = rig.post_json("/orders", &padded_order(2000)).await;
    assert_eq!(reply.line(), r#"503 {"error":"busy"}"#);
    assert_eq!(reply.header("retry-after"), "1");
    // Unpacked bytes count, too, and everything is given back.
    let packed = gzip(padded_order(2000).as_bytes());
    let reply = rig.post("/orders", &[("content-encoding", "gzip")], packed).await;
    assert_eq!(reply.status, 503);
    assert_eq!(rig.post_json("/orders", &padded_order(1024)).await.status, 202);
}
