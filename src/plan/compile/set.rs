//! What only shows across files.

use std::collections::HashMap;

use super::{CompiledFile, variants};
use crate::diagnostic::{Diagnostic, Severity, Span, codes};

/// Two connectors of one name, two connectors that claim one webhook path (the finding stands at the
/// later file, in the order given, and points to the earlier one), variants without their originals.
pub fn check_set(files: &[&CompiledFile]) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    let mut names: HashMap<&str, &Span> = HashMap::new();
    for file in files {
        let (Some(name), Some(span)) = (&file.name, &file.name_span) else { continue };
        match names.get(&**name) {
            Some(first) => diagnostics.push(same_name(name, span, first)),
            None => {
                names.insert(name, span);
            }
        }
    }
    let mut routes: HashMap<&str, (usize, &Span)> = HashMap::new();
    for (index, file) in files.iter().enumerate() {
        // A connector that runs only through `use` serves no path, nor does a variant.
        let may_serve =
            file.plan.is_some() || file.diagnostics.iter().any(|d| d.severity == Severity::Error);
        let serves = may_serve && !file.is_variant;
        for (path, span) in file.routes.iter().filter(|_| serves) {
            match routes.get(path.as_str()) {
                Some((first, _)) if *first == index => {}
                Some((_, first)) => diagnostics.push(same_route(path, span, first)),
                None => {
                    routes.insert(path, (index, span));
                }
            }
        }
    }
    diagnostics.extend(variants::check(files));
    diagnostics
}

fn same_name(name: &str, span: &Span, first: &Span) -> Diagnostic {
    Diagnostic::new(
        codes::SAME_NAME,
        span.clone(),
        format!("two connectors are called `{name}`"),
        "the name is taken",
    )
    .related(first.clone(), "by this one")
    .help("the name is a connector's identity: state and cursors are kept under it; choose another")
}

fn same_route(path: &str, span: &Span, first: &Span) -> Diagnostic {
    Diagnostic::new(
        codes::SAME_ROUTE,
        span.clone(),
        format!("two connectors claim the webhook path `{path}`"),
        "the path is taken",
    )
    .related(first.clone(), "by this one")
    .help("give each connector a path of its own; streams of one connector may share one")
}
