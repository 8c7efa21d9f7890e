//! Durations, sizes, rates and ratios as people write them.
//!
//! A parser returns what is wrong as words for the message, never a panic, whatever the text.

use std::time::Duration;

/// At most so many of something within a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many; at least 1.
    pub count: u32,
    /// Within how long.
    pub per: Duration,
}

/// Why a text is no such quantity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAQuantity {
    /// Text under the caret.
    pub label: String,
    /// The way out.
    pub help: Option<String>,
}

fn wrong<T>(label: impl Into<String>, help: Option<String>) -> Result<T, NotAQuantity> {
    Err(NotAQuantity { label: label.into(), help })
}

const DURATION_UNITS: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 7 * 86_400_000),
];

/// Units that people write and this language spells otherwise.
const DURATION_SYNONYMS: &[(&str, &str)] = &[
    ("sec", "s"),
    ("secs", "s"),
    ("second", "s"),
    ("seconds", "s"),
    ("min", "m"),
    ("mins", "m"),
    ("minute", "m"),
    ("minutes", "m"),
    ("hr", "h"),
    ("hour", "h"),
    ("hours", "h"),
    ("day", "d"),
    ("days", "d"),
    ("week", "w"),
    ("weeks", "w"),
];

/// No duration is longer than this: a hundred years.
const MAX_DURATION_MS: u64 = 100 * 366 * 86_400_000;

/// `30s`, `5m`, `1h30m`, `90d`, `250ms`.
pub fn duration(text: &str) -> Result<Duration, NotAQuantity> {
    let expected = "expected numbers with units: `30s`, `5m`, `2h`, `90d`, `1h30m`";
    let mut rest = text;
    if rest.is_empty() {
        return wrong(expected, None);
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (digits, after) = split_digits(rest);
        let unit_length = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_length);
        if digits.is_empty() {
            return wrong(expected, None);
        }
        if unit.is_empty() {
            let help = after.is_empty().then(|| format!("write `{text}s` for seconds"));
            return wrong("this number has no unit", help);
        }
        let Some((_, factor)) = DURATION_UNITS.iter().find(|(name, _)| *name == unit) else {
            let known = DURATION_SYNONYMS.iter().find(|(name, _)| *name == unit);
            let help = known.map(|(name, short)| format!("write `{short}` instead of `{name}`"));
            return wrong(format!("unknown unit `{unit}`: there are ms, s, m, h, d, w"), help);
        };
        let part = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor));
        total = match part.and_then(|part| total.checked_add(part)) {
            Some(total) if total <= MAX_DURATION_MS => total,
            _ => return wrong("longer than a hundred years", None),
        };
        rest = after;
    }
    Ok(Duration::from_millis(total))
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

const SIZE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// `64KiB`, `4MiB`: bytes.
pub fn size(text: &str) -> Result<u64, NotAQuantity> {
    let (digits, unit) = split_digits(text);
    let Ok(number) = digits.parse::<u64>() else {
        return wrong("expected a number with a unit: `64KiB`, `4MiB`, `1GiB`", None);
    };
    if unit.is_empty() {
        return wrong("this number has no unit", Some(format!("write `{text}B` for bytes")));
    }
    let Some((_, factor)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit.trim_start()) else {
        let near = SIZE_UNITS.iter().find(|(name, _)| {
            name.eq_ignore_ascii_case(unit) || name[..1].eq_ignore_ascii_case(unit)
        });
        let help = near.map(|(name, _)| format!("did you mean `{digits}{name}`?"));
        return wrong(format!("unknown unit `{unit}`: there are B, KiB, MiB, GiB, TiB"), help);
    };
    match number.checked_mul(*factor) {
        Some(bytes) => Ok(bytes),
        None => wrong("more than any machine holds", None),
    }
}

/// `10/s`, `1000/h`, `5/10s`.
pub fn rate(text: &str) -> Result<Rate, NotAQuantity> {
    let expected = "expected a count, a slash and a time: `10/s`, `1000/h`, `5/10s`";
    let Some((count, per)) = text.split_once('/') else {
        let all_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let help = all_digits.then(|| format!("write `{text}/s` for so many a second"));
        return wrong(expected, help);
    };
    let count = match count.trim().parse::<u32>() {
        Ok(0) => return wrong("a rate of nothing would never send anything", None),
        Ok(count) => count,
        Err(_) => return wrong(expected, None),
    };
    let per = per.trim();
    let per = if per.starts_with(|c: char| c.is_ascii_digit()) {
        duration(per)?
    } else {
        duration(&format!("1{per}"))?
    };
    if per.is_zero() { wrong(expected, None) } else { Ok(Rate { count, per }) }
}

/// `99.9%` as 0.999.
pub fn ratio(text: &str) -> Result<f64, NotAQuantity> {
    let expected = "expected a percentage from 0 to 100: `99.9%`";
    let Some(number) = text.strip_suffix('%') else {
        let help = text.parse::<f64>().ok().filter(|number| (0.0..=1.0).contains(number));
        return wrong(expected, help.map(|number| format!("write `{}%`", number * 100.0)));
    };
    let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    match number.parse::<f64>() {
        Ok(number) if plain && (0.0..=100.0).contains(&number) => Ok(number / 100.0),
        _ => wrong(expected, None),
    }
}

/// `p99 < 5s` as (0.99, 5 s).
pub fn latency(text: &str) -> Result<(f64, Duration), NotAQuantity> {
    let expected = "expected a percentile and a bound: `p99 < 5s`";
    let Some((quantile, bound)) = text.split_once('<') else { return wrong(expected, None) };
    let Some(quantile) = quantile.trim().strip_prefix('p') else { return wrong(expected, None) };
    let plain = quantile.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    match quantile.parse::<f64>() {
        Ok(number) if plain && number > 0.0 && number < 100.0 => {
            Ok((number / 100.0, duration(bound.trim())?))
        }
        _ => wrong(expected, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("30s", 30),
            ("5m", 300),
            ("2h", 7200),
            ("90d", 7_776_000),
            ("1h30m", 5400),
            ("1w", 604_800),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for text in
            ["", "s", "30", "1.5h", "-3s", "3 s", "3x", "99999999999999999999s", "9999w9999999999d"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(duration("30").unwrap_err().help.unwrap(), "write `30s` for seconds");
        assert_eq!(duration("5min").unwrap_err().help.unwrap(), "write `m` instead of `min`");
    }

    #[test]
    fn sizes() {
        assert_eq!(size("4MiB"), Ok(4 << 20));
        assert_eq!(size("64 KiB"), Ok(64 << 10));
        assert_eq!(size("0B"), Ok(0));
        for text in ["", "4", "MiB", "4Mib ", "-1B", "99999999999TiB"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(size("4mib").unwrap_err().help.unwrap(), "did you mean `4MiB`?");
        assert_eq!(size("4k").unwrap_err().help.unwrap(), "did you mean `4KiB`?");
    }

    #[test]
    fn rates() {
        assert_eq!(rate("10/s"), Ok(Rate { count: 10, per: Duration::from_secs(1) }));
        assert_eq!(rate("1000/h"), Ok(Rate { count: 1000, per: Duration::from_hours(1) }));
        assert_eq!(rate("5/10s"), Ok(Rate { count: 5, per: Duration::from_secs(10) }));
        for text in ["", "10", "0/s", "1/0s", "/s", "1/", "1.5/s", "1/fortnight"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ratios_and_latencies() {
        assert_eq!(ratio("50%"), Ok(0.5));
        assert_eq!(ratio("100%"), Ok(1.0));
        for text in ["", "%", "0.5", "101%", "-1%", "nan%", "inf%"] {
            assert!(ratio(text).is_err(), "{text}");
        }
        assert_eq!(latency("p99 < 5s"), Ok((0.99, Duration::from_secs(5))));
        for text in ["", "99 < 5s", "p99", "p100 < 1s", "p99 < 5", "pinf < 1s"] {
            assert!(latency(text).is_err(), "{text}");
        }
    }
}
