//! What would become of a record: name, map, schema, requests. Nothing is delivered, nothing is
//! dialled, and no secret is looked up: the requests are built with placeholders in their place.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    auth::Authenticator,
    bus::MemoryBus,
    deliver::{Destination, Outcome, prepare},
    egress::{Egress, EgressConfig},
    event::{Event, Origin, Record},
    ingest::{Incoming, name_event},
    map::{Env, Expr},
    observe::redact::{MASK, mask, raw_fields},
    plan::{AuthKind, AuthPlan, ConnectorPlan, DestinationKind, Encoding, StreamPlan, TokenPlace},
    world::{Clock as _, Secret, Secrets, SystemClock, SystemEntropy, World},
};

/// One record's way, as far as it got. Fields that the stream redacts are masked throughout.
#[derive(Debug, Serialize)]
pub struct Tried {
    /// As it came.
    pub record: Value,
    /// `delivered` (it would be), `filtered` (`when` says it is not ours), `unnamed`, or the reason
    /// of a dead letter: `map_failed`, `schema_failed`, `rejected`.
    pub outcome: &'static str,
    /// Why it gets no further, for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Its identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<Identity>,
    /// What the map makes of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mapped: Option<Value>,
    /// What would be sent, by destination.
    pub sent: Vec<Sent>,
}

/// What the stream calls the record.
#[derive(Debug, Serialize)]
pub struct Identity {
    pub id: String,
    pub key: String,
    pub revision: String,
    pub tenant: Option<String>,
    pub delete: bool,
}

/// One write to one destination.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Sent {
    /// A request.
    Http {
        destination: String,
        method: String,
        url: String,
        headers: BTreeMap<String, String>,
        /// The document, or text where it is none.
        body: Value,
    },
    /// A line of a file.
    File { destination: String, path: String },
    /// A line of standard output.
    Stdout { destination: String },
}

/// Shows records of one stream.
pub struct Preview {
    connector: Arc<ConnectorPlan>,
    stream: Arc<StreamPlan>,
    /// The stream's HTTP destinations.
    destinations: Vec<(Arc<str>, Destination)>,
    env: Env,
}

/// Whatever is asked for is a placeholder.
struct NoSecrets;

impl Secrets for NoSecrets {
    fn get(&self, _name: &str) -> Option<Secret> {
        Some(Secret::new(MASK))
    }
}

impl Preview {
    /// Opens the stream's HTTP destinations, which dials nothing. The error is a destination that
    /// does not open.
    pub fn new(connector: &ConnectorPlan, stream: Arc<StreamPlan>) -> Result<Self, String> {
        let connector = Arc::new(without_token_requests(connector));
        let secrets: Arc<dyn Secrets> = Arc::new(NoSecrets);
        let world = World {
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy::new()),
            secrets: secrets.clone(),
        };
        let egress = Egress::new(EgressConfig::default());
        let bus = MemoryBus::new(world.clock.clone());
        let auth = Arc::new(Authenticator::new(world.clone(), egress.clone(), bus));
        let mut destinations = Vec::new();
        for name in &stream.to {
            let Some(plan) = connector.destinations.get(name) else { continue };
            if let DestinationKind::Http { .. } = plan.kind {
                let (world, egress, auth) = (world.clone(), egress.clone(), auth.clone());
                let opened = Destination::open(&connector, plan.clone(), world, egress, auth)?;
                destinations.push((name.clone(), opened));
            }
        }
        let env = Env::new()
            .with("vars", connector.vars.clone())
            .with_secrets(secrets, connector.secret_names.clone());
        Ok(Self { connector, stream, destinations, env })
    }

    /// Takes one record as far as it goes.
    /// `env` has what is known besides it: `response`, `up`, `each`.
    pub async fn of(&self, record: Record, env: Env, origin: Origin) -> Tried {
        let mut shown = Value::clone(record.value());
        mask(&mut shown, &raw_fields(&self.stream));
        let mut tried = Tried {
            record: shown,
            outcome: "delivered",
            problem: None,
            event: None,
            mapped: None,
            sent: Vec::new(),
        };
        match self.name(record, env, origin) {
            Ok(None) => tried.outcome = "filtered",
            Ok(Some(event)) => self.deliver(&event, &mut tried).await,
            Err(problem) => {
                tried.outcome = "unnamed";
                tried.problem = Some(problem);
            }
        }
        tried
    }

    fn name(&self, record: Record, env: Env, origin: Origin) -> Result<Option<Arc<Event>>, String> {
        let mut env = env.with("vars", self.connector.vars.clone());
        if let Some(webhook) = &self.stream.webhook {
            // As the producer would call, as far as that is known without the producer.
            let request = json!({
                "method": "POST", "path": webhook.path, "url": webhook.path,
                "query": {}, "headers": {}, "body": **record.value(),
            });
            env = env.with("request", Arc::new(request));
        }
        let received_at = SystemClock.now();
        let incoming = Incoming { record, origin, received_at, traceparent: None, env };
        let named = name_event(&self.connector, &self.stream, incoming);
        named.map(|named| named.map(|new| new.event)).map_err(|error| error.to_string())
    }

    async fn deliver(&self, event: &Arc<Event>, tried: &mut Tried) {
        tried.event = Some(Identity {
            id: event.id.to_string(),
            key: event.key.clone(),
            revision: event.revision.clone(),
            tenant: event.tenant.clone(),
            delete: event.delete,
        });
        let output = match prepare(&self.stream, &self.connector.vars, event) {
            Ok(output) => self.masked(output, tried),
            Err((reason, problem)) => {
                tried.outcome = reason;
                tried.problem = Some(problem);
                return;
            }
        };
        for name in &self.stream.to {
            match self.write(name, event, &output).await {
                Ok(sent) => tried.sent.extend(sent),
                Err(problem) => {
                    tried.outcome = "rejected";
                    tried.problem = Some(format!("{name}: {problem}"));
                }
            }
        }
    }

    /// The output with redacted fields masked, so that no request made of it shows them.
    fn masked(&self, output: Record, tried: &mut Tried) -> Record {
        let mut value = Value::clone(output.value());
        mask(&mut value, &self.stream.redact);
        tried.mapped = self.stream.map.is_some().then(|| value.clone());
        Record::from_value(value)
    }

    async fn write(
        &self,
        name: &Arc<str>,
        event: &Arc<Event>,
        output: &Record,
    ) -> Result<Option<Sent>, String> {
        let destination = name.to_string();
        if let Some((_, opened)) = self.destinations.iter().find(|(known, _)| known == name) {
            let request = opened.preview(event, output, &self.env).await.transpose();
            let request = request.map_err(problem_of)?;
            return Ok(request.map(|request| sent(destination, &request)));
        }
        let plan = self.connector.destinations.get(name);
        Ok(plan.and_then(|plan| match &plan.kind {
            DestinationKind::Http { .. } => None,
            DestinationKind::File { path, .. } => {
                Some(Sent::File { destination, path: path.display().to_string() })
            }
            DestinationKind::Stdout => Some(Sent::Stdout { destination }),
        }))
    }
}

/// The connector with a placeholder for every token and key that only a run has.
fn without_token_requests(connector: &ConnectorPlan) -> ConnectorPlan {
    let mut connector = connector.clone();
    for auth in connector.auths.values_mut() {
        let kind = match &auth.kind {
            AuthKind::OAuth2(plan) => placeholder(&plan.place),
            AuthKind::Login(plan) => placeholder(&plan.place),
            AuthKind::Jwt(plan) => placeholder(&plan.place),
            AuthKind::Hmac(plan) => {
                let mut plan = plan.clone();
                plan.key.decode = Encoding::Raw;
                AuthKind::Hmac(plan)
            }
            other => other.clone(),
        };
        *auth = Arc::new(AuthPlan { name: auth.name.clone(), kind, identity: None });
    }
    connector
}

fn placeholder(place: &TokenPlace) -> AuthKind {
    let mask = || Expr::constant(Value::String(MASK.to_owned()));
    match place {
        TokenPlace::Bearer => AuthKind::Bearer { token: mask() },
        TokenPlace::Header { name, .. } => AuthKind::Header { name: name.clone(), value: mask() },
        TokenPlace::Query { name } => AuthKind::Query { name: name.clone(), value: mask() },
        TokenPlace::Cookie { .. } => AuthKind::Header { name: "cookie".to_owned(), value: mask() },
    }
}

fn sent(destination: String, request: &http::Request<Bytes>) -> Sent {
    let headers = request.headers().iter().map(|(name, value)| {
        let text = if value.is_sensitive() {
            MASK.into()
        } else {
            String::from_utf8_lossy(value.as_bytes())
        };
        (name.to_string(), text.into_owned())
    });
    let text = || Value::String(String::from_utf8_lossy(request.body()).into_owned());
    Sent::Http {
        destination,
        method: request.method().to_string(),
        url: request.uri().to_string(),
        headers: headers.collect(),
        body: serde_json::from_slice(request.body()).unwrap_or_else(|_| text()),
    }
}

fn problem_of(outcome: Outcome) -> String {
    match outcome {
        Outcome::Rejected { message, .. }
        | Outcome::Held { message, .. }
        | Outcome::Retry { message, .. }
        | Outcome::Deferred { message, .. } => message,
        Outcome::Delivered { .. } => "delivered".to_owned(),
        Outcome::Superseded { .. } => "superseded".to_owned(),
    }
}
