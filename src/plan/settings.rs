//! `tenon.toml`: the runtime's own settings, resolved. Flags of `tenon run` win over it.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use super::{Levels, Rate};
use crate::egress::Cidr;

/// All settings, defaults filled in. The TOML has the same names: `[webhook] body_timeout = "10s"`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `listen`: webhooks; default `127.0.0.1:8080`.
    pub listen: SocketAddr,
    /// `admin`: API; default `127.0.0.1:8081`.
    pub admin: SocketAddr,
    /// `state`: folder; default `./state`.
    pub state: PathBuf,
    /// `public_url`: what producers call us, for signatures over the URL.
    pub public_url: Option<String>,
    /// `secrets`: a folder with one file a secret.
    pub secrets: Option<PathBuf>,
    /// `shutdown`: the deadline of an ordered shutdown; default 30 s.
    pub shutdown: Duration,
    /// `watch`: reload when files change; default true.
    pub watch: bool,
    /// `[log]`.
    pub log: LogSettings,
    /// `[egress]`.
    pub egress: EgressSettings,
    /// `[webhook]`.
    pub webhook: WebhookSettings,
    /// `[bus]`.
    pub bus: BusSettings,
    /// `[deliver] max_in_hand`: bodies of events that are being delivered; default 256 MiB.
    pub max_in_hand_bytes: usize,
    /// `[tenants]` and `[tenant.NAME]`.
    pub tenants: TenantSettings,
    /// `[tokens]`: the secrets that hold the keys, the current one first; none: no encryption.
    pub token_keys: Vec<String>,
    /// `[lints]`.
    pub lints: Levels,
}

/// What tenants may spend.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TenantSettings {
    /// `[tenants]`: each of those without a table of their own.
    pub default: TenantBudget,
    /// `[tenant.NAME]`, over the defaults.
    pub named: BTreeMap<String, TenantBudget>,
}

impl TenantSettings {
    /// Whether nobody's budget limits anything at the edge.
    pub fn is_free(&self) -> bool {
        self.named.values().chain([&self.default]).all(|budget| {
            budget.accept.is_empty() && budget.backlog.is_none() && budget.disk_bytes.is_none()
        })
    }
}

/// What one tenant may spend.
#[derive(Clone, Debug, PartialEq)]
pub struct TenantBudget {
    /// `accept`: events taken in; empty: as many as come.
    pub accept: Vec<Rate>,
    /// `deliver`: attempts over all destinations; empty: as many as they take.
    pub deliver: Vec<Rate>,
    /// `backlog`: unsettled pairs of event and destination.
    pub backlog: Option<u64>,
    /// `disk`: about what its unsettled events may take in the journal.
    pub disk_bytes: Option<u64>,
    /// `weight`: its share beside others at a destination; at least 1.
    pub weight: u32,
}

impl Default for TenantBudget {
    fn default() -> Self {
        Self { accept: Vec::new(), deliver: Vec::new(), backlog: None, disk_bytes: None, weight: 1 }
    }
}

/// `[log]`.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// `level`: `error`, `warn`, `info` (default), `debug`, `trace`.
    pub level: String,
    /// `format`: JSON lines (default) or text for a terminal.
    pub json: bool,
}

/// `[egress]`.
#[derive(Clone, Debug, Default)]
pub struct EgressSettings {
    /// `allow = ["10.0.0.0/8"]`.
    pub allow: Vec<Cidr>,
    /// `idle_per_host`: default 64.
    pub idle_per_host: usize,
}

/// `[webhook]`.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// Default 5 s.
    pub header_timeout: Duration,
    /// Default 10 s.
    pub body_timeout: Duration,
    /// Default 16 KiB.
    pub max_header_bytes: usize,
    /// Default 64.
    pub max_json_depth: usize,
    /// Default 4,096.
    pub max_connections: usize,
    /// Default 64 MiB.
    pub max_in_flight_bytes: usize,
}

/// `[bus]`.
#[derive(Clone, Debug)]
pub struct BusSettings {
    /// `type`.
    pub kind: BusKind,
    /// `history`: how long settled events can be replayed; default 7 d.
    pub history: Duration,
    /// `max_disk`: journal budget; default 10 GiB.
    pub max_disk_bytes: u64,
    /// `segment`: default 64 MiB.
    pub segment_bytes: u64,
    /// `dead_letters`: how long they are kept; default 90 d.
    pub dead_letters: Duration,
    /// `cache`: recent bodies kept in memory; default 64 MiB.
    pub cache_bytes: usize,
}

/// `bus.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusKind {
    /// Journal and sled in the state folder.
    Embedded,
    /// Nothing is durable; for measuring and trying out.
    Memory,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            admin: SocketAddr::from(([127, 0, 0, 1], 8081)),
            state: PathBuf::from("state"),
            public_url: None,
            secrets: None,
            shutdown: Duration::from_secs(30),
            watch: true,
            log: LogSettings { level: "info".to_owned(), json: true },
            egress: EgressSettings { allow: Vec::new(), idle_per_host: 64 },
            webhook: WebhookSettings {
                header_timeout: Duration::from_secs(5),
                body_timeout: Duration::from_secs(10),
                max_header_bytes: 16 << 10,
                max_json_depth: 64,
                max_connections: 4096,
                max_in_flight_bytes: 64 << 20,
            },
            bus: BusSettings {
                kind: BusKind::Embedded,
                history: Duration::from_hours(7 * 24),
                max_disk_bytes: 10 << 30,
                segment_bytes: 64 << 20,
                dead_letters: Duration::from_hours(90 * 24),
                cache_bytes: 64 << 20,
            },
            max_in_hand_bytes: 256 << 20,
            tenants: TenantSettings::default(),
            token_keys: Vec::new(),
            lints: Levels::default(),
        }
    }
}
