//! `page`: how pages follow each other.

use super::{
    kinds::{Expression, Int, Plain},
    table::{choice, table},
};

table! {
    /// How pages follow each other.
    pub struct PageDef "`page`" {
        /// By what a page is asked for.
        by "by": PageKind;
        /// The query parameter that takes the page's number, offset, token or last key.
        param "param": Plain;
        /// The number of the first page.
        first "first": Int<{ i64::MIN }, { i64::MAX }> = "1";
        /// Records a page.
        size "size": Int<1, 1_000_000>;
        /// The query parameter that takes the size.
        size_param "size_param": Plain;
        /// The path from the answer's body to the next page's token or URL; for `last` from the last record to its key.
        next "next": Expression;
        /// Ends the paging where it holds.
        stop "stop": Expression;
        /// How many records the API gives for one window, however many there are. Paging then begins anew at the cursor.
        max "max": Int<1, 1_000_000_000>;
    }
}

choice! {
    /// By what a page is asked for.
    pub enum PageKind {
        /// There is one page.
        None "none",
        /// By its number.
        Page "page",
        /// By how many records come before it.
        Offset "offset",
        /// By a token that the page before gave.
        Cursor "cursor",
        /// By a URL that the page before gave.
        Next "next",
        /// By the `Link` header (RFC 8288).
        Link "link",
        /// By the key of the last record of the page before.
        Last "last",
    }
}
