//! Routes: which path leads to which streams, and how its requests are verified.

use std::{collections::HashMap, fmt, sync::Arc};

use arc_swap::ArcSwapOption;
use http::Method;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    fetch::KeyShelf,
    keys::{Key, KeyProblem},
    once::Once,
    request::RequestUse,
};
use crate::{
    map::{Env, EvalError, Expr},
    plan::{ConnectorPlan, ReplyPlan, SecretPlan, StreamPlan, WebhookPlan},
    world::{Secret, Secrets, Timestamp},
};

/// How long a route's keys are used before its secrets are looked up again, in milliseconds: a
/// rotated secret works within a second, and the hot path reads no files.
const KEYS_FRESH_MS: i64 = 1_000;

/// Path → streams. Built from plans without side effects, swapped atomically.
pub struct Routes {
    /// By a hash of the path. A table that follows this one shares the parts that nothing touched.
    parts: Box<[Arc<Part>]>,
}

type Part = HashMap<Arc<str>, Arc<Endpoint>>;

/// So many that one is small where all together have ten thousand routes.
const PARTS: usize = 256;

impl Default for Routes {
    fn default() -> Self {
        let empty: Arc<Part> = Arc::default();
        Self { parts: vec![empty; PARTS].into() }
    }
}

/// What listens on one path: the streams of one connector, behind one verification.
pub(super) struct Endpoint {
    pub(super) connector: Arc<ConnectorPlan>,
    /// The first stream's settings, whose verification all share.
    pub(super) hook: Arc<WebhookPlan>,
    pub(super) groups: Vec<Group>,
    /// Of all streams.
    pub(super) methods: Vec<Method>,
    /// The largest of all streams.
    pub(super) max_body_bytes: usize,
    pub(super) request: RequestUse,
    /// Whether the URL as the producer called it is needed at all.
    pub(super) needs_url: bool,
    /// For counters of what no single stream can answer for: the stream's name where there is one.
    pub(super) label: Arc<str>,
    keys: ArcSwapOption<LiveKeys>,
    /// Public keys that the scheme fetches.
    pub(super) shelf: KeyShelf,
    /// Values that are good for one body.
    pub(super) once: Once,
}

/// The streams that split bodies in one way.
pub(super) struct Group {
    pub(super) events: Option<Expr>,
    pub(super) streams: Vec<Arc<StreamPlan>>,
}

/// A route's keys, as its secrets were a second ago at most.
pub(super) struct LiveKeys {
    looked_up_at: Timestamp,
    pub(super) keys: Vec<Key>,
}

/// Why a secret of a route cannot be used. Names the secret, never shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SecretProblem {
    /// It is unset, or its expression fails.
    Unset(EvalError),
    /// There is no key in it.
    Key(KeyProblem),
}

impl fmt::Display for SecretProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unset(error) => error.fmt(f),
            Self::Key(problem) => problem.fmt(f),
        }
    }
}

impl Routes {
    /// All routes of the given connectors. Err: paths that two connectors claim (each is named), or
    /// whose streams disagree on how requests are verified.
    pub fn build(connectors: &[Arc<ConnectorPlan>]) -> Result<Self, Vec<String>> {
        Self::default().with(&[], connectors)
    }

    /// These routes without those of `gone`, plans that routes were made of, and with those of
    /// `connectors`.
    /// What is not touched is shared with the table it comes from. Err as for [`Routes::build`].
    pub(super) fn with(
        &self,
        gone: &[Arc<ConnectorPlan>],
        connectors: &[Arc<ConnectorPlan>],
    ) -> Result<Self, Vec<String>> {
        let mut kept = Self { parts: self.parts.clone() };
        for connector in gone {
            kept.remove(connector);
        }
        let mut endpoints: HashMap<Arc<str>, Endpoint> = HashMap::new();
        let (mut problems, mut disagreeing) = (Vec::new(), Vec::new());
        let mut claimed = |path: &str, first: &str, second: &str| {
            problems.push(format!(
                "webhook path `{path}` is claimed by the connectors `{first}` and `{second}`"
            ));
        };
        for connector in connectors {
            for stream in &connector.streams {
                let Some(hook) = &stream.webhook else {
                    continue;
                };
                if let Some(endpoint) = kept.get(hook.path.as_str()) {
                    claimed(&hook.path, &endpoint.connector.name, &connector.name);
                    continue;
                }
                match endpoints.get_mut(hook.path.as_str()) {
                    None => {
                        let endpoint = Endpoint::new(connector, stream, hook);
                        endpoints.insert(hook.path.as_str().into(), endpoint);
                    }
                    Some(endpoint) if endpoint.connector.name != connector.name => {
                        claimed(&hook.path, &endpoint.connector.name, &connector.name);
                    }
                    Some(endpoint) if !same_verification(&endpoint.hook, hook) => {
                        disagreeing.push(format!(
                            "connector `{}`: the streams on webhook path `{}` verify differently",
                            connector.name, hook.path
                        ));
                    }
                    Some(endpoint) => endpoint.join(stream, hook),
                }
            }
        }
        problems.extend(disagreeing);
        if !problems.is_empty() {
            return Err(problems);
        }
        for (path, endpoint) in endpoints {
            Arc::make_mut(&mut kept.parts[part_of(&path)]).insert(path, Arc::new(endpoint));
        }
        Ok(kept)
    }

    /// Takes out what is this connector's.
    fn remove(&mut self, connector: &ConnectorPlan) {
        let hooks = connector.streams.iter().filter_map(|stream| stream.webhook.as_ref());
        for path in hooks.map(|hook| hook.path.as_str()) {
            if self.get(path).is_some_and(|known| known.connector.name == connector.name) {
                Arc::make_mut(&mut self.parts[part_of(path)]).remove(path);
            }
        }
    }

    fn get(&self, path: &str) -> Option<&Arc<Endpoint>> {
        self.parts[part_of(path)].get(path)
    }

    /// What listens on `path`, exactly.
    pub(super) fn find(&self, path: &str) -> Option<Arc<Endpoint>> {
        self.get(path).cloned()
    }
}

fn part_of(path: &str) -> usize {
    xxh3_64(path.as_bytes()) as usize % PARTS
}

/// Whether two streams' settings verify alike. The language makes them; if a compiler ever let
/// another pass, a stream without verification must not open a sibling's path.
fn same_verification(a: &WebhookPlan, b: &WebhookPlan) -> bool {
    let sources = |hook: &WebhookPlan| {
        let secrets = hook.secrets.iter().map(|s| (s.value.source().to_owned(), s.not_after));
        secrets.collect::<Vec<_>>()
    };
    let source = |expr: &Option<Expr>| expr.as_ref().map(|expr| expr.source().to_owned());
    let others = |hook: &WebhookPlan| [&hook.user, &hook.verify_token, &hook.url].map(source);
    a.verify.name == b.verify.name
        && a.verify.algorithm == b.verify.algorithm
        && sources(a) == sources(b)
        && others(a) == others(b)
}

impl Endpoint {
    fn new(
        connector: &Arc<ConnectorPlan>,
        stream: &Arc<StreamPlan>,
        hook: &Arc<WebhookPlan>,
    ) -> Self {
        let mut endpoint = Self {
            connector: Arc::clone(connector),
            hook: Arc::clone(hook),
            groups: Vec::with_capacity(1),
            methods: Vec::with_capacity(1),
            max_body_bytes: 0,
            request: RequestUse::default(),
            needs_url: false,
            label: Arc::clone(&stream.name),
            keys: ArcSwapOption::empty(),
            shelf: KeyShelf::default(),
            once: Once::default(),
        };
        hook.verify.expressions().for_each(|expr| endpoint.request.add(expr));
        endpoint.join(stream, hook);
        endpoint
    }

    /// Takes a stream in that listens on the same path.
    fn join(&mut self, stream: &Arc<StreamPlan>, hook: &Arc<WebhookPlan>) {
        if !self.groups.is_empty() {
            self.label = Arc::from("");
        }
        for method in &hook.methods {
            if !self.methods.contains(method) {
                self.methods.push(method.clone());
            }
        }
        self.max_body_bytes = self.max_body_bytes.max(hook.max_body_bytes);
        let named = stream.key.iter().chain(&stream.tenant).chain(&stream.when);
        let named = named.chain(&stream.delete).chain(stream.with.iter().map(|(_, expr)| expr));
        let named = named.chain(stream.revision.as_ref().map(|revision| &revision.expr));
        named.for_each(|expr| self.request.add(expr));
        self.needs_url = self.request.url || self.hook.verify.needs_url();
        let source = |events: &Option<Expr>| events.as_ref().map(|e| e.source().to_owned());
        let wanted = source(&hook.events);
        match self.groups.iter_mut().find(|group| source(&group.events) == wanted) {
            Some(group) => group.streams.push(Arc::clone(stream)),
            None => self
                .groups
                .push(Group { events: hook.events.clone(), streams: vec![Arc::clone(stream)] }),
        }
    }

    /// The first `reply` of its streams.
    pub(super) fn reply(&self) -> Option<&ReplyPlan> {
        let mut streams = self.groups.iter().flat_map(|group| &group.streams);
        streams.find_map(|stream| stream.webhook.as_ref()?.reply.as_deref())
    }

    /// Whether a request with this method may be something: an event, or a handshake.
    pub(super) fn takes(&self, method: &Method) -> bool {
        let challenges = &self.hook.verify.challenges;
        self.methods.contains(method)
            || challenges.iter().any(|challenge| challenge.method.as_ref() == Some(method))
    }

    /// What a handshake has to repeat.
    pub(super) fn verify_token(&self, secrets: &Arc<dyn Secrets>) -> Result<Secret, SecretProblem> {
        let token = self.hook.verify_token.as_ref();
        let token = token.ok_or(SecretProblem::Key(KeyProblem::Empty))?;
        let token = token.secret(&self.secret_env(secrets)).map_err(SecretProblem::Unset)?;
        if token.expose().is_empty() {
            return Err(SecretProblem::Key(KeyProblem::Empty));
        }
        Ok(token)
    }

    /// The names that settings see.
    pub(super) fn secret_env(&self, secrets: &Arc<dyn Secrets>) -> Env {
        let names = Arc::clone(&self.connector.secret_names);
        self.env().with_secrets(Arc::clone(secrets), names)
    }

    /// The value of `Allow`.
    pub(super) fn allow(&self) -> String {
        self.methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ")
    }

    /// The names that every expression of the connector sees.
    pub(super) fn env(&self) -> Env {
        Env::new().with("vars", Arc::clone(&self.connector.vars))
    }

    /// The keys, looked up a second ago at most. While one of several secrets cannot be used the
    /// others can, and `note` hears of it; with none left there is nothing to verify with.
    pub(super) fn keys(
        &self,
        secrets: &Arc<dyn Secrets>,
        now: Timestamp,
        note: impl Fn(&SecretProblem),
    ) -> Result<Arc<LiveKeys>, SecretProblem> {
        let fresh = |live: &Arc<LiveKeys>| {
            (live.looked_up_at.0..live.looked_up_at.0 + KEYS_FRESH_MS).contains(&now.0)
        };
        if let Some(live) = self.keys.load_full().filter(fresh) {
            return Ok(live);
        }
        let (keys, problem) = self.look_up(secrets);
        match problem {
            Some(problem) if keys.is_empty() => return Err(problem),
            Some(problem) => note(&problem),
            None => {}
        }
        let live = Arc::new(LiveKeys { looked_up_at: now, keys });
        self.keys.store(Some(Arc::clone(&live)));
        Ok(live)
    }

    /// What can be used, and the last reason why something cannot.
    fn look_up(&self, secrets: &Arc<dyn Secrets>) -> (Vec<Key>, Option<SecretProblem>) {
        let env = self.secret_env(secrets);
        let resolve = |expr: &Expr| expr.secret(&env).map_err(SecretProblem::Unset);
        let prepare = |secret: &SecretPlan| {
            let user = self.hook.user.as_ref().map(resolve).transpose()?;
            let value = resolve(&secret.value)?;
            Key::prepare(&self.hook.verify, &value, user.as_ref(), secret.not_after)
                .map_err(SecretProblem::Key)
        };
        let mut keys = Vec::with_capacity(self.hook.secrets.len());
        let mut problem =
            self.hook.secrets.is_empty().then_some(SecretProblem::Key(KeyProblem::Empty));
        for secret in &self.hook.secrets {
            match prepare(secret) {
                Ok(key) => keys.push(key),
                Err(found) => problem = Some(found),
            }
        }
        (keys, problem)
    }
}
