//! Polls against a scripted API, on the memory bus and a paused clock.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tenon::{
    auth::Authenticator,
    bus::{Append, Bus, MemoryBus},
    egress::{Egress, EgressConfig},
    event::{Event, EventId},
    ingest::poll::{PollFailure, PollReport, Poller, Source, cursor_key, cursor_text},
    map::{Expr, Library, Place, Site},
    plan::{
        AuthKind, AuthPlan, ClientAuth, ConnectorPlan, ContentHash, CursorFormat, CursorPlan,
        CursorStart, DecodePlan, Dedupe, Grant, OAuth2Plan, PageBy, PagePlan, PollPlan, Rate,
        RecordsPlan, Sorted, StreamPlan, TokenPlace,
    },
    world::{ScriptedClock, ScriptedEntropy, StaticSecrets, Timestamp, World},
};

use crate::support::{MockServer, Reply, Seen, gated::GatedBus};

/// 2026-11-22T10:00:00Z: when every test begins.
const BEGIN: Timestamp = Timestamp(1_795_341_600_000);

fn compile(text: &str, names: &'static [&'static str], root: Option<&'static str>) -> Expr {
    let place = Place { file: "shop.toml".into(), line: 7, path: "stream.orders".into() };
    let site = Site { names, root, lenient: false };
    Expr::compile(text, &site, place, &Library::default()).expect("the expression compiles")
}

fn of_record(text: &str) -> Expr {
    compile(text, &["vars", "record", "response"], Some("record"))
}

fn of_response(text: &str) -> Expr {
    compile(text, &["vars", "response", "page"], Some("response"))
}

fn of_request(text: &str) -> Expr {
    compile(text, &["vars", "now", "window", "page"], None)
}

fn of_auth(text: &str) -> Expr {
    compile(text, &["vars", "secret"], None)
}

fn poll(url: &str) -> PollPlan {
    PollPlan {
        method: Method::GET,
        url: of_request(url),
        query: Vec::new(),
        headers: Vec::new(),
        body: None,
        auth: None,
        records: Some(RecordsPlan {
            path: of_response("$.orders[*]"),
            prefix: vec!["orders".to_owned()],
            optional: false,
            levels: 0,
        }),
        each: Vec::new(),
        detail: Vec::new(),
        job: None,
        decode: DecodePlan::default(),
        page: PagePlan { by: PageBy::None, size: None, size_param: None, stop: None, max: None },
        cursor: None,
        on: Vec::new(),
        timeout: Duration::from_secs(30),
        max_response_bytes: 16 << 20,
        rate: Vec::new(),
        concurrency: 1,
    }
}

fn cursor() -> CursorPlan {
    CursorPlan {
        field: Some(of_record("$.at")),
        format: CursorFormat::EpochSeconds,
        start: None,
        start_param: Some("since".to_owned()),
        end_param: None,
        window: None,
        lookback: None,
        sorted: Sorted::No,
        filter: false,
        also: Vec::new(),
        until: None,
        oldest: None,
    }
}

fn by_token() -> PageBy {
    PageBy::Cursor { next: of_response("$.meta.next"), param: Some("after".to_owned()) }
}

fn sized(by: PageBy, size: u64) -> PagePlan {
    PagePlan { by, size: Some(size), size_param: Some("limit".to_owned()), stop: None, max: None }
}

/// Everything a poll needs but the API.
struct Rig {
    world: World,
    memory: Arc<MemoryBus>,
    bus: Arc<dyn Bus>,
    stream: StreamPlan,
    auths: BTreeMap<Arc<str>, Arc<AuthPlan>>,
    content: ContentHash,
}

impl Rig {
    fn new(poll: PollPlan) -> Self {
        let world = World {
            clock: Arc::new(ScriptedClock::starting_at(BEGIN)),
            entropy: Arc::new(ScriptedEntropy::seeded(7)),
            secrets: Arc::new(StaticSecrets::new([("KEY", "s3cret"), ("ID", "client-id")])),
        };
        let memory = MemoryBus::new(world.clock.clone());
        Self {
            world,
            bus: memory.clone(),
            memory,
            stream: StreamPlan {
                name: "orders".into(),
                vars: None,
                key: vec![of_record("$.id")],
                revision: None,
                tenant: None,
                when: None,
                delete: None,
                with: Vec::new(),
                dedupe: Dedupe::Window(Duration::from_hours(7 * 24)),
                to: Vec::new(),
                map: None,
                schema: None,
                redact: Vec::new(),
                webhook: None,
                poll: Some(Arc::new(poll)),
                schedule: None,
                reconcile: None,
                parent: None,
            },
            auths: BTreeMap::new(),
            content: ContentHash::default(),
        }
    }

    fn authenticated(mut self, kind: AuthKind) -> Self {
        let name: Arc<str> = "api".into();
        self.auths.insert(name.clone(), Arc::new(AuthPlan::new(name.clone(), kind)));
        let mut poll = PollPlan::clone(self.stream.poll.as_ref().unwrap());
        poll.auth = Some(name);
        self.stream.poll = Some(Arc::new(poll));
        self
    }

    fn poller(&self) -> Poller {
        let connector = ConnectorPlan {
            name: "shop".into(),
            version: "1.0.0".to_owned(),
            summary: None,
            owner: None,
            docs: None,
            tenant: None,
            file: PathBuf::from("shop.toml"),
            content: self.content,
            vars: Arc::new(json!({})),
            secret_names: Arc::default(),
            secrets_used: vec!["KEY".to_owned(), "ID".to_owned()],
            streams: vec![Arc::new(self.stream.clone())],
            destinations: BTreeMap::new(),
            auths: self.auths.clone(),
            slo: None,
            rollout: tenon::plan::RolloutPlan::default(),
        };
        let allow = vec!["127.0.0.0/8".parse().unwrap()];
        let egress = Egress::new(EgressConfig { allow, idle_per_host: 4 });
        let auth = Authenticator::new(self.world.clone(), egress.clone(), self.bus.clone());
        let rate = &self.stream.poll.as_ref().unwrap().rate;
        Poller {
            stream: connector.streams[0].clone(),
            connector: Arc::new(connector),
            world: self.world.clone(),
            egress,
            auth: Arc::new(auth),
            bus: self.bus.clone(),
            source: Arc::new(Source::new(rate)),
            tenants: Arc::default(),
            skew: Arc::default(),
        }
    }

    async fn run(&self) -> Result<PollReport, (PollReport, PollFailure)> {
        self.poller().run(&|_| {}).await
    }

    async fn failure(&self) -> PollFailure {
        self.run().await.expect_err("the run fails").1
    }

    /// Everything durable, in order.
    fn events(&self) -> Vec<Arc<Event>> {
        let far = Timestamp(i64::MAX);
        let (mut events, mut after) = (Vec::new(), None);
        loop {
            let page = self.memory.history(Timestamp(0), far, after).unwrap();
            events.extend(page.events.into_iter().map(|(_, event)| event));
            after = page.next;
            if after.is_none() {
                return events;
            }
        }
    }

    fn keys(&self) -> Vec<String> {
        self.events().iter().map(|event| event.key.clone()).collect()
    }

    /// The cursor as text, if there is one.
    fn cursor(&self) -> Option<String> {
        let stored = self.memory.state(&cursor_key("shop", "orders"))?;
        cursor_text(&stored).expect("the cursor can be read")
    }
}

fn epoch(text: &str) -> i64 {
    Timestamp::parse_rfc3339(text).unwrap().0 / 1000
}

/// A record whose cursor value is `at`.
fn order(at: i64) -> Value {
    json!({ "id": format!("o{at}"), "at": at, "note": "x".repeat(20) })
}

fn keys_of(range: impl IntoIterator<Item = i64>) -> Vec<String> {
    range.into_iter().map(|at| format!("o{at}")).collect()
}

/// An API with orders at each second of `1..=total`, in pages of `limit` (10 by default), that
/// speaks every style at once and filters by `since` and `until`.
fn list_api(total: i64) -> impl FnMut(&Seen) -> Reply + Send + 'static {
    move |seen| {
        let number = |name: &str| seen.param(name).and_then(|text| text.parse::<i64>().ok());
        let size = usize::try_from(number("limit").unwrap_or(10)).unwrap();
        let since = number("since").unwrap_or(1).max(1);
        let until = number("until").unwrap_or(total).min(total);
        let all: Vec<i64> = (since..=until).collect();
        let from = match (number("page"), number("offset"), number("after")) {
            (Some(page), _, _) => usize::try_from(page - 1).unwrap() * size,
            (_, Some(offset), _) => usize::try_from(offset).unwrap(),
            (_, _, Some(after)) => usize::try_from(after).unwrap(),
            _ => 0,
        };
        let items: Vec<Value> = all.iter().skip(from).take(size).map(|at| order(*at)).collect();
        let next = from + items.len();
        let more = next < all.len();
        let url = format!("/orders?after={next}&limit={size}&since={since}&until={until}");
        let mut meta = json!({ "total": all.len(), "next": null, "url": null });
        if more {
            meta = json!({ "total": all.len(), "next": next, "url": url });
        }
        let reply = Reply::json(json!({ "orders": items, "meta": meta }));
        if more { reply.header("link", &format!("<{url}>; rel=\"next\"")) } else { reply }
    }
}

#[tokio::test(start_paused = true)]
async fn every_style_reads_everything_once() {
    for (by, size, requests) in [
        (PageBy::Page { param: Some("page".to_owned()), first: 1 }, None, 4),
        (PageBy::Page { param: Some("page".to_owned()), first: 1 }, Some(10), 3),
        (PageBy::Offset { param: Some("offset".to_owned()) }, None, 4),
        (PageBy::Offset { param: Some("offset".to_owned()) }, Some(7), 4),
        (by_token(), Some(7), 4),
        (PageBy::Next { next: of_response("$.meta.url") }, Some(10), 3),
        (PageBy::Link, Some(10), 3),
    ] {
        let server = MockServer::start(list_api(25)).await;
        let mut plan = poll(&server.url("/orders"));
        let size_param = size.map(|_| "limit".to_owned());
        plan.page = PagePlan { by: by.clone(), size, size_param, stop: None, max: None };
        let rig = Rig::new(plan);
        let pages = Mutex::new(Vec::new());
        let report = rig.poller().run(&|so_far| pages.lock().push(so_far.items)).await.unwrap();
        assert_eq!(rig.keys(), keys_of(1..=25), "{by:?}");
        assert_eq!((report.items, report.accepted), (25, 25), "{by:?}");
        assert_eq!((report.requests, report.pages), (requests, requests), "{by:?}");
        assert_eq!(pages.lock().len() as u64, requests, "{by:?}");
        assert_eq!(pages.lock().last(), Some(&25), "{by:?}");
        assert_eq!(server.seen().len() as u64, requests, "{by:?}");
        // Again: nothing new, nothing twice.
        let report = rig.run().await.unwrap();
        assert_eq!((report.accepted, report.duplicates), (0, 25), "{by:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn records_are_stored_as_they_came() {
    let body = r#"{"orders": [ {"id": 1, "b": 1.10,  "a":"\u00e9"} ]}"#;
    let server = MockServer::scripted([Reply::status(200).body(body)]).await;
    let rig = Rig::new(poll(&server.url("/orders")));
    rig.run().await.unwrap();
    let events = rig.events();
    assert_eq!(&events[0].record.bytes()[..], br#"{"id": 1, "b": 1.10,  "a":"\u00e9"}"#);
    assert_eq!(events[0].received_at, rig.world.clock.now());
}

#[tokio::test(start_paused = true)]
async fn a_sample_stores_nothing() {
    let server = MockServer::start(list_api(25)).await;
    let mut plan = poll(&server.url("/orders"));
    plan.page = sized(by_token(), 10);
    plan.cursor = Some(Box::new(cursor()));
    let rig = Rig::new(plan);
    let sample = rig.poller().sample(3).await.unwrap();
    let at: Vec<_> = sample.iter().map(|order| order.record.value()["at"].clone()).collect();
    assert_eq!(at, [1, 2, 3]);
    assert!(rig.events().is_empty() && rig.cursor().is_none());
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_next_run_begins_at_the_cursor() {
    let server = MockServer::start(list_api(25)).await;
    let mut plan = poll(&server.url("/orders"));
    plan.page = sized(by_token(), 10);
    plan.cursor = Some(Box::new(CursorPlan { lookback: Some(Duration::from_secs(5)), ..cursor() }));
    let rig = Rig::new(plan);
    rig.run().await.unwrap();
    assert_eq!(rig.cursor().as_deref(), Some("1970-01-01T00:00:25Z"));
    let report = rig.run().await.unwrap();
    assert_eq!(server.seen().last().unwrap().param("since").as_deref(), Some("20"));
    assert_eq!((report.items, report.accepted, report.duplicates), (6, 0, 6));
    assert_eq!(rig.cursor().as_deref(), Some("1970-01-01T00:00:25Z"));
}

/// Runs until the API was asked `requests` times, lets everything that can happen happen, and dies.
async fn die_after(rig: &Rig, server: &MockServer, requests: usize) {
    let poller = rig.poller();
    tokio::select! {
        biased;
        () = async {
            server.wait_for(requests).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        } => {}
        _ = poller.run(&|_| {}) => panic!("the run was to hang"),
    }
}

/// The API of [`list_api`], where the request number `hang` (from 1) is never answered.
fn hanging(total: i64, hang: usize) -> impl FnMut(&Seen) -> Reply + Send + 'static {
    let (mut api, mut asked) = (list_api(total), 0);
    move |seen| {
        asked += 1;
        if asked == hang { Reply::hang() } else { api(seen) }
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_leaves_no_gap_and_no_cursor_ahead_of_what_is_durable() {
    for sorted in [Sorted::No, Sorted::Ascending] {
        for hang in 1..=3 {
            let server = MockServer::start(hanging(25, hang)).await;
            let mut plan = poll(&server.url("/orders"));
            plan.page = sized(by_token(), 10);
            plan.cursor = Some(Box::new(CursorPlan { sorted, ..cursor() }));
            let rig = Rig::new(plan);
            die_after(&rig, &server, hang).await;
            let durable: BTreeSet<String> = rig.keys().into_iter().collect();
            assert_eq!(durable.len(), (hang - 1) * 10);
            let expected = match (sorted, hang) {
                (Sorted::Ascending, 2) => Some("1970-01-01T00:00:10Z"),
                (Sorted::Ascending, 3) => Some("1970-01-01T00:00:20Z"),
                _ => None,
            };
            assert_eq!(rig.cursor().as_deref(), expected, "{sorted:?} {hang}");
            rig.run().await.unwrap();
            assert_eq!(rig.keys(), keys_of(1..=25), "{sorted:?} {hang}");
            assert_eq!(rig.cursor().as_deref(), Some("1970-01-01T00:00:25Z"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn growth_during_a_run_is_read_by_it_or_by_the_next() {
    // Orders 26 to 35 appear while the second page is being read.
    let mut asked = 0;
    let server = MockServer::start(move |seen| {
        asked += 1;
        list_api(if asked < 2 { 25 } else { 35 })(seen)
    })
    .await;
    let mut plan = poll(&server.url("/orders"));
    plan.page = sized(PageBy::Page { param: Some("page".to_owned()), first: 1 }, 10);
    plan.cursor = Some(Box::new(CursorPlan { sorted: Sorted::Ascending, ..cursor() }));
    let rig = Rig::new(plan);
    rig.run().await.unwrap();
    rig.run().await.unwrap();
    assert_eq!(rig.keys(), keys_of(1..=35));
}

#[tokio::test(start_paused = true)]
async fn a_change_behind_the_reader_is_read_by_the_next_run() {
    // While the last page is read, order 1 of the first page changes, and the last page has an order
    // that is newer still.
    let begin = BEGIN.0 / 1000;
    let first = json!({ "orders": [{ "id": 1, "at": begin - 9 }], "meta": { "next": 1 } });
    let last = json!({ "orders": [{ "id": 2, "at": begin + 5 }], "meta": { "next": null } });
    let server = MockServer::start(move |seen| {
        let since = seen.param("since").and_then(|text| text.parse::<i64>().ok());
        match (since, seen.param("after")) {
            (None, None) => Reply::json(first.clone()),
            (None, Some(_)) => Reply::json(last.clone()),
            (Some(since), _) => {
                let changed =
                    [json!({ "id": 1, "at": begin + 3 }), json!({ "id": 2, "at": begin + 5 })];
                let new = changed.into_iter().filter(|order| order["at"].as_i64() >= Some(since));
                Reply::json(json!({ "orders": new.collect::<Vec<_>>(), "meta": { "next": null } }))
            }
        }
    })
    .await;
    let mut plan = poll(&server.url("/orders"));
    plan.page = PagePlan { by: by_token(), size: None, size_param: None, stop: None, max: None };
    plan.cursor = Some(Box::new(cursor()));
    let rig = Rig::new(plan);
    rig.run().await.unwrap();
    tokio::time::sleep(Duration::from_mins(1)).await;
    rig.run().await.unwrap();
    let states: Vec<Value> =
        rig.events().iter().map(|event| event.record.value()["at"].clone()).collect();
    assert_eq!(states, [json!(begin - 9), json!(begin + 5), json!(begin + 3)]);
}

#[tokio::test(start_paused = true)]
async fn windows_are_read_one_after_another_and_survive_a_crash() {
    let begin = BEGIN.0 / 1000;
    let total = begin - 5;
    let server = MockServer::start(hanging(total, 3)).await;
    let mut plan = poll(&server.url("/orders"));
    plan.page = sized(PageBy::None, 1000);
    plan.cursor = Some(Box::new(CursorPlan {
        start: Some(CursorStart::Ago(Duration::from_secs(250))),
        end_param: Some("until".to_owned()),
        window: Some(Duration::from_secs(100)),
        ..cursor()
    }));
    let rig = Rig::new(plan);
    die_after(&rig, &server, 3).await;
    // Two windows are over, so everything up to their end was read.
    let second_end = begin - 51;
    assert_eq!(rig.keys(), keys_of(begin - 250..=second_end));
    let cursor = epoch(&rig.cursor().unwrap());
    assert_eq!(cursor, second_end);
    rig.run().await.unwrap();
    assert_eq!(rig.keys(), keys_of(begin - 250..=total));
    let asked: Vec<(String, String)> = server
        .seen()
        .iter()
        .map(|seen| (seen.param("since").unwrap(), seen.param("until").unwrap()))
        .collect();
    let told = |from: i64, to: i64| (from.to_string(), to.to_string());
    assert_eq!(
        asked[..3],
        [told(begin - 250, begin - 151), told(begin - 150, begin - 51), told(begin - 50, begin),]
    );
    assert_eq!(asked[3].0, (begin - 51).to_string());
}

#[tokio::test(start_paused = true)]
async fn without_a_field_the_window_itself_is_the_cursor() {
    let server = MockServer::start(list_api(0)).await;
    let mut plan = poll(&server.url("/orders"));
    plan.cursor = Some(Box::new(CursorPlan {
        field: None,
        format: CursorFormat::Rfc3339,
        start: Some(CursorStart::Literal("2026-11-22".to_owned())),
        end_param: Some("until_time".to_owned()),
        ..cursor()
    }));
    let rig = Rig::new(plan);
    rig.run().await.unwrap();
    tokio::time::sleep(Duration::from_mins(1)).await;
    rig.run().await.unwrap();
    let asked: Vec<Option<String>> = server.seen().iter().map(|seen| seen.param("since")).collect();
    assert_eq!(
        asked,
        [Some("2026-11-22T00:00:00Z".to_owned()), Some("2026-11-22T10:00:00Z".to_owned()),]
    );
}

// The incumbents' bugs.

#[tokio::test(start_paused = true)]
async fn field_endless_next_fails_instead_of_looping() {
    let page = json!({ "orders": [order(1), order(2)], "meta": { "next": "again" } });
    let server = MockServer::start(move |_| Reply::json(page.clone())).await;
    let mut plan = poll(&server.url("/orders"));
    plan.page = PagePlan { by: by_token(), size: None, size_param: None, stop: None, max: None };
    let rig = Rig::new(plan);
    let PollFailure::Failed(message) = rig.failure().await else { panic!("not a failure") };
    assert!(
        message.ends_with(
            "?after=…: the same page came again, asked for by the token at `$.meta.next`"
        ),
        "{message}"
    );
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn field_typo_in_the_token_path_fails_instead_of_reading_one_page() {
    let server = MockServer::start(list_api(100_000)).await;
    let mut plan = poll(&server.url("/orders"));
    let next = of_response("$.meta.nxt");
    plan.page = sized(PageBy::Cursor { next, param: Some("after".to_owned()) }, 10);
    plan.cursor = Some(Box::new(cursor()));
    let rig = Rig::new(plan);
    let PollFailure::Failed(message) = rig.failure().await else { panic!("not a failure") };
    assert!(message.contains("`$.meta` has `total`, `next`, `url`"), "{message}");
    assert_eq!(rig.cursor(), None);
}

#[tokio::test(start_paused = true)]
async fn field_typo_in_the_records_path_fails_instead_of_reading_nothing() {
    let server = MockServer::start(list_api(5)).await;
    let mut plan = poll(&server.url("/orders"));
    plan.records = Some(RecordsPlan {
        path: of_response("$.order[*]"),
        prefix: vec!["order".to_owned()],
        optional: false,
        levels: 0,
    });
    let rig = Rig::new(plan);
    let PollFailure::Failed(message) = rig.failure().await else { panic!("not a failure") };
    assert!(
        message.contains("`$.order` is not in the response: `$` has `orders`, `meta`"),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn field_a_filter_that_shrinks_pages_does_not_end_the_run() {
    // `when` takes nothing of the first two pages.
    let server = MockServer::start(list_api(25)).await;
    let mut plan = poll(&server.url("/orders"));
    plan.page = sized(PageBy::Page { param: Some("page".to_owned()), first: 1 }, 10);
    let mut rig = Rig::new(plan);
    rig.stream.when = Some(of_record("{{ record.at > 20 }}"));
    let report = rig.run().await.unwrap();
    assert_eq!((report.items, report.filtered, report.accepted), (25, 20, 5));
    // `filter` takes nothing of them either.
    let server = MockServer::start(list_api(25)).await;
    let mut plan = poll(&server.url("/orders"));
    plan.page = sized(PageBy::Page { param: Some("page".to_owned()), first: 1 }, 10);
    plan.cursor = Some(Box::new(CursorPlan {
        start: Some(CursorStart::Literal("21".to_owned())),
        start_param: None,
        filter: true,
        ..cursor()
    }));
    let rig = Rig::new(plan);
    let report = rig.run().await.unwrap();
    assert_eq!((report.items, report.filtered, report.accepted), (25, 20, 5));
    assert_eq!(rig.keys(), keys_of(21..=25));
}

#[tokio::test(start_paused = true)]
async fn field_boundary_records_come_once_even_after_their_claims_expired() {
    let server = MockServer::start(list_api(25)).await;
    let mut plan = poll(&server.url("/orders"));
    plan.page = sized(by_token(), 10);
    plan.cursor = Some(Box::new(CursorPlan { lookback: Some(Duration::from_secs(3)), ..cursor() }));
    let rig = Rig::new(plan);
    rig.run().await.unwrap();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_hours(8 * 24)).await;
        let report = rig.run().await.unwrap();
        assert_eq!((report.accepted, report.duplicates), (0, 4));
    }
    assert_eq!(rig.keys(), keys_of(1..=25));
}

#[tokio::test(start_paused = true)]
async fn field_a_record_without_the_cursor_field_fails_its_page_and_names_the_field() {
    let page = json!({ "orders": [order(1), { "id": "x" }] });
    let server = MockServer::scripted([Reply::json(page)]).await;
    let mut plan = poll(&server.url("/orders"));
    plan.cursor = Some(Box::new(cursor()));
    let rig = Rig::new(plan);
    let PollFailure::Failed(message) = rig.failure().await else { panic!("not a failure") };
    assert!(message.contains("cursor.field") && message.contains("$.at"), "{message}");
    assert!(rig.events().is_empty() && rig.cursor().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_record_without_a_key_is_counted_and_the_rest_goes_on() {
    let page = json!({ "orders": [order(1), { "at": 2 }, order(3)] });
    let server = MockServer::scripted([Reply::json(page)]).await;
    let mut plan = poll(&server.url("/orders"));
    plan.cursor = Some(Box::new(cursor()));
    let rig = Rig::new(plan);
    let report = rig.run().await.unwrap();
    assert_eq!((report.accepted, report.unnamed), (2, 1));
    assert_eq!(rig.cursor().as_deref(), Some("1970-01-01T00:00:03Z"));
}

// Answers that are not pages.

#[tokio::test(start_paused = true)]
async fn passing_trouble_is_tried_again_within_the_run() {
    let page = json!({ "orders": [order(1)] });
    let server = MockServer::scripted([
        Reply::text(503, "busy"),
        Reply::reset(),
        Reply::json(page.clone()).cut(5),
        Reply::json(page),
    ])
    .await;
    let rig = Rig::new(poll(&server.url("/orders")));
    let report = rig.run().await.unwrap();
    assert_eq!((report.requests, report.accepted), (4, 1));
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_waited_for() {
    let date = "Sun, 22 Nov 2026 10:01:00 GMT";
    let server = MockServer::scripted([
        Reply::status(429).header("retry-after", "7"),
        Reply::status(429).header("retry-after", date),
        Reply::json(json!({ "orders": [] })),
    ])
    .await;
    let rig = Rig::new(poll(&server.url("/orders")));
    rig.run().await.unwrap();
    let waited = rig.world.clock.now().since(BEGIN);
    assert!(waited >= Duration::from_mins(1) && waited < Duration::from_secs(65), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_long_wait_ends_the_run() {
    for (asked, expected) in [("3600", 3600), ("999999", 86_400)] {
        let server =
            MockServer::scripted([Reply::text(429, "slow").header("retry-after", asked)]).await;
        let rig = Rig::new(poll(&server.url("/orders")));
        let PollFailure::Later { retry_after, .. } = rig.failure().await else { panic!() };
        assert_eq!(retry_after, Some(Duration::from_secs(expected)));
        assert_eq!(rig.world.clock.now(), BEGIN);
    }
}

#[tokio::test(start_paused = true)]
async fn lasting_trouble_ends_the_run_and_keeps_what_was_read() {
    let mut api = list_api(25);
    let server = MockServer::start(move |seen| {
        if seen.param("after").as_deref() == Some("20") {
            Reply::text(500, "oops")
        } else {
            api(seen)
        }
    })
    .await;
    let mut plan = poll(&server.url("/orders"));
    plan.page = sized(by_token(), 10);
    plan.cursor = Some(Box::new(CursorPlan { sorted: Sorted::Ascending, ..cursor() }));
    let rig = Rig::new(plan);
    let (report, failure) = rig.run().await.unwrap_err();
    assert_eq!((report.accepted, report.pages, report.requests), (20, 2, 6));
    assert!(matches!(failure, PollFailure::Later { retry_after: None, .. }), "{failure:?}");
    assert_eq!(rig.cursor().as_deref(), Some("1970-01-01T00:00:20Z"));
}

#[tokio::test(start_paused = true)]
async fn a_failure_says_what_was_asked_and_answered_and_no_secret() {
    for (reply, held) in [
        (Reply::text(404, "no such\r\n\u{1b}thing for s3cret"), false),
        (Reply::text(403, "no such thing for s3cret"), true),
        (Reply::text(401, "no such thing for s3cret"), true),
    ] {
        let server = MockServer::start(move |_| reply.clone()).await;
        let mut plan = poll(&server.url("/orders"));
        plan.query = vec![("shop".to_owned(), of_request("very private"))];
        let kind =
            AuthKind::Query { name: "api_key".to_owned(), value: of_auth("{{ secret.KEY }}") };
        let rig = Rig::new(plan).authenticated(kind);
        let failure = rig.failure().await;
        let (PollFailure::Failed(message) | PollFailure::Held(message)) = &failure else {
            panic!()
        };
        assert_eq!(matches!(failure, PollFailure::Held(_)), held, "{message}");
        let seen = server.seen();
        assert_eq!(seen[0].param("api_key").as_deref(), Some("s3cret"));
        assert!(
            message.starts_with(&format!("GET {}?shop=… answered 40", server.url("/orders"))),
            "{message}"
        );
        assert!(message.contains("thing for [redacted]"), "{message}");
        for leak in ["s3cret", "private", "\r", "\n", "\u{1b}"] {
            assert!(!message.contains(leak), "{message}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_expired_is_renewed_once() {
    let mut tokens = 0;
    let server = MockServer::start(move |seen| {
        if seen.path() == "/token" {
            tokens += 1;
            return Reply::json(json!({
                "access_token": format!("t{tokens}"), "token_type": "bearer", "expires_in": 3600,
            }));
        }
        match seen.header("authorization") {
            Some("Bearer t2") => Reply::json(json!({ "orders": [order(1)] })),
            _ => Reply::status(401),
        }
    })
    .await;
    let oauth = |server: &MockServer| {
        AuthKind::OAuth2(Box::new(OAuth2Plan {
            grant: Grant::ClientCredentials,
            client_auth: ClientAuth::Body,
            token_url: of_auth(&server.url("/token")),
            client_id: Some(of_auth("{{ secret.ID }}")),
            client_secret: Some(of_auth("{{ secret.KEY }}")),
            scopes: Vec::new(),
            params: Vec::new(),
            token: None,
            life: None,
            place: TokenPlace::Bearer,
        }))
    };
    let rig = Rig::new(poll(&server.url("/orders"))).authenticated(oauth(&server));
    assert_eq!(rig.run().await.unwrap().accepted, 1);
    // An API that refuses every token holds the poll.
    let server = MockServer::start(|seen| {
        if seen.path() == "/token" {
            Reply::json(json!({ "access_token": "t", "token_type": "bearer", "expires_in": 3600 }))
        } else {
            Reply::status(401)
        }
    })
    .await;
    let rig = Rig::new(poll(&server.url("/orders"))).authenticated(oauth(&server));
    assert!(matches!(rig.failure().await, PollFailure::Held(_)));
    let asked = server.seen().iter().filter(|seen| seen.path() == "/orders").count();
    assert_eq!(asked, 2);
}

#[tokio::test(start_paused = true)]
async fn credentials_never_leave_the_origin() {
    let thief = MockServer::start(|_| Reply::json(json!({ "orders": [] }))).await;
    let target = thief.url("/orders?page=2");
    let link = target.clone();
    for by in [PageBy::Link, PageBy::Next { next: of_response("$.meta.url") }] {
        let (link, target) = (link.clone(), target.clone());
        let server = MockServer::start(move |_| {
            Reply::json(json!({ "orders": [order(1)], "meta": { "url": target } }))
                .header("link", &format!("<{link}>; rel=\"next\""))
        })
        .await;
        let mut plan = poll(&server.url("/orders"));
        plan.page = PagePlan { by, size: None, size_param: None, stop: None, max: None };
        let rig =
            Rig::new(plan).authenticated(AuthKind::Bearer { token: of_auth("{{ secret.KEY }}") });
        let PollFailure::Failed(message) = rig.failure().await else { panic!("not a failure") };
        assert!(message.contains("credentials for"), "{message}");
        assert!(thief.seen().is_empty());
    }
    // Nor does a redirect take them anywhere.
    let server = MockServer::start(move |_| Reply::status(302).header("location", &link)).await;
    let rig = Rig::new(poll(&server.url("/orders")));
    let PollFailure::Failed(message) = rig.failure().await else { panic!("not a failure") };
    assert!(message.contains("redirects are not followed"), "{message}");
    assert!(thief.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_no_json_shows_its_beginning() {
    let server = MockServer::start(|_| Reply::text(200, "<html>Please log in</html>")).await;
    let rig = Rig::new(poll(&server.url("/orders")));
    let PollFailure::Failed(message) = rig.failure().await else { panic!("not a failure") };
    assert!(message.contains("not JSON") && message.contains("<html>Please log in"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_document_is_not_read_again() {
    let server = MockServer::start(|seen| match seen.header("if-none-match") {
        Some("\"v1\"") => Reply::status(304),
        _ => Reply::json(json!({ "orders": [order(1)] })).header("etag", "\"v1\""),
    })
    .await;
    let mut rig = Rig::new(poll(&server.url("/orders")));
    assert_eq!(rig.run().await.unwrap().items, 1);
    assert_eq!(rig.run().await.unwrap().items, 0);
    assert_eq!(server.seen()[1].header("if-none-match"), Some("\"v1\""));
    // A changed connector has to see the document again.
    rig.content = ContentHash([1; 16]);
    assert_eq!(rig.run().await.unwrap().items, 1);
    // Of a list in pages the same, where it is one page, which says itself that there is no more.
    for (total, by, asks) in [
        (3, PageBy::Page { param: Some("page".to_owned()), first: 1 }, true),
        (3, PageBy::Offset { param: Some("offset".to_owned()) }, true),
        (3, by_token(), true),
        // Another page may follow, and this one be the same.
        (3, PageBy::Link, false),
        // Of several, the first says nothing of the others.
        (13, PageBy::Page { param: Some("page".to_owned()), first: 1 }, false),
        (13, by_token(), false),
    ] {
        let mut api = list_api(total);
        let server = MockServer::start(move |seen| match seen.header("if-none-match") {
            Some("\"v1\"") => Reply::status(304),
            _ => api(seen).header("etag", "\"v1\""),
        })
        .await;
        let mut plan = poll(&server.url("/orders"));
        plan.page = sized(by.clone(), 10);
        let rig = Rig::new(plan);
        let read = rig.run().await.unwrap();
        let again = rig.run().await.unwrap();
        assert_eq!((read.accepted, again.accepted), (total as u64, 0), "{by:?}");
        let expected = if asks { (1, 0) } else { (read.requests, read.items) };
        assert_eq!((again.requests, again.items), expected, "{by:?}");
        let conditions =
            server.seen().iter().filter(|seen| seen.header("if-none-match").is_some()).count();
        assert_eq!(conditions, usize::from(asks), "{by:?}");
    }
    // "Not modified" that nobody asked for is no success.
    let server = MockServer::start(|_| Reply::status(304)).await;
    let rig = Rig::new(poll(&server.url("/orders")));
    assert!(matches!(rig.failure().await, PollFailure::Failed(_)));
}

#[tokio::test(start_paused = true)]
async fn requests_keep_to_the_sources_rate() {
    let server = MockServer::start(list_api(30)).await;
    let mut plan = poll(&server.url("/orders"));
    plan.page = sized(by_token(), 10);
    plan.rate = vec![Rate { count: 1, per: Duration::from_secs(10) }];
    let rig = Rig::new(plan);
    rig.run().await.unwrap();
    let took = rig.world.clock.now().since(BEGIN);
    assert!(took >= Duration::from_secs(20) && took < Duration::from_secs(21), "{took:?}");
}

// The bus.

#[tokio::test(start_paused = true)]
async fn a_full_bus_is_come_back_to() {
    let server = MockServer::start(list_api(25)).await;
    let mut plan = poll(&server.url("/orders"));
    plan.cursor = Some(Box::new(cursor()));
    let rig = Rig::new(plan);
    rig.memory.refuse(Some("the disk is full".to_owned()));
    let failure = rig.failure().await;
    assert!(
        matches!(&failure, PollFailure::Later { message, .. } if message.contains("the disk is full")),
        "{failure:?}"
    );
    assert_eq!(rig.cursor(), None);
    rig.memory.refuse(None);
    rig.run().await.unwrap();
    assert_eq!(rig.keys(), keys_of(1..=10));
}

#[tokio::test(start_paused = true)]
async fn one_page_is_fetched_ahead_and_no_more() {
    let server = MockServer::start(list_api(50)).await;
    let mut plan = poll(&server.url("/orders"));
    plan.page = sized(by_token(), 10);
    plan.cursor = Some(Box::new(CursorPlan { sorted: Sorted::Ascending, ..cursor() }));
    let mut rig = Rig::new(plan);
    let gated = GatedBus::new(rig.memory.clone());
    rig.bus = gated.clone();
    let poller = rig.poller();
    let mut run = Box::pin(poller.run(&|_| {}));
    for page in 1..=4_i64 {
        // Everything that can happen while the append waits.
        let waited = tokio::time::timeout(Duration::from_secs(1), &mut run).await;
        assert!(waited.is_err(), "the append of page {page} waits");
        assert_eq!(server.seen().len() as i64, page + 1);
        assert_eq!(rig.events().len() as i64, (page - 1) * 10);
        let expected = (page > 1).then(|| format!("1970-01-01T00:00:{}Z", (page - 1) * 10));
        assert_eq!(rig.cursor(), expected);
        gated.let_pass(1);
    }
    gated.let_pass(1);
    run.await.unwrap();
    assert_eq!(rig.keys(), keys_of(1..=50));
}

#[tokio::test(start_paused = true)]
async fn a_large_page_is_appended_in_parts_and_the_cursor_with_the_last() {
    let orders: Vec<Value> =
        (1..=30).map(|at| json!({ "id": at, "at": at, "text": "x".repeat(400_000) })).collect();
    let server = MockServer::scripted([Reply::json(json!({ "orders": orders }))]).await;
    let mut plan = poll(&server.url("/orders"));
    plan.cursor = Some(Box::new(cursor()));
    let mut rig = Rig::new(plan);
    let gated = GatedBus::new(rig.memory.clone());
    gated.let_pass(100);
    rig.bus = gated.clone();
    rig.run().await.unwrap();
    let batches: Vec<Append> = gated.batches();
    let sizes: Vec<usize> = batches.iter().map(|batch| batch.events.len()).collect();
    assert_eq!(sizes, [10, 10, 10]);
    let with_state: Vec<bool> = batches.iter().map(|batch| !batch.state.is_empty()).collect();
    assert_eq!(with_state, [false, false, true]);
}

#[tokio::test(start_paused = true)]
async fn the_same_record_has_the_same_id_in_every_run() {
    let server = MockServer::start(list_api(1)).await;
    let rig = Rig::new(poll(&server.url("/orders")));
    rig.run().await.unwrap();
    let event = rig.events().remove(0);
    assert_eq!(event.id, EventId::derive("shop", "orders", &event.key, &event.revision));
}
