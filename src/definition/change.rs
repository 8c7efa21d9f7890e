//! `[[change]]`: the changelog that users see.

use super::{
    kinds::{Date, Prose, Version},
    table::{choice, table},
};

table! {
    /// An entry of the changelog.
    pub struct ChangeDef "[[change]]" {
        /// The version that brought it.
        version "version": Version, required;
        /// When.
        date "date": Date, required;
        /// What kind of change it is.
        kind "kind": ChangeKind, required;
        /// What it is, for whoever uses the connector.
        note "note": Prose, required;
    }
}

choice! {
    /// What kind of change it is.
    pub enum ChangeKind {
        /// Something new.
        Added "added",
        /// Something behaves differently.
        Changed "changed",
        /// Something will go.
        Deprecated "deprecated",
        /// Something is gone.
        Removed "removed",
        /// Something works that did not.
        Fixed "fixed",
        /// Something is safer.
        Security "security",
    }
}
