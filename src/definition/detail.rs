//! `detail`: one more request for each record that a poll lists.

use super::{
    collections::Pairs,
    kinds::{Expression, Plain},
    table::table,
};

table! {
    /// A request for each listed record; its answer is the record, the listed one is `up`.
    pub struct DetailDef "`detail`" {
        /// With a name the listed record stays the record, and the answer is `with.NAME`.
        name "name": Plain;
        /// Appended to the base; a whole URL stands for itself.
        path "path": Expression, required;
        /// Query parameters, in the order written.
        query "query": Pairs<Expression>;
        /// Headers.
        headers "headers": Pairs<Expression>;
        /// The path from the answer's body to the document. Without it: all of it.
        record "record": Expression;
    }
}
