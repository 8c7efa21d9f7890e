//! Durable accepts against the same server on the memory bus: 64 connections, signed events of
//! 1 KiB, each answered once it is fsync'd. And accept → map → deliver, one request an event, beside
//! the bare producer → sink rate of the same minute and beside a bare forwarder: the same HTTP
//! library in and out, nothing verified, stored or mapped. Its CPU time is what HTTP alone costs
//! on this machine.

mod support;

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Command, Stdio},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use support::{Daemon, Server, cpu_of, fire, orders_connector, project};

const EVENTS: u64 = 100_000;
const CONNECTIONS: u64 = 64;
/// This program, run again with `forward ADDRESS`, is the bare forwarder.
const FORWARD: &str = "forward";

fn main() {
    if let Some(sink) = std::env::args().skip_while(|arg| arg != FORWARD).nth(1) {
        return forwarder(sink.parse().expect("an address"));
    }
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

    let forwarder_us = forwards();
    println!("bare forwarder: {forwarder_us:.1} us CPU an event");

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
         {cpu_us:.1} us CPU an event = {:.2} x the bare forwarder, {:.2} of the bare rate",
        fired.per_second,
        fired.p50,
        fired.p99,
        cpu_us / forwarder_us,
        delivered / bare.per_second
    );
}

/// CPU time an event of the bare forwarder, in microseconds.
fn forwards() -> f64 {
    let sink = Server::sink();
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command.args([FORWARD, &sink.address.to_string()]).stdout(Stdio::piped());
    let mut forwarder = command.spawn().expect("the forwarder starts");
    let mut line = String::new();
    let stdout = forwarder.stdout.take().expect("a pipe");
    BufReader::new(stdout).read_line(&mut line).expect("its address");
    let address = line.trim().parse().expect("an address");
    fire(address, "/orders", 0, EVENTS / 10, CONNECTIONS);
    let before = cpu_of(forwarder.id());
    fire(address, "/orders", 1_000_000, EVENTS, CONNECTIONS);
    sink.wait_for(EVENTS / 10 + EVENTS);
    let cpu = cpu_of(forwarder.id()).saturating_sub(before);
    forwarder.kill().expect("it still runs");
    forwarder.wait().expect("it ends");
    cpu.as_micros() as f64 / EVENTS as f64
}

/// Answers each request, then sends its body on.
#[allow(clippy::disallowed_methods)] // No engine here whose tasks would be lost.
#[tokio::main]
async fn forwarder(sink: SocketAddr) {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("{}", listener.local_addr().expect("an address"));
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        let client = client.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let client = client.clone();
            async move {
                let body = request.into_body().collect().await?.to_bytes();
                let onward = Request::post(format!("http://{sink}/in"))
                    .header("content-type", "application/json")
                    .body(Full::new(body))
                    .expect("a request");
                tokio::spawn(async move {
                    let answer = client.request(onward).await.expect("an answer");
                    answer.into_body().collect().await.expect("a body");
                });
                let answer = Response::builder().status(202);
                let body = Full::new(Bytes::from_static(br#"{"id":"evt"}"#));
                Ok::<_, hyper::Error>(answer.body(body).expect("a response"))
            }
        });
        tokio::spawn(async move {
            let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // How a connection ends is the client's business.
            let _ = served.await;
        });
    }
}
