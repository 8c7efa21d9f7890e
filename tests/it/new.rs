//! `tenon new`: whatever it is given, what it writes passes `check --deny warnings`, `test` and
//! `fmt --check`.

use std::{fs, path::Path};

use serde_json::json;

use crate::support::program::{Ran, run_in};

/// Exit code, stdout, stderr.
fn tenon(folder: &Path, line: &str) -> (i32, String, String) {
    let Ran { code, stdout, stderr } = run_in(folder, line);
    (code, stdout, stderr)
}

/// Writes it, and holds it to what is promised.
fn made(files: &[(&str, String)], flags: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let (code, stdout, stderr) = tenon(folder.path(), &format!("new acme-shop {flags}"));
    assert_eq!(
        (code, stdout.as_str()),
        (0, "acme-shop.toml\nfixtures/acme-shop.json\n"),
        "{flags}: {stderr}"
    );
    let text = fs::read_to_string(folder.path().join("acme-shop.toml")).unwrap();
    for line in [
        "check --deny warnings acme-shop.toml",
        "test acme-shop.toml",
        "fmt --check acme-shop.toml",
    ] {
        let (code, stdout, stderr) = tenon(folder.path(), line);
        assert_eq!(code, 0, "{flags}: {line}\n{stdout}{stderr}\n{text}");
        assert!(!line.starts_with("test") || stderr.contains("1 test: 1 passed"), "{stderr}");
    }
    text
}

fn orders() -> String {
    json!({
        "orders": [
            {
                "id": 1001, "name": "#1001", "total_price": "129.90", "updated_at": "2026-02-01T10:00:00+01:00",
                "created_at": "2026-01-31T10:00:00+01:00", "customer": { "id": 7, "email": "ada@example.com" },
                "line_items": [{ "sku": "A-1", "quantity": 2, "price": "64.95" }], "note": null,
            },
            {
                "id": 1002, "name": "#1002", "total_price": "9.00", "updated_at": "2026-02-02T10:00:00+01:00",
                "created_at": "2026-01-31T11:00:00+01:00", "customer": { "id": 8, "email": "b@example.com" },
                "line_items": [], "tags": "gift",
            },
        ],
        "next_page_token": "eyJ",
    })
    .to_string()
}

#[test]
fn from_flags_alone() {
    for flags in [
        "--webhook standard",
        "--webhook meta",
        "--webhook square",
        "--webhook postmark",
        "--webhook plaid",
        "--webhook none --to https://erp.example/orders --owner commerce",
        "--poll https://api.example/v1/orders?status=any&a=1&b=2&c=3",
        "--webhook github --poll https://api.example/v1/orders --to stdout",
    ] {
        made(&[], flags);
    }
}

#[test]
fn from_a_sample_of_the_answer() {
    let sample = || ("sample.json", orders());
    let text =
        made(&[sample()], "--poll https://api.example/orders.json --from-response sample.json");
    insta::assert_snapshot!("new_from_response", text);
    // What a webhook brings.
    let text = made(&[sample()], "--webhook shopify --from-response sample.json");
    assert!(text.contains("events = \"$.orders[*]\""), "{text}");
    let one =
        ("one.json", json!({ "id": "a b", "odd \"name\"": { "x.y": 1 }, "list": [] }).to_string());
    made(&[one], "--webhook none --from-response one.json");
}

#[test]
fn from_an_openapi_document() {
    let document = json!({
        "openapi": "3.0.3",
        "servers": [{ "url": "https://api.example/v2" }],
        "paths": {
            "/accounts/{account}/orders": { "get": {
                "summary": "List the \"orders\" of an account",
                "security": [{ "oauth": ["orders:read"] }],
                "parameters": [
                    { "in": "path", "name": "account", "required": true, "schema": { "type": "string" } },
                    { "in": "query", "name": "limit", "schema": { "type": "integer", "default": 20, "maximum": 100 } },
                    { "in": "query", "name": "page", "schema": { "type": "integer" } },
                    { "in": "query", "name": "modifiedSince", "schema": { "type": "string", "format": "date-time" } },
                    { "in": "query", "name": "view", "required": true, "schema": { "type": "string", "enum": ["full"] } },
                ],
                "responses": { "200": { "content": { "application/json": { "schema": {
                    "type": "object",
                    "properties": { "data": { "type": "array", "items": {
                        "type": "object",
                        "required": ["id", "modifiedAt", "lines"],
                        "properties": {
                            "id": { "type": "integer" },
                            "modifiedAt": { "type": "string", "format": "date-time" },
                            "total": { "type": "number" },
                            "shippedAt": { "type": "string", "format": "date-time", "nullable": true },
                            "lines": { "type": "array", "items": { "type": "object", "properties": { "sku": { "type": "string" } } } },
                        },
                    } } },
                } } } } },
            } },
        },
        "components": { "securitySchemes": { "oauth": { "type": "oauth2", "flows": { "clientCredentials": {
            "tokenUrl": "https://login.example/token", "scopes": { "orders:read": "reads" },
        } } } } },
    });
    let files = || [("api.json", document.to_string())];
    let text = made(
        &files(),
        "--from-openapi api.json --path /accounts/{account}/orders --owner commerce",
    );
    insta::assert_snapshot!("new_from_openapi", text);
    // The only path needs no name.
    made(&files(), "--from-openapi api.json --to https://erp.example/orders");
}

#[test]
fn nothing_is_overwritten_unless_somebody_insists() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("fixtures")).unwrap();
    fs::write(folder.path().join("fixtures/shop.json"), "mine").unwrap();
    let (code, _, stderr) = tenon(folder.path(), "new shop --webhook none");
    assert_eq!(code, 2);
    assert!(stderr.contains("fixtures/shop.json exists already"), "{stderr}");
    assert!(!folder.path().join("shop.toml").exists());
    assert_eq!(tenon(folder.path(), "new shop --webhook none --force").0, 0);
    assert_eq!(tenon(folder.path(), "new shop --webhook none --force").0, 0);
    assert_eq!(tenon(folder.path(), "test shop.toml").0, 0);
}

#[test]
fn what_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("api.yaml"), "openapi: 3.0.0\n").unwrap();
    fs::write(folder.path().join("empty.json"), "[]").unwrap();
    for (flags, words) in [
        ("--from-openapi api.yaml", "api.yaml: not a JSON document"),
        ("--from-openapi none.json", "none.json: "),
        (
            "--webhook none --from-response empty.json",
            "empty.json: the answer is a list without objects",
        ),
        ("--webhook none --path /x", "--from-openapi"),
    ] {
        let (code, _, stderr) = tenon(folder.path(), &format!("new shop {flags}"));
        assert_eq!(code, 2, "{flags}: {stderr}");
        assert!(stderr.contains(words), "{flags}: {stderr}");
        assert!(!folder.path().join("shop.toml").exists(), "{flags}");
    }
}
