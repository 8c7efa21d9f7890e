//! What a peer answers that was asked for a token: the token, how long it lives, or why there is none.
//!
//! Nothing of an answer's body is shown but a few members that are words for people, and of those
//! nothing that was sent in confidence.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use serde_json::{Value, json};

use super::{authenticator::AuthError, credential::redacted};
use crate::{
    egress::{Answer, EgressError, header_values, retry_after},
    map::{Env, Expr},
    plan::Life,
    world::{Secret, Timestamp},
};

/// Where nobody says how long the token lives.
const DEFAULT_LIFE: Duration = Duration::from_hours(1);
/// A token is used at least this long, whatever the server says: one of zero seconds would be
/// fetched for every request.
const SHORTEST_LIFE: Duration = Duration::from_secs(5);
/// How much of a server's explanation is shown.
const SHOWN_CHARS: usize = 200;
/// Larger numbers are no lives but times: ten years in seconds.
const LONGEST_LIFE_SECONDS: f64 = 3.2e8;
/// Larger times are in milliseconds.
const LATEST_SECONDS: f64 = 1e11;
/// Members of a refusal that are words for people.
const WORDS: &[&str] =
    &["error", "error_description", "message", "errorMessage", "detail", "title", "code"];

/// An answer, or why there is none: what a person must mend is held, the rest is for later.
pub(super) fn received(
    who: &str,
    answer: Result<Answer, EgressError>,
) -> Result<(Answer, Value), AuthError> {
    let answer = answer.map_err(|error| {
        let message = format!("{who}: {error}");
        match error {
            EgressError::Refused(_) | EgressError::BadUrl(_) => AuthError::Held(message),
            _ => AuthError::Later { message, retry_after: None },
        }
    })?;
    let body = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    Ok((answer, body))
}

/// A refusal, in the server's words as far as they may be shown.
pub(super) fn refusal(
    who: &str,
    (answer, body): (&Answer, &Value),
    hidden: &[Secret],
    now: Timestamp,
) -> AuthError {
    let status = answer.status;
    let mut message = format!("{who}: {status}");
    let words = WORDS.iter().filter_map(|name| body.get(*name)?.as_str());
    for word in words.filter(|word| !word.is_empty()) {
        message.push_str(": ");
        message.push_str(&shown(hidden, word));
    }
    let code = body.get("error").and_then(Value::as_str).unwrap_or_default();
    let passing = status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
        )
        || matches!(code, "temporarily_unavailable" | "server_error" | "slow_down");
    if passing {
        AuthError::Later { message, retry_after: retry_after(&answer.headers, now) }
    } else {
        AuthError::Held(message)
    }
}

/// A server's words, cut, on one line, without what was sent in confidence.
fn shown(hidden: &[Secret], text: &str) -> String {
    let text = redacted(hidden, text);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN_CHARS).collect()
}

/// The environment with `response` bound.
pub(super) fn bound(env: &Env, answer: &Answer, body: Value) -> Env {
    let response = json!({
        "status": answer.status.as_u16(),
        "headers": header_values(&answer.headers),
        "body": body,
    });
    env.clone().with("response", Arc::new(response))
}

/// The token that an expression finds; it is a text, or a number as it is printed.
pub(super) fn token(who: &str, expr: &Expr, env: &Env, body: &Value) -> Result<Secret, AuthError> {
    let found = expr.text(env);
    match found {
        Ok(Some(text)) if !text.is_empty() => Ok(Secret::new(text)),
        _ => Err(missing(who, expr.source(), body)),
    }
}

/// "no `$.token` in the answer, whose keys are …".
pub(super) fn missing(who: &str, what: &str, body: &Value) -> AuthError {
    let keys: Vec<_> = body.as_object().into_iter().flat_map(|o| o.keys()).take(20).collect();
    AuthError::Held(format!("{who}: no `{what}` in the answer, whose keys are {keys:?}"))
}

/// How long a token lives. `said` is what the answer has at the usual place.
pub(super) fn life(
    plan: Option<&Life>,
    said: Option<&Value>,
    env: &Env,
    now: Timestamp,
) -> Result<Duration, AuthError> {
    let life = match plan {
        Some(Life::For(life)) => Some(*life),
        Some(Life::Said(expr)) => {
            let value = expr.eval(env).map_err(|error| AuthError::Held(error.to_string()))?;
            value.as_ref().and_then(|value| until(value, now))
        }
        None => said.and_then(|value| until(value, now)),
    };
    Ok(life.map_or(DEFAULT_LIFE, |life| life.max(SHORTEST_LIFE)))
}

/// Seconds, also as a text; or a time, in RFC 3339 or since 1970.
fn until(value: &Value, now: Timestamp) -> Option<Duration> {
    let number = match value {
        Value::String(text) => match text.trim().parse() {
            Ok(number) => number,
            Err(_) => return Timestamp::parse_rfc3339(text.trim()).map(|time| time.since(now)),
        },
        number => number.as_f64()?,
    };
    if number > LONGEST_LIFE_SECONDS {
        let millis = if number > LATEST_SECONDS { number } else { number * 1_000.0 };
        return Some(Timestamp(millis as i64).since(now));
    }
    Duration::try_from_secs_f64(number.max(0.0)).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::until;
    use crate::world::Timestamp;

    #[test]
    fn a_life_is_seconds_or_a_time() {
        let now = Timestamp(1_795_341_600_000);
        let hour = Some(Duration::from_hours(1));
        for said in [
            json!(3600),
            json!("3600"),
            json!(3600.0),
            json!(1_795_345_200),
            json!(1_795_345_200_000_i64),
            json!("2026-11-22T11:00:00Z"),
            json!("2026-11-22T12:00:00+01:00"),
        ] {
            assert_eq!(until(&said, now), hour, "{said}");
        }
        assert_eq!(until(&json!(-5), now), Some(Duration::ZERO));
        assert_eq!(until(&json!("2020-01-01T00:00:00Z"), now), Some(Duration::ZERO));
        assert_eq!(until(&json!("soon"), now), None);
        assert_eq!(until(&json!(null), now), None);
    }
}
