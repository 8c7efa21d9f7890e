//! An HTTP/1.1 server on 127.0.0.1 that answers by script, misbehaves on request, and remembers
//! what it was asked.
//!
//! It works on bytes rather than on a library's types, because half of what it is for (bodies cut
//! in the middle, connections reset, answers that never come) is what a library prevents. Waiting
//! goes through tokio's timer, so a paused runtime pauses it too.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
    task::JoinSet,
};

/// One request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// `GET`.
    pub method: String,
    /// Path and query as sent: `/orders?limit=2`.
    pub target: String,
    /// Names in lower case, in the order of arrival.
    pub headers: Vec<(String, String)>,
    /// The body, de-chunked.
    pub body: Vec<u8>,
    /// Which connection it came on, counted from 0.
    pub connection: usize,
}

impl Seen {
    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The query, decoded, in order.
    pub fn query(&self) -> Vec<(String, String)> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
    }

    /// One query parameter, decoded.
    pub fn param(&self, name: &str) -> Option<String> {
        self.query().into_iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// A header's first value; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the request's body is JSON")
    }
}

/// How an answer goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// The connection is reset before a byte is answered; the request was taken.
    Reset,
    /// Only so many bytes of the body are sent, then the connection is closed.
    Cut(usize),
    /// Nothing is ever answered; the connection stays open.
    Hang,
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    delay: Duration,
    gate: Option<Arc<Notify>>,
    fault: Fault,
    close: bool,
}

impl Reply {
    /// An empty answer.
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            delay: Duration::ZERO,
            gate: None,
            fault: Fault::None,
            close: false,
        }
    }

    /// 200 and a JSON document.
    pub fn json(document: impl Into<serde_json::Value>) -> Self {
        let body = serde_json::to_vec(&document.into()).expect("a Value is JSON");
        Self::status(200).header("content-type", "application/json").body(body)
    }

    /// A status and a text.
    pub fn text(status: u16, text: &str) -> Self {
        Self::status(status).header("content-type", "text/plain").body(text)
    }

    /// The same with another status.
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// The same with a header more.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with this body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// The same, this much later.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The same, once the gate is notified.
    pub fn gate(mut self, gate: &Arc<Notify>) -> Self {
        self.gate = Some(Arc::clone(gate));
        self
    }

    /// The same on a connection that is closed afterwards.
    pub fn close(mut self) -> Self {
        self.close = true;
        self
    }

    /// No answer: the connection is reset once the request was read.
    pub fn reset() -> Self {
        Self { fault: Fault::Reset, ..Self::status(200) }
    }

    /// The same, but the body breaks off after `sent_bytes`.
    pub fn cut(mut self, sent_bytes: usize) -> Self {
        self.fault = Fault::Cut(sent_bytes);
        self
    }

    /// No answer, ever.
    pub fn hang() -> Self {
        Self { fault: Fault::Hang, ..Self::status(200) }
    }

    fn head(&self) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} Scripted\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        // 304 and 204 have no body and say no length.
        if !matches!(self.status, 204 | 304) {
            head.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        if self.close {
            head.push_str("connection: close\r\n");
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

type Handler = Box<dyn FnMut(&Seen) -> Reply + Send>;

struct Shared {
    handler: Mutex<Handler>,
    seen: Mutex<Vec<Seen>>,
    count: watch::Sender<usize>,
}

/// See the module's text. Stops when dropped.
pub struct MockServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    _accepting: JoinSet<()>,
}

impl MockServer {
    /// A server that asks `handler` for each answer, in order of arrival.
    pub async fn start(handler: impl FnMut(&Seen) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port on loopback");
        Self::on(listener, handler)
    }

    /// The same on a listener that is bound already.
    pub fn on(listener: TcpListener, handler: impl FnMut(&Seen) -> Reply + Send + 'static) -> Self {
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared {
            handler: Mutex::new(Box::new(handler)),
            seen: Mutex::default(),
            count: watch::Sender::new(0),
        });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, _accepting: accepting }
    }

    /// A server that gives these answers one after another, and 500 once they are used up.
    pub async fn scripted(replies: impl IntoIterator<Item = Reply>) -> Self {
        let mut left: std::collections::VecDeque<Reply> = replies.into_iter().collect();
        Self::start(move |_| {
            left.pop_front().unwrap_or_else(|| Reply::text(500, "the script is over"))
        })
        .await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT` and `path`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Everything it was asked so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().clone()
    }

    /// Waits until it was asked `count` times, and returns everything it was asked.
    pub async fn wait_for(&self, count: usize) -> Vec<Seen> {
        let mut counted = self.shared.count.subscribe();
        counted.wait_for(|seen| *seen >= count).await.expect("the server lives as long as this");
        self.seen()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    for number in 0.. {
        let Ok((socket, _)) = listener.accept().await else {
            return;
        };
        while connections.try_join_next().is_some() {}
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            // A client that goes away is its own business.
            let _ = converse(socket, number, &shared).await;
        });
    }
}

/// Answers request after request until either side closes.
async fn converse(mut socket: TcpStream, connection: usize, shared: &Shared) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut buffer = Vec::new();
    while let Some(seen) = read_request(&mut socket, &mut buffer, connection).await? {
        let reply = {
            let mut handler = shared.handler.lock();
            let reply = handler(&seen);
            shared.seen.lock().push(seen.clone());
            reply
        };
        shared.count.send_modify(|count| *count += 1);
        if !reply.delay.is_zero() {
            tokio::time::sleep(reply.delay).await;
        }
        if let Some(gate) = &reply.gate {
            gate.notified().await;
        }
        match reply.fault {
            Fault::Hang => std::future::pending().await,
            Fault::Reset => return reset(socket),
            Fault::Cut(bytes) => {
                socket.write_all(&reply.head()).await?;
                socket.write_all(&reply.body[..bytes.min(reply.body.len())]).await?;
                return socket.shutdown().await;
            }
            Fault::None => {
                let mut answer = reply.head();
                if seen.method != "HEAD" {
                    answer.extend_from_slice(&reply.body);
                }
                socket.write_all(&answer).await?;
                if reply.close {
                    return socket.shutdown().await;
                }
            }
        }
    }
    Ok(())
}

/// Closes with RST rather than FIN.
fn reset(socket: TcpStream) -> io::Result<()> {
    socket.set_zero_linger()?;
    drop(socket);
    Ok(())
}

/// The next request, or `None` where the client closed between two.
async fn read_request(
    socket: &mut TcpStream,
    buffer: &mut Vec<u8>,
    connection: usize,
) -> io::Result<Option<Seen>> {
    let head_end = loop {
        if let Some(at) = find(buffer, b"\r\n\r\n") {
            break at;
        }
        if socket.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&buffer[..head_end]).into_owned();
    buffer.drain(..head_end + 4);
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let method = first.next().unwrap_or_default().to_owned();
    let target = first.next().unwrap_or_default().to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let of = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    let body = if of("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
        read_chunks(socket, buffer).await?
    } else {
        let length = of("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
        read_exactly(socket, buffer, length).await?
    };
    Ok(Some(Seen { method, target, headers, body, connection }))
}

async fn read_exactly(
    socket: &mut TcpStream,
    buffer: &mut Vec<u8>,
    length: usize,
) -> io::Result<Vec<u8>> {
    while buffer.len() < length {
        if socket.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(buffer.drain(..length).collect())
}

async fn read_chunks(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line_end = loop {
            if let Some(at) = find(buffer, b"\r\n") {
                break at;
            }
            if socket.read_buf(buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let line = String::from_utf8_lossy(&buffer[..line_end]).into_owned();
        buffer.drain(..line_end + 2);
        let length = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        let chunk = read_exactly(socket, buffer, length + 2).await?;
        if length == 0 {
            return Ok(body);
        }
        body.extend_from_slice(&chunk[..length]);
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[tokio::test]
async fn the_mock_server_answers_by_script_and_remembers() {
    let server = MockServer::scripted([
        Reply::json(serde_json::json!({ "a": 1 })),
        Reply::text(200, "whole").cut(2),
        Reply::reset(),
    ])
    .await;
    let mut client = TcpStream::connect(server.address()).await.unwrap();
    client
        .write_all(b"POST /x?q=a%20b HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi")
        .await
        .unwrap();
    let mut first = vec![0; 4096];
    let read = client.read(&mut first).await.unwrap();
    assert!(first[..read].ends_with(b"{\"a\":1}"));
    client.write_all(b"GET /cut HTTP/1.1\r\n\r\n").await.unwrap();
    let mut second = String::new();
    client.read_to_string(&mut second).await.unwrap();
    assert!(second.contains("content-length: 5") && second.ends_with("wh"), "{second}");
    let mut client = TcpStream::connect(server.address()).await.unwrap();
    client.write_all(b"GET /reset HTTP/1.1\r\n\r\n").await.unwrap();
    let broken = client.read(&mut [0; 1]).await;
    assert!(matches!(broken, Err(e) if e.kind() == io::ErrorKind::ConnectionReset));
    let seen = server.wait_for(3).await;
    assert_eq!(seen[0].param("q").as_deref(), Some("a b"));
    assert_eq!((seen[0].text().as_str(), seen[0].header("host")), ("hi", Some("h")));
    assert_eq!((seen[1].connection, seen[2].connection), (0, 1));
}
