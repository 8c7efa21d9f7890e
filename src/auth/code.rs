//! Authorization by a person (OAuth 2.1: code, PKCE with S256, state; RFC 9207: issuer).
//!
//! The daemon makes the challenge and keeps what answers it: neither the verifier nor a token ever
//! leaves it. Whoever opens the page brings back a code, which only this daemon can redeem, once.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use ring::digest::{SHA256, digest};
use url::Url;

use super::{authenticator::AuthError, credential::look_up};
use crate::{
    map::{Env, Expr},
    plan::{Grant, OAuth2Plan},
    world::{Entropy, Secret, Timestamp},
};

/// How long a person may take.
pub(super) const PATIENCE: Duration = Duration::from_mins(10);
/// Random bytes of a state and of a verifier: as much as SHA-256 takes in.
const RANDOM_WORDS: usize = 4;

/// Where a person goes, and what comes back from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// The page to be opened.
    pub url: String,
}

/// What the redirect brought.
#[derive(Clone, PartialEq, Eq)]
pub struct Redirected {
    /// What can be redeemed.
    pub code: Secret,
    /// Which login it belongs to.
    pub state: String,
    /// Who says so, where that is said.
    pub issuer: Option<String>,
}

/// A login that somebody began.
pub(super) struct Pending {
    state: String,
    pub(super) verifier: Secret,
    pub(super) redirect: String,
    until: Timestamp,
    /// Who must have answered, or the page that was opened.
    issuer: Option<String>,
    opened: Url,
}

fn held(message: impl Into<String>) -> AuthError {
    AuthError::Held(message.into())
}

/// The page, and what is remembered until a person comes back from it.
pub(super) fn begin(
    plan: &OAuth2Plan,
    env: &Env,
    redirect: &str,
    entropy: &dyn Entropy,
    now: Timestamp,
) -> Result<(Begun, Pending), AuthError> {
    let Grant::AuthorizationCode { authorize_url, authorize_params, issuer } = &plan.grant else {
        return Err(held(
            "this auth is not of grant \"authorization_code\": nobody logs in for it",
        ));
    };
    let text = |expr: &Expr| look_up(expr, env).map(|it| it.expose().to_owned());
    let mut url =
        Url::parse(&text(authorize_url)?).map_err(|_| held("`authorize_url` is no URL"))?;
    let opened = url.clone();
    let (state, verifier) = (random(entropy), Secret::new(random(entropy)));
    let challenge = digest(&SHA256, verifier.expose().as_bytes());
    {
        let mut query = url.query_pairs_mut();
        query.append_pair("response_type", "code");
        if let Some(client_id) = &plan.client_id {
            query.append_pair("client_id", &text(client_id)?);
        }
        query.append_pair("redirect_uri", redirect);
        if !plan.scopes.is_empty() {
            query.append_pair("scope", &plan.scopes.join(" "));
        }
        query.append_pair("state", &state);
        query.append_pair("code_challenge", &BASE64URL_NOPAD.encode(challenge.as_ref()));
        query.append_pair("code_challenge_method", "S256");
        for (name, value) in authorize_params {
            query.append_pair(name, &text(value)?);
        }
    }
    let pending = Pending {
        state,
        verifier,
        redirect: redirect.to_owned(),
        until: now.plus(PATIENCE),
        issuer: issuer.as_ref().map(text).transpose()?,
        opened,
    };
    Ok((Begun { url: url.into() }, pending))
}

impl Pending {
    /// Whether what came back is the answer to this login, and from whom it should be.
    pub(super) fn check(&self, back: &Redirected, now: Timestamp) -> Result<(), AuthError> {
        let same = ring::digest::digest(&SHA256, back.state.as_bytes()).as_ref()
            == ring::digest::digest(&SHA256, self.state.as_bytes()).as_ref();
        if !same {
            return Err(held("the answer belongs to another login (`state` differs)"));
        }
        if now >= self.until {
            return Err(held("the login took longer than ten minutes: begin again"));
        }
        match (&self.issuer, &back.issuer) {
            (Some(expected), Some(said)) if expected == said => Ok(()),
            (Some(_), _) => Err(held("the answer is not from `issuer` (RFC 9207)")),
            (None, Some(said)) => {
                let host = Url::parse(said).ok().and_then(|url| url.host_str().map(str::to_owned));
                if host.as_deref() == self.opened.host_str() {
                    return Ok(());
                }
                Err(held(
                    "the answer names an issuer on another host than `authorize_url`: if that is \
                     right, write it as `issuer`",
                ))
            }
            (None, None) => Ok(()),
        }
    }
}

/// 256 bits, in the alphabet of URLs.
fn random(entropy: &dyn Entropy) -> String {
    let bytes: Vec<u8> = (0..RANDOM_WORDS).flat_map(|_| entropy.next_u64().to_le_bytes()).collect();
    BASE64URL_NOPAD.encode(&bytes)
}

impl std::fmt::Debug for Redirected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redirected([redacted])")
    }
}
