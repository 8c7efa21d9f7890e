//! `[[test]]`: the whole pipeline under a script.
//!
//! A test runs what the daemon runs (ingest, bus, map, schema, deliver, settle) on a clock that is
//! scripted and with peers that are scripted, so it is the same every time, needs no network and no
//! secret, and takes no time. From the bottom up: `case` is a test with its files read;
//! `subject` the connector made harmless; `script` the peers; `rig` runs a case; `observe` says what
//! happened; `compare` and `diff` say how that differs from what was expected; `report` puts it into
//! words and `update` back into the file; `suite` runs many at once; `record` makes a test from a
//! live poll.

mod case;
mod compare;
mod diff;
mod document;
mod draft;
mod given;
mod keys;
mod mask;
mod observe;
pub mod record;
mod report;
mod rig;
mod script;
mod subject;
mod suite;
mod update;

pub use compare::{Failure, Fix};
pub use diff::Difference;
pub use given::{Delivered, delivered, run_record};
pub use report::{human, json, junit};
pub use suite::{Report, Selection, Tested, Verdict, run};
pub use update::{Update, update};
