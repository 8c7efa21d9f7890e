//! Why no whole answer came: one line each, without anything secret.

use std::fmt;

/// No whole answer came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EgressError {
    /// The address is private and not allowed. Names it, what it is, and the flag that allows it.
    Refused(String),
    /// The URL is no http(s) URL.
    BadUrl(String),
    /// The name does not resolve, at least not now.
    Dns(String),
    /// No connection came about.
    Connect(String),
    /// The handshake failed, or this machine has no root certificates.
    Tls(String),
    /// The exchange took longer than it may.
    Timeout,
    /// The connection broke; whether the peer took the request is unknown.
    Broken(String),
    /// The body is larger than it may be.
    ResponseTooLarge {
        /// The limit, after decompression.
        limit_bytes: usize,
    },
    /// `Content-Encoding` that does not decode.
    Undecodable(String),
}

impl fmt::Display for EgressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(what) => write!(f, "refused to dial {what}"),
            Self::BadUrl(what) => write!(f, "bad URL: {what}"),
            Self::Dns(what) => write!(f, "name not resolved: {what}"),
            Self::Connect(what) => write!(f, "no connection: {what}"),
            Self::Tls(what) => write!(f, "TLS failed: {what}"),
            Self::Timeout => f.write_str("timed out"),
            Self::Broken(what) => write!(f, "connection broke: {what}"),
            Self::ResponseTooLarge { limit_bytes } => {
                write!(f, "the response is larger than {limit_bytes} bytes")
            }
            Self::Undecodable(what) => write!(f, "the response does not decode: {what}"),
        }
    }
}

impl std::error::Error for EgressError {}

impl EgressError {
    /// What hyper says, with its cause: "connection error: Connection reset by peer".
    pub(super) fn broken(error: &hyper::Error) -> Self {
        Self::Broken(chain(error))
    }
}

/// An error and its causes on one line, none repeated.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        next = cause.source();
    }
    line.replace(['\r', '\n'], " ")
}
