//! What these tests share.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request};
use serde_json::json;
use tenon::{
    auth::Authenticator,
    bus::MemoryBus,
    deliver::Destination,
    egress::{Egress, EgressConfig, ExchangeLimits},
    event::{Event, EventId, Origin, Record},
    map::{Env, Expr, Library, Place, Site, Tree},
    plan::{
        AuthKind, AuthPlan, BatchPlan, ClientAuth, ConnectorPlan, ContentHash, DestinationKind,
        DestinationPlan, Grant, OAuth2Plan, Order, RetryPlan, TokenPlace, VerdictPlan,
    },
    world::{ScriptedClock, ScriptedEntropy, StaticSecrets, Timestamp, World},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

pub const LIMITS: ExchangeLimits =
    ExchangeLimits { timeout: Duration::from_secs(5), max_response_bytes: 64 << 10 };

/// A client that may dial this machine, as tests have to.
pub fn egress() -> Egress {
    let allow = vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
    Egress::new(EgressConfig { allow, ..EgressConfig::default() })
}

pub fn get(url: &str) -> Request<Bytes> {
    Request::get(url).body(Bytes::new()).unwrap()
}

pub fn post(url: &str, body: &str) -> Request<Bytes> {
    Request::post(url).body(Bytes::copy_from_slice(body.as_bytes())).unwrap()
}

/// Compiles a string as a destination's or an `[auth]` table's setting.
pub fn expr(text: &str) -> Expr {
    let site = Site { names: &["vars", "secret", "out", "event"], root: None, lenient: false };
    let place = Place { file: Arc::from("shop.toml"), line: 7, path: Arc::from("destination.erp") };
    Expr::compile(text, &site, place, &Library::default()).unwrap()
}

/// Compiles a string as a setting of a destination that takes batches.
pub fn batch_expr(text: &str) -> Expr {
    let site = Site { names: &["vars", "secret", "batch"], root: Some("batch"), lenient: false };
    let place = Place { file: Arc::from("shop.toml"), line: 7, path: Arc::from("destination.erp") };
    Expr::compile(text, &site, place, &Library::default()).unwrap()
}

/// A peer on the level of bytes, where the scripted server is too well behaved.
pub struct RawPeer {
    listener: TcpListener,
}

impl RawPeer {
    pub async fn bind() -> Self {
        Self { listener: TcpListener::bind(("127.0.0.1", 0)).await.unwrap() }
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.listener.local_addr().unwrap())
    }

    pub async fn accept(&self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }
}

/// Reads one request up to the end of its head (its body has to be in the same packet).
pub async fn read_request(socket: &mut TcpStream) -> io::Result<String> {
    let mut buffer = Vec::new();
    while !buffer.windows(4).any(|window| window == b"\r\n\r\n") {
        if socket.read_buf(&mut buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(String::from_utf8_lossy(&buffer).into_owned())
}

pub async fn answer(socket: &mut TcpStream, text: &str) {
    socket.write_all(text.as_bytes()).await.unwrap();
}

/// The connector `shop` with a destination `erp` on a scripted clock, and what it runs on.
pub struct Shop {
    pub bus: Arc<MemoryBus>,
    pub egress: Egress,
    pub auth: Arc<Authenticator>,
    pub world: World,
}

/// The secrets of every test.
pub const SECRETS: [(&str, &str); 4] =
    [("TOKEN", "t0k3n-s3cret"), ("ID", "the-client"), ("SECRET", "cl1ent+s3cret"), ("FIRST", "r0")];

impl Shop {
    pub fn new() -> Self {
        let clock = ScriptedClock::starting_at(Timestamp(1_795_342_500_000));
        let world = World {
            clock: Arc::new(clock),
            entropy: Arc::new(ScriptedEntropy::seeded(1)),
            secrets: Arc::new(StaticSecrets::new(SECRETS)),
        };
        let bus = MemoryBus::new(world.clock.clone());
        let egress = egress();
        let auth = Arc::new(Authenticator::new(world.clone(), egress.clone(), bus.clone()));
        Self { bus, egress, auth, world }
    }

    pub fn env(&self) -> Env {
        let vars = json!({"shop": "acme"});
        let secrets = self.world.secrets.clone();
        Env::new().with("vars", Arc::new(vars)).with_secrets(secrets, Arc::default())
    }

    /// A destination that sends with these settings; `auth` is the connector's `[auth.erp]`.
    pub fn destination(&self, http: HttpSettings) -> Result<Destination, String> {
        let auth = http.auth.map(|kind| AuthPlan::new("erp", kind));
        let connector = ConnectorPlan {
            name: "shop".into(),
            version: "1.0.0".to_owned(),
            summary: None,
            owner: None,
            docs: None,
            tenant: None,
            file: "shop.toml".into(),
            content: ContentHash::default(),
            vars: Arc::new(json!({"shop": "acme"})),
            secret_names: Arc::default(),
            secrets_used: Vec::new(),
            streams: Vec::new(),
            destinations: std::collections::BTreeMap::new(),
            auths: auth.iter().map(|it| (it.name.clone(), Arc::new(it.clone()))).collect(),
            slo: None,
            rollout: tenon::plan::RolloutPlan::default(),
        };
        let plan = DestinationPlan {
            name: http.name.into(),
            kind: DestinationKind::Http {
                method: http.method,
                url: expr(&http.url),
                headers: http.headers.iter().map(|(n, v)| ((*n).to_owned(), expr(v))).collect(),
                body: http.body,
                auth: auth.map(|it| it.name),
                on: http.on,
                max_response_bytes: 1 << 10,
            },
            batch: http.batch,
            breaker: None,
            order: Order::None,
            concurrency: 64,
            rate: Vec::new(),
            timeout: LIMITS.timeout,
            retry: RetryPlan {
                attempts: 3,
                from: Duration::from_secs(1),
                to: Duration::from_mins(1),
                within: Duration::from_hours(1),
            },
        };
        let (egress, auth) = (self.egress.clone(), self.auth.clone());
        Destination::open(&connector, Arc::new(plan), self.world.clone(), egress, auth)
    }
}

/// What a test says of `[destination.erp]`.
pub struct HttpSettings {
    pub name: &'static str,
    pub method: Method,
    pub url: String,
    pub headers: Vec<(&'static str, &'static str)>,
    pub body: Option<Tree>,
    pub auth: Option<AuthKind>,
    pub on: Vec<VerdictPlan>,
    pub batch: Option<BatchPlan>,
}

impl HttpSettings {
    pub fn post(url: String) -> Self {
        let method = Method::POST;
        Self {
            name: "erp",
            method,
            url,
            headers: Vec::new(),
            body: None,
            auth: None,
            on: Vec::new(),
            batch: None,
        }
    }
}

/// An event of the stream `orders` with this record.
pub fn event(key: &str, record: &str) -> Arc<Event> {
    Arc::new(Event {
        id: EventId::derive("shop", "orders", key, "7"),
        connector: "shop".into(),
        stream: "orders".into(),
        key: key.to_owned(),
        revision: "7".to_owned(),
        order: None,
        tenant: Some("acme".to_owned()),
        received_at: Timestamp(1_795_342_400_000),
        origin: Origin::Webhook,
        delete: false,
        to: vec!["erp".into()],
        record: Record::from_bytes(Bytes::copy_from_slice(record.as_bytes())),
        with: None,
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        replayed: None,
    })
}

/// The record as it is.
pub fn raw(event: &Arc<Event>) -> Record {
    event.record.clone()
}

pub fn oauth2(token_url: String, grant: Grant, client_auth: ClientAuth) -> AuthKind {
    AuthKind::OAuth2(Box::new(OAuth2Plan {
        grant,
        client_auth,
        token_url: expr(&token_url),
        client_id: Some(expr("{{ secret.ID }}")),
        client_secret: Some(expr("{{ secret.SECRET }}")),
        scopes: vec!["orders.read".to_owned(), "orders.write".to_owned()],
        params: vec![("audience".to_owned(), expr("erp-{{ vars.shop }}"))],
        token: None,
        life: None,
        place: TokenPlace::Bearer,
    }))
}
