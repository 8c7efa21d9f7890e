//! The one HTTP client.

use std::{io::Write, time::Duration};

use flate2::{Compression, write::GzEncoder};
use tenon::egress::{Egress, EgressConfig, EgressError, ExchangeLimits};
use tokio::task::JoinSet;

use super::parts::{LIMITS, RawPeer, answer, egress, get, post, read_request};
use crate::support::{MockServer, Reply};

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn an_answer_comes_whole_and_the_request_says_who_asks() {
    let server = MockServer::scripted([
        Reply::text(201, "made").header("x-kind", "test"),
        Reply::text(204, ""),
    ])
    .await;
    let egress = egress();
    let made = egress.send(post(&server.url("/a/b?c=d"), "{}"), LIMITS).await.unwrap();
    assert_eq!((made.status.as_u16(), &made.body[..]), (201, &b"made"[..]));
    assert_eq!(made.headers["x-kind"], "test");
    let empty = egress.send(get(&server.url("")), LIMITS).await.unwrap();
    assert_eq!((empty.status.as_u16(), empty.body.len()), (204, 0));
    let seen = server.seen();
    assert_eq!((&*seen[0].method, &*seen[0].target, &*seen[0].text()), ("POST", "/a/b?c=d", "{}"));
    assert_eq!(seen[0].header("host"), Some(&*server.address().to_string()));
    assert!(seen[0].header("user-agent").unwrap().starts_with("tenon/"));
    assert_eq!(seen[0].header("accept-encoding"), Some("gzip"));
    assert_eq!(seen[1].target, "/");
}

#[tokio::test]
async fn nothing_private_is_dialled_unless_it_is_allowed() {
    let server = MockServer::scripted([]).await;
    let port = server.address().port();
    let egress = Egress::new(EgressConfig::default());
    for host in [
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "2130706433",
        "0177.0.0.1",
        "localhost",
        "localhost.",
        "127.0.0.1.",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "0.0.0.0",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "10.0.0.1",
        "100.64.0.1",
        "224.0.0.1",
    ] {
        let error = egress.send(get(&format!("http://{host}:{port}/")), LIMITS).await.unwrap_err();
        assert!(matches!(error, EgressError::Refused(_)), "{host}: {error}");
    }
    assert_eq!(server.seen(), []);
}

#[tokio::test]
async fn what_is_no_http_url_is_refused_without_showing_it() {
    for url in [
        "/relative?token=s3cret",
        "ftp://example.com/s3cret",
        "http://user:s3cret@example.com/",
        "http://[fe80::1%25eth0]/s3cret",
        "http://256.256.256.256/s3cret",
    ] {
        let Ok(request) = http::Request::get(url).body(bytes::Bytes::new()) else { continue };
        let error = egress().send(request, LIMITS).await.unwrap_err();
        assert!(matches!(error, EgressError::BadUrl(_)), "{url}: {error}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer() {
    let server = MockServer::scripted([
        Reply::text(302, "").header("location", "http://169.254.169.254/latest/meta-data"),
        Reply::text(308, "").header("location", "/elsewhere"),
    ])
    .await;
    for status in [302, 308] {
        let answer = egress().send(get(&server.url("/")), LIMITS).await.unwrap();
        assert_eq!(answer.status.as_u16(), status);
    }
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn connections_are_kept_and_shared() {
    let server = MockServer::start(|_| Reply::text(200, "ok")).await;
    let (one, other) = {
        let egress = egress();
        (egress.clone(), egress)
    };
    for _ in 0..5 {
        one.send(get(&server.url("/one")), LIMITS).await.unwrap();
        other.send(post(&server.url("/other"), "body"), LIMITS).await.unwrap();
    }
    assert!(server.seen().iter().all(|seen| seen.connection == 0));

    let mut together = JoinSet::new();
    for _ in 0..3 {
        for _ in 0..8 {
            let (egress, request) = (one.clone(), get(&server.url("/together")));
            together.spawn(async move { egress.send(request, LIMITS).await });
        }
        while let Some(done) = together.join_next().await {
            done.unwrap().unwrap();
        }
    }
    assert!(server.seen().iter().all(|seen| seen.connection < 8));
}

#[tokio::test]
async fn a_connection_that_the_peer_closes_is_not_kept() {
    let server = MockServer::start(|_| Reply::text(200, "ok").close()).await;
    let egress = egress();
    for expected in 0..3 {
        egress.send(get(&server.url("/")), LIMITS).await.unwrap();
        assert_eq!(server.seen()[expected].connection, expected);
    }
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_meanwhile_costs_nobody_an_error() {
    let (peer, other) = (RawPeer::bind().await, MockServer::start(|_| Reply::text(200, "")).await);
    let egress = egress();
    let serve = async {
        for _ in 0..2 {
            let mut socket = peer.accept().await;
            read_request(&mut socket).await.unwrap();
            answer(&mut socket, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
    };
    let ask = async {
        egress.send(post(&peer.url(), "1"), LIMITS).await.unwrap();
        // Another exchange, so that the end of the first connection has been heard of.
        egress.send(get(&other.url("/")), LIMITS).await.unwrap();
        egress.send(post(&peer.url(), "2"), LIMITS).await
    };
    let ((), second) = tokio::join!(serve, ask);
    assert_eq!(second.unwrap().status, 200);
}

#[tokio::test]
async fn trap_3_a_write_is_not_sent_again_when_its_connection_breaks() {
    // The peer takes the second request over a kept connection and dies without an answer.
    let peer = RawPeer::bind().await;
    let egress = egress();
    let serve = async {
        let mut socket = peer.accept().await;
        read_request(&mut socket).await.unwrap();
        answer(&mut socket, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        read_request(&mut socket).await.unwrap();
        drop(socket);
    };
    let ask = async {
        egress.send(post(&peer.url(), "1"), LIMITS).await.unwrap();
        egress.send(post(&peer.url(), "2"), LIMITS).await
    };
    // Sent again, it would wait in vain for somebody to accept the new connection.
    let ((), second) = tokio::join!(serve, ask);
    let error = second.unwrap_err();
    assert!(matches!(error, EgressError::Broken(_)), "{error}");
}

#[tokio::test]
async fn a_lost_answer_and_a_reset_are_broken_connections() {
    let server = MockServer::scripted([Reply::reset(), Reply::text(200, "whole").cut(2)]).await;
    for _ in 0..2 {
        let error = egress().send(post(&server.url("/"), "x"), LIMITS).await.unwrap_err();
        assert!(matches!(error, EgressError::Broken(_)), "{error:?}");
        assert!(!error.to_string().contains('\n'));
    }
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn nobody_listens() {
    let peer = RawPeer::bind().await;
    let url = peer.url();
    drop(peer);
    let error = egress().send(get(&url), LIMITS).await.unwrap_err();
    assert!(matches!(error, EgressError::Connect(_)), "{error:?}");
}

#[tokio::test]
async fn no_http_is_a_broken_connection() {
    let peer = RawPeer::bind().await;
    let serve = async {
        let mut socket = peer.accept().await;
        answer(&mut socket, "220 mail.example ESMTP\r\n").await;
        socket
    };
    let egress = egress();
    let (_socket, result) = tokio::join!(serve, egress.send(get(&peer.url()), LIMITS));
    assert!(matches!(result, Err(EgressError::Broken(_))), "{result:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_answers_times_out() {
    let server = MockServer::start(|_| Reply::hang()).await;
    let began = tokio::time::Instant::now();
    let result = egress().send(get(&server.url("/")), LIMITS).await;
    assert_eq!(result.unwrap_err(), EgressError::Timeout);
    assert!(began.elapsed() < LIMITS.timeout + Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn trap_1_the_body_has_a_deadline_and_a_cap() {
    // One byte a second for ever: each comes in time, the whole never does.
    let peer = RawPeer::bind().await;
    let drip = async {
        let mut socket = peer.accept().await;
        read_request(&mut socket).await.unwrap();
        answer(&mut socket, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        loop {
            answer(&mut socket, "1\r\nx\r\n").await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let egress = egress();
    let began = tokio::time::Instant::now();
    let result = tokio::select! {
        result = egress.send(get(&peer.url()), LIMITS) => result,
        never = drip => never,
    };
    assert_eq!(result.unwrap_err(), EgressError::Timeout);
    assert!(began.elapsed() < LIMITS.timeout + Duration::from_millis(100));

    let limit = LIMITS.max_response_bytes;
    let server = MockServer::start(move |_| Reply::text(200, &"x".repeat(limit + 1))).await;
    let error = egress.send(get(&server.url("/")), LIMITS).await.unwrap_err();
    assert_eq!(error, EgressError::ResponseTooLarge { limit_bytes: limit });
    let cut = egress.send_for_status(get(&server.url("/")), LIMITS).await.unwrap();
    assert_eq!((cut.status.as_u16(), cut.body.len()), (200, limit));
    let fits = MockServer::start(move |_| Reply::text(200, &"x".repeat(limit))).await;
    assert_eq!(egress.send(get(&fits.url("/")), LIMITS).await.unwrap().body.len(), limit);
}

#[tokio::test]
async fn trap_2_a_gzip_bomb_stops_at_the_limit() {
    let bomb = gzip(&vec![0; 32 << 20]);
    assert!(bomb.len() < 1 << 20);
    let server = MockServer::start(move |_| {
        Reply::status(200).header("content-encoding", "gzip").body(bomb.clone())
    })
    .await;
    let limits = ExchangeLimits { max_response_bytes: 1 << 20, ..LIMITS };
    let error = egress().send(get(&server.url("/")), limits).await.unwrap_err();
    assert_eq!(error, EgressError::ResponseTooLarge { limit_bytes: 1 << 20 });
    let cut = egress().send_for_status(get(&server.url("/")), limits).await.unwrap();
    assert_eq!(cut.body.len(), 1 << 20);
}

#[tokio::test]
async fn gzip_is_decoded_and_what_does_not_decode_is_said() {
    let text = r#"{"orders":[]}"#.repeat(100);
    let whole = gzip(text.as_bytes());
    let torn = whole[..whole.len() - 6].to_vec();
    let gzipped = |body| Reply::status(200).header("content-encoding", "gzip").body(body);
    let server = MockServer::scripted([
        gzipped(whole),
        gzipped(Vec::new()),
        gzipped(torn),
        gzipped(b"not gzip at all".to_vec()),
        Reply::text(200, "?").header("content-encoding", "zstd"),
        Reply::text(200, "?").header("content-encoding", "zstd"),
    ])
    .await;
    let egress = egress();
    let ask = || egress.send(get(&server.url("/")), LIMITS);
    let answer = ask().await.unwrap();
    assert_eq!(answer.body, text);
    assert!(!answer.headers.contains_key("content-encoding"));
    assert!(!answer.headers.contains_key("content-length"));
    assert_eq!(ask().await.unwrap().body.len(), 0);
    for _ in 0..3 {
        let error = ask().await.unwrap_err();
        assert!(matches!(error, EgressError::Undecodable(_)), "{error:?}");
    }
    let status = egress.send_for_status(get(&server.url("/")), LIMITS).await.unwrap();
    assert_eq!((status.status.as_u16(), status.body.len()), (200, 0));
}

#[tokio::test]
async fn a_dropped_exchange_closes_its_connection() {
    let peer = RawPeer::bind().await;
    let egress = egress();
    let mut exchange = Box::pin(egress.send(get(&peer.url()), LIMITS));
    let mut socket = tokio::select! {
        socket = async {
            let mut socket = peer.accept().await;
            read_request(&mut socket).await.unwrap();
            socket
        } => socket,
        _ = &mut exchange => panic!("nobody answered"),
    };
    drop(exchange);
    assert!(read_request(&mut socket).await.is_err());
}
