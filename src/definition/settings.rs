//! `tenon.toml`: the runtime's own settings.

use super::{
    collections::{Named, OneOrMany},
    kinds::{Int, Plain, Size, Span},
    lints::LintsDef,
    table::{At, choice, table},
    units::Rate,
};

table! {
    /// The runtime's own settings. Flags of `tenon run` win over them.
    pub struct SettingsDef "the settings" {
        /// Address for webhooks.
        listen "listen": Plain = "\"127.0.0.1:8080\"";
        /// Address of the admin API.
        admin "admin": Plain = "\"127.0.0.1:8081\"";
        /// Folder of the durable state.
        state "state": Plain = "\"state\"";
        /// What producers call this server, for signatures over the URL.
        public_url "public_url": Plain;
        /// A folder with one file a secret; the environment is asked besides.
        secrets "secrets": Plain;
        /// The deadline of an ordered shutdown.
        shutdown "shutdown": Span = "\"30s\"";
        /// Whether changed files are loaded at once.
        watch "watch": bool = "true";
        /// What is logged.
        log "log": LogDef;
        /// Where requests may go.
        egress "egress": EgressDef;
        /// Limits of the webhook server.
        webhook "webhook": WebhookLimitsDef;
        /// Where events are kept.
        bus "bus": BusDef;
        /// How events are delivered.
        deliver "deliver": DeliverDef;
        /// What each tenant may spend.
        tenants "tenants": TenantsDef;
        /// What one tenant may spend: keys that stand here win over `[tenants]`.
        tenant "tenant": Named<TenantDef>;
        /// How tokens that are got at run time are kept.
        tokens "tokens": TokensDef;
        /// How much each lint matters in this project; a connector's own `[lints]` wins.
        lints "lints": LintsDef;
    }
}

table! {
    /// How tokens that are got at run time are kept.
    pub struct TokensDef "[tokens]" {
        /// The secret that encrypts them: 32 bytes in base64 or hexadecimal. Without it they lie in the state folder as they are.
        key "key": Plain, required;
        /// Secrets that encrypted them before; they are read, and written anew under `key`.
        old "old": Vec<At<Plain>> = "[]";
    }
}

table! {
    /// What is logged.
    pub struct LogDef "[log]" {
        /// The least that is logged.
        level "level": LevelDef = "\"info\"";
        /// How a line looks.
        format "format": LogFormat = "\"json\"";
    }
}

table! {
    /// Where requests may go.
    pub struct EgressDef "[egress]" {
        /// Private networks that may be called all the same: `["10.0.0.0/8"]`.
        allow "allow": Vec<At<Plain>> = "[]";
        /// Connections kept idle per host.
        idle_per_host "idle_per_host": Int<0, 4096> = "64";
    }
}

table! {
    /// Limits of the webhook server.
    pub struct WebhookLimitsDef "[webhook]" {
        /// How long a request's headers may take.
        header_timeout "header_timeout": Span = "\"5s\"";
        /// How long a request's body may take.
        body_timeout "body_timeout": Span = "\"10s\"";
        /// Longest headers.
        max_header "max_header": Size = "\"16KiB\"";
        /// Deepest nesting of a JSON body.
        max_json_depth "max_json_depth": Int<1, 127> = "64";
        /// Connections at once.
        max_connections "max_connections": Int<1, 1_000_000> = "4096";
        /// Bodies in memory at once; beyond it producers get 503 and Retry-After.
        max_in_flight "max_in_flight": Size = "\"64MiB\"";
    }
}

table! {
    /// How events are delivered.
    pub struct DeliverDef "[deliver]" {
        /// Bodies of events that are being delivered, over all connectors; what is beyond waits on disk.
        max_in_hand "max_in_hand": Size = "\"256MiB\"";
    }
}

table! {
    /// What each tenant may spend.
    pub struct TenantsDef "[tenants]" {
        /// Events that are taken in; producers get 429 beyond it, and polls wait.
        accept "accept": OneOrMany<Rate>;
        /// Attempts over all destinations.
        deliver "deliver": OneOrMany<Rate>;
        /// Events that may wait for their destinations.
        backlog "backlog": Int<1, 1_000_000_000>;
        /// About what they may take in the journal.
        disk "disk": Size;
        /// The share beside other tenants at a destination.
        weight "weight": Int<1, 1000> = "1";
    }
}

table! {
    /// What one tenant may spend.
    pub struct TenantDef "[tenant.NAME]" {
        /// Events that are taken in; producers get 429 beyond it, and polls wait.
        accept "accept": OneOrMany<Rate>;
        /// Attempts over all destinations.
        deliver "deliver": OneOrMany<Rate>;
        /// Events that may wait for their destinations.
        backlog "backlog": Int<1, 1_000_000_000>;
        /// About what they may take in the journal.
        disk "disk": Size;
        /// The share beside other tenants at a destination.
        weight "weight": Int<1, 1000>;
    }
}

table! {
    /// Where events are kept.
    pub struct BusDef "[bus]" {
        /// What keeps them.
        kind "type": BusType = "\"embedded\"";
        /// How long settled events can be replayed.
        history "history": Span = "\"7d\"";
        /// The journal's budget; when unsettled events fill it, producers get 503.
        max_disk "max_disk": Size = "\"10GiB\"";
        /// Size of one journal file.
        segment "segment": Size = "\"64MiB\"";
        /// How long dead letters are kept.
        dead_letters "dead_letters": Span = "\"90d\"";
        /// Recent bodies kept in memory.
        cache "cache": Size = "\"64MiB\"";
    }
}

choice! {
    /// The least that is logged.
    pub enum LevelDef {
        /// What needs a person.
        Error "error",
        /// What may need one.
        Warn "warn",
        /// State changes.
        Info "info",
        /// Each step.
        Debug "debug",
        /// Everything.
        Trace "trace",
    }
}

choice! {
    /// How a log line looks.
    pub enum LogFormat {
        /// One JSON object a line.
        Json "json",
        /// For a terminal.
        Text "text",
    }
}

choice! {
    /// What keeps events.
    pub enum BusType {
        /// A journal in the state folder.
        Embedded "embedded",
        /// Nothing durable; for trying out.
        Memory "memory",
    } later ["nats"]
}
