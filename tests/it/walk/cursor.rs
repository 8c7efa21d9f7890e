//! Cursors: newest first, several formats, where they end, what the API still remembers.

use serde_json::{Value, json};
use tenon::ingest::poll::PollFailure;

use crate::support::{MockServer, Reply, Seen, walk::Walk};

fn stream(cursor: &str) -> String {
    format!(
        "[stream.orders]\nkey = \"$.id\"\n\
         [stream.orders.poll]\npath = \"/orders\"\n\
         page = {{ by = \"page\", param = \"page\", size = 3 }}\n\
         [stream.orders.poll.cursor]\n{cursor}\n"
    )
}

/// Orders at these seconds, in this order, in pages of three.
fn api(seconds: Vec<i64>) -> impl FnMut(&Seen) -> Reply + Send + 'static {
    move |seen| {
        let page: usize = seen.param("page").unwrap().parse().unwrap();
        let orders = seconds.iter().skip((page - 1) * 3).take(3);
        let orders: Vec<Value> =
            orders.map(|at| json!({ "id": format!("o{at}"), "at": at })).collect();
        Reply::json(orders)
    }
}

const DESC: &str = "field = \"$.at\"\nformat = \"epoch_s\"\nsorted = \"desc\"";

#[tokio::test(start_paused = true)]
async fn newest_first_stops_at_the_cursor() {
    let server = MockServer::start(api((1..=9).rev().collect())).await;
    let walk = Walk::new(&server, &stream(DESC));
    let report = walk.fine().await;
    // Nine records in three full pages: a fourth, empty one ends it.
    assert_eq!((report.accepted, report.requests), (9, 4));
    assert_eq!(walk.cursor().as_deref(), Some("1970-01-01T00:00:09Z"));

    let grown = MockServer::start(api((1..=11).rev().collect())).await;
    let walk = walk.changed(&grown, &stream(DESC));
    let report = walk.fine().await;
    // 11, 10, 9 | 8 lies behind the cursor. The cursor itself is read again, and is known.
    assert_eq!((report.accepted, report.duplicates, report.filtered), (2, 1, 3));
    assert_eq!(report.requests, 2);
    assert_eq!(walk.cursor().as_deref(), Some("1970-01-01T00:00:11Z"));
}

#[tokio::test(start_paused = true)]
async fn newest_first_moves_the_cursor_only_when_all_is_durable() {
    let mut list = api((1..=9).rev().collect());
    let server = MockServer::start(move |seen| {
        if seen.param("page").as_deref() == Some("3") {
            Reply::text(404, "oops")
        } else {
            list(seen)
        }
    })
    .await;
    let walk = Walk::new(&server, &stream(DESC));
    assert!(matches!(walk.failure().await, PollFailure::Failed(_)));
    assert_eq!((walk.keys().len(), walk.cursor()), (6, None));

    let mended = MockServer::start(api((1..=9).rev().collect())).await;
    let walk = walk.changed(&mended, &stream(DESC));
    assert_eq!(walk.fine().await.accepted, 3);
    assert_eq!(walk.keys().len(), 9);
}

#[tokio::test(start_paused = true)]
async fn newest_first_reads_on_where_the_order_is_not_kept() {
    let server = MockServer::start(api(vec![5])).await;
    let walk = Walk::new(&server, &stream(DESC));
    walk.fine().await;
    // A pinned record stands out of order: what comes after an old one may still be new.
    let server = MockServer::start(api(vec![2, 9, 1, 8, 7, 4])).await;
    let walk = walk.changed(&server, &stream(DESC));
    assert_eq!(walk.fine().await.accepted, 3);
    assert_eq!(walk.keys(), ["o5", "o9", "o8", "o7"]);
}

#[tokio::test(start_paused = true)]
async fn newest_first_begins_at_its_start() {
    let server = MockServer::start(api((1..=9).rev().collect())).await;
    let walk = Walk::new(&server, &stream(&format!("{DESC}\nstart = 6")));
    let report = walk.fine().await;
    assert_eq!((report.accepted, report.filtered, report.requests), (4, 2, 2));
}

#[tokio::test(start_paused = true)]
async fn all_formats_are_read_and_the_first_is_sent() {
    let records = json!([
        { "id": 1, "at": "2025-01-02T03:04:05Z" },
        { "id": 2, "at": "2025-01-02 03:04:06" },
        { "id": 3, "at": 1_735_787_047 },
    ]);
    let server = MockServer::start(move |_| Reply::json(records.clone())).await;
    let walk = Walk::new(
        &server,
        &stream(
            "field = \"$.at\"\nstart_param = \"since\"\n\
             format = [\"%Y-%m-%d %H:%M:%S\", \"rfc3339\", \"epoch_s\"]",
        )
        .replace("page = { by = \"page\", param = \"page\", size = 3 }\n", ""),
    );
    assert_eq!(walk.fine().await.accepted, 3);
    walk.fine().await;
    let seen = server.seen();
    assert_eq!(seen[0].param("since"), None);
    assert_eq!(seen[1].param("since").as_deref(), Some("2025-01-02 03:04:07"));
}

#[tokio::test(start_paused = true)]
async fn a_value_in_none_of_the_formats_fails_the_page_and_says_which() {
    let server = MockServer::start(|_| Reply::json(json!([{ "id": 1, "at": "02.01.2025" }]))).await;
    let walk = Walk::new(
        &server,
        &stream("field = \"$.at\"\nfilter = true\nformat = [\"rfc3339\", \"epoch_s\"]"),
    );
    let PollFailure::Failed(message) = walk.failure().await else { panic!("not a failure") };
    assert!(message.contains("`$.at` is not in the cursor's format"), "{message}");
    assert_eq!(walk.cursor(), None);
}

#[tokio::test(start_paused = true)]
async fn a_cursor_in_a_body_has_the_type_of_its_format() {
    for (format, start, expected) in [
        ("epoch_ms", "\"2025-01-01\"", json!(1_735_689_600_000_i64)),
        ("integer", "478", json!(478)),
        ("string", "\"478\"", json!("478")),
        ("%Y%m%d", "\"2025-01-01\"", json!("20250101")),
    ] {
        let server = MockServer::start(|_| Reply::json(json!([]))).await;
        let tables = format!(
            "[stream.orders]\nkey = \"$.id\"\n[stream.orders.poll]\nmethod = \"POST\"\n\
             path = \"/search\"\nbody = {{ filter = {{ from = \"{{{{ window.start }}}}\" }} }}\n\
             [stream.orders.poll.cursor]\nfield = \"$.at\"\nformat = \"{format}\"\nstart = {start}\n"
        );
        Walk::new(&server, &tables).fine().await;
        assert_eq!(server.seen()[0].json(), json!({ "filter": { "from": expected } }));
    }
}

#[tokio::test(start_paused = true)]
async fn a_cursor_that_ends_reads_nothing_beyond() {
    // The API ignores the end: what is later is dropped here, and the cursor does not pass it.
    let server = MockServer::start(api(vec![3, 4, 5, 6, 7])).await;
    let cursor = "field = \"$.at\"\nformat = \"epoch_s\"\nstart_param = \"since\"\n\
                  end_param = \"before\"\nuntil = 5";
    let walk = Walk::new(&server, &stream(cursor));
    let report = walk.fine().await;
    assert_eq!((report.accepted, report.filtered), (3, 2));
    assert_eq!(server.seen()[0].param("before").as_deref(), Some("5"));
    assert_eq!(walk.cursor().as_deref(), Some("1970-01-01T00:00:05Z"));
    // Once it stands there, there is nothing to ask for.
    assert_eq!(walk.fine().await.requests, 0);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_lags_behind_now_moves_on() {
    let server = MockServer::start(|_| Reply::json(json!([]))).await;
    let cursor = "format = \"%Y-%m-%d\"\nstart = \"2026-11-18\"\nwindow = \"1d\"\n\
                  start_param = \"from\"\nend_param = \"to\"\nuntil = \"-2d\"";
    let walk = Walk::new(&server, &stream(cursor));
    walk.fine().await;
    let days = |server: &MockServer| -> Vec<String> {
        server.seen().iter().map(|seen| seen.param("from").unwrap()).collect()
    };
    assert_eq!(days(&server), ["2026-11-18", "2026-11-19", "2026-11-20"]);
    tokio::time::sleep(std::time::Duration::from_hours(24)).await;
    walk.fine().await;
    // The day that was not over is read again, then the next.
    assert_eq!(days(&server)[3..], ["2026-11-20", "2026-11-21"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_older_is_asked_for_than_the_api_remembers() {
    let server = MockServer::start(|_| Reply::json(json!([]))).await;
    for cursor in ["start = \"2020-01-01\"\noldest = \"30d\"", "oldest = \"30d\""] {
        let cursor =
            format!("field = \"$.at\"\nformat = \"%Y-%m-%d\"\nstart_param = \"since\"\n{cursor}");
        Walk::new(&server, &stream(&cursor)).fine().await;
    }
    // 30 days ago it was ten o'clock: the first whole day after that.
    for seen in server.seen() {
        assert_eq!(seen.param("since").as_deref(), Some("2026-10-24"));
    }
}

#[tokio::test(start_paused = true)]
async fn records_before_the_cursor_are_dropped_here_where_the_api_cannot() {
    let server = MockServer::start(api(vec![9, 1, 5])).await;
    let cursor = "field = \"$.at\"\nformat = \"epoch_s\"\nfilter = true\nstart = 5";
    let report = Walk::new(&server, &stream(cursor)).fine().await;
    assert_eq!((report.accepted, report.filtered), (2, 1));
}
