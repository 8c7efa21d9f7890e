//! Paths that are nothing but members and wildcards: `$.data.orders`, `$['a b'].c[*]`,
//! `$.orders[*].lines[*]`.
//!
//! Nearly every `records` and `next` in the field is one. Knowing that lets a poll cut the records
//! out of the page by their bytes, without parsing it first, and lets a message say where exactly
//! a path stops matching and which keys there are instead.

use std::fmt;

use serde_json::Value;

/// How many keys a message lists.
const LISTED_KEYS: usize = 20;

/// A path as written in the connector file, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plain {
    /// The members, outermost first.
    pub members: Vec<String>,
    /// What follows them.
    pub tail: Tail,
    /// What follows behind that, within each of the children.
    pub hops: Vec<Hop>,
    /// The filters behind the path, without the first `|`; empty where there are none.
    pub filters: String,
}

/// What follows the members of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// Nothing: the value itself.
    Value,
    /// `[*]`: each of its children.
    Children,
    /// `.*`: the same, and where it is an object, the names under which they stand count.
    Named,
}

/// A step from a child of the first wildcard to the records within it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hop {
    /// `.lines`
    Member(String),
    /// `[*]`
    Children,
    /// `.*`
    Named,
}

impl Plain {
    /// Takes `source` apart; `None` where it is no path or has selectors other than these.
    pub fn parse(source: &str) -> Option<Self> {
        let mut rest = source.trim().strip_prefix('$')?;
        let mut members = Vec::new();
        while let Some((member, after)) = member(rest) {
            members.push(member);
            rest = after;
        }
        let (mut tail, mut hops) = (Tail::Value, Vec::new());
        if let Some((hop, after)) = wildcard(rest) {
            tail = if hop == Hop::Named { Tail::Named } else { Tail::Children };
            rest = after;
            let member = |text| member(text).map(|(name, after)| (Hop::Member(name), after));
            while let Some((hop, after)) = wildcard(rest).or_else(|| member(rest)) {
                hops.push(hop);
                rest = after;
            }
        }
        let rest = rest.trim_start();
        let filters = if rest.is_empty() { "" } else { rest.strip_prefix('|')? };
        Some(Self { members, tail, hops, filters: filters.trim().to_owned() })
    }
}

/// A wildcard at the beginning of `text`, and what follows it.
fn wildcard(text: &str) -> Option<(Hop, &str)> {
    let children = text.strip_prefix("[*]").map(|after| (Hop::Children, after));
    children.or_else(|| text.strip_prefix(".*").map(|after| (Hop::Named, after)))
}

/// One member at the beginning of `text`, and what follows it.
fn member(text: &str) -> Option<(String, &str)> {
    if let Some(name) = text.strip_prefix('.') {
        let end = name
            .find(|c: char| !(c.is_alphanumeric() || c == '_' || !c.is_ascii()))
            .unwrap_or(name.len());
        let first = name.chars().next()?;
        let is_name = end > 0 && !first.is_ascii_digit();
        return is_name.then(|| (name[..end].to_owned(), &name[end..]));
    }
    let quote = text.strip_prefix('[')?.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let (name, after) = text[2..].split_once(quote)?;
    // Escapes are rare enough to be left to the path engine.
    if name.contains('\\') {
        return None;
    }
    Some((name.to_owned(), after.strip_prefix(']')?))
}

/// Where a path stops matching a document, and what is there instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Missing {
    /// The path that was looked for: `$.meta.next`.
    pub path: String,
    /// The part of it that exists: `$.meta`.
    pub at: String,
    /// What stands there: its keys, or its type where it is no object.
    pub found: Found,
}

/// What stands where a path stops matching.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// An object with these keys.
    Keys(Vec<String>),
    /// Something that has no members.
    Kind(&'static str),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not in the response: `{}` {}", self.path, self.at, self.found)
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(kind) => write!(f, "is {kind}"),
            Self::Keys(keys) if keys.is_empty() => f.write_str("is an empty object"),
            Self::Keys(keys) => {
                let listed: Vec<String> =
                    keys.iter().take(LISTED_KEYS).map(|key| format!("`{key}`")).collect();
                write!(f, "has {}", listed.join(", "))?;
                if keys.len() > LISTED_KEYS {
                    write!(f, " and {} more", keys.len() - LISTED_KEYS)?;
                }
                Ok(())
            }
        }
    }
}

/// The value at the end of `members`.
pub(super) fn walk<'v>(document: &'v Value, members: &[String]) -> Result<&'v Value, Missing> {
    let mut at = document;
    for (depth, member) in members.iter().enumerate() {
        let missing = |found| Missing { path: print(members), at: print(&members[..depth]), found };
        at = match at {
            Value::Object(map) => map
                .get(member)
                .ok_or_else(|| missing(Found::Keys(map.keys().cloned().collect())))?,
            other => return Err(missing(Found::Kind(kind(other)))),
        };
    }
    Ok(at)
}

/// The members as a path.
pub(super) fn print(members: &[String]) -> String {
    use fmt::Write;
    members.iter().fold("$".to_owned(), |mut path, member| {
        let is_name = member.chars().all(|c| c.is_alphanumeric() || c == '_')
            && member.chars().next().is_some_and(|c| !c.is_ascii_digit());
        let _ = if is_name { write!(path, ".{member}") } else { write!(path, "['{member}']") };
        path
    })
}

/// What a value is, for messages.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Whether an expression may read through to what stands at `members` of the response's body.
/// Errs on the side of yes: it is asked in order to leave the records out of the parsed page.
pub(super) fn touches(source: &str, members: &[String]) -> bool {
    if source.trim_start().starts_with('$') {
        return Plain::parse(source).is_none_or(|plain| overlap(&plain.members, members));
    }
    if !(source.contains("{{") || source.contains("{%")) {
        return false;
    }
    source.match_indices("response").any(|(at, word)| {
        let rest = &source[at + word.len()..];
        let Some((first, mut rest)) = member(rest) else { return true };
        if matches!(first.as_str(), "status" | "headers") {
            return false;
        }
        let mut chain = Vec::new();
        while let Some((name, after)) = member(rest) {
            chain.push(name);
            rest = after;
        }
        rest.trim_start().starts_with(['[', '.', '(']) || overlap(&chain, members)
    })
}

/// Whether one of two paths leads through the other.
fn overlap(a: &[String], b: &[String]) -> bool {
    a.iter().zip(b).all(|(a, b)| a == b)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(members: &[&str]) -> Vec<String> {
        members.iter().map(|&m| m.to_owned()).collect()
    }

    #[test]
    fn takes_plain_paths_apart() {
        for (source, members, tail, filters) in [
            ("$", vec![], Tail::Value, ""),
            ("$[*]", vec![], Tail::Children, ""),
            ("$.orders[*]", vec!["orders"], Tail::Children, ""),
            ("$.data.orders.*", vec!["data", "orders"], Tail::Named, ""),
            ("$['a b'][\"c\"].d_1", vec!["a b", "c", "d_1"], Tail::Value, ""),
            ("$.orders[*] | default([])", vec!["orders"], Tail::Children, "default([])"),
            ("$.größe", vec!["größe"], Tail::Value, ""),
        ] {
            let expected = Plain {
                members: names(&members),
                tail,
                hops: Vec::new(),
                filters: filters.to_owned(),
            };
            assert_eq!(Plain::parse(source), Some(expected), "{source}");
        }
        let plain = Plain::parse("$.a[*].b['c d'].*.e[*] | default([])").unwrap();
        let member = |name: &str| Hop::Member(name.to_owned());
        assert_eq!((plain.members, plain.tail), (names(&["a"]), Tail::Children));
        let hops = [member("b"), member("c d"), Hop::Named, member("e"), Hop::Children];
        assert_eq!(plain.hops, hops);
        for source in
            ["orders", "$..a", "$.a[0]", "$.a[?@.b]", "$.a[*][0]", "$['a\\'b']", "$.1a", "{{ x }}"]
        {
            assert_eq!(Plain::parse(source), None, "{source}");
        }
    }

    #[test]
    fn a_miss_says_where_and_what_there_is() {
        let document = json!({ "meta": { "cursor": 1, "total": 2 }, "data": [] });
        let miss = |members: &[&str]| walk(&document, &names(members)).unwrap_err().to_string();
        assert_eq!(
            miss(&["meta", "next"]),
            "`$.meta.next` is not in the response: `$.meta` has `cursor`, `total`"
        );
        assert_eq!(miss(&["orders"]), "`$.orders` is not in the response: `$` has `meta`, `data`");
        assert_eq!(
            miss(&["data", "next"]),
            "`$.data.next` is not in the response: `$.data` is an array"
        );
        assert_eq!(walk(&document, &names(&["meta", "total"])), Ok(&json!(2)));
    }

    #[test]
    fn knows_which_expressions_may_read_the_records() {
        let records = names(&["data", "orders"]);
        for source in [
            "{{ response.body }}",
            "{{ response }}",
            "{{ response.body.data.orders | length == 0 }}",
            "{{ response.body.data | tojson }}",
            "{{ response['body'].data.orders[0].id }}",
            "{{ response.body[vars.x] }}",
            "{{ response.body.items() }}",
            "$.data.orders[-1].id",
            "$.data",
            "$..id",
        ] {
            assert!(touches(source, &records), "{source}");
        }
        for source in [
            "plain",
            "{{ record.response }}{{ response.status == 200 }}",
            "{{ not response.body.has_more }}",
            "{{ response.body.data.next }}",
            "{{ response.headers['x-total'] }}",
            "$.meta.next",
            "$.data.next | optional",
        ] {
            let source = source.replace("record.response", "record.id");
            assert!(!touches(&source, &records), "{source}");
        }
    }
}
