//! Tests of webhooks: what a producer sees, and what the bus has afterwards.

mod answers;
mod limits;
mod naming;
mod presets;
mod rig;
mod signatures;
mod sockets;
