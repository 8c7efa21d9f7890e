//! `schema = "order.v1"`: a file of the project, or a built-in one; compiled once for all that name it.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use serde_json::Value;

use super::{super::ContentHash, Sources, context::Context, hash::Hasher};
use crate::{
    definition::{kinds::Plain, presets::SCHEMAS, table::At},
    diagnostic::codes,
    map::Schema,
};

/// A compiled schema, as long as a plan uses it.
struct Shared {
    schema: Weak<Schema>,
    content: ContentHash,
}

/// By name and text: ten thousand connectors that deliver orders share one.
type Cache = HashMap<(String, String), Shared>;

static CACHE: Mutex<Option<Cache>> = Mutex::new(None);

/// The JSON Schema of that name as a document: a file of the project, or a built-in one. `None`:
/// there is neither, or it is not JSON.
pub fn schema_document(root: &Path, name: &str, sources: &dyn Sources) -> Option<Value> {
    let file = path_of(name).and_then(|path| sources.read(&root.join(path)));
    let text = file.as_ref().map(|file| file.text.as_str()).or_else(|| built_in(name))?;
    serde_json::from_str(text).ok()
}

/// Where a project keeps the schema of that name; `None` for a name that would leave the folder.
fn path_of(name: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    (name.chars().all(plain) && !name.contains("..")).then(|| format!("schemas/{name}.json"))
}

fn built_in(name: &str) -> Option<&'static str> {
    SCHEMAS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

pub(super) fn resolve(context: &mut Context<'_>, given: &At<Plain>) -> Option<Arc<Schema>> {
    let name = given.value.0.as_str();
    let file = path_of(name).and_then(|path| context.read_in_root(&path));
    let Some(text) = file.as_ref().map(|file| file.text.as_str()).or_else(|| built_in(name)) else {
        let known = SCHEMAS.iter().map(|(name, _)| *name);
        context.unknown(codes::UNKNOWN_SCHEMA, given.at, "schema", name, known).help(format!(
            "a schema of your own stands in schemas/{name}.json in the project's folder"
        ));
        return None;
    };
    match compile(name, text) {
        Ok((schema, content)) => {
            context.hash.content(content);
            Some(schema)
        }
        Err(problem) => {
            context
                .error(
                    codes::BAD_SCHEMA,
                    given.at,
                    format!("schema `{name}` cannot be used"),
                    problem,
                )
                .help("a schema is a JSON document that follows JSON Schema, draft 2020-12");
            None
        }
    }
}

fn compile(name: &str, text: &str) -> Result<(Arc<Schema>, ContentHash), String> {
    let key = (name.to_owned(), text.to_owned());
    let mut guard = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    let cache = guard.get_or_insert_with(HashMap::new);
    if let Some(shared) = cache.get(&key)
        && let Some(schema) = shared.schema.upgrade()
    {
        return Ok((schema, shared.content));
    }
    let document: Value =
        serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let schema = Arc::new(Schema::compile(name, &document)?);
    let mut hasher = Hasher::new();
    hasher.json(&document);
    let content = hasher.finish();
    cache.retain(|_, shared| shared.schema.strong_count() > 0);
    cache.insert(key, Shared { schema: Arc::downgrade(&schema), content });
    Ok((schema, content))
}
