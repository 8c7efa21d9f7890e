//! Polls: request → pages → records → append with the cursor, page by page.
//!
//! What this module promises: everything that the API lists is read once, and what was read is
//! durable before the cursor passes it. A run that cannot go on says why, and never reports success
//! over an answer that it did not understand.
//!
//! [`next_run`] says when; [`Poller::run`] does it. What decides is pure and by itself: `schedule`,
//! `request`, `answer`, `records`, `explode`, `page`, `cursor`, `window`, `address`. What acts is `fetch`, `ahead`, `store`, `job`, `result` and `run`. What
//! is on disk is in `stored`, `journey`, `parents` and `waiting`.

mod address;
mod ahead;
mod answer;
mod backfill;
mod condition;
mod cursor;
mod detail;
mod explode;
mod fanout;
mod fetch;
mod group;
mod job;
mod journey;
mod last;
mod link;
mod on;
mod page;
mod parents;
mod partition;
mod path;
mod reconcile;
mod records;
mod report;
mod request;
mod result;
mod run;
mod sample;
mod schedule;
mod source;
pub mod state;
mod store;
mod stored;
mod stream;
#[cfg(test)]
mod testing;
mod told;
mod waiting;
mod window;

pub use backfill::Backfill;
pub use journey::{Journey, journey_key};
pub use parents::Pass;
pub use reconcile::{Range, reconciliation, reconciliation_range, reconciliation_rest};
pub use report::{PollFailure, PollReport};
pub use run::Poller;
pub use sample::Sampled;
pub use schedule::next_run;
pub use source::Source;
pub use stored::{StoredError, cursor_key, cursor_text, partition_key};
pub use told::Told;
pub use waiting::{Waiting, waiting};
