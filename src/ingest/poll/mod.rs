//! Polls: request → pages → records → append with the cursor, page by page.

mod contract;

pub use contract::*;
