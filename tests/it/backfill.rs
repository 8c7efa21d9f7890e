//! Backfills: a range beside the live cursor, by the poll alone and in a whole engine that restarts.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tenon::{
    bus::Bus as _,
    engine::{BackfillError, Engine, EngineOptions},
    ingest::poll::{Backfill, Pass},
    plan::Settings,
    world::{ScriptedEntropy, StaticSecrets, SystemClock, Timestamp, World},
};

use crate::support::{
    MockServer, Reply, Seen,
    walk::{BEGIN, Walk, text},
};

const DAY: i64 = 86_400;

/// 2026-11-01T00:00:00Z and what is so many days after it.
fn day(number: i64) -> i64 {
    1_793_491_200 + (number - 1) * DAY
}

/// One order a day, at noon, of the days that `since` and `until` cover.
fn api(seen: &Seen) -> Reply {
    let number = |name: &str| seen.param(name).map(|text| text.parse::<i64>().unwrap());
    let (since, until) = (number("since").unwrap_or(0), number("until").unwrap_or(i64::MAX));
    let noons = (1..=22).map(|number| (number, day(number) + DAY / 2));
    let orders: Vec<Value> = noons
        .filter(|(_, at)| (since..=until).contains(at))
        .map(|(number, at)| json!({ "id": format!("nov{number}"), "at": at }))
        .collect();
    Reply::json(orders)
}

fn stream(more: &str) -> String {
    format!(
        "[stream.orders]\nkey = \"$.id\"\nrevision = \"$.at\"\n\
         [stream.orders.poll]\npath = \"/orders\"\n\
         [stream.orders.poll.cursor]\nfield = \"$.at\"\nformat = \"epoch_s\"\n\
         start = \"2026-11-15\"\nstart_param = \"since\"\nend_param = \"until\"\n{more}\n"
    )
}

fn days(range: std::ops::RangeInclusive<i64>) -> Vec<String> {
    range.map(|number| format!("nov{number}")).collect()
}

#[tokio::test(start_paused = true)]
async fn a_range_is_read_beside_the_live_cursor() {
    let server = MockServer::start(api).await;
    let walk = Walk::new(&server, &stream(""));
    walk.fine().await;
    assert_eq!(walk.keys(), days(15..=21));
    let live = walk.cursor();

    let backfill =
        |from, to| Backfill::new(&walk.poller("orders"), from, to, BEGIN).expect("a range");
    let work = backfill("2026-11-10", "2026-11-17");
    let report = work.poller.run(&|_| {}).await.unwrap();
    // Five days are new, two were read by the poll: the same records, so the same events.
    assert_eq!((report.accepted, report.duplicates), (5, 2));
    assert!(report.requests > 10, "cut into windows: {report:?}");
    assert_eq!(walk.keys()[7..], days(10..=14));
    assert_eq!(walk.cursor(), live);
    let (at, share) = work.position().unwrap();
    assert!(at.starts_with("2026-11-16T") && share.unwrap() > 0.9, "{at} {share:?}");
    work.aside.clear().await.unwrap();
    assert!(walk.bus.state_under("backfill/").is_empty());
    // Meanwhile the live poll goes on where it was.
    assert_eq!(walk.fine().await.accepted, 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_backfill_reads_of_long_ago_keeps_no_parent_from_the_live_poll() {
    let order = |at: i64, gone: bool| json!({ "id": 1, "at": at, "gone": gone });
    let (old, new) = (order(day(5), true), order(day(16), false));
    let gate = Arc::new(tokio::sync::Notify::new());
    let server = MockServer::scripted([
        Reply::json(json!([new])),
        Reply::json(new).gate(&gate),
        Reply::json(json!([old])),
        Reply::json(old),
    ])
    .await;
    let walk = Walk::new(
        &server,
        "[stream.orders]\nkey = \"$.id\"\nto = []\ndelete = \"{{ record.gone }}\"\n\
         [stream.orders.poll]\npath = \"/orders\"\n\
         detail = { path = \"/orders/{{ record.id }}\" }\n\
         [stream.orders.poll.cursor]\nfield = \"$.at\"\nformat = \"epoch_s\"\n\
         start = \"2026-11-15\"\nstart_param = \"since\"\n\
         [stream.lines]\nkey = \"$.id\"\n[stream.lines.poll]\n\
         path = \"/{{ each.order.id }}\"\neach = { order = \"orders\" }\n",
    );
    let live = walk.poller("orders");
    let work = Backfill::new(&live, "2026-11-01", "2026-11-10", BEGIN).unwrap();
    let beside = async {
        server.wait_for(2).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        work.poller.run_as(Pass::Aside, &|_| {}).await.unwrap();
        gate.notify_one();
    };
    let (report, ()) = tokio::join!(live.run(&|_| {}), beside);
    assert_eq!((report.unwrap().accepted, server.seen().len()), (1, 4));
    assert!(walk.bus.state("parent/shop/orders/1").is_some(), "its children are read");
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_range_goes_on_where_it_was() {
    let broken = Arc::new(AtomicBool::new(true));
    let seen = Arc::clone(&broken);
    let server = MockServer::start(move |request| {
        let since: i64 = request.param("since").unwrap().parse().unwrap();
        if since > day(5) && seen.load(SeqCst) { Reply::text(400, "no") } else { api(request) }
    })
    .await;
    let walk = Walk::new(&server, &stream("window = \"1d\""));
    let range =
        || Backfill::new(&walk.poller("orders"), "2026-11-01", "2026-11-11", BEGIN).unwrap();
    range().poller.run(&|_| {}).await.unwrap_err();
    assert_eq!(walk.keys(), days(1..=5));
    broken.store(false, SeqCst);
    let asked = server.seen().len();
    let report = range().poller.run(&|_| {}).await.unwrap();
    assert_eq!(report.accepted, 5);
    let first = server.seen()[asked].param("since").unwrap().parse::<i64>().unwrap();
    assert!(first >= day(5), "{first}");
    assert_eq!(walk.keys(), days(1..=10));
    assert_eq!(walk.cursor(), None);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_range_is_explained() {
    let server = MockServer::start(api).await;
    let walk = Walk::new(&server, &stream(""));
    let problem = |from: &str, to: &str| {
        Backfill::new(&walk.poller("orders"), from, to, BEGIN).err().expect("no range")
    };
    assert_eq!(problem("2026-11-11", "2026-11-11"), "--from must be before --to");
    assert_eq!(
        problem("yesterday", "2026-11-11"),
        "--from: `yesterday` is no value of the cursor of `orders`: expected a time: `-90d`, a date, or RFC 3339"
    );
    let walk =
        Walk::new(&server, "[stream.orders]\nkey = \"$.id\"\n[stream.orders.poll]\npath = \"/x\"");
    let problem = Backfill::new(&walk.poller("orders"), "1", "2", BEGIN).err().unwrap();
    assert!(problem.contains("has no cursor"), "{problem}");
}

async fn engine(folder: &Path) -> Arc<Engine> {
    let mut settings = Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        watch: false,
        state: folder.join("state"),
        shutdown: Duration::from_secs(10),
        ..Settings::default()
    };
    settings.egress.allow = vec!["127.0.0.0/8".parse().unwrap()];
    let world = World {
        clock: Arc::new(SystemClock),
        entropy: Arc::new(ScriptedEntropy::seeded(7)),
        secrets: Arc::new(StaticSecrets::new([("KEY", "s3cret")])),
    };
    let paths = vec![folder.join("connectors")];
    Engine::start(EngineOptions { paths, settings, world }).await.expect("it starts")
}

/// Waits for something that the engine does by itself.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..500 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not so within ten seconds: {what}");
}

#[tokio::test]
async fn a_daemon_goes_on_after_a_restart_and_forgets_what_is_done() {
    let hangs = Arc::new(AtomicBool::new(true));
    let gate = Arc::clone(&hangs);
    let server = MockServer::start(move |seen| {
        let since: i64 = seen.param("since").unwrap().parse().unwrap();
        if since > day(5) && since < day(11) && gate.load(SeqCst) {
            Reply::hang()
        } else {
            api(seen)
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("connectors")).unwrap();
    let file = text(&server, &stream("window = \"1d\"")).replace(
        "type = \"stdout\"",
        &format!("type = \"file\"\npath = \"{}\"", folder.path().join("out.jsonl").display()),
    );
    std::fs::write(folder.path().join("connectors/shop.toml"), file).unwrap();

    let first = engine(folder.path()).await;
    let begun = first.backfill("shop", "orders", "2026-11-01", "2026-11-11").await.unwrap();
    assert_eq!((begun.state.as_str(), begun.accepted), ("running", 0));
    until("half of it is durable", || first.backfills()[0].accepted == 5).await;
    // What is durable is counted, though it is not over: by the live poll, too.
    until("it is counted", || {
        let durable =
            first.bus().history(Timestamp(0), Timestamp(i64::MAX), None).unwrap().events.len();
        let name = "tenon_events_total{connector=\"shop\",stream=\"orders\",outcome=\"accepted\"} ";
        first.metrics_text().contains(&format!("{name}{durable}\n"))
    })
    .await;
    // The same range again is the one that runs; another one has to wait.
    let again = first.backfill("shop", "orders", "2026-11-01", "2026-11-11").await.unwrap();
    assert_eq!(again.began_at, begun.began_at);
    let other = first.backfill("shop", "orders", "2026-11-01", "2026-11-02").await;
    assert!(matches!(other, Err(BackfillError::Busy(_))), "{other:?}");
    let unknown = first.backfill("shop", "order", "2026-11-01", "2026-11-02").await;
    let expected = "no polled stream named `order`: there are `orders`".to_owned();
    assert_eq!(unknown, Err(BackfillError::Unknown(expected)));
    first.shutdown().await;
    drop(first);

    hangs.store(false, SeqCst);
    let second = engine(folder.path()).await;
    until("it is done", || second.backfills()[0].state == "done").await;
    let done = &second.backfills()[0];
    assert!(done.ended_at.is_some() && done.problem.is_none(), "{done:?}");
    assert!(second.bus().state_under("backfill/").is_empty());
    assert!(second.cancel_backfill("shop", "orders").await.unwrap());
    assert!(second.backfills().is_empty());
    second.shutdown().await;
    let delivered = std::fs::read_to_string(folder.path().join("out.jsonl")).unwrap();
    for name in days(1..=10) {
        let times = delivered.matches(&format!("\"{name}\"")).count();
        assert_eq!(times, 1, "{name}");
    }
}
