//! `on`: each action, the order of rules, and what is said and counted.

use std::time::Duration;

use serde_json::json;
use tenon::ingest::poll::PollFailure;

use crate::support::{MockServer, Reply, walk::Walk};

fn orders(keys: &[&str]) -> Reply {
    let orders: Vec<_> = keys.iter().map(|key| json!({ "id": key })).collect();
    Reply::json(json!({ "orders": orders }))
}

/// A stream `orders` with these rules, by number of page.
fn stream(rules: &str) -> String {
    format!(
        "[stream.orders]\nkey = \"$.id\"\n\
         [stream.orders.poll]\npath = \"/orders\"\nrecords = \"$.orders[*]\"\n\
         page = {{ by = \"page\", param = \"page\", size = 2 }}\non = [{rules}]\n"
    )
}

#[tokio::test(start_paused = true)]
async fn skip_gives_a_request_up_counts_it_and_ends_well() {
    let gone = || Reply::text(404, "gone");
    let rule = r#"{ status = 404, then = "skip" }"#;
    // Where the next page is known, it is asked for: it may be there.
    let answers = [orders(&["a", "b"]), gone(), orders(&["e", "f"]), gone(), orders(&["i"])];
    let server = MockServer::scripted(answers).await;
    let walk = Walk::new(&server, &stream(rule));
    let report = walk.fine().await;
    assert_eq!((report.accepted, report.skipped, report.requests), (5, 2, 5));
    let asked: Vec<_> = server.seen().iter().filter_map(|seen| seen.param("page")).collect();
    assert_eq!(asked, ["1", "2", "3", "4", "5"]);
    // Two in a row are the end: of the list, or of what is to be had.
    let server = MockServer::scripted([orders(&["a", "b"]), gone(), gone()]).await;
    let report = Walk::new(&server, &stream(rule)).fine().await;
    assert_eq!((report.accepted, report.skipped, report.requests), (2, 2, 3));
    // So is the first: nothing says that there is another one.
    let server = MockServer::scripted([gone()]).await;
    let report = Walk::new(&server, &stream(rule)).fine().await;
    assert_eq!((report.accepted, report.skipped, report.requests), (0, 1, 1));
    // Where only the answer says where the next page is, one is.
    let by_token = stream(rule).replace(
        r#"by = "page", param = "page", size = 2"#,
        r#"by = "cursor", param = "after", next = "$.next | optional""#,
    );
    let first = Reply::json(json!({ "orders": [{ "id": "a" }], "next": "b" }));
    let server = MockServer::scripted([first, gone()]).await;
    let report = Walk::new(&server, &by_token).fine().await;
    assert_eq!((report.accepted, report.skipped, report.requests), (1, 1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_given_up_moves_the_cursor_on_with_the_next() {
    let cursor = "[stream.orders.poll.cursor]\nfield = \"$.at\"\nformat = \"integer\"\n\
                  sorted = \"asc\"\nstart = \"0\"\nstart_param = \"since\"\n";
    let tables = format!("{}{cursor}", stream(r#"{ status = 500, then = "skip" }"#))
        .replace(r#"by = "page", param = "page""#, r#"by = "offset", param = "skip""#);
    let page = |from: i64| {
        let orders: Vec<_> = (from..from + 2).map(|at| json!({ "id": at, "at": at })).collect();
        Reply::json(json!({ "orders": orders }))
    };
    let answers = [page(1), Reply::status(500), page(5), Reply::json(json!({ "orders": [] }))];
    let server = MockServer::scripted(answers).await;
    let walk = Walk::new(&server, &tables);
    let report = walk.fine().await;
    assert_eq!((report.accepted, report.skipped), (4, 1));
    assert_eq!(walk.cursor().as_deref(), Some("6"));
    let asked: Vec<_> = server.seen().iter().filter_map(|seen| seen.param("skip")).collect();
    assert_eq!(asked, ["0", "2", "4", "6"]);
}

#[tokio::test(start_paused = true)]
async fn stop_ends_the_run_well_and_skips_nothing() {
    let server = MockServer::scripted([orders(&["a", "b"]), Reply::status(410)]).await;
    let walk = Walk::new(&server, &stream(r#"{ status = 410, then = "stop" }"#));
    let report = walk.fine().await;
    assert_eq!((report.accepted, report.skipped), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn fail_says_what_the_message_says_even_of_a_200() {
    let body = json!({ "ok": false, "error": "not_in_channel with s3cret" });
    let server = MockServer::scripted([Reply::json(body)]).await;
    let rule = r#"{ status = 200, when = "{{ response.body.ok == false }}", then = "fail", message = "{{ response.body.error }}" }"#;
    let walk = Walk::new(
        &server,
        &format!(
            "auth = \"api\"\n[auth.api]\ntype = \"bearer\"\ntoken = \"{{{{ secret.KEY }}}}\"\n{}",
            stream(rule)
        ),
    );
    let PollFailure::Failed(message) = walk.failure().await else { panic!("not a failure") };
    assert!(message.ends_with("answered 200 OK: not_in_channel with [redacted]"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn hold_parks_with_the_answer_where_there_is_no_message() {
    let server = MockServer::scripted([Reply::text(402, "pay first")]).await;
    let walk = Walk::new(&server, &stream(r#"{ status = 402, then = "hold" }"#));
    let PollFailure::Held(message) = walk.failure().await else { panic!("not held") };
    assert!(message.ends_with("answered 402 Payment Required: pay first"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn retry_tries_as_often_as_it_says_and_then_does_the_other_thing() {
    let server = MockServer::start(|_| Reply::text(500, "this one record kills us")).await;
    let rule = r#"{ status = 500, then = "retry", times = 2, else = "skip" }"#;
    let walk = Walk::new(&server, &stream(rule));
    let report = walk.fine().await;
    assert_eq!((report.requests, report.skipped), (3, 1));
    assert!(walk.passed() > Duration::from_secs(2), "{:?}", walk.passed());
    // Without `else` the run comes back later.
    let walk = Walk::new(&server, &stream(r#"{ status = 500, then = "retry", times = 1 }"#));
    assert!(matches!(walk.failure().await, PollFailure::Later { .. }));
}

#[tokio::test(start_paused = true)]
async fn wait_is_no_failure_and_takes_its_time_from_the_answer() {
    let soon = walk_time("2026-11-22T10:00:20Z");
    for (rule, answer, seconds) in [
        (r#"for = "7s""#, Reply::status(420), 7),
        (
            r#"for = "{{ response.headers['x-wait'] }}""#,
            Reply::status(420).header("x-wait", "9"),
            9,
        ),
        (
            r#"until = "{{ response.headers['x-reset'] }}""#,
            Reply::status(420).header("x-reset", &soon.to_string()),
            20,
        ),
        (
            r#"until = "$.reset""#,
            Reply::json(json!({ "reset": "2026-11-22T10:00:30Z" })).with_status(420),
            30,
        ),
        (r#"message = "slow down""#, Reply::status(420).header("retry-after", "11"), 11),
    ] {
        let replies = std::iter::repeat_n(answer, 1).chain([orders(&["a"])]);
        let server = MockServer::scripted(replies).await;
        let rule = format!("{{ status = 420, then = \"wait\", {rule} }}");
        let walk = Walk::new(&server, &stream(&rule));
        assert_eq!(walk.fine().await.accepted, 1, "{rule}");
        let waited = walk.passed().as_secs();
        assert!((seconds..seconds + 2).contains(&waited), "{rule}: {waited}");
    }
}

fn walk_time(text: &str) -> i64 {
    tenon::world::Timestamp::parse_rfc3339(text).unwrap().0 / 1000
}

#[tokio::test(start_paused = true)]
async fn a_long_wait_is_left_to_the_schedule() {
    let server = MockServer::start(|_| Reply::status(420)).await;
    let walk = Walk::new(&server, &stream(r#"{ status = 420, then = "wait", for = "2h" }"#));
    let PollFailure::Later { retry_after, .. } = walk.failure().await else { panic!("not later") };
    assert_eq!(retry_after, Some(Duration::from_hours(2)));
    assert_eq!(walk.passed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn restart_reads_the_window_again_but_not_for_ever() {
    let expired = || Reply::json(json!({ "error": "scroll expired" }));
    let replies = [orders(&["a", "b"]), expired(), orders(&["a", "b"]), orders(&["c"])];
    let server = MockServer::scripted(replies).await;
    let rules = stream(r#"{ when = "{{ response.body.error }}", then = "restart" }"#);
    let walk = Walk::new(&server, &rules);
    let report = walk.fine().await;
    assert_eq!((report.accepted, report.duplicates, report.requests), (3, 2, 4));

    let server = MockServer::start(move |_| expired()).await;
    let walk = Walk::new(&server, &rules);
    let PollFailure::Failed(message) = walk.failure().await else { panic!("not a failure") };
    assert!(message.ends_with("(after 5 restarts of the window)"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn reauth_holds_where_there_is_nothing_to_renew() {
    let server = MockServer::start(|_| Reply::json(json!({ "error": "token_expired" }))).await;
    let rules = r#"{ when = "{{ response.body.error == 'token_expired' }}", then = "reauth" }"#;
    let walk = Walk::new(&server, &stream(rules));
    assert!(matches!(walk.failure().await, PollFailure::Held(_)));
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_streams_rules_come_before_the_sources_and_those_before_the_defaults() {
    let shared = r#"on = [{ status = "4xx", then = "stop" }, { status = 503, then = "hold" }]"#;
    let tables = format!("{shared}\n{}", stream(r#"{ status = 404, then = "skip" }"#));
    for (status, skipped) in [(404, Some(1)), (400, Some(0)), (503, None)] {
        let server = MockServer::start(move |_| Reply::status(status)).await;
        let walk = Walk::new(&server, &tables);
        let skips = walk.run().await.ok().map(|report| report.skipped);
        assert_eq!(skips, skipped, "{status}");
    }
    let server = MockServer::start(|_| Reply::status(302)).await;
    assert!(matches!(Walk::new(&server, &tables).failure().await, PollFailure::Failed(_)));
}

#[tokio::test(start_paused = true)]
async fn rules_over_a_page_leave_its_records_alone() {
    let server = MockServer::scripted([orders(&["a"])]).await;
    let rules = r#"{ status = 200, when = "{{ response.body.error }}", then = "fail" }"#;
    assert_eq!(Walk::new(&server, &stream(rules)).fine().await.accepted, 1);
    // A rule may look at the records, too.
    let server = MockServer::scripted([orders(&["a"])]).await;
    let rules =
        r#"{ status = 200, when = "{{ response.body.orders[0].id == 'a' }}", then = "stop" }"#;
    assert_eq!(Walk::new(&server, &stream(rules)).fine().await.accepted, 0);
}
