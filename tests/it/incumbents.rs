//! What pollers in the field do wrong, and this one does not: each from the connector file to what is
//! durable.
//!
//! Others of the kind stand with what they are about: pages and boundaries in `poll.rs` (`field_…`),
//! partitions in `fanout.rs`, rotated tokens in `deliver/auth.rs`, messages with their place in
//! `language.rs`.

use std::{path::Path, path::PathBuf, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tenon::{
    diagnostic::{SourceFile, render_human},
    ingest::poll::PollFailure,
    plan::{Sources, compile_file},
};

use crate::support::{
    MockServer, Reply, Seen,
    walk::{Walk, text},
};

struct One(Arc<SourceFile>);

impl Sources for One {
    fn read(&self, path: &Path) -> Option<Arc<SourceFile>> {
        (path == self.0.path).then(|| Arc::clone(&self.0))
    }
}

/// What is said of a connector over this server, and whether it would run.
fn checked(server: &MockServer, tables: &str) -> (String, bool) {
    let path = PathBuf::from("shop.toml");
    let file = Arc::new(SourceFile { path: path.clone(), text: text(server, tables) });
    let compiled = compile_file(Path::new(""), &path, &One(file));
    (render_human(&compiled.diagnostics, false), compiled.plan.is_some())
}

/// Ten orders a page, by number, ascending.
fn pages(total: i64) -> impl Fn(&Seen) -> Reply + Send + 'static {
    move |seen| {
        let page: i64 = seen.param("page").map_or(1, |page| page.parse().unwrap());
        let since: i64 = seen.param("since").map_or(1, |since| since.parse().unwrap());
        let orders = (since..=total).skip((page as usize - 1) * 10).take(10);
        let orders: Vec<Value> =
            orders.map(|at| json!({ "id": at, "at": at, "state": at % 7 })).collect();
        Reply::json(json!({ "orders": orders }))
    }
}

const ORDERS: &str = "[stream.orders]\nkey = \"$.id\"\n[stream.orders.poll]\npath = \"/orders\"\n\
    records = \"$.orders[*]\"\npage = { by = \"page\", param = \"page\", size = 10 }\n";

const CURSOR: &str = "[stream.orders.poll.cursor]\nfield = \"$.at\"\nformat = \"integer\"\n\
    sorted = \"asc\"\nstart_param = \"since\"\n";

#[tokio::test(start_paused = true)]
async fn a_filter_that_shrinks_the_page_ends_the_sync() {
    let server = MockServer::start(pages(35)).await;
    let tables =
        ORDERS.replace("key = \"$.id\"\n", "key = \"$.id\"\nwhen = \"{{ record.id == 35 }}\"\n");
    let walk = Walk::new(&server, &tables);
    let report = walk.fine().await;
    assert_eq!((report.items, report.filtered, report.accepted), (35, 34, 1));
}

#[tokio::test(start_paused = true)]
async fn a_cursor_that_no_request_uses_reads_everything_every_time() {
    let server = MockServer::start(pages(1)).await;
    for cursor in [
        "[stream.orders.poll.cursor]\nfield = \"$.at\"\n",
        // The end alone says nothing of where to begin.
        "[stream.orders.poll.cursor]\nfield = \"$.at\"\nend_param = \"until\"\n",
    ] {
        let (said, runs) = checked(&server, &format!("{ORDERS}{cursor}"));
        assert!(said.contains("error[E0405]: the cursor is kept but no request uses it"), "{said}");
        assert!(said.contains("--> shop.toml:") && !runs, "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_checkpoint_within_a_run() {
    let list = pages(95);
    let server = MockServer::start(move |seen| {
        if seen.param("page").as_deref() == Some("8") {
            Reply::text(404, "oops")
        } else {
            list(seen)
        }
    })
    .await;
    let walk = Walk::new(&server, &format!("{ORDERS}{CURSOR}"));
    assert!(matches!(walk.failure().await, PollFailure::Failed(_)));
    assert_eq!((walk.keys().len(), walk.cursor().as_deref()), (70, Some("70")));
    let mended = MockServer::start(pages(95)).await;
    let walk = walk.changed(&mended, &format!("{ORDERS}{CURSOR}"));
    let report = walk.fine().await;
    assert_eq!((report.accepted, report.duplicates, report.requests), (25, 1, 3));
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_ignored_unless_configured() {
    let page = || Reply::json(json!({ "orders": [] }));
    let slow = Reply::status(429).header("retry-after", "33");
    let server = MockServer::scripted([slow, page()]).await;
    let walk = Walk::new(&server, ORDERS);
    walk.fine().await;
    assert!(walk.passed() >= Duration::from_secs(33), "{:?}", walk.passed());
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_starved_token_is_a_success_without_records() {
    let auth = |server: &MockServer| {
        format!(
            "auth = \"api\"\n[auth.api]\ntype = \"oauth2\"\ngrant = \"client_credentials\"\n\
             token_url = \"{}\"\nclient_id = \"{{{{ secret.KEY }}}}\"\n\
             client_secret = \"{{{{ secret.KEY }}}}\"\n{ORDERS}",
            server.url("/token")
        )
    };
    for (token, orders, held) in [
        // No token is to be had, for now or for good; one is had and not taken.
        (Reply::status(429), Reply::status(500), false),
        (
            Reply::json(json!({ "error": "invalid_client" })).with_status(401),
            Reply::status(500),
            true,
        ),
        (
            Reply::json(json!({ "access_token": "t", "expires_in": 3600 })),
            Reply::json(json!({ "error": "unauthorized" })).with_status(401),
            true,
        ),
        (
            Reply::json(json!({ "access_token": "t", "expires_in": 3600 })),
            Reply::json(json!({ "error": "forbidden" })).with_status(403),
            true,
        ),
    ] {
        let server =
            MockServer::start(
                move |seen| {
                    if seen.path() == "/token" { token.clone() } else { orders.clone() }
                },
            )
            .await;
        let failure = Walk::new(&server, &auth(&server)).failure().await;
        assert_eq!(matches!(failure, PollFailure::Held(_)), held, "{failure:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_in_a_200_is_a_success_without_records() {
    // Neither the records' path nor a rule lets it pass.
    let body = json!({ "ok": false, "error": "missing_scope" });
    let server = MockServer::start(move |_| Reply::json(body.clone())).await;
    let PollFailure::Failed(message) = Walk::new(&server, ORDERS).failure().await else { panic!() };
    assert!(message.contains("`$` has `ok`, `error`"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_misspelt_key_is_ignored() {
    let server = MockServer::start(pages(1)).await;
    let (said, runs) = checked(&server, &ORDERS.replace("records =", "recrods ="));
    assert!(
        said.contains("unknown key `recrods`") && said.contains("did you mean `records`?"),
        "{said}"
    );
    assert!(said.contains("--> shop.toml:") && !runs, "{said}");
}

#[tokio::test(start_paused = true)]
async fn digits_in_quotes_are_sent_as_a_number() {
    let server = MockServer::start(|_| Reply::json(json!([]))).await;
    let tables = "[stream.orders]\nkey = \"$.id\"\n[stream.orders.poll]\nmethod = \"POST\"\n\
        path = \"/orders\"\nbody = { list = \"478\", nested = { id = [\"007\", 7] } }\n";
    Walk::new(&server, tables).fine().await;
    assert_eq!(server.seen()[0].json(), json!({ "list": "478", "nested": { "id": ["007", 7] } }));
}

#[tokio::test(start_paused = true)]
async fn what_a_rule_skips_is_a_success_that_nobody_sees() {
    let server = MockServer::start(|_| Reply::status(404)).await;
    let rules = "on = [{ status = 404, then = \"skip\" }]\n";
    let walk = Walk::new(&server, &format!("{rules}{ORDERS}"));
    assert_eq!(walk.fine().await.skipped, 1);
}
