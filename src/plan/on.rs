//! Response rules, as the runtime sees them.

use std::{fmt, ops::RangeInclusive, time::Duration};

use serde_json::Value;

use crate::{
    map::{Env, Expr},
    world::Timestamp,
};

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
    /// Whether it is for that status.
    pub fn is_for(&self, status: u16) -> bool {
        covers(&self.statuses, status)
    }

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

/// Whether a rule for these statuses is for that one.
pub(super) fn covers(statuses: &[RangeInclusive<u16>], status: u16) -> bool {
    statuses.is_empty() || statuses.iter().any(|range| range.contains(&status))
}

/// ``404, 410 when `{{ ... }}` → skip``, for people.
impl fmt::Display for RulePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_condition(f, &self.statuses, self.when.as_ref())?;
        write!(f, " → {}", self.then)?;
        self.message.as_ref().map_or(Ok(()), |message| write!(f, ", \"{}\"", message.source()))
    }
}

/// What a rule is for.
pub(super) fn write_condition(
    f: &mut fmt::Formatter<'_>,
    statuses: &[RangeInclusive<u16>],
    when: Option<&Expr>,
) -> fmt::Result {
    for (index, range) in statuses.iter().enumerate() {
        let comma = if index > 0 { ", " } else { "" };
        match (range.start(), range.end()) {
            (from, to) if from == to => write!(f, "{comma}{from}")?,
            (from, _) => write!(f, "{comma}{}xx", from / 100)?,
        }
    }
    let Some(when) = when else { return Ok(()) };
    let space = if statuses.is_empty() { "" } else { " " };
    write!(f, "{space}when {}", when.source())
}

/// How long a rule waits.
pub(super) fn write_wait(f: &mut fmt::Formatter<'_>, plan: Option<&WaitPlan>) -> fmt::Result {
    match plan {
        None => f.write_str("wait"),
        Some(WaitPlan::For(time)) => write!(f, "wait {}s", time.as_secs_f64()),
        Some(WaitPlan::ForGiven(expr)) => write!(f, "wait for {}", expr.source()),
        Some(WaitPlan::Until(expr)) => write!(f, "wait until {}", expr.source()),
    }
}

impl fmt::Display for Then {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry { times, otherwise: None } => write!(f, "retry {times} times"),
            Self::Retry { times, otherwise: Some(end) } => {
                write!(f, "retry {times} times, else {}", end.word())
            }
            Self::Wait(plan) => write_wait(f, plan.as_ref()),
            Self::Reauth => f.write_str("reauth"),
            Self::Restart => f.write_str("restart"),
            Self::End(end) => f.write_str(end.word()),
        }
    }
}

/// Numbers beyond are milliseconds since 1970: as seconds they would lie in the year 5138.
const FIRST_MILLISECONDS: f64 = 1e11;

impl WaitPlan {
    /// What it evaluates, if anything.
    pub fn expr(&self) -> Option<&Expr> {
        match self {
            Self::For(_) => None,
            Self::ForGiven(expr) | Self::Until(expr) => Some(expr),
        }
    }

    /// How long it is from `now` on; `None` where what the answer has there is no time.
    pub fn lasts(&self, env: &Env, now: Timestamp) -> Option<Duration> {
        let given = |expr: &Expr| expr.eval(env).ok().flatten();
        match self {
            Self::For(duration) => Some(*duration),
            Self::ForGiven(expr) => span(&given(expr)?),
            Self::Until(expr) => Some(moment(&given(expr)?)?.since(now)),
        }
    }
}

/// Seconds as a number or as digits, or a duration such as `30s`.
fn span(value: &Value) -> Option<Duration> {
    if let Some(seconds) = number(value) {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let span: jiff::SignedDuration = value.as_str()?.trim().parse().ok()?;
    (!span.is_negative()).then(|| span.unsigned_abs())
}

/// Seconds or milliseconds since 1970 as a number or as digits, RFC 3339, or an HTTP date.
fn moment(value: &Value) -> Option<Timestamp> {
    if let Some(number) = number(value) {
        let millis = if number < FIRST_MILLISECONDS { number * 1000.0 } else { number };
        return Some(Timestamp(millis as i64));
    }
    let text = value.as_str()?.trim();
    let date = || {
        let zoned = jiff::fmt::rfc2822::parse(text).ok()?;
        Some(Timestamp(zoned.timestamp().as_millisecond()))
    };
    Timestamp::parse_rfc3339(text).or_else(date)
}

fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    (number.is_finite() && number >= 0.0).then_some(number)
}

/// Whether an expression of a rule looks at the answer's body.
pub fn reads_body(expr: &Expr) -> bool {
    let of_body = |(name, member): (String, Option<String>)| {
        name == "response" && member.is_none_or(|member| member == "body")
    };
    expr.source().trim_start().starts_with('$') || expr.uses().into_iter().any(of_body)
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
