//! The token cache, and who may refresh.

mod person;
mod principal;

use std::{
    collections::VecDeque,
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

pub use person::LoginState;
use person::{LoggedIn, seed_of};
pub use principal::Principal;

use super::{
    code::Pending,
    credential::{Carried, Credential, LOOK_UP_EVERY, look_up, redacted},
    login,
    oauth2::{self, Asking, Granted, With},
    sign::{Moment, hmac, jwt, sigv4},
    stored::{self, Kept, Protection, Seed},
    vault::{Locked, Vault},
};
use crate::{
    bus::{Bus, StoreError},
    egress::{Egress, ExchangeLimits, Identity},
    map::{Env, Expr},
    plan::{AuthKind, AuthPlan, Grant, IdentityPlan, LoginPlan, OAuth2Plan, Setting},
    world::{Secret, Timestamp, World},
};

/// What a token request may cost.
const TOKEN_LIMITS: ExchangeLimits =
    ExchangeLimits { timeout: Duration::from_secs(20), max_response_bytes: 256 << 10 };
/// A token endpoint that failed is left alone this long, then twice as long, and so on.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// But never longer than this.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Credentials remembered for redaction, for each `[auth.NAME]`.
const REMEMBERED: usize = 16;

/// What became of stored tokens when the daemon started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Written anew under the current key, or as the current version.
    pub written: usize,
    /// In the clear, since there is no key.
    pub plain: usize,
    /// Sealed with a key that is not there, or damaged.
    pub locked: usize,
}

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
    /// Encrypts what is stored.
    vault: Option<Vault>,
    /// By connector, then by the `[auth.NAME]` table.
    entries: Mutex<HashMap<Box<str>, Entries>>,
}

type Entries = HashMap<Box<str>, Arc<Entry>>;

/// One `[auth.NAME]` of one connector.
struct Entry {
    /// Of the plan it was made for: a reload that changes the table starts anew.
    fingerprint: u64,
    current: Mutex<Option<Arc<Credential>>>,
    /// What was handed out, the newest last: an answer that repeats it must not show it.
    handed_out: Mutex<VecDeque<Secret>>,
    /// The client certificate, and until when it is not looked up again.
    identity: Mutex<Option<(Timestamp, Identity)>>,
    /// Who asks, and until when that is not looked up again.
    principal: Mutex<Option<(Timestamp, Principal)>>,
    /// A person's login that is not finished.
    pending: Mutex<Option<Pending>>,
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
            handed_out: Mutex::default(),
            pending: Mutex::new(None),
            principal: Mutex::new(None),
            identity: Mutex::new(None),
            turn: tokio::sync::Mutex::default(),
            rounds: AtomicU64::new(0),
        }
    }

    /// Makes it the one that everybody uses.
    fn hand_out(&self, credential: Credential) -> Arc<Credential> {
        let credential = Arc::new(credential);
        let mut handed_out = self.handed_out.lock();
        for hidden in &credential.hidden {
            if !handed_out.contains(hidden) {
                handed_out.push_back(hidden.clone());
            }
        }
        let surplus = handed_out.len().saturating_sub(REMEMBERED);
        handed_out.drain(..surplus);
        drop(handed_out);
        *self.current.lock() = Some(credential.clone());
        credential
    }

    fn valid(&self, now: Timestamp) -> Option<Arc<Credential>> {
        self.current.lock().as_ref().filter(|it| now < it.expires_at).cloned()
    }
}

/// What a refresh needs to know.
#[derive(Clone, Copy)]
struct Asked<'a> {
    connector: &'a str,
    plan: &'a AuthPlan,
    env: &'a Env,
}

impl Authenticator {
    /// Empty: everything is looked up or fetched when it is first needed.
    pub fn new(world: World, egress: Egress, bus: Arc<dyn Bus>) -> Self {
        Self { world, egress, bus, vault: None, entries: Mutex::default() }
    }

    /// The same, and what it stores is encrypted.
    #[must_use]
    pub fn sealed_by(mut self, vault: Option<Vault>) -> Self {
        self.vault = vault;
        self
    }

    /// Writes anew what is stored in the clear, under an older key, or as the version before this one
    /// wrote it. To be called once, before anything is used. What does not open stays as it is: it is
    /// held when it is needed.
    pub async fn reseal(&self) -> Result<Resealed, StoreError> {
        let mut done = Resealed::default();
        for (key, bytes) in self.bus.state_under(stored::AREA) {
            let protection = stored::protection(&bytes, self.vault.as_ref());
            let is_due = match protection {
                Protection::Current => false,
                Protection::Older => self.vault.is_some(),
                Protection::Plain => self.vault.is_some() || stored::is_of_first_version(&bytes),
            };
            match stored::decode(&key, &bytes, self.vault.as_ref()) {
                Err(_) => done.locked += 1,
                Ok(Some((seed, kept))) if is_due => {
                    let anew = stored::encode(&key, seed, &kept, self.vault.as_ref());
                    self.bus.put_state(&key, Some(anew.map_err(StoreError)?)).await?;
                    done.written += 1;
                }
                Ok(_) => {}
            }
            done.plain += usize::from(self.vault.is_none() && protection == Protection::Plain);
        }
        Ok(done)
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
        if let Some(identity) = self.identity(&entry, plan, env)? {
            request.extensions_mut().insert(identity);
        }
        let credential = match &plan.kind {
            AuthKind::OAuth2(_) | AuthKind::Login(_) => {
                self.token(&entry, Asked { connector, plan, env }).await?
            }
            AuthKind::Hmac(plan) => {
                Arc::new(hmac::sign(plan, env, &Moment::of(&self.world), request)?)
            }
            AuthKind::SigV4(plan) => {
                Arc::new(sigv4::sign(plan, env, &Moment::of(&self.world), request)?)
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
        plan.is_fetched() || matches!(plan.kind, AuthKind::Jwt(_))
    }

    /// `text` without the tokens that requests of this connector carried lately.
    pub fn redact(&self, connector: &str, text: String) -> String {
        let hidden = self.handed_out(connector);
        if hidden.is_empty() { text } else { redacted(&hidden, &text) }
    }

    /// The tokens and other credentials that requests of this connector carried lately.
    pub fn handed_out(&self, connector: &str) -> Vec<Secret> {
        let entries = self.entries.lock();
        let entries = entries.get(connector).into_iter().flat_map(HashMap::values);
        entries
            .flat_map(|entry| entry.handed_out.lock().iter().cloned().collect::<Vec<_>>())
            .collect()
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

    /// The client certificate that the plan's requests are made with, as its secrets are now.
    fn identity(
        &self,
        entry: &Entry,
        plan: &AuthPlan,
        env: &Env,
    ) -> Result<Option<Identity>, AuthError> {
        let Some(identity) = &plan.identity else { return Ok(None) };
        let now = self.world.clock.now();
        let mut known = entry.identity.lock();
        if let Some((_, identity)) = known.as_ref().filter(|(until, _)| now < *until) {
            return Ok(Some(identity.clone()));
        }
        let IdentityPlan { name, certificate, private_key, ca } = identity.as_ref();
        let (certificate, key) = (look_up(certificate, env)?, look_up(private_key, env)?);
        let ca = ca.as_ref().map(|ca| look_up(ca, env)).transpose()?;
        let (certificate, key) = (certificate.expose(), key.expose());
        let ca = ca.as_ref().map(Secret::expose);
        // The same certificate is the same identity, and keeps its connections.
        let same = known.take().map(|(_, it)| it).filter(|it| it.is_of(certificate, key, ca));
        let identity = match same {
            Some(same) => same,
            None => Identity::from_pem(certificate, key, ca)
                .map_err(|error| AuthError::Held(format!("auth {name}: {error}")))?,
        };
        *known = Some((now.plus(LOOK_UP_EVERY), identity.clone()));
        Ok(Some(identity))
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
        let credential = match (kind, Credential::fixed(kind, env, now)?) {
            (_, Some(fixed)) => fixed,
            (AuthKind::Jwt(plan), None) => {
                let token = jwt::token(&plan.assertion, &[], env, &Moment::of(&self.world))?;
                // Its last fifth is left to clocks that are ahead of this one.
                let until = now.plus(plan.assertion.life.mul_f64(0.8));
                Credential::token(&plan.place, &token, env, (until, until))?
            }
            (_, None) => return Err(AuthError::Held("a token has to be fetched".to_owned())),
        };
        Ok(entry.hand_out(credential))
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
                    auth = &*asked.plan.name,
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
        let result = self.fetch(entry, turn, asked).await;
        entry.rounds.fetch_add(1, Ordering::Release);
        match result {
            Ok(credential) => {
                turn.error = None;
                turn.failures = 0;
                Ok(entry.hand_out(credential))
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

    async fn fetch(
        &self,
        entry: &Entry,
        turn: &mut Turn,
        asked: Asked<'_>,
    ) -> Result<Credential, AuthError> {
        // The life counts from before the request: the server's clock may have started by then.
        let asked_at = self.world.clock.now();
        let (place, token, life) = match &asked.plan.kind {
            AuthKind::Login(plan) => {
                let (token, life) = self.log_in(entry, plan, asked).await?;
                (&plan.place, token, life)
            }
            AuthKind::OAuth2(plan) => {
                let granted = self.grant(entry, turn, plan, asked).await?;
                (&plan.place, granted.access_token, granted.life)
            }
            _ => return Err(AuthError::Held("there is no token to be asked for".to_owned())),
        };
        let lives = (asked_at.plus(life.mul_f64(0.8)), asked_at.plus(life));
        Credential::token(place, &token, asked.env, lives)
    }

    /// Asks a token endpoint; a refresh token that rotated is durable when this returns.
    async fn grant(
        &self,
        entry: &Entry,
        turn: &mut Turn,
        plan: &OAuth2Plan,
        asked: Asked<'_>,
    ) -> Result<Granted, AuthError> {
        let (seed, used) = match &plan.grant {
            Grant::ClientCredentials | Grant::JwtBearer { .. } => {
                return self.ask(entry, plan, asked, With::Plan).await;
            }
            Grant::RefreshToken { refresh_token } => {
                self.refresh_token(turn, asked, refresh_token)?
            }
            Grant::AuthorizationCode { .. } => {
                let seed = seed_of(plan, asked.env)?;
                match self.logged_in(turn, asked, seed)? {
                    LoggedIn::Refresh(token) => (seed, token),
                    LoggedIn::Access(granted) => return Ok(granted),
                }
            }
        };
        let granted = self.ask(entry, plan, asked, With::Refresh(&used)).await?;
        self.save_rotated(turn, asked, seed, &used, &granted).await?;
        Ok(granted)
    }

    /// One request to the token endpoint.
    async fn ask(
        &self,
        entry: &Entry,
        plan: &OAuth2Plan,
        asked: Asked<'_>,
        with: With<'_>,
    ) -> Result<Granted, AuthError> {
        let asking = Asking::new(plan, with, asked.env, &Moment::of(&self.world))?;
        let Asking { mut request, hidden } = asking;
        if let Some(identity) = self.identity(entry, asked.plan, asked.env)? {
            request.extensions_mut().insert(identity);
        }
        let answer = self.egress.send(request, TOKEN_LIMITS).await;
        oauth2::granted(plan, asked.env, &hidden, answer, self.world.clock.now())
    }

    /// Asks as the file says. Where the login is itself authenticated and that is refused, once more
    /// with fresh credentials.
    async fn log_in(
        &self,
        entry: &Entry,
        plan: &LoginPlan,
        asked: Asked<'_>,
    ) -> Result<(Secret, Duration), AuthError> {
        let (made, mut hidden) = login::request(plan, asked.env, &Moment::of(&self.world))?;
        let mut again = true;
        loop {
            let mut request = made.clone();
            if let Some(identity) = self.identity(entry, asked.plan, asked.env)? {
                request.extensions_mut().insert(identity);
            }
            let mut carried = None;
            if let Some(auth) = &plan.auth {
                let applying = self.apply(asked.connector, auth, asked.env, &mut request);
                let credential = Box::pin(applying).await?;
                hidden.extend(credential.0.hidden.iter().cloned());
                carried = Some((auth, credential));
            }
            let answer = self.egress.send(request, TOKEN_LIMITS).await;
            let unauthorized =
                answer.as_ref().is_ok_and(|it| it.status == http::StatusCode::UNAUTHORIZED);
            if let (true, true, Some((auth, credential))) = (unauthorized, again, &carried)
                && self.refused(asked.connector, auth, credential)
            {
                again = false;
                continue;
            }
            let now = self.world.clock.now();
            return login::granted(plan, asked.env, &hidden, answer, now);
        }
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
        let stored = self.kept(asked, seed)?.and_then(|kept| kept.refresh_token);
        Ok((seed, stored.unwrap_or(configured)))
    }

    /// What is stored for a table, unless it descends from something else than what is configured.
    fn kept(&self, asked: Asked<'_>, seed: Seed) -> Result<Option<Kept>, AuthError> {
        let key = stored::key(asked.connector, &asked.plan.name);
        let Some(bytes) = self.bus.state(&key) else { return Ok(None) };
        // What descends from another token is out of use, whether it can be read or not.
        if stored::seed_of(&bytes).is_some_and(|of| of != seed) {
            return Ok(None);
        }
        let auth = &asked.plan.name;
        let stored = stored::decode(&key, &bytes, self.vault.as_ref()).map_err(|locked| {
            // Going on with the configured token would spend what the server has replaced.
            AuthError::Held(match locked {
                Locked::OtherKey(id) if id.is_empty() => format!(
                    "the stored tokens of auth {auth} are encrypted, and [tokens] in tenon.toml \
                     names no key"
                ),
                Locked::OtherKey(id) => format!(
                    "the stored tokens of auth {auth} are encrypted under a key ({id}) that is not \
                     among those of [tokens] in tenon.toml"
                ),
                Locked::Damaged => {
                    format!("the stored tokens of auth {auth} are damaged or do not belong to it")
                }
            })
        })?;
        Ok(stored.filter(|(of, _)| *of == seed).map(|(_, kept)| kept))
    }

    /// Makes what is kept durable.
    async fn keep(&self, asked: Asked<'_>, seed: Seed, kept: &Kept) -> Result<(), AuthError> {
        let key = stored::key(asked.connector, &asked.plan.name);
        let failed = |error: String| AuthError::Later {
            message: format!("the rotated refresh token cannot be stored: {error}"),
            retry_after: None,
        };
        let bytes = stored::encode(&key, seed, kept, self.vault.as_ref()).map_err(failed)?;
        let stored = self.bus.put_state(&key, Some(bytes)).await;
        stored.map_err(|error| failed(error.to_string()))
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
        turn.unsaved = Some((seed, newest.clone()));
        let kept = Kept { refresh_token: Some(newest.clone()), ..Kept::default() };
        self.keep(asked, seed, &kept).await?;
        turn.unsaved = None;
        tracing::info!(
            connector = asked.connector,
            auth = &*asked.plan.name,
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
    add(plan.kind.word());
    for (key, setting) in plan.settings() {
        add(&key);
        match setting {
            Setting::Expr(expr) => add(expr.source()),
            Setting::Word(word) => add(&word),
        }
    }
    hash.digest()
}
