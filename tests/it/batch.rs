//! Batches and rules of destinations, through the whole pipeline on a scripted clock: what shares a
//! request, under which key, and what becomes of each event.

use std::{fs, path::Path};

use tenon::{
    engine::files::{FolderSources, connector_files},
    testing::{self, Selection},
};

/// Orders of two tenants, which go to an API that takes lists.
const SHOP: &str = r#"name = "shop"

[stream.orders]
key      = "$.id"
revision = "$.at | integer"
tenant   = "$.shop | default('a')"

[stream.orders.webhook]
path   = "/orders"
verify = "none"

[stream.orders.map]
id    = "$.id"
total = "$.total | decimal | optional"

[destination.erp]
type        = "http"
url         = "https://erp.example/orders/batch"
body        = { items = "{{ batch }}" }
concurrency = 1
retry       = { attempts = 4, from = "10s", to = "10s", within = "1h" }
"#;

fn run(folder: &Path) -> testing::Report {
    let files = connector_files(&[folder.to_owned()]).unwrap();
    testing::run(folder, &files, &FolderSources::new(), &Selection::default())
}

/// All tests of the shop with these keys of its destination pass.
fn check(destination: &str, tests: &str) {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("{SHOP}{destination}\n{tests}");
    fs::write(folder.path().join("shop.toml"), text).unwrap();
    let report = run(folder.path());
    assert!(report.is_fine() && report.passed() > 0, "{}", testing::human(&report, false));
}

const BATCH: &str = "[destination.erp.batch]\nmax = 4\nwithin = \"2s\"\n";

#[test]
fn the_example_does_what_it_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/batches");
    let report = run(&folder);
    assert!(report.is_fine() && report.passed() > 0, "{}", testing::human(&report, false));
}

#[test]
fn a_batch_goes_when_it_is_full_or_has_waited() {
    check(
        BATCH,
        r#"
[[test]]
name = "four go at once, the fifth waits"

[[test.step]]
given = [{ id = 1, at = 1 }, { id = 2, at = 1 }, { id = 3, at = 1 }, { id = 4, at = 1 }, { id = 5, at = 1 }]
expect_delivered = [{ body = { items = [{ id = 1 }, { id = 2 }, { id = 3 }, { id = 4 }] }, attempts = 1 }]
expect_outcome = { delivered = 4, pending = 1 }

[[test.step]]
advance = "2s"
expect_delivered = [{ body = { items = [{ id = 5 }] } }]
"#,
    );
}

#[test]
fn tenants_and_states_of_one_thing_go_apart() {
    check(
        BATCH,
        r#"
[[test]]
name = "two tenants, and two states of an order"

[[test.step]]
given = [{ id = 1, at = 1, shop = "a" }, { id = 2, at = 1, shop = "b" }, { id = 1, at = 2, shop = "a" }]

[[test.step]]
advance = "2s"
expect_delivered = [
    { body = { items = [{ id = 1 }] } },
    { body = { items = [{ id = 2 }] } },
    { body = { items = [{ id = 1 }] } },
]
"#,
    );
}

#[test]
fn an_event_that_cannot_be_mapped_costs_the_others_nothing() {
    check(
        BATCH,
        r#"
[[test]]
name = "a total that is none"
given = [{ id = 1, at = 1, total = "9.5" }, { id = 2, at = 1, total = "much" }, { id = 3, at = 1 }]
expect_delivered = [{ body = { items = [{ id = 1, total = "9.5" }, { id = 3 }] } }]
expect_dead = { reason = "map_failed", field = "total", attempts = 0 }
"#,
    );
}

#[test]
fn what_fails_as_a_whole_comes_again_as_it_was_under_the_same_key() {
    check(
        BATCH,
        r#"
[[test]]
name = "an outage, kill -9 in the midst of it, and later events that join nothing"

[[test.step]]
given   = [{ id = 1, at = 1 }, { id = 2, at = 1 }, { id = 3, at = 1 }]
replies = [503, { fail = "timeout" }, 503]

[[test.step]]
advance = "4s"
expect_outcome = { pending = 3 }

[[test.step]]
given = { id = 4, at = 1 }
expect_outcome = { pending = 4 }

[[test.step]]
restart = true

[[test.step]]
advance = "10m"
expect_delivered = [
    { body = { items = [{ id = 1 }, { id = 2 }, { id = 3 }] }, attempts = 4 },
    { body = { items = [{ id = 4 }] } },
]
"#,
    );
}

#[test]
fn what_is_refused_as_a_whole_is_tried_in_halves_until_the_culprit_stands_alone() {
    check(
        BATCH,
        r#"
[[test]]
name = "the third of four is poison"
given = [{ id = 1, at = 1 }, { id = 2, at = 1 }, { id = 3, at = 1 }, { id = 4, at = 1 }]
replies = [
    { status = 400, to = { body = { items = [{ id = 1 }, { id = 2 }, { id = 3 }, { id = 4 }] } } },
    { status = 413, to = { body = { items = [{ id = 3 }, { id = 4 }] } } },
    { status = 422, body = "no such customer", to = { body = { items = [{ id = 3 }] } } },
]
expect_delivered = [
    { body = { items = [{ id = 1 }, { id = 2 }] }, attempts = 1 },
    { body = { items = [{ id = 4 }] }, attempts = 1 },
]
expect_dead = { reason = "rejected", message = "no such customer", status = 422, attempts = 1 }
"#,
    );
}

#[test]
fn a_rule_that_gives_up_on_a_batch_is_asked_about_each_event() {
    let rule = format!(
        "on = [{{ status = 404, then = \"retry\", times = 1, else = \"superseded\" }}]\n{BATCH}"
    );
    check(
        &rule,
        r#"
[[test]]
name = "the second of two is gone for good"
given = [{ id = 1, at = 1 }, { id = 2, at = 1 }]
replies = [
    { status = 404, to = { body = { items = [{ id = 1 }, { id = 2 }] } }, times = 2 },
    { status = 404, to = { body = { items = [{ id = 2 }] } } },
]
expect_delivered = [{ body = { items = [{ id = 1 }] } }]
expect_outcome   = { delivered = 1, superseded = 1 }
"#,
    );
}

#[test]
fn each_event_is_judged_by_its_own_result_and_one_without_is_no_delivery() {
    let results = format!(
        "{BATCH}results = \"$.items[*]\"\nby = \"$.id\"\nok = \"{{{{ item.status < 300 }}}}\"\n"
    );
    check(
        &results,
        r#"
[[test]]
name = "one is taken, one is not yet, one is not answered"
given = [{ id = 1, at = 1 }, { id = 2, at = 1 }, { id = 3, at = 1 }]
replies = [
    { body = { items = [{ id = "2", status = 503 }, { id = 1, status = 201 }] } },
    { body = { items = [{ id = 3, status = 200 }, { id = 2, status = 503 }] } },
    { body = { items = [{ id = 2, status = 503 }] }, times = 2 },
]
expect_dead = { reason = "attempts_spent", attempts = 4, message = '{"id":2,"status":503}' }
expect_outcome = { delivered = 2, dead = 1 }
expect_delivered = [
    { body = { items = [{ id = 1 }, { id = 2 }, { id = 3 }] } },
    { body = { items = [{ id = 2 }, { id = 3 }] } },
    { body = { items = [{ id = 2 }] } },
    { body = { items = [{ id = 2 }] }, attempts = 2 },
]
"#,
    );
}

#[test]
fn rules_say_what_answers_mean() {
    let single = SHOP.replace("body        = { items = \"{{ batch }}\" }\n", "");
    let rules = r#"
on = [
    { status = 409, when = "{{ response.body.known }}", then = "delivered" },
    { status = 409, then = "superseded" },
    { status = 404, then = "retry", times = 1, reason = "no_customer", message = "customer of {{ out.id }}" },
    { status = 200, when = "{{ response.body.ok == false }}", then = "dead", message = "{{ response.body.why }}" },
    { status = 403, then = "wait", for = "{{ response.headers['x-wait'] }}" },
]
[[test]]
name = "known"
given = { id = 1, at = 1 }
replies = [{ status = 409, body = { known = true } }]
expect_outcome = "delivered"

[[test]]
name = "stale"
given = { id = 1, at = 1 }
replies = [409]
expect_outcome = "superseded"

[[test]]
name = "not yet there, and then not at all"
given = { id = 7, at = 1 }
replies = [404, 404]
expect_dead = { reason = "no_customer", message = "404 Not Found: customer of 7", attempts = 2, status = 404 }

[[test]]
name = "a 200 that is none"
given = { id = 1, at = 1 }
replies = [{ body = { ok = false, why = "closed" } }]
expect_dead = { reason = "rejected", message = "200 OK: closed", attempts = 1 }

[[test]]
name = "a quota is no failure"

[[test.step]]
given = { id = 1, at = 1 }
replies = [{ status = 403, headers = { X-Wait = "40" }, times = 6 }]
expect_outcome = "pending"

[[test.step]]
advance = "39s"
expect_delivered = 0

[[test.step]]
advance = "6m"
expect_outcome = "delivered"
"#;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("shop.toml"), format!("{single}{rules}")).unwrap();
    let report = run(folder.path());
    assert!(report.is_fine() && report.passed() == 5, "{}", testing::human(&report, false));
}
