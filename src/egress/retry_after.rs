//! Times that peers tell: `Retry-After`, in both forms (RFC 9110, 10.2.3), and `Date`.

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

/// What the peer's clock said when it answered: `Date` (RFC 9110, 6.6.1) in the middle of its second,
/// and what caches have added since (`Age`; of several the first, RFC 9111, 5.1). `None` where it says
/// nothing, or where a cache does not say for how long it kept the answer.
pub fn date_of(headers: &HeaderMap) -> Option<Timestamp> {
    let date = http_date(headers.get(http::header::DATE)?.to_str().ok()?.trim())?;
    let age: u64 = match headers.get(http::header::AGE) {
        Some(age) => age.to_str().ok()?.split(',').next()?.trim().parse().ok()?,
        None => 0,
    };
    Some(date.plus(Duration::from_secs(age)).plus(Duration::from_millis(500)))
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

    use super::{date_of, retry_after};
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
    fn a_date_is_what_the_clock_of_the_peer_says_now() {
        let headers = |pairs: &[(&'static str, &str)]| -> HeaderMap {
            let pairs = pairs.iter();
            pairs.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
        };
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        let told = Timestamp::parse_rfc3339("1994-11-06T08:49:37.500Z").unwrap();
        assert_eq!(date_of(&headers(&[date])), Some(told));
        let cached = told.plus(Duration::from_secs(90));
        assert_eq!(date_of(&headers(&[date, ("age", "90")])), Some(cached));
        assert_eq!(date_of(&headers(&[date, ("age", "90, 20")])), Some(cached));
        for unclear in ["", "long", "-1", "90.5"] {
            assert_eq!(date_of(&headers(&[date, ("age", unclear)])), None, "{unclear}");
        }
        assert_eq!(date_of(&headers(&[("date", "yesterday")])), None);
        assert_eq!(date_of(&headers(&[])), None);
    }

    #[test]
    fn nonsense_is_nothing() {
        for text in ["", "soon", "-5", "1e400", "12 seconds", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(wait(text), None, "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), Timestamp(0)), None);
    }
}
