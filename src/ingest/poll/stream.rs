//! Answers that are no plain JSON: documents are unpacked and turned into it as a whole, lines and rows
//! become events while the answer is still coming in.
//!
//! A page of any length runs in bounded memory: records are appended in groups, the next bytes are
//! read when a group is durable, and the cursor moves with the last group only. What breaks off is read
//! again by the next run, and what of it is durable by then is known.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use serde_json::Value;
use xxhash_rust::xxh3::Xxh3;

use crate::{
    egress::{Answer, Flowing},
    event::Record,
    ingest::decode::{Decoder, Described, documents},
    plan::PollPlan,
};

use super::{
    PollFailure, PollReport, Poller,
    detail::Detail,
    explode::Opened,
    page::{Pages, Step},
    records::{Item, Page, RecordsError, take_apart},
    request::{Asked, describe},
    run::{Run, failed, response_of},
    store::Intake,
    window::Window,
};

/// Bytes decoded before their records are taken: what they unpack to is bounded.
const STEP_BYTES: usize = 16 << 10;

impl Run<'_> {
    /// One page, from its first byte to its last.
    pub(super) async fn stream(
        &mut self,
        asked: &Asked,
        mut flowing: Flowing,
        pages: &mut Pages<'_>,
        window: &Window,
        progress: &(dyn Fn(&PollReport) + Send + Sync),
    ) -> Result<Step, PollFailure> {
        let received_at = self.poller.world.clock.now();
        let answer = head_of(&flowing);
        let response = response_of(&answer, Value::Null);
        let mut reading = Reading::new(self.poll, &flowing);
        let mut intake = Intake::new(self.response_env(&response), received_at, 0);
        let (mut hash, mut last, mut opened) = (Xxh3::new(), None, Vec::new());
        while let Some(records) = reading.more(asked, &mut flowing).await? {
            for record in records {
                hash.update(record.bytes());
                hash.update(b"\n");
                last = Some(record.clone());
                opened.push(Opened { record, up: None, detail: Detail::None });
                if opened.len() >= self.at_once() {
                    self.take_all(&mut opened, window, &mut intake).await?;
                }
                if intake.is_full() {
                    self.append_all(&mut intake, Vec::new()).await?;
                    progress(self.report);
                }
            }
        }
        self.take_all(&mut opened, window, &mut intake).await?;
        let count = usize::try_from(intake.records).unwrap_or(usize::MAX);
        // Of its items, only the last counts for what comes next.
        let items = last.into_iter().map(Item::Parsed).collect();
        let page = Page { items, body: Value::Null, content: hash.digest128() };
        let step = self.advance(asked, &answer, &response, pages, (&page, count))?;
        let validator = self.validator_of(asked, &answer, pages, step);
        let done = step == Step::Done && self.is_last_file();
        let state = self.state_after(window, done, received_at, validator);
        self.append_all(&mut intake, state).await?;
        self.report.pages += 1;
        Ok(step)
    }
}

/// A page that is being read.
struct Reading {
    decoder: Decoder,
    /// Came in, not decoded yet.
    rest: Bytes,
    ended: bool,
}

impl Reading {
    fn new(poll: &PollPlan, flowing: &Flowing) -> Self {
        let decoder = Decoder::new(&poll.decode, flowing.gzipped, poll.max_response_bytes);
        Self { decoder, rest: Bytes::new(), ended: false }
    }

    /// The next records; none where their end has not come. `None`: the page is read.
    async fn more(
        &mut self,
        asked: &Asked,
        flowing: &mut Flowing,
    ) -> Result<Option<Vec<Record>>, PollFailure> {
        if self.ended {
            return Ok(None);
        }
        if self.rest.is_empty() {
            match flowing.piece().await {
                Ok(Some(piece)) => self.rest = piece,
                Ok(None) => self.ended = true,
                Err(error) => {
                    let asked_for = describe(asked.request.method(), &asked.url);
                    let message = format!("{asked_for}: within the answer: {error}");
                    return Err(PollFailure::Later { message, retry_after: None });
                }
            }
        }
        let step = self.rest.split_to(self.rest.len().min(STEP_BYTES));
        let decoded = if self.ended { self.decoder.finish() } else { self.decoder.push(&step) };
        decoded.map_err(|error| {
            failed(format!("{}: {error}", describe(asked.request.method(), &asked.url)))
        })?;
        Ok(Some(self.decoder.take_records()))
    }
}

impl Poller {
    /// The beginning of a page, for `tenon try`.
    pub(super) async fn first_of(
        &self,
        poll: &PollPlan,
        asked: &Asked,
        mut flowing: Flowing,
        max: usize,
    ) -> Result<(Answer, Page), PollFailure> {
        let answer = head_of(&flowing);
        let mut reading = Reading::new(poll, &flowing);
        let mut found = Vec::new();
        while found.len() < max
            && let Some(records) = reading.more(asked, &mut flowing).await?
        {
            found.extend(records);
        }
        let items = found.into_iter().take(max).map(Item::Parsed).collect();
        Ok((answer, Page { items, body: Value::Null, content: 0 }))
    }
}

/// Takes an answer apart, whatever it is written in.
pub(super) fn page_of(
    poll: &PollPlan,
    asked: &Asked,
    answer: &Answer,
    whole: bool,
) -> Result<Page, RecordsError> {
    let records = poll.records.as_ref();
    if poll.decode.is_plain() || answer.body.is_empty() {
        return take_apart(records, &answer.body, whole);
    }
    let named = name_of(asked, answer);
    let content_type = answer.headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let described = Described { content_type, name: named.as_deref() };
    let documents = documents(&poll.decode, &answer.body, &described, poll.max_response_bytes);
    let documents = documents.map_err(|error| RecordsError::Undecodable(error.to_string()))?;
    let mut pages = Vec::with_capacity(documents.len());
    for document in &documents {
        pages.push(take_apart(records, document, whole)?);
    }
    Ok(joined(pages))
}

/// An answer without its body.
pub(super) fn head_of(flowing: &Flowing) -> Answer {
    Answer { status: flowing.status, headers: flowing.headers.clone(), body: Bytes::new() }
}

/// The files of an archive as one page: the first one's body stands for all.
fn joined(pages: Vec<Page>) -> Page {
    let mut pages = pages.into_iter();
    let first = pages.next().unwrap_or(Page { items: Vec::new(), body: Value::Null, content: 0 });
    pages.fold(first, |mut all, page| {
        all.items.extend(page.items);
        all.content = all.content.rotate_left(1) ^ page.content;
        all
    })
}

/// What the file is called: by the answer's account, else by its URL.
fn name_of(asked: &Asked, answer: &Answer) -> Option<Arc<str>> {
    let told = answer.headers.get(CONTENT_DISPOSITION).and_then(|it| it.to_str().ok());
    let told = told.and_then(|told| {
        let (_, name) = told.split_once("filename=")?;
        let name = match name.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next()?,
            None => name.split(';').next()?.trim(),
        };
        // A path would be the server's idea of where to put it.
        name.rsplit(['/', '\\']).next().filter(|name| !name.is_empty())
    });
    let last = asked.url.path_segments().and_then(|mut segments| segments.next_back());
    told.or(last.filter(|name| !name.is_empty())).map(Arc::from)
}
