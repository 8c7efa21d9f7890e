//! A connector as tests run it: complete, and with nothing in it that would touch the world.
//!
//! What goes to a file or to standard output goes to the script instead, as a request whose body it
//! is. A connector that runs only through `use` gets the examples of its variables and a destination
//! called `test`. Secrets are made up, in the form that each is used in.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use data_encoding::{BASE64, BASE64URL, HEXLOWER};
use http::Method;
use serde_json::{Value, json};

use super::keys;
use crate::{
    definition::{connector::ConnectorDef, vars::VarEntry},
    ingest::webhook::test_secret,
    map::Expr,
    plan::{
        AssertionPlan, AuthKind, AuthPlan, ClientAuth, ConnectorPlan, DestinationKind,
        DestinationPlan, Encoding, Grant, Order, RetryPlan, StreamPlan, TokenAlgorithm,
    },
};

/// The destination of a connector that has none.
const STAND_IN: &str = "test";
/// Where what is captured seems to go; RFC 2606 keeps the name from ever being somebody's.
const CAPTURE: &str = "http://captured.invalid/";
/// The token that an issuer gives out where a test scripts none.
const TOKEN: &str = "test-token";
const CAPTURE_BYTES: usize = 1 << 20;

/// See the module.
pub struct Subject {
    /// Every destination of it is an HTTP API.
    pub plan: Arc<ConnectorPlan>,
    /// Destinations that are none in truth.
    pub captured: BTreeSet<Arc<str>>,
}

impl Subject {
    /// Prepares a connector; `body` is the file with its streams. Errors: a variable that has
    /// neither a value nor an example.
    pub fn new(plan: &ConnectorPlan, body: &ConnectorDef) -> Result<Self, String> {
        let mut plan = plan.clone();
        plan.vars = Arc::new(with_examples(&plan.vars, body)?);
        if plan.destinations.is_empty() {
            let name: Arc<str> = Arc::from(STAND_IN);
            plan.destinations.insert(Arc::clone(&name), Arc::new(stand_in(name)));
        }
        let mut captured = BTreeSet::new();
        for (name, destination) in &mut plan.destinations {
            if !matches!(destination.kind, DestinationKind::Http { .. }) {
                captured.insert(Arc::clone(name));
                let kind = capture(name);
                *destination = Arc::new(DestinationPlan { kind, ..(**destination).clone() });
            }
        }
        for auth in plan.auths.values_mut() {
            if let AuthKind::OAuth2(oauth) = &auth.kind
                && matches!(oauth.grant, Grant::AuthorizationCode { .. })
            {
                // Somebody has logged in.
                let mut oauth = oauth.clone();
                let refresh_token = Expr::constant("test-refresh-token".into());
                oauth.grant = Grant::RefreshToken { refresh_token };
                let kind = AuthKind::OAuth2(oauth);
                *auth = Arc::new(AuthPlan { kind, ..(**auth).clone() });
            }
        }
        let all: Vec<Arc<str>> = plan.destinations.keys().cloned().collect();
        for stream in &mut plan.streams {
            if stream.to.is_empty() {
                let is_only_parent = stream.parent.as_ref().is_some_and(|parent| parent.only);
                if is_only_parent {
                    continue;
                }
                *stream = Arc::new(StreamPlan { to: all.clone(), ..(**stream).clone() });
            }
        }
        Ok(Self { plan: Arc::new(plan), captured })
    }

    /// The destination that is an HTTP API, where there is one.
    pub fn only_http(&self) -> Option<Arc<str>> {
        let mut all = self.plan.destinations.keys().filter(|name| !self.captured.contains(*name));
        all.next().filter(|_| all.next().is_none()).cloned()
    }

    /// Where a stream's events go; without a stream, those of all.
    pub fn destinations(&self, stream: Option<&str>) -> BTreeSet<Arc<str>> {
        let streams = self.plan.streams.iter();
        let wanted = streams.filter(|s| stream.is_none_or(|name| name == &*s.name));
        wanted.flat_map(|stream| stream.to.iter().cloned()).collect()
    }

    /// What gives out tokens: the answer has one wherever the connector looks for it.
    pub fn token_answer(&self) -> String {
        let mut answer = json!({"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600});
        for auth in self.plan.auths.values() {
            let path = match &auth.kind {
                AuthKind::Login(plan) => plan.token.path_prefix(),
                AuthKind::OAuth2(plan) => plan.token.as_ref().and_then(Expr::path_prefix),
                _ => None,
            };
            let mut place = &mut answer;
            for name in path.iter().flatten() {
                if !place.is_object() {
                    *place = json!({});
                }
                place = &mut place[name.as_str()];
            }
            if path.is_some() {
                *place = TOKEN.into();
            }
        }
        answer.to_string()
    }

    /// A value for each secret, by the name that is looked up.
    pub fn made_up_secrets(&self) -> BTreeMap<String, String> {
        let mut made: BTreeMap<String, String> =
            self.plan.secrets_used.iter().map(|name| (name.clone(), made_up(name))).collect();
        for hook in self.plan.streams.iter().filter_map(|stream| stream.webhook.as_ref()) {
            for secret in &hook.secrets {
                for name in secrets_of(&secret.value) {
                    let name = self.plan.secret_names.get(&name).unwrap_or(&name).clone();
                    let text = test_secret(&hook.verify)
                        .unwrap_or_else(|| encoded(hook.verify.key.decode, &made_up(&name)));
                    made.insert(name, text);
                }
            }
        }
        for auth in self.plan.auths.values() {
            for (expr, key, decode) in keys_of(auth) {
                for name in secrets_of(expr) {
                    let name = self.plan.secret_names.get(&name).unwrap_or(&name).clone();
                    let key = key.clone().unwrap_or_else(|| made_up(&name));
                    made.insert(name, encoded(decode, &key));
                }
            }
        }
        made
    }
}

/// What is signed with: the key that does for it, where not any text does, and how it is written.
fn keys_of(auth: &AuthPlan) -> Vec<(&Expr, Option<String>, Encoding)> {
    let mut keys: Vec<(&Expr, Option<String>, Encoding)> = Vec::new();
    match &auth.kind {
        AuthKind::Jwt(plan) => keys.push(key_of(&plan.assertion)),
        AuthKind::OAuth2(plan) => {
            if let Grant::JwtBearer { assertion } = &plan.grant {
                keys.push(key_of(assertion));
            }
            if let ClientAuth::PrivateKeyJwt(assertion) = &plan.client_auth {
                keys.push(key_of(assertion));
            }
        }
        AuthKind::Hmac(plan) => keys.push((&plan.key.secret, None, plan.key.decode)),
        _ => {}
    }
    if let Some(identity) = &auth.identity {
        keys.push((&identity.certificate, Some(keys::certificate()), Encoding::Raw));
        keys.push((&identity.private_key, Some(keys::p256()), Encoding::Raw));
        let ca = identity.ca.iter();
        keys.extend(ca.map(|ca| (ca, Some(keys::certificate()), Encoding::Raw)));
    }
    keys
}

fn key_of(plan: &AssertionPlan) -> (&Expr, Option<String>, Encoding) {
    let key = match plan.algorithm {
        TokenAlgorithm::Rs256 => Some(keys::rsa()),
        TokenAlgorithm::Es256 => Some(keys::p256()),
        TokenAlgorithm::Hs256 | TokenAlgorithm::Hs384 | TokenAlgorithm::Hs512 => None,
    };
    (&plan.key.secret, key, plan.key.decode)
}

/// Recognisable, so that whoever sees it in a request knows what it stands for.
fn made_up(name: &str) -> String {
    format!("test-{name}")
}

fn encoded(encoding: Encoding, text: &str) -> String {
    match encoding {
        Encoding::Raw | Encoding::Pem => text.to_owned(),
        Encoding::Hex => HEXLOWER.encode(text.as_bytes()),
        Encoding::Base64 => BASE64.encode(text.as_bytes()),
        Encoding::Base64Url => BASE64URL.encode(text.as_bytes()),
    }
}

/// The secrets that an expression names.
fn secrets_of(expr: &Expr) -> Vec<String> {
    let uses = expr.uses().into_iter().filter(|(root, _)| root == "secret");
    uses.filter_map(|(_, name)| name).collect()
}

fn with_examples(vars: &Value, body: &ConnectorDef) -> Result<Value, String> {
    let mut vars = vars.as_object().cloned().unwrap_or_default();
    for (name, entry) in body.vars.value().into_iter().flat_map(|named| &named.0) {
        if let VarEntry::Declared(def) = &entry.value
            && !vars.contains_key(name)
        {
            let example = def.example.value().ok_or_else(|| {
                format!("`vars.{name}` has no value: give it an `example`, which tests run with")
            })?;
            vars.insert(name.clone(), example.0.clone());
        }
    }
    Ok(Value::Object(vars))
}

fn capture(name: &str) -> DestinationKind {
    DestinationKind::Http {
        method: Method::POST,
        url: Expr::constant(format!("{CAPTURE}{name}").into()),
        headers: Vec::new(),
        body: None,
        auth: None,
        on: Vec::new(),
        max_response_bytes: CAPTURE_BYTES,
    }
}

fn stand_in(name: Arc<str>) -> DestinationPlan {
    DestinationPlan {
        kind: DestinationKind::Stdout,
        name,
        batch: None,
        order: Order::None,
        concurrency: 1,
        rate: Vec::new(),
        timeout: Duration::from_secs(15),
        retry: RetryPlan {
            attempts: 1,
            from: Duration::from_secs(1),
            to: Duration::from_secs(1),
            within: Duration::from_secs(1),
        },
        breaker: None,
    }
}
