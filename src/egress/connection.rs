//! One connection, and one exchange over it.
//!
//! An HTTP/1 connection is driven by the very future that waits for its answer: nothing is spawned,
//! no other task is woken, and a connection that lies idle costs a socket and a buffer. An HTTP/2
//! connection carries many exchanges, so hyper drives it on its own executor until the pool and the
//! last exchange have let go of it.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header::HOST};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
    rt::Executor as _,
};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::Connection as _,
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::{net::TcpStream, time::Instant};
use tower_service::Service;

use super::{
    body::{self, Unfit},
    client::Answer,
    error::{EgressError, chain},
    identity::Identity,
    tls::Tls,
};

/// A peer that answers no ping for this long has gone (HTTP/2 only).
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a busy HTTP/2 connection is probed.
const PING_EVERY: Duration = Duration::from_secs(30);

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;
type Outgoing = Request<Full<Bytes>>;

/// Why an exchange gave no answer.
pub(super) enum Failure {
    /// Not a byte of the request was written: it may go over another connection.
    Unsent(Box<Request<Bytes>>),
    /// Anything else.
    Failed(EgressError),
}

/// What a fresh dial gives.
pub(super) enum Connection {
    Http1(Box<Http1>),
    Http2(Http2),
}

/// Shakes hands over a connected socket.
pub(super) async fn open(
    stream: TcpStream,
    uri: &Uri,
    tls: &Tls,
    identity: Option<&Identity>,
) -> Result<Connection, EgressError> {
    let stream = TokioIo::new(stream);
    if uri.scheme() != Some(&http::uri::Scheme::HTTPS) {
        return Http1::open(MaybeHttpsStream::Http(stream)).await;
    }
    let config = match identity {
        Some(identity) => identity.config().await?,
        None => tls.config().await?,
    };
    let mut connector = HttpsConnector::from((Handed(Some(stream)), config));
    let stream = connector
        .call(uri.clone())
        .await
        .map_err(|error| EgressError::Tls(chain(error.as_ref())))?;
    if stream.connected().is_negotiated_h2() {
        Http2::open(stream).await
    } else {
        Http1::open(stream).await
    }
}

/// Gives the connector the one socket that was dialled for it, after its address was checked.
struct Handed(Option<TokioIo<TcpStream>>);

impl Service<Uri> for Handed {
    type Response = TokioIo<TcpStream>;
    type Error = std::io::Error;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let taken = self.0.take();
        std::future::ready(taken.ok_or_else(|| std::io::ErrorKind::NotConnected.into()))
    }
}

/// An HTTP/1.1 connection: one exchange at a time.
pub(super) struct Http1 {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: http1::Connection<Stream, Full<Bytes>>,
    /// The driver is done and must not be polled again.
    ended: bool,
    /// When the last exchange ended.
    pub(super) idle_since: Instant,
}

impl Http1 {
    async fn open(stream: Stream) -> Result<Connection, EgressError> {
        let (sender, driver) =
            http1::handshake(stream).await.map_err(|error| EgressError::broken(&error))?;
        let idle_since = Instant::now();
        Ok(Connection::Http1(Box::new(Self { sender, driver, ended: false, idle_since })))
    }

    /// Whether another request may be sent: the peer has not closed, as far as this side was told.
    pub(super) async fn is_usable(&mut self) -> bool {
        self.drive(std::future::ready(())).await;
        !self.ended && self.sender.is_ready()
    }

    /// One exchange. Whether the connection can carry another.
    pub(super) async fn exchange(
        &mut self,
        request: Request<Bytes>,
        max_bytes: usize,
        unfit: Unfit,
    ) -> Result<(Answer, bool), Failure> {
        let response = self.begin(request).await?;
        let read = self.drive(body::read(response, max_bytes, unfit)).await;
        let (answer, whole) = read.unwrap_or_else(|| Err(closed())).map_err(Failure::Failed)?;
        let reusable = whole && (self.sender.is_ready() || self.is_usable().await);
        self.idle_since = Instant::now();
        Ok((answer, reusable && !self.ended))
    }

    /// One request; the answer's body is read by whoever drives on.
    pub(super) async fn begin(
        &mut self,
        request: Request<Bytes>,
    ) -> Result<Response<Incoming>, Failure> {
        let uri = request.uri().clone();
        let answer = self.sender.try_send_request(with_host(request));
        match self.drive(answer).await {
            Some(Ok(response)) => Ok(response),
            Some(Err(error)) => Err(unanswered(error, &uri)),
            None => Err(Failure::Failed(closed())),
        }
    }

    /// An exchange has ended just now.
    pub(super) fn rest(&mut self) {
        self.idle_since = Instant::now();
    }

    /// Polls `work` to its end, and the connection along with it, since nobody else does. `None`
    /// where the connection ended and `work` still waits.
    pub(super) async fn drive<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if !self.ended && Pin::new(&mut self.driver).poll(cx).is_ready() {
                self.ended = true;
            }
            match work.as_mut().poll(cx) {
                Poll::Ready(done) => Poll::Ready(Some(done)),
                Poll::Pending if self.ended => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }
}

pub(super) fn closed() -> EgressError {
    EgressError::Broken("closed by the peer".to_owned())
}

/// An HTTP/2 connection: clones share it.
#[derive(Clone)]
pub(super) struct Http2 {
    sender: http2::SendRequest<Full<Bytes>>,
}

impl Http2 {
    async fn open(stream: Stream) -> Result<Connection, EgressError> {
        let (sender, driver) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(stream)
            .await
            .map_err(|error| EgressError::broken(&error))?;
        // What ends the connection is told to each exchange on it.
        TokioExecutor::new().execute(async move {
            driver.await.ok();
        });
        Ok(Connection::Http2(Self { sender }))
    }

    pub(super) fn is_usable(&self) -> bool {
        !self.sender.is_closed()
    }

    pub(super) async fn exchange(
        &mut self,
        request: Request<Bytes>,
        max_bytes: usize,
        unfit: Unfit,
    ) -> Result<Answer, Failure> {
        let response = self.begin(request).await?;
        let read = body::read(response, max_bytes, unfit).await;
        read.map(|(answer, _)| answer).map_err(Failure::Failed)
    }

    /// One request; the answer's body comes by itself.
    pub(super) async fn begin(
        &mut self,
        request: Request<Bytes>,
    ) -> Result<Response<Incoming>, Failure> {
        let uri = request.uri().clone();
        if self.sender.ready().await.is_err() {
            return Err(Failure::Unsent(Box::new(request)));
        }
        let answer = self.sender.try_send_request(request.map(Full::new));
        answer.await.map_err(|error| unanswered(error, &uri))
    }
}

/// HTTP/1 wants the path alone in the request line, and the host in a header.
fn with_host(request: Request<Bytes>) -> Outgoing {
    let mut request = request.map(Full::new);
    let uri = request.uri();
    let host = uri.authority().and_then(|it| HeaderValue::from_str(it.as_str()).ok());
    let path = uri.path_and_query().cloned();
    if let Some(host) = host {
        request.headers_mut().entry(HOST).or_insert(host);
    }
    *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    request
}

/// hyper gives the request back where it had not begun to write it.
fn unanswered(mut error: TrySendError<Outgoing>, uri: &Uri) -> Failure {
    match error.take_message() {
        Some(request) => {
            let (mut parts, body) = request.into_parts();
            parts.uri = uri.clone();
            Failure::Unsent(Box::new(Request::from_parts(parts, taken(body))))
        }
        None => Failure::Failed(EgressError::broken(error.error())),
    }
}

/// The bytes of a body of which nothing was sent.
fn taken(body: Full<Bytes>) -> Bytes {
    use futures_util::FutureExt as _;
    use http_body_util::BodyExt as _;
    body.collect()
        .now_or_never()
        .and_then(Result::ok)
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default()
}
