//! From the raw record to what a destination gets: pure, compiled at load, no I/O.
//!
//! An [`Expr`] is one of the three kinds of string (path, template, text). A [`Tree`] nests them as
//! TOML tables do. A [`Mapping`] is a stream's `map`; a [`Schema`] checks its result.

mod contract;

pub use contract::*;
