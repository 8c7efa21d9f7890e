//! The one integration binary.

mod admin;
mod auth;
mod backfill;
mod bus;
mod ci;
mod cli;
mod deliver;
mod diff;
mod docs;
mod document;
mod engine;
mod fanout;
mod fmt;
mod hostile;
mod integrations;
mod language;
mod lints;
mod map;
mod new;
mod poll;
mod recording;
mod support;
mod testing;
mod tidy;
mod walk;
mod webhook;
