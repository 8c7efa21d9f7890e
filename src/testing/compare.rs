//! What was expected against what happened. Pure.
//!
//! What is not named is not compared, but nothing bad passes silently: a dead letter, a parked
//! destination, a record without a name, a failed poll, an answer that nobody asked for, and a
//! delivery that is still outstanding at the end fail a test that does not expect them.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{
    case::{Case, Exchanges, Expected, Outcome, Step},
    diff::{Difference, Rule, diff, diff_lists},
    observe::Observed,
};
use crate::{
    definition::{
        collections::Literal,
        table::{At, Loc},
    },
    diagnostic::counted,
    egress::Peer,
};

/// Something that is not as expected.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The expectation's key; empty where something happened that nobody expected.
    pub key: &'static str,
    /// The step that it is of, from 0; `None` where the test itself is the step.
    pub step: Option<usize>,
    /// The headline.
    pub title: String,
    /// Where the expectation, or else the step's input, stands.
    pub at: Loc,
    /// What is said there.
    pub label: String,
    /// Field by field, where there are fields.
    pub differences: Vec<Difference>,
    /// What really happened.
    pub notes: Vec<String>,
    /// What would have been right to expect.
    pub fix: Option<Fix>,
}

/// A right expectation.
#[derive(Clone, Debug, PartialEq)]
pub enum Fix {
    /// The value of the key; with a name, that of the destination's entry.
    Value {
        /// The destination.
        name: Option<Arc<str>>,
        /// The value.
        value: Value,
    },
    /// The content of the file that the key names.
    File {
        /// As the connector names it.
        file: String,
        /// Its content.
        content: Value,
    },
}

/// Every failure of a step. `last`: nothing may be outstanding any more.
pub fn compare(case: &Case, step: &Step, seen: &Observed, last: bool) -> Vec<Failure> {
    let judge = Judge { case, step, seen, last };
    let unexpected = judge.unexpected();
    let mut failures = judge.records(unexpected.is_empty());
    failures.extend(judge.requests());
    failures.extend(judge.reply());
    failures.extend(judge.delivered());
    failures.extend(judge.dead());
    failures.extend(judge.duplicate());
    failures.extend(judge.outcome());
    failures.extend(judge.error());
    // What nobody expected explains the rest.
    unexpected.into_iter().chain(failures).collect()
}

struct Judge<'a> {
    case: &'a Case,
    step: &'a Step,
    seen: &'a Observed,
    last: bool,
}

impl Judge<'_> {
    fn failure(&self, key: &'static str, title: impl Into<String>, at: Loc) -> Failure {
        Failure {
            key,
            step: self.step.index,
            title: title.into(),
            at,
            label: String::new(),
            differences: Vec::new(),
            notes: Vec::new(),
            fix: None,
        }
    }

    fn count(&self, word: &str) -> u64 {
        self.seen.outcomes.get(word).copied().unwrap_or(0)
    }

    /// Whether the step's `expect_outcome` speaks for this ending.
    fn outcome_names(&self, word: &str) -> bool {
        match self.step.expect.outcome.as_ref().map(|at| &at.value) {
            Some(Outcome::All(all)) => *all == word,
            Some(Outcome::Counts(counts)) => counts.iter().any(|(named, _)| *named == word),
            None => false,
        }
    }

    fn unexpected(&self) -> Vec<Failure> {
        let mut found = Vec::new();
        let mut add = |title: String, notes: Vec<String>| {
            let failure = self.failure("", title, self.step.at);
            found.push(Failure { notes, ..failure });
        };
        let expect = &self.step.expect;
        if let Some(poll) = &self.seen.poll
            && let Some(error) = &poll.error
            && expect.error.is_none()
        {
            add("the poll failed".to_owned(), vec![error.clone()]);
        }
        if let Some(reply) = &self.seen.reply
            && expect.reply.is_none()
            && !reply["status"].as_u64().is_some_and(|status| (200..300).contains(&status))
        {
            add("the webhook was refused".to_owned(), vec![shown_reply(reply)]);
        }
        if !self.seen.dead.is_empty() && expect.dead.is_none() && !self.outcome_names("dead") {
            let lines = self.seen.dead.iter().map(|dead| dead.line.clone()).collect();
            add(counted(self.seen.dead.len() as u64, "dead letter"), lines);
        }
        let unnamed = self.count("unnamed");
        let is_refused = self.seen.reply.is_some();
        let is_dead = expect.dead.is_some();
        if unnamed > 0 && !is_refused && !is_dead && !self.outcome_names("unnamed") {
            let title = format!("{} without a name", counted(unnamed, "record"));
            add(title, self.seen.unnamed.clone());
        }
        for word in ["held", "pending"] {
            let count = self.count(word);
            if count > 0 && self.last && !self.outcome_names(word) {
                add(outstanding(word, count), self.attempts(|_| true));
            }
        }
        let held = self.count("held") > 0 && self.last && !self.outcome_names("held");
        if held && let Some(failure) = found.last_mut() {
            failure.notes.extend(
                self.seen.held.iter().map(|(name, why)| format!("{name} is parked: {why}")),
            );
        }
        let polled =
            expect.error.is_none() && self.seen.poll.as_ref().is_none_or(|p| p.error.is_none());
        if polled && found.is_empty() {
            for at in &self.seen.unused {
                let failure = self.failure("", "an answer that nobody asked for", *at);
                found.push(Failure { notes: self.attempts(|_| true), ..failure });
            }
        }
        found
    }

    /// The exchanges of the step with these peers, a line each.
    fn attempts(&self, with: impl Fn(&Peer) -> bool) -> Vec<String> {
        let seen = self.seen.seen.iter();
        let named = seen.filter(|s| s.peer != Peer::Issuer && with(&s.peer)).map(|seen| {
            let answer = match &seen.answered {
                None => "no answer yet".to_owned(),
                Some((_, answer)) => answer.to_string(),
            };
            let who = match &seen.peer {
                Peer::Destination(name) if self.case.subject.captured.contains(name) => {
                    return format!("{name} <- {} bytes: {answer}", seen.body.len());
                }
                Peer::Destination(name) => format!("{name} <- "),
                _ => String::new(),
            };
            format!("{who}{}: {answer}", seen.line())
        });
        named.collect()
    }

    /// `expect` and `expect_some`. A record that ended otherwise was said to have done so already.
    fn records(&self, all_is_well: bool) -> Vec<Failure> {
        let expect = &self.step.expect;
        let wanted =
            [("expect", Rule::Exact, &expect.records), ("expect_some", Rule::Some, &expect.some)];
        let mut failures = Vec::new();
        for (key, rule, expected) in wanted {
            let Some(expected) = expected else { continue };
            let got = &self.seen.records;
            if got.len() < expected.value.len() && !all_is_well {
                continue;
            }
            let documents = expected.value.iter().map(|one| &one.document);
            let differences = diff_lists(rule, documents, got, expected.key);
            if differences.is_empty() {
                continue;
            }
            let mut failure = self.differing(key, expected.key, differences);
            if got.len() != expected.value.len() {
                let (wanted, got) = (expected.value.len() as u64, got.len() as u64);
                failure.title =
                    format!("`{key}`: {} delivered, {wanted} expected", counted(got, "record"));
                failure.notes = self.attempts(|_| true);
                failure.notes.push(self.endings());
            }
            failure.fix = fix_records(rule, &expected.value, got);
            failures.push(failure);
        }
        failures
    }

    /// "2 delivered, 1 filtered"
    fn endings(&self) -> String {
        let all: Vec<_> =
            self.seen.outcomes.iter().map(|(word, n)| format!("{n} {word}")).collect();
        if all.is_empty() { "nothing came in".to_owned() } else { all.join(", ") }
    }

    fn differing(&self, key: &'static str, at: Loc, differences: Vec<Difference>) -> Failure {
        let title = format!("`{key}` differs in {}", counted(differences.len() as u64, "field"));
        Failure { differences, ..self.failure(key, title, at) }
    }

    fn requests(&self) -> Option<Failure> {
        let expected = self.step.expect.requests.as_ref()?;
        self.exchanges("expect_requests", None, expected, &self.seen.requests)
    }

    fn delivered(&self) -> Vec<Failure> {
        let all = self.step.expect.delivered.iter();
        all.filter_map(|(name, expected)| {
            let got = self.seen.delivered.get(name).map_or(&[][..], Vec::as_slice);
            self.exchanges("expect_delivered", Some(name), expected, got)
        })
        .collect()
    }

    fn exchanges(
        &self,
        key: &'static str,
        name: Option<&Arc<str>>,
        expected: &At<Exchanges>,
        got: &[Value],
    ) -> Option<Failure> {
        let of = name.map(|name| format!(" of {name}")).unwrap_or_default();
        let (mut failure, value) = match &expected.value {
            Exchanges::Count(count) if *count == got.len() as u64 => return None,
            Exchanges::Count(count) => {
                let title = format!("`{key}`{of}: {} instead of {count}", got.len());
                let failure = self.failure(key, title, expected.at);
                (Failure { label: format!("got {}", got.len()), ..failure }, got.len().into())
            }
            Exchanges::List(list) => {
                let differences = diff_lists(Rule::Facts, list, got, expected.key);
                if differences.is_empty() {
                    return None;
                }
                let differences = differences.into_iter().map(briefly).collect();
                let mut failure = self.differing(key, expected.key, differences);
                if list.len() != got.len() {
                    failure.title = format!("`{key}`{of}: {} instead of {}", got.len(), list.len());
                }
                let item = |(at, got): (usize, &Value)| match list.get(at) {
                    Some(expected) => restricted(Rule::Facts, &expected.value, got),
                    None => brief(got),
                };
                (failure, got.iter().enumerate().map(item).collect())
            }
        };
        failure.notes = self.attempts(|peer| match (peer, name) {
            (Peer::Destination(peer), Some(name)) => peer == name,
            (Peer::Source(_), None) => true,
            _ => false,
        });
        // The name stands in the file only where expectations are told apart by it.
        let named = self.is_by_name(expected);
        let name = name.filter(|_| named).cloned();
        failure.fix = Some(Fix::Value { name, value });
        Some(failure)
    }

    /// Whether an expectation's own key is a destination's name.
    fn is_by_name(&self, expected: &At<Exchanges>) -> bool {
        let text = &self.case.file.text;
        let key = text.get(expected.key.start as usize..expected.key.end as usize);
        key.is_some_and(|key| key.trim_matches(['"', '\'']) != "expect_delivered")
    }

    fn reply(&self) -> Option<Failure> {
        let expected = self.step.expect.reply.as_ref()?;
        let got = self.seen.reply.as_ref()?;
        let differences = diff(Rule::Facts, expected, got);
        if differences.is_empty() {
            return None;
        }
        let is_status = matches!(&expected.value, Literal::Table(members)
            if members.len() == 1 && members[0].1.at == expected.at);
        let value = if is_status {
            got["status"].clone()
        } else {
            restricted(Rule::Facts, &expected.value, got)
        };
        let failure = self.differing("expect_reply", expected.key, differences);
        let fix = Some(Fix::Value { name: None, value });
        Some(Failure { notes: vec![shown_reply(got)], fix, ..failure })
    }

    fn dead(&self) -> Option<Failure> {
        let expected = self.step.expect.dead.as_ref()?;
        let mut got: Vec<Value> = self.seen.dead.iter().map(|dead| dead.facts.clone()).collect();
        if got.is_empty() {
            // A record that never became an event is no dead letter, but it goes no further either.
            let unnamed = self.seen.unnamed.iter();
            got = unnamed.map(|why| json!({ "reason": "unnamed", "message": why })).collect();
        }
        let differences = diff_lists(Rule::Facts, &expected.value, &got, expected.key);
        if differences.is_empty() {
            return None;
        }
        let mut failure = self.differing("expect_dead", expected.key, differences);
        if got.len() != expected.value.len() {
            let (got, wanted) = (got.len(), expected.value.len());
            failure.title = format!("`expect_dead`: {got} instead of {wanted}");
            failure.notes.push(self.endings());
        }
        failure.notes.extend(self.seen.dead.iter().map(|dead| dead.line.clone()));
        let items: Vec<Value> = got
            .iter()
            .enumerate()
            .map(|(at, got)| match expected.value.get(at) {
                Some(one) if is_reason_only(one) => got["reason"].clone(),
                Some(one) => restricted(Rule::Facts, &one.value, got),
                None => brief(got),
            })
            .collect();
        failure.fix = Some(Fix::Value { name: None, value: one_or_list(items) });
        Some(failure)
    }

    fn duplicate(&self) -> Option<Failure> {
        let expected = self.step.expect.duplicate.as_ref()?;
        let duplicates = self.count("duplicate");
        let others: u64 = self.seen.outcomes.values().sum::<u64>() - duplicates;
        let got = duplicates > 0 && others == 0;
        if got == expected.value {
            return None;
        }
        let title = format!("`expect_duplicate`: {}", self.endings());
        let failure = self.failure("expect_duplicate", title, expected.at);
        let fix = Some(Fix::Value { name: None, value: got.into() });
        Some(Failure { label: format!("got {got}"), fix, ..failure })
    }

    fn outcome(&self) -> Option<Failure> {
        let expected = self.step.expect.outcome.as_ref()?;
        let seen = &self.seen.outcomes;
        let is_met = match &expected.value {
            Outcome::All(word) => seen.len() == 1 && seen.contains_key(word),
            Outcome::Counts(counts) => {
                let named = counts.iter().all(|(word, count)| self.count(word) == *count);
                let total: u64 = counts.iter().map(|(_, count)| count).sum();
                named && total == seen.values().sum::<u64>()
            }
        };
        if is_met {
            return None;
        }
        let value = match (&expected.value, seen.len()) {
            (Outcome::All(_), 1) => seen.keys().next().copied().unwrap_or_default().into(),
            _ => seen
                .iter()
                .map(|(word, n)| ((*word).to_owned(), (*n).into()))
                .collect::<Map<_, _>>()
                .into(),
        };
        let failure = self.failure("expect_outcome", "`expect_outcome` differs", expected.at);
        let label = self.endings();
        let notes = self.seen.dead.iter().map(|dead| dead.line.clone());
        let notes = notes.chain(self.seen.unnamed.iter().cloned()).collect();
        Some(Failure { label, notes, fix: Some(Fix::Value { name: None, value }), ..failure })
    }

    fn error(&self) -> Option<Failure> {
        let expected = self.step.expect.error.as_ref()?;
        let got = self.seen.poll.as_ref()?.error.as_deref();
        if got.is_some_and(|got| got.contains(&expected.value)) {
            return None;
        }
        let failure = self.failure("expect_error", "`expect_error` differs", expected.at);
        let label = got.map_or("the poll did not fail".to_owned(), |got| format!("got {got:?}"));
        let fix = got.map(|got| Fix::Value { name: None, value: got.into() });
        let notes = self.attempts(|peer| matches!(peer, Peer::Source(_)));
        Some(Failure { label, notes, fix, ..failure })
    }
}

fn outstanding(word: &str, count: u64) -> String {
    match word {
        "held" => format!("{} at a parked destination", events(count)),
        _ => format!("{} still outstanding at the end", events(count)),
    }
}

fn events(count: u64) -> String {
    if count == 1 { "1 event is".to_owned() } else { format!("{count} events are") }
}

fn shown_reply(reply: &Value) -> String {
    let body = reply.get("body").map(|body| format!(" {body}")).unwrap_or_default();
    format!("answered {}{body}", reply["status"])
}

fn is_reason_only(entry: &At<Literal>) -> bool {
    matches!(&entry.value, Literal::Table(members)
        if members.len() == 1 && members[0].1.at == entry.at)
}

fn one_or_list(mut items: Vec<Value>) -> Value {
    if items.len() == 1 { items.remove(0) } else { Value::Array(items) }
}

/// A whole exchange is long: what tells one from another is enough.
fn briefly(difference: Difference) -> Difference {
    let is_whole = difference.expected.is_none() && difference.path.ends_with(']');
    let got = if is_whole { difference.got.as_ref().map(brief) } else { difference.got.clone() };
    Difference { got, ..difference }
}

/// What an exchange or a dead letter is told by.
fn brief(facts: &Value) -> Value {
    const TOLD_BY: &[&str] = &["method", "path", "query", "body", "reason", "field", "destination"];
    let Value::Object(facts) = facts else { return facts.clone() };
    let is_empty = |value: &Value| value.as_object().is_some_and(Map::is_empty);
    let told =
        facts.iter().filter(|(name, value)| TOLD_BY.contains(&name.as_str()) && !is_empty(value));
    Value::Object(told.map(|(name, value)| (name.clone(), value.clone())).collect())
}

fn fix_records(rule: Rule, expected: &[Expected], got: &[Value]) -> Option<Fix> {
    let file = expected.first().and_then(|one| one.file.clone());
    if expected.iter().any(|one| one.file != file) {
        return None;
    }
    let one = |(at, got): (usize, &Value)| match expected.get(at) {
        Some(expected) => restricted(rule, &expected.document.value, got),
        None => got.clone(),
    };
    let value = one_or_list(got.iter().enumerate().map(one).collect());
    Some(match file {
        Some(file) => Fix::File { file, content: value },
        None => Fix::Value { name: None, value },
    })
}

/// What came, as far as the expectation asks for it.
fn restricted(rule: Rule, expected: &Literal, got: &Value) -> Value {
    match (rule, expected, got) {
        (Rule::Some | Rule::Facts, Literal::Table(members), Value::Object(got)) => {
            let there = members.iter().filter_map(|(name, member)| {
                let got = got.get(name)?;
                let rule = match (rule, name.as_str()) {
                    (Rule::Facts, "headers") | (Rule::Some, _) => Rule::Some,
                    (Rule::Facts, "message") => Rule::Facts,
                    _ => Rule::Exact,
                };
                Some((name.clone(), restricted(rule, &member.value, got)))
            });
            Value::Object(there.collect())
        }
        (Rule::Some, Literal::Array(items), Value::Array(got)) => {
            let item = |(at, got): (usize, &Value)| match items.get(at) {
                Some(item) => restricted(rule, &item.value, got),
                None => got.clone(),
            };
            got.iter().enumerate().map(item).collect()
        }
        (Rule::Facts, Literal::Constant(Value::String(words)), Value::String(text))
            if text.contains(words) =>
        {
            words.as_str().into()
        }
        _ => got.clone(),
    }
}
