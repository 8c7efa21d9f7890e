//! CONTRACT (to be replaced by server.rs, verify.rs, routes.rs, decode.rs ...).

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::{bus::Bus, plan::ConnectorPlan, world::World};

/// What the server holds its clients to.
#[derive(Clone, Debug)]
pub struct WebhookLimits {
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    pub max_header_bytes: usize,
    pub max_json_depth: usize,
    pub max_connections: usize,
    /// Bytes of request bodies held at once over all connections; beyond it 503 + Retry-After.
    pub max_in_flight_bytes: usize,
    /// `https://hooks.acme.example`: what producers call us, for signatures over the URL.
    pub public_url: Option<String>,
}

/// Path → streams. Built from plans without side effects, swapped atomically.
#[derive(Default)]
pub struct Routes { _private: () }

impl Routes {
    /// All routes of the given connectors. Err: two connectors claim one path (each is named).
    pub fn build(_connectors: &[Arc<ConnectorPlan>]) -> Result<Self, Vec<String>> { unimplemented!() }
}

/// What happened to requests, for metrics; the engine gives an implementation.
pub trait WebhookObserver: Send + Sync {
    /// connector, stream, one of accepted | duplicate | unmatched | bad_signature | undecodable | unnamed | refused | too_large | not_found
    fn counted(&self, connector: &str, stream: &str, outcome: &'static str, count: u64);
    /// From the request's first byte to the answer.
    fn acknowledged(&self, took: Duration);
}

pub struct WebhookServer { _private: () }

impl WebhookServer {
    pub fn new(_bus: Arc<dyn Bus>, _world: World, _limits: WebhookLimits, _observer: Arc<dyn WebhookObserver>) -> Arc<Self> { unimplemented!() }
    /// Swaps the routes atomically: a request sees the old table or the new.
    pub fn set_routes(&self, _routes: Routes) { unimplemented!() }
    /// Serves until `stop` is done; then accepts no more, lets requests in hand finish, returns. Connections live in a `JoinSet` in this future.
    pub async fn serve(self: Arc<Self>, _listener: tokio::net::TcpListener, _stop: tokio_util::sync::CancellationToken) { unimplemented!() }
    /// One request, without a socket: for tests.
    pub async fn handle(&self, _request: http::Request<http_body_util::Full<bytes::Bytes>>, _peer: SocketAddr) -> http::Response<http_body_util::Full<bytes::Bytes>> { unimplemented!() }
}
