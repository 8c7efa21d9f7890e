//! The admin API on its own address: JSON over HTTP/1.1, with the command line as its client.
//!
//! Absent on purpose: keys (so [`check_address`] lets it listen on loopback only) and anything that
//! shows a secret. Records are shown only where they are asked for, redacted fields masked.

pub mod api;

mod failure;
mod guard;
mod handle;
mod progress;
mod route;
mod server;
mod views;

pub use guard::check_address;
pub use route::parse_dead_id;
pub use server::serve;
