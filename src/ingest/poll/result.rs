//! A job's result: where it is, by the answer that says that the job is done, and reading it.
//!
//! Credentials and what the source shares follow the file, not an answer: an address that an answer
//! gives gets them only where the job was created.

use std::sync::Arc;

use serde_json::Value;
use url::Url;

use crate::plan::{DownloadPlan, JobPlan, JobRequest, PollPlan};

use super::{
    PollFailure, PollReport,
    address::{addresses, taken},
    ahead::Ahead,
    fetch::Got,
    job::{Found, InHand, Over, Ready, no_job},
    on::rule_body,
    page::Pages,
    request::{AboutJob, Ask, Asked, describe, names},
    run::{Arrived, Flow, Run, failed, response_of},
    window::Window,
};

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
pub(super) struct Target<'a> {
    pub plan: &'a PollPlan,
    pub at: Option<Url>,
    is_foreign: bool,
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

    pub(super) fn about<'s>(
        &'s self,
        job: &'s InHand,
        response: Option<&'s Arc<Value>>,
        at: Option<&'s Url>,
    ) -> AboutJob<'s> {
        let format = self.poll.cursor.as_ref().map(|cursor| &cursor.format);
        AboutJob { job: &job.value, response, format, at, ours: &job.url }
    }

    /// Whether nothing of the window is left once what is read is durable.
    pub(super) fn is_last_file(&self) -> bool {
        self.file.as_ref().is_none_or(|file| file.is_last)
    }

    /// Whether what is read lies with somebody else than the API.
    pub(super) fn is_foreign(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.is_foreign)
    }

    /// Where a request goes that is for one address. `None`: the answer gives none.
    pub(super) fn target(
        &self,
        key: &str,
        request: &'a JobRequest,
        from: (&InHand, Option<&Arc<Value>>, &Url),
        window: &Window,
    ) -> Result<Option<Target<'a>>, PollFailure> {
        let mut targets = self.targets(key, request, from, window)?;
        let target = targets.pop();
        if targets.is_empty() {
            Ok(target)
        } else {
            Err(failed(format!("{key}: expected one address, found {}", targets.len() + 1)))
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
    pub(super) async fn read(
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
            let mut ahead = Ahead::in_order(self.poller, plan);
            ahead.has(asked, got, (self.poller.world.clock.now(), self.last_status));
            return self.pages(Pages::new(&plan.page), ahead, window, progress).await;
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
            let mut ahead = Ahead::in_order(self.poller, plan);
            ahead.ask(self.ask(window, pages.position())?);
            let flow = self.pages(pages, ahead, window, progress).await?;
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
        let job = self.job.as_ref().ok_or_else(no_job)?;
        let (key, from) = ("job.download", (job, Some(response), base));
        let Some(lookup) = &download.lookup else {
            return self.targets(key, &download.request, from, window).map(Found::It);
        };
        let Some(target) = self.target(key, &download.request, from, window)? else {
            return Ok(Found::It(Vec::new()));
        };
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
        let job = self.job.as_ref().ok_or_else(no_job)?;
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
        let asked = self.ask(window, Pages::new(&plan.page).position())?;
        let fetched = self.poller.fetch(plan, &asked).await;
        self.count(fetched).map(|got| Some((asked, got)))
    }
}

/// Which of its three forms a request has for an address that an answer gave: credentials go where the
/// job was created, and nowhere else.
fn classified<'a>(request: &'a JobRequest, at: Url, ours: &Url) -> Target<'a> {
    let is_foreign = at.origin() != ours.origin();
    let plan = if is_foreign { &request.foreign } else { &request.given };
    Target { plan, at: Some(at), is_foreign }
}
