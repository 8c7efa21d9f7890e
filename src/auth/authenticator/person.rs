//! What a person's login gives: begun, redeemed once, kept, and used like any other token.

use std::{sync::atomic::Ordering, time::Duration};

use super::{Asked, AuthError, Authenticator, Turn};
use crate::{
    auth::{
        code::{self, Begun, Redirected},
        credential::{Credential, look_up},
        oauth2::{Granted, With},
        stored::{Kept, Seed},
    },
    map::Env,
    plan::{AuthKind, AuthPlan, OAuth2Plan},
    world::{Secret, Timestamp},
};

/// An access token that cannot be refreshed is looked at again after this long.
const LONGEST_UNREFRESHED: Duration = Duration::from_hours(1);

/// What a person's login left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginState {
    /// Whether there is a refresh token, so that nobody has to log in again.
    pub renews: bool,
    /// When somebody has to, where that is known.
    pub expires_at: Option<Timestamp>,
    /// Why it is of no use any more, by the token endpoint's account since this daemon began: somebody has to
    /// log in again. One line, without secrets.
    pub refused: Option<String>,
}

/// What a login has for a request.
pub(super) enum LoggedIn {
    Refresh(Secret),
    Access(Granted),
}

/// What a login's tokens descend from: who asked, and whom.
pub(super) fn seed_of(plan: &OAuth2Plan, env: &Env) -> Result<Seed, AuthError> {
    let client = plan.client_id.as_ref().map(|id| look_up(id, env)).transpose()?;
    let client = client.as_ref().map_or("", Secret::expose);
    let url = look_up(&plan.token_url, env)?;
    Ok(Seed::of(&Secret::new(format!("{client}\n{}", url.expose()))))
}

fn nobody_logs_in(plan: &AuthPlan) -> AuthError {
    AuthError::Held(format!(
        "auth {} is of type {}: nobody logs in for it",
        plan.name,
        plan.kind.word()
    ))
}

impl Authenticator {
    /// What a person's login left: a refresh token, or an access token that still lives.
    pub(super) fn logged_in(
        &self,
        turn: &Turn,
        asked: Asked<'_>,
        seed: Seed,
    ) -> Result<LoggedIn, AuthError> {
        if let Some((_, unsaved)) = turn.unsaved.as_ref().filter(|(of, _)| *of == seed) {
            return Ok(LoggedIn::Refresh(unsaved.clone()));
        }
        let kept = self.kept(asked, seed)?.unwrap_or_default();
        let now = self.world.clock.now();
        let ends = kept.expires_at.unwrap_or(Timestamp(i64::MAX));
        match (kept.refresh_token, kept.access_token) {
            (Some(token), _) => Ok(LoggedIn::Refresh(token)),
            (None, Some(access_token)) if now < ends => {
                let life = ends.since(now).min(LONGEST_UNREFRESHED);
                Ok(LoggedIn::Access(Granted {
                    access_token,
                    life,
                    is_timed: true,
                    refresh_token: None,
                }))
            }
            (_, access_token) => {
                let Asked { connector, plan, .. } = asked;
                let what = if access_token.is_some() {
                    "the login has ended"
                } else {
                    "nobody has logged in"
                };
                Err(AuthError::Held(format!(
                    "{what}: run `tenon auth login {connector} {}`",
                    plan.name
                )))
            }
        }
    }

    /// Begins a person's login; `redirect` is where the page sends them back to. A login that was
    /// begun before and not finished is forgotten.
    pub fn begin_login(
        &self,
        connector: &str,
        plan: &AuthPlan,
        env: &Env,
        redirect: &str,
    ) -> Result<Begun, AuthError> {
        let AuthKind::OAuth2(oauth2) = &plan.kind else { return Err(nobody_logs_in(plan)) };
        let (entropy, now) = (&*self.world.entropy, self.world.clock.now());
        let (begun, pending) = code::begin(oauth2, env, redirect, entropy, now)?;
        *self.entry(connector, plan).pending.lock() = Some(pending);
        Ok(begun)
    }

    /// Redeems what a person brought back. The tokens are durable when this returns, and used from
    /// then on. Each login is redeemed at most once, whatever comes of it.
    pub async fn finish_login(
        &self,
        connector: &str,
        plan: &AuthPlan,
        env: &Env,
        back: &Redirected,
    ) -> Result<(), AuthError> {
        let AuthKind::OAuth2(oauth2) = &plan.kind else { return Err(nobody_logs_in(plan)) };
        let entry = self.entry(connector, plan);
        let mut turn = entry.turn.lock().await;
        let pending = entry.pending.lock().take();
        let pending = pending
            .ok_or_else(|| AuthError::Held("no login was begun, or it was finished".to_owned()))?;
        let now = self.world.clock.now();
        if let Err(error) = pending.check(back, now) {
            // Anybody may call a loopback address: a wrong answer does not end the right login.
            *entry.pending.lock() = Some(pending);
            return Err(error);
        }
        let asked = Asked { connector, plan, env };
        let with = With::Code { code: &back.code, pending: &pending };
        let granted = self.ask(&entry, oauth2, asked, with).await?;
        let kept = Kept {
            refresh_token: granted.refresh_token.clone(),
            access_token: Some(granted.access_token.clone()),
            expires_at: granted.is_timed.then(|| now.plus(granted.life)),
        };
        self.keep(asked, seed_of(oauth2, env)?, &kept).await?;
        let lives = (now.plus(granted.life.mul_f64(0.8)), now.plus(granted.life));
        let credential = Credential::token(&oauth2.place, &granted.access_token, env, lives)?;
        *turn = Turn::default();
        entry.rounds.fetch_add(1, Ordering::Release);
        entry.hand_out(credential);
        tracing::info!(connector, auth = &*plan.name, "logged in; tokens stored");
        Ok(())
    }

    /// What a person's login left of a table: `None` where nobody has logged in for it as it is now.
    pub fn login_state(
        &self,
        connector: &str,
        plan: &AuthPlan,
        env: &Env,
    ) -> Result<Option<LoginState>, AuthError> {
        let AuthKind::OAuth2(oauth2) = &plan.kind else { return Err(nobody_logs_in(plan)) };
        let asked = Asked { connector, plan, env };
        let kept = self.kept(asked, seed_of(oauth2, env)?)?;
        // While somebody asks the endpoint, what it said before is not the last word.
        let entry = self.entry(connector, plan);
        let refused = entry.turn.try_lock().ok().and_then(|turn| match &turn.error {
            Some(AuthError::Held(message)) => Some(message.clone()),
            _ => None,
        });
        Ok(kept.map(|kept| LoginState {
            renews: kept.refresh_token.is_some(),
            expires_at: kept.expires_at.filter(|_| kept.refresh_token.is_none()),
            refused,
        }))
    }
}
