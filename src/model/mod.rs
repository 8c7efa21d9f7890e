//! Canonical models: what their fields mean, what a connector's map makes of them, and what a new
//! version of one does to those who write and those who read records.
//!
//! A model is a JSON Schema (`schemas/order.v1.json`) with a few annotations of our own: `x-unit`,
//! `x-precision`, `x-pii`. Nothing here validates a record (that is [`map::Schema`](crate::map::Schema)),
//! and nothing reads a file.

mod compare;
mod field;
mod fit;
mod provenance;

pub use compare::{Change, Class, compare};
pub use field::{Field, Model};
pub use fit::{Misfit, misfits};
pub use provenance::{Gives, Mapped, Origin, provenance};
