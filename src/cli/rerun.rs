//! Both versions of a connector over the same records: which come out differently, field by field, and
//! which begin to fail. The pure part of the pipeline (name, map, schema) does it; nothing is polled,
//! stored or sent.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Value, json};

use super::sides::{Loaded, Tree};
use crate::{
    definition::{
        collections::{Literal, items},
        kinds::Plain,
        table::{At, Given, Loc},
        test::{AnswerEntry, DocumentDef, StepKeys},
        vars::VarEntry,
    },
    deliver::prepare,
    event::{Origin, Record},
    ingest::{Incoming, name_event},
    map::{Env, Expr},
    observe::fields::{Field, Leaves, Masks, differences, leaves},
    plan::{ConnectorPlan, StreamPlan, Written},
    review::Reviewed,
    world::Timestamp,
};

/// Records beside the connector.
const FOLDER: &str = "fixtures";
/// A connector's fixtures beyond so many are not run.
const MAX_RECORDS: usize = 10_000;
/// When every record is taken in: the same for both sides, whatever the day.
const RECEIVED: Timestamp = Timestamp(1_767_225_600_000);

/// What running the fixtures showed.
#[derive(Default)]
pub struct Ran {
    /// How many records were run through both versions.
    pub records: usize,
    /// Those that come out differently.
    pub differences: Vec<Difference>,
}

/// A record that comes out differently.
pub struct Difference {
    /// Its stream.
    pub stream: String,
    /// The file it stands in, or the test.
    pub record: String,
    /// What becomes of it, before and after, where that differs: `delivered`, `filtered`, `unnamed`,
    /// `map_failed`, `schema_failed`.
    pub outcome: Option<(&'static str, &'static str)>,
    /// Why it fails on the new side.
    pub problem: Option<String>,
    /// Fields that differ.
    pub fields: Vec<Field>,
}

/// Runs both versions of a connector over its fixtures.
pub fn both(old: &Loaded, new: &Loaded, reviewed: &Reviewed) -> Ran {
    let (Some(was), Some(is)) = reviewed.files else { return Ran::default() };
    let (was, is) = (&old.side.files[was].written, &new.side.files[is].written);
    let (Some(old_plan), Some(new_plan)) = (&was.plan, &is.plan) else { return Ran::default() };
    let alone = new
        .side
        .files
        .iter()
        .filter(|file| file.written.compiled.path.parent() == is.compiled.path.parent());
    let samples = samples(&*new.tree, is, new_plan, alone.count() == 1);
    let (old_vars, new_vars) = (vars_of(was, old_plan), vars_of(is, new_plan));
    let mut ran = Ran::default();
    for sample in samples.into_iter().take(MAX_RECORDS) {
        let find = |plan: &ConnectorPlan| {
            plan.streams.iter().find(|stream| *stream.name == *sample.stream).cloned()
        };
        let (Some(old_stream), Some(new_stream)) = (find(old_plan), find(new_plan)) else {
            continue;
        };
        ran.records += 1;
        let before = fate(old_plan, &old_stream, &old_vars, &sample.value);
        let after = fate(new_plan, &new_stream, &new_vars, &sample.value);
        let masks = Masks::of([&old_stream, &new_stream], &sample.value);
        ran.differences.extend(difference(sample, before, after, &masks));
    }
    ran
}

/// A record to try.
struct Sample {
    stream: String,
    record: String,
    value: Arc<Value>,
}

/// The records of the file's tests, then those in the folder of fixtures.
fn samples(
    tree: &dyn Tree,
    written: &Written,
    plan: &ConnectorPlan,
    is_alone: bool,
) -> Vec<Sample> {
    let folder = written.compiled.path.parent().unwrap_or(Path::new(""));
    let only = match plan.streams.as_slice() {
        [only] => Some(only.name.to_string()),
        _ => None,
    };
    let mut gather = Gather { tree, folder, plan, samples: Vec::new(), named: Vec::new() };
    for test in written.own.test.value().into_iter().flatten() {
        let stream = test.value.stream.value().map(|stream| stream.0.clone()).or(only.clone());
        let Some(stream) = stream else { continue };
        let name = test.value.name.value().map_or("", |name| name.0.as_str());
        gather.step(&stream, name, test.value.step_keys());
        for step in test.value.step.value().into_iter().flatten() {
            gather.step(&stream, name, step.value.step_keys());
        }
    }
    for path in tree.below(&folder.join(FOLDER)) {
        let by_name = plan.streams.iter().find(|stream| is_of(&path, &stream.name));
        let stream = by_name.map(|stream| stream.name.to_string());
        let Some(stream) = stream.or_else(|| only.clone().filter(|_| is_alone)) else { continue };
        if !gather.named.contains(&path) {
            gather.file(&stream, &path);
        }
    }
    gather.samples
}

/// Collects records, each file's once.
struct Gather<'a> {
    tree: &'a dyn Tree,
    folder: &'a Path,
    plan: &'a ConnectorPlan,
    samples: Vec<Sample>,
    named: Vec<PathBuf>,
}

impl Gather<'_> {
    /// What comes in, in one step of a test.
    fn step(&mut self, stream: &str, test: &str, keys: StepKeys<'_>) {
        for given in items(keys.given) {
            match &given.value {
                DocumentDef::File(file) => {
                    let path = self.folder.join(file);
                    self.file(stream, &path);
                    self.named.push(path);
                }
                DocumentDef::Inline(record) => self.add(stream, test, record.value()),
            }
        }
        if let Some(request) = keys.request.value() {
            let body = self.body(&request.body, &request.file);
            self.parts(stream, test, body, |stream| stream.webhook.as_ref()?.events.clone());
        }
        for answer in keys.responses.value().into_iter().flatten() {
            let body = match &answer.value {
                AnswerEntry::File(file) => self.body(&Given::Absent, &file_of(file)),
                AnswerEntry::Status(_) => None,
                AnswerEntry::Whole(answer) => self.body(&answer.body, &answer.file),
            };
            let records = |stream: &StreamPlan| Some(stream.poll.as_ref()?.records.clone()?.path);
            self.parts(stream, test, body, records);
        }
    }

    fn add(&mut self, stream: &str, test: &str, value: Value) {
        self.samples.push(sample(stream, format!("test \"{test}\""), value));
    }

    /// The document of a body, which stands in the test or in a file.
    fn body(&mut self, body: &Given<Literal>, file: &Given<Plain>) -> Option<Value> {
        if let Some(body) = body.value() {
            return Some(body.value());
        }
        let path = self.folder.join(&file.value()?.0);
        let document = serde_json::from_str(&self.tree.read(&path)?.text).ok();
        self.named.push(path);
        document
    }

    /// The records within a document; without a path a list's items, or the document itself.
    fn parts(
        &mut self,
        stream: &str,
        test: &str,
        document: Option<Value>,
        path: impl FnOnce(&StreamPlan) -> Option<Expr>,
    ) {
        let plan = self.plan.streams.iter().find(|plan| *plan.name == *stream).cloned();
        let (Some(document), Some(plan)) = (document, plan) else { return };
        let records = match path(&plan) {
            Some(path) => {
                let found =
                    path.select(&Record::from_value(document), &Env::new()).unwrap_or_default();
                found.iter().map(|record| record.value().as_ref().clone()).collect()
            }
            None => listed(document),
        };
        for record in records {
            self.add(stream, test, record);
        }
    }

    /// A file of records: one, a list, or one a line.
    fn file(&mut self, stream: &str, path: &Path) {
        let Some(records) = self.tree.read(path).and_then(|file| records(path, &file.text)) else {
            return;
        };
        let name = path.strip_prefix(self.folder).unwrap_or(path).display().to_string();
        let many = records.len() > 1;
        for (at, record) in records.into_iter().enumerate() {
            let name = if many { format!("{name}[{at}]") } else { name.clone() };
            self.samples.push(sample(stream, name, record));
        }
    }
}

fn file_of(name: &str) -> Given<Plain> {
    let at = Loc::default();
    Given::Value(At { value: Plain(name.to_owned()), at, key: at })
}

fn listed(document: Value) -> Vec<Value> {
    match document {
        Value::Array(items) => items,
        one => vec![one],
    }
}

fn records(path: &Path, text: &str) -> Option<Vec<Value>> {
    let extension = path.extension()?.to_str()?;
    match extension {
        "json" => serde_json::from_str(text).ok().map(listed),
        "jsonl" | "ndjson" => {
            let lines = text.lines().filter(|line| !line.trim().is_empty());
            lines.map(|line| serde_json::from_str(line).ok()).collect()
        }
        _ => None,
    }
}

fn sample(stream: &str, record: String, value: Value) -> Sample {
    Sample { stream: stream.to_owned(), record, value: Arc::new(value) }
}

/// Whether a fixture is called after a stream: `orders.json`, `orders_paid.json`, `orders/paid.json`.
fn is_of(path: &Path, stream: &str) -> bool {
    path.iter().filter_map(|part| part.to_str()).any(|part| {
        part.strip_prefix(stream)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '_', '-']))
    })
}

/// The variables' values; what an instance has to give is what the file shows as an example.
fn vars_of(written: &Written, plan: &ConnectorPlan) -> Arc<Value> {
    let mut vars = plan.vars.as_object().cloned().unwrap_or_default();
    for (name, entry) in written.body().vars.value().into_iter().flat_map(|vars| &vars.0) {
        let VarEntry::Declared(def) = &entry.value else { continue };
        if !vars.contains_key(name) {
            let example = def.example.value().map(|example| example.0.clone());
            vars.insert(name.clone(), example.unwrap_or_else(|| Value::from(name.as_str())));
        }
    }
    Arc::new(Value::Object(vars))
}

/// What becomes of a record.
struct Fate {
    outcome: &'static str,
    problem: Option<String>,
    fields: Leaves,
}

fn fate(
    connector: &ConnectorPlan,
    stream: &StreamPlan,
    vars: &Arc<Value>,
    value: &Arc<Value>,
) -> Fate {
    let failed =
        |outcome, problem: String| Fate { outcome, problem: Some(problem), fields: Leaves::new() };
    let incoming = Incoming {
        record: Record::from_value(value.as_ref().clone()),
        origin: if stream.webhook.is_some() { Origin::Webhook } else { Origin::Poll },
        received_at: RECEIVED,
        traceparent: None,
        env: env_of(stream, vars, value),
    };
    let event = match name_event(connector, stream, incoming) {
        Err(error) => return failed("unnamed", error.to_string()),
        Ok(None) => {
            return Fate { outcome: "filtered", problem: None, fields: Leaves::new() };
        }
        Ok(Some(new)) => new.event,
    };
    let output = match prepare(stream, vars, &event) {
        Err((reason, problem)) => return failed(reason, problem),
        Ok(output) => output,
    };
    let mut fields = leaves(output.value());
    fields.insert("event.key".to_owned(), event.key.clone().into());
    if stream.revision.is_some() {
        fields.insert("event.revision".to_owned(), event.revision.clone().into());
    }
    if let Some(tenant) = &event.tenant {
        fields.insert("event.tenant".to_owned(), tenant.clone().into());
    }
    if event.delete {
        fields.insert("event.delete".to_owned(), true.into());
    }
    Fate { outcome: "delivered", problem: None, fields }
}

/// As far as it is known without a producer or an API.
fn env_of(stream: &StreamPlan, vars: &Arc<Value>, value: &Arc<Value>) -> Env {
    let env = Env::new().with("vars", Arc::clone(vars));
    match &stream.webhook {
        Some(webhook) => {
            let request = json!({
                "method": "POST", "path": webhook.path, "url": webhook.path,
                "query": {}, "headers": {}, "body": value.as_ref(),
            });
            env.with("request", Arc::new(request))
        }
        None => env.with("response", Arc::new(json!({ "status": 200, "headers": {} }))),
    }
}

fn difference(sample: Sample, before: Fate, after: Fate, masks: &Masks) -> Option<Difference> {
    let outcome = (before.outcome != after.outcome).then_some((before.outcome, after.outcome));
    let mut fields = Vec::new();
    if before.outcome == "delivered" && after.outcome == "delivered" {
        fields = differences(&before.fields, &after.fields, masks);
    }
    if outcome.is_none() && fields.is_empty() {
        return None;
    }
    let Sample { stream, record, .. } = sample;
    Some(Difference { stream, record, outcome, problem: after.problem, fields })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixtures_go_by_their_streams_names() {
        for (path, is) in [
            ("fixtures/orders.json", true),
            ("fixtures/orders_paid.json", true),
            ("fixtures/orders/paid.json", true),
            ("fixtures/ordersold.json", false),
            ("fixtures/paid.json", false),
        ] {
            assert_eq!(is_of(Path::new(path), "orders"), is, "{path}");
        }
    }
}
