//! The engine: runs plans as supervised pipelines. It alone spawns tasks.

mod contract;

pub use contract::*;
