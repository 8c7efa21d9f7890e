//! `batch`, as the runtime sees it.

use std::time::Duration;

use crate::map::Expr;

/// `[destination.X.batch]`: several events in one request.
#[derive(Clone, Debug)]
pub struct BatchPlan {
    /// Events at most, at least 1.
    pub max: usize,
    /// How long the first event of a batch waits for others.
    pub within: Duration,
    /// Bytes at most, of the mapped records together.
    pub max_bytes: usize,
    /// Where the API answers for each event.
    pub results: Option<ResultsPlan>,
}

/// How each event's own result is found in the answer to a batch.
#[derive(Clone, Debug)]
pub struct ResultsPlan {
    /// Leads from the answer to the results.
    pub list: Expr,
    /// Gives what a result and its event have in common, from either; `None`: results stand in the
    /// order in which the events were sent.
    pub by: Option<Expr>,
    /// Whether a result says that its event was taken; `None`: a rule with `item` says it.
    pub ok: Option<Expr>,
}
