//! The plans themselves.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use http::Method;
use serde_json::Value;

use crate::map::{Expr, Mapping, Schema, Tree};

/// A connector, ready to run.
#[derive(Clone, Debug)]
pub struct ConnectorPlan {
    /// Its identity: state, dedupe and cursors are keyed by `name/stream`.
    pub name: Arc<str>,
    pub version: String,
    pub summary: Option<String>,
    pub owner: Option<String>,
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
    pub streams: Vec<Arc<StreamPlan>>,
    pub destinations: BTreeMap<Arc<str>, Arc<DestinationPlan>>,
    pub auths: BTreeMap<Arc<str>, Arc<AuthPlan>>,
    pub slo: Option<SloPlan>,
}

/// First 16 bytes of SHA-256.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ContentHash(pub [u8; 16]);

/// One kind of event: one supervised pipeline.
#[derive(Clone, Debug)]
pub struct StreamPlan {
    pub name: Arc<str>,
    /// One expression, or the parts of a list. Empty: the record's hash is the key.
    pub key: Vec<Expr>,
    pub revision: Option<RevisionPlan>,
    pub tenant: Option<Expr>,
    pub when: Option<Expr>,
    pub delete: Option<Expr>,
    pub with: Vec<(String, Expr)>,
    pub dedupe: Dedupe,
    /// Destinations, by name, each in the connector's `destinations`.
    pub to: Vec<Arc<str>>,
    /// `None`: the record as it is, byte for byte.
    pub map: Option<Arc<Mapping>>,
    pub schema: Option<Arc<Schema>>,
    /// Field paths (`customer.email`) masked in logs and views; the schema's `x-pii` included.
    pub redact: Vec<String>,
    pub webhook: Option<Arc<WebhookPlan>>,
    pub poll: Option<Arc<PollPlan>>,
    pub schedule: Option<SchedulePlan>,
}

/// `revision`.
#[derive(Clone, Debug)]
pub struct RevisionPlan {
    pub expr: Expr,
    /// It passed `timestamp` or `integer`, or is a number: it restores order, too.
    pub ordered: bool,
}

/// `dedupe`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dedupe {
    Window(Duration),
    Forever,
}

/// `[stream.X.webhook]`. Streams with the same path share `verify` and `secrets`.
#[derive(Clone, Debug)]
pub struct WebhookPlan {
    /// Begins with `/`, no trailing slash, exact match.
    pub path: String,
    pub methods: Vec<Method>,
    pub verify: Arc<VerifyPlan>,
    /// All that may verify now; for `none` empty.
    pub secrets: Vec<SecretPlan>,
    /// For `basic`: the user name.
    pub user: Option<Expr>,
    /// `events`: one event per match of this path within the body; `None`: the body is the event.
    pub events: Option<Expr>,
    pub reply: Option<ReplyPlan>,
    pub max_body_bytes: usize,
}

/// One of several live secrets.
#[derive(Clone, Debug)]
pub struct SecretPlan {
    pub value: Expr,
    pub not_after: Option<crate::world::Timestamp>,
}

/// `reply = { status, body }` instead of 202 and the event's id.
#[derive(Clone, Debug)]
pub struct ReplyPlan {
    pub status: u16,
    /// A constant JSON document, or text.
    pub body: Option<Value>,
}

/// `[verify.NAME]`.
#[derive(Clone, Debug)]
pub struct VerifyPlan {
    pub name: String,
    pub algorithm: Algorithm,
    /// The signed bytes, in order.
    pub signed: Vec<SignedPart>,
    /// 401 unless the file says otherwise.
    pub on_fail: u16,
    pub key: KeyPlan,
    pub signature: Option<SignaturePlan>,
    pub timestamp: Option<TimestampPlan>,
    pub challenge: Option<ChallengePlan>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    HmacSha1,
    HmacSha256,
    HmacSha512,
    /// A shared token, compared in constant time with the located signature.
    Token,
    /// HTTP basic authentication.
    Basic,
    /// Spelled out in the file: nothing is verified.
    None,
}

/// A part of what is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignedPart {
    Text(String),
    /// The raw bytes.
    Body,
    /// Lower-case hex of the raw body's SHA-256.
    BodySha256,
    /// The timestamp as received.
    Timestamp,
    /// The full URL as the producer called it (scheme and host from `public_url` of tenon.toml, or the Host header).
    Url,
    Method,
    /// A request header, lower-case name; missing fails verification.
    Header(String),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    #[default]
    Raw,
    Hex,
    Base64,
    Base64Url,
}

/// `[verify.NAME.key]`: from the secret's text to the key's bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPlan {
    pub strip: Option<String>,
    pub decode: Encoding,
}

/// `[verify.NAME.signature]`: where the signatures stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignaturePlan {
    /// Lower-case header name.
    pub header: String,
    /// Separator between several signatures.
    pub list: Option<String>,
    /// Prefix an item must have; it is cut off. Items without it are ignored.
    pub take: Option<String>,
    pub decode: Encoding,
}

/// `[verify.NAME.timestamp]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimestampPlan {
    pub header: String,
    pub list: Option<String>,
    pub take: Option<String>,
    pub unit: TimeUnit,
    pub past: Duration,
    pub future: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    Seconds,
    Milliseconds,
    Rfc3339,
}

/// A request that wants an answer, not an event. Verified first.
#[derive(Clone, Debug)]
pub struct ChallengePlan {
    pub when: Expr,
    pub json: Tree,
}

/// `[stream.X.poll]` merged over `[source]`.
#[derive(Clone, Debug)]
pub struct PollPlan {
    pub method: Method,
    /// The whole URL without the query: base and path joined.
    pub url: Expr,
    pub query: Vec<(String, Expr)>,
    pub headers: Vec<(String, Expr)>,
    pub body: Option<RequestBody>,
    pub auth: Option<Arc<str>>,
    /// `None`: an array's items, or the one object.
    pub records: Option<RecordsPlan>,
    pub page: PagePlan,
    pub cursor: Option<CursorPlan>,
    pub timeout: Duration,
    pub max_response_bytes: usize,
    /// Shared by all streams of the connector's source: same list for each.
    pub rate: Vec<Rate>,
    pub concurrency: usize,
}

#[derive(Clone, Debug)]
pub enum RequestBody {
    Json(Tree),
    Form(Vec<(String, Expr)>),
}

/// `records`.
#[derive(Clone, Debug)]
pub struct RecordsPlan {
    pub path: Expr,
    /// Members before the first wildcard: `["data", "orders"]`. They must exist unless `optional`.
    pub prefix: Vec<String>,
    /// `| default([])` follows.
    pub optional: bool,
}

/// `page`.
#[derive(Clone, Debug)]
pub struct PagePlan {
    pub by: PageBy,
    pub size: Option<u64>,
    pub size_param: Option<String>,
    /// `stop`.
    pub stop: Option<Expr>,
}

#[derive(Clone, Debug)]
pub enum PageBy {
    /// One request.
    None,
    Page {
        param: String,
        first: i64,
    },
    Offset {
        param: String,
    },
    /// The token at `next` of the response goes into `param`, or where `{{ page.token }}` stands.
    Cursor {
        next: Expr,
        param: Option<String>,
    },
    /// A URL at `next` of the response.
    Next {
        next: Expr,
    },
    /// RFC 8288, rel=next.
    Link,
}

/// `[stream.X.poll.cursor]`.
#[derive(Clone, Debug)]
pub struct CursorPlan {
    /// `None`: the window itself is the cursor.
    pub field: Option<Expr>,
    pub format: CursorFormat,
    pub start: Option<CursorStart>,
    pub start_param: Option<String>,
    pub end_param: Option<String>,
    pub window: Option<Duration>,
    pub lookback: Option<Duration>,
    /// `sorted = "asc"`: moves page by page; otherwise when the window's last page is durable.
    pub sorted: Sorted,
    /// `filter = true`: records before the cursor are dropped on our side.
    pub filter: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sorted {
    No,
    Ascending,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CursorFormat {
    Rfc3339,
    EpochSeconds,
    EpochMillis,
    /// A strftime pattern, read as UTC where it has no zone.
    Pattern(String),
    Integer,
    Text,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CursorStart {
    /// As written.
    Literal(String),
    /// `"-90d"`.
    Ago(Duration),
}

/// `"50/s"`: at most `count` within `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub count: u32,
    pub per: Duration,
}

/// `[schedule]`.
#[derive(Clone, Debug)]
pub struct SchedulePlan {
    pub when: ScheduleWhen,
    pub jitter: Jitter,
}

#[derive(Clone, Debug)]
pub enum ScheduleWhen {
    Every(Duration),
    /// Five fields, or six with seconds first; in the zone `tz`.
    Cron {
        pattern: String,
        tz: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Jitter {
    /// A share of the interval, `0.0..=1.0`.
    Ratio(f64),
    Duration(Duration),
}

/// `[destination.NAME]`.
#[derive(Clone, Debug)]
pub struct DestinationPlan {
    pub name: Arc<str>,
    pub kind: DestinationKind,
    pub order: Order,
    /// In-flight attempts at once.
    pub concurrency: usize,
    pub rate: Vec<Rate>,
    pub timeout: Duration,
    pub retry: RetryPlan,
}

#[derive(Clone, Debug)]
pub enum DestinationKind {
    Http {
        method: Method,
        url: Expr,
        headers: Vec<(String, Expr)>,
        /// `None`: `out` as JSON.
        body: Option<Tree>,
        auth: Option<Arc<str>>,
        max_response_bytes: usize,
    },
    /// JSON lines.
    File {
        path: PathBuf,
        /// A new file once this is passed; `None` never.
        rotate_bytes: Option<u64>,
        /// A new file once the current is this old.
        rotate_every: Option<Duration>,
        /// Rotated files kept.
        keep: Option<usize>,
    },
    Stdout,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    None,
    Key,
}

/// `[retry]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPlan {
    pub attempts: u32,
    /// First backoff.
    pub from: Duration,
    /// Largest backoff.
    pub to: Duration,
    /// Since the first attempt.
    pub within: Duration,
}

/// `[auth.NAME]`.
#[derive(Clone, Debug)]
pub struct AuthPlan {
    pub name: Arc<str>,
    pub kind: AuthKind,
}

#[derive(Clone, Debug)]
pub enum AuthKind {
    Bearer { token: Expr },
    Basic { user: Expr, password: Expr },
    Header { name: String, value: Expr },
    Query { name: String, value: Expr },
    OAuth2(OAuth2Plan),
}

#[derive(Clone, Debug)]
pub struct OAuth2Plan {
    pub grant: Grant,
    pub client_auth: ClientAuth,
    pub token_url: Expr,
    pub client_id: Expr,
    pub client_secret: Option<Expr>,
    pub scopes: Vec<String>,
    /// Further form fields (`audience`).
    pub params: Vec<(String, Expr)>,
}

#[derive(Clone, Debug)]
pub enum Grant {
    ClientCredentials,
    /// The first refresh token; later ones come from state.
    RefreshToken {
        refresh_token: Expr,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    Basic,
    Body,
}

/// `[slo]`.
#[derive(Clone, Debug, PartialEq)]
pub struct SloPlan {
    /// `0.999`.
    pub success: Option<f64>,
    /// Quantile and bound: `(0.99, 5 s)`.
    pub latency: Option<(f64, Duration)>,
    pub window: Duration,
}
