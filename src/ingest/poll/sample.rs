//! For `tenon try`: the first page's records, with nothing appended and no cursor moved. Of a poll with
//! `each` it is the first partition's first page; the parents it needs are sampled in the same way.

use std::sync::Arc;

use serde_json::json;

use crate::{
    egress::header_values,
    event::{Origin, Record},
    ingest::{Incoming, name_event},
    map::Env,
    plan::{EachFrom, PollPlan},
};

use super::{
    PollFailure, PollReport, Poller,
    explode::Explode,
    fanout::Trail,
    fetch::Got,
    group::{Next, Units},
    page::Pages,
    parents::{Pass, PendingParents, parents_prefix},
    run::{Part, failed},
    stream::page_of,
    window::{Window, windows},
};

/// A record, and what names it.
pub struct Sampled {
    /// The record.
    pub record: Record,
    /// `vars`, `response`, and `up` and `each` where there are such.
    pub env: Env,
}

impl Poller {
    /// At most `max` records.
    pub async fn sample(&self, max: usize) -> Result<Vec<Sampled>, PollFailure> {
        let poll = self.poll()?;
        for parent in self.parents() {
            self.sample_parent(&parent).await?;
        }
        let Some(part) = self.first_part(poll)? else {
            return Err(failed(format!(
                "stream `{}` is read for each record of another one, and that has none",
                self.stream.name
            )));
        };
        let each = part.each.clone();
        let now = self.world.clock.now();
        let cursor = part.stored.as_ref().ok().and_then(|stored| stored.cursor.clone());
        let mut windows = windows(poll.cursor.as_deref(), cursor.as_ref(), now);
        let window = windows.next().unwrap_or_else(Window::open);
        let mut report = PollReport::default();
        let mut run = self.begin(poll, part, None, now, &mut report)?;
        let first = if let Some(plan) = &poll.job {
            Box::pin(run.first_of_job(plan, &window)).await?
        } else {
            let asked = run.ask(&window, Pages::new(&poll.page).position())?;
            let got = self.fetch(poll, &asked).await.got?;
            Some((asked, got))
        };
        let Some((asked, got)) = first else { return Ok(Vec::new()) };
        let (answer, page) = match got {
            Got::Answer(answer) => {
                let page = page_of(poll, &asked, &answer, true).map_err(failed)?;
                (answer, page)
            }
            Got::Flowing(flowing) => self.first_of(poll, &asked, flowing, max).await?,
            Got::Skip(_) | Got::Stop(_) => return Ok(Vec::new()),
            Got::Restart(message) => return Err(PollFailure::Failed(message)),
        };
        let response = json!({
            "status": answer.status.as_u16(),
            "headers": header_values(&answer.headers),
            "body": page.body,
        });
        let mut env =
            Env::new().with("vars", Arc::clone(self.vars())).with("response", Arc::new(response));
        if let Some(each) = each {
            env = env.with("each", each);
        }
        let mut explode = Explode::of(poll.records.as_ref(), &self.stream);
        let mut opened = Vec::new();
        for item in page.items {
            explode.open(item, answer.body.len(), &mut opened).map_err(failed)?;
            if opened.len() >= max {
                break;
            }
        }
        if opened.is_empty() {
            explode.end_page().map_err(failed)?;
        }
        let sampled = opened.into_iter().take(max).map(|one| {
            let env = env.clone();
            let env = one.up.map_or_else(|| env.clone(), |up| env.clone().with("up", up));
            Sampled { record: one.record, env }
        });
        Ok(sampled.collect())
    }

    /// The streams whose records this one is read for.
    pub fn parents(&self) -> Vec<Arc<str>> {
        let each = self.stream.poll.iter().flat_map(|poll| &poll.each);
        each.filter_map(|each| match &each.from {
            EachFrom::Stream { stream, .. } => Some(Arc::clone(stream)),
            EachFrom::Values(_) => None,
        })
        .collect()
    }

    fn first_part(&self, poll: &PollPlan) -> Result<Option<Part>, PollFailure> {
        if poll.each.is_empty() {
            return Ok(Some(self.whole()));
        }
        let (mut units, mut trail) = (Units::new(self, poll, None)?, Trail::default());
        loop {
            match units.next(&mut trail) {
                Next::Unit(unit) => return Ok(Some(unit.part)),
                Next::Later => {}
                Next::End => return Ok(None),
            }
        }
    }

    /// Remembers the first page's records of a parent, unless there are some.
    async fn sample_parent(&self, name: &str) -> Result<(), PollFailure> {
        let prefix = parents_prefix(&self.connector.name, name);
        let stream = self.connector.streams.iter().find(|stream| &*stream.name == name);
        let (Some(stream), true) = (stream, self.bus.state_page(&prefix, None, 1).is_empty())
        else {
            return Ok(());
        };
        let parent = Self { stream: Arc::clone(stream), ..self.clone() };
        let Some(seen) = parent.begin_parents(Pass::Live) else { return Ok(()) };
        let sampled = Box::pin(parent.sample(usize::MAX)).await?;
        let each = parent.poll().and_then(|poll| parent.first_part(poll))?.and_then(|p| p.each);
        let mut writes = PendingParents::new();
        for Sampled { record, env } in sampled {
            let received_at = self.world.clock.now();
            let incoming =
                Incoming { record, origin: Origin::Poll, received_at, traceparent: None, env };
            if let Ok(Some(event)) = name_event(&self.connector, stream, incoming) {
                parent.remember(&seen, &event.event, (each.as_ref(), received_at), &mut writes);
            }
        }
        self.write_parents(&seen, writes).await.map(drop)
    }
}
