use std::time::Duration;

use serde_json::json;

use super::*;
use crate::{
    ingest::poll::{
        page::Pages,
        testing::{of_request, of_response},
    },
    map::Tree,
    plan::{CursorFormat, CursorPlan, DecodePlan, PagePlan, Sorted},
};

fn plan(url: &str, by: PageBy) -> PollPlan {
    PollPlan {
        method: Method::GET,
        url: of_request(url),
        query: Vec::new(),
        headers: Vec::new(),
        body: None,
        auth: None,
        records: None,
        each: Vec::new(),
        detail: Vec::new(),
        job: None,
        decode: DecodePlan::default(),
        page: PagePlan { by, size: None, size_param: None, stop: None, max: None },
        cursor: None,
        on: Vec::new(),
        timeout: Duration::from_secs(30),
        max_response_bytes: 1 << 20,
        rate: Vec::new(),
        concurrency: 1,
    }
}

fn pairs(entries: &[(&str, &str)]) -> Vec<(String, Expr)> {
    entries.iter().map(|(name, value)| ((*name).to_owned(), of_request(value))).collect()
}

fn position(token: Option<Value>) -> Position {
    Position { number: 3, offset: 200, token, url: None }
}

fn ask(plan: &PollPlan, position: &Position, window: &Window) -> Result<Asked, RequestError> {
    let vars = Arc::new(json!({ "shop": "acme & co" }));
    let now = Timestamp::parse_rfc3339("2026-11-22T10:00:00Z").unwrap();
    build(plan, &Ask { vars: &vars, now, window, position, each: None, record: None, job: None })
}

fn uri(plan: &PollPlan, position: &Position) -> String {
    ask(plan, position, &Window::open()).unwrap().request.uri().to_string()
}

#[test]
fn queries_are_merged_and_encoded() {
    let mut plan = plan("https://api.example/v1/orders?fixed=1&status=open", PageBy::None);
    assert_eq!(uri(&plan, &position(None)), "https://api.example/v1/orders?fixed=1&status=open");
    plan.query = pairs(&[
        ("status", "any"),
        ("shop", "{{ vars.shop }}"),
        ("order", "updated_at asc"),
        ("é+", "a,b/c:d"),
    ]);
    assert_eq!(
        uri(&plan, &position(None)),
        "https://api.example/v1/orders?fixed=1&status=any&shop=acme%20%26%20co\
         &order=updated_at%20asc&%C3%A9%2B=a%2Cb%2Fc%3Ad"
    );
}

#[test]
fn each_style_puts_its_parameters() {
    let mut by_page =
        plan("https://a.example/x", PageBy::Page { param: Some("page".to_owned()), first: 1 });
    by_page.page.size = Some(50);
    by_page.page.size_param = Some("limit".to_owned());
    assert_eq!(uri(&by_page, &position(None)), "https://a.example/x?limit=50&page=3");
    let by_offset = plan("https://a.example/x", PageBy::Offset { param: Some("skip".to_owned()) });
    assert_eq!(uri(&by_offset, &position(None)), "https://a.example/x?skip=200");
    let by = PageBy::Cursor { next: of_response("$.next"), param: Some("after".to_owned()) };
    let mut by_cursor = plan("https://a.example/x", by);
    assert_eq!(uri(&by_cursor, &position(None)), "https://a.example/x");
    assert_eq!(uri(&by_cursor, &position(Some(json!("a=b")))), "https://a.example/x?after=a%3Db");
    // Where the token is placed by hand it is left out while there is none.
    by_cursor.page.by = PageBy::Cursor { next: of_response("$.next"), param: None };
    by_cursor.query = pairs(&[("from", "{{ page.token }}"), ("n", "{{ page.number }}")]);
    assert_eq!(uri(&by_cursor, &position(None)), "https://a.example/x?n=3");
    assert_eq!(uri(&by_cursor, &position(Some(json!(7)))), "https://a.example/x?from=7&n=3");
}

#[test]
fn a_list_is_the_same_parameter_several_times() {
    let mut plan = plan("https://a.example/x", PageBy::None);
    plan.query = pairs(&[("s[]", "{{ ['a', 2, true] }}"), ("none", "{{ [] }}"), ("z", "1")]);
    assert_eq!(
        uri(&plan, &position(None)),
        "https://a.example/x?s%5B%5D=a&s%5B%5D=2&s%5B%5D=true&z=1"
    );
}

#[test]
fn a_next_url_is_sent_as_it_is() {
    let mut plan = plan("https://a.example/x", PageBy::Link);
    plan.query = pairs(&[("status", "any")]);
    let mut next = position(None);
    next.url = Some(Url::parse("https://a.example/x?cursor=%7Babc%7D").unwrap());
    assert_eq!(uri(&plan, &next), "https://a.example/x?cursor=%7Babc%7D");
}

#[test]
fn the_window_is_told_in_the_cursors_format() {
    let mut plan = plan("https://a.example/x", PageBy::None);
    plan.cursor = Some(Box::new(CursorPlan {
        field: None,
        format: CursorFormat::EpochSeconds,
        start: None,
        start_param: Some("since".to_owned()),
        end_param: Some("until".to_owned()),
        window: None,
        lookback: None,
        sorted: Sorted::No,
        filter: false,
        also: Vec::new(),
        until: None,
        oldest: None,
    }));
    plan.query = pairs(&[("q", "{{ window.start }}..{{ window.end }}"), ("since", "0")]);
    let at = |text: &str| Some(CursorValue::Instant(text.parse().unwrap()));
    let window =
        Window { start: at("2025-01-01T00:00:00Z"), end: at("2025-01-31T23:59:59Z"), last: false };
    let uri = ask(&plan, &position(None), &window).unwrap().request.uri().to_string();
    assert_eq!(
        uri,
        "https://a.example/x?q=1735689600..1738367999&since=1735689600&until=1738367999"
    );
}

#[test]
fn bodies_are_json_or_a_form() {
    let mut plan = plan("https://a.example/x", PageBy::None);
    plan.method = Method::POST;
    plan.body = Some(RequestBody::Json(Tree::Table(vec![
        ("after".to_owned(), Tree::Leaf(of_request("{{ page.token }}"))),
        ("page".to_owned(), Tree::Leaf(of_request("{{ page.number }}"))),
        ("limit".to_owned(), Tree::Constant(Box::new(json!(10)))),
    ])));
    let asked = ask(&plan, &position(None), &Window::open()).unwrap().request;
    assert_eq!(asked.headers()["content-type"], "application/json");
    assert_eq!(&asked.body()[..], br#"{"page":3,"limit":10}"#);
    plan.body = Some(RequestBody::Form(pairs(&[("a b", "c&d"), ("t", "{{ page.token }}")])));
    plan.headers = pairs(&[("Accept", "text/json"), ("X-Shop", "{{ vars.shop }}")]);
    let asked = ask(&plan, &position(None), &Window::open()).unwrap().request;
    assert_eq!(asked.headers()["content-type"], "application/x-www-form-urlencoded");
    assert_eq!(&asked.body()[..], b"a%20b=c%26d");
    assert_eq!(asked.headers()["accept"], "text/json");
    assert_eq!(asked.headers()["x-shop"], "acme & co");
}

#[test]
fn what_cannot_be_sent_is_an_error() {
    let bad = |plan: &PollPlan| ask(plan, &position(None), &Window::open()).unwrap_err();
    assert!(matches!(bad(&plan("ftp://a.example/x", PageBy::None)), RequestError::BadUrl(_)));
    assert!(matches!(bad(&plan("/orders", PageBy::None)), RequestError::BadUrl(_)));
    let mut broken = plan("https://a.example/x", PageBy::None);
    broken.headers = pairs(&[("X-A", "a\nb: c")]);
    assert_eq!(bad(&broken), RequestError::BadHeader("X-A".to_owned()));
}

#[test]
fn a_description_has_no_values_of_the_query() {
    let url = Url::parse("https://user:pw@a.example/orders?api_key=s3cret&page=2#x").unwrap();
    assert_eq!(describe(&Method::GET, &url), "GET https://a.example/orders?api_key=…&page=…");
    let plan = PagePlan { by: PageBy::None, size: None, size_param: None, stop: None, max: None };
    assert_eq!(Pages::new(&plan).position().number, 1);
}
