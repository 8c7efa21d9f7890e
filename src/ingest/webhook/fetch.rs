//! Public keys that a scheme fetches: kept for a while, asked for by one request at a time.
//!
//! Where to ask may stand in the request, which nobody has verified yet. So only hosts that the scheme
//! lists are asked, over https on its own port, through the guarded client, and a route asks no more
//! often than its budget allows: whoever sends made-up key ids costs a few requests, and the keys that
//! are known go on verifying.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, header::CONTENT_TYPE};
use parking_lot::Mutex;
use serde_json::{Map, Value};

use super::{public::PublicKey, verify::Reject};
use crate::{
    egress::{Egress, ExchangeLimits},
    map::Env,
    plan::{HostPattern, KeysForm, KeysPlan},
    world::Timestamp,
};

/// What fetching keys may cost: a producer waits for it.
const LIMITS: ExchangeLimits =
    ExchangeLimits { timeout: Duration::from_secs(3), max_response_bytes: 256 << 10 };

/// Requests for keys within [`BUDGET_WINDOW_MS`].
const BUDGET: u32 = 10;
const BUDGET_WINDOW_MS: i64 = 60_000;

/// Answers kept at once; beyond it the oldest goes.
const MAX_KEPT: usize = 64;

/// For so long an answer holds that has no key.
const NO_KEY_TTL: Duration = Duration::from_mins(1);

/// Keys that are over are used so many times longer while no new ones can be had.
const STALE_TTLS: u32 = 2;

/// Why there are no keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FetchProblem {
    /// The request is not believed.
    Reject(Reject),
    /// Nobody can be asked at present; for the log.
    Unavailable(String),
}

/// The keys of one route. Most fetch none.
#[derive(Default)]
pub(super) struct KeyShelf(OnceLock<Box<Shelf>>);

#[derive(Default)]
struct Shelf {
    kept: Mutex<HashMap<String, Kept>>,
    /// Whoever holds it asks.
    turn: tokio::sync::Mutex<Budget>,
}

#[derive(Clone)]
struct Kept {
    keys: Arc<Vec<PublicKey>>,
    fetched_at: Timestamp,
}

#[derive(Default)]
struct Budget {
    since: Timestamp,
    spent: u32,
}

impl Budget {
    fn spend(&mut self, now: Timestamp) -> bool {
        if !(self.since.0..self.since.0 + BUDGET_WINDOW_MS).contains(&now.0) {
            *self = Self { since: now, spent: 0 };
        }
        self.spent += 1;
        self.spent <= BUDGET
    }
}

/// What is asked, and under which name the answer is kept.
struct Question<'a> {
    plan: &'a KeysPlan,
    kid: Option<&'a str>,
    uri: Uri,
    name: String,
}

impl KeyShelf {
    /// The keys that may have signed. `env` has `vars`, `secret` and `request`.
    pub async fn keys(
        &self,
        plan: &KeysPlan,
        kid: Option<&str>,
        env: Env,
        egress: &Egress,
        now: Timestamp,
    ) -> Result<Arc<Vec<PublicKey>>, FetchProblem> {
        let env = env.with("kid", Arc::new(kid.unwrap_or_default().into()));
        let question = question(plan, kid, &env)?;
        let shelf = self.0.get_or_init(Box::default);
        shelf.keys(question, &env, egress, now).await
    }
}

impl Shelf {
    async fn keys(
        &self,
        question: Question<'_>,
        env: &Env,
        egress: &Egress,
        now: Timestamp,
    ) -> Result<Arc<Vec<PublicKey>>, FetchProblem> {
        if let Some(keys) = self.fresh(&question, now) {
            return Ok(keys);
        }
        let mut turn = self.turn.lock().await;
        // Whoever had the turn before may have asked for the same.
        if let Some(keys) = self.fresh(&question, now) {
            return Ok(keys);
        }
        if !turn.spend(now) {
            return self.stale(&question, now, "too many unknown keys were asked for");
        }
        match question.ask(env, egress).await {
            Ok(keys) => {
                let keys = Arc::new(keys);
                // An answer without a key may be a mistake of the moment, or about credentials.
                if keys.is_empty()
                    && let Ok(before) = self.stale(&question, now, "there is no key")
                    && !before.is_empty()
                {
                    return Ok(before);
                }
                self.keep(&question.name, Kept { keys: Arc::clone(&keys), fetched_at: now });
                Ok(keys)
            }
            Err(why) => self.stale(&question, now, &why),
        }
    }

    fn fresh(&self, question: &Question<'_>, now: Timestamp) -> Option<Arc<Vec<PublicKey>>> {
        let kept = self.kept.lock().get(&question.name).cloned()?;
        let ttl = question.plan.ttl;
        let ttl = if kept.keys.is_empty() { ttl.min(NO_KEY_TTL) } else { ttl };
        let is_fresh = now.since(kept.fetched_at) < ttl;
        // A set that lacks the key may have got it meanwhile.
        let has_it = question.plan.form != KeysForm::Jwks
            || question.kid.is_none()
            || kept.keys.iter().any(|key| key.kid.as_deref() == question.kid);
        (is_fresh && has_it).then_some(kept.keys)
    }

    fn stale(
        &self,
        question: &Question<'_>,
        now: Timestamp,
        why: &str,
    ) -> Result<Arc<Vec<PublicKey>>, FetchProblem> {
        let kept = self.kept.lock().get(&question.name).cloned();
        let usable =
            kept.filter(|kept| now.since(kept.fetched_at) < question.plan.ttl * STALE_TTLS);
        usable.map(|kept| kept.keys).ok_or_else(|| FetchProblem::Unavailable(why.to_owned()))
    }

    fn keep(&self, name: &str, fetched: Kept) {
        let mut kept = self.kept.lock();
        if kept.len() >= MAX_KEPT && !kept.contains_key(name) {
            // What strangers made up goes before what was of use.
            let oldest =
                kept.iter().min_by_key(|(_, kept)| (!kept.keys.is_empty(), kept.fetched_at));
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                kept.remove(&oldest);
            }
        }
        kept.insert(name.to_owned(), fetched);
    }
}

fn question<'a>(
    plan: &'a KeysPlan,
    kid: Option<&'a str>,
    env: &Env,
) -> Result<Question<'a>, FetchProblem> {
    let text = plan.url.secret(env).map_err(|_| FetchProblem::Reject(Reject::NoSignedPart))?;
    let wrong = FetchProblem::Reject(Reject::WrongHost);
    let uri = pinned(text.expose(), &plan.hosts).ok_or(wrong)?;
    let name = match (plan.form, kid) {
        (KeysForm::Jwk, Some(kid)) => format!("{uri} {kid}"),
        _ => uri.to_string(),
    };
    Ok(Question { plan, kid, uri, name })
}

/// The URL, where it is https on its own port and its host is one of the list.
pub(super) fn pinned(text: &str, hosts: &[HostPattern]) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    let authority = uri.authority()?;
    let is_plain = !authority.as_str().contains('@');
    let has_own_port = authority.port_u16().is_none_or(|port| port == 443);
    let is_listed = hosts.iter().any(|pattern| pattern.matches(authority.host()));
    (uri.scheme_str() == Some("https") && is_plain && has_own_port && is_listed).then_some(uri)
}

impl Question<'_> {
    /// Asks; Err says why there is no answer, without anything of it.
    async fn ask(&self, env: &Env, egress: &Egress) -> Result<Vec<PublicKey>, String> {
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = self.uri.clone();
        if !self.plan.body.is_empty() {
            let mut body = Map::new();
            for (name, expr) in &self.plan.body {
                let value = expr.secret(env).map_err(|error| error.to_string())?;
                body.insert(name.clone(), value.expose().into());
            }
            *request.method_mut() = Method::POST;
            *request.body_mut() = Value::Object(body).to_string().into();
            let kind = HeaderValue::from_static("application/json");
            request.headers_mut().insert(CONTENT_TYPE, kind);
        }
        let host = self.uri.host().unwrap_or_default();
        let answer = egress.send(request, LIMITS).await;
        let answer = answer.map_err(|error| format!("keys from {host}: {error}"))?;
        if answer.status.is_server_error() || answer.status.as_u16() == 429 {
            return Err(format!("keys from {host}: status {}", answer.status.as_u16()));
        }
        // Any other refusal means that there is no such key, which is an answer.
        let found = answer.status.is_success().then(|| self.read(&answer.body));
        Ok(found.unwrap_or_default())
    }

    fn read(&self, body: &[u8]) -> Vec<PublicKey> {
        let text = || std::str::from_utf8(body).ok();
        let json = || serde_json::from_slice::<Value>(body).ok();
        match self.plan.form {
            KeysForm::Pem => text().and_then(PublicKey::of_pem).into_iter().collect(),
            KeysForm::Jwks => {
                let set = json().unwrap_or_default();
                let keys = set.get("keys").and_then(Value::as_array);
                keys.into_iter().flatten().filter_map(PublicKey::of_jwk).collect()
            }
            KeysForm::Jwk => {
                let answer = json().unwrap_or_default();
                let key = match &self.plan.at {
                    None => Some(answer),
                    Some(at) => {
                        let document = serde_json::json!({ "body": answer });
                        let env = Env::new().with("response", Arc::new(document));
                        at.eval(&env).ok().flatten()
                    }
                };
                key.as_ref().and_then(PublicKey::of_jwk).into_iter().collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pinned_hosts_over_https_are_asked() {
        let hosts = [HostPattern("sns.*.amazonaws.com".to_owned())];
        let is_pinned = |text: &str| pinned(text, &hosts).is_some();
        assert!(is_pinned("https://sns.us-east-1.amazonaws.com/key.pem"));
        assert!(is_pinned("https://sns.us-east-1.amazonaws.com:443/key.pem"));
        for wrong in [
            "http://sns.us-east-1.amazonaws.com/key.pem",
            "https://sns.us-east-1.amazonaws.com:8443/key.pem",
            "https://sns.us-east-1.amazonaws.com@evil.example/key.pem",
            "https://evil.example/sns.us-east-1.amazonaws.com",
            "https://evil.example#sns.us-east-1.amazonaws.com",
            "https://sns.us-east-1.amazonaws.com.evil.example/",
            "https://127.0.0.1/",
            "/key.pem",
            "",
        ] {
            assert!(!is_pinned(wrong), "{wrong}");
        }
    }
}
