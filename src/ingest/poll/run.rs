//! One run of a poll, from the cursor to the end of what there is now.
//!
//! Page after page: fetch → take apart → name → append, the cursor in the same append as the page
//! that moved it. While a page is named and made durable, the next one is already on its way, and
//! where `ahead` may, some behind it; nothing of them is looked at before the page ahead of them is
//! stored. Dropping the run at any point leaves the cursor at or before what is durable, never after.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Map, Value};

use crate::{
    auth::Authenticator,
    bus::Bus,
    deliver::Tenants,
    egress::{Answer, Egress, header_values, left},
    map::{Env, EvalError, Expr},
    plan::{ConnectorPlan, PageBy, PollPlan, Sorted, StreamPlan},
    world::{Skew, Timestamp, World},
};

use super::{
    ahead::Ahead,
    cursor::CursorValue,
    explode::Explode,
    fetch::Got,
    job::InHand,
    link::next_link,
    page::{Facts, Pages, Pointer, Position, Step},
    parents::{Pass, Seen},
    path::{Plain, touches, walk},
    records::{Page, RecordsError},
    report::{PollFailure, PollReport},
    request::{Ask, Asked, build, describe},
    result::File,
    source::{Lane, Source},
    stored::{Stored, Validator, cursor_key},
    stream::page_of,
    window::{Progress, Window, windows},
};

/// What a poll works with.
#[derive(Clone)]
pub struct Poller {
    /// The connector.
    pub connector: Arc<ConnectorPlan>,
    /// Its stream, which has a `poll`.
    pub stream: Arc<StreamPlan>,
    /// Time, jitter and secrets.
    pub world: World,
    /// The HTTP client.
    pub egress: Egress,
    /// Credentials.
    pub auth: Arc<Authenticator>,
    /// Where events and the cursor go.
    pub bus: Arc<dyn Bus>,
    /// What its streams share.
    pub source: Arc<Source>,
    /// What each tenant may send.
    pub tenants: Arc<Tenants>,
    /// How far the source's clock is from ours.
    pub skew: Arc<Skew>,
}

/// What a series of requests is for, and where its state is: a poll without `each` is one such.
pub(super) struct Part {
    /// Where its state is; several where one request is for several partitions.
    pub slots: Vec<Slot>,
    /// `each`.
    pub each: Option<Arc<Value>>,
    /// For people; empty without `each`.
    pub label: Arc<str>,
    /// Where it was left off.
    pub stored: Result<Stored, PollFailure>,
}

/// Where one partition's state is.
pub(super) struct Slot {
    pub key: String,
    /// The version of the parents that it is read for, where only changed ones are.
    pub parent: Option<u64>,
    /// The same of the last time.
    pub parent_before: Option<u64>,
}

impl Poller {
    /// One run: from the cursor to the end of what there is now. Pages are appended as they come,
    /// the cursor with them; nothing durable is wrong when the future is dropped. `progress` is
    /// called after each page.
    pub async fn run(
        &self,
        progress: &(dyn Fn(&PollReport) + Send + Sync),
    ) -> Result<PollReport, (PollReport, PollFailure)> {
        self.run_as(Pass::Live, progress).await
    }

    /// The same as another pass over the stream.
    pub async fn run_as(
        &self,
        pass: Pass,
        progress: &(dyn Fn(&PollReport) + Send + Sync),
    ) -> Result<PollReport, (PollReport, PollFailure)> {
        let mut report = PollReport::default();
        match self.run_counting(pass, &mut report, progress).await {
            Ok(()) => Ok(report),
            Err(failure) => Err((report, failure)),
        }
    }

    async fn run_counting(
        &self,
        pass: Pass,
        report: &mut PollReport,
        progress: &(dyn Fn(&PollReport) + Send + Sync),
    ) -> Result<(), PollFailure> {
        let poll = self.poll()?;
        let seen = self.begin_parents(pass);
        let began = self.world.clock.now();
        let is_whole = if poll.each.is_empty() {
            self.run_part(poll, self.whole(), seen.as_ref(), report, progress).await?;
            if let Some(plan) = &poll.job {
                self.forget_jobs(plan, began).await?;
            }
            true
        } else {
            self.fan_out(poll, seen.as_ref(), report, progress).await?
        };
        match seen {
            Some(seen) => self.end_parents(poll, &seen, is_whole, began, report).await,
            None => Ok(()),
        }
    }

    /// All that a poll without `each` is for.
    pub(super) fn whole(&self) -> Part {
        let key = self.cursor_key();
        let stored = self.stored_at(&key);
        let slots = vec![Slot { key, parent: None, parent_before: None }];
        Part { slots, each: None, label: "".into(), stored }
    }

    /// Reads one part from its cursor to the end of what there is now. Where its cursor then stands,
    /// for a person.
    pub(super) async fn run_part(
        &self,
        poll: &PollPlan,
        part: Part,
        seen: Option<&Seen>,
        report: &mut PollReport,
        progress: &(dyn Fn(&PollReport) + Send + Sync),
    ) -> Result<Option<String>, PollFailure> {
        let stored_cursor = part.stored.as_ref().ok().and_then(|stored| stored.cursor.clone());
        let now = self.world.clock.now();
        let mut windows = windows(poll.cursor.as_deref(), stored_cursor.as_ref(), now);
        self.warn_of_gap(poll, stored_cursor.as_ref(), now);
        let mut run = self.begin(poll, part, seen, now, report)?;
        if let Some(plan) = &poll.job
            && let Some(window) = run.take_up(plan).await?
        {
            let is_last = window.last;
            let flow = run.window_to_its_end(window, progress).await?;
            if flow == Flow::Stop || is_last {
                return Ok(run.progress.cursor().map(CursorValue::text));
            }
            windows = super::window::windows(poll.cursor.as_deref(), run.progress.cursor(), now);
        }
        for window in windows {
            if run.window_to_its_end(window, progress).await? == Flow::Stop {
                break;
            }
        }
        Ok(run.progress.cursor().map(CursorValue::text))
    }

    /// A run over a part, before its first request.
    pub(super) fn begin<'a>(
        &'a self,
        poll: &'a PollPlan,
        part: Part,
        seen: Option<&'a Seen>,
        now: Timestamp,
        report: &'a mut PollReport,
    ) -> Result<Run<'a>, PollFailure> {
        let Part { slots, each, label, stored } = part;
        let stored = stored?;
        Ok(Run {
            poller: self,
            poll,
            slots,
            each,
            label,
            seen,
            now,
            report,
            progress: Progress::new(stored.cursor, stored.boundary.into_iter().collect())
                .sorted(poll.cursor.as_deref().map_or(Sorted::No, |cursor| cursor.sorted)),
            validator: stored.validator,
            explode: Explode::of(poll.records.as_ref(), &self.stream),
            whole_body: self.reads_whole_body(poll),
            disorder_said: false,
            is_conditional: false,
            job: None,
            file: None,
            last_status: None,
            lane: Some(self.source.lane()),
        })
    }

    /// What the stream's expressions see as `vars`.
    pub(super) fn vars(&self) -> &Arc<Value> {
        self.stream.vars(&self.connector.vars)
    }

    pub(super) fn poll(&self) -> Result<&PollPlan, PollFailure> {
        let missing = || PollFailure::Failed(format!("{} has no poll", self.stream.name));
        self.stream.poll.as_deref().ok_or_else(missing)
    }

    /// Where the last run left off. A cursor of another kind than the file's format now has is no
    /// longer one: the run begins at `start`.
    pub(super) fn stored_at(&self, key: &str) -> Result<Stored, PollFailure> {
        let Some(bytes) = self.bus.state(key) else { return Ok(Stored::default()) };
        // Reading all again is a decision for a person, so what cannot be read is parked.
        let mut stored =
            Stored::decode(&bytes).map_err(|error| PollFailure::Held(error.to_string()))?;
        let plan = self.stream.poll.as_ref().and_then(|poll| poll.cursor.as_deref());
        let fits = |cursor: &CursorValue| plan.is_none_or(|plan| cursor.fits(&plan.format));
        if stored.cursor.as_ref().is_some_and(|cursor| !fits(cursor)) {
            tracing::warn!(
                connector = %self.connector.name, stream = %self.stream.name,
                "the cursor's format was changed: the poll begins at its start again",
            );
            stored = Stored::default();
        }
        Ok(stored)
    }

    pub(super) fn cursor_key(&self) -> String {
        cursor_key(&self.connector.name, &self.stream.name)
    }

    /// Whether an expression may read the records through `response`: only then is the page parsed
    /// as a whole.
    fn reads_whole_body(&self, poll: &PollPlan) -> bool {
        let records = match &poll.records {
            None => Some(Vec::new()),
            Some(plan) => Plain::parse(plan.path.source()).map(|plain| plain.members),
        };
        let Some(records) = records else { return true };
        let stream = &self.stream;
        let next = match &poll.page.by {
            PageBy::Cursor { next, .. } | PageBy::Next { next } => Some(next),
            _ => None,
        };
        let is_template = |expr: &&Expr| !expr.source().trim_start().starts_with('$');
        let of_record = stream.ingest_exprs().filter(is_template);
        let mut of_response = next.into_iter().chain(&poll.page.stop).chain(of_record);
        of_response.any(|expr| touches(expr.source(), &records))
    }
}

/// How often a rule may have a window read again.
const MAX_RESTARTS: u32 = 5;

/// How it goes on after a window.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// With the next one.
    On,
    /// Not at all: a rule ends the run well.
    Stop,
    /// With this one again, because of what is told.
    Restart(String),
    /// With what of this one the API has not given yet.
    Deep,
}

/// A run in progress.
pub(super) struct Run<'a> {
    pub(super) poller: &'a Poller,
    pub(super) poll: &'a PollPlan,
    /// Where its state is.
    pub(super) slots: Vec<Slot>,
    /// `each`.
    pub(super) each: Option<Arc<Value>>,
    /// Which partition it is, for people; empty without `each`.
    pub(super) label: Arc<str>,
    /// Takes note of parents.
    pub(super) seen: Option<&'a Seen>,
    /// When it began.
    pub(super) now: Timestamp,
    pub(super) report: &'a mut PollReport,
    pub(super) progress: Progress,
    /// As stored.
    pub(super) validator: Option<Validator>,
    /// From items to records.
    pub(super) explode: Explode,
    /// Whether some expression reads the records through `response`.
    pub(super) whole_body: bool,
    /// Whether the log has it that the records are not in order.
    pub(super) disorder_said: bool,
    /// Whether the request at hand asks only for what is new.
    pub(super) is_conditional: bool,
    /// The job whose result is read.
    pub(super) job: Option<InHand>,
    /// Which part of it.
    pub(super) file: Option<File<'a>>,
    /// The status of the last answer, where there was one.
    pub(super) last_status: Option<StatusCode>,
    /// Taken while it asks, or may do so at any time.
    pub(super) lane: Option<Lane>,
}

/// A page on its way into the bus.
pub(super) struct Arrived {
    pub(super) page: Page,
    /// `response` as expressions see it.
    pub(super) response: Arc<Value>,
    /// Of the body.
    pub(super) bytes: usize,
    pub(super) received_at: Timestamp,
    /// Whether it is its window's last.
    pub(super) done: bool,
    /// To store with it.
    pub(super) validator: Option<Validator>,
}

impl Run<'_> {
    /// One window, read again from where the cursor stands as often as it takes.
    async fn window_to_its_end(
        &mut self,
        mut window: Window,
        progress: &(dyn Fn(&PollReport) + Send + Sync),
    ) -> Result<Flow, PollFailure> {
        let mut restarts = 0;
        self.progress.begin_window();
        loop {
            match self.window(&window, progress).await? {
                Flow::Deep => {
                    let Some(plan) = &self.poll.cursor else { return Ok(Flow::On) };
                    window = self.progress.deeper(plan, &window).map_err(failed)?;
                }
                Flow::Restart(message) => {
                    restarts += 1;
                    if restarts > MAX_RESTARTS {
                        return Err(PollFailure::Failed(format!(
                            "{message} (after {MAX_RESTARTS} restarts of the window)"
                        )));
                    }
                    window = self.progress.again(self.poll.cursor.as_deref(), window);
                }
                flow => return Ok(flow),
            }
        }
    }

    /// All pages of one window.
    async fn window(
        &mut self,
        window: &Window,
        progress: &(dyn Fn(&PollReport) + Send + Sync),
    ) -> Result<Flow, PollFailure> {
        if let Some(plan) = &self.poll.job {
            // On the heap: its states would make every run larger.
            return Box::pin(self.by_job(plan, window, progress)).await;
        }
        let pages = Pages::new(&self.poll.page);
        let mut asked = self.ask(window, pages.position())?;
        self.is_conditional = self.make_conditional(&mut asked);
        let mut ahead = Ahead::new(self.poller, self.poll);
        ahead.ask(asked);
        self.pages(pages, ahead, window, progress).await
    }

    /// All pages, from the first one, which is asked for.
    pub(super) async fn pages(
        &mut self,
        mut pages: Pages<'_>,
        mut ahead: Ahead<'_>,
        window: &Window,
        progress: &(dyn Fn(&PollReport) + Send + Sync),
    ) -> Result<Flow, PollFailure> {
        let flow = self.page_after_page(&mut pages, &mut ahead, window, progress).await;
        ahead.end();
        self.report.requests += ahead.in_vain();
        flow
    }

    async fn page_after_page(
        &mut self,
        pages: &mut Pages<'_>,
        ahead: &mut Ahead<'_>,
        window: &Window,
        progress: &(dyn Fn(&PollReport) + Send + Sync),
    ) -> Result<Flow, PollFailure> {
        loop {
            let (asked, fetched) = ahead.next().await;
            let at = fetched.at;
            let answer = match self.count(fetched)? {
                Got::Answer(answer) => answer,
                Got::Flowing(flowing) => {
                    let step = self.stream(&asked, flowing, pages, window, progress).await?;
                    progress(self.report);
                    if step != Step::Next {
                        return Ok(if step == Step::Deep { Flow::Deep } else { Flow::On });
                    }
                    ahead.ask(self.ask(window, pages.position())?);
                    continue;
                }
                given_up => {
                    if let Some(flow) = self.give_up_page(given_up, window, pages).await? {
                        return Ok(flow);
                    }
                    ahead.ask(self.ask(window, pages.position())?);
                    progress(self.report);
                    continue;
                }
            };
            if answer.status == StatusCode::NOT_MODIFIED {
                return self.nothing_new(&asked).map(|()| Flow::On);
            }
            let left = left(&answer.headers);
            let (arrived, step) = self.arrive(&asked, answer, at, pages, window)?;
            if step != Step::Next {
                ahead.end();
                self.store(arrived, window).await?;
                progress(self.report);
                return Ok(if step == Step::Deep { Flow::Deep } else { Flow::On });
            }
            ahead.learn(arrived.bytes, arrived.page.items.len() as u64, left);
            self.ask_on(window, pages, &arrived, ahead)?;
            // What was asked for is of no use where this page cannot be stored.
            ahead.during(self.store(arrived, window)).await?;
            progress(self.report);
        }
    }

    /// 304: fine, if that was the question.
    fn nothing_new(&self, asked: &Asked) -> Result<(), PollFailure> {
        if self.is_conditional {
            // What was not listed again is still there.
            self.seen.inspect(|seen| seen.leave_out());
            return Ok(());
        }
        let asked_for = describe(&self.requests().method, &asked.url);
        Err(PollFailure::Failed(format!(
            "{asked_for} answered 304 Not Modified to a request without a condition"
        )))
    }

    pub(super) fn ask(&self, window: &Window, position: &Position) -> Result<Asked, PollFailure> {
        let ask = Ask {
            vars: self.poller.vars(),
            now: self.now,
            window,
            position,
            each: self.each.as_ref(),
            record: None,
            job: self.about_file(),
        };
        build(self.requests(), &ask).map_err(failed)
    }

    /// Takes a page apart that came then, and finds out where the next one is.
    fn arrive(
        &self,
        asked: &Asked,
        answer: Answer,
        received_at: Timestamp,
        pages: &mut Pages<'_>,
        window: &Window,
    ) -> Result<(Arrived, Step), PollFailure> {
        let asked_for = describe(&self.requests().method, &asked.url);
        let wrong = |problem: String| PollFailure::Failed(format!("{asked_for}: {problem}"));
        let mut page =
            page_of(self.poll, asked, &answer, self.whole_body).map_err(|error| match error {
                RecordsError::NotJson(_) => {
                    let said = self.poller.message(&asked_for, &answer);
                    PollFailure::Failed(format!("{error} ({said})"))
                }
                error => wrong(error.to_string()),
            })?;
        let response = response_of(&answer, std::mem::take(&mut page.body));
        let bytes = answer.body.len();
        let count = page.items.len();
        let mut step = self.advance(asked, &answer, &response, pages, (&page, count))?;
        if step != Step::Done && self.is_behind(window, &page, bytes, &response)? {
            step = Step::Done;
        }
        let done = step == Step::Done && self.is_last_file();
        let validator = self.validator_of(asked, &answer, pages, step);
        Ok((Arrived { page, response, bytes, received_at, done, validator }, step))
    }

    /// Finds out where the page after this one is, which had `count` items.
    pub(super) fn advance(
        &self,
        asked: &Asked,
        answer: &Answer,
        response: &Arc<Value>,
        pages: &mut Pages<'_>,
        (page, count): (&Page, usize),
    ) -> Result<Step, PollFailure> {
        if pages.is_one() {
            return Ok(Step::Done);
        }
        let asked_for = describe(&self.requests().method, &asked.url);
        let wrong = |problem: String| PollFailure::Failed(format!("{asked_for}: {problem}"));
        let pointer = match &self.poll.page.by {
            PageBy::Last { next, .. } => self.last_key(next, page, answer.body.len(), response),
            _ => self.pointer(answer, response),
        };
        let facts = Facts {
            items: count,
            content: page.content,
            pointer: pointer.map_err(wrong)?,
            stop: self.stop(response, pages.position(), count).map_err(wrong)?,
        };
        pages.advance(&asked.url, &facts).map_err(|error| wrong(error.to_string()))
    }

    pub(super) fn response_env(&self, response: &Arc<Value>) -> Env {
        let env = Env::new()
            .with("vars", Arc::clone(self.poller.vars()))
            .with("response", Arc::clone(response));
        match &self.each {
            Some(each) => env.with("each", Arc::clone(each)),
            None => env,
        }
    }

    fn pointer(&self, answer: &Answer, response: &Arc<Value>) -> Result<Pointer, String> {
        match &self.poll.page.by {
            PageBy::Cursor { next, .. } | PageBy::Next { next } => {
                self.token(next, response).map_err(|error| format!("next: {error}"))
            }
            PageBy::Link => {
                let headers = answer.headers.get_all(http::header::LINK).into_iter();
                let link = next_link(headers.filter_map(|value| value.to_str().ok()));
                Ok(link.map_or(Pointer::None, |target| Pointer::To(target.into())))
            }
            PageBy::None | PageBy::Page { .. } | PageBy::Offset { .. } | PageBy::Last { .. } => {
                Ok(Pointer::None)
            }
        }
    }

    /// What `next` says. A path that does not exist is told from one that holds null.
    fn token(&self, next: &Expr, response: &Arc<Value>) -> Result<Pointer, EvalError> {
        if let Some(plain) = Plain::parse(next.source())
            && plain.filters.is_empty()
            && let Err(missing) = walk(&response["body"], &plain.members)
        {
            return Ok(Pointer::Absent(missing));
        }
        let value = match next.eval(&self.response_env(response))? {
            // A path with a wildcard or a filter gives all it finds.
            Some(Value::Array(found)) if next.source().trim_start().starts_with('$') => {
                found.into_iter().next()
            }
            other => other,
        };
        Ok(value.map_or(Pointer::None, Pointer::To))
    }

    /// What `stop` says after a page with so many items.
    pub(super) fn stop(
        &self,
        response: &Arc<Value>,
        position: &Position,
        items: usize,
    ) -> Result<Option<bool>, String> {
        let Some(stop) = &self.poll.page.stop else { return Ok(None) };
        let mut page = Map::new();
        page.insert("number".to_owned(), position.number.into());
        page.insert("offset".to_owned(), position.offset.into());
        page.insert("size".to_owned(), self.poll.page.size.into());
        page.insert("items".to_owned(), items.into());
        let env = self.response_env(response).with("page", Arc::new(Value::Object(page)));
        stop.test(&env).map(Some).map_err(|error| format!("stop: {error}"))
    }
}

/// `response` as expressions see it.
pub(super) fn response_of(answer: &Answer, body: Value) -> Arc<Value> {
    let mut response = Map::new();
    response.insert("status".to_owned(), answer.status.as_u16().into());
    response.insert("headers".to_owned(), Value::Object(header_values(&answer.headers)));
    response.insert("body".to_owned(), body);
    Arc::new(Value::Object(response))
}

pub(super) fn failed(problem: impl std::fmt::Display) -> PollFailure {
    PollFailure::Failed(problem.to_string())
}
