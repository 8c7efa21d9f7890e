//! The traps of other gateways (their own code and issues), each with a test of its name: those that
//! belong to one place are there, what takes a whole connector is here.

use std::{fs, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::Full;
use parking_lot::Mutex;
use tenon::{
    bus::{Bus as _, MemoryBus},
    diagnostic::SourceFile,
    egress::{Answer, Egress, EgressError, ExchangeLimits, Peer, Script},
    engine::{
        Solo, SoloParts,
        files::{FolderSources, connector_files},
    },
    ingest::webhook::WebhookObserver,
    plan::{Sources, compile_file},
    testing::{self, Selection},
    world::{BoxFuture, Clock, ScriptedClock, ScriptedEntropy, StaticSecrets, Timestamp, World},
};

use crate::support::gated::GatedBus;

const SHOP: &str = r#"name = "shop"

[stream.orders]
key = "$.id"

[stream.orders.webhook]
path   = "/orders"
verify = "none"

[destination.erp]
type    = "http"
url     = "https://erp.example/orders"
timeout = "15m"
retry   = { attempts = 3, from = "1s", within = "1h" }
"#;

/// The connector's tests pass.
fn check(tests: &str) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("shop.toml"), format!("{SHOP}\n{tests}")).unwrap();
    let files = connector_files(&[folder.path().to_owned()]).unwrap();
    let report = testing::run(folder.path(), &files, &FolderSources::new(), &Selection::default());
    assert!(report.is_fine() && report.passed() > 0, "{}", testing::human(&report, false));
}

/// A lease that ends before the request's own timeout hands the event out a second time.
#[test]
fn trap_4_a_slow_answer_is_waited_for_and_nothing_is_sent_twice() {
    check(
        r#"
[[test]]
name             = "an ERP that takes fourteen minutes"
given            = { id = 7 }
replies          = [{ delay = "14m" }]
expect_delivered = [{ path = "/orders", attempts = 1 }]
"#,
    );
}

/// Whoever switches a destination off, or revokes its key, finds its events when it is back.
#[test]
fn trap_10_a_destination_that_is_held_keeps_its_events() {
    check(
        r#"
[[test]]
name = "the key is revoked, and mended by a restart"

[[test.step]]
given          = { id = 7 }
replies        = [401]
expect_outcome = "held"

[[test.step]]
given          = { id = 8 }
expect_outcome = { held = 2 }

[[test.step]]
restart          = true
expect_delivered = [{ body = { id = 7 } }, { body = { id = 8 } }]
"#,
    );
}

/// What counts attempts must not be a row that can get lost.
#[test]
fn trap_11_attempts_end_whatever_is_lost_in_between() {
    check(
        r#"
[[test]]
name        = "a destination that always fails, and a daemon that is killed in between"
given       = { id = 7 }
replies     = [500, { fail = "crash" }, 500, { fail = "crash" }, { status = 500, times = 50 }]
expect_dead = { reason = "attempts_spent" }

[[test]]
name = "killed and started again, it goes on counting"

[[test.step]]
given          = { id = 7 }
replies        = [{ status = 500, times = 50 }]
expect_outcome = "pending"

[[test.step]]
restart     = true
expect_dead = { reason = "attempts_spent" }
"#,
    );
}

/// Refuses what is bad for good, and takes the rest.
#[derive(Default)]
struct Erp(Mutex<Vec<String>>);

impl Script for Erp {
    fn answer(
        &self,
        _peer: &Peer,
        request: Request<Bytes>,
        _limits: ExchangeLimits,
    ) -> BoxFuture<'_, Result<Answer, EgressError>> {
        let body = String::from_utf8(request.body().to_vec()).unwrap();
        let status = if body.contains("bad") { 422 } else { 200 };
        self.0.lock().push(body);
        let status = StatusCode::from_u16(status).unwrap();
        Box::pin(
            async move { Ok(Answer { status, headers: HeaderMap::new(), body: Bytes::new() }) },
        )
    }
}

struct Unheard;

impl WebhookObserver for Unheard {
    fn counted(&self, _: &str, _: &str, _: &'static str, _: u64) {}
    fn acknowledged(&self, _: Duration) {}
}

struct OneFile;

impl Sources for OneFile {
    fn read(&self, path: &Path) -> Option<Arc<SourceFile>> {
        let text = SHOP.to_owned();
        path.ends_with("shop.toml").then(|| Arc::new(SourceFile { path: path.to_owned(), text }))
    }
}

/// A store that is away for longer than anybody's patience must not end what delivers: it goes on with
/// what it has, and what it could not store is stored later.
#[tokio::test(start_paused = true)]
async fn trap_12_a_store_that_is_away_stops_nobody_for_good() {
    let clock: Arc<dyn Clock> = Arc::new(ScriptedClock::starting_at(Timestamp(1_700_000_000_000)));
    let bus = GatedBus::new(MemoryBus::new(clock.clone()));
    let erp = Arc::new(Erp::default());
    let plan = compile_file(Path::new(""), Path::new("shop.toml"), &OneFile).plan.unwrap();
    let parts = SoloParts {
        world: World {
            clock,
            entropy: Arc::new(ScriptedEntropy::seeded(1)),
            secrets: Arc::new(StaticSecrets::new([])),
        },
        bus: bus.clone(),
        egress: Egress::scripted(erp.clone()),
        observer: Arc::new(Unheard),
    };
    let solo = Arc::new(Solo::start(&plan, parts).unwrap());
    let post = |body: &'static str| {
        let solo = solo.clone();
        Box::pin(async move {
            let request = Request::post("/orders").body(Full::new(Bytes::from(body))).unwrap();
            solo.webhook(request).await.status()
        })
    };
    let minutes = |count: u64| tokio::time::sleep(Duration::from_secs(60 * count));

    // Dead letters cannot be stored for ten minutes: the event stays, and others go on.
    bus.refuse_letters(true);
    bus.let_pass(2);
    assert_eq!(post("{\"id\":1,\"is\":\"bad\"}").await, 202);
    minutes(5).await;
    assert_eq!(post("{\"id\":2}").await, 202);
    minutes(5).await;
    assert!(erp.0.lock().iter().any(|body| body.contains("\"id\":2")));
    assert!(bus.dead_letters().is_empty());
    bus.refuse_letters(false);
    minutes(5).await;
    assert_eq!(bus.dead_letters().len(), 1);

    // Nothing can be appended for ten minutes: nobody is acknowledged, and then everybody.
    let mut waiting = post("{\"id\":3}");
    let ten_minutes = Duration::from_mins(10);
    assert!(tokio::time::timeout(ten_minutes, &mut waiting).await.is_err());
    bus.let_pass(1);
    assert_eq!(waiting.await, 202);
    minutes(1).await;
    assert!(erp.0.lock().iter().any(|body| body.contains("\"id\":3")));
}

/// A trap without a test of its name is one that may come back.
#[test]
fn every_trap_has_a_test_of_its_name() {
    fn walk(folder: &Path, text: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, text);
            } else if path.extension().is_some_and(|e| e == "rs") {
                text.push_str(&fs::read_to_string(&path).unwrap());
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    walk(&root.join("src"), &mut text);
    walk(&root.join("tests"), &mut text);
    let missing: Vec<u32> =
        (1..=17).filter(|number| !text.contains(&format!("fn trap_{number}_"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
