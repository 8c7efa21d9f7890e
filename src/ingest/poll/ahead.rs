//! Pages that are asked for before their turn, where it is known what to ask for: by `page` and `offset`.
//!
//! What this file promises: pages are handed out one after the other, each as if it had been asked for
//! only then. Nothing of a page is looked at before its turn but whether it came. A page that did not come
//! at the first try is tried again when its turn comes, and that first try counts; what was refused with
//! the same credentials, or lies behind what ends the series, is thrown away.
//!
//! It begins with the next page, and looks further only where pages are full: 1, 2, 4, …, as many as the
//! source has lanes free. Any trouble begins that anew, and sends nothing more that was not sent yet. So
//! a source that is in trouble sees one request at a time, and a short list costs none in vain.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use http::StatusCode;
use serde_json::Value;

use crate::{
    plan::{PageBy, PollPlan},
    world::Timestamp,
};

use super::{
    PollFailure, Poller,
    fetch::{Fetched, Got, Sent, Tried, Trouble},
    page::{Pages, Position},
    request::Asked,
    run::{Arrived, Run},
    source::{Lane, Room},
    window::Window,
};

/// Room is kept for answers at least so long.
const LEAST_ROOM_BYTES: usize = 64 << 10;

/// The pages of one series that were asked for and not handed out, in order.
pub(super) struct Ahead<'a> {
    poller: &'a Poller,
    poll: &'a PollPlan,
    slots: VecDeque<Slot<'a>>,
    /// How many may be under way, the next one included.
    depth: usize,
    /// Whether it may be more after the next page.
    deepen: bool,
    /// The most that ever may.
    deepest: usize,
    /// Of the longest answer so far.
    longest_bytes: usize,
    /// Of the page before: how many items it had.
    items_before: Option<u64>,
    /// How many requests the API still allows, by the last page's account.
    left: Option<u64>,
    /// Requests for pages that nobody will look at.
    in_vain: u64,
}

/// A page that was asked for.
struct Slot<'a> {
    asked: Arc<Asked>,
    sent: Arc<Sent>,
    state: State<'a>,
    /// `None` for a page that was asked for when its turn had come.
    room: Option<Room>,
    /// Of a page on its way before its turn: the next page has that of the series.
    lane: Option<Lane>,
}

enum State<'a> {
    Flying(Pin<Box<dyn Future<Output = Tried> + Send + 'a>>),
    Came(Tried),
}

/// What a try means for the pages behind it.
enum Means {
    /// Nothing.
    Fine,
    /// What was not sent yet had better not be.
    Calm,
    /// They are of no use.
    Over,
}

impl<'a> Ahead<'a> {
    /// Of a series that has not begun.
    pub fn new(poller: &'a Poller, poll: &'a PollPlan) -> Self {
        let counts = matches!(poll.page.by, PageBy::Page { .. } | PageBy::Offset { .. });
        // An answer that is read as it comes waits for nobody, and details use what `concurrency` gives.
        let looks = counts && !poll.decode.streams() && poll.detail.is_empty();
        Self {
            poller,
            poll,
            slots: VecDeque::new(),
            depth: 1,
            deepen: false,
            deepest: if looks { poll.concurrency.max(1) } else { 1 },
            longest_bytes: 0,
            items_before: None,
            left: None,
            in_vain: 0,
        }
    }

    /// The same, which asks for one page after the other.
    pub fn in_order(poller: &'a Poller, poll: &'a PollPlan) -> Self {
        Self { deepest: 1, ..Self::new(poller, poll) }
    }

    /// Takes in a page that came then, with that status.
    pub fn has(&mut self, asked: Asked, got: Got, (at, status): (Timestamp, Option<StatusCode>)) {
        let state = State::Came(Tried { at, outcome: Ok(got) });
        let (asked, sent) = (Arc::new(asked), Arc::new(Sent::default()));
        sent.answered(status);
        self.slots.push_back(Slot { asked, sent, state, room: None, lane: None });
    }

    /// Asks for the next page, if just that was not asked for already.
    pub fn ask(&mut self, asked: Asked) {
        if let Some(slot) = self.slots.front_mut().filter(|slot| slot.asked.is_same(&asked)) {
            slot.lane = None;
            return;
        }
        if !self.slots.is_empty() {
            // Pages lie elsewhere than was foreseen, so they are not foreseen again.
            self.throw_away(0);
            (self.depth, self.deepest) = (1, 1);
        }
        self.send(asked, None);
    }

    fn send(&mut self, asked: Asked, place: Option<(Room, Lane)>) {
        let (asked, sent) = (Arc::new(asked), Arc::new(Sent::default()));
        let (room, lane) = place.unzip();
        let (poller, poll, limit) = (self.poller, self.poll, room.as_ref().map(Room::bytes));
        let (its_asked, its_sent) = (Arc::clone(&asked), Arc::clone(&sent));
        let state = State::Flying(Box::pin(async move {
            let limit_bytes = limit.unwrap_or(usize::MAX);
            let tried = poller.try_once(poll, &its_asked, limit_bytes, &its_sent).await;
            let unsent = limit.is_some() && its_sent.requests() == 0;
            if unsent { Tried { outcome: Err(Trouble::Anew), ..tried } } else { tried }
        }));
        self.slots.push_back(Slot { asked, sent, state, room, lane });
    }

    /// The next page's answer, or why there is none. It has to be asked for before.
    pub async fn next(&mut self) -> (Arc<Asked>, Fetched) {
        let (asked, sent, tried) = poll_fn(|context| {
            self.drive(context);
            self.take().map_or(Poll::Pending, Poll::Ready)
        })
        .await;
        let Tried { at, outcome } = tried;
        let fetched = match outcome {
            Ok(got) => Fetched { requests: 0, status: sent.status(), at, got: Ok(got) },
            Err(trouble) => {
                let tried = Tried { at, outcome: Err(trouble) };
                let fetching = self.poller.fetch_after(self.poll, &asked, tried);
                self.during(fetching).await
            }
        };
        let status = fetched.status.or(sent.status());
        (asked, Fetched { requests: fetched.requests + sent.requests(), status, ..fetched })
    }

    /// The next page, if it came.
    fn take(&mut self) -> Option<(Arc<Asked>, Arc<Sent>, Tried)> {
        let Slot { asked, sent, state, .. } = self.slots.pop_front_if(|slot| slot.came())?;
        let State::Came(tried) = state else { return None };
        Some((asked, sent, tried))
    }

    /// Does something else while pages come.
    pub async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            self.drive(context);
            work.as_mut().poll(context)
        })
        .await
    }

    /// Requests that were sent for nothing, since this was last asked.
    pub fn in_vain(&mut self) -> u64 {
        std::mem::take(&mut self.in_vain)
    }

    /// The series is over: what is still to come is thrown away.
    pub fn end(&mut self) {
        self.throw_away(0);
    }

    fn drive(&mut self, context: &mut Context<'_>) {
        let mut at = 0;
        // What came may cut off what is behind it.
        while let Some(slot) = self.slots.get_mut(at) {
            if let State::Flying(flying) = &mut slot.state
                && let Poll::Ready(tried) = flying.as_mut().poll(context)
            {
                self.came(at, tried);
            }
            at += 1;
        }
    }

    fn came(&mut self, at: usize, tried: Tried) {
        let means = means(&tried);
        let slot = &mut self.slots[at];
        slot.lane = None;
        if let Some(room) = &mut slot.room {
            room.shrink(tried.bytes());
        }
        slot.state = State::Came(tried);
        match means {
            Means::Fine => return,
            Means::Calm => {
                let unsent = |slot: &Slot<'_>| slot.sent.requests() == 0;
                let first = self.slots.iter().skip(at + 1).position(unsent);
                self.throw_away(first.map_or(self.slots.len(), |first| at + 1 + first));
            }
            Means::Over => self.throw_away(at + 1),
        }
        (self.depth, self.deepen) = (1, false);
    }

    fn throw_away(&mut self, from: usize) {
        let gone = self.slots.drain(from.min(self.slots.len())..);
        self.in_vain += gone.map(|slot| slot.sent.requests()).sum::<u64>();
    }

    /// Takes note of a page that is there: how long it is, how many items it has, and how many requests
    /// the API still allows.
    pub fn learn(&mut self, bytes: usize, items: u64, left: Option<u64>) {
        self.left = left;
        self.longest_bytes = self.longest_bytes.max(bytes);
        let full = match (self.poll.page.size, self.items_before) {
            // What stands in for the ends of pages says that there is more.
            _ if self.poll.page.stop.is_some() => items > 0,
            (Some(size), _) => items >= size,
            (None, before) => items > 0 && before.is_some_and(|before| items >= before),
        };
        self.items_before = Some(items);
        self.depth = match (full, self.deepen) {
            (true, true) => self.depth.saturating_mul(2).min(self.deepest),
            (true, false) => self.depth,
            (false, _) => 1,
        };
        self.deepen = full;
    }

    /// Room and a lane for one page more, if it may be asked for.
    fn place(&self) -> Option<(Room, Lane)> {
        let source = &self.poller.source;
        let in_trouble =
            |slot: &Slot<'_>| matches!(&slot.state, State::Came(it) if it.outcome.is_err());
        if self.slots.len() >= self.depth || self.slots.iter().any(in_trouble) {
            return None;
        }
        let now = self.poller.world.clock.now();
        let spent = self.left.is_some_and(|left| left <= source.lanes() as u64);
        if spent || source.limiter.paused(now).is_some() {
            return None;
        }
        let bytes = self.longest_bytes.saturating_mul(2).max(LEAST_ROOM_BYTES);
        let room = source.room(bytes.min(self.poll.max_response_bytes))?;
        Some((room, source.free_lane(self.deepest)?))
    }
}

impl Slot<'_> {
    fn came(&self) -> bool {
        matches!(self.state, State::Came(_))
    }
}

fn means(tried: &Tried) -> Means {
    match &tried.outcome {
        Ok(Got::Answer(_) | Got::Flowing(_) | Got::Skip(_)) => Means::Fine,
        Err(Trouble::Again { .. } | Trouble::Wait { .. } | Trouble::Anew) => Means::Calm,
        // These end the series; and what was sent with credentials that are refused was so in vain.
        Ok(Got::Stop(_) | Got::Restart(_))
        | Err(Trouble::Unauthorized { .. } | Trouble::Final(_)) => Means::Over,
    }
}

impl Run<'_> {
    /// Asks for the page that `pages` stands at, and for as many behind it as are worth it, once a page
    /// arrived.
    pub(super) fn ask_on(
        &self,
        window: &Window,
        pages: &Pages<'_>,
        arrived: &Arrived,
        ahead: &mut Ahead<'_>,
    ) -> Result<(), PollFailure> {
        ahead.ask(self.ask(window, pages.position())?);
        let items = arrived.page.items.len() as u64;
        let items = self.poll.page.size.unwrap_or(items);
        let mut last = Some(pages.position().clone());
        for _ in 1..ahead.slots.len() {
            last = last.and_then(|last| pages.foresee(&last, items));
        }
        while let Some(position) = &last
            && !self.ends_at(position, &arrived.response, items)
            && let Some(next) = pages.foresee(position, items)
            && let Some(place) = ahead.place()
            && let Ok(asked) = self.ask(window, &next)
        {
            ahead.send(asked, Some(place));
            last = Some(next);
        }
        Ok(())
    }

    /// Whether `stop` would hold at a page, going by what another page says: many say how many there are.
    fn ends_at(&self, position: &Position, response: &Arc<Value>, items: u64) -> bool {
        let items = usize::try_from(items).unwrap_or(usize::MAX);
        self.stop(response, position, items).map_or(true, |stop| stop == Some(true))
    }
}
