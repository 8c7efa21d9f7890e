//! Pages: the last record's key, a provider's cap, and where a token goes.

use serde_json::{Value, json};
use tenon::ingest::poll::PollFailure;

use crate::support::{MockServer, Reply, Seen, walk::Walk};

fn order(id: i64) -> Value {
    json!({ "id": id, "at": id })
}

/// Orders `1..=total` after the id `after`, in pages of two.
fn by_last_key(total: i64) -> impl FnMut(&Seen) -> Reply + Send + 'static {
    move |seen| {
        let after: i64 = seen.param("after").map_or(0, |after| after.parse().unwrap());
        let data: Vec<Value> = (after + 1..=total).take(2).map(order).collect();
        let more = after + 2 < total;
        Reply::json(json!({ "data": data, "has_more": more }))
    }
}

fn stream(page: &str) -> String {
    format!(
        "[stream.orders]\nkey = \"$.id\"\n[stream.orders.poll]\npath = \"/orders\"\n\
         records = \"$.data[*]\"\npage = {{ {page} }}\n"
    )
}

#[tokio::test(start_paused = true)]
async fn the_last_records_key_asks_for_the_next_page() {
    for (page, requests) in [
        // An empty page ends it; a short one where the size is known; or what the API says.
        (r#"by = "last", param = "after""#, 4),
        (r#"by = "last", param = "after", next = "$.id", size = 2"#, 3),
        (r#"by = "last", param = "after", stop = "{{ not response.body.has_more }}""#, 3),
    ] {
        let server = MockServer::start(by_last_key(5)).await;
        let walk = Walk::new(&server, &stream(page));
        let report = walk.fine().await;
        assert_eq!((report.accepted, report.requests), (5, requests), "{page}");
        let asked: Vec<_> = server.seen().iter().map(|seen| seen.param("after")).collect();
        assert_eq!(asked[..3], [None, Some("2".into()), Some("4".into())], "{page}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_last_key_that_leads_nowhere_is_an_error() {
    // The API does not know the parameter: the same page again and again.
    let server = MockServer::start(|_| Reply::json(json!({ "data": [order(1), order(2)] }))).await;
    let walk = Walk::new(&server, &stream(r#"by = "last", param = "aftr""#));
    let PollFailure::Failed(message) = walk.failure().await else { panic!("not a failure") };
    assert!(
        message.ends_with("the same page came again, asked for by the last record's `$.id`"),
        "{message}"
    );
    // The path is not there.
    let walk = Walk::new(&server, &stream(r#"by = "last", param = "after", next = "$.uid""#));
    let PollFailure::Failed(message) = walk.failure().await else { panic!("not a failure") };
    assert!(message.contains("next: ") && message.contains("$.uid"), "{message}");
}

/// Orders at each second of `1..=total`, ascending or descending, between `since` and `until`; of any
/// request only the first ten are given, in pages of four by offset.
fn capped(total: i64, ascending: bool) -> impl FnMut(&Seen) -> Reply + Send + 'static {
    move |seen| {
        let number = |name: &str| seen.param(name).map(|text| text.parse::<i64>().unwrap());
        let (since, until) =
            (number("since").unwrap_or(1).max(1), number("until").unwrap_or(total));
        let offset = usize::try_from(number("offset").unwrap()).unwrap();
        if offset + 4 > 10 {
            return Reply::text(400, "offset + limit must be <= 10");
        }
        let mut all: Vec<i64> = (since..=until.min(total)).collect();
        if !ascending {
            all.reverse();
        }
        let data: Vec<Value> = all.into_iter().skip(offset).take(4).map(order).collect();
        Reply::json(json!({ "data": data }))
    }
}

fn deep(cursor: &str) -> String {
    let page = r#"by = "offset", param = "offset", size = 4, max = 10"#;
    format!(
        "{}[stream.orders.poll.cursor]\nfield = \"$.at\"\nformat = \"epoch_s\"\n{cursor}\n",
        stream(page)
    )
}

#[tokio::test(start_paused = true)]
async fn beyond_a_providers_cap_the_window_begins_anew_at_the_cursor() {
    for (sorted, cursor) in [
        (true, "sorted = \"asc\"\nstart_param = \"since\""),
        (false, "sorted = \"desc\"\nend_param = \"until\""),
    ] {
        let server = MockServer::start(capped(50, sorted)).await;
        let walk = Walk::new(&server, &deep(cursor));
        let report = walk.fine().await;
        assert_eq!(report.accepted, 50, "{cursor}");
        let mut keys: Vec<i64> = walk.keys().iter().map(|key| key.parse().unwrap()).collect();
        keys.sort_unstable();
        assert_eq!(keys, (1..=50).collect::<Vec<_>>(), "{cursor}");
        assert_eq!(walk.cursor().as_deref(), Some("1970-01-01T00:00:50Z"), "{cursor}");
    }
}

#[tokio::test(start_paused = true)]
async fn more_records_of_one_moment_than_the_cap_is_an_error() {
    let server = MockServer::start(|seen| {
        let offset: i64 = seen.param("offset").unwrap().parse().unwrap();
        let data: Vec<Value> =
            (offset..offset + 4).map(|id| json!({ "id": id, "at": 7 })).collect();
        Reply::json(json!({ "data": data }))
    })
    .await;
    let walk = Walk::new(&server, &deep("sorted = \"asc\"\nstart_param = \"since\"\nstart = 7"));
    let PollFailure::Failed(message) = walk.failure().await else { panic!("not a failure") };
    assert!(message.contains("share the cursor value 1970-01-01T00:00:07Z"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_cap_without_an_order_is_an_error_and_not_a_gap() {
    let server = MockServer::start(|seen| {
        let offset: i64 = seen.param("offset").unwrap().parse().unwrap();
        let data: Vec<Value> =
            (0..4).map(|n| json!({ "id": offset + n, "at": 1000 - offset - n })).collect();
        Reply::json(json!({ "data": data }))
    })
    .await;
    let walk = Walk::new(&server, &deep("sorted = \"asc\"\nstart_param = \"since\""));
    let PollFailure::Failed(message) = walk.failure().await else { panic!("not a failure") };
    assert!(message.contains("not in the order that `sorted` says"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_token_goes_where_the_file_puts_it_and_is_left_out_while_there_is_none() {
    let give = || {
        MockServer::scripted([
            Reply::json(json!({ "data": [order(1)], "next": "t1" })),
            Reply::json(json!({ "data": [order(2)], "next": null })),
        ])
    };
    for (place, read) in [
        (
            r#"query = { after = "{{ page.token }}" }"#,
            (|seen: &Seen| seen.param("after")) as fn(&Seen) -> Option<String>,
        ),
        (r#"headers = { X-After = "{{ page.token }}" }"#, |seen| {
            seen.header("x-after").map(str::to_owned)
        }),
        ("method = \"POST\"\nform = { after = \"{{ page.token }}\" }", |seen| {
            seen.text().strip_prefix("after=").map(str::to_owned)
        }),
        (
            "method = \"POST\"\nbody = { page = { after = \"{{ page.token }}\", size = 9 } }",
            |seen| {
                assert_eq!(seen.json()["page"]["size"], json!(9));
                seen.json()["page"].get("after").map(|after| after.as_str().unwrap().to_owned())
            },
        ),
    ] {
        let server = give().await;
        let tables = format!("{}{place}\n", stream(r#"by = "cursor", next = "$.next""#));
        assert_eq!(Walk::new(&server, &tables).fine().await.accepted, 2, "{place}");
        let sent: Vec<_> = server.seen().iter().map(read).collect();
        assert_eq!(sent, [None, Some("t1".to_owned())], "{place}");
    }
}
