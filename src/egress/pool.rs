//! Connections kept between exchanges, by scheme, authority and client certificate, shared by every
//! connector.
//!
//! What lies idle longer than [`IDLE_LIMIT`] is closed when the pool is next used, or by
//! [`Pool::sweep`]. A permit bounds the exchanges at once with one host: hyper's own limits bound
//! only what is kept idle.

use std::{sync::Arc, time::Duration};

use hashbrown::HashMap;
use http::{Uri, uri::Authority};
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{
    connection::{Http1, Http2},
    identity::IdentityId,
};

/// Shorter than the 60 to 75 seconds after which common servers close.
const IDLE_LIMIT: Duration = Duration::from_secs(50);
/// How often the whole pool is looked through.
const SWEEP_EVERY: Duration = Duration::from_secs(15);
/// Exchanges at once with one host; further ones wait their turn, outside their own timeout.
const EXCHANGES_PER_HOST: usize = 512;

/// Where a connection leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    https: bool,
    authority: Authority,
    /// With which client certificate.
    identity: Option<IdentityId>,
}

impl Key {
    pub(super) fn new(https: bool, authority: Authority, identity: Option<IdentityId>) -> Self {
        Self { https, authority, identity }
    }

    /// The host as the URL has it, brackets included.
    pub(super) fn host(&self) -> &str {
        self.authority.host()
    }

    pub(super) fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(if self.https { 443 } else { 80 })
    }

    /// Scheme and authority alone.
    pub(super) fn uri(&self) -> Uri {
        let scheme = if self.https { "https" } else { "http" };
        Uri::builder()
            .scheme(scheme)
            .authority(self.authority.clone())
            .path_and_query("/")
            .build()
            .unwrap_or_default()
    }
}

pub(super) struct Pool {
    idle_per_host: usize,
    hosts: Mutex<Hosts>,
}

struct Hosts {
    by_key: HashMap<Key, Host>,
    swept_at: Instant,
}

struct Host {
    /// Last used last, and used first: what is not needed grows old. A connection goes in and out
    /// with every exchange, so it moves as a pointer.
    #[allow(clippy::vec_box)]
    idle: Vec<Box<Http1>>,
    http2: Option<(Http2, Instant)>,
    permits: Arc<Semaphore>,
}

impl Default for Host {
    fn default() -> Self {
        let permits = Arc::new(Semaphore::new(EXCHANGES_PER_HOST));
        Self { idle: Vec::new(), http2: None, permits }
    }
}

/// A connection that was used before.
pub(super) enum Kept {
    Http1(Box<Http1>),
    Http2(Http2),
}

impl Pool {
    pub(super) fn new(idle_per_host: usize) -> Self {
        let hosts = Hosts { by_key: HashMap::new(), swept_at: Instant::now() };
        Self { idle_per_host, hosts: Mutex::new(hosts) }
    }

    /// Waits until one more exchange with this host may begin.
    pub(super) async fn permit(&self, key: &Key) -> Option<OwnedSemaphorePermit> {
        let permits = {
            let mut hosts = self.hosts.lock();
            match hosts.by_key.get(key) {
                Some(host) => host.permits.clone(),
                None => hosts.by_key.entry(key.clone()).or_default().permits.clone(),
            }
        };
        // The semaphore is never closed; without it there would be no bound, but an exchange.
        permits.acquire_owned().await.ok()
    }

    /// The connection used last, where one is kept. It may have been closed by the peer.
    pub(super) fn take(&self, key: &Key) -> Option<Kept> {
        let mut hosts = self.hosts.lock();
        let host = hosts.by_key.get_mut(key)?;
        if let Some((http2, used_at)) = &mut host.http2 {
            if http2.is_usable() {
                *used_at = Instant::now();
                return Some(Kept::Http2(http2.clone()));
            }
            host.http2 = None;
        }
        host.idle.pop().filter(|it| it.idle_since.elapsed() < IDLE_LIMIT).map(Kept::Http1)
    }

    /// Keeps a connection whose exchange is over.
    pub(super) fn keep(&self, key: &Key, connection: Box<Http1>) {
        let mut surplus = None;
        let now = connection.idle_since;
        let mut hosts = self.hosts.lock();
        let host = match hosts.by_key.get_mut(key) {
            Some(host) => host,
            None => hosts.by_key.entry(key.clone()).or_default(),
        };
        if host.idle.len() < self.idle_per_host {
            host.idle.push(connection);
        } else {
            surplus = Some(connection);
        }
        let swept = (now.duration_since(hosts.swept_at) >= SWEEP_EVERY).then(|| hosts.sweep(now));
        drop(hosts);
        // Sockets are closed outside the lock.
        drop((surplus, swept));
    }

    /// Shares an HTTP/2 connection, or gives the one that another exchange shared meanwhile.
    pub(super) fn share(&self, key: &Key, fresh: Http2) -> Http2 {
        let mut hosts = self.hosts.lock();
        let host = hosts.by_key.entry(key.clone()).or_default();
        match &host.http2 {
            Some((shared, _)) if shared.is_usable() => shared.clone(),
            _ => {
                host.http2 = Some((fresh.clone(), Instant::now()));
                fresh
            }
        }
    }

    /// Closes what has been idle for too long.
    pub(super) fn sweep(&self) {
        let swept = self.hosts.lock().sweep(Instant::now());
        drop(swept);
    }
}

impl Hosts {
    /// Takes out what is old, to be closed by dropping it.
    fn sweep(&mut self, now: Instant) -> Vec<Kept> {
        let mut closed = Vec::new();
        let old = |since: Instant| now.saturating_duration_since(since) >= IDLE_LIMIT;
        self.by_key.retain(|_, host| {
            let fresh = host.idle.partition_point(|it| old(it.idle_since));
            closed.extend(host.idle.drain(..fresh).map(Kept::Http1));
            if let Some((http2, _)) = host.http2.take_if(|(_, used_at)| old(*used_at)) {
                closed.push(Kept::Http2(http2));
            }
            // A permit in use, or about to be, holds the semaphore and with it the bound.
            let in_use = Arc::strong_count(&host.permits) > 1;
            !host.idle.is_empty() || host.http2.is_some() || in_use
        });
        self.swept_at = now;
        closed
    }
}
