//! Addresses that an answer gives, and when a job is looked at again: pure.

use std::time::Duration;

use serde_json::Value;
use url::Url;

use crate::map::{Env, Expr};

use super::path::{Plain, Tail, kind, print, walk};

/// No job is looked at more often.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
/// The wait is at least this part of the time that the job has taken so far, so that it is found done
/// at most a tenth later than it is, after a few dozen looks, however long it takes.
const PART_OF_AGE: u32 = 10;

/// How long until the next look at a job of this age: as long as the API says, else by its age, and
/// not beyond the time that is left for it.
pub(super) fn next_look(
    every: Duration,
    age: Duration,
    told: Option<Duration>,
    left: Duration,
) -> Duration {
    let wait = told.unwrap_or_else(|| every.max(age / PART_OF_AGE));
    wait.min(left).max(SHORTEST_WAIT)
}

/// What a value that an expression takes out of an answer is: null where the answer has null there.
/// `document` is what `$` is. A path to something that is not there is an error, which lists what is.
pub(super) fn taken(expr: &Expr, env: &Env, document: &Value) -> Result<Value, String> {
    let plain = Plain::parse(expr.source()).filter(|plain| plain.filters.is_empty());
    let reached = match &plain {
        Some(plain) => Some(walk(document, &plain.members).map_err(|missing| missing.to_string())?),
        None => None,
    };
    let value = expr.eval(env).map_err(|error| error.to_string())?;
    let value = value.ok_or_else(|| format!("`{}` gives nothing", expr.source()))?;
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    };
    if let (Some(plain), Some(reached)) = (&plain, reached)
        && plain.tail != Tail::Value
        && is_empty(&value)
        && !is_empty(reached)
    {
        let at = print(&plain.members);
        return Err(format!("`{}` finds nothing in what is at `{at}`", expr.source()));
    }
    Ok(value)
}

/// The addresses that a value gives, relative ones seen from `base`; null and the empty text are none.
pub(super) fn addresses(value: Value, base: &Url) -> Result<Vec<Url>, String> {
    let address = |text: &str| {
        let mut url = base.join(text).map_err(|_| "what it gives is no address".to_owned())?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("the address is neither http nor https: {}", url.scheme()));
        }
        url.set_fragment(None);
        Ok(url)
    };
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(text) if text.is_empty() => Ok(Vec::new()),
        Value::String(text) => address(&text).map(|url| vec![url]),
        Value::Array(items) => items
            .iter()
            .map(|item| match item {
                Value::String(text) => address(text),
                other => Err(format!("expected an address, found {}", kind(other))),
            })
            .collect(),
        other => Err(format!("expected an address, or a list of such, found {}", kind(&other))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::json;

    use super::{super::testing::of_response, *};

    #[test]
    fn what_is_not_there_is_told_from_what_is_null() {
        let body = json!({ "url": null, "files": [{ "url": "a" }], "none": [] });
        let response = Arc::new(json!({ "body": body }));
        let env = Env::new().with("response", Arc::clone(&response));
        let taken = |text: &str| taken(&of_response(text), &env, &response["body"]);
        assert_eq!(taken("$.url"), Ok(Value::Null));
        assert_eq!(taken("$.files[*].url"), Ok(json!(["a"])));
        assert_eq!(taken("$.none[*].url"), Ok(json!([])));
        assert_eq!(taken("{{ response.body.files[0].url }}"), Ok(json!("a")));
        let missing = "`$.urll` is not in the response: `$` has `url`, `files`, `none`";
        assert_eq!(taken("$.urll"), Err(missing.to_owned()));
        let nothing = "`$.files[*].link` finds nothing in what is at `$.files`";
        assert_eq!(taken("$.files[*].link"), Err(nothing.to_owned()));
    }

    #[test]
    fn addresses_are_seen_from_where_they_stand() {
        let base = Url::parse("https://api.example/v1/jobs/7?x=1").unwrap();
        let found = |value| {
            let found = addresses(value, &base)?;
            Ok::<_, String>(found.iter().map(Url::to_string).collect::<Vec<_>>().join(" "))
        };
        for (value, expected) in [
            (json!(null), ""),
            (json!(""), ""),
            (json!([]), ""),
            (json!("results"), "https://api.example/v1/jobs/results"),
            (json!("/results#top"), "https://api.example/results"),
            (
                json!(["https://b.example/1", "//c.example/2"]),
                "https://b.example/1 https://c.example/2",
            ),
        ] {
            assert_eq!(found(value).as_deref(), Ok(expected));
        }
        assert_eq!(
            found(json!(7)).unwrap_err(),
            "expected an address, or a list of such, found a number"
        );
        assert_eq!(found(json!([null])).unwrap_err(), "expected an address, found null");
        assert!(found(json!("ftp://x/")).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn looks_are_neither_hasty_nor_too_late(
            every_s in 1u64..100_000, age_s in 0u64..1_000_000, left_s in 1u64..1_000_000,
            told_s in prop::option::of(0u64..100_000),
        ) {
            let [every, age, left] = [every_s, age_s, left_s].map(Duration::from_secs);
            let wait = next_look(every, age, told_s.map(Duration::from_secs), left);
            prop_assert!(wait >= SHORTEST_WAIT && wait <= left.max(SHORTEST_WAIT));
            if told_s.is_none() {
                prop_assert!(wait == left || wait >= every.min(left));
                prop_assert!(wait <= every.max(age));
            }
        }
    }
}
