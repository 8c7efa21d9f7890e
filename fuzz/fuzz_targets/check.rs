//! Arbitrary text, as a connector and as `tenon.toml`: what `tests/it/hostile.rs` promises of mutants,
//! with coverage to find them.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/it/support/survive.rs"]
mod survive;

fuzz_target!(|text: &str| survive::check(text));
