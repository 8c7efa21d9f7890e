//! Jobs: a request creates a report, others ask whether it is ready, and its result is read like any
//! other answer.
//!
//! What this file promises: a job that was created is durable before it is waited for, and a restart
//! goes on waiting for it; it is forgotten in the append of its last record. One that failed, that the API no
//! longer knows, or that is not done in time is forgotten at once, and the cursor stays, so the next run
//! creates it anew. One whose result cannot be read for the connector's own reasons is kept until its
//! time is over: whoever mends the file does not have to wait for it again.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use serde_json::Value;
use url::Url;
use xxhash_rust::xxh3::Xxh3;

use crate::{
    egress::Answer,
    plan::{DownloadPlan, JobPlan, JobRequest, PollPlan},
    world::Timestamp,
};

use super::{
    PollFailure, PollReport,
    address::{addresses, next_look, taken},
    answer::excerpt,
    fetch::{Fetched, Got, asked_wait},
    on::rule_body,
    page::Pages,
    request::{AboutJob, Ask, Asked, build, describe, names},
    run::{Arrived, Flow, Run, failed, response_of},
    store::not_appended,
    stream::head_of,
    waiting::{StoredJob, job_key},
    window::Window,
};

/// What is remembered of a first answer.
const MAX_JOB_BYTES: usize = 64 << 10;

/// A job that was created and is not read yet.
pub(super) struct InHand {
    pub key: String,
    pub value: Arc<Value>,
    began: Timestamp,
    created: Timestamp,
    /// Where it was created.
    url: Url,
    /// When it is looked at; `None`: now.
    first_look: Option<Duration>,
}

/// What a job's result is read from: one of its files.
pub(super) struct File<'a> {
    pub plan: &'a PollPlan,
    /// Where it is, where an answer gave that.
    pub at: Option<Url>,
    /// The answer that says that the job is done.
    pub response: Arc<Value>,
    /// Whether no other follows.
    pub is_last: bool,
    is_foreign: bool,
}

/// Where a request about a job goes.
struct Target<'a> {
    plan: &'a PollPlan,
    at: Option<Url>,
    is_foreign: bool,
}

/// An answer that says that a job is done.
struct Ready<'a> {
    target: Target<'a>,
    asked: Asked,
    got: Got,
    response: Arc<Value>,
}

/// What came of waiting, or of looking an address up.
enum Found<T> {
    It(T),
    /// A rule gives it up.
    GivenUp(Got),
}

/// How a job ends that does not end well.
enum Over {
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
    /// What requests for pages are made by.
    pub(super) fn requests(&self) -> &'a PollPlan {
        self.file.as_ref().map_or(self.poll, |file| file.plan)
    }

    /// What the request for a page of a result is made with.
    pub(super) fn about_file(&self) -> Option<AboutJob<'_>> {
        let (job, file) = (self.job.as_ref()?, self.file.as_ref()?);
        Some(self.about(job, Some(&file.response), file.at.as_ref()))
    }

    fn about<'s>(
        &'s self,
        job: &'s InHand,
        response: Option<&'s Arc<Value>>,
        at: Option<&'s Url>,
    ) -> AboutJob<'s> {
        let format = self.poll.cursor.as_ref().map(|cursor| &cursor.format);
        AboutJob { job: &job.value, response, format, at }
    }

    /// Whether nothing of the window is left once what is read is durable.
    pub(super) fn is_last_file(&self) -> bool {
        self.file.as_ref().is_none_or(|file| file.is_last)
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

    fn ask_about(
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
    async fn create(
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
        let ready = match self.wait(plan, window).await? {
            Found::It(ready) => ready,
            Found::GivenUp(got) => return Ok(self.give_up(got, window).await?),
        };
        let created = self.job.as_ref().map_or(self.now, |job| job.created);
        let read = self.read(plan, ready, window, progress).await;
        read.map_err(|failure| {
            let refused = self.last_status.is_some_and(|status| status.is_client_error());
            let is_late = self.poller.world.clock.now() >= created.plus(plan.within);
            match failure {
                // An address that was given for a while: a person could do nothing about it.
                PollFailure::Held(message) if refused && self.is_foreign() => {
                    Over::Forget(PollFailure::Failed(message))
                }
                PollFailure::Failed(_) if refused || is_late => Over::Forget(failure),
                failure => Over::Keep(failure),
            }
        })
    }

    fn is_foreign(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.is_foreign)
    }

    /// Looks again and again how the job in hand stands, until it is done.
    async fn wait(&mut self, plan: &'a JobPlan, window: &Window) -> Result<Found<Ready<'a>>, Over> {
        let clock = Arc::clone(&self.poller.world.clock);
        let lost = || failed("there is no job to wait for");
        let mut wait = self.job.as_mut().ok_or_else(lost)?.first_look.take();
        loop {
            if let Some(wait) = wait {
                clock.sleep_until(clock.now().plus(wait)).await;
            }
            let job = self.job.as_ref().ok_or_else(lost)?;
            let mut targets =
                self.targets("job.path", &plan.status, (job, None, &job.url), window)?;
            let target = match (targets.pop(), targets.is_empty()) {
                (Some(target), true) => target,
                _ => return Err(failed("job.path: expected one address").into()),
            };
            let asked = self.ask_about(&target, (job, None), window)?;
            let (value, created) = (Arc::clone(&job.value), job.created);
            let fetched = self.poller.fetch(target.plan, &asked).await;
            let got = match self.count(fetched) {
                // It is not known any more, or refused: asking for it again is of no use.
                Err(failure @ PollFailure::Failed(_)) => return Err(Over::Forget(failure)),
                other => other?,
            };
            let (answer, body) = match &got {
                Got::Answer(answer) => (answer.clone(), rule_body(&answer.body)),
                Got::Flowing(flowing) => (head_of(flowing), Value::Null),
                _ => return Ok(Found::GivenUp(got)),
            };
            let response = response_of(&answer, body);
            let asked_for = describe(&target.plan.method, &asked.url);
            let said = || match excerpt(&answer.body) {
                shown if shown.is_empty() => format!("{asked_for} answered {}", answer.status),
                _ => self.poller.message(&asked_for, &answer),
            };
            let env = self.response_env(&response).with("job", value);
            let of = |what: &str, error| failed(format!("job.{what}: {error}"));
            if let Some(expr) = &plan.failed
                && expr.test(&env).map_err(|error| of("failed", error))?
            {
                let message = format!("the job failed: {}", said());
                return Err(Over::Forget(PollFailure::Failed(message)));
            }
            let now = clock.now();
            let age = now.since(created);
            if plan.done.test(&env).map_err(|error| of("done", error))? {
                let (connector, stream) = (&self.poller.connector.name, &self.poller.stream.name);
                let took_ms = age.as_millis() as u64;
                tracing::info!(%connector, %stream, partition = %self.label, took_ms, "a job is done");
                return Ok(Found::It(Ready { target, asked, got, response }));
            }
            if age >= plan.within {
                let within = plan.within.as_secs_f64();
                let message = format!("the job is not done within {within} s: {}", said());
                return Err(Over::Forget(PollFailure::Failed(message)));
            }
            let left = plan.within.saturating_sub(age);
            wait = Some(next_look(plan.every, age, asked_wait(&answer, now), left));
        }
    }

    /// Where a request goes, seen from where the answer came from that may say so.
    fn targets(
        &self,
        key: &str,
        request: &'a JobRequest,
        (job, response, base): (&InHand, Option<&Arc<Value>>, &Url),
        window: &Window,
    ) -> Result<Vec<Target<'a>>, PollFailure> {
        if !request.by_answer {
            return Ok(vec![Target { plan: &request.api, at: None, is_foreign: false }]);
        }
        let pages = Pages::new(&request.api.page);
        let ask = Ask {
            vars: self.poller.vars(),
            now: self.now,
            window,
            position: pages.position(),
            each: self.each.as_ref(),
            record: None,
            job: Some(self.about(job, response, None)),
        };
        let env = names(&request.api, &ask);
        let document = response.map_or(&*job.value, |response| &response["body"]);
        let wrong = |problem| failed(format!("{key}: {problem}"));
        let value = taken(&request.api.url, &env, document).map_err(wrong)?;
        let found = addresses(value, base).map_err(wrong)?;
        Ok(found.into_iter().map(|at| classified(request, at, &job.url)).collect())
    }

    /// Reads the result, file by file.
    async fn read(
        &mut self,
        plan: &'a JobPlan,
        ready: Ready<'a>,
        window: &Window,
        progress: &(dyn Fn(&PollReport) + Send + Sync),
    ) -> Result<Flow, PollFailure> {
        let Ready { target, asked, got, response } = ready;
        let Some(download) = &plan.download else {
            let Target { plan, at, is_foreign } = target;
            self.file = Some(File { plan, at, response, is_last: true, is_foreign });
            let fetched = Fetched { requests: 0, status: self.last_status, got: Ok(got) };
            let pages = Pages::new(&plan.page);
            return self.pages(pages, asked, fetched, window, progress).await;
        };
        drop(got);
        let files = match self.files(download, &response, &asked.url, window).await? {
            Found::It(files) => files,
            Found::GivenUp(got) => return self.give_up(got, window).await,
        };
        let count = files.len();
        for (number, Target { plan, at, is_foreign }) in files.into_iter().enumerate() {
            let (is_last, response) = (number + 1 == count, Arc::clone(&response));
            self.file = Some(File { plan, at, response, is_last, is_foreign });
            let pages = Pages::new(&plan.page);
            let asked = self.ask(window, &pages)?;
            let fetched = self.poller.fetch(plan, &asked).await;
            let flow = self.pages(pages, asked, fetched, window, progress).await?;
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        if count == 0 {
            let empty = Arrived::nothing(self.poller.world.clock.now());
            self.store(empty, window).await?;
        }
        Ok(Flow::On)
    }

    /// Where the result is; one more request where that has to be asked for.
    async fn files(
        &mut self,
        download: &'a DownloadPlan,
        response: &Arc<Value>,
        base: &Url,
        window: &Window,
    ) -> Result<Found<Vec<Target<'a>>>, PollFailure> {
        let lost = || failed("there is no job to read");
        let job = self.job.as_ref().ok_or_else(lost)?;
        let from = (job, Some(response), base);
        let mut targets = self.targets("job.download", &download.request, from, window)?;
        let Some(lookup) = &download.lookup else { return Ok(Found::It(targets)) };
        let Some(target) = targets.pop() else { return Ok(Found::It(Vec::new())) };
        if !targets.is_empty() {
            return Err(failed("job.download.path: expected one address"));
        }
        let asked = self.ask_about(&target, (job, Some(response)), window)?;
        let fetched = self.poller.fetch(target.plan, &asked).await;
        let answer = match self.count(fetched)? {
            Got::Answer(answer) => answer,
            given_up => return Ok(Found::GivenUp(given_up)),
        };
        let asked_for = describe(&target.plan.method, &asked.url);
        let wrong = |problem| failed(format!("{asked_for}: job.download.url: {problem}"));
        let said = response_of(&answer, rule_body(&answer.body));
        let value = taken(&lookup.url, &self.response_env(&said), &said["body"]).map_err(wrong)?;
        let found = addresses(value, &asked.url).map_err(wrong)?;
        let job = self.job.as_ref().ok_or_else(lost)?;
        let files = found.into_iter().map(|at| classified(&lookup.file, at, &job.url));
        Ok(Found::It(files.collect()))
    }

    /// Creates a job, waits for it, and fetches the first page of its result: for `tenon try`. `None`:
    /// there is none.
    pub(super) async fn first_of_job(
        &mut self,
        plan: &'a JobPlan,
        window: &Window,
    ) -> Result<Option<(Asked, Got)>, PollFailure> {
        if self.create(plan, window).await?.is_some() {
            return Ok(None);
        }
        let ready = match self.wait(plan, window).await {
            Ok(Found::It(ready)) => ready,
            Ok(Found::GivenUp(_)) => return Ok(None),
            Err(Over::Keep(failure) | Over::Forget(failure)) => return Err(failure),
        };
        let Some(download) = &plan.download else { return Ok(Some((ready.asked, ready.got))) };
        let found = self.files(download, &ready.response, &ready.asked.url, window).await?;
        let Found::It(files) = found else { return Ok(None) };
        let Some(Target { plan, at, is_foreign }) = files.into_iter().next() else {
            return Ok(None);
        };
        let response = ready.response;
        self.file = Some(File { plan, at, response, is_last: true, is_foreign });
        let asked = self.ask(window, &Pages::new(&plan.page))?;
        let fetched = self.poller.fetch(plan, &asked).await;
        self.count(fetched).map(|got| Some((asked, got)))
    }

    /// What is known of an answer, and counted.
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
}

/// Which of its three forms a request has for an address that an answer gave: credentials go where the
/// job was created, and nowhere else.
fn classified<'a>(request: &'a JobRequest, at: Url, ours: &Url) -> Target<'a> {
    let is_foreign = at.origin() != ours.origin();
    let plan = if is_foreign { &request.foreign } else { &request.given };
    Target { plan, at: Some(at), is_foreign }
}

/// Of the request that creates a job, and of what of its answer is the job.
fn fingerprint(plan: &JobPlan, asked: &Asked) -> u64 {
    let mut hash = Xxh3::new();
    let take = plan.take.as_ref().map(|take| take.source()).unwrap_or_default();
    for part in [plan.create.method.as_str(), asked.url.as_str(), take] {
        hash.update(part.as_bytes());
        hash.update(b"\n");
    }
    hash.update(asked.request.body());
    hash.digest()
}
