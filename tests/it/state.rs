//! What polls remember, in a person's hands: shown, rewound, carried over to another daemon.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tenon::{
    bus::{Bus as _, MemoryBus, write_state},
    engine::{Engine, EngineOptions},
    ingest::poll::state::{self, Rewind, RewindTo},
    plan::Settings,
    world::{ScriptedEntropy, StaticSecrets, SystemClock, World},
};

use crate::{
    engine::Stage,
    support::{
        MockServer, Reply, Seen,
        walk::{Walk, text},
    },
};

/// Orders at each of these seconds from `since` on.
fn api(seen: &Seen) -> Reply {
    let since = seen.param("since").map_or(0, |since| since.parse::<i64>().unwrap());
    let orders: Vec<Value> =
        (1..=9).filter(|at| *at >= since).map(|at| json!({ "id": at, "at": at })).collect();
    Reply::json(orders)
}

const ORDERS: &str = "[stream.orders]\nkey = \"$.id\"\n[stream.orders.poll]\npath = \"/orders\"\n\
    [stream.orders.poll.cursor]\nfield = \"$.at\"\nformat = \"epoch_s\"\nstart_param = \"since\"\n";

fn rewind(to: &str) -> Rewind {
    Rewind {
        connector: "shop".to_owned(),
        stream: "orders".to_owned(),
        partition: None,
        to: RewindTo::Value(to.to_owned()),
        forward: false,
    }
}

#[tokio::test(start_paused = true)]
async fn a_cursor_is_shown_and_set_back() {
    let server = MockServer::start(api).await;
    let walk = Walk::new(&server, ORDERS);
    let refused = state::rewind(&*walk.bus, &rewind("1970-01-01")).unwrap_err();
    assert_eq!(refused, "`shop/orders` has no cursor yet: it begins at its start");
    walk.fine().await;
    let shown = state::states(&*walk.bus, None, None);
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].cursor.as_deref(), Some("1970-01-01T00:00:09Z"));
    assert!(state::states(&*walk.bus, Some("shop"), Some("refunds")).is_empty());

    let (writes, rewound) = state::rewind(&*walk.bus, &rewind("1970-01-01T00:00:04Z")).unwrap();
    assert_eq!((rewound.moved, rewound.now.as_deref()), (1, Some("1970-01-01T00:00:04Z")));
    write_state(&*walk.bus, writes).await.unwrap();
    let report = walk.fine().await;
    // Six records again, all of them known.
    assert_eq!((report.items, report.accepted, report.duplicates), (6, 0, 6));
    assert_eq!(server.seen().last().unwrap().param("since").as_deref(), Some("4"));

    for (wanted, refused) in [
        (rewind("1970-01-01T00:01:00Z"), "what lies between would not be read (--forward does so)"),
        (rewind("soon"), "expected a time: RFC 3339 or a date"),
    ] {
        let problem = state::rewind(&*walk.bus, &wanted).unwrap_err();
        assert!(problem.contains(refused), "{problem}");
    }
    let forward = Rewind { forward: true, ..rewind("1970-01-01T00:01:00Z") };
    assert_eq!(state::rewind(&*walk.bus, &forward).unwrap().1.moved, 1);

    let start = Rewind { to: RewindTo::Start, ..rewind("") };
    let (writes, rewound) = state::rewind(&*walk.bus, &start).unwrap();
    assert_eq!((rewound.moved, rewound.now), (1, None));
    write_state(&*walk.bus, writes).await.unwrap();
    assert_eq!(walk.fine().await.items, 9);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_leaves_a_held_poll_held() {
    let server = MockServer::start(|_| Reply::status(403)).await;
    let head = format!("name = \"shop\"\n[source]\nbase = \"{}\"\n", server.url(""));
    let tail = "[schedule]\nevery = \"5m\"\n[destination.out]\ntype = \"stdout\"\n";
    let stage = Stage::with(&[("shop.toml", &format!("{head}{ORDERS}{tail}"))]).await;
    let is_held = |engine: &Engine| engine.status().connectors[0].state == "held";
    stage.until("held", is_held).await;
    let refused = stage.engine.rewind(&rewind("1970-01-01")).await.unwrap_err();
    assert!(refused.contains("has no cursor yet"), "{refused}");
    let export = state::StateExport { tenon_state: 0, ..stored(&stage) };
    stage.engine.import_state(&export, false).await.unwrap_err();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(is_held(&stage.engine), "{:#?}", stage.engine.status());
    assert_eq!(server.seen().len(), 1);
}

fn stored(stage: &Stage) -> state::StateExport {
    state::export(&**stage.engine.bus(), "shop", None).unwrap()
}

#[tokio::test(start_paused = true)]
async fn of_partitions_those_ahead_are_set_back_and_the_others_left_alone() {
    let server = MockServer::start(api).await;
    let walk = Walk::new(&server, ORDERS);
    for (partition, at) in [("eu", "2026-01-01T00:00:00Z"), ("us/west", "2026-03-01T00:00:00Z")] {
        let stored = json!({ "v": 1, "cursor": { "instant": at } }).to_string();
        let key = format!("cursor/shop/orders/{partition}");
        walk.bus.put_state(&key, Some(stored.into_bytes())).await.unwrap();
    }
    walk.bus.put_state("fanout/shop/orders", Some(b"{\"v\":1}".to_vec())).await.unwrap();
    let shown = &state::states(&*walk.bus, None, None)[0];
    assert_eq!((shown.partitions, shown.cursor.as_deref()), (2, None));
    let furthest = ("eu".to_owned(), "2026-01-01T00:00:00Z".to_owned());
    assert_eq!(shown.furthest_back, Some(furthest));

    let (writes, rewound) = state::rewind(&*walk.bus, &rewind("2026-02-01")).unwrap();
    assert_eq!((rewound.moved, rewound.left), (1, 1));
    write_state(&*walk.bus, writes).await.unwrap();
    let stands = |partition: &str| {
        let stored = walk.bus.state(&format!("cursor/shop/orders/{partition}")).unwrap();
        String::from_utf8(stored).unwrap()
    };
    assert!(stands("us/west").contains("2026-02-01"), "{}", stands("us/west"));
    assert!(stands("eu").contains("2026-01-01"), "{}", stands("eu"));
    // A run that was under way would skip what it has read.
    assert_eq!(walk.bus.state("fanout/shop/orders"), None);

    let one = Rewind { partition: Some("eu".to_owned()), ..rewind("2026-02-01") };
    assert!(state::rewind(&*walk.bus, &one).unwrap_err().contains("--forward"));
    let none = Rewind { partition: Some("mars".to_owned()), ..rewind("2026-02-01") };
    let problem = state::rewind(&*walk.bus, &none).unwrap_err();
    assert!(problem.contains("partition `mars` of `shop/orders` has no cursor"), "{problem}");
}

#[tokio::test(start_paused = true)]
async fn an_export_goes_on_elsewhere_and_replaces_nothing_by_accident() {
    let server = MockServer::start(api).await;
    let walk = Walk::new(&server, ORDERS);
    assert!(state::export(&*walk.bus, "shop", None).is_err());
    walk.fine().await;
    walk.bus.put_state("token/shop/api", Some(b"\"s3cret\"".to_vec())).await.unwrap();
    let export = state::export(&*walk.bus, "shop", Some("orders")).unwrap();
    let text = serde_json::to_string(&export).unwrap();
    assert!(text.contains("cursor/orders") && !text.contains("s3cret"), "{text}");

    let other = Walk::new(&server, ORDERS);
    write_state(&*other.bus, state::import(&*other.bus, &export, false).unwrap()).await.unwrap();
    assert_eq!(other.cursor(), walk.cursor());
    let report = other.fine().await;
    assert_eq!((report.items, report.accepted), (1, 0), "the boundary is known, too");
    // What is the same is no conflict, what differs is one.
    assert_eq!(state::import(&*other.bus, &export, false).unwrap(), []);
    let (writes, _) = state::rewind(&*other.bus, &rewind("1970-01-01")).unwrap();
    write_state(&*other.bus, writes).await.unwrap();
    let problem = state::import(&*other.bus, &export, false).unwrap_err();
    assert_eq!(problem, "1 of 1 entries would replace what is there: --replace does so");
    assert_eq!(state::import(&*other.bus, &export, true).unwrap().len(), 1);

    let clock = Arc::new(SystemClock);
    let bus = MemoryBus::new(clock);
    for (key, value, problem) in [
        ("token/orders", json!(1), "is no key of an export"),
        ("cursor/orders", json!({ "v": 9 }), "holds no cursor that this Tenon can read"),
    ] {
        let mut broken = export.clone();
        broken.entries.insert(key.to_owned(), value);
        let refused = state::import(&*bus, &broken, false).unwrap_err();
        assert!(refused.contains(problem), "{refused}");
    }
}

#[tokio::test]
async fn a_run_in_hand_is_interrupted_and_does_not_write_over_it() {
    let server = MockServer::start(|seen| {
        if seen.param("page").as_deref() == Some("2") { Reply::hang() } else { api(seen) }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let tables = ORDERS.replace(
        "path = \"/orders\"\n",
        "path = \"/orders\"\npage = { by = \"page\", param = \"page\" }\n",
    ) + "sorted = \"asc\"\n";
    std::fs::write(folder.path().join("shop.toml"), text(&server, &tables)).unwrap();
    let mut settings =
        Settings { listen: "127.0.0.1:0".parse().unwrap(), watch: false, ..Settings::default() };
    settings.bus.kind = tenon::plan::BusKind::Memory;
    settings.egress.allow = vec!["127.0.0.0/8".parse().unwrap()];
    settings.shutdown = Duration::from_secs(5);
    let world = World {
        clock: Arc::new(SystemClock),
        entropy: Arc::new(ScriptedEntropy::seeded(7)),
        secrets: Arc::new(StaticSecrets::new([("KEY", "s3cret")])),
    };
    let paths = vec![folder.path().to_owned()];
    let engine = Engine::start(EngineOptions { paths, settings, world }).await.unwrap();
    let cursor = || engine.poll_states(Some("shop"), None).first().and_then(|s| s.cursor.clone());
    for _ in 0..500 {
        if cursor().is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(cursor().as_deref(), Some("1970-01-01T00:00:09Z"));
    let wanted = rewind("1970-01-01T00:00:02Z");
    let rewound = tokio::time::timeout(Duration::from_secs(5), engine.rewind(&wanted));
    assert_eq!(rewound.await.expect("it does not wait for the run").unwrap().moved, 1);
    assert_eq!(cursor().as_deref(), Some("1970-01-01T00:00:02Z"));
    engine.shutdown().await;
}
