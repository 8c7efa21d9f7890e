//! A small shop that is polled and that sends signed webhooks, an ERP that is down at first, and
//! the engine on `examples/quickstart/*.toml`. Ends on Ctrl-C.
//!
//!     cargo run --release --example quickstart

mod shop;

use std::{path::PathBuf, sync::Arc};

use tenon::{
    engine::{Engine, EngineOptions},
    plan::Settings,
    world::{StaticSecrets, SystemClock, SystemEntropy, World},
};
use tokio::net::TcpListener;

/// What the shop signs its webhooks with.
const SECRET: &str = "quickstart-secret";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    std::env::set_current_dir(env!("CARGO_MANIFEST_DIR"))?;
    let home = PathBuf::from("target/quickstart");
    // A fresh start each time, so that there is something to see.
    let _ = std::fs::remove_dir_all(&home);
    std::fs::create_dir_all(&home)?;

    let mut settings = Settings { state: home.join("state"), ..Settings::default() };
    settings.egress.allow.push("127.0.0.0/8".parse()?);
    settings.log.level = String::from("tenon=info");
    settings.log.json = false;
    tenon::observe::log::install(&settings.log)?;

    let shop = TcpListener::bind("127.0.0.1:7070").await?;
    let admin = TcpListener::bind(settings.admin).await?;
    let hooks = settings.listen;
    let engine = Engine::start(EngineOptions {
        paths: vec![PathBuf::from("examples/quickstart")],
        settings,
        world: World {
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy::new()),
            secrets: Arc::new(StaticSecrets::new([("SHOP_WEBHOOK", SECRET)])),
        },
    })
    .await?;
    let served = Arc::clone(&engine);
    engine.attach("admin", move |stop| tenon::admin::serve(served, admin, stop));
    engine.attach("shop", move |stop| shop::run(shop, hooks, SECRET, stop));

    println!("{GUIDE}");
    tokio::signal::ctrl_c().await?;
    let late = engine.shutdown().await;
    println!("stopped; late: {late:?}");
    Ok(())
}

const GUIDE: &str = "
  The shop holds 25 orders, sells a new one every 3 seconds and tells us by webhook; every fifth
  webhook comes twice, every seventh not at all: the poll finds it. One order has a total that is no
  number. The ERP answers 503 for the first 15 seconds.

  Look, in another terminal:
    cargo run --release -- status
    cargo run --release -- dlq list             the order that could not be mapped
    tail -f target/quickstart/orders.jsonl      what the file got
    curl -s 127.0.0.1:8081/metrics | grep tenon_events_total

  Try:
    edit a line of [stream.orders.map] in examples/quickstart/shop.toml and save: it is reloaded
    write \"$.totl\" for \"$.total\": the orders that follow become dead letters and say why
    write \"lookup('stats')\": the file does not compile, the old one goes on, status says why
    mend it, then replay: cargo run --release -- dlq replay --all

  Ctrl-C ends it.
";
