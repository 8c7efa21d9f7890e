//! Jobs: a request creates a report, others ask whether it is ready, and its result is read like any
//! other answer (`result`).
//!
//! What this file promises: a job that was created is durable before it is waited for, and a restart
//! goes on waiting for it; it is forgotten in the append of its last record. One that failed, that the API no
//! longer knows, or that is not done in time is forgotten at once, and the cursor stays, so the next run
//! creates it anew. One whose result cannot be read, for the connector's own reasons or because it is
//! refused, is kept until its time is over: whoever mends the file does not have to wait for it again.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use http::StatusCode;
use serde_json::Value;
use url::Url;
use xxhash_rust::xxh3::Xxh3;

use crate::{
    bus::{StateWrites, write_state},
    egress::Answer,
    map::Expr,
    plan::JobPlan,
    world::Timestamp,
};

use super::{
    PollFailure, PollReport, Poller,
    address::{next_look, taken},
    answer::{Verdict, judge},
    fetch::{Fetched, Got, asked_wait},
    on::rule_body,
    page::Pages,
    request::{Ask, Asked, build, describe},
    result::Target,
    run::{Flow, Run, failed, response_of},
    store::not_appended,
    stream::head_of,
    waiting::{StoredJob, job_key},
    window::Window,
};

/// Jobs looked at in one go.
const JOBS_A_PAGE: usize = 512;
/// What is remembered of a first answer.
const MAX_JOB_BYTES: usize = 64 << 10;

/// A job that was created and is not read yet.
pub(super) struct InHand {
    pub key: String,
    pub value: Arc<Value>,
    began: Timestamp,
    created: Timestamp,
    /// Where it was created.
    pub url: Url,
    /// When it is looked at; `None`: now.
    first_look: Option<Duration>,
}

/// An answer that says that a job is done.
pub(super) struct Ready<'a> {
    pub target: Target<'a>,
    pub asked: Asked,
    pub got: Got,
    pub response: Arc<Value>,
}

/// What came of waiting, or of looking an address up.
pub(super) enum Found<T> {
    It(T),
    /// A rule gives it up.
    GivenUp(Got),
}

/// How a job ends that does not end well.
pub(super) enum Over {
    /// The next run goes on with it.
    Keep(PollFailure),
    /// The next run creates it anew.
    Forget(PollFailure),
}

impl From<PollFailure> for Over {
    fn from(failure: PollFailure) -> Self {
        Self::Keep(failure)
    }
}

impl<'a> Run<'a> {
    /// Counts what was sent, and gives what was got.
    pub(super) fn count(&mut self, fetched: Fetched) -> Result<Got, PollFailure> {
        self.report.requests += fetched.requests;
        self.last_status = fetched.status;
        match fetched.got? {
            Got::Answer(Answer { status: StatusCode::NOT_MODIFIED, .. }) if self.job.is_some() => {
                Err(failed("the API answered 304 Not Modified to a request without a condition"))
            }
            got => Ok(got),
        }
    }

    /// Goes on with the job that an earlier run created, if there is one and it is still what this one
    /// would create. What it is for.
    pub(super) async fn take_up(&mut self, plan: &JobPlan) -> Result<Option<Window>, PollFailure> {
        let Some(key) = self.slots.first().map(|slot| job_key(&slot.key)) else { return Ok(None) };
        let Some(bytes) = self.poller.bus.state(&key) else { return Ok(None) };
        let (connector, stream) = (&self.poller.connector.name, &self.poller.stream.name);
        let partition = &self.label;
        let known = StoredJob::decode(&bytes).ok().filter(|stored| {
            // Behind a cursor that was set back, other records are meant.
            let is_meant = stored.from.as_ref() <= self.progress.cursor();
            let asked = self.ask_to_create(plan, &stored.window, stored.began);
            is_meant && asked.is_ok_and(|asked| fingerprint(plan, &asked) == stored.request)
        });
        let url = known.as_ref().and_then(|stored| Url::parse(&stored.url).ok());
        let (Some(stored), Some(url)) = (known, url) else {
            tracing::warn!(
                %connector, %stream, %partition,
                "a job of an earlier run is not what would be asked for now: it is created anew",
            );
            self.write_job(key, None).await?;
            return Ok(None);
        };
        tracing::info!(
            %connector, %stream, %partition, created = stored.created.rfc3339(),
            "a job of an earlier run goes on",
        );
        let StoredJob { began, created, window, job, .. } = stored;
        let value = Arc::new(job);
        self.job = Some(InHand { key, value, began, created, url, first_look: None });
        Ok(Some(window))
    }

    /// One window, by a job: the one in hand, or one that is created for it.
    pub(super) async fn by_job(
        &mut self,
        plan: &'a JobPlan,
        window: &Window,
        progress: &(dyn Fn(&PollReport) + Send + Sync),
    ) -> Result<Flow, PollFailure> {
        let now = self.now;
        let ended = self.job_to_its_end(plan, window, progress).await;
        self.now = now;
        ended
    }

    async fn job_to_its_end(
        &mut self,
        plan: &'a JobPlan,
        window: &Window,
        progress: &(dyn Fn(&PollReport) + Send + Sync),
    ) -> Result<Flow, PollFailure> {
        match &self.job {
            // What changed since it was created still lies ahead.
            Some(job) => self.now = job.began,
            None => {
                if let Some(given_up) = self.create(plan, window).await? {
                    return self.give_up(given_up, window).await;
                }
            }
        }
        let ended = self.wait_and_read(plan, window, progress).await;
        self.file = None;
        let Some(job) = self.job.take() else { return Ok(Flow::On) };
        match ended {
            // It was forgotten with its last record.
            Ok(Flow::On) => Ok(Flow::On),
            Ok(flow) => self.write_job(job.key, None).await.map(|()| flow),
            Err(Over::Keep(failure)) => Err(failure),
            Err(Over::Forget(failure)) => {
                self.write_job(job.key, None).await?;
                Err(failure)
            }
        }
    }

    async fn write_job(&self, key: String, value: Option<Vec<u8>>) -> Result<(), PollFailure> {
        let append = crate::bus::Append { events: Vec::new(), state: vec![(key, value)] };
        self.poller.bus.append(append).await.map(drop).map_err(not_appended)
    }

    fn ask_to_create(
        &self,
        plan: &JobPlan,
        window: &Window,
        now: Timestamp,
    ) -> Result<Asked, PollFailure> {
        let (vars, pages) = (self.poller.vars(), Pages::new(&plan.create.page));
        let (position, each) = (pages.position(), self.each.as_ref());
        let ask = Ask { vars, now, window, position, each, record: None, job: None };
        build(&plan.create, &ask).map_err(failed)
    }

    pub(super) fn ask_about(
        &self,
        target: &Target<'_>,
        (job, response): (&InHand, Option<&Arc<Value>>),
        window: &Window,
    ) -> Result<Asked, PollFailure> {
        let (vars, pages) = (self.poller.vars(), Pages::new(&target.plan.page));
        let ask = Ask {
            vars,
            now: self.now,
            window,
            position: pages.position(),
            each: self.each.as_ref(),
            record: None,
            job: Some(self.about(job, response, target.at.as_ref())),
        };
        build(target.plan, &ask).map_err(failed)
    }

    /// Creates the job and makes it durable. What a rule says instead.
    pub(super) async fn create(
        &mut self,
        plan: &JobPlan,
        window: &Window,
    ) -> Result<Option<Got>, PollFailure> {
        let asked = self.ask_to_create(plan, window, self.now)?;
        let fetched = self.poller.fetch(&plan.create, &asked).await;
        let answer = match self.count(fetched)? {
            Got::Answer(answer) => answer,
            given_up => return Ok(Some(given_up)),
        };
        let asked_for = describe(&plan.create.method, &asked.url);
        let wrong = |problem: String| failed(format!("{asked_for}: {problem}"));
        let value = self.job_of(plan, &answer).map_err(wrong)?;
        let created = self.poller.world.clock.now();
        let mut url = asked.url.clone();
        url.set_query(None);
        let stored = StoredJob {
            began: self.now,
            created,
            from: self.progress.cursor().cloned(),
            window: window.clone(),
            request: fingerprint(plan, &asked),
            url: url.to_string(),
            job: value,
        };
        let bytes = stored.encode();
        if bytes.len() > MAX_JOB_BYTES {
            return Err(wrong(format!(
                "{} bytes are too much to remember of a job: `take` says which part of the answer \
                 names it",
                bytes.len()
            )));
        }
        let Some(key) = self.slots.first().map(|slot| job_key(&slot.key)) else { return Ok(None) };
        self.write_job(key.clone(), Some(bytes)).await?;
        let (connector, stream) = (&self.poller.connector.name, &self.poller.stream.name);
        tracing::info!(%connector, %stream, partition = %self.label, %window, "a job is created");
        let first_look = asked_wait(&answer, created);
        let first_look = Some(next_look(plan.every, Duration::ZERO, first_look, plan.within));
        let (value, began) = (Arc::new(stored.job), self.now);
        self.job = Some(InHand { key, value, began, created, url, first_look });
        Ok(None)
    }

    /// `job`: what is taken of the first answer, or all its body.
    fn job_of(&self, plan: &JobPlan, answer: &Answer) -> Result<Value, String> {
        let response = response_of(answer, rule_body(&answer.body));
        let body = &response["body"];
        let job = match &plan.take {
            Some(take) => taken(take, &self.response_env(&response), body)
                .map_err(|problem| format!("take: {problem}"))?,
            None => body.clone(),
        };
        match &job {
            Value::Null => Err("there is no job in the answer".to_owned()),
            Value::String(text) if text.is_empty() => {
                Err("the answer has no body: `take` says what names the job".to_owned())
            }
            _ => Ok(job),
        }
    }

    async fn wait_and_read(
        &mut self,
        plan: &'a JobPlan,
        window: &Window,
        progress: &(dyn Fn(&PollReport) + Send + Sync),
    ) -> Result<Flow, Over> {
        let created = self.job.as_ref().map_or(self.now, |job| job.created);
        let waited = self.wait(plan, window).await;
        let read = match waited {
            Ok(Found::It(ready)) => self.read(plan, ready, window, progress).await,
            Ok(Found::GivenUp(got)) => self.give_up(got, window).await,
            Err(Over::Keep(failure)) => Err(failure),
            Err(forget) => return Err(forget),
        };
        let age = self.poller.world.clock.now().since(created);
        read.map_err(|failure| {
            let refused = self.last_status.is_some_and(|status| status.is_client_error());
            let over = match failure {
                failure if age >= plan.within => self.too_late(plan, age, failure),
                // An address that was given for a while: a person could do nothing about it.
                PollFailure::Held(message) if refused && self.is_foreign() => {
                    Over::Forget(PollFailure::Failed(message))
                }
                PollFailure::Failed(_) if refused => Over::Forget(failure),
                failure => Over::Keep(failure),
            };
            match over {
                // Of several partitions the others have files elsewhere: it is not about the source.
                Over::Keep(PollFailure::Later { message, .. })
                    if self.each.is_some() && self.is_foreign() && !self.was_answered() =>
                {
                    Over::Keep(PollFailure::Failed(message))
                }
                over => over,
            }
        })
    }

    /// Whether the last answer was one to read.
    fn was_answered(&self) -> bool {
        self.last_status.is_some_and(|status| status.is_success())
    }

    /// What becomes of a job that could not be read when its time was over. One that is refused then ends
    /// as one that is never done; what may pass is waited out for as long again, and whoever is told when
    /// to come back does so.
    fn too_late(&self, plan: &JobPlan, age: Duration, failure: PollFailure) -> Over {
        let refused = match self.last_status.map(judge) {
            Some(Verdict::Forbidden | Verdict::Unexpected) => true,
            Some(Verdict::Unauthorized) => self.is_foreign(),
            _ => false,
        };
        let is_passing = !refused && age < plan.within.saturating_mul(2);
        match &failure {
            PollFailure::Later { retry_after: Some(_), .. } if !refused => Over::Keep(failure),
            PollFailure::Later { .. } | PollFailure::Held(_) if is_passing => Over::Keep(failure),
            _ => {
                let (within, message) = (plan.within.as_secs_f64(), failure.message());
                let message = format!("the job is not read within {within} s: {message}");
                Over::Forget(PollFailure::Failed(message))
            }
        }
    }

    /// Looks again and again how the job in hand stands, until it is done.
    pub(super) async fn wait(
        &mut self,
        plan: &'a JobPlan,
        window: &Window,
    ) -> Result<Found<Ready<'a>>, Over> {
        let clock = Arc::clone(&self.poller.world.clock);
        let mut wait = self.job.as_mut().and_then(|job| job.first_look.take());
        loop {
            if let Some(wait) = wait {
                // Others may ask meanwhile.
                self.lane = None;
                clock.sleep_until(clock.now().plus(wait)).await;
                self.lane = Some(self.poller.source.lane());
            }
            match self.look(plan, window).await? {
                ControlFlow::Break(found) => return Ok(found),
                ControlFlow::Continue(next) => wait = Some(next),
            }
        }
    }

    /// Looks once how the job in hand stands, or says when to look again.
    async fn look(
        &mut self,
        plan: &'a JobPlan,
        window: &Window,
    ) -> Result<ControlFlow<Found<Ready<'a>>, Duration>, Over> {
        let job = self.job.as_ref().ok_or_else(no_job)?;
        let (value, created) = (Arc::clone(&job.value), job.created);
        let target = self.target("job.path", &plan.status, (job, None, &job.url), window)?;
        let target = target.ok_or_else(|| failed("job.path: there is no address"))?;
        let asked = self.ask_about(&target, (job, None), window)?;
        let fetched = self.poller.fetch(target.plan, &asked).await;
        let got = match self.count(fetched) {
            // It is not known any more, or refused: asking for it again is of no use.
            Err(failure @ PollFailure::Failed(_)) => return Err(Over::Forget(failure)),
            other => other?,
        };
        let (answer, body) = match &got {
            Got::Answer(answer) => (answer.clone(), rule_body(&answer.body)),
            Got::Flowing(flowing) => (head_of(flowing), Value::Null),
            _ => return Ok(ControlFlow::Break(Found::GivenUp(got))),
        };
        let response = response_of(&answer, body);
        let asked_for = describe(&target.plan.method, &asked.url);
        let said = || self.poller.message(&asked_for, &answer);
        let env = self.response_env(&response).with("job", value);
        let of = |what: &str, error| failed(format!("job.{what}: {error}"));
        if let Some(expr) = &plan.failed
            && expr.test(&env).map_err(|error| of("failed", error))?
        {
            let message = format!("the job failed: {}", said());
            return Err(Over::Forget(PollFailure::Failed(message)));
        }
        let now = self.poller.world.clock.now();
        let age = now.since(created);
        if plan.done.test(&env).map_err(|error| of("done", error))? {
            let (connector, stream) = (&self.poller.connector.name, &self.poller.stream.name);
            let took_ms = age.as_millis() as u64;
            tracing::info!(%connector, %stream, partition = %self.label, took_ms, "a job is done");
            return Ok(ControlFlow::Break(Found::It(Ready { target, asked, got, response })));
        }
        if age >= plan.within {
            let within = plan.within.as_secs_f64();
            let message = format!("the job is not done within {within} s: {}", said());
            return Err(Over::Forget(PollFailure::Failed(message)));
        }
        let left = plan.within.saturating_sub(age);
        Ok(ControlFlow::Continue(next_look(plan.every, age, asked_wait(&answer, now), left)))
    }
}

impl Poller {
    /// Forgets the jobs of partitions that there are no more: none goes on with them, and they would be
    /// waited for for ever. For the end of a run over all partitions.
    pub(super) async fn forget_jobs(
        &self,
        plan: &JobPlan,
        now: Timestamp,
    ) -> Result<(), PollFailure> {
        let own = job_key(&self.cursor_key());
        // One that is still read is not so old, see `too_late`.
        let is_over = |bytes: &[u8]| {
            let created = StoredJob::decode(bytes).map(|job| job.created);
            created.is_ok_and(|at| now > at.plus(plan.within.saturating_mul(2)))
        };
        let mut page: Vec<_> =
            self.bus.state(&own).map(|job| (own.clone(), job)).into_iter().collect();
        let (prefix, mut after) = (format!("{own}/"), None::<String>);
        loop {
            let gone = page.into_iter().filter(|(_, job)| is_over(job));
            let gone: StateWrites = gone.map(|(key, _)| (key, None)).collect();
            if !gone.is_empty() {
                let (connector, stream) = (&self.connector.name, &self.stream.name);
                tracing::info!(%connector, %stream, jobs = gone.len(), "jobs of no partition are forgotten");
                write_state(&*self.bus, gone).await.map_err(not_appended)?;
            }
            page = self.bus.state_page(&prefix, after.as_deref(), JOBS_A_PAGE);
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            tokio::task::yield_now().await;
        }
    }
}

pub(super) fn no_job() -> PollFailure {
    failed("there is no job in hand")
}

/// Of the request that creates a job, and of what of its answer is the job.
fn fingerprint(plan: &JobPlan, asked: &Asked) -> u64 {
    let mut hash = Xxh3::new();
    let take = plan.take.as_ref().map(Expr::source).unwrap_or_default();
    for part in [plan.create.method.as_str(), asked.url.as_str(), take] {
        hash.update(part.as_bytes());
        hash.update(b"\n");
    }
    hash.update(asked.request.body());
    hash.digest()
}
