//! CONTRACT (to be replaced by the real files of this module).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};

/// An address range: `10.0.0.0/8`, `::1/128`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr { pub address: std::net::IpAddr, pub prefix: u8 }

impl std::str::FromStr for Cidr {
    type Err = String;
    fn from_str(_: &str) -> Result<Self, String> { unimplemented!() }
}

#[derive(Clone, Debug, Default)]
pub struct EgressConfig {
    /// Private, loopback, link-local and metadata ranges that may be dialled all the same.
    pub allow: Vec<Cidr>,
    /// Connections kept idle per host.
    pub idle_per_host: usize,
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
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// No whole answer came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EgressError {
    /// The address is private and not allowed: `10.0.0.5 (erp.internal)`.
    Refused(String),
    /// The URL is no http(s) URL.
    BadUrl(String),
    Dns(String),
    Connect(String),
    Tls(String),
    Timeout,
    /// The connection broke; whether the peer took the request is unknown.
    Broken(String),
    ResponseTooLarge { limit_bytes: usize },
    /// `Content-Encoding` that does not decode.
    Undecodable(String),
}

/// One for the whole process, cheap to clone: connections are shared across connectors. Takes the clock for nothing but tests.
#[derive(Clone)]
pub struct Egress { _inner: Arc<()> }

impl Egress {
    pub fn new(_config: EgressConfig) -> Self { unimplemented!() }
    /// One request, one answer. Never retries, never follows a redirect.
    pub async fn send(&self, _request: Request<Bytes>, _limits: ExchangeLimits) -> Result<Answer, EgressError> { unimplemented!() }
}
