//! The token cache, and who may refresh.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hashbrown::HashMap;
use http::Request;
use parking_lot::Mutex;
use xxhash_rust::xxh3::Xxh3;

use super::{
    credential::{Carried, Credential, look_up},
    oauth2::{Asking, Granted},
    stored::{self, Seed},
};
use crate::{
    bus::Bus,
    egress::{Egress, ExchangeLimits},
    map::{Env, Expr},
    plan::{AuthKind, AuthPlan, Grant, OAuth2Plan},
    world::{Secret, Timestamp, World},
};

/// What a token request may cost.
const TOKEN_LIMITS: ExchangeLimits =
    ExchangeLimits { timeout: Duration::from_secs(20), max_response_bytes: 256 << 10 };
/// A token endpoint that failed is left alone this long, then twice as long, and so on.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// But never longer than this.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Why a request could not be given credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthError {
    /// Nobody but a person can mend it: `invalid_grant`, an unset secret, a refused client. Holds
    /// the connector or destination; burns no attempts.
    Held(String),
    /// The token endpoint is down or slow: again later; burns no attempts (deferred).
    Later {
        /// One line, no secrets.
        message: String,
        /// When the endpoint will be asked again.
        retry_after: Option<Duration>,
    },
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(message) | Self::Later { message, .. } => f.write_str(message),
        }
    }
}

impl std::error::Error for AuthError {}

/// Adds credentials; see the module's text for what it promises. One for the whole process.
pub struct Authenticator {
    world: World,
    egress: Egress,
    bus: Arc<dyn Bus>,
    /// By connector, then by the `[auth.NAME]` table.
    entries: Mutex<HashMap<Box<str>, Entries>>,
}

type Entries = HashMap<Box<str>, Arc<Entry>>;

/// One `[auth.NAME]` of one connector.
struct Entry {
    /// Of the plan it was made for: a reload that changes the table starts anew.
    fingerprint: u64,
    current: Mutex<Option<Arc<Credential>>>,
    /// Whoever holds it asks the token endpoint.
    turn: tokio::sync::Mutex<Turn>,
    /// How often the endpoint was asked, so that those who waited know that somebody was answered.
    rounds: AtomicU64,
}

/// What the last round left behind.
#[derive(Default)]
struct Turn {
    error: Option<AuthError>,
    failures: u32,
    /// The endpoint is left alone until then.
    not_before: Timestamp,
    /// A rotated refresh token that the store refused to take.
    unsaved: Option<(Seed, Secret)>,
}

impl Entry {
    fn new(fingerprint: u64) -> Self {
        Self {
            fingerprint,
            current: Mutex::new(None),
            turn: tokio::sync::Mutex::default(),
            rounds: AtomicU64::new(0),
        }
    }

    fn valid(&self, now: Timestamp) -> Option<Arc<Credential>> {
        self.current.lock().as_ref().filter(|it| now < it.expires_at).cloned()
    }
}

/// What a refresh needs to know.
#[derive(Clone, Copy)]
struct Asked<'a> {
    connector: &'a str,
    auth: &'a str,
    plan: &'a OAuth2Plan,
    env: &'a Env,
}

impl Authenticator {
    /// Empty: everything is looked up or fetched when it is first needed.
    pub fn new(world: World, egress: Egress, bus: Arc<dyn Bus>) -> Self {
        Self { world, egress, bus, entries: Mutex::default() }
    }

    /// Adds the plan's credential to the request. `env` has `vars` and `secret` bound.
    ///
    /// The result says what the request carried, for [`Self::refused`]. Dropping the future while a
    /// token is being fetched leaves the turn to the next caller; a token that rotated is stored as
    /// soon as its answer is read, with nothing awaited in between.
    pub async fn apply(
        &self,
        connector: &str,
        plan: &AuthPlan,
        env: &Env,
        request: &mut Request<Bytes>,
    ) -> Result<Carried, AuthError> {
        let entry = self.entry(connector, plan);
        let credential = match &plan.kind {
            AuthKind::OAuth2(oauth2) => {
                let asked = Asked { connector, auth: &plan.name, plan: oauth2, env };
                self.token(&entry, asked).await?
            }
            kind => self.fixed(&entry, kind, env)?,
        };
        credential.put_into(request)?;
        Ok(Carried(credential))
    }

    /// After a 401: the credential that the request carried is forgotten, unless a newer one has
    /// taken its place, so that the next `apply` gets a new one. Whether trying again makes sense:
    /// for a token that was fetched, yes; for one that a person configured, no.
    pub fn refused(&self, connector: &str, plan: &AuthPlan, carried: &Carried) -> bool {
        let entry = self.entry(connector, plan);
        let mut current = entry.current.lock();
        if current.as_ref().is_some_and(|it| Arc::ptr_eq(it, &carried.0)) {
            *current = None;
        }
        matches!(plan.kind, AuthKind::OAuth2(_))
    }

    /// Forgets what belongs to a connector that is gone, or whose variables changed (a table that
    /// changed is noticed). Stored refresh tokens stay.
    pub fn forget(&self, connector: &str) {
        self.entries.lock().remove(connector);
    }

    fn entry(&self, connector: &str, plan: &AuthPlan) -> Arc<Entry> {
        let fingerprint = fingerprint(plan);
        let mut entries = self.entries.lock();
        let found = entries.get(connector).and_then(|auths| auths.get(&*plan.name));
        if let Some(entry) = found.filter(|entry| entry.fingerprint == fingerprint) {
            return entry.clone();
        }
        let entry = Arc::new(Entry::new(fingerprint));
        let auths = entries.entry(connector.into()).or_default();
        auths.insert((&*plan.name).into(), entry.clone());
        entry
    }

    fn fixed(
        &self,
        entry: &Entry,
        kind: &AuthKind,
        env: &Env,
    ) -> Result<Arc<Credential>, AuthError> {
        let now = self.world.clock.now();
        if let Some(credential) = entry.valid(now) {
            return Ok(credential);
        }
        let credential = Credential::fixed(kind, env, now)?
            .ok_or_else(|| AuthError::Held("a token has to be fetched".to_owned()))?;
        let credential = Arc::new(credential);
        *entry.current.lock() = Some(credential.clone());
        Ok(credential)
    }

    /// A token that is valid: the cached one, or a new one, fetched by one caller for all.
    async fn token(&self, entry: &Entry, asked: Asked<'_>) -> Result<Arc<Credential>, AuthError> {
        let now = self.world.clock.now();
        let seen = entry.rounds.load(Ordering::Acquire);
        if let Some(valid) = entry.valid(now) {
            if now < valid.refresh_at {
                return Ok(valid);
            }
            return Ok(Box::pin(self.renewed_early(entry, asked, valid, now)).await);
        }
        let mut turn = entry.turn.lock().await;
        let now = self.world.clock.now();
        if let Some(valid) = entry.valid(now) {
            return Ok(valid);
        }
        let others_failed = entry.rounds.load(Ordering::Acquire) != seen;
        match &turn.error {
            Some(AuthError::Later { message, .. }) if now < turn.not_before => {
                let retry_after = Some(turn.not_before.since(now));
                return Err(AuthError::Later { message: message.clone(), retry_after });
            }
            Some(error) if others_failed => return Err(error.clone()),
            _ => {}
        }
        // Boxed, like the above: rare, and larger than what every request passes through.
        Box::pin(self.round(entry, &mut turn, asked)).await
    }

    /// The token is old but valid. One caller fetches another; whoever comes meanwhile, and whoever
    /// does not succeed, goes on with the old one.
    async fn renewed_early(
        &self,
        entry: &Entry,
        asked: Asked<'_>,
        valid: Arc<Credential>,
        now: Timestamp,
    ) -> Arc<Credential> {
        let Ok(mut turn) = entry.turn.try_lock() else { return valid };
        // Between the look and the lock somebody may have fetched it.
        let newest = entry.valid(now).unwrap_or(valid);
        if now < newest.refresh_at || now < turn.not_before {
            return newest;
        }
        match self.round(entry, &mut turn, asked).await {
            Ok(fresh) => fresh,
            Err(error) => {
                tracing::warn!(
                    connector = asked.connector,
                    auth = asked.auth,
                    %error,
                    "token not refreshed; the old one is still valid"
                );
                newest
            }
        }
    }

    /// Asks the token endpoint once and leaves the result for everybody.
    async fn round(
        &self,
        entry: &Entry,
        turn: &mut Turn,
        asked: Asked<'_>,
    ) -> Result<Arc<Credential>, AuthError> {
        let result = self.fetch(turn, asked).await;
        entry.rounds.fetch_add(1, Ordering::Release);
        match result {
            Ok(credential) => {
                let credential = Arc::new(credential);
                turn.error = None;
                turn.failures = 0;
                *entry.current.lock() = Some(credential.clone());
                Ok(credential)
            }
            Err(mut error) => {
                let pause = FIRST_PAUSE * 2u32.saturating_pow(turn.failures.min(6));
                let mut pause = pause.min(LONGEST_PAUSE);
                if let AuthError::Later { retry_after, .. } = &mut error {
                    // What the server asks for counts, as far as it is not a way to stop us for good.
                    pause = pause.max(retry_after.unwrap_or_default().min(LONGEST_PAUSE));
                    *retry_after = Some(pause);
                }
                turn.failures = turn.failures.saturating_add(1);
                turn.not_before = self.world.clock.now().plus(pause);
                turn.error = Some(error.clone());
                Err(error)
            }
        }
    }

    async fn fetch(&self, turn: &mut Turn, asked: Asked<'_>) -> Result<Credential, AuthError> {
        let refresh_token = match &asked.plan.grant {
            Grant::ClientCredentials => None,
            Grant::RefreshToken { refresh_token } => {
                Some(self.refresh_token(turn, asked, refresh_token)?)
            }
        };
        let used = refresh_token.as_ref().map(|(_, token)| token);
        let (request, reading) = Asking::new(asked.plan, used, asked.env)?.into_parts();
        // The life counts from before the request: the server's clock may have started by then.
        let asked_at = self.world.clock.now();
        let answer = self.egress.send(request, TOKEN_LIMITS).await;
        let granted = reading.granted(answer, self.world.clock.now())?;
        if let Some((seed, used)) = &refresh_token {
            self.save_rotated(turn, asked, *seed, used, &granted).await?;
        }
        let Granted { access_token, life, .. } = granted;
        let (refresh_at, expires_at) = (asked_at.plus(life.mul_f64(0.8)), asked_at.plus(life));
        Credential::bearer(&access_token, refresh_at, expires_at)
    }

    /// The newest refresh token: one that could not be stored, the stored one, the configured one.
    fn refresh_token(
        &self,
        turn: &Turn,
        asked: Asked<'_>,
        configured: &Expr,
    ) -> Result<(Seed, Secret), AuthError> {
        let configured = look_up(configured, asked.env)?;
        let seed = Seed::of(&configured);
        if let Some((_, unsaved)) = turn.unsaved.as_ref().filter(|(of, _)| *of == seed) {
            return Ok((seed, unsaved.clone()));
        }
        let stored = self.bus.state(&stored::key(asked.connector, asked.auth));
        let stored = stored.and_then(|bytes| stored::decode(&bytes, seed));
        Ok((seed, stored.unwrap_or(configured)))
    }

    /// Makes a rotated refresh token durable. Until it is, the access token is not used: after a
    /// crash nobody would have the one refresh token that the server still takes.
    async fn save_rotated(
        &self,
        turn: &mut Turn,
        asked: Asked<'_>,
        seed: Seed,
        used: &Secret,
        granted: &Granted,
    ) -> Result<(), AuthError> {
        let newest = match &granted.refresh_token {
            Some(rotated) if rotated != used => rotated,
            // Not rotated, but perhaps still not stored.
            _ if turn.unsaved.is_some() => used,
            _ => return Ok(()),
        };
        let key = stored::key(asked.connector, asked.auth);
        turn.unsaved = Some((seed, newest.clone()));
        self.bus.put_state(&key, Some(stored::encode(seed, newest))).await.map_err(|error| {
            let message = format!("the rotated refresh token cannot be stored: {error}");
            AuthError::Later { message, retry_after: None }
        })?;
        turn.unsaved = None;
        tracing::info!(
            connector = asked.connector,
            auth = asked.auth,
            "refresh token rotated and stored"
        );
        Ok(())
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authenticator")
    }
}

/// Hash of what the table says; secrets are named in it, not contained.
fn fingerprint(plan: &AuthPlan) -> u64 {
    let mut hash = Xxh3::new();
    let mut add = |text: &str| {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    match &plan.kind {
        AuthKind::Bearer { token } => ["bearer", token.source()].into_iter().for_each(&mut add),
        AuthKind::Basic { user, password } => {
            ["basic", user.source(), password.source()].into_iter().for_each(&mut add);
        }
        AuthKind::Header { name, value } => {
            ["header", name, value.source()].into_iter().for_each(&mut add);
        }
        AuthKind::Query { name, value } => {
            ["query", name, value.source()].into_iter().for_each(&mut add);
        }
        AuthKind::OAuth2(oauth2) => {
            let grant = match &oauth2.grant {
                Grant::ClientCredentials => "",
                Grant::RefreshToken { refresh_token } => refresh_token.source(),
            };
            ["oauth2", oauth2.token_url.source(), oauth2.client_id.source(), grant]
                .into_iter()
                .for_each(&mut add);
            oauth2.client_secret.iter().for_each(|secret| add(secret.source()));
            oauth2.scopes.iter().for_each(|scope| add(scope));
            for (name, value) in &oauth2.params {
                add(name);
                add(value.source());
            }
        }
    }
    hash.digest()
}
