//! What only shows on a socket: slow and greedy clients, connections kept, and the end.

use std::{net::SocketAddr, time::Duration};

use tenon::ingest::webhook::WebhookLimits;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::rig::{ORDER, ORDERS, Rig, limits};

/// A served rig; [`Served::end`] waits for the server's own end.
struct Served {
    rig: Rig,
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinSet<()>,
}

impl Served {
    async fn start(limits: WebhookLimits) -> Self {
        let rig = Rig::with_limits(ORDERS, limits);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let mut serving = JoinSet::new();
        serving.spawn(rig.server.clone().serve(listener, stop.clone()));
        Self { rig, address, stop, serving }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn end(self) -> Rig {
        self.stop.cancel();
        self.serving.join_all().await;
        self.rig
    }
}

fn post(body: &str) -> String {
    format!("POST /orders HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Everything until the server closes; a reset ends it, too.
async fn rest_of(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut chunk = [0; 1024];
    while let Ok(count @ 1..) = stream.read(&mut chunk).await {
        bytes.extend_from_slice(&chunk[..count]);
    }
    String::from_utf8(bytes).unwrap()
}

/// One answer: head and as much body as it announces.
async fn answer(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let announced = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= announced.map_or(0, |length| length.parse().unwrap()) {
                return text;
            }
        }
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).await.unwrap(), 1, "closed after: {text}");
        text.push(byte[0] as char);
    }
}

fn status_of(answer: &str) -> &str {
    answer.get(9..12).unwrap_or(answer)
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_request() {
    let served = Served::start(limits()).await;
    let mut stream = served.connect().await;
    for _ in 0..3 {
        stream.write_all(post(ORDER).as_bytes()).await.unwrap();
        assert_eq!(status_of(&answer(&mut stream).await), "202");
    }
    let chunked = format!(
        "POST /orders HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n\
         {:x}\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n",
        10,
        &ORDER[..10],
        ORDER.len() - 10,
        &ORDER[10..]
    );
    stream.write_all(chunked.as_bytes()).await.unwrap();
    assert_eq!(status_of(&answer(&mut stream).await), "202");
    drop(stream);
    assert_eq!(served.end().await.events().len(), 1);
}

/// Field trap 1: a deadline that covers the headers only lets a body take for ever.
#[tokio::test]
async fn trap_1_a_slow_body_is_cut_off() {
    let hasty = WebhookLimits { body_timeout: Duration::from_millis(50), ..limits() };
    let served = Served::start(hasty).await;
    let mut stream = served.connect().await;
    stream.write_all(&post(ORDER).as_bytes()[..70]).await.unwrap();
    let answer = rest_of(&mut stream).await;
    assert_eq!(status_of(&answer), "408");
    assert!(answer.ends_with(r#"{"error":"slow_body"}"#), "{answer}");
    assert!(served.end().await.events().is_empty());
}

#[tokio::test]
async fn slow_headers_are_cut_off() {
    let hasty = WebhookLimits { header_timeout: Duration::from_millis(50), ..limits() };
    let served = Served::start(hasty).await;
    let mut silent = served.connect().await;
    let mut slow = served.connect().await;
    slow.write_all(b"POST /orders HTTP/1.1\r\nhost: x\r\nx-endless: ").await.unwrap();
    for stream in [&mut silent, &mut slow] {
        assert!(!rest_of(stream).await.contains("HTTP/1.1 2"));
    }
    served.end().await;
}

#[tokio::test]
async fn headers_without_end_are_cut_off() {
    let served = Served::start(limits()).await;
    let mut stream = served.connect().await;
    let (mut reading, mut writing) = stream.split();
    let flood = async {
        let line = format!("x-pad: {}\r\n", "y".repeat(1000));
        writing.write_all(b"POST /orders HTTP/1.1\r\n").await.ok();
        while writing.write_all(line.as_bytes()).await.is_ok() {}
    };
    let mut head = [0; 12];
    let answered = reading.read_exact(&mut head);
    tokio::select! {
        () = flood => {}
        done = answered => { done.unwrap(); assert_eq!(&head, b"HTTP/1.1 431"); }
    }
    drop(stream);
    served.end().await;
}

#[tokio::test]
async fn an_oversized_body_is_refused_before_it_is_sent() {
    let served = Served::start(limits()).await;
    let mut announced = served.connect().await;
    let head = "POST /orders HTTP/1.1\r\nhost: x\r\ncontent-length: 5000\r\n\r\n";
    announced.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(status_of(&answer(&mut announced).await), "413");

    let mut chunked = served.connect().await;
    let head = "POST /orders HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1388\r\n";
    chunked.write_all(head.as_bytes()).await.unwrap();
    chunked.write_all(&[b' '; 5000]).await.unwrap();
    assert_eq!(status_of(&answer(&mut chunked).await), "413");
    served.end().await;
}

#[tokio::test]
async fn a_body_that_breaks_off_is_no_event() {
    let served = Served::start(limits()).await;
    let mut stream = served.connect().await;
    stream.write_all(&post(ORDER).as_bytes()[..70]).await.unwrap();
    stream.shutdown().await.unwrap();
    assert!(!rest_of(&mut stream).await.contains("HTTP/1.1 2"));
    assert!(served.end().await.events().is_empty());
}

#[tokio::test]
async fn a_connection_beyond_the_limit_is_turned_away() {
    let served = Served::start(WebhookLimits { max_connections: 1, ..limits() }).await;
    let mut first = served.connect().await;
    first.write_all(post(ORDER).as_bytes()).await.unwrap();
    assert_eq!(status_of(&answer(&mut first).await), "202");
    let mut second = served.connect().await;
    let turned_away = rest_of(&mut second).await;
    assert_eq!(status_of(&turned_away), "503");
    assert!(turned_away.contains("retry-after: 1\r\n"), "{turned_away}");
    assert!(turned_away.ends_with("\r\n\r\n{\"error\":\"busy\"}"), "{turned_away}");
    // The first is still served.
    first.write_all(post(ORDER).as_bytes()).await.unwrap();
    assert_eq!(status_of(&answer(&mut first).await), "202");
    drop(first);
    served.end().await;
}

#[tokio::test]
async fn a_stop_lets_requests_in_hand_finish() {
    let served = Served::start(limits()).await;
    let mut idle = served.connect().await;
    idle.write_all(post(ORDER).as_bytes()).await.unwrap();
    answer(&mut idle).await;
    let mut busy = served.connect().await;
    let body = r#"{"id":2,"updated_at":"2026-11-20T09:00:00Z"}"#;
    let head = post(body).replace("host: x\r\n", "host: x\r\nexpect: 100-continue\r\n");
    let (head, _) = head.split_once('{').unwrap();
    busy.write_all(head.as_bytes()).await.unwrap();
    // The server says so when it begins to read the body: the request is in hand.
    assert_eq!(status_of(&answer(&mut busy).await), "100");

    served.stop.cancel();
    assert_eq!(rest_of(&mut idle).await, "");
    busy.write_all(body.as_bytes()).await.unwrap();
    assert_eq!(status_of(&rest_of(&mut busy).await), "202");
    let address = served.address;
    assert_eq!(served.end().await.events().len(), 2);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn http_2_is_not_spoken() {
    let served = Served::start(limits()).await;
    let mut stream = served.connect().await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    assert!(!rest_of(&mut stream).await.contains("HTTP/1.1 2"));
    served.end().await;
}
