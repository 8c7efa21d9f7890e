//! The engine: runs plans as supervised pipelines. It alone spawns tasks.

pub mod files;

mod contract;

pub use contract::*;
