//! Rules for a destination's answers, as the runtime sees them.

use std::{fmt, ops::RangeInclusive};

use super::{WaitPlan, on};
use crate::map::Expr;

/// A rule of a destination's `on`: what an answer means. The first that fits decides.
#[derive(Clone, Debug)]
pub struct VerdictPlan {
    /// The statuses that it is for; empty: any.
    pub statuses: Vec<RangeInclusive<u16>>,
    /// Which answers it is for; `None`: all of these statuses.
    pub when: Option<Expr>,
    /// What becomes of the event then.
    pub then: Verdict,
    /// What is logged, and stands in a dead letter.
    pub message: Option<Expr>,
    /// The reason of a dead letter.
    pub reason: Option<String>,
    /// Whether it looks at one event of a batch, or at its result: such a rule decides for that
    /// event alone.
    pub of_item: bool,
}

/// What a rule makes of an event.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It is attempted again; the attempt counts.
    Retry {
        /// How often, where that is fewer than `[retry]` allows.
        times: Option<u32>,
        /// What becomes of it when that did not help.
        otherwise: Ending,
    },
    /// It is attempted again when the destination says, which counts as no attempt; `None`: by
    /// `Retry-After`, or after a pause.
    Wait(Option<WaitPlan>),
    /// The credentials are renewed once and the request is sent again.
    Reauth,
    /// It ends so.
    End(Ending),
}

/// How an event ends, or what ends all for the time being.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// The destination has it.
    Delivered,
    /// The destination has a newer state of the thing.
    Superseded,
    /// A dead letter.
    #[default]
    Dead,
    /// The destination is parked.
    Hold,
}

impl VerdictPlan {
    /// Whether it is for that status.
    pub fn is_for(&self, status: u16) -> bool {
        on::covers(&self.statuses, status)
    }

    /// What it evaluates.
    pub fn exprs(&self) -> impl Iterator<Item = &Expr> {
        let waits = match &self.then {
            Verdict::Wait(Some(plan)) => plan.expr(),
            _ => None,
        };
        self.when.iter().chain(&self.message).chain(waits)
    }

    /// Whether events may count as done because of it that the destination did not take.
    pub fn gives_up(&self) -> bool {
        let ends = |end: Ending| matches!(end, Ending::Delivered | Ending::Superseded);
        match self.then {
            Verdict::End(end) => ends(end),
            Verdict::Retry { otherwise, .. } => ends(otherwise),
            Verdict::Wait(_) | Verdict::Reauth => false,
        }
    }
}

/// ``409 when `{{ ... }}` → delivered``, for people.
impl fmt::Display for VerdictPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        on::write_condition(f, &self.statuses, self.when.as_ref())?;
        write!(f, " → {}", self.then)?;
        if let Some(message) = &self.message {
            write!(f, ", \"{}\"", message.source())?;
        }
        self.reason.as_ref().map_or(Ok(()), |reason| write!(f, ", reason {reason}"))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry { times, otherwise } => {
                f.write_str("retry")?;
                if let Some(times) = times {
                    write!(f, " {times} times")?;
                }
                match otherwise {
                    Ending::Dead => Ok(()),
                    other => write!(f, ", else {}", other.word()),
                }
            }
            Self::Wait(plan) => on::write_wait(f, plan.as_ref()),
            Self::Reauth => f.write_str("reauth"),
            Self::End(end) => f.write_str(end.word()),
        }
    }
}

impl Ending {
    /// As it is written in the file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Superseded => "superseded",
            Self::Dead => "dead",
            Self::Hold => "hold",
        }
    }
}
