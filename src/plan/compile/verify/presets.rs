//! The presets: compiled once for all.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, OnceLock},
};

use super::{super::context::Context, compile};
use crate::{
    definition::{self, presets::PRESETS},
    diagnostic::SourceFile,
    plan::{Algorithm, VerifyPlan},
};

/// A preset, and the secrets that it names itself.
pub(super) struct Preset {
    pub plan: Arc<VerifyPlan>,
    pub secrets: Vec<String>,
}

/// The presets that need no table at all.
const BUILT_IN: &[(&str, Algorithm)] = &[("basic", Algorithm::Basic), ("none", Algorithm::None)];

/// All of them, by name.
pub(super) fn presets() -> &'static BTreeMap<&'static str, Preset> {
    static COMPILED: OnceLock<BTreeMap<&'static str, Preset>> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let bare = BUILT_IN.iter().map(|(name, algorithm)| {
            let plan = Arc::new(VerifyPlan::bare(name, *algorithm));
            (*name, Preset { plan, secrets: Vec::new() })
        });
        let files = PRESETS.iter().filter_map(|(name, text)| {
            let (plan, secrets, _) = compiled(name, text);
            Some((*name, Preset { plan: Arc::new(plan?), secrets }))
        });
        bare.chain(files).collect()
    })
}

/// A preset, and what is wrong with its file; a test sees to it that nothing is.
#[cfg(test)]
pub(in crate::plan::compile) fn preset(
    name: &str,
    text: &str,
) -> (Option<VerifyPlan>, Vec<String>) {
    let (plan, _, problems) = compiled(name, text);
    (plan, problems)
}

fn compiled(name: &str, text: &str) -> (Option<VerifyPlan>, Vec<String>, Vec<String>) {
    let path = format!("integrations/verify/{name}.toml");
    let sources =
        OneFile(Arc::new(SourceFile { path: path.clone().into(), text: text.to_owned() }));
    let mut context = Context::new(Path::new(""), &sources);
    context.open(Path::new(&path));
    let read = definition::read_presets(0, text);
    context.report_all(read.findings);
    let def = read.definition.verify.value().and_then(|named| named.find(name));
    let plan = def.and_then(|def| compile(&mut context, name, &def.value));
    let secrets = context.secret_names().map(str::to_owned).collect();
    (plan, secrets, context.messages())
}

/// A single file that is at hand already.
struct OneFile(Arc<SourceFile>);

impl super::super::Sources for OneFile {
    fn read(&self, _path: &Path) -> Option<Arc<SourceFile>> {
        Some(Arc::clone(&self.0))
    }
}
