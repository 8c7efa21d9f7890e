//! Delivery: what an attempt's outcome means (pure), and how each kind of destination is reached.
//!
//! - [`prepare`] turns an event into what the destination gets, or says why it cannot.
//! - [`Destination::attempt`] makes one attempt and says what came of it: an [`Outcome`]. Nothing is
//!   tried again in there, but for one resend after a refreshed token.
//! - [`Destination::attempt_batch`] makes one for several events, and says what came of each.
//! - [`decide`] turns the outcome into what happens [`Next`]: a table without clock or chance.
//! - [`Breaker`] says whether a tenant's attempts are made at all, [`Adaptive`] how many at once: pure, too.
//! - [`Tenants`] says what each tenant may spend.
//! - [`Limiter`] says when a destination may be asked at all.
//!
//! A write carries the same `Idempotency-Key` on every attempt, replay and restart, and no key is
//! shared by two destinations.

mod adapt;
mod batch;
mod breaker;
mod decide;
mod destination;
mod file;
mod http;
mod prepare;
mod rate;
mod stdout;
mod tenants;
mod verdict;
mod view;

pub use adapt::Adaptive;
pub use batch::{AttemptedBatch, BatchOutcome, Member};
pub use breaker::{Admission, Breaker, Change, Sign, StoredBreaker};
pub use decide::{Attempted, Limit, Next, Outcome, decide, widened};
pub use destination::Destination;
pub use prepare::prepare;
pub use rate::Limiter;
pub use tenants::Tenants;
