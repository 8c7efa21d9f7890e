//! What an API says of its own budget is kept to, so that it need not refuse anybody.

use std::time::Duration;

use serde_json::json;
use tenon::ingest::poll::PollFailure;

use crate::support::{MockServer, Reply, walk::Walk};

const STREAM: &str = "[stream.orders]\nkey = \"$.id\"\n[stream.orders.poll]\npath = \"/orders\"\n\
                      page = { by = \"page\", param = \"page\", size = 1 }\n";

fn page(ids: &[u32]) -> Reply {
    let orders: Vec<_> = ids.iter().map(|id| json!({ "id": id })).collect();
    Reply::json(serde_json::Value::from(orders))
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_is_waited_for_before_the_next_page() {
    let spent = page(&[1]).header("ratelimit", "\"default\";r=0;t=20");
    let more = page(&[2]).header("x-ratelimit-remaining", "7").header("x-ratelimit-reset", "20");
    let server = MockServer::scripted([spent, more, page(&[])]).await;
    let walk = Walk::new(&server, STREAM);
    let report = walk.fine().await;
    assert_eq!((report.requests, report.accepted), (3, 2));
    assert!((20..22).contains(&walk.passed().as_secs()), "{:?}", walk.passed());
}

#[tokio::test(start_paused = true)]
async fn what_an_api_says_counts_for_all_files_with_the_same_credentials() {
    let with = |auth: &str, secret: &str| {
        let token = format!("type = \"bearer\"\ntoken = \"{{{{ secret.{secret} }}}}\"\n");
        format!("auth = \"{auth}\"\n[auth.{auth}]\n{token}{STREAM}")
    };
    let refused = || Reply::status(429).header("retry-after", "3600");
    let server = MockServer::scripted([refused(), page(&[]), page(&[])]).await;
    let first = Walk::new(&server, &with("api", "KEY"));
    assert!(matches!(first.failure().await, PollFailure::Later { .. }));
    // The same key by another name, in another file: it is not sent to be refused.
    let same = first.beside(&server, "orders-too", &with("shop_key", "SAME"));
    let PollFailure::Later { message, retry_after } = same.failure().await else { panic!() };
    assert_eq!(message, "the API says that its budget is spent");
    assert!(retry_after.unwrap() > Duration::from_secs(3590));
    assert_eq!(server.seen().len(), 1);
    // Another key has another budget, and so has whoever shows none.
    first.beside(&server, "other", &with("api", "OTHER")).fine().await;
    first.beside(&server, "nobody", STREAM).fine().await;
    // So has another API.
    let elsewhere = MockServer::scripted([page(&[])]).await;
    first.beside(&elsewhere, "elsewhere", &with("api", "KEY")).fine().await;
    assert_eq!((server.seen().len(), elsewhere.seen().len()), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_long_wait_ends_the_run_and_what_was_read_stays() {
    let spent = page(&[1]).header("ratelimit-remaining", "0").header("ratelimit-reset", "3600");
    let server = MockServer::scripted([spent]).await;
    let walk = Walk::new(&server, STREAM);
    let PollFailure::Later { retry_after, .. } = walk.failure().await else { panic!("not later") };
    assert!(retry_after.unwrap() > Duration::from_secs(3590));
    assert_eq!(walk.keys(), ["1"]);
    assert_eq!(server.seen().len(), 1);
}
