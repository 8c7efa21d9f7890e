//! One request, one answer.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode,
    header::{ACCEPT_ENCODING, USER_AGENT},
    uri::Scheme,
};
use hyper::body::Incoming;
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::{
    body::Unfit,
    connection::{self, Connection, Failure, Http1},
    dial::dial,
    error::EgressError,
    flowing::Flowing,
    guard::{Cidr, Guard},
    identity::Identity,
    pool::{Kept, Key, Pool},
    script::{Peer, Script, Scripted},
    tls::Tls,
};

/// Settings of the one client.
#[derive(Clone, Debug)]
pub struct EgressConfig {
    /// Private, loopback, link-local and metadata ranges that may be dialled all the same.
    pub allow: Vec<Cidr>,
    /// Connections kept idle per host.
    pub idle_per_host: usize,
}

impl Default for EgressConfig {
    fn default() -> Self {
        Self { allow: Vec::new(), idle_per_host: 64 }
    }
}

/// What one exchange may cost.
#[derive(Clone, Copy, Debug)]
pub struct ExchangeLimits {
    /// From the first byte dialled to the last byte read.
    pub timeout: Duration,
    /// Of the body after decompression.
    pub max_response_bytes: usize,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Of whatever class: a redirect is an answer.
    pub status: StatusCode,
    /// As sent, but without `Content-Encoding` and `Content-Length` where the body was decompressed.
    pub headers: HeaderMap,
    /// After decompression.
    pub body: Bytes,
}

/// The first value of each header as templates see it: names in lower case.
pub fn header_values(headers: &HeaderMap) -> Map<String, Value> {
    let named = |name: &HeaderName| {
        let value = String::from_utf8_lossy(headers.get(name)?.as_bytes());
        Some((name.as_str().to_owned(), value.into_owned().into()))
    };
    headers.keys().filter_map(named).collect()
}

/// One for the whole process, cheap to clone: connections are shared across connectors.
#[derive(Clone)]
pub struct Egress {
    inner: Arc<Inner>,
    /// Answers in the network's place, where there is one.
    script: Option<Arc<Scripted>>,
}

pub(super) struct Inner {
    guard: Guard,
    tls: Tls,
    pool: Pool,
}

/// Sent where a request names none.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("tenon/", env!("CARGO_PKG_VERSION")));
const GZIP: HeaderValue = HeaderValue::from_static("gzip");

impl Egress {
    /// Dials nothing and reads no file.
    pub fn new(config: EgressConfig) -> Self {
        Self::assemble(config, Tls::default())
    }

    /// As [`Egress::new`], trusting what `tls` trusts.
    #[cfg(test)]
    pub(crate) fn with_tls(config: EgressConfig, mut tls: rustls::ClientConfig) -> Self {
        super::tls::offer_protocols(&mut tls);
        Self::assemble(config, Tls::with(tls))
    }

    fn assemble(config: EgressConfig, tls: Tls) -> Self {
        let guard = Guard::new(config.allow);
        let pool = Pool::new(config.idle_per_host);
        Self { inner: Arc::new(Inner { guard, tls, pool }), script: None }
    }

    /// A client that reaches nobody: `script` answers, as the issuer of tokens until
    /// [`Egress::for_peer`] says who else is asked.
    pub fn scripted(script: Arc<dyn Script>) -> Self {
        let scripted = Scripted { script, peer: Peer::Issuer };
        Self { script: Some(Arc::new(scripted)), ..Self::new(EgressConfig::default()) }
    }

    /// The same client for requests to this peer; to the network all are one.
    pub fn for_peer(&self, peer: Peer) -> Self {
        let script = self
            .script
            .as_ref()
            .map(|scripted| Arc::new(Scripted { script: Arc::clone(&scripted.script), peer }));
        Self { inner: Arc::clone(&self.inner), script }
    }

    /// One request, one answer, the body whole. Never follows a redirect.
    ///
    /// Never retries what the peer may have seen. Only where hyper gives the request back with not
    /// a byte of it written (a kept connection turned out to be closed) does it go over another
    /// connection, within the same deadline. While very many exchanges with the host are under way,
    /// it first waits its turn; that does not count as the exchange's time.
    ///
    /// `Host`, `User-Agent` and `Accept-Encoding: gzip` are added where they are missing. Dropping
    /// the future closes the connection.
    pub async fn send(
        &self,
        request: Request<Bytes>,
        limits: ExchangeLimits,
    ) -> Result<Answer, EgressError> {
        self.exchange(request, limits, Unfit::Refuse).await
    }

    /// As [`Egress::send`], for a request whose answer is its status: a body that is too large is
    /// cut at the limit, and one that does not decode is left empty. So a write that succeeded is
    /// not taken for one that failed because of what the peer says about it.
    pub async fn send_for_status(
        &self,
        request: Request<Bytes>,
        limits: ExchangeLimits,
    ) -> Result<Answer, EgressError> {
        self.exchange(request, limits, Unfit::Cut).await
    }

    /// As [`Egress::send`], with the body still to be read, piece by piece, however long it is. The
    /// timeout is that of the answer's head, and then of each piece.
    pub async fn open(
        &self,
        mut request: Request<Bytes>,
        limits: ExchangeLimits,
    ) -> Result<Flowing, EgressError> {
        let key = key_of(&request)?;
        if let Some(scripted) = &self.script {
            let limits = ExchangeLimits { max_response_bytes: usize::MAX, ..limits };
            let answer = scripted.exchange(request, limits, Unfit::Refuse).await?;
            return Ok(Flowing::of_script(answer, limits.timeout));
        }
        let headers = request.headers_mut();
        headers.entry(USER_AGENT).or_insert(AGENT);
        headers.entry(ACCEPT_ENCODING).or_insert(GZIP);
        let permit = self.inner.pool.permit(&key).await;
        let begun = timeout(limits.timeout, Box::pin(self.inner.begin(&key, request))).await;
        let (response, connection) = begun.unwrap_or(Err(EgressError::Timeout))?;
        let home = (Arc::clone(&self.inner), key);
        Flowing::of_network(response, connection, home, permit, limits.timeout)
    }

    /// Closes connections that have been idle for long. Every exchange does so now and then; where
    /// none takes place, the owner may call this from time to time.
    pub fn close_idle(&self) {
        self.inner.pool.sweep();
    }

    async fn exchange(
        &self,
        mut request: Request<Bytes>,
        limits: ExchangeLimits,
        unfit: Unfit,
    ) -> Result<Answer, EgressError> {
        let key = key_of(&request)?;
        if let Some(scripted) = &self.script {
            return scripted.exchange(request, limits, unfit).await;
        }
        let headers = request.headers_mut();
        headers.entry(USER_AGENT).or_insert(AGENT);
        if unfit == Unfit::Refuse {
            headers.entry(ACCEPT_ENCODING).or_insert(GZIP);
        }
        let _permit = self.inner.pool.permit(&key).await;
        let exchange = self.inner.exchange(&key, request, limits.max_response_bytes, unfit);
        timeout(limits.timeout, exchange).await.unwrap_or(Err(EgressError::Timeout))
    }
}

impl std::fmt::Debug for Egress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Egress").field("guard", &self.inner.guard).finish_non_exhaustive()
    }
}

impl Inner {
    /// A connection that can carry another exchange.
    pub(super) fn keep(&self, key: &Key, connection: Box<Http1>) {
        self.pool.keep(key, connection);
    }

    /// An answer's head, over a kept connection or a fresh one.
    async fn begin(
        &self,
        key: &Key,
        mut request: Request<Bytes>,
    ) -> Result<(Response<Incoming>, Option<Box<Http1>>), EgressError> {
        loop {
            let (mut http1, mut http2) = (None, None);
            let fresh = match self.pool.take(key) {
                Some(Kept::Http1(mut connection)) => {
                    if !connection.is_usable().await {
                        continue;
                    }
                    http1 = Some(connection);
                    false
                }
                Some(Kept::Http2(connection)) => {
                    http2 = Some(connection);
                    false
                }
                None => {
                    let stream = dial(&self.guard, key.host(), key.port()).await?;
                    let identity = request.extensions().get::<Identity>();
                    match connection::open(stream, &key.uri(), &self.tls, identity).await? {
                        Connection::Http1(connection) => http1 = Some(connection),
                        Connection::Http2(fresh) => http2 = Some(self.pool.share(key, fresh)),
                    }
                    true
                }
            };
            let begun = match (&mut http1, &mut http2) {
                (Some(connection), _) => connection.begin(request).await,
                (None, Some(connection)) => connection.begin(request).await,
                (None, None) => return Err(connection::closed()),
            };
            match begun {
                Ok(response) => return Ok((response, http1)),
                Err(Failure::Failed(error)) => return Err(error),
                Err(Failure::Unsent(_)) if fresh => {
                    return Err(EgressError::Broken("closed before the request".to_owned()));
                }
                Err(Failure::Unsent(returned)) => request = *returned,
            }
        }
    }

    async fn exchange(
        &self,
        key: &Key,
        mut request: Request<Bytes>,
        max_bytes: usize,
        unfit: Unfit,
    ) -> Result<Answer, EgressError> {
        // Ends: each round takes a kept connection away, and a fresh one is the last.
        while let Some(kept) = self.pool.take(key) {
            let result = match kept {
                Kept::Http1(mut connection) => {
                    if !connection.is_usable().await {
                        continue;
                    }
                    let result = connection.exchange(request, max_bytes, unfit).await;
                    result.map(|(answer, reusable)| {
                        if reusable {
                            self.pool.keep(key, connection);
                        }
                        answer
                    })
                }
                Kept::Http2(mut connection) => connection.exchange(request, max_bytes, unfit).await,
            };
            match result {
                Ok(answer) => return Ok(answer),
                Err(Failure::Failed(error)) => return Err(error),
                Err(Failure::Unsent(returned)) => request = *returned,
            }
        }
        // Boxed: a dial with a handshake would make each exchange's future several times larger.
        Box::pin(self.exchange_afresh(key, request, max_bytes, unfit)).await
    }

    async fn exchange_afresh(
        &self,
        key: &Key,
        request: Request<Bytes>,
        max_bytes: usize,
        unfit: Unfit,
    ) -> Result<Answer, EgressError> {
        let stream = dial(&self.guard, key.host(), key.port()).await?;
        let identity = request.extensions().get::<Identity>();
        let result = match connection::open(stream, &key.uri(), &self.tls, identity).await? {
            Connection::Http1(mut connection) => {
                let result = connection.exchange(request, max_bytes, unfit).await;
                result.map(|(answer, reusable)| {
                    if reusable {
                        self.pool.keep(key, connection);
                    }
                    answer
                })
            }
            Connection::Http2(fresh) => {
                self.pool.share(key, fresh).exchange(request, max_bytes, unfit).await
            }
        };
        result.map_err(|failure| match failure {
            Failure::Failed(error) => error,
            Failure::Unsent(_) => EgressError::Broken("closed before the request".to_owned()),
        })
    }
}

/// Scheme and authority of an absolute http(s) URL. The error does not show the URL: its query may
/// hold a credential.
fn key_of(request: &Request<Bytes>) -> Result<Key, EgressError> {
    let bad = |what: &str| EgressError::BadUrl(what.to_owned());
    let uri = request.uri();
    let https = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTP => false,
        Some(scheme) if *scheme == Scheme::HTTPS => true,
        Some(_) => return Err(bad("the scheme is neither http nor https")),
        None => return Err(bad("it is not absolute")),
    };
    let authority = uri.authority().ok_or_else(|| bad("it names no host"))?;
    if authority.as_str().contains('@') {
        return Err(bad("user and password do not belong there; use an `auth` table"));
    }
    let identity = request.extensions().get::<Identity>().map(Identity::id);
    if identity.is_some() && !https {
        return Err(bad("a client certificate needs https"));
    }
    Ok(Key::new(https, authority.clone(), identity))
}
