//! Durable accepts against the same server on the memory bus: 64 connections, signed events of
//! 1 KiB, each answered once it is fsync'd. And accept → map → deliver, one request an event, beside
//! the bare producer → sink rate of the same minute.

mod support;

use support::{Daemon, Server, fire, orders_connector, project};

const EVENTS: u64 = 100_000;
const CONNECTIONS: u64 = 64;

fn main() {
    accepts();
    delivers();
}

/// Accepts alone: the destination takes one event an hour, so that the rest waits in the journal.
fn accepts() {
    let mut rates = Vec::new();
    for (name, flags) in [("memory", &["--memory"][..]), ("fsync'd", &[])] {
        let connector = r#"
name = "bench"
version = "1.0.0"
owner = "bench"

[stream.orders]
key = "$.id"


[stream.orders.webhook]
path = "/orders"
verify = "github"
secret = "{{ secret.BENCH_HOOK }}"

[destination.none]
type = "stdout"
rate = "1/h"
"#;
        let (_folder, connectors, state) = project(connector);
        let daemon = Daemon::start(&connectors, &state, flags);
        fire(daemon.hooks, "/orders", 0, EVENTS / 10, CONNECTIONS);
        let cpu = daemon.cpu();
        let fired = fire(daemon.hooks, "/orders", 1_000_000, EVENTS, CONNECTIONS);
        let cpu_us = daemon.cpu().saturating_sub(cpu).as_micros() as f64 / EVENTS as f64;
        println!(
            "accept, {name:8}: {:>7.0}/s, ack p50 {:?}, p99 {:?}, {cpu_us:.1} us CPU an event",
            fired.per_second, fired.p50, fired.p99
        );
        rates.push(fired.per_second);
    }
    println!("accept, fsync'd / memory: {:.2}", rates[1] / rates[0]);
}

fn delivers() {
    let bare_sink = Server::sink();
    let bare = fire(bare_sink.address, "/in", 0, EVENTS, CONNECTIONS);
    println!("bare producer -> sink: {:.0}/s", bare.per_second);

    let sink = Server::sink();
    let (_folder, connectors, state) = project(&orders_connector(sink.address));
    let daemon = Daemon::start(&connectors, &state, &[]);
    fire(daemon.hooks, "/orders", 0, EVENTS / 10, CONNECTIONS);
    sink.wait_for(EVENTS / 10);
    let cpu = daemon.cpu();
    let began = std::time::Instant::now();
    let fired = fire(daemon.hooks, "/orders", 1_000_000, EVENTS, CONNECTIONS);
    sink.wait_for(EVENTS / 10 + EVENTS);
    let delivered = EVENTS as f64 / began.elapsed().as_secs_f64();
    let cpu_us = daemon.cpu().saturating_sub(cpu).as_micros() as f64 / EVENTS as f64;
    println!(
        "accept -> map -> deliver: {:.0}/s accepted, {delivered:.0}/s delivered, ack p50 {:?}, p99 {:?}, \
         {cpu_us:.1} us CPU an event, {:.2} of the bare rate",
        fired.per_second,
        fired.p50,
        fired.p99,
        delivered / bare.per_second
    );
}
