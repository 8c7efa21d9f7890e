//! The HTTP destination.
