//! Where events come from: webhooks and polls, and the naming that both share.

pub mod poll;
pub mod webhook;

mod contract;

pub use contract::*;
