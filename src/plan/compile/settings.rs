//! `tenon.toml`.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use super::{
    super::{
        BusKind, BusSettings, EgressSettings, Levels, LogSettings, Settings, TenantBudget,
        TenantSettings, WebhookSettings,
    },
    Sources,
    context::Context,
    destination::{duration, rates},
};
use crate::{
    definition::{
        self,
        collections::OneOrMany,
        kinds::{Int, Plain, Size},
        settings::{
            BusDef, BusType, EgressDef, LogDef, LogFormat, SettingsDef, TenantDef, TenantsDef,
            TokensDef, WebhookLimitsDef,
        },
        table::Given,
        units::Rate,
    },
    diagnostic::{Diagnostic, SourceFile, codes},
    egress::Cidr,
};

/// Compiles the runtime's settings. What is wrong keeps its default, and is reported.
pub fn compile_settings(file: &Arc<SourceFile>) -> (Settings, Vec<Diagnostic>) {
    let sources = One(Arc::clone(file));
    let mut context = Context::new(std::path::Path::new(""), &sources);
    context.open(&file.path);
    let read = definition::read_settings(file);
    context.report_all(read.findings);
    let settings = compile(&mut context, &read.definition);
    (settings, context.diagnostics())
}

struct One(Arc<SourceFile>);

impl Sources for One {
    fn read(&self, _path: &std::path::Path) -> Option<Arc<SourceFile>> {
        Some(Arc::clone(&self.0))
    }
}

fn token_keys(def: &TokensDef) -> Vec<String> {
    let old = def.old.value().into_iter().flatten().map(|old| &old.value);
    def.key.value().into_iter().chain(old).map(|name| name.0.clone()).collect()
}

fn compile(context: &mut Context<'_>, def: &SettingsDef) -> Settings {
    let default = Settings::default();
    if let Some(url) = def.public_url.get() {
        let fits = url::Url::parse(&url.value.0).is_ok_and(|url| url.has_host())
            && url.value.0.starts_with("http");
        if !fits {
            context
                .error(codes::BAD_URL, url.at, "not a URL", "expected https://host")
                .help("write what producers call this server: \"https://hooks.acme.example\"");
        }
    }
    let text = |given: &Given<Plain>| given.value().map(|plain| plain.0.clone());
    let admin = address(context, &def.admin, default.admin);
    if let Some(given) = def.admin.get().filter(|_| !admin.ip().to_canonical().is_loopback()) {
        context
            .error(
                codes::BAD_ADDRESS,
                given.at,
                "the admin API is for this machine alone",
                "expected a loopback address: \"127.0.0.1:8081\"",
            )
            .help("it has no keys, so whoever reaches it may replay and discard; from elsewhere it is reached through an SSH tunnel");
    }
    Settings {
        listen: address(context, &def.listen, default.listen),
        admin,
        state: text(&def.state).map_or(default.state, PathBuf::from),
        public_url: text(&def.public_url).map(|url| url.trim_end_matches('/').to_owned()),
        secrets: text(&def.secrets).map(PathBuf::from),
        shutdown: duration(&def.shutdown, default.shutdown),
        watch: def.watch.value().copied().unwrap_or(default.watch),
        log: def.log.value().map_or(default.log.clone(), |log| log_settings(log, default.log)),
        egress: match def.egress.value() {
            Some(egress) => egress_settings(context, egress, default.egress),
            None => default.egress,
        },
        webhook: match def.webhook.value() {
            Some(webhook) => webhook_settings(webhook, default.webhook),
            None => default.webhook,
        },
        bus: match def.bus.value() {
            Some(bus) => bus_settings(bus, default.bus),
            None => default.bus,
        },
        max_in_hand_bytes: def.deliver.value().map_or(default.max_in_hand_bytes, |deliver| {
            bytes(&deliver.max_in_hand, default.max_in_hand_bytes)
        }),
        tenants: tenants(def),
        token_keys: def.tokens.value().map_or_else(Vec::new, token_keys),
        lints: def.lints.value().map_or(default.lints, Levels::of_project),
    }
}

fn address(context: &mut Context<'_>, given: &Given<Plain>, default: SocketAddr) -> SocketAddr {
    let Some(given) = given.get() else { return default };
    let text = given.value.0.as_str();
    text.parse().unwrap_or_else(|_| {
        let port = text.rsplit(':').next().unwrap_or_default();
        let reported = context.error(
            codes::BAD_ADDRESS,
            given.at,
            format!("`{}` is not an address to listen on", text.escape_debug()),
            "expected an IP address and a port: \"127.0.0.1:8080\"",
        );
        if port.parse::<u16>().is_ok() {
            reported.help(format!(
                "write \"127.0.0.1:{port}\" for this machine alone, \"0.0.0.0:{port}\" for every interface"
            ));
        }
        default
    })
}

/// The defaults, and each named tenant's keys over them.
fn tenants(def: &SettingsDef) -> TenantSettings {
    let mut settings = TenantSettings::default();
    if let Some(TenantsDef { accept, deliver, backlog, disk, weight, .. }) = def.tenants.value() {
        settings.default = budget(&settings.default, (accept, deliver), (backlog, disk), weight);
    }
    for (name, given) in def.tenant.value().into_iter().flat_map(|named| &named.0) {
        let TenantDef { accept, deliver, backlog, disk, weight, .. } = &given.value;
        let own = budget(&settings.default, (accept, deliver), (backlog, disk), weight);
        settings.named.insert(name.clone(), own);
    }
    settings
}

fn budget(
    default: &TenantBudget,
    (accept, deliver): (&Given<OneOrMany<Rate>>, &Given<OneOrMany<Rate>>),
    (backlog, disk): (&Given<Int<1, 1_000_000_000>>, &Given<Size>),
    weight: &Given<Int<1, 1000>>,
) -> TenantBudget {
    let or = |given: &Given<OneOrMany<Rate>>, default: &Vec<_>| {
        if given.is_absent() { default.clone() } else { rates(given) }
    };
    TenantBudget {
        accept: or(accept, &default.accept),
        deliver: or(deliver, &default.deliver),
        backlog: backlog.value().map(|int| int.0 as u64).or(default.backlog),
        disk_bytes: disk.value().map(|size| size.0).or(default.disk_bytes),
        weight: weight.value().map_or(default.weight, |int| int.0 as u32),
    }
}

fn log_settings(def: &LogDef, default: LogSettings) -> LogSettings {
    LogSettings {
        level: def.level.value().map_or(default.level, |level| level.word().to_owned()),
        json: def.format.value().map_or(default.json, |format| *format == LogFormat::Json),
    }
}

fn egress_settings(
    context: &mut Context<'_>,
    def: &EgressDef,
    default: EgressSettings,
) -> EgressSettings {
    let mut allow = Vec::new();
    for network in def.allow.value().into_iter().flatten() {
        let text = network.value.0.as_str();
        match text.parse::<Cidr>() {
            Ok(cidr) => allow.push(cidr),
            Err(problem) => {
                let message = format!("`{}` is not a network", text.escape_debug());
                context
                    .error(codes::BAD_NETWORK, network.at, message, problem)
                    .help("a network is an address and the length of its prefix: \"10.0.0.0/8\"");
            }
        }
    }
    EgressSettings { allow, idle_per_host: count(&def.idle_per_host, default.idle_per_host) }
}

fn webhook_settings(def: &WebhookLimitsDef, default: WebhookSettings) -> WebhookSettings {
    WebhookSettings {
        header_timeout: duration(&def.header_timeout, default.header_timeout),
        body_timeout: duration(&def.body_timeout, default.body_timeout),
        max_header_bytes: bytes(&def.max_header, default.max_header_bytes),
        max_json_depth: count(&def.max_json_depth, default.max_json_depth),
        max_connections: count(&def.max_connections, default.max_connections),
        max_in_flight_bytes: bytes(&def.max_in_flight, default.max_in_flight_bytes),
    }
}

fn bus_settings(def: &BusDef, default: BusSettings) -> BusSettings {
    BusSettings {
        kind: match def.kind.value() {
            Some(BusType::Memory) => BusKind::Memory,
            Some(BusType::Embedded) => BusKind::Embedded,
            None => default.kind,
        },
        history: duration(&def.history, default.history),
        max_disk_bytes: def.max_disk.value().map_or(default.max_disk_bytes, |size| size.0),
        segment_bytes: def.segment.value().map_or(default.segment_bytes, |size| size.0),
        dead_letters: duration(&def.dead_letters, default.dead_letters),
        cache_bytes: bytes(&def.cache, default.cache_bytes),
    }
}

fn bytes(given: &Given<Size>, default: usize) -> usize {
    given.value().map_or(default, |size| usize::try_from(size.0).unwrap_or(usize::MAX))
}

fn count<const MIN: i64, const MAX: i64>(given: &Given<Int<MIN, MAX>>, default: usize) -> usize {
    given.value().map_or(default, |int| usize::try_from(int.0).unwrap_or(default))
}
