//! Handshakes: requests that want an answer, not an event.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request};
use ring::{digest, hmac};
use serde_json::Value;
use subtle::ConstantTimeEq;

use super::{
    answer::{self, Answer, Refusal},
    fetch::pinned,
    handle::Refused,
    keys::{Key, Material},
    routes::Endpoint,
    server::WebhookServer,
    verify::encode,
};
use crate::{
    egress::ExchangeLimits,
    map::{Env, EvalError},
    plan::{ChallengeAnswer, ChallengePlan, Encoding, VisitPlan},
    world::Timestamp,
};

/// Longest text that is sent back.
const MAX_TEXT_BYTES: usize = 4 << 10;

/// Longest text that is signed for somebody who has not been verified.
const MAX_SIGNED_BYTES: usize = 256;

const VISIT: ExchangeLimits =
    ExchangeLimits { timeout: std::time::Duration::from_secs(3), max_response_bytes: 64 << 10 };

/// Whether a request by that method may be the challenge.
pub(super) fn may_be(challenge: &ChallengePlan, method: &Method) -> bool {
    challenge.method.as_ref().is_none_or(|own| own == method)
}

impl WebhookServer {
    /// The answer where the request is a challenge. Those that a provider does not sign are looked
    /// for before verification (`verified` is false then), all others after it.
    pub(super) async fn challenge(
        &self,
        endpoint: &Arc<Endpoint>,
        (env, method): (&Env, &Method),
        verified: bool,
        now: Timestamp,
    ) -> Result<Option<Answer>, Refused> {
        for challenge in &endpoint.hook.verify.challenges {
            if challenge.verified == verified
                && may_be(challenge, method)
                && challenge.when.test(env).map_err(|e| failed(endpoint, &e))?
            {
                // Boxed: what a handshake may wait for would make each request's future larger.
                return Box::pin(self.meet(endpoint, challenge, env, now)).await.map(Some);
            }
        }
        Ok(None)
    }

    async fn meet(
        &self,
        endpoint: &Arc<Endpoint>,
        challenge: &ChallengePlan,
        env: &Env,
        now: Timestamp,
    ) -> Result<Answer, Refused> {
        self.check_token(endpoint, challenge, env)?;
        let mut env = env.clone();
        if let Some((text, encoding)) = &challenge.sign {
            let text = text.text(&env).map_err(|e| failed(endpoint, &e))?.unwrap_or_default();
            if !challenge.verified && !is_nonce(&text) {
                return Err(rejected(endpoint, "not_a_nonce"));
            }
            let live = self.live_keys(endpoint, now)?;
            let signature = sign(&live.keys, *encoding, &text, now);
            let signature = signature.ok_or_else(|| rejected(endpoint, "no_key"))?;
            env = env.with("signature", Arc::new(signature.into()));
        }
        if let Some(visit) = &challenge.visit {
            self.visit(endpoint, visit, &env).await?;
        }
        let told = match &challenge.answer {
            ChallengeAnswer::Empty => answer::empty(challenge.status),
            ChallengeAnswer::Text(text) => {
                let text = text.text(&env).map_err(|e| failed(endpoint, &e))?.unwrap_or_default();
                if text.len() > MAX_TEXT_BYTES {
                    return Err(rejected(endpoint, "challenge_too_long"));
                }
                answer::plain(challenge.status, text)
            }
            ChallengeAnswer::Json(json) => {
                let document = json.eval(&env).map_err(|e| failed(endpoint, &e))?;
                answer::challenge(challenge.status, &document.unwrap_or(Value::Null))
            }
        };
        Ok(told)
    }

    /// What the handshake repeats must be what was given to the producer.
    fn check_token(
        &self,
        endpoint: &Arc<Endpoint>,
        challenge: &ChallengePlan,
        env: &Env,
    ) -> Result<(), Refused> {
        let Some(given) = &challenge.verify_token else { return Ok(()) };
        let given = given.text(env).ok().flatten().unwrap_or_default();
        let wanted = endpoint
            .verify_token(&self.world.secrets)
            .map_err(|problem| Refused::at(endpoint, Refusal::NoSecret, problem.to_string()))?;
        let hash = |text: &str| digest::digest(&digest::SHA256, text.as_bytes());
        let same: bool = hash(&given).as_ref().ct_eq(hash(wanted.expose()).as_ref()).into();
        if same { Ok(()) } else { Err(rejected(endpoint, "verify_token")) }
    }

    /// Fetches a URL out of a verified request.
    async fn visit(
        &self,
        endpoint: &Arc<Endpoint>,
        visit: &VisitPlan,
        env: &Env,
    ) -> Result<(), Refused> {
        let url = visit.url.text(env).map_err(|e| failed(endpoint, &e))?.unwrap_or_default();
        let uri = pinned(&url, &visit.hosts).ok_or_else(|| rejected(endpoint, "wrong_host"))?;
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = uri;
        let later = |why: String| Refused::at(endpoint, Refusal::NotAccepted(5), why);
        let answer = self.egress.send_for_status(request, VISIT).await;
        let status = answer.map_err(|error| later(format!("visit: {error}")))?.status;
        if status.is_success() {
            return Ok(());
        }
        Err(later(format!("visit: status {}", status.as_u16())))
    }
}

fn failed(endpoint: &Arc<Endpoint>, error: &EvalError) -> Refused {
    Refused::at(endpoint, Refusal::Undecodable, error.to_string())
}

fn rejected(endpoint: &Arc<Endpoint>, why: &str) -> Refused {
    let refusal = Refusal::BadSignature { status: endpoint.hook.verify.on_fail, basic: false };
    Refused::at(endpoint, refusal, why)
}

/// Signs with the first key that is live.
fn sign(keys: &[Key], encoding: Encoding, text: &str, now: Timestamp) -> Option<String> {
    let key = keys.iter().filter(|key| key.is_live(now)).find_map(|key| match &key.material {
        Material::Hmac(key) => Some(key),
        _ => None,
    })?;
    encode(encoding, hmac::sign(key, text.as_bytes()).as_ref())
}

/// Whoever may choose what is signed could have his own events signed. What can be neither a JSON
/// document with fields nor a form with a value is no event.
fn is_nonce(text: &str) -> bool {
    let core = text.trim_end_matches('=');
    let fine = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'+' | b'/' | b'.');
    !core.is_empty() && text.len() <= MAX_SIGNED_BYTES && core.bytes().all(fine)
}
