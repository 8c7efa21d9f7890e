//! Pages, as the runtime sees them.

use crate::map::Expr;

/// `page`.
#[derive(Clone, Debug)]
pub struct PagePlan {
    /// By what a page is asked for.
    pub by: PageBy,
    /// Records a page.
    pub size: Option<u64>,
    /// The query parameter that takes the size.
    pub size_param: Option<String>,
    /// `stop`.
    pub stop: Option<Expr>,
    /// How many records the API gives for one window; then it begins anew at the cursor.
    pub max: Option<u64>,
}

/// By what a page is asked for.
#[derive(Clone, Debug)]
pub enum PageBy {
    /// One request.
    None,
    /// By its number, which goes into `param`, or where `{{ page.number }}` stands.
    Page {
        /// The query parameter that takes it.
        param: Option<String>,
        /// The number of the first page.
        first: i64,
    },
    /// By how many records come before it, which goes into `param`, or where `{{ page.offset }}` stands.
    Offset {
        /// The query parameter that takes it.
        param: Option<String>,
    },
    /// The token at `next` of the response goes into `param`, or where `{{ page.token }}` stands.
    Cursor {
        /// Gives it; nothing, null or empty: this was the last page.
        next: Expr,
        /// The query parameter that takes it.
        param: Option<String>,
    },
    /// A URL at `next` of the response.
    Next {
        /// Gives it; nothing, null or empty: this was the last page.
        next: Expr,
    },
    /// RFC 8288, rel=next.
    Link,
    /// The key of the last record goes into `param`, or where `{{ page.token }}` stands.
    Last {
        /// Gives it; it sees the last record.
        next: Expr,
        /// The query parameter that takes it.
        param: Option<String>,
    },
}
