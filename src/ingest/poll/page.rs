//! Where the next page is: a pure state machine over what a page said.
//!
//! It promises to read every page once and to end: a page that comes again, a token that stays the
//! same, empty pages without end, and a token that a full first page does not have are errors, and
//! a URL of another origin is never followed. It counts raw items, so a filter on our side cannot
//! end a run early.

use std::{collections::HashSet, fmt};

use serde_json::Value;
use url::Url;
use xxhash_rust::xxh3::Xxh3;

use crate::plan::{PageBy, PagePlan};

use super::path::{Missing, kind};

/// How many empty pages in a row `stop` may let pass.
const MAX_EMPTY_PAGES: u32 = 1000;
/// So many pages in a row that a rule gives up end the paging: many an API answers so beyond its last page.
const MAX_SKIPPED_PAGES: u32 = 2;

/// Which page is being asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Position {
    /// `page.number`: the API's own number with `by = "page"`, else counted from 1.
    pub number: i64,
    /// `page.offset`: raw items before this page.
    pub offset: u64,
    /// `page.token`, where the page before gave one.
    pub token: Option<Value>,
    /// The URL to send as it is, with `by = "next"` and `by = "link"`.
    pub url: Option<Url>,
}

impl Position {
    fn move_on(&mut self, items: u64) {
        self.number = self.number.saturating_add(1);
        self.offset = self.offset.saturating_add(items);
    }
}

/// What a page said.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// Raw items, before any filter.
    pub items: usize,
    /// A hash of the items: tells the same page again.
    pub content: u128,
    /// Where the next page is, by the page's own account.
    pub pointer: Pointer,
    /// What `stop` says, where there is one.
    pub stop: Option<bool>,
}

/// What a page says of the next one.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Pointer {
    /// The style has none (`page`, `offset`), or the page has none.
    None,
    /// The path of the token does not exist in the page.
    Absent(Missing),
    /// A token or a URL.
    To(Value),
}

/// What to do after a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Ask for [`Pages::position`].
    Next,
    /// There is no more.
    Done,
    /// There is more, and the API does not give it to this series of pages.
    Deep,
}

/// Why there is no telling where the next page is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PageError {
    /// The token's path does not exist in a full first page.
    NoToken(Missing),
    /// The same page again, by a token (or number) that was used before.
    Repeated {
        /// What asked for it: ``the token at `$.next` ``, `page number 3`.
        by: String,
    },
    /// The next URL leads to another origin than the first request.
    OtherOrigin {
        /// `https://api.example`.
        ours: String,
        /// `https://elsewhere.example`.
        theirs: String,
    },
    /// What should be a URL is none.
    NoUrl,
    /// A token that is neither text nor a number.
    NotAToken(&'static str),
    /// `stop` never held.
    Endless,
}

impl fmt::Display for PageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoToken(missing) => write!(
                f,
                "the first page is full but names no next page: {missing} \
                 (write `| optional` behind `next` if a last page may lack it)"
            ),
            Self::Repeated { by } => write!(f, "the same page came again, asked for by {by}"),
            Self::OtherOrigin { ours, theirs } => write!(
                f,
                "the next page is at {theirs}, but credentials for {ours} go nowhere else"
            ),
            Self::NoUrl => f.write_str("what the page gives as its next page is not a URL"),
            Self::NotAToken(kind) => {
                write!(f, "the next page's token is {kind}, expected text or a number")
            }
            Self::Endless => {
                write!(f, "{MAX_EMPTY_PAGES} empty pages came in a row and `stop` never held")
            }
        }
    }
}

/// The pages of one window, one after another.
#[derive(Debug)]
pub(super) struct Pages<'a> {
    plan: &'a PagePlan,
    position: Position,
    /// The URL of the first request: its origin is the only one that is asked.
    first_url: Option<Url>,
    read: u64,
    /// Hashes of (token, items) of all non-empty pages so far.
    seen: HashSet<u128>,
    /// Items of the page before, for styles that count.
    content_before: Option<u128>,
    empty_in_a_row: u32,
    skipped_in_a_row: u32,
}

impl<'a> Pages<'a> {
    /// Before the first page.
    pub fn new(plan: &'a PagePlan) -> Self {
        let number = if let PageBy::Page { first, .. } = plan.by { first } else { 1 };
        Self {
            plan,
            position: Position { number, offset: 0, token: None, url: None },
            first_url: None,
            read: 0,
            seen: HashSet::new(),
            content_before: None,
            empty_in_a_row: 0,
            skipped_in_a_row: 0,
        }
    }

    /// Whether there is one page, whatever it says.
    pub fn is_one(&self) -> bool {
        matches!(self.plan.by, PageBy::None)
    }

    /// The page to ask for.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// How many pages said where the next one is, or that there is none.
    pub fn read(&self) -> u64 {
        self.read
    }

    /// Goes on after the page at `url` (that of its request) said `facts`.
    pub fn advance(&mut self, url: &Url, facts: &Facts) -> Result<Step, PageError> {
        self.read += 1;
        self.skipped_in_a_row = 0;
        let first_url = self.first_url.get_or_insert_with(|| url.clone()).clone();
        match &self.plan.by {
            PageBy::None => Ok(Step::Done),
            PageBy::Page { .. } => self.count(facts, facts.items as u64, true),
            PageBy::Offset { .. } => {
                // An empty page moves the offset only where its size is known.
                let taken = if facts.items == 0 { self.plan.size.unwrap_or(0) } else { 0 };
                let taken = taken.max(facts.items as u64);
                self.count(facts, taken, taken > 0)
            }
            PageBy::Last { next, .. } => {
                let short = self.plan.size.is_some_and(|size| (facts.items as u64) < size);
                if facts.stop.unwrap_or(facts.items == 0 || short) {
                    return Ok(Step::Done);
                }
                let Some(key) = self.pointer(facts)? else { return Ok(Step::Done) };
                self.guard(&key, facts, || format!("the last record's `{}`", next.source()))?;
                self.position.token = Some(key);
                Ok(self.go_on(facts.items as u64))
            }
            PageBy::Cursor { next, .. } => {
                let Some(token) = self.pointer(facts)? else { return Ok(Step::Done) };
                self.guard(&token, facts, || format!("the token at `{}`", next.source()))?;
                self.position.token = Some(token);
                Ok(self.go_on(facts.items as u64))
            }
            PageBy::Next { .. } | PageBy::Link => {
                let Some(target) = self.pointer(facts)? else { return Ok(Step::Done) };
                let Value::String(target) = target else {
                    return Err(PageError::NotAToken(kind(&target)));
                };
                let next = same_origin(url, &first_url, &target)?;
                let shown = format!("`{}`", next.path());
                self.guard(&Value::String(next.to_string()), facts, || shown)?;
                self.position.url = Some(next);
                Ok(self.go_on(facts.items as u64))
            }
        }
    }

    /// Goes on after a page that a rule gave up, where it is known where the next one is. The first page
    /// stands for all: nothing says that there is another one.
    pub fn skip(&mut self) -> Step {
        self.skipped_in_a_row += 1;
        let items = self.plan.size.unwrap_or(0);
        match self.plan.by {
            _ if self.read == 0 || self.skipped_in_a_row >= MAX_SKIPPED_PAGES => Step::Done,
            PageBy::Page { .. } => self.go_on(items),
            PageBy::Offset { .. } if items > 0 => self.go_on(items),
            _ => Step::Done,
        }
    }

    /// For styles that only count: on until a page is empty, or smaller than asked for.
    fn count(&mut self, facts: &Facts, taken: u64, moves: bool) -> Result<Step, PageError> {
        let short = self.plan.size.is_some_and(|size| (facts.items as u64) < size);
        let by_default = facts.items == 0 || short;
        if facts.stop.unwrap_or(by_default) || !moves {
            return Ok(Step::Done);
        }
        if facts.items > 0 && self.content_before == Some(facts.content) {
            let by = match self.plan.by {
                PageBy::Offset { .. } => format!("offset {}", self.position.offset),
                _ => format!("page number {}", self.position.number),
            };
            return Err(PageError::Repeated { by });
        }
        self.content_before = Some(facts.content);
        self.empty_guard(facts)?;
        Ok(self.go_on(taken))
    }

    fn go_on(&mut self, items: u64) -> Step {
        self.position.move_on(items);
        if self.is_deep(&self.position) { Step::Deep } else { Step::Next }
    }

    /// Whether the API does not give the page there to this series.
    fn is_deep(&self, position: &Position) -> bool {
        let reach = position.offset.saturating_add(self.plan.size.unwrap_or(1));
        self.plan.max.is_some_and(|max| reach > max)
    }

    /// Where the page after `position` will be, should it hold so many items; `None` where only what the
    /// page says can tell.
    pub fn foresee(&self, position: &Position, items: u64) -> Option<Position> {
        let counts = match self.plan.by {
            PageBy::Page { .. } => true,
            PageBy::Offset { .. } => items > 0,
            _ => false,
        };
        let mut next = position.clone();
        next.move_on(items);
        (counts && !self.is_deep(&next)).then_some(next)
    }

    /// The token or URL to go on with; `None` where this was the last page.
    fn pointer(&self, facts: &Facts) -> Result<Option<Value>, PageError> {
        let full = self.plan.size.is_some_and(|size| facts.items as u64 >= size);
        let pointer = match &facts.pointer {
            Pointer::Absent(missing) if self.read == 1 && full => {
                return Err(PageError::NoToken(missing.clone()));
            }
            Pointer::None | Pointer::Absent(_) => return Ok(None),
            Pointer::To(value) => value,
        };
        if facts.stop.unwrap_or(facts.items == 0) {
            return Ok(None);
        }
        match pointer {
            Value::Null | Value::Bool(false) => Ok(None),
            Value::String(text) if text.is_empty() => Ok(None),
            Value::String(_) | Value::Number(_) => Ok(Some(pointer.clone())),
            other => Err(PageError::NotAToken(kind(other))),
        }
    }

    /// Refuses a (token, page) pair that was there before, and empty pages without end.
    fn guard(
        &mut self,
        token: &Value,
        facts: &Facts,
        by: impl FnOnce() -> String,
    ) -> Result<(), PageError> {
        self.empty_guard(facts)?;
        if facts.items == 0 {
            return Ok(());
        }
        let mut hash = Xxh3::new();
        hash.update(&facts.content.to_le_bytes());
        hash.update(token.to_string().as_bytes());
        if self.seen.insert(hash.digest128()) {
            Ok(())
        } else {
            Err(PageError::Repeated { by: by() })
        }
    }

    fn empty_guard(&mut self, facts: &Facts) -> Result<(), PageError> {
        self.empty_in_a_row = if facts.items == 0 { self.empty_in_a_row + 1 } else { 0 };
        if self.empty_in_a_row >= MAX_EMPTY_PAGES { Err(PageError::Endless) } else { Ok(()) }
    }
}

/// `target` as seen from `url`, if it stays where the first request went.
fn same_origin(url: &Url, first: &Url, target: &str) -> Result<Url, PageError> {
    let mut next = url.join(target).map_err(|_| PageError::NoUrl)?;
    if next.origin() != first.origin() {
        return Err(PageError::OtherOrigin {
            ours: first.origin().ascii_serialization(),
            theirs: next.origin().ascii_serialization(),
        });
    }
    next.set_fragment(None);
    Ok(next)
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
