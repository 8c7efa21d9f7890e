//! Where events come from: webhooks and polls, and the naming that both share.
//!
//! Whichever way a record comes in, [`name_event`] gives it its identity, so that the same thing in
//! the same state is one event. Nothing is answered, and no cursor moves, before the bus has it.

mod canonical;
mod decode;
mod naming;
pub mod poll;
pub mod webhook;

pub use naming::{Incoming, NameError, keyed, name_event, presumed};
