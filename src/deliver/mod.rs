//! Delivery: what an attempt's outcome means (pure), and how each kind of destination is reached.

mod contract;

pub use contract::*;
