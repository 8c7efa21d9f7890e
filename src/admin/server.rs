//! The server: connections and their limits; then guard, route, body, handler.

use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    failure::ApiError,
    guard,
    handle::{self, Body},
    route,
};
use crate::{engine::Engine, ingest::webhook::StallGuard};

/// Connections served at once; further ones wait in the listener's queue.
const MAX_CONNECTIONS: usize = 64;
/// A request's head.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// Headers of a request.
const MAX_HEADERS: usize = 64;
/// A request's body.
const MAX_BODY_BYTES: usize = 64 << 10;
/// A part of an import: parents may be whole records.
const MAX_IMPORT_BYTES: usize = 16 << 20;
/// From a connection's start or its last answer to the end of the next request's head.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// For a request's body.
const BODY_TIME: Duration = Duration::from_secs(10);
/// For a peer to go on reading an answer.
const STALL_TIME: Duration = Duration::from_secs(30);
/// Before accepting again where the system has no more sockets.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the admin API until `stop` is done; then accepts no more, lets requests in hand finish
/// (replays end with an error line) and returns. Spawns nothing that outlives it.
pub async fn serve(engine: Arc<Engine>, listener: TcpListener, stop: CancellationToken) {
    let own = listener.local_addr().map_or(IpAddr::from([127, 0, 0, 1]), |own| own.ip());
    let admin = Arc::new(Admin { engine, own, stop: stop.clone() });
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &permits) => accepted,
        };
        let (stream, permit) = accepted;
        let admin = admin.clone();
        connections.spawn(async move {
            admin.converse(stream).await;
            drop(permit);
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// The next connection with its permit. Dropped, it has taken nothing.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> (TcpStream, tokio::sync::OwnedSemaphorePermit) {
    // The semaphore is never closed, so this waits at most.
    let Ok(permit) = permits.clone().acquire_owned().await else { std::future::pending().await };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            Err(error) => {
                tracing::warn!(%error, "the admin API could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

struct Admin {
    engine: Arc<Engine>,
    own: IpAddr,
    stop: CancellationToken,
}

impl Admin {
    async fn converse(self: Arc<Self>, stream: TcpStream) {
        let stop = self.stop.clone();
        let service = service_fn(move |request| {
            let admin = self.clone();
            async move { Ok::<_, Infallible>(admin.answer(request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(StallGuard::new(stream, STALL_TIME)), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "an admin connection ended early");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let asked = format!("{} {}", request.method(), request.uri().path());
        match self.try_answer(request).await {
            Ok(response) => response,
            Err(error) => {
                if error.status.is_server_error() {
                    let problem = &error.problem;
                    tracing::warn!(
                        asked,
                        code = problem.code,
                        problem = problem.message,
                        "admin request failed"
                    );
                }
                handle::error(&error)
            }
        }
    }

    async fn try_answer(&self, request: Request<Incoming>) -> Result<Response<Body>, ApiError> {
        let (parts, body) = request.into_parts();
        guard::check(&parts, self.own)?;
        let route = route::route(&parts.method, parts.uri.path(), parts.uri.query())?;
        let limit_bytes = match route {
            route::Route::StateImport | route::Route::ReplayPreview => MAX_IMPORT_BYTES,
            _ => MAX_BODY_BYTES,
        };
        let body = whole(body, limit_bytes).await?;
        if !is_json(&parts.headers, &body) {
            return Err(ApiError::not_json());
        }
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            tracing::info!(method = %parts.method, path = parts.uri.path(), "admin request");
        }
        handle::handle(&self.engine, route, &body, &self.stop).await
    }
}

async fn whole(body: Incoming, limit_bytes: usize) -> Result<Bytes, ApiError> {
    let collected = tokio::time::timeout(BODY_TIME, Limited::new(body, limit_bytes).collect());
    match collected.await {
        Err(_elapsed) => Err(ApiError::too_slow()),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ApiError::too_large(limit_bytes)),
        Ok(Err(_broken)) => Err(ApiError::bad_request("the request's body broke off")),
    }
}

/// A page can post forms and plain text across origins without being asked; JSON it cannot.
fn is_json(headers: &HeaderMap, body: &Bytes) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
    body.is_empty() || kind.is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"))
}
