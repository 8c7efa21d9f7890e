//! What an answer means for a poll: pure functions of its status and of how often it was tried.
//!
//! 2xx and 304 are fine; 408, 425, 429 and 5xx are worth another try; 401 asks for fresh
//! credentials; 403 needs a person; anything else is not what the connector expects, a redirect
//! included, because credentials do not follow one.

use std::time::Duration;

use http::StatusCode;

/// How many waits that a rule asks for, one after the other, a run takes part in.
pub(super) const MAX_WAITS: u32 = 60;
/// How often a request is sent before the run gives up.
pub(super) const MAX_TRIES: u32 = 4;
/// A longer wait ends the run and is left to the schedule, which survives a restart.
pub(super) const MAX_WAIT_IN_RUN: Duration = Duration::from_mins(1);
/// No `Retry-After` is honoured beyond this.
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// How much of a body a message shows.
const SHOWN_CHARACTERS: usize = 200;

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A page.
    Fine,
    /// 304: nothing new.
    NotModified,
    /// Again later.
    Retry,
    /// 401: once more with fresh credentials.
    Unauthorized,
    /// 403: parked for a person.
    Forbidden,
    /// Not what the connector expects.
    Unexpected,
}

/// Reads a status.
pub(super) fn judge(status: StatusCode) -> Verdict {
    match status.as_u16() {
        200..=299 => Verdict::Fine,
        304 => Verdict::NotModified,
        401 => Verdict::Unauthorized,
        403 => Verdict::Forbidden,
        408 | 425 | 429 | 500..=599 => Verdict::Retry,
        _ => Verdict::Unexpected,
    }
}

/// How long to wait after try number `tries` (from 1): full jitter upward from the larger of the
/// backoff and what the server asked for. `fraction` in `[0, 1)`.
pub(super) fn wait(tries: u32, retry_after: Option<Duration>, fraction: f64) -> Duration {
    let doubled = FIRST_BACKOFF.saturating_mul(1 << tries.saturating_sub(1).min(16));
    let backoff = doubled.min(MAX_BACKOFF);
    backoff.max(retry_after.unwrap_or_default()) + backoff.mul_f64(fraction.clamp(0.0, 1.0))
}

/// The beginning of a body for a message: no control characters, at most 200 characters.
pub(super) fn excerpt(body: &[u8]) -> String {
    let head = &body[..body.len().min(SHOWN_CHARACTERS * 4)];
    String::from_utf8_lossy(head)
        .chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .filter(|c| !c.is_control())
        .take(SHOWN_CHARACTERS)
        .collect::<String>()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn statuses_mean_what_the_language_says() {
        for (statuses, expected) in [
            (&[200, 201, 204][..], Verdict::Fine),
            (&[304], Verdict::NotModified),
            (&[408, 425, 429, 500, 502, 503, 504], Verdict::Retry),
            (&[401], Verdict::Unauthorized),
            (&[403], Verdict::Forbidden),
            (&[301, 302, 307, 400, 404, 410, 422], Verdict::Unexpected),
        ] {
            for status in statuses {
                assert_eq!(judge(StatusCode::from_u16(*status).unwrap()), expected, "{status}");
            }
        }
    }

    #[test]
    fn an_excerpt_is_short_and_plain() {
        assert_eq!(excerpt(b" a\x1b[31m\r\n\tb\0 "), "a[31m   b");
        assert_eq!(excerpt("é".repeat(1000).as_bytes()).chars().count(), 200);
        assert_eq!(excerpt(&[0xff, b'x']), "\u{fffd}x");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_wait_is_never_shorter_than_asked(
            tries in 1u32..100, asked_s in prop::option::of(0u64..100_000), fraction in 0.0f64..1.0,
        ) {
            let asked = asked_s.map(Duration::from_secs);
            let wait = wait(tries, asked, fraction);
            prop_assert!(wait >= asked.unwrap_or(FIRST_BACKOFF));
            prop_assert!(wait <= asked.unwrap_or_default().max(MAX_BACKOFF) + MAX_BACKOFF);
        }
    }
}
