//! `decode`: answers that are not JSON, some of them read as they come in.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use tenon::ingest::poll::PollFailure;

use crate::support::{MockServer, Reply, walk::Walk};

fn stream(rest: &str) -> String {
    format!("[stream.orders]\nkey = \"$.id\"\n[stream.orders.poll]\npath = \"/orders\"\n{rest}\n")
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn bytes(body: Vec<u8>) -> Reply {
    Reply::status(200).body(body)
}

#[tokio::test(start_paused = true)]
async fn lines_that_come_compressed_twice_are_events() {
    let body = gzip("{\"id\": 12345678901234567890123}\n{\"id\": 2}\n");
    let reply = bytes(body).header("content-encoding", "gzip");
    let server = MockServer::scripted([reply]).await;
    let walk = Walk::new(&server, &stream("decode = [\"gzip\", \"jsonl\"]"));
    let report = walk.fine().await;
    assert_eq!((report.pages, report.items, report.accepted), (1, 2, 2));
    let keys: Vec<_> = walk.events().iter().map(|event| event.key.clone()).collect();
    assert_eq!(keys, ["12345678901234567890123", "2"]);
}

#[tokio::test(start_paused = true)]
async fn pages_of_rows_follow_each_other_and_move_the_cursor_at_their_end() {
    let one = Reply::text(200, "id;at\n1;2026-11-20T10:00:00Z\n2;2026-11-20T11:00:00Z\n");
    let two = Reply::text(200, "id;at\n3;2026-11-20T12:00:00Z\n");
    let server = MockServer::scripted([one, two]).await;
    let walk = Walk::new(
        &server,
        &stream(
            "decode = \"csv\"\ncsv = { delimiter = \";\" }\n\
             page = { by = \"page\", param = \"page\", size = 2 }\n\
             [stream.orders.poll.cursor]\nfield = \"$.at\"\nstart_param = \"since\"\nsorted = \"asc\"",
        ),
    );
    let report = walk.fine().await;
    assert_eq!((report.pages, report.accepted), (2, 3));
    assert_eq!(walk.cursor().as_deref(), Some("2026-11-20T12:00:00Z"));
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_a_row_ends_the_run_and_leaves_the_cursor() {
    let server = MockServer::scripted([Reply::text(200, "id,at\n1,2\n1,2,3\n")]).await;
    let walk = Walk::new(&server, &stream("decode = \"csv\""));
    let PollFailure::Failed(message) = walk.failure().await else { panic!("not a failure") };
    assert!(message.ends_with("row 3 has 3 cells, but there are 2 columns"), "{message}");
    assert_eq!(walk.events().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_lines_is_a_run_without_records() {
    let server = MockServer::scripted([Reply::status(204)]).await;
    let walk = Walk::new(&server, &stream("decode = [\"gzip\", \"csv\"]"));
    assert_eq!(walk.fine().await.items, 0);
}

#[tokio::test(start_paused = true)]
async fn xml_has_records_like_json() {
    let body = "<list><order><id>1</id></order><order><id>2</id></order></list>";
    let server = MockServer::scripted([Reply::text(200, body)]).await;
    let walk = Walk::new(&server, &stream("decode = \"xml\"\nrecords = \"$.list.order\""));
    assert_eq!(walk.fine().await.accepted, 2);
}

#[tokio::test(start_paused = true)]
async fn a_file_is_a_record() {
    let reply = bytes(vec![0xff, 0x00]).header("content-type", "application/pdf");
    let server = MockServer::scripted([reply]).await;
    let tables = stream("decode = \"base64\"").replace("$.id", "$.name");
    let walk = Walk::new(&server, &tables);
    assert_eq!(walk.fine().await.accepted, 1);
    let events = walk.events();
    assert_eq!(events[0].key, "orders");
    assert_eq!(events[0].record.value()["content"], "/wA=");
    assert_eq!(events[0].record.value()["content_type"], "application/pdf");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_a_text_is_sent_as_it_is() {
    let server = MockServer::scripted([Reply::text(200, "[]")]).await;
    let rest = "method = \"POST\"\nbody = \"<q since=\\\"{{ now.date }}\\\"/>\"\n\
                headers = { content-type = \"application/xml\" }";
    let walk = Walk::new(
        &server,
        &stream(&rest.replace("{{ now.date }}", "{{ vars.day }}")).replacen(
            "[stream.orders]",
            "[vars]\nday = { default = \"2026-11-20\" }\n[stream.orders]",
            1,
        ),
    );
    walk.fine().await;
    let asked = server.seen();
    assert_eq!(asked[0].text(), "<q since=\"2026-11-20\"/>");
    assert_eq!(asked[0].header("content-type"), Some("application/xml"));
}
