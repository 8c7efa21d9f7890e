//! Response rules, as the runtime sees them.

use std::{fmt, ops::RangeInclusive, time::Duration};

use crate::map::Expr;

/// A rule of `on`: what an answer means. The first that fits decides.
#[derive(Clone, Debug)]
pub struct RulePlan {
    /// The statuses that it is for; empty: any.
    pub statuses: Vec<RangeInclusive<u16>>,
    /// Which answers it is for; `None`: all of these statuses.
    pub when: Option<Expr>,
    /// What happens then.
    pub then: Then,
    /// What is logged.
    pub message: Option<Expr>,
}

/// What a rule does.
#[derive(Clone, Debug)]
pub enum Then {
    /// The request is sent again, later and later.
    Retry {
        /// How often.
        times: u32,
        /// What happens when that did not help; `None`: the run ends and comes back later.
        otherwise: Option<End>,
    },
    /// The request is sent again when the API says; `None`: by `Retry-After` or the backoff.
    Wait(Option<WaitPlan>),
    /// The credentials are renewed once and the request is sent again.
    Reauth,
    /// The window is read again.
    Restart,
    /// The request ends here.
    End(End),
}

/// How a request ends that gives no records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As an empty last page, counted and logged.
    Skip,
    /// The run ends well.
    Stop,
    /// The run ends as a failure.
    Fail,
    /// The poll is parked.
    Hold,
}

/// How long a `wait` is.
#[derive(Clone, Debug)]
pub enum WaitPlan {
    /// So long.
    For(Duration),
    /// As many seconds as this gives, or a duration.
    ForGiven(Expr),
    /// Until the time that this gives: seconds since 1970, or a time.
    Until(Expr),
}

impl RulePlan {
    /// Whether records may be left unread because of it.
    pub fn gives_up(&self) -> bool {
        let ends = |end: End| matches!(end, End::Skip | End::Stop);
        match self.then {
            Then::End(end) => ends(end),
            Then::Retry { otherwise, .. } => otherwise.is_some_and(ends),
            Then::Wait(_) | Then::Reauth | Then::Restart => false,
        }
    }
}

/// ``404, 410 when `{{ ... }}` → skip``, for people.
impl fmt::Display for RulePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.statuses.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            match (range.start(), range.end()) {
                (from, to) if from == to => write!(f, "{comma}{from}")?,
                (from, _) => write!(f, "{comma}{}xx", from / 100)?,
            }
        }
        if let Some(when) = &self.when {
            let space = if self.statuses.is_empty() { "" } else { " " };
            write!(f, "{space}when {}", when.source())?;
        }
        write!(f, " → {}", self.then)?;
        self.message.as_ref().map_or(Ok(()), |message| write!(f, ", \"{}\"", message.source()))
    }
}

impl fmt::Display for Then {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry { times, otherwise: None } => write!(f, "retry {times} times"),
            Self::Retry { times, otherwise: Some(end) } => {
                write!(f, "retry {times} times, else {}", end.word())
            }
            Self::Wait(None) => f.write_str("wait"),
            Self::Wait(Some(WaitPlan::For(time))) => write!(f, "wait {}s", time.as_secs_f64()),
            Self::Wait(Some(WaitPlan::ForGiven(expr))) => write!(f, "wait for {}", expr.source()),
            Self::Wait(Some(WaitPlan::Until(expr))) => write!(f, "wait until {}", expr.source()),
            Self::Reauth => f.write_str("reauth"),
            Self::Restart => f.write_str("restart"),
            Self::End(end) => f.write_str(end.word()),
        }
    }
}

impl End {
    /// As it is written in the file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Stop => "stop",
            Self::Fail => "fail",
            Self::Hold => "hold",
        }
    }
}
