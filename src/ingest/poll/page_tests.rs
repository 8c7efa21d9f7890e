use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::ingest::poll::{path::walk, testing::of_response};

fn plan(by: PageBy, size: Option<u64>) -> PagePlan {
    PagePlan { by, size, size_param: None, stop: None, max: None }
}

fn by_page() -> PageBy {
    PageBy::Page { param: Some("page".to_owned()), first: 1 }
}

fn by_offset() -> PageBy {
    PageBy::Offset { param: Some("offset".to_owned()) }
}

fn by_cursor() -> PageBy {
    PageBy::Cursor { next: of_response("$.meta.next"), param: Some("after".to_owned()) }
}

fn url(path: &str) -> Url {
    Url::parse("https://api.example/v1/").unwrap().join(path).unwrap()
}

/// A page of `items` items whose content is `content`.
fn said(items: usize, content: u128) -> Facts {
    Facts { items, content, pointer: Pointer::None, stop: None }
}

fn pointing(items: usize, content: u128, to: Value) -> Facts {
    Facts { pointer: Pointer::To(to), ..said(items, content) }
}

fn stopping(facts: Facts, stop: bool) -> Facts {
    Facts { stop: Some(stop), ..facts }
}

fn absent() -> Pointer {
    let document = json!({ "meta": { "cursor": "x" }, "data": [] });
    let members = ["meta".to_owned(), "next".to_owned()];
    Pointer::Absent(walk(&document, &members).unwrap_err())
}

/// The steps that a series of pages leads to, up to the first that is not `Next`.
fn steps(plan: &PagePlan, facts: &[Facts]) -> (usize, Result<Step, PageError>) {
    let mut pages = Pages::new(plan);
    for (index, facts) in facts.iter().enumerate() {
        match pages.advance(&url("orders"), facts) {
            Ok(Step::Next) => {}
            end => return (index + 1, end),
        }
    }
    (facts.len(), Ok(Step::Next))
}

#[test]
fn each_style_ends_where_the_language_says() {
    let done = |pages| (pages, Ok(Step::Done));
    for (name, plan, facts, expected) in [
        ("none: one", plan(PageBy::None, None), vec![said(9, 1)], done(1)),
        (
            "page: until one is empty",
            plan(by_page(), None),
            vec![said(2, 1), said(1, 2), said(0, 0)],
            done(3),
        ),
        (
            "page: a short page ends it where the size is known",
            plan(by_page(), Some(2)),
            vec![said(2, 1), said(1, 2)],
            done(2),
        ),
        (
            "page: more than asked for is not short",
            plan(by_page(), Some(2)),
            vec![said(3, 1), said(0, 2)],
            done(2),
        ),
        ("offset: empty", plan(by_offset(), None), vec![said(2, 1), said(0, 0)], done(2)),
        ("offset: short", plan(by_offset(), Some(3)), vec![said(3, 1), said(2, 2)], done(2)),
        (
            "cursor: no token",
            plan(by_cursor(), Some(2)),
            vec![pointing(2, 1, json!("a")), pointing(2, 2, json!(null))],
            done(2),
        ),
        (
            "cursor: an empty token is none",
            plan(by_cursor(), None),
            vec![pointing(2, 1, json!(7)), pointing(2, 2, json!(""))],
            done(2),
        ),
        (
            "cursor: false is none",
            plan(by_cursor(), None),
            vec![pointing(2, 1, json!(false))],
            done(1),
        ),
        (
            "cursor: a short page is not the end",
            plan(by_cursor(), Some(5)),
            vec![
                pointing(1, 1, json!("a")),
                pointing(1, 2, json!("b")),
                pointing(0, 0, json!("c")),
            ],
            done(3),
        ),
        (
            "cursor: the path may be absent from a page that is not full",
            plan(by_cursor(), Some(5)),
            vec![Facts { pointer: absent(), ..said(4, 1) }],
            done(1),
        ),
        (
            "cursor: the path may be absent from a later page",
            plan(by_cursor(), Some(2)),
            vec![pointing(2, 1, json!("a")), Facts { pointer: absent(), ..said(2, 2) }],
            done(2),
        ),
        (
            "stop: ends before the default would",
            plan(by_page(), Some(2)),
            vec![stopping(said(2, 1), false), stopping(said(2, 2), true)],
            done(2),
        ),
        (
            "stop: stands in for the default",
            plan(by_page(), Some(2)),
            vec![
                stopping(said(1, 1), false),
                stopping(said(0, 0), false),
                stopping(said(2, 2), true),
            ],
            done(3),
        ),
        (
            "stop: an empty page goes on where there is a token",
            plan(by_cursor(), None),
            vec![
                stopping(pointing(0, 0, json!("a")), false),
                stopping(pointing(1, 1, json!("b")), false),
                stopping(pointing(1, 2, json!(null)), false),
            ],
            done(3),
        ),
        (
            "offset: an empty page of unknown size leads nowhere",
            plan(by_offset(), None),
            vec![stopping(said(0, 0), false)],
            done(1),
        ),
    ] {
        assert_eq!(steps(&plan, &facts), expected, "{name}");
    }
}

#[test]
fn the_position_moves_by_raw_items() {
    let plan = plan(by_offset(), None);
    let mut pages = Pages::new(&plan);
    pages.advance(&url("x"), &said(40, 1)).unwrap();
    pages.advance(&url("x"), &said(17, 2)).unwrap();
    assert_eq!((pages.position().offset, pages.position().number), (57, 3));
}

#[test]
fn a_numbered_page_counts_its_items_too() {
    let plan = PagePlan { max: Some(10), ..plan(by_page(), Some(4)) };
    let mut pages = Pages::new(&plan);
    assert_eq!(pages.advance(&url("x"), &said(4, 1)), Ok(Step::Next));
    assert_eq!((pages.position().offset, pages.position().number), (4, 2));
    // The API gives ten: of the third page it would give two.
    assert_eq!(pages.advance(&url("x"), &said(4, 2)), Ok(Step::Deep));
}

#[test]
fn what_is_foreseen_is_where_full_pages_lead() {
    let plan = PagePlan { max: Some(12), ..plan(by_offset(), Some(4)) };
    let mut pages = Pages::new(&plan);
    let first = pages.position().clone();
    let second = pages.foresee(&first, 4).unwrap();
    pages.advance(&url("x"), &said(4, 1)).unwrap();
    assert_eq!(*pages.position(), second);
    let third = pages.foresee(&second, 4).unwrap();
    assert_eq!((third.offset, third.number), (8, 3));
    assert_eq!(pages.foresee(&third, 4), None, "beyond what the API gives");
    assert_eq!(Pages::new(&self::plan(by_offset(), None)).foresee(&first, 0), None);
    assert_eq!(Pages::new(&self::plan(by_cursor(), Some(4))).foresee(&first, 4), None);
}

#[test]
fn a_page_that_is_given_up_is_followed_by_the_next_one_and_two_by_none() {
    for (plan, expected) in [
        (plan(by_page(), Some(2)), Step::Next),
        (plan(by_page(), None), Step::Next),
        (plan(by_offset(), Some(2)), Step::Next),
        (plan(by_offset(), None), Step::Done),
        (plan(by_cursor(), Some(2)), Step::Done),
    ] {
        assert_eq!(Pages::new(&plan).skip(), Step::Done, "the first page: {plan:?}");
        let mut pages = Pages::new(&plan);
        pages.advance(&url("x"), &pointing(2, 1, json!("a"))).unwrap();
        assert_eq!(pages.skip(), expected, "{plan:?}");
        assert_eq!(pages.skip(), Step::Done, "{plan:?}");
    }
    let plan = plan(by_page(), Some(2));
    let mut pages = Pages::new(&plan);
    pages.advance(&url("x"), &said(2, 1)).unwrap();
    pages.skip();
    pages.advance(&url("x"), &said(2, 2)).unwrap();
    assert_eq!((pages.skip(), pages.position().offset), (Step::Next, 8));
}

#[test]
fn field_typo_in_the_token_path_is_an_error_that_lists_the_keys() {
    let full = Facts { pointer: absent(), ..said(1000, 1) };
    let (_, end) = steps(&plan(by_cursor(), Some(1000)), &[full]);
    insta::assert_snapshot!(end.unwrap_err(), @"the first page is full but names no next page: `$.meta.next` is not in the response: `$.meta` has `cursor` (write `| optional` behind `next` if a last page may lack it)");
}

#[test]
fn field_endless_next_is_an_error_and_never_a_loop() {
    // The server ignores the token.
    let same = pointing(2, 1, json!("a"));
    let (pages, end) = steps(&plan(by_cursor(), Some(2)), &vec![same; 10]);
    assert_eq!(pages, 2);
    insta::assert_snapshot!(end.unwrap_err(), @"the same page came again, asked for by the token at `$.meta.next`");
    // Tokens that go round in a circle.
    let circle: Vec<Facts> =
        (0..10).map(|n| pointing(2, n % 3, json!(format!("t{}", n % 3)))).collect();
    assert_eq!(steps(&plan(by_cursor(), None), &circle).0, 4);
    // The server ignores the page number.
    let (pages, end) = steps(&plan(by_page(), Some(2)), &vec![said(2, 1); 10]);
    assert_eq!((pages, end), (2, Err(PageError::Repeated { by: "page number 2".to_owned() })));
    // `stop` never holds.
    let empty = stopping(pointing(0, 0, json!("a")), false);
    let (pages, end) = steps(&plan(by_cursor(), None), &vec![empty; 5000]);
    assert_eq!((pages, end), (1000, Err(PageError::Endless)));
}

#[test]
fn the_same_token_with_another_page_goes_on() {
    let facts = [
        pointing(2, 1, json!("scroll")),
        pointing(2, 2, json!("scroll")),
        pointing(0, 0, json!("scroll")),
    ];
    assert_eq!(steps(&plan(by_cursor(), None), &facts), (3, Ok(Step::Done)));
}

#[test]
fn a_next_url_is_followed_within_the_origin_only() {
    let plan = plan(PageBy::Link, None);
    let follow = |target: &str| {
        let mut pages = Pages::new(&plan);
        let facts = pointing(1, 1, json!(target));
        pages.advance(&url("orders?page=1"), &facts)?;
        Ok(pages.position().url.as_ref().map(ToString::to_string))
    };
    for (target, expected) in [
        ("https://api.example/v1/orders?page=2", "https://api.example/v1/orders?page=2"),
        ("https://api.example:443/x", "https://api.example/x"),
        ("?page=2&q=a%20b", "https://api.example/v1/orders?page=2&q=a%20b"),
        ("/v2/orders#here", "https://api.example/v2/orders"),
        ("more", "https://api.example/v1/more"),
    ] {
        assert_eq!(follow(target), Ok(Some(expected.to_owned())), "{target}");
    }
    for target in [
        "https://evil.example/v1/orders",
        "http://api.example/v1/orders",
        "https://api.example:8443/x",
        "//evil.example/x",
        "https://api.example.evil.example/",
        "https://api.example@evil.example/",
        "data:text/plain,x",
    ] {
        let end: Result<Option<String>, PageError> = follow(target);
        assert!(matches!(end, Err(PageError::OtherOrigin { .. })), "{target}: {end:?}");
    }
    assert_eq!(follow("https://[x"), Err(PageError::NoUrl));
}

#[test]
fn a_token_is_text_or_a_number() {
    let (_, end) = steps(&plan(by_cursor(), None), &[pointing(1, 1, json!({ "a": 1 }))]);
    assert_eq!(end, Err(PageError::NotAToken("an object")));
    let (_, end) = steps(&plan(PageBy::Link, None), &[pointing(1, 1, json!(7))]);
    assert_eq!(end, Err(PageError::NotAToken("a number")));
}

/// A list API over `total` items, asked for `position` in pages of `size`.
fn answer(by: &PageBy, total: usize, size: usize, position: &Position) -> (Vec<usize>, Facts) {
    let from = match by {
        PageBy::Page { first, .. } => usize::try_from(position.number - first).unwrap() * size,
        PageBy::Offset { .. } => usize::try_from(position.offset).unwrap(),
        _ => position
            .token
            .as_ref()
            .map_or(0, |token| usize::try_from(token.as_u64().expect("our own token")).unwrap()),
    };
    let items: Vec<usize> = (from..total).take(size).collect();
    let next = from + items.len();
    let pointer = if next < total { Pointer::To(json!(next)) } else { Pointer::None };
    let content = u128::try_from(from).unwrap() + 1;
    let pointer = if matches!(by, PageBy::Cursor { .. }) { pointer } else { Pointer::None };
    let facts = Facts { items: items.len(), content, pointer, stop: None };
    (items, facts)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_item_is_read_once(
        total in 0usize..60, size in 1usize..12, knows_size: bool, style in 0usize..3,
    ) {
        let by = [by_page(), by_offset(), by_cursor()][style].clone();
        let plan = plan(by, knows_size.then_some(size as u64));
        let mut pages = Pages::new(&plan);
        let mut read: BTreeMap<usize, usize> = BTreeMap::new();
        let mut requests = 0;
        loop {
            let (items, facts) = answer(&plan.by, total, size, pages.position());
            for item in items {
                *read.entry(item).or_default() += 1;
            }
            requests += 1;
            if pages.advance(&url("x"), &facts) == Ok(Step::Done) {
                break;
            }
        }
        prop_assert_eq!(read.len(), total);
        prop_assert!(read.values().all(|times| *times == 1));
        prop_assert!(requests <= total / size + 2);
    }

    #[test]
    fn whatever_a_server_says_a_run_ends_or_sees_new_pages(
        pages_said in prop::collection::vec((0usize..3, 0u128..4, 0u8..4), 1..200), style in 0usize..3,
    ) {
        let by = [by_page(), by_offset(), by_cursor()][style].clone();
        let facts: Vec<Facts> = pages_said
            .into_iter()
            .map(|(items, content, token)| pointing(items, content, json!(token)))
            .collect();
        let plan = plan(by, None);
        let (pages, _) = steps(&plan, &facts);
        // Four contents by four tokens: no token style can go on longer than that.
        if style == 2 {
            prop_assert!(pages <= 17);
        }
    }
}
