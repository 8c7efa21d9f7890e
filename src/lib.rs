//! Tenon loads connectors (TOML files), keeps them hot-reloaded, and runs each as a supervised
//! pipeline with durable state.
//!
//! # The path of one event
//!
//! 1. [`ingest`] takes it in: a webhook is limited, verified over its raw bytes and decoded; a poll
//!    fetches pages. Both name it (key, revision, tenant) the same way.
//! 2. [`bus`] claims its id and makes event, claim and cursor durable in one atomic record. Only
//!    then is the producer answered, or the cursor moved. For each destination the event waits in its
//!    tenant's flow of the lane, and flows take turns.
//! 3. The [`engine`] leases it once its tenant's bay at the destination has room: no open breaker, a
//!    budget left, fewer attempts under way than the destination takes. A canary may be whose map and
//!    destination it gets; a shadow gets a copy, and delivers nothing.
//! 4. [`map`] turns the raw record into what a destination gets; with a batch, several wait there for
//!    each other.
//! 5. [`deliver`] attempts it; what an outcome means is decided by a pure function, for a batch event
//!    by event.
//! 6. The [`engine`]'s pipeline settles it: delivered, superseded or dead, exactly one of them for
//!    each destination. That counts for the connector's objective.
//!
//! # Invariants
//!
//! - What was answered 2xx is fsync'd. `kill -9` loses nothing that was acknowledged.
//! - A cursor never stands ahead of the events it passed: they are one record.
//! - An event's id, and each destination's idempotency key, follow from what it is (connector,
//!   stream, key, revision), not from when or how often it came.
//! - The runtime sees only [`plan`]s. A [`definition`] is what somebody wrote; it never runs.
//! - [`map`], [`plan`], [`definition`] and the decisions in [`deliver`] do no I/O and know neither
//!   time nor chance, so they cannot be slow, or fail, for the network's reasons.
//! - Only the [`engine`] spawns; only [`egress`] dials out; only `world` reads the clock.
//!
//! Modules stand in reading order, from the bottom up; a file imports only upward in this list.

pub mod world;

pub mod event;

pub mod diagnostic;

pub mod egress;

pub mod map;

pub mod definition;

pub mod plan;

pub mod model;

pub mod document;

pub mod review;

pub mod propose;

pub mod bus;

pub mod auth;

pub mod deliver;

pub mod ingest;

pub mod observe;

pub mod engine;

pub mod testing;

pub mod admin;

pub mod cli;
