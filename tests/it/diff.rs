//! `tenon diff`.
