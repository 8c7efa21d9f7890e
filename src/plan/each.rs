//! `each`: what a poll's requests are made for, one after the other.

use std::{collections::BTreeSet, sync::Arc};

use crate::map::Expr;

/// One name of `each`.
#[derive(Clone, Debug)]
pub struct EachPlan {
    /// `each.NAME` in expressions.
    pub name: Arc<str>,
    /// What it stands for.
    pub from: EachFrom,
    /// How many of it a request takes.
    pub group: Group,
}

/// What a name of `each` stands for.
#[derive(Clone, Debug)]
pub enum EachFrom {
    /// The values of a list.
    Values(Expr),
    /// The records of a sibling stream.
    Stream {
        /// Its name.
        stream: Arc<str>,
        /// Within each record the values; `None`: the record itself.
        over: Option<Expr>,
        /// The keys (with `over` the values) that count; empty: all.
        only: Option<Expr>,
        /// Only records that changed since the last time.
        changed: bool,
    },
}

/// How many of a name go into one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// One: the name is it.
    One,
    /// Up to so many: the name is a list.
    Of(usize),
    /// All: the name is a list.
    All,
}

/// What is remembered of a stream's records, because the requests of others are made for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keep {
    /// These members.
    Members(BTreeSet<String>),
    /// All of it.
    Whole,
}

impl Keep {
    /// Adds what a chain of names within the record looks at.
    pub fn add(&mut self, member: Option<&String>) {
        match (&mut *self, member) {
            (Self::Members(members), Some(member)) => drop(members.insert(member.clone())),
            (Self::Members(_), None) => *self = Self::Whole,
            (Self::Whole, _) => {}
        }
    }
}

/// What children ask of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentPlan {
    /// Of its records.
    pub keep: Keep,
    /// Of the names that its own `each` has: those that its children's expressions use.
    pub names: BTreeSet<String>,
    /// Whether the stream exists for them alone: `to = []`. Its records become no events.
    pub only: bool,
}

/// A request that is made for each listed record.
#[derive(Clone, Debug)]
pub struct DetailPlan {
    /// Under which name its answer is joined to `with`; `None`: it is the record.
    pub name: Option<String>,
    /// The request: one page, no cursor. `records` leads to the document.
    pub poll: super::PollPlan,
}
