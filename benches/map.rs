//! What mapping costs: each way of evaluating beside the way it replaces, and a whole record.
//!
//! Every figure is the median of five rounds, in nanoseconds; read the ratios, not the times.

use std::{hint::black_box, sync::Arc, time::Instant};

use jsonpath_rust::{parser::parse_json_path, query::js_path_process};
use serde_json::{Value, json};
use tenon::map::{Env, Expr, Library, Mapping, Place, Site, Tree};

const SITE: Site = Site { names: &["record", "vars"], root: Some("record"), lenient: false };
const ROUNDS: usize = 5;
const TURNS: u32 = 20_000;

fn record() -> Value {
    let line = |n: u32| json!({ "sku": format!("SKU-{n}"), "quantity": n, "price": format!("{n}.90"), "title": "A chair" });
    json!({
        "id": 1001, "name": "#1001", "created_at": "2026-11-20T10:00:00+01:00",
        "financial_status": "paid", "currency": "EUR", "total_price": "129.90",
        "customer": { "email": "ada@example.com", "first_name": "Ada", "last_name": "L", "phone": null },
        "shipping_address": { "city": "Berlin", "zip": "10115", "country": "DE", "street": "Allee 1" },
        "line_items": (1..6).map(line).collect::<Vec<_>>(),
        "note": "Please ring twice; the dog is friendly and the stairs are steep.", "tags": ["a", "b"],
    })
}

fn expr(text: &str, library: &Library) -> Expr {
    let place = Place { file: "bench.toml".into(), line: 1, path: "map".into() };
    Expr::compile(text, &SITE, place, library).expect("a bench's expressions compile")
}

fn mapping() -> Mapping {
    let mut library = Library::default();
    let leaves = |fields: &[(&str, &str)], library: &Library| {
        let leaf =
            |(name, text): &(&str, &str)| ((*name).to_owned(), Tree::Leaf(expr(text, library)));
        Tree::Table(fields.iter().map(leaf).collect())
    };
    let line = [("sku", "$.sku"), ("quantity", "$.quantity"), ("price", "$.price | decimal")];
    let line = leaves(&line, &library);
    library.maps.insert("line".to_owned(), Arc::new(line));
    let mut status = tenon::map::Lookup::default();
    status.entries.insert("paid".to_owned(), json!("settled"));
    library.lookups.insert("status".to_owned(), Arc::new(status));
    let fields = [
        ("id", "shopify:{{ record.id }}"),
        ("number", "$.name"),
        ("placed_at", "$.created_at | timestamp"),
        ("status", "$.financial_status | lookup('status')"),
        ("currency", "$.currency"),
        ("total", "$.total_price | decimal"),
        ("email", "$.customer.email | optional"),
        ("lines", "$.line_items[*] | apply('line')"),
    ];
    Mapping { rest: None, fields: leaves(&fields, &library) }
}

/// Nanoseconds a turn.
fn measure(mut turn: impl FnMut()) -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            (0..TURNS).for_each(|_| turn());
            start.elapsed().as_secs_f64() * 1e9 / f64::from(TURNS)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

fn compare(what: &str, ours: f64, theirs: (&str, f64)) {
    let (name, time) = theirs;
    println!("{what:<28} {ours:>9.0} ns   {name:<24} {time:>9.0} ns   ratio {:>6.1}", time / ours);
}

fn evaluate(text: &str, env: &Env) -> f64 {
    let expr = expr(text, &Library::default());
    measure(|| {
        black_box(expr.eval(env)).expect("a bench's expressions have a value");
    })
}

fn main() {
    let record = Arc::new(record());
    let env = Env::new()
        .with("record", Arc::clone(&record))
        .with("vars", Arc::new(json!({ "shop": "acme" })));
    for path in ["$.customer.email", "$.line_items[*].sku"] {
        let query = parse_json_path(path).expect("a bench's paths parse");
        let library = measure(|| {
            let found = js_path_process(&query, &*record).expect("they find nodes");
            black_box(found.into_iter().map(|node| node.val.clone()).collect::<Vec<_>>());
        });
        compare(path, evaluate(path, &env), ("jsonpath-rust", library));
    }
    for (native, engine) in [
        ("shop:{{ record.id }}", "{{ 'shop:' ~ record.id }}"),
        ("{{ record.customer.email }}", "{{ record.customer.email ~ '' }}"),
        (
            "{{ record.customer.first_name }} {{ record.customer.last_name }} {{ vars.shop }}",
            "{{ record.customer.first_name ~ ' ' ~ record.customer.last_name ~ ' ' ~ vars.shop }}",
        ),
    ] {
        let short: String = native.chars().take(27).collect();
        compare(&short, evaluate(native, &env), ("the template engine", evaluate(engine, &env)));
    }
    for text in ["$.total_price | decimal", "$.created_at | timestamp", "{{ record.id > 1000 }}"] {
        println!("{text:<28} {:>9.0} ns", evaluate(text, &env));
    }
    let mapping = mapping();
    let bytes = record.to_string();
    let map = measure(|| {
        let env =
            Env::new().with("record", Arc::clone(&record)).with("vars", Arc::new(Value::Null));
        black_box(mapping.apply(&env)).expect("the record maps");
    });
    let parse = measure(|| {
        black_box(serde_json::from_str::<Value>(&bytes)).expect("the record is JSON");
    });
    println!("{} bytes, 8 fields and 5 lines of 3", bytes.len());
    compare("mapping the record", map, ("parsing it", parse));
}
