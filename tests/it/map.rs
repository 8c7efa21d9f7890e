//! Tests of map.
