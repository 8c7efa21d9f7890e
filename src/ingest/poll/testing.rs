//! What the unit tests here share: expressions as a connector file would have them.

use crate::map::{Expr, Library, Place, Site};

/// What `text` is in a setting that sees a response.
pub(super) fn of_response(text: &str) -> Expr {
    compile(text, &["vars", "response", "page"], Some("response"))
}

/// What `text` is in a setting that sees a record.
pub(super) fn of_record(text: &str) -> Expr {
    compile(text, &["vars", "record", "response"], Some("record"))
}

/// What `text` is in a request.
pub(super) fn of_request(text: &str) -> Expr {
    compile(text, &["vars", "now", "window", "page"], None)
}

fn compile(text: &str, names: &'static [&'static str], root: Option<&'static str>) -> Expr {
    let place = Place { file: "test.toml".into(), line: 1, path: "test".into() };
    let site = Site { names, root, lenient: false };
    Expr::compile(text, &site, place, &Library::default()).expect("the expression compiles")
}
