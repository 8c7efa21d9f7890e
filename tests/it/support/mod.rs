//! What the integration tests share: an HTTP server that answers by script.
#![allow(dead_code)] // Not every part is used by the tests that there are today.

mod http;

#[allow(unused_imports)]
pub use http::{MockServer, Reply, Seen};
