//! What an answer means for each event of a batch. Pure.
//!
//! Rules that look at no event decide for the batch as a whole; then the results decide for each
//! event, where the API gives them; then the defaults. A result that is not there is never taken for
//! a delivery. What is refused as a whole is tried in halves, down to one event, so that an event
//! that the destination will never take does not cost the others.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use serde_json::Value;

use super::{
    decide::Outcome,
    verdict::{Answered, Unreadable, by_default, first_of, message, rule_for, said, with_response},
    view::event_view,
};
use crate::{
    egress::retry_after,
    event::{Event, Record},
    map::{Env, EvalError, Expr},
    plan::{ResultsPlan, VerdictPlan},
    world::Timestamp,
};

/// An event of a batch.
#[derive(Clone, Debug)]
pub struct Member {
    /// The event.
    pub event: Arc<Event>,
    /// What the map made of it.
    pub out: Record,
}

/// What came of one attempt to deliver a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchOutcome {
    /// The answer, or its absence, is about the request: the same for every event. Where it is to be
    /// repeated, the events stay together, since the destination may have taken them.
    Whole(Outcome),
    /// One for each event, in their order.
    Each(Vec<Outcome>),
    /// Refused as a whole: to be tried in halves. Nothing was counted for any event.
    Split {
        /// HTTP status, where somebody was asked.
        status: Option<u16>,
        /// One line, no secrets.
        message: String,
    },
}

/// What came of an attempt to deliver a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptedBatch {
    /// For its events.
    pub outcome: BatchOutcome,
    /// For all events: until when the peer says that its budget is spent.
    pub spent_until: Option<Timestamp>,
}

impl From<BatchOutcome> for AttemptedBatch {
    fn from(outcome: BatchOutcome) -> Self {
        Self { outcome, spent_until: None }
    }
}

/// What decides over the events of a batch.
pub(super) struct Court<'p> {
    pub rules: &'p [VerdictPlan],
    pub results: Option<&'p ResultsPlan>,
}

impl BatchOutcome {
    /// What it says about the destination, as if it had been said of one event: where each event has a
    /// result of its own, it is well.
    pub fn overall(&self) -> Outcome {
        match self {
            Self::Whole(outcome) => outcome.clone(),
            Self::Each(_) => Outcome::Delivered { status: None },
            Self::Split { status, message } => Outcome::Rejected {
                status: *status,
                reason: "rejected".into(),
                message: message.clone(),
            },
        }
    }

    /// What an outcome comes to that all events of a request share.
    ///
    /// Only success, and what is to be tried again, is said of all of them. Anything else may be meant
    /// for one alone, so that the others are to be asked about: also a 409 that a rule takes for
    /// delivered.
    pub fn of(events: usize, outcome: Outcome) -> Self {
        let is_success = |status: Option<u16>| status.is_some_and(|it| (200..300).contains(&it));
        match outcome {
            Outcome::Rejected { status, message, .. } if events > 1 => {
                Self::Split { status, message }
            }
            Outcome::Delivered { status } | Outcome::Superseded { status }
                if events > 1 && !is_success(status) =>
            {
                let message = format!("answered {}", status.unwrap_or_default());
                Self::Split { status, message }
            }
            outcome => Self::Whole(outcome),
        }
    }
}

/// What an answer means for a batch. `env` has `vars` and `batch`.
pub(super) fn judge(
    court: &Court<'_>,
    members: &[Member],
    answered: &Answered<'_>,
    env: &Env,
) -> BatchOutcome {
    let whole = court.rules.iter().filter(|rule| !rule.of_item);
    match rule_for(whole, answered, env) {
        Ok(None) => {}
        Ok(Some(ruling)) => return BatchOutcome::of(members.len(), ruling.outcome(answered)),
        Err(error) => return BatchOutcome::Whole(error.outcome(answered)),
    }
    match court.results.filter(|_| court.looks_at_items(answered)) {
        None => BatchOutcome::of(members.len(), by_default(answered)),
        Some(results) => court.each(results, members, answered, env),
    }
}

impl Court<'_> {
    /// Results are read from a success, and from an answer that a rule with `item` names by status.
    fn looks_at_items(&self, answered: &Answered<'_>) -> bool {
        let status = answered.answer.status;
        let names_it =
            |rule: &VerdictPlan| !rule.statuses.is_empty() && rule.is_for(status.as_u16());
        status.is_success() || self.rules.iter().any(|rule| rule.of_item && names_it(rule))
    }

    fn each(
        &self,
        plan: &ResultsPlan,
        members: &[Member],
        answered: &Answered<'_>,
        env: &Env,
    ) -> BatchOutcome {
        let again = |what: &str| {
            let message = said(answered.answer.status, what);
            BatchOutcome::Whole(retry(answered, message))
        };
        let env = match with_response(answered, true, env) {
            Ok(env) => env,
            Err(Unreadable::Cut) => {
                return again("its results are longer than `max_response`");
            }
            Err(Unreadable::Failed(error)) => return again(&error.to_string()),
        };
        let found = match listed(plan, answered, &env) {
            Ok(found) => found,
            Err(error) => return again(&error.to_string()),
        };
        let matched = match &plan.by {
            None if found.len() != members.len() => {
                return again(&format!(
                    "it has {} results for {} events, so none can be told whose it is",
                    found.len(),
                    members.len()
                ));
            }
            None => found.into_iter().map(Some).collect(),
            Some(by) => matched(by, members, found, &env),
        };
        let missing = || {
            let what = "the answer has no result for this event";
            retry(answered, said(answered.answer.status, what))
        };
        let outcomes = members.iter().zip(matched).map(|(member, result)| {
            result.map_or_else(missing, |result| self.one(plan, member, &result, answered, &env))
        });
        BatchOutcome::Each(outcomes.collect())
    }

    /// What one result means for its event.
    fn one(
        &self,
        plan: &ResultsPlan,
        member: &Member,
        result: &Record,
        answered: &Answered<'_>,
        env: &Env,
    ) -> Outcome {
        let status = answered.answer.status;
        let env = env
            .clone()
            .with_record("item", result.clone())
            .with_record("out", member.out.clone())
            .with_dynamic("event", event_view(&member.event));
        let rules = self.rules.iter().filter(|rule| rule.of_item && rule.is_for(status.as_u16()));
        let failed = |error: EvalError| retry(answered, said(status, &error.to_string()));
        match first_of(rules, &env) {
            Ok(None) => {}
            Ok(Some(ruling)) => return ruling.outcome(answered),
            Err(error) => return failed(error),
        }
        let is_ok = match plan.ok.as_ref().map(|ok| ok.test(&env)) {
            None => status.is_success(),
            Some(Ok(is_ok)) => is_ok,
            Some(Err(error)) => return failed(error),
        };
        if is_ok {
            return Outcome::Delivered { status: Some(status.as_u16()) };
        }
        let message = message(status, result.bytes(), answered.redact);
        match by_default(answered) {
            Outcome::Delivered { .. } => retry(answered, message),
            Outcome::Rejected { status, reason, .. } => {
                Outcome::Rejected { status, reason, message }
            }
            other => other,
        }
    }
}

fn retry(answered: &Answered<'_>, message: String) -> Outcome {
    Outcome::Retry {
        status: Some(answered.answer.status.as_u16()),
        message,
        retry_after: retry_after(&answered.answer.headers, answered.now),
        limit: None,
    }
}

/// The results in the answer, each as it came.
fn listed(
    plan: &ResultsPlan,
    answered: &Answered<'_>,
    env: &Env,
) -> Result<Vec<Record>, EvalError> {
    let body = Record::from_bytes(answered.answer.body.clone());
    let found = plan.list.select(&body, env)?;
    Ok(found.into_iter().filter(|it| it.root().is_some_and(|root| !root.is_null())).collect())
}

/// The result of each event: of several that fit, each the next.
fn matched(by: &Expr, members: &[Member], found: Vec<Record>, env: &Env) -> Vec<Option<Record>> {
    let mut by_name: HashMap<String, VecDeque<Record>> = HashMap::new();
    for result in found {
        if let Some(name) = name_of(by, &result, env) {
            by_name.entry(name).or_default().push_back(result);
        }
    }
    let next = |member: &Member| by_name.get_mut(&name_of(by, &member.out, env)?)?.pop_front();
    members.iter().map(next).collect()
}

/// What `by` gives for a result or an event, as a text: an API that gives a number back as a text
/// means the same. `None`: nothing.
pub(super) fn name_of(by: &Expr, of: &Record, env: &Env) -> Option<String> {
    let env = env.clone().with_record("item", of.clone());
    match by.eval(&env).ok().flatten()? {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        deliver::{
            prepare::tests::event,
            verdict::tests::{answer, answered, expr, rule},
        },
        map::{Library, Place, Site},
        plan::{Ending, Verdict},
    };

    fn member(id: u32) -> Member {
        let out = Record::from_value(json!({"id": id, "name": format!("n{id}")}));
        Member { event: Arc::new(event(b"{}")), out }
    }

    fn of_item(text: &str) -> Expr {
        let site = Site { names: &["item", "out", "event"], root: Some("item"), lenient: true };
        let place = Place { file: "shop.toml".into(), line: 9, path: "batch".into() };
        Expr::compile(text, &site, place, &Library::default()).unwrap()
    }

    fn results(by: Option<&str>, ok: Option<&str>) -> ResultsPlan {
        ResultsPlan { list: expr("$.items[*]"), by: by.map(of_item), ok: ok.map(of_item) }
    }

    fn judged(
        results: Option<&ResultsPlan>,
        rules: &[VerdictPlan],
        events: u32,
        (status, body): (u16, &Value),
    ) -> BatchOutcome {
        let members: Vec<Member> = (1..=events).map(member).collect();
        let answer = answer(status, &body.to_string());
        let env = Env::new().with("vars", json!({}).into());
        judge(&Court { rules, results }, &members, &answered(&answer), &env)
    }

    /// A word for each outcome.
    fn words(outcome: &BatchOutcome) -> String {
        let word = |outcome: &Outcome| match outcome {
            Outcome::Delivered { .. } => "delivered",
            Outcome::Retry { .. } => "retry",
            Outcome::Deferred { .. } => "deferred",
            Outcome::Held { .. } => "held",
            Outcome::Rejected { .. } => "rejected",
            Outcome::Superseded { .. } => "superseded",
        };
        match outcome {
            BatchOutcome::Whole(outcome) => format!("all {}", word(outcome)),
            BatchOutcome::Each(each) => each.iter().map(word).collect::<Vec<_>>().join(" "),
            BatchOutcome::Split { .. } => "split".to_owned(),
        }
    }

    #[test]
    fn an_answer_about_the_request_is_the_same_for_all_of_them() {
        for (status, events, expected) in [
            (202, 3, "all delivered"),
            (503, 3, "all retry"),
            (429, 3, "all retry"),
            (403, 3, "all held"),
            (400, 3, "split"),
            (413, 2, "split"),
            (404, 2, "split"),
            (400, 1, "all rejected"),
            (413, 1, "all rejected"),
        ] {
            let outcome = judged(None, &[], events, (status, &json!({})));
            assert_eq!(words(&outcome), expected, "{status} for {events}");
        }
    }

    #[test]
    fn a_rule_ends_a_whole_batch_only_where_the_status_is_a_success() {
        let end = |ending| [rule(&[200, 409], "", Verdict::End(ending))];
        for (ending, status, events, expected) in [
            (Ending::Delivered, 200, 3, "all delivered"),
            (Ending::Superseded, 200, 3, "all superseded"),
            (Ending::Delivered, 409, 3, "split"),
            (Ending::Superseded, 409, 3, "split"),
            (Ending::Delivered, 409, 1, "all delivered"),
            (Ending::Dead, 200, 2, "split"),
            (Ending::Hold, 409, 2, "all held"),
        ] {
            let outcome = judged(None, &end(ending), events, (status, &json!({})));
            assert_eq!(words(&outcome), expected, "{ending:?} {status} for {events}");
        }
    }

    #[test]
    fn results_in_order_are_told_apart_by_their_place() {
        let plan = results(None, Some("{{ item.status < 300 }}"));
        let body = json!({"items": [{"status": 201}, {"status": 422}, {"status": 200}]});
        let outcome = judged(Some(&plan), &[], 3, (200, &body));
        assert_eq!(words(&outcome), "delivered retry delivered");
        let BatchOutcome::Each(each) = &outcome else { panic!("{outcome:?}") };
        let Outcome::Retry { message, .. } = &each[1] else { panic!("{each:?}") };
        assert_eq!(message, r#"200 OK: {"status":422}"#);
        // One too few: nobody knows whose is missing.
        let outcome = judged(Some(&plan), &[], 4, (200, &body));
        let BatchOutcome::Whole(Outcome::Retry { message, .. }) = &outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(
            message,
            "200 OK: it has 3 results for 4 events, so none can be told whose it is"
        );
    }

    #[test]
    fn results_are_matched_by_what_they_have_in_common_and_one_that_is_missing_is_no_delivery() {
        let plan = results(Some("$.id"), Some("$.ok"));
        let body = json!({"items": [
            {"id": "3", "ok": true}, {"id": 1, "ok": true}, {"id": 9, "ok": true}, {"ok": true},
        ]});
        let outcome = judged(Some(&plan), &[], 3, (200, &body));
        assert_eq!(words(&outcome), "delivered retry delivered");
        let BatchOutcome::Each(each) = &outcome else { panic!("{outcome:?}") };
        let Outcome::Retry { message, .. } = &each[1] else { panic!("{each:?}") };
        assert_eq!(message, "200 OK: the answer has no result for this event");
        for nothing in [json!({}), json!({"items": null}), json!({"items": []}), json!("busy")] {
            let outcome = judged(Some(&plan), &[], 2, (200, &nothing));
            assert_eq!(words(&outcome), "retry retry", "{nothing}");
        }
    }

    #[test]
    fn of_events_that_share_a_name_each_takes_its_own_result() {
        let plan = results(Some("{{ 'same' }}"), Some("$.ok"));
        let body = json!({"items": [{"ok": true}, {"ok": false}]});
        let outcome = judged(Some(&plan), &[], 3, (200, &body));
        assert_eq!(words(&outcome), "delivered retry retry");
    }

    #[test]
    fn rules_with_item_decide_for_one_event_and_see_it() {
        let rules = [
            rule(&[], "{{ item.status == 409 and out.id == 2 }}", Verdict::End(Ending::Superseded)),
            rule(&[], "{{ item.status == 422 }}", Verdict::End(Ending::Dead)),
            rule(&[], "{{ item.status == 429 }}", Verdict::Wait(None)),
        ];
        let plan = results(None, None);
        let body = json!({"items": [
            {"status": 409}, {"status": 409}, {"status": 422}, {"status": 429},
        ]});
        let outcome = judged(Some(&plan), &rules, 4, (200, &body));
        assert_eq!(words(&outcome), "delivered superseded rejected deferred");
        // The batch's own status still decides where it is no success and no rule names it.
        assert_eq!(words(&judged(Some(&plan), &rules, 4, (500, &body))), "all retry");
        let named = [rule(&[422], "{{ item.status == 409 }}", Verdict::End(Ending::Delivered))];
        let outcome = judged(Some(&results(None, None)), &named, 4, (422, &body));
        assert_eq!(words(&outcome), "delivered delivered rejected rejected");
    }

    #[test]
    fn a_result_that_cannot_be_judged_is_no_delivery() {
        let plan = results(None, Some("{{ item.n | decimal }}"));
        let body = json!({"items": [{"n": 1}, {"n": "many"}]});
        assert_eq!(words(&judged(Some(&plan), &[], 2, (200, &body))), "delivered retry");
    }
}
