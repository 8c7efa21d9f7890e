//! `tenon test`: connectors of one line more than they need, each proving one kind of expectation.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tenon::{
    engine::files::{FolderSources, connector_files},
    testing::{self, Report, Selection},
};

/// A shop whose orders come by webhook and by poll, and go to an API and a file.
const SHOP: &str = r#"name = "shop"

[source]
base = "https://shop.example"
auth = "shop"

[schedule]
every = "1m"

[auth.shop]
type          = "oauth2"
grant         = "client_credentials"
token_url     = "https://login.example/token"
client_id     = "{{ secret.ID }}"
client_secret = "{{ secret.KEY }}"

[stream.orders]
key      = "$.id"
revision = "$.at | timestamp"
when     = "{{ record.test != true }}"
to       = ["erp", "log"]

[stream.orders.webhook]
path   = "/orders"
verify = "standard"
secret = "{{ secret.HOOK }}"

[stream.orders.poll]
path    = "/orders"
records = "$.orders[*]"
page    = { by = "page", param = "page", size = 2 }

[stream.orders.poll.cursor]
field       = "$.at"
sorted      = "asc"
start       = "2026-01-01T00:00:00Z"
start_param = "since"

[stream.orders.map]
id     = "shop:{{ record.id }}"
total  = "$.total | decimal(2)"
status = "$.state | lookup('status')"
note   = "$.note | default(none)"

[lookup.status]
paid = "settled"
open = "open"

[destination.erp]
type  = "http"
method = "PUT"
url   = "https://erp.example/orders/{{ out.id }}"
order = "key"
retry = { attempts = 3, from = "1s", within = "1h" }

[destination.log]
type = "file"
path = "/nowhere/is/this/written.jsonl"
"#;

/// A folder with a connector and an order.
struct Shop(tempfile::TempDir);

impl Shop {
    fn with(tests: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("shop.toml"), format!("{SHOP}\n{tests}")).unwrap();
        let order = r#"{"id": 1, "at": "2026-02-01T00:00:00Z", "total": "9.5", "state": "paid"}"#;
        fs::write(folder.path().join("order.json"), order).unwrap();
        Self(folder)
    }

    fn run(&self) -> Report {
        self.select(&Selection::default())
    }

    fn select(&self, selection: &Selection) -> Report {
        run(self.0.path(), selection)
    }

    /// The report for people, without the folder's name.
    fn said(&self) -> String {
        let text = testing::human(&self.run(), false);
        text.replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn run(folder: &Path, selection: &Selection) -> Report {
    let files = connector_files(&[folder.to_owned()]).unwrap();
    testing::run(folder, &files, &FolderSources::new(), selection)
}

/// Everything passes.
fn check(tests: &str) {
    let shop = Shop::with(tests);
    let report = shop.run();
    assert!(report.is_fine() && report.passed() > 0, "{}", shop.said());
}

/// The one test fails, and this is what is said.
fn failing(tests: &str) -> String {
    let shop = Shop::with(tests);
    assert_eq!(shop.run().passed(), 0, "{}", shop.said());
    // The line numbers of the connector above are no news.
    let said = shop.said();
    said.split_once("\n\n").map(|(_, failures)| failures.to_owned()).unwrap_or(said)
}

const RECORD: &str = r#"{ id = 1, at = "2026-02-01T00:00:00Z", total = "9.5", state = "paid" }"#;

fn with_record(tests: &str) -> String {
    tests.replace("RECORD", RECORD)
}

/// Messages show asterisks where a credential is written in the file; the file keeps it.
#[test]
fn an_update_writes_what_is_hidden_in_messages_as_it_was() {
    let shop = Shop::with(
        "[vars]\napi_key = \"sk-live-0123456789\"\n\n[[test]]\nname = \"a\"\n\
         given = { id = 1, at = \"2026-02-01T00:00:00Z\", total = \"1\", state = \"paid\" }\nexpect = {}\n",
    );
    let update = testing::update(&shop.run(), &FolderSources::new());
    let text = update.files.values().next().expect("an expectation to write");
    assert!(text.contains("api_key = \"sk-live-0123456789\""), "{text}");
}

#[test]
fn the_examples_pass() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples");
    let report = run(&folder, &Selection::default());
    assert!(report.is_fine(), "{}", testing::human(&report, false));
    assert!(report.passed() >= 5);
}

#[test]
fn a_record_is_mapped_and_delivered() {
    check(&with_record(
        r#"
        [[test]]
        name = "inline"
        given = RECORD
        expect = { id = "shop:1", total = "9.50", status = "settled", note = "{{ none }}" }

        [[test]]
        name = "a file, a part"
        given = "order.json"
        expect_some = { total = "9.50" }

        [[test]]
        name = "several"
        given = [RECORD, "order.json", { id = 2, test = true }, { at = "2026-02-01T00:00:00Z" }]
        expect_some = { id = "shop:1" }
        expect_outcome = { delivered = 1, duplicate = 1, filtered = 1, unnamed = 1 }
        "#,
    ));
}

#[test]
fn an_expected_record_is_compared_field_by_field() {
    insta::assert_snapshot!(failing(&with_record(
        r#"
[[test]]
name = "wrong in four ways"
given = RECORD
expect = { id = "shop:1", total = "9.5", status = "open", gone = { a = 1 } }
"#,
    )));
}

#[test]
fn an_expected_part_is_compared_in_a_table_of_its_own() {
    insta::assert_snapshot!(failing(&with_record(
        r#"
[[test]]
name = "one field of three"
given = RECORD

[test.expect_some]
id     = "shop:1"
# This one is wrong.
status = "open"
note   = "{{ none }}"
"#,
    )));
}

#[test]
fn a_webhook_is_signed_verified_and_answered() {
    check(&with_record(
        r#"
        [[test]]
        name = "genuine"
        request = { body = RECORD }
        expect_reply = 202
        expect_delivered = { erp = [{ method = "PUT", url = "https://erp.example/orders/shop:1", attempts = 1 }], log = [{ body = { id = "shop:1", total = "9.50", status = "settled", note = "{{ none }}" } }] }

        [[test]]
        name = "forged"
        request = { file = "order.json", sign = false }
        expect_reply = { status = 401, headers = { content-type = "application/json" }, body = { error = "bad_signature" } }
        expect_outcome = {}

        [[test]]
        name = "stale: signed, but long ago"
        request = { file = "order.json", headers = { webhook-timestamp = "1700000000" } }
        expect_reply = 401

        [[test]]
        name = "with the test's own secret, captured"
        now = "2026-02-01T00:00:00Z"
        secrets = { HOOK = "whsec_bXkgc2VjcmV0" }
        request = { body = "{}", headers = { webhook-id = "msg_1", webhook-timestamp = "1769904000", webhook-signature = "v1,SIGNATURE" } }
        expect_reply = { status = 400, body = { error = "unnamed_event" } }
        "#,
    )
    .replace("SIGNATURE", &standard_signature("my secret", "msg_1.1769904000.{}")));
}

fn standard_signature(secret: &str, signed: &str) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    data_encoding::BASE64.encode(ring::hmac::sign(&key, signed.as_bytes()).as_ref())
}

#[test]
fn a_webhook_that_is_answered_otherwise_fails() {
    insta::assert_snapshot!(failing(&with_record(
        r#"
[[test]]
name = "by status"
request = { body = RECORD, sign = false }
expect_reply = 202

[[test]]
name = "by body"
request = { body = RECORD, sign = false }
expect_reply = { status = 401, body = { error = "forged" } }

[[test]]
name = "refused, and nobody expected that"
request = { body = RECORD, method = "PUT" }
expect = { id = "shop:1" }
"#,
    )));
}

const PAGES: &str = r#"
responses = [
    { body = { orders = [RECORD, { id = 2, at = "2026-02-02T00:00:00Z", total = "1", state = "open" }] } },
    { body = { orders = [{ id = 3, at = "2026-02-03T00:00:00Z", total = "1", state = "open" }] } },
]
"#;

fn with_pages(tests: &str) -> String {
    with_record(&tests.replace("PAGES", PAGES))
}

#[test]
fn a_poll_reads_what_it_is_answered_and_asks_for_what_it_should() {
    check(&with_pages(
        r#"
        [[test]]
        name = "two pages"
        PAGES
        expect_requests = [
            { method = "GET", path = "/orders", query = { page = "1", since = "2026-01-01T00:00:00Z" }, headers = { authorization = "Bearer test-token" } },
            { url = "https://shop.example/orders?since=2026-01-01T00%3A00%3A00Z&page=2" },
        ]
        expect_delivered = { erp = 3, log = 3 }
        expect_outcome = "delivered"

        [[test]]
        name = "a scripted token, retries within the run, a delay"
        responses = [
            { to = { path = "/token" }, body = { access_token = "t1", expires_in = 60 } },
            { status = 500 },
            { status = 429, headers = { retry-after = "2" } },
            { delay = "5s", body = { orders = [] } },
        ]
        expect_requests = [{ headers = { authorization = "Bearer t1" } }, {}, {}]
        expect_outcome = {}

        [[test]]
        name = "it fails as expected"
        responses = [{ status = 404, body = "no such shop" }]
        expect_error = "no such shop"

        [[test]]
        name = "the cursor moves on"
        [[test.step]]
        PAGES
        expect_requests = 2
        [[test.step]]
        responses = [{ body = { orders = [{ id = 3, at = "2026-02-03T00:00:00Z", total = "1", state = "open" }] } }]
        expect_requests = [{ query = { page = "1", since = "2026-02-03T00:00:00Z" } }]
        expect_duplicate = true
        "#,
    ));
}

#[test]
fn a_poll_that_asks_otherwise_fails() {
    insta::assert_snapshot!(failing(&with_pages(
        r#"
[[test]]
name = "the wrong page"
PAGES
expect_requests = [{ query = { page = "0", since = "2026-01-01T00:00:00Z" } }, { path = "/orders", method = "POST" }, {}]

[[test]]
name = "the wrong number"
PAGES
expect_requests = 3
"#,
    )));
}

#[test]
fn a_poll_that_fails_or_leaves_answers_over_fails() {
    insta::assert_snapshot!(failing(
        r#"
[[test]]
name = "more is asked for than is scripted"
responses = [{ body = { orders = [{ at = "2026-02-01T00:00:00Z" }, { at = "2026-02-01T00:00:00Z" }] } }]
expect_outcome = { unnamed = 2 }

[[test]]
name = "less is asked for"
responses = [{ body = { orders = [] } }, 500]
expect_outcome = {}

[[test]]
name = "another error"
responses = [404]
expect_error = "not allowed"

[[test]]
name = "no error"
responses = [{ body = { orders = [] } }]
expect_error = "404"
"#
    ));
}

#[test]
fn destinations_fail_as_scripted_and_are_tried_again() {
    check(&with_record(
        r#"
        [[test]]
        name = "down, slow, gone, up"
        given = RECORD
        replies = { erp = [503, { fail = "timeout" }], log = [{ fail = "dns" }, { fail = "refused" }] }
        expect_delivered = { erp = [{ attempts = 3 }], log = [{ attempts = 3 }] }

        [[test]]
        name = "given up"
        given = RECORD
        replies = [{ fail = "broken", times = 3 }]
        expect_dead = { reason = "attempts_spent", destination = "erp", attempts = 3 }

        [[test]]
        name = "refused for good"
        given = RECORD
        replies = [{ status = 422, body = "no such customer" }]
        expect_dead = { reason = "rejected", status = 422, message = "no such customer" }

        [[test]]
        name = "a record that the map cannot take"
        given = { id = 1, at = "2026-02-01T00:00:00Z", total = "9.5", state = "odd" }
        expect_dead = [{ field = "status", reason = "map_failed", destination = "erp" }, { destination = "log" }]

        [[test]]
        name = "a record without a name"
        given = { total = "9.5" }
        expect_dead = "unnamed"

        [[test]]
        name = "parked"
        given = RECORD
        replies = [403]
        expect_outcome = "held"
        "#,
    ));
}

#[test]
fn what_ends_otherwise_fails() {
    insta::assert_snapshot!(failing(&with_record(
        r#"
[[test]]
name = "another reason"
given = RECORD
replies = [422]
expect_dead = { reason = "map_failed", field = "total" }

[[test]]
name = "no dead letter at all"
given = RECORD
expect_dead = "rejected"

[[test]]
name = "a dead letter that nobody expected"
given = { id = 1, at = "2026-02-01T00:00:00Z", total = {}, state = "paid" }
expect = { id = "shop:1" }

[[test]]
name = "a parked destination that nobody expected"
given = RECORD
replies = [401]
expect_some = { id = "shop:1" }

[[test]]
name = "a record without a name that nobody expected"
given = { total = "9.5" }
expect = { id = "shop:1" }

[[test]]
name = "an answer for an attempt that is not made"
given = RECORD
replies = [200, 503]
expect_some = { id = "shop:1" }

[[test]]
name = "no duplicate"
given = RECORD
expect_duplicate = true

[[test]]
name = "delivered, not filtered"
given = RECORD
expect_outcome = "filtered"

[[test]]
name = "another delivery"
given = RECORD
expect_delivered = { erp = [{ method = "POST", attempts = 2, headers = { idempotency-key = "1" } }], log = 2 }
"#,
    )));
}

#[test]
fn time_restarts_and_crashes_are_steps() {
    check(&with_record(
        r#"
        [[test]]
        name = "an event outlives a restart, and its attempts with it"
        [[test.step]]
        request = { body = RECORD }
        replies = [503, 503]
        expect_outcome = "pending"
        [[test.step]]
        restart = true
        expect_outcome = "pending"
        [[test.step]]
        advance = "10s"
        expect_delivered = { erp = [{ attempts = 3 }] }
        expect_outcome = "delivered"

        [[test]]
        name = "an older revision is superseded, the same one a duplicate"
        [[test.step]]
        given = RECORD
        expect_outcome = "delivered"
        [[test.step]]
        given = { id = 1, at = "2026-01-15T00:00:00Z", total = "1", state = "open" }
        expect_outcome = "superseded"
        expect = []
        [[test.step]]
        given = RECORD
        expect_duplicate = true
        expect_delivered = 0

        [[test]]
        name = "killed between two pages, the poll goes on at the cursor"
        responses = [
            { body = { orders = [RECORD, { id = 2, at = "2026-02-02T00:00:00Z", total = "1", state = "open" }] } },
            { fail = "crash" },
            { body = { orders = [{ id = 2, at = "2026-02-02T00:00:00Z", total = "1", state = "open" }] } },
        ]
        expect_requests = [{ query = { page = "1", since = "2026-01-01T00:00:00Z" } }, {}, { query = { page = "1", since = "2026-02-02T00:00:00Z" } }]
        expect_outcome = { delivered = 2, duplicate = 1 }

        [[test]]
        name = "killed while it delivers, it delivers again under the same key"
        given = RECORD
        replies = [{ fail = "crash" }]
        expect_delivered = { erp = [{ attempts = 2 }], log = 1 }
        "#,
    ));
}

#[test]
fn what_is_outstanding_at_the_end_fails() {
    insta::assert_snapshot!(failing(&with_record(
        r#"
[[test]]
name = "delivered later than said"
[[test.step]]
given = RECORD
replies = [503]
expect_delivered = { erp = 1 }
[[test.step]]
advance = "1h"
expect_outcome = "pending"
"#,
    )));
}

#[test]
fn the_same_tests_say_the_same_however_many_run_at_once() {
    let mut tests = String::new();
    for number in 0..12 {
        let test = r#"
            [[test]]
            name = "number NUMBER"
            given = [RECORD, { id = NUMBER, at = "2026-03-01T00:00:00Z", total = "1", state = "open" }]
            replies = [503, 503]
            expect_delivered = { erp = [{ attempts = 9 }], log = 1 }
        "#;
        tests.push_str(&with_record(test).replace("NUMBER", &number.to_string()));
    }
    let shop = Shop::with(&tests);
    let said = |jobs| {
        let report = shop.select(&Selection { filter: None, jobs });
        assert_eq!((report.passed(), report.failed()), (0, 12));
        testing::human(&report, true)
    };
    let first = said(1);
    assert_eq!(first, said(1));
    assert_eq!(first, said(7));
}

#[test]
fn a_filter_leaves_out_what_is_called_otherwise() {
    let shop = Shop::with(&with_record(
        "[[test]]\nname = 'one'\ngiven = RECORD\nexpect_some = {}\n\
         [[test]]\nname = 'two'\ngiven = RECORD\nexpect_some = {}\n",
    ));
    let filter = |text: &str| Selection { filter: Some(text.to_owned()), jobs: 1 };
    assert_eq!(shop.select(&filter("tw")).tests.len(), 1);
    assert_eq!(shop.select(&filter("shop")).tests.len(), 2, "the connector's name counts, too");
    let report = shop.select(&filter("three"));
    assert_eq!((report.tests.len(), report.left_out), (0, 2));
}

#[test]
fn a_shipped_connector_is_tested_with_the_examples_of_its_variables() {
    let folder = tempfile::tempdir().unwrap();
    let text = r#"
        name = "shipped"
        [vars]
        shop = { doc = "the sub-domain", example = "acme" }
        [source]
        base = "https://{{ vars.shop }}.example"
        [stream.orders.poll]
        path = "/orders"
        [schedule]
        every = "1m"
        [[test]]
        name = "it asks the example's API, and delivers to nobody in particular"
        responses = [{ body = [{ id = 1 }] }]
        expect_requests = [{ url = "https://acme.example/orders" }]
        expect = { id = 1 }
    "#;
    fs::write(folder.path().join("shipped.toml"), text).unwrap();
    let report = run(folder.path(), &Selection::default());
    assert!(report.is_fine() && report.passed() == 1, "{}", testing::human(&report, false));

    fs::write(folder.path().join("shipped.toml"), text.replace(", example = \"acme\"", ""))
        .unwrap();
    let report = run(folder.path(), &Selection::default());
    assert!(testing::human(&report, false).contains("give it an `example`"));
}

#[test]
fn programs_and_build_servers_get_the_same() {
    let shop = Shop::with(&with_record(
        r#"
[[test]]
name = "fine"
given = RECORD
expect_some = {}

[[test]]
name = "<wrong> & \"odd\""
given = RECORD
expect_some = { total = "9.5", note = 1, gone = "{{ none }}" }

[[test]]
name = "no fixture"
given = "gone.json"
expect = {}
"#,
    ));
    let folder = format!("{}/", shop.0.path().display());
    let report = shop.run();
    insta::assert_snapshot!("junit", testing::junit(&report).replace(&folder, ""));
    let json = serde_json::to_string_pretty(&testing::json(&report)).unwrap();
    insta::assert_snapshot!("json", json.replace(&folder, ""));
}

#[test]
fn colours_are_for_terminals() {
    let shop = Shop::with(&with_record(
        "[[test]]\nname = 'wrong'\ngiven = RECORD\nexpect_some = { total = '1' }\n",
    ));
    let report = shop.run();
    assert!(!testing::human(&report, false).contains('\u{1b}'));
    assert!(testing::human(&report, true).contains("\u{1b}[31m- total: \"1\""));
}

#[test]
fn what_makes_no_sense_is_found_before_anything_runs() {
    let text = format!(
        "{SHOP}\n{}",
        r#"
[[test]]
name = "two inputs"
given = {}
request = {}
expect = {}

[[test]]
name = "no input"
expect = {}

[[test]]
name = "no expectation"
given = {}

[[test]]
name = "a step beside steps"
given = {}
[[test.step]]
given = {}
expect_reply = 200
[[test.step]]
restart = false
expect_requests = 1

[[test]]
name = "which destination"
given = {}
expect_delivered = [{ method = "GET" }]

[[test]]
name = "unknown names"
stream = "order"
now = "soon"
given = 5
replies = { epr = [200, { fail = "boom" }, 700, { status = 200, fail = "dns" }] }
expect_delivered = { lgo = 1 }
expect_outcome = "lost"
expect_ded = "x"

[[test]]
name = "two bodies, a bad header"
request = { body = {}, file = "order.json", headers = { "a b" = "c" } }
expect_reply = 202
"#
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.toml");
    fs::write(&path, text).unwrap();
    fs::write(folder.path().join("order.json"), "{}").unwrap();
    let report = run(folder.path(), &Selection::default());
    assert!(report.tests.is_empty() && !report.is_fine());
    let said = testing::human(&report, false);
    insta::assert_snapshot!(said.replace(&format!("{}/", folder.path().display()), ""));
}

#[test]
fn what_came_becomes_what_is_expected() {
    let shop = Shop::with(&with_pages(
        r#"
[[test]]                       # a comment
name   = "a record"
given  = RECORD                # another
expect = { id = "shop:1", total="9.5",   status = "open" }  # and one more

[[test]]
name = "a part, in a table of its own"
given = RECORD
[test.expect_some]
id     = "shop:2"
# Wrong.
status = "open"

[[test]]
name = "a file"
given = RECORD
expect = "expected.json"

[[test]]
name = "requests, deliveries, outcome"
PAGES
expect_requests = [
    { path = "/orders", query = { page = "9" } },  # the first page
]
expect_delivered = { erp = 1, log = [{ attempts = 2 }] }
expect_outcome = "dead"

[[test]]
name = "steps"
[[test.step]]
request = { body = RECORD }
expect_reply = { status = 200 }
[[test.step]]
request = { body = RECORD }
expect_reply = 200
expect_duplicate = false
[[test.step]]
given = { id = 2, at = "2026-02-01T00:00:00Z", total = "x", state = "paid" }
expect_dead = "rejected"

[[test]]
name = "an error"
responses = [404]
expect_error = "500"
"#,
    ));
    let file = shop.0.path().join("shop.toml");
    fs::write(shop.0.path().join("expected.json"), "{}").unwrap();
    let before = shop.run();
    assert_eq!(before.passed(), 0);
    let update = testing::update(&before, &FolderSources::new());
    assert_eq!(update.left, 0, "{update:?}");
    for (path, text) in &update.files {
        fs::write(path, text).unwrap();
    }
    let after = shop.run();
    assert!(after.is_fine(), "{}", shop.said());
    let again = testing::update(&after, &FolderSources::new());
    assert_eq!(again, testing::Update::default(), "nothing is left to do");
    let text = fs::read_to_string(file).unwrap();
    insta::assert_snapshot!("updated", text.strip_prefix(SHOP).unwrap());
    insta::assert_snapshot!(
        "updated_file",
        fs::read_to_string(shop.0.path().join("expected.json")).unwrap()
    );
}

#[test]
fn what_the_page_about_testing_shows_passes() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/testing.md")).unwrap();
    let mut count = 0;
    for block in crate::docs::blocks(&page).iter().filter(|block| block.kind == "toml") {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("shown.toml"), crate::docs::completed(&block.text)).unwrap();
        let report = run(folder.path(), &Selection::default());
        assert!(report.is_fine(), "line {}: {}", block.line, testing::human(&report, false));
        count += report.passed();
    }
    assert!(count >= 7, "only {count} tests were found");
}

#[test]
fn a_record_goes_through_a_plan_by_itself() {
    let shop = Shop::with("");
    let path = shop.0.path().join("shop.toml");
    let written = tenon::plan::read(shop.0.path(), &path, &FolderSources::new());
    let plan = written.plan.as_ref().unwrap();
    let run = |record: serde_json::Value| testing::run_record(plan, "orders", &record);
    let record =
        serde_json::json!({ "id": 1, "at": "2026-02-01T00:00:00Z", "total": 1, "state": "open" });
    let mapped = run(record).unwrap().unwrap();
    assert_eq!(mapped["total"], "1.00");
    assert_eq!(run(serde_json::json!({ "test": true })), Ok(None));
    assert!(run(serde_json::json!({})).unwrap_err().starts_with("unnamed: stream.orders.key"));
    let odd =
        serde_json::json!({ "id": 1, "at": "2026-02-01T00:00:00Z", "total": 1, "state": "x" });
    assert!(run(odd).unwrap_err().starts_with("map_failed: stream.orders.map.status"));
    let gone = testing::run_record(plan, "refunds", &serde_json::json!({}));
    assert_eq!(gone, Err("there is no stream `refunds`".to_owned()));
}

#[test]
fn the_tests_of_one_version_run_through_another() {
    let tests = with_pages(
        "[[test]]\nname = 'given'\ngiven = RECORD\nexpect_some = {}\n\
         [[test]]\nname = 'polled'\nPAGES\nexpect_outcome = 'delivered'\n",
    );
    let new = Shop::with(&tests);
    let old = Shop::with("");
    let path = old.0.path().join("shop.toml");
    let changed = fs::read_to_string(&path).unwrap().replace("decimal(2)", "decimal(1)");
    fs::write(&path, changed).unwrap();
    let sources = FolderSources::new();
    let read =
        |shop: &Shop| tenon::plan::read(shop.0.path(), &shop.0.path().join("shop.toml"), &sources);
    let (old, new) = (read(&old), read(&new));
    let totals = |runs| {
        let all = testing::delivered(&new, runs, &sources).into_iter();
        all.map(|one| {
            let records = one.records.unwrap();
            let totals: Vec<String> = records.iter().map(|r| r["total"].to_string()).collect();
            format!("{}: {}", one.test, totals.join(" "))
        })
        .collect::<Vec<_>>()
    };
    assert_eq!(totals(&old), [r#"given: "9.5""#, r#"polled: "9.5" "1.0" "1.0""#]);
    assert_eq!(totals(&new), [r#"given: "9.50""#, r#"polled: "9.50" "1.00" "1.00""#]);
}
