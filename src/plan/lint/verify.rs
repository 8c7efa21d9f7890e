//! Verifications that leave something open although the file says so itself.

use super::Subject;
use crate::{
    definition::{
        table::{At, Finding},
        verify::VerifyDef,
    },
    diagnostic::codes,
};

pub(super) fn lint(subject: &Subject<'_, '_>) -> Vec<Finding> {
    let tables = subject.own.verify.value().into_iter().flat_map(|named| &named.0);
    tables.filter_map(|(_, table)| open_body(table)).collect()
}

/// `covers_body = false` is a decision, and a reviewer's business; where the body is signed all the
/// same it is a mistake.
fn open_body(table: &At<VerifyDef>) -> Option<Finding> {
    let said = table.value.covers_body.get().filter(|covers| !covers.value)?;
    let signed = table.value.signed.value().map_or("{{ body }}", |signed| signed.text.as_str());
    let code = codes::BODY_OPEN;
    Some(if signed.contains("body") {
        Finding::new(code, said.at, "the signature binds the body after all", "this is not so")
            .help("leave `covers_body` out: then a template without the body is an error")
    } else {
        Finding::new(
            code,
            said.at,
            "the signature leaves the body open",
            "whoever sees one request can send any body with its signature",
        )
        .help(
            "sign {{ body }} if the provider can; if not, let the event only say what to fetch, \
             and read the rest by a poll",
        )
    })
}
