//! Naming: from a record to the event it is, or to nothing where `when` says it is not ours.
//!
//! Pure. The same record has the same name whichever way it came in and however often: webhooks and
//! polls both go through [`name_event`]. A part that is missing, null or empty is an error for that
//! event and never an empty name, under which distinct events would become one.

use std::{fmt, sync::Arc};

use serde_json::Value;

use super::canonical::{canonical_number, integral, record_hash};
use crate::{
    bus::{Claim, NewEvent},
    event::{Event, EventId, Origin, Record},
    map::{Env, EvalError, Exact, Expr, Place, Tree},
    plan::{ConnectorPlan, Dedupe, RevisionPlan, StreamPlan},
    world::Timestamp,
};

/// 2^63: integers of 64 bits end there.
const MAX_ORDER: f64 = 9_223_372_036_854_775_808.0;

/// A record as it came in.
#[derive(Clone)]
pub struct Incoming {
    /// What came.
    pub record: Record,
    /// By which way it came.
    pub origin: Origin,
    /// When.
    pub received_at: Timestamp,
    /// W3C `traceparent`, where there is one.
    pub traceparent: Option<String>,
    /// `vars`, and whatever of `request`, `response`, `up`, `each` exists here; `record` is bound
    /// by [`name_event`].
    pub env: Env,
}

/// Why a record could not be named. Its text is for the log: it shows places and types, no values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameError {
    /// An expression failed.
    Eval(EvalError),
    /// A part of the name is missing, null or empty.
    Missing {
        /// `key`, `revision`, …
        what: &'static str,
        /// The expression's line.
        place: Place,
    },
    /// A part of the name is an array or an object.
    NotScalar {
        /// `key`, `revision`, …
        what: &'static str,
        /// `an array` or `an object`.
        found: &'static str,
        /// The expression's line.
        place: Place,
    },
}

impl From<EvalError> for NameError {
    fn from(error: EvalError) -> Self {
        Self::Eval(error)
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Eval(error) => error.fmt(f),
            Self::Missing { what, place } => {
                write!(f, "{what} is missing, null or empty ({}:{})", place.file, place.line)
            }
            Self::NotScalar { what, found, place } => write!(
                f,
                "{what}: expected a string, number or boolean, found {found} ({}:{})",
                place.file, place.line
            ),
        }
    }
}

impl std::error::Error for NameError {}

/// The event that a record is by key and revision, were there nothing else to it. For asking whether it
/// is known: no more of it holds than its id and its key.
pub fn presumed(
    connector: &ConnectorPlan,
    stream: &StreamPlan,
    record: &Record,
    env: &Env,
) -> Result<NewEvent, NameError> {
    let env = env.clone().with_record("record", record.clone());
    let name = identity(stream, record, &env)?;
    Ok(unread(connector, stream, record, name, false))
}

/// What a record is by its key, where the rest of its name cannot be had: its hash stands in for its
/// revision. It is no event, but it is there, and others may be read for it.
pub fn keyed(
    connector: &ConnectorPlan,
    stream: &StreamPlan,
    incoming: Incoming,
) -> Result<Option<NewEvent>, NameError> {
    let Incoming { record, env, .. } = incoming;
    let mut env = env.with_record("record", record.clone());
    if let Some(vars) = &stream.vars {
        env = env.with("vars", Arc::clone(&vars.all));
    }
    if let Some(when) = &stream.when
        && !when.test(&env)?
    {
        return Ok(None);
    }
    let key = match &stream.key[..] {
        [] => record_hash(&record),
        parts => key_of(parts, &env)?,
    };
    let delete = stream.delete.as_ref().map_or(Ok(false), |delete| delete.test(&env))?;
    let revision = (record_hash(&record), None);
    Ok(Some(unread(connector, stream, &record, (key, revision), delete)))
}

/// No more than a name.
fn unread(
    connector: &ConnectorPlan,
    stream: &StreamPlan,
    record: &Record,
    (key, (revision, order)): (String, Revision),
    delete: bool,
) -> NewEvent {
    let event = Event {
        id: EventId::derive(&connector.name, &stream.name, &key, &revision),
        connector: Arc::clone(&connector.name),
        stream: Arc::clone(&stream.name),
        key,
        revision,
        order,
        tenant: None,
        received_at: Timestamp(0),
        origin: Origin::Poll,
        delete,
        to: Vec::new(),
        record: record.clone(),
        with: None,
        traceparent: None,
        replayed: None,
    };
    NewEvent { event: Arc::new(event), claim: claim_of(stream) }
}

fn claim_of(stream: &StreamPlan) -> Claim {
    match stream.dedupe {
        Dedupe::Window(window) => Claim::Window(window),
        Dedupe::Forever => Claim::Forever,
    }
}

/// `when` → key → revision → tenant → with → delete → claim. `Ok(None)`: `when` says it is not ours.
pub fn name_event(
    connector: &ConnectorPlan,
    stream: &StreamPlan,
    incoming: Incoming,
) -> Result<Option<NewEvent>, NameError> {
    let Incoming { record, origin, received_at, traceparent, env } = incoming;
    let mut env = env.with_record("record", record.clone());
    if let Some(vars) = &stream.vars {
        env = env.with("vars", Arc::clone(&vars.all));
    }
    if let Some(when) = &stream.when
        && !when.test(&env)?
    {
        return Ok(None);
    }
    let (key, (revision, order)) = identity(stream, &record, &env)?;
    let event = Event {
        id: EventId::derive(&connector.name, &stream.name, &key, &revision),
        connector: Arc::clone(&connector.name),
        stream: Arc::clone(&stream.name),
        key,
        revision,
        order,
        tenant: tenant_of(connector, stream, &env)?,
        received_at,
        origin,
        delete: stream.delete.as_ref().map_or(Ok(false), |delete| delete.test(&env))?,
        to: stream.to.clone(),
        record,
        with: with_of(stream, &env)?,
        traceparent,
        replayed: None,
    };
    Ok(Some(NewEvent { event: Arc::new(event), claim: claim_of(stream) }))
}

/// A revision's text, and its number where it restores order.
type Revision = (String, Option<i64>);

/// Key and revision. The record's hash stands in for what the stream does not name.
fn identity(
    stream: &StreamPlan,
    record: &Record,
    env: &Env,
) -> Result<(String, Revision), NameError> {
    match (&stream.key[..], &stream.revision) {
        ([], None) => {
            let hash = record_hash(record);
            Ok((hash.clone(), (hash, None)))
        }
        ([], Some(revision)) => Ok((record_hash(record), revision_of(revision, env)?)),
        (parts, None) => Ok((key_of(parts, env)?, (record_hash(record), None))),
        (parts, Some(revision)) => Ok((key_of(parts, env)?, revision_of(revision, env)?)),
    }
}

/// The parts joined by `/`. In a list `/` and `\` within a part get a `\` before them, so that
/// `["a/b", "c"]` and `["a", "b/c"]` are two keys.
fn key_of(parts: &[Expr], env: &Env) -> Result<String, NameError> {
    if let [only] = parts {
        return scalar("key", only, env);
    }
    let mut key = String::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            key.push('/');
        }
        for character in scalar("key", part, env)?.chars() {
            if matches!(character, '/' | '\\') {
                key.push('\\');
            }
            key.push(character);
        }
    }
    Ok(key)
}

fn revision_of(plan: &RevisionPlan, env: &Env) -> Result<Revision, NameError> {
    let value = present("revision", &plan.expr, env)?;
    let number = match &value {
        Exact::Value(Value::Number(number)) => Some(number.clone()),
        Exact::Digits(text) => serde_json::from_str(text).ok(),
        Exact::Value(_) => None,
    };
    if let Some(number) = number {
        // A number beyond i64 has no place in the order; saturated, two of them would be equal.
        let floor = |float: f64| (float.abs() < MAX_ORDER).then(|| float.floor() as i64);
        let order = integral(&number).or_else(|| number.as_f64().and_then(floor));
        return Ok((scalar_text("revision", &plan.expr, value)?, order));
    }
    let text = scalar_text("revision", &plan.expr, value)?;
    if !plan.ordered {
        return Ok((text, None));
    }
    // One instant has one text, whatever offset or number of zeros it was written with.
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return Ok((instant.to_string(), Some(instant.as_millisecond())));
    }
    let order = text.parse().ok();
    Ok((text, order))
}

/// The stream's `tenant`; where it has none or it is null, the instance's.
fn tenant_of(
    connector: &ConnectorPlan,
    stream: &StreamPlan,
    env: &Env,
) -> Result<Option<String>, NameError> {
    let Some(tenant) = &stream.tenant else {
        return Ok(connector.tenant.clone());
    };
    match tenant.exact(env)? {
        None | Some(Exact::Value(Value::Null)) => Ok(connector.tenant.clone()),
        Some(value) => scalar_text("tenant", tenant, value).map(Some),
    }
}

/// The `with` table as it is journalled; entries that are left out are absent.
fn with_of(stream: &StreamPlan, env: &Env) -> Result<Option<Record>, NameError> {
    if stream.with.is_empty() {
        return Ok(None);
    }
    let leaf = |(name, expr): &(String, Expr)| (name.clone(), Tree::Leaf(expr.clone()));
    let with = Tree::Table(stream.with.iter().map(leaf).collect());
    let json = with.json(env)?.unwrap_or_else(|| b"{}".to_vec());
    Ok(Some(Record::from_bytes(json.into())))
}

fn scalar(what: &'static str, expr: &Expr, env: &Env) -> Result<String, NameError> {
    scalar_text(what, expr, present(what, expr, env)?)
}

fn present(what: &'static str, expr: &Expr, env: &Env) -> Result<Exact, NameError> {
    match expr.exact(env)? {
        None | Some(Exact::Value(Value::Null)) => {
            Err(NameError::Missing { what, place: expr.place().clone() })
        }
        Some(value) => Ok(value),
    }
}

/// A scalar as text; `1001` and `1001.0` have one text, and no digit is lost.
fn scalar_text(what: &'static str, expr: &Expr, value: Exact) -> Result<String, NameError> {
    let not_scalar = |found| Err(NameError::NotScalar { what, found, place: expr.place().clone() });
    let value = match value {
        Exact::Digits(digits) => return Ok(canonical_number(&digits)),
        Exact::Value(value) => value,
    };
    match value {
        Value::String(text) if !text.is_empty() => Ok(text),
        Value::String(_) | Value::Null => {
            Err(NameError::Missing { what, place: expr.place().clone() })
        }
        Value::Number(number) => {
            Ok(integral(&number).map_or_else(|| number.to_string(), |integer| integer.to_string()))
        }
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Array(_) => not_scalar("an array"),
        Value::Object(_) => not_scalar("an object"),
    }
}
