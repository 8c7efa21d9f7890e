//! Partitions: what a poll with `each` is read for, one after the other, in an order that a restart
//! finds again.
//!
//! A partition is one combination of what the names of `each` stand for. It is named by those values,
//! and its state is kept under that name, so one that appears later begins at `start` whatever the
//! others have read, and one that disappears finds its state when it comes back. Parents are looked
//! up page by page; however many there are, a few hundred are in memory.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use serde_json::{Map, Value};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::{
    map::{Env, Expr},
    plan::{EachFrom, EachPlan, PollPlan},
};

use super::{
    PollFailure, Poller,
    parents::{PARENTS_A_PAGE, Parent, parents_prefix},
    run::failed,
};

/// One combination.
#[derive(Clone, Debug)]
pub(super) struct Partition {
    /// Its values, joined by `/`: the end of its state's key.
    pub id: String,
    /// For people: `project=17, channel=email`.
    pub label: String,
    /// `each` as expressions see it.
    pub each: Map<String, Value>,
    /// Changes with its parents, where `changed` asks for that.
    pub version: Option<u64>,
    /// Where it stands in the order: to go on behind it.
    pub position: Vec<String>,
}

/// One of what a name stands for.
#[derive(Clone, Debug)]
struct Member {
    id: String,
    /// The parent up to which, this one included, nothing is left.
    position: String,
    value: Arc<Value>,
    /// What it was read for itself.
    brings: Value,
    version: u64,
}

/// What a look for the next one comes to.
pub(super) enum Looked {
    /// This.
    At(Partition),
    /// At so many parents that there is nothing to ask for: others may run before the next look.
    InVain(u32),
    /// There are no more.
    Over,
}

/// All partitions of a poll, in order.
pub(super) struct Partitions<'a> {
    poller: &'a Poller,
    dimensions: Vec<Dimension<'a>>,
    current: Vec<Member>,
    /// Where to go on, until it is reached.
    resume: Option<Vec<String>>,
}

impl<'a> Partitions<'a> {
    /// From the beginning, or behind `after`.
    pub fn new(
        poller: &'a Poller,
        poll: &'a PollPlan,
        after: Option<Vec<String>>,
    ) -> Result<Self, PollFailure> {
        let dimensions = poll.each.iter().map(|each| Dimension::new(poller, each));
        let dimensions: Vec<_> = dimensions.collect::<Result<_, _>>()?;
        let resume = after.filter(|after| after.len() == dimensions.len());
        let mut partitions = Self { poller, dimensions, current: Vec::new(), resume };
        partitions.enter(0);
        Ok(partitions)
    }

    /// Looks for the next one.
    pub fn next(&mut self) -> Looked {
        let depth = self.dimensions.len();
        // A look in vain goes on in the dimension behind what is current.
        let mut at = depth.min(self.current.len() + 1) - 1;
        loop {
            self.current.truncate(at);
            match self.dimensions[at].next(self.poller) {
                Some(Ok(member)) => self.current.push(member),
                Some(Err(in_vain)) => return Looked::InVain(in_vain),
                None if at == 0 => return Looked::Over,
                None => {
                    self.current.truncate(at - 1);
                    return Looked::InVain(1);
                }
            }
            if at + 1 == depth {
                return Looked::At(self.partition());
            }
            at += 1;
            self.enter(at);
        }
    }

    /// Sets a dimension to its beginning, or to where the last run ended.
    fn enter(&mut self, at: usize) {
        let last = at + 1 == self.dimensions.len();
        let here = |(member, position): (&Member, &String)| member.position == *position;
        let resume =
            self.resume.as_ref().filter(|resume| self.current.iter().zip(*resume).all(here));
        match resume {
            Some(resume) => self.dimensions[at].seek(self.poller, &resume[at], !last),
            None => self.dimensions[at].rewind(),
        }
        if last {
            self.resume = None;
        }
    }

    fn partition(&self) -> Partition {
        let mut id = String::new();
        let (mut label, mut each, mut version) = (String::new(), Map::new(), None::<Xxh3>);
        for (dimension, member) in self.dimensions.iter().zip(&self.current) {
            if !label.is_empty() {
                id.push('/');
                label.push_str(", ");
            }
            escape(&member.id, &mut id);
            label.push_str(&dimension.plan.name);
            label.push('=');
            label.push_str(&member.id);
            if let Value::Object(brought) = &member.brings {
                each.extend(brought.iter().map(|(name, value)| (name.clone(), value.clone())));
            }
            each.insert(dimension.plan.name.to_string(), Value::clone(&member.value));
            if matches!(dimension.plan.from, EachFrom::Stream { changed: true, .. }) {
                version.get_or_insert_default().update(&member.version.to_le_bytes());
            }
        }
        let position = self.current.iter().map(|member| member.position.clone()).collect();
        Partition { id, label, each, version: version.map(|hash| hash.digest()), position }
    }
}

/// A `/` within a value must not look like one between two.
fn escape(id: &str, out: &mut String) {
    for character in id.chars() {
        if matches!(character, '/' | '\\') {
            out.push('\\');
        }
        out.push(character);
    }
}

/// What one name stands for.
struct Dimension<'a> {
    plan: &'a EachPlan,
    source: Source<'a>,
    /// What was looked up.
    ready: VecDeque<Member>,
    /// The parent that was made ready last.
    behind: String,
    /// What was handed out of values that several parents may have.
    met: HashSet<u64>,
}

enum Source<'a> {
    Values {
        all: Vec<Value>,
        at: usize,
    },
    Parents {
        prefix: String,
        over: Option<&'a Expr>,
        only: Option<HashSet<String>>,
        /// The last key that was looked up.
        after: Option<String>,
        ended: bool,
    },
}

impl<'a> Dimension<'a> {
    fn new(poller: &Poller, plan: &'a EachPlan) -> Result<Self, PollFailure> {
        let source = match &plan.from {
            EachFrom::Values(values) => Source::Values { all: list(poller, plan, values)?, at: 0 },
            EachFrom::Stream { stream, over, only, .. } => {
                let only = only.as_ref().map(|only| list(poller, plan, only)).transpose()?;
                let only = only.filter(|only| !only.is_empty());
                Source::Parents {
                    prefix: parents_prefix(&poller.connector.name, stream),
                    over: over.as_ref(),
                    only: only.map(|only| only.iter().map(text).collect()),
                    after: None,
                    ended: false,
                }
            }
        };
        Ok(Self {
            plan,
            source,
            ready: VecDeque::new(),
            behind: String::new(),
            met: HashSet::new(),
        })
    }

    fn rewind(&mut self) {
        self.ready.clear();
        self.behind.clear();
        self.met.clear();
        match &mut self.source {
            Source::Values { at, .. } => *at = 0,
            Source::Parents { after, ended, .. } => (*after, *ended) = (None, false),
        }
    }

    /// Goes on at `position`, or behind it.
    fn seek(&mut self, poller: &Poller, position: &str, inclusive: bool) {
        self.rewind();
        match &mut self.source {
            Source::Values { all, at } => {
                let found = all.iter().position(|value| text(value) == position);
                *at = found.map_or(0, |found| if inclusive { found } else { found + 1 });
            }
            Source::Parents { prefix, after, .. } => {
                let key = format!("{prefix}{position}");
                let known = if inclusive { poller.bus.state(&key) } else { None };
                *after = Some(key.clone());
                if let Some(bytes) = known {
                    self.admit(poller, &key, &bytes);
                }
            }
        }
    }

    /// The next member; or how many parents stood for none, after a page of such.
    fn next(&mut self, poller: &Poller) -> Option<Result<Member, u32>> {
        if let Some(member) = self.ready.pop_front() {
            return Some(Ok(member));
        }
        let page = match &mut self.source {
            Source::Values { all, at } => {
                let value = all.get(*at)?;
                *at += 1;
                let (id, brings) = (text(value), Value::Null);
                let (position, value) = (id.clone(), Arc::new(value.clone()));
                return Some(Ok(Member { id, position, value, brings, version: 0 }));
            }
            Source::Parents { ended: true, .. } => return None,
            Source::Parents { prefix, after, ended, .. } => {
                let page = poller.bus.state_page(prefix, after.as_deref(), PARENTS_A_PAGE);
                *ended = page.len() < PARENTS_A_PAGE;
                *after = page.last().map(|(key, _)| key.clone()).or(after.take());
                page
            }
        };
        let count = u32::try_from(page.len()).unwrap_or(u32::MAX);
        for (key, bytes) in page {
            self.admit(poller, &key, &bytes);
        }
        Some(self.ready.pop_front().ok_or(count))
    }

    /// Makes ready what a parent stands for.
    fn admit(&mut self, poller: &Poller, key: &str, bytes: &[u8]) {
        let Source::Parents { prefix, over, only, .. } = &self.source else { return };
        let id = &key[prefix.len()..];
        let parent = match Parent::decode(bytes) {
            Ok(parent) => parent,
            Err(error) => {
                let (connector, stream) = (&poller.connector.name, &poller.stream.name);
                tracing::error!(%connector, %stream, parent = id, "a parent is left out: {error}");
                return;
            }
        };
        let counts = |id: &str| only.as_ref().is_none_or(|only| only.contains(id));
        let record = Arc::new(parent.record);
        let member = |id: String, value| Member {
            id,
            position: String::new(),
            value,
            brings: parent.each.clone(),
            version: parent.version,
        };
        let before = std::mem::replace(&mut self.behind, id.to_owned());
        let Some(over) = over else {
            if counts(id) {
                let member = Member { position: id.to_owned(), ..member(id.to_owned(), record) };
                self.ready.push_back(member);
            }
            return;
        };
        let env = vars(poller).with("record", record);
        let values = match over.eval(&env) {
            Ok(Some(Value::Array(values))) => values,
            Ok(Some(Value::Null) | None) | Err(_) => Vec::new(),
            Ok(Some(value)) => vec![value],
        };
        let first = self.ready.len();
        for value in values {
            let name = text(&value);
            if counts(&name) && self.met.insert(xxh3_64(name.as_bytes())) {
                let member = Member { position: before.clone(), ..member(name, Arc::new(value)) };
                self.ready.push_back(member);
            }
        }
        // Only behind the last value of a parent is the parent done.
        if let Some(last) = self.ready.range_mut(first..).last() {
            id.clone_into(&mut last.position);
        }
    }
}

fn vars(poller: &Poller) -> Env {
    Env::new().with("vars", Arc::clone(poller.vars()))
}

/// The values that a setting gives.
fn list(poller: &Poller, plan: &EachPlan, expr: &Expr) -> Result<Vec<Value>, PollFailure> {
    let given = expr.eval(&vars(poller));
    let given = given.map_err(|error| failed(format!("each.{}: {error}", plan.name)))?;
    Ok(match given {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) if text.is_empty() => Vec::new(),
        Some(Value::Array(values)) => values,
        Some(value) => vec![value],
    })
}

/// A value as a name.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
