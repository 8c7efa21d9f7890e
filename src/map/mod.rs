//! From the raw record to what a destination gets: pure, compiled at load, no I/O.
//!
//! An [`Expr`] is one of the three kinds of string of the language: a path (`$.a.b | decimal`), a
//! template (`shop:{{ record.id }}`), or a text that is itself. A [`Tree`] nests them as TOML tables
//! do. A [`Mapping`] is a stream's `map`; a [`Schema`] checks its result.
//!
//! What this module promises:
//!
//! - Whatever can be known at load is an [`ExprProblem`] at load, with the bytes it is about: bad
//!   paths and templates, unknown names, filters, tests, functions, wrong filter arguments.
//! - An evaluation is a function of the expression and its [`Env`]: no clock, no chance, no I/O,
//!   bounded in steps and in output.
//! - An [`EvalError`] names the expression, what it expected, and the *type* of what it found, never
//!   a value of the record. Secrets are reached through [`Expr::secret`] alone.
//!
//! Plain paths and dotted names are walked natively and borrow from the record; a template engine
//! runs only where an expression needs one.

mod chain;
mod check;
mod env;
mod expr;
mod fault;
mod filters;
mod flow;
mod json;
mod lex;
pub mod outline;
mod parts;
mod path;
mod schema;
mod shared;
mod site;
mod template;
mod tree;

pub use env::Env;
pub use expr::{Exact, Expr};
pub use fault::{EvalError, Place};
pub(crate) use filters::sha256_hex;
pub use parts::{FilterPart, Head, Parts};
pub use schema::Schema;
pub(crate) use shared::text as shared_text;
pub use site::{ExprProblem, ExprProblemKind, Library, Lookup, Site};
pub use tree::{Mapping, Tree};
