//! Replays: what is taken and what becomes of it, pace and pause, letters, keys, and what a restart or a
//! crash leaves; objectives, which a replay must not touch.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tenon::{
    engine::{
        Against, Engine, EngineOptions, ReplayError, ReplayOutcomes, ReplayReport, ReplayRequest,
        ReplaySource, ReplayStatus,
    },
    plan::Settings,
    world::{ScriptedEntropy, StaticSecrets, SystemClock, World},
};

use crate::{
    admin::{Daemon, SHOP},
    engine::{START, Stage, connector, keys},
    support::{MockServer, Reply, Seen, damage, program},
};

const MAP: &str = "\n[stream.orders.map]\nid = \"$.id\"\ntotal = \"$.total | decimal\"\n";

fn of(connector: &str) -> ReplayRequest {
    ReplayRequest { connector: Some(connector.to_owned()), ..ReplayRequest::default() }
}

fn order(id: u32) -> Value {
    json!({"id": id.to_string(), "total": "1.50"})
}

async fn dry(stage: &Stage, request: ReplayRequest, against: Option<&Against>) -> ReplayReport {
    stage.engine.preview_replay(request, against, &|_| {}).await.unwrap()
}

/// Begins a replay and waits until all that it sent has ended.
async fn done(stage: &Stage, request: ReplayRequest) -> ReplayStatus {
    let id = stage.engine.replay(request).await.unwrap().id;
    let status = |engine: &Engine| engine.replay_status(&id).unwrap();
    stage.until("the replay is done", |engine| status(engine).has_ended()).await;
    stage.settled().await;
    status(&stage.engine)
}

fn delivered(count: u64) -> ReplayOutcomes {
    ReplayOutcomes { delivered: count, ..ReplayOutcomes::default() }
}

#[tokio::test(start_paused = true)]
async fn history_is_replayed_dry_first_then_under_the_old_keys() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let stage = Stage::with(&[("a.toml", &connector("a", &sink, ""))]).await;
    stage.send_all("/a", (0..3).map(order)).await;
    stage.settled().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let request = ReplayRequest { from: START, to: START.plus(Duration::from_secs(30)), ..of("a") };
    let report = dry(&stage, request.clone(), None).await;
    assert_eq!((report.matched, report.lanes[0].events, report.lanes[0].same), (3, 3, 3));
    assert_eq!((sink.seen().len(), report.samples.len()), (3, 0), "nothing new, nothing sent");

    let status = done(&stage, request.clone()).await;
    assert_eq!((status.state.as_str(), status.matched, status.replayed), ("done", 3, 3));
    assert_eq!((status.outcomes, status.pending), (delivered(3), 0));
    let replays =
        "tenon_replay_events_total{connector=\"a\",stream=\"orders\",outcome=\"delivered\"}";
    assert_eq!(stage.metric(replays), 3);
    let mut keys = keys(&sink.seen());
    assert_eq!(keys.len(), 6);
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 3);
    // What a replay appended is not history: the same three again.
    let again = done(&stage, request).await;
    assert_eq!((again.matched, again.replayed), (3, 3));
    // A minute late by the clock, and no word of it in the latency.
    let late = "tenon_delivery_seconds_bucket{connector=\"a\",destination=\"sink\",le=\"30\"}";
    assert_eq!((stage.metric(late), sink.seen().len()), (3, 9));
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_compares_with_what_was_delivered_and_with_another_version() {
    let sink = MockServer::start(|seen| {
        let id = seen.json()["id"].as_str().unwrap().to_owned();
        Reply::status(if id == "4" { 422 } else { 200 })
    })
    .await;
    let old = connector("a", &sink, &format!("{MAP}mail = \"$.mail | optional\"\n"));
    let stage = Stage::with(&[("a.toml", &old)]).await;
    let mut orders: Vec<Value> = (0..5).map(order).collect();
    orders[1]["mail"] = json!("x@y.example");
    orders[2]["total"] = json!("2.25");
    stage.send_all("/a", orders).await;
    stage.settled().await;

    // The new map doubles what was "2.25", says more of it, and wants a total of two digits.
    let new = connector(
        "a",
        &sink,
        "\n[stream.orders.map]\nid = \"$.id\"\n\
        total = \"{% if record.total == '2.25' %}4.50{% else %}{{ record.total }}{% endif %}\"\n\
        mail = \"$.mail | optional\"\n",
    )
    .replace("[stream.orders]\n", "[stream.orders]\nredact = [\"mail\"]\n");
    stage.write("a.toml", &new);
    assert_eq!(stage.engine.reload().await.failed, [""; 0]);
    let report = dry(&stage, of("a"), None).await;
    let lane = &report.lanes[0];
    assert_eq!((lane.events, lane.same, lane.differs, lane.undelivered), (5, 3, 1, 1));
    let shown: Vec<&Value> = report.samples.iter().map(|(_, output)| output).collect();
    assert_eq!(shown, [&json!({"id": "2", "total": "4.50"}), &json!({"id": "4", "total": "1.50"})]);

    let against = |text: &str| Against {
        what: "the version before".to_owned(),
        file: "a.toml".into(),
        files: [("a.toml".into(), text.to_owned())].into(),
        ..Against::default()
    };
    let report = dry(&stage, of("a"), Some(&against(&old))).await;
    assert_eq!((report.against_fits, report.against_differs), (4, 0));
    let fields: Vec<_> = report.fields.iter().map(|f| (f.path.as_str(), f.events)).collect();
    assert_eq!(fields, [("total", 1)]);
    assert_eq!(report.fields[0].old, Some(json!("2.25")));
    assert_eq!(report.fields[0].new, Some(json!("4.50")));
    // One that never delivered anything: that is said, and what is redacted here is masked.
    let other = old.replace("\"$.mail | optional\"", "\"$.mail | default('none')\"");
    let report = dry(&stage, of("a"), Some(&against(&other))).await;
    assert_eq!((report.against_fits, report.against_differs), (1, 3));
    let mail = report.fields.iter().find(|field| field.path == "mail").unwrap();
    assert_eq!((mail.events, &mail.old, &mail.new), (4, &Some(json!("[redacted]")), &None));
    let bad = stage.engine.preview_replay(of("a"), Some(&against("name = 7")), &|_| {}).await;
    assert!(
        matches!(bad, Err(ReplayError::Bad(ref why)) if why.contains("does not compile")),
        "{bad:?}"
    );

    // A map that fails tells of whom; nothing is sent all the while.
    let fails = connector("a", &sink, MAP).replace("$.total |", "$.mail |");
    stage.write("a.toml", &fails);
    stage.engine.reload().await;
    let report = dry(&stage, of("a"), None).await;
    assert_eq!((report.lanes[0].map_failed, report.failing_total), (5, 5));
    assert_eq!(sink.seen().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn new_keys_are_new_once_and_the_same_on_every_attempt() {
    let sink = MockServer::scripted([200, 503, 200, 200].map(Reply::status)).await;
    let stage = Stage::with(&[("a.toml", &connector("a", &sink, ""))]).await;
    stage.send_all("/a", [order(1)]).await;
    stage.settled().await;
    let anew = ReplayRequest { new_keys: true, ..of("a") };
    done(&stage, anew.clone()).await;
    done(&stage, anew).await;
    let keys = keys(&sink.seen());
    assert_eq!(keys.len(), 4);
    assert_eq!(keys[1], keys[2], "an attempt and its repetition");
    assert!(keys[0] != keys[1] && keys[1] != keys[3] && keys[0] != keys[3], "{keys:?}");
}

#[tokio::test(start_paused = true)]
async fn filters_are_all_met() {
    let sink = MockServer::start(|seen: &Seen| match seen.json()["id"].as_str() {
        Some("1" | "2") if seen.header("x-tenon-event").is_some() => Reply::status(422),
        _ => Reply::status(200),
    })
    .await;
    let text = connector("a", &sink, MAP)
        .replace("key = \"$.id\"\n", "key = \"$.id\"\ntenant = \"$.who | optional\"\n");
    let stage = Stage::with(&[("a.toml", &text)]).await;
    let mut orders: Vec<Value> = (0..6).map(order).collect();
    orders[1]["who"] = json!("acme");
    orders[4]["who"] = json!("acme");
    orders[5]["total"] = json!("a lot");
    let ids = stage.send_all("/a", orders).await;
    stage.settled().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let matched = async |request: ReplayRequest| dry(&stage, request, None).await.matched;
    let word = |text: &str| Some(text.to_owned());
    let outcome = |text: &str| ReplayRequest { outcome: word(text), ..of("a") };
    assert_eq!(matched(outcome("delivered")).await, 3);
    assert_eq!(matched(outcome("dead")).await, 3);
    assert_eq!(matched(outcome("superseded")).await, 0);
    assert_eq!(matched(ReplayRequest { reason: word("rejected"), ..of("a") }).await, 2);
    assert_eq!(matched(ReplayRequest { reason: word("map_failed"), ..of("a") }).await, 1);
    assert_eq!(matched(ReplayRequest { tenant: word("acme"), ..of("a") }).await, 2);
    let dead_of_acme = ReplayRequest { tenant: word("acme"), ..outcome("dead") };
    assert_eq!(matched(dead_of_acme).await, 1);
    assert_eq!(matched(ReplayRequest { event: word(&ids[3]), ..of("a") }).await, 1);
    assert_eq!(matched(ReplayRequest { key: word("3"), ..of("a") }).await, 1);
    assert_eq!(matched(ReplayRequest { destination: word("crm"), ..outcome("dead") }).await, 0);

    // What a replay mends is no longer dead.
    let status = done(&stage, ReplayRequest { event: word(&ids[1]), ..of("a") }).await;
    assert_eq!(status.outcomes, ReplayOutcomes { dead: 1, ..ReplayOutcomes::default() });
    stage.write(
        "a.toml",
        &text
            .replace("[destination.sink]\n", "[destination.sink]\nmethod = \"PUT\"\n")
            .replace("total | decimal", "total"),
    );
    stage.engine.reload().await;
    let status = done(&stage, ReplayRequest { reason: word("map_failed"), ..of("a") }).await;
    assert_eq!((status.matched, status.outcomes), (1, delivered(1)));
    assert_eq!(matched(outcome("delivered")).await, 4);
    assert_eq!(matched(outcome("dead")).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_replay_keeps_its_pace_is_paused_and_goes_on_where_it_was() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let stage = Stage::with(&[("a.toml", &connector("a", &sink, ""))]).await;
    stage.send_all("/a", (0..30).map(order)).await;
    stage.settled().await;
    let began = stage.engine.now();
    let slow = ReplayRequest { rate: "5/s".to_owned(), ..of("a") };
    let id = stage.engine.replay(slow).await.unwrap().id;
    let status = |engine: &Engine| engine.replay_status(&id).unwrap();
    stage.until("a third of it", |engine| status(engine).replayed >= 10).await;
    let paused = stage.engine.pause_replay(&id).await.unwrap();
    assert_eq!((paused.state.as_str(), paused.replayed), ("paused", 10));
    assert!(stage.engine.now().since(began) >= Duration::from_secs(1));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(status(&stage.engine).replayed, 10);
    assert!(matches!(
        stage.engine.pause_replay("rp_000000000000").await,
        Err(ReplayError::Unknown(_))
    ));

    let resumed = stage.engine.now();
    assert_eq!(stage.engine.resume_replay(&id).await.unwrap().state, "running");
    stage.until("it is done", |engine| status(engine).state == "done").await;
    // Twenty at five a second: the last begin in the fourth second.
    assert!(stage.engine.now().since(resumed) >= Duration::from_secs(3));
    stage.settled().await;
    let done = status(&stage.engine);
    assert_eq!((done.replayed, done.outcomes, done.share), (30, delivered(30), Some(1.0)));
    assert_eq!(sink.seen().len(), 60);
    assert!(matches!(stage.engine.resume_replay(&id).await, Err(ReplayError::Conflict(_))));
    assert!(matches!(stage.engine.cancel_replay(&id).await, Err(ReplayError::Conflict(_))));
}

#[tokio::test(start_paused = true)]
async fn what_is_looked_at_counts_once_wherever_a_replay_is_stopped() {
    let sink = MockServer::start(|_| Reply::status(422)).await;
    let both = [("a.toml", &*connector("a", &sink, "")), ("b.toml", &*connector("b", &sink, ""))];
    let stage = Stage::with(&both).await;
    for id in 0..10 {
        for path in ["/a", "/b"] {
            stage.send_all(path, [order(id)]).await;
            stage.settled().await;
        }
    }
    stage.send_all("/b", [order(10)]).await;
    stage.settled().await;
    std::fs::remove_file(stage.folder.path().join("b.toml")).unwrap();
    stage.engine.reload().await;
    for source in [ReplaySource::DeadLetters, ReplaySource::History] {
        let (rate, all) = ("5/s".to_owned(), true);
        let slow = ReplayRequest { source, rate, all, ..ReplayRequest::default() };
        let id = stage.engine.replay(slow).await.unwrap().id;
        let status = |engine: &Engine| engine.replay_status(&id).unwrap();
        stage.until("five are sent", |engine| status(engine).replayed >= 5).await;
        let paused = stage.engine.pause_replay(&id).await.unwrap();
        let counts = |it: &ReplayStatus| (it.looked_at, it.matched, it.replayed, it.without_plan);
        assert_eq!(counts(&paused), (9, 9, 5, 4), "{source:?}");
        stage.engine.resume_replay(&id).await.unwrap();
        stage.until("it is done", |engine| status(engine).state == "done").await;
        assert_eq!(counts(&status(&stage.engine)), (21, 21, 10, 11), "{source:?}");
        stage.settled().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_leaves_the_runtime_to_others() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let skus = |n| {
        format!("skus{n} = \"{{% for line in record.lines %}}{{{{ line.sku }}}}{{% endfor %}}\"\n")
    };
    let skus: String = (0..20).map(skus).collect();
    let map = format!("\n[stream.orders.map]\nid = \"$.id\"\n{skus}");
    let stage = Stage::with(&[("a.toml", &connector("a", &sink, &map))]).await;
    let lines: Vec<Value> = (0..400).map(|sku| json!({"sku": sku})).collect();
    let orders = (0..40).map(|id| json!({"id": id.to_string(), "lines": lines}));
    stage.send_all("/a", orders).await;
    stage.settled().await;
    let began = std::time::Instant::now();
    let (mut seen, mut longest) = (began, Duration::ZERO);
    let others = async {
        loop {
            tokio::task::yield_now().await;
            longest = longest.max(seen.elapsed());
            seen = std::time::Instant::now();
        }
    };
    let report = tokio::select! {
        report = dry(&stage, of("a"), None) => report,
        () = others => unreachable!(),
    };
    assert_eq!(report.lanes[0].same, 40);
    let (longest, took) = (longest.max(seen.elapsed()), began.elapsed());
    assert!(longest < took / 2, "nobody else had a turn for {longest:?} of {took:?}");
}

#[tokio::test]
async fn a_letter_that_cannot_be_read_is_counted_and_ends_no_replay() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("connectors")).unwrap();
    let path = folder.path().join("connectors/shop.toml");
    let file = SHOP.replace("OUT", folder.path().join("out.jsonl").to_str().unwrap());
    std::fs::write(&path, file.replace("$.total |", "$.sum |")).unwrap();
    let engine = embedded(folder.path()).await;
    let stage = crate::engine::Stage { folder: tempfile::tempdir().unwrap(), engine };
    stage.send_all("/shop/orders", (0..3).map(order)).await;
    until("they died", || stage.engine.bus().dead_letters().len() == 3).await;
    let first = stage.engine.bus().dead_letters()[0].id;
    damage(&folder.path().join("state/dead"), "1.50");
    assert!(stage.engine.bus().dead_letter(first).is_err(), "it is damaged");
    std::fs::write(&path, file).unwrap();
    stage.engine.reload().await;
    let request =
        ReplayRequest { source: ReplaySource::DeadLetters, all: true, ..ReplayRequest::default() };
    let id = stage.engine.replay(request).await.unwrap().id;
    let status = || stage.engine.replay_status(&id).unwrap();
    until("it has ended", || status().has_ended() && status().pending == 0).await;
    let ReplayStatus { state, problem, looked_at, unreadable, outcomes, .. } = status();
    assert_eq!((&*state, problem, looked_at, unreadable), ("done", None, 3, 1));
    assert_eq!(outcomes, delivered(2));
    assert_eq!(stage.engine.bus().dead_letters().len(), 1);
    assert_eq!(stage.engine.shutdown().await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_replay_ends_at_its_limit_or_when_it_is_cancelled_and_says_so() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let stage = Stage::with(&[("a.toml", &connector("a", &sink, ""))]).await;
    stage.send_all("/a", (0..9).map(order)).await;
    stage.settled().await;
    let capped = ReplayRequest { limit: 4, ..of("a") };
    assert!(dry(&stage, capped.clone(), None).await.beyond_limit);
    let status = done(&stage, capped).await;
    assert_eq!((status.state.as_str(), status.replayed), ("done", 4));
    assert!(
        status.problem.unwrap().starts_with("ended at its limit of 4 events, at 2026-11-22T10:")
    );
    assert_eq!(sink.seen().len(), 13);

    let slow = ReplayRequest { rate: "1/m".to_owned(), ..of("a") };
    let id = stage.engine.replay(slow.clone()).await.unwrap().id;
    stage.until("one is sent", |engine| engine.replay_status(&id).unwrap().replayed == 1).await;
    let cancelled = stage.engine.cancel_replay(&id).await.unwrap();
    assert_eq!(cancelled.state, "cancelled");
    assert!(cancelled.ended_at.is_some());
    let all: Vec<String> = stage.engine.replays().into_iter().map(|it| it.state).collect();
    assert_eq!(all, ["cancelled", "done"], "the newest first");
    // So many at once and no more.
    for _ in 0..4 {
        stage.engine.replay(slow.clone()).await.unwrap();
    }
    assert!(matches!(stage.engine.replay(slow).await, Err(ReplayError::Conflict(_))));
}

#[tokio::test(start_paused = true)]
async fn letters_are_replayed_as_one_and_those_that_die_anew_stay() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let both = [("a.toml", &*connector("a", &sink, MAP)), ("b.toml", &*connector("b", &sink, MAP))];
    let stage = Stage::with(&both).await;
    let bad = |id: u32, total: &str| json!({"id": id.to_string(), "total": total});
    stage.send_all("/a", [bad(1, "a lot"), order(2), bad(3, "much"), bad(4, "enough")]).await;
    stage.send_all("/b", [bad(5, "too much")]).await;
    stage.settled().await;
    let letters = |stage: &Stage| {
        let mut all: Vec<String> = stage
            .engine
            .bus()
            .dead_letters()
            .into_iter()
            .map(|it| stage.engine.bus().dead_letter(it.id).unwrap().unwrap().event.key.clone())
            .collect();
        all.sort();
        all
    };
    assert_eq!(letters(&stage), ["1", "3", "4", "5"]);
    // What dies from now on is not part of it.
    tokio::time::sleep(Duration::from_secs(1)).await;
    // The map is mended for two of them.
    let mended = MAP.replace(
        "$.total | decimal",
        "{{ record.total | replace('a lot', '7') | replace('much', '8') | decimal }}",
    );
    stage.write("a.toml", &connector("a", &sink, &mended));
    std::fs::remove_file(stage.folder.path().join("b.toml")).unwrap();
    assert_eq!(stage.engine.reload().await.failed, [""; 0]);
    let request = ReplayRequest {
        source: ReplaySource::DeadLetters,
        reason: Some("map_failed".to_owned()),
        ..ReplayRequest::default()
    };
    let report = dry(&stage, request.clone(), None).await;
    assert_eq!((report.matched, report.without_plan), (4, 1));
    let lane = &report.lanes[0];
    assert_eq!((lane.events, lane.undelivered, lane.map_failed), (3, 2, 1));
    let status = done(&stage, request).await;
    assert_eq!((status.matched, status.replayed, status.without_plan), (4, 3, 1));
    assert_eq!(status.outcomes, ReplayOutcomes { delivered: 2, superseded: 0, dead: 1 });
    // One died anew, the other has nowhere to go.
    assert_eq!(letters(&stage), ["4", "5"]);
    assert_eq!(sink.seen().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_promise_is_measured_and_a_replay_does_not_count() {
    let fails = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let failing = Arc::clone(&fails);
    let sink = MockServer::start(move |_| {
        let is_down = failing.load(std::sync::atomic::Ordering::SeqCst);
        Reply::status(if is_down { 422 } else { 200 })
    })
    .await;
    let promise = "\n[slo]\nsuccess = \"90%\"\nlatency = \"p50 < 1s\"\n";
    let stage = Stage::with(&[("a.toml", &connector("a", &sink, promise))]).await;
    stage.send_all("/a", (0..8).map(order)).await;
    stage.settled().await;
    let kept = || stage.connector("a").slo;
    assert_eq!(kept().iter().map(|kept| (kept.events, kept.bad)).collect::<Vec<_>>(), [(8, 0); 2]);
    tokio::time::sleep(Duration::from_mins(1)).await;
    done(&stage, of("a")).await;
    assert_eq!(kept()[0].events, 8, "a replay is not what was promised");
    let gauge = |name: &str| {
        let name = format!("tenon_slo_{name}{{connector=\"a\",objective=\"success\"");
        stage.metric(&format!("{name},severity=\"page\"}}"))
    };
    assert_eq!(gauge("alert"), 0);

    fails.store(true, std::sync::atomic::Ordering::SeqCst);
    stage.send_all("/a", (10..20).map(order)).await;
    stage.settled().await;
    let burning = kept();
    assert_eq!((burning[0].events, burning[0].bad), (18, 10));
    assert!(burning[0].budget_left < 0.0, "{burning:?}");
    // At 90 % nothing burns 14 times too fast; six times it does not quite.
    assert!(!burning[0].pages() && burning[0].burns[2].is_on, "{burning:?}");
    assert_eq!(burning[1].bad, 10, "what is dead is not in time");
    let text = stage.engine.metrics_text();
    let ticket = "tenon_slo_alert{connector=\"a\",objective=\"success\",severity=\"ticket\"} 1";
    assert!(text.contains(ticket), "{text}");
}

async fn embedded(folder: &std::path::Path) -> Arc<Engine> {
    let settings = Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        watch: false,
        state: folder.join("state"),
        shutdown: Duration::from_secs(10),
        ..Settings::default()
    };
    let world = World {
        clock: Arc::new(SystemClock),
        entropy: Arc::new(ScriptedEntropy::seeded(7)),
        secrets: Arc::new(StaticSecrets::new([("KEY", "s3cret")])),
    };
    let paths = vec![folder.join("connectors")];
    Engine::start(EngineOptions { paths, settings, world }).await.expect("it starts")
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not so within twenty seconds: {what}");
}

#[test]
fn a_daemon_that_is_killed_goes_on_and_repeats_nothing() {
    const EVENTS: u64 = 30;
    let promise = "\n[slo]\nsuccess = \"99%\"\n";
    let mut daemon = Daemon::start(&format!("{SHOP}{promise}"));
    let ids: Vec<String> =
        (0..EVENTS).map(|id| daemon.post(&json!({"id": id, "total": "1"}))).collect();
    daemon.until("GET /api/v1/status", |status| status["unsettled"] == 0);
    let ran = daemon.tenon("replay --from -1h --rate 10/s --detach --json");
    let begun: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let path = format!("GET /api/v1/replays/{}", begun["id"].as_str().expect("an id"));
    for so_far in [3, 12] {
        daemon.until(&path, |replay| replay["replayed"].as_u64() >= Some(so_far));
        daemon.crash();
    }
    let done = daemon.until(&path, |replay| replay["state"] == "done" && replay["pending"] == 0);
    assert_eq!(done["looked_at"], json!(EVENTS), "each was looked at once");
    assert_eq!((&done["replayed"], &done["deliveries"]), (&json!(EVENTS), &json!(EVENTS)));
    assert_eq!(done["outcomes"], json!({"delivered": EVENTS, "superseded": 0, "dead": 0}));
    for id in ids {
        let (_, trace) = daemon.api(&format!("GET /api/v1/events/{id}"), "");
        assert_eq!(
            trace["runs"].as_array().map(Vec::len),
            Some(2),
            "appended again, once: {trace}"
        );
    }
}

#[test]
fn what_differs_is_shown_against_a_revision() {
    let daemon = Daemon::start(SHOP);
    daemon.post(&json!({"id": 1, "total": "1.50", "customer": {"email": "a@b.example"}}));
    daemon.post(&json!({"id": 2, "total": "2.50"}));
    daemon.until("GET /api/v1/status", |status| status["unsettled"] == 0);
    let folder = daemon.folder.path();
    let git = |line: &str| {
        let mut command = std::process::Command::new("git");
        command.current_dir(folder).args(["-c", "user.name=t", "-c", "user.email=t@t.example"]);
        assert!(
            command.args(line.split(' ')).output().expect("git runs").status.success(),
            "{line}"
        );
    };
    for line in ["init -q", "add connectors tenon.toml", "commit -q -m first"] {
        git(line);
    }
    daemon.connector(&SHOP.replace("id = \"$.id\"", "id = \"shop-{{ record.id }}\""));
    assert_eq!(daemon.tenon("reload --wait").code, 0);
    let mut command = program::tenon(folder);
    command.env("TENON_ADMIN", daemon.address());
    let line = "replay --from -1h --connector shop --dry-run --against HEAD";
    let ran = program::ran(command.args(line.split(' ')));
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let said = [
        "2 events would be replayed\n",
        "shop/orders  out               2        2\n",
        "HEAD gives what was delivered for 2 of 2 delivered events\n",
        "  shop/orders  id  in 2 events\n    1 → \"shop-1\" in evt_",
    ];
    for part in said {
        assert!(ran.stdout.contains(part), "{part} is missing from\n{}", ran.stdout);
    }
    for (against, why) in
        [("nowhere", "is no file here, and no revision"), ("tenon.toml", "has no connector `shop`")]
    {
        let mut command = program::tenon(folder);
        command.env("TENON_ADMIN", daemon.address());
        let line = format!("replay --from -1h --connector shop --dry-run --against {against}");
        let ran = program::ran(command.args(line.split(' ')));
        assert!(ran.code == 2 && ran.stderr.contains(why), "{}", ran.stderr);
    }
    assert_eq!(daemon.delivered().lines().count(), 2);
}

#[test]
fn nothing_is_replayed_by_accident() {
    let daemon = Daemon::start(SHOP);
    let (status, answer) = daemon.api("POST /api/v1/replays", "{}");
    assert_eq!(status, 400, "{answer}");
    let (status, _) = daemon.api("POST /api/v1/replays", r#"{"conector": "shop"}"#);
    assert_eq!(status, 400);
    let ran = daemon.tenon("dlq replay");
    assert!(ran.code == 2 && ran.stderr.contains("or give --all"), "{}", ran.stderr);
    assert_eq!(daemon.tenon("dlq replay --all --yes").code, 0);
    let (_, list) = daemon.api("GET /api/v1/replays", "");
    assert_eq!(list["replays"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_restart_goes_on_and_the_month_is_not_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("connectors")).unwrap();
    let out = folder.path().join("out.jsonl");
    let file = SHOP.replace("OUT", out.to_str().unwrap()) + "\n[slo]\nsuccess = \"99%\"\n";
    std::fs::write(folder.path().join("connectors/shop.toml"), file).unwrap();
    let first = embedded(folder.path()).await;
    let stage = crate::engine::Stage { folder: tempfile::tempdir().unwrap(), engine: first };
    stage.send_all("/shop/orders", (0..12).map(order)).await;
    until("all are delivered", || stage.engine.status().unsettled == 0).await;
    // What comes in in the millisecond in which a replay begins is not part of it.
    let settled = stage.engine.now();
    until("the clock is past it", || stage.engine.now() > settled).await;
    let slow = ReplayRequest { rate: "4/s".to_owned(), ..of("shop") };
    let id = stage.engine.replay(slow).await.unwrap().id;
    until("a third of it", || stage.engine.replay_status(&id).unwrap().replayed >= 4).await;
    assert_eq!(stage.engine.shutdown().await, [""; 0]);
    drop(stage);

    let second = embedded(folder.path()).await;
    let status = || second.replay_status(&id).unwrap();
    until("it is done", || status().state == "done" && status().pending == 0).await;
    assert_eq!((status().replayed, status().outcomes), (12, delivered(12)));
    let shop = second.status().connectors.remove(0);
    assert_eq!((shop.slo[0].events, shop.slo[0].bad), (12, 0));
    second.shutdown().await;
    let lines = std::fs::read_to_string(out).unwrap();
    assert_eq!(lines.lines().count(), 24);
}

#[tokio::test(start_paused = true)]
async fn one_whose_end_nobody_could_store_is_not_stuck() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let stage = Stage::with(&[("a.toml", &connector("a", &sink, ""))]).await;
    stage.send_all("/a", (0..3).map(order)).await;
    stage.settled().await;
    let lost = |number: u32| {
        let id = format!("rp_00000000000{number}");
        let request = ReplayRequest { to: stage.engine.now(), ..of("a") };
        let state = "running".to_owned();
        (id.clone(), ReplayStatus { id, request, state, ..ReplayStatus::default() })
    };
    for (id, status) in [lost(1), lost(2)] {
        let stored = serde_json::to_vec(&status).unwrap();
        stage.engine.bus().put_state(&format!("replays/{id}"), Some(stored)).await.unwrap();
    }
    let (one, other) = (lost(1).0, lost(2).0);
    assert_eq!(stage.engine.cancel_replay(&other).await.unwrap().state, "cancelled");
    assert_eq!(stage.engine.pause_replay(&one).await.unwrap().state, "paused");
    stage.engine.resume_replay(&one).await.unwrap();
    let state = |engine: &Engine| engine.replay_status(&one).unwrap().state;
    stage.until("it is done", |engine| state(engine) == "done").await;
    stage.settled().await;
    assert_eq!(sink.seen().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_delivers_is_not_sent_on_its_way() {
    let sink = MockServer::start(|_| Reply::status(200)).await;
    let (a, b) = (connector("a", &sink, MAP), connector("b", &sink, MAP));
    let stage = Stage::with(&[("a.toml", &a), ("b.toml", &b)]).await;
    stage.send_all("/a", [json!({"id": "1", "total": "a lot"}), order(2)]).await;
    stage.settled().await;
    let letter = stage.engine.bus().dead_letters()[0].id;
    // From now on it lives the events of another one.
    let variant = a.replacen("\n[", "\n[rollout]\nmode = \"shadow\"\nof = \"b\"\n\n[", 1);
    stage.write("a.toml", &variant);
    assert_eq!(stage.engine.reload().await.changed, ["a"]);
    let status = done(&stage, of("a")).await;
    assert_eq!((status.matched, status.replayed, status.without_plan), (2, 0, 2));
    let told = stage.engine.replay_dead(letter).await.unwrap_err();
    assert!(told.starts_with("nothing delivers to a"), "{told}");
    std::fs::remove_file(stage.folder.path().join("a.toml")).unwrap();
    stage.engine.reload().await;
    stage.engine.replay_dead(letter).await.unwrap_err();
    assert_eq!(stage.engine.bus().dead_letters().len(), 1);
    assert_eq!(stage.engine.status().unsettled, 0);
}
