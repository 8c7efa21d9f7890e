//! The plans themselves.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use http::Method;
use serde_json::Value;

use super::{
    AuthPlan, BatchPlan, CursorPlan, DecodePlan, PagePlan, RolloutPlan, RulePlan, VerdictPlan,
    VerifyPlan,
};
use crate::map::{Expr, Mapping, Schema, Tree};

/// A connector, ready to run.
#[derive(Clone, Debug)]
pub struct ConnectorPlan {
    /// Its identity: state, dedupe and cursors are keyed by `name/stream`.
    pub name: Arc<str>,
    /// Three numbers with dots; `0.0.0` where the file names none.
    pub version: String,
    /// What it does, in a line.
    pub summary: Option<String>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// Where its runbook is.
    pub docs: Option<String>,
    /// The instance's `tenant`.
    pub tenant: Option<String>,
    /// The file that was named (the instance's, where there is one).
    pub file: PathBuf,
    /// Hash of what the plan was compiled from (the file, what it `use`s, schemas and presets it
    /// names), insensitive to where the file lies.
    pub content: ContentHash,
    /// The variables' values, an object.
    pub vars: Arc<Value>,
    /// `[secrets]`: the name in the file -> the name that is looked up.
    pub secret_names: Arc<BTreeMap<String, String>>,
    /// Every secret the connector needs, by the name that is looked up.
    pub secrets_used: Vec<String>,
    /// One supervised pipeline each, in the order of the file.
    pub streams: Vec<Arc<StreamPlan>>,
    /// By name.
    pub destinations: BTreeMap<Arc<str>, Arc<DestinationPlan>>,
    /// Credentials, by name.
    pub auths: BTreeMap<Arc<str>, Arc<AuthPlan>>,
    /// What it promises.
    pub slo: Option<Box<SloPlan>>,
    /// Whether it runs by itself, or beside another one.
    pub rollout: RolloutPlan,
}

impl ConnectorPlan {
    /// Whether its events are another connector's: it takes none in.
    pub fn is_variant(&self) -> bool {
        self.rollout.of.is_some()
    }
}

/// First 16 bytes of SHA-256.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ContentHash(pub [u8; 16]);

/// One kind of event: one supervised pipeline.
#[derive(Clone, Debug)]
pub struct StreamPlan {
    /// Unique within the connector.
    pub name: Arc<str>,
    /// Variables of its own, where it has any.
    pub vars: Option<StreamVars>,
    /// One expression, or the parts of a list. Empty: the record's hash is the key.
    pub key: Vec<Expr>,
    /// Which state of the thing an event is about; `None`: the hash of the record.
    pub revision: Option<RevisionPlan>,
    /// Whose budget the event spends.
    pub tenant: Option<Expr>,
    /// Whether a record becomes an event.
    pub when: Option<Expr>,
    /// Whether the record says that the thing is gone.
    pub delete: Option<Expr>,
    /// What `map` sees besides the record, evaluated when the event comes in.
    pub with: Vec<(String, Expr)>,
    /// How long a claim is remembered.
    pub dedupe: Dedupe,
    /// Destinations, by name, each in the connector's `destinations`.
    pub to: Vec<Arc<str>>,
    /// `None`: the record as it is, byte for byte.
    pub map: Option<Arc<Mapping>>,
    /// What the mapped record must satisfy.
    pub schema: Option<Arc<Schema>>,
    /// Field paths (`customer.email`) masked in logs and views; the schema's `x-pii` included.
    pub redact: Vec<String>,
    /// An endpoint that the producer posts to.
    pub webhook: Option<Arc<WebhookPlan>>,
    /// A request that is repeated.
    pub poll: Option<Arc<PollPlan>>,
    /// When the poll runs; present where `poll` is.
    pub schedule: Option<SchedulePlan>,
    /// What is read again beside the poll, and when missing webhooks are an alert.
    pub reconcile: Option<super::ReconcilePlan>,
    /// What is remembered of its records, where others are read for each of them.
    pub parent: Option<Arc<super::ParentPlan>>,
}

/// `[stream.X.vars]`.
#[derive(Clone, Debug)]
pub struct StreamVars {
    /// The names of the stream's own.
    pub own: Vec<String>,
    /// What its expressions see as `vars`: the connector's with its own over them.
    pub all: Arc<Value>,
}

impl StreamPlan {
    /// What its expressions see as `vars`, given the connector's.
    pub fn vars<'p>(&'p self, connector: &'p Arc<Value>) -> &'p Arc<Value> {
        self.vars.as_ref().map_or(connector, |vars| &vars.all)
    }
}

/// `revision`.
#[derive(Clone, Debug)]
pub struct RevisionPlan {
    /// Gives the revision.
    pub expr: Expr,
    /// It passed `timestamp` or `integer`, or is a number: it restores order, too.
    pub ordered: bool,
}

/// `dedupe`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dedupe {
    /// So long.
    Window(Duration),
    /// Without end.
    Forever,
}

/// `[stream.X.webhook]`. Streams with the same path share `verify` and `secrets`.
#[derive(Clone, Debug)]
pub struct WebhookPlan {
    /// Begins with `/`, no trailing slash, exact match.
    pub path: String,
    /// At least one.
    pub methods: Vec<Method>,
    /// How a request proves where it comes from.
    pub verify: Arc<VerifyPlan>,
    /// The URL as it is registered with the producer, where signatures over it must not go by what
    /// arrives here. Its query, if any, is not looked at: the request's own counts.
    pub url: Option<Expr>,
    /// What a handshake that is not signed has to repeat.
    pub verify_token: Option<Expr>,
    /// All that may verify now; for `none` empty.
    pub secrets: Vec<SecretPlan>,
    /// For `basic`: the user name.
    pub user: Option<Expr>,
    /// `events`: one event per match of this path within the body; `None`: the body is the event.
    pub events: Option<Expr>,
    /// The answer, instead of 202 and the event's id.
    pub reply: Option<Box<ReplyPlan>>,
    /// Longer bodies are answered by 413.
    pub max_body_bytes: usize,
}

impl WebhookPlan {
    /// Every expression of it that may name a secret: its own, and those of the scheme's `keys`.
    pub fn settings(&self) -> impl Iterator<Item = &Expr> {
        let keys = self.verify.keys.iter();
        let keys = keys.flat_map(|keys| {
            std::iter::once(&keys.url).chain(keys.body.iter().map(|(_, expr)| expr))
        });
        let secrets = self.secrets.iter().map(|secret| &secret.value);
        secrets.chain(&self.user).chain(&self.verify_token).chain(&self.url).chain(keys)
    }
}

/// One of several live secrets.
#[derive(Clone, Debug)]
pub struct SecretPlan {
    /// Gives the secret; evaluated at every use.
    pub value: Expr,
    /// After this it verifies no more.
    pub not_after: Option<crate::world::Timestamp>,
}

/// `reply = { status, body }` instead of 202 and the event's id.
#[derive(Clone, Debug)]
pub struct ReplyPlan {
    /// From 200 to 299.
    pub status: u16,
    /// A constant JSON document, or text.
    pub body: Option<Value>,
}

/// `[stream.X.poll]` merged over `[source]`.
#[derive(Clone, Debug)]
pub struct PollPlan {
    /// The HTTP method.
    pub method: Method,
    /// The whole URL without the query: base and path joined.
    pub url: Expr,
    /// Parameters in the order written, the source's first.
    pub query: Vec<(String, Expr)>,
    /// The source's first.
    pub headers: Vec<(String, Expr)>,
    /// What is sent, with its content type.
    pub body: Option<RequestBody>,
    /// One of the connector's `auths`.
    pub auth: Option<Arc<str>>,
    /// `None`: an array's items, or the one object.
    pub records: Option<RecordsPlan>,
    /// What the requests are made for; empty: there is one series of them.
    pub each: Vec<super::EachPlan>,
    /// What is asked for each listed record.
    pub detail: Vec<super::DetailPlan>,
    /// The request creates a job, whose result is what the poll reads.
    pub job: Option<Arc<super::JobPlan>>,
    /// What an answer is written in.
    pub decode: DecodePlan,
    /// How pages follow each other.
    pub page: PagePlan,
    /// What has been read so far.
    pub cursor: Option<Box<CursorPlan>>,
    /// What answers mean, before the defaults: the stream's rules first.
    pub on: Vec<RulePlan>,
    /// Of one request, from dialling to the last byte.
    pub timeout: Duration,
    /// Longest answer that is read, after decompression.
    pub max_response_bytes: usize,
    /// Shared by all streams of the connector's source: same list for each.
    pub rate: Vec<Rate>,
    /// Requests at once.
    pub concurrency: usize,
}

/// What a request sends.
#[derive(Clone, Debug)]
pub enum RequestBody {
    /// A JSON document.
    Json(Tree),
    /// The text as it is.
    Text(Expr),
    /// `application/x-www-form-urlencoded`.
    Form(Vec<(String, Expr)>),
}

/// `records`.
#[derive(Clone, Debug)]
pub struct RecordsPlan {
    /// Leads from the answer's body to the records.
    pub path: Expr,
    /// Members before the first wildcard: `["data", "orders"]`. They must exist unless `optional`.
    pub prefix: Vec<String>,
    /// `| default([])` follows.
    pub optional: bool,
    /// How many levels `up` has: `up.up` is the second.
    pub levels: usize,
}

/// `"50/s"`: at most `count` within `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// At least 1.
    pub count: u32,
    /// Not zero.
    pub per: Duration,
}

/// `[schedule]`.
#[derive(Clone, Debug)]
pub struct SchedulePlan {
    /// When runs are due.
    pub when: ScheduleWhen,
    /// How far they are spread.
    pub jitter: Jitter,
}

/// When runs are due.
#[derive(Clone, Debug)]
pub enum ScheduleWhen {
    /// From the start of a run to the start of the next.
    Every(Duration),
    /// Five fields, or six with seconds first; in the zone `tz`.
    Cron {
        /// As croner reads it; it fires.
        pattern: String,
        /// An IANA name that exists.
        tz: String,
    },
}

/// How far runs are spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Jitter {
    /// A share of the interval, `0.0..=1.0`.
    Ratio(f64),
    /// At most so long.
    Duration(Duration),
}

/// `[destination.NAME]`.
#[derive(Clone, Debug)]
pub struct DestinationPlan {
    /// Unique within the connector.
    pub name: Arc<str>,
    /// What it is.
    pub kind: DestinationKind,
    /// Several events in one request.
    pub batch: Option<BatchPlan>,
    /// Whether events wait for each other.
    pub order: Order,
    /// In-flight attempts at once.
    pub concurrency: usize,
    /// How much it allows; empty: anything.
    pub rate: Vec<Rate>,
    /// Of one attempt.
    pub timeout: Duration,
    /// How failed attempts are repeated.
    pub retry: RetryPlan,
    /// When a tenant's attempts stop because most fail; `None`: never.
    pub breaker: Option<BreakerPlan>,
}

/// What a destination is.
#[derive(Clone, Debug)]
pub enum DestinationKind {
    /// An HTTP API.
    Http {
        /// The HTTP method.
        method: Method,
        /// The whole URL.
        url: Expr,
        /// In the order written.
        headers: Vec<(String, Expr)>,
        /// `None`: `out` as JSON.
        body: Option<Tree>,
        /// One of the connector's `auths`.
        auth: Option<Arc<str>>,
        /// What answers mean, before the defaults.
        on: Vec<VerdictPlan>,
        /// Longest answer that is read, after decompression.
        max_response_bytes: usize,
    },
    /// JSON lines.
    File {
        /// The file that is written to; rotated ones stand beside it.
        path: PathBuf,
        /// A new file once this is passed; `None` never.
        rotate_bytes: Option<u64>,
        /// A new file once the current is this old.
        rotate_every: Option<Duration>,
        /// Rotated files kept.
        keep: Option<usize>,
    },
    /// Standard output, one JSON document a line.
    Stdout,
}

impl DestinationKind {
    /// Whether two destinations are one place that must not be written through two hands.
    pub fn is_same_sink(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Stdout, Self::Stdout) => true,
            (Self::File { path, .. }, Self::File { path: other, .. }) => path == other,
            _ => false,
        }
    }
}

/// Whether events wait for each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// They do not.
    #[default]
    None,
    /// Those of one key do.
    Key,
    /// All of a stream do.
    Strict,
}

/// `[retry]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPlan {
    /// At least 1; the first attempt counts.
    pub attempts: u32,
    /// First backoff.
    pub from: Duration,
    /// Largest backoff.
    pub to: Duration,
    /// Since the first attempt.
    pub within: Duration,
}

/// `breaker`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerPlan {
    /// It opens where at least this share of attempts failed, `0.0..=1.0` ...
    pub failures: f64,
    /// ... of at least so many ...
    pub of: u32,
    /// ... within so long.
    pub within: Duration,
    /// How long it stays open before attempts are made again.
    pub open: Duration,
    /// So many attempts then, and all of them have to succeed.
    pub probes: u32,
}

/// `[slo]`.
#[derive(Clone, Debug, PartialEq)]
pub struct SloPlan {
    /// `0.999`.
    pub success: Option<f64>,
    /// Quantile and bound: `(0.99, 5 s)`.
    pub latency: Option<(f64, Duration)>,
    /// The time over which it is measured.
    pub window: Duration,
}
