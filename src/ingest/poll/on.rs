//! Response rules: what an answer means where the file says so. Pure functions of the answer.
//!
//! Statuses are looked at first, so an answer that no rule is for costs nothing. A body is read
//! only where a rule looks at it, and its records only where a rule looks at those.

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value};

use crate::{
    egress::Answer,
    map::{Env, EvalError, Expr},
    plan::{PollPlan, RulePlan, Then, reads_body},
    world::Timestamp,
};

use super::{
    PollFailure,
    answer::MAX_RETRY_AFTER,
    fetch::Got,
    page::{Pages, Step},
    path::{Plain, touches},
    records::{Page, envelope},
    run::{Arrived, Flow, Run, response_of},
    window::Window,
};

/// Of a body that is no JSON, rules see so much.
const SHOWN_BODY_BYTES: usize = 64 << 10;

/// The rule for an answer, with the names that its expressions see.
pub(super) struct Ruling<'p> {
    /// The first that fits.
    pub rule: &'p RulePlan,
    env: Env,
}

/// The first rule that fits an answer, if any does.
pub(super) fn rule_for<'p>(
    poll: &'p PollPlan,
    vars: &Arc<Value>,
    answer: &Answer,
) -> Result<Option<Ruling<'p>>, EvalError> {
    let mut env = None;
    for rule in poll.on.iter().filter(|rule| rule.is_for(answer.status.as_u16())) {
        let env = env.get_or_insert_with(|| names(poll, vars, answer));
        let fits = match &rule.when {
            None => true,
            Some(when) => when.test(env)?,
        };
        if fits {
            return Ok(Some(Ruling { rule, env: env.clone() }));
        }
    }
    Ok(None)
}

impl Ruling<'_> {
    /// What the rule says, for a person. A text that cannot be made must not hide what happened.
    pub fn message(&self) -> Option<String> {
        let text = self.rule.message.as_ref()?.text(&self.env).ok().flatten()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// How long the rule says to wait; `None`: it leaves that to the API, or what the answer has
    /// there is no time. Never longer than a day.
    pub fn wait(&self, now: Timestamp) -> Option<Duration> {
        let Then::Wait(Some(plan)) = &self.rule.then else { return None };
        Some(plan.lasts(&self.env, now)?.min(MAX_RETRY_AFTER))
    }
}

/// `vars` and `response`, with as much of the body as the rules for this status look at.
fn names(poll: &PollPlan, vars: &Arc<Value>, answer: &Answer) -> Env {
    let rules = poll.on.iter().filter(|rule| rule.is_for(answer.status.as_u16()));
    let exprs: Vec<&Expr> = rules.flat_map(expressions).collect();
    let body = if exprs.iter().any(|expr| reads_body(expr)) {
        body(poll, &exprs, answer)
    } else {
        Value::Null
    };
    Env::new().with("vars", Arc::clone(vars)).with("response", response_of(answer, body))
}

fn expressions(rule: &RulePlan) -> impl Iterator<Item = &Expr> {
    let waits = match &rule.then {
        Then::Wait(Some(plan)) => plan.expr(),
        _ => None,
    };
    rule.when.iter().chain(&rule.message).chain(waits)
}

/// The body as rules see it: without its records where no rule looks at them, and as text where it
/// is no JSON.
fn body(poll: &PollPlan, exprs: &[&Expr], answer: &Answer) -> Value {
    let plain = match &poll.records {
        None => None,
        Some(plan) => Plain::parse(plan.path.source()),
    };
    let skipped = plain
        .filter(|_| answer.status.is_success())
        .filter(|plain| !exprs.iter().any(|expr| touches(expr.source(), &plain.members)))
        .and_then(|plain| envelope(&plain.members, plain.tail, &answer.body));
    skipped.unwrap_or_else(|| rule_body(&answer.body))
}

/// A body as it is; as text where it is no JSON.
pub(super) fn rule_body(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|_| {
        let shown = &body[..body.len().min(SHOWN_BODY_BYTES)];
        Value::from(String::from_utf8_lossy(shown))
    })
}

impl Arrived {
    /// An empty last page.
    pub(super) fn nothing(received_at: Timestamp) -> Self {
        let page = Page { items: Vec::new(), body: Value::Null, content: 0 };
        let response = Arc::new(Value::Object(Map::new()));
        Self { page, response, bytes: 0, received_at, done: true, validator: None }
    }
}

impl Run<'_> {
    /// Does what a rule says of a page that gives no records. `None`: the next page is asked for.
    pub(super) async fn give_up_page(
        &mut self,
        got: Got,
        window: &Window,
        pages: &mut Pages<'_>,
    ) -> Result<Option<Flow>, PollFailure> {
        if let Some(flow) = self.said(got, window, pages.position().number) {
            return Ok(Some(flow));
        }
        match pages.skip() {
            Step::Next => Ok(None),
            Step::Deep => Ok(Some(Flow::Deep)),
            Step::Done => self.nothing_of(window).await.map(Some),
        }
    }

    /// Does what a rule says of a request that all of a window hangs on, and that gives no records.
    pub(super) async fn give_up(&mut self, got: Got, window: &Window) -> Result<Flow, PollFailure> {
        match self.said(got, window, 1) {
            Some(flow) => Ok(flow),
            None => self.nothing_of(window).await,
        }
    }

    async fn nothing_of(&mut self, window: &Window) -> Result<Flow, PollFailure> {
        let mut empty = Arrived::nothing(self.poller.world.clock.now());
        empty.done = self.is_last_file();
        self.store(empty, window).await.map(|()| Flow::On)
    }

    /// Logs and counts what a rule says. `None`: its records are given up.
    fn said(&mut self, got: Got, window: &Window, page: i64) -> Option<Flow> {
        let (connector, stream) = (&self.poller.connector.name, &self.poller.stream.name);
        let partition = &self.label;
        match got {
            Got::Stop(message) => {
                tracing::info!(%connector, %stream, %partition, "a rule ends the run: {message}");
                self.seen.inspect(|seen| seen.leave_out());
                Some(Flow::Stop)
            }
            Got::Restart(message) => {
                tracing::info!(%connector, %stream, %partition, "a rule restarts the window: {message}");
                Some(Flow::Restart(message))
            }
            Got::Skip(message) => {
                tracing::warn!(%connector, %stream, %partition, %window, page, "a rule gives records up: {message}");
                self.report.skipped += 1;
                None
            }
            Got::Answer(_) | Got::Flowing(_) => Some(Flow::On),
        }
    }
}
