//! Details: one more document for each record that a page lists.
//!
//! Several are fetched at once, within the source's budget, and each stands where its record stood, so
//! the cursor moves as it would without them. What was taken in before is not fetched again, where the
//! listed record tells key and revision.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream::FuturesOrdered};
use serde_json::Value;

use crate::{
    bus::NewEvent,
    event::{Event, EventId, Record},
    ingest::presumed,
    map::Env,
    plan::{DetailPlan, PollPlan},
};

use super::{
    PollFailure,
    explode::Opened,
    fetch::{Fetched, Got},
    page::Pages,
    records::take_apart,
    request::{Ask, Asked, build, describe},
    run::{Run, failed},
    window::Window,
};

/// What became of a listed record's details.
#[derive(Debug, Default)]
pub(super) enum Detail {
    /// There are none to fetch.
    #[default]
    None,
    /// This event was taken in before.
    Known(EventId),
    /// A rule gives the record up.
    GivenUp,
    /// They were fetched.
    Fetched {
        /// As it was listed.
        listed: Record,
        /// Documents by name.
        with: Vec<(String, Record)>,
    },
}

impl Detail {
    /// The record as it was listed, where another took its place.
    pub fn listed(&self) -> Option<&Record> {
        match self {
            Self::Fetched { listed, .. } => Some(listed),
            _ => None,
        }
    }

    /// The event that it is, where that was taken in before.
    pub fn known(&self) -> Option<EventId> {
        match self {
            Self::Known(id) => Some(*id),
            _ => None,
        }
    }

    /// Whether the record becomes no event.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Known(_) | Self::GivenUp)
    }
}

impl Run<'_> {
    /// Fetches what belongs to records that are not left out for where they stand.
    pub(super) async fn fetch_details(
        &mut self,
        opened: &mut [Opened],
        window: &Window,
        env: &Env,
    ) -> Result<(), PollFailure> {
        if self.poll.detail.is_empty() {
            return Ok(());
        }
        let mut candidates: Vec<(usize, Option<NewEvent>)> = Vec::with_capacity(opened.len());
        for (at, one) in opened.iter().enumerate() {
            if self.is_within(&one.record, window, env)? {
                candidates.push((at, self.named_as_listed(one, env)));
            }
        }
        let named: Vec<NewEvent> =
            candidates.iter().filter_map(|(_, event)| event.clone()).collect();
        let mut known = self.poller.bus.known(&named).await.into_iter();
        candidates.retain(|(at, event)| {
            let Some(event) = event else { return true };
            let is_parent = |seen| self.poller.is_remembered(seen, &event.event);
            let is_known = known.next() == Some(true) && self.seen.is_none_or(is_parent);
            if is_known {
                opened[*at].detail = Detail::Known(event.event.id);
            }
            !is_known
        });
        // With `each`, partitions are what is read side by side.
        let at_once = if self.poll.each.is_empty() { self.poll.concurrency.max(1) } else { 1 };
        let mut waiting = candidates.iter().map(|(at, _)| *at);
        let mut fetching = FuturesOrdered::new();
        let mut fetched = Vec::with_capacity(candidates.len());
        loop {
            while fetching.len() < at_once
                && let Some(at) = waiting.next()
            {
                fetching.push_back(self.documents(at, &opened[at].record));
            }
            let Some(one) = fetching.next().await else { break };
            let is_over = one.2.iter().any(Result::is_err);
            fetched.push(one);
            if is_over {
                break;
            }
        }
        drop(fetching);
        for (at, sent, documents) in fetched {
            self.report.requests += sent;
            self.place(&mut opened[at], documents)?;
        }
        Ok(())
    }

    /// The event that the listed record would be, where it tells its revision.
    fn named_as_listed(&self, one: &Opened, env: &Env) -> Option<NewEvent> {
        let stream = &self.poller.stream;
        stream.revision.as_ref()?;
        let env = match &one.up {
            Some(up) => env.clone().with("up", Arc::clone(up)),
            None => env.clone(),
        };
        presumed(&self.poller.connector, stream, &one.record, &env).ok()
    }

    /// All documents of the record at `at`, and how many requests they took.
    async fn documents(
        &self,
        at: usize,
        record: &Record,
    ) -> (usize, u64, Vec<Result<Option<Record>, PollFailure>>) {
        let _lane = self.poller.source.lane();
        let (mut sent, mut documents) = (0, Vec::with_capacity(self.poll.detail.len()));
        for plan in &self.poll.detail {
            let (count, document) = self.document(plan, record).await;
            sent += count;
            documents.push(document);
        }
        (at, sent, documents)
    }

    /// One document; `None` where a rule gives it up. How many requests it took.
    async fn document(
        &self,
        plan: &DetailPlan,
        record: &Record,
    ) -> (u64, Result<Option<Record>, PollFailure>) {
        let asked = match self.ask_detail(&plan.poll, record) {
            Ok(asked) => asked,
            Err(failure) => return (0, Err(failure)),
        };
        let Fetched { requests, got, .. } = self.poller.fetch(&plan.poll, &asked).await;
        let (connector, stream) = (&self.poller.connector.name, &self.poller.stream.name);
        let document = match got {
            Ok(Got::Answer(answer)) => {
                let asked_for = describe(&plan.poll.method, &asked.url);
                let wrong = |problem: String| failed(format!("{asked_for}: {problem}"));
                let body = answer.body;
                let bytes = body.len();
                take_apart(plan.poll.records.as_ref(), &body, false)
                    .map_err(|error| wrong(error.to_string()))
                    .and_then(|page| {
                        let first = page.items.into_iter().next();
                        first.ok_or_else(|| wrong("the answer is empty".to_owned()))
                    })
                    .and_then(|item| item.open(bytes).map_err(|error| wrong(error.to_string())))
                    .map(Some)
            }
            Ok(Got::Skip(message) | Got::Stop(message)) => {
                let partition = &self.label;
                tracing::warn!(%connector, %stream, %partition, "a rule gives a record up: {message}");
                Ok(None)
            }
            Ok(Got::Flowing(_)) => Err(failed("a detail is one JSON document")),
            Ok(Got::Restart(message)) => Err(PollFailure::Failed(message)),
            Err(failure) => Err(failure),
        };
        (requests, document)
    }

    fn ask_detail(&self, poll: &PollPlan, record: &Record) -> Result<Asked, PollFailure> {
        let (window, pages) = (Window::open(), Pages::new(&poll.page));
        let ask = Ask {
            vars: self.poller.vars(),
            now: self.now,
            window: &window,
            position: pages.position(),
            each: self.each.as_ref(),
            record: Some(record),
            job: None,
        };
        build(poll, &ask).map_err(failed)
    }

    /// Puts the documents where the listed record stood.
    fn place(
        &mut self,
        one: &mut Opened,
        documents: Vec<Result<Option<Record>, PollFailure>>,
    ) -> Result<(), PollFailure> {
        let (mut main, mut with) = (None, Vec::new());
        for (plan, document) in self.poll.detail.iter().zip(documents) {
            let Some(document) = document? else {
                self.report.skipped += 1;
                one.detail = Detail::GivenUp;
                return Ok(());
            };
            match &plan.name {
                Some(name) => with.push((name.clone(), document)),
                None => main = Some(document),
            }
        }
        let listed = one.record.clone();
        if let Some(main) = main {
            let mut up = Value::clone(listed.value());
            if let (Value::Object(members), Some(outer)) = (&mut up, &one.up) {
                members.insert("up".to_owned(), Value::clone(outer));
            }
            one.up = Some(Arc::new(up));
            one.record = main;
        }
        one.detail = Detail::Fetched { listed, with };
        Ok(())
    }
}

/// Joins documents to what the stream's own `with` says, under their names.
pub(super) fn join(event: &mut NewEvent, with: &[(String, Record)]) {
    let own =
        event.event.with.as_ref().map(|own| String::from_utf8_lossy(own.bytes()).into_owned());
    let own = own.unwrap_or_default();
    let inner = own.trim().strip_prefix('{').and_then(|own| own.strip_suffix('}'));
    let inner = inner.map(str::trim).filter(|inner| !inner.is_empty());
    let mut members: Vec<String> = inner.map(str::to_owned).into_iter().collect();
    for (name, document) in with {
        let name = Value::from(name.as_str());
        members.push(format!("{name}:{}", String::from_utf8_lossy(document.bytes())));
    }
    let joined = Record::from_bytes(format!("{{{}}}", members.join(",")).into());
    let joined = Event { with: Some(joined), ..Event::clone(&event.event) };
    event.event = Arc::new(joined);
}
