//! Pages that are fetched before their turn: the same result, sooner, and no storm.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use parking_lot::Mutex;
use proptest::prelude::*;
use serde_json::{Value, json};
use tenon::{
    egress::{Answer, EgressError, ExchangeLimits, Peer, Script},
    ingest::poll::{PollFailure, PollReport},
    world::BoxFuture,
};
use tokio::time::Instant;

use crate::support::walk::Walk;

/// What a page answers before it answers, or instead.
#[derive(Clone, Copy, Debug)]
enum Mood {
    /// So often this status, with `Retry-After` where there is one; then the page.
    Passing(u16, Option<u32>, usize),
    /// So often nothing; then the page.
    Silent(usize),
    /// This status, always.
    Always(u16),
    /// What is no JSON.
    Garbage,
    /// The page before this one again.
    Repeats,
}

/// A list of `total` numbered records, newest last, in pages of `size`.
#[derive(Clone, Debug, Default)]
struct Api {
    total: usize,
    size: usize,
    /// By page, counted from 0.
    moods: BTreeMap<usize, Mood>,
    /// How long answers take: by page and try, over and over.
    latency_ms: Vec<u64>,
    /// A record's `note`.
    note: String,
    headers: Vec<(&'static str, &'static str)>,
}

#[derive(Default)]
struct Seen {
    /// When, and for which page.
    asked: Vec<(Duration, usize)>,
    /// How often each page was, by where its window begins.
    times: BTreeMap<(usize, usize), usize>,
    at_once: usize,
    most_at_once: usize,
}

struct Stage {
    api: Api,
    seen: Mutex<Seen>,
    began: Instant,
}

impl Api {
    fn stage(self) -> Arc<Stage> {
        Arc::new(Stage { api: self, seen: Mutex::default(), began: Instant::now() })
    }

    fn records(&self, page: usize, since: usize) -> Vec<Value> {
        let all = (1..=self.total).filter(|n| *n >= since).skip(page * self.size).take(self.size);
        all.map(|n| json!({ "id": format!("r{n}"), "at": n, "note": self.note })).collect()
    }

    /// The answer to request number `times` (from 0) for this page.
    fn answer(&self, page: usize, since: usize, times: usize) -> Result<Answer, EgressError> {
        let pages = self.total.div_ceil(self.size);
        let records = self.records(page, since);
        let body = json!({ "records": records, "pages": pages, "more": page + 1 < pages });
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let mut answer = |status: u16, body: String| {
            let status = StatusCode::from_u16(status).unwrap();
            Ok(Answer { status, headers: std::mem::take(&mut headers), body: body.into() })
        };
        match self.moods.get(&page) {
            Some(Mood::Passing(status, retry_after, often)) if times < *often => {
                let mut refused = answer(*status, "later".to_owned())?;
                if let Some(seconds) = retry_after {
                    refused.headers.insert("retry-after", HeaderValue::from(*seconds));
                }
                Ok(refused)
            }
            Some(Mood::Silent(often)) if times < *often => {
                Err(EgressError::Broken("closed by the peer".to_owned()))
            }
            Some(Mood::Always(status)) => answer(*status, "no".to_owned()),
            Some(Mood::Garbage) => answer(200, "<html>".to_owned()),
            Some(Mood::Repeats) if page > 0 => {
                let records = self.records(page - 1, since);
                let body = json!({ "records": records, "pages": pages, "more": true });
                answer(200, body.to_string())
            }
            _ => answer(200, body.to_string()),
        }
    }
}

impl Stage {
    fn times(&self) -> Vec<(u64, usize)> {
        let asked = &self.seen.lock().asked;
        asked.iter().map(|(at, page)| (at.as_secs(), *page)).collect()
    }

    fn most_at_once(&self) -> usize {
        self.seen.lock().most_at_once
    }
}

impl Script for Stage {
    fn answer(
        &self,
        peer: &Peer,
        request: Request<Bytes>,
        limits: ExchangeLimits,
    ) -> BoxFuture<'_, Result<Answer, EgressError>> {
        assert!(matches!(peer, Peer::Source(_)), "{peer:?}");
        let url = url::Url::parse(&request.uri().to_string()).unwrap();
        let number = |name: &str| {
            let found = url.query_pairs().find(|(found, _)| found == name);
            found.map(|(_, value)| value.parse::<usize>().unwrap())
        };
        let page = number("page").map(|page| page - 1);
        let page = page.or(number("offset").map(|at| at / self.api.size)).unwrap_or(0);
        let since = number("since").unwrap_or(0);
        let mut seen = self.seen.lock();
        let times = *seen.times.entry((page, since)).and_modify(|times| *times += 1).or_default();
        seen.asked.push((self.began.elapsed(), page));
        seen.at_once += 1;
        seen.most_at_once = seen.most_at_once.max(seen.at_once);
        drop(seen);
        let latency = match self.api.latency_ms.as_slice() {
            [] => 0,
            some => some[(7 * page + times) % some.len()],
        };
        // Also where nobody waits for the answer any more.
        let under_way = UnderWay(&self.seen);
        Box::pin(async move {
            let _under_way = under_way;
            tokio::time::sleep(Duration::from_millis(latency)).await;
            let answer = self.api.answer(page, since, times)?;
            assert!(answer.body.len() <= limits.max_response_bytes || times == 0);
            Ok(answer)
        })
    }
}

struct UnderWay<'a>(&'a Mutex<Seen>);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.lock().at_once -= 1;
    }
}

/// How pages are asked for.
#[derive(Clone, Debug)]
struct Asking {
    by_offset: bool,
    says_size: bool,
    stop: Option<&'static str>,
    max: Option<usize>,
    sorted: Option<&'static str>,
    rate: Option<&'static str>,
}

impl Asking {
    fn plain() -> Self {
        Self { by_offset: false, says_size: true, stop: None, max: None, sorted: None, rate: None }
    }

    fn tables(&self, size: usize, concurrency: usize) -> String {
        let mut page = if self.by_offset {
            "by = \"offset\", param = \"offset\"".to_owned()
        } else {
            "by = \"page\", param = \"page\"".to_owned()
        };
        if self.says_size {
            page += &format!(", size = {size}");
        }
        if let Some(stop) = self.stop {
            page += &format!(", stop = \"{stop}\"");
        }
        let mut cursor = String::new();
        if let Some(sorted) = self.sorted {
            cursor = format!(
                "[stream.orders.poll.cursor]\nfield = \"$.at\"\nformat = \"integer\"\n\
                 start = \"0\"\nstart_param = \"since\"\n{sorted}\n"
            );
            if let Some(max) = self.max.filter(|_| sorted.contains("asc")) {
                page += &format!(", max = {max}");
            }
        }
        let rate = self.rate.map(|rate| format!("rate = \"{rate}\"\n")).unwrap_or_default();
        format!(
            "concurrency = {concurrency}\n{rate}on = [\n\
             {{ status = 404, then = \"skip\" }},\n{{ status = 410, then = \"stop\" }},\n\
             {{ status = 409, then = \"restart\" }},\n{{ status = 420, then = \"wait\", for = \"2s\" }},\n]\n\
             [stream.orders]\nkey = \"$.id\"\n[stream.orders.poll]\npath = \"/orders\"\n\
             records = \"$.records[*]\"\npage = {{ {page} }}\n{cursor}"
        )
    }
}

/// What a run comes to: all of it but how many requests it took.
type Outcome = (Result<PollReport, (PollReport, PollFailure)>, Vec<String>, Option<String>);

/// Two runs, one after the other, with so many requests at once. What came of each, how many requests the
/// first took, and how many there were at once.
fn runs(api: &Api, asking: &Asking, concurrency: usize) -> (Vec<Outcome>, u64, usize) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let stage = api.clone().stage();
        let walk = Walk::scripted(stage.clone(), &asking.tables(api.size, concurrency));
        let mut outcomes = Vec::new();
        let mut requests = None;
        for _ in 0..2 {
            let mut ended = walk.run().await;
            let (Ok(report) | Err((report, _))) = &mut ended;
            requests.get_or_insert(report.requests);
            report.requests = 0;
            outcomes.push((ended, walk.keys(), walk.cursor()));
            // What passes has passed for the pages that were looked at, and may not for those beyond.
            stage.seen.lock().times.clear();
        }
        assert_eq!(stage.seen.lock().at_once, 0, "nothing is under way behind a run's back");
        (outcomes, requests.unwrap(), stage.most_at_once())
    })
}

fn mood() -> impl Strategy<Value = Mood> {
    prop_oneof![
        4 => (prop::sample::select(vec![500, 503, 429, 420, 408]), prop::option::of(1u32..20), 1usize..5)
            .prop_map(|(status, retry_after, often)| Mood::Passing(status, retry_after, often)),
        2 => (1usize..5).prop_map(Mood::Silent),
        2 => prop::sample::select(vec![400, 401, 403, 404, 409, 410]).prop_map(Mood::Always),
        1 => Just(Mood::Garbage),
        1 => Just(Mood::Repeats),
    ]
}

fn api() -> impl Strategy<Value = Api> {
    let moods = prop::collection::btree_map(0usize..14, mood(), 0..4);
    let latencies = prop::collection::vec(
        prop_oneof![8 => 0u64..3_000, 1 => Just(0), 1 => 29_000u64..32_000],
        1..12,
    );
    (0usize..40, 1usize..6, moods, latencies).prop_map(|(total, size, moods, latency_ms)| Api {
        total,
        size,
        moods,
        latency_ms,
        ..Api::default()
    })
}

fn asking() -> impl Strategy<Value = Asking> {
    let stop = prop::sample::select(vec![
        None,
        Some("{{ not response.body.more }}"),
        Some("{{ page.number >= response.body.pages }}"),
    ]);
    let sorted = prop::sample::select(vec![None, Some(""), Some("sorted = \"asc\"")]);
    let rate = prop::sample::select(vec![None, None, Some("3/s"), Some("1/2s")]);
    (any::<bool>(), any::<bool>(), stop, prop::option::of(4usize..20), sorted, rate).prop_map(
        |(by_offset, says_size, stop, max, sorted, rate)| Asking {
            by_offset,
            says_size,
            stop,
            max,
            sorted,
            rate,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever the pages are, however long they take and however many are asked for at once.
    #[test]
    fn what_is_fetched_ahead_changes_nothing(
        api in api(), asking in asking(), concurrency in 2usize..9,
    ) {
        let (expected, one_by_one, most) = runs(&api, &asking, 1);
        prop_assert_eq!(most, 1);
        let (found, requests, most) = runs(&api, &asking, concurrency);
        prop_assert_eq!(found, expected);
        prop_assert!(most <= concurrency, "{most} requests at once");
        // At most once as many again, and those of each beginning anew.
        prop_assert!(requests <= 2 * one_by_one + 8 * concurrency as u64, "{requests} for {one_by_one}");
    }
}

async fn walked(api: Api, asking: &Asking, concurrency: usize) -> (Arc<Stage>, Walk, PollReport) {
    let tables = asking.tables(api.size, concurrency);
    let stage = api.stage();
    let walk = Walk::scripted(stage.clone(), &tables);
    let report = walk.fine().await;
    (stage, walk, report)
}

#[tokio::test(start_paused = true)]
async fn a_long_list_takes_as_many_turns_as_it_must() {
    let api = Api { total: 200, size: 10, latency_ms: vec![1_000], ..Api::default() };
    for (concurrency, seconds, at_once) in [(1, 21, 1), (2, 12, 2), (4, 8, 4), (8, 6, 8)] {
        let (stage, walk, report) = walked(api.clone(), &Asking::plain(), concurrency).await;
        assert_eq!((report.accepted, report.pages), (200, 21));
        assert_eq!(walk.events().len(), 200);
        let passed = stage.began.elapsed().as_secs();
        assert!(passed <= seconds, "{concurrency} at once: {passed} seconds");
        assert_eq!(stage.most_at_once(), at_once, "{concurrency} at once");
        // Those behind the end are thrown away, and counted.
        assert_eq!(report.requests, stage.times().len() as u64);
        assert!(report.requests < 21 + concurrency as u64, "{report:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_list_costs_no_request_in_vain() {
    for (total, requests) in [(0, 1), (9, 1), (10, 2), (19, 2)] {
        let api = Api { total, size: 10, latency_ms: vec![1_000], ..Api::default() };
        let (_, _, report) = walked(api, &Asking::plain(), 8).await;
        assert_eq!(report.requests, requests, "{total} records");
    }
    // Nor does one whose pages say how many there are.
    let stop = Some("{{ page.number >= response.body.pages }}");
    let api = Api { total: 95, size: 10, latency_ms: vec![1_000], ..Api::default() };
    let (stage, _, report) = walked(api, &Asking { stop, ..Asking::plain() }, 8).await;
    assert_eq!((report.requests, report.pages), (10, 10));
    assert!(stage.most_at_once() > 3);
}

#[tokio::test(start_paused = true)]
async fn an_api_in_trouble_sees_one_request_at_a_time() {
    let moods = [(6, Mood::Passing(429, Some(10), 2)), (7, Mood::Passing(503, None, 1))];
    let moods = moods.into_iter().collect();
    let api = Api { total: 300, size: 10, moods, latency_ms: vec![1_000], ..Api::default() };
    let (stage, walk, report) = walked(api, &Asking::plain(), 8).await;
    assert_eq!((report.accepted, report.pages), (300, 31));
    assert_eq!(walk.keys()[..2], ["r1", "r2"]);
    let times = stage.times();
    let first = times.iter().position(|(_, page)| *page == 6).unwrap();
    let refused_at = times[first].0 + 1;
    // What was on its way arrives; then there is peace for as long as was asked for, and but one who
    // asks whether it is over.
    let later: Vec<_> = times.iter().filter(|(at, _)| *at >= refused_at).collect();
    assert!(later[0].0 >= refused_at + 10, "{times:?}");
    assert!(later[1].0 >= later[0].0 + 11, "{times:?}");
    let again = later.iter().filter(|(_, page)| *page == 6).count();
    assert_eq!(again, 2, "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn what_the_api_still_allows_is_not_asked_for_at_once() {
    let headers = vec![("x-ratelimit-remaining", "2"), ("x-ratelimit-reset", "60")];
    let api = Api { total: 100, size: 10, latency_ms: vec![1_000], headers, ..Api::default() };
    let (stage, _, _) = walked(api, &Asking::plain(), 8).await;
    assert_eq!(stage.most_at_once(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_held_has_a_limit() {
    // Two of them, as long again as any so far, would not fit.
    let note = "x".repeat(1 << 20);
    let api = Api { total: 100, size: 10, latency_ms: vec![1_000], note, ..Api::default() };
    let (stage, walk, _) = walked(api, &Asking::plain(), 8).await;
    assert_eq!((walk.events().len(), stage.most_at_once()), (100, 2));
}

#[tokio::test(start_paused = true)]
async fn a_page_that_needs_more_room_than_was_foreseen_is_asked_for_again() {
    struct Growing(Mutex<Vec<(usize, usize)>>);
    impl Script for Growing {
        fn answer(
            &self,
            _peer: &Peer,
            request: Request<Bytes>,
            limits: ExchangeLimits,
        ) -> BoxFuture<'_, Result<Answer, EgressError>> {
            let page = request.uri().query().unwrap().strip_prefix("page=").unwrap();
            let page: usize = page.parse().unwrap();
            self.0.lock().push((page, limits.max_response_bytes));
            let length = if page == 5 { 400_000 } else { 1_000 };
            let records: Vec<_> = (0..2 * usize::from(page < 8))
                .map(|n| json!({ "id": format!("{page}.{n}"), "note": "x".repeat(length) }))
                .collect();
            let body = json!({ "records": records }).to_string().into();
            let answer = Answer { status: StatusCode::OK, headers: HeaderMap::new(), body };
            Box::pin(async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok(answer)
            })
        }
    }
    let script = Arc::new(Growing(Mutex::default()));
    let walk = Walk::scripted(script.clone(), &Asking::plain().tables(2, 4));
    let report = walk.fine().await;
    assert_eq!((report.accepted, report.pages), (14, 8));
    let asked = script.0.lock();
    let of_five: Vec<_> = asked.iter().filter(|(page, _)| *page == 5).collect();
    assert_eq!(of_five.len(), 2, "{asked:?}");
    assert!(of_five[0].1 < 800_000 && of_five[1].1 > 800_000, "{asked:?}");
    assert_eq!(report.requests, asked.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_with_refused_credentials_is_sent_again_with_new_ones() {
    /// Tokens are good for five pages, and are counted.
    struct Strict {
        api: Api,
        tokens: Mutex<usize>,
        asked: Mutex<Vec<(usize, usize)>>,
    }
    impl Script for Strict {
        fn answer(
            &self,
            peer: &Peer,
            request: Request<Bytes>,
            _limits: ExchangeLimits,
        ) -> BoxFuture<'_, Result<Answer, EgressError>> {
            let ok = |body: Value| Answer {
                status: StatusCode::OK,
                headers: HeaderMap::new(),
                body: body.to_string().into(),
            };
            let answer = if request.uri().path() == "/login" {
                assert!(!matches!(peer, Peer::Destination(_)));
                let mut tokens = self.tokens.lock();
                *tokens += 1;
                Ok(ok(json!({ "token": tokens.to_string() })))
            } else {
                let bearer = request.headers()["authorization"].to_str().unwrap();
                let token: usize = bearer.strip_prefix("Bearer ").unwrap().parse().unwrap();
                let query = request.uri().query().unwrap();
                let page: usize = query.strip_prefix("page=").unwrap().parse().unwrap();
                self.asked.lock().push((page, token));
                let answer = self.api.answer(page - 1, 0, 0);
                if page > 5 * token {
                    Ok(Answer { status: StatusCode::UNAUTHORIZED, ..answer.unwrap() })
                } else {
                    answer
                }
            };
            Box::pin(async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                answer
            })
        }
    }
    let api = Api { total: 119, size: 10, ..Api::default() };
    let script = Arc::new(Strict { api, tokens: Mutex::default(), asked: Mutex::default() });
    let login = "concurrency = 8\nauth = \"api\"\n[auth.api]\ntype = \"login\"\ntoken = \"$.token\"\n\
                 [auth.api.request]\npath = \"/login\"\n";
    let tables = Asking::plain().tables(10, 8).replacen("concurrency = 8\n", "", 1);
    let (on, stream) = tables.split_at(tables.find("[stream").unwrap());
    let login = login.replacen("[auth", &format!("{on}[auth"), 1);
    let walk = Walk::scripted(script.clone(), &format!("{login}{stream}"));
    let report = walk.fine().await;
    assert_eq!((report.accepted, report.pages), (119, 12));
    // Two were spent, so two were fetched anew, whatever was on its way.
    assert_eq!(*script.tokens.lock(), 3);
    let asked = script.asked.lock();
    assert!(asked.iter().any(|(page, token)| *page > 6 && *token == 1), "{asked:?}");
    assert_eq!(report.requests, asked.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn partitions_come_before_pages() {
    let each = |values: &str| {
        let tables = Asking::plain().tables(10, 4);
        tables.replace(
            "path = \"/orders\"",
            &format!("each = {{ shop = {values} }}\npath = \"/{{{{ each.shop }}}}\""),
        )
    };
    let api = Api { total: 95, size: 10, latency_ms: vec![1_000, 1_400, 700], ..Api::default() };
    for (values, at_once) in
        [("[\"a\"]", 4), ("[\"a\", \"b\"]", 4), ("[\"a\", \"b\", \"c\", \"d\", \"e\"]", 4)]
    {
        let stage = api.clone().stage();
        let walk = Walk::scripted(stage.clone(), &each(values));
        walk.fine().await;
        assert_eq!(stage.most_at_once(), at_once, "{values}");
    }
    // Where there are as many partitions as requests, none is asked for ahead: none is in vain.
    let stage = api.stage();
    let walk = Walk::scripted(stage.clone(), &each("[1, 2, 3, 4]"));
    let report = walk.fine().await;
    assert!(report.requests <= 40 + 3, "{report:?}");
}
