//! `tenon.toml`: the runtime's own settings, resolved. Flags of `tenon run` win over it.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::Levels;
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
    /// `[tokens]`: the secrets that hold the keys, the current one first; none: no encryption.
    pub token_keys: Vec<String>,
    /// `[lints]`.
    pub lints: Levels,
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
            token_keys: Vec::new(),
            lints: Levels::default(),
        }
    }
}
