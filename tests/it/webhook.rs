//! Tests of webhooks: what a producer sees, and what the bus has afterwards.

mod answers;
mod fetched;
mod handshakes;
mod limits;
mod naming;
mod open;
mod presets;
pub mod rig;
mod signatures;
mod sockets;
