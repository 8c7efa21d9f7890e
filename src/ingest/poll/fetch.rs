//! One page over the wire: credentials, rate, retries, and what every failure says.
//!
//! A message names the method, the URL without the values of its query, the status, and the
//! beginning of the body with the connector's secrets blotted out, should the server echo one.

use std::{
    sync::atomic::{AtomicU16, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode};

use crate::{
    auth::AuthError,
    egress::{Answer, EgressError, ExchangeLimits, Flowing, date_of, retry_after, spent_until},
    map::Env,
    plan::{End, PollPlan, Then},
    world::{BoxFuture, Timestamp, Turn, skew_text},
};

use super::{
    PollFailure, Poller,
    answer::{
        MAX_RETRY_AFTER, MAX_TRIES, MAX_WAIT_IN_RUN, MAX_WAITS, Verdict, excerpt, judge, wait,
    },
    on::{Ruling, rule_for},
    request::{Asked, describe},
    told::Budget,
};

/// What came of a request.
pub(super) struct Fetched {
    /// How often something was sent.
    pub requests: u64,
    /// The status of the last answer; `None` where there was none.
    pub status: Option<StatusCode>,
    /// When it ended.
    pub at: Timestamp,
    /// What was got, or why nothing was.
    pub got: Result<Got, PollFailure>,
}

/// What was sent so far.
#[derive(Default)]
pub(super) struct Sent {
    requests: AtomicU64,
    /// Of the last answer; 0 where there was none.
    status: AtomicU16,
}

impl Sent {
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    pub fn status(&self) -> Option<StatusCode> {
        StatusCode::from_u16(self.status.load(Relaxed)).ok()
    }

    fn once_more(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    pub fn answered(&self, status: Option<StatusCode>) {
        self.status.store(status.map_or(0, |status| status.as_u16()), Relaxed);
    }
}

/// What an answer is, once the rules and the defaults have spoken.
pub(super) enum Got {
    /// A page (2xx), or 304.
    Answer(Answer),
    /// A page whose records come as they are read.
    Flowing(Flowing),
    /// A rule says that its records are given up; what it says of it.
    Skip(String),
    /// A rule says that the run ends well here.
    Stop(String),
    /// A rule says that the window is read again.
    Restart(String),
}

/// One try.
pub(super) struct Tried {
    /// When it ended.
    pub at: Timestamp,
    /// What came of it.
    pub outcome: Result<Got, Trouble>,
}

impl Tried {
    /// Of the answer, where it is kept.
    pub fn bytes(&self) -> usize {
        match &self.outcome {
            Ok(Got::Answer(answer)) => answer.body.len(),
            _ => 0,
        }
    }
}

/// Why one try gave nothing.
pub(super) enum Trouble {
    /// Worth another try.
    Again { message: String, retry_after: Option<Duration>, tries: u32, otherwise: Option<End> },
    /// The API says when to come back: that is no failure.
    Wait { message: String, wait: Option<Duration> },
    /// The credentials were refused; whether there can be fresh ones.
    Unauthorized { message: String, renewable: bool },
    /// No use.
    Final(PollFailure),
    /// It does not count: it was not sent, or there was no room yet for what came.
    Anew,
}

impl Poller {
    /// Fetches a page, trying again within the run as long as that is a matter of seconds.
    pub(super) async fn fetch(&self, poll: &PollPlan, asked: &Asked) -> Fetched {
        self.fetch_on(poll, asked, None).await
    }

    /// The same after a first try, which counts.
    pub(super) async fn fetch_after(
        &self,
        poll: &PollPlan,
        asked: &Asked,
        first: Tried,
    ) -> Fetched {
        self.fetch_on(poll, asked, Some(first)).await
    }

    async fn fetch_on(&self, poll: &PollPlan, asked: &Asked, first: Option<Tried>) -> Fetched {
        let sent = Sent::default();
        // On the heap: with two of them in it, a run would be a large future. And without its type, which is
        // too deep for what is built on it.
        let got: BoxFuture<'_, _> = Box::pin(self.fetch_counting(poll, asked, first, &sent));
        let got = got.await;
        let (requests, status) = (sent.requests(), sent.status());
        Fetched { requests, status, at: self.world.clock.now(), got }
    }

    async fn fetch_counting(
        &self,
        poll: &PollPlan,
        asked: &Asked,
        mut first: Option<Tried>,
        sent: &Sent,
    ) -> Result<Got, PollFailure> {
        let (mut failures, mut waits, mut refreshed) = (0, 0, false);
        loop {
            let tried = match first.take() {
                Some(tried) => tried,
                None => self.try_once(poll, asked, usize::MAX, sent).await,
            };
            let Tried { at, outcome } = tried;
            let trouble = match outcome {
                Ok(got) => return Ok(got),
                Err(trouble) => trouble,
            };
            match trouble {
                Trouble::Anew => {}
                Trouble::Final(failure) => return Err(failure),
                Trouble::Unauthorized { message, renewable } => {
                    if refreshed || !renewable {
                        return Err(PollFailure::Held(message));
                    }
                    refreshed = true;
                }
                Trouble::Again { message, retry_after, tries, otherwise } => {
                    failures += 1;
                    if failures >= tries {
                        return match otherwise {
                            Some(end) => ended(end, message),
                            None => Err(PollFailure::Later { message, retry_after }),
                        };
                    }
                    self.pause(failures, retry_after, at, message).await?;
                }
                Trouble::Wait { message, wait } => {
                    waits += 1;
                    if waits >= MAX_WAITS {
                        return Err(PollFailure::Later { message, retry_after: wait });
                    }
                    self.pause(waits, wait, at, message).await?;
                }
            }
        }
    }

    /// Waits before the next try after one that ended then, if that is a matter of seconds.
    async fn pause(
        &self,
        tries: u32,
        retry_after: Option<Duration>,
        ended: Timestamp,
        message: String,
    ) -> Result<(), PollFailure> {
        let wait = wait(tries, retry_after, self.world.entropy.fraction());
        if wait > MAX_WAIT_IN_RUN {
            return Err(PollFailure::Later { message, retry_after });
        }
        tracing::info!(
            connector = %self.connector.name, stream = %self.stream.name,
            wait_ms = wait.as_millis() as u64, "poll tries again: {message}",
        );
        self.world.clock.sleep_until(ended.plus(wait)).await;
        Ok(())
    }

    /// One try, for an answer that is no longer than that.
    pub(super) async fn try_once(
        &self,
        poll: &PollPlan,
        asked: &Asked,
        limit_bytes: usize,
        sent: &Sent,
    ) -> Tried {
        let outcome = self.send(poll, asked, limit_bytes, sent).await;
        Tried { at: self.world.clock.now(), outcome }
    }

    async fn send(
        &self,
        poll: &PollPlan,
        asked: &Asked,
        limit_bytes: usize,
        sent: &Sent,
    ) -> Result<Got, Trouble> {
        sent.answered(None);
        let auth = poll.auth.as_ref().and_then(|name| self.connector.auths.get(name));
        let (name, env) = (&self.connector.name, self.secret_env());
        let principal = auth.and_then(|plan| self.auth.principal(name, plan, &env));
        let budget = principal.map(|principal| Budget::of(&asked.url, principal));
        // The turn first: a signature or a token would grow old while it is waited for.
        self.await_rate(budget.as_ref()).await.map_err(Trouble::Final)?;
        let mut request = asked.request.clone();
        let mut carried = None;
        if let Some(plan) = auth {
            let applied = self.auth.apply(name, plan, &env, &mut request).await;
            let credential = applied.map_err(|error| Trouble::Final(auth_failure(error)))?;
            carried = Some((plan, credential));
        }
        sent.once_more();
        let max_response_bytes = poll.max_response_bytes.min(limit_bytes);
        let limits = ExchangeLimits { timeout: poll.timeout, max_response_bytes };
        let asked_for = describe(&poll.method, &asked.url);
        let exchanged = self.exchange(poll, request, limits).await;
        let (answer, flowing) = exchanged.map_err(|error| match error {
            EgressError::ResponseTooLarge { limit_bytes }
                if limit_bytes < poll.max_response_bytes =>
            {
                Trouble::Anew
            }
            error => no_answer(&error, &asked_for),
        })?;
        sent.answered(Some(answer.status));
        let now = self.world.clock.now();
        if !asked.is_foreign {
            self.note_clock(&answer, now);
        }
        if let Some(until) = spent_until(answer.status, &answer.headers, now) {
            if !asked.is_foreign {
                self.source.limiter.pause_until(until);
            }
            if let Some(budget) = budget {
                self.source.told.spent(budget, until, now);
            }
        }
        let verdict = match rule_for(poll, self.vars(), &answer) {
            Ok(None) => self.accept(answer, &asked_for),
            Ok(Some(ruling)) => self.obey(&ruling, &answer, &asked_for),
            Err(error) => Err(Trouble::Final(PollFailure::Failed(format!("{asked_for}: {error}")))),
        };
        if let (Err(Trouble::Unauthorized { message, .. }), Some((plan, credential))) =
            (&verdict, &carried)
        {
            let renewable = self.auth.refused(&self.connector.name, plan, credential);
            return Err(Trouble::Unauthorized { message: message.clone(), renewable });
        }
        match (verdict, flowing) {
            (Ok(Got::Answer(_)), Some(flowing)) => Ok(Got::Flowing(flowing)),
            (verdict, _) => verdict,
        }
    }

    /// Compares the source's clock with ours.
    fn note_clock(&self, answer: &Answer, now: Timestamp) {
        let Some(theirs) = date_of(&answer.headers) else { return };
        let (connector, stream) = (&*self.connector.name, &*self.stream.name);
        match self.skew.note(theirs, now) {
            Some(Turn::Off(millis)) => {
                let (skew_seconds, skew) = (millis / 1000, skew_text(millis));
                tracing::warn!(
                    connector,
                    stream,
                    skew_seconds,
                    "the source's clock is {skew}, or ours is wrong"
                );
            }
            Some(Turn::Right(_)) => {
                tracing::info!(connector, stream, "the source's clock is right");
            }
            None => {}
        }
    }

    /// Sends a request. Of an answer that is read as it comes, only the head is there.
    async fn exchange(
        &self,
        poll: &PollPlan,
        request: Request<Bytes>,
        limits: ExchangeLimits,
    ) -> Result<(Answer, Option<Flowing>), EgressError> {
        if !poll.decode.streams() {
            return Ok((self.egress.send(request, limits).await?, None));
        }
        let flowing = self.egress.open(request, limits).await?;
        if !flowing.status.is_success() {
            return Ok((flowing.beginning(limits.max_response_bytes).await?, None));
        }
        let (status, headers) = (flowing.status, flowing.headers.clone());
        Ok((Answer { status, headers, body: Bytes::new() }, Some(flowing)))
    }

    /// What a rule makes of an answer.
    fn obey(&self, ruling: &Ruling<'_>, answer: &Answer, asked_for: &str) -> Result<Got, Trouble> {
        let message = match ruling.message() {
            Some(said) => {
                format!("{asked_for} answered {}: {}", answer.status, self.blot(said))
            }
            None => self.message(asked_for, answer),
        };
        let now = self.world.clock.now();
        let retry_after = || asked_wait(answer, now);
        Err(match &ruling.rule.then {
            Then::Retry { times, otherwise } => Trouble::Again {
                message,
                retry_after: retry_after(),
                tries: times + 1,
                otherwise: *otherwise,
            },
            Then::Wait(_) => Trouble::Wait { message, wait: ruling.wait(now).or_else(retry_after) },
            Then::Reauth => Trouble::Unauthorized { message, renewable: false },
            Then::Restart => return Ok(Got::Restart(message)),
            Then::End(end) => return ended(*end, message).map_err(Trouble::Final),
        })
    }

    /// Waits for the source's rate, however long: giving up a run would only spend it again.
    /// What the API itself said of its budget ends the run where it is no matter of seconds.
    async fn await_rate(&self, budget: Option<&Budget>) -> Result<(), PollFailure> {
        let (clock, source) = (&self.world.clock, &self.source);
        loop {
            let now = clock.now();
            let heard = budget.and_then(|budget| source.told.spent_until(budget, now));
            let until = source.limiter.paused(now).max(heard);
            if let Some(wait) = until.map(|until| until.since(now))
                && wait > MAX_WAIT_IN_RUN
            {
                let message = "the API says that its budget is spent".to_owned();
                return Err(PollFailure::Later { message, retry_after: Some(wait) });
            }
            let at = match until {
                Some(until) => until,
                None => match source.limiter.take(now) {
                    Ok(()) => return Ok(()),
                    Err(at) => at,
                },
            };
            clock.sleep_until(at).await;
        }
    }

    /// What an answer means where no rule is for it.
    fn accept(&self, answer: Answer, asked_for: &str) -> Result<Got, Trouble> {
        let verdict = judge(answer.status);
        if matches!(verdict, Verdict::Fine | Verdict::NotModified) {
            return Ok(Got::Answer(answer));
        }
        let message = self.message(asked_for, &answer);
        Err(match verdict {
            Verdict::Retry => {
                let retry_after = asked_wait(&answer, self.world.clock.now());
                Trouble::Again { message, retry_after, tries: MAX_TRIES, otherwise: None }
            }
            Verdict::Unauthorized => Trouble::Unauthorized { message, renewable: false },
            Verdict::Forbidden => Trouble::Final(PollFailure::Held(message)),
            _ => Trouble::Final(PollFailure::Failed(message)),
        })
    }

    /// `GET https://api.example/orders?page=… answered 500 Internal Server Error: oops`.
    pub(super) fn message(&self, asked_for: &str, answer: &Answer) -> String {
        let mut message = format!("{asked_for} answered {}", answer.status);
        if answer.status.is_redirection() && answer.headers.contains_key(http::header::LOCATION) {
            message.push_str(" (redirects are not followed)");
        }
        let shown = excerpt(&answer.body);
        if !shown.is_empty() {
            message.push_str(": ");
            message.push_str(&self.blot(shown));
        }
        message
    }

    /// Takes the connector's secrets, and the tokens that were got with them, out of a text that a
    /// server sent.
    fn blot(&self, text: String) -> String {
        let text = self.auth.redact(&self.connector.name, text);
        self.connector.secrets_used.iter().fold(text, |text, name| {
            match self.world.secrets.get(name) {
                Some(secret) if text.contains(secret.expose()) => {
                    text.replace(secret.expose(), "[redacted]")
                }
                _ => text,
            }
        })
    }

    fn secret_env(&self) -> Env {
        Env::new()
            .with("vars", self.connector.vars.clone())
            .with_secrets(self.world.secrets.clone(), self.connector.secret_names.clone())
    }
}

/// How long the API asks to stay away, within reason.
pub(super) fn asked_wait(answer: &Answer, now: Timestamp) -> Option<Duration> {
    retry_after(&answer.headers, now).map(|wait| wait.min(MAX_RETRY_AFTER))
}

/// How a request ends that a rule ends.
fn ended(end: End, message: String) -> Result<Got, PollFailure> {
    match end {
        End::Skip => Ok(Got::Skip(message)),
        End::Stop => Ok(Got::Stop(message)),
        End::Fail => Err(PollFailure::Failed(message)),
        End::Hold => Err(PollFailure::Held(message)),
    }
}

fn auth_failure(error: AuthError) -> PollFailure {
    match error {
        AuthError::Held(message) => PollFailure::Held(message),
        AuthError::Later { message, retry_after } => PollFailure::Later { message, retry_after },
    }
}

fn no_answer(error: &EgressError, asked_for: &str) -> Trouble {
    let message = format!("{asked_for}: {error}");
    match error {
        EgressError::Dns(_)
        | EgressError::Connect(_)
        | EgressError::Tls(_)
        | EgressError::Broken(_)
        | EgressError::Timeout => {
            Trouble::Again { message, retry_after: None, tries: MAX_TRIES, otherwise: None }
        }
        EgressError::Refused(_) => Trouble::Final(PollFailure::Held(message)),
        EgressError::BadUrl(_)
        | EgressError::Undecodable(_)
        | EgressError::ResponseTooLarge { .. } => Trouble::Final(PollFailure::Failed(message)),
    }
}
