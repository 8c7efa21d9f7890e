//! Webhooks: size limit → raw bytes → verify → decode → append → answer.
//!
//! The order is the types' business: [`RawBody`] is what was read under the limits, only [`verify`]
//! turns it into a [`VerifiedBody`], and only that can be decoded. A producer is answered 202 once the
//! bus has made the event durable, and a duplicate gets the very same answer. Refusals have fixed
//! bodies that carry nothing of the inside. Time and bytes are limited at every step; what a limit
//! cuts off is counted and logged, and the log cannot be flooded from outside.

mod answer;
mod body;
mod body_path;
mod certificate;
mod challenge;
mod decode;
mod fetch;
mod handle;
mod jwt;
mod keys;
mod locate;
mod log_gate;
mod message;
mod once;
mod pair;
mod public;
mod request;
mod routes;
mod server;
mod sign;
mod stale;
mod stall;
mod verify;

pub use keys::{Key, KeyProblem};
pub use pair::{test_keys, test_secret};
pub use public::PublicKey;
pub use routes::Routes;
pub use server::{WebhookLimits, WebhookObserver, WebhookServer};
pub use sign::{Outgoing, SignProblem, Signer, sign};
pub use stall::StallGuard;
pub use verify::{Keyring, RawBody, Reject, RequestParts, VerifiedBody, verify};
