//! Delivery against scripted peers: the one HTTP client, credentials, and the HTTP destination.
//! The traps that other gateways fell into have tests named after them.

mod auth;
mod batch;
mod egress;
mod http;
mod parts;
