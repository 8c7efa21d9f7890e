use serde_json::json;

use super::*;

fn of_sample(response: Value) -> Proposal {
    propose(&Evidence { response, ..Evidence::default() }).expect("a proposal")
}

fn shown(proposal: &Proposal) -> [Option<&str>; 4] {
    [
        Some(proposal.stream.as_str()),
        proposal.records.value.as_deref(),
        proposal.key.value.as_deref(),
        proposal.revision.value.as_deref(),
    ]
}

#[test]
fn records_key_and_revision_are_found() {
    let record =
        |id: u32| json!({ "id": id, "customer_id": 7, "updated_at": "2026-01-01T00:00:00Z" });
    let check = |response, expected: [Option<&str>; 4]| {
        let proposal = of_sample(response);
        assert_eq!(shown(&proposal), expected);
    };
    let moved = Some("$.updated_at | timestamp");
    check(json!([record(1), record(2)]), [Some("records"), None, Some("$.id"), moved]);
    check(
        json!({ "orders": [record(1), record(2)], "errors": [{ "id": 1 }] }),
        [Some("orders"), Some("$.orders[*]"), Some("$.id"), moved],
    );
    check(
        json!({ "meta": { "next": null }, "data": { "lineItems": [{ "a": 1 }], "items": [record(1)] } }),
        [Some("records"), Some("$.data.items[*]"), Some("$.id"), moved],
    );
    // One record that has lists is still one record.
    check(
        json!({ "id": "a", "line_items": [record(1)], "lastModifiedDate": 1_767_225_600_u32 }),
        [Some("records"), None, Some("$.id"), Some("$.lastModifiedDate | timestamp")],
    );
    // What is not unique names nothing.
    check(
        json!({ "odd rows": [{ "id": 1, "sku": "a", "version": 1 }, { "id": 1, "sku": "b", "version": 2 }] }),
        [Some("odd_rows"), Some("$['odd rows'][*]"), Some("$.sku"), Some("$.version | integer")],
    );
    check(json!([{ "at": [1] }]), [Some("records"), None, None, None]);
}

#[test]
fn an_answer_without_records_says_so() {
    for nothing in [json!([]), json!({}), json!(3), json!(["a"])] {
        assert!(
            propose(&Evidence { response: nothing.clone(), ..Evidence::default() }).is_err(),
            "{nothing}"
        );
    }
}

fn page_of(beside: Value, params: &[&str]) -> (Option<PageGuess>, bool) {
    let mut response = beside;
    response["data"] = json!([{ "id": 1, "next": "no", "page": 9 }]);
    let params = params
        .iter()
        .map(|name| Param {
            name: (*name).to_owned(),
            required: false,
            value: None,
            maximum: Some(250),
        })
        .collect();
    let evidence = Evidence { response, params: Some(params), ..Evidence::default() };
    let page = propose(&evidence).expect("a proposal").page;
    (page.value, page.is_sure)
}

#[test]
fn ways_of_paging_are_told_apart() {
    let check = |beside, params: &[&str], by, param: Option<&str>, next: Option<&str>, sure| {
        let shown = format!("{beside} {params:?}");
        let (page, is_sure) = page_of(beside, params);
        let page = page.unwrap_or_else(|| panic!("no page in {shown}"));
        assert_eq!(
            (page.by, page.param.as_deref(), page.next.as_deref(), is_sure),
            (by, param, next, sure),
            "{shown}"
        );
    };
    check(json!({ "next": "https://a.example/2" }), &[], "next", None, Some("$.next"), true);
    check(
        json!({ "links": { "next": { "href": "/2" } } }),
        &[],
        "next",
        None,
        Some("$.links.next.href"),
        true,
    );
    check(
        json!({ "@odata.nextLink": "https://a.example" }),
        &[],
        "next",
        None,
        Some("$['@odata.nextLink']"),
        true,
    );
    check(json!({ "next_page_url": null }), &[], "next", None, Some("$.next_page_url"), false);
    check(
        json!({ "meta": { "next_cursor": "abc" } }),
        &["cursor"],
        "cursor",
        Some("cursor"),
        Some("$.meta.next_cursor"),
        true,
    );
    check(
        json!({ "nextPageToken": "abc" }),
        &[],
        "cursor",
        Some("pageToken"),
        Some("$.nextPageToken"),
        false,
    );
    check(json!({ "offset": 0, "limit": 50 }), &[], "offset", Some("offset"), None, false);
    check(json!({ "total": 3 }), &["page", "per_page"], "page", Some("page"), None, true);
    check(json!({ "current_page": 0, "per_page": 20 }), &[], "page", Some("page"), None, false);
    assert_eq!(page_of(json!({ "total": 3 }), &["status"]), (None, false));

    let (page, _) = page_of(json!({}), &["pageSize", "page"]);
    let page = page.expect("a page");
    assert_eq!((page.size, page.size_param.as_deref()), (Some(250), Some("pageSize")));
    let (page, _) = page_of(json!({ "current_page": 0, "per_page": 20 }), &[]);
    let page = page.expect("a page");
    assert_eq!(
        (page.first, page.size, page.size_param.as_deref()),
        (Some(0), Some(20), Some("per_page"))
    );
}

#[test]
fn fields_become_what_they_look_like() {
    let map = of_sample(json!([
        {
            "id": 1, "total_price": "129.90", "tax": 9.5, "amount_cents": 100, "weight": "1.5",
            "created_at": "2026-01-01T00:00:00+02:00", "local": "2026-01-01 10:00:00", "day": "2026-01-01",
            "paidAt": 1_767_225_600, "note": "x", "customer": { "e mail": "a", "since": null },
            "lines": [{ "sku": "a", "price": "1.0" }, { "sku": "b" }], "tags": ["a"], "*": 1,
        },
        {
            "id": 2, "total_price": null, "tax": 1, "amount_cents": 100, "weight": "1.5",
            "created_at": "2026-01-01T00:00:00Z", "local": "2026-01-01 10:00:00", "day": "2026-01-01",
            "paidAt": 1_767_225_601, "customer": { "e mail": "a", "since": "2026-01-01T00:00:00Z" },
            "lines": [], "tags": [], "*": 1,
        },
    ]))
    .map;
    let shown: Vec<String> = map
        .fields
        .iter()
        .map(|field| format!("{} = {}", field.target.join("."), field.expression))
        .collect();
    assert_eq!(
        shown,
        [
            "id = $.id",
            "total_price = $.total_price | decimal | optional",
            "tax = $.tax | decimal",
            "amount_cents = $.amount_cents",
            "weight = $.weight",
            "created_at = $.created_at | timestamp",
            "local = $.local",
            "day = $.day",
            "paidAt = $.paidAt | timestamp",
            "note = $.note | optional",
            "customer.e mail = $.customer['e mail']",
            "customer.since = $.customer.since | timestamp | optional",
            "lines = $.lines[*] | apply('line')",
            "tags = $.tags",
            "* = $['*']",
        ]
    );
    let looks: Vec<&str> =
        map.fields.iter().filter(|f| f.look.is_some()).map(|f| f.target[0].as_str()).collect();
    assert_eq!(looks, ["local"]);
    let line: Vec<&str> = map.named["line"].iter().map(|field| field.expression.as_str()).collect();
    assert_eq!(line, ["$.sku", "$.price | decimal | optional"]);
}

fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "servers": [{ "url": "https://{region}.api.example/v2/", "variables": { "region": { "default": "eu" } } }],
        "security": [{ "key": [] }],
        "paths": {
            "/shops/{shopId}/orders": {
                "parameters": [{ "in": "path", "name": "shopId", "schema": { "type": "string", "example": "acme" } }],
                "get": {
                    "summary": "Lists orders",
                    "parameters": [
                        { "$ref": "#/components/parameters/Limit" },
                        { "in": "query", "name": "cursor", "schema": { "type": "string" } },
                        { "in": "query", "name": "updated_after", "schema": { "type": "string" } },
                        { "in": "query", "name": "status", "required": true, "schema": { "enum": ["any", "open"] } },
                    ],
                    "responses": { "200": { "content": { "application/json": { "schema": {
                        "type": "object",
                        "properties": {
                            "orders": { "type": "array", "items": { "$ref": "#/components/schemas/Order" } },
                            "next_cursor": { "type": ["string", "null"] },
                        },
                    } } } } },
                },
            },
            "/health": { "get": {} , "post": {} },
            "/write": { "post": {} },
        },
        "components": {
            "parameters": { "Limit": { "in": "query", "name": "limit", "schema": { "type": "integer", "maximum": 200 } } },
            "schemas": {
                "Order": {
                    "required": ["id", "updated_at", "parent"],
                    "allOf": [{ "required": ["id"], "properties": { "id": { "type": "string", "format": "uuid" } } }],
                    "properties": {
                        "total": { "type": "string", "format": "decimal" },
                        "updated_at": { "type": "string", "format": "date-time" },
                        "parent": { "oneOf": [{ "$ref": "#/components/schemas/Order" }, { "type": "null" }] },
                        "secret": { "type": "string", "writeOnly": true },
                    },
                },
            },
            "securitySchemes": { "key": { "type": "apiKey", "in": "header", "name": "X-Key" } },
        },
    })
}

#[test]
fn a_document_says_what_a_sample_cannot() {
    let operation =
        openapi::read(&document().to_string(), Some("shops/{shopId}/orders")).expect("read");
    assert_eq!(operation.base.as_deref(), Some("https://eu.api.example/v2"));
    assert_eq!(operation.path, "/shops/{{ vars.shop_id }}/orders");
    assert_eq!(operation.vars, [("shop_id".to_owned(), "acme".to_owned())]);
    let proposal = propose(&operation.evidence).expect("a proposal");
    assert_eq!(
        shown(&proposal),
        [Some("orders"), Some("$.orders[*]"), Some("$.id"), Some("$.updated_at | timestamp")]
    );
    let page = proposal.page.value.expect("a page");
    assert_eq!((page.by, page.param.as_deref(), page.size), ("cursor", Some("cursor"), Some(200)));
    let cursor = proposal.cursor.value.expect("a cursor");
    assert_eq!(cursor.start_param.as_deref(), Some("updated_after"));
    let auth = proposal.auth.value.expect("auth");
    assert_eq!(auth.keys[1], ("name", AuthValue::Text("X-Key".to_owned())));
    let status = operation.evidence.params.unwrap_or_default().into_iter().find(|p| p.required);
    assert_eq!(status.and_then(|param| param.value).as_deref(), Some("any"));
    let expressions: Vec<&str> =
        proposal.map.fields.iter().map(|field| field.expression.as_str()).collect();
    assert!(expressions.contains(&"$.total | decimal | optional"), "{expressions:?}");
    assert!(!expressions.iter().any(|one| one.contains("secret")), "{expressions:?}");
}

#[test]
fn a_document_that_does_not_serve_says_what_would() {
    let check = |text: &str, path: Option<&str>, words: &str| {
        let said = openapi::read(text, path).expect_err(words);
        assert!(said.contains(words), "{said}");
    };
    let text = document().to_string();
    check("openapi: 3.0.0\npaths: {}\n", None, "yq -o=json");
    check(r#"{"swagger": "2.0"}"#, None, "Swagger 2.0");
    check("{}", None, "expected an OpenAPI 3.0 or 3.1");
    check(&text, None, "--path PATH; those with a GET: /shops/{shopId}/orders, /health");
    check(&text, Some("/helth"), "did you mean /health?");
    check(&text, Some("/write"), "has no GET");
}
