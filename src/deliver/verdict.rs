//! What an answer means for an event: the rules of `on`, then the defaults. Pure.
//!
//! Statuses are looked at first, so an answer that no rule is for costs nothing. A body is read only
//! where a rule for its status looks at it.

use std::{fmt::Write as _, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value};

use super::decide::{Limit, Outcome};
use crate::{
    egress::{Answer, EgressError, header_values, retry_after},
    map::{Env, EvalError},
    plan::{Ending, Verdict, VerdictPlan, reads_body},
    world::Timestamp,
};

/// How much of an answer's body is shown.
const SHOWN_CHARS: usize = 200;
/// How much of it is looked through for what must not be shown.
const LOOKED_AT_BYTES: usize = 4 << 10;
/// Of a body that is no JSON, rules see so much.
const SEEN_BYTES: usize = 64 << 10;
/// What a rule waits that says no time, where the answer says none either.
const WAIT: Duration = Duration::from_secs(30);

/// An answer, and what it takes to make something of it.
pub(super) struct Answered<'a> {
    pub answer: &'a Answer,
    /// Longer bodies were cut there.
    pub max_response_bytes: usize,
    pub now: Timestamp,
    /// Takes out of a peer's words the secrets that it was sent.
    pub redact: &'a dyn Fn(&str) -> String,
}

/// A rule for an answer, with the names that its expressions see.
pub(super) struct Ruling<'p> {
    pub rule: &'p VerdictPlan,
    env: Env,
}

/// Why no rule could be looked for.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// The body was cut, and a rule looks at it.
    Cut,
    /// An expression failed.
    Failed(EvalError),
}

/// Names for the rules of an answer: what `env` has, and the answer.
pub(super) fn names<'p>(
    answered: &Answered<'_>,
    rules: impl Iterator<Item = &'p VerdictPlan>,
    env: &Env,
) -> Result<Env, Unreadable> {
    let mut exprs = rules.flat_map(VerdictPlan::exprs);
    with_response(answered, exprs.any(reads_body), env)
}

/// Binds `response`, with its body where that is asked for.
pub(super) fn with_response(
    answered: &Answered<'_>,
    with_body: bool,
    env: &Env,
) -> Result<Env, Unreadable> {
    let Answer { status, headers, body } = answered.answer;
    let mut response = Map::new();
    response.insert("status".to_owned(), status.as_u16().into());
    response.insert("headers".to_owned(), Value::Object(header_values(headers)));
    let body = if with_body { read(body, answered.max_response_bytes)? } else { Value::Null };
    response.insert("body".to_owned(), body);
    Ok(env.clone().with("response", Value::Object(response).into()))
}

/// The document, or text where it is none.
fn read(body: &Bytes, max_bytes: usize) -> Result<Value, Unreadable> {
    match serde_json::from_slice(body) {
        Ok(document) => Ok(document),
        Err(_) if body.len() >= max_bytes => Err(Unreadable::Cut),
        Err(_) => {
            let seen = &body[..body.len().min(SEEN_BYTES)];
            Ok(String::from_utf8_lossy(seen).into_owned().into())
        }
    }
}

/// The first rule that fits, if any does. `env` has `out` and `event`, or `batch`.
pub(super) fn rule_for<'p>(
    rules: impl Iterator<Item = &'p VerdictPlan> + Clone,
    answered: &Answered<'_>,
    env: &Env,
) -> Result<Option<Ruling<'p>>, Unreadable> {
    let status = answered.answer.status.as_u16();
    let rules = rules.filter(|rule| rule.is_for(status));
    if rules.clone().next().is_none() {
        return Ok(None);
    }
    let env = names(answered, rules.clone(), env)?;
    first_of(rules, &env).map_err(Unreadable::Failed)
}

/// The first of these rules whose condition holds.
pub(super) fn first_of<'p>(
    rules: impl Iterator<Item = &'p VerdictPlan>,
    env: &Env,
) -> Result<Option<Ruling<'p>>, EvalError> {
    for rule in rules {
        if rule.when.as_ref().map_or(Ok(true), |when| when.test(env))? {
            return Ok(Some(Ruling { rule, env: env.clone() }));
        }
    }
    Ok(None)
}

impl Unreadable {
    /// The event is attempted again: what the peer meant is not known.
    pub fn outcome(&self, answered: &Answered<'_>) -> Outcome {
        let what = match self {
            Self::Cut => "a rule looks at its body, which is longer than `max_response`".to_owned(),
            Self::Failed(error) => error.to_string(),
        };
        let message = said(answered.answer.status, &what);
        Outcome::Retry {
            status: Some(answered.answer.status.as_u16()),
            message,
            retry_after: retry_after(&answered.answer.headers, answered.now),
            limit: None,
        }
    }
}

impl Ruling<'_> {
    /// What becomes of the event. Where credentials are to be renewed that was done before, or cannot
    /// be done.
    pub fn outcome(&self, answered: &Answered<'_>) -> Outcome {
        let Answered { answer, now, redact, .. } = answered;
        let status = Some(answer.status.as_u16());
        let message = match self.message() {
            Some(text) => said(answer.status, &line(&redact(&text))),
            None => message(answer.status, &answer.body, redact),
        };
        let asked = || retry_after(&answer.headers, *now);
        match &self.rule.then {
            Verdict::End(Ending::Delivered) => Outcome::Delivered { status },
            Verdict::End(Ending::Superseded) => Outcome::Superseded { status },
            Verdict::End(Ending::Hold) | Verdict::Reauth => Outcome::Held { status, message },
            Verdict::End(Ending::Dead) => {
                let reason = self.rule.reason.clone().map_or("rejected".into(), Into::into);
                Outcome::Rejected { status, reason, message }
            }
            Verdict::Wait(plan) => {
                let given = plan.as_ref().and_then(|plan| plan.lasts(&self.env, *now));
                let wait = given.or_else(asked).unwrap_or(WAIT);
                Outcome::Deferred { message, retry_after: Some(wait) }
            }
            Verdict::Retry { times, otherwise } => {
                let reason = self.rule.reason.clone();
                let limit = Limit { times: *times, otherwise: *otherwise, reason };
                Outcome::Retry {
                    status,
                    message,
                    retry_after: asked(),
                    limit: (limit != Limit::default()).then(|| Box::new(limit)),
                }
            }
        }
    }

    /// What the rule says, for a person. A text that cannot be made must not hide what happened.
    fn message(&self) -> Option<String> {
        let text = self.rule.message.as_ref()?.text(&self.env).ok().flatten()?;
        Some(text).filter(|text| !text.trim().is_empty())
    }
}

/// What an answer means where no rule is for it.
pub(super) fn by_default(answered: &Answered<'_>) -> Outcome {
    let Answered { answer, now, redact, .. } = answered;
    let status = Some(answer.status.as_u16());
    if answer.status.is_success() {
        return Outcome::Delivered { status };
    }
    let message = message(answer.status, &answer.body, redact);
    match answer.status.as_u16() {
        408 | 425 | 429 | 500..=599 => {
            let retry_after = retry_after(&answer.headers, *now);
            Outcome::Retry { status, message, retry_after, limit: None }
        }
        401 | 403 | 410 => Outcome::Held { status, message },
        _ => Outcome::Rejected { status, reason: "rejected".into(), message },
    }
}

/// No answer. A refused address is for the operator to allow; a URL that is none stays none.
pub(super) fn unanswered(error: &EgressError) -> Outcome {
    let message = error.to_string();
    match error {
        EgressError::Refused(_) => Outcome::Held { status: None, message },
        EgressError::BadUrl(_) => {
            Outcome::Rejected { status: None, reason: "bad_url".into(), message }
        }
        _ => Outcome::Retry { status: None, message, retry_after: None, limit: None },
    }
}

/// "422 Unprocessable Entity: {"error":"no such customer"}", on one line, cut.
pub(super) fn message(status: StatusCode, body: &[u8], redact: &dyn Fn(&str) -> String) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(LOOKED_AT_BYTES)]);
    said(status, &line(&redact(&text)))
}

/// A peer's words on one line, cut.
fn line(text: &str) -> String {
    let words: Vec<_> = text.split(|c: char| c.is_control() || c == ' ').collect();
    let line = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    line.chars().take(SHOWN_CHARS).collect()
}

/// "422 Unprocessable Entity: " and what there is to say.
pub(super) fn said(status: StatusCode, what: &str) -> String {
    let mut message = status.as_u16().to_string();
    if let Some(reason) = status.canonical_reason() {
        let _ = write!(message, " {reason}");
    }
    if !what.is_empty() {
        message.push_str(": ");
        message.push_str(what);
    }
    message
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, StatusCode};
    use serde_json::json;

    use super::*;
    use crate::map::{Expr, Library, Place, Site};

    /// Compiles a rule's expression.
    pub(in crate::deliver) fn expr(text: &str) -> Expr {
        let site = Site {
            names: &["vars", "response", "batch", "item", "out", "event"],
            root: Some("response"),
            lenient: true,
        };
        let place = Place { file: "shop.toml".into(), line: 7, path: "destination.erp.on".into() };
        Expr::compile(text, &site, place, &Library::default()).unwrap()
    }

    pub(in crate::deliver) fn rule(status: &[u16], when: &str, then: Verdict) -> VerdictPlan {
        VerdictPlan {
            statuses: status.iter().map(|status| *status..=*status).collect(),
            when: (!when.is_empty()).then(|| expr(when)),
            then,
            message: None,
            reason: None,
            of_item: when.contains("item"),
        }
    }

    pub(in crate::deliver) fn answer(status: u16, body: &str) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", HeaderValue::from_static("7"));
        headers.insert("x-reset", HeaderValue::from_static("100"));
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, headers, body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    fn redact(text: &str) -> String {
        text.replace("s3cret", "[redacted]")
    }

    pub(in crate::deliver) fn answered(answer: &Answer) -> Answered<'_> {
        Answered { answer, max_response_bytes: 4096, now: Timestamp(0), redact: &redact }
    }

    fn by_rules(rules: &[VerdictPlan], answer: &Answer) -> Outcome {
        let answered = answered(answer);
        let env = Env::new()
            .with("vars", json!({"max": 3}).into())
            .with("out", json!({"id": 7, "tries": 5}).into());
        match rule_for(rules.iter(), &answered, &env) {
            Ok(Some(ruling)) => ruling.outcome(&answered),
            Ok(None) => by_default(&answered),
            Err(error) => error.outcome(&answered),
        }
    }

    fn default(status: u16, body: &str) -> Outcome {
        by_rules(&[], &answer(status, body))
    }

    #[test]
    fn every_status_has_its_outcome() {
        for status in 100..=599u16 {
            let expected = match status {
                200..=299 => "delivered",
                408 | 425 | 429 | 500..=599 => "retry",
                401 | 403 | 410 => "held",
                _ => "rejected",
            };
            let (word, shown) = match default(status, "") {
                Outcome::Delivered { status } => ("delivered".into(), status),
                Outcome::Retry { status, retry_after, limit: None, .. } => {
                    assert_eq!(retry_after.unwrap().as_secs(), 7);
                    ("retry".into(), status)
                }
                Outcome::Held { status, .. } => ("held".into(), status),
                Outcome::Rejected { status, reason, .. } => (reason, status),
                other => panic!("{status}: {other:?}"),
            };
            assert_eq!((&*word, shown), (expected, Some(status)), "{status}");
        }
    }

    #[test]
    fn trap_14_a_name_that_does_not_resolve_is_tried_again_like_any_failure_of_the_network() {
        let later = [
            EgressError::Dns(String::new()),
            EgressError::Connect(String::new()),
            EgressError::Tls(String::new()),
            EgressError::Timeout,
            EgressError::Broken(String::new()),
        ];
        for error in later {
            let outcome = unanswered(&error);
            assert!(matches!(outcome, Outcome::Retry { status: None, .. }), "{error}: {outcome:?}");
        }
        let refused = unanswered(&EgressError::Refused("x".into()));
        assert!(matches!(refused, Outcome::Held { .. }));
        let bad = unanswered(&EgressError::BadUrl("x".into()));
        assert!(matches!(bad, Outcome::Rejected { reason, .. } if reason == "bad_url"));
    }

    #[test]
    fn a_message_is_one_short_line_without_secrets() {
        let text = "{\n \"error\":\t\"no s3cret\u{1b}[31m\"\r\n}";
        let Outcome::Rejected { message, .. } = default(422, text) else {
            panic!("422 is a rejection");
        };
        assert_eq!(message, r#"422 Unprocessable Entity: { "error": "no [redacted] [31m" }"#);
        let Outcome::Retry { message, .. } = default(500, &"ä".repeat(3000)) else {
            panic!("500 is a retry");
        };
        assert_eq!(message.chars().count(), "500 Internal Server Error: ".len() + 200);
    }

    #[test]
    fn the_first_rule_that_fits_decides_and_then_the_defaults() {
        let end = Verdict::End;
        let rules = [
            rule(&[409], "{{ response.body.known }}", end(Ending::Delivered)),
            rule(&[409], "", end(Ending::Superseded)),
            rule(&[200], "{{ response.body.ok == false }}", end(Ending::Dead)),
            rule(&[], "{{ response.headers['x-reset'] == '99' }}", end(Ending::Hold)),
            rule(&[], "{{ out.tries > vars.max and response.status == 404 }}", end(Ending::Hold)),
            rule(&[401], "", Verdict::Reauth),
        ];
        let of = |status, body: &str| by_rules(&rules, &answer(status, body));
        assert_eq!(of(409, r#"{"known": true}"#), Outcome::Delivered { status: Some(409) });
        assert_eq!(of(409, "conflict"), Outcome::Superseded { status: Some(409) });
        assert_eq!(of(200, r#"{"ok": true}"#), Outcome::Delivered { status: Some(200) });
        let dead = of(200, r#"{"ok": false, "why": "s3cret"}"#);
        let message = r#"200 OK: {"ok": false, "why": "[redacted]"}"#.to_owned();
        assert_eq!(
            dead,
            Outcome::Rejected { status: Some(200), reason: "rejected".into(), message }
        );
        assert!(matches!(of(404, ""), Outcome::Held { status: Some(404), .. }));
        assert!(matches!(of(401, ""), Outcome::Held { .. }), "what cannot be renewed is held");
        assert!(matches!(of(422, ""), Outcome::Rejected { .. }));
    }

    #[test]
    fn a_rule_says_what_is_told_and_how_often_and_when() {
        let retry = Verdict::Retry { times: Some(2), otherwise: Ending::Superseded };
        let mut retried = rule(&[404], "", retry);
        retried.message = Some(expr("no {{ response.body.what }} s3cret\nyet"));
        retried.reason = Some("no_parent".to_owned());
        let outcome = by_rules(&[retried], &answer(404, r#"{"what": "order"}"#));
        let limit = Limit {
            times: Some(2),
            otherwise: Ending::Superseded,
            reason: Some("no_parent".into()),
        };
        assert_eq!(
            outcome,
            Outcome::Retry {
                status: Some(404),
                message: "404 Not Found: no order [redacted] yet".to_owned(),
                retry_after: Some(Duration::from_secs(7)),
                limit: Some(Box::new(limit)),
            }
        );
        let until = crate::plan::WaitPlan::Until(expr("{{ response.headers['x-reset'] }}"));
        let nothing = crate::plan::WaitPlan::Until(expr("{{ response.headers['x-none'] }}"));
        for (plan, seconds) in [(Some(until), 100), (Some(nothing), 7), (None, 7)] {
            let outcome = by_rules(&[rule(&[420], "", Verdict::Wait(plan))], &answer(420, ""));
            let Outcome::Deferred { retry_after: Some(wait), .. } = outcome else {
                panic!("{outcome:?}")
            };
            assert_eq!(wait.as_secs(), seconds);
        }
    }

    #[test]
    fn what_a_rule_cannot_read_is_never_taken_for_delivered() {
        let looks = [rule(&[200], "{{ response.body.ok == false }}", Verdict::End(Ending::Dead))];
        let long = answer(200, &format!("{{\"ok\": false, \"x\": \"{}", "x".repeat(5000)));
        let Outcome::Retry { message, .. } = by_rules(&looks, &long) else { panic!("not a retry") };
        assert!(message.contains("`max_response`"), "{message}");
        // Another status is none of the rule's business, nor is a body that no rule looks at.
        let blind = [rule(&[200], "{{ response.status == 299 }}", Verdict::End(Ending::Dead))];
        assert_eq!(by_rules(&blind, &long), Outcome::Delivered { status: Some(200) });
        let failing = [rule(&[200], "{{ response.body.n | decimal }}", Verdict::End(Ending::Dead))];
        let outcome = by_rules(&failing, &answer(200, r#"{"n": "many"}"#));
        let Outcome::Retry { message, .. } = outcome else { panic!("not a retry") };
        assert!(message.contains("decimal"), "{message}");
    }
}
