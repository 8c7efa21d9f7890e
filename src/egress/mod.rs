//! The only HTTP client: address guard, pool, limits, TLS.

mod contract;

pub use contract::*;
