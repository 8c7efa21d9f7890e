//! Records without an edge: named and mapped as a webhook's or a poll's would be.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{case, rig, subject::Subject};
use crate::{
    deliver::prepare,
    diagnostic::Span,
    event::{Origin, Record},
    ingest::{Incoming, name_event},
    map::Env,
    plan::{ConnectorPlan, Sources, StreamPlan, Written},
    world::Timestamp,
};

/// Where webhooks of tests are posted to, unless they have a `Host` of their own.
pub(super) const HOST_NAME: &str = "hooks.test";

/// A record as it would have come in, as far as a record alone tells.
pub(super) fn incoming(
    plan: &ConnectorPlan,
    stream: &StreamPlan,
    record: &Value,
    received_at: Timestamp,
) -> Incoming {
    let mut env = Env::new().with("vars", Arc::clone(&plan.vars));
    if let Some(hook) = &stream.webhook {
        let request = json!({
            "method": "POST", "path": hook.path, "url": format!("http://{HOST_NAME}{}", hook.path),
            "query": {}, "headers": {}, "body": record,
        });
        env = env.with("request", Arc::new(request));
    }
    Incoming {
        record: Record::from_value(record.clone()),
        origin: if stream.webhook.is_some() { Origin::Webhook } else { Origin::Poll },
        received_at,
        traceparent: None,
        env,
    }
}

/// What a plan makes of one record: named, mapped, checked against the schema; nothing is stored or
/// sent. `Ok(None)`: the stream's `when` does not take it. Errors: there is no such stream, or the
/// record would end unnamed or as a dead letter, one line with reason and place.
pub fn run_record(
    plan: &ConnectorPlan,
    stream: &str,
    record: &Value,
) -> Result<Option<Value>, String> {
    let found = plan.streams.iter().find(|one| &*one.name == stream);
    let stream = found.ok_or_else(|| format!("there is no stream `{stream}`"))?;
    let incoming = incoming(plan, stream, record, case::NOW);
    let named = name_event(plan, stream, incoming).map_err(|error| format!("unnamed: {error}"))?;
    let Some(named) = named else { return Ok(None) };
    match prepare(stream, &plan.vars, &named.event) {
        Ok(output) => Ok(Some(Value::clone(output.value()))),
        Err((reason, message)) => Err(format!("{reason}: {message}")),
    }
}

/// What came out of one test under some version of a connector.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// The test's name.
    pub test: String,
    /// Where it stands.
    pub at: Option<Span>,
    /// The mapped records that all destinations took, in the order in which they were accepted; or
    /// why the test cannot be run.
    pub records: Result<Vec<Value>, String>,
}

/// Runs the tests of one version of a connector through the plan of another, without looking at
/// their expectations: what comes out differently is what the change does to these fixtures.
pub fn delivered(tests: &Written, runs: &Written, sources: &dyn Sources) -> Vec<Delivered> {
    let subject = match &runs.plan {
        Some(plan) => Subject::new(plan, runs.body()).map(Arc::new),
        None => Err("the connector does not compile".to_owned()),
    };
    let mut all = Vec::new();
    for test in tests.own.test.value().into_iter().flatten() {
        let Some(file) = tests.texts.first() else { continue };
        let records = subject.clone().and_then(|subject| {
            let case = case::read(&subject, file, test, sources).map_err(|unfit| unfit.message)?;
            let mut records = Vec::new();
            rig::run(&case, &mut |_, seen| records.extend(seen.records))?;
            Ok(records)
        });
        let name = test.value.name.value().map(|name| name.0.clone());
        let at = tests.span(test.value.name.get().map_or(test.at, |name| name.at));
        all.push(Delivered { test: name.unwrap_or_default(), at, records });
    }
    all
}
