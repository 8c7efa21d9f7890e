//! The TOML as written: spans, unknown keys, one file a table. Pure.
