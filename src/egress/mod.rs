//! The only HTTP client: address guard, pool, limits, TLS.
//!
//! What it promises of every exchange, whoever asks for it (a poll, a destination, a token endpoint):
//!
//! - The address that is dialled is one that was checked after resolution, and nothing private is
//!   dialled unless the operator allowed its range ([`EgressConfig::allow`]).
//! - One request, one answer. Redirects are answers, proxies of the environment are not asked, and
//!   nothing that the peer may have read is sent twice.
//! - The time from the dial to the last byte and the size of the body, after decompression, are
//!   bounded ([`ExchangeLimits`]); the number of exchanges at once with one host is, too.
//! - A connection made with a client certificate ([`Identity`]) serves requests of that identity alone.
//! - Messages name the host and the cause. They hold no path, query, header or body, so no secret.

mod body;
mod budget;
mod client;
mod connection;
mod dial;
mod error;
mod flowing;
mod guard;
mod host;
mod identity;
mod pool;
mod retry_after;
mod script;
mod tls;

pub use budget::{left, spent_until};
pub use client::{Answer, Egress, EgressConfig, ExchangeLimits, header_values};
pub use error::EgressError;
pub use flowing::Flowing;
pub use guard::Cidr;
pub use identity::Identity;
pub use retry_after::{date_of, retry_after};
pub use script::{Peer, Script};
