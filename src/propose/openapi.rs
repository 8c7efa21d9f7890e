//! An OpenAPI 3.0 or 3.1 document: what one GET takes and answers.

use serde_json::{Map, Value, json};

use super::{Evidence, Param};

/// References and nesting are followed no deeper.
const MAX_DEPTH: usize = 10;

/// A request that the document describes.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The server's URL; `None` where the document names no whole one.
    pub base: Option<String>,
    /// The path, with `{{ vars.NAME }}` for its parameters.
    pub path: String,
    /// The names of the path's parameters, and a value of each.
    pub vars: Vec<(String, String)>,
    /// What it does, in a line.
    pub summary: Option<String>,
    /// What is known of its answer.
    pub evidence: Evidence,
}

/// Reads a document's text and looks `path` up. Errors say what to do.
pub fn read(text: &str, path: Option<&str>) -> Result<Operation, String> {
    let document: Value = serde_json::from_str(text).map_err(|error| {
        let hint = match text.trim_start().chars().next() {
            Some('{' | '[') => "",
            _ => "; if it is YAML, convert it first: yq -o=json . api.yaml > api.json",
        };
        format!("not a JSON document: {error}{hint}")
    })?;
    if document.get("swagger").is_some() {
        return Err("this is Swagger 2.0; expected OpenAPI 3.0 or 3.1: convert it first".to_owned());
    }
    if !document["openapi"].as_str().is_some_and(|version| version.starts_with("3.")) {
        return Err(
            "expected an OpenAPI 3.0 or 3.1 document (its key `openapi` says so)".to_owned()
        );
    }
    let (name, item) = path_item(&document, path)?;
    let reader = Reader { document: &document };
    let operation = reader
        .resolve(item)
        .get("get")
        .ok_or_else(|| format!("{name} has no GET in this document; a poll reads"))?;
    Ok(reader.operation(name, item, operation))
}

fn path_item<'d>(
    document: &'d Value,
    wanted: Option<&str>,
) -> Result<(&'d str, &'d Value), String> {
    let Some(paths) = document["paths"].as_object() else {
        return Err("this document has no `paths`".to_owned());
    };
    let trimmed = |path: &str| path.trim_matches('/').to_owned();
    if let Some(wanted) = wanted
        && let Some((name, item)) = paths.iter().find(|(name, _)| trimmed(name) == trimmed(wanted))
    {
        return Ok((name, item));
    }
    let mut readable: Vec<&str> = paths
        .iter()
        .filter(|(_, item)| item.get("get").is_some())
        .map(|(name, _)| name.as_str())
        .collect();
    if let (None, [only]) = (wanted, readable.as_slice())
        && let Some((name, item)) = paths.get_key_value(*only)
    {
        return Ok((name, item));
    }
    let total = readable.len();
    readable.truncate(12);
    let more = if total > readable.len() { ", ..." } else { "" };
    let known = format!("{}{more}", readable.join(", "));
    Err(match wanted {
        Some(wanted) => {
            match crate::diagnostic::nearest(wanted, paths.keys().map(String::as_str)) {
                Some(near) => format!("no path {wanted} in this document; did you mean {near}?"),
                None => format!("no path {wanted} in this document; those with a GET: {known}"),
            }
        }
        None => format!("say which path is polled: --path PATH; those with a GET: {known}"),
    })
}

struct Reader<'d> {
    document: &'d Value,
}

impl<'d> Reader<'d> {
    fn operation(&self, name: &str, item: &'d Value, operation: &'d Value) -> Operation {
        let (security, scopes) = self.security(operation);
        let mut params = Vec::new();
        let mut vars = Vec::new();
        let given = [self.resolve(item), operation]
            .into_iter()
            .flat_map(|owner| owner["parameters"].as_array().into_iter().flatten());
        for param in given.map(|param| self.resolve(param)) {
            let Some(name) = param["name"].as_str() else { continue };
            match param["in"].as_str() {
                Some("query") => params.push(self.param(name, param)),
                Some("path") => {
                    let value = self.value_of(param).unwrap_or_else(|| name.to_owned());
                    vars.push((super::table_name(name), value));
                }
                _ => {}
            }
        }
        let (response, headers) = self.answer(operation);
        let has_link_header = headers
            .is_some_and(|headers| headers.keys().any(|name| name.eq_ignore_ascii_case("link")));
        let topic = name.split('/').rfind(|part| !part.is_empty() && !part.starts_with('{'));
        let topic = topic.map(|part| part.trim_end_matches(".json").to_owned());
        Operation {
            base: self.base(),
            path: path_template(name),
            vars,
            summary: operation["summary"].as_str().map(|text| text.trim().to_owned()),
            evidence: Evidence {
                response,
                is_made_up: true,
                topic,
                params: Some(params),
                has_link_header,
                security,
                scopes,
            },
        }
    }

    /// What a `$ref` within the document leads to.
    fn resolve(&self, mut value: &'d Value) -> &'d Value {
        for _ in 0..MAX_DEPTH {
            let Some(pointer) = value["$ref"].as_str().and_then(|target| target.strip_prefix('#'))
            else {
                break;
            };
            match self.document.pointer(pointer) {
                Some(target) => value = target,
                None => break,
            }
        }
        value
    }

    fn base(&self) -> Option<String> {
        let server = self.document["servers"].get(0)?;
        let mut url = server["url"].as_str()?.to_owned();
        for (name, variable) in server["variables"].as_object().into_iter().flatten() {
            let default = variable["default"].as_str().unwrap_or(name);
            url = url.replace(&format!("{{{name}}}"), default);
        }
        url.starts_with("http").then(|| url.trim_end_matches('/').to_owned())
    }

    fn param(&self, name: &str, param: &'d Value) -> Param {
        let schema = self.resolve(&param["schema"]);
        Param {
            name: name.to_owned(),
            required: param["required"] == true,
            value: self.value_of(param),
            maximum: schema["maximum"].as_u64(),
        }
    }

    /// A value that a parameter takes.
    fn value_of(&self, param: &'d Value) -> Option<String> {
        let schema = self.resolve(&param["schema"]);
        let first_example = param["examples"]
            .as_object()
            .and_then(|all| all.values().next())
            .map(|one| &one["value"]);
        [
            Some(&schema["default"]),
            Some(&param["example"]),
            first_example,
            Some(&schema["example"]),
            schema["enum"].get(0),
        ]
        .into_iter()
        .flatten()
        .find_map(|value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
            _ => None,
        })
    }

    /// The scheme that the operation needs first, and its scopes.
    fn security(&self, operation: &'d Value) -> (Option<Value>, Vec<String>) {
        let needed = operation.get("security").or_else(|| self.document.get("security"));
        let first = needed
            .and_then(Value::as_array)
            .and_then(|all| all.iter().filter_map(Value::as_object).flat_map(Map::iter).next());
        let Some((name, scopes)) = first else { return (None, Vec::new()) };
        let scheme = &self.document["components"]["securitySchemes"][name];
        let scopes = scopes.as_array().into_iter().flatten();
        let scopes = scopes.filter_map(|scope| scope.as_str().map(str::to_owned)).collect();
        let scheme = self.resolve(scheme);
        ((!scheme.is_null()).then(|| scheme.clone()), scopes)
    }

    /// The good answer's body, made up, and its headers.
    fn answer(&self, operation: &'d Value) -> (Value, Option<&'d Map<String, Value>>) {
        let responses = &operation["responses"];
        let found = ["200", "2XX", "default"].iter().find_map(|status| responses.get(*status));
        let Some(response) = found.map(|response| self.resolve(response)) else {
            return (Value::Null, None);
        };
        let headers = response["headers"].as_object();
        let content = response["content"].as_object().and_then(|content| {
            content.iter().find(|(kind, _)| kind.contains("json")).map(|(_, content)| content)
        });
        let Some(content) = content else { return (Value::Null, headers) };
        if content["schema"].is_object() {
            return (self.sample(&content["schema"], Variant::FULL, 0), headers);
        }
        let examples = content["examples"].as_object().and_then(|all| all.values().next());
        let example = content.get("example").or_else(|| examples.map(|one| &one["value"]));
        (example.cloned().unwrap_or_default(), headers)
    }

    /// A document of a schema.
    fn sample(&self, schema: &'d Value, variant: Variant, depth: usize) -> Value {
        let schema = self.resolve(schema);
        if depth > MAX_DEPTH {
            return Value::Null;
        }
        let is_null = |schema: &&Value| schema["type"] == "null";
        for one_of in ["oneOf", "anyOf"] {
            if let Some(all) = schema[one_of].as_array() {
                if !variant.is_full && all.iter().any(|one| is_null(&one)) {
                    return Value::Null;
                }
                let first = all.iter().map(|one| self.resolve(one)).find(|one| !is_null(one));
                return first.map_or(Value::Null, |one| self.sample(one, variant, depth + 1));
            }
        }
        let types: Vec<&str> = match &schema["type"] {
            Value::String(one) => vec![one],
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        if !variant.is_full && (types.contains(&"null") || schema["nullable"] == true) {
            return Value::Null;
        }
        let kind = types.into_iter().find(|kind| *kind != "null");
        let is_object = kind == Some("object")
            || schema["properties"].is_object()
            || schema["allOf"].is_array();
        if is_object {
            let mut object = Map::new();
            self.members(schema, variant, depth, &mut object);
            return Value::Object(object);
        }
        if kind == Some("array") || schema["items"].is_object() {
            // One with all there may be, one with what there must be.
            let items = [Variant::FULL, Variant { is_full: false, number: 2 }];
            let items = items.map(|variant| self.sample(&schema["items"], variant, depth + 1));
            return Value::Array(items.to_vec());
        }
        Self::scalar(schema, kind, variant)
    }

    fn members(
        &self,
        schema: &'d Value,
        variant: Variant,
        depth: usize,
        object: &mut Map<String, Value>,
    ) {
        if depth > MAX_DEPTH {
            return;
        }
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.members(self.resolve(part), variant, depth + 1, object);
        }
        // A document that never says what is required describes what there is.
        let required = schema["required"].as_array();
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let is_required =
                required.is_none_or(|all| all.iter().any(|one| one.as_str() == Some(name)));
            if self.resolve(property)["writeOnly"] == true || !variant.is_full && !is_required {
                continue;
            }
            object.insert(name.clone(), self.sample(property, variant, depth + 1));
        }
    }

    fn scalar(schema: &'d Value, kind: Option<&str>, variant: Variant) -> Value {
        let examples =
            [&schema["example"], &schema["examples"][0], &schema["const"], &schema["enum"][0]];
        let of_kind = |value: &&&Value| match kind {
            Some("string") => value.is_string(),
            Some("integer") => value.is_i64() || value.is_u64(),
            Some("number") => value.is_number(),
            Some("boolean") => value.is_boolean(),
            _ => !value.is_null(),
        };
        if let Some(example) = examples.iter().find(of_kind) {
            return (*example).clone();
        }
        match (kind, schema["format"].as_str().unwrap_or_default()) {
            (Some("integer"), _) => json!(variant.number),
            (Some("number"), _) => json!(f64::from(variant.number) + 0.5),
            (Some("boolean"), _) => json!(true),
            (Some("string"), "date-time") => json!("2026-01-01T00:00:00Z"),
            (Some("string"), "date") => json!("2026-01-01"),
            (Some("string"), "uri" | "url") => json!("https://example.com/"),
            (Some("string"), "email") => json!("ada@example.com"),
            (Some("string"), "uuid") => {
                json!(format!("00000000-0000-4000-8000-{:012}", variant.number))
            }
            (Some("string"), "decimal") => json!("1.50"),
            (Some("string"), _) => json!("text"),
            _ => Value::Null,
        }
    }
}

/// Which of the documents that a schema allows.
#[derive(Clone, Copy)]
struct Variant {
    /// With all that may be there, or only what must.
    is_full: bool,
    /// Tells it from others.
    number: u32,
}

impl Variant {
    const FULL: Self = Self { is_full: true, number: 1 };
}

/// `/shops/{shopId}/orders` → `/shops/{{ vars.shop_id }}/orders`.
fn path_template(path: &str) -> String {
    let mut out = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, after)) = after.split_once('}') else { break };
        out.push_str(before);
        out.push_str(&format!("{{{{ vars.{} }}}}", super::table_name(name)));
        rest = after;
    }
    out.push_str(rest);
    out
}
