//! Tenon.
#![allow(missing_docs, clippy::all, clippy::pedantic, unused)]

pub mod world;
pub mod diagnostic;
pub mod definition;
pub mod event;
pub mod map;
pub mod plan;
pub mod bus;
pub mod egress;
pub mod auth;
pub mod deliver;
pub mod ingest;
pub mod observe;
pub mod engine;
pub mod admin;
pub mod cli;
