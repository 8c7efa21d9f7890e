//! Makes recorded documents fit to be committed: what is personal becomes a pseudonym, what is
//! secret is gone. Pure.
//!
//! The same value has the same pseudonym throughout a recording, so that what referred to each other
//! still does. Fields are masked wherever they are found, at any depth: rather too much than too
//! little.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Number, Value};

use crate::observe::redact::MASK;

/// Members that hold credentials whatever the API; written without `_`, `-` and capitals.
const CREDENTIALS: &[&str] = &[
    "accesstoken",
    "apikey",
    "authorization",
    "clientsecret",
    "idtoken",
    "password",
    "privatekey",
    "refreshtoken",
    "secret",
];
/// Shorter secrets and values are not looked for within other texts: they would be found everywhere.
const LEAST_SECRET_BYTES: usize = 4;
const LEAST_WITHIN_BYTES: usize = 8;

/// Masks the documents of one recording.
#[derive(Debug, Default)]
pub struct Masker {
    secrets: Vec<String>,
    /// Member names joined by dots; arrays are passed through. An empty one is everything.
    fields: Vec<Vec<String>>,
    /// Pseudonyms by the JSON of what they stand for.
    known: BTreeMap<String, Value>,
    people: u64,
    others: u64,
}

impl Masker {
    /// A masker that takes out these secrets and masks these fields (`customer.email`).
    pub fn new(secrets: Vec<String>, fields: &[String]) -> Self {
        let mut secrets = secrets;
        secrets.retain(|secret| secret.len() >= LEAST_SECRET_BYTES);
        // A secret within another one must not keep it from being found.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        let members = |path: &String| {
            let members = path.split('.').filter(|member| !member.is_empty());
            members.map(str::to_owned).collect()
        };
        Self { secrets, fields: fields.iter().map(members).collect(), ..Self::default() }
    }

    /// Masks documents of one recording, all at once: what one of them reveals to be personal is
    /// masked in all.
    pub fn documents(&mut self, documents: &mut [Value]) {
        for document in documents.iter_mut() {
            let mut found = BTreeSet::new();
            self.find(document, "", &mut found);
            for pointer in found {
                if let Some(value) = document.pointer_mut(&pointer) {
                    *value = self.pseudonym(value);
                }
            }
        }
        for document in documents {
            self.spread(document);
        }
    }

    /// How many values got a pseudonym.
    pub fn count(&self) -> usize {
        self.known.values().map(Value::to_string).collect::<BTreeSet<_>>().len()
    }

    /// A text without secrets, and with pseudonyms for what is known to be personal.
    pub fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            text = text.replace(secret.as_str(), MASK);
        }
        for (value, pseudonym) in &self.known {
            if let (Ok(Value::String(value)), Value::String(pseudonym)) =
                (serde_json::from_str(value), pseudonym)
                && (value == text || value.len() >= LEAST_WITHIN_BYTES)
            {
                text = text.replace(&value, pseudonym);
            }
        }
        text
    }

    /// Pointers to every leaf that is to be masked. None is named twice, so that no pseudonym gets
    /// one of its own.
    fn find(&self, value: &Value, at: &str, found: &mut BTreeSet<String>) {
        for field in &self.fields {
            follow(value, field, at, found);
        }
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    self.find(member, &deeper(at, name), found);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.find(item, &deeper(at, &index.to_string()), found);
                }
            }
            _ => {}
        }
    }

    fn pseudonym(&mut self, value: &Value) -> Value {
        // One address is one person, however it is written.
        let same = match value {
            Value::String(text) if text.contains('@') => text.to_lowercase().into(),
            other => other.clone(),
        };
        if let Some(known) = self.known.get(&value.to_string()) {
            return known.clone();
        }
        let known = self.known.get(&same.to_string()).cloned();
        let made = known.unwrap_or_else(|| self.invent(value));
        self.known.insert(same.to_string(), made.clone());
        self.known.insert(value.to_string(), made.clone());
        made
    }

    fn invent(&mut self, value: &Value) -> Value {
        match value {
            Value::String(text) if text.contains('@') => {
                self.people += 1;
                format!("person-{}@example.com", self.people).into()
            }
            Value::String(text) if is_time(text) => value_of_time(text),
            Value::String(text) if is_number_like(text) => {
                self.others += 1;
                digits(text, self.others).into()
            }
            Value::String(text) if text.is_empty() => value.clone(),
            Value::String(_) => {
                self.others += 1;
                format!("redacted-{}", self.others).into()
            }
            Value::Number(number) => {
                self.others += 1;
                if number.is_f64() {
                    Number::from_f64(self.others as f64 + 0.5).map_or(Value::Null, Value::Number)
                } else {
                    self.others.into()
                }
            }
            other => other.clone(),
        }
    }

    /// Takes secrets, credentials and known values out of every text.
    fn spread(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.spread(item)),
            Value::Object(members) => {
                for (name, member) in members.iter_mut() {
                    if member.is_string() && is_credential(name) {
                        *member = MASK.into();
                    } else {
                        self.spread(member);
                    }
                }
                self.spread_names(members);
            }
            _ => {}
        }
    }

    /// Names of members may be values, too: `{"ada@example.com": {...}}`.
    fn spread_names(&self, members: &mut Map<String, Value>) {
        if members.keys().any(|name| self.text(name) != *name) {
            *members =
                std::mem::take(members).into_iter().map(|(n, v)| (self.text(&n), v)).collect();
        }
    }
}

/// Adds the leaves that `field` leads to from here.
fn follow(value: &Value, field: &[String], at: &str, found: &mut BTreeSet<String>) {
    match (value, field) {
        (Value::Array(items), field) => {
            for (index, item) in items.iter().enumerate() {
                follow(item, field, &deeper(at, &index.to_string()), found);
            }
        }
        (Value::Object(members), []) => {
            for (name, member) in members {
                follow(member, &[], &deeper(at, name), found);
            }
        }
        (_, []) => {
            found.insert(at.to_owned());
        }
        (Value::Object(members), [first, rest @ ..]) => {
            if let Some(member) = members.get(first) {
                follow(member, rest, &deeper(at, first), found);
            }
        }
        _ => {}
    }
}

/// RFC 6901.
fn deeper(at: &str, name: &str) -> String {
    format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"))
}

fn is_credential(name: &str) -> bool {
    let plain: String =
        name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    CREDENTIALS.contains(&plain.as_str())
}

fn is_time(text: &str) -> bool {
    text.parse::<jiff::civil::Date>().is_ok() || text.parse::<jiff::Timestamp>().is_ok()
}

/// A day that is nobody's in particular, written alike.
fn value_of_time(text: &str) -> Value {
    let rest = text.get(10..).unwrap_or_default();
    format!("2000-01-01{rest}").into()
}

/// A telephone number, a card's, an account's: digits and what is put between them.
fn is_number_like(text: &str) -> bool {
    let is_between = |c: char| matches!(c, '+' | '-' | ' ' | '(' | ')' | '/' | '.');
    text.chars().any(|c| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_digit() || is_between(c))
}

/// The same form with other digits: zeros, and the number at the end.
fn digits(text: &str, number: u64) -> String {
    let mut left = number;
    let mut reversed: Vec<char> = text
        .chars()
        .rev()
        .map(|c| {
            if !c.is_ascii_digit() {
                return c;
            }
            let digit = char::from_digit((left % 10) as u32, 10).unwrap_or('0');
            left /= 10;
            digit
        })
        .collect();
    reversed.reverse();
    reversed.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pseudonyms_are_stable_and_keep_the_form() {
        let fields = ["customer.email", "customer.phone", "born", "tags"].map(str::to_owned);
        let mut masker = Masker::new(vec!["s3cr3t-key".to_owned()], &fields);
        let mut pages = [
            json!({ "orders": [
                { "id": 1, "customer": { "email": "Ada@x.org", "phone": "+49 30 1234", "age": 3 } },
                { "id": 2, "customer": { "email": "bob@x.org" }, "born": "1815-12-10", "tags": ["vip", 7] },
            ]}),
            json!({
                "note": "mail bob@x.org", "by": "ada@x.org", "bob@x.org": true,
                "next": "https://x.org/?key=s3cr3t-key", "access_token": "abc", "token": "page2",
            }),
        ];
        masker.documents(&mut pages);
        assert_eq!(
            pages,
            [
                json!({ "orders": [
                    { "id": 1, "customer": { "email": "person-1@example.com", "phone": "+00 00 0001", "age": 3 } },
                    { "id": 2, "customer": { "email": "person-2@example.com" }, "born": "2000-01-01",
                      "tags": ["redacted-2", 3] },
                ]}),
                json!({
                    "note": "mail person-2@example.com", "by": "person-1@example.com",
                    "person-2@example.com": true, "next": "https://x.org/?key=[redacted]",
                    "access_token": "[redacted]", "token": "page2",
                }),
            ]
        );
    }

    #[test]
    fn a_field_is_found_at_any_depth_and_masked_once() {
        let fields = ["email".to_owned(), "customer.email".to_owned()];
        let mut masker = Masker::new(Vec::new(), &fields);
        let mut pages = [json!({"data": [{"customer": {"email": "a@b.c"}}, {"email": "a@b.c"}]})];
        masker.documents(&mut pages);
        let one = "person-1@example.com";
        assert_eq!(pages[0], json!({"data": [{"customer": {"email": one}}, {"email": one}]}));
    }

    #[test]
    fn the_empty_path_is_everything() {
        let mut masker = Masker::new(Vec::new(), &[String::new()]);
        let mut pages = [json!({"a": {"b": "x"}, "c": ["y", null, true]})];
        masker.documents(&mut pages);
        assert_eq!(pages[0], json!({"a": {"b": "redacted-1"}, "c": ["redacted-2", null, true]}));
    }
}
