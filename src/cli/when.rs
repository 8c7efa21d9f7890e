//! Times as an operator writes them, and durations as one reads them.

use std::time::Duration;

use crate::world::Timestamp;

/// `now`, `-2h` (seconds `s`, minutes `m`, hours `h`, days `d`, weeks `w`), a date (midnight UTC),
/// or RFC 3339.
pub fn parse(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if text == "now" {
        return Ok(now);
    }
    if let Some(ago) = text.strip_prefix('-') {
        return parse_duration(ago).map(|ago| now.minus(ago)).ok_or_else(|| expected(text));
    }
    let midnight = format!("{text}T00:00:00Z");
    Timestamp::parse_rfc3339(text)
        .or_else(|| Timestamp::parse_rfc3339(&midnight))
        .ok_or_else(|| expected(text))
}

/// The same of what happened to an event: nothing did before 1970, nor as it began.
pub fn of_event(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let at = parse(text, now)?;
    if at.0 <= 0 {
        let at = at.rfc3339();
        return Err(format!("`{text}` is too long ago ({at}): expected one since 1970: {TIMES}"));
    }
    Ok(at)
}

const TIMES: &str = "`-2h` (s, m, h, d, w), `now`, a date such as 2026-11-22, or RFC 3339 such as \
                     2026-11-22T10:00:00Z";

fn expected(text: &str) -> String {
    format!("`{text}` is no time: expected {TIMES}")
}

fn parse_duration(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let seconds_per_unit = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        _ => return None,
    };
    let count: u64 = text.strip_suffix(unit)?.parse().ok()?;
    count.checked_mul(seconds_per_unit).map(Duration::from_secs)
}

/// One unit is enough for a glance: `0s`, `59s`, `3m`, `26h`, `12d`.
pub fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_341_600_000);

    #[test]
    fn times_are_read() {
        let read = |text| parse(text, NOW).map(Timestamp::rfc3339);
        assert_eq!(read("now").as_deref(), Ok("2026-11-22T10:00:00.000Z"));
        assert_eq!(read("-2h").as_deref(), Ok("2026-11-22T08:00:00.000Z"));
        assert_eq!(read("-1w").as_deref(), Ok("2026-11-15T10:00:00.000Z"));
        assert_eq!(read("2026-11-01").as_deref(), Ok("2026-11-01T00:00:00.000Z"));
        assert_eq!(read("2026-11-01T02:00:00+02:00").as_deref(), Ok("2026-11-01T00:00:00.000Z"));
        for bad in ["", "-", "-2", "-h", "-2y", "2h", "yesterday", "-99999999999999999999s"] {
            assert!(parse(bad, NOW).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_event_is_of_before_1970() {
        let read = |text| of_event(text, NOW).map(Timestamp::rfc3339);
        assert_eq!(read("1970-01-02").as_deref(), Ok("1970-01-02T00:00:00.000Z"));
        assert_eq!(read("-2h").as_deref(), Ok("2026-11-22T08:00:00.000Z"));
        for old in ["1969-12-31", "1970-01-01", "-9999w", "-99999999w"] {
            let said = read(old).unwrap_err();
            assert!(said.starts_with(&format!("`{old}` is too long ago (")), "{said}");
            assert!(
                said.contains("expected one since 1970: `-2h` (s, m, h, d, w), `now`"),
                "{said}"
            );
        }
        assert!(read("").unwrap_err().contains("is no time"));
    }

    #[test]
    fn durations_are_short() {
        let short = |seconds| short(Duration::from_secs(seconds));
        assert_eq!(short(0), "0s");
        assert_eq!(short(59), "59s");
        assert_eq!(short(60), "1m");
        assert_eq!(short(7199), "1h");
        assert_eq!(short(172_800), "2d");
    }
}
