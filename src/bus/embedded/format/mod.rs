//! What stands on disk: one file a stored kind, each with its layout, encoder and decoder.
//!
//! All numbers are little endian. `uint` is LEB128 (seven bits a byte, least first); `bytes` is a
//! `uint` length and as many bytes; `text` is `bytes` in UTF-8. A decoder answers any input with a
//! value or [`Malformed`]; it never panics and never allocates more than the input's length asks.
//!
//! Stability: every kind belongs to [`FORMAT_VERSION`], which stands in each segment's header and
//! in the state folder's `FORMAT` file. A change to any layout raises it, and the opener of a
//! folder refuses a version that it does not know. What a later version can hold and an earlier one
//! cannot has a mark of its own in the bytes (a flag, a kind), so one decoder reads them all.
//!
//! - 1: the first.
//! - 2: events that a replay appended, the hash of what was delivered, tenants of what is unsettled.
//! - 3: gaps in the numbers of flows.

pub(super) mod append;
pub(super) mod checkpoint;
pub(super) mod claims;
mod codec;
pub(super) mod event;
pub(super) mod letter;
pub(super) mod pairs;
pub(super) mod segment;
pub(super) mod settlement;

#[cfg(test)]
pub(super) mod arbitrary;

pub(super) use codec::{Malformed, Reader, put_bytes, put_text, put_uint};

/// The version in which everything in the state folder is written; those before it are read.
pub(super) const FORMAT_VERSION: u16 = 3;
