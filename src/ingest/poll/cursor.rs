//! The values a cursor moves over: read from records and files, compared, printed into requests.
//!
//! A value is read from what the API writes and printed in the one `format` of the connector, with
//! the JSON type of that format. Times are kept to the nanosecond, so no record falls between two
//! values that print alike: printing rounds down, and requests ask from there on inclusively.

use std::time::Duration;

use jiff::{
    Timestamp as Instant,
    civil::{Date, DateTime},
    fmt::strtime,
    tz::TimeZone,
};
use serde_json::Value;

use crate::{
    plan::{CursorFormat, CursorPlan, CursorStart},
    world::Timestamp,
};

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// A point that a cursor can stand at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CursorValue {
    /// A point in time, with the formats `rfc3339`, `epoch_s`, `epoch_ms` and patterns.
    Instant(Instant),
    /// With the format `integer`.
    Integer(i64),
    /// With the format `string`: compared byte by byte.
    Text(String),
}

impl CursorValue {
    /// Reads what an API wrote. `None` where it is not in `format`.
    pub fn read(format: &CursorFormat, value: &Value) -> Option<Self> {
        let text = match value {
            Value::String(text) => text.trim().to_owned(),
            Value::Number(number) if !matches!(format, CursorFormat::Text) => number.to_string(),
            _ => return None,
        };
        match format {
            CursorFormat::Rfc3339 => text.parse().ok().map(Self::Instant),
            CursorFormat::EpochSeconds => decimal(&text, NANOS_PER_SECOND).map(Self::Instant),
            CursorFormat::EpochMillis => decimal(&text, 1_000_000).map(Self::Instant),
            CursorFormat::Pattern(pattern) => by_pattern(pattern, &text).map(Self::Instant),
            CursorFormat::Integer => text.parse().ok().map(Self::Integer),
            CursorFormat::Text => Some(Self::Text(text)),
        }
    }

    /// Reads what an API wrote in one of the formats of a cursor.
    pub fn read_any(plan: &CursorPlan, value: &Value) -> Option<Self> {
        let formats = std::iter::once(&plan.format).chain(&plan.also);
        formats.into_iter().find_map(|format| Self::read(format, value))
    }

    /// The value in `format`, with that format's JSON type; rounded down to the format's unit.
    pub fn print(&self, format: &CursorFormat) -> Value {
        match self {
            Self::Instant(instant) => print_instant(*instant, format),
            Self::Integer(number) => Value::from(*number),
            Self::Text(text) => Value::from(text.as_str()),
        }
    }

    /// The value for a person: times as RFC 3339.
    pub fn text(&self) -> String {
        match self {
            Self::Instant(instant) => instant.to_string(),
            Self::Integer(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }

    /// The world's time as a value.
    pub fn from_time(time: Timestamp) -> Self {
        Self::Instant(Instant::from_millisecond(time.0).unwrap_or(Instant::MAX))
    }

    /// This much earlier; what is no time stays.
    pub fn minus(&self, duration: Duration) -> Self {
        match self {
            Self::Instant(at) => Self::Instant(shift(*at, -nanos(duration))),
            other => other.clone(),
        }
    }

    /// This much later; what is no time stays.
    pub fn plus(&self, duration: Duration) -> Self {
        match self {
            Self::Instant(at) => Self::Instant(shift(*at, nanos(duration))),
            other => other.clone(),
        }
    }

    /// How long after `earlier` this is; `None` for what is no time, and where it is not after.
    pub fn since(&self, earlier: &Self) -> Option<Duration> {
        let (Self::Instant(later), Self::Instant(earlier)) = (self, earlier) else { return None };
        later.duration_since(*earlier).try_into().ok()
    }

    /// Which share of the way `from` one point to another this is; texts have no distances.
    pub fn share_of(&self, from: &Self, to: &Self) -> Option<f64> {
        let share = match (self, from, to) {
            (Self::Instant(_), Self::Instant(_), Self::Instant(_)) => {
                let way = to.since(from)?.as_secs_f64();
                self.since(from).unwrap_or_default().as_secs_f64() / way.max(f64::MIN_POSITIVE)
            }
            (Self::Integer(at), Self::Integer(from), Self::Integer(to)) => {
                at.abs_diff(*from) as f64 / (to.abs_diff(*from) as f64).max(1.0)
            }
            _ => return None,
        };
        Some(share.clamp(0.0, 1.0))
    }

    /// Rounded down to the unit of `format`.
    pub fn floor(&self, format: &CursorFormat) -> Self {
        match self {
            Self::Instant(at) => {
                let over = at.as_nanosecond().rem_euclid(nanos(unit(format)));
                Self::Instant(shift(*at, -over))
            }
            other => other.clone(),
        }
    }

    /// Rounded up to the unit of `format`.
    pub fn ceil(&self, format: &CursorFormat) -> Self {
        let floor = self.floor(format);
        if floor == *self { floor } else { floor.plus(unit(format)) }
    }

    /// Whether values of `format` are of this kind: not so after the file's format was changed.
    pub fn fits(&self, format: &CursorFormat) -> bool {
        match self {
            Self::Instant(_) => is_time(format),
            Self::Integer(_) => *format == CursorFormat::Integer,
            Self::Text(_) => *format == CursorFormat::Text,
        }
    }
}

/// Whether values of `format` are points in time.
pub(super) fn is_time(format: &CursorFormat) -> bool {
    !matches!(format, CursorFormat::Integer | CursorFormat::Text)
}

/// The smallest step between two values that `format` prints differently. For RFC 3339 it is the
/// microsecond, which most databases keep and most parsers take.
pub(super) fn unit(format: &CursorFormat) -> Duration {
    match format {
        CursorFormat::Rfc3339 => Duration::from_micros(1),
        CursorFormat::EpochMillis => Duration::from_millis(1),
        CursorFormat::Pattern(pattern) => pattern_unit(pattern),
        CursorFormat::EpochSeconds | CursorFormat::Integer | CursorFormat::Text => {
            Duration::from_secs(1)
        }
    }
}

/// Where the file says to start or to end. `None`: at something that `format` does not have.
pub(super) fn bound(plan: &CursorPlan, bound: &CursorStart, now: Timestamp) -> Option<CursorValue> {
    match bound {
        CursorStart::Ago(ago) => {
            is_time(&plan.format).then(|| CursorValue::from_time(now.minus(*ago)))
        }
        CursorStart::Literal(text) => CursorValue::read_any(plan, &Value::from(text.as_str()))
            .or_else(|| {
                let instant = if is_time(&plan.format) { written_time(text) } else { None };
                instant.map(CursorValue::Instant)
            }),
    }
}

/// A time as a person writes it into a file: RFC 3339, or a date or time that is UTC.
pub(super) fn written_time(text: &str) -> Option<Instant> {
    let utc = |datetime: DateTime| TimeZone::UTC.to_timestamp(datetime).ok();
    text.parse::<Instant>()
        .ok()
        .or_else(|| text.parse::<DateTime>().ok().and_then(utc))
        .or_else(|| text.parse::<Date>().ok().and_then(|date| utc(date.at(0, 0, 0, 0))))
}

fn print_instant(instant: Instant, format: &CursorFormat) -> Value {
    let floor = |unit: i128| i64::try_from(instant.as_nanosecond().div_euclid(unit)).ok();
    match format {
        CursorFormat::EpochSeconds | CursorFormat::Integer => Value::from(floor(NANOS_PER_SECOND)),
        CursorFormat::EpochMillis => Value::from(floor(1_000_000)),
        CursorFormat::Pattern(pattern) => {
            let printed = strtime::format(pattern, &instant.to_zoned(TimeZone::UTC));
            Value::from(printed.unwrap_or_else(|_| instant.to_string()))
        }
        CursorFormat::Rfc3339 | CursorFormat::Text => Value::from(instant.to_string()),
    }
}

/// A decimal number of units since 1970, exactly: a float would lose digits.
fn decimal(text: &str, nanos_per_unit: i128) -> Option<Instant> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = !whole.is_empty()
        && whole.len() <= 15
        && whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit());
    if !is_number {
        return None;
    }
    let mut nanos = whole.parse::<i128>().ok()? * nanos_per_unit;
    let mut place = nanos_per_unit;
    for digit in fraction.bytes() {
        place /= 10;
        nanos += i128::from(digit - b'0') * place;
    }
    Instant::from_nanosecond(if negative { -nanos } else { nanos }).ok()
}

/// By a strftime pattern; UTC where it has no zone, midnight where it has no time.
fn by_pattern(pattern: &str, text: &str) -> Option<Instant> {
    let parsed = strtime::parse(pattern, text).ok()?;
    if let Ok(instant) = parsed.to_timestamp() {
        return Some(instant);
    }
    let datetime =
        parsed.to_datetime().or_else(|_| parsed.to_date().map(|date| date.at(0, 0, 0, 0))).ok()?;
    TimeZone::UTC.to_timestamp(datetime).ok()
}

/// The unit of the finest directive of a pattern.
fn pattern_unit(pattern: &str) -> Duration {
    let mut finest = Duration::from_hours(24);
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            continue;
        }
        let (mut digits, mut directive) = (None, characters.next());
        while let Some(flag) = directive.filter(|c| "_-0^#.:".contains(*c) || c.is_ascii_digit()) {
            digits = flag.to_digit(10).filter(|d| *d > 0).or(digits);
            directive = characters.next();
        }
        let unit = match directive {
            Some('f' | 'N') => Duration::from_nanos(10_u64.pow(9 - digits.unwrap_or(6).min(9))),
            Some('S' | 's' | 'T' | 'X' | 'c' | 'r') => Duration::from_secs(1),
            Some('M' | 'R') => Duration::from_mins(1),
            Some('H' | 'I' | 'k' | 'l') => Duration::from_hours(1),
            _ => continue,
        };
        finest = finest.min(unit);
    }
    finest
}

fn nanos(duration: Duration) -> i128 {
    i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX / 2)
}

fn shift(at: Instant, nanos: i128) -> Instant {
    let limit = if nanos < 0 { Instant::MIN } else { Instant::MAX };
    Instant::from_nanosecond(at.as_nanosecond().saturating_add(nanos)).unwrap_or(limit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn pattern(text: &str) -> CursorFormat {
        CursorFormat::Pattern(text.to_owned())
    }

    /// Reads a value and prints it again.
    fn through(format: &CursorFormat, value: Value) -> Option<Value> {
        CursorValue::read(format, &value).map(|read| read.print(format))
    }

    #[test]
    fn reads_and_prints_each_format_with_its_json_type() {
        for (format, from, to) in [
            (CursorFormat::Rfc3339, json!("2025-01-02T03:04:05Z"), json!("2025-01-02T03:04:05Z")),
            (
                CursorFormat::Rfc3339,
                json!("2025-01-02T03:04:05.120+02:00"),
                json!("2025-01-02T01:04:05.12Z"),
            ),
            (CursorFormat::EpochSeconds, json!(1_735_787_045), json!(1_735_787_045)),
            (CursorFormat::EpochSeconds, json!("1735787045"), json!(1_735_787_045)),
            (CursorFormat::EpochSeconds, json!("1735787045.000216"), json!(1_735_787_045)),
            (CursorFormat::EpochMillis, json!(1_735_787_045_123_i64), json!(1_735_787_045_123_i64)),
            (
                pattern("%Y-%m-%d %H:%M:%S"),
                json!("2025-01-02 03:04:05"),
                json!("2025-01-02 03:04:05"),
            ),
            (
                pattern("%Y-%m-%dT%H:%M:%S%z"),
                json!("2025-01-02T03:04:05+0200"),
                json!("2025-01-02T01:04:05+0000"),
            ),
            (pattern("%Y%m%d"), json!("20250102"), json!("20250102")),
            (pattern("%d.%m.%Y"), json!("02.01.2025"), json!("02.01.2025")),
            (CursorFormat::Integer, json!(478), json!(478)),
            (CursorFormat::Integer, json!("478"), json!(478)),
            (CursorFormat::Text, json!("00478"), json!("00478")),
        ] {
            assert_eq!(through(&format, from.clone()), Some(to), "{format:?} {from}");
        }
    }

    #[test]
    fn refuses_what_is_not_in_the_format() {
        for (format, value) in [
            (CursorFormat::Rfc3339, json!("2025-01-02T03:04:05")),
            (CursorFormat::Rfc3339, json!("yesterday")),
            (CursorFormat::Rfc3339, json!(null)),
            (CursorFormat::EpochSeconds, json!("12x")),
            (CursorFormat::EpochSeconds, json!("")),
            (CursorFormat::EpochSeconds, json!(true)),
            (pattern("%Y-%m-%d"), json!("02.01.2025")),
            (CursorFormat::Integer, json!(1.5)),
            (CursorFormat::Text, json!(478)),
        ] {
            assert_eq!(CursorValue::read(&format, &value), None, "{format:?} {value}");
        }
    }

    #[test]
    fn keeps_what_printing_cuts_off() {
        let format = CursorFormat::EpochSeconds;
        let earlier = CursorValue::read(&format, &json!("1735787045.1")).unwrap();
        let later = CursorValue::read(&format, &json!("1735787045.2")).unwrap();
        assert!(earlier < later);
        assert_eq!(earlier.print(&format), later.print(&format));
    }

    #[test]
    fn knows_the_unit_of_a_format() {
        for (format, expected) in [
            (CursorFormat::Rfc3339, Duration::from_micros(1)),
            (CursorFormat::EpochMillis, Duration::from_millis(1)),
            (CursorFormat::EpochSeconds, Duration::from_secs(1)),
            (pattern("%Y-%m-%dT%H:%M:%SZ"), Duration::from_secs(1)),
            (pattern("%F %T"), Duration::from_secs(1)),
            (pattern("%Y-%m-%dT%H:%M:%S.%3fZ"), Duration::from_millis(1)),
            (pattern("%Y-%m-%d %H:%M"), Duration::from_mins(1)),
            (pattern("%Y-%m-%d %H"), Duration::from_hours(1)),
            (pattern("%Y-%m-%d"), Duration::from_hours(24)),
        ] {
            assert_eq!(unit(&format), expected, "{format:?}");
        }
    }

    #[test]
    fn starts_where_the_file_says() {
        let plan = |format, start| CursorPlan {
            field: None,
            format,
            start: Some(start),
            start_param: None,
            end_param: None,
            window: None,
            lookback: None,
            sorted: crate::plan::Sorted::No,
            filter: false,
            also: Vec::new(),
            until: None,
            oldest: None,
        };
        let now = Timestamp::parse_rfc3339("2026-11-22T10:00:00Z").unwrap();
        let literal = |text: &str| CursorStart::Literal(text.to_owned());
        for (format, written, expected) in [
            (CursorFormat::Rfc3339, literal("2025-01-01"), json!("2025-01-01T00:00:00Z")),
            (
                CursorFormat::Rfc3339,
                literal("2025-01-01T12:00:00+01:00"),
                json!("2025-01-01T11:00:00Z"),
            ),
            (CursorFormat::EpochSeconds, literal("2025-01-01"), json!(1_735_689_600)),
            (CursorFormat::EpochSeconds, literal("17"), json!(17)),
            (pattern("%d.%m.%Y"), literal("2025-01-31"), json!("31.01.2025")),
            (CursorFormat::Integer, literal("0"), json!(0)),
            (CursorFormat::Text, literal("2025-01-01"), json!("2025-01-01")),
            (
                CursorFormat::Rfc3339,
                CursorStart::Ago(Duration::from_hours(90 * 24)),
                json!("2026-08-24T10:00:00Z"),
            ),
        ] {
            let plan = plan(format, written);
            let value = bound(&plan, plan.start.as_ref().unwrap(), now)
                .map(|value| value.print(&plan.format));
            assert_eq!(value, Some(expected), "{plan:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn printing_is_inclusive(nanos in 0i64..4_000_000_000_000_000_000) {
            let value = CursorValue::Instant(Instant::from_nanosecond(i128::from(nanos)).unwrap());
            for format in [
                CursorFormat::Rfc3339, CursorFormat::EpochSeconds, CursorFormat::EpochMillis,
                pattern("%Y-%m-%dT%H:%M:%SZ"), pattern("%Y-%m-%d"),
            ] {
                let again = CursorValue::read(&format, &value.print(&format)).unwrap();
                prop_assert!(again <= value, "{format:?}");
                prop_assert!(again >= value.floor(&format), "{format:?}");
                prop_assert!(value.floor(&format).plus(unit(&format)) > value, "{format:?}");
            }
        }
    }
}
