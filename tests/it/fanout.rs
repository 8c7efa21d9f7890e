//! Fan-out: connectors as they are written, against a scripted API, on the memory bus and a paused
//! clock.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use serde_json::json;
use tenon::{
    auth::Authenticator,
    bus::{Bus, MemoryBus},
    diagnostic::{SourceFile, render_human},
    egress::{Egress, EgressConfig},
    event::Event,
    ingest::poll::{PollFailure, PollReport, Poller, Source, cursor_text, partition_key},
    plan::{CompiledFile, ConnectorPlan, Sources, compile_file},
    world::{ScriptedClock, ScriptedEntropy, StaticSecrets, Timestamp, World},
};

use crate::support::{MockServer, Reply, Seen};

/// 2026-11-22T10:00:00Z: when every test begins.
const BEGIN: Timestamp = Timestamp(1_795_341_600_000);

struct OneFile(Arc<SourceFile>);

impl Sources for OneFile {
    fn read(&self, path: &Path) -> Option<Arc<SourceFile>> {
        (path == self.0.path).then(|| Arc::clone(&self.0))
    }
}

/// A connector whose streams are `streams`.
fn compile(base: &str, streams: &str) -> CompiledFile {
    let text = format!(
        "name = \"tracker\"\n[source]\nbase = \"{base}\"\n[schedule]\nevery = \"5m\"\n\
         [lints]\nmissing_owner = \"allow\"\nmissing_runbook = \"allow\"\nshort_dedupe = \"allow\"\n\
         [destination.log]\ntype = \"stdout\"\n{streams}"
    );
    let file = SourceFile { path: "tracker.toml".into(), text };
    compile_file(Path::new(""), Path::new("tracker.toml"), &OneFile(Arc::new(file)))
}

/// What is said of a connector, without the part that is the same for all.
fn said(streams: &str) -> String {
    render_human(&compile("https://api.example", streams).diagnostics, false)
}

struct Rig {
    plan: Arc<ConnectorPlan>,
    world: World,
    bus: Arc<MemoryBus>,
}

impl Rig {
    fn new(server: &MockServer, streams: &str) -> Self {
        let clock = Arc::new(ScriptedClock::starting_at(BEGIN));
        let bus = MemoryBus::new(clock.clone());
        let world = World {
            clock,
            entropy: Arc::new(ScriptedEntropy::seeded(7)),
            secrets: Arc::new(StaticSecrets::new([("KEY", "s3cret")])),
        };
        let mut rig = Self { plan: Arc::new(plan(server, streams)), world, bus };
        rig.change(server, streams);
        rig
    }

    /// The same with another connector.
    fn change(&mut self, server: &MockServer, streams: &str) {
        self.plan = Arc::new(plan(server, streams));
    }

    fn poller(&self, stream: &str) -> Poller {
        let allow = vec!["127.0.0.0/8".parse().unwrap()];
        let egress = Egress::new(EgressConfig { allow, idle_per_host: 4 });
        let auth = Authenticator::new(self.world.clone(), egress.clone(), self.bus.clone());
        let found = self.plan.streams.iter().find(|known| &*known.name == stream);
        Poller {
            stream: found.expect("the stream exists").clone(),
            connector: self.plan.clone(),
            world: self.world.clone(),
            egress,
            auth: Arc::new(auth),
            bus: self.bus.clone(),
            source: Arc::new(Source::new(&[])),
            tenants: Arc::default(),
            skew: Arc::default(),
        }
    }

    async fn run(&self, stream: &str) -> Result<PollReport, (PollReport, PollFailure)> {
        self.poller(stream).run(&|_| {}).await
    }

    async fn fine(&self, stream: &str) -> PollReport {
        self.run(stream).await.expect("the run is fine")
    }

    fn events(&self, stream: &str) -> Vec<Arc<Event>> {
        let page = self.bus.history(Timestamp(0), Timestamp(i64::MAX), None).unwrap();
        let events = page.events.into_iter().map(|(_, event)| event);
        events.filter(|event| &*event.stream == stream).collect()
    }

    /// Sorted: partitions may be read in any order.
    fn keys(&self, stream: &str) -> Vec<String> {
        let mut keys: Vec<_> = self.events(stream).iter().map(|e| e.key.clone()).collect();
        keys.sort();
        keys
    }

    fn cursor(&self, stream: &str, partition: &str) -> Option<String> {
        let stored = self.bus.state(&partition_key("tracker", stream, partition))?;
        cursor_text(&stored).expect("the cursor can be read")
    }
}

fn plan(server: &MockServer, streams: &str) -> ConnectorPlan {
    let compiled = compile(&server.url(""), streams);
    let plan =
        compiled.plan.unwrap_or_else(|| panic!("{}", render_human(&compiled.diagnostics, false)));
    Arc::unwrap_or_clone(plan)
}

fn targets(server: &MockServer) -> Vec<String> {
    server.seen().into_iter().map(|seen| seen.target).collect()
}

const PROJECTS_AND_TASKS: &str = r#"
[stream.projects]
key = "$.id"
to  = []

[stream.projects.poll]
path    = "/projects"
records = "$.items[*]"

[stream.tasks]
key  = ["{{ each.project.id }}", "$.id"]
with = { project = "{{ each.project.name }}" }

[stream.tasks.poll]
path    = "/projects/{{ each.project.id }}/tasks"
records = "$.items[*]"
each    = { project = "projects" }

[stream.tasks.poll.cursor]
field       = "$.at"
format      = "epoch_s"
start       = "2001-01-01"
start_param = "since"
"#;

/// The projects there are, and who must fail.
#[derive(Default)]
struct Api {
    projects: Mutex<Vec<u32>>,
    broken: Mutex<Vec<(u32, u16)>>,
    refuse: AtomicBool,
}

impl Api {
    fn new(projects: impl IntoIterator<Item = u32>) -> Arc<Self> {
        let api = Self::default();
        api.projects.lock().extend(projects);
        Arc::new(api)
    }

    async fn start(self: &Arc<Self>) -> MockServer {
        let api = Arc::clone(self);
        MockServer::start(move |seen| api.answer(seen)).await
    }

    fn answer(&self, seen: &Seen) -> Reply {
        if self.refuse.load(Relaxed) {
            return Reply::text(401, "no");
        }
        let parts: Vec<&str> = seen.path().split('/').filter(|part| !part.is_empty()).collect();
        match parts.as_slice() {
            ["projects"] => {
                let projects = self.projects.lock();
                let item = |id: &u32| json!({ "id": id, "name": format!("p{id}"), "note": "long" });
                Reply::json(json!({ "items": projects.iter().map(item).collect::<Vec<_>>() }))
            }
            ["projects", id, "tasks"] => {
                let id: u32 = id.parse().unwrap();
                if let Some((_, status)) = self.broken.lock().iter().find(|(known, _)| *known == id)
                {
                    return Reply::text(*status, "broken");
                }
                let at = 1_700_000_000 + id;
                Reply::json(json!({ "items": [{ "id": 1, "at": at }, { "id": 2, "at": at + 1 }] }))
            }
            _ => Reply::status(404),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_read_for_each_record_of_another() {
    let api = Api::new([1, 2, 10]);
    let server = api.start().await;
    let rig = Rig::new(&server, PROJECTS_AND_TASKS);
    let report = rig.fine("projects").await;
    assert_eq!((report.accepted, rig.events("projects").len()), (3, 0));
    // Only what the tasks look at is remembered.
    let stored = rig.bus.state("parent/tracker/projects/10").unwrap();
    let stored: serde_json::Value = serde_json::from_slice(&stored).unwrap();
    assert_eq!(stored["record"], json!({ "id": 10, "name": "p10" }));
    let report = rig.fine("tasks").await;
    assert_eq!((report.partitions, report.failing, report.accepted), (3, 0, 6));
    assert_eq!(rig.keys("tasks"), ["1/1", "1/2", "10/1", "10/2", "2/1", "2/2"]);
    let with = rig.events("tasks")[0].with.clone().unwrap();
    assert_eq!(**with.value(), json!({ "project": "p1" }));
    assert_eq!(rig.cursor("tasks", "10").as_deref(), Some("2023-11-14T22:13:31Z"));
    // Parents are remembered, not read again; each partition goes on at its own cursor.
    let before = server.seen().len();
    assert_eq!(rig.fine("tasks").await.accepted, 0);
    let asked = &targets(&server)[before..];
    assert_eq!(
        asked,
        [
            "/projects/1/tasks?since=1700000002",
            "/projects/10/tasks?since=1700000011",
            "/projects/2/tasks?since=1700000003"
        ]
    );
    assert_eq!(rig.fine("projects").await.accepted, 0);
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_appears_later_reads_its_history_and_one_that_is_gone_keeps_its_state() {
    let api = Api::new([1, 2]);
    let server = api.start().await;
    let rig = Rig::new(&server, PROJECTS_AND_TASKS);
    rig.fine("projects").await;
    rig.fine("tasks").await;
    *api.projects.lock() = vec![2, 3];
    rig.fine("projects").await;
    let before = server.seen().len();
    rig.fine("tasks").await;
    assert_eq!(
        targets(&server)[before..],
        ["/projects/2/tasks?since=1700000003", "/projects/3/tasks?since=978307200"]
    );
    let kept = rig.cursor("tasks", "1");
    assert!(kept.is_some());
    *api.projects.lock() = vec![1];
    rig.fine("projects").await;
    let before = server.seen().len();
    rig.fine("tasks").await;
    assert_eq!(targets(&server)[before..], ["/projects/1/tasks?since=1700000002"]);
}

#[tokio::test(start_paused = true)]
async fn one_failing_partition_stops_no_other_and_keeps_its_cursor() {
    let api = Api::new([1, 2, 3]);
    let server = api.start().await;
    let rig = Rig::new(&server, PROJECTS_AND_TASKS);
    rig.fine("projects").await;
    for status in [404, 403, 500] {
        api.broken.lock().push((2, status));
        let (report, failure) = rig.run("tasks").await.unwrap_err();
        assert_eq!((report.partitions, report.failing), (3, 1), "{status}");
        let PollFailure::Failed(message) = failure else { panic!("{failure:?}") };
        let expected = "1 of 3 partitions failed; the first, `project=2`: GET ";
        assert!(message.starts_with(expected), "{message}");
        assert_eq!(rig.cursor("tasks", "2"), None);
        assert_eq!(rig.keys("tasks"), ["1/1", "1/2", "3/1", "3/2"]);
        let journey = rig.poller("tasks").journey().unwrap();
        assert_eq!((journey.partitions, journey.failing, journey.is_under_way()), (3, 1, false));
        api.broken.lock().clear();
    }
    rig.fine("tasks").await;
    assert_eq!(rig.keys("tasks").len(), 6);
}

#[tokio::test(start_paused = true)]
async fn where_everything_is_refused_the_run_ends_and_goes_on_there() {
    let api = Api::new(0..1000);
    let server = api.start().await;
    let rig = Rig::new(&server, PROJECTS_AND_TASKS);
    rig.fine("projects").await;
    api.refuse.store(true, Relaxed);
    let (report, failure) = rig.run("tasks").await.unwrap_err();
    assert!(matches!(failure, PollFailure::Held(_)), "{failure:?}");
    assert!(report.requests <= 6, "{report:?}");
    api.refuse.store(false, Relaxed);
    assert_eq!(rig.fine("tasks").await.partitions, 1000);
    assert_eq!(server.seen().len() as u64, 1 + report.requests + 1000);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_interrupted_goes_on_where_it_was() {
    let api = Api::new(0..2000);
    let server = api.start().await;
    let rig = Rig::new(&server, PROJECTS_AND_TASKS);
    rig.fine("projects").await;
    let poller = rig.poller("tasks");
    let begun = server.seen().len();
    let enough = tokio::sync::Notify::new();
    let progress = |report: &PollReport| {
        if report.partitions == 1200 {
            enough.notify_one();
        }
    };
    tokio::select! {
        biased;
        () = enough.notified() => {}
        _ = poller.run(&progress) => panic!("the run came to its end"),
    }
    assert!(poller.journey().unwrap().is_under_way());
    let before = server.seen().len() - begun;
    let report = rig.fine("tasks").await;
    let all = server.seen().len() - begun;
    assert!(all < 2000 + 600, "{before} requests before and {} after", all - before);
    assert_eq!(report.partitions, 2000);
    let mut asked: Vec<String> = targets(&server).into_iter().skip(begun).collect();
    asked.sort();
    asked.dedup_by(|a, b| a.split('?').next() == b.split('?').next());
    assert_eq!(asked.len(), 2000);
    assert!(!rig.poller("tasks").journey().unwrap().is_under_way());
}

#[tokio::test(start_paused = true)]
async fn parents_of_parents_bring_their_names_along() {
    let server = MockServer::start(|seen| match seen.path() {
        "/accounts" => Reply::json(json!([{ "id": "a" }, { "id": "b" }])),
        "/accounts/a/boards" => Reply::json(json!([{ "id": 1 }, { "id": 2 }])),
        "/accounts/b/boards" => Reply::json(json!([{ "id": 3 }])),
        path => Reply::json(json!([{ "id": path.replace('/', "-") }])),
    })
    .await;
    let rig = Rig::new(
        &server,
        r#"
[stream.accounts]
key = "$.id"
to  = []
[stream.accounts.poll]
path = "/accounts"

[stream.boards]
key = "$.id"
[stream.boards.poll]
path = "/accounts/{{ each.account.id }}/boards"
each = { account = "accounts" }

[stream.cards]
key  = "$.id"
with = { account = "{{ each.account.id }}" }
[stream.cards.poll]
path = "/accounts/{{ each.account.id }}/boards/{{ each.board.id }}/{{ each.kind }}"
each = { board = "boards", kind = ["open", "closed"] }
"#,
    );
    rig.fine("accounts").await;
    rig.fine("boards").await;
    assert_eq!(rig.fine("cards").await.partitions, 6);
    let mut expected = Vec::new();
    for (account, board) in [("a", 1), ("a", 2), ("b", 3)] {
        expected.push(format!("-accounts-{account}-boards-{board}-closed"));
        expected.push(format!("-accounts-{account}-boards-{board}-open"));
    }
    assert_eq!(rig.keys("cards"), expected);
    let with = rig.events("cards").last().unwrap().with.clone().unwrap();
    assert_eq!(**with.value(), json!({ "account": "b" }));
    assert_eq!(rig.keys("boards"), ["1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn several_in_a_request_share_a_window_and_newcomers_begin_at_the_start() {
    let ids = Arc::new(Mutex::new(vec![1, 2, 3, 4, 5]));
    let listed = Arc::clone(&ids);
    let server = MockServer::start(move |seen| {
        if seen.path() == "/products" {
            let item = |id: &i32| json!({ "id": id });
            Reply::json(listed.lock().iter().map(item).collect::<Vec<_>>())
        } else {
            let asked = seen.param("ids").unwrap();
            let item = |id: &str| json!({ "id": id, "at": 1_700_000_000 });
            Reply::json(asked.split(',').map(item).collect::<Vec<_>>())
        }
    })
    .await;
    let rig = Rig::new(
        &server,
        r#"
[stream.products]
key = "$.id"
to  = []
[stream.products.poll]
path = "/products"

[stream.prices]
key = "$.id"
[stream.prices.poll]
path  = "/prices"
query = { ids = "{{ each.product | map(attribute='id') | join(',') }}" }
[stream.prices.poll.each.product]
stream = "products"
batch  = 2
[stream.prices.poll.cursor]
field       = "$.at"
format      = "epoch_s"
start       = "2001-01-01"
start_param = "since"
"#,
    );
    rig.fine("products").await;
    assert_eq!(rig.fine("prices").await.partitions, 5);
    assert_eq!(
        targets(&server)[1..],
        [
            "/prices?ids=1%2C2&since=978307200",
            "/prices?ids=3%2C4&since=978307200",
            "/prices?ids=5&since=978307200"
        ]
    );
    ids.lock().push(6);
    rig.fine("products").await;
    let before = server.seen().len();
    rig.fine("prices").await;
    let mut asked = targets(&server)[before..].to_vec();
    asked.sort();
    assert_eq!(
        asked,
        [
            "/prices?ids=1%2C2&since=1700000000",
            "/prices?ids=3%2C4&since=1700000000",
            "/prices?ids=5&since=1700000000",
            "/prices?ids=6&since=978307200"
        ]
    );
    assert_eq!(rig.keys("prices"), ["1", "2", "3", "4", "5", "6"]);
}

#[tokio::test(start_paused = true)]
async fn over_only_collect_and_changed_choose_what_is_asked_for() {
    let revision = Arc::new(Mutex::new(1));
    let listed = Arc::clone(&revision);
    let server = MockServer::start(move |seen| match seen.path() {
        "/orders" => Reply::json(json!([
            { "id": 1, "rev": 1, "products": ["x", "y"] },
            { "id": 2, "rev": *listed.lock(), "products": ["y", "z"] },
            { "id": 3, "rev": 1 },
        ])),
        path => Reply::json(json!([{ "id": path }])),
    })
    .await;
    let rig = Rig::new(
        &server,
        r#"
[vars]
chosen = { default = ["1", "3"] }

[stream.orders]
key      = "$.id"
revision = "$.rev"
to       = []
[stream.orders.poll]
path = "/orders"

[stream.products]
key = "$.id"
[stream.products.poll]
path = "/products/{{ each.product }}"
each = { product = { stream = "orders", over = "$.products[*]" } }

[stream.chosen]
key = "$.id"
[stream.chosen.poll]
path = "/chosen/{{ each.order.id }}"
each = { order = { stream = "orders", only = "{{ vars.chosen }}" } }

[stream.all]
key = "$.id"
[stream.all.poll]
path = "/all/{{ each.order | map(attribute='id') | join('-') }}"
each = { order = { stream = "orders", collect = true } }

[stream.details]
key = "$.id"
[stream.details.poll]
path = "/details/{{ each.order.id }}"
each = { order = { stream = "orders", changed = true } }
"#,
    );
    rig.fine("orders").await;
    rig.fine("products").await;
    assert_eq!(rig.keys("products"), ["/products/x", "/products/y", "/products/z"]);
    rig.fine("chosen").await;
    assert_eq!(rig.keys("chosen"), ["/chosen/1", "/chosen/3"]);
    rig.fine("all").await;
    assert_eq!(rig.keys("all"), ["/all/1-2-3"]);
    assert_eq!(rig.fine("details").await.requests, 3);
    assert_eq!(rig.fine("details").await.requests, 0);
    *revision.lock() = 2;
    rig.fine("orders").await;
    let report = rig.fine("details").await;
    assert_eq!((report.requests, report.partitions), (1, 3));
    assert_eq!(targets(&server).last().unwrap(), "/details/2");
}

#[test]
fn what_cannot_be_a_fan_out_is_said_at_its_place() {
    let each = |each: &str| {
        said(&format!(
            "[stream.projects]\nkey = \"$.id\"\n[stream.projects.poll]\npath = \"/projects\"\n\
             [stream.tasks]\nkey = \"$.id\"\n[stream.tasks.poll]\n\
             path = \"/tasks/{{{{ each.project.id }}}}\"\n{each}\n"
        ))
    };
    insta::assert_snapshot!("fanout_unknown_stream", each("each = { project = \"project\" }"));
    insta::assert_snapshot!("fanout_unknown_name", each("each = { projects = \"projects\" }"));
    insta::assert_snapshot!("fanout_without_each", each(""));
    insta::assert_snapshot!("fanout_itself", each("each = { project = \"tasks\" }"));
    insta::assert_snapshot!(
        "fanout_contradictions",
        each(
            "each = { project = { values = [\"a\", \"a\"], over = \"$.x\", batch = 2, collect = true } }"
        )
    );
    insta::assert_snapshot!(
        "fanout_circle",
        said(
            r#"
[stream.a]
key = "$.id"
[stream.a.poll]
path = "/a/{{ each.b.id }}"
each = { b = "b" }
[stream.b]
key = "$.id"
[stream.b.poll]
path = "/b/{{ each.a.id }}"
each = { a = "a" }
"#
        )
    );
    insta::assert_snapshot!(
        "fanout_name_twice",
        said(
            r#"
[stream.a]
key = "$.id"
[stream.a.poll]
path = "/a"
[stream.b]
key = "$.id"
[stream.b.poll]
path = "/b/{{ each.x.id }}"
each = { x = "a" }
[stream.c]
key = "$.id"
[stream.c.poll]
path = "/c/{{ each.y.id }}/{{ each.x.id }}"
each = { y = "b", x = "a" }
"#
        )
    );
}

const ORDERS_IN_DETAIL: &str = r#"
[stream.orders]
key      = "$.id"
revision = "$.rev"
with     = { listed = "{{ up.short }}" }

[stream.orders.poll]
path        = "/orders"
records     = "$.orders[*]"
concurrency = 2
detail      = { path = "/orders/{{ record.id }}", record = "$.order" }
on          = [{ status = 404, then = "skip" }]
"#;

#[tokio::test(start_paused = true)]
async fn a_listed_record_gives_way_to_its_own_document_which_is_fetched_once() {
    let second = Arc::new(Mutex::new(1));
    let revision = Arc::clone(&second);
    let server = MockServer::start(move |seen| {
        let rev = |id: i64| if id == 2 { *revision.lock() } else { 1 };
        match seen.path().strip_prefix("/orders/") {
            None => {
                let item = |id| json!({ "id": id, "rev": rev(id), "short": format!("s{id}") });
                Reply::json(json!({ "orders": [item(1), item(2), item(3), item(4)] }))
            }
            Some("3") => Reply::status(404),
            Some(id) => {
                let id: i64 = id.parse().unwrap();
                Reply::json(json!({ "order": { "id": id, "rev": rev(id), "total": "1.50" } }))
            }
        }
    })
    .await;
    let rig = Rig::new(&server, ORDERS_IN_DETAIL);
    let report = rig.fine("orders").await;
    assert_eq!((report.requests, report.accepted, report.skipped), (5, 3, 1));
    let events = rig.events("orders");
    let keys: Vec<_> = events.iter().map(|event| event.key.as_str()).collect();
    assert_eq!(keys, ["1", "2", "4"]);
    assert_eq!(events[1].record.value()["total"], "1.50");
    assert_eq!(**events[1].with.clone().unwrap().value(), json!({ "listed": "s2" }));
    // What was taken in before is not asked for again; what was given up is.
    *second.lock() = 2;
    let report = rig.fine("orders").await;
    assert_eq!((report.accepted, report.duplicates, report.skipped), (1, 2, 1));
    let asked = &targets(&server)[6..];
    assert_eq!(asked.len(), 2);
    assert!(asked.contains(&"/orders/2".to_owned()) && asked.contains(&"/orders/3".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn several_details_are_joined_under_their_names() {
    let server = MockServer::start(|seen| match seen.path() {
        "/orders" => Reply::json(json!([{ "id": 1, "customer": 9 }])),
        "/orders/1/lines" => Reply::json(json!({ "lines": [{ "sku": "a" }] })),
        "/customers/9" => Reply::json(json!({ "name": "Ada" })),
        _ => Reply::status(404),
    })
    .await;
    let rig = Rig::new(
        &server,
        r#"
[stream.orders]
key  = "$.id"
with = { customer_id = "{{ record.customer }}" }
[stream.orders.poll]
path   = "/orders"
detail = [
  { name = "lines", path = "/orders/{{ record.id }}/lines" },
  { name = "customer", path = "/customers/{{ record.customer }}" },
]
"#,
    );
    assert_eq!(rig.fine("orders").await.accepted, 1);
    let event = rig.events("orders").remove(0);
    assert_eq!(**event.record.value(), json!({ "id": 1, "customer": 9 }));
    let expected = json!({
        "customer_id": 9, "lines": { "lines": [{ "sku": "a" }] }, "customer": { "name": "Ada" }
    });
    assert_eq!(**event.with.clone().unwrap().value(), expected);
}

#[test]
fn what_would_ask_for_the_same_or_never_go_on_is_said_at_its_place() {
    let poll = |keys: &str| {
        said(&format!(
            "[stream.orders]\nkey = \"$.id\"\n[stream.orders.poll]\npath = \"/orders\"\n{keys}\n"
        ))
    };
    insta::assert_snapshot!("detail_without_record", poll("detail = { path = \"/order\" }"));
    insta::assert_snapshot!(
        "lines_without_next",
        poll(
            "decode = \"jsonl\"\npage = { by = \"cursor\", next = \"$.next\", param = \"after\" }"
        )
    );
    let by_head =
        "decode = \"csv\"\npage = { by = \"next\", next = \"{{ response.headers['x-next'] }}\" }";
    assert_eq!(poll(by_head), "");
    insta::assert_snapshot!(
        "rule_that_is_always_true",
        poll("on = [{ status = 200, when = \"response.body.ok == false\", then = \"fail\" }]")
    );
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_is_not_fetched_again_stays_a_parent() {
    let server = MockServer::start(|seen| match seen.path() {
        "/orders" => Reply::json(json!([{ "id": 1, "rev": 1 }])),
        "/orders/1" => Reply::json(json!({ "id": 1, "rev": 1, "lines": 2 })),
        path => Reply::json(json!([{ "id": path }])),
    })
    .await;
    let rig = Rig::new(
        &server,
        r#"
[stream.orders]
key      = "$.id"
revision = "$.rev"
[stream.orders.poll]
path   = "/orders"
detail = { path = "/orders/{{ record.id }}" }

[stream.lines]
key = "$.id"
[stream.lines.poll]
path = "/lines/{{ each.order.id }}"
each = { order = "orders" }
"#,
    );
    assert_eq!(rig.fine("orders").await.requests, 2);
    assert_eq!(rig.fine("lines").await.partitions, 1);
    let report = rig.fine("orders").await;
    assert_eq!((report.requests, report.duplicates), (1, 1), "it is known");
    assert_eq!(rig.fine("lines").await.partitions, 1, "and still there");
}

#[tokio::test(start_paused = true)]
async fn details_are_joined_to_a_with_that_ends_in_an_object() {
    let server = MockServer::start(|seen| match seen.path() {
        "/orders" => Reply::json(json!([{ "id": 1, "to": { "city": { "zip": "1" } } }])),
        _ => Reply::json(json!({ "sku": "a" })),
    })
    .await;
    let rig = Rig::new(
        &server,
        r#"
[stream.orders]
key  = "$.id"
with = { to = "$.to" }
[stream.orders.poll]
path   = "/orders"
detail = [{ name = "line", path = "/lines/{{ record.id }}" }]
"#,
    );
    rig.fine("orders").await;
    let event = rig.events("orders").remove(0);
    let expected = json!({ "to": { "city": { "zip": "1" } }, "line": { "sku": "a" } });
    assert_eq!(**event.with.clone().unwrap().value(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_ends_at_the_budget_goes_on_there() {
    let spent = Arc::new(AtomicBool::new(true));
    let is_spent = Arc::clone(&spent);
    let server = MockServer::start(move |seen| match seen.path() {
        "/orders" => Reply::json(json!([{ "id": 1 }, { "id": 2 }, { "id": 3 }])),
        "/lines/3" if is_spent.load(Relaxed) => Reply::status(429).header("Retry-After", "900"),
        path => Reply::json(json!([{ "id": path }])),
    })
    .await;
    let rig = Rig::new(
        &server,
        r#"
[stream.orders]
key = "$.id"
[stream.orders.poll]
path = "/orders"

[stream.lines]
key = "$.id"
[stream.lines.poll]
path = "/lines/{{ each.order.id }}"
each = { order = "orders" }
"#,
    );
    rig.fine("orders").await;
    let (report, failure) = rig.run("lines").await.unwrap_err();
    assert!(matches!(failure, PollFailure::Later { .. }), "{failure:?}");
    assert_eq!((report.partitions, report.accepted), (3, 2));
    spent.store(false, Relaxed);
    let report = rig.fine("lines").await;
    assert_eq!((report.requests, report.accepted), (1, 1), "only what was not read");
}

#[tokio::test(start_paused = true)]
async fn a_parent_without_a_revision_is_no_event_and_is_read_for_all_the_same() {
    let server = MockServer::start(|seen| match seen.path() {
        "/orders" => Reply::json(json!([
            { "id": 1, "updated": "2026-01-01" }, { "id": 2, "updated": "" }, { "id": 3 },
        ])),
        path => Reply::json(json!([{ "id": path }])),
    })
    .await;
    let rig = Rig::new(
        &server,
        r#"
[stream.orders]
key      = "$.id"
revision = "$.updated"
[stream.orders.poll]
path = "/orders"

[stream.lines]
key = "$.id"
[stream.lines.poll]
path = "/lines/{{ each.order.id }}"
each = { order = "orders" }
"#,
    );
    let report = rig.fine("orders").await;
    assert_eq!((report.accepted, report.unnamed), (1, 2));
    rig.fine("lines").await;
    assert_eq!(rig.keys("lines"), ["/lines/1", "/lines/2", "/lines/3"]);
    // Nor are they parents that have to be written again.
    rig.fine("orders").await;
    assert_eq!(rig.keys("orders"), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn others_run_while_partitions_are_passed_over() {
    let server = MockServer::start(|seen| match seen.path() {
        "/orders" => Reply::json((0..5_000).map(|id| json!({ "id": id })).collect::<Vec<_>>()),
        _ => Reply::json(json!([])),
    })
    .await;
    let rig = Rig::new(
        &server,
        r#"
[stream.orders]
key = "$.id"
to  = []
[stream.orders.poll]
path = "/orders"

[stream.lines]
key = "$.id"
[stream.lines.poll]
path   = "/lines"
method = "POST"
body   = { ids = "{{ each.order | map(attribute='id') | list }}" }

[stream.lines.poll.each.order]
stream  = "orders"
batch   = 500
changed = true

[stream.none]
key = "$.id"
[stream.none.poll]
path = "/none/{{ each.order.id }}"
each = { order = { stream = "orders", only = ["nobody"] } }

[stream.nothing]
key = "$.id"
[stream.nothing.poll]
path = "/nothing/{{ each.order.id }}/{{ each.kind }}"
each = { order = "orders", kind = "{{ [] }}" }
"#,
    );
    rig.fine("orders").await;
    assert_eq!(rig.fine("lines").await.requests, 10);
    let (report, turns) = turns_after_pages(&rig.poller("lines")).await;
    assert_eq!((report.requests, report.partitions), (0, 5_000));
    assert!(turns > 15, "{turns}");
    // The same where parents stand for nothing, alone or by another name.
    for stream in ["none", "nothing"] {
        let (report, turns) = turns_after_pages(&rig.poller(stream)).await;
        assert_eq!((report.requests, report.partitions), (0, 0), "{stream}");
        assert!(turns > 8, "{stream}: {turns}");
    }
    // And while those are looked for that are no longer listed.
    let (report, turns) = turns_after_pages(&rig.poller("orders")).await;
    assert_eq!((report.requests, report.items), (1, 5_000));
    assert!(turns > 8, "{turns}");
}

/// A run, and how often it let others run after its last page.
async fn turns_after_pages(poller: &Poller) -> (PollReport, usize) {
    let (turns, at_page) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let progress = |_: &PollReport| at_page.store(turns.load(Relaxed), Relaxed);
    let mut run = std::pin::pin!(poller.run(&progress));
    let report = std::future::poll_fn(|context| {
        turns.fetch_add(1, Relaxed);
        run.as_mut().poll(context)
    });
    let report = report.await.unwrap();
    (report, turns.load(Relaxed) - at_page.load(Relaxed))
}

#[tokio::test(start_paused = true)]
async fn what_is_durable_is_counted_though_the_run_is_not_over() {
    let gate = Arc::new(tokio::sync::Notify::new());
    let held_back = Arc::clone(&gate);
    let server = MockServer::start(move |seen| {
        let page: u32 = seen.param("page").unwrap().parse().unwrap();
        let items: Vec<_> =
            (0..2).map(|n| json!({ "id": format!("{}.{page}.{n}", seen.path()) })).collect();
        let reply = Reply::json(items);
        if page == 3 { reply.gate(&held_back) } else { reply }
    })
    .await;
    let rig = Rig::new(
        &server,
        r#"
[stream.lines]
key = "$.id"
[stream.lines.poll]
path = "/lines/{{ each.shop }}"
each = { shop = ["a", "b"] }
page = { by = "page", param = "page", size = 2 }
concurrency = 2
"#,
    );
    let counted = Mutex::new(PollReport::default());
    let poller = rig.poller("lines");
    let progress = |so_far: &PollReport| *counted.lock() = so_far.clone();
    let run = poller.run(&progress);
    // It waits for the third pages, and is dropped.
    assert!(tokio::time::timeout(std::time::Duration::from_secs(9), run).await.is_err());
    let counted = counted.lock();
    assert_eq!((counted.accepted, counted.pages), (8, 4));
}

#[test]
fn a_list_that_is_used_as_one_record_is_said() {
    let grouped = |request: &str| {
        said(&format!(
            "[stream.projects]\nkey = \"$.id\"\n[stream.projects.poll]\npath = \"/projects\"\n\
             [stream.tasks]\nkey = \"$.id\"\n[stream.tasks.poll]\npath = \"/tasks\"\n\
             query = {{ ids = \"{request}\" }}\n\
             each = {{ project = {{ stream = \"projects\", batch = 50 }} }}\n"
        ))
    };
    let wrong = grouped("{{ each.project.id }}");
    assert!(wrong.contains("E0415") && wrong.contains("`each.project` is a list"), "{wrong}");
    assert!(wrong.contains("`{{ each.project.id }}` asks for one"), "{wrong}");
    let right = grouped("{{ each.project | map(attribute='id') | join(',') }}");
    assert!(!right.contains("E0415"), "{right}");
}

#[test]
fn a_name_of_with_that_a_detail_takes_is_said() {
    let with = |own: &str| {
        said(&format!(
            "[stream.orders]\nkey = \"$.id\"\nwith = {{ {own} = \"$.lines\" }}\n\
             [stream.orders.poll]\npath = \"/orders\"\n\
             detail = [{{ name = \"lines\", path = \"/orders/{{{{ record.id }}}}/lines\" }}]\n"
        ))
    };
    let wrong = with("lines");
    assert!(wrong.contains("E0416") && wrong.contains("`with.lines` is made twice"), "{wrong}");
    assert!(!with("listed").contains("E0416"));
}

#[test]
fn an_end_before_the_beginning_is_said() {
    for (format, start, until, is_wrong) in [
        ("rfc3339", "2025-01-02", "2025-01-01", true),
        ("rfc3339", "2025-01-01T00:00:00Z", "2025-01-01", false),
        ("rfc3339", "-2d", "-90d", true),
        ("rfc3339", "-90d", "-2d", false),
        // That depends on when it is asked.
        ("rfc3339", "-2d", "2025-01-01", false),
        ("integer", "10", "9", true),
        ("integer", "9", "10", false),
        ("epoch_s", "1700000000", "1600000000", true),
        ("string", "b", "a", true),
    ] {
        let said = said(&format!(
            "[stream.orders]\nkey = \"$.id\"\n[stream.orders.poll]\npath = \"/orders\"\n\
             [stream.orders.poll.cursor]\nfield = \"$.at\"\nformat = \"{format}\"\n\
             start = \"{start}\"\nuntil = \"{until}\"\nstart_param = \"since\"\n"
        ));
        let is_said = said.contains("`until` is before `start`");
        assert_eq!(is_said, is_wrong, "{format} {start} {until}: {said}");
    }
}

#[test]
fn of_a_type_only_its_own_keys_are_expected() {
    let said = said(
        "[auth.api]\ntype = \"bearer\"\ntoken = \"{{ secret.KEY }}\"\nzzz = 1\n\
         [destination.file]\ntype = \"file\"\npath = \"/tmp/x\"\nzzz = 1\n\
         [stream.orders]\nkey = \"$.id\"\nto = [\"file\"]\n\
         [stream.orders.poll]\npath = \"/orders\"\nauth = \"api\"\n",
    );
    assert!(said.contains("expected one of `type`, `token`, `identity`\n"), "{said}");
    assert!(said.contains("`rotate`") && !said.contains("`refresh_token`"), "{said}");
    assert!(!said.contains("`max_response`"), "{said}");
}

#[test]
fn a_streams_variable_that_nothing_uses_is_said() {
    let vars = |name: &str| {
        said(&format!(
            "[stream.orders]\nkey = \"$.id\"\n[stream.orders.vars]\n{name} = \"a\"\n\
             [stream.orders.poll]\npath = \"/{{{{ vars.kind }}}}\"\n[vars]\nkind = \"b\"\n"
        ))
    };
    assert!(vars("kinds").contains("variable `kinds` is never used"), "{}", vars("kinds"));
    assert!(!vars("kind").contains("W0201"), "{}", vars("kind"));
}
