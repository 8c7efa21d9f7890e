//! Jobs: connectors as they are written, against a scripted API, on the memory bus and a paused clock.

use std::{path::Path, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tenon::{
    auth::Authenticator,
    bus::{Bus, MemoryBus},
    diagnostic::{SourceFile, render_human},
    egress::{Egress, EgressConfig},
    engine::{Engine, EngineOptions},
    ingest::poll::{
        Backfill, PollFailure, PollReport, Poller, Waiting, cursor_key, cursor_text, partition_key,
        state::{self, Rewind, RewindTo},
        waiting,
    },
    plan::{BusKind, CompiledFile, ConnectorPlan, Settings, Sources, compile_file},
    world::{Clock as _, ScriptedClock, ScriptedEntropy, StaticSecrets, Timestamp, World},
};
use tokio::time::timeout;

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
    let file = SourceFile { path: "crm.toml".into(), text: text(base, streams) };
    compile_file(Path::new(""), Path::new("crm.toml"), &OneFile(Arc::new(file)))
}

fn text(base: &str, streams: &str) -> String {
    format!(
        "name = \"crm\"\n[source]\nbase = \"{base}\"\nauth = \"key\"\nheaders = {{ X-Tenant = \"acme\" }}\n\
         query = {{ version = \"3\" }}\n[auth.key]\ntype = \"bearer\"\ntoken = \"{{{{ secret.KEY }}}}\"\n\
         [schedule]\nevery = \"5m\"\n\
         [lints]\nmissing_owner = \"allow\"\nmissing_runbook = \"allow\"\nshort_dedupe = \"allow\"\n\
         [destination.log]\ntype = \"stdout\"\n{streams}"
    )
}

struct Rig {
    plan: Arc<ConnectorPlan>,
    clock: Arc<ScriptedClock>,
    world: World,
    bus: Arc<MemoryBus>,
}

impl Rig {
    fn new(server: &MockServer, streams: &str) -> Self {
        let clock = Arc::new(ScriptedClock::starting_at(BEGIN));
        let bus = MemoryBus::new(clock.clone());
        let world = World {
            clock: clock.clone(),
            entropy: Arc::new(ScriptedEntropy::seeded(7)),
            secrets: Arc::new(StaticSecrets::new([("KEY", "s3cret")])),
        };
        Self { plan: plan(server, streams), clock, world, bus }
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
            source: Arc::new(tenon::ingest::poll::Source::new(&[])),
            skew: Arc::default(),
            tenants: Arc::default(),
        }
    }

    async fn run(&self) -> Result<PollReport, (PollReport, PollFailure)> {
        self.poller("contacts").run(&|_| {}).await
    }

    async fn fine(&self) -> PollReport {
        self.run().await.expect("the run is fine")
    }

    async fn failure(&self) -> PollFailure {
        self.run().await.expect_err("the run fails").1
    }

    /// A run that a restart ends after so long.
    async fn killed_after(&self, seconds: u64) {
        let run = Box::pin(self.run());
        timeout(Duration::from_secs(seconds), run).await.expect_err("the run is still waiting");
    }

    fn keys(&self) -> Vec<String> {
        let page = self.bus.history(Timestamp(0), Timestamp(i64::MAX), None).unwrap();
        page.events.into_iter().map(|(_, event)| event.key.clone()).collect()
    }

    fn cursor(&self) -> Option<String> {
        let stored = self.bus.state(&cursor_key("crm", "contacts"))?;
        cursor_text(&stored).expect("the cursor can be read")
    }

    fn waits(&self) -> Option<Waiting> {
        waiting(&*self.bus, "crm", "contacts")
    }

    /// Since the test began.
    fn seconds(&self) -> i64 {
        (self.clock.now().0 - BEGIN.0) / 1000
    }
}

fn plan(server: &MockServer, streams: &str) -> Arc<ConnectorPlan> {
    let compiled = compile(&server.url(""), streams);
    compiled.plan.unwrap_or_else(|| panic!("{}", render_human(&compiled.diagnostics, false)))
}

fn asked(server: &MockServer) -> Vec<String> {
    server.seen().iter().map(|seen| format!("{} {}", seen.method, seen.path())).collect()
}

fn created(server: &MockServer) -> usize {
    server.seen().iter().filter(|seen| seen.method == "POST").count()
}

const CONTACTS: &str = r#"
[stream.contacts]
key      = "$.id"
revision = "$.at | timestamp"

[stream.contacts.poll]
method = "POST"
path   = "/jobs"
body   = { from = "{{ window.start }}", to = "{{ window.end }}" }
decode = "csv"
page   = { by = "cursor", next = "{{ response.headers.locator | default('') }}", param = "locator", size = 2, size_param = "max" }

[stream.contacts.poll.cursor]
field = "$.at"
start = "2026-11-01T00:00:00Z"

[stream.contacts.poll.job]
path     = "/jobs/{{ job.id }}"
done     = "{{ response.body.state == 'done' }}"
failed   = "{{ response.body.state == 'failed' }}"
download = "/jobs/{{ job.id }}/results"
"#;

/// Creates jobs by number, each of which is done at the third look; two pages.
fn api() -> impl FnMut(&Seen) -> Reply + Send + 'static {
    let (mut jobs, mut looks) = (0, 0);
    move |seen| match (seen.method.as_str(), seen.path()) {
        ("POST", "/jobs") => {
            (jobs, looks) = (jobs + 1, 0);
            Reply::json(json!({ "id": format!("j{jobs}") }))
        }
        ("GET", path) if path.ends_with("/results") => match seen.param("locator").as_deref() {
            None => Reply::text(200, "id,at\n1,2026-11-02T00:00:00Z\n2,2026-11-04T00:00:00Z\n")
                .header("locator", "p2"),
            Some("p2") => Reply::text(200, "id,at\n3,2026-11-03T00:00:00Z\n"),
            other => panic!("no page {other:?}"),
        },
        ("GET", path) if path == format!("/jobs/j{jobs}") => {
            looks += 1;
            Reply::json(json!({ "state": if looks < 3 { "running" } else { "done" } }))
        }
        _ => Reply::status(404),
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_is_created_waited_for_and_read_page_by_page() {
    let server = MockServer::start(api()).await;
    let rig = Rig::new(&server, CONTACTS);
    let report = rig.fine().await;
    let told = (report.requests, report.pages, report.accepted);
    assert_eq!((told, rig.seconds()), ((6, 2, 3), 30));
    assert_eq!(rig.keys(), ["1", "2", "3"]);
    assert_eq!(rig.cursor().as_deref(), Some("2026-11-04T00:00:00Z"));
    assert_eq!(rig.waits(), None);
    let seen = server.seen();
    let expected = [
        "/jobs?version=3",
        "/jobs/j1?version=3",
        "/jobs/j1?version=3",
        "/jobs/j1?version=3",
        "/jobs/j1/results?version=3&max=2",
        "/jobs/j1/results?version=3&max=2&locator=p2",
    ];
    assert_eq!(seen.iter().map(|seen| seen.target.as_str()).collect::<Vec<_>>(), expected);
    let window = json!({ "from": "2026-11-01T00:00:00Z", "to": "2026-11-22T10:00:00Z" });
    assert_eq!(seen[0].json(), window);
    for seen in &seen {
        assert_eq!(seen.header("authorization"), Some("Bearer s3cret"), "{}", seen.target);
        assert_eq!(seen.header("x-tenant"), Some("acme"), "{}", seen.target);
    }
    assert_eq!(
        (seen[1].header("accept"), seen[4].header("accept")),
        (Some("application/json"), Some("*/*"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_waiting_for_the_same_job() {
    let server = MockServer::start(api()).await;
    let rig = Rig::new(&server, CONTACTS);
    rig.killed_after(15).await;
    let since = rig.waits().expect("a job is waited for");
    assert_eq!((since.count, since.since), (1, BEGIN));
    rig.killed_after(3).await;
    let report = rig.fine().await;
    assert_eq!((created(&server), report.accepted, rig.waits()), (1, 3, None));
    // What changed since the job was created is for the next run.
    let next = rig.fine().await;
    assert_eq!((created(&server), next.duplicates), (2, 3));
    assert_eq!(server.seen()[6].json()["from"], "2026-11-04T00:00:00Z");
}

#[tokio::test(start_paused = true)]
async fn what_changed_since_a_job_was_created_lies_ahead_of_the_cursor() {
    let script = || {
        [
            Reply::json(json!({ "id": 1 })),
            Reply::json(json!({ "state": "running" })),
            Reply::json(json!({ "state": "done" })),
            // The peer's clock is ahead of ours.
            Reply::text(200, "id,at\n1,2026-11-22T09:00:00Z\n2,2026-11-22T10:00:05Z\n"),
        ]
    };
    for sorted in ["", "sorted = \"asc\""] {
        let server = MockServer::scripted(script()).await;
        let rig = Rig::new(&server, &CONTACTS.replace("start = ", &format!("{sorted}\nstart = ")));
        rig.killed_after(12).await;
        assert_eq!(rig.fine().await.accepted, 2);
        assert_eq!(rig.cursor().as_deref(), Some("2026-11-22T10:00:00Z"), "{sorted}");
    }
    // The same where the window is the cursor.
    let server = MockServer::scripted(script()).await;
    let streams = CONTACTS.replace("field = \"$.at\"\n", "");
    let rig = Rig::new(&server, &streams);
    rig.killed_after(12).await;
    assert_eq!(rig.fine().await.accepted, 2);
    assert_eq!(rig.cursor().as_deref(), Some("2026-11-22T10:00:00Z"));
}

#[tokio::test(start_paused = true)]
async fn files_elsewhere_have_pages_where_the_stream_says_so() {
    let storage = MockServer::start(|seen| match seen.param("p").as_deref() {
        Some("1") => Reply::json(json!([{ "id": 1 }])),
        Some("2") => Reply::json(json!([{ "id": 2 }])),
        Some(_) => Reply::json(json!([])),
        None => Reply::json(json!([{ "id": 9 }])),
    })
    .await;
    let pages = "page = { by = \"page\", param = \"p\" }";
    let job = format!("{STATE}download = \"$.url\"");
    let own = with_job(pages, &job);
    // What the source says of its lists is nothing for a file.
    let shared = format!("{}\n[source.page]\nby = \"page\"\nparam = \"p\"\n", with_job("", &job));
    for (streams, expected) in [(own, &["1", "2"][..]), (shared, &["9"])] {
        let url = storage.url("/file");
        let server = MockServer::scripted([
            Reply::json(json!({ "id": 7 })),
            Reply::json(json!({ "state": "done", "url": url })),
        ])
        .await;
        let rig = Rig::new(&server, &streams);
        rig.fine().await;
        assert_eq!(rig.keys(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_that_breaks_off_is_fetched_again_from_the_same_job() {
    let (mut script, mut results) = (api(), 0);
    let server = MockServer::start(move |seen| {
        let reply = script(seen);
        let is_result = seen.path().ends_with("/results");
        results += usize::from(is_result);
        if is_result && results == 2 { reply.cut(10) } else { reply }
    })
    .await;
    let rig = Rig::new(&server, CONTACTS);
    assert!(matches!(rig.failure().await, PollFailure::Later { .. }));
    assert_eq!((rig.cursor(), rig.waits().is_some()), (None, true));
    let report = rig.fine().await;
    assert_eq!((created(&server), report.accepted, report.duplicates), (1, 1, 2));
}

/// What comes of a job whose state is this, once and then done.
async fn of_a_state(reply: Reply) -> (Rig, MockServer, PollFailure) {
    let (mut script, mut first) = (api(), Some(reply));
    let server = MockServer::start(move |seen| {
        let is_look = seen.method == "GET" && !seen.path().ends_with("/results");
        first.take_if(|_| is_look).unwrap_or_else(|| script(seen))
    })
    .await;
    let rig = Rig::new(&server, CONTACTS);
    let failure = rig.failure().await;
    (rig, server, failure)
}

#[tokio::test(start_paused = true)]
async fn a_job_that_failed_or_is_not_known_is_created_anew() {
    let failed = Reply::json(json!({ "state": "failed", "error": "MALFORMED" }));
    for (reply, message) in [
        (failed, r#"answered 200 OK: {"state":"failed","error":"MALFORMED"}"#),
        (Reply::text(404, "no such job"), "answered 404 Not Found: no such job"),
        (Reply::text(410, ""), "answered 410 Gone"),
    ] {
        let (rig, server, failure) = of_a_state(reply).await;
        assert!(matches!(&failure, PollFailure::Failed(_)), "{failure:?}");
        assert!(failure.message().ends_with(message), "{}", failure.message());
        assert_eq!((rig.waits(), rig.cursor()), (None, None), "{message}");
        assert_eq!((rig.fine().await.accepted, created(&server)), (3, 2), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_passes_is_waited_out_with_the_same_job() {
    for (reply, held) in
        [(Reply::status(403), true), (Reply::text(429, "").header("retry-after", "900"), false)]
    {
        let (rig, server, failure) = of_a_state(reply).await;
        assert_eq!(matches!(failure, PollFailure::Held(_)), held, "{failure:?}");
        assert!(rig.waits().is_some());
        rig.clock.sleep_until(rig.clock.now().plus(Duration::from_secs(900))).await;
        assert_eq!((rig.fine().await.accepted, created(&server)), (3, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_takes_too_long_is_given_up() {
    let mut jobs = 0;
    let server = MockServer::start(move |seen| {
        jobs += usize::from(seen.method == "POST");
        Reply::json(json!({ "id": jobs, "state": "running" }))
    })
    .await;
    let rig = Rig::new(&server, CONTACTS);
    let failure = rig.failure().await;
    let message = "the job is not done within 3600 s: GET ";
    assert!(failure.message().starts_with(message), "{}", failure.message());
    assert_eq!((rig.seconds(), rig.waits(), rig.cursor()), (3600, None, None));
    // Every ten seconds at first, then less and less often.
    let looks = server.seen().len() - 1;
    assert!((40..60).contains(&looks), "{looks}");
    rig.failure().await;
    assert_eq!(created(&server), 2);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_refused_until_its_time_is_over_is_created_anew() {
    let (wait, retry) = ("then = \"wait\", for = \"10m\"", "then = \"retry\", times = 1");
    for (status, at, rule) in
        [(404, "results", wait), (410, "results", retry), (403, "results", ""), (403, "j1", "")]
    {
        let mut script = api();
        let server = MockServer::start(move |seen| {
            let is_refused = seen.path().starts_with("/jobs/j1") && seen.path().ends_with(at);
            if is_refused { Reply::text(status, "not here") } else { script(seen) }
        })
        .await;
        let rules = format!("on = [{{ status = {status}, {rule} }}]\ndecode = \"csv\"");
        let rules = if rule.is_empty() { "decode = \"csv\"" } else { rules.as_str() };
        let rig = Rig::new(&server, &CONTACTS.replace("decode = \"csv\"", rules));
        let failure = rig.failure().await;
        assert!(!matches!(failure, PollFailure::Failed(_)), "it may pass: {failure:?}");
        assert!(rig.waits().is_some());
        rig.clock.sleep_until(BEGIN.plus(Duration::from_secs(3500))).await;
        rig.failure().await;
        assert!(rig.waits().is_some() && rig.seconds() < 3600, "{status} {at}");
        rig.clock.sleep_until(BEGIN.plus(Duration::from_secs(3600))).await;
        let failure = rig.failure().await;
        let message = "the job is not read within 3600 s: GET ";
        assert!(
            matches!(&failure, PollFailure::Failed(said) if said.starts_with(message)),
            "{failure:?}"
        );
        assert_eq!((rig.waits(), rig.cursor(), created(&server)), (None, None, 1));
        assert_eq!((rig.fine().await.accepted, created(&server)), (3, 2), "{status} {at}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_api_says_when_to_look_again() {
    let server = MockServer::scripted([
        Reply::json(json!({ "id": 1 })).with_status(202).header("retry-after", "60"),
        Reply::json(json!({ "state": "running" })).header("retry-after", "200"),
        Reply::json(json!({ "state": "done" })),
        Reply::text(200, "id,at\n"),
    ])
    .await;
    let rig = Rig::new(&server, CONTACTS);
    assert_eq!((rig.fine().await.items, rig.seconds()), (0, 260));
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_waited_out_for_as_long_again() {
    let mut script = api();
    let server = MockServer::start(move |seen| {
        let is_broken = seen.path() == "/jobs/j1/results";
        if is_broken { Reply::status(500) } else { script(seen) }
    })
    .await;
    let rig = Rig::new(&server, CONTACTS);
    for seconds in [0, 3700, 7100] {
        rig.clock.sleep_until(BEGIN.plus(Duration::from_secs(seconds))).await;
        let failure = rig.failure().await;
        assert!(matches!(failure, PollFailure::Later { .. }), "{seconds}: {failure:?}");
        assert!(rig.waits().is_some(), "{seconds}");
    }
    rig.clock.sleep_until(BEGIN.plus(Duration::from_secs(7200))).await;
    let failure = rig.failure().await;
    assert!(matches!(failure, PollFailure::Failed(_)), "{failure:?}");
    assert_eq!((rig.waits(), rig.fine().await.accepted, created(&server)), (None, 3, 2));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_waited_for_leaves_its_lane_to_others() {
    let mut script = api();
    let server = MockServer::start(move |seen| match seen.param("page") {
        Some(page) => {
            let full = page.parse::<u32>().unwrap() < 8;
            let items = [json!({ "id": page.clone() }), json!({ "id": page + "b" })];
            let items = &items[..if full { 2 } else { 1 }];
            Reply::json(json!(items)).delay(Duration::from_secs(1))
        }
        None if seen.path() == "/jobs/j1" => Reply::json(json!({ "state": "running" })),
        None => script(seen),
    })
    .await;
    let lists = "[stream.lists]\nkey = \"$.id\"\n[stream.lists.poll]\npath = \"/lists\"\n\
                 page = { by = \"page\", param = \"page\", size = 2 }\nconcurrency = 2\n";
    let rig = Rig::new(&server, &format!("{CONTACTS}{lists}"));
    let job = rig.poller("contacts");
    let beside = Poller { source: Arc::clone(&job.source), ..rig.poller("lists") };
    // Alone, it is two pages at a time from the third on.
    let alone = rig.poller("lists").run(&|_| {}).await.unwrap();
    assert_eq!((alone.pages, rig.seconds()), (8, 5));
    tokio::select! {
        ended = job.run(&|_| {}) => panic!("the job is never done: {ended:?}"),
        report = async {
            server.wait_for(9).await;
            beside.run(&|_| {}).await.unwrap()
        } => assert_eq!((report.pages, rig.seconds()), (8, 10)),
    }
}

/// The stream with another end of its job.
fn with_job(keys: &str, job: &str) -> String {
    format!(
        "[stream.contacts]\nkey = \"$.id\"\n[stream.contacts.poll]\nmethod = \"POST\"\npath = \"/jobs\"\n\
         {keys}\n[stream.contacts.poll.job]\n{job}"
    )
}

const STATE: &str =
    "path = \"/jobs/{{ job.id }}\"\ndone = \"{{ response.body.state == 'done' }}\"\n";

#[tokio::test(start_paused = true)]
async fn files_elsewhere_get_no_credentials() {
    let storage = MockServer::start(|seen| match seen.path() {
        "/a" => Reply::text(200, "{\"id\":1}\n{\"id\":2}\n"),
        "/b" => Reply::text(200, "{\"id\":3}\n"),
        _ => Reply::text(403, "expired"),
    })
    .await;
    let files = [storage.url("/a?sig=x%2By"), "/own".to_owned(), storage.url("/b")];
    let mut files = json!(files.map(|url| json!({ "url": url })));
    let server = MockServer::start(move |seen| match (seen.method.as_str(), seen.path()) {
        ("POST", _) => Reply::json(json!({ "id": 7 })),
        (_, "/own") => Reply::text(200, "{\"id\":9}\n"),
        _ => {
            let expired = json!([{ "url": storage_url(&files) }]);
            let files = std::mem::replace(&mut files, expired);
            Reply::json(json!({ "state": "done", "files": files }))
        }
    })
    .await;
    let job = format!("{STATE}download = \"$.files[*].url\"");
    let rig = Rig::new(&server, &with_job("decode = \"jsonl\"", &job));
    assert_eq!(rig.fine().await.pages, 3);
    assert_eq!(rig.keys(), ["1", "2", "9", "3"]);
    for seen in storage.seen() {
        assert_eq!((seen.header("authorization"), seen.header("x-tenant")), (None, None));
    }
    assert_eq!(storage.seen()[0].target, "/a?sig=x%2By", "an address is sent as it is given");
    let own = server.seen()[2].clone();
    assert_eq!((own.target.as_str(), own.header("authorization")), ("/own", Some("Bearer s3cret")));
    // An address that is over is no refusal of our credentials.
    let failure = rig.failure().await;
    assert!(
        matches!(&failure, PollFailure::Failed(message) if message.contains("403")),
        "{failure:?}"
    );
    assert_eq!(rig.waits(), None);
}

#[tokio::test(start_paused = true)]
async fn what_files_elsewhere_say_of_budgets_and_times_is_not_the_apis() {
    let mut refusals = 3;
    let storage = MockServer::start(move |_| {
        let reply = if refusals > 0 {
            Reply::status(429).header("retry-after", "20")
        } else {
            Reply::json(json!([{ "id": 1 }])).header("x-ratelimit-remaining", "0")
        };
        refusals -= 1;
        reply.header("date", "Sun, 22 Nov 2026 09:00:00 GMT")
    })
    .await;
    let url = storage.url("/file");
    let server = MockServer::start(move |seen| match (seen.method.as_str(), seen.path()) {
        ("POST", _) => Reply::json(json!({ "id": 7 })),
        (_, "/lists") => Reply::json(json!([])),
        _ => Reply::json(json!({ "state": "done", "url": url })),
    })
    .await;
    let lists = "[stream.lists]\nkey = \"$.id\"\n[stream.lists.poll]\npath = \"/lists\"\n";
    let job = with_job("", &format!("{STATE}download = \"$.url\"\n"));
    let rig = Rig::new(&server, &format!("{job}{lists}"));
    let job = rig.poller("contacts");
    let beside = Poller { source: Arc::clone(&job.source), ..rig.poller("lists") };
    let lists = async {
        storage.wait_for(1).await;
        let at = rig.seconds();
        beside.run(&|_| {}).await.unwrap();
        rig.seconds() - at
    };
    let (read, waited) = tokio::join!(job.run(&|_| {}), lists);
    assert_eq!((read.unwrap().accepted, waited, job.skew.millis()), (1, 0, None));
    assert!(rig.seconds() >= 70, "the bucket is left alone for as long as it says");
}

/// An address beside the first of these, which nobody knows any more.
fn storage_url(files: &Value) -> String {
    let first = files[0]["url"].as_str().unwrap();
    first.split("/a").next().unwrap().to_owned() + "/expired"
}

#[tokio::test(start_paused = true)]
async fn an_address_goes_through_the_guard() {
    let server = MockServer::scripted([
        Reply::json(json!({ "id": 7 })),
        Reply::json(json!({ "state": "done", "url": "http://169.254.169.254/latest" })),
    ])
    .await;
    let rig = Rig::new(&server, &with_job("", &format!("{STATE}download = \"$.url\"")));
    let failure = rig.failure().await;
    assert!(matches!(failure, PollFailure::Held(_)), "{failure:?}");
}

#[tokio::test(start_paused = true)]
async fn no_result_is_told_from_one_that_is_not_where_the_file_says() {
    let answers = |state: Value| [Reply::json(json!({ "id": 7 })), Reply::json(state)];
    let streams = with_job("", &format!("{STATE}download = \"$.url\""));
    let server = MockServer::scripted(answers(json!({ "state": "done", "url": null }))).await;
    let rig = Rig::new(&server, &streams);
    assert_eq!((rig.fine().await.items, rig.waits()), (0, None));

    let gone = answers(json!({ "state": "done", "link": "/x" }));
    let found =
        [Reply::json(json!({ "state": "done", "url": "/x" })), Reply::json(json!([{ "id": 1 }]))];
    let server = MockServer::scripted(gone.into_iter().chain(found)).await;
    let rig = Rig::new(&server, &streams);
    let message = "job.download: `$.url` is not in the response: `$` has `state`, `link`";
    assert_eq!(rig.failure().await.message(), message);
    // Whoever mends that does not wait for the job again.
    assert_eq!((rig.fine().await.accepted, created(&server)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_answer_itself_may_be_the_result() {
    let server = MockServer::scripted([
        Reply::json(json!({ "id": 7 })),
        Reply::text(202, "not yet"),
        Reply::text(200, "{\"id\":1}\n{\"id\":2}\n"),
    ])
    .await;
    let job = "path = \"/jobs/{{ job.id }}\"\ndone = \"{{ response.status == 200 }}\"";
    let rig = Rig::new(&server, &with_job("decode = \"jsonl\"", job));
    let report = rig.fine().await;
    assert_eq!((report.accepted, report.requests), (2, 3));

    let server = MockServer::scripted([
        Reply::json(json!({ "id": 7 })),
        Reply::json(json!({ "complete": false })),
        Reply::json(json!({ "complete": true, "rows": [{ "id": 1 }], "next": "b" })),
        Reply::json(json!({ "complete": true, "rows": [{ "id": 2 }] })),
    ])
    .await;
    let job = "path = \"/jobs/{{ job.id }}\"\ndone = \"{{ response.body.complete }}\"";
    let keys = "records = \"$.rows[*]\"\npage = { by = \"cursor\", next = \"$.next | optional\", param = \"token\" }";
    let rig = Rig::new(&server, &with_job(keys, job));
    assert_eq!((rig.fine().await.accepted, rig.keys()), (2, vec!["1".to_owned(), "2".to_owned()]));
    let targets: Vec<String> = server.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets[2..], ["/jobs/7?version=3", "/jobs/7?version=3&token=b"]);
}

#[tokio::test(start_paused = true)]
async fn a_status_is_asked_for_with_a_body_and_an_address_is_looked_up() {
    let server = MockServer::scripted([
        Reply::json(json!({ "data": { "run": { "id": "gid/1" } } })),
        Reply::json(json!({ "data": { "node": { "state": "done", "document": "d1" } } })),
        Reply::json(json!({ "url": "/files/1" })),
        Reply::json(json!([{ "id": 1 }])),
    ])
    .await;
    let job = r#"
take   = "$.data.run"
method = "POST"
path   = "/graphql"
body   = { query = "{ node(id: \"{{ job.id }}\") { state document } }" }
done   = "{{ response.body.data.node.state == 'done' }}"

[stream.contacts.poll.job.download]
path = "/documents/{{ response.body.data.node.document }}"
url  = "$.url"
"#;
    let rig = Rig::new(&server, &with_job("", job));
    assert_eq!(rig.fine().await.accepted, 1);
    let expected = ["POST /jobs", "POST /graphql", "GET /documents/d1", "GET /files/1"];
    assert_eq!(asked(&server), expected);
    let query = json!({ "query": "{ node(id: \"gid/1\") { state document } }" });
    assert_eq!(server.seen()[1].json(), query);
}

#[tokio::test(start_paused = true)]
async fn an_address_in_a_header_leads_to_the_job() {
    let server = MockServer::scripted([
        Reply::status(202).header("location", "/operations/9"),
        Reply::json(json!({ "state": "done" })),
        Reply::json(json!([{ "id": 1 }])),
    ])
    .await;
    let job = r#"
take     = "{{ response.headers.location }}"
path     = "{{ job }}"
done     = "{{ response.body.state == 'done' }}"
download = "{{ job }}/result"
"#;
    let rig = Rig::new(&server, &with_job("", job));
    assert_eq!(rig.fine().await.accepted, 1);
    assert_eq!(asked(&server), ["POST /jobs", "GET /operations/9", "GET /operations/9/result"]);
}

#[tokio::test(start_paused = true)]
async fn rules_hold_for_all_requests_of_a_job() {
    let rule = |when: &str, then: &str| format!("on = [{{ {when}, then = \"{then}\" }}]");
    let cancelled = "when = \"{{ response.body.state == 'cancelled' }}\"";
    let job = format!("{STATE}download = \"/jobs/{{{{ job.id }}}}/results\"");
    let id = || Reply::json(json!({ "id": 7 }));
    let state = |state: &str| Reply::json(json!({ "state": state }));
    // Nothing to report.
    for (then, skipped) in [("skip", 1), ("stop", 0)] {
        let server = MockServer::scripted([id(), state("cancelled")]).await;
        let rig = Rig::new(&server, &with_job(&rule(cancelled, then), &job));
        assert_eq!((rig.fine().await.skipped, rig.waits()), (skipped, None), "{then}");
    }
    let server = MockServer::scripted([Reply::status(204)]).await;
    let rig = Rig::new(&server, &with_job(&rule("status = 204", "skip"), &job));
    assert_eq!((rig.fine().await.skipped, rig.waits()), (1, None));
    let server = MockServer::scripted([id(), state("done"), Reply::status(404)]).await;
    let rig = Rig::new(&server, &with_job(&rule("status = 404", "skip"), &job));
    assert_eq!((rig.fine().await.skipped, rig.waits()), (1, None));
    // Again.
    let records = Reply::json(json!([{ "id": 1 }]));
    let server =
        MockServer::scripted([id(), state("cancelled"), id(), state("done"), records]).await;
    let rig = Rig::new(&server, &with_job(&rule(cancelled, "restart"), &job));
    assert_eq!((rig.fine().await.accepted, created(&server), rig.waits()), (1, 2, None));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_asks_for_something_else_creates_another_job() {
    let server = MockServer::start(api()).await;
    let mut rig = Rig::new(&server, CONTACTS);
    rig.killed_after(15).await;
    // How it is waited for and mapped makes no other job of it.
    rig.plan = plan(&server, &CONTACTS.replace("download", "within = \"2h\"\ndownload"));
    rig.killed_after(3).await;
    assert_eq!(created(&server), 1);
    rig.plan = plan(&server, &CONTACTS.replace("body   = {", "body   = { all = true,"));
    assert_eq!((rig.fine().await.accepted, created(&server)), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn a_cursor_that_is_set_back_leaves_the_job_behind() {
    let server = MockServer::start(api()).await;
    let rig = Rig::new(&server, CONTACTS);
    rig.fine().await;
    rig.killed_after(15).await;
    let wanted = Rewind {
        connector: "crm".to_owned(),
        stream: "contacts".to_owned(),
        partition: None,
        to: RewindTo::Value("2026-11-01".to_owned()),
        forward: false,
    };
    let (writes, rewound) = state::rewind(&*rig.bus, &wanted).unwrap();
    assert_eq!(rewound.moved, 1);
    tenon::bus::write_state(&*rig.bus, writes).await.unwrap();
    assert_eq!(rig.waits(), None);
    rig.fine().await;
    let bodies: Vec<Value> =
        server.seen().iter().filter(|s| s.method == "POST").map(Seen::json).collect();
    assert_eq!(bodies.len(), 3);
    assert_eq!(bodies[2]["from"], "2026-11-01T00:00:00Z");
}

#[tokio::test(start_paused = true)]
async fn each_window_has_a_job_of_its_own() {
    let server = MockServer::start(api()).await;
    let streams = CONTACTS.replace("start = ", "window = \"14d\"\nstart = ");
    let rig = Rig::new(&server, &streams);
    // The second job is waited for.
    rig.killed_after(45).await;
    assert_eq!((created(&server), rig.waits().is_some()), (2, true));
    assert_eq!(rig.cursor().as_deref(), Some("2026-11-14T23:59:59.999999Z"));
    rig.fine().await;
    assert_eq!((created(&server), rig.waits()), (2, None));
}

#[tokio::test(start_paused = true)]
async fn each_partition_has_a_job_of_its_own() {
    let server = MockServer::start(|seen| {
        let last = seen.path().rsplit('/').next().unwrap_or_default().to_owned();
        match (seen.method.as_str(), seen.path()) {
            ("POST", _) => Reply::json(json!({ "id": last })),
            (_, path) if path.starts_with("/results") => Reply::json(json!([{ "id": last }])),
            // The second is not done before a minute is over.
            _ if last == "b" => Reply::json(json!({ "state": "running" })),
            _ => Reply::json(json!({ "state": "done" })),
        }
    })
    .await;
    let keys = "each = { region = [\"a\", \"b\"] }\nconcurrency = 2";
    let job = format!("{STATE}download = \"/results/{{{{ job.id }}}}\"\nwithin = \"10m\"");
    let streams = with_job(keys, &job).replace("\"/jobs\"", "\"/jobs/{{ each.region }}\"");
    let rig = Rig::new(&server, &streams);
    rig.killed_after(60).await;
    assert_eq!((rig.keys(), created(&server)), (vec!["a".to_owned()], 2));
    assert_eq!(rig.waits().map(|it| (it.count, it.since)), Some((1, BEGIN)));
    let key = partition_key("crm", "contacts", "b").replacen("cursor/", "job/", 1);
    assert!(rig.bus.state(&key).is_some());
    let failure = rig.failure().await;
    assert!(failure.message().starts_with("1 of 2 partitions failed"), "{}", failure.message());
    let creates =
        server.seen().iter().filter(|s| s.method == "POST" && s.path() == "/jobs/b").count();
    assert_eq!((creates, rig.waits()), (1, None));
}

#[tokio::test(start_paused = true)]
async fn a_file_elsewhere_that_cannot_be_had_stops_no_other_partition() {
    let mut is_busy = true;
    let storage = MockServer::start(move |seen| match seen.path() {
        "/a" if std::mem::take(&mut is_busy) => Reply::status(429).header("retry-after", "900"),
        path => Reply::json(json!([{ "id": path }])),
    })
    .await;
    let url = storage.url("");
    let server = MockServer::start(move |seen| {
        let last = seen.path().rsplit('/').next().unwrap_or_default();
        let url = format!("{url}/{last}");
        Reply::json(json!({ "id": last, "state": "done", "url": url }))
    })
    .await;
    let keys = "each = { region = [\"a\", \"b\", \"c\"] }";
    let streams = with_job(keys, &format!("{STATE}download = \"$.url\""))
        .replace("\"/jobs\"", "\"/jobs/{{ each.region }}\"");
    let rig = Rig::new(&server, &streams);
    let failure = rig.failure().await;
    assert!(failure.message().starts_with("1 of 3 partitions failed"), "{}", failure.message());
    assert_eq!(
        (rig.keys(), rig.waits().map(|it| it.count)),
        (vec!["/b".into(), "/c".into()], Some(1))
    );
    // It is the same job that is gone on with.
    rig.fine().await;
    let creates =
        server.seen().iter().filter(|s| s.method == "POST" && s.path() == "/jobs/a").count();
    assert_eq!((creates, rig.keys()[2..].to_vec(), rig.waits()), (1, vec!["/a".to_owned()], None));
}

#[tokio::test(start_paused = true)]
async fn a_job_of_a_partition_that_is_gone_is_not_waited_for_for_ever() {
    let server = MockServer::start(|seen| match (seen.method.as_str(), seen.path()) {
        ("POST", path) => Reply::json(json!({ "id": path.rsplit('/').next() })),
        (_, path) if path.ends_with("/b") => Reply::json(json!({ "state": "running" })),
        (_, path) if path.starts_with("/results") => Reply::json(json!([])),
        _ => Reply::json(json!({ "state": "done" })),
    })
    .await;
    let job = format!("{STATE}download = \"/results/{{{{ job.id }}}}\"\nwithin = \"10m\"");
    let over = |each: &str, path: &str| {
        let keys = format!("{each}\nconcurrency = 2");
        with_job(&keys, &job).replace("\"/jobs\"", path)
    };
    let each = "\"/jobs/{{ each.region }}\"";
    let others = over("each = { region = [\"a\"] }", each);
    for streams in [others, over("", "\"/jobs/a\"")] {
        let mut rig = Rig::new(&server, &over("each = { region = [\"a\", \"b\"] }", each));
        rig.killed_after(60).await;
        rig.plan = plan(&server, &streams);
        rig.fine().await;
        assert_eq!(rig.waits().map(|it| it.count), Some(1), "it may come back");
        rig.clock.sleep_until(BEGIN.plus(Duration::from_secs(1300))).await;
        rig.fine().await;
        assert_eq!(rig.waits(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_backfill_has_jobs_of_its_own() {
    let server = MockServer::start(api()).await;
    let rig = Rig::new(&server, CONTACTS);
    let live = rig.poller("contacts");
    let backfill = || Backfill::new(&live, "2026-10-01", "2026-11-10", rig.clock.now()).unwrap();
    let walk = backfill();
    let run = walk.poller.run(&|_| {});
    timeout(Duration::from_secs(15), Box::pin(run)).await.expect_err("it is still waiting");
    assert_eq!((rig.waits(), rig.cursor()), (None, None), "the live poll waits for nothing");
    let walk = backfill();
    let report = walk.poller.run(&|_| {}).await.unwrap();
    assert_eq!((report.accepted, created(&server), rig.cursor()), (3, 1, None));
    let from = json!({ "from": "2026-10-01T00:00:00Z", "to": "2026-11-09T23:59:59.999999Z" });
    assert_eq!(server.seen()[0].json(), from);
    walk.aside.clear().await.unwrap();
    assert!(rig.bus.state_under("backfill/").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_sample_waits_for_a_job_and_leaves_nothing() {
    let server = MockServer::start(api()).await;
    let rig = Rig::new(&server, CONTACTS);
    let sampled = rig.poller("contacts").sample(1).await.unwrap();
    assert_eq!((sampled.len(), rig.keys().len(), rig.cursor()), (1, 0, None));
    assert_eq!(asked(&server).last().map(String::as_str), Some("GET /jobs/j1/results"));
}

#[test]
fn what_is_wrong_with_a_job_is_said_at_load() {
    let said =
        |streams: &str| render_human(&compile("https://api.example", streams).diagnostics, false);
    let job = |keys: &str, job: &str| said(&with_job(keys, job));
    let end = "download = \"$.url\"";
    let cases = [
        ("nothing_said", job("", "")),
        ("any_job", job("", "path = \"/jobs\"\ndone = \"{{ response.body.done }}\"")),
        ("always_done", job("", "path = \"/jobs/{{ job.id }}\"\ndone = \"done\"")),
        ("no_body", job("decode = \"csv\"", STATE)),
        ("no_second_look", job("", &format!("{STATE}{end}\nevery = \"1h\"\nwithin = \"10m\""))),
        (
            "max",
            job("page = { by = \"offset\", param = \"o\", max = 1000 }", &format!("{STATE}{end}")),
        ),
        ("job_in_the_first", job("query = { id = \"{{ job.id }}\" }", &format!("{STATE}{end}"))),
        (
            "page_in_the_first",
            job("query = { p = \"{{ page.number }}\" }", &format!("{STATE}{end}")),
        ),
        ("unknown_name", job("", &format!("{STATE}download = \"/x/{{{{ record.id }}}}\""))),
        ("get_with_body", job("", &format!("{STATE}{end}\nbody = {{ a = 1 }}"))),
        (
            "token_of_a_list",
            job(
                "page = { by = \"cursor\", next = \"$.next\" }",
                &format!("{STATE}download = \"/jobs/{{{{ job.id }}}}/results\""),
            ),
        ),
    ];
    let all: Vec<String> = cases.iter().map(|(name, said)| format!("== {name}\n{said}")).collect();
    insta::assert_snapshot!(all.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn a_rewind_of_another_stream_does_not_put_a_job_off() {
    let mut script = api();
    let server = MockServer::start(move |seen| match seen.path() {
        "/others" => Reply::json(json!([{ "id": "x", "at": "2026-11-02T00:00:00Z" }])),
        _ => script(seen),
    })
    .await;
    let others = "[stream.others]\nkey = \"$.id\"\n[stream.others.poll]\npath = \"/others\"\n\
                  [stream.others.poll.cursor]\nfield = \"$.at\"\nstart = \"2026-11-01T00:00:00Z\"\n\
                  sorted = \"desc\"\n";
    let folder = tempfile::tempdir().unwrap();
    let streams = format!("{CONTACTS}{others}");
    std::fs::write(folder.path().join("crm.toml"), text(&server.url(""), &streams)).unwrap();
    let clock = Arc::new(ScriptedClock::starting_at(BEGIN));
    let mut settings =
        Settings { listen: "127.0.0.1:0".parse().unwrap(), watch: false, ..Settings::default() };
    settings.bus.kind = BusKind::Memory;
    settings.egress.allow = vec!["127.0.0.0/8".parse().unwrap()];
    let world = World {
        clock: clock.clone(),
        entropy: Arc::new(ScriptedEntropy::seeded(7)),
        secrets: Arc::new(StaticSecrets::new([("KEY", "s3cret")])),
    };
    let paths = vec![folder.path().to_owned()];
    let engine = Engine::start(EngineOptions { paths, settings, world }).await.unwrap();
    let pass = async |seconds| {
        let until = clock.now().plus(Duration::from_secs(seconds));
        while clock.now() < until {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    pass(15).await;
    let is_waiting = || waiting(&**engine.bus(), "crm", "contacts").is_some();
    assert!(is_waiting());
    let waits_s = || {
        let name = "tenon_poll_job_waiting_seconds{connector=\"crm\",stream=\"contacts\"} ";
        let text = engine.metrics_text();
        text.lines().find_map(|line| line.strip_prefix(name)?.parse::<f64>().ok())
    };
    let since = waiting(&**engine.bus(), "crm", "contacts").unwrap().since;
    assert_eq!(waits_s(), Some(clock.now().since(since).as_secs_f64()));
    assert!(waits_s() > Some(10.0), "{:?}", waits_s());
    let rewind = Rewind {
        connector: "crm".to_owned(),
        stream: "others".to_owned(),
        partition: None,
        to: RewindTo::Start,
        forward: false,
    };
    engine.rewind(&rewind).await.unwrap();
    assert!(is_waiting());
    // The next run is due five minutes after the first.
    pass(60).await;
    assert!(!is_waiting(), "the job is read");
    assert_eq!(waits_s(), None);
    assert_eq!(created(&server), 1);
}
