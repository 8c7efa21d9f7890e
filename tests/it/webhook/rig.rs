//! A webhook server on a memory bus, with connectors as their authors write them.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;
use ring::hmac;
use serde_json::Value;
use tenon::{
    bus::{Bus, MemoryBus},
    diagnostic::SourceFile,
    egress::{Egress, EgressConfig},
    event::Event,
    ingest::webhook::{Routes, WebhookLimits, WebhookObserver, WebhookServer},
    plan::{ConnectorPlan, Sources, VerifyPlan, compile_file, verify_preset},
    world::{ScriptedClock, ScriptedEntropy, Secret, Secrets, Timestamp, World},
};

pub const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// A whole connector around the tables that a test is about.
pub fn connector_file(name: &str, tables: &str) -> String {
    format!(
        "name = \"{name}\"\nversion = \"1.0.0\"\n{tables}\n[destination.out]\ntype = \"stdout\"\n"
    )
}

struct OneFile(String);

impl Sources for OneFile {
    fn read(&self, path: &Path) -> Option<Arc<SourceFile>> {
        path.ends_with("connector.toml")
            .then(|| Arc::new(SourceFile { path: path.to_owned(), text: self.0.clone() }))
    }
}

/// Compiles a file as the engine does.
pub fn plan_of(text: &str) -> Arc<ConnectorPlan> {
    let root = Path::new("");
    let compiled = compile_file(root, Path::new("connector.toml"), &OneFile(text.to_owned()));
    compiled.plan.unwrap_or_else(|| panic!("{:#?}\n{text}", compiled.diagnostics))
}

/// The codes of what is wrong with a file.
pub fn problems_of(text: &str) -> Vec<String> {
    let root = Path::new("");
    let compiled = compile_file(root, Path::new("connector.toml"), &OneFile(text.to_owned()));
    compiled.diagnostics.iter().map(|found| found.code.0.to_owned()).collect()
}

/// A preset's plan.
pub fn compiled_verify(preset: &str) -> Arc<VerifyPlan> {
    verify_preset(preset).expect("a preset")
}

/// Secrets that can change while the server runs.
#[derive(Default)]
pub struct Vault(Mutex<BTreeMap<String, String>>);

impl Vault {
    pub fn set(&self, name: &str, value: &str) {
        self.0.lock().insert(name.to_owned(), value.to_owned());
    }
}

impl Secrets for Vault {
    fn get(&self, name: &str) -> Option<Secret> {
        self.0.lock().get(name).map(Secret::new)
    }
}

/// Counts by `connector/stream outcome`.
#[derive(Default)]
pub struct Counts(Mutex<BTreeMap<String, u64>>);

impl WebhookObserver for Counts {
    fn counted(&self, connector: &str, stream: &str, outcome: &'static str, count: u64) {
        *self.0.lock().entry(format!("{connector}/{stream} {outcome}")).or_default() += count;
    }

    fn acknowledged(&self, _took: Duration) {
        *self.0.lock().entry("acknowledged".to_owned()).or_default() += 1;
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Reply {
    /// Status and body in one line.
    pub fn line(&self) -> String {
        format!("{} {}", self.status.as_u16(), self.body)
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub fn id(&self) -> String {
        self.json()["id"].as_str().unwrap().to_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

pub struct Rig {
    pub server: Arc<WebhookServer>,
    pub bus: Arc<MemoryBus>,
    pub vault: Arc<Vault>,
    pub counts: Arc<Counts>,
}

pub fn limits() -> WebhookLimits {
    WebhookLimits {
        header_timeout: Duration::from_mins(1),
        body_timeout: Duration::from_mins(1),
        max_header_bytes: 16 << 10,
        max_json_depth: 16,
        max_connections: 64,
        max_in_flight_bytes: 1 << 20,
        tenants: Arc::default(),
        public_url: Some("https://hooks.acme.example".to_owned()),
    }
}

impl Rig {
    pub fn new(tables: &str) -> Self {
        Self::with_limits(tables, limits())
    }

    pub fn with_limits(tables: &str, limits: WebhookLimits) -> Self {
        Self::with_egress(tables, limits, Egress::new(EgressConfig::default()))
    }

    /// With somebody to ask for keys.
    pub fn with_egress(tables: &str, limits: WebhookLimits, egress: Egress) -> Self {
        Self::starting_at(NOW, tables, limits, egress)
    }

    pub fn starting_at(
        now: Timestamp,
        tables: &str,
        limits: WebhookLimits,
        egress: Egress,
    ) -> Self {
        let clock = Arc::new(ScriptedClock::starting_at(now));
        let vault = Arc::new(Vault::default());
        vault.set("HOOK", "s3cret");
        let secrets: Arc<dyn Secrets> = vault.clone();
        let world =
            World { clock: clock.clone(), entropy: Arc::new(ScriptedEntropy::seeded(1)), secrets };
        let bus = MemoryBus::new(clock);
        let counts = Arc::new(Counts::default());
        let server = WebhookServer::new(bus.clone(), world, egress, limits, counts.clone());
        let plan = plan_of(&connector_file("shop", tables));
        server.set_routes(Routes::build(&[plan]).unwrap_or_else(|problems| panic!("{problems:?}")));
        Self { server, bus, vault, counts }
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> Reply {
        let peer = SocketAddr::from(([192, 0, 2, 1], 4711));
        let answer = self.server.handle(request, peer).await;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        Reply { status: head.status, headers: head.headers, body }
    }

    /// POSTs `body` with these headers.
    pub async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Reply {
        let mut request = Request::post(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Full::new(body.into())).unwrap()).await
    }

    /// POSTs JSON.
    pub async fn post_json(&self, path: &str, body: &str) -> Reply {
        self.post(path, &[("content-type", "application/json")], body.to_owned()).await
    }

    /// What the bus has taken.
    pub fn events(&self) -> Vec<Arc<Event>> {
        let page = self.bus.history(Timestamp(0), Timestamp(i64::MAX), None).unwrap();
        page.events.into_iter().map(|(_, event)| event).collect()
    }

    /// Counters that are not zero, one a line.
    pub fn counted(&self) -> String {
        let counts = self.counts.0.lock();
        counts.iter().map(|(what, count)| format!("{what} {count}")).collect::<Vec<_>>().join("\n")
    }
}

/// HMAC-SHA256 in lower-case hexadecimal.
pub fn hmac_hex(secret: &str, signed: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), signed);
    data_encoding::HEXLOWER.encode(tag.as_ref())
}

/// The stream that most tests use: not verified, keyed, ordered.
pub const ORDERS: &str = r#"
[stream.orders]
key      = "$.id"
revision = "$.updated_at | timestamp"

[stream.orders.webhook]
path     = "/orders"
verify   = "none"
max_body = "4KiB"
"#;

/// The same behind GitHub's scheme.
pub const SIGNED_ORDERS: &str = r#"
[stream.orders]
key      = "$.id"
revision = "$.updated_at | timestamp"

[stream.orders.webhook]
path   = "/orders"
verify = "github"
secret = "{{ secret.HOOK }}"
"#;

pub const ORDER: &str = r#"{ "id": 1001, "updated_at": "2026-11-20T10:00:00+01:00" }"#;
