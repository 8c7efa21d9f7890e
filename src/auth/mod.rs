//! Credentials for polls and destinations; one token cache.

mod contract;

pub use contract::*;
