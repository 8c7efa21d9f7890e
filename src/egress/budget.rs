//! What an API says of its own budget: how long everybody who asks it had better wait.
//!
//! Pure. Three ways of saying it are known: the `RateLimit` header of the IETF draft (`"default";r=0;t=30`
//! and the older `remaining=0, reset=30`), `RateLimit-Remaining` with `RateLimit-Reset`, and the same with
//! `X-` before it, spelled with and without a dash. A reset is a number of seconds, or a time in seconds or
//! milliseconds since 1970. What is not understood says nothing.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

use super::retry_after;
use crate::world::Timestamp;

/// The longest wait that a peer may ask for; more is taken for a mistake.
const LONGEST: Duration = Duration::from_hours(24);
/// Names of the pairs, remaining and reset.
const PAIRS: [(&str, &str); 3] = [
    ("ratelimit-remaining", "ratelimit-reset"),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
    ("x-rate-limit-remaining", "x-rate-limit-reset"),
];
/// From here on a number of seconds is a time: as a wait it would be of thirty years.
const FIRST_TIME: f64 = 1e9;
/// From here on a time is in milliseconds.
const FIRST_MILLIS: f64 = 1e11;

/// When the peer may be asked again, where an answer says that its budget is spent.
pub fn spent_until(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Option<Timestamp> {
    let refused = (status == StatusCode::TOO_MANY_REQUESTS).then(|| retry_after(headers, now));
    let reset =
        told(headers).filter(|(remaining, _)| *remaining <= 0.0).map(|(_, reset)| wait(reset, now));
    let wait = refused.flatten().max(reset)?.min(LONGEST);
    (!wait.is_zero()).then(|| now.plus(wait))
}

/// How many requests are left until the reset, where an answer says so.
pub fn left(headers: &HeaderMap) -> Option<u64> {
    told(headers).map(|(remaining, _)| remaining.max(0.0) as u64)
}

/// What remains, and the reset.
fn told(headers: &HeaderMap) -> Option<(f64, f64)> {
    draft(headers).or_else(|| {
        PAIRS.iter().find_map(|(remaining, reset)| {
            Some((number(headers, remaining)?, number(headers, reset)?))
        })
    })
}

/// A reset as a wait. It is rounded up: whoever comes early has come in vain.
fn wait(reset: f64, now: Timestamp) -> Duration {
    let seconds = match reset {
        delta if delta < FIRST_TIME => delta,
        seconds if seconds < FIRST_MILLIS => seconds - now.0 as f64 / 1000.0,
        millis => (millis - now.0 as f64) / 1000.0,
    };
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(LONGEST)
}

fn number(headers: &HeaderMap, name: &str) -> Option<f64> {
    // Of several windows (`10, 10;w=1`) the first is the one that counts.
    let text = headers.get(name)?.to_str().ok()?;
    let number: f64 = text.split([',', ';']).next()?.trim().parse().ok()?;
    number.is_finite().then_some(number)
}

/// `RateLimit`: of several policies the one that is spent for the longest.
fn draft(headers: &HeaderMap) -> Option<(f64, f64)> {
    let text = headers.get("ratelimit")?.to_str().ok()?;
    let member = |text: &str, names: [&str; 2]| {
        text.split([';', ',']).find_map(|part| {
            let (name, value) = part.split_once('=')?;
            let value: f64 = value.trim().parse().ok()?;
            names.contains(&name.trim()).then_some(value)
        })
    };
    let read =
        |text: &str| Some((member(text, ["r", "remaining"])?, member(text, ["t", "reset"])?));
    let policies = text.split(',').filter_map(read);
    let spent = policies.filter(|(remaining, _)| *remaining <= 0.0);
    spent.max_by(|(_, a), (_, b)| a.total_cmp(b)).or_else(|| read(text))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    const NOW: Timestamp = Timestamp(1_795_000_000_000);

    fn seconds(status: u16, headers: &[(&'static str, &'static str)]) -> Option<i64> {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let until = spent_until(StatusCode::from_u16(status).unwrap(), &headers.collect(), NOW);
        until.map(|until| (until.0 - NOW.0) / 1000)
    }

    #[test]
    fn a_budget_that_is_spent_says_until_when() {
        for (headers, expected) in [
            (&[("ratelimit", "\"default\";r=0;t=30")][..], Some(30)),
            (&[("ratelimit", "\"a\";r=5;t=9, \"b\";r=0;t=7")], Some(7)),
            (&[("ratelimit", "\"default\";r=1;t=30")], None),
            (&[("ratelimit", "limit=10, remaining=0, reset=12")], Some(12)),
            (&[("ratelimit-remaining", "0"), ("ratelimit-reset", "5")], Some(5)),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1795000040")], Some(40)),
            (&[("x-rate-limit-remaining", "0"), ("x-rate-limit-reset", "1795000050000")], Some(50)),
            (
                &[("x-ratelimit-remaining", "0, 0;w=60"), ("x-ratelimit-reset", "3, 60;w=60")],
                Some(3),
            ),
            (&[("x-ratelimit-remaining", "1"), ("x-ratelimit-reset", "60")], None),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1794999999")], None),
            (&[("x-ratelimit-remaining", "0")], None),
            (&[("x-ratelimit-remaining", "none"), ("x-ratelimit-reset", "9")], None),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1e300")], Some(86_400)),
        ] {
            assert_eq!(seconds(200, headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn a_refusal_holds_for_all_who_ask() {
        assert_eq!(seconds(429, &[("retry-after", "4")]), Some(4));
        assert_eq!(seconds(503, &[("retry-after", "4")]), None);
        let both = [("retry-after", "4"), ("ratelimit", "\"d\";r=0;t=9")];
        assert_eq!(seconds(429, &both), Some(9));
    }
}
