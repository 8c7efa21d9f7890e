//! What must hold of any text whatever that is checked. The fuzz target includes this file, so it uses
//! nothing but the library.

use std::{
    path::Path,
    sync::{Arc, LazyLock},
};

use tenon::{
    definition::lints::LINTS,
    diagnostic::{
        CODES, Diagnostic, Severity, SourceFile, Span, render_human, to_github, to_json, to_sarif,
    },
    plan::{Levels, Sources, compile_file, compile_file_with, compile_settings},
};

/// One text under every name: what a file `use`s is then itself.
pub struct Everywhere(pub String);

impl Sources for Everywhere {
    fn read(&self, path: &Path) -> Option<Arc<SourceFile>> {
        Some(Arc::new(SourceFile { path: path.to_owned(), text: self.0.clone() }))
    }
}

/// Every lint an error.
static STRICT: LazyLock<Levels> = LazyLock::new(|| {
    let denied = LINTS.iter().map(|lint| format!("{} = \"deny\"", lint.name));
    let text = format!("[lints]\n{}", denied.collect::<Vec<_>>().join("\n"));
    let file = SourceFile { path: "tenon.toml".into(), text };
    compile_settings(&Arc::new(file)).0.lints
});

/// Everything that is said about a text as a connector and as settings, and what must hold of it.
pub fn check(text: &str) {
    let sources = Everywhere(text.to_owned());
    let compiled = compile_file(Path::new(""), Path::new("shop.toml"), &sources);
    for found in &compiled.diagnostics {
        assert_lies_in_its_file(found);
    }
    let broken = compiled.diagnostics.iter().any(|found| found.severity == Severity::Error);
    assert!(!(broken && compiled.plan.is_some()), "a file with an error has no plan\n{text}");

    let denied = compile_file_with(Path::new(""), Path::new("shop.toml"), &sources, &STRICT);
    let is_lint = |found: &&Diagnostic| found.lint.is_some();
    let errors = denied.diagnostics.iter().filter(is_lint);
    // What the file itself allows stays allowed, so there may be fewer, never others.
    for lint in errors.clone().filter(|lint| lint.severity == Severity::Error) {
        assert!(denied.plan.is_none(), "{} is denied\n{text}", lint.code);
    }
    for found in &denied.diagnostics {
        assert_lies_in_its_file(found);
    }

    let file = Arc::new(SourceFile { path: "tenon.toml".into(), text: text.to_owned() });
    let settings = compile_settings(&file).1;
    for found in compiled.diagnostics.iter().chain(&settings) {
        assert_lies_in_its_file(found);
        let one = std::slice::from_ref(found);
        assert!(render_human(one, false).contains(found.code.0));
        assert!(!render_human(one, true).is_empty());
    }
    assert_eq!(to_json(&settings).as_array().map(Vec::len), Some(settings.len()));
    assert!(to_github(&compiled.diagnostics).lines().count() == compiled.diagnostics.len());
    let sarif = to_sarif(&compiled.diagnostics, Path::new("/"));
    assert_eq!(
        sarif["runs"][0]["results"].as_array().map(Vec::len),
        Some(compiled.diagnostics.len())
    );
}

fn assert_lies_in_its_file(found: &Diagnostic) {
    let spans = found.related.iter().map(|(span, _)| span).chain([&found.span]);
    for Span { file, range } in spans {
        assert!(
            file.text.get(range.clone()).is_some(),
            "{} at {range:?} of {} bytes: {}\n{}",
            found.code,
            file.text.len(),
            found.message,
            file.text
        );
    }
    assert!(!found.message.is_empty() && CODES.iter().any(|info| info.code == found.code));
}
