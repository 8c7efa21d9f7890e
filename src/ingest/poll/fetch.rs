//! One page over the wire: credentials, rate, retries, and what every failure says.
//!
//! A message names the method, the URL without the values of its query, the status, and the
//! beginning of the body with the connector's secrets blotted out, should the server echo one.

use std::time::Duration;

use http::HeaderMap;

use crate::{
    auth::AuthError,
    egress::{Answer, EgressError, ExchangeLimits, retry_after},
    map::Env,
    plan::{AuthPlan, PollPlan},
};

use super::{
    PollFailure, Poller,
    answer::{MAX_RETRY_AFTER, MAX_TRIES, MAX_WAIT_IN_RUN, Verdict, excerpt, judge, wait},
    request::{Asked, describe},
};

/// What came of a request.
pub(super) struct Fetched {
    /// How often something was sent.
    pub requests: u64,
    /// The page (2xx or 304), or why there is none.
    pub answer: Result<Answer, PollFailure>,
}

/// Why one try gave no page.
enum Trouble {
    /// Worth another try.
    Again { message: String, retry_after: Option<Duration> },
    /// The credentials were refused; whether there can be fresh ones.
    Unauthorized { message: String, renewable: bool },
    /// No use.
    Final(PollFailure),
}

impl Poller {
    /// Fetches a page, trying again within the run as long as that is a matter of seconds.
    pub(super) async fn fetch(&self, poll: &PollPlan, asked: &Asked) -> Fetched {
        let mut requests = 0;
        // On the heap: with two of them in it, a run would be a large future.
        let answer = Box::pin(self.fetch_counting(poll, asked, &mut requests)).await;
        Fetched { requests, answer }
    }

    async fn fetch_counting(
        &self,
        poll: &PollPlan,
        asked: &Asked,
        requests: &mut u64,
    ) -> Result<Answer, PollFailure> {
        let auth = poll.auth.as_ref().and_then(|name| self.connector.auths.get(name));
        let (mut tries, mut refreshed) = (0, false);
        loop {
            let trouble = match self.send(poll, auth.map(AsRef::as_ref), asked, requests).await {
                Ok(answer) => return Ok(answer),
                Err(trouble) => trouble,
            };
            tries += 1;
            match trouble {
                Trouble::Final(failure) => return Err(failure),
                Trouble::Unauthorized { message, renewable } => {
                    if refreshed || !renewable {
                        return Err(PollFailure::Held(message));
                    }
                    refreshed = true;
                }
                Trouble::Again { message, retry_after } => {
                    let wait = wait(tries, retry_after, self.world.entropy.fraction());
                    if tries >= MAX_TRIES || wait > MAX_WAIT_IN_RUN {
                        return Err(PollFailure::Later { message, retry_after });
                    }
                    tracing::info!(
                        connector = %self.connector.name, stream = %self.stream.name,
                        wait_ms = wait.as_millis() as u64, "poll tries again: {message}",
                    );
                    let clock = &self.world.clock;
                    clock.sleep_until(clock.now().plus(wait)).await;
                }
            }
        }
    }

    /// One try.
    async fn send(
        &self,
        poll: &PollPlan,
        auth: Option<&AuthPlan>,
        asked: &Asked,
        requests: &mut u64,
    ) -> Result<Answer, Trouble> {
        let mut request = asked.request.clone();
        let mut carried = None;
        if let Some(plan) = auth {
            let (name, env) = (&self.connector.name, self.secret_env());
            let applied = self.auth.apply(name, plan, &env, &mut request).await;
            let credential = applied.map_err(|error| Trouble::Final(auth_failure(error)))?;
            carried = Some((plan, credential));
        }
        self.await_rate().await;
        *requests += 1;
        let limits =
            ExchangeLimits { timeout: poll.timeout, max_response_bytes: poll.max_response_bytes };
        let asked_for = describe(&poll.method, &asked.url);
        let answer = match self.egress.send(request, limits).await {
            Ok(answer) => answer,
            Err(error) => return Err(no_answer(&error, &asked_for)),
        };
        let verdict = self.accept(answer, &asked_for);
        if let (Err(Trouble::Unauthorized { message, .. }), Some((plan, credential))) =
            (&verdict, &carried)
        {
            let renewable = self.auth.refused(&self.connector.name, plan, credential);
            return Err(Trouble::Unauthorized { message: message.clone(), renewable });
        }
        verdict
    }

    /// Waits for the source's rate, however long: giving up a run would only spend it again.
    async fn await_rate(&self) {
        let clock = &self.world.clock;
        while let Err(at) = self.limiter.take(clock.now()) {
            clock.sleep_until(at).await;
        }
    }

    /// A page, or what is wrong with the answer.
    fn accept(&self, answer: Answer, asked_for: &str) -> Result<Answer, Trouble> {
        let verdict = judge(answer.status);
        if matches!(verdict, Verdict::Fine | Verdict::NotModified) {
            return Ok(answer);
        }
        let message = self.message(asked_for, &answer);
        Err(match verdict {
            Verdict::Retry => {
                let asked = retry_after(&answer.headers, self.world.clock.now());
                let retry_after = asked.map(|wait| wait.min(MAX_RETRY_AFTER));
                Trouble::Again { message, retry_after }
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

    /// Takes the connector's secrets out of a text that a server sent.
    fn blot(&self, text: String) -> String {
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
        | EgressError::Timeout => Trouble::Again { message, retry_after: None },
        EgressError::Refused(_) => Trouble::Final(PollFailure::Held(message)),
        EgressError::BadUrl(_)
        | EgressError::Undecodable(_)
        | EgressError::ResponseTooLarge { .. } => Trouble::Final(PollFailure::Failed(message)),
    }
}

/// The first value of each header as templates see it: names in lower case.
pub(super) fn header_values(headers: &HeaderMap) -> serde_json::Map<String, serde_json::Value> {
    headers
        .keys()
        .filter_map(|name| {
            let value = String::from_utf8_lossy(headers.get(name)?.as_bytes());
            Some((name.as_str().to_owned(), value.into_owned().into()))
        })
        .collect()
}
