//! The server: sockets, connections, and what clients are held to.
//!
//! HTTP/1.1 only. Producers reach it through a proxy that ends TLS and speaks HTTP/1.1 behind it, and a
//! protocol that is not spoken cannot be abused.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Body, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use super::{
    answer::{Answer, Cause, Refusal},
    handle::Refused,
    log_gate::LogGate,
    routes::{Endpoint, Routes, SecretProblem},
    stall::StallGuard,
};
use crate::{
    bus::Bus,
    deliver::Tenants,
    egress::Egress,
    plan::ConnectorPlan,
    world::{Timestamp, World},
};

/// hyper takes no smaller buffer.
const MIN_BUFFER_BYTES: usize = 8_192;

/// How long accepting pauses when the system has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a connection beyond the limit gets before it is closed.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
content-type: application/json\r\ncontent-length: 16\r\n\r\n{\"error\":\"busy\"}";

/// What the server holds its clients to.
#[derive(Clone)]
pub struct WebhookLimits {
    /// From a connection's start, or the last answer, to the end of the next request's headers: so
    /// also how long a connection may idle.
    pub header_timeout: Duration,
    /// From the end of the headers to the end of the body; also how long an answer may wait for a
    /// client that does not read it.
    pub body_timeout: Duration,
    /// Request line and headers.
    pub max_header_bytes: usize,
    /// Arrays and objects within each other.
    pub max_json_depth: usize,
    /// Connections at once; the next one gets 503 and is closed.
    pub max_connections: usize,
    /// Bytes of request bodies held at once over all connections; beyond it 503 + Retry-After.
    pub max_in_flight_bytes: usize,
    /// What each tenant may send.
    pub tenants: Arc<Tenants>,
    /// `https://hooks.acme.example`: what producers call us, for signatures over the URL.
    pub public_url: Option<String>,
}

/// What happened to requests, for metrics; the engine gives an implementation.
pub trait WebhookObserver: Send + Sync {
    /// `count` events (or requests, where there were no events) of a connector's stream ended as
    /// `outcome`: one of `accepted`, `duplicate`, `unmatched`, `bad_signature`, `undecodable`,
    /// `unnamed`, `refused`, `over_budget`, `too_large`, `not_found`. Connector and stream are empty where none is
    /// known; the stream also where several share the path.
    fn counted(&self, connector: &str, stream: &str, outcome: &'static str, count: u64);
    /// A request for a connector's stream says that it was signed at `theirs`, and somebody who holds
    /// the secret signed that; it came at `now`, and was refused where the two are too far apart.
    fn signed(
        &self,
        _connector: &str,
        _stream: &str,
        _theirs: Timestamp,
        _now: Timestamp,
        _refused: bool,
    ) {
    }
    /// From the end of the headers to the answer, of requests that got a 2xx.
    fn acknowledged(&self, took: Duration);
}

/// Takes webhooks in, see the module's text.
pub struct WebhookServer {
    pub(super) bus: Arc<dyn Bus>,
    pub(super) world: World,
    /// For public keys, and for URLs that a handshake wants fetched.
    pub(super) egress: Egress,
    pub(super) limits: WebhookLimits,
    pub(super) observer: Arc<dyn WebhookObserver>,
    pub(super) routes: ArcSwap<Routes>,
    pub(super) in_flight_bytes: Semaphore,
    gates: Gates,
}

#[derive(Default)]
struct Gates {
    strangers: LogGate,
    producers: LogGate,
    ourselves: LogGate,
}

impl WebhookServer {
    /// A server without routes.
    pub fn new(
        bus: Arc<dyn Bus>,
        world: World,
        egress: Egress,
        limits: WebhookLimits,
        observer: Arc<dyn WebhookObserver>,
    ) -> Arc<Self> {
        let in_flight_bytes =
            Semaphore::new(limits.max_in_flight_bytes.min(Semaphore::MAX_PERMITS));
        Arc::new(Self {
            bus,
            world,
            egress,
            limits,
            observer,
            routes: ArcSwap::default(),
            in_flight_bytes,
            gates: Gates::default(),
        })
    }

    /// Swaps the routes atomically: a request sees the old table or the new.
    pub fn set_routes(&self, routes: Routes) {
        self.routes.store(Arc::new(routes));
    }

    /// Swaps the routes of some connectors atomically and leaves the others' as they are: those of
    /// `gone` go, those of `fresh` come. Err as for [`Routes::build`]; nothing is swapped then.
    pub fn change_routes(
        &self,
        gone: &[Arc<ConnectorPlan>],
        fresh: &[Arc<ConnectorPlan>],
    ) -> Result<(), Vec<String>> {
        let routes = self.routes.load().with(gone, fresh)?;
        self.set_routes(routes);
        Ok(())
    }

    /// Serves until `stop` is done; then accepts no more, lets requests in hand finish, returns.
    /// Connections live in this future and end with it.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let room = Arc::new(Semaphore::new(self.limits.max_connections));
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = connections.join_next(), if !connections.is_empty() => {
                    self.note_end(ended);
                }
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => match Arc::clone(&room).try_acquire_owned() {
                        Ok(permit) => {
                            let server = Arc::clone(&self);
                            connections.spawn(server.connection(stream, peer, permit, stop.clone()));
                        }
                        Err(_) => self.turn_away(stream, peer),
                    },
                    Err(error) => self.pause_accepting(&error).await,
                },
            }
        }
        drop(listener);
        while let Some(ended) = connections.join_next().await {
            self.note_end(ended);
        }
    }

    /// One request, without a socket: for tests.
    pub async fn handle(
        &self,
        request: Request<Full<Bytes>>,
        peer: SocketAddr,
    ) -> Response<Full<Bytes>> {
        self.respond(request, peer).await
    }

    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        _permit: OwnedSemaphorePermit,
        stop: CancellationToken,
    ) {
        // Without it an answer may wait for the acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        let service = service_fn(|request| {
            let server = Arc::clone(&self);
            async move { Ok::<_, Infallible>(server.respond(request, peer).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_timeout)
            .max_header_size(self.limits.max_header_bytes)
            .max_buf_size(self.limits.max_header_bytes.max(MIN_BUFFER_BYTES))
            .half_close(false)
            .serve_connection(
                TokioIo::new(StallGuard::new(stream, self.limits.body_timeout)),
                service,
            );
        let mut connection = std::pin::pin!(connection);
        // How a connection ends is the client's business: resets and timeouts are no news.
        tokio::select! {
            _ = connection.as_mut() => return,
            () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }

    async fn respond<B>(&self, request: Request<B>, peer: SocketAddr) -> Answer
    where
        B: Body<Data = Bytes>,
    {
        let started = Instant::now();
        match self.take_in(request).await {
            Ok(answer) => {
                self.observer.acknowledged(started.elapsed());
                answer
            }
            Err(refused) => {
                self.note(&refused, peer);
                refused.refusal.answer()
            }
        }
    }

    /// Counts every refusal and logs as many as the gates let pass.
    fn note(&self, refused: &Refused, peer: SocketAddr) {
        let Refused { refusal, endpoint, detail } = refused;
        let (connector, stream) = endpoint
            .as_ref()
            .map_or(("", ""), |endpoint| (&*endpoint.connector.name, &*endpoint.label));
        self.observer.counted(connector, stream, refusal.outcome(), 1);
        let Some(kept_back) = self.gate(refusal.cause()).admit(self.world.clock.now()) else {
            return;
        };
        let reason = refusal.word();
        if *refusal == Refusal::NoSecret {
            tracing::error!(connector, stream, reason, detail, kept_back, "webhook refused");
        } else {
            tracing::warn!(connector, stream, reason, detail, %peer, kept_back, "webhook refused");
        }
    }

    /// One of several secrets cannot be used; the others still verify.
    pub(super) fn note_secret(&self, endpoint: &Endpoint, problem: &SecretProblem, now: Timestamp) {
        if let Some(kept_back) = self.gates.ourselves.admit(now) {
            let (connector, stream) = (&*endpoint.connector.name, &*endpoint.label);
            tracing::warn!(connector, stream, %problem, kept_back, "webhook secret unusable");
        }
    }

    fn gate(&self, cause: Cause) -> &LogGate {
        match cause {
            Cause::Stranger => &self.gates.strangers,
            Cause::Producer => &self.gates.producers,
            Cause::Ourselves => &self.gates.ourselves,
        }
    }

    /// Says 503 to a connection beyond the limit and closes it, without waiting for it: what does
    /// not fit into the socket's empty buffer at once is not worth a task.
    fn turn_away(&self, stream: TcpStream, peer: SocketAddr) {
        self.observer.counted("", "", "refused", 1);
        if let Some(kept_back) = self.gates.strangers.admit(self.world.clock.now()) {
            let limit = self.limits.max_connections;
            tracing::warn!(%peer, limit, kept_back, "webhook connection turned away");
        }
        if let Ok(mut stream) = stream.into_std() {
            let _ = std::io::Write::write(&mut stream, BUSY);
            let _ = stream.shutdown(std::net::Shutdown::Write);
        }
    }

    /// A request that panicked took its connection with it and nothing else.
    fn note_end(&self, ended: Result<(), JoinError>) {
        let Err(error) = ended else { return };
        if !error.is_panic() {
            return;
        }
        self.observer.counted("", "", "refused", 1);
        if let Some(kept_back) = self.gates.ourselves.admit(self.world.clock.now()) {
            tracing::error!(%error, kept_back, "webhook request panicked");
        }
    }

    /// The system lacks something (most often file descriptors) that a busy loop will not bring.
    async fn pause_accepting(&self, error: &std::io::Error) {
        if let Some(kept_back) = self.gates.ourselves.admit(self.world.clock.now()) {
            tracing::error!(%error, kept_back, "webhook connections cannot be accepted");
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}
