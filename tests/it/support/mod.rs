//! What the integration tests share: an HTTP server that answers by script, a bus that
//! waits for permission, the program in a folder, and what must hold of any text that is checked.
#![allow(dead_code)] // Not every part is used by the tests that there are today.

pub mod gated;
mod http;
pub mod program;
pub mod survive;
pub mod walk;

#[allow(unused_imports)]
pub use http::{MockServer, Reply, Seen};
