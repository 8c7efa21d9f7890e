//! Webhooks: size limit → raw bytes → verify → decode → append → answer.

mod contract;

pub use contract::*;
