//! `Retry-After`, in both forms (RFC 9110, 10.2.3).

use std::time::Duration;

use http::HeaderMap;

use crate::world::Timestamp;

/// How long the peer asks to wait, seen at `now`: a number of seconds (fractions are taken, too) or
/// an HTTP date in any of its three formats. A date that has passed is zero. `None` where there is
/// no such header or it says neither. Not capped: a peer may ask for a year.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        return text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    }
    http_date(text).map(|at| at.since(now))
}

/// IMF-fixdate, RFC 850 and asctime.
fn http_date(text: &str) -> Option<Timestamp> {
    if let Ok(zoned) = jiff::fmt::rfc2822::parse(text) {
        return Some(Timestamp(zoned.timestamp().as_millisecond()));
    }
    ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"].iter().find_map(|format| {
        let civil = jiff::civil::DateTime::strptime(format, text).ok()?;
        let zoned = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        Some(Timestamp(zoned.timestamp().as_millisecond()))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, HeaderValue, header::RETRY_AFTER};

    use super::retry_after;
    use crate::world::Timestamp;

    fn wait(text: &str) -> Option<Duration> {
        let now = Timestamp::parse_rfc3339("1994-11-06T08:49:00Z").unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_str(text).unwrap());
        retry_after(&headers, now)
    }

    #[test]
    fn both_forms_are_read() {
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(wait("120"), seconds(120));
        assert_eq!(wait(" 0 "), seconds(0));
        assert_eq!(wait("1.5"), Some(Duration::from_millis(1500)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT"), seconds(37));
        assert_eq!(wait("Sunday, 06-Nov-94 08:49:37 GMT"), seconds(37));
        assert_eq!(wait("Sun Nov  6 08:49:37 1994"), seconds(37));
        assert_eq!(wait("Sun, 06 Nov 1994 08:00:00 GMT"), seconds(0));
    }

    #[test]
    fn nonsense_is_nothing() {
        for text in ["", "soon", "-5", "1e400", "12 seconds", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(wait(text), None, "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), Timestamp(0)), None);
    }
}
